//! A connection's first seconds: the handshake, the client limit, and which session it becomes.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};

use super::alarms::Log;
use super::guests::{Exit, Newcomer};
use super::parting::{part, too_slow};
use super::places::Place;
use super::registered::word;
use super::secured::secure;
use super::state::Head;
use super::{framed_client, node, text_client, text_node};
use crate::limits;
use crate::net::{ReadHalf, Stream, WriteHalf};
use crate::tokens::Role as Right;
use crate::wire::error::{Code, Refusal};
use crate::wire::handshake::{Handshake, Opening, Role, Step};
use crate::wire::said::Said;
use crate::wire::text::{self, DATANODE, Dialect};
use tokio_util::sync::CancellationToken;

/// Serves one connection to its end. `stopping` ends clients, `finished` ends data nodes, later.
pub(crate) async fn serve(
    head: Rc<Head>,
    socket: Stream,
    peer: SocketAddr,
    stopping: CancellationToken,
    finished: CancellationToken,
) {
    let (exit, knock) = (Exit::new(peer, &stopping), head.knock(peer));
    let session = async {
        socket.watch(head.config.peer_silence);
        if let Some(mut socket) = secure(&head, socket, peer, &exit).await {
            converse(&head, &mut socket, peer, &exit, &finished).await;
        }
    };
    tokio::select! {
        biased;
        () = exit.overdue() => {
            let ip = peer.ip();
            head.say(ip, Log::Info, &format!("the client at {ip} does not read; it is cut"));
        }
        () = knock.cut.cancelled() => {
            let ip = peer.ip();
            head.say(ip, Log::Info, &format!("{ip} has connected and not said who it is; it makes way for others"));
        }
        () = session => {}
    }
}

/// Tells a connection beyond the share of its address so, and does not wait until that is read.
pub(crate) async fn turn_away(
    head: Rc<Head>,
    mut socket: Stream,
    peer: SocketAddr,
    refusal: Refusal,
    stopping: CancellationToken,
) {
    head.say(peer.ip(), Log::Warn, &refusal.text);
    head.note_client(&Exit::new(peer, &stopping), format_args!("refused: {refusal}"));
    let refusal = &refusal;
    if let Ok(Err(error)) = timeout(limits::CLOSE_TIME_MAX, socket.write_all(&refused(refusal))).await {
        tracing::debug!("a peer that is one too many left early: {error}");
    }
}

/// Serves a device that came by a plain port: it sends lines from the start, and the port says who it is.
pub(crate) async fn serve_plain(
    head: Rc<Head>,
    mut socket: Stream,
    peer: SocketAddr,
    said: Said,
    stopping: CancellationToken,
) {
    let exit = Exit::new(peer, &stopping);
    let session = async {
        socket.watch(head.config.peer_silence);
        let (mut read_half, mut write_half) = socket.split();
        let admitted = match head.admit(peer, None, &exit).await.and_then(|()| may_write(&head, &exit, Some(said))) {
            Ok(()) => {
                head.claim(said, peer, None).await;
                Place::take(&head, peer, word(Dialect::Line), &exit)
            }
            Err(refusal) => Err(refusal),
        };
        let place = match admitted {
            Ok(place) => place,
            Err(refusal) => {
                let words = if said.quiet { Vec::new() } else { refused(&refusal) };
                head.say(peer.ip(), Log::Warn, &format!("{} at {}: {refusal}", said.who, peer.ip()));
                return part(&mut read_half, &mut write_half, &words).await;
            }
        };
        place.guest.said.set(Some(said));
        head.note_came(&place.guest);
        head.solo_ready().await;
        let buffer = BytesMut::with_capacity(limits::READ_BUFFER_BYTES_MIN);
        text_client::serve(&head, &place.guest, read_half, write_half, buffer, Dialect::Line, &exit).await;
    };
    tokio::select! {
        biased;
        () = exit.overdue() => {
            let ip = peer.ip();
            head.say(ip, Log::Info, &format!("the client at {ip} does not read; it is cut"));
        }
        () = session => {}
    }
}

