//! Bounds of a data node: its log, index, scans, retention, repair and mending. See the page above this one.

use super::{MEMBERS_MAX, MESSAGE_BYTES_MAX, NODE_NAME_BYTES_MAX, NODES_MAX, REPLICAS_MAX, TEXT_BYTES_MAX};
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

/// Lines that are copied together, bytes, unless one is longer. A node has one such chunk under way.
pub const COPY_BYTES_MAX: usize = 256 * 1024;

/// Copies that a head has under way for one node: one, and one that the node has given up waiting for.
pub(crate) const COPIES_UNDER_WAY_MAX: usize = 2;

/// Time that a node waits for a copy to be kept: longer than a stalled disk takes to be evicted.
pub(crate) const COPY_TIME_MAX: Duration = Duration::from_secs(30);

/// Copies that wait in a data node until they are written; every other node may have one under way, and a second that it
/// has given up waiting for.
pub(crate) const COPIES_WAITING_MAX: usize = COPIES_UNDER_WAY_MAX * NODES_MAX;

/// Pages that are looked through for records that are here already before a copy is kept: as many as hold what every
/// other node put beside one chunk, twice.
pub(crate) const COPY_PAGES_MAX: usize = 2 * NODES_MAX;

/// Bytes that wait for the commit thread while repair stands aside.
pub(crate) const REPAIR_YIELD_BYTES: usize = COMMIT_BUFFER_BYTES_MAX / 4;

/// Time for which repair stands aside before it looks again.
pub(crate) const REPAIR_YIELD: Duration = Duration::from_millis(50);

/// Time between two looks at whether there is something to repair.
pub(crate) const REPAIR_LOOK_EVERY: Duration = Duration::from_millis(500);

/// The same after a sweep that found nothing it could copy, unless the nodes change.
pub(crate) const REPAIR_IDLE: Duration = Duration::from_secs(30);

/// Reports of every data node without a record that is short of copies, before a node that is drained is let go: they come
/// every second, and the first may have been under way before its sender knew of the drain.
pub(crate) const DRAIN_REPORTS_MIN: u32 = 3;

/// Lines that are gathered for all chunks of one file together, bytes: there is one for each set of nodes. Past it the
/// largest goes first.
pub(crate) const REPAIR_BUCKETS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Ranges of copied records that a node remembers, some 100 bytes each: 256 GiB of copies at the least. Past it
/// nothing more is copied, and the node says so.
pub(crate) const REPAIR_RANGES_MAX: usize = 1024 * 1024;

/// Greatest `copies.txt`, bytes: every range and as much again for those that were replaced.
pub(crate) const REPAIR_FILE_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Greatest `peers.txt`, bytes: every member and all of its identities.
pub(crate) const PEERS_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Identities that are remembered for one name.
pub(crate) const PEER_IDENTITIES_MAX: usize = 8;

// ---- promises ------------------------------------------------------------------------------------------------------

/// How far ahead of what a reader is told a node writes down what it promised, in the time of ids: one small file a second
/// while somebody follows. A node that starts again holds to as much, and heads give ids above it.
pub(crate) const PROMISE_AHEAD: Duration = Duration::from_secs(1);

/// Greatest `promised.txt`, bytes: one short line.
pub(crate) const PROMISED_BYTES_MAX: usize = 128;

/// Time between two writes of `end.txt` while the log grows. What was synced since the last one may be lost unnoticed, if the
/// node does not end in order.
pub(crate) const END_EVERY: Duration = Duration::from_secs(1);

/// Greatest `end.txt`, bytes: one short line.
pub(crate) const END_BYTES_MAX: usize = 256;

/// Part of the log before a node that acknowledges before it syncs went away that it is offered again: two heartbeats
/// until a head misses it, and twenty seconds of what it left unsynced.
pub(crate) const OFFER_WINDOW: Duration = Duration::from_secs(30);

/// Time between two notes in memory of where the log ends: what [`OFFER_WINDOW`] is measured by.
pub(crate) const OFFER_SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// Time between two writes of `doubts.txt`. What was put since the last one is offered again after a restart.
pub(crate) const DOUBTS_EVERY: Duration = Duration::from_secs(5);

/// Greatest `doubts.txt`, bytes: a line of less than 512 for every member.
pub(crate) const DOUBTS_BYTES_MAX: usize = 512 * (MEMBERS_MAX + 1);

// ---- mending --------------------------------------------------------------------------------------------------------

/// Rotten places that one page names; further ones are only counted, and named when they are read again.
pub(crate) const PAGE_ROT_MAX: usize = 1024;

/// Rotten places that wait to be mended; past it one is found again when it is read again.
pub(crate) const MEND_PLACES_MAX: usize = 4096;

/// Rotten lines side by side that are mended together, bytes: two of the longest.
pub(crate) const MEND_REGION_BYTES_MAX: usize = 2 * RECORD_LINE_BYTES_MAX;

/// What is read first on each side of a rotten place, bytes: good lines beside it are mostly near.
pub(crate) const MEND_LOOK_BYTES: usize = 16 * 1024;

