//! How far this node's records are complete: below the frontier no head will put anything more.
//!
//! Each head says what is safe: no record below it will come from that head. What it says counts once everything it put
//! before is settled. The frontier is the least of what counts over all heads, and never goes back: what was promised to
//! a reader stays promised, so a Put below it has to be refused. Pure: numbers in, numbers out.

use std::collections::{BTreeMap, VecDeque};

use crate::limits::SAFES_PENDING_MAX;
use crate::wire::id::RecordId;

/// What one head said.
#[derive(Debug, Default)]
struct Said {
    /// What counts.
    safe: RecordId,
    /// What counts once everything up to this serial is settled, oldest first.
    pending: VecDeque<(u64, RecordId)>,
    /// A question is on its way.
    asked: bool,
    /// The head is gone; what it put up to this serial is waited for.
    ended: Option<u64>,
}

impl Said {
    /// What it said last, whether it counts or not.
    fn latest(&self) -> RecordId {
        self.pending.back().map_or(self.safe, |(_, id)| *id)
    }
}

/// What all heads of this node said.
#[derive(Debug, Default)]
pub(crate) struct Frontier {
    heads: BTreeMap<u64, Said>,
    /// Heads of this node that may be there and were not reached yet.
    untried: usize,
    promised: RecordId,
}

impl Frontier {
    /// So many heads are dialled for the first time: nothing more is promised until each was reached or was not. One that
    /// is there may have put messages on nodes of which only it knows.
    pub(crate) const fn expect(&mut self, heads: usize) {
        self.untried += heads;
    }

    /// One of those was reached, and has entered; or it was not.
    pub(crate) const fn tried(&mut self) {
        self.untried = self.untried.saturating_sub(1);
    }

    /// A head that may put messages from now on. It has said nothing, so nothing more is promised until it does.
    pub(crate) fn enter(&mut self, session: u64) {
        self.heads.insert(session, Said::default());
    }

    /// A head that is gone; what it put, up to this serial, is settled yet.
    pub(crate) fn exit(&mut self, session: u64, added: u64) {
        if let Some(said) = self.heads.get_mut(&session) {
            said.ended = Some(added);
            said.asked = false;
        }
    }

    /// A head said what is safe, and `added` is the serial of the last Put before that.
    pub(crate) fn safe(&mut self, session: u64, id: RecordId, added: u64) {
        let Some(said) = self.heads.get_mut(&session) else { return };
        let id = id.max(said.latest());
        if said.pending.len() >= SAFES_PENDING_MAX {
            said.pending.pop_back();
        }
        said.pending.push_back((added, id));
    }

    /// A head answered the question that was on its way.
    pub(crate) fn answered(&mut self, session: u64) {
        if let Some(said) = self.heads.get_mut(&session) {
            said.asked = false;
        }
    }

    /// Everything up to this serial is settled.
    pub(crate) fn settle(&mut self, settled: u64) {
        for said in self.heads.values_mut() {
            while let Some((_, id)) = said.pending.pop_front_if(|(serial, _)| *serial <= settled) {
                said.safe = id;
            }
        }
        self.heads.retain(|_, said| said.ended.is_none_or(|added| added > settled));
    }

    /// Below this id nothing more comes.
    #[must_use]
    pub(crate) fn least(&self) -> RecordId {
        if self.untried > 0 {
            return self.promised;
        }
        let least = self.heads.values().map(|said| said.safe).min();
        // Without heads there is nobody who could put anything, and nobody who asks.
        least.unwrap_or(self.promised).max(self.promised)
    }

    /// A reader was told that everything below this id has come.
    pub(crate) fn promise(&mut self, next: RecordId) {
        self.promised = self.promised.max(next);
    }

    /// The greatest promise: a Put below it comes too late.
    #[must_use]
    pub(crate) const fn promised(&self) -> RecordId {
        self.promised
    }

    /// The heads among `whom` that have to be asked before `target` can be complete: they have not said it, and no
    /// question is on its way to them. They count as asked from now on.
    pub(crate) fn ask(&mut self, target: RecordId, whom: impl Fn(u64) -> bool) -> Vec<u64> {
        let mut ask = Vec::new();
        for (session, said) in &mut self.heads {
            if said.ended.is_none() && !said.asked && said.latest() < target && whom(*session) {
                said.asked = true;
                ask.push(*session);
            }
        }
        ask
    }

    /// The heads that are there and have not called safe what is below `target`, and what each of them has.
    pub(crate) fn behind(&self, target: RecordId) -> impl Iterator<Item = (u64, RecordId)> {
        let there = self.heads.iter().filter(|(_, said)| said.ended.is_none());
        there.map(|(session, said)| (*session, said.safe)).filter(move |(_, safe)| *safe < target)
    }

