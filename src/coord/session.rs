//! One process's session with ZooKeeper, for as long as the process likes.
//!
//! A client of the protocol is dead once its session has expired. This one is replaced then: a task holds it, watches its
//! state, and makes a new one with growing waits. The recipes ask for the present client before each operation and learn
//! from its [`Generation`] whether what they made is still theirs.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use zookeeper_client as zk;

use super::error::{Error, is_passing};
use super::probe;
use super::servers::Servers;
use crate::limits;
use crate::net::Backoff;

/// How to open a session.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where.
    pub servers: Servers,
    /// Silence after which ZooKeeper gives the session up; it takes 2 to 20 of its ticks.
    pub timeout: Duration,
    /// Who this is, for znodes with an ACL.
    pub login: Option<Login>,
    /// Whether to wait at the start for a ZooKeeper that is not there yet, instead of failing.
    pub patient: bool,
}

/// Who a client says it is, such as scheme `digest` and `user:password`.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The scheme of the ACLs.
    pub scheme: String,
    /// What the scheme wants.
    pub secret: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({}:...)", self.scheme)
    }
}

impl Config {
    /// A session of kazoo's length, without a login, that fails if there is no ZooKeeper.
    #[must_use]
    pub const fn new(servers: Servers) -> Self {
        Self { servers, timeout: limits::ZK_SESSION_TIMEOUT_DEFAULT, login: None, patient: false }
    }
}

/// How a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A server answers.
    Connected,
    /// No server answers. The session may still live, and may be over for the servers before this process learns of it:
    /// who leads stops.
    Suspended,
    /// The session is over: its ephemeral znodes are gone, or go. A new one is being made.
    Lost,
    /// Closed by this process.
    Closed,
}

/// A session; clones share it. Once the last one is gone, or at [`Self::close`], it ends and its ephemeral znodes go.
#[derive(Clone, Debug)]
pub struct Session {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    servers: Servers,
    now: watch::Receiver<Now>,
    vitals: Arc<Vitals>,
    end: CancellationToken,
    /// Ends the task when the last session of this process's is dropped.
    _dropped: DropGuard,
}

/// What the task tells everybody.
#[derive(Clone, Debug)]
struct Now {
    state: State,
    /// The client, unless the session is lost or closed.
    live: Option<Live>,
    /// The task is done.
    ended: bool,
}

/// What the task writes and everybody reads.
#[derive(Debug)]
struct Vitals {
    /// When the process was seen running with a server that answers, the last time.
    pulse: Mutex<Instant>,
    /// Sessions of this process that are over.
    past: Mutex<VecDeque<i64>>,
}

/// Which of the sessions of this process; a later one has a greater number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Generation(u64);

/// The client of now. Never kept while waiting: a session ends when all its clients are gone.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub client: zk::Client,
    pub generation: Generation,
}

impl Live {
    pub(super) fn session_id(&self) -> i64 {
        self.client.session_id().0
    }
}

impl Session {
    /// Opens a session. Inside a tokio runtime: a task of its own watches it.
    ///
    /// # Errors
    /// [`Error::Unreachable`] with what was found instead, unless the configuration is patient; [`Error::NoChroot`].
    pub async fn open(config: Config) -> Result<Self, Error> {
        let mut said = false;
        let mut pause = Pause::default();
        let begun = Instant::now();
        let client = loop {
            match connect(&config).await {
                Ok(client) => break client,
                Err(error) => {
                    let (trouble, hope) = unreachable(&config, &error).await;
                    if !config.patient && (!hope || begun.elapsed() > limits::ZK_OPEN_TIME_MAX) {
                        return Err(trouble);
                    }
                    if !said {
                        tracing::warn!("{trouble}; trying again");
                    }
                    said = true;
                    pause.wait().await;
                }
            }
        };
        check_chroot(&config.servers, &client).await?;
        let live = Live { client, generation: Generation(0) };
        let (sender, now) = watch::channel(Now { state: State::Connected, live: Some(live.clone()), ended: false });
        let vitals = Arc::new(Vitals { pulse: Mutex::new(Instant::now()), past: Mutex::default() });
        let end = CancellationToken::new();
        let servers = config.servers.clone();
        tokio::spawn(Keeper { config, sender, vitals: Arc::clone(&vitals), ending: end.clone() }.run(live));
        Ok(Self { shared: Arc::new(Shared { servers, now, vitals, _dropped: end.clone().drop_guard(), end }) })
    }