/// By how much a lost record's id may lie beside those of the lines around it: as long as a head holds on to a batch whose
/// node went away.
pub(crate) const MEND_MARGIN: Duration = Duration::from_secs(15);

/// Ids that a rotten place may still spell out and that are asked for one by one.
pub(crate) const MEND_HINTS_MAX: usize = 16;

/// Lines that are asked of the cluster for one place, bytes: some seconds of a busy one.
pub(crate) const MEND_READ_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Lines among which a lost record is chosen, bytes, beside one frame of them.
pub(crate) const MEND_CANDIDATES_BYTES_MAX: usize = MEND_REGION_BYTES_MAX;

/// Bytes in which a rotten line may differ from the record that its own checksum proves it was.
pub(crate) const MEND_PROVEN_BYTES_MAX: usize = 32;

/// The same if the checksum is rotten, too, and id, client and sequence number are not.
pub(crate) const MEND_DIFFERING_BYTES_MAX: usize = 8;

/// Time that a head may take to say something.
pub(crate) const MEND_ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// Rest between two places: mending is not urgent.
pub(crate) const MEND_REST: Duration = Duration::from_millis(100);

/// Time after which a place is looked at again when a head or a node was away; doubles up to the most.
pub(crate) const MEND_AGAIN_MIN: Duration = Duration::from_secs(1);

/// The most of that.
pub(crate) const MEND_AGAIN_MAX: Duration = Duration::from_secs(5 * 60);

/// The most of that where no other node had the record: only a node that comes back from nowhere changes it.
pub(crate) const MEND_NOBODY_MAX: Duration = Duration::from_secs(6 * 60 * 60);

// ---- the data node's log ----------------------------------------------------------------------------------------------

/// Default size at which `data.txt` is sealed, bytes.
pub(crate) const SEGMENT_BYTES_DEFAULT: u64 = 256 * 1024 * 1024;

/// Least size at which `data.txt` may be sealed, bytes: below it a folder fills with files.
pub(crate) const SEGMENT_BYTES_MIN: u64 = 4 * 1024;

/// Fields of a record beside its payload, bytes, newline included, for a client's first 16.7 million messages
/// (DESIGN page, section 10: 45 or less). Longer sequence numbers add one byte for every factor of 64.
pub(crate) const RECORD_FIELDS_BYTES: usize = 45;

/// Greatest line of `data.txt`, bytes, newline included: every payload byte escaped as `\xNN`, the words a head puts
/// in front of text, and the fields with the longest sequence number and every copy named.
pub(crate) const RECORD_LINE_BYTES_MAX: usize = 4 * (MESSAGE_BYTES_MAX + TEXT_BYTES_MAX) + 1024;

/// Read size of a scan over a log, bytes.
pub(crate) const SCAN_CHUNK_BYTES: usize = 1024 * 1024;

/// Quarantined places that recovery lists for one file; more than this and the file is past mending line by line.
pub(crate) const QUARANTINE_PLACES_MAX: usize = 10_000;

/// Formatted bytes that wait for the commit thread. It holds the windows of several heads with room for escapes;
/// past it the node stops reading.
pub(crate) const COMMIT_BUFFER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Greatest `quarantine.txt`, bytes; past it nothing more is listed, only counted.
pub(crate) const QUARANTINE_BYTES_MAX: usize = 16 * 1024 * 1024;

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

/// Time after which a node looks again that could not know which files are short of copies: no head had told it yet.
pub(crate) const RETENTION_DOUBT_TIME: Duration = Duration::from_secs(1);

/// Shortest time that `--keep` takes: below it a file goes as soon as it is sealed.
pub(crate) const KEEP_MIN: Duration = Duration::from_secs(1);

/// Greatest `retention.txt`, bytes: some 150,000 removed files. Past it, it is begun anew.
pub(crate) const RETENTION_BYTES_MAX: u64 = 16 * 1024 * 1024;

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

/// Sets of nodes that are counted for one file; what is kept by other sets is counted together. Twelve nodes and three
/// copies give fewer for a node.
pub(crate) const HOLDINGS_MAX: usize = 1024;

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

/// Pages that wait for the scan thread; past it a reader is told to come back. Every head has a few under way.
pub(crate) const SCAN_QUEUE_MAX: usize = 64;

const _: () = assert!(COMMIT_BUFFER_BYTES_MAX >= 2 * RECORD_LINE_BYTES_MAX);
const _: () = assert!(SCAN_CHUNK_BYTES >= 4096);
const _: () = assert!(
    RECORD_LINE_BYTES_MAX >= 4 * MESSAGE_BYTES_MAX + REPLICAS_MAX * (NODE_NAME_BYTES_MAX + 1) + RECORD_FIELDS_BYTES
);
const _: () = assert!(BLOCK_BYTES_MIN <= BLOCK_BYTES && PIECE_BYTES_MAX <= BLOCK_BYTES_MIN);
const _: () = assert!(SCAN_CURSORS_BYTES_MAX >= SCAN_BYTES_MAX && SCAN_BYTES_MAX > RECORD_LINE_BYTES_MAX);
