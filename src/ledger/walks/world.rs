//! The world of a walk: machines with folders, heads, connections whose ends break apart, and what really happened.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::super::entries::EntrySet;
use super::super::heard::Heard;
use super::super::held::{Held, Report};
use super::super::id::{Incarnation, LedgerId, NodeId};
use super::super::kept::Kept;
use super::super::note::{Folded, Lines, Note};
use super::super::reading::Reading;
use super::super::roster::Roster;
use super::super::writing::Writing;

/// A client's message.
pub(super) type Message = u32;

/// What a walk has to begin with, and how often each fault may come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) machines: usize,
    pub(super) replicas: u8,
    pub(super) least: u8,
    pub(super) messages: Message,
    pub(super) steps: u32,
    /// By the order of `Fault`.
    pub(super) budget: [u8; 11],
}

/// From a head to a node.
#[derive(Clone, Debug)]
pub(super) enum Down {
    Put { ledger: LedgerId, first: u32, members: Vec<NodeId> },
    Close { ledger: LedgerId, end: u32, settled: bool },
    Adopt { ledger: LedgerId, from: u32, end: u32, settled: bool },
    Note(Roster),
    Fetched { ledger: LedgerId, entries: Vec<u32> },
    Question { read: u32 },
    Flush { round: u64 },
}

/// From a node to a head.
#[derive(Clone, Debug)]
pub(super) enum Up {
    Register { replaces: Option<NodeId>, joins: bool },
    Noted(Roster),
    Holds { all: bool, reports: Vec<Report> },
    Ack { ledger: LedgerId, up_to: u32 },
    Refused { ledger: LedgerId },
    Want { ledger: LedgerId, entries: std::ops::Range<u32> },
    Begin { read: u32 },
    Page { read: u32, ledger: LedgerId, has: EntrySet },
    End { read: u32 },
    Flushed { round: u64 },
}

/// A connection. Each end breaks for itself, and what was sent to an end that is there still arrives.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) node: NodeId,
    pub(super) head: Incarnation,
    pub(super) node_up: bool,
    pub(super) head_up: bool,
    pub(super) down: VecDeque<Down>,
    pub(super) up: VecDeque<Up>,
    /// Changes that the head was told.
    pub(super) told: u64,
    pub(super) sent: Roster,
}

/// A node's folder.
#[derive(Clone, Debug, Default)]
pub(super) struct Folder {
    pub(super) notes: Vec<Note>,
    pub(super) synced: usize,
    pub(super) lines: BTreeMap<LedgerId, Lines>,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: usize,
    pub(super) read: u32,
    pub(super) rest: Vec<LedgerId>,
}

#[derive(Debug)]
pub(super) struct Taken {
    pub(super) head: usize,
    pub(super) ledger: LedgerId,
    pub(super) entry: u32,
}

/// A node's process.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) kept: Kept,
    /// Taken and not committed.
    pub(super) queue: VecDeque<Taken>,
    pub(super) answers: Vec<Answer>,
}

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) id: NodeId,
    pub(super) replaces: Option<NodeId>,
    pub(super) joins: bool,
    pub(super) folder: Folder,
    pub(super) run: Option<Run>,
    pub(super) snapshot: Option<Folder>,
    /// Its folder was replaced by an older one.
    pub(super) rolled: bool,
}

#[derive(Debug)]
pub(super) struct Read {
    pub(super) number: u32,
    pub(super) reading: Reading,
    pub(super) told: BTreeSet<Message>,
    pub(super) got: BTreeSet<Message>,
    pub(super) asked: BTreeSet<NodeId>,
}

#[derive(Debug)]
pub(super) struct Head {
    pub(super) incarnation: Incarnation,
    pub(super) heard: Heard,
    pub(super) up: bool,
    pub(super) writing: Vec<Writing>,
    pub(super) numbers: u32,
    /// Where each message is that this head took and has not told its client of.
    pub(super) placed: BTreeMap<Message, (LedgerId, u32)>,
    pub(super) unplaced: BTreeSet<Message>,
    /// Ends of closed ledgers: what is below is settled.
    pub(super) closed: BTreeMap<LedgerId, u32>,
    /// `head.state`: the roster as it was founded.
    pub(super) state: Roster,
    pub(super) read: Option<Read>,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) rng: SmallRng,
    pub(super) setup: Setup,
    pub(super) budget: [u8; 11],
    pub(super) machines: Vec<Machine>,
    pub(super) heads: Vec<Head>,
    pub(super) links: BTreeMap<(usize, usize), Link>,
    pub(super) next_id: u64,
    pub(super) next_incarnation: u32,
    pub(super) next_read: u32,
    pub(super) next_message: Message,
    /// Messages that no head has.
    pub(super) unsent: BTreeSet<Message>,
    pub(super) content: BTreeMap<(LedgerId, u32), Message>,
    pub(super) told: BTreeSet<Message>,
    pub(super) lost: BTreeMap<Message, BTreeSet<NodeId>>,
    pub(super) let_go: BTreeSet<Message>,
    /// Identities that ended.
    pub(super) dead: BTreeSet<NodeId>,
    pub(super) rotten: bool,
    pub(super) claims: u64,
    /// Steps that happened.
    pub(super) count: usize,
    /// What they were; nothing, unless a walk is repeated to show them.
    pub(super) steps: Option<Vec<String>>,
    pub(super) violation: Option<String>,
}

