//! How often something took how long: a few counters, in bounded memory.

use std::time::Duration;

/// Where the buckets end: what a disk or a busy machine takes for a sync.
const ENDS: [Duration; 14] = [
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(10),
];

/// Times in buckets; the last one is for what took longer than all of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Durations {
    counts: [u64; ENDS.len() + 1],
    sum: Duration,
}

impl Durations {
    /// Something took this long.
    pub(crate) fn add(&mut self, time: Duration) {
        let place = ENDS.partition_point(|end| *end < time);
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(time);
    }

    /// How long all took together, and how many they are.
    pub(crate) fn total(&self) -> (f64, u64) {
        (self.sum.as_secs_f64(), self.counts.iter().sum())
    }

    /// The end of each bucket, seconds, and how many are in it alone.
    pub(crate) fn buckets(&self) -> Vec<(f64, u64)> {
        ENDS.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]).zip(self.counts).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_as_long_as_a_bucket_ends_is_in_it() {
        let mut times = Durations::default();
        for time in [Duration::from_millis(1), Duration::from_micros(1001), Duration::from_secs(60), Duration::ZERO] {
            times.add(time);
        }
        let buckets = times.buckets();
        assert_eq!((buckets[3], buckets[4].1, buckets[0].1), ((0.001, 1), 1, 1));
        assert_eq!((buckets.last().copied(), times.total().1), (Some((f64::INFINITY, 1)), 4));
    }
}
