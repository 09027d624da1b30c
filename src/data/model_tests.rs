//! The log against a model on the simulated disk: random appends, syncs, seals, kills and power cuts by the thousand.
//!
//! The checker asks of every reopened log: what was synced is there, whole and in order; nothing is there that was not
//! appended; no batch is split; the totals are right; and the log goes on. Planted faults show that it can fail.

use super::current::LogError;
use super::index::Summary;
use super::log::{Log, Settings, SyncPolicy};
use super::query::Query;
use super::record::{Fields, decode, encode};
use super::scan::{Absent, ScanBounds, Scanner};
use super::segments::{CURRENT, INDEX, sealed_id};
use super::simulated::{Lie, SimDisk};
use super::storage::{LogFile, Storage};
use crate::limits::DISK_RESUME_BYTES_MIN;
use crate::wire::filter::SourceFilter;
use crate::wire::id::{ClientId, RecordId};
use crate::wire::ledger::{Incarnation, LedgerId, Place};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

const SETTINGS: Settings = Settings { segment_bytes: 1500, sync: SyncPolicy::Always };

fn id(n: u64) -> RecordId {
    RecordId { time_ns: 1_000_000_000_000 + n, incarnation: 3 }
}

fn batch(first: u64, count: u64) -> Vec<u8> {
    let mut lines = Vec::new();
    for n in first..first + count {
        let place = (n % 4 > 0).then_some(Place { number: 1, entry: n as u32 });
        let fields = Fields { id: id(n), client: ClientId(first), seq: n, place, source: None };
        encode(&mut lines, fields, format!("mensaje: {n} ñ\n").as_bytes()).unwrap();
    }
    lines
}

fn append(log: &mut Log<SimDisk>, first: u64, count: u64) -> Result<(), LogError> {
    let lines = batch(first, count);
    log.append(&mut lines.clone(), &Summary::of(&lines))
}

fn open(disk: &SimDisk) -> Log<SimDisk> {
    Log::open(disk.clone(), SETTINGS).unwrap().0
}

/// The numbers of all good records, file by file; batches (told by their client) that lie in two files are an error.
fn stored(disk: &SimDisk) -> Result<Vec<u64>, String> {
    let mut files: Vec<_> =
        disk.list().unwrap().into_iter().filter_map(|name| Some((sealed_id(&name)?, name))).collect();
    files.sort();
    let names = files.into_iter().map(|(_, name)| name).chain([CURRENT.to_owned()]);
    let (mut all, mut before) = (Vec::new(), None);
    for name in names {
        let bytes = disk.contents(&name);
        let lines: Vec<_> =
            bytes.split_inclusive(|b| *b == b'\n').filter_map(|line| line.strip_suffix(b"\n")).collect();
        let lines: Vec<_> = lines.into_iter().filter_map(|line| decode(line).ok()).collect();
        if let (Some(first), Some(last)) = (lines.first(), before)
            && first.client == last
        {
            return Err(format!("batch {last} is split"));
        }
        before = lines.last().map(|line| line.client).or(before);
        for line in lines {
            let n = line.id.time_ns - id(0).time_ns;
            if line.payload().as_ref() != format!("mensaje: {n} ñ\n").as_bytes() || line.seq != n {
                return Err(format!("record {n} is not what was appended"));
            }
            all.push(n);
        }
    }
    Ok(all)
}

/// What the program was told.
#[derive(Default)]
struct Model {
    next: u64,
    appended: Vec<u64>,
    synced: Vec<u64>,
}

impl Model {
    fn check(&mut self, disk: &SimDisk, log: &Log<SimDisk>) -> Result<(), String> {
        let found = stored(disk)?;
        if !found.is_sorted_by(|a, b| a < b) {
            return Err("out of order, or twice".to_owned());
        }
        if let Some(lost) = self.synced.iter().find(|n| found.binary_search(n).is_err()) {
            return Err(format!("record {lost} was synced and is gone"));
        }
        if let Some(new) = found.iter().find(|n| self.appended.binary_search(n).is_err()) {
            return Err(format!("record {new} was never appended"));
        }
        if log.records() != found.len() as u64 {
            return Err(format!("the log counts {} records and there are {}", log.records(), found.len()));
        }
        let query = Query {
            from: RecordId::ZERO,
            until: RecordId::MAX,
            client: None,
            sources: SourceFilter::default(),
            bytes_max: usize::MAX,
        };
        let page = Scanner::new(disk.clone(), ScanBounds::default()).page(&log.view(), &query);
        let page = page.map_err(|error| error.to_string())?;
        let lines =
            page.lines.split_inclusive(|b| *b == b'\n').filter_map(|line| decode(line.strip_suffix(b"\n")?).ok());
        if !lines.map(|line| line.id.time_ns - id(0).time_ns).eq(found.iter().copied()) {
            return Err(format!("a reader gets {} records and there are {}", page.records, found.len()));
        }
        // What is found after opening is on the disk for good.
        self.synced.clone_from(&found);
        self.appended = found;
        Ok(())
    }

