//! Which sequence numbers of a client were seen, and with which payloads: a set of ranges, nearly always one, and a
//! checksum for each of the last numbers. Pure.

use std::collections::VecDeque;

use crate::limits;

/// What is known of a number that comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Noted {
    /// It was not seen before.
    New,
    /// It was, with the same payload.
    Again,
    /// It was, with another payload, or so long ago that the payload is forgotten.
    Other,
}

/// Numbers that follow each other.
#[derive(Debug)]
struct Range {
    start: u64,
    /// The first number that is not in it.
    end: u64,
    /// Checksums of the payloads of its last numbers.
    payloads: VecDeque<u32>,
}

impl Range {
    /// The place of a number in `payloads`.
    fn place(&self, seq: u64) -> Option<usize> {
        let known = self.end - self.payloads.len() as u64;
        seq.checked_sub(known).and_then(|place| usize::try_from(place).ok())
    }

    /// Whether nothing of it is forgotten.
    fn is_whole(&self) -> bool {
        self.payloads.len() as u64 == self.end - self.start
    }
}

/// Sequence numbers that were seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// In order, apart from each other.
    ranges: Vec<Range>,
    payloads: usize,
}

impl Seen {
    /// Notes a number and its payload's checksum. Past [`limits::READER_CLIENT_RANGES_MAX`] ranges the lowest half is
    /// forgotten.
    pub(super) fn insert(&mut self, seq: u64, payload: u32) -> Noted {
        if let Some(last) = self.ranges.last_mut()
            && last.end == seq
        {
            last.end += 1;
            last.payloads.push_back(payload);
            self.payloads += 1;
            return Noted::New;
        }
        let at = self.ranges.partition_point(|range| range.start <= seq);
        if let Some(range) = at.checked_sub(1).and_then(|at| self.ranges.get_mut(at))
            && seq < range.end
        {
            let place = range.place(seq);
            return match place.and_then(|place| range.payloads.get_mut(place)) {
                Some(known) if *known == payload => Noted::Again,
                Some(known) => {
                    *known = payload;
                    Noted::Other
                }
                None => Noted::Other,
            };
        }
        self.ranges.insert(at, Range { start: seq, end: seq + 1, payloads: VecDeque::from([payload]) });
        self.payloads += 1;
        self.join(at);
        if let Some(before) = at.checked_sub(1) {
            self.join(before);
        }
        if self.ranges.len() > limits::READER_CLIENT_RANGES_MAX {
            let forgotten = self.ranges.drain(..limits::READER_CLIENT_RANGES_MAX / 2);
            self.payloads -= forgotten.map(|range| range.payloads.len()).sum::<usize>();
        }
        Noted::New
    }

    /// Makes one of the range at this place and the next, if nothing is between them.
    fn join(&mut self, at: usize) {
        let [one, next] = self.ranges.get_mut(at..at + 2).unwrap_or_default() else { return };
        if one.end != next.start {
            return;
        }
        one.end = next.end;
        if next.is_whole() {
            one.payloads.append(&mut next.payloads);
        } else {
            self.payloads -= one.payloads.len();
            one.payloads = std::mem::take(&mut next.payloads);
        }
        self.ranges.remove(at + 1);
    }

    /// Forgets the older half of all payloads.
    pub(super) fn forget_payloads(&mut self) {
        for range in &mut self.ranges {
            range.payloads.drain(..range.payloads.len().div_ceil(2));
            range.payloads.shrink_to_fit();
        }
        self.payloads = self.ranges.iter().map(|range| range.payloads.len()).sum();
    }

    /// Ranges that are remembered.
    #[must_use]
    pub(super) const fn ranges(&self) -> usize {
        self.ranges.len()
    }

    /// Payloads that are remembered.
    #[must_use]
    pub(super) const fn payloads(&self) -> usize {
        self.payloads
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_map_in_few_ranges(numbers in prop::collection::vec((0..60_u64, 0..2_u32, 0..20_u32), 0..160)) {
            let (mut seen, mut model) = (Seen::default(), BTreeMap::<u64, Option<u32>>::new());
            for (seq, payload, forget) in numbers {
                let wanted = match model.insert(seq, Some(payload)) {
                    None => Noted::New,
                    Some(Some(before)) if before == payload => Noted::Again,
                    Some(_) => Noted::Other,
                };
                let noted = seen.insert(seq, payload);
                // What is forgotten may be taken for another, and never for the same.
                prop_assert!(noted == wanted || (noted, wanted) == (Noted::Other, Noted::Again) && seen.payloads() < model.len());
                let ranges = model.keys().filter(|&&seq| !model.contains_key(&(seq + 1))).count();
                prop_assert_eq!(seen.ranges(), ranges);
                prop_assert_eq!(seen.payloads(), seen.ranges.iter().map(|range| range.payloads.len()).sum::<usize>());
                if forget == 0 {
                    seen.forget_payloads();
                    prop_assert!(seen.payloads() <= model.len() / 2);
                }
            }
        }
    }

    #[test]
    fn it_forgets_the_lowest_first() {
        let mut seen = Seen::default();
        for k in 0..10 * limits::READER_CLIENT_RANGES_MAX as u64 {
            assert_eq!(seen.insert(2 * k, 7), Noted::New);
            assert!(seen.ranges() <= limits::READER_CLIENT_RANGES_MAX);
        }
        let last = 20 * limits::READER_CLIENT_RANGES_MAX as u64 - 2;
        assert_eq!(seen.insert(last, 7), Noted::Again, "the newest is known");
        assert_eq!(seen.insert(last, 8), Noted::Other);
        assert_eq!(seen.insert(last, 8), Noted::Again, "the last payload counts");
        assert_eq!(seen.insert(0, 7), Noted::New, "the oldest is not");
    }
}
