//! What heads told, as the rows of the screen. Pure: paces are handed in. All text of others is visible text from here on.

use std::collections::BTreeMap;

use crate::cli::devices;
use crate::limits::TOP_TEXT_BYTES_MAX;
use crate::overview::Cluster;
use crate::printable;
use crate::reading::{Field, Rules};
use crate::wire::status::{DeviceStatus, DevicesReport, MemberAway, NodeStatus, StatusReport};

/// Silent sources that an alarm names.
const NAMED_MAX: usize = 3;

/// What is shown.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Which cluster, and who said so.
    pub(super) title: String,
    /// How much comes.
    pub(super) rate: String,
    pub(super) nodes: Vec<Node>,
    pub(super) sources: Vec<Source>,
    /// What somebody has to know, the worst first.
    pub(super) alarms: Vec<String>,
}

/// A data node.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) state: String,
    /// It is here and takes messages.
    pub(super) is_well: bool,
    /// Since when it is away.
    pub(super) away_since: Option<String>,
    /// Syncs a second.
    pub(super) syncs: Option<f64>,
    /// Bytes a day.
    pub(super) written: Option<f64>,
    /// Bytes that its disk has left.
    pub(super) free: Option<u64>,
    pub(super) records: u64,
}

/// A source.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// As it is shown.
    pub(super) name: String,
    /// As heads know it.
    pub(super) id: String,
    /// Its last message.
    pub(super) last_id: String,
    /// What that says.
    pub(super) said: String,
    pub(super) heard_s: Option<u64>,
    pub(super) period_s: Option<f64>,
    pub(super) is_silent: bool,
    /// A value lies outside of the range that its rule gives.
    pub(super) is_out: bool,
}

impl Told {
    /// Before anybody answered.
    pub(super) fn asking(heads: &[String]) -> Self {
        Self { title: format!("acopio  asking {}", printable::visible(&heads.join(", "))), ..Self::default() }
    }

    /// What the heads say of the cluster, and which sources one of them knows; syncs a second by the names of data nodes.
    pub(super) fn new(
        cluster: &Cluster,
        devices: Result<&DevicesReport, &str>,
        syncs: &BTreeMap<String, f64>,
        rules: &Rules,
    ) -> Self {
        let known = devices.map(|report| report.devices.as_slice()).unwrap_or_default();
        // What ends in a slash is a group that is connected.
        let known = known.iter().filter(|device| !device.name.ends_with('/'));
        let sources: Vec<Source> = known.map(|device| Source::new(device, devices::fields(device, rules))).collect();
        let mut alarms = cluster.alarms();
        let first = cluster.first();
        if let (Ok(_), Err(cause)) = (&first, devices) {
            alarms.push(format!("nobody says which sources there are: {cause}"));
        }
        if let Ok(DevicesReport { missing, .. }) = devices
            && !missing.is_empty()
        {
            alarms.push(format!("without the sources of {}, which did not answer", missing.join(", ")));
        }
        alarms.extend(silent(&sources));
        alarms.iter_mut().for_each(|alarm| *alarm = printable::visible(alarm).into_owned());
        Self {
            title: first
                .as_ref()
                .map_or_else(|_| "acopio  no head answers".to_owned(), |report| title(report, cluster)),
            rate: rate(cluster),
            nodes: first.map(|report| nodes(report, cluster, syncs)).unwrap_or_default(),
            sources,
            alarms,
        }
    }
}

fn title(report: &StatusReport, cluster: &Cluster) -> String {
    let (here, away) = (report.nodes.len(), report.members_away.len());
    let away = if away > 0 { format!(", {away} away") } else { String::new() };
    let solo = if report.solo { ", solo" } else { "" };
    format!(
        "acopio  cluster {}{solo}  heads {} of {}  data nodes {here}{away}  copies {}  up {}",
        printable::visible(&report.cluster),
        cluster.heads.iter().filter(|(_, said)| said.is_ok()).count(),
        cluster.heads.len(),
        report.replicas,
        devices::short(report.uptime_s as f64),
    )
}

/// The heads together.
fn rate(cluster: &Cluster) -> String {
    let reports = || cluster.heads.iter().filter_map(|(_, said)| said.as_ref().ok());
    let sum = |of: fn(&StatusReport) -> f64| reports().map(of).sum::<f64>();
    let count = |of: fn(&StatusReport) -> u64| reports().map(of).sum::<u64>();
    format!(
        "{:.1} messages/s, {:.1} over ten seconds  {} in flight  {} refused  {} clients",
        sum(|report| report.rate_1s),
        sum(|report| report.rate_10s),
        count(|report| report.in_flight),
        count(|report| report.refused_messages),
        count(|report| report.clients as u64),
    )
}

/// Those that are away first, then those that take nothing, then all by name.
fn nodes(report: &StatusReport, cluster: &Cluster, syncs: &BTreeMap<String, f64>) -> Vec<Node> {
    let here = report.nodes.iter().map(|node| Node::here(node, cluster, syncs));
    let mut nodes: Vec<Node> = report.members_away.iter().map(Node::away).chain(here).collect();
    nodes.sort_by(|one, other| {
        let key = |node: &Node| (node.away_since.is_none(), node.is_well);
        key(one).cmp(&key(other)).then_with(|| one.name.cmp(&other.name))
    });
    nodes
}

impl Node {
    fn here(node: &NodeStatus, cluster: &Cluster, syncs: &BTreeMap<String, f64>) -> Self {
        Self {
            name: printable::visible(&node.name).into_owned(),
            state: printable::visible(&node.state).into_owned(),
            is_well: node.writable && node.state == "disponible",
            away_since: None,
            syncs: syncs.get(&node.name).copied(),
            written: cluster.written_per_day.get(&node.name).copied(),
            free: node.free,
            records: node.records,
        }
    }

    fn away(member: &MemberAway) -> Self {
        Self {
            name: printable::visible(&member.name).into_owned(),
            state: "no disponible".to_owned(),
            away_since: Some(printable::visible(&member.since).into_owned()),
            ..Self::default()
        }
    }
}

impl Source {
    fn new(device: &DeviceStatus, fields: Vec<Field>) -> Self {
        let is_out = fields.iter().any(|field| field.is_out);
        let mut said = devices::said(device, fields);
        said.truncate(said.floor_char_boundary(TOP_TEXT_BYTES_MAX));
        Self {
            name: printable::visible(&device.name).into_owned(),
            id: device.name.clone(),
            last_id: device.last_id.clone(),
            said,
            heard_s: device.heard_s,
            period_s: device.period_s,
            is_silent: device.silent,
            is_out,
        }
    }
}

/// One alarm for all that are silent, and one for all that are out of range.
fn silent(sources: &[Source]) -> Vec<String> {
    let named = |is: fn(&Source) -> bool, what: &str| {
        let names: Vec<&str> = sources.iter().filter(|source| is(source)).map(|source| source.name.as_str()).collect();
        let more = if names.len() > NAMED_MAX { ", ..." } else { "" };
        let first = names.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
        (!names.is_empty()).then(|| format!("{what}: {} of {} sources, {first}{more}", names.len(), sources.len()))
    };
    let silent = named(|source| source.is_silent, "silent for three of their periods");
    silent.into_iter().chain(named(|source| source.is_out, "out of range")).collect()
}
