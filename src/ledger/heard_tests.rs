//! Decisions of a head, one at a time. The walks try them together.

use super::*;
use crate::ledger::roster::{Copies, Founding, Generation};

const LEDGER: LedgerId = LedgerId { incarnation: Incarnation(9), number: 0 };
const REPAIR_AFTER: Duration = Duration::from_secs(60);

/// A head that founded a cluster with R = M = 2 on these nodes, all of whom have noted that.
fn founded(nodes: u64) -> Heard {
    let mut heard = Heard::new(Roster::default(), REPAIR_AFTER);
    for node in 1..=nodes {
        comes(&mut heard, node, &Roster::default(), vec![]);
    }
    heard.found(Founding { time_ns: 1, head: Incarnation(9) }, Copies::founded(2, 2)).unwrap();
    // Once for the founding, once for what follows from it.
    for _ in 0..2 {
        all_note(&mut heard);
        heard.round(Duration::ZERO, 10);
    }
    all_note(&mut heard);
    heard
}

fn comes(heard: &mut Heard, node: u64, noted: &Roster, reports: Vec<Report>) {
    let new = Registered { node: NodeId(node), name: "n".into(), replaces: None, writable: true, joins: true };
    heard.registered(new).unwrap();
    heard.noted(NodeId(node), noted.clone()).unwrap();
    heard.holds(NodeId(node), true, reports);
}

fn all_note(heard: &mut Heard) {
    let present: Vec<NodeId> = heard.present().collect();
    for node in present {
        if let Some(roster) = heard.to_note(node).cloned() {
            heard.noted(node, roster).unwrap();
        }
    }
}

fn held(state: State, end: u32) -> Held {
    Held { member: true, state, from: 0, end, count: end, lacking: None }
}

fn report(ledger: LedgerId, held: Held) -> Report {
    Report::Ledger { ledger, members: [NodeId(1), NodeId(2)].into(), held }
}

fn tells(heard: &mut Heard, node: u64, held: Held) {
    heard.holds(NodeId(node), false, vec![report(LEDGER, held)]);
}

fn round(heard: &mut Heard) -> Vec<Order> {
    heard.round(Duration::ZERO, 1_000)
}

#[test]
fn founders_get_ledgers_once_the_founding_is_noted() {
    let mut heard = Heard::new(Roster::default(), REPAIR_AFTER);
    for node in 1..=2 {
        comes(&mut heard, node, &Roster::default(), vec![]);
    }
    let founding = Founding { time_ns: 1, head: Incarnation(9) };
    assert_eq!(heard.found(founding, Copies::founded(3, 3)), Err(NotChanged::TooFew { least: 3 }));
    assert_eq!(heard.found(founding, Copies::founded(1, 2)), Err(NotChanged::Copies));
    heard.found(founding, Copies::founded(2, 2)).unwrap();
    assert_eq!(heard.found(founding, Copies::founded(2, 2)), Err(NotChanged::Founded));
    assert_eq!((round(&mut heard), heard.usables()), (vec![], vec![]));
    all_note(&mut heard);
    assert_eq!((round(&mut heard), heard.usables()), (vec![], vec![]));
    all_note(&mut heard);
    assert_eq!(heard.usables(), [NodeId(1), NodeId(2)]);
    heard.lost(NodeId(2), Duration::ZERO);
    assert_eq!(heard.usables(), []);
}

#[test]
fn a_new_node_gets_ledgers_once_m_others_would_miss_it() {
    let mut heard = founded(3);
    comes(&mut heard, 4, &Roster::default(), vec![]);
    round(&mut heard);
    assert_eq!(heard.roster().generation(NodeId(4)), Generation(6));
    for node in [4, 1] {
        let roster = heard.roster().clone();
        heard.noted(NodeId(node), roster).unwrap();
        round(&mut heard);
        assert_eq!(heard.roster().generation(NodeId(4)), Generation(6), "one other is not enough");
    }
    all_note(&mut heard);
    round(&mut heard);
    assert!(heard.roster().generation(NodeId(4)).gets_ledgers() && !heard.usable(NodeId(4)));
    all_note(&mut heard);
    assert!(heard.usable(NodeId(4)));
}

