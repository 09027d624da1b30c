//! acopio: a storage cluster for messages and measurements that arrive over plain TCP.
//!
//! A *head* ([`head`]) listens on one port, gives every message an id and a random data node, and answers when it is
//! kept. A *data node* ([`data`]) appends what it is sent to a readable `data.txt`, syncs it, and acknowledges. A *client*
//! is anything with a socket; [`client`] is the library that also goes on when a head is lost.
//!
//! # A message's way
//!
//! Client socket → [`wire`] decodes → [`head::core`] gives an id and chooses nodes → a Put in the node's queue → the
//! node's commit buffer → one append and one `fdatasync` for all that waits → a range is acknowledged → the registro's
//! line → the answer. Every queue on it has a bound in [`limits`], and a full one stops the read before it.
//!
//! # The modules
//!
//! [`wire`] is the words on the wire and imports nobody: no socket, no clock, no file. `head`, `data` and `client` speak
//! it and never import each other; [`net`], [`clock`], [`daily`], [`lock`], `files` and `printable` are the small things they share.
//! `web` takes values over HTTP and `device` measures, both by the client library alone. [`check`] reads what data nodes wrote, offline; [`cluster`] runs whole clusters on one machine, as
//! processes or in containers. `cli` is the command line: nothing else reads flags or the environment. `ARCHITECTURE.md`, `docs/wire.md`, `docs/data-log.md` and `docs/logs.md`
//! are the pages beside this one.

#[cfg(feature = "broker")]
mod broker;
#[cfg(feature = "server")]
pub mod check;
#[cfg(feature = "server")]
mod cli;
#[cfg(feature = "client")]
pub mod client;
pub mod clock;
#[cfg(feature = "server")]
pub mod cluster;
#[cfg(feature = "coord")]
pub mod coord;
#[cfg(feature = "server")]
pub mod daily;
#[cfg(feature = "server")]
pub mod data;
#[cfg(feature = "device")]
pub mod device;
#[cfg(feature = "server")]
mod files;
#[cfg(feature = "server")]
pub mod head;
pub mod limits;
#[cfg(feature = "server")]
pub mod lock;
#[cfg(feature = "client")]
pub mod net;
mod printable;
#[cfg(feature = "server")]
mod repeats;
#[cfg(feature = "simulation")]
pub mod simulation;
#[cfg(feature = "web")]
pub mod web;
pub mod wire;

/// What the `acopio` command does: reads the flags and variables of this process and runs what they ask for.
#[cfg(feature = "server")]
pub fn command_line() -> std::process::ExitCode {
    cli::main()
}
