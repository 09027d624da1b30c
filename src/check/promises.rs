//! What the registros promise: read from their files, and brought together id by id.
//!
//! A promise stays the range of ids that it was until the ids are compared; one line of a registro may stand for many
//! records. Whether a promise was kept is not decided here.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, HashMap};
use std::io::{self, BufRead, BufReader, Read as _};
use std::iter::Peekable;
use std::path::{Path, PathBuf};

use super::copies::{get_id, put_id};
use super::sort::{self, Entry, Fields, Sorted, Sorter};
use crate::files;
use crate::limits;
use crate::wire::id::RecordId;
use crate::wire::registro::{self, Kept, Said};

/// Why registros could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The system refused something.
    #[error("cannot read {}: {source}; name a registro.log, or the folder of a head's logs", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not one line of it is a registro's.
    #[error("{} is no registro; name a registro.log, or the folder of a head's logs", path.display())]
    NotRegistro {
        /// The file.
        path: PathBuf,
    },
    /// More nodes than any cluster has.
    #[error("the registros name more than {} data nodes; audit fewer of them at a time", limits::AUDIT_NODES_MAX)]
    Nodes,
    /// More acknowledgements of one id than there can be.
    #[error(
        "the registros hold more than {} acknowledgements of {id}; name every registro once, and no copies of it",
        limits::AUDIT_OVERLAP_MAX
    )]
    Overlap {
        /// The id.
        id: RecordId,
    },
    /// The promises could not be sorted.
    #[error(transparent)]
    Sort(#[from] sort::Error),
}

/// A data node acknowledged these ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Promise {
    /// The first id.
    pub(crate) first: RecordId,
    /// How many ids.
    pub(crate) count: u32,
    /// Which node, an index into [`Tally::nodes`].
    pub(crate) node: u16,
    /// Which registro file.
    pub(crate) file: u16,
    /// Its line there, the first being 1.
    pub(crate) line: u32,
}

impl Entry for Promise {
    const BYTES: usize = 24;

    fn put(&self, out: &mut Vec<u8>) {
        put_id(out, self.first);
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.node.to_le_bytes());
        out.extend_from_slice(&self.file.to_le_bytes());
        out.extend_from_slice(&self.line.to_le_bytes());
    }

    fn get(mut fields: Fields<'_>) -> Self {
        let (first, count) = (get_id(&mut fields), fields.u32());
        Self { first, count, node: fields.u16(), file: fields.u16(), line: fields.u32() }
    }
}

impl Promise {
    /// What is left of it from `since` on.
    fn since(self, since: RecordId) -> Option<Self> {
        if self.first >= since {
            return Some(self);
        }
        let before = since.time_ns.saturating_sub(self.first.time_ns);
        let before = before + u64::from(self.first.plus(before) < since);
        let before = u32::try_from(before).ok().filter(|before| *before < self.count)?;
        Some(Self { first: self.first.plus(u64::from(before)), count: self.count - before, ..self })
    }
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Names of the nodes.
    pub(crate) nodes: Vec<String>,
    /// Lines in all, unfinished ones among them.
    pub(crate) lines: u64,
    /// Refusals.
    pub(crate) refusals: u64,
    /// Lines that were never written whole: the last of a file, or the beginning of a line.
    pub(crate) torn_lines: u64,
    /// Other lines that are no registro's.
    pub(crate) unreadable_lines: u64,
    /// The first of those.
    pub(crate) unreadable: Vec<LineAt>,
}

/// A line of a registro.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct LineAt {
    /// The registro.
    pub(crate) registro: PathBuf,
    /// The line, the first being 1.
    pub(crate) line: u32,
}

/// Reads registros into a sort.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    since: RecordId,
    promises: &'a mut Sorter<Promise>,
    names: HashMap<String, u16>,
    tally: Tally,
}

impl<'a> Reader<'a> {
    /// A reader of ids from `since` on.
    pub(crate) fn new(since: RecordId, promises: &'a mut Sorter<Promise>) -> Self {
        Self { since, promises, names: HashMap::new(), tally: Tally::default() }
    }

    /// What was read by now.
    #[must_use]
    pub(crate) fn into_tally(self) -> Tally {
        self.tally
    }

    /// Reads a whole file, the `number`th. `progress` is told the bytes of it that are done.
    ///
    /// # Errors
    /// It can't be read, or it is something else.
    pub(crate) fn file(&mut self, number: u16, path: &Path, progress: &mut dyn FnMut(u64)) -> Result<(), Error> {
        let failed = |source| Error::Disk { path: path.to_owned(), source };
        let mut input = BufReader::with_capacity(READ_BYTES, files::read(path).map_err(failed)?);
        let (mut line, mut at, mut told) = (Vec::new(), 0_u64, 0_u64);
        let (mut whole, mut good) = (0_u32, false);
        loop {
            line.clear();
            let longest = limits::REGISTRO_LINE_BYTES_MAX as u64 + 1;
            let mut got = (&mut input).take(longest).read_until(b'\n', &mut line).map_err(failed)? as u64;
            if got == 0 {
                break;
            }
            let too_long = got == longest && !line.ends_with(b"\n");
            let ended = if too_long {
                let (more, ended) = skip_line(&mut input).map_err(failed)?;
                got += more;
                ended
            } else {
                line.ends_with(b"\n")
            };
            at += got;
            self.tally.lines += 1;
            if ended {
                line.pop();
                whole = whole.saturating_add(1);
                good |= self.line(if too_long { b"" } else { &line }, number, path, whole)?;
            } else {
                self.tally.torn_lines += 1;
            }
            if at - told >= READ_BYTES as u64 {
                told = at;
                progress(at);
            }
        }
        progress(at);
        if whole > 0 && !good { Err(Error::NotRegistro { path: path.to_owned() }) } else { Ok(()) }
    }

