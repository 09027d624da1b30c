//! A data node: registers with the heads, keeps what they send in `data.txt`, answers when it is synced.
//!
//! This page is the contents. [`run`] opens the folder and starts the sessions. On the disk: `folder` is the lock,
//! `storage` the disk (`synced`: how far it is synced, for exercises), `log` appends and seals (`current`: the file that is written), `opening` and `recover` mend after a crash, `start` says as whom a folder
//! starts, `node_state` and `state_lines` are what its identity has noted, `standing` judges whether files are what they
//! were left as, `strangers` tells what others wrote into them, `retention` says what has been kept long enough.
//! What is where: `index`, `ledgers` and `sidecar`, `view` is a snapshot of that, `scan`, `window` and `entries` read it, `scans`
//! is their thread. At work: `session` talks to one head, `desk` is what this identity keeps and promises, `commit` groups
//! and `writer` writes (`orders`: what passes between them), `fetching` gets what is lacking at the pace of `pace`, `feed` serves readers that follow, `rot`
//! counts again what rotted, `membership` is what the node is to its cluster, `worker` the thread that waits for a disk.
//! A data node decides nothing about placement: heads do.

pub(crate) mod commit;
mod config;
pub(crate) mod current;
mod desk;
mod entries;
mod feed;
pub(crate) mod fetching;
pub(crate) mod folder;
pub(crate) mod index;
pub(crate) mod ledgers;
pub(crate) mod log;
pub(crate) mod membership;
mod metrics;
mod node;
pub(crate) mod node_state;
pub(crate) mod opening;
mod orders;
mod pace;
pub(crate) mod query;
pub(crate) mod recover;
pub(crate) mod retention;
mod rot;
pub(crate) mod scan;
pub(crate) mod scans;
pub(crate) mod segments;
mod sender;
mod session;
pub(crate) mod sidecar;
pub(crate) mod sources;
mod standing;
pub(crate) mod start;
pub(crate) mod state_lines;
pub(crate) mod storage;
mod strangers;
pub(crate) mod synced;
mod troubles;
pub(crate) mod view;
mod window;
pub(crate) mod worker;
pub(crate) mod writer;

#[cfg(any(test, feature = "simulation"))]
pub(crate) mod simulated;

#[cfg(test)]
mod model_tests;

#[cfg(test)]
mod retention_tests;

#[cfg(test)]
mod scan_tests;

#[cfg(test)]
#[cfg(feature = "simulation")]
mod work_tests;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) use crate::wire::record;
pub(crate) use config::Config;
pub(crate) use start::boot_id;

use crate::metrics::door;
use crate::{files, limits};
use commit::Commit;
use current::LogError;
use desk::Desk;
use fetching::Fetching;
use folder::{Folder, FolderError};
use log::Settings;
use membership::Membership;
use node::Node;
use opening::{OpenError, OpenReport};
use rot::Rot;
use scans::Scans;
use start::{How, StartError, Started};
use storage::Storage;
use worker::Executor;
use writer::Writer;

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
    /// The system gives no thread.
    #[error("dataNode {name} cannot start a thread: {source}; raise the limit of threads of this user")]
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

/// Runs a data node until it is asked to stop: everything it was sent is then settled and synced. Call it inside a
/// [`LocalSet`](tokio::task::LocalSet).
///
/// # Errors
/// The folder or the log can't be opened, or the log is poisoned.
pub(crate) async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let folder = Folder::open(&config.dir, &config.name)?;
    if let Some(said) = files::open_to_everybody(&config.dir) {
        tracing::warn!("{said}");
    }
    let disk = folder.disk().clone();
    let disk = if config.notes_syncs {
        disk.noting_syncs()
    } else {
        // What was noted before does not hold for what this node writes.
        synced::forget(&config.dir);
        disk
    };
    let ended = run_on(config, disk, &Executor::Thread, shutdown).await;
    drop(folder);
    ended
}

