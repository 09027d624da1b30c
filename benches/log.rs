//! What the data node's log costs: a record's line, its checksum, an append with its sync, recovery, and pages.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark may stop at a surprise")]

use acopio::internals::Disk;
use acopio::internals::Summary;
use acopio::internals::scan;
use acopio::internals::{Log, Settings, SyncPolicy};
use acopio::internals::{Query, ScanBounds, Scanner};
use acopio::wire::filter::SourceFilter;
use acopio::wire::id::{ClientId, RecordId};
use acopio::wire::ledger::Place;
use acopio::wire::record::{Fields, decode, encode};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

const START: RecordId = RecordId { time_ns: 1_795_234_260_123_456_789, incarnation: 0x2a_bcde };

fn lines(out: &mut Vec<u8>, count: u64, payload: &[u8]) {
    for n in 0..count {
        let (client, place) = (ClientId(0x123_4567_89ab_cdef), Some(Place { number: 7, entry: n as u32 }));
        encode(out, Fields { id: START.plus(n), client, seq: 1_000_000 + n, place, source: None }, payload).unwrap();
    }
}

fn record(c: &mut Criterion) {
    let plain = vec![b'm'; 100];
    let spanish = "mensaje: medición número veintidós, temperatura 21,5 °C\n".repeat(2).into_bytes();
    let mut group = c.benchmark_group("record");
    for (name, payload) in [("plain 100 B", &plain), ("escaped 118 B", &spanish)] {
        let mut out = Vec::with_capacity(1 << 20);
        group.throughput(Throughput::Elements(1000));
        group.bench_function(format!("encode {name} x1000"), |b| {
            b.iter(|| {
                out.clear();
                lines(&mut out, 1000, black_box(payload));
            });
        });
        let len = out.len() / 1000;
        group.bench_function(format!("decode {name} x1000"), |b| {
            b.iter(|| out.chunks(len).map(|line| decode(&line[..len - 1]).unwrap().seq).sum::<u64>());
        });
    }
    group.throughput(Throughput::Bytes(145));
    group.bench_function("crc32c of 145 B", |b| b.iter(|| crc32c::crc32c(black_box(&[7; 145]))));
    group.finish();
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append and sync");
    group.sample_size(20);
    for count in [1, 100, 10_000] {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { segment_bytes: 256 << 20, sync: SyncPolicy::Always };
        let mut log = Log::open(Disk::open(dir.path()).unwrap(), settings).unwrap().0;
        let mut batch = Vec::new();
        lines(&mut batch, count, &[b'm'; 100]);
        let summary = Summary::of(&batch);
        group.throughput(Throughput::Bytes(batch.len() as u64));
        group.bench_function(format!("{count} records"), |b| {
            b.iter(|| {
                log.append(&mut batch, &summary).unwrap();
                log.sync().unwrap();
            });
        });
    }
    group.finish();
}

fn recovery(c: &mut Criterion) {
    let mut file = Vec::new();
    lines(&mut file, (64 << 20) / 146, &[b'm'; 100]);
    let mut group = c.benchmark_group("recovery");
    group.sample_size(10).throughput(Throughput::Bytes(file.len() as u64));
    let read = |buffer: &mut [u8], at: u64| {
        let rest = &file[at as usize..];
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    };
    group.bench_function("scan of 64 MiB in memory", |b| {
        b.iter_batched(|| (), |()| scan(file.len() as u64, read, |_, _| {}).unwrap().records, BatchSize::PerIteration);
    });
    group.finish();
}

fn pages(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { segment_bytes: 32 << 20, sync: SyncPolicy::Never };
    let mut log = Log::open(Disk::open(dir.path()).unwrap(), settings).unwrap().0;
    let mut batch = Vec::new();
    for k in 0..440_u64 {
        batch.clear();
        for n in 0..1000 {
            let id = START.plus((k * 1000 + n) * 10_000);
            let place = Some(Place { number: 7, entry: (k * 1000 + n) as u32 });
            encode(
                &mut batch,
                Fields { id, client: ClientId(7), seq: 1_000_000 + n, place, source: None },
                &[b'm'; 100],
            )
            .unwrap();
        }
        let summary = Summary::of(&batch);
        log.append(&mut batch, &summary).unwrap();
    }
    let view = log.view();
    let mut group = c.benchmark_group("scan");
    group.sample_size(10).throughput(Throughput::Bytes(view.bytes()));
    group.bench_function("440,000 sorted records in pages of 256 KiB", |b| {
        b.iter(|| {
            let mut scanner = Scanner::new(Disk::open(dir.path()).unwrap(), ScanBounds::default());
            let mut query = Query {
                from: RecordId::ZERO,
                until: RecordId::MAX,
                client: None,
                sources: SourceFilter::default(),
                bytes_max: 256 << 10,
            };
            let mut records = 0;
            while query.from < query.until {
                let page = scanner.page(&view, &query).unwrap();
                records += page.records;
                query.from = page.next;
            }
            assert_eq!(u64::from(records), view.records());
        });
    });
    group.finish();
}

criterion_group!(benches, record, append, recovery, pages);
criterion_main!(benches);
