//! `acopio zk`: the recipes of coordination as commands for shells.

use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};

use super::zookeeper::ZooKeeper;
use super::{Global, Outcome, logging, runtime};
use crate::coord::{Config, Session, Waiting};
use crate::limits;

mod elect;
mod job;
mod lock;
mod together;
mod tree;
mod watch;
mod znode;

/// Ended by a signal while it waited.
const INTERRUPTED: Outcome = Outcome::Command(130);

const AFTER_HELP: &str = "\
Examples:
  acopio zk lock /LOCKS -- ./critical.sh          one at a time, on all machines
  acopio zk elect /turno --id a -- ./leader.sh    run by one of many, and by the
                                                  next when that one is gone
  acopio zk watch children /PAI                   a line for each change
  acopio zk barrier wait /barrier                 go on when it is removed
  acopio zk counter /counter +1                   count together
  acopio zk duel /duel --players 2                start and end together
  acopio zk tree / --follow                       see znodes come and go

The znodes are those of kazoo, the Python client: both take part in one lock.

Exit codes: 0 done; 1 failed, the reason is on standard error; 2 bad usage;
lock and elect --once: the command's own, 128 and the signal that ended it";

/// Coordinate over ZooKeeper: locks, elections, barriers, counters, watches
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Zk {
    #[command(flatten)]
    zookeeper: ZooKeeper,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Lock(lock::Lock),
    Elect(elect::Elect),
    Watch(watch::Watch),
    Barrier(together::Barrier),
    Counter(together::Counter),
    Duel(together::Duel),
    Tree(tree::Tree),
    Ls(znode::Ls),
    Get(znode::Get),
    Set(znode::Set),
    Create(znode::Create),
    Rm(znode::Rm),
}

impl Zk {
    /// Does it.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        logging::start(global, &[])?;
        let config = self.zookeeper.config()?;
        match self.command {
            Command::Lock(args) => args.run(config),
            Command::Elect(args) => args.run(config),
            Command::Watch(args) => args.run(config),
            Command::Barrier(args) => args.run(config),
            Command::Counter(args) => args.run(config),
            Command::Duel(args) => args.run(config),
            Command::Tree(args) => args.run(config),
            Command::Ls(args) => quick(config, async |session| args.run(session).await),
            Command::Get(args) => quick(config, async |session| args.run(session).await),
            Command::Set(args) => quick(config, async |session| args.run(session).await),
            Command::Create(args) => args.run(config),
            Command::Rm(args) => quick(config, async |session| args.run(session).await),
        }
    }
}

/// What ZooKeeper answers at once while it serves; a bounded time.
fn quick(config: Config, work: impl AsyncFnOnce(&Session) -> Result<()>) -> Result<Outcome> {
    runtime::run_short(async {
        let session = Session::open(config).await?;
        let result = in_time(work(&session)).await;
        session.close().await;
        result.map(runtime::done)
    })
}

async fn in_time(work: impl Future<Output = Result<()>>) -> Result<()> {
    let most: Duration = limits::ZK_ANSWER_TIME_MAX;
    tokio::time::timeout(most, work)
        .await
        .unwrap_or_else(|_| Err(anyhow!("ZooKeeper gave no answer within {most:?}; see that it serves, and try again")))
}

/// Who this is if nobody says: as kazoo's barriers call themselves.
fn process_name() -> String {
    format!("{}-{}", super::values::host_name(), std::process::id())
}

/// Says who waits for whom.
fn waits(waiting: &Waiting) {
    let Waiting { node, behind, ahead } = waiting;
    let of = if behind.id.is_empty() { String::new() } else { format!(" of {}", behind.id) };
    tracing::info!("{} waits for {}{of}; {ahead} before it", node.name(), behind.node.name());
}
