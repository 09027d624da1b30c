//! Reading back: the cluster's messages as an async stream, merged in the order of ids, each once.
//!
//! [`read`] gives a [`Reader`], a [`Stream`] of [`Event`]s over any head of a list. It checks each record's checksum,
//! drops second copies, puts each client's messages in the order in which they were sent, and goes on with the next
//! head where it was when one is lost. It reads ahead of who asks by a frame and no more, so a reader that stops asking
//! slows only itself. Nothing is remembered over two reads.
//!
//! ```no_run
//! # async fn show() -> Result<(), acopio::client::reader::ReadError> {
//! use acopio::client::reader::{Event, Query, read};
//!
//! let mut reader = read(vec!["127.0.0.1:5000".to_owned()], Query::default());
//! while let Some(event) = reader.next().await {
//!     if let Event::Message(message) = event? {
//!         println!("{} {}", message.id, message.text());
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What holds for each client that sends again under the same number (see [`ClientId::may_retry`]):
//!
//! - each of its messages comes once, unless its second copy is millions of messages behind the first (the bounds are
//!   in [`limits`]);
//! - a message with the number of another one, and another payload, is no second copy: it comes too, and is
//!   [`reused`](Message::reused). Its client began to count anew under the same id;
//! - its messages come in the order of their numbers where a retry disturbed it by no more than
//!   [`limits::READER_HOLD_TIME`]. A message whose predecessor never comes waits for that long, in time of ids; a read
//!   that does not follow delivers what waits at its end.
//!
//! Messages of clients in text come in the order of ids, which is that in which their head read them.
//!
//! A read that [follows](Query::follow) delivers what is there like that, and then what comes, in the order in which it was
//! kept: there is none among clients, and each client's messages come in the order of their numbers. What is missing before a
//! message is waited for, [`limits::READER_HOLD_TIME`] at most; but not where only some [sources](Query::sources) are read, for
//! a client may send for several and nobody knows what is missing.

mod error;
mod last;
mod link;
#[cfg(feature = "server")]
mod local;
mod lull;
mod message;
mod order;
mod seen;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use futures_core::Stream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, sleep_until};

pub use error::ReadError;
pub use last::{Last, find_last};
pub use message::Message;

use crate::limits;
use crate::net::{self, Net};
use crate::wire::filter::SourceFilter;
use crate::wire::frame::Frame;
use crate::wire::id::{ClientId, ID_CHARS, RecordId};
use crate::wire::secret::Secret;
use link::{Delivery, Link, Source};
#[cfg(feature = "server")]
pub(crate) use local::{Local, LocalEnd};
use lull::Lull;
use order::Order;
#[cfg(feature = "simulation")]
pub use order::{PLANTED, Planted};

/// Where to read from.
#[derive(Clone, Debug)]
pub struct Config {
    /// Heads, `host:port` each; the first that answers is used, the next when it is lost.
    pub heads: Vec<String>,
    /// The secret of a token, for heads that ask clients for one.
    pub token: Option<Secret>,
    /// Time a read that does not follow goes on trying while no head brings it further. One that follows tries for ever,
    /// as does [`Duration::MAX`].
    pub retry_for: Duration,
    /// A list that whoever made it keeps up to date; it goes before `heads`.
    pub(crate) followed: Option<net::Heads>,
    /// What is read in place of heads.
    #[cfg(feature = "server")]
    pub(crate) local: Option<Local>,
    /// How it dials.
    pub(crate) net: Net,
    /// Seed of the jitter of its waits.
    pub(crate) seed: u64,
}

impl From<Vec<String>> for Config {
    fn from(heads: Vec<String>) -> Self {
        let (retry_for, net, seed) = (limits::READER_RETRY_TIME_DEFAULT, Net::default(), rand::random());
        Self {
            heads,
            token: None,
            retry_for,
            followed: None,
            #[cfg(feature = "server")]
            local: None,
            net,
            seed,
        }
    }
}

#[cfg(feature = "server")]
impl From<Local> for Config {
    fn from(local: Local) -> Self {
        Self { local: Some(local), ..Vec::new().into() }
    }
}

impl Config {
    /// A list of heads that may change.
    pub(crate) fn following(heads: net::Heads) -> Self {
        let net::Access { token, net } = heads.access().clone();
        Self { token, net, followed: Some(heads), ..Vec::new().into() }
    }

    /// The same over TLS.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(self, tls: super::Tls) -> Self {
        Self { net: Net::Tls(tls), ..self }
    }

    /// Asks the same heads.
    #[cfg(feature = "server")]
    pub(crate) fn asker(&self) -> super::Asker {
        super::Asker::over(&net::Access { token: self.token, net: self.net.clone() })
    }

    /// The heads of now.
    pub(crate) fn heads(&self) -> Arc<[String]> {
        self.followed.as_ref().map_or_else(|| self.heads.as_slice().into(), net::Heads::now)
    }
}

