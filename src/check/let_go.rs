//! What was let go on purpose: days of a registro that were kept long enough, and sealed files that retention removed.
//!
//! The time up to which lines are gone stands beside a registro, the removed files in a data folder's `retention.txt`.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::sources;
use crate::data::segments::{REMOVED, Segment, parse_index};
use crate::files;
use crate::head::registro::GONE;
use crate::limits::{AUDIT_REMOVED_MAX, RETENTION_BYTES_MAX};
use crate::wire::id::RecordId;

fn read(path: &Path) -> Result<Option<Vec<u8>>, sources::Error> {
    let mut bytes = Vec::new();
    let most = RETENTION_BYTES_MAX * 2;
    match files::read(path).and_then(|file| file.take(most).read_to_end(&mut bytes)) {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(sources::Error::Disk { path: path.to_owned(), source }),
    }
}

/// The time of the last line that was let go of any of these registros. What is older cannot be judged.
///
/// # Errors
/// A file that says so can't be read.
pub(crate) fn lines_until(registros: &[PathBuf]) -> Result<Option<SystemTime>, sources::Error> {
    let folders: BTreeSet<&Path> = registros.iter().filter_map(|file| file.parent()).collect();
    let mut until = None;
    for folder in folders {
        let Some(text) = read(&folder.join(GONE))? else { continue };
        let time = humantime::parse_rfc3339(String::from_utf8_lossy(&text).trim());
        // A file that was cut off in a crash says nothing; its registros were let go before it was written, if at all.
        until = until.max(time.ok());
    }
    Ok(until)
}

/// A file that retention removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Removed {
    folder: u16,
    least: RecordId,
    greatest: RecordId,
    /// Records of it that were not accounted for yet.
    left: u64,
}

/// The files that retention removed from all folders, asked in the order of ids.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// Those that begin later, the next one last.
    later: Vec<Removed>,
    /// Those around the id that was asked for last.
    open: Vec<Removed>,
}

impl Files {
    /// What was removed from these folders.
    ///
    /// # Errors
    /// A `retention.txt` can't be read, or they are too many.
    pub(crate) fn of(folders: &[PathBuf]) -> Result<Self, sources::Error> {
        let mut later = Vec::new();
        for (folder, dir) in (0_u16..).zip(folders) {
            let Some(text) = read(&dir.join(REMOVED))? else { continue };
            // A line twice: the node was killed before the file was gone, and removed it the next time.
            let mut seen = BTreeSet::new();
            let (segments, _whole) = parse_index(&text);
            let of = |Segment { records, least, greatest, .. }| Removed { folder, least, greatest, left: records };
            later.extend(segments.into_iter().filter(|one| seen.insert(one.file.clone())).map(of));
            if later.len() > AUDIT_REMOVED_MAX {
                let (found, what) = (later.len(), "files that retention removed");
                return Err(sources::Error::TooMany { found, what, most: AUDIT_REMOVED_MAX });
            }
        }
        later.sort_by_key(|file: &Removed| Reverse(file.least));
        Ok(Self { later, open: Vec::new() })
    }

    /// Whether retention explains that `copies` copies of this id are not there, besides those in the folders `held`. Asked
    /// with ids that rise. A removed file explains no more records than it had.
    pub(crate) fn explain(&mut self, id: RecordId, copies: usize, held: &[u16]) -> bool {
        while let Some(file) = self.later.pop_if(|file| file.least <= id) {
            self.open.push(file);
        }
        self.open.retain(|file| file.greatest >= id && file.left > 0);
        let mut from = BTreeSet::new();
        for file in &self.open {
            if from.len() < copies && !held.contains(&file.folder) {
                from.insert(file.folder);
            }
        }
        if from.len() < copies {
            return false;
        }
        for folder in from {
            if let Some(file) = self.open.iter_mut().find(|file| file.folder == folder) {
                file.left -= 1;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::segments::sealed_name;
    use std::fs;

    fn id(n: u64) -> RecordId {
        RecordId { time_ns: 1_795_234_260_000_000_000 + n, incarnation: 1 }
    }

    fn line(from: u64, to: u64, records: u64) -> String {
        let (least, greatest) = (id(from), id(to));
        Segment { file: sealed_name(least, 1), records, bytes: 100, least, greatest }.to_line()
    }

    #[test]
    fn a_removed_file_explains_as_many_records_as_it_had() {
        let dir = tempfile::tempdir().unwrap();
        let folders = ["a", "b"].map(|name| dir.path().join(name));
        folders.iter().for_each(|folder| fs::create_dir(folder).unwrap());
        let twice = line(10, 20, 2);
        fs::write(folders[0].join(REMOVED), format!("{twice}{twice}{}", line(30, 40, 9))).unwrap();
        fs::write(folders[1].join(REMOVED), line(15, 40, 9)).unwrap();
        let mut files = Files::of(&folders).unwrap();
        assert!(!files.explain(id(9), 1, &[]), "before all of them");
        assert!(files.explain(id(12), 1, &[]));
        assert!(!files.explain(id(12), 2, &[]), "only one of them had it");
        assert!(files.explain(id(16), 2, &[]), "both");
        assert!(files.explain(id(17), 1, &[]), "the second");
        assert!(!files.explain(id(17), 1, &[1]), "which has it; the first is accounted for");
        assert!(files.explain(id(35), 1, &[0]) && !files.explain(id(35), 2, &[0]));
        assert!(!files.explain(id(41), 1, &[]), "after all of them");
    }

    #[test]
    fn what_is_no_file_is_named_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        for name in [GONE, REMOVED] {
            let mode = rustix::fs::Mode::RUSR;
            rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join(name), mode).unwrap();
        }
        let lines = lines_until(&[dir.path().join("registro.log")]).unwrap_err().to_string();
        let files = Files::of(&[dir.path().to_owned()]).unwrap_err().to_string();
        assert!(lines.contains("is a FIFO and no file") && files.contains("is a FIFO and no file"), "{lines} {files}");
    }

    #[test]
    fn the_latest_time_counts() {
        let dir = tempfile::tempdir().unwrap();
        let files = ["h1", "h2", "h3"].map(|head| dir.path().join(head).join("registro.log"));
        for (file, time) in files.iter().zip(["2026-01-02T00:00:00Z\n", "2026-03-02T00:00:00Z\n", "20"]) {
            fs::create_dir(file.parent().unwrap()).unwrap();
            fs::write(file.with_file_name(GONE), time).unwrap();
        }
        let wanted = humantime::parse_rfc3339("2026-03-02T00:00:00Z").unwrap();
        assert_eq!(lines_until(&files).unwrap(), Some(wanted));
        assert_eq!(lines_until(&[dir.path().join("registro.log")]).unwrap(), None);
    }
}
