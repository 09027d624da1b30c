//! The scan over a file of records that finds out what is whole, what is rotten and what is torn.
//!
//! Everything after the last good record is the torn tail: the end of a write that a crash interrupted, be it a short
//! line, zeros or garbage. A bad place *before* a good record is rot: it was whole once, or lay in a hole that a crash
//! left, and it is listed and never cut. Reads only, in chunks, with flat memory whatever the file holds. Two threads check
//! the lines of a chunk; who is shown them sees them in their order.

use super::record::{self, Line, LineError};
use crate::limits::{QUARANTINE_PLACES_MAX, RECORD_LINE_BYTES_MAX, SCAN_CHUNK_BYTES, SCAN_SHARED_BYTES_MIN};
use crate::wire::id::RecordId;
use std::io;
use std::{panic, thread};

/// Where a line stands in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Where it begins, bytes from the start of the file.
    pub(crate) offset: u64,
    /// Its length with its newline, bytes.
    pub(crate) len: u64,
    /// Its number; the first line of a file is 1.
    pub(crate) line: u64,
}

/// A place that is no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadPlace {
    /// Where it is: one line.
    pub(crate) place: Place,
    /// What is wrong with it.
    pub(crate) reason: LineError,
}

/// The end of a file after its last good record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TornTail {
    /// Where it begins: the valid length of the file.
    pub(crate) offset: u64,
    /// Its length, bytes, at least 1.
    pub(crate) len: u64,
    /// The number of its first line.
    pub(crate) line: u64,
    /// What is wrong with its first line.
    pub(crate) reason: LineError,
    /// Whether it is a single line without a newline, as a write in progress looks.
    pub(crate) unfinished: bool,
}

/// What a scan found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scan {
    /// Length up to the end of the last good record, bytes; 0 without one.
    pub(crate) valid_len: u64,
    /// Good records.
    pub records: u64,
    /// Bytes of their lines.
    pub(crate) record_bytes: u64,
    /// Id of the first good record.
    pub(crate) first_id: Option<RecordId>,
    /// Id of the last good record.
    pub(crate) last_id: Option<RecordId>,
    /// Greatest id of a good record.
    pub(crate) max_id: Option<RecordId>,
    /// Rotten lines before the last good record, in order; at most [`QUARANTINE_PLACES_MAX`] are listed.
    pub(crate) rot: Vec<BadPlace>,
    /// Rotten lines, listed or not.
    pub(crate) rot_lines: u64,
    /// Where the last of them begins.
    pub(crate) last_rot: Option<u64>,
    /// Where the last good record with a sync mark begins: what is before it was synced.
    pub(crate) synced: u64,
    /// What follows the last good record.
    pub(crate) torn: Option<TornTail>,
}

impl Scan {
    /// Length of what was scanned, bytes.
    #[must_use]
    pub(crate) fn len(&self) -> u64 {
        self.torn.map_or(self.valid_len, |tail| tail.offset + tail.len)
    }
}

/// Scans a file from its start to its end, or to `end` bytes if it is longer, showing every good record to `visit`.
///
/// `read` fills a buffer from an offset and answers how many bytes it put there, 0 only at the end. Errors: those of
/// `read`, unchanged.
pub fn scan(
    end: u64,
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
    mut visit: impl FnMut(Place, &Line<'_>),
) -> io::Result<Scan> {
    let mut state =
        State { visit: &mut visit, scan: Scan::default(), pending: None, offset: 0, line: 1, skipping: false };
    let mut buffer = vec![0; 2 * SCAN_CHUNK_BYTES];
    // The buffer begins with `kept` bytes of a line that is not complete yet.
    let mut kept = 0_usize;
    let mut at = 0_u64;
    while at < end {
        if buffer.len() < kept + SCAN_CHUNK_BYTES {
            buffer.resize(kept + SCAN_CHUNK_BYTES, 0);
        }
        let want = usize::try_from(end - at).unwrap_or(SCAN_CHUNK_BYTES).min(SCAN_CHUNK_BYTES);
        let got = read(buffer.get_mut(kept..kept + want).unwrap_or_default(), at)?.min(want);
        if got == 0 {
            break;
        }
        at += got as u64;
        let used = state.take(buffer.get(..kept + got).unwrap_or_default(), kept);
        buffer.copy_within(used..kept + got, 0);
        kept = kept + got - used;
        if kept > RECORD_LINE_BYTES_MAX {
            state.skip(kept as u64);
            kept = 0;
        }
    }
    Ok(state.finish(kept as u64))
}

/// Each of these lines without its newline, and what it is.
fn judged(lines: &[u8]) -> impl Iterator<Item = (&[u8], Result<Line<'_>, LineError>)> {
    lines.split_inclusive(|&b| b == b'\n').map(|line| {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        (line, record::decode(line))
    })
}

/// What the scan carries from chunk to chunk.
struct State<'v, V> {
    visit: &'v mut V,
    scan: Scan,
    /// Bad lines since the last good record: rot if another good one follows, the torn tail if none does.
    pending: Option<Pending>,
    /// Where the current line begins; with `skipping`, how far it has been read.
    offset: u64,
    /// Number of the current line.
    line: u64,
    /// Whether the current line is longer than any record, so that its bytes are only counted.
    skipping: bool,
}

