//! What waits to be written to one connection: a buffer, a wake-up, and an end.
//!
//! Whoever has something to say appends to the buffer; the connection's own task writes all of it at once, so what
//! gathers while a write is under way becomes the next write. Who appends keeps the bound of its kind: a client's answers
//! [`limits::CLIENT_ANSWERS_BYTES_MAX`], a node's Puts their window, and answers to what the peer itself asked
//! [`limits::ANSWERS_BYTES_MAX`], by reading no further. Beyond all of them is [`limits::OUTBOX_BYTES_MAX`]: a peer for
//! which more waits does not read, and its connection is given up.

use std::cell::{Cell, RefCell};
use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::limits;

/// Why a connection is given up for which more waits than there may.
pub(crate) const UNREAD: &str = "it does not read what it is sent";

/// Why nothing is kept for a peer whose connection broke.
const BROKEN: &str = "its connection broke";

/// The outgoing side of one connection.
#[derive(Debug)]
pub(crate) struct Outbox {
    buffer: RefCell<BytesMut>,
    wake: Notify,
    /// Told when something has been written: who waits for the peer to read its answers waits here.
    written: Notify,
    /// Bytes of the write under way that the system has not taken.
    writing: Cell<usize>,
    /// Bytes in the buffer that the peer asked for.
    answers: Cell<usize>,
    /// When the system took something last, or began to be offered something.
    moved: Cell<Instant>,
    closing: Cell<bool>,
    /// Why nothing is written any more.
    failed: Cell<Option<&'static str>>,
    cut: Notify,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            buffer: RefCell::default(),
            wake: Notify::new(),
            written: Notify::new(),
            writing: Cell::new(0),
            answers: Cell::new(0),
            moved: Cell::new(Instant::now()),
            closing: Cell::new(false),
            failed: Cell::new(None),
            cut: Notify::new(),
        }
    }
}

impl Outbox {
    /// Appends through `write`, and wakes the connection's task.
    pub(crate) fn with<T>(&self, write: impl FnOnce(&mut BytesMut) -> T) -> T {
        let mut buffer = self.buffer.borrow_mut();
        let was_empty = buffer.is_empty();
        let result = write(&mut buffer);
        if buffer.len() + self.writing.get() > limits::OUTBOX_BYTES_MAX {
            self.cut(UNREAD);
        }
        if self.failed.get().is_some() {
            *buffer = BytesMut::new();
        } else if was_empty && !buffer.is_empty() {
            self.wake.notify_one();
        }
        result
    }

    /// As [`with`](Self::with), for an answer to what the peer asked: [`answers_read`](Self::answers_read) waits for it.
    pub(crate) fn answer<T>(&self, write: impl FnOnce(&mut BytesMut) -> T) -> T {
        let before = self.buffer.borrow().len();
        let result = self.with(write);
        let more = self.buffer.borrow().len().saturating_sub(before);
        self.answers.set(self.answers.get() + more);
        result
    }

