//! Letting a data node go: it gets no new messages, the nodes move its records away, and when nothing is short of copies
//! any more it is told that it may end.
//!
//! The table is pure; the steps around it ask the core and tell the nodes. A head that starts anew has forgotten what it
//! drained: `acopio drain` asks it again.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::alarms::Log;
use super::registered::NodeEntry;
use super::state::Head;
use super::unread;
use crate::limits;
use crate::wire::error::{Code, Refusal};
use crate::wire::frame::{Member, MemberState};

/// Reports of one node since something was short, by its identity.
type Calm = BTreeMap<u64, u32>;

/// The nodes that are being drained, by identity.
#[derive(Debug, Default)]
pub(crate) struct Drains(BTreeMap<u64, Calm>);

impl Drains {
    /// Begins with a node; false if that is under way.
    pub(crate) fn begin(&mut self, id: u64) -> bool {
        let begins = !self.0.contains_key(&id);
        self.0.entry(id).or_default();
        begins
    }

    /// Whether a node is being drained.
    #[must_use]
    pub(crate) fn contains(&self, id: u64) -> bool {
        self.0.contains_key(&id)
    }

    /// Forgets a node.
    pub(crate) fn end(&mut self, id: u64) -> bool {
        self.0.remove(&id).is_some()
    }

    /// A node reported; `calm` if by its word nothing keeps the node `drained` here.
    pub(crate) fn reported(&mut self, drained: u64, node: u64, calm: bool) {
        if let Some(seen) = self.0.get_mut(&drained) {
            if calm {
                *seen.entry(node).or_default() += 1;
            } else {
                seen.clear();
            }
        }
    }

    /// Whether all of these nodes have reported often enough that nothing keeps it: their reports began after they knew.
    #[must_use]
    pub(crate) fn is_done(&self, drained: u64, present: impl IntoIterator<Item = u64>) -> bool {
        self.0.get(&drained).is_some_and(|seen| {
            present.into_iter().all(|node| seen.get(&node).copied().unwrap_or(0) >= limits::DRAIN_REPORTS_MIN)
        })
    }

    /// The nodes that are being drained.
    #[must_use]
    pub(crate) fn all(&self) -> Vec<u64> {
        self.0.keys().copied().collect()
    }
}

impl Head {
    /// Begins to move the records of a node away, or gives up one that is away for good.
    ///
    /// # Errors
    /// There is no such node, it cannot be spared, or it is there and was to be given up.
    pub(crate) fn drain(&self, name: &str, gone: bool, peer: SocketAddr) -> Result<(), Refusal> {
        let entry = self.nodes().into_iter().find(|node| node.name == name);
        if gone {
            return self.give_up(name, entry.is_some(), peer);
        }
        let Some((entry, id)) = entry.and_then(|entry| entry.id.map(|id| (entry, id))) else {
            return Err(self.not_there(name));
        };
        // One that was let go leaves in a moment: a drain that began anew would miss it for ever.
        if self.members().iter().any(|member| member.id == id && member.state == MemberState::Gone) {
            return Ok(());
        }
        let others = self.takers(id);
        if others == 0 {
            let text = format!("no other data node can take the records of {name}; start another, then drain it");
            return Err(Refusal::new(Code::NoNodes, text));
        }
        if !self.drains.borrow_mut().begin(id) {
            let line = format!("dataNode {name} is drained already, {} asks for it again", peer.ip());
            self.say(peer.ip(), Log::Info, &line);
            return Ok(());
        }
        if others < self.config.replicas {
            let wanted = self.config.replicas;
            let line = format!(
                "without dataNode {name} there are {others} nodes for {wanted} copies: records stay short of copies until there are more"
            );
            self.say(peer.ip(), Log::Warn, &line);
        }
        let line = format!(
            "dataNode {name} is drained, as {peer} asked: it gets no new messages, and its records go to other nodes"
        );
        self.say(peer.ip(), Log::Info, &line);
        let line = format!("{} disponible name={name} draining asked_by={peer}", entry.ip);
        self.say(peer.ip(), Log::Heartbeat, &line);
        self.drain_on(&entry);
        // At once and in this order: reports that come from now on are soon about it.
        self.nodes().iter().for_each(|node| self.tell_members(node));
        self.changed.notify_waiters();
        Ok(())
    }

