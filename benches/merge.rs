//! What a head spends on a read: pages of three data nodes merged into one stream, each record once.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark may stop at a surprise")]

use acopio::internals::Merge;
use acopio::limits;
use acopio::wire::id::{ClientId, RecordId};
use acopio::wire::ledger::Place;
use acopio::wire::record::{Fields, encode};
use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const START: RecordId = RecordId { time_ns: 1_795_234_260_123_456_789, incarnation: 0x2a_bcde };
const NODES: u64 = 3;
const RECORDS: u64 = 30_000;

/// One page of each node: record `n` is with as many nodes as there are copies, from node `n / 16` on, as batches are.
fn pages(copies: u64) -> Vec<Bytes> {
    let page = |node: u64| {
        let mut lines = Vec::new();
        for n in 0..RECORDS {
            if (n / 16 + NODES - node) % NODES < copies {
                let (client, place) = (ClientId(0x123_4567_89ab_cdef), Some(Place { number: 7, entry: n as u32 }));
                encode(&mut lines, Fields { id: START.plus(n), client, seq: 1 + n, place, source: None }, &[b'm'; 100])
                    .unwrap();
            }
        }
        Bytes::from(lines)
    };
    (0..NODES).map(page).collect()
}

fn merge(c: &mut Criterion) {
    let mut group = c.benchmark_group("merge");
    group.throughput(Throughput::Elements(RECORDS));
    for copies in [1, 2] {
        let pages = pages(copies);
        let mut out = BytesMut::with_capacity(2 * limits::RECORDS_BYTES_MAX);
        let filled = || {
            let mut merge = Merge::new(START);
            for (node, page) in (0..).zip(&pages) {
                merge.add(node);
                merge.asked(node, true);
                merge.page(node, START.plus(RECORDS), page.clone(), usize::MAX).unwrap();
            }
            merge
        };
        group.bench_function(format!("{RECORDS} records of 100 B from {NODES} nodes, copies {copies}"), |b| {
            b.iter_batched(
                filled,
                |mut merge| {
                    let mut bytes = 0;
                    while {
                        out.clear();
                        merge.take(&mut out, limits::RECORDS_BYTES_MAX) < START.plus(RECORDS)
                    } {
                        bytes += out.len();
                    }
                    bytes + out.len()
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, merge);
criterion_main!(benches);
