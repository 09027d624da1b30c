//! Lines about peers of a role whose tasks share them, with the bounds of [`Repeats`]. What was only counted is told
//! beside a later line, or at the end.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;
use tracing::Level;

use crate::limits;
use crate::repeats::{Repeats, Saying};

/// What was said about peers.
#[derive(Debug)]
pub(crate) struct PeerLog(Mutex<Said>);

#[derive(Debug)]
struct Said {
    repeats: Repeats<Level>,
    /// When what was counted was looked at last.
    looked: Instant,
}

impl Default for PeerLog {
    fn default() -> Self {
        Self(Mutex::new(Said { repeats: Repeats::new(limits::LOG_REPEAT_EVERY), looked: Instant::now() }))
    }
}

impl PeerLog {
    /// Logs something that a peer can cause as often as it likes; `None` stands for one whose address is not known.
    pub(crate) fn say(&self, peer: Option<IpAddr>, level: Level, line: &str) {
        let mut sayings = Vec::new();
        {
            let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            if now.duration_since(said.looked) >= limits::ALARM_EVERY {
                said.looked = now;
                sayings = said.repeats.due(now);
            }
            sayings.extend(said.repeats.note(peer, line, level, now));
        }
        sayings.iter().for_each(write);
    }
}

impl Drop for PeerLog {
    fn drop(&mut self) {
        let said = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        said.repeats.last_words().iter().for_each(write);
    }
}

fn write(saying: &Saying<Level>) {
    if saying.detail == Level::WARN {
        tracing::warn!("{saying}");
    } else {
        tracing::info!("{saying}");
    }
}
