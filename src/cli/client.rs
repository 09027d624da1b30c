//! `acopio client`: flags of the client that sends random numbers.

use std::path::PathBuf;
use std::time::Duration;

use crate::wire::source::SourceName;
use crate::{client, limits};
use anyhow::Result;
use clap::Args;
use clap::builder::BoolishValueParser;

use super::heads::Heads;
use super::logging::{self, CLIENT, LogFile, Takes};
use super::{Global, Outcome, runtime, values};

const AFTER_HELP: &str = "\
Examples:
  acopio client --head 127.0.0.1:5000
      one number every 3 s, until stopped
  acopio client --head 127.0.0.1:5000 --every 10ms --count 1000

The answers are in client.log in the folder of the logs, as `Servidor recibio:
<answer>`.";

/// A client that sends `numero random: N`, N from 0 to 100, again and again
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Client {
    #[command(flatten)]
    pub(super) heads: Heads,
    /// The name of the source whose messages these are: 1 to 32 of A-Za-z0-9._-, and / inside for groups
    #[arg(long = "as", env = "ACOPIO_AS", value_name = "NAME", value_parser = values::source)]
    name: Option<SourceName>,
    /// Time between two messages
    #[arg(long, env = "ACOPIO_EVERY", value_name = "TIME", default_value = "3s", value_parser = values::duration)]
    every: Duration,
    /// Stop after this many messages [default: go on until stopped]
    #[arg(long, env = "ACOPIO_CLIENT_COUNT", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Time to go on trying, while no head keeps anything, or forever; then a number is passed over
    #[arg(long, env = "ACOPIO_RETRY_FOR", value_name = "TIME", default_value = "30s", value_parser = values::or_forever)]
    retry_for: Duration,
    /// Folder of the logs: client.log
    #[arg(long, env = "ACOPIO_LOGS", value_name = "DIR", default_value = "logs/client")]
    logs: PathBuf,
    /// Stop in order when standard input ends
    #[arg(long, hide = true, env = "ACOPIO_UNTIL_STDIN_CLOSES", value_parser = BoolishValueParser::new())]
    until_stdin_closes: bool,
}

impl Client {
    /// Sends until it is told to stop, or all is sent.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        logging::start(
            global,
            &[LogFile { dir: &self.logs, name: "client", takes: Takes::Only(CLIENT), beside_data: false }],
        )?;
        let ends_with = runtime::EndsWith::service(self.until_stdin_closes);
        runtime::run_role(limits::STOP_TIME_MAX, ends_with, async |shutdown| {
            let Some(heads) = self.heads.followed(&shutdown).await? else { return Ok(()) };
            let Self { name, every, count, retry_for, .. } = self;
            let config =
                client::numbers::Config { heads: heads.now().to_vec(), every, count, retry_for, seed: rand::random() };
            let client = client::Config { name, ..client::Config::following(heads) };
            Ok(client::numbers::run_as(client, config, shutdown).await?)
        })
        .map(runtime::done)
    }
}
