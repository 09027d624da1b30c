//! Writing over TCP to a peer that may be there and not read: it has all the time it likes, where one that is gone has not.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::AsyncWrite;
use tokio::net::{TcpStream, tcp};
use tokio::time::{Instant, Sleep, sleep_until};

use super::window;

/// Writes to a TCP connection.
#[derive(Debug)]
pub(crate) struct TcpWriter<'a> {
    pub(super) half: tcp::WriteHalf<'a>,
    pub(super) patience: Patience,
}

/// A peer that is there and does not read has all the time it likes: the system would give it up with those that are gone, so
/// it is told not to while the peer's window is closed.
#[derive(Debug)]
pub(super) struct Patience {
    /// For how long what was sent may stay unacknowledged; none on a connection that was dialled.
    silence: Option<Duration>,
    /// The next look at the window, while the system takes no more.
    look: Option<Pin<Box<Sleep>>>,
    held: bool,
    patient: bool,
}

impl Patience {
    /// With a peer of this connection.
    pub(super) fn new(socket: &TcpStream) -> Self {
        let silence = SockRef::from(socket).tcp_user_timeout().ok().flatten();
        Self { silence, look: None, held: false, patient: false }
    }

    /// Something was written, or the system takes no more for now.
    pub(super) fn wrote(&mut self, socket: &TcpStream, cx: &mut Context<'_>, is_pending: bool) {
        if let Some(silence) = self.silence {
            if is_pending {
                self.hold(socket, cx, silence);
            } else if self.held {
                self.held = false;
                self.wait_for_ever(socket, false, silence);
            }
        }
    }

    /// Looks at the window every now and then, well before the system gives up.
    fn hold(&mut self, socket: &TcpStream, cx: &mut Context<'_>, silence: Duration) {
        let next = || Instant::now() + silence / 4;
        let mut look = self.look.take().unwrap_or_else(|| Box::pin(sleep_until(next())));
        if !std::mem::replace(&mut self.held, true) {
            look.as_mut().reset(next());
        }
        while look.as_mut().poll(cx).is_ready() {
            // Where the system does not tell, nobody is given up who may be there.
            let closed = window::is_closed(socket).unwrap_or_else(|error| {
                tracing::debug!("whether a peer reads cannot be told: {error}");
                true
            });
            self.wait_for_ever(socket, closed, silence);
            look.as_mut().reset(next());
        }
        self.look = Some(look);
    }

    fn wait_for_ever(&mut self, socket: &TcpStream, patient: bool, silence: Duration) {
        if std::mem::replace(&mut self.patient, patient) != patient {
            let set = SockRef::from(socket).set_tcp_user_timeout((!patient).then_some(silence));
            if let Err(error) = set {
                tracing::debug!("the time that a peer has cannot be set: {error}");
            }
        }
    }
}

impl AsyncWrite for TcpWriter<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.half).poll_write(cx, bytes);
        this.patience.wrote(this.half.as_ref(), cx, written.is_pending());
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().half).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().half).poll_shutdown(cx)
    }
}