/// What to read; by default everything that is kept when the read begins.
#[derive(Clone, Debug)]
pub struct Query {
    /// The least id.
    pub from: RecordId,
    /// The first id that is not wanted; [`RecordId::MAX`] for all that are kept when the read begins, or with `follow`
    /// for all that will ever be.
    pub until: RecordId,
    /// Only messages of this client.
    pub client: Option<ClientId>,
    /// Only messages of these sources.
    pub sources: SourceFilter,
    /// Go on with what comes.
    pub follow: bool,
    /// Leave out data nodes that are away in place of waiting for them; they are named at the end.
    pub partial: bool,
}

impl Default for Query {
    fn default() -> Self {
        let sources = SourceFilter::default();
        Self { from: RecordId::ZERO, until: RecordId::MAX, client: None, sources, follow: false, partial: false }
    }
}

impl Query {
    fn frame(&self, token: Bytes) -> Frame {
        let Self { from, until, client, follow, partial, .. } = *self;
        Frame::Read { from, until, client, sources: self.sources.clone(), follow, partial, token }
    }
}

/// What a reader delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message.
    Message(Message),
    /// The read waits for data nodes that are away, or goes on if none is named.
    Waiting {
        /// Their names.
        nodes: Vec<String>,
    },
    /// A head was lost or refused for now; the next is asked. Told once for each cause.
    Lost {
        /// The head.
        head: String,
        /// What it did.
        cause: String,
    },
    /// The last event of a read: everything there is has been delivered.
    End {
        /// Everything below this id has been delivered: a later read can begin there.
        next: RecordId,
        /// Data nodes that are missing from the answer; only with [`Query::partial`].
        missing: Vec<String>,
    },
}

/// Begins to read. It must be called on a tokio runtime: a task of it talks to the heads.
#[must_use]
pub fn read(config: impl Into<Config>, query: Query) -> Reader {
    let may_retry = query.client.is_none_or(ClientId::may_retry);
    let from = if may_retry { order::warm_up(query.from) } else { query.from };
    begin(config.into(), query, from)
}

/// Begins to read, with records from `from` on that may only tell what was before.
fn begin(config: Config, query: Query, from: RecordId) -> Reader {
    let (sender, deliveries) = mpsc::channel(limits::READER_FRAMES_AHEAD);
    let order = Order::new(query.from).follows(query.follow).lacks_numbers(!query.sources.is_all());
    let (partial, lull) = (query.partial, Lull::default());
    let task = spawn(config, Query { from, ..query }, sender, lull.clone());
    Reader {
        deliveries,
        task,
        order,
        partial,
        source: None,
        last: None,
        lines: Lines::default(),
        told: VecDeque::new(),
        live_at: None,
        lull,
        timer: None,
        over: false,
    }
}

fn spawn(config: Config, query: Query, sender: mpsc::Sender<Delivery>, lull: Lull) -> JoinHandle<()> {
    #[cfg(feature = "server")]
    if let Some(local) = config.local.clone() {
        return tokio::task::spawn_blocking(move || local.run(&query, &sender));
    }
    tokio::spawn(Link::new(config, query, sender, lull).run())
}

/// As [`read`], of all records that are kept: second copies come, too, and nothing is put in another order. For checks, which
/// look for records and not for messages, and for who knows a record by its id. What was before tells them nothing, and isn't read.
#[cfg(feature = "server")]
#[must_use]
pub(crate) fn read_records(config: impl Into<Config>, query: Query) -> Reader {
    let from = query.from;
    let mut reader = begin(config.into(), query, from);
    reader.order.deliver_as_kept();
    reader
}

/// Lines that were received and not yet looked at.
#[derive(Debug, Default)]
struct Lines {
    rest: Bytes,
    /// What is covered once they are all taken.
    next: Option<RecordId>,
}

/// Since when what comes is delivered, and how long there was a lull until then.
#[derive(Clone, Copy, Debug)]
struct LiveAt {
    at: Instant,
    lull: Duration,
}

impl LiveAt {
    /// When it would have begun without the lulls since.
    fn begun(self, lull: &Lull) -> Instant {
        self.at + lull.total().saturating_sub(self.lull)
    }
}

/// A read under way. Dropping it ends it.
#[derive(Debug)]
pub struct Reader {
    deliveries: mpsc::Receiver<Delivery>,
    task: JoinHandle<()>,
    order: Order,
    partial: bool,
    /// The connection that `lines` came on.
    source: Option<Source>,
    /// The last record of any connection: its id, and a checksum of what else it is.
    last: Option<(RecordId, u32)>,
    lines: Lines,
    /// What is told once the order stage has nothing.
    told: VecDeque<Result<Event, ReadError>>,
    /// Since when what comes is delivered.
    live_at: Option<LiveAt>,
    /// Time in which nothing could come.
    lull: Lull,
    /// Until something is due that is held.
    timer: Option<Pin<Box<Sleep>>>,
    /// Nothing more is received.
    over: bool,
}