    /// Whether something that is known to come may still move the frontier towards `target`: an answer, or the disk.
    #[must_use]
    pub(crate) fn moves(&self, target: RecordId) -> bool {
        let behind = |said: &&Said| said.safe < target;
        let comes = |said: &Said| said.asked || said.ended.is_some() || !said.pending.is_empty();
        self.untried > 0 || self.heads.values().filter(behind).any(comes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn id(n: u64) -> RecordId {
        RecordId { time_ns: n, incarnation: 0 }
    }

    #[test]
    fn the_least_of_the_heads_counts_once_their_puts_are_settled() {
        let mut frontier = Frontier::default();
        frontier.promise(id(3));
        frontier.enter(1);
        frontier.enter(2);
        assert_eq!(frontier.least(), id(3), "what was promised stays, and nothing is added while a head is silent");
        frontier.safe(1, id(10), 4);
        frontier.safe(2, id(20), 5);
        frontier.settle(4);
        assert_eq!(frontier.least(), id(3));
        frontier.settle(5);
        assert_eq!(frontier.least(), id(10));
        frontier.safe(1, id(30), 9);
        assert!(frontier.moves(id(30)));
        frontier.settle(9);
        assert_eq!(frontier.least(), id(20));
        assert!(!frontier.moves(id(30)), "nobody was asked");
    }

    #[test]
    fn a_head_that_is_gone_counts_until_what_it_put_is_settled() {
        let mut frontier = Frontier::default();
        frontier.enter(1);
        frontier.enter(2);
        frontier.safe(1, id(10), 0);
        frontier.safe(2, id(50), 0);
        frontier.settle(0);
        frontier.exit(1, 7);
        frontier.settle(6);
        assert_eq!((frontier.least(), frontier.moves(id(50))), (id(10), true));
        frontier.settle(7);
        assert_eq!((frontier.least(), frontier.moves(id(50))), (id(50), false));
        frontier.promise(id(45));
        frontier.enter(3);
        assert_eq!(frontier.least(), id(45));
    }

    #[test]
    fn nothing_is_promised_before_every_head_was_tried() {
        let mut frontier = Frontier::default();
        frontier.promise(id(3));
        frontier.expect(2);
        frontier.enter(1);
        frontier.tried();
        frontier.safe(1, id(10), 0);
        frontier.settle(0);
        assert_eq!((frontier.least(), frontier.moves(id(10))), (id(3), true));
        frontier.tried();
        assert_eq!((frontier.least(), frontier.moves(id(10))), (id(10), false));
    }

    #[test]
    fn a_head_is_asked_once_at_a_time_and_only_for_what_it_has_not_said() {
        let mut frontier = Frontier::default();
        frontier.enter(1);
        frontier.enter(2);
        frontier.enter(3);
        frontier.safe(3, id(40), 0);
        assert_eq!(frontier.ask(id(40), |head| head != 1), [2]);
        assert_eq!(frontier.ask(id(40), |head| head != 1), [0; 0]);
        frontier.answered(2);
        frontier.safe(2, id(20), 0);
        assert_eq!(frontier.ask(id(40), |head| head != 1), [2], "the answer was not enough");
        frontier.exit(2, 0);
        assert_eq!(frontier.ask(id(90), |head| head != 1), [3]);
    }

    #[test]
    fn many_answers_that_wait_are_joined() {
        let mut frontier = Frontier::default();
        frontier.enter(1);
        for n in 1..=1000 {
            frontier.safe(1, id(n), n);
        }
        assert!(frontier.heads.values().all(|said| said.pending.len() <= SAFES_PENDING_MAX));
        frontier.settle(999);
        assert!(frontier.least() < id(1000));
        frontier.settle(1000);
        assert_eq!(frontier.least(), id(1000));
    }

    #[derive(Debug, Clone)]
    enum Event {
        Enter,
        Exit,
        Put,
        Safe(u64),
        Settle(u64),
        Promise,
    }

    fn events() -> impl Strategy<Value = (u64, Event)> {
        let event = prop_oneof![
            Just(Event::Enter),
            Just(Event::Exit),
            Just(Event::Put),
            (0..20_u64).prop_map(Event::Safe),
            (0..5_u64).prop_map(Event::Settle),
            Just(Event::Promise),
        ];
        (0..4_u64, event)
    }

    proptest! {
        /// Heads that keep their word: nothing they put becomes visible below what was promised before.
        #[test]
        fn nothing_that_is_put_becomes_visible_below_a_promise(events in prop::collection::vec(events(), 1..300)) {
            let mut frontier = Frontier::default();
            let (mut added, mut settled) = (0, 0);
            // What each head that is there has called safe, and what is put and not settled.
            let mut said = BTreeMap::<u64, RecordId>::new();
            let mut unsettled = VecDeque::<(u64, RecordId)>::new();
            for (session, event) in events {
                match event {
                    Event::Enter if !said.contains_key(&session) && !frontier.heads.contains_key(&session) => {
                        frontier.enter(session);
                        said.insert(session, RecordId::ZERO);
                    }
                    Event::Exit if said.remove(&session).is_some() => frontier.exit(session, added),
                    Event::Put => {
                        if let Some(least) = said.get(&session) && *least >= frontier.promised() {
                            added += 1;
                            unsettled.push_back((added, *least));
                        }
                    }
                    Event::Safe(more) => {
                        if let Some(least) = said.get_mut(&session) {
                            *least = least.plus(more);
                            frontier.safe(session, *least, added);
                        }
                    }
                    Event::Settle(more) => {
                        settled = added.min(settled + more);
                        while let Some((_, id)) = unsettled.pop_front_if(|(serial, _)| *serial <= settled) {
                            prop_assert!(id >= frontier.promised(), "{id:?} came too late");
                        }
                        frontier.settle(settled);
                    }
                    Event::Promise => {
                        let least = frontier.least();
                        prop_assert!(least >= frontier.promised());
                        frontier.promise(least);
                    }
                    _ => {}
                }
            }
        }
    }
}
