//! A data node, as one read sees it: what was asked of it, and how it answers. Who is asked when, the read decides.

use std::rc::Rc;

use tokio::time::Instant;

use crate::head::registered::NodeEntry;
use crate::limits;
use crate::wire::id::RecordId;

/// A data node, as one reader sees it.
pub(super) struct Source {
    pub(super) node: Rc<NodeEntry>,
    /// Its cursor in the merge; never given twice, so that late answers are known as such.
    pub(super) key: u64,
    pub(super) merged: bool,
    /// The request that is open.
    pub(super) asked: Option<Asked>,
    pub(super) ask_at: Instant,
    pub(super) failures: u32,
    /// Why it gave no answer.
    pub(super) cause: String,
    /// The greatest id it has, from the first answer on.
    pub(super) greatest: Option<RecordId>,
}

/// A request that is open, and when it was sent.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) at: Instant,
    /// The most bytes of lines, unless one is longer; 0 if only a sign of life was asked for.
    pub(super) bytes: usize,
    /// What it is counted as until it comes.
    pub(super) expected: usize,
}

impl Source {
    /// A node that was not asked yet and takes no part.
    pub(super) fn new(node: Rc<NodeEntry>, now: Instant) -> Self {
        Self {
            node,
            key: 0,
            merged: false,
            asked: None,
            ask_at: now,
            failures: 0,
            cause: String::new(),
            greatest: None,
        }
    }

    /// It is there and gives no answers.
    pub(super) fn fails(&self, now: Instant) -> bool {
        self.failures >= limits::SCAN_FAILURES_MAX
            || self.asked.is_some_and(|asked| now.duration_since(asked.at) >= limits::READ_PAGE_TIME_MAX)
    }

    /// It gave no answer once more.
    pub(super) fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.ask_at = now + limits::READ_POLL_MAX;
    }
}
