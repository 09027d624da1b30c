//! The loop of a read: events of a reader become what is printed, and what happens to heads and nodes is told.

use std::time::Duration;

use anyhow::Result;
use regex::bytes::Regex;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::output::{Output, Stop};
use super::state::State;
use crate::cli::events::{Teller, in_words, look_for_notes, say};
use crate::cli::{Outcome, print};
use crate::client::reader::{self, Config, Event, Message, Query};
use crate::limits;
use crate::reading::UnixNs;
use crate::table::moment::now_ns;
use crate::table::shape::Shape;
use crate::wire::id::RecordId;

/// What is printed where.
pub(super) struct Print {
    pub(super) output: Output,
    /// None if they are only counted.
    pub(super) shape: Option<Shape>,
    pub(super) grep: Option<Regex>,
    /// Only the last so many.
    pub(super) last: Option<u64>,
    /// Where it is noted how far it came.
    pub(super) state: Option<State>,
    pub(super) quiet: bool,
    pub(super) seen: Seen,
}

/// What is counted.
#[derive(Default)]
pub(super) struct Seen {
    printed: u64,
    damaged: u64,
    /// Messages under numbers that others of the same client had before.
    reused: u64,
}

impl Print {
    pub(super) async fn run(
        mut self,
        config: &Config,
        query: Query,
        shutdown: Option<&CancellationToken>,
    ) -> Result<Outcome> {
        // What a round has printed is noted at its end: one that is cut off is printed again by the next read.
        let sources = query.sources.clone();
        let patience = if self.state.is_some() { limits::CLOSE_TIME_MAX } else { Duration::ZERO };
        let stopping = async {
            asked_to_end(shutdown).await;
            sleep(patience).await;
        };
        let printed = tokio::select! {
            biased;
            () = stopping => Err(Stop::Enough),
            printed = self.print(config, query, shutdown) => printed,
        };
        let is_unknown = printed.is_ok() && self.seen.printed == 0 && !sources.is_all();
        let printed = self.finish(printed);
        // Who reads the output may have stopped reading, which must not hold up the end.
        let flushed = timeout(limits::CLOSE_TIME_MAX, self.output.flush()).await;
        if !self.quiet {
            self.say_last();
            if is_unknown {
                say(
                    "nothing is kept of that source, or not of that time; 'acopio devices' lists who sent what, and when",
                );
            }
        }
        match (printed, flushed) {
            (Err(Stop::Failed(error)), _) => Err(error),
            (Err(Stop::Enough), _) => Ok(Outcome::Done),
            (Ok(_), Ok(Err(Stop::Failed(error)))) => Err(error),
            (Ok(next), Ok(Ok(()))) => {
                self.note(next)?;
                Ok(if self.seen.damaged > 0 { Outcome::Failed } else { Outcome::Done })
            }
            (Ok(_), _) if self.seen.damaged > 0 => Ok(Outcome::Failed),
            (Ok(_), _) => Ok(Outcome::Done),
        }
    }

    /// What is still to be printed at the end, also after a signal.
    fn finish(&mut self, printed: Result<RecordId, Stop>) -> Result<RecordId, Stop> {
        match &mut self.shape {
            Some(shape) => shape.end(&mut self.output.buffer).map_err(anyhow::Error::new)?,
            None if printed.is_ok() => {
                self.output.buffer.extend_from_slice(format!("{}\n", self.seen.printed).as_bytes())
            }
            None => {}
        }
        printed
    }

    fn say_last(&self) {
        if self.seen.reused > 0 {
            say(&reused(self.seen.reused));
        }
        for line in self.shape.iter().flat_map(Shape::told) {
            say(&line);
        }
    }

    /// Everything below this was printed, and is out.
    fn note(&self, next: RecordId) -> Result<()> {
        self.state.as_ref().map_or(Ok(()), |state| state.save(next))
    }

    /// Prints what is asked for; with a state to keep, round by round: what is kept by then in the order of ids, so that
    /// nothing comes twice or is passed over when it goes on later.
    async fn print(
        &mut self,
        config: &Config,
        mut query: Query,
        shutdown: Option<&CancellationToken>,
    ) -> Result<RecordId, Stop> {
        if let Some(shape) = &mut self.shape {
            if let Some(readings) = shape.readings() {
                look_for_notes(readings, config, &query, self.quiet).await?;
            }
            shape.header(&mut self.output.buffer);
        }
        let follows = query.follow;
        query.follow &= self.state.is_none();
        loop {
            let next = self.round(config, query.clone()).await?;
            if !follows || self.state.is_none() || next >= query.until {
                return Ok(next);
            }
            self.tick()?;
            self.output.flush().await?;
            self.note(next)?;
            query.from = next;
            tokio::select! {
                biased;
                () = asked_to_end(shutdown) => return Ok(next),
                () = sleep(limits::READ_STATE_EVERY) => {}
            }
        }
    }

