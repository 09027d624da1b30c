//! As whom folders start, and what is promised of them: new ones, old ones, those that lost something, and after crashes.

use super::super::index::Summary;
use super::super::node_state::{RESERVE, STATE};
use super::super::orders::{Lines, Order};
use super::super::record::{Fields, encode};
use super::super::segments::{CURRENT, sealed_id};
use super::super::simulated::SimDisk;
use super::super::state_lines;
use super::super::storage::LogFile as _;
use super::super::writer::Writer;
use super::*;
use crate::ledger::held::{Held, State as Holds};
use crate::ledger::roster::Generation;
use crate::wire::id::{ClientId, RecordId};
use crate::wire::ledger::{Incarnation, Place};

const LEDGER: LedgerId = LedgerId { incarnation: Incarnation(3), number: 1 };
const ALWAYS: Settings = Settings { segment_bytes: 1500, sync: SyncPolicy::Always };
const HOW: How<'static> = How { settings: ALWAYS, boot: "b1", new_id: false, random: 77, name: "data1" };

fn start(disk: &SimDisk, how: How<'_>) -> Started<SimDisk> {
    open(disk, how).unwrap_or_else(|error| panic!("{error}"))
}

fn lines(entries: std::ops::Range<u32>, place: bool) -> Vec<u8> {
    let mut lines = Vec::new();
    for n in entries {
        let id = RecordId { time_ns: 1_000_000_000_000 + u64::from(n), incarnation: 3 };
        let place = place.then_some(Place { number: LEDGER.number, entry: n });
        encode(&mut lines, Fields { id, client: ClientId(7), seq: n.into(), place, source: None }, b"mensaje: hola")
            .unwrap();
    }
    lines
}

/// A node that runs, without its sessions.
struct Running {
    writer: Writer<SimDisk>,
    kept: Kept,
    identity: Identity,
}

impl Running {
    fn of(started: Started<SimDisk>) -> Self {
        let Started { log, state, kept, identity, .. } = started;
        Self { writer: Writer::new(log, Some(state)), kept, identity }
    }

    fn write(&mut self, bytes: Vec<u8>, notes: &[Note]) -> Result<(), super::super::current::LogError> {
        let mut order = Lines::default();
        (order.summary, order.bytes) = (Summary::of(&bytes), bytes);
        order.notes.text = state_lines::of_notes(notes);
        order.notes.urgent = notes.iter().any(Note::is_urgent);
        self.writer.carry_out(Order::Write(order)).result
    }

    fn put(&mut self, entries: std::ops::Range<u32>) {
        let members = [self.kept.me()];
        let count = entries.end - entries.start;
        let put = crate::ledger::kept::Put { ledger: LEDGER, first: entries.start, count, members: &members };
        self.kept.put(&put).unwrap();
        self.write(lines(entries.clone(), true), &[]).unwrap();
        assert!(self.kept.committed(LEDGER, entries));
    }

    fn stop(mut self) {
        self.writer.carry_out(Order::End).result.unwrap();
    }
}

/// A folder with so many entries of a ledger, whose node ended in order; whose it is.
fn folder(entries: u32) -> (SimDisk, NodeId) {
    let disk = SimDisk::default();
    let mut node = Running::of(start(&disk, HOW));
    node.put(0..entries);
    let me = node.identity.node;
    node.stop();
    (disk, me)
}

fn held(started: &Started<SimDisk>) -> Held {
    started.kept.held(LEDGER).unwrap()
}

#[test]
fn a_new_folder_gets_an_identity_and_keeps_it() {
    let disk = SimDisk::default();
    let first = start(&disk, HOW);
    let wanted = Identity { node: NodeId::from_random(77), replaces: None, old: false, cluster: String::new() };
    assert_eq!((&first.identity, first.why.clone(), first.kept.ledgers().count()), (&wanted, None, 0));
    assert!(disk.list().unwrap().contains(&RESERVE.to_owned()));
    let mut node = Running::of(first);
    node.identity.cluster = "casa".to_owned();
    let mut order = Lines::default();
    order.notes.text = joined(&node.identity);
    node.writer.carry_out(Order::Write(order)).result.unwrap();
    node.put(0..3);
    node.stop();
    let again = start(&disk, How { random: 5, boot: "b2", ..HOW });
    assert_eq!((again.identity.node, again.identity.cluster.as_str(), again.why.clone()), (wanted.node, "casa", None));
    let held = held(&again);
    assert_eq!((held.state, held.member, held.count, held.end, held.lacking), (Holds::Over, true, 3, 3, None));
}

