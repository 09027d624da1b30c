//! What the frames of the replication protocol carry: what a node has of a ledger, the roster, the place of a reader.
//!
//! Their shape and their bytes. What they mean is decided in `ledger`; `docs/protocol.md` is the contract.

use std::ops::Range;

use bytes::{BufMut, BytesMut};

use super::FrameError;
use super::decode::{Fields, check_node};
use super::encode::text;
use crate::limits::{FOLLOW_CURSORS_MAX, FOUNDINGS_MAX, HOLDS_MAX, LACKING_MAX, REPLICAS_MAX, ROSTER_MAX};
use crate::wire::ledger::{Incarnation, LedgerId, NUMBER_END, NodeId};
use crate::wire::source::SourceName;

type Result<T = (), E = FrameError> = std::result::Result<T, E>;

/// How a node has a ledger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum HoldState {
    /// A member that is being written to: it promises what it has.
    Open = 0,
    /// It promises everything up to its end.
    Over = 1,
    /// The same, and the end is that of the head that wrote the ledger: no lesser one is believed.
    Settled = 2,
    /// It has entries and promises nothing.
    Part = 3,
}

/// What a node has of a ledger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    /// The ledger.
    pub ledger: LedgerId,
    /// Its members, as they stood in its first Put; none if it does not know them.
    pub members: Vec<NodeId>,
    /// Whether it took entries by Put.
    pub member: bool,
    /// How it has it.
    pub state: HoldState,
    /// Entries below it were let go.
    pub from: u32,
    /// Open: what it took. Over: all acknowledged entries are below it. Part: what it is to have, 0 if nobody told it.
    pub end: u32,
    /// A member: what it took, whether or not it can be read. Others: one more than the greatest entry that they have.
    pub count: u32,
    /// Entries of `from` up to the greater of `end` and `count` that it does not have; neighbours are joined where there are
    /// too many.
    pub lacking: Vec<Range<u32>>,
}

/// A data node in the roster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its identity.
    pub node: NodeId,
    /// The generation of its state, which says what the state is.
    pub generation: u32,
    /// Its name, for people.
    pub name: String,
}

/// How many copies there are to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Copies {
    /// Copies that each message is to have.
    pub replicas: u8,
    /// Copies without which a message is refused.
    pub least: u8,
    /// What the least was before.
    pub before: u8,
    /// The generation of these.
    pub generation: u32,
}

/// When a cluster began, and at which head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Founding {
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    /// The head.
    pub head: Incarnation,
}

/// The roster: greater generations win.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Roster {
    /// How many copies there are to be; none where nobody has said it.
    pub copies: Option<Copies>,
    /// When the cluster began; more than one if clusters met that began apart.
    pub foundings: Vec<Founding>,
    /// Its data nodes.
    pub members: Vec<Member>,
}

/// Numbers of the ledgers of one incarnation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Numbers {
    /// The incarnation.
    pub incarnation: Incarnation,
    /// The numbers.
    pub numbers: Range<u32>,
}

/// A place in a ledger.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cursor {
    /// The ledger.
    pub ledger: LedgerId,
    /// The first entry that is not known.
    pub next: u32,
}

/// Beside the count of a Put's members: the name of its source follows them.
pub(super) const PUT_HAS_SOURCE: u8 = 0x80;

/// Stands for no copies on the wire.
const NO_COPIES: Copies = Copies { replicas: 0, least: 0, before: 0, generation: 0 };

fn check_ledger(ledger: LedgerId) -> Result {
    if ledger.is_valid() { Ok(()) } else { Err(FrameError::Ledger(ledger.incarnation.0, ledger.number)) }
}

fn check_range(range: &Range<u32>) -> Result {
    let fits = range.start < range.end && range.end <= NUMBER_END;
    if fits { Ok(()) } else { Err(FrameError::Range(range.start, range.end)) }
}

pub(super) fn check_span(from: u32, end: u32) -> Result {
    if from <= end && end <= NUMBER_END { Ok(()) } else { Err(FrameError::Range(from, end)) }
}

