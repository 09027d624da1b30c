//! The data nodes that a head has known: who is there, who is away, and whose records an answer lacks.
//!
//! A node that is away is missing from an answer unless its records are known to be elsewhere. Pure: times are handed in,
//! and [`Members::to_text`] is what `members.txt` in the head's log folder holds, so that a head that starts knows whom to
//! wait for. Only nodes with an identity are members; a node that speaks text cannot be read at all.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use crate::limits::{MEMBER_SETTLE_AFTER, MEMBERS_MAX, NODE_NAME_BYTES_MAX};
use crate::wire::error::{Code, Refusal};
use crate::wire::frame::{Member, MemberState, SyncMode};
use crate::wire::id::ClientId;

/// What a node says of its records, as far as members are concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Kept {
    /// Records it has.
    pub(crate) records: u64,
    /// Records that only it has.
    pub(crate) sole: u64,
    /// Records it answers for that lack a copy.
    pub(crate) short: u64,
}

/// One node that was seen.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Seen {
    name: String,
    id: u64,
    state: MemberState,
    /// What it reported last, and what was acknowledged since.
    kept: Kept,
    /// Records whose other copies failed: they name other nodes, so no report counts them.
    alone: u64,
    /// When it reported, since the head started.
    reported: Duration,
    /// When it went away, since the head started; [`Duration::ZERO`] if that was before.
    left: Duration,
    /// The same as seconds since 1970, for people.
    left_unix_s: u64,
    /// While it was away, all others said that no record lacks a copy: its shared records are elsewhere.
    settled: bool,
    /// Another head has it, by the word of a node that both have.
    elsewhere: bool,
    /// It was never registered here: other heads know it.
    hearsay: bool,
    /// Another head had it, and that head is gone: what it got alone there nobody knows until it is back.
    unseen: bool,
    /// It has records that no other has, by the word of another head. Stays so if that head goes while the node is away.
    sole_elsewhere: bool,
    /// It had nothing when it left, by its own word and by what was settled here.
    empty: bool,
    /// Other heads have known it, too: they may have given it records.
    shared: bool,
    /// Somebody said that it does not come back.
    given_up: bool,
}

impl Seen {
    const fn is_present(&self) -> bool {
        matches!(self.state, MemberState::Here | MemberState::Draining)
    }

    const fn is_away(&self) -> bool {
        matches!(self.state, MemberState::Away)
    }

    const fn sole(&self) -> u64 {
        self.kept.sole + self.alone
    }

    /// Away, and nobody knows whether what it has is elsewhere. One that had nothing when it left may have got records
    /// through another head since.
    const fn is_unsettled(&self) -> bool {
        matches!(self.state, MemberState::Away) && !self.settled
    }

    /// A node that had nothing is gone, not away, unless another head may have given it something; so is one that only others
    /// know, by the word of all of them. `told` has what those say of it now.
    fn excuse(&mut self, told: &[&Member], now: Duration) {
        let all_gone = !told.is_empty() && told.iter().all(|member| member.state == MemberState::Gone);
        self.shared |= !told.is_empty();
        match self.state {
            MemberState::Away if all_gone && (self.empty || self.hearsay) => self.state = MemberState::Gone,
            MemberState::Away if self.empty && !self.shared => self.state = MemberState::Gone,
            MemberState::Gone if !self.given_up && !told.is_empty() && !all_gone => {
                (self.state, self.left, self.settled) = (MemberState::Away, now, false);
            }
            _ => {}
        }
    }

    /// Away here, and another head has messages kept there.
    const fn is_elsewhere(&self) -> bool {
        matches!(self.state, MemberState::Away) && self.elsewhere
    }
}

/// A node that is away, for `status`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Away {
    /// Its name.
    pub(crate) name: String,
    /// Its identity.
    pub(crate) id: u64,
    /// When it left, seconds since 1970.
    pub(crate) since_unix_s: u64,
}

/// The table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Members {
    replicas: usize,
    copies_min: usize,
    /// The fewest copies that a message got of late, two at least, and when that was last so, if those were fewer than it
    /// was to get.
    fewest: Option<(usize, Duration)>,
    /// The same of what other heads gave. Apart from it, or two heads would go on telling each other.
    fewest_elsewhere: Option<(usize, Duration)>,
    seen: Vec<Seen>,
}

impl Members {
    /// An empty table of a head that wants so many copies.
    #[must_use]
    pub(crate) const fn new(replicas: usize) -> Self {
        Self { replicas, copies_min: replicas, fewest: None, fewest_elsewhere: None, seen: Vec::new() }
    }

    /// The same for heads that are content with so many copies where there are no more nodes.
    #[must_use]
    pub(crate) const fn with_least(mut self, copies_min: usize) -> Self {
        self.copies_min = copies_min;
        self
    }

