//! `acopio bench`: how much a cluster takes, how long messages take, and what that costs in time and memory.
//!
//! `load` sends over plain connections (`talk` is what they say), `latency` keeps times, `cluster` is the cluster that
//! is started for it, `usage` asks `/proc`, and `stored` reads everything back: a rate at which messages are lost is none.

mod cluster;
mod latency;
mod load;
mod stored;
mod talk;
mod usage;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until};

use self::cluster::Cluster;
pub(crate) use self::latency::Summary;
use self::load::{Load, LoadError, Ready};
use self::stored::Stored;
pub(crate) use self::talk::STAMP_BYTES;
use self::usage::Usage;
use crate::client;
use crate::client::reader::{self, ReadError};
use crate::cluster::{child, keys};
use crate::limits;
use crate::net::Access;
use crate::wire::status::NodeStatus;
use crate::wire::text::Dialect;
use tokio_util::sync::CancellationToken;

/// What is measured.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// A cluster that runs, or one that is started.
    pub(crate) target: Target,
    /// How heads are dialled, and the token that is said to them.
    pub(crate) access: Access,
    /// Connections.
    pub(crate) clients: usize,
    /// Messages that each has in flight; 1 in the raw dialect.
    pub(crate) in_flight: usize,
    /// Bytes of a message, [`STAMP_BYTES`] at least.
    pub(crate) size: usize,
    /// What they speak.
    pub(crate) dialect: Dialect,
    /// Messages a second, of all together; none for as many as fit.
    pub(crate) rate: Option<f64>,
    /// Time that is measured.
    pub(crate) run_for: Duration,
    /// Time before that, which does not count.
    pub(crate) warm_up: Duration,
    /// Whether everything is read back in the end.
    pub(crate) check: bool,
    /// Longest wait for a calm disk before a cluster of its own starts.
    pub(crate) calm_within: Duration,
}

/// Whose speed is measured.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// A cluster of its own.
    Own {
        /// The acopio program.
        program: PathBuf,
        /// Folder for all its files.
        dir: PathBuf,
        /// Heads.
        heads: usize,
        /// Data nodes.
        nodes: usize,
        /// Copies of each message.
        replicas: usize,
        /// When data nodes sync, in the words of the flag.
        sync: String,
    },
    /// A cluster that runs: its heads.
    Running(Vec<String>),
}

/// A bench could not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The folder can't be written.
    #[error("cannot write in {}: {source}; name another folder with --dir or make this one writable", dir.display())]
    Folder {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The folder is in use by something else.
    #[error("{} is not empty; name a folder for this run alone with --dir", .0.display())]
    NotEmpty(PathBuf),
    /// No ports in a row are free.
    #[error("no free ports for the heads: {0}; stop something that listens, or measure fewer heads with --heads")]
    Ports(std::io::Error),
    /// The keys can't be handed out.
    #[error(transparent)]
    Keys(#[from] keys::Error),
    /// A process can't be started.
    #[error(transparent)]
    Start(#[from] child::Error),
    /// A process does not get ready.
    #[error("{name} is not ready: {said}; its folder has its log")]
    Member {
        /// The process.
        name: String,
        /// What is wrong.
        said: String,
    },
    /// A head can't be asked for its status.
    #[error(transparent)]
    Head(client::Error),
    /// A connection of the load failed.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Who uses time and memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// The connections that are measured: this process.
    Load,
    /// All heads.
    Head,
    /// All data nodes.
    Data,
}

/// What a role took while it was measured.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Cost {
    /// Who.
    pub(crate) role: Role,
    /// Cores, all its processes together.
    pub(crate) cores: f64,
    /// CPU time a message, microseconds.
    pub(crate) cpu_us_per_message: f64,
    /// Most memory that one of its processes had resident, MiB.
    pub(crate) peak_mib: f64,
}

/// What was found when everything was read back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Check {
    /// Exactly what was acknowledged is there.
    Good,
    /// It was not asked for.
    Skipped,
    /// What is wrong.
    Bad(String),
}

