//! The protocol's words in frames: what `kept` and `heard` say, as the wire has it, and back.

use std::ops::Range;

use super::entries::EntrySet;
use super::held::{Held, Report, State};
use super::roster::{Copies, Founding, Generation, Roster, TooMany};
use crate::limits::{HOLDS_MAX, LACKING_MAX};
use crate::wire::frame::{self, Frame, HoldState, Numbers};

/// Holds frames of these reports. What a node says first is everything, and one frame at least.
pub(crate) fn holds(reports: Vec<Report>, everything: bool) -> Vec<Frame> {
    let (mut gone, mut held) = (Vec::new(), Vec::new());
    for report in reports {
        match report {
            Report::Gone { incarnation, numbers } => gone.push(Numbers { incarnation, numbers }),
            Report::Ledger { ledger, members, held: of } => held.push(frame::Held {
                ledger,
                members: members.into_vec(),
                member: of.member,
                state: state(of.state),
                from: of.from,
                end: of.end,
                count: of.count,
                lacking: lacking(of.lacking.as_deref()),
            }),
        }
    }
    let mut frames = Vec::new();
    let (mut gone, mut held) = (gone.into_iter().peekable(), held.into_iter().peekable());
    while gone.peek().is_some() || held.peek().is_some() || (everything && frames.is_empty()) {
        let gone_now: Vec<Numbers> = gone.by_ref().take(HOLDS_MAX).collect();
        let held_now: Vec<frame::Held> = held.by_ref().take(HOLDS_MAX).collect();
        let more = everything && (gone.peek().is_some() || held.peek().is_some());
        frames.push(Frame::Holds { more, gone: gone_now, held: held_now });
    }
    frames
}

const fn state(state: State) -> HoldState {
    match state {
        State::Open => HoldState::Open,
        State::Over => HoldState::Over,
        State::Settled => HoldState::Settled,
        State::Part => HoldState::Part,
    }
}

/// The ranges that are lacking; where there are too many, the last ones are told as one, which is more than is lacking.
fn lacking(set: Option<&EntrySet>) -> Vec<Range<u32>> {
    let mut ranges: Vec<Range<u32>> = set.into_iter().flat_map(EntrySet::ranges).collect();
    if let Some(end) = ranges.last().map(|last| last.end).filter(|_| ranges.len() > LACKING_MAX) {
        ranges.truncate(LACKING_MAX);
        if let Some(last) = ranges.last_mut() {
            last.end = end;
        }
    }
    ranges
}

/// What a Holds frame reports.
pub(crate) fn reports(gone: Vec<Numbers>, held: Vec<frame::Held>) -> Vec<Report> {
    let held = held.into_iter().map(|held| {
        let mut lacking = EntrySet::default();
        held.lacking.into_iter().for_each(|range| lacking.insert_range(range));
        let lacking = (!lacking.is_empty()).then(|| Box::new(lacking));
        let state = match held.state {
            HoldState::Open => State::Open,
            HoldState::Over => State::Over,
            HoldState::Settled => State::Settled,
            HoldState::Part => State::Part,
        };
        let of = Held { member: held.member, state, from: held.from, end: held.end, count: held.count, lacking };
        Report::Ledger { ledger: held.ledger, members: held.members.into(), held: of }
    });
    let gone = gone.into_iter().map(|Numbers { incarnation, numbers }| Report::Gone { incarnation, numbers });
    held.chain(gone).collect()
}

/// A roster on the wire.
#[must_use]
pub(crate) fn roster(roster: &Roster) -> frame::Roster {
    let copies = roster.copies().map(|Copies { replicas, least, before, generation }| frame::CopiesWanted {
        replicas,
        least,
        before,
        generation,
    });
    let foundings = roster.foundings().map(|Founding { time_ns, head }| frame::Founding { time_ns, head }).collect();
    let members = roster.identities().map(|(node, record)| frame::Member {
        node,
        generation: record.generation.0,
        name: record.name.to_string(),
    });
    frame::Roster { copies, foundings, members: members.collect() }
}

/// The roster that a frame tells.
///
/// # Errors
/// It is greater than a roster may be.
pub(crate) fn of_roster(told: frame::Roster) -> Result<Roster, TooMany> {
    let mut roster = Roster::default();
    if let Some(frame::CopiesWanted { replicas, least, before, generation }) = told.copies {
        roster.set_copies(Copies { replicas, least, before, generation });
    }
    for frame::Founding { time_ns, head } in told.foundings {
        roster.found(Founding { time_ns, head })?;
    }
    for frame::Member { node, generation, name } in told.members {
        roster.set(node, Generation(generation), &name)?;
    }
    Ok(roster)
}
