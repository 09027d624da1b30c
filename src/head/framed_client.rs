//! A client session in frames: Store in, Acked and Refused out, in any order, many in flight.

use std::pin::pin;
use std::rc::Rc;

use bytes::BytesMut;
use tokio::time::{Instant, timeout, timeout_at};

use super::alarms::Log;
use super::core::Core;
use super::drain::Asked;
use super::effects::{Author, Batch, Origin};
use super::flow::{Flow, LastWords, drive};
use super::gate::{Awaited, Claim};
use super::guests::{Exit, Newcomer};
use super::pages::Wanted;
use super::places::Place;
use super::reads;
use super::registered::word;
use super::state::{Client, Head, Outcome};
use super::status::Parts;
use super::{status, text_client};
use crate::limits;
use crate::net::{Channel, Outbox, Read, ReadHalf, Turn, WriteHalf, read_some};
use crate::reading::notes::WORDS;
use crate::tokens::Role;
use crate::wire::error::{Code, Refusal};
use crate::wire::frame::{self, Frame, Messages};
use crate::wire::id::ClientId;
use crate::wire::proof::{Knock, Proof};
use crate::wire::said::Who;
use crate::wire::source::NOTES;
use crate::wire::text::{Dialect, quote};

struct FramedClient {
    outbox: Rc<Outbox>,
    flow: Flow,
}

impl FramedClient {
    /// Answers with the state of the head.
    fn report(&self, head: &Head, parts: Parts) -> Result<(), Refusal> {
        self.send(&Frame::StatusReport(status::report(head, parts).into()))
    }

    fn send(&self, frame: &Frame) -> Result<(), Refusal> {
        self.outbox.with(|out| frame.encode(out)).map_err(|error| error.refusal())
    }

    /// Has a client that is kept waiting know that this head is there.
    fn say_a_word(&self) {
        if self.outbox.len() < limits::CLIENT_ANSWERS_BYTES_MAX {
            self.outbox.with(|out| frame::ping(out, 0));
        }
    }
}

impl Client for FramedClient {
    fn settled(&self, _ticket: u64, batch: &Batch, outcome: Outcome) {
        let count = u32::from(batch.messages.count());
        let written = self.outbox.with(|buffer| match &outcome {
            Outcome::Kept { first, sync, nodes } => {
                frame::acked(buffer, batch.first_seq, count, *first, *sync, nodes.iter().map(|ip| &**ip))
            }
            Outcome::Refused(refusal) => refused(batch.first_seq, count, refusal.clone()).encode(buffer),
        });
        if let Err(error) = written {
            // The numbers came out of our own decoder, so they fit; the client's retry would find out otherwise.
            tracing::error!("an outcome cannot be sent: {error}");
        }
        self.flow.done(count as usize, batch.messages.block().len());
    }
}

/// Serves the session until the client has gone or the head stops.
pub(crate) async fn serve(
    head: &Rc<Head>,
    newcomer: Newcomer,
    mut read_half: ReadHalf<'_>,
    write_half: WriteHalf<'_>,
    mut buffer: BytesMut,
    exit: &Rc<Exit>,
) {
    let (shutdown, peer) = (&exit.token, newcomer.peer);
    let session = head.next_session();
    let client = Rc::new(FramedClient { outbox: Rc::default(), flow: Flow::default() });
    let _entered = head.enter(session, peer.ip(), Rc::clone(&client) as Rc<dyn Client>);
    let reader = async {
        let words = match read_frames(head, newcomer, &client, session, &mut read_half, &mut buffer, exit).await {
            Ok(()) if exit.is_told() => failure(&exit.words()),
            Ok(()) => LastWords::new(),
            Err(refusal) => {
                let line = format!("a framed client at {} is closed: {refusal}", peer.ip());
                head.say(peer.ip(), Log::Warn, &line);
                if matches!(refusal.code, Code::Denied | Code::Unproven) {
                    head.note_client(exit, format_args!("refused: {refusal}"));
                }
                failure(&refusal)
            }
        };
        (read_half, words)
    };
    if let Err(error) = drive(&client.outbox, &client.flow, shutdown, write_half, reader).await {
        match client.outbox.given_up() {
            Some(cause) => {
                let ip = peer.ip();
                head.say(ip, Log::Warn, &format!("a framed client at {ip} is closed: {cause}"));
            }
            None => tracing::debug!("a framed client's connection broke: {error}"),
        }
    }
}

