//! What a head has heard: who is here, what they hold, what they have noted. The head's side of the protocol.
//!
//! Nothing of it is on a disk but the founding: a head that starts again hears it anew, and claims nothing that it has not
//! heard. **What a node has noted is taken in before anything is decided about it**, and a node is *present* only once it has
//! told its roster and all that it holds. Decisions are in `repair` (one ledger) and `membership` (the roster); this file
//! takes in, and hands out. A round looks at the ledgers that changed, not at all.

mod membership;
mod repair;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::entries::EntrySet;
use super::held::{Held, Report, State};
use super::id::{Incarnation, LedgerId, NodeId};
use super::planted::{self, Planted};
use super::roster::{Changes, Roster, Standing, TooMany};

#[allow(unused_imports, reason = "its callers are the head")]
pub(crate) use self::{
    membership::{NotChanged, WaitsFor},
    repair::Source,
};

/// What a node says when it registers. Its roster and Holds follow.
#[derive(Clone, Debug)]
pub(crate) struct Registered {
    /// Who.
    pub(crate) node: NodeId,
    /// Its name.
    pub(crate) name: Box<str>,
    /// Whom it replaces in its folder.
    pub(crate) replaces: Option<NodeId>,
    /// Whether it takes entries.
    pub(crate) writable: bool,
    /// Whether it is to be in the cluster: not if it was drained.
    pub(crate) joins: bool,
}

/// An identity can't be taken in: the head has not ended its connection, or that of the one that it replaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct StillHere(pub(crate) NodeId);

/// What a head has to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// All acknowledged entries lie below `end`, by what others say: not a settled end, whoever wrote the ledger.
    Close {
        /// To whom.
        node: NodeId,
        /// Which ledger.
        ledger: LedgerId,
        /// Its least end.
        end: u32,
    },
    /// Keep `from..end`.
    Adopt {
        /// To whom.
        node: NodeId,
        /// Which ledger.
        ledger: LedgerId,
        /// What is below was let go by somebody.
        from: u32,
        /// Its end.
        end: u32,
        /// Whether the end is settled, and stands above a lesser one that the node knows.
        settled: bool,
    },
    /// Have it tell what changed, and say so: it may promise what nobody is heard to promise.
    Flush {
        /// Whom.
        node: NodeId,
        /// What it answers with.
        round: u64,
    },
    /// It counts less than what was settled: end its connection, and say that it has to become another identity.
    Refuse {
        /// Whom.
        node: NodeId,
        /// By which ledger.
        ledger: LedgerId,
        /// What it counts.
        count: u32,
        /// What was settled.
        settled: u32,
    },
}

#[derive(Debug, Default)]
struct Node {
    name: Box<str>,
    replaces: Option<NodeId>,
    here: bool,
    writable: bool,
    joins: bool,
    /// It told its roster on this connection.
    told_roster: bool,
    /// It told all that it holds on this connection.
    told_holds: bool,
    /// What it said it noted; remembered while it is away, for it does not forget.
    noted: Roster,
    /// It has noted all that this head knows.
    knows_all: bool,
    /// The round in which it was last told to flush, on this connection.
    flush_asked: u64,
    /// The round before which everything that it knew is heard.
    flushed: u64,
    last_here: Duration,
    ledgers: BTreeSet<LedgerId>,
}

impl Node {
    const fn is_present(&self) -> bool {
        self.here && self.told_roster && self.told_holds
    }
}

#[derive(Debug)]
struct Hold {
    node: NodeId,
    held: Held,
}

/// A ledger of which somebody who was here within the time to repair has something.
#[derive(Debug, Default)]
struct Known {
    holds: Vec<Hold>,
    /// On whom it was opened, while it is open for somebody.
    members: Option<Box<[NodeId]>>,
    /// Who was told to adopt it and has not answered.
    asked: Option<NodeId>,
    short: u64,
    /// Since which round nobody who is here is heard to promise it: somebody may come who adopts it.
    left_over: Option<u64>,
}

