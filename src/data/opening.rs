//! What opening a log does before it takes the first batch: scan, cut, keep aside, list, count.
//!
//! Nothing is ever deleted: the torn tail goes to a `.torn` file before it is cut off, rot stays where it is and is
//! listed in `quarantine.txt`. Crashing anywhere in here and opening again comes to the same end.

use super::index::{BlockSizes, Indexer};
use super::log::{Current, LogError, free_name};
use super::mend::list::{Had, List};
use super::recover::{self, BadPlace, Scan, TornTail};
use super::segments::{CURRENT, INDEX, QUARANTINE, Segment, parse_index, sealed_id};
use super::sidecar::{self, FileIndex, sidecar_name};
use super::storage::{LogFile, Storage};
use super::view::SealedFile;
use super::witness::{self, END, Kept, Loss};
use crate::files::is_full;
use crate::limits::{QUARANTINE_BYTES_MAX, SCAN_CHUNK_BYTES, SEGMENTS_BYTES_MAX};
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
    /// The log ends before the place up to which it was synced.
    #[error("{0}")]
    EndLost(Box<Loss>),
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
    /// The file now; `quarantine.txt` has the name it gets when it is sealed.
    pub(crate) file: String,
    /// Its rotten lines, at most [`QUARANTINE_PLACES_MAX`](crate::limits::QUARANTINE_PLACES_MAX).
    pub(crate) places: Vec<BadPlace>,
    /// How many there are, listed or not.
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
    /// Sealed files that are shorter than `segments.txt` says, and by how much.
    pub(crate) shorter: Vec<String>,
    /// What could not be written down because the disk is full; it is tried again at the next start.
    pub(crate) unwritten: Vec<String>,
    /// `end.txt` makes no sense, so nobody knows whether the log ends where it did.
    pub(crate) end_unknown: bool,
}

/// A log that is ready to go on.
pub(super) struct Opened<F> {
    pub(super) current: Option<Current<F>>,
    pub(super) sealed: Vec<Arc<SealedFile>>,
    pub(super) index_whole: bool,
    pub(super) end: Kept,
    pub(super) report: OpenReport,
}

fn failed<'a>(what: &'static str, file: &'a str) -> impl FnOnce(io::Error) -> OpenError + 'a {
    move |source| OpenError::Disk { what, file: file.to_owned(), source }
}

