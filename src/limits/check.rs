//! Bounds of the checks from outside: verify, audit, torture. See the page above this one.

#[cfg(doc)]
use super::{BACKOFF_MAX, HEAD_SILENCE_MAX, REPORT_EVERY};
use super::{DISK_RESUME_BYTES_MIN, NODE_WINDOW_MESSAGES_MAX, NODES_MAX, READER_HOLD_TIME, REGISTRO_RANGES_MAX};
use std::time::Duration;

// ---- bench ------------------------------------------------------------------------------------------------------------

/// Connections of a bench: what a head takes at most.
pub(crate) const BENCH_CLIENTS_MAX: usize = 10_000;

/// Messages that a connection of a bench has in flight.
pub(crate) const BENCH_IN_FLIGHT_MAX: usize = 100_000;

/// Messages of all connections in flight: their times are kept, eight bytes each, and their bytes wait in sockets.
pub(crate) const BENCH_IN_FLIGHT_ALL_MAX: usize = 1_000_000;

/// Bytes that a connection has ready to send before it makes more.
pub(crate) const BENCH_OUT_BYTES_MAX: usize = 256 * 1024;

/// Longest time of a message that is told apart; longer ones count as this.
pub(crate) const BENCH_LATENCY_MAX: Duration = Duration::from_secs(3600);

/// Time that messages in flight have for their answers once nothing more is sent: longer than an eviction.
pub(crate) const BENCH_DRAIN_TIME_MAX: Duration = Duration::from_secs(30);

/// Time between two lines of progress.
pub(crate) const BENCH_PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Time between two looks at whether something is ready.
pub(crate) const BENCH_POLL_EVERY: Duration = Duration::from_millis(20);

/// Syncs of a small write that have to be quick in a row before a bench begins.
pub(crate) const BENCH_CALM_SYNCS: usize = 5;

/// What counts as quick: some times what an idle disk takes.
pub(crate) const BENCH_CALM_SYNC_MAX: Duration = Duration::from_millis(20);

/// Time that data nodes have to report what they keep in the end: they do so every second.
pub(crate) const BENCH_REPORT_TIME_MAX: Duration = Duration::from_secs(3);

/// How far the clocks of heads may be behind this machine's, for what is read back: older messages are not looked at.
pub(crate) const BENCH_CLOCKS_APART_MAX: Duration = Duration::from_secs(3600);

/// Longest measurement.
pub(crate) const BENCH_TIME_MAX: Duration = Duration::from_secs(24 * 3600);

// ---- torture ----------------------------------------------------------------------------------------------------------

/// Messages of one torture: rate times duration. The checker keeps a few bytes of each, and the files that it reads in
/// the end some fifty for each copy.
pub(crate) const TORTURE_MESSAGES_MAX: u64 = 2_000_000;

/// Heads and data nodes of a torture: processes of one machine, a link for each pair.
pub(crate) const TORTURE_PROCESSES_MAX: usize = 16;

/// Clients of a torture, of each kind.
pub(crate) const TORTURE_CLIENTS_MAX: usize = 32;

/// Messages that a client of the library has in flight under torture: some seconds of the usual rate, so that no fault
/// makes it hold its breath, and few enough to be sent again in no time.
pub(crate) const TORTURE_IN_FLIGHT_MESSAGES_MAX: usize = 1024;

/// Lines a text client has sent and has no answer to.
pub(crate) const TORTURE_LINES_WAITING_MAX: usize = 256;

/// Time between two looks at how many messages are due.
pub(crate) const TORTURE_TICK: Duration = Duration::from_millis(10);

/// Time for which a client of the library goes on trying: longer than any fault, so that it gives nothing up.
pub(crate) const TORTURE_RETRY_TIME: Duration = Duration::from_secs(60);

/// Silence after which a text client that waits for an answer goes on with the next head: longer than the eviction of a
/// silent node, and what the library takes as well.
pub(crate) const TORTURE_SILENCE_MAX: Duration = Duration::from_secs(10);

/// Time a head has to answer a handshake or a question for its status.
pub(crate) const TORTURE_STATUS_TIME_MAX: Duration = Duration::from_secs(2);

/// Time between two looks at whether the cluster is whole.
pub(crate) const TORTURE_POLL_EVERY: Duration = Duration::from_millis(50);

/// Time the cluster has to be whole again after the last fault was undone: a node waits up to [`BACKOFF_MAX`] before it
/// dials, takes [`HEAD_SILENCE_MAX`] to give up a silent head, and then the two again.
pub(crate) const TORTURE_WHOLE_TIME_MAX: Duration = Duration::from_secs(60);

/// Time for which a node of a torture may be away before its copies are made again: some faults are shorter and some
/// longer.
pub(crate) const TORTURE_REPAIR_AFTER: Duration = Duration::from_secs(2);

/// Time for which no head may know of a record short of copies until that counts: nodes look and report every second.
pub(crate) const TORTURE_COPIES_CALM: Duration = Duration::from_secs(3);

/// Time the read after healing goes on trying. It waits for a node whose files are wiped until the others have reported
/// that they lack no copy, at [`REPORT_EVERY`] at the latest.
pub(crate) const TORTURE_READ_RETRY_TIME: Duration = Duration::from_secs(30);

