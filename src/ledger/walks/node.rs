//! What a node does in a walk: frames, commits, crashes, folders.

use std::collections::{BTreeMap, VecDeque};

use super::super::entries::EntrySet;
use super::super::held::Report;
use super::super::id::LedgerId;
use super::super::kept::{Kept, Put};
use super::super::note::{Folded, Lines, Note};
use super::super::planted::{self, Planted};
use super::super::roster::Roster;
use super::world::{Answer, Down, Folder, Run, Taken, Up, World, folded};

impl World {
    /// Notes are written; the urgent ones are synced, and with them all before.
    pub(super) fn write(&mut self, m: usize, notes: Vec<Note>) {
        let folder = &mut self.machines[m].folder;
        for note in notes {
            let urgent = note.is_urgent();
            folder.notes.push(note);
            if urgent {
                folder.synced = folder.notes.len();
            }
        }
    }

    fn send_up(&mut self, h: usize, m: usize, frame: Up) {
        if let Some(link) = self.links.get_mut(&(h, m)).filter(|link| link.node_up && link.head_up) {
            link.up.push_back(frame);
        }
    }

    /// Tells a head what changed.
    pub(super) fn flush(&mut self, h: usize, m: usize) {
        let (Some(run), Some(link)) = (&self.machines[m].run, self.links.get_mut(&(h, m))) else { return };
        if !link.node_up || link.told == run.kept.version() {
            return;
        }
        let reports: Vec<Report> = run.kept.changes(link.told).collect();
        link.told = run.kept.version();
        self.send_up(h, m, Up::Holds { all: false, reports });
    }

    pub(super) fn connect(&mut self, h: usize, m: usize) {
        let (machine, head) = (&self.machines[m], &self.heads[h]);
        let kept = &machine.run.as_ref().unwrap().kept;
        let up = VecDeque::from([
            Up::Register { replaces: machine.replaces, joins: machine.joins },
            Up::Noted(kept.roster().clone()),
            Up::Holds { all: true, reports: kept.all().collect() },
        ]);
        let (node, head, told) = (machine.id, head.incarnation, kept.version());
        let (down, sent) = (VecDeque::new(), Roster::default());
        let link = super::world::Link { node, head, node_up: true, head_up: true, down, up, told, sent };
        self.links.insert((h, m), link);
    }

    /// The node's end of a connection breaks.
    pub(super) fn break_node(&mut self, h: usize, m: usize) {
        let Some(link) = self.links.get_mut(&(h, m)).filter(|link| link.node_up) else { return };
        link.node_up = false;
        link.down.clear();
        let head = link.head;
        if let Some(run) = &mut self.machines[m].run {
            run.answers.retain(|answer| answer.head != h);
            let notes = run.kept.head_lost(head);
            self.write(m, notes);
        }
    }

    pub(super) fn take_down(&mut self, h: usize, m: usize) {
        let frame = self.links.get_mut(&(h, m)).and_then(|link| link.down.pop_front());
        let Some(frame) = frame else { return };
        self.say(|| format!("h{h}>m{m} {frame:?}"));
        let Some(run) = &mut self.machines[m].run else { return };
        match frame {
            Down::Put { ledger, first, members } => {
                match run.kept.put(&Put { ledger, first, count: 1, members: &members }) {
                    Ok(()) => run.queue.push_back(Taken { head: h, ledger, entry: first }),
                    Err((_cause, notes)) => {
                        self.write(m, notes);
                        self.send_up(h, m, Up::Refused { ledger });
                    }
                }
            }
            Down::Close { ledger, end, settled } => match run.kept.close(ledger, end, settled) {
                Ok(notes) => self.write(m, notes),
                Err(_lost) => self.refused(m),
            },
            Down::Adopt { ledger, from, end, settled } => {
                let notes = run.kept.adopt(ledger, from, end, settled);
                self.write(m, notes);
            }
            Down::Note(roster) => {
                let notes = run.kept.noted(&roster).unwrap();
                let roster = run.kept.roster().clone();
                self.write(m, notes);
                // What is over by it is told before it is said to be noted; and all heads are told.
                for h in 0..self.heads.len() {
                    self.flush(h, m);
                    self.send_up(h, m, Up::Noted(roster.clone()));
                }
            }
            Down::Flush { round } => {
                self.flush(h, m);
                self.send_up(h, m, Up::Flushed { round });
            }
            Down::Fetched { ledger, entries } => {
                for entry in entries {
                    self.machines[m].folder.lines.entry(ledger).or_default().has.insert(entry);
                    let notes = self.machines[m].run.as_mut().map(|run| run.kept.fetched(ledger, entry..entry + 1));
                    self.write(m, notes.unwrap_or_default());
                }
            }
            Down::Question { read } => {
                let rest: Vec<LedgerId> = self.machines[m].folder.lines.keys().copied().collect();
                if let Some(run) = &mut self.machines[m].run {
                    run.answers.push(Answer { head: h, read, rest });
                }
                self.flush(h, m);
                self.send_up(h, m, Up::Begin { read });
            }
        }
    }

