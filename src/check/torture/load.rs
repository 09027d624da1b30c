//! The load on the cluster: clients of the library, and text clients over bare sockets, at a bounded rate.
//!
//! Clients of the library repeat what has no answer, under the same number. A text client can't: what had no answer when
//! its connection broke is unknown, and it goes on with the next message and the next head.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::history::History;
use crate::client::{self, Outcome};
use crate::limits;
use crate::net::{Net, Stream};
use crate::wire::id::ClientId;
use crate::wire::source::SourceName;
use crate::wire::text::RECIBIDO;
use tokio_util::sync::CancellationToken;

/// What the load is made of.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The heads' addresses.
    pub(crate) heads: Vec<String>,
    /// Clients of the library, with the identities they get; they are the first writers of the history.
    pub(crate) library: Vec<ClientId>,
    /// Text clients: the writers after them.
    pub(crate) lines: usize,
    /// Messages a second, of all together.
    pub(crate) rate: u64,
}

/// Clients that run.
pub(crate) struct Load {
    shutdown: CancellationToken,
    clients: JoinSet<()>,
}

impl Load {
    /// Starts all clients. Needs a `LocalSet`.
    #[must_use]
    pub(crate) fn start(settings: &Settings, history: &Rc<RefCell<History>>) -> Self {
        let shutdown = CancellationToken::new();
        let mut clients = JoinSet::new();
        let all = settings.library.len() + settings.lines;
        let rate = settings.rate as f64 / all.max(1) as f64;
        for writer in 0..all {
            // Each begins with another head, so that all of them have something to do.
            let mut heads = settings.heads.clone();
            heads.rotate_left(writer % settings.heads.len().max(1));
            let us = Us { writer, heads, rate, history: Rc::clone(history), shutdown: shutdown.clone() };
            match settings.library.get(writer) {
                Some(id) => clients.spawn_local(us.library(*id)),
                None => clients.spawn_local(us.lines()),
            };
        }
        Self { shutdown, clients }
    }

    /// Sends nothing more and waits until everything has an answer; at the deadline the rest is unknown.
    pub(crate) async fn finish(mut self, deadline: Instant) {
        self.shutdown.cancel();
        let all = async { while self.clients.join_next().await.is_some() {} };
        if tokio::time::timeout_at(deadline, all).await.is_err() {
            self.clients.shutdown().await;
        }
    }
}

/// What a client knows of itself.
struct Us {
    writer: usize,
    heads: Vec<String>,
    /// Messages a second.
    rate: f64,
    history: Rc<RefCell<History>>,
    shutdown: CancellationToken,
}

impl Us {
    async fn library(self, id: ClientId) {
        let config = client::Config {
            id,
            retry_for: limits::TORTURE_RETRY_TIME,
            window_messages: limits::TORTURE_IN_FLIGHT_MESSAGES_MAX,
            ..client::Config::new(self.heads.clone())
        };
        let (sender, mut receipts) = client::connect(config);
        let us = &self;
        let sending = async move {
            let mut pace = Pace::new(us.rate);
            while us.goes_on(&mut pace).await {
                for _ in 0..pace.due(Instant::now()) {
                    let message = us.history.borrow().expected.next(us.writer);
                    let (text, source) = (Bytes::from(message.to_string()), message.source());
                    let accepted = match source {
                        Some(source) => sender.send_as(source, text).await,
                        None => sender.send(text).await,
                    };
                    let Ok(seq) = accepted else { return };
                    us.history.borrow_mut().sent(us.writer);
                    if seq != message.n {
                        let text =
                            format!("the library numbers message {} of client {} as {seq}", message.n, us.writer);
                        us.history.borrow_mut().trouble(text);
                    }
                }
            }
        };
        let receiving = async {
            while let Some(outcome) = receipts.next().await {
                let mut history = self.history.borrow_mut();
                match outcome {
                    Outcome::Acked(ack) => {
                        let how = format!("{} by {}", ack.first, ack.nodes.join(","));
                        history.acked(self.writer, ack.first_seq, ack.count.into(), how);
                    }
                    Outcome::Refused { first_seq, count, refusal } => {
                        history.refused(self.writer, first_seq, count.into(), &refusal.text);
                    }
                }
            }
        };
        tokio::join!(sending, receiving);
    }

