//! The audit against a plain reading of its rules, over files that are written here.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests stop at the first surprise, too")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::audit::{Report, Settings, audit};
use crate::data::record::{Fields, encode};
use crate::wire::id::{ClientId, RecordId};
use crate::wire::ledger::Place;

fn id(n: u64) -> RecordId {
    RecordId { time_ns: 1_795_234_260_000_000_000 + n, incarnation: 7 }
}

/// A record whose payload and client follow from `kind`.
fn record(n: u64, seq: u64, kind: u8) -> Vec<u8> {
    let mut out = Vec::new();
    let place = Some(Place { number: 0, entry: n as u32 });
    encode(
        &mut out,
        Fields { id: id(n), client: ClientId(9), seq, place, source: None },
        format!("medida {kind}").as_bytes(),
    )
    .unwrap();
    out
}

fn acknowledged(node: &str, n: u64, more: u64) -> String {
    let more = if more == 0 { String::new() } else { format!("..+{more}") };
    format!("2026-11-21T07:34:21.000000Z recibido en dataNode 127.0.0.2 {node} {}{more}\n", id(n))
}

/// Files in a folder of their own, and the audit of them.
struct Files(tempfile::TempDir);

impl Files {
    fn new(registros: &[String], folders: &[Vec<u8>]) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        for (k, registro) in registros.iter().enumerate() {
            std::fs::create_dir(files.path(&format!("head{k}"))).unwrap();
            std::fs::write(files.path(&format!("head{k}/registro.2026-11-21.log")), registro).unwrap();
        }
        for (k, lines) in folders.iter().enumerate() {
            std::fs::create_dir(files.path(&format!("data{k}"))).unwrap();
            std::fs::write(files.path(&format!("data{k}/data.txt")), lines).unwrap();
        }
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn audit_since(&self, since: RecordId) -> Report {
        let here: &Path = self.0.path();
        let settings = Settings {
            registros: vec![here.to_owned()],
            data: vec![here.to_owned()],
            since,
            check: None,
            temp: here.to_owned(),
        };
        audit(&settings, &mut |_, _, _| {}).unwrap()
    }

    fn audit(&self) -> Report {
        self.audit_since(RecordId::default())
    }
}

#[test]
fn every_finding_is_counted_and_its_place_told() {
    let mut rotten = record(4, 4, 0);
    let at = rotten.len() - 2;
    rotten[at] ^= 1;
    let folders = [
        [record(0, 0, 0), record(1, 1, 0), rotten, record(2, 2, 0), record(2, 2, 0)].concat(),
        [record(0, 0, 0), record(2, 2, 1), record(6, 1, 0), record(7, 7, 0), b"1795234260".to_vec()].concat(),
    ];
    let registros = [acknowledged("a", 0, 2) + &acknowledged("a", 4, 0), acknowledged("b", 0, 2)];
    let files = Files::new(&registros, &folders);
    let report = files.audit();
    assert_eq!((report.acknowledged, report.found, report.missing, report.fewer), (4, 3, 1, 1));
    let missing = &report.missing_first[0];
    assert_eq!((&missing.id, &missing.nodes, missing.line), (&id(4).to_string(), &vec!["a".to_owned()], 2));
    assert_eq!(missing.registro, files.path("head0/registro.2026-11-21.log"));
    let fewer = &report.fewer_first[0];
    assert_eq!(
        (&fewer.id, &fewer.nodes, &fewer.dirs),
        (&id(1).to_string(), &vec!["a".into(), "b".into()], &vec![files.path("data0")])
    );
    assert_eq!((report.checksum_errors, report.torn_tails, report.damage_first.len()), (1, 1, 2));
    assert_eq!((&report.damage_first[0].file, report.damage_first[0].line), (&files.path("data0/data.txt"), 3));
    assert_eq!((report.unequal.differing, &report.unequal.differing_first[0].id), (1, &id(2).to_string()));
    assert_eq!((report.unacknowledged, report.duplicates, report.sent_twice), (2, 1, 1));
    assert!(!report.keeps_its_word());
    let later = files.audit_since(id(5));
    assert_eq!((later.acknowledged, later.missing, later.unacknowledged, later.sent_twice), (0, 0, 2, 0));
    assert_eq!(later.since, Some(id(5).to_string()));
    let keys = serde_json::to_value(&report).unwrap();
    for key in
        ["since", "registros", "folders", "acknowledged", "found", "missing", "missing_first", "fewer", "differing"]
    {
        assert!(keys.get(key).is_some(), "{key}");
    }
}

