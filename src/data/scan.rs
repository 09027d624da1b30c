//! Reads records of all files in the order of their ids, page by page, each id once.
//!
//! Blocks are taken in the order of their least ids, and a record goes out once no block is left that could hold a
//! lesser one. Where files are nearly sorted each block is read about once; in any disorder the answer is right, the
//! memory is flat, and only the time grows. Plain functions of a snapshot and a question; threads are the business of
//! `scans`.

use super::entries::{self, Run, Spots, Wanted};
use super::index::{Block, BlockSizes};
use super::ledgers::Ledgers;
use super::query::Query;
use super::segments::CURRENT;
use super::sidecar::{self, FileIndex};
use super::storage::{ReadAt, Storage};
use super::view::{SealedFile, View};
use super::window::Window;
use crate::limits;
use crate::wire::id::RecordId;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// A part of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// Whole lines as they stand in the files, newlines included, by ascending id, each id once.
    pub(crate) lines: Vec<u8>,
    /// How many they are.
    pub records: u32,
    /// Everything from the question's `from` up to here, exclusive, is in the page. It is the question's `until` if
    /// there is no more, and always above its `from` unless the question was empty.
    pub next: RecordId,
    /// Rotten lines that were met while reading for this page, wherever their ids would be.
    pub(crate) rotten: u32,
    /// Where the first [`PAGE_ROT_MAX`](crate::limits::PAGE_ROT_MAX) of them are.
    pub(crate) rot: Vec<RottenAt>,
    /// Blocks, or files, that are not there or hold less than they held; they are counted as rotten, too.
    pub(crate) lost: u32,
}

/// What becomes of a page that needs a file which is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// There is none: a newer snapshot may not need it.
    Fails,
    /// It goes on without, and says so.
    IsLost,
}

/// Where a rotten line is, or a part that is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RottenAt {
    /// Its file.
    pub(crate) serial: u64,
    /// Where it begins, bytes from the start of the file.
    pub(crate) offset: u64,
    /// Its length, bytes; 0 for a part that is lost.
    pub(crate) len: u64,
}

/// Why there is no page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// A sealed file of the snapshot was removed meanwhile: take a newer snapshot and ask again.
    #[error("{file} is gone; ask again, and if it stays so, start the node again")]
    Gone {
        /// The file.
        file: String,
    },
    /// A file cannot be read.
    #[error("cannot read {file}: {cause}; look at the disk")]
    Disk {
        /// The file.
        file: String,
        /// What the system said.
        cause: Arc<str>,
    },
    /// Too many pages wait already.
    #[error("{} pages are waiting already; ask again later", limits::SCAN_QUEUE_MAX)]
    Busy,
    /// The thread that reads is gone.
    #[error("nothing is read here any more; start the node again")]
    Stopped,
}

/// Bounds of a scan. Only tests take others than the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanBounds {
    /// Parsed records of one place, bytes.
    pub(crate) window_bytes: usize,
    /// Bytes read for one page once it says anything new.
    pub(crate) read_bytes: u64,
    /// Places kept between pages.
    pub(crate) cursors: usize,
    /// Bytes of all of them.
    pub(crate) cursors_bytes: usize,
    /// Blocks of sealed files that are kept in memory.
    pub(crate) blocks: usize,
}

impl Default for ScanBounds {
    fn default() -> Self {
        Self {
            window_bytes: limits::SCAN_BYTES_MAX,
            read_bytes: limits::SCAN_READ_BYTES_MAX,
            cursors: limits::SCAN_CURSORS_MAX,
            cursors_bytes: limits::SCAN_CURSORS_BYTES_MAX,
            blocks: limits::SCAN_BLOCKS_MAX,
        }
    }
}

/// A file, or a part of one, that has still to be looked at; ordered by the least id that it may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Source {
    least: RecordId,
    serial: u64,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// A sealed file: its blocks are not known yet. The number is its place in the view.
    File(usize),
    /// The block at `offset` from `done` to `bytes`.
    Part { offset: u64, done: u64, bytes: u64, records: u64, greatest: RecordId },
}

type Plan = BinaryHeap<Reverse<Source>>;

/// Adds what of a block is not in the window yet and meets the range.
fn plan_block(plan: &mut Plan, window: &Window, until: RecordId, serial: u64, block: &Block) {
    let Block { offset, bytes, records, least, greatest } = *block;
    let done = window.loaded((serial, offset));
    if greatest >= window.at() && least < until && done < bytes {
        plan.push(Reverse(Source { least, serial, what: What::Part { offset, done, bytes, records, greatest } }));
    }
}

