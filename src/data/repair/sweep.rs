//! Goes through the files, and has copied what needs a copy.
//!
//! One chunk is under way at a time: what became of it is noted, in memory and in `copies.txt`, before the next line is
//! looked at. Files are read on another thread, a part at a time; nothing waits for repair.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::doubt::{DOUBTS, end};
use super::gather::{Chunk, Gather};
use super::need::with_name;
use super::offer::Noted;
use super::overlay::{COPIES, Counted, Overlay};
use super::pace::Pace;
use super::peers::PEERS;
use super::{Commit, Repair};
use crate::data::holdings::{Holdings, OTHERS};
use crate::data::record;
use crate::data::storage::{LogFile, ReadAt, Storage};
use crate::data::view::View;
use crate::data::worker::Blocking;
use crate::limits;
use crate::wire::error::Refusal;
use tokio_util::sync::CancellationToken;

/// A file of records, as a sweep reads it.
pub(crate) struct File {
    /// Its number, by the order in which files were begun.
    pub(crate) serial: u64,
    /// Its name when it is sealed.
    pub(crate) name: Arc<str>,
    /// Its committed length, bytes.
    pub(crate) bytes: u64,
    /// How many of its records are to be kept by which nodes.
    pub(crate) holdings: Arc<Holdings>,
    /// The open file, if it is open.
    pub(crate) reader: Option<Arc<dyn ReadAt>>,
}

/// The files of a view that hold records.
#[must_use]
pub(crate) fn files(view: &View) -> Vec<File> {
    let sealed = view.sealed().iter().map(|file| File {
        serial: file.serial,
        name: file.segment.file.as_str().into(),
        bytes: file.segment.bytes,
        holdings: Arc::clone(&file.holdings),
        reader: None,
    });
    let current = view.current().and_then(|current| {
        let (name, holdings) = (current.name.clone()?, Arc::clone(&current.holdings));
        Some(File {
            serial: current.serial,
            name,
            bytes: current.bytes,
            holdings,
            reader: Some(Arc::clone(&current.reader)),
        })
    });
    sealed.chain(current).collect()
}

/// The node of this name holds nothing of what this view names it for.
pub(crate) fn forget(overlay: &mut Overlay, view: &View, name: &str) {
    let files = files(view);
    let held = files.iter().flat_map(|file| {
        file.holdings.iter().map(move |(written, records)| (&*file.name, file.bytes, written, records))
    });
    overlay.forget(name, held);
}

/// Why a sweep stopped before its end.
pub(super) enum Stopped {
    /// A copy was not made.
    Refused(Refusal),
    /// A file of this node cannot be read or written.
    Disk(String, io::Error),
    /// What is known of the nodes or the files has changed.
    Changed,
    /// Nothing more can be remembered.
    Full,
}

impl Stopped {
    fn text(&self) -> String {
        match self {
            Self::Refused(refusal) => format!("repair waits: {refusal}"),
            Self::Disk(file, error) => format!("repair cannot use {file}: {error}; look at the disk"),
            Self::Changed => "repair waits: what is known of the nodes has changed".to_owned(),
            Self::Full => format!(
                "repair stops: {COPIES} has {} ranges; move this node's records away with 'acopio drain'",
                limits::REPAIR_RANGES_MAX
            ),
        }
    }
}

