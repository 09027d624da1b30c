//! Gathers the lines of one file that need a copy into chunks that travel together.
//!
//! Pure: it is shown the lines of a file from its beginning, and hands out chunks whose records have the same names in
//! their lines and the same holders. While a chunk is under way no line is shown, so what is noted of it is known when
//! the next line is looked at.

use std::collections::BTreeMap;

use super::need::Need;
use super::overlay::{Note, Overlay};
use crate::limits;

/// Lines that need a copy, and what is to be noted when they have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// The note, with the holders before the copy.
    pub(crate) note: Note,
    /// Whole lines.
    pub(crate) lines: Vec<u8>,
}

/// How far the records that name certain nodes have been looked at.
#[derive(Debug, Default)]
struct Track {
    /// Where the range of the overlay begins that the last one lay in.
    range: Option<u64>,
    /// Where that ends; 0 if it is none.
    range_end: u64,
    /// Where the next chunk begins: nothing of this kind lies between it and the lines gathered.
    start: u64,
    /// Records of the same range before that.
    before: u64,
    holders: String,
    wanted: bool,
    lines: Vec<u8>,
    records: u64,
    end: u64,
}

/// The lines of one file, as they are gathered.
#[derive(Debug)]
pub(crate) struct Gather {
    file: String,
    tracks: BTreeMap<String, Track>,
    bytes: usize,
}

impl Gather {
    /// Begins with a file, by the name that it has when it is sealed.
    #[must_use]
    pub(crate) const fn new(file: String) -> Self {
        Self { file, tracks: BTreeMap::new(), bytes: 0 }
    }

    /// Looks at the next good line of the file, newline included, which begins at `offset` and names `written`. Chunks
    /// that are complete are appended to `out`: send them before the next line is looked at. `judge` says what records
    /// with these holders need.
    pub(crate) fn line(
        &mut self,
        (offset, line): (u64, &[u8]),
        written: &str,
        overlay: &Overlay,
        judge: impl Fn(&str, &str) -> Need,
        out: &mut Vec<Chunk>,
    ) {
        let covered = overlay.find(&self.file, offset, written);
        let range = covered.map(|range| range.from);
        if !self.tracks.contains_key(written) {
            self.tracks.insert(written.to_owned(), Track { range: Some(u64::MAX), ..Track::default() });
        }
        let Some(track) = self.tracks.get_mut(written) else { return };
        if track.range != range {
            self.bytes -= track.lines.len();
            out.extend(track.flush(&self.file, written));
            let holders = covered.map_or_else(|| written.to_owned(), |range| range.holders.clone());
            let need = judge(written, &holders);
            track.start = range.unwrap_or(track.range_end);
            track.range_end = covered.map_or(track.range_end, |range| range.to);
            (track.range, track.before, track.holders) = (range, 0, holders);
            track.wanted = need.responsible && need.copies > 0;
        }
        if !track.wanted {
            track.before += 1;
            track.start = offset + line.len() as u64;
            return;
        }
        if !track.lines.is_empty() && track.lines.len() + line.len() > limits::COPY_BYTES_MAX {
            self.bytes -= track.lines.len();
            out.extend(track.flush(&self.file, written));
        }
        track.lines.extend_from_slice(line);
        track.records += 1;
        track.end = offset + line.len() as u64;
        self.bytes += line.len();
        if self.bytes > limits::REPAIR_BUCKETS_BYTES_MAX
            && let Some((written, track)) = self.tracks.iter_mut().max_by_key(|(_, track)| track.lines.len())
        {
            self.bytes -= track.lines.len();
            out.extend(track.flush(&self.file, written));
        }
    }

    /// What is left at the end of the file.
    pub(crate) fn rest(&mut self, out: &mut Vec<Chunk>) {
        for (written, track) in &mut self.tracks {
            out.extend(track.flush(&self.file, written));
        }
        self.bytes = 0;
    }
}

