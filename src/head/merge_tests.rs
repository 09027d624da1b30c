//! Tests of the merge: examples, and random nodes against a model.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::wire::id::ClientId;
use crate::wire::ledger::Place;

const fn id(n: u64) -> RecordId {
    RecordId { time_ns: n, incarnation: 5 }
}

fn lines(ids: impl IntoIterator<Item = u64>) -> Bytes {
    ids.into_iter().map(|n| format!("{} x\n", id(n))).collect::<String>().into()
}

fn ids(out: &[u8]) -> Vec<u64> {
    out.split(|&b| b == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| RecordId::from_text(&line[..ID_CHARS]).unwrap().time_ns)
        .collect()
}

fn taken(merge: &mut Merge, bytes_max: usize) -> (Vec<u64>, RecordId) {
    let mut out = BytesMut::new();
    let next = merge.take(&mut out, bytes_max);
    (ids(&out), next)
}

#[test]
fn only_what_all_have_goes_out() {
    let mut merge = Merge::new(RecordId::ZERO);
    merge.add(1);
    merge.add(2);
    merge.page(1, id(10), lines([1, 4, 9]), usize::MAX).unwrap();
    assert_eq!(taken(&mut merge, 1000), (vec![], RecordId::ZERO));
    merge.page(2, id(5), lines([1, 3]), usize::MAX).unwrap();
    assert_eq!(taken(&mut merge, 1000), (vec![1, 3, 4], id(5)));
    merge.remove(2);
    assert_eq!(taken(&mut merge, 1000), (vec![9], id(10)));
    merge.remove(1);
    assert_eq!(taken(&mut merge, 1000), (vec![], id(10)), "nobody is there to say more");
}

#[test]
fn a_node_that_leaves_keeps_its_part_and_one_that_comes_joins_where_the_answer_is() {
    let mut merge = Merge::new(RecordId::ZERO);
    merge.add(1);
    merge.add(2);
    merge.page(1, id(10), lines([7, 8]), usize::MAX).unwrap();
    merge.page(2, id(3), lines([2]), usize::MAX).unwrap();
    merge.remove(1);
    assert_eq!(taken(&mut merge, 1000), (vec![2], id(3)));
    merge.add(1);
    assert_eq!(merge.wants(1, id(20)), Some(id(3)));
    merge.page(2, id(20), lines([15]), usize::MAX).unwrap();
    assert_eq!(taken(&mut merge, 1000), (vec![], id(3)));
    merge.page(1, id(9), lines([7, 8]), usize::MAX).unwrap();
    assert_eq!(taken(&mut merge, 1000), (vec![7, 8], id(9)), "once each");
}

#[test]
fn a_chunk_ends_where_it_is_full_and_a_long_line_goes_alone() {
    let mut merge = Merge::new(RecordId::ZERO);
    merge.add(1);
    merge.page(1, id(10), lines([1, 2, 3]), usize::MAX).unwrap();
    assert_eq!(taken(&mut merge, 50), (vec![1, 2], id(2).next()));
    assert_eq!(taken(&mut merge, 5), (vec![3], id(10)));
}

/// A line as data nodes keep it: entry `n` of this ledger, or of none as in format 1.
fn record_of(n: u64, ledger: Option<u32>, payload: &str) -> String {
    let mut line = Vec::new();
    let place = ledger.map(|number| Place { number, entry: n as u32 });
    let fields = record::Fields { id: id(n), client: ClientId(7), seq: n, place, source: None };
    record::encode(&mut line, fields, payload.as_bytes()).unwrap();
    String::from_utf8(line).unwrap()
}

#[test]
fn what_another_node_keeps_under_the_same_id_goes_out_too() {
    for bytes_max in [1, 90, 1000] {
        let mut merge = Merge::new(RecordId::ZERO);
        // Two agree, in whichever ledger they stand; the third does not.
        let pages = [(Some(1), "uno"), (Some(2), "uno"), (None, "dos"), (Some(1), "dos")];
        for (node, (ledger, payload)) in (1..).zip(pages) {
            merge.add(node);
            let page = [record_of(3, ledger, "x"), record_of(5, ledger, payload), record_of(9, ledger, "y")].concat();
            merge.page(node, id(10), page.into(), usize::MAX).unwrap();
        }
        let (mut out, mut ends) = (BytesMut::new(), Vec::new());
        while merge.emitted() < id(10) {
            let next = merge.take(&mut out, bytes_max);
            ends.push((ids(&out).len(), next));
        }
        let text = String::from_utf8(out.to_vec()).unwrap();
        let said: Vec<&str> = text.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
        assert_eq!(said, ["x", "uno", "dos", "y"], "{bytes_max}");
        // Who goes on elsewhere after the first of them asks for the second, too.
        assert!(ends.iter().all(|(lines, next)| *lines != 2 || *next == id(5)), "{ends:?}");
        assert_eq!(merge.buffered(), 0);
    }
}