/// The task of repair: it runs until it is dropped. `drained` is told when a head lets this node go.
pub(crate) async fn run<S: Storage + Clone + 'static>(
    repair: &Repair,
    commit: &Commit,
    (storage, blocking): (S, Blocking),
    drained: &CancellationToken,
) where
    S::File: 'static,
{
    let pace = Pace::new(repair.settings.bytes_per_second);
    let mut sweeper = Sweeper { repair, commit, storage, blocking, pace, notes: None, noted: Noted::default() };
    let mut said = String::new();
    let mut files_seen = (0, None);
    let mut rest = limits::REPAIR_LOOK_EVERY;
    loop {
        let told = repair.told.get();
        if repair.is_let_go() {
            tracing::info!("drained: every record is on other nodes, and this node is let go");
            repair.left.set(true);
            drained.cancel();
        }
        let mut trouble = String::new();
        let mut idle = false;
        if let Err(error) = sweeper.meet().await {
            trouble = format!("{PEERS} or {COPIES} cannot be written: {error}; free space or mend the folder");
        }
        let view = commit.view();
        // One may have been sealed while another was removed.
        let files_now = (view.sealed().len(), view.sealed().last().map(|file| file.serial));
        if files_now != files_seen {
            files_seen = files_now;
            repair.overlay.borrow_mut().fit(files(&view).iter().map(|file| (&*file.name, file.bytes)));
        }
        if trouble.is_empty() && repair.has_work(&view) {
            match sweeper.sweep(&view).await {
                Ok(0) => idle = true,
                Ok(records) => tracing::info!("repair: {records} records have another copy now"),
                Err(Stopped::Changed) => continue,
                Err(stopped) => trouble = stopped.text(),
            }
        }
        match sweeper.offer().await {
            Ok(()) => {}
            Err(Stopped::Changed) => continue,
            Err(stopped) if trouble.is_empty() => trouble = stopped.text(),
            Err(_) => {}
        }
        if let Err(error) = sweeper.note_doubts().await
            && trouble.is_empty()
        {
            trouble = format!("{DOUBTS} cannot be written: {error}; free space or mend the folder");
        }
        if !trouble.is_empty() && trouble != said {
            tracing::warn!("{trouble}");
        }
        rest = if trouble.is_empty() { limits::REPAIR_LOOK_EVERY } else { (rest * 2).min(limits::REPAIR_IDLE) };
        sleep(rest).await;
        if idle {
            let changed = async {
                while repair.told.get() == told {
                    repair.changed.notified().await;
                }
            };
            // No change in that time is as good a reason to look.
            timeout(limits::REPAIR_IDLE, changed).await.unwrap_or_default();
        }
        said = trouble;
    }
}

/// Goes through the files of one node.
pub(super) struct Sweeper<'a, S: Storage> {
    pub(super) repair: &'a Repair,
    pub(super) commit: &'a Commit,
    pub(super) storage: S,
    pub(super) blocking: Blocking,
    pace: Pace,
    /// `copies.txt`, once something was added to it.
    notes: Option<S::File>,
    pub(super) noted: Noted,
}

