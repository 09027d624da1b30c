//! What heads say of the cluster and of sources, from a moment ago at most, and what follows from it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::board::Board;
use super::pages::rfc3339;
use crate::client::Asker;
use crate::metrics::{self, Metrics};
use crate::reading::UnixNs;
use crate::wire::status::{DeviceStatus, DevicesReport, NodeStatus, StatusReport};
use crate::{limits, net};

/// What all heads say.
#[derive(Debug)]
pub(crate) struct Cluster {
    heads: Vec<(String, Result<StatusReport, String>)>,
    /// Bytes that each data node writes in a day, at its pace of now.
    written_per_day: BTreeMap<String, f64>,
}

/// Which sources there are, or why nobody says so.
pub(crate) type Devices = Result<Arc<DevicesReport>, String>;

/// Asks heads, and remembers for a moment what they said.
#[derive(Debug)]
pub(crate) struct Heads {
    heads: net::Heads,
    cluster: Mutex<Option<(Instant, Arc<Cluster>)>>,
    devices: Mutex<Option<(Instant, Devices)>>,
    paces: std::sync::Mutex<Paces>,
}

impl Heads {
    /// Of these, none of which was asked yet.
    pub(crate) fn new(heads: net::Heads) -> Self {
        Self { heads, cluster: Mutex::default(), devices: Mutex::default(), paces: std::sync::Mutex::default() }
    }

    /// What all of them say.
    pub(crate) async fn cluster(&self) -> Arc<Cluster> {
        let mut known = self.cluster.lock().await;
        match &*known {
            Some((when, cluster)) if when.elapsed() < limits::WEB_STATUS_FRESH => Arc::clone(cluster),
            _ => {
                let heads = self.ask_all().await;
                let now = Instant::now();
                let mut paces = self.paces.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let nodes = heads.iter().filter_map(|(_, said)| said.as_ref().ok()).flat_map(|report| &report.nodes);
                let written_per_day = nodes.filter_map(|node| Some((node.name.clone(), paces.of(node, now)?)));
                let cluster = Arc::new(Cluster { written_per_day: written_per_day.collect(), heads });
                *known = Some((now, Arc::clone(&cluster)));
                cluster
            }
        }
    }

    async fn ask_all(&self) -> Vec<(String, Result<StatusReport, String>)> {
        let heads = self.heads.now();
        let mut asked = JoinSet::new();
        for (place, head) in heads.iter().cloned().enumerate() {
            let asker = Asker::over(self.heads.access());
            asked.spawn(async move {
                let said = match timeout(limits::WEB_STATUS_TIME_MAX, asker.status(&head)).await {
                    Ok(said) => said.map_err(|error| error.to_string()),
                    Err(_) => Err(format!("head {head}: no answer; see that it runs")),
                };
                (place, head, said)
            });
        }
        let mut said = asked.join_all().await;
        said.sort_by_key(|(place, ..)| *place);
        said.into_iter().map(|(_, head, said)| (head, said)).collect()
    }

    /// Which sources there are, as the first head says that answers.
    pub(crate) async fn devices(&self) -> Devices {
        let mut known = self.devices.lock().await;
        match &*known {
            Some((when, said)) if when.elapsed() < limits::WEB_STATUS_FRESH => said.clone(),
            _ => {
                let (asker, mut causes, mut found) = (Asker::over(self.heads.access()), Vec::new(), None);
                for head in self.heads.now().iter() {
                    match timeout(limits::WEB_STATUS_TIME_MAX, asker.devices(head)).await {
                        Ok(Ok(report)) => {
                            found = Some(Arc::new(report));
                            break;
                        }
                        Ok(Err(error)) => causes.push(error.to_string()),
                        Err(_) => causes.push(format!("head {head}: no answer; see that it runs")),
                    }
                }
                let said = found.ok_or_else(|| causes.join("; "));
                *known = Some((Instant::now(), said.clone()));
                said
            }
        }
    }
}

impl Cluster {
    /// What the first head says that answers.
    ///
    /// # Errors
    /// What each of them did, if none answers.
    pub(crate) fn first(&self) -> Result<&StatusReport, String> {
        let first = self.heads.iter().find_map(|(_, said)| said.as_ref().ok());
        let causes = || self.heads.iter().filter_map(|(_, said)| said.as_ref().err().cloned()).collect::<Vec<_>>();
        first.ok_or_else(|| causes().join("; "))
    }

