//! The heads that a command talks to: one flag, the same for every command. Heads that announce themselves over
//! ZooKeeper are looked up, and followed by who talks to them for long.

use crate::limits;
use crate::net;
use anyhow::Result;
use clap::Args;
use tokio_util::sync::CancellationToken;

#[cfg(feature = "coord")]
use super::announced;
use super::values;

/// Where a head listens unless it is told otherwise, as seen from its own machine.
pub(crate) const DEFAULT: &str = "127.0.0.1:5000";

/// What a place begins with where heads announce themselves.
pub(crate) const ANNOUNCED: &str = "zk://";

/// `--head`.
#[derive(Debug, Args)]
pub(crate) struct Heads {
    /// Heads of the cluster; several with commas, or the flag several times. Those that announce themselves over
    /// ZooKeeper: zk://HOST:PORT;HOST:PORT/PATH
    #[arg(long, env = "ACOPIO_HEAD", value_name = "HOST:PORT", value_delimiter = ',', default_value = DEFAULT,
        value_parser = head)]
    pub(crate) head: Vec<String>,
}

impl Heads {
    /// The list as it is now, if it is not longer than a node or client dials.
    pub(crate) fn checked(&self) -> Result<Vec<String>> {
        resolve(self.head.clone())
    }

    /// The list, kept up to date where heads announce themselves, for a role: waits for the first one there as long as it
    /// takes; none if the end was asked for first.
    pub(crate) async fn followed(&self, shutdown: &CancellationToken) -> Result<Option<net::Heads>> {
        check(&self.head)?;
        #[cfg(feature = "coord")]
        if self.are_announced() {
            return shutdown.run_until_cancelled(announced::follow(&self.head)?).await.transpose();
        }
        Ok((!shutdown.is_cancelled()).then(|| self.head.clone().into()))
    }

    #[cfg(feature = "coord")]
    fn are_announced(&self) -> bool {
        self.head.iter().any(|word| word.starts_with(ANNOUNCED))
    }
}

/// One of `--head`: an address, or where heads announce themselves.
pub(crate) fn head(text: &str) -> Result<String, String> {
    let Some(servers) = text.strip_prefix(ANNOUNCED) else { return values::address(text) };
    #[cfg(feature = "coord")]
    return announced::servers(servers).map(|_| text.to_owned()).map_err(|error| error.to_string());
    #[cfg(not(feature = "coord"))]
    Err(format!("{servers}: this acopio was built without the feature coord; name heads by HOST:PORT"))
}

/// The addresses of these heads, those that announce themselves as of now.
pub(crate) fn resolve(heads: Vec<String>) -> Result<Vec<String>> {
    check(&heads)?;
    #[cfg(feature = "coord")]
    let heads = announced::now(heads)?;
    Ok(heads)
}

/// Refuses more heads than a node or client dials, and says so.
fn check(heads: &[String]) -> Result<()> {
    if heads.len() > limits::HEADS_MAX {
        anyhow::bail!("{} heads are too many; name {} or fewer", heads.len(), limits::HEADS_MAX);
    }
    Ok(())
}
