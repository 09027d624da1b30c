//! The log of a data node: appends batches of lines to `data.txt`, syncs them, and seals the file when it is full.
//!
//! It blocks, has no thread and reads no clock: the commit thread calls it. After the first failed write or sync it
//! answers nothing but that error, for a disk that failed once has lost what nobody knows. A full disk only makes it
//! read-only. `opening` finishes what a crash left; `docs/data-log.md` is the contract.

use super::index::{BlockSizes, Indexer, Summary};
use super::opening::{self, OpenError, OpenReport};
use super::record;
use super::recover::{self, BadPlace, Place, TornTail};
use super::retention::{self, Look, Retained};
use super::scan::read_exact;
use super::segments::{CURRENT, INDEX, REMOVED, Segment, sealed_id, sealed_name};
use super::sidecar::{FileIndex, sidecar_name};
use super::standing::{Alteration, Known, Standing, judge};
use super::storage::{FileId, LogFile, ReadAt, Room, Storage, is_full};
use super::view::{CurrentFile, Sealed, SealedFile, View};
use super::witness::{END, End, Witness};
use crate::limits::{DISK_RESUME_BYTES_MIN, RETENTION_BYTES_MAX};
use crate::wire::id::{ClientId, RecordId};
use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// How often a batch is written that somebody else's writing spoils.
const APPENDS_MAX: usize = 3;

/// When records are made to survive power loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncPolicy {
    /// Before they are acknowledged.
    #[default]
    Always,
    /// At most this long after they are acknowledged.
    Every(Duration),
    /// When the operating system likes.
    Never,
}

/// Text that is no sync policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a way to sync; say always, never or a time such as 100ms")]
pub struct NotAPolicy(String);

impl FromStr for SyncPolicy {
    type Err = NotAPolicy;

    fn from_str(text: &str) -> Result<Self, NotAPolicy> {
        match text {
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => match humantime::parse_duration(text) {
                Ok(time) if !time.is_zero() => Ok(Self::Every(time)),
                _ => Err(NotAPolicy(text.chars().take(64).collect())),
            },
        }
    }
}

impl fmt::Display for SyncPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::Every(time) => write!(f, "{}", humantime::format_duration(*time)),
            Self::Never => f.write_str("never"),
        }
    }
}

/// How a log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Size at which `data.txt` is sealed, bytes; the batch that reaches it stays in the file.
    pub segment_bytes: u64,
    /// When to sync. The log only remembers it: whoever acknowledges calls [`Log::sync`].
    pub sync: SyncPolicy,
}

/// Why a batch was not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// A write or sync failed, now or earlier. It stays so until the log is opened again.
    #[error(
        "the disk failed to {what}: {cause}; nothing more is stored here: look at the disk, then start the node again"
    )]
    Poisoned {
        /// What failed first.
        what: &'static str,
        /// What the system said.
        cause: Arc<str>,
    },
    /// The disk is full; the log is as it was before the batch.
    #[error("the disk is full: {cause}; {remedy}, and the node goes on by itself")]
    Full {
        /// What the system said.
        cause: Arc<str>,
        /// What to do.
        remedy: &'static str,
    },
    /// Somebody altered files under the running log. It goes on once they are as they were, if they can be.
    #[error("{0}")]
    Altered(Arc<str>),
    /// The batch does not end in a newline; nothing was written.
    #[error("a batch has to end in a newline; this is a fault in the program that made it")]
    NotLines,
}

/// The file that is being written.
pub(super) struct Current<F> {
    pub(super) file: F,
    pub(super) reader: Arc<dyn ReadAt>,
    pub(super) first_id: Option<RecordId>,
    /// The name that it will have when it is sealed.
    pub(super) name: Option<Arc<str>>,
    pub(super) index: Indexer,
    id: FileId,
    /// Its length; what lies behind the last record is not ours.
    len: u64,
    /// What lies there.
    tail: Option<TornTail>,
    /// Whether that ends in the middle of a line.
    open_end: bool,
    /// Up to where it was said that somebody else wrote into it.
    told: u64,
}

impl<F: LogFile> Current<F> {
    pub(super) fn new(file: F, first_id: Option<RecordId>, index: Indexer) -> io::Result<Self> {
        let seen = file.seen()?;
        let (id, len, reader) = (seen.id, seen.bytes, file.reader());
        Ok(Self { reader, file, first_id, name: None, index, id, len, tail: None, open_end: false, told: 0 })
    }
}

