//! Settings of a head, validated by who builds them. Nothing deeper reads flags or the environment.

use std::path::PathBuf;
use std::time::Duration;

use super::places::Rules;
use crate::clock::Clock;
use crate::daily::Keep;

/// Settings of one head.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder for `registro.log`; created if it is missing.
    pub logs: PathBuf,
    /// How long the files of the registro are kept.
    pub keep_registro: Keep,
    /// Client connections served at the same time.
    pub clients: Rules,
    /// Time after which a peer that is gone without a goodbye is given up.
    pub peer_silence: Duration,
    /// Time between two heartbeats.
    pub heartbeat: Duration,
    /// Whether to send ICMP echoes beside the in-protocol pings.
    pub icmp: bool,
    /// A solo head: the identity of its embedded data node, the only one it takes. It echoes text messages.
    pub solo: Option<u64>,
    /// Name of the cluster, which its data nodes keep with their records.
    pub cluster: String,
    /// Copies that each message is to have, on as many nodes.
    pub replicas: usize,
    /// Copies without which a message is refused.
    pub copies_min: usize,
    /// Most bytes that a data node which speaks text is sent as one message.
    pub text_node_bytes: usize,
    /// The wall clock: ids and log lines show its time.
    pub clock: Clock,
    /// Seed of every random choice: the incarnation, the placement, the client ids of text clients.
    pub seed: u64,
}
