//! The log of a data node: appends batches of lines to `data.txt`, syncs them, and seals the file when it is full.
//!
//! It blocks, has no thread and reads no clock: the commit thread calls it. After the first failed write or sync it
//! answers nothing but that error, for a disk that failed once has lost what nobody knows. A full disk only makes it
//! read-only, and so do files that somebody moved. `opening` finishes what a crash left; `docs/data-log.md` is the contract.

mod hands;
mod retain;

pub(crate) use hands::Foreign;

use super::current::{Before, Current, LogError};
use super::index::{BlockSizes, Indexer, Summary};
use super::ledgers::Ledgers;
use super::opening::{self, OpenError, OpenReport};
use super::record;
use super::segments::{CURRENT, INDEX, Segment, sealed_id, sealed_name};
use super::sidecar::{FileIndex, sidecar_name};
use super::sources::Marks;
use super::standing::Standing;
use super::storage::{LogFile, Room, Storage};
use super::view::{CurrentFile, Sealed, SealedFile, View};
use crate::files::is_full;
use crate::limits::APPENDS_MAX;
use crate::metrics::Durations;
use crate::wire::id::RecordId;
use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

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

/// How far the file goes that is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reaches<'a> {
    /// The name that it has for good.
    pub(crate) file: &'a str,
    /// Bytes up to the end of its last record.
    pub(crate) bytes: u64,
    /// How many of them are records.
    pub(crate) record_bytes: u64,
    /// Which entries of which ledgers are in it.
    pub(crate) ledgers: &'a Ledgers,
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
    /// Syncs of data files since it was opened, and bytes written to them.
    syncs: u64,
    sync_times: Durations,
    written: u64,
    /// `LogError::Full`, [`LogError::Altered`] or `LogError::Poisoned`.
    stopped: Option<LogError>,
    /// It was altered in a way that only another start can judge.
    is_lost: bool,
    /// What others wrote, until it is taken.
    foreign: Foreign,
}

impl<S: Storage> Log<S> {
    /// Opens the log of a folder and finishes what a crash left: cuts and keeps aside a torn tail, lists rot. What it
    /// then holds is synced. Reads all of `data.txt`, but sealed files only if `segments.txt` does not know them.
    pub fn open(storage: S, settings: Settings) -> Result<(Self, OpenReport), OpenError> {
        Self::open_with(storage, settings, BlockSizes::default(), &Before::default())
    }

    /// [`open`](Self::open), where it is known how far the file went that was written last: nothing before that is cut off.
    pub(crate) fn open_behind(
        storage: S,
        settings: Settings,
        before: &Before,
    ) -> Result<(Self, OpenReport), OpenError> {
        Self::open_with(storage, settings, BlockSizes::default(), before)
    }

    /// [`open`](Self::open) with blocks of another size, so that a test has many of them in short files.
    #[cfg(test)]
    pub(crate) fn open_with_blocks(
        storage: S,
        settings: Settings,
        block_sizes: BlockSizes,
    ) -> Result<(Self, OpenReport), OpenError> {
        Self::open_with(storage, settings, block_sizes, &Before::default())
    }

    fn open_with(
        storage: S,
        settings: Settings,
        block_sizes: BlockSizes,
        before: &Before,
    ) -> Result<(Self, OpenReport), OpenError> {
        let opened = opening::open(&storage, block_sizes, before)?;
        let mut log = Self {
            storage,
            settings,
            block_sizes,
            current: opened.current,
            serial: opened.sealed.len() as u64,
            sealed: Arc::new(Sealed::new(opened.sealed, opened.sources)),
            index: None,
            index_whole: opened.index_whole,
            unsynced: false,
            syncs: 0,
            sync_times: Durations::default(),
            written: 0,
            stopped: None,
            is_lost: false,
            foreign: Foreign::default(),
        };
        let named = log.current.as_ref().and_then(|current| current.first_id);
        if let Some((current, first)) = log.current.as_mut().zip(named) {
            // What its first line was is not known for ever: its name stays.
            let known = before
                .last
                .as_ref()
                .filter(|last| log.sealed.files().iter().all(|file| file.segment.file != last.file));
            let name = known.map_or_else(|| free_name(first, log.sealed.files()), |last| last.file.clone());
            current.name = Some(name.into());
        }
        if log.current.is_none() {
            match log.start_file() {
                Ok(()) | Err(LogError::Full { .. }) => {}
                Err(error) => return Err(OpenError::Log(error)),
            }
        }
        log.know_file();
        let mut report = opened.report;
        (report.records, report.bytes, report.segments) = (log.records(), log.bytes(), log.sealed().len());
        Ok((log, report))
    }

