//! Which records a rotten place was: judged by what is left of its bytes, and by what this node ought to have.
//!
//! A record is known again if the place's own checksum says so, or if its fields do; a few bytes may differ. What is left
//! of a place beyond recognition is filled with records that name this node and that it lacks, as far as they fit in
//! length. Pure.

use std::collections::BTreeSet;
use std::ops::Range;

use super::place::Region;
use crate::limits;
use crate::wire::id::{self, CLIENT_CHARS, ID_CHARS, RecordId};
use crate::wire::record::{self, CRC_CHARS, Line};

/// Bytes of a line before its sequence number.
const SEQ_AT: usize = ID_CHARS + 1 + CLIENT_CHARS + 1;

/// Bytes of the shortest line: a place with less than that left unexplained lacks nothing more.
const LINE_BYTES_MIN: usize = SEQ_AT + 1 + 1 + CRC_CHARS + 1 + 1;

/// Where in a region a record was.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fit {
    at: Range<usize>,
    /// The names that its own line had, if they can be told; the outer `None` if not.
    names: Option<Option<String>>,
    /// Bytes that differ.
    differing: usize,
}

/// A record that the cluster has, and that may have been in a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    line: Vec<u8>,
    id: RecordId,
    /// It is nowhere else in this node's files.
    lacking: bool,
    fit: Option<Fit>,
}

impl Candidate {
    /// A line with its newline, if it may have been in the region: it is known again there, or this node, called `me`,
    /// lacks it and ought to have it.
    #[must_use]
    pub(crate) fn of(region: &Region, me: &str, line: &[u8], lacking: bool) -> Option<Self> {
        let decoded = record::decode(line.strip_suffix(b"\n")?).ok()?;
        let fit = fit(region, &decoded);
        let wanted = fit.is_some() || (lacking && decoded.copies().any(|name| name == me));
        wanted.then(|| Self { line: line.to_vec(), id: decoded.id, lacking, fit })
    }

    /// What it takes, bytes.
    #[must_use]
    pub(crate) const fn len(&self) -> usize {
        self.line.len()
    }

    /// The record, as it is to be written here.
    #[must_use]
    pub(crate) fn record(&self) -> Option<Line<'_>> {
        let line = record::decode(self.line.strip_suffix(b"\n")?).ok()?;
        let names = self.fit.as_ref().and_then(|fit| fit.names.as_ref());
        Some(match names {
            Some(own) => Line { copies: own.as_deref(), ..line },
            None => line,
        })
    }
}

/// What a region was.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Choice {
    /// The records, in order; each once.
    pub(crate) ids: Vec<RecordId>,
    /// Those among the candidates that have to be written again.
    pub(crate) write: Vec<usize>,
    /// Whether that explains all of it.
    pub(crate) whole: bool,
}

/// Chooses what a region was.
#[must_use]
pub(crate) fn choose(region: &Region, candidates: &[Candidate]) -> Choice {
    let mut fits: Vec<_> =
        candidates.iter().enumerate().filter_map(|(number, one)| Some((number, one, one.fit.as_ref()?))).collect();
    fits.sort_by_key(|(_, one, fit)| (fit.differing, fit.at.start, one.id));
    let mut taken: Vec<Range<usize>> = Vec::new();
    let mut ids = BTreeSet::new();
    let mut write = Vec::new();
    for (number, one, fit) in fits {
        if taken.iter().any(|other| other.start < fit.at.end && fit.at.start < other.end) || !ids.insert(one.id) {
            continue;
        }
        taken.push(fit.at.clone());
        // A record at the start of a rotten line was found elsewhere, if it was found; another one perhaps right here,
        // where readers begin anew.
        if one.lacking || !region.lines.iter().any(|line| line.at == fit.at.start) {
            write.push(number);
        }
    }
    let mut left = region.bytes.len() - taken.iter().map(Range::len).sum::<usize>();
    let mut others: Vec<_> =
        candidates.iter().enumerate().filter(|(_, one)| one.fit.is_none() && one.lacking).collect();
    let near = |id: RecordId| {
        let (before, after) = (region.before.unwrap_or(RecordId::ZERO), region.after.unwrap_or(RecordId::MAX));
        (before.min(after)..=before.max(after)).contains(&id)
    };
    others.sort_by_key(|(_, one)| (!near(one.id), one.id));
    for (number, one) in others {
        if one.len() <= left && ids.insert(one.id) {
            left -= one.len();
            write.push(number);
        }
    }
    let whole = !ids.is_empty() && left < LINE_BYTES_MIN;
    // What stays open is looked at again and again: it must not write anything twice.
    write.retain(|number| whole || candidates.get(*number).is_some_and(|one| one.lacking));
    write.sort_by_key(|number| candidates.get(*number).map(|one| one.id));
    Choice { whole, ids: ids.into_iter().collect(), write }
}