/// What those who are here have of a ledger, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Summary {
    /// Entries below it were let go.
    pub(crate) from: u32,
    /// Its end.
    pub(crate) end: u32,
    /// One more than the greatest entry that anybody has.
    pub(crate) count: u32,
    /// It is being written.
    pub(crate) open: bool,
    /// How many promise it.
    pub(crate) holders: usize,
    /// Copies of entries that are missing.
    pub(crate) short: u64,
}

/// What a head has heard.
#[derive(Debug)]
pub(crate) struct Heard {
    roster: Roster,
    nodes: BTreeMap<NodeId, Node>,
    ledgers: BTreeMap<LedgerId, Known>,
    /// Let go whole by somebody: nobody owes them, now and later.
    gone: BTreeMap<Incarnation, EntrySet>,
    /// Ranges of them.
    gone_ranges: usize,
    /// Ledgers to look at.
    touched: BTreeSet<LedgerId>,
    /// Ledgers that nobody present promises.
    orphans: BTreeSet<LedgerId>,
    /// Counts rounds.
    rounds: u64,
    /// Where looking for what keeps an identity from going out goes on.
    blockers: BTreeMap<NodeId, LedgerId>,
    short: u64,
    repair_after: Duration,
}

/// How many members new ledgers get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OpensOn {
    /// Where there are as many nodes.
    pub(crate) members: usize,
    /// At least.
    pub(crate) least: usize,
}

impl Heard {
    /// A head that starts, with the roster of its `head.state`.
    #[must_use]
    pub(crate) fn new(roster: Roster, repair_after: Duration) -> Self {
        Self {
            roster,
            nodes: BTreeMap::new(),
            ledgers: BTreeMap::new(),
            gone: BTreeMap::new(),
            gone_ranges: 0,
            touched: BTreeSet::new(),
            orphans: BTreeSet::new(),
            rounds: 0,
            blockers: BTreeMap::new(),
            short: 0,
            repair_after,
        }
    }

    /// What this head knows of the roster.
    #[must_use]
    pub(crate) const fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Entries times copies that are missing, over all ledgers.
    #[must_use]
    pub(crate) const fn short(&self) -> u64 {
        self.short
    }

    /// R; as few as possible before the founding.
    fn replicas(&self) -> usize {
        self.roster.copies().map_or(1, |copies| copies.replicas.into())
    }

    /// M for what is to be noted and promised.
    fn least(&self) -> usize {
        self.roster.copies().map_or(1, super::roster::Copies::noted_least)
    }

    /// Whether this node is here and has told everything.
    pub(crate) fn is_present(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(Node::is_present)
    }

    /// Who is here and has told everything.
    pub(crate) fn present(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.iter().filter(|(_, node)| node.is_present()).map(|(&node, _)| node)
    }

    /// Whether somebody let this ledger go whole.
    #[must_use]
    pub(crate) fn is_gone(&self, ledger: LedgerId) -> bool {
        self.gone.get(&ledger.incarnation).is_some_and(|numbers| numbers.contains(ledger.number))
    }

    /// How much this head keeps of what a node told: its ledgers, and the ranges of those that were let go, by whomever.
    #[must_use]
    pub(crate) fn kept_of(&self, node: NodeId) -> usize {
        self.nodes.get(&node).map_or(0, |known| known.ledgers.len()).max(self.gone_ranges)
    }

    /// What a node holds, as it told. A read begins with it.
    #[cfg(test)]
    pub(crate) fn held_by(&self, node: NodeId) -> impl Iterator<Item = (LedgerId, &Held)> {
        let ledgers = self.nodes.get(&node).into_iter().flat_map(|known| &known.ledgers);
        ledgers.filter_map(move |&ledger| {
            let hold = self.ledgers.get(&ledger)?.holds.iter().find(|hold| hold.node == node)?;
            Some((ledger, &hold.held))
        })
    }

