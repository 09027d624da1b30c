//! Copies of records as they are found in data folders, brought together id by id, and entry by entry.
//!
//! Two copies are the same if client, sequence number, source and payload are. A record may stand in several ledgers, for what was
//! put again is another entry under the same id; but an entry is one record. What a copy too few or too many means is not
//! decided here.

use std::path::{Path, PathBuf};

use super::sort::{self, Entry, Fields, Sorted};
use super::verify::{self, Node, Report};
use crate::data::record::Line;
use crate::key::record::RecordCheck;
use crate::wire::id::{ClientId, RecordId};
use crate::wire::ledger::{Incarnation, LedgerId};

/// One good record of one folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Copied {
    /// Its id.
    pub(crate) id: RecordId,
    /// Which folder it lies in.
    pub(crate) folder: u16,
    /// CRC-32C of client, sequence number, source and payload.
    pub(crate) content: u32,
}

impl Copied {
    /// What is remembered of a line.
    #[must_use]
    pub(crate) fn new(line: &Line<'_>, folder: u16) -> Self {
        let content = crc32c::crc32c(line.text.as_bytes());
        let content = crc32c::crc32c_append(content, &line.client.0.to_le_bytes());
        let content = crc32c::crc32c_append(content, &line.seq.to_le_bytes());
        let content = line.source.map_or(content, |source| crc32c::crc32c_append(content, source.as_bytes()));
        Self { id: line.id, folder, content }
    }
}

impl Entry for Copied {
    const BYTES: usize = 18;

    fn put(&self, out: &mut Vec<u8>) {
        put_id(out, self.id);
        out.extend_from_slice(&self.folder.to_le_bytes());
        out.extend_from_slice(&self.content.to_le_bytes());
    }

    fn get(mut fields: Fields<'_>) -> Self {
        Self { id: get_id(&mut fields), folder: fields.u16(), content: fields.u32() }
    }
}

/// Which record an entry is, as one line of one folder says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Placed {
    /// The ledger.
    pub(crate) ledger: LedgerId,
    /// The entry.
    pub(crate) entry: u32,
    /// The time in the record's id; the incarnation is the ledger's.
    pub(crate) time_ns: u64,
    /// Which folder it lies in.
    pub(crate) folder: u16,
}

impl Placed {
    /// What is remembered of a line; none of format 1, which stands in no ledger.
    #[must_use]
    pub(crate) fn new(line: &Line<'_>, folder: u16) -> Option<Self> {
        line.entry().map(|(ledger, entry)| Self { ledger, entry, time_ns: line.id.time_ns, folder })
    }

    /// The record.
    #[must_use]
    pub(crate) const fn id(&self) -> RecordId {
        RecordId { time_ns: self.time_ns, incarnation: self.ledger.incarnation.0 }
    }
}

impl Entry for Placed {
    const BYTES: usize = 22;

    fn put(&self, out: &mut Vec<u8>) {
        for field in [self.ledger.incarnation.0, self.ledger.number, self.entry] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&self.time_ns.to_le_bytes());
        out.extend_from_slice(&self.folder.to_le_bytes());
    }

    fn get(mut fields: Fields<'_>) -> Self {
        let ledger = LedgerId { incarnation: Incarnation(fields.u32()), number: fields.u32() };
        Self { ledger, entry: fields.u32(), time_ns: fields.u64(), folder: fields.u16() }
    }
}

/// Tells `clash` of every entry that is two records: one line of each.
pub(crate) fn clashes(
    placed: Sorted<Placed>,
    mut each: impl FnMut(),
    mut clash: impl FnMut([Placed; 2]),
) -> Result<(), sort::Error> {
    let mut first: Option<Placed> = None;
    let mut told = false;
    for entry in placed {
        each();
        let entry = entry?;
        match first.filter(|first| (first.ledger, first.entry) == (entry.ledger, entry.entry)) {
            Some(first) if first.time_ns != entry.time_ns && !std::mem::replace(&mut told, true) => {
                clash([first, entry])
            }
            Some(_) => {}
            None => (first, told) = (Some(entry), false),
        }
    }
    Ok(())
}

/// Writes an id as [`get_id`] reads it.
pub(crate) fn put_id(out: &mut Vec<u8>, id: RecordId) {
    out.extend_from_slice(&id.time_ns.to_le_bytes());
    out.extend_from_slice(&id.incarnation.to_le_bytes());
}

/// Reads an id.
pub(crate) fn get_id(fields: &mut Fields<'_>) -> RecordId {
    RecordId { time_ns: fields.u64(), incarnation: fields.u32() }
}

