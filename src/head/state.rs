//! What all tasks of one head share: the core, the outboxes of its connections, the registro, the list of nodes.
//!
//! Everything runs on one thread, so a task borrows, decides, appends to outboxes and lets go before it waits: no
//! borrow is ever held across an await. The decisions themselves are in [`super::core`].

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::book::Book;
use super::cluster::Cluster;
use super::config::Config;
use super::core::Core;
use super::effects::{Author, Batch, Effect, NotTaken, Origin};
use super::guests::{Bearers, Places};
use super::live::Live;
use super::marks::{Marking, Records};
use super::readers::Readers;
use super::registered::NodeEntry;
use super::registro::Registro;
use super::shelf::Shelf;
use super::takeovers::Takeovers;
use super::visits::Visits;
use crate::limits;
use crate::tokens::Tokens;
use crate::tokens::tries::Tries;
use crate::wire::error::Refusal;
use crate::wire::frame::{Frame, Messages, SyncMode};
use crate::wire::id::RecordId;
use crate::wire::status::DevicesSummary;

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
    pub(super) core: RefCell<Core>,
    pub(super) registro: RefCell<Registro>,
    /// Client sessions: where each is, and who is told.
    pub(super) clients: RefCell<HashMap<u64, Session>>,
    /// The registered nodes.
    pub(super) nodes: RefCell<Vec<Rc<NodeEntry>>>,
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
    /// Wrong proofs of the cluster's key of late.
    pub(super) proofs: RefCell<Tries>,
    /// Connections that came of late.
    pub(super) arrivals: RefCell<super::shares::Shares>,
    /// Connections beyond the shares of their addresses of late that were told so.
    pub(super) turned_away: RefCell<Tries>,
    /// Connections that are not let in yet.
    pub(super) knocks: RefCell<super::knocks::Knocks>,
    /// Connections that have a token.
    pub(super) bearers: RefCell<Bearers>,
    /// What is used of each share.
    pub(super) shares: RefCell<super::shares::Shares>,
    /// The same of what is read.
    pub(super) reads: RefCell<super::shares::Shares>,
    next_session: Cell<u64>,
    room: Notify,
    /// Told at every change of the list of nodes, every pong and every settled queue.
    pub(crate) changed: Notify,
    /// Room for what an acknowledgement covers.
    pub(super) ranges: RefCell<Vec<(RecordId, u32)>>,
    /// With what it marks and checks records.
    pub(super) records: RefCell<Option<Records>>,
    /// Makes the tags of records.
    pub(super) marking: RefCell<Marking>,
    /// Records of data nodes that were not believed.
    pub(super) refused_records: Cell<u64>,
    /// Nodes that are being drained.
    pub(crate) drains: RefCell<super::drains::Drains>,
    /// What was refused, by the cause.
    pub(super) refusals: RefCell<super::refusals::Refusals>,
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
            proofs: RefCell::default(),
            arrivals: RefCell::default(),
            turned_away: RefCell::default(),
            knocks: RefCell::default(),
            bearers: RefCell::default(),
            shares: RefCell::default(),
            reads: RefCell::new(super::shares::Shares::bursting(limits::SHARE_READS_BURST)),
            next_session: Cell::new(1),
            room: Notify::new(),
            changed: Notify::new(),
            ranges: RefCell::default(),
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
