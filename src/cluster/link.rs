//! The network between a data node and a head: a relay whose link can be cut, or carry nothing.
//!
//! It copies bytes and knows nothing of them. A stalled link holds what was read and reads nothing more, so the rest
//! waits in the system's buffers and arrives when the link is mended, as it does after a cable was pulled.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Interest};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::limits;
use crate::net::Net;

/// What a link does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Everything arrives.
    Open,
    /// Connections are closed, also new ones.
    Cut,
    /// Connections stay, and nothing arrives.
    Stalled,
}

/// A link of a data node to a head.
#[derive(Debug)]
pub(crate) struct Relay {
    /// What the data node dials.
    pub(crate) address: SocketAddr,
    link: watch::Sender<Link>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Listens, and connects whoever dials with `to`, from the address `from` if there is one.
    ///
    /// # Errors
    /// There is no port to listen on.
    pub(crate) async fn start(to: SocketAddr, from: Option<IpAddr>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (link, state) = watch::channel(Link::Open);
        let task = tokio::spawn(serve(listener, to, from, state));
        Ok(Self { address, link, task })
    }

    /// Changes the link, for connections that are there and for new ones.
    pub(crate) fn set(&self, link: Link) {
        self.link.send_replace(link);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, to: SocketAddr, from: Option<IpAddr>, link: watch::Receiver<Link>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_ended) = connections.join_next() => {}
            Ok((socket, _)) = listener.accept() => {
                if connections.len() < limits::LINK_CONNECTIONS_MAX {
                    connections.spawn(connect(socket, to, from, link.clone()));
                }
            }
        }
    }
}

/// One connection, from its first byte to its last, or until it is cut.
async fn connect(mut node: TcpStream, to: SocketAddr, from: Option<IpAddr>, link: watch::Receiver<Link>) {
    let mut cut = link.clone();
    let both_ways = async {
        tokio::select! {
            biased;
            carries = carries(&link) => carries?,
            () = hung_up(&node) => return Ok(()),
        }
        let mut head = Net::default().dial(&to.to_string(), from).await?;
        node.set_nodelay(true)?;
        let ((node_read, node_write), (head_read, head_write)) = (node.split(), head.split());
        tokio::try_join!(copy(node_read, head_write, &link), copy(head_read, node_write, &link)).map(drop)
    };
    tokio::select! {
        biased;
        _gone_or_cut = cut.wait_for(|link| *link == Link::Cut) => {}
        _ended = both_ways => {}
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    link: &watch::Receiver<Link>,
) -> io::Result<()> {
    let mut changes = link.clone();
    let mut buffer = vec![0; limits::LINK_BUFFER_BYTES];
    loop {
        carries(link).await?;
        changes.mark_unchanged();
        let read = tokio::select! {
            biased;
            changed = changes.changed() => { changed.map_err(io::Error::other)?; continue; }
            read = from.read(&mut buffer) => read?,
        };
        // What was on its way when the link stalled is held with the rest.
        carries(link).await?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        to.write_all(bytes).await?;
    }
    to.shutdown().await
}

/// Resolves when whoever dialled is gone: nobody waits any more for what it asked for.
async fn hung_up(socket: &TcpStream) {
    while !socket.ready(Interest::READABLE).await.is_ok_and(|ready| ready.is_read_closed()) {
        sleep(limits::LINK_LOOK_EVERY).await;
    }
}

/// Resolves while the link carries something.
async fn carries(link: &watch::Receiver<Link>) -> io::Result<()> {
    link.clone().wait_for(|link| *link != Link::Stalled).await.map(drop).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    async fn pair() -> (TcpListener, Relay) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Relay::start(listener.local_addr().unwrap(), None).await.unwrap();
        (listener, relay)
    }

    #[tokio::test]
    async fn a_stalled_link_delivers_late_and_a_cut_one_closes_both_sides() {
        let (listener, relay) = pair().await;
        let mut node = TcpStream::connect(relay.address).await.unwrap();
        node.write_all(b"uno").await.unwrap();
        let (mut head, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 3];
        head.read_exact(&mut buffer).await.unwrap();
        relay.set(Link::Stalled);
        node.write_all(b"dos").await.unwrap();
        assert!(timeout(Duration::from_millis(50), head.read(&mut buffer)).await.is_err());
        relay.set(Link::Open);
        head.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"dos");
        relay.set(Link::Cut);
        assert!(!matches!(head.read(&mut buffer).await, Ok(1..)));
        assert!(!matches!(node.read(&mut buffer).await, Ok(1..)));
        let mut refused = TcpStream::connect(relay.address).await.unwrap();
        assert!(!matches!(refused.read(&mut buffer).await, Ok(1..)));
    }

    #[tokio::test]
    async fn who_gave_up_while_the_link_was_stalled_is_not_connected_later() {
        let (listener, relay) = pair().await;
        relay.set(Link::Stalled);
        let mut gone = TcpStream::connect(relay.address).await.unwrap();
        gone.write_all(b"uno").await.unwrap();
        let waits = TcpStream::connect(relay.address).await.unwrap();
        drop(gone);
        tokio::time::sleep(2 * limits::LINK_LOOK_EVERY).await;
        relay.set(Link::Open);
        let (first, _) = listener.accept().await.unwrap();
        assert!(timeout(Duration::from_millis(50), listener.accept()).await.is_err());
        drop((first, waits));
    }

    #[tokio::test]
    async fn the_end_of_one_side_reaches_the_other() {
        let (listener, relay) = pair().await;
        let mut node = TcpStream::connect(relay.address).await.unwrap();
        let (mut head, _) = listener.accept().await.unwrap();
        node.write_all(b"adios").await.unwrap();
        node.shutdown().await.unwrap();
        let mut text = String::new();
        head.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "adios");
        head.write_all(b"hasta luego").await.unwrap();
        drop(head);
        node.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "adioshasta luego");
    }
}
