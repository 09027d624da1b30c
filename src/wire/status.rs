//! The status report: what a head tells of itself and its nodes, as JSON in one frame.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// A head's answer to a StatusQuery.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct StatusReport {
    /// The head's version.
    pub version: String,
    /// Name of its cluster; empty from a head that does not tell.
    #[serde(default)]
    pub cluster: String,
    /// The head's incarnation.
    pub incarnation: u32,
    /// Seconds since the head started.
    pub uptime_s: u64,
    /// Whether it keeps the messages itself.
    pub solo: bool,
    /// Clients connected.
    pub clients: usize,
    /// Who they are, if that was asked for: those that have been connected longest, up to a bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected: Option<Vec<ClientStatus>>,
    /// Clients that may be connected.
    pub clients_max: usize,
    /// The data nodes it knows.
    pub nodes: Vec<NodeStatus>,
    /// The data nodes it has known that are away; `no disponible`.
    #[serde(default)]
    pub members_away: Vec<MemberAway>,
    /// The data nodes that speak text and keep records, there or not: no read gives those back.
    #[serde(default)]
    pub text_nodes: Vec<TextNode>,
    /// Messages acknowledged since the start.
    pub acked_messages: u64,
    /// Messages refused since the start.
    pub refused_messages: u64,
    /// How many of them for which cause, those that there were; the words are those of the codes of errors.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused_for: BTreeMap<String, u64>,
    /// Messages accepted and not yet answered.
    pub in_flight: u64,
    /// Copies that each message is to have.
    pub replicas: usize,
    /// Copies without which a message is refused.
    pub copies_min: usize,
    /// Copies of records that are missing on the nodes that are here.
    pub short_of_copies: u64,
    /// Entries that are promised and that no node has which is here, the first of them.
    #[serde(default)]
    pub lacking: Vec<Lacking>,
    /// When the cluster began, and at which head; more than one if clusters met that began apart.
    #[serde(default)]
    pub foundings: Vec<String>,
    /// The ledgers, if that was asked for, up to a bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledgers: Option<Vec<LedgerStatus>>,
    /// Which devices there are; none from a head that has not yet heard of any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<DevicesSummary>,
    /// Why it takes no messages, each with what to do; empty while it does.
    #[serde(default)]
    pub problems: Vec<String>,
    /// Messages acknowledged a second, over the last second.
    pub rate_1s: f64,
    /// Messages acknowledged a second, over the last ten.
    pub rate_10s: f64,
}

/// Entries of a ledger that nobody has.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lacking {
    /// The ledger.
    pub ledger: String,
    /// The first entry.
    pub from: u32,
    /// The first entry behind those.
    pub end: u32,
}

/// A ledger as a head has heard of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LedgerStatus {
    /// Its name.
    pub ledger: String,
    /// Entries below it were let go.
    pub from: u32,
    /// Its end.
    pub end: u32,
    /// It is being written.
    pub open: bool,
    /// How many nodes that are here promise it.
    pub holders: usize,
    /// Copies of entries that are missing.
    pub short: u64,
}

/// A client that has a place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClientStatus {
    /// Address and port it dialled from.
    pub address: SocketAddr,
    /// `framed`, `raw` or `line`; `text` before its first message.
    pub dialect: String,
    /// Its client id, as it stands in records; empty before its first message.
    pub id: String,
    /// What it said of itself: the name of its source, or of a group with a slash behind it, and how it speaks.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Name of its token or certificate; empty where none is asked for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub token: String,
    /// What that lets it do, such as `write,read`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub roles: String,
    /// It speaks TLS.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls: bool,
    /// Since when it is connected, RFC 3339, UTC.
    pub since: String,
    /// Seconds since something was heard of it.
    pub heard_s: u64,
    /// Messages that came from it on this connection.
    pub messages: u64,
}

