//! The places for clients: who has one, who gives up its own to a newcomer, who has said nothing for too long.
//!
//! [`admit`] and [`is_idle`] decide and are pure. A connection is told through its [`Exit`], and its session ends as it would
//! when the head stops.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::alarms::Log;
use super::flow::stopping;
use super::state::Head;
use super::visits::{Visit, Visitor};
use crate::limits;
use crate::net::{self, Read, ReadHalf};
use crate::wire::error::{Code, Refusal};
use crate::wire::id::ClientId;
use crate::wire::said::Said;
use crate::wire::text::{full_at_address_text, full_text};

/// What clients may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Places for clients; data nodes do not count.
    pub(crate) most: usize,
    /// Places for the clients of one address, if that is bounded.
    pub(crate) per_address: Option<usize>,
    /// Silence after which a client has to give up its place to a newcomer of its address, where there is no other.
    pub(crate) silent_after: Duration,
    /// Silence after which a client is closed, if there is such a time.
    pub(crate) idle_after: Option<Duration>,
}

/// One client, as far as its place is concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stay {
    serial: u64,
    ip: IpAddr,
    silent: Duration,
    busy: bool,
}

/// Whether a newcomer gets a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Admission {
    /// There is one.
    Free,
    /// That of this client.
    InPlaceOf(u64),
    /// All are taken.
    Full,
    /// All of its address are taken.
    AddressFull,
}

/// Decides on a newcomer from `ip`, while `stays` have places.
pub(crate) fn admit(rules: &Rules, ip: IpAddr, stays: impl ExactSizeIterator<Item = Stay>) -> Admission {
    let is_full = stays.len() >= rules.most;
    if !is_full && rules.per_address.is_none() {
        return Admission::Free;
    }
    let mut here = 0;
    let mut quietest: Option<Stay> = None;
    for stay in stays.filter(|stay| stay.ip == ip) {
        here += 1;
        if !stay.busy && stay.silent > rules.silent_after && quietest.is_none_or(|other| stay.silent > other.silent) {
            quietest = Some(stay);
        }
    }
    let address_full = rules.per_address.is_some_and(|most| here >= most);
    match quietest {
        _ if !is_full && !address_full => Admission::Free,
        Some(stay) => Admission::InPlaceOf(stay.serial),
        None if address_full => Admission::AddressFull,
        None => Admission::Full,
    }
}

/// Whether a client has said nothing for too long.
const fn is_idle(stay: Stay, idle_after: Duration) -> bool {
    !stay.busy && stay.silent.as_nanos() > idle_after.as_nanos()
}

/// How one connection is ended before its time, and why.
pub(crate) struct Exit {
    /// Told when the connection has to end: by this, or because the head stops.
    pub(crate) token: CancellationToken,
    /// Told when it has to end once what has come already is read.
    soft: CancellationToken,
    why: RefCell<Option<Refusal>>,
}

impl Exit {
    /// For a connection that ends when `stopping` is told, at the latest.
    #[must_use]
    pub(crate) fn new(stopping: &CancellationToken) -> Rc<Self> {
        Rc::new(Self { token: stopping.child_token(), soft: CancellationToken::new(), why: RefCell::default() })
    }

    fn end(&self, why: Refusal) {
        self.why.replace(Some(why));
        self.token.cancel();
    }

    /// Whether the connection has to end.
    #[must_use]
    pub(crate) fn is_told(&self) -> bool {
        self.token.is_cancelled() || self.soft.is_cancelled()
    }

    /// Resolves when the connection has to end.
    pub(crate) async fn told(&self) {
        tokio::select! {
            biased;
            () = self.token.cancelled() => {}
            () = self.soft.cancelled() => {}
        }
    }

    /// Reads once, unless the connection has to end.
    pub(crate) async fn read(&self, socket: &mut ReadHalf<'_>, buffer: &mut BytesMut) -> Read {
        tokio::select! {
            biased;
            read = net::read(socket, buffer, &self.token) => read,
            () = self.soft.cancelled() => Read::Stopping,
        }
    }

    /// What the peer is told.
    #[must_use]
    pub(crate) fn words(&self) -> Refusal {
        self.why.borrow().clone().unwrap_or_else(stopping)
    }

    /// Resolves when a connection that had to end has had time enough for it: a peer that does not read is not waited for.
    pub(crate) async fn overdue(&self) {
        self.told().await;
        if self.why.borrow().is_none() {
            // The head stops, and waits for its connections itself.
            std::future::pending::<()>().await;
        }
        sleep(limits::PLACE_LEAVE_TIME_MAX).await;
    }
}

/// Who has just shaken hands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Newcomer {
    /// Where it comes from.
    pub(crate) peer: SocketAddr,
    /// What it said of itself.
    pub(crate) said: Option<Said>,
}

