//! A ledger that this head writes, and the batches that are in flight in it.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::ledger::writing::Writing;
use crate::wire::ledger::NodeId;

/// An open ledger.
#[derive(Debug)]
pub(super) struct OpenLedger {
    /// What its members acknowledged.
    pub(super) writing: Writing,
    /// Its members.
    pub(super) members: Rc<[NodeId]>,
    /// The places of its members in the table of nodes, in the same order.
    pub(super) places: Vec<usize>,
    /// Batches that are not settled, in the order of their entries.
    pub(super) flights: VecDeque<usize>,
    /// It takes nothing new: it is closed once it is settled.
    pub(super) ends: bool,
}
