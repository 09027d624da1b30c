//! What a node says to a head of one ledger (frame Holds): the words that `kept` and `heard` share.

use std::ops::Range;

use super::entries::EntrySet;
use super::id::{Incarnation, LedgerId, NodeId};

/// What a node promises of a ledger.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// It is a member and takes entries; what it took and committed is promised.
    Open,
    /// It takes no more, and promises what is below its end.
    Over,
    /// As over, and the end is what the writing head said was settled: no lesser one is believed.
    Settled,
    /// It has something of it and promises nothing: what another identity left, or a copy that is not whole.
    Part,
}

impl State {
    /// Whether what is below the end is promised.
    #[must_use]
    pub(crate) const fn promises(self) -> bool {
        !matches!(self, Self::Part)
    }

    /// Whether it takes no more entries, and promises those that it took.
    #[must_use]
    pub(crate) const fn is_over(self) -> bool {
        matches!(self, Self::Over | Self::Settled)
    }
}

/// What one node has of one ledger. A head keeps one for each ledger and node: it is small.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Held {
    /// Whether it took entries by Put.
    pub(crate) member: bool,
    /// What it promises.
    pub(crate) state: State,
    /// What is below was let go.
    pub(crate) from: u32,
    /// Open: what it took. Over: below it all acknowledged entries lie. Part: what it was told to fetch up to, 0 if nothing.
    pub(crate) end: u32,
    /// A member: what it took, whether or not it can be read. Others: one more than the greatest entry they have. A member
    /// whose count is below a settled end has lost what it acknowledged.
    pub(crate) count: u32,
    /// Which of `from..max(end, count)` it lacks; most lack nothing.
    pub(crate) lacking: Option<Box<EntrySet>>,
}

impl Held {
    /// What it has or should have.
    fn span(&self) -> Range<u32> {
        self.from..self.count.max(self.end)
    }

    /// How many of these it has.
    #[must_use]
    pub(crate) fn count_in(&self, wanted: Range<u32>) -> u64 {
        let span = self.span();
        let within = wanted.start.max(span.start)..wanted.end.min(span.end);
        if within.is_empty() {
            return 0;
        }
        let lacking = self.lacking.as_ref().map_or(0, |lacking| lacking.count_in(within.clone()));
        u64::from(within.end - within.start) - lacking
    }

    /// Whether it has all of these.
    #[must_use]
    pub(crate) fn covers(&self, wanted: Range<u32>) -> bool {
        self.count_in(wanted.clone()) == u64::from(wanted.end.saturating_sub(wanted.start))
    }

    /// The first entries in one piece that it has of these.
    #[must_use]
    pub(crate) fn run(&self, wanted: Range<u32>) -> Option<Range<u32>> {
        let span = self.span();
        let within = wanted.start.max(span.start)..wanted.end.min(span.end);
        let mut start = within.start;
        for hole in self.lacking.iter().flat_map(|lacking| lacking.ranges()) {
            if hole.end <= start {
                continue;
            }
            if hole.start > start {
                return Some(start..hole.start.min(within.end)).filter(|run| !run.is_empty());
            }
            start = hole.end;
        }
        Some(start..within.end).filter(|run| !run.is_empty())
    }

    /// Whether it has been told what to fetch, and has not got it all.
    #[must_use]
    pub(crate) const fn adopts(&self) -> bool {
        matches!(self.state, State::Part) && self.end > 0
    }

    /// Whether it let all of it go.
    #[must_use]
    pub(crate) const fn let_go(&self) -> bool {
        self.from > 0 && self.from >= self.end
    }
}

/// One part of a Holds frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Report {
    /// A ledger of which there is something.
    Ledger {
        /// Which.
        ledger: LedgerId,
        /// On whom it was opened; empty if the node does not know, itself alone if it has forgotten the others. They matter
        /// only while it is open, and then they are known.
        members: Box<[NodeId]>,
        /// What.
        held: Held,
    },
    /// Ledgers that were let go whole: nobody owes them any more.
    Gone {
        /// Of which incarnation.
        incarnation: Incarnation,
        /// Their numbers.
        numbers: Range<u32>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_not_had() {
        let lacking = Some(Box::new(EntrySet::from(4..6)));
        let held = Held { member: true, state: State::Over, from: 2, end: 8, count: 10, lacking };
        assert!(
            held.covers(6..10) && held.covers(2..4) && !held.covers(1..4) && !held.covers(3..7) && held.covers(5..5)
        );
        assert_eq!((held.count_in(0..20), held.count_in(4..6), held.count_in(5..7)), (6, 0, 1));
        assert_eq!(
            (held.run(0..9), held.run(4..20), held.run(4..6), held.run(10..12)),
            (Some(2..4), Some(6..10), None, None)
        );
    }
}