    /// Ends the session in order: its ephemeral znodes are gone when this returns, if a server answers. Whoever still
    /// waits for something gets [`Error::Closed`].
    pub async fn close(&self) {
        self.shared.end.cancel();
        let mut now = self.shared.now.clone();
        // An error says that the task is gone.
        drop(now.wait_for(|now| now.ended).await);
    }

    /// How it is.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared.now.borrow().state
    }

    /// Tells each change of the state from now on.
    #[must_use]
    pub fn states(&self) -> States {
        let now = self.shared.now.clone();
        let told = now.borrow().state;
        States { now, told }
    }

    /// The number of the session, which is the owner of its ephemeral znodes; none while it is lost or closed.
    #[must_use]
    pub fn id(&self) -> Option<i64> {
        self.shared.now.borrow().live.as_ref().map(Live::session_id)
    }

    /// The servers it was opened with.
    #[must_use]
    pub fn servers(&self) -> &Servers {
        &self.shared.servers
    }

    /// The session's timeout as the server grants it; none while it is lost or closed.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.shared.now.borrow().live.as_ref().map(|live| live.client.session_timeout())
    }

    /// The client of now, once a server answers.
    pub(super) async fn live(&self) -> Result<Live, Error> {
        let mut now = self.shared.now.clone();
        loop {
            {
                let now = now.borrow_and_update();
                match (now.state, &now.live) {
                    (State::Closed, _) => return Err(Error::Closed),
                    (State::Connected, Some(live)) => return Ok(live.clone()),
                    _ => {}
                }
            }
            now.changed().await.map_err(|_| Error::Closed)?;
        }
    }

    /// Whether this is one of this process's own sessions that are over.
    pub(super) fn was_ours(&self, owner: i64) -> bool {
        self.shared.vitals.past.lock().unwrap_or_else(PoisonError::into_inner).contains(&owner)
    }

    /// Whether this generation goes on, as far as is known.
    pub(super) fn is_of(&self, generation: Generation) -> bool {
        self.shared.now.borrow().is_of(generation)
    }

    /// Whether what was made in this generation is there for sure: a server answers, and the process was not paused.
    pub(super) fn is_certain(&self, generation: Generation) -> bool {
        let fresh = Instant::now() < self.certain_until();
        fresh && self.shared.now.borrow().holds(generation)
    }

    /// Resolves at the first doubt in this generation: no server answers, or the process was paused for long.
    pub(super) async fn doubted(&self, generation: Generation) {
        let mut now = self.shared.now.clone();
        // An error says that the task is gone, and with it the session.
        drop(now.wait_for(|now| !now.holds(generation)).await);
    }

    /// Resolves once the servers may have given up this generation: a doubt that lasts until no more is certain.
    pub(super) async fn over(&self, generation: Generation) {
        loop {
            self.doubted(generation).await;
            let mut now = self.shared.now.clone();
            let wait = now.wait_for(|now| now.state == State::Connected || !now.is_of(generation));
            tokio::select! {
                biased;
                () = sleep_until(self.certain_until()) => return,
                back = wait => if !back.is_ok_and(|now| now.holds(generation)) { return },
            }
        }
    }

    /// Until when ephemeral znodes are there for sure, if nothing more is heard. A server counts the timeout from the last
    /// word of a client. The client of the protocol calls a server away after two fifths of it and some ticks, so the last
    /// word was at most half of it before the last pulse.
    fn certain_until(&self) -> Instant {
        let timeout = self.timeout().unwrap_or_default();
        *self.shared.vitals.pulse.lock().unwrap_or_else(PoisonError::into_inner) + timeout / 2
    }
}

