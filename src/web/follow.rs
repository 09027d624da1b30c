//! Follows the cluster once for all who look: the list of values, the board of sources and the streams.

use std::time::SystemTime;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::time::sleep;

use super::Web;
use super::values::Values;
use crate::client::reader::{Config, Event, Query, ReadError, find_last, read};
use crate::limits;
use crate::net::Backoff;
use crate::table::moment::Moment;
use crate::table::moment::Zone;
use crate::wire::id::RecordId;

/// Reads what is kept and follows what comes, for ever.
pub(crate) async fn follow(web: &Web, config: Config) {
    let values = &web.values;
    let mut rng = SmallRng::seed_from_u64(config.seed);
    let mut backoff = Backoff::default();
    let mut next = None;
    let mut said = String::new();
    loop {
        let before = next;
        let Err(error) = pass(web, &config, &mut next).await else { continue };
        let words = error.to_string();
        if words != said {
            tracing::warn!("the values cannot be read: {words}; trying again");
        }
        values.is_away(words.clone());
        said = words;
        if next > before {
            backoff.reset();
        }
        sleep(backoff.next(&mut rng)).await;
    }
}

/// One read: of what is kept, if that is not done yet, and then of what comes. `next` is where it goes on.
async fn pass(web: &Web, config: &Config, next: &mut Option<RecordId>) -> Result<(), ReadError> {
    let from = match *next {
        Some(from) => from,
        None => {
            let from = listed(&web.values, config).await?;
            last_hour(web, config, from).await?;
            web.values.is_whole();
            *next.insert(from)
        }
    };
    let mut reader = read(config.clone(), Query { from, follow: true, ..Query::default() });
    while let Some(event) = reader.next().await {
        match event {
            Ok(event) => {
                if let Event::Message(message) = &event {
                    // What comes late, as a message that waited for one before it, is read again rather than missed.
                    *next = (*next).max(Some(message.id));
                    let reading = web.board.read(message);
                    web.board.hear(message, &reading);
                    web.live.take(message, &reading);
                }
                web.values.event(event);
            }
            Err(error @ ReadError::Line { .. }) => tracing::warn!("{error}"),
            Err(error) => return Err(error),
        }
    }
    Ok(())
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
