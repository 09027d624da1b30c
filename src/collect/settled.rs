//! Up to which number all lines of one connection to the cluster are settled. Pure.

use std::collections::BTreeMap;

/// Ranges of numbers that are settled, in any order.
#[derive(Debug)]
pub(super) struct Settled {
    /// The first number that is not.
    next: u64,
    /// Ranges behind it, by their first number: as many as the client's window can be torn into.
    ahead: BTreeMap<u64, u64>,
}

impl Settled {
    /// Nothing is, from this number on.
    pub(super) const fn from(first: u64) -> Self {
        Self { next: first, ahead: BTreeMap::new() }
    }

    /// Notes numbers; by how many the first that is not settled went up.
    pub(super) fn note(&mut self, first: u64, count: u32) -> u64 {
        let before = self.next;
        let end = first.saturating_add(count.into());
        let known = self.ahead.entry(first).or_insert(end);
        *known = end.max(*known);
        while let Some(range) = self.ahead.first_entry().filter(|range| *range.key() <= self.next) {
            self.next = self.next.max(range.remove());
        }
        self.next - before
    }

    /// The last number up to which all are settled.
    pub(super) const fn last(&self) -> u64 {
        self.next.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_settled_out_of_order_counts_once_all_before_it_is() {
        let mut settled = Settled::from(5);
        assert_eq!((settled.note(8, 2), settled.last()), (0, 4));
        assert_eq!((settled.note(5, 1), settled.last()), (1, 5));
        assert_eq!((settled.note(6, 2), settled.last()), (4, 9));
        assert_eq!((settled.note(6, 2), settled.note(3, 1), settled.last()), (0, 0, 9));
        assert_eq!((settled.note(9, 3), settled.last()), (2, 11));
    }
}
