//! Follows the cluster once for all who look: the list of values, the board of sources and the streams.

use std::time::SystemTime;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::time::{Instant, sleep};

use super::Web;
use super::lag::Lag;
use super::values::Values;
use crate::client::reader::{Config, Event, Query, ReadError, find_last, read, read_records};
use crate::limits;
use crate::net::Backoff;
use crate::table::moment::{Moment, Zone, now_ns};
use crate::wire::id::RecordId;

/// Where the read of what comes begins or goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// What is kept is to be read first.
    Beginning,
    /// Behind this record.
    Behind(RecordId),
    /// At the present: what was before is left out, and not read to know who has sent what.
    Present(RecordId),
}

impl Next {
    /// What comes late, as a message that waited for one before it, is read again rather than missed.
    fn goes_on(&mut self, id: RecordId) {
        match self {
            Self::Beginning => *self = Self::Behind(id),
            Self::Behind(last) | Self::Present(last) => *last = (*last).max(id),
        }
    }
}

/// Reads what is kept and follows what comes, for ever.
pub(crate) async fn follow(web: &Web, config: Config) {
    let values = &web.values;
    let mut rng = SmallRng::seed_from_u64(config.seed);
    let mut backoff = Backoff::default();
    let (mut next, mut lag) = (Next::Beginning, Lag::default());
    let mut said = String::new();
    loop {
        let before = next;
        let Err(error) = pass(web, &config, &mut next, &mut lag).await else { continue };
        let words = error.to_string();
        if words != said {
            tracing::warn!("the values cannot be read: {words}; trying again");
        }
        values.is_away(words.clone());
        said = words;
        if next != before {
            backoff.reset();
        }
        sleep(backoff.next(&mut rng)).await;
    }
}

/// One read: of what is kept, if that is not done yet, and then of what comes.
async fn pass(web: &Web, config: &Config, next: &mut Next, lag: &mut Lag) -> Result<(), ReadError> {
    if *next == Next::Beginning {
        let from = listed(&web.values, config).await?;
        last_hour(web, config, from).await?;
        web.values.is_whole();
        *next = Next::Behind(from);
    }
    let mut reader = match *next {
        Next::Present(from) => read_records(config.clone(), Query { from, follow: true, ..Query::default() }),
        Next::Behind(from) => read(config.clone(), Query { from, follow: true, ..Query::default() }),
        Next::Beginning => return Ok(()),
    };
    lag.begin(Instant::now());
    while let Some(event) = reader.next().await {
        match event {
            Ok(event) => {
                let id = if let Event::Message(message) = &event { Some(message.id) } else { None };
                if let Event::Message(message) = &event {
                    next.goes_on(message.id);
                    let reading = web.board.read(message);
                    web.board.hear(message, &reading);
                    web.live.take(message, &reading);
                }
                web.values.event(event);
                match id.map(|id| turn(web, id, *next, lag)) {
                    Some(Turn::Rests) => {
                        drop(reader);
                        sleep(limits::WEB_FOLLOW_REST).await;
                        *next = Next::Present(lag.present(now_ns()));
                        return Ok(());
                    }
                    Some(Turn::GoesOn(from)) => {
                        *next = Next::Behind(from);
                        return Ok(());
                    }
                    Some(Turn::Stays) | None => {}
                }
            }
            Err(error @ ReadError::Line { .. }) => tracing::warn!("{error}"),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What becomes of a read.
enum Turn {
    Stays,
    /// More comes than is followed: the next begins a while later, at the present.
    Rests,
    /// That is over: the next brings what each client sent in its order again.
    GoesOn(RecordId),
}

fn turn(web: &Web, id: RecordId, next: Next, lag: &mut Lag) -> Turn {
    let now = Instant::now();
    let was_calm = lag.is_calm(now);
    if lag.hear(id, now_ns(), now) {
        if was_calm {
            tracing::info!(
                "more comes than this page follows: of what comes it shows some, once a second, until there is less"
            );
        }
        web.live.leave_out();
        return Turn::Rests;
    }
    match next {
        Next::Present(last) if was_calm => Turn::GoesOn(last),
        _ => Turn::Stays,
    }
}

/// Reads the last values; where what comes begins.
async fn listed(values: &Values, config: &Config) -> Result<RecordId, ReadError> {
    let query = Query::default();
    let counts = |event: &Event| matches!(event, Event::Message(message) if super::dato::Value::of(message).is_some());
    let found = find_last(config, &query, values.most(), counts).await?;
    let mut end = found.until;
    let mut reader = read(config.clone(), Query { from: found.from, until: found.until, ..query });
    while let Some(event) = reader.next().await {
        match event {
            Ok(Event::End { next, .. }) => end = end.min(next),
            Ok(event) => values.event(event),
            Err(error @ ReadError::Line { .. }) => tracing::warn!("{error}"),
            Err(error) => return Err(error),
        }
    }
    Ok(end)
}

/// Reads what the sources said in the hour before, as far as it is not too much.
async fn last_hour(web: &Web, config: &Config, until: RecordId) -> Result<(), ReadError> {
    let hour = Moment::Ago(limits::PLOT_TIME_DEFAULT).id(SystemTime::now(), &Zone::utc());
    let query = Query { from: hour.min(until), until, partial: true, ..Query::default() };
    let all = |event: &Event| matches!(event, Event::Message(_));
    let found = find_last(config, &query, limits::WEB_SPARK_MESSAGES_MAX, all).await?;
    let mut reader = read(config.clone(), Query { from: found.from, ..query });
    while let Some(event) = reader.next().await {
        match event {
            Ok(Event::Message(message)) => web.board.hear(&message, &web.board.read(&message)),
            Ok(_) | Err(ReadError::Line { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