    /// One life of a log: appends, syncs, sometimes faults, then a kill or a power cut.
    fn live(&mut self, disk: &SimDisk, mut log: Log<SimDisk>, rng: &mut SmallRng) {
        if rng.random_bool(0.3) {
            let call = Some(rng.random_range(0..40));
            match rng.random_range(0..5) {
                0 => disk.faults(|faults| faults.fail_write = call),
                1 => disk.faults(|faults| faults.fail_sync = call),
                2 => disk.faults(|faults| faults.fail_sync_dir = call),
                3 => disk.faults(|faults| faults.die = call),
                _ => disk.faults(|faults| faults.capacity = Some(rng.random_range(0..9000))),
            }
        }
        for _ in 0..rng.random_range(0..30) {
            let count = rng.random_range(1..6);
            // An id is used once, kept or not.
            let first = self.next;
            self.next += count;
            let done = append(&mut log, first, count);
            if !matches!(done, Err(LogError::Full { .. })) {
                self.appended.extend(first..first + count);
            }
            if rng.random_bool(0.6) && log.sync().is_ok() {
                self.synced.clone_from(&self.appended);
            }
        }
    }
}

/// A whole history; the error says in which life what went wrong.
fn history(seed: u64, lie: Option<Lie>) -> Result<(), String> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let disk = SimDisk::default();
    disk.faults(|faults| faults.lie = lie);
    let mut model = Model::default();
    for life in 0..rng.random_range(2..6) {
        // Opening may be cut short too.
        if rng.random_bool(0.3) {
            disk.faults(|faults| faults.die = Some(rng.random_range(0..8)));
            drop(Log::open(disk.clone(), SETTINGS));
            disk.crash(rng.random());
        }
        let (log, _) = Log::open(disk.clone(), SETTINGS).map_err(|error| format!("life {life}: {error}"))?;
        model.check(&disk, &log).map_err(|error| format!("life {life}: {error}"))?;
        model.live(&disk, log, &mut rng);
        if rng.random_bool(0.8) {
            disk.crash(rng.random());
        } else {
            // A kill: the system lives on.
            disk.faults(|faults| *faults = super::simulated::Faults { lie, ..Default::default() });
        }
    }
    Ok(())
}

#[test]
fn what_was_synced_survives_every_history() {
    for seed in 0..3000 {
        if let Err(error) = history(seed, None) {
            panic!("seed {seed}: {error}");
        }
    }
}

#[test]
fn the_checker_sees_each_planted_fault() {
    for lie in [Lie::Sync, Lie::SyncDir, Lie::Truncate] {
        let caught = (0..200).filter(|seed| history(*seed, Some(lie)).is_err()).count();
        assert!(caught >= 20, "{lie:?} was seen in {caught} of 200 histories");
    }
}

#[test]
fn sealing_survives_a_crash_after_each_of_its_calls() {
    for call in 0..12 {
        for seed in 0..40 {
            let disk = SimDisk::default();
            let mut log = open(&disk);
            let mut n = 0;
            while log.bytes() < SETTINGS.segment_bytes {
                append(&mut log, n, 3).unwrap();
                n += 3;
            }
            log.sync().unwrap();
            disk.faults(|faults| faults.die = Some(call));
            let done = append(&mut log, n, 3).and_then(|()| log.sync());
            disk.crash(seed);
            let (log, _) = Log::open(disk.clone(), SETTINGS).unwrap();
            let found = stored(&disk).unwrap();
            let kept = if done.is_ok() { n + 3 } else { n };
            assert!(found.len() as u64 >= kept, "call {call} seed {seed}: {} of {kept}", found.len());
            assert_eq!(log.records(), found.len() as u64);
        }
    }
}