/// The reader: every whole frame of a read, then the next read.
async fn read_frames(
    head: &Head,
    newcomer: Newcomer,
    client: &FramedClient,
    session: u64,
    socket: &mut ReadHalf<'_>,
    buffer: &mut BytesMut,
    exit: &Rc<Exit>,
) -> Result<(), Refusal> {
    let Newcomer { peer, said } = newcomer;
    let name = said.and_then(|said| said.source());
    let mut hello: Option<(ClientId, bool, Place<'_>)> = None;
    let mut deadline = Instant::now() + limits::HANDSHAKE_TIME_MAX;
    let mut turn = Turn::default();
    let mut changes = Changes::default();
    loop {
        while let Some(frame) = decode(buffer, hello.is_some())? {
            turn.spend(0).await;
            match (frame, &hello) {
                (Frame::Hello { client: id, text }, None) => {
                    exit.may(Role::Write)?;
                    said.map_or(Ok(()), |said| exit.may_write_as(Some(said.who)))?;
                    // Who only asks for the status takes no client's place, and no name.
                    if let Some(said) = said {
                        head.claim(said, peer, None).await;
                    }
                    let place = Place::take(head, peer, word(Dialect::Framed), exit)?;
                    place.guest.client.set(Some(id));
                    place.guest.said.set(said);
                    head.note_came(&place.guest);
                    hello = Some((id, text, place));
                    head.solo_ready().await;
                    let window =
                        (limits::CLIENT_IN_FLIGHT_MESSAGES_MAX as u32, limits::CLIENT_IN_FLIGHT_BYTES_MAX as u32);
                    client.send(&head.welcome(window))?;
                }
                (Frame::StatusQuery { clients, ledgers }, _) => {
                    exit.may_one_of(&[Role::Read, Role::Admin])?;
                    client.flow.room(&client.outbox).await;
                    head.sum_devices().await;
                    client.report(head, Parts { clients, ledgers })?;
                    turn.end().await;
                }
                (Frame::DevicesQuery { behind, most }, _) => {
                    exit.may(Role::Read)?;
                    client.flow.room(&client.outbox).await;
                    let report = head.devices_report(behind, most).await;
                    client.send(&Frame::StatusReport(report.into()))?;
                    turn.end().await;
                }
                (Frame::Knock(knock), _) => changes.knock = Some(knock),
                (change @ (Frame::Drain { .. } | Frame::Copies { .. }), _) => {
                    exit.may(Role::Admin)?;
                    client.flow.room(&client.outbox).await;
                    if changes.may(head, exit, change, socket.channel(), client)? {
                        client.report(head, Parts::default())?;
                    }
                    turn.end().await;
                }
                (Frame::Proof(proof), _) => {
                    exit.may(Role::Admin)?;
                    changes.proved(head, exit, &proof).await?;
                    client.flow.room(&client.outbox).await;
                    client.report(head, Parts::default())?;
                    turn.end().await;
                }
                (Frame::Ping(n), _) => {
                    // However much is in flight: who asks wants to know whether somebody is there.
                    client.flow.answers_read(&client.outbox).await;
                    client.outbox.with(|out| frame::pong(out, n));
                }
                (Frame::Pong(_), _) => {}
                (Frame::Store { source, first_seq, messages }, Some((id, text, place))) => {
                    place.guest.add(messages.count());
                    let whose = source.or(name);
                    let is_no_note =
                        source.is_some_and(|source| source.is_of_notes()) && (*text || !are_notes(&messages));
                    let denied = exit.may(Role::Write).and_then(|()| exit.may_write_as(whose.map(Who::Source)));
                    if let Some(refusal) = denied.err().or_else(|| is_no_note.then(no_notes)) {
                        head.note_client(exit, format_args!("refused: {refusal}"));
                        let count = messages.count();
                        head.core_mut(|core| core.count_refused(count));
                        head.note_refused(session, *id, first_seq, count.into(), &refusal);
                        client.flow.room(&client.outbox).await;
                        client.send(&refused(first_seq, count.into(), refusal))?;
                        continue;
                    }
                    if let Some(source) = whose {
                        head.heard_source(source, peer, &messages);
                    }
                    let author = Author { client: *id, source: whose };
                    let writer = Writer { head, client, exit, session, author, text: *text };
                    let mut stored = pin!(writer.store(first_seq, messages, &mut turn));
                    while timeout(limits::CLIENT_WORD_EVERY, &mut stored).await.is_err() {
                        client.say_a_word();
                    }
                }
                (Frame::Read { from, until, client: of, sources, follow, partial, token }, _) => {
                    exit.may(Role::Read)?;
                    client.flow.room(&client.outbox).await;
                    let (whose, on) = (if sources.is_all() { "all".to_owned() } else { sources.to_string() }, follow);
                    head.note_client(exit, format_args!("reads {whose}{}", if on { " and follows" } else { "" }));
                    let wanted = Wanted { from, until, client: of, sources, follow, partial, token };
                    let reads = |busy| hello.iter().for_each(|(_, _, place)| place.guest.busy.set(busy));
                    reads(true);
                    tokio::select! {
                        biased;
                        ended = beside_read(head, client, socket, buffer, exit) => return ended,
                        answered = reads::run(head, exit, &client.outbox, wanted) => answered?,
                    }
                    reads(false);
                    deadline = Instant::now() + limits::HANDSHAKE_TIME_MAX;
                    turn.end().await;
                }
                (frame, _) => return Err(out_of_place(frame.kind())),
            }
        }
        let more = if hello.is_some() {
            exit.read(socket, buffer).await == Read::Some
        } else {
            let patience = limits::HANDSHAKE_TIME_MAX;
            let late = |_| Refusal::new(Code::Timeout, format!("no Hello within {patience:?}; send it first"));
            timeout_at(deadline, read_some(socket, buffer, &exit.token)).await.map_err(late)?
        };
        if !more {
            return Ok(());
        }
        hello.iter().for_each(|(_, _, place)| place.guest.hear());
    }
}

/// Changes of the cluster that a client asks for: what it has to prove first.
#[derive(Default)]
struct Changes {
    knock: Option<Knock>,
    /// What is done once it is proved.
    awaited: Option<(Awaited, Frame)>,
}

impl Changes {
    /// Does it, if nothing has to be proved; else the client hears what.
    fn may(
        &mut self,
        head: &Head,
        exit: &Exit,
        change: Frame,
        channel: Option<Channel>,
        client: &FramedClient,
    ) -> Result<bool, Refusal> {
        let (gate, cluster) = (&head.config.gate, &head.config.cluster);
        match gate.challenge(exit.peer.ip(), self.knock.take(), Claim::Change, cluster, &change, channel)? {
            None => make(head, exit, &change).map(|()| true),
            Some(awaited) => {
                let challenge = awaited.challenge();
                client.outbox.with(|out| challenge.encode(out)).map_err(|error| error.refusal())?;
                self.awaited = Some((awaited, change));
                Ok(false)
            }
        }
    }

    /// Does what was asked for, if the proof is right.
    async fn proved(&mut self, head: &Head, exit: &Exit, proof: &Proof) -> Result<(), Refusal> {
        let (awaited, change) = self.awaited.take().ok_or_else(|| out_of_place(Frame::Proof(*proof).kind()))?;
        head.look_at_proof(exit.peer.ip(), || awaited.check(proof)).await?;
        make(head, exit, &change)
    }
}

/// Changes the cluster.
fn make(head: &Head, exit: &Exit, change: &Frame) -> Result<(), Refusal> {
    let peer = exit.peer;
    let (what, made) = match change {
        Frame::Drain { gone, lose, name } => {
            let what = format!("{} dataNode {}", if *gone { "gives up" } else { "drains" }, quote(name.as_bytes()));
            (what, head.drain(Asked { name, gone: *gone, lose: *lose, peer }))
        }
        Frame::Copies { replicas, least } => {
            (format!("changes the copies to {replicas}, at least {least}"), head.change_copies(*replicas, *least, peer))
        }
        other => return Err(out_of_place(other.kind())),
    };
    match &made {
        Ok(()) => head.note_client(exit, what),
        Err(refusal) => head.note_client(exit, format_args!("{what}, refused: {refusal}")),
    }
    made
}

/// What a connection may say while a read is answered. A peer that has closed its sending side may still read: whether it is
/// gone shows when something is written, so it gets a Pong now and then. Resolves only when the head stops, or the peer is
/// gone or at fault.
async fn beside_read(
    head: &Head,
    client: &FramedClient,
    socket: &mut ReadHalf<'_>,
    buffer: &mut BytesMut,
    exit: &Exit,
) -> Result<(), Refusal> {
    let mut turn = Turn::default();
    loop {
        loop {
            // Dropped at any await, so nothing is taken out of the buffer before there is room for its answer.
            client.outbox.room(limits::READ_ANSWERS_BYTES_MAX).await;
            turn.spend(0).await;
            match decode(buffer, false)? {
                Some(Frame::Ping(n)) => client.outbox.with(|out| frame::pong(out, n)),
                Some(Frame::StatusQuery { clients, ledgers }) => {
                    client.report(head, Parts { clients, ledgers })?;
                    turn.end().await;
                }
                Some(Frame::Pong(_)) => {}
                Some(frame) => return Err(out_of_place(frame.kind())),
                None => break,
            }
        }
        let read = exit.read(socket, buffer).await;
        if read != Read::Some {
            let ends = async {
                tokio::select! {
                    biased;
                    () = exit.told() => {}
                    () = client.outbox.unheard() => {}
                }
            };
            let mut ends = pin!(ends);
            while read == Read::End && timeout(limits::READ_PROGRESS_EVERY, &mut ends).await.is_err() {
                if client.outbox.is_empty() {
                    client.outbox.with(|out| frame::pong(out, 0));
                }
            }
            return Ok(());
        }
    }
}

/// Places the messages of a session.
struct Writer<'a> {
    head: &'a Head,
    client: &'a FramedClient,
    exit: &'a Exit,
    session: u64,
    author: Author,
    text: bool,
}

