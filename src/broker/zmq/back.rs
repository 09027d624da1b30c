//! The back: publishes to subscribers, each with a queue of its own, and tells how much one that is slow does not get.
//!
//! A message is encoded at once into the queue of everybody who wants it, and a queue is written as it is: what waits for a
//! subscriber takes the bytes that it is going to get.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use omq_tokio::SocketType;
use omq_tokio::proto::command::Command;
use omq_tokio::proto::{Connection, Event};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::port::{self, Ended, Kind, Peer, Port, Serve, Silence};
use super::wanted::Wanted;
use super::{Address, Bounds, Error, Message, Slow};
use crate::limits;
use crate::net::Stream;

/// A port for subscribers.
pub(crate) struct Back {
    hall: Rc<Hall>,
    port: Port,
}

/// Who is there.
struct Hall {
    who: &'static str,
    slow: Slow,
    /// Messages that wait for one.
    queue: usize,
    subscribers: RefCell<Vec<Rc<Subscriber>>>,
    /// Told when a queue is shorter, or a subscriber is gone.
    freed: Notify,
    closing: Cell<bool>,
}

struct Subscriber {
    address: SocketAddr,
    state: RefCell<State>,
    /// Told when its queue is not empty any more.
    wake: Notify,
}

struct State {
    wire: Connection,
    wanted: Wanted,
    queue: Queue,
    /// Messages that it did not get and that nobody was told of.
    not_sent: u64,
    /// Topics that it asked for and was refused, likewise.
    refused: u64,
}

impl Back {
    /// Listens.
    pub(crate) async fn bind(at: &Address, bounds: &Bounds, who: &'static str) -> Result<Self, Error> {
        let hall = Rc::new(Hall {
            who,
            slow: bounds.slow,
            queue: usize::try_from(bounds.queue).unwrap_or(usize::MAX),
            subscribers: RefCell::default(),
            freed: Notify::new(),
            closing: Cell::new(false),
        });
        // What subscribers have to say is which topics they want.
        let kind = Kind { who, socket: SocketType::Pub, message_bytes_max: limits::SUBSCRIBER_MESSAGE_BYTES_MAX };
        let port = Port::bind(at, kind, bounds, Rc::clone(&hall)).await?;
        Ok(Self { hall, port })
    }

    /// Sends to whoever wants it, or waits for room as [`Slow`] says. What nobody wants goes nowhere.
    pub(crate) async fn send(&self, message: &Message) {
        let hall = &*self.hall;
        if hall.slow == Slow::Wait {
            while hall.subscribers.borrow().iter().any(|one| one.holds_up(message, hall.queue)) {
                hall.freed.notified().await;
            }
        }
        for subscriber in hall.subscribers.borrow().iter() {
            subscriber.offer(message, hall);
        }
    }

    /// Sends what is under way, for a while, and closes.
    pub(crate) async fn close(self, within: Duration) {
        self.hall.closing.set(true);
        for subscriber in self.hall.subscribers.borrow().iter() {
            subscriber.wake.notify_one();
        }
        let gone = async {
            while !self.hall.subscribers.borrow().is_empty() {
                self.hall.freed.notified().await;
            }
        };
        drop(timeout(within, gone).await);
        self.port.close().await;
    }
}

impl Subscriber {
    /// Whether it wants a message that there is no room for.
    fn holds_up(&self, message: &Message, most: usize) -> bool {
        let state = self.state.borrow();
        !state.queue.has_room(message.byte_len(), most) && state.wanted.matches(message.topic())
    }

    fn offer(&self, message: &Message, hall: &Hall) {
        let mut state = self.state.borrow_mut();
        if !state.wanted.matches(message.topic()) {
            return;
        }
        let State { wire, queue, not_sent, .. } = &mut *state;
        while !queue.has_room(message.byte_len(), hall.queue) {
            *not_sent += 1;
            if hall.slow != Slow::DropOldest || !queue.drop_oldest() {
                return;
            }
        }
        let was_empty = queue.is_empty();
        queue.push(|bytes| encode(wire, message, bytes));
        if was_empty {
            self.wake.notify_one();
        }
    }
}