/// A client that has a place.
pub(crate) struct Guest {
    serial: u64,
    /// Where it comes from.
    pub(crate) peer: SocketAddr,
    /// How it speaks, as far as that is known.
    pub(crate) dialect: Cell<&'static str>,
    /// Its id, for one that has said Hello.
    pub(crate) client: Cell<Option<ClientId>>,
    /// What it said of itself.
    pub(crate) said: Cell<Option<Said>>,
    /// Since when.
    pub(crate) since: SystemTime,
    /// When it was heard last.
    heard: Cell<Instant>,
    /// Messages that came from it.
    pub(crate) messages: Cell<u64>,
    /// It reads, and need not say anything.
    pub(crate) busy: Cell<bool>,
    /// As whom it was noted in `clientes.log`, and whether with a line.
    visit: Cell<Option<(Visitor, bool)>>,
    exit: Rc<Exit>,
}

impl Guest {
    /// Something came from it.
    pub(crate) fn hear(&self) {
        self.heard.set(Instant::now());
    }

    /// For how long nothing has.
    #[must_use]
    pub(crate) fn silent(&self) -> Duration {
        self.heard.get().elapsed()
    }

    /// Messages came from it.
    pub(crate) fn add(&self, messages: u16) {
        self.messages.set(self.messages.get() + u64::from(messages));
    }

    /// Who it is, for people.
    fn shown(&self) -> String {
        let who = self.said.get().map_or_else(|| "-".to_owned(), |said| said.who.to_string());
        format!("{who} {} {}", self.peer, self.dialect.get())
    }

    fn stay(&self) -> Stay {
        Stay { serial: self.serial, ip: self.peer.ip(), silent: self.silent(), busy: self.busy.get() }
    }
}

/// All that have places, by the order in which they came.
#[derive(Default)]
pub(crate) struct Places {
    guests: RefCell<BTreeMap<u64, Rc<Guest>>>,
    next: Cell<u64>,
}

impl Places {
    /// How many are taken.
    #[must_use]
    pub(crate) fn taken(&self) -> usize {
        self.guests.borrow().len()
    }

    /// Who has them.
    #[must_use]
    pub(crate) fn guests(&self) -> Vec<Rc<Guest>> {
        self.guests.borrow().values().map(Rc::clone).collect()
    }
}

/// Takes a client's place from it.
fn leave(head: &Head, serial: u64, why: Refusal) {
    let guest = head.places.guests.borrow_mut().remove(&serial);
    if let Some(guest) = guest {
        let ip = guest.peer.ip();
        head.say(ip, Log::Info, &format!("a client at {ip} is closed: {why}"));
        guest.exit.end(why);
    }
}

/// Another connection has this client's name from now on: it loses its place, and ends once what has come from it is read.
pub(super) fn supersede(head: &Head, guest: &Guest, why: Refusal) {
    let guest = head.places.guests.borrow_mut().remove(&guest.serial);
    if let Some(guest) = guest {
        let ip = guest.peer.ip();
        head.say(ip, Log::Info, &format!("a client at {ip} is closed: {why}"));
        guest.exit.why.replace(Some(why));
        guest.exit.soft.cancel();
    }
}

/// A client's place; given back when it is dropped.
pub(crate) struct Place<'a> {
    head: &'a Head,
    /// Who has it.
    pub(crate) guest: Rc<Guest>,
}

impl<'a> Place<'a> {
    /// Takes a place, if there is one, or another client of its address is silent for long.
    ///
    /// # Errors
    /// There is none: tell the client.
    pub(crate) fn take(
        head: &'a Head,
        peer: SocketAddr,
        dialect: &'static str,
        exit: &Rc<Exit>,
    ) -> Result<Self, Refusal> {
        let (rules, places) = (&head.config.clients, &head.places);
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let admission = admit(rules, peer.ip(), places.guests.borrow().values().map(|guest| guest.stay()));
        match admission {
            Admission::Free => {}
            Admission::Full => return Err(Refusal::new(Code::Full, full_text(rules.most))),
            Admission::AddressFull => {
                let text = full_at_address_text(rules.per_address.unwrap_or_default(), peer.ip());
                return Err(Refusal::new(Code::Full, text));
            }
            Admission::InPlaceOf(serial) => {
                let text = format!(
                    "nothing was heard here for longer than {:?}, and another client of this address needs the place; connect again",
                    rules.silent_after
                );
                leave(head, serial, Refusal::new(Code::Timeout, text));
            }
        }
        let serial = places.next.get();
        places.next.set(serial + 1);
        let guest = Rc::new(Guest {
            serial,
            peer,
            dialect: Cell::new(dialect),
            client: Cell::default(),
            said: Cell::default(),
            since: head.config.clock.now(),
            heard: Cell::new(Instant::now()),
            messages: Cell::default(),
            busy: Cell::default(),
            visit: Cell::default(),
            exit: Rc::clone(exit),
        });
        places.guests.borrow_mut().insert(serial, Rc::clone(&guest));
        Ok(Self { head, guest })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.head.places.guests.borrow_mut().remove(&self.guest.serial);
        self.head.note_left(&self.guest);
    }
}

