//! What one identity has of each ledger and promises of it: the node's side of the protocol.
//!
//! A node promises a ledger from the first entry that it takes as a member, or once it has everything as an adopter. A
//! ledger is over for a member when its connection to the writing head ends, when it refuses an entry, when it is told
//! Close or Adopt, or when it notes that a member leaves; **nothing is ever resumed**. What it lacks below an end it
//! fetches: so one act serves a node that was away, rot, a torn end, and a head that died in the middle of a batch.
//!
//! Operations change what is in memory and return what has to be noted first ([`Note`]): no frame leaves the node before
//! that is written. What changed is told to each head by [`Kept::changes`], **before** any acknowledgement of a roster and
//! any page of a read: a head may let an identity go only when it knows all ledgers of those who noted that it leaves.
//! Files, frames and connections are the callers'.

mod start;
mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::entries::EntrySet;
use super::held::{Held, Report, State};
use super::id::{ENTRIES_MAX, Incarnation, LedgerId, NodeId};
use super::note::Note;
use super::planted::{self, Planted};
use super::roster::{Changes, Roster, TooMany};

/// Why a Put is refused. Whatever the reason, a ledger that was open is over by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotTaken {
    /// It is over here, or was never opened.
    NotOpen,
    /// The entry that is due is another one.
    Gap {
        /// Which.
        due: u32,
    },
    /// Entry 0 of a ledger that is known: two heads drew the same incarnation, and this one has to draw anew.
    Known,
    /// This identity is no member of it.
    NotAMember,
    /// A member leaves, is given up, or is out: it would be written on one that others do not miss.
    Leaves(NodeId),
    /// It has fewer members than each entry is to have copies.
    TooFew {
        /// M, by the roster that is noted here.
        least: usize,
    },
    /// A ledger has no such entry.
    TooLong,
}

/// A settled end is above what this identity counts: it has lost what it acknowledged (an older folder, a file that was
/// cut), and has to become another identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct HasLost {
    /// Of which ledger.
    pub(crate) ledger: LedgerId,
    /// What it counts.
    pub(crate) count: u32,
    /// What was settled.
    pub(crate) settled: u32,
}

/// Entries to take.
#[derive(Clone, Debug)]
pub(crate) struct Put<'a> {
    /// Into which ledger.
    pub(crate) ledger: LedgerId,
    /// The first.
    pub(crate) first: u32,
    /// How many.
    pub(crate) count: u32,
    /// With entry 0: on whom the ledger is opened.
    pub(crate) members: &'a [NodeId],
}

#[derive(Clone, Debug)]
struct Ledger {
    members: Box<[NodeId]>,
    member: bool,
    state: State,
    has: EntrySet,
    /// The next entry that a Put may bring; those below are committed or about to be.
    due: u32,
    /// A member: entries that were committed by Put.
    count: u32,
    from: u32,
    end: u32,
    /// Where it stands among the changes.
    version: u64,
}

impl Ledger {
    fn new(members: Box<[NodeId]>, member: bool, state: State) -> Self {
        Self { members, member, state, has: EntrySet::default(), due: 0, count: 0, from: 0, end: 0, version: 0 }
    }

    /// What is promised or being adopted, but for what was let go.
    const fn owed(&self) -> Range<u32> {
        self.from..self.end
    }

    /// Whether it was told what to fetch.
    fn adopts(&self) -> bool {
        self.state == State::Part && self.end > 0
    }

    fn counts(&self) -> u32 {
        if self.member { self.count.max(self.has.end()) } else { self.has.end() }
    }

    fn held(&self) -> Held {
        let count = self.counts();
        let mut lacking = EntrySet::default();
        for range in self.has.missing(self.from..self.end.max(count)) {
            lacking.insert_range(range);
        }
        let lacking = (!lacking.is_empty()).then(|| Box::new(lacking));
        Held { member: self.member, state: self.state, from: self.from, end: self.end, count, lacking }
    }

    fn report(&self, ledger: LedgerId) -> Report {
        Report::Ledger { ledger, members: self.members.clone(), held: self.held() }
    }

    /// It takes no more: what was taken and committed by now is its end.
    fn over(&mut self, ledger: LedgerId) -> Option<Note> {
        if self.state != State::Open {
            return None;
        }
        self.state = State::Over;
        Some(self.hold(ledger))
    }

    fn hold(&self, ledger: LedgerId) -> Note {
        let settled = self.state == State::Settled;
        let (members, from, end) = (self.members.clone(), self.from, self.end);
        Note::Hold { ledger, members, from, end, settled, urgent: !self.member }
    }
}