#[test]
fn what_has_too_few_holders_is_adopted_once_the_time_to_repair_has_passed() {
    let mut heard = founded(3);
    tells(&mut heard, 1, held(State::Open, 5));
    tells(&mut heard, 2, held(State::Open, 5));
    assert_eq!(round(&mut heard), []);
    heard.lost(NodeId(2), Duration::from_secs(1));
    tells(&mut heard, 1, held(State::Settled, 5));
    assert_eq!((round(&mut heard), heard.short()), (vec![], 5));
    let adopt = Order::Adopt { node: NodeId(3), ledger: LEDGER, from: 0, end: 5, settled: true };
    assert_eq!(heard.round(Duration::from_secs(61), 10), [adopt]);
    assert_eq!(heard.round(Duration::from_secs(62), 10), []);
    let lacking = |range| Some(Box::new(EntrySet::from(range)));
    let part = Held { member: false, state: State::Part, from: 0, end: 5, count: 2, lacking: lacking(2..5) };
    tells(&mut heard, 3, part);
    assert_eq!((round(&mut heard), heard.short()), (vec![], 3));
    let sources = heard.sources(NodeId(3), LEDGER, 2..5, |_| true);
    assert_eq!(sources, [Source { node: NodeId(1), entries: 2..5 }]);
    tells(&mut heard, 3, held(State::Over, 5));
    assert_eq!((round(&mut heard), heard.short()), (vec![], 0));
}

#[test]
fn entries_are_fetched_from_several_that_have_them() {
    let mut heard = founded(3);
    let lacking = |ranges: &[std::ops::Range<u32>]| {
        let mut set = EntrySet::default();
        ranges.iter().for_each(|range| set.insert_range(range.clone()));
        Some(Box::new(set))
    };
    tells(&mut heard, 1, Held { lacking: lacking(&[2..4, 8..9]), ..held(State::Over, 10) });
    tells(&mut heard, 2, Held { lacking: lacking(&[0..1, 5..9]), ..held(State::Over, 10) });
    let sources: Vec<_> =
        heard.sources(NodeId(3), LEDGER, 0..12, |_| true).into_iter().map(|s| (s.node.0, s.entries)).collect();
    assert_eq!(sources, [(1, 0..2), (2, 2..5), (1, 5..8), (1, 9..10)]);
}

#[test]
fn the_least_end_is_told_but_none_below_a_settled_one() {
    let mut heard = founded(3);
    tells(&mut heard, 1, held(State::Over, 7));
    tells(&mut heard, 2, held(State::Over, 5));
    assert_eq!(round(&mut heard), [Order::Close { node: NodeId(1), ledger: LEDGER, end: 5 }]);
    tells(&mut heard, 1, held(State::Settled, 7));
    let told = Order::Adopt { node: NodeId(2), ledger: LEDGER, from: 0, end: 7, settled: true };
    let refused = Order::Refuse { node: NodeId(2), ledger: LEDGER, count: 5, settled: 7 };
    assert_eq!(round(&mut heard), [refused, told]);
    // It was open when it told of it, so it may have more by now.
    tells(&mut heard, 2, held(State::Open, 5));
    assert_eq!(round(&mut heard), []);
}

#[test]
fn what_somebody_let_go_is_not_repaired() {
    let mut heard = founded(3);
    tells(&mut heard, 1, held(State::Over, 5));
    tells(&mut heard, 3, Held { state: State::Part, member: false, count: 0, ..held(State::Part, 5) });
    heard.holds(NodeId(2), false, vec![Report::Gone { incarnation: Incarnation(9), numbers: 0..1 }]);
    let stop = Order::Adopt { node: NodeId(3), ledger: LEDGER, from: 5, end: 5, settled: false };
    assert_eq!((round(&mut heard), heard.short()), (vec![stop], 0));
    assert!(heard.is_gone(LEDGER));
}

