//! How fast the codec is: Puts of 16 messages of 100 bytes, and lines. Run with `cargo bench --bench codec`.

#![allow(missing_docs, clippy::expect_used, reason = "a benchmark may stop at a surprise")]

use std::hint::black_box;

use acopio::wire::frame::{self, Frame, MessagesBuilder, PutFields, StoreBuilder};
use acopio::wire::id::{ClientId, RecordId};
use acopio::wire::ledger::Place;
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
    let fields = PutFields { first, client: ClientId(1), first_seq: 1, place, members: &[], source: None };
    let mut group = c.benchmark_group("codec");
    group.throughput(Throughput::Elements(MESSAGES));
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
