//! Who comes in, who leaves, who is missed no more: the head's decisions about the roster.
//!
//! An identity is `new` first, `in` once M others would miss it, and gets ledgers then. It goes out once no read that
//! counts without it can be wrong: M others know that it leaves, and everything that it could be asked for is promised by
//! M others.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Included, Unbounded};

use super::super::id::{LedgerId, NodeId};
use super::super::planted::{self, Planted};
use super::super::roster::{Copies, Founding, Generation, Roster, Standing, TooMany};
use super::repair::Heads;
use super::{Heard, Node};

/// Why a change of the roster is not made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotChanged {
    /// A roster is known already: to this head, or to a node here.
    Founded,
    /// A cluster is founded with M nodes or more.
    TooFew {
        /// M.
        least: usize,
    },
    /// It is connected: drain it.
    Here,
    /// It is not connected: a node notes first that it leaves.
    Away,
    /// Its state does not allow that.
    Standing(Standing),
    /// M and R are not 1 ≤ M ≤ R, or R is too great.
    Copies,
    /// They were changed as often as there are numbers for it, or somebody in the roster says so.
    Worn,
    /// M was changed before, and that is not through yet.
    NotThrough,
    /// The roster is full.
    TooMany(TooMany),
}

/// What a change of R and M waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum WaitsFor {
    /// These have not noted it; none if there are not as many as M.
    Nodes(Vec<NodeId>),
    /// Fewer than M promise this ledger.
    Ledger(LedgerId),
}

impl From<TooMany> for NotChanged {
    fn from(error: TooMany) -> Self {
        Self::TooMany(error)
    }
}

impl Heard {
    /// Founds a cluster with all nodes that are present: where the rosters of a head and of all its nodes are empty, one
    /// begins. `head.state` has to be synced with it before the first Put.
    ///
    /// # Errors
    /// Something is noted already, or these are fewer than M.
    pub(crate) fn found(&mut self, founding: Founding, copies: Copies) -> Result<(), NotChanged> {
        let founders: Vec<NodeId> = self.present().collect();
        let noted = |node: &NodeId| self.nodes.get(node).is_some_and(|known| known.noted.is_founded());
        if self.roster.is_founded() || founders.iter().any(noted) {
            return Err(NotChanged::Founded);
        }
        if !copies.is_possible() {
            return Err(NotChanged::Copies);
        }
        if founders.len() < copies.least.into() {
            return Err(NotChanged::TooFew { least: copies.least.into() });
        }
        let mut roster = Roster::default();
        roster.set_copies(copies);
        roster.found(founding)?;
        for node in founders {
            roster.set(node, Generation::FOUNDER, self.name(node))?;
        }
        let changes = self.roster.merge(&roster)?;
        self.changed(&changes);
        Ok(())
    }

    fn name(&self, node: NodeId) -> &str {
        self.nodes.get(&node).map_or("", |known| &known.name)
    }

    /// A node that is here is drained: the record that it has to note first. It is the node's word that makes it leave here.
    ///
    /// # Errors
    /// It is not here, or not in.
    pub(crate) fn drain(&mut self, node: NodeId) -> Result<Roster, NotChanged> {
        let generation = self.roster.generation(node);
        let next = generation.leaving().ok_or(NotChanged::Standing(generation.standing()))?;
        let known = self.nodes.get_mut(&node).filter(|known| known.here).ok_or(NotChanged::Away)?;
        known.joins = false;
        let mut roster = Roster::default();
        roster.set(node, next, &known.name)?;
        Ok(roster)
    }

    /// A node will not come back, by a person's word: `drain --gone`.
    ///
    /// # Errors
    /// It is here, or leaves already for good.
    pub(crate) fn give_up(&mut self, node: NodeId) -> Result<(), NotChanged> {
        if self.nodes.get(&node).is_some_and(|known| known.here) {
            return Err(NotChanged::Here);
        }
        let generation = self.roster.generation(node);
        let next = generation.given_up().ok_or(NotChanged::Standing(generation.standing()))?;
        Ok(self.set(node, next)?)
    }

