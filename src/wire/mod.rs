//! The words on the wire, pure: no sockets, no clocks, no files.

pub mod id;
