//! The load on a peer: connections on one thread, each with messages in flight, measured as `acopio bench` measures.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Buf as _, BytesMut};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::codec::Codec;

/// How much is sent.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) clients: usize,
    pub(crate) in_flight: usize,
    pub(crate) size: usize,
    pub(crate) warm_up: Duration,
    pub(crate) run_for: Duration,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) messages_per_s: f64,
    /// Microseconds.
    pub(crate) p50: f64,
}

struct Counts {
    answered: Cell<u64>,
    open: Cell<bool>,
    stop: Cell<bool>,
    times: RefCell<Histogram<u64>>,
}

/// Loads a peer.
pub(crate) async fn run(address: SocketAddr, codec: fn(usize) -> Codec, shape: Shape) -> anyhow::Result<Measured> {
    let counts = Rc::new(Counts {
        answered: Cell::new(0),
        open: Cell::new(false),
        stop: Cell::new(false),
        times: RefCell::new(Histogram::new_with_max(60_000_000_000, 3)?),
    });
    let mut connections = JoinSet::new();
    let mut open = Vec::new();
    for number in 0..shape.clients {
        let codec = codec(number);
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        if let Some((opening, end)) = codec.opening() {
            stream.write_all(&opening).await?;
            let mut said = BytesMut::new();
            while !said.ends_with(end) {
                anyhow::ensure!(stream.read_buf(&mut said).await? > 0, "it closed: {said:?}");
            }
        }
        open.push((stream, codec));
    }
    for (stream, codec) in open {
        connections.spawn_local(converse(stream, codec, shape, Rc::clone(&counts)));
    }
    let mut watch = async |time| {
        tokio::select! {
            biased;
            Some(ended) = connections.join_next() => Err(anyhow::anyhow!("a connection ended: {ended:?}")),
            () = tokio::time::sleep(time) => Ok(()),
        }
    };
    watch(shape.warm_up).await?;
    let (start, before) = (Instant::now(), counts.answered.get());
    counts.open.set(true);
    watch(shape.run_for).await?;
    let (seconds, answered) = (start.elapsed().as_secs_f64(), counts.answered.get() - before);
    counts.open.set(false);
    counts.stop.set(true);
    let p50 = counts.times.borrow().value_at_quantile(0.5) as f64 / 1e3;
    Ok(Measured { messages_per_s: answered as f64 / seconds, p50 })
}

async fn converse(mut stream: TcpStream, codec: Codec, shape: Shape, counts: Rc<Counts>) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    let (mut input, mut out) = (BytesMut::with_capacity(65536), BytesMut::with_capacity(65536));
    let payload = vec![b'.'; shape.size];
    let start = Instant::now();
    let mut waiting: VecDeque<u64> = VecDeque::with_capacity(shape.in_flight);
    let mut number = 0;
    while !counts.stop.get() {
        let now = start.elapsed().as_nanos() as u64;
        while waiting.len() < shape.in_flight {
            codec.push(&mut out, number, &payload);
            waiting.push_back(now);
            number += 1;
        }
        tokio::select! {
            biased;
            read = reader.read_buf(&mut input) => {
                if read? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let answers = codec.take(&mut input).map_err(io::Error::other)?;
                counts.answered.set(counts.answered.get() + answers as u64);
                let now = start.elapsed().as_nanos() as u64;
                let is_open = counts.open.get();
                let mut times = counts.times.borrow_mut();
                for due in waiting.drain(..answers.min(waiting.len())) {
                    if is_open {
                        times.saturating_record(now - due);
                    }
                }
            }
            written = writer.write(&out), if !out.is_empty() => out.advance(written?),
        }
    }
    Ok(())
}