    /// Takes a node in. Roster and Holds have to follow before it counts as present.
    ///
    /// # Errors
    /// The head has not ended its old connection: what was written on it would not be over.
    pub(crate) fn registered(&mut self, new: Registered) -> Result<(), StillHere> {
        let here = |node: NodeId| self.nodes.get(&node).is_some_and(|known| known.here);
        if let Some(node) = [Some(new.node), new.replaces].into_iter().flatten().find(|&node| here(node)) {
            return Err(StillHere(node));
        }
        let known = self.nodes.entry(new.node).or_default();
        (known.name, known.replaces) = (new.name, new.replaces);
        (known.writable, known.joins, known.here) = (new.writable, new.joins, true);
        (known.told_roster, known.told_holds) = (false, false);
        (known.flush_asked, known.flushed) = (0, 0);
        Ok(())
    }

    /// The name that the roster has for an identity.
    pub(crate) fn name_of(&self, node: NodeId) -> Option<&str> {
        let found = self.roster.identities().find(|(known, _)| *known == node);
        found.map(|(_, record)| &*record.name).filter(|name| !name.is_empty())
    }

    /// A node said that it can write, or that it can't.
    pub(crate) fn set_writable(&mut self, node: NodeId, writable: bool) {
        if let Some(known) = self.nodes.get_mut(&node) {
            known.writable = writable;
        }
        // Ledgers may wait for somebody who can adopt them.
        self.touch_short();
    }

    /// There is something to keep: this node is to be in the cluster from now on; but not one that leaves by its own word, or it
    /// would be taken in again as soon as it is out, and missed by everybody.
    pub(crate) fn set_joins(&mut self, node: NodeId) {
        if let Some(known) = self.nodes.get_mut(&node) {
            known.joins = !matches!(known.noted.generation(node).standing(), Standing::Leaving | Standing::Out);
        }
    }

    /// Where a ledger ends, once it is over for all who are present and hold it.
    #[must_use]
    pub(crate) fn end_of(&self, ledger: LedgerId) -> Option<u32> {
        let heads = self.heads(self.ledgers.get(&ledger)?);
        heads.end.filter(|_| !heads.open)
    }

