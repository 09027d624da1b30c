//! What all tasks of one data node share.

use std::rc::Rc;

use tokio::sync::Semaphore;

use super::commit::Commit;
use super::config::Config;
use super::desk::Desk;
use super::fetching::Fetching;
use super::membership::Membership;
use super::rot::Rot;
use super::scans::Scans;
use tokio_util::sync::CancellationToken;

/// A running data node, for its sessions.
pub(crate) struct Node {
    /// Settings.
    pub(crate) config: Config,
    /// What it is to its cluster.
    pub(crate) membership: Rc<Membership>,
    /// What it keeps and promises.
    pub(crate) desk: Rc<Desk>,
    /// The front of its log.
    pub(crate) commit: Rc<Commit>,
    /// What reads its records.
    pub(crate) scans: Rc<Scans>,
    /// What it fetches.
    pub(crate) fetching: Rc<Fetching>,
    /// Rotten lines that are known.
    pub(crate) rot: Rc<Rot>,
    /// Pages that may be made at the same time.
    pub(crate) making: Semaphore,
    /// It left the cluster, and ends.
    pub(crate) drained: CancellationToken,
}
