//! What the answer to a reader lacks: whom it waits for, and what goes out without somebody.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::Pull;
use crate::ledger::roster::Copies;
use crate::limits;
use crate::wire::error::Refusal;
use crate::wire::frame::Frame;
use crate::wire::ledger::{LedgerId, NodeId};
use crate::wire::peer::missing_because;

impl Pull<'_> {
    /// The nodes for want of which the answer can't be complete now: names, and why if they are there. Fewer than M may be
    /// missing: the others have all that those acknowledged.
    pub(super) fn missing(&self, now: Instant) -> Vec<String> {
        let (here, least) = (self.sources.len(), self.head.config.copies_min);
        if (1..least).contains(&here) && self.head.heard(|heard| !heard.roster().is_founded()) {
            // A head that lost its folder, and a new node that is the first to come: of the others nobody has told it yet.
            return vec![missing_because("dataNodes", &format!("a cluster begins with {least}, and {here} is here"))];
        }
        let answers = |node: NodeId| {
            !self.doubted.contains_key(&node)
                && self
                    .sources
                    .values()
                    .any(|source| source.merged && source.node.id == Some(node) && !source.fails(now))
        };
        let unanswered: Vec<NodeId> = self.reading.unanswered().filter(|node| !answers(*node)).collect();
        let least = self.head.heard(|heard| heard.roster().copies().map_or(1, Copies::read_least));
        // Nobody waits for who is here and is not believed: it has said what it has.
        if unanswered.len() < least || unanswered.iter().all(|node| self.doubted.contains_key(node)) {
            return Vec::new();
        }
        let failing = |node: NodeId| self.sources.values().find(|source| source.node.id == Some(node));
        let name = |node: NodeId| match failing(node) {
            _ if self.doubted.contains_key(&node) => self.named(node),
            Some(source) => {
                let cause = if source.cause.is_empty() { "it gives no answer; see its log" } else { &source.cause };
                missing_because(&source.node.name, cause)
            }
            None => self.head.name_of(node),
        };
        let mut names: Vec<String> = unanswered.into_iter().map(name).collect();
        names.sort();
        names
    }

    /// Whether somebody who would have to answer is out by now: nobody comes back as that. What has gone out was complete; what
    /// has not is asked for anew, of the roster of now.
    pub(super) fn waits_in_vain(&self) -> bool {
        self.head.heard(|heard| self.reading.unanswered().any(|node| !heard.roster().generation(node).counts()))
    }

    /// How a node is called whose answer lacks, and why if it is not believed.
    pub(super) fn named(&self, node: NodeId) -> String {
        self.doubted.get(&node).cloned().unwrap_or_else(|| self.head.name_of(node))
    }

    /// Notes the nodes that promise entries that nobody has who is here.
    pub(super) fn note_lacking(&mut self) {
        let lacking = self.head.heard(crate::ledger::heard::Heard::lacking);
        let mut first = BTreeMap::<NodeId, (LedgerId, u32)>::new();
        self.head.heard(|heard| {
            for (ledger, range) in lacking.into_iter().take(limits::READ_LACKING_MAX) {
                for node in heard.promisers(ledger) {
                    first.entry(node).or_insert((ledger, range.start));
                }
            }
        });
        for (node, (ledger, entry)) in first {
            let source = self.sources.values().find(|source| source.node.id == Some(node));
            let reason = source.map(|source| source.node.report.borrow().reason.clone()).unwrap_or_default();
            let cause = if reason.is_empty() {
                format!(
                    "lines of it are damaged or gone and no node that is here has them: entry {entry} of ledger {ledger} first; see its log"
                )
            } else {
                reason
            };
            self.lacked.insert(missing_because(&self.head.name_of(node), &cause));
        }
    }

    /// What the answer lacks, by now: nodes, and why.
    pub(super) fn lacks(&self) -> BTreeSet<String> {
        let unread = self.head.unread().into_iter().map(|(name, _)| name);
        let damaged = self.damaged.iter().map(|node| {
            let why = match node.refused.get() {
                0 => node.report.borrow().reason.clone(),
                _ => node.refused_words(),
            };
            let cause = if why.is_empty() { "lines of it are damaged and left out; see its log" } else { &why };
            missing_because(&node.name, cause)
        });
        self.skipped.iter().chain(&self.lacked).cloned().chain(unread).chain(damaged).collect()
    }

    /// Tells what goes out from here on lacks. Were this head lost, nobody else would know.
    pub(super) fn tell_lacks(&mut self) -> Result<(), Refusal> {
        let lacks = self.lacks();
        if !lacks.is_subset(&self.told_lacks) {
            let told = Frame::Lacks { missing: joined(&lacks) };
            self.outbox.with(|out| told.encode(out)).map_err(|error| error.refusal())?;
            self.told_lacks = lacks;
        }
        Ok(())
    }
}

pub(super) fn joined(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(",")
}
