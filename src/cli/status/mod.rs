//! `acopio status`: what a head knows, as a table or as JSON, once or again and again.

mod table;

use std::time::Duration;

use crate::client::Asker;
use crate::printable;
use crate::wire::status::StatusReport;
use anyhow::{Context as _, Result, bail};
use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use serde::Serialize;

pub(crate) use table::bytes;
pub(crate) use table::columns;

use super::heads::Heads;
use super::{Global, Outcome, logging, print, runtime, values};

const AFTER_HELP: &str = "\
Examples:
  acopio status
  acopio status --watch
      again every 2 seconds, until Ctrl-C
  acopio status --clients
      who is connected, how long each was silent
  acopio status --ledgers
      the runs of records that are kept on the same data nodes
  acopio status --head 10.0.0.5:5000 --format json | jq '.nodes[].name'";

/// How a report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// What a head knows: clients, data nodes, messages and rates
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Status {
    #[command(flatten)]
    heads: Heads,
    /// Tell of the clients that are connected in place of the data nodes: at most 1000, those that came first
    #[arg(long, env = "ACOPIO_STATUS_CLIENTS", value_parser = BoolishValueParser::new())]
    clients: bool,
    /// Tell of the ledgers in place of the data nodes, as many as a report holds
    #[arg(long, conflicts_with = "clients", env = "ACOPIO_STATUS_LEDGERS", value_parser = BoolishValueParser::new())]
    ledgers: bool,
    /// Ask again and again, so often, until Ctrl-C. JSON is then one report on a line
    #[arg(long, env = "ACOPIO_STATUS_WATCH", value_name = "TIME", num_args = 0..=1, require_equals = true,
        default_missing_value = "2s", value_parser = values::duration)]
    watch: Option<Duration>,
    /// How to print the report
    #[arg(long, env = "ACOPIO_FORMAT", value_name = "FORMAT", value_enum, default_value = "table")]
    format: Format,
    /// Time a head has to answer
    #[arg(long, env = "ACOPIO_TIMEOUT", value_name = "TIME", default_value = "5s", value_parser = values::duration)]
    timeout: Duration,
}

/// A report, and who gave it.
#[derive(Serialize)]
struct Answer {
    /// The head, as it was dialled.
    head: String,
    #[serde(flatten)]
    report: StatusReport,
}

impl Status {
    /// Asks and prints.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        logging::start(global, &[])?;
        let (heads, asker) = (self.heads.checked()?, Asker::over(&self.heads.access.read()?));
        runtime::run_short(async {
            match self.watch {
                None => self.show(&self.ask(&asker, &heads).await?),
                Some(every) => tokio::select! {
                    biased;
                    () = print::unread() => Ok(()),
                    shown = self.again_and_again(&asker, &heads, every) => shown,
                },
            }
        })?;
        Ok(Outcome::Done)
    }

    /// Asks one head after the other; what became of each, if none answers.
    async fn ask(&self, asker: &Asker, heads: &[String]) -> Result<Answer> {
        let mut troubles = Vec::new();
        for head in heads {
            let asked = async {
                match (self.clients, self.ledgers) {
                    (true, _) => asker.status_with_clients(head).await,
                    (_, true) => asker.status_with_ledgers(head).await,
                    _ => asker.status(head).await,
                }
            };
            troubles.push(match tokio::time::timeout(self.timeout, asked).await {
                Ok(Ok(report)) => return Ok(Answer { head: head.clone(), report }),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("head {head} did not answer within {:?}; see whether it still runs", self.timeout),
            });
        }
        bail!("{}", troubles.join("; "))
    }

    /// Heads come and go while somebody looks: only what can't be printed ends it.
    async fn again_and_again(&self, asker: &Asker, heads: &[String], every: Duration) -> Result<()> {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.ask(asker, heads).await {
                Ok(answer) => self.show(&answer)?,
                Err(error) => print::err(&error.to_string()),
            }
        }
    }

    fn show(&self, answer: &Answer) -> Result<()> {
        let text = match (self.format, self.watch) {
            (Format::Table, _) => table::table(&answer.head, &answer.report),
            (Format::Json, None) => print::json(answer)?,
            (Format::Json, Some(_)) => {
                let line = serde_json::to_string(answer).context("cannot write the report as JSON")?;
                format!("{}\n", printable::visible_json(&line))
            }
        };
        if self.watch.is_some() { print::afresh("the report", &text) } else { print::out("the report", &text) }
    }
}
