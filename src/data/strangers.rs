//! What others wrote into `data.txt`, told: once, and then counted, so that whoever writes on and on fills no log.
//!
//! The log finds it and keeps its records readable beside it. It is no rot: no entry of a ledger is lacking by it.

use std::cell::Cell;

use tokio::time::Instant;

use super::log::Foreign;
use crate::limits;

/// Tells what others wrote.
#[derive(Default)]
pub(crate) struct Strangers {
    said: Cell<Option<Instant>>,
    /// Bytes that nothing was said about.
    unsaid: Cell<u64>,
}

impl Strangers {
    /// Takes what the log found.
    pub(crate) fn told(&self, foreign: &Foreign) {
        if foreign.bytes > 0 {
            self.unsaid.set(self.unsaid.get() + foreign.bytes);
            self.say(foreign.offset, Instant::now());
        }
    }

    fn say(&self, offset: u64, now: Instant) {
        if self.said.get().is_some_and(|said| now.duration_since(said) < limits::FOREIGN_SAID_EVERY) {
            return;
        }
        self.said.set(Some(now));
        let bytes = self.unsaid.take();
        tracing::warn!(
            "somebody else wrote {bytes} bytes into data.txt, at offset {offset}: they are no records and are passed over; all \
             records are kept and read; let nobody write there, and remove what was written while the node is stopped, or \
             leave it"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_writes_on_and_on_is_told_once_a_minute() {
        let strangers = Strangers::default();
        let write = |bytes| strangers.told(&Foreign { bytes, ..Foreign::default() });
        write(0);
        assert_eq!(strangers.said.get(), None);
        write(5);
        let first = strangers.said.get();
        assert_eq!((first.is_some(), strangers.unsaid.get()), (true, 0));
        (0..100).for_each(|_| write(7));
        assert_eq!((strangers.said.get(), strangers.unsaid.get()), (first, 700));
        tokio::time::advance(limits::FOREIGN_SAID_EVERY).await;
        write(1);
        assert_eq!(strangers.unsaid.get(), 0);
    }
}
