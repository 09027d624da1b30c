//! The folder of a data node: its lock, which keeps a second node out. Whose folder it is and what is in it is the business
//! of `start`.

use super::storage::Disk;
use crate::files;
use crate::lock::{self, Lock, Role};
use std::io;
use std::path::{Path, PathBuf};

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    /// It cannot be made, read or written.
    #[error("cannot use the data folder {}: {what}: {source}; {}", path.display(), remedy(source))]
    Disk {
        /// The folder.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Another node runs on it.
    #[error(
        "the data folder {} is in use by another node ({holder}); stop that one, or give this one a folder of its own",
        path.display()
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// What the other node wrote into the lock: `pid <number> name <node>`.
        holder: String,
    },
    /// Its records were moved away, and its node left the cluster.
    #[error(
        "the data folder {} was drained: other nodes have its records, and nobody counts on it any more; start with an \
         empty folder, or start once with --new-id to join as a new node that has these records already",
        path.display()
    )]
    Drained {
        /// The folder.
        path: PathBuf,
    },
    /// Another version wrote it.
    #[error(
        "the data folder {} is of another version of acopio ({found:?}); use the version that wrote it",
        path.display()
    )]
    Version {
        /// The folder.
        path: PathBuf,
        /// The beginning of what its state says.
        found: String,
    },
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "give it to the user that runs the node, or name another folder",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => "name a folder, not a file",
        io::ErrorKind::ReadOnlyFilesystem => "mount the disk writable, or name another folder",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space, or inodes (df -i), or name another folder"
        }
        _ => "look at the disk, or name another folder",
    }
}

/// A folder that belongs to this process until it is dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    disk: Disk,
    _lock: Lock,
}

impl Folder {
    /// Opens or makes the folder at `path` for the node called `name`.
    ///
    /// # Errors
    /// It can't be used, or another node runs on it.
    pub(crate) fn open(path: &Path, name: &str) -> Result<Self, FolderError> {
        let failed = |what| move |source| FolderError::Disk { path: path.to_owned(), what, source };
        files::create_folder(path).map_err(failed("making it"))?;
        let lock = lock(path, name)?;
        let disk = Disk::open(path).map_err(failed("opening it"))?;
        Ok(Self { disk, _lock: lock })
    }

    /// The disk below it.
    #[must_use]
    pub(crate) const fn disk(&self) -> &Disk {
        &self.disk
    }
}

fn lock(path: &Path, name: &str) -> Result<Lock, FolderError> {
    Lock::take(path, Role::Data, name).map_err(|error| match error {
        lock::Error::InUse { path, holder } => FolderError::InUse { path, holder },
        lock::Error::Disk { path, source, .. } => FolderError::Disk { path, what: "locking its file lock", source },
    })
}

/// The node that runs on a folder, as it wrote itself into the lock; `None` if none does. Leaves no lock behind.
pub(crate) fn running(path: &Path) -> io::Result<Option<String>> {
    lock::held(path, Role::Data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_node_stays_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let first = Folder::open(&path, "uno").unwrap();
        let error = Folder::open(&path, "dos").unwrap_err().to_string();
        assert!(error.contains(&format!("pid {} name uno", std::process::id())), "{error}");
        assert!(running(&path).unwrap().unwrap().ends_with("name uno"));
        drop(first);
        assert_eq!(running(&path).unwrap(), None);
        drop(Folder::open(&path, "dos").unwrap());
    }
}
