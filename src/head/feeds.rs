//! What data nodes push to readers that follow, on its way to them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::{Rc, Weak};

use tokio::sync::Notify;

use super::marks::Believed;
use crate::wire::ledger::LedgerId;

/// Entries that a node sent.
pub(crate) struct Pushed {
    /// The ledger.
    pub(crate) ledger: LedgerId,
    /// The entries that it answers for.
    pub(crate) entries: Range<u32>,
    /// The lines of those that it has and that are believed, and what was left out.
    pub(crate) believed: Believed,
    /// Bytes of all that it sent.
    pub(crate) bytes: usize,
}

/// Where what nodes send waits for one reader. Credit bounds it.
#[derive(Default)]
pub(super) struct Inbox {
    pub(super) pushed: RefCell<Vec<(u64, Pushed)>>,
    pub(super) wake: Notify,
}

/// The feeds that one node has open here.
#[derive(Default)]
pub(crate) struct Feeds {
    next: Cell<u32>,
    open: RefCell<BTreeMap<u32, (u64, Weak<Inbox>)>>,
}

impl Feeds {
    pub(super) fn open(&self, serial: u64, inbox: &Rc<Inbox>) -> u32 {
        let request = self.next.get();
        self.next.set(request.wrapping_add(1));
        self.open.borrow_mut().insert(request, (serial, Rc::downgrade(inbox)));
        request
    }

    pub(super) fn close(&self, request: u32) {
        self.open.borrow_mut().remove(&request);
    }

    /// A node sent entries for a reader.
    pub(crate) fn pushed(&self, request: u32, pushed: Pushed) {
        let open = self.open.borrow().get(&request).cloned();
        if let Some((serial, inbox)) = open
            && let Some(inbox) = inbox.upgrade()
        {
            inbox.pushed.borrow_mut().push((serial, pushed));
            inbox.wake.notify_one();
        }
    }
}
