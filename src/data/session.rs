//! A data node's connection to one head: dial, register, keep what comes, answer, and dial again after a loss.
//!
//! The records go to [`super::commit`]; this file moves frames.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::commit::{Commit, LogState, Sender, Verdict};
use super::config::Config;
use super::log::{LogError, SyncPolicy};
use crate::limits;
use crate::net::{Backoff, Outbox, dial, read_some};
use crate::shutdown::Shutdown;
use crate::wire::error::{Code, Refusal};
use crate::wire::frame::{self, Frame, NodeReport, SyncMode};
use crate::wire::text::{FRAMED_CONFIRMATION, FRAMED_NODE_OPENING, quote};

/// Who this node is, for every session.
pub struct Identity {
    /// Settings.
    pub config: Config,
    /// The identity in its folder.
    pub id: u64,
}

/// Why a connection to a head ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}; see that a head runs there")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Refused(Refusal),
    #[error("the head closed the connection; see its log for the cause")]
    Closed,
    #[error("it answered \"{0}\" in place of confirmacion acopio/1; is it an acopio head of this version?")]
    NotAHead(String),
    #[error("nothing was heard from it for {0:?}; see that it runs and can be reached")]
    Silent(Duration),
}

struct HeadSender {
    outbox: Outbox,
    /// When the head was heard last.
    heard: Cell<Instant>,
    sync: SyncMode,
}

impl Sender for HeadSender {
    fn settled(&self, first: u64, last: u64, verdict: &Verdict) {
        match verdict {
            Verdict::Kept => self.outbox.with(|out| frame::put_ack(out, last, self.sync)),
            Verdict::NotKept(error) => {
                let code = if matches!(error, LogError::Full { .. }) { Code::DiskFull } else { Code::Storage };
                let why = error.to_string();
                self.outbox.with(|out| (first..=last).for_each(|number| frame::put_refused(out, number, code, &why)));
            }
        }
    }
}

/// The log's state as a head hears it; the reason is cut to what fits.
fn report(state: &LogState) -> NodeReport {
    let end = state.reason.floor_char_boundary(limits::TEXT_BYTES_MAX);
    let reason = state.reason.get(..end).unwrap_or_default().to_owned();
    NodeReport { writable: state.reason.is_empty(), records: state.records, bytes: state.bytes, reason }
}

/// The promise that an acknowledgement makes under this policy.
const fn sync_mode(policy: SyncPolicy) -> SyncMode {
    match policy {
        SyncPolicy::Always => SyncMode::Always,
        SyncPolicy::Every(_) => SyncMode::Interval,
        SyncPolicy::Never => SyncMode::Never,
    }
}

/// Keeps this node registered with one head until it is asked to stop or its log is poisoned.
pub async fn keep(head: &str, me: &Identity, commit: &Commit, shutdown: &Shutdown) {
    let mut rng = SmallRng::seed_from_u64(me.config.seed);
    let mut backoff = Backoff::default();
    let mut said = String::new();
    while !shutdown.is_stopping() && commit.poisoned().is_none() {
        let ended = once(head, me, commit, shutdown, &mut backoff).await;
        if shutdown.is_stopping() {
            return;
        }
        let stops;
        let cause = match ended {
            Ok(()) => continue,
            Err(ended) => {
                stops = matches!(&ended, Ended::Refused(refusal) if refusal.code == Code::Stopping);
                format!("head {head}: {ended}")
            }
        };
        // The same trouble again is said once.
        if cause != said {
            if stops {
                tracing::info!("head {head} stops; trying again until it is back");
            } else {
                tracing::warn!("{cause}; trying again until it works");
            }
            said = cause;
        }
        tokio::select! {
            () = sleep(backoff.next(&mut rng)) => {}
            () = shutdown.stopping() => return,
        }
    }
}

/// One connection, from dialling to its end.
async fn once(
    head: &str,
    me: &Identity,
    commit: &Commit,
    shutdown: &Shutdown,
    backoff: &mut Backoff,
) -> Result<(), Ended> {
    let mut socket = tokio::select! {
        dialled = dial(head, me.config.bind) => dialled?,
        () = shutdown.stopping() => return Ok(()),
    };
    let mut buffer = BytesMut::with_capacity(limits::READ_BUFFER_BYTES);
    match timeout(limits::HANDSHAKE_TIME_MAX, register(&mut socket, me, commit, &mut buffer)).await {
        Ok(registered) => registered?,
        Err(_) => return Err(Ended::Silent(limits::HANDSHAKE_TIME_MAX)),
    }
    let local = socket.local_addr()?;
    tracing::info!(
        "Conexion establecida con {head} ({local} -> {}), registered as {}",
        socket.peer_addr()?,
        me.config.name
    );
    backoff.reset();
    let sender = Rc::new(HeadSender {
        outbox: Outbox::default(),
        heard: Cell::new(Instant::now()),
        sync: sync_mode(me.config.sync),
    });
    let session = commit.enter(Rc::clone(&sender) as Rc<dyn Sender>);
    let (mut read_half, write_half) = socket.split();
    let pump = sender.outbox.pump(write_half);
    tokio::pin!(pump);
    let ended = tokio::select! {
        ended = follow(&mut read_half, &sender, session, commit, &mut buffer) => ended,
        ended = tell(&sender, commit, shutdown) => ended,
        broken = &mut pump => {
            commit.exit(session);
            return broken.map_err(Ended::from);
        }
    };
    commit.exit(session);
    sender.outbox.close();
    if timeout(limits::CLOSE_TIME_MAX, pump).await.is_err() {
        tracing::debug!("head {head} does not read; its connection is cut");
    }
    ended
}

