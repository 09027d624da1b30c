//! What all tasks of one head share: the core, the outboxes of its connections, the registro, the list of nodes.
//!
//! Everything runs on one thread, so a task borrows, decides, appends to outboxes and lets go before it waits: no
//! borrow is ever held across an await. The decisions themselves are in [`super::core`].

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::admission::Bearers;
use super::alarms::Log;
use super::book::Book;
use super::cluster::Cluster;
use super::config::Config;
use super::core::{Author, Batch, Core, Effect, Label, NotTaken, Origin};
use super::faults::Fault;
use super::feeds::Feeds;
use super::guests::Places;
use super::live::{Live, Questions};
use super::marks::{Marking, Records};
use super::pages::Open;
use super::readers::Readers;
use super::registered::{Candidate, NodeEntry, NodeLog, NodeSink, word};
use super::registro::Registro;
use super::relayed::Relay;
use super::shelf::Shelf;
use super::takeovers::Takeovers;
use super::visits::Visits;
use crate::ledger::frames::{self, NotARoster};
use crate::ledger::heard::Registered;
use crate::ledger::held::{Report, State};
use crate::limits;
use crate::tokens::Tokens;
use crate::tokens::tries::Tries;
use crate::wire::error::{Code, Refusal};
use crate::wire::frame::{self, Frame, Messages, Numbers, SyncMode};
use crate::wire::id::RecordId;
use crate::wire::ledger::LedgerId;
use crate::wire::status::DevicesSummary;
use crate::wire::text::{DESCONECTADO, NO_DISPONIBLE, NO_HAY_DATANODES};

/// The outcome of one batch, for the session that sent it.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// These nodes keep it: their addresses.
    Kept {
        /// The id of its first message.
        first: RecordId,
        /// The weakest promise among its copies.
        sync: SyncMode,
        /// Where it lies.
        nodes: Vec<Rc<str>>,
    },
    /// Nobody keeps it.
    Refused(Refusal),
}

/// A client session, as the rest of the head sees it: it is told outcomes.
pub(crate) trait Client {
    /// The batch that the session sent under `ticket` has this outcome.
    fn settled(&self, ticket: u64, batch: &Batch, outcome: Outcome);
}

/// Where a client is, and who is told outcomes.
pub(super) type Session = (IpAddr, Rc<dyn Client>);

/// The shared state of one head.
pub(crate) struct Head {
    /// Settings.
    pub(crate) config: Config,
    /// When it started.
    pub(crate) started: Instant,
    core: RefCell<Core>,
    pub(super) registro: RefCell<Registro>,
    /// Client sessions: where each is, and who is told.
    pub(super) clients: RefCell<HashMap<u64, Session>>,
    nodes: RefCell<Vec<Rc<NodeEntry>>>,
    /// Places for clients.
    pub(crate) places: Places,
    /// What came by this head of each source.
    pub(super) devices: RefCell<Live>,
    /// The devices as they were counted for a status, and when.
    pub(super) summary: RefCell<Option<(Instant, DevicesSummary)>>,
    /// Names for addresses.
    pub(super) book: RefCell<Book>,
    /// Who connected of late.
    pub(super) visits: RefCell<Visits>,
    /// Names that were taken over of late.
    pub(super) takeovers: RefCell<Takeovers>,
    /// Who is let in as a client, where tokens are asked for.
    pub(super) tokens: RefCell<Tokens>,
    /// Wrong tokens of late.
    pub(super) tries: RefCell<Tries>,
    /// Connections that have a token.
    pub(super) bearers: RefCell<Bearers>,
    /// What is used of each share.
    pub(super) shares: RefCell<super::shares::Shares>,
    next_session: Cell<u64>,
    room: Notify,
    /// Told at every change of the list of nodes, every pong and every settled queue.
    pub(crate) changed: Notify,
    ranges: RefCell<Vec<(RecordId, u32)>>,
    /// Copies on their way between data nodes.
    pub(super) relay: RefCell<Relay>,
    /// With what it marks and checks records.
    pub(super) records: RefCell<Option<Records>>,
    /// Makes the tags of records.
    pub(super) marking: RefCell<Marking>,
    /// Records of data nodes that were not believed.
    pub(super) refused_records: Cell<u64>,
    /// Nodes that are being drained.
    pub(crate) drains: RefCell<super::drains::Drains>,
    /// What was refused, by the cause.
    pub(super) refusals: RefCell<super::metrics::Refusals>,
    /// Rates for `status`.
    pub(crate) rates: RefCell<super::rates::Rates>,
    /// The cluster as it knows it.
    pub(super) cluster: Cluster,
    /// What all readers share.
    pub(crate) readers: Readers,
    rng: RefCell<SmallRng>,
    /// What was said of it already, so that it is said once.
    pub(crate) alarms: RefCell<super::alarms::Alarms>,
}

