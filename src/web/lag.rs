//! Whether more comes than can be followed here: more than is good for those who keep it, or later and later. Then who looks
//! is shown the present again, and what is between is left out. Pure: times are handed in.
//!
//! Records have the time of their head, whose clock may be another one: only how much later they come than the quickest of
//! them tells anything.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits;
use crate::wire::id::RecordId;

/// How many records come, and how late.
#[derive(Debug, Default)]
pub(crate) struct Lag {
    /// How many more may come at once, and when that was counted.
    credit: Option<(f64, Instant)>,
    /// What the quickest one took, which is less than nothing where its head's clock is ahead.
    quickest_ns: Option<i64>,
    /// Since when all of them are late, and how many those are.
    late: Option<(Instant, u64)>,
    /// When there were too many last.
    over_at: Option<Instant>,
}

impl Lag {
    /// A record came; whether there are so many that some are to be left out.
    pub(crate) fn hear(&mut self, id: RecordId, now_ns: u64, now: Instant) -> bool {
        let is_over = self.are_many(now) | self.are_late(id, now_ns, now);
        if is_over {
            *self = Self {
                credit: Some((limits::WEB_FOLLOW_SAMPLE, now)),
                over_at: Some(now),
                late: None,
                quickest_ns: self.quickest_ns,
            };
        }
        is_over
    }

    fn are_many(&mut self, now: Instant) -> bool {
        let (credit, since) = self.credit.unwrap_or((limits::WEB_FOLLOW_BURST, now));
        let more = now.duration_since(since).as_secs_f64() * limits::WEB_FOLLOW_PER_S;
        let credit = (credit + more).min(limits::WEB_FOLLOW_BURST) - 1.0;
        self.credit = Some((credit, now));
        credit < 0.0
    }

    fn are_late(&mut self, id: RecordId, now_ns: u64, now: Instant) -> bool {
        let took = now_ns.wrapping_sub(id.time_ns).cast_signed();
        let quickest = self.quickest_ns.map_or(took, |quickest| quickest.min(took));
        self.quickest_ns = Some(quickest);
        if Duration::from_nanos(took.abs_diff(quickest)) <= limits::WEB_FOLLOW_LATE_MAX {
            self.late = None;
            return false;
        }
        let (since, count) = self.late.map_or((now, 0), |(since, count)| (since, count + 1));
        self.late = Some((since, count));
        // Some old records of a data node that comes back are no more than that.
        count >= limits::WEB_FOLLOW_LATE_MIN && now.duration_since(since) >= limits::WEB_FOLLOW_LATE_TIME
    }

    /// A read begins: nothing comes while there is none, and that is no credit for what it brings.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.late = None;
        self.credit = self.credit.map(|(credit, _)| (credit, now));
    }

    /// The id that heads give about now.
    pub(crate) fn present(&self, now_ns: u64) -> RecordId {
        let time_ns = now_ns.wrapping_sub(self.quickest_ns.unwrap_or_default().cast_unsigned());
        RecordId { time_ns, incarnation: 0 }
    }

    /// Whether there were not too many for a while.
    pub(crate) fn is_calm(&self, now: Instant) -> bool {
        self.over_at.is_none_or(|at| now.duration_since(at) >= limits::WEB_FOLLOW_CALM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_NS: u64 = 1_795_234_260_000_000_000;
    const SECOND_NS: u64 = 1_000_000_000;

    /// So many records of ten seconds, each later than the one before by this part of its time; the first that was too much.
    fn ten_seconds(lag: &mut Lag, records: u64, later: f64, skew_ns: i64) -> Option<u64> {
        let start = Instant::now();
        lag.begin(start);
        (0..records).find(|k| {
            let at = 10 * SECOND_NS * k / records;
            let id = RecordId { time_ns: START_NS + at, incarnation: 1 };
            let comes = at + (at as f64 * later) as u64;
            lag.hear(id, (START_NS + comes).wrapping_add_signed(skew_ns), start + Duration::from_nanos(comes))
        })
    }

    #[test]
    fn who_falls_behind_more_and_more_is_told_and_whose_clock_differs_is_not() {
        for skew_ns in [0, 3600 * 1_000_000_000, -3600 * 1_000_000_000] {
            let mut lag = Lag::default();
            assert_eq!(ten_seconds(&mut lag, 100_000, 0.1, skew_ns), None, "a second behind is no matter");
            assert!(lag.is_calm(Instant::now()));
            let told = ten_seconds(&mut lag, 100_000, 2.0, skew_ns);
            assert!(told.is_some_and(|record| record < 50_000), "{told:?}");
            assert!(!lag.is_calm(Instant::now()));
            let now_ns = (START_NS + 50 * SECOND_NS).wrapping_add_signed(skew_ns);
            assert_eq!(lag.present(now_ns).time_ns, START_NS + 50 * SECOND_NS, "as heads count");
        }
    }

    #[test]
    fn too_many_are_told_after_a_burst_and_then_after_a_sample() {
        let (most, mut lag) = (limits::WEB_FOLLOW_PER_S as u64, Lag::default());
        assert_eq!(ten_seconds(&mut lag, 10 * most, 0.0, 0), None, "so many are followed");
        let told = ten_seconds(&mut lag, 30 * most, 0.0, 0).unwrap();
        assert!((most..2 * most).contains(&told), "a burst: {told}");
        let told = ten_seconds(&mut lag, 30 * most, 0.0, 0).unwrap();
        assert!((1000..5000).contains(&told), "a sample: {told}");
        assert_eq!(ten_seconds(&mut lag, 9 * most, 0.0, 0), None, "fewer are followed again");
        let told = ten_seconds(&mut lag, 30 * most, 0.0, 0).unwrap();
        assert!(told > most, "with bursts: {told}");
    }

    #[test]
    fn a_few_old_records_are_read_like_others() {
        let mut lag = Lag::default();
        assert_eq!(ten_seconds(&mut lag, 1000, 0.0, 0), None);
        let now = Instant::now();
        for k in 0..1000 {
            let id = RecordId { time_ns: START_NS - 3600 * SECOND_NS + k, incarnation: 1 };
            assert!(!lag.hear(id, START_NS + k, now + Duration::from_millis(10 * k)), "{k}");
        }
        assert!(lag.is_calm(now));
    }
}