    /// Takes a whole line; false if it is no registro's.
    fn line(&mut self, line: &[u8], file: u16, path: &Path, number: u32) -> Result<bool, Error> {
        match registro::read(line) {
            Said::Kept(kept) => self.kept(kept, file, number)?,
            Said::Refused(times) => self.tally.refusals = self.tally.refusals.saturating_add(times),
            Said::Torn => self.tally.torn_lines += 1,
            Said::Unreadable => {
                self.tally.unreadable_lines += 1;
                if self.tally.unreadable.len() < limits::FINDINGS_SHOWN_MAX {
                    self.tally.unreadable.push(LineAt { registro: path.to_owned(), line: number });
                }
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn kept(&mut self, kept: Kept<'_>, file: u16, line: u32) -> Result<(), Error> {
        self.tally.torn_lines += u64::from(kept.behind_torn);
        let node = self.node(kept.node)?;
        for (first, count) in kept.ranges() {
            if let Some(promise) = (Promise { first, count, node, file, line }).since(self.since) {
                self.promises.push(promise)?;
            }
        }
        Ok(())
    }

    fn node(&mut self, name: &str) -> Result<u16, Error> {
        if let Some(number) = self.names.get(name) {
            return Ok(*number);
        }
        let number = u16::try_from(self.names.len()).map_err(|_| Error::Nodes)?;
        if usize::from(number) >= limits::AUDIT_NODES_MAX {
            return Err(Error::Nodes);
        }
        self.names.insert(name.to_owned(), number);
        self.tally.nodes.push(name.to_owned());
        Ok(number)
    }
}

/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;

/// Passes over the rest of a line; its bytes, and whether it had an end.
fn skip_line(input: &mut impl BufRead) -> io::Result<(u64, bool)> {
    let mut passed = 0;
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok((passed, false));
        }
        let newline = memchr::memchr(b'\n', buffer);
        let used = newline.map_or(buffer.len(), |at| at + 1);
        input.consume(used);
        passed += used as u64;
        if newline.is_some() {
            return Ok((passed, true));
        }
    }
}

/// All promises of one id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    /// The id.
    pub(crate) id: RecordId,
    /// The nodes that acknowledged it, each once.
    pub(crate) nodes: Vec<u16>,
    /// The file of one of the acknowledgements.
    pub(crate) file: u16,
    /// Its line there.
    pub(crate) line: u32,
}

/// Promises in the order of ids, one group an id; ranges are expanded on the way.
#[derive(Debug)]
pub(crate) struct Groups {
    promises: Peekable<Sorted<Promise>>,
    /// What is left of the ranges that hold the next ids.
    open: BinaryHeap<Reverse<Promise>>,
}

impl Groups {
    /// Groups of these promises.
    #[must_use]
    pub(crate) fn new(promises: Sorted<Promise>) -> Self {
        Self { promises: promises.peekable(), open: BinaryHeap::new() }
    }

