//! Sealed files of the log: their names, and the lines of `segments.txt` that spare a node from reading them at start.
//!
//! Pure text. `segments.txt` is a convenience: a line that is missing, garbled or does not fit its file is made again
//! from the file itself.

use crate::wire::id::RecordId;
use crate::wire::record::text_checksum as checksum;

/// The file that is being written.
pub(crate) const CURRENT: &str = "data.txt";

/// The list of sealed files.
pub(crate) const INDEX: &str = "segments.txt";

/// A sealed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Its name.
    pub(crate) file: String,
    /// Good records in it.
    pub(crate) records: u64,
    /// Its length, bytes.
    pub(crate) bytes: u64,
    /// Least id in it: a reader that ends there may pass it over. The first one is in its name.
    pub(crate) least: RecordId,
    /// Greatest id in it: a reader that starts later may pass it over.
    pub(crate) greatest: RecordId,
}

impl Segment {
    /// Its line in `segments.txt`, newline included.
    #[must_use]
    pub(crate) fn to_line(&self) -> String {
        let fields = format!("{} {} {} {} {}", self.file, self.records, self.bytes, self.least, self.greatest);
        format!("{fields} {}\n", checksum(&fields))
    }

    fn from_line(line: &str) -> Option<Self> {
        let (fields, crc) = line.strip_suffix('\n')?.rsplit_once(' ')?;
        if crc != checksum(fields) {
            return None;
        }
        let mut fields = fields.split(' ');
        let segment = Self {
            file: fields.next().filter(|name| sealed_id(name).is_some())?.to_owned(),
            records: fields.next()?.parse().ok()?,
            bytes: fields.next()?.parse().ok()?,
            least: fields.next()?.parse().ok()?,
            greatest: fields.next()?.parse().ok()?,
        };
        fields.next().is_none().then_some(segment)
    }
}

/// The name of a file sealed with this first record; `copy` counts from 1 where names would collide.
#[must_use]
pub(crate) fn sealed_name(first: RecordId, copy: u32) -> String {
    if copy <= 1 { format!("data-{first}.txt") } else { format!("data-{first}.{copy}.txt") }
}

/// The id in the name of a sealed file, and its number among those of the same id; `None` for any other name.
#[must_use]
pub(crate) fn sealed_id(name: &str) -> Option<(RecordId, u32)> {
    let middle = name.strip_prefix("data-")?.strip_suffix(".txt")?;
    match middle.split_once('.') {
        None => Some((middle.parse().ok()?, 1)),
        Some((id, copy)) => {
            let copy = copy.parse().ok().filter(|copy| *copy > 1)?;
            Some((id.parse().ok()?, copy))
        }
    }
}

/// Whether this is a file of records.
#[must_use]
pub(crate) fn is_data(name: &str) -> bool {
    name == CURRENT || sealed_id(name).is_some()
}

/// The lines of `segments.txt` that can be read, in the order in which the files were sealed; and whether all of them
/// could.
#[must_use]
pub(crate) fn parse_index(text: &[u8]) -> (Vec<Segment>, bool) {
    let mut segments = Vec::new();
    let mut whole = true;
    for line in String::from_utf8_lossy(text).split_inclusive('\n') {
        match Segment::from_line(line) {
            Some(segment) => segments.push(segment),
            None => whole = false,
        }
    }
    (segments, whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_lines_round_trip() {
        let id = RecordId { time_ns: 1_795_234_260_000_000_001, incarnation: 7 };
        for copy in [1, 2, 30] {
            assert_eq!(sealed_id(&sealed_name(id, copy)), Some((id, copy)));
        }
        for name in ["data.txt", "data-.txt", "data-1795234260----0----6.1.txt", "data-1795234260----0----6.torn"] {
            assert_eq!(sealed_id(name), None, "{name}");
        }
        let segment = Segment { file: sealed_name(id, 1), records: 3, bytes: 200, least: id, greatest: id.plus(2) };
        let line = segment.to_line();
        assert_eq!(Segment::from_line(&line), Some(segment.clone()));
        let (read, whole) = parse_index(format!("{line}\0\0 x\n{}", &line[..line.len() - 1]).as_bytes());
        assert_eq!((read, whole), (vec![segment], false));
    }
}
