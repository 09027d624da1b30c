//! Which sources have records in a file or in a folder: how many, the first and the last.
//!
//! One table for each file, which its sidecar keeps, and one for all of a node. Both are bounded: a table that is full says
//! that there are more, and who looks for a name reads such a file. Pure but for [`Shared`], which two threads look at.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::limits;
use crate::wire::filter::SourceFilter;
use crate::wire::id::RecordId;
use crate::wire::said::Who;
use crate::wire::source::SourceName;

/// What is kept of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Records.
    pub(crate) records: u64,
    /// The least id; of a node that let records go, it may be less than the least that is left.
    pub(crate) first: RecordId,
    /// The greatest id.
    pub(crate) last: RecordId,
}

impl Heard {
    /// The records of a batch: their ids lie in this range, both ends included.
    pub(crate) const fn of(records: u64, first: RecordId, last: RecordId) -> Self {
        Self { records, first, last }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.records += other.records;
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

/// A table of sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sources {
    known: BTreeMap<SourceName, Heard>,
    /// There are more than stand here.
    more: bool,
    most: usize,
}

impl Default for Sources {
    /// That of one file.
    fn default() -> Self {
        Self::of_at_most(limits::FILE_SOURCES_MAX)
    }
}

impl Sources {
    /// A table of so many names at most.
    pub(crate) const fn of_at_most(most: usize) -> Self {
        Self { known: BTreeMap::new(), more: false, most }
    }

    /// Adds records of a source.
    pub(crate) fn add(&mut self, name: SourceName, heard: Heard) {
        if let Some(known) = self.known.get_mut(&name) {
            known.add(heard);
        } else if self.known.len() < self.most {
            self.known.insert(name, heard);
        } else {
            self.more = true;
        }
    }

    /// Adds all that the other has.
    pub(crate) fn merge(&mut self, other: &Self) {
        other.iter().for_each(|(name, heard)| self.add(*name, *heard));
        self.more |= other.more;
    }

    /// Takes away what a file had that is let go. Nothing below `least` is left.
    pub(crate) fn let_go(&mut self, file: &Self, least: RecordId) {
        for (name, gone) in file.iter() {
            let Some(known) = self.known.get_mut(name) else { continue };
            known.records = known.records.saturating_sub(gone.records);
            known.first = known.first.max(least);
            if known.records == 0 {
                self.known.remove(name);
            }
        }
    }

    /// Each name, and what there is of it.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&SourceName, &Heard)> {
        self.known.iter()
    }

    /// The names behind this one.
    pub(crate) fn behind(&self, last: Option<SourceName>) -> impl Iterator<Item = (&SourceName, &Heard)> {
        let from = last.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        self.known.range((from, std::ops::Bound::Unbounded))
    }

    /// Whether there are more than stand here.
    pub(crate) const fn more(&self) -> bool {
        self.more
    }

    /// Whether there may be records that the filter lets pass.
    pub(crate) fn may_have(&self, filter: &SourceFilter) -> bool {
        let is_there = |who: &Who| match who {
            Who::Source(name) => self.known.contains_key(name),
            // No sign of a name is less than a hyphen, so the group's names begin there.
            Who::Group(group) => SourceName::join(group, b"-")
                .is_ok_and(|least| self.known.range(least..).next().is_some_and(|(name, _)| name.is_in(group))),
        };
        filter.is_all() || self.more || filter.iter().any(is_there)
    }

    /// A line for each source: `source <name> <records> <first> <last>`, and `source *` if there are more.
    pub(crate) fn write_lines(&self, text: &mut String) {
        for (name, Heard { records, first, last }) in &self.known {
            // Writing to a string does not fail.
            writeln!(text, "source {name} {records} {first} {last}").unwrap_or_default();
        }
        if self.more {
            text.push_str("source *\n");
        }
    }

    /// Takes what follows `source ` in such a line; `None` if it makes no sense.
    #[must_use]
    pub(crate) fn take_line(&mut self, fields: &str) -> Option<()> {
        if fields == "*" {
            self.more = true;
            return Some(());
        }
        let mut fields = fields.split(' ');
        let name = fields.next()?.parse().ok()?;
        let (records, first, last) =
            (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        if fields.next().is_some() || first > last || records == 0 {
            return None;
        }
        self.add(name, Heard { records, first, last });
        Some(())
    }
}

/// The table of the file that is written, or of a whole log: the thread that writes adds to it, and the one that reads looks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared(Arc<RwLock<Sources>>);

impl Shared {
    /// A table is whole between two calls, whatever happened in between.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Sources> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Sources> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sources of a sealed file in four bytes each: for who asks whether a name may be in it, without a look at the disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Marks {
    /// Checksums of names and of their groups, ascending; none if the file has more sources than its table.
    marks: Option<Box<[u32]>>,
}

impl Marks {
    /// Those of a table.
    #[must_use]
    pub(crate) fn of(sources: &Sources) -> Self {
        let mut marks: Vec<u32> = sources.iter().flat_map(|(name, _)| marks_of(name)).collect();
        marks.sort_unstable();
        marks.dedup();
        Self { marks: (!sources.more()).then(|| marks.into()) }
    }

