//! `verify` over several data folders: each on its own, and then how many copies of each record there are.
//!
//! It knows no registro, so it cannot tell a record that is missing everywhere: [`audit`](super::audit) does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::copies::{self, Copied, Group, Groups};
use super::sort::{Bounds, Sorter};
use super::sources::{self, distinct};
use super::verify;
use crate::data::record::Line;
use crate::limits::{AUDIT_FOLDERS_MAX, FINDINGS_SHOWN_MAX};

pub(crate) use super::copies::Checked;

/// What several folders hold together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Copies {
    /// Different ids.
    pub(crate) ids: u64,
    /// How many ids lie in one folder, in two, and so on.
    pub(crate) by_copies: BTreeMap<usize, u64>,
    /// Lines that repeat another of the same folder, id and contents; usual after a copy was sent again.
    pub(crate) repeated: u64,
    /// Ids in fewer folders than their own lines name nodes.
    pub(crate) short: u64,
    /// The first of those.
    pub(crate) short_first: Vec<Short>,
    /// Ids whose copies have not the same contents.
    pub(crate) differing: u64,
    /// The first of those.
    pub(crate) differing_first: Vec<Differing>,
}

/// An id with too few copies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Short {
    /// The id.
    pub(crate) id: String,
    /// Nodes that its lines name.
    pub(crate) named: u16,
    /// The folders that hold it.
    pub(crate) dirs: Vec<PathBuf>,
}

/// An id whose copies differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Differing {
    /// The id.
    pub(crate) id: String,
    /// The folders that hold it.
    pub(crate) dirs: Vec<PathBuf>,
}

impl Differing {
    /// From what was found; `dirs` are all folders.
    #[must_use]
    pub(super) fn new(group: &Group, dirs: &[PathBuf]) -> Self {
        Self { id: group.id.to_string(), dirs: named(&group.folders, dirs) }
    }
}

/// The folders with these numbers.
pub(super) fn named(numbers: &[u16], dirs: &[PathBuf]) -> Vec<PathBuf> {
    numbers.iter().filter_map(|number| dirs.get(usize::from(*number)).cloned()).collect()
}

/// Folders, and what they hold together if there are several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// Each folder.
    pub(crate) folders: Vec<Checked>,
    /// All of them together, if there is more than one.
    pub(crate) copies: Option<Copies>,
}

impl Report {
    /// Whether there is no fault in any folder, and no copies differ. Too few copies are no fault: some folders may not
    /// have been named, or a copy is being made.
    #[must_use]
    pub(crate) fn is_clean(&self) -> bool {
        self.folders.iter().all(|one| one.report.is_clean())
            && self.copies.as_ref().is_none_or(|all| all.differing == 0)
    }
}

/// Why folders could not be verified.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// One of them cannot be read, or the copies cannot be sorted.
    #[error(transparent)]
    Verify(#[from] verify::Error),
    /// There are too many.
    #[error(transparent)]
    Sources(#[from] sources::Error),
}

/// Verifies every folder, and compares them if there are several. Temporary files lie in `temp`; memory does not grow
/// with the number of records. `progress` is told the folder, bytes done in it and its bytes in all.
///
/// # Errors
/// A folder cannot be read or holds no records, there are too many, or `temp` cannot be used.
pub(crate) fn verify(
    dirs: Vec<PathBuf>,
    temp: &Path,
    progress: &mut dyn FnMut(&Path, u64, u64),
) -> Result<Report, Error> {
    let dirs = distinct(dirs);
    if dirs.len() > AUDIT_FOLDERS_MAX {
        return Err(sources::Error::TooMany { found: dirs.len(), what: "data folders", most: AUDIT_FOLDERS_MAX }.into());
    }
    let several = dirs.len() > 1;
    let mut copied = Sorter::new(temp, Bounds::default());
    let mut each = |folder: u16, line: &Line<'_>| match several {
        true => copied.push(Copied::new(line, folder)),
        false => Ok(()),
    };
    let mut folders = Vec::with_capacity(dirs.len());
    for (number, dir) in (0_u16..).zip(&dirs) {
        folders.push(copies::read_folder(number, dir, progress, &mut each)?);
    }
    if !several {
        return Ok(Report { folders, copies: None });
    }
    let mut groups = Groups::new(copied.finish().map_err(verify::Error::Sort)?);
    let (mut all, mut group) = (Copies::default(), Group::default());
    while groups.next(&mut group, || {}).map_err(verify::Error::Sort)? {
        all.take(&group, &dirs);
    }
    Ok(Report { folders, copies: Some(all) })
}

impl Copies {
    fn take(&mut self, group: &Group, dirs: &[PathBuf]) {
        self.ids += 1;
        *self.by_copies.entry(group.folders.len()).or_default() += 1;
        self.repeated += group.repeated;
        if group.folders.len() < usize::from(group.named) {
            self.short += 1;
            if self.short_first.len() < FINDINGS_SHOWN_MAX {
                let dirs = named(&group.folders, dirs);
                self.short_first.push(Short { id: group.id.to_string(), named: group.named, dirs });
            }
        }
        if group.differing {
            self.differing += 1;
            if self.differing_first.len() < FINDINGS_SHOWN_MAX {
                self.differing_first.push(Differing::new(group, dirs));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::record::encode;
    use crate::wire::id::{ClientId, RecordId};

    fn line(n: u64, names: Option<&str>, payload: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let id = RecordId { time_ns: 1_795_234_260_000_000_000 + n, incarnation: 7 };
        encode(&mut out, id, ClientId(1), n, names, payload.as_bytes()).unwrap();
        out
    }

    #[test]
    fn copies_are_counted_and_compared_over_the_folders() {
        let temp = tempfile::tempdir().unwrap();
        let dirs = ["a", "b", "c"].map(|name| temp.path().join(name));
        let (same, both) = (line(2, Some("b,a"), "dos"), Some("a,b"));
        let lines = [
            [line(1, None, "uno"), line(2, both, "dos"), line(3, both, "tres"), line(4, both, "cuatro")].concat(),
            [same.clone(), same, line(4, both, "cinco")].concat(),
            line(5, Some("c"), "seis"),
        ];
        for (dir, lines) in dirs.iter().zip(lines) {
            std::fs::create_dir(dir).unwrap();
            std::fs::write(dir.join("data.txt"), lines).unwrap();
        }
        let run = |dirs: &[PathBuf]| verify(dirs.to_vec(), temp.path(), &mut |_, _, _| {}).unwrap();
        let report = run(&dirs);
        let all = report.copies.clone().unwrap();
        assert_eq!(all.by_copies.into_iter().collect::<Vec<_>>(), [(1, 3), (2, 2)]);
        assert_eq!((all.ids, all.repeated, all.short, all.differing), (5, 1, 1, 1));
        assert_eq!(all.short_first[0].dirs, dirs[..1]);
        assert_eq!((all.short_first[0].named, &all.differing_first[0].dirs[..]), (2, &dirs[..2]));
        assert!(!report.is_clean() && report.folders.iter().all(|one| one.report.is_clean()));
        let again = run(&[dirs[0].clone(), dirs[0].join("../a")]);
        assert_eq!((again.folders.len(), again.copies), (1, None), "a folder is no copy of itself");
    }
}
