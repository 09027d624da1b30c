//! Reads every record of a data folder and says what is torn, rotten or out of place. Changes nothing.
//!
//! It needs no node, and does not mind one: while a node runs on the folder, a last line without its newline is a write
//! in progress and no fault. What it promises is in `node`. Whether the records of several nodes agree, and are all there,
//! is not decided here, but in [`across`](super::across), which is shown every record.

mod node;
mod report;

pub(crate) use node::Node;
pub(crate) use report::{Kind, Problem, Report};

use self::node::{Met, Told};
use super::sort;
use crate::data::folder;
use crate::data::ledgers::Ledgers;
use crate::data::record::Line;
use crate::data::recover::{self, Place, Scan};
use crate::data::segments::{CURRENT, sealed_id};
use crate::data::sidecar::{self, FileIndex};
use crate::data::storage::{Disk, DiskFile, LogFile as _};
use crate::key::record::{RecordCheck, Verdict};
use crate::limits::SCAN_CHUNK_BYTES;
use crate::wire::id::{ClientId, RecordId};
use crate::wire::source::SourceName;
use std::cell::Cell;
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

/// Reads every record of every file in `dir`, and shows every good one to `each`. With a `check`, one that no head of the cluster
/// took is none. `progress` is told bytes done and bytes in
/// all, about once a megabyte.
///
/// # Errors
/// The folder or a file cannot be read, or the folder holds no file of records; and those of `each`. A fault in a record
/// is no error: it stands in the report.
pub(crate) fn verify_each(
    dir: &Path,
    check: Option<&RecordCheck>,
    progress: &mut dyn FnMut(u64, u64),
    each: &mut Each<'_>,
) -> Result<(Report, Node), Error> {
    let running = holder(dir)?;
    // Before the files: what it tells of was there then.
    let told = Told::read(dir)?;
    let parts = parts(dir)?;
    let total = parts.iter().map(|part| part.len).sum();
    let report = Report { running, ..Report::default() };
    let (has, forged) = (Ledgers::default(), Ledgers::default());
    let mut walk = Walk { dir, check, report, ids: None, has, forged, rot: Vec::new(), oldest: None };
    let mut met = Met::default();
    let mut done = 0;
    for mut part in parts {
        if let Some(file) = part.open(dir)? {
            let found = walk.part(&part, &file, &mut |bytes| progress(done + bytes, total), each)?;
            met.files.insert(part.name.clone(), part.len);
            if part.name == CURRENT {
                met.record_bytes = found.record_bytes;
                // A running node counts it soon. What is bad behind the last sync mark the next start takes for torn.
                let synced = found.rot.iter().map(|bad| bad.place.offset).filter(|at| *at < found.synced);
                let last = synced.max().filter(|_| walk.report.running.is_none());
                met.rot.extend(last.map(|at| (part.name.clone(), at)));
            }
            walk.judge(&part, found)?;
        }
        done += part.len;
        progress(done, total);
    }
    walk.finish(told, &met)
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
    source: Option<SourceName>,
    text: String,
}

impl Before {
    const NONE: Self = Self { id: RecordId::ZERO, client: ClientId(0), seq: 0, source: None, text: String::new() };

    fn set(&mut self, line: &Line<'_>) {
        (self.id, self.client, self.seq, self.source) = (line.id, line.client, line.seq, line.source);
        self.text.clear();
        self.text.push_str(line.text);
    }
}

/// The sidecar of a file, to be compared with its records as they come.
struct Sidecar {
    index: FileIndex,
    at: usize,
}

impl Sidecar {
    fn of(dir: &Path, part: &Part) -> Option<Self> {
        sealed_id(&part.name)?;
        let index = sidecar::read(&Disk::open(dir).ok()?, &part.name, part.len)?;
        Some(Self { index, at: 0 })
    }

    /// Whether a reader that asks for this record looks here.
    fn covers(&mut self, place: Place, line: &Line<'_>) -> bool {
        let blocks = &self.index.blocks;
        while blocks.get(self.at).is_some_and(|block| block.offset + block.bytes <= place.offset) {
            self.at += 1;
        }
        let by_id = blocks.get(self.at).is_some_and(|block| {
            block.offset <= place.offset
                && place.offset + place.len <= block.offset + block.bytes
                && (block.least..=block.greatest).contains(&line.id)
        });
        let ledgers = &self.index.ledgers;
        by_id && line.entry().is_none_or(|(ledger, entry)| ledgers.of(ledger).is_some_and(|has| has.contains(entry)))
    }
}

/// A rotten place: its file, where, and what is wrong.
type Rotten = (String, Place, String);

/// A folder that is being read.
struct Walk<'a> {
    dir: &'a Path,
    check: Option<&'a RecordCheck>,
    report: Report,
    /// The least and the greatest id.
    ids: Option<(RecordId, RecordId)>,
    has: Ledgers,
    /// Which entries have lines that no head of the cluster took.
    forged: Ledgers,
    rot: Vec<Rotten>,
    /// The least of the greatest ids of all files.
    oldest: Option<RecordId>,
}

