//! The order stage against a model: clients that send through two heads, are refused, lose answers, and send again.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::message::tests::message;
use super::*;

const MS: u64 = 1_000_000;
/// Long enough for a warm-up before it.
const START_MS: u64 = 1_000_000;
const HOLD_MS: u64 = HOLD_NS / MS;

/// What became of a message.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Kept the first time.
    Kept,
    /// Kept, but the answer was lost: sent again this long after, and kept again.
    Twice(u64),
    /// Refused, and kept this long after.
    Late(u64),
    /// Refused for good.
    Refused,
}

/// A client that sends a message every so many ms.
#[derive(Clone, Debug)]
struct Sends {
    may_retry: bool,
    every_ms: u64,
    fates: Vec<Fate>,
}

fn sends(delay_ms_max: u64) -> impl Strategy<Value = Sends> {
    let fate = prop_oneof![
        6 => Just(Fate::Kept),
        2 => (1..delay_ms_max).prop_map(Fate::Twice),
        2 => (1..delay_ms_max).prop_map(Fate::Late),
        1 => Just(Fate::Refused),
    ];
    (any::<bool>(), 1..2000_u64, prop::collection::vec(fate, 1..60)).prop_map(|(may_retry, every_ms, fates)| Sends {
        may_retry,
        every_ms,
        // A client that does not send again is kept or refused.
        fates: if may_retry { fates } else { fates.into_iter().map(|_| Fate::Kept).collect() },
    })
}

/// What the heads have of these clients, in the order of ids. A second try goes to the other head.
fn kept(clients: &[Sends]) -> Vec<Message> {
    let mut records = BTreeMap::new();
    for (k, client) in clients.iter().enumerate() {
        let who = if client.may_retry { ClientId::of_library(k as u64) } else { ClientId::of_connection(k as u64) };
        for (seq, fate) in (1..).zip(&client.fates) {
            let first_ms = START_MS + seq * client.every_ms;
            let (first, again) = match *fate {
                Fate::Kept => (Some(first_ms), None),
                Fate::Twice(delay) => (Some(first_ms), Some(first_ms + delay)),
                Fate::Late(delay) => (None, Some(first_ms + delay)),
                Fate::Refused => (None, None),
            };
            for (time_ms, incarnation) in [(first, 1), (again, 2)] {
                let Some(time_ms) = time_ms else { continue };
                let mut id = RecordId { time_ns: time_ms * MS, incarnation };
                while records.contains_key(&id) {
                    id = id.plus(1);
                }
                records.insert(id, message(id, who, seq, None, format!("{k} {seq}").as_bytes()));
            }
        }
    }
    records.into_values().collect()
}

/// Feeds records, with what is covered told after some of them; what comes out, at which time of ids.
fn run(mut order: Order, records: Vec<Message>, covered: &[bool]) -> Vec<(Message, RecordId)> {
    let mut out = Vec::new();
    let mut tell = covered.iter().cycle();
    for record in records {
        let id = record.id;
        order.push(record);
        if *tell.next().unwrap() {
            order.covered(id.next());
        }
        assert!(order.held_bytes <= order.held_bytes_max);
        assert_eq!(order.oldest.len(), order.clients.values().map(|client| client.held.len()).sum::<usize>());
        out.extend(std::iter::from_fn(|| order.pop()).map(|message| (message, id)));
    }
    order.finish();
    out.extend(std::iter::from_fn(|| order.pop()).map(|message| (message, RecordId::MAX)));
    assert_eq!((order.held_bytes, order.oldest.len()), (0, 0));
    out
}

/// Each client and number, with the least id at which it is kept.
fn firsts(records: &[Message]) -> BTreeMap<(ClientId, u64), RecordId> {
    let mut firsts = BTreeMap::new();
    for record in records {
        let id: &mut RecordId = firsts.entry((record.client, record.seq)).or_insert(record.id);
        *id = (*id).min(record.id);
    }
    firsts
}

fn check_once(out: &[(Message, RecordId)], wanted: &BTreeSet<(ClientId, u64)>) -> Result<(), TestCaseError> {
    let mut seen = BTreeSet::new();
    for (message, _) in out {
        prop_assert!(seen.insert((message.client, message.seq)), "{message:?} came twice");
    }
    prop_assert_eq!(&seen, wanted);
    Ok(())
}

fn check_increasing(out: &[(Message, RecordId)]) -> Result<(), TestCaseError> {
    let mut last = BTreeMap::new();
    for (message, _) in out {
        let before = last.insert(message.client, message.seq);
        prop_assert!(before < Some(message.seq), "{before:?} came before {message:?}");
    }
    Ok(())
}

