//! `quarantine.txt`: rotten places, and the records that were fetched again for them.
//!
//! Text, and one read. Lines that cannot be read are kept as they are: somebody may have written them. Opening a log adds lines at
//! the end; while a node runs, only the mender writes.

use std::collections::BTreeMap;
use std::io;

use super::At;
use crate::data::segments::QUARANTINE;
use crate::data::storage::Storage;
use crate::limits;
use crate::wire::id::RecordId;

/// What stands before the ids at the end of a line.
const MENDED: &str = " mended ";

/// The reason of a line that somebody else wrote, and that is nothing to mend.
const FOREIGN: &str = "foreign: somebody else wrote it";

/// What the reason of a file begins with that is shorter than it was: `cut: it had <records> records up to <id>`.
const CUT: &str = "cut: it had ";

/// A line of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// Up to the reason, or all of a line that cannot be read.
    text: String,
    /// The records that were there and are elsewhere in the folder now; empty if it is not mended.
    mended: Vec<RecordId>,
}

/// What a file had that is shorter now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Had {
    /// Good records.
    pub(crate) records: u64,
    /// The greatest id of them.
    pub(crate) greatest: RecordId,
}

impl Had {
    /// The reason under which it is listed.
    #[must_use]
    pub(crate) fn reason(&self) -> String {
        format!("{CUT}{} records up to {}", self.records, self.greatest)
    }
}

/// The list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct List {
    entries: Vec<Entry>,
    /// Where in `entries` a place is.
    places: BTreeMap<At, usize>,
    bytes: usize,
}

/// The place in a line without its newline.
fn place(line: &str) -> Option<At> {
    let mut fields = line.split(' ');
    let (file, offset) = (fields.next()?, fields.next()?.parse().ok()?);
    fields.next()?.parse::<u64>().ok()?;
    Some((file.to_owned(), offset))
}

/// The text before the ids, and the ids.
fn entry(line: &str) -> Entry {
    if let Some((text, ids)) = line.rsplit_once(MENDED)
        && let Ok(mended) = ids.split(',').map(str::parse).collect::<Result<Vec<RecordId>, _>>()
    {
        return Entry { text: text.to_owned(), mended };
    }
    Entry { text: line.to_owned(), mended: Vec::new() }
}

impl Entry {
    fn to_line(&self) -> String {
        let ids: Vec<String> = self.mended.iter().map(ToString::to_string).collect();
        let mark = if ids.is_empty() { "" } else { MENDED };
        format!("{}{mark}{}\n", self.text, ids.join(","))
    }
}

