//! Opening files where anybody may have put something else in their place, and making files that are not for everybody.
//!
//! A FIFO, a socket, a device or a folder under the name of a file is refused by name, and never waited for. What this
//! program makes is readable for its user and its group alone, a narrower umask makes it narrower. What is there already
//! keeps its mode: whoever gave it one meant it.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{FileType, OFlags};

/// Mode of a file that is made.
pub(crate) const FILE_MODE: u32 = 0o640;

/// Mode of a folder that is made.
pub(crate) const FOLDER_MODE: u32 = 0o750;

/// Flags under which opening something that is no file does not wait for anybody.
pub(crate) const SAFELY: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// Options that wait for nobody, and make files with [`FILE_MODE`].
pub(crate) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(FILE_MODE).custom_flags(SAFELY.bits().cast_signed());
    options
}

/// Opens a file with [`options`] of which some were chosen.
///
/// # Errors
/// Those of the system; `InvalidInput` for anything that is no file.
pub(crate) fn open(options: &OpenOptions, path: &Path) -> io::Result<File> {
    match options.open(path) {
        Ok(file) => regular(file, &path.display()),
        // A FIFO that nobody reads, a socket and a folder are refused by the system, in words that do not help.
        Err(error) => Err(match std::fs::metadata(path) {
            Ok(metadata) => refused(metadata.mode(), &path.display(), error),
            Err(_) => error,
        }),
    }
}

/// Opens a file that is there for reading.
///
/// # Errors
/// As [`open`].
pub(crate) fn read(path: &Path) -> io::Result<File> {
    open(options().read(true), path)
}

/// Opens a file for writing, empty; makes it if it is missing.
///
/// # Errors
/// As [`open`].
pub(crate) fn create(path: &Path) -> io::Result<File> {
    open(options().write(true).create(true).truncate(true), path)
}

/// The file, if it is one.
///
/// # Errors
/// `InvalidInput`, and those of the system.
pub(crate) fn regular(file: File, name: &dyn fmt::Display) -> io::Result<File> {
    kind(file.metadata()?.mode()).map_or(Ok(file), |kind| Err(no_file(kind, name)))
}

/// Why something of this mode could not be opened: what it is, or what the system said of a file.
pub(crate) fn refused(mode: u32, name: &dyn fmt::Display, said: io::Error) -> io::Error {
    kind(mode).map_or(said, |kind| no_file(kind, name))
}

/// Why a file could not take the place of what has its name.
pub(crate) fn not_replaced(name: &dyn fmt::Display, said: io::Error) -> io::Error {
    if said.kind() == io::ErrorKind::IsADirectory { no_file("a folder", name) } else { said }
}

/// What something is, if it is no file.
fn kind(mode: u32) -> Option<&'static str> {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => None,
        FileType::Fifo => Some("a FIFO"),
        FileType::Socket => Some("a socket"),
        FileType::Directory => Some("a folder"),
        _ => Some("a device"),
    }
}

fn no_file(kind: &str, name: &dyn fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is {kind} and no file; move it away"))
}

/// Mode of a file with secrets, or with the rules of who is let in.
pub(crate) const SECRET_MODE: u32 = 0o600;

/// The bits of a mode that let everybody read, change or run a file.
const OTHERS: u32 = 0o007;

/// Why a file with a secret was not read.
#[derive(Debug)]
pub(crate) enum Unread {
    /// The system's word.
    Io(io::Error),
    /// Everybody can read or change it: its mode.
    Open(u32),
}

/// What is in a file with a secret, so many bytes of it and one more at most: who is told of one too many says that it is too long.
///
/// # Errors
/// It can't be read, or is open to everybody.
pub(crate) fn read_secret(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Unread> {
    let file = read(path).map_err(Unread::Io)?;
    let mode = file.metadata().map_err(Unread::Io)?.mode() & 0o777;
    if mode & OTHERS != 0 {
        return Err(Unread::Open(mode));
    }
    let mut text = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut text).map_err(Unread::Io)?;
    Ok(text)
}

/// Writes a file for its user alone, whole or not at all, in place of what has its name.
///
/// # Errors
/// Those of the system: what was there is still there.
pub(crate) fn replace_secret(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!(".{name}-{}", std::process::id()));
    let written = make_secret(&aside, text).and_then(|()| fs::rename(&aside, path)).and_then(|()| sync_folder(path));
    if written.is_err() {
        drop(fs::remove_file(&aside));
    }
    written
}

/// Makes a file for its user alone that is not there yet.
///
/// # Errors
/// Those of the system: it is there, or a part of it is.
pub(crate) fn make_secret(path: &Path, text: &str) -> io::Result<()> {
    let mut file = options().write(true).create_new(true).mode(SECRET_MODE).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Has the name of a file that was made survive a loss of power.
///
/// # Errors
/// Those of the system.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Whether an error says that the disk, or the quota of this user, is full.
#[must_use]
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Makes a folder and those above it, where they are missing, with [`FOLDER_MODE`].
///
/// # Errors
/// Those of the system.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)
}

/// What is told at the start of a folder in which every user of this machine gets in; none if it is not so. A folder that
/// was there keeps its mode.
#[must_use]
pub(crate) fn open_to_everybody(folder: &Path) -> Option<String> {
    // One that can't be looked at is told by who opens it.
    let mode = fs::metadata(folder).ok()?.mode() & 0o777;
    let shown = folder.display();
    (mode & OTHERS != 0).then(|| {
        format!("the folder {shown} is open to every user of this machine (mode {mode:03o}); chmod o-rwx {shown}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixListener;

    #[test]
    fn what_is_no_file_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (fifo, socket, folder) = (dir.path().join("fifo"), dir.path().join("socket"), dir.path().join("folder"));
        let mode = rustix::fs::Mode::from_raw_mode(FILE_MODE);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let _socket = UnixListener::bind(&socket).unwrap();
        create_folder(&folder).unwrap();
        for (path, is) in
            [(&fifo, "a FIFO"), (&socket, "a socket"), (&folder, "a folder"), (&"/dev/null".into(), "a device")]
        {
            for opened in [read(path), create(path), open(options().read(true).append(true), path)] {
                let error = opened.unwrap_err();
                assert_eq!(error.to_string(), format!("{} is {is} and no file; move it away", path.display()));
            }
        }
    }

    #[test]
    fn what_is_made_is_not_for_everybody() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, file) = (dir.path().join("a/b"), dir.path().join("a/b/c"));
        create_folder(&folder).unwrap();
        create(&file).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder) & 0o027, mode(&file) & 0o137), (0, 0));
        assert_eq!((mode(folder.parent().unwrap()), mode(&file)), (mode(&folder), mode(&file)));
        for (given, told) in [(0o750, false), (0o700, false), (0o751, true), (0o755, true), (0o777, true)] {
            std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(given)).unwrap();
            let said = open_to_everybody(&folder);
            assert_eq!(said.is_some_and(|said| said.contains(&format!("(mode {given:o}); chmod o-rwx"))), told);
        }
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        create(&file).unwrap();
        assert_eq!(mode(&file), 0o644, "whoever gave it one meant it");
    }
}
