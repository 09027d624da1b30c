//! The reader's task: asks one head after the other, hands on what comes, and goes on where it was when a head is lost.
//!
//! It looks into no line. A frame is read from the socket only when there is room for it in the queue, so a reader that
//! nobody asks leaves the rest to TCP.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::{Config, Event, Query, ReadError};
use crate::client::connection::{open, silence_max};
use crate::limits;
use crate::net::framed::Ended;
use crate::net::{Backoff, Stream, make_room};
use crate::wire::error::{Code, Refusal};
use crate::wire::frame::{self, Frame};
use crate::wire::id::RecordId;

/// What the task hands to the reader.
pub enum Delivery {
    /// Lines, in the order of ids.
    Lines {
        /// Who sent them, and on which connection.
        source: Source,
        /// Everything below this id has been sent.
        next: RecordId,
        /// Whole lines.
        lines: Bytes,
    },
    /// Something to tell.
    Event(Event),
    /// The read is over.
    End {
        /// Everything below this id has been sent.
        next: RecordId,
        /// Nodes that are missing from the answer.
        missing: Vec<String>,
    },
    /// The read can't go on.
    Failed(ReadError),
}

/// A connection to a head.
#[derive(Clone, Debug)]
pub struct Source {
    /// The head.
    pub head: Arc<str>,
    /// What it was asked for: nothing below this id comes on this connection.
    pub from: RecordId,
    /// Counts connections.
    pub number: u64,
}

/// What a head waits for that has no data node, and knows of none.
const NOBODY: &str = "dataNodes";

/// Why the task ends: nobody listens any more.
struct Unheard;

/// Why a connection is left.
enum Left {
    /// The next head may know more.
    Lost(Ended),
    /// All is said.
    Done,
}

impl<E: Into<Ended>> From<E> for Left {
    fn from(ended: E) -> Self {
        Self::Lost(ended.into())
    }
}

impl From<Unheard> for Left {
    fn from(_: Unheard) -> Self {
        Self::Done
    }
}

/// The state of the task.
pub struct Link {
    config: Config,
    query: Query,
    deliveries: mpsc::Sender<Delivery>,
    connections: u64,
    /// The last time that a head brought the read on.
    progress: Instant,
    /// Nodes that the head waits for, and since when.
    waiting: Option<(Instant, Vec<String>)>,
}

impl Link {
    /// The task for a query that begins where the reader's order stage wants it to.
    pub fn new(config: Config, query: Query, deliveries: mpsc::Sender<Delivery>) -> Self {
        Self { config, query, deliveries, connections: 0, progress: Instant::now(), waiting: None }
    }

    /// Runs until the read is over or nobody listens.
    pub async fn run(mut self) {
        let mut rng = SmallRng::seed_from_u64(self.config.seed);
        let mut backoff = Backoff::default();
        let mut said = String::new();
        self.progress = Instant::now();
        for turn in 1.. {
            let heads = self.config.heads.now();
            let Some(head) = heads.get((turn - 1) % heads.len().max(1)) else {
                return self.fail(ReadError::NoHeads).await;
            };
            let head: &Arc<str> = &Arc::from(head.as_str());
            let before = self.progress;
            let Left::Lost(ended) = self.converse(head).await else { return };
            if let Ended::Refused(refusal) = &ended
                && !refusal.retry
            {
                return self.fail(ReadError::Refused { head: head.to_string(), refusal: refusal.clone() }).await;
            }
            if self.progress > before {
                backoff.reset();
                said.clear();
            }
            let cause = ended.to_string();
            let waited = self.progress.elapsed();
            if !self.query.follow && waited >= self.config.retry_for {
                let waited = Duration::from_secs(waited.as_secs().max(1));
                return self.fail(ReadError::NoHead { waited, head: head.to_string(), cause }).await;
            }
            let words = format!("{head} {cause}");
            if words != said {
                let lost = Event::Lost { head: head.to_string(), cause };
                if self.deliver(Delivery::Event(lost)).await.is_err() {
                    return;
                }
                said = words;
            }
            if turn % heads.len() == 0 {
                sleep(backoff.next(&mut rng)).await;
            }
        }
    }

    async fn deliver(&self, delivery: Delivery) -> Result<(), Unheard> {
        self.deliveries.send(delivery).await.map_err(|_| Unheard)
    }

    /// The last word. Nobody may hear it.
    async fn fail(&self, error: ReadError) {
        drop(self.deliver(Delivery::Failed(error)).await);
    }

    /// Reads from one head until the read is over, the connection is lost, or nobody listens.
    async fn converse(&mut self, head: &Arc<str>) -> Left {
        match self.read(head).await {
            Ok(()) => Left::Done,
            Err(left) => left,
        }
    }