impl<S: Storage + Clone + 'static> Sweeper<'_, S>
where
    S::File: 'static,
{
    /// Looks whether every node is the one that had its name before, and forgets what a replaced one held.
    async fn meet(&mut self) -> io::Result<()> {
        let replaced = self.repair.replaced.take();
        if !replaced.is_empty() {
            // What was sent before the new node came may name the old one.
            self.commit.until_settled(self.commit.added()).await;
            let view = self.commit.view();
            let mut overlay = self.repair.overlay.borrow().clone();
            for name in &replaced {
                tracing::info!(
                    "dataNode {name} is another one than before; what that held is copied where it has to be"
                );
                forget(&mut overlay, &view, name);
                self.repair.doubts.borrow_mut().replaced(name, end(&view));
            }
            let (text, storage) = (overlay.to_text(), self.storage.clone());
            self.notes = None;
            let written = self.blocking.run(move || storage.write_small(COPIES, text.as_bytes())).await;
            written.inspect_err(|_| self.repair.replaced.borrow_mut().extend(replaced))?;
            self.repair.overlay.replace(overlay);
        }
        // After the files know of it: a node that is killed in between forgets once more.
        if self.repair.peers_changed.replace(false) {
            let (text, storage) = (self.repair.peers.borrow().to_text(), self.storage.clone());
            let written = self.blocking.run(move || storage.write_small(PEERS, text.as_bytes())).await;
            written.inspect_err(|_| self.repair.peers_changed.set(true))?;
        }
        Ok(())
    }

    /// Goes once through all files; the answer is how many records were copied.
    async fn sweep(&mut self, view: &View) -> Result<u64, Stopped> {
        let mut copied = 0;
        for file in files(view) {
            if self.concerns(&file) {
                copied += self.sweep_file(file).await?;
            }
        }
        Ok(copied)
    }

    /// Whether a file may hold records that need a copy from this node.
    fn concerns(&self, file: &File) -> bool {
        let overlay = self.repair.overlay.borrow();
        self.repair.judged(|judge| {
            let needs = |written: &str, holders: &str| {
                let need = judge.judge(written, holders);
                need.responsible && need.copies > 0
            };
            let is_short = file.holdings.iter().any(|(written, records)| {
                let known: u64 = overlay.of(&file.name, written).map(|range| range.records).sum();
                written == OTHERS || (records > known && needs(written, written))
            });
            // Also where all the lines have rotted that a range was noted for: they have to be counted anew.
            is_short || overlay.in_file(&file.name).any(|(written, range)| needs(written, &range.holders))
        })
    }

    /// An open file to read from.
    pub(super) async fn reader(&mut self, file: &File) -> io::Result<Arc<dyn ReadAt>> {
        if let Some(reader) = &file.reader {
            return Ok(Arc::clone(reader));
        }
        let (storage, name) = (self.storage.clone(), Arc::clone(&file.name));
        self.blocking.run(move || storage.open_read(&name)).await
    }

    /// Waits until so many bytes may be sent: after what clients have written, and no faster than it should be.
    pub(super) async fn turn(&mut self, bytes: usize) {
        // It may be long before this round is over; whether it can be written is said then.
        self.note_doubts().await.unwrap_or_default();
        while self.commit.waiting() > limits::REPAIR_YIELD_BYTES {
            sleep(limits::REPAIR_YIELD).await;
        }
        let wait = self.pace.pass(bytes, self.repair.now());
        if wait > Duration::ZERO {
            sleep(wait).await;
        }
    }

    async fn sweep_file(&mut self, file: File) -> Result<u64, Stopped> {
        let on_disk = |error| Stopped::Disk(file.name.to_string(), error);
        let reader = self.reader(&file).await.map_err(on_disk)?;
        let mut gather = Gather::new(file.name.to_string());
        let (mut at, mut copied) = (0, 0);
        let mut chunks = Vec::new();
        let mut counted = Counted::new();
        while at < file.bytes {
            let (reader, end) = (Arc::clone(&reader), file.bytes);
            let part = self.blocking.run(move || read_part(&*reader, at, end)).await.map_err(on_disk)?;
            for line in &part.lines {
                let bytes = part.bytes.get(line.at..line.at + line.len).unwrap_or_default();
                let written = line.written.as_str();
                let judge = |written: &str, holders: &str| self.repair.need(written, holders);
                let place = (part.offset + line.at as u64, bytes);
                if let Some(range) = self.repair.overlay.borrow().find(&file.name, place.0, written) {
                    count(&mut counted, range.from, written);
                }
                gather.line(place, written, &self.repair.overlay.borrow(), judge, &mut chunks);
                for chunk in chunks.drain(..) {
                    copied += self.copy(chunk).await?;
                }
            }
            at = part.next;
        }
        gather.rest(&mut chunks);
        for chunk in chunks {
            copied += self.copy(chunk).await?;
        }
        if copied == 0 && self.repair.overlay.borrow_mut().recount(&file.name, file.bytes, &counted) {
            // It was said to hold something that needs a copy, and does not.
            self.rewrite().await.map_err(|error| Stopped::Disk(COPIES.to_owned(), error))?;
        }
        Ok(copied)
    }

    /// Writes all that is known of copies anew.
    async fn rewrite(&mut self) -> io::Result<()> {
        self.notes = None;
        let (text, storage) = (self.repair.overlay.borrow().to_text(), self.storage.clone());
        self.blocking.run(move || storage.write_small(COPIES, text.as_bytes())).await
    }

    /// Has one chunk copied as often as it needs, and notes it.
    async fn copy(&mut self, chunk: Chunk) -> Result<u64, Stopped> {
        let Chunk { mut note, lines } = chunk;
        let mut copied = 0;
        loop {
            let need = self.repair.need(&note.written, &note.holders);
            if !need.responsible || need.copies == 0 {
                // Nothing is noted of a chunk that is left out, and the next note would cover it.
                return if copied > 0 { Ok(copied) } else { Err(Stopped::Changed) };
            }
            if !self.repair.overlay.borrow().has_room() {
                return Err(Stopped::Full);
            }
            self.turn(lines.len()).await;
            let target = self.repair.copy(("", &need.live), &lines).await.map_err(Stopped::Refused)?;
            // The copy lies with the node that has the name now; whom it belonged to is found out before the next sweep.
            if !self.repair.replaced.borrow().is_empty() {
                return Err(Stopped::Changed);
            }
            note.holders = with_name(&note.holders, &target);
            if self.repair.overlay.borrow_mut().note(note.clone()) {
                self.write_down(&note.to_line()).await.map_err(|error| Stopped::Disk(COPIES.to_owned(), error))?;
            }
            copied += note.records;
            note.before = 0;
        }
    }

    async fn write_down(&mut self, line: &str) -> io::Result<()> {
        let (notes, storage, line) = (self.notes.take(), self.storage.clone(), line.to_owned());
        let file = self.blocking.run(move || {
            let mut file = match notes {
                Some(file) => file,
                None => match storage.open_append(COPIES) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        let file = storage.create(COPIES)?;
                        storage.sync_dir()?;
                        file
                    }
                    other => other?,
                },
            };
            file.append(line.as_bytes())?;
            file.sync()?;
            Ok(file)
        });
        self.notes = Some(file.await?);
        Ok(())
    }
}