#[test]
fn leftovers_are_saved_when_all_are_here() {
    let mut heard = founded(3);
    heard.lost(NodeId(3), Duration::ZERO);
    tells(&mut heard, 1, Held { member: false, count: 4, ..held(State::Part, 0) });
    assert_eq!(round(&mut heard), []);
    let roster = heard.roster().clone();
    comes(&mut heard, 3, &roster, vec![]);
    // Each may promise it, and be about to say so.
    let flushes = round(&mut heard);
    let flush = |node| {
        flushes.iter().find(|order| matches!(order, Order::Flush { node: at, .. } if *at == node)).unwrap().clone()
    };
    for node in [1, 2, 3].map(NodeId) {
        assert_eq!(round(&mut heard), [], "it is asked once");
        let Order::Flush { round: number, .. } = flush(node) else { panic!() };
        heard.flushed(node, number);
    }
    assert_eq!(round(&mut heard), [Order::Adopt { node: NodeId(1), ledger: LEDGER, from: 0, end: 4, settled: false }]);
}

#[test]
fn a_copy_that_is_heard_of_before_what_it_is_a_copy_of_is_no_leftover() {
    let mut heard = founded(3);
    tells(&mut heard, 1, Held { member: false, count: 0, ..held(State::Part, 5) });
    let flushes = round(&mut heard);
    assert_eq!(flushes.len(), 3, "{flushes:?}");
    heard.flushed(NodeId(1), u64::MAX);
    tells(&mut heard, 2, held(State::Over, 5));
    [2, 3].map(NodeId).into_iter().for_each(|node| heard.flushed(node, u64::MAX));
    let orders = round(&mut heard);
    assert!(
        !orders.iter().any(|order| matches!(order, Order::Adopt { end: 0, .. } | Order::Close { .. })),
        "{orders:?}"
    );
}

#[test]
fn who_drains_goes_out_once_its_ledgers_are_elsewhere() {
    let mut heard = founded(3);
    tells(&mut heard, 1, held(State::Over, 5));
    tells(&mut heard, 2, held(State::Over, 5));
    let leaving = heard.drain(NodeId(1)).unwrap();
    assert_eq!(heard.roster().generation(NodeId(1)), Generation(7), "the node notes it first");
    let mut noted = heard.roster().clone();
    noted.merge(&leaving).unwrap();
    heard.noted(NodeId(1), noted).unwrap();
    all_note(&mut heard);
    assert_eq!(round(&mut heard).len(), 1);
    assert_eq!(heard.roster().generation(NodeId(1)), Generation(8));
    tells(&mut heard, 3, held(State::Over, 5));
    round(&mut heard);
    assert_eq!(heard.roster().generation(NodeId(1)), Generation(10));
    all_note(&mut heard);
    round(&mut heard);
    assert_eq!(heard.roster().generation(NodeId(1)), Generation(10), "it was drained and does not want in again");
}

#[test]
fn who_replaces_another_gives_it_up_once_its_connection_ended() {
    let mut heard = founded(3);
    let replaces = Some(NodeId(3));
    let new = Registered { node: NodeId(4), name: "n".into(), replaces, writable: true, joins: true };
    assert_eq!(heard.registered(new.clone()), Err(StillHere(NodeId(3))));
    heard.lost(NodeId(3), Duration::ZERO);
    heard.registered(new).unwrap();
    heard.noted(NodeId(4), Roster::default()).unwrap();
    round(&mut heard);
    assert_eq!(heard.roster().generation(NodeId(3)), Generation(7), "what it holds is not told yet");
    heard.holds(NodeId(4), true, vec![]);
    round(&mut heard);
    assert_eq!(heard.roster().generation(NodeId(3)), Generation(9));
    assert_eq!(heard.give_up(NodeId(1)), Err(NotChanged::Here));
    assert_eq!(heard.give_up(NodeId(3)), Err(NotChanged::Standing(Standing::GivenUp)));
}

