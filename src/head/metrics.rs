//! What a head says of itself to those who watch it.

use std::collections::BTreeMap;

use super::core::Core;
use super::registered::NodeEntry;
use super::state::Head;
use crate::limits;
use crate::metrics::{Metrics, Snapshot, Value};

/// The state of this head.
pub(super) fn snapshot(head: &Head) -> Snapshot {
    let counters = head.core(Core::counters);
    let mut metrics = Metrics::default();
    let gauge = |count: usize| Value::Gauge(count as f64);
    metrics.one("acopio_messages", "Messages that were acknowledged", Value::Counter(counters.acked));
    let refused: Vec<_> = head.refusals.borrow().all().map(|(cause, count)| (cause, Value::Counter(count))).collect();
    metrics.each("acopio_refused", "Messages that were refused, by the cause", "cause", refused);
    metrics.one(
        "acopio_in_flight_messages",
        "Messages that are not answered yet",
        Value::Gauge(counters.in_flight as f64),
    );
    metrics.one("acopio_clients", "Clients that are connected", gauge(head.places.taken()));
    metrics.one("acopio_clients_max", "Clients that may be connected", gauge(head.config.clients.most));
    metrics.one(
        "acopio_uptime_seconds",
        "Time since the head started",
        Value::Gauge(head.started.elapsed().as_secs_f64()),
    );
    let nodes = head.nodes();
    let here = nodes.iter().map(|node| (node.name.clone(), 1.0));
    let up: BTreeMap<String, f64> = head.members_away().into_iter().map(|away| (away.name, 0.0)).chain(here).collect();
    metrics.each(
        "acopio_node_up",
        "Whether a data node is here",
        "node",
        up.into_iter().map(|(name, up)| (name, Value::Gauge(up))),
    );
    let writable = |key| head.core(|core| core.load(key)).is_some_and(|load| load.writable);
    let takes = nodes.iter().map(|node| (node.name.clone(), Value::Gauge(f64::from(u8::from(writable(node.key))))));
    metrics.each("acopio_node_writable", "Whether a data node takes messages", "node", takes.collect::<Vec<_>>());
    let free = |node: &NodeEntry| Some((node.name.clone(), Value::Gauge(node.report.borrow().free? as f64)));
    metrics.each(
        "acopio_disk_free_bytes",
        "What may still be written to the disk of a data node",
        "node",
        nodes.iter().filter_map(|node| free(node)).collect::<Vec<_>>(),
    );
    let short = head.heard(crate::ledger::heard::Heard::short);
    metrics.one("acopio_under_replicated_records", "Records that are short of copies", Value::Gauge(short as f64));
    let lacking = head.heard(crate::ledger::heard::Heard::lacking).len();
    metrics.one("acopio_lacking_ranges", "Ranges of records that no data node has which is here", gauge(lacking));
    metrics.one(
        "acopio_refused_records",
        "Records from data nodes that no head of the cluster took, and that are passed on to nobody",
        Value::Counter(head.refused_records.get()),
    );
    let devices = head.devices.borrow();
    metrics.one("acopio_sources", "Sources that were heard since the head started", gauge(devices.0.len()));
    let ages = devices.0.iter().take(limits::METRICS_SOURCES_MAX);
    let ages = ages.map(|(name, seen)| (name.to_string(), Value::Gauge(seen.heard.elapsed().as_secs_f64())));
    metrics.each("acopio_source_age_seconds", "Time since a source was heard last", "source", ages);
    let refused = head.registro_refusal().map(|refusal| refusal.text);
    let ready = match refused {
        Some(cause) => Err(cause),
        None if nodes.iter().any(|node| writable(node.key)) => Ok(()),
        None => Err("no hay dataNodes: none takes messages; start one, or mend those there are".to_owned()),
    };
    Snapshot { metrics, ready }
}
