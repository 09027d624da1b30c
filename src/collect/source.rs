//! Where lines come from: one source with its name, and what becomes of it while it is away.
//!
//! A task for each source reads, cuts and stamps; whoever takes the lines bounds how many wait. An instrument that is away
//! is dialled again for ever.

use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::lines::{Ends, Lines, TooLong};
use super::serial::{self, Serial};
use super::told::Told;
use crate::clock::Clock;
use crate::limits;
use crate::net::{Backoff, Net};
use crate::wire::source::SourceName;

/// Where an instrument is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It listens at `host:port`.
    Tcp(String),
    /// It is at a serial line.
    Serial(PathBuf),
    /// It is standard input.
    Stdin,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Serial(path) => write!(f, "{}", path.display()),
            Self::Stdin => f.write_str("standard input"),
        }
    }
}

/// An instrument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// Its name, if it has one.
    pub(crate) name: Option<SourceName>,
    /// Where it is.
    pub(crate) place: Place,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} at {}", self.place),
            None => self.place.fmt(f),
        }
    }
}

/// What an instrument has to be told before it says anything.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// The bytes.
    pub(crate) text: Bytes,
    /// How often; once for each connection, if none is given.
    pub(crate) every: Option<Duration>,
}

/// How all sources of a collector are read.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    pub(crate) ends: Ends,
    pub(crate) question: Option<Question>,
    pub(crate) serial: serial::Settings,
    /// The clock for stamps.
    pub(crate) clock: Clock,
}

/// What one read brought.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) name: Option<SourceName>,
    /// When, ns since 1970.
    pub(super) at_ns: u64,
    pub(super) lines: Vec<Result<Bytes, TooLong>>,
}

/// A connection to an instrument.
trait Wire: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Wire for T {}

/// How a connection ended.
enum Ended {
    /// Nobody takes lines any more, or the end was asked for.
    Stopping,
    /// The instrument closed it in order, or it broke.
    Gone { cause: String, has_spoken: bool, in_order: bool },
}

/// Reads an instrument until the end is asked for.
pub(super) async fn follow(source: Source, manner: Rc<Manner>, out: mpsc::Sender<Read>, shutdown: CancellationToken) {
    let (mut rng, mut backoff) = (SmallRng::seed_from_u64(rand::random()), Backoff::default());
    let mut told = Told::new(source.to_string());
    loop {
        let opened = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            opened = open(&source.place, &manner) => opened,
        };
        let mut wait = None;
        let cause = match opened {
            Err(error) => Some(error.to_string()),
            Ok(wire) => {
                if let Some(words) = told.there(Instant::now()) {
                    tracing::info!("{words}");
                }
                match converse(wire, &source, &manner, &out, &shutdown).await {
                    Ended::Stopping => return,
                    Ended::Gone { cause, has_spoken, in_order } => {
                        if has_spoken {
                            backoff.reset();
                        }
                        // Some close after each reading: that is no news.
                        let is_routine = has_spoken && in_order;
                        wait = is_routine.then_some(limits::COLLECT_AGAIN_AFTER);
                        if is_routine {
                            tracing::debug!("{source}: {cause}");
                        }
                        (!is_routine).then_some(cause)
                    }
                }
            }
        };
        if let Some(words) = cause.and_then(|cause| told.away(&cause, Instant::now())) {
            tracing::warn!("{words}");
        }
        let wait = wait.unwrap_or_else(|| backoff.next(&mut rng));
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = sleep(wait) => {}
        }
    }
}

async fn open(place: &Place, manner: &Manner) -> std::io::Result<Box<dyn Wire>> {
    match place {
        Place::Tcp(address) => Ok(Box::new(Net::Tcp.dial(address, None).await?)),
        Place::Serial(path) => Ok(Box::new(Serial::open(path, &manner.serial)?)),
        Place::Stdin => Err(std::io::Error::other("standard input is no instrument")),
    }
}

/// Asks and reads until the instrument is gone.
async fn converse(
    mut wire: Box<dyn Wire>,
    source: &Source,
    manner: &Manner,
    out: &mpsc::Sender<Read>,
    shutdown: &CancellationToken,
) -> Ended {
    let mut lines = Lines::new(manner.ends);
    let (mut buffer, mut has_spoken) = (BytesMut::with_capacity(limits::READ_BUFFER_BYTES_MIN), false);
    let every = manner.question.as_ref().and_then(|question| question.every);
    let mut questions = every.map(|every| interval_at(Instant::now() + every, every));
    if let Some(questions) = &mut questions {
        questions.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let mut is_asked = manner.question.is_none();
    loop {
        if !std::mem::replace(&mut is_asked, true)
            && let Some(question) = &manner.question
            && let Err(cause) = ask(&mut wire, &question.text).await
        {
            return Ended::Gone { cause, has_spoken, in_order: false };
        }
        let (due, mut cut) = (lines.due(), Vec::new());
        let ended = tokio::select! {
            biased;
            () = shutdown.cancelled() => Some(Ended::Stopping),
            read = wire.read_buf(&mut buffer) => match read {
                Ok(0) => Some(Ended::Gone { cause: "closed".to_owned(), has_spoken, in_order: true }),
                Ok(_) => {
                    has_spoken = true;
                    lines.push(&buffer, Instant::now(), &mut cut);
                    buffer.clear();
                    None
                }
                Err(error) => Some(Ended::Gone { cause: error.to_string(), has_spoken, in_order: false }),
            },
            () = at(due) => {
                lines.end(&mut cut);
                None
            }
            () = tick(questions.as_mut()) => {
                is_asked = false;
                continue;
            }
        };
        match &ended {
            // It has said all that it had to say; what broke off in the middle may be half a number.
            Some(Ended::Gone { in_order: true, .. }) => lines.end(&mut cut),
            Some(_) if lines.held() > 0 => {
                tracing::warn!("{source}: left out {} bytes of a line that was not whole", lines.held());
            }
            _ => {}
        }
        if !cut.is_empty() {
            let read = Read { name: source.name, at_ns: manner.clock.wall_ns(), lines: cut };
            if out.send(read).await.is_err() {
                return Ended::Stopping;
            }
        }
        if let Some(ended) = ended {
            return ended;
        }
    }
}

async fn ask(wire: &mut Box<dyn Wire>, text: &[u8]) -> Result<(), String> {
    match timeout(limits::COLLECT_QUESTION_TIME_MAX, wire.write_all(text)).await {
        Ok(written) => written.map_err(|error| error.to_string()),
        Err(_) => Err("it takes in no question".to_owned()),
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn tick(questions: Option<&mut tokio::time::Interval>) {
    match questions {
        Some(questions) => drop(questions.tick().await),
        None => std::future::pending().await,
    }
}
