//! A reader's place in the files, with the parsed records that lie before it: the part of a scan that outlives a page.
//!
//! Blocks are loaded into a window in any order and leave it as records in id order. What does not fit is dropped from
//! the far end: the window then knows its horizon, and beyond it the scan begins a new window. Pure: it is given bytes.

use super::query::Query;
use super::record;
use crate::wire::filter::SourceFilter;
use crate::wire::id::{ClientId, RecordId};
use std::cmp::Ordering;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, HashMap};

/// What a place costs for each block that it remembers, about, bytes.
const LOADED_BYTES: usize = 64;

/// Where a line lies in the bytes of its run.
#[derive(Debug, Clone, Copy)]
struct Entry {
    id: RecordId,
    start: usize,
    len: usize,
}

/// Lines of one block by ascending id, each id once.
#[derive(Debug, Default)]
struct Run {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    next: usize,
}

impl Run {
    fn head(&self) -> Option<Entry> {
        self.entries.get(self.next).copied()
    }

    fn line(&self, entry: Entry) -> &[u8] {
        self.bytes.get(entry.start..entry.start + entry.len).unwrap_or_default()
    }

    fn push(&mut self, id: RecordId, line: &[u8]) {
        self.entries.push(Entry { id, start: self.bytes.len(), len: line.len() });
        self.bytes.extend_from_slice(line);
    }

    fn size(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// Puts the lines in order, and gives back the room that a filter left.
    fn order(&mut self) {
        self.entries.sort_by_key(|entry| entry.id);
        self.entries.dedup_by_key(|entry| entry.id);
        if self.bytes.len() < self.bytes.capacity() / 2 {
            self.bytes.shrink_to_fit();
        }
    }
}

/// The run with the least head comes first out of a heap.
impl Ord for Run {
    fn cmp(&self, other: &Self) -> Ordering {
        other.head().map(|entry| entry.id).cmp(&self.head().map(|entry| entry.id))
    }
}

impl PartialOrd for Run {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Run {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Run {}

/// How much of a block is in the window.
#[derive(Debug, Clone, Copy)]
struct Loaded {
    bytes: u64,
    greatest: RecordId,
}

/// A place and the records from there on that were parsed.
#[derive(Debug)]
pub(super) struct Window {
    client: Option<ClientId>,
    sources: SourceFilter,
    at: RecordId,
    /// Records from here on were dropped, or never kept: blocks count as loaded only below it.
    horizon: Option<RecordId>,
    runs: BinaryHeap<Run>,
    held: usize,
    /// By the serial of a file and the offset of a block.
    loaded: HashMap<(u64, u64), Loaded>,
}

impl Window {
    /// The place where a question begins.
    pub(super) fn new(query: &Query) -> Self {
        Self::at_place(query.from, query.client, query.sources.clone())
    }

    fn at_place(at: RecordId, client: Option<ClientId>, sources: SourceFilter) -> Self {
        Self { client, sources, at, horizon: None, runs: BinaryHeap::new(), held: 0, loaded: HashMap::new() }
    }

    /// Whether this is the place of a reader that goes on with this question.
    pub(super) fn is_at(&self, query: &Query) -> bool {
        self.at == query.from && self.client == query.client && self.sources == query.sources
    }

    /// Everything below it was taken.
    pub(super) const fn at(&self) -> RecordId {
        self.at
    }

    /// Where this window ends, if not everything fitted.
    pub(super) const fn horizon(&self) -> Option<RecordId> {
        self.horizon
    }

    /// Memory that it takes, bytes, about.
    pub(super) fn size(&self) -> usize {
        self.held + self.loaded.len() * LOADED_BYTES
    }

    /// Bytes of the block at `key` that are loaded.
    pub(super) fn loaded(&self, key: (u64, u64)) -> u64 {
        self.loaded.get(&key).map_or(0, |loaded| loaded.bytes)
    }

