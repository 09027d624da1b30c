//! One process of a kind for a folder: the folder itself is locked, and a file in it that says who holds it.
//!
//! Locks are the system's (`flock`), so they end with their process, however that ends. A file can be removed, and then
//! keeps nobody out; the folder's own lock is the folder's whatever it is called and whoever links to it. The file tells who
//! comes second who was first, keeps out where a file system locks no folders, and parts the roles: a head may share the
//! folder of a data node. So a head leaves the folder's lock to that, and its registro is locked instead.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::files;
use crate::limits::NODE_NAME_BYTES_MAX;

/// A role of which one process may use a folder, and the file that it locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A data node.
    Data,
    /// A head.
    Head,
    /// What runs a cluster.
    Cluster,
    /// What collects from instruments.
    Collector,
}

impl Role {
    const ALL: [Self; 4] = [Self::Data, Self::Head, Self::Cluster, Self::Collector];

    /// The file.
    #[must_use]
    pub(crate) const fn file(self) -> &'static str {
        match self {
            Self::Data => "lock",
            Self::Head => "head.lock",
            Self::Cluster => "up.lock",
            Self::Collector => "collect.lock",
        }
    }

    /// Whether the folder itself is locked for it.
    const fn has_folder(self) -> bool {
        !matches!(self, Self::Head)
    }
}

/// Greatest text of a lock that is read, bytes.
const TEXT_BYTES_MAX: u64 = NODE_NAME_BYTES_MAX as u64 + 128;

/// Who holds a folder whose lock file is gone.
const UNKNOWN: &str = "its lock file was removed; 'fuser -v' on the folder tells who it is";

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process holds it.
    #[error("{} is in use by another process ({holder}); stop that one, or choose another folder", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// What the holder wrote: `pid <number> name <who>`.
        holder: String,
    },
    /// The file can't be made or locked.
    #[error("cannot lock {} with its file {file}: {source}; make it writable, or choose another folder", path.display())]
    Disk {
        /// The folder.
        path: PathBuf,
        /// The file.
        file: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    /// None where the folder can't be locked, and for a role that leaves it to another.
    _folder: Option<Held>,
}

/// An open folder that is locked.
#[derive(Debug)]
struct Held(File);

/// Closing would do, were the descriptor not shared for a moment with whatever this process is just starting.
fn release(file: &File) {
    if let Err(error) = file.unlock() {
        tracing::debug!("a lock is released when the process ends: {error}");
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        release(&self.0);
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        release(&self.file);
    }
}

impl Lock {
    /// Takes a folder that is there for a role, in the name of `who`.
    ///
    /// # Errors
    /// Another process has it, or the file can't be written.
    pub(crate) fn take(folder: &Path, role: Role, who: &str) -> Result<Self, Error> {
        let failed = |source| Error::Disk { path: folder.to_owned(), file: role.file(), source };
        let in_use = |holder| Error::InUse { path: folder.to_owned(), holder };
        let options = &mut files::options();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = files::open(options, &folder.join(role.file())).map_err(failed)?;
        // The file before the folder: who finds the folder locked finds out for which role.
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(holder(&file))),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let held = match open_folder(folder).map(|opened| opened.try_lock().map(|()| Held(opened))) {
            _ if !role.has_folder() => None,
            Ok(Ok(held)) => Some(held),
            Ok(Err(TryLockError::WouldBlock)) => return Err(in_use(holder_of_folder(folder, role))),
            // Some file systems lock no folders.
            Ok(Err(_)) | Err(_) => None,
        };
        let who: String = who.chars().filter(|c| !c.is_control()).take(NODE_NAME_BYTES_MAX).collect();
        let text = format!("pid {} name {who}\n", std::process::id());
        file.set_len(0).and_then(|()| file.write_all(text.as_bytes())).map_err(failed)?;
        Ok(Self { file, _folder: held })
    }
}

