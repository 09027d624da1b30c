//! Publishes once more what was kept: reads the cluster, takes kept messages apart, and sends them as they were, at the pace at
//! which they came or another.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::kept;
use super::zmq::{self, Address, Bounds, Message, Publisher, Slow};
use crate::client::reader::{self, Event, Query, ReadError};
use crate::limits;
use crate::wire::id::RecordId;

/// What is published once more, and where.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Where it is read.
    pub(crate) reader: reader::Config,
    /// The least id.
    pub(crate) from: RecordId,
    /// The first id that is not wanted.
    pub(crate) until: RecordId,
    /// Topics that begin with one of these; all if there are none.
    pub(crate) prefixes: Vec<Vec<u8>>,
    /// The port of publishers that it connects to.
    pub(crate) to: Address,
    /// How it speaks.
    pub(crate) bounds: Bounds,
    /// How many times faster than they came; none for as fast as they are taken.
    pub(crate) speed: Option<f64>,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Messages that were published.
    pub(crate) published: u64,
    /// Records that are no kept messages.
    pub(crate) others: u64,
}

/// Why it stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A socket can't be used.
    #[error(transparent)]
    Socket(#[from] zmq::Error),
    /// Nobody takes what is published.
    #[error("nobody at {0} subscribes; see that a broker is active there, or name another with --to")]
    Nobody(Address),
    /// Who took it is gone.
    #[error(
        "{to} is gone after {published} messages, of which the last may not have arrived; go on with --since {at} once it \
         is back: some may come twice then"
    )]
    Gone {
        /// Where it was.
        to: Address,
        /// Messages that were published.
        published: u64,
        /// A record before those that were on their way.
        at: RecordId,
    },
}

/// Publishes what was kept when it begins.
///
/// # Errors
/// It can't be read, or nobody takes it.
pub(crate) async fn run(config: Config) -> Result<Report, Error> {
    let bounds = Bounds { slow: Slow::Wait, ..config.bounds.clone() };
    let publisher = Publisher::connect(std::slice::from_ref(&config.to), &bounds).await?;
    if !publisher.is_wanted(limits::REPLAY_CONNECT_TIME_MAX).await {
        return Err(Error::Nobody(config.to));
    }
    let peers = publisher.peers_changed();
    let query = Query { from: config.from, until: config.until, ..Query::default() };
    let mut reader = reader::read(config.reader, query);
    let (mut report, mut pace, mut doubt) = (Report::default(), Pace::new(config.speed), Doubt::default());
    while let Some(event) = reader.next().await {
        let message = match event? {
            Event::Message(message) => message,
            Event::Waiting { nodes } if !nodes.is_empty() => {
                tracing::warn!("waiting for {}", nodes.join(", "));
                continue;
            }
            Event::Lost { head, cause } => {
                tracing::warn!("head {head}: {cause}");
                continue;
            }
            Event::Waiting { .. } | Event::End { .. } => continue,
        };
        let Some(frames) = kept::decode(&message.payload) else {
            report.others += 1;
            continue;
        };
        let topic = frames.first().map(AsRef::as_ref).unwrap_or_default();
        if !config.prefixes.is_empty() && !config.prefixes.iter().any(|prefix| topic.starts_with(prefix)) {
            continue;
        }
        if let Some(due) = pace.due(message.id, Instant::now()) {
            sleep_until(due).await;
        }
        // With nobody there it would go nowhere, and nothing would tell.
        if publisher.peers_changed() != peers {
            let at = doubt.since(Instant::now()).unwrap_or(message.id);
            return Err(Error::Gone { to: config.to, published: report.published, at });
        }
        doubt.publishes(message.id, Instant::now());
        publisher.send(Message::new(frames)).await?;
        report.published += 1;
    }
    publisher.close(limits::REPLAY_LINGER_MAX).await;
    Ok(report)
}

