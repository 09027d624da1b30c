//! Tests of the table of members.

use super::*;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn kept(records: u64, sole: u64) -> Kept {
    Kept { records, sole, short: 0 }
}

/// Nodes a, b, c with identities 1, 2, 3 and shared records.
fn three(replicas: usize) -> Members {
    let mut members = Members::new(replicas);
    for (name, id) in [("a", 1), ("b", 2), ("c", 3)] {
        members.here(name, id, kept(10, if replicas == 1 { 10 } else { 0 }), s(0)).unwrap();
    }
    members
}

const NOBODY: [&str; 0] = [];

#[test]
fn with_one_copy_every_node_that_is_away_is_missing() {
    let mut members = three(1);
    assert_eq!(members.missing(), NOBODY);
    members.away(2, true, s(5), 1000);
    assert_eq!(members.missing(), ["b"]);
    for id in [1, 3] {
        members.reported(id, kept(10, 10), s(60));
    }
    assert_eq!(members.missing(), ["b"], "its records are nowhere else, however long it takes");
    assert_eq!(members.away_now().collect::<Vec<_>>(), [Away { name: "b".into(), id: 2, since_unix_s: 1000 }]);
    members.here("b", 2, kept(10, 10), s(61)).unwrap();
    assert_eq!(members.missing(), NOBODY);
}

#[test]
fn a_node_that_never_kept_anything_is_not_missed() {
    let mut members = Members::new(1);
    let empty = |members: &mut Members| members.here("a", 1, Kept::default(), s(0)).unwrap();
    empty(&mut members);
    members.away(1, false, s(1), 0);
    assert_eq!(members.missing(), NOBODY);
    assert!(!empty(&mut members), "it is the same one");
    members.away(1, true, s(2), 0);
    assert_eq!(members.missing(), ["a"], "it acknowledged something that no report has counted yet");
    empty(&mut members);
    members.keeps(1);
    members.away(1, false, s(3), 0);
    assert_eq!(members.missing(), ["a"], "it was given a copy");
    empty(&mut members);
    assert!(members.kept_alone(1, 3, false), "worth a line in the file");
    assert!(!members.kept_alone(1, 3, false));
    members.away(1, false, s(3), 0);
    assert_eq!(members.missing(), ["a"]);
}

#[test]
fn identities_that_never_kept_anything_fill_nothing() {
    let mut members = three(1);
    members.away(2, true, s(1), 1);
    for id in 100..100 + 3 * MEMBERS_MAX as u64 {
        members.here("restarted", id, Kept::default(), s(2)).unwrap();
        members.away(id, false, s(3), 3);
    }
    assert_eq!(members.missing(), ["b"], "who kept something is still known");
    members.heard(&told(&[("elsewhere", 7, MemberState::Here)]), (s(4), 4));
    assert_eq!(members.missing(), ["b", "elsewhere"], "and there is room for others");
}

#[test]
fn an_empty_node_is_missed_while_another_head_may_have_used_it() {
    let mut members = Members::new(1);
    let heard = |members: &mut Members, state, at| members.heard(&told(&[("a", 1, state)]), (s(at), at));
    members.here("a", 1, Kept::default(), s(0)).unwrap();
    heard(&mut members, MemberState::Here, 1);
    members.away(1, false, s(2), 2);
    assert_eq!(members.missing(), ["a"], "another head has it");
    assert_eq!(members.list()[0].state, MemberState::Gone, "to this head's knowledge it has nothing");
    heard(&mut members, MemberState::Away, 3);
    assert_eq!(members.missing(), ["a"], "that one knows of records");
    members.heard(&[], (s(4), 4));
    assert_eq!(members.missing(), ["a"], "that one is gone and said nothing else");
    heard(&mut members, MemberState::Gone, 5);
    assert_eq!(members.missing(), NOBODY, "nobody gave it anything");
    let mut again = Members::new(1);
    assert_eq!(again.add_lines((1..).zip(members.to_text().lines()), 7), [0; 0]);
    assert_eq!(again.missing(), NOBODY);
    for members in [&mut members, &mut again] {
        heard(members, MemberState::Here, 6);
        assert_eq!(members.missing(), ["a"], "it is back, at another head");
    }
}

