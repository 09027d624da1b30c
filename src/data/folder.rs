//! The folder of a data node: its lock, which keeps a second node out, and its identity, which lies with the data.
//!
//! A wiped folder comes back as a new node, data without an identity is never adopted silently, and an identity whose
//! data is gone is not served under. What is in the files of records is the log's business.

use super::segments::{self, CURRENT};
use super::storage::{Disk, LogFile, Storage};
use super::witness;
use crate::files;
use crate::limits::{CLUSTER_NAME_BYTES_MAX, NODE_NAME_BYTES_MAX, SEGMENTS_BYTES_MAX};
use crate::lock::{self, Lock, Role};
use crate::wire::id::ClientId;
use crate::wire::peer::is_name;
use std::io;
use std::path::{Path, PathBuf};

/// The file that holds the identity: `acopio-data 1 <10 characters>`, and the cluster's name once there is one.
pub(crate) const IDENTITY: &str = "node.id";

/// First words of the identity; the number is the version of the folder.
const FORMAT: &str = "acopio-data 1 ";

/// Greatest lock or identity file that is read, bytes.
const SMALL_BYTES_MAX: usize = NODE_NAME_BYTES_MAX + CLUSTER_NAME_BYTES_MAX + 128;

/// What to do about an identity whose records are gone.
pub(super) const LOST_REMEDY: &str = "restore it from a backup, or start once with --new-id: the node then begins anew under \
                           another identity with what is there, and what it lost is copied from other nodes where \
                           they have it";

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    /// It cannot be made, read or written.
    #[error("cannot use the data folder {}: {what}: {source}; {}", path.display(), remedy(source))]
    Disk {
        /// The folder.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Another node runs on it.
    #[error(
        "the data folder {} is in use by another node ({holder}); stop that one, or give this one a folder of its own",
        path.display()
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// What the other node wrote into the lock: `pid <number> name <node>`.
        holder: String,
    },
    /// It holds records but no identity.
    #[error(
        "the data folder {} holds records but no {IDENTITY}; put the {IDENTITY} of these records back, or start once \
         with --new-id to give them a new one",
        path.display()
    )]
    NoIdentity {
        /// The folder.
        path: PathBuf,
    },
    /// Its records were moved away, and its node left the cluster.
    #[error(
        "the data folder {} was drained: other nodes have its records, and nobody counts on it any more; start with an \
         empty folder, or start once with --new-id to join as a new node that has these records already",
        path.display()
    )]
    Drained {
        /// The folder.
        path: PathBuf,
    },
    /// It has an identity and no file of records at all.
    #[error(
        "the data folder {} has a {IDENTITY} but neither data.txt nor a sealed file: its log is lost; {LOST_REMEDY}",
        path.display()
    )]
    LogLost {
        /// The folder.
        path: PathBuf,
    },
    /// Sealed files are not where the node left them.
    #[error(
        "{} of the data folder {} {} gone, though segments.txt lists {}; {LOST_REMEDY}",
        named(files), path.display(), if files.len() == 1 { "is" } else { "are" },
        if files.len() == 1 { "it" } else { "them" }
    )]
    SegmentsLost {
        /// The folder.
        path: PathBuf,
        /// The files.
        files: Vec<String>,
    },
    /// Its identity is not one that this version reads.
    #[error(
        "{} says {found:?}, which this version does not know; use the version of acopio that wrote it, or restore the \
         file",
        path.join(IDENTITY).display()
    )]
    UnknownIdentity {
        /// The folder.
        path: PathBuf,
        /// The beginning of what the file says.
        found: String,
    },
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "give it to the user that runs the node, or name another folder",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => "name a folder, not a file",
        io::ErrorKind::ReadOnlyFilesystem => "mount the disk writable, or name another folder",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space, or inodes (df -i), or name another folder"
        }
        _ => "look at the disk, or name another folder",
    }
}

/// The first of these files, and how many more there are.
fn named(files: &[String]) -> String {
    match files {
        [] => "a file".to_owned(),
        [one] => one.clone(),
        [first, more @ ..] => format!("{first} and {} more files", more.len()),
    }
}

/// What `node.id` says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    node: ClientId,
    /// Empty until the first head named its cluster.
    cluster: String,
    /// It left the cluster, which has its records.
    drained: bool,
}

/// What stands behind the cluster of an identity that left it.
const DRAINED: &str = "drained";

