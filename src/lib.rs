//! acopio: a storage cluster for messages and measurements that arrive over plain TCP.

pub mod check;
pub mod client;
pub mod cluster;
pub mod daily;
pub mod data;
pub mod head;
pub mod limits;
pub mod lock;
pub mod net;
pub mod shutdown;
pub mod wire;