async fn converse(
    head: &Rc<Head>,
    socket: &mut Stream,
    peer: SocketAddr,
    exit: &Rc<Exit>,
    finished: &CancellationToken,
) {
    let (mut read_half, mut write_half) = socket.split();
    let mut buffer = BytesMut::with_capacity(limits::READ_BUFFER_BYTES_MIN);
    let shaken = tokio::select! {
        biased;
        () = exit.token.cancelled() => Err((text::refusal_line(&exit.words()) + "\n").into_bytes()),
        shaken = handshake(head, peer, exit, &mut read_half, &mut write_half, &mut buffer) => shaken,
    };
    let (opening, place) = match shaken {
        Ok(Some(done)) => done,
        Ok(None) => return,
        Err(words) => {
            let line = format!("{}: {}", peer.ip(), String::from_utf8_lossy(&words).trim_ascii());
            head.say(peer.ip(), Log::Warn, &line);
            return part(&mut read_half, &mut write_half, &words).await;
        }
    };
    if opening.role == Role::Client
        && let Err(refusal) = admit(head, peer, &opening, exit).await
    {
        let ip = peer.ip();
        head.say(ip, Log::Warn, &format!("a client at {ip} is not let in: {refusal}"));
        let words = match opening.dialect {
            Dialect::Framed => framed_client::failure(&refusal),
            _ => refused(&refusal),
        };
        drop(place);
        return part(&mut read_half, &mut write_half, &words).await;
    }
    match (opening.role, opening.dialect) {
        (Role::Client, Dialect::Framed) => {
            let newcomer = Newcomer { peer, said: opening.said };
            framed_client::serve(head, newcomer, read_half, write_half, buffer, exit).await;
        }
        (Role::Client, dialect) => {
            let place = match place.map_or_else(|| Place::take(head, peer, word(dialect), exit), Ok) {
                Ok(place) => place,
                Err(refusal) => {
                    let words = text::lleno(&refusal).into_bytes();
                    return part(&mut read_half, &mut write_half, &words).await;
                }
            };
            if dialect == Dialect::Raw {
                doubt_name(head, peer, &buffer);
            }
            place.guest.dialect.set(word(dialect));
            if place.guest.said.get().is_none() {
                place.guest.said.set(head.book.borrow().said_of(place.guest.peer.ip()));
            }
            place.guest.hear();
            head.note_came(&place.guest);
            head.solo_ready().await;
            text_client::serve(head, &place.guest, read_half, write_half, buffer, dialect, exit).await;
        }
        (Role::DataNode, dialect) => {
            drop(place);
            match dialect {
                Dialect::Framed => node::serve(head, peer, read_half, write_half, buffer, finished).await,
                _ => text_node::serve(head, peer, read_half, write_half, dialect, finished).await,
            }
        }
    }
}

/// Lets a client in that has shaken hands. Who speaks text only sends; what others may do is looked at when they want it.
async fn admit(head: &Head, peer: SocketAddr, opening: &Opening, exit: &Rc<Exit>) -> Result<(), Refusal> {
    tokio::select! {
        biased;
        () = exit.token.cancelled() => return Err(exit.words()),
        admitted = head.admit(peer, opening.token, exit) => admitted?,
    }
    if opening.dialect == Dialect::Framed { Ok(()) } else { may_write(head, exit, opening.said) }
}

/// Whether a client may send, and under the name that it says.
fn may_write(head: &Head, exit: &Exit, said: Option<Said>) -> Result<(), Refusal> {
    let may = exit.may(Right::Write).and_then(|()| said.map_or(Ok(()), |said| exit.may_write_as(Some(said.who))));
    may.inspect_err(|refusal| head.note_client(exit, format_args!("refused: {refusal}")))
}

/// What a client reads that is let in no further.
fn refused(refusal: &Refusal) -> Vec<u8> {
    match refusal.code {
        Code::Full => text::lleno(refusal).into_bytes(),
        _ => (text::refusal_line(refusal) + "\n").into_bytes(),
    }
}

/// Says of a raw client's first message that it may have been meant for a name: it is kept as it is.
fn doubt_name(head: &Head, peer: SocketAddr, message: &[u8]) {
    let Some(line) = message.strip_prefix(b" ").and_then(|rest| rest.strip_suffix(b"\n")) else { return };
    if line.first().is_some_and(u8::is_ascii_alphabetic) {
        let words = text::quote(line.trim_ascii_end());
        let line = format!(
            "{}: \"{words}\" came behind peticion and is kept as a message; was it to be a name? Say peticion, a name and \
             options on one line",
            peer.ip()
        );
        head.say(peer.ip(), Log::Info, &line);
    }
}