impl Writer<'_> {
    /// Cuts a Store frame into batches and places each.
    async fn store(&self, first_seq: u64, mut messages: Messages, turn: &mut Turn) {
        let mut first_seq = first_seq;
        let most = || self.head.core(Core::batch_messages);
        while let Some(batch) = messages.split_to(most(), limits::BATCH_BYTES_MAX) {
            let count = u32::from(batch.count());
            turn.spend(batch.block().len()).await;
            let paced = self.head.pace(self.exit, batch.count(), batch.block().len()).await;
            self.client.flow.room(&self.client.outbox).await;
            let batch = match self.text {
                _ if paced.is_err() => paced.map(|()| batch),
                true => text_client::prefixed(&batch).map_err(|error| error.refusal()),
                false if batch.block().len() <= limits::DETACH_BYTES_MAX => Ok(batch.detached()),
                false => Ok(batch),
            };
            let placed = match batch {
                Ok(batch) => self.place(first_seq, &batch).await,
                Err(refusal) => {
                    self.head.core_mut(|core| core.count_refused(count as u16));
                    self.head.note_refused(self.session, self.author.client, first_seq, count, &refusal);
                    Err(refusal)
                }
            };
            if let Err(refusal) = placed
                && let Err(error) = self.client.send(&refused(first_seq, count, refusal))
            {
                tracing::error!("a refusal cannot be sent: {error}");
            }
            first_seq += u64::from(count);
        }
    }

    async fn place(&self, first_seq: u64, batch: &Messages) -> Result<(), Refusal> {
        let (count, bytes) = (usize::from(batch.count()), batch.block().len());
        self.client.flow.add(count, bytes);
        let origin = Origin { session: self.session, ticket: 0 };
        let placed = self.head.store(self.author, first_seq, batch, origin).await;
        if placed.is_err() {
            self.client.flow.done(count, bytes);
        }
        placed
    }
}

