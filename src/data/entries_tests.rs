//! Entries are found wherever they are: in several files, in disorder, beside rot, and by who goes on where it stopped.

use proptest::prelude::*;

use super::super::record::Fields;
use super::*;
use crate::wire::filter::SourceFilter;
use crate::wire::id::RecordId;
use crate::wire::ledger::{Incarnation, Place};

const LEDGER: LedgerId = LedgerId { incarnation: Incarnation(7), number: 3 };

/// Entry `n`: a third of them is of another client.
fn line(number: u32, n: u32) -> Vec<u8> {
    let id = RecordId { time_ns: 1_000 + u64::from(n), incarnation: 7 };
    let fields = Fields {
        id,
        client: ClientId(u64::from(n % 3)),
        seq: n.into(),
        place: Some(Place { number, entry: n }),
        source: None,
    };
    let mut line = Vec::new();
    record::encode(&mut line, fields, "x".repeat(n as usize % 50).as_bytes()).unwrap();
    line
}

/// Files of lines, each with what its index says.
#[derive(Clone, Default)]
struct Files(Vec<(Vec<u8>, Ledgers)>);

impl Files {
    fn add(&mut self, entries: impl IntoIterator<Item = u32>) -> usize {
        let (mut bytes, mut ledgers) = (Vec::new(), Ledgers::default());
        for n in entries {
            bytes.extend(line(LEDGER.number, n));
            ledgers.add(LEDGER, n..n + 1);
            // Others lie between.
            bytes.extend(line(9, n));
        }
        self.0.push((bytes, ledgers));
        self.0.len() - 1
    }

    /// The line of an entry rots in this file; its index does not know.
    fn rot(&mut self, file: usize, n: u32) {
        let line = line(LEDGER.number, n);
        let bytes = &mut self.0[file].0;
        let at = bytes.windows(line.len()).position(|window| window == line).unwrap();
        bytes[at + 45] ^= 1;
    }

    fn find(&self, spots: &mut Spots, wanted: &Wanted) -> (Run, u64) {
        let files = (0..).zip(&self.0).map(|(serial, (bytes, ledgers))| (serial, bytes.len() as u64, ledgers));
        let mut bytes_read = 0;
        let mut read = |serial: u64, offset: u64, buffer: &mut [u8]| {
            let rest = &self.0[serial as usize].0[offset as usize..];
            let got = rest.len().min(buffer.len());
            buffer[..got].copy_from_slice(&rest[..got]);
            bytes_read += got as u64;
            Ok::<_, std::convert::Infallible>(got)
        };
        let run = find(wanted, files, spots, &mut read).unwrap();
        (run, bytes_read)
    }

    /// Reads all of a range, as a reader does that goes on where it stopped: the entries of the lines, and what was lost.
    fn all(&self, spots: &mut Spots, wanted: &Wanted) -> (Vec<u32>, Vec<(u64, u32)>) {
        let (mut found, mut lost, mut next) = (Vec::new(), Vec::new(), wanted.clone());
        while next.entries.start < next.entries.end {
            let (run, _) = self.find(spots, &next);
            let at = next.entries.start;
            assert!(run.next > at && run.next <= next.entries.end, "{run:?}");
            let lines: Vec<&[u8]> = run.lines.split_inclusive(|byte| *byte == b'\n').collect();
            assert!(run.lines.len() <= wanted.bytes_max || lines.len() == 1, "{}", run.lines.len());
            let entries = lines.iter().map(|line| record::decode(&line[..line.len() - 1]).unwrap().entry().unwrap());
            let entries: Vec<u32> =
                entries.map(|(ledger, entry)| (ledger == LEDGER).then_some(entry).unwrap()).collect();
            let here = at..at + run.met;
            let fits = |n: &u32| wanted.client.is_none_or(|client| client == ClientId(u64::from(n % 3)));
            assert_eq!(entries, here.filter(fits).collect::<Vec<_>>(), "all that were met, in order");
            assert!(run.met == 0 || run.next == at + run.met);
            lost.extend(run.lost.iter().map(|serial| (*serial, at)));
            found.extend(entries);
            next.entries.start = run.next;
        }
        (found, lost)
    }
}

fn wanted(entries: Range<u32>, bytes_max: usize) -> Wanted {
    Wanted { ledger: LEDGER, entries, client: None, sources: SourceFilter::default(), bytes_max }
}

