//! Reads every record of a data folder and says what is torn, rotten or out of place. Changes nothing.
//!
//! It needs no node, and does not mind one: while a node runs on the folder, a last line without its newline is a write
//! in progress and no fault. Whether the records of several nodes agree is not decided here, but in
//! [`across`](super::across), which is shown every record.

mod lost;
mod report;

pub(crate) use report::{Kind, Problem, Report};

use self::lost::Left;
use super::ahead::Ahead;
use super::sort;
use crate::data::folder;
use crate::data::index::Block;
use crate::data::mend::list::List;
use crate::data::record::Line;
use crate::data::recover::{self, Place, Scan};
use crate::data::segments::{CURRENT, QUARANTINE, sealed_id, sealed_name};
use crate::data::sidecar;
use crate::data::storage::{Disk, DiskFile};
use crate::limits::SCAN_CHUNK_BYTES;
use crate::wire::id::{ClientId, RecordId};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Why a folder could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is nothing of a data node in it.
    #[error("{} holds no data.txt and no sealed files; name the data folder of a node", path.display())]
    NoData {
        /// The folder.
        path: PathBuf,
    },
    /// The system refused something.
    #[error("cannot read {}: {source}; {}", path.display(), remedy(source))]
    Disk {
        /// What was read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was done with the records could not go on.
    #[error(transparent)]
    Sort(#[from] sort::Error),
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => "name the data folder of a node",
        io::ErrorKind::PermissionDenied => "run this as the user of the node",
        _ => "look at the disk",
    }
}

/// Shown every good record; an error ends the reading.
pub(crate) type Each<'a> = dyn FnMut(&Line<'_>) -> Result<(), sort::Error> + 'a;

/// A file to read, and how much of it.
struct Part {
    name: String,
    len: u64,
    /// `data.txt` is held open, since its name may become another file's; sealed files are opened one by one.
    file: Option<DiskFile>,
}

/// Reads every record of every file in `dir`, and shows every good one to `each`. `progress` is told bytes done and bytes in
/// all, about once a megabyte.
///
/// # Errors
/// The folder or a file cannot be read, or the folder holds no file of records; and those of `each`. A fault in a record
/// is no error: it stands in the report.
pub(crate) fn verify_each(
    dir: &Path,
    progress: &mut dyn FnMut(u64, u64),
    each: &mut Each<'_>,
) -> Result<Report, Error> {
    let running = holder(dir)?;
    // Before the files: what it tells of was there then.
    let mut left = Left::read(dir)?;
    let parts = parts(dir)?;
    let total = parts.iter().map(|part| part.len).sum();
    let mut report = Report { running, ..Report::default() };
    let mut done = 0;
    let mut ids: Option<(RecordId, RecordId)> = None;
    let disk = Disk::open(dir).map_err(failed(dir))?;
    let marks = List::read(&disk).map_err(failed(&dir.join(QUARANTINE)))?;
    let mut missing: BTreeSet<RecordId> = marks.all_mended().flat_map(|(_, ids)| ids).copied().collect();
    let mut mended = Vec::new();
    let each: &mut Each<'_> = &mut |line| {
        missing.remove(&line.id);
        each(line)
    };
    for mut part in parts {
        if let Some(file) = part.open(dir)? {
            let found = verify_part(
                dir,
                &part,
                &file,
                &mut report,
                &mut |bytes| progress(done + bytes, total),
                &mut ids,
                each,
            )?;
            report.files += 1;
            report.bytes += part.len;
            left.met(&part.name, part.len, &found);
            judge(dir, &part, found, &mut report, (&marks, &mut mended))?;
        }
        done += part.len;
        progress(done, total);
    }
    left.judge(&marks, &mut report)?;
    judge_mended(mended, &missing, &mut report);
    if let Some((least, greatest)) = ids {
        (report.first_id, report.last_id) = (Some(least.to_string()), Some(greatest.to_string()));
    }
    Ok(report)
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    |source| Error::Disk { path: path.to_owned(), source }
}

