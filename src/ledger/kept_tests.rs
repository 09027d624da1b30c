//! Decisions of a node, one at a time. The walks try them together.

use super::*;
use crate::ledger::note::{Folded, Lines};
use crate::ledger::roster::{Copies, Generation};

const ME: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);
const HEAD: Incarnation = Incarnation(9);
const LEDGER: LedgerId = LedgerId { incarnation: HEAD, number: 0 };

fn node() -> Kept {
    Kept::restarted(ME, Folded::default(), BTreeMap::new())
}

fn put(kept: &mut Kept, first: u32) -> Result<(), NotTaken> {
    let members = if first == 0 { &[ME, OTHER][..] } else { &[] };
    kept.put(&Put { ledger: LEDGER, first, count: 1, members }).map_err(|(cause, _)| cause)
}

/// A node with so many entries of an open ledger.
fn taken(entries: u32) -> Kept {
    let mut kept = node();
    for entry in 0..entries {
        put(&mut kept, entry).unwrap();
        assert!(kept.committed(LEDGER, entry..entry + 1));
    }
    kept
}

fn state(kept: &Kept) -> (State, u32, u32) {
    let held = kept.held(LEDGER).unwrap();
    (held.state, held.from, held.end)
}

fn roster(node: NodeId, generation: u32) -> Roster {
    let mut roster = Roster::default();
    roster.set(node, Generation(generation), "n").unwrap();
    roster
}

/// Started again, with all notes, and the lines it has.
fn restarted(notes: &[Note], has: EntrySet, counted: u32) -> Kept {
    let mut folded = Folded::default();
    for note in notes {
        folded.add(note.clone()).unwrap();
    }
    Kept::restarted(ME, folded, BTreeMap::from([(LEDGER, Lines { has, counted })]))
}

#[test]
fn entries_are_taken_in_order_and_what_is_over_is_not_acknowledged() {
    let mut kept = taken(2);
    assert_eq!(state(&kept), (State::Open, 0, 2));
    put(&mut kept, 2).unwrap();
    let notes = kept.head_lost(HEAD);
    let members: Box<[NodeId]> = [ME, OTHER].into();
    assert_eq!(notes, [Note::Hold { ledger: LEDGER, members, from: 0, end: 2, settled: false, urgent: false }]);
    assert!(!kept.committed(LEDGER, 2..3));
    assert_eq!((state(&kept), kept.held(LEDGER).unwrap().count), ((State::Over, 0, 2), 3));
    assert_eq!(put(&mut kept, 3), Err(NotTaken::NotOpen));
    assert_eq!(put(&mut kept, 0), Err(NotTaken::Known));
}

#[test]
fn a_put_that_is_refused_ends_the_ledger() {
    let mut kept = taken(2);
    assert_eq!(put(&mut kept, 3), Err(NotTaken::Gap { due: 2 }));
    assert_eq!(state(&kept), (State::Over, 0, 2));
    assert_eq!(put(&mut kept, 2), Err(NotTaken::NotOpen));
    let mut kept = taken(1);
    assert_eq!(put(&mut kept, 0), Err(NotTaken::Known));
    assert_eq!(state(&kept), (State::Open, 0, 1));
}

#[test]
fn a_ledger_is_not_opened_on_strangers_on_too_few_or_on_who_leaves() {
    let mut kept = node();
    let open = |kept: &mut Kept, members: &[NodeId]| {
        kept.put(&Put { ledger: LEDGER, first: 0, count: 1, members }).map_err(|(cause, _)| cause)
    };
    assert_eq!(open(&mut kept, &[OTHER]), Err(NotTaken::NotAMember));
    let mut copies = roster(OTHER, 8);
    copies.set_copies(Copies::founded(2, 2));
    kept.noted(&copies).unwrap();
    assert_eq!(open(&mut kept, &[ME]), Err(NotTaken::TooFew { least: 2 }));
    assert_eq!(open(&mut kept, &[ME, OTHER]), Err(NotTaken::Leaves(OTHER)));
    assert_eq!(put(&mut kept, 1), Err(NotTaken::NotOpen));
    let last = Put { ledger: LEDGER, first: ENTRIES_MAX, count: 1, members: &[] };
    assert_eq!(kept.put(&last).unwrap_err().0, NotTaken::TooLong);
}

