//! The original's client: a random number every few seconds.

use std::time::Duration;

use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{Client, Config as ClientConfig, Error};
use crate::limits;
use crate::wire::text::{MENSAJE_PREFIX, RECIBIDO};
use tokio_util::sync::CancellationToken;

/// Settings of the random-number client.
#[derive(Clone, Debug)]
pub struct Config {
    /// Heads, `host:port` each.
    pub heads: Vec<String>,
    /// Time between two numbers.
    pub every: Duration,
    /// How many to send; without end if none is given.
    pub count: Option<u64>,
    /// Time to go on trying to get a number stored.
    pub retry_for: Duration,
    /// Seed of the numbers.
    pub seed: u64,
}

/// Sends `numero random: N`, N uniform in 0..=100, at once and then every so often; logs the answers. A refusal is
/// logged and does not end it.
///
/// # Errors
/// The client was closed under it.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let client = ClientConfig::new(config.heads.clone());
    run_as(client, config, shutdown).await
}

/// The same with these settings of the client, and so with heads that may change.
pub(crate) async fn run_as(client: ClientConfig, config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let mut rng = SmallRng::seed_from_u64(config.seed);
    tracing::info!(target: "acopio::client", "cliente {}", client.id);
    let mut client = Client::new(ClientConfig { text: true, retry_for: config.retry_for, ..client });
    let mut ticks = interval(config.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut left, mut kept) = (config.count, 0_u64);
    while left != Some(0) {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            _ = ticks.tick() => {}
        }
        left = left.map(|left| left - 1);
        let text = format!("numero random: {}", rng.random_range(0..=100));
        tracing::info!(target: "acopio::client", "envia: {text}");
        let stored = tokio::select! {
            biased;
            stored = client.store(text.clone().into()) => stored,
            () = out_of_time(&shutdown) => {
                tracing::warn!(target: "acopio::client", "\"{text}\" has no answer yet at the end; it may be kept or not");
                break;
            }
        };
        match stored {
            Ok(ack) => {
                kept += 1;
                let ips = ack.nodes.join(",");
                tracing::info!(target: "acopio::client", "Servidor recibio: {ips} , {MENSAJE_PREFIX}{RECIBIDO}");
            }
            Err(Error::Closed) => return Err(Error::Closed),
            Err(error) => tracing::warn!(target: "acopio::client", "\"{text}\" was not kept: {error}"),
        }
    }
    tracing::info!(target: "acopio::client", "stopped with {kept} messages kept");
    Ok(())
}

/// Resolves when the time to finish after the sign to stop is over: heads may be away for longer.
async fn out_of_time(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    sleep(limits::DRAIN_TIME_MAX).await;
}