/// A run of bad lines.
struct Pending {
    first: BadPlace,
    /// Where the last line begins.
    last: u64,
    lines: u64,
    /// How many places of `scan.rot` were sure before this run.
    listed_before: usize,
}

impl<V: FnMut(Place, &Line<'_>)> State<'_, V> {
    /// Takes the complete lines of `chunk`, whose first `known` bytes hold no newline; answers how many bytes it used.
    fn take(&mut self, chunk: &[u8], known: usize) -> usize {
        let used = memchr::memrchr(b'\n', chunk.get(known..).unwrap_or_default()).map_or(0, |at| known + at + 1);
        let lines = chunk.get(..used).unwrap_or_default();
        let half = memchr::memchr(b'\n', lines.get(used / 2..).unwrap_or_default()).map_or(0, |at| used / 2 + at + 1);
        let (first, second) = lines.split_at_checked(half).unwrap_or_default();
        if second.len() < SCAN_SHARED_BYTES_MIN {
            judged(lines).for_each(|(line, judged)| self.end_line(line, judged));
            return used;
        }
        thread::scope(|scope| {
            let other = scope.spawn(|| judged(second).collect::<Vec<_>>());
            judged(first).for_each(|(line, judged)| self.end_line(line, judged));
            let second = other.join().unwrap_or_else(|fault| panic::resume_unwind(fault));
            second.into_iter().for_each(|(line, judged)| self.end_line(line, judged));
        });
        used
    }

    /// Takes the line that ends here; `line` is all of it, or its last part if it was too long to keep.
    fn end_line(&mut self, line: &[u8], judged: Result<Line<'_>, LineError>) {
        let len = line.len() as u64 + 1;
        let place = Place { offset: self.offset, len, line: self.line };
        self.offset += len;
        self.line += 1;
        if std::mem::take(&mut self.skipping) {
            self.lengthen(len);
            return;
        }
        match judged {
            Ok(record) => self.good(place, &record),
            Err(reason) => self.bad(BadPlace { place, reason }),
        }
    }

    fn good(&mut self, place: Place, record: &Line<'_>) {
        if let Some(run) = self.pending.take() {
            self.scan.rot_lines += run.lines;
            self.scan.last_rot = Some(run.last);
        }
        if record.has_sync_mark {
            self.scan.synced = place.offset;
        }
        self.scan.records += 1;
        self.scan.record_bytes += place.len;
        self.scan.valid_len = place.offset + place.len;
        self.scan.first_id = self.scan.first_id.or(Some(record.id));
        self.scan.last_id = Some(record.id);
        self.scan.max_id = self.scan.max_id.max(Some(record.id));
        (self.visit)(place, record);
    }

    fn bad(&mut self, bad: BadPlace) {
        let listed_before = self.scan.rot.len();
        let run = self.pending.get_or_insert(Pending { first: bad, last: 0, lines: 0, listed_before });
        run.lines += 1;
        run.last = bad.place.offset;
        if listed_before < QUARANTINE_PLACES_MAX {
            self.scan.rot.push(bad);
        }
    }

    /// Counts `len` bytes of a line that is longer than any record.
    fn skip(&mut self, len: u64) {
        if self.skipping {
            self.lengthen(len);
        } else {
            self.skipping = true;
            let place = Place { offset: self.offset, len, line: self.line };
            self.bad(BadPlace { place, reason: LineError::TooLong });
        }
        self.offset += len;
    }

    /// Adds to the length of the line that is being skipped, where it is listed.
    fn lengthen(&mut self, len: u64) {
        let line = if self.skipping { self.line } else { self.line - 1 };
        if let Some(last) = self.scan.rot.last_mut().filter(|last| last.place.line == line) {
            last.place.len += len;
        }
    }

    fn finish(mut self, kept: u64) -> Scan {
        if kept > 0 && !self.skipping {
            let place = Place { offset: self.offset, len: kept, line: self.line };
            self.bad(BadPlace { place, reason: LineError::Unfinished });
        }
        let end = self.offset + kept;
        if let Some(run) = self.pending.take() {
            self.scan.rot.truncate(run.listed_before);
            let whole_line = !self.skipping && kept == 0;
            self.scan.torn = Some(TornTail {
                offset: run.first.place.offset,
                len: end - run.first.place.offset,
                line: run.first.place.line,
                reason: run.first.reason,
                unfinished: run.lines == 1 && !whole_line,
            });
        }
        self.scan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::record::{Fields, encode};
    use crate::wire::id::ClientId;
    use proptest::prelude::*;

    fn id(n: u64) -> RecordId {
        RecordId { time_ns: n, incarnation: 1 }
    }

    fn line(n: u64) -> Vec<u8> {
        let mut out = Vec::new();
        let fields = Fields { id: id(n), client: ClientId(1), seq: n, place: None, source: None };
        encode(&mut out, fields, format!("mensaje {n}").as_bytes()).unwrap();
        out
    }

    fn scan_bytes(bytes: &[u8]) -> Scan {
        let read = |buffer: &mut [u8], at: u64| {
            let rest = &bytes[at as usize..];
            let len = rest.len().min(buffer.len());
            buffer[..len].copy_from_slice(&rest[..len]);
            Ok(len)
        };
        scan(bytes.len() as u64, read, |_, _| {}).unwrap()
    }

    #[test]
    fn an_empty_file_is_whole() {
        assert_eq!(scan_bytes(b""), Scan::default());
    }

    #[test]
    fn a_short_last_line_is_torn() {
        let mut bytes = [line(1), line(2)].concat();
        let whole = bytes.len() as u64;
        bytes.extend_from_slice(&line(3)[..20]);
        let found = scan_bytes(&bytes);
        assert_eq!((found.records, found.valid_len, found.max_id), (2, whole, Some(id(2))));
        let torn = TornTail { offset: whole, len: 20, line: 3, reason: LineError::Unfinished, unfinished: true };
        assert_eq!(found.torn, Some(torn));
        assert!(found.rot.is_empty());
    }

    #[test]
    fn a_last_line_that_lacks_nothing_but_its_newline_is_torn() {
        let bytes = line(1);
        let found = scan_bytes(&bytes[..bytes.len() - 1]);
        assert_eq!((found.records, found.valid_len), (0, 0));
        assert!(found.torn.unwrap().unfinished);
    }

    #[test]
    fn bad_lines_before_a_good_one_are_rot_and_after_it_torn() {
        let bytes = [line(1), b"x\n\n".to_vec(), line(2), b"y\nz\n".to_vec()].concat();
        let found = scan_bytes(&bytes);
        let lines: Vec<_> = found.rot.iter().map(|bad| (bad.place.line, bad.place.len)).collect();
        assert_eq!((lines, found.rot_lines), (vec![(2, 2), (3, 1)], 2));
        let torn = found.torn.unwrap();
        assert_eq!((torn.line, torn.len, torn.unfinished), (5, 4, false));
        assert_eq!(torn.offset, found.valid_len);
    }

    #[test]
    fn an_endless_line_costs_no_memory_and_hides_nothing() {
        let zeros = vec![0; RECORD_LINE_BYTES_MAX + 3 * SCAN_CHUNK_BYTES];
        let found = scan_bytes(&[line(1), zeros.clone(), b"\n".to_vec(), line(2)].concat());
        assert_eq!((found.records, found.rot_lines), (2, 1));
        assert_eq!(found.rot[0].place.len, zeros.len() as u64 + 1);
        assert_eq!(found.rot[0].reason, LineError::TooLong);
        let found = scan_bytes(&[line(1), zeros.clone()].concat());
        let torn = found.torn.unwrap();
        assert_eq!((torn.len, torn.unfinished, found.records), (zeros.len() as u64, true, 1));
    }

    #[test]
    fn a_gigabyte_of_zeros_is_read_and_torn() {
        let read = |buffer: &mut [u8], _| {
            buffer.fill(0);
            Ok(buffer.len())
        };
        let found = scan(1 << 30, read, |_, _| {}).unwrap();
        assert_eq!(found.torn.unwrap().len, 1 << 30);
    }

    #[test]
    fn no_more_bad_places_are_listed_than_the_bound() {
        let bytes = [vec![b'\n'; QUARANTINE_PLACES_MAX + 7], line(1)].concat();
        let found = scan_bytes(&bytes);
        assert_eq!((found.rot.len(), found.rot_lines), (QUARANTINE_PLACES_MAX, QUARANTINE_PLACES_MAX as u64 + 7));
        assert_eq!(found.records, 1);
    }

    #[test]
    fn lines_that_two_threads_check_come_in_their_order() {
        let count = 9 * SCAN_SHARED_BYTES_MIN as u64 / line(1).len() as u64;
        let mut bytes = Vec::new();
        for n in 0..count {
            bytes.extend_from_slice(if n % 1000 == 7 { b"rot\n" } else { &[] });
            bytes.extend_from_slice(&line(n));
        }
        let read = |buffer: &mut [u8], at: u64| {
            let rest = &bytes[at as usize..];
            let len = rest.len().min(buffer.len());
            buffer[..len].copy_from_slice(&rest[..len]);
            Ok(len)
        };
        let (mut next, mut end) = (0, 0);
        let found = scan(bytes.len() as u64, read, |place, line| {
            assert_eq!(line.seq, next);
            assert!(place.offset == end || place.offset == end + 4, "{place:?} behind {end}");
            (next, end) = (next + 1, place.offset + place.len);
        });
        let found = found.unwrap();
        assert_eq!((found.records, found.valid_len, next), (count, bytes.len() as u64, count));
        assert_eq!(found.rot_lines, count.div_ceil(1000));
    }

    proptest! {
        /// Against the plain reading of the rule: split at newlines, decode each, look for the last good one.
        #[test]
        fn the_scan_is_the_rule(parts in prop::collection::vec(
            prop_oneof![
                3 => (0..99_u64).prop_map(line),
                1 => prop::collection::vec(any::<u8>(), 0..40),
                1 => Just(b"\n".to_vec()),
            ], 0..12,
        ), step in 1..300_usize) {
            let bytes = parts.concat();
            let read = |buffer: &mut [u8], at: u64| {
                let rest = &bytes[at as usize..];
                let len = rest.len().min(buffer.len()).min(step);
                buffer[..len].copy_from_slice(&rest[..len]);
                Ok(len)
            };
            let mut seen = Vec::new();
            let found = scan(bytes.len() as u64, read, |_, line| seen.push(line.id)).unwrap();
            let mut offset = 0;
            let (mut valid, mut bad, mut rot, mut ids) = (0, 0, 0, Vec::new());
            for piece in bytes.split_inclusive(|&b| b == b'\n') {
                offset += piece.len();
                match piece.strip_suffix(b"\n").map(record::decode) {
                    Some(Ok(line)) => { valid = offset; rot = bad; ids.push(line.id); }
                    _ => bad += 1,
                }
            }
            prop_assert_eq!(found.valid_len, valid as u64);
            prop_assert_eq!(found.rot_lines, rot);
            prop_assert_eq!(found.rot.len() as u64, rot);
            prop_assert_eq!(found.records, ids.len() as u64);
            prop_assert_eq!(found.max_id, ids.iter().copied().max());
            prop_assert_eq!(found.torn.map(|torn| torn.offset + torn.len), (valid < bytes.len()).then_some(bytes.len() as u64));
            prop_assert_eq!(seen, ids);
        }
    }
}
