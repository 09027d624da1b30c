//! What opening a log does before it takes the first batch: scan, cut, keep aside, count.
//!
//! Nothing is ever deleted: the torn tail goes to a `.torn` file before it is cut off, rot stays where it is. What was
//! synced before is no torn tail, whatever is there now. Crashing anywhere in here and opening again comes to the same end.

use super::current::{Before, Current, LogError};
use super::index::{BlockSizes, Indexer};
use super::recover::{self, BadPlace, Scan, TornTail};
use super::segments::{CURRENT, INDEX, Segment, parse_index, sealed_id};
use super::sidecar::{self, FileIndex, sidecar_name};
use super::sources::{Marks, Sources};
use super::storage::{LogFile, Storage};
use super::view::SealedFile;
use crate::files::is_full;
use crate::limits::{NODE_SOURCES_MAX, SCAN_CHUNK_BYTES, SEGMENTS_BYTES_MAX};
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk refused something.
    #[error("cannot {what} {file}: {source}; {}", remedy(source))]
    Disk {
        /// What was tried.
        what: &'static str,
        /// With which file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The first file could not be started.
    #[error(transparent)]
    Log(LogError),
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "give the folder to the user that runs the node",
        _ if is_full(error) => "free some space, or inodes (df -i), then start the node again",
        _ => "look at the disk, then start the node again",
    }
}

/// A tail that was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    /// What it was.
    pub(crate) tail: TornTail,
    /// The file it was copied to; `None` if it was nothing but zeros.
    pub(crate) kept: Option<String>,
}

/// Rot that was found in one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rot {
    /// The file.
    pub(crate) file: String,
    /// Its first rotten line.
    pub(crate) first: BadPlace,
    /// Where the last of them begins, bytes.
    pub(crate) last: u64,
    /// How many there are.
    pub(crate) lines: u64,
}

/// What opening a log found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OpenReport {
    /// Good records in all files.
    pub(crate) records: u64,
    /// Length of all files of records, bytes.
    pub(crate) bytes: u64,
    /// Sealed files.
    pub(crate) segments: usize,
    /// The torn tail of `data.txt`.
    pub(crate) torn: Option<Cut>,
    /// Rot in the files that were read.
    pub(crate) rot: Vec<Rot>,
    /// Sealed files that were read because `segments.txt` or their sidecar did not know them.
    pub(crate) rescanned: Vec<String>,
    /// Sealed files that are gone, or shorter than `segments.txt` says.
    pub(crate) lost: Vec<String>,
    /// What could not be written down because the disk is full; it is tried again at the next start.
    pub(crate) unwritten: Vec<String>,
}

/// A log that is ready to go on.
pub(super) struct Opened<F> {
    pub(super) current: Option<Current<F>>,
    pub(super) sealed: Vec<Arc<SealedFile>>,
    /// The sources in those.
    pub(super) sources: Sources,
    pub(super) index_whole: bool,
    pub(super) report: OpenReport,
}

fn failed<'a>(what: &'static str, file: &'a str) -> impl FnOnce(io::Error) -> OpenError + 'a {
    move |source| OpenError::Disk { what, file: file.to_owned(), source }
}

/// Opens everything in the folder but does not create `data.txt`.
pub(super) fn open<S: Storage>(storage: &S, sizes: BlockSizes, before: &Before) -> Result<Opened<S::File>, OpenError> {
    let mut report = OpenReport::default();
    let names = storage.list().map_err(failed("list", "the folder"))?;
    let current = if names.iter().any(|name| name == CURRENT) { Some(scan_current(storage, sizes)?) } else { None };
    let (sealed, sources, index_whole) = open_sealed(storage, sizes, &names, &mut report)?;
    let current = match current {
        Some(scanned) => {
            let last = before.last.as_ref().filter(|last| !names.contains(&last.file));
            let synced = last.map_or(0, |last| last.bytes);
            let synced = synced.max(scanned.found.synced);
            let scanned = if before.always { torn_at_bad(scanned, synced) } else { scanned };
            Some(open_current(storage, scanned, &names, synced, sizes, &mut report)?)
        }
        None => None,
    };
    // Names that a killed process left unsynced are relied on from here on.
    storage.sync_dir().map_err(failed("sync", "the folder"))?;
    Ok(Opened { current, sealed, sources, index_whole, report })
}

/// `data.txt`, and what is in it.
struct Scanned<F> {
    file: F,
    index: Indexer,
    found: Scan,
}

fn scan_current<S: Storage>(storage: &S, sizes: BlockSizes) -> Result<Scanned<S::File>, OpenError> {
    let file = storage.open_append(CURRENT).map_err(failed("open", CURRENT))?;
    let (index, found) = scan(&file, CURRENT, sizes)?;
    Ok(Scanned { file, index, found })
}