impl List {
    /// What `quarantine.txt` of a folder says. One that is missing or longer than it may be says nothing: what readers meet
    /// is mended all the same.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) fn read<S: Storage>(storage: &S) -> io::Result<Self> {
        match storage.read_small(QUARANTINE, limits::QUARANTINE_BYTES_MAX) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            // A full list takes nothing, so that nobody replaces what is there.
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                Ok(Self { bytes: limits::QUARANTINE_BYTES_MAX, ..Self::default() })
            }
            Err(error) => Err(error),
        }
    }

    /// What a text says.
    #[must_use]
    pub(crate) fn parse(text: &[u8]) -> Self {
        let mut list = Self::default();
        for line in String::from_utf8_lossy(text).lines() {
            list.push(entry(line));
        }
        list
    }

    fn push(&mut self, entry: Entry) {
        if let Some(at) = place(&entry.text) {
            self.places.insert(at, self.entries.len());
        }
        self.bytes += entry.to_line().len();
        self.entries.push(entry);
    }

    /// All of its lines.
    #[must_use]
    pub(crate) fn to_text(&self) -> String {
        self.entries.iter().map(Entry::to_line).collect()
    }

    /// The places that wait to be mended.
    pub(crate) fn open(&self) -> impl Iterator<Item = At> {
        let open = self.places.iter().filter(|(at, number)| self.mended(**number).is_empty() && !self.is_foreign(at));
        open.filter(|(at, _)| self.cut_at(at).is_none()).map(|(at, _)| at.clone())
    }

    fn reason(&self, at: &At) -> Option<&str> {
        let entry = self.entries.get(*self.places.get(at)?)?;
        entry.text.splitn(4, ' ').nth(3)
    }

    /// Whether somebody else wrote what is there.
    #[must_use]
    pub(crate) fn is_foreign(&self, at: &At) -> bool {
        self.reason(at).is_some_and(|reason| reason == FOREIGN)
    }

    fn cut_at(&self, at: &At) -> Option<Had> {
        let (records, greatest) = self.reason(at)?.strip_prefix(CUT)?.split_once(" records up to ")?;
        Some(Had { records: records.parse().ok()?, greatest: greatest.parse().ok()? })
    }

    /// The files that are shorter than they were, and what they had.
    pub(crate) fn cuts(&self) -> impl Iterator<Item = (&At, Had)> {
        self.places.keys().filter_map(|at| Some((at, self.cut_at(at)?)))
    }

    /// Adds a line that somebody else wrote. The answer is whether it was added.
    pub(crate) fn add_foreign(&mut self, at: &At, len: u64) -> bool {
        self.add(at, len, FOREIGN)
    }

    /// Forgets the places of a file for which `keeps` says no.
    pub(crate) fn retain(&mut self, file: &str, keeps: impl Fn(u64, Option<Had>) -> bool) {
        let old = std::mem::take(self);
        let gone = |entry: &Entry| {
            let at = place(&entry.text).filter(|at| at.0 == file);
            at.is_some_and(|at| !keeps(at.1, old.cut_at(&at)))
        };
        old.entries.iter().filter(|entry| !gone(entry)).for_each(|entry| self.push(entry.clone()));
    }

    fn mended(&self, number: usize) -> &[RecordId] {
        self.entries.get(number).map(|entry| entry.mended.as_slice()).unwrap_or_default()
    }

    /// The records that were fetched again for the place that begins there; none if it is not mended.
    #[must_use]
    pub(crate) fn records(&self, at: &At) -> &[RecordId] {
        self.places.get(at).map(|number| self.mended(*number)).unwrap_or_default()
    }

    /// Every place that is mended, and its records.
    pub(crate) fn all_mended(&self) -> impl Iterator<Item = (&At, &[RecordId])> {
        self.places.iter().map(|(at, number)| (at, self.mended(*number))).filter(|(_, ids)| !ids.is_empty())
    }

    /// Whether the place that begins there is mended, or there is nothing to mend.
    #[must_use]
    pub(crate) fn is_mended(&self, at: &At) -> bool {
        !self.records(at).is_empty() || self.is_foreign(at)
    }

    /// Where the place begins that this one lies in: who reads a part of a file meets the rest of it.
    #[must_use]
    pub(crate) fn around(&self, at: At) -> At {
        let before = self.places.range(..=at.clone()).next_back().filter(|(start, _)| start.0 == at.0);
        let around = before.filter(|(start, number)| {
            let text = self.entries.get(**number).map_or("", |entry| &entry.text);
            let len: Option<u64> = text.split(' ').nth(2).and_then(|len| len.parse().ok());
            self.cut_at(start).is_none() && len.is_some_and(|len| at.1 < start.1.saturating_add(len))
        });
        around.map(|(start, _)| start.clone()).unwrap_or(at)
    }

    /// Adds a place of so many bytes. The answer is whether it was added: not if it is there, or if the list is full.
    pub(crate) fn add(&mut self, at: &At, len: u64, reason: &str) -> bool {
        let text = format!("{} {} {len} {reason}", at.0, at.1);
        if self.places.contains_key(at) || self.bytes + text.len() >= limits::QUARANTINE_BYTES_MAX {
            return false;
        }
        self.push(Entry { text, mended: Vec::new() });
        true
    }

    /// The place is mended: these records are there again. The answer is whether the list says so now.
    pub(crate) fn mend(&mut self, at: &At, ids: &[RecordId]) -> bool {
        let Some(entry) = self.places.get(at).and_then(|number| self.entries.get_mut(*number)) else { return false };
        let before = entry.to_line().len();
        let old = std::mem::replace(&mut entry.mended, ids.to_vec());
        let bytes = self.bytes - before + entry.to_line().len();
        if bytes > limits::QUARANTINE_BYTES_MAX {
            entry.mended = old;
            return false;
        }
        self.bytes = bytes;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "data-1795234260----0----6.txt";

    fn id(n: u64) -> RecordId {
        RecordId { time_ns: 1_795_234_260_000_000_000 + n, incarnation: 7 }
    }

    #[test]
    fn a_list_says_what_is_mended_and_keeps_what_it_does_not_know() {
        let text = format!("{FILE} 0 50 empty line\nsomebody wrote this mended\n{FILE} 90 7 fewer than five fields\n");
        let mut list = List::parse(text.as_bytes());
        assert_eq!(list.to_text(), text);
        let at = |offset| (FILE.to_owned(), offset);
        assert_eq!(list.open().collect::<Vec<_>>(), [at(0), at(90)]);
        assert!(list.mend(&at(90), &[id(1), id(2)]) && !list.mend(&at(91), &[id(1)]));
        assert!(!list.add(&at(0), 50, "empty line") && list.add(&at(200), 3, "unfinished: it has no newline"));
        let expected = format!(
            "{FILE} 0 50 empty line\nsomebody wrote this mended\n{FILE} 90 7 fewer than five fields mended {},{}\n\
             {FILE} 200 3 unfinished: it has no newline\n",
            id(1),
            id(2)
        );
        assert_eq!(list.to_text(), expected);
        let again = List::parse(expected.as_bytes());
        assert_eq!((again.bytes, &again), (expected.len(), &list));
        assert_eq!(again.open().collect::<Vec<_>>(), [at(0), at(200)]);
        assert_eq!(again.records(&at(90)), [id(1), id(2)]);
    }

    #[test]
    fn what_others_wrote_and_what_was_cut_off_is_nothing_to_mend() {
        let mut list = List::default();
        let at = |offset| (FILE.to_owned(), offset);
        let cut = Had { records: 12, greatest: id(12) };
        assert!(
            list.add_foreign(&at(7), 5) && list.add(&at(90), 300, &cut.reason()) && list.add(&at(50), 3, "empty line")
        );
        let mut list = List::parse(list.to_text().as_bytes());
        assert!(list.is_foreign(&at(7)) && list.is_mended(&at(7)) && !list.is_mended(&at(90)));
        assert_eq!(list.open().collect::<Vec<_>>(), [at(50)]);
        assert_eq!(list.cuts().collect::<Vec<_>>(), [(&at(90), cut)]);
        list.retain("data-other.txt", |_, _| false);
        list.retain(FILE, |offset, cut| offset > 60 && cut.is_some());
        assert_eq!((list.entries.len(), list.places.len(), list.cuts().count()), (1, 1, 1));
        assert_eq!(list.bytes, list.to_text().len());
    }

    #[test]
    fn a_full_list_takes_nothing_more() {
        let mut list = List { bytes: limits::QUARANTINE_BYTES_MAX - 60, ..List::default() };
        let at = |offset| (FILE.to_owned(), offset);
        assert!(list.add(&at(0), 5, "empty line"));
        assert!(!list.add(&at(9), 5, "empty line"));
        assert!(!list.mend(&at(0), &[id(1)]) && !list.is_mended(&at(0)));
    }
}
