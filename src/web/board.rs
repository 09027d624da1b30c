//! What each source said last, and its last hour in minutes: for the page and the list of sources. Pure; times are handed
//! in. Last values are as they were sent: corrections are heeded where a curve is read.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::json;

use super::dato::cut;
use crate::client::reader::Message;
use crate::limits;
use crate::reading::{Field, Reading, Rules, UnixNs, Value};
use crate::wire::id::RecordId;
use crate::wire::source::SourceName;

const MINUTE_NS: u64 = 60_000_000_000;

/// All sources that were heard of in the last hour, and what they said; records without a source are one of them.
#[derive(Debug)]
pub(crate) struct Board {
    rules: Rules,
    sources: Mutex<BTreeMap<Option<SourceName>, Heard>>,
}

/// What was heard of one source.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    /// Its last record.
    pub(crate) last: RecordId,
    /// The beginning of its payload.
    pub(crate) text: String,
    /// What that says.
    pub(crate) fields: Vec<Said>,
    /// The means of the first number of its messages, the oldest first.
    minutes: VecDeque<Minute>,
}

/// A field as programs get it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Said {
    pub(crate) name: String,
    pub(crate) value: serde_json::Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<String>,
    /// It lies outside of the range that its rule gives.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) out: bool,
}

#[derive(Clone, Copy, Debug)]
struct Minute {
    number: u64,
    mean: f64,
    count: f64,
}

impl From<&Field> for Said {
    fn from(field: &Field) -> Self {
        let value = match &field.value {
            Value::Number(number) => (*number).into(),
            Value::Text(text) => cut(text, limits::WEB_SOURCE_TEXT_BYTES_MAX).into(),
        };
        Self { name: field.name.clone(), value, unit: field.unit.clone(), out: field.is_out }
    }
}

/// The first fields of a reading.
pub(crate) fn said(reading: &Reading) -> Vec<Said> {
    reading.fields.iter().take(limits::WEB_SOURCE_FIELDS_MAX).map(Said::from).collect()
}

impl Board {
    /// None heard yet; these rules say what payloads mean.
    pub(crate) const fn new(rules: Rules) -> Self {
        Self { rules, sources: Mutex::new(BTreeMap::new()) }
    }

    /// What a message says.
    pub(crate) fn read(&self, message: &Message) -> Reading {
        Reading::of(message, &self.rules)
    }

    /// What the last message of a source says that was not heard here.
    pub(crate) fn fields(&self, source: Option<SourceName>, payload: &[u8], taken: UnixNs) -> Vec<Said> {
        said(&Reading::new(source, payload, taken, &self.rules))
    }

    /// Takes a message, and what it says.
    pub(crate) fn hear(&self, message: &Message, reading: &Reading) {
        if message.source.as_ref().is_some_and(SourceName::is_of_notes) {
            return;
        }
        let mut sources = self.lock();
        if !sources.contains_key(&message.source) && sources.len() >= limits::WEB_SOURCES_MAX {
            let quietest = sources.iter().min_by_key(|(_, heard)| heard.last).map(|(name, _)| *name);
            quietest.map(|name| sources.remove(&name));
        }
        let heard = sources.entry(message.source).or_insert_with(Heard::new);
        if message.id >= heard.last {
            heard.last = message.id;
            heard.text = cut(message.text(), limits::WEB_SOURCE_TEXT_BYTES_MAX).to_owned();
            heard.fields = said(reading);
        }
        if let Some(number) = reading.fields.iter().find_map(Field::number) {
            heard.count(UnixNs(message.id.time_ns), number);
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> BTreeMap<Option<SourceName>, Heard> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Option<SourceName>, Heard>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    fn new() -> Self {
        Self { last: RecordId::ZERO, text: String::new(), fields: Vec::new(), minutes: VecDeque::new() }
    }

    fn count(&mut self, time: UnixNs, number: f64) {
        let minute = time.0 / MINUTE_NS;
        let at = self.minutes.partition_point(|known| known.number < minute);
        match self.minutes.get_mut(at).filter(|known| known.number == minute) {
            Some(known) => {
                known.count += 1.0;
                known.mean += number / known.count - known.mean / known.count;
            }
            None => self.minutes.insert(at, Minute { number: minute, mean: number, count: 1.0 }),
        }
        while self.minutes.len() > limits::WEB_SPARK_MINUTES {
            self.minutes.pop_front();
        }
    }

    /// The small curve that ends now: a mean for each minute, nothing where there is none.
    pub(crate) fn spark(&self, now: UnixNs) -> serde_json::Value {
        let end = now.0 / MINUTE_NS + 1;
        let from = end.saturating_sub(limits::WEB_SPARK_MINUTES as u64);
        let mean = |number| self.minutes.iter().find(|minute| minute.number == number).map(|minute| minute.mean);
        let means: Vec<Option<f64>> = (from..end).map(mean).collect();
        json!({ "from_ms": from * MINUTE_NS / 1_000_000, "every_s": 60, "means": means })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::ClientId;
    use crate::wire::ledger::Place;
    use crate::wire::record::{self, Fields};

    fn hear(board: &Board, source: &str, second: u64, payload: &[u8]) {
        let mut line = Vec::new();
        let id = RecordId { time_ns: (1_795_234_260 + second) * 1_000_000_000, incarnation: 7 };
        let place = Some(Place { number: 0, entry: 0 });
        let fields = Fields { id, client: ClientId(5), seq: 3, place, source: source.parse().ok() };
        record::encode(&mut line, fields, payload).unwrap();
        let message = Message::decode(line.into()).unwrap();
        board.hear(&message, &board.read(&message));
    }

    #[test]
    fn the_last_message_and_the_minutes_of_a_source_are_known() {
        let (rules, _) = Rules::parse("esp7: temp °C 5..45");
        let board = Board::new(rules);
        for (second, payload) in [(0, &b"20"[..]), (130, b"85"), (10, b"22"), (70, b"hola mundo")] {
            hear(&board, "esp7", second, payload);
        }
        hear(&board, "", 5, b"\x1b[2J<script>");
        let all = board.all();
        let esp7 = &all[&"esp7".parse().ok()];
        assert_eq!((esp7.text.as_str(), esp7.fields.len()), ("85", 1), "the last by its id, not by its coming");
        assert_eq!(
            serde_json::to_value(&esp7.fields[0]).unwrap(),
            json!({"name": "temp", "value": 85.0, "unit": "°C", "out": true})
        );
        let spark = esp7.spark(UnixNs((1_795_234_260 + 179) * 1_000_000_000));
        let means = spark["means"].as_array().unwrap();
        assert_eq!(means.len(), limits::WEB_SPARK_MINUTES);
        assert_eq!(means[57..], [json!(21.0), json!(null), json!(85.0)], "a gap stays open");
        assert_eq!(all[&None].text, "\\x1b[2J<script>", "what could move a cursor is written out");
    }

    #[test]
    fn the_board_is_bounded() {
        let board = Board::new(Rules::default());
        for n in 0..limits::WEB_SOURCES_MAX as u64 + 10 {
            hear(&board, &format!("d{n}"), n, b"1");
        }
        let all = board.all();
        assert_eq!(all.len(), limits::WEB_SOURCES_MAX);
        assert!(!all.contains_key(&"d0".parse().ok()), "those that spoke longest ago go");
        for minute in 0..200 {
            hear(&board, "d50", 60 * minute, b"1");
        }
        assert_eq!(board.all()[&"d50".parse().ok()].minutes.len(), limits::WEB_SPARK_MINUTES);
    }
}
