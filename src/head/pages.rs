//! What readers ask for, and the pages of data nodes that are on their way to them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::limits;
use crate::wire::error::Refusal;
use crate::wire::filter::SourceFilter;
use crate::wire::id::{ClientId, RecordId};

/// What a reader asked for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The least id.
    pub(crate) from: RecordId,
    /// The first id that is not wanted.
    pub(crate) until: RecordId,
    /// Only records of this client.
    pub(crate) client: Option<ClientId>,
    /// Only records of these sources.
    pub(crate) sources: SourceFilter,
    /// Go on with what comes.
    pub(crate) follow: bool,
    /// Leave out nodes that are away.
    pub(crate) partial: bool,
    /// Go on behind what this token covers; empty to begin.
    pub(crate) token: Bytes,
}

/// A node's answer to a Scan.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A page.
    Page {
        /// Everything below is in it.
        next: RecordId,
        /// The greatest id that the node has.
        greatest: RecordId,
        /// Lines that were passed over.
        rotten: u32,
        /// The lines.
        lines: Bytes,
    },
    /// None.
    Failed(Refusal),
}

/// Where answers wait for one reader. It has at most one request open for each node.
#[derive(Default)]
pub(super) struct Inbox {
    pub(super) answers: RefCell<Vec<(u64, Answer)>>,
    pub(super) wake: Notify,
}

/// The Scans that are open at one node.
#[derive(Default)]
pub(crate) struct Open {
    next: Cell<u32>,
    requests: RefCell<BTreeMap<u32, (u64, Weak<Inbox>)>>,
}

impl Open {
    /// A number for a request; none if too many are open.
    pub(super) fn add(&self, source: u64, inbox: &Rc<Inbox>) -> Option<u32> {
        let mut requests = self.requests.borrow_mut();
        if requests.len() >= limits::NODE_SCANS_MAX {
            return None;
        }
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        requests.insert(number, (source, Rc::downgrade(inbox)));
        Some(number)
    }

    /// Hands an answer to its reader, if that is still there.
    pub(crate) fn answer(&self, request: u32, answer: Answer) {
        let asked = self.requests.borrow_mut().remove(&request);
        if let Some((source, inbox)) = asked
            && let Some(inbox) = inbox.upgrade()
        {
            inbox.answers.borrow_mut().push((source, answer));
            inbox.wake.notify_one();
        }
    }
}
