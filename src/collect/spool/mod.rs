//! Lines on the collector's disk until the cluster keeps them: a folder with segments, one process at a time.
//!
//! A line is written before it is sent, so that it survives the end of the process. It is synced once it has waited for
//! [`SPOOL_SYNC_AFTER`]; most are kept by then. Each start has an identity of its own for what is read from then on, and sends
//! what it finds under the identities and the numbers that stand there. Segments go as a whole, the oldest first, once
//! all of their lines are kept. Nothing that is damaged is removed: such a segment is renamed.
//!
//! What is between [`Queue`](super::queue::Queue) and the files is here; how a line stands in one is in `segment`.

mod kept;
mod segment;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use self::kept::{Kept, KeptFile};
use super::queue::{NotTaken, Waiting};
use crate::files;
use crate::limits::{SPOOL_SEGMENT_BYTES, SPOOL_SEGMENTS_MIN, SPOOL_SYNC_AFTER};
use crate::lock::{self, Lock, Role};
use crate::wire::id::ClientId;
use crate::wire::source::SourceName;

/// Why a spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Another process has it, or it can't be locked.
    #[error(transparent)]
    Lock(#[from] lock::Error),
    /// The system says no.
    #[error("cannot {what} {}: {source}; mend it, or name another folder with --spool", path.display())]
    Disk {
        /// What could not be done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A file of the spool.
#[derive(Debug)]
struct Segment {
    number: u64,
    bytes: u64,
    /// Its last line; none if no line of it is whole.
    last: Option<(ClientId, u64)>,
    /// Lines of it that are whole and have a wrong checksum.
    damaged: u64,
}

/// The segment that is read, to be handed over.
#[derive(Debug)]
struct Reading {
    number: u64,
    lines: segment::Lines,
}

/// A folder with lines that wait.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    bytes_max: u64,
    /// Bytes of all segments.
    bytes: u64,
    /// The identity of what is read now.
    client: ClientId,
    /// The number of the next line.
    next_seq: u64,
    /// The oldest first.
    segments: VecDeque<Segment>,
    /// The last of them, while lines are added to it.
    writing: Option<Arc<File>>,
    next_number: u64,
    reading: Option<Reading>,
    /// The next line to hand over.
    ahead: Option<Waiting>,
    kept_file: KeptFile,
    kept: Kept,
    /// Lines that are not kept.
    waiting: u64,
    /// Files with lines that are not synced, and since when the oldest of these is there.
    unsynced: Vec<Arc<File>>,
    unsynced_since: Option<Instant>,
    line: Vec<u8>,
    _lock: Lock,
}

/// What a spool had in it when it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Lines that wait.
    pub(crate) waiting: u64,
    /// Lines that have a wrong checksum; they stay in files that end in `.damaged`.
    pub(crate) damaged: u64,
    /// Last lines that were being written when the collector or its machine went.
    pub(crate) torn: u64,
}