/// The handshake and the Register frame, up to the head's Welcome.
async fn register(socket: &mut TcpStream, me: &Identity, commit: &Commit, buffer: &mut BytesMut) -> Result<(), Ended> {
    let mut out = BytesMut::from(FRAMED_NODE_OPENING);
    let (name, sync) = (me.config.name.clone(), sync_mode(me.config.sync));
    let hello = Frame::Register { node: me.id, name, sync, report: report(&commit.state()) };
    hello.encode(&mut out).map_err(|error| Ended::Refused(error.refusal()))?;
    socket.write_all(&out).await?;
    while buffer.len() < FRAMED_CONFIRMATION.len() {
        let known = FRAMED_CONFIRMATION.starts_with(buffer);
        if !known || socket.read_buf(buffer).await? == 0 {
            return Err(if buffer.is_empty() { Ended::Closed } else { Ended::NotAHead(quote(buffer)) });
        }
    }
    if !buffer.starts_with(FRAMED_CONFIRMATION) {
        return Err(Ended::NotAHead(quote(buffer)));
    }
    buffer.advance(FRAMED_CONFIRMATION.len());
    loop {
        match Frame::decode(buffer).map_err(|error| Ended::Refused(error.refusal()))? {
            Some(Frame::Welcome { .. }) => return Ok(()),
            Some(Frame::Failure(refusal)) => return Err(Ended::Refused(refusal)),
            Some(other) => return Err(Ended::NotAHead(format!("frame {:#04x}", other.kind()))),
            None if socket.read_buf(buffer).await? == 0 => return Err(Ended::Closed),
            None => {}
        }
    }
}

/// The reader: every Put of a read goes into the commit buffer, pings are answered at once.
async fn follow(
    socket: &mut tokio::net::tcp::ReadHalf<'_>,
    sender: &HeadSender,
    session: u64,
    commit: &Commit,
    buffer: &mut BytesMut,
) -> Result<(), Ended> {
    let protocol = |text: String| Ended::Refused(Refusal::new(Code::Protocol, text));
    // The end comes from the head, or with the connection: this node goes on reading until then.
    let (_trigger, never) = crate::shutdown::pair();
    let mut number = 0;
    loop {
        while let Some(frame) = Frame::decode(buffer).map_err(|error| Ended::Refused(error.refusal()))? {
            match frame {
                Frame::Put { first, client, first_seq, copies, messages } => {
                    commit.room().await;
                    number += 1;
                    commit
                        .add((session, number), first, (client, first_seq), &copies, &messages)
                        .map_err(|error| protocol(error.to_string()))?;
                }
                Frame::Ping(n) => sender.outbox.with(|out| frame::pong(out, n)),
                Frame::Pong(_) => {}
                Frame::Failure(refusal) => return Err(Ended::Refused(refusal)),
                other => return Err(protocol(format!("frame {:#04x} is out of place from a head", other.kind()))),
            }
        }
        if !read_some(socket, buffer, &never).await {
            return Err(Ended::Closed);
        }
        sender.heard.set(Instant::now());
    }
}

/// Tells the head how the log is, at most once a second and only if that changed; and asks to leave when this node
/// stops. Ends only if the head does not let go in time.
async fn tell(sender: &HeadSender, commit: &Commit, shutdown: &Shutdown) -> Result<(), Ended> {
    let mut said = LogState::default();
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let urgent = async {
            loop {
                let changed = commit.changed.notified();
                if commit.state().reason != said.reason || commit.poisoned().is_some() {
                    return;
                }
                changed.await;
            }
        };
        tokio::select! {
            _ = ticks.tick() => {}
            () = urgent => {}
            () = shutdown.stopping() => break,
        }
        let silence = sender.heard.get().elapsed();
        if silence > limits::HEAD_SILENCE_MAX {
            return Err(Ended::Silent(limits::HEAD_SILENCE_MAX));
        } else if silence > limits::HEAD_PING_AFTER && sender.outbox.is_empty() {
            sender.outbox.with(|out| frame::ping(out, 0));
        }
        let state = commit.state();
        if state != said {
            sender
                .outbox
                .with(|out| Frame::NodeState(report(&state)).encode(out))
                .map_err(|e| Ended::Refused(e.refusal()))?;
            said = state;
        }
        if let Some(error) = commit.poisoned() {
            return Err(Ended::Refused(Refusal::new(Code::Storage, error.to_string())));
        }
    }
    sender.outbox.with(|out| Frame::Leave.encode(out)).map_err(|e| Ended::Refused(e.refusal()))?;
    sleep(limits::DRAIN_TIME_MAX).await;
    Ok(())
}
