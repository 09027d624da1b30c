//! What every connection of every role shares: a buffer that waits to be written, a bounded read, a bounded dial.
//!
//! No protocol and no decision is here.

mod outbox;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use rand::RngExt;
use rand::rngs::SmallRng;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;

pub use outbox::Outbox;

use crate::limits;
use crate::shutdown::Shutdown;

/// Reads once, or ends: false at the end of input, when the role is stopping, or when the connection breaks.
pub async fn read_some(socket: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut, shutdown: &Shutdown) -> bool {
    if buffer.capacity() - buffer.len() < limits::READ_BUFFER_BYTES / 8 {
        buffer.reserve(limits::READ_BUFFER_BYTES);
    }
    tokio::select! {
        read = socket.read_buf(buffer) => matches!(read, Ok(n) if n > 0),
        () = shutdown.stopping() => false,
    }
}

/// Connects to `host:port`, trying each address the name has, from a given local address if there is one.
///
/// # Errors
/// The name is not known, or none of its addresses answers within [`limits::DIAL_TIME_MAX`] each: the last cause.
pub async fn dial(host: &str, bind: Option<IpAddr>) -> io::Result<TcpStream> {
    let addresses = match timeout(limits::DIAL_TIME_MAX, lookup_host(host)).await {
        Ok(found) => found?,
        Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "the name server does not answer")),
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match timeout(limits::DIAL_TIME_MAX, connect(address, bind)).await {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, "no answer"),
        }
    }
    Err(last)
}

async fn connect(address: SocketAddr, bind: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(ip) = bind {
        socket.bind(SocketAddr::new(ip, 0))?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    keep_alive(&stream)?;
    Ok(stream)
}

/// Lets the system find out that a peer is gone without a goodbye.
///
/// # Errors
/// The system does not know keepalive; the connection works all the same.
pub fn keep_alive(socket: &TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(limits::KEEPALIVE_TIME)
        .with_interval(limits::KEEPALIVE_INTERVAL)
        .with_retries(limits::KEEPALIVE_RETRIES);
    SockRef::from(socket).set_tcp_keepalive(&keepalive)
}

/// Waits between attempts: doubling, with jitter, so that many who lost one head do not come back in step.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: limits::BACKOFF_MIN }
    }
}

impl Backoff {
    /// The next wait: between half and all of a time that doubles up to [`limits::BACKOFF_MAX`].
    pub fn next(&mut self, rng: &mut SmallRng) -> Duration {
        let wait = self.next.mul_f64(rng.random_range(0.5..1.0));
        self.next = (self.next * 2).min(limits::BACKOFF_MAX);
        wait
    }

    /// It worked: the next loss begins with a short wait again.
    pub const fn reset(&mut self) {
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
