//! How the log lets sealed files go that were kept long enough; which those are, [`crate::data::retention`] decides.

use std::io;
use std::sync::Arc;

use super::{Log, LogError};
use crate::data::retention::Retained;
use crate::data::sidecar::{self, sidecar_name};
use crate::data::storage::Storage;
use crate::data::view::{Sealed, SealedFile};

impl<S: Storage> Log<S> {
    /// Removes sealed files that were kept long enough. `segments.txt` forgets a file before it goes: one that it lists and
    /// that is not there was lost. Serves while the disk is full.
    ///
    /// # Errors
    /// [`LogError::Poisoned`]. A file that can't be removed stays, and is no error.
    pub(crate) fn remove(&mut self, files: Vec<Arc<SealedFile>>) -> Result<Retained, LogError> {
        if let Some(error @ LogError::Poisoned { .. }) = &self.stopped {
            return Err(error.clone());
        }
        let mut retained = Retained::default();
        let goes = |file: &SealedFile| files.iter().any(|other| other.serial == file.serial);
        let mut rest: Vec<_> = self.sealed.files().iter().filter(|file| !goes(file)).map(Arc::clone).collect();
        self.forget(&rest)?;
        let least = rest.iter().map(|file| file.segment.least).min();
        let mut sources = self.sealed.sources().clone();
        for file in &files {
            // What it had is in its sidecar, which goes with it.
            let had = sidecar::read(&self.storage, &file.segment.file, file.segment.bytes);
            match remove_both(&self.storage, &file.segment.file) {
                Ok(()) => {
                    had.iter().for_each(|had| sources.let_go(&had.sources, least.unwrap_or(file.segment.greatest)));
                    retained.removed.push(file.segment.clone());
                }
                Err(error) => {
                    retained.failed = Some(format!("cannot remove {}: {error}", file.segment.file));
                    rest.push(Arc::clone(file));
                }
            }
        }
        rest.sort_by_key(|file| file.serial);
        self.sealed = Arc::new(Sealed::new(rest, sources));
        self.storage.sync_dir().map_err(|error| self.poison("sync the folder", &error))?;
        Ok(retained)
    }
}

/// Removes a sealed file, its index first; that either is gone already is fine.
fn remove_both<S: Storage>(storage: &S, file: &str) -> io::Result<()> {
    for name in [&sidecar_name(file), file] {
        match storage.remove(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
