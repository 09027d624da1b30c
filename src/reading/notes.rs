//! Corrections: a record that says of another one that it is wrong. Nothing is changed or deleted by it; who reads numbers
//! heeds it.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{Field, Reading, Value, number};
use crate::limits::NOTES_MAX;
use crate::wire::id::RecordId;

/// What the payload of a note begins with.
pub(crate) const WORDS: &str = "acopio note ";

/// What is said of a record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Note {
    /// The record.
    pub(crate) of: RecordId,
    pub(crate) change: Change,
    pub(crate) why: String,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Change {
    /// Its numbers do not count.
    Hide,
    /// These fields say something else: names and values, as they are written in payloads.
    Set(Vec<(String, String)>),
    /// What was said of it before does not hold.
    Undo,
}

#[derive(Serialize, Deserialize)]
struct Said {
    of: String,
    #[serde(flatten)]
    change: Change,
    why: String,
}

impl Note {
    /// The payload of its record.
    pub(crate) fn to_payload(&self) -> String {
        let said = Said { of: self.of.to_string(), change: self.change.clone(), why: self.why.clone() };
        format!("{WORDS}{}", serde_json::to_string(&said).unwrap_or_default())
    }

    /// What a payload says, if it is one of a note.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let said: Said = serde_json::from_slice(payload.strip_prefix(WORDS.as_bytes())?).ok()?;
        Some(Self { of: said.of.parse().ok()?, change: said.change, why: said.why })
    }
}

/// All notes of what is read: the last one of each record holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    by_record: HashMap<RecordId, Change>,
    /// Notes past the bound.
    pub(crate) beyond: u64,
}

/// What became of a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heeded {
    AsItIs,
    Hidden,
    Corrected,
}

impl Notes {
    /// Takes a note; they come in the order in which they were made.
    pub(crate) fn add(&mut self, note: Note) {
        if self.by_record.len() >= NOTES_MAX && !self.by_record.contains_key(&note.of) {
            self.beyond += 1;
        } else if note.change == Change::Undo {
            self.by_record.remove(&note.of);
        } else {
            self.by_record.insert(note.of, note.change);
        }
    }

    /// Heeds what is said of a record.
    pub(crate) fn heed(&self, id: RecordId, reading: &mut Reading) -> Heeded {
        match self.by_record.get(&id) {
            None | Some(Change::Undo) => Heeded::AsItIs,
            Some(Change::Hide) => {
                reading.fields.clear();
                Heeded::Hidden
            }
            Some(Change::Set(values)) => {
                for (name, text) in values {
                    set(reading, name, text);
                }
                Heeded::Corrected
            }
        }
    }
}

fn set(reading: &mut Reading, name: &str, text: &str) {
    let (value, unit): (Value, Option<String>) = number::value(text);
    match reading.fields.iter_mut().find(|field| field.name.eq_ignore_ascii_case(name)) {
        Some(field) => {
            field.value = value;
            field.is_out = false;
            field.unit = unit.or_else(|| field.unit.take());
        }
        None => reading.fields.push(Field { name: name.to_owned(), value, unit, is_out: false }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::{Rules, UnixNs};
    use proptest::prelude::*;

    fn id(n: u64) -> RecordId {
        RecordId { time_ns: n, incarnation: 7 }
    }

    fn note(of: u64, change: Change) -> Note {
        Note { of: id(of), change, why: "sensor unplugged".to_owned() }
    }

    #[test]
    fn the_last_note_of_a_record_holds() {
        let reading = || Reading::new(None, b"temp=85.0C hum=40", UnixNs(0), &Rules::default());
        let mut notes = Notes::default();
        notes.add(note(1, Change::Hide));
        notes.add(note(
            2,
            Change::Set(vec![("TEMP".to_owned(), "21,6".to_owned()), ("ok".to_owned(), "no".to_owned())]),
        ));
        notes.add(note(3, Change::Hide));
        notes.add(note(3, Change::Undo));
        let heeded = |n| {
            let mut reading = reading();
            (notes.heed(id(n), &mut reading), reading)
        };
        assert_eq!((heeded(1).0, heeded(1).1.fields.len()), (Heeded::Hidden, 0));
        let (two, corrected) = heeded(2);
        assert_eq!(
            (two, corrected.number("temp"), corrected.number("hum")),
            (Heeded::Corrected, Some(21.6), Some(40.0))
        );
        assert_eq!(corrected.fields[0].unit.as_deref(), Some("C"));
        assert_eq!(corrected.field("ok").unwrap().value, Value::Text("no".to_owned()));
        for n in [3, 4] {
            assert_eq!(heeded(n), (Heeded::AsItIs, reading()));
        }
    }

    proptest! {
        #[test]
        fn a_note_is_read_back(name in "\\PC{0,8}", text in "\\PC{0,8}", why in "\\PC{0,20}", n: u32, kind in 0..3) {
            let change = [Change::Hide, Change::Set(vec![(name, text)]), Change::Undo][kind as usize].clone();
            let note = Note { of: id(u64::from(n)), change, why };
            prop_assert_eq!(Note::parse(note.to_payload().as_bytes()), Some(note.clone()));
            prop_assert_eq!(Note::parse(&note.to_payload().as_bytes()[1..]), None);
        }

        #[test]
        fn nothing_makes_it_panic(payload in "acopio note \\PC{0,40}") {
            let _note = Note::parse(payload.as_bytes());
        }
    }
}
