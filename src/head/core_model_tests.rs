//! A random run of the core against a model: what members are sent of each ledger, and what clients are told.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Register,
    /// One that left comes back.
    Return,
    Store(usize),
    Ack(usize, u64),
    Refuse(usize),
    Writable(usize, bool),
    Leave(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => Just(Op::Register),
        1 => Just(Op::Return),
        8 => (1..=16usize).prop_map(Op::Store),
        6 => (0..8usize, 1..4u64).prop_map(|(n, k)| Op::Ack(n, k)),
        1 => (0..8usize).prop_map(Op::Refuse),
        1 => (0..8usize, any::<bool>()).prop_map(|(n, w)| Op::Writable(n, w)),
        1 => (0..8usize).prop_map(Op::Leave),
    ]
}

/// What a node was sent and has not settled, by Put number.
struct Sent {
    /// Its identity.
    n: u64,
    key: NodeKey,
    settled: u64,
    puts: Vec<u64>,
}

/// What members were sent of each ledger, and what clients were told.
#[derive(Default)]
struct Ledgers {
    /// By number and node, the entry that is due.
    due: BTreeMap<(u32, u64), u32>,
    members: BTreeMap<u32, Vec<NodeId>>,
    /// By ticket, the ledger where it was put last, and where it ends there.
    at: BTreeMap<u64, (u32, u32)>,
    told: BTreeMap<u32, u32>,
    closed: BTreeMap<u32, u32>,
}

impl Ledgers {
    fn put(&mut self, place: Place, n: u64, members: &[NodeId], batch: &Batch) {
        let Place { number, entry } = place;
        let due = self.due.entry((number, n)).or_default();
        assert_eq!(*due, entry, "each member gets every entry, in order");
        *due += u32::from(batch.messages.count());
        assert!(!self.closed.contains_key(&number), "nothing is put behind an end");
        assert_eq!(entry == 0, !members.is_empty());
        if entry == 0 {
            assert_eq!(self.members.entry(number).or_insert_with(|| members.to_vec()), members);
        }
        assert!(self.members[&number].contains(&NodeId(n)));
        self.at.insert(batch.origin.ticket, (number, *due));
    }

    fn kept(&mut self, batch: &Batch) {
        let (number, end) = self.at[&batch.origin.ticket];
        assert!(!self.closed.contains_key(&number), "nobody is told of what lies behind an end");
        let told = self.told.entry(number).or_default();
        *told = end.max(*told);
    }

    fn close(&mut self, number: u32, end: u32) {
        assert_eq!(self.told.get(&number).copied().unwrap_or_default(), end, "the end is what clients were told");
        assert_eq!(*self.closed.entry(number).or_insert(end), end);
    }
}

proptest! {
    /// Every batch that was taken is settled exactly once, kept only if a node acknowledged it, whatever happens.
    #[test]
    fn each_batch_is_settled_once(seed: u64, replicas in 1..4usize, least in 1..4usize, ops in prop::collection::vec(op(), 1..200)) {
        let mut core = Core::new(seed, replicas, least);
        let mut nodes: Vec<Sent> = Vec::new();
        let mut open = BTreeSet::new();
        let mut acked_by = BTreeMap::<u64, BTreeSet<u64>>::new();
        let mut ticket = 0;
        let (mut next, mut away) = (0, Vec::new());
        let mut ledgers = Ledgers::default();
        let mut drain = |core: &mut Core, nodes: &mut Vec<Sent>, open: &mut BTreeSet<u64>, acked: &BTreeMap<u64, BTreeSet<u64>>| {
            for effect in effects(core) {
                match effect {
                    Effect::Put { node, place, members, batch } => {
                        let sent = nodes.iter_mut().find(|sent| sent.key == node).expect("a registered node");
                        sent.puts.push(batch.origin.ticket);
                        assert!(open.contains(&batch.origin.ticket), "nothing settled is sent again");
                        let place = place.expect("an entry");
                        ledgers.put(place, sent.n, &members, &batch);
                    }
                    Effect::Close { ledger, end, .. } => ledgers.close(ledger.number, end),
                    Effect::Plan => unreachable!("done at once"),
                    Effect::Kept { batch, nodes, .. } => {
                        ledgers.kept(&batch);
                        let distinct: BTreeSet<_> = nodes.iter().collect();
                        assert_eq!(distinct.len(), nodes.len(), "one disk is never two copies");
                        assert!(nodes.len() >= least.min(replicas), "no fewer copies than the least");
                        assert!(acked[&batch.origin.ticket].len() >= nodes.len(), "each of them said so");
                        assert!(open.remove(&batch.origin.ticket), "settled once");
                        assert!(acked.contains_key(&batch.origin.ticket), "kept means that a node said so");
                    }
                    Effect::Refused { batch, .. } => assert!(open.remove(&batch.origin.ticket), "settled once"),
                    Effect::Room => {}
                }
            }
        };
        for op in ops {
            match op {
                Op::Register => {
                    next += 1;
                    nodes.push(Sent { n: next, key: register_as(&mut core, next), settled: 0, puts: Vec::new() });
                }
                Op::Return => if let Some(n) = away.pop() {
                    nodes.push(Sent { n, key: register_as(&mut core, n), settled: 0, puts: Vec::new() });
                },
                Op::Store(count) => {
                    ticket += 1;
                    open.insert(ticket);
                    if store(&mut core, ticket, count).is_err() {
                        open.remove(&ticket);
                    }
                }
                Op::Ack(n, k) => if let Some(sent) = nodes.get_mut(n) {
                    let up_to = (sent.settled + k).min(sent.puts.len() as u64);
                    for put in &sent.puts[sent.settled as usize..up_to as usize] {
                        acked_by.entry(*put).or_default().insert(sent.n);
                    }
                    sent.settled = up_to;
                    core.acked(sent.key, up_to, SyncMode::Always, &mut Vec::new()).unwrap();
                },
                Op::Refuse(n) => if let Some(sent) = nodes.get_mut(n) && sent.settled < sent.puts.len() as u64 {
                    sent.settled += 1;
                    core.refused(sent.key, sent.settled, &Refusal::new(Code::DiskFull, "full")).unwrap();
                },
                Op::Writable(n, writable) => if let Some(sent) = nodes.get(n) {
                    set_writable(&mut core, sent.key, writable);
                },
                Op::Leave(n) => if n < nodes.len() {
                    let gone = nodes.remove(n);
                    away.push(gone.n);
                    core.leave(gone.key, Fault::None, "");
                },
            }
            drain(&mut core, &mut nodes, &mut open, &acked_by);
        }
        // Heal: one writable node with an open window settles everything that waits.
        for sent in &nodes {
            set_writable(&mut core, sent.key, true);
        }
        for n in next + 1..next + 4 {
            nodes.push(Sent { n, key: register_as(&mut core, n), settled: 0, puts: Vec::new() });
        }
        for _ in 0..500 {
            drain(&mut core, &mut nodes, &mut open, &acked_by);
            for sent in &mut nodes {
                for put in &sent.puts[sent.settled as usize..] {
                    acked_by.entry(*put).or_default().insert(sent.n);
                }
                sent.settled = sent.puts.len() as u64;
                core.acked(sent.key, sent.settled, SyncMode::Always, &mut Vec::new()).unwrap();
            }
        }
        drain(&mut core, &mut nodes, &mut open, &acked_by);
        prop_assert!(open.is_empty(), "unsettled: {:?}", open);
        prop_assert_eq!(core.counters().in_flight, 0);
        prop_assert_eq!(core.counters().in_flight_bytes, 0);
    }
}
