//! Who asked for copies that are on their way.

use std::collections::BTreeMap;

/// A question that was passed on: to whom the answer goes, and under which number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    pub(super) serial: u64,
    pub(super) request: u32,
}

/// Questions that were passed on, by the node that was asked and the number of the question there.
#[derive(Debug, Default)]
pub(crate) struct Relay {
    pub(super) next: u32,
    pub(super) open: BTreeMap<(u64, u32), Asker>,
}