#[test]
fn two_heads_agree_that_a_node_never_had_anything() {
    let [mut one, mut two] = [(); 2].map(|()| Members::new(1));
    let exchange = |one: &mut Members, two: &mut Members, at| {
        for _ in 0..3 {
            let (from_one, from_two) = (one.list(), two.list());
            one.heard(&from_two, (s(at), at));
            two.heard(&from_one, (s(at), at));
        }
    };
    for members in [&mut one, &mut two] {
        members.here("a", 1, Kept::default(), s(0)).unwrap();
        members.here("b", 2, kept(10, 10), s(0)).unwrap();
    }
    exchange(&mut one, &mut two, 1);
    one.away(1, false, s(2), 2);
    exchange(&mut one, &mut two, 2);
    assert_eq!(one.missing(), ["a"], "the other has it still");
    two.away(1, false, s(3), 3);
    exchange(&mut one, &mut two, 3);
    assert_eq!((one.missing(), two.missing()), (vec![], vec![]));
    // One that only the first has known comes and goes, and comes again and keeps something.
    one.here("c", 3, Kept::default(), s(4)).unwrap();
    exchange(&mut one, &mut two, 4);
    assert_eq!(two.missing(), ["c"]);
    one.away(3, false, s(5), 5);
    exchange(&mut one, &mut two, 5);
    assert_eq!((one.missing(), two.missing()), (vec![], vec![]));
    one.here("c", 3, Kept::default(), s(6)).unwrap();
    one.away(3, true, s(7), 7);
    exchange(&mut one, &mut two, 7);
    assert_eq!((one.missing(), two.missing()), (vec!["c"], vec!["c"]));
}

#[test]
fn while_messages_have_fewer_copies_fewer_nodes_may_be_away() {
    let mut members = three(3);
    members.given(3, s(1));
    members.away(1, true, s(5), 0);
    members.given(2, s(6));
    members.away(2, true, s(7), 0);
    assert_eq!(members.missing(), ["a", "b"], "some record may be on these two alone");
    let mut again = Members::new(3).with_least(1);
    assert_eq!(again.add_lines((1..).zip(members.to_text().lines()), 0), [0; 0]);
    again.here("a", 1, kept(10, 0), s(1)).unwrap();
    assert_eq!(again.missing(), ["b", "c"], "a head that starts does not know how many copies there are");
    members.here("a", 1, kept(10, 0), s(10)).unwrap();
    members.here("b", 2, Kept { records: 10, sole: 0, short: 1 }, s(10)).unwrap();
    let all = |members: &mut Members, short, at| {
        for id in [1, 2, 3] {
            members.reported(id, Kept { records: 10, sole: 0, short }, at);
        }
        members.away(1, true, at, 0);
        members.away(2, true, at, 0);
        let missing = members.missing().len();
        for (name, id) in [("a", 1), ("b", 2)] {
            members.here(name, id, Kept { records: 10, sole: 0, short }, at).unwrap();
        }
        missing
    };
    assert_eq!(all(&mut members, 1, s(20)), 2, "they have not been copied yet");
    assert_eq!(all(&mut members, 0, s(30)), 0, "every record has three copies again");
}

#[test]
fn as_many_away_as_there_are_copies_are_missing() {
    let mut members = three(2);
    members.away(1, true, s(5), 0);
    assert_eq!(members.missing(), NOBODY, "each of its records has a copy");
    members.away(2, true, s(6), 0);
    assert_eq!(members.missing(), ["a", "b"]);
    members.here("a", 1, kept(10, 0), s(7)).unwrap();
    assert_eq!(members.missing(), NOBODY);
}

#[test]
fn a_node_is_missed_no_more_once_all_others_lack_nothing() {
    let mut members = three(2);
    members.away(1, true, s(5), 0);
    members.reported(2, kept(10, 0), s(6));
    members.reported(3, kept(10, 0), s(60));
    members.away(2, true, s(61), 0);
    assert_eq!(members.missing(), ["a", "b"], "one of the others had not looked since");
    let mut members = three(2);
    members.away(1, true, s(5), 0);
    members.reported(2, kept(10, 0), s(60));
    members.reported(3, Kept { short: 4, ..kept(10, 0) }, s(60));
    let mut early = members.clone();
    early.away(2, true, s(61), 0);
    assert_eq!(early.missing(), ["a", "b"], "four lack a copy");
    assert!(members.reported(3, kept(14, 0), s(70)), "worth a line in the file");
    members.away(2, true, s(71), 0);
    assert_eq!(members.missing(), NOBODY);
    members.away(3, true, s(72), 0);
    assert_eq!(members.missing(), ["b", "c"], "what was on the first one is on those two");
}

#[test]
fn what_failed_to_get_its_other_copies_is_missed() {
    let mut members = three(2);
    members.kept_alone(1, 2, true);
    members.reported(1, kept(12, 0), s(9));
    members.away(1, true, s(10), 0);
    for id in [2, 3] {
        members.reported(id, kept(10, 0), s(60));
    }
    assert_eq!(members.missing(), ["a"], "its records name another node that does not have them");
}

