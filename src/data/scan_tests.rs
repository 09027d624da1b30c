//! The scan against a model: files in any disorder, with copies, rot, seals and lost sidecars, read by several readers.
//!
//! The checker asks of every page: it holds exactly what the model has between its beginning and its `next`, in order
//! and once, within its bounds; and it comes to an end.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests stop at the first surprise, too")]

use super::index::{BlockSizes, Summary};
use super::ledgers::Ledgers;
use super::log::{Log, Settings, SyncPolicy};
use super::query::Query;
use super::record::{Fields, decode, encode};
use super::scan::{Page, ScanBounds, ScanError, Scanner};
use super::segments::{CURRENT, INDEX};
use super::sidecar::{self, sidecar_name};
use super::simulated::SimDisk;
use super::storage::{Disk, Storage};
use super::view::View;
use crate::limits;
use crate::wire::filter::SourceFilter;
use crate::wire::id::{ClientId, RecordId};
use crate::wire::ledger::Place;
use crate::wire::source::SourceName;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

const SETTINGS: Settings = Settings { segment_bytes: 3000, sync: SyncPolicy::Always };
const SIZES: BlockSizes = BlockSizes { full: 500, least: 120 };
const BOUNDS: ScanBounds =
    ScanBounds { window_bytes: 900, read_bytes: 1500, cursors: 2, cursors_bytes: 3000, blocks: 9 };

fn id(n: u64) -> RecordId {
    RecordId { time_ns: n * 700_000_000, incarnation: 3 }
}

fn number(id: RecordId) -> u64 {
    id.time_ns / 700_000_000
}

fn client(n: u64) -> ClientId {
    ClientId(n % 3)
}

/// Whose record `n` is: neighbours mostly are of one source.
fn source(n: u64) -> Option<SourceName> {
    let names = ["", "a", "g/x", "g/y", "", "rare"];
    let at = if n.is_multiple_of(500) { 5 } else { (n / 40) as usize % 5 };
    names[at].parse().ok().filter(|_| !n.is_multiple_of(3))
}

/// The line of record `n`, the same every time.
fn line(out: &mut Vec<u8>, n: u64) {
    let place = [None, Some(1), Some(2)][n as usize % 3].map(|number| Place { number, entry: n as u32 / 3 });
    let payload = "mensaje ".repeat(n as usize % 7);
    encode(out, Fields { id: id(n), client: client(n), seq: n, place, source: source(n) }, payload.as_bytes()).unwrap();
}

fn append<S: Storage>(log: &mut Log<S>, numbers: impl IntoIterator<Item = u64>) {
    let mut lines = Vec::new();
    numbers.into_iter().for_each(|n| line(&mut lines, n));
    log.append(&mut lines.clone(), &Summary::of(&lines)).unwrap();
}

fn open<S: Storage>(storage: S) -> Log<S> {
    Log::open_with_blocks(storage, SETTINGS, SIZES).unwrap().0
}

fn all(bytes_max: usize) -> Query {
    Query { from: RecordId::ZERO, until: RecordId::MAX, client: None, sources: SourceFilter::default(), bytes_max }
}

fn numbers(page: &Page) -> Vec<u64> {
    page.lines
        .split_inclusive(|b| *b == b'\n')
        .map(|line| number(decode(&line[..line.len() - 1]).unwrap().id))
        .collect()
}

/// How many entries the files have together, each counted once.
fn entries(view: &View) -> u64 {
    let mut all = Ledgers::default();
    view.ledgers().for_each(|(_, ledgers)| all.merge(ledgers));
    all.iter().map(|(_, entries)| entries.count()).sum()
}

/// Reads to the end of the range and gives the records.
fn read<S: Storage>(scanner: &mut Scanner<S>, view: &View, mut query: Query) -> (Vec<u64>, u32) {
    let (mut found, mut rotten) = (Vec::new(), 0);
    while query.from < query.until {
        let page = scanner.page(view, &query).unwrap();
        assert!(page.next > query.from);
        found.extend(numbers(&page));
        rotten += page.rotten;
        query.from = page.next;
    }
    (found, rotten)
}

