//! How long messages took: an HDR histogram (<https://hdrhistogram.org>), three significant digits.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::limits;

/// Significant digits that are kept of each time.
const DIGITS: u8 = 3;

/// Times in nanoseconds, while it is open.
#[derive(Debug)]
pub(crate) struct Latency {
    times: Option<Histogram<u64>>,
    is_open: bool,
    /// Times that are the same one after the other: a batch was sent at once and is answered at once.
    last: u64,
    count: u64,
}

impl Default for Latency {
    fn default() -> Self {
        let longest = u64::try_from(limits::BENCH_LATENCY_MAX.as_nanos()).unwrap_or(u64::MAX);
        // These bounds are constants that it takes; the test holds them to it.
        Self { times: Histogram::new_with_max(longest, DIGITS).ok(), is_open: false, last: 0, count: 0 }
    }
}

impl Latency {
    /// Whether what is recorded counts.
    pub(crate) fn open(&mut self, open: bool) {
        self.flush();
        self.is_open = open;
    }

    /// A message took so long, nanoseconds. [`flush`](Self::flush) before anybody looks.
    pub(crate) fn record(&mut self, nanos: u64) {
        if nanos != self.last {
            self.flush();
            self.last = nanos;
        }
        self.count += 1;
    }

    /// Counts what was recorded.
    pub(crate) fn flush(&mut self) {
        if self.is_open
            && self.count > 0
            && let Some(times) = &mut self.times
        {
            times.saturating_record_n(self.last, self.count);
        }
        self.count = 0;
    }

    /// What is told of them.
    #[must_use]
    pub(crate) fn summary(&self) -> Summary {
        let Some(times) = self.times.as_ref().filter(|times| !times.is_empty()) else { return Summary::default() };
        let us = |nanos: u64| nanos as f64 / 1e3;
        let at = |quantile| us(times.value_at_quantile(quantile));
        Summary {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: us(times.max()),
            mean: times.mean() / 1e3,
        }
    }

    /// The whole distribution as a table for HdrHistogram's plotter, microseconds.
    #[must_use]
    pub(crate) fn percentiles(&self) -> String {
        let mut text = "       Value     Percentile TotalCount 1/(1-Percentile)\n\n".to_owned();
        let Some(times) = &self.times else { return text };
        for step in times.iter_quantiles(5) {
            let (value, quantile) = (step.value_iterated_to() as f64 / 1e3, step.quantile_iterated_to());
            let count = times.count_between(0, step.value_iterated_to());
            let tail = if quantile < 1.0 { format!("{:14.2}", 1.0 / (1.0 - quantile)) } else { "inf".to_owned() };
            text.push_str(&format!("{value:12.3} {quantile:2.12} {count:10} {tail}\n"));
        }
        let (mean, deviation) = (times.mean() / 1e3, times.stdev() / 1e3);
        text.push_str(&format!("#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]\n"));
        text.push_str(&format!(
            "#[Max     = {:12.3}, Total count    = {:12}]\n",
            times.max() as f64 / 1e3,
            times.len()
        ));
        text
    }
}

/// Times of messages, microseconds.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub(crate) struct Summary {
    /// Half of them took no longer.
    pub(crate) p50: f64,
    /// Nine of ten.
    pub(crate) p90: f64,
    /// 99 of 100.
    pub(crate) p99: f64,
    /// 999 of 1,000.
    pub(crate) p999: f64,
    /// The longest.
    pub(crate) max: f64,
    /// Their mean.
    pub(crate) mean: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_while_it_is_open_counts() {
        let mut latency = Latency::default();
        latency.record(5_000_000);
        latency.open(true);
        for micros in 1..=1000 {
            latency.record(micros * 1000);
            latency.record(micros * 1000);
        }
        latency.open(false);
        latency.record(9_000_000);
        latency.flush();
        let summary = latency.summary();
        for (told, wanted) in [(summary.p50, 500.0), (summary.p99, 990.0), (summary.max, 1000.0)] {
            assert!((told - wanted).abs() / wanted < 0.002, "{summary:?}");
        }
        let text = latency.percentiles();
        assert!(text.lines().any(|line| line.contains(" 1.000000000000 ") && line.contains("2000")), "{text}");
    }
}
