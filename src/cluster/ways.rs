//! The way of each message that the clients of `up` send: the number, the head that took it, the data nodes that keep it, and
//! its line in the registro. It is put together from what clients, data nodes and heads write anyway.
//!
//! Pure: lines come in, and the clock is handed in. Registros are read before data files, so a line of a registro is known
//! only after its record: who feeds this hands in the records first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::limits;
use crate::wire::id::{ClientId, RecordId};
use crate::wire::record;
use crate::wire::registro::{self, Said};
use crate::wire::text::{MENSAJE_PREFIX, RECIBIDO};

/// What the numbers of the clients begin with.
const NUMBER: &str = "numero random: ";

/// A line of a head's registro about a message.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Noted {
    head: String,
    line: u64,
}

/// One message.
#[derive(Clone, Debug)]
struct Way {
    /// Counts all messages of all clients, from 1.
    number: u64,
    client: String,
    text: String,
    sent: SystemTime,
    answered: Option<SystemTime>,
    /// Data nodes that its answer names.
    copies: usize,
    id: Option<RecordId>,
    nodes: Vec<String>,
    noted: Vec<Noted>,
    /// It is refused, or told of as a whole.
    is_over: bool,
    is_refused: bool,
    /// It was told that there is no answer yet.
    is_late: bool,
}

impl Way {
    fn is_open(&self) -> bool {
        self.answered.is_none() && !self.is_over
    }

    fn took(&self) -> Option<Duration> {
        self.answered?.duration_since(self.sent).ok()
    }

    /// The number alone, where it is one of the original's.
    fn shown(&self) -> &str {
        self.text.strip_prefix(NUMBER).unwrap_or(&self.text)
    }
}

/// What came of the messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Sent.
    pub(crate) sent: u64,
    /// Their clients were told that they are kept.
    pub(crate) acknowledged: u64,
    /// Their clients were told that they are not known to be kept.
    pub(crate) refused: u64,
    /// Without an answer.
    pub(crate) in_flight: u64,
}

/// A line to show for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// The client.
    pub(crate) client: String,
    /// What is said of it.
    pub(crate) text: String,
}

/// The messages of all clients, the last [`limits::UP_WAYS_MAX`] of them one by one.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    clients: BTreeMap<ClientId, String>,
    ways: VecDeque<Way>,
    /// Ids of records that are of these clients, the last ones.
    own: BTreeSet<RecordId>,
    /// Ids of messages that were acknowledged, the last ones.
    acknowledged: BTreeSet<RecordId>,
    counts: Counts,
}

impl Ways {
    /// Takes a line of a client; whether what it says is told by its way.
    pub(crate) fn client_said(&mut self, client: &str, line: &str) -> bool {
        let Some((time, said)) = line.split_once(' ') else { return false };
        let Ok(time) = humantime::parse_rfc3339(time) else { return false };
        if let Some(text) = said.strip_prefix("envia: ") {
            self.sends(client, text, time);
            return true;
        }
        if let Some(ips) = said.strip_prefix("Servidor recibio: ").and_then(|rest| rest.strip_suffix(RECIBIDO)) {
            self.counts.acknowledged += 1;
            let copies = ips.split(" , ").next().unwrap_or_default().split(',').count();
            if let Some(way) = self.open_way(client) {
                (way.answered, way.copies) = (Some(time), copies);
            }
            return true;
        }
        if let Some(id) = said.strip_prefix("cliente ").and_then(|id| ClientId::from_text(id.as_bytes())) {
            // A client that was started again: nobody hears any more what became of what it had sent before.
            self.clients.retain(|_, name| name != client);
            self.clients.insert(id, client.to_owned());
            while let Some(way) = self.open_way(client) {
                way.is_over = true;
            }
            return true;
        }
        if said.contains("\" was not kept: ")
            && let Some(way) = self.open_way(client)
        {
            (way.is_over, way.is_refused) = (true, true);
            self.counts.refused += 1;
        }
        false
    }

