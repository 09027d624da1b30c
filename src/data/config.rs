//! Settings of a data node, validated by who builds them.

use std::net::IpAddr;
use std::path::PathBuf;

use super::log::SyncPolicy;

/// Settings of one data node.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of the records; created if it is missing.
    pub dir: PathBuf,
    /// Its name at the heads, unique among their nodes.
    pub name: String,
    /// The heads it registers with, `host:port` each.
    pub heads: Vec<String>,
    /// Local address to dial from.
    pub bind: Option<IpAddr>,
    /// When records are synced.
    pub sync: SyncPolicy,
    /// Size at which `data.txt` is sealed, bytes.
    pub segment_bytes: u64,
    /// Seed of its random choices: the identity of a new folder, and the jitter of its waits.
    pub seed: u64,
}
