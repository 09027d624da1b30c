//! The load: connections on one thread, each with messages in flight, at full speed or at a rate.
//!
//! A message's time runs from when it was due. At full speed that is when there was room for it; at a rate it is the
//! schedule, so that a cluster which stands still is not asked less (coordinated omission).

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::latency::Latency;
use super::talk::{Settled, Talk, TalkError};
use crate::limits;
use crate::net::{Access, Stream};
use crate::wire::id::ClientId;
use crate::wire::text::Dialect;
use tokio_util::sync::CancellationToken;

/// A connection failed.
#[derive(Debug, thiserror::Error)]
#[error("head {head}: {cause}")]
pub(crate) struct LoadError {
    head: String,
    #[source]
    cause: Cause,
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("{0}; see that it runs, and that it takes as many clients (--max-clients)")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Talk(#[from] TalkError),
    #[error("it closed the connection; see what its log says")]
    Closed,
    #[error("it does not answer the handshake")]
    Silent,
}

/// What the load is made of.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How heads are dialled, and the token that each connection says.
    pub(crate) access: Access,
    /// Heads, `host:port` each: connections go to one after the other.
    pub(crate) heads: Vec<String>,
    /// Connections.
    pub(crate) clients: usize,
    /// Messages that each has in flight.
    pub(crate) in_flight: usize,
    /// Bytes of a message.
    pub(crate) size: usize,
    /// What they speak.
    pub(crate) dialect: Dialect,
    /// Messages a second, of all together; none for as many as fit.
    pub(crate) rate: Option<f64>,
    /// Marks the messages of this run.
    pub(crate) run: u32,
}

/// What all connections count together.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Messages sent.
    pub(crate) sent: Cell<u64>,
    /// Messages acknowledged.
    pub(crate) acked: Cell<u64>,
    /// Messages refused.
    pub(crate) refused: Cell<u64>,
    /// The first cause of a refusal.
    pub(crate) refusal: RefCell<Option<String>>,
    /// A sum over the numbers of the acknowledged messages: the same for the same messages in any order.
    pub(crate) digest: Cell<u64>,
    /// How long messages took that were acknowledged while it is open.
    pub(crate) latency: RefCell<Latency>,
}

/// Spreads a number, so that a sum over many tells one set from another.
#[must_use]
pub(crate) const fn mix(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Connections that are open and send nothing yet.
pub(crate) struct Ready {
    settings: Settings,
    open: Vec<(Stream, Talk, BytesMut)>,
}

impl Ready {
    /// Opens all connections, one after the other.
    ///
    /// # Errors
    /// A head can't be reached, or is full.
    pub(crate) async fn open(settings: Settings) -> Result<Self, LoadError> {
        let mut open = Vec::with_capacity(settings.clients);
        for connection in 0..settings.clients {
            let Some(head) = settings.heads.get(connection % settings.heads.len().max(1)) else { break };
            let number = u32::try_from(connection).unwrap_or(u32::MAX);
            let talk = Talk::new(settings.dialect, settings.run, number, settings.size);
            let opened = timeout(limits::HANDSHAKE_TIME_MAX, handshake(&settings.access, head, talk)).await;
            open.push(opened.unwrap_or(Err(Cause::Silent)).map_err(|cause| LoadError { head: head.clone(), cause })?);
        }
        Ok(Self { settings, open })
    }

    /// Starts to send. Needs a `LocalSet`.
    #[must_use]
    pub(crate) fn start(self) -> Load {
        let counts = Rc::new(Counts::default());
        let shutdown = CancellationToken::new();
        let start = Instant::now();
        let mut connections = JoinSet::new();
        let all = self.open.len();
        for (place, (stream, talk, input)) in self.open.into_iter().enumerate() {
            let schedule = self.settings.rate.map(|rate| Schedule::new(rate, all, place));
            let head = self.settings.heads.get(place % self.settings.heads.len().max(1)).cloned().unwrap_or_default();
            let connection = Connection {
                talk,
                input,
                start,
                in_flight: self.settings.in_flight,
                schedule,
                counts: Rc::clone(&counts),
                shutdown: shutdown.clone(),
            };
            connections
                .spawn_local(async move { connection.run(stream).await.map_err(|cause| LoadError { head, cause }) });
        }
        Load { counts, shutdown, connections }
    }
}

async fn handshake(access: &Access, head: &str, mut talk: Talk) -> Result<(Stream, Talk, BytesMut), Cause> {
    let mut stream = access.net.dial(head, None).await?;
    let (mut out, mut input) = (BytesMut::new(), BytesMut::with_capacity(limits::READ_BUFFER_BYTES_MIN));
    talk.begin(&mut out, ClientId::of_library(rand::random()), access.token).map_err(TalkError::from)?;
    stream.write_all(&out).await?;
    while !talk.is_open(&mut input)? {
        if stream.read_buf(&mut input).await? == 0 {
            return Err(Cause::Closed);
        }
    }
    Ok((stream, talk, input))
}

/// A load under way.
pub(crate) struct Load {
    /// What it has counted so far.
    pub(crate) counts: Rc<Counts>,
    shutdown: CancellationToken,
    connections: JoinSet<Result<(), LoadError>>,
}

impl Load {
    /// Resolves only if a connection fails.
    ///
    /// # Errors
    /// That one's.
    pub(crate) async fn failed(&mut self) -> LoadError {
        while let Some(ended) = self.connections.join_next().await {
            if let Ok(Err(error)) = ended {
                return error;
            }
        }
        std::future::pending().await
    }

    /// Sends nothing more, and waits until everything has an answer; at the deadline the rest stays without one.
    ///
    /// # Errors
    /// A connection failed.
    pub(crate) async fn finish(mut self, deadline: Instant) -> Result<(), LoadError> {
        self.shutdown.cancel();
        while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, self.connections.join_next()).await {
            if let Ok(Err(error)) = ended {
                return Err(error);
            }
        }
        Ok(())
    }
}

