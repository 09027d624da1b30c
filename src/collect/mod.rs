//! Collects from instruments that are servers, from serial lines and from standard input, and hands what they say to the
//! cluster by the client library alone.
//!
//! Sources read, cut and stamp (`source`, `stdin`, `lines`, `serial`); the loop here takes their lines into a queue, in
//! memory or in a spool on disk (`queue`, `spool`), from which they are handed over (`handing`) under numbers that last. It
//! gives up neither an instrument nor the cluster. Numbers and times are not read out of lines here: that is `reading`.

mod handing;
mod lines;
mod queue;
pub(crate) mod serial;
mod settled;
mod source;
pub(crate) mod spool;
mod stdin;
mod told;

use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

pub(crate) use self::lines::Ends;
pub(crate) use self::source::{Manner, Place, Question, Source};

use self::handing::{Became, Handing};
use self::lines::TooLong;
use self::queue::{Memory, NotTaken, Queue};
use self::source::Read;
use self::spool::{Found, Spool};
use crate::client;
use crate::limits;
use crate::net::{self, aside};
use crate::reading::{UnixNs, stamp};
use crate::wire::id::ClientId;
use crate::wire::source::SourceName;

/// Settings of a collector.
#[derive(Debug)]
pub(crate) struct Config {
    /// Lines are read and wait before any head is known.
    pub(crate) heads: oneshot::Receiver<net::Heads>,
    pub(crate) sources: Vec<Source>,
    pub(crate) manner: Manner,
    /// The time at which a line was read stands in front of it.
    pub(crate) stamps: bool,
    /// Where lines wait, and how many bytes of them; in memory, if none is given.
    pub(crate) spool: Option<(PathBuf, u64)>,
}

/// What a collector came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Lines that were read.
    pub(crate) read: u64,
    /// Lines that the cluster keeps, those among them that had waited in the spool before.
    pub(crate) kept: u64,
    /// Lines that wait in the spool.
    pub(crate) waiting: u64,
    /// Lines that are nowhere: too long, refused, or without a place to wait.
    pub(crate) lost: u64,
    /// Something could not be read or written that should have been.
    pub(crate) failed: bool,
}

/// Collects until all sources have ended and all is kept, or until the end is asked for.
///
/// # Errors
/// The spool cannot be used, or the system gives no thread.
pub(crate) async fn run(config: Config, shutdown: CancellationToken) -> Result<Counts, Error> {
    let id = ClientId::of_library(rand::random());
    let has_spool = config.spool.is_some();
    let (queue, found) = match &config.spool {
        None => (Queue::Memory(Memory::new(id)), Found::default()),
        Some((folder, bytes_max)) => {
            let (spool, found) = Spool::open(folder, *bytes_max, id)?;
            tell_found(found);
            (Queue::Spool(Box::new(spool)), found)
        }
    };
    let (instruments, from_instruments) = mpsc::channel(limits::COLLECT_READS_AHEAD);
    let (input, from_input) = mpsc::channel(1);
    let manner = Rc::new(config.manner);
    let mut sources = JoinSet::new();
    for source in config.sources {
        let (manner, out, shutdown) = (Rc::clone(&manner), instruments.clone(), shutdown.clone());
        if source.place == Place::Stdin {
            let (bytes, out) = (stdin::start(&shutdown)?, input.clone());
            sources.spawn_local(async move { stdin::follow(&source, &manner, bytes, out).await });
        } else {
            sources.spawn_local(async move {
                source::follow(source, manner, out, shutdown).await;
                Ok(())
            });
        }
    }
    drop((instruments, input));
    let collector = Collector {
        queue,
        handing: Handing::new(),
        heads: Some(config.heads),
        stamps: config.stamps,
        counts: Counts { failed: found.damaged > 0, ..Counts::default() },
        waits: None,
        no_place: 0,
        refused: 0,
        input_rests_until: None,
        syncs: JoinSet::new(),
    };
    // Where lines stay on disk, nothing is gained by waiting long for a cluster that is away.
    let patience = if has_spool { limits::CLOSE_TIME_MAX } else { limits::DRAIN_TIME_MAX };
    Ok(collector.run(from_instruments, from_input, sources, shutdown, patience).await)
}

