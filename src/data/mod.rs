//! The data node: keeps the records that heads hand it in a folder of readable text files.
//!
//! `record` is one line, `storage` what the log needs of a disk, `log` the files, `recover` the scan that finds out
//! what is whole, `folder` the directory's lock and identity. `docs/data-log.md` is the contract of the files.

pub mod record;
pub mod recover;
pub mod storage;