/// A source, as nodes and a head know it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// Its name; one that ends in a slash is a group that is connected.
    pub name: String,
    /// Somebody is connected to this head as it.
    pub connected: bool,
    /// Where it was seen last by this head.
    pub address: Option<SocketAddr>,
    /// How it speaks; empty if it is not connected.
    pub dialect: String,
    /// Its messages that are kept. With several copies it is their number divided by that of the copies.
    pub records: u64,
    /// When the first of them was taken, RFC 3339, UTC; empty if there is none.
    pub first: String,
    /// Its id.
    pub first_id: String,
    /// When the last of them was taken.
    pub last: String,
    /// Its id.
    pub last_id: String,
    /// The same times in ns since 1970.
    pub first_ns: u64,
    /// The same of the last one.
    pub last_ns: u64,
    /// Seconds since something was heard of it.
    pub heard_s: Option<u64>,
    /// Messages that came by this head since it started.
    pub messages: u64,
    /// Its messages that came by this head today, UTC, or since it started.
    #[serde(default)]
    pub today: u64,
    /// Its last message, if that came by this head and is short.
    #[serde(default)]
    pub last_text: Option<String>,
    /// How often it speaks, seconds: the median of the last times, as far as they came by this head; else the mean.
    pub period_s: Option<f64>,
    /// It was heard last more than three of its periods ago.
    pub silent: bool,
}

/// How many devices there are, and who is silent.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DevicesSummary {
    /// All that have said a name.
    pub known: u64,
    /// Those of them that are connected to this head.
    pub here: u64,
    /// Those that were heard last more than three of their periods ago.
    pub silent: u64,
    /// The last of these to fall silent, who has been so longest first.
    pub last_silent: Vec<SilentDevice>,
    /// There are more than are counted here, or a data node did not answer in time.
    pub is_partial: bool,
}

/// A device that is silent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SilentDevice {
    /// Its name.
    pub name: String,
    /// Seconds since something was heard of it.
    pub heard_s: u64,
}

/// Some of the sources.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct DevicesReport {
    /// In the order of names.
    pub devices: Vec<DeviceStatus>,
    /// The name behind which there are more.
    pub next: Option<String>,
    /// There are more sources than nodes count.
    pub unlisted: bool,
    /// Nodes that did not answer.
    pub missing: Vec<String>,
    /// Since when `today` counts, RFC 3339, UTC.
    #[serde(default)]
    pub today_since: String,
    /// Copies of each message.
    pub copies: usize,
}

/// A data node that a head has known and that is away.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MemberAway {
    /// Its name.
    pub name: String,
    /// Its identity in text.
    pub id: String,
    /// Since when it is away, RFC 3339, UTC.
    pub since: String,
}

/// What a data node that speaks text keeps.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TextNode {
    /// How it speaks, and its address.
    pub name: String,
    /// Messages that it acknowledged.
    pub records: u64,
}

/// How a node speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeDialect {
    /// Frames.
    Framed,
    /// As in the original.
    Raw,
    /// Lines.
    Line,
}

/// What is not said where there is none.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
const fn is_none(count: &u64) -> bool {
    *count == 0
}

/// A data node as its head sees it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name; for a node that gives none, its address.
    pub name: String,
    /// Its address.
    pub ip: IpAddr,
    /// The port it dialled from.
    pub port: u16,
    /// Its identity in text; empty for a text node.
    pub id: String,
    /// How it speaks.
    pub dialect: NodeDialect,
    /// `disponible`, `solo lectura`, `vaciando`, `saliendo` or `sin respuesta`.
    pub state: String,
    /// Since when it is registered, RFC 3339, UTC.
    pub since: String,
    /// Records it keeps, by its own account.
    pub records: u64,
    /// Bytes of its log, by its own account.
    pub bytes: u64,
    /// Syncs of its files since it started, by its own account.
    #[serde(default)]
    pub syncs: u64,
    /// Bytes it wrote to its disk since it started, by its own account.
    #[serde(default)]
    pub written: u64,
    /// Bytes that may still be written to its disk, by its own account; none where it tells nothing.
    #[serde(default)]
    pub free: Option<u64>,
    /// Whether it takes messages.
    pub writable: bool,
    /// Why it gets none, or empty: it can't write, or the others have to note first that it came in.
    pub reason: String,
    /// Messages sent to it and not yet answered.
    pub in_flight: u64,
    /// Messages it acknowledged on this connection.
    pub acked: u64,
    /// Its sync setting: `always`, `interval`, `never`; empty if it gave none.
    pub sync: String,
    /// Time of the last in-protocol ping, milliseconds.
    pub ping_ms: Option<f64>,
    /// Whether it answers ICMP; none if nobody asked.
    pub icmp: Option<bool>,
    /// Records that it sent on this connection and that no head of the cluster took: they are passed on to nobody.
    #[serde(default, skip_serializing_if = "is_none")]
    pub refused_records: u64,
}
