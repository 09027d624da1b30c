//! Carries out what is decided about the cluster: who comes in and who leaves, who keeps what, on whom ledgers are opened.
//!
//! One task; a round after every event that may change something, and one every now and then.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::faults::Fault;
use super::registered::NodeEntry;
use super::state::Head;
use crate::ledger::frames;
use crate::ledger::heard::Order;
use crate::ledger::roster::{Copies, Founding};
use crate::limits;
use crate::wire::error::{Code, Refusal};
use crate::wire::frame::Frame;
use crate::wire::ledger::{Incarnation, NodeId};

impl Head {
    /// Decides until the head is dropped.
    pub(crate) async fn run_rounds(self: Rc<Self>) {
        loop {
            // What was asked for meanwhile is not missed: a permit is kept.
            drop(timeout(limits::ROUND_EVERY, self.cluster.dirty.notified()).await);
            self.round().await;
        }
    }

    async fn round(&self) {
        let now = self.started.elapsed();
        self.begin();
        let orders = self.cluster.heard.borrow_mut().round(now, limits::ROUND_LEDGERS_MAX);
        let more = orders.len() >= limits::ROUND_LEDGERS_MAX;
        for order in orders {
            self.carry_out(order);
        }
        self.drains_on();
        let is_saved = self.cluster.save().await;
        self.tell_rosters();
        self.follow_copies();
        if is_saved {
            self.open_ledgers(now);
        } else {
            self.core_mut(|core| core.set_opens_soon(false, self.cluster.unsaved()));
            self.apply();
        }
        self.changed.notify_waiters();
        if more {
            self.decide();
        }
    }

    /// Founds a cluster where there is none, and has nodes come in that are here: once there is something to keep. A node that
    /// comes and goes meanwhile kept nothing, and nobody waits for it.
    fn begin(&self) {
        let joins = |node: &Rc<NodeEntry>| node.id.is_some_and(|id| !self.is_leaving(id));
        let joining: Vec<Rc<NodeEntry>> = self.nodes().into_iter().filter(joins).collect();
        let mut heard = self.cluster.heard.borrow_mut();
        if self.cluster.wanted.get() && !heard.roster().is_founded() {
            let founding = Founding { time_ns: self.config.clock.wall_ns(), head: Incarnation(self.incarnation()) };
            let (replicas, least) = (self.config.replicas as u8, self.config.copies_min as u8);
            match heard.found(founding, Copies::founded(replicas, least)) {
                Ok(()) => tracing::info!("a cluster begins: {replicas} copies, at least {least}"),
                Err(why) => tracing::debug!("no cluster begins yet: {why:?}"),
            }
        }
        if !self.cluster.called.get() && heard.short() == 0 {
            return;
        }
        for node in joining.iter().filter(|node| !node.joined.replace(true)) {
            node.id.into_iter().for_each(|id| heard.set_joins(id));
        }
    }

    fn entry_of(&self, node: NodeId) -> Option<Rc<NodeEntry>> {
        self.nodes().into_iter().find(|entry| entry.id == Some(node))
    }

    fn carry_out(&self, order: Order) {
        match order {
            Order::Close { node, ledger, end } => {
                if let Some(entry) = self.entry_of(node) {
                    entry.tell(&Frame::Close { ledger, end, settled: false });
                }
            }
            Order::Adopt { node, ledger, from, end, settled } => {
                if let Some(entry) = self.entry_of(node) {
                    entry.tell(&Frame::Adopt { ledger, entries: from..end, settled });
                }
            }
            Order::Flush { node, round } => {
                if let Some(entry) = self.entry_of(node) {
                    entry.tell(&Frame::Flush(round));
                }
            }
            Order::Refuse { node, ledger, count, settled } => {
                let Some(entry) = self.entry_of(node) else { return };
                let text = format!(
                    "it has {count} entries of ledger {ledger}, and {settled} were acknowledged: its folder was restored \
                     from an older backup, or a file was cut; start it once with --new-id"
                );
                entry.tell(&Frame::Failure(Refusal::new(Code::Storage, text.clone())));
                self.remove(&entry, Fault::None, &text);
            }
        }
    }

