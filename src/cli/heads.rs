//! The heads that a command talks to: one flag, the same for every command.

use crate::limits;
use anyhow::Result;
use clap::Args;

use super::values;

/// Where a head listens unless it is told otherwise, as seen from its own machine.
pub const DEFAULT: &str = "127.0.0.1:5000";

/// `--head`.
#[derive(Debug, Args)]
pub struct Heads {
    /// Heads of the cluster; several with commas, or the flag several times
    #[arg(long, env = "ACOPIO_HEAD", value_name = "HOST:PORT", value_delimiter = ',', default_value = DEFAULT,
        value_parser = values::address)]
    pub head: Vec<String>,
}

impl Heads {
    /// The list, if it is not longer than a node or client dials.
    pub fn checked(self) -> Result<Vec<String>> {
        check(&self.head)?;
        Ok(self.head)
    }
}

/// Refuses more heads than a node or client dials, and says so.
pub fn check(heads: &[String]) -> Result<()> {
    if heads.len() > limits::HEADS_MAX {
        anyhow::bail!("{} heads are too many; name {} or fewer", heads.len(), limits::HEADS_MAX);
    }
    Ok(())
}