#[test]
fn a_failed_sync_is_the_last_thing_a_log_does() {
    let disk = SimDisk::default();
    let mut log = open(&disk);
    append(&mut log, 0, 1).unwrap();
    disk.faults(|faults| faults.fail_sync = Some(0));
    let first = log.sync().unwrap_err();
    assert!(matches!(first, LogError::Poisoned { what: "sync", .. }), "{first}");
    let syncs = disk.syncs();
    assert_eq!(log.sync().unwrap_err(), first);
    assert_eq!(append(&mut log, 1, 1).unwrap_err(), first);
    assert_eq!(log.look(true).unwrap_err(), first);
    assert_eq!(disk.syncs(), syncs, "it was tried again");
}

#[test]
fn a_failed_write_poisons_and_its_half_is_cut() {
    let disk = SimDisk::default();
    let mut log = open(&disk);
    append(&mut log, 0, 1).unwrap();
    log.sync().unwrap();
    disk.faults(|faults| faults.fail_write = Some(0));
    let first = append(&mut log, 1, 1).unwrap_err();
    assert_eq!(log.sync().unwrap_err(), first);
    let (log, report) = Log::open(disk.clone(), SETTINGS).unwrap();
    let kept = report.torn.unwrap().kept.unwrap();
    assert_eq!(disk.contents(&kept), &batch(1, 1)[..batch(1, 1).len() / 2]);
    assert_eq!(log.records(), 1);
}

#[test]
fn a_full_disk_only_waits() {
    let disk = SimDisk::default();
    let mut log = open(&disk);
    append(&mut log, 0, 3).unwrap();
    disk.faults(|faults| faults.capacity = Some(log.bytes() + 10));
    assert!(matches!(append(&mut log, 3, 3), Err(LogError::Full { .. })));
    assert_eq!(disk.contents(CURRENT), batch(0, 3));
    log.sync().unwrap();
    assert!(!log.look(true).unwrap());
    disk.faults(|faults| faults.capacity = Some(log.bytes() + DISK_RESUME_BYTES_MIN));
    assert!(log.look(true).unwrap());
    append(&mut log, 6, 3).unwrap();
    assert_eq!(stored(&disk).unwrap(), [0, 1, 2, 6, 7, 8]);
}

#[test]
fn a_log_goes_on_when_the_disk_filled_up_while_sealing() {
    let disk = SimDisk::default();
    let mut log = open(&disk);
    append(&mut log, 0, 40).unwrap();
    disk.faults(|faults| faults.capacity = Some(log.bytes()));
    assert!(matches!(append(&mut log, 40, 1), Err(LogError::Full { .. })));
    log.sync().unwrap();
    disk.faults(|faults| faults.capacity = None);
    assert!(log.look(true).unwrap());
    append(&mut log, 41, 1).unwrap();
    assert_eq!(log.records(), 41);
    // The line that segments.txt lacks is made again.
    let (_, report) = Log::open(disk.clone(), SETTINGS).unwrap();
    assert_eq!((report.rescanned.len(), report.records), (1, 41));
    assert_eq!(Log::open(disk, SETTINGS).unwrap().1.rescanned.len(), 0);
}

#[test]
fn rot_is_told_at_each_start_and_never_cut() {
    let disk = SimDisk::default();
    let mut log = open(&disk);
    append(&mut log, 0, 5).unwrap();
    log.sync().unwrap();
    let line = batch(0, 1).len();
    disk.flip(CURRENT, (line + 50) * 8);
    for _ in 0..2 {
        let (log, report) = Log::open(disk.clone(), SETTINGS).unwrap();
        let found = &report.rot[0];
        assert_eq!((log.records(), found.lines, found.first.place.offset, report.torn), (4, 1, line as u64, None));
    }
    assert_eq!(disk.contents(CURRENT).len(), batch(0, 5).len());
}

#[test]
fn a_garbled_list_of_segments_is_made_again() {
    let disk = SimDisk::default();
    let mut log = open(&disk);
    for n in 0..6 {
        append(&mut log, n * 40, 40).unwrap();
    }
    log.sync().unwrap();
    let before = disk.contents(INDEX);
    assert_eq!(log.sealed().len(), 5);
    drop(log);
    disk.flip(INDEX, 8 * 30);
    let (_, report) = Log::open(disk.clone(), SETTINGS).unwrap();
    assert_eq!((report.rescanned.len(), report.records), (1, 240));
    let (first, rest) = before.split_at(before.iter().position(|b| *b == b'\n').unwrap() + 1);
    let made = [rest, first].concat();
    assert_eq!(disk.contents(INDEX), made, "what it does not list may be the newest");
    disk.open_append(INDEX).unwrap().truncate(before.len() as u64 - 3).unwrap();
    assert_eq!(Log::open(disk.clone(), SETTINGS).unwrap().1.rescanned.len(), 1);
    assert_eq!(disk.contents(INDEX), made);
}

