//! Which sequence numbers of a client were seen: a set of ranges, nearly always one. Pure.

use crate::limits;

/// Sequence numbers that were seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Ranges without their ends, in order, apart from each other.
    ranges: Vec<(u64, u64)>,
}

impl Seen {
    /// Notes a number; false if it was noted before. Past [`limits::READER_CLIENT_RANGES_MAX`] ranges the lowest half is
    /// forgotten.
    pub fn insert(&mut self, seq: u64) -> bool {
        if let Some((_, end)) = self.ranges.last_mut()
            && *end == seq
        {
            *end += 1;
            return true;
        }
        let at = self.ranges.partition_point(|&(start, _)| start <= seq);
        let before = at.checked_sub(1).and_then(|at| self.ranges.get(at)).copied();
        if before.is_some_and(|(_, end)| seq < end) {
            return false;
        }
        let joins_before = before.is_some_and(|(_, end)| end == seq);
        let joins_after = self.ranges.get(at).is_some_and(|&(start, _)| start == seq + 1);
        match (joins_before, joins_after) {
            (true, true) => {
                let (_, end) = self.ranges.remove(at);
                self.set_end(at - 1, end);
            }
            (true, false) => self.set_end(at - 1, seq + 1),
            (false, true) => {
                if let Some((start, _)) = self.ranges.get_mut(at) {
                    *start = seq;
                }
            }
            (false, false) => {
                self.ranges.insert(at, (seq, seq + 1));
                if self.ranges.len() > limits::READER_CLIENT_RANGES_MAX {
                    self.ranges.drain(..limits::READER_CLIENT_RANGES_MAX / 2);
                }
            }
        }
        true
    }

    fn set_end(&mut self, at: usize, to: u64) {
        if let Some((_, end)) = self.ranges.get_mut(at) {
            *end = to;
        }
    }

    /// Ranges that are remembered.
    #[must_use]
    pub const fn ranges(&self) -> usize {
        self.ranges.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_set_in_few_ranges(seqs in prop::collection::vec(0..60_u64, 0..120)) {
            let (mut seen, mut model) = (Seen::default(), BTreeSet::new());
            for seq in seqs {
                prop_assert_eq!(seen.insert(seq), model.insert(seq));
                let ranges = model.iter().filter(|&&seq| !model.contains(&(seq + 1))).count();
                prop_assert_eq!(seen.ranges(), ranges);
            }
        }
    }

    #[test]
    fn it_forgets_the_lowest_first() {
        let mut seen = Seen::default();
        for k in 0..10 * limits::READER_CLIENT_RANGES_MAX as u64 {
            assert!(seen.insert(2 * k));
            assert!(seen.ranges() <= limits::READER_CLIENT_RANGES_MAX);
        }
        assert!(!seen.insert(20 * limits::READER_CLIENT_RANGES_MAX as u64 - 2), "the newest is known");
        assert!(seen.insert(0), "the oldest is not");
    }
}
