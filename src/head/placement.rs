//! Where a batch goes, and when it is settled: the part of the core that knows ledgers and orphans.
//!
//! Still pure: it changes the core's tables and emits effects. Who calls it, and on which event, is in [`super`].

use std::rc::Rc;

use rand::RngExt;

use super::{Core, Effect, Flight, Incarnation, NodeKey, OpenLedger, Placed, Sent, Target, never_sent, size};
use crate::head::window::Window;
use crate::ledger::plan::plan;
use crate::ledger::writing::Writing;
use crate::wire::error::{Code, Refusal};
use crate::wire::frame::{Messages, SyncMode};
use crate::wire::ledger::{LedgerId, NodeId, Place};
use crate::wire::text::mensaje_bytes;

/// Which targets are tried whose nodes have settled nothing.
#[derive(Clone, Copy)]
enum Tried {
    /// All: there are no others.
    All,
    /// Those from where none has failed of late.
    Rested,
    /// None.
    Nobody,
}

impl Core {
    /// Bytes of the longest of these messages, as nodes that speak text are sent it; 0 where there are none of those.
    pub(super) fn longest(&self, messages: &Messages) -> usize {
        if self.bounded == 0 { 0 } else { messages.iter().map(mensaje_bytes).max().unwrap_or(0) }
    }

    fn is_open(open: &OpenLedger) -> bool {
        !open.ends
    }

    /// Whether no ledger is open though there are nodes enough for one.
    pub(crate) fn lacks_ledgers(&self) -> bool {
        let able = self.nodes.iter().filter(|(_, node)| node.label.id.is_some() && node.is_able()).count();
        able >= self.copies_min && !self.open.iter().any(Self::is_open)
    }

    /// Whether anything could take a batch at some time.
    pub(super) fn could_take(&self, longest: usize) -> bool {
        self.open.iter().any(Self::is_open) || self.nodes.iter().any(|(_, node)| node.takes_text(longest))
    }

    /// The targets that could take a batch, and the places of their nodes.
    fn targets(&self, longest: usize) -> impl Iterator<Item = (Target, &[usize])> {
        let ledgers = self.open.iter().filter(|open| Self::is_open(open));
        let ledgers = ledgers.map(|open| (Target::Ledger(open.writing.ledger()), open.places.as_slice()));
        let texts =
            self.texts.iter().filter(move |place| self.nodes.get(**place).is_some_and(|node| node.takes_text(longest)));
        ledgers.chain(texts.map(|place| (Target::Text(*place), std::slice::from_ref(place))))
    }

    fn is_proven(&self, places: &[usize]) -> bool {
        places.iter().all(|place| self.nodes.get(*place).is_some_and(|node| node.opening.is_proven()))
    }

    /// Which of the targets whose nodes have settled nothing yet may be given a batch. One that somebody else can keep goes
    /// there only while none of them has another, and if it is `fresh`: however many there are, they hold up one batch.
    fn tried(&self, longest: usize, fresh: bool) -> Tried {
        if !self.targets(longest).any(|(_, places)| self.is_proven(places)) {
            return Tried::All;
        }
        let on_trial = self.nodes.iter().any(|(_, node)| !node.opening.is_proven() && node.messages > 0);
        if fresh && !on_trial { Tried::Rested } else { Tried::Nobody }
    }

    /// A target, every one equally likely among those that can take the batch now: one pass that keeps a random one.
    pub(super) fn choose(&mut self, size: Window, longest: usize, fresh: bool) -> Option<Target> {
        let tried = self.tried(longest, fresh);
        let fits = |places: &[usize]| {
            places.iter().all(|place| {
                self.nodes.get(*place).is_some_and(|node| {
                    let trusted = node.opening.is_proven()
                        || match tried {
                            Tried::All => true,
                            Tried::Rested => !self.failures.rests(&node.label.ip, self.looks),
                            Tried::Nobody => false,
                        };
                    trusted && node.is_able() && node.has_room(size)
                })
            })
        };
        let mut rng = self.rng.clone();
        let (mut chosen, mut seen) = (None, 0_u32);
        for (target, places) in self.targets(longest) {
            if fits(places) {
                if rng.random_range(0..=seen) == 0 {
                    chosen = Some(target);
                }
                seen += 1;
            }
        }
        self.rng = rng;
        chosen
    }