impl Head {
    /// A line in `clientes.log`: a client is connected, and it is known who it is.
    pub(crate) fn note_came(&self, guest: &Guest) {
        let visitor = guest.said.get().map_or(Visitor::From(guest.peer.ip()), |said| Visitor::Named(said.who));
        let noted = self.visits.borrow_mut().came(visitor, Instant::now());
        guest.visit.set(Some(noted));
        if noted.1 {
            tracing::info!(target: CLIENTES, "{} conectado", guest.shown());
        }
    }

    fn note_left(&self, guest: &Guest) {
        let Some((visitor, listed)) = guest.visit.get() else { return };
        let messages = guest.messages.get();
        self.visits.borrow_mut().left(&Visit { visitor, listed, messages });
        if listed {
            let client = guest.client.get().map(|id| id.to_string()).unwrap_or_default();
            let cause = if guest.exit.is_told() { guest.exit.words().text } else { "it closed".to_owned() };
            let shown = guest.shown();
            tracing::info!(target: CLIENTES, "{shown} desconectado cliente={client} mensajes={messages}: {cause}");
        }
    }

    /// Lines in `clientes.log` for those that connect for each reading.
    pub(crate) fn sum_visits(&self, last: bool) {
        let lines = self.visits.borrow_mut().due(Instant::now(), last);
        lines.iter().for_each(|line| tracing::info!(target: CLIENTES, "{line}"));
    }
}

/// Target of what goes to `clientes.log`.
const CLIENTES: &str = "acopio::clientes";

/// Closes clients that say nothing for too long, until the head is dropped.
pub(crate) async fn close_idle(head: Rc<Head>) {
    let Some(idle_after) = head.config.clients.idle_after else { return };
    loop {
        sleep((idle_after / 4).clamp(limits::IDLE_LOOK_MIN, limits::IDLE_LOOK_MAX)).await;
        for guest in head.places.guests() {
            if is_idle(guest.stay(), idle_after) {
                let text = format!("nothing was heard for longer than {idle_after:?}; connect again");
                leave(&head, guest.serial, Refusal::new(Code::Timeout, text));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { most: 3, per_address: None, silent_after: Duration::from_secs(60), idle_after: None };

    fn ip(k: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, k])
    }

    fn stay(serial: u64, k: u8, silent_s: u64) -> Stay {
        Stay { serial, ip: ip(k), silent: Duration::from_secs(silent_s), busy: false }
    }

    #[test]
    fn who_was_silent_longest_gives_its_place_to_a_newcomer_of_its_own_address() {
        let full = [stay(1, 7, 61), stay(2, 7, 75), stay(3, 8, 3600)];
        assert_eq!(admit(&RULES, ip(7), full.into_iter()), Admission::InPlaceOf(2));
        assert_eq!(admit(&RULES, ip(8), full.into_iter()), Admission::InPlaceOf(3));
        assert_eq!(admit(&RULES, ip(9), full.into_iter()), Admission::Full, "nobody takes another's");
        let talkative = [stay(1, 7, 59), stay(2, 7, 60), stay(3, 8, 0)];
        assert_eq!(admit(&RULES, ip(7), talkative.into_iter()), Admission::Full);
        let busy = [Stay { busy: true, ..stay(1, 7, 3600) }, stay(2, 8, 0), stay(3, 8, 0)];
        assert_eq!(admit(&RULES, ip(7), busy.into_iter()), Admission::Full, "it reads");
        assert_eq!(admit(&RULES, ip(7), full.into_iter().take(2)), Admission::Free);
    }

    #[test]
    fn an_address_has_so_many_places_at_most() {
        let rules = Rules { most: 100, per_address: Some(2), ..RULES };
        let stays = [stay(1, 7, 0), stay(2, 7, 30), stay(3, 8, 3600)];
        assert_eq!(admit(&rules, ip(7), stays.into_iter()), Admission::AddressFull);
        assert_eq!(admit(&rules, ip(8), stays.into_iter()), Admission::Free);
        assert_eq!(admit(&rules, ip(9), stays.into_iter()), Admission::Free);
        let silent = [stay(1, 7, 0), stay(2, 7, 61)];
        assert_eq!(admit(&rules, ip(7), silent.into_iter()), Admission::InPlaceOf(2));
    }

    #[test]
    fn idle_is_who_says_nothing_and_does_not_read() {
        let idle_after = Duration::from_secs(30);
        assert!(is_idle(stay(1, 7, 31), idle_after) && !is_idle(stay(1, 7, 30), idle_after));
        assert!(!is_idle(Stay { busy: true, ..stay(1, 7, 3600) }, idle_after));
    }
}