const fn refused(first_seq: u64, count: u32, refusal: Refusal) -> Frame {
    Frame::Refused { first_seq, count, refusal }
}

/// Whether all of these begin as notes do.
fn are_notes(messages: &Messages) -> bool {
    messages.iter().all(|message| message.starts_with(WORDS.as_bytes()))
}

/// Readings of a device of that name would not be read.
fn no_notes() -> Refusal {
    Refusal::new(Code::Protocol, format!("{NOTES} is the name of notes, which 'acopio note' sends; say another one"))
}

pub(super) fn failure(refusal: &Refusal) -> LastWords {
    let mut words = BytesMut::new();
    frame::failure(&mut words, refusal);
    words.to_vec()
}

/// The next whole frame. One that a client may not say is refused when it begins: nothing is kept of it, however long it is.
fn decode(buffer: &mut BytesMut, may_store: bool) -> Result<Option<Frame>, Refusal> {
    match Frame::not_from_client(buffer, may_store) {
        Some(kind) => Err(out_of_place(kind)),
        None => Frame::decode(buffer).map_err(|error| error.refusal()),
    }
}

fn out_of_place(kind: u8) -> Refusal {
    let text = format!(
        "frame {kind:#04x} is out of place from a client; say Hello once, then Store; nothing but Ping during a Read"
    );
    Refusal::new(Code::Protocol, text)
}