    fn sends(&mut self, client: &str, text: &str, sent: SystemTime) {
        self.counts.sent += 1;
        let way = Way {
            number: self.counts.sent,
            client: client.to_owned(),
            text: text.to_owned(),
            sent,
            answered: None,
            copies: 1,
            id: None,
            nodes: Vec::new(),
            noted: Vec::new(),
            is_over: false,
            is_refused: false,
            is_late: false,
        };
        self.ways.push_back(way);
        while self.ways.len() > limits::UP_WAYS_MAX {
            self.ways.pop_front();
        }
    }

    /// The message of a client that is not answered: it sends one after the other.
    fn open_way(&mut self, client: &str) -> Option<&mut Way> {
        self.ways.iter_mut().rev().find(|way| way.client == client && way.is_open())
    }

    /// Takes a line of a data node's records; whether it is told by a way.
    pub(crate) fn kept(&mut self, node: &str, line: &str) -> bool {
        let Ok(record) = record::decode(line.as_bytes()) else { return false };
        let Some(client) = self.clients.get(&record.client) else { return false };
        self.own.insert(record.id);
        while self.own.len() > limits::UP_WAYS_MAX {
            self.own.pop_first();
        }
        let text = record.text.strip_prefix(MENSAJE_PREFIX).unwrap_or(record.text);
        let is_it = |way: &&mut Way| {
            way.client == *client && way.text == text && !way.is_over && way.id.is_none_or(|id| id == record.id)
        };
        if let Some(way) = self.ways.iter_mut().find(is_it) {
            way.id = Some(record.id);
            if !way.nodes.iter().any(|other| other == node) {
                way.nodes.push(node.to_owned());
            }
        }
        true
    }

    /// Takes a line of a head's registro, with its number there; whether it is told by ways alone.
    pub(crate) fn noted(&mut self, head: &str, number: u64, line: &str) -> bool {
        let Said::Kept(kept) = registro::read(line.as_bytes()) else { return false };
        let mut others = 0_u64;
        for (first, count) in kept.ranges() {
            let range = first..first.plus(u64::from(count));
            let own = self.own.range(range).filter(|id| id.incarnation == first.incarnation).copied();
            let own: Vec<RecordId> = own.collect();
            others += u64::from(count).saturating_sub(own.len() as u64);
            for way in self.ways.iter_mut().filter(|way| way.id.is_some_and(|id| own.contains(&id))) {
                way.noted.push(Noted { head: head.to_owned(), line: number });
                if !way.nodes.iter().any(|node| node == kept.node) {
                    way.nodes.push(kept.node.to_owned());
                }
            }
        }
        others == 0
    }

    /// What is to be told now: ways that came to their end, and messages that wait for too long.
    pub(crate) fn told(&mut self, now: SystemTime) -> Vec<Told> {
        let mut told = Vec::new();
        for way in self.ways.iter_mut().filter(|way| !way.is_over) {
            let waits = now.duration_since(way.sent).unwrap_or_default();
            let client = way.client.clone();
            if way.answered.is_some() && way.noted.len() >= way.copies {
                way.is_over = true;
                self.acknowledged.extend(way.id);
                told.push(Told { client, text: line(way) });
            } else if way.is_open() && !way.is_late && waits >= limits::UP_LATE_AFTER {
                way.is_late = true;
                let text = format!("{}: no answer for {} s, 1 in flight", way.shown(), waits.as_secs());
                told.push(Told { client, text });
            }
        }
        while self.acknowledged.len() > limits::UP_JUDGED_MAX {
            self.acknowledged.pop_first();
        }
        told
    }

    /// What came of the messages.
    pub(crate) fn counts(&self) -> Counts {
        let in_flight = self.ways.iter().filter(|way| way.is_open()).count() as u64;
        Counts { in_flight, ..self.counts }
    }

