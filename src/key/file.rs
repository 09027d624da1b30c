//! Files with keys: a line that says what it is, and a line with the key. They are for their user alone.
//!
//! Whatever is wrong with one is told with its path and what to do, and never with what stands in it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ring::rand::{SecureRandom as _, SystemRandom};

use super::record::RecordKey;
use super::{ClusterKey, KEY_BYTES, PeerKey};
use crate::files::{self, Unread};
use crate::limits;
use crate::wire::peer::is_name;
use crate::wire::proof::Holder;

/// The cluster's key beside a head's logs.
pub(crate) const CLUSTER_FILE: &str = "cluster.key";

/// A data node's key in its folder.
pub(crate) const NODE_FILE: &str = "node.key";

/// First word of the line with the cluster's key.
const CLUSTER: &str = "cluster";

/// First word of a line with a key that counts beside the cluster's, while keys are changed.
const ALSO: &str = "also";

/// First word of a line with a key of the cluster of before.
const FORMER: &str = "former";

/// First word of the line with a data node's key; its name follows.
const NODE: &str = "node";

/// Why a key is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read or written.
    #[error("cannot {doing} the key file {}: {source}; {}", path.display(), remedy(source))]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Everybody can read or change it.
    #[error("the key file {} is open to everybody (mode {mode:o}); chmod 600 it, and make another key if somebody may have read it", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// There is nothing in it.
    #[error("the key file {} is empty; copy it again, or remove it and make a key with 'acopio key new'", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Its line is no key.
    #[error("the key file {} has no key: {flaw}; 'acopio key new' and 'acopio key node' make key files", path.display())]
    Flawed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        flaw: &'static str,
    },
    /// A data node's key where the cluster's is needed.
    #[error("the key file {} is that of dataNode {name}, and the cluster's is needed here; it is in {CLUSTER_FILE} beside a head's logs", path.display())]
    NotCluster {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        name: String,
    },
    /// Another data node's key.
    #[error("the key file {} is that of dataNode {theirs} and this one is {ours}; give it a key of its own with 'acopio key node {ours}', or --name {theirs}", path.display())]
    OtherNode {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        theirs: String,
        /// Who reads it.
        ours: String,
    },
    /// There is a file already.
    #[error("{} is there already; a key that is replaced lets nobody in any more: remove it first if that is meant", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes for a key; start acopio again later")]
    Random,
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "name one that is there, or make one with 'acopio key new'",
        io::ErrorKind::PermissionDenied => "run acopio as the user that it belongs to",
        io::ErrorKind::InvalidInput => "a key file is a plain file",
        _ => "look at its folder and its disk",
    }
}

/// The keys of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    /// The one with which records are marked.
    pub(crate) current: ClusterKey,
    /// Others that count as much, while keys are changed.
    pub(crate) also: Vec<ClusterKey>,
    /// Those of before: by them records are believed that were taken then, and nobody is let in.
    pub(crate) former: Vec<ClusterKey>,
}

impl Keys {
    /// With none of before.
    pub(crate) const fn of(current: ClusterKey) -> Self {
        Self { current, also: Vec::new(), former: Vec::new() }
    }

    /// All keys by which records are believed.
    pub(crate) fn records(&self) -> impl Iterator<Item = RecordKey> {
        std::iter::once(&self.current).chain(&self.also).chain(&self.former).map(ClusterKey::records)
    }

    /// All keys by which somebody is let in.
    pub(crate) fn proofs(&self) -> impl Iterator<Item = &ClusterKey> {
        std::iter::once(&self.current).chain(&self.also)
    }
}

/// What a data node proves its right with. One that is in a file is read anew each time that it is needed, so that the node need
/// not be started again for another one.
#[derive(Clone, Debug)]
pub(crate) struct NodeKey {
    last: Arc<Mutex<PeerKey>>,
    /// The file, and the node's name.
    from: Option<(PathBuf, String)>,
}

impl NodeKey {
    /// That stays.
    #[cfg(feature = "simulation")]
    pub(crate) fn fixed(key: PeerKey) -> Self {
        Self { last: Arc::new(Mutex::new(key)), from: None }
    }

    /// Of this node, from this file.
    ///
    /// # Errors
    /// As [`KeyFile::read_for_node`].
    pub(crate) fn in_file(path: &Path, name: &str) -> Result<Self, Error> {
        let from = Some((path.to_owned(), name.to_owned()));
        Ok(Self { last: Arc::new(Mutex::new(KeyFile::read_for_node(path, name)?)), from })
    }

