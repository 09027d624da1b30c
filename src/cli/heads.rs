//! The heads that a command talks to: one flag, the same for every command. Heads that announce themselves over
//! ZooKeeper are looked up, and followed by who talks to them for long.

use std::path::{Path, PathBuf};

use crate::client::Tls;
use crate::files::{self, Unread};
use crate::net::Net;
use crate::wire::secret::Secret;
use crate::{limits, net};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use clap::builder::BoolishValueParser;
use tokio_util::sync::CancellationToken;

#[cfg(feature = "coord")]
use super::announced;
use super::values;

/// Where a head listens unless it is told otherwise, as seen from its own machine.
pub(crate) const DEFAULT: &str = "127.0.0.1:5000";

/// What a place begins with where heads announce themselves.
pub(crate) const ANNOUNCED: &str = "zk://";

/// `--head` and how heads are reached.
#[derive(Debug, Args)]
pub(crate) struct Heads {
    #[command(flatten)]
    pub(crate) list: HeadList,
    #[command(flatten)]
    pub(crate) access: Access,
}

/// What clients say to heads that ask for a token, and how all are dialled.
#[derive(Debug, Default, Args)]
pub(crate) struct Access {
    /// File with the secret of a token, for heads that ask clients for one; 'acopio token new' makes it
    #[arg(long, env = "ACOPIO_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    tls: TlsArgs,
}

impl Access {
    /// What the files say.
    ///
    /// # Errors
    /// One can't be read, is open to everybody, or has not what it is to have.
    pub(crate) fn read(&self) -> Result<net::Access> {
        let token = self.token_file.as_deref().map(secret).transpose()?;
        Ok(net::Access { token, net: self.tls.net()? })
    }
}

/// `--tls`, `--ca` and `--cert`.
#[derive(Debug, Default, Args)]
pub(crate) struct TlsArgs {
    /// Dial heads over TLS, and believe the authorities of this system
    #[arg(long, env = "ACOPIO_TLS", value_parser = BoolishValueParser::new())]
    tls: bool,
    /// Dial heads over TLS, and believe the authority in this file alone: the ca.crt of 'acopio cert'
    #[arg(long, env = "ACOPIO_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// File with this side's certificate, for heads that ask clients for one; its key lies beside it, with the ending .key
    #[arg(long, env = "ACOPIO_CERT", value_name = "FILE")]
    cert: Option<PathBuf>,
}

impl TlsArgs {
    /// How heads are dialled.
    ///
    /// # Errors
    /// A file can't be read, or has not what it is to have.
    pub(crate) fn net(&self) -> Result<Net> {
        if !self.tls && self.ca.is_none() {
            if self.cert.is_some() {
                bail!("--cert says nothing without TLS; add --ca FILE, or --tls");
            }
            return Ok(Net::Tcp);
        }
        Ok(Net::Tls(Tls::new(self.ca.as_deref(), self.cert.as_deref())?))
    }
}

fn secret(path: &Path) -> Result<Secret> {
    let shown = path.display();
    let text = match files::read_secret(path, limits::SECRET_FILE_BYTES_MAX) {
        Ok(text) => text,
        Err(Unread::Open(mode)) => {
            bail!("the token in {shown} is open to everybody (mode {mode:03o}); chmod 600 the file")
        }
        Err(Unread::Io(error)) => {
            return Err(error).with_context(|| {
                format!("cannot read the token in {shown}; name the file that 'acopio token new' was kept in")
            });
        }
    };
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let line = lines.find(|line| !line.is_empty() && !line.starts_with(b"#")).unwrap_or_default();
    Secret::from_bytes(line).with_context(|| format!("{shown} has no token"))
}

impl Heads {
    /// The list as it is now, if it is not longer than a client dials.
    pub(crate) fn checked(&self) -> Result<Vec<String>> {
        self.list.checked()
    }

    /// As [`HeadList::followed`], and how they are reached.
    pub(crate) async fn followed(&self, shutdown: &CancellationToken) -> Result<Option<net::Heads>> {
        let access = self.access.read()?;
        Ok(self.list.followed(shutdown).await?.map(|heads| heads.with_access(access)))
    }

    /// The list as it is now, and how they are reached.
    pub(crate) fn fixed(&self) -> Result<net::Heads> {
        let access = self.access.read()?;
        Ok(net::Heads::from(self.checked()?).with_access(access))
    }
}

/// `--head`.
#[derive(Debug, Args)]
pub(crate) struct HeadList {
    /// Heads of the cluster; several with commas, or the flag several times. Those that announce themselves over
    /// ZooKeeper: zk://HOST:PORT;HOST:PORT/PATH
    #[arg(long, env = "ACOPIO_HEAD", value_name = "HOST:PORT", value_delimiter = ',', default_value = DEFAULT,
        value_parser = head)]
    pub(crate) head: Vec<String>,
}

impl HeadList {
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