/// When the messages of one connection are due, in nanoseconds from the start.
#[derive(Clone, Debug)]
struct Schedule {
    every: f64,
    first: f64,
    sent: u64,
}

impl Schedule {
    /// That of one of `all` connections, which together send `rate` messages a second, evenly.
    fn new(rate: f64, all: usize, place: usize) -> Self {
        let every = 1e9 / rate;
        Self { every: every * all as f64, first: every * place as f64, sent: 0 }
    }

    fn next(&self) -> u64 {
        (self.first + self.every * self.sent as f64) as u64
    }

    /// How many are due by now and not sent.
    fn due(&self, now: u64) -> usize {
        let past = (now as f64 - self.first) / self.every;
        if past < 0.0 { 0 } else { (past as u64 + 1).saturating_sub(self.sent) as usize }
    }
}

struct Connection {
    talk: Talk,
    input: BytesMut,
    start: Instant,
    in_flight: usize,
    schedule: Option<Schedule>,
    counts: Rc<Counts>,
    shutdown: CancellationToken,
}

impl Connection {
    fn now(&self) -> u64 {
        nanos(self.start.elapsed())
    }

    async fn run(mut self, mut stream: Stream) -> Result<(), Cause> {
        let (mut reader, mut writer) = stream.split();
        let shutdown = self.shutdown.clone();
        let mut stopping = pin!(shutdown.cancelled());
        let mut goes_on = true;
        let mut out = BytesMut::with_capacity(limits::READ_BUFFER_BYTES_MIN);
        loop {
            if goes_on {
                self.fill(&mut out)?;
            } else if self.talk.unanswered() == 0 {
                return Ok(());
            }
            let wake = self.schedule.as_ref().map(|schedule| self.start + Duration::from_nanos(schedule.next()));
            let waits = goes_on && self.talk.unanswered() < self.in_flight;
            tokio::select! {
                biased;
                () = &mut stopping, if goes_on => goes_on = false,
                read = reader.read_into(&mut self.input) => {
                    if read? == 0 {
                        return Err(Cause::Closed);
                    }
                    self.take(&mut out)?;
                }
                written = writer.write_buf(&mut out), if !out.is_empty() => {
                    if written? == 0 {
                        return Err(Cause::Closed);
                    }
                }
                () = due(wake), if waits && out.is_empty() => {}
            }
        }
    }

    /// Says what is due and has room.
    fn fill(&mut self, out: &mut BytesMut) -> Result<(), Cause> {
        let room = self.in_flight.saturating_sub(self.talk.unanswered());
        if room == 0 || out.len() > limits::BENCH_OUT_BYTES_MAX {
            return Ok(());
        }
        let now = self.now();
        let count = match &mut self.schedule {
            None => {
                self.talk.push(out, std::iter::repeat_n(now, room)).map_err(TalkError::from)?;
                room
            }
            Some(schedule) => {
                let count = schedule.due(now).min(room);
                let due = (0..count).map(|_| {
                    let due = schedule.next();
                    schedule.sent += 1;
                    due
                });
                self.talk.push(out, due).map_err(TalkError::from)?;
                count
            }
        };
        self.counts.sent.set(self.counts.sent.get() + count as u64);
        Ok(())
    }

    fn take(&mut self, out: &mut BytesMut) -> Result<(), Cause> {
        let now = nanos(self.start.elapsed());
        let counts = &self.counts;
        let mut latency = counts.latency.borrow_mut();
        let (mut acked, mut digest) = (0, 0_u64);
        self.talk.take(&mut self.input, out, |Settled { number, due, refusal }| match refusal {
            None => {
                acked += 1;
                digest = digest.wrapping_add(mix(number));
                latency.record(now.saturating_sub(due));
            }
            Some(cause) => {
                counts.refused.set(counts.refused.get() + 1);
                counts.refusal.borrow_mut().get_or_insert_with(|| cause.to_owned());
            }
        })?;
        latency.flush();
        counts.acked.set(counts.acked.get() + acked);
        counts.digest.set(counts.digest.get().wrapping_add(digest));
        Ok(())
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_even_over_all_connections_and_does_not_forget() {
        let mut schedule = Schedule::new(1000.0, 2, 1);
        assert_eq!((schedule.next(), schedule.due(999_999), schedule.due(1_000_000)), (1_000_000, 0, 1));
        schedule.sent = 1;
        assert_eq!((schedule.next(), schedule.due(1_000_001)), (3_000_000, 0));
        // Nothing was sent for a second: all of it is due.
        assert_eq!(schedule.due(1_001_000_000), 500);
    }

    #[test]
    fn a_digest_tells_sets_apart() {
        let digest = |numbers: &[u64]| numbers.iter().fold(0_u64, |sum, &number| sum.wrapping_add(mix(number)));
        assert_eq!(digest(&[1, 2, 3]), digest(&[3, 1, 2]));
        assert_ne!(digest(&[1, 4]), digest(&[2, 3]));
    }
}
