//! A data node: registers with the heads, keeps what they send in `data.txt`, answers when it is synced.
//!
//! This page is the contents: [`run`] opens the folder and starts the sessions, `session` talks to one head, `commit`
//! groups, `log` appends and seals, `opening` and `recover` mend after a crash, `record` is one line, `folder` is the
//! lock and the identity, `membership` is what it is to its cluster, `storage` is the disk, `worker` the thread that
//! waits for it, `retention` says what has been kept long enough, `witness` remembers how far the log was synced, `standing` judges
//! whether files are what they were left as, `strangers` tells what others wrote into them.
//! `index`, `holdings` and `sidecar` say what is where in the files, `view` is a snapshot of that, `scan` and `window`
//! read it in the order of ids, `scans` is their thread; `answers` and `frontier` say how far that is complete, `promise` keeps what readers were told of it, `hearsay` tells
//! each head of the nodes that others have. `repair` makes copies again that lost nodes had, `mend` fetches
//! rotten lines again. A data node decides nothing about placement: heads do.

mod answers;
pub(crate) mod commit;
mod config;
pub(crate) mod folder;
mod frontier;
mod hearsay;
pub(crate) mod holdings;
pub(crate) mod index;
pub(crate) mod log;
pub(crate) mod membership;
pub(crate) mod mend;
pub(crate) mod opening;
mod promise;
pub(crate) mod recover;
pub(crate) mod repair;
pub(crate) mod retention;
pub(crate) mod scan;
pub(crate) mod scans;
pub(crate) mod segments;
mod session;
pub(crate) mod sidecar;
mod stall;
mod standing;
pub(crate) mod storage;
mod strangers;
pub(crate) mod view;
mod window;
pub(crate) mod witness;
pub(crate) mod worker;

#[cfg(any(test, feature = "simulation"))]
pub(crate) mod simulated;

#[cfg(test)]
mod model_tests;

#[cfg(test)]
mod retention_tests;

#[cfg(test)]
mod scan_tests;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

pub(crate) use crate::wire::record;
pub(crate) use config::Config;

use tokio::task::JoinSet;

use crate::wire::id::ClientId;
use answers::Answers;
use commit::Commit;
use folder::{Folder, FolderError};
use log::{Log, LogError, Settings};
use membership::Membership;
use mend::Rot;
use opening::{OpenError, OpenReport};
use promise::Promise;
use scans::Scans;
use segments::CURRENT;
use session::Identity;
use storage::Storage;
use tokio_util::sync::CancellationToken;
use view::View;
use witness::Recorder;
use worker::{Blocking, Executor};

/// Why a data node could not run, or had to stop.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Its folder can't be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Its log can't be opened.
    #[error("the log in {dir} cannot be opened: {cause}")]
    Open {
        /// The folder.
        dir: String,
        /// Cause and remedy.
        cause: OpenError,
    },
    /// The system gives no thread to read with.
    #[error("dataNode {name} cannot start its scan thread: {source}; raise the limit of threads of this user")]
    Thread {
        /// The node.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A write or a sync failed: nothing is acknowledged after that.
    #[error("dataNode {name} leaves the cluster: {cause}")]
    Log {
        /// The node.
        name: String,
        /// Cause and remedy.
        cause: LogError,
    },
}

/// The identity of the node's folder, made if it has none yet or a new one is asked for. Leave `new_id` out of what
/// [`run`] gets after that.
///
/// # Errors
/// The folder can't be used.
pub(crate) fn node_id(config: &Config) -> Result<u64, FolderError> {
    Ok(open_folder(config)?.node_id())
}

fn open_folder(config: &Config) -> Result<Folder, FolderError> {
    let open = if config.new_id { Folder::open_with_new_id } else { Folder::open };
    let folder = open(&config.dir, &config.name, identity_from(config.seed))?;
    if config.new_id {
        let id = ClientId(folder.node_id());
        tracing::warn!("{} has the new identity {id}; start it without --new-id from now on", config.dir.display());
    }
    Ok(folder)
}

