//! acopio: a storage cluster for messages and measurements that arrive over plain TCP.

pub mod cluster;
pub mod limits;
pub mod shutdown;
pub mod wire;
