//! An open ledger at the head that writes it: what its members acknowledged, what is settled, and how it is closed.
//!
//! It is over for the head when it is over for one member, or when it is full. Then it is closed at what is settled at
//! that moment: of later entries no client is told, so they may go to other ledgers under the same record ids. On whom
//! ledgers are opened is decided in `plan`.

use super::id::{ENTRIES_MAX, LedgerId, NodeId};
use super::planted::{self, Planted};

/// A ledger that this head writes. A second one of the same name is never made.
#[derive(Debug)]
pub(crate) struct Writing {
    ledger: LedgerId,
    members: Vec<Member>,
    next: u32,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    node: NodeId,
    /// Entries that it acknowledged by Put; copies made by repair do not count.
    acked: u32,
}

/// Where entries go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Placed {
    /// The first entry.
    pub(crate) first: u32,
    /// How many.
    pub(crate) count: u32,
}

impl Placed {
    /// Whether their Put opens the ledger, and so names its members.
    #[must_use]
    pub(crate) const fn opens(self) -> bool {
        self.first == 0
    }
}

/// A ledger that is over for its head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Closed {
    /// Which.
    pub(crate) ledger: LedgerId,
    /// What was settled: clients are told of what is below, and of nothing else.
    pub(crate) end: u32,
    /// Entries that were placed; those from `end` on go elsewhere.
    pub(crate) placed: u32,
    /// Whom to send Close: all members that are still connected. None if no entry was placed: nobody knows of it.
    pub(crate) tell: Vec<NodeId>,
}

/// An acknowledgement of what was not sent: its sender does not speak the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NotSent;

impl Writing {
    /// A ledger that is opened by its first entry.
    #[must_use]
    pub(crate) fn new(ledger: LedgerId, members: &[NodeId]) -> Self {
        let members = members.iter().map(|&node| Member { node, acked: 0 }).collect();
        Self { ledger, members, next: 0 }
    }

    /// Its name.
    #[must_use]
    pub(crate) const fn ledger(&self) -> LedgerId {
        self.ledger
    }

    /// Its members.
    pub(crate) fn members(&self) -> impl ExactSizeIterator<Item = NodeId> + '_ {
        self.members.iter().map(|member| member.node)
    }

    /// Whether a node is a member.
    #[must_use]
    pub(crate) fn has(&self, node: NodeId) -> bool {
        self.members().any(|member| member == node)
    }

    /// Takes so many entries; `None` if they do not fit any more: then the ledger is over.
    #[must_use]
    pub(crate) fn place(&mut self, count: u32) -> Option<Placed> {
        let next = self.next.checked_add(count).filter(|&next| next <= ENTRIES_MAX)?;
        let first = std::mem::replace(&mut self.next, next);
        Some(Placed { first, count })
    }

    /// How many entries were placed.
    #[must_use]
    pub(crate) const fn placed(&self) -> u32 {
        self.next
    }

    /// Entries below this are acknowledged by **all** members. Fewer would not do: those that acknowledged may be the ones
    /// that a read does not hear.
    #[must_use]
    pub(crate) fn settled(&self) -> u32 {
        let acked = self.members.iter().map(|member| member.acked);
        if planted::is(Planted::AckEarly) { acked.max() } else { acked.min() }.unwrap_or_default()
    }

    /// A member acknowledged all entries below `up_to`. Returns what is settled now: its clients may be told.
    ///
    /// # Errors
    /// That was not sent.
    pub(crate) fn acked(&mut self, node: NodeId, up_to: u32) -> Result<u32, NotSent> {
        let member = self.members.iter_mut().find(|member| member.node == node).ok_or(NotSent)?;
        if up_to > self.next {
            return Err(NotSent);
        }
        member.acked = member.acked.max(up_to);
        Ok(self.settled())
    }

    /// It is over: a member's connection ended, a member refused or says that it is over, or it is full.
    #[must_use]
    pub(crate) fn close(self) -> Closed {
        let greatest = self.members.iter().map(|member| member.acked).max().unwrap_or_default();
        let end = if planted::is(Planted::CloseAtGreatest) { greatest } else { self.settled() };
        let tell = if self.next == 0 { Vec::new() } else { self.members().collect() };
        Closed { ledger: self.ledger, end, placed: self.next, tell }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::id::Incarnation;

    const LEDGER: LedgerId = LedgerId { incarnation: Incarnation(1), number: 3 };

    #[test]
    fn what_all_members_have_is_settled_and_the_rest_goes_elsewhere() {
        let (a, b) = (NodeId(1), NodeId(2));
        let mut writing = Writing::new(LEDGER, &[a, b]);
        let placed = writing.place(3).unwrap();
        assert!(placed.opens() && !writing.place(2).unwrap().opens());
        assert_eq!(writing.acked(a, 5), Ok(0));
        assert_eq!(writing.acked(b, 3), Ok(3));
        assert_eq!(writing.acked(b, 2), Ok(3));
        assert_eq!(writing.acked(b, 6), Err(NotSent));
        assert_eq!(writing.acked(NodeId(3), 1), Err(NotSent));
        assert_eq!(writing.close(), Closed { ledger: LEDGER, end: 3, placed: 5, tell: vec![a, b] });
    }

    #[test]
    fn a_ledger_is_full_at_its_limit() {
        let mut writing = Writing::new(LEDGER, &[NodeId(1)]);
        assert!(writing.place(ENTRIES_MAX - 1).is_some());
        assert_eq!(writing.place(2), None);
        assert_eq!(writing.place(1), Some(Placed { first: ENTRIES_MAX - 1, count: 1 }));
        assert_eq!(writing.place(1), None);
    }

    #[test]
    fn nobody_is_told_of_a_ledger_without_entries() {
        assert_eq!(Writing::new(LEDGER, &[NodeId(1)]).close().tell, []);
    }
}
