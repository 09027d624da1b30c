//! Whether a file of the folder is still what this process left there: editors, logrotate and `mv` do not ask first.
//!
//! One decision, made at each commit, at each seal and now and then: [`judge`] compares what the path leads to with what is
//! known. Pure. What is lost between two starts is the business of
//! [`node_state`](super::node_state).

use super::storage::{FileId, Seen};

/// What is known of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    /// Which one it is, if that matters: a sealed file may be put back as a copy.
    pub(crate) id: Option<FileId>,
    /// The length that it had.
    pub(crate) bytes: u64,
    /// The end of the last record: what lies behind it is somebody else's.
    pub(crate) least: u64,
}

/// What has become of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing.
    Same,
    /// It has all of its records, and somebody wrote or removed something behind them: it has this length now.
    Other(u64),
    /// It is not to be relied on.
    Altered(Alteration),
}

/// How a file was altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alteration {
    /// Nothing has its name.
    Gone,
    /// Another file has its name.
    Replaced,
    /// It was cut.
    Shorter {
        /// Its length.
        bytes: u64,
        /// Where its last record ended.
        least: u64,
    },
}

/// Compares what a path leads to with what is known of the file that was there.
#[must_use]
pub(crate) fn judge(seen: Option<Seen>, known: Known) -> Standing {
    let Some(seen) = seen else { return Standing::Altered(Alteration::Gone) };
    if known.id.is_some_and(|id| id != seen.id) {
        return Standing::Altered(Alteration::Replaced);
    }
    match seen.bytes {
        bytes if bytes < known.least => Standing::Altered(Alteration::Shorter { bytes, least: known.least }),
        bytes if bytes == known.bytes => Standing::Same,
        bytes => Standing::Other(bytes),
    }
}

impl Alteration {
    /// Whether the file may be as it was again: what was cut off and put back is not known before it was read.
    #[must_use]
    pub(crate) const fn may_pass(self) -> bool {
        !matches!(self, Self::Shorter { .. })
    }

    /// What happened to the file that is being written, and what to do.
    #[must_use]
    pub(crate) fn of_current(self, file: &str) -> String {
        match self {
            Self::Gone => format!(
                "{file} is gone: it, or its folder, was renamed, moved or removed under the running node; nothing is \
                 stored here until it is back at its path. If it was removed, its contents are in /proc/{}/fd as long as \
                 the node runs",
                std::process::id()
            ),
            Self::Replaced => format!(
                "another file lies at the path of {file}, as an editor, sed -i or logrotate leave it; nothing is stored \
                 here until the old one is back; or start the node again, which goes on with the file that is there if \
                 that has all records"
            ),
            Self::Shorter { bytes, least } => format!(
                "{file} was cut to {bytes} bytes under the running node, and had {least} bytes of records; nothing more \
                 is stored here: stop the node, put back what was cut off, then start it; or start it once with --new-id"
            ),
        }
    }

    /// What happened to a sealed file, and what to do.
    #[must_use]
    pub(crate) fn of_sealed(self, file: &str) -> String {
        match self {
            Self::Gone | Self::Replaced => format!(
                "{file} is gone: it was renamed, moved, compressed or removed; nothing is stored here until it is back at \
                 its path. To remove old records use --keep or --keep-bytes"
            ),
            Self::Shorter { bytes, least } => format!(
                "{file} has {bytes} bytes and had {least}: its end is lost; nothing is stored here until it is restored \
                 from a backup, or until the node is started again without it"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: FileId = FileId { device: 1, inode: 2 };

    const fn seen(inode: u64, bytes: u64) -> Option<Seen> {
        Some(Seen { id: FileId { device: 1, inode }, links: 1, bytes })
    }

    #[test]
    fn a_file_is_judged_by_its_identity_and_then_by_its_length() {
        let known = Known { id: Some(ID), bytes: 20, least: 10 };
        for (seen, standing) in [
            (None, Standing::Altered(Alteration::Gone)),
            (seen(3, 20), Standing::Altered(Alteration::Replaced)),
            (seen(3, 5), Standing::Altered(Alteration::Replaced)),
            (seen(2, 20), Standing::Same),
            (seen(2, 21), Standing::Other(21)),
            (seen(2, 10), Standing::Other(10)),
            (seen(2, 9), Standing::Altered(Alteration::Shorter { bytes: 9, least: 10 })),
        ] {
            assert_eq!(judge(seen, known), standing, "{seen:?}");
        }
        // A copy of a sealed file is as good as the file.
        assert_eq!(judge(seen(3, 20), Known { id: None, bytes: 20, least: 20 }), Standing::Same);
    }

    #[test]
    fn what_to_do_is_said() {
        let shorter = Alteration::Shorter { bytes: 5, least: 9 };
        assert!(Alteration::Gone.may_pass() && Alteration::Replaced.may_pass() && !shorter.may_pass());
        for alteration in [Alteration::Gone, Alteration::Replaced, shorter] {
            for text in [alteration.of_current("data.txt"), alteration.of_sealed("data-x.txt")] {
                assert!(text.contains("data") && text.contains("stored here"), "{text}");
            }
        }
    }

    proptest! {
        /// Only the file itself, with all of its records, is ever called good.
        #[test]
        fn no_loss_is_called_good(inode in 1..4_u64, bytes in 0..40_u64, known in 0..30_u64, least in 0..30_u64) {
            let known = Known { id: Some(ID), bytes: known.max(least), least };
            match judge(seen(inode, bytes), known) {
                Standing::Same => prop_assert!(inode == 2 && bytes == known.bytes),
                Standing::Other(len) => prop_assert!(inode == 2 && len == bytes && bytes >= least && bytes != known.bytes),
                Standing::Altered(_) => prop_assert!(inode != 2 || bytes < least),
            }
        }
    }
}