/// What may not have arrived: PUB sockets are told nothing of what becomes of a message.
#[derive(Default)]
struct Doubt {
    /// When a message was published, and which; a few of them.
    marks: VecDeque<(Instant, RecordId)>,
}

impl Doubt {
    /// This one goes out now.
    fn publishes(&mut self, id: RecordId, now: Instant) {
        let step = limits::REPLAY_DOUBT_TIME / limits::REPLAY_DOUBT_MARKS;
        if self.marks.back().is_none_or(|&(at, _)| now.saturating_duration_since(at) >= step) {
            self.forget(now);
            self.marks.push_back((now, id));
        }
    }

    /// The record from which on there is doubt.
    fn since(&mut self, now: Instant) -> Option<RecordId> {
        self.forget(now);
        self.marks.front().map(|&(_, id)| id)
    }

    /// Leaves the last mark of those that are old enough: what came before it has arrived.
    fn forget(&mut self, now: Instant) {
        let old = |mark: Option<&(Instant, RecordId)>| {
            mark.is_some_and(|&(at, _)| now.saturating_duration_since(at) >= limits::REPLAY_DOUBT_TIME)
        };
        while old(self.marks.get(1)) {
            self.marks.pop_front();
        }
    }
}

/// When each message is due.
struct Pace {
    speed: Option<f64>,
    /// The time of the first id, and when it was due.
    start: Option<Start>,
}

#[derive(Clone, Copy)]
struct Start {
    time_ns: u64,
    at: Instant,
}

impl Pace {
    const fn new(speed: Option<f64>) -> Self {
        Self { speed, start: None }
    }

    /// When this one is due; none for at once.
    fn due(&mut self, id: RecordId, now: Instant) -> Option<Instant> {
        let speed = self.speed?;
        let start = *self.start.get_or_insert(Start { time_ns: id.time_ns, at: now });
        let after = Duration::from_nanos(id.time_ns.saturating_sub(start.time_ns));
        let after = Duration::try_from_secs_f64(after.as_secs_f64() / speed).unwrap_or(limits::DURATION_FLAG_MAX);
        Some(start.at + after.min(limits::DURATION_FLAG_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_on_its_way_is_in_doubt_and_what_was_long_before_is_not() {
        let start = Instant::now();
        let id = |number: u64| RecordId { time_ns: number, incarnation: 0 };
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut doubt = Doubt::default();
        assert_eq!(doubt.since(start), None);
        for millis in 0..10_000 {
            doubt.publishes(id(millis), at(millis));
            assert!(doubt.marks.len() <= limits::REPLAY_DOUBT_MARKS as usize + 2);
        }
        let least = 10_000 - limits::REPLAY_DOUBT_TIME.as_millis() as u64;
        let since = doubt.since(at(10_000)).unwrap().time_ns;
        assert!((least - 500..=least).contains(&since), "{since}");
        // Far apart: the last one alone, however long ago that was.
        doubt.publishes(id(60_000), at(60_000));
        assert_eq!(doubt.since(at(90_000)), Some(id(60_000)));
    }

    #[test]
    fn messages_are_due_as_far_apart_as_they_came_or_as_many_times_nearer() {
        let now = Instant::now();
        let id = |seconds: u64| RecordId { time_ns: 1_000_000_000 * (1_795_000_000 + seconds), incarnation: 0 };
        let due = |speed, seconds| {
            let mut pace = Pace::new(speed);
            pace.due(id(0), now);
            pace.due(id(seconds), now + Duration::from_secs(3)).map(|due| due - now)
        };
        assert_eq!(due(Some(1.0), 60), Some(Duration::from_secs(60)));
        assert_eq!(due(Some(10.0), 60), Some(Duration::from_secs(6)));
        assert_eq!(due(Some(0.5), 60), Some(Duration::from_secs(120)));
        assert_eq!(due(Some(1e-300), 60), Some(limits::DURATION_FLAG_MAX));
        assert_eq!(due(None, 60), None);
    }
}
