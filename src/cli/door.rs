//! `--http`: where a head or a data node is watched, and by whom.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::net::TcpListener;

use super::values;
use crate::metrics::door;
use crate::tokens::http::{HttpDoor, HttpRules};

/// `--http`.
#[derive(Debug, Args)]
pub(crate) struct Door {
    /// Serve /metrics, /healthz and /readyz at this address over HTTP; port 0 takes a free one
    #[arg(long, env = "ACOPIO_HTTP", value_name = "HOST:PORT", value_parser = values::listen)]
    http: Option<String>,
    /// Show /metrics and /readyz to other machines only if they have a token of this file with the role read. Secrets are taken
    /// from this machine alone, as from a proxy with TLS on it; lines with from= let in the others. A head that asks clients for
    /// tokens takes its --tokens
    #[arg(long, env = "ACOPIO_HTTP_TOKENS", value_name = "FILE", requires = "http")]
    http_tokens: Option<PathBuf>,
}

impl Door {
    /// Opens it, if there is to be one. It lets in who has a token of its own file, else of the other one.
    ///
    /// # Errors
    /// The address can't be listened on, or the tokens can't be read.
    pub(crate) async fn open(&self, others: Option<&Path>) -> Result<Option<door::Door>> {
        let Some(listen) = &self.http else { return Ok(None) };
        let tokens = self.http_tokens.clone().or_else(|| others.map(Path::to_owned));
        let rules = HttpRules { open: tokens.is_none(), tokens, ..HttpRules::default() };
        let admits = Arc::new(HttpDoor::new(rules)?);
        let listener = TcpListener::bind(listen).await;
        let listener = listener.map_err(|error| values::cannot_listen(listen, "--http", &error))?;
        let address = listener.local_addr().context("cannot tell the address of --http; start it again")?;
        tracing::info!("metrics at http://{address}/metrics");
        Ok(Some(door::Door { listener: Arc::new(listener), admits }))
    }
}