    fn give_up(&self, name: &str, is_there: bool, peer: SocketAddr) -> Result<(), Refusal> {
        // One that was wiped is back under its name as another node: it is the old one that is given up.
        let mut away: Vec<Member> = self.members().into_iter().filter(|member| member.name == name).collect();
        away.retain(|member| matches!(member.state, MemberState::Away | MemberState::Gone) || !is_there);
        if away.is_empty() && is_there {
            let text = format!("dataNode {name} is registered; drain it without --gone, and nothing is lost");
            return Err(Refusal::new(Code::Protocol, text));
        }
        if away.is_empty() && self.give_up_unread(name, peer)? {
            return Ok(());
        }
        if away.is_empty() {
            return Err(self.not_there(name));
        }
        for member in away {
            self.drains.borrow_mut().end(member.id);
            self.set_member(member.id, MemberState::Gone);
        }
        let line =
            format!("dataNode {name} is given up, as {peer} asked: nobody waits for it, and its copies are made again");
        self.say(peer.ip(), Log::Warn, &line);
        self.say(peer.ip(), Log::Heartbeat, &format!("{name} gone asked_by={peer}"));
        self.changed.notify_waiters();
        Ok(())
    }

    /// Gives up what a node that speaks text keeps; false if there is no such node.
    fn give_up_unread(&self, name: &str, peer: SocketAddr) -> Result<bool, Refusal> {
        if self.nodes().iter().any(|node| node.id.is_none() && unread::name(node.dialect, node.ip) == name) {
            let text = format!("dataNode {name} is registered, and goes on taking messages; stop it first");
            return Err(Refusal::new(Code::Protocol, text));
        }
        let known = self.forget_unread(name);
        if known {
            let line = format!(
                "dataNode {name} is given up, as {peer} asked: reads do not name it any more; what it keeps is in its own files"
            );
            self.say(peer.ip(), Log::Warn, &line);
        }
        Ok(known)
    }

    fn not_there(&self, name: &str) -> Refusal {
        let known = self.members().iter().any(|member| member.name == name && member.state == MemberState::Away);
        let text = if known {
            format!("dataNode {name} is away; start it again and drain it then, or give it up with --gone")
        } else {
            let names: Vec<String> = self.nodes().iter().map(|node| node.name.clone()).collect();
            format!("no data node {name:?} that can be drained; there are: {}", names.join(", "))
        };
        Refusal::new(Code::Protocol, text)
    }

    /// Nodes that can take records of the node of this identity.
    fn takers(&self, id: u64) -> usize {
        let drains = self.drains.borrow();
        let able = |node: &&std::rc::Rc<NodeEntry>| {
            let other = node.id.is_some_and(|other| other != id && !drains.contains(other));
            other && !node.report.borrow().leaving
        };
        self.nodes().iter().filter(able).count()
    }

    fn drain_on(&self, entry: &NodeEntry) {
        if let Some(id) = entry.id {
            self.set_member(id, MemberState::Draining);
            self.core_mut(|core| core.set_leaving(entry.key));
        }
    }

    /// A node registered: a drain that its loss interrupted goes on.
    pub(crate) fn drain_again(&self, entry: &NodeEntry) {
        if entry.id.is_some_and(|id| self.drains.borrow().contains(id)) {
            self.drain_on(entry);
        }
    }

    /// A node reported on its log: perhaps a drain is over.
    pub(crate) fn drain_reported(&self, reporter: &NodeEntry) {
        let Some(node) = reporter.id else { return };
        let drained = self.drains.borrow().all();
        for id in drained {
            let entry = self.nodes().into_iter().find(|entry| entry.id == Some(id));
            let Some(entry) = entry else { continue };
            let in_flight = self.core(|core| core.load(entry.key)).map_or(0, |load| load.in_flight);
            let enough = self.takers(id) >= self.config.replicas;
            let short = reporter.report.borrow().short > 0;
            let sole = entry.report.borrow().sole > 0;
            // With too few nodes for all copies some record is always short: then one copy elsewhere has to do.
            let calm = in_flight == 0 && !sole && !(enough && short);
            let mut drains = self.drains.borrow_mut();
            drains.reported(id, node, calm);
            let done = calm && drains.is_done(id, self.nodes().iter().filter_map(|node| node.id));
            if done {
                drains.end(id);
                drop(drains);
                self.say(entry.ip, Log::Info, &format!("dataNode {} is drained and let go", entry.name));
                self.say(entry.ip, Log::Heartbeat, &format!("{} drained name={}", entry.ip, entry.name));
                self.set_member(id, MemberState::Gone);
                self.nodes().iter().for_each(|node| self.tell_members(node));
                self.changed.notify_waiters();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_is_over_when_everybody_has_said_so_often_enough() {
        let mut drains = Drains::default();
        assert!(drains.begin(1) && !drains.begin(1));
        let present = || [1, 2, 3];
        for _ in 0..limits::DRAIN_REPORTS_MIN {
            assert!(!drains.is_done(1, present()));
            present().into_iter().for_each(|node| drains.reported(1, node, true));
        }
        assert!(drains.is_done(1, present()));
        assert!(!drains.is_done(1, [1, 2, 3, 4]), "one that came later has not said so");
        drains.reported(1, 3, false);
        drains.reported(1, 3, true);
        assert!(!drains.is_done(1, present()), "all begin again when something is short");
        assert!(!drains.is_done(2, present()) && drains.end(1) && !drains.contains(1));
    }
}