    /// The next page of an answer, or its end.
    pub(super) fn page(&mut self, m: usize) {
        let Some(run) = &mut self.machines[m].run else { return };
        let Some(answer) = run.answers.first_mut() else { return };
        let (head, read) = (answer.head, answer.read);
        let next = answer.rest.pop();
        if next.is_none() {
            run.answers.remove(0);
        }
        self.flush(head, m);
        let frame = match next {
            Some(ledger) => {
                let has = self.machines[m].folder.lines.get(&ledger).map(|lines| lines.has.clone()).unwrap_or_default();
                Up::Page { read, ledger, has }
            }
            None => Up::End { read },
        };
        self.send_up(head, m, frame);
    }

    /// The oldest entry that was taken is committed, and acknowledged if its ledger is still open.
    pub(super) fn commit(&mut self, m: usize) {
        let Some(Taken { head, ledger, entry }) = self.machines[m].run.as_mut().and_then(|run| run.queue.pop_front())
        else {
            return;
        };
        let lines = self.machines[m].folder.lines.entry(ledger).or_default();
        lines.has.insert(entry);
        lines.counted = lines.counted.max(entry + 1);
        let acknowledge = self.machines[m].run.as_mut().is_some_and(|run| run.kept.committed(ledger, entry..entry + 1));
        let same = self.links.get(&(head, m)).is_some_and(|link| link.head == ledger.incarnation);
        self.say(|| format!("m{m} commits {ledger}/{entry} {acknowledge}"));
        if same && (acknowledge || planted::is(Planted::Resume)) {
            self.send_up(head, m, Up::Ack { ledger, up_to: entry + 1 });
        }
    }

    pub(super) fn want(&mut self, h: usize, m: usize) {
        let Some(run) = &self.machines[m].run else { return };
        let wanted: Vec<_> = run.kept.wanted().collect();
        if let Some((ledger, entries)) = self.pick(&wanted) {
            self.send_up(h, m, Up::Want { ledger, entries });
        }
    }

    pub(super) fn crash(&mut self, m: usize) {
        for h in 0..self.heads.len() {
            if let Some(link) = self.links.get_mut(&(h, m)) {
                link.node_up = false;
                link.down.clear();
            }
        }
        self.machines[m].run = None;
        let unsynced = self.machines[m].folder.notes.len() - self.machines[m].folder.synced;
        let kept = self.below(unsynced + 1);
        let folder = &mut self.machines[m].folder;
        folder.notes.truncate(folder.synced + kept);
        folder.synced = folder.notes.len();
    }

    pub(super) fn restart(&mut self, m: usize) {
        let machine = &mut self.machines[m];
        let kept = Kept::restarted(machine.id, folded(&machine.folder.notes), machine.folder.lines.clone());
        machine.run = Some(Run { kept, queue: VecDeque::new(), answers: Vec::new() });
    }

    /// Another identity begins in a folder: with what is there, or with nothing.
    pub(super) fn replace(&mut self, m: usize, wiped: bool) {
        self.crash(m);
        let id = self.new_id();
        let (old, gone) = (self.machines[m].id, self.messages_of(&self.machines[m].folder));
        self.lose(old, gone);
        self.dead.insert(old);
        let noted = if wiped { Folded::default() } else { folded(&self.machines[m].folder.notes) };
        let machine = &mut self.machines[m];
        let lines = if wiped { BTreeMap::new() } else { std::mem::take(&mut machine.folder.lines) };
        let lines: BTreeMap<LedgerId, Lines> =
            lines.into_iter().map(|(ledger, lines)| (ledger, Lines { has: lines.has, counted: 0 })).collect();
        let (kept, notes) = Kept::replacing(id, noted, lines.clone());
        machine.folder = Folder { notes: Vec::new(), synced: 0, lines };
        machine.replaces = (!wiped).then_some(old);
        (machine.id, machine.rolled, machine.snapshot, machine.joins) = (id, false, None, true);
        machine.run = Some(Run { kept, queue: VecDeque::new(), answers: Vec::new() });
        self.write(m, notes);
    }

