//! ZeroMQ, as far as it is spoken here: sockets that publish and that subscribe, over TCP alone, with bounds on all they
//! hold. The one place where the crate behind it is used, so that another could take its place.
//!
//! What listens is the broker's own, over the crate's protocol: a [`front`] is a SUB socket that is subscribed to everything,
//! so no subscription has to travel upstream; a [`back`] is a PUB socket. Both let subscribers and publishers of every
//! implementation in. What connects, [`Publisher`] and [`Subscriber`], is the crate's sockets.

pub(crate) mod back;
pub(crate) mod front;
mod port;
mod wanted;

use std::time::Duration;

use bytes::Bytes;
use omq_tokio::endpoint::Host;
use omq_tokio::{
    CurveKeypair, CurvePublicKey, CurveSecretKey, Endpoint, KeepAlive, Options, ReconnectPolicy, Socket, SocketType,
    TrySendError,
};

use crate::limits;

/// What happens to a message whose subscriber has a full queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Slow {
    /// It is not sent to that subscriber, as in ZeroMQ.
    #[default]
    DropNewest,
    /// The oldest that waits is not sent.
    DropOldest,
    /// All wait for it: the slowest subscriber sets the pace, down to the publishers.
    Wait,
}

/// What a socket holds at most, and how it speaks.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// Greatest message, bytes, each frame counted with [`limits::TOPIC_FRAME_EXTRA_BYTES`] more.
    pub(crate) message_bytes_max: usize,
    /// Messages that wait for one subscriber.
    pub(crate) queue: u32,
    /// What happens to more.
    pub(crate) slow: Slow,
    /// How it proves who it is; nothing is encrypted without.
    pub(crate) curve: Option<Curve>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            message_bytes_max: limits::TOPIC_MESSAGE_BYTES_DEFAULT,
            queue: limits::SUBSCRIBER_QUEUE_DEFAULT,
            slow: Slow::default(),
            curve: None,
        }
    }
}

/// The keys of a socket.
#[derive(Clone, Debug)]
pub(crate) enum Curve {
    /// One that is bound, with the keys of the broker.
    Server(Keys),
    /// One that connects: the broker's public key, in Z85.
    Client(PublicKey),
}

/// A pair of CURVE keys.
#[derive(Clone, Debug)]
pub(crate) struct Keys(CurveKeypair);

/// The public one of a pair of CURVE keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublicKey(CurvePublicKey);

impl Keys {
    /// New ones, from the system's random numbers.
    #[must_use]
    pub(crate) fn generate() -> Self {
        Self(CurveKeypair::generate())
    }

    /// The keys whose secret half is this text of 40 characters (Z85).
    #[must_use]
    pub(crate) fn from_z85(secret: &str) -> Option<Self> {
        let secret = CurveSecretKey::from_z85(secret).ok()?;
        Some(Self(CurveKeypair { public: secret.derive_public(), secret }))
    }

    /// The public half.
    #[must_use]
    pub(crate) fn public(&self) -> PublicKey {
        PublicKey(self.0.public)
    }

    /// The secret half, in Z85.
    #[must_use]
    pub(crate) fn secret_z85(&self) -> String {
        self.0.secret.to_z85()
    }
}

impl PublicKey {
    /// The key whose text of 40 characters this is (Z85).
    #[must_use]
    pub(crate) fn from_z85(text: &str) -> Option<Self> {
        CurvePublicKey::from_z85(text).ok().map(Self)
    }

    /// Its text.
    #[must_use]
    pub(crate) fn z85(&self) -> String {
        self.0.to_z85()
    }
}

/// A message of one or more frames; the first is its topic.
#[derive(Clone, Debug)]
pub(crate) struct Message(omq_tokio::Message);

impl Message {
    pub(crate) fn new(frames: impl IntoIterator<Item = Bytes>) -> Self {
        Self(omq_tokio::Message::multipart(frames))
    }

    /// What subscriptions are compared with.
    pub(crate) fn topic(&self) -> &[u8] {
        self.0.part_slice(0).unwrap_or_default()
    }

    pub(crate) fn frame(&self, k: usize) -> Option<&[u8]> {
        self.0.part_slice(k)
    }

    pub(crate) fn frames(&self) -> impl Iterator<Item = &[u8]> + Clone {
        (0..self.0.len()).map(|k| self.0.part_slice(k).unwrap_or_default())
    }

    /// The same in memory of its own: what came is a slice of all that was read with it.
    pub(crate) fn detached(&self) -> Self {
        Self::new(self.frames().map(Bytes::copy_from_slice))
    }

    pub(crate) fn byte_len(&self) -> usize {
        self.0.byte_len()
    }
}

/// What a socket can't do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It can't listen there.
    #[error("cannot listen on {at}: {source}")]
    Bind {
        /// Address and port.
        at: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// An address that can't be connected to, or settings that contradict each other.
    #[error("{at}: {cause}")]
    Unusable {
        /// Address and port.
        at: String,
        /// What is wrong.
        cause: String,
    },
    /// It was closed.
    #[error("the socket is closed")]
    Closed,
}

