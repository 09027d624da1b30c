//! Whether what is on the disks is what was promised. Pure: acknowledgements, records and registros in, problems out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::wire::frame::SyncMode;
use crate::wire::id::{ClientId, RecordId};
use crate::wire::ledger::LedgerId;
use crate::wire::source::SourceName;
use crate::wire::text::MENSAJE_PREFIX;

/// An acknowledgement of one message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ack {
    /// What is to be stored.
    pub(crate) payload: Vec<u8>,
    /// The client and the sequence number, where the client knows them.
    pub(crate) number: Option<(ClientId, u64)>,
    /// The id, where the client was told.
    pub(crate) id: Option<RecordId>,
    /// The nodes that keep it.
    pub(crate) nodes: Vec<IpAddr>,
    /// The promise.
    pub(crate) sync: SyncMode,
}

/// A record on a disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stored {
    /// The node.
    pub(crate) node: IpAddr,
    /// The id.
    pub(crate) id: RecordId,
    /// The client and the sequence number.
    pub(crate) number: (ClientId, u64),
    /// The ledger and the entry of it.
    pub(crate) entry: Option<(LedgerId, u32)>,
    /// The source that it says.
    pub(crate) source: Option<SourceName>,
    /// The payload.
    pub(crate) payload: Vec<u8>,
}

/// Everything that is known at the end of a run.
#[derive(Clone, Default, Debug)]
pub(crate) struct Evidence {
    /// Every payload that was sent, as it is stored.
    pub(crate) sent: BTreeSet<Vec<u8>>,
    /// Lines of which a part may be stored: their client closed while it wrote them, and the last line needs no newline.
    pub(crate) torn: Vec<Vec<u8>>,
    /// What was acknowledged.
    pub(crate) acks: Vec<Ack>,
    /// What is on the disks.
    pub(crate) stored: Vec<Stored>,
    /// Nodes whose disk was lost.
    pub(crate) wiped: BTreeSet<IpAddr>,
    /// Nodes that left in order: others have what they had.
    pub(crate) left: BTreeSet<IpAddr>,
    /// Ranges of ids that the registros of the heads say a node keeps.
    pub(crate) registro: BTreeSet<(IpAddr, RecordId)>,
    /// Copies without which nothing may be acknowledged.
    pub(crate) copies_min: usize,
    /// Whether each client's records have to be in its order: one head, and nothing went wrong.
    pub(crate) ordered: bool,
}

/// The source of a message: its payload says it, in its third word, after an @.
pub(crate) fn source_in(payload: &[u8]) -> Option<SourceName> {
    let text = payload.strip_prefix(MENSAJE_PREFIX.as_bytes()).unwrap_or(payload);
    let word = text.split(|byte| *byte == b' ').nth(2)?;
    SourceName::from_bytes(word.strip_prefix(b"@")?).ok()
}

/// Problems of a kind that are listed in full; the rest is counted.
const LISTED_MAX: usize = 5;

impl Evidence {
    /// What must not be: acknowledged and not there, there twice, there and never sent, out of order, not in a registro.
    #[must_use]
    pub(crate) fn judge(&self) -> Vec<String> {
        let mut problems = Problems::default();
        self.lost(&mut problems);
        self.twice(&mut problems);
        self.misnamed(&mut problems);
        if self.ordered {
            self.disordered(&mut problems);
        }
        problems.list()
    }

    /// A record's source is that under which its message was sent.
    fn misnamed(&self, problems: &mut Problems) {
        for record in self.stored.iter().filter(|record| self.sent.contains(&record.payload)) {
            if record.source != source_in(&record.payload) {
                problems.add("of another source", format!("{} of {:?}", shown(&record.payload), record.source));
            }
        }
    }

