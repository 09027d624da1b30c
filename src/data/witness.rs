//! A witness of the log's end, so that a `data.txt` that was cut, emptied or deleted is told from one that never held more:
//! `end.txt`, one line `<node> <file> <bytes> <records> <greatest id> <crc>`.
//!
//! It is a lower bound. The log says how far it is synced whenever it has synced; a worker writes that down now and then
//! and at an orderly end, never before the sync that it tells of. It says nothing of rot inside a file, and nothing of
//! sealed files after it has moved on: `segments.txt` does that.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::sleep;

use super::folder::LOST_REMEDY;
use super::index::BlockSizes;
use super::recover::Scan;
use super::segments::{checksum, sealed_id};
use super::sidecar;
use super::storage::{LogFile, Storage};
use super::worker::{Executor, Worker};
use crate::limits;
use crate::wire::id::{ClientId, RecordId};

/// The file.
pub(crate) const END: &str = "end.txt";

/// How far one file was synced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    /// The file, by the name that it gets when it is sealed.
    pub(crate) file: Arc<str>,
    /// Length up to which it was synced, bytes.
    pub(crate) bytes: u64,
    /// Good records in that.
    pub(crate) records: u64,
    /// The greatest id of them.
    pub(crate) greatest: RecordId,
}

impl End {
    /// The id of the file's first record, which is what it is known by: a number behind it may change when others go.
    #[must_use]
    pub(crate) fn first(&self) -> Option<RecordId> {
        first_in(&self.file)
    }

    fn to_line(&self, node: ClientId) -> String {
        let fields = format!("{node} {} {} {} {}", self.file, self.bytes, self.records, self.greatest);
        format!("{fields} {}\n", checksum(&fields))
    }
}

fn first_in(file: &str) -> Option<RecordId> {
    sealed_id(file).map(|(id, _)| id)
}

fn parse(text: &[u8]) -> Option<(ClientId, End)> {
    let (fields, crc) = std::str::from_utf8(text).ok()?.strip_suffix('\n')?.rsplit_once(' ')?;
    if crc != checksum(fields) {
        return None;
    }
    let mut fields = fields.split(' ');
    let node = ClientId::from_text(fields.next()?.as_bytes())?;
    let end = End {
        file: fields.next().filter(|file| first_in(file).is_some())?.into(),
        bytes: fields.next()?.parse().ok()?,
        records: fields.next()?.parse().ok()?,
        greatest: fields.next()?.parse().ok()?,
    };
    fields.next().is_none().then_some((node, end))
}

/// What `end.txt` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Nothing: nothing was synced yet, or a version wrote the folder that has no witness.
    Nothing,
    /// Something that makes no sense.
    Garbled,
    /// How far the log was synced, and which node said so.
    End(ClientId, End),
}

impl Kept {
    /// The node that said so.
    #[must_use]
    pub(crate) const fn node(&self) -> Option<ClientId> {
        if let Self::End(node, _) = self { Some(*node) } else { None }
    }
}

/// Reads `end.txt`. Errors: those of the disk, but for a file that is not there or too long.
pub(crate) fn read<S: Storage>(storage: &S) -> io::Result<Kept> {
    match storage.read_small(END, limits::END_BYTES_MAX) {
        Ok(text) => Ok(parse(&text).map_or(Kept::Garbled, |(node, end)| Kept::End(node, end))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Kept::Nothing),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Ok(Kept::Garbled),
        Err(error) => Err(error),
    }
}

/// Removes a witness that another identity of the folder left: that one answered for more than there is now. Under the
/// same identity it stays. Errors: those of the disk.
pub(crate) fn disown<S: Storage>(storage: &S, node: ClientId) -> io::Result<()> {
    match read(storage)? {
        Kept::End(other, _) if other != node => remove(storage),
        _ => Ok(()),
    }
}

fn remove<S: Storage>(storage: &S) -> io::Result<()> {
    match storage.remove(END) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => storage.sync_dir(),
    }
}

/// What a log lacks that was synced once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// What has become of the file.
    pub(crate) what: String,
    /// Bytes that are missing.
    pub(crate) bytes: u64,
    /// Records that are missing, if that can be told.
    pub(crate) records: Option<u64>,
    /// Where it ended.
    pub(crate) end: End,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} bytes ", self.what, self.bytes)?;
        if let Some(records) = self.records {
            write!(f, "with {records} records ")?;
        }
        let greatest = self.end.greatest;
        write!(f, "that were on the disk are missing, up to record {greatest} as {END} tells; {LOST_REMEDY}")
    }
}