#[test]
fn a_ledger_is_over_when_a_member_is_noted_to_leave_or_to_have_left() {
    for (before, after, over) in [(7, 8, true), (7, 10, true), (7, 12, true), (6, 7, false), (0, 7, false)] {
        let mut kept = taken(1);
        if before > 0 {
            kept.noted(&roster(OTHER, before)).unwrap();
        }
        let notes = kept.noted(&roster(OTHER, after)).unwrap();
        assert!(matches!(&notes[0], Note::Roster { identities, .. } if identities.len() == 1));
        assert_eq!(state(&kept).0 == State::Over, over, "{before} to {after}");
        assert_eq!(kept.noted(&roster(OTHER, after)).unwrap(), []);
    }
}

#[test]
fn a_settled_end_stands_and_of_others_the_least_counts() {
    let mut kept = taken(3);
    kept.close(LEDGER, 2, false).unwrap();
    assert_eq!(state(&kept), (State::Over, 0, 2));
    kept.close(LEDGER, 9, false).unwrap();
    assert_eq!(state(&kept), (State::Over, 0, 2));
    kept.close(LEDGER, 3, true).unwrap();
    assert_eq!(state(&kept), (State::Settled, 0, 3));
    assert_eq!(kept.close(LEDGER, 1, false), Ok(vec![]));
    kept.adopt(LEDGER, 0, 1, false);
    assert_eq!(state(&kept), (State::Settled, 0, 3));
    assert_eq!(taken(1).close(LEDGER, 2, true), Err(HasLost { ledger: LEDGER, count: 1, settled: 2 }));
    // The least end that a head heard of is above what this member took: it has lost nothing.
    assert!(taken(1).close(LEDGER, 2, false).is_ok());
}

#[test]
fn an_adopter_promises_with_the_last_entry() {
    let mut kept = node();
    assert_eq!(kept.adopt(LEDGER, 1, 4, false), [Note::Part { ledger: LEDGER }]);
    assert_eq!(kept.wanted().collect::<Vec<_>>(), [(LEDGER, 1..4)]);
    assert_eq!(kept.fetched(LEDGER, 2..4), []);
    assert_eq!((state(&kept).0, kept.wanted().collect::<Vec<_>>()), (State::Part, vec![(LEDGER, 1..2)]));
    let hold = Note::Hold { ledger: LEDGER, members: [].into(), from: 1, end: 4, settled: false, urgent: true };
    assert_eq!(kept.fetched(LEDGER, 1..2), [hold]);
    assert_eq!((state(&kept), kept.wanted().count()), ((State::Over, 1, 4), 0));
    // A stale Adopt with a greater end changes nothing, a settled one does.
    kept.adopt(LEDGER, 1, 6, false);
    assert_eq!(state(&kept), (State::Over, 1, 4));
    assert_eq!(kept.adopt(LEDGER, 1, 6, true), [Note::Part { ledger: LEDGER }]);
    assert_eq!(state(&kept), (State::Part, 1, 6));
}

#[test]
fn rot_is_promised_still_and_fetched() {
    let mut kept = taken(3);
    kept.head_lost(HEAD);
    kept.rotten(LEDGER, 1..2);
    let held = kept.held(LEDGER).unwrap();
    assert!(held.state == State::Over && !held.covers(0..3) && held.count == 3);
    assert_eq!(kept.wanted().collect::<Vec<_>>(), [(LEDGER, 1..2)]);
    assert_eq!(kept.fetched(LEDGER, 1..2), []);
    assert!(kept.held(LEDGER).unwrap().covers(0..3));
}

