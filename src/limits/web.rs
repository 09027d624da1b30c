//! Bounds of the web role. See the page above this one.

use std::time::Duration;

/// Connections served at the same time; more wait in the system's queue.
pub(crate) const WEB_CONNECTIONS_MAX: usize = 256;

/// Time a connection has to send the head of its next request; then it is closed, also an idle one.
pub(crate) const WEB_HEAD_TIME_MAX: Duration = Duration::from_secs(30);

/// Buffer of a connection, bytes: the longest request line with its fields.
pub(crate) const WEB_HEAD_BYTES_MAX: usize = 16 * 1024;

/// Fields of one request.
pub(crate) const WEB_FIELDS_MAX: usize = 64;

/// Greatest body of a request, bytes: one number, with some words around it.
pub(crate) const WEB_BODY_BYTES_MAX: usize = 4096;

/// Time from a request's head to its answer, beside the time in which a value has to be kept: its body may come slowly.
pub(crate) const WEB_REQUEST_TIME_EXTRA: Duration = Duration::from_secs(10);

/// Time that what was sent may go without the peer taking it: one that reads nothing gives its place back.
pub(crate) const WEB_UNREAD_TIME_MAX: Duration = Duration::from_secs(30);

/// Values that are listed by default: some hours of the seed's rate, and a page of less than 100 kB.
pub(crate) const WEB_VALUES_DEFAULT: usize = 1000;

/// Most values that can be listed: memory and pages follow from it, some 100 bytes each.
pub(crate) const WEB_VALUES_MAX: usize = 100_000;

/// Values on the first page.
pub(crate) const WEB_FIRST_PAGE_VALUES: usize = 10;

/// Greatest text of a number, bytes.
pub(crate) const WEB_NUMBER_BYTES_MAX: usize = 64;

/// Bytes that are kept, for the list, of a stored text that is no number.
pub(crate) const WEB_TEXT_BYTES_MAX: usize = 64;

/// Bytes of a request line that are logged.
pub(crate) const WEB_LOGGED_BYTES_MAX: usize = 128;

/// Time for which what a head said of the cluster is not asked again.
pub(crate) const WEB_STATUS_FRESH: Duration = Duration::from_secs(1);

/// Time each head has to say how the cluster is.
pub(crate) const WEB_STATUS_TIME_MAX: Duration = Duration::from_secs(2);

/// Time Redis has to take a connection or to answer.
pub(crate) const WEB_REDIS_TIME_MAX: Duration = Duration::from_secs(5);

/// Time without a value after which Redis is asked whether it is there: one that was started anew gets what it lacks.
pub(crate) const WEB_REDIS_PING_EVERY: Duration = Duration::from_secs(2);

/// Values that are handed on to Redis in one go.
pub(crate) const WEB_REDIS_BATCH_MAX: usize = 256;

/// Greatest body of a message that is stored, bytes: JSON with every byte of the payload written out.
pub(crate) const WEB_MESSAGE_BODY_BYTES_MAX: usize = 6 * super::MESSAGE_BYTES_MAX + 4096;

/// Messages that are being taken at the same time: their bodies are in memory.
pub(crate) const WEB_STORES_MAX: usize = 16;

/// Reads that are answered at the same time; one more is told to come again.
pub(crate) const WEB_READS_MAX: usize = 32;

/// Streams of what comes that are open at the same time; so many connections are let in beside the others.
pub(crate) const WEB_STREAMS_MAX: usize = 1024;

/// Time that a read for somebody who asked goes on trying while no head answers or data nodes are away.
pub(crate) const WEB_READ_RETRY_TIME: Duration = Duration::from_secs(5);

/// Messages in one JSON answer, unless the question says less.
pub(crate) const WEB_MESSAGES_DEFAULT: u64 = 1000;

/// Most messages that a question for the last ones may name, and most in one JSON answer: a browser holds it whole.
pub(crate) const WEB_MESSAGES_MAX: u64 = 10_000;

/// The greatest number that a question for so many messages may name: the greatest that every program's JSON can say.
pub(crate) const WEB_LIMIT_MAX: u64 = (1 << 53) - 1;

/// Bytes of an answer that are put together before they are sent.
pub(crate) const WEB_CHUNK_BYTES: usize = 64 * 1024;

/// Most buckets of one series: more than a screen has columns.
pub(crate) const WEB_SERIES_BUCKETS_MAX: u64 = 2000;