impl Now {
    fn is_of(&self, generation: Generation) -> bool {
        self.live.as_ref().is_some_and(|live| live.generation == generation)
    }

    fn holds(&self, generation: Generation) -> bool {
        self.state == State::Connected && self.is_of(generation)
    }
}

/// The changes of a session's state.
#[derive(Debug)]
pub struct States {
    now: watch::Receiver<Now>,
    told: State,
}

impl States {
    /// The next state that is not the one before; none after [`State::Closed`].
    pub async fn next(&mut self) -> Option<State> {
        let told = self.told;
        self.told = self.now.wait_for(|now| now.state != told).await.ok()?.state;
        Some(self.told)
    }
}

/// Growing waits between tries.
#[derive(Debug)]
pub(super) struct Pause {
    backoff: Backoff,
    rng: SmallRng,
}

impl Default for Pause {
    fn default() -> Self {
        Self { backoff: Backoff::default(), rng: SmallRng::seed_from_u64(rand::random()) }
    }
}

impl Pause {
    pub(super) async fn wait(&mut self) {
        sleep(self.backoff.next(&mut self.rng)).await;
    }
}

/// One pass over all servers.
async fn connect(config: &Config) -> Result<zk::Client, zk::Error> {
    let mut connector = zk::Client::connector().with_session_timeout(config.timeout).with_fail_eagerly();
    if let Some(login) = &config.login {
        connector = connector.with_auth(&login.scheme, login.secret.as_bytes());
    }
    connector.connect(&config.servers.to_string()).await
}

async fn unreachable(config: &Config, error: &zk::Error) -> (Error, bool) {
    let (cause, hope) = match error {
        zk::Error::AuthFailed => ("it does not take the login; mend --auth".to_owned(), false),
        _ => probe::explain(&config.servers).await,
    };
    (Error::Unreachable { servers: config.servers.clone(), cause }, hope)
}

async fn check_chroot(servers: &Servers, client: &zk::Client) -> Result<(), Error> {
    let Some(chroot) = servers.chroot() else { return Ok(()) };
    match client.check_stat("/").await {
        Ok(None) => Err(Error::NoChroot { servers: servers.without_chroot(), chroot: chroot.clone() }),
        // What passes is seen again by whoever asks next.
        Ok(Some(_)) => Ok(()),
        Err(error) if is_passing(&error) => Ok(()),
        Err(error) => Err(Error::refused("see", chroot, &error)),
    }
}

/// The task that holds the client.
struct Keeper {
    config: Config,
    sender: watch::Sender<Now>,
    vitals: Arc<Vitals>,
    ending: CancellationToken,
}

/// How a generation ended.
enum End {
    Lost,
    Closed,
}

impl Keeper {
    async fn run(self, first: Live) {
        let mut live = first;
        loop {
            match self.keep(&live).await {
                End::Closed => return self.close(live.client).await,
                End::Lost => {}
            }
            let servers = &self.config.servers;
            tracing::warn!("ZooKeeper {servers}: session {:#x} is over; making a new one", live.session_id());
            self.remember(live.session_id());
            let generation = Generation(live.generation.0 + 1);
            drop(live);
            self.tell(State::Lost, None);
            let Some(client) = self.connect_again().await else {
                self.sender.send_replace(Now { state: State::Closed, live: None, ended: true });
                return;
            };
            live = Live { client, generation };
            tracing::info!("ZooKeeper {servers}: session {:#x} takes its place", live.session_id());
        }
    }

