//! The log of a data node: appends batches of lines to `data.txt`, syncs them, and seals the file when it is full.
//!
//! It blocks, has no thread and reads no clock: the commit thread calls it. After the first failed write or sync it
//! answers nothing but that error, for a disk that failed once has lost what nobody knows. A full disk only makes it
//! read-only. `opening` finishes what a crash left; `docs/data-log.md` is the contract.

use super::opening::{self, OpenError, OpenReport};
use super::recover::BadPlace;
use super::segments::{CURRENT, INDEX, Segment, sealed_name};
use super::storage::{LogFile, Storage, is_full};
use crate::limits::DISK_RESUME_BYTES_MIN;
use crate::wire::id::RecordId;
use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

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
    #[error("the disk is full: {cause}; free some space and the node goes on by itself")]
    Full {
        /// What the system said.
        cause: Arc<str>,
    },
    /// The batch does not end in a newline; nothing was written.
    #[error("a batch has to end in a newline; this is a fault in the program that made it")]
    NotLines,
}

/// The file that is being written.
pub(super) struct Current<F> {
    pub(super) file: F,
    pub(super) len: u64,
    pub(super) records: u64,
    pub(super) first_id: Option<RecordId>,
    pub(super) max_id: Option<RecordId>,
}

impl<F> Current<F> {
    pub(super) fn empty(file: F) -> Self {
        Self { file, len: 0, records: 0, first_id: None, max_id: None }
    }
}

/// The log of a data node.
pub struct Log<S: Storage> {
    storage: S,
    settings: Settings,
    /// `None` after a seal, if the disk was too full to create the next file.
    current: Option<Current<S::File>>,
    sealed: Vec<Segment>,
    index: Option<S::File>,
    /// Whether `segments.txt` ends in a whole line; if not, nothing is added until it is made anew.
    index_whole: bool,
    unsynced: bool,
    /// [`LogError::Full`] or [`LogError::Poisoned`].
    stopped: Option<LogError>,
}

impl<S: Storage> Log<S> {
    /// Opens the log of a folder and finishes what a crash left: cuts and keeps aside a torn tail, lists rot. What it
    /// then holds is synced. Reads all of `data.txt`, but sealed files only if `segments.txt` does not know them.
    pub fn open(storage: S, settings: Settings) -> Result<(Self, OpenReport), OpenError> {
        let opened = opening::open(&storage)?;
        let mut log = Self {
            storage,
            settings,
            current: opened.current,
            sealed: opened.sealed,
            index: None,
            index_whole: opened.index_whole,
            unsynced: false,
            stopped: None,
        };
        if log.current.is_none() {
            match log.start_file() {
                Ok(()) | Err(LogError::Full { .. }) => {}
                Err(error) => return Err(OpenError::Log(error)),
            }
        }
        let mut report = opened.report;
        (report.records, report.bytes, report.segments) = (log.records(), log.bytes(), log.sealed.len());
        Ok((log, report))
    }

    /// Adds a batch of whole lines; they stay together in one file. Once [`sync`](Self::sync) returns they are kept.
    ///
    /// `first_id` is the id of the first record and `last_id` the greatest of the batch. After an error none of the
    /// batch counts: with [`LogError::Full`] it is gone, with [`LogError::Poisoned`] nobody knows.
    pub fn append(
        &mut self,
        lines: &[u8],
        records: u64,
        first_id: RecordId,
        last_id: RecordId,
    ) -> Result<(), LogError> {
        if let Some(error) = &self.stopped {
            return Err(error.clone());
        }
        if lines.last() != Some(&b'\n') {
            return Err(LogError::NotLines);
        }
        if self.current.as_ref().is_some_and(|current| current.len >= self.settings.segment_bytes) {
            self.seal()?;
        }
        if self.current.is_none() {
            self.start_file()?;
        }
        let Some(current) = self.current.as_mut() else {
            return Err(LogError::NotLines);
        };
        if let Err(error) = current.file.append(lines) {
            if !is_full(&error) {
                return Err(self.poison("write", &error));
            }
            return Err(match current.file.truncate(current.len) {
                Ok(()) => self.full(&error),
                Err(error) => self.poison("take back a half-written batch", &error),
            });
        }
        current.len += lines.len() as u64;
        current.records += records;
        current.first_id = current.first_id.or(Some(first_id));
        current.max_id = current.max_id.max(Some(last_id));
        self.unsynced = true;
        Ok(())
    }

