//! How far each file of a node is synced, written down beside them for who cuts its power as an exercise: `acopio up` kills
//! the node and takes away what a disk need not have had.
//!
//! That is the worst case: what the system writes back by itself counts as not written. A removal, and a file that is made
//! shorter, count as done at once. Only what goes through [`Storage`](super::storage::Storage) is known here: logs and
//! keys stay as they are. A node notes nothing unless it is told to, and what it notes is no promise of its format.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::files;

/// The file in the node's folder.
const FILE: &str = "synced.txt";

/// Its first line.
const TITLE: &str = "acopio-synced 1";

/// What would be left of the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Durable {
    /// How much of each file, by inode.
    bytes: BTreeMap<u64, u64>,
    /// Which file each name would lead to.
    names: BTreeMap<String, u64>,
}

impl Durable {
    fn text(&self) -> String {
        let files = self.bytes.iter().map(|(inode, bytes)| format!("file {inode} {bytes}\n"));
        let names = self.names.iter().map(|(name, inode)| format!("name {inode} {name}\n"));
        [format!("{TITLE}\n")].into_iter().chain(files).chain(names).collect()
    }

    fn of_text(text: &str) -> Option<Self> {
        let (mut durable, mut lines) = (Self::default(), text.lines());
        (lines.next()? == TITLE).then_some(())?;
        for line in lines {
            let mut words = line.splitn(3, ' ');
            let (kind, inode, rest) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
            match kind {
                "file" => drop(durable.bytes.insert(inode, rest.parse().ok()?)),
                "name" => drop(durable.names.insert(rest.to_owned(), inode)),
                _ => return None,
            }
        }
        Some(durable)
    }
}

/// Takes notes for one folder.
#[derive(Debug)]
pub(crate) struct Synced {
    dir: PathBuf,
    durable: Mutex<Durable>,
}

impl Synced {
    /// Goes on with the notes of the node before: what that one had not synced is not synced by its end.
    pub(crate) fn open(dir: &Path) -> Self {
        let text = fs::read_to_string(dir.join(FILE)).unwrap_or_default();
        Self { dir: dir.to_owned(), durable: Mutex::new(Durable::of_text(&text).unwrap_or_default()) }
    }

    fn lock(&self) -> MutexGuard<'_, Durable> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file was made: nothing of it is durable.
    pub(crate) fn created(&self, inode: u64) {
        let mut durable = self.lock();
        durable.bytes.insert(inode, 0);
        self.write(&durable);
    }

    /// A file was opened: one that was there before these notes is durable as it is.
    pub(crate) fn opened(&self, name: &str, inode: u64, bytes: u64) {
        let mut durable = self.lock();
        if let Entry::Vacant(unknown) = durable.bytes.entry(inode) {
            unknown.insert(bytes);
            durable.names.insert(name.to_owned(), inode);
            self.write(&durable);
        }
    }

    /// So many bytes of a file are synced.
    pub(crate) fn synced(&self, inode: u64, bytes: u64) {
        let mut durable = self.lock();
        durable.bytes.insert(inode, bytes);
        self.write(&durable);
    }

    /// A file was cut to so many bytes.
    pub(crate) fn cut_to(&self, inode: u64, bytes: u64) {
        let mut durable = self.lock();
        if let Some(known) = durable.bytes.get_mut(&inode)
            && *known > bytes
        {
            *known = bytes;
            self.write(&durable);
        }
    }

    /// A file was removed.
    pub(crate) fn removed(&self, inode: u64) {
        let mut durable = self.lock();
        durable.bytes.remove(&inode);
        durable.names.retain(|_, named| *named != inode);
    }

    /// All names are durable as they are now.
    pub(crate) fn names_synced(&self) {
        let mut durable = self.lock();
        let found = names(&self.dir).unwrap_or_default();
        durable.names = found.into_iter().filter(|(_, inode)| durable.bytes.contains_key(inode)).collect();
        self.write(&durable);
    }

    /// Puts the notes in place, whole. A disk that takes none leaves none: then nobody cuts the power of this node.
    fn write(&self, durable: &Durable) {
        let (new, path) = (self.dir.join("synced.new"), self.dir.join(FILE));
        let written = files::create(&new)
            .and_then(|mut file| file.write_all(durable.text().as_bytes()))
            .and_then(|()| fs::rename(&new, &path));
        if let Err(error) = written {
            tracing::warn!("{}: {error}; how far it is synced is not known", path.display());
            drop(fs::remove_file(path));
        }
    }
}

/// Removes the notes of a node that noted, if there are any.
pub(crate) fn forget(dir: &Path) {
    match fs::remove_file(dir.join(FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => tracing::warn!("{FILE}: {error}; remove it by hand"),
        _ => {}
    }
}

/// The regular files of a folder.
fn names(dir: &Path) -> io::Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = fs::symlink_metadata(entry.path())?;
        if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
            found.insert(name, metadata.ino());
        }
    }
    Ok(found)
}

