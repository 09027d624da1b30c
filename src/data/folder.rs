//! The folder of a data node: its lock, which keeps a second node out, and its identity, which lies with the data.
//!
//! A wiped folder comes back as a new node, and data without an identity is never adopted silently. What is in the
//! files of records is the log's business.

use super::segments;
use super::storage::{Disk, Storage};
use crate::limits::NODE_NAME_BYTES_MAX;
use crate::lock::{self, Lock};
use crate::wire::id::ClientId;
use std::io;
use std::path::{Path, PathBuf};

/// The file that holds the identity: `acopio-data 1 <10 characters>`.
pub const IDENTITY: &str = "node.id";

/// The file that is locked while a node runs: `pid <number> name <node>`.
pub const LOCK: &str = "lock";

/// First words of the identity; the number is the version of the folder.
const FORMAT: &str = "acopio-data 1 ";

/// Greatest lock or identity file that is read, bytes.
const SMALL_BYTES_MAX: usize = NODE_NAME_BYTES_MAX + 128;

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
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
    /// It holds records but no identity.
    #[error(
        "the data folder {} holds records but no {IDENTITY}; put the {IDENTITY} of these records back, or move the \
         records away and let a new node begin",
        path.display()
    )]
    NoIdentity {
        /// The folder.
        path: PathBuf,
    },
    /// Its identity is not one that this version reads.
    #[error(
        "{} says {found:?}, which this version does not know; use the version of acopio that wrote it, or restore the \
         file",
        path.join(IDENTITY).display()
    )]
    UnknownIdentity {
        /// The folder.
        path: PathBuf,
        /// The beginning of what the file says.
        found: String,
    },
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "give it to the user that runs the node, or name another folder",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => "name a folder, not a file",
        io::ErrorKind::ReadOnlyFilesystem => "mount the disk writable, or name another folder",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space, or name another folder",
        _ => "look at the disk, or name another folder",
    }
}

/// A folder that belongs to this process until it is dropped.
#[derive(Debug)]
pub struct Folder {
    disk: Disk,
    node_id: u64,
    is_new: bool,
    _lock: Lock,
}

impl Folder {
    /// Opens or makes the folder at `path` for the node called `name`. A new one gets the low 60 bits of `random` as
    /// its node id.
    pub fn open(path: &Path, name: &str, random: u64) -> Result<Self, FolderError> {
        let failed = |what| move |source| FolderError::Disk { path: path.to_owned(), what, source };
        std::fs::create_dir_all(path).map_err(failed("making it"))?;
        let lock = lock(path, name)?;
        let disk = Disk::new(path);
        let (node_id, is_new) = match read_identity(path, &disk)? {
            Some(node_id) => (node_id, false),
            None => {
                let names = disk.list().map_err(failed("listing it"))?;
                if names.iter().any(|name| segments::is_data(name)) {
                    return Err(FolderError::NoIdentity { path: path.to_owned() });
                }
                let id = ClientId::from_random(random);
                disk.write_small(IDENTITY, format!("{FORMAT}{id}\n").as_bytes()).map_err(failed("writing node.id"))?;
                (id.0, true)
            }
        };
        Ok(Self { disk, node_id, is_new, _lock: lock })
    }

    /// The node's identity, below 2^60.
    #[must_use]
    pub fn node_id(&self) -> u64 {
        self.node_id
    }

    /// Whether the identity was made just now.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// The disk below it, for the log.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        &self.disk
    }
}

fn lock(path: &Path, name: &str) -> Result<Lock, FolderError> {
    Lock::take(path, LOCK, name).map_err(|error| match error {
        lock::Error::InUse { path, holder } => FolderError::InUse { path, holder },
        lock::Error::Disk { path, source } => FolderError::Disk { path, what: "locking it", source },
    })
}

/// The node that runs on a folder, as it wrote itself into the lock; `None` if none does. Leaves no lock behind.
pub fn running(path: &Path) -> io::Result<Option<String>> {
    lock::held(&path.join(LOCK))
}

fn read_identity(path: &Path, disk: &Disk) -> Result<Option<u64>, FolderError> {
    let unknown = |bytes: &[u8]| FolderError::UnknownIdentity {
        path: path.to_owned(),
        found: String::from_utf8_lossy(bytes).chars().take(64).collect(),
    };
    match disk.read_small(IDENTITY, SMALL_BYTES_MAX) {
        Ok(bytes) => {
            let id = bytes.strip_prefix(FORMAT.as_bytes()).and_then(|rest| rest.strip_suffix(b"\n"));
            id.and_then(ClientId::from_text).map(|id| Some(id.0)).ok_or_else(|| unknown(&bytes))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Err(unknown(b"too much")),
        Err(source) => Err(FolderError::Disk { path: path.to_owned(), what: "reading node.id", source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_stays_with_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let first = Folder::open(&path, "uno", u64::MAX).unwrap();
        assert_eq!((first.node_id(), first.is_new()), ((1 << 60) - 1, true));
        assert_eq!(std::fs::read_to_string(path.join(IDENTITY)).unwrap(), "acopio-data 1 zzzzzzzzzz\n");
        let error = Folder::open(&path, "dos", 2).unwrap_err().to_string();
        assert!(error.contains(&format!("pid {} name uno", std::process::id())), "{error}");
        assert!(running(&path).unwrap().unwrap().ends_with("name uno"));
        drop(first);
        assert_eq!(running(&path).unwrap(), None);
        let again = Folder::open(&path, "dos", 2).unwrap();
        assert_eq!((again.node_id(), again.is_new()), ((1 << 60) - 1, false));
    }

    #[test]
    fn records_without_an_identity_are_not_adopted() {
        for name in ["data.txt", "data-1795234260----0----6.txt"] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(name), "").unwrap();
            let error = Folder::open(dir.path(), "uno", 1).unwrap_err();
            assert!(matches!(error, FolderError::NoIdentity { .. }), "{error}");
        }
    }

    #[test]
    fn an_unknown_version_and_a_file_are_refused_with_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["acopio-data 2 zzzzzzzzzz\n", "acopio-data 1 zzzzzzzzzz", "", "acopio-data 1 z\n"] {
            std::fs::write(dir.path().join(IDENTITY), text).unwrap();
            let error = Folder::open(dir.path(), "uno", 1).unwrap_err();
            assert!(matches!(error, FolderError::UnknownIdentity { .. }), "{error}");
        }
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = Folder::open(&file, "uno", 1).unwrap_err().to_string();
        assert!(error.contains("file") && error.ends_with("name a folder, not a file"), "{error}");
    }
}
