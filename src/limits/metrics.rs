//! Bounds of what machines watch: metrics, and the door at which a head or a data node gives them out.

use std::time::Duration;

/// Connections that such a door serves at the same time; more wait in the system's queue.
pub(crate) const HTTP_CONNECTIONS_MAX: usize = 16;

/// Time a connection there has to send the head of its next request; then it is closed, also an idle one.
pub(crate) const HTTP_HEAD_TIME_MAX: Duration = Duration::from_secs(60);

/// Buffer of such a connection, bytes: the longest request line with its fields. hyper takes no less.
pub(crate) const HTTP_HEAD_BYTES_MAX: usize = 8 * 1024;

/// Fields of one request there.
pub(crate) const HTTP_FIELDS_MAX: usize = 32;

/// Longest name of a user that a proxy says, bytes.
pub(crate) const HTTP_USER_BYTES_MAX: usize = 64;

/// Time for which metrics are not made anew: whoever asks more often gets what was said before.
pub(crate) const METRICS_FRESH: Duration = Duration::from_secs(1);

/// Sources whose age is among the metrics, the first by name: each is a time series wherever it is kept.
pub(crate) const METRICS_SOURCES_MAX: usize = 500;
