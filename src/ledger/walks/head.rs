//! What a head does in a walk: frames, rounds, ledgers, clients, reads.

use std::collections::BTreeSet;

use super::super::entries::EntrySet;
use super::super::heard::{Order, Registered};
use super::super::held::Report;
use super::super::id::{LedgerId, NodeId};
use super::super::plan::plan;
use super::super::planted::{self, Planted};
use super::super::reading::Reading;
use super::super::writing::Writing;
use super::world::{Down, Head, Message, Read, Up, World};

impl World {
    pub(super) fn machine_of(&self, node: NodeId) -> Option<usize> {
        self.machines.iter().position(|machine| machine.id == node)
    }

    /// The connection of this head that a node registered on.
    fn link_of(&self, h: usize, node: NodeId) -> Option<usize> {
        self.links
            .iter()
            .find(|((head, _), link)| *head == h && link.node == node && link.head_up)
            .map(|((_, m), _)| *m)
    }

    fn send_down(&mut self, h: usize, node: NodeId, frame: Down) {
        if let Some(m) = self.link_of(h, node)
            && let Some(link) = self.links.get_mut(&(h, m)).filter(|link| link.node_up)
        {
            link.down.push_back(frame);
        }
    }

    /// The head's end of a connection breaks.
    pub(super) fn break_head(&mut self, h: usize, m: usize) {
        let Some(link) = self.links.get_mut(&(h, m)).filter(|link| link.head_up) else { return };
        link.head_up = false;
        link.up.clear();
        let node = link.node;
        self.heads[h].heard.lost(node, std::time::Duration::ZERO);
        if let Some(read) = &mut self.heads[h].read {
            read.reading.lost(node);
            read.asked.remove(&node);
        }
        if !planted::is(Planted::Resume) {
            self.close_where(h, |writing| writing.has(node));
        }
    }

    /// Closes ledgers that are over.
    pub(super) fn close_where(&mut self, h: usize, over: impl Fn(&Writing) -> bool) {
        let head = &mut self.heads[h];
        let (closing, open) =
            std::mem::take(&mut head.writing).into_iter().partition::<Vec<_>, _>(|writing| over(writing));
        head.writing = open;
        for writing in closing {
            let mut closed = writing.close();
            let settled = closed.end;
            if planted::is(Planted::ToldAfterClose) {
                let told = |entry: &u32| {
                    self.content.get(&(closed.ledger, *entry)).is_some_and(|message| self.told.contains(message))
                };
                closed.end = (0..closed.end).take_while(told).count() as u32;
            }
            let head = &mut self.heads[h];
            head.closed.insert(closed.ledger, settled);
            let again: Vec<Message> = head
                .placed
                .iter()
                .filter(|(_, at)| at.0 == closed.ledger && at.1 >= settled)
                .map(|(&message, _)| message)
                .collect();
            for message in again {
                head.placed.remove(&message);
                head.unplaced.insert(message);
            }
            for node in closed.tell {
                self.send_down(h, node, Down::Close { ledger: closed.ledger, end: closed.end, settled: true });
            }
        }
    }

    pub(super) fn take_up(&mut self, h: usize, m: usize) {
        let link = self.links.get_mut(&(h, m)).unwrap();
        let node = link.node;
        let Some(frame) = link.up.pop_front() else { return };
        if !matches!(frame, Up::Want { .. }) {
            self.say(|| format!("m{m}>h{h} {frame:?}"));
        }
        let head = &mut self.heads[h];
        match frame {
            Up::Register { replaces, joins } => {
                let new = Registered { node, name: "n".into(), replaces, writable: true, joins };
                head.heard.registered(new).unwrap();
            }
            Up::Noted(roster) => {
                head.heard.noted(node, roster).unwrap();
                self.roster_read(h);
            }
            Up::Holds { all, reports } => self.holds_came(h, node, all, reports),
            Up::Ack { ledger, up_to } => {
                if let Some(writing) = head.writing.iter_mut().find(|writing| writing.ledger() == ledger) {
                    writing.acked(node, up_to).unwrap();
                }
            }
            Up::Refused { ledger } => self.close_where(h, |writing| writing.ledger() == ledger),
            Up::Want { ledger, entries } => {
                for source in self.heads[h].heard.sources(node, ledger, entries, |_| true) {
                    let Some(from) = self.machine_of(source.node).filter(|&from| self.connected(h, from)) else {
                        continue;
                    };
                    let has = self.machines[from]
                        .folder
                        .lines
                        .get(&ledger)
                        .map(|lines| lines.has.clone())
                        .unwrap_or_default();
                    let entries: Vec<u32> = source.entries.filter(|&entry| has.contains(entry)).collect();
                    self.send_down(h, node, Down::Fetched { ledger, entries });
                }
            }
            Up::Begin { read } => {
                if let Some(open) = head.read.as_mut().filter(|open| open.number == read) {
                    open.reading.begin(node, head.heard.held_by(node));
                }
            }
            Up::Page { read, ledger, has } => {
                let got = self.messages(ledger, &has);
                if let Some(open) = self.heads[h].read.as_mut().filter(|open| open.number == read) {
                    for range in has.ranges() {
                        open.reading.seen(ledger, range);
                    }
                    open.got.extend(got);
                }
            }
            Up::Flushed { round } => head.heard.flushed(node, round),
            Up::End { read } => {
                if let Some(open) = head.read.as_mut().filter(|open| open.number == read) {
                    open.reading.end(node);
                }
            }
        }
    }

