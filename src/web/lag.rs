//! Whether what is followed comes later and later: more is written than can be read here. Then who looks is shown the
//! present again, and what is between is left out. Pure: times are handed in.
//!
//! Records have the time of their head, whose clock may be another one: only how much later they come than the quickest of
//! them tells anything.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits;
use crate::wire::id::RecordId;

/// How late records come.
#[derive(Debug, Default)]
pub(crate) struct Lag {
    /// What the quickest one took, which is less than nothing where its head's clock is ahead.
    quickest_ns: Option<i64>,
    /// Since when all of them are late, and how many those are.
    late: Option<(Instant, u64)>,
    /// When one was late last.
    late_at: Option<Instant>,
}

impl Lag {
    /// A record came; whether so many have been late that what is between is to be left out.
    pub(crate) fn hear(&mut self, id: RecordId, now_ns: u64, now: Instant) -> bool {
        let took = now_ns.wrapping_sub(id.time_ns).cast_signed();
        let quickest = *self.quickest_ns.insert(self.quickest_ns.map_or(took, |quickest| quickest.min(took)));
        if Duration::from_nanos(took.abs_diff(quickest)) <= limits::WEB_FOLLOW_LATE_MAX {
            self.late = None;
            return false;
        }
        self.late_at = Some(now);
        let (since, count) = self.late.map_or((now, 0), |(since, count)| (since, count + 1));
        self.late = Some((since, count));
        // Some old records of a data node that comes back are no more than that.
        count >= limits::WEB_FOLLOW_LATE_MIN && now.duration_since(since) >= limits::WEB_FOLLOW_LATE_TIME
    }

    /// A read begins anew: what it brings first tells how it is now.
    pub(crate) fn begin(&mut self) {
        self.late = None;
    }

    /// The id that heads give about now.
    pub(crate) fn present(&self, now_ns: u64) -> RecordId {
        let time_ns = now_ns.wrapping_sub(self.quickest_ns.unwrap_or_default().cast_unsigned());
        RecordId { time_ns, incarnation: 0 }
    }

    /// Whether nothing has been late for a while.
    pub(crate) fn is_calm(&self, now: Instant) -> bool {
        self.late_at.is_none_or(|at| now.duration_since(at) >= limits::WEB_FOLLOW_CALM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_NS: u64 = 1_795_234_260_000_000_000;
    const SECOND_NS: u64 = 1_000_000_000;

    /// Records of ten seconds, each later than the one before by this part of its time; whether any of them was too much.
    fn ten_seconds(lag: &mut Lag, records: u64, later: f64, skew_ns: i64) -> Option<u64> {
        let start = Instant::now();
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
            let told = ten_seconds(&mut lag, 1_000_000, 2.0, skew_ns);
            assert!(told.is_some_and(|record| record < 500_000), "{told:?}");
            assert!(!lag.is_calm(Instant::now()));
            let now_ns = (START_NS + 50 * SECOND_NS).wrapping_add_signed(skew_ns);
            assert_eq!(lag.present(now_ns).time_ns, START_NS + 50 * SECOND_NS, "as heads count");
        }
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
        lag.begin();
        assert!(lag.is_calm(now + Duration::from_secs(10) + limits::WEB_FOLLOW_CALM));
    }
}