/// Where in a region this record was, if it is known again: where a bad line begins, or where its id stands.
fn fit(region: &Region, line: &Line<'_>) -> Option<Fit> {
    let id = line.id.to_text();
    let starts = region.lines.iter().filter(|bad| plausible(region, bad.at, bad.len, line)).map(|bad| bad.at);
    let spelt = memchr::memmem::find(&region.bytes, &id);
    let spelt: Vec<usize> = spelt.into_iter().collect();
    let encoded = starts.chain(spelt.iter().copied()).filter_map(|at| fit_at(region, at, line));
    let best = encoded.min_by_key(|fit| fit.differing);
    best.or_else(|| spelt.iter().find_map(|at| fit_around(region, *at, line)))
}

/// Where a record was whose names cannot be told any more: its fields stand before them, its payload ends a line after
/// them.
fn fit_around(region: &Region, at: usize, line: &Line<'_>) -> Option<Fit> {
    let mut fields = Vec::new();
    record::encode(&mut fields, line.id, line.client, line.seq, None, b"").ok()?;
    fields.truncate(SEQ_AT + id::digits(line.seq));
    if !region.bytes.get(at..)?.starts_with(&fields) {
        return None;
    }
    let least = at + fields.len() + 1 + CRC_CHARS + 1 + line.text.len() + 1;
    let ends = region.lines.iter().map(|bad| bad.at + bad.len).filter(|end| *end >= least);
    ends.filter_map(|end| {
        let payload = region.bytes.get(end - 1 - line.text.len()..end - 1)?;
        let differing = differing(payload, line.text.as_bytes());
        // Any names are worse than names that can be read.
        let fit = Fit { at: at..end, names: None, differing: limits::MEND_PROVEN_BYTES_MAX + differing };
        (differing <= limits::MEND_DIFFERING_BYTES_MAX).then_some(fit)
    })
    .min_by_key(|fit| fit.differing)
}

/// Whether a record may have been one bad line: it takes a moment to tell.
fn plausible(region: &Region, at: usize, len: usize, line: &Line<'_>) -> bool {
    let shortest = SEQ_AT + id::digits(line.seq) + 1 + CRC_CHARS + 1 + line.text.len() + 1;
    let end = at + len;
    let payload = region.bytes.get(end.saturating_sub(line.text.len() + 1)..end.saturating_sub(1)).unwrap_or_default();
    len >= shortest && differing(payload, line.text.as_bytes()) <= limits::MEND_PROVEN_BYTES_MAX
}

fn differing(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).filter(|(one, other)| one != other).count()
}

fn fit_at(region: &Region, at: usize, line: &Line<'_>) -> Option<Fit> {
    let place = region.bytes.get(at..)?;
    let names_at = SEQ_AT + id::digits(line.seq);
    let own = own_names(place.get(names_at..)?);
    let received = line.copies.map(str::to_owned);
    let mut tried = own.into_iter().collect::<Vec<_>>();
    if !tried.contains(&received) {
        tried.push(received);
    }
    let fits = tried.into_iter().filter_map(|names| {
        let mut written = Vec::new();
        record::encode(&mut written, line.id, line.client, line.seq, names.as_deref(), &line.payload()).ok()?;
        let place = place.get(..written.len())?;
        let crc_at = names_at + names.as_ref().map_or(0, |names| 1 + names.len()) + 1;
        let crc = crc_at..crc_at + CRC_CHARS;
        let wrong_crc = differing(place.get(crc.clone())?, written.get(crc)?);
        let others = differing(place, &written) - wrong_crc;
        let same_fields = place.get(..names_at) == written.get(..names_at);
        let known = match wrong_crc {
            0 => others <= limits::MEND_PROVEN_BYTES_MAX,
            _ => others == 0 || (same_fields && others <= limits::MEND_DIFFERING_BYTES_MAX),
        };
        // Other names would make another checksum.
        let names = (wrong_crc <= 1).then_some(names);
        known.then(|| Fit { at: at..at + written.len(), names, differing: others + wrong_crc })
    });
    fits.min_by_key(|fit| fit.differing)
}

