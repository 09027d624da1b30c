//! A snapshot of what a log holds, for readers: the sealed files, and `data.txt` as far as it is committed.
//!
//! Cheap to make after every commit and cheap to keep: what two snapshots have in common they share. A snapshot says
//! which files there are and which ids are where; reading them is the business of `scan`.

use super::index::{Block, Blocks};
use super::ledgers::Ledgers;
use super::segments::Segment;
use super::sources::{Heard, Marks, Shared, Sources};
use super::storage::ReadAt;
use crate::wire::id::RecordId;
use crate::wire::source::SourceName;
use std::fmt;
use std::sync::Arc;

/// A sealed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SealedFile {
    /// Its number, which it had as `data.txt` already; never used for another file while the log is open.
    pub(crate) serial: u64,
    /// Its name, its size and the ids in it.
    pub(crate) segment: Segment,
    /// Which entries of which ledgers are in it.
    pub(crate) ledgers: Arc<Ledgers>,
    /// Which sources may be in it.
    pub(crate) marks: Marks,
}

/// All sealed files, and what they hold together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sealed {
    files: Vec<Arc<SealedFile>>,
    records: u64,
    bytes: u64,
    greatest: Option<RecordId>,
    sources: Sources,
}

impl Sealed {
    /// These files, by ascending serial, and the sources in them.
    #[must_use]
    pub(crate) fn new(files: Vec<Arc<SealedFile>>, sources: Sources) -> Self {
        let mut sealed = Self { sources, ..Self::default() };
        files.into_iter().for_each(|file| sealed.add(file));
        sealed
    }

    /// Adds a file, and the sources in it.
    pub(crate) fn push(&mut self, file: Arc<SealedFile>, sources: &Sources) {
        self.sources.merge(sources);
        self.add(file);
    }

    fn add(&mut self, file: Arc<SealedFile>) {
        self.records += file.segment.records;
        self.bytes += file.segment.bytes;
        if file.segment.records > 0 {
            self.greatest = self.greatest.max(Some(file.segment.greatest));
        }
        self.files.push(file);
    }

    /// The files: in the order in which they were sealed.
    #[must_use]
    pub(crate) fn files(&self) -> &[Arc<SealedFile>] {
        &self.files
    }

    /// The sources in them.
    #[must_use]
    pub(crate) const fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Good records in them.
    #[must_use]
    pub(crate) const fn records(&self) -> u64 {
        self.records
    }

    /// Their length, bytes.
    #[must_use]
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// `data.txt` as far as it is committed. It stays readable after it was sealed.
#[derive(Clone)]
pub(crate) struct CurrentFile {
    /// Its number, which it keeps when it is sealed.
    pub(crate) serial: u64,
    /// The name that it will have when it is sealed; `None` while it holds no record.
    pub(crate) name: Option<Arc<str>>,
    /// The open file.
    pub(crate) reader: Arc<dyn ReadAt>,
    /// Committed length, bytes.
    pub(crate) bytes: u64,
    /// Good records in it.
    pub(crate) records: u64,
    /// Greatest id in it.
    pub(crate) greatest: Option<RecordId>,
    /// Its blocks but the last.
    pub(crate) full: Blocks,
    /// Its last block, which grows: a later snapshot has it with the same offset and more bytes.
    pub(crate) open: Option<Block>,
    /// Which entries of which ledgers are in it.
    pub(crate) ledgers: Arc<Ledgers>,
    /// Which sources are in it: those that came later, too.
    pub(crate) sources: Shared,
}

impl CurrentFile {
    /// All of its blocks, in the order of the file.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.full.iter().chain(self.open.as_ref())
    }
}

impl fmt::Debug for CurrentFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("CurrentFile");
        out.field("serial", &self.serial).field("bytes", &self.bytes).field("records", &self.records);
        out.finish_non_exhaustive()
    }
}

/// What a log held at one moment.
#[derive(Debug, Clone, Default)]
pub struct View {
    sealed: Arc<Sealed>,
    current: Option<CurrentFile>,
}

impl View {
    /// A snapshot of these files.
    #[must_use]
    pub(crate) const fn new(sealed: Arc<Sealed>, current: Option<CurrentFile>) -> Self {
        Self { sealed, current }
    }

    /// Some of the sources, those behind a name in the order of names; and whether there are more than are known.
    #[must_use]
    pub(crate) fn sources(&self, behind: Option<SourceName>, most: usize) -> (Vec<(SourceName, Heard)>, bool) {
        let sealed = self.sealed.sources();
        let mut some = Sources::of_at_most(usize::MAX);
        sealed.behind(behind).take(most).for_each(|(name, heard)| some.add(*name, *heard));
        let mut more = sealed.more();
        if let Some(current) = self.current() {
            let current = current.sources.read();
            current.behind(behind).take(most).for_each(|(name, heard)| some.add(*name, *heard));
            more |= current.more();
        }
        (some.iter().take(most).map(|(name, heard)| (*name, *heard)).collect(), more)
    }

    /// The sealed files.
    #[must_use]
    pub(crate) fn sealed(&self) -> &[Arc<SealedFile>] {
        self.sealed.files()
    }

    /// `data.txt`; `None` while the disk is too full to begin one.
    #[must_use]
    pub(crate) const fn current(&self) -> Option<&CurrentFile> {
        self.current.as_ref()
    }

    /// The name that the file with this serial has for good: `data.txt` goes by the one that it will get.
    #[must_use]
    pub(crate) fn name(&self, serial: u64) -> Option<&str> {
        if let Some(current) = self.current().filter(|current| current.serial == serial) {
            return current.name.as_deref();
        }
        let at = self.sealed().binary_search_by_key(&serial, |file| file.serial).ok()?;
        self.sealed().get(at).map(|file| file.segment.file.as_str())
    }

    /// Greatest id; `None` if there are no records.
    #[must_use]
    pub(crate) fn greatest(&self) -> Option<RecordId> {
        self.sealed.greatest.max(self.current.as_ref().and_then(|current| current.greatest))
    }

    /// Good records, repeated ones included.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.sealed.records + self.current.as_ref().map_or(0, |current| current.records)
    }

    /// Length of all files, bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.sealed.bytes + self.current.as_ref().map_or(0, |current| current.bytes)
    }

    /// Each file and the entries in it, by ascending serial.
    pub(crate) fn ledgers(&self) -> impl Iterator<Item = (u64, &Ledgers)> {
        let sealed = self.sealed().iter().map(|file| (file.serial, &*file.ledgers));
        sealed.chain(self.current().map(|current| (current.serial, &*current.ledgers)))
    }
}