impl Head {
    /// The state of a head that has no connection yet.
    #[must_use]
    pub(crate) fn new(config: Config, registro: Registro, shelf: Shelf) -> Self {
        let core = Core::new(config.seed, config.replicas, config.copies_min);
        Self {
            core: RefCell::new(core),
            registro: RefCell::new(registro),
            clients: RefCell::default(),
            nodes: RefCell::default(),
            places: Places::default(),
            devices: RefCell::default(),
            summary: RefCell::default(),
            refusals: RefCell::default(),
            book: RefCell::default(),
            visits: RefCell::default(),
            takeovers: RefCell::default(),
            tokens: RefCell::new(config.admits.tokens.as_ref().map(|(_, tokens)| tokens.clone()).unwrap_or_default()),
            tries: RefCell::default(),
            bearers: RefCell::default(),
            shares: RefCell::default(),
            next_session: Cell::new(1),
            room: Notify::new(),
            changed: Notify::new(),
            ranges: RefCell::default(),
            relay: RefCell::default(),
            records: RefCell::new(config.records.clone()),
            marking: RefCell::default(),
            refused_records: Cell::default(),
            drains: RefCell::default(),
            rates: RefCell::default(),
            cluster: Cluster::open(shelf, config.clock.now(), config.repair_after),
            readers: Readers::default(),
            alarms: RefCell::default(),
            started: Instant::now(),
            // Other bits than the core's.
            rng: RefCell::new(SmallRng::seed_from_u64(!config.seed)),
            config,
        }
    }

    /// Random bits.
    #[must_use]
    pub(crate) fn random(&self) -> u64 {
        self.rng.borrow_mut().random()
    }

    /// The incarnation of this head.
    #[must_use]
    pub(crate) fn incarnation(&self) -> u32 {
        self.core.borrow().incarnation()
    }

    /// The answer to a Hello or a Register: what may be in flight, messages and bytes.
    #[must_use]
    pub(crate) fn welcome(&self, window: (u32, u32)) -> Frame {
        Frame::Welcome {
            incarnation: self.incarnation(),
            window_messages: window.0,
            window_bytes: window.1,
            cluster: self.config.cluster.clone(),
        }
    }

    /// Reads the core: counters and loads.
    pub(crate) fn core<T>(&self, read: impl FnOnce(&Core) -> T) -> T {
        read(&self.core.borrow())
    }

    /// Asks the core for something that has no effects.
    pub(crate) fn core_mut<T>(&self, ask: impl FnOnce(&mut Core) -> T) -> T {
        ask(&mut self.core.borrow_mut())
    }

    // ---- clients ----

    /// A serial number for a session.
    pub(crate) fn next_session(&self) -> u64 {
        let session = self.next_session.get();
        self.next_session.set(session + 1);
        session
    }