    /// What only it had is given up, too: `drain --gone --lose`. All but the repair is asked for as usual.
    ///
    /// # Errors
    /// It is not given up, or not enough of the others know that it is.
    pub(crate) fn lose(&mut self, node: NodeId) -> Result<(), NotChanged> {
        let generation = self.roster.generation(node);
        let next = generation.out().filter(|_| generation.standing() == Standing::GivenUp);
        let next = next.ok_or(NotChanged::Standing(generation.standing()))?;
        if self.enough_know(node).is_none() {
            return Err(NotChanged::NotThrough);
        }
        Ok(self.set(node, next)?)
    }

    /// Changes R and M; nothing happens where that is asked for already.
    ///
    /// # Errors
    /// They make no sense, or the change before is not through.
    pub(crate) fn change_copies(&mut self, replicas: u8, least: u8) -> Result<(), NotChanged> {
        let old = self.roster.copies().ok_or(NotChanged::TooFew { least: least.into() })?;
        let generation = old.next_generation().ok_or(NotChanged::Worn)?;
        let new = Copies { replicas, least, before: old.least, generation };
        if !new.is_possible() {
            return Err(NotChanged::Copies);
        }
        if (old.replicas, old.least) == (replicas, least) {
            return Ok(());
        }
        if old.before != old.least {
            return Err(NotChanged::NotThrough);
        }
        self.set_copies(new);
        Ok(())
    }

    fn set_copies(&mut self, copies: Copies) {
        let changes = self.roster.set_copies(copies);
        self.changed(&changes);
        self.touched.extend(self.ledgers.keys());
    }

    fn set(&mut self, node: NodeId, generation: Generation) -> Result<(), TooMany> {
        let known = self.roster.identities().find(|(id, _)| *id == node).map(|(_, record)| record.name.clone());
        let name = known.unwrap_or_else(|| self.name(node).into());
        let changes = self.roster.set(node, generation, &name)?;
        self.changed(&changes);
        Ok(())
    }

    /// Decides what can be decided about the roster. A head whose roster is full takes in nobody else, and goes on.
    pub(super) fn decide_roster(&mut self) {
        if !self.roster.is_founded() {
            return;
        }
        let present: Vec<NodeId> = self.present().collect();
        for &node in &present {
            self.replace(node);
            self.join(node);
            self.promote(node);
        }
        let leaving = self.roster.identities().filter(|(_, record)| record.generation.out().is_some());
        let leaving: Vec<NodeId> = leaving.map(|(node, _)| node).collect();
        self.blockers.retain(|node, _| leaving.contains(node));
        for node in leaving {
            if self.may_go(node)
                && let Some(next) = self.roster.generation(node).out()
            {
                // Its record exists, so the roster does not grow.
                if self.set(node, next).is_ok() {
                    self.blockers.remove(&node);
                }
            }
        }
        self.finish_copies();
    }

    /// Who replaces another identity in its folder says that this one will not come back.
    fn replace(&mut self, node: NodeId) {
        let replaces = self.nodes.get(&node).and_then(|known| known.replaces);
        if let Some(old) = replaces
            && !self.nodes.get(&old).is_some_and(|known| known.here)
            && let Some(next) = self.roster.generation(old).given_up()
            && self.set(old, next).is_ok()
            && let Some(known) = self.nodes.get_mut(&node)
        {
            known.replaces = None;
        }
    }

    /// An unknown identity, or one that is out and wants in again, is `new`. It joins once on a connection: one that goes out
    /// on it ends, and so does one that has noted that it is out.
    fn join(&mut self, node: NodeId) {
        let Some(known) = self.nodes.get_mut(&node).filter(|known| known.joins) else { return };
        known.joins = false;
        let is_over = known.noted.generation(node).standing() == Standing::Out;
        if let Some(next) = self.roster.generation(node).joining().filter(|_| !is_over) {
            // A head whose roster is full takes in nobody else.
            self.set(node, next).unwrap_or_default();
        }
    }

    /// What is `new` is `in`, and a founder gets ledgers, once M others would miss it.
    fn promote(&mut self, node: NodeId) {
        let generation = self.roster.generation(node);
        let Some(next) = generation.promoted() else { return };
        let noted =
            |other: NodeId| self.nodes.get(&other).is_some_and(|known| known.noted.generation(node) >= generation);
        if self.roster.is_noted(Some(node), self.least(), noted) {
            // Its record exists, so the roster does not grow.
            let promoted = self.set(node, next);
            debug_assert!(promoted.is_ok(), "{promoted:?}");
        }
    }

