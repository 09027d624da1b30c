//! What the head decides, without a socket: placement, windows, resends, refusals, and a random run against a model.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::head::faults::Fault;
use crate::wire::frame::MessagesBuilder;
use crate::wire::id::ClientId;
use crate::wire::ledger::{NUMBER_END, NodeId, Place};

const WINDOW: Window = Window { bytes: limits::NODE_WINDOW_BYTES_MAX, messages: 64 };
const CLIENT: ClientId = ClientId(7);

fn messages(count: usize) -> Messages {
    let mut builder = MessagesBuilder::new();
    for k in 0..count {
        builder.push(&[format!("numero random: {k}").as_bytes()]).unwrap();
    }
    builder.take().unwrap()
}

fn register(core: &mut Core) -> NodeKey {
    let n = core.next_serial;
    register_as(core, n)
}

/// The node number `n`, with an identity of its own.
fn register_as(core: &mut Core, n: u64) -> NodeKey {
    let label = Label { ip: format!("127.0.0.{n}").into(), id: Some(NodeId(n)) };
    let key = core.register(label, true, WINDOW, None).unwrap();
    // As if it had been there for a while; who begins is looked at on its own.
    core.nodes[key.place].opening.open_all();
    plan(core);
    key
}

/// A node that has settled nothing yet, from an address of its own.
fn newcomer(core: &mut Core, n: u64) -> NodeKey {
    let id = Some(NodeId(100 + n));
    let label = Label { ip: format!("127.0.1.{n}").into(), id };
    let key = core.register(label, true, WINDOW, None).unwrap();
    plan(core);
    key
}

/// Opens ledgers on all nodes that can write, as a head does that knows all of them to be usable.
fn plan(core: &mut Core) {
    let usable: Vec<NodeId> =
        core.nodes.iter().filter(|(_, node)| node.is_able()).filter_map(|(_, node)| node.label.id).collect();
    let enough = usable.len() >= core.copies_min;
    core.plan(if enough { &usable } else { &[] });
    core.set_opens_soon(false, String::new());
}

fn set_writable(core: &mut Core, node: NodeKey, writable: bool) {
    core.set_writable(node, writable);
    plan(core);
}

fn origin(ticket: u64) -> Origin {
    Origin { session: 1, ticket }
}

/// What is to be done; ledgers are opened at once where others are over.
fn effects(core: &mut Core) -> Vec<Effect> {
    let mut all = Vec::new();
    while let Some(effect) = core.next_effect() {
        match effect {
            Effect::Plan => plan(core),
            other => all.push(other),
        }
    }
    all
}

/// The same, without what members are told of ends.
fn outcomes(core: &mut Core) -> Vec<Effect> {
    let is_outcome = |effect: &Effect| !matches!(effect, Effect::Close { .. });
    effects(core).into_iter().filter(is_outcome).collect()
}

fn store(core: &mut Core, ticket: u64, count: usize) -> Result<(), NotTaken> {
    core.store(1_000, Author { client: CLIENT, source: None }, ticket * 100, &messages(count), origin(ticket))
}

/// The node and the id of the one Put among these effects.
fn only_put(effects: &[Effect]) -> (NodeKey, RecordId) {
    let mut puts = effects.iter().filter_map(|effect| match effect {
        Effect::Put { node, batch, .. } => Some((*node, batch.first)),
        _ => None,
    });
    let put = puts.next().expect("a Put");
    assert!(puts.next().is_none(), "one Put");
    put
}

#[test]
fn without_a_node_the_client_is_told_so() {
    let mut core = Core::new(1, 1, 1);
    let Err(NotTaken::Refused(refusal)) = store(&mut core, 1, 1) else { panic!("refused") };
    assert_eq!(refusal.code, Code::NoNodes);
    assert!(refusal.text.starts_with("no hay dataNodes; "), "{refusal}");
    assert_eq!((core.counters().refused, core.counters().in_flight), (1, 0));
}

