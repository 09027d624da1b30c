//! A rotten place with what stands around it: the bad lines side by side, and the ids of the good lines next to them.
//!
//! One record may lie in two bad lines, where a byte became a newline, and two records in one, where a newline became
//! another byte: so bad lines side by side are looked at together. Pure but for the reads.

use std::io;

use crate::data::record;
use crate::data::scan::read_exact;
use crate::data::storage::ReadAt;
use crate::limits;
use crate::wire::id::{ID_CHARS, RecordId};

/// A bad line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadLine {
    /// Where it begins, bytes from the start of the region.
    pub(crate) at: usize,
    /// Its length with its newline, bytes.
    pub(crate) len: usize,
    /// What is wrong with it.
    pub(crate) reason: String,
}

/// Bad lines side by side.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Region {
    /// Where it begins, bytes from the start of the file.
    pub(crate) offset: u64,
    /// All of it.
    pub(crate) bytes: Vec<u8>,
    /// Its lines, at least one.
    pub(crate) lines: Vec<BadLine>,
    /// Id of the good line before it.
    pub(crate) before: Option<RecordId>,
    /// Id of the good line after it.
    pub(crate) after: Option<RecordId>,
}

/// What is at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// A good line, or the file ends before it.
    Nothing,
    /// Rot.
    Region(Region),
    /// More rot than is mended together.
    TooLarge,
}