    /// The ids of messages that were acknowledged, the last [`limits::UP_JUDGED_MAX`].
    pub(crate) fn acknowledged(&self) -> &BTreeSet<RecordId> {
        &self.acknowledged
    }

    /// The last messages, for the page: the oldest first.
    pub(crate) fn json(&self) -> Value {
        let from = self.ways.len().saturating_sub(limits::UP_WAYS_SHOWN);
        let ways = self.ways.iter().skip(from).map(|way| {
            let stage = match way {
                Way { is_refused: true, .. } => "refused",
                Way { answered: Some(_), .. } => "answered",
                Way { id: Some(_), .. } => "kept",
                _ => "sent",
            };
            json!({
                "number": way.number, "client": way.client, "text": way.shown(), "stage": stage, "nodes": way.nodes,
                "head": way.noted.first().map(|noted| noted.head.as_str()), "line": way.noted.first().map(|noted| noted.line),
                "id": way.id.map(|id| id.to_string()), "took_ms": way.took().map(|took| took.as_secs_f64() * 1e3),
            })
        });
        ways.collect::<Vec<_>>().into()
    }

    /// What a client sent and what of it is not answered, and for how long that has been waiting.
    pub(crate) fn client_json(&self, client: &str, now: SystemTime) -> Value {
        let open: Vec<&Way> = self.ways.iter().filter(|way| way.client == client && way.is_open()).collect();
        let waits = open.iter().filter_map(|way| now.duration_since(way.sent).ok()).max();
        json!({ "in_flight": open.len(), "waits_s": waits.map(|waits| waits.as_secs()) })
    }
}

