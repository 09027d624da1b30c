//! Bounds of what is read out of payloads, and of what is made of it.

use std::time::Duration;

/// Furthest back that a time ago may be, longer than any cluster is kept.
pub(crate) const MOMENT_AGO_MAX: Duration = Duration::from_secs(100 * 31_557_600);

/// Greatest payload that is read for its fields, bytes. A longer one is a picture or a file: it is kept and given back whole,
/// and has no fields.
pub const READING_BYTES_MAX: usize = 64 * 1024;

/// Most fields of one payload; a meter with all its registers has a hundred.
pub const READING_FIELDS_MAX: usize = 256;

/// Greatest name of a field, bytes, with the names that it is nested in.
pub const READING_NAME_BYTES_MAX: usize = 128;

/// Most rules in a file of them.
pub const RULES_MAX: usize = 1000;

/// Greatest rule, bytes.
pub const RULE_BYTES_MAX: usize = 1024;

/// Memory that one regular expression of a rule may take, bytes, and as much again while it is used: a thousand of them take
/// what a read may.
pub const RULE_PATTERN_BYTES_MAX: usize = 128 * 1024;

/// Greatest file of rules, bytes.
pub const RULES_BYTES_MAX: u64 = 1024 * 1024;

/// Buckets that are open at the same time, for values that come late: two months of minutes. Past it the oldest go out.
pub(crate) const BUCKETS_OPEN_MAX: usize = 100_000;

/// Time behind its end in which a bucket of a read that follows still takes what is under way.
pub(crate) const BUCKET_LATE_MAX: Duration = Duration::from_secs(1);

/// Empty buckets in a row that are shown: behind a longer silence, or a clock that is a year behind, the next one follows.
pub(crate) const BUCKETS_EMPTY_MAX: u64 = 10_000;

/// Values that all open buckets hold for their medians, of eight bytes each. Past it the oldest buckets go out.
pub(crate) const BUCKET_VALUES_MAX: usize = 4_000_000;

/// Values that one bucket holds for its median. Past it every other one stands for both.
pub(crate) const MEDIAN_VALUES_MAX: usize = 64 * 1024;

/// Fields, of each device where they are told apart, that are put together at the same time.
pub(crate) const BUCKET_SERIES_MAX: usize = 10_000;

/// Rows of one group of a Parquet file: all of them are in memory until it is written.
#[cfg(feature = "parquet")]
pub(crate) const PARQUET_GROUP_ROWS_MAX: usize = 64 * 1024;

/// Bytes of one group of a Parquet file, about, before compression.
#[cfg(feature = "parquet")]
pub(crate) const PARQUET_GROUP_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Time between two looks at what came, for a read that goes on where it stopped.
pub(crate) const READ_STATE_EVERY: Duration = Duration::from_secs(1);

/// Greatest file that says where a read stopped, bytes.
pub(crate) const READ_STATE_BYTES_MAX: usize = 256;

/// Names of fields that are told when one is asked for that no record has.
pub(crate) const FIELDS_TOLD_MAX: usize = 20;

/// Columns of a curve, and buckets that are kept for it: more than any terminal has.
pub(crate) const PLOT_PLACES_MAX: usize = 4096;

/// Time that a curve shows unless it is told otherwise.
pub(crate) const PLOT_TIME_DEFAULT: Duration = Duration::from_secs(3600);

/// Messages that one check counts, of 32 bytes each.
pub(crate) const CHECK_MESSAGES_MAX: usize = 4_000_000;

/// Devices that one watch knows.
pub(crate) const WATCH_DEVICES_MAX: usize = 10_000;

/// Last intervals of a device that its period is learnt from.
pub(crate) const WATCH_INTERVALS_MAX: usize = 32;

/// Least intervals that a period is learnt from.
pub(crate) const WATCH_INTERVALS_MIN: usize = 3;

/// Time before now that a watch learns from unless it is told otherwise.
pub(crate) const WATCH_LEARN_TIME: Duration = Duration::from_secs(3600);

/// Commands and requests of a watch that run at the same time.
pub(crate) const WATCH_ACTS_MAX: usize = 4;

/// Events that wait for their command or request. Past it they are counted and not handed on.
pub(crate) const WATCH_QUEUE_MAX: usize = 64;

/// Time that a command of a watch has; then it is killed, with what it started.
pub(crate) const WATCH_EXEC_TIME_MAX: Duration = Duration::from_secs(30);

/// Time that a request of a watch has.
pub(crate) const WATCH_WEBHOOK_TIME_MAX: Duration = Duration::from_secs(10);

/// Times that a request of a watch is tried.
pub(crate) const WATCH_WEBHOOK_TRIES: u32 = 3;

/// Pause between two of these.
pub(crate) const WATCH_WEBHOOK_PAUSE: Duration = Duration::from_secs(1);

/// Records that one read knows to be corrected.
pub(crate) const NOTES_MAX: usize = 100_000;

/// Greatest reason for a correction, bytes: a line.
pub(crate) const NOTE_WHY_BYTES_MAX: usize = 1000;

/// Messages that are closer to each other came together: their time says nothing of their device's period.
pub(crate) const MESSAGES_TOGETHER: Duration = Duration::from_millis(1);
