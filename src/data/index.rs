//! The index of one file of records: which runs of lines hold which ids, and which entries of which ledgers and which
//! sources are in it.
//!
//! Files are nearly sorted, so a file is described by blocks of some 256 KiB with the least and the greatest id of
//! each. A block ends early where the order jumps, so that a run of old copies between new records does not widen the
//! blocks around it. Pure: the log feeds it with what it appends, `sidecar` with what a file holds.

use super::ledgers::Ledgers;
use super::record::{self, Line};
use super::recover::Place;
use super::sources::{Heard, Shared};
use crate::limits;
use crate::wire::id::RecordId;
use crate::wire::ledger::LedgerId;
use crate::wire::source::SourceName;
use std::ops::Range;
use std::sync::Arc;

/// A run of whole lines of one file. Rotten lines may lie in it; they are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// Where it begins, bytes from the start of the file.
    pub(crate) offset: u64,
    /// Its length, bytes.
    pub(crate) bytes: u64,
    /// Good records in it, at least 1.
    pub(crate) records: u64,
    /// Least id of a good record.
    pub(crate) least: RecordId,
    /// Greatest id of a good record.
    pub(crate) greatest: RecordId,
}

/// Lines that go to a file together, as far as the index has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Their length, bytes.
    pub(crate) bytes: u64,
    /// How many they are.
    pub(crate) records: u64,
    /// Least id.
    pub(crate) least: RecordId,
    /// Greatest id.
    pub(crate) greatest: RecordId,
}

impl Piece {
    /// A piece of one line, newline included.
    #[must_use]
    pub(crate) const fn line(bytes: u64, id: RecordId) -> Self {
        Self { bytes, records: 1, least: id, greatest: id }
    }
}

/// What a batch of lines holds, gathered while it is formatted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    first: Option<RecordId>,
    bytes: u64,
    records: u64,
    pieces: Vec<Piece>,
    ledgers: Ledgers,
    /// Sources in the order in which they came; one that follows itself is one.
    sources: Vec<(SourceName, Heard)>,
}

impl Summary {
    /// Adds the lines that follow: their first one has the id `first`, and they are these entries of a ledger, if of any.
    pub(crate) fn add(&mut self, first: RecordId, piece: Piece, entries: Option<(LedgerId, Range<u32>)>) {
        if piece.records == 0 {
            return;
        }
        self.first = self.first.or(Some(first));
        self.bytes += piece.bytes;
        self.records += piece.records;
        if let Some((ledger, entries)) = entries {
            self.ledgers.add(ledger, entries);
        }
        match self.pieces.last_mut() {
            Some(last)
                if last.bytes + piece.bytes <= limits::PIECE_BYTES_MAX
                    && !is_behind(piece.least, last.greatest)
                    && !is_behind(last.least, piece.greatest) =>
            {
                last.bytes += piece.bytes;
                last.records += piece.records;
                last.least = last.least.min(piece.least);
                last.greatest = last.greatest.max(piece.greatest);
            }
            _ => self.pieces.push(piece),
        }
    }

    /// Notes the source of records that were added.
    pub(crate) fn of_source(&mut self, name: SourceName, heard: Heard) {
        match self.sources.last_mut().filter(|(last, _)| *last == name) {
            Some((_, known)) => known.add(heard),
            None => self.sources.push((name, heard)),
        }
    }

    /// What these lines hold, by decoding them; lines that are no records are left out.
    #[must_use]
    pub fn of(lines: &[u8]) -> Self {
        let mut summary = Self::default();
        summary.add_lines(lines);
        summary
    }

