//! What waits to be written to one connection: a buffer, a wake-up, and an end.
//!
//! Whoever has something to say appends to the buffer; the connection's own task writes all of it at once, so what
//! gathers while a write is under way becomes the next write. The bound of the buffer is kept by who appends: a
//! client's answers by [`limits::CLIENT_ANSWERS_BYTES_MAX`](crate::limits), a node's Puts by its window.

use std::cell::{Cell, RefCell};
use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use crate::limits;

/// The outgoing side of one connection.
#[derive(Debug, Default)]
pub struct Outbox {
    buffer: RefCell<BytesMut>,
    wake: Notify,
    /// Told when the buffer has been written: who waits for the peer to read its answers waits here.
    written: Notify,
    closing: Cell<bool>,
    /// Nobody reads any more: what is said is let go.
    deaf: Cell<bool>,
}

impl Outbox {
    /// Appends through `write`, and wakes the connection's task.
    pub fn with<T>(&self, write: impl FnOnce(&mut BytesMut) -> T) -> T {
        let mut buffer = self.buffer.borrow_mut();
        let was_empty = buffer.is_empty();
        let result = write(&mut buffer);
        if self.deaf.get() {
            buffer.clear();
        }
        if was_empty && !buffer.is_empty() {
            self.wake.notify_one();
        }
        result
    }

    /// Bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffer.borrow().len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Resolves after the next write, for who waits until the peer has read.
    pub async fn drained(&self) {
        self.written.notified().await;
    }

    /// The connection takes nothing any more: from now on all that is said is let go, and nobody waits for the peer.
    pub fn let_go(&self) {
        self.deaf.set(true);
        self.buffer.borrow_mut().clear();
        self.written.notify_waiters();
    }

    /// Resolves once nobody reads what is said.
    pub async fn unheard(&self) {
        loop {
            let written = self.written.notified();
            if self.deaf.get() {
                return;
            }
            written.await;
        }
    }

    /// Nothing more comes: [`pump`](Self::pump) writes the rest and ends.
    pub fn close(&self) {
        self.closing.set(true);
        self.wake.notify_one();
    }

    /// Writes what comes until [`close`](Self::close), then shuts the writing side down.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn pump(&self, mut socket: impl AsyncWrite + Unpin) -> io::Result<()> {
        let mut writing = BytesMut::new();
        loop {
            std::mem::swap(&mut *self.buffer.borrow_mut(), &mut writing);
            if writing.is_empty() {
                if self.closing.get() {
                    return socket.shutdown().await;
                }
                self.wake.notified().await;
                continue;
            }
            socket.write_all(&writing).await?;
            writing.clear();
            if writing.capacity() > limits::OUTBOX_KEEP_BYTES {
                writing = BytesMut::new();
            }
            self.written.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test(flavor = "current_thread")]
    async fn what_waits_is_written_before_the_end() {
        let (ours, mut theirs) = tokio::io::duplex(4);
        let outbox = Outbox::default();
        outbox.with(|buffer| buffer.extend_from_slice(b"confirmacion"));
        outbox.close();
        let mut text = String::new();
        let (pumped, read) = tokio::join!(outbox.pump(ours), theirs.read_to_string(&mut text));
        pumped.unwrap();
        read.unwrap();
        assert_eq!(text, "confirmacion");
    }
}
