//! Ledgers: who keeps what, and how far a read is complete. Decisions alone, without I/O, clocks and randomness.
//!
//! `docs/protocol.md` has the two rules, their proof and the literature. `kept` is the node's side, `writing` and `plan` the
//! writing head's, `heard` a head's decisions about what it heard, `reading` when a read is complete. `roster` are the
//! identities that count, `held` what a node says of a ledger, `note` what it writes down, `entries` a set of numbers, `frames`
//! and `text` how all of it is said on the wire and in files.

pub(crate) mod entries;
pub(crate) mod frames;
pub(crate) mod heard;
pub(crate) mod held;
pub(crate) mod id;
pub(crate) mod kept;
pub(crate) mod note;
pub(crate) mod plan;
pub(crate) mod planted;
pub(crate) mod reading;
pub(crate) mod roster;
pub(crate) mod text;
pub(crate) mod writing;

#[cfg(test)]
mod walks;
