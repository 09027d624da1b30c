//! What the log needs of a disk: a folder of append-only files, as a trait, and its implementation on a real disk.
//!
//! The trait is small so that [`simulated`](crate::data) can stand in for it and lose, tear and refuse whatever a real
//! disk may. Nothing here retries, decides or knows what a record is.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, Mode, OFlags};

use super::synced::Synced;
use crate::files;

/// A folder of files. Names are plain file names without a slash.
///
/// A created or renamed file survives a crash only after [`sync_dir`](Storage::sync_dir); without it, a removed one may
/// come back.
pub trait Storage: Send {
    /// An open file of this folder.
    type File: LogFile;

    /// Opens a file that exists, for reading and appending, so that what is read is on the disk, as far as the system
    /// can be made to tell. Errors: `NotFound`, and whatever the disk says.
    fn open_append(&self, name: &str) -> io::Result<Self::File>;

    /// Opens a file that exists, for reading only. Errors: `NotFound`, and whatever the disk says.
    fn open_read(&self, name: &str) -> io::Result<Arc<dyn ReadAt>>;

    /// Creates an empty file. Errors: `AlreadyExists`, and whatever the disk says.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Renames a file. Never replaces: `AlreadyExists` if `to` is taken.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; open handles still read it. Errors: `NotFound`, and whatever the disk says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes creations, renames and removals up to now survive a crash.
    fn sync_dir(&self) -> io::Result<()>;

    /// The names of all files, in no particular order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// The whole of a small file. Errors: `NotFound`; `FileTooLarge` if it holds more than `bytes_max` bytes.
    fn read_small(&self, name: &str, bytes_max: usize) -> io::Result<Vec<u8>>;

    /// Puts a small file in place, whole or not at all, replacing an older one; it survives a crash once this returns.
    fn write_small(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// What the path of this name leads to now; `None` if to nothing. Somebody may have renamed or replaced the file, or
    /// the folder, since it was opened: everything else goes on in the folder that was opened.
    fn look(&self, name: &str) -> io::Result<Option<Seen>>;

    /// What may still be written to the disk of this folder.
    fn room(&self) -> io::Result<Room>;
}

/// Which file it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    /// The file system.
    pub(crate) device: u64,
    /// The inode.
    pub(crate) inode: u64,
}

/// What a look at a file shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Which one it is.
    pub(crate) id: FileId,
    /// Names that it has; without one it goes when it is closed.
    pub(crate) links: u64,
    /// Its length.
    pub(crate) bytes: u64,
}

/// What a disk has free for this user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes.
    pub(crate) bytes: u64,
    /// Files (inodes); no number is known of file systems that have no fixed one.
    pub(crate) files: Option<u64>,
}

impl Room {
    /// Why nothing is written though an error says that the disk is full, and what to do: some disks run out of inodes.
    #[must_use]
    pub(crate) fn remedy(self) -> &'static str {
        if self.files == Some(0) && self.bytes > 0 {
            "it has no inodes left, though it has space: remove files that are not needed (df -i), no matter how small"
        } else {
            "free some space"
        }
    }
}

/// A file as readers share it. It stays readable when it is renamed or removed. What was appended may be read before it
/// is synced.
pub trait ReadAt: Send + Sync {
    /// Reads from `offset` into `buffer`; answers how many bytes, 0 only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

/// One file of a [`Storage`].
pub trait LogFile: Send {
    /// Writes all of `bytes` at the end. After an error any part of them may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes contents and length survive a crash (`fdatasync`).
    fn sync(&mut self) -> io::Result<()>;

    /// Reads from `offset` into `buffer`; answers how many bytes, 0 only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// The same open file, for other threads to read.
    fn reader(&self) -> Arc<dyn ReadAt>;

    /// Cuts the file to `len` bytes.
    fn truncate(&mut self, len: u64) -> io::Result<()>;

    /// Which file it is, and how it is now.
    fn seen(&self) -> io::Result<Seen>;

    /// Length of the file now, bytes.
    fn len(&self) -> io::Result<u64> {
        Ok(self.seen()?.bytes)
    }

    /// Whether the file is empty now.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// A folder on a real disk. It is held open: when it is renamed and another takes its path, nothing is written there.
#[derive(Debug, Clone)]
pub struct Disk {
    folder: PathBuf,
    dir: Arc<File>,
    /// Where it notes how far files are synced, if it does.
    synced: Option<Arc<Synced>>,
}

impl Disk {
    /// The folder at `path`.
    ///
    /// # Errors
    /// Those of the system, also where it is no folder.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = files::SAFELY | OFlags::RDONLY | OFlags::DIRECTORY;
        let dir = Arc::new(rustix::fs::open(path, flags, Mode::empty())?.into());
        Ok(Self { folder: path.to_owned(), dir, synced: None })
    }