#[test]
fn who_goes_on_reads_nothing_twice_and_misses_nothing() {
    let mut files = Files::default();
    files.add(0..400);
    files.add(400..1000);
    // Pages that are full in the middle of a line: its place is where the next one begins.
    for bytes_max in [1, 200, 1000, 1 << 20] {
        let (mut spots, mut next, mut read) = (Spots::default(), 0, 0);
        while next < 1000 {
            let (run, bytes) = files.find(&mut spots, &wanted(next..1000, bytes_max));
            assert!(run.met > 0 && run.lost.is_empty(), "{next} of {bytes_max}: {run:?}");
            read += bytes.min(2 * limits::ENTRIES_CHUNK_BYTES as u64);
            next = run.next;
        }
        let there: usize = files.0.iter().map(|(bytes, _)| bytes.len()).sum();
        assert!(bytes_max < 1 << 20 || read <= there as u64, "{read} of {there}");
    }
}

#[test]
fn what_rotted_in_one_file_is_found_in_another() {
    let mut files = Files::default();
    let old = files.add(0..10);
    files.rot(old, 4);
    let (found, lost) = files.all(&mut Spots::default(), &wanted(0..10, 1 << 20));
    assert_eq!((found, lost), ((0..10).filter(|n| *n != 4).collect(), vec![(0, 4)]), "told, and passed over");
    files.add([4]);
    let (found, lost) = files.all(&mut Spots::default(), &wanted(0..10, 1 << 20));
    assert_eq!((found, lost), ((0..10).collect(), vec![(0, 4)]));
    // A copy in the same file, behind what follows it.
    let mut files = Files::default();
    let file = files.add((0..10).chain([4]));
    files.rot(file, 4);
    for bytes_max in [1, 100, 1 << 20] {
        let (found, lost) = files.all(&mut Spots::default(), &wanted(0..10, bytes_max));
        assert_eq!((found, lost), ((0..10).collect(), vec![]), "{bytes_max}");
    }
}

#[test]
fn what_is_nowhere_is_passed_over_at_once() {
    let mut files = Files::default();
    files.add(5..8);
    let (run, read) = files.find(&mut Spots::default(), &wanted(0..20, 99));
    assert_eq!((run, read), (Run { next: 5, ..Run::default() }, 0));
    let (run, _) = files.find(&mut Spots::default(), &wanted(8..20, 99));
    assert_eq!(run, Run { next: 20, ..Run::default() });
    let (run, _) =
        files.find(&mut Spots::default(), &Wanted { ledger: LedgerId { number: 4, ..LEDGER }, ..wanted(5..8, 99) });
    assert_eq!(run, Run { next: 8, ..Run::default() });
    assert_eq!(files.all(&mut Spots::default(), &wanted(0..20, 99)).0, [5, 6, 7]);
}

#[test]
fn few_places_are_remembered() {
    let mut spots = Spots::default();
    for number in 0..limits::SCAN_SPOTS_MAX as u32 + 9 {
        spots.keep(LedgerId { number, ..LEDGER }, 5, 1, 77);
    }
    assert_eq!(spots.spots.len(), limits::SCAN_SPOTS_MAX);
    let at = |number| spots.offset(LedgerId { number, ..LEDGER }, 5, 1);
    assert_eq!((at(8), at(9)), (0, 77), "the oldest go");
}

#[test]
fn a_question_for_no_bytes_gets_one_line_and_calls_none_lost() {
    let mut all = Files::default();
    all.add([26, 25]);
    let wanted = wanted(25..27, 0);
    assert_eq!(all.all(&mut Spots::default(), &wanted).0, [25, 26]);
}

proptest! {
    /// Entries in any files and any order, some of them rotten, some twice: all that can be read come, in order and once.
    #[test]
    fn all_that_can_be_read_is_found(
        files in prop::collection::vec(prop::collection::vec((0..40_u32, 0..6_u8), 0..40), 1..5),
        from in 0..30_u32, len in 1..40_u32, bytes_max in 0..900_usize, client in prop::option::of(0..3_u64),
    ) {
        let (mut all, mut there) = (Files::default(), std::collections::BTreeSet::new());
        for lines in &files {
            let mut seen = std::collections::BTreeSet::new();
            let lines: Vec<_> = lines.iter().filter(|(n, _)| seen.insert(*n)).collect();
            let file = all.add(lines.iter().map(|(n, _)| *n));
            for (n, rot) in lines {
                if *rot == 0 {
                    all.rot(file, *n);
                } else {
                    there.insert(*n);
                }
            }
        }
        let wanted = Wanted { client: client.map(ClientId), ..wanted(from..from + len, bytes_max) };
        let fits = |n: &u32| wanted.entries.contains(n) && client.is_none_or(|client| client == u64::from(n % 3));
        let expected: Vec<u32> = there.into_iter().filter(fits).collect();
        let mut spots = Spots::default();
        for _ in 0..2 {
            prop_assert_eq!(&all.all(&mut spots, &wanted).0, &expected);
        }
    }
}
