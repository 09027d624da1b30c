//! The index of a sealed file as a text file beside it, `data-<id>.index`.
//!
//! Derived data: one that is missing, garbled or that does not fit its file is made again by reading the file. The
//! format is in `docs/data-log.md`.

use super::index::{Block, BlockSizes, Indexer};
use super::ledgers::Ledgers;
use super::recover::{self, Scan};
use super::sources::Sources;
use super::storage::{ReadAt, Storage};
use crate::limits::{BLOCK_BYTES, SIDECAR_BYTES_MAX};
use crate::wire::record::text_checksum as checksum;
use std::fmt::Write;
use std::io;
use std::sync::Arc;

/// First words of a sidecar; the number is the version of its format.
const FORMAT: &str = "acopio-index 3";

/// What a sidecar says of its file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FileIndex {
    /// Length of the file, bytes.
    pub(crate) bytes: u64,
    /// Its blocks, in the order of the file.
    pub(crate) blocks: Vec<Block>,
    /// Which entries of which ledgers are in it.
    pub(crate) ledgers: Arc<Ledgers>,
    /// Which sources.
    pub(crate) sources: Sources,
}

/// The name of a sealed file's sidecar.
#[must_use]
pub(crate) fn sidecar_name(file: &str) -> String {
    format!("{}.index", file.strip_suffix(".txt").unwrap_or(file))
}

impl FileIndex {
    /// What an indexer knows of a file of `bytes` bytes that it has seen to its end. What lies behind the last record is
    /// met by whoever reads that.
    #[must_use]
    pub(crate) fn of(index: &Indexer, bytes: u64) -> Self {
        let mut blocks: Vec<Block> = index.blocks().copied().collect();
        if let Some(last) = blocks.last_mut() {
            last.bytes += bytes.saturating_sub(last.offset + last.bytes).min(BLOCK_BYTES);
        }
        Self { bytes, blocks, ledgers: Arc::clone(index.ledgers()), sources: index.sources().read().clone() }
    }

    /// Good records of the file.
    #[must_use]
    pub(crate) fn records(&self) -> u64 {
        self.blocks.iter().map(|block| block.records).sum()
    }

    /// The sidecar's text; `None` if it would be so long that reading the file is as good.
    #[must_use]
    pub(crate) fn to_text(&self) -> Option<String> {
        let mut text = format!("{FORMAT} {} {}\n", self.bytes, self.records());
        for Block { offset, bytes, records, least, greatest } in &self.blocks {
            // Writing to a string does not fail.
            writeln!(text, "block {offset} {bytes} {records} {least} {greatest}").unwrap_or_default();
        }
        for line in self.ledgers.to_lines()? {
            writeln!(text, "{line}").unwrap_or_default();
        }
        self.sources.write_lines(&mut text);
        let crc = checksum(&text);
        writeln!(text, "crc {crc}").unwrap_or_default();
        Some(text)
    }

    /// Reads a sidecar; `None` if it is not whole, or contradicts itself.
    #[must_use]
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let at = text.strip_suffix('\n')?.rfind('\n')? + 1;
        let (covered, last) = text.split_at_checked(at)?;
        if last.strip_prefix("crc ")?.strip_suffix('\n')? != checksum(covered) {
            return None;
        }
        let mut lines = covered.lines();
        let (bytes, records) = lines.next()?.strip_prefix(FORMAT)?.strip_prefix(' ')?.split_once(' ')?;
        let (bytes, records): (u64, u64) = (bytes.parse().ok()?, records.parse().ok()?);
        let (mut blocks, mut ledgers, mut sources) = (Vec::new(), Ledgers::default(), Sources::default());
        let mut end = 0;
        for line in lines {
            if let Some(fields) = line.strip_prefix("block ") {
                let block = parse_block(fields).filter(|block| block.offset >= end)?;
                end = block.offset.checked_add(block.bytes).filter(|end| *end <= bytes)?;
                blocks.push(block);
            } else if let Some(fields) = line.strip_prefix("source ") {
                sources.take_line(fields)?;
            } else {
                ledgers.take_line(line.strip_prefix("ledger ")?)?;
            }
        }
        let index = Self { bytes, blocks, ledgers: Arc::new(ledgers), sources };
        (index.records() == records).then_some(index)
    }
}