#[test]
fn every_node_gets_its_share() {
    let mut core = Core::new(1, 1, 1);
    let keys: Vec<_> = (0..3).map(|_| register(&mut core)).collect();
    let mut shares = [0; 3];
    for ticket in 0..3000 {
        store(&mut core, ticket, 1).unwrap();
        let (node, _) = only_put(&effects(&mut core));
        let share = keys.iter().position(|key| *key == node).unwrap();
        shares[share] += 1;
        core.acked(node, shares[share], SyncMode::Always, &mut Vec::new()).unwrap();
        effects(&mut core);
    }
    assert!(shares.iter().all(|share| (850..1150).contains(share)), "{shares:?}");
}

/// The nodes that have something of these effects, and how many messages.
fn given(effects: &[Effect]) -> Vec<(NodeKey, u16)> {
    let put = |effect: &Effect| match effect {
        Effect::Put { node, batch, .. } => Some((*node, batch.messages.count())),
        _ => None,
    };
    effects.iter().filter_map(put).collect()
}

#[test]
fn nodes_that_never_settled_anything_hold_up_one_batch_however_many_they_are() {
    let mut core = Core::new(1, 1, 1);
    let healthy = register(&mut core);
    let newcomers: Vec<_> = (0..30).map(|n| newcomer(&mut core, n)).collect();
    let mut settled = 0;
    let mut stuck = Vec::new();
    let mut tried = Vec::new();
    for ticket in 0..3000 {
        store(&mut core, ticket, 16).unwrap();
        for (node, count) in given(&effects(&mut core)) {
            if node == healthy {
                settled += 1;
                core.acked(healthy, settled, SyncMode::Always, &mut Vec::new()).unwrap();
            } else {
                stuck.push((node, count));
            }
        }
        effects(&mut core);
        assert_eq!(core.counters().in_flight, 16 * stuck.len() as u64);
        if ticket % 100 == 99 {
            // The one that is on trial is evicted: the healthy one gets what it had, at once.
            let [(node, 16)] = stuck[..] else { panic!("{stuck:?}") };
            assert!(newcomers.contains(&node) && core.trial_time(node) == Some(limits::NODE_TRIAL_TIME));
            core.leave(node, Fault::None, "");
            assert_eq!(given(&effects(&mut core)), [(healthy, 16)]);
            settled += 1;
            core.acked(healthy, settled, SyncMode::Always, &mut Vec::new()).unwrap();
            effects(&mut core);
            tried.push(stuck.pop());
        }
    }
    assert_eq!(tried.len(), 30);
    // They are back, and rest.
    let back = newcomer(&mut core, 3);
    for ticket in 0..100 {
        store(&mut core, ticket, 16).unwrap();
        assert_eq!(given(&effects(&mut core)), [(healthy, 16)]);
        settled += 1;
        core.acked(healthy, settled, SyncMode::Always, &mut Vec::new()).unwrap();
        effects(&mut core);
    }
    (0..limits::NODE_REST_LOOKS).for_each(|_| core.look());
    let tried = (0..100).any(|ticket| {
        store(&mut core, ticket, 16).unwrap();
        given(&effects(&mut core)).iter().any(|(node, _)| *node == back)
    });
    assert!(tried, "after its rest it is tried again");
    assert_eq!(core.trial_time(back), Some(2 * limits::NODE_TRIAL_TIME));
    core.acked(back, 1, SyncMode::Always, &mut Vec::new()).unwrap();
    assert!(core.trial_time(back).is_none() && core.failures.times("127.0.1.3") == 0);
}

#[test]
fn where_there_are_only_new_nodes_all_of_them_are_tried_with_a_batch() {
    let mut core = Core::new(1, 2, 1);
    let nodes = [newcomer(&mut core, 1), newcomer(&mut core, 2), newcomer(&mut core, 3)];
    store(&mut core, 1, 16).unwrap();
    assert_eq!(given(&effects(&mut core)).len(), 2);
    assert!(matches!(store(&mut core, 2, 1), Err(NotTaken::Hold)), "two have a batch, and one is not enough");
    assert!(nodes.iter().all(|node| core.trial_time(*node).is_none()), "nobody else could keep it");
    for node in nodes {
        core.acked(node, 1, SyncMode::Always, &mut Vec::new()).ok();
    }
    for ticket in 3..5 {
        store(&mut core, ticket, 1).unwrap();
    }
}

