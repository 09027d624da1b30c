//! What this identity keeps and promises, between the sessions with the heads and the log.
//!
//! [`Kept`] decides; this writes down what it says has to be noted, and wakes who has to hear of it. Nothing that follows
//! from a note is sent before the note is synced: [`Desk::is_ready`].

use std::cell::{Cell, Ref, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;

use super::commit::Commit;
use super::start;
use super::state_lines::{self, Identity};
use super::view::SealedFile;
use crate::ledger::held::Report;
use crate::ledger::kept::{HasLost, Kept, NotTaken, Put};
use crate::ledger::note::Note;
use crate::ledger::roster::{Roster, Standing, TooMany};
#[cfg(test)]
use crate::wire::ledger::NodeId;
use crate::wire::ledger::{Incarnation, LedgerId};

/// The desk.
pub(crate) struct Desk {
    kept: RefCell<Kept>,
    identity: RefCell<Identity>,
    commit: Rc<Commit>,
    /// Told when heads have to hear of something, and when something is wanted.
    pub(crate) changed: Notify,
    /// Told when entries came.
    pub(crate) grown: Notify,
    /// The version that heads have to hear of at once.
    loud: Cell<u64>,
    /// How often what is noted of the roster changed: each head hears of it, whichever it came from.
    rosters: Cell<u64>,
}

impl Desk {
    /// The desk of an identity.
    #[must_use]
    pub(crate) fn new(kept: Kept, identity: Identity, commit: Rc<Commit>) -> Self {
        Self {
            kept: RefCell::new(kept),
            identity: RefCell::new(identity),
            commit,
            changed: Notify::new(),
            grown: Notify::new(),
            loud: Cell::new(0),
            rosters: Cell::new(0),
        }
    }

    /// Who this is.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn me(&self) -> NodeId {
        self.identity.borrow().node
    }

    /// Whose folder it is.
    #[must_use]
    pub(crate) fn identity(&self) -> Identity {
        self.identity.borrow().clone()
    }

    /// What it keeps.
    #[must_use]
    pub(crate) fn kept(&self) -> Ref<'_, Kept> {
        self.kept.borrow()
    }

    /// A head named the cluster: that is written down.
    pub(crate) fn join(&self, cluster: &str) {
        let mut identity = self.identity.borrow_mut();
        cluster.clone_into(&mut identity.cluster);
        self.commit.note(&start::joined(&identity), true);
    }

    /// Writes down what has to be noted, and has heads hear of what changed.
    fn note(&self, notes: &[Note]) {
        if !notes.is_empty() {
            let urgent = notes.iter().any(Note::is_urgent);
            self.commit.note(&state_lines::of_notes(notes), urgent);
        }
        self.tell();
    }

    /// Has those who tell heads look whether there is something to tell.
    pub(crate) fn look(&self) {
        self.changed.notify_waiters();
    }

    /// Heads hear at once of what changed.
    fn tell(&self) {
        self.loud.set(self.kept.borrow().version());
        self.changed.notify_waiters();
    }

    /// Whether everything is synced that what changed follows from.
    #[must_use]
    pub(crate) fn is_ready(&self) -> bool {
        self.commit.is_noted()
    }

    /// The version that heads have to hear of at once.
    #[must_use]
    pub(crate) const fn loud(&self) -> u64 {
        self.loud.get()
    }

    /// Which version of the roster is noted.
    #[must_use]
    pub(crate) const fn rosters(&self) -> u64 {
        self.rosters.get()
    }

    /// What heads are told that have heard everything up to a version; and the version now.
    #[must_use]
    pub(crate) fn news(&self, after: Option<u64>) -> (Vec<Report>, u64) {
        let kept = self.kept.borrow();
        let reports = match after {
            None => kept.all().collect(),
            Some(version) => kept.changes(version).collect(),
        };
        (reports, kept.version())
    }

    /// May these entries be taken?
    ///
    /// # Errors
    /// Why not; the ledger is over then.
    pub(crate) fn put(&self, put: &Put<'_>) -> Result<(), NotTaken> {
        let result = self.kept.borrow_mut().put(put);
        match result {
            // A head that has not heard that this node keeps it has somebody else do so as soon as the node is away.
            Ok(()) if put.first == 0 => self.tell(),
            Ok(()) => {}
            Err((why, notes)) => {
                self.note(&notes);
                return Err(why);
            }
        }
        Ok(())
    }

    /// These entries of a Put are kept. Returns whether they may be acknowledged.
    #[must_use]
    pub(crate) fn committed(&self, ledger: LedgerId, entries: Range<u32>) -> bool {
        self.grown.notify_waiters();
        self.kept.borrow_mut().committed(ledger, entries)
    }

    /// These entries of a Put are not kept: the ledger is over.
    pub(crate) fn refused(&self, ledger: LedgerId) {
        let notes = self.kept.borrow_mut().refused(ledger);
        self.note(&notes);
    }

    /// The connection to a head ended that wrote under these incarnations.
    pub(crate) fn head_lost(&self, incarnations: impl IntoIterator<Item = Incarnation>) {
        let mut kept = self.kept.borrow_mut();
        let notes: Vec<Note> = incarnations.into_iter().flat_map(|incarnation| kept.head_lost(incarnation)).collect();
        drop(kept);
        if !notes.is_empty() {
            self.note(&notes);
        }
    }

    /// A head says where a ledger ends.
    ///
    /// # Errors
    /// This folder has less than it acknowledged.
    pub(crate) fn close(&self, ledger: LedgerId, end: u32, settled: bool) -> Result<(), HasLost> {
        let notes = self.kept.borrow_mut().close(ledger, end, settled)?;
        self.note(&notes);
        Ok(())
    }

    /// A head asks to keep a ledger.
    pub(crate) fn adopt(&self, ledger: LedgerId, entries: Range<u32>, settled: bool) {
        let notes = self.kept.borrow_mut().adopt(ledger, entries.start, entries.end, settled);
        self.note(&notes);
    }

    /// Copies of these entries are kept.
    pub(crate) fn fetched(&self, ledger: LedgerId, entries: Range<u32>) {
        self.grown.notify_waiters();
        let notes = self.kept.borrow_mut().fetched(ledger, entries);
        self.note(&notes);
    }

    /// These entries can't be read any more.
    pub(crate) fn rotten(&self, ledger: LedgerId, entries: Range<u32>) {
        let notes = self.kept.borrow_mut().rotten(ledger, entries);
        self.note(&notes);
    }

    /// Files go that were kept long enough: text that has to be noted before.
    pub(crate) fn let_go(&self, files: &[Arc<SealedFile>]) -> String {
        let mut kept = self.kept.borrow_mut();
        let mut notes = Vec::new();
        for (ledger, entries) in files.iter().flat_map(|file| file.ledgers.iter()) {
            notes.extend(kept.let_go(ledger, entries.end()));
        }
        drop(kept);
        self.tell();
        state_lines::of_notes(&notes)
    }

    /// Notes what a head knows of the roster.
    ///
    /// # Errors
    /// The roster would be too great.
    pub(crate) fn noted(&self, roster: &Roster) -> Result<(), TooMany> {
        let notes = self.kept.borrow_mut().noted(roster)?;
        self.rosters.set(self.rosters.get() + u64::from(!notes.is_empty()));
        self.note(&notes);
        Ok(())
    }

    /// Whether it left the cluster, by what it noted.
    #[must_use]
    pub(crate) fn is_out(&self) -> bool {
        let kept = self.kept.borrow();
        kept.roster().generation(kept.me()).standing() == Standing::Out
    }
}
