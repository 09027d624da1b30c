//! A port that listens: peers connect and shake hands, a line tells of each that comes and goes, and a task serves it.
//!
//! ZMTP, its security included, is the crate's; connections, queues and bounds are the broker's own, so it knows what it
//! holds and what it does not send.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use omq_tokio::proto::command::Command;
use omq_tokio::proto::{Connection, ConnectionConfig, Role};
use omq_tokio::{CurveServerOptions, MechanismSetup, SocketType};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet, spawn_local};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, interval_at, sleep, timeout};
use tracing::Level;

use super::{Address, Bounds, Curve, Error};
use crate::limits;
use crate::net::{Listener, ReadHalf, Stream, WriteHalf};
use crate::peer_log::PeerLog;

/// Whom a port is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// What a peer is called in the lines that tell of it.
    pub(super) who: &'static str,
    /// What the port is to them.
    pub(super) socket: SocketType,
    /// Greatest message from one, bytes.
    pub(super) message_bytes_max: usize,
}

/// What a port does with its peers.
pub(super) trait Serve: 'static {
    /// Serves one until its connection ends.
    async fn serve(&self, peer: Peer) -> Ended;

    /// A second is over: time for lines about what has added up.
    fn second(&self) {}
}

/// How a connection ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// One of both sides closed it.
    Closed,
    /// It broke a limit or the protocol, or fell silent.
    Cut(String),
}

impl From<omq_tokio::Error> for Ended {
    fn from(error: omq_tokio::Error) -> Self {
        Self::Cut(error.to_string())
    }
}

impl From<std::io::Error> for Ended {
    fn from(error: std::io::Error) -> Self {
        Self::Cut(error.to_string())
    }
}

/// A connection.
pub(super) struct Peer {
    pub(super) socket: Stream,
    pub(super) wire: Connection,
    pub(super) address: SocketAddr,
    /// What of the wire is read and not looked at.
    pub(super) buffer: BytesMut,
}

