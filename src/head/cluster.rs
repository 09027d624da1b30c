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

use super::registered::NodeEntry;
use super::shelf::{Shelf, Stamp};
use super::state::Head;
use super::unread::{self, Growth, Unread};
use crate::ledger::heard::Heard;
use crate::ledger::note::{Folded, Note};
use crate::ledger::plan::Backoff;
use crate::ledger::roster::{Roster, Standing};
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
    unread: RefCell<Unread>,
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
    since: RefCell<BTreeMap<NodeId, SystemTime>>,
    started: SystemTime,
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

impl Head {
    /// Something is to be decided.
    pub(crate) fn decide(&self) {
        self.cluster.dirty.notify_one();
    }

    /// Reads what was heard.
    pub(crate) fn heard<T>(&self, read: impl FnOnce(&Heard) -> T) -> T {
        read(&self.cluster.heard.borrow())
    }

    /// A node is gone: since when is remembered.
    pub(super) fn note_away(&self, node: NodeId) {
        self.cluster.since.borrow_mut().insert(node, self.config.clock.now());
        self.cluster.told.borrow_mut().remove(&node);
        self.cluster.left.borrow_mut().remove(&node);
    }

    /// Since when a node is away that is not here.
    pub(super) fn away_since(&self, node: NodeId) -> SystemTime {
        self.cluster.since.borrow().get(&node).copied().unwrap_or(self.cluster.started)
    }

    /// The nodes that count and are not here.
    #[must_use]
    pub(crate) fn members_away(&self) -> Vec<Away> {
        let here: Vec<NodeId> = self.nodes().iter().filter_map(|node| node.id).collect();
        let heard = self.cluster.heard.borrow();
        let roster = heard.roster();
        let counts = roster.identities().filter(|(_, record)| record.generation.counts());
        let away = counts.filter(|(node, _)| !here.contains(node));
        let away = away.map(|(node, record)| (node, record.name.to_string())).collect::<Vec<_>>();
        drop(heard);
        away.into_iter().map(|(node, name)| Away { node, name, since: self.away_since(node) }).collect()
    }

    /// Why a node that is here gets no messages though it could keep them: others have to note first that it came in, and those
    /// are away. None where that is a matter of moments.
    #[must_use]
    pub(crate) fn waits_to_come_in(&self, node: NodeId) -> Option<String> {
        let standing = |node| self.heard(|heard| heard.roster().generation(node).standing());
        let waits = self.heard(|heard| heard.roster().generation(node).promoted().is_some());
        let away = self.members_away().into_iter().filter(|away| standing(away.node) != Standing::GivenUp);
        let away: Vec<String> =
            away.take(limits::AWAITED_NAMED_MAX).map(|away| format!("{} ({})", away.name, away.node)).collect();
        (waits && !away.is_empty()).then(|| {
            format!(
                "it is new, and too few others are here that would miss it; start what is away, or give it up with \
                 'acopio drain --gone': {}",
                away.join(", ")
            )
        })
    }

    /// The name of a node.
    #[must_use]
    pub(crate) fn name_of(&self, node: NodeId) -> String {
        let registered = self.nodes().iter().find(|entry| entry.id == Some(node)).map(|entry| entry.name.clone());
        let known = || {
            self.heard(|heard| {
                heard.roster().identities().find(|(id, _)| *id == node).map(|(_, record)| record.name.to_string())
            })
        };
        registered.or_else(known).filter(|name| !name.is_empty()).unwrap_or_else(|| node.to_string())
    }

    // ---- nodes that speak text ----

    /// A node that speaks text keeps so many more.
    pub(crate) fn text_node_keeps(&self, node: &NodeEntry, records: u64) {
        let growth = self.cluster.unread.borrow_mut().add(&unread::name(node.dialect, node.ip), records);
        if growth != Growth::Little {
            self.decide();
        }
    }

    /// A node that speaks text is gone: what is known of it is written down.
    pub(crate) fn text_node_left(&self) {
        self.decide();
    }

    /// The nodes that speak text and keep records, and how many each keeps. No read has them.
    #[must_use]
    pub(crate) fn unread(&self) -> Vec<(String, u64)> {
        self.cluster.unread.borrow().iter().map(|(name, records)| (name.to_owned(), records)).collect()
    }

    /// Nobody asks for what a node that speaks text keeps any more. False if no such node is known.
    pub(crate) fn forget_unread(&self, name: &str) -> bool {
        let known = self.cluster.unread.borrow_mut().forget(name);
        if known {
            self.decide();
        }
        known
    }
}