    /// Waits for the next tick; false at the end.
    async fn goes_on(&self, pace: &mut Pace) -> bool {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => false,
            _tick = pace.ticks.tick() => true,
        }
    }

    async fn lines(self) {
        let mut turn = 0;
        while !self.shutdown.is_cancelled() {
            let Some(head) = self.heads.get(turn % self.heads.len().max(1)) else { return };
            let name = self.history.borrow().expected.next(self.writer).source();
            let opened = timeout(limits::TORTURE_STATUS_TIME_MAX, open(head, name)).await;
            if let Ok(Ok(socket)) = opened {
                let waiting = RefCell::new(VecDeque::new());
                let ended = self.converse(socket, &waiting).await;
                for n in waiting.take() {
                    self.history.borrow_mut().unknown(self.writer, n);
                }
                tracing::debug!("a text client's connection to {head}: {ended}");
            }
            turn += 1;
            sleep(limits::BACKOFF_MIN).await;
        }
    }

    /// Sends and reads answers until the connection ends; how, in words. What has no answer then is left in `waiting`.
    async fn converse(&self, socket: BufReader<Stream>, waiting: &RefCell<VecDeque<u64>>) -> String {
        let (read_half, mut write_half) = tokio::io::split(socket);
        let room = Notify::new();
        let writer = async {
            let mut pace = Pace::new(self.rate);
            while self.goes_on(&mut pace).await {
                let mut lines = String::new();
                for _ in 0..pace.due(Instant::now()) {
                    while waiting.borrow().len() >= limits::TORTURE_LINES_WAITING_MAX {
                        room.notified().await;
                    }
                    let message = self.history.borrow_mut().sent(self.writer);
                    waiting.borrow_mut().push_back(message.n);
                    lines.push_str(&message.to_string());
                    lines.push('\n');
                }
                write_half.write_all(lines.as_bytes()).await?;
            }
            // Everything that was sent is answered before the head closes.
            write_half.shutdown().await?;
            std::future::pending::<std::io::Result<()>>().await
        };
        let reader = async {
            let mut answers = BufReader::new(read_half).lines();
            loop {
                match timeout(limits::TORTURE_SILENCE_MAX, answers.next_line()).await {
                    Ok(Ok(Some(answer))) => self.answered(&answer, waiting),
                    Ok(Ok(None)) => return "it is closed".to_owned(),
                    Ok(Err(error)) => return error.to_string(),
                    Err(_) if waiting.borrow().is_empty() => {}
                    Err(_) => return "it is silent".to_owned(),
                }
                room.notify_one();
            }
        };
        let (mut writer, mut reader) = (pin!(writer), pin!(reader));
        tokio::select! {
            biased;
            ended = &mut reader => ended,
            // A head that closed may have answered before.
            _broken = &mut writer => timeout(limits::CLOSE_TIME_MAX, reader).await.unwrap_or_default(),
        }
    }

    fn answered(&self, answer: &str, waiting: &RefCell<VecDeque<u64>>) {
        let mut history = self.history.borrow_mut();
        if answer.ends_with(RECIBIDO) {
            match waiting.borrow_mut().pop_front() {
                Some(n) => history.acked(self.writer, n, 1, answer),
                None => history.trouble(format!("an answer without a message for client {}: {answer}", self.writer)),
            }
        } else if answer.starts_with("error: ") {
            // The head's last words as it stops answer no message.
            if let Some(n) = waiting.borrow_mut().pop_front() {
                history.refused(self.writer, n, 1, answer);
            }
        } else {
            history.trouble(format!("client {} does not understand the answer {answer:?}", self.writer));
        }
    }
}

/// A line client's connection, after its handshake.
async fn open(head: &str, name: Option<SourceName>) -> std::io::Result<BufReader<Stream>> {
    let mut socket = BufReader::new(Net::default().dial(head, None).await?);
    let opening = name.map_or_else(|| "peticion\n".to_owned(), |name| format!("peticion {name}\n"));
    socket.write_all(opening.as_bytes()).await?;
    let mut answer = String::new();
    socket.read_line(&mut answer).await?;
    if answer == "confirmacion\n" { Ok(socket) } else { Err(std::io::Error::other(answer)) }
}

/// How many messages are due, tick by tick. Time in which nothing could be sent is not made up for.
struct Pace {
    ticks: tokio::time::Interval,
    per_second: f64,
    last: Instant,
    owed: f64,
}

impl Pace {
    fn new(per_second: f64) -> Self {
        let mut ticks = interval(limits::TORTURE_TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { ticks, per_second, last: Instant::now(), owed: 0.0 }
    }

    fn due(&mut self, now: Instant) -> u64 {
        let passed = now.duration_since(self.last).min(limits::TORTURE_TICK * 2);
        self.last = now;
        self.owed += self.per_second * passed.as_secs_f64();
        let due = self.owed.floor();
        self.owed -= due;
        due as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_pace_is_kept_and_lost_time_is_not_made_up_for() {
        let mut pace = Pace::new(250.0);
        let mut now = pace.last;
        let mut sent = 0;
        for _ in 0..1_000 {
            now += limits::TORTURE_TICK;
            sent += pace.due(now);
        }
        let wanted = 250.0 * limits::TORTURE_TICK.as_secs_f64() * 1_000.0;
        assert!((sent as f64 - wanted).abs() <= 1.0, "{sent} of {wanted}");
        now += limits::TORTURE_TICK * 1_000;
        assert!(pace.due(now) as f64 <= 250.0 * limits::TORTURE_TICK.as_secs_f64() * 2.0 + 1.0);
    }
}
