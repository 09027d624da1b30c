//! The client library: messages in, acknowledgements out, over heads that may come and go.
//!
//! [`connect`] gives two halves. A [`Sender`] accepts messages while its window has room; [`Receipts`] tells what became
//! of them, in ranges of sequence numbers. A task behind them owns the socket, goes on with the next head when one is
//! lost, and repeats what is not settled under the same client id and sequence number. [`Client`] is the simple form for
//! one message at a time, [`Keeper`] the one for many callers, and [`reader`] reads back. This module stores nothing on disk: what is not acknowledged when the process ends is unknown.

mod builder;
mod config;
mod connection;
mod keeper;
pub mod numbers;
pub mod reader;
mod status;
mod troubles;
mod unsettled;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

pub use builder::Builder;
pub use config::Config;
pub use keeper::{Keeper, Kept};
#[cfg(feature = "simulation")]
pub(crate) use status::status_on;
pub use status::{
    Asker, Change, Leaving, devices, drain, set_copies, status, status_with_clients, status_with_ledgers,
};
pub use troubles::Trouble;

#[cfg(feature = "tls")]
pub use crate::net::tls::{Tls, TlsError};

use crate::limits;
use crate::wire::error::Refusal;
use crate::wire::frame::SyncMode;
use crate::wire::id::RecordId;
use crate::wire::source::SourceName;
use unsettled::Unsettled;

/// Why a message was not accepted or not kept.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// It is larger than [`limits::MESSAGE_BYTES_MAX`].
    #[error("a message of {0} bytes is above the limit of {max}; split it", max = limits::MESSAGE_BYTES_MAX)]
    TooLong(usize),
    /// A head refused it, or none was reached in time.
    #[error("{0}")]
    Refused(Refusal),
    /// The client was closed.
    #[error("the client is closed; connect again")]
    Closed,
    /// A head could not be asked.
    #[error("head {head}: {cause}")]
    Head {
        /// The head.
        head: String,
        /// Cause and remedy.
        cause: String,
        /// It was not reached, or is none of this version: another try may help.
        is_lost: bool,
    },
}

/// Messages that are kept: consecutive sequence numbers, consecutive ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// Sequence number of the first.
    pub first_seq: u64,
    /// How many.
    pub count: u32,
    /// Id of the first.
    pub first: RecordId,
    /// The promise that was kept before this was said.
    pub sync: SyncMode,
    /// Addresses of the data nodes that keep them.
    pub nodes: Vec<String>,
}

impl Default for Ack {
    fn default() -> Self {
        Self { first_seq: 0, count: 0, first: RecordId::default(), sync: SyncMode::Always, nodes: Vec::new() }
    }
}

/// What became of messages.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// They are kept.
    Acked(Ack),
    /// They are not, as far as the client knows.
    Refused {
        /// Sequence number of the first.
        first_seq: u64,
        /// How many.
        count: u32,
        /// Cause and remedy.
        refusal: Refusal,
    },
}

/// What the halves and the task share.
struct Shared {
    state: Mutex<State>,
    /// Told when there is something to send, or the sender is gone.
    work: Notify,
    /// Told when the window has room.
    room: Notify,
    /// Told when there is an outcome, or nothing more comes.
    told: Notify,
}

struct State {
    unsettled: Unsettled,
    /// The sender is gone: settle what there is, then end.
    closing: bool,
    /// The task has ended.
    ended: bool,
}

impl Shared {
    /// The state. A panic while it was held is a bug that has been reported already; the data is whole between calls.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts messages.
pub struct Sender {
    shared: Arc<Shared>,
    config: Arc<Config>,
}

/// Tells what became of messages.
pub struct Receipts {
    shared: Arc<Shared>,
}

/// Opens a client. It must be called on a tokio runtime: a task of it dials the heads when there is something to send.
#[must_use]
pub fn connect(config: Config) -> (Sender, Receipts) {
    let state = State { unsettled: Unsettled::from(config.first_seq), closing: false, ended: false };
    let shared =
        Arc::new(Shared { state: Mutex::new(state), work: Notify::new(), room: Notify::new(), told: Notify::new() });
    let config = Arc::new(config);
    tokio::spawn(connection::run(Arc::clone(&shared), Arc::clone(&config)));
    (Sender { shared: Arc::clone(&shared), config }, Receipts { shared })
}

impl Sender {
    /// Accepts a message and returns its sequence number; waits only while the window is full.
    ///
    /// # Errors
    /// [`Error::TooLong`], or [`Error::Closed`] if the receipts are gone.
    pub async fn send(&self, payload: Bytes) -> Result<u64, Error> {
        self.accept(None, payload).await
    }

    /// The same for a message of this source: for who speaks for many.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub async fn send_as(&self, source: SourceName, payload: Bytes) -> Result<u64, Error> {
        self.accept(Some(source), payload).await
    }

    async fn accept(&self, source: Option<SourceName>, payload: Bytes) -> Result<u64, Error> {
        loop {
            let room = self.shared.room.notified();
            if let Some(seq) = self.try_accept(source, &payload)? {
                return Ok(seq);
            }
            room.await;
        }
    }

