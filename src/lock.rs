//! One process for a folder: a locked file that says who holds it.
//!
//! The lock is the system's (`flock`), so it ends with its process, however that ends. The text in the file is only for
//! the message to whoever comes second.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::limits::NODE_NAME_BYTES_MAX;

/// Greatest text of a lock that is read, bytes.
const TEXT_BYTES_MAX: u64 = NODE_NAME_BYTES_MAX as u64 + 128;

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
    #[error("cannot lock {}: {source}; make it writable, or choose another folder", path.display())]
    Disk {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Takes the lock called `file` in a folder that is there, in the name of `who`.
    ///
    /// # Errors
    /// Another process holds it, or the file can't be written.
    pub fn take(folder: &Path, file: &str, who: &str) -> Result<Self, Error> {
        let failed = |source| Error::Disk { path: folder.to_owned(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut lock = options.open(folder.join(file)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::InUse { path: folder.to_owned(), holder: holder(&lock) });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let who: String = who.chars().filter(|c| !c.is_control()).take(NODE_NAME_BYTES_MAX).collect();
        let text = format!("pid {} name {who}\n", std::process::id());
        lock.set_len(0).and_then(|()| lock.write_all(text.as_bytes())).map_err(failed)?;
        Ok(Self(lock))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing would do, were the descriptor not shared for a moment with whatever this process is just starting.
        if let Err(error) = self.0.unlock() {
            tracing::debug!("a lock is released when the process ends: {error}");
        }
    }
}

/// What the holder of a lock wrote into it.
fn holder(file: &File) -> String {
    let mut text = String::new();
    match file.take(TEXT_BYTES_MAX).read_to_string(&mut text) {
        Ok(read) if read > 0 => text.trim_end().to_owned(),
        _ => "it has not said its name yet".to_owned(),
    }
}

/// Who holds the lock at this path, as it wrote itself into it; `None` if nobody does. Leaves no lock behind.
///
/// # Errors
/// The file is there and can't be read.
pub fn held(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path(), "lock", "uno").unwrap();
        let error = Lock::take(dir.path(), "lock", "dos").unwrap_err().to_string();
        assert!(error.contains(&format!("pid {} name uno", std::process::id())), "{error}");
        assert!(held(&dir.path().join("lock")).unwrap().unwrap().ends_with("name uno"));
        drop(first);
        assert_eq!(held(&dir.path().join("lock")).unwrap(), None);
        Lock::take(dir.path(), "lock", "dos").unwrap();
    }
}