/// What somebody else wrote into `data.txt`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Foreign {
    /// Bytes that are no records and that nothing was said about yet.
    pub bytes: u64,
    /// Where they begin.
    pub offset: u64,
    /// Lines that have records behind them or that a seal closed in: the name that their file has for good, and where.
    pub enclosed: Vec<(Arc<str>, BadPlace)>,
}

/// The log of a data node.
pub struct Log<S: Storage> {
    storage: S,
    settings: Settings,
    block_sizes: BlockSizes,
    /// `None` after a seal, if the disk was too full to create the next file.
    current: Option<Current<S::File>>,
    /// The number of the current file, or of the next one if there is none.
    serial: u64,
    sealed: Arc<Sealed>,
    index: Option<S::File>,
    /// Whether `segments.txt` ends in a whole line; if not, nothing is added until it is made anew.
    index_whole: bool,
    unsynced: bool,
    /// How far it is synced.
    witness: Witness,
    /// Syncs of data files since it was opened.
    syncs: u64,
    /// [`LogError::Full`], [`LogError::Altered`] or [`LogError::Poisoned`].
    stopped: Option<LogError>,
    /// It was altered in a way that only another start can judge.
    is_lost: bool,
    /// What others wrote, until it is taken.
    foreign: Foreign,
    /// Whose log it is, once that is known.
    node: Option<ClientId>,
}

impl<S: Storage> Log<S> {
    /// Opens the log of a folder and finishes what a crash left: cuts and keeps aside a torn tail, lists rot. What it
    /// then holds is synced. Reads all of `data.txt`, but sealed files only if `segments.txt` does not know them.
    pub fn open(storage: S, settings: Settings) -> Result<(Self, OpenReport), OpenError> {
        Self::open_with_blocks(storage, settings, BlockSizes::default())
    }

    /// [`open`](Self::open) with blocks of another size, so that a test has many of them in short files.
    pub fn open_with_blocks(
        storage: S,
        settings: Settings,
        block_sizes: BlockSizes,
    ) -> Result<(Self, OpenReport), OpenError> {
        let opened = opening::open(&storage, block_sizes)?;
        let node = opened.end.node();
        let mut log = Self {
            storage,
            settings,
            block_sizes,
            current: opened.current,
            serial: opened.sealed.len() as u64,
            sealed: Arc::new(Sealed::new(opened.sealed)),
            index: None,
            index_whole: opened.index_whole,
            unsynced: false,
            witness: Witness::new(opened.end),
            syncs: 0,
            stopped: None,
            is_lost: false,
            foreign: Foreign::default(),
            node,
        };
        let named = log.current.as_ref().and_then(|current| current.first_id);
        if let Some((current, first)) = log.current.as_mut().zip(named) {
            current.name = Some(free_name(first, log.sealed.files()).into());
        }
        if log.current.is_none() {
            match log.start_file() {
                Ok(()) | Err(LogError::Full { .. }) => {}
                Err(error) => return Err(OpenError::Log(error)),
            }
        }
        log.bear_witness();
        if let Some(node) = node {
            log.witness.write_if_renamed(&log.storage, node);
        }
        let mut report = opened.report;
        (report.records, report.bytes, report.segments) = (log.records(), log.bytes(), log.sealed().len());
        Ok((log, report))
    }

    /// Adds a batch of whole lines; they stay together in one file. Once [`sync`](Self::sync) returns they are kept.
    ///
    /// `summary` says what the lines are. After an error none of the batch counts: with [`LogError::Full`] it is gone,
    /// with [`LogError::Poisoned`] nobody knows.
    pub fn append(&mut self, lines: &[u8], summary: &Summary) -> Result<(), LogError> {
        if let Some(error) = &self.stopped {
            return Err(error.clone());
        }
        if lines.last() != Some(&b'\n') || summary.bytes() != lines.len() as u64 {
            return Err(LogError::NotLines);
        }
        if self.current.as_ref().is_some_and(|current| current.index.bytes() >= self.settings.segment_bytes) {
            self.seal()?;
        }
        if self.current.is_none() {
            self.start_file()?;
        }
        for _ in 0..APPENDS_MAX {
            if self.append_once(lines, summary)? {
                self.unsynced = true;
                return Ok(());
            }
        }
        Err(self.alter(
            "somebody else writes into data.txt without a pause, so that no record stays whole; end that".to_owned(),
        ))
    }

