//! `acopio zk barrier`, `counter` and `duel`: things done together.

use std::str::FromStr as _;

use anyhow::Result;
use clap::{Args, Subcommand};
use tokio::time::Instant;

use super::super::runtime::{self, Signals};
use super::super::{Outcome, print};
use super::{INTERRUPTED, process_name, quick};
use crate::coord::{
    Barrier as BarrierRecipe, Config, Counter as CounterRecipe, DoubleBarrier, Number, Session, ZnodePath,
};
use crate::limits;

/// A barrier: who waits goes on when it is removed
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  acopio zk barrier create /barrier
  acopio zk barrier wait /barrier && echo go
  acopio zk barrier remove /barrier")]
pub(crate) struct Barrier {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Raise it, unless it is up
    Create {
        /// The barrier's znode
        path: ZnodePath,
    },
    /// Let all go on
    Remove {
        /// The barrier's znode
        path: ZnodePath,
    },
    /// Wait until it is down
    Wait {
        /// The barrier's znode
        path: ZnodePath,
    },
}

impl Barrier {
    pub(crate) fn run(self, config: Config) -> Result<Outcome> {
        match self.what {
            What::Create { path } => {
                quick(config, async |session| Ok(BarrierRecipe::new(session, path).create().await?))
            }
            What::Remove { path } => quick(config, async |session| {
                let words = match BarrierRecipe::new(session, path.clone()).remove().await? {
                    true => format!("{path} is removed\n"),
                    false => format!("{path} was not up\n"),
                };
                print::out("the end", &words)
            }),
            What::Wait { path } => {
                runtime::run_role(limits::STOP_TIME_MAX, runtime::EndsWith::Terminal, async |shutdown| {
                    let session = Session::open(config).await?;
                    let barrier = BarrierRecipe::new(&session, path);
                    let waited = shutdown.run_until_cancelled(barrier.wait()).await;
                    session.close().await;
                    Ok(match waited {
                        Some(passed) => passed.map(runtime::done)?,
                        None => INTERRUPTED,
                    })
                })
            }
        }
    }
}

/// A number that many change together: add to it, and show it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  acopio zk counter /counter        what it holds
  acopio zk counter /counter +1     one more, and what came out")]
pub(crate) struct Counter {
    /// The counter's znode
    path: ZnodePath,
    /// What to add: +1, -2 or +0.5
    #[arg(value_name = "+N", allow_hyphen_values = true, value_parser = amount)]
    amount: Option<Number>,
}

fn amount(text: &str) -> Result<Number, String> {
    let wanted = || "not an amount; write +1, -2 or +0.5".to_owned();
    if !text.starts_with(['+', '-']) {
        return Err(wanted());
    }
    Number::from_str(text).map_err(|_| wanted())
}

impl Counter {
    pub(crate) fn run(self, config: Config) -> Result<Outcome> {
        quick(config, async |session| {
            let counter = CounterRecipe::new(session, self.path);
            let value = match self.amount {
                Some(amount) => counter.add(amount).await?,
                None => counter.value().await?,
            };
            print::out("the number", &format!("{value}\n"))
        })
    }
}

/// A duel: begins when all players are there, ends when all have left
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  acopio zk duel /duel               in two terminals
  acopio zk duel /duel --players 3   in three

Ctrl-C leaves the game, which ends when all have left; a second one leaves at
once. The score is the seconds played. A double barrier, as kazoo's.

Exit codes: 0 after a game; 130 if interrupted before or after it; 1 failed")]
pub(crate) struct Duel {
    /// The game's znode
    path: ZnodePath,
    /// Players that a game needs
    #[arg(long, env = "ACOPIO_ZK_PLAYERS", value_name = "N", default_value_t = 2,
        value_parser = clap::value_parser!(u64).range(1..=limits::ZK_TREE_NODES_MAX as u64))]
    players: u64,
}

impl Duel {
    pub(crate) fn run(self, config: Config) -> Result<Outcome> {
        runtime::run_interruptible(async |signals| {
            let session = Session::open(config).await?;
            let outcome = self.play(&session, signals).await;
            session.close().await;
            outcome
        })
    }

    async fn play(&self, session: &Session, signals: &mut Signals) -> Result<Outcome> {
        let players = usize::try_from(self.players).unwrap_or(usize::MAX);
        let barrier = DoubleBarrier::new(session, self.path.clone(), players, process_name());
        say("Vou iniciar o jogo")?;
        let member = tokio::select! {
            biased;
            _ = signals.next() => return Ok(INTERRUPTED),
            member = barrier.enter() => member?,
        };
        say("O jogo vai começar")?;
        let begun = Instant::now();
        tokio::select! {
            biased;
            _ = signals.next() => {}
            error = member.keep() => return Err(error.into()),
        }
        let score = begun.elapsed().as_secs();
        say("Vou encerrar a minha participação no jogo")?;
        tokio::select! {
            biased;
            _ = signals.next() => return Ok(INTERRUPTED),
            left = member.leave() => left?,
        }
        say(&format!("O jogo foi encerrado.\nA sua pontuação foi {score}."))?;
        Ok(Outcome::Done)
    }
}

fn say(words: &str) -> Result<()> {
    print::out("the game", &format!("{words}\n"))
}