    /// Who is present, of the roster, and has noted all that this head knows of it. By noting it a node has ended the
    /// ledgers that it shared with those that leave, and it has told so before.
    fn noters(&self) -> BTreeSet<NodeId> {
        let knows = |node: &Node| node.knows_all || planted::is(Planted::OutUnnoted);
        let here = self.nodes.iter().filter(|(_, node)| node.is_present() && knows(node)).map(|(&node, _)| node);
        here.filter(|&node| self.roster.generation(node).counts()).collect()
    }

    /// All that are not given up are here, and have noted the roster: nobody else knows anything.
    pub(super) fn all_here(&self) -> bool {
        let noters = self.noters();
        let all =
            self.roster.who_counts().all(|node| noters.contains(&node) || self.standing(node) == Standing::GivenUp);
        all && !noters.is_empty()
    }

    /// (a) M others, and all of the roster but fewer than M, are here and have noted all that this head knows of it: then a
    /// read that does not count the identity hears one of them, and whoever lets another go at the same time is heard, too.
    /// For one that is given up all that are not given up will do. (c) M others are `in`, or nothing could be kept.
    fn enough_know(&self, node: NodeId) -> Option<BTreeSet<NodeId>> {
        let least = self.least();
        let mut noters = self.noters();
        let rest: Vec<NodeId> = self.roster.who_counts().filter(|other| !noters.contains(other)).collect();
        noters.remove(&node);
        let given_up = |node: NodeId| self.standing(node) == Standing::GivenUp;
        let all = given_up(node) && rest.iter().all(|&other| given_up(other)) && !noters.is_empty();
        let many = rest.len() < least && noters.len() >= least;
        let others = self.roster.who_counts().filter(|&other| other != node && self.roster.generation(other).is_in());
        // Somebody who is here and not in the roster yet may be what replaces it.
        let known = self.present().all(|other| {
            self.standing(other) != Standing::Unknown || !self.nodes.get(&other).is_some_and(|known| known.joins)
        });
        ((all || many) && known && others.count() >= least).then_some(noters)
    }

    /// Identities that are given up and that a read misses yet.
    fn given_up(&self) -> usize {
        self.roster.who_counts().filter(|&node| self.standing(node) == Standing::GivenUp).count()
    }

    /// Whether an identity that leaves may go out. (b) Each ledger that those here have is over and promised whole by M of
    /// those that know, or is open without it. The search goes on where it stopped the last time.
    fn may_go(&mut self, node: NodeId) -> bool {
        let Some(noters) = self.enough_know(node) else { return false };
        if self.standing(node) == Standing::GivenUp && self.given_up() >= self.least() {
            // With M given up at once, a ledger may be gone with all who had it, and nobody counts that: a person has to say that
            // it is.
            return false;
        }
        if planted::is(Planted::OutUnrepaired) {
            return true;
        }
        let start = self.blockers.get(&node).copied();
        let from = start.map_or(Unbounded, Included);
        let mut order = self.ledgers.range((from, Unbounded)).map(|(&ledger, _)| ledger).chain(
            start
                .into_iter()
                .flat_map(|start| self.ledgers.range((Unbounded, Excluded(start))).map(|(&ledger, _)| ledger)),
        );
        match order.find(|&ledger| self.blocks(ledger, node, &noters)) {
            Some(ledger) => {
                self.blockers.insert(node, ledger);
                false
            }
            None => true,
        }
    }

    fn blocks(&self, ledger: LedgerId, node: NodeId, noters: &BTreeSet<NodeId>) -> bool {
        let Some(known) = self.ledgers.get(&ledger) else { return false };
        if self.present_holds(known).next().is_none() || self.is_gone(ledger) {
            return false;
        }
        let open = |at: NodeId, held: &super::Held| noters.contains(&at) && held.state == super::State::Open;
        if known.members.as_ref().is_some_and(|members| !members.contains(&node))
            && self.present_holds(known).any(|(at, held)| open(at, held))
        {
            return false;
        }
        let heads = self.heads(known);
        if !heads.promised && self.standing(node) == Standing::Leaving && self.is_present(node) {
            // Leftovers of lost identities may have holes that nobody can fill. Who leaves promises nothing of them: what it has
            // is to be elsewhere.
            return !self.is_elsewhere(known, node, noters);
        }
        // Without an end it is open with the one that leaves, or only leftovers are there, which somebody has to promise
        // first.
        let Some(end) = heads.end else { return !self.is_nothing(known) };
        let owed = heads.from.min(end)..end;
        let promises = |at: NodeId, held: &super::Held| {
            noters.contains(&at)
                && self.roster.generation(at).is_in()
                && held.state.is_over()
                && held.covers(owed.clone())
        };
        !owed.is_empty() && self.present_holds(known).filter(|(at, held)| promises(*at, held)).count() < self.least()
    }

