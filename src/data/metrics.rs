//! What a data node says of itself to those who watch it.

use super::node::Node;
use crate::metrics::{Metrics, Snapshot, Value};

/// The state of this node.
pub(super) fn snapshot(node: &Node) -> Snapshot {
    let state = node.commit.state();
    let mut metrics = Metrics::default();
    metrics.one("acopio_records", "Records that are kept", Value::Gauge(state.records as f64));
    metrics.one("acopio_log_bytes", "Bytes of the files of records", Value::Gauge(state.bytes as f64));
    metrics.one("acopio_written_bytes", "Bytes that were written to the disk", Value::Counter(state.written));
    metrics.one("acopio_sync_seconds", "Time that a sync of the records took", Value::Histogram(state.sync_times));
    if let Some(bytes) = state.free {
        metrics.one("acopio_disk_free_bytes", "What may still be written to the disk", Value::Gauge(bytes as f64));
    }
    let heads = node.membership.heads();
    metrics.one("acopio_heads", "Heads that the node is registered with", Value::Gauge(heads as f64));
    let is_writable = state.reason.is_empty() && node.commit.poisoned().is_none();
    metrics.one("acopio_writable", "Whether messages can be written", Value::Gauge(f64::from(u8::from(is_writable))));
    let ready = match node.commit.poisoned() {
        Some(error) => Err(error.to_string()),
        None if !state.reason.is_empty() => Err(state.reason),
        None if heads == 0 => {
            Err("it is registered with no head; see that one runs and that its log says why not".to_owned())
        }
        None => Ok(()),
    };
    Snapshot { metrics, ready }
}
