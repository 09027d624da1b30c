//! Retention on the simulated disk: crashes after each of its calls, full disks, and random histories.
//!
//! The checker asks of every folder that was cut short: no file that `segments.txt` lists is missing, every record that
//! was synced and not to go is there, and the log that is opened on it counts right and comes to the same end.

use super::current::LogError;
use super::index::Summary;
use super::log::{Log, Settings, SyncPolicy};
use super::record::{Fields, decode, encode};
use super::retention::{Policy, Retained, plan};
use super::segments::{INDEX, is_data, parse_index};
use super::sidecar::sidecar_name;
use super::simulated::{Lie, SimDisk};
use super::storage::Storage;
use crate::limits::DISK_RESUME_BYTES_MIN;
use crate::wire::id::{ClientId, RecordId};
use crate::wire::ledger::Place;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeSet;

const SETTINGS: Settings = Settings { segment_bytes: 1500, sync: SyncPolicy::Always };

fn append(log: &mut Log<SimDisk>, first: u64, count: u64) -> Result<(), LogError> {
    let mut lines = Vec::new();
    for n in first..first + count {
        let id = RecordId { time_ns: 1_000_000_000_000 + n, incarnation: 3 };
        let place = Some(Place { number: 0, entry: n as u32 });
        encode(&mut lines, Fields { id, client: ClientId(7), seq: n, place, source: None }, b"mensaje: hola").unwrap();
    }
    log.append(&mut lines.clone(), &Summary::of(&lines))
}

/// Lets go what is beyond so many bytes.
fn retain(log: &mut Log<SimDisk>, keep_bytes: u64) -> Result<Retained, LogError> {
    let old = plan(&log.view(), u64::MAX, &Policy { keep: None, keep_bytes: Some(keep_bytes) });
    log.remove(old)
}

fn open(disk: &SimDisk) -> Log<SimDisk> {
    Log::open(disk.clone(), SETTINGS).unwrap().0
}

/// A log of sealed files with everything synced, and how many records it has.
fn filled(disk: &SimDisk, files: usize) -> (Log<SimDisk>, u64) {
    let (mut log, mut n) = (open(disk), 0);
    while log.sealed().len() < files {
        append(&mut log, n, 5).unwrap();
        n += 5;
    }
    log.sync().unwrap();
    (log, n)
}

/// The numbers of all records, and that nothing listed is missing.
fn stored(disk: &SimDisk) -> Result<BTreeSet<u64>, String> {
    let names = disk.list().unwrap();
    if let Some(lost) =
        parse_index(&disk.contents(INDEX)).0.iter().map(|segment| &segment.file).find(|file| !names.contains(file))
    {
        return Err(format!("{lost} is listed and not there"));
    }
    let mut found = BTreeSet::new();
    for name in names.iter().filter(|name| is_data(name)) {
        let bytes = disk.contents(name);
        let lines = bytes.split(|b| *b == b'\n').filter_map(|line| decode(line).ok());
        found.extend(lines.map(|line| line.id.time_ns - 1_000_000_000_000));
    }
    Ok(found)
}

#[test]
fn the_oldest_files_go_with_their_indexes() {
    let disk = SimDisk::default();
    let (mut log, n) = filled(&disk, 6);
    let gone: Vec<_> = log.sealed()[..3].iter().map(|file| file.segment.clone()).collect();
    let kept = log.bytes() - gone.iter().map(|segment| segment.bytes).sum::<u64>();
    let before = log.view();
    let retained = retain(&mut log, kept).unwrap();
    assert_eq!((retained.removed, retained.failed), (gone.clone(), None));
    let records = gone.iter().map(|segment| segment.records).sum::<u64>();
    assert_eq!((log.bytes(), log.records()), (kept, n - records));
    assert_eq!(stored(&disk).unwrap(), (records..n).collect());
    for segment in &gone {
        assert!(!disk.list().unwrap().contains(&sidecar_name(&segment.file)));
    }
    assert_eq!((before.records(), log.view().records()), (n, n - records), "a view is what it was");
    assert!(retain(&mut log, kept).unwrap().removed.is_empty());
    // The log goes on: what is sealed next is listed.
    append(&mut log, n, 60).unwrap();
    append(&mut log, n + 60, 1).unwrap();
    log.sync().unwrap();
    let (log, report) = Log::open(disk.clone(), SETTINGS).unwrap();
    assert_eq!((log.records(), report.rescanned.len()), (n + 61 - records, 0));
    disk.crash(1);
    assert_eq!(stored(&disk).unwrap(), (records..n + 61).collect());
}