    /// Its numbers, those of each head apart.
    pub(crate) fn add_to(&self, metrics: &mut Metrics) {
        let up = self.heads.iter().map(|(head, said)| (head.clone(), is(said.is_ok())));
        metrics.each("acopio_head_up", "Whether a head answers", "head", up.collect::<Vec<_>>());
        let reports = || self.heads.iter().filter_map(|(head, said)| Some((head.clone(), said.as_ref().ok()?)));
        let acked = reports().map(|(head, report)| (head, metrics::Value::Counter(report.acked_messages)));
        metrics.each("acopio_messages", "Messages that were acknowledged", "head", acked);
        let refused = reports().map(|(head, report)| (head, metrics::Value::Counter(report.refused_messages)));
        metrics.each("acopio_refused", "Messages that were refused", "head", refused);
        let Ok(report) = self.first() else { return };
        let here = report.nodes.iter().map(|node| (node.name.clone(), true));
        let away = report.members_away.iter().map(|away| (away.name.clone(), false));
        let up: BTreeMap<String, bool> = away.chain(here).collect();
        let up = up.into_iter().map(|(name, up)| (name, is(up)));
        metrics.each("acopio_node_up", "Whether a data node is here", "node", up);
        let written = report.nodes.iter().map(|node| (node.name.clone(), metrics::Value::Counter(node.written)));
        metrics.each("acopio_written_bytes", "Bytes that a data node wrote to its disk", "node", written);
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

    /// What somebody has to know, the worst first.
    pub(crate) fn alarms(&self) -> Vec<String> {
        let mut alarms: Vec<String> = self.heads.iter().filter_map(|(_, said)| said.as_ref().err().cloned()).collect();
        let Ok(report) = self.first() else { return alarms };
        alarms.extend(report.problems.iter().map(|problem| format!("no message is taken: {problem}")));
        if !report.solo && !report.nodes.iter().any(|node| node.writable) {
            alarms.push("no hay dataNodes: none takes messages; start one, or mend those there are".to_owned());
        }
        if !report.lacking.is_empty() {
            alarms.push("records that were acknowledged are on no data node that is here".to_owned());
        }
        alarms.extend(report.members_away.iter().map(|away| {
            let means = match report.copies_min {
                0 | 1 => "what only it keeps cannot be read until it is back",
                _ => "its records have copies elsewhere, which are made anew if it stays away",
            };
            format!("data node {} is away since {}: {means}; start it again", away.name, away.since)
        }));
        let nodes = report.nodes.iter().filter(|node| !node.writable && !node.reason.is_empty());
        alarms.extend(nodes.map(|node| format!("data node {} takes no messages: {}", node.name, node.reason)));
        if report.short_of_copies > 0 {
            alarms.push(format!("{} records are short of copies", report.short_of_copies));
        }
        alarms
    }
}

/// How fast data nodes write.
#[derive(Debug, Default)]
struct Paces(BTreeMap<String, Pace>);

/// What a node had written when, and the pace that was measured before that.
#[derive(Clone, Copy, Debug)]
struct Pace {
    written: u64,
    at: Instant,
    before: Option<f64>,
}

impl Paces {
    /// Bytes a day of this node, once it is known.
    fn of(&mut self, node: &NodeStatus, now: Instant) -> Option<f64> {
        let fresh = Pace { written: node.written, at: now, before: None };
        if !self.0.contains_key(&node.name) && self.0.len() >= limits::WEB_PACES_MAX {
            return None;
        }
        let pace = self.0.entry(node.name.clone()).or_insert(fresh);
        let Some(written) = node.written.checked_sub(pace.written) else {
            // It was started again.
            *pace = fresh;
            return None;
        };
        let time = now.duration_since(pace.at);
        if time < limits::WEB_PACE_TIME_MIN {
            return pace.before;
        }
        let per_day = written as f64 / time.as_secs_f64() * Duration::from_secs(86_400).as_secs_f64();
        if time >= limits::WEB_PACE_TIME_MAX {
            *pace = Pace { before: Some(per_day), ..fresh };
        }
        Some(per_day)
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

    fn node(written: u64) -> NodeStatus {
        serde_json::from_value(json!({
            "name": "data1", "ip": "127.0.0.1", "port": 1, "id": "", "dialect": "framed", "state": "disponible",
            "since": "", "records": 0, "bytes": 0, "written": written, "writable": true, "reason": "", "in_flight": 0,
            "acked": 0, "sync": "always", "ping_ms": null, "icmp": null,
        }))
        .unwrap()
    }

    #[test]
    fn a_pace_is_known_once_it_was_measured_and_survives_a_restart_of_the_node() {
        let (mut paces, begun) = (Paces::default(), Instant::now());
        let at = |second| begun + Duration::from_secs(second);
        assert_eq!(paces.of(&node(5000), at(0)), None);
        assert_eq!(paces.of(&node(6000), at(5)), None, "too short");
        assert_eq!(paces.of(&node(7000), at(20)), Some(100.0 * 86_400.0));
        assert_eq!(paces.of(&node(10), at(30)), None, "it began anew");
        assert_eq!(paces.of(&node(1010), at(40)), Some(100.0 * 86_400.0));
        assert_eq!(paces.of(&node(1010 + 3600), at(30 + 3600)).map(|pace| pace > 86_400.0), Some(true));
        assert!(paces.of(&node(1010 + 3600), at(31 + 3600)).is_some(), "what was measured before holds meanwhile");
    }

    #[test]
    fn alarms_say_what_is_wrong_and_what_to_do() {
        let away = |heads| Cluster { heads, written_per_day: BTreeMap::new() };
        let report = StatusReport {
            members_away: vec![crate::wire::status::MemberAway {
                name: "data2".to_owned(),
                id: String::new(),
                since: "2026-11-21T04:11:00Z".to_owned(),
            }],
            copies_min: 2,
            short_of_copies: 7,
            nodes: vec![node(1)],
            ..StatusReport::default()
        };
        let cluster = away(vec![
            ("h1:5000".to_owned(), Err("head h1:5000: no answer; see that it runs".to_owned())),
            ("h2:5000".to_owned(), Ok(report)),
        ]);
        let alarms = cluster.alarms();
        assert_eq!(alarms.len(), 3, "{alarms:?}");
        assert!(alarms[0].starts_with("head h1:5000"));
        assert!(alarms[1].contains("data2 is away since 2026-11-21T04:11:00Z: its records have copies"), "{alarms:?}");
        assert!(alarms[2].starts_with("7 records"));
        assert!(cluster.first().is_ok() && away(Vec::new()).first().is_err());
    }

    #[test]
    fn sources_are_there_though_no_head_answers() {
        let told = sources(&Err("no answer".to_owned()), &Board::new(Rules::default()), UnixNs(0));
        assert_eq!((&told["away"], told["sources"].as_array().unwrap().len()), (&json!("no answer"), 0));
    }
}
