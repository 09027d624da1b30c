//! A log file that turns over every day, always found under its plain name.
//!
//! `heartbeat.log` is written; when its day is over it becomes `heartbeat.<day>.log`, and a new one begins. `tail -F`
//! follows that, and no file system has to know links. The file at the path is the one that is written: one that was
//! moved away or removed is made anew within [`limits::LOG_LOOK_EVERY`], or at once after [`reopen_all`]. Writing is
//! synchronous: a line that was written is with the operating system, also before a kill -9. What a line says is the
//! caller's business, and so is a failed write: the next one opens the file anew, and begins on a line of its own. A file
//! whose days are accounted for is one process's alone.

mod days;

use std::fs::{self, File, Metadata, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime};

pub(crate) use days::Keep;
use days::Past;

use crate::files;
use crate::limits;

/// How often all files were asked to be opened anew.
static ASKED: AtomicU64 = AtomicU64::new(0);

/// Every log file of this process is opened anew before its next line: they were moved away.
pub(crate) fn reopen_all() {
    ASKED.fetch_add(1, Ordering::Relaxed);
}

/// A daily log file cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {name}.log in {}: {cause}; name another folder or make this one writable", dir.display())]
pub(crate) struct Error {
    dir: PathBuf,
    name: &'static str,
    cause: io::Error,
}

/// Some lines could not be written.
#[derive(Debug)]
pub(crate) struct Unwritten {
    /// Bytes of whole lines that were written before.
    pub(crate) written: usize,
    /// What the system said.
    pub(crate) cause: io::Error,
}

impl From<io::Error> for Unwritten {
    fn from(cause: io::Error) -> Self {
        Self { written: 0, cause }
    }
}

/// Today's file, and those of the days before.
#[derive(Debug)]
pub(crate) struct DailyFile {
    dir: PathBuf,
    name: &'static str,
    keep: Keep,
    /// The folder that it stays in, if it does: another one at its path gets no file.
    home: Option<(u64, u64)>,
    /// Name of the file that says up to when lines were let go, for files whose absence has to be accounted for.
    gone: Option<&'static str>,
    open: Mutex<Option<Open>>,
}

/// The file that is written.
#[derive(Debug)]
struct Open {
    file: File,
    inode: (u64, u64),
    day: u64,
    bytes: u64,
    /// It ends in the middle of a line: a process was killed while it wrote, or a disk was full.
    torn: bool,
    /// When it was seen at its path last.
    looked: Instant,
    asked: u64,
}

impl DailyFile {
    /// Opens `<name>.log` in `dir`, which is made if it is missing.
    ///
    /// # Errors
    /// The folder can't be made or written, or something that is no file has the name.
    pub(crate) fn open(dir: &Path, name: &'static str, keep: Keep) -> Result<Self, Error> {
        Self::new(dir.to_owned(), name, keep).opened()
    }

    const fn new(dir: PathBuf, name: &'static str, keep: Keep) -> Self {
        Self { dir, name, keep, home: None, gone: None, open: Mutex::new(None) }
    }

    /// As [`open`](Self::open), for a file that lies with data: when its folder is moved away it goes with that.
    ///
    /// # Errors
    /// As those of [`open`](Self::open).
    pub(crate) fn open_beside(dir: &Path, name: &'static str, keep: Keep) -> Result<Self, Error> {
        let mut daily = Self::new(dir.to_owned(), name, keep).opened()?;
        daily.home = fs::metadata(dir).ok().map(|meta| inode(&meta));
        Ok(daily)
    }

    /// As [`open`](Self::open), for a file whose days do not go without a word: the file called `gone` holds the time of
    /// the last line that was let go.
    ///
    /// # Errors
    /// As those of [`open`](Self::open).
    pub(crate) fn open_accounted(
        dir: &Path,
        name: &'static str,
        keep: Keep,
        gone: &'static str,
    ) -> Result<Self, Error> {
        Self { gone: Some(gone), ..Self::new(dir.to_owned(), name, keep) }.opened()
    }