    /// Writes a batch and looks whether it is where it belongs; `false` if somebody else's half line spoiled it.
    fn append_once(&mut self, lines: &[u8], summary: &Summary) -> Result<bool, LogError> {
        let Some(current) = self.current.as_mut() else {
            return Err(LogError::NotLines);
        };
        let before = current.len;
        // What somebody left unfinished gets its newline.
        let newline: &[u8] = if current.open_end { b"\n" } else { b"" };
        let written = if newline.is_empty() { Ok(()) } else { current.file.append(newline) };
        if let Err(error) = written.and_then(|()| current.file.append(lines)) {
            if !is_full(&error) {
                return Err(self.poison("write", &error));
            }
            return Err(match current.file.truncate(before) {
                Ok(()) => self.full(&error),
                Err(error) => self.poison("take back a half-written batch", &error),
            });
        }
        let (least, end) = (current.index.bytes() + lines.len() as u64, before + (newline.len() + lines.len()) as u64);
        let only_ours = before == current.index.bytes();
        match self.stand(least, end)? {
            Standing::Same if only_ours => {}
            Standing::Same => return self.take_stock(end, lines),
            Standing::Other(len) => return self.take_stock(len, lines),
            Standing::Altered(alteration) => return Err(self.take_back(before, end, alteration)),
        }
        if let Some(current) = self.current.as_mut() {
            current.index.append(summary);
            current.len = end;
            self.name_current(summary.first());
        }
        Ok(true)
    }

    /// The name that `data.txt` will get is its first record's.
    fn name_current(&mut self, first: Option<RecordId>) {
        if let Some(current) = self.current.as_mut().filter(|current| current.first_id.is_none()) {
            current.first_id = first;
            current.name = first.map(|id| free_name(id, self.sealed.files()).into());
        }
    }

    /// What the path of `data.txt` leads to, which is to have so many bytes, and this many at least.
    fn stand(&mut self, least: u64, bytes: u64) -> Result<Standing, LogError> {
        let Some(current) = self.current.as_ref() else { return Ok(Standing::Same) };
        match self.storage.look(CURRENT) {
            Ok(seen) => Ok(judge(seen, Known { id: Some(current.id), bytes, least })),
            Err(error) => {
                Err(self.alter(format!("cannot look at {CURRENT}: {error}; nothing is stored here until that works")))
            }
        }
    }

    /// Takes back a batch that is not acknowledged, if nothing was written behind it.
    fn take_back(&mut self, before: u64, end: u64, alteration: Alteration) -> LogError {
        let Some(current) = self.current.as_mut() else { return LogError::NotLines };
        if current.file.len().is_ok_and(|len| len == end)
            && let Err(error) = current.file.truncate(before)
        {
            return self.poison("take back a batch", &error);
        }
        self.altered(alteration)
    }

    /// `data.txt` was altered.
    fn altered(&mut self, alteration: Alteration) -> LogError {
        self.is_lost |= !alteration.may_pass();
        self.alter(alteration.of_current(CURRENT))
    }

    /// Files were altered. Whoever starts the log next has to know how far it went.
    fn alter(&mut self, what: String) -> LogError {
        if let Some(node) = self.node {
            self.witness.write(&self.storage, node).unwrap_or_default();
        }
        let error = LogError::Altered(what.into());
        self.stopped = Some(error.clone());
        error
    }

