//! What a node tells heads of what it has, and what it asks them for.

use std::ops::Range;

use super::super::held::Report;
use super::super::id::LedgerId;
use super::{Kept, one};

impl Kept {
    /// Which entries below its ends it lacks: of adopted ledgers, and rot. Those of open ledgers come by Put.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = (LedgerId, Range<u32>)> + '_ {
        let entries = self.wanting.iter().filter_map(|&ledger| self.ledgers.get(&ledger).map(|entry| (ledger, entry)));
        entries.flat_map(|(ledger, entry)| entry.has.missing(entry.owed()).map(move |range| (ledger, range)))
    }

    /// Where the changes stand; what came before is told by [`all`](Self::all).
    #[must_use]
    pub(crate) const fn version(&self) -> u64 {
        self.version
    }

    /// Everything: what a head is told when the node registers.
    pub(crate) fn all(&self) -> impl Iterator<Item = Report> + '_ {
        let gone = self.gone.iter().flat_map(|(&incarnation, numbers)| {
            numbers.ranges().map(move |numbers| Report::Gone { incarnation, numbers })
        });
        self.ledgers.iter().map(|(&ledger, entry)| entry.report(ledger)).chain(gone)
    }

    /// What changed after a version; then the head is at the version now.
    pub(crate) fn changes(&self, after: u64) -> impl Iterator<Item = Report> + '_ {
        self.log.range(after.saturating_add(1)..).map(|(_, &ledger)| match self.ledgers.get(&ledger) {
            Some(entry) => entry.report(ledger),
            None => Report::Gone { incarnation: ledger.incarnation, numbers: one(ledger) },
        })
    }
}
