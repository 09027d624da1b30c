//! Hands out the keys of a cluster on this machine: heads share the one that lies beside their logs, and each data node gets
//! its own, made from it.

use std::path::{Path, PathBuf};

use super::plan::{Kind, Member};
use crate::files;
use crate::key::file::{self, CLUSTER_FILE, KeyFile, Keys, NODE_FILE};

/// The keys can't be handed out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key file can't be read or written.
    #[error(transparent)]
    File(#[from] file::Error),
    /// A folder can't be made.
    #[error("cannot make the folder {}: {source}; name another one with --dir", dir.display())]
    Folder {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Two heads have been apart before.
    #[error("{} and {} are different keys: the heads were of two clusters; remove the key of the one whose data nodes are not these", one.display(), other.display())]
    Differ {
        /// The first head's.
        one: PathBuf,
        /// Another head's.
        other: PathBuf,
    },
}

/// Sees that all heads have one key, and each data node its own; where the key lies if it was made just now.
///
/// # Errors
/// A file can't be read or written, or two heads have different keys.
pub(crate) fn hand_out(members: &[Member]) -> Result<Option<PathBuf>, Error> {
    for member in members.iter().filter(|member| matches!(member.kind, Kind::Head | Kind::Data)) {
        let folder = |source| Error::Folder { dir: member.dir.clone(), source };
        files::create_folder(&member.dir).map_err(folder)?;
    }
    let of = |kind| members.iter().filter(move |member| member.kind == kind);
    let heads: Vec<PathBuf> = of(Kind::Head).map(|head| head.dir.join(CLUSTER_FILE)).collect();
    let Some(first) = heads.iter().find(|path| path.exists()).or(heads.first()) else { return Ok(None) };
    let (keys, made) = file::read_or_make(first)?;
    for path in &heads {
        give(path, &keys, first)?;
    }
    for node in of(Kind::Data) {
        file::write(&node.dir.join(NODE_FILE), &KeyFile::Node(node.name.clone(), keys.current.node(&node.name)))?;
    }
    Ok(made.then(|| first.clone()))
}

/// Gives a head the key, unless it has it.
fn give(path: &Path, keys: &Keys, first: &Path) -> Result<(), Error> {
    match file::write_new(path, &KeyFile::Cluster(keys.clone())) {
        Err(file::Error::Exists { .. }) if KeyFile::read_cluster(path)?.holder().is(&keys.current.holder()) => Ok(()),
        Err(file::Error::Exists { .. }) => Err(Error::Differ { one: first.to_owned(), other: path.to_owned() }),
        written => Ok(written?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn member(kind: Kind, name: &str, dir: &Path) -> Member {
        Member { kind, name: name.to_owned(), dir: dir.join(name), args: Vec::new() }
    }

    fn members(dir: &Path) -> Vec<Member> {
        [
            (Kind::Head, "head1"),
            (Kind::Head, "head2"),
            (Kind::Data, "data1"),
            (Kind::Data, "data2"),
            (Kind::Client, "c"),
        ]
        .map(|(kind, name)| member(kind, name, dir))
        .to_vec()
    }

    #[test]
    fn heads_share_a_key_and_each_data_node_has_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let members = members(dir.path());
        assert_eq!(hand_out(&members).unwrap(), Some(dir.path().join("head1/cluster.key")));
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        let all = ["head1/cluster.key", "head2/cluster.key", "data1/node.key", "data2/node.key"];
        let before = all.map(read);
        assert_eq!(before[0], before[1]);
        assert_ne!(before[2].lines().last(), before[3].lines().last());
        assert!(!dir.path().join("c").exists());
        assert_eq!(hand_out(&members).unwrap(), None, "it is told of once");
        assert_eq!(all.map(read), before);
        KeyFile::read_for_node(&dir.path().join("data2/node.key"), "data2").unwrap();
    }

    #[test]
    fn a_head_that_has_been_there_before_keeps_its_key_and_two_that_differ_are_told_of() {
        let dir = tempfile::tempdir().unwrap();
        let members = members(dir.path());
        files::create_folder(&dir.path().join("head2")).unwrap();
        let (own, _) = file::read_or_make(&dir.path().join("head2/cluster.key")).unwrap();
        assert_eq!(hand_out(&members).unwrap(), None);
        assert!(
            KeyFile::read_cluster(&dir.path().join("head1/cluster.key")).unwrap().holder().is(&own.current.holder())
        );
        fs::remove_file(dir.path().join("head2/cluster.key")).unwrap();
        file::read_or_make(&dir.path().join("head2/cluster.key")).unwrap();
        let error = hand_out(&members).unwrap_err().to_string();
        assert!(error.contains("head1/cluster.key and ") && error.contains("are different keys"), "{error}");
    }
}
