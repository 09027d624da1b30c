//! What this node has promised to readers, where it survives the process: `promised.txt`, one line `<id> <crc>`.
//!
//! A promise is kept in advance, [`limits::PROMISE_AHEAD`] further than was asked for, so that who follows costs a small
//! file now and then and not one for each page. A node that starts again holds to all that it may have promised.

use std::cell::Cell;
use std::fmt;
use std::io;

use tokio::sync::Mutex;

use super::segments::checksum;
use super::storage::Storage;
use super::worker::{Executor, Worker};
use crate::files::is_full;
use crate::limits;
use crate::wire::id::RecordId;

/// The file.
pub(crate) const PROMISED: &str = "promised.txt";

/// How far this node may promise without writing anything down.
pub(crate) struct Promise {
    kept: Cell<RecordId>,
    worker: Mutex<Worker<RecordId, io::Result<()>>>,
    /// The disk is full, which was said once.
    full: Cell<bool>,
}

impl Promise {
    /// What the folder holds to.
    ///
    /// # Errors
    /// The file is there and cannot be read, or the system gives no thread.
    pub(crate) fn open<S: Storage + 'static>(storage: S, executor: &Executor) -> io::Result<Self> {
        let kept = match storage.read_small(PROMISED, limits::PROMISED_BYTES_MAX) {
            Ok(text) => parse(&text).unwrap_or_else(|| {
                tracing::error!("{PROMISED} makes no sense: what followers were told before is not known any more");
                RecordId::ZERO
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => RecordId::ZERO,
            Err(error) => return Err(error),
        };
        let write = move |id: RecordId| storage.write_small(PROMISED, line(id).as_bytes());
        let worker = Mutex::new(Worker::start(executor, "promise", write)?);
        Ok(Self { kept: Cell::new(kept), worker, full: Cell::new(false) })
    }

    /// The greatest id below which a reader may have been told that everything has come.
    #[must_use]
    pub(crate) const fn kept(&self) -> RecordId {
        self.kept.get()
    }

    /// Writes down that everything below `next` may be promised, unless that is written already. On a full disk nothing
    /// is: what is there has to be read all the same, and such a node takes no Puts.
    ///
    /// # Errors
    /// Whatever else the disk says: nothing more may be promised.
    pub(crate) async fn keep(&self, next: RecordId) -> io::Result<()> {
        if next <= self.kept.get() {
            return Ok(());
        }
        let mut worker = self.worker.lock().await;
        // Another reader may have waited for the same.
        if next <= self.kept.get() {
            return Ok(());
        }
        let ahead = ahead_of(next);
        match worker.work(ahead).await {
            Some(Ok(())) => {
                self.full.set(false);
                self.kept.set(ahead);
                Ok(())
            }
            Some(Err(error)) if is_full(&error) => {
                if !self.full.replace(true) {
                    tracing::warn!(
                        "{PROMISED} cannot be written, the disk is full; what followers are told is kept in memory"
                    );
                }
                Ok(())
            }
            Some(Err(error)) => Err(error),
            None => Err(io::Error::other("the thread that writes it is gone")),
        }
    }
}

impl fmt::Debug for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Promise").field("kept", &self.kept).finish_non_exhaustive()
    }
}

/// What is written where `next` is promised.
fn ahead_of(next: RecordId) -> RecordId {
    let ahead = next.plus(limits::PROMISE_AHEAD.as_nanos() as u64);
    if ahead.is_valid() { ahead } else { next }
}

fn line(id: RecordId) -> String {
    let id = id.to_string();
    format!("{id} {}\n", checksum(&id))
}

fn parse(text: &[u8]) -> Option<RecordId> {
    let (id, crc) = std::str::from_utf8(text).ok()?.strip_suffix('\n')?.split_once(' ')?;
    if crc == checksum(id) { id.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::simulated::SimDisk;

    const fn id(seconds: u64) -> RecordId {
        RecordId { time_ns: seconds * 1_000_000_000, incarnation: 5 }
    }

    fn open(disk: &SimDisk) -> Promise {
        Promise::open(disk.clone(), &Executor::Thread).unwrap()
    }

    #[tokio::test]
    async fn a_promise_outlives_the_process_and_is_seldom_written() {
        let disk = SimDisk::default();
        let promise = open(&disk);
        assert_eq!(promise.kept(), RecordId::ZERO);
        promise.keep(id(50)).await.unwrap();
        assert!(promise.kept() > id(50));
        let written = disk.contents(PROMISED);
        promise.keep(id(50).plus(1)).await.unwrap();
        promise.keep(id(40)).await.unwrap();
        assert_eq!(disk.contents(PROMISED), written, "it is kept in advance");
        disk.crash(1);
        let again = open(&disk);
        assert_eq!(again.kept(), promise.kept());
        again.keep(id(90)).await.unwrap();
        assert!(open(&disk).kept() >= id(90));
    }

    #[tokio::test]
    async fn who_promises_at_the_same_time_waits_for_one_write() {
        let disk = SimDisk::default();
        let promise = open(&disk);
        let (one, two) = tokio::join!(promise.keep(id(50)), promise.keep(id(50).plus(9)));
        assert!(one.is_ok() && two.is_ok());
        assert_eq!(disk.contents(PROMISED), line(ahead_of(id(50))).as_bytes());
    }

    #[tokio::test]
    async fn a_full_disk_is_read_all_the_same_and_a_broken_one_promises_nothing() {
        let disk = SimDisk::default();
        let promise = open(&disk);
        disk.faults(|faults| faults.capacity = Some(0));
        promise.keep(id(50)).await.unwrap();
        assert_eq!(promise.kept(), RecordId::ZERO, "nothing is written, so the next one tries again");
        disk.faults(|faults| (faults.capacity, faults.die) = (None, Some(0)));
        promise.keep(id(50)).await.unwrap_err();
        disk.faults(|faults| faults.die = None);
        promise.keep(id(50)).await.unwrap();
        assert_eq!(open(&disk).kept(), ahead_of(id(50)));
    }

    #[test]
    fn only_a_whole_line_counts() {
        let whole = line(id(7));
        assert_eq!(parse(whole.as_bytes()), Some(id(7)));
        for end in 0..whole.len() {
            assert_eq!(parse(whole.as_bytes().get(..end).unwrap()), None);
        }
        assert_eq!(parse(whole.replace('7', "8").as_bytes()), None);
        assert_eq!(ahead_of(RecordId::MAX), RecordId::MAX);
    }
}
