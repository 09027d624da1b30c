//! The reader's task: asks one head after the other, hands on what comes, and goes on where it was when a head is lost.
//!
//! It looks into no line. A frame is read from the socket only when there is room for it in the queue, so a reader that
//! nobody asks leaves the rest to TCP.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::lull::Lull;
use super::{Config, Event, Query, ReadError};
use crate::client::connection::{open, open_max, silence_max};
use crate::client::troubles::Troubles;
use crate::limits;
use crate::net::framed::Ended;
use crate::net::{Backoff, Stream, make_room};
use crate::wire::error::{Code, Refusal};
use crate::wire::frame::{self, Frame};
use crate::wire::id::RecordId;
use crate::wire::peer::missing_name;
use crate::wire::said::Introduction;

/// What the task hands to the reader.
pub(super) enum Delivery {
    /// Lines, in the order of ids.
    Lines {
        /// Who sent them, and on which connection.
        source: Source,
        /// Everything below this id has been sent.
        next: RecordId,
        /// Whole lines.
        lines: Bytes,
    },
    /// What is there is all sent; what comes is sent from now on.
    Live,
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
pub(super) struct Source {
    /// The head.
    pub head: Arc<str>,
    /// What it was asked for: nothing below this id comes on this connection.
    pub from: RecordId,
    /// It goes on with what comes, which has no order.
    pub live: bool,
    /// Counts connections.
    pub number: u64,
}

/// What is wrong with a head that is there and sends nothing new.
const STALLED: &str = "it answers, and what it sends gets no further; see what its log says of its data nodes";

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
pub(super) struct Link {
    config: Config,
    /// The heads that are tried.
    heads: Arc<[String]>,
    query: Query,
    /// Everything below it was sent that is there.
    reached: RecordId,
    deliveries: mpsc::Sender<Delivery>,
    connections: u64,
    /// Where it goes on, as the last head told it.
    token: Option<Bytes>,
    /// The last time that a head brought the read on.
    progress: Instant,
    /// Nodes that the head waits for.
    waiting: Option<Vec<String>>,
    /// What lines lacked that came already, as their heads said.
    lacks: BTreeSet<String>,
    troubles: Troubles,
    lull: Lull,
}

impl Link {
    /// The task for a query that begins where the reader's order stage wants it to.
    pub(super) fn new(config: Config, query: Query, deliveries: mpsc::Sender<Delivery>, lull: Lull) -> Self {
        let heads = config.heads();
        let troubles = Troubles::new(&heads);
        let reached = query.from;
        Self {
            config,
            heads,
            query,
            reached,
            deliveries,
            connections: 0,
            token: None,
            progress: Instant::now(),
            waiting: None,
            lacks: BTreeSet::new(),
            troubles,
            lull,
        }
    }

    /// Runs until the read is over or nobody listens.
    pub(super) async fn run(mut self) {
        let mut rng = SmallRng::seed_from_u64(self.config.seed);
        let mut backoff = Backoff::default();
        self.progress = Instant::now();
        for turn in 1.. {
            let now = self.config.heads();
            if now != self.heads {
                self.troubles = Troubles::new(&now);
                self.heads = now;
            }
            let place = (turn - 1) % self.heads.len().max(1);
            let Some(head) = self.heads.get(place).map(|head| Arc::from(head.as_str())) else {
                return self.fail(ReadError::NoHeads).await;
            };
            let before = self.progress;
            let Left::Lost(ended) = self.converse(place, &head).await else { return };
            self.lull.begin();
            let refused = match &ended {
                Ended::Refused(refusal) if !refusal.retry => Some(refusal.clone()),
                _ => None,
            };
            let is_cut_short = matches!(ended, Ended::Silent(_)) && self.left().is_zero();
            let is_news = if is_cut_short {
                // It had no time to answer: what is known of it says more.
                self.troubles.note_if_none(place, &ended);
                false
            } else {
                self.troubles.note(place, &ended, refused.is_some())
            };
            if let Some(refusal) = refused
                && self.troubles.are_final()
            {
                return self.fail(ReadError::Refused { heads: self.troubles.list(), refusal }).await;
            }
            if self.progress > before {
                backoff.reset();
            }
            let cause = ended.to_string();
            if self.left().is_zero() {
                let error = self.nobody();
                return self.fail(error).await;
            }
            let lost = Event::Lost { head: head.to_string(), cause };
            if is_news && self.deliver(Delivery::Event(lost)).await.is_err() {
                return;
            }
            if turn % self.heads.len().max(1) == 0 {
                sleep(backoff.next(&mut rng).min(self.left())).await;
            }
        }
    }