fn open_folder(folder: &Path) -> io::Result<File> {
    Ok(rustix::fs::open(folder, files::SAFELY | OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?.into())
}

/// Who holds a folder that is locked, and not by the file of this role: another role, or one whose file was removed.
fn holder_of_folder(folder: &Path, role: Role) -> String {
    let others = Role::ALL.into_iter().filter(|other| *other != role && other.has_folder());
    let held = others.filter_map(|other| held_file(&folder.join(other.file())).ok().flatten()).next();
    held.unwrap_or_else(|| UNKNOWN.to_owned())
}

/// What the holder of a lock wrote into it.
fn holder(file: &File) -> String {
    let mut text = String::new();
    match file.take(TEXT_BYTES_MAX).read_to_string(&mut text) {
        Ok(read) if read > 0 => text.trim_end().to_owned(),
        _ => "it has not said its name yet".to_owned(),
    }
}

fn held_file(path: &Path) -> io::Result<Option<String>> {
    let file = match files::read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(holder(&file))),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Who holds a folder for a role, as it wrote itself into its file; `None` if nobody does. Leaves no lock behind.
///
/// # Errors
/// The file is there and can't be read.
pub(crate) fn held(folder: &Path, role: Role) -> io::Result<Option<String>> {
    if let Some(holder) = held_file(&folder.join(role.file()))? {
        return Ok(Some(holder));
    }
    let is_locked = |folder: File| matches!(folder.try_lock_shared(), Err(TryLockError::WouldBlock));
    let locked = role.has_folder() && open_folder(folder).is_ok_and(is_locked);
    Ok(locked.then(|| holder_of_folder(folder, role)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(folder: &Path, role: Role) -> String {
        Lock::take(folder, role, "dos").unwrap_err().to_string()
    }

    #[test]
    fn the_second_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path(), Role::Data, "uno").unwrap();
        let error = refused(dir.path(), Role::Data);
        assert!(error.contains(&format!("pid {} name uno", std::process::id())), "{error}");
        assert!(held(dir.path(), Role::Data).unwrap().unwrap().ends_with("name uno"));
        drop(first);
        assert_eq!(held(dir.path(), Role::Data).unwrap(), None);
        Lock::take(dir.path(), Role::Data, "dos").unwrap();
    }

    #[test]
    fn a_lock_file_that_is_removed_or_replaced_lets_nobody_in() {
        for role in Role::ALL.into_iter().filter(|role| role.has_folder()) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(role.file());
            let first = Lock::take(dir.path(), role, "uno").unwrap();
            std::fs::remove_file(&path).unwrap();
            assert_eq!(held(dir.path(), role).unwrap().as_deref(), Some(UNKNOWN));
            for _ in 0..2 {
                let error = refused(dir.path(), role);
                assert!(error.contains("is in use") && error.contains("its lock file was removed"), "{error}");
            }
            std::fs::write(dir.path().join("new"), "").unwrap();
            std::fs::rename(dir.path().join("new"), &path).unwrap();
            refused(dir.path(), role);
            drop(first);
            Lock::take(dir.path(), role, "dos").unwrap();
        }
    }

    #[test]
    fn a_folder_is_the_same_by_every_name() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, link, away) = (dir.path().join("a"), dir.path().join("link"), dir.path().join("away"));
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        let first = Lock::take(&folder, Role::Data, "uno").unwrap();
        refused(&link, Role::Data);
        std::fs::rename(&folder, &away).unwrap();
        std::fs::remove_file(away.join("lock")).unwrap();
        refused(&away, Role::Data);
        // Another folder at the path is another one.
        std::fs::create_dir(&folder).unwrap();
        drop(Lock::take(&folder, Role::Data, "dos").unwrap());
        drop(first);
        Lock::take(&away, Role::Data, "dos").unwrap();
    }

    #[test]
    fn roles_share_a_folder_in_any_order() {
        for (one, two) in [(Role::Data, Role::Head), (Role::Head, Role::Data)] {
            let dir = tempfile::tempdir().unwrap();
            let first = Lock::take(dir.path(), one, "uno").unwrap();
            assert_eq!(held(dir.path(), two).unwrap(), None);
            let second = Lock::take(dir.path(), two, "dos").unwrap();
            refused(dir.path(), one);
            refused(dir.path(), two);
            drop(first);
            assert_eq!(held(dir.path(), one).unwrap(), None);
            Lock::take(dir.path(), one, "tres").unwrap();
            drop(second);
        }
    }

    #[test]
    fn a_data_node_without_its_lock_file_is_alone_beside_a_head_too() {
        for data_first in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let order = if data_first { [Role::Data, Role::Head] } else { [Role::Head, Role::Data] };
            let _locks = order.map(|role| Lock::take(dir.path(), role, "uno").unwrap());
            std::fs::remove_file(dir.path().join(Role::Data.file())).unwrap();
            assert_eq!(held(dir.path(), Role::Data).unwrap().as_deref(), Some(UNKNOWN));
            for _ in 0..2 {
                let error = refused(dir.path(), Role::Data);
                assert!(error.contains("its lock file was removed"), "{error}");
            }
        }
    }
}
