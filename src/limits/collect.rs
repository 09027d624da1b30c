//! Bounds of what collects from instruments. See the page above this one.

use std::time::Duration;

use super::{CLIENT_IN_FLIGHT_BYTES_MAX, LINE_BYTES_MAX, READ_BUFFER_BYTES};

/// Sources of one collector; each may hold the beginning of one line.
pub(crate) const COLLECT_SOURCES_MAX: usize = 64;

/// Greatest line of an instrument, bytes: that of the line dialect, so that what is collected could as well have been sent.
pub(crate) const COLLECT_LINE_BYTES_MAX: usize = LINE_BYTES_MAX;

/// Reads of sources that wait to be taken in; what is not read waits in the system and in the instrument.
pub(crate) const COLLECT_READS_AHEAD: usize = 16;

/// Lines that wait in memory where there is no spool, bytes with [`COLLECT_LINE_EXTRA_BYTES`] for each: an hour of a hundred
/// readings a second, and little beside what a small machine has.
pub(crate) const COLLECT_MEMORY_BYTES: u64 = 64 * 1024 * 1024;

/// What a line in memory takes beside its bytes.
pub(crate) const COLLECT_LINE_EXTRA_BYTES: u64 = 128;

/// Greatest spool unless it is told otherwise, as the flag has it: ten readings a second of 100 bytes each take 86 MB a day, so three days
/// of a plant, or a long weekend in which nobody looks.
pub(crate) const SPOOL_BYTES_DEFAULT: &str = "256MiB";

/// Least spool, bytes: the longest line has room in it, also if all of its bytes have to be escaped.
pub(crate) const SPOOL_BYTES_MIN: u64 = 1024 * 1024;

/// Greatest segment of a spool, bytes. A segment is removed as a whole once all of it is kept.
pub(crate) const SPOOL_SEGMENT_BYTES: u64 = 4 * 1024 * 1024;

/// Segments that a spool has room for, at least: so much of it, a part in that many, may be lines that are kept already.
pub(crate) const SPOOL_SEGMENTS_MIN: u64 = 8;

/// Time after which a line that the cluster does not keep yet is on the disk of the collector. Most lines are kept sooner, and
/// then the disk is not troubled: cards of small machines wear out.
pub(crate) const SPOOL_SYNC_AFTER: Duration = Duration::from_secs(1);

/// Pause before a spool that could not be written is tried again.
pub(crate) const SPOOL_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Greatest file that says how much of a spool is kept, bytes.
pub(crate) const SPOOL_KEPT_BYTES: usize = 64;

/// Longest question to an instrument, bytes.
pub(crate) const COLLECT_QUESTION_BYTES_MAX: usize = 1024;

/// Time in which an instrument has to take in a question; then it counts as gone.
pub(crate) const COLLECT_QUESTION_TIME_MAX: Duration = Duration::from_secs(5);

/// Pause before an instrument is dialled again that has said something and closed in order: some do after each reading.
pub(crate) const COLLECT_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Time between two looks of the thread that reads standard input whether it is to end.
pub(crate) const COLLECT_INPUT_LOOK_EVERY: Duration = Duration::from_millis(100);

const _: () = assert!(SPOOL_BYTES_MIN >= 4 * COLLECT_LINE_BYTES_MAX as u64 + 4096);
const _: () = assert!(COLLECT_MEMORY_BYTES > CLIENT_IN_FLIGHT_BYTES_MAX as u64);
const _: () = assert!(COLLECT_LINE_BYTES_MAX >= READ_BUFFER_BYTES);
