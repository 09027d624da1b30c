//! Bounds of reads at a head, of rounds of decisions and of what follows.

use std::time::Duration;

use super::{FOUNDINGS_MAX, HEARTBEAT_DEFAULT, ROSTER_MAX};

/// Most bytes of lines in one page, unless one line is longer: few enough round trips for a disk's speed. The readers of a
/// head share it, so that its memory does not grow with them.
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// Most bytes of lines that a reader is sent in one frame, unless one line is longer: it has the first of them soon.
pub const RECORDS_BYTES_MAX: usize = 256 * 1024;

/// Least size of a page that is asked for, bytes: a reader of many nodes still makes progress.
pub(crate) const PAGE_BYTES_MIN: usize = 16 * 1024;

/// Pages that one reader holds from one node: one is merged while the next is on its way.
pub(crate) const READ_PAGES_MAX: usize = 2;

/// Bytes of pages that one reader asks for from all nodes together; its pages are smaller where there are many nodes.
pub(crate) const READ_PAGES_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Readers of one head at the same time. Memory of the head follows from it.
pub const READERS_MAX: usize = 64;

/// Pages and records that all readers of one head hold together, bytes, but for those of one reader; past it no more pages
/// are asked for.
pub const READERS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Time without a byte read after which a reader keeps no pages, and after which its connection is let go if others wait for
/// the room. It goes on where it was when it connects again, which the client library does by itself.
pub const READ_REST: Duration = Duration::from_secs(2);

/// Scans of one head that a data node has open: one of each reader, and as many of readers that have left.
pub const NODE_SCANS_MAX: usize = 2 * READERS_MAX;

/// Pages that wait in a data node for one head to read them, bytes, beside the longest line of each that is being made; past
/// it no more are made for that head.
pub const NODE_PAGES_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Pages that a data node makes at the same time: they are read by one thread, so more would only wait in memory.
pub(crate) const NODE_PAGES_MAKING_MAX: usize = 4;

/// Records that wait in the head for one reader to take them, bytes; past it no more are merged, so that a reader that
/// does not read slows itself alone.
pub(crate) const READ_ANSWERS_BYTES_MAX: usize = 512 * 1024;

/// Time after which a node that had nothing new is asked again.
pub(crate) const READ_POLL: Duration = Duration::from_millis(20);

/// The same for a follower to whom nothing has come for a while.
pub(crate) const READ_POLL_MAX: Duration = Duration::from_millis(100);

/// Time between two frames to a reader that has nothing to read: it learns how far the answer is complete.
pub(crate) const READ_PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Time that a read waits for data nodes that are away: longer than one takes to start again and to register.
pub const READ_WAIT_MAX: Duration = Duration::from_secs(10);

/// Time that a data node may take over one page before it counts as missing.
pub(crate) const READ_PAGE_TIME_MAX: Duration = Duration::from_secs(10);

/// Scans in a row that a data node may fail before it counts as missing.
pub(crate) const SCAN_FAILURES_MAX: u32 = 3;

/// Time between two rounds of decisions where nothing asks for one.
pub(crate) const ROUND_EVERY: Duration = Duration::from_millis(200);

/// Ledgers that one round looks at: a head with many goes on with its connections in between.
pub(crate) const ROUND_LEDGERS_MAX: usize = 4096;

/// Time that messages wait for ledgers to be opened: as long as nodes take to note who is in the cluster, amply.
pub(crate) const OPEN_TIME_MAX: Duration = Duration::from_secs(5);

/// Greatest `head.state` that is read, bytes: every line takes less than 256.
pub(crate) const HEAD_STATE_BYTES_MAX: u64 = 256 * (ROSTER_MAX + FOUNDINGS_MAX + TEXT_NODES_KNOWN_MAX + 4) as u64;

/// Runs of lacking entries that the end of a read names.
pub(crate) const READ_LACKING_MAX: usize = 4;

/// Bytes of lines that a node may send ahead to one reader that follows.
pub(crate) const FOLLOW_CREDIT_BYTES: usize = 256 * 1024;

/// How long a reader that follows up to a time waits behind it, by the head's clock: as long as a message may be on its way.
pub(crate) const FOLLOW_LATE: Duration = Duration::from_secs(2);

/// Time between two tokens to a reader that follows, while something comes.
pub(crate) const FOLLOW_TOKEN_EVERY: Duration = Duration::from_secs(1);

/// Data nodes that speak text and keep records which a head knows by name; the records of others are counted together.
pub(crate) const TEXT_NODES_KNOWN_MAX: usize = 64;

/// Time between two reports of a data node when nothing changed.
pub(crate) const REPORT_EVERY: Duration = HEARTBEAT_DEFAULT;
