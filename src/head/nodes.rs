//! Data nodes at a head: they are taken in, let go, and tell what they keep.
//!
//! What is decided about that is in `core` and `crate::ledger`; the connection is `node`'s and `text_node`'s.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::alarms::Log;
use super::core::Core;
use super::effects::Label;
use super::faults::Fault;
use super::questions::Questions;
use super::registered::{Candidate, NodeEntry, NodeLog, NodeSink, word};
use super::state::Head;
use crate::ledger::frames::{self, NotARoster};
use crate::ledger::heard::Registered;
use crate::ledger::held::{Report, State};
use crate::limits;
use crate::wire::error::{Code, Refusal};
use crate::wire::frame::{self, Numbers, SyncMode};
use crate::wire::ledger::LedgerId;
use crate::wire::text::{DESCONECTADO, NO_DISPONIBLE, NO_HAY_DATANODES};

/// A node leaves because the head stops.
pub(crate) const STOPPING: &str = "the head stops";

/// A node leaves because it was asked to.
pub(crate) const LEAVING: &str = "it leaves in order";

impl Head {
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
            scans: Questions::default(),
            telling: RefCell::new(Some(Vec::new())),
            feeds: Questions::default(),
            listings: Questions::default(),
            fetches: Questions::default(),
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
        self.relay_left(entry);
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
}

fn keeps_too_many() -> Refusal {
    Refusal::new(Code::Protocol, format!("it keeps something of more than {} ledgers", limits::HOLDS_ALL_MAX))
}
