//! Letting a data node go: it gets no new messages, what it holds is copied elsewhere, and once nobody misses it any more it is
//! told that it may end. Or giving up one that is away for good.
//!
//! The decisions are in `ledger`: the node itself notes that it leaves, so a head that starts anew does not forget it.

use std::net::SocketAddr;

use super::alarms::Log;
use super::state::Head;
use super::unread;
use crate::ledger::frames;
use crate::ledger::heard::{NotChanged, WaitsFor};
use crate::ledger::roster::Standing;
use crate::wire::error::{Code, Refusal};
use crate::wire::frame::Frame;
use crate::wire::ledger::NodeId;

/// What a person asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// The node's name, or its identity in text.
    pub(crate) name: &'a str,
    /// It will not come back.
    pub(crate) gone: bool,
    /// What only it has is given up.
    pub(crate) lose: bool,
    /// Who asks.
    pub(crate) peer: SocketAddr,
}

impl Head {
    /// Begins to move the records of a node away, or gives up one that is away for good.
    ///
    /// # Errors
    /// There is no such node, it cannot be spared, or it is there and was to be given up.
    pub(crate) fn drain(&self, asked: Asked<'_>) -> Result<(), Refusal> {
        if asked.gone { self.give_up(asked) } else { self.let_leave(asked) }
    }

    fn let_leave(&self, Asked { name, peer, .. }: Asked<'_>) -> Result<(), Refusal> {
        let entry = self.nodes().into_iter().find(|entry| {
            entry.id.is_some() && (entry.name == name || entry.id.is_some_and(|id| id.to_string() == name))
        });
        let Some((entry, id)) = entry.and_then(|entry| entry.id.map(|id| (entry, id))) else {
            return Err(self.not_there(name));
        };
        let standing = self.standing(id);
        if matches!(standing, Standing::Leaving | Standing::Out) {
            let line = format!("dataNode {name} is drained already, {} asks for it again", peer.ip());
            self.say(peer.ip(), Log::Info, &line);
            return Ok(());
        }
        if entry.old {
            let text = format!(
                "dataNode {name} keeps records of format 1, of which no copies are made: nobody would miss them; read them \
                 first, then stop it and give it up with --gone"
            );
            return Err(Refusal::new(Code::Protocol, text));
        }
        let others = self.nodes().iter().filter(|other| other.id.is_some_and(|other| other != id)).count();
        if others == 0 {
            let text = format!("no other data node can take the records of {name}; start another, then drain it");
            return Err(Refusal::new(Code::NoNodes, text));
        }
        let wanted = self.core(super::core::Core::replicas);
        if others < wanted {
            let line = format!(
                "without dataNode {name} there are {others} nodes for {wanted} copies: it is let go once there are more"
            );
            self.say(peer.ip(), Log::Warn, &line);
        }
        self.drains.borrow_mut().drained.insert(id);
        let line = format!(
            "dataNode {name} is drained, as {peer} asked: it gets no new messages, and its records go to other nodes"
        );
        self.say(peer.ip(), Log::Info, &line);
        let line = format!("{} disponible name={name} draining asked_by={peer}", entry.ip);
        self.say(peer.ip(), Log::Heartbeat, &line);
        // A node that was never in the roster keeps nothing: it is in first, so that it can leave.
        self.cluster.wanted.set(true);
        self.cluster.called.set(true);
        self.drain_on(id);
        self.decide();
        Ok(())
    }

    /// Has a node note that it leaves, once it is in.
    pub(super) fn drain_on(&self, node: NodeId) {
        let noted = self.cluster.heard.borrow_mut().drain(node);
        match noted {
            Ok(roster) => {
                let entry = self.nodes().into_iter().find(|entry| entry.id == Some(node));
                if let Some(entry) = entry {
                    entry.tell(&Frame::Roster(frames::roster(&roster)));
                }
            }
            Err(why) => tracing::debug!("{node} does not leave yet: {why:?}"),
        }
    }

    fn standing(&self, node: NodeId) -> Standing {
        self.heard(|heard| heard.roster().generation(node).standing())
    }

    fn give_up(&self, asked: Asked<'_>) -> Result<(), Refusal> {
        let Asked { name, peer, .. } = asked;
        let is_it = |away: &super::cluster::Away| away.name == name || away.node.to_string() == name;
        let away: Vec<_> = self.members_away().into_iter().filter(is_it).collect();
        if away.is_empty() {
            let is_there = self.nodes().iter().any(|node| node.name == name && node.id.is_some());
            if self.is_out(name) {
                if is_there {
                    let text = format!(
                        "the dataNode {name} that was away is given up already; one of that name is registered"
                    );
                    return Err(Refusal::new(Code::Protocol, text));
                }
                self.say(
                    peer.ip(),
                    Log::Info,
                    &format!("dataNode {name} is given up already, {} asks again", peer.ip()),
                );
                return Ok(());
            }
            if is_there {
                let text = format!("dataNode {name} is registered; drain it without --gone, and nothing is lost");
                return Err(Refusal::new(Code::Protocol, text));
            }
            return if self.give_up_unread(name, peer)? { Ok(()) } else { Err(self.not_there(name)) };
        }
        for away in &away {
            self.give_up_one(away.node, name, asked.lose)?;
        }
        let line = format!(
            "dataNode {name} is given up, as {peer} asked: what it kept is copied from others, and nobody waits for it then"
        );
        self.say(peer.ip(), Log::Warn, &line);
        self.say(peer.ip(), Log::Heartbeat, &format!("{name} gone asked_by={peer}"));
        self.decide();
        Ok(())
    }

