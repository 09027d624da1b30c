//! What is said of a node that answers heartbeat after heartbeat: each of them at first, then one line for many. Pure.
//!
//! Nobody reads the same line every 5 s for a year, and each costs a memory card a block and a commit of its journal.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits;

/// Heartbeats of one node that are alike.
#[derive(Clone, Default, Debug)]
pub(crate) struct Steady {
    /// What they have in common, when the first of them was, and when one was said last.
    run: Option<Run>,
    /// Those that were not said since then, and the longest answer among them.
    count: u64,
    longest: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    icmp: &'static str,
    since: Instant,
    said: Instant,
}

/// Heartbeats that one line tells of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Beats {
    /// How many.
    pub(crate) count: u64,
    /// The longest answer.
    pub(crate) longest: Duration,
}

impl Steady {
    /// It answered; what is to be said of that now.
    pub(crate) fn answered(&mut self, now: Instant, icmp: &'static str, took: Duration) -> Option<Beats> {
        self.count += 1;
        self.longest = self.longest.max(took);
        let run = self.run.filter(|run| run.icmp == icmp);
        let is_due = run.is_none_or(|run| {
            run.said.duration_since(run.since) < limits::HEARTBEAT_SAID_EACH
                || now.duration_since(run.said) >= limits::HEARTBEAT_SAID_EVERY
        });
        if !is_due {
            return None;
        }
        self.run = Some(Run { icmp, since: run.map_or(now, |run| run.since), said: now });
        let said = Beats { count: self.count, longest: self.longest };
        (self.count, self.longest) = (0, Duration::ZERO);
        Some(said)
    }

    /// It did not answer: what comes next is said again each time.
    pub(crate) fn silent(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEAT: Duration = limits::HEARTBEAT_DEFAULT;

    #[test]
    fn each_is_said_at_first_then_one_for_many_and_each_again_after_a_change() {
        let (mut steady, start) = (Steady::default(), Instant::now());
        let mut said = Vec::new();
        for k in 0..60_u32 {
            let took = Duration::from_millis(if k == 20 { 9 } else { 1 });
            said.extend(steady.answered(start + BEAT * k, "ok", took).map(|beats| (k, beats)));
        }
        let counts: Vec<u64> = said.iter().map(|(_, beats)| beats.count).collect();
        assert_eq!(counts, [vec![1; 13], vec![12; 3]].concat(), "each of a minute, then one a minute");
        let longest: Vec<u128> = said.iter().map(|(_, beats)| beats.longest.as_millis()).collect();
        assert_eq!(longest[13..], [9, 1, 1]);
        let now = start + BEAT * 60;
        assert_eq!(
            steady.answered(now, "silent", BEAT).map(|beats| beats.count),
            Some(12),
            "what was not said is counted"
        );
        assert_eq!(steady.answered(now + BEAT, "silent", BEAT).map(|beats| beats.count), Some(1));
        steady.silent();
        assert_eq!(steady.answered(now + BEAT * 3, "silent", BEAT).map(|beats| beats.count), Some(1));
    }
}
