//! The client's task: dials heads, moves frames, and hands outcomes to the ledger.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, sleep_until, timeout};

use super::{Ack, Config, Shared};
use crate::limits;
use crate::net::{Backoff, dial};
use crate::wire::error::{Code, Refusal};
use crate::wire::frame::{self, Frame};
use crate::wire::text::{FRAMED_CLIENT_OPENING, FRAMED_CONFIRMATION, quote};

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The system's word.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The head's word.
    #[error("{0}")]
    Refused(Refusal),
    /// The head closed.
    #[error("it closed the connection")]
    Closed,
    /// Something else listens there.
    #[error("it answered \"{0}\" in place of confirmacion acopio/1; is it an acopio head of this version?")]
    NotAHead(String),
    /// Nothing came in time.
    #[error("it does not answer")]
    Silent,
}

/// Runs until the sender is gone and everything is settled, or the receipts are gone.
pub async fn run(shared: Arc<Shared>, config: Arc<Config>) {
    let mut rng = SmallRng::seed_from_u64(rand::random());
    let mut backoff = Backoff::default();
    let mut turn = 0;
    let mut said = String::new();
    while wait_for_work(&shared).await {
        let Some(head) = config.heads.get(turn % config.heads.len().max(1)) else { break };
        let ended = converse(head, &shared, &config, &mut backoff).await;
        let refusal = {
            let mut state = shared.lock();
            state.ledger.rewind();
            let Err(ended) = ended else { continue };
            match ended {
                Ended::Refused(refusal) if !refusal.retry => {
                    state.ledger.give_up(&refusal, Duration::ZERO, Instant::now());
                    drop(state);
                    shared.told.notify_one();
                    shared.room.notify_waiters();
                    continue;
                }
                ended => {
                    let waited = config.retry_for;
                    let text = format!("head {head}: {ended}; it is tried for {waited:?}, see that a head runs there");
                    Refusal { code: Code::Timeout, text, retry: true }
                }
            }
        };
        let cause = refusal.text.clone();
        if cause != said {
            tracing::warn!("{cause}; trying again");
            said = cause;
        }
        turn += 1;
        tell_if_given_up(&shared, &config, &refusal);
        let wait = backoff.next(&mut rng);
        if turn % config.heads.len().max(1) == 0 || config.heads.len() == 1 {
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
pub async fn open(head: &str) -> Result<(TcpStream, BytesMut), Ended> {
    let mut socket = dial(head, None).await?;
    socket.write_all(FRAMED_CLIENT_OPENING).await?;
    let mut buffer = BytesMut::with_capacity(limits::READ_BUFFER_BYTES);
    let confirmed = async {
        while buffer.len() < FRAMED_CONFIRMATION.len() && FRAMED_CONFIRMATION.starts_with(&buffer) {
            if socket.read_buf(&mut buffer).await? == 0 {
                return Err(Ended::Closed);
            }
        }
        if !buffer.starts_with(FRAMED_CONFIRMATION) {
            return Err(Ended::NotAHead(quote(&buffer)));
        }
        buffer.advance(FRAMED_CONFIRMATION.len());
        Ok(())
    };
    match timeout(limits::HANDSHAKE_TIME_MAX, confirmed).await {
        Ok(done) => done?,
        Err(_) => return Err(Ended::Silent),
    }
    Ok((socket, buffer))
}

/// The next frame of a connection.
pub async fn next_frame(socket: &mut (impl AsyncReadExt + Unpin), buffer: &mut BytesMut) -> Result<Frame, Ended> {
    loop {
        if let Some(frame) = Frame::decode(buffer).map_err(|error| Ended::Refused(error.refusal()))? {
            return Ok(frame);
        }
        if socket.read_buf(buffer).await? == 0 {
            return Err(Ended::Closed);
        }
    }
}

/// Talks to one head until all is settled and nothing more comes (`Ok`), or the connection is lost.
async fn converse(head: &str, shared: &Shared, config: &Config, backoff: &mut Backoff) -> Result<(), Ended> {
    let (mut socket, mut buffer) = open(head).await?;
    let mut out = BytesMut::new();
    let hello = Frame::Hello { client: config.id, text: config.text };
    hello.encode(&mut out).map_err(|error| Ended::Refused(error.refusal()))?;
    socket.write_all(&out).await?;
    out.clear();
    match timeout(limits::HANDSHAKE_TIME_MAX, next_frame(&mut socket, &mut buffer)).await {
        Ok(Ok(Frame::Welcome { .. })) => {}
        Ok(Ok(Frame::Failure(refusal))) => return Err(Ended::Refused(refusal)),
        Ok(Ok(other)) => return Err(Ended::NotAHead(format!("frame {:#04x}", other.kind()))),
        Ok(Err(ended)) => return Err(ended),
        Err(_) => return Err(Ended::Silent),
    }
    let (mut read_half, mut write_half) = socket.split();
    let pongs = tokio::sync::Notify::new();
    let ping = Mutex::new(None);
    let reader = async {
        loop {
            match timeout(limits::HEARTBEAT_DEFAULT * 2, receive(&mut read_half, &mut buffer, shared, config, backoff))
                .await
            {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(n))) => {
                    *ping.lock().unwrap_or_else(PoisonError::into_inner) = Some(n);
                    pongs.notify_one();
                }
                Ok(Err(ended)) => return ended,
                // A head that keeps what it has may take as long as its nodes do; one that answers no ping is gone.
                Err(_) if shared.lock().ledger.is_waiting() => return Ended::Silent,
                Err(_) => {}
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
            if !out.is_empty() {
                write_half.write_all(&out).await?;
                out.clear();
                continue;
            }
            if done {
                return Ok(());
            }
            let held = async {
                match hold {
                    Some(until) => sleep_until(until.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = work => {}
                () = held => {}
                () = pongs.notified() => {}
                () = sleep(limits::HEARTBEAT_DEFAULT) => {
                    if shared.lock().ledger.is_waiting() {
                        frame::ping(&mut out, 0);
                    }
                }
            }
        }
    };
    tokio::select! {
        ended = reader => Err(ended),
        result = writer => result,
    }
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
        while let Some(frame) = Frame::decode(buffer).map_err(|error| Ended::Refused(error.refusal()))? {
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
                other => return Err(Ended::NotAHead(format!("frame {:#04x}", other.kind()))),
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
