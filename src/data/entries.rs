//! Reads entries of one ledger out of the files: for copies, and for readers that follow.
//!
//! Who goes on where the last run of a ledger ended reads no byte again: a few places are kept. Plain functions of a
//! snapshot and a question; `scans` is their thread.

use std::collections::BTreeMap;
use std::ops::Range;

use super::ledgers::Ledgers;
use super::record;
use crate::limits;
use crate::wire::filter::SourceFilter;
use crate::wire::id::ClientId;
use crate::wire::ledger::LedgerId;

/// Which entries are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The ledger.
    pub(crate) ledger: LedgerId,
    /// The entries; at least one.
    pub(crate) entries: Range<u32>,
    /// Only records of this client.
    pub(crate) client: Option<ClientId>,
    /// Only records of these sources.
    pub(crate) sources: SourceFilter,
    /// Most bytes of lines; a longer line comes alone.
    pub(crate) bytes_max: usize,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Run {
    /// Whole lines, by ascending entry.
    pub(crate) lines: Vec<u8>,
    /// Entries that were met: all of them from the first one that was wanted, those of other clients included.
    pub(crate) met: u32,
    /// Entries below it were looked for.
    pub(crate) next: u32,
    /// Files that were to have the first entry and have it not: they have to be counted anew.
    pub(crate) lost: Vec<u64>,
}

/// Where the entries of a ledger go on in a file.
#[derive(Debug, Clone, Copy)]
struct Spot {
    next: u32,
    serial: u64,
    offset: u64,
    used: u64,
}

/// Places that are remembered.
#[derive(Debug, Default)]
pub(crate) struct Spots {
    spots: BTreeMap<LedgerId, Spot>,
    uses: u64,
}

impl Spots {
    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.spots.clear();
    }

    /// Where to begin in this file.
    fn offset(&self, ledger: LedgerId, next: u32, serial: u64) -> u64 {
        let spot = self.spots.get(&ledger).filter(|spot| spot.next == next && spot.serial == serial);
        spot.map_or(0, |spot| spot.offset)
    }

    fn keep(&mut self, ledger: LedgerId, next: u32, serial: u64, offset: u64) {
        self.uses += 1;
        self.spots.insert(ledger, Spot { next, serial, offset, used: self.uses });
        if self.spots.len() > limits::SCAN_SPOTS_MAX
            && let Some(oldest) = self.spots.iter().min_by_key(|(_, spot)| spot.used).map(|(ledger, _)| *ledger)
        {
            self.spots.remove(&oldest);
        }
    }
}

/// Reads part of a file: from an offset into the buffer; how many bytes, fewer only at its end.
pub(crate) type Read<'a, E> = dyn FnMut(u64, u64, &mut [u8]) -> Result<usize, E> + 'a;

/// Reads part of the one file that is searched.
type ReadFile<'a, E> = dyn FnMut(u64, &mut [u8]) -> Result<usize, E> + 'a;

/// Finds entries. `files` are those of the snapshot with what is in each, by serial and with its length; `read` reads one.
///
/// # Errors
/// Those of `read`.
pub(crate) fn find<'v, E>(
    wanted: &Wanted,
    files: impl Iterator<Item = (u64, u64, &'v Ledgers)>,
    spots: &mut Spots,
    read: &mut Read<'_, E>,
) -> Result<Run, E> {
    let first = wanted.entries.start;
    // Those in a file that follow each other without a gap.
    let in_file = |ledgers: &Ledgers| {
        let entries = ledgers.of(wanted.ledger)?;
        let run = entries.ranges().find(|range| range.end > first && range.start < wanted.entries.end)?;
        Some(run.start.max(first)..run.end.min(wanted.entries.end))
    };
    let mut files: Vec<(Range<u32>, u64, u64)> =
        files.filter_map(|(serial, bytes, ledgers)| Some((in_file(ledgers)?, serial, bytes))).collect();
    // The files that have the least of them, and most behind it.
    files.sort_unstable_by_key(|(range, serial, _)| (range.start, std::cmp::Reverse(range.end), *serial));
    let mut lost = Vec::new();
    // A line may have rotted in one file, and lie in another one as well.
    for (range, serial, bytes) in files.iter().take_while(|(range, ..)| range.start == first) {
        let mut search = Search::new(wanted, range.clone());
        let start = spots.offset(wanted.ledger, first, *serial);
        let end = search.through(start, *bytes, &mut |offset, buffer| read(*serial, offset, buffer))?;
        let next = search.next();
        if next > first {
            let lines = search.lines(next);
            spots.keep(wanted.ledger, next, *serial, search.rest(next, end));
            return Ok(Run { lines, met: next - first, next, lost });
        }
        lost.push(*serial);
    }
    // What is lost is passed over, and what is nowhere: what comes behind is for the next question.
    let behind = files.iter().map(|(range, ..)| range.start).find(|start| *start > first);
    let next = if lost.is_empty() { behind.unwrap_or(wanted.entries.end) } else { first.saturating_add(1) };
    Ok(Run { lines: Vec::new(), met: 0, next, lost })
}