fn check_count(count: usize, most: usize) -> Result {
    if count <= most { Ok(()) } else { Err(FrameError::Entries { count, most }) }
}

pub(super) fn put_ledger(out: &mut BytesMut, ledger: LedgerId) -> Result {
    check_ledger(ledger)?;
    out.put_u32(ledger.incarnation.0);
    out.put_u32(ledger.number);
    Ok(())
}

pub(super) fn put_node(out: &mut BytesMut, node: NodeId) -> Result {
    check_node(node)?;
    out.put_u64(node.0);
    Ok(())
}

pub(super) fn put_members(out: &mut BytesMut, members: &[NodeId]) -> Result {
    check_count(members.len(), REPLICAS_MAX)?;
    out.put_u8(members.len() as u8);
    members.iter().try_for_each(|node| put_node(out, *node))
}

pub(super) fn put_held(out: &mut BytesMut, held: &Held) -> Result {
    put_ledger(out, held.ledger)?;
    put_members(out, &held.members)?;
    out.put_u8(held.member.into());
    out.put_u8(held.state as u8);
    for entry in [held.from, held.end, held.count] {
        check_span(0, entry)?;
        out.put_u32(entry);
    }
    check_count(held.lacking.len(), LACKING_MAX)?;
    out.put_u8(held.lacking.len() as u8);
    for range in &held.lacking {
        check_range(range)?;
        out.put_u32(range.start);
        out.put_u32(range.end);
    }
    Ok(())
}

pub(super) fn put_roster(out: &mut BytesMut, roster: &Roster) -> Result {
    check_count(roster.members.len(), ROSTER_MAX)?;
    check_count(roster.foundings.len(), FOUNDINGS_MAX)?;
    let Copies { replicas, least, before, generation } = roster.copies.unwrap_or(NO_COPIES);
    out.put_slice(&[replicas, least, before]);
    out.put_u32(generation);
    out.put_u8(roster.foundings.len() as u8);
    for founding in &roster.foundings {
        out.put_u64(founding.time_ns);
        out.put_u32(founding.head.0);
    }
    for member in &roster.members {
        put_node(out, member.node)?;
        out.put_u32(member.generation);
        text(out, &member.name)?;
    }
    Ok(())
}

pub(super) fn put_numbers(out: &mut BytesMut, all: &[Numbers]) -> Result {
    check_count(all.len(), FOLLOW_CURSORS_MAX)?;
    out.put_u16(all.len() as u16);
    for Numbers { incarnation, numbers } in all {
        check_range(numbers)?;
        put_ledger(out, LedgerId { incarnation: *incarnation, number: numbers.start })?;
        out.put_u32(numbers.end);
    }
    Ok(())
}

pub(super) fn put_place(out: &mut BytesMut, done: &[Numbers], cursors: &[Cursor]) -> Result {
    put_numbers(out, done)?;
    check_count(cursors.len(), FOLLOW_CURSORS_MAX)?;
    for Cursor { ledger, next } in cursors {
        put_ledger(out, *ledger)?;
        check_span(0, *next)?;
        out.put_u32(*next);
    }
    Ok(())
}