/// What has to be looked at: no file that has none of the sources that are wanted.
fn plan(view: &View, window: &Window, query: &Query) -> Plan {
    let (mut plan, until) = (Plan::new(), query.until);
    for (number, file) in view.sealed().iter().enumerate() {
        let segment = &file.segment;
        if file.marks.may_have(&query.sources)
            && segment.records > 0
            && segment.greatest >= window.at()
            && segment.least < until
        {
            plan.push(Reverse(Source { least: segment.least, serial: file.serial, what: What::File(number) }));
        }
    }
    if let Some(current) = view.current().filter(|current| current.sources.read().may_have(&query.sources)) {
        current.blocks().for_each(|block| plan_block(&mut plan, window, until, current.serial, block));
    }
    plan
}

/// One page under way.
struct Job<'a> {
    view: &'a View,
    query: &'a Query,
    page: Page,
    /// Bytes read so far.
    read: u64,
    absent: Absent,
}

impl Job<'_> {
    fn lost(&mut self, serial: u64, offset: u64) {
        self.page.lost += 1;
        self.page.rotten += 1;
        if self.page.rot.len() < limits::PAGE_ROT_MAX {
            self.page.rot.push(RottenAt { serial, offset, len: 0 });
        }
    }
}

/// Sealed files that are open, by serial: a system that sees one file being read on and on reads ahead of it.
#[derive(Default)]
struct Files(Vec<(u64, Arc<dyn ReadAt>)>);

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(serial, _)| serial)).finish()
    }
}

/// Reads the files of one open log. Keeps the places of readers between their pages, so that a reader that goes on
/// where it stopped parses each block about once.
#[derive(Debug)]
pub struct Scanner<S> {
    storage: S,
    bounds: ScanBounds,
    /// The place that waited longest comes first.
    cursors: Vec<Window>,
    indexes: Indexes,
    files: Files,
    spots: Spots,
    buffer: Vec<u8>,
}

impl<S: Storage> Scanner<S> {
    /// A scanner over the files of this folder.
    #[must_use]
    pub fn new(storage: S, bounds: ScanBounds) -> Self {
        let (indexes, files) = (Indexes::default(), Files::default());
        let spots = Spots::default();
        Self { storage, bounds, cursors: Vec::new(), indexes, files, spots, buffer: Vec::new() }
    }

    /// The next page of what `query` asks for.
    ///
    /// # Errors
    /// A file of the view cannot be read, or is gone. Nothing is lost then: ask again.
    pub fn page(&mut self, view: &View, query: &Query) -> Result<Page, ScanError> {
        self.page_with(view, query, Absent::Fails)
    }

    /// The same, where a file that is not there may be passed over.
    ///
    /// # Errors
    /// A file of the view cannot be read, or is gone and must not be.
    pub(crate) fn page_with(&mut self, view: &View, query: &Query, absent: Absent) -> Result<Page, ScanError> {
        let mut job = Job { view, query, page: Page { next: query.until, ..Page::default() }, read: 0, absent };
        if query.from >= query.until {
            return Ok(job.page);
        }
        self.files.keep(view);
        let known = self.cursors.iter().position(|window| window.is_at(query));
        let mut window = known.map_or_else(|| Window::new(query), |known| self.cursors.remove(known));
        job.page.next = self.fill(&mut job, &mut window)?;
        let open = view.current().and_then(|current| Some((current.serial, current.open?.offset)));
        window.rest(job.page.next, open);
        self.keep(window);
        self.buffer.shrink_to(limits::SCAN_CHUNK_BYTES);
        Ok(job.page)
    }

    /// Entries of a ledger.
    ///
    /// # Errors
    /// A file of the view cannot be read, or is gone.
    pub(crate) fn entries(&mut self, view: &View, wanted: &Wanted) -> Result<Run, ScanError> {
        self.files.keep(view);
        let sealed = view.sealed().iter().map(|file| (file.serial, file.segment.bytes, &*file.ledgers));
        let current = view.current().map(|current| (current.serial, current.bytes, &*current.ledgers));
        let Self { storage, files, spots, .. } = self;
        let mut read = |serial, offset, buffer: &mut [u8]| {
            let (name, reader) = files.open(storage, view, serial)?;
            read_exact(&*reader, buffer, offset).map_err(failed(name))
        };
        entries::find(wanted, sealed.chain(current), spots, &mut read)
    }

