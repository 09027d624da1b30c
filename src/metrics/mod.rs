//! What machines watch: numbers with names, in the two texts that Prometheus and its kind read. A role makes a [`Snapshot`]
//! when somebody asks, once a second at most, so nothing of this costs where messages pass.
//!
//! `door` is the small server of a head or a data node; `acopio web` has these paths beside its own. `durations` counts how
//! long something took.

pub(crate) mod door;
mod durations;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

pub(crate) use durations::Durations;

/// What a role says of itself at one time.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// Its numbers.
    pub(crate) metrics: Metrics,
    /// Whether it does what it is for; if not, why.
    pub(crate) ready: Result<(), String>,
}

/// Numbers with names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics(Vec<Family>);

#[derive(Clone, Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    samples: Vec<Sample>,
}

#[derive(Clone, Debug)]
struct Sample {
    labels: Vec<(&'static str, String)>,
    value: Value,
}

/// What a sample says.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// It only grows. Its name gets `_total`.
    Counter(u64),
    /// It goes up and down.
    Gauge(f64),
    /// How long something took.
    Histogram(Durations),
}

impl Metrics {
    /// One number.
    pub(crate) fn one(&mut self, name: &'static str, help: &'static str, value: Value) {
        self.family(name, help, [(Vec::new(), value)]);
    }

    /// A number for each value of a label.
    pub(crate) fn each(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        samples: impl IntoIterator<Item = (String, Value)>,
    ) {
        self.family(name, help, samples.into_iter().map(|(of, value)| (vec![(label, of)], value)));
    }

    /// Numbers of all labels; none are left out.
    pub(crate) fn family(
        &mut self,
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = (Vec<(&'static str, String)>, Value)>,
    ) {
        let samples: Vec<_> = samples.into_iter().map(|(labels, value)| Sample { labels, value }).collect();
        if !samples.is_empty() {
            self.0.push(Family { name, help, samples });
        }
    }

    /// What the asker takes: its kind, and the text.
    pub(crate) fn text(self, accept: &str) -> (&'static str, String) {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut out = String::new();
        // Writing to a string does not fail.
        if accept.contains("application/openmetrics-text") {
            text::encode(&mut out, &registry).unwrap_or_default();
            ("application/openmetrics-text; version=1.0.0; charset=utf-8", out)
        } else {
            prometheus_text::encode(&mut out, &registry).unwrap_or_default();
            ("text/plain; version=0.0.4; charset=utf-8", out)
        }
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        for Family { name, help, samples } in &self.0 {
            let kind = match samples.first().map(|sample| &sample.value) {
                Some(Value::Counter(_)) => MetricType::Counter,
                Some(Value::Gauge(_)) => MetricType::Gauge,
                Some(Value::Histogram(_)) => MetricType::Histogram,
                None => continue,
            };
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for Sample { labels, value } in samples {
                let labels: Vec<(&str, &str)> = labels.iter().map(|(name, of)| (*name, of.as_str())).collect();
                let mut sample = family.encode_family(&labels)?;
                match value {
                    Value::Counter(count) => sample.encode_counter::<NoLabelSet, _, u64>(count, None)?,
                    Value::Gauge(number) => sample.encode_gauge(number)?,
                    Value::Histogram(times) => {
                        let (sum, count) = times.total();
                        sample.encode_histogram::<NoLabelSet>(sum, count, &times.buckets(), None)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// What `/readyz` answers: whether it is ready, and the text.
pub(crate) fn readiness(ready: &Result<(), String>) -> (bool, String) {
    match ready {
        Ok(()) => (true, "ok\n".to_owned()),
        Err(cause) => (false, format!("not ready: {}\n", crate::printable::visible(cause))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn some() -> Metrics {
        let (mut metrics, mut times) = (Metrics::default(), Durations::default());
        [3, 700, 20_000].into_iter().for_each(|ms| times.add(Duration::from_millis(ms)));
        metrics.one("acopio_messages", "Messages that were acknowledged", Value::Counter(7));
        let nodes = [("data1", 1.0), ("a\"b\\c\n", 0.0)].map(|(name, up)| (name.to_owned(), Value::Gauge(up)));
        metrics.each("acopio_node_up", "Whether a data node is here", "node", nodes);
        metrics.each("acopio_nothing", "None", "node", []);
        metrics.one("acopio_sync_seconds", "Time of a sync", Value::Histogram(times));
        metrics
    }

    #[test]
    fn each_asker_gets_the_text_that_it_takes() {
        let (kind, old) = some().text("*/*");
        assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
        let (kind, new) = some().text("application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
        assert!(kind.starts_with("application/openmetrics-text") && new.ends_with("# EOF\n"), "{new}");
        assert!(old.contains("{le=\"1\"} 2\n") && new.contains("{le=\"1.0\"} 2\n"), "{old}{new}");
        assert!(new.contains("# TYPE acopio_messages counter\n") && !old.contains("# EOF"), "{new}{old}");
        for text in [&old, &new] {
            for line in [
                "acopio_messages_total 7",
                "acopio_node_up{node=\"data1\"} 1.0",
                "acopio_node_up{node=\"a\\\"b\\\\c\\n\"} 0.0",
                "acopio_sync_seconds_count 3",
                "acopio_sync_seconds_bucket{le=\"0.005\"} 1",
                "acopio_sync_seconds_bucket{le=\"+Inf\"} 3",
            ] {
                assert!(text.lines().any(|found| found == line), "{line} in {text}");
            }
            assert!(
                !text.contains("acopio_nothing") && text.matches("acopio_sync_seconds_bucket").count() == 15,
                "{text}"
            );
        }
    }

    #[test]
    fn readiness_begins_with_ok_or_names_the_cause() {
        assert_eq!(readiness(&Ok(())), (true, "ok\n".to_owned()));
        assert_eq!(
            readiness(&Err("no hay dataNodes\u{1b}".to_owned())),
            (false, "not ready: no hay dataNodes\\u{1b}\n".to_owned())
        );
    }
}