fn holder(dir: &Path) -> Result<Option<String>, Error> {
    folder::running(dir).map_err(failed(dir))
}

impl Part {
    /// The file; `None` if it was a sealed one and has been removed meanwhile.
    fn open(&mut self, dir: &Path) -> Result<Option<DiskFile>, Error> {
        if let Some(file) = self.file.take() {
            return Ok(Some(file));
        }
        let path = dir.join(&self.name);
        match DiskFile::open_read(&path) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some).map_err(failed(&path)),
        }
    }
}

/// Opens `data.txt` before it lists the sealed files: if it is sealed meanwhile, it is not missed but met twice, and
/// known by its inode.
fn parts(dir: &Path) -> Result<Vec<Part>, Error> {
    let path = dir.join(CURRENT);
    let current = match DiskFile::open_read(&path) {
        Ok(file) => {
            let metadata = file.file().metadata().map_err(failed(&path))?;
            let part = Part { name: CURRENT.to_owned(), len: metadata.len(), file: Some(file) };
            Some((part, (metadata.dev(), metadata.ino())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(&path)(error)),
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed(dir))? {
        if let Ok(name) = entry.map_err(failed(dir))?.file_name().into_string()
            && let Some(id) = sealed_id(&name)
        {
            names.push((id, name));
        }
    }
    names.sort_unstable();
    let mut parts = Vec::with_capacity(names.len() + 1);
    for (_, name) in names {
        let path = dir.join(&name);
        let metadata = match std::fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(&path)(error)),
        };
        let inode = (metadata.dev(), metadata.ino());
        if current.as_ref().is_none_or(|(_, of_current)| inode != *of_current) {
            parts.push(Part { name, len: metadata.len(), file: None });
        }
    }
    parts.extend(current.map(|(part, _)| part));
    if parts.is_empty() { Err(Error::NoData { path: dir.to_owned() }) } else { Ok(parts) }
}

/// A record as far as the next one is compared with it.
struct Before {
    id: RecordId,
    client: ClientId,
    seq: u64,
    text: String,
}

impl Before {
    const NONE: Self = Self { id: RecordId::ZERO, client: ClientId(0), seq: 0, text: String::new() };

    fn set(&mut self, line: &Line<'_>) {
        (self.id, self.client, self.seq) = (line.id, line.client, line.seq);
        self.text.clear();
        self.text.push_str(line.text);
    }
}

/// The sidecar of a file, to be compared with its records as they come.
struct Sidecar {
    blocks: Vec<Block>,
    at: usize,
}

impl Sidecar {
    fn of(dir: &Path, part: &Part) -> Option<Self> {
        sealed_id(&part.name)?;
        let index = sidecar::read(&Disk::open(dir).ok()?, &part.name, part.len)?;
        Some(Self { blocks: index.blocks, at: 0 })
    }

    /// Whether a reader that asks for this record looks here.
    fn covers(&mut self, place: Place, id: RecordId) -> bool {
        while self.blocks.get(self.at).is_some_and(|block| block.offset + block.bytes <= place.offset) {
            self.at += 1;
        }
        self.blocks.get(self.at).is_some_and(|block| {
            block.offset <= place.offset
                && place.offset + place.len <= block.offset + block.bytes
                && (block.least..=block.greatest).contains(&id)
        })
    }
}