/// What is missing of a log whose sealed files are `names`, and whose `data.txt`, if there is one, has this length and was
/// found to hold this. Errors: those of the disk.
pub(super) fn missing<S: Storage>(
    storage: &S,
    end: &End,
    names: &[String],
    current: Option<(u64, &Scan)>,
) -> io::Result<Option<Loss>> {
    let mut longest: Option<(&str, u64)> = None;
    for name in names.iter().filter(|name| first_in(name).is_some() && first_in(name) == end.first()) {
        let file = storage.open_append(name)?;
        let len = file.len()?;
        // What somebody else wrote into it may be gone again.
        if len < end.bytes && has_all(end, &sidecar::build(&*file.reader(), len, BlockSizes::default())?.1) {
            return Ok(None);
        }
        if longest.is_none_or(|(_, longest)| len > longest) {
            longest = Some((name, len));
        }
    }
    Ok(judge(end, longest, current))
}

/// Whether a file holds what the witness tells of, whatever somebody else wrote into it or removed again.
pub(crate) fn has_all(end: &End, found: &Scan) -> bool {
    found.valid_len >= end.bytes || (found.records >= end.records && found.max_id >= Some(end.greatest))
}

/// As [`missing`], by the longest sealed file that begins as the witness says.
pub(crate) fn judge(end: &End, sealed: Option<(&str, u64)>, current: Option<(u64, &Scan)>) -> Option<Loss> {
    let ours = current.filter(|(_, found)| is_ours(end, found));
    let is_whole =
        sealed.is_some_and(|(_, len)| len >= end.bytes) || ours.is_some_and(|(_, found)| has_all(end, found));
    if is_whole {
        return None;
    }
    let (what, bytes, records) = match (ours, sealed, current) {
        (Some((len, found)), ..) => {
            let what =
                if len < end.bytes { "data.txt was cut short" } else { "the end of data.txt is no record any more" };
            (what.to_owned(), found.valid_len, Some(found.records))
        }
        (None, Some((name, len)), _) => (format!("{name} was cut short"), len, None),
        (None, None, Some((0, _))) => ("data.txt was emptied".to_owned(), 0, Some(0)),
        (None, None, Some((_, found))) if found.first_id.is_none() => {
            ("data.txt holds no record any more".to_owned(), 0, Some(0))
        }
        (None, None, Some(_)) => {
            (format!("data.txt is another file than the one that becomes {}", end.file), 0, Some(0))
        }
        (None, None, None) => ("data.txt is gone".to_owned(), 0, Some(0)),
    };
    let records = records.map(|records| end.records.saturating_sub(records)).filter(|records| *records > 0);
    Some(Loss { what, bytes: end.bytes.saturating_sub(bytes), records, end: end.clone() })
}

/// Whether a file begins with the record that the witness names. If its first line has rotted, it has to have gone as far.
fn is_ours(end: &End, found: &Scan) -> bool {
    let begins_rotten = found.rot.first().is_some_and(|bad| bad.place.offset == 0);
    found.first_id.is_some() && (found.first_id == end.first() || (begins_rotten && found.max_id >= Some(end.greatest)))
}

/// What `end.txt` says now, as far as is known.
#[derive(Debug)]
struct Written {
    end: Option<End>,
    /// No write failed that may have come to the disk all the same.
    is_sure: bool,
}

