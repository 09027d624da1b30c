//! What has to hold in each state of a walk, and where it comes to rest.

use std::collections::BTreeSet;

use super::super::id::NodeId;
use super::super::reading::Claim;
use super::super::roster::Standing;
use super::world::{Message, World};

impl World {
    /// Checks the state; a violation is kept.
    pub(super) fn check(&mut self) {
        // A folder that was replaced by an older one breaks the assumption that an identity loses nothing, until it is found
        // out and refused.
        if self.violation.is_some() || self.machines.iter().any(|machine| machine.rolled) {
            return;
        }
        let there = self.there();
        let violation = self.kept(&there).or_else(|| self.complete(&there));
        if let Some(violation) = violation {
            self.fails(violation);
        }
    }

    fn out(&self) -> BTreeSet<NodeId> {
        let all = self.rosters();
        all.identities()
            .filter(|(_, record)| record.generation.standing() == Standing::Out)
            .map(|(node, _)| node)
            .collect()
    }

    /// What each identity has.
    fn there(&self) -> Vec<(NodeId, BTreeSet<Message>)> {
        self.machines.iter().map(|machine| (machine.id, self.messages_of(&machine.folder))).collect()
    }

    /// Rule 1: what a client was told of is on M identities of the roster, or was and they lost it.
    fn kept(&self, there: &[(NodeId, BTreeSet<Message>)]) -> Option<String> {
        if self.told.is_empty() {
            return None;
        }
        let (out, least) = (self.out(), usize::from(self.setup.least));
        for message in self.told.difference(&self.let_go) {
            let (held, none) = (holders(there, *message), BTreeSet::new());
            let lost = self.lost.get(message).unwrap_or(&none);
            let excused = lost.intersection(&out).next().is_some() && lost.len() >= least;
            let on = held.union(lost).filter(|node| !out.contains(node)).count();
            if on < least && !excused {
                return Some(format!("message {message}: told, on {held:?}, lost by {lost:?}, out {out:?}"));
            }
            if held.is_empty() && lost.len() < least {
                return Some(format!("message {message}: told and nowhere"));
            }
        }
        None
    }

    /// Messages that no read owes: enough of those that kept them lost them.
    fn excused(&self, there: &[(NodeId, BTreeSet<Message>)]) -> BTreeSet<Message> {
        if self.lost.is_empty() {
            return BTreeSet::new();
        }
        let (out, least) = (self.out(), usize::from(self.setup.least));
        let much = |message: &Message, lost: &BTreeSet<NodeId>| {
            let nowhere = holders(there, *message).is_empty();
            nowhere && (lost.is_disjoint(&out) || lost.len() >= least) || lost.intersection(&out).count() >= least
        };
        self.lost.iter().filter(|(message, lost)| much(message, lost)).map(|(&message, _)| message).collect()
    }

    /// Rule 2: what claims to be complete is.
    fn complete(&mut self, there: &[(NodeId, BTreeSet<Message>)]) -> Option<String> {
        let excused = &self.excused(there) | &self.let_go;
        for h in 0..self.heads.len() {
            if !self.heads[h].up {
                continue;
            }
            let (claim, got) = self.read_now(h);
            let lacks = &(&self.told - &got) - &excused;
            if claim == Claim::Complete {
                self.claims += 1;
                if !lacks.is_empty() {
                    return Some(format!("h{h} claims to be complete without {lacks:?}"));
                }
            }
            let heard = &self.heads[h].heard;
            if let Some(read) = &self.heads[h].read
                && read.reading.claim(&|ledger| heard.is_gone(ledger)) == Claim::Complete
            {
                self.claims += 1;
                let lacks = &(&read.told - &read.got) - &excused;
                if !lacks.is_empty() {
                    return Some(format!("the read {} at h{h} claims to be complete without {lacks:?}", read.number));
                }
            }
        }
        None
    }

    /// Goes on without faults until nothing happens any more. Returns for how long that has been so.
    fn settle_down(&mut self) -> u32 {
        let mut quiet = 0;
        for _ in 0..400 {
            let before = self.count;
            self.settle();
            self.check();
            quiet = if self.count == before { quiet + 1 } else { 0 };
            if self.violation.is_some() || quiet > 2 {
                break;
            }
        }
        quiet
    }

    /// Where M or more are given up, a person has to say that what they alone had is lost. Whether there was any such.
    fn give_up_what_was_lost(&mut self) -> bool {
        let least = usize::from(self.setup.least);
        let mut said = false;
        for head in &mut self.heads {
            let roster = head.heard.roster();
            let is_given_up = |node: &NodeId| roster.generation(*node).standing() == Standing::GivenUp;
            let given_up: Vec<NodeId> = roster.who_counts().filter(is_given_up).collect();
            if given_up.len() >= least {
                said |= given_up.into_iter().filter(|node| head.heard.lose(*node).is_ok()).count() > 0;
            }
        }
        said
    }

