//! How long a fault kept messages waiting: those that were in flight when it began, counted from then, and those that
//! were sent while it lasted, counted from when they were sent. (A head that has not noticed that a node is silent goes
//! on giving it messages.)
//!
//! Pure; moments are durations since the run began. Only faults that came alone are judged: with two at a time, each
//! would be blamed for the other.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::plan::Kind;
use crate::limits;

#[derive(Debug)]
struct Timed {
    kind: Kind,
    at: Duration,
    /// When it was undone, once it was.
    over: Option<Duration>,
    alone: bool,
    longest: Option<Duration>,
}

/// The faults of a run, in the order in which they began.
#[derive(Debug, Default)]
pub(crate) struct Times {
    faults: Vec<Timed>,
}

/// What is known of a kind of fault after a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// The kind.
    pub(crate) kind: Kind,
    /// How often it came alone.
    pub(crate) alone: u64,
    /// How often it came with another.
    pub(crate) mixed: u64,
    /// Longest time that a message waited for its acknowledgement because of it, seconds; none if none did.
    pub(crate) longest_s: Option<f64>,
    /// The same where it came with another, which may have been the cause.
    pub(crate) longest_mixed_s: Option<f64>,
    /// The bound for the first of them, seconds, without the slack; none where nothing is promised.
    pub(crate) bound_s: Option<f64>,
    /// How often it was exceeded by more than the slack.
    pub(crate) too_late: u64,
}

impl Times {
    /// A fault begins.
    pub(crate) fn began(&mut self, kind: Kind, at: Duration, alone: bool) {
        self.faults.push(Timed { kind, at, over: None, alone, longest: None });
    }

    /// A fault of this kind is undone; what is sent from now on does not count for it.
    pub(crate) fn over(&mut self, kind: Kind, at: Duration) {
        for fault in self.faults.iter_mut().filter(|fault| fault.kind == kind) {
            fault.over.get_or_insert(at);
        }
    }

    /// A message that was sent at `sent` is acknowledged at `at`.
    pub(crate) fn acked(&mut self, sent: Duration, at: Duration) {
        for fault in self.faults.iter_mut().rev().take(limits::TORTURE_FAULTS_OPEN_MAX) {
            if at > fault.at && fault.over.is_none_or(|over| over > sent) {
                fault.longest = fault.longest.max(at.checked_sub(sent.max(fault.at)));
            }
        }
    }

    /// What came of it, kind by kind.
    #[must_use]
    pub(crate) fn summary(&self, heartbeat: Duration, slack: Duration) -> Vec<Summary> {
        let mut kinds = BTreeMap::new();
        for fault in &self.faults {
            let kind = fault.kind;
            let bound = kind.bound(heartbeat);
            let summary = kinds.entry(kind).or_insert_with(|| Summary {
                kind,
                alone: 0,
                mixed: 0,
                longest_s: None,
                longest_mixed_s: None,
                bound_s: bound.map(|bound| bound.as_secs_f64()),
                too_late: 0,
            });
            let longest = fault.longest.map(|longest| longest.as_secs_f64());
            if fault.alone {
                summary.alone += 1;
                summary.longest_s = most(summary.longest_s, longest);
                let late = bound.zip(fault.longest).is_some_and(|(bound, longest)| longest > bound + slack);
                summary.too_late += u64::from(late);
            } else {
                summary.mixed += 1;
                summary.longest_mixed_s = most(summary.longest_mixed_s, longest);
            }
        }
        kinds.into_values().collect()
    }
}

fn most(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    one.into_iter().chain(other).reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn what_was_in_flight_or_sent_meanwhile_counts_and_nothing_else() {
        let mut times = Times::default();
        times.acked(ms(10), ms(990));
        times.began(Kind::Kill, ms(1_000), true);
        times.acked(ms(900), ms(1_400));
        times.acked(ms(1_100), ms(1_600));
        times.over(Kind::Kill, ms(2_000));
        times.acked(ms(2_001), ms(9_000));
        times.began(Kind::Stop, ms(20_000), true);
        times.acked(ms(10_000), ms(20_000));
        times.acked(ms(19_999), ms(25_000));
        times.acked(ms(20_500), ms(25_501));
        times.over(Kind::Stop, ms(21_000));
        times.acked(ms(21_001), ms(31_000));
        let found = times.summary(ms(1_000), ms(2_000));
        assert_eq!(found.iter().map(|one| one.longest_s).collect::<Vec<_>>(), [Some(0.5), Some(5.001)]);
        assert_eq!(found.iter().map(|one| one.too_late).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn a_mix_is_told_and_not_judged() {
        let mut times = Times::default();
        times.began(Kind::Kill, ms(1_000), false);
        times.began(Kind::Head, ms(1_100), false);
        times.acked(ms(900), ms(31_000));
        let found = times.summary(ms(1_000), ms(2_000));
        assert!(found.iter().all(|one| one.too_late == 0 && one.longest_s.is_none() && one.mixed == 1));
        assert_eq!(found.first().and_then(|kill| kill.longest_mixed_s), Some(30.0));
    }
}