/// Opens everything in the folder but does not create `data.txt`.
pub(super) fn open<S: Storage>(storage: &S, sizes: BlockSizes) -> Result<Opened<S::File>, OpenError> {
    let mut report = OpenReport::default();
    let names = storage.list().map_err(failed("list", "the folder"))?;
    let current = if names.iter().any(|name| name == CURRENT) { Some(scan_current(storage, sizes)?) } else { None };
    // Before anything is changed: what is left of a log that was cut is to stay as it is.
    let end = is_all_there(storage, &names, current.as_ref(), &mut report)?;
    let (sealed, index_whole) = open_sealed(storage, sizes, &names, &mut report)?;
    let current = match current {
        Some(scanned) => Some(open_current(storage, scanned, &names, &sealed, &mut report)?),
        None => None,
    };
    // Names that a killed process left unsynced are relied on from here on.
    storage.sync_dir().map_err(failed("sync", "the folder"))?;
    Ok(Opened { current, sealed, index_whole, end, report })
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

/// Refuses a log that ends before the place up to which `end.txt` says that it was synced; answers what that says.
fn is_all_there<S: Storage>(
    storage: &S,
    names: &[String],
    current: Option<&Scanned<S::File>>,
    report: &mut OpenReport,
) -> Result<Kept, OpenError> {
    let kept = witness::read(storage).map_err(failed("read", END))?;
    report.end_unknown = kept == Kept::Garbled;
    let Kept::End(_, end) = &kept else { return Ok(kept) };
    let current = current.map(|scanned| (scanned.found.len(), &scanned.found));
    match witness::missing(storage, end, names, current).map_err(failed("look at", &end.file))? {
        Some(loss) => Err(OpenError::EndLost(Box::new(loss))),
        None => Ok(kept),
    }
}

fn scan<F: LogFile>(file: &F, name: &str, sizes: BlockSizes) -> Result<(Indexer, Scan), OpenError> {
    let len = file.len().map_err(failed("look at", name))?;
    sidecar::build(&*file.reader(), len, sizes).map_err(failed("read", name))
}

fn open_current<S: Storage>(
    storage: &S,
    Scanned { mut file, index, found }: Scanned<S::File>,
    names: &[String],
    sealed: &[Arc<SealedFile>],
    report: &mut OpenReport,
) -> Result<Current<S::File>, OpenError> {
    if let Some(tail) = found.torn {
        let name = torn_name(&found, names);
        let kept =
            keep_aside(storage, &file, tail, &name).map_err(failed("keep the torn end of data.txt in", &name))?;
        file.truncate(tail.offset).map_err(failed("cut the torn end off", CURRENT))?;
        report.torn = Some(Cut { tail, kept: kept.then_some(name) });
    }
    // A process that was killed may have left good records that only the system's memory holds.
    file.sync().map_err(failed("sync", CURRENT))?;
    if let Some(first_id) = found.first_id {
        quarantine(storage, (&free_name(first_id, sealed), CURRENT), &found, None, report)?;
    }
    Current::new(file, found.first_id, index).map_err(failed("look at", CURRENT))
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
) -> Result<(Vec<Arc<SealedFile>>, bool), OpenError> {
    let mut files: Vec<_> = names.iter().filter_map(|name| Some((sealed_id(name)?, name))).collect();
    let (mut known, mut whole) = read_index(storage, names)?;
    files.sort_unstable_by_key(|(id, name)| (known.get(*name).map_or(usize::MAX, |(place, _)| *place), *id));
    let mut sealed = Vec::with_capacity(files.len());
    for (serial, ((id, _), name)) in (0..).zip(files) {
        let file = storage.open_append(name).map_err(failed("open", name))?;
        let len = file.len().map_err(failed("look at", name))?;
        let listed = known.remove(name).map(|(_, segment)| segment);
        let (known, longer) = match listed {
            Some(segment) if segment.bytes == len => (Some(segment), None),
            Some(segment) => (None, Some(segment).filter(|segment| segment.bytes > len)),
            None => (None, None),
        };
        let index = sidecar::read(storage, name, len);
        if let (Some(segment), Some(index)) = (&known, index)
            && segment.records == index.records()
        {
            let holdings = index.holdings;
            sealed.push(Arc::new(SealedFile { serial, segment: segment.clone(), holdings }));
            continue;
        }
        let (index, mut found) = scan(&file, name, sizes)?;
        // A sealed file was synced whole: what is bad at its end is rot like any other.
        if let Some(tail) = found.torn {
            found.rot_lines += 1;
            let place = recover::Place { offset: tail.offset, len: tail.len, line: tail.line };
            found.rot.push(BadPlace { place, reason: tail.reason });
        }
        // What somebody else wrote into it may be removed again: it is no loss then.
        let lost = longer.filter(|had| found.records < had.records || found.max_id < Some(had.greatest));
        if let Some(had) = &lost {
            report.shorter.push(format!("{name} has {len} bytes and had {}: its end is lost", had.bytes));
        }
        quarantine(storage, (name, name), &found, lost.map(|had| (had.bytes - len, had)), report)?;
        report.rescanned.push(name.clone());
        let index = FileIndex::of(&index, len);
        let sidecar = sidecar_name(name);
        write_down(storage.write_small(&sidecar, index.to_text().as_bytes()), &sidecar, report)?;
        let segment = Segment {
            file: name.clone(),
            records: found.records,
            bytes: len,
            least: index.blocks.iter().map(|block| block.least).min().unwrap_or(id),
            greatest: index.blocks.iter().map(|block| block.greatest).max().unwrap_or(id),
        };
        whole &= known.as_ref() == Some(&segment);
        sealed.push(Arc::new(SealedFile { serial, segment, holdings: index.holdings }));
    }
    if !whole || !known.is_empty() {
        let text: String = sealed.iter().map(|file| file.segment.to_line()).collect();
        // A file that is listed has its name for good: one that is listed and not there was lost.
        storage.sync_dir().map_err(failed("sync", "the folder"))?;
        whole = write_down(storage.write_small(INDEX, text.as_bytes()), INDEX, report)?;
    }
    Ok((sealed, whole))
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

/// Adds the rot of a file to `quarantine.txt`, each place once, under the name that the file keeps, and the end that it lost:
/// so many bytes of what it had. What is listed and not there any more goes off the list: somebody put the file right, and
/// whatever is there now is another matter.
fn quarantine<S: Storage>(
    storage: &S,
    (name, file_now): (&str, &str),
    found: &Scan,
    lost: Option<(u64, Segment)>,
    report: &mut OpenReport,
) -> Result<(), OpenError> {
    if !found.rot.is_empty() {
        report.rot.push(Rot { file: file_now.to_owned(), places: found.rot.clone(), lines: found.rot_lines });
    }
    let before = match storage.read_small(QUARANTINE, QUARANTINE_BYTES_MAX) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            report.unwritten.push(QUARANTINE.to_owned());
            return Ok(());
        }
        Err(error) => return Err(failed("read", QUARANTINE)(error)),
    };
    let mut list = List::parse(&before);
    let bad: HashSet<u64> = found.rot.iter().map(|bad| bad.place.offset).collect();
    let all_known = found.rot_lines == found.rot.len() as u64;
    list.retain(name, |offset, cut| match cut {
        Some(had) => found.records < had.records || found.max_id < Some(had.greatest),
        None => !all_known || bad.contains(&offset),
    });
    for bad in &found.rot {
        list.add(&(name.to_owned(), bad.place.offset), bad.place.len, &bad.reason.to_string());
    }
    if let Some((bytes, had)) = lost {
        let cut = Had { records: had.records, greatest: had.greatest };
        list.add(&(name.to_owned(), found.len()), bytes, &cut.reason());
    }
    let text = list.to_text();
    if text.as_bytes() != before.as_slice() {
        write_down(storage.write_small(QUARANTINE, text.as_bytes()), QUARANTINE, report)?;
    }
    Ok(())
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
