//! Sorts more small entries than fit in memory: sorted runs in a temporary file, then one merge.
//!
//! Memory is bounded whatever is sorted, and so are open files: all runs of a level share one file, and when a level has
//! its fill of runs they become one run of the next. Temporary files have no name once they are open, so that nothing
//! is left behind however the process ends. What an entry means is not its business.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits::{SORT_FAN_IN_MAX, SORT_MERGE_BYTES_MAX, SORT_RUN_BYTES_MAX, SORT_WRITE_BYTES};

/// The temporary files cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use temporary files in {}: {source}; {}", folder.display(), remedy(source))]
pub(crate) struct Error {
    /// The folder.
    pub(crate) folder: PathBuf,
    /// What the system said.
    pub(crate) source: io::Error,
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space there, or name a folder with more (--temp)"
        }
        _ => "name a folder that can be written (--temp)",
    }
}

/// What can be sorted: it has an order and takes a fixed number of bytes in a file.
pub(crate) trait Entry: Copy + Ord {
    /// Bytes of an entry in a file, at least 1.
    const BYTES: usize;

    /// Appends exactly [`BYTES`](Self::BYTES) bytes.
    fn put(&self, out: &mut Vec<u8>);

    /// Reads what [`put`](Self::put) wrote.
    fn get(fields: Fields<'_>) -> Self;
}

/// The bytes of an entry, taken field by field; what is not there reads as zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    /// The next field, little endian.
    #[must_use]
    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    /// The next field, little endian.
    #[must_use]
    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    /// The next field, little endian.
    #[must_use]
    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((field, rest)) = self.0.split_first_chunk() else { return [0; N] };
        self.0 = rest;
        *field
    }
}

/// How much memory a sort takes and how many runs it keeps apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Bytes of entries sorted in memory.
    pub(crate) run_bytes: usize,
    /// Bytes of all buffers of a merge.
    pub(crate) merge_bytes: usize,
    /// Runs of a level, at least 2.
    pub(crate) fan_in: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { run_bytes: SORT_RUN_BYTES_MAX, merge_bytes: SORT_MERGE_BYTES_MAX, fan_in: SORT_FAN_IN_MAX }
    }
}

/// Takes entries in any order.
#[derive(Debug)]
pub(crate) struct Sorter<E> {
    folder: PathBuf,
    bounds: Bounds,
    run: Vec<E>,
    levels: Vec<Level>,
    count: u64,
}

/// Runs of about the same length, one after the other in a file.
#[derive(Debug)]
struct Level {
    file: File,
    runs: Vec<Range<u64>>,
}

impl<E: Entry> Sorter<E> {
    /// A sort whose temporary files, if it needs any, lie in `folder`.
    #[must_use]
    pub(crate) fn new(folder: &Path, bounds: Bounds) -> Self {
        Self { folder: folder.to_owned(), bounds, run: Vec::new(), levels: Vec::new(), count: 0 }
    }

    /// Takes one entry.
    ///
    /// # Errors
    /// The temporary file can't be written.
    pub(crate) fn push(&mut self, entry: E) -> Result<(), Error> {
        if self.run.len() >= (self.bounds.run_bytes / size_of::<E>()).max(1) {
            self.flush()?;
        }
        self.count += 1;
        self.run.push(entry);
        Ok(())
    }

    /// All entries, least first. Memory of the sort is given back but for the buffers of the merge.
    ///
    /// # Errors
    /// The temporary file can't be written or read.
    pub(crate) fn finish(mut self) -> Result<Sorted<E>, Error> {
        if self.levels.is_empty() {
            self.run.sort_unstable();
            return Ok(Sorted { count: self.count, folder: self.folder, from: Source::Memory(self.run.into_iter()) });
        }
        self.flush()?;
        self.run = Vec::new();
        let merge = Merge::new(std::mem::take(&mut self.levels), self.bounds.merge_bytes);
        let merge = merge.map_err(failed(&self.folder))?;
        Ok(Sorted { count: self.count, folder: self.folder, from: Source::Files(merge) })
    }