    /// A node registered. One with the same identity is the same node, whatever its name; one with the same name and
    /// another identity is another, and the old one stays away. True if it was not known.
    ///
    /// # Errors
    /// [`MEMBERS_MAX`] nodes are known, and none of them is gone for good.
    pub(crate) fn here(&mut self, name: &str, id: u64, kept: Kept, now: Duration) -> Result<bool, Refusal> {
        if let Some(seen) = self.of(id) {
            name.clone_into(&mut seen.name);
            (seen.state, seen.kept, seen.reported, seen.settled) = (MemberState::Here, kept, now, false);
            (seen.hearsay, seen.unseen, seen.sole_elsewhere) = (false, false, false);
            (seen.empty, seen.given_up) = (false, false);
            return Ok(false);
        }
        if !self.has_room() {
            let text =
                format!("this head knows {MEMBERS_MAX} dataNodes, its limit; give up those that are away for good");
            return Err(Refusal::new(Code::Full, text));
        }
        self.seen.push(Seen {
            name: name.to_owned(),
            id,
            state: MemberState::Here,
            kept,
            alone: 0,
            reported: now,
            left: Duration::ZERO,
            left_unix_s: 0,
            settled: false,
            elsewhere: false,
            hearsay: false,
            unseen: false,
            sole_elsewhere: false,
            empty: false,
            shared: false,
            given_up: false,
        });
        Ok(true)
    }

    /// Whether one more can be known; one that is gone is forgotten for it.
    fn has_room(&mut self) -> bool {
        if self.seen.len() < MEMBERS_MAX {
            return true;
        }
        let gone = self.seen.iter().position(|seen| seen.state == MemberState::Gone);
        gone.map(|place| self.seen.remove(place)).is_some()
    }

    /// What the registered nodes hear of their other heads, all of it: who is registered there, and who was. True if that
    /// changes whom an answer lacks.
    pub(crate) fn heard(&mut self, told: &[Member], (now, unix_s): (Duration, u64)) -> bool {
        let before = self.seen.clone();
        let fewer = self.copies_min < self.replicas;
        let here = |id| told.iter().any(|member| member.id == id && member.state == MemberState::Here);
        let sole = |id| {
            let of = told.iter().filter(|member| member.id == id).map(|member| member.sole);
            of.reduce(|one, other| one || other)
        };
        for member in told {
            let is_new = member.state != MemberState::Gone && self.of(member.id).is_none();
            if is_new && self.has_room() {
                self.seen.push(Seen {
                    name: member.name.clone(),
                    id: member.id,
                    state: MemberState::Away,
                    kept: Kept::default(),
                    alone: 0,
                    reported: now,
                    left: now,
                    left_unix_s: unix_s,
                    settled: false,
                    elsewhere: false,
                    hearsay: true,
                    unseen: false,
                    sole_elsewhere: false,
                    empty: false,
                    shared: true,
                    given_up: false,
                });
            }
        }
        for seen in &mut self.seen {
            let elsewhere = here(seen.id);
            if seen.is_elsewhere() && fewer && !told.iter().any(|member| member.id == seen.id) {
                seen.unseen = true;
            }
            if seen.elsewhere != elsewhere && seen.state == MemberState::Away {
                // What it got there is not looked at yet.
                (seen.settled, seen.left) = (false, now);
            }
            seen.elsewhere = elsewhere;
            // One that is here speaks for itself once nobody says so any more.
            seen.sole_elsewhere = sole(seen.id).unwrap_or(seen.sole_elsewhere && !seen.is_present());
            let of_it: Vec<&Member> = told.iter().filter(|member| member.id == seen.id).collect();
            seen.excuse(&of_it, now);
        }
        self.seen != before
    }

    /// A node is not registered any more; `took` if it acknowledged something meanwhile. One that is gone for good stays so, and
    /// one that never had anything is forgotten when there is need of its place.
    pub(crate) fn away(&mut self, id: u64, took: bool, now: Duration, unix_s: u64) {
        if let Some(seen) = self.of(id).filter(|seen| seen.is_present()) {
            (seen.state, seen.left, seen.left_unix_s, seen.settled) = (MemberState::Away, now, unix_s, false);
            seen.empty = !took && seen.kept.records == 0 && seen.alone == 0;
            if !seen.shared {
                seen.excuse(&[], now);
            }
        }
    }

    /// A node keeps a copy that was made again.
    pub(crate) fn keeps(&mut self, id: u64) {
        if let Some(seen) = self.of(id) {
            seen.kept.records += 1;
        }
    }