/// The handshake. `Ok(None)` if the peer left; an error is what to tell it before closing.
///
/// A text peer counts as a client as soon as it is confirmed: the head learns only from its first message that it is
/// not a data node, and number 101 shall not wait until it has something to say.
async fn handshake<'a>(
    head: &'a Head,
    peer: SocketAddr,
    exit: &Rc<Exit>,
    read_half: &mut ReadHalf<'_>,
    write_half: &mut WriteHalf<'_>,
    buffer: &mut BytesMut,
) -> Result<Option<(Opening, Option<Place<'a>>)>, Vec<u8>> {
    let mut handshake = Handshake::new();
    let mut place: Option<Place<'_>> = None;
    // Until when it has to say a name that is taken over, where all places are taken.
    let mut trial: Option<Instant> = None;
    let deadline = Instant::now() + limits::HANDSHAKE_TIME_MAX;
    loop {
        match handshake.feed(buffer).map_err(|error| error.line().into_bytes())? {
            Step::Done(opening) => return tried(Some(opening), place, trial),
            Step::Send(answer) => {
                let node_follows = buffer.starts_with(DATANODE.as_bytes());
                if handshake.is_introduced() {
                    head.admit(peer, handshake.token(), exit).await.map_err(|refusal| self::refused(&refusal))?;
                    may_write(head, exit, handshake.said()).map_err(|refusal| self::refused(&refusal))?;
                }
                if let Some(said) = handshake.said() {
                    head.claim(said, peer, place.as_ref().map(|place: &Place<'_>| &*place.guest)).await;
                }
                if handshake.may_stay_silent() && place.is_none() && !node_follows {
                    let taken = Place::take(head, peer, "text", exit).or_else(|refusal| {
                        let tried = Some(()).filter(|()| handshake.may_be_named());
                        let tried = tried.and_then(|()| Place::try_out(head, peer, "text", exit)).ok_or(refusal)?;
                        trial = Some(Instant::now() + limits::TRIAL_TIME_MAX);
                        Ok(tried)
                    });
                    place = Some(taken.map_err(full)?);
                }
                if let Some(place) = place.as_ref().filter(|_| trial.is_some() && !handshake.may_be_named()) {
                    place.keep().map_err(full)?;
                    trial = None;
                }
                if let Some(place) = &place {
                    place.guest.said.set(handshake.said());
                }
                if let Err(error) = write_half.write_all(answer).await {
                    // What it has sent before counts all the same.
                    tracing::debug!("a peer reads no answer to its handshake: {error}");
                }
            }
            Step::More => {
                let silent = handshake.may_stay_silent();
                let until = match silent {
                    // Nobody holds a client's place for long who may not have it.
                    true if buffer.is_empty() && !exit.is_granted() && head.wants_token(peer.ip(), exit) => deadline,
                    true if buffer.is_empty() => Instant::now() + Duration::from_secs(u32::MAX.into()),
                    true => Instant::now() + limits::HANDSHAKE_DOUBT_TIME_MAX,
                    false => deadline,
                };
                let until = trial.map_or(until, |trial| trial.min(until));
                if silent {
                    // It may be the first message of a raw client, and what one read brings is one message.
                    buffer.reserve(limits::RAW_READ_BYTES_MAX);
                }
                // What has come counts, however late this task is; a line's bound ends a peer that never stops.
                let read = tokio::select! {
                    biased;
                    read = read_half.read_buf(buffer) => read,
                    // What is there is no word of the handshake, or it would have gone on: it is the first message.
                    () = sleep_until(until), if silent && until == deadline => {
                        head.admit(peer, None, exit).await.map_err(|refusal| self::refused(&refusal))?;
                        return tried(handshake.settle(buffer), place, trial);
                    }
                    () = sleep_until(until), if silent => return tried(handshake.settle(buffer), place, trial),
                    () = sleep_until(until), if !silent => return Err(too_slow()),
                };
                if !matches!(read, Ok(n) if n > 0) {
                    return tried(handshake.settle(buffer), place, trial);
                }
            }
        }
    }
}

/// The end of a handshake: who was let in to say a name and said none needs a place as everybody does.
fn tried<'a>(
    opening: Option<Opening>,
    place: Option<Place<'a>>,
    trial: Option<Instant>,
) -> Result<Option<(Opening, Option<Place<'a>>)>, Vec<u8>> {
    let is_node = opening.is_some_and(|opening| opening.role == Role::DataNode);
    if let Some(place) = place.as_ref().filter(|_| trial.is_some() && !is_node) {
        place.keep().map_err(full)?;
    }
    Ok(opening.map(|opening| (opening, place)))
}

fn full(refusal: Refusal) -> Vec<u8> {
    text::lleno(&refusal).into_bytes()
}
