//! `acopio torture`: a cluster of its own under load, faults at random from a seed, and then the question whether every
//! promise was kept.
//!
//! [`plan`] says what is done to whom, and [`verdict`] whether what is read is what was acknowledged; both are pure. The
//! rest does it: [`cluster`] is the processes and their links, [`disk`] fills and flips, [`load`] sends,
//! [`history`] writes down what happened, [`reading`] reads through the cluster, [`offline`] reads the files. This module mends nothing and proves nothing
//! about faults that it does not make.

pub(crate) mod cluster;
pub(crate) mod disk;
pub(crate) mod history;
pub(crate) mod load;
pub(crate) mod offline;
pub(crate) mod plan;
pub(crate) mod reading;

mod rounds;
pub(crate) mod times;
pub(crate) mod verdict;

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::cluster::child;
use crate::wire::id::ClientId;
use crate::{files, limits};
use disk::SmallDisk;
use history::History;
use plan::{Kind, Mix, Shape};
use reading::Followed;
use rounds::{Done, Run};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use verdict::{Checker, Counts, Message, Order, Verdict};

/// Settings of a torture, validated by who builds them.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The acopio program.
    pub(crate) program: PathBuf,
    /// Folder for everything; empty, or not there yet.
    pub(crate) dir: PathBuf,
    /// Time for which faults come.
    pub(crate) run_for: Duration,
    /// Seed of the schedule.
    pub(crate) seed: u64,
    /// Kinds of faults, each once.
    pub(crate) faults: Vec<Kind>,
    /// Whether faults come together.
    pub(crate) mix: Mix,
    /// Number of heads, at least 1.
    pub(crate) heads: usize,
    /// Number of data nodes, more than `replicas`.
    pub(crate) nodes: usize,
    /// Copies of each message.
    pub(crate) replicas: usize,
    /// Time between two heartbeats.
    pub(crate) heartbeat: Duration,
    /// Size at which data files are sealed.
    pub(crate) segment_bytes: u64,
    /// Clients of the library.
    pub(crate) clients: usize,
    /// Text clients.
    pub(crate) lines: usize,
    /// Messages a second, of all clients together.
    pub(crate) rate: u64,
    /// What may come on top of the bounds for times: a shared machine has pauses of its own.
    pub(crate) slack: Duration,
    /// Time after healing within which every record has all its copies again; none if that is not judged.
    pub(crate) copies_within: Option<Duration>,
}

/// Why a torture could not be carried out. A broken promise is no error: it stands in the report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The folder is in use for something.
    #[error("{} is not empty; name a folder for this run alone with --dir", dir.display())]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder can't be used.
    #[error("cannot use {}: {source}; name another folder with --dir", path.display())]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A process can't be started.
    #[error(transparent)]
    Start(#[from] child::Error),
    /// A head does not start.
    #[error("a head of the cluster did not start: {0}")]
    Head(String),
    /// The processes do not find each other before anything was done to them.
    #[error("the cluster is not whole {time:?} after its start: {missing}; see the logs in {}", dir.display())]
    NotWhole {
        /// How long it was waited for.
        time: Duration,
        /// What is missing.
        missing: String,
        /// The folder of the run.
        dir: PathBuf,
    },
    /// No port to listen on.
    #[error("cannot listen on the loopback interface: {0}; free ports")]
    Link(std::io::Error),
    /// The files can't be read.
    #[error(transparent)]
    Read(#[from] offline::Error),
}

/// What came of a torture.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// The seed, which makes the same schedule again.
    pub(crate) seed: u64,
    /// Time for which faults came, seconds.
    pub(crate) seconds: f64,
    /// Whether every promise was kept.
    pub(crate) good: bool,
    /// Messages by what became of them.
    pub(crate) messages: Counts,
    /// What was read through the healed cluster.
    pub(crate) read: Verdict,
    /// What was delivered to a reader that followed all the time.
    pub(crate) follow: Followed,
    /// What was read from the files.
    pub(crate) files: Verdict,
    /// The faults, kind by kind, and how long they kept messages waiting.
    pub(crate) faults: Vec<times::Summary>,
    /// Kinds that were left out, and why.
    pub(crate) left_out: Vec<String>,
    /// Lines that are no good record: flipped bits are found by their checksums.
    pub(crate) bad_lines: u64,
    /// Acknowledged messages of which fewer nodes have a good record than were asked for.
    pub(crate) short_of_copies: u64,
    /// Of these, records whose missing copy is a line that torture flipped a bit of and nobody mended. That is no failure.
    pub(crate) rotten_by_flip: u64,
    /// Whether the others are a failure.
    pub(crate) copies_judged: bool,
    /// Longest time from a wipe's end or the last healing until no head knew of a record short of copies, seconds; none if
    /// that was not waited for, or never reached.
    pub(crate) copies_s: Option<f64>,
    /// What else went wrong: processes that ended by themselves, a cluster that did not heal; the first of them.
    pub(crate) troubles: Vec<String>,
    /// How much did.
    pub(crate) trouble_count: u64,
    /// What happened around the first broken promises.
    pub(crate) history: Vec<String>,
}

