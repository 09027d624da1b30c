//! One file of a spool: lines of the form of `data.txt` ([`record`]), each with the time at which it was read, the identity and
//! the number under which it is sent, its source, a checksum and its payload. They stand in no ledger.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use bytes::{Bytes, BytesMut};

use crate::collect::queue::Waiting;
use crate::files;
use crate::limits::{READ_BUFFER_BYTES, RECORD_LINE_BYTES_MAX};
use crate::wire::id::RecordId;
use crate::wire::ledger::Place;
use crate::wire::record::{self, EncodeError, Fields};

/// What the name of a segment ends with.
const SUFFIX: &str = ".spool";

/// Digits of a segment's number: names sort as the numbers do.
const DIGITS: usize = 10;

/// The name of a segment.
pub(super) fn name(number: u64) -> String {
    format!("{number:0DIGITS$}{SUFFIX}")
}

/// The number of the segment that has this name.
pub(super) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() >= DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

/// Writes a line of a spool at the end of `out`.
///
/// # Errors
/// It is longer than a record may be, or was read after the year 2286.
pub(super) fn encode(out: &mut Vec<u8>, line: &Waiting, at_ns: u64) -> Result<(), EncodeError> {
    let fields = Fields {
        id: RecordId { time_ns: at_ns, incarnation: 0 },
        client: line.client,
        seq: line.seq,
        place: Some(Place { number: 0, entry: 0 }),
        source: line.source,
    };
    record::encode(out, fields, &line.payload)
}

/// Reads a line of a spool, without its newline; none if it is damaged.
pub(super) fn decode(line: &[u8]) -> Option<Waiting> {
    let line = record::decode(line).ok()?;
    let payload = Bytes::from(line.payload().into_owned());
    Some(Waiting { client: line.client, seq: line.seq, source: line.source, payload })
}

/// Reads a segment line by line, also while it grows.
#[derive(Debug)]
pub(super) struct Lines {
    file: File,
    /// Bytes that were read of it.
    read: u64,
    buffer: BytesMut,
    /// The beginning of this line is longer than any, and gone.
    too_long: bool,
}

impl Lines {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: files::read(path)?, read: 0, buffer: BytesMut::new(), too_long: false })
    }

    /// The next line without its newline, however damaged; none at the end, or where the last line has no newline yet. A
    /// file is read as far as it was when it had so many bytes, or further.
    pub(super) fn next(&mut self, bytes: u64) -> io::Result<Option<BytesMut>> {
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer) {
                let mut line = self.buffer.split_to(at + 1);
                line.truncate(if std::mem::take(&mut self.too_long) { 0 } else { at });
                return Ok(Some(line));
            }
            if self.read >= bytes {
                return Ok(None);
            }
            if self.buffer.len() > RECORD_LINE_BYTES_MAX {
                self.buffer.clear();
                self.too_long = true;
            }
            let before = self.buffer.len();
            self.buffer.resize(before + READ_BUFFER_BYTES, 0);
            let read = self.file.read(self.buffer.get_mut(before..).unwrap_or_default());
            self.buffer.truncate(before + read.as_ref().copied().unwrap_or(0));
            let read = read?;
            self.read += read as u64;
            if read == 0 {
                return Ok(None);
            }
        }
    }

    /// Whether the last line has no newline: it was being written when the collector or its machine went.
    pub(super) fn is_torn(&self) -> bool {
        self.too_long || !self.buffer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::limits::COLLECT_LINE_BYTES_MAX;
    use crate::wire::id::ClientId;
    use proptest::prelude::*;

    fn any_line() -> impl Strategy<Value = (Waiting, u64)> {
        let name = prop::option::of("[A-Za-z0-9._-]{1,15}(/[A-Za-z0-9._-]{1,15})?");
        (
            any::<u64>(),
            0..1_u64 << 60,
            name,
            prop::collection::vec(any::<u8>(), 0..200),
            0..9_000_000_000_000_000_000_u64,
        )
            .prop_map(|(client, seq, name, payload, at_ns)| {
                let source = name.and_then(|name| name.parse().ok());
                (Waiting { client: ClientId::of_library(client), seq, source, payload: payload.into() }, at_ns)
            })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_and_what_is_damaged_is_not(
            lines in prop::collection::vec(any_line(), 1..8), cut in 0..400_usize, flip in any::<prop::sample::Index>(),
        ) {
            let (dir, mut text, mut ends) = (tempfile::tempdir().unwrap(), Vec::new(), Vec::new());
            for (line, at_ns) in &lines {
                encode(&mut text, line, *at_ns).unwrap();
                ends.push(text.len());
            }
            let path = dir.path().join(name(1));
            let read = |bytes: &[u8]| {
                std::fs::write(&path, bytes).unwrap();
                let mut reader = Lines::open(&path).unwrap();
                let read: Vec<_> = std::iter::from_fn(|| reader.next(u64::MAX).unwrap()).map(|line| decode(&line)).collect();
                (read, reader.is_torn())
            };
            let wanted: Vec<_> = lines.iter().map(|(line, _)| Some(line.clone())).collect();
            prop_assert_eq!(read(&text), (wanted.clone(), false));
            // The end is torn off: all lines before it are whole.
            let cut = text.len().saturating_sub(cut);
            let whole = ends.iter().filter(|end| **end <= cut).count();
            let is_torn = cut > 0 && !ends.contains(&cut);
            prop_assert_eq!(read(&text[..cut]), (wanted[..whole].to_vec(), is_torn));
            // One bit rots: its line is lost, or with a newline its neighbour, and never is another line made of it.
            let at = flip.index(text.len());
            text[at] ^= 1;
            let (found, _) = read(&text);
            let good: Vec<_> = found.into_iter().flatten().collect();
            prop_assert!(good.len() + 2 >= lines.len());
            prop_assert!(good.iter().all(|line| lines.iter().any(|(wanted, _)| wanted == line)));
        }
    }

    #[test]
    fn a_segment_is_read_while_it_grows_and_a_line_without_end_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name(7));
        let mut file = files::create(&path).unwrap();
        let mut lines = Lines::open(&path).unwrap();
        let longest = Waiting {
            client: ClientId::of_library(1),
            seq: 1,
            source: "a".parse().ok(),
            payload: vec![1; COLLECT_LINE_BYTES_MAX].into(),
        };
        let mut text = Vec::new();
        encode(&mut text, &longest, 5).unwrap();
        file.write_all(&text[..70_000]).unwrap();
        assert_eq!(lines.next(u64::MAX).unwrap(), None);
        file.write_all(&text[70_000..]).unwrap();
        assert_eq!(decode(&lines.next(u64::MAX).unwrap().unwrap()), Some(longest));
        file.write_all(&vec![b'x'; 2 * RECORD_LINE_BYTES_MAX]).unwrap();
        assert_eq!(lines.next(u64::MAX).unwrap(), None);
        assert!(lines.is_torn());
        file.write_all(b"\n").unwrap();
        file.write_all(&text).unwrap();
        assert_eq!(decode(&lines.next(u64::MAX).unwrap().unwrap()), None);
        assert!(decode(&lines.next(u64::MAX).unwrap().unwrap()).is_some() && !lines.is_torn());
    }

    #[test]
    fn names_sort_as_numbers_do() {
        assert_eq!((name(7).as_str(), number("0000000007.spool")), ("0000000007.spool", Some(7)));
        for other in ["7.spool", "0000000007", "kept", "000000000x.spool", ".spool"] {
            assert_eq!(number(other), None);
        }
    }
}