    /// The one that counts now; the last one, if the file can't be read.
    pub(crate) fn now(&self) -> PeerKey {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((path, name)) = &self.from {
            match KeyFile::read_for_node(path, name) {
                Ok(key) => *last = key,
                Err(error) => tracing::warn!("{error}; the key of before counts"),
            }
        }
        last.clone()
    }
}

/// What a key file has.
#[derive(Clone, Debug)]
pub(crate) enum KeyFile {
    /// The cluster's keys.
    Cluster(Keys),
    /// That of the data node with this name.
    Node(String, PeerKey),
}

impl KeyFile {
    /// Reads a key file that is there.
    ///
    /// # Errors
    /// It is not there, is open to everybody, or has no key.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let text = files::read_secret(path, limits::CLUSTER_KEY_FILE_BYTES_MAX).map_err(|unread| match unread {
            Unread::Io(source) => Error::Io { doing: "read", path: path.to_owned(), source },
            Unread::Open(mode) => Error::Open { path: path.to_owned(), mode },
        })?;
        if text.trim_ascii().is_empty() {
            return Err(Error::Empty { path: path.to_owned() });
        }
        parse(&text).map_err(|flaw| Error::Flawed { path: path.to_owned(), flaw })
    }

    /// The cluster's keys in this file.
    ///
    /// # Errors
    /// As [`KeyFile::read`], or it is a data node's.
    pub(crate) fn read_keys(path: &Path) -> Result<Keys, Error> {
        match Self::read(path)? {
            Self::Cluster(keys) => Ok(keys),
            Self::Node(name, _) => Err(Error::NotCluster { path: path.to_owned(), name }),
        }
    }

    /// The cluster's key in this file.
    ///
    /// # Errors
    /// As [`KeyFile::read`], or it is a data node's.
    pub(crate) fn read_cluster(path: &Path) -> Result<ClusterKey, Error> {
        Self::read_keys(path).map(|keys| keys.current)
    }

    /// What the data node of this name proves its right with: its own key, or the cluster's.
    ///
    /// # Errors
    /// As [`KeyFile::read`], or it is another node's.
    pub(crate) fn read_for_node(path: &Path, ours: &str) -> Result<PeerKey, Error> {
        match Self::read(path)? {
            Self::Cluster(keys) => Ok(keys.current.holder()),
            Self::Node(name, key) if name == ours => Ok(key),
            Self::Node(theirs, _) => Err(Error::OtherNode { path: path.to_owned(), theirs, ours: ours.to_owned() }),
        }
    }

    /// The text of the file.
    #[must_use]
    pub(crate) fn to_text(&self) -> String {
        let hex = |bytes: &[u8; KEY_BYTES]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        match self {
            Self::Cluster(Keys { current, also, former }) => {
                let lines = |word, keys: &[ClusterKey]| -> String {
                    keys.iter().map(|key| format!("{word} {}\n", hex(&key.0))).collect()
                };
                let former = lines(ALSO, also) + &lines(FORMER, former);
                format!(
                    "# The key of an acopio cluster: who has it is let in as a head or dataNode, and may drain. Keep it secret.\n\
                     {CLUSTER} {}\n{former}",
                    hex(&current.0)
                )
            }
            Self::Node(name, key) => format!(
                "# The key of dataNode {name} of an acopio cluster, for that name alone. Keep it secret.\n\
                 {NODE} {name} {}\n",
                hex(key.bytes())
            ),
        }
    }
}

/// A key file's contents; what is wrong with them is told without them.
fn parse(text: &[u8]) -> Result<KeyFile, &'static str> {
    if text.len() as u64 > limits::CLUSTER_KEY_FILE_BYTES_MAX {
        return Err("it is too long for one");
    }
    let text = std::str::from_utf8(text).map_err(|_| "it is no text")?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let first = lines.next().ok_or("there is no line beside remarks")?;
    let words: Vec<&str> = first.split_whitespace().collect();
    match words[..] {
        [CLUSTER, hex] => {
            let current = ClusterKey(bytes(hex)?);
            let mut keys = Keys::of(current);
            for line in lines {
                match line.split_whitespace().collect::<Vec<_>>()[..] {
                    [ALSO, hex] => keys.also.push(ClusterKey(bytes(hex)?)),
                    [FORMER, hex] => keys.former.push(ClusterKey(bytes(hex)?)),
                    _ => return Err("a line behind the first says neither 'also KEY' nor 'former KEY'"),
                }
            }
            if keys.also.len() + keys.former.len() > limits::FORMER_KEYS_MAX {
                return Err("it has too many lines 'also KEY' and 'former KEY'");
            }
            Ok(KeyFile::Cluster(keys))
        }
        [NODE, name, hex] if is_name(name, limits::NODE_NAME_BYTES_MAX) => {
            let key = PeerKey { holder: Holder::Node, bytes: bytes(hex)? };
            lines.next().map_or(Ok(()), |_| Err("a line stands behind the one with the key"))?;
            Ok(KeyFile::Node(name.to_owned(), key))
        }
        _ => Err("its first line does not say 'cluster KEY' or 'node NAME KEY'"),
    }
}

