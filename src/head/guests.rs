//! Clients that have places, and the rules of that: who gives up its own to a newcomer, who has said nothing for too long.
//!
//! [`admit`] and [`is_idle`] decide and are pure. A connection is told through its [`Exit`], and its session ends as it would
//! when the head stops.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::flow::stopping;
use super::grants::Grant;
use super::visits::Visitor;
use crate::limits;
use crate::net::{self, Read, ReadHalf};
use crate::wire::error::Refusal;
use crate::wire::id::ClientId;
use crate::wire::said::Said;

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
pub(super) const fn is_idle(stay: Stay, idle_after: Duration) -> bool {
    !stay.busy && stay.silent.as_nanos() > idle_after.as_nanos()
}

/// How one connection is ended before its time, and why.
pub(crate) struct Exit {
    /// Where it comes from.
    pub(super) peer: SocketAddr,
    /// Told when the connection has to end: by this, or because the head stops.
    pub(crate) token: CancellationToken,
    /// Told when it has to end once what has come already is read.
    pub(super) soft: CancellationToken,
    pub(super) why: RefCell<Option<Refusal>>,
    /// It speaks TLS.
    pub(super) secured: Cell<bool>,
    /// What its certificate calls it, if it showed one.
    pub(super) certificate: RefCell<Option<Vec<String>>>,
    /// What it was let in with, where clients need a token.
    pub(super) grant: RefCell<Option<Grant>>,
}

impl Exit {
    /// For a connection that ends when `stopping` is told, at the latest.
    #[must_use]
    pub(crate) fn new(peer: SocketAddr, stopping: &CancellationToken) -> Rc<Self> {
        let (token, soft) = (stopping.child_token(), CancellationToken::new());
        let (secured, certificate) = (Cell::new(false), RefCell::default());
        Rc::new(Self { peer, token, soft, why: RefCell::default(), secured, certificate, grant: RefCell::default() })
    }

    pub(super) fn end(&self, why: Refusal) {
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

/// Connections that were let in with a token.
pub(super) type Bearers = Vec<Weak<Exit>>;

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
    pub(super) serial: u64,
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
    pub(super) heard: Cell<Instant>,
    /// Messages that came from it.
    pub(crate) messages: Cell<u64>,
    /// It reads, and need not say anything.
    pub(crate) busy: Cell<bool>,
    /// It was let in beside the places that there are, and has none yet.
    pub(super) is_tried: Cell<bool>,
    /// As whom it was noted in `clientes.log`, and whether with a line.
    pub(super) visit: Cell<Option<(Visitor, bool)>>,
    pub(super) exit: Rc<Exit>,
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
    pub(super) fn shown(&self) -> String {
        let who = self.said.get().map_or_else(|| "-".to_owned(), |said| said.who.to_string());
        format!("{who} {} {}", self.peer, self.dialect.get())
    }

    pub(super) fn stay(&self) -> Stay {
        Stay { serial: self.serial, ip: self.peer.ip(), silent: self.silent(), busy: self.busy.get() }
    }
}

/// All that have places, by the order in which they came.
#[derive(Default)]
pub(crate) struct Places {
    pub(super) guests: RefCell<BTreeMap<u64, Rc<Guest>>>,
    pub(super) next: Cell<u64>,
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
