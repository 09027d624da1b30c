//! How many records are to be kept by which nodes: the names after a record's sequence number, counted.
//!
//! It lets a repair pass over files and blocks in which nothing concerns it. Bounded: past a number of different sets
//! of names the rest is counted together, and may concern everybody.

use crate::limits::HOLDINGS_MAX;
use std::collections::BTreeMap;

/// The key of what does not fit: records of any nodes.
pub(crate) const OTHERS: &str = "*";

/// Counts of records by the names of the nodes that are to keep them, parted by commas; empty for records of which this
/// node is to keep the only copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Holdings {
    /// Records without names. Apart from the others: they are the usual ones, and to compare empty names is slow (the C
    /// library's `memcmp` loads from their address, which is none, and the processor takes 100 ns to undo that).
    unnamed: u64,
    named: BTreeMap<Box<str>, u64>,
}

impl Holdings {
    /// Counts `records` more for these names.
    pub(crate) fn add(&mut self, names: &str, records: u64) {
        if names.is_empty() {
            self.unnamed += records;
        } else if let Some(count) = self.named.get_mut(names) {
            *count += records;
        } else if self.named.len() < HOLDINGS_MAX || names == OTHERS {
            self.named.insert(names.into(), records);
        } else {
            *self.named.entry(OTHERS.into()).or_default() += records;
        }
    }

    /// Counts all of `other`, too.
    pub(crate) fn merge(&mut self, other: &Self) {
        other.iter().for_each(|(names, records)| self.add(names, records));
    }

    /// Names and counts, sorted by names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        let unnamed = (self.unnamed > 0).then_some(("", self.unnamed));
        unnamed.into_iter().chain(self.named.iter().map(|(names, records)| (&**names, *records)))
    }

    /// Records in all.
    #[must_use]
    pub(crate) fn records(&self) -> u64 {
        self.iter().map(|(_, records)| records).sum()
    }

    /// Records that a node of this name was to keep, too; an upper bound if some were counted under [`OTHERS`].
    #[must_use]
    pub(crate) fn shared_with(&self, name: &str) -> u64 {
        let concerns = |names: &str| names == OTHERS || names.split(',').any(|one| one == name);
        self.iter().filter(|(names, _)| concerns(names)).map(|(_, records)| records).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted() {
        let mut held = Holdings::default();
        for (names, records) in [("a,b", 2), ("", 5), ("b,c", 1), ("a,b", 1)] {
            held.add(names, records);
        }
        assert_eq!(held.iter().collect::<Vec<_>>(), [("", 5), ("a,b", 3), ("b,c", 1)]);
        assert_eq!((held.records(), held.shared_with("b"), held.shared_with("a"), held.shared_with("x")), (9, 4, 3, 0));
    }

    #[test]
    fn what_does_not_fit_is_counted_together() {
        let mut held = Holdings::default();
        for n in 0..HOLDINGS_MAX + 3 {
            held.add(&format!("a,n{n}"), 1);
        }
        let mut twice = held.clone();
        twice.merge(&held);
        assert_eq!(held.iter().count(), HOLDINGS_MAX + 1);
        assert_eq!((held.shared_with("n0"), held.shared_with("a")), (4, HOLDINGS_MAX as u64 + 3));
        assert_eq!((twice.iter().count(), twice.records()), (HOLDINGS_MAX + 1, 2 * held.records()));
    }
}