/// What an identity keeps and promises.
#[derive(Debug)]
pub(crate) struct Kept {
    me: NodeId,
    roster: Roster,
    ledgers: BTreeMap<LedgerId, Ledger>,
    gone: BTreeMap<Incarnation, EntrySet>,
    open: BTreeSet<LedgerId>,
    wanting: BTreeSet<LedgerId>,
    /// Each ledger once, at its last change.
    log: BTreeMap<u64, LedgerId>,
    version: u64,
}

impl Kept {
    fn empty(me: NodeId, roster: Roster, gone: BTreeMap<Incarnation, EntrySet>) -> Self {
        let (open, wanting) = (BTreeSet::new(), BTreeSet::new());
        Self { me, roster, ledgers: BTreeMap::new(), gone, open, wanting, log: BTreeMap::new(), version: 0 }
    }

    /// Who this is.
    #[must_use]
    pub(crate) const fn me(&self) -> NodeId {
        self.me
    }

    /// What it has noted.
    #[must_use]
    pub(crate) const fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The entries of a ledger that it has.
    #[must_use]
    pub(crate) fn entries(&self, ledger: LedgerId) -> Option<&EntrySet> {
        self.ledgers.get(&ledger).map(|entry| &entry.has)
    }

    /// What it says of a ledger.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn held(&self, ledger: LedgerId) -> Option<Held> {
        self.ledgers.get(&ledger).map(Ledger::held)
    }

    fn is_gone(&self, ledger: LedgerId) -> bool {
        self.gone.get(&ledger.incarnation).is_some_and(|numbers| numbers.contains(ledger.number))
    }

    /// A ledger changed: it is told to heads, and known to be open or wanting or not.
    fn touch(&mut self, ledger: LedgerId) {
        self.version += 1;
        let Some(entry) = self.ledgers.get_mut(&ledger) else {
            self.open.remove(&ledger);
            self.wanting.remove(&ledger);
            self.log.insert(self.version, ledger);
            return;
        };
        self.log.remove(&entry.version);
        entry.version = self.version;
        self.log.insert(self.version, ledger);
        set(&mut self.open, ledger, entry.state == State::Open);
        set(&mut self.wanting, ledger, entry.state != State::Open && !entry.has.covers(entry.owed()));
    }

    /// May these entries be taken? If so they are to be written and synced, then [`committed`](Self::committed). If not,
    /// the ledger is over here, and the notes say so.
    ///
    /// # Errors
    /// Why not, with what has to be noted.
    pub(crate) fn put(&mut self, put: &Put<'_>) -> Result<(), (NotTaken, Vec<Note>)> {
        match self.check(put) {
            Ok(()) => {
                if put.first == 0 {
                    self.ledgers.insert(put.ledger, Ledger::new(put.members.into(), true, State::Open));
                }
                if let Some(entry) = self.ledgers.get_mut(&put.ledger) {
                    entry.due = put.first.saturating_add(put.count);
                }
                if put.first == 0 {
                    self.touch(put.ledger);
                }
                Ok(())
            }
            // Known is not this head's ledger, and goes on.
            Err(NotTaken::Known) => Err((NotTaken::Known, Vec::new())),
            Err(cause) => Err((cause, self.end(put.ledger))),
        }
    }

    fn check(&self, put: &Put<'_>) -> Result<(), NotTaken> {
        if put.count == 0 || u64::from(put.first) + u64::from(put.count) > u64::from(ENTRIES_MAX) {
            return Err(NotTaken::TooLong);
        }
        let known = self.ledgers.get(&put.ledger);
        let members = match known {
            None if self.is_gone(put.ledger) => return Err(NotTaken::Known),
            Some(_) if put.first == 0 => return Err(NotTaken::Known),
            None if put.first > 0 => return Err(NotTaken::NotOpen),
            None => put.members,
            Some(entry) if entry.state != State::Open => return Err(NotTaken::NotOpen),
            Some(entry) if entry.due != put.first => return Err(NotTaken::Gap { due: entry.due }),
            Some(entry) => &entry.members,
        };
        if !members.contains(&self.me) {
            return Err(NotTaken::NotAMember);
        }
        // What was noted before the ledger came counts as what is noted while it is open.
        if let Some(&member) = members.iter().find(|&&member| self.roster.generation(member).ends_ledgers()) {
            return Err(NotTaken::Leaves(member));
        }
        let least = self.roster.copies().map_or(1, |copies| copies.least.into());
        if known.is_none() && members.len() < least {
            return Err(NotTaken::TooFew { least });
        }
        Ok(())
    }

    /// These entries of a Put are synced. Returns whether they may be acknowledged: not if the ledger was over before. Then
    /// they lie there beyond its end, which does no harm.
    #[must_use]
    pub(crate) fn committed(&mut self, ledger: LedgerId, entries: Range<u32>) -> bool {
        let Some(entry) = self.ledgers.get_mut(&ledger) else { return false };
        let open = entry.state == State::Open;
        entry.count = entry.count.max(entries.end);
        if open {
            entry.end = entry.end.max(entries.end);
        }
        entry.has.insert_range(entries.start.max(entry.from)..entries.end.max(entry.from));
        self.touch(ledger);
        open
    }

    fn end(&mut self, ledger: LedgerId) -> Vec<Note> {
        let note = self.ledgers.get_mut(&ledger).and_then(|entry| entry.over(ledger));
        if note.is_some() {
            self.touch(ledger);
        }
        note.into_iter().collect()
    }

    /// These entries of a Put are not kept: the ledger is over here.
    pub(crate) fn refused(&mut self, ledger: LedgerId) -> Vec<Note> {
        self.end(ledger)
    }

    /// All ledgers of which there is something.
    pub(crate) fn ledgers(&self) -> impl Iterator<Item = LedgerId> + '_ {
        self.ledgers.keys().copied()
    }

    /// The ledgers that changed after a version.
    pub(crate) fn changed(&self, after: u64) -> impl Iterator<Item = LedgerId> + '_ {
        self.log.range(after.saturating_add(1)..).map(|(_, &ledger)| ledger)
    }

    /// The connection to this head ended: all that it writes is over here.
    pub(crate) fn head_lost(&mut self, incarnation: Incarnation) -> Vec<Note> {
        if planted::is(Planted::Resume) {
            return Vec::new();
        }
        let lost: Vec<LedgerId> =
            self.open.iter().filter(|ledger| ledger.incarnation == incarnation).copied().collect();
        lost.into_iter().flat_map(|ledger| self.end(ledger)).collect()
    }

    /// Close: the ledger is over, and all acknowledged entries lie below `end`. `settled` is the word of the head that
    /// closes what it wrote; the least end that a head heard of, which it tells as well, is not, even from the same head:
    /// a member may rightly count less than that.
    ///
    /// # Errors
    /// More was settled than is counted here.
    pub(crate) fn close(&mut self, ledger: LedgerId, end: u32, settled: bool) -> Result<Vec<Note>, HasLost> {
        let Some(entry) = self.ledgers.get_mut(&ledger) else { return Ok(Vec::new()) };
        let count = entry.counts();
        if settled && entry.member && count < end {
            return Err(HasLost { ledger, count, settled: end });
        }
        match entry.state {
            State::Settled => return Ok(Vec::new()),
            State::Part => {
                entry.end = end;
                return Ok(self.completed(ledger));
            }
            State::Open | State::Over if settled && entry.member => {
                (entry.state, entry.end) = (State::Settled, end);
            }
            // Of several ends the least counts.
            State::Open | State::Over => (entry.state, entry.end) = (State::Over, entry.end.min(end)),
        }
        let note = entry.hold(ledger);
        self.touch(ledger);
        Ok(vec![note])
    }

    /// Adopt: keep `from..end` of this ledger. `settled` says that another one holds this end as settled, so that it stands
    /// even above the end that is known here.
    pub(crate) fn adopt(&mut self, ledger: LedgerId, from: u32, end: u32, settled: bool) -> Vec<Note> {
        if self.is_gone(ledger) {
            // Tell the head again: nobody owes it.
            self.touch(ledger);
            return Vec::new();
        }
        let me = self.ledgers.entry(ledger).or_insert_with(|| Ledger::new(Box::default(), false, State::Part));
        let before = (me.state, me.from, me.end);
        if me.from < from {
            me.has.remove_range(0..from);
            me.from = from;
        }
        match me.state {
            State::Open => (me.state, me.end) = (State::Over, me.end.min(end)),
            State::Over if settled => me.end = end,
            State::Over => me.end = me.end.min(end),
            State::Part => me.end = end,
            State::Settled => {}
        }
        let raised = me.state == State::Over && me.end > before.2 && !me.has.covers(me.owed());
        if raised {
            // It promised less than that: until it has the rest it promises nothing.
            me.state = State::Part;
        }
        let whole = me.state == State::Part && me.has.covers(me.owed());
        let notes = if whole || planted::is(Planted::PartPromises) && me.state == State::Part {
            me.state = State::Over;
            vec![me.hold(ledger)]
        } else if me.state == State::Part {
            vec![Note::Part { ledger }]
        } else if before == (me.state, me.from, me.end) {
            Vec::new()
        } else {
            vec![me.hold(ledger)]
        };
        self.touch(ledger);
        notes
    }

    /// Copies of these entries are synced. The last one of an adopter makes it a holder.
    pub(crate) fn fetched(&mut self, ledger: LedgerId, entries: Range<u32>) -> Vec<Note> {
        let Some(entry) = self.ledgers.get_mut(&ledger) else { return Vec::new() };
        entry.has.insert_range(entries.start.max(entry.from)..entries.end.max(entry.from));
        self.completed(ledger)
    }

    fn completed(&mut self, ledger: LedgerId) -> Vec<Note> {
        let mut notes = Vec::new();
        if let Some(entry) = self.ledgers.get_mut(&ledger)
            && entry.adopts()
            && entry.has.covers(entry.owed())
        {
            entry.state = State::Over;
            notes.push(entry.hold(ledger));
        }
        self.touch(ledger);
        notes
    }

    /// These entries can't be read any more: the promise stands, and they are fetched. An open ledger is over by it, or they
    /// would lack until it is: nobody fetches what may still be on its way.
    pub(crate) fn rotten(&mut self, ledger: LedgerId, entries: Range<u32>) -> Vec<Note> {
        let notes = if self.open.contains(&ledger) { self.refused(ledger) } else { Vec::new() };
        if let Some(entry) = self.ledgers.get_mut(&ledger) {
            entry.has.remove_range(entries);
            self.touch(ledger);
        }
        notes
    }

    /// Retention: what is below `from` goes, once the notes are synced. Of an open ledger that is at most what it has; a
    /// ledger that is over and of which nothing remains is remembered as gone, or it would be adopted again.
    pub(crate) fn let_go(&mut self, ledger: LedgerId, from: u32) -> Vec<Note> {
        let Some(entry) = self.ledgers.get_mut(&ledger) else { return Vec::new() };
        let from = if entry.state == State::Open { from.min(entry.end) } else { from };
        if from <= entry.from {
            return Vec::new();
        }
        entry.has.remove_range(0..from);
        if entry.state == State::Part {
            // It promised nothing, so others may owe what it lets go.
            self.touch(ledger);
            return Vec::new();
        }
        entry.from = from;
        let whole = entry.state != State::Open && from >= entry.end && entry.has.is_empty();
        let note = match entry.state {
            _ if whole => Note::Gone { incarnation: ledger.incarnation, numbers: one(ledger) },
            State::Over | State::Settled => urgent(entry.hold(ledger)),
            // It is open: an end is not noted of a ledger that goes on.
            _ => Note::From { ledger, from },
        };
        if whole {
            let version = entry.version;
            self.log.remove(&version);
            self.ledgers.remove(&ledger);
            self.gone.entry(ledger.incarnation).or_default().insert(ledger.number);
        }
        self.touch(ledger);
        vec![note]
    }

    /// Notes what a head knows of the roster. Ledgers are over by it whose members leave.
    ///
    /// # Errors
    /// The roster would grow beyond its bounds.
    pub(crate) fn noted(&mut self, roster: &Roster) -> Result<Vec<Note>, TooMany> {
        let changes = self.roster.merge(roster)?;
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let leave: Vec<NodeId> = changes
            .moved
            .iter()
            .filter(|moved| moved.before.ends_ledgers_at(moved.after))
            .map(|moved| moved.node)
            .collect();
        let mut notes = vec![self.roster_note(&changes)];
        let members = |ledger: &LedgerId| self.ledgers.get(ledger).map(|entry| &*entry.members).unwrap_or_default();
        let over: Vec<LedgerId> = self
            .open
            .iter()
            .filter(|ledger| members(ledger).iter().any(|member| leave.contains(member)))
            .copied()
            .collect();
        for ledger in over {
            notes.extend(self.end(ledger));
        }
        Ok(notes)
    }

    fn roster_note(&self, changes: &Changes) -> Note {
        let changed = |node: &NodeId| changes.moved.iter().any(|moved| moved.node == *node);
        let identities = self.roster.identities().filter(|(node, _)| changed(node));
        Note::Roster {
            identities: identities.map(|(node, record)| (node, record.clone())).collect(),
            copies: self.roster.copies().filter(|_| changes.copies),
            foundings: if changes.foundings { self.roster.foundings().collect() } else { Vec::new() },
        }
    }
}

fn set(ledgers: &mut BTreeSet<LedgerId>, ledger: LedgerId, is_in: bool) {
    if is_in {
        ledgers.insert(ledger);
    } else {
        ledgers.remove(&ledger);
    }
}

fn one(ledger: LedgerId) -> Range<u32> {
    ledger.number..ledger.number.saturating_add(1)
}

fn urgent(mut note: Note) -> Note {
    if let Note::Hold { urgent, .. } = &mut note {
        *urgent = true;
    }
    note
}

#[cfg(test)]
#[path = "kept_tests.rs"]
mod tests;