/// Appends a message as it goes over the wire.
fn encode(wire: &mut Connection, message: &Message, bytes: &mut BytesMut) {
    if !wire.has_frame_transform() {
        return wire.send_message_flat(&message.0, bytes);
    }
    // It can be refused only before the handshake, or once all numbers of encrypted messages are used up.
    if wire.send_message(&message.0).is_ok() {
        said(wire, bytes);
    }
}

/// Appends what the protocol has to say by itself.
fn said(wire: &mut Connection, bytes: &mut BytesMut) {
    let words = wire.poll_transmit();
    bytes.extend_from_slice(&words);
    wire.advance_transmit(words.len());
}

impl Hall {
    async fn attend(&self, subscriber: &Subscriber, socket: &mut Stream, mut buffer: BytesMut) -> Result<(), Ended> {
        let (mut read, mut write) = socket.split();
        let mut silence = Silence::begin(&subscriber.state.borrow().wire);
        let mut writing = BytesMut::new();
        loop {
            self.listen(subscriber)?;
            if writing.is_empty() && subscriber.state.borrow_mut().queue.take(&mut writing) {
                self.freed.notify_waiters();
            }
            if writing.is_empty() && self.closing.get() {
                return Ok(());
            }
            tokio::select! {
                biased;
                heard = port::hear(&mut read, &mut buffer) => {
                    silence.broken();
                    subscriber.state.borrow_mut().wire.handle_input(heard?)?;
                }
                written = write.write(&writing), if !writing.is_empty() => {
                    silence.broken();
                    writing.advance(written?);
                }
                () = subscriber.wake.notified(), if writing.is_empty() => {}
                long = silence.is_long() => {
                    if let Some(question) = long? {
                        subscriber.state.borrow_mut().wire.send_command(&question)?;
                    }
                }
            }
        }
    }

    /// Looks at what a subscriber has said, and queues what the protocol answers.
    fn listen(&self, subscriber: &Subscriber) -> Result<(), Ended> {
        let mut state = subscriber.state.borrow_mut();
        let State { wire, wanted, queue, refused, .. } = &mut *state;
        while let Some(event) = wire.poll_event() {
            match event {
                Event::Command(Command::Subscribe(prefix)) => *refused += self.adds(wanted, &prefix),
                Event::Command(Command::Cancel(prefix)) => wanted.remove(&prefix),
                _ => {}
            }
        }
        // ZMTP 3.0 has no commands for it.
        while let Some(message) = wire.poll_message() {
            match message.part_slice(0).and_then(<[u8]>::split_first) {
                Some((1, prefix)) => *refused += self.adds(wanted, prefix),
                Some((0, prefix)) => wanted.remove(prefix),
                _ => {}
            }
        }
        if wire.has_pending_transmit() {
            if !queue.has_room(wire.pending_transmit_size(), self.queue) {
                return Err(Ended::Cut("it asks and does not read".to_owned()));
            }
            queue.push(|bytes| said(wire, bytes));
        }
        Ok(())
    }

    /// How many topics are refused: this one or none.
    fn adds(&self, wanted: &mut Wanted, prefix: &[u8]) -> u64 {
        let added = wanted.add(prefix);
        if added.is_ok() {
            tracing::debug!("a {} asks for topics that begin with {:?}", self.who, String::from_utf8_lossy(prefix));
        }
        u64::from(added.is_err())
    }

    /// Tells what a subscriber did not get.
    fn tell(&self, subscriber: &Subscriber) {
        let (who, address, mut state) = (self.who, &subscriber.address, subscriber.state.borrow_mut());
        let (not_sent, refused) = (std::mem::take(&mut state.not_sent), std::mem::take(&mut state.refused));
        if not_sent > 0 {
            tracing::warn!(
                "{who} {address} is too slow: {not_sent} messages were not sent to it; see --queue and --slow"
            );
        }
        if refused > 0 {
            tracing::warn!("{who} {address} asked for too many topics, or too long ones: it gets nothing of {refused}");
        }
    }
}

