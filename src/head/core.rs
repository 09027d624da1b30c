//! The head's decisions: where a batch goes, what is in flight, who settles it, what happens when a node leaves.
//!
//! A state machine without sockets, clocks or files: time and randomness are handed in, and what is to be done comes
//! out as [`Effect`]s, in order. The tasks around it only move bytes. It knows no dialect and no log file.
//!
//! Each node has a queue of the batches that were sent to it and not settled. A node settles them in order, so an
//! acknowledgement is one number. A batch is settled when no node is still asked for it.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use slab::Slab;

use super::clock::IdClock;
use super::faults::{Fault, Suspicion};
use super::window::{Failures, Opening, Window};
use crate::limits;
use crate::wire::error::{Code, Refusal};
use crate::wire::frame::{Messages, SyncMode};
use crate::wire::id::{ClientId, RecordId};

/// One bit a node, by its place in the table: [`limits::NODES_MAX`] fits.
type NodeSet = u128;

const _: () = assert!(limits::NODES_MAX <= NodeSet::BITS as usize);

/// A registered node: its place in the table, and a serial number that is never given twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NodeKey {
    place: usize,
    serial: u64,
}

impl NodeKey {
    /// The serial number of the registration, unique in one run of the head.
    #[must_use]
    pub(crate) const fn serial(self) -> u64 {
        self.serial
    }
}

/// Where a batch came from: opaque to the core, handed back with its outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Origin {
    /// The session's serial number.
    pub(crate) session: u64,
    /// The session's own number for the batch.
    pub(crate) ticket: u64,
}

/// Messages of one client that are placed together; their ids and sequence numbers are consecutive.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    /// Id of the first message.
    pub(crate) first: RecordId,
    /// Who sent them.
    pub(crate) client: ClientId,
    /// Sequence number of the first message.
    pub(crate) first_seq: u64,
    /// The messages.
    pub(crate) messages: Messages,
    /// Who is told.
    pub(crate) origin: Origin,
}

/// What the tasks around the core have to do.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Send this batch to this node, as its next Put.
    Put {
        /// The node.
        node: NodeKey,
        /// Names of all nodes that are to keep it, parted by commas; none if this is the only one.
        copies: Option<Rc<str>>,
        /// The batch.
        batch: Batch,
    },
    /// Every node that was asked keeps the batch: tell its origin.
    Kept {
        /// The batch.
        batch: Batch,
        /// Addresses of the nodes that keep it.
        nodes: Vec<Rc<str>>,
        /// The weakest promise among its copies.
        sync: SyncMode,
        /// The identity of the node that keeps the only copy, and whether the record names others besides.
        alone: Option<(u64, bool)>,
    },
    /// Nobody keeps the batch: tell its origin why.
    Refused {
        /// The batch.
        batch: Batch,
        /// Cause and remedy.
        refusal: Refusal,
    },
    /// A node has room again: wake who was held.
    Room,
}

/// Why a batch was not taken.
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// Every window is full: wait for [`Effect::Room`], then try again.
    Hold,
    /// It can't be kept now: tell the client.
    Refused(Refusal),
}

/// An id of a peer that would drag this head's clock along.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "the id {id} is {ahead:?} ahead of this head's clock, and {max:?} is the most that is followed; set the clocks right",
    max = limits::CLOCK_LEAD_MAX
)]
pub(crate) struct TooFarAhead {
    /// The id.
    pub(crate) id: RecordId,
    /// How far it is ahead.
    pub(crate) ahead: Duration,
}

/// How a node is called in answers and in records.
#[derive(Clone, Debug)]
pub(crate) struct Label {
    /// Its address.
    pub(crate) ip: Rc<str>,
    /// Its name.
    pub(crate) name: Rc<str>,
    /// The identity of its folder; none for nodes that speak text.
    pub(crate) id: Option<u64>,
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
    queue: VecDeque<usize>,
    settled: u64,
    bytes: usize,
    messages: usize,
    acked: u64,
}