    /// What a file has, by reading all of it.
    ///
    /// # Errors
    /// The file cannot be read, or is gone.
    pub(crate) fn recount(&mut self, view: &View, serial: u64) -> Result<Ledgers, ScanError> {
        let bytes = match view.current().filter(|current| current.serial == serial) {
            Some(current) => current.bytes,
            None => view.sealed().iter().find(|file| file.serial == serial).map_or(0, |file| file.segment.bytes),
        };
        let (name, reader) = self.files.open(&self.storage, view, serial)?;
        let (index, _) = sidecar::build(&*reader, bytes, BlockSizes::default()).map_err(failed(name))?;
        Ok(Ledgers::clone(index.ledgers()))
    }

    /// Memory of the places that are kept, bytes, about.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn held(&self) -> usize {
        self.cursors.iter().map(Window::size).sum()
    }

    /// Time without a page after which to [`rest`](Self::rest).
    #[must_use]
    pub(crate) const fn patience(&self) -> Duration {
        if self.files.0.is_empty() { limits::SCAN_IDLE_TIME } else { limits::SCAN_FILES_TIME }
    }

    /// Gives back what nobody has asked for in a while: first the open files, for what was removed keeps its room until it
    /// is closed, then the memory of places. Readers go on all the same.
    pub(crate) fn rest(&mut self) {
        if self.files.0.is_empty() {
            self.cursors = Vec::new();
            self.indexes = Indexes::default();
            self.spots.clear();
            self.buffer = Vec::new();
        } else {
            self.files = Files::default();
        }
    }

    fn keep(&mut self, window: Window) {
        self.cursors.push(window);
        let mut size: usize = self.cursors.iter().map(Window::size).sum();
        while self.cursors.len() > self.bounds.cursors || (size > self.bounds.cursors_bytes && !self.cursors.is_empty())
        {
            size -= self.cursors.remove(0).size();
        }
    }

    /// Fills the page; answers what is next.
    fn fill(&mut self, job: &mut Job<'_>, window: &mut Window) -> Result<RecordId, ScanError> {
        let Query { from, until, bytes_max, .. } = *job.query;
        if let Some(horizon) = window.horizon().filter(|horizon| *horizon <= window.at()) {
            window.restart(horizon.max(window.at()));
        }
        let mut todo = plan(job.view, window, job.query);
        loop {
            let end = window.horizon().map_or(until, |horizon| horizon.min(until));
            let first = window.peek().filter(|(id, _)| *id < end);
            let is_due = |source: &Source| source.least < end && first.is_none_or(|(id, _)| source.least <= id);
            if let Some(source) = todo.peek().map(|source| source.0).filter(is_due) {
                let known = source.least.max(window.at());
                if job.read >= self.bounds.read_bytes && known > from {
                    return Ok(known);
                }
                todo.pop();
                self.load(job, window, source, &mut todo)?;
            } else if let Some((id, line)) = first {
                if job.page.records > 0 && job.page.lines.len() + line.len() > bytes_max {
                    return Ok(id);
                }
                job.page.lines.extend_from_slice(line);
                job.page.records += 1;
                window.advance();
            } else if end == until || job.read >= self.bounds.read_bytes {
                return Ok(end);
            } else {
                window.restart(end);
                todo = plan(job.view, window, job.query);
            }
        }
    }

    /// Looks into a file for its blocks, or loads a part of one into the window.
    fn load(
        &mut self,
        job: &mut Job<'_>,
        window: &mut Window,
        source: Source,
        todo: &mut Plan,
    ) -> Result<(), ScanError> {
        let serial = source.serial;
        match source.what {
            What::File(number) => {
                let Some(file) = job.view.sealed().get(number) else {
                    return Ok(());
                };
                let index = match self.indexes.get(&self.storage, file, self.bounds.blocks) {
                    Err(ScanError::Gone { .. }) if job.absent == Absent::IsLost => {
                        job.lost(serial, 0);
                        return Ok(());
                    }
                    index => index?,
                };
                index.blocks.iter().for_each(|block| plan_block(todo, window, job.query.until, serial, block));
            }
            What::Part { offset, done, bytes, records, greatest } if greatest >= window.at() => {
                let (name, reader) = match self.files.open(&self.storage, job.view, serial) {
                    Err(ScanError::Gone { .. }) if job.absent == Absent::IsLost => {
                        job.lost(serial, offset + done);
                        return Ok(());
                    }
                    opened => opened?,
                };
                let len = usize::try_from(bytes - done).unwrap_or(usize::MAX);
                self.buffer.resize(len, 0);
                let got = read_exact(&*reader, &mut self.buffer, offset + done).map_err(failed(name))?;
                job.read += got as u64;
                let lines = self.buffer.get(..got).unwrap_or_default();
                let rotten = job.page.rotten;
                let page = &mut job.page;
                let met = |start: usize, len: usize| {
                    page.rotten += 1;
                    if page.rot.len() < limits::PAGE_ROT_MAX {
                        page.rot.push(RottenAt { serial, offset: offset + done + start as u64, len: len as u64 });
                    }
                };
                let good = window.load((serial, offset), bytes, greatest, lines, self.bounds.window_bytes, met);
                // Rot was told line by line; what was cut off, or is another file's, has to be counted.
                if got < len || (done == 0 && good < records && job.page.rotten == rotten) {
                    job.lost(serial, offset + done);
                }
            }
            What::Part { .. } => {}
        }
        Ok(())
    }
}