/// What was measured.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Report {
    /// Time that was measured, seconds.
    pub(crate) seconds: f64,
    /// Messages acknowledged in it.
    pub(crate) messages: u64,
    /// The same a second.
    pub(crate) messages_per_s: f64,
    /// Bytes of these messages a second, millions.
    pub(crate) payload_mb_per_s: f64,
    /// Bytes that data nodes appended a second, millions; none for a cluster that ran before.
    pub(crate) log_mb_per_s: Option<f64>,
    /// Times from when a message was due to its acknowledgement, microseconds.
    pub(crate) latency_us: Summary,
    /// Messages acknowledged for each sync of a data node, over the whole run; none if nothing was synced.
    pub(crate) messages_per_sync: Option<f64>,
    /// Syncs a second, all data nodes together, at that measure.
    pub(crate) syncs_per_s: Option<f64>,
    /// What it took; only of processes of this machine that the bench started.
    pub(crate) cost: Vec<Cost>,
    /// Messages sent in the whole run, warm-up included.
    pub(crate) sent: u64,
    /// Of these acknowledged.
    pub(crate) acknowledged: u64,
    /// Of these refused.
    pub(crate) refused: u64,
    /// The first cause of a refusal.
    pub(crate) refusal: Option<String>,
    /// Whether they are there.
    pub(crate) check: Check,
    /// The distribution of times, for HdrHistogram's plotter.
    #[serde(skip)]
    pub(crate) histogram: String,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Progress {
    /// Waiting for the disk, the cluster and the connections.
    Starting,
    /// Messages are sent.
    Running {
        /// Whether it counts.
        counts: bool,
        /// Time since the first message.
        elapsed: Duration,
        /// Messages acknowledged over the last second or so, a second.
        rate: f64,
    },
    /// Reading everything back.
    Checking,
}

/// Measures. Ctrl-C ends the measurement early. Needs a `LocalSet`.
///
/// # Errors
/// The cluster can't be started or reached, or a connection fails.
pub(crate) async fn run(
    settings: Settings,
    shutdown: CancellationToken,
    mut progress: impl FnMut(Progress),
) -> Result<Report, Error> {
    progress(Progress::Starting);
    let (cluster, heads) = match &settings.target {
        Target::Running(heads) => (None, heads.clone()),
        Target::Own { program, dir, heads, nodes, replicas, sync } => {
            prepare(dir, settings.calm_within).await?;
            let own = cluster::Settings {
                program: program.clone(),
                dir: dir.clone(),
                heads: *heads,
                nodes: *nodes,
                replicas: *replicas,
                sync: sync.clone(),
                clients_max: settings.clients,
            };
            let cluster = Cluster::start(&own).await?;
            let heads = cluster.heads.clone();
            (Some(cluster), heads)
        }
    };
    let result = measure(&settings, cluster.as_ref(), heads, shutdown, progress).await;
    if let Some(cluster) = cluster {
        cluster.end().await;
    }
    result
}

async fn prepare(dir: &Path, calm_within: Duration) -> Result<(), Error> {
    let failed = |source| Error::Folder { dir: dir.to_owned(), source };
    crate::files::create_folder(dir).map_err(failed)?;
    if std::fs::read_dir(dir).map_err(failed)?.next().is_some() {
        return Err(Error::NotEmpty(dir.to_owned()));
    }
    cluster::calm(dir, calm_within).await.map_err(failed)
}

