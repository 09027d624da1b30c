//! The client's task: dials heads, moves frames, and hands outcomes to the ledger.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Ack, Config, Shared};
use crate::limits;
use crate::net::framed::{self, Ended, next_frame};
use crate::net::{Backoff, Net, Stream};
use crate::wire::error::{Code, Refusal};
use crate::wire::frame::{self, Frame};
use crate::wire::text::FRAMED_CLIENT_OPENING;

/// Runs until the sender is gone and everything is settled, or the receipts are gone.
pub async fn run(shared: Arc<Shared>, config: Arc<Config>) {
    let mut rng = SmallRng::seed_from_u64(config.seed);
    let mut backoff = Backoff::default();
    let mut turn = 0;
    let mut said = String::new();
    while wait_for_work(&shared).await {
        let heads = config.heads.now();
        let Some(head) = heads.get(turn % heads.len().max(1)) else { break };
        let ended = converse(head, &shared, &config, &mut backoff).await;
        let (other_version, trouble);
        let refusal = {
            let mut state = shared.lock();
            state.ledger.rewind();
            let Err(ended) = ended else { continue };
            match ended {
                // A head of another version says nothing of the next one.
                Ended::Refused(refusal) if !refusal.retry && refusal.code != Code::Version => {
                    state.ledger.give_up(&refusal, Duration::ZERO, Instant::now());
                    drop(state);
                    shared.told.notify_one();
                    shared.room.notify_waiters();
                    continue;
                }
                ended => {
                    trouble = format!("{head} {}", ended.kind());
                    let waited = config.retry_for;
                    other_version = matches!(&ended, Ended::Unconfirmed(_) | Ended::Garbled(_) | Ended::OutOfPlace(_));
                    let remedy = if other_version { "" } else { ", see that a head runs there" };
                    let text = format!("head {head}: {ended}; it is tried for {waited:?}{remedy}");
                    Refusal { code: Code::Timeout, text, retry: true }
                }
            }
        };
        // The same trouble again is said once.
        if trouble != said {
            let cause = &refusal.text;
            // A lost head comes back; one of another version has to be mended, though the next one serves.
            if other_version {
                tracing::error!("{cause}; trying the next one");
            } else {
                tracing::warn!("{cause}; trying again");
            }
            said = trouble;
        }
        turn += 1;
        tell_if_given_up(&shared, &config, &refusal);
        let wait = backoff.next(&mut rng);
        if turn % heads.len() == 0 {
            sleep(wait).await;
        }
    }
    shared.lock().ended = true;
    shared.told.notify_one();
    shared.room.notify_waiters();
}

fn tell_if_given_up(shared: &Shared, config: &Config, refusal: &Refusal) {
    if shared.lock().ledger.give_up(refusal, config.retry_for, Instant::now()) {
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
            if !state.ledger.is_empty() {
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
pub async fn open(net: &Net, head: &str) -> Result<(Stream, BytesMut), Ended> {
    let mut socket = net.dial(head, None).await?;
    let mut buffer = BytesMut::with_capacity(limits::READ_BUFFER_BYTES);
    framed::open(&mut socket, FRAMED_CLIENT_OPENING, &mut buffer).await?;
    tracing::debug!(target: "acopio::client", "{head}: peticion acopio/1, confirmacion");
    Ok((socket, buffer))
}

/// Talks to one head until all is settled and nothing more comes (`Ok`), or the connection is lost.
async fn converse(head: &str, shared: &Shared, config: &Config, backoff: &mut Backoff) -> Result<(), Ended> {
    let silence_max = silence_max(config.heads.now().len());
    let opened = timeout(silence_max, open(&config.net, head)).await;
    let (mut socket, mut buffer) = opened.unwrap_or(Err(Ended::Silent(silence_max)))?;
    let mut out = BytesMut::new();
    let hello = Frame::Hello { client: config.id, text: config.text };
    hello.encode(&mut out).map_err(|error| Ended::Refused(error.refusal()))?;
    socket.write_all(&out).await?;
    out.clear();
    let patience = limits::HANDSHAKE_TIME_MAX.min(silence_max);
    match timeout(patience, next_frame(&mut socket, &mut buffer)).await {
        Ok(Ok(Frame::Welcome { .. })) => {}
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
            match timeout(patience, receive(&mut read_half, &mut buffer, shared, config, backoff)).await {
                Ok(Ok(number)) => {
                    asked = false;
                    if number.is_some() {
                        *ping.lock().unwrap_or_else(PoisonError::into_inner) = number;
                        words.notify_one();
                    }
                }
                Ok(Err(ended)) => return ended,
                Err(_) if !shared.lock().ledger.is_waiting() => asked = false,
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
                state.ledger.encode(&mut out, limits::CLIENT_ANSWERS_BYTES_MAX, Instant::now());
                (state.ledger.hold(), state.ended || (state.closing && state.ledger.is_empty()))
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
pub const fn silence_max(heads: usize) -> Duration {
    if heads > 1 { limits::CLIENT_SILENCE_MAX } else { limits::CLIENT_SILENCE_ALONE_MAX }
}

/// Reads once and hands every whole frame to the ledger; the number of a ping to answer, if one came.
async fn receive(
    socket: &mut (impl AsyncReadExt + Unpin),
    buffer: &mut BytesMut,
    shared: &Shared,
    config: &Config,
    backoff: &mut Backoff,
) -> Result<Option<u64>, Ended> {
    let mut ping = None;
    let mut settled = false;
    let mut given_up = None;
    {
        let mut state = shared.lock();
        while let Some(frame) = Frame::decode(buffer)? {
            match frame {
                Frame::Acked { first_seq, count, first, sync, copies } => {
                    let nodes = copies.iter().map(ToOwned::to_owned).collect();
                    state.ledger.acked(Ack { first_seq, count, first, sync, nodes }, Instant::now());
                    settled = true;
                }
                Frame::Refused { first_seq, count, refusal } => {
                    let again = Instant::now() + limits::BACKOFF_MIN * 2;
                    // What is refused for good says nothing about the others.
                    given_up = refusal.retry.then(|| refusal.clone()).or(given_up);
                    state.ledger.refused(first_seq, count, refusal, again);
                    settled = true;
                }
                Frame::Ping(n) => ping = Some(n),
                Frame::Pong(_) | Frame::Welcome { .. } => {}
                Frame::Failure(refusal) => return Err(Ended::Refused(refusal)),
                other => return Err(Ended::OutOfPlace(other.kind())),
            }
        }
    }
    if let Some(refusal) = given_up {
        tell_if_given_up(shared, config, &refusal);
    }
    if settled {
        backoff.reset();
        shared.told.notify_one();
        shared.room.notify_waiters();
        shared.work.notify_one();
    }
    if ping.is_none() && socket.read_buf(buffer).await? == 0 {
        return Err(Ended::Closed);
    }
    Ok(ping)
}
