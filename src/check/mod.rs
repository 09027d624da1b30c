//! Checks on a cluster from outside: what its files hold, and whether it keeps its promises.

pub mod verify;