/// How far the log is synced: the log moves it, a [`Recorder`] writes it down. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Witness {
    synced: Arc<Mutex<Option<End>>>,
    /// Locked while the file changes.
    written: Arc<Mutex<Written>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Witness {
    /// A witness whose file says this.
    #[must_use]
    pub(crate) fn new(kept: Kept) -> Self {
        let is_sure = kept != Kept::Garbled;
        let end = if let Kept::End(_, end) = kept { Some(end) } else { None };
        let written = Written { end, is_sure };
        Self { synced: Arc::default(), written: Arc::new(Mutex::new(written)) }
    }

    /// How far the log is synced; `None` while no record is known to be.
    #[must_use]
    pub(crate) fn synced(&self) -> Option<End> {
        locked(&self.synced).clone()
    }

    /// The log is synced up to here.
    pub(crate) fn moved(&self, end: End) {
        *locked(&self.synced) = Some(end);
    }

    /// Writes down how far the log is synced, if that is not written already. Errors: those of the disk; the file then
    /// says what it said, or the new end, and both are true.
    pub(crate) fn write<S: Storage>(&self, storage: &S, node: ClientId) -> io::Result<()> {
        let mut written = locked(&self.written);
        let Some(end) = self.synced().filter(|end| !written.is_sure || written.end.as_ref() != Some(end)) else {
            return Ok(());
        };
        written.is_sure = false;
        storage.write_small(END, end.to_line(node).as_bytes())?;
        *written = Written { end: Some(end), is_sure: true };
        Ok(())
    }

    /// Writes it down at once if its file goes by another name now: that of one whose first line has rotted is taken from
    /// its second line, and nobody would find the file when it is sealed. A disk that refuses it leaves that to the
    /// [`Recorder`].
    pub(super) fn write_if_renamed<S: Storage>(&self, storage: &S, node: ClientId) {
        let before = locked(&self.written).end.as_ref().and_then(End::first);
        if before.is_some() && self.synced().is_some_and(|end| end.first() != before) {
            self.write(storage, node).unwrap_or_default();
        }
    }

    /// Forgets an end in a sealed file that is about to be removed; `goes` tells by its first id. Nothing that a worker
    /// has begun to write comes after this. Errors: those of the disk; the file has to stay then.
    pub(crate) fn let_go<S: Storage>(&self, storage: &S, goes: impl Fn(RecordId) -> bool) -> io::Result<()> {
        let mut written = locked(&self.written);
        let goes = |end: &End| end.first().is_some_and(&goes);
        locked(&self.synced).take_if(|end| goes(end));
        if !written.is_sure || written.end.as_ref().is_some_and(goes) {
            written.is_sure = false;
            remove(storage)?;
            *written = Written { end: None, is_sure: true };
        }
        Ok(())
    }
}

/// Writes the witness down, on a thread of its own.
pub(crate) struct Recorder {
    witness: Witness,
    worker: tokio::sync::Mutex<Worker<(), io::Result<()>>>,
    /// The last end that was written.
    noted: RefCell<Option<End>>,
    /// It cannot be written, which was said once.
    failed: Cell<bool>,
}

