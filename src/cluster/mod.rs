//! Whole clusters on this machine: as separate processes (`up`), as containers (`docker`), or head and data node in one
//! (`solo`).
//!
//! This stands above the roles: it starts and stops them and knows nothing of the wire.

pub mod child;
#[cfg(feature = "device")]
pub mod devices;
#[cfg(feature = "docker")]
pub mod docker;
pub mod files;
pub mod plan;
pub mod said;
pub mod screen;
pub mod solo;
pub mod tail;
mod typed;
pub mod up;

/// What a head says on standard error, before its address, once it listens: `up` waits for it.
pub const LISTENING: &str = "listening on ";

/// How the last line of a member begins that ended in order.
pub const STOPPED: &str = "stopped";

/// What a data node says once it is registered with a head.
pub const REGISTERED: &str = "registered as ";