#[test]
fn a_node_that_stops_is_given_less_with_every_look() {
    let mut core = Core::new(1, 1, 1);
    let node = register(&mut core);
    store(&mut core, 1, 16).unwrap();
    (0..limits::NODE_SILENT_LOOKS).for_each(|_| core.look());
    store(&mut core, 2, 16).unwrap();
    core.look();
    assert!(matches!(store(&mut core, 3, 16), Err(NotTaken::Hold)), "half of 64 is taken");
    effects(&mut core);
    core.acked(node, 1, SyncMode::Always, &mut Vec::new()).unwrap();
    assert!(effects(&mut core).iter().any(|effect| matches!(effect, Effect::Room)));
    store(&mut core, 3, 16).unwrap();
}

#[test]
fn what_a_dead_node_had_goes_to_another_under_the_same_id() {
    let mut core = Core::new(1, 1, 1);
    let first = register(&mut core);
    store(&mut core, 1, 3).unwrap();
    let (_, id) = only_put(&effects(&mut core));
    let second = register(&mut core);
    assert_eq!(core.leave(first, Fault::None, ""), 3);
    assert_eq!(only_put(&effects(&mut core)), (second, id));
    let mut ranges = Vec::new();
    core.acked(second, 1, SyncMode::Always, &mut ranges).unwrap();
    assert_eq!(ranges, [(id, 3)]);
    assert!(
        matches!(&effects(&mut core)[..], [Effect::Kept { batch, nodes, .. }] if batch.first == id && nodes.len() == 1)
    );
    assert_eq!(core.counters().in_flight, 0);
    core.acked(first, 1, SyncMode::Always, &mut ranges).unwrap();
    assert!(effects(&mut core).is_empty(), "a late word of the dead node changes nothing");
}

#[test]
fn a_batch_that_waits_for_room_on_another_node_goes_there_under_its_id() {
    let mut core = Core::new(1, 1, 1);
    let nodes = [register(&mut core), register(&mut core)];
    store(&mut core, 1, 64).unwrap();
    let (dies, oldest) = only_put(&effects(&mut core));
    let lives = nodes.into_iter().find(|node| *node != dies).unwrap();
    store(&mut core, 2, 64).unwrap();
    assert_eq!(only_put(&effects(&mut core)).0, lives);
    core.leave(dies, Fault::None, "");
    assert!(effects(&mut core).is_empty(), "there is no room for it");
    core.acked(lives, 1, SyncMode::Always, &mut Vec::new()).unwrap();
    assert_eq!(only_put(&effects(&mut core)), (lives, oldest));
    core.acked(lives, 2, SyncMode::Always, &mut Vec::new()).unwrap();
    assert_eq!(core.counters().in_flight, 0);
}

#[test]
fn when_the_last_node_dies_its_messages_are_refused() {
    let mut core = Core::new(1, 1, 1);
    let node = register(&mut core);
    store(&mut core, 1, 1).unwrap();
    effects(&mut core);
    core.leave(node, Fault::None, "");
    assert!(matches!(&effects(&mut core)[..], [Effect::Refused { refusal, .. }] if refusal.code == Code::NoNodes));
}

#[test]
fn a_full_window_holds_until_it_is_settled() {
    let mut core = Core::new(1, 1, 1);
    let node = register(&mut core);
    for ticket in 0..4 {
        store(&mut core, ticket, 16).unwrap();
    }
    assert!(matches!(store(&mut core, 4, 1), Err(NotTaken::Hold)));
    effects(&mut core);
    core.acked(node, 1, SyncMode::Always, &mut Vec::new()).unwrap();
    assert!(effects(&mut core).iter().any(|effect| matches!(effect, Effect::Room)));
    store(&mut core, 4, 1).unwrap();
}