/// A port that listens until this is dropped.
pub(super) struct Port {
    accepting: JoinHandle<()>,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Port {
    /// Listens.
    pub(super) async fn bind<S: Serve>(at: &Address, kind: Kind, bounds: &Bounds, host: Rc<S>) -> Result<Self, Error> {
        let at = at.to_string();
        let listener = Listener::bind(&at).await.map_err(|source| Error::Bind { at, source })?;
        let security = match &bounds.curve {
            Some(Curve::Server(keys)) => {
                MechanismSetup::CurveServer { our_keypair: keys.0.clone(), options: CurveServerOptions::default() }
            }
            _ => MechanismSetup::Null,
        };
        let config = ConnectionConfig::new(Role::Server, kind.socket)
            .max_message_size(kind.message_bytes_max)
            .mechanism(security);
        let gate = Gate {
            kind,
            config,
            shaking: Cell::new(0),
            there: Cell::new(0),
            shaken: Notify::new(),
            log: PeerLog::default(),
        };
        Ok(Self { accepting: spawn_local(accept(listener, Rc::new(gate), host)) })
    }

    /// Stops listening and cuts all connections.
    pub(super) async fn close(mut self) {
        self.accepting.abort();
        drop((&mut self.accepting).await);
    }
}

/// Who is let in.
struct Gate {
    kind: Kind,
    config: ConnectionConfig,
    /// Connections that have not finished their handshake.
    shaking: Cell<usize>,
    /// Told when one of them has, or has not.
    shaken: Notify,
    /// Those that have.
    there: Cell<usize>,
    log: PeerLog,
}

async fn accept<S: Serve>(listener: Listener, gate: Rc<Gate>, host: Rc<S>) {
    let mut peers = JoinSet::new();
    let mut seconds = interval(limits::TOPIC_SAY_EVERY);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = seconds.tick() => {
                host.second();
                while peers.try_join_next().is_some() {}
                continue;
            }
            () = gate.shaken.notified(), if gate.is_full() => continue,
            accepted = listener.accept(), if !gate.is_full() => accepted,
        };
        match accepted {
            Ok((socket, address)) => {
                failing = false;
                socket.watch(limits::PEER_SILENCE_MAX);
                let peer = Peer {
                    socket,
                    wire: Connection::new(gate.config.clone().peer_address(address.ip().to_string())),
                    address,
                    buffer: BytesMut::new(),
                };
                gate.shaking.set(gate.shaking.get() + 1);
                peers.spawn_local(Rc::clone(&gate).meet(peer, Rc::clone(&host)));
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(
                        "{}s cannot connect: {error}; raise the limit of open files (ulimit -n)",
                        gate.kind.who
                    );
                }
                sleep(limits::ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Gate {
    fn is_full(&self) -> bool {
        self.shaking.get() >= limits::TOPIC_HANDSHAKES_MAX
    }

    /// A connection from its first byte to its last.
    async fn meet<S: Serve>(self: Rc<Self>, mut peer: Peer, host: Rc<S>) {
        let (who, address) = (self.kind.who, peer.address);
        let say = |level, line: &str| self.log.say(Some(address.ip()), level, line);
        let met = timeout(limits::HANDSHAKE_TIME_MAX, shake_hands(&mut peer)).await;
        self.shaking.set(self.shaking.get() - 1);
        self.shaken.notify_one();
        match met {
            Ok(Ok(())) => {}
            // Who only looks whether the port is open, as the other broker does, is not worth a line.
            Ok(Err(Ended::Closed)) => return tracing::debug!("{address} left before it was a {who}"),
            Ok(Err(Ended::Cut(cause))) => return say(Level::WARN, &format!("{address} is no {who}: {cause}")),
            Err(_) => return say(Level::WARN, &format!("{address} is no {who}: handshake timeout")),
        }
        let most = limits::TOPIC_PEERS_MAX;
        if self.there.get() >= most {
            return say(Level::WARN, &format!("{who} {address} is turned away: {most} are connected"));
        }
        self.there.set(self.there.get() + 1);
        say(Level::INFO, &format!("{who} {address} connected; {} now", self.there.get()));
        let ended = host.serve(peer).await;
        self.there.set(self.there.get() - 1);
        let left = self.there.get();
        match ended {
            Ended::Closed => say(Level::INFO, &format!("{who} {address} gone; {left} left")),
            Ended::Cut(cause) => say(Level::WARN, &format!("{who} {address} cut off: {cause}; {left} left")),
        }
    }
}

/// Until both sides know who the other is.
async fn shake_hands(peer: &mut Peer) -> Result<(), Ended> {
    let Peer { socket, wire, buffer, .. } = peer;
    let (mut read, mut write) = socket.split();
    loop {
        let written = say(wire, &mut write).await;
        if wire.is_ready() {
            return Ok(written?);
        }
        match read.read_into(buffer).await {
            Ok(0) | Err(_) => return Err(Ended::Closed),
            Ok(_) => {}
        }
        if let Err(error) = wire.handle_input(buffer.split().freeze()) {
            // It is told why, if it listens.
            drop(say(wire, &mut write).await);
            return Err(error.into());
        }
    }
}

/// Writes what the protocol has to say by itself.
pub(super) async fn say(wire: &mut Connection, write: &mut WriteHalf<'_>) -> std::io::Result<()> {
    while wire.has_pending_transmit() {
        let words = wire.poll_transmit();
        write.write_all(&words).await?;
        wire.advance_transmit(words.len());
    }
    Ok(())
}

/// Reads once; what came is the protocol's to look at.
pub(super) async fn hear(read: &mut ReadHalf<'_>, buffer: &mut BytesMut) -> Result<Bytes, Ended> {
    match read.read_into(buffer).await {
        Ok(0) => Err(Ended::Closed),
        Ok(_) => Ok(buffer.split().freeze()),
        Err(error) => Err(error.into()),
    }
}

/// How long nothing is heard of a peer.
pub(super) struct Silence {
    ticks: Interval,
    /// Ticks without a word.
    quiet: u32,
    /// It can be asked whether it is there: ZMTP 3.0 has no word for that, and leaves it to the system.
    answers: bool,
}

impl Silence {
    pub(super) fn begin(wire: &Connection) -> Self {
        let every = limits::TOPIC_PING_AFTER;
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { ticks, quiet: 0, answers: wire.peer_minor() > 0 }
    }

    /// It is there.
    pub(super) const fn broken(&mut self) {
        self.quiet = 0;
    }

    /// Resolves with what to ask a peer that is quiet.
    ///
    /// # Errors
    /// It has been for too long.
    pub(super) async fn is_long(&mut self) -> Result<Option<Command>, Ended> {
        self.ticks.tick().await;
        if !self.answers {
            return Ok(None);
        }
        self.quiet += 1;
        // The first tick may come right after a word.
        let quiet = limits::TOPIC_PING_AFTER * self.quiet.saturating_sub(1);
        if quiet > limits::TOPIC_PING_TIME_MAX {
            return Err(Ended::Cut(format!("nothing was heard of it for {quiet:?}")));
        }
        Ok((self.quiet > 1).then(|| Command::Ping { ttl_deciseconds: 0, context: Bytes::new() }))
    }
}
