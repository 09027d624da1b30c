//! Bounds of the measuring devices. See the page above this one.

use std::time::Duration;

/// Time between two rounds if nobody says another: the seeds'.
pub(crate) const DEVICE_PERIOD_DEFAULT: Duration = Duration::from_secs(5);

/// Shortest period that a znode may ask for: below it a round would do nothing but ask ZooKeeper.
pub(crate) const DEVICE_PERIOD_MIN: Duration = Duration::from_millis(10);

/// Longest period that a znode may ask for.
pub(crate) const DEVICE_PERIOD_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Periods that a sensor waits at a barrier that nobody opens: a leader that was lost has a successor by then, and if not,
/// it measures all the same.
pub(crate) const DEVICE_BARRIER_PERIODS_MAX: u32 = 5;

/// Least time of that wait: a successor leads after a session's timeout.
pub(crate) const DEVICE_BARRIER_TIME_MIN: Duration = Duration::from_secs(30);

/// Devices that one round collects; more are told of and left out.
pub(crate) const DEVICES_MAX: usize = 1024;

/// Devices of one `acopio up`: processes of one machine.
pub(crate) const UP_DEVICES_MAX: usize = 64;

/// Bytes of a measurement's znode, of what a command prints, of a file or of a line, in which a number is looked for.
pub(crate) const DEVICE_VALUE_BYTES_MAX: usize = 4096;

/// Bytes that are shown of what is no number.
pub(crate) const DEVICE_SHOWN_BYTES_MAX: usize = 64;

/// Time a command or a file has to give a value.
pub(crate) const DEVICE_SOURCE_TIME_MAX: Duration = Duration::from_secs(10);

/// Requests of one mean to the web API: the second is for one that was just started again.
pub(crate) const DEVICE_API_TRIES: u32 = 2;

/// Time before the second.
pub(crate) const DEVICE_API_PAUSE: Duration = Duration::from_millis(200);

/// Bytes of an answer of the web API that are read.
pub(crate) const DEVICE_API_ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Records that wait for the cluster: some hours of a device's measurements. What comes while it is full is not kept, and
/// that is said.
pub(crate) const DEVICE_RECORDS_MAX: usize = 4096;

/// Time that records which wait have at the end.
pub(crate) const DEVICE_RECORDS_END_TIME_MAX: Duration = Duration::from_secs(3);

/// Time after which a record that has no answer yet is told of.
pub(crate) const DEVICE_KEPT_WITHIN: Duration = Duration::from_secs(3);

/// Time between two tries of what ZooKeeper refused, such as for a missing permission.
pub(crate) const DEVICE_REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// Time beyond a session's timeout that a device waits for the znode of another one of its id: that of a process which
/// was killed is gone by then.
pub(crate) const DEVICE_CLAIM_EXTRA: Duration = Duration::from_secs(1);

/// Time the ZooKeeper of `acopio up` has to serve: a Java program on a machine that is busy with the others.
pub(crate) const UP_ZOOKEEPER_TIME_MAX: Duration = Duration::from_secs(60);