#[test]
fn a_name_with_another_identity_is_another_node() {
    let mut members = three(1);
    members.away(1, true, s(1), 0);
    members.here("a", 9, Kept::default(), s(2)).unwrap();
    assert_eq!(members.missing(), ["a"]);
    assert_eq!(members.list().len(), 4);
    members.here("new", 1, kept(10, 10), s(3)).unwrap();
    assert_eq!(members.missing(), NOBODY, "the identity counts");
}

#[test]
fn who_is_gone_is_not_missed_and_is_forgotten_first() {
    let mut members = three(1);
    members.away(1, true, s(1), 0);
    assert!(members.set_state(1, MemberState::Gone) && !members.set_state(77, MemberState::Gone));
    assert_eq!(members.missing(), NOBODY);
    for id in 4..=MEMBERS_MAX as u64 {
        members.here(&format!("n{id}"), id, Kept::default(), s(1)).unwrap();
    }
    members.here("last", 5000, Kept::default(), s(1)).unwrap();
    let refusal = members.here("more", 5001, Kept::default(), s(1)).unwrap_err();
    assert_eq!((refusal.code, members.list().len()), (Code::Full, MEMBERS_MAX));
    assert!(!members.list().iter().any(|member| member.id == 1));
}

#[test]
fn a_head_that_starts_again_waits_for_whom_it_knew() {
    let mut members = three(2);
    members.kept_alone(3, 2, true);
    members.away(2, true, s(5), 77);
    let mut again = Members::new(2);
    assert_eq!(again.add_lines((1..).zip(members.to_text().lines()), 1000), [0; 0]);
    assert_eq!(again.missing(), ["a", "b", "c"]);
    let since: Vec<_> = again.away_now().map(|away| away.since_unix_s).collect();
    assert_eq!(since, [1000, 77, 1000]);
    again.here("a", 1, kept(10, 0), s(1)).unwrap();
    again.here("b", 2, kept(10, 0), s(1)).unwrap();
    assert_eq!(again.missing(), ["c"], "for what only it has");
    again.here("c", 3, kept(12, 0), s(1)).unwrap();
    let mut third = Members::new(2);
    assert_eq!(third.add_lines((1..).zip(format!("nonsense\n{}", again.to_text()).lines()), 1), [1]);
    assert_eq!(third.missing().len(), 3);
}

fn told(list: &[(&str, u64, MemberState)]) -> Vec<Member> {
    list.iter()
        .map(|&(name, id, state)| Member { name: name.to_owned(), id, state, sync: SyncMode::Always, sole: false })
        .collect()
}

#[test]
fn a_node_that_another_head_has_is_waited_for_unless_every_record_has_all_copies() {
    for (least, missing) in [(1, &["b"][..]), (2, &NOBODY[..])] {
        let mut members = three(2).with_least(least);
        assert!(members.heard(&told(&[("b", 2, MemberState::Here)]), (s(1), 1)));
        assert!(!members.heard(&told(&[("b", 2, MemberState::Here)]), (s(2), 2)), "no news");
        assert_eq!(members.missing(), NOBODY, "it is here, too");
        members.away(2, true, s(5), 1000);
        assert_eq!(members.missing(), missing);
        for id in [1, 3] {
            members.reported(id, kept(10, 0), s(60));
        }
        assert_eq!(members.missing(), missing, "it goes on taking records");
        assert!(members.heard(&told(&[("b", 2, MemberState::Away)]), (s(70), 70)));
        assert_eq!(members.missing(), NOBODY, "nobody has it");
        members.away(1, true, s(71), 71);
        assert_eq!(members.missing(), ["a", "b"], "what it took is not known to be elsewhere");
    }
}

#[test]
fn a_record_has_no_more_copies_than_there_are_nodes() {
    let mut members = Members::new(3);
    members.here("a", 1, kept(10, 0), s(0)).unwrap();
    members.here("b", 2, kept(10, 0), s(0)).unwrap();
    members.away(2, true, s(1), 1);
    members.here("b", 9, kept(0, 0), s(2)).unwrap();
    assert_eq!(members.missing(), NOBODY, "a has what the old b had");
    members.away(1, true, s(3), 3);
    assert_eq!(members.missing(), ["a", "b"], "both nodes that were there");
}

