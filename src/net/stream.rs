//! Connections and listeners: TCP, TLS over it, within this process, or the simulated network's. Chosen at run time, at the price of a match on an
//! enum.
//!
//! Everything above uses only these types. The options of a real socket are set here and nowhere else.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use socket2::{SockRef, TcpKeepalive};
#[cfg(feature = "server")]
use tokio::io::DuplexStream;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream, tcp};
use tokio::time::timeout;

use super::aside::aside;
#[cfg(feature = "server")]
use super::inside::{InsideDialler, InsideListener, InsideStream};
use super::patience::{Patience, TcpWriter};
#[cfg(feature = "simulation")]
use super::simulated::{SimHost, SimListener, SimStream};
#[cfg(feature = "tls")]
use super::tls::{Tls, TlsSocket};
use crate::limits;

/// How connections are made.
#[derive(Clone, Debug, Default)]
pub(crate) enum Net {
    /// Over TCP.
    #[default]
    Tcp,
    /// Over TLS, which asks who dials to prove who it is.
    #[cfg(feature = "tls")]
    Tls(Tls),
    /// To a listener of this process, whatever the address.
    #[cfg(feature = "server")]
    Inside(InsideDialler),
    /// From a host of a simulated network.
    #[cfg(feature = "simulation")]
    Simulated(SimHost),
}

impl Net {
    /// Connects to `host:port`, trying each address the name has, from a given local address if there is one.
    ///
    /// # Errors
    /// The name is not known, or none of its addresses answers within [`limits::DIAL_TIME_MAX`] each: the last cause. Over TLS
    /// also that it is not to be trusted, which is of the kind [`InvalidData`](io::ErrorKind::InvalidData).
    pub(crate) async fn dial(&self, host: &str, bind: Option<IpAddr>) -> io::Result<Stream> {
        match self {
            Self::Tcp => dial_tcp(host, bind).await.map(Stream::Tcp),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.connect(host, dial_tcp(host, bind).await?).await.map(Stream::Tls),
            #[cfg(feature = "server")]
            Self::Inside(dialler) => answered(dialler.dial()).await.map(|socket| Stream::Inside(Box::new(socket))),
            #[cfg(feature = "simulation")]
            Self::Simulated(from) => answered(from.dial(host)).await.map(Stream::Simulated),
        }
    }
}

/// As long as a dial may take.
async fn answered<T>(dial: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let silent = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer");
    timeout(limits::DIAL_TIME_MAX, dial).await.map_err(silent)?
}

async fn dial_tcp(host: &str, bind: Option<IpAddr>) -> io::Result<TcpStream> {
    let addresses = match timeout(limits::DIAL_TIME_MAX, look_up(host)).await {
        Ok(found) => found?,
        Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "the name server does not answer")),
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match answered(connect(address, bind)).await {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The addresses of `host:port`.
async fn look_up(host: &str) -> io::Result<Vec<SocketAddr>> {
    // The standard library reads no zone (`[fe80::1%eth0]:5000`) that is a name; the system's resolver does.
    let zoned = host.strip_prefix('[').and_then(|host| host.rsplit_once("]:")).filter(|(ip, _)| ip.contains('%'));
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    match zoned {
        Some((ip, port)) => {
            let port: u16 = port.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "not a port"))?;
            let ip = ip.to_owned();
            aside("names", move || (ip.as_str(), port).to_socket_addrs().map(Iterator::collect)).await
        }
        None => {
            let host = host.to_owned();
            aside("names", move || host.to_socket_addrs().map(Iterator::collect)).await
        }
    }
}

async fn connect(address: SocketAddr, bind: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(ip) = bind {
        socket.bind(SocketAddr::new(ip, 0))?;
    }
    let stream = socket.connect(address).await?;
    tune(&stream, limits::PEER_SILENCE_MAX)?;
    Ok(stream)
}

/// Small writes leave at once, and the system finds out within `silence` that an idle peer is gone without a goodbye.
fn tune(socket: &TcpStream, silence: Duration) -> io::Result<()> {
    socket.set_nodelay(true)?;
    // The system counts in seconds.
    let share = |part: u32| (silence / part).max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new()
        .with_time(share(2))
        .with_interval(share(2 * limits::KEEPALIVE_RETRIES))
        .with_retries(limits::KEEPALIVE_RETRIES);
    SockRef::from(socket).set_tcp_keepalive(&keepalive)
}

/// As [`tune`], and within the same time for a peer that is gone with something on its way to it, which keepalive does not
/// look after. Who dials does without: its role has words for that, and a head that takes nothing in for now is not gone.
fn watch(socket: &TcpStream, silence: Duration) -> io::Result<()> {
    tune(socket, silence)?;
    let socket = SockRef::from(socket);
    // What the system has not sent holds up the next write, so that a TcpWriter knows of a peer that does not read.
    socket.set_tcp_notsent_lowat(limits::UNSENT_BYTES_MAX)?;
    socket.set_tcp_user_timeout(Some(silence))
}

