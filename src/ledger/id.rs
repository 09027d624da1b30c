//! Names of identities, of ledgers and of their entries, as the wire and the files have them.

pub(crate) use crate::wire::ledger::{Incarnation, LedgerId, NUMBER_END as ENTRIES_MAX, NodeId};