#[test]
fn files_stay_in_the_order_in_which_they_were_sealed() {
    let disk = SimDisk::default();
    let mut log = open(&disk);
    for n in [5, 0, 7, 3] {
        append(&mut log, n * 40, 40).unwrap();
    }
    log.sync().unwrap();
    let names = |log: &Log<SimDisk>| log.sealed().iter().map(|file| file.segment.file.clone()).collect::<Vec<_>>();
    let before = names(&log);
    assert_eq!(before, [200, 0, 280].map(|n| format!("data-{}.txt", id(n))));
    drop(log);
    let log = open(&disk);
    assert_eq!(names(&log), before);
    assert!(log.view().sealed().iter().map(|file| file.serial).eq(0..3));
}

#[test]
fn two_files_with_the_same_first_record_get_two_names() {
    let disk = SimDisk::default();
    let mut log = open(&disk);
    for _ in 0..3 {
        append(&mut log, 0, 40).unwrap();
    }
    let names: Vec<_> = log.sealed().iter().map(|file| file.segment.file.clone()).collect();
    assert_eq!(names, [format!("data-{}.txt", id(0)), format!("data-{}.2.txt", id(0))]);
}

#[test]
fn a_batch_that_ends_no_line_is_refused() {
    let disk = SimDisk::default();
    let mut log = open(&disk);
    assert_eq!(log.append(&mut [], &Summary::default()), Err(LogError::NotLines));
    assert_eq!(log.append(&mut b"x".to_vec(), &Summary::of(b"x")), Err(LogError::NotLines));
    assert!(disk.contents(CURRENT).is_empty());
}

/// A folder under hands that write into `data.txt`, take files away and put them back, with what was acknowledged.
struct Handled {
    disk: SimDisk,
    log: Log<SimDisk>,
    kept: Vec<u64>,
    next: u64,
    /// Text that is no record, and has been written by somebody else.
    foreign: Vec<Vec<u8>>,
}

impl Handled {
    fn new() -> Self {
        let disk = SimDisk::default();
        let log = open(&disk);
        Self { disk, log, kept: Vec::new(), next: 0, foreign: Vec::new() }
    }

    fn append(&mut self, count: u64) -> Result<(), LogError> {
        let first = self.next;
        self.next += count;
        append(&mut self.log, first, count)?;
        self.log.sync()?;
        self.kept.extend(first..first + count);
        Ok(())
    }

    fn scribble(&mut self, text: &[u8]) {
        self.foreign.push(text.to_vec());
        self.disk.meddle(CURRENT, |bytes| bytes.extend_from_slice(text));
    }

    /// What a reader gets, once each.
    fn read(&self) -> Vec<u64> {
        let query = Query {
            from: RecordId::ZERO,
            until: RecordId::MAX,
            client: None,
            sources: SourceFilter::default(),
            bytes_max: usize::MAX,
        };
        let page = Scanner::new(self.disk.clone(), ScanBounds::default()).page(&self.log.view(), &query).unwrap();
        assert_eq!(page.lost, 0);
        let lines = page.lines.split_inclusive(|b| *b == b'\n');
        lines.filter_map(|line| Some(decode(line.strip_suffix(b"\n")?).ok()?.id.time_ns - id(0).time_ns)).collect()
    }

    fn check(&self) {
        let mut read = self.read();
        read.retain(|n| self.kept.contains(n));
        assert_eq!(read, self.kept);
    }

    fn reopen(&mut self) {
        self.log = open(&self.disk);
        self.check();
    }
}

const TEXTS: [&[u8]; 6] =
    [b"# a remark\n", b"\n", b"no end", b"uno\ndos\ntres\n", b"\n\n\nx", b"1795234260----0----6 x\n"];

