//! What the folder says that it held, beside what it holds: `segments.txt`, `end.txt` and the ends of files that
//! `quarantine.txt` remembers. A file that is gone or was cut looks whole otherwise.
//!
//! While a node runs it moves files and lists meanwhile: what seems lost has to be so at a second look.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::report::{Kind, Report};
use super::{Error, failed};
use crate::data::mend::list::{Had, List};
use crate::data::recover::{Place, Scan};
use crate::data::segments::{CURRENT, INDEX, Segment, parse_index};
use crate::data::storage::{Disk, Storage as _};
use crate::data::witness::{self, END, Kept};
use crate::limits::SEGMENTS_BYTES_MAX;

/// What a folder was left with, and what of that was met.
pub(super) struct Left {
    dir: PathBuf,
    disk: Disk,
    listed: Vec<Segment>,
    end: Kept,
    met: BTreeMap<String, (u64, Scan)>,
}

fn listed(disk: &Disk, dir: &Path) -> Result<Vec<Segment>, Error> {
    match disk.read_small(INDEX, SEGMENTS_BYTES_MAX) {
        Ok(text) => Ok(parse_index(&text).0),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::FileTooLarge) => Ok(Vec::new()),
        Err(error) => Err(failed(&dir.join(INDEX))(error)),
    }
}

fn end(disk: &Disk, dir: &Path) -> Result<Kept, Error> {
    witness::read(disk).map_err(failed(&dir.join(END)))
}

impl Left {
    /// What the folder says.
    pub(super) fn read(dir: &Path) -> Result<Self, Error> {
        let disk = Disk::open(dir).map_err(failed(dir))?;
        let (listed, end) = (listed(&disk, dir)?, end(&disk, dir)?);
        Ok(Self { dir: dir.to_owned(), disk, listed, end, met: BTreeMap::new() })
    }

    /// A file was read.
    pub(super) fn met(&mut self, name: &str, len: u64, found: &Scan) {
        self.met
            .insert(name.to_owned(), (len, Scan { rot: found.rot.iter().take(1).copied().collect(), ..found.clone() }));
    }

    /// Adds what is lost.
    pub(super) fn judge(&self, marks: &List, report: &mut Report) -> Result<(), Error> {
        for segment in &self.listed {
            let had = Had { records: segment.records, greatest: segment.greatest };
            match self.met.get(&segment.file) {
                None if self.is_gone(segment)? => {
                    let reason = format!("it is gone, and {INDEX} lists it with {} records", segment.records);
                    report.add(Kind::Lost, &segment.file, place(0, segment.bytes), reason);
                }
                Some((len, found)) if *len < segment.bytes && lacks(found, had) => {
                    lost(report, &segment.file, place(*len, segment.bytes - len), found, had);
                }
                _ => {}
            }
        }
        for (at, had) in marks.cuts() {
            if let Some((len, found)) = self.met.get(&at.0).filter(|(_, found)| lacks(found, had)) {
                lost(report, &at.0, place(*len, 0), found, had);
            }
        }
        let Kept::End(_, last) = &self.end else { return Ok(()) };
        let current = self.met.get(CURRENT).map(|(len, found)| (*len, found));
        let same = |name: &&String| crate::data::segments::sealed_id(name).map(|(id, _)| id) == last.first();
        let sealed = self.met.iter().filter(|(name, _)| same(name));
        let whole = sealed.clone().any(|(_, (_, found))| witness::has_all(last, found));
        let sealed = sealed.map(|(name, (len, _))| (name.as_str(), *len)).max_by_key(|(_, len)| *len);
        if let Some(loss) = witness::judge(last, sealed, current).filter(|_| !whole)
            && self.end == end(&self.disk, &self.dir)?
        {
            let (file, len) = sealed.unwrap_or((CURRENT, current.map_or(0, |(len, _)| len)));
            report.add(Kind::Lost, file, place(len, loss.bytes), loss.to_string());
        }
        Ok(())
    }