    /// Adds a batch of whole lines; they stay together in one file. Once [`sync`](Self::sync) returns they are kept.
    ///
    /// `summary` says what the lines are. After an error none of the batch counts: with `LogError::Full` it is gone,
    /// with `LogError::Poisoned` nobody knows.
    ///
    /// The first line gets a sync mark, if there is something before it and all of that is synced.
    pub fn append(&mut self, lines: &mut [u8], summary: &Summary) -> Result<(), LogError> {
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
        let is_behind_synced = !self.unsynced && self.current.as_ref().is_some_and(|current| current.len > 0);
        record::set_sync_mark(lines, is_behind_synced);
        for _ in 0..APPENDS_MAX {
            if self.append_once(lines, summary)? {
                self.unsynced = true;
                return Ok(());
            }
            // What it was spoiled by is before it now, and not synced.
            record::set_sync_mark(lines, false);
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
        self.written += lines.len() as u64;
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
            Standing::Altered(alteration) => return Err(self.take_back(lines, alteration)),
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

    /// Makes everything appended so far survive a crash, whatever the policy says. Also serves while the disk is full.
    pub fn sync(&mut self) -> Result<(), LogError> {
        if let Some(error @ LogError::Poisoned { .. }) = &self.stopped {
            return Err(error.clone());
        }
        if self.unsynced
            && let Some(current) = self.current.as_mut()
        {
            let begun = Instant::now();
            if let Err(error) = current.file.sync() {
                return Err(self.poison("sync", &error));
            }
            self.sync_times.add(begun.elapsed());
            self.syncs += 1;
        }
        self.unsynced = false;
        Ok(())
    }

    /// How far `data.txt` goes, and with which entries; `None` while it holds no record.
    #[must_use]
    pub(crate) fn reaches(&self) -> Option<Reaches<'_>> {
        let current = self.current.as_ref()?;
        let file = current.name.as_deref()?;
        let (bytes, record_bytes) = (current.index.bytes(), current.index.record_bytes());
        Some(Reaches { file, bytes, record_bytes, ledgers: current.index.ledgers() })
    }

    /// Syncs of data files since it was opened.
    pub(crate) const fn syncs(&self) -> u64 {
        self.syncs
    }

    /// How long these took.
    pub(crate) const fn sync_times(&self) -> Durations {
        self.sync_times
    }

    /// Bytes written to data files since it was opened.
    pub(crate) const fn written(&self) -> u64 {
        self.written
    }

    /// Why the log takes no batches now.
    pub(crate) fn stopped(&self) -> Option<&LogError> {
        self.stopped.as_ref()
    }

    /// Whether something appended is not synced yet.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// When records are to be synced.
    pub(crate) fn policy(&self) -> SyncPolicy {
        self.settings.sync
    }

    /// Good records in all files.
    pub(crate) fn records(&self) -> u64 {
        self.sealed.records() + self.current.as_ref().map_or(0, |current| current.index.records())
    }

    /// Length of all files of records, bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.sealed.bytes() + self.current.as_ref().map_or(0, |current| current.index.bytes())
    }

    /// The sealed files, in the order in which they were sealed.
    pub(crate) fn sealed(&self) -> &[Arc<SealedFile>] {
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
            ledgers: Arc::clone(current.index.ledgers()),
            sources: current.index.sources().clone(),
        });
        View::new(Arc::clone(&self.sealed), current)
    }

    /// Seals `data.txt`. A crash between any two steps leaves a folder that opens right: with a `data.txt` that is
    /// too long, or with none.
    fn seal(&mut self) -> Result<(), LogError> {
        self.sync()?;
        // Whatever lies at its path is renamed.
        self.settle()?;
        let Some(current) = self.current.as_ref() else {
            return Ok(());
        };
        let ids = current.name.as_deref().zip(current.index.least()).zip(current.index.greatest());
        let Some(((name, least), greatest)) = ids else {
            return Ok(());
        };
        let segment =
            Segment { file: name.to_owned(), records: current.index.records(), bytes: current.len, least, greatest };
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
        let (ledgers, marks) = (Arc::clone(&index.ledgers), Marks::of(&index.sources));
        let file = Arc::new(SealedFile { serial: self.serial, segment, ledgers, marks });
        Arc::make_mut(&mut self.sealed).push(file, &index.sources);
        self.serial += 1;
        self.add_to_index(&line)?;
        match index.to_text().map_or(Ok(()), |text| self.storage.write_small(&sidecar, text.as_bytes())) {
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
        self.know_file();
        self.storage.sync_dir().map_err(|error| self.poison("sync the folder", &error))
    }

    pub(super) fn poison(&mut self, what: &'static str, error: &io::Error) -> LogError {
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
            sealed.push(Arc::new(SealedFile {
                serial: u64::from(copy),
                segment,
                ledgers: Arc::default(),
                marks: Marks::default(),
            }));
        }
    }
}
