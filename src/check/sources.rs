//! Finds the files that an audit reads: data folders and registros, each once, however they are named.

use std::collections::{BTreeSet, HashSet};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::data::segments::is_data;
use crate::files;
use crate::head::registro::GONE;
use crate::limits::{AUDIT_FOLDERS_MAX, AUDIT_REGISTROS_MAX};

/// Why there is nothing to read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The system refused something.
    #[error("cannot read {}: {source}; name what is there and give this user the right to read it", path.display())]
    Disk {
        /// What was read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is nothing of a data node.
    #[error("{} holds no data.txt and no sealed files, and neither do the folders in it; name the data folder of a node, or the folder around several", path.display())]
    NoData {
        /// The folder.
        path: PathBuf,
    },
    /// There is nothing of a head.
    #[error("{} holds no registro.log, and neither do the folders in it; name the folder of a head's logs, or the folder around several", path.display())]
    NoRegistro {
        /// The folder.
        path: PathBuf,
    },
    /// More than a cluster has.
    #[error("{found} {what} are too many; name {most} or fewer")]
    TooMany {
        /// How many.
        found: usize,
        /// Of what.
        what: &'static str,
        /// How many there may be.
        most: usize,
    },
}

/// The data folders that these paths stand for, each once: a folder with files of records is one; of any other, those
/// directly in it are meant.
///
/// # Errors
/// A path can't be read or stands for no data folder, or there are too many.
pub(crate) fn data_folders(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let holds_data =
        |dir: &Path| Ok(if names(dir)?.iter().any(|name| is_data(name)) { vec![dir.to_owned()] } else { vec![] });
    let mut found = Vec::new();
    for path in paths {
        let here = expand(path, holds_data)?;
        if here.is_empty() {
            return Err(Error::NoData { path: path.clone() });
        }
        found.extend(here);
    }
    once(found, "data folders", AUDIT_FOLDERS_MAX)
}

/// The registro files that these paths stand for, each once: a file is one; of a folder, all registros in it are
/// meant, or else those in the folders directly in it.
///
/// # Errors
/// A path can't be read or stands for no registro, or there are too many.
pub(crate) fn registros(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let in_folder = |dir: &Path| {
        let is_registro = |name: &&String| name.starts_with("registro.") && name.ends_with(".log");
        Ok(names(dir)?.iter().filter(is_registro).map(|name| dir.join(name)).collect())
    };
    let mut found = Vec::new();
    for path in paths {
        if !metadata(path)?.is_dir() {
            found.push(path.clone());
            continue;
        }
        let here = expand(path, in_folder)?;
        if here.is_empty() {
            return Err(Error::NoRegistro { path: path.clone() });
        }
        found.extend(here);
    }
    once(found, "registro files", AUDIT_REGISTROS_MAX)
}

/// The time of the last line that was let go of any of these registros. What is older cannot be judged.
///
/// # Errors
/// A file that says so can't be read.
pub(crate) fn lines_until(registros: &[PathBuf]) -> Result<Option<SystemTime>, Error> {
    let folders: BTreeSet<&Path> = registros.iter().filter_map(|file| file.parent()).collect();
    let mut until = None;
    for folder in folders {
        let (path, mut text) = (folder.join(GONE), String::new());
        match files::read(&path).and_then(|file| file.take(TIME_CHARS_MAX).read_to_string(&mut text)) {
            // A file that was cut off in a crash says nothing; its registros were let go before it was written, if at all.
            Ok(_) => until = until.max(humantime::parse_rfc3339(text.trim()).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::Disk { path, source }),
        }
    }
    Ok(until)
}

/// More than a time and its newline take.
const TIME_CHARS_MAX: u64 = 64;

/// What `find` finds in a folder; if that is nothing, what it finds in the folders in it.
fn expand(dir: &Path, find: impl Fn(&Path) -> Result<Vec<PathBuf>, Error>) -> Result<Vec<PathBuf>, Error> {
    let mut found = find(dir)?;
    if found.is_empty() {
        for name in names(dir)? {
            let inner = dir.join(name);
            // A link may lead nowhere; that is no folder.
            if inner.is_dir() {
                found.extend(find(&inner)?);
            }
        }
    }
    Ok(found)
}

/// The names in a folder, in order.
fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let failed = |source| Error::Disk { path: dir.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        // All our names are text.
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

fn metadata(path: &Path) -> Result<std::fs::Metadata, Error> {
    std::fs::metadata(path).map_err(|source| Error::Disk { path: path.to_owned(), source })
}

/// Leaves out what is there under another name already. What can't be looked at stays: whoever reads it will say so.
#[must_use]
pub(crate) fn distinct(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut seen = HashSet::new();
    let inode = |path: &PathBuf| std::fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    paths.retain(|path| inode(path).map_or(true, |inode| seen.insert(inode)));
    paths
}

fn once(paths: Vec<PathBuf>, what: &'static str, most: usize) -> Result<Vec<PathBuf>, Error> {
    let paths = distinct(paths);
    if paths.len() > most { Err(Error::TooMany { found: paths.len(), what, most }) } else { Ok(paths) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn folders_and_the_folder_around_them_are_the_same_and_count_once() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["data1", "data2", "head"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("data1/data.txt"), "").unwrap();
        fs::write(dir.path().join("data2/data-1795234260----0----6.txt"), "").unwrap();
        let day = dir.path().join("head/registro.2026-11-21.log");
        fs::write(&day, "").unwrap();
        let link = dir.path().join("head/registro.log");
        std::os::unix::fs::symlink("registro.2026-11-21.log", &link).unwrap();
        let both = [dir.path().join("data1"), dir.path().join("data2")];
        assert_eq!(data_folders(&[dir.path().to_owned()]).unwrap(), both);
        assert_eq!(data_folders(&[both[1].clone(), dir.path().to_owned()]).unwrap().len(), 2);
        for paths in [vec![day.clone(), link], vec![dir.path().join("head")], vec![dir.path().to_owned()]] {
            assert_eq!(registros(&paths).unwrap(), std::slice::from_ref(&day));
        }
    }

    #[test]
    fn the_latest_time_counts_and_what_is_no_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let files = ["h1", "h2", "h3"].map(|head| dir.path().join(head).join("registro.log"));
        for (file, time) in files.iter().zip(["2026-01-02T00:00:00Z\n", "2026-03-02T00:00:00Z\n", "20"]) {
            fs::create_dir(file.parent().unwrap()).unwrap();
            fs::write(file.with_file_name(GONE), time).unwrap();
        }
        let wanted = humantime::parse_rfc3339("2026-03-02T00:00:00Z").unwrap();
        assert_eq!(lines_until(&files).unwrap(), Some(wanted));
        let here = [dir.path().join("registro.log")];
        assert_eq!(lines_until(&here).unwrap(), None);
        rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join(GONE), rustix::fs::Mode::RUSR).unwrap();
        let error = lines_until(&here).unwrap_err().to_string();
        assert!(error.contains("is a FIFO and no file"), "{error}");
    }

    #[test]
    fn what_stands_for_nothing_is_named_with_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let here = [dir.path().to_owned()];
        assert!(matches!(data_folders(&here), Err(Error::NoData { .. })));
        assert!(matches!(registros(&here), Err(Error::NoRegistro { .. })));
        let missing = [dir.path().join("missing")];
        for error in [data_folders(&missing).unwrap_err(), registros(&missing).unwrap_err()] {
            assert!(error.to_string().contains("missing: No such file"), "{error}");
        }
    }
}
