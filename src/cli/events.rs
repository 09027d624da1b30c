//! What happens to heads and nodes while somebody reads: told on standard error, the same thing once.

use std::time::Duration;

use anyhow::Result;

use super::print;
use super::readings::Readings;
use crate::client::reader::{self, Config, Event, Message, Query, ReadError, Reader};
use crate::limits::SEND_REFUSALS_SHOWN_MAX;
use crate::wire::id::RecordId;
use crate::wire::peer::missing_cause;

/// Tells events.
pub(crate) struct Teller {
    quiet: bool,
    onward: String,
    told: String,
    /// Not even damage is told: the terminal shows something else.
    is_mute: bool,
    /// Lines that came damaged.
    pub(crate) damaged: u64,
}

impl Teller {
    /// Of a read with these heads, that ends or follows.
    pub(crate) fn new(quiet: bool, config: &Config, follow: bool) -> Self {
        let onward = onward(config.heads().len(), (!follow).then_some(config.retry_for));
        Self { quiet, onward, told: String::new(), is_mute: false, damaged: 0 }
    }

    /// Of a read that ends, of which nothing is told.
    pub(crate) fn mute(config: &Config) -> Self {
        Self { is_mute: true, ..Self::new(true, config, false) }
    }

    /// Tells of what happened, the same thing once.
    pub(crate) fn tell(&mut self, event: &Event) {
        let words = match event {
            Event::Waiting { nodes } if nodes.is_empty() => "all data nodes are there again; going on".to_owned(),
            Event::Waiting { nodes } if nodes.iter().any(|node| missing_cause(node).is_some()) => {
                format!("waiting for {}", nodes.join(", "))
            }
            Event::Waiting { nodes } => format!("waiting for {}; start what is away again", nodes.join(", ")),
            Event::Lost { head, cause } => format!("head {head}: {cause}; {}", self.onward),
            Event::End { missing, .. } if !missing.is_empty() => {
                format!("{} missing from this answer", missing.join(", "))
            }
            Event::End { .. } | Event::Message(_) => return,
        };
        if words != self.told && !self.quiet {
            say(&words);
        }
        self.told = words;
    }

    /// Tells of a damaged line, the first of them.
    ///
    /// # Errors
    /// Any other error is the end of the read.
    pub(crate) fn failed(&mut self, error: ReadError) -> Result<()> {
        match error {
            ReadError::Line { .. } => {
                self.damaged += 1;
                if self.damaged <= SEND_REFUSALS_SHOWN_MAX as u64 && !self.is_mute {
                    say(&error.to_string());
                }
                Ok(())
            }
            error => Err(in_words(error)),
        }
    }
}

/// Reads the corrections of what a query asks for.
///
/// # Errors
/// Those of a read.
pub(crate) async fn look_for_notes(readings: &mut Readings, config: &Config, query: &Query, quiet: bool) -> Result<()> {
    let mut teller = Teller::new(quiet, config, false);
    each(config, Readings::of_notes(query), &mut teller, |message| readings.take_note(message)).await?;
    Ok(())
}

/// What a read failed with, and the flag that would help.
pub(crate) fn in_words(error: ReadError) -> anyhow::Error {
    match error {
        missing @ ReadError::Missing { .. } => anyhow::anyhow!("{missing} with --partial"),
        error => error.into(),
    }
}

/// What a read does about a lost head: with one head there is no next, and who waits wants to know for how long.
fn onward(heads: usize, retry_for: Option<Duration>) -> String {
    match retry_for {
        _ if heads > 1 => "going on with the next that answers".to_owned(),
        Some(time) if time < Duration::MAX => format!("trying again for {}", super::values::show(time)),
        _ => "trying again until it answers".to_owned(),
    }
}

/// A line on standard error.
pub(crate) fn say(words: &str) {
    print::err(&format!("acopio: {words}"));
}

/// Reads all of what a query that does not follow asks for; up to where it is complete.
///
/// # Errors
/// What keeps it from being complete.
pub(crate) async fn each(
    config: &Config,
    query: Query,
    teller: &mut Teller,
    take: impl FnMut(&Message),
) -> Result<RecordId> {
    let from = query.from;
    all(reader::read(config.clone(), query), from, teller, take).await
}

/// What asks for the record of an id.
pub(crate) fn alone(id: RecordId) -> Query {
    Query { from: id, until: id.next(), ..Query::default() }
}

/// The record that a query of an id [`alone`] finds, also if it is the second copy of a message.
///
/// # Errors
/// What keeps it from being read.
pub(crate) async fn record(config: &Config, query: Query, teller: &mut Teller) -> Result<Option<Message>> {
    let (from, mut found) = (query.from, None);
    let reader = reader::read_records(config.clone(), query);
    all(reader, from, teller, |message| found = Some(message.clone())).await?;
    Ok(found)
}

async fn all(
    mut reader: Reader,
    from: RecordId,
    teller: &mut Teller,
    mut take: impl FnMut(&Message),
) -> Result<RecordId> {
    let mut end = from;
    while let Some(event) = reader.next().await {
        match event {
            Ok(Event::Message(message)) => take(&message),
            Ok(event) => {
                if let Event::End { next, .. } = &event {
                    end = end.max(*next);
                }
                teller.tell(&event);
            }
            Err(error) => teller.failed(error)?,
        }
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::reader::{Local, LocalEnd};

    #[tokio::test]
    async fn a_record_that_is_known_by_its_id_is_read_without_what_was_before() {
        let id: RecordId = "1795852542hiVw4cHT4I".parse().expect("an id");
        let local = Local::new(move |query, _| {
            let is_alone = (query.from, query.until) == (id, id.next());
            let end = LocalEnd { next: query.until, missing: Vec::new() };
            is_alone.then_some(end).ok_or_else(|| format!("asked from {}", query.from))
        });
        let config = Config::from(local);
        let mut teller = Teller::new(true, &config, false);
        let found = record(&config, alone(id), &mut teller).await;
        assert!(matches!(found, Ok(None)), "{found:?}");
        // Who reads messages has to know what was before.
        assert!(each(&config, alone(id), &mut teller, |_| {}).await.is_err());
    }

    #[test]
    fn who_has_one_head_is_told_for_how_long_it_is_tried() {
        let time = Duration::from_secs(30);
        assert_eq!(onward(1, Some(time)), "trying again for 30s");
        assert_eq!(onward(1, Some(Duration::MAX)), "trying again until it answers");
        assert_eq!(onward(1, None), "trying again until it answers");
        for retry_for in [Some(time), Some(Duration::MAX), None] {
            assert_eq!(onward(2, retry_for), "going on with the next that answers");
        }
    }
}
