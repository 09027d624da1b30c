//! A network in memory whose connections delay, stall, tear and break as a seed says, for simulations.
//!
//! Model. A host has an address and is up, killed or without power. A connection is two pipes of packets: in order within
//! a pipe, each with a delay of its own; a write may be cut into several packets and taken only in part; a pipe holds a
//! bounded number of bytes. The road from one host to another can be cut: packets stall there until it is mended, and
//! dials hang. A killed process leaves what it wrote on its way, then an end or a reset; a host that loses its power says
//! nothing, until it is up again and resets what it does not know. Closing with unread input resets, as TCP does.
//!
//! Time is tokio's, which a simulation pauses. Not modelled: lost or garbled bytes (TCP has checksums), names, keepalive,
//! half of a window's feedback stalling with its road.

mod stream;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

pub(crate) use stream::SimStream;

/// Connections that wait to be accepted at one port.
const BACKLOG_MAX: usize = 128;

/// How a network behaves.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    /// Shortest and longest delay of most packets.
    pub(crate) delay: (Duration, Duration),
    /// Share of packets that take ten times as long, and hold up what follows them on their connection.
    pub(crate) slow_share: f64,
    /// Share of writes that are cut into two packets at a random place.
    pub(crate) split_share: f64,
    /// Bytes that a pipe holds before a write waits.
    pub(crate) pipe_bytes: usize,
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            delay: (Duration::from_micros(50), Duration::from_millis(3)),
            slow_share: 0.02,
            split_share: 0.1,
            pipe_bytes: 64 * 1024,
        }
    }
}

/// How a host went down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Down {
    /// Its process was killed: the system closes its connections and refuses new ones.
    Killed,
    /// It has no power: nothing answers.
    Dark,
}

#[derive(Debug, Default)]
struct Host {
    down: Option<Down>,
    listeners: BTreeMap<u16, Listening>,
    next_port: u16,
}

#[derive(Debug, Default)]
struct Listening {
    waiting: VecDeque<u64>,
    waker: Option<Waker>,
}

