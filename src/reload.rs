//! Files of settings that are read again whenever they change, and at SIGHUP.

use std::fmt;
use std::path::PathBuf;
use std::time::SystemTime;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::limits;

/// What is wrong with a line of such a file. The line itself is not shown: it may have a secret in it that should not be there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WrongLine {
    /// What the file is called.
    pub(crate) of: &'static str,
    /// Its number, from 1 on.
    pub(crate) line: usize,
    /// What is wrong.
    pub(crate) cause: String,
}

impl fmt::Display for WrongLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of {}: {}; it is passed over", self.line, self.of, self.cause)
    }
}

/// Says in the log what is wrong with a file.
pub(crate) fn tell(wrong: &[WrongLine]) {
    wrong.iter().take(limits::WRONG_LINES_TOLD_MAX).for_each(|wrong| tracing::warn!("{wrong}"));
}

/// When each file was changed, and how long it was.
type Seen = Vec<Option<(SystemTime, u64)>>;

/// Files that are watched.
pub(crate) struct Watched {
    paths: Vec<PathBuf>,
    seen: Option<Seen>,
    hangups: Signal,
    ticks: Interval,
}

impl Watched {
    /// None if the system does not let it: then what the files said at the start counts.
    pub(crate) fn new(paths: Vec<PathBuf>) -> Option<Self> {
        let told = |error| tracing::error!("cannot watch for SIGHUP: {error}; what the files said at the start counts");
        let hangups = signal(SignalKind::hangup()).map_err(told).ok()?;
        let mut ticks = interval(limits::BOOK_LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Some(Self { paths, seen: None, hangups, ticks })
    }

    /// Waits until it is time to look; true if they are to be read: the first time, at SIGHUP, and after a change.
    pub(crate) async fn look(&mut self) -> bool {
        let asked = tokio::select! {
            _ = self.ticks.tick() => false,
            _ = self.hangups.recv() => true,
        };
        let look = |path| std::fs::metadata(path).ok().and_then(|meta| Some((meta.modified().ok()?, meta.len())));
        let now: Seen = self.paths.iter().map(look).collect();
        let changed = self.seen.as_ref() != Some(&now);
        self.seen = Some(now);
        asked || changed
    }
}