/// What a cut took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Bytes of each file.
    bytes: BTreeMap<String, u64>,
    /// Files that went whole, for their names were not synced.
    files: Vec<String>,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bytes.is_empty() && self.files.is_empty() {
            return f.write_str("all that it had written was synced, so nothing is gone");
        }
        let cut = self.bytes.iter().map(|(name, bytes)| format!("the last {bytes} bytes of {name}"));
        let gone = self.files.iter().map(|name| format!("{name} whole"));
        let all: Vec<String> = cut.chain(gone).collect();
        write!(f, "gone is what it had not synced: {}", all.join(", "))
    }
}

/// Leaves of a folder, whose node is dead, what was synced.
///
/// # Errors
/// Nobody noted how far that is, or the disk refuses.
pub(crate) fn drop_unsynced(dir: &Path) -> io::Result<Lost> {
    let unknown = || io::Error::other(format!("nothing tells how far {} was synced", dir.display()));
    let text = fs::read_to_string(dir.join(FILE)).map_err(|_| unknown())?;
    let durable = Durable::of_text(&text).ok_or_else(unknown)?;
    let mut lost = Lost::default();
    for (name, inode) in names(dir)? {
        let Some(&bytes) = durable.bytes.get(&inode) else { continue };
        let path = dir.join(&name);
        // A name that was not synced is gone; the file may have another one that was.
        let path = match durable.names.iter().find(|(_, named)| **named == inode) {
            Some((durable, _)) if *durable == name => path,
            Some((durable, _)) => {
                fs::rename(&path, dir.join(durable))?;
                dir.join(durable)
            }
            None => {
                fs::remove_file(&path)?;
                lost.files.push(name);
                continue;
            }
        };
        let file = OpenOptions::new().write(true).open(&path)?;
        let has = file.metadata()?.len();
        if has > bytes {
            file.set_len(bytes)?;
            lost.bytes.insert(name, has - bytes);
        }
    }
    Ok(lost)
}

#[cfg(test)]
mod tests {
    use super::super::storage::{Disk, LogFile as _, Storage as _};
    use super::*;

    #[test]
    fn a_cut_leaves_what_was_synced() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("old"), "before\n").unwrap();
        fs::write(at("node.log"), "a log\n").unwrap();
        let disk = Disk::open(dir.path()).unwrap().noting_syncs();
        let mut old = disk.open_append("old").unwrap();
        old.append(b"behind\n").unwrap();
        let mut data = disk.create("data.txt").unwrap();
        data.append(b"uno\n").unwrap();
        data.sync().unwrap();
        disk.sync_dir().unwrap();
        data.append(b"dos\n").unwrap();
        disk.write_small("small", b"1").unwrap();
        drop(disk.create("unnamed").unwrap());
        disk.rename("data.txt", "data-1.txt").unwrap();
        // The node that comes next syncs nothing of what this one left.
        drop(Disk::open(dir.path()).unwrap().noting_syncs().open_append("data-1.txt").unwrap());
        let lost = drop_unsynced(dir.path()).unwrap();
        let said =
            "gone is what it had not synced: the last 4 bytes of data-1.txt, the last 7 bytes of old, unnamed whole";
        assert_eq!(lost.to_string(), said);
        let has = |name: &str| fs::read_to_string(at(name)).unwrap();
        assert_eq!(
            (has("old"), has("data.txt"), has("small"), has("node.log")),
            ("before\n".into(), "uno\n".into(), "1".into(), "a log\n".into())
        );
        assert!(!at("unnamed").exists() && !at("data-1.txt").exists());
        assert!(drop_unsynced(dir.path()).unwrap().to_string().contains("nothing is gone"));
    }

    #[test]
    fn a_file_that_was_cut_and_one_that_took_the_place_of_another_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap().noting_syncs();
        let mut data = disk.create("data.txt").unwrap();
        data.append(b"uno\ndos\n").unwrap();
        data.sync().unwrap();
        disk.sync_dir().unwrap();
        data.truncate(4).unwrap();
        data.append(b"tres\n").unwrap();
        drop_unsynced(dir.path()).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("data.txt")).unwrap(), "uno\n");
        disk.remove("data.txt").unwrap();
        let mut other = disk.create("data.txt").unwrap();
        other.append(b"otro\n").unwrap();
        other.sync().unwrap();
        assert!(drop_unsynced(dir.path()).unwrap().to_string().contains("data.txt whole"), "its name was not synced");
    }

    #[test]
    fn nothing_is_taken_where_nobody_noted() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("data.txt"), "uno\n").unwrap();
        assert!(drop_unsynced(dir.path()).unwrap_err().to_string().starts_with("nothing tells how far"));
        fs::write(dir.path().join(FILE), "file 1 0\n").unwrap();
        assert!(drop_unsynced(dir.path()).is_err());
        forget(dir.path());
        forget(dir.path());
        assert!(!dir.path().join(FILE).exists() && dir.path().join("data.txt").exists());
    }
}