    /// Each node that an acknowledgement names has to hold the message, unless its disk was lost.
    fn lost(&self, problems: &mut Problems) {
        let mut there: BTreeMap<(IpAddr, &[u8]), Vec<&Stored>> = BTreeMap::new();
        for record in &self.stored {
            there.entry((record.node, &record.payload)).or_default().push(record);
        }
        let anywhere: BTreeSet<&[u8]> = self.stored.iter().map(|record| &*record.payload).collect();
        for ack in &self.acks {
            for node in &ack.nodes {
                if ack.id.is_some_and(|id| !self.registro.contains(&(*node, id))) {
                    problems.add("not in a registro", format!("{} on {node}", shown(&ack.payload)));
                }
                if ack.sync != SyncMode::Always || self.wiped.contains(node) {
                    continue;
                }
                if self.left.contains(node) {
                    if self.wiped.is_empty() && !anywhere.contains(&*ack.payload) {
                        problems.add("acknowledged and lost", format!("{} after {node} left", shown(&ack.payload)));
                    }
                    continue;
                }
                let found = there.get(&(*node, &*ack.payload)).is_some_and(|records| {
                    records.iter().any(|record| {
                        ack.id.is_none_or(|id| id == record.id)
                            && ack.number.is_none_or(|number| number == record.number)
                    })
                });
                if !found {
                    problems.add("acknowledged and lost", format!("{} on {node}: {ack:?}", shown(&ack.payload)));
                }
            }
            // A node that came in place of one whose disk was lost has its address, and is another.
            let replaced = |node: &IpAddr| self.wiped.contains(node) || self.left.contains(node);
            let distinct = ack.nodes.iter().filter(|node| !replaced(node)).collect::<BTreeSet<_>>().len();
            let copies = distinct + ack.nodes.iter().filter(|node| replaced(node)).count();
            if copies < self.copies_min || copies < ack.nodes.len() {
                problems.add("acknowledged with too few copies", format!("{}: {:?}", shown(&ack.payload), ack.nodes));
            }
        }
    }

    /// After equal ids and equal numbers are dropped, each message that was sent is there once at most.
    fn twice(&self, problems: &mut Problems) {
        let mut by_id = BTreeMap::new();
        let mut by_number = BTreeMap::new();
        let mut by_payload = BTreeMap::new();
        for record in &self.stored {
            let torn = || self.torn.iter().any(|line| line.starts_with(&record.payload));
            if !self.sent.contains(&record.payload) && !torn() {
                problems.add("stored and never sent", format!("{record:?}"));
            }
            let same = by_id.entry(record.id).or_insert((record.number, &record.payload));
            if *same != (record.number, &record.payload) {
                problems.add("one id for two messages", format!("{record:?}"));
            }
            if *by_number.entry(record.number).or_insert(&record.payload) != &record.payload {
                problems.add("one number for two messages", format!("{record:?}"));
            }
            if *by_payload.entry(&record.payload).or_insert(record.number) != record.number {
                problems.add("read twice", format!("{record:?}"));
            }
        }
    }

    fn disordered(&self, problems: &mut Problems) {
        let mut by_number: Vec<_> = self.stored.iter().map(|record| (record.number, record.id)).collect();
        by_number.sort_unstable();
        by_number.dedup();
        for pair in by_number.windows(2) {
            if let [((client, _), id), ((next_client, seq), next_id)] = pair
                && client == next_client
                && next_id <= id
            {
                problems.add("out of order", format!("client {client} sequence number {seq} at {next_id}"));
            }
        }
    }
}

pub(super) fn shown(payload: &[u8]) -> String {
    String::from_utf8_lossy(payload.get(..payload.len().min(24)).unwrap_or_default()).into_owned()
}