    /// Takes in what lies behind the last record that is known, up to `len`: records, and what somebody else wrote. Answers
    /// whether `lines` is there whole.
    fn take_stock(&mut self, len: u64, lines: &[u8]) -> Result<bool, LogError> {
        let Some(current) = self.current.as_mut() else { return Ok(false) };
        let (from, reader, index) = (current.index.bytes(), Arc::clone(&current.reader), &mut current.index);
        let wanted = record::decode(lines.split(|byte| *byte == b'\n').next().unwrap_or_default()).ok();
        let mut at = None;
        let scanned = recover::scan(
            len.saturating_sub(from),
            |buffer, at| reader.read_at(buffer, from + at),
            |place, line| {
                index.line(from + place.offset, place.len, line.id, line.copies.unwrap_or_default());
                if wanted.as_ref().is_some_and(|first| first.id == line.id) {
                    at = Some(from + place.offset);
                }
            },
        );
        let whole = scanned.and_then(|found| {
            let mut there = vec![0; lines.len()];
            let got = at.map_or(Ok(0), |at| read_exact(&*reader, &mut there, at))?;
            let mut last = [b'\n'];
            read_exact(&*reader, &mut last, len.saturating_sub(1))?;
            Ok((found, got == lines.len() && there == lines, last == *b"\n"))
        });
        let (mut found, is_whole, ends) = match whole {
            Ok(whole) => whole,
            Err(error) => return Err(self.poison("read what was written", &error)),
        };
        for place in found.rot.iter_mut().map(|bad| &mut bad.place) {
            place.offset += from;
        }
        current.tail = found.torn.map(|tail| TornTail { offset: tail.offset + from, ..tail });
        (current.len, current.open_end) = (len, current.tail.is_some() && !ends);
        let bad = found.rot.iter().map(|bad| (bad.place.offset, bad.place.len));
        let bad = bad.chain(current.tail.map(|tail| (tail.offset, tail.len)));
        for (offset, bytes) in bad.filter(|(offset, bytes)| offset + bytes > current.told) {
            if self.foreign.bytes == 0 {
                self.foreign.offset = offset;
            }
            self.foreign.bytes += bytes.min(offset + bytes - current.told);
        }
        current.told = len;
        self.name_current(found.first_id);
        self.enclose(found.rot);
        Ok(is_whole)
    }

    /// These lines of `data.txt` are somebody else's, and stay.
    fn enclose(&mut self, places: Vec<BadPlace>) {
        if let Some(name) = self.current.as_ref().and_then(|current| current.name.clone()) {
            self.foreign.enclosed.extend(places.into_iter().map(|bad| (Arc::clone(&name), bad)));
        }
    }

    /// What others wrote into `data.txt` since this was asked last.
    pub fn take_foreign(&mut self) -> Option<Foreign> {
        let foreign = std::mem::take(&mut self.foreign);
        (foreign != Foreign::default()).then_some(foreign)
    }

    /// The log of this node: its end is written down at once when somebody alters its files.
    #[must_use]
    pub fn of(self, node: ClientId) -> Self {
        Self { node: Some(node), ..self }
    }

