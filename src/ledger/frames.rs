//! The protocol's words in frames: what `kept` and `heard` say, as the wire has it, and back.

use std::ops::Range;

use super::entries::EntrySet;
use super::held::{Held, Report, State};
use super::roster::{Copies, Founding, Generation, Roster, TooMany};
use crate::limits::{HOLDS_MAX, LACKING_MAX, NODE_NAME_BYTES_MAX};
use crate::wire::frame::{self, Frame, HoldState, Numbers};
use crate::wire::ledger::LedgerId;
use crate::wire::peer::is_name;

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

/// Why what a peer says of the roster is not believed. It would be written down, and told to everybody.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum NotARoster {
    /// It is greater than a roster may be.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// A member has a name that is none.
    #[error("its roster has a name that is none; it is closed")]
    Name,
    /// A member has a generation that none comes to.
    #[error("its roster says of a dataNode that it came and went {0} times; it is closed")]
    Generation(u32),
    /// So many copies there can't be.
    #[error(
        "its roster wants {replicas} copies, at least {least}, in change {generation}, which can't be; it is closed"
    )]
    Copies {
        /// R.
        replicas: u8,
        /// M.
        least: u8,
        /// The generation.
        generation: u32,
    },
    /// No head has this incarnation.
    #[error("its roster was founded by a head of incarnation {0}; there is none from 2^30 on, and it is closed")]
    Founding(u32),
}

