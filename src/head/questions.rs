//! What one data node was asked and has not answered: a table of numbers, and who asked.
//!
//! A session asks and hears the answers; whom an answer is for is known here alone.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use tokio::sync::Notify;

/// Questions that are open at one node.
pub(crate) struct Questions<A> {
    next: Cell<u32>,
    open: RefCell<BTreeMap<u32, A>>,
}

impl<A> Default for Questions<A> {
    fn default() -> Self {
        Self { next: Cell::new(0), open: RefCell::default() }
    }
}

impl<A> Questions<A> {
    /// A number for a question; none if so many are open.
    pub(super) fn ask(&self, most: usize, asker: A) -> Option<u32> {
        let mut open = self.open.borrow_mut();
        if open.len() >= most {
            return None;
        }
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        open.insert(number, asker);
        Some(number)
    }

    /// Who asked; by the answer the question is over.
    pub(super) fn answered(&self, number: u32) -> Option<A> {
        self.open.borrow_mut().remove(&number)
    }

    /// Keeps those alone whose askers still want an answer.
    pub(super) fn retain(&self, wants: impl Fn(&A) -> bool) {
        self.open.borrow_mut().retain(|_, asker| wants(asker));
    }

    /// How many such askers have asked.
    pub(super) fn count(&self, is: impl Fn(&A) -> bool) -> usize {
        self.open.borrow().values().filter(|asker| is(asker)).count()
    }

    /// Who asked all that is open: the node does not answer any more.
    pub(super) fn take_all(&self) -> impl Iterator<Item = A> {
        self.open.take().into_values()
    }
}

impl<T> Questions<To<T>> {
    /// Hands something to the reader who asked; the question stays open.
    pub(super) fn came(&self, number: u32, what: T) {
        if let Some(to) = self.open.borrow().get(&number) {
            to.hand(what);
        }
    }
}

/// Where what nodes send waits for one reader.
pub(super) struct Inbox<T> {
    /// By the reader's own numbers of the nodes.
    pub(super) came: RefCell<Vec<(u64, T)>>,
    pub(super) wake: Notify,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self { came: RefCell::default(), wake: Notify::new() }
    }
}

/// A reader who asked a node, and its own number of that.
pub(crate) struct To<T> {
    source: u64,
    inbox: Weak<Inbox<T>>,
}

impl<T> To<T> {
    pub(super) fn new(source: u64, inbox: &Rc<Inbox<T>>) -> Self {
        Self { source, inbox: Rc::downgrade(inbox) }
    }

    /// Hands it what came, if it is still there.
    pub(super) fn hand(&self, what: T) {
        if let Some(inbox) = self.inbox.upgrade() {
            inbox.came.borrow_mut().push((self.source, what));
            inbox.wake.notify_one();
        }
    }
}

/// A node that asked a head for copies: whose registration, and under which number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fetcher {
    pub(super) serial: u64,
    pub(super) request: u32,
}
