//! What every connection of every role shares: the connection itself, a buffer that waits to be written, a bounded
//! read, a bounded dial, a bounded turn.
//!
//! No decision is here, and of the protocol only what every caller of a head does alike.

mod aside;
pub(crate) mod framed;
mod heads;
#[cfg(feature = "server")]
mod inside;
#[cfg(feature = "server")]
pub(crate) mod network;
mod outbox;
mod patience;
#[cfg(feature = "keys")]
pub(crate) mod proof;
#[cfg(feature = "simulation")]
pub(crate) mod simulated;
mod stream;
#[cfg(feature = "tls")]
pub(crate) mod tls;
mod turn;
mod window;

use std::time::Duration;

use bytes::BytesMut;
use rand::RngExt;
use rand::rngs::SmallRng;

#[cfg(feature = "server")]
pub(crate) use aside::aside;
pub(crate) use heads::{Access, Heads};
#[cfg(feature = "server")]
pub(crate) use inside::inside;
pub(crate) use outbox::Outbox;
pub(crate) use stream::{Channel, Listener, Net, ReadHalf, Stream, WriteHalf};
pub(crate) use turn::Turn;

use crate::limits;
use tokio_util::sync::CancellationToken;

/// What one read brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Read {
    /// Bytes.
    Some,
    /// The peer has said everything.
    End,
    /// The connection broke, maybe in the middle of a word.
    Broken,
    /// Nothing: the role is stopping.
    Stopping,
}

/// Reads once, or ends: false at the end of input, when the role is stopping, or when the connection breaks.
pub(crate) async fn read_some(socket: &mut ReadHalf<'_>, buffer: &mut BytesMut, shutdown: &CancellationToken) -> bool {
    read(socket, buffer, shutdown).await == Read::Some
}

/// Reads once, unless the role is stopping.
pub(crate) async fn read(socket: &mut ReadHalf<'_>, buffer: &mut BytesMut, shutdown: &CancellationToken) -> Read {
    // First: a peer that always has more to say must not hold up the end.
    if shutdown.is_cancelled() {
        return Read::Stopping;
    }
    tokio::select! {
        biased;
        read = socket.read_into(buffer) => match read {
            Ok(0) => Read::End,
            Ok(_) => Read::Some,
            Err(_) => Read::Broken,
        },
        () = shutdown.cancelled() => Read::Stopping,
    }
}

/// Sees that the next read of a connection is not a small one: for who has few connections.
pub(crate) fn make_room(buffer: &mut BytesMut) {
    if buffer.capacity() - buffer.len() < limits::READ_BUFFER_BYTES / 8 {
        buffer.reserve(limits::READ_BUFFER_BYTES);
    }
}

/// Waits between attempts: doubling, with jitter, so that many who lost one head do not come back in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: limits::BACKOFF_MIN }
    }
}

impl Backoff {
    /// The next wait: between half and all of a time that doubles up to [`limits::BACKOFF_MAX`].
    pub(crate) fn next(&mut self, rng: &mut SmallRng) -> Duration {
        let wait = self.next.mul_f64(rng.random_range(0.5..1.0));
        self.next = (self.next * 2).min(limits::BACKOFF_MAX);
        wait
    }

    /// It worked: the next loss begins with a short wait again.
    pub(crate) const fn reset(&mut self) {
        self.next = limits::BACKOFF_MIN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn waits_double_up_to_the_bound_and_begin_again() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut backoff = Backoff::default();
        for _ in 0..20 {
            assert!(backoff.next(&mut rng) <= limits::BACKOFF_MAX);
        }
        assert!(backoff.next(&mut rng) >= limits::BACKOFF_MAX / 2);
        backoff.reset();
        assert!(backoff.next(&mut rng) <= limits::BACKOFF_MIN);
    }
}
