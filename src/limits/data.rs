//! Bounds of a data node: its log, index, scans, retention and repair. See the page above this one.

use super::{MESSAGE_BYTES_MAX, NODE_NAME_BYTES_MAX, REPLICAS_MAX, TEXT_BYTES_MAX};
use std::time::Duration;

// ---- repair ---------------------------------------------------------------------------------------------------------

/// Default time that a node may be away before its copies are made again: a restart or a broken cable is no reason.
pub(crate) const REPAIR_AFTER_DEFAULT: Duration = Duration::from_secs(60);

/// Default pace at which a node makes copies again, bytes of lines a second: a small share of what a disk takes.
pub(crate) const REPAIR_RATE_DEFAULT: u64 = 10_000_000;

/// Least pace of repair, bytes a second: at less the longest line would take more than an hour.
pub(crate) const REPAIR_RATE_MIN: u64 = 1024;

/// Time for which a rested repair may go at once: some hundred milliseconds' worth.
pub(crate) const REPAIR_BURST: Duration = Duration::from_millis(200);

/// Lines that are fetched together, bytes, unless one is longer.
pub(crate) const FETCH_BYTES_MAX: usize = 256 * 1024;

/// Fetches that a node has under way at one time, of as many ledgers.
pub(crate) const FETCHES_MAX: usize = 8;

/// Fetches that a head passes on for one node at one time.
pub(crate) const FETCHES_OF_NODE_MAX: usize = 2 * FETCHES_MAX;

/// Fetches that a head has open at one data node, whoever asked.
pub(crate) const FETCHES_AT_NODE_MAX: usize = super::NODES_MAX * FETCHES_OF_NODE_MAX;

/// Entries that one fetch asks for.
pub(crate) const FETCH_ENTRIES_MAX: u32 = 64 * 1024;

/// Time that a node waits for what it fetches: longer than a stalled disk takes to be evicted.
pub(crate) const FETCH_TIME_MAX: Duration = Duration::from_secs(30);

/// Time between two looks at what is lacking, where nothing tells of it: nobody had it.
pub(crate) const FETCH_AGAIN: Duration = Duration::from_secs(2);

/// Bytes that wait for the commit thread while repair stands aside.
pub(crate) const REPAIR_YIELD_BYTES: usize = COMMIT_BUFFER_BYTES_MAX / 4;

/// Time for which repair stands aside before it looks again.
pub(crate) const REPAIR_YIELD: Duration = Duration::from_millis(50);

// ---- node.state -----------------------------------------------------------------------------------------------------

/// Greatest `node.state` that is read, bytes: ten million ledgers.
pub(crate) const STATE_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Bytes that it may grow by before it is replaced by a shorter one.
pub(crate) const STATE_GROWN_BYTES: u64 = 1024 * 1024;

/// Size of the file that makes room for notes on a full disk, bytes.
pub(crate) const STATE_RESERVE_BYTES: usize = 256 * 1024;

/// Longest batch that is written and synced by the thread that talks to heads, bytes of lines.
pub(crate) const LONE_BYTES_MAX: usize = 4096;

/// Longest time that the last batch took for that.
pub(crate) const LONE_TIME_MAX: Duration = Duration::from_millis(2);

/// Least time between two lines about how far the log was synced, where much comes.
pub(crate) const LOGGED_EVERY: Duration = Duration::from_secs(1);

/// Least time between two such lines where less than [`LOGGED_BYTES`] came: each costs the disk a block more, as a message does.
pub(crate) const LOGGED_EVERY_FEW: Duration = Duration::from_secs(10);

/// What is much, bytes since the last line.
pub(crate) const LOGGED_BYTES: u64 = 64 * 1024;

/// Runs of entries of one file that its sidecar lists.
pub(crate) const FILE_RUNS_MAX: usize = 64 * 1024;

// ---- rot ------------------------------------------------------------------------------------------------------------

/// Rotten places that one page names; further ones are only counted, and named when they are read again.
pub(crate) const PAGE_ROT_MAX: usize = 1024;

// ---- the data node's log ----------------------------------------------------------------------------------------------

/// Default size at which `data.txt` is sealed, bytes.
pub(crate) const SEGMENT_BYTES_DEFAULT: u64 = 256 * 1024 * 1024;

/// Least size at which `data.txt` may be sealed, bytes: below it a folder fills with files.
pub(crate) const SEGMENT_BYTES_MIN: u64 = 4 * 1024;

/// Fields of a record beside its payload, bytes, its tag and the newline included, for a client's first 4,096 messages in a
/// ledger of an ordinary length. Greater numbers add one byte for every factor of 64.
pub(crate) const RECORD_FIELDS_BYTES: usize = 61;

/// Greatest line of `data.txt`, bytes, newline included: every payload byte escaped as `\xNN`, the words a head puts
/// in front of text, and the fields with the longest sequence number, and in format 1 every copy named.
pub(crate) const RECORD_LINE_BYTES_MAX: usize = 4 * (MESSAGE_BYTES_MAX + TEXT_BYTES_MAX) + 1024;

/// Read size of a scan over a log, bytes.
pub(crate) const SCAN_CHUNK_BYTES: usize = 1024 * 1024;

/// Part of a chunk that is worth a thread, bytes: it takes some 200 µs to check, and a thread 20 to begin.
pub(crate) const SCAN_SHARED_BYTES_MIN: usize = 256 * 1024;

/// Quarantined places that recovery lists for one file; more than this and the file is past mending line by line.
pub(crate) const QUARANTINE_PLACES_MAX: usize = 10_000;

