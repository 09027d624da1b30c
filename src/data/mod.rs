//! A data node: registers with the heads, keeps what they send in `data.txt`, answers when it is synced.
//!
//! This page is the contents: [`run`] opens the folder and starts the sessions, `session` talks to one head, `commit`
//! groups, `log` appends and seals, `opening` and `recover` mend after a crash, `record` is one line, `folder` is the
//! lock and the identity, `storage` is the disk. A data node decides nothing about placement: heads do.

mod commit;
mod config;
pub mod folder;
pub mod log;
pub mod opening;
pub mod record;
pub mod recover;
pub mod segments;
mod session;
pub mod storage;

#[cfg(any(test, feature = "simulation"))]
pub mod simulated;

#[cfg(test)]
mod model_tests;

use std::path::Path;
use std::rc::Rc;

pub use config::Config;

use tokio::task::JoinSet;

use crate::shutdown::{self, Shutdown};
use commit::Commit;
use folder::{Folder, FolderError};
use log::{Log, LogError, Settings};
use opening::{OpenError, OpenReport};
use session::Identity;

/// Why a data node could not run, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
    /// A write or a sync failed: nothing is acknowledged after that.
    #[error("dataNode {name} leaves the cluster: {cause}")]
    Log {
        /// The node.
        name: String,
        /// Cause and remedy.
        cause: LogError,
    },
}

/// The identity of the folder at `dir`, made if it has none yet.
///
/// # Errors
/// The folder can't be used.
pub fn node_id(dir: &Path, name: &str, seed: u64) -> Result<u64, FolderError> {
    Ok(Folder::open(dir, name, identity_from(seed))?.node_id())
}

/// Runs a data node until it is asked to stop: everything it was sent is then settled and synced. Call it inside a
/// [`LocalSet`](tokio::task::LocalSet).
///
/// # Errors
/// The folder or the log can't be opened, or the log is poisoned.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), Error> {
    let folder = Folder::open(&config.dir, &config.name, identity_from(config.seed))?;
    let settings = Settings { segment_bytes: config.segment_bytes, sync: config.sync };
    let dir = config.dir.display().to_string();
    let (log, report) =
        Log::open(folder.disk().clone(), settings).map_err(|cause| Error::Open { dir: dir.clone(), cause })?;
    tell_opening(&dir, &report);
    let commit = Rc::new(Commit::new(commit::state_of(&log)));
    let me = Rc::new(Identity { id: folder.node_id(), config });
    let (all_gone, end) = shutdown::pair();
    let mut sessions = JoinSet::new();
    for head in me.config.heads.clone() {
        let (me, commit, shutdown) = (Rc::clone(&me), Rc::clone(&commit), shutdown.clone());
        sessions.spawn_local(async move { session::keep(&head, &me, &commit, &shutdown).await });
    }
    let gone = async {
        while let Some(ended) = sessions.join_next().await {
            // A bug in one session must not leave a node that looks alive and serves nobody.
            if let Err(error) = ended
                && let Ok(panic) = error.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            }
        }
        all_gone.stop();
    };
    let (result, ()) = tokio::join!(commit::run(&commit, log, end.stopping()), gone);
    tracing::info!("stopped with {} records", commit.state().records);
    result.map_err(|cause| Error::Log { name: me.config.name.clone(), cause })
}

/// The identity of a new folder: other random bits than the jitter's.
const fn identity_from(seed: u64) -> u64 {
    seed.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15
}

/// Says what opening the log found.
fn tell_opening(dir: &str, report: &OpenReport) {
    tracing::info!("{dir} holds {} records in {} bytes", report.records, report.bytes);
    if let Some(cut) = &report.torn {
        let kept = cut.kept.as_deref().unwrap_or("nothing: it was zeros");
        tracing::warn!(
            "{dir}: the last {} bytes of data.txt were not a whole record and are cut off, kept in {kept}",
            cut.tail.len
        );
    }
    for rot in &report.rot {
        tracing::warn!("{dir}: {} rotten lines in {}; quarantine.txt lists them", rot.lines, rot.file);
    }
    for file in &report.unwritten {
        tracing::warn!("{dir}: {file} could not be written, the disk is full");
    }
}
