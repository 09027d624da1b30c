//! Where a read goes on: a small file with the id below which everything was printed. It is replaced whole, and only after
//! what it says was printed.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::files;
use crate::limits::READ_STATE_BYTES_MAX;
use crate::wire::id::RecordId;

/// What stands before the id.
const WORDS: &str = "acopio read: goes on at ";

/// The file.
#[derive(Debug)]
pub(crate) struct State(PathBuf);

impl State {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where to go on; none if there is no file yet.
    ///
    /// # Errors
    /// It can't be read, or says something else.
    pub(crate) fn load(&self) -> Result<Option<RecordId>> {
        let mut text = String::new();
        let read =
            files::read(&self.0).and_then(|file| file.take(READ_STATE_BYTES_MAX as u64).read_to_string(&mut text));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => {
                read.with_context(|| format!("cannot read {}; name another file with --state", self.0.display()))?
            }
        };
        let Some(id) = text.strip_prefix(WORDS).and_then(|id| id.trim_end().parse().ok()) else {
            bail!(
                "{} does not say where a read stopped; name another file with --state, or remove it to begin anew",
                self.0.display()
            );
        };
        Ok(Some(id))
    }

    /// Notes it: a crash leaves what was there, or this.
    ///
    /// # Errors
    /// It can't be written.
    pub(crate) fn save(&self, next: RecordId) -> Result<()> {
        let folder = self.0.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut name = self.0.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let new = folder.join(name);
        let write = || {
            let mut file = files::create(&new)?;
            file.write_all(format!("{WORDS}{next}\n").as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, &self.0)?;
            File::open(folder)?.sync_all()
        };
        write().with_context(|| {
            format!("cannot write {}: what was printed now will be printed again; give it a place", self.0.display())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_read_back_and_nothing_else_is_taken_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let state = State::new(path.clone());
        assert_eq!(state.load().unwrap(), None);
        let id = RecordId { time_ns: 1_795_234_260_000_000_000, incarnation: 7 };
        for id in [id, id.next(), RecordId::ZERO] {
            state.save(id).unwrap();
            assert_eq!(state.load().unwrap(), Some(id));
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        for text in ["", "hola", "acopio read: goes on at ", "1795234260----0----6\n"] {
            std::fs::write(&path, text).unwrap();
            assert!(state.load().unwrap_err().to_string().contains("does not say where a read stopped"), "{text}");
        }
        let nowhere = State::new(dir.path().join("missing/state"));
        assert!(nowhere.save(id).unwrap_err().to_string().starts_with("cannot write"));
    }
}