/// Cuts retention short after `call` calls; what was to go is records below `going`.
fn cut_short(call: u32, seed: u64, lie: Option<Lie>) -> Result<(), String> {
    let disk = SimDisk::default();
    let (mut log, n) = filled(&disk, 6);
    let records = |log: &Log<SimDisk>, files: usize| -> u64 {
        log.sealed().iter().take(files).map(|file| file.segment.records).sum()
    };
    let (going, keep) =
        (records(&log, 3), log.bytes() - log.sealed().iter().take(3).map(|f| f.segment.bytes).sum::<u64>());
    let bounds: Vec<u64> = (0..=3).map(|files| records(&log, files)).collect();
    disk.faults(|faults| (faults.die, faults.lie) = (Some(call), lie));
    let done = retain(&mut log, keep).is_ok_and(|retained| retained.failed.is_none());
    disk.crash(seed);
    disk.faults(|faults| faults.lie = None);
    let found = stored(&disk)?;
    if let Some(lost) = (going..n).find(|n| !found.contains(n)) {
        return Err(format!("record {lost} was to stay"));
    }
    for file in bounds.windows(2) {
        let left = (file[0]..file[1]).filter(|n| found.contains(n)).count() as u64;
        if left != 0 && left != file[1] - file[0] {
            return Err("a file went in parts".to_owned());
        }
        if done && left != 0 {
            return Err("a file that was removed came back".to_owned());
        }
    }
    let mut log = Log::open(disk.clone(), SETTINGS).map_err(|error| error.to_string())?.0;
    if log.records() != found.len() as u64 {
        return Err(format!("the log counts {} records and there are {}", log.records(), found.len()));
    }
    retain(&mut log, keep).map_err(|error| error.to_string())?;
    if stored(&disk)? != (going..n).collect() {
        return Err("the next time does not finish it".to_owned());
    }
    Ok(())
}

#[test]
fn retention_survives_a_crash_after_each_of_its_calls() {
    for call in 0..16 {
        for seed in 0..60 {
            cut_short(call, seed, None).unwrap_or_else(|error| panic!("call {call} seed {seed}: {error}"));
        }
    }
}

#[test]
fn the_checker_sees_a_removal_that_was_not_synced() {
    let caught = (0..100).filter(|seed| cut_short(99, *seed, Some(Lie::SyncDir)).is_err()).count();
    assert!(caught >= 50, "it was seen {caught} times of 100");
}

#[test]
fn a_full_disk_gets_room() {
    let disk = SimDisk::default();
    let (mut log, n) = filled(&disk, 4);
    let all: u64 = disk.list().unwrap().iter().map(|name| disk.contents(name).len() as u64).sum();
    disk.faults(|faults| faults.capacity = Some(all));
    assert!(matches!(append(&mut log, n, 5), Err(LogError::Full { .. })));
    let (rest, last) = (log.bytes(), log.sealed()[..3].iter().map(|file| file.segment.bytes).sum::<u64>());
    assert_eq!(retain(&mut log, rest - last).unwrap().removed.len(), 3);
    assert!(!disk.list().unwrap().contains(&INDEX.to_owned()), "a list that could not be written lists nothing");
    stored(&disk).unwrap();
    disk.faults(|faults| faults.capacity = Some(all + DISK_RESUME_BYTES_MIN));
    assert!(log.look(true).unwrap());
    append(&mut log, n, 5).unwrap();
    log.sync().unwrap();
    disk.crash(3);
    let found = stored(&disk).unwrap();
    assert_eq!((open(&disk).records(), found.last()), (found.len() as u64, Some(&(n + 4))));
}

#[test]
fn a_poisoned_log_removes_nothing() {
    let disk = SimDisk::default();
    let (mut log, n) = filled(&disk, 3);
    append(&mut log, n, 1).unwrap();
    disk.faults(|faults| faults.fail_sync = Some(0));
    log.sync().unwrap_err();
    let names = disk.list().unwrap().len();
    assert!(matches!(retain(&mut log, 0), Err(LogError::Poisoned { .. })));
    assert_eq!(disk.list().unwrap().len(), names);
}

/// Lives of appends, syncs and retention, each ended by a power cut; the last `keep` bytes are never touched.
fn history(seed: u64) -> Result<(), String> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let disk = SimDisk::default();
    let (mut next, mut appended, mut synced, mut going) = (0, BTreeSet::new(), BTreeSet::new(), 0);
    for life in 0..rng.random_range(2..6) {
        let mut log = Log::open(disk.clone(), SETTINGS).map_err(|error| format!("life {life}: {error}"))?.0;
        let found = stored(&disk).map_err(|error| format!("life {life}: {error}"))?;
        if let Some(lost) = synced.iter().find(|n| **n >= going && !found.contains(n)) {
            return Err(format!("life {life}: record {lost} was synced, is not old and is gone"));
        }
        if log.records() != found.len() as u64 {
            return Err(format!("life {life}: the log counts {} and there are {}", log.records(), found.len()));
        }
        if rng.random_bool(0.5) {
            disk.faults(|faults| faults.die = Some(rng.random_range(0..120)));
        }
        for _ in 0..rng.random_range(0..40) {
            let count = rng.random_range(1..9);
            if append(&mut log, next, count).is_ok() {
                appended.extend(next..next + count);
            }
            next += count;
            if log.sync().is_ok() {
                synced.append(&mut appended);
            }
            if rng.random_bool(0.2) {
                let keep = rng.random_range(0..9000);
                // From here on, these may be gone.
                let mut bytes = log.bytes();
                for file in log.sealed() {
                    if bytes > keep {
                        going = going.max(file.segment.greatest.time_ns + 1 - 1_000_000_000_000);
                        bytes -= file.segment.bytes;
                    }
                }
                drop(retain(&mut log, keep));
            }
        }
        disk.crash(rng.random());
        appended.clear();
    }
    Ok(())
}

#[test]
fn what_is_not_old_survives_every_history() {
    for seed in 0..800 {
        if let Err(error) = history(seed) {
            panic!("seed {seed}: {error}");
        }
    }
}