#[test]
fn a_folder_of_format_1_goes_on_as_the_same_identity() {
    let disk = SimDisk::default();
    disk.write_small(OLD_IDENTITY, b"acopio-data 1 zzzzzzzzzz casa\n").unwrap();
    disk.write_small(CURRENT, &lines(0..5, false)).unwrap();
    let started = start(&disk, HOW);
    let me: NodeId = "zzzzzzzzzz".parse().unwrap();
    let wanted = Identity { node: me, replaces: None, old: true, cluster: "casa".to_owned() };
    assert_eq!((&started.identity, started.report.records, started.kept.ledgers().count()), (&wanted, 5, 0));
    assert!(!disk.list().unwrap().contains(&OLD_IDENTITY.to_owned()));
    let mut node = Running::of(started);
    node.put(0..3);
    node.stop();
    let again = start(&disk, HOW);
    assert_eq!((&again.identity, again.report.records, held(&again).end), (&wanted, 8, 3));
    // A copy of it becomes another one.
    let copy = start(&disk, How { new_id: true, ..HOW });
    assert_eq!((copy.identity.replaces, copy.identity.old, copy.why), (None, true, Some(Why::Asked)));
    let drained = SimDisk::default();
    drained.write_small(OLD_IDENTITY, b"acopio-data 1 zzzzzzzzzz casa drained\n").unwrap();
    assert!(matches!(open(&drained, HOW), Err(StartError::Drained)));
}

#[test]
fn a_torn_tail_is_cut_and_loses_nothing() {
    let (disk, me) = folder(3);
    disk.meddle(CURRENT, |bytes| bytes.extend_from_slice(&lines(3..4, true)[..30]));
    let started = start(&disk, HOW);
    assert_eq!((started.identity.node, started.why.clone()), (me, None));
    assert_eq!((held(&started).end, held(&started).lacking.clone()), (3, None));
    let kept = started.report.torn.unwrap().kept.unwrap();
    assert_eq!(disk.contents(&kept).len(), 30);
}

#[test]
fn a_log_that_lost_its_end_starts_as_another_identity_that_promises_nothing() {
    let len = folder(5).0.contents(CURRENT).len();
    for cut in (0..len).step_by(41) {
        let (disk, me) = folder(5);
        disk.open_append(CURRENT).unwrap().truncate(cut as u64).unwrap();
        let started = start(&disk, How { random: 5, ..HOW });
        let identity = &started.identity;
        assert_eq!((identity.node, identity.replaces), (NodeId::from_random(5), Some(me)), "{cut}");
        let why = started.why.clone().unwrap();
        assert!(matches!(why, Why::Cut { had, has, .. } if had == len as u64 && has <= cut as u64), "{why}");
        assert!(started.kept.all().all(|report| matches!(
            report,
            crate::ledger::held::Report::Ledger { held: Held { state: Holds::Part, end: 0, .. }, .. }
        )));
        // It is told once.
        let again = start(&disk, How { random: 6, ..HOW });
        assert_eq!((again.identity.node, again.why), (NodeId::from_random(5), None));
    }
    let (disk, _) = folder(5);
    disk.remove(CURRENT).unwrap();
    assert!(matches!(start(&disk, HOW).why, Some(Why::Cut { has: 0, .. })));
}

/// A head may have taken in the first of them, and what it told was not noted when the power went.
#[test]
fn each_of_a_chain_of_replaced_identities_is_given_up() {
    let (disk, me) = folder(5);
    let mut replaced = vec![me];
    for random in 5..8 {
        let len = disk.contents(CURRENT).len() as u64;
        disk.open_append(CURRENT).unwrap().truncate(len / 2).unwrap();
        let started = start(&disk, How { random, ..HOW });
        let roster = started.kept.roster();
        let is_given_up = |node: &NodeId| roster.generation(*node).standing() == Standing::GivenUp;
        assert!(replaced.iter().all(is_given_up), "{random}: {roster:?}");
        assert!(!roster.is_founded(), "a cluster can begin");
        replaced.push(started.identity.node);
    }
}

