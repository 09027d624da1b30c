//! What this head knows of its cluster: what it heard, whom it told of the roster, and what is written down of that.
//!
//! The decisions are in `ledger`; `rounds` carries them out. `head.state` holds the roster: its founding is written down before
//! the first Put, the rest is a hint for a head that starts again.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::shelf::{Shelf, Stamp};
use super::unread::{self, Unread};
use crate::ledger::heard::Heard;
use crate::ledger::note::{Folded, Note};
use crate::ledger::plan::Backoff;
use crate::ledger::roster::Roster;
use crate::ledger::text;
use crate::limits;
use crate::wire::ledger::NodeId;

/// Name of the file in the folder of the logs.
pub(crate) const FILE: &str = "head.state";

/// First words of the file; the number is the version of its format.
const FORMAT: &str = "acopio-head 2";

/// The cluster as this head knows it.
pub(crate) struct Cluster {
    pub(super) heard: RefCell<Heard>,
    pub(super) backoff: RefCell<Backoff>,
    pub(super) unread: RefCell<Unread>,
    shelf: Shelf,
    /// What is written down.
    saved: RefCell<String>,
    /// What tells that file from another that somebody puts in its place.
    stamp: Cell<Option<Stamp>>,
    /// Why the file cannot be written, which was said once.
    failed: RefCell<Option<String>>,
    /// There is something to keep: nodes come in, ledgers are opened.
    pub(super) wanted: Cell<bool>,
    /// There was something to keep since the last node registered: those that are here come in.
    pub(super) called: Cell<bool>,
    /// Told when there is something to decide.
    pub(super) dirty: Notify,
    /// What each node was told of the roster on its connection.
    pub(super) told: RefCell<BTreeMap<NodeId, Roster>>,
    /// Nodes that left in order on the connection that they have: they are not taken in again on it.
    pub(super) left: RefCell<BTreeSet<NodeId>>,
    /// Since when a node is away.
    pub(super) since: RefCell<BTreeMap<NodeId, SystemTime>>,
    pub(super) started: SystemTime,
    /// Since when ledgers are to be opened and can't be.
    pub(super) waits: Cell<Option<Instant>>,
    /// The flags differ from what the cluster says, which was said once.
    pub(super) differs: Cell<bool>,
}

/// A data node of the roster that is not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Away {
    /// Its identity.
    pub(crate) node: NodeId,
    /// Its name.
    pub(crate) name: String,
    /// Since when.
    pub(crate) since: SystemTime,
}

impl Cluster {
    /// What the head whose file lies there knew.
    #[must_use]
    pub(crate) fn open(shelf: Shelf, now: SystemTime, repair_after: Duration) -> Self {
        let (mut noted, mut unread) = (Folded::default(), Unread::default());
        match shelf.read(limits::HEAD_STATE_BYTES_MAX) {
            Ok(text) => {
                for (number, line) in (1..).zip(text.lines()) {
                    if take(line, &mut noted, &mut unread).is_none() {
                        tracing::error!("line {number} of {shelf} makes no sense and is left out");
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::error!("{shelf} cannot be read: {error}; what it said is heard from the dataNodes again")
            }
        }
        Self {
            heard: RefCell::new(Heard::new(noted.roster, repair_after)),
            backoff: RefCell::default(),
            unread: RefCell::new(unread),
            shelf,
            saved: RefCell::default(),
            stamp: Cell::new(None),
            failed: RefCell::default(),
            wanted: Cell::new(false),
            called: Cell::new(false),
            dirty: Notify::new(),
            told: RefCell::default(),
            left: RefCell::default(),
            since: RefCell::default(),
            started: now,
            waits: Cell::new(None),
            differs: Cell::new(false),
        }
    }

    /// Why what it knows cannot be written down, for a client.
    pub(super) fn unsaved(&self) -> String {
        self.failed.borrow().as_ref().map(|text| format!("{text}, then send again")).unwrap_or_default()
    }

    fn text(&self) -> String {
        let mut out = String::new();
        text::seal(&mut out, FORMAT);
        text::write(&mut out, &Note::of_roster(self.heard.borrow().roster()));
        for line in self.unread.borrow().to_text().lines() {
            text::seal(&mut out, line);
        }
        out
    }

    /// Writes the file if what it says has changed, or if somebody moved, cut or removed it. False if that failed: then no ledger is to be opened.
    pub(super) async fn save(&self) -> bool {
        let text = self.text();
        if *self.saved.borrow() == text && self.shelf.stamp() == self.stamp.get() {
            return true;
        }
        match self.shelf.write_aside(text.clone().into_bytes()).await {
            Ok(stamp) => {
                self.saved.replace(text);
                self.stamp.set(Some(stamp));
                if self.failed.take().is_some() {
                    tracing::info!("{} is written again", self.shelf);
                }
                true
            }
            Err(error) => {
                let text = format!("{} cannot be written: {error}; look at the disk of the logs", self.shelf);
                if self.failed.replace(Some(text.clone())).is_none() {
                    tracing::error!("{text}");
                }
                // Where the cluster's founding stands already, the rest is a hint.
                !self.saved.borrow().is_empty()
            }
        }
    }
}

/// Takes a line of the file; none if it makes no sense.
fn take(line: &str, noted: &mut Folded, unread: &mut Unread) -> Option<()> {
    let words = text::open(line)?;
    if words == FORMAT {
        return Some(());
    }
    if words.starts_with(unread::LINE) {
        return unread.take_line(words).then_some(());
    }
    let mut words = text::Words::new(words);
    let note = text::parse(words.next()?, &mut words)?;
    noted.add(note).ok()
}