fn scan<F: LogFile>(file: &F, name: &str, sizes: BlockSizes) -> Result<(Indexer, Scan), OpenError> {
    let len = file.len().map_err(failed("look at", name))?;
    sidecar::build(&*file.reader(), len, sizes).map_err(failed("read", name))
}

/// Where what is acknowledged is synced before, a sync covers all that was written before it. So what lies behind a bad line of
/// the part that nobody knows to be synced was not synced either, and nobody was told of it: it is torn, too.
fn torn_at_bad<F>(mut scanned: Scanned<F>, synced: u64) -> Scanned<F> {
    let len = scanned.found.len();
    if let Some(first) = scanned.found.rot.iter().position(|bad| bad.place.offset >= synced)
        && let Some(bad) = scanned.found.rot.get(first).copied()
    {
        let BadPlace { place, reason } = bad;
        scanned.found.rot.truncate(first);
        scanned.found.rot_lines = first as u64;
        scanned.found.last_rot = scanned.found.rot.last().map(|bad| bad.place.offset);
        let tail =
            TornTail { offset: place.offset, len: len - place.offset, line: place.line, reason, unfinished: false };
        scanned.found.torn = Some(tail);
    }
    scanned
}

fn open_current<S: Storage>(
    storage: &S,
    Scanned { mut file, mut index, found }: Scanned<S::File>,
    names: &[String],
    synced: u64,
    sizes: BlockSizes,
    report: &mut OpenReport,
) -> Result<Current<S::File>, OpenError> {
    tell_rot(CURRENT, &found, report);
    let mut first_id = found.first_id;
    if let Some(tail) = found.torn.filter(|tail| tail.offset >= synced) {
        let name = torn_name(&found, names);
        let kept =
            keep_aside(storage, &file, tail, &name).map_err(failed("keep the torn end of data.txt in", &name))?;
        file.truncate(tail.offset).map_err(failed("cut the torn end off", CURRENT))?;
        report.torn = Some(Cut { tail, kept: kept.then_some(name) });
        if tail.offset < found.valid_len {
            // Whole lines went with it.
            let found;
            (index, found) = scan(&file, CURRENT, sizes)?;
            first_id = found.first_id;
        }
    }
    // A process that was killed may have left good records that only the system's memory holds.
    file.sync().map_err(failed("sync", CURRENT))?;
    Current::new(file, first_id, index).map_err(failed("look at", CURRENT))
}

/// A name for the torn tail that no file has yet.
fn torn_name(found: &Scan, names: &[String]) -> String {
    let id = found.first_id.map_or_else(|| "none".to_owned(), |id| id.to_string());
    let taken: HashSet<&str> = names.iter().map(String::as_str).collect();
    let mut name = format!("data-{id}.torn");
    let mut copy = 2_u64;
    while taken.contains(name.as_str()) {
        name = format!("data-{id}.{copy}.torn");
        copy += 1;
    }
    name
}

/// Copies the tail, without the zeros at its end, to a new file; `false` if it is nothing but zeros.
fn keep_aside<S: Storage>(storage: &S, file: &S::File, tail: TornTail, name: &str) -> io::Result<bool> {
    let mut buffer = vec![0; SCAN_CHUNK_BYTES];
    let mut copy: Option<S::File> = None;
    let mut at = tail.offset;
    // Chunks of zeros wait until something follows them.
    let mut zeros = 0_u64;
    loop {
        let got = file.read_at(&mut buffer, at)?;
        if got == 0 {
            break;
        }
        at += got as u64;
        let chunk = buffer.get(..got).unwrap_or_default();
        if chunk.iter().all(|b| *b == 0) {
            zeros += got as u64;
            continue;
        }
        let out = match &mut copy {
            Some(out) => out,
            None => copy.insert(storage.create(name)?),
        };
        while zeros > 0 {
            let some = usize::try_from(zeros).unwrap_or(SCAN_CHUNK_BYTES).min(SCAN_CHUNK_BYTES);
            out.append(&vec![0; some])?;
            zeros -= some as u64;
        }
        out.append(chunk)?;
    }
    let Some(mut out) = copy else {
        return Ok(false);
    };
    out.sync()?;
    storage.sync_dir()?;
    Ok(true)
}

