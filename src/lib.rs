//! acopio: a storage cluster for messages and measurements that arrive over plain TCP.
//!
//! A *head* listens on one port, gives every message an id and a random data node, and answers when it is kept. A *data
//! node* appends what it is sent to a readable `data.txt`, syncs it, and acknowledges. A *client* is anything with a
//! socket; [`client`] is the library that also goes on when a head is lost.
//!
//! What others build on is [`client`], [`reading`] (numbers and times out of payloads), [`wire`] (the words on the wire, and
//! how a record stands in a file), `coord`
//! (recipes over ZooKeeper) and [`limits`]. Heads and data nodes are run by the command `acopio`.
//!
//! # A message's way
//!
//! Client socket → `wire` decodes → `head::core` gives an id and chooses nodes → a Put in the node's queue → the node's
//! commit buffer → one append and one `fdatasync` for all that waits → a range is acknowledged → the registro's line →
//! the answer. Every queue on it has a bound in `limits`, and a full one stops the read before it.
//!
//! # The modules
//!
//! `wire` imports nobody: no socket, no clock, no file. `head`, `data` and `client` speak it and never import each other;
//! `net`, `tokens`, `reload`, `clock`, `daily`, `lock`, `files` and `printable` are the small things they share. `web`, `device`, `broker` and
//! `collect` use the client library alone; `overview` is what heads say together. `check` reads what data nodes wrote, offline; `cluster` runs whole clusters on one
//! machine, as processes or in containers. `cli` is the command line: nothing else reads flags or the environment.
//! `ARCHITECTURE.md`, `docs/wire.md`, `docs/data-log.md` and `docs/logs.md` are the pages beside this one.

// What a part of the features leaves unused says nothing of the whole.
#![cfg_attr(
    not(all(
        feature = "lab",
        feature = "docker",
        feature = "broker",
        feature = "web",
        feature = "top",
        feature = "device"
    )),
    allow(dead_code, unused_imports, unreachable_pub)
)]

#[cfg(feature = "server")]
mod authority;
#[cfg(feature = "broker")]
mod broker;
#[cfg(feature = "server")]
mod check;
#[cfg(feature = "server")]
mod cli;
#[cfg(feature = "client")]
pub mod client;
mod clock;
#[cfg(feature = "server")]
mod cluster;
#[cfg(feature = "server")]
mod collect;
#[cfg(feature = "coord")]
pub mod coord;
#[cfg(feature = "server")]
mod daily;
#[cfg(feature = "server")]
mod data;
#[cfg(feature = "device")]
mod device;
#[cfg(feature = "server")]
mod files;
#[cfg(feature = "server")]
mod head;
#[cfg(feature = "keys")]
pub mod key;
#[cfg(feature = "server")]
mod ledger;
pub mod limits;
#[cfg(feature = "server")]
mod lock;
#[cfg(feature = "server")]
mod metrics;
#[cfg(feature = "client")]
mod net;
#[cfg(any(feature = "web", feature = "top"))]
mod overview;
#[cfg(any(feature = "web", feature = "broker"))]
mod peer_log;
mod printable;
#[cfg(feature = "client")]
pub mod reading;
#[cfg(feature = "server")]
mod reload;
#[cfg(any(feature = "server", feature = "web", feature = "broker"))]
mod repeats;
#[cfg(feature = "simulation")]
pub mod simulation;
#[cfg(feature = "server")]
mod table;
#[cfg(feature = "server")]
mod tokens;
#[cfg(feature = "web")]
mod web;
pub mod wire;

/// For the benchmarks and tests of this package alone; it changes without a word.
#[cfg(all(feature = "lab", feature = "docker"))]
#[doc(hidden)]
pub mod internals {
    pub use crate::cluster::docker::engine::{Engine, Found};
    pub use crate::data::index::Summary;
    pub use crate::data::log::{Log, Settings, SyncPolicy};
    pub use crate::data::query::Query;
    pub use crate::data::recover::scan;
    pub use crate::data::scan::{ScanBounds, Scanner};
    pub use crate::data::storage::Disk;
    pub use crate::head::merge::Merge;
}

/// What the `acopio` command does: reads the flags and variables of this process and runs what they ask for.
#[cfg(feature = "server")]
pub fn command_line() -> std::process::ExitCode {
    cli::main()
}