/// Counts a line whose range begins there. Most lines name what another has named, so no name is copied for them.
fn count(counted: &mut Counted, from: u64, written: &str) {
    let counted = counted.entry(from).or_default();
    match counted.get_mut(written) {
        Some(count) => *count += 1,
        None => drop(counted.insert(written.to_owned(), 1)),
    }
}

/// A good line of a part.
pub(super) struct Found {
    pub(super) at: usize,
    pub(super) len: usize,
    pub(super) written: String,
}

/// A part of a file, cut at line ends.
pub(super) struct Part {
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) lines: Vec<Found>,
    pub(super) next: u64,
}

/// Reads the next part of a file and finds its good lines.
pub(super) fn read_part(reader: &dyn ReadAt, offset: u64, end: u64) -> io::Result<Part> {
    let mut bytes = Vec::new();
    let left = usize::try_from(end - offset).unwrap_or(usize::MAX);
    loop {
        // Until there is a whole line: none is longer than the bound, and what is longer is rot.
        let more = limits::SCAN_CHUNK_BYTES.min(left - bytes.len());
        let had = bytes.len();
        bytes.resize(had + more, 0);
        let mut filled = had;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match reader.read_at(rest, offset + filled as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => filled += n,
            }
        }
        let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |at| at + 1);
        if whole > 0 || bytes.len() >= left || bytes.len() > limits::RECORD_LINE_BYTES_MAX {
            let used = if whole > 0 { whole } else { bytes.len() };
            bytes.truncate(used);
            break;
        }
    }
    let mut lines = Vec::new();
    let mut at = 0;
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        if let Some(Ok(found)) = line.strip_suffix(b"\n").map(record::decode) {
            lines.push(Found { at, len: line.len(), written: found.copies.unwrap_or_default().to_owned() });
        }
        at += line.len();
    }
    let next = offset + bytes.len() as u64;
    Ok(Part { offset, bytes, lines, next })
}

#[cfg(test)]
mod tests {
    use super::super::doubt::Doubts;
    use super::super::overlay::Note;
    use super::super::peers::Peers;
    use super::super::{Overlay, Settings};
    use super::*;
    use crate::data::commit::LogState;
    use crate::data::simulated::SimDisk;
    use crate::data::worker::Executor;

    #[tokio::test(flavor = "current_thread")]
    async fn a_sweep_does_not_go_past_what_it_did_not_copy() {
        let repair = Repair::new(
            ("a".to_owned(), 1),
            (Settings::default(), crate::clock::Clock::default()),
            (Overlay::default(), Peers::default(), Doubts::default()),
        );
        let commit = Commit::new(LogState::default(), View::default());
        let (storage, blocking) = (SimDisk::default(), Blocking::start(&Executor::Thread, "repair").unwrap());
        let (repair, commit, pace) = (&repair, &commit, Pace::new(1));
        let mut sweeper = Sweeper { repair, commit, storage, blocking, pace, notes: None, noted: Noted::default() };
        let (file, written, holders) = ("data-1795234260----0----6.txt".to_owned(), "a,b".to_owned(), "a".to_owned());
        let note = Note { file, from: 0, to: 1, written, holders, records: 1, before: 0 };
        // Nobody is there to take it any more. The note of what follows in the same range would cover it, too.
        let stopped = sweeper.copy(Chunk { note, lines: b"x".to_vec() }).await;
        assert!(matches!(stopped, Err(Stopped::Changed)));
    }
}