/// Tortures a cluster. Being told to stop ends the faults early; what was done so far is checked. Needs a `LocalSet`.
///
/// # Errors
/// The cluster can't be started, or its files can't be read.
pub(crate) async fn run(settings: Settings, shutdown: CancellationToken) -> Result<Report, Error> {
    prepare(&settings.dir)?;
    let mut left_out = Vec::new();
    let mut kinds = settings.faults.clone();
    let shape = Shape { heads: settings.heads, nodes: settings.nodes, heartbeat: settings.heartbeat };
    // Which disk is small depends on the seed alone, not on whether it can be mounted.
    let small = plan::plan(settings.seed, shape, &[], settings.mix, Duration::ZERO).small;
    let mut disk = None;
    if kinds.contains(&Kind::Full) {
        let dir = cluster::folder(&settings.dir, small + 1);
        files::create_folder(&dir).map_err(|source| Error::Folder { path: dir.clone(), source })?;
        let bytes = limits::TORTURE_DISK_BYTES_MIN + settings.bytes_of_a_node();
        match SmallDisk::mount(&dir, bytes) {
            Ok(mounted) => disk = Some(mounted),
            Err(said) => {
                let text = format!("full: no small disk can be mounted here ({said}); run it as root");
                tracing::warn!("{text}");
                left_out.push(text);
                kinds.retain(|kind| *kind != Kind::Full);
            }
        }
    }
    let plan = plan::plan(settings.seed, shape, &kinds, settings.mix, settings.run_for);
    let ids: Vec<ClientId> = (0..settings.clients).map(|_| ClientId::of_library(rand::random())).collect();
    let writers: Vec<Option<ClientId>> =
        ids.iter().copied().map(Some).chain((0..settings.lines).map(|_| None)).collect();
    let history = History::begin(&settings.dir, &writers).map_err(settings.folder_error())?;
    let run = Run { settings: &settings, history: Rc::new(RefCell::new(history)), disk: disk.as_ref(), shutdown };
    let done = run.torture(&plan, ids).await;
    let history = Rc::clone(&run.history);
    drop(run);
    let report = judge(&settings, &mut history.borrow_mut(), done?, left_out)?;
    if let Some(disk) = disk.filter(|_| !report.good) {
        disk.keep().map_err(settings.folder_error())?;
    }
    Ok(report)
}

fn prepare(dir: &Path) -> Result<(), Error> {
    let failed = |source| Error::Folder { path: dir.to_owned(), source };
    files::create_folder(dir).map_err(failed)?;
    if fs::read_dir(dir).map_err(failed)?.next().is_some() {
        return Err(Error::NotEmpty { dir: dir.to_owned() });
    }
    Ok(())
}

impl Settings {
    fn folder_error(&self) -> impl Fn(std::io::Error) -> Error + use<> {
        let path = self.dir.clone();
        move |source| Error::Folder { path: path.clone(), source }
    }

    /// What the fullest data node will keep, amply: twice its share, and what comes while it is awaited.
    fn bytes_of_a_node(&self) -> u64 {
        let seconds = self.run_for.as_secs() * 2 + limits::TORTURE_WHOLE_TIME_MAX.as_secs();
        let copies = self.rate * seconds * self.replicas as u64;
        2 * copies * limits::TORTURE_RECORD_BYTES_MAX / self.nodes.max(1) as u64
    }
}

/// Reads the files and compares them with the history.
fn judge(settings: &Settings, history: &mut History, done: Done, left_out: Vec<String>) -> Result<Report, Error> {
    let Done { seconds, copies_s, read, follow } = done;
    history.flush().map_err(settings.folder_error())?;
    let folders: Vec<PathBuf> = (1..=settings.nodes).map(|k| cluster::folder(&settings.dir, k)).collect();
    let found = offline::read(&folders)?;
    let mut checker = Checker::new(Order::NotJudged);
    found.reads.iter().for_each(|read| checker.read(&history.expected, read));
    let files = checker.finish(&history.expected);
    let is_short = |message: &Message, copies: usize| history.expected.is_acked(*message) && copies < settings.replicas;
    let short: Vec<_> = found.copies.iter().filter(|(message, copies)| is_short(message, *copies)).collect();
    // Flips are all on one node, so they account for one copy.
    let rotten =
        |(message, copies): &&&(Message, usize)| history.flipped.contains(message) && copies + 1 >= settings.replicas;
    let rotten_by_flip = short.iter().filter(rotten).count() as u64;
    // What is lost has no copy at all.
    let short_of_copies = short.len() as u64 + files.lost;
    let faults = history.times.summary(settings.heartbeat, settings.slack);
    let copies_judged = settings.copies_within.is_some();
    let good = [&read, &follow.verdict, &files].into_iter().all(Verdict::is_good)
        && history.trouble_count == 0
        && faults.iter().all(|fault| fault.too_late == 0)
        && (short_of_copies == rotten_by_flip || !copies_judged);
    let mut lines = Vec::new();
    if !good {
        let findings = [&read, &follow.verdict, &files].into_iter().flat_map(|verdict| &verdict.findings);
        let mut messages: Vec<Message> = findings.filter_map(|finding| finding.message).collect();
        if messages.is_empty() && copies_judged {
            let unexplained = short.iter().filter(|short| !rotten(short)).map(|(message, _)| *message);
            messages.extend(unexplained.take(limits::TORTURE_FINDINGS_SHOWN_MAX));
        }
        lines = history::excerpt(&settings.dir, &messages).map_err(settings.folder_error())?;
    }
    Ok(Report {
        seed: settings.seed,
        seconds,
        good,
        messages: history.expected.counts(),
        read,
        follow,
        files,
        faults,
        left_out,
        bad_lines: found.bad_lines,
        short_of_copies,
        rotten_by_flip,
        copies_judged,
        copies_s,
        troubles: history.troubles.clone(),
        trouble_count: history.trouble_count,
        history: lines,
    })
}