fn parse_block(fields: &str) -> Option<Block> {
    let mut fields = fields.split(' ');
    let block = Block {
        offset: fields.next()?.parse().ok()?,
        bytes: fields.next()?.parse().ok()?,
        records: fields.next()?.parse().ok()?,
        least: fields.next()?.parse().ok()?,
        greatest: fields.next()?.parse().ok()?,
    };
    (fields.next().is_none() && block.least <= block.greatest).then_some(block)
}

/// Reads the sidecar of a sealed file; `None` if there is none that fits a file of `bytes` bytes.
pub(crate) fn read<S: Storage>(storage: &S, file: &str, bytes: u64) -> Option<FileIndex> {
    let text = storage.read_small(&sidecar_name(file), SIDECAR_BYTES_MAX).ok()?;
    FileIndex::parse(&text).filter(|index| index.bytes == bytes)
}

/// Makes the index of a file by reading all of it. Errors: those of the disk.
pub(crate) fn build(file: &dyn ReadAt, bytes: u64, sizes: BlockSizes) -> io::Result<(Indexer, Scan)> {
    let mut index = Indexer::new(sizes);
    let found = recover::scan(bytes, |buffer, at| file.read_at(buffer, at), |place, line| index.line(place, line))?;
    Ok((index, found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::recover::Place;
    use crate::wire::id::{ClientId, RecordId};
    use crate::wire::ledger;

    fn index() -> FileIndex {
        let mut index = Indexer::new(BlockSizes { full: 200, least: 40 });
        for n in 0..10 {
            let id = RecordId { time_ns: 1_795_234_260_000_000_000 + n, incarnation: 7 };
            let place = (n % 3 > 0).then_some(ledger::Place { number: n as u32 % 3, entry: n as u32 });
            let source = place.filter(|_| n % 2 == 0).map(|_| format!("taller/esp{}", n % 4).parse().unwrap());
            let client = ClientId(1);
            let line = super::super::record::Line {
                id,
                client,
                seq: n,
                place,
                source,
                tag: None,
                text: "",
                has_sync_mark: false,
            };
            index.line(Place { offset: n * 60, len: 60, line: n + 1 }, &line);
        }
        FileIndex::of(&index, 600)
    }

    #[test]
    fn a_sidecar_round_trips() {
        let index = index();
        let text = index.to_text().unwrap();
        assert_eq!((index.blocks.len(), index.records()), (4, 10));
        assert_eq!(text.lines().next(), Some("acopio-index 3 600 10"));
        assert!(text.contains("\nledger ----6.0 0..1,"), "{text}");
        assert!(
            text.contains("\nsource taller/esp0 2 1795234260----3----6 1795234260----7----6\nsource taller/esp2 1 "),
            "{text}"
        );
        assert_eq!(FileIndex::parse(text.as_bytes()), Some(index));
        let empty = FileIndex::default();
        assert_eq!(FileIndex::parse(empty.to_text().unwrap().as_bytes()), Some(empty));
        assert_eq!(sidecar_name("data-1795234260----0----6.2.txt"), "data-1795234260----0----6.2.index");
    }

    #[test]
    fn no_damage_goes_unnoticed() {
        let text = index().to_text().unwrap().into_bytes();
        for at in 0..text.len() {
            let mut damaged = text.clone();
            damaged[at] ^= 1;
            assert_eq!(FileIndex::parse(&damaged), None, "byte {at}");
            assert_eq!(FileIndex::parse(&text[..at]), None, "cut to {at}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let mut overlap = index();
        overlap.blocks[1].offset -= 1;
        let mut beyond = index();
        beyond.bytes -= 1;
        for wrong in [overlap, beyond] {
            assert_eq!(FileIndex::parse(wrong.to_text().unwrap().as_bytes()), None);
        }
    }
}