impl Fields<'_> {
    pub(super) fn ledger(&mut self) -> Result<LedgerId> {
        let ledger = LedgerId { incarnation: Incarnation(self.u32()?), number: self.u32()? };
        check_ledger(ledger).map(|()| ledger)
    }

    pub(super) fn node(&mut self) -> Result<NodeId> {
        let node = NodeId(self.u64()?);
        check_node(node).map(|()| node)
    }

    pub(super) fn nodes(&mut self) -> Result<Vec<NodeId>> {
        let count = self.u8()?;
        self.so_many_nodes(count)
    }

    fn so_many_nodes(&mut self, count: u8) -> Result<Vec<NodeId>> {
        check_count(count.into(), REPLICAS_MAX)?;
        (0..count).map(|_| self.node()).collect()
    }

    /// The members that a Put names, and the name of its source.
    pub(super) fn members_of_put(&mut self) -> Result<(Vec<NodeId>, Option<SourceName>)> {
        let count = self.u8()?;
        let members = self.so_many_nodes(count & !PUT_HAS_SOURCE)?;
        let source = if count & PUT_HAS_SOURCE == 0 { None } else { Some(self.source()?) };
        Ok((members, source))
    }

    pub(super) fn source(&mut self) -> Result<SourceName> {
        SourceName::from_bytes(self.text()?.as_bytes()).map_err(FrameError::Source)
    }

    pub(super) fn span(&mut self) -> Result<Range<u32>> {
        let (from, end) = (self.u32()?, self.u32()?);
        check_span(from, end).map(|()| from..end)
    }

    fn entry(&mut self) -> Result<u32> {
        let entry = self.u32()?;
        check_span(0, entry).map(|()| entry)
    }

    fn range(&mut self) -> Result<Range<u32>> {
        let range = self.u32()?..self.u32()?;
        check_range(&range).map(|()| range)
    }

    fn hold_state(&mut self) -> Result<HoldState> {
        match self.u8()? {
            0 => Ok(HoldState::Open),
            1 => Ok(HoldState::Over),
            2 => Ok(HoldState::Settled),
            3 => Ok(HoldState::Part),
            other => Err(FrameError::Flags(other)),
        }
    }

    pub(super) fn holds(&mut self) -> Result<Vec<Held>> {
        let mut all = Vec::new();
        while !self.rest.is_empty() {
            check_count(all.len() + 1, HOLDS_MAX)?;
            let (ledger, members, member, state) = (self.ledger()?, self.nodes()?, self.bool()?, self.hold_state()?);
            let (from, end, count) = (self.entry()?, self.entry()?, self.entry()?);
            let ranges = self.u8()?;
            check_count(ranges.into(), LACKING_MAX)?;
            let lacking = (0..ranges).map(|_| self.range()).collect::<Result<_>>()?;
            all.push(Held { ledger, members, member, state, from, end, count, lacking });
        }
        Ok(all)
    }

    pub(super) fn roster(&mut self) -> Result<Roster> {
        let (replicas, least, before, generation) = (self.u8()?, self.u8()?, self.u8()?, self.u32()?);
        let copies = Copies { replicas, least, before, generation };
        let mut roster = Roster { copies: (copies != NO_COPIES).then_some(copies), ..Roster::default() };
        let foundings = self.u8()?;
        check_count(foundings.into(), FOUNDINGS_MAX)?;
        for _ in 0..foundings {
            let (time_ns, head) = (self.u64()?, Incarnation(self.u32()?));
            roster.foundings.push(Founding { time_ns, head });
        }
        while !self.rest.is_empty() {
            check_count(roster.members.len() + 1, ROSTER_MAX)?;
            let (node, generation, name) = (self.node()?, self.u32()?, self.text()?.to_owned());
            roster.members.push(Member { node, generation, name });
        }
        Ok(roster)
    }

    pub(super) fn numbers(&mut self) -> Result<Vec<Numbers>> {
        let count = usize::from(self.u16()?);
        check_count(count, FOLLOW_CURSORS_MAX)?;
        let mut all = Vec::new();
        for _ in 0..count {
            let (first, end) = (self.ledger()?, self.u32()?);
            let numbers = first.number..end;
            check_range(&numbers)?;
            all.push(Numbers { incarnation: first.incarnation, numbers });
        }
        Ok(all)
    }

    pub(super) fn place(&mut self) -> Result<(Vec<Numbers>, Vec<Cursor>)> {
        let (done, mut cursors) = (self.numbers()?, Vec::new());
        while !self.rest.is_empty() {
            check_count(cursors.len() + 1, FOLLOW_CURSORS_MAX)?;
            let (ledger, next) = (self.ledger()?, self.u32()?);
            check_span(0, next)?;
            cursors.push(Cursor { ledger, next });
        }
        Ok((done, cursors))
    }
}

const _: () = assert!(REPLICAS_MAX < PUT_HAS_SOURCE as usize);
const _: () = assert!(LACKING_MAX <= u8::MAX as usize && FOLLOW_CURSORS_MAX <= u16::MAX as usize);
