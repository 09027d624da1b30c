//! How the log lets sealed files go that were kept long enough; which those are, [`retention`] decides.

use std::io;
use std::sync::Arc;

use super::{Log, LogError, first_of};
use crate::data::retention::{self, Look, Retained};
use crate::data::segments::REMOVED;
use crate::data::sidecar::sidecar_name;
use crate::data::storage::{LogFile as _, Storage};
use crate::data::view::{Sealed, SealedFile};
use crate::data::witness::END;
use crate::files::is_full;
use crate::limits::RETENTION_BYTES_MAX;

impl<S: Storage> Log<S> {
    /// Removes the sealed files that were kept long enough, and writes into `retention.txt` which. `segments.txt` forgets
    /// a file before it goes: one that it lists and that is not there was lost. Serves while the disk is full.
    ///
    /// # Errors
    /// [`LogError::Poisoned`]. A file that can't be removed stays, and is no error.
    pub(crate) fn retain(&mut self, look: &Look) -> Result<Retained, LogError> {
        if let Some(error @ LogError::Poisoned { .. }) = &self.stopped {
            return Err(error.clone());
        }
        let plan = retention::plan(&self.view(), look.now_ns, &look.policy, |file| (look.is_short)(file));
        let held = plan.held.map(|file| file.segment.file.clone());
        let mut retained = Retained { held, ..Retained::default() };
        if plan.remove.is_empty() {
            return Ok(retained);
        }
        let first_goes = |first| plan.remove.iter().any(|file| first_of(file) == Some(first));
        // A witness of a file that is gone would be one of a loss.
        if let Err(error) = self.witness.let_go(&self.storage, first_goes) {
            retained.failed = Some(format!("cannot remove {END}: {error}"));
            return Ok(retained);
        }
        let goes = |file: &SealedFile| plan.remove.iter().any(|other| other.serial == file.serial);
        let mut rest: Vec<_> = self.sealed.files().iter().filter(|file| !goes(file)).map(Arc::clone).collect();
        self.note_removal(&plan.remove)?;
        self.forget(&rest)?;
        for file in plan.remove {
            match remove_both(&self.storage, &file.segment.file) {
                Ok(()) => retained.removed.push(file.segment.clone()),
                Err(error) => {
                    retained.failed = Some(format!("cannot remove {}: {error}", file.segment.file));
                    rest.push(file);
                }
            }
        }
        rest.sort_by_key(|file| file.serial);
        self.sealed = Arc::new(Sealed::new(rest));
        self.storage.sync_dir().map_err(|error| self.poison("sync the folder", &error))?;
        Ok(retained)
    }

    /// Writes into `retention.txt` what is about to go; a disk too full for that is to get room.
    fn note_removal(&mut self, files: &[Arc<SealedFile>]) -> Result<(), LogError> {
        let lines: String = files.iter().map(|file| file.segment.to_line()).collect();
        let file = match self.storage.open_append(REMOVED) {
            Ok(file) if file.len().is_ok_and(|len| len < RETENTION_BYTES_MAX) => Ok(file),
            Ok(_) => self.storage.remove(REMOVED).and_then(|()| self.storage.create(REMOVED)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.storage.create(REMOVED),
            Err(error) => Err(error),
        };
        let noted = file.and_then(|mut file| {
            let len = file.len()?;
            // Half a line would spoil the next one.
            file.append(lines.as_bytes()).or_else(|error| file.truncate(len).and(Err(error)))?;
            file.sync()
        });
        match noted {
            Err(error) if !is_full(&error) => Err(self.poison("write retention.txt", &error)),
            _ => Ok(()),
        }
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