/// Where connections come in.
#[derive(Debug)]
pub(crate) enum Listener {
    /// Over TCP.
    Tcp(TcpListener),
    /// For this process alone.
    #[cfg(feature = "server")]
    Inside(InsideListener),
    /// At a host of a simulated network.
    #[cfg(feature = "simulation")]
    Simulated(SimListener),
}

impl Listener {
    /// Listens on `host:port` over TCP; port 0 takes a free one.
    ///
    /// # Errors
    /// The address is not to be had.
    pub(crate) async fn bind(address: &str) -> io::Result<Self> {
        TcpListener::bind(look_up(address).await?.as_slice()).await.map(Self::Tcp)
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// The system does not tell.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr(),
            #[cfg(feature = "server")]
            Self::Inside(listener) => Ok(listener.at()),
            #[cfg(feature = "simulation")]
            Self::Simulated(listener) => Ok(listener.local_addr()),
        }
    }

    /// The next connection, and who made it. It is to be [watched](Stream::watch) unless it is turned away.
    ///
    /// # Errors
    /// The system has no room for one, or the peer left at once: the next may succeed.
    pub(crate) async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(socket, peer)| (Stream::Tcp(socket), peer)),
            #[cfg(feature = "server")]
            Self::Inside(listener) => Ok(listener.accept().await),
            #[cfg(feature = "simulation")]
            Self::Simulated(listener) => {
                let (socket, peer) = listener.accept().await?;
                Ok((Stream::Simulated(socket), peer))
            }
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over TLS.
    #[cfg(feature = "tls")]
    Tls(Box<TlsSocket>),
    /// Within this process.
    #[cfg(feature = "server")]
    Inside(Box<InsideStream>),
    /// Between two hosts of a simulated network.
    #[cfg(feature = "simulation")]
    Simulated(SimStream),
}

/// The reading half of a [`Stream`].
#[derive(Debug)]
pub(crate) struct ReadHalf<'a> {
    half: Half<'a>,
    /// Room for the next read, bytes.
    room: usize,
}

#[derive(Debug)]
enum Half<'a> {
    Tcp(tcp::ReadHalf<'a>),
    #[cfg(feature = "tls")]
    Tls(&'a TlsSocket),
    #[cfg(feature = "server")]
    Inside(&'a mut DuplexStream),
    #[cfg(feature = "simulation")]
    Simulated(&'a SimStream),
}

impl ReadHalf<'_> {
    /// Reads once, at the end of `buffer`; 0 bytes are the end of the input. Dropped before it is done, it has read nothing.
    ///
    /// The room that it makes begins small and grows up to [`limits::READ_BUFFER_BYTES`] where the peer fills it: of
    /// thousands of connections most say little at a time.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) async fn read_into(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        let least = self.room / 4;
        if buffer.capacity() - buffer.len() < least {
            buffer.reserve(self.room);
        }
        let free = buffer.capacity() - buffer.len();
        let read = self.read_buf(buffer).await?;
        if read == free {
            self.room = (4 * self.room).min(limits::READ_BUFFER_BYTES);
        }
        Ok(read)
    }
}

/// The writing half of a [`Stream`].
#[derive(Debug)]
pub(crate) enum WriteHalf<'a> {
    /// Over TCP.
    Tcp(TcpWriter<'a>),
    /// Over TLS.
    #[cfg(feature = "tls")]
    Tls(&'a TlsSocket),
    /// Within this process.
    #[cfg(feature = "server")]
    Inside(&'a mut DuplexStream),
    /// Between two hosts of a simulated network.
    #[cfg(feature = "simulation")]
    Simulated(&'a SimStream),
}

impl Stream {
    /// Gives a peer up that is gone without a goodbye, after about `silence`: some calls to the system, so not for who is turned
    /// away at once.
    pub(crate) fn watch(&self, silence: Duration) {
        if let Self::Tcp(socket) = self
            && let Err(error) = watch(socket, silence)
        {
            tracing::debug!("{:?}: {error}", socket.peer_addr());
        }
    }

    /// Resets the connection: the system keeps nothing of it for the minute in which it waits for what may still come.
    pub(crate) fn reset(self) {
        if let Self::Tcp(socket) = &self
            && let Err(error) = socket.set_zero_linger()
        {
            tracing::debug!("{:?}: {error}", socket.peer_addr());
        }
    }

    /// Halves that can be used at the same time; the connection closes when the stream is dropped.
    pub(crate) fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        match self {
            Self::Tcp(socket) => {
                let patience = Patience::new(socket);
                let (read, write) = socket.split();
                let read = ReadHalf { half: Half::Tcp(read), room: limits::READ_BUFFER_BYTES_MIN };
                (read, WriteHalf::Tcp(TcpWriter { half: write, patience }))
            }
            #[cfg(feature = "tls")]
            Self::Tls(socket) => {
                let read = ReadHalf { half: Half::Tls(socket), room: limits::READ_BUFFER_BYTES_MIN };
                (read, WriteHalf::Tls(socket))
            }
            #[cfg(feature = "server")]
            Self::Inside(socket) => {
                let InsideStream { reads, writes, .. } = &mut **socket;
                let read = ReadHalf { half: Half::Inside(reads), room: limits::READ_BUFFER_BYTES };
                (read, WriteHalf::Inside(writes))
            }
            // As much as there is: how reads are cut is the simulated network's choice.
            #[cfg(feature = "simulation")]
            Self::Simulated(socket) => {
                let read = ReadHalf { half: Half::Simulated(socket), room: limits::READ_BUFFER_BYTES };
                (read, WriteHalf::Simulated(socket))
            }
        }
    }

    /// The address of this end.
    ///
    /// # Errors
    /// The system does not tell.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(socket) => socket.local_addr(),
            #[cfg(feature = "tls")]
            Self::Tls(socket) => socket.local_addr(),
            #[cfg(feature = "server")]
            Self::Inside(socket) => Ok(socket.at),
            #[cfg(feature = "simulation")]
            Self::Simulated(socket) => Ok(socket.local_addr()),
        }
    }

    /// The address of the other end.
    ///
    /// # Errors
    /// The connection is gone.
    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(socket) => socket.peer_addr(),
            #[cfg(feature = "tls")]
            Self::Tls(socket) => socket.peer_addr(),
            #[cfg(feature = "server")]
            Self::Inside(socket) => Ok(socket.at),
            #[cfg(feature = "simulation")]
            Self::Simulated(socket) => Ok(socket.peer_addr()),
        }
    }
}