/// Host and port of a TCP endpoint; nothing else is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// Name or address.
    pub(crate) host: String,
    /// Port.
    pub(crate) port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl Address {
    fn endpoint(&self) -> Endpoint {
        let host = self.host.parse().map_or_else(|_| Host::Name(self.host.clone()), Host::Ip);
        Endpoint::Tcp { host, port: self.port }
    }
}

/// Connects, and publishes to whoever has subscribed.
pub(crate) struct Publisher(Socket);

/// Connects, and gets what it has subscribed to.
pub(crate) struct Subscriber(Socket);

impl Publisher {
    /// Connects, again and again.
    pub(crate) async fn connect(to: &[Address], bounds: &Bounds) -> Result<Self, Error> {
        Ok(Self(connect(SocketType::Pub, to, bounds).await?))
    }

    /// Sends, or waits for room as [`Slow`] says. What nobody has subscribed to goes nowhere.
    pub(crate) async fn send(&self, message: Message) -> Result<(), Error> {
        let mut message = message.0;
        loop {
            match self.0.try_send(message) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(back)) => message = back,
                Err(TrySendError::Closed | TrySendError::Error(_)) => return Err(Error::Closed),
            }
            self.0.wait_send_ready().await;
        }
    }

    /// Whether somebody subscribes, or does within this time.
    pub(crate) async fn is_wanted(&self, within: Duration) -> bool {
        self.0.wait_subscribed(1, within).await.is_ok()
    }

    /// A number that changes whenever somebody connects or goes.
    pub(crate) fn peers_changed(&self) -> u64 {
        self.0.connections_generation()
    }

    /// Sends what is under way, for a while, and closes.
    pub(crate) async fn close(self, within: Duration) {
        drop(self.0.close_with_linger(Some(within)).await);
    }
}

impl Subscriber {
    /// Connects, again and again, and gets what begins with one of `prefixes`.
    pub(crate) async fn connect(to: &[Address], bounds: &Bounds, prefixes: &[&[u8]]) -> Result<Self, Error> {
        let socket = connect(SocketType::Sub, to, bounds).await?;
        for prefix in prefixes {
            socket.subscribe(Bytes::copy_from_slice(prefix)).await.map_err(|_| Error::Closed)?;
        }
        Ok(Self(socket))
    }

    /// The next message.
    pub(crate) async fn recv(&self) -> Result<Message, Error> {
        self.0.recv().await.map(Message).map_err(|_| Error::Closed)
    }

    /// Whether it is connected to somebody, or is within this time.
    pub(crate) async fn is_connected(&self, within: Duration) -> bool {
        self.0.wait_connected(1, within).await.is_ok()
    }

    /// Closes; what it has not handed out is lost.
    pub(crate) async fn close(self) {
        drop(self.0.close().await);
    }
}

fn open(kind: SocketType, at: &Address, bounds: &Bounds) -> Result<Socket, Error> {
    let message = bounds.message_bytes_max;
    let receive =
        (limits::RECEIVE_QUEUE_BYTES_MAX / message.max(1)).clamp(limits::RECEIVE_QUEUE_MIN, limits::RECEIVE_QUEUE_MAX);
    let mut options = Options::default()
        .recv_hwm(u32::try_from(receive).unwrap_or(u32::MAX))
        .send_hwm(bounds.queue)
        .transmit_slot_cap(limits::SUBSCRIBER_QUEUE_BYTES_MAX)
        .max_message_size(message)
        .handshake_timeout(limits::HANDSHAKE_TIME_MAX)
        .heartbeat_interval(limits::TOPIC_PING_AFTER)
        .heartbeat_timeout(limits::TOPIC_PING_TIME_MAX)
        .reconnect(ReconnectPolicy::Fixed(limits::TOPIC_RECONNECT))
        .tcp_keepalive(KeepAlive::Enabled {
            idle: limits::PEER_SILENCE_MAX / 2,
            intvl: limits::PEER_SILENCE_MAX / (2 * limits::KEEPALIVE_RETRIES),
            cnt: limits::KEEPALIVE_RETRIES,
        });
    options.xpub_nodrop = bounds.slow == Slow::Wait;
    options = match &bounds.curve {
        // A server's keys are for what listens.
        None | Some(Curve::Server(_)) => options,
        Some(Curve::Client(server)) => options.curve_client(CurveKeypair::generate(), server.0),
    };
    Socket::try_new(kind, options).map_err(|error| unusable(at, &error))
}

async fn connect(kind: SocketType, to: &[Address], bounds: &Bounds) -> Result<Socket, Error> {
    let first = to.first().ok_or(Error::Closed)?;
    let socket = open(kind, first, bounds)?;
    for at in to {
        socket.connect(at.endpoint()).await.map_err(|error| unusable(at, &error))?;
    }
    Ok(socket)
}

fn unusable(at: &Address, error: &omq_tokio::Error) -> Error {
    Error::Unusable { at: at.to_string(), cause: error.to_string() }
}
