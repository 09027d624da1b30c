//! What messages say, by the rules and with the corrections that were noted, for all commands that read numbers.

use crate::client::reader::{Message, Query};
use crate::reading::notes::{Heeded, Note, Notes};
use crate::reading::{Reading, Rules};
use crate::wire::id::RecordId;
use crate::wire::source::{NOTES, SourceName};

/// Reads messages.
#[derive(Debug, Default)]
pub(crate) struct Readings {
    rules: Rules,
    notes: Notes,
    hidden: u64,
    corrected: u64,
}

impl Readings {
    pub(crate) fn new(rules: Rules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// What to read for the corrections of what a query asks for: they come behind what they correct, so they are read
    /// first. A file without any is not touched.
    pub(crate) fn of_notes(query: &Query) -> Query {
        let sources = NOTES.parse().unwrap_or_default();
        Query { until: RecordId::MAX, client: None, sources, follow: false, ..query.clone() }
    }

    /// Takes a correction, if the message is one.
    pub(crate) fn take_note(&mut self, message: &Message) {
        if is_note(message)
            && let Some(note) = Note::parse(&message.payload)
        {
            self.notes.add(note);
        }
    }

    /// What a message says; nothing if it is a note, or hidden by one.
    pub(crate) fn read(&mut self, message: &Message) -> Option<Reading> {
        self.hear(message).filter(|(_, heeded)| *heeded != Heeded::Hidden).map(|(reading, _)| reading)
    }

    /// What a message says, for who wants to know that it came, too: a hidden one has no fields. Nothing if it is a note.
    pub(crate) fn hear(&mut self, message: &Message) -> Option<(Reading, Heeded)> {
        if is_note(message) {
            return None;
        }
        let mut reading = Reading::of(message, &self.rules);
        let heeded = self.notes.heed(message.id, &mut reading);
        match heeded {
            Heeded::AsItIs => {}
            Heeded::Corrected => self.corrected += 1,
            Heeded::Hidden => self.hidden += 1,
        }
        Some((reading, heeded))
    }

    /// What is to be said of corrections in the end.
    pub(crate) fn told(&self) -> Vec<String> {
        let seen = "; 'acopio read --grep \"^acopio note\"' shows why";
        let counts = [
            (self.hidden, format!("messages are left out, as notes say{seen}")),
            (self.corrected, format!("messages are corrected, as notes say{seen}")),
            (self.notes.beyond, "notes are too many and not heeded; name a shorter time".to_owned()),
        ];
        counts.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect()
    }
}

/// Whether a message was sent as a note.
pub(crate) fn is_note(message: &Message) -> bool {
    message.source.as_ref().is_some_and(SourceName::is_of_notes)
}