fn verify_part(
    dir: &Path,
    part: &Part,
    file: &DiskFile,
    report: &mut Report,
    progress: &mut dyn FnMut(u64),
    ids: &mut Option<(RecordId, RecordId)>,
    each: &mut Each<'_>,
) -> Result<Scan, Error> {
    let (stopped, mut stop) = (Cell::new(false), None);
    let mut before = Before::NONE;
    let mut sidecar = Sidecar::of(dir, part);
    let (mut listed, mut left_out, mut first) = (0, 0, true);
    let visit = |place: Place, line: &Line<'_>| {
        let (least, greatest) = ids.unwrap_or((line.id, line.id));
        *ids = Some((least.min(line.id), greatest.max(line.id)));
        let is_first = std::mem::take(&mut first);
        if is_first && place.line == 1 {
            check_name(part, place, line, report);
        }
        if sidecar.as_mut().is_some_and(|sidecar| !sidecar.covers(place, line.id)) {
            let reason = "the file's .index leaves this record out; remove it, and the node makes it again";
            report.add_bounded(Kind::Index, &part.name, place, reason.to_owned(), &mut left_out);
        }
        if !is_first {
            compare(part, place, &before, line, report, &mut listed);
        }
        before.set(line);
        if !stopped.get()
            && let Err(error) = each(line)
        {
            stopped.set(true);
            stop = Some(error);
        }
    };
    let mut reported = 0;
    let found = std::thread::scope(|scope| {
        let mut ahead = Ahead::start(scope, file);
        let read = |buffer: &mut [u8], at: u64| {
            if at >= reported + SCAN_CHUNK_BYTES as u64 {
                reported = at;
                progress(at);
            }
            // Nothing more is read once nobody wants it; the error is told below.
            if stopped.get() { Ok(0) } else { ahead.read_at(buffer, at) }
        };
        recover::scan(part.len, read, visit)
    });
    let found = found.map_err(failed(&dir.join(&part.name)))?;
    stop.map_or(Ok(found), |error| Err(error.into()))
}

fn check_name(part: &Part, place: Place, line: &Line<'_>, report: &mut Report) {
    if sealed_id(&part.name).is_some_and(|(id, _)| id != line.id) {
        let reason = format!("the file is not named after its first record, {}", line.id);
        report.add(Kind::Name, &part.name, place, reason);
    }
}

fn compare(part: &Part, place: Place, before: &Before, now: &Line<'_>, report: &mut Report, listed: &mut usize) {
    if now.id < before.id {
        report.out_of_order += 1;
    } else if now.id == before.id {
        if (now.client, now.seq, now.text) == (before.client, before.seq, before.text.as_str()) {
            report.repeated += 1;
        } else {
            let reason = format!("it has the id of the line before, {}, but not its contents", now.id);
            report.add_bounded(Kind::Forked, &part.name, place, reason, listed);
        }
    }
}

/// A rotten line that `quarantine.txt` says was mended: the file, where, what is wrong with it, and its records.
type Marked<'a> = (String, Place, String, &'a [RecordId]);

/// Places are mended if what they say was fetched again is here, whole.
fn judge_mended(marked: Vec<Marked<'_>>, missing: &BTreeSet<RecordId>, report: &mut Report) {
    for (name, place, reason, ids) in marked {
        match ids.iter().find(|id| missing.contains(id)) {
            None => {
                report.rotten -= 1;
                report.mended += 1;
            }
            Some(id) => {
                let reason = format!("{reason}; {QUARANTINE} says it was fetched again as {id}, which is not here");
                report.add(Kind::Rot, &name, place, reason);
            }
        }
    }
}

/// The name that a file has for good, as far as it can be told: `data.txt` is called after its first record.
fn lasting_name(part: &Part, found: &Scan) -> String {
    match found.first_id {
        Some(first) if part.name == CURRENT => sealed_name(first, 1),
        _ => part.name.clone(),
    }
}

