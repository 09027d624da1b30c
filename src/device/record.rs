//! What a device keeps in the cluster: each measurement, and each mean with how it came about, as a line of JSON.
//!
//! Records wait in a bounded queue for a task that stores one after the other, each under one number until it is kept: the
//! cluster may be away without anybody waiting for it.

use std::pin::pin;
use std::time::Duration;

use serde_json::{Map, Value as Json, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::round::Outcome;
use super::value::Value;
use crate::client::{Config, Error, Keeper};
use crate::wire::source::SourceName;
use crate::{limits, net};

/// Takes records; without a cluster it takes them and does nothing.
#[derive(Clone, Debug)]
pub(crate) struct Records(Option<mpsc::Sender<String>>);

/// The task that stores them.
#[derive(Debug)]
pub(crate) struct Storing(Option<JoinHandle<()>>);

/// What became of a mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The web API took it.
    Taken,
    /// It did not, and why.
    Not(String),
}

/// Opens the queue, to these heads if there are any. Records are kept as those of the device, where its id is a source's name.
#[must_use]
pub(crate) fn open(heads: Option<net::Heads>, id: &str) -> (Records, Storing) {
    let Some(heads) = heads else { return (Records(None), Storing(None)) };
    let (sender, receiver) = mpsc::channel(limits::DEVICE_RECORDS_MAX);
    (Records(Some(sender)), Storing(Some(tokio::spawn(store(heads, id.parse().ok(), receiver)))))
}

async fn store(heads: net::Heads, source: Option<SourceName>, mut records: mpsc::Receiver<String>) {
    // A client that gives up and one that begins anew could keep a record twice: this one goes on under its numbers.
    let keeper = Keeper::new(Config { retry_for: Duration::MAX, ..Config::following(heads) });
    let mut said = String::new();
    while let Some(record) = records.recv().await {
        loop {
            let mut keeping = pin!(keeper.keep_of(source, record.clone().into()));
            let kept = match timeout(limits::DEVICE_KEPT_WITHIN, &mut keeping).await {
                Ok(kept) => kept,
                Err(_) => {
                    if said.is_empty() {
                        said = "no answer yet".to_owned();
                        tracing::warn!("measurements wait for the cluster: {said}; trying again");
                    }
                    keeping.await
                }
            };
            let error = match kept {
                Ok(_) => break,
                Err(error @ Error::TooLong(_)) => {
                    tracing::error!("a record is not kept: {error}");
                    break;
                }
                Err(error) => error,
            };
            let words = error.to_string();
            if words != said {
                tracing::warn!("measurements wait for the cluster: {words}; trying again");
                said = words;
            }
            sleep(limits::DEVICE_REFUSED_PAUSE).await;
        }
        if !std::mem::take(&mut said).is_empty() {
            tracing::info!("the cluster keeps measurements again");
        }
    }
}

impl Records {
    /// Hands a record over.
    fn take(&self, record: &Json) {
        let Some(queue) = &self.0 else { return };
        if queue.try_send(record.to_string()).is_err() {
            tracing::error!(
                "{} records wait for the cluster; this one is not kept: {record}",
                limits::DEVICE_RECORDS_MAX
            );
        }
    }

    /// A measurement; the counter's value if there is one.
    pub(crate) fn measurement(&self, device: &str, value: Value, counter: Option<String>) {
        let mut record = json!({ "kind": "measurement", "device": device, "value": number(value.number()) });
        if let (Some(counter), Some(fields)) = (counter, record.as_object_mut()) {
            fields.insert("counter".to_owned(), counter.parse().map_or(Json::String(counter), |n: i64| json!(n)));
        }
        self.take(&record);
    }

    /// A mean, and how it came about.
    pub(crate) fn mean(&self, by: &Leadership<'_>, outcome: &Outcome, mean: f64, sent: &Sent) {
        let counted: Map<_, _> =
            outcome.counted.iter().map(|(device, value)| (device.clone(), number(value.number()))).collect();
        let unreadable: Map<_, _> =
            outcome.unreadable.iter().map(|(device, cause)| (device.clone(), json!(cause.to_string()))).collect();
        let sent = match sent {
            Sent::Taken => json!(true),
            Sent::Not(cause) => json!(cause),
        };
        self.take(&json!({
            "kind": "mean", "mean": mean, "leader": by.leader, "term": by.term, "round": by.round,
            "counted": counted, "late": outcome.late, "unreadable": unreadable, "sent": sent,
        }));
    }
}

/// Who leads, in which term, and how many rounds of it there were.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leadership<'a> {
    /// The device that leads.
    pub(crate) leader: &'a str,
    /// The fencing token: greater than that of every leader before.
    pub(crate) term: i64,
    /// The round in this term, from 1.
    pub(crate) round: u64,
}

impl Storing {
    /// Waits a moment for what waits in the queue, once all [`Records`] are dropped.
    pub(crate) async fn finish(self) {
        let Some(mut task) = self.0 else { return };
        if timeout(limits::DEVICE_RECORDS_END_TIME_MAX, &mut task).await.is_err() {
            tracing::warn!("the cluster is away: the last records are not known to be kept");
            task.abort();
        }
    }
}

/// A whole number without a point, as it was measured.
fn number(number: f64) -> Json {
    const EXACT: f64 = (1_u64 << 53) as f64;
    #[expect(clippy::cast_possible_truncation, reason = "it is a whole number that fits")]
    if number.fract() == 0.0 && number.abs() < EXACT { json!(number as i64) } else { json!(number) }
}