    /// Watches one client until its session is over or the end is asked for.
    async fn keep(&self, live: &Live) -> End {
        let servers = &self.config.servers;
        let mut states = live.client.state_watcher();
        let every = (live.client.session_timeout() / limits::ZK_PULSES).max(Duration::from_millis(1));
        let mut pulses = interval(every);
        pulses.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.pulse();
        let mut state = live.client.state();
        let mut told = State::Connected;
        loop {
            let now = match state {
                zk::SessionState::SyncConnected | zk::SessionState::ConnectedReadOnly => State::Connected,
                zk::SessionState::Disconnected => State::Suspended,
                _ => return End::Lost,
            };
            match (told, now) {
                (State::Connected, State::Suspended) => {
                    tracing::warn!("ZooKeeper {servers}: connection lost; trying again")
                }
                (State::Suspended, State::Connected) => tracing::info!("ZooKeeper {servers}: connected again"),
                _ => {}
            }
            if now == State::Connected {
                self.pulse();
            }
            told = now;
            self.tell(now, Some(live));
            loop {
                tokio::select! {
                    biased;
                    () = self.ending.cancelled() => return End::Closed,
                    next = states.changed() => { state = next; break }
                    _ = pulses.tick() => {}
                }
                if told == State::Connected && !self.was_running(live).await {
                    state = live.client.state();
                    break;
                }
            }
        }
    }

    /// Notes a sign of life. After a pause of the whole process, which may have outlived the session, asks a server first;
    /// false if the state is to be looked at again.
    async fn was_running(&self, live: &Live) -> bool {
        let pulse = *self.vitals.pulse.lock().unwrap_or_else(PoisonError::into_inner);
        if pulse.elapsed() < live.client.session_timeout() / 2 {
            self.pulse();
            return true;
        }
        tracing::warn!(
            "this process stood still for {:?}; asking ZooKeeper whether the session lives",
            pulse.elapsed()
        );
        self.tell(State::Suspended, Some(live));
        // Either way the client's state says what it came to.
        drop(live.client.check_stat("/").await);
        false
    }

    fn pulse(&self) {
        *self.vitals.pulse.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn remember(&self, id: i64) {
        let mut past = self.vitals.past.lock().unwrap_or_else(PoisonError::into_inner);
        if past.len() >= limits::ZK_PAST_SESSIONS_MAX {
            past.pop_front();
        }
        past.push_back(id);
    }

    fn tell(&self, state: State, live: Option<&Live>) {
        self.sender.send_if_modified(|now| {
            if now.state == state && now.live.as_ref().map(|l| l.generation) == live.map(|l| l.generation) {
                return false;
            }
            *now = Now { state, live: live.cloned(), ended: false };
            true
        });
    }

    /// A new client; none if the end was asked for first.
    async fn connect_again(&self) -> Option<zk::Client> {
        let mut pause = Pause::default();
        let mut said = false;
        loop {
            let tried = tokio::select! {
                biased;
                () = self.ending.cancelled() => return None,
                tried = connect(&self.config) => tried,
            };
            let error = match tried {
                Ok(client) => return Some(client),
                Err(error) => error,
            };
            if !said {
                tracing::warn!("{}; trying again", unreachable(&self.config, &error).await.0);
            }
            said = true;
            tokio::select! {
                biased;
                () = self.ending.cancelled() => return None,
                () = pause.wait() => {}
            }
        }
    }

    /// Drops the last client, which tells the server that the session ends, and waits until it has.
    async fn close(&self, client: zk::Client) {
        let mut states = client.state_watcher();
        let over = client.state().is_terminated();
        self.sender.send_replace(Now { state: State::Closed, live: None, ended: false });
        drop(client);
        let closed = async { while !over && !states.changed().await.is_terminated() {} };
        if timeout(limits::ZK_CLOSE_TIME_MAX, closed).await.is_err() {
            let servers = &self.config.servers;
            tracing::warn!("ZooKeeper {servers}: no answer to the end of the session; its znodes go after its timeout");
        }
        self.sender.send_modify(|now| now.ended = true);
    }
}