    /// Tells each node of the roster what it has not noted and was not told.
    fn tell_rosters(&self) {
        for entry in self.nodes() {
            let Some(node) = entry.id else { continue };
            let heard = self.cluster.heard.borrow();
            if !heard.present().any(|present| present == node) {
                continue;
            }
            let Some(roster) = heard.to_note(node).cloned() else { continue };
            drop(heard);
            let mut told = self.cluster.told.borrow_mut();
            if told.get(&node) != Some(&roster) {
                entry.tell(&Frame::Roster(frames::roster(&roster)));
                told.insert(node, roster);
            }
        }
    }

    /// The cluster's numbers of copies are this head's.
    fn follow_copies(&self) {
        let known = self.heard(|heard| heard.roster().copies().zip(heard.opens_on()));
        let Some((copies, opens_on)) = known else { return };
        self.core_mut(|core| core.set_copies(opens_on.members, opens_on.least));
        let replicas = usize::from(copies.replicas);
        let same = (self.config.replicas, self.config.copies_min) == (replicas, copies.least.into());
        if !same && !self.cluster.differs.replace(true) {
            tracing::warn!(
                "the cluster keeps {replicas} copies, at least {}, and this head was started with {} and {}: it does as the \
                 cluster does; change that with 'acopio copies'",
                copies.least,
                self.config.replicas,
                self.config.copies_min
            );
        } else if same {
            self.cluster.differs.set(false);
        }
    }

    /// Opens ledgers on the nodes that are usable, and lets those end that others are better for.
    fn open_ledgers(&self, now: Duration) {
        let usable = self.heard(crate::ledger::heard::Heard::usables);
        let backoff = self.cluster.backoff.borrow();
        let rested: Vec<NodeId> = usable.iter().copied().filter(|node| backoff.wait(*node, now).is_zero()).collect();
        drop(backoff);
        // Who comes and goes is left alone for a while, unless it is needed.
        let enough = rested.len() >= self.core(super::core::Core::replicas);
        let usable = if enough { rested } else { usable };
        let leaving: Vec<NodeId> =
            self.nodes().iter().filter(|node| node.report.borrow().leaving).filter_map(|node| node.id).collect();
        let usable: Vec<NodeId> = usable.into_iter().filter(|node| !leaving.contains(node)).collect();
        self.core_mut(|core| core.plan(&usable));
        self.expect_ledgers();
        self.apply();
    }

    /// Messages wait while no ledger is open and there are enough nodes for one: those note who is in the cluster first.
    pub(super) fn expect_ledgers(&self) {
        let soon = self.ledgers_come();
        let hindrance = if self.cluster.waits.get().is_some() { self.hindrance() } else { String::new() };
        self.core_mut(|core| core.set_opens_soon(soon, hindrance));
    }

    /// Why no ledger is opened though there are nodes: for a client, who may do something about it.
    fn hindrance(&self) -> String {
        let away: Vec<String> =
            self.members_away().into_iter().take(limits::AWAITED_NAMED_MAX).map(|away| away.name).collect();
        if away.is_empty() {
            return "the dataNodes have not noted yet who is in the cluster; send again, and see 'acopio status' if that lasts"
                .to_owned();
        }
        format!(
            "no dataNode is taken in while those of the cluster are away: start {} again, or give up what never comes back \
             with 'acopio drain NAME --gone', then send again",
            away.join(", ")
        )
    }

    /// Whether none is open and that will be over soon.
    fn ledgers_come(&self) -> bool {
        let waits = self.cluster.wanted.get() && self.core(super::core::Core::lacks_ledgers);
        let since = if waits { Some(self.cluster.waits.get().unwrap_or_else(Instant::now)) } else { None };
        self.cluster.waits.set(since);
        since.is_some_and(|since| since.elapsed() < limits::OPEN_TIME_MAX)
    }
}
