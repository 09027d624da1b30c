//! The checker: what was sent and acknowledged against what is read.
//!
//! Pure, and blind to where the reading comes from: whoever reads hands in one record after the other, in the order in
//! which a reader gets them; sending may go on meanwhile. Each message says in its text who sent it and which of its messages it is, so a message is
//! known whatever ids it got on its way. A byte a message is kept.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use crate::limits;
use crate::wire::id::{ClientId, RecordId};
use crate::wire::source::SourceName;
use crate::wire::text::MENSAJE_PREFIX;

/// Which message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(crate) struct Message {
    /// The client, from 0.
    pub(crate) writer: usize,
    /// Its messages count from 1.
    pub(crate) n: u64,
}

impl Message {
    /// Reads a payload; `true` beside it if it is stored as text clients' are. None for what no client of this run sends.
    #[must_use]
    pub(crate) fn parse(payload: &[u8]) -> Option<(Self, bool)> {
        let stripped = payload.strip_prefix(MENSAJE_PREFIX.as_bytes());
        let text = std::str::from_utf8(stripped.unwrap_or(payload)).ok()?;
        let (writer, n) = text.strip_prefix("torture ")?.split_once(' ')?;
        let message = Self { writer: writer.parse().ok()?, n: n.parse().ok()? };
        // `+1` and `01` are numbers, and no client writes them.
        (message.to_string() == text).then_some((message, stripped.is_some()))
    }
}

impl Message {
    /// The source that its client says it is of: every other one has a name.
    #[must_use]
    pub(crate) fn source(self) -> Option<SourceName> {
        (self.writer % 2 == 1).then(|| format!("torture/{}", self.writer).parse().ok()).flatten()
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "torture {} {}", self.writer, self.n)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No answer: it may be kept or not.
    Sent,
    Acked,
    /// Refused: it may be kept or not, too.
    Refused,
}

/// A client of the run, and what became of its messages.
#[derive(Debug)]
struct Writer {
    /// The identity of a client of the library; a text client gets one for each connection.
    client: Option<ClientId>,
    states: Vec<State>,
}

/// What was sent, and what became of it.
#[derive(Debug)]
pub(crate) struct Expected {
    writers: Vec<Writer>,
}

/// Messages by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    /// All of them.
    pub(crate) sent: u64,
    /// Acknowledged: these have to be read.
    pub(crate) acknowledged: u64,
    /// Refused; a few of these may be kept all the same.
    pub(crate) refused: u64,
    /// Without an answer when a connection was lost: kept or not.
    pub(crate) unknown: u64,
}

impl Expected {
    /// Nothing sent yet. A writer for each: the identity of a client of the library, none for a text client.
    #[must_use]
    pub(crate) fn new(clients: &[Option<ClientId>]) -> Self {
        Self { writers: clients.iter().map(|&client| Writer { client, states: Vec::new() }).collect() }
    }

    /// The next message of a writer.
    #[must_use]
    pub(crate) fn next(&self, writer: usize) -> Message {
        Message { writer, n: self.writers.get(writer).map_or(0, |w| w.states.len() as u64) + 1 }
    }

    /// The next message is sent.
    pub(crate) fn sent(&mut self, writer: usize) -> Message {
        let message = self.next(writer);
        if let Some(writer) = self.writers.get_mut(writer) {
            writer.states.push(State::Sent);
        }
        message
    }

    /// A message is acknowledged; false if it was never sent.
    pub(crate) fn acked(&mut self, message: Message) -> bool {
        self.set(message, State::Acked)
    }

    /// A message is refused; false if it was never sent.
    pub(crate) fn refused(&mut self, message: Message) -> bool {
        self.set(message, State::Refused)
    }

    fn set(&mut self, message: Message, state: State) -> bool {
        match self.place(message).and_then(|place| self.writers.get_mut(message.writer)?.states.get_mut(place)) {
            Some(entry) => {
                *entry = state;
                true
            }
            None => false,
        }
    }

    fn state(&self, message: Message) -> Option<State> {
        self.writers.get(message.writer)?.states.get(self.place(message)?).copied()
    }

    fn place(&self, message: Message) -> Option<usize> {
        usize::try_from(message.n.checked_sub(1)?).ok()
    }

    /// How many there are of each.
    #[must_use]
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for state in self.writers.iter().flat_map(|writer| &writer.states) {
            counts.sent += 1;
            match state {
                State::Sent => counts.unknown += 1,
                State::Acked => counts.acknowledged += 1,
                State::Refused => counts.refused += 1,
            }
        }
        counts
    }

    /// Whether a message was acknowledged.
    #[must_use]
    pub(crate) fn is_acked(&self, message: Message) -> bool {
        self.state(message) == Some(State::Acked)
    }
}

