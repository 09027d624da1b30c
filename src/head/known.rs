//! Questions to what a head knows of its cluster: who is away and since when, who waits, how a node is called.

use std::time::SystemTime;

use super::cluster::Away;
use super::registered::NodeEntry;
use super::state::Head;
use super::unread::{self, Growth};
use crate::ledger::heard::Heard;
use crate::ledger::roster::Standing;
use crate::limits;
use crate::wire::ledger::NodeId;

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
