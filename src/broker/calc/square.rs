//! An operation server: squares the legs of one side.

use super::legs::Whole;
use super::{Brokers, Line, SQUARE_REQUESTS, SQUARE_RESULTS, Side, say};
use crate::broker::zmq::Error;
use tokio_util::sync::CancellationToken;

/// Squares until it is told to stop.
///
/// # Errors
/// A broker's address can't be used.
pub(crate) async fn run(brokers: &Brokers, side: Side, shutdown: &CancellationToken) -> Result<(), Error> {
    let (request, result, number) = (side.of(SQUARE_REQUESTS), side.of(SQUARE_RESULTS), side.number());
    let line = Line::open(brokers, &[request.as_bytes()]).await?;
    say(&format!("Operation Server {number} listo (cateto {number})..."));
    loop {
        let message = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            message = line.subscriber.recv() => message?,
        };
        if message.topic() != request.as_bytes() {
            continue;
        }
        match Whole::leg(message.frame(1).unwrap_or_default()) {
            Ok(leg) => {
                let square = leg.squared().to_string();
                say(&format!("Cateto{number}: {leg}² = {square}"));
                line.publish(result, [square]).await?;
            }
            Err(refused) => tracing::warn!("{request}: {refused}"),
        }
    }
    line.close().await;
    Ok(())
}
