//! What repair has done: which records are held by other nodes than their lines say. Kept in `copies.txt`.
//!
//! A line of a log is never changed, so where its copies went is written beside it: for a range of a file, and the
//! records in it that name certain nodes, who holds them now. Pure; `docs/data-log.md` has the format.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::need::without_name;
use crate::data::segments::{checksum, is_data};
use crate::limits;

/// The file of the overlay.
pub(crate) const COPIES: &str = "copies.txt";

/// Records that were counted, by where their range begins and by the names in their lines.
pub(crate) type Counted = BTreeMap<u64, BTreeMap<String, u64>>;

/// What stands for no names.
const NONE: &str = "-";

/// Records of one file that were copied together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    /// The file, by the name it has when it is sealed.
    pub(crate) file: String,
    /// Where the first of them begins, bytes.
    pub(crate) from: u64,
    /// Where the last of them ends, bytes.
    pub(crate) to: u64,
    /// The names in their lines, parted by commas; empty for none.
    pub(crate) written: String,
    /// Who holds them now, parted by commas.
    pub(crate) holders: String,
    /// How many they are.
    pub(crate) records: u64,
    /// How many others lie between them and the beginning of the note that covered them until now.
    pub(crate) before: u64,
}

impl Note {
    /// Its line, newline included.
    #[must_use]
    pub(crate) fn to_line(&self) -> String {
        let or_none = |names: &str| if names.is_empty() { NONE.to_owned() } else { names.to_owned() };
        let (written, holders) = (or_none(&self.written), or_none(&self.holders));
        let Self { file, from, to, records, before, .. } = self;
        let fields = format!("{file} {from} {to} {written} {holders} {records} {before}");
        let crc = checksum(&fields);
        format!("{fields} {crc}\n")
    }

    fn from_line(line: &str) -> Option<Self> {
        let (fields, crc) = line.strip_suffix('\n')?.rsplit_once(' ')?;
        if crc != checksum(fields) {
            return None;
        }
        let mut fields = fields.split(' ');
        let or_none = |names: &str| if names == NONE { String::new() } else { names.to_owned() };
        let note = Self {
            file: fields.next().filter(|name| is_data(name))?.to_owned(),
            from: fields.next()?.parse().ok()?,
            to: fields.next()?.parse().ok()?,
            written: or_none(fields.next()?),
            holders: or_none(fields.next()?),
            records: fields.next()?.parse().ok()?,
            before: fields.next()?.parse().ok()?,
        };
        (fields.next().is_none() && note.from < note.to).then_some(note)
    }
}

/// A range of one file and one set of written names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range {
    /// Where it begins, bytes.
    pub(crate) from: u64,
    /// Where it ends, bytes.
    pub(crate) to: u64,
    /// Who holds the records now, parted by commas.
    pub(crate) holders: String,
    /// How many records.
    pub(crate) records: u64,
}

/// Ranges of one file and one set of written names, by where they begin. They do not overlap.
type Ranges = BTreeMap<u64, Range>;

/// Who holds what, where it is not what the lines say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Overlay {
    files: BTreeMap<String, BTreeMap<String, Ranges>>,
    /// Records by the names as written and by who holds them now.
    totals: BTreeMap<String, BTreeMap<String, u64>>,
    ranges: usize,
}

impl Overlay {
    /// Reads `copies.txt`: notes in the order in which they were made. The second answer is false if a line could not be
    /// read; what it said is copied again.
    #[must_use]
    pub(crate) fn parse(text: &[u8]) -> (Self, bool) {
        let (mut overlay, mut whole) = (Self::default(), true);
        for line in String::from_utf8_lossy(text).split_inclusive('\n') {
            whole &= Note::from_line(line).is_some_and(|note| overlay.note(note));
        }
        (overlay, whole)
    }