    /// Looks whether `data.txt` is the file that is open, whether a log that was altered or full can go on, and, if `all`
    /// are to be looked at, whether the sealed files are there. `true` if the log takes batches now.
    /// Errors: [`LogError::Poisoned`].
    pub fn look(&mut self, all: bool) -> Result<bool, LogError> {
        let was_altered = match &self.stopped {
            Some(LogError::Full { .. }) => return Ok(self.has_room()),
            Some(LogError::Altered(_)) => true,
            Some(error) => return Err(error.clone()),
            None => false,
        };
        if self.is_lost {
            return Ok(false);
        }
        match self.settle().and_then(|()| if all || was_altered { self.look_at_sealed() } else { Ok(()) }) {
            Ok(()) => self.stopped = None,
            Err(LogError::Altered(_)) => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Sees that `data.txt` is the file that is open, and takes in what somebody else wrote into it.
    fn settle(&mut self) -> Result<(), LogError> {
        let Some((least, bytes)) = self.current.as_ref().map(|current| (current.index.bytes(), current.len)) else {
            return Ok(());
        };
        match self.stand(least, bytes)? {
            Standing::Same => Ok(()),
            Standing::Other(len) => self.take_stock(len, &[]).map(|_whole| ()),
            Standing::Altered(alteration) => Err(self.altered(alteration)),
        }
    }

    /// Sees that all sealed files are there and as long as they were.
    fn look_at_sealed(&mut self) -> Result<(), LogError> {
        for file in self.sealed.files() {
            let Segment { file, bytes, .. } = &file.segment;
            let what = match self.storage.look(file) {
                Ok(seen) => match judge(seen, Known { id: None, bytes: *bytes, least: *bytes }) {
                    Standing::Altered(alteration) => alteration.of_sealed(file),
                    Standing::Same | Standing::Other(_) => continue,
                },
                Err(error) => format!("cannot look at {file}: {error}; nothing is stored here until that works"),
            };
            return Err(self.alter(what));
        }
        Ok(())
    }

    /// Whether a full disk has room again, and goes on if so.
    fn has_room(&mut self) -> bool {
        let room = |room: Room| room.bytes >= DISK_RESUME_BYTES_MIN && room.files != Some(0);
        let has_room = self.storage.room().is_ok_and(room);
        if has_room {
            self.stopped = None;
        }
        has_room
    }

    /// Makes everything appended so far survive a crash, whatever the policy says. Also serves while the disk is full.
    pub fn sync(&mut self) -> Result<(), LogError> {
        if let Some(error @ LogError::Poisoned { .. }) = &self.stopped {
            return Err(error.clone());
        }
        if self.unsynced
            && let Some(current) = self.current.as_mut()
        {
            if let Err(error) = current.file.sync() {
                return Err(self.poison("sync", &error));
            }
            self.syncs += 1;
        }
        if std::mem::take(&mut self.unsynced) {
            self.bear_witness();
        }
        Ok(())
    }

    /// Everything in `data.txt` is synced.
    fn bear_witness(&self) {
        let Some(current) = self.current.as_ref() else { return };
        if let Some((file, greatest)) = current.name.clone().zip(current.index.greatest()) {
            let (bytes, records) = (current.index.bytes(), current.index.records());
            self.witness.moved(End { file, bytes, records, greatest });
        }
    }

    /// How far it is synced, for who writes that down.
    pub const fn witness(&self) -> &Witness {
        &self.witness
    }

    /// Syncs of data files since it was opened.
    pub const fn syncs(&self) -> u64 {
        self.syncs
    }

    /// Why the log takes no batches now.
    pub fn stopped(&self) -> Option<&LogError> {
        self.stopped.as_ref()
    }

    /// Whether something appended is not synced yet.
    pub fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// When records are to be synced.
    pub fn policy(&self) -> SyncPolicy {
        self.settings.sync
    }

    /// Good records in all files.
    pub fn records(&self) -> u64 {
        self.sealed.records() + self.current.as_ref().map_or(0, |current| current.index.records())
    }

    /// Length of all files of records, bytes.
    pub fn bytes(&self) -> u64 {
        self.sealed.bytes() + self.current.as_ref().map_or(0, |current| current.index.bytes())
    }

    /// The sealed files, in the order in which they were sealed.
    pub fn sealed(&self) -> &[Arc<SealedFile>] {
        self.sealed.files()
    }

    /// What the log holds now, with everything appended so far: take it when that is committed.
    pub fn view(&self) -> View {
        let current = self.current.as_ref().map(|current| CurrentFile {
            serial: self.serial,
            name: current.name.clone(),
            reader: Arc::clone(&current.reader),
            bytes: current.index.bytes(),
            records: current.index.records(),
            greatest: current.index.greatest(),
            full: current.index.full_blocks(),
            open: current.index.open_block(),
            holdings: Arc::clone(current.index.holdings()),
        });
        View::new(Arc::clone(&self.sealed), current)
    }

    /// Seals `data.txt`. A crash between any two steps leaves a folder that opens right: with a `data.txt` that is
    /// too long, or with none.
    fn seal(&mut self) -> Result<(), LogError> {
        self.sync()?;
        // Whatever lies at its path is renamed.
        self.settle()?;
        if let Some(tail) = self.current.as_mut().and_then(|current| current.tail.take()) {
            let place = Place { offset: tail.offset, len: tail.len, line: tail.line };
            self.enclose(vec![BadPlace { place, reason: tail.reason }]);
        }
        let Some(current) = self.current.as_ref() else {
            return Ok(());
        };
        let ids = current.first_id.zip(current.index.least()).zip(current.index.greatest());
        let Some(((first_id, least), greatest)) = ids else {
            return Ok(());
        };
        let segment = Segment {
            file: free_name(first_id, self.sealed.files()),
            records: current.index.records(),
            bytes: current.len,
            least,
            greatest,
        };
        let index = FileIndex::of(&current.index, segment.bytes);
        match self.storage.rename(CURRENT, &segment.file) {
            Err(error) if is_full(&error) => return Err(self.full(&error)),
            Err(error) => return Err(self.poison("seal data.txt", &error)),
            Ok(()) => self.current = None,
        }
        // Before a new data.txt is made: the old one must not lose its new name to it.
        if let Err(error) = self.storage.sync_dir() {
            return Err(self.poison("sync the folder", &error));
        }
        let (line, sidecar) = (segment.to_line(), sidecar_name(&segment.file));
        let holdings = Arc::clone(&index.holdings);
        Arc::make_mut(&mut self.sealed).push(Arc::new(SealedFile { serial: self.serial, segment, holdings }));
        self.serial += 1;
        self.add_to_index(&line)?;
        match self.storage.write_small(&sidecar, index.to_text().as_bytes()) {
            // It is made again when somebody reads the file, or when the log is opened.
            Err(error) if is_full(&error) => {}
            Err(error) => return Err(self.poison("write an index", &error)),
            Ok(()) => {}
        }
        self.start_file()
    }

    /// Adds a line to `segments.txt`. A full disk only leaves it out: it is made again when the log is opened.
    fn add_to_index(&mut self, line: &str) -> Result<(), LogError> {
        if !self.index_whole {
            return Ok(());
        }
        if self.index.is_none() {
            self.index = self.storage.open_append(INDEX).ok();
        }
        let known = self.index.as_ref().and_then(|file| file.seen().ok()).map(|seen| seen.id);
        if known.is_none() || self.storage.look(INDEX).ok().flatten().map(|seen| seen.id) != known {
            // There is none yet, or somebody moved it.
            let all = Arc::clone(&self.sealed);
            return self.forget(all.files());
        }
        let written = self.index.as_mut().map(|file| file.append(line.as_bytes()).and_then(|()| file.sync()));
        match written {
            Some(Ok(())) => {}
            Some(Err(error)) if !is_full(&error) => {
                return Err(self.poison("write segments.txt", &error));
            }
            _ => self.index_whole = false,
        }
        Ok(())
    }

    /// Removes the sealed files that were kept long enough, and writes into `retention.txt` which. `segments.txt` forgets
    /// a file before it goes: one that it lists and that is not there was lost. Serves while the disk is full.
    ///
    /// # Errors
    /// [`LogError::Poisoned`]. A file that can't be removed stays, and is no error.
    pub fn retain(&mut self, look: &Look) -> Result<Retained, LogError> {
        if let Some(error @ LogError::Poisoned { .. }) = &self.stopped {
            return Err(error.clone());
        }
        let plan = retention::plan(&self.view(), look.now_ns, &look.policy, |file| (look.is_short)(file));
        let held = plan.held.map(|file| file.segment.file.clone());
        let mut retained = Retained { held, ..Retained::default() };
        if plan.remove.is_empty() {
            return Ok(retained);
        }
        let first_goes = |first| plan.remove.iter().any(|file| first_of(file) == Some(first));
        // A witness of a file that is gone would be one of a loss.
        if let Err(error) = self.witness.let_go(&self.storage, first_goes) {
            retained.failed = Some(format!("cannot remove {END}: {error}"));
            return Ok(retained);
        }
        let goes = |file: &SealedFile| plan.remove.iter().any(|other| other.serial == file.serial);
        let mut rest: Vec<_> = self.sealed.files().iter().filter(|file| !goes(file)).map(Arc::clone).collect();
        self.note_removal(&plan.remove)?;
        self.forget(&rest)?;
        for file in plan.remove {
            match remove_both(&self.storage, &file.segment.file) {
                Ok(()) => retained.removed.push(file.segment.clone()),
                Err(error) => {
                    retained.failed = Some(format!("cannot remove {}: {error}", file.segment.file));
                    rest.push(file);
                }
            }
        }
        rest.sort_by_key(|file| file.serial);
        self.sealed = Arc::new(Sealed::new(rest));
        self.storage.sync_dir().map_err(|error| self.poison("sync the folder", &error))?;
        Ok(retained)
    }

    /// Writes into `retention.txt` what is about to go; a disk too full for that is to get room.
    fn note_removal(&mut self, files: &[Arc<SealedFile>]) -> Result<(), LogError> {
        let lines: String = files.iter().map(|file| file.segment.to_line()).collect();
        let file = match self.storage.open_append(REMOVED) {
            Ok(file) if file.len().is_ok_and(|len| len < RETENTION_BYTES_MAX) => Ok(file),
            Ok(_) => self.storage.remove(REMOVED).and_then(|()| self.storage.create(REMOVED)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.storage.create(REMOVED),
            Err(error) => Err(error),
        };
        let noted = file.and_then(|mut file| {
            let len = file.len()?;
            // Half a line would spoil the next one.
            file.append(lines.as_bytes()).or_else(|error| file.truncate(len).and(Err(error)))?;
            file.sync()
        });
        match noted {
            Err(error) if !is_full(&error) => Err(self.poison("write retention.txt", &error)),
            _ => Ok(()),
        }
    }

    /// Makes `segments.txt` list these files and no others. If the disk is too full for that, it lists none: it is made
    /// again when the log is opened.
    fn forget(&mut self, rest: &[Arc<SealedFile>]) -> Result<(), LogError> {
        let text: String = rest.iter().map(|file| file.segment.to_line()).collect();
        // The open one is replaced.
        self.index = None;
        let written = match self.storage.write_small(INDEX, text.as_bytes()) {
            Ok(()) => {
                self.index_whole = true;
                return Ok(());
            }
            Err(error) if is_full(&error) => self.storage.remove(INDEX).and_then(|()| self.storage.sync_dir()),
            Err(error) => Err(error),
        };
        self.index_whole = false;
        match written {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.poison("write segments.txt", &error)),
            _ => Ok(()),
        }
    }

    /// Creates an empty `data.txt`.
    fn start_file(&mut self) -> Result<(), LogError> {
        match self.storage.create(CURRENT) {
            Ok(file) => match Current::new(file, None, Indexer::new(self.block_sizes)) {
                Ok(current) => self.current = Some(current),
                Err(error) => return Err(self.poison("look at data.txt", &error)),
            },
            Err(error) if is_full(&error) => return Err(self.full(&error)),
            Err(error) => return Err(self.poison("create data.txt", &error)),
        }
        self.storage.sync_dir().map_err(|error| self.poison("sync the folder", &error))
    }

    fn poison(&mut self, what: &'static str, error: &io::Error) -> LogError {
        let error = LogError::Poisoned { what, cause: error.to_string().into() };
        self.stopped = Some(error.clone());
        error
    }

    fn full(&mut self, error: &io::Error) -> LogError {
        let remedy = self.storage.room().map_or("free some space", Room::remedy);
        let error = LogError::Full { cause: error.to_string().into(), remedy };
        self.stopped = Some(error.clone());
        error
    }
}

/// Removes a sealed file, its index first; that either is gone already is fine.
fn remove_both<S: Storage>(storage: &S, file: &str) -> io::Result<()> {
    for name in [&sidecar_name(file), file] {
        match storage.remove(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The id of a sealed file's first record, as its name says.
fn first_of(file: &SealedFile) -> Option<RecordId> {
    sealed_id(&file.segment.file).map(|(id, _)| id)
}

/// The name that a file with this first record gets when it is sealed beside these.
pub(super) fn free_name(first: RecordId, sealed: &[Arc<SealedFile>]) -> String {
    let copies = sealed.iter().filter(|file| first_of(file) == Some(first)).count();
    let mut copy = u32::try_from(copies).unwrap_or(u32::MAX).saturating_add(1);
    loop {
        let name = sealed_name(first, copy);
        if sealed.iter().all(|file| file.segment.file != name) {
            return name;
        }
        copy = copy.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_round_trip() {
        for text in ["always", "never", "100ms", "2s", "1m 30s"] {
            assert_eq!(text.parse::<SyncPolicy>().unwrap().to_string(), text);
        }
        for text in ["", "0s", "sometimes", "-1s"] {
            assert!(text.parse::<SyncPolicy>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_that_is_taken_gets_a_number() {
        let id = RecordId { time_ns: 5, incarnation: 1 };
        let mut sealed = Vec::new();
        for copy in 1..4 {
            let file = free_name(id, &sealed);
            assert_eq!(file, sealed_name(id, copy));
            // A record with a lesser id may follow the first one.
            let segment = Segment { file, records: 1, bytes: 1, least: RecordId::ZERO, greatest: id };
            sealed.push(Arc::new(SealedFile { serial: u64::from(copy), segment, holdings: Arc::default() }));
        }
    }
}
