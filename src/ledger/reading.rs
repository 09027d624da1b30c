//! How far one finite read is complete: rule 2.
//!
//! A read is complete if fewer than M of the roster did not answer it, at least one did, and each entry that an answer
//! promises is in some answer. The roster is everybody who was in it at any time from the question on. Otherwise the read
//! names those who did not answer, or those ledgers whose entries lack. Nothing weaker is sound: M nodes that do not answer
//! may at this moment acknowledge at another head. What is sent to whom, and in which order, is not decided here.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::entries::EntrySet;
use super::held::{Held, State};
use super::id::{LedgerId, NodeId};
use super::planted::{self, Planted};
use super::roster::{Roster, Standing};

/// What a read may say of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Claim {
    /// Every entry that was acknowledged before the question, and that nobody let go, was sent.
    Complete,
    /// It may lack entries.
    Incomplete {
        /// Who did not answer to the end; named if they are M or more, and known in any case.
        unanswered: Vec<NodeId>,
        /// Entries that somebody promises and nobody sent.
        lacking: Vec<(LedgerId, Range<u32>)>,
    },
}

#[derive(Debug, Default)]
struct Asked {
    seen: EntrySet,
    /// The least end that an answer promises.
    end: Option<u32>,
    /// The greatest settled one: no lesser end is believed.
    floor: u32,
    /// What is below nobody owes.
    from: u32,
}

/// A read that is under way.
#[derive(Debug)]
pub(crate) struct Reading {
    /// Everybody who was in the roster from the question on.
    missed: BTreeSet<NodeId>,
    /// Those that were `new` meanwhile: they must answer, and never count as the one that did.
    new: BTreeSet<NodeId>,
    answering: BTreeSet<NodeId>,
    answered: BTreeSet<NodeId>,
    ledgers: BTreeMap<LedgerId, Asked>,
    /// The least M that was known meanwhile.
    least: usize,
}

impl Reading {
    /// Begins a read: the question goes out from here.
    #[must_use]
    pub(crate) fn new(roster: &Roster) -> Self {
        let mut reading = Self {
            missed: BTreeSet::new(),
            new: BTreeSet::new(),
            answering: BTreeSet::new(),
            answered: BTreeSet::new(),
            ledgers: BTreeMap::new(),
            least: usize::MAX,
        };
        reading.roster_changed(roster);
        reading
    }

    /// The head's roster is this one now. It has to be told of each change before the read ends, and of what a node noted
    /// before that node's answer.
    pub(crate) fn roster_changed(&mut self, roster: &Roster) {
        if planted::is(Planted::RosterAtEnd) {
            self.missed.clear();
        }
        self.missed.extend(roster.who_counts());
        self.new.extend(roster.who_counts().filter(|&node| roster.generation(node).standing() == Standing::New));
        // Without a founding every identity has to answer.
        self.least = self.least.min(roster.copies().map_or(1, super::roster::Copies::read_least));
    }

