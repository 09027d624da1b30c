//! `verify` over folders that a data node's log and state are made in here.

use super::*;
use crate::data::folder::Folder;
use crate::data::index::Summary;
use crate::data::log::{Settings, SyncPolicy};
use crate::data::node_state::STATE;
use crate::data::record::{Fields, encode};
use crate::data::start::{self, How};
use crate::wire::ledger;
use std::fs;

fn id(n: u64) -> RecordId {
    RecordId { time_ns: 1_795_234_260_000_000_000 + n, incarnation: 7 }
}

/// Record `n`, which is entry `n` of the only ledger.
fn line(n: u64, payload: &str) -> Vec<u8> {
    let place = Some(ledger::Place { number: 0, entry: n as u32 });
    let mut out = Vec::new();
    encode(&mut out, Fields { id: id(n), client: ClientId(1), seq: n, place, source: None }, payload.as_bytes())
        .unwrap();
    out
}

fn verify(dir: &Path, progress: &mut dyn FnMut(u64, u64)) -> Report {
    verify_each(dir, None, progress, &mut |_| Ok(())).unwrap().0
}

fn check(dir: &Path) -> Report {
    verify(dir, &mut |_, _| {})
}

fn kinds(report: &Report) -> Vec<(Kind, u64)> {
    report.problems.iter().map(|problem| (problem.kind, problem.line)).collect()
}

/// Opens a folder as a node does.
fn open(folder: &Folder, new_id: bool) -> start::Started<Disk> {
    let settings = Settings { segment_bytes: 100, sync: SyncPolicy::Always };
    start::open(folder.disk(), How { settings, boot: &start::boot_id(), new_id, random: 5, name: "data1" }).unwrap()
}

/// A folder with two sealed files and a `data.txt`, of 10 records each but the last, of 5, all of it written down.
fn folder(dir: &Path) -> Folder {
    let folder = Folder::open(dir, "uno").unwrap();
    let mut started = open(&folder, false);
    for (first, count) in [(0, 10), (10, 10), (20, 5)] {
        let lines: Vec<u8> = (first..first + count).flat_map(|n| line(n, "mensaje: hola")).collect();
        started.log.append(&mut lines.clone(), &Summary::of(&lines)).unwrap();
    }
    started.log.sync().unwrap();
    drop(started);
    drop(open(&folder, false));
    folder
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_whole_folder_is_clean_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    drop(folder(dir.path()));
    let mut told = Vec::new();
    let report = verify(dir.path(), &mut |done, total| told.push((done, total)));
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.files, report.records, report.running.as_deref()), (3, 25, None));
    assert_eq!((report.ledgers, report.lacking, report.parts, report.unplaced), (1, 0, 0, 0));
    assert_eq!(told.last(), Some(&(report.bytes, report.bytes)));
    assert_eq!(report.last_id, Some(id(24).to_string()));
    assert!(serde_json::to_string(&report).unwrap().contains("\"records\":25"));
}

#[test]
fn a_flipped_bit_is_found_where_it_is_and_what_lacks_by_it_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    drop(folder(dir.path()));
    let name = format!("data-{}.txt", id(10));
    let len = line(10, "mensaje: hola").len();
    flip(&dir.path().join(&name), len * 10 - 3);
    let report = check(dir.path());
    assert_eq!(kinds(&report), [(Kind::Lacking, 0), (Kind::Rot, 10)]);
    assert!(report.problems[0].reason.starts_with("1 entries of ledger ----6.-, from 19 to 19, "), "{report:?}");
    let problem = &report.problems[1];
    assert_eq!((&problem.file, problem.offset), (&name, 9 * len as u64));
    assert_eq!((report.records, report.lacking, report.rotten), (24, 1, 1));
}

#[test]
fn rot_is_no_fault_where_nothing_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let node = folder(dir.path());
    flip(&dir.path().join(format!("data-{}.txt", id(10))), 45);
    assert_eq!((check(dir.path()).rotten, check(dir.path()).mended), (1, 0));
    let mut started = open(&node, false);
    let again = line(10, "mensaje: hola");
    started.log.append(&mut again.clone(), &Summary::of(&again)).unwrap();
    drop(started);
    drop(node);
    let report = check(dir.path());
    assert!(report.is_clean() && (report.rotten, report.mended) == (0, 1), "{report:?}");
}

#[test]
fn a_tail_is_torn_unless_a_node_is_writing_it() {
    let dir = tempfile::tempdir().unwrap();
    let node = folder(dir.path());
    let path = dir.path().join(CURRENT);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [&whole[..], &whole[..20]].concat()).unwrap();
    let report = check(dir.path());
    assert!(report.is_clean() && report.growing_bytes == 20, "{report:?}");
    assert!(report.running.unwrap().ends_with("name uno"));
    drop(node);
    assert_eq!(kinds(&check(dir.path())), [(Kind::Torn, 6)]);
}