    /// Adds what these lines hold, by decoding them; lines that are no records are left out.
    pub(crate) fn add_lines(&mut self, lines: &[u8]) {
        for whole in lines.split_inclusive(|b| *b == b'\n') {
            if let Some(Ok(line)) = whole.strip_suffix(b"\n").map(record::decode) {
                let piece = Piece::line(whole.len() as u64, line.id);
                self.add(line.id, piece, line.entry().map(|(ledger, entry)| (ledger, entry..entry + 1)));
                if let Some(source) = line.source {
                    self.of_source(source, Heard::of(1, line.id, line.id));
                }
            }
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.first = None;
        self.bytes = 0;
        self.records = 0;
        self.pieces.clear();
        self.ledgers.clear();
        self.sources.clear();
    }

    /// Id of the first record.
    #[must_use]
    pub(crate) const fn first(&self) -> Option<RecordId> {
        self.first
    }

    /// Length of the lines, bytes.
    #[must_use]
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Whether `id` is so far below `other` that the order of ids jumps there.
fn is_behind(id: RecordId, other: RecordId) -> bool {
    let jump = u64::try_from(limits::BLOCK_JUMP.as_nanos()).unwrap_or(u64::MAX);
    id.time_ns.saturating_add(jump) < other.time_ns
}

/// How large blocks are. Only tests take others than the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockSizes {
    /// Size past which a block is cut, bytes.
    pub(crate) full: u64,
    /// Least size of a block that is cut where the order jumps, bytes.
    pub(crate) least: u64,
}

impl Default for BlockSizes {
    fn default() -> Self {
        Self { full: limits::BLOCK_BYTES, least: limits::BLOCK_BYTES_MIN }
    }
}

/// A list of blocks that grows at its end and whose clones share what they have in common.
#[derive(Debug, Clone, Default)]
pub(crate) struct Blocks {
    full: Arc<Vec<Arc<Vec<Block>>>>,
    tail: Arc<Vec<Block>>,
}

impl Blocks {
    fn push(&mut self, block: Block) {
        let tail = Arc::make_mut(&mut self.tail);
        tail.push(block);
        if tail.len() >= limits::BLOCKS_SHARED {
            let part = std::mem::take(tail);
            Arc::make_mut(&mut self.full).push(Arc::new(part));
        }
    }

    /// All blocks, in the order of the file.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Block> {
        self.full.iter().flat_map(|part| part.iter()).chain(self.tail.iter())
    }
}

/// Cuts the lines of one file into blocks as they come.
#[derive(Debug, Default)]
pub(crate) struct Indexer {
    sizes: BlockSizes,
    blocks: Blocks,
    open: Option<Block>,
    /// Bytes before the next line that are no records, and that its block begins with.
    rotten: u64,
    /// Whether the open block began far below `before`: it holds old copies.
    behind: bool,
    /// Greatest id of the blocks before the open one.
    before: Option<RecordId>,
    least: Option<RecordId>,
    bytes: u64,
    record_bytes: u64,
    records: u64,
    ledgers: Arc<Ledgers>,
    sources: Shared,
}

impl Indexer {
    /// An index of an empty file.
    #[must_use]
    pub(crate) fn new(sizes: BlockSizes) -> Self {
        Self { sizes, ..Self::default() }
    }

    /// Takes the lines of a batch.
    pub(crate) fn append(&mut self, summary: &Summary) {
        summary.pieces.iter().for_each(|piece| self.add(*piece));
        Arc::make_mut(&mut self.ledgers).merge(&summary.ledgers);
        if !summary.sources.is_empty() {
            let mut sources = self.sources.write();
            summary.sources.iter().for_each(|(name, heard)| sources.add(*name, *heard));
        }
    }

    /// Takes one good line and where it stands; what lies between it and the line before is rot.
    pub(crate) fn line(&mut self, place: Place, line: &Line<'_>) {
        self.rot(place.offset.saturating_sub(self.bytes));
        self.add(Piece::line(place.len, line.id));
        if let Some((ledger, entry)) = line.entry() {
            Arc::make_mut(&mut self.ledgers).add(ledger, entry..entry + 1);
        }
        if let Some(source) = line.source {
            self.sources.write().add(source, Heard::of(1, line.id, line.id));
        }
    }

    fn add(&mut self, piece: Piece) {
        if self.open.is_some_and(|open| self.ends_before(&open, &piece)) {
            self.cut();
        }
        match &mut self.open {
            Some(open) => {
                open.bytes += piece.bytes;
                open.records += piece.records;
                open.least = open.least.min(piece.least);
                open.greatest = open.greatest.max(piece.greatest);
            }
            None => {
                let Piece { bytes, records, least, greatest } = piece;
                self.behind = self.before.is_some_and(|before| is_behind(greatest, before));
                let rotten = std::mem::take(&mut self.rotten);
                let (offset, bytes) = (self.bytes - rotten, rotten + bytes);
                self.open = Some(Block { offset, bytes, records, least, greatest });
            }
        }
        self.least = Some(self.least.map_or(piece.least, |least| least.min(piece.least)));
        self.bytes += piece.bytes;
        self.record_bytes += piece.bytes;
        self.records += piece.records;
    }