/// What one end sends to the other.
#[derive(Debug)]
enum Packet {
    Bytes(Bytes),
    End,
    Reset,
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Pipe {
    packets: VecDeque<(Instant, Packet)>,
    /// Bytes in `packets`.
    held: usize,
    /// The writer is done: an `End` or a `Reset` is on its way, or nothing ever will be.
    ended: bool,
    /// The reader is gone: what is written is answered with a reset.
    unread: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

#[derive(Debug)]
struct Connection {
    /// The dialling end, then the accepting one.
    ends: [SocketAddr; 2],
    /// What each of them sends.
    pipes: [Pipe; 2],
    /// The reset that an end has received: it reads and writes nothing any more.
    reset: [bool; 2],
    /// Ends that are dropped.
    gone: [bool; 2],
}

#[derive(Debug)]
struct Inner {
    rng: SmallRng,
    weather: Weather,
    hosts: BTreeMap<IpAddr, Host>,
    cut: BTreeSet<(IpAddr, IpAddr)>,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    /// Dials that wait for a road to be mended.
    dialling: Vec<Waker>,
    /// A hash over everything that was read, by whom and when.
    digest: u64,
    started: Instant,
}

/// A simulated network. Clones are handles on the same one.
#[derive(Clone, Debug)]
pub(crate) struct SimNet(Arc<Mutex<Inner>>);

impl Inner {
    fn delay(&mut self) -> Duration {
        let (least, most) = self.weather.delay;
        let delay = self.rng.random_range(least..=most);
        if self.rng.random_bool(self.weather.slow_share) { delay * 10 } else { delay }
    }

    fn note(&mut self, what: u64) {
        let at = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        for word in [at, what] {
            self.digest = (self.digest ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
    }

    fn down(&self, ip: IpAddr) -> Option<Down> {
        self.hosts.get(&ip).map_or(Some(Down::Dark), |host| host.down)
    }

    /// Whether packets get from one host to another now.
    fn passes(&self, from: IpAddr, to: IpAddr) -> bool {
        !self.cut.contains(&(from, to)) && self.down(from) != Some(Down::Dark) && self.down(to) != Some(Down::Dark)
    }

    /// Sends a packet from this end of a connection, behind those that are on their way.
    fn send(&mut self, key: u64, end: usize, packet: Packet) {
        let at = Instant::now() + self.delay();
        let Some(pipe) = self.connections.get_mut(&key).and_then(|connection| connection.pipes.get_mut(end)) else {
            return;
        };
        let at = pipe.packets.back().map_or(at, |(last, _)| at.max(*last));
        pipe.ended |= !matches!(packet, Packet::Bytes(_));
        if let Packet::Bytes(bytes) = &packet {
            pipe.held += bytes.len();
        }
        pipe.packets.push_back((at, packet));
        if let Some(reader) = pipe.reader.take() {
            reader.wake();
        }
    }

    /// This end resets: what it sent and has not arrived may be lost with it.
    fn abort(&mut self, key: u64, end: usize) {
        let Some(pipe) = self.connections.get_mut(&key).and_then(|connection| connection.pipes.get_mut(end)) else {
            return;
        };
        if matches!(pipe.packets.back(), Some((_, Packet::Reset))) {
            return;
        }
        let stays = self.rng.random_range(0..=pipe.packets.len());
        for (_, packet) in pipe.packets.drain(stays..) {
            if let Packet::Bytes(bytes) = packet {
                pipe.held -= bytes.len();
            }
        }
        self.send(key, end, Packet::Reset);
    }

    /// This end is dropped, by its program or with it.
    fn close(&mut self, key: u64, end: usize, killed: bool) {
        let now = Instant::now();
        let Some(connection) = self.connections.get_mut(&key) else { return };
        let Some(gone) = connection.gone.get_mut(end) else { return };
        if std::mem::replace(gone, true) {
            return;
        }
        if connection.gone == [true, true] {
            self.connections.remove(&key);
            return;
        }
        let Some(other) = connection.pipes.get_mut(1 - end) else { return };
        let unread = other.packets.iter().any(|(at, packet)| *at <= now && matches!(packet, Packet::Bytes(_)));
        other.unread = true;
        other.packets.clear();
        other.held = 0;
        other.wake();
        let ended = connection.pipes.get(end).is_some_and(|pipe| pipe.ended);
        if unread || (killed && self.rng.random_bool(0.5)) {
            self.abort(key, end);
        } else if !ended {
            self.send(key, end, Packet::End);
        }
    }

    fn wake_all(&mut self) {
        for connection in self.connections.values_mut() {
            connection.pipes.iter_mut().for_each(Pipe::wake);
        }
        for waker in self.dialling.drain(..) {
            waker.wake();
        }
        for listening in self.hosts.values_mut().flat_map(|host| host.listeners.values_mut()) {
            if let Some(waker) = listening.waker.take() {
                waker.wake();
            }
        }
    }
}

impl SimNet {
    /// A network without hosts.
    #[must_use]
    pub(crate) fn new(seed: u64, weather: Weather) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            rng: SmallRng::seed_from_u64(seed),
            weather,
            hosts: BTreeMap::new(),
            cut: BTreeSet::new(),
            connections: BTreeMap::new(),
            next_connection: 0,
            dialling: Vec::new(),
            digest: 0,
            started: Instant::now(),
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host with this address; it is up from now on. What it does not know any more is reset.
    #[must_use]
    pub(crate) fn host(&self, ip: IpAddr) -> SimHost {
        let mut inner = self.inner();
        let host = inner.hosts.entry(ip).or_insert_with(|| Host { next_port: 40_000, ..Host::default() });
        host.down = None;
        inner.wake_all();
        drop(inner);
        SimHost { net: self.clone(), ip }
    }

    /// Takes a host down: its connections break as [`Down`] says. Drop its tasks after this.
    pub(crate) fn down(&self, ip: IpAddr, how: Down) {
        let mut inner = self.inner();
        let host = inner.hosts.entry(ip).or_default();
        host.down = Some(how);
        host.listeners.clear();
        let ends: Vec<(u64, usize)> = (inner.connections.iter())
            .flat_map(|(key, connection)| (0..).zip(connection.ends).map(move |(end, address)| (*key, end, address)))
            .filter(|(_, _, address)| address.ip() == ip)
            .map(|(key, end, _)| (key, end))
            .collect();
        for (key, end) in ends {
            if how == Down::Dark {
                // What it had sent is lost, and the reset waits in its pipe until it has power again.
                inner.abort(key, end);
            }
            inner.close(key, end, true);
        }
        inner.wake_all();
    }

    /// Cuts the road from one host to another, or mends it. Each direction has its own.
    pub(crate) fn cut(&self, from: IpAddr, to: IpAddr, cut: bool) {
        let mut inner = self.inner();
        if cut {
            inner.cut.insert((from, to));
        } else {
            inner.cut.remove(&(from, to));
            inner.wake_all();
        }
    }

    /// Breaks the connections between two hosts, as a firewall that forgot them would.
    pub(crate) fn reset(&self, a: IpAddr, b: IpAddr) {
        let mut inner = self.inner();
        let between: Vec<u64> = (inner.connections.iter())
            .filter(|(_, connection)| {
                let ips = connection.ends.map(|end| end.ip());
                ips == [a, b] || ips == [b, a]
            })
            .map(|(key, _)| *key)
            .collect();
        for key in between {
            inner.abort(key, 0);
            inner.abort(key, 1);
        }
    }

    /// Makes everything well: all roads mended, and the weather fair. Hosts that are down stay so.
    pub(crate) fn heal(&self) {
        let mut inner = self.inner();
        inner.cut.clear();
        inner.weather.slow_share = 0.0;
        inner.wake_all();
    }

    /// A hash over everything that was read so far, by whom and when.
    #[must_use]
    pub(crate) fn digest(&self) -> u64 {
        self.inner().digest
    }
}

/// A host of a [`SimNet`]. Clones are the same host.
#[derive(Clone, Debug)]
pub(crate) struct SimHost {
    net: SimNet,
    ip: IpAddr,
}

impl SimHost {
    /// Listens at a port.
    ///
    /// # Errors
    /// The port is taken, or the host is down.
    pub(crate) fn listen(&self, port: u16) -> io::Result<SimListener> {
        let mut inner = self.net.inner();
        let host =
            inner.hosts.get_mut(&self.ip).filter(|host| host.down.is_none()).ok_or(io::ErrorKind::NetworkDown)?;
        if host.listeners.contains_key(&port) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        host.listeners.insert(port, Listening::default());
        drop(inner);
        Ok(SimListener { host: self.clone(), port })
    }

    /// Connects to `ip:port`; hangs while the road is cut or the host dark.
    ///
    /// # Errors
    /// Nothing listens there.
    pub(crate) async fn dial(&self, to: &str) -> io::Result<SimStream> {
        let to: SocketAddr = to.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "not an address"))?;
        let there = self.net.inner().delay();
        tokio::time::sleep(there).await;
        std::future::poll_fn(|cx| {
            let mut inner = self.net.inner();
            if inner.passes(self.ip, to.ip()) && inner.passes(to.ip(), self.ip) {
                Poll::Ready(())
            } else {
                inner.dialling.push(cx.waker().clone());
                Poll::Pending
            }
        })
        .await;
        let (stream, back) = {
            let mut inner = self.net.inner();
            (self.connect(&mut inner, to), inner.delay())
        };
        tokio::time::sleep(back).await;
        stream
    }

    fn connect(&self, inner: &mut Inner, to: SocketAddr) -> io::Result<SimStream> {
        let host = inner.hosts.entry(self.ip).or_default();
        host.next_port = host.next_port.checked_add(1).unwrap_or(40_000);
        let from = SocketAddr::new(self.ip, host.next_port);
        let key = inner.next_connection;
        let listening = inner.hosts.get_mut(&to.ip()).and_then(|host| host.listeners.get_mut(&to.port()));
        let listening = listening.filter(|listening| listening.waiting.len() < BACKLOG_MAX);
        let listening = listening.ok_or(io::ErrorKind::ConnectionRefused)?;
        listening.waiting.push_back(key);
        if let Some(waker) = listening.waker.take() {
            waker.wake();
        }
        inner.next_connection += 1;
        let connection = Connection {
            ends: [from, to],
            pipes: [Pipe::default(), Pipe::default()],
            reset: [false, false],
            gone: [false, false],
        };
        inner.connections.insert(key, connection);
        Ok(SimStream::new(&self.net, key, 0, [from, to]))
    }
}

/// A port of a host that takes connections, until it is dropped.
#[derive(Debug)]
pub(crate) struct SimListener {
    host: SimHost,
    port: u16,
}

impl SimListener {
    /// Where it listens.
    #[must_use]
    pub(crate) const fn local_addr(&self) -> SocketAddr {
        SocketAddr::new(self.host.ip, self.port)
    }

    /// The next connection.
    ///
    /// # Errors
    /// The host is down.
    pub(crate) async fn accept(&self) -> io::Result<(SimStream, SocketAddr)> {
        std::future::poll_fn(|cx| {
            let mut inner = self.host.net.inner();
            let host = inner.hosts.get_mut(&self.host.ip);
            let Some(listening) = host.and_then(|host| host.listeners.get_mut(&self.port)) else {
                return Poll::Ready(Err(io::ErrorKind::NetworkDown.into()));
            };
            let Some(key) = listening.waiting.pop_front() else {
                listening.waker = Some(cx.waker().clone());
                return Poll::Pending;
            };
            let ends = inner.connections.get(&key).map(|connection| connection.ends);
            let Some([from, to]) = ends else {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            };
            Poll::Ready(Ok((SimStream::new(&self.host.net, key, 1, [to, from]), from)))
        })
        .await
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let mut inner = self.host.net.inner();
        let listening = inner.hosts.get_mut(&self.host.ip).and_then(|host| host.listeners.remove(&self.port));
        for key in listening.into_iter().flat_map(|listening| listening.waiting) {
            inner.close(key, 1, true);
        }
    }
}

#[cfg(test)]
mod tests;