impl Walk<'_> {
    fn part(
        &mut self,
        part: &Part,
        file: &DiskFile,
        progress: &mut dyn FnMut(u64),
        each: &mut Each<'_>,
    ) -> Result<Scan, Error> {
        let (stopped, mut stop) = (Cell::new(false), None);
        let mut before = None::<Before>;
        let mut sidecar = Sidecar::of(self.dir, part);
        let (mut listed, mut left_out, mut untrue) = (0, 0, 0);
        let Self { dir, check, report, ids, has, forged, .. } = self;
        let visit = |place: Place, line: &Line<'_>| {
            match check.map(|check| check.look(line)) {
                Some(Verdict::Refused(flaw)) => {
                    if let Some((ledger, entry)) = line.entry() {
                        forged.add(ledger, entry..entry + 1);
                    }
                    report.forged += 1;
                    let reason = format!("no head with this key took record {}: {flaw}", line.id);
                    return report.add_bounded(Kind::Forged, &part.name, place, reason, &mut untrue);
                }
                Some(Verdict::Unproved) => report.unproved += 1,
                Some(Verdict::Proved) | None => {}
            }
            let (least, greatest) = ids.unwrap_or((line.id, line.id));
            *ids = Some((least.min(line.id), greatest.max(line.id)));
            match line.entry() {
                Some((ledger, entry)) => has.add(ledger, entry..entry + 1),
                None => report.unplaced += 1,
            }
            if sidecar.as_mut().is_some_and(|sidecar| !sidecar.covers(place, line)) {
                let reason = "the file's .index leaves this record out; remove it, and the node makes it again";
                report.add_bounded(Kind::Index, &part.name, place, reason.to_owned(), &mut left_out);
            }
            match &before {
                Some(before) => compare(part, place, before, line, report, &mut listed),
                None if place.line == 1 => check_name(part, place, line, report),
                None => {}
            }
            before.get_or_insert(Before::NONE).set(line);
            if !stopped.get()
                && let Err(error) = each(line)
            {
                stopped.set(true);
                stop = Some(error);
            }
        };
        let mut reported = 0;
        let read = |buffer: &mut [u8], at: u64| {
            if at >= reported + SCAN_CHUNK_BYTES as u64 {
                reported = at;
                progress(at);
            }
            // Nothing more is read once nobody wants it; the error is told below.
            if stopped.get() { Ok(0) } else { file.read_at(buffer, at) }
        };
        let found = recover::scan(part.len, read, visit).map_err(failed(&dir.join(&part.name)))?;
        report.files += 1;
        report.bytes += part.len;
        stop.map_or(Ok(found), |error| Err(error.into()))
    }

    /// Takes what the scan of a file found.
    fn judge(&mut self, part: &Part, found: Scan) -> Result<(), Error> {
        let report = &mut self.report;
        report.records += found.records;
        report.rotten += found.rot_lines;
        self.oldest = self.oldest.into_iter().chain(found.max_id).min();
        let rotten = |place, reason: crate::wire::record::LineError| (part.name.clone(), place, reason.to_string());
        self.rot.extend(found.rot.iter().map(|bad| rotten(bad.place, bad.reason)));
        let Some(tail) = found.torn else { return Ok(()) };
        let is_current = part.name == CURRENT;
        if is_current && tail.unfinished {
            // A node may have started since the first look.
            if report.running.is_none() {
                report.running = holder(self.dir)?;
            }
            if report.running.is_some() {
                report.growing_bytes = tail.len;
                return Ok(());
            }
        }
        let place = Place { offset: tail.offset, len: tail.len, line: tail.line };
        if is_current && report.running.is_none() {
            report.add(Kind::Torn, &part.name, place, tail.reason.to_string());
        } else {
            report.rotten += 1;
            self.rot.push(rotten(place, tail.reason));
        }
        Ok(())
    }

    /// Compares it all with what the folder says. Rotten lines are a fault where something lacks, or where it can't be
    /// counted what lacks.
    fn finish(self, told: Told, met: &Met) -> Result<(Report, Node), Error> {
        let Self { mut report, ids, has, forged, rot, oldest, .. } = self;
        let faults = report.problem_count;
        let node = told.judge(met, has, &forged, &mut report)?;
        let is_counted = node.identity.is_some() && !report.old && report.unplaced == 0;
        if is_counted && report.problem_count == faults {
            report.mended = std::mem::take(&mut report.rotten);
        }
        // Of each file only so many are listed.
        report.problem_count += report.rotten.saturating_sub(rot.len() as u64);
        let listed = if report.mended > 0 { Vec::new() } else { rot };
        for (file, place, reason) in listed {
            report.add(Kind::Rot, &file, place, reason);
        }
        if let Some((least, greatest)) = ids {
            (report.first_id, report.last_id) = (Some(least.to_string()), Some(greatest.to_string()));
        }
        let oldest = node.oldest.into_iter().chain(oldest).min();
        Ok((report, Node { oldest, ..node }))
    }
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
        let same = (before.client, before.seq, before.source, before.text.as_str());
        if (now.client, now.seq, now.source, now.text) == same {
            report.repeated += 1;
        } else {
            let reason = format!("it has the id of the line before, {}, but not its contents", now.id);
            report.add_bounded(Kind::Forked, &part.name, place, reason, listed);
        }
    }
}

#[cfg(test)]
mod tests;
