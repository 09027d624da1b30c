//! Lines on their way to the cluster: from the queue to a client, under the identity and the numbers that they have.
//!
//! A client is of one identity, whose numbers follow each other. Where the queue goes on with another one, what is under way
//! is settled first. What a client gives up is handed over anew: a collector never gives up.

use std::io;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::time::{Instant, sleep_until};

use super::queue::Queue;
use super::settled::Settled;
use crate::client::{self, Receipts, Sender};
use crate::net::Backoff;
use crate::wire::error::Refusal;
use crate::wire::id::ClientId;

/// A client of the cluster, while there is something to send.
struct Link {
    client: ClientId,
    /// The number that it takes next.
    next: u64,
    /// None once it takes no more.
    sender: Option<Sender>,
    receipts: Receipts,
    settled: Settled,
    /// What it was given is given to the next one.
    gave_up: bool,
}

/// What became of lines.
#[derive(Debug)]
pub(super) enum Became {
    /// So many more are settled, and all before them: they are kept, or were refused.
    Settled(u64),
    /// So many more are settled, and the cluster will never keep these.
    Refused { settled: u64, lines: u64, refusal: Refusal },
    /// Nothing yet: they are handed over again.
    Again,
}

/// Hands lines over.
pub(super) struct Handing {
    /// None while no head is known.
    config: Option<client::Config>,
    link: Option<Link>,
    /// Nothing is handed over before.
    rests_until: Option<Instant>,
    backoff: Backoff,
    rng: SmallRng,
}

impl Handing {
    pub(super) fn new() -> Self {
        let rng = SmallRng::seed_from_u64(rand::random());
        Self { config: None, link: None, rests_until: None, backoff: Backoff::default(), rng }
    }

    /// Whom lines are handed over to.
    pub(super) fn begin(&mut self, config: client::Config) {
        self.config = Some(config);
    }

    /// Hands over as many lines as the client has room for.
    ///
    /// # Errors
    /// The spool cannot be read.
    pub(super) fn hand_over(&mut self, queue: &mut Queue) -> io::Result<()> {
        if self.rests_until.is_some_and(|until| Instant::now() < until) {
            return Ok(());
        }
        self.rests_until = None;
        let Some(config) = &self.config else { return Ok(()) };
        while let Some(line) = queue.next()? {
            let link = self.link.get_or_insert_with(|| Link::open(config, line.client, line.seq));
            if link.client != line.client || link.next != line.seq {
                link.sender = None;
            }
            let Some(sender) = &link.sender else { break };
            match sender.try_accept(line.source, &line.payload) {
                Ok(Some(_)) => {
                    link.next += 1;
                    queue.hand_over();
                }
                Ok(None) => break,
                // Its task has ended; it is told of below.
                Err(_) => link.sender = None,
            }
        }
        Ok(())
    }

    /// The next thing that became of lines; never, while none are under way.
    pub(super) async fn next(&mut self, queue: &mut Queue) -> Became {
        loop {
            let Some(link) = &mut self.link else { return self.rest().await };
            match link.receipts.next().await {
                Some(client::Outcome::Acked(ack)) => {
                    self.backoff.reset();
                    return Became::Settled(link.settle(queue, ack.first_seq, ack.count));
                }
                Some(client::Outcome::Refused { refusal, .. }) if refusal.retry => {
                    tracing::debug!("{refusal}");
                    (link.sender, link.gave_up) = (None, true);
                }
                Some(client::Outcome::Refused { first_seq, count, refusal }) => {
                    let settled = link.settle(queue, first_seq, count);
                    return Became::Refused { settled, lines: count.into(), refusal };
                }
                None => {
                    if link.gave_up {
                        queue.rewind();
                        self.rests_until = Instant::now().checked_add(self.wait());
                    }
                    self.link = None;
                    return Became::Again;
                }
            }
        }
    }

    fn wait(&mut self) -> Duration {
        self.backoff.next(&mut self.rng)
    }

    async fn rest(&self) -> Became {
        match self.rests_until {
            Some(until) => sleep_until(until).await,
            None => std::future::pending().await,
        }
        Became::Again
    }
}

impl Link {
    fn open(config: &client::Config, id: ClientId, first_seq: u64) -> Self {
        let config = client::Config { id, first_seq, retry_for: Duration::MAX, ..config.clone() };
        let (sender, receipts) = client::connect(config);
        Self {
            client: id,
            next: first_seq,
            sender: Some(sender),
            receipts,
            settled: Settled::from(first_seq),
            gave_up: false,
        }
    }

    /// Notes in the queue what is settled; so many lines more are, and all before them.
    fn settle(&mut self, queue: &mut Queue, first_seq: u64, count: u32) -> u64 {
        let lines = self.settled.note(first_seq, count);
        if lines > 0 {
            queue.kept(self.client, self.settled.last(), lines);
        }
        lines
    }
}
