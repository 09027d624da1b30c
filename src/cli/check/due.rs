//! What a device owes: how many messages there should be, by its own counter, or else by its own period. Pure.

use std::time::Duration;

use crate::limits::MESSAGES_TOGETHER;

/// A gap is one if it is longer than so many periods, in halves: a message that is late is not missing.
const GAP_HALF_PERIODS: u64 = 5;

/// How far a counter may step back without having started again: messages that overtook each other.
const BACK_MAX: u64 = 64;

/// How far a counter may step ahead without having started again at random.
const AHEAD_MAX: u64 = 1_000_000;

const TOGETHER_NS: u64 = MESSAGES_TOGETHER.as_nanos() as u64;

/// Least messages whose first numbers can be told to be a counter.
const LEADING_MIN: usize = 8;

/// Least intervals that a period is learnt from.
const INTERVALS_MIN: usize = 3;

/// A message as far as it counts here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Heard {
    /// When it was, by its device's clock where that is known, ns.
    pub(super) time_ns: u64,
    pub(super) counter: Option<u64>,
    /// A whole number that it begins with: a counter, if it goes up by one from message to message.
    pub(super) leading: Option<u64>,
    /// A checksum of what it says.
    pub(super) payload: u32,
    /// Its device says when it was.
    pub(super) is_dated: bool,
}

/// What became of a device's messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// Messages that are kept, doubled ones included.
    pub(super) kept: u64,
    /// Messages that should be there.
    pub(super) due: u64,
    pub(super) missing: u64,
    pub(super) doubled: u64,
    /// Counted by the device's own counter.
    pub(super) by_counter: bool,
    /// The median of the times between messages; none if there are too few.
    pub(super) period: Option<Duration>,
    /// The longest silence that is a gap: from when, and how long, ns.
    pub(super) gap: Option<Gap>,
}

/// A silence that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) from_ns: u64,
    pub(super) long_ns: u64,
}

/// What is known of a device from before its messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Before {
    /// From when on it owes messages; none if it may be new.
    pub(super) since_ns: Option<u64>,
    /// Its period as a head knows it, for where there are too few messages.
    pub(super) period_ns: Option<u64>,
}

/// What became of messages, in any order, up to this time.
pub(super) fn kept(mut heard: Vec<Heard>, before: Before, until_ns: u64) -> Kept {
    heard.sort_unstable();
    let mut kept = Kept { kept: heard.len() as u64, ..Kept::default() };
    let times = distinct_times(&heard);
    let intervals = || times.iter().zip(times.iter().skip(1)).map(|(from, to)| (*from, to - from));
    let period_ns = median(intervals().map(|(_, long)| long).collect()).or(before.period_ns);
    let mut by_gaps = 0;
    if let Some(period) = period_ns.filter(|period| *period > 0) {
        kept.period = Some(Duration::from_nanos(period));
        let first = before.since_ns.map(|since| (since, times.first().unwrap_or(&until_ns).saturating_sub(since)));
        let last = times.last().map(|last| (*last, until_ns.saturating_sub(*last)));
        for (from_ns, long_ns) in first
            .into_iter()
            .chain(intervals())
            .chain(last)
            .filter(|(_, long)| *long > period.saturating_mul(GAP_HALF_PERIODS) / 2)
        {
            by_gaps += (long_ns.saturating_add(period / 2)) / period - 1;
            if kept.gap.is_none_or(|gap| gap.long_ns < long_ns) {
                kept.gap = Some(Gap { from_ns, long_ns });
            }
        }
    }
    if let Some(counters) = counters(&heard) {
        kept.by_counter = true;
        (kept.missing, kept.doubled) = by_counter(&counters);
    } else {
        (kept.missing, kept.doubled) = (by_gaps, doubled(&heard, period_ns));
    }
    kept.due = (kept.kept - kept.doubled) + kept.missing;
    kept
}

/// The device's own numbers, if all messages have one: a device that counts sometimes is judged by its period. Numbers that
/// messages begin with are a counter if more than half of them follow the one before: no value that is measured does that.
fn counters(heard: &[Heard]) -> Option<Vec<u64>> {
    let all = |of: fn(&Heard) -> Option<u64>| heard.iter().map(of).collect::<Option<Vec<u64>>>();
    let said = all(|heard| heard.counter).filter(|counters| !counters.is_empty());
    said.or_else(|| {
        let leading = all(|heard| heard.leading).filter(|leading| leading.len() >= LEADING_MIN)?;
        let next = leading.iter().zip(leading.iter().skip(1)).filter(|(one, next)| one.checked_add(1) == Some(**next));
        (next.count() * 2 > leading.len()).then_some(leading)
    })
}