    /// A node begins its answer: what it holds at that time, as it told after the question.
    pub(crate) fn begin<'a>(&mut self, node: NodeId, holds: impl Iterator<Item = (LedgerId, &'a Held)>) {
        for (ledger, held) in holds {
            let asked = self.ledgers.entry(ledger).or_default();
            asked.from = asked.from.max(held.from);
            if held.state == State::Settled {
                asked.floor = asked.floor.max(held.end);
            }
            if held.state.promises() {
                asked.end = Some(asked.end.map_or(held.end, |end| end.min(held.end)));
            }
        }
        self.answering.insert(node);
    }

    /// Entries were sent, or passed over because they were not asked for.
    pub(crate) fn seen(&mut self, ledger: LedgerId, entries: Range<u32>) {
        self.ledgers.entry(ledger).or_default().seen.insert_range(entries);
    }

    /// Somebody let go what is below meanwhile: the read does not owe it any more.
    pub(crate) fn let_go(&mut self, ledger: LedgerId, from: u32) {
        if let Some(asked) = self.ledgers.get_mut(&ledger) {
            asked.from = asked.from.max(from);
        }
    }

    /// A node sent its last page.
    pub(crate) fn end(&mut self, node: NodeId) {
        if self.answering.remove(&node) {
            self.answered.insert(node);
        }
    }

    /// A node's connection ended before its last page: it did not answer. It may begin again.
    #[cfg(test)]
    pub(crate) fn lost(&mut self, node: NodeId) {
        self.answering.remove(&node);
    }

    /// Who was asked, or has to be, and has not answered yet.
    pub(crate) fn unanswered(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.missed.difference(&self.answered).copied()
    }

    fn lacking(&self, is_gone: &dyn Fn(LedgerId) -> bool) -> Vec<(LedgerId, Range<u32>)> {
        let mut lacking = Vec::new();
        for (&ledger, asked) in &self.ledgers {
            if let Some(end) = asked.end.filter(|_| !is_gone(ledger)) {
                let owed = asked.from..end.max(asked.floor);
                lacking.extend(asked.seen.missing(owed).map(|range| (ledger, range)));
            }
        }
        lacking
    }

    /// What the read may say now. `is_gone` tells which ledgers somebody let go whole.
    #[must_use]
    pub(crate) fn claim(&self, is_gone: &dyn Fn(LedgerId) -> bool) -> Claim {
        let lacking = self.lacking(is_gone);
        let unanswered: Vec<NodeId> = self.unanswered().collect();
        let few = unanswered.len() < self.least || planted::is(Planted::ClaimWithoutLeast);
        let one = self.answered.intersection(&self.missed).any(|node| !self.new.contains(node));
        if few && one && lacking.is_empty() { Claim::Complete } else { Claim::Incomplete { unanswered, lacking } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::id::Incarnation;
    use crate::ledger::roster::{Copies, Generation};

    const LEDGER: LedgerId = LedgerId { incarnation: Incarnation(1), number: 0 };

    fn roster(identities: &[(u64, u32)], least: u8) -> Roster {
        let mut roster = Roster::default();
        for &(node, generation) in identities {
            roster.set(NodeId(node), Generation(generation), "").unwrap();
        }
        roster.set_copies(Copies::founded(3, least));
        roster
    }

    fn held(state: State, end: u32) -> Held {
        Held { member: true, state, from: 0, end, count: end, lacking: None }
    }

    fn answer(reading: &mut Reading, node: u64, held: Held, seen: Range<u32>) {
        reading.begin(NodeId(node), [(LEDGER, &held)].into_iter());
        reading.seen(LEDGER, seen);
        reading.end(NodeId(node));
    }

    fn claims(reading: &Reading) -> bool {
        reading.claim(&|_| false) == Claim::Complete
    }

    #[test]
    fn fewer_than_m_may_be_silent() {
        let mut reading = Reading::new(&roster(&[(1, 7), (2, 7), (3, 8), (4, 10)], 2));
        assert!(!claims(&reading));
        answer(&mut reading, 1, held(State::Over, 3), 0..3);
        assert!(!claims(&reading));
        answer(&mut reading, 3, held(State::Over, 4), 3..3);
        assert!(claims(&reading));
        reading.roster_changed(&roster(&[(1, 7), (2, 7), (3, 10), (5, 6)], 2));
        assert_eq!(
            reading.claim(&|_| false),
            Claim::Incomplete { unanswered: vec![NodeId(2), NodeId(5)], lacking: vec![] }
        );
    }

    #[test]
    fn a_new_identity_must_answer_and_is_never_the_one_that_did() {
        let mut reading = Reading::new(&roster(&[(1, 6)], 1));
        answer(&mut reading, 1, held(State::Over, 3), 0..3);
        assert!(!claims(&reading));
        let mut reading = Reading::new(&roster(&[(1, 7), (2, 6)], 1));
        answer(&mut reading, 1, held(State::Over, 3), 0..3);
        assert!(!claims(&reading));
        answer(&mut reading, 2, held(State::Part, 0), 0..0);
        assert!(claims(&reading));
    }

    #[test]
    fn what_is_promised_has_to_be_seen_up_to_the_least_end_that_is_not_below_a_settled_one() {
        let read = |answers: &[(State, u32)], seen: u32| {
            let mut reading = Reading::new(&roster(&[(1, 7), (2, 7), (3, 7)], 1));
            for (node, (state, end)) in (1..).zip(answers) {
                answer(&mut reading, node, held(*state, *end), 0..seen);
            }
            claims(&reading)
        };
        assert!(!read(&[(State::Over, 5), (State::Open, 4), (State::Part, 9)], 3));
        assert!(read(&[(State::Over, 5), (State::Open, 4), (State::Part, 9)], 4));
        assert!(!read(&[(State::Over, 2), (State::Settled, 4), (State::Over, 9)], 3));
        assert!(read(&[(State::Over, 2), (State::Settled, 4), (State::Over, 9)], 4));
    }

    #[test]
    fn who_was_lost_in_between_did_not_answer_and_what_was_let_go_is_not_owed() {
        let mut reading = Reading::new(&roster(&[(1, 7)], 1));
        reading.begin(NodeId(1), [(LEDGER, &held(State::Over, 5))].into_iter());
        reading.seen(LEDGER, 2..5);
        reading.lost(NodeId(1));
        reading.end(NodeId(1));
        assert!(!claims(&reading));
        answer(&mut reading, 1, held(State::Over, 5), 2..5);
        assert_eq!(reading.claim(&|_| false), Claim::Incomplete { unanswered: vec![], lacking: vec![(LEDGER, 0..2)] });
        assert_eq!(reading.claim(&|_| true), Claim::Complete);
        reading.let_go(LEDGER, 2);
        assert!(claims(&reading));
    }
}