/// The roster that a frame tells.
///
/// # Errors
/// It is greater than a roster may be, or says what can't be.
pub(crate) fn of_roster(told: frame::Roster) -> Result<Roster, NotARoster> {
    let mut roster = Roster::default();
    if let Some(frame::CopiesWanted { replicas, least, before, generation }) = told.copies {
        let copies = Copies { replicas, least, before, generation };
        if !copies.is_possible() {
            return Err(NotARoster::Copies { replicas, least, generation });
        }
        roster.set_copies(copies);
    }
    for frame::Founding { time_ns, head } in told.foundings {
        // It has the bounds of a ledger's, whose name begins with it.
        if !(LedgerId { incarnation: head, number: 0 }).is_valid() {
            return Err(NotARoster::Founding(head.0));
        }
        roster.found(Founding { time_ns, head })?;
    }
    for frame::Member { node, generation, name } in told.members {
        if !name.is_empty() && !is_name(&name, NODE_NAME_BYTES_MAX) {
            return Err(NotARoster::Name);
        }
        if !Generation(generation).is_possible() {
            return Err(NotARoster::Generation(generation));
        }
        roster.set(node, Generation(generation), &name)?;
    }
    Ok(roster)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::id::{Incarnation, LedgerId, NodeId};
    use bytes::BytesMut;
    use proptest::prelude::*;

    fn told(frames: Vec<Frame>) -> (Vec<Report>, Vec<bool>) {
        let (mut all, mut mores) = (Vec::new(), Vec::new());
        for frame in frames {
            let mut out = BytesMut::new();
            frame.encode(&mut out).unwrap();
            let Ok(Some(Frame::Holds { more, gone, held })) = Frame::decode(&mut out) else { panic!("no Holds") };
            mores.push(more);
            all.extend(reports(gone, held));
        }
        (all, mores)
    }

    fn ledger() -> impl Strategy<Value = LedgerId> {
        (0..1_u32 << 30, 0..1_u32 << 30)
            .prop_map(|(incarnation, number)| LedgerId { incarnation: Incarnation(incarnation), number })
    }

    fn report() -> impl Strategy<Value = Report> {
        let state = prop::sample::select(vec![State::Open, State::Over, State::Settled, State::Part]);
        let members = prop::collection::vec((0..1_u64 << 60).prop_map(NodeId), 0..4);
        let lacking = prop::collection::vec((0..2000_u32, 1..20_u32), 0..50);
        let held = (ledger(), members, any::<bool>(), state, any::<[u16; 3]>(), lacking).prop_map(
            |(ledger, members, member, state, [from, end, count], ranges)| {
                let mut lacking = EntrySet::default();
                ranges.into_iter().for_each(|(start, len)| lacking.insert_range(start..start + len));
                let lacking = (!lacking.is_empty()).then(|| Box::new(lacking));
                let held = Held { member, state, from: from.into(), end: end.into(), count: count.into(), lacking };
                Report::Ledger { ledger, members: members.into(), held }
            },
        );
        let gone = (ledger(), 1..9_u32).prop_map(|(LedgerId { incarnation, number }, len)| Report::Gone {
            incarnation,
            numbers: number..(number + len).min(1 << 30),
        });
        prop_oneof![3 => held, 1 => gone]
    }

    proptest! {
        /// What a node tells is what a head hears; of too many gaps it hears fewer and greater ones.
        #[test]
        fn reports_round_trip(all in prop::collection::vec(report(), 0..30), everything: bool) {
            let (heard, _) = told(holds(all.clone(), everything));
            let is_gone = |report: &&Report| matches!(report, Report::Gone { .. });
            let (gone, held): (Vec<_>, Vec<_>) = all.iter().partition(is_gone);
            prop_assert_eq!(heard.iter().filter(is_gone).collect::<Vec<_>>(), gone);
            let heard: Vec<_> = heard.iter().filter(|report| !is_gone(report)).collect();
            prop_assert_eq!(heard.len(), held.len());
            for (heard, said) in heard.into_iter().zip(held) {
                let (Report::Ledger { held: ours, .. }, Report::Ledger { held: theirs, .. }) = (said, heard) else {
                    panic!("a ledger")
                };
                let all = |held: &Held| held.lacking.as_deref().cloned().unwrap_or_default();
                let (ours, theirs) = (all(ours), all(theirs));
                if ours.pieces() <= LACKING_MAX {
                    prop_assert_eq!(heard, said);
                } else {
                    prop_assert_eq!(theirs.pieces(), LACKING_MAX);
                    prop_assert!(ours.ranges().all(|range| theirs.covers(range)));
                    prop_assert_eq!((theirs.first(), theirs.end()), (ours.first(), ours.end()));
                }
            }
        }

        #[test]
        fn rosters_round_trip(
            members in prop::collection::btree_map(0..1_u64 << 60, (1..1_000_000_000_u32, "[a-z]{0,9}"), 0..20),
            copies in prop::option::of((1..9_u8, 1..9_u8, 1..9_u8, 0..1_000_000_000_u32)),
            foundings in prop::collection::vec((any::<u64>(), 0..1_u32 << 30), 0..4),
        ) {
            let mut said = Roster::default();
            for (node, (generation, name)) in members {
                said.set(NodeId(node), Generation(generation), &name).unwrap();
            }
            if let Some((replicas, least, before, generation)) = copies {
                said.set_copies(Copies { replicas, least: least.min(replicas), before, generation });
            }
            for (time_ns, head) in foundings {
                said.found(Founding { time_ns, head: Incarnation(head) }).unwrap();
            }
            let mut out = BytesMut::new();
            Frame::Roster(roster(&said)).encode(&mut out).unwrap();
            let Ok(Some(Frame::Roster(heard))) = Frame::decode(&mut out) else { panic!("no Roster") };
            prop_assert_eq!(of_roster(heard), Ok(said));
        }
    }

    #[test]
    fn who_has_nothing_says_so_and_who_has_much_says_when_it_is_all() {
        let (all, mores) = told(holds(Vec::new(), true));
        assert_eq!((all.len(), mores), (0, vec![false]));
        assert!(holds(Vec::new(), false).is_empty());
        let ledger = |number| LedgerId { incarnation: Incarnation(1), number };
        let held = Held { member: true, state: State::Over, from: 0, end: 9, count: 9, lacking: None };
        let many = 0..2 * HOLDS_MAX as u32 + 1;
        let many: Vec<Report> = many
            .map(|number| Report::Ledger { ledger: ledger(number), members: Box::default(), held: held.clone() })
            .collect();
        assert_eq!(told(holds(many.clone(), true)), (many.clone(), vec![true, true, false]));
        assert_eq!(told(holds(many.clone(), false)), (many, vec![false; 3]));
    }

    #[test]
    fn a_roster_that_is_too_great_is_refused() {
        let founding = |n: u32| frame::Founding { time_ns: n.into(), head: Incarnation(n) };
        let told = frame::Roster { foundings: (0..17).map(founding).collect(), ..frame::Roster::default() };
        assert_eq!(of_roster(told), Err(NotARoster::TooMany(TooMany::Foundings)));
    }

    /// Each of these was once believed: it stopped a head, or stood in everybody's files for good.
    #[test]
    fn a_roster_that_says_what_can_not_be_is_refused() {
        let copies = |replicas, least, before, generation| frame::Roster {
            copies: Some(frame::CopiesWanted { replicas, least, before, generation }),
            ..frame::Roster::default()
        };
        let last = 1_000_000_000;
        for possible in [copies(1, 1, 1, 1), copies(8, 8, 8, last), copies(3, 2, 8, 0)] {
            assert!(of_roster(possible.clone()).is_ok(), "{possible:?}");
        }
        for (replicas, least, before, generation) in [
            (0, 0, 1, 2),
            (1, 0, 1, 2),
            (2, 3, 1, 2),
            (9, 1, 1, 2),
            (255, 255, 255, 2),
            (1, 1, 0, 2),
            (1, 1, 9, 2),
            (1, 1, 1, last + 1),
        ] {
            let told = of_roster(copies(replicas, least, before, generation));
            assert_eq!(told, Err(NotARoster::Copies { replicas, least, generation }));
        }
        let member = |generation, name: &str| frame::Roster {
            members: vec![frame::Member { node: NodeId(1), generation, name: name.to_owned() }],
            ..frame::Roster::default()
        };
        assert!(of_roster(member(last, "data1")).is_ok() && of_roster(member(1, "")).is_ok());
        for generation in [0, last + 1, u32::MAX] {
            assert_eq!(of_roster(member(generation, "data1")), Err(NotARoster::Generation(generation)));
        }
        for name in ["a b", "a\nroster", "a,b", &"x".repeat(NODE_NAME_BYTES_MAX + 1)] {
            assert_eq!(of_roster(member(7, name)), Err(NotARoster::Name), "{name:?}");
        }
        let founding = frame::Founding { time_ns: 1, head: Incarnation(1 << 30) };
        let told = frame::Roster { foundings: vec![founding], ..frame::Roster::default() };
        assert_eq!(of_roster(told), Err(NotARoster::Founding(1 << 30)));
    }
}
