//! Checks on a cluster from outside: what its files hold, and whether it keeps its promises.
//!
//! `verify` reads one data folder, `across` says whether several are complete and agree, `audit` compares them with the
//! registros of the heads; `torture` fails a cluster on purpose, `bench` measures one.
//! The rest is what they are made of: `sort` orders more than fits in memory, `copies` and `promises` are its entries,
//! group by group, `sources` finds files, `folders` reads their records as a reader does.

pub(crate) mod across;
pub(crate) mod audit;
#[cfg(feature = "lab")]
pub(crate) mod bench;
mod copies;
#[cfg(feature = "docker")]
pub(crate) mod drill;
pub(crate) mod folders;
mod promises;
pub(crate) mod sort;
pub(crate) mod sources;
#[cfg(feature = "lab")]
pub(crate) mod torture;
pub(crate) mod verify;

#[cfg(test)]
mod audit_tests;