proptest! {
    #[test]
    fn each_message_comes_once_and_in_order(
        clients in prop::collection::vec(sends(HOLD_MS), 1..5), covered in prop::collection::vec(any::<bool>(), 1..8),
    ) {
        let records = kept(&clients);
        let wanted = firsts(&records).into_keys().collect();
        let out = run(Order::new(RecordId::ZERO), records, &covered);
        check_once(&out, &wanted)?;
        check_increasing(&out)?;
    }

    #[test]
    fn a_read_from_the_middle_knows_what_was_before(
        clients in prop::collection::vec(sends(HOLD_MS), 1..5), covered in prop::collection::vec(any::<bool>(), 1..8),
        from_ms in 0..120_000_u64,
    ) {
        let from = RecordId { time_ns: (START_MS + from_ms) * MS, incarnation: 0 };
        let mut records = kept(&clients);
        let wanted = firsts(&records).into_iter().filter(|&(_, first)| first >= from).map(|(key, _)| key).collect();
        records.retain(|record| record.id >= warm_up(from));
        let out = run(Order::new(from), records, &covered);
        check_once(&out, &wanted)?;
        check_increasing(&out)?;
    }

    #[test]
    fn a_later_retry_comes_once_too(clients in prop::collection::vec(sends(40 * HOLD_MS), 1..5)) {
        let records = kept(&clients);
        let wanted = firsts(&records).into_keys().collect();
        let out = run(Order::new(RecordId::ZERO), records, &[true]);
        check_once(&out, &wanted)?;
        for (message, at) in out {
            prop_assert!(at == RecordId::MAX || at.time_ns <= message.id.time_ns + HOLD_NS + 2 * HOLD_NS * 40,
                "{message:?} waited until {at}");
        }
    }

    #[test]
    fn little_memory_loses_order_but_no_message(clients in prop::collection::vec(sends(HOLD_MS), 1..5), records_max in 0..6_usize) {
        let records = kept(&clients);
        let wanted = firsts(&records).into_keys().collect();
        let order = Order { held_bytes_max: records_max * 320, ..Order::new(RecordId::ZERO) };
        check_once(&run(order, records, &[false]), &wanted)?;
    }
}

fn of(client: ClientId, seq: u64, ms: u64) -> Message {
    message(RecordId { time_ns: (START_MS + ms) * MS, incarnation: 1 }, client, seq, None, b"x")
}

fn seqs(order: &mut Order) -> Vec<u64> {
    std::iter::from_fn(|| order.pop()).map(|message| message.seq).collect()
}

#[test]
fn a_gap_is_waited_for_and_then_passed_over() {
    let who = ClientId::of_library(7);
    let mut order = Order::new(RecordId::ZERO);
    for (seq, ms) in [(1, 0), (3, 10), (4, 20), (6, 30)] {
        order.push(of(who, seq, ms));
    }
    assert_eq!(seqs(&mut order), [1]);
    order.covered(of(who, 0, 9 + HOLD_MS).id);
    assert_eq!(seqs(&mut order), [] as [u64; 0], "3 may still wait");
    order.covered(of(who, 0, 11 + HOLD_MS).id);
    assert_eq!(seqs(&mut order), [3, 4], "2 is given up; 5 may still come");
    order.push(of(who, 5, 20 + HOLD_MS));
    assert_eq!(seqs(&mut order), [5, 6]);
    order.push(of(who, 2, 2 * HOLD_MS));
    order.push(of(who, 2, 3 * HOLD_MS));
    order.push(of(who, 7, 4 * HOLD_MS));
    assert_eq!(seqs(&mut order), [2, 7], "late, but not lost, and once");
}

/// A message with this payload.
fn saying(client: ClientId, seq: u64, ms: u64, payload: &[u8]) -> Message {
    message(RecordId { time_ns: (START_MS + ms) * MS, incarnation: 1 }, client, seq, None, payload)
}

#[test]
fn a_device_that_counts_anew_is_heard() {
    let who = ClientId::of_library(7);
    let mut order = Order::new(RecordId::ZERO);
    for (run, word) in [b"a", b"b", b"c"].into_iter().enumerate() {
        for seq in 1..=5 {
            let ms = 100 * run as u64 + 10 * seq;
            order.push(saying(who, seq, ms, word));
            // It tried again.
            order.push(saying(who, seq, ms + 1, word));
        }
    }
    let out: Vec<Message> = std::iter::from_fn(|| order.pop()).collect();
    assert_eq!(out.iter().map(|message| message.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5].repeat(3));
    assert!(out.iter().enumerate().all(|(k, message)| message.reused == (k >= 5)));
    assert_eq!(out.iter().map(|message| message.payload[0]).collect::<Vec<_>>(), b"aaaaabbbbbccccc");
}