    /// Whether M of those that know have all that a node has of a ledger.
    fn is_elsewhere(&self, known: &super::Known, node: NodeId, noters: &BTreeSet<NodeId>) -> bool {
        let Some((_, own)) = self.present_holds(known).find(|(at, _)| *at == node) else { return true };
        let mut runs = Vec::new();
        let mut at = 0;
        while let Some(run) = own.run(at..u32::MAX) {
            at = run.end;
            runs.push(run);
        }
        let has_all = |at: NodeId, held: &super::Held| {
            noters.contains(&at)
                && self.roster.generation(at).is_in()
                && runs.iter().all(|run| held.covers(run.clone()))
        };
        runs.is_empty() || self.present_holds(known).filter(|(at, held)| has_all(*at, held)).count() >= self.least()
    }

    /// Whether these are leftovers of lost identities, with holes that nobody can fill, and M have all that is left.
    fn is_all_there_is(&self, known: &super::Known, heads: Heads, noters: &BTreeSet<NodeId>) -> bool {
        let is_left_over = !heads.promised && self.all_here();
        is_left_over && self.present_holds(known).all(|(at, _)| self.is_elsewhere(known, at, noters))
    }

    /// Nothing is there, and nobody was told to get anything.
    fn is_nothing(&self, known: &super::Known) -> bool {
        self.present_holds(known).all(|(_, held)| held.state == super::State::Part && held.count == 0 && held.end == 0)
    }

    /// A change of M is through, once nothing stands in its way. Reads count with it from then on.
    fn finish_copies(&mut self) {
        let Some(copies) = self.roster.copies().filter(|copies| copies.before != copies.least) else { return };
        if self.copies_wait_for(copies).is_none()
            && let Some(generation) = copies.next_generation()
        {
            self.set_copies(Copies { before: copies.least, generation, ..copies });
        }
    }

    /// What a change of R and M waits for; none if it is through.
    pub(crate) fn change_waits_for(&self) -> Option<WaitsFor> {
        self.copies_wait_for(self.roster.copies().filter(|copies| copies.before != copies.least)?)
    }

    /// All of the roster but fewer than M have to note it, and each ledger that they have is to be promised by M, or open on as
    /// many.
    fn copies_wait_for(&self, copies: Copies) -> Option<WaitsFor> {
        let (noters, least) = (self.noters(), copies.noted_least());
        let rest: Vec<NodeId> = self.roster.who_counts().filter(|node| !noters.contains(node)).collect();
        if noters.len() < least || rest.len() >= copies.read_least() {
            return Some(WaitsFor::Nodes(rest));
        }
        let lacks = |(&ledger, known): (&LedgerId, &super::Known)| {
            let many = |members: &[NodeId]| members.len() >= copies.least.into();
            let open = known.members.as_ref().is_some_and(|members| many(members));
            let heads = self.heads(known);
            let owed = |end: u32| heads.from.min(end)..end;
            let promises = |at: NodeId, held: &super::Held, end: u32| {
                noters.contains(&at)
                    && self.roster.generation(at).is_in()
                    && held.state.is_over()
                    && held.covers(owed(end))
            };
            let holders = |end: u32| self.present_holds(known).filter(|(at, held)| promises(*at, held, end)).count();
            // Of a ledger that owes nothing nobody makes copies.
            let few = match heads.end {
                Some(end) => !owed(end).is_empty() && holders(end) < copies.least.into(),
                None => !self.is_nothing(known) && !self.is_all_there_is(known, heads, &noters),
            };
            !self.is_gone(ledger) && !open && few && self.present_holds(known).next().is_some()
        };
        self.ledgers.iter().find(|ledger| lacks(*ledger)).map(|(&ledger, _)| WaitsFor::Ledger(ledger))
    }
}