    /// Whether the file may have records that the filter lets pass.
    #[must_use]
    pub(crate) fn may_have(&self, filter: &SourceFilter) -> bool {
        let Some(marks) = self.marks.as_deref().filter(|_| !filter.is_all()) else { return true };
        let mark = |who: &Who| match who {
            Who::Source(name) => crc32c::crc32c(name.as_bytes()),
            Who::Group(group) => crc32c::crc32c_append(crc32c::crc32c(group.as_bytes()), b"/"),
        };
        filter.iter().any(|who| marks.binary_search(&mark(who)).is_ok())
    }
}

/// The checksum of a name, and those of the groups that it is in, with their slashes.
fn marks_of(name: &SourceName) -> impl Iterator<Item = u32> {
    let text = name.as_bytes();
    let groups = text.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at + 1);
    groups.chain([text.len()]).map(|end| crc32c::crc32c(text.get(..end).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::source::tests::{any_name, name};
    use proptest::prelude::*;

    fn id(n: u64) -> RecordId {
        RecordId { time_ns: n, incarnation: 1 }
    }

    fn table(names: &[&str]) -> Sources {
        let mut sources = Sources::default();
        (1..).zip(names).for_each(|(n, text)| sources.add(name(text), Heard::of(1, id(n), id(n))));
        sources
    }

    fn filter(text: &str) -> SourceFilter {
        text.parse().unwrap()
    }

    #[test]
    fn a_table_counts_and_knows_the_first_and_the_last() {
        let mut sources = table(&["b", "a", "b", "b"]);
        let all: Vec<_> = sources.iter().map(|(name, heard)| (name.to_string(), *heard)).collect();
        let wanted = [("a", Heard::of(1, id(2), id(2))), ("b", Heard::of(3, id(1), id(4)))];
        assert_eq!(all, wanted.map(|(name, heard)| (name.to_owned(), heard)));
        assert_eq!(sources.behind(Some(name("a"))).count(), 1);
        sources.let_go(&table(&["b", "a"]), id(3));
        let all: Vec<_> = sources.iter().map(|(name, heard)| (name.to_string(), *heard)).collect();
        assert_eq!(all, [("b".to_owned(), Heard::of(2, id(3), id(4)))]);
    }

    #[test]
    fn a_table_that_is_full_says_so_and_may_have_anything() {
        let mut sources = Sources::of_at_most(2);
        for text in ["a", "b", "c", "a"] {
            sources.add(name(text), Heard::of(1, id(1), id(1)));
        }
        assert!(sources.more() && sources.iter().count() == 2);
        assert!(sources.may_have(&filter("zzz")) && Marks::of(&sources).may_have(&filter("zzz")));
        let mut text = String::new();
        sources.write_lines(&mut text);
        assert!(text.ends_with("\nsource *\n"), "{text}");
    }

    #[test]
    fn a_group_is_in_a_table_if_one_of_its_sources_is() {
        let sources = table(&["taller/horno", "taller-2", "lora/a/b"]);
        let marks = Marks::of(&sources);
        for (text, there) in [
            ("taller/", true),
            ("taller", false),
            ("tall/", false),
            ("lora/", true),
            ("lora/a/", true),
            ("lora/a", false),
            ("lora/a/b", true),
            ("lora/a/b/", false),
            ("x,taller-2", true),
            ("x,y/", false),
        ] {
            assert_eq!((sources.may_have(&filter(text)), marks.may_have(&filter(text))), (there, there), "{text}");
        }
        assert!(sources.may_have(&SourceFilter::default()) && marks.may_have(&SourceFilter::default()));
    }

    #[test]
    fn lines_that_make_no_sense_are_refused() {
        let (one, two) = (id(1), id(2));
        for line in [
            "",
            "a",
            "a 1",
            &format!("a 1 {two} {one}"),
            &format!("a 0 {one} {two}"),
            &format!("a/ 1 {one} {two}"),
            &format!("a 1 {one} {two} x"),
        ] {
            assert_eq!(Sources::default().take_line(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn lines_round_trip(names in prop::collection::vec((any_name(), 1..9_u64, 0..99_u64, 0..99_u64), 0..30), more: bool) {
            let mut sources = Sources::default();
            for (name, records, first, len) in names {
                sources.add(name, Heard::of(records, id(first), id(first + len)));
            }
            sources.more = more;
            let (mut text, mut again) = (String::new(), Sources::default());
            sources.write_lines(&mut text);
            for line in text.lines() {
                prop_assert_eq!(again.take_line(line.strip_prefix("source ").unwrap()), Some(()));
            }
            prop_assert_eq!(again, sources);
        }

        /// What the filter lets pass is never passed over.
        #[test]
        fn a_mark_never_hides_a_source(names in prop::collection::vec(any_name(), 1..20), at: prop::sample::Index) {
            let mut sources = Sources::default();
            names.iter().for_each(|name| sources.add(*name, Heard::of(1, id(1), id(1))));
            let one = names[at.index(names.len())];
            let mut filters = vec![one.to_string()];
            filters.extend(one.as_str().match_indices('/').map(|(at, _)| one.as_str()[..=at].to_owned()));
            for text in filters {
                let Ok(filter) = text.parse::<SourceFilter>() else { continue };
                prop_assert!(filter.matches(Some(&one)));
                prop_assert!(sources.may_have(&filter) && Marks::of(&sources).may_have(&filter), "{}", text);
            }
        }
    }
}