    /// It is told that it lost what it acknowledged: right, if its folder is an older one.
    pub(super) fn refused(&mut self, m: usize) {
        if self.machines[m].rolled {
            self.replace(m, false);
        } else if planted::is(Planted::SameIdentity) {
            for h in 0..self.heads.len() {
                self.break_node(h, m);
            }
        } else {
            self.fails(format!("a healthy node is refused: m{m}"));
        }
    }

    /// The log's end is lost: an entry of a ledger that is open or was just taken.
    pub(super) fn lose_tail(&mut self, m: usize) {
        let lines = &self.machines[m].folder.lines;
        let ends: Vec<LedgerId> =
            lines.iter().filter(|(_, lines)| lines.counted > 0).map(|(&ledger, _)| ledger).collect();
        let Some(ledger) = self.pick(&ends) else { return };
        let (id, before) = (self.machines[m].id, self.messages_of(&self.machines[m].folder));
        if !planted::is(Planted::SameIdentity) {
            self.replace(m, false);
        }
        self.crash(m);
        let cut = self.machines[m].folder.lines.get_mut(&ledger).unwrap();
        let last = cut.has.end().saturating_sub(1);
        cut.has.remove(last);
        cut.counted = cut.counted.min(last);
        let left = self.messages_of(&self.machines[m].folder);
        if planted::is(Planted::SameIdentity) {
            // It says that it has lost nothing: so nothing counts as lost.
            return;
        }
        self.lose(id, before.difference(&left).copied());
    }

    pub(super) fn rot(&mut self, m: usize) {
        let lines = &self.machines[m].folder.lines;
        let all: Vec<(LedgerId, u32)> = lines
            .iter()
            .flat_map(|(&ledger, lines)| lines.has.ranges().flatten().map(move |entry| (ledger, entry)))
            .collect();
        let Some((ledger, entry)) = self.pick(&all) else { return };
        let (id, messages) = (self.machines[m].id, self.messages(ledger, &EntrySet::from(entry..entry + 1)));
        self.lose(id, messages);
        self.rotten = true;
        let machine = &mut self.machines[m];
        machine.folder.lines.entry(ledger).or_default().has.remove(entry);
        if let Some(run) = &mut machine.run {
            let notes = run.kept.rotten(ledger, entry..entry + 1);
            self.write(m, notes);
        }
        self.say(|| format!("m{m} {ledger}/{entry} rots"));
    }

    pub(super) fn retain(&mut self, m: usize) {
        let Some(run) = &self.machines[m].run else { return };
        let holds: Vec<LedgerId> = run
            .kept
            .all()
            .filter_map(|report| {
                if let Report::Ledger { ledger, held, .. } = report {
                    held.state.promises().then_some(ledger)
                } else {
                    None
                }
            })
            .collect();
        let Some(ledger) = self.pick(&holds) else { return };
        let end = self.machines[m].folder.lines.get(&ledger).map_or(0, |lines| lines.has.end());
        let from = 1 + self.below(end as usize + 1) as u32;
        let Some(run) = &mut self.machines[m].run else { return };
        let notes = run.kept.let_go(ledger, from);
        let left = run.kept.entries(ledger).cloned().unwrap_or_default();
        self.write(m, notes);
        // Whether or not it could be read still.
        let now = self.machines[m].run.as_ref().and_then(|run| run.kept.held(ledger)).map_or(from, |held| held.from);
        let gone = self.messages(ledger, &EntrySet::from(0..now));
        self.let_go.extend(gone);
        let known = self.machines[m].run.as_ref().is_some_and(|run| run.kept.entries(ledger).is_some());
        let folder = &mut self.machines[m].folder;
        if known {
            folder.lines.entry(ledger).or_default().has = left;
        } else {
            folder.lines.remove(&ledger);
        }
        self.say(|| format!("m{m} lets {ledger} go below {from}"));
    }

    pub(super) fn roll_back(&mut self, m: usize) {
        let Some(old) = self.machines[m].snapshot.take() else { return };
        let lost = &self.messages_of(&self.machines[m].folder) - &self.messages_of(&old);
        let id = self.machines[m].id;
        self.lose(id, lost);
        self.machines[m].folder = old;
        self.machines[m].rolled = true;
    }
}
