//! Settings of a head, validated by who builds them. Nothing deeper reads flags or the environment.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::gate::Gate;
use super::grants::Admits;
use super::guests::Rules;
use super::marks::Records;
use super::shares::Share;
use crate::clock::Clock;
use crate::daily::Keep;
use crate::net::tls::served::Certificates;
use crate::wire::ledger::NodeId;

/// Settings of one head.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Folder for `registro.log`; created if it is missing.
    pub(crate) logs: PathBuf,
    /// Names for addresses, if there may be a file of them.
    pub(crate) names: Option<PathBuf>,
    /// How long the files of the registro are kept.
    pub(crate) keep_registro: Keep,
    /// Client connections served at the same time.
    pub(crate) clients: Rules,
    /// Time after which a peer that is gone without a goodbye is given up.
    pub(crate) peer_silence: Duration,
    /// Time between two heartbeats.
    pub(crate) heartbeat: Duration,
    /// Whether to send ICMP echoes beside the in-protocol pings.
    pub(crate) icmp: bool,
    /// A solo head: the identity of its embedded data node, the only one it takes, once that is known. It echoes text
    /// messages.
    pub(crate) solo: Option<Arc<OnceLock<NodeId>>>,
    /// Whom it lets in as clients.
    pub(crate) admits: Admits,
    /// How much each of them may send.
    pub(crate) share: Share,
    /// How it speaks TLS, if it does.
    pub(crate) secured: Option<Certificates>,
    /// Who has to prove that it has the cluster's key.
    pub(crate) gate: Gate,
    /// With what it marks and checks records; none if it has no key.
    pub(crate) records: Option<Records>,
    /// The file of the cluster's keys, which is read anew when it changes; none if they stay.
    pub(crate) key_file: Option<PathBuf>,
    /// Name of the cluster, which its data nodes keep with their records.
    pub(crate) cluster: String,
    /// Copies that each message is to have, on as many nodes.
    pub(crate) replicas: usize,
    /// Copies without which a message is refused.
    pub(crate) copies_min: usize,
    /// Time that a data node may be away before what it holds is copied elsewhere.
    pub(crate) repair_after: Duration,
    /// Most bytes that a data node which speaks text is sent as one message.
    pub(crate) text_node_bytes: usize,
    /// The wall clock: ids and log lines show its time.
    pub(crate) clock: Clock,
    /// Seed of every random choice: the incarnation, the placement, the client ids of text clients.
    pub(crate) seed: u64,
}