    /// Sends a batch there.
    pub(super) fn put(&mut self, at: usize, target: Target) {
        let Some(flight) = self.flights.get_mut(at) else { return };
        let size = size(&flight.batch.messages);
        flight.sending = self.next_sending;
        self.next_sending += 1;
        match target {
            Target::Text(place) => {
                flight.target = Some(target);
                let sent = Sent { flight: at, sending: flight.sending, size, entries: None };
                let batch = flight.batch.clone();
                if let Some(node) = self.send(place, sent) {
                    self.effects.push_back(Effect::Put { node, place: None, members: Rc::new([]), batch });
                }
            }
            Target::Ledger(ledger) => {
                let Some(open) = self.open.iter_mut().find(|open| open.writing.ledger() == ledger) else { return };
                let Some(placed) = open.writing.place(size.messages as u32) else {
                    // It is full: the batch goes elsewhere.
                    self.end(ledger);
                    self.effects.push_back(Effect::Plan);
                    self.opens_soon = true;
                    return self.place_again(at);
                };
                open.flights.push_back(at);
                let members = if placed.opens() { Rc::clone(&open.members) } else { Rc::new([]) };
                let places = open.places.clone();
                self.put_entries(at, ledger, placed, &members, &places);
            }
        }
    }

    fn put_entries(&mut self, at: usize, ledger: LedgerId, placed: Placed, members: &Rc<[NodeId]>, places: &[usize]) {
        let Some(flight) = self.flights.get_mut(at) else { return };
        let end = placed.first.saturating_add(placed.count);
        (flight.target, flight.end) = (Some(Target::Ledger(ledger)), end);
        // The ledger's name is in the id: what is placed again after the head drew anew gets another one.
        flight.batch.first.incarnation = ledger.incarnation.0;
        let (batch, sending) = (flight.batch.clone(), flight.sending);
        let sent = Sent { flight: at, sending, size: size(&batch.messages), entries: Some((ledger, end)) };
        let entry = Place { number: ledger.number, entry: placed.first };
        for place in places {
            if let Some(node) = self.send(*place, sent) {
                let (members, batch) = (Rc::clone(members), batch.clone());
                self.effects.push_back(Effect::Put { node, place: Some(entry), members, batch });
            }
        }
    }

    /// Notes that a node was sent a batch.
    fn send(&mut self, place: usize, sent: Sent) -> Option<NodeKey> {
        let node = self.nodes.get_mut(place)?;
        node.queue.push_back(sent);
        node.bytes += sent.size.bytes;
        node.messages += sent.size.messages;
        Some(NodeKey { place, serial: node.serial })
    }

    /// A member has acknowledged all entries of a ledger below this one.
    ///
    /// # Errors
    /// It was not sent them.
    pub(super) fn reached(&mut self, node: Option<NodeId>, ledger: LedgerId, end: u32) -> Result<(), Refusal> {
        let open = self.open.iter_mut().find(|open| open.writing.ledger() == ledger);
        let (Some(open), Some(node)) = (open, node) else { return Ok(()) };
        let settled = open.writing.acked(node, end).map_err(|_| never_sent(end.into(), 0))?;
        let mut done = Vec::new();
        while let Some(&at) = open.flights.front()
            && self.flights.get(at).is_none_or(|flight| flight.end <= settled)
        {
            open.flights.pop_front();
            done.push(at);
        }
        let ends = open.ends && open.flights.is_empty();
        done.into_iter().for_each(|at| self.settle_kept(at));
        if ends {
            self.close(ledger);
        }
        Ok(())
    }

    /// A ledger is over. Its members are told what is settled, and the rest goes to other ledgers.
    pub(super) fn close(&mut self, ledger: LedgerId) {
        let Some(at) = self.open.iter().position(|open| open.writing.ledger() == ledger) else { return };
        let OpenLedger { writing, flights, .. } = self.open.swap_remove(at);
        let closed = writing.close();
        for member in closed.tell {
            let key = self.nodes.iter().find(|(_, node)| node.label.id == Some(member));
            if let Some((place, node)) = key {
                let node = NodeKey { place, serial: node.serial };
                self.effects.push_back(Effect::Close { node, ledger, end: closed.end });
            }
        }
        self.effects.push_back(Effect::Plan);
        self.opens_soon = true;
        #[cfg(feature = "simulation")]
        let flights = if super::FORGETS.get() { std::collections::VecDeque::new() } else { flights };
        flights.into_iter().for_each(|at| self.place_again(at));
    }