/// Why a collector does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Spool(#[from] spool::Error),
    #[error("cannot start a thread: {0}; end other processes, or raise their limit (ulimit -u)")]
    Thread(#[from] io::Error),
}

fn tell_found(found: Found) {
    if found.waiting > 0 {
        tracing::info!("{} lines wait in the spool from before; they are sent first", found.waiting);
    }
    if found.torn > 0 {
        tracing::warn!("{} lines of the spool were being written when the collector or its machine went", found.torn);
    }
    if found.damaged > 0 {
        tracing::error!(
            "{} lines of the spool have a wrong checksum and are not sent; see the files .damaged in it",
            found.damaged
        );
    }
}

/// The loop's state.
struct Collector {
    queue: Queue,
    handing: Handing,
    /// None once they are known, or never will be.
    heads: Option<oneshot::Receiver<net::Heads>>,
    stamps: bool,
    counts: Counts,
    /// Lines of standard input for which there is no room: nothing more is read of it.
    waits: Option<Read>,
    /// Lines of instruments in a row for which there was no room.
    no_place: u64,
    /// Lines that the cluster will never keep.
    refused: u64,
    /// A spool that cannot be written is tried again then.
    input_rests_until: Option<Instant>,
    syncs: JoinSet<io::Result<()>>,
}

impl Collector {
    async fn run(
        mut self,
        mut instruments: mpsc::Receiver<Read>,
        mut input: mpsc::Receiver<Read>,
        mut sources: JoinSet<io::Result<()>>,
        shutdown: CancellationToken,
        patience: Duration,
    ) -> Counts {
        let (mut until, mut open) = (None, (true, true));
        loop {
            self.take_waiting();
            self.hand_over();
            let all_read = open == (false, false) && self.waits.is_none();
            if all_read && self.queue.waiting() == 0 {
                break;
            }
            let (sync_due, syncs) = (self.sync_due(), !self.syncs.is_empty());
            tokio::select! {
                biased;
                () = at(until) => break,
                () = shutdown.cancelled(), if until.is_none() => until = Some(Instant::now() + patience),
                heads = first_heads(&mut self.heads) => {
                    self.heads = None;
                    heads.into_iter().for_each(|heads| self.handing.begin(client::Config::following(heads)));
                }
                Some(ended) = sources.join_next(), if !sources.is_empty() => self.source_ended(ended),
                became = self.handing.next(&mut self.queue) => self.became(became),
                Some(synced) = self.syncs.join_next(), if syncs => self.synced(synced.unwrap_or_else(|error| Err(io::Error::other(error)))),
                () = at(sync_due), if !syncs => self.sync(),
                read = instruments.recv(), if open.0 => match read {
                    Some(read) => self.take_of_instrument(read),
                    None => open.0 = false,
                },
                read = input.recv(), if open.1 && self.waits.is_none() => match read {
                    Some(read) => self.waits = Some(read),
                    None => open.1 = false,
                },
                () = at(self.input_rests_until), if self.waits.is_some() => self.input_rests_until = None,
            }
        }
        self.end().await
    }

    fn hand_over(&mut self) {
        if let Err(error) = self.handing.hand_over(&mut self.queue) {
            self.failed(&format!("the spool cannot be read: {error}; mend the disk, and start this again"));
        }
    }

    /// Says what has gone wrong, the first time.
    fn failed(&mut self, words: &str) {
        if !std::mem::replace(&mut self.counts.failed, true) {
            tracing::error!("{words}");
        } else {
            tracing::debug!("{words}");
        }
    }

