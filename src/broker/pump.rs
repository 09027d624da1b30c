//! What an active broker does all day: it takes messages from publishers, offers those that are to be kept, and sends them on.
//!
//! Where forwarding has to wait until a message is kept, what waits is bounded, and past it nothing more is read: the
//! publishers' own queues fill.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;

use tokio::time::{Instant, sleep};

use super::Config;
use super::keep::Keeper;
use super::pace::Pace;
use super::zmq::back::Back;
use super::zmq::front::Front;
use super::zmq::{Error, Message};
use crate::limits;

/// It was not told for too long that it may forward.
#[derive(Debug)]
pub(super) struct Late;

/// The two ports of an active broker, and what runs between them.
pub(super) struct Pump<'a> {
    ports: Rc<Ports>,
    running: Pin<Box<dyn Future<Output = Late> + 'a>>,
}

struct Ports {
    front: Front,
    back: Back,
}

impl<'a> Pump<'a> {
    pub(super) async fn open(
        config: &Config,
        keeper: Option<&'a Keeper>,
        lease: Rc<Cell<Option<Instant>>>,
    ) -> Result<Self, Error> {
        let (bounds, at) = (config.server(), config.ports);
        // Subscribers first: what is published is for them.
        let back = Back::bind(&config.own(at.subscribers), &bounds, "subscriber").await?;
        let front = Front::bind(&config.own(at.publishers), &bounds, "publisher").await?;
        let ports = Rc::new(Ports { front, back });
        let forward = Forward { ports: Rc::clone(&ports), lease, batch: Vec::with_capacity(limits::TOPIC_BATCH_MAX) };
        let running = async move {
            match keeper {
                Some(keeper) if keeper.is_required() => forward.once_kept(keeper).await,
                keeper => forward.at_once(keeper).await,
            }
        };
        Ok(Self { ports, running: Box::pin(running) })
    }

    /// Forwards until it ends. Dropping the future and asking again goes on.
    pub(super) async fn ended(&mut self) -> Late {
        poll_fn(|cx| self.running.as_mut().poll(cx)).await
    }

    /// Closes both ports; what is on its way to subscribers has a moment.
    pub(super) async fn close(self) {
        drop(self.running);
        if let Some(Ports { front, back }) = Rc::into_inner(self.ports) {
            front.close().await;
            back.close(limits::TOPIC_LINGER_MAX).await;
        }
    }
}

struct Forward {
    ports: Rc<Ports>,
    lease: Rc<Cell<Option<Instant>>>,
    batch: Vec<Message>,
}

/// Messages that are forwarded once they are kept, in their order.
#[derive(Default)]
struct Waiting {
    messages: VecDeque<Message>,
    bytes: usize,
}

impl Waiting {
    fn push(&mut self, message: Message) {
        self.bytes += limits::KEEP_EXTRA_BYTES + message.byte_len();
        self.messages.push_back(message);
    }

    fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= limits::KEEP_EXTRA_BYTES + message.byte_len();
        Some(message)
    }
}

impl Forward {
    /// What is kept is kept beside, if at all.
    async fn at_once(mut self, keeper: Option<&Keeper>) -> Late {
        let mut pace = Pace::new(Instant::now());
        loop {
            self.ports.front.recv_many(limits::TOPIC_BATCH_MAX, &mut self.batch).await;
            if !self.may_forward() {
                return Late;
            }
            let backlog = keeper.and_then(|keeper| keeper.offer(&self.batch));
            for message in self.batch.drain(..) {
                self.ports.back.send(&message).await;
            }
            // Heartbeats, connections and subscribers have their turn.
            tokio::task::yield_now().await;
            if let Some(backlog) = backlog
                && pace.pauses(backlog, Instant::now())
            {
                let from = Instant::now();
                sleep(limits::KEEP_PAUSE).await;
                pace.paused(from, Instant::now());
            }
        }
    }

    /// A log in front of every subscriber.
    async fn once_kept(mut self, keeper: &Keeper) -> Late {
        let mut waiting = Waiting::default();
        let mut kept = Vec::new();
        // What an earlier turn of this broker offered is nobody's here: its subscribers are gone.
        let mut of_before = keeper.open();
        loop {
            let has_room = waiting.bytes < keeper.queue_bytes();
            tokio::select! {
                biased;
                () = keeper.settled(&mut kept) => {}
                got = self.ports.front.recv_many(limits::TOPIC_BATCH_MAX, &mut self.batch), if has_room => got,
            }
            if !self.may_forward() {
                return Late;
            }
            let passed = of_before.min(kept.len());
            of_before -= passed;
            for kept in kept.drain(..).skip(passed) {
                let message = waiting.pop();
                if let Some(message) = message.filter(|_| kept) {
                    self.ports.back.send(&message).await;
                }
            }
            keeper.offer(&self.batch);
            for message in self.batch.drain(..) {
                if !keeper.wants(&message) {
                    self.ports.back.send(&message).await;
                } else if keeper.takes(&message) {
                    waiting.push(message.detached());
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// A process that stood still was taken for dead: what it got meanwhile went to its peer as well.
    fn may_forward(&self) -> bool {
        self.lease.get().is_some_and(|lease| Instant::now() < lease)
    }
}