/// Asks for a page and checks it; answers where to go on.
fn check<S: Storage>(scanner: &mut Scanner<S>, view: &View, model: &BTreeSet<u64>, query: &Query) -> RecordId {
    let page = scanner.page(view, query).unwrap();
    assert!(page.next > query.from && page.next <= query.until, "{query:?} {page:?}");
    let fits = |n: &u64| {
        id(*n) >= query.from
            && id(*n) < page.next
            && query.client.is_none_or(|wanted| wanted == client(*n))
            && query.sources.matches(source(*n).as_ref())
    };
    let expected: Vec<u64> = model.iter().copied().filter(fits).collect();
    assert_eq!(numbers(&page), expected, "{query:?}");
    assert_eq!((page.records as usize, page.rotten), (expected.len(), 0));
    assert!(page.lines.len() <= query.bytes_max || page.records == 1);
    page.next
}

fn random_query(rng: &mut SmallRng, end: u64) -> Query {
    let (a, b) = (rng.random_range(0..end + 2), rng.random_range(0..end + 2));
    let until = if rng.random_bool(0.5) { RecordId::MAX } else { id(a.max(b)).next() };
    let client = rng.random_bool(0.3).then(|| ClientId(rng.random_range(0..4)));
    let sources = match rng.random_range(0..8) {
        0 => "a",
        1 => "g/",
        2 => "rare,g/y",
        3 => "nobody",
        _ => "",
    };
    let sources = sources.parse().unwrap_or_default();
    Query { from: id(a.min(b)), until, client, sources, bytes_max: rng.random_range(0..800) }
}

/// Damages or removes the sidecar of a sealed file.
fn damage(disk: &SimDisk, view: &View, rng: &mut SmallRng) {
    let Some(file) = view.sealed().get(rng.random_range(0..view.sealed().len().max(1))) else {
        return;
    };
    let name = sidecar_name(&file.segment.file);
    match rng.random_range(0..3) {
        0 => disk.flip(&name, rng.random_range(0..800)),
        1 => disk.rename(&name, &format!("lost{}", rng.random::<u64>())).unwrap_or_default(),
        _ => disk.write_small(&name, b"acopio-index 1 0 0\n").unwrap(),
    }
}

/// A history of batches in some disorder, read meanwhile by several readers.
fn history<S: Storage + Clone>(storage: &S, seed: u64, mut damage: impl FnMut(&View, &mut SmallRng)) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let disorder = [0_u64, 3, 40, 400][rng.random_range(0..4)];
    let mut log = open(storage.clone());
    let mut scanner = Scanner::new(storage.clone(), BOUNDS);
    let mut model = BTreeSet::new();
    let mut readers: Vec<Query> = Vec::new();
    let mut end = 0_u64;
    for _ in 0..rng.random_range(1..60) {
        let batch: Vec<u64> = (0..rng.random_range(1..9))
            .map(|_| {
                end += 1;
                (end + rng.random_range(0..=disorder)).saturating_sub(rng.random_range(0..=disorder))
            })
            .collect();
        append(&mut log, batch.iter().copied());
        model.extend(batch);
        if rng.random_bool(0.05) {
            log.sync().unwrap();
            drop(log);
            damage(&scanner_view(storage), &mut rng);
            log = open(storage.clone());
            scanner = Scanner::new(storage.clone(), BOUNDS);
        }
        let view = log.view();
        assert_eq!((view.records(), view.bytes()), (log.records(), log.bytes()));
        assert_eq!(view.greatest(), model.last().copied().map(id));
        if rng.random_bool(0.2) {
            readers.push(random_query(&mut rng, end));
        }
        for reader in &mut readers {
            reader.from = check(&mut scanner, &view, &model, reader);
        }
        readers.retain(|reader| reader.from < reader.until);
        readers.truncate(4);
    }
    let view = log.view();
    assert_eq!(entries(&view), model.iter().filter(|n| *n % 3 > 0).count() as u64);
    let names: BTreeSet<SourceName> = model.iter().filter_map(|n| source(*n)).collect();
    let (told, more) = view.sources(None, 100);
    assert_eq!((told.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>(), more), (names, false));
    damage(&view, &mut rng);
    for mut query in [all(300), all(0), random_query(&mut rng, end), random_query(&mut rng, end)] {
        while query.from < query.until {
            query.from = check(&mut scanner, &view, &model, &query);
        }
    }
}