/// Runs a data node until it is asked to stop: everything it was sent is then settled and synced. Call it inside a
/// [`LocalSet`](tokio::task::LocalSet).
///
/// # Errors
/// The folder or the log can't be opened, or the log is poisoned.
pub(crate) async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let folder = Rc::new(open_folder(&config)?);
    let (joined, left) = (Rc::clone(&folder), Rc::clone(&folder));
    let membership = Membership::new(folder.node_id(), folder.cluster(), move |cluster| joined.join(cluster))
        .leaving(move |cluster| left.leave(cluster));
    run_on(config, membership, folder.disk().clone(), &Executor::Thread, shutdown).await
}

/// As [`run`], on a storage that is open and locked already, under this identity.
///
/// # Errors
/// The log can't be opened, or is poisoned.
pub(crate) async fn run_on<S: Storage + Clone + 'static>(
    config: Config,
    membership: Membership,
    storage: S,
    executor: &Executor,
    shutdown: CancellationToken,
) -> Result<(), Error>
where
    S::File: 'static,
{
    let settings = Settings { segment_bytes: config.segment_bytes, sync: config.sync };
    let dir = config.dir.display().to_string();
    let (scanned, disk) = (storage.clone(), storage.clone());
    let (log, report) = Log::open(storage, settings).map_err(|cause| Error::Open { dir: dir.clone(), cause })?;
    let log = log.of(ClientId(membership.node()));
    let unusable = |what| {
        let path = config.dir.clone();
        move |source| FolderError::Disk { path, what, source }
    };
    let rot = Rc::new(mend::open(&disk).map_err(unusable("reading what is rotten"))?);
    tell_opening(&dir, &report, &rot, &log.view());
    let thread = |source| Error::Thread { name: config.name.clone(), source };
    let (witness, node) = (log.witness().clone(), ClientId(membership.node()));
    let recorder = Rc::new(Recorder::start(witness, node, disk.clone(), executor).map_err(thread)?);
    let front = Commit::new(commit::state_of(&log), log.view());
    let commit = Rc::new(front.keeping(config.retention, config.clock.clone()));
    commit.strangers.list_in(Rc::clone(&rot));
    let scans = Scans::on(executor, scanned, Rc::clone(&commit))
        .map_err(|source| Error::Thread { name: config.name.clone(), source })?;
    let scans = scans.telling(Rc::clone(&rot));
    let who = (config.name.as_str(), membership.node());
    let repair = repair::open(&disk, who, (config.repair, config.clock.clone()), &log.view())
        .map_err(unusable("reading what repair has done"))?;
    let (repair, scans) = (Rc::new(repair), Rc::new(scans));
    let judge = Rc::clone(&repair);
    commit.keeper.set_short(move |file| judge.is_short(file));
    let promise = Promise::open(disk.clone(), executor).map_err(unusable("reading what it has promised"))?;
    let answers = Rc::new(Answers::new(Rc::clone(&commit), Rc::clone(&scans), promise));
    let me = Rc::new(Identity { membership: Rc::new(membership), config, repair, scans });
    let blocking =
        Blocking::start(executor, "repair").map_err(|source| Error::Thread { name: me.config.name.clone(), source })?;
    // A request to end that the node itself can make, too: once it is drained, or if repair is lost.
    let shutdown = shutdown.child_token();
    let drained = shutdown.clone();
    let own = (Rc::clone(&commit), Rc::clone(&me.scans));
    let mending = mend::run(rot, &me, own, disk.clone(), executor)
        .map_err(|source| Error::Thread { name: me.config.name.clone(), source })?;
    let mender = tokio::task::spawn_local(mending);
    let (repairing, repaired) = (Rc::clone(&me), Rc::clone(&commit));
    let repairer = tokio::task::spawn_local(async move {
        let _lost = drained.clone().drop_guard();
        repair::sweep::run(&repairing.repair, &repaired, (disk, blocking), &drained).await;
    });
    let recording = Rc::clone(&recorder);
    let recording = tokio::task::spawn_local(async move { recording.run().await });
    let ended = CancellationToken::new();
    let mut sessions = Sessions {
        running: JoinSet::new(),
        heads: BTreeSet::new(),
        list: me.config.heads.now(),
        me: Rc::clone(&me),
        commit: Rc::clone(&commit),
        answers: Rc::clone(&answers),
        shutdown: shutdown.clone(),
    };
    sessions.dial();
    let gone = async {
        sessions.run().await;
        repairer.abort();
        mender.abort();
        ended.cancel();
    };
    let (result, ()) = tokio::join!(commit::run(&commit, log, executor, ended.cancelled()), gone);
    recording.abort();
    if result.is_ok() {
        recorder.note().await;
    }
    if me.repair.has_left()
        && let Err(error) = me.membership.leave()
    {
        tracing::warn!("node.id cannot be written: {error}; see that nobody starts this drained node again");
    }
    tracing::info!("stopped with {} records", commit.state().records);
    result.map_err(|cause| Error::Log { name: me.config.name.clone(), cause })
}