#[test]
fn what_others_write_hides_no_record() {
    for seed in 0..400 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut handled = Handled::new();
        for _ in 0..rng.random_range(1..40) {
            match rng.random_range(0..10) {
                0..3 => handled.scribble(TEXTS[rng.random_range(0..TEXTS.len())]),
                3 => drop(handled.log.look(true).unwrap()),
                4 if rng.random_bool(0.3) => handled.reopen(),
                _ => handled.append(rng.random_range(1..6)).unwrap(),
            }
            handled.check();
        }
        handled.reopen();
        // All of it is removed again, wherever it is by now.
        for name in handled.disk.list().unwrap() {
            if name == CURRENT || sealed_id(&name).is_some() {
                handled.disk.meddle(&name, |bytes| {
                    let lines = bytes.split_inclusive(|b| *b == b'\n');
                    let good = |line: &&[u8]| line.strip_suffix(b"\n").is_some_and(|line| decode(line).is_ok());
                    *bytes = lines.filter(good).flatten().copied().collect();
                });
            }
        }
        let (log, report) =
            Log::open(handled.disk.clone(), SETTINGS).map_err(|error| format!("seed {seed}: {error}")).unwrap();
        assert_eq!(report.torn, None, "seed {seed}");
        handled.log = log;
        handled.check();
    }
}

#[test]
fn what_others_wrote_is_told_once() {
    let mut handled = Handled::new();
    handled.append(3).unwrap();
    assert_eq!(handled.log.take_foreign(), None);
    let len = batch(0, 3).len() as u64;
    handled.scribble(b"# a remark\n");
    assert!(handled.log.look(false).unwrap());
    let told = handled.log.take_foreign().unwrap();
    assert_eq!((told.bytes, told.offset), (11, len));
    assert!(handled.log.look(false).unwrap());
    assert_eq!(handled.log.take_foreign(), None);
    handled.append(1).unwrap();
    assert_eq!(handled.log.take_foreign(), None, "a record follows it");
    // Half a line, taken away again before anything follows.
    handled.scribble(b"half");
    assert!(handled.log.look(false).unwrap());
    assert_eq!(handled.log.take_foreign().unwrap().bytes, 4);
    handled.disk.meddle(CURRENT, |bytes| bytes.truncate(bytes.len() - 4));
    handled.append(1).unwrap();
    // The newline that was to end it is all that is left.
    assert_eq!(handled.read().len(), 5);
}

/// What appending is refused for; nothing of it is there afterwards.
fn altered(handled: &mut Handled) -> String {
    let before = handled.disk.contents(CURRENT);
    let Err(LogError::Altered(what)) = handled.append(2) else { panic!("it was taken") };
    assert_eq!(handled.disk.contents(CURRENT), before);
    what.to_string()
}

#[test]
fn a_file_that_is_taken_away_or_replaced_is_waited_for() {
    for replaced in [false, true] {
        let mut handled = Handled::new();
        handled.append(3).unwrap();
        let whole = handled.disk.contents(CURRENT);
        let taken = handled.disk.take_away(CURRENT).unwrap();
        if replaced {
            handled.disk.replace(CURRENT, &whole);
        }
        let said = altered(&mut handled);
        assert!(said.contains(if replaced { "another file lies at" } else { "data.txt is gone" }), "{said}");
        assert!(!handled.log.look(false).unwrap());
        handled.check();
        altered(&mut handled);
        handled.disk.put_back(CURRENT, taken);
        assert!(handled.log.look(false).unwrap());
        assert_eq!(handled.disk.contents(CURRENT), whole, "what was refused is not there");
        handled.append(2).unwrap();
        handled.check();
        handled.reopen();
    }
}

#[test]
fn a_file_that_was_cut_is_not_gone_on_with_and_not_hidden() {
    for cut in [0, 10, 100] {
        let mut handled = Handled::new();
        handled.append(5).unwrap();
        let whole = handled.disk.contents(CURRENT);
        handled.disk.meddle(CURRENT, |bytes| bytes.truncate(cut));
        let Err(LogError::Altered(said)) = handled.append(1) else { panic!("it was taken") };
        assert!(
            said.contains(&format!("was cut to {cut} bytes")) && said.contains(&format!("had {} bytes", whole.len())),
            "{said}"
        );
        assert_eq!(handled.disk.contents(CURRENT).len(), cut, "what was refused is not there");
        let query = Query {
            from: RecordId::ZERO,
            until: RecordId::MAX,
            client: None,
            sources: SourceFilter::default(),
            bytes_max: usize::MAX,
        };
        let page = Scanner::new(handled.disk.clone(), ScanBounds::default()).page(&handled.log.view(), &query).unwrap();
        assert!(page.rotten > 0 && page.lost > 0, "{page:?}");
        // What it was is not known to be what it is.
        handled.disk.meddle(CURRENT, |bytes| whole.clone_into(bytes));
        assert!(!handled.log.look(true).unwrap());
        handled.reopen();
    }
}