/// Takes what the scan of a file found into the report. Lines that are marked as mended are put aside.
fn judge<'a>(
    dir: &Path,
    part: &Part,
    found: Scan,
    report: &mut Report,
    (marks, marked): (&'a List, &mut Vec<Marked<'a>>),
) -> Result<(), Error> {
    report.records += found.records;
    report.rotten += found.rot_lines;
    let name = lasting_name(part, &found);
    for bad in &found.rot {
        let at = (name.clone(), bad.place.offset);
        let ids = marks.records(&at);
        if marks.is_foreign(&at) {
            report.rotten -= 1;
            report.foreign += 1;
        } else if ids.is_empty() {
            report.add(Kind::Rot, &part.name, bad.place, bad.reason.to_string());
        } else {
            marked.push((part.name.clone(), bad.place, bad.reason.to_string(), ids));
        }
    }
    report.problem_count += found.rot_lines - found.rot.len() as u64;
    let Some(tail) = found.torn else { return Ok(()) };
    let is_current = part.name == CURRENT;
    if is_current && tail.unfinished {
        // A node may have started since the first look.
        if report.running.is_none() {
            report.running = holder(dir)?;
        }
        if report.running.is_some() {
            report.growing_bytes = tail.len;
            return Ok(());
        }
    }
    let place = Place { offset: tail.offset, len: tail.len, line: tail.line };
    let at = (name, tail.offset);
    let ids = marks.records(&at);
    if !is_current && marks.is_foreign(&at) {
        report.foreign += 1;
        return Ok(());
    }
    if !is_current && !ids.is_empty() {
        report.rotten += 1;
        marked.push((part.name.clone(), place, tail.reason.to_string(), ids));
        return Ok(());
    }
    let kind = if is_current && report.running.is_none() { Kind::Torn } else { Kind::Rot };
    report.rotten += u64::from(kind == Kind::Rot);
    report.add(kind, &part.name, place, tail.reason.to_string());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::folder::Folder;
    use crate::data::index::Summary;
    use crate::data::log::{Log, Settings, SyncPolicy};
    use crate::data::record::encode;
    use std::fs;

    fn id(n: u64) -> RecordId {
        RecordId { time_ns: 1_795_234_260_000_000_000 + n, incarnation: 7 }
    }

    fn line(n: u64, payload: &str) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, id(n), ClientId(1), n, None, payload.as_bytes()).unwrap();
        out
    }

    fn verify(dir: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Report, Error> {
        verify_each(dir, progress, &mut |_| Ok(()))
    }

    /// A folder with two sealed files and a `data.txt`, of 10 records each but the last, of 5.
    fn folder(dir: &Path) -> Folder {
        let folder = Folder::open(dir, "uno", 1).unwrap();
        let settings = Settings { segment_bytes: 100, sync: SyncPolicy::Always };
        let mut log = Log::open(folder.disk().clone(), settings).unwrap().0;
        for (first, count) in [(0, 10), (10, 10), (20, 5)] {
            let lines: Vec<u8> = (first..first + count).flat_map(|n| line(n, "mensaje: hola")).collect();
            log.append(&lines, &Summary::of(&lines)).unwrap();
        }
        log.sync().unwrap();
        folder
    }

    fn check(dir: &Path) -> Report {
        verify(dir, &mut |_, _| {}).unwrap()
    }

    #[test]
    fn a_whole_folder_is_clean_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        drop(folder(dir.path()));
        let mut told = Vec::new();
        let report = verify(dir.path(), &mut |done, total| told.push((done, total))).unwrap();
        assert!(report.is_clean(), "{report:?}");
        assert_eq!((report.files, report.records, report.running.as_deref()), (3, 25, None));
        assert_eq!(told.last(), Some(&(report.bytes, report.bytes)));
        assert_eq!(report.last_id, Some(id(24).to_string()));
        assert!(serde_json::to_string(&report).unwrap().contains("\"records\":25"));
    }

    #[test]
    fn a_flipped_bit_is_found_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        drop(folder(dir.path()));
        let name = format!("data-{}.txt", id(10));
        let mut bytes = fs::read(dir.path().join(&name)).unwrap();
        let len = line(10, "mensaje: hola").len();
        bytes[len * 10 - 3] ^= 1;
        fs::write(dir.path().join(&name), &bytes).unwrap();
        let report = check(dir.path());
        let problem = &report.problems[0];
        assert_eq!((problem.kind, &problem.file, problem.line), (Kind::Rot, &name, 10));
        assert_eq!((problem.offset, report.problem_count, report.records), (9 * len as u64, 1, 24));
    }

    #[test]
    fn rot_that_was_fetched_again_is_no_fault_if_it_is_here() {
        let dir = tempfile::tempdir().unwrap();
        drop(folder(dir.path()));
        for (file, first, again) in [(format!("data-{}.txt", id(10)), 10, 24), (CURRENT.to_owned(), 20, 23)] {
            let mut bytes = fs::read(dir.path().join(&file)).unwrap();
            bytes[45] ^= 1;
            fs::write(dir.path().join(&file), &bytes).unwrap();
            assert_eq!((check(dir.path()).problem_count, check(dir.path()).mended), (1, 0));
            let sealed = format!("data-{}.txt", id(first + u64::from(file == CURRENT)));
            let mark = |id: RecordId| format!("{sealed} 0 59 the fourth field is not a checksum mended {id}\n");
            fs::write(dir.path().join(QUARANTINE), mark(id(99))).unwrap();
            let report = check(dir.path());
            assert_eq!((report.problem_count, report.rotten, report.mended), (1, 1, 0));
            assert!(report.problems[0].reason.contains(&format!("fetched again as {}, which is not", id(99))));
            fs::write(dir.path().join(QUARANTINE), mark(id(again))).unwrap();
            let report = check(dir.path());
            assert_eq!((report.problem_count, report.rotten, report.mended), (0, 0, 1), "{report:?}");
            bytes[45] ^= 1;
            fs::write(dir.path().join(&file), &bytes).unwrap();
        }
    }

    #[test]
    fn a_tail_is_torn_unless_a_node_is_writing_it() {
        let dir = tempfile::tempdir().unwrap();
        let node = folder(dir.path());
        let path = dir.path().join(CURRENT);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole[..], &whole[..20]].concat()).unwrap();
        let report = check(dir.path());
        assert!(report.is_clean() && report.growing_bytes == 20, "{report:?}");
        assert!(report.running.unwrap().ends_with("name uno"));
        drop(node);
        let report = check(dir.path());
        assert_eq!((report.problems[0].kind, report.problems[0].line, report.problem_count), (Kind::Torn, 6, 1));
    }

    #[test]
    fn a_sidecar_that_leaves_records_out_is_told_and_a_garbled_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path());
        let name = format!("data-{}.txt", id(0));
        let path = dir.path().join(sidecar::sidecar_name(&name));
        let len = fs::metadata(dir.path().join(&name)).unwrap().len();
        let mut index = sidecar::read(folder.disk(), &name, len).unwrap();
        drop(folder);
        index.blocks[0].greatest = id(7);
        fs::write(&path, index.to_text()).unwrap();
        let report = check(dir.path());
        let problems: Vec<_> = report.problems.iter().map(|problem| (problem.kind, problem.line)).collect();
        assert_eq!(problems, [(Kind::Index, 9), (Kind::Index, 10)]);
        for text in ["acopio-index 1", &index.to_text()[1..]] {
            fs::write(&path, text).unwrap();
            assert!(check(dir.path()).is_clean());
        }
        fs::remove_file(&path).unwrap();
        assert!(check(dir.path()).is_clean());
    }

    #[test]
    fn what_is_out_of_place_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = [line(5, "a"), line(4, "b"), line(4, "b"), line(4, "c")].concat();
        fs::write(dir.path().join(format!("data-{}.txt", id(1))), bytes).unwrap();
        let report = check(dir.path());
        let kinds: Vec<_> = report.problems.iter().map(|problem| (problem.kind, problem.line)).collect();
        assert_eq!(kinds, [(Kind::Name, 1), (Kind::Forked, 4)]);
        assert_eq!((report.out_of_order, report.repeated, report.records), (1, 1, 4));
    }

    #[test]
    fn a_folder_without_records_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(verify(dir.path(), &mut |_, _| {}), Err(Error::NoData { .. })));
        let error = verify(&dir.path().join("none"), &mut |_, _| {}).unwrap_err().to_string();
        assert!(error.ends_with("name the data folder of a node"), "{error}");
    }
}