async fn measure(
    settings: &Settings,
    cluster: Option<&Cluster>,
    heads: Vec<String>,
    shutdown: CancellationToken,
    mut progress: impl FnMut(Progress),
) -> Result<Report, Error> {
    let run: u32 = rand::random();
    let since = SystemTime::now();
    let Access { token, net } = settings.access.clone();
    let from = reader::Config { token, net, ..heads.clone().into() };
    let before_all = reported(&from).await?;
    let load = load::Settings {
        access: settings.access.clone(),
        heads,
        clients: settings.clients,
        in_flight: settings.in_flight,
        size: settings.size,
        dialect: settings.dialect,
        rate: settings.rate,
        run,
    };
    let mut load = Ready::open(load).await?.start();
    let counts = std::rc::Rc::clone(&load.counts);
    let begin = Instant::now();
    watch(&mut load, begin, begin + settings.warm_up, false, &shutdown, &mut progress).await?;
    let before = Sample::take(cluster, &load);
    counts.latency.borrow_mut().open(true);
    watch(&mut load, begin, before.at + settings.run_for, true, &shutdown, &mut progress).await?;
    counts.latency.borrow_mut().open(false);
    let after = Sample::take(cluster, &load);
    load.finish(Instant::now() + limits::BENCH_DRAIN_TIME_MAX).await?;
    progress(Progress::Checking);
    // Nothing has to be there if nothing was acknowledged.
    let check = if settings.check && counts.acked.get() > 0 {
        check(&counts, from.clone(), run, since).await
    } else {
        Check::Skipped
    };
    let synced = synced(&from, before_all, counts.acked.get()).await?;
    let mut report = compare(&before, &after, settings.size);
    report.messages_per_sync = (synced > 0).then(|| counts.acked.get() as f64 / synced as f64);
    report.syncs_per_s = report.messages_per_sync.map(|messages| report.messages_per_s / messages);
    let latency = counts.latency.borrow();
    Ok(Report {
        latency_us: latency.summary(),
        histogram: latency.percentiles(),
        sent: counts.sent.get(),
        acknowledged: counts.acked.get(),
        refused: counts.refused.get(),
        refusal: counts.refusal.borrow().clone(),
        check,
        ..report
    })
}

/// Lets the load run until then, or until the end is asked for.
async fn watch(
    load: &mut Load,
    begin: Instant,
    until: Instant,
    counts: bool,
    shutdown: &CancellationToken,
    progress: &mut impl FnMut(Progress),
) -> Result<(), Error> {
    let (mut at, mut acked) = (Instant::now(), load.counts.acked.get());
    while at < until && !shutdown.is_cancelled() {
        tokio::select! {
            biased;
            error = load.failed() => return Err(error.into()),
            () = shutdown.cancelled() => {}
            () = sleep_until(until.min(at + limits::BENCH_PROGRESS_EVERY)) => {}
        }
        let now = load.counts.acked.get();
        let rate = (now - acked) as f64 / at.elapsed().as_secs_f64().max(f64::EPSILON);
        (at, acked) = (Instant::now(), now);
        progress(Progress::Running { counts, elapsed: begin.elapsed(), rate });
    }
    Ok(())
}

/// Records and syncs of all data nodes, by their last reports.
async fn reported(from: &reader::Config) -> Result<(u64, u64), Error> {
    let Some(head) = from.heads.first() else { return Ok((0, 0)) };
    let report = from.asker().status(head).await.map_err(Error::Head)?;
    let sum = |of: fn(&NodeStatus) -> u64| report.nodes.iter().map(of).sum();
    Ok((sum(|node| node.records), sum(|node| node.syncs)))
}

/// Syncs since then, once the nodes have reported as many records: they do so every second.
async fn synced(from: &reader::Config, before: (u64, u64), messages: u64) -> Result<u64, Error> {
    let deadline = Instant::now() + limits::BENCH_REPORT_TIME_MAX;
    loop {
        let (records, syncs) = reported(from).await?;
        if records.saturating_sub(before.0) >= messages || Instant::now() >= deadline {
            return Ok(syncs.saturating_sub(before.1));
        }
        sleep(limits::BENCH_POLL_EVERY).await;
    }
}

async fn check(counts: &load::Counts, from: reader::Config, run: u32, since: SystemTime) -> Check {
    let stored = match stored::read(from, run, since).await {
        Ok(stored) => stored,
        Err(error) => return Check::Bad(read_back(&error)),
    };
    judge(counts.sent.get(), Stored { messages: counts.acked.get(), digest: counts.digest.get() }, stored)
}