    fn source_ended(&mut self, ended: Result<io::Result<()>, tokio::task::JoinError>) {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.failed(&format!("cannot read on from standard input: {error}")),
            Err(error) => self.failed(&format!("a source ended: {error}; report this")),
        }
    }

    fn became(&mut self, became: Became) {
        match became {
            Became::Settled(lines) => self.counts.kept += lines,
            Became::Refused { settled, lines, refusal } => {
                self.counts.kept += settled;
                self.counts.lost += lines;
                self.refused += lines;
                tracing::error!("{lines} lines are not kept: {refusal}");
            }
            Became::Again => {}
        }
    }

    /// The payload of a line, with its stamp.
    fn payload(&self, at_ns: u64, line: Bytes) -> Bytes {
        if self.stamps { [stamp::of(UnixNs(at_ns)).as_bytes(), &line].concat().into() } else { line }
    }

    fn push(&mut self, name: Option<SourceName>, at_ns: u64, line: &Bytes) -> Result<(), NotTaken> {
        let payload = self.payload(at_ns, line.clone());
        self.queue.push(name, at_ns, payload)
    }

    fn too_long(&mut self, name: Option<SourceName>) {
        self.counts.read += 1;
        self.counts.lost += 1;
        let who = name.map(|name| format!("{name}: ")).unwrap_or_default();
        tracing::warn!("{who}a line of more than {} bytes is left out", limits::COLLECT_LINE_BYTES_MAX);
    }

    /// An instrument does not wait: what has no place now has none.
    fn take_of_instrument(&mut self, read: Read) {
        for line in read.lines {
            let Ok(line) = line else {
                self.too_long(read.name);
                continue;
            };
            self.counts.read += 1;
            let Err(error) = self.push(read.name, read.at_ns, &line) else {
                if self.no_place > 0 {
                    tracing::warn!("there is room again; {} lines had none and are lost", self.no_place);
                    self.no_place = 0;
                }
                continue;
            };
            self.counts.lost += 1;
            self.no_place += 1;
            if self.no_place.is_power_of_two() {
                tracing::error!("{} lines in a row are lost, the newest ones: {error}", self.no_place);
            }
        }
    }

    /// Standard input waits until there is room for what was read of it.
    fn take_waiting(&mut self) {
        if self.input_rests_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        let Some(mut read) = self.waits.take() else { return };
        let mut lines = std::mem::take(&mut read.lines).into_iter();
        while let Some(line) = lines.next() {
            let pushed = match &line {
                Err(TooLong) => {
                    self.too_long(read.name);
                    continue;
                }
                Ok(line) => self.push(read.name, read.at_ns, line),
            };
            let Err(error) = pushed else {
                self.counts.read += 1;
                continue;
            };
            if let NotTaken::Disk(_) = error {
                self.failed(&error.to_string());
                self.input_rests_until = Instant::now().checked_add(limits::SPOOL_RETRY_AFTER);
            }
            read.lines = std::iter::once(line).chain(lines).collect();
            self.waits = Some(read);
            return;
        }
    }

    fn sync_due(&mut self) -> Option<Instant> {
        self.queue.spool().and_then(|spool| spool.sync_due())
    }

    fn sync(&mut self) {
        if let Some(spool) = self.queue.spool() {
            self.syncs.spawn(aside("spool", spool.sync()));
        }
    }

    fn synced(&mut self, synced: io::Result<()>) {
        let Err(error) = synced else { return };
        if let Some(spool) = self.queue.spool() {
            spool.sync_failed();
        }
        self.failed(&format!("the spool cannot be synced: {error}; what waits there may not survive a power cut"));
    }

    /// What is not handed over stays in the spool, on the disk; without one it is lost.
    async fn end(mut self) -> Counts {
        self.counts.kept = self.counts.kept.saturating_sub(self.refused);
        if let Some(read) = self.waits.take() {
            let lines = read.lines.len() as u64;
            self.counts.read += lines;
            self.counts.lost += lines;
            tracing::error!("{lines} lines of standard input were read and have no place: they are lost");
        }
        while let Some(synced) = self.syncs.join_next().await {
            self.synced(synced.unwrap_or_else(|error| Err(io::Error::other(error))));
        }
        let waiting = self.queue.waiting();
        let Some(spool) = self.queue.spool() else {
            self.counts.lost += waiting;
            return self.counts;
        };
        self.counts.waiting = waiting;
        spool.close();
        if waiting > 0 {
            let sync = aside("spool", spool.sync()).await;
            self.synced(sync);
        }
        self.counts
    }
}

async fn first_heads(heads: &mut Option<oneshot::Receiver<net::Heads>>) -> Option<net::Heads> {
    match heads {
        Some(heads) => heads.await.ok(),
        None => std::future::pending().await,
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
