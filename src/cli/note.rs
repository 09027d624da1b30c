//! `acopio note`: corrects a wrong reading by a record that says so. Nothing is changed or deleted: who reads numbers heeds it.

use anyhow::{Context as _, Result, bail};
use clap::builder::BoolishValueParser;
use clap::{ArgGroup, Args};
use std::time::Duration;

use super::events::{Teller, alone, record, say};
use super::heads::Heads;
use super::readings::is_note;
use super::{Global, Outcome, logging, print, runtime, values};
use crate::client::reader::{Config, Message};
use crate::client::{self, Client};
use crate::limits::NOTE_WHY_BYTES_MAX;
use crate::reading::notes::{Change, Note, Notes};
use crate::reading::value_of;
use crate::reading::{Field, Reading, Rules, UnixNs, Value};
use crate::wire::id::RecordId;
use crate::wire::source::NOTES;

const AFTER_HELP: &str = "\
Examples:
  acopio read --since today --fields temp --format json
      finds the id of a wrong reading
  acopio note 1795234260----0----6 --hide --why 'sensor was unplugged'
      its numbers do not count any more
  acopio note 1795234260----0----6 --set temp=21.6 --why 'read off by hand'
      this field says something else
  acopio note 1795234260----0----6 --undo --why 'it was right'
      what was noted before does not hold

The note is a record of the source acopio.notes. What reads numbers heeds it:
read --fields, --long, --every and --format influx, plot, watch, and devices
--mean. The record itself stays as it is: a read without fields, check, verify
and audit see both. A note can't be noted; --undo takes back what was noted of
a record.

Exit codes:
  0    the note is kept
  1    there is no such record, or the note is not kept
  2    bad usage";

/// Corrects a wrong reading by a record that says so
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP, group = ArgGroup::new("change").required(true))]
pub(crate) struct NoteArgs {
    /// The record: the id that 'read --format json' shows, the first field of its line in data.txt
    #[arg(value_name = "ID", allow_hyphen_values = true)]
    id: RecordId,
    #[command(flatten)]
    heads: Heads,
    /// Its numbers do not count
    #[arg(long, env = "ACOPIO_NOTE_HIDE", group = "change", value_parser = BoolishValueParser::new())]
    hide: bool,
    /// What a field should say; several with commas, or the flag several times
    #[arg(long, env = "ACOPIO_NOTE_SET", value_name = "FIELD=VALUE", group = "change", value_delimiter = ',',
        value_parser = setting)]
    set: Vec<Setting>,
    /// What was noted of it before does not hold
    #[arg(long, env = "ACOPIO_NOTE_UNDO", group = "change", value_parser = BoolishValueParser::new())]
    undo: bool,
    /// Why: who reads it later wants to know
    #[arg(long, env = "ACOPIO_NOTE_WHY", value_name = "TEXT", value_parser = why)]
    why: String,
    /// Time to go on trying, while no head answers or data nodes are away
    #[arg(long, env = "ACOPIO_NOTE_RETRY_FOR", value_name = "TIME", default_value = "30s", value_parser = values::duration)]
    retry_for: Duration,
}

/// A field and what it should say.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    field: String,
    value: String,
}

fn setting(text: &str) -> Result<Setting, String> {
    let parts = text.split_once('=').map(|(field, value)| (field.trim(), value.trim()));
    match parts.filter(|(field, value)| !field.is_empty() && !value.is_empty()) {
        // What other programs take for a number and readings for a text.
        Some((_, value)) if value.parse::<f64>().is_ok() && matches!(value_of(value), Value::Text(_)) => {
            Err(format!("{value} is no number that counts; write one such as 21.6, or hide the record with --hide"))
        }
        Some((field, value)) => Ok(Setting { field: field.to_owned(), value: value.to_owned() }),
        None => Err("write a field and what it should say: temp=21.6".to_owned()),
    }
}

fn why(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("write a reason".to_owned()),
        text if text.len() > NOTE_WHY_BYTES_MAX => Err(format!("longer than {NOTE_WHY_BYTES_MAX} bytes; write a line")),
        text => Ok(text.to_owned()),
    }
}