/// Under which id a client's message is kept. The order brings equal messages together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sent {
    /// The client.
    pub(crate) client: ClientId,
    /// Its number for the message.
    pub(crate) seq: u64,
    /// CRC-32C of its payload.
    pub(crate) payload: u32,
    /// The record's id.
    pub(crate) id: RecordId,
}

impl Sent {
    /// What is remembered of a line.
    #[must_use]
    pub(crate) fn new(line: &Line<'_>) -> Self {
        Self { client: line.client, seq: line.seq, payload: crc32c::crc32c(line.text.as_bytes()), id: line.id }
    }
}

impl Entry for Sent {
    const BYTES: usize = 32;

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.client.0.to_le_bytes());
        out.extend_from_slice(&self.seq.to_le_bytes());
        out.extend_from_slice(&self.payload.to_le_bytes());
        put_id(out, self.id);
    }

    fn get(mut fields: Fields<'_>) -> Self {
        Self { client: ClientId(fields.u64()), seq: fields.u64(), payload: fields.u32(), id: get_id(&mut fields) }
    }
}

/// What is kept under one number of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number {
    /// One of its records.
    pub(crate) one: Sent,
    /// A record with another id: a retry, or another message.
    pub(crate) other: Option<RecordId>,
    /// The same payload has two ids: the client tried again.
    pub(crate) is_twice: bool,
    /// There are two payloads, and two ids: the client counted anew. Two payloads of one id are differing copies.
    pub(crate) is_reused: bool,
}

/// Tells `number` of every number of a client that has more than one id, and `each` of every record.
pub(crate) fn numbers(
    sent: Sorted<Sent>,
    mut each: impl FnMut(),
    mut number: impl FnMut(Number),
) -> Result<(), sort::Error> {
    let mut of: Option<Number> = None;
    let (mut before, mut payloads) = (None::<Sent>, 0);
    for entry in sent {
        each();
        let entry = entry?;
        let same = before.filter(|before| (before.client, before.seq) == (entry.client, entry.seq));
        if same.is_none() {
            of.take().into_iter().filter(|of| of.other.is_some()).for_each(&mut number);
            payloads = 0;
        }
        let of = of.get_or_insert(Number { one: entry, other: None, is_twice: false, is_reused: false });
        let is_equal = same.is_some_and(|before| before.payload == entry.payload);
        payloads += u64::from(!is_equal);
        of.is_twice |= is_equal && same.is_some_and(|before| before.id != entry.id);
        of.other = of.other.or((entry.id != of.one.id).then_some(entry.id));
        of.is_reused = payloads > 1 && of.other.is_some();
        before = Some(entry);
    }
    of.into_iter().filter(|of| of.other.is_some()).for_each(number);
    Ok(())
}

/// All copies of one id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    /// The id.
    pub(crate) id: RecordId,
    /// The folders that hold it, each once.
    pub(crate) folders: Vec<u16>,
    /// Lines beyond the first in the same folder, with the same content.
    pub(crate) repeated: u64,
    /// Whether not all copies have the same content.
    pub(crate) differing: bool,
}

/// Copies in the order of ids, one group an id.
#[derive(Debug)]
pub(crate) struct Groups {
    copies: std::iter::Peekable<Sorted<Copied>>,
}

impl Groups {
    /// Groups of these copies.
    #[must_use]
    pub(crate) fn new(copies: Sorted<Copied>) -> Self {
        Self { copies: copies.peekable() }
    }

    /// Puts the copies of the next id into `group`; false at the end. `each` is told of every copy.
    pub(crate) fn next(&mut self, group: &mut Group, mut each: impl FnMut()) -> Result<bool, sort::Error> {
        let Some(first) = self.copies.next().transpose()? else { return Ok(false) };
        each();
        group.folders.clear();
        group.folders.push(first.folder);
        (group.id, group.repeated, group.differing) = (first.id, 0, false);
        let mut before = first;
        while let Some(copy) = self.copies.next_if(|next| next.as_ref().map_or(true, |next| next.id == first.id)) {
            each();
            let copy = copy?;
            group.differing |= copy.content != first.content;
            if copy.folder != before.folder {
                group.folders.push(copy.folder);
            } else if copy.content == before.content {
                group.repeated += 1;
            }
            before = copy;
        }
        Ok(true)
    }
}

/// A folder and what `verify` finds in it.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Checked {
    /// The folder.
    pub(crate) dir: PathBuf,
    /// What it holds.
    #[serde(flatten)]
    pub(crate) report: Report,
    /// What it has of ledgers, and what its identity promises.
    #[serde(skip)]
    pub(crate) node: Node,
}

