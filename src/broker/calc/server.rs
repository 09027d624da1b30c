//! The calculation server's I/O: what comes goes to the [`desk`](super::desk), and what that says is done.

use std::future::pending;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::desk::{Act, Desk};
use super::{Brokers, Line, PAIR, REQUESTS, SQUARE_RESULTS, say};
use crate::broker::zmq::Error;

/// Answers requests until it is told to stop; waits for squares as long as `wait`.
///
/// # Errors
/// A broker's address can't be used.
pub(crate) async fn run(brokers: &Brokers, wait: Duration, shutdown: &CancellationToken) -> Result<(), Error> {
    let topics = REQUESTS.iter().chain(&SQUARE_RESULTS).chain([&PAIR]).map(|topic| topic.as_bytes());
    let line = Line::open(brokers, &topics.collect::<Vec<_>>()).await?;
    let mut desk = Desk::new(wait);
    say("Calculation Server esperando pareja de catetos...");
    loop {
        let due = desk.next();
        let acts = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            message = line.subscriber.recv() => {
                let message = message?;
                desk.message(message.topic(), message.frames().skip(1), Instant::now())
            }
            () = at(due) => desk.tick(Instant::now()),
        };
        for act in acts {
            match act {
                Act::Say(text) => say(&text),
                Act::Warn(text) => tracing::warn!("{text}"),
                Act::Publish { topic, value } => line.publish(&topic, [value]).await?,
            }
        }
    }
    line.close().await;
    Ok(())
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}
