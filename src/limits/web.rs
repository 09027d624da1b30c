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