fn scanner_view<S: Storage + Clone>(storage: &S) -> View {
    open(storage.clone()).view()
}

#[test]
fn pages_are_what_the_model_says() {
    for seed in 0..200 {
        let disk = SimDisk::default();
        history(&disk, seed, |view, rng| damage(&disk, view, rng));
    }
}

#[test]
fn a_real_disk_reads_the_same() {
    for seed in 0..6 {
        let dir = tempfile::tempdir().unwrap();
        history(&Disk::open(dir.path()).unwrap(), seed, |_, _| {});
    }
}

#[test]
fn a_sequential_reader_parses_each_block_about_once() {
    let disk = SimDisk::default();
    let mut log = open(disk.clone());
    for n in 0..400 {
        append(&mut log, n * 5..n * 5 + 5);
    }
    let view = log.view();
    let mut scanner = Scanner::new(disk.clone(), ScanBounds::default());
    let before = disk.bytes_read();
    assert_eq!(read(&mut scanner, &view, all(700)).0, (0..2000).collect::<Vec<_>>());
    assert_eq!(disk.bytes_read() - before, view.bytes());
    // Three readers that take turns.
    let before = disk.bytes_read();
    let mut readers = [all(700), all(300), Query { client: Some(ClientId(1)), ..all(500) }];
    while readers.iter().any(|reader| reader.from < reader.until) {
        for reader in readers.iter_mut().filter(|reader| reader.from < reader.until) {
            reader.from = scanner.page(&view, reader).unwrap().next;
        }
    }
    assert_eq!(disk.bytes_read() - before, 3 * view.bytes());
}

#[test]
fn a_reader_that_follows_reads_only_what_is_new() {
    let disk = SimDisk::default();
    let mut log = Log::open(disk.clone(), SETTINGS).unwrap().0;
    let mut scanner = Scanner::new(disk.clone(), ScanBounds::default());
    let (before, mut from, mut found) = (disk.bytes_read(), RecordId::ZERO, Vec::new());
    for n in 0..300 {
        append(&mut log, [n]);
        let page = scanner.page(&log.view(), &Query { from, until: id(n).next(), ..all(10_000) }).unwrap();
        found.extend(numbers(&page));
        from = page.next;
    }
    assert_eq!(found, (0..300).collect::<Vec<_>>());
    assert_eq!(disk.bytes_read() - before, log.bytes());
}

#[test]
fn memory_is_flat_in_any_disorder() {
    let disk = SimDisk::default();
    let mut log = open(disk.clone());
    for n in 0..400 {
        append(&mut log, (0..5).map(|k| (n * 5 + k) * 977 % 2003));
    }
    let mut expected: Vec<u64> = (0..2000).map(|n| n * 977 % 2003).collect();
    expected.sort_unstable();
    let view = log.view();
    let bounds =
        ScanBounds { window_bytes: 20_000, read_bytes: 10_000, cursors_bytes: 40_000, ..ScanBounds::default() };
    let mut scanner = Scanner::new(disk, bounds);
    let (mut query, mut found) = (all(1000), Vec::new());
    while query.from < query.until {
        let page = scanner.page(&view, &query).unwrap();
        found.extend(numbers(&page));
        query.from = page.next;
        assert!(scanner.held() <= 40_000 + 600 * 64, "{}", scanner.held());
    }
    assert_eq!(found, expected);
}

#[test]
fn a_page_of_which_little_matches_ends_soon() {
    let disk = SimDisk::default();
    let mut log = open(disk.clone());
    for n in 0..400 {
        append(&mut log, n * 5..n * 5 + 5);
    }
    let view = log.view();
    let mut scanner = Scanner::new(disk.clone(), BOUNDS);
    let mut query = Query { client: Some(ClientId(9)), ..all(1000) };
    let mut pages = 0;
    while query.from < query.until {
        let before = disk.bytes_read();
        query.from = scanner.page(&view, &query).unwrap().next;
        pages += 1;
        assert!(disk.bytes_read() - before < BOUNDS.read_bytes + SIZES.full);
    }
    assert!(pages > 50, "{pages}");
}