/// Reads a folder, the `number`th, showing its good records to `each`: with a `check`, those that are believed. `progress` is told the folder, bytes done in it
/// and its bytes in all.
pub(crate) fn read_folder(
    number: u16,
    dir: &Path,
    check: Option<&RecordCheck>,
    progress: &mut dyn FnMut(&Path, u64, u64),
    each: &mut dyn FnMut(u16, &Line<'_>) -> Result<(), sort::Error>,
) -> Result<Checked, verify::Error> {
    let mut in_folder = |line: &Line<'_>| each(number, line);
    let (report, node) =
        verify::verify_each(dir, check, &mut |done, total| progress(dir, done, total), &mut in_folder)?;
    Ok(Checked { dir: dir.to_owned(), report, node })
}

#[cfg(test)]
mod tests {
    use super::super::sort::{Bounds, Sorter};
    use super::*;

    fn sorted<E: Entry>(entries: &[E]) -> Sorted<E> {
        let dir = tempfile::tempdir().unwrap();
        // A run of one entry each: everything goes through the files.
        let mut sorter = Sorter::new(dir.path(), Bounds { run_bytes: 1, ..Bounds::default() });
        entries.iter().for_each(|entry| sorter.push(*entry).unwrap());
        sorter.finish().unwrap()
    }

    fn id(n: u64) -> RecordId {
        RecordId { time_ns: n, incarnation: 3 }
    }

    #[test]
    fn copies_come_together_by_id() {
        let copy = |n, folder, content| Copied { id: id(n), folder, content };
        let copies =
            [copy(9, 1, 7), copy(5, 0, 1), copy(9, 0, 7), copy(5, 0, 1), copy(5, 0, 1), copy(7, 2, 1), copy(7, 2, 2)];
        let mut groups = Groups::new(sorted(&copies));
        let (mut group, mut found, mut seen) = (Group::default(), Vec::new(), 0);
        while groups.next(&mut group, || seen += 1).unwrap() {
            found.push(group.clone());
        }
        let group = |n, folders: &[u16], repeated, differing| Group {
            id: id(n),
            folders: folders.to_vec(),
            repeated,
            differing,
        };
        assert_eq!(found, [group(5, &[0], 2, false), group(7, &[2], 0, true), group(9, &[0, 1], 0, false)]);
        assert_eq!(seen, copies.len());
    }

    #[test]
    fn an_entry_that_is_two_records_is_told_once() {
        let ledger = |number| LedgerId { incarnation: Incarnation(3), number };
        let placed = |number, entry, time_ns, folder| Placed { ledger: ledger(number), entry, time_ns, folder };
        let all = [
            placed(0, 1, 10, 0),
            placed(0, 1, 10, 1),
            placed(0, 2, 11, 0),
            placed(0, 2, 12, 1),
            placed(0, 2, 13, 2),
            placed(1, 2, 11, 0),
        ];
        let mut told = Vec::new();
        clashes(sorted(&all), || {}, |two| told.push(two)).unwrap();
        assert_eq!(told, [[all[2], all[3]]]);
        assert_eq!(told[0][1].id(), id(12));
    }

    /// Client, number, twice, reused.
    fn found(all: &[Sent]) -> Vec<(u64, u64, bool, bool)> {
        let mut found = Vec::new();
        let number = |of: Number| found.push((of.one.client.0, of.one.seq, of.is_twice, of.is_reused));
        numbers(sorted(all), || {}, number).unwrap();
        found
    }

    #[test]
    fn a_message_under_two_ids_was_sent_twice_and_two_copies_of_one_id_were_not() {
        let sent = |client, seq, n| Sent { client: ClientId(client), seq, payload: 7, id: id(n) };
        let all = [sent(1, 1, 5), sent(1, 1, 5), sent(1, 2, 6), sent(1, 2, 7), sent(1, 2, 8), sent(2, 2, 9)];
        assert_eq!(found(&all), [(1, 2, true, false)]);
        let again = [sent(1, 1, 5), sent(1, 1, 6), sent(2, 1, 7), sent(2, 1, 8), sent(2, 1, 8)];
        assert_eq!(found(&again), [(1, 1, true, false), (2, 1, true, false)]);
        assert_eq!(found(&[]), []);
    }

    #[test]
    fn another_payload_under_a_number_is_another_message_unless_it_has_the_same_id() {
        let sent = |seq, payload, n| Sent { client: ClientId(1), seq, payload, id: id(n) };
        let anew = [sent(1, 7, 1), sent(1, 8, 2), sent(1, 8, 2), sent(2, 7, 3)];
        assert_eq!(found(&anew), [(1, 1, false, true)]);
        let differing = [sent(1, 7, 1), sent(1, 8, 1)];
        assert_eq!(found(&differing), []);
        let all = [sent(5, 7, 1), sent(5, 8, 2), sent(5, 7, 3)];
        assert_eq!(found(&all), [(1, 5, true, true)]);
    }
}
