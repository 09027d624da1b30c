//! A broker's life: it listens for its peer, forwards while it is active, and says what it does in the original's words.
//!
//! What is decided here is nothing; [`star`](super::star) does that.

use std::cell::Cell;
use std::future::pending;
use std::rc::Rc;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::keep::Keeper;
use super::office::Office;
use super::pump::{Late, Pump};
use super::star::{Probe, Role, Star, State, Turn, Why};
use super::zmq::back::Back;
use super::zmq::{Bounds, Error as ZmqError, Message, Slow, Subscriber};
use super::{Config, Error};
use crate::limits;

/// The original's heartbeat.
const BEAT: &[u8] = b"HB";

/// Runs a broker until it is told to stop.
///
/// # Errors
/// A port can't be listened on.
pub(crate) async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let keeper = config.keep.as_ref().map(Keeper::start).transpose()?;
    let result = Broker::open(&config, keeper.as_ref()).await?.serve(&shutdown).await;
    if let Some(keeper) = keeper {
        keeper.end().await;
    }
    result
}

struct Broker<'a> {
    config: &'a Config,
    keeper: Option<&'a Keeper>,
    star: Star,
    /// Until when the pump may forward.
    lease: Rc<Cell<Option<Instant>>>,
    beat: Back,
    ear: Option<Subscriber>,
    office: Option<Office>,
    probe: Option<JoinHandle<Probe>>,
    pump: Option<Pump<'a>>,
    /// Its peer was active while it was not.
    stood_by: bool,
}

/// What woke the broker.
enum Event {
    Stop,
    Tick,
    Heard(Result<Message, ZmqError>),
    Probed(Probe),
    Pumped(Late),
    Elected,
}

impl<'a> Broker<'a> {
    async fn open(config: &'a Config, keeper: Option<&'a Keeper>) -> Result<Self, Error> {
        let at = config.own(config.ports.beat);
        // A listener that stands still must not hold up the broker.
        let bounds = Bounds { slow: Slow::DropNewest, ..config.server() };
        let bound = Back::bind(&at, &bounds, "listener to the heartbeat").await;
        let beat = bound.map_err(|source| Error::Listen { source })?;
        let office = match &config.election {
            Some(election) => Some(Office::stand(election, config).await?),
            None => None,
        };
        let ear = match config.peers(config.ports.beat).filter(|_| office.is_none()) {
            Some(peer) => Some(Subscriber::connect(&[peer], &config.client(), &[b""]).await?),
            None => None,
        };
        let star = Star::new(config.role, ear.is_some() || office.is_some(), config.dead_after, Instant::now());
        let lease = Rc::new(Cell::new(None));
        Ok(Self { config, keeper, star, lease, beat, ear, office, probe: None, pump: None, stood_by: false })
    }

