//! Messages a second, of the last seconds. Pure.

use std::collections::VecDeque;
use std::time::Duration;

/// Acknowledged messages, sampled every second for the rates of the last 1 and 10 s.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    samples: VecDeque<(Duration, u64)>,
}

/// Samples kept: ten seconds.
const SAMPLES: usize = 11;

impl Rates {
    /// Notes how many messages were acknowledged `at` this time since the start.
    pub(crate) fn sample(&mut self, at: Duration, acked: u64) {
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((at, acked));
    }

    /// Messages a second over the last `seconds` samples; 0 before there are two.
    #[must_use]
    pub(crate) fn over(&self, seconds: usize) -> f64 {
        let Some(&(end, acked)) = self.samples.back() else { return 0.0 };
        let from = self.samples.len().saturating_sub(seconds + 1);
        let Some(&(start, before)) = self.samples.get(from) else { return 0.0 };
        let elapsed = (end.saturating_sub(start)).as_secs_f64();
        if elapsed > 0.0 { acked.saturating_sub(before) as f64 / elapsed } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_taken_over_the_samples_there_are() {
        let mut rates = Rates::default();
        assert_eq!(rates.over(10), 0.0);
        for second in 0..20_u64 {
            rates.sample(Duration::from_secs(second), second * second);
        }
        assert_eq!(rates.over(1), 37.0);
        assert_eq!(rates.over(10), (361.0 - 81.0) / 10.0);
    }
}
