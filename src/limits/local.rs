//! Bounds of clusters on this machine.

use std::time::Duration;

#[cfg(doc)]
use super::STOP_TIME_MAX;
use super::{CLIENTS_MAX_DEFAULT, NODES_MAX};

/// Time the head of `acopio up` has to say that it listens.
pub(crate) const UP_START_TIME_MAX: Duration = Duration::from_secs(10);

/// Time that every group of processes (clients, head, data nodes) has to end, even if those before it took all of
/// [`STOP_TIME_MAX`]; then they are killed.
pub(crate) const UP_GROUP_STOP_TIME_MIN: Duration = Duration::from_secs(2);

/// Data nodes of one `acopio up`: their loopback addresses end in 2 and up, and a head takes no more.
pub(crate) const UP_NODES_MAX: usize = NODES_MAX;

/// Random-number clients of one `acopio up`: processes of one machine.
pub(crate) const UP_CLIENTS_MAX: usize = CLIENTS_MAX_DEFAULT;

/// Lines that wait to be shown by `acopio up`. A terminal that stands still must not hold up the cluster: what does
/// not fit is counted, and it is in the log files.
pub(crate) const SCREEN_LINES_MAX: usize = 1024;

/// Time that what still waits to be shown has at the end of `acopio up`: a terminal that stands still ends nobody's patience.
pub(crate) const SCREEN_END_TIME_MAX: Duration = Duration::from_secs(1);

/// Connections through one link: a data node has one and dials the next when that is lost.
pub(crate) const LINK_CONNECTIONS_MAX: usize = 64;

/// Time between two looks whether who dialled a link that carries nothing still waits.
pub(crate) const LINK_LOOK_EVERY: Duration = Duration::from_millis(200);

/// Bytes a link takes at once in one direction.
pub(crate) const LINK_BUFFER_BYTES: usize = 16 * 1024;

/// Messages whose way `acopio up` follows at once.
pub(crate) const UP_WAYS_MAX: usize = 1024;

/// Messages that the page of `up` is told of.
pub(crate) const UP_WAYS_SHOWN: usize = 12;

/// Acknowledged messages that `up` looks for when it reads back, the last ones: 16 bytes each, and a read of so many.
pub(crate) const UP_JUDGED_MAX: usize = 100_000;

/// Time without an answer after which a message is told of.
pub(crate) const UP_LATE_AFTER: Duration = Duration::from_secs(3);

/// Lines about what was done, and of the heartbeats' log, that the page of `up` shows.
pub(crate) const UP_SAID_MAX: usize = 8;

/// Bytes of an order that the page hands on: a letter and a number.
pub(crate) const UP_ORDER_BYTES_MAX: usize = 8;

/// Time between two states that `up` tells its page.
pub(crate) const UP_STATE_EVERY: Duration = Duration::from_millis(200);

/// Longest line of a state that the page takes.
pub(crate) const UP_STATE_BYTES_MAX: u64 = 256 * 1024;

/// Time between two looks of `up` whether what was acknowledged can be read.
pub(crate) const UP_LOOK_EVERY: Duration = Duration::from_secs(1);

/// Longest such read; one that takes longer is given up, as while a data node is silent and not yet evicted.
pub(crate) const UP_LOOK_TIME_MAX: Duration = Duration::from_secs(5);

/// How much longer than such a read the time to the next one is.
pub(crate) const UP_LOOK_REST: u32 = 10;

/// The longest such time.
pub(crate) const UP_LOOK_REST_MAX: Duration = Duration::from_secs(4);

/// Time for which all members have to be there before what can't be read counts as lost.
pub(crate) const UP_LOST_AFTER: Duration = Duration::from_secs(3);

/// Orders that wait for who watches over one process of `acopio up`: what a person types faster is refused.
pub(crate) const UP_ORDERS_MAX: usize = 8;
