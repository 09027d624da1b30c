//! Second copies and order: what a client's retries disturbed is mended here.
//!
//! A message that was sent again may be kept twice, under two ids, and later messages of its client may have lower ids. Records come in in the
//! order of ids, or, for who follows, in the order in which they were kept; they go out once for each client, sequence number and payload, and in the order of sequence numbers as far as
//! [`limits::READER_HOLD_TIME`] and the bounds of memory allow: in time of ids for what is there, in time that passes for what
//! comes. No record is ever lost to a bound: past one,
//! what is held goes out early, or a second copy passes. What has another payload than the message that had its number
//! before is no copy: it goes out, and says so. Pure: time is that of the ids, or is handed in.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::message::Message;
use super::seen::{Noted, Seen};
use crate::limits;
use crate::wire::id::{ClientId, RecordId};

const HOLD_NS: u64 = limits::READER_HOLD_TIME.as_nanos() as u64;
const TEXT_HOLD_NS: u64 = limits::READER_TEXT_HOLD_TIME.as_nanos() as u64;
const MEET_NS: u64 = limits::READER_MEET_TIME.as_nanos() as u64;

/// How long a message of this client waits for what is missing before it, ns, as time passes. Nothing on a connection in
/// text is ever sent again.
const fn wait(client: ClientId) -> u64 {
    if client.may_retry() { HOLD_NS } else { TEXT_HOLD_NS }
}

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
    /// Records that wait for their turn, by number, and until when, ns.
    held: BTreeMap<u64, (u64, Message)>,
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
    /// Everything that is held: until when, ns, whose and which.
    oldest: BTreeSet<(u64, ClientId, u64)>,
    /// Time since what comes is delivered, ns; none while what is there is.
    live: Option<u64>,
    /// Until then what comes may have been there before, ns: another head sends it, from every node as it can.
    catches_up_until: u64,
    /// Everybody's second copies are looked for: who follows may meet a record twice.
    follows: bool,
    held_bytes: usize,
    held_bytes_max: usize,
    ranges: usize,
    /// Payloads that are remembered by their checksums.
    payloads: usize,
    records: u64,
    /// Second copies go out, too, and everything in the order of ids.
    as_kept: bool,
    /// Numbers of a client may be missing for good: what comes is not held.
    lacks_numbers: bool,
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
            live: None,
            catches_up_until: 0,
            follows: false,
            held_bytes: 0,
            held_bytes_max: limits::READER_HELD_BYTES_MAX,
            ranges: 0,
            payloads: 0,
            records: 0,
            as_kept: false,
            lacks_numbers: false,
            out: VecDeque::new(),
        }
    }

    /// What is there is all read, and what comes is delivered from now on.
    pub(super) fn begin_live(&mut self) {
        if self.live.is_some() {
            return;
        }
        (self.live, self.follows) = (Some(0), true);
        if self.lacks_numbers {
            return self.finish();
        }
        let held: Vec<_> = std::mem::take(&mut self.oldest).into_iter().collect();
        for (_, client, seq) in held {
            let Some(known) = self.clients.get_mut(&client) else { continue };
            // What was before a connection in text may lie before `from`; but its first messages may be just under way.
            let is_met = known.turn == 1 && !client.may_retry();
            if let Some(entry) = known.held.get_mut(&seq) {
                entry.0 = if is_met { MEET_NS } else { wait(client) };
                self.oldest.insert((entry.0, client, seq));
            }
        }
    }

    /// What comes is sent on another connection from now on: of what is there already, nodes that have much to look through
    /// may send the earlier later.
    pub(super) fn goes_on(&mut self) {
        self.catches_up_until = self.live.unwrap_or_default().saturating_add(TEXT_HOLD_NS);
    }

    /// From the start second copies of everybody are looked for.
    pub(super) const fn follows(mut self, follows: bool) -> Self {
        self.follows = follows;
        self
    }

    /// Only some messages of each client come in.
    pub(super) const fn lacks_numbers(mut self, lacks: bool) -> Self {
        self.lacks_numbers = lacks;
        self
    }

    /// So much time has passed since [`begin_live`](Self::begin_live), ns: what waited long enough goes out.
    pub(super) fn tick(&mut self, now_ns: u64) {
        if self.live.is_some() {
            self.live = Some(now_ns);
            self.let_go_before(now_ns);
        }
    }

    /// When something is due that is held, ns since [`begin_live`](Self::begin_live).
    pub(super) fn due(&self) -> Option<u64> {
        self.live.and_then(|_| self.oldest.first().map(|(until, ..)| *until))
    }

    fn let_go_before(&mut self, now_ns: u64) {
        while let Some(&(until, client, seq)) = self.oldest.first() {
            if until > now_ns {
                break;
            }
            self.let_go(client, seq);
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
        if self.as_kept || (!message.client.may_retry() && !self.follows) {
            return self.deliver(message);
        }
        self.records += 1;
        let (id, seq) = (message.client, message.seq);
        let is_met = !self.clients.contains_key(&id);
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
        let is_due = seq <= client.turn || (self.lacks_numbers && self.live.is_some());
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
            self.hold(message, is_met);
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
        if self.live.is_none() {
            self.let_go_before(next.time_ns);
        }
    }

    /// Nothing comes in any more: everything goes out.
    pub(super) fn finish(&mut self) {
        while let Some(&(_, client, seq)) = self.oldest.first() {
            self.let_go(client, seq);
        }
    }

    fn hold(&mut self, message: Message, is_met: bool) {
        // Its line must not keep a whole frame alive.
        let message = message.detached();
        self.held_bytes += weight(&message);
        let until = match self.live {
            None => message.id.time_ns.saturating_add(wait(message.client)),
            // Who is met in the middle has nothing before that would come; but what comes together may come in disorder.
            Some(now) if is_met => now.saturating_add(MEET_NS).max(self.catches_up_until),
            Some(now) => now.saturating_add(wait(message.client)),
        };
        self.oldest.insert((until, message.client, message.seq));
        self.clients.entry(message.client).or_default().held.insert(message.seq, (until, message));
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
        for (until, message) in due {
            self.held_bytes -= weight(&message);
            self.oldest.remove(&(until, message.client, message.seq));
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
