//! The head's decisions: where a batch goes, what is in flight, who settles it, what happens when a node leaves.
//!
//! A state machine without sockets, clocks or files: time and randomness are handed in, and what is to be done comes
//! out as [`Effect`]s, in order. The tasks around it only move bytes. It knows no dialect and no log file.
//!
//! A batch is consecutive entries of one open ledger, so it goes to that ledger's members, and is settled once all of them
//! have acknowledged it. Each node has a queue of the batches that were sent to it and not settled. A node settles them in
//! order, so an acknowledgement is one number. On whom ledgers are opened is decided in `ledger`; data nodes that speak text
//! take batches without one.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use slab::Slab;

use super::clock::IdClock;
use super::effects::{Author, Batch, Counters, Effect, Label, NodeKey, NodeLoad, NotTaken, Origin};
use super::faults::{Fault, Suspicion};
use super::open::OpenLedger;
use super::window::{Failures, Opening, Window};
use crate::ledger::writing::Placed;
use crate::limits;
use crate::wire::error::{Code, Refusal};
use crate::wire::frame::{Messages, SyncMode};
use crate::wire::id::RecordId;
use crate::wire::ledger::{Incarnation, LedgerId};

/// A batch that was sent to a node and not settled by it.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// The batch, if it is still in flight as it was sent.
    flight: usize,
    /// Which sending of it this was.
    sending: u64,
    size: Window,
    /// The ledger, and where its entries end; none for a node that speaks text.
    entries: Option<(LedgerId, u32)>,
}

#[derive(Debug)]
struct Node {
    serial: u64,
    label: Label,
    /// Bytes of the greatest message that it takes; none if it takes any.
    message_bytes: Option<usize>,
    opening: Opening,
    writable: bool,
    leaving: bool,
    queue: VecDeque<Sent>,
    settled: u64,
    bytes: usize,
    messages: usize,
    acked: u64,
    sync: SyncMode,
}

impl Node {
    /// Whether it speaks text and could take messages of which the longest has so many bytes.
    fn takes_text(&self, longest: usize) -> bool {
        self.label.id.is_none() && self.is_able() && self.message_bytes.is_none_or(|most| longest <= most)
    }

    const fn unsettled(&self) -> Window {
        Window { bytes: self.bytes, messages: self.messages }
    }

    const fn has_room(&self, size: Window) -> bool {
        self.opening.fits(self.unsettled(), size)
    }

    /// It takes new messages.
    const fn is_able(&self) -> bool {
        self.writable && !self.leaving
    }
}

/// Where a batch goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    /// The open ledger of this name.
    Ledger(LedgerId),
    /// The node at this place, which speaks text.
    Text(usize),
}

#[derive(Debug)]
struct Flight {
    batch: Batch,
    /// Counts how often it was sent.
    sending: u64,
    /// Where it is; none while it waits for room.
    target: Option<Target>,
    /// Where its entries end.
    end: u32,
    /// Why a node did not want it, the last time.
    cause: Option<Refusal>,
    /// Nodes that were lost with it.
    suspicion: Suspicion,
}

/// The state machine.
#[derive(Debug)]
pub(crate) struct Core {
    clock: IdClock,
    rng: SmallRng,
    /// Copies that are asked for, and copies without which a message is refused.
    replicas: usize,
    copies_min: usize,
    nodes: Slab<Node>,
    next_serial: u64,
    flights: Slab<Flight>,
    next_sending: u64,
    /// The ledgers that are written, those that take nothing new included.
    open: Vec<OpenLedger>,
    next_number: u32,
    /// Ledgers are about to be opened: who comes meanwhile waits.
    opens_soon: bool,
    /// Why none are opened, for people.
    hindrance: String,
    /// Batches that lost their ledger and wait for room in another; they go before anything new.
    orphans: VecDeque<usize>,
    held: bool,
    /// Places of nodes that speak text.
    texts: Vec<usize>,
    /// Nodes that do not take messages of any length.
    bounded: usize,
    counters: Counters,
    effects: VecDeque<Effect>,
    /// Counts the looks at silent nodes.
    looks: u64,
    /// Where nodes come from that settled nothing.
    failures: Failures,
}

/// The size of a batch in a node's window.
fn size(messages: &Messages) -> Window {
    Window { bytes: messages.block().len(), messages: usize::from(messages.count()) }
}

