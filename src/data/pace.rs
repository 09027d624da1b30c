//! How fast repair may go: a token bucket. Pure, time is handed in.

use std::time::Duration;

use crate::limits;

/// Lets so many bytes a second pass, and a little more at once after a rest.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_second: u64,
    /// When all that passed so far is paid for.
    paid: Duration,
}

impl Pace {
    /// So many bytes a second, at least 1.
    #[must_use]
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), paid: Duration::ZERO }
    }

    /// So many bytes pass; how long to wait before the next ones.
    pub(crate) fn pass(&mut self, bytes: usize, now: Duration) -> Duration {
        let start = self.paid.max(now.saturating_sub(limits::REPAIR_BURST));
        self.paid = start + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        self.paid.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever comes when: over any time not more passes than the rate, one burst and one chunk.
        #[test]
        fn it_keeps_to_its_rate(chunks in prop::collection::vec((1..500_000_usize, 0..2_000_u64), 1..100)) {
            let mut pace = Pace::new(1_000_000);
            let (mut now, mut passed) = (Duration::from_secs(1000), 0);
            let start = now;
            for (bytes, rest_ms) in chunks {
                passed += bytes;
                now += pace.pass(bytes, now) + Duration::from_millis(rest_ms);
                let allowed = (now - start + limits::REPAIR_BURST).as_secs_f64() * 1e6 + 1.0;
                prop_assert!(passed as f64 <= allowed, "{} of {}", passed, allowed);
            }
        }
    }
}
