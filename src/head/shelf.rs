//! Where a head keeps a small file of its own: in the folder of its logs, or in the memory of a simulation.
//!
//! What the file says is the caller's business. It is written anew as a whole: a reader sees the old one or the new one.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::files;
use crate::net::aside;

/// A place for one small file.
#[derive(Clone, Debug)]
pub(crate) enum Shelf {
    /// At this path.
    Path(PathBuf),
    /// In memory; nothing is there as long as it is empty.
    #[cfg(feature = "simulation")]
    Memory(std::sync::Arc<std::sync::Mutex<Vec<u8>>>),
}

impl Shelf {
    /// Reads at most `bytes_max` bytes of the file.
    ///
    /// # Errors
    /// `NotFound`, and whatever the disk says; `InvalidData` if it is not UTF-8.
    pub(crate) fn read(&self, bytes_max: u64) -> io::Result<String> {
        let mut text = String::new();
        match self {
            Self::Path(path) => files::read(path)?.take(bytes_max).read_to_string(&mut text)?,
            #[cfg(feature = "simulation")]
            Self::Memory(bytes) => {
                let bytes = bytes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if bytes.is_empty() {
                    return Err(io::ErrorKind::NotFound.into());
                }
                bytes.take(bytes_max).read_to_string(&mut text)?
            }
        };
        Ok(text)
    }

    /// Puts `text` in place of what was there; it survives a crash once this returns what tells the file
    /// from others.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub(crate) fn write(&self, text: &[u8]) -> io::Result<Stamp> {
        match self {
            Self::Path(path) => {
                let new = path.with_extension("txt.new");
                let mut file = files::create(&new)?;
                file.write_all(text)?;
                file.sync_all()?;
                // Before it has its name: what others do to it from then on is not taken for what was written.
                let stamp = Stamp::of(&file.metadata()?);
                std::fs::rename(&new, path).map_err(|error| files::not_replaced(&path.display(), error))?;
                // The new name is on the disk only when the folder is.
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()?;
                Ok(stamp)
            }
            #[cfg(feature = "simulation")]
            Self::Memory(bytes) => {
                text.clone_into(&mut bytes.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
                Ok(Stamp::default())
            }
        }
    }

    /// What lies there now, as far as it tells one file from another; `None` if nothing does.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        match self {
            Self::Path(path) => Some(Stamp::of(&std::fs::metadata(path).ok()?)),
            #[cfg(feature = "simulation")]
            Self::Memory(_) => Some(Stamp::default()),
        }
    }

    /// As [`write`](Self::write), while others go on.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub(crate) async fn write_aside(&self, text: Vec<u8>) -> io::Result<Stamp> {
        match self {
            Self::Path(_) => {
                let shelf = self.clone();
                aside("shelf", move || shelf.write(&text)).await
            }
            #[cfg(feature = "simulation")]
            Self::Memory(_) => self.write(&text),
        }
    }
}

/// What tells a file from the one that was there before.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Stamp {
    inode: (u64, u64),
    bytes: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        let changed = (meta.mtime(), meta.mtime_nsec());
        Self { inode: (meta.dev(), meta.ino()), bytes: meta.len(), changed }
    }
}

impl fmt::Display for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            #[cfg(feature = "simulation")]
            Self::Memory(_) => f.write_str("memory"),
        }
    }
}