impl Spool {
    /// Opens a folder, makes it if it is missing, and looks through what is there. What is read from now on goes under
    /// this identity.
    ///
    /// # Errors
    /// Another collector has it, or the system says no.
    pub(crate) fn open(folder: &Path, bytes_max: u64, client: ClientId) -> Result<(Self, Found), Error> {
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Disk { what, path, source }
        };
        files::create_folder(folder).map_err(failed("make the folder", folder))?;
        let lock = Lock::take(folder, Role::Collector, "collect")?;
        let (kept_file, kept) = KeptFile::open(folder).map_err(failed("open a file in", folder))?;
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed("list", folder))? {
            let name = entry.map_err(failed("list", folder))?.file_name();
            numbers.extend(name.to_str().and_then(segment::number));
        }
        numbers.sort_unstable();
        let mut spool = Self {
            folder: folder.to_owned(),
            bytes_max,
            bytes: 0,
            client,
            next_seq: 1,
            segments: VecDeque::new(),
            writing: None,
            next_number: numbers.last().map_or(1, |last| last + 1),
            reading: None,
            ahead: None,
            kept_file,
            kept,
            waiting: 0,
            unsynced: Vec::new(),
            unsynced_since: None,
            line: Vec::new(),
            _lock: lock,
        };
        let mut found = Found::default();
        for number in numbers {
            let path = spool.path(number);
            spool.look_through(number, &mut found).map_err(failed("read", &path))?;
        }
        found.waiting = spool.waiting;
        spool.remove_kept();
        Ok((spool, found))
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(segment::name(number))
    }

    fn look_through(&mut self, number: u64, found: &mut Found) -> io::Result<()> {
        let path = self.path(number);
        let mut lines = segment::Lines::open(&path)?;
        let mut segment = Segment { number, bytes: path.metadata()?.len(), last: None, damaged: 0 };
        while let Some(line) = lines.next(segment.bytes)? {
            let Some(line) = segment::decode(&line) else {
                segment.damaged += 1;
                continue;
            };
            segment.last = Some((line.client, line.seq));
            self.waiting += u64::from(!self.kept.covers(line.client, line.seq));
        }
        found.damaged += segment.damaged;
        found.torn += u64::from(lines.is_torn());
        self.bytes += segment.bytes;
        self.segments.push_back(segment);
        Ok(())
    }

    pub(super) const fn waiting(&self) -> u64 {
        self.waiting
    }

    pub(super) fn push(&mut self, source: Option<SourceName>, at_ns: u64, payload: Bytes) -> Result<(), NotTaken> {
        let waiting = Waiting { client: self.client, seq: self.next_seq, source, payload };
        let mut line = std::mem::take(&mut self.line);
        line.clear();
        segment::encode(&mut line, &waiting, at_ns).map_err(io::Error::other)?;
        let written = self.append(&line);
        self.line = line;
        written?;
        self.next_seq += 1;
        self.waiting += 1;
        Ok(())
    }

    fn append(&mut self, line: &[u8]) -> Result<(), NotTaken> {
        let len = line.len() as u64;
        if self.bytes + len > self.bytes_max && self.waiting == 0 {
            // All that is there is kept.
            self.writing = None;
            self.remove_kept();
        }
        if self.bytes + len > self.bytes_max {
            return Err(NotTaken::Full("the spool is full; see that a head runs, or give it more with --spool-bytes"));
        }
        let segment_max = SPOOL_SEGMENT_BYTES.min(self.bytes_max / SPOOL_SEGMENTS_MIN);
        if self.segments.back().is_some_and(|last| last.bytes > 0 && last.bytes + len > segment_max) {
            self.writing = None;
            self.remove_kept();
        }
        let file = self.writing()?;
        let last = (self.client, self.next_seq);
        let Some(segment) = self.segments.back_mut() else { return Ok(()) };
        if let Err(error) = (&*file).write_all(line) {
            // A part of it may be there. Where that can't be cut off, it stays the end of its segment.
            if file.set_len(segment.bytes).is_err() {
                segment.bytes += len;
                self.bytes += len;
                self.writing = None;
            }
            return Err(error.into());
        }
        segment.bytes += len;
        self.bytes += len;
        segment.last = Some(last);
        if !self.unsynced.iter().any(|unsynced| Arc::ptr_eq(unsynced, &file)) {
            self.unsynced.push(file);
        }
        self.unsynced_since.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// The segment that lines are added to; a new one, if there is none.
    fn writing(&mut self) -> io::Result<Arc<File>> {
        if let Some(file) = &self.writing {
            return Ok(Arc::clone(file));
        }
        let options = &mut files::options();
        let file = Arc::new(files::open(options.append(true).create_new(true), &self.path(self.next_number))?);
        self.segments.push_back(Segment { number: self.next_number, bytes: 0, last: None, damaged: 0 });
        self.next_number += 1;
        self.writing = Some(Arc::clone(&file));
        Ok(file)
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Waiting>> {
        while self.ahead.is_none() {
            let Some((reading, bytes)) = self.reading()? else { return Ok(None) };
            match reading.lines.next(bytes)? {
                Some(line) => {
                    let line = segment::decode(&line);
                    self.ahead = line.filter(|line| !self.kept.covers(line.client, line.seq));
                }
                None if !self.read_on()? => return Ok(None),
                None => {}
            }
        }
        Ok(self.ahead.clone())
    }

    /// The segment that is read, and how many bytes it has.
    fn reading(&mut self) -> io::Result<Option<(&mut Reading, u64)>> {
        if self.reading.is_none() {
            let Some(first) = self.segments.front().map(|first| first.number) else { return Ok(None) };
            self.read_from(first)?;
        }
        let Some(reading) = &mut self.reading else { return Ok(None) };
        let at = self.segments.partition_point(|segment| segment.number < reading.number);
        Ok(self.segments.get(at).map(|segment| (reading, segment.bytes)))
    }

    fn read_from(&mut self, number: u64) -> io::Result<()> {
        self.reading = Some(Reading { number, lines: segment::Lines::open(&self.path(number))? });
        Ok(())
    }

    /// Goes on with the segment behind the one that is read, if there is one.
    fn read_on(&mut self) -> io::Result<bool> {
        let number = self.reading.as_ref().map_or(0, |reading| reading.number);
        let at = self.segments.partition_point(|segment| segment.number <= number);
        let next = self.segments.get(at).map(|segment| segment.number);
        next.map_or(Ok(false), |next| self.read_from(next).map(|()| true))
    }

    pub(super) fn hand_over(&mut self) {
        self.ahead = None;
    }

    pub(super) fn rewind(&mut self) {
        (self.reading, self.ahead) = (None, None);
    }

    pub(super) fn kept(&mut self, client: ClientId, seq: u64, lines: u64) {
        self.kept = Kept { client, seq };
        self.waiting = self.waiting.saturating_sub(lines);
        if let Err(error) = self.kept_file.write(self.kept) {
            tracing::debug!("{}: {error}; lines may be sent again", self.folder.display());
        }
        if self.waiting == 0 {
            self.synced();
        }
        self.remove_kept();
    }

    /// Removes the oldest segments as far as all of their lines are kept.
    fn remove_kept(&mut self) {
        while let Some(first) = self.segments.front() {
            let is_written = self.writing.is_some() && self.segments.len() == 1;
            let is_kept = first.last.is_none_or(|(client, seq)| self.kept.covers(client, seq));
            if is_written || !is_kept {
                return;
            }
            let path = self.path(first.number);
            let gone = match first.damaged {
                0 => std::fs::remove_file(&path),
                _ => std::fs::rename(&path, path.with_extension("damaged")),
            };
            if let Err(error) = gone {
                tracing::warn!("{} is all kept and cannot be removed: {error}; remove it", path.display());
            }
            let is_read = self.reading.as_ref().is_some_and(|reading| reading.number == first.number);
            let freed = first.bytes;
            if is_read && !self.read_on().unwrap_or(false) {
                self.reading = None;
            }
            self.segments.pop_front();
            self.bytes -= freed;
        }
    }

    /// When lines are to be synced that are not kept by then.
    pub(super) fn sync_due(&self) -> Option<Instant> {
        self.unsynced_since.map(|since| since + SPOOL_SYNC_AFTER)
    }

    /// The work of a sync, for a thread of its own. What is added meanwhile is for the next one.
    pub(super) fn sync(&mut self) -> impl FnOnce() -> io::Result<()> + Send + 'static {
        let (unsynced, folder) = (std::mem::take(&mut self.unsynced), self.folder.clone());
        self.unsynced_since = None;
        move || {
            unsynced.iter().try_for_each(|file| file.sync_data())?;
            File::open(folder)?.sync_all()
        }
    }

    fn synced(&mut self) {
        self.unsynced.clear();
        self.unsynced_since = None;
    }

    /// What could not be synced may not be on the disk, whatever a later sync says: it is left where it is, and a new
    /// segment is begun.
    pub(super) fn sync_failed(&mut self) {
        self.writing = None;
    }

    /// Ends it: a spool of which all is kept has no segments.
    pub(super) fn close(&mut self) {
        self.writing = None;
        self.remove_kept();
    }
}

#[cfg(test)]
mod tests;
