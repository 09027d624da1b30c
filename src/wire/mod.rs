//! The words on the wire, pure: no sockets, no clocks, no files. `docs/wire.md` is the contract this implements;
//! that of [`record`] is `docs/data-log.md`.

pub mod error;
pub mod filter;
pub mod frame;
pub mod handshake;
pub mod id;
pub mod ledger;
pub mod peer;
pub mod proof;
pub mod record;
#[cfg(feature = "server")]
pub(crate) mod registro;
pub mod said;
pub mod secret;
pub mod source;
pub mod status;
pub mod text;