    /// A client that sends messages from now on, until what this returns is dropped: then outcomes of what it had in flight
    /// go to the registro only.
    pub(crate) fn enter(&self, session: u64, ip: IpAddr, client: Rc<dyn Client>) -> Entered<'_> {
        self.clients.borrow_mut().insert(session, (ip, client));
        Entered { head: self, session }
    }

    /// Places messages, waiting while every window is full.
    ///
    /// # Errors
    /// Nobody can keep them: tell the client.
    pub(crate) async fn store(
        &self,
        author: Author,
        first_seq: u64,
        messages: &Messages,
        origin: Origin,
    ) -> Result<(), Refusal> {
        loop {
            let room = self.room.notified();
            let taken = match self.registro_refusal() {
                Some(refusal) => {
                    self.core.borrow_mut().count_refused(messages.count());
                    Err(NotTaken::Refused(refusal))
                }
                None => {
                    let now_ns = self.config.clock.wall_ns();
                    self.want();
                    self.core.borrow_mut().store(now_ns, author, first_seq, messages, origin)
                }
            };
            match taken {
                Ok(()) => {
                    self.apply();
                    return Ok(());
                }
                Err(NotTaken::Hold) => room.await,
                Err(NotTaken::Refused(refusal)) => {
                    let count = u32::from(messages.count());
                    self.note_refused(origin.session, author.client, first_seq, count, &refusal);
                    return Err(refusal);
                }
            }
        }
    }

    /// There is something to keep: the cluster is founded if there is none, and ledgers are opened.
    fn want(&self) {
        let called = self.cluster.called.replace(true);
        if !self.cluster.wanted.replace(true) || !called {
            self.expect_ledgers();
            self.decide();
        }
    }

    /// Waits until a solo head has its embedded node, which takes a moment after the start, or gives up.
    pub(crate) async fn solo_ready(&self) {
        let ready = async {
            loop {
                let changed = self.changed.notified();
                if self.config.solo.is_none() || !self.nodes.borrow().is_empty() {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(limits::HANDSHAKE_TIME_MAX, ready).await.is_err() {
            tracing::warn!("the embedded data node of this solo head has not registered yet");
        }
    }

    // ---- nodes ----

    /// The registered nodes.
    #[must_use]
    pub(crate) fn nodes(&self) -> Vec<Rc<NodeEntry>> {
        self.nodes.borrow().clone()
    }

    /// Takes a data node in.
    ///
    /// # Errors
    /// Its name or identity is taken, the table is full, or this head is solo and it is a stranger.
    pub(crate) fn register(&self, who: Candidate, sink: Rc<dyn NodeSink>) -> Result<Rc<NodeEntry>, Refusal> {
        if let Some(own) = &self.config.solo
            && (who.id.is_none() || who.id != own.get().copied())
        {
            let text = "this head is solo and takes no dataNodes; start it without --solo";
            return Err(Refusal::new(Code::Role, text));
        }
        if who.id.is_none() && self.core(Core::replicas) > 1 {
            let text =
                "dataNodes that speak text keep single copies, and here each message has several; start 'acopio data'";
            return Err(Refusal::new(Code::Role, text));
        }
        for node in self.nodes.borrow().iter() {
            let from = format!("{}:{}", node.ip, node.port);
            if node.id.is_some() && node.id == who.id {
                let text = format!(
                    "the identity of {} is registered from {from} already; one folder serves one dataNode: if this one is a copy, start it with --new-id",
                    who.name
                );
                return Err(Refusal::new(Code::IdTaken, text));
            }
            if node.name == who.name {
                let text =
                    format!("the name {} is registered from {from} already; give this one another --name", who.name);
                return Err(Refusal::new(Code::NameTaken, text));
            }
        }
        self.check_bound(&who)?;
        let ip = who.peer.ip().to_canonical();
        let ip_text: Rc<str> = ip.to_string().into();
        let label = Label { ip: Rc::clone(&ip_text), id: who.id };
        if let Some(node) = who.id {
            let (name, replaces, writable) = (who.name.as_str().into(), who.replaces, who.writable);
            let new = Registered { node, name, replaces, writable, joins: who.old };
            self.cluster.heard.borrow_mut().registered(new).map_err(|still| {
                let text = format!("the connection of {} is not over yet; try again", still.0);
                Refusal::new(Code::IdTaken, text)
            })?;
        }
        let key = self.core.borrow_mut().register(label, who.writable, who.window, who.message_bytes);
        let key = key.inspect_err(|_| {
            who.id.into_iter().for_each(|id| self.cluster.heard.borrow_mut().lost(id, self.started.elapsed()));
        })?;
        let entry = Rc::new(NodeEntry {
            key,
            name: who.name,
            id: who.id,
            old: who.old,
            joined: Cell::new(false),
            ip,
            ip_text,
            port: who.peer.port(),
            dialect: who.dialect,
            since: self.config.clock.now(),
            report: RefCell::new(who.report),
            pulse: RefCell::default(),
            progress: Cell::new(Instant::now()),
            scans: Open::default(),
            telling: RefCell::new(Some(Vec::new())),
            feeds: Feeds::default(),
            questions: Questions::default(),
            refused: Cell::new(0),
            refused_why: Cell::new(""),
            sink,
        });
        entry.sink.accepted(self.incarnation());
        self.nodes.borrow_mut().push(Rc::clone(&entry));
        // What is in flight may have to go to it.
        self.cluster.called.set(self.core(|core| core.counters().in_flight > 0));
        self.expect_ledgers();
        let (ip, name, dialect) = (entry.ip, &entry.name, word(entry.dialect));
        self.say(ip, Log::Heartbeat, &format!("{ip} disponible name={name} registered dialect={dialect}"));
        self.say(ip, Log::Info, &format!("dataNode {name} registered from {ip}:{}", entry.port));
        self.changed.notify_waiters();
        self.apply();
        Ok(entry)
    }

    /// A key that is for one name alone lets nobody speak for another: neither as its identity nor in place of it.
    fn check_bound(&self, who: &Candidate) -> Result<(), Refusal> {
        if !who.bound {
            return Ok(());
        }
        let known =
            |node| self.heard(|heard| heard.name_of(node).filter(|name| **name != *who.name).map(str::to_owned));
        let Some(theirs) = [who.id, who.replaces].into_iter().flatten().find_map(known) else { return Ok(()) };
        let name = &who.name;
        let text = format!(
            "the key of dataNode {name} is for that name alone, and its folder is that of {theirs}; start it as --name \
             {theirs} with the key of that name, with the cluster's key, or with --new-id"
        );
        Err(Refusal::new(Code::Unproven, text))
    }

    /// A node leaves or is evicted: what it had not acknowledged goes to others at once, but for what too many failed at. Only
    /// the first call counts.
    pub(crate) fn remove(&self, entry: &NodeEntry, fault: Fault, cause: &str) {
        let before = self.nodes.borrow().len();
        self.nodes.borrow_mut().retain(|node| node.key != entry.key);
        if self.nodes.borrow().len() == before {
            return;
        }
        if let Some(id) = entry.id {
            let now = self.started.elapsed();
            self.cluster.heard.borrow_mut().lost(id, now);
            if self.core(|core| core.open_ledgers().any(|(_, members)| members.contains(&id))) {
                self.cluster.backoff.borrow_mut().lost(id, now);
            }
            self.note_away(id);
        }
        let moved = self.core.borrow_mut().leave(entry.key, fault, cause);
        entry.sink.cut();
        self.relay_left(entry.key.serial());
        self.decide();
        let (ip, name) = (entry.ip, &entry.name);
        let quiet = cause == STOPPING || cause == LEAVING;
        let word = if quiet { DESCONECTADO } else { NO_DISPONIBLE };
        self.say(ip, Log::Heartbeat, &format!("{ip} {word} name={name} cause={cause:?} in_flight={moved}"));
        if quiet {
            self.say(ip, Log::Info, &format!("dataNode {name} at {ip} is let go: {cause}"));
        } else {
            self.say(ip, Log::Warn, &format!("dataNode {name} at {ip} evicted: {cause}; {moved} messages in flight"));
        }
        if self.nodes.borrow().is_empty() {
            self.say(ip, Log::Heartbeat, NO_HAY_DATANODES);
        }
        self.changed.notify_waiters();
        self.apply();
    }

    /// A node keeps everything up to this Put: the registro first, then the clients.
    ///
    /// # Errors
    /// The node does not keep to the protocol.
    pub(crate) fn node_acked(&self, entry: &NodeEntry, up_to: u64, sync: SyncMode) -> Result<(), Refusal> {
        entry.progress.set(Instant::now());
        let mut ranges = self.ranges.take();
        ranges.clear();
        let result = self.core.borrow_mut().acked(entry.key, up_to, sync, &mut ranges);
        if !ranges.is_empty() {
            self.note_kept(entry, &ranges);
        }
        self.ranges.replace(ranges);
        self.apply();
        if entry.report.borrow().leaving {
            self.changed.notify_waiters();
        }
        result
    }

    /// A node refused one Put: it goes to another.
    ///
    /// # Errors
    /// The node does not keep to the protocol.
    pub(crate) fn node_refused(&self, entry: &NodeEntry, number: u64, refusal: &Refusal) -> Result<(), Refusal> {
        entry.progress.set(Instant::now());
        let batch = self.core.borrow_mut().refused(entry.key, number, refusal)?;
        if let Some(batch) = batch {
            let cause = format!("{} {}: {}", entry.ip, entry.name, refusal.text);
            let refusal = Refusal { text: cause, ..refusal.clone() };
            let count = u32::from(batch.messages.count());
            self.note_refused(batch.origin.session, batch.client, batch.first_seq, count, &refusal);
        }
        self.apply();
        Ok(())
    }

    /// A node reported on its log.
    pub(crate) fn node_state(&self, entry: &NodeEntry, writable: bool, report: NodeLog) {
        let was = entry.report.borrow().reason.is_empty();
        if was != writable {
            let words = if writable { "writable again".to_owned() } else { format!("read-only: {}", report.reason) };
            let (ip, name) = (entry.ip, &entry.name);
            self.say(ip, Log::Heartbeat, &format!("{ip} disponible name={name} {words}"));
            self.say(ip, Log::Warn, &format!("dataNode {name} at {ip}: {words}"));
        }
        let leaving = entry.report.borrow().leaving;
        entry.report.replace(NodeLog { leaving, ..report });
        if was != writable {
            entry.id.into_iter().for_each(|id| self.cluster.heard.borrow_mut().set_writable(id, writable));
            self.decide();
        }
        // A Put that it refused has told the core that it can't write, whatever it said before.
        self.core.borrow_mut().set_writable(entry.key, writable);
        self.apply();
    }

    /// A node says what it has noted of the roster.
    ///
    /// # Errors
    /// It is greater than a roster may be.
    pub(crate) fn node_noted(&self, entry: &NodeEntry, roster: frame::Roster) -> Result<(), Refusal> {
        let Some(node) = entry.id else { return Ok(()) };
        let refused = |error: NotARoster| Refusal::new(Code::Protocol, error.to_string());
        let roster = frames::of_roster(roster).map_err(refused)?;
        self.cluster.heard.borrow_mut().noted(node, roster).map_err(|error| refused(error.into()))?;
        self.decide();
        Ok(())
    }

    /// A node has told all that it knew when it was asked.
    pub(crate) fn node_flushed(&self, entry: &NodeEntry, round: u64) {
        if let Some(node) = entry.id {
            self.cluster.heard.borrow_mut().flushed(node, round);
            self.decide();
        }
    }

    /// A node says what it keeps: everything when it has registered, then what changed.
    ///
    /// # Errors
    /// It tells more than a head listens to.
    pub(crate) fn node_holds(
        &self,
        entry: &NodeEntry,
        more: bool,
        gone: Vec<Numbers>,
        held: Vec<frame::Held>,
    ) -> Result<(), Refusal> {
        let Some(node) = entry.id else { return Ok(()) };
        let mut reports = frames::reports(gone, held);
        let mut telling = entry.telling.borrow_mut();
        let all = telling.is_some();
        if let Some(told) = telling.as_mut() {
            told.append(&mut reports);
            if told.len() > limits::HOLDS_ALL_MAX {
                return Err(keeps_too_many());
            }
            if more {
                return Ok(());
            }
            reports = std::mem::take(told);
        }
        *telling = None;
        drop(telling);
        let over = |report: &Report| match report {
            Report::Ledger { ledger, held, .. } if held.state != State::Open => Some(*ledger),
            _ => None,
        };
        let over: Vec<LedgerId> = reports.iter().filter_map(over).collect();
        let lies = |report: &&Report| match report {
            Report::Ledger { ledger, held, .. } => {
                let (open, count) = (held.state == State::Open, held.count.max(held.end));
                self.core(|core| core.contradicts(node, *ledger, open, count))
            }
            Report::Gone { .. } => false,
        };
        if let Some(Report::Ledger { ledger, .. }) = reports.iter().find(lies) {
            let text = format!("it says of ledger {ledger}, which this head writes, what is not so; it is closed");
            return Err(Refusal::new(Code::Protocol, text));
        }
        let mut heard = self.cluster.heard.borrow_mut();
        heard.holds(node, all, reports);
        // What comes later has the same bound, or a node could go on for ever.
        if heard.kept_of(node) > limits::HOLDS_ALL_MAX {
            return Err(keeps_too_many());
        }
        drop(heard);
        self.core.borrow_mut().over(node, over);
        self.apply();
        self.decide();
        Ok(())
    }

    /// A node asked for no new messages. True once everything it was sent is settled.
    pub(crate) fn node_leaving(&self, entry: &NodeEntry) -> bool {
        entry.report.borrow_mut().leaving = true;
        let settled = self.core.borrow_mut().set_leaving(entry.key);
        self.apply();
        settled
    }

    /// For how long a node has had messages and settled none.
    pub(crate) fn stalled(&self, entry: &NodeEntry) -> Duration {
        let waits = self.core.borrow().load(entry.key).is_some_and(|load| load.in_flight > 0);
        if waits { entry.progress.get().elapsed() } else { Duration::ZERO }
    }

    /// Sends an in-protocol ping; false if the node does not speak that.
    pub(crate) fn ping(&self, entry: &NodeEntry, n: u64) -> bool {
        entry.sink.ping(n)
    }

    /// Does what the core decided. Called after every event, so the order of events is the order on every socket.
    pub(super) fn apply(&self) {
        loop {
            let Some(effect) = self.core.borrow_mut().next_effect() else { return };
            match effect {
                Effect::Plan => self.decide(),
                Effect::Close { node, ledger, end } => {
                    let entry = self.nodes.borrow().iter().find(|entry| entry.key == node).map(Rc::clone);
                    if let Some(entry) = entry {
                        entry.tell(&Frame::Close { ledger, end, settled: true });
                    }
                }
                Effect::Put { node, place, members, batch } => {
                    let nodes = self.nodes.borrow();
                    if let Some(entry) = nodes.iter().find(|entry| entry.key == node) {
                        let queued = self.core.borrow().load(node).map_or(0, |load| load.in_flight);
                        if queued == u64::from(batch.messages.count()) {
                            entry.progress.set(Instant::now());
                        }
                        entry.sink.put(&batch, place, &members, &self.tags(&batch, place));
                    }
                }
                Effect::Kept { batch, nodes, sync } => {
                    let outcome = match self.registro_refusal() {
                        None => Outcome::Kept { first: batch.first, sync, nodes },
                        Some(refusal) => {
                            // Its nodes keep it and its line waits: whether it counts, its client must not be told.
                            let count = batch.messages.count();
                            self.core.borrow_mut().count_untraced(count);
                            let session = batch.origin.session;
                            self.note_refused(session, batch.client, batch.first_seq, count.into(), &refusal);
                            Outcome::Refused(refusal)
                        }
                    };
                    self.tell(&batch, outcome);
                }
                Effect::Refused { batch, refusal } => {
                    let count = u32::from(batch.messages.count());
                    self.note_refused(batch.origin.session, batch.client, batch.first_seq, count, &refusal);
                    self.tell(&batch, Outcome::Refused(refusal));
                }
                Effect::Room => self.room.notify_waiters(),
            }
        }
    }

    fn tell(&self, batch: &Batch, outcome: Outcome) {
        let client = self.clients.borrow().get(&batch.origin.session).map(|(_, client)| Rc::clone(client));
        if let Some(client) = client {
            client.settled(batch.origin.ticket, batch, outcome);
        }
    }
}

/// A client that is told outcomes.
pub(crate) struct Entered<'a> {
    head: &'a Head,
    session: u64,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.head.clients.borrow_mut().remove(&self.session);
    }
}

/// A node leaves because the head stops.
pub(crate) const STOPPING: &str = "the head stops";

/// A node leaves because it was asked to.
pub(crate) const LEAVING: &str = "it leaves in order";

fn keeps_too_many() -> Refusal {
    Refusal::new(Code::Protocol, format!("it keeps something of more than {} ledgers", limits::HOLDS_ALL_MAX))
}