    /// Nothing fails any more: does it come to rest, with R holders, nothing short, and complete reads?
    pub(super) fn rest(&mut self) {
        if self.violation.is_some() || self.machines.iter().any(|machine| machine.rolled) {
            return;
        }
        self.say(|| "rest".into());
        for head in &mut self.heads {
            head.read = None;
        }
        let mut quiet = self.settle_down();
        if self.violation.is_none() && self.give_up_what_was_lost() {
            quiet = self.settle_down();
        }
        if self.violation.is_some() {
            return;
        }
        let least = usize::from(self.setup.least);
        // Rot in an entry that only one node ever got is named as lacking, acknowledged or not.
        let much = self.rotten || self.lost.values().any(|lost| lost.len() >= least);
        if quiet <= 2 && !much {
            return self.fails("at rest it never is".into());
        }
        let runs = self.machines.iter().filter_map(|machine| machine.run.as_ref());
        let wanted: Vec<_> = runs.flat_map(|run| run.kept.wanted()).collect();
        if !wanted.is_empty() && !much {
            return self.fails(format!("at rest {wanted:?} is wanted"));
        }
        for h in 0..self.heads.len() {
            let (claim, got) = self.read_now(h);
            let excused = &self.excused(&self.there()) | &self.let_go;
            let lacks = &(&self.told - &got) - &excused;
            if !lacks.is_empty() && !much {
                return self.fails(format!("at rest h{h} does not read {lacks:?}"));
            }
            let heard = &self.heads[h].heard;
            let ins = heard.present().filter(|&node| heard.roster().generation(node).gets_ledgers()).count();
            // Where fewer than R are in, those that leave can't go out.
            let enough = ins >= self.setup.replicas.into();
            if claim != Claim::Complete && enough && !much {
                return self.fails(format!("at rest h{h}: {claim:?}"));
            }
            if heard.short() > 0 && enough && !much {
                return self.fails(format!("at rest h{h} is short of {}", heard.short()));
            }
        }
    }

    /// One round in which everything goes on that can.
    fn settle(&mut self) {
        let (heads, machines) = (self.heads.len(), self.machines.len());
        for h in 0..heads {
            self.heads[h].up = true;
            let dead: Vec<NodeId> = self.dead.iter().copied().collect();
            for node in dead {
                // A person's word; refused while it is here, or if it is given up or unknown already.
                if self.heads[h].heard.give_up(node).is_ok() {
                    self.say(|| format!("h{h} gives {node} up"));
                }
            }
        }
        for m in 0..machines {
            if self.machines[m].run.is_none() {
                self.restart(m);
                self.say(|| format!("m{m} starts"));
            }
            for h in 0..heads {
                if !self.connected(h, m) {
                    self.break_node(h, m);
                    self.break_head(h, m);
                    self.connect(h, m);
                    self.say(|| format!("m{m} connects to h{h}"));
                }
            }
        }
        for h in 0..heads {
            for m in 0..machines {
                while self.links.get(&(h, m)).is_some_and(|link| !link.up.is_empty()) {
                    self.take_up(h, m);
                }
            }
            self.round(h);
            for message in self.settled(h) {
                self.tell(h, message);
            }
            let again: Vec<Message> = self.heads[h].unplaced.iter().copied().collect();
            for message in again {
                self.put(h, message);
            }
        }
        for m in 0..machines {
            for h in 0..heads {
                while self.links.get(&(h, m)).is_some_and(|link| !link.down.is_empty()) {
                    self.take_down(h, m);
                }
                self.want(h, m);
            }
            while self.machines[m].run.as_ref().is_some_and(|run| !run.queue.is_empty()) {
                self.commit(m);
            }
            for h in 0..heads {
                self.flush(h, m);
            }
        }
    }

    /// The cluster is founded at the first head; both come to know it.
    pub(super) fn begin(&mut self) {
        for _ in 0..3 {
            self.settle();
        }
        let copies = super::super::roster::Copies::founded(self.setup.replicas, self.setup.least);
        let founding = super::super::roster::Founding { time_ns: 1, head: self.heads[0].incarnation };
        self.heads[0].heard.found(founding, copies).unwrap();
        let state = self.heads[0].heard.roster().clone();
        for _ in 0..8 {
            self.settle();
        }
        for head in &mut self.heads {
            head.state = state.clone();
        }
    }
}

fn holders(there: &[(NodeId, BTreeSet<Message>)], message: Message) -> BTreeSet<NodeId> {
    there.iter().filter(|(_, messages)| messages.contains(&message)).map(|(node, _)| *node).collect()
}
