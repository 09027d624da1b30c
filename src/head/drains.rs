//! Data nodes that persons let go, until that is through.

use std::collections::BTreeSet;

use crate::wire::ledger::NodeId;

/// What persons asked for and what is not through yet.
#[derive(Debug, Default)]
pub(crate) struct Drains {
    /// The nodes that are being drained.
    pub(super) drained: BTreeSet<NodeId>,
    /// Those of which is given up what only they have, once enough of the others know that they are given up.
    pub(super) lost: BTreeSet<NodeId>,
}

impl Drains {
    /// Whether this node is being drained.
    pub(super) fn contains(&self, node: NodeId) -> bool {
        self.drained.contains(&node)
    }
}
