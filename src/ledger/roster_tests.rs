//! That rosters merge as they should, and which step leads where.

use super::*;
use proptest::prelude::*;

fn roster() -> impl Strategy<Value = Roster> {
    let identities = prop::collection::vec((0..6u64, 0..14u32, 0..3u8), 0..8);
    let copies = prop::option::of((1..4u8, 1..4u8, 1..4u8, 1..4u32));
    (identities, copies, prop::collection::btree_set(0..4u64, 0..3)).prop_map(|(identities, copies, foundings)| {
        let mut roster = Roster::default();
        for (node, generation, name) in identities {
            roster.set(NodeId(node), Generation(generation), &format!("n{name}")).unwrap();
        }
        if let Some((replicas, least, before, generation)) = copies {
            roster.set_copies(Copies { replicas, least, before, generation });
        }
        for time_ns in foundings {
            roster.found(Founding { time_ns, head: Incarnation(1) }).unwrap();
        }
        roster
    })
}

fn merged(a: &Roster, b: &Roster) -> Roster {
    let mut all = a.clone();
    let changes = all.merge(b).unwrap();
    assert_eq!(changes.is_empty(), a.covers(b));
    for moved in changes.moved {
        assert_eq!((moved.before, moved.after), (a.generation(moved.node), b.generation(moved.node)));
    }
    all
}

proptest! {
    #[test]
    fn merging_commutes_and_repeats_without_harm(a in roster(), b in roster(), c in roster()) {
        prop_assert_eq!(merged(&a, &b), merged(&b, &a));
        prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
        prop_assert_eq!(merged(&a, &a), a.clone());
        prop_assert!(merged(&a, &b).covers(&a) && merged(&a, &b).covers(&b));
    }
}

#[test]
fn each_step_is_a_greater_generation() {
    let mut at = Generation::UNKNOWN;
    let mut seen = Vec::new();
    let steps = [Generation::joining, Generation::promoted, Generation::leaving, Generation::given_up, Generation::out];
    for step in steps.iter().chain(&steps) {
        let next = step(at).unwrap();
        assert!(next > at);
        seen.push(next.standing());
        at = next;
    }
    let lap = [Standing::New, Standing::In, Standing::Leaving, Standing::GivenUp, Standing::Out];
    assert_eq!(seen, [lap, lap].concat());
    assert_eq!(Generation::FOUNDER.promoted(), Some(Generation(7)));
    assert!(Generation::FOUNDER.is_in() && !Generation::FOUNDER.gets_ledgers() && Generation(7).gets_ledgers());
    // The last of all is out for good, and nothing runs over.
    assert_eq!((Generation::LAST.standing(), Generation::LAST.joining()), (Standing::Out, None));
    assert!(Generation::LAST.is_possible() && !Generation(Generation::LAST.0 + 1).is_possible());
    assert_eq!((Generation(u32::MAX).joining(), Generation(u32::MAX - 1).out()), (None, Some(Generation(u32::MAX))));
    assert_eq!((Generation(7).joining(), Generation(7).promoted(), Generation(7).out()), (None, None, None));
}

#[test]
fn ledgers_end_with_who_leaves_or_has_left() {
    assert!(Generation(7).ends_ledgers_at(Generation(8)) && Generation(7).ends_ledgers_at(Generation(12)));
    assert!(!Generation(0).ends_ledgers_at(Generation(7)) && !Generation(6).ends_ledgers_at(Generation(7)));
    assert!(Generation(0).ends_ledgers_at(Generation(8)) && !Generation(8).ends_ledgers_at(Generation(8)));
}

#[test]
fn a_record_is_noted_by_m_others_that_are_in_or_by_all_that_matter() {
    let mut roster = Roster::default();
    for (node, generation) in [(1, 6), (2, 7), (3, 7), (4, 8), (5, 9), (6, 6)] {
        roster.set(NodeId(node), Generation(generation), "").unwrap();
    }
    let noted = |by: &[u64]| roster.is_noted(Some(NodeId(1)), 2, |node| by.contains(&node.0));
    assert!(noted(&[2, 3]));
    assert!(!noted(&[1, 2, 4, 5, 6]));
    assert!(roster.is_noted(Some(NodeId(1)), 9, |node| [2, 3, 4].contains(&node.0)));
}

#[test]
fn a_roster_that_is_full_says_so() {
    let mut roster = Roster::default();
    for node in 0..IDENTITIES_MAX as u64 {
        roster.set(NodeId(node), Generation(7), "").unwrap();
    }
    let before = roster.clone();
    assert_eq!(roster.set(NodeId(1 << 40), Generation(6), ""), Err(TooMany::Identities));
    assert!(roster.set(NodeId(1), Generation(8), "").is_ok() && before.generation(NodeId(1)) == Generation(7));
}