impl NoteArgs {
    /// Keeps the note, if there is such a record.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        logging::start(Global { quiet: global.quiet || !global.verbose, ..global }, &[])?;
        let heads = self.heads.fixed()?;
        let change = match (self.hide, self.undo) {
            (true, _) => Change::Hide,
            (_, true) => Change::Undo,
            _ => Change::Set(self.set.into_iter().map(|Setting { field, value }| (field, value)).collect()),
        };
        let note = Note { of: self.id, change, why: self.why };
        runtime::run_short(async {
            let config = Config { retry_for: self.retry_for, ..Config::following(heads.clone()) };
            let mut teller = Teller::new(global.quiet, &config, false);
            let found = record(&config, alone(note.of), &mut teller).await?;
            let Some(message) = found else {
                bail!("no record has the id {}; see its id with 'acopio read --format json'", note.of);
            };
            if is_note(&message) {
                bail!("{} is a note itself; name the record that it is of, with --undo to take it back", note.of);
            }
            if let Some(wrong) = no_number(&message, &note.change) {
                bail!("{wrong}");
            }
            if let Some(new) = new_fields(&message, &note.change) {
                say(&new);
            }
            let mut client =
                Client::new(client::Config { retry_for: self.retry_for, ..client::Config::following(heads) });
            let source = NOTES.parse().context("the name of notes is none")?;
            let kept = client.store_as(source, note.to_payload().into()).await?;
            print::out("what is noted", &format!("{}\nnoted as {}\n", in_words(&message, note), kept.first))?;
            Ok(Outcome::Done)
        })
    }
}

/// What is wrong with a note that puts a text where the record has a number.
fn no_number(message: &Message, change: &Change) -> Option<String> {
    let Change::Set(settings) = change else { return None };
    let reading = Reading::of(message, &Rules::default());
    settings.iter().find_map(|(name, text)| {
        let is_number = reading.number(name).is_some() && matches!(value_of(text), Value::Text(_));
        is_number.then(|| format!("{name} is a number in this record, and {text:?} is none; write one such as 21.6"))
    })
}

/// What is said of fields that the record does not have: a name that is written wrong corrects nothing.
fn new_fields(message: &Message, change: &Change) -> Option<String> {
    let Change::Set(settings) = change else { return None };
    let reading = Reading::of(message, &Rules::default());
    let is_new = |name: &str| reading.fields.iter().all(|field| field.name != name);
    let new: Vec<&str> = settings.iter().map(|(name, _)| name.as_str()).filter(|name| is_new(name)).collect();
    (!new.is_empty()).then(|| {
        let has = fields(&reading);
        format!(
            "read without --rules the record has no field {}, and gets it: it says {has}; --undo takes the note back",
            new.join(", ")
        )
    })
}

/// What a record said, and what it says with the note.
fn in_words(message: &Message, note: Note) -> String {
    let before = Reading::of(message, &Rules::default());
    let (mut after, mut notes) = (before.clone(), Notes::default());
    notes.add(note);
    notes.heed(message.id, &mut after);
    let source = message.source.map_or_else(|| "(no name)".to_owned(), |source| source.to_string());
    format!("{source} at {}: {} now says {}", UnixNs(message.id.time_ns), fields(&before), fields(&after))
}

fn fields(reading: &Reading) -> String {
    let words = reading.fields.iter().map(|Field { name, value, unit, .. }| {
        let value = match value {
            Value::Number(number) => number.to_string(),
            Value::Text(text) => text.clone(),
        };
        format!("{name}={value}{}", unit.as_deref().unwrap_or_default())
    });
    let words: Vec<String> = words.collect();
    if words.is_empty() { "nothing".to_owned() } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_has_a_field_and_a_value_and_a_reason_is_a_line() {
        assert_eq!(setting("temp=21.6"), Ok(Setting { field: "temp".to_owned(), value: "21.6".to_owned() }));
        assert!(setting("estado=apagado").is_ok() && setting("temp=21,6 C").is_ok());
        for text in ["", "temp", "=21", "temp=", "temp=NaN", "temp=inf", "temp=-Infinity", "temp=1e999"] {
            assert!(setting(text).is_err(), "{text}");
        }
        assert!(why("unplugged").is_ok() && why(" ").is_err() && why(&"x".repeat(1001)).is_err());
    }
}
