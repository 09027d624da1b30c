//! Which entries of which ledgers lie in one file of records, and the text of that.
//!
//! A file has few ledgers, and of each mostly one run of entries. Records of format 1 stand in no ledger and are not here.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::ledger::entries::EntrySet;
use crate::ledger::text::parse_entry;
use crate::limits::FILE_RUNS_MAX;
use crate::wire::ledger::{Digits, LedgerId};

/// The entries in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ledgers(BTreeMap<LedgerId, EntrySet>);

impl Ledgers {
    /// Adds entries.
    pub(crate) fn add(&mut self, ledger: LedgerId, entries: Range<u32>) {
        self.0.entry(ledger).or_default().insert_range(entries);
    }

    /// Adds all that the other has.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (ledger, entries) in &other.0 {
            self.0.entry(*ledger).or_default().union(entries);
        }
    }

    /// The entries of one ledger.
    #[must_use]
    pub(crate) fn of(&self, ledger: LedgerId) -> Option<&EntrySet> {
        self.0.get(&ledger)
    }

    /// Each ledger and its entries.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (LedgerId, &EntrySet)> {
        self.0.iter().map(|(ledger, entries)| (*ledger, entries))
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// A line for each ledger: `ledger <incarnation>.<number> <first>..<end>[,<first>..<end>…]`; `None` if that is too much to
    /// be worth writing down.
    #[must_use]
    pub(crate) fn to_lines(&self) -> Option<Vec<String>> {
        let runs: usize = self.0.values().map(EntrySet::pieces).sum();
        (runs <= FILE_RUNS_MAX).then(|| self.0.iter().map(|(ledger, entries)| line(*ledger, entries)).collect())
    }

    /// Takes what follows `ledger ` in such a line; `None` if it makes no sense.
    #[must_use]
    pub(crate) fn take_line(&mut self, fields: &str) -> Option<()> {
        let (ledger, runs) = fields.split_once(' ')?;
        let ledger = ledger.parse().ok()?;
        for run in runs.split(',') {
            let (first, end) = run.split_once("..")?;
            let range = parse_entry(first)?..parse_entry(end)?;
            if range.is_empty() {
                return None;
            }
            self.add(ledger, range);
        }
        Some(())
    }
}

fn line(ledger: LedgerId, entries: &EntrySet) -> String {
    let runs: Vec<String> =
        entries.ranges().map(|range| format!("{}..{}", Digits(range.start), Digits(range.end))).collect();
    format!("ledger {ledger} {}", runs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ledger::Incarnation;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lines_round_trip(entries in prop::collection::vec((0..4_u32, 0..5_u32, 0..90_u32, 1..9_u32), 0..30)) {
            let mut ledgers = Ledgers::default();
            for (incarnation, number, first, len) in entries {
                ledgers.add(LedgerId { incarnation: Incarnation(incarnation), number }, first..first + len);
            }
            let mut again = Ledgers::default();
            for line in ledgers.to_lines().unwrap() {
                prop_assert_eq!(again.take_line(line.strip_prefix("ledger ").unwrap()), Some(()));
            }
            prop_assert_eq!(again, ledgers);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in
            ["", "-----.-", "-----.- ", "-----.- 0", "-----.- 1..1", "-----.- 1..0", "-----.- 0..1,", "x.- 0..1"]
        {
            assert_eq!(Ledgers::default().take_line(line), None, "{line}");
        }
    }
}