#[test]
fn a_dead_nodes_messages_wait_for_room_before_anything_new() {
    let mut core = Core::new(1, 1, 1);
    let full = register(&mut core);
    for ticket in 0..4 {
        store(&mut core, ticket, 16).unwrap();
    }
    let other = register(&mut core);
    for ticket in 4..8 {
        store(&mut core, ticket, 16).unwrap();
    }
    effects(&mut core);
    core.leave(full, Fault::None, "");
    assert!(effects(&mut core).is_empty(), "the other is full, too");
    assert!(matches!(store(&mut core, 9, 1), Err(NotTaken::Hold)), "the orphans go first");
    core.acked(other, 1, SyncMode::Always, &mut Vec::new()).unwrap();
    assert!(matches!(only_put(&effects(&mut core)), (node, _) if node == other));
}

#[test]
fn a_full_disk_sends_a_message_elsewhere_and_takes_none_after() {
    let mut core = Core::new(1, 1, 1);
    let a = register(&mut core);
    store(&mut core, 1, 1).unwrap();
    let b = register(&mut core);
    effects(&mut core);
    let full = Refusal::new(Code::DiskFull, "the disk is full");
    core.refused(a, 1, &full).unwrap();
    assert_eq!(only_put(&effects(&mut core)).0, b);
    for ticket in 2..30 {
        store(&mut core, ticket, 1).unwrap();
        assert_eq!(only_put(&effects(&mut core)).0, b);
    }
    core.refused(b, 1, &full).unwrap();
    let refused = outcomes(&mut core);
    assert_eq!(refused.len(), 29, "all that was in the ledger is over");
    assert!(
        refused
            .iter()
            .all(|effect| matches!(effect, Effect::Refused { refusal, .. } if refusal.code == Code::DiskFull))
    );
    set_writable(&mut core, a, true);
    store(&mut core, 30, 1).unwrap();
    assert_eq!(only_put(&effects(&mut core)).0, a);
}

#[test]
fn a_number_that_was_never_sent_is_an_error() {
    let mut core = Core::new(1, 1, 1);
    let node = register(&mut core);
    store(&mut core, 1, 1).unwrap();
    assert!(core.acked(node, 2, SyncMode::Always, &mut Vec::new()).is_err());
    assert!(core.refused(node, 5, &Refusal::new(Code::DiskFull, "")).is_err());
}

#[test]
fn two_copies_go_to_two_nodes_and_are_acknowledged_together() {
    let mut core = Core::new(1, 2, 1);
    let keys: Vec<_> = (0..2).map(|_| register(&mut core)).collect();
    store(&mut core, 1, 1).unwrap();
    assert_eq!(effects(&mut core).len(), 2);
    core.acked(keys[0], 1, SyncMode::Always, &mut Vec::new()).unwrap();
    assert!(effects(&mut core).is_empty(), "one copy is not two");
    core.acked(keys[1], 1, SyncMode::Always, &mut Vec::new()).unwrap();
    assert!(matches!(&effects(&mut core)[..], [Effect::Kept { nodes, .. }] if nodes.len() == 2));
}

/// The nodes of these Puts, where each is in its ledger, and the members that it names.
fn puts(effects: &[Effect]) -> Vec<(NodeKey, Place, Vec<NodeId>)> {
    let put = |effect: &Effect| match effect {
        Effect::Put { node, place: Some(place), members, .. } => Some((*node, *place, members.to_vec())),
        _ => None,
    };
    effects.iter().filter_map(put).collect()
}

/// The nodes, ledgers and ends of what members are told.
fn closes(effects: &[Effect]) -> Vec<(NodeKey, u32, u32)> {
    let close = |effect: &Effect| match effect {
        Effect::Close { node, ledger, end } => Some((*node, ledger.number, *end)),
        _ => None,
    };
    effects.iter().filter_map(close).collect()
}