#[test]
fn what_is_let_go_whole_is_remembered_as_gone() {
    let mut kept = taken(3);
    assert_eq!(kept.let_go(LEDGER, 2), [Note::From { ledger: LEDGER, from: 2 }]);
    assert_eq!(state(&kept), (State::Open, 2, 3));
    kept.head_lost(HEAD);
    let gone = Note::Gone { incarnation: HEAD, numbers: 0..1 };
    assert_eq!(kept.let_go(LEDGER, 3), std::slice::from_ref(&gone));
    assert_eq!(kept.all().collect::<Vec<_>>(), [Report::Gone { incarnation: HEAD, numbers: 0..1 }]);
    assert_eq!((kept.adopt(LEDGER, 0, 3, false), put(&mut kept, 0)), (vec![], Err(NotTaken::Known)));
    let kept = restarted(std::slice::from_ref(&gone), EntrySet::from(0..3), 3);
    assert_eq!(kept.held(LEDGER), None);
}

#[test]
fn a_part_that_lets_go_says_nothing_for_others() {
    let mut kept = node();
    kept.adopt(LEDGER, 0, 4, false);
    kept.fetched(LEDGER, 0..2);
    assert_eq!(kept.let_go(LEDGER, 2), []);
    assert_eq!(state(&kept), (State::Part, 0, 4));
}

#[test]
fn a_node_that_starts_again_resumes_nothing() {
    let lines = EntrySet::from(0..3);
    let started = |notes: &[Note], counted| state(&restarted(notes, lines.clone(), counted));
    assert_eq!(started(&[], 0), (State::Over, 0, 3));
    assert_eq!(started(&[], 5), (State::Over, 0, 5));
    let members: Box<[NodeId]> = [ME, OTHER].into();
    let hold = Note::Hold { ledger: LEDGER, members, from: 1, end: 2, settled: true, urgent: false };
    let part = Note::Part { ledger: LEDGER };
    assert_eq!(started(std::slice::from_ref(&hold), 3), (State::Settled, 1, 2));
    assert_eq!(started(&[hold.clone(), part.clone()], 3), (State::Part, 1, 0));
    assert_eq!(started(&[part, hold], 3), (State::Settled, 1, 2));
    // What was let go of an open ledger is no end.
    assert_eq!(started(&[Note::From { ledger: LEDGER, from: 1 }], 3), (State::Over, 1, 3));
    let mut kept = restarted(&[], lines, 5);
    assert_eq!(kept.wanted().collect::<Vec<_>>(), [(LEDGER, 3..5)]);
    assert_eq!(put(&mut kept, 3), Err(NotTaken::NotOpen));
}

#[test]
fn another_identity_promises_nothing_of_what_is_there() {
    let mut old = Folded::default();
    old.add(Note::of_roster(&roster(ME, 7))).unwrap();
    old.add(Note::From { ledger: LEDGER, from: 1 }).unwrap();
    let files = BTreeMap::from([(LEDGER, Lines { has: EntrySet::from(1..3), counted: 3 })]);
    let (kept, notes) = Kept::replacing(NodeId(5), old, files.clone());
    let held = kept.held(LEDGER).unwrap();
    assert_eq!((held.state, held.member, held.end, held.count, held.from), (State::Part, false, 0, 3, 1));
    assert!(notes.iter().all(Note::is_urgent));
    let mut folded = Folded::default();
    for note in notes {
        folded.add(note).unwrap();
    }
    let again = Kept::restarted(NodeId(5), folded, files);
    assert_eq!((again.held(LEDGER), again.roster()), (kept.held(LEDGER), kept.roster()));
}

#[test]
fn a_head_is_told_each_change_once() {
    let mut kept = taken(2);
    let told = kept.version();
    assert_eq!(kept.changes(told).count(), 0);
    put(&mut kept, 2).unwrap();
    assert!(kept.committed(LEDGER, 2..3) && kept.changes(told).count() == 1);
    kept.head_lost(HEAD);
    assert_eq!(kept.changes(told).count(), 1);
    kept.let_go(LEDGER, 3);
    assert_eq!(kept.changes(told).collect::<Vec<_>>(), [Report::Gone { incarnation: HEAD, numbers: 0..1 }]);
    assert_eq!((kept.changes(kept.version()).count(), kept.all().count()), (0, 1));
}