#[test]
fn rotten_lines_are_passed_over_and_counted() {
    let disk = SimDisk::default();
    let mut log = open(disk.clone());
    (0..20).for_each(|n| append(&mut log, n * 10..n * 10 + 10));
    let file = log.sealed()[1].segment.file.clone();
    let first = number(decode(disk.contents(&file).split(|b| *b == b'\n').next().unwrap()).unwrap().id);
    disk.flip(&file, 8 * 30);
    let (found, rotten) = read(&mut Scanner::new(disk, BOUNDS), &log.view(), all(2000));
    assert_eq!((found, rotten), ((0..200).filter(|n| *n != first).collect(), 1));
}

#[test]
fn rot_that_a_start_finds_is_met_wherever_it_is() {
    for seed in 0..300 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let disk = SimDisk::default();
        let mut log = open(disk.clone());
        (0..12).for_each(|n| append(&mut log, n * 10..n * 10 + 10));
        log.sync().unwrap();
        let sealed = log.sealed()[0].segment.file.clone();
        let is_sealed = rng.random_bool(0.5);
        let file = if is_sealed { &*sealed } else { CURRENT };
        let text = disk.contents(file);
        let lines: Vec<&[u8]> = text.split_inclusive(|b| *b == b'\n').collect();
        // What follows the last good record of data.txt was never kept.
        let most = if is_sealed { lines.len() } else { lines.len() - 1 };
        let first = rng.random_range(0..most);
        let end = rng.random_range(first..most) + 1;
        if end - first == lines.len() {
            continue;
        }
        let mut lost = BTreeSet::new();
        for k in first..end {
            lost.insert(number(decode(lines[k].strip_suffix(b"\n").unwrap()).unwrap().id));
            let before: usize = lines[..k].iter().map(|line| line.len()).sum();
            disk.flip(file, 8 * (before + 25));
        }
        disk.remove(&sidecar_name(&sealed)).unwrap();
        drop(log);
        let log = open(disk.clone());
        let (found, rotten) = read(&mut Scanner::new(disk, BOUNDS), &log.view(), all(2000));
        assert_eq!(found, (0..120).filter(|n| !lost.contains(n)).collect::<Vec<_>>(), "{seed}");
        assert!(rotten > 0, "{seed}: lines {first} to {end} of {} in {file}", lines.len());
    }
}

#[test]
fn a_snapshot_outlives_sealing_and_knows_nothing_later() {
    let disk = SimDisk::default();
    let mut log = open(disk.clone());
    append(&mut log, 0..10);
    let view = log.view();
    (1..20).for_each(|n| append(&mut log, n * 10..n * 10 + 10));
    assert!(log.sealed().len() > 1 && view.sealed().is_empty());
    let mut scanner = Scanner::new(disk, BOUNDS);
    assert_eq!(read(&mut scanner, &view, all(200)).0, (0..10).collect::<Vec<_>>());
    assert_eq!(read(&mut scanner, &log.view(), all(200)).0, (0..200).collect::<Vec<_>>());
}

#[test]
fn a_removed_file_is_told_apart() {
    let disk = SimDisk::default();
    let mut log = open(disk.clone());
    (0..20).for_each(|n| append(&mut log, n * 10..n * 10 + 10));
    let file = log.sealed()[0].segment.file.clone();
    disk.rename(&file, "elsewhere").unwrap();
    let mut scanner = Scanner::new(disk.clone(), BOUNDS);
    let gone = || Err(ScanError::Gone { file: file.clone() });
    assert_eq!(scanner.page(&log.view(), &all(200)), gone());
    disk.rename(&sidecar_name(&file), "elsewhere too").unwrap();
    assert_eq!(Scanner::new(disk.clone(), BOUNDS).page(&log.view(), &all(200)), gone());
    let later = Query { from: log.sealed()[0].segment.greatest.next(), ..all(200) };
    assert!(scanner.page(&log.view(), &later).is_ok());
}

/// Names in a folder of files that this process has open, removed ones included.
fn open_files(dir: &Path) -> Vec<String> {
    let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let targets = links.filter_map(|link| std::fs::read_link(link.path()).ok());
    targets.filter_map(|target| Some(target.strip_prefix(dir).ok()?.to_str()?.to_owned())).collect()
}

