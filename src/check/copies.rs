//! Copies of records as they are found in data folders, brought together id by id.
//!
//! Two copies are the same if client, sequence number and payload are; the names of the nodes that were to keep them
//! may differ, since a batch that was sent again names others. What a copy too few or too many means is not decided here.

use std::path::{Path, PathBuf};

use super::sort::{self, Entry, Fields, Sorted};
use super::verify::{self, Report};
use crate::data::record::Line;
use crate::wire::id::{ClientId, RecordId};

/// One good record of one folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Copied {
    /// Its id.
    pub(crate) id: RecordId,
    /// Which folder it lies in.
    pub(crate) folder: u16,
    /// CRC-32C of client, sequence number and payload.
    pub(crate) content: u32,
    /// How many nodes its line names, 1 if it names none.
    pub(crate) named: u16,
}

impl Copied {
    /// What is remembered of a line.
    #[must_use]
    pub(crate) fn new(line: &Line<'_>, folder: u16) -> Self {
        let content = crc32c::crc32c(line.text.as_bytes());
        let content = crc32c::crc32c_append(content, &line.client.0.to_le_bytes());
        let content = crc32c::crc32c_append(content, &line.seq.to_le_bytes());
        let named = u16::try_from(line.copies().count()).unwrap_or(u16::MAX).max(1);
        Self { id: line.id, folder, content, named }
    }
}

impl Entry for Copied {
    const BYTES: usize = 20;

    fn put(&self, out: &mut Vec<u8>) {
        put_id(out, self.id);
        out.extend_from_slice(&self.folder.to_le_bytes());
        out.extend_from_slice(&self.content.to_le_bytes());
        out.extend_from_slice(&self.named.to_le_bytes());
    }

    fn get(mut fields: Fields<'_>) -> Self {
        Self { id: get_id(&mut fields), folder: fields.u16(), content: fields.u32(), named: fields.u16() }
    }
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
    /// Most names that any copy's line has.
    pub(crate) named: u16,
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
        (group.id, group.repeated, group.differing, group.named) = (first.id, 0, false, first.named);
        let mut before = first;
        while let Some(copy) = self.copies.next_if(|next| next.as_ref().map_or(true, |next| next.id == first.id)) {
            each();
            let copy = copy?;
            group.differing |= copy.content != first.content;
            group.named = group.named.max(copy.named);
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
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Checked {
    /// The folder.
    pub(crate) dir: PathBuf,
    /// What it holds.
    #[serde(flatten)]
    pub(crate) report: Report,
}

/// Reads a folder, the `number`th, showing its good records to `each`. `progress` is told the folder, bytes done in it
/// and its bytes in all.
pub(crate) fn read_folder(
    number: u16,
    dir: &Path,
    progress: &mut dyn FnMut(&Path, u64, u64),
    each: &mut dyn FnMut(u16, &Line<'_>) -> Result<(), sort::Error>,
) -> Result<Checked, verify::Error> {
    let mut in_folder = |line: &Line<'_>| each(number, line);
    let report = verify::verify_each(dir, &mut |done, total| progress(dir, done, total), &mut in_folder)?;
    Ok(Checked { dir: dir.to_owned(), report })
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
        let copy = |n, folder, content, named| Copied { id: id(n), folder, content, named };
        let copies = [
            copy(9, 1, 7, 2),
            copy(5, 0, 1, 1),
            copy(9, 0, 7, 1),
            copy(5, 0, 1, 1),
            copy(5, 0, 1, 1),
            copy(7, 2, 1, 2),
            copy(7, 2, 2, 1),
        ];
        let mut groups = Groups::new(sorted(&copies));
        let (mut group, mut found, mut seen) = (Group::default(), Vec::new(), 0);
        while groups.next(&mut group, || seen += 1).unwrap() {
            found.push(group.clone());
        }
        let group = |n, folders: &[u16], repeated, differing, named| Group {
            id: id(n),
            folders: folders.to_vec(),
            repeated,
            differing,
            named,
        };
        assert_eq!(found, [group(5, &[0], 2, false, 1), group(7, &[2], 0, true, 2), group(9, &[0, 1], 0, false, 2)]);
        assert_eq!(seen, copies.len());
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