    /// A node reported. True if that is worth a line in the file: it has records now, or sole ones, and had none.
    pub(crate) fn reported(&mut self, id: u64, kept: Kept, now: Duration) -> bool {
        let Some(seen) = self.of(id) else { return false };
        let before = (seen.kept.records > 0, seen.sole() > 0);
        (seen.kept, seen.reported) = (kept, now);
        let changed = before != (seen.kept.records > 0, seen.sole() > 0);
        self.settle() || changed
    }

    /// A node keeps `records` messages that were acknowledged with one copy; `named` if the record names others besides.
    pub(crate) fn kept_alone(&mut self, id: u64, records: u64, named: bool) -> bool {
        let Some(seen) = self.of(id) else { return false };
        let first = seen.sole() == 0;
        seen.kept.records += records;
        if named {
            seen.alone += records;
        } else {
            seen.kept.sole += records;
        }
        first
    }

    /// A message was acknowledged with so many copies. One copy is [`kept_alone`](Self::kept_alone).
    pub(crate) fn given(&mut self, copies: usize, now: Duration) {
        if (2..self.replicas).contains(&copies) {
            self.fewest = Some(fewer(self.fewest, copies, now));
        }
    }

    /// Another head says that it gave a message so many copies.
    pub(crate) fn given_elsewhere(&mut self, copies: usize, now: Duration) {
        if (2..self.replicas).contains(&copies) {
            self.fewest_elsewhere = Some(fewer(self.fewest_elsewhere, copies, now));
        }
    }

    /// The fewest copies that a message got of late, if those were fewer than it was to get and more than one; else 0.
    #[must_use]
    pub(crate) fn least_given(&self) -> usize {
        self.fewest.map_or(0, |(fewest, _)| fewest)
    }

    /// Sets the state of a node that is drained or given up. False if there is no such node.
    pub(crate) fn set_state(&mut self, id: u64, state: MemberState) -> bool {
        let Some(seen) = self.of(id) else { return false };
        (seen.state, seen.given_up) = (state, state == MemberState::Gone);
        true
    }

    /// The names of the nodes that an answer lacks, in the order in which they were seen first.
    ///
    /// A node that is away is missing if it has records that only it has, by the word of any head, or if so many are away
    /// that all copies of some record may be on them: as many as there are copies, or fewer if messages got fewer of late,
    /// or as are copies at least if another head has one of them.
    #[must_use]
    pub(crate) fn missing(&self) -> Vec<&str> {
        // Another head may give its messages fewer copies, and this one hears nothing of those.
        let elsewhere = self.seen.iter().any(Seen::is_elsewhere);
        let many = self.unsettled() >= if elsewhere { self.copies_min } else { self.copies_least() };
        let unknown = |seen: &Seen| seen.unseen || seen.sole_elsewhere || (many && seen.is_unsettled());
        let lacks = |seen: &&Seen| seen.state == MemberState::Away && (seen.sole() > 0 || unknown(seen));
        self.seen.iter().filter(lacks).map(|seen| seen.name.as_str()).collect()
    }

    /// The nodes that are away.
    pub(crate) fn away_now(&self) -> impl Iterator<Item = Away> {
        let away = self.seen.iter().filter(|seen| seen.state == MemberState::Away);
        away.map(|seen| Away { name: seen.name.clone(), id: seen.id, since_unix_s: seen.left_unix_s })
    }

    /// All of them, as data nodes are told; how they sync is not known here.
    #[must_use]
    pub(crate) fn list(&self) -> Vec<Member> {
        let sync = SyncMode::Always;
        let member = |seen: &Seen| {
            // Not what others said: two heads would go on telling each other.
            Member {
                name: seen.name.clone(),
                id: seen.id,
                // That it had nothing is this head's word; others may know better.
                state: if seen.is_away() && seen.empty { MemberState::Gone } else { seen.state },
                sync,
                sole: seen.sole() > 0 && seen.state != MemberState::Gone,
            }
        };
        self.seen.iter().map(member).collect()
    }

    fn of(&mut self, id: u64) -> Option<&mut Seen> {
        self.seen.iter_mut().find(|seen| seen.id == id)
    }

    /// Copies that a record can have: no more than there are nodes. One that was wiped is not another node beside the old one.
    fn copies_most(&self) -> usize {
        let there = self.seen.iter().filter(|seen| seen.state != MemberState::Gone);
        let names: BTreeSet<&str> = there.map(|seen| seen.name.as_str()).collect();
        self.replicas.min(names.len())
    }

    /// Copies that each record has that more than one node keeps.
    fn copies_least(&self) -> usize {
        let given = self.fewest.into_iter().chain(self.fewest_elsewhere).map(|(fewest, _)| fewest);
        given.fold(self.copies_most(), usize::min)
    }

    fn unsettled(&self) -> usize {
        self.seen.iter().filter(|seen| seen.is_unsettled()).count()
    }