    /// Whether a frame without lines brings the read on. What is there already is passed over faster than time goes by,
    /// which alone brings a clock that is behind nowhere.
    fn goes_on(&self, next: RecordId) -> bool {
        let moved = Duration::from_nanos(next.time_ns.saturating_sub(self.reached.time_ns));
        if self.query.follow { next > self.reached } else { moved > 2 * self.progress.elapsed() }
    }

    /// How long a read that does not follow may go on without coming further.
    fn left(&self) -> Duration {
        if self.query.follow { Duration::MAX } else { self.config.retry_for.saturating_sub(self.progress.elapsed()) }
    }

    /// What a read fails with that came no further for as long as it may be tried.
    fn nobody(&self) -> ReadError {
        let waited = self.progress.elapsed();
        let waited = Duration::from_secs((waited + Duration::from_millis(500)).as_secs().max(1));
        ReadError::NoHead { waited, heads: self.troubles.list() }
    }

    async fn deliver(&self, delivery: Delivery) -> Result<(), Unheard> {
        self.deliveries.send(delivery).await.map_err(|_| Unheard)
    }

    /// The last word. Nobody may hear it.
    async fn fail(&self, error: ReadError) {
        drop(self.deliver(Delivery::Failed(error)).await);
    }

    /// Reads from one head until the read is over, the connection is lost, or nobody listens.
    async fn converse(&mut self, place: usize, head: &Arc<str>) -> Left {
        match self.read(place, head).await {
            Ok(()) => Left::Done,
            Err(left) => left,
        }
    }