/// Time a follower has to deliver everything that was acknowledged once the cluster is whole: longer than it holds back
/// what comes behind a message that is missing.
pub(crate) const TORTURE_FOLLOW_TIME_MAX: Duration = Duration::from_secs(45);

/// Time for which nothing has come from a follower that has everything; then nothing more is expected from it.
pub(crate) const TORTURE_FOLLOW_CALM: Duration = Duration::from_secs(1);

/// Time a flip waits for a file to be sealed.
pub(crate) const TORTURE_SEALED_TIME_MAX: Duration = Duration::from_secs(10);

/// Ports for the heads: above the privileged ones and below those that systems give to connections, one of which could
/// take the port of a head that is away.
pub(crate) const TORTURE_PORTS: std::ops::Range<u16> = 10_000..30_000;

/// Ports that are tried before a torture gives up.
pub(crate) const TORTURE_PORT_TRIES_MAX: usize = 1000;

/// Least size of the disk that is filled, bytes: a node takes messages again when [`DISK_RESUME_BYTES_MIN`] are free, and
/// the rest is for its records. What a run stores comes on top.
pub(crate) const TORTURE_DISK_BYTES_MIN: u64 = DISK_RESUME_BYTES_MIN + 16 * 1024 * 1024;

/// Bytes that a message of a torture takes on a disk, names of copies included, amply.
pub(crate) const TORTURE_RECORD_BYTES_MAX: u64 = 160;

/// Faults whose messages may still lack an answer: those of the longest time that one is waited for.
pub(crate) const TORTURE_FAULTS_OPEN_MAX: usize = 64;

/// Broken promises that are shown; the others are counted.
pub(crate) const TORTURE_FINDINGS_SHOWN_MAX: usize = 20;

/// Lines of the history that are shown; it is kept whole.
pub(crate) const TORTURE_HISTORY_LINES_MAX: usize = 200;

/// Time before and after a message within which the history of the cluster is shown with it.
pub(crate) const TORTURE_HISTORY_AROUND: Duration = Duration::from_secs(5);

// ---- verify and audit --------------------------------------------------------------------------------------------

/// Memory in which entries are sorted before they go to a temporary file, bytes. At most three sorts are under way at
/// the same time; more memory would make fewer runs, and nothing faster.
pub(crate) const SORT_RUN_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Memory of a merge of sorted runs, bytes, shared among the runs.
pub(crate) const SORT_MERGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of a sorted run that are written at once.
pub(crate) const SORT_WRITE_BYTES: usize = 256 * 1024;

/// Sorted runs of one level of a sort; when there are as many they become one run of the next level. Each still has
/// a read buffer of 32 KiB in a merge, and 16 GiB of entries are sorted in one pass.
pub(crate) const SORT_FAN_IN_MAX: usize = 512;

/// Examples of each kind of finding that `audit` and `verify` list; the rest is counted.
pub(crate) const FINDINGS_SHOWN_MAX: usize = 20;

/// Faults of one folder that `verify` lists; the rest is counted.
pub(crate) const VERIFY_PROBLEMS_MAX: usize = 100_000;

/// Data folders of one `audit` or `verify`: all nodes of a head, and those they replaced.
pub(crate) const AUDIT_FOLDERS_MAX: usize = 8 * NODES_MAX;

/// Registro files of one `audit`: ten years of eight heads.
pub(crate) const AUDIT_REGISTROS_MAX: usize = 32 * 1024;

/// Names of data nodes that the registros of one `audit` may hold. A raw node has a new one each time it connects.
pub(crate) const AUDIT_NODES_MAX: usize = 60_000;

/// Acknowledgements that cover the same id at the same time: every node of every head, and more.
pub(crate) const AUDIT_OVERLAP_MAX: usize = 8 * 1024;

/// Longest line of a registro that is read, bytes; [`REGISTRO_RANGES_MAX`] ranges take less.
pub(crate) const REGISTRO_LINE_BYTES_MAX: usize = 64 * 1024;

/// Most ids in one range of a registro: a node acknowledges no more than its window. A larger number is damage, and
/// would cost an `audit` hours.
pub(crate) const REGISTRO_RANGE_IDS_MAX: u64 = 1024 * 1024;

const _: () = assert!(SORT_MERGE_BYTES_MAX / SORT_FAN_IN_MAX >= 4096);
const _: () = assert!(REGISTRO_RANGE_IDS_MAX >= NODE_WINDOW_MESSAGES_MAX as u64);
const _: () = assert!(REGISTRO_LINE_BYTES_MAX >= 2 * REGISTRO_RANGES_MAX * 34 && AUDIT_NODES_MAX < u16::MAX as usize);
const _: () = assert!(AUDIT_FOLDERS_MAX + AUDIT_REGISTROS_MAX < u16::MAX as usize);
const _: () = assert!(TORTURE_FOLLOW_TIME_MAX.as_millis() > READER_HOLD_TIME.as_millis());
const _: () = assert!(TORTURE_RETRY_TIME.as_millis() > 2 * TORTURE_SILENCE_MAX.as_millis());