    fn ends_before(&self, open: &Block, piece: &Piece) -> bool {
        if open.bytes < self.sizes.least {
            return false;
        }
        let returns = self.behind && self.before.is_some_and(|before| !is_behind(piece.least, before));
        open.bytes + piece.bytes > self.sizes.full || is_behind(piece.least, open.greatest) || returns
    }

    /// Counts bytes that are no records. They belong to a block, for whoever reads that has to meet them; of much of it
    /// only the end does: nobody shall read all of it.
    fn rot(&mut self, bytes: u64) {
        match &mut self.open {
            Some(open) if open.bytes + bytes <= self.sizes.full => open.bytes += bytes,
            _ if bytes > 0 => {
                self.cut();
                self.rotten = bytes.min(self.sizes.full);
            }
            _ => {}
        }
        self.bytes += bytes;
    }

    fn cut(&mut self) {
        if let Some(block) = self.open.take() {
            self.before = self.before.max(Some(block.greatest));
            self.blocks.push(block);
        }
    }

    /// The blocks that do not change any more; they share their memory with the index.
    #[must_use]
    pub(crate) fn full_blocks(&self) -> Blocks {
        self.blocks.clone()
    }

    /// The last block, which still grows.
    #[must_use]
    pub(crate) const fn open_block(&self) -> Option<Block> {
        self.open
    }

