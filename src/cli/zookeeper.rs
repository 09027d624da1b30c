//! Where ZooKeeper is: the flags that all who coordinate over it share.

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use super::values;
use crate::coord::{Config, Login, Servers};

/// As kazoo takes it for granted.
const DEFAULT: &str = "127.0.0.1:2181";

/// Variable of the seeds' programs; ours goes before it.
const SEEDS_VARIABLE: &str = "ZK_HOST";

/// Flags of a ZooKeeper session.
#[derive(Debug, Args)]
pub(crate) struct ZooKeeper {
    /// ZooKeeper servers, and the znode under which all is done; ZK_HOST is understood as well
    /// [default: 127.0.0.1:2181]
    #[arg(long, global = true, env = "ACOPIO_ZOOKEEPER", value_name = "HOST:PORT[,...][/CHROOT]")]
    zookeeper: Option<Servers>,
    /// Silence after which ZooKeeper gives this process up, with its locks and ephemeral znodes
    #[arg(long, global = true, env = "ACOPIO_SESSION_TIMEOUT", value_name = "TIME", default_value = "10s",
        value_parser = values::duration)]
    session_timeout: Duration,
    /// Who this is, for znodes with an ACL, such as digest:ana:secret
    #[arg(long, global = true, env = "ACOPIO_AUTH", value_name = "SCHEME:SECRET", hide_env_values = true,
        value_parser = login)]
    auth: Option<Login>,
}

impl ZooKeeper {
    /// The session, if a flag or its variable names servers: for who can do without.
    pub(crate) fn asked(&self) -> Option<Config> {
        let servers = self.zookeeper.clone()?;
        Some(Config { timeout: self.session_timeout, login: self.auth.clone(), ..Config::new(servers) })
    }

    /// The session that was asked for.
    pub(crate) fn config(&self) -> Result<Config> {
        let servers = match (&self.zookeeper, std::env::var(SEEDS_VARIABLE)) {
            (Some(servers), _) => servers.clone(),
            (None, Ok(text)) => text.parse().with_context(|| format!("the variable {SEEDS_VARIABLE}"))?,
            (None, Err(_)) => DEFAULT.parse()?,
        };
        Ok(Config { timeout: self.session_timeout, login: self.auth.clone(), ..Config::new(servers) })
    }
}

fn login(text: &str) -> Result<Login, String> {
    let (scheme, secret) = text.split_once(':').ok_or("not a login; write SCHEME:SECRET, such as digest:ana:secret")?;
    if scheme.is_empty() || secret.is_empty() {
        return Err("not a login; write SCHEME:SECRET, such as digest:ana:secret".to_owned());
    }
    Ok(Login { scheme: scheme.to_owned(), secret: secret.to_owned() })
}