impl Recorder {
    /// Starts it for this node. Errors: the system gives no thread.
    pub(crate) fn start<S: Storage + 'static>(
        witness: Witness,
        node: ClientId,
        storage: S,
        executor: &Executor,
    ) -> io::Result<Self> {
        let writes = witness.clone();
        let worker = Worker::start(executor, "end", move |()| writes.write(&storage, node))?;
        Ok(Self { witness, worker: worker.into(), noted: RefCell::default(), failed: Cell::new(false) })
    }

    /// Writes down how far the log is synced, if it has moved on. What cannot be written is said, once, and tried again.
    pub(crate) async fn note(&self) {
        let mut worker = self.worker.lock().await;
        let synced = self.witness.synced();
        if synced.is_none() || synced == *self.noted.borrow() {
            return;
        }
        let written =
            worker.work(()).await.unwrap_or_else(|| Err(io::Error::other("the thread that writes it is gone")));
        match written {
            Ok(()) => {
                self.failed.set(false);
                self.noted.replace(synced);
            }
            Err(error) if !self.failed.replace(true) => tracing::warn!(
                "{END} cannot be written: {error}; that the end of data.txt is lost may go unnoticed until it can"
            ),
            Err(_) => {}
        }
    }

    /// Does so now and then, until it is dropped.
    pub(crate) async fn run(&self) {
        loop {
            self.note().await;
            sleep(limits::END_EVERY).await;
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("witness", &self.witness).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::record::LineError;
    use crate::data::recover::{BadPlace, Place};
    use crate::data::simulated::SimDisk;

    const NODE: ClientId = ClientId(9);

    const fn id(n: u64) -> RecordId {
        RecordId { time_ns: 1_795_234_260_000_000_000 + n, incarnation: 7 }
    }

    fn end(first: u64, bytes: u64) -> End {
        let file = format!("data-{}.txt", id(first)).into();
        End { file, bytes, records: bytes / 10, greatest: id(first + bytes / 10 - 1) }
    }

    /// A file of `records` records of 10 bytes.
    fn scan(first: u64, records: u64) -> Scan {
        let max_id = Some(id(first + records - 1));
        Scan { valid_len: 10 * records, records, first_id: Some(id(first)), max_id, ..Scan::default() }
    }

    fn lacks(current: Option<(u64, &Scan)>, sealed: Option<(&str, u64)>) -> String {
        judge(&end(3, 100), sealed, current).map_or_else(String::new, |loss| loss.to_string())
    }

    #[test]
    fn only_a_whole_line_counts() {
        let line = end(3, 100).to_line(NODE);
        assert!(line.starts_with(&format!("{NODE} data-{}.txt 100 10 {} ", id(3), id(12))), "{line}");
        assert_eq!(parse(line.as_bytes()), Some((NODE, end(3, 100))));
        for at in 0..line.len() {
            assert_eq!(parse(&line.as_bytes()[..at]), None);
            let mut wrong = line.clone().into_bytes();
            wrong[at] ^= 1;
            assert_eq!(parse(&wrong), None, "byte {at}");
        }
        for fields in ["", "a b c", &format!("{NODE} data.txt 1 1 {}", id(1)), &format!("{NODE} {} 1", end(3, 9).file)]
        {
            assert_eq!(parse(format!("{fields} {}\n", checksum(fields)).as_bytes()), None, "{fields}");
        }
    }

    #[test]
    fn a_log_that_goes_as_far_or_farther_is_all_there() {
        for records in [10, 11, 500] {
            let found = scan(3, records);
            assert_eq!(lacks(Some((found.valid_len, &found)), None), "");
            // What is torn behind it was not synced.
            assert_eq!(lacks(Some((found.valid_len + 7, &found)), Some(("data-x.txt", 5))), "");
        }
        let name = end(3, 100).file;
        assert_eq!(lacks(None, Some((&name, 100))), "");
        assert_eq!(lacks(Some((0, &Scan::default())), Some((&name, 200))), "", "it is sealed since");
    }

    #[test]
    fn what_is_missing_is_told() {
        let (short, other, last) = (scan(3, 4), scan(5, 50), format!("up to record {} as end.txt tells", id(12)));
        let whole = scan(3, 9);
        let name = end(3, 100).file;
        for (current, sealed, says, lost) in [
            (None, None, "data.txt is gone: ", "100 bytes with 10 records"),
            (Some((0, &Scan::default())), None, "data.txt was emptied: ", "100 bytes with 10 records"),
            (Some((41, &short)), None, "data.txt was cut short: ", "60 bytes with 6 records"),
            (Some((100, &whole)), None, "the end of data.txt is no record any more: ", "10 bytes with 1 records"),
            (Some((500, &other)), None, "data.txt is another file than ", "100 bytes with 10 records"),
            (Some((500, &other)), Some((&*name, 70)), &*format!("{name} was cut short: "), "30 bytes that were"),
        ] {
            let text = lacks(current, sealed);
            assert!(text.starts_with(says) && text.contains(lost) && text.contains(&last), "{text}");
            assert!(text.contains("; restore it from a backup, or start once with --new-id"), "{text}");
        }
    }

    #[test]
    fn rot_is_no_loss() {
        let bad = |offset| BadPlace { place: Place { offset, len: 10, line: 1 }, reason: LineError::Unfinished };
        let mut found = scan(3, 10);
        (found.records, found.rot) = (9, vec![bad(50)]);
        assert_eq!(lacks(Some((100, &found)), None), "");
        // The first line is not known any more, and the rest goes as far as the witness says.
        (found.first_id, found.rot) = (Some(id(4)), vec![bad(0)]);
        assert_eq!(lacks(Some((100, &found)), None), "");
        found.max_id = Some(id(11));
        assert!(lacks(Some((100, &found)), None).starts_with("data.txt is another file"));
    }

    #[test]
    fn what_others_wrote_and_removed_again_is_no_loss() {
        // The witness counts a line of theirs between the records.
        let with = End { bytes: 111, ..end(3, 100) };
        let found = scan(3, 10);
        assert_eq!(judge(&with, None, Some((100, &found))), None);
        let mut fewer = scan(3, 10);
        fewer.records = 9;
        assert!(judge(&with, None, Some((100, &fewer))).is_some());
        assert!(judge(&with, None, Some((100, &Scan { max_id: Some(id(11)), ..found }))).is_some());
    }

    #[test]
    fn a_witness_is_written_when_it_moved_and_a_full_disk_keeps_the_old_one() {
        let disk = SimDisk::default();
        assert_eq!(read(&disk).unwrap(), Kept::Nothing);
        let witness = Witness::new(Kept::Nothing);
        witness.write(&disk, NODE).unwrap();
        assert_eq!(read(&disk).unwrap(), Kept::Nothing, "nothing is synced");
        witness.moved(end(3, 50));
        witness.write(&disk, NODE).unwrap();
        disk.faults(|faults| faults.capacity = Some(0));
        witness.write(&disk, NODE).unwrap();
        witness.moved(end(3, 90));
        witness.write(&disk, NODE).unwrap_err();
        assert_eq!(read(&disk).unwrap(), Kept::End(NODE, end(3, 50)));
        disk.faults(|faults| faults.capacity = None);
        witness.write(&disk, NODE).unwrap();
        disk.crash(1);
        assert_eq!(read(&disk).unwrap(), Kept::End(NODE, end(3, 90)));
        disk.flip(END, 99);
        assert_eq!(read(&disk).unwrap(), Kept::Garbled);
        disk.write_small(END, &[b'x'; limits::END_BYTES_MAX + 1]).unwrap();
        assert_eq!(read(&disk).unwrap(), Kept::Garbled);
    }

    #[test]
    fn a_file_that_goes_takes_its_witness_with_it() {
        let disk = SimDisk::default();
        let witness = Witness::new(Kept::Nothing);
        witness.moved(end(3, 50));
        witness.write(&disk, NODE).unwrap();
        witness.let_go(&disk, |first| first == id(2)).unwrap();
        assert_eq!((read(&disk).unwrap(), witness.synced()), (Kept::End(NODE, end(3, 50)), Some(end(3, 50))));
        // It has moved on since, which is not written yet.
        witness.moved(end(20, 10));
        witness.let_go(&disk, |first| first == id(3)).unwrap();
        disk.crash(1);
        assert_eq!((read(&disk).unwrap(), witness.synced()), (Kept::Nothing, Some(end(20, 10))));
        witness.let_go(&disk, |first| first == id(20)).unwrap();
        assert_eq!(witness.synced(), None);
        // A write that failed may be there all the same.
        let after = Witness::new(Kept::Garbled);
        disk.write_small(END, b"x").unwrap();
        after.let_go(&disk, |_| false).unwrap();
        assert_eq!(read(&disk).unwrap(), Kept::Nothing);
    }

    #[test]
    fn a_witness_of_another_identity_says_nothing() {
        let disk = SimDisk::default();
        disown(&disk, NODE).unwrap();
        disk.write_small(END, end(3, 50).to_line(NODE).as_bytes()).unwrap();
        disown(&disk, NODE).unwrap();
        assert_eq!(read(&disk).unwrap(), Kept::End(NODE, end(3, 50)));
        disown(&disk, ClientId(10)).unwrap();
        disk.crash(1);
        assert_eq!(read(&disk).unwrap(), Kept::Nothing);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_written_now_and_then_and_a_disk_that_fails_is_tried_again() {
        let disk = SimDisk::default();
        let witness = Witness::new(Kept::Nothing);
        let recorder = Recorder::start(witness.clone(), NODE, disk.clone(), &Executor::Thread).unwrap();
        let test = async {
            sleep(limits::END_EVERY / 2).await;
            witness.moved(end(3, 50));
            sleep(limits::END_EVERY / 4).await;
            assert_eq!(read(&disk).unwrap(), Kept::Nothing);
        };
        tokio::select! {
            () = recorder.run() => {}
            () = test => {}
        }
        recorder.note().await;
        assert_eq!(read(&disk).unwrap(), Kept::End(NODE, end(3, 50)));
        disk.faults(|faults| faults.capacity = Some(0));
        witness.moved(end(3, 70));
        recorder.note().await;
        assert!(recorder.failed.get());
        assert_eq!(read(&disk).unwrap(), Kept::End(NODE, end(3, 50)));
        disk.faults(|faults| faults.capacity = None);
        recorder.note().await;
        assert_eq!((read(&disk).unwrap(), recorder.failed.get()), (Kept::End(NODE, end(3, 70)), false));
    }
}