/// Buckets of a series that nobody said the length of, about.
pub(crate) const WEB_SERIES_BUCKETS_DEFAULT: u64 = 240;

/// Values that one bucket of a series holds for its median: with the bound above some 8 MB for each read.
pub(crate) const WEB_SERIES_VALUES_MAX: usize = 512;

/// Fields of a source that are named for the choice of one.
pub(crate) const WEB_FIELDS_NAMED_MAX: usize = 64;

/// Sources whose last message and last hour are in memory, some 4 kB each; past it those that spoke longest ago go.
pub(crate) const WEB_SOURCES_MAX: usize = 2000;

/// Fields of the last message of a source that are in memory.
pub(crate) const WEB_SOURCE_FIELDS_MAX: usize = 8;

/// Bytes of the last message of a source, and of a text among its fields, that are in memory.
pub(crate) const WEB_SOURCE_TEXT_BYTES_MAX: usize = 200;

/// Minutes of the small curve of a source.
pub(crate) const WEB_SPARK_MINUTES: usize = 60;

/// Messages of the last hour that are read for the small curves when the role starts, the last ones.
pub(crate) const WEB_SPARK_MESSAGES_MAX: u64 = 500_000;

/// What came last and is in memory for streams that break and go on: messages, and bytes of them.
pub(crate) const WEB_LIVE_EVENTS_MAX: usize = 16 * 1024;

/// The same in bytes.
pub(crate) const WEB_LIVE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Bytes of a payload that a stream carries; of a longer one the beginning, and the id with which all of it is read.
pub(crate) const WEB_LIVE_TEXT_BYTES_MAX: usize = 4096;

/// Least time between two packets of a stream: what came meanwhile goes together.
pub(crate) const WEB_LIVE_PACE: Duration = Duration::from_millis(100);

/// Bytes a second that all streams together are sent. What is more than that waits, and a stream that falls behind for it is
/// told so: who looks does not take the time that writing needs. Ten streams never get there, a hundred barely.
pub(crate) const WEB_LIVE_BYTES_PER_S: f64 = 64.0 * 1024.0 * 1024.0;

/// Messages a second that the page follows; of more it shows some. Each takes it 7 µs, and a head and a data node nearly as much
/// again as keeping it: following all of a full load took a third of it.
pub(crate) const WEB_FOLLOW_PER_S: f64 = 20_000.0;

/// Messages that may come at once without being too many: a file that somebody sends.
pub(crate) const WEB_FOLLOW_BURST: f64 = 20_000.0;

/// The same after there were too many: these are shown, each time.
pub(crate) const WEB_FOLLOW_SAMPLE: f64 = 2000.0;

/// Time for which nothing is followed after there were too many.
pub(crate) const WEB_FOLLOW_REST: Duration = Duration::from_secs(1);

/// How much later than the quickest a record may come before it counts as late: then fewer are too many for this machine.
pub(crate) const WEB_FOLLOW_LATE_MAX: Duration = Duration::from_secs(3);

/// Records that are late one after the other, and the time that this takes, before they are too many: a data node that
/// comes back has some old ones, too.
pub(crate) const WEB_FOLLOW_LATE_MIN: u64 = 2000;

/// See there.
pub(crate) const WEB_FOLLOW_LATE_TIME: Duration = Duration::from_secs(1);

/// Time without too many after which clients' orders are heeded again.
pub(crate) const WEB_FOLLOW_CALM: Duration = Duration::from_secs(60);

/// What the process adds to its niceness: who looks waits for who writes, where both run on one machine.
pub(crate) const WEB_NICE: i32 = 10;

/// Time without an event after which a stream says that it is there.
pub(crate) const WEB_LIVE_ALIVE_EVERY: Duration = Duration::from_secs(15);

/// The same in the stream of the classroom, where people wait for what a button did.
pub(crate) const WEB_CLASSROOM_STATUS_EVERY: Duration = Duration::from_millis(500);

/// Time between two states of the cluster in a stream.
pub(crate) const WEB_LIVE_STATUS_EVERY: Duration = Duration::from_secs(2);

/// Data nodes whose pace of writing is remembered.
pub(crate) const WEB_PACES_MAX: usize = 256;

/// Least time that a pace of writing is measured over.
pub(crate) const WEB_PACE_TIME_MIN: Duration = Duration::from_secs(10);

/// Time after which a pace of writing is measured anew: what was an hour ago says little of the day.
pub(crate) const WEB_PACE_TIME_MAX: Duration = Duration::from_secs(3600);