/// When messages came, those that came together once: a head gives what one read delivers ids that follow each other.
fn distinct_times(heard: &[Heard]) -> Vec<u64> {
    let mut times: Vec<u64> = heard.iter().map(|heard| heard.time_ns).collect();
    times.dedup_by(|next, before| *next - *before < TOGETHER_NS);
    times
}

/// The median; none of too few.
pub(super) fn median(mut intervals: Vec<u64>) -> Option<u64> {
    if intervals.len() < INTERVALS_MIN {
        return None;
    }
    let half = intervals.len() / 2;
    Some(*intervals.select_nth_unstable(half).1)
}

/// Numbers that are missing and numbers that come again, in each run of a counter that starts again.
fn by_counter(counters: &[u64]) -> (u64, u64) {
    let (mut missing, mut doubled) = (0, 0);
    let mut run: Vec<u64> = Vec::new();
    let mut last = None::<u64>;
    let mut settle = |run: &mut Vec<u64>| {
        run.sort_unstable();
        let all = run.len() as u64;
        run.dedup();
        let span = run.first().zip(run.last()).map_or(0, |(first, last)| last - first + 1);
        missing += span - run.len() as u64;
        doubled += all - run.len() as u64;
        run.clear();
    };
    for counter in counters {
        let starts_again = last.is_some_and(|last: u64| {
            let back = *counter < last && (*counter <= 1 || last - counter > BACK_MAX);
            back || counter.saturating_sub(last) > AHEAD_MAX
        });
        if starts_again {
            settle(&mut run);
        }
        run.push(*counter);
        last = Some(*counter);
    }
    settle(&mut run);
    (missing, doubled)
}