    async fn read(&mut self, place: usize, head: &Arc<str>) -> Result<(), Left> {
        self.waiting = None;
        let patience = if self.query.follow { Duration::MAX } else { self.config.retry_for };
        let patience = open_max(self.heads.len(), patience).min(self.left());
        let introduction = Introduction { said: None, token: self.config.token };
        let opened = timeout(patience, open(&self.config.net, head, introduction)).await;
        let (mut socket, mut buffer) = opened.unwrap_or(Err(Ended::Silent(patience)))?;
        let mut out = BytesMut::new();
        let token = self.token.clone().unwrap_or_default();
        let live = self.token.as_ref().is_some_and(is_live);
        // What comes has no order: a head whose clock is behind gives ids that were passed long ago.
        let from = if live { self.query.from } else { self.reached };
        let query = Query { from, ..self.query.clone() };
        query.frame(token).encode(&mut out).map_err(|error| Ended::Refused(error.refusal()))?;
        write(&mut socket, &out).await?;
        self.connections += 1;
        let mut source = Source { head: Arc::clone(head), from, live, number: self.connections };
        loop {
            let asked = Instant::now();
            let Ok(permit) = self.deliveries.clone().reserve_owned().await else { return Ok(()) };
            // Who asks for no more is not waited for by anybody.
            self.progress += asked.elapsed();
            let Some(frame) = self.next_frame(place, &mut socket, &mut buffer).await? else {
                permit.send(Delivery::Failed(self.waited_too_long(place)));
                return Ok(());
            };
            match frame {
                Frame::Records { next, lines } => {
                    if !lines.is_empty() || self.goes_on(next) {
                        self.progress = Instant::now();
                        self.troubles.served(place);
                    }
                    self.reached = self.reached.max(next);
                    permit.send(Delivery::Lines { source: source.clone(), next, lines });
                }
                Frame::Token(token) => {
                    let live = is_live(&token);
                    self.token = Some(token);
                    if live && !std::mem::replace(&mut source.live, true) {
                        permit.send(Delivery::Live);
                    }
                }
                Frame::Waiting { nodes } => {
                    let nodes = names(&nodes);
                    self.waiting = (!nodes.is_empty()).then(|| nodes.clone());
                    if !nodes.is_empty() {
                        let ended = waits_for(&nodes);
                        // Another head may have them.
                        if self.troubles.has_better(place) {
                            return Err(ended.into());
                        }
                        self.troubles.note(place, &ended, false);
                    }
                    permit.send(Delivery::Event(Event::Waiting { nodes }));
                }
                // A read that follows ends only at its own end; a head that ends it earlier has stopped reading.
                Frame::ReadEnd { next, .. } if self.query.follow && next < self.query.until => {
                    self.reached = self.reached.max(next);
                    return Err(Ended::Closed.into());
                }
                Frame::ReadEnd { next, missing } => {
                    permit.send(Delivery::End { next, missing: self.all_missing(names(&missing)) });
                    return Ok(());
                }
                Frame::Lacks { missing } => self.lacks.extend(names(&missing)),
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

    /// What is missing at the end, and what lacked before it: each node once, with the last cause.
    fn all_missing(&mut self, mut missing: Vec<String>) -> Vec<String> {
        for lacking in std::mem::take(&mut self.lacks) {
            if !missing.iter().any(|name| missing_name(name) == missing_name(&lacking)) {
                missing.push(lacking);
            }
        }
        missing
    }

    /// What a read that does not follow fails with when it comes no further.
    fn waited_too_long(&mut self, place: usize) -> ReadError {
        match &self.waiting {
            Some(nodes) if nodes.iter().any(|name| name != NOBODY) => ReadError::Missing { nodes: nodes.clone() },
            _ => {
                self.troubles.note_if_none(place, &Ended::Unfit(STALLED.to_owned()));
                self.nobody()
            }
        }
    }

    /// The next frame; none if the time is over that a read which does not follow may come no further. A head that says
    /// nothing for a while is asked whether it is there, and has a while to say so.
    async fn next_frame(
        &self,
        place: usize,
        socket: &mut Stream,
        buffer: &mut BytesMut,
    ) -> Result<Option<Frame>, Ended> {
        let mut asked = false;
        loop {
            if let Some(frame) = Frame::decode(buffer)? {
                self.lull.end();
                return Ok(Some(frame));
            }
            // A head that is asked has longer to answer where there is no other to go on with.
            let (before, after) = (limits::CLIENT_PING_AFTER, silence_max(self.heads.len()));
            let word = if asked { after.saturating_sub(before) } else { before };
            let left = self.left();
            if left.is_zero() {
                return Ok(None);
            }
            if let Some(nodes) = self.waiting.as_ref().filter(|_| self.troubles.has_better(place)) {
                return Err(waits_for(nodes));
            }
            let patience = word.min(left);
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
                    self.lull.begin();
                    asked = true;
                }
            }
        }
    }
}

/// Whether a token says that everything was sent that was there at the beginning.
fn is_live(token: &Bytes) -> bool {
    token.first().is_some_and(|first| *first != frame::TOKEN_OF_BEGINNING)
}

async fn write(socket: &mut Stream, bytes: &[u8]) -> Result<(), Ended> {
    match timeout(limits::HEARTBEAT_DEFAULT, socket.write_all(bytes)).await {
        Ok(written) => Ok(written?),
        Err(_) => Err(Ended::Silent(limits::HEARTBEAT_DEFAULT)),
    }
}

/// Why a head cannot answer now that has not all nodes.
fn waits_for(nodes: &[String]) -> Ended {
    let text = match nodes {
        [only] if only == NOBODY => {
            "no hay dataNodes; start one with 'acopio data --head <this head>', then read again".to_owned()
        }
        nodes => format!("it waits for {}; start what is away again", nodes.join(", ")),
    };
    Ended::Refused(Refusal::new(Code::NoNodes, text))
}

fn names(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect()
}