    async fn serve(mut self, shutdown: &CancellationToken) -> Result<(), Error> {
        if self.star.state() == State::StandingBy {
            self.say_that_it_stands_by();
        }
        let mut ticks = interval(self.config.beat);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                biased;
                () = shutdown.cancelled() => Event::Stop,
                _ = ticks.tick() => Event::Tick,
                heard = hear(self.ear.as_ref()) => Event::Heard(heard),
                probe = answer(&mut self.probe) => Event::Probed(probe),
                changed = elected(self.office.as_mut()) => changed.map(|()| Event::Elected)?,
                ended = pumping(&mut self.pump) => Event::Pumped(ended),
            };
            let now = Instant::now();
            let turn = match event {
                Event::Stop => break,
                Event::Tick => self.tick(now).await,
                Event::Heard(message) if message.as_ref().is_ok_and(|message| message.topic() != BEAT) => Turn::Stay,
                Event::Heard(message) => message.map(|_| self.heard(now))?,
                Event::Probed(probe) => self.star.probed(probe, now),
                Event::Elected => self.judge(now),
                // Elected or not, what it had is let go of first.
                Event::Pumped(Late) if self.office.is_some() => self.star.appointed(false, now),
                Event::Pumped(Late) => self.star.tick(now),
            };
            self.turn(turn).await?;
        }
        self.stop_forwarding().await;
        if let Some(office) = self.office.take() {
            office.resign().await;
        }
        self.beat.close(limits::TOPIC_LINGER_MAX).await;
        Ok(())
    }

    fn heard(&mut self, now: Instant) -> Turn {
        if !self.star.hears() {
            let peer = self.config.peer.as_deref().unwrap_or_default();
            tracing::info!("the heartbeat of {peer} is heard");
        }
        self.star.heard(now)
    }

    fn judge(&mut self, now: Instant) -> Turn {
        match &self.office {
            Some(office) => self.star.appointed(office.is_held(), now),
            None => self.star.tick(now),
        }
    }

    async fn tick(&mut self, now: Instant) -> Turn {
        let turn = self.judge(now);
        if self.ear.is_some() && self.star.wants_probe(now) && self.probe.is_none() {
            let (peer, patience) = (self.config.peers(self.config.ports.subscribers), self.config.beat);
            self.probe = peer.map(|peer| {
                tokio::spawn(async move {
                    match timeout(patience, TcpStream::connect((peer.host.as_str(), peer.port))).await {
                        Ok(Ok(_)) => Probe::Accepts,
                        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Probe::Refused,
                        Ok(Err(_)) | Err(_) => Probe::Silent,
                    }
                })
            });
        }
        if self.star.state() == State::Active && self.pump.is_some() {
            self.lease.set(self.star.lease());
            self.beat.send(&Message::new([Bytes::from_static(BEAT)])).await;
        }
        turn
    }

    async fn turn(&mut self, turn: Turn) -> Result<(), Error> {
        match turn {
            Turn::Stay => {}
            Turn::TakeOver => self.begin_forwarding().await?,
            Turn::StandBy(why) => {
                self.stop_forwarding().await;
                self.say_why(why);
                self.say_that_it_stands_by();
            }
        }
        Ok(())
    }

    async fn begin_forwarding(&mut self) -> Result<(), Error> {
        let ports = self.config.ports;
        match self.config.role {
            Role::Backup => tracing::warn!("Primary caído. Activando proxy en BACKUP..."),
            Role::Primary if self.stood_by => tracing::warn!("Backup caído. Activando proxy en PRIMARY..."),
            Role::Primary => {}
        }
        self.lease.set(self.star.lease());
        let pump = Pump::open(self.config, self.keeper, Rc::clone(&self.lease)).await;
        self.pump = Some(pump.map_err(|source| Error::Listen { source })?);
        match self.config.role {
            Role::Backup => tracing::info!("Broker BACKUP ahora activo como PRIMARY (proxy)."),
            Role::Primary => tracing::info!(
                "Broker PRIMARY escuchando en {}/{} (proxy) y {} (heartbeat)...",
                ports.publishers,
                ports.subscribers,
                ports.beat
            ),
        }
        self.beat.send(&Message::new([Bytes::from_static(BEAT)])).await;
        Ok(())
    }

    async fn stop_forwarding(&mut self) {
        self.lease.set(None);
        if let Some(pump) = self.pump.take() {
            pump.close().await;
        }
    }

    fn say_why(&self, why: Why) {
        let peer = self.config.peer.as_deref().unwrap_or_default();
        match why {
            Why::NotElected => tracing::info!("another broker is elected, or no ZooKeeper says who is"),
            Why::PeerIsActive => tracing::info!("the peer {peer} is active"),
            Why::PrimaryIsActive => tracing::warn!("the primary {peer} is active as well; this one gives way"),
            Why::PeerStays => tracing::error!(
                "the peer {peer} stays active and does not give way, so this one does; see whether it hears this \
                 broker's heartbeat"
            ),
            Why::StoodStill => tracing::warn!(
                "this broker stood still for longer than {:?}, so {peer} may be active; forwarding nothing until that \
                 is known",
                self.config.dead_after
            ),
        }
    }

    fn say_that_it_stands_by(&mut self) {
        self.stood_by = true;
        let role = match self.config.role {
            Role::Primary => "PRIMARY",
            Role::Backup => "BACKUP",
        };
        tracing::info!("Broker {role} en modo espera (escuchando heartbeats)...");
    }
}

/// Resolves when an election may have decided; never where there is none.
async fn elected(office: Option<&mut Office>) -> Result<(), Error> {
    match office {
        Some(office) => office.changed().await,
        None => pending().await,
    }
}

/// The next heartbeat; never without a peer.
async fn hear(ear: Option<&Subscriber>) -> Result<Message, ZmqError> {
    match ear {
        Some(ear) => ear.recv().await,
        None => pending().await,
    }
}

async fn answer(probe: &mut Option<JoinHandle<Probe>>) -> Probe {
    let Some(running) = probe else { return pending().await };
    let answer = running.await.unwrap_or(Probe::Silent);
    *probe = None;
    answer
}

async fn pumping(pump: &mut Option<Pump<'_>>) -> Late {
    match pump {
        Some(pump) => pump.ended().await,
        None => pending().await,
    }
}