    /// All blocks, in the order of the file.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.blocks.iter().chain(self.open.as_ref())
    }

    /// Bytes up to the end of the last line.
    #[must_use]
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of good lines: what rotted is not among them, nor what others wrote.
    #[must_use]
    pub(crate) const fn record_bytes(&self) -> u64 {
        self.record_bytes
    }

    /// Good records.
    #[must_use]
    pub(crate) const fn records(&self) -> u64 {
        self.records
    }

    /// Least id.
    #[must_use]
    pub(crate) const fn least(&self) -> Option<RecordId> {
        self.least
    }

    /// Greatest id.
    #[must_use]
    pub(crate) fn greatest(&self) -> Option<RecordId> {
        self.before.max(self.open.map(|open| open.greatest))
    }

    /// Which sources; the table grows with the index.
    #[must_use]
    pub(crate) const fn sources(&self) -> &Shared {
        &self.sources
    }

    /// Which entries of which ledgers.
    #[must_use]
    pub(crate) const fn ledgers(&self) -> &Arc<Ledgers> {
        &self.ledgers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;
    const KIB: u64 = 1024;

    fn id(seconds: u64) -> RecordId {
        RecordId { time_ns: seconds * SECOND, incarnation: 1 }
    }

    /// A line of so many bytes at this offset, of an entry or of format 1.
    fn add(index: &mut Indexer, offset: u64, bytes: u64, id: RecordId, entry: Option<u32>) {
        let place = entry.map(|entry| crate::wire::ledger::Place { number: 2, entry });
        let line = Line {
            id,
            client: crate::wire::id::ClientId(1),
            seq: 1,
            place,
            source: None,
            tag: None,
            text: "",
            has_sync_mark: false,
        };
        index.line(Place { offset, len: bytes, line: 0 }, &line);
    }

    /// Seconds and size of each line.
    fn cut(lines: &[(u64, u64)]) -> Vec<(u64, u64, u64)> {
        let mut index = Indexer::new(BlockSizes::default());
        for (seconds, bytes) in lines {
            let at = index.bytes();
            add(&mut index, at, *bytes, id(*seconds), None);
        }
        index.blocks().map(|b| (b.bytes / KIB, b.least.time_ns / SECOND, b.greatest.time_ns / SECOND)).collect()
    }

    #[test]
    fn blocks_end_when_they_are_full() {
        let lines: Vec<_> = (0..10).map(|n| (100 + n / 4, 100 * KIB)).collect();
        assert_eq!(cut(&lines).iter().map(|b| b.0).collect::<Vec<_>>(), [200; 5]);
        assert_eq!(cut(&[(1, KIB), (1, 4096 * KIB), (1, KIB)]), [(4097, 1, 1), (1, 1, 1)]);
    }

    #[test]
    fn old_copies_get_blocks_of_their_own() {
        let old = [(5, 10 * KIB), (6, 10 * KIB), (7, 10 * KIB)];
        let lines = [&[(100, 10 * KIB), (101, 10 * KIB)][..], &old, &[(102, 10 * KIB), (103, 10 * KIB)]].concat();
        assert_eq!(cut(&lines), [(20, 100, 101), (30, 5, 7), (20, 102, 103)]);
        // A block that is too small for that goes on.
        let lines = [(100, 20 * KIB), (5, KIB), (101, KIB), (102, 20 * KIB), (103, KIB)];
        assert_eq!(cut(&lines), [(20, 100, 100), (22, 5, 102), (1, 103, 103)]);
        // A little disorder is none.
        assert_eq!(cut(&[(100, 20 * KIB), (99, 20 * KIB), (101, 20 * KIB)]), [(60, 99, 101)]);
    }

    #[test]
    fn rot_lies_in_a_block_and_much_of_it_with_its_end() {
        let mut index = Indexer::new(BlockSizes::default());
        add(&mut index, 10, 100, id(1), Some(0));
        add(&mut index, 150, 100, id(2), Some(1));
        add(&mut index, 1 << 30, 100, id(3), None);
        let blocks: Vec<_> = index.blocks().map(|b| (b.offset, b.bytes, b.records)).collect();
        let full = limits::BLOCK_BYTES;
        assert_eq!(blocks, [(0, 250, 2), ((1 << 30) - full, full + 100, 1)]);
        assert_eq!((index.bytes(), index.records()), ((1 << 30) + 100, 3));
        let ledgers: Vec<_> =
            index.ledgers().iter().map(|(ledger, entries)| (ledger.number, entries.count())).collect();
        assert_eq!(ledgers, [(2, 2)]);
    }

    #[test]
    fn a_snapshot_stays_as_it_was() {
        let mut index = Indexer::new(BlockSizes { full: 1, least: 1 });
        let mut snapshots = Vec::new();
        for n in 0..2 * limits::BLOCKS_SHARED as u64 + 5 {
            add(&mut index, n, 1, id(n), None);
            snapshots.push(index.full_blocks());
        }
        for (n, blocks) in snapshots.iter().enumerate() {
            assert_eq!(blocks.iter().count(), n);
            assert!(blocks.iter().zip(0..).all(|(block, n)| block.offset == n && block.least == id(n)));
        }
    }

    proptest! {
        /// Whatever the order: blocks follow each other, and each says truly what it holds.
        #[test]
        fn blocks_cover_their_lines(lines in prop::collection::vec((0..40_u64, 1..30_u64), 1..200), batch in 1..9_usize) {
            let mut index = Indexer::new(BlockSizes { full: 200, least: 40 });
            for lines in lines.chunks(batch) {
                let mut summary = Summary::default();
                for (seconds, bytes) in lines {
                    summary.add(id(*seconds), Piece::line(*bytes, id(*seconds)), None);
                }
                index.append(&summary);
            }
            let mut rest = lines.as_slice();
            let (mut offset, mut count) = (0, 0);
            for block in index.blocks() {
                prop_assert_eq!(block.offset, offset);
                offset += block.bytes;
                let (these, others) = rest.split_at(block.records as usize);
                rest = others;
                count += 1;
                prop_assert_eq!(these.iter().map(|line| line.1).sum::<u64>(), block.bytes);
                prop_assert_eq!(these.iter().map(|line| id(line.0)).min(), Some(block.least));
                prop_assert_eq!(these.iter().map(|line| id(line.0)).max(), Some(block.greatest));
            }
            prop_assert!(rest.is_empty() && offset == index.bytes());
            prop_assert!(count <= 1 + offset / 40);
            prop_assert_eq!(index.least(), lines.iter().map(|line| id(line.0)).min());
            prop_assert_eq!(index.greatest(), lines.iter().map(|line| id(line.0)).max());
        }
    }
}