impl World {
    pub(super) fn new(seed: u64, setup: Setup) -> Self {
        let mut world = Self {
            rng: SmallRng::seed_from_u64(seed),
            setup,
            budget: setup.budget,
            machines: Vec::new(),
            heads: Vec::new(),
            links: BTreeMap::new(),
            next_id: 1,
            next_incarnation: 1,
            next_read: 1,
            next_message: 0,
            unsent: BTreeSet::new(),
            content: BTreeMap::new(),
            told: BTreeSet::new(),
            lost: BTreeMap::new(),
            let_go: BTreeSet::new(),
            dead: BTreeSet::new(),
            rotten: false,
            claims: 0,
            count: 0,
            steps: None,
            violation: None,
        };
        for _ in 0..setup.machines {
            world.add_machine();
        }
        for _ in 0..2 {
            let head = world.new_head(Roster::default());
            world.heads.push(head);
        }
        world.begin();
        world
    }

    pub(super) fn say(&mut self, step: impl FnOnce() -> String) {
        self.count += 1;
        if let Some(steps) = &mut self.steps {
            steps.push(step());
        }
    }

    pub(super) fn fails(&mut self, violation: String) {
        self.violation.get_or_insert(violation);
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        self.rng.random_range(0..n.max(1))
    }

    pub(super) fn pick<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        let at = self.below(of.len());
        of.get(at).cloned()
    }

    pub(super) fn new_id(&mut self) -> NodeId {
        self.next_id += 1;
        NodeId(self.next_id - 1)
    }

    pub(super) fn add_machine(&mut self) {
        let id = self.new_id();
        let kept = Kept::restarted(id, Folded::default(), BTreeMap::new());
        let run = Some(Run { kept, queue: VecDeque::new(), answers: Vec::new() });
        let folder = Folder::default();
        self.machines.push(Machine { id, replaces: None, joins: true, folder, run, snapshot: None, rolled: false });
    }

    pub(super) fn new_head(&mut self, state: Roster) -> Head {
        self.next_incarnation += 1;
        Head {
            incarnation: Incarnation(self.next_incarnation - 1),
            heard: Heard::new(state.clone(), std::time::Duration::ZERO),
            up: true,
            writing: Vec::new(),
            numbers: 0,
            placed: BTreeMap::new(),
            unplaced: BTreeSet::new(),
            closed: BTreeMap::new(),
            state,
            read: None,
        }
    }

    /// Both ends are there.
    pub(super) fn connected(&self, h: usize, m: usize) -> bool {
        self.heads[h].up
            && self.machines[m].run.is_some()
            && self.links.get(&(h, m)).is_some_and(|link| link.node_up && link.head_up)
    }

    pub(super) fn messages(&self, ledger: LedgerId, has: &EntrySet) -> BTreeSet<Message> {
        has.ranges().flatten().filter_map(|entry| self.content.get(&(ledger, entry)).copied()).collect()
    }

    /// The messages in a folder.
    pub(super) fn messages_of(&self, folder: &Folder) -> BTreeSet<Message> {
        folder.lines.iter().flat_map(|(&ledger, lines)| self.messages(ledger, &lines.has)).collect()
    }

    pub(super) fn lose(&mut self, node: NodeId, messages: impl IntoIterator<Item = Message>) {
        for message in messages {
            self.lost.entry(message).or_default().insert(node);
        }
    }

    /// The greatest generation that anybody knows of an identity.
    pub(super) fn rosters(&self) -> Roster {
        let mut all = Roster::default();
        for head in &self.heads {
            all.merge(head.heard.roster()).unwrap();
        }
        for machine in &self.machines {
            match &machine.run {
                Some(run) => all.merge(run.kept.roster()).unwrap(),
                None => all.merge(&folded(&machine.folder.notes).roster).unwrap(),
            };
        }
        all
    }

    /// What a node's process says of each ledger.
    pub(super) fn holds(&self, m: usize) -> Vec<(LedgerId, Held)> {
        let reports = self.machines[m].run.iter().flat_map(|run| run.kept.all());
        reports
            .filter_map(
                |report| if let Report::Ledger { ledger, held, .. } = report { Some((ledger, held)) } else { None },
            )
            .collect()
    }
}

pub(super) fn folded(notes: &[Note]) -> Folded {
    let mut folded = Folded::default();
    for note in notes {
        folded.add(note.clone()).unwrap();
    }
    folded
}
