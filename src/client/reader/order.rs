//! Second copies and order: what a client's retries disturbed is mended here.
//!
//! A message that was sent again may be kept twice, under two ids, and later messages of its client may have lower ids. Records come in in the
//! order of ids; they go out once for each client, sequence number and payload, and in the order of sequence numbers as far as
//! [`limits::READER_HOLD_TIME`] of id time and the bounds of memory allow. No record is ever lost to a bound: past one,
//! what is held goes out early, or a second copy passes. What has another payload than the message that had its number
//! before is no copy: it goes out, and says so. Pure: the only time is that of the ids.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::message::Message;
use super::seen::{Noted, Seen};
use crate::limits;
use crate::wire::id::{ClientId, RecordId};

const HOLD_NS: u64 = limits::READER_HOLD_TIME.as_nanos() as u64;

/// Where a read has to begin for [`Order`] to know at `from` what went before.
#[must_use]
pub(super) const fn warm_up(from: RecordId) -> RecordId {
    RecordId { time_ns: from.time_ns.saturating_sub(HOLD_NS), incarnation: 0 }
}

/// What is known of one client.
#[derive(Debug)]
struct Client {
    seen: Seen,
    /// The number whose turn it is. Clients count from 1; one that is met in the middle waits for what was before, which
    /// the warm-up pays for.
    turn: u64,
    /// Records that wait for their turn, by number.
    held: BTreeMap<u64, Message>,
    /// When it last had a record, counted in records.
    used: u64,
}

impl Default for Client {
    fn default() -> Self {
        Self { seen: Seen::default(), turn: 1, held: BTreeMap::new(), used: 0 }
    }
}

/// The stage between what heads send and what is delivered.
#[derive(Debug)]
pub(super) struct Order {
    /// Records below it only tell what was before.
    from: RecordId,
    clients: HashMap<ClientId, Client>,
    /// Everything that is held, the oldest first.
    oldest: BTreeSet<(RecordId, ClientId, u64)>,
    held_bytes: usize,
    held_bytes_max: usize,
    ranges: usize,
    /// Payloads that are remembered by their checksums.
    payloads: usize,
    records: u64,
    /// Second copies go out, too, and everything in the order of ids.
    as_kept: bool,
    out: VecDeque<Message>,
}

impl Order {
    /// A stage that delivers records from `from` on; it wants those from [`warm_up`] on.
    #[must_use]
    pub(super) fn new(from: RecordId) -> Self {
        Self {
            from,
            clients: HashMap::new(),
            oldest: BTreeSet::new(),
            held_bytes: 0,
            held_bytes_max: limits::READER_HELD_BYTES_MAX,
            ranges: 0,
            payloads: 0,
            records: 0,
            as_kept: false,
            out: VecDeque::new(),
        }
    }

    /// From now on it leaves out nothing and changes no order.
    #[cfg(feature = "server")]
    pub(super) const fn deliver_as_kept(&mut self) {
        self.as_kept = true;
    }

    /// The next message to deliver. Taken until there is none before the next push, only what was held makes a queue.
    pub(super) fn pop(&mut self) -> Option<Message> {
        self.out.pop_front()
    }

    /// A record comes in.
    pub(super) fn push(&mut self, mut message: Message) {
        if self.as_kept || !message.client.may_retry() {
            return self.deliver(message);
        }
        self.records += 1;
        let (id, seq) = (message.client, message.seq);
        let client = self.clients.entry(id).or_default();
        client.used = self.records;
        let (ranges, payloads) = (client.seen.ranges(), client.seen.payloads());
        let noted = client.seen.insert(seq, crc32c::crc32c(&message.payload));
        #[cfg(feature = "simulation")]
        let noted = if PLANTED.get() == Some(Planted::Repeats) { Noted::New } else { noted };
        self.ranges = self.ranges + client.seen.ranges() - ranges;
        self.payloads = self.payloads + client.seen.payloads() - payloads;
        match noted {
            Noted::New => {}
            Noted::Again => return,
            Noted::Other => {
                message.reused = true;
                return self.deliver(message);
            }
        }
        // A number below the turn was given up as missing, or is its client's first: late is better than never.
        let is_due = seq <= client.turn;
        if seq == client.turn {
            client.turn += 1;
        }
        if is_due {
            let more = !client.held.is_empty();
            self.deliver(message);
            if more {
                self.let_go(id, 0);
            }
        } else {
            self.hold(message);
        }
        if self.clients.len() > limits::READER_CLIENTS_MAX || self.ranges > limits::READER_RANGES_MAX {
            self.forget_half();
        }
        if self.payloads > limits::READER_PAYLOADS_MAX {
            self.clients.values_mut().for_each(|client| client.seen.forget_payloads());
            self.payloads = self.clients.values().map(|client| client.seen.payloads()).sum();
        }
    }