/// What a TLS connection alone has, as both of its ends know it (RFC 9266): 32 bytes that are proved with a key, so that nobody
/// stands between the two.
pub(crate) type Channel = [u8; 32];

impl Stream {
    /// What this connection alone has, over TLS.
    #[must_use]
    pub(crate) fn channel(&self) -> Option<Channel> {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(socket) => socket.channel(),
            _ => None,
        }
    }
}

impl ReadHalf<'_> {
    /// As [`Stream::channel`].
    #[must_use]
    pub(crate) fn channel(&self) -> Option<Channel> {
        match self.half {
            #[cfg(feature = "tls")]
            Half::Tls(socket) => socket.channel(),
            _ => None,
        }
    }
}

/// Reads and writes by what is inside.
macro_rules! forward {
    (read $kind:ty) => {
        impl AsyncRead for $kind {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Tcp(socket) => Pin::new(socket).poll_read(cx, buf),
                    #[cfg(feature = "tls")]
                    Self::Tls(socket) => socket.poll_read(cx, buf),
                    #[cfg(feature = "server")]
                    Self::Inside(socket) => Pin::new(socket).poll_read(cx, buf),
                    #[cfg(feature = "simulation")]
                    Self::Simulated(socket) => socket.poll_read(cx, buf),
                }
            }
        }
    };
    (write $kind:ty) => {
        impl AsyncWrite for $kind {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
                    #[cfg(feature = "tls")]
                    Self::Tls(socket) => socket.poll_write(cx, bytes),
                    #[cfg(feature = "server")]
                    Self::Inside(socket) => Pin::new(socket).poll_write(cx, bytes),
                    #[cfg(feature = "simulation")]
                    Self::Simulated(socket) => socket.poll_write(cx, bytes),
                }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Tcp(socket) => Pin::new(socket).poll_flush(cx),
                    // What was written is sent already.
                    #[cfg(feature = "tls")]
                    Self::Tls(_) => Poll::Ready(Ok(())),
                    #[cfg(feature = "server")]
                    Self::Inside(socket) => Pin::new(socket).poll_flush(cx),
                    #[cfg(feature = "simulation")]
                    Self::Simulated(_) => Poll::Ready(Ok(())),
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
                    #[cfg(feature = "tls")]
                    Self::Tls(socket) => socket.poll_shutdown(cx),
                    #[cfg(feature = "server")]
                    Self::Inside(socket) => Pin::new(socket).poll_shutdown(cx),
                    #[cfg(feature = "simulation")]
                    Self::Simulated(socket) => {
                        socket.shut_down();
                        Poll::Ready(Ok(()))
                    }
                }
            }
        }
    };
}