    /// Accepts a message if the window has room for it now; else none.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub(crate) fn try_accept(&self, source: Option<SourceName>, payload: &Bytes) -> Result<Option<u64>, Error> {
        if payload.len() > limits::MESSAGE_BYTES_MAX {
            return Err(Error::TooLong(payload.len()));
        }
        let mut state = self.shared.lock();
        if state.ended {
            return Err(Error::Closed);
        }
        if !self.has_room(&state, payload) {
            return Ok(None);
        }
        let seq = state.unsettled.push(payload.clone(), source, Instant::now());
        drop(state);
        self.shared.work.notify_one();
        Ok(Some(seq))
    }

    /// Accepts messages in their order, as many at a time as the window has room for: the lock, the clock and the task behind
    /// it are troubled once for all of them.
    ///
    /// # Errors
    /// As [`Sender::send`]; those before it are accepted.
    pub(crate) async fn send_all(
        &self,
        messages: impl IntoIterator<Item = (Option<SourceName>, Bytes)>,
    ) -> Result<(), Error> {
        let mut messages = messages.into_iter().peekable();
        loop {
            let room = self.shared.room.notified();
            {
                let mut state = self.shared.lock();
                if state.ended {
                    return Err(Error::Closed);
                }
                let now = Instant::now();
                while let Some((source, payload)) = messages.next_if(|(_, payload)| self.has_room(&state, payload)) {
                    state.unsettled.push(payload, source, now);
                }
            }
            self.shared.work.notify_one();
            match messages.peek() {
                None => return Ok(()),
                Some((_, payload)) if payload.len() > limits::MESSAGE_BYTES_MAX => {
                    return Err(Error::TooLong(payload.len()));
                }
                Some(_) => room.await,
            }
        }
    }

    /// Whether the window has room for it. One that is too long has none.
    fn has_room(&self, state: &State, payload: &Bytes) -> bool {
        // Outcomes nobody reads count, too: who never reads them must not fill the memory.
        let waiting = state.unsettled.len().max(state.unsettled.outcomes());
        payload.len() <= limits::MESSAGE_BYTES_MAX
            && waiting < self.config.window_messages
            && (state.unsettled.is_empty() || state.unsettled.bytes() + payload.len() <= self.config.window_bytes)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.work.notify_one();
    }
}

impl Receipts {
    /// The next outcome; none once the sender is dropped and everything is settled.
    pub async fn next(&mut self) -> Option<Outcome> {
        loop {
            let told = self.shared.told.notified();
            {
                let mut state = self.shared.lock();
                if let Some(outcome) = state.unsettled.next_outcome() {
                    drop(state);
                    self.shared.room.notify_one();
                    return Some(outcome);
                }
                if state.ended {
                    return None;
                }
            }
            told.await;
        }
    }
}

impl Drop for Receipts {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.ended = true;
        drop(state);
        self.shared.work.notify_one();
        self.shared.room.notify_waiters();
    }
}

/// One message at a time.
pub struct Client {
    sender: Sender,
    receipts: Receipts,
}

impl Client {
    /// Begins with the settings of a client.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// A client with these settings; see [`connect`].
    #[must_use]
    pub fn new(config: Config) -> Self {
        let (sender, receipts) = connect(config);
        Self { sender, receipts }
    }

    /// Stores one message; returns when it is kept.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn store(&mut self, payload: Bytes) -> Result<Ack, Error> {
        let seq = self.sender.send(payload).await?;
        self.settled(seq).await
    }

    /// The same for a message of this source: for who speaks for many.
    ///
    /// # Errors
    /// Why it is not kept.
    pub async fn store_as(&mut self, source: SourceName, payload: Bytes) -> Result<Ack, Error> {
        let seq = self.sender.send_as(source, payload).await?;
        self.settled(seq).await
    }

    async fn settled(&mut self, seq: u64) -> Result<Ack, Error> {
        while let Some(outcome) = self.receipts.next().await {
            match outcome {
                Outcome::Acked(ack) if ack.first_seq == seq => return Ok(ack),
                Outcome::Refused { first_seq, refusal, .. } if first_seq == seq => return Err(Error::Refused(refusal)),
                _ => {}
            }
        }
        Err(Error::Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(lengths: &[usize]) -> Vec<(Option<SourceName>, Bytes)> {
        lengths.iter().map(|&length| (None, vec![b'x'; length].into())).collect()
    }

    #[tokio::test]
    async fn many_are_accepted_at_once_as_far_as_the_window_has_room_and_up_to_one_that_is_too_long() {
        // It listens and says nothing.
        let head = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let heads = vec![head.local_addr().unwrap().to_string()];
        let config = || Config { window_messages: 3, window_bytes: 100, ..Config::new(heads.clone()) };
        for (lengths, accepted) in [([1; 5], 3), ([40; 5], 2), ([200; 5], 1)] {
            let (sender, _receipts) = connect(config());
            tokio::select! {
                biased;
                result = sender.send_all(messages(&lengths)) => panic!("there is no room for all: {result:?}"),
                () = std::future::ready(()) => {}
            }
            assert_eq!(sender.shared.lock().unsettled.len(), accepted, "{lengths:?}");
        }
        let (sender, receipts) = connect(config());
        let error = sender.send_all(messages(&[1, limits::MESSAGE_BYTES_MAX + 1, 1])).await;
        assert!(matches!(error, Err(Error::TooLong(_))), "{error:?}");
        assert_eq!(sender.shared.lock().unsettled.len(), 1);
        drop(receipts);
        let error = sender.send_all(messages(&[1])).await;
        assert!(matches!(error, Err(Error::Closed)), "{error:?}");
    }
}
