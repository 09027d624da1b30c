//! What the frames of the replication protocol carry: what a node has of a ledger, the roster, the place of a reader.
//!
//! Their shape and their bytes. What they mean is decided in `ledger`; `docs/protocol.md` is the contract.

use std::ops::Range;

use bytes::BytesMut;

use super::FrameError;
use super::field::{Field, Fields, Result, check_count, check_span, choice, list, sequence};
use crate::limits::{FOLLOW_CURSORS_MAX, FOUNDINGS_MAX, HOLDS_MAX, LACKING_MAX, ROSTER_MAX};
use crate::wire::ledger::{Incarnation, LedgerId, NodeId};

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

/// Stands for no copies on the wire.
const NO_COPIES: Copies = Copies { replicas: 0, least: 0, before: 0, generation: 0 };

const _: () = assert!(LACKING_MAX <= u8::MAX as usize && FOLLOW_CURSORS_MAX <= u16::MAX as usize);

choice!(HoldState { Open, Over, Settled, Part }, FrameError::Flags);
sequence!(Held { ledger, members, member, state, from, end, count, lacking }, check_held);
sequence!(Copies { replicas, least, before, generation });
sequence!(Founding { time_ns, head });
sequence!(Member { node, generation, name });
sequence!(Roster { copies, foundings, members });
sequence!(Cursor { ledger, next }, check_cursor);
list!(Held, HOLDS_MAX, to the end);
list!(Range<u32>, LACKING_MAX, counted in u8);
list!(Founding, FOUNDINGS_MAX, counted in u8);
list!(Member, ROSTER_MAX, to the end);
list!(Numbers, FOLLOW_CURSORS_MAX, counted in u16);
list!(Cursor, FOLLOW_CURSORS_MAX, to the end);

impl Field for Option<Copies> {
    fn put(&self, out: &mut BytesMut) -> Result {
        self.unwrap_or(NO_COPIES).put(out)
    }

    fn take(fields: &mut Fields<'_>) -> Result<Self> {
        let copies = Copies::take(fields)?;
        Ok((copies != NO_COPIES).then_some(copies))
    }
}

/// Its first ledger, and the first number behind.
impl Field for Numbers {
    fn put(&self, out: &mut BytesMut) -> Result {
        check_range(&self.numbers)?;
        LedgerId { incarnation: self.incarnation, number: self.numbers.start }.put(out)?;
        self.numbers.end.put(out)
    }

    fn take(fields: &mut Fields<'_>) -> Result<Self> {
        let (first, end) = (LedgerId::take(fields)?, u32::take(fields)?);
        let numbers = first.number..end;
        check_range(&numbers)?;
        Ok(Self { incarnation: first.incarnation, numbers })
    }
}

fn check_held(held: &Held) -> Result {
    [held.from, held.end, held.count].into_iter().try_for_each(|entry| check_span(0, entry))?;
    held.lacking.iter().try_for_each(check_range)
}

fn check_cursor(cursor: &Cursor) -> Result {
    check_span(0, cursor.next)
}

/// A range that has something in it.
fn check_range(range: &Range<u32>) -> Result {
    if range.is_empty() { Err(FrameError::Range(range.start, range.end)) } else { check_span(range.start, range.end) }
}
