//! The client's task: dials heads, moves frames, and hands outcomes to the ledger.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::troubles::Troubles;
use super::unsettled::Unsettled;
use super::{Ack, Config, Shared};
use crate::limits;
use crate::net::framed::{self, Ended, next_frame};
use crate::net::{Backoff, Net, Stream};
use crate::wire::error::{Code, Refusal};
use crate::wire::frame::{self, Frame};
use crate::wire::said::Introduction;

/// Runs until the sender is gone and everything is settled, or the receipts are gone.
pub(super) async fn run(shared: Arc<Shared>, config: Arc<Config>) {
    let mut rng = SmallRng::seed_from_u64(config.seed);
    let mut backoff = Backoff::default();
    let mut heads = config.heads();
    let mut troubles = Troubles::new(&heads);
    let mut turn = 0;
    while wait_for_work(&shared).await {
        let now = config.heads();
        if now != heads {
            troubles = Troubles::new(&now);
            (heads, turn) = (now, 0);
        }
        let place = turn % heads.len().max(1);
        let Some(head) = heads.get(place) else { break };
        let ended = tokio::select! {
            biased;
            ended = converse(place, &heads, head, &shared, &config, &mut backoff, &mut troubles) => Some(ended),
            () = out_of_time(&shared, config.retry_for) => None,
        };
        shared.lock().unsettled.rewind();
        let ended = match ended {
            Some(Ok(())) => continue,
            Some(Err(ended)) => ended,
            None => {
                troubles.note_if_none(place, &Ended::Silent(config.retry_for));
                tell_if_given_up(&shared, &config, &troubles);
                continue;
            }
        };
        // A head of another version says nothing of the next one, nor of what comes in its place.
        let is_final = matches!(&ended, Ended::Refused(refusal) if !refusal.retry && refusal.code != Code::Version);
        if troubles.note(place, &ended, is_final) {
            tell(head, &ended);
        }
        tell_if_given_up(&shared, &config, &troubles);
        turn += 1;
        // Heads that are there and refuse for now may serve again any moment; those that are lost come back later.
        let is_there = matches!(&ended, Ended::Refused(_));
        let most = if is_there { limits::CLIENT_REFUSED_WAIT_MAX } else { limits::BACKOFF_MAX };
        let wait = backoff.next(&mut rng).min(most);
        if turn % heads.len().max(1) == 0 {
            tokio::select! {
                biased;
                () = sleep(wait) => {}
                () = out_of_time(&shared, config.retry_for) => tell_if_given_up(&shared, &config, &troubles),
            }
        }
    }
    shared.lock().ended = true;
    shared.told.notify_one();
    shared.room.notify_waiters();
}

/// Logs why a head is left.
fn tell(head: &str, ended: &Ended) {
    match ended {
        // A lost head comes back; one of another version has to be mended, though the next one serves.
        Ended::Unconfirmed(_) | Ended::Garbled(_) | Ended::OutOfPlace(_) => {
            tracing::error!("head {head}: {ended}; trying the next one");
        }
        ended => tracing::warn!("head {head}: {ended}; trying again"),
    }
}

