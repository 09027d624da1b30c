//! The front: takes in what publishers send, each one's in its order.
//!
//! What waits for the broker is bounded for all publishers together. Past it nothing more is read, so that it waits in the
//! publishers, whose own queues decide.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use omq_tokio::SocketType;
use omq_tokio::proto::command::Command;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::port::{self, Ended, Kind, Peer, Port, Serve, Silence};
use super::{Address, Bounds, Error, Message};
use crate::limits;

/// A port for publishers.
pub(crate) struct Front {
    incoming: Rc<Incoming>,
    port: Port,
}

#[derive(Default)]
struct Incoming {
    messages: RefCell<VecDeque<Message>>,
    bytes: Cell<usize>,
    /// Told when there is a message.
    came: Notify,
    /// Told when there is room.
    freed: Notify,
}

impl Front {
    /// Listens, and wants everything of everybody.
    pub(crate) async fn bind(at: &Address, bounds: &Bounds, who: &'static str) -> Result<Self, Error> {
        let incoming = Rc::new(Incoming::default());
        let kind = Kind { who, socket: SocketType::Sub, message_bytes_max: bounds.message_bytes_max };
        let port = Port::bind(at, kind, bounds, Rc::clone(&incoming)).await?;
        Ok(Self { incoming, port })
    }

    /// The next messages, one at least, each publisher's in its order. Dropping the future loses none.
    pub(crate) async fn recv_many(&self, most: usize, into: &mut Vec<Message>) {
        let Incoming { messages, bytes, came, freed } = &*self.incoming;
        while messages.borrow().is_empty() {
            came.notified().await;
        }
        let mut messages = messages.borrow_mut();
        let taken = messages.len().min(most);
        let before = into.len();
        into.extend(messages.drain(..taken));
        bytes.set(bytes.get() - into.iter().skip(before).map(cost).sum::<usize>());
        freed.notify_waiters();
    }

    /// Closes; what it has not handed out is lost.
    pub(crate) async fn close(self) {
        self.port.close().await;
    }
}

/// What a message takes while it waits.
fn cost(message: &Message) -> usize {
    limits::TOPIC_FRAME_EXTRA_BYTES + message.byte_len()
}

impl Incoming {
    /// Takes one in once there is room.
    async fn push(&self, message: Message) {
        while self.bytes.get() >= limits::PUBLISHERS_QUEUE_BYTES_MAX {
            self.freed.notified().await;
        }
        self.bytes.set(self.bytes.get() + cost(&message));
        self.messages.borrow_mut().push_back(message);
        self.came.notify_one();
    }

    async fn attend(&self, peer: &mut Peer) -> Result<(), Ended> {
        let Peer { socket, wire, buffer, .. } = peer;
        let (mut read, mut write) = socket.split();
        wire.set_input_budget(true);
        wire.send_command(&Command::Subscribe(Bytes::new()))?;
        let mut silence = Silence::begin(wire);
        loop {
            // One that does not read its few words for so long is not there.
            timeout(limits::TOPIC_PING_TIME_MAX, port::say(wire, &mut write))
                .await
                .map_err(|_| Ended::Cut("it does not read".to_owned()))??;
            while let Some(message) = wire.poll_message() {
                self.push(Message(message)).await;
            }
            // Commands of a publisher mean nothing here.
            while wire.poll_event().is_some() {}
            if wire.has_pending_input() {
                wire.resume_input()?;
                continue;
            }
            tokio::select! {
                biased;
                heard = port::hear(&mut read, buffer) => {
                    silence.broken();
                    wire.handle_input(heard?)?;
                }
                long = silence.is_long() => {
                    if let Some(question) = long? {
                        wire.send_command(&question)?;
                    }
                }
            }
        }
    }
}

impl Serve for Incoming {
    async fn serve(&self, mut peer: Peer) -> Ended {
        match self.attend(&mut peer).await {
            Ok(()) => Ended::Closed,
            Err(ended) => ended,
        }
    }
}
