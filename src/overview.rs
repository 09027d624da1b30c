//! What the heads of a cluster say together, from a moment ago at most, and what somebody has to know of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::client::Asker;
use crate::wire::status::{ClientStatus, DevicesReport, StatusReport};
use crate::{limits, net};

/// What all heads say.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) heads: Vec<(String, Result<StatusReport, String>)>,
    /// Bytes that each data node writes in a day, at its pace of now.
    pub(crate) written_per_day: BTreeMap<String, f64>,
}

/// Which sources there are, or why nobody says so.
pub(crate) type Devices = Result<Arc<DevicesReport>, String>;

/// A client that is connected to a head.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    /// The head, as it was asked.
    pub(crate) head: String,
    /// What it says of the client.
    pub(crate) client: ClientStatus,
}

impl Connection {
    /// Whether it said this name, or that of a group with a slash behind it that the name is of.
    fn is_of(&self, source: &str) -> bool {
        let name = self.client.name.split(' ').next().unwrap_or_default();
        name == source || name.ends_with('/') && source.starts_with(name)
    }
}

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
        let paces = Paces::new(limits::WEB_PACE_TIME_MIN, limits::WEB_PACE_TIME_MAX);
        Self { heads, cluster: Mutex::default(), devices: Mutex::default(), paces: std::sync::Mutex::new(paces) }
    }

    /// What all of them say.
    pub(crate) async fn cluster(&self) -> Arc<Cluster> {
        let mut known = self.cluster.lock().await;
        match &*known {
            Some((when, cluster)) if when.elapsed() < limits::WEB_STATUS_FRESH => Arc::clone(cluster),
            _ => {
                let heads = self.ask_all(false).await;
                let now = Instant::now();
                let mut paces = self.paces.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let nodes = heads.iter().filter_map(|(_, said)| said.as_ref().ok()).flat_map(|report| &report.nodes);
                let per_day = |pace: f64| pace * Duration::from_secs(86_400).as_secs_f64();
                let written_per_day = nodes
                    .filter_map(|node| Some((node.name.clone(), per_day(paces.of(&node.name, node.written, now)?))));
                let cluster = Arc::new(Cluster { written_per_day: written_per_day.collect(), heads });
                *known = Some((now, Arc::clone(&cluster)));
                cluster
            }
        }
    }

    /// Who is connected as a source, or as a group that it is of; what a head can't say is left out.
    pub(crate) async fn connections(&self, source: &str) -> Vec<Connection> {
        let said = self.ask_all(true).await;
        let of = |(head, said): (String, Result<StatusReport, String>)| {
            let clients = said.ok().and_then(|report| report.connected).unwrap_or_default();
            clients.into_iter().map(move |client| Connection { head: head.clone(), client })
        };
        said.into_iter().flat_map(of).filter(|connection| connection.is_of(source)).collect()
    }

    async fn ask_all(&self, clients: bool) -> Vec<(String, Result<StatusReport, String>)> {
        let heads = self.heads.now();
        let mut asked = JoinSet::new();
        for (place, head) in heads.iter().cloned().enumerate() {
            let asker = Asker::over(self.heads.access());
            asked.spawn(async move {
                let report =
                    async { if clients { asker.status_with_clients(&head).await } else { asker.status(&head).await } };
                let said = match timeout(limits::WEB_STATUS_TIME_MAX, report).await {
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
            // One whose folder was lost starts as another one of its name.
            let is_replaced = report.nodes.iter().any(|node| node.name == away.name);
            let act = match (is_replaced, report.copies_min) {
                (false, _) => "start it again".to_owned(),
                (true, 0 | 1) => format!(
                    "another one of its name is here; if its folder is lost, give it up with 'acopio drain {} --gone --lose'",
                    away.name
                ),
                (true, _) => format!(
                    "another one of its name is here; if its folder is lost, give it up with 'acopio drain {} --gone'",
                    away.name
                ),
            };
            format!("data node {} is away since {}: {means}; {act}", away.name, away.since)
        }));
        let nodes = report.nodes.iter().filter(|node| !node.writable && !node.reason.is_empty());
        alarms.extend(nodes.map(|node| format!("data node {} takes no messages: {}", node.name, node.reason)));
        let forging = report.nodes.iter().filter(|node| node.refused_records > 0);
        alarms.extend(forging.map(|node| {
            let count = node.refused_records;
            format!(
                "data node {} sent {count} records that no head of this cluster took, and nobody gets them: check its folder with \
                 'acopio verify --key', and drain it",
                node.name
            )
        }));
        if report.short_of_copies > 0 {
            alarms.push(format!("{} records are short of copies", report.short_of_copies));
        }
        alarms
    }
}

/// How fast counters of data nodes grow.
#[derive(Debug)]
pub(crate) struct Paces {
    /// Least time that a pace is measured over.
    least: Duration,
    /// Time after which it is measured anew.
    most: Duration,
    known: BTreeMap<String, Pace>,
}

/// What a node had counted when, and the pace that was measured before that.
#[derive(Clone, Copy, Debug)]
struct Pace {
    count: u64,
    at: Instant,
    before: Option<f64>,
}

impl Paces {
    /// None measured yet.
    pub(crate) const fn new(least: Duration, most: Duration) -> Self {
        Self { least, most, known: BTreeMap::new() }
    }

    /// How much this node counts in a second, once it is known.
    pub(crate) fn of(&mut self, node: &str, count: u64, now: Instant) -> Option<f64> {
        let fresh = Pace { count, at: now, before: None };
        if !self.known.contains_key(node) && self.known.len() >= limits::WEB_PACES_MAX {
            return None;
        }
        let pace = self.known.entry(node.to_owned()).or_insert(fresh);
        let Some(counted) = count.checked_sub(pace.count) else {
            // It was started again.
            *pace = fresh;
            return None;
        };
        let time = now.duration_since(pace.at);
        if time < self.least {
            return pace.before;
        }
        let per_second = counted as f64 / time.as_secs_f64();
        if time >= self.most {
            *pace = Pace { before: Some(per_second), ..fresh };
        }
        Some(per_second)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::status::NodeStatus;

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
        let (mut paces, begun) = (Paces::new(Duration::from_secs(10), Duration::from_secs(3600)), Instant::now());
        let mut of = |count, second| paces.of("data1", count, begun + Duration::from_secs(second));
        assert_eq!(of(5000, 0), None);
        assert_eq!(of(6000, 5), None, "too short");
        assert_eq!(of(7000, 20), Some(100.0));
        assert_eq!(of(10, 30), None, "it began anew");
        assert_eq!(of(1010, 40), Some(100.0));
        assert_eq!(of(1010 + 3600, 30 + 3600).map(|pace| pace > 1.0), Some(true));
        assert!(of(1010 + 3600, 31 + 3600).is_some(), "what was measured before holds meanwhile");
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
        assert!(alarms[1].ends_with("; start it again"), "{alarms:?}");
        assert!(alarms[2].starts_with("7 records"));
        assert!(cluster.first().is_ok() && away(Vec::new()).first().is_err());

        let wiped = StatusReport {
            members_away: vec![crate::wire::status::MemberAway {
                name: "data1".to_owned(),
                id: String::new(),
                since: String::new(),
            }],
            copies_min: 1,
            nodes: vec![node(1)],
            ..StatusReport::default()
        };
        let alarms = away(vec![("h1:5000".to_owned(), Ok(wiped))]).alarms();
        assert!(alarms[0].ends_with("give it up with 'acopio drain data1 --gone --lose'"), "{alarms:?}");
    }
}