#[test]
fn a_change_of_m_is_counted_with_the_lesser_until_it_is_through() {
    let mut heard = founded(3);
    tells(&mut heard, 1, held(State::Over, 5));
    tells(&mut heard, 2, held(State::Over, 5));
    heard.change_copies(3, 3).unwrap();
    assert_eq!(heard.change_copies(2, 2), Err(NotChanged::NotThrough));
    assert_eq!(heard.change_copies(3, 3), Ok(()), "it is asked for already");
    assert_eq!(heard.change_waits_for(), Some(WaitsFor::Nodes([1, 2, 3].map(NodeId).to_vec())));
    let copies = heard.roster().copies().unwrap();
    assert_eq!((copies.read_least(), copies.noted_least()), (2, 3));
    all_note(&mut heard);
    round(&mut heard);
    assert_eq!(heard.roster().copies().unwrap().read_least(), 2, "a ledger has two holders");
    assert!(matches!(heard.change_waits_for(), Some(WaitsFor::Ledger(_))));
    tells(&mut heard, 3, held(State::Over, 5));
    round(&mut heard);
    assert_eq!(heard.roster().copies().unwrap(), Copies { replicas: 3, least: 3, before: 3, generation: 3 });
    assert_eq!(heard.change_waits_for(), None);
}

#[test]
fn ledgers_are_opened_while_r_and_m_are_lowered_together() {
    let mut heard = founded(3);
    tells(&mut heard, 1, held(State::Over, 5));
    heard.change_copies(1, 1).unwrap();
    assert_eq!(heard.opens_on(), Some(OpensOn { members: 2, least: 2 }), "before it is noted");
    all_note(&mut heard);
    round(&mut heard);
    assert_eq!(heard.opens_on(), Some(OpensOn { members: 1, least: 1 }));
}

#[test]
fn leftovers_with_holes_that_nobody_can_fill_keep_no_change_of_m() {
    let mut heard = founded(3);
    let left = || Held { lacking: Some(Box::new((2..4).into())), ..held(State::Part, 5) };
    tells(&mut heard, 1, left());
    heard.change_copies(3, 2).unwrap();
    all_note(&mut heard);
    round(&mut heard);
    heard.change_copies(3, 3).unwrap();
    all_note(&mut heard);
    round(&mut heard);
    assert!(matches!(heard.change_waits_for(), Some(WaitsFor::Ledger(_))), "one alone has what is left");
    tells(&mut heard, 2, left());
    tells(&mut heard, 3, left());
    round(&mut heard);
    assert_eq!(heard.change_waits_for(), None);
}

#[test]
fn a_ledger_that_owes_nothing_keeps_no_change_of_m() {
    let mut heard = founded(3);
    tells(&mut heard, 1, held(State::Over, 0));
    heard.change_copies(3, 3).unwrap();
    all_note(&mut heard);
    round(&mut heard);
    assert_eq!(heard.change_waits_for(), None);
}

#[test]
fn a_round_touches_what_changed() {
    let mut heard = founded(3);
    let ledger = |number| LedgerId { incarnation: Incarnation(9), number };
    for node in [1, 2] {
        let all = (0..20_000).map(|number| report(ledger(number), held(State::Settled, 3))).collect();
        heard.holds(NodeId(node), false, all);
    }
    let mut rounds = 0;
    while !heard.touched.is_empty() {
        assert_eq!(round(&mut heard), []);
        rounds += 1;
    }
    assert_eq!((rounds, heard.ledgers.len(), heard.short()), (20, 20_000, 0));
    heard.holds(NodeId(1), false, vec![report(ledger(7), held(State::Settled, 3))]);
    assert_eq!(heard.touched.len(), 1);
}
