//! Bounds of the coordination over ZooKeeper. See the page above this one.

use std::time::Duration;

/// Time after which ZooKeeper gives up a session that says nothing, if nobody asks for another. kazoo's own.
pub(crate) const ZK_SESSION_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// The part of a session's timeout between two signs of life that a process gives itself: a process that was paused
/// notices from a missing one.
pub(crate) const ZK_PULSES: u32 = 20;

/// Time an orderly end of a session may take; then its ephemeral znodes wait for the session's timeout.
pub(crate) const ZK_CLOSE_TIME_MAX: Duration = Duration::from_secs(2);

/// Time one command may take over what ZooKeeper answers at once while it serves.
pub(crate) const ZK_ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Servers of one ensemble that can be named.
pub(crate) const ZK_SERVERS_MAX: usize = 16;

/// Greatest data of a znode, bytes: a server closes the connection on a packet of 1 MiB.
pub(crate) const ZNODE_BYTES_MAX: usize = 1_000_000;

/// Greatest path of a znode, bytes: it is a word in the logs.
pub(crate) const ZNODE_PATH_BYTES_MAX: usize = 1024;

/// Earlier sessions of one process that are remembered, so that their ephemeral znodes are known as its own.
pub(crate) const ZK_PAST_SESSIONS_MAX: usize = 64;

/// Time to find out what answers instead of a ZooKeeper. A busy one says that it is one within this.
pub(crate) const ZK_PROBE_TIME_MAX: Duration = Duration::from_secs(3);

/// Time that a session which is not patient is tried for at a ZooKeeper that is there: a busy one, or an ensemble that elects
/// its leader, is slower than one connection waits.
pub(crate) const ZK_OPEN_TIME_MAX: Duration = Duration::from_secs(15);

/// Bytes that are read to find that out.
pub(crate) const ZK_PROBE_BYTES_MAX: usize = 256;

/// Znodes that are shown as one tree: an election has tens, a busy ensemble hundreds of thousands.
pub const ZK_TREE_NODES_MAX: usize = 10_000;

/// Bytes of a znode's data that are shown in a tree.
pub(crate) const ZK_TREE_DATA_BYTES_MAX: usize = 64;

/// Time that a command run under a lock has to end after SIGTERM; then it is killed.
pub(crate) const ZK_COMMAND_STOP_TIME_MAX: Duration = Duration::from_secs(5);

/// The same where its lock is lost, as a part of the session's timeout: another may hold it soon.
pub(crate) const ZK_LOST_STOP_PART: u32 = 4;

/// Shortest time between two runs of a command that leads: one that ends at once must not keep all candidates busy.
pub(crate) const ZK_LEAD_EVERY: Duration = Duration::from_millis(500);