/// Whether what was read is what was acknowledged.
fn judge(sent: u64, acked: Stored, stored: Stored) -> Check {
    // What has no answer, or was refused, may be there all the same.
    let may_be_more = sent > acked.messages && (acked.messages..=sent).contains(&stored.messages);
    if stored == acked || may_be_more {
        return Check::Good;
    }
    let others = if stored.messages == acked.messages { ", but they are others" } else { "" };
    Check::Bad(format!(
        "{} messages were acknowledged and {} can be read{others}; see what acopio verify says of the data folders",
        acked.messages, stored.messages
    ))
}

fn read_back(error: &ReadError) -> String {
    format!("what was acknowledged cannot be read back: {error}")
}

/// What there is at one moment.
struct Sample {
    at: Instant,
    acked: u64,
    log_bytes: Option<u64>,
    usage: Vec<(Role, Usage)>,
}

impl Sample {
    fn take(cluster: Option<&Cluster>, load: &Load) -> Self {
        let own = usage::of(std::process::id()).map(|usage| (Role::Load, usage));
        Self {
            at: Instant::now(),
            acked: load.counts.acked.get(),
            log_bytes: cluster.map(Cluster::log_bytes),
            usage: own.into_iter().chain(cluster.into_iter().flat_map(Cluster::usage)).collect(),
        }
    }
}

/// What happened between two moments.
fn compare(before: &Sample, after: &Sample, size: usize) -> Report {
    let seconds = (after.at - before.at).as_secs_f64().max(f64::EPSILON);
    let messages = after.acked - before.acked;
    let per_second = |amount: u64| amount as f64 / seconds;
    let log_bytes = before.log_bytes.zip(after.log_bytes).map(|(before, after)| after.saturating_sub(before));
    let cost = before.usage.iter().zip(&after.usage).map(|((role, before), (_, after))| {
        let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
        Cost {
            role: *role,
            cores: cpu / seconds,
            cpu_us_per_message: cpu * 1e6 / messages.max(1) as f64,
            peak_mib: after.peak as f64 / f64::from(1 << 20),
        }
    });
    Report {
        seconds,
        messages,
        messages_per_s: per_second(messages),
        payload_mb_per_s: per_second(messages) * size as f64 / 1e6,
        log_mb_per_s: log_bytes.map(|bytes| per_second(bytes) / 1e6),
        cost: cost.collect(),
        latency_us: Summary::default(),
        messages_per_sync: None,
        syncs_per_s: None,
        sent: 0,
        acknowledged: 0,
        refused: 0,
        refusal: None,
        check: Check::Skipped,
        histogram: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: Instant, acked: u64, log_bytes: u64, cpu: u64) -> Sample {
        let usage = Usage { cpu: Duration::from_millis(cpu), peak: 3 << 20 };
        Sample { at, acked, log_bytes: Some(log_bytes), usage: vec![(Role::Head, usage)] }
    }

    #[test]
    fn what_is_read_has_to_be_what_was_acknowledged() {
        let stored = |messages, digest| Stored { messages, digest };
        assert_eq!(judge(10, stored(10, 7), stored(10, 7)), Check::Good);
        for (read, wanted) in
            [(stored(9, 7), " 9 can be read;"), (stored(10, 8), "but they are others"), (stored(11, 7), "11")]
        {
            let Check::Bad(cause) = judge(10, stored(10, 7), read) else { panic!("{read:?}") };
            assert!(cause.contains(wanted), "{cause}");
        }
        assert_eq!(judge(12, stored(10, 7), stored(11, 9)), Check::Good, "one without an answer was kept");
        assert!(matches!(judge(12, stored(10, 7), stored(9, 9)), Check::Bad(_)));
    }

    #[test]
    fn rates_are_of_the_time_between() {
        let start = Instant::now();
        let (before, after) =
            (sample(start, 100, 1_000, 50), sample(start + Duration::from_secs(2), 2100, 301_000, 1050));
        let report = compare(&before, &after, 100);
        assert_eq!((report.messages, report.messages_per_s, report.payload_mb_per_s), (2000, 1000.0, 0.1));
        assert_eq!(report.log_mb_per_s, Some(0.15));
        let wanted = Cost { role: Role::Head, cores: 0.5, cpu_us_per_message: 500.0, peak_mib: 3.0 };
        assert_eq!(report.cost, [wanted]);
    }
}
