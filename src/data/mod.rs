//! The data node: keeps the records that heads hand it in a folder of readable text files.
//!
//! `record` is one line, `storage` what the log needs of a disk, `log` the files (`opening` and `segments` belong to
//! it), `recover` the scan that finds out what is whole, `folder` the directory's lock and identity.
//! `docs/data-log.md` is the contract of the files.

pub mod folder;
pub mod log;
pub mod opening;
pub mod record;
pub mod recover;
pub mod segments;
pub mod storage;

#[cfg(any(test, feature = "simulation"))]
pub mod simulated;

#[cfg(test)]
mod model_tests;