/// The sessions with the heads of the node's list.
struct Sessions {
    running: JoinSet<String>,
    heads: BTreeSet<String>,
    list: Arc<[String]>,
    me: Rc<Identity>,
    commit: Rc<Commit>,
    answers: Rc<Answers>,
    shutdown: CancellationToken,
}

impl Sessions {
    /// Dials the heads of the list that have no session.
    fn dial(&mut self) {
        let new: Vec<String> = self.list.iter().filter(|head| !self.heads.contains(*head)).cloned().collect();
        self.answers.expect(new.len());
        for head in new {
            self.heads.insert(head.clone());
            let (me, commit, answers) = (Rc::clone(&self.me), Rc::clone(&self.commit), Rc::clone(&self.answers));
            let shutdown = self.shutdown.clone();
            self.running.spawn_local(async move {
                session::keep(&head, &me, &commit, &answers, &shutdown).await;
                head
            });
        }
    }

    /// Runs until the node is asked to stop or its log is poisoned, and all sessions have ended. A head that comes into the
    /// list is dialled at once; one that leaves it is given up by its session once it is lost.
    async fn run(mut self) {
        loop {
            let lives = !self.shutdown.is_cancelled() && self.commit.poisoned().is_none();
            let follows = lives && self.me.config.heads.follows();
            tokio::select! {
                biased;
                ended = self.running.join_next(), if !self.running.is_empty() => match ended {
                    Some(Ok(head)) => drop(self.heads.remove(&head)),
                    // A bug in one session must not leave a node that looks alive and serves nobody.
                    Some(Err(error)) => if let Ok(panic) = error.try_into_panic() {
                        std::panic::resume_unwind(panic);
                    },
                    None => {}
                },
                () = self.shutdown.cancelled(), if follows => {}
                list = self.me.config.heads.other_than(&self.list), if follows => {
                    self.list = list;
                    self.dial();
                }
                else => return,
            }
        }
    }
}

/// The identity of a new folder: other random bits than the jitter's.
const fn identity_from(seed: u64) -> u64 {
    seed.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15
}

/// Says what opening the log found.
fn tell_opening(dir: &str, report: &OpenReport, known: &Rot, view: &View) {
    tracing::info!("{dir} holds {} records in {} bytes", report.records, report.bytes);
    if let Some(cut) = &report.torn {
        let kept = cut.kept.as_deref().unwrap_or("nothing: it was zeros");
        tracing::warn!(
            "{dir}: the last {} bytes of data.txt were not a whole record and are cut off, kept in {kept}",
            cut.tail.len
        );
    }
    for rot in &report.rot {
        let for_good = view.current().filter(|_| rot.file == CURRENT).and_then(|current| current.name.as_deref());
        let offsets = rot.places.iter().map(|bad| bad.place.offset);
        let open = known.open_in(for_good.unwrap_or(&rot.file), offsets) + rot.lines - rot.places.len() as u64;
        if open > 0 {
            tracing::warn!("{dir}: {open} rotten lines in {}; quarantine.txt lists them", rot.file);
        }
    }
    for shorter in &report.shorter {
        tracing::warn!("{dir}: {shorter}; restore it, or see whether other nodes have its records");
    }
    if report.end_unknown {
        tracing::warn!("{dir}: end.txt makes no sense: whether data.txt ends where it did is not known");
    }
    for file in &report.unwritten {
        tracing::warn!("{dir}: {file} could not be written, the disk is full");
    }
}