#[test]
fn every_pair_of_nodes_is_equally_likely_and_a_ledger_names_its_members_once() {
    let mut core = Core::new(1, 2, 1);
    let keys: Vec<_> = (0..3).map(|_| register(&mut core)).collect();
    let (mut pairs, mut named) = (BTreeMap::<Vec<u64>, u32>::new(), BTreeSet::new());
    let mut sent = [0; 3];
    for ticket in 0..3000 {
        store(&mut core, ticket, 1).unwrap();
        let puts = puts(&effects(&mut core));
        let [(one, place, members), (two, same, _)] = &puts[..] else { panic!("{puts:?}") };
        assert_eq!(place, same, "the same entry at each");
        assert_eq!(members.len(), if place.entry == 0 { 2 } else { 0 });
        assert!(place.entry > 0 || named.insert(place.number), "each ledger is opened once");
        *pairs.entry(vec![one.serial.min(two.serial), one.serial.max(two.serial)]).or_default() += 1;
        for node in [one, two] {
            let k = keys.iter().position(|key| key == node).unwrap();
            sent[k] += 1;
            core.acked(*node, sent[k], SyncMode::Always, &mut Vec::new()).unwrap();
        }
        effects(&mut core);
    }
    assert_eq!((pairs.len(), named.len()), (3, 3));
    assert!(pairs.values().all(|n| (850..1150).contains(n)), "{pairs:?}");
    assert_eq!(core.counters().short, 0);
}

#[test]
fn what_a_lost_member_had_not_acknowledged_goes_elsewhere_under_the_same_id() {
    let mut core = Core::new(1, 2, 1);
    let keys: Vec<_> = (0..2).map(|_| register(&mut core)).collect();
    store(&mut core, 1, 1).unwrap();
    let first = puts(&effects(&mut core));
    for key in &keys {
        core.acked(*key, 1, SyncMode::Always, &mut Vec::new()).unwrap();
    }
    store(&mut core, 2, 3).unwrap();
    let (again, id) = (effects(&mut core), core.flights.iter().next().unwrap().1.batch.first);
    assert_eq!(puts(&again)[0].1.entry, 1);
    let third = register(&mut core);
    effects(&mut core);
    core.acked(keys[0], 2, SyncMode::Always, &mut Vec::new()).unwrap();
    core.leave(keys[0], Fault::None, "");
    let done = effects(&mut core);
    assert_eq!(closes(&done), [(keys[1], first[0].1.number, 1)], "one member's word settles nothing");
    let anew = puts(&done);
    assert_eq!(
        anew.iter().map(|put| put.0.serial).collect::<BTreeSet<_>>(),
        BTreeSet::from([keys[1].serial, third.serial])
    );
    assert!(anew.iter().all(|put| put.1.number != first[0].1.number && put.1.entry == 0 && put.2.len() == 2));
    core.acked(keys[1], 2, SyncMode::Always, &mut Vec::new()).unwrap();
    core.acked(third, 1, SyncMode::Always, &mut Vec::new()).unwrap();
    assert!(effects(&mut core).is_empty(), "what it took of the ledger that is over does not count");
    core.acked(keys[1], 3, SyncMode::Always, &mut Vec::new()).unwrap();
    assert!(
        matches!(&effects(&mut core)[..], [Effect::Kept { batch, nodes, .. }] if nodes.len() == 2 && batch.first == id)
    );
    assert_eq!(core.counters().short, 0);
}

#[test]
fn a_ledger_that_is_over_for_a_member_is_over() {
    let mut core = Core::new(1, 2, 2);
    let (a, b) = (register(&mut core), register(&mut core));
    store(&mut core, 1, 2).unwrap();
    let put = puts(&effects(&mut core));
    let ledger = LedgerId { incarnation: Incarnation(core.incarnation()), number: put[0].1.number };
    core.acked(a, 1, SyncMode::Always, &mut Vec::new()).unwrap();
    core.over(NodeId(9), [ledger]);
    assert!(effects(&mut core).is_empty(), "a stranger's word ends nothing");
    core.over(NodeId(2), [ledger]);
    let done = effects(&mut core);
    assert_eq!(closes(&done), [(a, ledger.number, 0), (b, ledger.number, 0)]);
    assert_eq!(puts(&done).iter().map(|put| put.1.number).collect::<Vec<_>>(), [ledger.number + 1; 2]);
    core.over(NodeId(2), [ledger]);
    assert!(effects(&mut core).is_empty());
}