    fn opened(self) -> Result<Self, Error> {
        let made = files::create_folder(&self.dir);
        let ready = made.and_then(|()| self.unlink()).and_then(|()| {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            self.ready(&mut open, SystemTime::now()).map(drop)
        });
        match ready {
            Ok(()) => {
                self.tidy();
                Ok(self)
            }
            Err(cause) => Err(Error { dir: self.dir, name: self.name, cause }),
        }
    }

    /// The path under which the file is found.
    #[must_use]
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(format!("{}.log", self.name))
    }

    /// Writes some whole lines.
    ///
    /// # Errors
    /// Not all of them could be written. Writing again is right, and begins on a line of its own.
    pub(crate) fn write(&self, lines: &[u8]) -> Result<(), Unwritten> {
        self.write_at(lines, SystemTime::now())
    }

    fn write_at(&self, lines: &[u8], now: SystemTime) -> Result<(), Unwritten> {
        let mut guard = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = self.ready(&mut guard, now)?;
        let mut written = 0;
        let outcome = open.put(lines, &mut written);
        if let Err(cause) = outcome {
            // What lies at the path by then, and how it ends, is looked at anew.
            *guard = None;
            let whole = lines.get(..written).and_then(|part| memchr::memrchr(b'\n', part));
            return Err(Unwritten { written: whole.map_or(0, |at| at + 1), cause });
        }
        Ok(())
    }

    /// Sees that the file at the path is the one that is written, though there is no line for it.
    ///
    /// # Errors
    /// There is none, and none can be made.
    pub(crate) fn look(&self) -> io::Result<()> {
        let mut guard = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        self.ready(&mut guard, SystemTime::now()).map(drop)
    }

    /// The file to write to: the one at the path, of today.
    fn ready<'a>(&self, open: &'a mut Option<Open>, now: SystemTime) -> io::Result<&'a mut Open> {
        let asked = ASKED.load(Ordering::Relaxed);
        if let Some(file) = open
            && (file.asked != asked || file.looked.elapsed() >= limits::LOG_LOOK_EVERY)
        {
            let here = fs::metadata(self.path()).is_ok_and(|meta| inode(&meta) == file.inode);
            if here || !self.is_home() {
                (file.looked, file.asked) = (Instant::now(), asked);
            } else {
                *open = None;
            }
        }
        let mut file = match open.take() {
            Some(file) => file,
            None => self.open_current(now)?,
        };
        let today = days::day(now);
        let over = file.bytes > 0 && (today > file.day || file.bytes >= self.keep.part()) && self.is_home();
        if over && self.turn(file.day).is_ok() {
            file = self.open_current(now)?;
            self.tidy();
        }
        // The clock was set back, or nothing was written yet.
        if today < file.day || file.bytes == 0 {
            file.day = today;
        }
        Ok(open.insert(file))
    }

    /// Whether the folder at the path is the one that this file may lie in.
    fn is_home(&self) -> bool {
        self.home.is_none_or(|home| fs::metadata(&self.dir).is_ok_and(|meta| inode(&meta) == home))
    }

    fn open_current(&self, now: SystemTime) -> io::Result<Open> {
        if !self.is_home() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "its folder was moved away"));
        }
        if self.home.is_none() && !self.dir.exists() {
            // It was moved away or removed: what is to be told is told all the same.
            files::create_folder(&self.dir)?;
        }
        let path = self.path();
        let mut options = files::options();
        options.read(true).append(true).create(true);
        // A log may be a link to a character device: to /dev/null, say.
        let mut file = match fs::metadata(&path) {
            Ok(meta) if meta.file_type().is_char_device() => options.open(&path)?,
            _ => files::open(&options, &path)?,
        };
        let meta = file.metadata()?;
        if self.gone.is_some() && meta.is_file() && matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "it is in use by another process"));
        }
        let written = meta.modified().unwrap_or(now);
        Ok(Open {
            torn: ends_open(&mut file),
            inode: inode(&meta),
            day: days::day(written),
            bytes: if meta.is_file() { meta.len() } else { 0 },
            looked: Instant::now(),
            asked: ASKED.load(Ordering::Relaxed),
            file,
        })
    }

    /// Gives the file the name of its day. If that is refused, its lines go on where they are, and it is tried again with
    /// the next one.
    fn turn(&self, day: u64) -> io::Result<()> {
        let last = self.past()?.into_iter().filter(|one| one.day == day).map(|one| one.number).max();
        let past = Past { day, number: last.unwrap_or(0) + 1, bytes: 0 };
        fs::rename(self.path(), self.dir.join(past.file(self.name)))
    }

    /// The files of days that are over, oldest first.
    fn past(&self) -> io::Result<Vec<Past>> {
        let mut past = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let bytes = entry.metadata().map_or(0, |meta| meta.len());
            past.extend(entry.file_name().to_str().and_then(|file| Past::parse(file, self.name, bytes)));
        }
        past.sort_unstable();
        Ok(past)
    }

    /// Removes what was kept long enough. What can't be removed is tried again on another day.
    fn tidy(&self) {
        let Ok(past) = self.past() else { return };
        let goes = past.get(..days::plan(&past, &self.keep)).unwrap_or_default();
        let Some(last) = goes.last() else { return };
        // Said before it is done; a disk too full for that is to get room, and is asked again. Where it cannot be said
        // for another reason nothing goes: nobody could account for it.
        let said = self.say_gone(last);
        if let Err(error) = &said
            && !files::is_full(error)
        {
            let (name, gone) = (self.name, self.gone.unwrap_or_default());
            tracing::warn!("{gone} cannot be written: {error}; until it can, no day of {name}.log is removed");
            return;
        }
        for one in goes {
            let _tried_again_another_day = fs::remove_file(self.dir.join(one.file(self.name)));
        }
        let _a_full_disk_has_room_now = said.or_else(|_| self.say_gone(last));
    }

    /// Writes down the time of the last line that is let go.
    fn say_gone(&self, last: &Past) -> io::Result<()> {
        let Some(gone) = self.gone else { return Ok(()) };
        let written = fs::metadata(self.dir.join(last.file(self.name))).and_then(|meta| meta.modified());
        // A file's time is that of the system's last tick, somewhat before the write.
        let time = written.map_or(last.end(), |written| written.min(last.end())) + limits::LOG_LOOK_EVERY;
        let draft = self.dir.join(format!("{gone}.new"));
        files::create(&draft)?.write_all(format!("{}\n", humantime::format_rfc3339_nanos(time)).as_bytes())?;
        fs::rename(&draft, self.dir.join(gone))
    }

    /// Versions before had the plain name as a link to the file of the day: that file gets the plain name.
    fn unlink(&self) -> io::Result<()> {
        let Ok(target) = fs::read_link(self.path()) else { return Ok(()) };
        let ours = target.to_str().is_some_and(|file| Past::parse(file, self.name, 0).is_some());
        match fs::rename(self.dir.join(&target), self.path()) {
            _ if !ours => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::remove_file(self.path()),
            renamed => renamed,
        }
    }
}

impl Open {
    /// Writes all of it; `written` is told how far it came.
    fn put(&mut self, lines: &[u8], written: &mut usize) -> io::Result<()> {
        if self.torn {
            self.file.write_all(b"\n")?;
            (self.torn, self.bytes) = (false, self.bytes + 1);
        }
        while let Some(rest) = lines.get(*written..).filter(|rest| !rest.is_empty()) {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => *written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.bytes += lines.len() as u64;
        Ok(())
    }
}

fn inode(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

/// Whether a file ends in the middle of a line.
fn ends_open(file: &mut File) -> bool {
    let mut last = [0];
    // An empty file has no last byte, and no open line.
    let read = file.seek(io::SeekFrom::End(-1)).and_then(|_| file.read_exact(&mut last));
    read.is_ok() && last != *b"\n"
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