#[test]
fn a_file_that_the_log_gave_up_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(Disk::open(dir.path()).unwrap());
    (0..20).for_each(|n| append(&mut log, n * 10..n * 10 + 10));
    let mut scanner = Scanner::new(Disk::open(dir.path()).unwrap(), BOUNDS);
    let before = open_files(dir.path()).len();
    read(&mut scanner, &log.view(), all(200));
    let held = open_files(dir.path()).len() - before;
    assert!((1..=limits::SCAN_FILES_MAX).contains(&held), "{held}");
    assert_eq!(scanner.patience(), limits::SCAN_FILES_TIME);
    scanner.rest();
    assert_eq!((open_files(dir.path()).len(), scanner.patience()), (before, limits::SCAN_IDLE_TIME));
    read(&mut scanner, &log.view(), all(200));
    log.sealed().iter().for_each(|file| std::fs::remove_file(dir.path().join(&file.segment.file)).unwrap());
    let without = View::new(Arc::default(), log.view().current().cloned());
    read(&mut scanner, &without, all(200));
    assert_eq!(open_files(dir.path()).iter().filter(|name| name.ends_with("(deleted)")).count(), 0);
}

/// More names than a table holds: a file is read for each, and nothing is passed over.
#[test]
fn a_hundred_thousand_names_are_read_and_right() {
    let disk = SimDisk::default();
    let settings = Settings { segment_bytes: 2 << 20, sync: SyncPolicy::Always };
    let mut log = Log::open(disk.clone(), settings).unwrap().0;
    for batch in 0..100_u64 {
        let mut lines = Vec::new();
        for n in batch * 1000..batch * 1000 + 1000 {
            let place = Some(Place { number: 0, entry: n as u32 });
            let source = format!("d{n}").parse().ok();
            encode(&mut lines, Fields { id: id(n), client: client(n), seq: n, place, source }, b"x").unwrap();
        }
        log.append(&mut lines.clone(), &Summary::of(&lines)).unwrap();
    }
    log.sync().unwrap();
    let of = |log: &Log<SimDisk>, name: &str| {
        let query = Query { sources: name.parse().unwrap(), ..all(1000) };
        read(&mut Scanner::new(disk.clone(), ScanBounds::default()), &log.view(), query).0
    };
    assert!(log.sealed().len() > 1, "{}", log.sealed().len());
    let (told, more) = log.view().sources(None, usize::MAX);
    assert!(more && told.len() >= limits::FILE_SOURCES_MAX && told.len() < 100_000, "{}", told.len());
    for n in [0, 16_383, 16_384, 16_385, 99_999] {
        assert_eq!(of(&log, &format!("d{n}")), [n]);
    }
    assert_eq!(of(&log, "nobody"), [0; 0]);
    drop(log);
    let (log, report) = Log::open(disk.clone(), settings).unwrap();
    assert!(report.rescanned.is_empty());
    assert_eq!(
        (of(&log, "d99999"), of(&log, "d20000"), log.view().sources(None, 9).1),
        (vec![99_999], vec![20_000], true)
    );
}

/// A source that was silent for long: nothing of the files is read that came since.
#[test]
fn no_file_is_touched_that_has_none_of_a_source() {
    let disk = SimDisk::default();
    let mut log = open(disk.clone());
    for n in 0..400 {
        append(&mut log, n * 5..n * 5 + 5);
    }
    let view = log.view();
    let mut scanner = Scanner::new(disk.clone(), BOUNDS);
    let before = disk.bytes_read();
    let query = |names: &str| Query { sources: names.parse().unwrap(), ..all(100_000) };
    assert_eq!(read(&mut scanner, &view, query("nobody")).0, [0; 0]);
    assert_eq!(disk.bytes_read(), before, "not a byte");
    let expected: Vec<u64> = (0..2000).filter(|n| source(*n).is_some_and(|name| name.as_str() == "rare")).collect();
    assert_eq!(read(&mut scanner, &view, query("rare")).0, expected);
    assert!(disk.bytes_read() - before < view.bytes() / 5, "{} of {}", disk.bytes_read() - before, view.bytes());
}