/// Messages that say the same as the one before them, at the same time by their device's clock, or so soon after it that it is
/// no next one.
fn doubled(heard: &[Heard], period_ns: Option<u64>) -> u64 {
    let again = heard.iter().zip(heard.iter().skip(1)).filter(|(one, next)| {
        let apart = next.time_ns - one.time_ns;
        let is_soon = if next.is_dated { apart == 0 } else { period_ns.is_some_and(|period| apart < period / 4) };
        one.payload == next.payload && is_soon
    });
    again.count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: u64 = 1_000_000_000;

    fn at(second: u64, counter: Option<u64>) -> Heard {
        Heard { time_ns: second * S, counter, leading: None, payload: second as u32, is_dated: false }
    }

    fn kept(heard: Vec<Heard>, until_ns: u64) -> Kept {
        super::kept(heard, Before::default(), until_ns)
    }

    #[test]
    fn who_was_silent_all_the_time_owes_what_its_period_says() {
        let before = Before { since_ns: Some(100 * S), period_ns: Some(10 * S) };
        let all = super::kept(Vec::new(), before, 200 * S);
        assert_eq!((all.kept, all.due, all.missing), (0, 9, 9));
        assert_eq!(all.gap, Some(Gap { from_ns: 100 * S, long_ns: 100 * S }));
        let late = super::kept([180, 190, 200].map(|second| at(second, None)).to_vec(), before, 200 * S);
        assert_eq!((late.kept, late.missing, late.gap.unwrap().from_ns), (3, 7, 100 * S));
        let unclear = super::kept(Vec::new(), Before { period_ns: None, ..before }, 200 * S);
        assert_eq!((unclear.due, unclear.gap), (0, None));
    }

    #[test]
    fn a_number_that_messages_begin_with_is_a_counter_if_it_counts() {
        let of = |numbers: &[u64]| {
            let heard =
                numbers.iter().zip(0..).map(|(number, second)| Heard { leading: Some(*number), ..at(second, None) });
            let all = kept(heard.collect(), 0);
            (all.by_counter, all.missing, all.doubled)
        };
        assert_eq!(of(&[1, 2, 3, 5, 6, 6, 7, 8, 9, 10]), (true, 1, 1));
        assert_eq!(of(&[7, 8, 9, 10, 0, 1, 2, 3, 4]), (true, 0, 0), "it started again");
        assert!(!of(&[21, 22, 21, 20, 21, 22, 22, 23, 22]).0, "a temperature");
        assert!(!of(&[1, 2, 3]).0, "too few to tell");
        let mut mixed: Vec<Heard> = (0..20).map(|k| Heard { leading: Some(k), ..at(k, None) }).collect();
        mixed[7].leading = None;
        assert!(!kept(mixed, 0).by_counter);
    }

    #[test]
    fn gaps_are_counted_by_the_period_of_the_device_itself() {
        let seconds = [0, 10, 20, 31, 40, 80, 90, 100];
        let all = kept(seconds.map(|second| at(second, None)).to_vec(), 110 * S);
        assert_eq!((all.kept, all.due, all.missing, all.doubled), (8, 11, 3, 0));
        assert_eq!(all.period, Some(Duration::from_secs(10)));
        assert_eq!(all.gap, Some(Gap { from_ns: 40 * S, long_ns: 40 * S }));
        let silent = kept(seconds.map(|second| at(second, None)).to_vec(), 200 * S);
        assert_eq!((silent.missing, silent.gap.unwrap().from_ns), (12, 100 * S));
        let few = kept(vec![at(0, None), at(900, None)], 5000 * S);
        assert_eq!((few.kept, few.due, few.missing, few.period), (2, 2, 0, None));
        assert_eq!(kept(Vec::new(), 0), Kept::default());
    }

    #[test]
    fn what_one_read_delivered_came_at_one_time() {
        let burst = |second: u64| (0..5).map(move |k| Heard { time_ns: second * S + k, ..at(second, None) });
        let all = kept(burst(7).collect(), 9000 * S);
        assert_eq!((all.missing, all.period), (0, None));
        let hourly = kept((0..5).flat_map(|hour| burst(hour * 3600)).collect(), 5 * 3600 * S);
        assert_eq!((hourly.missing, hourly.period), (0, Some(Duration::from_secs(3600))));
    }

    #[test]
    fn counters_tell_what_is_missing_doubled_and_begun_again() {
        for (counters, missing, doubled) in [
            (&[1, 2, 3, 4][..], 0, 0),
            (&[5, 6, 9, 10], 2, 0),
            (&[1, 2, 2, 3], 0, 1),
            (&[1, 3, 2, 4], 0, 0),
            (&[7, 8, 9, 0, 1, 2], 0, 0),
            (&[900, 901, 3, 4], 0, 0),
            (&[65_534, 65_535, 0, 1], 0, 0),
            (&[1, 2, 4_000_000_000, 4_000_000_001], 0, 0),
            (&[u64::MAX, 0, u64::MAX], 0, 0),
        ] {
            let heard = counters.iter().zip(0..).map(|(counter, second)| at(second, Some(*counter))).collect();
            let all = kept(heard, 0);
            assert_eq!((all.missing, all.doubled, all.by_counter), (missing, doubled, true), "{counters:?}");
        }
    }

    #[test]
    fn what_is_sent_twice_is_told_from_what_does_not_change() {
        let same = |ms: u64, is_dated| Heard { time_ns: ms * 1_000_000, payload: 7, is_dated, ..at(0, None) };
        let steady = kept((0..10).map(|k| same(k * 1000, false)).collect(), 0);
        assert_eq!(steady.doubled, 0);
        let twice = kept((0..10).flat_map(|k| [same(k * 1000, false), same(k * 1000 + 20, false)]).collect(), 0);
        assert_eq!(twice.doubled, 0, "its period is unclear");
        let once = kept((0..10).map(|k| same(k * 1000, false)).chain([same(5020, false)]).collect(), 0);
        assert_eq!((once.doubled, once.due), (1, 10));
        let dated = kept((0..10).flat_map(|k| [same(k * 1000, true); 2]).collect(), 0);
        assert_eq!((dated.doubled, dated.due, dated.missing), (10, 10, 0));
    }

    proptest! {
        #[test]
        fn what_is_due_adds_up(
            heard in prop::collection::vec((0..5000_u64, prop::option::of(prop_oneof![any::<u64>(), 0..100_u64]), 0..3_u32, any::<bool>()), 0..60),
            until in any::<u64>(),
        ) {
            let heard = heard.into_iter().map(|(s, counter, payload, is_dated)| {
                let leading = counter.filter(|n| n % 2 == 0);
                Heard { time_ns: s * S, counter, leading, payload, is_dated }
            });
            let all = kept(heard.collect(), until);
            prop_assert!(all.doubled <= all.kept);
            prop_assert_eq!(all.due, all.kept - all.doubled + all.missing);
        }
    }
}