    /// Nothing below `next` comes in any more: what waited long enough goes out.
    pub(super) fn covered(&mut self, next: RecordId) {
        while let Some(&(id, client, seq)) = self.oldest.first() {
            if id.time_ns.saturating_add(HOLD_NS) > next.time_ns {
                break;
            }
            self.let_go(client, seq);
        }
    }

    /// Nothing comes in any more: everything goes out.
    pub(super) fn finish(&mut self) {
        while let Some(&(_, client, seq)) = self.oldest.first() {
            self.let_go(client, seq);
        }
    }

    fn hold(&mut self, message: Message) {
        // Its line must not keep a whole frame alive.
        let message = message.detached();
        self.held_bytes += weight(&message);
        self.oldest.insert((message.id, message.client, message.seq));
        self.clients.entry(message.client).or_default().held.insert(message.seq, message);
        while self.held_bytes > self.held_bytes_max
            && let Some(&(_, client, seq)) = self.oldest.first()
        {
            self.let_go(client, seq);
        }
    }

    /// Delivers what a client has held up to `seq`, and all that follows it without a gap.
    fn let_go(&mut self, id: ClientId, seq: u64) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let mut due = VecDeque::new();
        while let Some(entry) = client.held.first_entry()
            && (*entry.key() <= seq || *entry.key() == client.turn)
        {
            client.turn = *entry.key() + 1;
            due.push_back(entry.remove());
        }
        for message in due {
            self.held_bytes -= weight(&message);
            self.oldest.remove(&(message.id, message.client, message.seq));
            self.deliver(message);
        }
    }

    fn deliver(&mut self, message: Message) {
        #[cfg(feature = "simulation")]
        if PLANTED.get() == Some(Planted::Drops) && message.seq.is_multiple_of(PLANTED_EVERY) {
            return;
        }
        if message.id >= self.from {
            self.out.push_back(message);
        }
    }

    /// Forgets the half of the clients that had no record for longest; what is held of them goes out.
    fn forget_half(&mut self) {
        let mut by_use: Vec<_> = self.clients.iter().map(|(id, client)| (client.used, *id)).collect();
        by_use.sort_unstable();
        by_use.truncate(self.clients.len() / 2);
        for (_, id) in by_use {
            self.let_go(id, u64::MAX);
            if let Some(client) = self.clients.remove(&id) {
                self.ranges -= client.seen.ranges();
                self.payloads -= client.seen.payloads();
            }
        }
    }
}

/// A fault that a simulation plants in the readers of its thread.
#[cfg(feature = "simulation")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Planted {
    /// Some messages are not delivered.
    Drops,
    /// Second copies are delivered.
    Repeats,
}

/// Of how many messages one is dropped.
#[cfg(feature = "simulation")]
const PLANTED_EVERY: u64 = 50;

#[cfg(feature = "simulation")]
thread_local! {
    /// The fault that is planted.
    pub static PLANTED: std::cell::Cell<Option<Planted>> = const { std::cell::Cell::new(None) };
}

/// What a held message counts for, bytes.
fn weight(message: &Message) -> usize {
    let unescaped = if message.text().contains('\\') { message.payload.len() } else { 0 };
    message.line.len() + unescaped + limits::READER_HELD_EXTRA_BYTES
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