#[test]
fn what_a_node_got_from_a_head_that_is_gone_is_not_known() {
    let mut members = three(2).with_least(1);
    members.heard(&told(&[("b", 2, MemberState::Here)]), (s(1), 1));
    members.away(2, true, s(5), 1000);
    members.heard(&[], (s(6), 6));
    assert_eq!(members.missing(), ["b"]);
    for id in [1, 3] {
        members.reported(id, kept(10, 0), s(60));
    }
    assert_eq!(members.missing(), ["b"], "no report counts what only it has");
    let mut again = Members::new(2).with_least(1);
    assert_eq!(again.add_lines((1..).zip(members.to_text().lines()), 7), [0; 0]);
    again.here("a", 1, kept(10, 0), s(1)).unwrap();
    again.here("c", 3, kept(10, 0), s(1)).unwrap();
    assert_eq!(again.missing(), ["b"]);
    again.here("b", 2, kept(10, 0), s(1)).unwrap();
    again.away(2, true, s(2), 9);
    assert_eq!(again.missing(), NOBODY, "it has said what it has");
}

#[test]
fn a_node_that_only_others_know_counts_as_away() {
    let mut members = Members::new(1);
    members.here("a", 1, kept(10, 10), s(0)).unwrap();
    let list = told(&[("a", 1, MemberState::Here), ("b", 2, MemberState::Away), ("c", 3, MemberState::Gone)]);
    assert!(members.heard(&list, (s(1), 1000)));
    assert_eq!(members.missing(), ["b"], "who was given up is not taken up again");
    members.heard(&[], (s(2), 2));
    assert_eq!(members.missing(), ["b"], "the other head may be gone, its records are not");
    members.heard(&told(&[("b", 2, MemberState::Away), ("b", 2, MemberState::Gone)]), (s(3), 3));
    assert_eq!(members.missing(), ["b"], "one head still waits for it");
    members.heard(&told(&[("b", 2, MemberState::Gone)]), (s(4), 4));
    assert_eq!(members.missing(), NOBODY);
    members.here("a", 1, kept(10, 10), s(5)).unwrap();
    members.heard(&told(&[("a", 1, MemberState::Gone)]), (s(6), 6));
    members.away(1, true, s(7), 7);
    assert_eq!(members.missing(), ["a"], "this head was not asked to give it up");
}

#[test]
fn what_only_one_node_has_by_the_word_of_another_head_is_waited_for() {
    let mut members = three(2);
    let sole = |state, sole| vec![Member { sole, ..told(&[("b", 2, state)]).remove(0) }];
    members.heard(&sole(MemberState::Here, true), (s(1), 1));
    assert_eq!(members.missing(), NOBODY, "it is here, too");
    members.away(2, true, s(5), 1000);
    assert_eq!(members.missing(), ["b"]);
    assert!(members.list().iter().all(|member| !member.sole), "two heads would go on telling each other");
    members.heard(&[], (s(6), 6));
    assert_eq!(members.missing(), ["b"], "the head that said so is gone");
    let mut again = Members::new(2);
    again.add_lines((1..).zip(members.to_text().lines()), 7);
    again.here("a", 1, kept(10, 0), s(1)).unwrap();
    again.here("c", 3, kept(10, 0), s(1)).unwrap();
    assert_eq!(again.missing(), ["b"], "after a restart, too");
    members.heard(&sole(MemberState::Away, false), (s(7), 7));
    assert_eq!(members.missing(), NOBODY, "it has been copied");
    members.kept_alone(3, 1, false);
    assert_eq!(members.list().iter().filter(|member| member.sole).map(|member| member.id).collect::<Vec<_>>(), [3]);
}

#[test]
fn one_that_is_here_speaks_for_itself_once_the_head_that_spoke_for_it_is_gone() {
    let mut members = three(2);
    members.heard(&[Member { sole: true, ..told(&[("b", 2, MemberState::Here)]).remove(0) }], (s(1), 1));
    members.heard(&[], (s(2), 2));
    members.away(2, true, s(5), 1000);
    assert_eq!(members.missing(), NOBODY, "its own reports say that others have all of it");
}

#[test]
fn another_head_may_have_given_fewer_copies() {
    let mut members = three(3).with_least(1);
    members.away(1, true, s(1), 1);
    members.away(2, true, s(2), 2);
    assert_eq!(members.missing(), NOBODY, "each record is on the third");
    members.given_elsewhere(2, s(3));
    assert_eq!(members.missing(), ["a", "b"]);
    assert_eq!(members.least_given(), 0, "this head has not");
    members.given(2, s(4));
    assert_eq!(members.least_given(), 2);
}