impl Identity {
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let words = text.strip_prefix(FORMAT)?.strip_suffix('\n')?;
        let mut words = words.split(' ');
        let node = ClientId::from_text(words.next()?.as_bytes())?;
        let cluster = words.next();
        if cluster.is_some_and(|cluster| !is_name(cluster, CLUSTER_NAME_BYTES_MAX)) {
            return None;
        }
        let drained = match words.next() {
            None => false,
            Some(DRAINED) => true,
            Some(_) => return None,
        };
        let cluster = cluster.unwrap_or_default().to_owned();
        words.next().is_none().then_some(Self { node, cluster, drained })
    }

    fn write(&self, disk: &Disk) -> io::Result<()> {
        let space = if self.cluster.is_empty() { "" } else { " " };
        let drained = if self.drained { format!(" {DRAINED}") } else { String::new() };
        disk.write_small(IDENTITY, format!("{FORMAT}{}{space}{}{drained}\n", self.node, self.cluster).as_bytes())
    }
}

/// A folder that belongs to this process until it is dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    disk: Disk,
    identity: Identity,
    _lock: Lock,
}

impl Folder {
    /// Opens or makes the folder at `path` for the node called `name`. A new one gets the low 60 bits of `random` as
    /// its node id.
    ///
    /// # Errors
    /// It can't be used, another node runs on it, or it is not whole: its records or its identity are missing.
    pub(crate) fn open(path: &Path, name: &str, random: u64) -> Result<Self, FolderError> {
        Self::open_as(path, name, random, false)
    }

    /// As [`open`](Self::open), but gives the folder a new identity, whatever it had and whatever it lacks. It keeps
    /// its cluster and the records that are there.
    ///
    /// # Errors
    /// It can't be used, or another node runs on it.
    pub(crate) fn open_with_new_id(path: &Path, name: &str, random: u64) -> Result<Self, FolderError> {
        Self::open_as(path, name, random, true)
    }

    fn open_as(path: &Path, name: &str, random: u64, new_id: bool) -> Result<Self, FolderError> {
        let failed = |what| move |source| FolderError::Disk { path: path.to_owned(), what, source };
        files::create_folder(path).map_err(failed("making it"))?;
        let lock = lock(path, name)?;
        let disk = Disk::open(path).map_err(failed("opening it"))?;
        let known = read_identity(path, &disk)?;
        let names = disk.list().map_err(failed("listing it"))?;
        let cluster = match known {
            Some(Identity { drained: true, .. }) if !new_id => {
                return Err(FolderError::Drained { path: path.to_owned() });
            }
            Some(identity) if !new_id => {
                whole(path, &disk, &names)?;
                // Left where a new identity was given and the power went.
                witness::disown(&disk, identity.node).map_err(failed("looking at end.txt"))?;
                return Ok(Self { disk, identity, _lock: lock });
            }
            Some(identity) => identity.cluster,
            None if !new_id && holds_records(&disk, &names).map_err(failed("looking at data.txt"))? => {
                return Err(FolderError::NoIdentity { path: path.to_owned() });
            }
            None => String::new(),
        };
        // Before the identity: one without files of records is one that lost them.
        if !names.iter().any(|name| segments::is_data(name)) {
            disk.create(CURRENT).map_err(failed("making data.txt"))?;
            disk.sync_dir().map_err(failed("syncing it"))?;
        }
        let identity = Identity { node: ClientId::from_random(random), cluster, drained: false };
        identity.write(&disk).map_err(failed("writing node.id"))?;
        // After it: the old identity must not be served under without what it had.
        witness::disown(&disk, identity.node).map_err(failed("removing end.txt"))?;
        Ok(Self { disk, identity, _lock: lock })
    }

    /// The node's identity, below 2^60.
    #[must_use]
    pub(crate) fn node_id(&self) -> u64 {
        self.identity.node.0
    }

    /// Name of the cluster that the records belong to; empty if no head has named it yet.
    #[must_use]
    pub(crate) fn cluster(&self) -> &str {
        &self.identity.cluster
    }

    /// Writes down the cluster that the records belong to; it survives a crash once this returns.
    ///
    /// # Errors
    /// The disk refused it.
    pub(crate) fn join(&self, cluster: &str) -> io::Result<()> {
        Identity { cluster: cluster.to_owned(), ..self.identity.clone() }.write(&self.disk)
    }

    /// Writes down that the node was drained and let go; it survives a crash once this returns. The folder is not served
    /// again under this identity.
    ///
    /// # Errors
    /// The disk refused it.
    pub(crate) fn leave(&self, cluster: &str) -> io::Result<()> {
        Identity { cluster: cluster.to_owned(), drained: true, ..self.identity.clone() }.write(&self.disk)
    }