/// The names at the end of a sequence field, as they stand there. None if nothing like that stands there.
fn own_names(rest: &[u8]) -> Option<Option<String>> {
    match rest.split_first()? {
        (b' ', _) => Some(None),
        (b'+', names) => {
            let end = memchr::memchr(b' ', names)?;
            Some(Some(std::str::from_utf8(names.get(..end)?).ok()?.to_owned()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::place::BadLine;
    use super::*;
    use crate::wire::id::ClientId;
    use proptest::prelude::*;

    fn id(n: u64) -> RecordId {
        RecordId { time_ns: 1_795_234_260_000_000_000 + n, incarnation: 7 }
    }

    fn line(n: u64, names: Option<&str>, payload: &str) -> Vec<u8> {
        let mut out = Vec::new();
        record::encode(&mut out, id(n), ClientId(9), n, names, payload.as_bytes()).unwrap();
        out
    }

    /// A region between records 1 and 9, cut at its newlines.
    fn region(bytes: Vec<u8>) -> Region {
        let mut at = 0;
        let lines = bytes.split_inclusive(|byte| *byte == b'\n').map(|line| {
            at += line.len();
            BadLine { at: at - line.len(), len: line.len(), reason: String::new() }
        });
        let lines = lines.collect();
        Region { offset: 0, bytes, lines, before: Some(id(1)), after: Some(id(9)) }
    }

    /// What is written again, and whether that is all.
    fn chosen(region: &Region, lines: &[(Vec<u8>, bool)]) -> (Vec<Vec<u8>>, Vec<RecordId>, bool) {
        let candidates: Vec<_> =
            lines.iter().filter_map(|(line, lacking)| Candidate::of(region, "b", line, *lacking)).collect();
        let choice = choose(region, &candidates);
        let written = choice.write.iter().map(|number| {
            let Line { id, client, seq, copies, .. } = candidates[*number].record().unwrap();
            let mut out = Vec::new();
            let payload = candidates[*number].record().unwrap().payload().into_owned();
            record::encode(&mut out, id, client, seq, copies, &payload).unwrap();
            out
        });
        (written.collect(), choice.ids, choice.whole)
    }

    /// Records 2 to 8 as another node has them.
    fn cluster(names: Option<&str>) -> Vec<(Vec<u8>, bool)> {
        (2..9).map(|n| (line(n, names, "hola"), n == 5)).collect()
    }

    #[test]
    fn a_flipped_byte_anywhere_is_known_and_the_own_names_stay() {
        for (own, theirs) in [(Some("a,b"), Some("a,b")), (Some("b,c"), Some("a,b,c")), (None, Some("a,b"))] {
            let whole = line(5, own, "hola");
            for at in 0..whole.len() {
                for to in [whole[at] ^ 1, b' ', b'\n', 0] {
                    let mut bytes = whole.clone();
                    bytes[at] = to;
                    let region = region(bytes);
                    if region.bytes == whole || (to == b'\n' && at < ID_CHARS) {
                        continue;
                    }
                    let (written, ids, all) = chosen(&region, &cluster(theirs));
                    assert_eq!(
                        (ids, all),
                        (vec![id(5)], true),
                        "{at} {to}: {:?}",
                        String::from_utf8_lossy(&region.bytes)
                    );
                    let in_names = own != theirs && (33..=33 + own.map_or(0, |own| 1 + own.len())).contains(&at);
                    let expected = if in_names { line(5, theirs, "hola") } else { whole.clone() };
                    assert_eq!(written, [expected], "{at} {to}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_among_them_is_not_taken_for_another() {
        for at in 0..line(5, None, "hola").len() {
            let mut bytes = line(5, None, "hola");
            bytes[at] ^= 1;
            let others: Vec<_> = (2..9).filter(|n| *n != 5).map(|n| (line(n, None, "hola"), n == 6)).collect();
            assert_eq!(chosen(&region(bytes), &others), (Vec::new(), Vec::new(), false), "{at}");
        }
    }

    #[test]
    fn two_records_in_one_bad_line_are_both_written() {
        let mut bytes = [line(5, Some("a,b"), "hola"), line(6, Some("a,b"), "adios")].concat();
        let newline = line(5, Some("a,b"), "hola").len() - 1;
        bytes[newline] = b'J';
        let others = [(line(5, Some("a,b"), "hola"), true), (line(6, Some("a,b"), "adios"), false)];
        let (written, ids, whole) = chosen(&region(bytes), &others);
        assert_eq!((written, ids, whole), (others.map(|one| one.0).to_vec(), vec![id(5), id(6)], true));
    }

    #[test]
    fn one_that_is_here_already_is_not_written_again() {
        let mut bytes = line(5, Some("a,b"), "hola");
        bytes[46] ^= 1;
        let others = [(line(5, Some("a,b"), "hola"), false)];
        assert_eq!(chosen(&region(bytes), &others), (Vec::new(), vec![id(5)], true));
    }

    #[test]
    fn a_place_beyond_recognition_is_filled_with_what_this_node_ought_to_have() {
        let lost = [line(5, Some("a,b"), "hola"), line(6, Some("b,c"), "adios")];
        let zeros = region(vec![0; lost.concat().len()]);
        let elsewhere = [(line(4, Some("a,c"), "hola"), true), (line(7, Some("a,b"), "hola"), false)];
        let all = [lost.clone().map(|line| (line, true)).to_vec(), elsewhere.to_vec()].concat();
        assert_eq!(chosen(&zeros, &all), (lost.to_vec(), vec![id(5), id(6)], true));
        // One of them is nowhere: what there is is written, and the place stays open.
        assert_eq!(chosen(&zeros, &all[1..]), (vec![lost[1].clone()], vec![id(6)], false));
        assert_eq!(chosen(&zeros, &elsewhere), (Vec::new(), Vec::new(), false));
    }

    proptest! {
        #[test]
        fn whatever_a_place_holds_nothing_panics(bytes in prop::collection::vec(any::<u8>(), 1..300), n in 2..9_u64) {
            let region = region(bytes);
            let (written, ids, _) = chosen(&region, &[(line(n, Some("a,b"), "hola"), true)]);
            prop_assert_eq!(written.len(), ids.len());
        }
    }
}