    /// Every ledger of which somebody who is here has something, with how much that is at most, and whether it is over.
    pub(crate) fn all(&self) -> impl Iterator<Item = (LedgerId, Summary)> + '_ {
        self.ledgers.iter().map(|(&ledger, known)| {
            let heads = self.heads(known);
            let holders = self.present_holds(known).filter(|(_, held)| held.state.promises()).count();
            let (from, end) = (heads.from, heads.end.unwrap_or(heads.greatest));
            (ledger, Summary { from, end, count: heads.greatest, open: heads.open, holders, short: known.short })
        })
    }

    /// Entries that somebody who is here promises and nobody who is here has.
    #[must_use]
    pub(crate) fn lacking(&self) -> Vec<(LedgerId, std::ops::Range<u32>)> {
        let mut lacking = Vec::new();
        for (&ledger, known) in &self.ledgers {
            let heads = self.heads(known);
            let Some(end) = heads.end.filter(|_| heads.promised && !self.is_gone(ledger)) else { continue };
            let has_all =
                |held: &Held| held.lacking.is_none() && held.count.max(held.end) >= end && held.from <= heads.from;
            if self.present_holds(known).any(|(_, held)| has_all(held)) {
                continue;
            }
            let mut seen = EntrySet::default();
            for (_, held) in self.present_holds(known) {
                let mut at = heads.from;
                while let Some(run) = held.run(at..end) {
                    at = run.end;
                    seen.insert_range(run);
                }
            }
            lacking.extend(seen.missing(heads.from..end).map(|range| (ledger, range)));
        }
        lacking
    }

    /// Who is here and promises a ledger.
    pub(crate) fn promisers(&self, ledger: LedgerId) -> impl Iterator<Item = NodeId> + '_ {
        let known = self.ledgers.get(&ledger).into_iter().flat_map(|known| self.present_holds(known));
        known.filter(|(_, held)| held.state.promises()).map(|(node, _)| node)
    }

    /// A node's connection ended. What it holds counts until the time to repair has passed.
    pub(crate) fn lost(&mut self, node: NodeId, now: Duration) {
        if let Some(known) = self.nodes.get_mut(&node) {
            (known.here, known.last_here) = (false, now);
            (known.told_roster, known.told_holds) = (false, false);
            let asked = self.ledgers.iter_mut().filter(|(_, ledger)| ledger.asked == Some(node));
            for (&ledger, known) in asked {
                known.asked = None;
                self.touched.insert(ledger);
            }
        }
        self.touch_all_of(node);
    }

    /// A node said what it has noted: all of it, each time. Returns what this head did not know.
    ///
    /// # Errors
    /// The roster would grow beyond its bounds; the node has to be refused.
    pub(crate) fn noted(&mut self, node: NodeId, roster: Roster) -> Result<Changes, TooMany> {
        let changes = self.roster.merge(&roster)?;
        if let Some(known) = self.nodes.get_mut(&node) {
            known.told_roster = true;
            known.knows_all = roster.covers(&self.roster);
            known.noted = roster;
        }
        self.changed(&changes);
        self.became_present(node);
        Ok(changes)
    }

    /// A node said what it holds: everything, or what changed.
    pub(crate) fn holds(&mut self, node: NodeId, all: bool, reports: Vec<Report>) {
        if all {
            self.drop_holds(node);
        }
        for report in reports {
            match report {
                Report::Ledger { ledger, members, held } => self.hold(node, ledger, members, held),
                Report::Gone { incarnation, numbers } => {
                    let touched = self.ledgers.range(LedgerId { incarnation, number: numbers.start }..);
                    let touched = touched.map(|(&ledger, _)| ledger);
                    let touched: Vec<LedgerId> = touched
                        .take_while(|ledger| ledger.incarnation == incarnation && ledger.number < numbers.end)
                        .collect();
                    for ledger in touched {
                        self.drop_hold(node, ledger);
                    }
                    let gone = self.gone.entry(incarnation).or_default();
                    let before = gone.pieces();
                    gone.insert_range(numbers);
                    self.gone_ranges = self.gone_ranges.saturating_sub(before) + gone.pieces();
                }
            }
        }
        if all && let Some(known) = self.nodes.get_mut(&node) {
            known.told_holds = true;
            self.became_present(node);
        }
    }

    fn hold(&mut self, node: NodeId, ledger: LedgerId, members: Box<[NodeId]>, held: Held) {
        let known = self.ledgers.entry(ledger).or_default();
        if known.asked == Some(node) {
            known.asked = None;
        }
        if held.state == State::Open {
            known.members = Some(members);
        }
        match known.holds.iter_mut().find(|hold| hold.node == node) {
            Some(hold) => hold.held = held,
            None => known.holds.push(Hold { node, held }),
        }
        if known.holds.iter().all(|hold| hold.held.state != State::Open) {
            known.members = None;
        }
        self.nodes.entry(node).or_default().ledgers.insert(ledger);
        self.touched.insert(ledger);
    }

    fn drop_hold(&mut self, node: NodeId, ledger: LedgerId) {
        if let Some(known) = self.ledgers.get_mut(&ledger) {
            known.holds.retain(|hold| hold.node != node);
            if known.asked == Some(node) {
                known.asked = None;
            }
        }
        if let Some(known) = self.nodes.get_mut(&node) {
            known.ledgers.remove(&ledger);
        }
        self.touched.insert(ledger);
    }

    fn drop_holds(&mut self, node: NodeId) {
        let ledgers = self.nodes.get(&node).map(|known| known.ledgers.clone()).unwrap_or_default();
        for ledger in ledgers {
            self.drop_hold(node, ledger);
        }
    }

    fn touch_all_of(&mut self, node: NodeId) {
        if let Some(known) = self.nodes.get(&node) {
            self.touched.extend(&known.ledgers);
        }
    }

    /// If a node is present from now on, what it holds is to be looked at, and what waited for somebody to adopt it.
    fn became_present(&mut self, node: NodeId) {
        if self.is_present(node) {
            self.touch_all_of(node);
            self.touch_short();
        }
    }

    fn touch_short(&mut self) {
        let short = self
            .ledgers
            .iter()
            .filter(|(_, ledger)| ledger.short > 0 || ledger.left_over.is_some())
            .map(|(&ledger, _)| ledger);
        self.touched.extend(short);
    }

    /// The roster changed: who has noted all of it, and which ledgers have other holders.
    fn changed(&mut self, changes: &Changes) {
        if changes.is_empty() {
            return;
        }
        for known in self.nodes.values_mut() {
            known.knows_all = known.noted.covers(&self.roster);
        }
        for moved in &changes.moved {
            self.touch_all_of(moved.node);
        }
        self.touch_short();
    }

    /// What a node has to note: all that this head knows, if it has not.
    #[must_use]
    pub(crate) fn to_note(&self, node: NodeId) -> Option<&Roster> {
        let known = self.nodes.get(&node).filter(|known| known.here)?;
        (!known.knows_all).then_some(&self.roster)
    }

    /// Whether new ledgers may be opened on a node: it is `in`, so M others would miss it, and it has itself noted all that
    /// this head knows, so it takes nothing together with somebody who leaves.
    #[must_use]
    pub(crate) fn usable(&self, node: NodeId) -> bool {
        let Some(known) = self.nodes.get(&node) else { return false };
        if planted::is(Planted::UsableAtOnce) {
            return known.is_present() && self.roster.generation(node).counts();
        }
        known.is_present() && known.writable && known.knows_all && self.roster.generation(node).gets_ledgers()
    }

    /// The nodes that new ledgers may be opened on: none before there are M, or while a lower M is not noted yet.
    #[must_use]
    pub(crate) fn usables(&self) -> Vec<NodeId> {
        let Some(copies) = self.roster.copies() else { return Vec::new() };
        let usable: Vec<NodeId> = self.present().filter(|&node| self.usable(node)).collect();
        if usable.len() >= self.least_opened(copies) { usable } else { Vec::new() }
    }

    /// How many members new ledgers get, and at least; none before there is a roster.
    #[must_use]
    pub(crate) fn opens_on(&self) -> Option<OpensOn> {
        let copies = self.roster.copies()?;
        let least = self.least_opened(copies);
        Some(OpensOn { members: usize::from(copies.replicas).max(least), least })
    }

    /// The least members a new ledger has: M, or what it was before until enough have noted that it is lower.
    fn least_opened(&self, copies: super::roster::Copies) -> usize {
        let noted = |node: NodeId| self.nodes.get(&node).is_some_and(|known| known.noted.copies() == Some(copies));
        let through = self.roster.is_noted(None, copies.noted_least(), noted);
        if through { copies.least.into() } else { copies.noted_least() }
    }

    /// One round: decides about the roster, then about at most `most` of the ledgers that changed. What is due is returned;
    /// who has to note a changed roster is told by [`to_note`](Self::to_note).
    pub(crate) fn round(&mut self, now: Duration, most: usize) -> Vec<Order> {
        self.rounds += 1;
        self.expire(now);
        self.decide_roster();
        let mut orders = Vec::new();
        if self.all_here() {
            self.touched.append(&mut self.orphans);
        }
        for _ in 0..most {
            let Some(ledger) = self.touched.pop_first() else { break };
            self.look_at(ledger, &mut orders);
        }
        self.flush(&mut orders);
        orders
    }

    /// Who has been away for longer than the time to repair is no holder any more.
    fn expire(&mut self, now: Duration) {
        let late =
            |known: &Node| !known.here && !known.ledgers.is_empty() && known.last_here + self.repair_after <= now;
        let late: Vec<NodeId> = self.nodes.iter().filter(|(_, known)| late(known)).map(|(&node, _)| node).collect();
        for node in late {
            self.drop_holds(node);
        }
    }

    fn standing(&self, node: NodeId) -> Standing {
        self.roster.generation(node).standing()
    }
}

#[cfg(test)]
#[path = "../heard_tests.rs"]
mod tests;