    /// Whether an identity is out that has this name, or is named so, whatever else has the name.
    fn is_out(&self, name: &str) -> bool {
        self.heard(|heard| {
            heard.roster().identities().any(|(node, record)| {
                record.generation.standing() == Standing::Out && (*record.name == *name || node.to_string() == name)
            })
        })
    }

    fn give_up_one(&self, node: NodeId, name: &str, lose: bool) -> Result<(), Refusal> {
        let mut heard = self.cluster.heard.borrow_mut();
        match heard.give_up(node) {
            Ok(()) | Err(NotChanged::Standing(Standing::GivenUp)) => {}
            Err(why) => {
                let text = format!("dataNode {name} can't be given up: {why:?}");
                return Err(Refusal::new(Code::Protocol, text));
            }
        }
        drop(heard);
        if lose {
            self.drains.borrow_mut().lost.insert(node);
        }
        Ok(())
    }

    /// Gives up what those had alone that are given up, where enough of the others have noted that they are.
    fn lose(&self) {
        let lost: Vec<NodeId> = self.drains.borrow().lost.iter().copied().collect();
        for node in lost {
            let through = self.cluster.heard.borrow_mut().lose(node);
            if matches!(through, Ok(()) | Err(NotChanged::Standing(_))) {
                self.drains.borrow_mut().lost.remove(&node);
            }
        }
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
        let known = self.members_away().iter().any(|away| away.name == name);
        let text = if known {
            format!("dataNode {name} is away; start it again and drain it then, or give it up with --gone")
        } else {
            let names: Vec<String> = self.nodes().iter().map(|node| node.name.clone()).collect();
            format!("no data node {name:?} that can be drained; there are: {}", names.join(", "))
        };
        Refusal::new(Code::Protocol, text)
    }

    /// Whether a node leaves or has left on this connection, by this head's word or by another's: it is not taken in again.
    /// Who was never in comes in first, so that it can leave.
    pub(super) fn is_leaving(&self, node: NodeId) -> bool {
        let standing = self.standing(node);
        if standing == Standing::Leaving {
            self.drains.borrow_mut().drained.insert(node);
        }
        let leaves = self.drains.borrow().contains(node) || self.cluster.left.borrow().contains(&node);
        leaves && standing != Standing::Unknown
    }

    /// Goes on with drains: nodes that are in by now note that they leave, and those that are out are let go.
    pub(super) fn drains_on(&self) {
        self.lose();
        let drained: Vec<NodeId> = self.drains.borrow().drained.iter().copied().collect();
        for node in drained {
            match self.standing(node) {
                Standing::In | Standing::New => self.drain_on(node),
                Standing::Out => {
                    self.drains.borrow_mut().drained.remove(&node);
                    if let Some(entry) = self.nodes().into_iter().find(|entry| entry.id == Some(node)) {
                        self.cluster.left.borrow_mut().insert(node);
                        self.say(entry.ip, Log::Info, &format!("dataNode {} is drained and let go", entry.name));
                        self.say(entry.ip, Log::Heartbeat, &format!("{} drained name={}", entry.ip, entry.name));
                    }
                }
                Standing::Leaving | Standing::GivenUp | Standing::Unknown => {}
            }
        }
    }

    /// What a change of the copies waits for, and what to do about it.
    fn waits_for(&self) -> String {
        self.heard(|heard| {
            let name = |node: NodeId| {
                let known = heard.roster().identities().find(|(id, _)| *id == node);
                known.map_or_else(|| node.to_string(), |(_, record)| record.name.to_string())
            };
            match heard.change_waits_for() {
                Some(WaitsFor::Nodes(nodes)) if nodes.is_empty() => {
                    "there are not enough dataNodes; start more of them, then ask again".to_owned()
                }
                Some(WaitsFor::Nodes(nodes)) => {
                    let names: Vec<String> = nodes.into_iter().map(name).collect();
                    format!(
                        "{} did not note it; start what is away, or give up what never comes back with 'acopio drain \
                         NAME --gone', then ask again",
                        names.join(", ")
                    )
                }
                Some(WaitsFor::Ledger(ledger)) => {
                    format!(
                        "ledger {ledger} has not as many copies yet; ask again when 'acopio status' shows none short"
                    )
                }
                None => "it is about to be; ask again".to_owned(),
            }
        })
    }

    /// Changes how many copies the cluster keeps.
    ///
    /// # Errors
    /// They make no sense, or the change before is not through.
    pub(crate) fn change_copies(&self, replicas: u8, least: u8, peer: SocketAddr) -> Result<(), Refusal> {
        let changed = self.cluster.heard.borrow_mut().change_copies(replicas, least);
        changed.map_err(|why| {
            let text = match why {
                NotChanged::Copies => format!(
                    "{replicas} copies, at least {least}, make no sense: say 1 to 8, and no more at least than in all"
                ),
                NotChanged::Worn => {
                    "a dataNode said that they were changed 1,000,000,000 times, the most there can be; found \
                     another cluster, without it"
                        .to_owned()
                }
                NotChanged::NotThrough => format!("the change before this one is not through: {}", self.waits_for()),
                NotChanged::TooFew { .. } => {
                    "nothing was kept in this cluster yet: start heads with --replicas and --min-copies".to_owned()
                }
                other => format!("the number of copies can't be changed: {other:?}"),
            };
            Refusal::new(Code::Protocol, text)
        })?;
        self.say(
            peer.ip(),
            Log::Warn,
            &format!("{replicas} copies are kept from now on, at least {least}, as {peer} asked"),
        );
        self.decide();
        Ok(())
    }
}
