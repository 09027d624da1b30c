//! The clients of a run: the library's, and one that speaks lines. They note what they sent and what they were told.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use super::shape::{Naming, Writing};
use super::verdict::Ack;
use crate::client::{self, Outcome, Receipts, Sender};
use crate::net::{Net, Stream};
use crate::wire::frame::SyncMode;
use crate::wire::id::ClientId;
use crate::wire::source::SourceName;
use crate::wire::text::{MENSAJE_PREFIX, RECIBIDO};

/// What all clients of a run sent and were told.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// Every payload that was sent, as it is stored, and when.
    pub(crate) sent: BTreeMap<Vec<u8>, Instant>,
    /// Lines that their client gave up while it wrote them: as far as they came, they end where it closed.
    pub(crate) torn: Vec<Vec<u8>>,
    /// Acknowledgements.
    pub(crate) acks: Vec<Ack>,
    /// Messages that were refused, and the last cause.
    pub(crate) refused: (u64, String),
    /// Answers that make no sense.
    pub(crate) nonsense: Vec<String>,
    /// Clients that are done.
    pub(crate) done: usize,
}

/// A client: its place among the others, and whom it dials from where.
pub(crate) struct Writer {
    /// Its number.
    pub(crate) number: usize,
    /// What it does.
    pub(crate) writing: Writing,
    /// The heads it knows.
    pub(crate) heads: Vec<String>,
    /// Its host.
    pub(crate) net: Net,
    /// Its choices.
    pub(crate) seed: u64,
    /// Where it notes.
    pub(crate) book: Rc<RefCell<Book>>,
}

impl Writer {
    /// Writes until all is settled, or it vanishes.
    pub(crate) async fn run(self) {
        let rng = SmallRng::seed_from_u64(self.seed);
        let book = Rc::clone(&self.book);
        if self.writing.lines {
            self.write_lines(rng).await
        } else {
            self.write_frames(rng).await
        }
        book.borrow_mut().done += 1;
    }

    /// Message `k`, different from every other of the run, with its source; some hold bytes that have to be escaped.
    fn payload(&self, rng: &mut SmallRng, k: u64) -> Vec<u8> {
        let source = self.source(k).map_or_else(|| "-".to_owned(), |source| format!("@{source}"));
        let mut payload = format!("{} {k} {source}", self.number).into_bytes();
        let more = rng.random_range(0..=self.writing.bytes);
        let wild = !self.writing.lines && rng.random_bool(0.2);
        payload.push(b' ');
        payload.extend((0..more).map(|_| if wild { rng.random() } else { rng.random_range(b' '..=b'~') }));
        payload
    }

    /// The source of message `k`.
    fn source(&self, k: u64) -> Option<SourceName> {
        match self.writing.naming {
            Naming::Sources(count) => format!("w{}/{}", self.number, k % count).parse().ok(),
            Naming::Nobody => None,
        }
    }

    fn stored(&self, payload: &[u8]) -> Vec<u8> {
        let prefix = if self.writing.lines || self.writing.text { MENSAJE_PREFIX.as_bytes() } else { &[] };
        [prefix, payload].concat()
    }

    async fn write_frames(&self, mut rng: SmallRng) {
        let id = ClientId::of_library(rng.random());
        let config = client::Config {
            heads: self.heads.clone(),
            followed: None,
            id,
            first_seq: 1,
            name: None,
            shares_name: false,
            token: None,
            text: self.writing.text,
            retry_for: self.writing.retry_for,
            window_messages: self.writing.window,
            window_bytes: crate::limits::CLIENT_IN_FLIGHT_BYTES_MAX,
            net: self.net.clone(),
            seed: rng.random(),
        };
        let (sender, mut receipts) = client::connect(config);
        let mut payloads = Vec::new();
        for k in 0..self.writing.messages {
            if self.writing.vanishes == Some(k) {
                return;
            }
            if k % self.writing.burst == 0 {
                let pause = sleep(rng.random_range(Duration::ZERO..=self.writing.pause));
                self.note_during(pause, &mut receipts, &payloads, id).await;
            }
            let payload = self.payload(&mut rng, k);
            let stored = self.stored(&payload);
            self.book.borrow_mut().sent.insert(stored.clone(), Instant::now());
            payloads.push(stored);
            let sent = send(&sender, self.source(k), payload);
            let Some(seq) = self.note_during(sent, &mut receipts, &payloads, id).await else {
                return;
            };
            if seq != k + 1 {
                self.nonsense(format!("message {k} got sequence number {seq}"));
            }
        }
        drop(sender);
        while let Some(outcome) = receipts.next().await {
            self.note(outcome, &payloads, id);
        }
    }

