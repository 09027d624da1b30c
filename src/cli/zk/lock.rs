//! `acopio zk lock`: a command that runs on one machine at a time.

use std::ffi::OsString;
use std::time::Duration;

use super::super::runtime::Ends;
use super::super::{Outcome, runtime};
use super::job::Job;
use super::{INTERRUPTED, process_name, waits};
use crate::coord::{Config, Held, Layout, Lock as Recipe, Session, ZnodePath};
use crate::limits;
use anyhow::Result;
use clap::Args;

const AFTER_HELP: &str = "\
Examples:
  acopio zk lock /LOCKS -- ./critical.sh
  acopio zk lock /LOCKS --layout L- -- ./critical.sh
      znodes as in the exercise

The command finds a number in ACOPIO_FENCE that only grows from one holder to
the next: whoever it writes to should refuse lower ones than it has seen. If
the lock is lost, because no ZooKeeper answers for half the session's timeout
or it gave the session up, the command gets SIGTERM and then SIGKILL. It is
not ended if acopio itself is killed by SIGKILL.

Exit codes: the command's own; 128 and the signal that ended it; 1 if there
was no lock for it, or the lock was lost; 130 if interrupted while waiting";

/// Mutual exclusion: run a command while a lock is held
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Lock {
    /// The lock's znode
    path: ZnodePath,
    /// What others see of this one [default: host-pid]
    #[arg(long, env = "ACOPIO_ZK_ID", value_name = "TEXT")]
    id: Option<String>,
    /// Names of the contenders' znodes: kazoo, or what they begin with
    #[arg(long, env = "ACOPIO_ZK_LAYOUT", value_name = "kazoo|PREFIX", default_value = "kazoo", value_parser = layout)]
    layout: Layout,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

fn layout(text: &str) -> Result<Layout, String> {
    if text == "kazoo" {
        return Ok(Layout::Kazoo);
    }
    if text.is_empty() || text.contains('/') {
        return Err("a prefix is one word without a slash; write kazoo, or L-".to_owned());
    }
    Ok(Layout::Prefix(text.to_owned()))
}

impl Lock {
    pub(crate) fn run(self, config: Config) -> Result<Outcome> {
        let patience = config.timeout / limits::ZK_LOST_STOP_PART;
        runtime::run_with_command(limits::STOP_TIME_MAX, runtime::EndsWith::Terminal, async |ends| {
            let session = Session::open(config).await?;
            let outcome = self.hold(&session, patience, &ends).await;
            session.close().await;
            outcome
        })
    }

    async fn hold(&self, session: &Session, patience: Duration, ends: &Ends) -> Result<Outcome> {
        let id = self.id.clone().unwrap_or_else(process_name);
        let lock = Recipe::new(session, self.path.clone(), id).with_layout(self.layout.clone());
        let held = tokio::select! {
            biased;
            () = ends.shutdown.cancelled() => return Ok(INTERRUPTED),
            held = lock.acquire_telling(waits) => held?,
        };
        tracing::info!("{} holds the lock, fence {}", held.node().name(), held.fence());
        // The session's end, which follows, gives the lock back at once.
        self.work(&held, patience, ends).await
    }

    async fn work(&self, held: &Held, patience: Duration, ends: &Ends) -> Result<Outcome> {
        let mut job = Job::start(&self.command, held.fence())?;
        tokio::select! {
            biased;
            () = ends.shutdown.cancelled() => {
                job.end(limits::ZK_COMMAND_STOP_TIME_MAX, &ends.forced).await.map(Outcome::Command)
            }
            () = held.lost() => {
                tracing::error!("the lock {} is lost: the command is ended", self.path);
                job.end(patience, &ends.forced).await?;
                Ok(Outcome::Failed)
            }
            code = job.wait() => code.map(Outcome::Command),
        }
    }
}