/// As [`run`], on a storage that is open and locked already.
///
/// # Errors
/// The log can't be opened, or is poisoned.
pub(crate) async fn run_on<S: Storage + Clone + 'static>(
    config: Config,
    storage: S,
    executor: &Executor,
    shutdown: CancellationToken,
) -> Result<(), Error>
where
    S::File: 'static,
{
    let settings = Settings { segment_bytes: config.segment_bytes, sync: config.sync };
    let (new_id, random) = (config.new_id, identity_from(config.seed));
    let (disk, boot, name) = (storage.clone(), config.boot.clone(), config.name.clone());
    let thread = |source| Error::Thread { name: config.name.clone(), source };
    let open = move || start::open(&disk, How { settings, boot: &boot, new_id, random, name: &name });
    let opened = executor.aside("open", open).await.map_err(thread)?;
    let started = opened.map_err(|error| in_words(&config, error))?;
    tell_opening(&config, &started);
    let Started { log, state, kept, identity, .. } = started;
    if let Some(told) = &config.identity {
        told.set(identity.node).unwrap_or_default();
    }
    let view = log.view();
    let writer = Writer::new(log, Some(state));
    let front = Commit::new(writer.state(), view);
    let commit = Rc::new(front.keeping(config.retention, config.clock.clone()));
    let scans = Rc::new(Scans::on(executor, storage, Rc::clone(&commit)).map_err(thread)?);
    let cluster = identity.cluster.clone();
    let desk = Rc::new(Desk::new(kept, identity, Rc::clone(&commit)));
    let (joins, lets_go) = (Rc::clone(&desk), Rc::clone(&desk));
    commit.set_lets_go(move |files| lets_go.let_go(files));
    let membership = Rc::new(Membership::new(&cluster, move |name| joins.join(name)));
    let fetching = Rc::new(Fetching::new(Rc::clone(&desk), Rc::clone(&commit), config.repair));
    // A request to end that the node itself can make, too: once it is drained.
    let drained = shutdown.child_token();
    let making = Semaphore::new(limits::NODE_PAGES_MAKING_MAX);
    let rot = Rc::new(Rot::new(Rc::clone(&desk), Rc::clone(&commit), Rc::clone(&scans)));
    let drain = drained.clone();
    let me = Rc::new(Node { config, membership, desk, commit, scans, fetching, rot, making, drained: drain });
    let ended = CancellationToken::new();
    // It ends with this function.
    let mut watched = JoinSet::new();
    if let Some(http) = &me.config.http {
        let node = Rc::clone(&me);
        watched.spawn_local(door::serve(http.clone(), move || metrics::snapshot(&node)));
    }
    let fetcher = tokio::task::spawn_local(Rc::clone(&me.fetching).run(ended.clone()));
    let mut sessions = Sessions {
        running: JoinSet::new(),
        heads: BTreeSet::new(),
        list: me.config.heads.now(),
        me: Rc::clone(&me),
        shutdown: drained,
    };
    sessions.dial();
    let gone = async {
        sessions.run().await;
        fetcher.abort();
        ended.cancel();
    };
    let (result, ()) = tokio::join!(commit::run(&me.commit, writer, executor, ended.cancelled()), gone);
    watched.shutdown().await;
    tracing::info!("stopped with {} records", me.commit.state().records);
    result.map_err(|cause| Error::Log { name: me.config.name.clone(), cause })
}

/// The sessions with the heads of the node's list.
struct Sessions {
    running: JoinSet<String>,
    heads: BTreeSet<String>,
    list: Arc<[String]>,
    me: Rc<Node>,
    shutdown: CancellationToken,
}

impl Sessions {
    /// Dials the heads of the list that have no session.
    fn dial(&mut self) {
        let new: Vec<String> = self.list.iter().filter(|head| !self.heads.contains(*head)).cloned().collect();
        for head in new {
            self.heads.insert(head.clone());
            let (me, shutdown) = (Rc::clone(&self.me), self.shutdown.clone());
            self.running.spawn_local(async move {
                session::keep(&head, &me, &shutdown).await;
                head
            });
        }
    }

    /// Runs until the node is asked to stop or its log is poisoned, and all sessions have ended. A head that comes into the
    /// list is dialled at once; one that leaves it is given up by its session once it is lost.
    async fn run(mut self) {
        loop {
            let lives = !self.shutdown.is_cancelled() && self.me.commit.poisoned().is_none();
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

fn in_words(config: &Config, error: StartError) -> Error {
    let path = config.dir.clone();
    match error {
        StartError::Drained => FolderError::Drained { path }.into(),
        StartError::Version(found) => FolderError::Version { path, found }.into(),
        StartError::Disk { what, source } => FolderError::Disk { path, what, source }.into(),
        StartError::Open(cause) => Error::Open { dir: path.display().to_string(), cause },
    }
}

/// Says what opening the folder found.
fn tell_opening<S: Storage>(config: &Config, started: &Started<S>) {
    let dir = config.dir.display();
    let OpenReport { records, bytes, torn, rot, lost, unwritten, .. } = &started.report;
    tracing::info!("{dir} holds {records} records in {bytes} bytes");
    if let Some(cut) = torn {
        let kept = cut.kept.as_deref().unwrap_or("nothing: it was zeros");
        let len = cut.tail.len;
        tracing::warn!(
            "{dir}: the last {len} bytes of data.txt were not a whole record and are cut off, kept in {kept}"
        );
    }
    for rot in rot {
        let first = rot.first.place.offset;
        tracing::warn!(
            "{dir}: {} damaged lines in {}, the first at offset {first}: {}",
            rot.lines,
            rot.file,
            rot.first.reason
        );
    }
    for lost in lost {
        tracing::warn!("{dir}: {lost}; what is lacking is fetched from other nodes where they have it");
    }
    for file in unwritten {
        tracing::warn!("{dir}: {file} could not be written, the disk is full");
    }
    if let Some(why) = &started.why {
        let was = started.identity.replaces.map_or_else(String::new, |node| format!(" in place of {node}"));
        tracing::warn!(
            "{dir}: {why}: the node starts as {}{was}; it keeps what is there, and what it lost is copied from other nodes \
             where they have it",
            started.identity.node
        );
    }
}
