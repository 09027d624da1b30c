//! Hands values on to RedisTimeSeries, after they are kept: what Redis has last says where to go on, the cluster's
//! records say with what. Redis may be away for as long as it likes; nobody waits for it, and nothing of this is in memory.
//!
//! A sample is the record's time in milliseconds: of several values in one millisecond the last one stays.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, cmd, pipe};
use tokio::time::sleep;

use super::dato::Value;
use crate::client::reader::{Config, Event, Query, ReadError, read};
use crate::limits;
use crate::net::Backoff;
use crate::wire::id::RecordId;

/// Where values are handed on to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    client: Client,
    key: String,
}

/// The URL of a Redis makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("{0}; write redis://HOST:PORT")]
pub(crate) struct BadUrl(String);

impl Target {
    /// A Redis by its URL, and the key of its time series.
    ///
    /// # Errors
    /// The URL makes no sense.
    pub(crate) fn new(url: &str, key: String) -> Result<Self, BadUrl> {
        Ok(Self { client: Client::open(url).map_err(|error| BadUrl(error.to_string()))?, key })
    }

    /// Where it is, without passwords.
    fn address(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }
}

/// How it stands.
#[derive(Debug, Default)]
pub(crate) struct State(Mutex<Option<String>>);

impl State {
    /// Why nothing is handed on, if so.
    #[must_use]
    pub(crate) fn away(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says so if it is news.
    fn set(&self, away: Option<String>, target: &Target) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *state == away {
            return;
        }
        let address = target.address();
        match &away {
            Some(cause) => tracing::warn!("redis {address}: {cause}; values wait in the cluster until it is back"),
            None => tracing::info!("redis {address}: values are handed on as {}", target.key),
        }
        *state = away;
    }
}

/// Why it stops for now.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("{0}")]
    Redis(#[from] RedisError),
    #[error("{0}")]
    Read(#[from] ReadError),
}

/// Hands values on, for ever.
pub(crate) async fn hand_on(target: &Target, state: &State, config: Config) {
    let mut rng = SmallRng::seed_from_u64(config.seed);
    let mut backoff = Backoff::default();
    state.set(Some("it is not asked yet".to_owned()), target);
    loop {
        if let Err(stop) = round(target, state, &config, &mut backoff).await {
            state.set(Some(in_words(&stop)), target);
        }
        sleep(backoff.next(&mut rng)).await;
    }
}

/// Catches up from what Redis has last and goes on, until one of the two is away.
async fn round(target: &Target, state: &State, config: &Config, backoff: &mut Backoff) -> Result<(), Stop> {
    let settings = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(limits::WEB_REDIS_TIME_MAX))
        .set_response_timeout(Some(limits::WEB_REDIS_TIME_MAX));
    let mut redis = target.client.get_multiplexed_async_connection_with_config(&settings).await?;
    let from = last(&mut redis, &target.key).await?;
    state.set(None, target);
    let mut reader = read(config.clone(), Query { from, follow: true, ..Query::default() });
    let mut batch = Vec::new();
    loop {
        // What is gathered waits for more only while there is more at once.
        let idle = if batch.is_empty() { limits::WEB_REDIS_PING_EVERY } else { Duration::ZERO };
        let event = tokio::select! {
            biased;
            event = reader.next() => event,
            () = sleep(idle) => {
                add(&mut redis, &target.key, &mut batch).await?;
                backoff.reset();
                continue;
            }
        };
        match event {
            Some(Ok(Event::Message(message))) => {
                batch.extend(Value::of(&message));
                if batch.len() >= limits::WEB_REDIS_BATCH_MAX {
                    add(&mut redis, &target.key, &mut batch).await?;
                }
            }
            Some(Ok(_)) => {}
            Some(Err(error @ ReadError::Line { .. })) => tracing::warn!("{error}"),
            Some(Err(error)) => return Err(error.into()),
            None => return Ok(()),
        }
    }
}

/// Where to go on: at the time of the last sample, whose millisecond may have had more of them.
async fn last(redis: &mut MultiplexedConnection, key: &str) -> Result<RecordId, RedisError> {
    let sample: Result<Vec<redis::Value>, RedisError> = cmd("TS.GET").arg(key).query_async(redis).await;
    let ms: u64 = match sample {
        Ok(sample) => match sample.into_iter().next() {
            Some(time) => redis::from_redis_value(time)?,
            None => 0,
        },
        Err(error) if error.to_string().contains("key does not exist") => 0,
        Err(error) => return Err(error),
    };
    Ok(RecordId { time_ns: ms.saturating_mul(1_000_000), incarnation: 0 }.min(RecordId::MAX))
}

/// Adds the values, or asks whether Redis is there if there are none.
async fn add(redis: &mut MultiplexedConnection, key: &str, batch: &mut Vec<Value>) -> Result<(), RedisError> {
    let mut commands = pipe();
    for value in batch.drain(..) {
        // What is no number is listed, but no sample.
        let Ok(dato) = value.dato else { continue };
        let add = commands.cmd("TS.ADD").arg(key).arg(value.time_ms()).arg(dato.number());
        add.arg("ON_DUPLICATE").arg("LAST").ignore();
    }
    if commands.is_empty() {
        return cmd("PING").exec_async(redis).await;
    }
    commands.exec_async(redis).await
}

/// What went wrong, with what to do about it.
fn in_words(stop: &Stop) -> String {
    let words = stop.to_string();
    if words.to_lowercase().contains("unknown command") {
        return format!("{words}: it has no RedisTimeSeries; load that module, or run Redis Stack");
    }
    words
}