#[test]
fn a_ledger_that_is_full_is_closed_and_the_batch_waits_for_another() {
    let mut core = Core::new(1, 1, 1);
    let node = register(&mut core);
    let first = core.open[0].writing.ledger();
    core.open[0].writing.place(NUMBER_END - 1).unwrap();
    store(&mut core, 1, 2).unwrap();
    let put = puts(&effects(&mut core));
    assert_eq!(put, [(node, Place { number: first.number + 1, entry: 0 }, vec![NodeId(1)])]);
    assert_eq!(core.open_ledgers().count(), 1, "the full one is closed");
}

#[test]
fn two_heads_that_drew_one_incarnation_draw_anew() {
    let mut core = Core::new(1, 1, 1);
    let node = register(&mut core);
    let before = core.incarnation();
    store(&mut core, 1, 1).unwrap();
    let (_, id) = only_put(&effects(&mut core));
    core.refused(node, 1, &Refusal::new(Code::LedgerKnown, "known")).unwrap();
    let done = effects(&mut core);
    assert_ne!(core.incarnation(), before);
    let (_, again) = only_put(&done);
    assert_eq!(again.incarnation, core.incarnation(), "the ledger's name is in the id: {id} {again}");
    assert_eq!(puts(&done)[0].1, Place { number: 0, entry: 0 });
}

#[test]
fn fewer_nodes_than_copies_are_counted_and_below_the_least_refused() {
    let mut core = Core::new(1, 3, 2);
    let a = register(&mut core);
    let Err(NotTaken::Refused(refusal)) = store(&mut core, 1, 1) else { panic!("one is less than two") };
    assert!(refusal.text.starts_with("2 copies have to be kept and 1 can be; "), "{refusal}");
    let b = register(&mut core);
    store(&mut core, 2, 5).unwrap();
    effects(&mut core);
    core.acked(a, 1, SyncMode::Always, &mut Vec::new()).unwrap();
    core.acked(b, 1, SyncMode::Always, &mut Vec::new()).unwrap();
    assert!(matches!(&effects(&mut core)[..], [Effect::Kept { nodes, .. }] if nodes.len() == 2));
    assert_eq!(core.counters().short, 5);
    store(&mut core, 3, 1).unwrap();
    effects(&mut core);
    core.leave(a, Fault::None, "");
    core.acked(b, 2, SyncMode::Always, &mut Vec::new()).unwrap();
    assert!(matches!(&outcomes(&mut core)[..], [Effect::Refused { .. }]), "one copy is less than two");
}

#[test]
fn what_lost_its_ledger_waits_while_others_are_about_to_be_opened() {
    let mut core = Core::new(1, 2, 2);
    let (a, b) = (register_as(&mut core, 1), register_as(&mut core, 2));
    store(&mut core, 1, 1).unwrap();
    let (id, _) = (core.flights.iter().next().unwrap().1.batch.first, effects(&mut core));
    core.acked(a, 1, SyncMode::Always, &mut Vec::new()).unwrap();
    core.leave(a, Fault::None, "");
    core.plan(&[]);
    assert!(matches!(store(&mut core, 2, 1), Err(NotTaken::Hold)), "who comes meanwhile waits, too");
    let told: Vec<_> = std::iter::from_fn(|| core.next_effect()).collect();
    assert!(puts(&told).is_empty() && !told.iter().any(|effect| matches!(effect, Effect::Refused { .. })));
    let back = register_as(&mut core, 1);
    let put = effects(&mut core);
    assert_eq!(
        puts(&put).iter().map(|put| put.0.serial).collect::<BTreeSet<_>>(),
        BTreeSet::from([b.serial, back.serial])
    );
    assert!(put.iter().all(|effect| !matches!(effect, Effect::Put { batch, .. } if batch.first != id)));
    core.leave(b, Fault::None, "");
    assert!(matches!(&outcomes(&mut core)[..], [Effect::Refused { .. }]), "one disk is not two copies");
}

#[path = "core_model_tests.rs"]
mod model;
