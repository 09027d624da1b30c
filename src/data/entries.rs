//! Reads entries of one ledger out of the files: for copies, and for readers that follow.
//!
//! Who goes on where the last run of a ledger ended reads no byte again: a few places are kept. Plain functions of a
//! snapshot and a question; `scans` is their thread.

use std::collections::BTreeMap;
use std::ops::Range;

use super::ledgers::Ledgers;
use super::record;
use super::scan::ScanError;
use crate::limits;
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
    /// Most bytes of lines; a longer line comes alone.
    pub(crate) bytes_max: usize,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Run {
    /// Whole lines, by ascending entry.
    pub(crate) lines: Vec<u8>,
    /// Entries below it were looked for.
    pub(crate) next: u32,
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
pub(crate) type Read<'a> = dyn FnMut(u64, u64, &mut [u8]) -> Result<usize, ScanError> + 'a;

/// Finds entries. `files` are those of the snapshot with what is in each, by serial and with its length; `read` reads one.
///
/// # Errors
/// Those of `read`.
pub(crate) fn find<'v>(
    wanted: &Wanted,
    files: impl Iterator<Item = (u64, u64, &'v Ledgers)>,
    spots: &mut Spots,
    read: &mut Read<'_>,
) -> Result<Run, ScanError> {
    let first = wanted.entries.start;
    // The file that has the least of them, and where the entries end that follow in it without a gap.
    let in_file = |ledgers: &Ledgers| {
        let entries = ledgers.of(wanted.ledger)?;
        let run = entries.ranges().find(|range| range.end > first && range.start < wanted.entries.end)?;
        Some(run.start.max(first)..run.end.min(wanted.entries.end))
    };
    let best = files
        .filter_map(|(serial, bytes, ledgers)| Some((in_file(ledgers)?, serial, bytes)))
        .min_by_key(|(range, serial, _)| (range.start, std::cmp::Reverse(range.end), *serial));
    let Some((range, serial, bytes)) = best else {
        return Ok(Run { lines: Vec::new(), next: wanted.entries.end });
    };
    if range.start > first {
        // What is before it is nowhere; what is in it comes with the next question.
        return Ok(Run { lines: Vec::new(), next: range.start });
    }
    let mut search = |start| {
        let mut search = Search { wanted, range: range.clone(), found: BTreeMap::new(), held: 0 };
        let end = search.through(start, bytes, &mut |offset, buffer| read(serial, offset, buffer))?;
        Ok(search.run(end))
    };
    let start = spots.offset(wanted.ledger, first, serial);
    let mut found = search(start)?;
    if found.is_none() && start > 0 {
        // Entries that were copied need not lie in their order.
        found = search(0)?;
    }
    // An entry that the file was to have and does not: it is passed over, or nobody would come further.
    let Some((run, end)) = found else { return Ok(Run { lines: Vec::new(), next: first.saturating_add(1) }) };
    spots.keep(wanted.ledger, run.next, serial, end);
    Ok(run)
}

/// One search through a file.
struct Search<'a> {
    wanted: &'a Wanted,
    /// What this file has from the first wanted entry on.
    range: Range<u32>,
    /// The line of each, and where it begins; none of another client.
    found: BTreeMap<u32, (u64, Vec<u8>)>,
    held: usize,
}

impl Search<'_> {
    /// Reads from `start` up to `bytes`, until everything is found or there is enough of it; answers where it stopped.
    fn through(
        &mut self,
        start: u64,
        bytes: u64,
        read: &mut dyn FnMut(u64, &mut [u8]) -> Result<usize, ScanError>,
    ) -> Result<u64, ScanError> {
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
        if ledger != self.wanted.ledger || !self.range.contains(&entry) || self.found.contains_key(&entry) {
            return false;
        }
        let is_wanted = self.wanted.client.is_none_or(|client| client == line.client);
        let text = if is_wanted { whole.to_vec() } else { Vec::new() };
        self.held += text.len();
        self.found.insert(entry, (offset, text));
        let all = self.found.len() as u64 == u64::from(self.range.end - self.range.start);
        all || self.held >= self.wanted.bytes_max
    }

    /// The run of entries from the first one on, as far as it goes without a gap and within the bytes, and where to go on:
    /// at what was met and is not in it, or at `end`. None if there is no run.
    fn run(self, end: u64) -> Option<(Run, u64)> {
        let mut run = Run { lines: Vec::new(), next: self.range.start };
        let mut rest = end;
        let mut is_full = false;
        for (entry, (offset, text)) in self.found {
            is_full = is_full || !run.lines.is_empty() && run.lines.len() + text.len() > self.wanted.bytes_max;
            if entry != run.next || is_full {
                rest = rest.min(offset);
            } else {
                run.lines.extend_from_slice(&text);
                run.next += 1;
            }
        }
        (run.next > self.range.start).then_some((run, rest))
    }
}