forward!(read Stream);
forward!(write Stream);
forward!(read Half<'_>);

impl AsyncRead for ReadHalf<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().half).poll_read(cx, buf)
    }
}

forward!(write WriteHalf<'_>);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    #[tokio::test(flavor = "current_thread")]
    async fn an_address_of_ipv6_may_name_its_zone() {
        let found = look_up("[fe80::1%lo]:5000").await.unwrap();
        assert!(matches!(found[..], [SocketAddr::V6(one)] if one.scope_id() > 0 && one.port() == 5000), "{found:?}");
        for bad in ["[fe80::1%nosuch0]:5000", "[fe80::1%lo]:x"] {
            assert!(look_up(bad).await.is_err(), "{bad}");
        }
        // Where this machine has such an address: there and back.
        let interfaces = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
        let link_local = interfaces.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        for fields in link_local.filter(|fields| fields[0].starts_with("fe80") && fields[4] == "80") {
            let ip = u128::from_str_radix(fields[0], 16).unwrap();
            let host = format!("[{}%{}]", std::net::Ipv6Addr::from(ip), fields[5]);
            let listener = Listener::bind(&format!("{host}:0")).await.unwrap();
            let address = format!("{host}:{}", listener.local_addr().unwrap().port());
            let (dialled, accepted) = tokio::join!(Net::Tcp.dial(&address, None), listener.accept());
            assert!(dialled.is_ok() && accepted.is_ok(), "{address}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn room_grows_for_who_fills_it_and_for_nobody_else() {
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (dialled, accepted) = tokio::join!(Net::Tcp.dial(&address, None), listener.accept());
        let (mut theirs, mut ours) = (dialled.unwrap(), accepted.unwrap().0);
        let (mut reader, _writer) = ours.split();
        let mut buffer = BytesMut::new();
        for _ in 0..1000 {
            theirs.write_all(&[b'm'; 100]).await.unwrap();
            assert_eq!(reader.read_into(&mut buffer).await.unwrap(), 100);
            buffer.clear();
        }
        assert_eq!(reader.room, limits::READ_BUFFER_BYTES_MIN);
        assert!(buffer.capacity() <= 2 * limits::READ_BUFFER_BYTES_MIN, "{}", buffer.capacity());
        let much = vec![b'm'; 40 * limits::READ_BUFFER_BYTES];
        let read = async {
            let mut rest = much.len();
            while rest > 0 {
                rest -= reader.read_into(&mut buffer).await.unwrap();
                buffer.clear();
            }
        };
        let (written, ()) = tokio::join!(theirs.write_all(&much), read);
        written.unwrap();
        assert_eq!(reader.room, limits::READ_BUFFER_BYTES);
        drop(theirs);
        assert_eq!(reader.read_into(&mut buffer).await.unwrap(), 0);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_lost_peer_is_given_up_soon_and_one_that_does_not_read_is_not() {
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let silence = Duration::from_secs(1);
        let (dialled, accepted) = tokio::join!(Net::Tcp.dial(&address, None), listener.accept());
        let (mut theirs, mut ours) = (dialled.unwrap(), accepted.unwrap().0);
        ours.watch(silence);
        for (stream, most) in [(&theirs, Duration::from_secs(30)), (&ours, Duration::from_secs(4))] {
            let Stream::Tcp(socket) = stream else { panic!("TCP") };
            let socket = SockRef::from(socket);
            assert!(socket.keepalive().unwrap());
            let asked = socket.tcp_keepalive_interval().unwrap() * socket.tcp_keepalive_retries().unwrap();
            assert!(socket.tcp_keepalive_time().unwrap() + asked <= most);
        }
        let given = |stream: &Stream| match stream {
            Stream::Tcp(socket) => SockRef::from(socket).tcp_user_timeout().unwrap(),
            _ => panic!("TCP"),
        };
        assert_eq!((given(&ours), given(&theirs)), (Some(silence), None));
        let (_reader, mut writer) = ours.split();
        let given = |writer: &WriteHalf<'_>| match writer {
            WriteHalf::Tcp(writer) => SockRef::from(writer.half.as_ref()).tcp_user_timeout().unwrap(),
            _ => panic!("TCP"),
        };
        let much = vec![b'm'; 64 * 1024];
        let mut sent = 0;
        // Nobody reads: in the end the system takes no more, and waits for ever.
        while given(&writer).is_some() {
            if let Ok(written) = timeout(silence, writer.write(&much)).await {
                sent += written.unwrap();
            }
        }
        let rest = async {
            let mut chunk = vec![0; much.len()];
            while sent > 0 {
                sent -= theirs.read(&mut chunk).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(writer.write(b"m"), rest);
        written.unwrap();
        assert_eq!(given(&writer), Some(silence), "it reads again");
    }
}