    /// Awaits something, and notes the outcomes that come in the meantime.
    async fn note_during<T>(
        &self,
        work: impl Future<Output = T>,
        receipts: &mut Receipts,
        payloads: &[Vec<u8>],
        id: ClientId,
    ) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                Some(outcome) = receipts.next() => self.note(outcome, payloads, id),
                result = &mut work => return result,
            }
        }
    }

    fn note(&self, outcome: Outcome, payloads: &[Vec<u8>], id: ClientId) {
        match outcome {
            Outcome::Acked(ack) => {
                let nodes: Result<Vec<IpAddr>, _> = ack.nodes.iter().map(|ip| ip.parse()).collect();
                for k in 0..u64::from(ack.count) {
                    let seq = ack.first_seq + k;
                    let payload = usize::try_from(seq - 1).ok().and_then(|place| payloads.get(place)).cloned();
                    let (Some(payload), Ok(nodes)) = (payload, nodes.clone()) else {
                        return self.nonsense(format!("{ack:?}"));
                    };
                    let id = (Some((id, seq)), Some(ack.first.plus(k)));
                    self.book.borrow_mut().acks.push(Ack { payload, number: id.0, id: id.1, nodes, sync: ack.sync });
                }
            }
            Outcome::Refused { count, refusal, .. } => {
                let refused = &mut self.book.borrow_mut().refused;
                *refused = (refused.0 + u64::from(count), refusal.text);
            }
        }
    }

    fn nonsense(&self, what: String) {
        self.book.borrow_mut().nonsense.push(format!("client {}: {what}", self.number));
    }

    /// Sends lines to one head after the other; what was not answered when a connection breaks is not sent again.
    async fn write_lines(&self, mut rng: SmallRng) {
        let mut k = 0;
        let mut turn = 0;
        while k < self.writing.messages && self.writing.vanishes.is_none_or(|end| k < end) {
            let Some(head) = self.heads.get(turn % self.heads.len().max(1)) else { return };
            turn += 1;
            if let Ok(stream) = self.net.dial(head, None).await {
                let under_way = RefCell::default();
                // A device that is told nothing for long gives up: nobody else would end a connection that stalls.
                let converse = self.converse(stream, &mut k, &mut rng, &under_way);
                if timeout(self.writing.retry_for * 4, converse).await.is_err() {
                    self.book.borrow_mut().torn.append(&mut under_way.borrow_mut());
                }
            }
            sleep(rng.random_range(Duration::ZERO..=self.writing.pause)).await;
        }
    }

    async fn converse(
        &self,
        mut stream: Stream,
        k: &mut u64,
        rng: &mut SmallRng,
        under_way: &RefCell<Vec<Vec<u8>>>,
    ) -> std::io::Result<()> {
        let mut buffer = BytesMut::new();
        // One name of its own, or that of a group: each line begins with the rest then.
        let opening = match self.writing.naming {
            Naming::Nobody => "peticion\n".to_owned(),
            Naming::Sources(1) => format!("peticion w{}/0\n", self.number),
            Naming::Sources(_) => format!("peticion w{}/\n", self.number),
        };
        stream.write_all(opening.as_bytes()).await?;
        if read_line(&mut stream, &mut buffer).await? != "confirmacion" {
            return Ok(());
        }
        while *k < self.writing.messages && self.writing.vanishes.is_none_or(|end| *k < end) {
            let mut lines = Vec::new();
            let mut waiting = Vec::new();
            for _ in 0..self.writing.burst.min(self.writing.messages - *k) {
                let payload = self.payload(rng, *k);
                if let Naming::Sources(count @ 2..) = self.writing.naming {
                    lines.extend_from_slice(format!("{} ", *k % count).as_bytes());
                }
                *k += 1;
                lines.extend_from_slice(&payload);
                lines.push(b'\n');
                waiting.push(self.stored(&payload));
            }
            self.book.borrow_mut().sent.extend(waiting.iter().map(|payload| (payload.clone(), Instant::now())));
            under_way.borrow_mut().clone_from(&waiting);
            let (mut read_half, mut write_half) = stream.split();
            let answers = async {
                for payload in waiting {
                    let answer = read_line(&mut read_half, &mut buffer).await?;
                    self.answered(payload, &answer);
                }
                std::io::Result::Ok(())
            };
            let write = async {
                let written = write_half.write_all(&lines).await;
                under_way.borrow_mut().clear();
                written
            };
            tokio::try_join!(biased; write, answers)?;
            sleep(rng.random_range(Duration::ZERO..=self.writing.pause)).await;
        }
        stream.shutdown().await
    }

    fn answered(&self, payload: Vec<u8>, answer: &str) {
        if let Some(ips) = answer.strip_suffix(&format!(" , {MENSAJE_PREFIX}{RECIBIDO}")) {
            match ips.split(',').map(str::parse).collect::<Result<Vec<IpAddr>, _>>() {
                // The answer does not say how the nodes sync; whoever judges knows the shape of the run.
                Ok(nodes) => {
                    let ack = Ack { payload, number: None, id: None, nodes, sync: SyncMode::Always };
                    self.book.borrow_mut().acks.push(ack);
                }
                Err(_) => self.nonsense(answer.to_owned()),
            }
        } else if answer.starts_with("error: ") {
            let refused = &mut self.book.borrow_mut().refused;
            *refused = (refused.0 + 1, answer.to_owned());
        } else {
            self.nonsense(answer.to_owned());
        }
    }
}

async fn send(sender: &Sender, source: Option<SourceName>, payload: Vec<u8>) -> Option<u64> {
    let payload = Bytes::from(payload);
    match source {
        Some(source) => sender.send_as(source, payload).await.ok(),
        None => sender.send(payload).await.ok(),
    }
}

async fn read_line(stream: &mut (impl AsyncReadExt + Unpin), buffer: &mut BytesMut) -> std::io::Result<String> {
    loop {
        if let Some(end) = buffer.iter().position(|&b| b == b'\n') {
            let line = buffer.split_to(end + 1);
            return Ok(String::from_utf8_lossy(line.trim_ascii_end()).into_owned());
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}