impl Track {
    fn flush(&mut self, file: &str, written: &str) -> Option<Chunk> {
        if self.lines.is_empty() {
            return None;
        }
        let note = Note {
            file: file.to_owned(),
            from: self.start,
            to: self.end,
            written: written.to_owned(),
            holders: self.holders.clone(),
            records: std::mem::take(&mut self.records),
            before: std::mem::take(&mut self.before),
        };
        self.start = self.end;
        // Once this is noted a range that covered it begins here.
        self.range = self.range.map(|_| self.end);
        Some(Chunk { note, lines: std::mem::take(&mut self.lines) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::need::names;
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = "data-1795234260----0----6.txt";

    fn until(copies: usize) -> impl Fn(&str, &str) -> Need {
        move |_, holders| Need {
            responsible: true,
            short: false,
            sole: false,
            copies: copies.saturating_sub(names(holders).len()),
            live: holders.to_owned(),
        }
    }

    #[test]
    fn a_chunk_has_one_set_of_names_and_fits_its_bound() {
        let overlay = Overlay::default();
        let mut gather = Gather::new(FILE.to_owned());
        let (mut out, mut offset) = (Vec::new(), 0);
        let line = vec![b'x'; 100_000];
        for written in ["a,b", "a,c", "a,b", "a,b", "a,c", "a,b,c"] {
            gather.line((offset, &line), written, &overlay, until(3), &mut out);
            offset += 100_000;
        }
        assert_eq!(out.len(), 1, "two of a,b");
        gather.rest(&mut out);
        let all: Vec<_> = out
            .iter()
            .map(|chunk| (chunk.note.written.as_str(), chunk.note.from, chunk.note.to, chunk.note.records))
            .collect();
        assert_eq!(all, [("a,b", 0, 300_000, 2), ("a,b", 300_000, 400_000, 1), ("a,c", 0, 500_000, 2)]);
        assert!(out.iter().all(|chunk| chunk.lines.len() as u64 == chunk.note.records * 100_000));
    }

    proptest! {
        /// Sweeps that are cut short anywhere, with copies that fail: what is noted is what was copied, to the record, and
        /// in the end every record has its copies.
        #[test]
        fn notes_are_exact(
            lines in prop::collection::vec((0..3_usize, 1..60_000_usize), 1..60),
            sweeps in prop::collection::vec((0..70_usize, 2..5_usize, 0..5_usize), 0..6),
        ) {
            let sets = ["a", "a,b", "b"];
            let mut overlay = Overlay::default();
            let mut model: Vec<String> = lines.iter().map(|(set, _)| sets[*set].to_owned()).collect();
            for (stop, copies, target) in sweeps.into_iter().chain([(usize::MAX, 4, 0)]) {
                let mut gather = Gather::new(FILE.to_owned());
                let mut offset = 0;
                let mut chunks = 0;
                let mut offsets = Vec::new();
                'sweep: for (k, (set, bytes)) in lines.iter().enumerate() {
                    offsets.push(offset);
                    let mut line = vec![b'x'; *bytes];
                    line[0] = k as u8;
                    let mut out = Vec::new();
                    gather.line((offset, &line), sets[*set], &overlay, until(copies), &mut out);
                    offset += *bytes as u64;
                    if k + 1 == lines.len() {
                        gather.rest(&mut out);
                    }
                    for mut chunk in out {
                        chunks += 1;
                        if chunks > stop {
                            break 'sweep;
                        }
                        let old = chunk.note.holders.clone();
                        let name = ["c", "d", "e", "f", "g"].into_iter().cycle().skip(target + chunks).find(|name| !names(&old).contains(name)).unwrap();
                        chunk.note.holders = super::super::need::with_name(&old, name);
                        let inside = |at: u64| chunk.note.from <= at && at < chunk.note.to;
                        let mut count = 0;
                        for (k, at) in offsets.iter().enumerate() {
                            if inside(*at) && sets[lines[k].0] == chunk.note.written {
                                prop_assert_eq!(&model[k], &old);
                                model[k] = chunk.note.holders.clone();
                                count += 1;
                            }
                        }
                        prop_assert_eq!(count, chunk.note.records);
                        prop_assert!(overlay.note(chunk.note));
                    }
                }
                let mut offset = 0;
                for (k, (set, bytes)) in lines.iter().enumerate() {
                    let said = overlay.find(FILE, offset, sets[*set]).map_or(sets[*set], |range| range.holders.as_str());
                    prop_assert_eq!(said, &model[k]);
                    offset += *bytes as u64;
                }
                for (written, holders, records) in overlay.totals() {
                    let same = |(k, line): &(usize, &(usize, usize))| sets[line.0] == written && model[*k] == holders;
                    prop_assert_eq!(lines.iter().enumerate().filter(same).count() as u64, records, "{} {}", written, holders);
                }
            }
            for _ in 0..3 {
                // Each sweep adds one copy; three make four of one.
                let mut gather = Gather::new(FILE.to_owned());
                let (mut offset, mut out) = (0, Vec::new());
                for (k, (set, bytes)) in lines.iter().enumerate() {
                    gather.line((offset, &vec![b'x'; *bytes]), sets[*set], &overlay, until(4), &mut out);
                    offset += *bytes as u64;
                    if k + 1 == lines.len() {
                        gather.rest(&mut out);
                    }
                    for mut chunk in out.drain(..) {
                        let name = ["c", "d", "e", "f"].into_iter().find(|name| !names(&chunk.note.holders).contains(name)).unwrap();
                        chunk.note.holders = super::super::need::with_name(&chunk.note.holders, name);
                        prop_assert!(overlay.note(chunk.note));
                    }
                }
            }
            for (_, holders, _) in overlay.totals() {
                prop_assert!(names(holders).len() >= 4, "{}", holders);
            }
        }
    }
}