    /// The disk below it, for the log.
    #[must_use]
    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }
}

/// Whether there is anything that a new identity would adopt: an empty `data.txt` is what a crash in a node's first
/// moment leaves.
fn holds_records(disk: &Disk, names: &[String]) -> io::Result<bool> {
    if names.iter().any(|name| segments::sealed_id(name).is_some()) {
        return Ok(true);
    }
    Ok(names.iter().any(|name| name == CURRENT) && !disk.open_append(CURRENT)?.is_empty()?)
}

/// Refuses a folder whose files of records are not all there, as far as can be told: a sealed file is there before
/// `segments.txt` lists it, and goes after it was taken off that list.
fn whole(path: &Path, disk: &Disk, names: &[String]) -> Result<(), FolderError> {
    if !names.iter().any(|name| segments::is_data(name)) {
        return Err(FolderError::LogLost { path: path.to_owned() });
    }
    let listed = match disk.read_small(segments::INDEX, SEGMENTS_BYTES_MAX) {
        Ok(text) => segments::parse_index(&text).0,
        // The log makes it anew, and says what it can't read.
        Err(_) => return Ok(()),
    };
    let mut files: Vec<String> =
        listed.into_iter().map(|segment| segment.file).filter(|file| !names.contains(file)).collect();
    files.sort_unstable();
    files.dedup();
    if files.is_empty() { Ok(()) } else { Err(FolderError::SegmentsLost { path: path.to_owned(), files }) }
}

fn lock(path: &Path, name: &str) -> Result<Lock, FolderError> {
    Lock::take(path, Role::Data, name).map_err(|error| match error {
        lock::Error::InUse { path, holder } => FolderError::InUse { path, holder },
        lock::Error::Disk { path, source, .. } => FolderError::Disk { path, what: "locking its file lock", source },
    })
}

/// The node that runs on a folder, as it wrote itself into the lock; `None` if none does. Leaves no lock behind.
pub(crate) fn running(path: &Path) -> io::Result<Option<String>> {
    lock::held(path, Role::Data)
}