    /// While fewer are away than there are copies, some copy of every shared record is present, and who has it says
    /// whether it lacks others. Once all that are present have looked and lack nothing, nothing depends on those away.
    fn settle(&mut self) -> bool {
        if self.unsettled() >= self.copies_least() {
            return false;
        }
        let mut present = self.seen.iter().filter(|seen| seen.is_present()).peekable();
        if present.peek().is_none() {
            return false;
        }
        let looked =
            present.try_fold(Duration::MAX, |least, seen| (seen.kept.short == 0).then_some(least.min(seen.reported)));
        let Some(looked) = looked else { return false };
        let mut changed = false;
        for seen in &mut self.seen {
            let away = seen.state == MemberState::Away && !seen.elsewhere;
            if away && !seen.settled && looked >= seen.left + MEMBER_SETTLE_AFTER {
                seen.settled = true;
                changed = true;
            }
        }
        // Whatever got fewer copies has all of them by now.
        let all_there = self.unsettled() == 0;
        for fewest in [&mut self.fewest, &mut self.fewest_elsewhere] {
            changed |= fewest.take_if(|(_, last)| all_there && looked >= *last + MEMBER_SETTLE_AFTER).is_some();
        }
        changed
    }

    /// The table as text: a line for each, `<id> <state> <records> <sole> <alone> <settled> <left> <name>`; settled is 2 if
    /// the head that had it is gone.
    #[must_use]
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        for seen in &self.seen {
            let Seen { name, id, kept, alone, left_unix_s, settled, .. } = seen;
            let settled = if seen.unseen || seen.sole_elsewhere { 2 } else { u8::from(*settled) };
            let forgotten = seen.state == MemberState::Gone && !seen.given_up;
            let (id, state) = (ClientId(*id), if forgotten { EMPTY } else { word(seen.state) });
            let (records, sole) = (kept.records, kept.sole);
            // Writing to a string cannot fail.
            writeln!(text, "{id} {state} {records} {sole} {alone} {settled} {left_unix_s} {name}").unwrap_or_default();
        }
        text
    }

    /// Adds numbered lines that [`to_text`](Self::to_text) wrote. Nobody is here yet, so who was is away. Returns the numbers
    /// of the lines that make no sense; they are left out.
    pub(crate) fn add_lines<'a>(
        &mut self,
        lines: impl IntoIterator<Item = (usize, &'a str)>,
        unix_s: u64,
    ) -> Vec<usize> {
        let mut bad = Vec::new();
        for (number, line) in lines {
            match parse(line, unix_s) {
                Some(seen) if self.seen.len() < MEMBERS_MAX && self.of(seen.id).is_none() => self.seen.push(seen),
                _ => bad.push(number),
            }
        }
        if !self.seen.is_empty() {
            // How many copies messages got before is not written down.
            self.given(self.copies_min.max(2), Duration::ZERO);
        }
        bad
    }
}

/// The fewer copies, and when a message got as few last, or fewer than it was to get.
fn fewer(before: Option<(usize, Duration)>, copies: usize, now: Duration) -> (usize, Duration) {
    (before.map_or(copies, |(fewest, _)| fewest.min(copies)), now)
}

/// State of a node that never had anything, as it is written down: it is gone, unless another head says that it has it.
const EMPTY: &str = "empty";

const fn word(state: MemberState) -> &'static str {
    match state {
        MemberState::Here => "here",
        MemberState::Draining => "draining",
        MemberState::Away => "away",
        MemberState::Gone => "gone",
    }
}

fn parse(line: &str, unix_s: u64) -> Option<Seen> {
    let fields: Vec<&str> = line.split(' ').collect();
    let &[id, state_word, records, sole, alone, settled, left, name] = &fields[..] else { return None };
    let number = |text: &str| text.parse::<u64>().ok();
    let (state, left_unix_s) = match state_word {
        "here" | "draining" => (MemberState::Away, unix_s),
        "away" => (MemberState::Away, number(left)?),
        "gone" | EMPTY => (MemberState::Gone, number(left)?),
        _ => return None,
    };
    if name.is_empty() || name.len() > NODE_NAME_BYTES_MAX {
        return None;
    }
    Some(Seen {
        name: name.to_owned(),
        id: ClientId::from_text(id.as_bytes())?.0,
        state,
        kept: Kept { records: number(records)?, sole: number(sole)?, short: 0 },
        alone: number(alone)?,
        reported: Duration::ZERO,
        left: Duration::ZERO,
        left_unix_s,
        settled: settled == "1",
        elsewhere: false,
        hearsay: false,
        unseen: settled == "2",
        sole_elsewhere: false,
        empty: state_word == EMPTY,
        shared: true,
        given_up: state_word == word(MemberState::Gone),
    })
}

#[cfg(test)]
#[path = "members_tests.rs"]
mod tests;