/// Resolves once nothing was settled for as long as it may be tried; never while nothing waits.
async fn out_of_time(shared: &Shared, patience: Duration) {
    loop {
        let now = Instant::now();
        let since = shared.lock().unsettled.stuck_since();
        match since.unwrap_or(now).checked_add(patience) {
            Some(at) if since.is_some() && at <= now => return,
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

/// Gives up what waits if it was tried for as long as it may be, and says what each head did.
fn tell_if_given_up(shared: &Shared, config: &Config, troubles: &Troubles) {
    let patience = if troubles.are_final() { Duration::ZERO } else { config.retry_for };
    let refusal = troubles.refusal(config.retry_for);
    if shared.lock().unsettled.give_up(&refusal, patience, Instant::now()) {
        shared.told.notify_one();
        shared.room.notify_waiters();
    }
}

/// True once there is a message that is not settled; false when there will be none.
async fn wait_for_work(shared: &Shared) -> bool {
    loop {
        {
            let state = shared.lock();
            if state.ended {
                return false;
            }
            if !state.unsettled.is_empty() {
                return true;
            }
            if state.closing {
                return false;
            }
        }
        shared.work.notified().await;
    }
}

/// A framed connection to a head, after the handshake.
pub(super) async fn open(net: &Net, head: &str, introduction: Introduction) -> Result<(Stream, BytesMut), Ended> {
    let mut socket = net.dial(head, None).await?;
    let mut buffer = BytesMut::with_capacity(limits::READ_BUFFER_BYTES);
    framed::open(&mut socket, &introduction.to_framed_opening(), &mut buffer).await?;
    tracing::debug!(target: "acopio::client", "{head}: peticion acopio/2, confirmacion");
    Ok((socket, buffer))
}

/// Talks to one head until all is settled and nothing more comes (`Ok`), or the connection is lost.
async fn converse(
    place: usize,
    heads: &[String],
    head: &str,
    shared: &Shared,
    config: &Config,
    backoff: &mut Backoff,
    troubles: &mut Troubles,
) -> Result<(), Ended> {
    let silence_max = silence_max(heads.len());
    let open_max = open_max(heads.len(), config.retry_for);
    let opened = timeout(open_max, open(&config.net, head, config.introduction())).await;
    let (mut socket, mut buffer) = opened.unwrap_or(Err(Ended::Silent(open_max)))?;
    let mut out = BytesMut::new();
    let hello = Frame::Hello { client: config.id, text: config.text };
    hello.encode(&mut out).map_err(|error| Ended::Refused(error.refusal()))?;
    socket.write_all(&out).await?;
    out.clear();
    let patience = limits::HANDSHAKE_TIME_MAX.min(open_max);
    match timeout(patience, next_frame(&mut socket, &mut buffer)).await {
        Ok(Ok(Frame::Welcome { .. })) => troubles.forget(place),
        Ok(Ok(Frame::Failure(refusal))) => return Err(Ended::Refused(refusal)),
        Ok(Ok(other)) => return Err(Ended::OutOfPlace(other.kind())),
        Ok(Err(ended)) => return Err(ended),
        Err(_) => return Err(Ended::Silent(patience)),
    }
    let (mut read_half, mut write_half) = socket.split();
    let words = tokio::sync::Notify::new();
    let (ask, ping) = (AtomicBool::new(false), Mutex::new(None));
    let drained = AtomicBool::new(false);
    let reader = async {
        let mut asked = false;
        loop {
            let patience = if asked { silence_max - limits::CLIENT_PING_AFTER } else { limits::CLIENT_PING_AFTER };
            match timeout(patience, receive(&mut read_half, &mut buffer, shared, heads.len(), backoff, place, troubles))
                .await
            {
                Ok(Ok(number)) => {
                    asked = false;
                    if number.is_some() {
                        *ping.lock().unwrap_or_else(PoisonError::into_inner) = number;
                        words.notify_one();
                    }
                }
                Ok(Err(ended)) => return ended,
                Err(_) if !shared.lock().unsettled.is_waiting() => asked = false,
                // It takes in what is sent, slowly, and can't answer what it has not got yet.
                Err(_) if drained.swap(false, Ordering::Relaxed) => asked = false,
                // A head that keeps what it has may take as long as its nodes do; one that answers no ping is gone.
                Err(_) if asked => return Ended::Silent(silence_max),
                Err(_) => {
                    asked = true;
                    ask.store(true, Ordering::Relaxed);
                    words.notify_one();
                }
            }
        }
    };
    let writer = async {
        loop {
            let work = shared.work.notified();
            let (hold, done) = {
                let mut state = shared.lock();
                state.unsettled.encode(&mut out, limits::CLIENT_ANSWERS_BYTES_MAX, Instant::now());
                (state.unsettled.hold(), state.ended || (state.closing && state.unsettled.is_empty()))
            };
            let asked = ping.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(n) = asked {
                frame::pong(&mut out, n);
            }
            if ask.swap(false, Ordering::Relaxed) {
                frame::ping(&mut out, 0);
            }
            if !out.is_empty() {
                let mut more = false;
                while !out.is_empty() {
                    if write_half.write_buf(&mut out).await? == 0 {
                        return Err(Ended::Closed);
                    }
                    // The system took a part before and has room now: somebody reads.
                    drained.fetch_or(more, Ordering::Relaxed);
                    more = true;
                }
                continue;
            }
            if done {
                return Ok(());
            }
            let held = async {
                match hold {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = work => {}
                () = words.notified() => {}
                () = held => {}
            }
        }
    };
    // The writer comes first: its window ends it, while a head may always have something to say.
    tokio::select! {
        biased;
        result = writer => result,
        ended = reader => Err(ended),
    }
}

/// How long a head may say nothing while something is in flight: less if there is another to go on with.
pub(super) const fn silence_max(heads: usize) -> Duration {
    if heads > 1 { limits::CLIENT_SILENCE_MAX } else { limits::CLIENT_SILENCE_ALONE_MAX }
}

/// How long a head may take to be reached: so long that each of them is tried before the time is over.
pub(super) fn open_max(heads: usize, retry_for: Duration) -> Duration {
    let each = retry_for / u32::try_from(heads.max(1)).unwrap_or(u32::MAX);
    silence_max(heads).min(each.max(limits::BACKOFF_MIN))
}

/// Reads once and hands every whole frame to the ledger; the number of a ping to answer, if one came.
async fn receive(
    socket: &mut (impl AsyncReadExt + Unpin),
    buffer: &mut BytesMut,
    shared: &Shared,
    heads: usize,
    backoff: &mut Backoff,
    place: usize,
    troubles: &mut Troubles,
) -> Result<Option<u64>, Ended> {
    let mut taken = Taken::default();
    // A head that stops says so right behind its last answers: these count, whatever comes after them.
    let ended = take(buffer, &mut shared.lock().unsettled, &mut taken);
    let Taken { ping, settled, refused } = taken;
    if settled {
        backoff.reset();
        troubles.served(place);
        shared.told.notify_one();
        shared.room.notify_waiters();
        shared.work.notify_one();
    }
    ended?;
    if let Some(refusal) = refused {
        // The next head may keep what this one cannot.
        if heads > 1 {
            return Err(Ended::Refused(refusal));
        }
        troubles.note(place, &Ended::Refused(refusal), false);
        shared.work.notify_one();
    }
    if ping.is_none() && socket.read_buf(buffer).await? == 0 {
        return Err(Ended::Closed);
    }
    Ok(ping)
}

/// What the frames of one read say.
#[derive(Default)]
struct Taken {
    /// The number of a ping to answer.
    ping: Option<u64>,
    /// Something was settled.
    settled: bool,
    /// The last refusal of something that may be tried again.
    refused: Option<Refusal>,
}

/// Takes every whole frame that was read. Before an error `taken` says what came before it.
fn take(buffer: &mut BytesMut, unsettled: &mut Unsettled, taken: &mut Taken) -> Result<(), Ended> {
    // What one read brought came at one time.
    let now = Instant::now();
    while let Some(frame) = Frame::decode(buffer)? {
        match frame {
            Frame::Acked { first_seq, count, first, sync, copies } => {
                let nodes = copies.iter().map(ToOwned::to_owned).collect();
                unsettled.acked(Ack { first_seq, count, first, sync, nodes }, now);
                taken.settled = true;
            }
            Frame::Refused { first_seq, count, refusal } => {
                let again = now + limits::BACKOFF_MIN * 2;
                // What is refused for good says nothing about the others.
                taken.refused = refusal.retry.then(|| refusal.clone()).or(taken.refused.take());
                taken.settled |= !refusal.retry;
                unsettled.refused(first_seq, count, refusal, again);
            }
            Frame::Ping(n) => taken.ping = Some(n),
            Frame::Pong(_) | Frame::Welcome { .. } => {}
            Frame::Failure(refusal) => return Err(Ended::Refused(refusal)),
            other => return Err(Ended::OutOfPlace(other.kind())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Client, Config};
    use crate::wire::frame::SyncMode;
    use crate::wire::id::RecordId;
    use crate::wire::text::FRAMED_CLIENT_OPENING;
    use tokio::net::{TcpListener, TcpStream};

    async fn said(socket: &mut TcpStream, buffer: &mut BytesMut) -> Frame {
        loop {
            if let Some(frame) = Frame::decode(buffer).unwrap() {
                return frame;
            }
            assert!(socket.read_buf(buffer).await.unwrap() > 0);
        }
    }

    /// The last words of a head that stops come in one packet with its last answers.
    #[tokio::test(flavor = "current_thread")]
    async fn an_answer_right_before_a_failure_is_told_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = Client::new(Config::new(vec![listener.local_addr().unwrap().to_string()]));
        let head = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut buffer = BytesMut::new();
            while !buffer.ends_with(FRAMED_CLIENT_OPENING) {
                assert!(socket.read_buf(&mut buffer).await.unwrap() > 0);
            }
            buffer.clear();
            socket.write_all(b"confirmacion acopio/2\n").await.unwrap();
            assert!(matches!(said(&mut socket, &mut buffer).await, Frame::Hello { .. }));
            let mut out = BytesMut::new();
            let welcome =
                Frame::Welcome { incarnation: 1, window_messages: 9, window_bytes: 999, cluster: "acopio".to_owned() };
            welcome.encode(&mut out).unwrap();
            socket.write_all(&out).await.unwrap();
            assert!(matches!(said(&mut socket, &mut buffer).await, Frame::Store { .. }));
            out.clear();
            frame::acked(&mut out, 1, 1, RecordId::ZERO, SyncMode::Always, ["127.0.0.2"]).unwrap();
            frame::failure(&mut out, &Refusal::new(Code::Stopping, "the head stops"));
            socket.write_all(&out).await.unwrap();
            socket
        };
        let (stored, _socket) = tokio::join!(timeout(Duration::from_secs(20), client.store("uno".into())), head);
        assert_eq!(stored.expect("who waits is told").unwrap().first_seq, 1);
    }
}
