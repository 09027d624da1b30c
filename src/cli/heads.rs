//! The heads that a command talks to: one flag, the same for every command. Heads that announce themselves over
//! ZooKeeper are looked up, and followed by who talks to them for long.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::wire::secret::Secret;
use crate::{files, limits, net};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use tokio_util::sync::CancellationToken;

#[cfg(feature = "coord")]
use super::announced;
use super::values;

/// Where a head listens unless it is told otherwise, as seen from its own machine.
pub(crate) const DEFAULT: &str = "127.0.0.1:5000";

/// What a place begins with where heads announce themselves.
pub(crate) const ANNOUNCED: &str = "zk://";

/// `--head` and what clients say to heads that ask for a token.
#[derive(Debug, Args)]
pub(crate) struct Heads {
    #[command(flatten)]
    pub(crate) list: HeadList,
    #[command(flatten)]
    pub(crate) token: TokenFile,
}

/// `--token-file`.
#[derive(Debug, Default, Args)]
pub(crate) struct TokenFile {
    /// File with the secret of a token, for heads that ask clients for one; 'acopio token new' makes it
    #[arg(long, env = "ACOPIO_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl TokenFile {
    /// The secret in it.
    ///
    /// # Errors
    /// It can't be read, is open to everybody, or has no secret.
    pub(crate) fn read(&self) -> Result<Option<Secret>> {
        self.token_file.as_deref().map(secret).transpose()
    }
}

fn secret(path: &Path) -> Result<Secret> {
    let shown = path.display();
    let file = files::read(path).with_context(|| {
        format!("cannot read the token in {shown}; name the file that 'acopio token new' was kept in")
    })?;
    let mode = file.metadata().with_context(|| format!("cannot look at {shown}; look at its disk"))?.mode() & 0o777;
    if mode & files::OTHERS != 0 {
        bail!("the token in {shown} is open to everybody (mode {mode:03o}); chmod 600 the file");
    }
    let mut text = Vec::new();
    file.take(limits::SECRET_FILE_BYTES_MAX)
        .read_to_end(&mut text)
        .with_context(|| format!("cannot read the token in {shown}; look at its disk"))?;
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let line = lines.find(|line| !line.is_empty() && !line.starts_with(b"#")).unwrap_or_default();
    Secret::from_bytes(line).with_context(|| format!("{shown} has no token"))
}

impl Heads {
    /// The list as it is now, if it is not longer than a client dials.
    pub(crate) fn checked(&self) -> Result<Vec<String>> {
        self.list.checked()
    }

    /// As [`HeadList::followed`], with the token.
    pub(crate) async fn followed(&self, shutdown: &CancellationToken) -> Result<Option<net::Heads>> {
        let token = self.token.read()?;
        Ok(self.list.followed(shutdown).await?.map(|heads| heads.with_token(token)))
    }

    /// The list as it is now, with the token.
    pub(crate) fn fixed(&self) -> Result<net::Heads> {
        let token = self.token.read()?;
        Ok(net::Heads::from(self.checked()?).with_token(token))
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
