//! Bounds of `acopio top`.

use std::time::Duration;

/// Time between an answer of the heads and the next question.
pub(crate) const TOP_EVERY: Duration = Duration::from_secs(1);

/// Keys that wait while the screen is drawn; more wait in the terminal.
pub(crate) const TOP_KEYS_MAX: usize = 64;

/// Least time between two reads of the hour of a source whose curve is shown.
pub(crate) const TOP_CURVE_EVERY: Duration = Duration::from_secs(5);

/// Time a read for a curve has; then it is begun anew if it is still wanted.
pub(crate) const TOP_READ_TIME_MAX: Duration = Duration::from_secs(20);

/// Characters of a filter: the longest name of a source has not many more.
pub(crate) const TOP_FILTER_CHARS_MAX: usize = 64;

/// Bytes of a last message that are kept to be shown.
pub(crate) const TOP_TEXT_BYTES_MAX: usize = 4096;

/// Least time that the syncs of a data node are counted over: they are told in steps.
pub(crate) const TOP_SYNCS_TIME_MIN: Duration = Duration::from_secs(5);

/// Time after which they are counted anew.
pub(crate) const TOP_SYNCS_TIME_MAX: Duration = Duration::from_secs(10);

/// Lines of alarms: one of so many of the screen.
pub(crate) const TOP_ALARM_LINES_ONE_OF: u16 = 4;