fn read_identity(path: &Path, disk: &Disk) -> Result<Option<Identity>, FolderError> {
    let unknown = |bytes: &[u8]| FolderError::UnknownIdentity {
        path: path.to_owned(),
        found: String::from_utf8_lossy(bytes).chars().take(64).collect(),
    };
    match disk.read_small(IDENTITY, SMALL_BYTES_MAX) {
        Ok(bytes) => Identity::from_bytes(&bytes).map(Some).ok_or_else(|| unknown(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Err(unknown(b"too much")),
        Err(source) => Err(FolderError::Disk { path: path.to_owned(), what: "reading node.id", source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_stays_with_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let first = Folder::open(&path, "uno", u64::MAX).unwrap();
        assert_eq!(first.node_id(), (1 << 60) - 1);
        assert_eq!(std::fs::read_to_string(path.join(IDENTITY)).unwrap(), "acopio-data 1 zzzzzzzzzz\n");
        let error = Folder::open(&path, "dos", 2).unwrap_err().to_string();
        assert!(error.contains(&format!("pid {} name uno", std::process::id())), "{error}");
        assert!(running(&path).unwrap().unwrap().ends_with("name uno"));
        drop(first);
        assert_eq!(running(&path).unwrap(), None);
        let again = Folder::open(&path, "dos", 2).unwrap();
        assert_eq!(again.node_id(), (1 << 60) - 1);
    }

    #[test]
    fn records_without_an_identity_are_adopted_only_on_demand() {
        for (name, text) in [("data.txt", "x"), ("data-1795234260----0----6.txt", "")] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(name), text).unwrap();
            let error = Folder::open(dir.path(), "uno", 1).unwrap_err();
            assert!(matches!(error, FolderError::NoIdentity { .. }), "{error}");
            assert_eq!(Folder::open_with_new_id(dir.path(), "uno", 1).unwrap().node_id(), 1);
            assert_eq!(Folder::open(dir.path(), "uno", 2).unwrap().node_id(), 1);
            assert_eq!(std::fs::read_to_string(dir.path().join(name)).unwrap(), text);
        }
    }

    #[test]
    fn a_first_start_that_was_cut_short_is_a_first_start() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("data.txt"), "").unwrap();
        let folder = Folder::open(dir.path(), "uno", 1).unwrap();
        assert!(folder.cluster().is_empty());
    }

    #[test]
    fn an_identity_whose_log_is_lost_is_not_served_under() {
        let dir = tempfile::tempdir().unwrap();
        drop(Folder::open(dir.path(), "uno", 1).unwrap());
        std::fs::remove_file(dir.path().join("data.txt")).unwrap();
        let error = Folder::open(dir.path(), "uno", 2).unwrap_err();
        assert!(matches!(error, FolderError::LogLost { .. }), "{error}");
        assert!(error.to_string().contains("neither data.txt nor a sealed file"), "{error}");
        let anew = Folder::open_with_new_id(dir.path(), "uno", 2).unwrap();
        assert_eq!(anew.node_id(), 2);
    }

    #[test]
    fn a_sealed_file_that_is_gone_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let id: crate::wire::id::RecordId = "1795234260----0----6".parse().unwrap();
        drop(Folder::open(dir.path(), "uno", 1).unwrap());
        let mut lines = String::new();
        for copy in 1..=3 {
            let file = segments::sealed_name(id, copy);
            std::fs::write(dir.path().join(&file), "").unwrap();
            lines += &segments::Segment { file, records: 1, bytes: 1, least: id, greatest: id }.to_line();
        }
        std::fs::write(dir.path().join("segments.txt"), lines + "half a line").unwrap();
        drop(Folder::open(dir.path(), "uno", 2).unwrap());
        std::fs::remove_file(dir.path().join(segments::sealed_name(id, 2))).unwrap();
        let error = Folder::open(dir.path(), "uno", 2).unwrap_err().to_string();
        assert!(error.starts_with("data-1795234260----0----6.2.txt of the data folder "), "{error}");
        assert!(error.contains(" is gone, though segments.txt lists it; restore it"), "{error}");
        std::fs::remove_file(dir.path().join(segments::sealed_name(id, 3))).unwrap();
        let error = Folder::open(dir.path(), "uno", 2).unwrap_err().to_string();
        assert!(error.contains("and 1 more files of the data folder"), "{error}");
        assert_eq!(Folder::open_with_new_id(dir.path(), "uno", 2).unwrap().node_id(), 2);
    }

    #[test]
    fn the_cluster_stays_with_the_folder_and_with_a_new_identity() {
        let dir = tempfile::tempdir().unwrap();
        Folder::open(dir.path(), "uno", 1).unwrap().join("casa").unwrap();
        let again = Folder::open(dir.path(), "uno", 2).unwrap();
        assert_eq!((again.node_id(), again.cluster()), (1, "casa"));
        drop(again);
        let anew = Folder::open_with_new_id(dir.path(), "uno", 2).unwrap();
        assert_eq!((anew.node_id(), anew.cluster()), (2, "casa"));
        let text = std::fs::read_to_string(dir.path().join(IDENTITY)).unwrap();
        assert_eq!(text, "acopio-data 1 ---------1 casa\n");
    }

    #[test]
    fn a_drained_folder_is_served_only_under_another_identity() {
        let dir = tempfile::tempdir().unwrap();
        Folder::open(dir.path(), "uno", 1).unwrap().leave("casa").unwrap();
        let text = std::fs::read_to_string(dir.path().join(IDENTITY)).unwrap();
        assert_eq!(text, "acopio-data 1 ---------0 casa drained\n");
        let error = Folder::open(dir.path(), "uno", 2).unwrap_err();
        assert!(matches!(error, FolderError::Drained { .. }), "{error}");
        let anew = Folder::open_with_new_id(dir.path(), "uno", 2).unwrap();
        assert_eq!((anew.node_id(), anew.cluster()), (2, "casa"));
        drop(anew);
        assert_eq!(Folder::open(dir.path(), "uno", 3).unwrap().node_id(), 2);
    }

    #[test]
    fn an_unknown_version_and_a_file_are_refused_with_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        for text in [
            "acopio-data 2 zzzzzzzzzz\n",
            "acopio-data 1 zzzzzzzzzz",
            "",
            "acopio-data 1 z\n",
            "acopio-data 1 zzzzzzzzzz a b\n",
        ] {
            std::fs::write(dir.path().join(IDENTITY), text).unwrap();
            let error = Folder::open(dir.path(), "uno", 1).unwrap_err();
            assert!(matches!(error, FolderError::UnknownIdentity { .. }), "{error}");
        }
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = Folder::open(&file, "uno", 1).unwrap_err().to_string();
        assert!(error.contains("file") && error.ends_with("name a folder, not a file"), "{error}");
    }
}