/// `54 -> head -> data2 -> registro.log:7 3 ms 1795870509DVk8ivy_c9`.
fn line(way: &Way) -> String {
    let head = way.noted.first().map_or("?", |noted| noted.head.as_str());
    let lines: Vec<String> = way.noted.iter().map(|noted| noted.line.to_string()).collect();
    let took = way.took().map_or_else(|| "?".to_owned(), |took| format!("{} ms", took.as_millis()));
    let id = way.id.map(|id| id.to_string()).unwrap_or_default();
    let sent = humantime::format_rfc3339_seconds(way.sent).to_string();
    let time = sent.get(11..19).unwrap_or_default();
    let (nodes, lines) = (way.nodes.join(","), lines.join(","));
    format!("{time} {:>3} -> {head} -> {nodes} -> registro.log:{lines} {took:>6} {id}", way.shown())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::record::{Fields, encode};

    const CLIENT: ClientId = ClientId(7);

    fn at(ms: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_870_509_000 + ms)
    }

    fn said(ms: u64, text: &str) -> String {
        format!("{} {text}", humantime::format_rfc3339_micros(at(ms)))
    }

    fn id(n: u64) -> RecordId {
        RecordId { time_ns: 1_795_870_509_000_000_000 + n, incarnation: 1 }
    }

    fn record(client: ClientId, n: u64, text: &str) -> String {
        let mut out = Vec::new();
        let fields = Fields { id: id(n), client, seq: n, place: None, source: None };
        encode(&mut out, fields, format!("mensaje: {text}").as_bytes()).unwrap();
        String::from_utf8(out).unwrap().trim_end().to_owned()
    }

    fn registro(node: &str, ids: &str) -> String {
        format!("2026-11-28T12:55:09.000000Z recibido en dataNode 127.0.0.3 {node} {ids}")
    }

    fn begun() -> Ways {
        let mut ways = Ways::default();
        assert!(ways.client_said("client1", &said(0, &format!("cliente {CLIENT}"))));
        assert!(ways.client_said("client1", &said(0, "envia: numero random: 54")));
        ways
    }

    #[test]
    fn a_way_is_told_in_one_line_once_all_of_it_is_known() {
        let mut ways = begun();
        assert!(ways.kept("data2", &record(CLIENT, 5, "numero random: 54")));
        assert!(ways.client_said("client1", &said(3, "Servidor recibio: 127.0.0.3 , mensaje: recibido")));
        assert_eq!(ways.told(at(3)), []);
        assert!(ways.noted("head", 7, &registro("data2", &id(5).to_string())));
        let told = ways.told(at(4));
        let text = format!("12:55:09  54 -> head -> data2 -> registro.log:7   3 ms {}", id(5));
        assert_eq!(told, [Told { client: "client1".to_owned(), text }]);
        assert_eq!(ways.told(at(4)), [], "once");
        assert_eq!(ways.counts(), Counts { sent: 1, acknowledged: 1, refused: 0, in_flight: 0 });
        assert!(ways.acknowledged().contains(&id(5)));
        assert_eq!(ways.json()[0]["stage"], "answered");
    }

    #[test]
    fn with_two_copies_both_nodes_and_both_lines_are_told() {
        let mut ways = begun();
        for node in ["data1", "data3"] {
            assert!(ways.kept(node, &record(CLIENT, 5, "numero random: 54")));
        }
        ways.client_said("client1", &said(9, "Servidor recibio: 127.0.0.2,127.0.0.4 , mensaje: recibido"));
        ways.noted("head2", 7, &registro("data3", &id(5).to_string()));
        assert_eq!(ways.told(at(9)), [], "the other line is to come");
        ways.noted("head2", 8, &registro("data1", &id(5).to_string()));
        let told = ways.told(at(9));
        assert!(told[0].text.contains(" -> head2 -> data1,data3 -> registro.log:7,8 "), "{told:?}");
    }

    #[test]
    fn what_others_send_is_not_hidden() {
        let mut ways = begun();
        assert!(!ways.kept("data2", &record(ClientId(8), 4, "numero random: 54")));
        assert!(!ways.noted("head", 7, &registro("data2", &id(4).to_string())));
        assert!(ways.kept("data2", &record(CLIENT, 5, "numero random: 54")));
        let both = format!("{}..+1", id(4));
        assert!(!ways.noted("head", 8, &registro("data2", &both)), "one of them is somebody else's");
        assert!(!ways.noted("head", 9, "2026-11-28T12:55:09.000000Z nothing of this kind"));
        assert!(!ways.client_said("client1", "acopio: something is wrong"));
        assert!(!ways.client_said("client1", &said(1, "stopped with 1 messages kept")));
    }

    #[test]
    fn who_waits_is_told_of_once_and_who_is_refused_is_counted() {
        let mut ways = begun();
        assert_eq!(ways.told(at(2900)), []);
        let told = ways.told(at(3100));
        assert_eq!(told[0].text, "54: no answer for 3 s, 1 in flight");
        assert_eq!(ways.told(at(9000)), []);
        assert_eq!(ways.client_json("client1", at(9000)), json!({ "in_flight": 1, "waits_s": 9 }));
        assert!(!ways.client_said("client1", &said(9100, "WARN \"numero random: 54\" was not kept: no head")));
        assert_eq!(ways.counts(), Counts { sent: 1, acknowledged: 0, refused: 1, in_flight: 0 });
        ways.client_said("client1", &said(9200, "envia: numero random: 3"));
        ways.client_said("client1", &said(9300, &format!("cliente {}", ClientId(9))));
        assert_eq!(ways.counts().in_flight, 0, "it was started again");
    }

    #[test]
    fn memory_is_bounded() {
        let mut ways = begun();
        for n in 0..3 * limits::UP_WAYS_MAX as u64 {
            ways.client_said("client1", &said(n, "envia: numero random: 1"));
            ways.kept("data1", &record(CLIENT, n, "numero random: 1"));
        }
        assert_eq!((ways.ways.len(), ways.own.len()), (limits::UP_WAYS_MAX, limits::UP_WAYS_MAX));
    }
}
