//! The file that is being written, how the last run left it, and why a batch is not kept.

use std::io;
use std::sync::Arc;

use super::index::Indexer;
use super::recover::TornTail;
use super::storage::{FileId, LogFile, ReadAt};
use crate::wire::id::RecordId;

/// Why a batch was not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// A write or sync failed, now or earlier. It stays so until the log is opened again.
    #[error(
        "the disk failed to {what}: {cause}; nothing more is stored here: look at the disk, then start the node again"
    )]
    Poisoned {
        /// What failed first.
        what: &'static str,
        /// What the system said.
        cause: Arc<str>,
    },
    /// The disk is full; the log is as it was before the batch.
    #[error("the disk is full: {cause}; {remedy}, and the node goes on by itself")]
    Full {
        /// What the system said.
        cause: Arc<str>,
        /// What to do.
        remedy: &'static str,
    },
    /// Somebody altered files under the running log. It goes on once they are as they were, if they can be.
    #[error("{0}")]
    Altered(Arc<str>),
    /// The batch does not end in a newline; nothing was written.
    #[error("a batch has to end in a newline; this is a fault in the program that made it")]
    NotLines,
}

/// The file that is being written.
pub(super) struct Current<F> {
    pub(super) file: F,
    pub(super) reader: Arc<dyn ReadAt>,
    pub(super) first_id: Option<RecordId>,
    /// The name that it will have when it is sealed.
    pub(super) name: Option<Arc<str>>,
    pub(super) index: Indexer,
    /// Which file it is; none where a file system gives one file two identities.
    pub(super) id: Option<FileId>,
    /// Its length; what lies behind the last record is not ours.
    pub(super) len: u64,
    /// What lies there.
    pub(super) tail: Option<TornTail>,
    /// Whether that ends in the middle of a line.
    pub(super) open_end: bool,
    /// Up to where it was said that somebody else wrote into it.
    pub(super) told: u64,
}

impl<F: LogFile> Current<F> {
    pub(super) fn new(file: F, first_id: Option<RecordId>, index: Indexer) -> io::Result<Self> {
        let seen = file.seen()?;
        let (id, len, reader) = (Some(seen.id), seen.bytes, file.reader());
        Ok(Self { reader, file, first_id, name: None, index, id, len, tail: None, open_end: false, told: 0 })
    }
}

/// The file that was written last, as it was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Last {
    /// The name that it has for good.
    pub(crate) file: String,
    /// How long it was when it was synced.
    pub(crate) bytes: u64,
}

/// How the last run left the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Before {
    /// The file that was written last, if that is known.
    pub(crate) last: Option<Last>,
    /// Everything was synced before it was acknowledged.
    pub(crate) always: bool,
}