    /// Bytes that wait, those of the write under way included.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.buffer.borrow().len() + self.writing.get()
    }

    /// Whether nothing waits.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When the peer made room last, or what waits began to wait.
    #[must_use]
    pub(crate) const fn moved(&self) -> Instant {
        self.moved.get()
    }

    /// Resolves after the next write, for who waits until the peer has read.
    pub(crate) async fn drained(&self) {
        self.written.notified().await;
    }

    /// Waits until the peer reads the answers to what it asked: until then nothing more is read from it.
    pub(crate) async fn answers_read(&self) {
        self.read_below(|| self.answers.get(), limits::ANSWERS_BYTES_MAX).await;
    }

    /// Waits until less than this many bytes wait.
    pub(crate) async fn room(&self, bytes: usize) {
        self.read_below(|| self.len(), bytes).await;
    }

    async fn read_below(&self, waiting: impl Fn() -> usize, bytes: usize) {
        while waiting() >= bytes {
            self.drained().await;
        }
    }

    /// Gives the connection up: what waits is dropped, and [`pump`](Self::pump) ends with this cause.
    pub(crate) fn cut(&self, cause: &'static str) {
        if self.failed.get().is_none() {
            self.failed.set(Some(cause));
            self.cut.notify_one();
        }
    }

    /// Why the connection was given up, if it was.
    #[must_use]
    pub(crate) const fn failed(&self) -> Option<&'static str> {
        self.failed.get()
    }

    /// Why the connection was given up on this side. A peer that just went away, as a reader does at Ctrl-C, is no such case.
    #[must_use]
    pub(crate) fn given_up(&self) -> Option<&'static str> {
        self.failed.get().filter(|cause| *cause != BROKEN)
    }

    /// The connection broke: all that is said from now on is let go, and nobody waits for the peer.
    pub(crate) fn let_go(&self) {
        self.failed.set(self.failed.get().or(Some(BROKEN)));
        *self.buffer.borrow_mut() = BytesMut::new();
        self.writing.set(0);
        self.answers.set(0);
        self.written.notify_waiters();
    }

    /// Resolves once nobody reads what is said.
    pub(crate) async fn unheard(&self) {
        loop {
            let written = self.written.notified();
            if self.failed.get().is_some() {
                return;
            }
            written.await;
        }
    }

    /// Nothing more comes: [`pump`](Self::pump) writes the rest and ends.
    pub(crate) fn close(&self) {
        self.closing.set(true);
        self.wake.notify_one();
    }

    /// Writes what comes until [`close`](Self::close), then shuts the writing side down.
    ///
    /// # Errors
    /// The connection broke, or was given up.
    pub(crate) async fn pump(&self, socket: impl AsyncWrite + Unpin) -> io::Result<()> {
        tokio::select! {
            biased;
            () = self.cut.notified() => {
                self.writing.set(0);
                *self.buffer.borrow_mut() = BytesMut::new();
                Err(io::Error::other(self.failed.get().unwrap_or_default()))
            }
            written = self.write(socket) => written,
        }
    }

    async fn write(&self, mut socket: impl AsyncWrite + Unpin) -> io::Result<()> {
        let mut writing = BytesMut::new();
        loop {
            std::mem::swap(&mut *self.buffer.borrow_mut(), &mut writing);
            self.answers.set(0);
            if writing.is_empty() {
                if self.closing.get() {
                    return socket.shutdown().await;
                }
                self.wake.notified().await;
                continue;
            }
            let capacity = writing.capacity();
            self.moved.set(Instant::now());
            while !writing.is_empty() {
                self.writing.set(writing.len());
                let taken = socket.write(&writing).await?;
                if taken == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                writing.advance(taken);
                if !writing.is_empty() {
                    self.moved.set(Instant::now());
                    self.writing.set(writing.len());
                    self.written.notify_waiters();
                }
            }
            self.writing.set(0);
            if capacity > limits::OUTBOX_KEEP_BYTES {
                writing = BytesMut::new();
            } else {
                // What was advanced over comes back, as long as nobody shares it.
                writing.reserve(capacity);
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

    #[test]
    fn a_peer_that_went_away_was_not_given_up() {
        let (gone, cut) = (Outbox::default(), Outbox::default());
        gone.let_go();
        assert_eq!((gone.failed(), gone.given_up()), (Some(BROKEN), None));
        cut.cut(UNREAD);
        cut.let_go();
        assert_eq!((cut.failed(), cut.given_up()), (Some(UNREAD), Some(UNREAD)));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn answers_wait_for_their_reader_and_what_was_pushed_does_not() {
        let (ours, mut theirs) = tokio::io::duplex(4);
        let outbox = Outbox::default();
        outbox.with(|buffer| buffer.resize(2 * limits::ANSWERS_BYTES_MAX, b'p'));
        outbox.answers_read().await;
        outbox.answer(|buffer| buffer.resize(3 * limits::ANSWERS_BYTES_MAX, b'a'));
        let mut rest = Vec::new();
        let waits = async {
            outbox.answers_read().await;
            outbox.close();
        };
        let (pumped, (), read) = tokio::join!(outbox.pump(ours), waits, theirs.read_to_end(&mut rest));
        pumped.unwrap();
        read.unwrap();
        assert_eq!(rest.len(), 3 * limits::ANSWERS_BYTES_MAX);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_peer_that_never_reads_is_given_up_and_nothing_more_is_kept_for_it() {
        let (ours, _theirs) = tokio::io::duplex(4);
        let outbox = Outbox::default();
        let says = async {
            for _ in 0..limits::OUTBOX_BYTES_MAX / 1024 + 10 {
                outbox.with(|buffer| buffer.extend_from_slice(&[b'm'; 1024]));
                tokio::task::yield_now().await;
                assert!(outbox.len() <= limits::OUTBOX_BYTES_MAX);
            }
        };
        let (pumped, ()) = tokio::join!(outbox.pump(ours), says);
        assert_eq!(pumped.unwrap_err().to_string(), UNREAD);
        assert_eq!((outbox.len(), outbox.failed()), (0, Some(UNREAD)));
    }
}