#[test]
fn a_seal_renames_no_other_file() {
    let mut handled = Handled::new();
    handled.append(40).unwrap();
    let taken = handled.disk.take_away(CURRENT).unwrap();
    handled.disk.replace(CURRENT, b"notes\n");
    altered(&mut handled);
    assert!(handled.log.sealed().is_empty());
    handled.disk.put_back(CURRENT, taken);
    assert!(handled.log.look(true).unwrap());
    handled.append(1).unwrap();
    assert_eq!(handled.log.sealed().len(), 1);
    handled.check();
}

#[test]
fn sealed_files_are_missed_and_welcome_back() {
    let mut handled = Handled::new();
    for _ in 0..4 {
        handled.append(40).unwrap();
    }
    let file = handled.log.sealed()[1].segment.file.clone();
    let whole = handled.disk.contents(&file);
    let query = Query {
        from: RecordId::ZERO,
        until: RecordId::MAX,
        client: None,
        sources: SourceFilter::default(),
        bytes_max: usize::MAX,
    };
    let taken = handled.disk.take_away(&file).unwrap();
    assert!(handled.log.look(false).unwrap() && !handled.log.look(true).unwrap());
    assert!(altered(&mut handled).contains(&format!("{file} is gone")));
    let mut scanner = Scanner::new(handled.disk.clone(), ScanBounds::default());
    assert!(scanner.page(&handled.log.view(), &query).is_err());
    let page = scanner.page_with(&handled.log.view(), &query, Absent::IsLost).unwrap();
    assert!(page.lost > 0 && page.records == 120, "{page:?}");
    handled.disk.put_back(&file, taken);
    assert!(handled.log.look(false).unwrap());
    handled.append(1).unwrap();
    // Its end is cut off, and a copy of the file put in its place.
    handled.disk.meddle(&file, |bytes| bytes.truncate(100));
    assert!(!handled.log.look(true).unwrap());
    handled.disk.replace(&file, &whole);
    assert!(handled.log.look(true).unwrap());
    handled.check();
    // Another file of its length, with records of its own.
    handled.disk.replace(&file, &handled.disk.contents(&handled.log.sealed()[2].segment.file)[..whole.len()]);
    let page = Scanner::new(handled.disk.clone(), ScanBounds::default()).page(&handled.log.view(), &query).unwrap();
    assert!(page.lost > 0 || page.rotten > 0, "{page:?}");
}

#[test]
fn an_end_that_a_sealed_file_lost_is_told_and_its_entries_lack() {
    let mut handled = Handled::new();
    for _ in 0..3 {
        handled.append(40).unwrap();
    }
    let file = handled.log.sealed()[0].segment.file.clone();
    let whole = handled.disk.contents(&file);
    handled.disk.meddle(&file, |bytes| bytes.truncate(200));
    let (log, report) = Log::open(handled.disk.clone(), SETTINGS).unwrap();
    assert!(
        matches!(&report.lost[..], [lost] if lost.starts_with(&format!("{file} has 200 bytes and had"))),
        "{report:?}"
    );
    let ledger = LedgerId { incarnation: Incarnation(id(0).incarnation), number: 1 };
    let entries = |log: &Log<SimDisk>| log.view().sealed()[0].ledgers.of(ledger).map_or(0, |entries| entries.count());
    assert_eq!(entries(&log), 2, "{:?}", log.view().sealed()[0]);
    handled.disk.replace(&file, &whole);
    handled.reopen();
    assert_eq!(entries(&handled.log), 30);
}

#[test]
fn a_list_of_segments_that_is_moved_is_made_again() {
    let mut handled = Handled::new();
    for _ in 0..3 {
        handled.append(40).unwrap();
    }
    handled.disk.take_away(INDEX).unwrap();
    handled.append(40).unwrap();
    let (listed, whole) = super::segments::parse_index(&handled.disk.contents(INDEX));
    assert_eq!((listed.len(), whole), (3, true));
}

#[test]
fn a_disk_without_inodes_is_told_from_one_without_space() {
    let mut handled = Handled::new();
    handled.append(40).unwrap();
    handled.disk.faults(|faults| faults.no_inodes = true);
    let error = handled.append(1).unwrap_err();
    assert!(matches!(error, LogError::Full { .. }) && error.to_string().contains("no inodes left"), "{error}");
    assert!(!handled.log.look(true).unwrap());
    handled.disk.faults(|faults| faults.no_inodes = false);
    assert!(handled.log.look(true).unwrap());
    handled.append(1).unwrap();
    handled.check();
}
