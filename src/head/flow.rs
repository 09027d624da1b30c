//! How much one client connection has in flight, and the life of a connection around its reader.
//!
//! The reader of a session stops reading its socket while its flow is full: this is where the cluster's pressure
//! reaches the sender. Nothing here knows a dialect.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::parting::hear_out;
use crate::limits;
use crate::net::Outbox;
use crate::wire::error::{Code, Refusal};
use tokio_util::sync::CancellationToken;

/// Messages and bytes in flight for one connection.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    messages: Cell<usize>,
    bytes: Cell<usize>,
    settled: Notify,
}

impl Flow {
    /// A batch is on its way.
    pub(crate) fn add(&self, messages: usize, bytes: usize) {
        self.messages.set(self.messages.get() + messages);
        self.bytes.set(self.bytes.get() + bytes);
    }

    /// A batch is settled.
    pub(crate) fn done(&self, messages: usize, bytes: usize) {
        self.messages.set(self.messages.get().saturating_sub(messages));
        self.bytes.set(self.bytes.get().saturating_sub(bytes));
        self.settled.notify_waiters();
    }

    /// Messages in flight.
    #[must_use]
    pub(crate) fn messages(&self) -> usize {
        self.messages.get()
    }

    /// Waits until the connection may have another batch in flight and its answers are being read.
    pub(crate) async fn room(&self, outbox: &Outbox) {
        loop {
            let settled = self.settled.notified();
            let full = self.messages.get() >= limits::CLIENT_IN_FLIGHT_MESSAGES_MAX
                || self.bytes.get() >= limits::CLIENT_IN_FLIGHT_BYTES_MAX;
            if full {
                settled.await;
            } else if outbox.len() >= limits::CLIENT_ANSWERS_BYTES_MAX {
                self.answers_read(outbox).await;
            } else {
                return;
            }
        }
    }

    /// Waits until the connection's answers are being read, however much it has in flight.
    pub(crate) async fn answers_read(&self, outbox: &Outbox) {
        outbox.room(limits::CLIENT_ANSWERS_BYTES_MAX).await;
    }

    /// Waits until nothing is in flight.
    pub(crate) async fn idle(&self) {
        loop {
            let settled = self.settled.notified();
            if self.messages.get() == 0 {
                return;
            }
            settled.await;
        }
    }
}

/// Resolves so long after the head was asked to stop.
async fn after_stop(shutdown: &CancellationToken, time: Duration) {
    shutdown.cancelled().await;
    tokio::time::sleep(time).await;
}

/// What clients are told when the head stops.
#[must_use]
pub(crate) fn stopping() -> Refusal {
    Refusal::new(Code::Stopping, "the head stops; connect again and send what was not answered")
}

/// What a session says before it closes: an error, or nothing.
pub(crate) type LastWords = Vec<u8>;

/// Runs `reader` beside the outbox; when it ends, what is in flight is finished, then come its last words, then the
/// close. All waits are bounded. The socket halves are handed back to be dropped.
///
/// A peer whose connection broke has sent messages all the same: what has come from it is read to its end. One that was
/// given up, because it sends and does not read, is not.
///
/// # Errors
/// The connection broke: the peer reads no answers, so none are kept for it.
pub(crate) async fn drive<R, W>(
    outbox: &Outbox,
    flow: &Flow,
    shutdown: &CancellationToken,
    mut write_half: W,
    reader: impl Future<Output = (R, LastWords)>,
) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let pump = outbox.pump(&mut write_half);
    tokio::pin!(pump);
    // The reader comes last: one that always finds something must not keep answers from being written.
    tokio::pin!(reader);
    let (mut read_half, words) = tokio::select! {
        biased;
        broken = &mut pump => {
            if outbox.failed().is_some() {
                return broken;
            }
            outbox.let_go();
            let _cut_off = timeout(limits::LINGER_TIME_MAX, &mut reader).await;
            return broken;
        }
        end = &mut reader => end,
    };
    // Nodes that die or hang are evicted in bounded time and their messages go elsewhere, so this ends by itself; only a
    // head that stops cannot wait for it.
    let settled = async {
        tokio::select! {
            biased;
            () = flow.idle() => {}
            // The head lets go of its nodes after the same time, and with them of what they have not acknowledged.
            () = after_stop(shutdown, limits::DRAIN_TIME_MAX + Duration::from_secs(1)) => {
                tracing::warn!("a client leaves with {} messages unanswered", flow.messages());
            }
        }
    };
    tokio::select! {
        biased;
        broken = &mut pump => return broken,
        () = settled => {}
    }
    outbox.with(|buffer| buffer.extend_from_slice(&words));
    outbox.close();
    tokio::select! {
        biased;
        written = &mut pump => written?,
        () = tokio::time::sleep(limits::LINGER_TIME_MAX) => return Ok(()),
        () = after_stop(shutdown, limits::CLOSE_TIME_MAX) => return Ok(()),
    }
    if !words.is_empty() {
        // A close with unread input resets the connection, and the peer would lose the words that explain it.
        let _cut_off = timeout(limits::CLOSE_TIME_MAX, hear_out(&mut read_half)).await;
    }
    Ok(())
}
