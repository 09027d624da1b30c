//! Bounds of a cluster in containers, `acopio demo`. See the page above this one.

use std::time::Duration;

use super::STOP_TIME_MAX;

/// The oldest programming interface of an engine that is spoken with: that of Docker 20.10, of 2020, the first that lets
/// every container send ICMP echoes without a capability.
pub(crate) const ENGINE_API_MIN: (u16, u16) = (1, 41);

/// Time an engine has to begin its answer to anything but a build. Starting a container takes a second or two on a slow
/// machine, removing one with a full disk cache some more.
pub(crate) const ENGINE_TIME_MAX: Duration = Duration::from_secs(60);

/// Time an engine has to build the image: it copies some ten to two hundred megabytes.
pub(crate) const ENGINE_BUILD_TIME_MAX: Duration = Duration::from_secs(300);

/// Bytes of the image that are handed to the engine at a time.
pub(crate) const ENGINE_CHUNK_BYTES: usize = 64 * 1024;

/// Such pieces that wait for the engine; past it reading waits.
pub(crate) const ENGINE_CHUNKS_MAX: usize = 16;

/// Shared objects that the program is linked with: it has three or four.
pub(crate) const IMAGE_OBJECTS_MAX: usize = 64;

/// Longest line of a container that is shown, bytes; of a longer one this much. The log files have it whole.
pub(crate) const CONTAINER_LINE_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a container's output that the engine keeps in a file before it begins another: it is there to be followed,
/// the log files have it whole.
pub(crate) const CONTAINER_LOG_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Such files of a container: the one that is written and the one before.
pub(crate) const CONTAINER_LOG_FILES: usize = 2;

/// Time between two looks at whether a container that ended runs again.
pub(crate) const CONTAINER_POLL: Duration = Duration::from_millis(200);

/// Time between two looks at whether a followed log file has more.
pub(crate) const TAIL_EVERY: Duration = Duration::from_millis(200);

/// Bytes of a followed log file that are read at a time.
pub(crate) const TAIL_BYTES_MAX: usize = 64 * 1024;

/// Time a container's first line may take: the engine sets up its network and its file system first.
pub(crate) const CONTAINER_START_TIME_MAX: Duration = Duration::from_secs(30);

/// Time a container has from SIGTERM to SIGKILL: a second more than what runs in it takes at most.
pub(crate) const CONTAINER_STOP_TIME_MAX: Duration = STOP_TIME_MAX.saturating_add(Duration::from_secs(1));

/// Data nodes of a demo: its network holds many more, the machine does not.
pub(crate) const DEMO_NODES_MAX: usize = 32;

/// Clients of a demo.
pub(crate) const DEMO_CLIENTS_MAX: usize = 16;

/// Heads of a demo.
pub(crate) const DEMO_HEADS_MAX: usize = 4;

/// Bytes of a demo's name: the engine takes no container names above 63 as host names, and ours get a suffix.
pub(crate) const DEMO_NAME_BYTES_MAX: usize = 40;

/// Time that a step of a guided run waits for what it expects, beside some heartbeats.
pub(crate) const SCRIPT_STEP_TIME_MAX: Duration = Duration::from_secs(30);

/// Acknowledged messages that a guided run compares with what it reads: minutes at ten a second.
pub(crate) const SCRIPT_MESSAGES_MAX: usize = 100_000;

/// Lines of a heartbeat log that a step shows.
pub(crate) const SCRIPT_LINES_SHOWN_MAX: usize = 6;

/// Messages that have to be acknowledged while a fault lasts.
pub(crate) const SCRIPT_MESSAGES_MIN: usize = 5;
