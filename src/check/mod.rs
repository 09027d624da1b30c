//! Checks on a cluster from outside: what its files hold, and whether it keeps its promises.
//!
//! `verify` reads one data folder, `across` compares several, `audit` compares them with the registros of the heads;
//! `torture` fails a cluster on purpose, `bench` measures one.
//! The rest is what they are made of: `sort` orders more than fits in memory, `copies` and `promises` are its entries,
//! group by group, `registro` reads a line, `let_go` knows what is gone on purpose, `sources` finds files, `ahead` reads them.

pub(crate) mod across;
mod ahead;
pub(crate) mod audit;
#[cfg(feature = "lab")]
pub(crate) mod bench;
mod copies;
#[cfg(feature = "docker")]
pub(crate) mod drill;
mod let_go;
mod promises;
mod registro;
pub(crate) mod sort;
pub(crate) mod sources;
#[cfg(feature = "lab")]
pub(crate) mod torture;
pub(crate) mod verify;

#[cfg(test)]
mod audit_tests;