#[test]
fn what_retention_let_go_is_told_no_more() {
    let disk = SimDisk::default();
    let mut log = open(disk.clone());
    for n in 0..100 {
        append(&mut log, n * 5..n * 5 + 5);
    }
    let told = |log: &Log<SimDisk>| log.view().sources(None, 100).0;
    let before = told(&log);
    let gone: Vec<_> = log.sealed().iter().take(3).cloned().collect();
    log.remove(gone).unwrap();
    let after = told(&log);
    drop(log);
    let again = told(&open(disk.clone()));
    let records = |all: &[(SourceName, super::sources::Heard)]| all.iter().map(|(_, heard)| heard.records).sum::<u64>();
    assert!(records(&after) < records(&before));
    assert_eq!(records(&after), records(&again));
    for ((name, heard), (other, fresh)) in after.iter().zip(&again) {
        assert_eq!((name, heard.records, heard.last), (other, fresh.records, fresh.last));
        assert!(heard.first <= fresh.first, "{name}: never later than it was");
    }
}

#[test]
fn sidecars_are_made_again() {
    let disk = SimDisk::default();
    let mut log = open(disk.clone());
    (0..20).for_each(|n| append(&mut log, n * 10..n * 10 + 10));
    log.sync().unwrap();
    let files: Vec<_> = log.sealed().iter().map(|file| file.segment.clone()).collect();
    let sidecar = |n: usize| sidecar_name(&files[n].file);
    let before: Vec<_> = (0..files.len()).map(|n| disk.contents(&sidecar(n))).collect();
    let (list, had) = (disk.contents(INDEX), entries(&log.view()));
    assert_eq!(had, 133);
    drop(log);
    assert!(Log::open(disk.clone(), SETTINGS).unwrap().1.rescanned.is_empty());
    disk.rename(&sidecar(0), "lost").unwrap();
    disk.flip(&sidecar(1), 8 * 40);
    disk.write_small(&sidecar(2), &before[1]).unwrap();
    // Whole, but of another length of the file.
    assert!(sidecar::read(&disk, &files[2].file, files[2].bytes).is_none());
    let (log, report) = Log::open_with_blocks(disk.clone(), SETTINGS, SIZES).unwrap();
    assert_eq!(report.rescanned, [0, 1, 2].map(|n| files[n].file.clone()));
    assert_eq!((disk.contents(INDEX), entries(&log.view())), (list, had));
    for (n, text) in before.iter().enumerate() {
        // A batch was cut as a whole, a line alone is cut as it stands: the blocks may differ, not what they hold.
        let (old, new) = (sidecar::FileIndex::parse(text), sidecar::FileIndex::parse(&disk.contents(&sidecar(n))));
        let (old, new) = (old.unwrap(), new.unwrap());
        assert_eq!((old.bytes, old.records(), old.ledgers), (new.bytes, new.records(), new.ledgers));
    }
    assert!(Log::open(disk, SETTINGS).unwrap().1.rescanned.is_empty());
}

#[test]
fn a_full_disk_leaves_sidecars_out() {
    let disk = SimDisk::default();
    let mut log = open(disk.clone());
    append(&mut log, 0..80);
    disk.faults(|faults| faults.capacity = Some(log.bytes() + 400));
    append(&mut log, 80..81);
    let file = log.sealed()[0].segment.file.clone();
    assert!(disk.contents(&sidecar_name(&file)).is_empty() && log.stopped().is_none());
    let expected: Vec<u64> = (0..81).collect();
    assert_eq!(read(&mut Scanner::new(disk.clone(), BOUNDS), &log.view(), all(300)).0, expected);
    log.sync().unwrap();
    let (_, report) = Log::open_with_blocks(disk.clone(), SETTINGS, SIZES).unwrap();
    assert_eq!((report.rescanned, report.unwritten), (vec![file.clone()], vec![sidecar_name(&file)]));
    disk.faults(|faults| faults.capacity = None);
    assert!(Log::open(disk.clone(), SETTINGS).unwrap().1.unwritten.is_empty());
    assert!(!disk.contents(&sidecar_name(&file)).is_empty());
}