fn bytes(hex: &str) -> Result<[u8; KEY_BYTES], &'static str> {
    const NO_KEY: &str = "what stands for the key is not 64 digits of hex";
    let mut key = [0; KEY_BYTES];
    let pairs = hex.as_bytes().chunks_exact(2);
    if pairs.len() != KEY_BYTES || hex.len() != 2 * KEY_BYTES {
        return Err(NO_KEY);
    }
    for (byte, pair) in key.iter_mut().zip(pairs) {
        let digits = std::str::from_utf8(pair).ok().filter(|digits| digits.bytes().all(|c| c.is_ascii_hexdigit()));
        *byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).ok_or(NO_KEY)?;
    }
    Ok(key)
}

/// Another cluster's key.
///
/// # Errors
/// The system gives no random bytes.
pub(crate) fn random() -> Result<ClusterKey, Error> {
    let mut key = [0; KEY_BYTES];
    SystemRandom::new().fill(&mut key).map_err(|_| Error::Random)?;
    Ok(ClusterKey(key))
}

/// Writes a key file that is not there yet.
///
/// # Errors
/// It is there, or can't be written: then it is not there.
pub(crate) fn write_new(path: &Path, key: &KeyFile) -> Result<(), Error> {
    files::make_secret(path, &key.to_text()).and_then(|()| files::sync_folder(path)).map_err(|source| {
        match source.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists { path: path.to_owned() },
            _ => {
                // The half of a key is none.
                drop(fs::remove_file(path));
                Error::Io { doing: "write", path: path.to_owned(), source }
            }
        }
    })
}

/// Writes a key file, whole or not at all, in place of one that has another key.
///
/// # Errors
/// It can't be written.
pub(crate) fn write(path: &Path, key: &KeyFile) -> Result<(), Error> {
    if files::read(path).and_then(io::read_to_string).is_ok_and(|text| text == key.to_text()) {
        return Ok(());
    }
    files::replace_secret(path, &key.to_text()).map_err(|source| Error::Io {
        doing: "write",
        path: path.to_owned(),
        source,
    })
}

/// The key that lies there, or one that is made there now; and whether it was made.
///
/// # Errors
/// It can't be read, or made.
pub(crate) fn read_or_make(path: &Path) -> Result<(Keys, bool), Error> {
    match KeyFile::read_keys(path) {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        // Nobody has a key that was not written before the power went.
        Err(Error::Empty { .. }) => {}
        read => return read.map(|keys| (keys, false)),
    }
    write(path, &KeyFile::Cluster(Keys::of(random()?)))?;
    // What lies there counts, should another head have made one at the same time.
    KeyFile::read_keys(path).map(|keys| (keys, true))
}

