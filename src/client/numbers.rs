//! The original's client: a random number every few seconds.

use std::time::Duration;

use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{Client, Config as ClientConfig, Error};
use crate::limits;
use crate::shutdown::Shutdown;
use crate::wire::text::{MENSAJE_PREFIX, RECIBIDO};

/// Settings of the random-number client.
#[derive(Clone, Debug)]
pub struct Config {
    /// Heads, `host:port` each.
    pub heads: Vec<String>,
    /// Time between two numbers.
    pub every: Duration,
    /// How many to send; without end if none is given.
    pub count: Option<u64>,
    /// Seed of the numbers.
    pub seed: u64,
}

/// Sends `numero random: N`, N uniform in 0..=100, at once and then every so often; logs the answers. A refusal is
/// logged and does not end it.
///
/// # Errors
/// The client was closed under it.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), Error> {
    let mut rng = SmallRng::seed_from_u64(config.seed);
    let mut client = Client::new(ClientConfig { text: true, ..ClientConfig::new(config.heads) });
    let mut ticks = interval(config.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut left = config.count;
    while left != Some(0) {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.stopping() => break,
        }
        left = left.map(|left| left - 1);
        let text = format!("numero random: {}", rng.random_range(0..=100));
        let stored = tokio::select! {
            stored = client.store(text.clone().into()) => stored,
            () = async { shutdown.stopping().await; sleep(limits::DRAIN_TIME_MAX).await } => {
                tracing::warn!(target: "acopio::client", "\"{text}\" was not answered before the end");
                break;
            }
        };
        match stored {
            Ok(ack) => {
                let ips = ack.nodes.join(",");
                tracing::info!(target: "acopio::client", "Servidor recibio: {ips} , {MENSAJE_PREFIX}{RECIBIDO}");
            }
            Err(Error::Closed) => return Err(Error::Closed),
            Err(error) => tracing::warn!(target: "acopio::client", "\"{text}\" was not kept: {error}"),
        }
    }
    Ok(())
}