    fn holds_came(&mut self, h: usize, node: NodeId, all: bool, reports: Vec<Report>) {
        let mut over: Vec<LedgerId> = Vec::new();
        for report in &reports {
            if let Report::Ledger { ledger, held, .. } = report {
                if held.state != super::super::held::State::Open {
                    over.push(*ledger);
                }
                if let Some(read) = &mut self.heads[h].read {
                    read.reading.let_go(*ledger, held.from);
                }
            }
        }
        self.heads[h].heard.holds(node, all, reports);
        if !planted::is(Planted::Resume) {
            self.close_where(h, |writing| writing.has(node) && over.contains(&writing.ledger()));
        }
    }

    pub(super) fn roster_read(&mut self, h: usize) {
        let Head { heard, read, .. } = &mut self.heads[h];
        if let Some(read) = read {
            read.reading.roster_changed(heard.roster());
        }
    }

    /// A round: what the head decides, and what it sends.
    pub(super) fn round(&mut self, h: usize) {
        let orders = self.heads[h].heard.round(std::time::Duration::ZERO, 100);
        if !orders.is_empty() {
            self.say(|| format!("h{h} orders {orders:?}"));
        }
        self.roster_read(h);
        for order in orders {
            match order {
                Order::Close { node, ledger, end } => {
                    self.send_down(h, node, Down::Close { ledger, end, settled: false });
                }
                Order::Adopt { node, ledger, from, end, settled } => {
                    self.send_down(h, node, Down::Adopt { ledger, from, end, settled });
                }
                Order::Flush { node, round } => self.send_down(h, node, Down::Flush { round }),
                Order::Refuse { node, .. } => {
                    let Some(m) = self.link_of(h, node) else { continue };
                    self.break_head(h, m);
                    if self.machines[m].id == node && self.machines[m].run.is_some() {
                        self.refused(m);
                    }
                }
            }
        }
        self.tell_rosters(h);
        self.plan(h);
    }

    fn tell_rosters(&mut self, h: usize) {
        for m in 0..self.machines.len() {
            let Some(link) = self.links.get_mut(&(h, m)).filter(|link| link.head_up && link.node_up) else { continue };
            let heard = &self.heads[h].heard;
            if let Some(roster) = heard
                .to_note(link.node)
                .filter(|roster| **roster != link.sent && heard.present().any(|node| node == link.node))
            {
                link.sent = roster.clone();
                link.down.push_back(Down::Note(roster.clone()));
            }
        }
    }

    fn plan(&mut self, h: usize) {
        let (usable, opens_on) = (self.heads[h].heard.usables(), self.heads[h].heard.opens_on());
        let Some(opens_on) = opens_on else { return };
        let open: Vec<Vec<NodeId>> = self.heads[h].writing.iter().map(|writing| writing.members().collect()).collect();
        let rng = &mut self.rng;
        let plan =
            plan(&usable, opens_on.members, opens_on.least, &open, &mut |n| rand::RngExt::random_range(rng, 0..n));
        let close: BTreeSet<LedgerId> = plan.close.iter().map(|&at| self.heads[h].writing[at].ledger()).collect();
        self.close_where(h, |writing| close.contains(&writing.ledger()));
        let head = &mut self.heads[h];
        for members in plan.open {
            head.writing.push(Writing::new(LedgerId { incarnation: head.incarnation, number: head.numbers }, &members));
            head.numbers += 1;
        }
    }