    /// Whether a file is not there and has to be.
    fn is_gone(&self, segment: &Segment) -> Result<bool, Error> {
        let is_there = self.disk.look(&segment.file).map_err(failed(&self.dir.join(&segment.file)))?.is_some();
        Ok(!is_there && listed(&self.disk, &self.dir)?.iter().any(|other| other.file == segment.file))
    }
}

fn lacks(found: &Scan, had: Had) -> bool {
    found.records < had.records || found.max_id < Some(had.greatest)
}

fn lost(report: &mut Report, file: &str, place: Place, found: &Scan, had: Had) {
    let (records, Had { records: all, greatest }) = (found.records, had);
    let reason = format!("records of it are lost: it has {records}, and had {all}, up to {greatest}");
    report.add(Kind::Lost, file, place, reason);
}

const fn place(offset: u64, len: u64) -> Place {
    Place { offset, len, line: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::verify::verify_each;
    use crate::data::folder::Folder;
    use crate::data::index::Summary;
    use crate::data::log::{Log, Settings, SyncPolicy};
    use crate::data::record::encode;
    use crate::wire::id::{ClientId, RecordId};
    use std::fs;

    fn id(n: u64) -> RecordId {
        RecordId { time_ns: 1_795_234_260_000_000_000 + n, incarnation: 7 }
    }

    /// A sealed file of 10 records, and a `data.txt` of 5, all of it witnessed.
    fn folder(dir: &Path) -> Vec<u8> {
        let folder = Folder::open(dir, "uno", 1).unwrap();
        let settings = Settings { segment_bytes: 100, sync: SyncPolicy::Always };
        let mut log = Log::open(folder.disk().clone(), settings).unwrap().0;
        let mut all = Vec::new();
        for (first, count) in [(0, 10), (10, 5)] {
            let mut lines = Vec::new();
            for n in first..first + count {
                encode(&mut lines, id(n), ClientId(1), n, None, b"hola").unwrap();
            }
            log.append(&lines, &Summary::of(&lines)).unwrap();
            all = lines;
        }
        log.sync().unwrap();
        log.witness().write(folder.disk(), ClientId(folder.node_id())).unwrap();
        all
    }

    fn lost(dir: &Path) -> Vec<String> {
        let report = verify_each(dir, &mut |_, _| {}, &mut |_| Ok(())).unwrap();
        let lost = report.problems.into_iter().filter(|problem| problem.kind == Kind::Lost);
        lost.map(|problem| format!("{}: {}", problem.file, problem.reason)).collect()
    }

    #[test]
    fn what_is_gone_or_cut_is_a_fault() {
        let dir = tempfile::tempdir().unwrap();
        let current = folder(dir.path());
        let at = |name: &str| dir.path().join(name);
        let sealed = format!("data-{}.txt", id(0));
        assert_eq!(lost(dir.path()), [""; 0]);
        let line = current.len() / 5;
        fs::write(at(CURRENT), &current[..line * 3]).unwrap();
        assert!(lost(dir.path())[0].starts_with("data.txt: data.txt was cut short: "), "{:?}", lost(dir.path()));
        // A line of somebody else makes up for no record.
        fs::write(at(CURRENT), [&current[..line * 3], &[b'x'; 500], b"\n"].concat()).unwrap();
        assert_eq!(lost(dir.path()).len(), 1);
        fs::remove_file(at(CURRENT)).unwrap();
        assert!(lost(dir.path())[0].contains("data.txt is gone: "));
        fs::write(at(CURRENT), [b"# a remark\n", &current[..]].concat()).unwrap();
        assert_eq!(lost(dir.path()), [""; 0]);
        let whole = fs::read(at(&sealed)).unwrap();
        fs::write(at(&sealed), &whole[..whole.len() - line]).unwrap();
        assert_eq!(
            lost(dir.path()),
            [format!("{sealed}: records of it are lost: it has 9, and had 10, up to {}", id(9))]
        );
        fs::rename(at(&sealed), at("moved")).unwrap();
        assert_eq!(lost(dir.path()), [format!("{sealed}: it is gone, and segments.txt lists it with 10 records")]);
    }
}
