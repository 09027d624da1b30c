//! What the log needs of a disk: a folder of append-only files, as a trait, and its implementation on a real disk.
//!
//! The trait is small so that [`simulated`](crate::data) can stand in for it and lose, tear and refuse whatever a real
//! disk may. Nothing here retries, decides or knows what a record is.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

    /// Bytes that may still be written to the disk of this folder.
    fn free_bytes(&self) -> io::Result<u64>;
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

    /// Length of the file now, bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file is empty now.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Whether an error says that the disk, or the quota of this user, is full.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A folder on a real disk.
#[derive(Debug, Clone)]
pub struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// The folder at `path`, which exists already.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { folder: path.to_owned() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.folder
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Storage for Disk {
    type File = DiskFile;

    fn open_append(&self, name: &str) -> io::Result<DiskFile> {
        OpenOptions::new().read(true).append(true).open(self.at(name)).map(DiskFile::new)
    }

    fn open_read(&self, name: &str) -> io::Result<Arc<dyn ReadAt>> {
        Ok(File::open(self.at(name)).map(DiskFile::new)?.reader())
    }

    fn create(&self, name: &str) -> io::Result<DiskFile> {
        OpenOptions::new().read(true).append(true).create_new(true).open(self.at(name)).map(DiskFile::new)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        // Looking first is enough: the folder's lock keeps every other node out.
        if self.at(to).symlink_metadata().is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        std::fs::rename(self.at(from), self.at(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.at(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn read_small(&self, name: &str, bytes_max: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.at(name))?.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    }

    fn write_small(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let new = self.at(&format!("{name}.new"));
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(new, self.at(name))?;
        self.sync_dir()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.folder)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// A file on a real disk.
#[derive(Debug)]
pub struct DiskFile(Arc<File>);

impl DiskFile {
    fn new(file: File) -> Self {
        Self(Arc::new(file))
    }

    /// Opens any file for reading only: appending to it fails.
    pub fn open_read(path: &Path) -> io::Result<Self> {
        File::open(path).map(Self::new)
    }

    /// The open file itself.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.0
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
        (&*self.0).write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        ReadAt::read_at(&*self.0, buffer, offset)
    }

    fn reader(&self) -> Arc<dyn ReadAt> {
        Arc::clone(&self.0) as Arc<dyn ReadAt>
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.metadata().map(|metadata| metadata.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_does_what_the_trait_says() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::new(dir.path());
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
        assert!(disk.free_bytes().unwrap() > 0);
    }
}