    /// Writes the run in memory to the first level, and merges levels that are full.
    fn flush(&mut self) -> Result<(), Error> {
        self.run.sort_unstable();
        let mut run = self.run.drain(..).map(Ok);
        append(&self.folder, &mut self.levels, 0, &mut run).map_err(failed(&self.folder))?;
        drop(run);
        let mut k = 0;
        while self.levels.get(k).is_some_and(|level| level.runs.len() >= self.bounds.fan_in.max(2)) {
            self.raise(k).map_err(failed(&self.folder))?;
            k += 1;
        }
        Ok(())
    }

    /// Makes all runs of level `k` one run of the next.
    fn raise(&mut self, k: usize) -> io::Result<()> {
        let Some(level) = self.levels.get_mut(k) else { return Ok(()) };
        let full = Level { file: level.file.try_clone()?, runs: std::mem::take(&mut level.runs) };
        let mut merge = Merge::<E>::new(vec![full], self.bounds.merge_bytes)?;
        append(&self.folder, &mut self.levels, k + 1, &mut std::iter::from_fn(|| merge.next().transpose()))?;
        self.levels.get(k).map_or(Ok(()), |level| level.file.set_len(0))
    }
}

fn failed(folder: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    |source| Error { folder: folder.to_owned(), source }
}

/// Appends a sorted run to level `k`, which is made if it is the next one.
fn append<E: Entry>(
    folder: &Path,
    levels: &mut Vec<Level>,
    k: usize,
    run: &mut dyn Iterator<Item = io::Result<E>>,
) -> io::Result<()> {
    if levels.len() <= k {
        levels.push(Level { file: nameless(folder)?, runs: Vec::new() });
    }
    let Some(level) = levels.get_mut(k) else { return Ok(()) };
    let start = level.runs.last().map_or(0, |run| run.end);
    let mut end = start;
    let mut buffer = Vec::with_capacity(SORT_WRITE_BYTES + E::BYTES);
    loop {
        let entry = run.next().transpose()?;
        if let Some(entry) = &entry {
            entry.put(&mut buffer);
        }
        if buffer.len() >= SORT_WRITE_BYTES || entry.is_none() {
            level.file.write_all_at(&buffer, end)?;
            end += buffer.len() as u64;
            buffer.clear();
        }
        if entry.is_none() {
            level.runs.push(start..end);
            return Ok(());
        }
    }
}

/// A file that only this process can reach and that is gone with it.
fn nameless(folder: &Path) -> io::Result<File> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!(".acopio-sort-{}-{number}", std::process::id()));
        match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => return std::fs::remove_file(&path).map(|()| file),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// The entries in order.
#[derive(Debug)]
pub(crate) struct Sorted<E> {
    count: u64,
    folder: PathBuf,
    from: Source<E>,
}

#[derive(Debug)]
enum Source<E> {
    Memory(std::vec::IntoIter<E>),
    Files(Merge<E>),
}

impl<E: Entry> Sorted<E> {
    /// How many entries there were in all.
    #[must_use]
    pub(crate) const fn entries(&self) -> u64 {
        self.count
    }
}

impl<E: Entry> Iterator for Sorted<E> {
    type Item = Result<E, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.from {
            Source::Memory(entries) => entries.next().map(Ok),
            Source::Files(merge) => merge.next().map_err(failed(&self.folder)).transpose(),
        }
    }
}

/// Several sorted runs as one.
#[derive(Debug)]
struct Merge<E> {
    cursors: Vec<Cursor>,
    files: Vec<File>,
    heap: BinaryHeap<Reverse<(E, usize)>>,
}