/// Formatted bytes that wait for the commit thread. It holds the windows of several heads with room for escapes;
/// past it the node stops reading.
pub(crate) const COMMIT_BUFFER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Greatest `segments.txt` that is read, bytes: some 150,000 sealed files. A larger one is made anew.
pub(crate) const SEGMENTS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Capacity that an idle commit buffer keeps, bytes: a burst's memory is given back.
pub(crate) const COMMIT_BUFFER_KEEP_BYTES: usize = 4 * 1024 * 1024;

/// Free space a full disk must have again before the node takes messages, bytes.
pub(crate) const DISK_RESUME_BYTES_MIN: u64 = 16 * 1024 * 1024;

/// Time between two looks at a node's `data.txt` while nothing is written, and at the free space of a full disk: after that
/// long a file that somebody moved or wrote into is noticed.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often a batch is written that the half lines of somebody else spoil.
pub(crate) const APPENDS_MAX: usize = 3;

/// Time between two looks at all sealed files: a call of the system for each.
pub(crate) const LOOK_AT_ALL_EVERY: Duration = Duration::from_secs(10);

/// Time between two lines in the log that somebody else writes into `data.txt`.
pub(crate) const FOREIGN_SAID_EVERY: Duration = Duration::from_secs(60);

// ---- retention ------------------------------------------------------------------------------------------------------

/// Time between two looks for sealed files that were kept long enough; there is one after each seal, too.
pub(crate) const RETENTION_EVERY: Duration = Duration::from_secs(60);

/// Shortest time that `--keep` takes: below it a file goes as soon as it is sealed.
pub(crate) const KEEP_MIN: Duration = Duration::from_secs(1);

// ---- the data node's index and scans ----------------------------------------------------------------------------------

/// Bytes of a block of the index: what a reader loads to get at one record. Small enough to load for one page, large
/// enough that the index takes a four-thousandth part of the records.
pub(crate) const BLOCK_BYTES: u64 = 256 * 1024;

/// Least size of a block that is cut because the order of ids jumps, bytes: it bounds the index of a file in disorder.
pub(crate) const BLOCK_BYTES_MIN: u64 = 16 * 1024;

/// How far ids may go back before that counts as a jump: more than heads and their retries disturb the order.
pub(crate) const BLOCK_JUMP: Duration = Duration::from_secs(1);

/// Blocks in one shared part of an index. A snapshot shares whole parts; at most one is copied for a block that is cut.
pub(crate) const BLOCKS_SHARED: usize = 512;

/// Neighbouring Puts of a batch become one entry for the index up to this size, bytes: a batch of single messages
/// shall not need an entry for each.
pub(crate) const PIECE_BYTES_MAX: u64 = 4 * 1024;

/// Sources that the sidecar of one file tells of: a file of the default size has some hundred records of each then.
pub(crate) const FILE_SOURCES_MAX: usize = 16 * 1024;

/// Sources that a node tells of.
pub(crate) const NODE_SOURCES_MAX: usize = 128 * 1024;

/// Greatest sidecar that is read, bytes: that of a sealed file of some 200 GiB. The index of a larger file is made by
/// reading it.
pub(crate) const SIDECAR_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Records that one reader's place in the files keeps parsed, bytes. Files in more disorder than this are read in
/// several passes.
pub(crate) const SCAN_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes read from files for one page, as soon as the page says anything new: a page of which little matches must not
/// keep other readers waiting for long.
pub(crate) const SCAN_READ_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Places of readers that are kept between pages. A reader whose place was dropped parses its block again.
pub(crate) const SCAN_CURSORS_MAX: usize = 16;

/// Bytes that all kept places take together; the one that waited longest goes first.
pub(crate) const SCAN_CURSORS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Blocks of sealed files' indexes that are kept in memory, some 8 MiB.
pub(crate) const SCAN_BLOCKS_MAX: usize = 128 * 1024;

/// Time without a page after which the scan closes its files.
pub(crate) const SCAN_FILES_TIME: Duration = Duration::from_secs(1);

/// Sealed files that the scan keeps open at a time.
pub(crate) const SCAN_FILES_MAX: usize = 16;

/// Time without a page after which the scan thread gives its memory back.
pub(crate) const SCAN_IDLE_TIME: Duration = Duration::from_secs(30);

/// What the thread that reads the files adds to its niceness: where a machine is busy, what comes is kept first.
pub(crate) const SCAN_NICE: i32 = 5;

/// Pages that wait for the scan thread; past it a reader is told to come back. Every head has a few under way.
pub(crate) const SCAN_QUEUE_MAX: usize = 64;

const _: () = assert!(COMMIT_BUFFER_BYTES_MAX >= 2 * RECORD_LINE_BYTES_MAX);
const _: () = assert!(SCAN_CHUNK_BYTES >= 4096);
const _: () = assert!(
    RECORD_LINE_BYTES_MAX >= 4 * MESSAGE_BYTES_MAX + REPLICAS_MAX * (NODE_NAME_BYTES_MAX + 1) + RECORD_FIELDS_BYTES
);
const _: () = assert!(BLOCK_BYTES_MIN <= BLOCK_BYTES && PIECE_BYTES_MAX <= BLOCK_BYTES_MIN);
const _: () = assert!(SCAN_CURSORS_BYTES_MAX >= SCAN_BYTES_MAX && SCAN_BYTES_MAX > RECORD_LINE_BYTES_MAX);

/// Read size of a search for entries, bytes.
pub(crate) const ENTRIES_CHUNK_BYTES: usize = 256 * 1024;

/// Ledgers whose place in the files is remembered.
pub(crate) const SCAN_SPOTS_MAX: usize = 4096;

/// Readers that follow through one head, as a node serves them.
pub(crate) const NODE_FEEDS_MAX: usize = super::READERS_MAX;
