//! What heads say of the cluster and of sources, as numbers and as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::board::Board;
use super::pages::rfc3339;
use crate::limits;
use crate::metrics::{self, Metrics};
use crate::overview::{Cluster, Connection, Devices};
use crate::reading::UnixNs;
use crate::wire::error::Code;
use crate::wire::status::DeviceStatus;

impl Cluster {
    /// Its numbers, those of each head apart.
    pub(crate) fn add_to(&self, metrics: &mut Metrics) {
        let up = self.heads.iter().map(|(head, said)| (head.clone(), is(said.is_ok())));
        metrics.each("acopio_head_up", "Whether a head answers", "head", up.collect::<Vec<_>>());
        let reports = || self.heads.iter().filter_map(|(head, said)| Some((head.clone(), said.as_ref().ok()?)));
        let acked = reports().map(|(head, report)| (head, metrics::Value::Counter(report.acked_messages)));
        metrics.each("acopio_messages", "Messages that were acknowledged", "head", acked);
        let refused = reports().flat_map(|(head, report)| {
            Code::ALL.map(|code| {
                let count = report.refused_for.get(code.word()).copied().unwrap_or_default();
                (vec![("head", head.clone()), ("cause", code.word().to_owned())], metrics::Value::Counter(count))
            })
        });
        metrics.family("acopio_refused", "Messages that were refused, by the cause", refused);
        let Ok(report) = self.first() else { return };
        let here = report.nodes.iter().map(|node| (node.name.clone(), true));
        let away = report.members_away.iter().map(|away| (away.name.clone(), false));
        let up: BTreeMap<String, bool> = away.chain(here).collect();
        let up = up.into_iter().map(|(name, up)| (name, is(up)));
        metrics.each("acopio_node_up", "Whether a data node is here", "node", up);
        let written = report.nodes.iter().map(|node| (node.name.clone(), metrics::Value::Counter(node.written)));
        metrics.each("acopio_written_bytes", "Bytes that a data node wrote to its disk", "node", written);
        let free = report.nodes.iter().filter_map(|node| Some((node.name.clone(), node.free?)));
        let free = free.map(|(name, free)| (name, metrics::Value::Gauge(free as f64)));
        metrics.each("acopio_disk_free_bytes", "What may still be written to the disk of a data node", "node", free);
        let short = metrics::Value::Gauge(report.short_of_copies as f64);
        metrics.one("acopio_under_replicated_records", "Records that are short of copies", short);
    }

    /// All of it, for programs and for the page.
    pub(crate) fn json(&self) -> Value {
        let heads = self.heads.iter().map(|(address, said)| match said {
            Ok(report) => json!({
                "address": address, "up": true, "version": report.version, "uptime_s": report.uptime_s,
                "clients": report.clients, "clients_max": report.clients_max, "in_flight": report.in_flight,
                "acked_messages": report.acked_messages, "refused_messages": report.refused_messages,
                "rate_10s": report.rate_10s, "problems": report.problems,
            }),
            Err(cause) => json!({ "address": address, "up": false, "error": cause }),
        });
        json!({
            "cluster": self.first().ok(),
            "heads": heads.collect::<Vec<_>>(),
            "written_per_day": self.written_per_day,
            "alarms": self.alarms(),
        })
    }
}

/// All sources: as a head knows them, and what they said last; what a head can't say is told.
pub(crate) fn sources(devices: &Devices, board: &Board, now: UnixNs) -> Value {
    let mut heard = board.all();
    let mut sources = Vec::new();
    // What ends in a slash is a group that is connected.
    for device in devices.iter().flat_map(|report| &report.devices).filter(|device| !device.name.ends_with('/')) {
        let said = device.name.parse().ok().and_then(|name| heard.remove(&Some(name)));
        let mut source = known(device);
        if let Some(said) = said {
            add(&mut source, &said, now);
        } else if let Some(text) = &device.last_text {
            add_text(&mut source, device, text, board);
        }
        sources.push(source);
    }
    for (name, said) in heard {
        let mut source = json!({ "name": name.map(|name| name.to_string()), "silent": false });
        add(&mut source, &said, now);
        sources.push(source);
    }
    sources.sort_by_key(|source| !(source["silent"] == true || source["out"] == true));
    let (missing, unlisted) = devices.as_ref().map_or((Vec::new(), true), |all| (all.missing.clone(), all.unlisted));
    json!({
        "sources": sources,
        "missing": missing,
        "unlisted": unlisted,
        "away": devices.as_ref().err(),
        "now_ms": now.0 / 1_000_000,
    })
}

