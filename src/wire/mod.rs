//! The words on the wire, pure: no sockets, no clocks, no files. `docs/wire.md` is the contract this implements.

pub mod error;
pub mod frame;
pub mod id;
pub mod status;
pub mod text;