/// A line that was met.
struct Met {
    /// Empty if it is not wanted.
    text: Vec<u8>,
    /// Where it begins.
    offset: u64,
}

/// One search through a file.
struct Search<'a> {
    wanted: &'a Wanted,
    /// What this file has from the first wanted entry on.
    range: Range<u32>,
    found: BTreeMap<u32, Met>,
    /// Bytes of lines that are held.
    held: usize,
    /// What is known of the run from the first entry on: its end, and the bytes of its lines.
    run: (u32, usize),
    /// Where the first line begins that was met and not kept.
    left: Option<u64>,
}

impl<'a> Search<'a> {
    fn new(wanted: &'a Wanted, range: Range<u32>) -> Self {
        let run = (range.start, 0);
        Self { wanted, range, found: BTreeMap::new(), held: 0, run, left: None }
    }

    /// Reads from `start` up to `bytes`, until everything is found or there is enough of it; answers where it stopped.
    fn through<E>(&mut self, start: u64, bytes: u64, read: &mut ReadFile<'_, E>) -> Result<u64, E> {
        let (mut at, mut kept) = (start, 0_usize);
        let mut buffer = vec![0; limits::ENTRIES_CHUNK_BYTES];
        while at < bytes {
            if buffer.len() < kept + limits::ENTRIES_CHUNK_BYTES {
                buffer.resize(kept + limits::ENTRIES_CHUNK_BYTES, 0);
            }
            let want = usize::try_from(bytes - at).unwrap_or(usize::MAX).min(limits::ENTRIES_CHUNK_BYTES);
            let got = read(at, buffer.get_mut(kept..kept + want).unwrap_or_default())?;
            if got == 0 {
                break;
            }
            let (chunk, begin) = (buffer.get(..kept + got).unwrap_or_default(), at - kept as u64);
            at += got as u64;
            let mut used = 0;
            for newline in memchr::memchr_iter(b'\n', chunk) {
                let line = chunk.get(used..=newline).unwrap_or_default();
                let offset = begin + used as u64;
                used = newline + 1;
                if self.take(line, offset) {
                    return Ok(begin + used as u64);
                }
            }
            let len = chunk.len();
            buffer.copy_within(used..len, 0);
            kept = len - used;
            if kept > limits::RECORD_LINE_BYTES_MAX {
                // No record is that long: its end is looked for.
                kept = 0;
            }
        }
        Ok(at - kept as u64)
    }

    /// Takes a line with its newline; true if nothing more is wanted.
    fn take(&mut self, whole: &[u8], offset: u64) -> bool {
        let Some(Ok(line)) = whole.strip_suffix(b"\n").map(record::decode) else { return false };
        let Some((ledger, entry)) = line.entry() else { return false };
        if ledger != self.wanted.ledger || entry < self.range.start || self.found.contains_key(&entry) {
            return false;
        }
        if entry >= self.range.end {
            self.leave(offset);
            return false;
        }
        let is_wanted = self.wanted.client.is_none_or(|client| client == line.client)
            && self.wanted.sources.matches(line.source.as_ref());
        let plain = || record::without_sync_mark(whole, &line).unwrap_or_else(|| whole.to_vec());
        let text = if is_wanted { plain() } else { Vec::new() };
        self.held += text.len();
        self.found.insert(entry, Met { text, offset });
        while let Some(met) = self.found.get(&self.run.0) {
            self.run = (self.run.0 + 1, self.run.1 + met.text.len());
        }
        self.make_room();
        // One line at least, whatever it takes.
        let is_enough = self.run.0 > self.range.start && self.run.1 >= self.wanted.bytes_max;
        self.run.0 == self.range.end || is_enough
    }

    /// Lines in disorder take no more memory than the answer may have: the last entries are left for the next question.
    fn make_room(&mut self) {
        while self.held > self.wanted.bytes_max
            && let Some(last) = self.found.last_entry().filter(|last| *last.key() >= self.run.0)
        {
            let met = last.remove();
            self.held -= met.text.len();
            self.leave(met.offset);
        }
    }

    /// A line that is for the next question.
    fn leave(&mut self, offset: u64) {
        self.left = Some(self.left.map_or(offset, |left| left.min(offset)));
    }

    /// Where the run from the first entry on ends, without a gap and within the bytes; one line at least.
    fn next(&self) -> u32 {
        let (mut next, mut bytes) = (self.range.start, 0);
        while let Some(met) = self.found.get(&next) {
            bytes += met.text.len();
            if next > self.range.start && bytes > self.wanted.bytes_max {
                break;
            }
            next += 1;
        }
        next
    }

    fn lines(&self, next: u32) -> Vec<u8> {
        let run = self.found.range(..next).map(|(_, met)| met.text.as_slice());
        run.collect::<Vec<_>>().concat()
    }

    /// From where on all lines of entries from `next` on are met: not behind any that was met already.
    fn rest(&self, next: u32, end: u64) -> u64 {
        let met = self.found.range(next..).map(|(_, met)| met.offset);
        met.chain(self.left).chain([end]).min().unwrap_or(end)
    }
}

#[cfg(test)]
#[path = "entries_tests.rs"]
mod tests;