    /// A client's message, new or again, goes to a ledger that is drawn.
    pub(super) fn put(&mut self, h: usize, message: Message) {
        let at = self.below(self.heads[h].writing.len());
        let head = &mut self.heads[h];
        let Some(writing) = head.writing.get_mut(at) else { return };
        let (ledger, placed) = (writing.ledger(), writing.place(1).unwrap());
        let members: Vec<NodeId> = writing.members().collect();
        head.unplaced.remove(&message);
        head.placed.insert(message, (ledger, placed.first));
        self.unsent.remove(&message);
        self.content.insert((ledger, placed.first), message);
        self.say(|| format!("h{h} puts {message} as {ledger}/{} on {members:?}", placed.first));
        for &node in &members {
            let named = if placed.opens() { members.clone() } else { Vec::new() };
            self.send_down(h, node, Down::Put { ledger, first: placed.first, members: named });
        }
    }

    /// Messages that are settled, and whose client has not been told.
    pub(super) fn settled(&self, h: usize) -> Vec<Message> {
        let head = &self.heads[h];
        let end = |ledger: LedgerId| {
            let open = head.writing.iter().find(|writing| writing.ledger() == ledger).map(Writing::settled);
            open.or_else(|| head.closed.get(&ledger).copied()).unwrap_or_default()
        };
        head.placed.iter().filter(|(_, at)| at.1 < end(at.0)).map(|(&message, _)| message).collect()
    }

    pub(super) fn tell(&mut self, h: usize, message: Message) {
        self.heads[h].placed.remove(&message);
        self.told.insert(message);
        self.say(|| format!("h{h} tells {message}"));
    }

    pub(super) fn crash_head(&mut self, h: usize) {
        let state = self.heads[h].state.clone();
        let again: Vec<Message> = self.heads[h].placed.keys().chain(&self.heads[h].unplaced).copied().collect();
        self.unsent.extend(again);
        for m in 0..self.machines.len() {
            if let Some(link) = self.links.get_mut(&(h, m)) {
                link.head_up = false;
                link.up.clear();
            }
        }
        self.heads[h] = self.new_head(state);
        self.heads[h].up = false;
    }

    pub(super) fn begin_read(&mut self, h: usize) {
        let reading = Reading::new(self.heads[h].heard.roster());
        let (number, told) = (self.next_read, self.told.clone());
        self.next_read += 1;
        self.heads[h].read = Some(Read { number, reading, told, got: BTreeSet::new(), asked: BTreeSet::new() });
        self.say(|| format!("h{h} begins to read {number}"));
    }

    /// Asks those that were not asked yet.
    pub(super) fn ask(&mut self, h: usize) {
        let head = &self.heads[h];
        let Some(read) = &head.read else { return };
        let number = read.number;
        let next = head.heard.present().find(|node| !read.asked.contains(node));
        if let Some(node) = next {
            self.send_down(h, node, Down::Question { read: number });
            if let Some(read) = &mut self.heads[h].read {
                read.asked.insert(node);
            }
        }
    }

    /// A read at one instant: what the nodes that are connected would answer.
    pub(super) fn read_now(&self, h: usize) -> (super::super::reading::Claim, BTreeSet<Message>) {
        let mut roster = self.heads[h].heard.roster().clone();
        let mut reading = Reading::new(&roster);
        let mut got = BTreeSet::new();
        let mut gone: Vec<(super::super::id::Incarnation, EntrySet)> = Vec::new();
        for m in (0..self.machines.len()).filter(|&m| self.connected(h, m)) {
            let Some(run) = &self.machines[m].run else { continue };
            roster.merge(run.kept.roster()).unwrap();
            let holds = self.holds(m);
            reading.begin(self.machines[m].id, holds.iter().map(|(ledger, held)| (*ledger, held)));
            for (&ledger, lines) in &self.machines[m].folder.lines {
                for range in lines.has.ranges() {
                    reading.seen(ledger, range);
                }
            }
            got.extend(self.messages_of(&self.machines[m].folder));
            reading.end(self.machines[m].id);
            for report in run.kept.all() {
                if let Report::Gone { incarnation, numbers } = report {
                    gone.push((incarnation, EntrySet::from(numbers)));
                }
            }
        }
        reading.roster_changed(&roster);
        let is_gone = |ledger: LedgerId| {
            gone.iter().any(|(of, numbers)| *of == ledger.incarnation && numbers.contains(ledger.number))
        };
        (reading.claim(&is_gone), got)
    }
}
