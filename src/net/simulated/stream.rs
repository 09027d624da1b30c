//! One end of a simulated connection: what a socket does, on a pipe of packets.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use rand::RngExt;
use tokio::io::ReadBuf;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{Packet, Pipe, SimNet};

/// One end of a connection. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct SimStream {
    net: SimNet,
    key: u64,
    end: usize,
    local: SocketAddr,
    peer: SocketAddr,
    /// The arrival of the next packet.
    arrival: Mutex<Option<Pin<Box<Sleep>>>>,
}

impl SimStream {
    pub(super) fn new(net: &SimNet, key: u64, end: usize, [local, peer]: [SocketAddr; 2]) -> Self {
        Self { net: net.clone(), key, end, local, peer, arrival: Mutex::new(None) }
    }

    /// The address of this end.
    #[must_use]
    pub(crate) const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The address of the other end.
    #[must_use]
    pub(crate) const fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// Reads what has arrived; nothing at the end.
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.net.inner();
        let passes = inner.passes(self.peer.ip(), self.local.ip());
        let Some(connection) = inner.connections.get_mut(&self.key) else { return reset() };
        if connection.reset.get(self.end) == Some(&true) || connection.gone.get(self.end) == Some(&true) {
            return reset();
        }
        let Some(pipe) = connection.pipes.get_mut(1 - self.end) else { return reset() };
        let next = pipe.packets.front().map(|(at, _)| *at).filter(|_| passes);
        let Some(at) = next else {
            pipe.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        if at > Instant::now() {
            pipe.reader = Some(cx.waker().clone());
            drop(inner);
            return self.wait_until(at, cx);
        }
        let read = match pipe.packets.front_mut() {
            Some((_, Packet::Bytes(bytes))) => {
                let count = bytes.len().min(buf.remaining());
                buf.put_slice(bytes.get(..count).unwrap_or_default());
                bytes.advance(count);
                let read = u64::from(crc32c::crc32c(buf.filled())) << 32 | count as u64;
                pipe.held -= count;
                if bytes.is_empty() {
                    pipe.packets.pop_front();
                }
                if let Some(writer) = pipe.writer.take() {
                    writer.wake();
                }
                read
            }
            // The end stays in the pipe: it is read as often as anybody looks.
            Some((_, Packet::End)) | None => 1,
            Some((_, Packet::Reset)) => {
                if let Some(end) = connection.reset.get_mut(self.end) {
                    *end = true;
                }
                connection.pipes.iter_mut().for_each(Pipe::wake);
                inner.note(self.key << 8 | 2);
                return reset();
            }
        };
        inner.note(read);
        inner.note(self.key << 8 | self.end as u64);
        Poll::Ready(Ok(()))
    }

    fn wait_until(&self, at: Instant, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut arrival = self.arrival.lock().unwrap_or_else(PoisonError::into_inner);
        let sleep = arrival.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.deadline() != at {
            sleep.as_mut().reset(at);
        }
        if sleep.as_mut().poll(cx).is_ready() {
            // It is a timer's tick later already: look again.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Takes some of the bytes, as far as the pipe has room.
    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.net.inner();
        let (room_max, split) = (inner.weather.pipe_bytes, inner.weather.split_share);
        let passes = inner.passes(self.peer.ip(), self.local.ip());
        let split = inner.rng.random_bool(split);
        let Some(connection) = inner.connections.get_mut(&self.key) else { return reset() };
        if connection.reset.get(self.end) == Some(&true) || connection.gone.get(self.end) == Some(&true) {
            return reset();
        }
        // A reset that has arrived counts for who only writes, too.
        let arrived = connection.pipes.get(1 - self.end).and_then(|pipe| pipe.packets.back());
        if passes && arrived.is_some_and(|(at, packet)| *at <= Instant::now() && matches!(packet, Packet::Reset)) {
            return reset();
        }
        let Some(pipe) = connection.pipes.get_mut(self.end) else { return reset() };
        if pipe.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if pipe.unread {
            // The other end is gone. The system there answers this with a reset, which takes its time.
            inner.abort(self.key, 1 - self.end);
            return Poll::Ready(Ok(bytes.len()));
        }
        let room = room_max.saturating_sub(pipe.held);
        if room == 0 {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut taken = bytes.len().min(room);
        if split && taken > 1 {
            taken = inner.rng.random_range(1..taken);
        }
        let packet = Bytes::copy_from_slice(bytes.get(..taken).unwrap_or_default());
        inner.send(self.key, self.end, Packet::Bytes(packet));
        Poll::Ready(Ok(taken))
    }

    /// Nothing more is written.
    pub(crate) fn shut_down(&self) {
        let mut inner = self.net.inner();
        let pipe = inner.connections.get(&self.key).and_then(|connection| connection.pipes.get(self.end));
        if pipe.is_some_and(|pipe| !pipe.ended) {
            inner.send(self.key, self.end, Packet::End);
        }
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.net.inner().close(self.key, self.end, false);
    }
}

fn reset<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
}