/// A record as a reader gets it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read {
    /// Its id.
    pub(crate) id: RecordId,
    /// Its client, as the record says.
    pub(crate) client: ClientId,
    /// Its sequence number.
    pub(crate) seq: u64,
    /// The source that it says.
    pub(crate) source: Option<SourceName>,
    /// What [`Message::parse`] makes of its payload.
    pub(crate) message: Option<(Message, bool)>,
}

/// Whether the order of what is read is a promise of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// A reader of the cluster: a client's messages come in the order of their numbers.
    Judged,
    /// Files: a message that was sent again may have a later id than the one after it, which a reader puts right.
    NotJudged,
}

/// A promise that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Breach {
    /// Acknowledged, and not read.
    Lost,
    /// Read a second time.
    ReadTwice,
    /// Read, but never sent, or not as it was sent.
    NeverSent,
    /// Read after a later one of its client.
    OutOfOrder,
}

/// A broken promise, and of which message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Which promise.
    pub(crate) breach: Breach,
    /// The message, if it is one.
    pub(crate) message: Option<Message>,
    /// It, in words.
    pub(crate) text: String,
}

/// What the checker found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    /// Records read.
    pub(crate) read: u64,
    /// Acknowledged messages that were not read.
    pub(crate) lost: u64,
    /// Messages that were read again.
    pub(crate) read_twice: u64,
    /// Records that nobody sent.
    pub(crate) never_sent: u64,
    /// Messages read after a later one of their client; none if the source does not promise an order.
    pub(crate) out_of_order: Option<u64>,
    /// The first of them, [`limits::TORTURE_FINDINGS_SHOWN_MAX`] at most.
    pub(crate) findings: Vec<Finding>,
}

impl Verdict {
    /// Whether every promise was kept.
    #[must_use]
    pub(crate) fn is_good(&self) -> bool {
        self.lost + self.read_twice + self.never_sent + self.out_of_order.unwrap_or(0) == 0
    }

    fn add(&mut self, breach: Breach, message: Option<Message>, text: String) {
        match breach {
            Breach::Lost => self.lost += 1,
            Breach::ReadTwice => self.read_twice += 1,
            Breach::NeverSent => self.never_sent += 1,
            Breach::OutOfOrder => self.out_of_order = Some(self.out_of_order.unwrap_or(0) + 1),
        }
        if self.findings.len() < limits::TORTURE_FINDINGS_SHOWN_MAX {
            self.findings.push(Finding { breach, message, text });
        }
    }
}

/// Takes what is read, record after record.
#[derive(Debug)]
pub(crate) struct Checker {
    order: Order,
    /// For each writer, its messages; as long as the last of them that was read.
    seen: Vec<Vec<bool>>,
    /// The last sequence number and message of each identity: text clients have one for each of their connections.
    last: HashMap<ClientId, (u64, u64)>,
    verdict: Verdict,
}

impl Checker {
    /// Nothing read yet.
    #[must_use]
    pub(crate) fn new(order: Order) -> Self {
        let out_of_order = (order == Order::Judged).then_some(0);
        let verdict = Verdict { out_of_order, ..Verdict::default() };
        Self { order, seen: Vec::new(), last: HashMap::new(), verdict }
    }

    /// The next record that a reader gets; `expected` knows all that was sent before.
    pub(crate) fn read(&mut self, expected: &Expected, read: &Read) {
        self.verdict.read += 1;
        let (client, seq) = (read.client, read.seq);
        let place = format!("record {}, number {seq} of client {client}", read.id);
        let Some((message, text)) = read.message else {
            self.verdict.add(Breach::NeverSent, None, format!("{place}: no client of this run sends such a message"));
            return;
        };
        let wrong = match expected.writers.get(message.writer) {
            _ if expected.state(message).is_none() => Some("it was never sent"),
            Some(Writer { client: Some(own), .. }) if (*own, message.n, false) != (client, seq, text) => {
                Some("it was sent under another client or number")
            }
            Some(_) if read.source != message.source() => Some("it was sent as of another source"),
            Some(Writer { client: None, .. }) if !text => Some("it was sent as text, with mensaje: in front"),
            _ => None,
        };
        if let Some(wrong) = wrong {
            self.verdict.add(Breach::NeverSent, Some(message), format!("{place}: {message}: {wrong}"));
            return;
        }
        if self.note(expected, message) {
            self.verdict.add(Breach::ReadTwice, Some(message), format!("{place}: {message} was read before"));
            return;
        }
        if self.order == Order::Judged {
            let (last_seq, last_n) = self.last.get(&client).copied().unwrap_or_default();
            if seq <= last_seq || message.n <= last_n {
                let text =
                    format!("{place}: {message} comes after number {last_seq}, torture {} {last_n}", message.writer);
                self.verdict.add(Breach::OutOfOrder, Some(message), text);
            }
            self.last.insert(client, (seq.max(last_seq), message.n.max(last_n)));
        }
    }