    /// Takes lines of the block at `key`, which is loaded up to `bytes` with them and whose greatest id is `greatest`.
    /// Keeps at most about `held_max` bytes, but always the least record. `rotten` is told where in `lines` a rotten one
    /// begins, and its length. Answers how many good ones there are.
    pub(super) fn load(
        &mut self,
        key: (u64, u64),
        bytes: u64,
        greatest: RecordId,
        lines: &[u8],
        held_max: usize,
        mut rotten: impl FnMut(usize, usize),
    ) -> u64 {
        let mut good = 0;
        self.loaded.insert(key, Loaded { bytes, greatest });
        let mut run = Run::default();
        if self.client.is_none() && self.sources.is_all() {
            run.bytes.reserve(lines.len());
        }
        let mut start = 0;
        let ends = memchr::memchr_iter(b'\n', lines).map(|newline| newline + 1);
        for end in ends.chain((lines.last().is_some_and(|b| *b != b'\n')).then_some(lines.len())) {
            let whole = lines.get(start..end).unwrap_or_default();
            let begin = std::mem::replace(&mut start, end);
            match whole.strip_suffix(b"\n").map(record::decode) {
                Some(Ok(line)) => {
                    good += 1;
                    let wanted = self.client.is_none_or(|client| client == line.client)
                        && self.sources.matches(line.source.as_ref());
                    if wanted && line.id >= self.at && self.horizon.is_none_or(|horizon| line.id < horizon) {
                        let plain = record::without_sync_mark(whole, &line);
                        run.push(line.id, plain.as_deref().unwrap_or(whole));
                    }
                }
                _ => rotten(begin, whole.len()),
            }
        }
        if !run.entries.is_empty() {
            run.order();
            self.add(run);
        }
        if self.held > held_max {
            self.trim(held_max / 2);
        }
        good
    }

    fn add(&mut self, run: Run) {
        self.held += run.size();
        self.runs.push(run);
    }

    /// Keeps the least records that take `held_max` bytes together, at least one; the first of the others is the
    /// horizon.
    fn trim(&mut self, held_max: usize) {
        let runs = std::mem::take(&mut self.runs).into_vec();
        let mut all: Vec<(RecordId, &Run, Entry)> = Vec::new();
        for run in &runs {
            let rest = run.entries.get(run.next..).unwrap_or_default();
            all.extend(rest.iter().map(|entry| (entry.id, run, *entry)));
        }
        all.sort_by_key(|(id, ..)| *id);
        all.dedup_by_key(|(id, ..)| *id);
        let mut kept = Run::default();
        for (id, run, entry) in all {
            let size = kept.bytes.len() + (kept.entries.len() + 1) * size_of::<Entry>() + entry.len;
            if size > held_max && !kept.entries.is_empty() {
                self.horizon = Some(id);
                break;
            }
            kept.push(id, run.line(entry));
        }
        kept.bytes.shrink_to_fit();
        kept.entries.shrink_to_fit();
        self.held = 0;
        if !kept.entries.is_empty() {
            self.add(kept);
        }
    }

    /// The least record of what is loaded.
    pub(super) fn peek(&self) -> Option<(RecordId, &[u8])> {
        let run = self.runs.peek()?;
        run.head().map(|entry| (entry.id, run.line(entry)))
    }

    /// Goes past the least record and all that have its id.
    pub(super) fn advance(&mut self) {
        let Some((id, _)) = self.peek() else {
            return;
        };
        while let Some(mut run) = self.runs.peek_mut() {
            if run.head().is_none_or(|entry| entry.id != id) {
                break;
            }
            run.next += 1;
            if run.head().is_none() {
                self.held -= run.size();
                PeekMut::pop(run);
            }
        }
        self.at = id.next();
    }

    /// Begins anew at the horizon.
    pub(super) fn restart(&mut self, at: RecordId) {
        *self = Self::at_place(at, self.client, std::mem::take(&mut self.sources));
    }

    /// Rests at `at`, below which nothing is left. Forgets blocks that end before it, but not the one at `open`: it
    /// grows, and only what is new of it shall be read.
    pub(super) fn rest(&mut self, at: RecordId, open: Option<(u64, u64)>) {
        self.at = self.at.max(at);
        let at = self.at;
        self.loaded.retain(|key, loaded| loaded.greatest >= at || Some(*key) == open);
    }
}