/// What is told once, of a key that was made just now.
#[must_use]
pub(crate) fn of_a_new_one(path: &Path) -> String {
    format!(
        "the cluster has a new key, in {path}. A data node of another machine needs one of its own: acopio key node NAME \
         NAME.key --key {path}",
        path = path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_key_is_made_once_for_its_user_alone_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(CLUSTER_FILE);
        let (made, new) = read_or_make(&path).unwrap();
        let (again, not_new) = read_or_make(&path).unwrap();
        assert!(new && !not_new && made.current.0 == again.current.0);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, files::SECRET_MODE);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left there");
        fs::write(&path, "").unwrap();
        assert!(read_or_make(&path).unwrap().1, "an empty one is none");
        let error = write_new(&path, &KeyFile::Cluster(Keys::of(random().unwrap()))).unwrap_err();
        assert!(matches!(error, Error::Exists { .. }), "{error}");
        assert_ne!(random().unwrap().0, random().unwrap().0);
    }

    #[test]
    fn a_nodes_key_is_for_its_name_and_tells_nothing_of_the_clusters() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NODE_FILE);
        let cluster = ClusterKey([9; KEY_BYTES]);
        write(&path, &KeyFile::Node("data1".to_owned(), cluster.node("data1"))).unwrap();
        let read = KeyFile::read_for_node(&path, "data1").unwrap();
        assert_eq!((read.bytes, read.of()), (cluster.node("data1").bytes, Holder::Node));
        assert!(!fs::read_to_string(&path).unwrap().contains(&"09".repeat(8)));
        let other = KeyFile::read_for_node(&path, "data2").unwrap_err().to_string();
        assert!(other.contains("that of dataNode data1 and this one is data2; give it a key of its own"), "{other}");
        let not_cluster = KeyFile::read_cluster(&path).unwrap_err().to_string();
        assert!(not_cluster.contains("is that of dataNode data1, and the cluster's is needed"), "{not_cluster}");
        write(&path, &KeyFile::Cluster(Keys::of(cluster))).unwrap();
        assert_eq!(KeyFile::read_for_node(&path, "data2").unwrap().of(), Holder::Cluster);
    }

    #[test]
    fn keys_of_before_stand_behind_the_one_that_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        let keys = [1, 2, 3].map(|byte| ClusterKey([byte; KEY_BYTES]));
        let [current, former @ ..] = keys.clone();
        write_new(&path, &KeyFile::Cluster(Keys { former: former.into(), ..Keys::of(current) })).unwrap();
        let read = KeyFile::read_keys(&path).unwrap();
        assert_eq!([&read.current.0, &read.former[0].0, &read.former[1].0], [&keys[0].0, &keys[1].0, &keys[2].0]);
        assert_eq!(KeyFile::read_cluster(&path).unwrap().0, keys[0].0);
        assert_eq!(read.records().count(), 3);
    }

    #[test]
    fn what_is_wrong_with_a_key_file_is_told_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        let said = |text: &[u8]| {
            fs::write(&path, text).unwrap();
            mode(&path, files::SECRET_MODE);
            KeyFile::read(&path).unwrap_err().to_string()
        };
        let secret = "5ec2e7".repeat(10);
        assert!(said(b"").contains("is empty; copy it again"));
        assert!(said(b"\n \n").contains("is empty"));
        for (text, wanted) in [
            (format!("cluster {secret}"), "not 64 digits of hex"),
            (format!("cluster {secret}zzzz"), "not 64 digits of hex"),
            (format!("cluster {secret}+1+1"), "not 64 digits of hex"),
            (secret.clone(), "does not say 'cluster KEY'"),
            (format!("node {secret}abcd"), "does not say"),
            (format!("node a,b {secret}abcd"), "does not say"),
            (format!("cluster {secret}abcd\ncluster {secret}abcd\n"), "neither 'also KEY' nor 'former KEY'"),
            (format!("cluster {secret}abcd\nformer {secret}\n"), "not 64 digits of hex"),
            (format!("cluster {secret}abcd\n{}", format!("former {secret}abcd\n").repeat(9)), "too many lines"),
            (format!("node data1 {secret}abcd\nformer {secret}abcd\n"), "behind the one with the key"),
            ("# nothing\n".to_owned(), "no line beside remarks"),
            (secret.repeat(100), "too long"),
        ] {
            let said = said(text.as_bytes());
            assert!(said.contains(wanted), "{text}: {said}");
            assert!(!said.contains("5ec2e7"), "{said}");
        }
        assert!(said(b"\xff\xfe").contains("no text"));
        fs::write(&path, KeyFile::Cluster(Keys::of(ClusterKey([1; KEY_BYTES]))).to_text()).unwrap();
        for open in [0o604, 0o644, 0o666] {
            mode(&path, open);
            let said = KeyFile::read(&path).unwrap_err().to_string();
            assert!(said.contains(&format!("open to everybody (mode {open:o}); chmod 600 it")), "{said}");
        }
        mode(&path, 0o440);
        KeyFile::read_cluster(&path).unwrap();
        let missing = KeyFile::read(&dir.path().join("none")).unwrap_err().to_string();
        assert!(missing.contains("name one that is there"), "{missing}");
        let folder = KeyFile::read(dir.path()).unwrap_err().to_string();
        assert!(folder.contains("a folder and no file"), "{folder}");
    }
}