    /// The same, noting how far files are synced: see [`Synced`].
    #[must_use]
    pub(crate) fn noting_syncs(self) -> Self {
        let synced = Some(Arc::new(Synced::open(&self.folder)));
        Self { synced, ..self }
    }

    /// A file of this folder that was there before.
    fn opened(&self, name: &str, file: File) -> io::Result<DiskFile> {
        if let Some(synced) = &self.synced {
            let metadata = file.metadata()?;
            synced.opened(name, metadata.ino(), metadata.len());
        }
        Ok(DiskFile { file: Arc::new(file), synced: self.synced.clone() })
    }

    fn open_at(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let mode = Mode::from_raw_mode(files::FILE_MODE);
        match rustix::fs::openat(&self.dir, name, flags | files::SAFELY, mode) {
            Ok(file) => files::regular(file.into(), &name),
            Err(error) => Err(match rustix::fs::statat(&self.dir, name, AtFlags::empty()) {
                Ok(stat) => files::refused(stat.st_mode, &name, error.into()),
                Err(_) => error.into(),
            }),
        }
    }

    fn rename_to(&self, from: &str, to: &str) -> io::Result<()> {
        rustix::fs::renameat(&self.dir, from, &self.dir, to).map_err(|error| files::not_replaced(&to, error.into()))
    }
}

/// Whoever else writes into the file loses nothing by what is appended here.
const APPEND: OFlags = OFlags::RDWR.union(OFlags::APPEND);

impl Storage for Disk {
    type File = DiskFile;

    fn open_append(&self, name: &str) -> io::Result<DiskFile> {
        self.opened(name, self.open_at(name, APPEND)?)
    }

    fn open_read(&self, name: &str) -> io::Result<Arc<dyn ReadAt>> {
        Ok(self.open_at(name, OFlags::RDONLY).map(DiskFile::new)?.reader())
    }