/// A connection, for programs and for the page.
pub(crate) fn connection(connection: &Connection) -> Value {
    let Connection { head, client } = connection;
    json!({
        "head": head, "address": client.address.to_string(), "dialect": client.dialect, "name": client.name,
        "since": client.since, "heard_s": client.heard_s, "messages": client.messages, "tls": client.tls,
    })
}

const fn is(true_or_not: bool) -> metrics::Value {
    metrics::Value::Gauge(if true_or_not { 1.0 } else { 0.0 })
}

/// How long ago sources were heard last, of the first so many by name.
pub(crate) fn add_ages(metrics: &mut Metrics, devices: &Devices, board: &Board, now: UnixNs) {
    let mut last: BTreeMap<String, u64> = devices
        .iter()
        .flat_map(|report| &report.devices)
        .filter(|device| device.records > 0)
        .map(|device| (device.name.clone(), device.last_ns))
        .collect();
    for (name, heard) in board.all() {
        let known = last.entry(name.map(|name| name.to_string()).unwrap_or_default()).or_default();
        *known = (*known).max(heard.last.time_ns);
    }
    metrics.one("acopio_sources", "Sources that are known", metrics::Value::Gauge(last.len() as f64));
    let ages = last
        .into_iter()
        .take(limits::METRICS_SOURCES_MAX)
        .map(|(name, last)| (name, metrics::Value::Gauge(now.0.saturating_sub(last) as f64 / 1e9)));
    metrics.each("acopio_source_age_seconds", "Time since a source was heard last", "source", ages);
}

fn known(device: &DeviceStatus) -> Value {
    let DeviceStatus { name, connected, records, today, messages, period_s, silent, heard_s, .. } = device;
    json!({
        "name": name, "connected": connected, "records": records, "today": today, "messages": messages,
        "period_s": period_s, "silent": silent, "heard_s": heard_s,
        "address": device.address.map(|address| address.to_string()), "dialect": device.dialect,
        "last_ms": (*records > 0).then_some(device.last_ns / 1_000_000),
    })
}

fn add(source: &mut Value, said: &super::board::Heard, now: UnixNs) {
    let Some(members) = source.as_object_mut() else { return };
    let more = [
        ("last_ms", (said.last.time_ns / 1_000_000).into()),
        ("last_id", said.last.to_string().into()),
        ("time", rfc3339(said.last).into()),
        ("text", said.text.as_str().into()),
        ("out", said.fields.iter().any(|field| field.out).into()),
        ("fields", json!(said.fields)),
        ("spark", said.spark(now)),
    ];
    members.extend(more.map(|(name, value)| (name.to_owned(), value)));
}

/// What a head heard of a source that said nothing in the last hour.
fn add_text(source: &mut Value, device: &DeviceStatus, text: &str, board: &Board) {
    let Some(members) = source.as_object_mut() else { return };
    let fields = board.fields(device.name.parse().ok(), text.as_bytes(), UnixNs(device.last_ns));
    members.insert("text".to_owned(), super::dato::cut(text, limits::WEB_SOURCE_TEXT_BYTES_MAX).into());
    members.insert("out".to_owned(), fields.iter().any(|field| field.out).into());
    members.insert("fields".to_owned(), json!(fields));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Rules;

    #[test]
    fn sources_are_there_though_no_head_answers() {
        let told = sources(&Err("no answer".to_owned()), &Board::new(Rules::default()), UnixNs(0));
        assert_eq!((&told["away"], told["sources"].as_array().unwrap().len()), (&json!("no answer"), 0));
    }
}