    /// A node says that these ledgers are over for it.
    pub(crate) fn over(&mut self, node: NodeId, ledgers: impl IntoIterator<Item = LedgerId>) {
        for ledger in ledgers {
            if self.open.iter().any(|open| open.writing.ledger() == ledger && open.writing.has(node)) {
                self.close(ledger);
            }
        }
        self.settle_orphans();
        self.wake();
    }

    /// Whether a node says of a ledger that is written here what can't be: that it takes its entries and is no member, or that
    /// it has more of them than were placed.
    pub(crate) fn contradicts(&self, node: NodeId, ledger: LedgerId, open: bool, count: u32) -> bool {
        let written = self.open.iter().find(|open| open.writing.ledger() == ledger);
        written.is_some_and(|written| open && !written.writing.has(node) || count > written.writing.placed())
    }

    /// Opens ledgers on these nodes, so that each is in as many as there are to be copies, and lets those end that stand in
    /// the way of that. None are opened for `usable` nodes that are too few: what has no ledger then waits, until it is said
    /// whether others [are about to come](Self::set_opens_soon).
    pub(crate) fn plan(&mut self, usable: &[NodeId]) {
        let places: Vec<Vec<NodeId>> =
            self.open.iter().filter(|open| Self::is_open(open)).map(|open| open.members.to_vec()).collect();
        let names: Vec<LedgerId> =
            self.open.iter().filter(|open| Self::is_open(open)).map(|open| open.writing.ledger()).collect();
        let rng = &mut self.rng;
        let plan = plan(usable, self.replicas, self.copies_min, &places, &mut |below| rng.random_range(0..below));
        for ledger in plan.close.iter().filter_map(|at| names.get(*at)) {
            self.end(*ledger);
        }
        for members in plan.open {
            self.open_on(&members);
        }
        self.opens_soon = true;
        self.settle_orphans();
        self.wake();
    }

    /// A ledger takes nothing new, and is closed once it is settled.
    pub(super) fn end(&mut self, ledger: LedgerId) {
        let open = self.open.iter_mut().find(|open| open.writing.ledger() == ledger);
        let is_settled = open.is_some_and(|open| {
            open.ends = true;
            open.flights.is_empty()
        });
        if is_settled {
            self.close(ledger);
        }
    }

    fn open_on(&mut self, members: &[NodeId]) {
        let place =
            |member: &NodeId| self.nodes.iter().find(|(_, node)| node.label.id == Some(*member)).map(|found| found.0);
        let Some(places) = members.iter().map(place).collect::<Option<Vec<usize>>>() else { return };
        let ledger = LedgerId { incarnation: Incarnation(self.incarnation()), number: self.next_number };
        self.next_number += 1;
        let (writing, flights) = (Writing::new(ledger, members), std::collections::VecDeque::new());
        self.open.push(OpenLedger { writing, members: members.into(), places, flights, ends: false });
    }

    /// The open ledgers, and their members.
    pub(crate) fn open_ledgers(&self) -> impl Iterator<Item = (LedgerId, &[NodeId])> {
        self.open.iter().map(|open| (open.writing.ledger(), &*open.members))
    }

    /// Ledgers are about to be opened, or will not be: who waits for one goes on waiting, or is told why.
    pub(crate) fn set_opens_soon(&mut self, soon: bool, hindrance: String) {
        self.hindrance = hindrance;
        self.opens_soon = soon;
        if !soon {
            self.settle_orphans();
            self.wake();
        }
    }

