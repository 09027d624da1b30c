//! The client: asks for the hypotenuse of two legs, and waits for its own answer.
//!
//! It asks in one message with a number of its own, and then as the original does, for servers that know only that. An answer
//! on the original's topic says not whose it is: it is taken only if it is that of these legs.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::legs::Whole;
use super::{Brokers, HYPOTENUSE, Line, PAIR, PAIR_HYPOTENUSE, REQUESTS, Side, say};
use crate::broker::zmq;
use crate::limits;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A socket can't be used.
    #[error(transparent)]
    Socket(#[from] zmq::Error),
    /// No broker is there.
    #[error("no broker answers on {0}; start one with `acopio broker`, or name others with --broker")]
    NoBroker(String),
    /// Nobody answered.
    #[error("no answer within {0:?}; see that `acopio calc server` runs and is connected to the same brokers")]
    NoAnswer(Duration),
}

/// A client that is connected.
pub(crate) struct Client {
    line: Line,
    number: String,
    asked: u64,
}

impl Client {
    /// Connects to the brokers; one of them has to be there.
    ///
    /// # Errors
    /// None is.
    pub(crate) async fn connect(brokers: &Brokers) -> Result<Self, Error> {
        let number = format!("{:016x}", rand::random::<u64>());
        let own = format!("{PAIR_HYPOTENUSE}{number}");
        let line = Line::open(brokers, &[HYPOTENUSE.as_bytes(), own.as_bytes()]).await?;
        if !line.is_up(limits::CALC_CONNECT_TIME_MAX).await {
            let all: Vec<String> = brokers.publish.iter().map(ToString::to_string).collect();
            return Err(Error::NoBroker(all.join(", ")));
        }
        Ok(Self { line, number, asked: 0 })
    }

    /// Asks, prints the original's lines, and returns the answer.
    ///
    /// # Errors
    /// None came in time.
    pub(crate) async fn ask(&mut self, a: &Whole, b: &Whole, within: Duration) -> Result<String, Error> {
        self.asked += 1;
        let number = format!("{}.{}", self.number, self.asked);
        let own = format!("{PAIR_HYPOTENUSE}{number}");
        let (a2, b2) = (a.squared(), b.squared());
        for (side, leg) in Side::BOTH.into_iter().zip([a, b]) {
            say(&format!("→ Enviando cateto{}={leg} en {}", side.number(), side.of(REQUESTS)));
        }
        let end = Instant::now() + within;
        while Instant::now() < end {
            self.line.publish(PAIR, [number.clone(), a.to_string(), b.to_string()]).await?;
            for (side, leg) in Side::BOTH.into_iter().zip([a, b]) {
                self.line.publish(side.of(REQUESTS), [leg.to_string()]).await?;
            }
            let patience = end.min(Instant::now() + limits::CALC_AGAIN_AFTER);
            while let Ok(message) = timeout_at(patience, self.line.subscriber.recv()).await {
                let message = message?;
                let value = message.frame(1).unwrap_or_default();
                let is_own = message.topic() == own.as_bytes()
                    || (message.topic() == HYPOTENUSE.as_bytes() && Whole::is_hypotenuse(value, &a2, &b2));
                if is_own {
                    let value = String::from_utf8_lossy(value).into_owned();
                    say(&format!("← Hipotenusa recibida: {value}"));
                    return Ok(value);
                }
            }
        }
        Err(Error::NoAnswer(within))
    }

    /// Ends.
    pub(crate) async fn close(self) {
        self.line.close().await;
    }
}