impl Core {
    /// A core that wants `replicas` copies of each message and is content with `copies_min` when there are no more
    /// nodes; incarnation and placement come from `seed`.
    #[must_use]
    pub(crate) fn new(seed: u64, replicas: usize, copies_min: usize) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let incarnation = rng.random();
        let replicas = replicas.clamp(1, limits::REPLICAS_MAX);
        Self {
            clock: IdClock::new(incarnation),
            rng,
            replicas,
            copies_min: copies_min.clamp(1, replicas),
            nodes: Slab::new(),
            next_serial: 1,
            flights: Slab::new(),
            next_sending: 1,
            open: Vec::new(),
            next_number: 0,
            opens_soon: false,
            hindrance: String::new(),
            orphans: VecDeque::new(),
            held: false,
            texts: Vec::new(),
            bounded: 0,
            counters: Counters::default(),
            effects: VecDeque::new(),
            looks: 0,
            failures: Failures::default(),
        }
    }

    /// The incarnation of this head.
    #[must_use]
    pub(crate) const fn incarnation(&self) -> u32 {
        self.clock.incarnation()
    }

    /// Copies that are asked for, and copies without which a message is refused: as the roster says.
    pub(crate) fn set_copies(&mut self, replicas: usize, copies_min: usize) {
        (self.replicas, self.copies_min) = (replicas, copies_min);
    }

    /// Copies that are asked for.
    #[must_use]
    pub(crate) const fn replicas(&self) -> usize {
        self.replicas
    }

    /// The time of the next id that is given while the wall clock stands before it, ns since 1970; 0 before the first.
    #[must_use]
    pub(crate) const fn clock_ns(&self) -> u64 {
        self.clock.next_ns()
    }

    /// Nodes that take new messages: registered, writable and not leaving.
    #[must_use]
    pub(crate) fn able(&self) -> usize {
        self.nodes.iter().filter(|(_, node)| node.is_able()).count()
    }

    /// Most messages that are to be placed together. A node that speaks text answers for one at a time; if it fails, it is to be
    /// known at which.
    #[must_use]
    pub(crate) const fn batch_messages(&self) -> usize {
        if self.bounded > 0 { 1 } else { limits::BATCH_MESSAGES_MAX }
    }

    /// Counters since the start.
    #[must_use]
    pub(crate) const fn counters(&self) -> Counters {
        self.counters
    }

    /// Messages were refused before they came here.
    pub(crate) fn count_refused(&mut self, messages: u16) {
        self.counters.refused += u64::from(messages);
    }

    /// Messages that nodes keep were refused to their client all the same.
    pub(crate) fn count_untraced(&mut self, messages: u16) {
        self.counters.acked = self.counters.acked.saturating_sub(messages.into());
        self.counters.refused += u64::from(messages);
    }

    /// What is to be done next, in the order in which it was decided.
    pub(crate) fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// A node's queue, or `None` if it has left.
    #[must_use]
    pub(crate) fn load(&self, key: NodeKey) -> Option<NodeLoad> {
        let node = self.node(key)?;
        Some(NodeLoad { in_flight: node.messages as u64, acked: node.acked, writable: node.writable && !node.leaving })
    }

    /// Takes a node into the table. The caller has checked its name and identity.
    ///
    /// # Errors
    /// The table holds [`limits::NODES_MAX`] nodes.
    pub(crate) fn register(
        &mut self,
        label: Label,
        writable: bool,
        window: Window,
        message_bytes: Option<usize>,
    ) -> Result<NodeKey, Refusal> {
        if self.nodes.len() >= limits::NODES_MAX {
            let text = format!("this head has {} data nodes, its limit; start another head", limits::NODES_MAX);
            return Err(Refusal::new(Code::Full, text));
        }
        let serial = self.next_serial;
        self.next_serial += 1;
        self.bounded += usize::from(message_bytes.is_some());
        let speaks_text = label.id.is_none();
        let place = self.nodes.insert(Node {
            serial,
            label,
            message_bytes,
            opening: Opening::new(window),
            writable,
            leaving: false,
            queue: VecDeque::new(),
            settled: 0,
            bytes: 0,
            messages: 0,
            acked: 0,
            sync: SyncMode::Always,
        });
        if speaks_text {
            self.texts.push(place);
        }
        self.settle_orphans();
        self.wake();
        Ok(NodeKey { place, serial })
    }

    /// A node said whether it can write. Messages go elsewhere while it can't.
    pub(crate) fn set_writable(&mut self, key: NodeKey, writable: bool) {
        let was = self.node_mut(key).map(|node| std::mem::replace(&mut node.writable, writable));
        if was.is_some_and(|was| was != writable) {
            self.settle_orphans();
            self.wake();
        }
    }

    /// Looks at what every node settles. Called every [`limits::NODE_LOOK_EVERY`].
    pub(crate) fn look(&mut self) {
        self.looks += 1;
        for (_, node) in &mut self.nodes {
            node.opening.look(node.settled, !node.queue.is_empty());
        }
    }

    /// The time in which a node has to settle the first batch that it was given, if it has not yet and others could have
    /// kept that.
    #[must_use]
    pub(crate) fn trial_time(&self, key: NodeKey) -> Option<Duration> {
        let node = self.node(key).filter(|node| !node.opening.is_proven() && node.messages > 0)?;
        let others = self.nodes.iter().any(|(_, other)| other.is_able() && other.opening.is_proven());
        let doubled = 1 << self.failures.times(&node.label.ip).min(8);
        others.then(|| (limits::NODE_TRIAL_TIME * doubled).min(limits::NODE_PROGRESS_TIME_MAX))
    }

    /// A node asked for no new messages. Returns whether everything it was sent is settled.
    pub(crate) fn set_leaving(&mut self, key: NodeKey) -> bool {
        match self.node_mut(key) {
            Some(node) => {
                node.leaving = true;
                node.queue.is_empty()
            }
            None => true,
        }
    }

    /// Places new messages: gives ids, chooses a ledger, emits the Puts. `wall_ns` is the wall clock.
    ///
    /// # Errors
    /// [`NotTaken`]: nothing was changed but the count of what was refused, the caller still has the messages.
    pub(crate) fn store(
        &mut self,
        wall_ns: u64,
        author: Author,
        first_seq: u64,
        messages: &Messages,
        origin: Origin,
    ) -> Result<(), NotTaken> {
        let size = size(messages);
        if !self.orphans.is_empty()
            || (self.counters.in_flight_bytes + size.bytes > limits::HEAD_IN_FLIGHT_BYTES_MAX
                && self.counters.in_flight_bytes > 0)
        {
            self.held = true;
            return Err(NotTaken::Hold);
        }
        let longest = self.longest(messages);
        if !self.could_take(longest) {
            if self.opens_soon {
                self.held = true;
                return Err(NotTaken::Hold);
            }
            self.counters.refused += size.messages as u64;
            return Err(NotTaken::Refused(self.too_few(longest)));
        }
        let Some(target) = self.choose(size, longest, true) else {
            self.held = true;
            return Err(NotTaken::Hold);
        };
        let first = self.clock.take(wall_ns, size.messages as u64);
        let Author { client, source } = author;
        let batch = Batch { first, client, first_seq, source, messages: messages.clone(), origin };
        self.counters.in_flight += size.messages as u64;
        self.counters.in_flight_bytes += size.bytes;
        let suspicion = Suspicion::default();
        let flight = self.flights.insert(Flight { batch, sending: 0, target: None, end: 0, cause: None, suspicion });
        self.put(flight, target);
        Ok(())
    }

    /// A node keeps everything it was sent up to Put number `up_to`. The ids it covers are appended to `ranges`.
    ///
    /// # Errors
    /// A number that was never sent: the node does not keep to the protocol.
    pub(crate) fn acked(
        &mut self,
        key: NodeKey,
        up_to: u64,
        sync: SyncMode,
        ranges: &mut Vec<(RecordId, u32)>,
    ) -> Result<(), Refusal> {
        let Some(node) = self.node_mut(key) else { return Ok(()) };
        let (before, id) = (node.unsettled(), node.label.id);
        node.sync = sync;
        let mut settled = Window { bytes: 0, messages: 0 };
        // Consecutive Puts are mostly of few ledgers: what each has acknowledged is told once.
        let mut reached: Vec<(LedgerId, u32)> = Vec::new();
        let mut texts: Vec<usize> = Vec::new();
        loop {
            let Some(node) = self.node_mut(key) else { return Ok(()) };
            if node.settled >= up_to {
                break;
            }
            let Some(sent) = node.queue.pop_front() else {
                return Err(never_sent(up_to, node.settled));
            };
            node.settled += 1;
            node.bytes -= sent.size.bytes;
            node.messages -= sent.size.messages;
            node.acked += sent.size.messages as u64;
            settled =
                Window { bytes: settled.bytes + sent.size.bytes, messages: settled.messages + sent.size.messages };
            let current = self.flights.get(sent.flight).filter(|flight| flight.sending == sent.sending);
            if let Some(flight) = current {
                ranges.push((flight.batch.first, sent.size.messages as u32));
            }
            match sent.entries {
                Some((ledger, end)) => match reached.iter_mut().find(|(known, _)| *known == ledger) {
                    Some((_, known)) => *known = end,
                    None => reached.push((ledger, end)),
                },
                None if current.is_some() => texts.push(sent.flight),
                None => {}
            }
        }
        for (ledger, end) in reached {
            self.reached(id, ledger, end)?;
        }
        texts.into_iter().for_each(|flight| self.settle_kept(flight));
        if settled.messages > 0 {
            if let Some(node) = self.nodes.get_mut(key.place) {
                if !node.opening.is_proven() {
                    self.failures.forget(&node.label.ip);
                }
                node.opening.settled(before, settled);
            }
            self.settle_orphans();
            self.wake();
        }
        Ok(())
    }

    /// A node does not keep Put `number`; everything before it is settled. Its ledger is over, and what is not settled of that
    /// goes to another one.
    ///
    /// # Errors
    /// A number that is not the next one: the node does not keep to the protocol.
    pub(crate) fn refused(&mut self, key: NodeKey, number: u64, refusal: &Refusal) -> Result<Option<Batch>, Refusal> {
        let Some(node) = self.node_mut(key) else { return Ok(None) };
        if number != node.settled + 1 {
            return Err(never_sent(number, node.settled));
        }
        let Some(sent) = node.queue.pop_front() else {
            return Err(never_sent(number, node.settled));
        };
        node.settled += 1;
        node.bytes -= sent.size.bytes;
        node.messages -= sent.size.messages;
        if matches!(refusal.code, Code::DiskFull | Code::Storage) {
            node.writable = false;
        }
        if refusal.code == Code::LedgerKnown {
            // Another head drew the same incarnation: this one draws anew, and writes no more under the old one.
            let incarnation = self.rng.random();
            self.clock.renew(incarnation);
            self.next_number = 0;
            let old: Vec<LedgerId> = self.open_ledgers().map(|(ledger, _)| ledger).collect();
            old.into_iter().for_each(|ledger| self.end(ledger));
        }
        let mut refused = None;
        if let Some(flight) = self.flights.get_mut(sent.flight).filter(|flight| flight.sending == sent.sending) {
            // A ledger that is over says nothing of the message.
            if !matches!(refusal.code, Code::LedgerOver | Code::LedgerKnown) {
                flight.cause = Some(refusal.clone());
                refused = Some(flight.batch.clone());
            }
        }
        match sent.entries {
            Some((ledger, _)) => self.close(ledger),
            None => self.place_again(sent.flight),
        }
        self.settle_orphans();
        self.wake();
        Ok(refused)
    }

    /// A node is gone. Its ledgers are over, and what is not settled of them goes to others at once, under the same ids, but
    /// for what too many failed at; returns how many messages it had.
    pub(crate) fn leave(&mut self, key: NodeKey, fault: Fault, cause: &str) -> u64 {
        if self.node(key).is_none() {
            return 0;
        }
        let node = self.nodes.remove(key.place);
        self.bounded -= usize::from(node.message_bytes.is_some());
        self.texts.retain(|place| *place != key.place);
        self.blame(&node, fault, cause);
        if node.messages > 0 && !node.opening.is_proven() {
            self.failures.add(&node.label.ip, self.looks);
        }
        if let Some(id) = node.label.id {
            let over: Vec<LedgerId> =
                self.open.iter().filter(|open| open.writing.has(id)).map(|open| open.writing.ledger()).collect();
            over.into_iter().for_each(|ledger| self.close(ledger));
        }
        let texts = self.flights.iter().filter(|(_, flight)| flight.target == Some(Target::Text(key.place)));
        let mut texts: Vec<(RecordId, usize)> = texts.map(|(at, flight)| (flight.batch.first, at)).collect();
        texts.sort_unstable();
        texts.into_iter().for_each(|(_, flight)| self.place_again(flight));
        self.settle_orphans();
        self.wake();
        node.messages as u64
    }

    /// Notes which messages a lost node may have failed at. One that speaks text has one at a time.
    fn blame(&mut self, node: &Node, fault: Fault, cause: &str) {
        if fault == Fault::None || node.queue.is_empty() {
            return;
        }
        let cause: Rc<str> = format!("{}: {cause}", node.label.ip).into();
        let one_at_a_time = node.label.id.is_none();
        let alone = fault == Fault::Fails && (one_at_a_time || node.queue.len() == 1);
        let suspects = if one_at_a_time { 1 } else { node.queue.len() };
        for sent in node.queue.iter().take(suspects) {
            if let Some(flight) = self.flights.get_mut(sent.flight).filter(|flight| flight.sending == sent.sending) {
                flight.suspicion.add(alone, &cause);
            }
        }
    }

    fn node(&self, key: NodeKey) -> Option<&Node> {
        self.nodes.get(key.place).filter(|node| node.serial == key.serial)
    }

    fn node_mut(&mut self, key: NodeKey) -> Option<&mut Node> {
        self.nodes.get_mut(key.place).filter(|node| node.serial == key.serial)
    }
}

#[cfg(feature = "simulation")]
thread_local! {
    /// A fault that a simulation plants in the heads of its thread: what a lost node had in flight is forgotten.
    pub(crate) static FORGETS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

fn never_sent(number: u64, settled: u64) -> Refusal {
    let text = format!("a data node settled message {number} out of turn after {settled}; it is closed");
    Refusal::new(Code::Protocol, text)
}

#[path = "placement.rs"]
mod placement;

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
