//! `acopio copies`: how many copies a cluster keeps of each message, changed while it runs.

use crate::client::Change;
use crate::limits;
use anyhow::{Result, bail};
use clap::Args;

use super::heads::Heads;
use super::key::KeyArg;
use super::{Global, Outcome, logging, runtime};

const AFTER_HELP: &str = "\
Examples:
  acopio copies 2 --head 127.0.0.1:5000
      two copies of each message from now on, and no fewer
  acopio copies 3 2 --head h1:5000,h2:5000
      three, but messages are taken while there are two

The data nodes note it, so it holds for all heads, whatever their --replicas
and --min-copies say. Messages that are kept already are copied, too, as soon
as there are enough nodes.";

/// Changes how many copies the cluster keeps of each message
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Copies {
    /// Copies of each message, each on another data node
    #[arg(value_name = "N", value_parser = clap::value_parser!(u8).range(1..=limits::REPLICAS_MAX as i64))]
    copies: u8,
    /// Copies without which a message is refused [default: as many]
    #[arg(value_name = "LEAST", value_parser = clap::value_parser!(u8).range(1..=limits::REPLICAS_MAX as i64))]
    least: Option<u8>,
    #[command(flatten)]
    heads: Heads,
    #[command(flatten)]
    key: KeyArg,
}

impl Copies {
    /// Asks the first head that answers: the others hear it from the data nodes.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        logging::start(global, &[])?;
        let (copies, least) = (self.copies, self.least.unwrap_or(self.copies));
        if least > copies {
            bail!("{least} copies at least are more than {copies}; lower the second number");
        }
        let heads = self.heads.checked()?;
        let change = self.key.given_to(Change::copies(copies, least))?.over(&self.heads.access.read()?);
        runtime::run_short(async {
            let mut troubles = Vec::new();
            for head in &heads {
                match change.ask(head).await {
                    Ok(()) => {
                        tracing::info!("{copies} copies of each message from now on, {least} at least");
                        return Ok(Outcome::Done);
                    }
                    Err(error) => troubles.push(error.to_string()),
                }
            }
            bail!("{}", troubles.join("; "))
        })
    }
}