impl Node {
    /// Whether it could take messages of which the longest has so many bytes.
    fn takes(&self, longest: usize) -> bool {
        self.is_able() && self.message_bytes.is_none_or(|most| longest <= most)
    }

    const fn unsettled(&self) -> Window {
        Window { bytes: self.bytes, messages: self.messages }
    }

    const fn has_room(&self, bytes: usize, messages: usize) -> bool {
        self.opening.fits(self.unsettled(), Window { bytes, messages })
    }

    /// It takes new messages.
    const fn is_able(&self) -> bool {
        self.writable && !self.leaving
    }
}

#[derive(Debug)]
struct Flight {
    batch: Batch,
    /// Nodes that were sent it and have not settled it.
    asked: NodeSet,
    /// Nodes that keep it and are registered.
    kept: NodeSet,
    /// Nodes that did not want it.
    refused: NodeSet,
    /// Nodes that kept it and then left: their copies lie on their disks.
    gone: Vec<Label>,
    /// Why a node did not want it, the last time.
    cause: Option<Refusal>,
    /// Nodes that were lost with it.
    suspicion: Suspicion,
    sync: SyncMode,
    /// Nodes whose Put named one that did not keep it.
    misnamed: NodeSet,
    /// Most nodes that a Put of it named.
    named: usize,
    /// It waits among the orphans for room on a node.
    queued: bool,
}

impl Flight {
    /// The node at this place does not answer for the batch any more. If it does not keep it either, the records of the
    /// others name one too many.
    const fn drop_asked(&mut self, place: usize) {
        let fails = self.asked & bit(place) != 0 && self.kept & bit(place) == 0;
        self.asked &= !bit(place);
        if fails {
            self.misnamed |= self.asked | self.kept;
        }
    }
}

/// Counters since the head started.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Counters {
    /// Messages acknowledged.
    pub(crate) acked: u64,
    /// Messages refused.
    pub(crate) refused: u64,
    /// Messages in flight now.
    pub(crate) in_flight: u64,
    /// Bytes in flight now.
    pub(crate) in_flight_bytes: usize,
    /// Messages acknowledged with fewer copies than were asked for.
    pub(crate) short: u64,
}

/// What the head shows of one node's queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeLoad {
    /// Messages sent and not settled.
    pub(crate) in_flight: u64,
    /// Messages acknowledged since it registered.
    pub(crate) acked: u64,
    /// Whether it takes new messages.
    pub(crate) writable: bool,
}

/// The state machine.
#[derive(Debug)]
pub(crate) struct Core {
    clock: IdClock,
    rng: SmallRng,
    replicas: usize,
    copies_min: usize,
    nodes: Slab<Node>,
    next_serial: u64,
    flights: Slab<Flight>,
    /// Batches that lost their node and wait for room on another; they go before anything new.
    orphans: VecDeque<usize>,
    held: bool,
    /// Nodes that do not take messages of any length.
    bounded: usize,
    counters: Counters,
    effects: VecDeque<Effect>,
    /// Counts the looks at silent nodes.
    looks: u64,
    /// Where nodes come from that settled nothing.
    failures: Failures,
}

const fn bit(place: usize) -> NodeSet {
    1 << place
}

/// The size of a batch in a node's window.
fn size(messages: &Messages) -> (usize, usize) {
    (messages.block().len(), usize::from(messages.count()))
}

