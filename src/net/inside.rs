//! Connections within a process: what is written at one end is read at the other, without the system.
//!
//! For a solo head, whose data node speaks with it as it would from another machine: the same frames under the same rules,
//! but a message that comes alone costs no calls to the system on that way.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::sync::{Mutex, mpsc};

use super::Stream;
use crate::limits;

/// One end of a connection: a pipe for each direction, so that both can be used at the same time.
#[derive(Debug)]
pub(crate) struct InsideStream {
    pub(super) reads: DuplexStream,
    pub(super) writes: DuplexStream,
    /// Where it says that both ends are: the listener's port on loopback, from which nobody else comes.
    pub(super) at: SocketAddr,
}

/// Where connections of this process come in.
#[derive(Debug)]
pub(crate) struct InsideListener {
    at: SocketAddr,
    dialled: Mutex<mpsc::Receiver<InsideStream>>,
}

/// Dials it.
#[derive(Clone, Debug)]
pub(crate) struct InsideDialler {
    at: SocketAddr,
    dialled: mpsc::Sender<InsideStream>,
}

/// A listener beside one on this port, and who dials it.
pub(crate) fn inside(port: u16) -> (InsideDialler, InsideListener) {
    let (sender, receiver) = mpsc::channel(1);
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    (InsideDialler { at, dialled: sender }, InsideListener { at, dialled: Mutex::new(receiver) })
}

impl InsideDialler {
    /// A connection to the listener.
    ///
    /// # Errors
    /// It is gone.
    pub(super) async fn dial(&self) -> io::Result<InsideStream> {
        let pipe = || duplex(limits::INSIDE_BYTES);
        let ((reads, written), (read, writes)) = (pipe(), pipe());
        let theirs = InsideStream { reads: read, writes: written, at: self.at };
        let gone = |_| io::Error::from(io::ErrorKind::ConnectionRefused);
        self.dialled.send(theirs).await.map_err(gone)?;
        Ok(InsideStream { reads, writes, at: self.at })
    }
}

impl InsideListener {
    /// The address that it goes by.
    pub(crate) const fn at(&self) -> SocketAddr {
        self.at
    }

    /// The next connection; there is none any more once who dials is gone.
    pub(super) async fn accept(&self) -> (Stream, SocketAddr) {
        match self.dialled.lock().await.recv().await {
            Some(socket) => (Stream::Inside(Box::new(socket)), self.at),
            None => std::future::pending().await,
        }
    }
}

impl AsyncRead for InsideStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().reads).poll_read(cx, buf)
    }
}

impl AsyncWrite for InsideStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().writes).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().writes).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().writes).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test(flavor = "current_thread")]
    async fn what_is_written_at_one_end_is_read_at_the_other_until_it_ends() {
        let (dialler, listener) = inside(5000);
        let (dialled, (mut theirs, peer)) = tokio::join!(dialler.dial(), listener.accept());
        let mut ours = dialled.unwrap();
        assert_eq!((peer, theirs.local_addr().unwrap()), (ours.at, ours.at));
        ours.write_all(b"peticion").await.unwrap();
        theirs.write_all(b"confirmacion").await.unwrap();
        let (mut said, mut answered) = ([0; 8], [0; 12]);
        theirs.read_exact(&mut said).await.unwrap();
        ours.read_exact(&mut answered).await.unwrap();
        assert_eq!((&said, &answered), (b"peticion", b"confirmacion"));
        // Who does not read makes the other wait: there is a bound.
        let much = vec![b'x'; limits::INSIDE_BYTES + 1];
        tokio::select! {
            biased;
            written = ours.write_all(&much) => panic!("{written:?}"),
            () = std::future::ready(()) => {}
        }
        drop(ours);
        let mut rest = Vec::new();
        theirs.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest.len(), limits::INSIDE_BYTES);
        assert!(theirs.write_all(b"x").await.is_err());
        drop(listener);
        assert_eq!(dialler.dial().await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
