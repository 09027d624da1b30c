//! Sets of numbers as sorted ranges: the entries that a node has of a ledger, the numbers of ledgers that were let go.
//!
//! The normal case is one range that grows at its end; it costs a comparison. Ranges are half open, disjoint, and do not
//! touch.

use std::ops::Range;

/// A set of entries.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct EntrySet {
    ranges: Vec<Range<u32>>,
}

impl From<Range<u32>> for EntrySet {
    fn from(range: Range<u32>) -> Self {
        let mut set = Self::default();
        set.insert_range(range);
        set
    }
}

impl EntrySet {
    /// The ranges, in order.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        self.ranges.iter().cloned()
    }

    /// How many ranges it takes to say it.
    #[must_use]
    pub(crate) const fn pieces(&self) -> usize {
        self.ranges.len()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub(crate) const fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub(crate) fn count(&self) -> u64 {
        self.ranges.iter().map(|range| u64::from(range.end - range.start)).sum()
    }

    /// How many of these there are.
    #[must_use]
    pub(crate) fn count_in(&self, within: Range<u32>) -> u64 {
        let missing: u64 = self.missing(within.clone()).map(|range| u64::from(range.end - range.start)).sum();
        u64::from(within.end.saturating_sub(within.start)) - missing
    }

    /// The least one.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn first(&self) -> Option<u32> {
        self.ranges.first().map(|range| range.start)
    }

    /// The greatest one.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn last(&self) -> Option<u32> {
        self.ranges.last().map(|range| range.end - 1)
    }

    /// One more than the greatest, 0 if there is none.
    #[must_use]
    pub(crate) fn end(&self) -> u32 {
        self.ranges.last().map_or(0, |range| range.end)
    }

    /// Where the first range is that ends above `entry`.
    fn place(&self, entry: u32) -> usize {
        self.ranges.partition_point(|range| range.end <= entry)
    }

    /// Whether it is in.
    #[must_use]
    pub(crate) fn contains(&self, entry: u32) -> bool {
        self.ranges.get(self.place(entry)).is_some_and(|range| range.start <= entry)
    }

    /// Whether all of these are in; of none of them, too.
    #[must_use]
    pub(crate) fn covers(&self, wanted: Range<u32>) -> bool {
        wanted.is_empty()
            || self
                .ranges
                .get(self.place(wanted.start))
                .is_some_and(|range| range.start <= wanted.start && wanted.end <= range.end)
    }

    /// Which of these are not in, in order.
    pub(crate) fn missing(&self, wanted: Range<u32>) -> impl Iterator<Item = Range<u32>> + '_ {
        let mut rest = self.ranges.get(self.place(wanted.start)..).unwrap_or_default().iter();
        let mut at = wanted.start;
        std::iter::from_fn(move || {
            while at < wanted.end {
                let next = rest.next();
                let gap = at..next.map_or(wanted.end, |range| range.start.min(wanted.end));
                at = next.map_or(wanted.end, |range| range.end);
                if !gap.is_empty() {
                    return Some(gap);
                }
            }
            None
        })
    }

    /// Adds one.
    pub(crate) fn insert(&mut self, entry: u32) {
        self.insert_range(entry..entry.saturating_add(1));
    }

    /// Adds all of these.
    pub(crate) fn insert_range(&mut self, new: Range<u32>) {
        if new.is_empty() {
            return;
        }
        match self.ranges.last_mut() {
            Some(last) if last.end == new.start => last.end = new.end,
            Some(last) if last.end > new.start => self.join(new),
            _ => self.ranges.push(new),
        }
    }

    /// Adds what is not behind the end: one range takes the place of all that it touches.
    fn join(&mut self, new: Range<u32>) {
        let from = self.ranges.partition_point(|range| range.end < new.start);
        let to = self.ranges.partition_point(|range| range.start <= new.end);
        let touched = self.ranges.get(from..to).unwrap_or_default();
        let start = touched.first().map_or(new.start, |range| range.start.min(new.start));
        let end = touched.last().map_or(new.end, |range| range.end.max(new.end));
        self.ranges.splice(from..to, std::iter::once(start..end));
    }

    /// Takes one out.
    #[cfg(test)]
    pub(crate) fn remove(&mut self, entry: u32) {
        self.remove_range(entry..entry.saturating_add(1));
    }

    /// Takes all of these out.
    pub(crate) fn remove_range(&mut self, old: Range<u32>) {
        if old.is_empty() {
            return;
        }
        let from = self.place(old.start);
        let to = self.ranges.partition_point(|range| range.start < old.end);
        let Some(cut) = self.ranges.get(from..to) else { return };
        let (Some(first), Some(last)) = (cut.first(), cut.last()) else { return };
        let left = [first.start..old.start.min(first.end), old.end.max(last.start)..last.end];
        self.ranges.splice(from..to, left.into_iter().filter(|range| !range.is_empty()));
    }

    /// Adds all that the other has.
    pub(crate) fn union(&mut self, other: &Self) {
        for range in other.ranges() {
            self.insert_range(range);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn what_grows_at_its_end_is_one_range() {
        let mut set = EntrySet::default();
        for entry in 0..1_000 {
            set.insert(entry);
        }
        assert_eq!((set.pieces(), set.count(), set.first(), set.last()), (1, 1_000, Some(0), Some(999)));
        set.remove(500);
        assert_eq!(set.missing(0..1_001).collect::<Vec<_>>(), [500..501, 1_000..1_001]);
    }

    proptest! {
        #[test]
        fn it_is_a_set(steps in prop::collection::vec((any::<bool>(), 0..60u32, 0..12u32), 0..40), a in 0..70u32, len in 0..30u32) {
            let (mut set, mut model) = (EntrySet::default(), BTreeSet::new());
            for (add, start, len) in steps {
                if add {
                    set.insert_range(start..start + len);
                    model.extend(start..start + len);
                } else {
                    set.remove_range(start..start + len);
                    model.retain(|n| !(start..start + len).contains(n));
                }
            }
            prop_assert_eq!(set.ranges().flatten().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            prop_assert!(set.ranges.windows(2).all(|pair| pair[0].end < pair[1].start), "{:?}", set);
            let wanted = a..a + len;
            prop_assert_eq!(set.covers(wanted.clone()), wanted.clone().all(|n| model.contains(&n)));
            prop_assert_eq!(set.contains(a), model.contains(&a));
            let missing: Vec<u32> = set.missing(wanted.clone()).flatten().collect();
            prop_assert_eq!(&missing, &wanted.clone().filter(|n| !model.contains(n)).collect::<Vec<_>>());
            prop_assert_eq!(set.count_in(wanted.clone()), wanted.filter(|n| model.contains(n)).count() as u64);
            prop_assert_eq!(set.end(), model.last().map_or(0, |n| n + 1));
            let mut other = EntrySet::from(a..a + len);
            other.union(&set);
            model.extend(a..a + len);
            prop_assert_eq!(other.count(), model.len() as u64);
        }
    }
}