/// A bit flips in a line of a file in which five entries were written one after another, and noted nowhere: then the power
/// goes. A batch is written after the one before it was synced, so that only the last may be a torn end.
#[test]
fn rot_that_nothing_counted_is_no_torn_end() {
    let one = lines(0..1, true).len();
    for (entry, is_rot) in [(0, true), (3, true), (4, false)] {
        let disk = SimDisk::default();
        let mut node = Running::of(start(&disk, HOW));
        let me = node.identity.node;
        node.writer.carry_out(Order::Sync).result.unwrap();
        (0..5).for_each(|n| node.put(n..n + 1));
        disk.flip(CURRENT, 8 * (one * entry + one - 3));
        let lost_note = disk.contents(STATE);
        let at = lost_note.windows(5).rposition(|word| word == b"\nlog ");
        disk.meddle(STATE, |bytes| bytes.truncate(at.map_or(bytes.len(), |at| at + 1)));
        let started = start(&disk, How { random: 5, ..HOW });
        let found = (started.identity.node == me, started.report.torn.is_some(), started.report.records);
        assert_eq!(found, (!is_rot, !is_rot, 4), "{entry}: {:?}", started.why);
        let why = started.why.clone();
        assert_eq!(matches!(why, Some(Why::Rot { at, .. }) if at == (one * entry) as u64), is_rot, "{why:?}");
        // It is told once.
        let again = start(&disk, How { random: 6, ..HOW });
        assert_eq!((again.identity.node, again.why), (started.identity.node, None));
    }
}

#[test]
#[allow(clippy::single_range_in_vec_init, reason = "the ranges of a set")]
fn what_was_synced_and_rotted_is_lacking_at_each_start() {
    let one = lines(0..1, true).len();
    for (entry, sealed) in [(1, false), (4, false), (4, true)] {
        let (disk, me) = folder(5);
        let mut file = CURRENT.to_owned();
        if sealed {
            let mut node = Running::of(start(&disk, HOW));
            node.write(lines(5..45, false), &[]).unwrap();
            node.write(lines(45..46, false), &[]).unwrap();
            node.stop();
            file = disk.list().unwrap().into_iter().find(|name| sealed_id(name).is_some()).unwrap();
            disk.remove(&super::super::sidecar::sidecar_name(&file)).unwrap();
        }
        disk.flip(&file, 8 * (entry as usize * one + 45));
        for _ in 0..3 {
            let started = start(&disk, HOW);
            assert_eq!((started.identity.node, started.why.clone()), (me, None));
            let held = held(&started);
            let lacking: Vec<_> = held.lacking.iter().flat_map(|lacking| lacking.ranges()).collect();
            assert_eq!((held.count, held.end, lacking), (5, 5, vec![entry..entry + 1]), "{file}");
            let mut node = Running::of(started);
            // Whatever is written meanwhile.
            node.write(lines(100..101, false), &[]).unwrap();
            node.stop();
        }
    }
}

#[test]
fn records_without_a_state_are_nobodys_promise() {
    let (disk, _) = folder(3);
    disk.remove(STATE).unwrap();
    let started = start(&disk, How { random: 5, ..HOW });
    assert_eq!((started.identity.node, started.identity.replaces), (NodeId::from_random(5), None));
    assert_eq!(started.why.clone(), Some(Why::NoState));
    assert_eq!((held(&started).state, held(&started).count), (Holds::Part, 3));
    // Nor are those beside a damaged one.
    let (disk, me) = folder(3);
    disk.flip(STATE, 8 * 40);
    let started = start(&disk, How { random: 5, ..HOW });
    assert!(matches!(started.why, Some(Why::Damaged(_))), "{:?}", started.why);
    assert_eq!((started.identity.node, held(&started).state), (NodeId::from_random(5), Holds::Part));
    assert!(started.identity.replaces.is_none_or(|replaced| replaced == me));
    let other = SimDisk::default();
    let mut text = String::new();
    crate::ledger::text::seal(&mut text, "acopio-node 3");
    other.write_small(STATE, text.as_bytes()).unwrap();
    assert!(matches!(open(&other, HOW), Err(StartError::Version(version)) if version == "acopio-node 3"));
    assert_eq!(other.contents(STATE), text.as_bytes());
}