impl Region {
    /// The ids that its lines still spell out, right or wrong.
    #[must_use]
    pub(crate) fn hints(&self) -> Vec<RecordId> {
        let texts = self.lines.iter().filter_map(|line| self.bytes.get(line.at..)?.get(..ID_CHARS));
        let mut ids: Vec<_> = texts.filter_map(RecordId::from_text).take(limits::MEND_HINTS_MAX).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

/// Looks at the line that begins at `offset` of a file of `end` bytes.
///
/// # Errors
/// Those of the file.
pub(crate) fn look(file: &dyn ReadAt, end: u64, offset: u64) -> io::Result<Found> {
    let mut look = limits::MEND_LOOK_BYTES as u64;
    loop {
        let first = offset.saturating_sub(look);
        let last = offset.saturating_add(look).min(end);
        let len = usize::try_from(last.saturating_sub(first)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; len];
        let got = read_exact(file, &mut bytes, first)?;
        bytes.truncate(got);
        let part = Part { offset: first, bytes: &bytes, from_start: first == 0, to_end: last == end };
        if let Some(found) = part.look(offset) {
            return Ok(found);
        }
        if look > limits::MEND_REGION_BYTES_MAX as u64 {
            return Ok(Found::TooLarge);
        }
        look *= 8;
    }
}

/// A part of a file around a place.
struct Part<'a> {
    offset: u64,
    bytes: &'a [u8],
    from_start: bool,
    to_end: bool,
}

impl Part<'_> {
    /// What is at `offset`; `None` if more has to be read to tell.
    fn look(&self, offset: u64) -> Option<Found> {
        let target = usize::try_from(offset - self.offset).ok()?;
        if target >= self.bytes.len() {
            return Some(Found::Nothing);
        }
        let mut region = Region::default();
        let (mut begin, mut passed) = (0, false);
        let mut at = 0;
        for (number, line) in self.bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let (start, whole) = (at, line.ends_with(b"\n"));
            at += line.len();
            if (number == 0 && !self.from_start) || (!whole && !self.to_end) {
                // It begins or ends somewhere else.
                region = Region::default();
                if passed || (start..at).contains(&target) {
                    return None;
                }
                continue;
            }
            match line.strip_suffix(b"\n").map(record::decode) {
                Some(Ok(_)) if (start..at).contains(&target) => return Some(Found::Nothing),
                Some(Ok(good)) if passed => {
                    region.after = Some(good.id);
                    return self.finish(region, begin, start);
                }
                Some(Ok(good)) => region = Region { before: Some(good.id), ..Region::default() },
                bad => {
                    if region.lines.is_empty() {
                        begin = start;
                    }
                    let reason = match bad {
                        Some(Err(error)) => error.to_string(),
                        _ => record::LineError::Unfinished.to_string(),
                    };
                    region.lines.push(BadLine { at: start - begin, len: line.len(), reason });
                    passed |= (start..at).contains(&target);
                }
            }
        }
        if self.to_end { self.finish(region, begin, at) } else { None }
    }

    fn finish(&self, mut region: Region, begin: usize, end: usize) -> Option<Found> {
        if region.before.is_none() && !self.from_start {
            return None;
        }
        if end - begin > limits::MEND_REGION_BYTES_MAX {
            return Some(Found::TooLarge);
        }
        region.offset = self.offset + begin as u64;
        region.bytes = self.bytes.get(begin..end).unwrap_or_default().to_vec();
        Some(Found::Region(region))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::simulated::SimDisk;
    use crate::data::storage::{LogFile, Storage};
    use crate::wire::id::ClientId;

    fn id(n: u64) -> RecordId {
        RecordId { time_ns: 1_795_234_260_000_000_000 + n, incarnation: 7 }
    }

    fn line(n: u64, payload: &str) -> Vec<u8> {
        let mut out = Vec::new();
        record::encode(&mut out, id(n), ClientId(1), n, None, payload.as_bytes()).unwrap();
        out
    }

    fn looked(bytes: &[u8], offset: usize) -> Found {
        let disk = SimDisk::default();
        let mut file = disk.create("a").unwrap();
        file.append(bytes).unwrap();
        look(&*file.reader(), bytes.len() as u64, offset as u64).unwrap()
    }

    #[test]
    fn bad_lines_side_by_side_are_one_region_between_good_ones() {
        let len = line(1, "hola").len();
        let mut bytes: Vec<u8> = (0..9).flat_map(|n| line(n, "hola")).collect();
        bytes[4 * len + 40] ^= 1;
        bytes[5 * len + 40] = b'\n';
        for offset in [4 * len, 5 * len, 5 * len + 41] {
            let Found::Region(region) = looked(&bytes, offset) else { panic!() };
            assert_eq!((region.offset, region.bytes.len()), (4 * len as u64, 2 * len));
            let lines: Vec<_> = region.lines.iter().map(|line| (line.at, line.len)).collect();
            assert_eq!(lines, [(0, len), (len, 41), (len + 41, len - 41)]);
            assert_eq!((region.before, region.after), (Some(id(3)), Some(id(6))));
            assert_eq!(region.hints(), [id(4), id(5)]);
        }
        for offset in [0, 3 * len, 6 * len, 9 * len, 10 * len] {
            assert_eq!(looked(&bytes, offset), Found::Nothing, "{offset}");
        }
    }

    #[test]
    fn a_file_may_begin_and_end_with_rot() {
        let len = line(1, "hola").len();
        let mut bytes: Vec<u8> = (0..3).flat_map(|n| line(n, "hola")).collect();
        bytes[len - 1] = b'J';
        bytes[3 * len - 1] = b'J';
        let Found::Region(region) = looked(&bytes, 0) else { panic!() };
        assert_eq!((region.offset, region.lines.len(), region.before, region.after), (0, 2, None, None));
        assert_eq!(region.bytes.len(), 3 * len, "the first two are one line, and the last has no end");
    }

    #[test]
    fn good_lines_are_looked_for_far_away_and_rot_without_end_is_left() {
        let long = "x".repeat(1024 * 1024);
        let mut bytes = [line(1, "hola"), line(2, &long), line(3, "hola")].concat();
        bytes[200] = b'y';
        let at = line(1, "hola").len();
        let Found::Region(region) = looked(&bytes, at) else { panic!() };
        assert_eq!((region.before, region.after), (Some(id(1)), Some(id(3))));
        bytes.splice(300..300, vec![0; limits::MEND_REGION_BYTES_MAX]);
        assert_eq!(looked(&bytes, at), Found::TooLarge);
    }
}