    /// Notes that a message was read, which was sent; whether it was read before.
    fn note(&mut self, expected: &Expected, message: Message) -> bool {
        let Some(place) = expected.place(message) else { return false };
        // Of what was sent, so never more than that.
        if self.seen.len() <= message.writer {
            self.seen.resize_with(message.writer + 1, Vec::new);
        }
        let Some(seen) = self.seen.get_mut(message.writer) else { return false };
        if seen.len() <= place {
            seen.resize(place + 1, false);
        }
        seen.get_mut(place).is_some_and(|seen| std::mem::replace(seen, true))
    }

    /// What was acknowledged so far and not read.
    fn unread<'a>(&'a self, expected: &'a Expected) -> impl Iterator<Item = Message> + 'a {
        expected.writers.iter().enumerate().flat_map(|(at, writer)| {
            let seen = self.seen.get(at).map(Vec::as_slice).unwrap_or_default();
            let acked = (1..).zip(&writer.states).zip(seen.iter().copied().chain(std::iter::repeat(false)));
            let unread = acked.filter(|((_, state), seen)| **state == State::Acked && !seen);
            unread.map(move |((n, _), _)| Message { writer: at, n })
        })
    }

    /// Whether everything that was acknowledged so far was read.
    #[must_use]
    pub(crate) fn has_all(&self, expected: &Expected) -> bool {
        self.unread(expected).next().is_none()
    }