#[test]
fn one_page_is_on_its_way_and_few_wait() {
    let mut merge = Merge::new(RecordId::ZERO);
    merge.add(1);
    let mut wanted = 0;
    while let Some(from) = merge.wants(1, id(100)) {
        merge.asked(1, true);
        assert_eq!(merge.wants(1, id(100)), None);
        merge.page(1, from.plus(5), lines([from.time_ns + 1]), usize::MAX).unwrap();
        wanted += 1;
    }
    assert_eq!(wanted, READ_PAGES_MAX);
    taken(&mut merge, 1000);
    assert_eq!(merge.wants(1, id(9)), None, "all that is wanted has come");
}

#[test]
fn a_page_that_is_not_what_it_says_is_refused() {
    let mut merge = Merge::new(id(5));
    merge.add(1);
    assert!(matches!(merge.page(1, id(4), Bytes::new(), 0), Err(BadPage::Backwards { .. })));
    for bad in
        [lines([4]), lines([7, 7]), lines([8, 7]), lines([10]), Bytes::from_static(b"x\n"), Bytes::from_static(b"x")]
    {
        assert_eq!(
            merge.page(1, id(10), bad.clone(), usize::MAX),
            Err(BadPage::Line(1 + usize::from(bad.len() > 40))),
            "{bad:?}"
        );
    }
    assert_eq!((merge.buffered(), merge.wants(1, id(10))), (0, Some(id(5))));
}

proptest! {
    /// Random nodes with random shares of the records, that leave and come back while another still has their records.
    #[test]
    fn the_output_is_the_sorted_union(
        records in prop::collection::btree_map(1..400_u64, prop::collection::btree_set(0..5_u64, 1..4), 0..120),
        steps in prop::collection::vec((0..8_u8, 0..5_u64, 1..200_u64), 1..400),
    ) {
        let end = id(500);
        let mut merge = Merge::new(RecordId::ZERO);
        // Node 9 never leaves and has everything: the others may come and go and nothing is lost.
        let has = |node: u64, holders: &BTreeSet<u64>| node == 9 || holders.contains(&node);
        let page = |node: u64, from: RecordId, to: RecordId| -> Bytes {
            let inside = records.iter().filter(|(n, holders)| has(node, holders) && id(**n) >= from && id(**n) < to);
            lines(inside.map(|(n, _)| *n))
        };
        let mut here = BTreeMap::from([(9, true)]);
        merge.add(9);
        let mut out = Vec::new();
        let mut steps = steps.into_iter();
        for round in 0..2000 {
            let (what, node, amount) = steps.next().unwrap_or((round as u8 % 8, u64::from(round as u8 % 5), 60));
            let node = if what == 7 { 9 } else { node };
            match what {
                0 if round < 400 => {
                    if here.remove(&node).is_some() {
                        merge.remove(node);
                    } else {
                        here.insert(node, true);
                        merge.add(node);
                    }
                }
                1..=3 => {
                    let (chunk, next) = taken(&mut merge, amount as usize);
                    prop_assert!(chunk.iter().all(|n| id(*n) < next));
                    out.extend(chunk);
                }
                _ => {
                    for node in here.keys().copied().collect::<Vec<_>>() {
                        if let Some(from) = merge.wants(node, end) {
                            merge.asked(node, true);
                            let to = from.plus(amount).min(end);
                            prop_assert_eq!(merge.page(node, to, page(node, from, to), usize::MAX), Ok(()));
                        }
                    }
                }
            }
            prop_assert!(merge.buffered() <= 12 * READ_PAGES_MAX * 200 * 23, "flat memory");
            if merge.emitted() >= end {
                break;
            }
        }
        while merge.emitted() < end {
            for node in here.keys() {
                if let Some(from) = merge.wants(*node, end) {
                    merge.page(*node, end, page(*node, from, end), usize::MAX).unwrap();
                }
            }
            out.extend(taken(&mut merge, 1000).0);
        }
        prop_assert_eq!(out, records.keys().copied().collect::<Vec<_>>());
    }
}
