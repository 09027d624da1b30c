//! A log file that turns over every day, always found under its plain name.
//!
//! `heartbeat.log` is a relative link to `heartbeat.<day>.log`, so that `tail -F` follows it over midnight and the folder
//! can be moved or looked at through a mount. Writing is synchronous: a line that was written is with the operating
//! system, also before a kill -9. What a line says is the caller's business, and so is a failed write.

use std::fs;
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing_appender::rolling::{RollingFileAppender, RollingWriter, Rotation};
use tracing_subscriber::fmt::MakeWriter as _;

use crate::files;

/// A daily log file cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {name}.log in {}: {cause}; name another folder or make this one writable", dir.display())]
pub struct Error {
    dir: PathBuf,
    name: &'static str,
    cause: String,
}

/// A file a day, the last ones kept, and the link to today's.
#[derive(Debug)]
pub struct DailyFile {
    dir: PathBuf,
    name: &'static str,
    file: RollingFileAppender,
    day: AtomicU64,
}

impl DailyFile {
    /// Opens today's `<name>.<day>.log` in `dir`, which is made if it is missing; of older ones `keep` days are kept, or
    /// all.
    ///
    /// # Errors
    /// The folder can't be made or written, or something that is no link has the link's name.
    pub fn open(dir: &Path, name: &'static str, keep: Option<usize>) -> Result<Self, Error> {
        let broken = |cause: String| Error { dir: dir.to_owned(), name, cause };
        files::create_folder(dir).map_err(|error| broken(error.to_string()))?;
        prepare(dir, name).map_err(|error| broken(error.to_string()))?;
        let mut builder =
            RollingFileAppender::builder().rotation(Rotation::DAILY).filename_prefix(name).filename_suffix("log");
        if let Some(days) = keep {
            builder = builder.max_log_files(days);
        }
        let file = builder.build(dir).map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            broken(cause.unwrap_or_else(|| error.to_string()))
        })?;
        let daily = Self { dir: dir.to_owned(), name, file, day: AtomicU64::new(today()) };
        daily.link().map_err(|error| broken(error.to_string()))?;
        Ok(daily)
    }

    /// The path under which today's file is found.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.join(format!("{}.log", self.name))
    }

    /// Whether today's file ends in the middle of a line: a process was killed while it wrote.
    #[must_use]
    pub fn ends_open(&self) -> bool {
        let mut last = [0];
        let read = files::read(&self.path()).and_then(|mut file| {
            file.seek(io::SeekFrom::End(-1))?;
            file.read_exact(&mut last)
        });
        // An empty file has no last byte, and no open line.
        read.is_ok() && last != *b"\n"
    }

    /// A writer for some lines; they go to one file. The link is renewed when the day has changed.
    ///
    /// # Errors
    /// The file of a new day can't be made, or the link can't be renewed: try the lines all the same, with [`writer_unlinked`](Self::writer_unlinked).
    pub fn writer(&self) -> io::Result<RollingWriter<'_>> {
        let today = today();
        let turned = self.day.swap(today, Ordering::Relaxed) != today;
        if turned {
            prepare(&self.dir, self.name)?;
        }
        let writer = self.file.make_writer();
        if turned {
            self.link()?;
        }
        Ok(writer)
    }

    /// The writer alone.
    #[must_use]
    pub fn writer_unlinked(&self) -> RollingWriter<'_> {
        self.file.make_writer()
    }

    /// Points the plain name at today's file; in one step, so that a reader always finds one.
    fn link(&self) -> io::Result<()> {
        let link = self.path();
        if fs::symlink_metadata(&link).is_ok_and(|meta| !meta.is_symlink()) {
            let text = format!("{} is not a link to the log of a day, move it away", link.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        let target = file_of_today(self.name);
        let draft = self.dir.join(format!(".{}.{}", self.name, std::process::id()));
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::os::unix::fs::symlink(target, &draft)?;
        fs::rename(&draft, &link)
    }
}

fn file_of_today(name: &str) -> String {
    let day = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    format!("{name}.{}.log", day.get(..10).unwrap_or_default())
}

/// Makes today's file, which the appender then finds: it would make one that everybody may read, and wait for the reader of
/// a FIFO.
fn prepare(dir: &Path, name: &str) -> io::Result<()> {
    files::open(files::options().append(true).create(true), &dir.join(file_of_today(name))).map(drop)
}

fn today() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn the_plain_name_is_a_relative_link_to_today() {
        let dir = tempfile::tempdir().unwrap();
        let file = DailyFile::open(dir.path(), "heartbeat", None).unwrap();
        file.writer().unwrap().write_all(b"127.0.0.2 disponible\n").unwrap();
        assert_eq!(fs::read_to_string(file.path()).unwrap(), "127.0.0.2 disponible\n");
        let link = fs::read_link(file.path()).unwrap();
        assert_eq!(link.components().count(), 1, "{}", link.display());
    }

    #[test]
    fn a_file_in_the_links_place_is_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("head.log"), "mine").unwrap();
        assert!(DailyFile::open(dir.path(), "head", None).is_err());
        assert_eq!(fs::read_to_string(dir.path().join("head.log")).unwrap(), "mine");
    }

    #[test]
    fn a_folder_that_is_a_file_is_named_with_a_remedy() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = DailyFile::open(&file.path().join("logs"), "head", None).unwrap_err().to_string();
        assert!(error.contains(file.path().to_str().unwrap()) && error.contains("; name another folder"), "{error}");
    }
}
