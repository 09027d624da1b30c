//! The original's distributed calculation: a client asks for a hypotenuse, a calculation server has both legs squared by an
//! operation server each, and answers. Everybody speaks through the brokers.
//!
//! The topics and their two frames are the original's, so its programs and these work together. Two things are added for what
//! the original mixes up: a client names both legs and a number of its own in one message on [`PAIR`], and is answered on a
//! topic of its own; the original's server knows neither. `docs/topics.md` has them all.

pub(crate) mod client;
mod desk;
pub(crate) mod legs;
pub(crate) mod server;
pub(crate) mod square;

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::zmq::{Address, Bounds, Error, Message, Publisher, Subscriber};
use crate::limits;

/// Topic of the legs that a client sends.
const REQUESTS: [&str; 2] = ["calc.request.1", "calc.request.2"];

/// Topic of the legs that the calculation server sends on to have them squared.
const SQUARE_REQUESTS: [&str; 2] = ["calc.square.request.1", "calc.square.request.2"];

/// Topic of the squares.
const SQUARE_RESULTS: [&str; 2] = ["calc.square.result.1", "calc.square.result.2"];

/// Topic of the answer.
const HYPOTENUSE: &str = "calc.hypotenuse.result";

/// Topic of both legs of a client in one message: its number for them, and the two.
const PAIR: &str = "calc.request.pair";

/// What the topic of the answer to such a message begins with; the client's number follows.
const PAIR_HYPOTENUSE: &str = "calc.hypotenuse.pair.";

/// One of the two legs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The first.
    One,
    /// The second.
    Two,
}

impl Side {
    const BOTH: [Self; 2] = [Self::One, Self::Two];

    /// 1 or 2, as in the topics.
    const fn number(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }

    /// Its name in the original's lines.
    const fn letter(self) -> char {
        match self {
            Self::One => 'a',
            Self::Two => 'b',
        }
    }

    fn of(self, topics: [&'static str; 2]) -> &'static str {
        let [one, two] = topics;
        match self {
            Self::One => one,
            Self::Two => two,
        }
    }

    /// Whose topic it is, of these two.
    fn with(topic: &[u8], topics: [&'static str; 2]) -> Option<Self> {
        Self::BOTH.into_iter().find(|side| side.of(topics).as_bytes() == topic)
    }
}

/// How the programs of the calculation reach their brokers.
#[derive(Clone, Debug)]
pub(crate) struct Brokers {
    /// The ports of publishers.
    pub(crate) publish: Vec<Address>,
    /// The ports of subscribers.
    pub(crate) subscribe: Vec<Address>,
    /// How they speak.
    pub(crate) bounds: Bounds,
}

/// A program's two sockets, each connected to all brokers.
struct Line {
    publisher: Publisher,
    subscriber: Subscriber,
}

impl Line {
    async fn open(brokers: &Brokers, topics: &[&[u8]]) -> Result<Self, Error> {
        let publisher = Publisher::connect(&brokers.publish, &brokers.bounds).await?;
        let subscriber = Subscriber::connect(&brokers.subscribe, &brokers.bounds, topics).await?;
        Ok(Self { publisher, subscriber })
    }

    /// Waits until one broker is there for both sockets; whether it came to be.
    async fn is_up(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        self.subscriber.is_connected(within).await
            && timeout_at(deadline, self.publisher.is_wanted(within)).await.unwrap_or(false)
    }

    async fn publish(&self, topic: &str, frames: impl IntoIterator<Item = String>) -> Result<(), Error> {
        let topic = std::iter::once(Bytes::copy_from_slice(topic.as_bytes()));
        self.publisher.send(Message::new(topic.chain(frames.into_iter().map(Bytes::from)))).await
    }

    async fn close(self) {
        self.publisher.close(limits::TOPIC_LINGER_MAX).await;
        self.subscriber.close().await;
    }
}

/// Prints a line of the original; nobody may be looking.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}