    fn create(&self, name: &str) -> io::Result<DiskFile> {
        let file = self.open_at(name, APPEND | OFlags::CREATE | OFlags::EXCL)?;
        if let Some(synced) = &self.synced {
            synced.created(file.metadata()?.ino());
        }
        Ok(DiskFile { file: Arc::new(file), synced: self.synced.clone() })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        // Looking first is enough: the folder's lock keeps every other node out.
        if rustix::fs::statat(&self.dir, to, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.rename_to(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let file =
            self.synced.as_ref().and_then(|_| rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW).ok());
        rustix::fs::unlinkat(&self.dir, name, AtFlags::empty())?;
        if let Some((synced, file)) = self.synced.as_ref().zip(file) {
            synced.removed(file.st_ino);
        }
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.dir.sync_all()?;
        if let Some(synced) = &self.synced {
            synced.names_synced();
        }
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.dir)? {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn read_small(&self, name: &str, bytes_max: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open_at(name, OFlags::RDONLY)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    }

    fn write_small(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let new = format!("{name}.new");
        let mut file = self.open_at(&new, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        if let Some(synced) = &self.synced {
            synced.synced(file.metadata()?.ino(), bytes.len() as u64);
        }
        self.rename_to(&new, name)?;
        self.sync_dir()
    }

    fn look(&self, name: &str) -> io::Result<Option<Seen>> {
        match std::fs::metadata(self.folder.join(name)) {
            Ok(metadata) => Ok(Some(seen(&metadata))),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn room(&self) -> io::Result<Room> {
        let stat = rustix::fs::fstatvfs(&self.dir)?;
        let files = (stat.f_files > 0).then_some(stat.f_favail);
        Ok(Room { bytes: stat.f_bavail.saturating_mul(stat.f_frsize), files })
    }
}

fn seen(metadata: &std::fs::Metadata) -> Seen {
    let id = FileId { device: metadata.dev(), inode: metadata.ino() };
    Seen { id, links: metadata.nlink(), bytes: metadata.len() }
}

/// A file on a real disk.
#[derive(Debug)]
pub struct DiskFile {
    file: Arc<File>,
    synced: Option<Arc<Synced>>,
}

impl DiskFile {
    fn new(file: File) -> Self {
        Self { file: Arc::new(file), synced: None }
    }

    /// Opens any file for reading only: appending to it fails.
    pub(crate) fn open_read(path: &Path) -> io::Result<Self> {
        files::read(path).map(Self::new)
    }

    /// The open file itself.
    #[must_use]
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match FileExt::read_at(self, buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

impl LogFile for DiskFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        (&*self.file).write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        let Some(synced) = &self.synced else { return self.file.sync_data() };
        // What is appended from here on need not be in this sync.
        let before = self.file.metadata()?;
        self.file.sync_data()?;
        synced.synced(before.ino(), before.len());
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        ReadAt::read_at(&*self.file, buffer, offset)
    }

    fn reader(&self) -> Arc<dyn ReadAt> {
        Arc::clone(&self.file) as Arc<dyn ReadAt>
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        if let Some(synced) = &self.synced {
            synced.cut_to(self.file.metadata()?.ino(), len);
        }
        Ok(())
    }

    fn seen(&self) -> io::Result<Seen> {
        self.file.metadata().map(|metadata| seen(&metadata))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_does_what_the_trait_says() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let mut file = disk.create("a").unwrap();
        assert_eq!(disk.create("a").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        file.append(b"hola\nadios\n").unwrap();
        file.truncate(5).unwrap();
        file.append(b"x").unwrap();
        file.sync().unwrap();
        assert_eq!(disk.open_append("a").unwrap().len().unwrap(), 6);
        let mut buffer = [0; 4];
        assert_eq!(file.read_at(&mut buffer, 4).unwrap(), 2);
        assert_eq!(&buffer[..2], b"\nx");
        disk.write_small("b", b"1").unwrap();
        disk.write_small("b", b"22").unwrap();
        assert_eq!(disk.read_small("b", 2).unwrap(), b"22");
        assert_eq!(disk.read_small("b", 1).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(disk.rename("a", "b").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        let reader = file.reader();
        disk.rename("a", "c").unwrap();
        file.append(b"yz").unwrap();
        for reader in [reader, disk.open_read("c").unwrap()] {
            let mut buffer = [0; 9];
            assert_eq!(reader.read_at(&mut buffer, 5).unwrap(), 3);
            assert_eq!(&buffer[..3], b"xyz");
        }
        assert_eq!(disk.open_read("a").err().map(|error| error.kind()), Some(io::ErrorKind::NotFound));
        disk.sync_dir().unwrap();
        let mut names = disk.list().unwrap();
        names.sort();
        assert_eq!(names, ["b", "c"]);
        disk.remove("c").unwrap();
        assert_eq!(disk.remove("c").unwrap_err().kind(), io::ErrorKind::NotFound);
        let mut buffer = [0; 9];
        assert_eq!(file.read_at(&mut buffer, 5).unwrap(), 3, "it is read to the end by who has it open");
        assert!(disk.room().unwrap().bytes > 0);
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_seen_and_nothing_is_written_there() {
        let dir = tempfile::tempdir().unwrap();
        let (here, away) = (dir.path().join("data"), dir.path().join("away"));
        std::fs::create_dir(&here).unwrap();
        let disk = Disk::open(&here).unwrap();
        let mut file = disk.create("a").unwrap();
        file.append(b"hola\n").unwrap();
        assert_eq!(disk.look("a").unwrap(), Some(file.seen().unwrap()));
        assert_eq!(disk.look("b").unwrap(), None);
        std::fs::rename(&here, &away).unwrap();
        assert_eq!(disk.look("a").unwrap(), None);
        std::fs::create_dir(&here).unwrap();
        std::fs::write(here.join("a"), "hola\n").unwrap();
        let other = disk.look("a").unwrap().unwrap();
        assert!(other.id != file.seen().unwrap().id && (other.links, other.bytes) == (1, 5));
        disk.write_small("small", b"1").unwrap();
        disk.create("b").unwrap();
        disk.remove("a").unwrap();
        assert_eq!(file.seen().unwrap().links, 0);
        assert_eq!(std::fs::read_dir(&here).unwrap().count(), 1);
        let mut names = disk.list().unwrap();
        names.sort();
        assert_eq!(names, ["b", "small"]);
    }

    #[test]
    fn what_has_the_name_of_a_file_and_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        for name in ["a", "b.new"] {
            let mode = Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(&disk.dir, name, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        }
        for error in [disk.open_append("a").err(), disk.open_read("a").err(), disk.read_small("a", 9).err()] {
            assert_eq!(error.unwrap().to_string(), "a is a FIFO and no file; move it away");
        }
        let error = disk.write_small("b", b"x").unwrap_err().to_string();
        assert_eq!(error, "b.new is a FIFO and no file; move it away");
        assert!(Disk::open(&dir.path().join("a")).is_err());
    }

    #[test]
    fn a_disk_without_inodes_is_not_told_to_free_space() {
        let remedy = |bytes, files| Room { bytes, files }.remedy();
        assert!(remedy(1, Some(0)).contains("df -i"));
        for (bytes, files) in [(0, Some(0)), (0, None), (0, Some(9)), (5, None)] {
            assert_eq!(remedy(bytes, files), "free some space");
        }
    }
}