    /// All is read: what is missing now is lost.
    #[must_use]
    pub(crate) fn finish(self, expected: &Expected) -> Verdict {
        let mut verdict = self.verdict.clone();
        for message in self.unread(expected) {
            verdict.add(Breach::Lost, Some(message), format!("{message} was acknowledged and is not there"));
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIBRARY: ClientId = ClientId(11);
    const CONNECTION: ClientId = ClientId(99);

    /// A client of the library with five messages and a text client with three; all but the last of each acknowledged.
    fn expected() -> Expected {
        let mut expected = Expected::new(&[Some(LIBRARY), None]);
        for (writer, messages) in [(0, 5), (1, 3)] {
            for k in 1..=messages {
                let message = expected.sent(writer);
                assert!(k == messages || expected.acked(message));
            }
        }
        expected
    }

    fn read(writer: usize, n: u64) -> Read {
        let client = if writer == 0 { LIBRARY } else { CONNECTION };
        let id = RecordId { time_ns: 1_000 + n, incarnation: 7 };
        let message = Message { writer, n };
        Read { id, client, seq: n, source: message.source(), message: Some((message, writer == 1)) }
    }

    fn all() -> Vec<Read> {
        (1..=5).map(|n| read(0, n)).chain((1..=3).map(|n| read(1, n))).collect()
    }

    fn check(reads: &[Read], order: Order) -> Verdict {
        let expected = expected();
        let mut checker = Checker::new(order);
        reads.iter().for_each(|read| checker.read(&expected, read));
        checker.finish(&expected)
    }

    fn breaches(verdict: &Verdict) -> Vec<(Breach, Option<Message>)> {
        verdict.findings.iter().map(|finding| (finding.breach, finding.message)).collect()
    }

    #[test]
    fn all_that_was_sent_is_good_with_and_without_what_is_unknown() {
        assert!(check(&all(), Order::Judged).is_good());
        let mut reads = all();
        reads.retain(|read| {
            !matches!(read.message, Some((Message { writer: 0, n: 5 } | Message { writer: 1, n: 3 }, _)))
        });
        assert_eq!(reads.len(), 6);
        assert!(check(&reads, Order::Judged).is_good());
    }

    #[test]
    fn what_is_acknowledged_and_not_read_is_lost() {
        let mut reads = all();
        reads.remove(1);
        let verdict = check(&reads, Order::Judged);
        assert!(!verdict.is_good());
        assert_eq!(breaches(&verdict), [(Breach::Lost, Some(Message { writer: 0, n: 2 }))]);
        assert_eq!(check(&[], Order::Judged).lost, 6);
    }

    #[test]
    fn a_second_reading_is_found_under_any_id_and_number() {
        let mut reads = all();
        reads.push(Read { seq: 7, client: ClientId(5), ..read(1, 2) });
        let verdict = check(&reads, Order::NotJudged);
        assert_eq!(breaches(&verdict), [(Breach::ReadTwice, Some(Message { writer: 1, n: 2 }))]);
        assert_eq!((verdict.lost, verdict.read), (0, 9));
    }

    #[test]
    fn what_nobody_sent_so_is_found() {
        let wrong = [
            Read { message: None, ..read(0, 1) },
            read(0, 6),
            read(0, 0),
            Read { message: Some((Message { writer: 2, n: 1 }, false)), ..read(0, 1) },
            Read { seq: 5, ..read(0, 1) },
            Read { source: "torture/0".parse().ok(), ..read(0, 1) },
            Read { source: None, ..read(1, 1) },
            Read { client: CONNECTION, ..read(0, 1) },
            Read { message: Some((Message { writer: 1, n: 1 }, false)), ..read(1, 1) },
        ];
        for read in wrong {
            let mut reads = all();
            reads.push(read);
            let verdict = check(&reads, Order::NotJudged);
            assert_eq!((verdict.never_sent, verdict.findings.len()), (1, 1), "{read:?}");
        }
    }

    #[test]
    fn order_is_judged_within_a_client_where_it_is_promised() {
        let mut reads = all();
        reads.swap(1, 2);
        let verdict = check(&reads, Order::Judged);
        assert_eq!(breaches(&verdict), [(Breach::OutOfOrder, Some(Message { writer: 0, n: 2 }))]);
        let verdict = check(&reads, Order::NotJudged);
        assert!(verdict.is_good() && verdict.out_of_order.is_none());
        // Two clients may be interleaved in any way.
        let mut reads = all();
        reads.rotate_left(5);
        reads.swap(0, 4);
        reads.swap(1, 4);
        reads.sort_by_key(|read| read.seq);
        assert!(check(&reads, Order::Judged).is_good());
    }

    #[test]
    fn lines_that_changed_places_on_their_way_are_out_of_order() {
        let mut reads = all();
        (reads[5].seq, reads[6].seq) = (2, 1);
        reads.swap(5, 6);
        assert_eq!(check(&reads, Order::Judged).out_of_order, Some(1));
    }

    #[test]
    fn a_follower_reads_while_more_is_sent() {
        let mut expected = Expected::new(&[Some(LIBRARY), None]);
        let mut checker = Checker::new(Order::Judged);
        for k in 1..=100 {
            for writer in [0, 1] {
                let message = expected.sent(writer);
                checker.read(&expected, &read(writer, k));
                assert!(expected.acked(message) && checker.has_all(&expected), "read before it is acknowledged");
            }
        }
        let late = expected.sent(1);
        assert!(checker.has_all(&expected), "no answer yet");
        assert!(expected.acked(late) && !checker.has_all(&expected));
        // The future is not read: nothing is noted of what was not sent.
        checker.read(&expected, &read(0, 1 << 50));
        let verdict = checker.finish(&expected);
        let wanted = [(Breach::NeverSent, Some(Message { writer: 0, n: 1 << 50 })), (Breach::Lost, Some(late))];
        assert_eq!(breaches(&verdict), wanted);
    }

    #[test]
    fn a_follower_that_begins_again_or_leaves_something_out_is_found() {
        let mut expected = Expected::new(&[Some(LIBRARY), None]);
        let mut checker = Checker::new(Order::Judged);
        for k in 1..=9 {
            let message = expected.sent(0);
            assert!(expected.acked(message));
            if k != 4 {
                checker.read(&expected, &read(0, k));
            }
            if k == 6 {
                checker.read(&expected, &read(0, 5));
            }
        }
        let n = |n| Some(Message { writer: 0, n });
        assert_eq!(breaches(&checker.finish(&expected)), [(Breach::ReadTwice, n(5)), (Breach::Lost, n(4))]);
    }

    #[test]
    fn what_a_follower_gets_after_its_successor_is_out_of_order_however_late() {
        let mut expected = Expected::new(&[Some(LIBRARY), None]);
        let mut checker = Checker::new(Order::Judged);
        for k in 1..=1_000 {
            let message = expected.sent(0);
            assert!(expected.acked(message));
            if k != 7 {
                checker.read(&expected, &read(0, k));
            }
        }
        checker.read(&expected, &read(0, 7));
        let verdict = checker.finish(&expected);
        assert_eq!(breaches(&verdict), [(Breach::OutOfOrder, Some(Message { writer: 0, n: 7 }))]);
    }

    #[test]
    fn payloads_are_read_back_and_nothing_else() {
        let message = Message { writer: 3, n: 17 };
        assert_eq!(Message::parse(message.to_string().as_bytes()), Some((message, false)));
        assert_eq!(Message::parse(format!("mensaje: {message}").as_bytes()), Some((message, true)));
        for text in ["torture 3", "torture 3 017", "torture +3 17", "torture 3 17 ", "tortura 3 17", "", "torture 3 -1"]
        {
            assert_eq!(Message::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn messages_are_counted_by_what_became_of_them() {
        let mut expected = expected();
        assert!(expected.refused(Message { writer: 1, n: 3 }));
        assert!(!expected.acked(Message { writer: 1, n: 4 }) && !expected.acked(Message { writer: 2, n: 1 }));
        assert_eq!(expected.counts(), Counts { sent: 8, acknowledged: 6, refused: 1, unknown: 1 });
    }
}