    /// One read; up to where it is complete.
    async fn round(&mut self, config: &Config, mut query: Query) -> Result<RecordId, Stop> {
        let (mut skip, mut skip_until) = (0, RecordId::ZERO);
        let mut teller = Teller::new(self.quiet, config, query.follow);
        if let Some(n) = self.last {
            let grep = self.grep.clone();
            let found = reader::find_last(config, &query, n, |event| match event {
                Event::Message(message) => is_wanted(grep.as_ref(), message),
                event => {
                    teller.tell(event);
                    false
                }
            })
            .await;
            let found = found.map_err(in_words)?;
            (query.from, skip, skip_until) = (found.from, found.skip, found.until);
            if !query.follow {
                query.until = found.until;
            }
        }
        let mut end = query.from;
        let mut reader = reader::read(config.clone(), query);
        loop {
            let over = over(self.shape.as_ref().and_then(Shape::due));
            // What is written waits for more only while there is more at once.
            let event = tokio::select! {
                biased;
                event = reader.next() => event,
                () = std::future::ready(()), if !self.output.buffer.is_empty() => {
                    self.output.flush().await?;
                    continue;
                }
                () = over => {
                    self.tick()?;
                    continue;
                }
            };
            match event {
                Some(Ok(Event::Message(message))) => {
                    if !is_wanted(self.grep.as_ref(), &message) {
                        continue;
                    }
                    if skip > 0 && message.id < skip_until {
                        skip -= 1;
                        continue;
                    }
                    self.message(&message).await?;
                }
                Some(Ok(event)) => {
                    if let Event::End { next, .. } = &event {
                        end = end.max(*next);
                    }
                    teller.tell(&event);
                }
                Some(Err(error)) => {
                    teller.failed(error)?;
                    self.seen.damaged = teller.damaged;
                }
                None => return Ok(end),
            }
        }
    }

    /// Prints the buckets that are over.
    fn tick(&mut self) -> Result<()> {
        let now = UnixNs(now_ns().saturating_sub(limits::BUCKET_LATE_MAX.as_nanos() as u64));
        Ok(self.shape.as_mut().map_or(Ok(()), |shape| shape.tick(&mut self.output.buffer, now))?)
    }

    async fn message(&mut self, message: &Message) -> Result<(), Stop> {
        self.seen.printed += 1;
        self.seen.reused += u64::from(message.reused);
        let Some(shape) = &mut self.shape else { return Ok(()) };
        shape.message(&mut self.output.buffer, message).map_err(anyhow::Error::new)?;
        if self.output.buffer.len() >= limits::READ_OUTPUT_BYTES { self.output.flush().await } else { Ok(()) }
    }
}

/// Resolves when the end is asked for, or nobody reads what is printed; where there is no such request, a signal simply ends it.
async fn asked_to_end(shutdown: Option<&CancellationToken>) {
    match shutdown {
        Some(shutdown) => tokio::select! {
            () = shutdown.cancelled() => {}
            () = print::unread() => {}
        },
        None => print::unread().await,
    }
}

/// Resolves when the bucket that is over at this time takes nothing more; never if there is none.
async fn over(due: Option<UnixNs>) {
    match due {
        Some(UnixNs(due)) => {
            let left = Duration::from_nanos(due.saturating_sub(now_ns()));
            tokio::time::sleep(left + limits::BUCKET_LATE_MAX).await;
        }
        None => std::future::pending().await,
    }
}

/// What is said in the end of messages that are none of their number's first.
fn reused(count: u64) -> String {
    format!(
        "{count} messages have the client and the number of another one before them: a client began to count anew under \
         the same id; give it a new one when it does, or its retries cannot be told ('acopio audit' names the numbers)"
    )
}

fn is_wanted(grep: Option<&Regex>, message: &Message) -> bool {
    grep.is_none_or(|grep| grep.is_match(&message.payload))
}
