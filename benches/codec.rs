//! How fast the codec is: Puts of 16 messages of 100 bytes, the tags of their records, and lines. Run with `cargo bench --bench codec`.

#![allow(missing_docs, clippy::expect_used, reason = "a benchmark may stop at a surprise")]

use std::hint::black_box;

use acopio::key::ClusterKey;
use acopio::key::record::RecordCheck;
use acopio::wire::frame::{self, Frame, MessagesBuilder, PutFields, StoreBuilder, TagsBuilder};
use acopio::wire::id::{ClientId, RecordId};
use acopio::wire::ledger::Place;
use acopio::wire::record::{self, Fields};
use acopio::wire::text::Lines;
use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const MESSAGES: u64 = 16;
const PUTS: u64 = 64;
const PAYLOAD: [u8; 100] = [b'x'; 100];

fn codec(c: &mut Criterion) {
    let mut builder = MessagesBuilder::new();
    for _ in 0..MESSAGES {
        builder.push(&[&PAYLOAD]).expect("it fits");
    }
    let messages = builder.take().expect("there are some");
    let first = RecordId { time_ns: 1_795_234_260_000_000_000, incarnation: 7 };
    let place = Place { number: 1, entry: 16 };
    let record = Fields { id: first, client: ClientId(1), seq: 1, place: Some(place), source: None };
    let key = ClusterKey::from_bytes([7; 32]).records();
    let mut builder = TagsBuilder::default();
    let mut tags = || {
        let marker = key.batch(&record).expect("it has a place");
        builder.collect((16..).zip(black_box(&messages)).map(|(entry, payload)| marker.tag(entry, payload)))
    };
    let marked = tags();
    let fields =
        PutFields { first, client: ClientId(1), first_seq: 1, place, members: &[], source: None, tags: &marked };
    let mut group = c.benchmark_group("codec");
    group.throughput(Throughput::Elements(MESSAGES));
    group.bench_function("make tags 16 x 100", |b| b.iter(&mut tags));
    let mut out = BytesMut::with_capacity(64 * 1024);
    group.bench_function("encode Put 16 x 100", |b| {
        b.iter(|| {
            out.clear();
            frame::put(&mut out, fields, black_box(&messages))
        });
    });
    group.bench_function("build Store 16 x 100", |b| {
        b.iter(|| {
            out.clear();
            let mut store = StoreBuilder::begin(&mut out, 1);
            for _ in 0..MESSAGES {
                store.push(&mut out, black_box(&PAYLOAD)).expect("it fits");
            }
            store.end(&mut out)
        });
    });
    // A read buffer full of Puts, as a data node finds it.
    let mut stream = BytesMut::new();
    for _ in 0..PUTS {
        frame::put(&mut stream, fields, &messages).expect("it fits");
    }
    group.throughput(Throughput::Elements(PUTS * MESSAGES));
    group.bench_function("decode Put 16 x 100", |b| {
        b.iter_batched_ref(
            || stream.clone(),
            |stream| {
                while let Ok(Some(frame)) = Frame::decode(stream) {
                    black_box(frame);
                }
            },
            BatchSize::SmallInput,
        );
    });
    let mut lines = Vec::new();
    for (k, (tag, payload)) in (0..).zip(marked.iter().zip(&messages)) {
        record::encode_tagged(&mut lines, record.plus(k), Some(tag), payload).expect("it fits");
    }
    group.throughput(Throughput::Elements(MESSAGES));
    group.bench_function("encode lines 16 x 100", |b| {
        let mut out = Vec::with_capacity(64 * 1024);
        b.iter(|| {
            out.clear();
            for (k, (tag, payload)) in (0..).zip(marked.iter().zip(black_box(&messages))) {
                record::encode_tagged(&mut out, record.plus(k), Some(tag), payload).expect("it fits");
            }
        });
    });
    let check = RecordCheck::new([key.clone()]);
    for (name, looks) in [("decode lines 16 x 100", false), ("decode lines 16 x 100 and check tags", true)] {
        group.bench_function(name, |b| {
            b.iter(|| {
                for line in black_box(&lines).split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    let line = record::decode(line).expect("it is one");
                    black_box(looks.then(|| check.look(&line)));
                }
            });
        });
    }
    let text = BytesMut::from("una linea de 25 bytes....\n".repeat(1000).as_str());
    group.throughput(Throughput::Elements(1000));
    group.bench_function("drain lines of 25", |b| {
        b.iter_batched_ref(
            || text.clone(),
            |text| Lines::new().drain(text, usize::MAX, |line| assert!(black_box(line).len() == 25)),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