impl Serve for Hall {
    async fn serve(&self, peer: Peer) -> Ended {
        let Peer { mut socket, wire, address, buffer } = peer;
        let state = State { wire, wanted: Wanted::default(), queue: Queue::default(), not_sent: 0, refused: 0 };
        let subscriber = Rc::new(Subscriber { address, state: RefCell::new(state), wake: Notify::new() });
        self.subscribers.borrow_mut().push(Rc::clone(&subscriber));
        let attended = self.attend(&subscriber, &mut socket, buffer).await;
        self.subscribers.borrow_mut().retain(|one| !Rc::ptr_eq(one, &subscriber));
        self.freed.notify_waiters();
        self.tell(&subscriber);
        attended.err().unwrap_or(Ended::Closed)
    }

    fn second(&self) {
        for subscriber in self.subscribers.borrow().iter() {
            self.tell(subscriber);
        }
    }
}

/// Encoded messages that wait for one subscriber.
#[derive(Default)]
struct Queue {
    bytes: BytesMut,
    lengths: VecDeque<usize>,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Whether a message of so many bytes may wait beside those that do.
    fn has_room(&self, bytes: usize, most: usize) -> bool {
        self.is_empty() || (self.lengths.len() < most && self.bytes.len() + bytes <= limits::SUBSCRIBER_QUEUE_BYTES_MAX)
    }

    fn push(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let before = self.bytes.len();
        write(&mut self.bytes);
        self.lengths.push_back(self.bytes.len() - before);
    }

    /// Whether there was one.
    fn drop_oldest(&mut self) -> bool {
        let oldest = self.lengths.pop_front();
        self.bytes.advance(oldest.unwrap_or_default());
        oldest.is_some()
    }

    /// Hands out whole messages, so many that one write is worth it, into a buffer that is empty; whether there were any.
    fn take(&mut self, into: &mut BytesMut) -> bool {
        let mut bytes = 0;
        while let Some(&length) = self.lengths.front() {
            if bytes > 0 && bytes + length > limits::SUBSCRIBER_WRITE_BYTES {
                break;
            }
            bytes += length;
            self.lengths.pop_front();
        }
        if self.is_empty() {
            // The two take turns, and what a large message needed is not kept.
            std::mem::swap(&mut self.bytes, into);
            if self.bytes.capacity() > limits::SUBSCRIBER_QUEUE_BYTES_MAX {
                self.bytes = BytesMut::new();
            }
        } else {
            *into = self.bytes.split_to(bytes);
        }
        bytes > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(lengths: &[usize]) -> Queue {
        let mut queue = Queue::default();
        for (k, &length) in lengths.iter().enumerate() {
            queue.push(|bytes| bytes.resize(bytes.len() + length, b'a' + k as u8));
        }
        queue
    }

    #[test]
    fn what_waits_is_bounded_in_number_and_bytes_and_one_may_be_larger() {
        let max = limits::SUBSCRIBER_QUEUE_BYTES_MAX;
        assert!(queue(&[]).has_room(10 * max, 1));
        assert!(queue(&[1]).has_room(max - 1, 2) && !queue(&[1]).has_room(max, 2));
        assert!(!queue(&[1, 1]).has_room(0, 2));
        assert!(!queue(&[10 * max]).has_room(0, 2));
    }

    #[test]
    fn whole_messages_are_taken_and_the_oldest_is_the_one_that_is_dropped() {
        let most = limits::SUBSCRIBER_WRITE_BYTES;
        let mut queue = queue(&[2, 3, most, 1]);
        assert!(queue.drop_oldest());
        let mut into = BytesMut::new();
        assert!(queue.take(&mut into));
        assert_eq!(into, "bbb", "the next is too much for one write");
        into.clear();
        assert!(queue.take(&mut into));
        assert_eq!(into.len(), most);
        into.clear();
        assert!(queue.take(&mut into));
        assert_eq!(into, "d");
        into.clear();
        assert!(!queue.take(&mut into) && !queue.drop_oldest() && into.is_empty());
    }
}
