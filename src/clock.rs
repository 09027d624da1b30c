//! The wall clock, as something that is handed in: the system's, or the one a simulation sets.
//!
//! It is for ids and for the times in log lines. Waits and deadlines take [`tokio::time::Instant`], which no jump of the
//! wall clock moves.

use std::time::{SystemTime, UNIX_EPOCH};

/// A wall clock. Clones show the same time.
#[derive(Clone, Debug, Default)]
pub(crate) enum Clock {
    /// The system's.
    #[default]
    System,
    /// That of a simulated host.
    #[cfg(feature = "simulation")]
    Simulated(SimClock),
}

impl Clock {
    /// The time for log lines.
    #[must_use]
    pub(crate) fn now(&self) -> SystemTime {
        match self {
            Self::System => SystemTime::now(),
            #[cfg(feature = "simulation")]
            Self::Simulated(clock) => clock.now(),
        }
    }

    /// The time in ns since the Unix epoch; 0 on a machine whose clock stands before it.
    #[must_use]
    pub(crate) fn wall_ns(&self) -> u64 {
        let since = self.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(feature = "simulation")]
pub(crate) use simulated::SimClock;

#[cfg(feature = "simulation")]
mod simulated {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use tokio::time::Instant;

    /// A wall clock that follows the runtime's time, which may be paused, and jumps when told. Clones are the same clock.
    #[derive(Clone, Debug)]
    pub(crate) struct SimClock {
        started: Instant,
        /// What it showed, or would have shown, at `started`: ns since the Unix epoch.
        epoch_ns: Arc<AtomicU64>,
    }

    impl SimClock {
        /// A clock that shows `epoch_ns` now.
        #[must_use]
        pub(crate) fn new(epoch_ns: u64) -> Self {
            Self { started: Instant::now(), epoch_ns: Arc::new(AtomicU64::new(epoch_ns)) }
        }

        /// Jumps forward, or back if `ns` is negative.
        pub(crate) fn jump(&self, ns: i64) {
            let epoch_ns = self.epoch_ns.load(Ordering::Relaxed);
            self.epoch_ns.store(epoch_ns.saturating_add_signed(ns), Ordering::Relaxed);
        }

        /// What it shows.
        #[must_use]
        pub(crate) fn now(&self) -> SystemTime {
            UNIX_EPOCH + Duration::from_nanos(self.epoch_ns.load(Ordering::Relaxed)) + self.started.elapsed()
        }
    }
}