#[test]
fn a_power_cut_under_a_policy_that_loses_makes_another_identity() {
    let never = Settings { sync: SyncPolicy::Never, ..ALWAYS };
    for (settings, stops, boot, same) in [
        (never, false, "b2", false),
        (never, false, "b1", true),
        (never, true, "b2", true),
        (ALWAYS, false, "b2", true),
    ] {
        let disk = SimDisk::default();
        let mut node = Running::of(start(&disk, How { settings, ..HOW }));
        node.put(0..3);
        let me = node.identity.node;
        if stops {
            node.stop();
        }
        let started = start(&disk, How { boot, random: 5, ..HOW });
        assert_eq!(started.why, (!same).then_some(Why::Unsynced), "{settings:?} {stops} {boot}");
        assert_eq!(started.identity.replaces, (!same).then_some(me));
        // As before the run that lost nothing.
        drop(started);
        assert_eq!(start(&disk, How { boot: "b3", ..HOW }).why, None);
    }
}

#[test]
fn what_was_noted_is_known_again() {
    let disk = SimDisk::default();
    let mut node = Running::of(start(&disk, HOW));
    let adopt = node.kept.adopt(LEDGER, 0, 5, false);
    node.write(lines(0..3, true), &adopt).unwrap();
    let gone = Note::Gone { incarnation: Incarnation(3), numbers: 4..9 };
    node.write(Vec::new(), &[gone]).unwrap();
    node.stop();
    let started = start(&disk, HOW);
    assert_eq!((held(&started).state, held(&started).count, held(&started).member), (Holds::Part, 3, false));
    assert_eq!(started.kept.all().count(), 2);
    let mut node = Running::of(started);
    let mut notes = node.kept.adopt(LEDGER, 0, 5, true);
    notes.extend(node.kept.fetched(LEDGER, 3..5));
    node.write(lines(3..5, true), &notes).unwrap();
    let started = start(&disk, HOW);
    assert_eq!((held(&started).state, held(&started).end), (Holds::Over, 5));
}

#[test]
fn who_left_the_cluster_starts_only_as_another() {
    let (disk, me) = folder(3);
    let mut node = Running::of(start(&disk, HOW));
    let mut roster = crate::ledger::roster::Roster::default();
    roster.set(me, Generation(10), "data1").unwrap();
    let notes = node.kept.noted(&roster).unwrap();
    node.write(Vec::new(), &notes).unwrap();
    node.stop();
    assert!(matches!(open(&disk, HOW), Err(StartError::Drained)));
    let started = start(&disk, How { new_id: true, random: 5, ..HOW });
    assert_eq!((started.identity.replaces, started.why.clone()), (None, Some(Why::Asked)));
    assert_eq!(started.kept.roster().generation(me), Generation(10), "what was noted is no promise");
    assert_eq!(held(&started).state, Holds::Part);
}

#[test]
fn a_full_disk_keeps_nobody_from_starting() {
    let (disk, me) = folder(5);
    let full = || {
        let used = disk.used();
        disk.faults(|faults| faults.capacity = Some(used));
    };
    full();
    let started = start(&disk, HOW);
    assert_eq!((started.identity.node, held(&started).end), (me, 5));
    let mut node = Running::of(started);
    // Its notes have room of their own.
    full();
    let notes = [Note::Part { ledger: LedgerId { number: 9, ..LEDGER } }];
    if disk.list().unwrap().contains(&RESERVE.to_owned()) {
        node.write(Vec::new(), &notes).unwrap();
        assert!(!disk.list().unwrap().contains(&RESERVE.to_owned()));
    }
}

/// A start that is cut short after any of its calls is done by the next one: nobody loses what it promised.
#[test]
fn a_crash_while_starting_changes_nothing() {
    for call in 0..14 {
        for seed in 0..12 {
            let (disk, me) = folder(40);
            let mut node = Running::of(start(&disk, HOW));
            node.write(lines(40..41, false), &[]).unwrap();
            drop(node);
            disk.meddle(CURRENT, |bytes| bytes.extend_from_slice(b"half a li"));
            disk.faults(|faults| faults.die = Some(call));
            drop(open(&disk, HOW));
            disk.crash(seed);
            let started = start(&disk, HOW);
            assert_eq!((started.identity.node, started.why.clone()), (me, None), "{call} {seed}");
            let held = held(&started);
            assert_eq!((held.end, held.lacking), (40, None), "{call} {seed}");
        }
    }
}