#[test]
fn a_number_that_is_held_back_is_not_the_only_one() {
    let who = ClientId::of_library(7);
    let mut order = Order::new(RecordId::ZERO);
    order.push(saying(who, 2, 10, b"a"));
    order.push(saying(who, 2, 20, b"b"));
    assert_eq!(seqs(&mut order), [2], "the other");
    order.push(saying(who, 1, 30, b"x"));
    assert_eq!(seqs(&mut order), [1, 2]);
}

#[test]
fn what_was_before_the_beginning_makes_a_number_reused_too() {
    let who = ClientId::of_library(7);
    let from = RecordId { time_ns: (START_MS + 50) * MS, incarnation: 0 };
    let mut order = Order::new(from);
    order.push(saying(who, 1, 10, b"a"));
    order.push(saying(who, 1, 60, b"a"));
    order.push(saying(who, 1, 70, b"b"));
    let out: Vec<Message> = std::iter::from_fn(|| order.pop()).collect();
    assert!(matches!(&out[..], [one] if one.reused && one.payload == "b"), "{out:?}");
}

#[test]
fn payloads_take_bounded_memory() {
    let mut order = Order::new(RecordId::ZERO);
    let count = limits::READER_PAYLOADS_MAX as u64 + 1000;
    let first = saying(ClientId::of_library(1), 1, 0, b"x");
    for k in 0..count {
        let client = ClientId::of_library(k % 2);
        let mut next = first.clone();
        (next.client, next.seq) = (client, 1 + k / 2);
        order.push(next);
        assert!(order.pop().is_some());
    }
    assert!(order.payloads <= limits::READER_PAYLOADS_MAX);
    assert_eq!(order.payloads, order.clients.values().map(|client| client.seen.payloads()).sum::<usize>());
}

#[test]
fn a_connection_in_text_is_passed_on_as_it_comes() {
    let who = ClientId::of_connection(7);
    let mut order = Order::new(RecordId::ZERO);
    for (seq, ms) in [(9, 0), (5, 10), (5, 20)] {
        order.push(of(who, seq, ms));
    }
    assert_eq!(seqs(&mut order), [9, 5, 5]);
}

#[test]
fn clients_without_number_take_bounded_memory() {
    let mut order = Order::new(RecordId::ZERO);
    let mut out = Vec::new();
    let count = 3 * limits::READER_CLIENTS_MAX as u64;
    for k in 0..count {
        // Every other one waits for its first message.
        order.push(of(ClientId::of_library(k), 1 + k % 2, k));
        assert!(order.clients.len() <= limits::READER_CLIENTS_MAX);
        out.extend(std::iter::from_fn(|| order.pop()).map(|message| message.client));
    }
    order.finish();
    out.extend(std::iter::from_fn(|| order.pop()).map(|message| message.client));
    assert_eq!(out.iter().collect::<BTreeSet<_>>().len(), out.len());
    assert_eq!(out.len() as u64, count);
}

#[test]
fn torn_numbers_take_bounded_memory() {
    let mut order = Order { held_bytes_max: 0, ..Order::new(RecordId::ZERO) };
    let each = limits::READER_CLIENT_RANGES_MAX as u64;
    let clients = 2 * (limits::READER_RANGES_MAX as u64 / each);
    let mut count = 0;
    for k in 0..clients {
        for n in 1..=each {
            order.push(of(ClientId::of_library(k), 2 * n, k * each + n));
            count += seqs(&mut order).len() as u64;
        }
        assert!(order.ranges <= limits::READER_RANGES_MAX);
        assert_eq!(order.ranges, order.clients.values().map(|client| client.seen.ranges()).sum::<usize>());
    }
    assert_eq!(count, clients * each);
}

/// A check that looks for records finds the second copy of a message, too.
#[cfg(feature = "server")]
#[test]
fn what_is_read_as_it_is_kept_has_every_copy_as_it_comes() {
    let who = ClientId::of_library(7);
    let mut order = Order::new(RecordId::ZERO);
    order.deliver_as_kept();
    for (seq, ms) in [(2, 0), (1, 10), (2, 20)] {
        order.push(of(who, seq, ms));
    }
    assert_eq!(seqs(&mut order), [2, 1, 2]);
}

#[test]
fn who_is_met_in_the_middle_waits_longer_while_another_head_catches_up() {
    let (one, other) = (ClientId::of_connection(1), ClientId::of_connection(2));
    let second = 1_000_000_000;
    let mut order = Order::new(RecordId::ZERO).follows(true);
    order.begin_live();
    order.push(of(one, 5, 0));
    order.tick(second);
    assert_eq!(seqs(&mut order), [5], "nothing before it comes");
    order.goes_on();
    order.push(of(other, 5, 0));
    order.tick(3 * second);
    assert_eq!(seqs(&mut order), [] as [u64; 0]);
    order.push(of(other, 4, 0));
    order.tick(10 * second);
    assert_eq!(seqs(&mut order), [4, 5]);
}