impl Core {
    /// A core that wants `replicas` copies of each message and is content with `copies_min` when there are no more
    /// nodes; incarnation and placement come from `seed`.
    #[must_use]
    pub(crate) fn new(seed: u64, replicas: usize, copies_min: usize) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let incarnation = rng.random();
        Self {
            clock: IdClock::new(incarnation),
            rng,
            replicas: replicas.clamp(1, limits::REPLICAS_MAX),
            copies_min: copies_min.clamp(1, replicas.clamp(1, limits::REPLICAS_MAX)),
            nodes: Slab::new(),
            next_serial: 1,
            flights: Slab::new(),
            orphans: VecDeque::new(),
            held: false,
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

    /// The time of the next id that is given while the wall clock stands before it, ns since 1970; 0 before the first.
    #[must_use]
    pub(crate) const fn clock_ns(&self) -> u64 {
        self.clock.next_ns()
    }

    /// Nodes that take new messages: registered, writable and not leaving.
    #[must_use]
    pub(crate) fn able(&self) -> usize {
        self.candidates(0, 0)
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

    /// The least id that may still be put on a node: that of the oldest batch in flight, or the clock's if there is none.
    /// Passes over all that is in flight.
    pub(crate) fn safe(&mut self, wall_ns: u64) -> RecordId {
        let oldest = self.flights.iter().map(|(_, flight)| flight.batch.first).min();
        #[cfg(feature = "simulation")]
        let oldest = oldest.filter(|_| !HURRIES.get());
        oldest.unwrap_or_else(|| self.clock.now(wall_ns))
    }

    /// Ids given from now on are greater than this one, which a peer has seen.
    ///
    /// # Errors
    /// The id is more than [`limits::CLOCK_LEAD_MAX`] ahead of the wall clock; nothing is changed.
    pub(crate) fn advance(&mut self, beyond: RecordId, wall_ns: u64) -> Result<(), TooFarAhead> {
        let ahead = Duration::from_nanos(beyond.time_ns.saturating_sub(wall_ns));
        if ahead > limits::CLOCK_LEAD_MAX && !self.clock.is_beyond(beyond) {
            return Err(TooFarAhead { id: beyond, ahead: Duration::from_secs(ahead.as_secs()) });
        }
        self.clock.advance(beyond);
        Ok(())
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
        let id = label.id;
        self.bounded += usize::from(message_bytes.is_some());
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
        });
        if id.is_some() {
            // A node that kept a copy, left and is back still has it: it is one copy, not two.
            for (_, entry) in &mut self.flights {
                let before = entry.gone.len();
                entry.gone.retain(|label| label.id != id);
                if entry.gone.len() < before {
                    entry.kept |= bit(place);
                }
            }
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

    /// Places new messages: gives ids, chooses nodes, emits the Puts. `wall_ns` is the wall clock.
    ///
    /// # Errors
    /// [`NotTaken`]: nothing was changed but the count of what was refused, the caller still has the messages.
    pub(crate) fn store(
        &mut self,
        wall_ns: u64,
        client: ClientId,
        first_seq: u64,
        messages: &Messages,
        origin: Origin,
    ) -> Result<(), NotTaken> {
        let (bytes, count) = size(messages);
        if !self.orphans.is_empty()
            || (self.counters.in_flight_bytes + bytes > limits::HEAD_IN_FLIGHT_BYTES_MAX
                && self.counters.in_flight_bytes > 0)
        {
            self.held = true;
            return Err(NotTaken::Hold);
        }
        let longest = self.longest(messages);
        let able = self.candidates(0, longest);
        if able < self.copies_min {
            self.counters.refused += count as u64;
            return Err(NotTaken::Refused(self.too_few(able, longest)));
        }
        let chosen = self.choose(0, self.replicas.min(able), messages, longest, true);
        if size_of_set(chosen) < self.replicas.min(able) {
            self.held = true;
            return Err(NotTaken::Hold);
        }
        let first = self.clock.take(wall_ns, count as u64);
        let batch = Batch { first, client, first_seq, messages: messages.clone(), origin };
        self.counters.in_flight += count as u64;
        self.counters.in_flight_bytes += bytes;
        let flight = Flight {
            batch,
            asked: 0,
            kept: 0,
            refused: 0,
            gone: Vec::new(),
            cause: None,
            suspicion: Suspicion::default(),
            sync: SyncMode::Always,
            misnamed: 0,
            named: 0,
            queued: false,
        };
        let flight = self.flights.insert(flight);
        self.put(flight, chosen);
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
        let Some(before) = self.node(key).map(Node::unsettled) else { return Ok(()) };
        let mut settled = Window { bytes: 0, messages: 0 };
        loop {
            let Some(node) = self.node_mut(key) else { return Ok(()) };
            if node.settled >= up_to {
                break;
            }
            let Some(flight) = node.queue.pop_front() else {
                return Err(never_sent(up_to, node.settled));
            };
            node.settled += 1;
            let Some(entry) = self.flights.get_mut(flight) else { continue };
            entry.asked &= !bit(key.place);
            if entry.kept & bit(key.place) != 0 {
                // It had it with names of nodes that failed, and has it with the right ones now.
                entry.named = size_of_set(entry.kept);
            }
            entry.kept |= bit(key.place);
            entry.sync = entry.sync.max(sync);
            let (bytes, count) = size(&entry.batch.messages);
            ranges.push((entry.batch.first, count as u32));
            let done = entry.asked == 0 && !entry.queued;
            (settled.bytes, settled.messages) = (settled.bytes + bytes, settled.messages + count);
            if let Some(node) = self.node_mut(key) {
                node.bytes -= bytes;
                node.messages -= count;
                node.acked += count as u64;
            }
            if done {
                self.finish(flight);
            }
        }
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

    /// A node does not keep Put `number`; everything before it is settled. It goes to another node.
    ///
    /// # Errors
    /// A number that is not the next one: the node does not keep to the protocol.
    pub(crate) fn refused(&mut self, key: NodeKey, number: u64, refusal: &Refusal) -> Result<Option<Batch>, Refusal> {
        let Some(node) = self.node_mut(key) else { return Ok(None) };
        if number != node.settled + 1 {
            return Err(never_sent(number, node.settled));
        }
        let Some(flight) = node.queue.pop_front() else {
            return Err(never_sent(number, node.settled));
        };
        node.settled += 1;
        if matches!(refusal.code, Code::DiskFull | Code::Storage) {
            node.writable = false;
        }
        let mut refused = None;
        if let Some(entry) = self.flights.get_mut(flight) {
            entry.drop_asked(key.place);
            entry.refused |= bit(key.place);
            entry.cause = Some(refusal.clone());
            let (bytes, count) = size(&entry.batch.messages);
            refused = Some(entry.batch.clone());
            if let Some(node) = self.node_mut(key) {
                node.bytes -= bytes;
                node.messages -= count;
            }
            self.place_again(flight);
        }
        self.settle_orphans();
        self.wake();
        Ok(refused)
    }

    /// A node is gone. What it had not settled goes to others at once, under the same ids, but for what too many failed at;
    /// returns how many messages.
    pub(crate) fn leave(&mut self, key: NodeKey, fault: Fault, cause: &str) -> u64 {
        if self.node(key).is_none() {
            return 0;
        }
        let node = self.nodes.remove(key.place);
        self.bounded -= usize::from(node.message_bytes.is_some());
        self.blame(&node, fault, cause);
        if node.messages > 0 && !node.opening.is_proven() {
            self.failures.add(&node.label.ip, self.looks);
        }
        let mut short = Vec::new();
        for (flight, entry) in &mut self.flights {
            let here = bit(key.place);
            if entry.kept & here != 0 {
                entry.gone.push(node.label.clone());
            }
            if (entry.kept | entry.asked) & here != 0 {
                short.push((entry.batch.first, flight));
            }
            // The place may be given to another node: what the old one kept or refused says nothing of the new one.
            entry.drop_asked(key.place);
            entry.kept &= !here;
            entry.refused &= !here;
            entry.misnamed &= !here;
        }
        short.sort_unstable();
        #[cfg(feature = "simulation")]
        if FORGETS.get() {
            short.clear();
        }
        for (_, flight) in short {
            self.place_again(flight);
        }
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
        for flight in node.queue.iter().take(suspects) {
            if let Some(entry) = self.flights.get_mut(*flight) {
                entry.suspicion.add(alone, &cause);
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

    /// Another one: what is in flight is called safe.
    pub(crate) static HURRIES: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// How many nodes a set has.
const fn size_of_set(set: NodeSet) -> usize {
    set.count_ones() as usize
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
