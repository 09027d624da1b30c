//! How far a head has let its clock be trusted, where that survives the process: `clock.txt`, one line `<id> <crc>`.
//!
//! What a head calls safe is a promise: it will give no id below. So it calls nothing safe that is not written down, in
//! advance, and a head that starts again gives ids above what it finds, whatever its machine's clock shows. Nothing is
//! written while nobody asks what is safe.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;

use tokio::sync::Notify;

use super::shelf::Shelf;
use super::state::Head;
use crate::limits;
use crate::wire::id::RecordId;

/// Name of the file in the folder of the logs.
pub(crate) const FILE: &str = "clock.txt";

/// What one head may call safe.
pub(crate) struct Floor {
    shelf: Shelf,
    kept: Cell<RecordId>,
    /// Told when more is to be written down.
    wanted: Notify,
    /// Told when more was.
    moved: Notify,
    /// Serial numbers of the nodes that asked for more than was written down.
    owed: RefCell<BTreeSet<u64>>,
    /// The file cannot be written, which was said once.
    failed: Cell<bool>,
}

impl Floor {
    /// What the head whose file lies there has called safe. A file that cannot be read is said loudly.
    #[must_use]
    pub(crate) fn open(shelf: Shelf) -> Self {
        let kept = match shelf.read(limits::CLOCK_BYTES_MAX) {
            Ok(text) => parse(&text).unwrap_or_else(|| {
                tracing::error!("{shelf} makes no sense: see that the clock of this machine is not behind");
                RecordId::ZERO
            }),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::error!(
                        "{shelf} cannot be read: {error}; see that the clock of this machine is not behind"
                    );
                }
                RecordId::ZERO
            }
        };
        Self {
            shelf,
            kept: Cell::new(kept),
            wanted: Notify::new(),
            moved: Notify::new(),
            owed: RefCell::default(),
            failed: Cell::new(false),
        }
    }

    /// Ids of this head are not below.
    #[must_use]
    pub(crate) const fn kept(&self) -> RecordId {
        self.kept.get()
    }

    /// As much of `safe` as is written down. More is written soon if that is running out.
    pub(crate) fn cap(&self, safe: RecordId) -> RecordId {
        if self.kept.get() < safe.plus(limits::CLOCK_AHEAD.as_nanos() as u64 / 2) {
            self.wanted.notify_one();
        }
        safe.min(self.kept.get())
    }

    /// Writes down that ids up to some time after `safe` are called safe.
    async fn keep(&self, safe: RecordId) {
        let ahead = safe.plus(limits::CLOCK_AHEAD.as_nanos() as u64);
        let ahead = if ahead.is_valid() { ahead } else { safe };
        if ahead <= self.kept.get() {
            return;
        }
        match self.shelf.write_aside(line(ahead)).await {
            Ok(_stamp) => self.failed.set(false),
            // A read has to work on a full disk, too.
            Err(error) if !self.failed.replace(true) => {
                tracing::error!("{} cannot be written: {error}; free space in the logs", self.shelf);
            }
            Err(_) => {}
        }
        self.kept.set(ahead);
        self.moved.notify_waiters();
    }
}

impl Head {
    /// Waits until what is safe now can be said.
    pub(crate) async fn floor_ready(&self) {
        loop {
            let moved = self.floor.moved.notified();
            let safe = self.core_mut(|core| core.safe(self.config.clock.wall_ns()));
            if self.floor.cap(safe) == safe {
                return;
            }
            moved.await;
        }
    }

    /// A node asks for `at_least`: if that is not written down yet, it is told again once it is.
    pub(crate) fn owe_safe(&self, node: u64, at_least: RecordId, said: RecordId) {
        if said < at_least {
            self.floor.owed.borrow_mut().insert(node);
        }
    }

    /// Writes the file whenever it is to say more, until the head is dropped.
    pub(crate) async fn keep_floor(self: Rc<Self>) {
        loop {
            self.floor.wanted.notified().await;
            let safe = self.core_mut(|core| core.safe(self.config.clock.wall_ns()));
            self.floor.keep(safe).await;
            let owed = self.floor.owed.take();
            if !owed.is_empty() {
                let id = self.safe_now();
                let nodes = self.nodes().into_iter().filter(|node| owed.contains(&node.key.serial()));
                nodes.for_each(|node| self.tell_safe(&node, id));
            }
        }
    }
}

fn line(id: RecordId) -> Vec<u8> {
    let id = id.to_string();
    let crc = crc32c::crc32c(id.as_bytes());
    format!("{id} {crc:08x}\n").into_bytes()
}

fn parse(text: &str) -> Option<RecordId> {
    let (id, crc) = text.strip_suffix('\n')?.split_once(' ')?;
    if crc == format!("{:08x}", crc32c::crc32c(id.as_bytes())) { id.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn id(seconds: u64) -> RecordId {
        RecordId { time_ns: seconds * 1_000_000_000, incarnation: 5 }
    }

    #[tokio::test]
    async fn nothing_is_safe_that_is_not_written_down() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::Path(dir.path().join(FILE));
        let floor = Floor::open(shelf.clone());
        assert_eq!(floor.cap(id(50)), RecordId::ZERO);
        floor.wanted.notified().await;
        floor.keep(id(50)).await;
        assert_eq!(floor.cap(id(50)), id(50));
        assert!(floor.cap(id(90)) < id(90));
        let again = Floor::open(shelf.clone());
        assert!(again.kept() > id(50), "it is written in advance");
        assert_eq!(again.kept(), floor.kept());
        std::fs::write(dir.path().join(FILE), "nonsense\n").unwrap();
        assert_eq!(Floor::open(shelf).kept(), RecordId::ZERO);
    }

    #[tokio::test]
    async fn a_disk_that_takes_nothing_holds_up_no_reader() {
        let dir = tempfile::tempdir().unwrap();
        let floor = Floor::open(Shelf::Path(dir.path().join("missing").join(FILE)));
        floor.keep(id(50)).await;
        assert_eq!(floor.cap(id(50)), id(50));
    }

    #[test]
    fn only_a_whole_line_counts() {
        let whole = String::from_utf8(line(id(7))).unwrap();
        assert_eq!(parse(&whole), Some(id(7)));
        assert!((0..whole.len()).all(|end| parse(whole.get(..end).unwrap()).is_none()));
        assert_eq!(parse(&whole.replacen('7', "8", 1)), None);
    }
}
