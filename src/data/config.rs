//! Settings of a data node, validated by who builds them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use super::log::SyncPolicy;
use super::retention::Policy;
use crate::clock::Clock;
use crate::key::Nonces;
use crate::key::file::NodeKey;
use crate::metrics::door::Door;
use crate::net::{Heads, Net};
use crate::wire::ledger::NodeId;

/// Settings of one data node.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Folder of the records; created if it is missing.
    pub(crate) dir: PathBuf,
    /// Its name at the heads, unique among their nodes.
    pub(crate) name: String,
    /// The heads it registers with, `host:port` each.
    pub(crate) heads: Heads,
    /// Local address to dial from.
    pub(crate) bind: Option<IpAddr>,
    /// What it proves to heads that it belongs to their cluster with, and asks them to prove; nothing if there is none.
    pub(crate) key: Option<NodeKey>,
    /// Where its nonces come from.
    pub(crate) nonces: Nonces,
    /// How it dials.
    pub(crate) net: Net,
    /// When records are synced.
    pub(crate) sync: SyncPolicy,
    /// Size at which `data.txt` is sealed, bytes.
    pub(crate) segment_bytes: u64,
    /// How fast what is lacking is fetched.
    pub(crate) repair: super::fetching::Settings,
    /// How long records are kept.
    pub(crate) retention: Policy,
    /// The wall clock that ages are told by.
    pub(crate) clock: Clock,
    /// Give the folder a new identity, whatever it had: its log was lost, or it is a copy.
    pub(crate) new_id: bool,
    /// The system's run, as [`boot_id`](super::start::boot_id) tells it.
    pub(crate) boot: String,
    /// Note how far files are synced, for who cuts its power as an exercise.
    pub(crate) notes_syncs: bool,
    /// Told the node's identity once its folder is open.
    pub(crate) identity: Option<Arc<OnceLock<NodeId>>>,
    /// For who watches it, over HTTP.
    pub(crate) http: Option<Door>,
    /// Seed of its random choices: the identity of a new folder, and the jitter of its waits.
    pub(crate) seed: u64,
}
