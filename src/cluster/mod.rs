//! Whole clusters on this machine: as separate processes (`up`), as containers (`docker`), or head and data node in one
//! (`solo`).
//!
//! `fault` is what may be done to one that `up` owns, and `control` does it: by `watcher` to processes and files, by `link`
//! to the network.
//!
//! This stands above the roles: it starts and stops them and knows nothing of the wire.

pub(crate) mod child;
mod classroom;
mod control;
#[cfg(feature = "device")]
pub(crate) mod devices;
#[cfg(feature = "docker")]
pub(crate) mod docker;
mod fault;
pub(crate) mod files;
pub(crate) mod keys;
pub(crate) mod link;
pub(crate) mod plan;
mod readback;
pub(crate) mod said;
pub(crate) mod screen;
pub(crate) mod solo;
pub(crate) mod tail;
mod typed;
pub(crate) mod up;
mod watcher;
mod ways;

/// What a head says on standard error, before its address, once it listens: `up` waits for it.
pub(crate) const LISTENING: &str = "listening on ";

/// How the last line of a member begins that ended in order.
pub(crate) const STOPPED: &str = "stopped";

/// What a data node says once it is registered with a head.
pub(crate) const REGISTERED: &str = "registered as ";

/// What a data node says in its last error if its folder was drained: started again it would say the same.
pub(crate) const DRAINED: &str = " was drained: ";