impl<E: Entry> Merge<E> {
    fn new(levels: Vec<Level>, bytes: usize) -> io::Result<Self> {
        let runs: usize = levels.iter().map(|level| level.runs.len()).sum();
        let entries = (bytes / runs.max(1) / E::BYTES).max(1);
        let mut merge = Self { cursors: Vec::new(), files: Vec::new(), heap: BinaryHeap::new() };
        for (file, level) in levels.into_iter().enumerate() {
            merge.files.push(level.file);
            for run in level.runs {
                merge.cursors.push(Cursor { file, rest: run, buffer: vec![0; entries * E::BYTES], read: 0..0 });
            }
        }
        for (k, cursor) in merge.cursors.iter_mut().enumerate() {
            if let Some(first) = cursor.next(&merge.files)? {
                merge.heap.push(Reverse((first, k)));
            }
        }
        Ok(merge)
    }

    fn next(&mut self) -> io::Result<Option<E>> {
        let Some(mut least) = self.heap.peek_mut() else { return Ok(None) };
        let Reverse((entry, k)) = *least;
        let next = match self.cursors.get_mut(k) {
            Some(cursor) => cursor.next(&self.files)?,
            None => None,
        };
        match next {
            Some(next) => *least = Reverse((next, k)),
            None => {
                PeekMut::pop(least);
            }
        }
        Ok(Some(entry))
    }
}

/// How far a run is read.
#[derive(Debug)]
struct Cursor {
    file: usize,
    /// What is in the file only.
    rest: Range<u64>,
    buffer: Vec<u8>,
    /// What is in the buffer and not yet taken.
    read: Range<usize>,
}

impl Cursor {
    fn next<E: Entry>(&mut self, files: &[File]) -> io::Result<Option<E>> {
        if self.read.is_empty() {
            let left = usize::try_from(self.rest.end - self.rest.start).unwrap_or(usize::MAX);
            let len = left.min(self.buffer.len());
            if len == 0 {
                self.buffer = Vec::new();
                return Ok(None);
            }
            if let (Some(file), Some(buffer)) = (files.get(self.file), self.buffer.get_mut(..len)) {
                file.read_exact_at(buffer, self.rest.start)?;
            }
            self.rest.start += len as u64;
            self.read = 0..len;
        }
        let entry = self.buffer.get(self.read.clone()).unwrap_or_default();
        self.read.start += E::BYTES;
        Ok(Some(E::get(Fields(entry))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Entry for (u64, u16) {
        const BYTES: usize = 10;

        fn put(&self, out: &mut Vec<u8>) {
            out.extend_from_slice(&self.0.to_le_bytes());
            out.extend_from_slice(&self.1.to_le_bytes());
        }

        fn get(mut fields: Fields<'_>) -> Self {
            (fields.u64(), fields.u16())
        }
    }

    fn sorted(entries: &[(u64, u16)], bounds: Bounds) -> Vec<(u64, u16)> {
        let dir = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::new(dir.path(), bounds);
        entries.iter().for_each(|entry| sorter.push(*entry).unwrap());
        let sorted = sorter.finish().unwrap();
        assert_eq!(sorted.entries(), entries.len() as u64);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "temporary files have no name");
        sorted.map(Result::unwrap).collect()
    }

    #[test]
    fn a_folder_that_is_none_is_named_with_a_remedy() {
        let mut sorter = Sorter::new(Path::new("/nowhere"), Bounds { run_bytes: 1, ..Bounds::default() });
        sorter.push((1, 1)).unwrap();
        let error = sorter.push((2, 2)).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot use temporary files in /nowhere: ") && error.ends_with("(--temp)"),
            "{error}"
        );
    }

    proptest! {
        /// Against the sort of the standard library, with runs so short that there are levels over levels.
        #[test]
        fn it_sorts(
            entries in prop::collection::vec((0..200_u64, 0..3_u16), 0..400),
            run in 1..60_usize, fan_in in 2..6_usize, merge_bytes in 1..400_usize,
        ) {
            let bounds = Bounds { run_bytes: run * size_of::<(u64, u16)>(), merge_bytes, fan_in };
            let mut wanted = entries.clone();
            wanted.sort_unstable();
            prop_assert_eq!(sorted(&entries, bounds), wanted);
        }
    }
}