    /// The text of `copies.txt`, one line a range.
    #[must_use]
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        for (file, sets) in &self.files {
            for (written, ranges) in sets {
                for Range { from, to, holders, records } in ranges.values() {
                    let (file, written, holders) = (file.clone(), written.clone(), holders.clone());
                    let note = Note { file, from: *from, to: *to, written, holders, records: *records, before: 0 };
                    // A String takes whatever is written to it.
                    write!(text, "{}", note.to_line()).unwrap_or_default();
                }
            }
        }
        text
    }

    /// How many ranges it has.
    #[cfg(test)]
    #[must_use]
    pub(crate) const fn len(&self) -> usize {
        self.ranges
    }

    /// Whether there is room for another note.
    #[must_use]
    pub(crate) const fn has_room(&self) -> bool {
        self.ranges + 2 <= limits::REPAIR_RANGES_MAX
    }

    /// Notes that records are held by others now. False, and nothing is changed, if the note does not fit: it covers
    /// parts of several ranges, or there are too many.
    pub(crate) fn note(&mut self, note: Note) -> bool {
        if !self.has_room() {
            return false;
        }
        let Note { file, from, to, written, holders, records, before } = note;
        let ranges = self.files.entry(file).or_default().entry(written.clone()).or_default();
        // Where nothing lies, nothing is said: what is noted now may begin or end inside. One that covers all of it is
        // looked at below.
        let covers = |range: &Range| range.from <= from && to <= range.to;
        let touches = ranges.range(..to).rev().map(|(_, range)| range).take_while(|range| range.to > from);
        let empty: Vec<Range> = touches.filter(|range| range.records == 0 && !covers(range)).cloned().collect();
        for range in empty {
            ranges.remove(&range.from);
            self.ranges -= 1;
            let (left, right) = ((range.from, from.min(range.to)), (to.max(range.from), range.to));
            for (from, to) in [left, right].into_iter().filter(|(from, to)| from < to) {
                ranges.insert(from, Range { from, to, ..range.clone() });
                self.ranges += 1;
            }
        }
        let old = ranges.range(..to).next_back().map(|(_, range)| range.clone()).filter(|range| range.to > from);
        let totals = self.totals.entry(written).or_default();
        if let Some(old) = old {
            if old.from > from || old.to < to {
                return false;
            }
            // Where only the sum of several ranges was known the numbers are not exact, and never below 0.
            let others = if old.from == from { 0 } else { before.min(old.records) };
            // Behind its end nothing is left: what was counted there has rotted.
            let rest = if to < old.to { old.records.saturating_sub(others + records) } else { 0 };
            ranges.remove(&old.from);
            self.ranges -= 1;
            if others > 0 {
                ranges.insert(old.from, Range { to: from, records: others, ..old.clone() });
                self.ranges += 1;
            }
            if to < old.to {
                ranges.insert(to, Range { from: to, records: rest, ..old.clone() });
                self.ranges += 1;
            }
            take(totals, &old.holders, old.records - others - rest);
        }
        *totals.entry(holders.clone()).or_default() += records;
        let mut range = Range { from, to, holders, records };
        // Neighbours with the same holders become one, if there is no gap: something else may lie in it.
        if let Some((&at, left)) = ranges.range(..from).next_back()
            && left.to == from
            && left.holders == range.holders
        {
            (range.from, range.records) = (left.from, range.records + left.records);
            ranges.remove(&at);
            self.ranges -= 1;
        }
        if let Some((&at, right)) = ranges.range(to..).next()
            && at == to
            && right.holders == range.holders
        {
            (range.to, range.records) = (right.to, range.records + right.records);
            ranges.remove(&at);
            self.ranges -= 1;
        }
        ranges.insert(range.from, range);
        self.ranges += 1;
        true
    }

    /// The range that covers a record which begins here and names these nodes.
    #[must_use]
    pub(crate) fn find(&self, file: &str, offset: u64, written: &str) -> Option<&Range> {
        let ranges = self.files.get(file)?.get(written)?;
        ranges.range(..=offset).next_back().map(|(_, range)| range).filter(|range| offset < range.to)
    }

    /// The ranges of one file for records that name these nodes.
    pub(crate) fn of(&self, file: &str, written: &str) -> impl Iterator<Item = &Range> {
        self.files.get(file).and_then(|sets| sets.get(written)).into_iter().flat_map(Ranges::values)
    }

    /// The ranges of one file that hold records, with the names in their lines.
    pub(crate) fn in_file(&self, file: &str) -> impl Iterator<Item = (&str, &Range)> {
        let sets = self.files.get(file).into_iter().flatten();
        let ranges = sets.flat_map(|(written, ranges)| ranges.values().map(|range| (written.as_str(), range)));
        ranges.filter(|(_, range)| range.records > 0)
    }

    /// Records by the names in their lines and by who holds them now.
    pub(crate) fn totals(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.totals.iter().flat_map(|(written, by)| by.iter().map(|(now, n)| (written.as_str(), now.as_str(), *n)))
    }

    /// Records with these names that it knows of.
    #[must_use]
    pub(crate) fn records(&self, written: &str) -> u64 {
        self.totals.get(written).map_or(0, |by| by.values().sum())
    }

    /// Forgets files that are not there any more, and what lies beyond the end of one: it was cut off.
    pub(crate) fn fit<'a>(&mut self, files: impl Iterator<Item = (&'a str, u64)>) {
        let lengths: BTreeMap<&str, u64> = files.collect();
        for (file, sets) in &mut self.files {
            let bytes = lengths.get(file.as_str()).copied().unwrap_or(0);
            for (written, ranges) in sets {
                ranges.retain(|_, range| {
                    let fits = range.to <= bytes;
                    if !fits {
                        self.ranges -= 1;
                        if let Some(totals) = self.totals.get_mut(written) {
                            take(totals, &range.holders, range.records);
                        }
                    }
                    fits
                });
            }
        }
        self.files.retain(|file, _| lengths.contains_key(file.as_str()));
    }

    /// Sets how many records lie in each range of a file that ends there at most, as counted by who read it: by the names in
    /// the lines and where the range begins. What was torn or has rotted is not there any more. True if that changes anything.
    pub(crate) fn recount(&mut self, file: &str, bytes: u64, counted: &Counted) -> bool {
        let mut changed = false;
        let sets = self.files.get_mut(file).into_iter().flatten();
        for (written, ranges) in sets {
            for range in ranges.values_mut().filter(|range| range.to <= bytes) {
                let records = counted.get(&range.from).and_then(|counted| counted.get(written)).copied().unwrap_or(0);
                if records != range.records {
                    let totals = self.totals.entry(written.clone()).or_default();
                    take(totals, &range.holders, range.records);
                    *totals.entry(range.holders.clone()).or_default() += records;
                    range.records = records;
                    changed = true;
                }
            }
        }
        changed
    }

    /// The node of this name is another one from here on: what was there is not. `held` is what lies in each file: its
    /// name and length, and how many records name which nodes.
    pub(crate) fn forget<'a>(&mut self, name: &str, held: impl Iterator<Item = (&'a str, u64, &'a str, u64)>) {
        let concerns = |names: &str| names.split(',').any(|one| one == name);
        let mut text = String::new();
        for (file, sets) in &self.files {
            for (written, ranges) in sets {
                for range in ranges.values() {
                    let holders = without_name(&range.holders, name);
                    let (file, written, Range { from, to, records, .. }) =
                        (file.clone(), written.clone(), range.clone());
                    text.push_str(&Note { file, from, to, written, holders, records, before: 0 }.to_line());
                }
            }
        }
        for (file, bytes, written, records) in held.filter(|(_, _, written, _)| concerns(written)) {
            // What the overlay knew is noted above; between and behind lies what it did not know.
            let known: u64 = self.of(file, written).map(|range| range.records).sum();
            if records <= known {
                continue;
            }
            let mut gaps = Vec::new();
            let mut at = 0;
            for range in self.of(file, written) {
                gaps.push((at, range.from));
                at = range.to;
            }
            gaps.push((at, bytes));
            gaps.retain(|(from, to)| from < to);
            // How many lie in which gap is not known: all are counted for the last, which is the one that grew.
            let last = gaps.len().saturating_sub(1);
            for (k, (from, to)) in gaps.into_iter().enumerate() {
                let records = if k == last { records - known } else { 0 };
                let (file, written, holders) = (file.to_owned(), written.to_owned(), without_name(written, name));
                text.push_str(&Note { file, from, to, written, holders, records, before: 0 }.to_line());
            }
        }
        (*self, _) = Self::parse(text.as_bytes());
    }
}