/// Problems by kind.
#[derive(Default)]
pub(super) struct Problems(BTreeMap<&'static str, Vec<String>>);

impl Problems {
    pub(super) fn add(&mut self, kind: &'static str, what: String) {
        self.0.entry(kind).or_default().push(what);
    }

    pub(super) fn list(self) -> Vec<String> {
        let mut lines = Vec::new();
        for (kind, all) in self.0 {
            let count = all.len();
            lines.extend(all.into_iter().take(LISTED_MAX).map(|what| format!("{kind}: {what}")));
            if count > LISTED_MAX {
                lines.push(format!("{kind}: {count} in all"));
            }
        }
        lines
    }
}

/// The ids in a head's registro, with the node that keeps each.
#[must_use]
pub(crate) fn registro_ids(text: &str) -> BTreeSet<(IpAddr, RecordId)> {
    let mut ids = BTreeSet::new();
    for line in text.lines() {
        let Some((_, kept)) = line.split_once(" recibido en dataNode ") else { continue };
        let mut words = kept.split(' ');
        let Some(Ok(ip)) = words.next().map(str::parse::<IpAddr>) else { continue };
        for range in words.skip(1) {
            let (first, more) = range.split_once("..+").unwrap_or((range, "0"));
            let (Ok(first), Ok(more)) = (first.parse::<RecordId>(), more.parse::<u64>()) else { continue };
            ids.extend((0..=more).map(|k| (ip, first.plus(k))));
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> RecordId {
        RecordId { time_ns: n, incarnation: 1 }
    }

    fn node(n: u8) -> IpAddr {
        [10, 0, 1, n].into()
    }

    /// Two messages on two nodes, as it should be.
    fn good() -> Evidence {
        let mut evidence = Evidence { ordered: true, copies_min: 2, ..Evidence::default() };
        for seq in 1..3_u64 {
            let payload = format!("m{seq}").into_bytes();
            let payload = if seq == 2 { b"mensaje: m2 2 @w1/0 x".to_vec() } else { payload };
            let number = (ClientId(7), seq);
            evidence.sent.insert(payload.clone());
            for n in 1..3 {
                let (source, payload) = (source_in(&payload), payload.clone());
                evidence.stored.push(Stored { node: node(n), id: id(seq), number, entry: None, source, payload });
            }
            let nodes = vec![node(1), node(2)];
            evidence.acks.push(Ack { payload, number: Some(number), id: Some(id(seq)), nodes, sync: SyncMode::Always });
        }
        let line = format!("2026-01-01T00:00:00Z recibido en dataNode 10.0.1.1 data1 {}..+1\n", id(1));
        evidence.registro = registro_ids(&(line.replace(".1 data1", ".2 data2") + &line));
        evidence
    }

    #[test]
    fn what_is_as_promised_is_no_problem() {
        assert_eq!(good().judge(), Vec::<String>::new());
        let mut retried = good();
        retried.ordered = false;
        retried.stored.push(Stored { id: id(9), ..retried.stored[0].clone() });
        // A node that wrote it, lost its connection and was given it again.
        retried.stored.push(retried.stored[0].clone());
        assert_eq!(retried.judge(), Vec::<String>::new(), "a retry under the same number is one message");
    }

    #[test]
    fn every_kind_of_problem_is_found() {
        type Spoil = fn(&mut Evidence);
        let cases: [(&str, Spoil); 11] = [
            ("acknowledged and lost", |e| drop(e.stored.remove(1))),
            ("acknowledged and lost", |e| {
                e.left.extend([node(1), node(2)]);
                e.stored.retain(|record| record.payload != b"m1");
            }),
            ("acknowledged and lost", |e| e.stored[0].id = id(77)),
            ("stored and never sent", |e| e.sent.clear()),
            ("one id for two messages", |e| e.stored[3].id = id(1)),
            ("read twice", |e| e.stored[0].number.1 = 9),
            ("acknowledged with too few copies", |e| e.acks[0].nodes.truncate(1)),
            ("not in a registro", |e| e.registro.clear()),
            ("of another source", |e| e.stored[0].source = "w1/0".parse().ok()),
            ("of another source", |e| e.stored[3].source = None),
            ("out of order", |e| e.stored.iter_mut().for_each(|record| record.id = id(9 - record.id.time_ns))),
        ];
        for (kind, spoil) in cases {
            let mut evidence = good();
            spoil(&mut evidence);
            assert!(evidence.judge().iter().any(|problem| problem.starts_with(kind)), "{kind}");
        }
    }
}