    /// Puts the promises of the next id into `group`; false at the end. `each` is told of every range that is begun.
    pub(crate) fn next(&mut self, group: &mut Group, mut each: impl FnMut()) -> Result<bool, Error> {
        let next = self.promises.peek().and_then(|next| next.as_ref().ok()).map(|next| next.first);
        let open = self.open.peek().map(|open| open.0.first);
        // An error is taken at once: what follows it cannot be trusted to be in order.
        let id = next.into_iter().chain(open).min();
        let is_next = |next: &Result<Promise, _>| next.as_ref().map_or(true, |next| Some(next.first) == id);
        while let Some(promise) = self.promises.next_if(is_next) {
            each();
            self.open.push(Reverse(promise?));
            if self.open.len() > limits::AUDIT_OVERLAP_MAX {
                return Err(Error::Overlap { id: id.unwrap_or_default() });
            }
        }
        let Some(id) = id else { return Ok(false) };
        group.nodes.clear();
        while let Some(mut open) = self.open.peek_mut().filter(|open| open.0.first == id) {
            let Promise { count, node, file, line, .. } = open.0;
            if group.nodes.is_empty() {
                (group.id, group.file, group.line) = (id, file, line);
            }
            if !group.nodes.contains(&node) {
                group.nodes.push(node);
            }
            if count > 1 {
                (open.0.first, open.0.count) = (id.plus(1), count - 1);
            } else {
                PeekMut::pop(open);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sort::Bounds;
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn id(n: u64, incarnation: u32) -> RecordId {
        RecordId { time_ns: 1_795_234_260_000_000_000 + n, incarnation }
    }

    fn line(node: &str, ranges: &str) -> String {
        format!("2026-11-21T07:34:21.000000Z recibido en dataNode 127.0.0.2 {node} {ranges}\n")
    }

    fn read(text: &str, since: RecordId) -> Result<(Tally, Vec<Promise>), Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registro.log");
        std::fs::write(&path, text).unwrap();
        let mut promises = Sorter::new(dir.path(), Bounds::default());
        let mut reader = Reader::new(since, &mut promises);
        reader.file(3, &path, &mut |_| {})?;
        let tally = reader.into_tally();
        Ok((tally, promises.finish().unwrap().map(Result::unwrap).collect()))
    }

    #[test]
    fn a_file_is_read_but_for_its_unfinished_line() {
        let first = line("a", &format!("{}..+2", id(0, 1)));
        let refused =
            "2026-11-21T07:34:21.000000Z Problema: mensaje no fue guardado en dataNode: x cliente=- seq=0..0\n";
        let long = format!("{}\n", "x".repeat(limits::REGISTRO_LINE_BYTES_MAX + 9));
        let torn = line("c", &id(9, 1).to_string());
        let text =
            format!("{first}hola\n{refused}{long}{}{}", line("b", &id(5, 1).to_string()), &torn[..torn.len() - 1]);
        let (tally, promises) = read(&text, RecordId::default()).unwrap();
        assert_eq!((tally.lines, tally.refusals, tally.torn_lines, tally.unreadable_lines), (6, 1, 1, 2));
        assert_eq!(tally.nodes, ["a", "b"]);
        assert_eq!(tally.unreadable.iter().map(|at| at.line).collect::<Vec<_>>(), [2, 4]);
        let wanted = [
            Promise { first: id(0, 1), count: 3, node: 0, file: 3, line: 1 },
            Promise { first: id(5, 1), count: 1, node: 1, file: 3, line: 5 },
        ];
        assert_eq!(promises, wanted);
    }

    #[test]
    fn what_is_no_registro_is_refused_and_an_empty_one_is_not() {
        assert!(matches!(read("hola\nadios\n", RecordId::default()), Err(Error::NotRegistro { .. })));
        assert_eq!(read("", RecordId::default()).unwrap().1, []);
    }

    #[test]
    fn ranges_are_cut_where_the_audit_begins() {
        let text = line("a", &format!("{}..+9 {}", id(0, 5), id(3, 1)));
        let from = |since| read(&text, since).unwrap().1.iter().map(|p| (p.first, p.count)).collect::<Vec<_>>();
        assert_eq!(from(id(0, 0)), [(id(0, 5), 10), (id(3, 1), 1)]);
        assert_eq!(from(id(3, 1)), [(id(3, 1), 1), (id(3, 5), 7)]);
        assert_eq!(from(id(3, 6)), [(id(4, 5), 6)]);
        assert_eq!(from(id(9, 5)), [(id(9, 5), 1)]);
        assert_eq!(from(id(9, 6)), []);
    }

    #[test]
    fn more_acknowledgements_of_an_id_than_there_can_be_are_an_error() {
        let text = line("a", &id(0, 1).to_string()).repeat(limits::AUDIT_OVERLAP_MAX + 1);
        let dir = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::new(dir.path(), Bounds::default());
        read(&text, RecordId::default()).unwrap().1.iter().for_each(|promise| sorter.push(*promise).unwrap());
        let mut groups = Groups::new(sorter.finish().unwrap());
        assert!(matches!(groups.next(&mut Group::default(), || {}), Err(Error::Overlap { .. })));
    }

    fn wanted_ids(n: u64, incarnation: u32, count: u32) -> impl Iterator<Item = RecordId> {
        (0..u64::from(count)).map(move |k| id(n + k, incarnation))
    }

    proptest! {
        /// Against every range written out.
        #[test]
        fn groups_are_the_ranges_written_out(
            all in prop::collection::vec((0..60_u64, 0..3_u32, 1..20_u32, 0..4_u16), 0..40)
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut sorter = Sorter::new(dir.path(), Bounds::default());
            let mut wanted = BTreeMap::<RecordId, BTreeSet<u16>>::new();
            for (n, incarnation, count, node) in all {
                sorter.push(Promise { first: id(n, incarnation), count, node, file: 0, line: 1 }).unwrap();
                wanted_ids(n, incarnation, count).for_each(|id| { wanted.entry(id).or_default().insert(node); });
            }
            let mut groups = Groups::new(sorter.finish().unwrap());
            let (mut group, mut found) = (Group::default(), Vec::new());
            while groups.next(&mut group, || {}).unwrap() {
                let nodes = group.nodes.iter().copied().collect::<BTreeSet<_>>();
                prop_assert_eq!(nodes.len(), group.nodes.len());
                found.push((group.id, nodes));
            }
            prop_assert_eq!(found, wanted.into_iter().collect::<Vec<_>>());
        }
    }
}
