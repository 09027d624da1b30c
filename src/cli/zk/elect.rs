//! `acopio zk elect`: a command that one of many runs, and the next one when that one is gone.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use clap::builder::BoolishValueParser;
use tokio::time::{Instant, sleep_until};

use super::super::runtime::Ends;
use super::super::{Outcome, runtime};
use super::job::Job;
use super::{INTERRUPTED, process_name, waits};
use crate::coord::{Config, Election, Held, Session, ZnodePath};
use crate::limits;

const AFTER_HELP: &str = "\
Examples:
  acopio zk elect /turno --id a -- ./leader.sh
  acopio zk elect /turno --id b --once -- ./leader.sh

The command runs while this candidate leads, and again each time. It gets
SIGTERM at the first doubt: when no ZooKeeper answers, not only when the
session is over. When it ends by itself, the candidate resigns and stands
again; with --once it ends. The command finds the term's number, which only
grows, in ACOPIO_FENCE.

Exit codes: with --once the command's own, 128 and the signal that ended it;
0 when stopped while it led, 130 while it waited; 1 failed";

/// Leader election: run a command while leading, again each time
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Elect {
    /// The election's znode
    path: ZnodePath,
    /// What others see of this one [default: host-pid]
    #[arg(long, env = "ACOPIO_ZK_ID", value_name = "TEXT")]
    id: Option<String>,
    /// End when the command has ended by itself
    #[arg(long, env = "ACOPIO_ZK_ONCE", value_parser = BoolishValueParser::new())]
    once: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// How a time of leading ended.
enum End {
    /// The command ended by itself.
    Done(u8),
    /// Another may lead.
    Lost,
    /// This process is to end.
    Stopped,
}

impl Elect {
    pub(crate) fn run(self, config: Config) -> Result<Outcome> {
        let patience = config.timeout / limits::ZK_LOST_STOP_PART;
        runtime::run_with_command(limits::STOP_TIME_MAX, runtime::EndsWith::Terminal, async |ends| {
            let session = Session::open(config).await?;
            let outcome = self.stand(&session, patience, &ends).await;
            session.close().await;
            outcome
        })
    }

    async fn stand(&self, session: &Session, patience: Duration, ends: &Ends) -> Result<Outcome> {
        let id = self.id.clone().unwrap_or_else(process_name);
        let election = Election::new(session, self.path.clone(), id.clone());
        loop {
            let next = Instant::now() + limits::ZK_LEAD_EVERY;
            let held = tokio::select! {
                biased;
                () = ends.shutdown.cancelled() => return Ok(INTERRUPTED),
                held = election.lead_telling(waits) => held?,
            };
            let end = self.lead(&held, &id, patience, ends).await;
            // Given back in the background: without a server it would take for ever.
            drop(held);
            match end? {
                End::Done(code) if self.once => return Ok(Outcome::Command(code)),
                End::Stopped => return Ok(Outcome::Done),
                End::Done(code) => tracing::info!("the command ended with {code}; {id} stands again"),
                End::Lost => {}
            }
            tokio::select! {
                biased;
                () = ends.shutdown.cancelled() => return Ok(INTERRUPTED),
                () = sleep_until(next) => {}
            }
        }
    }

    /// Leads until another may, with the command started anew after each doubt that passes.
    async fn lead(&self, held: &Held, id: &str, patience: Duration, ends: &Ends) -> Result<End> {
        loop {
            tracing::info!("{id} leads, term {}", held.fence());
            let mut job = Job::start(&self.command, held.fence())?;
            tokio::select! {
                biased;
                () = ends.shutdown.cancelled() => {
                    job.end(limits::ZK_COMMAND_STOP_TIME_MAX, &ends.forced).await?;
                    return Ok(End::Stopped);
                }
                () = held.doubted() => {
                    tracing::warn!("{id} may not lead any more: the command is ended");
                    job.end(patience, &ends.forced).await?;
                }
                code = job.wait() => return code.map(End::Done),
            }
            let resumed = tokio::select! {
                biased;
                () = ends.shutdown.cancelled() => return Ok(End::Stopped),
                resumed = held.resumed() => resumed?,
            };
            if !resumed {
                return Ok(End::Lost);
            }
        }
    }
}