impl Reader {
    /// The next event; none after [`Event::End`] and after an error other than [`ReadError::Line`]. Dropping the future
    /// loses nothing.
    pub async fn next(&mut self) -> Option<Result<Event, ReadError>> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event, ReadError>>> {
        loop {
            if let Some(live_at) = self.live_at {
                let elapsed = live_at.begun(&self.lull).elapsed();
                self.order.tick(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX));
            }
            if let Some(message) = self.order.pop() {
                return Poll::Ready(Some(Ok(Event::Message(message))));
            }
            if let Some(told) = self.told.pop_front() {
                return Poll::Ready(Some(told));
            }
            if self.over {
                return Poll::Ready(None);
            }
            if self.take_line() {
                continue;
            }
            match self.deliveries.poll_recv(cx) {
                Poll::Pending if self.is_due(cx) => {}
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(delivery)) => self.take(delivery),
                Poll::Ready(None) => self.over = true,
            }
        }
    }

    /// Whether something is due that is held; if not, this is polled again when it is.
    fn is_due(&mut self, cx: &mut Context<'_>) -> bool {
        let Some((live_at, due)) = self.live_at.zip(self.order.due()) else { return false };
        let due = live_at.begun(&self.lull) + Duration::from_nanos(due);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        timer.as_mut().poll(cx).is_ready()
    }

    fn begin_live(&mut self) {
        let lull = self.lull.total();
        self.live_at.get_or_insert_with(|| LiveAt { at: Instant::now(), lull });
        self.order.begin_live();
    }

    fn take(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Live => {
                self.begin_live();
                if let Some(source) = &mut self.source {
                    source.live = true;
                }
            }
            Delivery::Lines { source, next, lines } => {
                self.lines = Lines { rest: lines, next: Some(next) };
                if source.live {
                    self.begin_live();
                }
                if source.live && self.source.as_ref().is_some_and(|old| old.number != source.number) {
                    self.order.goes_on();
                }
                if self.source.as_ref().is_none_or(|old| old.number != source.number || old.live != source.live) {
                    self.source = Some(source);
                }
            }
            Delivery::Event(event) => self.told.push_back(Ok(event)),
            Delivery::End { missing, .. } if !missing.is_empty() && !self.partial => {
                self.end(Err(ReadError::Missing { nodes: missing }));
            }
            Delivery::End { next, missing } => self.end(Ok(Event::End { next, missing })),
            Delivery::Failed(error) => self.end(Err(error)),
        }
    }

    /// The last word; what is held is delivered before it.
    fn end(&mut self, last: Result<Event, ReadError>) {
        self.order.finish();
        self.told.push_back(last);
        self.over = true;
        self.lines = Lines::default();
        self.task.abort();
    }

    /// Moves a line to the order stage, or what is covered after the last one; false if there is neither.
    fn take_line(&mut self) -> bool {
        let Some(at) = memchr::memchr(b'\n', &self.lines.rest) else {
            let Some(next) = self.lines.next.take() else { return false };
            // Nothing keeps the frame alive while the next is waited for.
            self.lines.rest = Bytes::new();
            self.order.covered(next);
            return true;
        };
        let decoded = Message::decode(self.lines.rest.slice(..=at));
        let start = self.lines.rest.get(..at.min(ID_CHARS)).unwrap_or_default();
        let bad = decoded.as_ref().is_err().then(|| String::from_utf8_lossy(start).trim_end().to_owned());
        self.lines.rest.advance(at + 1);
        match decoded {
            Ok(message) => self.accept(message),
            Err(cause) => {
                let (head, start) = (self.head(), bad.unwrap_or_default());
                self.told.push_back(Err(ReadError::Line { head, start, cause }));
            }
        }
        true
    }

    /// A connection sends ids in order, one twice only for two records that have it; what a new connection repeats is left
    /// out.
    fn accept(&mut self, message: Message) {
        let id = message.id;
        let Some(source) = &mut self.source else { return };
        if source.live {
            return self.order.push(message);
        }
        if id < source.from {
            let head = source.head.to_string();
            return self.end(Err(ReadError::Disorder { head, id }));
        }
        source.from = id;
        let contents = checksum(&message);
        if self.last.is_none_or(|last| last.0 < id || (last.0 == id && last.1 != contents)) {
            self.last = Some((id, contents));
            self.order.push(message);
        }
    }

    fn head(&self) -> String {
        self.source.as_ref().map(|source| source.head.to_string()).unwrap_or_default()
    }
}

/// A checksum of all of a record but its id.
fn checksum(message: &Message) -> u32 {
    let client = crc32c::crc32c(&message.client.0.to_be_bytes());
    let contents = crc32c::crc32c_append(crc32c::crc32c_append(client, &message.seq.to_be_bytes()), &message.payload);
    message.source.map_or(contents, |source| crc32c::crc32c_append(contents, source.as_bytes()))
}

impl Stream for Reader {
    type Item = Result<Event, ReadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_event(cx)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}
