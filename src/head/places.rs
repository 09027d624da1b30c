//! Takes places for clients, and has those leave that have to: the rules are in [`super::guests`].

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use tokio::time::{Instant, sleep};

use super::alarms::Log;
use super::guests::{Admission, Exit, Guest, Stay, admit, is_idle};
use super::state::Head;
use super::visits::{Visit, Visitor};
use crate::limits;
use crate::wire::error::{Code, Refusal};
use crate::wire::text::{full_at_address_text, full_text};

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
        make_room(head, peer.ip().to_canonical())?;
        Ok(Self::sit(head, peer, dialect, exit))
    }

    /// A place beside those that there are, where a client of this address has a name that the newcomer may be about to say: it
    /// lost its power, and what it had open holds its place. It has to be kept with [`keep`](Self::keep).
    pub(crate) fn try_out(head: &'a Head, peer: SocketAddr, dialect: &'static str, exit: &Rc<Exit>) -> Option<Self> {
        let (guests, ip) = (head.places.guests(), peer.ip().to_canonical());
        let is_named = |guest: &Rc<Guest>| guest.peer.ip() == ip && guest.said.get().is_some_and(|said| !said.several);
        let has_room = guests.iter().filter(|guest| guest.is_tried.get()).count() < limits::TRIAL_PLACES_MAX;
        let place = (has_room && guests.iter().any(is_named)).then(|| Self::sit(head, peer, dialect, exit))?;
        place.guest.is_tried.set(true);
        Some(place)
    }

    /// Keeps a place that was tried out, if there is one by now.
    ///
    /// # Errors
    /// There is none: tell the client.
    pub(crate) fn keep(&self) -> Result<(), Refusal> {
        make_room(self.head, self.guest.peer.ip())?;
        self.guest.is_tried.set(false);
        Ok(())
    }

    fn sit(head: &'a Head, peer: SocketAddr, dialect: &'static str, exit: &Rc<Exit>) -> Self {
        head.is_in(peer);
        let places = &head.places;
        let serial = places.next.get();
        places.next.set(serial + 1);
        let guest = Rc::new(Guest {
            serial,
            peer: SocketAddr::new(peer.ip().to_canonical(), peer.port()),
            dialect: Cell::new(dialect),
            client: Cell::default(),
            said: Cell::default(),
            since: head.config.clock.now(),
            heard: Cell::new(Instant::now()),
            messages: Cell::default(),
            busy: Cell::default(),
            is_tried: Cell::default(),
            visit: Cell::default(),
            exit: Rc::clone(exit),
        });
        places.guests.borrow_mut().insert(serial, Rc::clone(&guest));
        Self { head, guest }
    }
}

/// Sees to it that there is a place for a client from there. Who is tried out has none.
fn make_room(head: &Head, ip: IpAddr) -> Result<(), Refusal> {
    let rules = &head.config.clients;
    let guests = head.places.guests();
    let others: Vec<Stay> = guests.iter().filter(|guest| !guest.is_tried.get()).map(|guest| guest.stay()).collect();
    match admit(rules, ip, others.into_iter()) {
        Admission::Free => Ok(()),
        Admission::Full => Err(Refusal::new(Code::Full, full_text(rules.most))),
        Admission::AddressFull => {
            Err(Refusal::new(Code::Full, full_at_address_text(rules.per_address.unwrap_or_default(), ip)))
        }
        Admission::InPlaceOf(serial) => {
            let text = format!(
                "nothing was heard here for longer than {:?}, and another client of this address needs the place; connect again",
                rules.silent_after
            );
            leave(head, serial, Refusal::new(Code::Timeout, text));
            Ok(())
        }
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
        let who = guest.said.get().map(|said| format!(" as {}", said.who)).unwrap_or_default();
        self.note_client(&guest.exit, format_args!("connected{who}, {}", guest.dialect.get()));
        if noted.1 {
            tracing::info!(target: CLIENTES, "{} conectado", guest.shown());
        }
    }

    fn note_left(&self, guest: &Guest) {
        let Some((visitor, listed)) = guest.visit.get() else { return };
        let messages = guest.messages.get();
        self.note_client(&guest.exit, format_args!("left after {messages} messages"));
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