#[test]
fn progress_reaches_its_end() {
    let files = Files::new(&[acknowledged("a", 0, 2)], &[record(0, 0, 0)]);
    let here = files.0.path().to_owned();
    let settings = Settings {
        registros: vec![here.clone()],
        data: vec![here.clone()],
        since: RecordId::default(),
        check: None,
        temp: here,
    };
    let mut last = (0, 1);
    audit(&settings, &mut |_, done, total| last = (done, total)).unwrap();
    assert_eq!(last, (4, 4), "one range, one copy, one entry, one message");
}

/// Node, first id, how many more.
type Range = (u8, u64, u64);

/// Id, sequence number, kind.
type Kept = (u64, u64, u8);

/// Registros and folders.
fn cluster() -> impl Strategy<Value = (Vec<Vec<Range>>, Vec<Vec<Kept>>)> {
    let ranges = prop::collection::vec((0..4_u8, 0..30_u64, 0..8_u64), 0..12);
    let records = prop::collection::vec((0..36_u64, 0..20_u64, 0..2_u8), 0..30);
    (prop::collection::vec(ranges, 1..3), prop::collection::vec(records, 1..4))
}

proptest! {
    #[test]
    fn the_audit_is_the_rules((registros, folders) in cluster(), since in 0..40_u64) {
        let mut promised = BTreeMap::<u64, BTreeSet<u8>>::new();
        for (node, first, more) in registros.iter().flatten() {
            for n in (*first..=first + more).filter(|n| *n >= since) {
                promised.entry(n).or_default().insert(*node);
            }
        }
        let mut held = BTreeMap::<u64, BTreeSet<usize>>::new();
        let mut contents = BTreeMap::<u64, BTreeSet<(u64, u8)>>::new();
        let mut messages = BTreeMap::<u64, BTreeSet<(u8, u64)>>::new();
        for (folder, records) in folders.iter().enumerate() {
            for (n, seq, kind) in records.iter().filter(|(n, ..)| *n >= since) {
                held.entry(*n).or_default().insert(folder);
                contents.entry(*n).or_default().insert((*seq, *kind));
                messages.entry(*seq).or_default().insert((*kind, *n));
            }
        }
        let copies = |n: &u64| held.get(n).map_or(0, BTreeSet::len);
        let count = |of: &dyn Fn(usize, usize) -> bool| {
            promised.iter().filter(|(n, nodes)| of(copies(n), nodes.len())).count() as u64
        };
        let registros: Vec<String> = registros.iter().map(|ranges| {
            ranges.iter().map(|(node, first, more)| acknowledged(&format!("n{node}"), *first, *more)).collect()
        }).collect();
        let folders: Vec<Vec<u8>> = folders.iter().map(|records| {
            records.iter().flat_map(|(n, seq, kind)| record(*n, *seq, *kind)).collect()
        }).collect();
        let report = Files::new(&registros, &folders).audit_since(id(since));
        prop_assert_eq!(report.acknowledged, promised.len() as u64);
        prop_assert_eq!(report.found, count(&|copies, _| copies > 0));
        prop_assert_eq!(report.missing, count(&|copies, _| copies == 0));
        prop_assert_eq!(report.fewer, count(&|copies, nodes| copies > 0 && copies < nodes));
        prop_assert_eq!(report.unacknowledged, held.keys().filter(|n| !promised.contains_key(n)).count() as u64);
        prop_assert_eq!(report.unequal.differing, contents.values().filter(|contents| contents.len() > 1).count() as u64);
        let twice = |kept: &BTreeSet<(u8, u64)>| (0..2).any(|kind| kept.iter().filter(|(one, _)| *one == kind).count() > 1);
        prop_assert_eq!(report.sent_twice, messages.values().filter(|kept| twice(kept)).count() as u64);
        let reused = |kept: &BTreeSet<(u8, u64)>| {
            let (kinds, ids): (BTreeSet<_>, BTreeSet<_>) = kept.iter().copied().unzip();
            kinds.len() > 1 && ids.len() > 1
        };
        prop_assert_eq!(report.numbers_reused, messages.values().filter(|kept| reused(kept)).count() as u64);
        prop_assert_eq!((report.checksum_errors, report.torn_tails), (0, 0));
    }
}
