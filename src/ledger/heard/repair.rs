//! What is to be done about one ledger: who has lost of it, who is told its end, who adopts it, who has what another wants.

use std::ops::Range;

use super::super::entries::EntrySet;
use super::super::held::{Held, State};
use super::super::id::{LedgerId, NodeId};
use super::super::planted::{self, Planted};
use super::{Heard, Known, Order};

/// Who can be asked for entries that another one lacks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Source {
    /// The node.
    pub(crate) node: NodeId,
    /// What it has of them.
    pub(crate) entries: Range<u32>,
}

/// What those present say of a ledger.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heads {
    /// The greatest end that the writing head called settled. No lesser end is believed, whoever says it.
    pub(super) floor: u32,
    /// The least end of those for whom it is over: all acknowledged entries lie below, now and later.
    pub(super) end: Option<u32>,
    /// Below it somebody let go, so nobody owes it: the greatest counts.
    pub(super) from: u32,
    /// Somebody promises it.
    pub(super) promised: bool,
    /// The greatest count of anybody.
    pub(super) greatest: u32,
    /// It is open for somebody.
    pub(super) open: bool,
}

impl Heard {
    pub(super) fn present_holds<'a>(&'a self, known: &'a Known) -> impl Iterator<Item = (NodeId, &'a Held)> {
        known.holds.iter().filter(|hold| self.is_present(hold.node)).map(|hold| (hold.node, &hold.held))
    }

    pub(super) fn heads(&self, known: &Known) -> Heads {
        let mut heads = Heads::default();
        for (_, held) in self.present_holds(known) {
            heads.from = heads.from.max(held.from);
            heads.greatest = heads.greatest.max(held.count);
            heads.promised |= held.state.promises();
            heads.open |= held.state == State::Open;
            if held.state == State::Settled {
                heads.floor = heads.floor.max(held.end);
            }
            if held.state.is_over() || planted::is(Planted::AdoptOpen) && held.state == State::Open {
                heads.end = Some(heads.end.map_or(held.end, |end| end.min(held.end)));
            }
        }
        heads.end = heads.end.map(|end| end.max(heads.floor));
        heads
    }

    /// Looks at a ledger that changed.
    pub(super) fn look_at(&mut self, ledger: LedgerId, orders: &mut Vec<Order>) {
        self.orphans.remove(&ledger);
        let gone = self.is_gone(ledger);
        let Some(known) = self.ledgers.get(&ledger) else { return };
        if known.holds.is_empty() && known.asked.is_none() {
            self.short -= known.short;
            self.ledgers.remove(&ledger);
            return;
        }
        let mut heads = self.heads(known);
        self.refusals(ledger, known, heads, orders);
        let left_over = (!gone && !heads.promised).then_some(self.rounds);
        let since = self.set_left_over(ledger, left_over);
        let Some(known) = self.ledgers.get(&ledger) else { return };
        if gone {
            // Somebody let it go whole: it is not repaired, nobody is short of it, and who was to adopt it need not.
            for (node, held) in self.present_holds(known).filter(|(_, held)| held.adopts()) {
                orders.push(Order::Adopt { node, ledger, from: held.end, end: held.end, settled: false });
            }
            self.set_short(ledger, 0);
            return;
        }
        if !heads.promised {
            // Only what lost identities left: somebody who is away may know more. If nobody is, that is what is saved; it
            // may be nothing, and then nobody goes on looking for it. Who is here may promise it as well and be about to say so:
            // what one node copied from another is sometimes heard of before that one's word.
            if !(self.all_here() && since.is_none_or(|since| self.all_flushed(since))) {
                self.orphans.insert(ledger);
                return;
            }
            heads.end = Some(heads.greatest);
        }
        let short = self.short_of(known, heads);
        let asked = match heads.end {
            Some(end) => self.repair(ledger, known, Heads { end: Some(end), ..heads }, end, orders),
            None => None,
        };
        if asked.is_some()
            && let Some(known) = self.ledgers.get_mut(&ledger)
        {
            known.asked = asked;
        }
        self.set_short(ledger, short);
    }

    /// Notes whether nobody promises it; answers since when.
    fn set_left_over(&mut self, ledger: LedgerId, now: Option<u64>) -> Option<u64> {
        let known = self.ledgers.get_mut(&ledger)?;
        known.left_over = now.map(|now| known.left_over.unwrap_or(now));
        known.left_over
    }

    /// Whether everything is heard that those who are here knew in this round.
    fn all_flushed(&self, since: u64) -> bool {
        let behind = |node: &super::Node| node.is_present() && node.flushed < since;
        !self.nodes.values().any(behind)
    }

    /// Has those flush who may know more of what nobody promises: the flush before a view is changed, of virtual synchrony
    /// (Birman and Joseph, "Exploiting Virtual Synchrony in Distributed Systems", SOSP 1987).
    pub(super) fn flush(&mut self, orders: &mut Vec<Order>) {
        let since = self.orphans.iter().filter_map(|ledger| self.ledgers.get(ledger)?.left_over).max();
        let Some(since) = since.filter(|_| self.all_here()) else { return };
        let round = self.rounds;
        for (&node, known) in &mut self.nodes {
            if known.is_present() && known.flush_asked < since {
                known.flush_asked = round;
                orders.push(Order::Flush { node, round });
            }
        }
    }

    /// A node has told everything that it knew when it was told to flush in this round.
    pub(crate) fn flushed(&mut self, node: NodeId, round: u64) {
        if let Some(known) = self.nodes.get_mut(&node) {
            // What was never asked is no answer.
            known.flushed = known.flushed.max(round.min(known.flush_asked));
        }
    }

    fn set_short(&mut self, ledger: LedgerId, short: u64) {
        if let Some(known) = self.ledgers.get_mut(&ledger) {
            self.short = self.short - known.short + short;
            known.short = short;
        }
    }

    /// Members that count less than what is settled have lost what they acknowledged: an older folder, or a file that was
    /// cut. What was let go whole is not compared; nor is a ledger that was open when the node told of it, for it may have
    /// taken more since, and the others may be heard earlier.
    fn refusals(&self, ledger: LedgerId, known: &Known, heads: Heads, orders: &mut Vec<Order>) {
        for (node, held) in self.present_holds(known) {
            if held.member && held.state != State::Open && held.count < heads.floor && !held.let_go() {
                orders.push(Order::Refuse { node, ledger, count: held.count, settled: heads.floor });
            }
        }
    }

    /// Tells the ends, and who adopts. Returns who was asked to.
    fn repair(
        &self,
        ledger: LedgerId,
        known: &Known,
        heads: Heads,
        end: u32,
        orders: &mut Vec<Order>,
    ) -> Option<NodeId> {
        let (from, settled) = (heads.from.min(end), end == heads.floor && end > 0);
        for (node, held) in self.present_holds(known) {
            let adopt = Order::Adopt { node, ledger, from, end, settled };
            if held.state.is_over() {
                if held.end > end && held.state == State::Over {
                    orders.push(Order::Close { node, ledger, end });
                } else if held.end < end || held.from < from {
                    orders.push(adopt);
                }
            } else if held.adopts() && (held.end != end || held.from < from) && known.asked != Some(node) {
                orders.push(adopt);
            }
        }
        if from >= end || known.asked.is_some() || self.holders(known) >= self.replicas() {
            return None;
        }
        let node = self.adopter(ledger, known, from..end)?;
        orders.push(Order::Adopt { node, ledger, from, end, settled });
        Some(node)
    }

    /// Nodes that are `in` and have it, or were told to get it, and were here within the time to repair.
    fn holders(&self, known: &Known) -> usize {
        let counts = |held: &Held| held.state.promises() || held.adopts();
        known.holds.iter().filter(|hold| counts(&hold.held) && self.roster.generation(hold.node).is_in()).count()
    }

    /// The writable node that has most of it; among those that have equally much the first by a hash, so that ledgers
    /// spread and heads choose alike.
    fn adopter(&self, ledger: LedgerId, known: &Known, wanted: Range<u32>) -> Option<NodeId> {
        let of = |node: NodeId| known.holds.iter().find(|hold| hold.node == node).map(|hold| &hold.held);
        let free = |&node: &NodeId| of(node).is_none_or(|held| held.state == State::Part && !held.adopts());
        let able = |&node: &NodeId| {
            self.nodes.get(&node).is_some_and(|known| known.writable) && self.roster.generation(node).gets_ledgers()
        };
        let rank = |&node: &NodeId| (of(node).map_or(0, |held| held.count_in(wanted.clone())), hash(ledger, node));
        self.present().filter(able).filter(free).max_by_key(rank)
    }

    /// Entries times the copies that are missing on nodes that are present and `in`.
    fn short_of(&self, known: &Known, heads: Heads) -> u64 {
        let ends = self.present_holds(known).filter(|(_, held)| held.state == State::Open).map(|(_, held)| held.end);
        let Some(end) = heads.end.or_else(|| ends.min()) else { return 0 };
        let owed = heads.from..end.max(heads.from);
        // What lost identities left may have holes that nobody can fill: of those no copy is missing.
        let len = if heads.promised { u64::from(owed.end - owed.start) } else { self.anywhere(known, owed.clone()) };
        let counts = self.present_holds(known).filter(|(node, _)| self.roster.generation(*node).is_in());
        let mut counts: Vec<u64> = counts.map(|(_, held)| held.count_in(owed.clone())).collect();
        counts.sort_unstable_by_key(|&count| std::cmp::Reverse(count));
        let replicas = self.replicas();
        let there: u64 = counts.iter().take(replicas).sum();
        (len * replicas as u64).saturating_sub(there)
    }

    /// How many of these entries somebody has who is here.
    fn anywhere(&self, known: &Known, wanted: Range<u32>) -> u64 {
        let mut seen = EntrySet::default();
        for (_, held) in self.present_holds(known) {
            let mut at = wanted.start;
            while let Some(run) = held.run(at..wanted.end) {
                at = run.end;
                seen.insert_range(run);
            }
        }
        seen.count()
    }

    /// Whom to ask for entries that a node lacks: as few pieces as there are, each from one that says it has it. What nobody
    /// has is left out.
    #[must_use]
    pub(crate) fn sources(
        &self,
        asker: NodeId,
        ledger: LedgerId,
        wanted: Range<u32>,
        may_be_asked: impl Fn(NodeId) -> bool,
    ) -> Vec<Source> {
        let mut sources = Vec::new();
        let Some(known) = self.ledgers.get(&ledger) else { return sources };
        let mut rest = wanted;
        while !rest.is_empty() {
            let runs = self.present_holds(known).filter(|(node, _)| *node != asker && may_be_asked(*node));
            let runs = runs.filter_map(|(node, held)| held.run(rest.clone()).map(|entries| Source { node, entries }));
            // The earliest start, then the longest.
            let Some(source) = runs.min_by_key(|source| (source.entries.start, std::cmp::Reverse(source.entries.end)))
            else {
                break;
            };
            rest.start = source.entries.end;
            sources.push(source);
        }
        sources
    }
}

/// A number that spreads (ledger, node) evenly, the same at every head (the finaliser of splitmix64).
fn hash(ledger: LedgerId, node: NodeId) -> u64 {
    let mut x = node.0 ^ (u64::from(ledger.incarnation.0) << 32 | u64::from(ledger.number)).rotate_left(17);
    x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ x >> 31
}