fn failed(file: &str) -> impl FnOnce(io::Error) -> ScanError + '_ {
    move |error| match error.kind() {
        io::ErrorKind::NotFound => ScanError::Gone { file: file.to_owned() },
        _ => ScanError::Disk { file: file.to_owned(), cause: error.to_string().into() },
    }
}

impl Files {
    /// Closes those that the log does not have any more: what was removed gives back its room.
    fn keep(&mut self, view: &View) {
        self.0.retain(|(serial, _)| view.name(*serial).is_some());
    }

    /// The file with this serial and its name.
    fn open<'v, S: Storage>(
        &mut self,
        storage: &S,
        view: &'v View,
        serial: u64,
    ) -> Result<(&'v str, Arc<dyn ReadAt>), ScanError> {
        if let Some(current) = view.current().filter(|current| current.serial == serial) {
            return Ok((CURRENT, Arc::clone(&current.reader)));
        }
        let name = view.name(serial).ok_or_else(|| ScanError::Gone { file: CURRENT.to_owned() })?;
        if let Some((_, reader)) = self.0.iter().find(|(open, _)| *open == serial) {
            return Ok((name, Arc::clone(reader)));
        }
        let reader = storage.open_read(name).map_err(failed(name))?;
        if self.0.len() >= limits::SCAN_FILES_MAX {
            self.0.remove(0);
        }
        self.0.push((serial, Arc::clone(&reader)));
        Ok((name, reader))
    }
}

/// Fills the buffer from the file; answers how much, less than all of it only at the end of the file.
///
/// # Errors
/// Those of the file.
pub(crate) fn read_exact(file: &dyn ReadAt, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64)? {
            0 => break,
            got => filled += got,
        }
    }
    Ok(filled)
}

/// The index of a sealed file, from its sidecar, or else from the file itself.
///
/// # Errors
/// The file cannot be read, or is gone.
pub(crate) fn index_of<S: Storage>(storage: &S, file: &SealedFile) -> Result<FileIndex, ScanError> {
    let (name, bytes) = (file.segment.file.as_str(), file.segment.bytes);
    if let Some(index) = sidecar::read(storage, name, bytes) {
        return Ok(index);
    }
    let reader = storage.open_read(name).map_err(failed(name))?;
    let (index, _) = sidecar::build(&*reader, bytes, BlockSizes::default()).map_err(failed(name))?;
    Ok(FileIndex::of(&index, bytes))
}

/// The indexes of sealed files that were used last.
#[derive(Debug, Default)]
struct Indexes {
    by_serial: HashMap<u64, (u64, Arc<FileIndex>)>,
    blocks: usize,
    uses: u64,
}

impl Indexes {
    fn get<S: Storage>(
        &mut self,
        storage: &S,
        file: &SealedFile,
        blocks_max: usize,
    ) -> Result<Arc<FileIndex>, ScanError> {
        self.uses += 1;
        if let Some((used, index)) = self.by_serial.get_mut(&file.serial) {
            *used = self.uses;
            return Ok(Arc::clone(index));
        }
        let index = Arc::new(index_of(storage, file)?);
        self.blocks += index.blocks.len();
        self.by_serial.insert(file.serial, (self.uses, Arc::clone(&index)));
        while self.blocks > blocks_max
            && let Some((_, oldest)) = self.by_serial.iter().map(|(serial, (used, _))| (*used, *serial)).min()
        {
            if let Some((_, index)) = self.by_serial.remove(&oldest) {
                self.blocks -= index.blocks.len();
            }
        }
        Ok(index)
    }
}
