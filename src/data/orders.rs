//! What the front of the log orders from its worker, and what comes back.

use std::sync::Arc;

use tokio::time::Instant;

use super::current::LogError;
use super::index::Summary;
use super::log::Foreign;
use super::retention::Retained;
use super::view::{SealedFile, View};
use crate::limits;
use crate::metrics::Durations;

/// What the node says of its log.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct LogState {
    /// Records kept.
    pub(crate) records: u64,
    /// Bytes of the files.
    pub(crate) bytes: u64,
    /// Syncs of the files since the node started.
    pub(crate) syncs: u64,
    /// How long syncs of records took.
    pub(crate) sync_times: Durations,
    /// Bytes written to them since then.
    pub(crate) written: u64,
    /// Bytes that could still be written to the disk when it was looked at last, if it told.
    pub(crate) free: Option<u64>,
    /// Why nothing is written; empty if all is well.
    pub(crate) reason: String,
}

/// Puts of one session inside one buffer.
pub(super) struct Mark {
    pub(super) session: u64,
    pub(super) first: u64,
    pub(super) last: u64,
}

/// Lines that go to the file together, and notes that go before them.
#[derive(Default)]
pub(super) struct Lines {
    pub(super) bytes: Vec<u8>,
    pub(super) summary: Summary,
    pub(super) marks: Vec<Mark>,
    /// The serial of the last Put in here.
    pub(super) last: u64,
    pub(super) notes: Notes,
}

/// Text for `node.state`.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) text: String,
    /// It has to be synced.
    pub(super) urgent: bool,
    /// The serial of the last note in here.
    pub(super) last: u64,
}

impl Lines {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(limits::COMMIT_BUFFER_KEEP_BYTES);
        self.summary.clear();
        self.marks.clear();
        self.notes.text.clear();
        self.notes.urgent = false;
    }

    /// Leaves the notes alone; answers whose Puts these were, and the serial of the last.
    pub(super) fn take_puts(&mut self) -> (Vec<Mark>, u64) {
        self.bytes.clear();
        self.summary.clear();
        (std::mem::take(&mut self.marks), self.last)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.notes.text.is_empty()
    }

    /// One short message and no more: to hand it to a thread, and hear of it, takes as long as a disk that is quick.
    pub(super) fn is_lone(&self) -> bool {
        self.bytes.len() <= limits::LONE_BYTES_MAX && matches!(self.marks.as_slice(), [mark] if mark.first == mark.last)
    }
}

pub(super) enum Order {
    Write(Lines),
    /// Look whether the files are as they were left, all of them or `data.txt`; and whether a full disk has room again.
    Look(Files),
    /// Sync what was acknowledged: its interval is over.
    Sync,
    /// Remove files that were kept long enough, once these notes are synced.
    Remove(Vec<Arc<SealedFile>>, String),
    /// Sync what an interval left unsynced, and end.
    End,
}

/// Which files are looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Files {
    Current,
    All,
}

pub(super) struct Done {
    pub(super) lines: Lines,
    pub(super) result: Result<(), LogError>,
    pub(super) state: LogState,
    /// What readers see from now on; `None` if that did not change.
    pub(super) view: Option<Arc<View>>,
    /// When what is unsynced has to be synced, under a policy with an interval.
    pub(super) sync_due: Option<Instant>,
    /// What was removed.
    pub(super) retained: Option<Retained>,
    /// What others wrote into `data.txt`.
    pub(super) foreign: Option<Foreign>,
}