    /// A batch lost its ledger, or its node: another takes it now, or it waits for room, or it is refused.
    pub(super) fn place_again(&mut self, at: usize) {
        let Some(flight) = self.flights.get_mut(at) else { return };
        flight.target = None;
        // Whatever answers for it now is answered for by nobody.
        flight.sending = 0;
        let given_up = flight.suspicion.refusal(self.replicas);
        let messages = flight.batch.messages.clone();
        if let Some(refusal) = given_up {
            return self.settle_refused(at, refusal);
        }
        let (size, longest) = (size(&messages), self.longest(&messages));
        match self.choose(size, longest, false) {
            Some(target) => self.put(at, target),
            None if self.could_take(longest) || self.opens_soon => self.orphans.push_back(at),
            None => {
                let cause = self.flights.get(at).and_then(|flight| flight.cause.clone());
                let refusal = cause.unwrap_or_else(|| self.too_few(longest));
                self.settle_refused(at, refusal);
            }
        }
    }

    /// Gives waiting batches to ledgers that have room now.
    pub(super) fn settle_orphans(&mut self) {
        for _ in 0..self.orphans.len() {
            let Some(flight) = self.orphans.pop_front() else { break };
            self.place_again(flight);
        }
    }

    pub(super) fn wake(&mut self) {
        if self.held {
            self.held = false;
            self.effects.push_back(Effect::Room);
        }
    }

    fn forget(&mut self, at: usize) -> Option<Flight> {
        let flight = self.flights.try_remove(at)?;
        let size = size(&flight.batch.messages);
        self.counters.in_flight -= size.messages as u64;
        self.counters.in_flight_bytes -= size.bytes;
        Some(flight)
    }

    pub(super) fn settle_kept(&mut self, at: usize) {
        let Some(flight) = self.forget(at) else { return };
        let count = u64::from(flight.batch.messages.count());
        self.counters.acked += count;
        let places: Vec<usize> = match flight.target {
            Some(Target::Text(place)) => vec![place],
            Some(Target::Ledger(ledger)) => self
                .open
                .iter()
                .find(|open| open.writing.ledger() == ledger)
                .map(|open| open.places.clone())
                .unwrap_or_default(),
            None => Vec::new(),
        };
        let nodes: Vec<_> = places.iter().filter_map(|place| self.nodes.get(*place)).collect();
        let sync = nodes.iter().map(|node| node.sync).max().unwrap_or(SyncMode::Never);
        let nodes: Vec<Rc<str>> = nodes.into_iter().map(|node| Rc::clone(&node.label.ip)).collect();
        if nodes.len() < self.replicas {
            self.counters.short += count;
        }
        self.effects.push_back(Effect::Kept { batch: flight.batch, nodes, sync });
    }

    fn settle_refused(&mut self, at: usize, refusal: Refusal) {
        let Some(flight) = self.forget(at) else { return };
        self.counters.refused += u64::from(flight.batch.messages.count());
        self.effects.push_back(Effect::Refused { batch: flight.batch, refusal });
    }

    /// Why a batch is not kept: there is no node, or none that can write or takes a message of that length, or fewer than have
    /// to keep it.
    pub(super) fn too_few(&self, longest: usize) -> Refusal {
        if self.nodes.is_empty() {
            let text = "no hay dataNodes; start one with 'acopio data --head <this head>', then send again";
            return Refusal::new(Code::NoNodes, text);
        }
        let (registered, able, wanted) = (self.nodes.len(), self.able(), self.copies_min);
        if self.nodes.iter().all(|(_, node)| node.leaving) {
            let text = "all dataNodes are leaving; start another, then send again";
            return Refusal::new(Code::NoNodes, text);
        }
        if self.nodes.iter().any(|(_, node)| node.takes_text(0))
            && !self.nodes.iter().any(|(_, node)| node.takes_text(longest))
        {
            let most = self.nodes.iter().filter_map(|(_, node)| node.message_bytes).max().unwrap_or(0);
            let text = format!(
                "the message is sent as {longest} bytes to dataNodes that speak text, and {most} are the most that they \
                 are sent; send shorter ones, start 'acopio data', or raise --node-bytes"
            );
            return Refusal::new(Code::TooLong, text);
        }
        if able == 0 {
            let text = format!(
                "none of the {registered} dataNodes can write; see 'acopio status' for the cause, then send again"
            );
            return Refusal::new(Code::DiskFull, text);
        }
        if able >= wanted {
            return Refusal::new(Code::NoNodes, self.hindrance.clone());
        }
        let text = format!(
            "{wanted} copies have to be kept and {able} can be; start more dataNodes or lower --min-copies, then send again"
        );
        Refusal::new(Code::NoNodes, text)
    }
}