fn take(totals: &mut BTreeMap<String, u64>, holders: &str, records: u64) {
    if let Some(count) = totals.get_mut(holders) {
        *count = count.saturating_sub(records);
        if *count == 0 {
            totals.remove(holders);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = "data-1795234260----0----6.txt";

    fn note(from: u64, to: u64, holders: &str, records: u64, before: u64) -> Note {
        let (file, written, holders) = (FILE.to_owned(), "a,x".to_owned(), holders.to_owned());
        Note { file, from, to, written, holders, records, before }
    }

    fn ranges(overlay: &Overlay) -> Vec<(u64, u64, &str, u64)> {
        overlay.of(FILE, "a,x").map(|range| (range.from, range.to, range.holders.as_str(), range.records)).collect()
    }

    #[test]
    fn neighbours_with_the_same_holders_become_one() {
        let mut overlay = Overlay::default();
        assert!(overlay.note(note(0, 100, "a,b", 2, 0)));
        assert!(overlay.note(note(100, 200, "a,b", 1, 0)));
        assert!(overlay.note(note(200, 300, "a,c", 5, 0)));
        assert!(overlay.note(note(350, 400, "a,c", 5, 0)));
        assert_eq!(ranges(&overlay), [(0, 200, "a,b", 3), (200, 300, "a,c", 5), (350, 400, "a,c", 5)]);
        assert_eq!(overlay.find(FILE, 199, "a,x").map(|range| range.holders.as_str()), Some("a,b"));
        assert_eq!(overlay.find(FILE, 300, "a,x"), None);
        assert_eq!(overlay.find(FILE, 0, "a,y"), None);
        assert_eq!(overlay.totals().collect::<Vec<_>>(), [("a,x", "a,b", 3), ("a,x", "a,c", 10)]);
        assert_eq!((overlay.records("a,x"), overlay.len()), (13, 3));
    }

    #[test]
    fn a_note_may_begin_and_end_where_nothing_lies() {
        for (from, to) in [(150, 400), (150, 250), (50, 150), (100, 400), (0, 200)] {
            let mut overlay = Overlay::default();
            assert!(overlay.note(note(100, 200, "a", 0, 0)));
            assert!(overlay.note(note(from, to, "a,b", 3, 0)), "{from} to {to}");
            assert_eq!(overlay.find(FILE, from, "a,x").map(|range| (range.to, range.records)), Some((to, 3)));
            assert_eq!(overlay.find(FILE, 100, "a,x").is_some_and(|range| range.holders == "a"), from > 100);
            assert_eq!(overlay.find(FILE, 199, "a,x").is_some_and(|range| range.holders == "a"), to < 200);
            assert_eq!(overlay.len(), overlay.of(FILE, "a,x").count());
        }
    }

    #[test]
    fn a_part_that_is_copied_once_more_is_cut_out() {
        let mut overlay = Overlay::default();
        assert!(overlay.note(note(0, 100, "a,b", 10, 0)));
        assert!(overlay.note(note(40, 60, "a,c", 2, 4)));
        assert_eq!(ranges(&overlay), [(0, 40, "a,b", 4), (40, 60, "a,c", 2), (60, 100, "a,b", 4)]);
        assert!(!overlay.note(note(50, 70, "a,d", 2, 0)), "parts of two");
        assert!(overlay.note(note(60, 100, "a,c", 4, 0)));
        assert_eq!(ranges(&overlay), [(0, 40, "a,b", 4), (40, 100, "a,c", 6)]);
    }

    #[test]
    fn the_text_round_trips_and_damage_is_noticed() {
        let mut overlay = Overlay::default();
        overlay.note(note(0, 100, "a,b", 10, 0));
        overlay.note(note(40, 60, "a,c", 2, 4));
        overlay.note(Note { written: String::new(), ..note(0, 50, "a,c", 2, 0) });
        let text = overlay.to_text();
        assert_eq!(Overlay::parse(text.as_bytes()), (overlay, true));
        assert_eq!(
            text.lines().next().map(|line| line.rsplit_once(' ').unwrap().0),
            Some("data-1795234260----0----6.txt 0 50 - a,c 2 0")
        );
        for at in 0..text.len() {
            let mut damaged = text.clone().into_bytes();
            damaged[at] ^= 1;
            assert!(!Overlay::parse(&damaged).1, "byte {at}");
        }
    }

    #[test]
    fn what_is_cut_off_or_removed_is_forgotten() {
        let mut overlay = Overlay::default();
        overlay.note(note(0, 100, "a,b", 10, 0));
        overlay.note(note(100, 200, "a,c", 10, 0));
        overlay.note(Note { file: "data-1795234260----0----7.txt".to_owned(), ..note(0, 50, "a,c", 2, 0) });
        overlay.fit([(FILE, 150)].into_iter());
        assert_eq!(overlay.totals().collect::<Vec<_>>(), [("a,x", "a,b", 10)]);
        assert_eq!((ranges(&overlay), overlay.len()), (vec![(0, 100, "a,b", 10)], 1));
        assert!(overlay.note(note(100, 150, "a,b", 1, 0)));
    }

    #[test]
    fn what_is_not_there_any_more_is_not_counted() {
        let mut overlay = Overlay::default();
        assert!(overlay.note(note(0, 100, "a", 4, 0)) && overlay.note(note(200, 300, "a,c", 2, 0)));
        let file = note(0, 1, "a", 1, 0).file;
        let written = note(0, 1, "a", 1, 0).written;
        let counted = [(0, 3), (200, 2)].map(|(from, records)| (from, BTreeMap::from([(written.clone(), records)])));
        let counted = Counted::from(counted);
        assert!(overlay.recount(&file, 300, &counted));
        assert_eq!(overlay.records(&written), 5);
        assert!(!overlay.recount(&file, 300, &counted), "no news");
        assert!(overlay.recount(&file, 100, &Counted::new()), "what lies behind was not read");
        assert_eq!(overlay.records(&written), 2);
    }

    #[test]
    fn what_rotted_in_a_range_is_counted_no_more_when_all_of_it_was_copied() {
        let mut overlay = Overlay::default();
        overlay.note(note(0, 100, "a,b", 37, 0));
        assert!(overlay.note(note(0, 100, "a,b,c", 18, 0)));
        assert_eq!(overlay.totals().map(|(_, now, n)| (now, n)).collect::<Vec<_>>(), [("a,b,c", 18)]);
        let file = note(0, 1, "a", 1, 0).file;
        assert_eq!(overlay.in_file(&file).map(|(_, range)| range.records).collect::<Vec<_>>(), [18]);
        assert!(overlay.recount(&file, 100, &Counted::new()));
        assert_eq!(overlay.in_file(&file).count(), 0);
    }

    #[test]
    fn a_wiped_node_holds_nothing_of_what_was_there() {
        let mut overlay = Overlay::default();
        overlay.note(note(10, 100, "a,b,x", 4, 0));
        overlay.forget("x", [(FILE, 500, "a,x", 10), (FILE, 500, "a,b", 7), (FILE, 500, "x", 1)].into_iter());
        assert_eq!(ranges(&overlay), [(0, 10, "a", 0), (10, 100, "a,b", 4), (100, 500, "a", 6)]);
        assert_eq!(overlay.find(FILE, 499, "x").map(|range| range.holders.as_str()), Some(""));
        assert_eq!(overlay.find(FILE, 499, "a,b"), None);
        // What the new one gets behind that is its own.
        assert_eq!(overlay.find(FILE, 500, "a,x"), None);
        assert!(overlay.note(note(120, 300, "a,x", 5, 0)) && overlay.note(note(300, 480, "a,x", 1, 0)));
        assert_eq!(ranges(&overlay), [(0, 10, "a", 0), (10, 100, "a,b", 4), (120, 480, "a,x", 6), (480, 500, "a", 0)]);
        assert_eq!(overlay.totals().collect::<Vec<_>>(), [("a,x", "a,b", 4), ("a,x", "a,x", 6), ("x", "", 1)]);
    }

    proptest! {
        /// Sweeps over a file of lines of one set, each from its beginning, against a model that knows every line.
        #[test]
        fn it_says_of_each_record_what_was_noted_last(
            sweeps in prop::collection::vec((0..40_usize, 1..9_usize, 0..3_usize), 1..30),
        ) {
            const LINES: usize = 40;
            let (mut overlay, mut model) = (Overlay::default(), vec![None::<usize>; LINES]);
            let names = ["a,b", "a,c", "a,d"];
            for (first, count, holders) in sweeps {
                // As a sweep does: only lines of one range, and it has counted what lies before them in it.
                let range = |k: usize| overlay.find(FILE, k as u64 * 10, "a,x").map(|range| range.from);
                let key = range(first);
                let end = (first..LINES.min(first + count)).take_while(|k| range(*k) == key).last().unwrap_or(first) + 1;
                let before = (0..first).filter(|k| range(*k) == key).count() as u64;
                let before = if key.is_some() { before } else { 0 };
                let new = note(first as u64 * 10, end as u64 * 10, names[holders], (end - first) as u64, before);
                prop_assert!(overlay.note(new));
                model[first..end].iter_mut().for_each(|line| *line = Some(holders));
                for (k, line) in model.iter().enumerate() {
                    let said = overlay.find(FILE, k as u64 * 10 + 5, "a,x").map(|range| range.holders.as_str());
                    prop_assert_eq!(said, line.map(|at| names[at]));
                }
                for (at, name) in names.iter().enumerate() {
                    let said = overlay.totals().filter(|(_, now, _)| now == name).map(|(_, _, n)| n).sum::<u64>();
                    prop_assert_eq!(said, model.iter().filter(|line| **line == Some(at)).count() as u64);
                }
                prop_assert_eq!(overlay.len(), overlay.of(FILE, "a,x").count());
                prop_assert_eq!(&Overlay::parse(overlay.to_text().as_bytes()).0, &overlay);
            }
        }
    }
}