    /// Makes everything appended so far survive a crash, whatever the policy says. Also serves while the disk is full.
    pub fn sync(&mut self) -> Result<(), LogError> {
        if let Some(error @ LogError::Poisoned { .. }) = &self.stopped {
            return Err(error.clone());
        }
        if self.unsynced
            && let Some(current) = self.current.as_mut()
            && let Err(error) = current.file.sync()
        {
            return Err(self.poison("sync", &error));
        }
        self.unsynced = false;
        Ok(())
    }

    /// Looks whether a full disk has room again: `true` if the log takes batches now.
    /// Errors: [`LogError::Poisoned`].
    pub fn try_resume(&mut self) -> Result<bool, LogError> {
        match &self.stopped {
            None => Ok(true),
            Some(LogError::Full { .. }) => {
                let room = self.storage.free_bytes().is_ok_and(|free| free >= DISK_RESUME_BYTES_MIN);
                if room {
                    self.stopped = None;
                }
                Ok(room)
            }
            Some(error) => Err(error.clone()),
        }
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
        let sealed: u64 = self.sealed.iter().map(|segment| segment.records).sum();
        sealed + self.current.as_ref().map_or(0, |current| current.records)
    }

    /// Length of all files of records, bytes.
    pub fn bytes(&self) -> u64 {
        let sealed: u64 = self.sealed.iter().map(|segment| segment.bytes).sum();
        sealed + self.current.as_ref().map_or(0, |current| current.len)
    }

    /// The sealed files, oldest first id first; files sealed since the log was opened come last.
    pub fn sealed(&self) -> &[Segment] {
        &self.sealed
    }

    /// Seals `data.txt`. A crash between any two steps leaves a folder that opens right: with a `data.txt` that is
    /// too long, or with none.
    fn seal(&mut self) -> Result<(), LogError> {
        self.sync()?;
        let Some(current) = self.current.as_ref() else {
            return Ok(());
        };
        let Some((first_id, max_id)) = current.first_id.zip(current.max_id) else {
            return Ok(());
        };
        let segment = Segment {
            file: free_name(first_id, &self.sealed),
            records: current.records,
            bytes: current.len,
            first_id,
            max_id,
        };
        match self.storage.rename(CURRENT, &segment.file) {
            Err(error) if is_full(&error) => return Err(self.full(&error)),
            Err(error) => return Err(self.poison("seal data.txt", &error)),
            Ok(()) => self.current = None,
        }
        // Before a new data.txt is made: the old one must not lose its new name to it.
        if let Err(error) = self.storage.sync_dir() {
            return Err(self.poison("sync the folder", &error));
        }
        let line = segment.to_line();
        self.sealed.push(segment);
        self.add_to_index(&line)?;
        self.start_file()
    }

    /// Adds a line to `segments.txt`. A full disk only leaves it out: it is made again when the log is opened.
    fn add_to_index(&mut self, line: &str) -> Result<(), LogError> {
        if !self.index_whole {
            return Ok(());
        }
        if self.index.is_none() {
            let opened = match self.storage.open_append(INDEX) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.storage.create(INDEX),
                other => other,
            };
            self.index = opened.ok();
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

    /// Creates an empty `data.txt`.
    fn start_file(&mut self) -> Result<(), LogError> {
        match self.storage.create(CURRENT) {
            Ok(file) => self.current = Some(Current::empty(file)),
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
        let error = LogError::Full { cause: error.to_string().into() };
        self.stopped = Some(error.clone());
        error
    }
}

/// The name that a file with this first record gets when it is sealed beside these.
pub(super) fn free_name(first: RecordId, sealed: &[Segment]) -> String {
    let copies = sealed.iter().filter(|segment| segment.first_id == first).count();
    let mut copy = u32::try_from(copies).unwrap_or(u32::MAX).saturating_add(1);
    loop {
        let name = sealed_name(first, copy);
        if sealed.iter().all(|segment| segment.file != name) {
            return name;
        }
        copy = copy.saturating_add(1);
    }
}

/// A line of `quarantine.txt`, newline included: file, offset, length, reason.
pub(super) fn quarantine_line(file: &str, bad: &BadPlace) -> String {
    format!("{file} {} {} {}\n", bad.place.offset, bad.place.len, bad.reason)
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
            sealed.push(Segment { file, records: 1, bytes: 1, first_id: id, max_id: id });
        }
    }
}
