//! `--http`: where a head or a data node is watched.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::net::TcpListener;

use super::values;

/// `--http`.
#[derive(Debug, Args)]
pub(crate) struct Door {
    /// Serve /metrics, /healthz and /readyz at this address over HTTP, to whoever reaches it; port 0 takes a free one
    #[arg(long, env = "ACOPIO_HTTP", value_name = "HOST:PORT", value_parser = values::listen)]
    http: Option<String>,
}

impl Door {
    /// Opens it, if there is to be one.
    ///
    /// # Errors
    /// The address can't be listened on.
    pub(crate) async fn open(&self) -> Result<Option<Arc<TcpListener>>> {
        let Some(listen) = &self.http else { return Ok(None) };
        let listener = TcpListener::bind(listen).await;
        let listener = listener.map_err(|error| values::cannot_listen(listen, "--http", &error))?;
        let address = listener.local_addr().context("cannot tell the address of --http; start it again")?;
        tracing::info!("metrics at http://{address}/metrics");
        Ok(Some(Arc::new(listener)))
    }
}