#[test]
fn a_sidecar_that_leaves_records_out_is_told_and_a_garbled_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let folder = folder(dir.path());
    let name = format!("data-{}.txt", id(0));
    let path = dir.path().join(sidecar::sidecar_name(&name));
    let len = fs::metadata(dir.path().join(&name)).unwrap().len();
    let whole = sidecar::read(folder.disk(), &name, len).unwrap();
    drop(folder);
    let mut narrow = whole.clone();
    narrow.blocks[0].greatest = id(7);
    let mut fewer = Ledgers::default();
    let (of, entries) = whole.ledgers.iter().next().unwrap();
    fewer.add(of, 0..entries.end() - 2);
    let less = FileIndex { ledgers: fewer.into(), ..whole.clone() };
    for index in [narrow, less] {
        fs::write(&path, index.to_text().unwrap()).unwrap();
        assert_eq!(kinds(&check(dir.path())), [(Kind::Index, 9), (Kind::Index, 10)]);
    }
    for text in ["acopio-index 1", &whole.to_text().unwrap()[1..]] {
        fs::write(&path, text).unwrap();
        assert!(check(dir.path()).is_clean());
    }
    fs::remove_file(&path).unwrap();
    assert!(check(dir.path()).is_clean());
}

#[test]
fn what_is_out_of_place_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = [line(5, "a"), line(4, "b"), line(4, "b"), line(4, "c")].concat();
    fs::write(dir.path().join(format!("data-{}.txt", id(1))), bytes).unwrap();
    let report = check(dir.path());
    assert_eq!(kinds(&report), [(Kind::Name, 1), (Kind::Forked, 4), (Kind::State, 0)]);
    assert_eq!((report.out_of_order, report.repeated, report.records, report.parts), (1, 1, 4, 1));
    assert_eq!(report.identity, None);
}

#[test]
fn files_that_are_gone_or_cut_are_faults_and_what_lacks_by_it_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    drop(folder(dir.path()));
    let sealed = dir.path().join(format!("data-{}.txt", id(0)));
    let whole = fs::read(&sealed).unwrap();
    let len = line(0, "mensaje: hola").len();
    fs::write(&sealed, &whole[..8 * len]).unwrap();
    let report = check(dir.path());
    assert_eq!((kinds(&report), report.lacking), (vec![(Kind::Lost, 0), (Kind::Lacking, 0)], 2));
    fs::rename(&sealed, dir.path().join("moved")).unwrap();
    let report = check(dir.path());
    assert_eq!((kinds(&report), report.lacking), (vec![(Kind::Lost, 0), (Kind::Lacking, 0)], 10));
    fs::rename(dir.path().join("moved"), &sealed).unwrap();
    fs::write(&sealed, &whole).unwrap();
    let current = dir.path().join(CURRENT);
    let bytes = fs::read(&current).unwrap();
    fs::write(&current, &bytes[..2 * len]).unwrap();
    let report = check(dir.path());
    assert_eq!((kinds(&report), &report.identity), (vec![(Kind::State, 0)], &None));
    assert!(report.problems[0].reason.contains("bytes that were synced, and "), "{report:?}");
    assert_eq!((report.ledgers, report.parts, report.parts_first[0].entries), (0, 1, 22));
}

#[test]
fn damage_in_the_lists_is_told_and_what_is_left_over_is_no_fault() {
    let dir = tempfile::tempdir().unwrap();
    let node = folder(dir.path());
    drop(open(&node, true));
    drop(node);
    let report = check(dir.path());
    assert!(report.is_clean() && (report.ledgers, report.parts) == (0, 1), "{report:?}");
    flip(&dir.path().join("segments.txt"), 9);
    assert_eq!(kinds(&check(dir.path())), [(Kind::Index, 0)]);
    flip(&dir.path().join("segments.txt"), 9);
    flip(&dir.path().join(STATE), 9);
    assert_eq!(kinds(&check(dir.path())), [(Kind::State, 0)]);
}

#[test]
fn a_folder_without_records_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let verify = |dir: &Path| verify_each(dir, None, &mut |_, _| {}, &mut |_| Ok(()));
    assert!(matches!(verify(dir.path()), Err(Error::NoData { .. })));
    let error = verify(&dir.path().join("none")).map(drop).unwrap_err().to_string();
    assert!(error.ends_with("name the data folder of a node"), "{error}");
}