/// Finds the sealed files; answers them in the order in which they were sealed, and whether `segments.txt` is whole now.
/// Those that it does not list are taken for the newest: what was written last has to be known.
fn open_sealed<S: Storage>(
    storage: &S,
    sizes: BlockSizes,
    names: &[String],
    report: &mut OpenReport,
) -> Result<(Vec<Arc<SealedFile>>, Sources, bool), OpenError> {
    let mut files: Vec<_> = names.iter().filter_map(|name| Some((sealed_id(name)?, name))).collect();
    let (mut known, mut whole) = read_index(storage, names)?;
    files.sort_unstable_by_key(|(id, name)| (known.get(*name).map_or(usize::MAX, |(place, _)| *place), *id));
    let (mut sealed, mut sources) = (Vec::with_capacity(files.len()), Sources::of_at_most(NODE_SOURCES_MAX));
    for (serial, ((id, _), name)) in (0..).zip(files) {
        let file = storage.open_append(name).map_err(failed("open", name))?;
        let len = file.len().map_err(failed("look at", name))?;
        let listed = known.remove(name).map(|(_, segment)| segment);
        if let Some(segment) = listed.as_ref().filter(|segment| segment.bytes > len) {
            report.lost.push(format!("{name} has {len} bytes and had {}: its end is lost", segment.bytes));
        }
        let known = listed.filter(|segment| segment.bytes == len);
        let index = sidecar::read(storage, name, len);
        if let (Some(segment), Some(index)) = (&known, index)
            && segment.records == index.records()
        {
            let (ledgers, marks) = (index.ledgers, Marks::of(&index.sources));
            sources.merge(&index.sources);
            sealed.push(Arc::new(SealedFile { serial, segment: segment.clone(), ledgers, marks }));
            continue;
        }
        let (index, mut found) = scan(&file, name, sizes)?;
        // A sealed file was synced whole: what is bad at its end is rot like any other.
        if let Some(tail) = found.torn {
            found.rot_lines += 1;
            found.last_rot = Some(tail.offset);
            let place = recover::Place { offset: tail.offset, len: tail.len, line: tail.line };
            found.rot.push(BadPlace { place, reason: tail.reason });
        }
        tell_rot(name, &found, report);
        report.rescanned.push(name.clone());
        let index = FileIndex::of(&index, len);
        let sidecar = sidecar_name(name);
        if let Some(text) = index.to_text() {
            write_down(storage.write_small(&sidecar, text.as_bytes()), &sidecar, report)?;
        }
        let segment = Segment {
            file: name.clone(),
            records: found.records,
            bytes: len,
            least: index.blocks.iter().map(|block| block.least).min().unwrap_or(id),
            greatest: index.blocks.iter().map(|block| block.greatest).max().unwrap_or(id),
        };
        whole &= known.as_ref() == Some(&segment);
        sources.merge(&index.sources);
        let marks = Marks::of(&index.sources);
        sealed.push(Arc::new(SealedFile { serial, segment, ledgers: index.ledgers, marks }));
    }
    for (file, (_, segment)) in &known {
        report.lost.push(format!("{file} is gone, and segments.txt lists it with {} records", segment.records));
    }
    if !whole || !known.is_empty() {
        let text: String = sealed.iter().map(|file| file.segment.to_line()).collect();
        // A file that is listed has its name for good: one that is listed and not there was lost.
        storage.sync_dir().map_err(failed("sync", "the folder"))?;
        whole = write_down(storage.write_small(INDEX, text.as_bytes()), INDEX, report)?;
    }
    Ok((sealed, sources, whole))
}

/// Which files `segments.txt` lists, and at which place; and whether it is whole.
type Listed = (HashMap<String, (usize, Segment)>, bool);

fn read_index<S: Storage>(storage: &S, names: &[String]) -> Result<Listed, OpenError> {
    if !names.iter().any(|name| name == INDEX) {
        return Ok((HashMap::new(), true));
    }
    match storage.read_small(INDEX, SEGMENTS_BYTES_MAX) {
        Ok(text) => {
            let (listed, whole) = parse_index(&text);
            let places = listed.into_iter().enumerate();
            Ok((places.map(|(place, segment)| (segment.file.clone(), (place, segment))).collect(), whole))
        }
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Ok((HashMap::new(), false)),
        Err(error) => Err(failed("read", INDEX)(error)),
    }
}

/// Says what of a file is rotten.
fn tell_rot(name: &str, found: &Scan, report: &mut OpenReport) {
    if let Some((first, last)) = found.rot.first().zip(found.last_rot) {
        report.rot.push(Rot { file: name.to_owned(), first: *first, last, lines: found.rot_lines });
    }
}

/// A full disk must not keep a node from serving what it has: `false` if it kept this from being written.
fn write_down(result: io::Result<()>, name: &str, report: &mut OpenReport) -> Result<bool, OpenError> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if is_full(&error) => {
            report.unwritten.push(name.to_owned());
            Ok(false)
        }
        Err(error) => Err(failed("write", name)(error)),
    }
}