    async fn read(&mut self, head: &Arc<str>) -> Result<(), Left> {
        let (mut socket, mut buffer) = open(&self.config.net, head).await?;
        let mut out = BytesMut::new();
        self.query.frame().encode(&mut out).map_err(|error| Ended::Refused(error.refusal()))?;
        write(&mut socket, &out).await?;
        self.connections += 1;
        let source = Source { head: Arc::clone(head), from: self.query.from, number: self.connections };
        loop {
            let Ok(permit) = self.deliveries.clone().reserve_owned().await else { return Ok(()) };
            let Some(frame) = self.next_frame(&mut socket, &mut buffer).await? else {
                permit.send(Delivery::Failed(self.waited_too_long(head)));
                return Ok(());
            };
            match frame {
                Frame::Records { next, lines } => {
                    self.progress = Instant::now();
                    self.query.from = self.query.from.max(next);
                    permit.send(Delivery::Lines { source: source.clone(), next, lines });
                }
                Frame::Waiting { nodes } => {
                    let nodes = names(&nodes);
                    // Another head that waits for them, too, does not make it another wait.
                    let since = self.waiting.as_ref().map_or_else(Instant::now, |(since, _)| *since);
                    self.waiting = (!nodes.is_empty()).then(|| (since, nodes.clone()));
                    permit.send(Delivery::Event(Event::Waiting { nodes }));
                }
                // A read that follows ends only at its own end; a head that ends it earlier has stopped reading.
                Frame::ReadEnd { next, .. } if self.query.follow && next < self.query.until => {
                    self.query.from = self.query.from.max(next);
                    return Err(Ended::Closed.into());
                }
                Frame::ReadEnd { next, missing } => {
                    permit.send(Delivery::End { next, missing: names(&missing) });
                    return Ok(());
                }
                Frame::Failure(refusal) => return Err(Ended::Refused(refusal).into()),
                Frame::Ping(n) => {
                    out.clear();
                    frame::pong(&mut out, n);
                    write(&mut socket, &out).await?;
                }
                Frame::Pong(_) | Frame::Welcome { .. } => {}
                other => return Err(Ended::OutOfPlace(other.kind()).into()),
            }
        }
    }

    /// What a read that does not follow fails with when the nodes it waits for do not come.
    fn waited_too_long(&self, head: &str) -> ReadError {
        let nodes = self.waiting.as_ref().map(|(_, nodes)| nodes.clone()).unwrap_or_default();
        if nodes.iter().any(|name| name != NOBODY) {
            return ReadError::Missing { nodes };
        }
        let text = "no hay dataNodes; start one with 'acopio data --head <this head>', then read again";
        ReadError::Refused { head: head.to_owned(), refusal: Refusal::new(Code::NoNodes, text) }
    }

    /// The next frame; none if the time is over that a read which does not follow waits for nodes that are away. A head
    /// that says nothing for a while is asked whether it is there, and has a while to say so.
    async fn next_frame(&self, socket: &mut Stream, buffer: &mut BytesMut) -> Result<Option<Frame>, Ended> {
        let mut asked = false;
        loop {
            if let Some(frame) = Frame::decode(buffer)? {
                return Ok(Some(frame));
            }
            // A head that is asked has longer to answer where there is no other to go on with.
            let (before, after) = (limits::CLIENT_PING_AFTER, silence_max(self.config.heads.now().len()));
            let word = if asked { after.saturating_sub(before) } else { before };
            let mut patience = word;
            if let Some((since, _)) = &self.waiting
                && !self.query.follow
            {
                let left = self.config.retry_for.saturating_sub(since.elapsed());
                if left.is_zero() {
                    return Ok(None);
                }
                patience = patience.min(left);
            }
            make_room(buffer);
            match timeout(patience, socket.read_buf(buffer)).await {
                Ok(Ok(0)) => return Err(Ended::Closed),
                Ok(read) => {
                    read?;
                    asked = false;
                }
                Err(_) if patience < word => {}
                Err(_) if asked => return Err(Ended::Silent(after)),
                Err(_) => {
                    let mut out = BytesMut::new();
                    frame::ping(&mut out, self.connections);
                    write(socket, &out).await?;
                    asked = true;
                }
            }
        }
    }
}

async fn write(socket: &mut Stream, bytes: &[u8]) -> Result<(), Ended> {
    match timeout(limits::HEARTBEAT_DEFAULT, socket.write_all(bytes)).await {
        Ok(written) => Ok(written?),
        Err(_) => Err(Ended::Silent(limits::HEARTBEAT_DEFAULT)),
    }
}

fn names(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect()
}
