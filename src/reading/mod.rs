//! Numbers and times out of payloads: what a record says, read when it is asked for and never stored.
//!
//! A cluster keeps the bytes that a device sent. [`Reading::new`] is a pure function from them to a time, a counter, and
//! fields with names, numbers and units. It understands JSON, `key=value`, `name value`, CSV, bare numbers and what is
//! printed by people (`Temperature: 21.40 °C`) without any settings; what it can't guess, [`Rules`] say: a file
//! `campos.txt` with a line for each device. A wrong rule is mended and the same records are read again.
//!
//! ```
//! use acopio::reading::{Reading, Rules, UnixNs, Value};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (esp7, taken) = ("esp7".parse()?, UnixNs(1_795_234_260_000_000_000));
//! let reading = Reading::new(Some(esp7), b"temp=21.4C,hum=40% 1795234259", taken, &Rules::default());
//! assert_eq!(reading.number("temp"), Some(21.4));
//! assert_eq!(reading.fields[0].unit.as_deref(), Some("C"));
//! assert_eq!(reading.time(), UnixNs(1_795_234_259_000_000_000));
//!
//! let (rules, wrong) = Rules::parse("esp7: temp °C 5..45");
//! assert!(wrong.is_empty());
//! let reading = Reading::new(Some(esp7), b"85.0", taken, &rules);
//! assert_eq!(reading.fields[0].value, Value::Number(85.0));
//! assert!(reading.fields[0].is_out);
//! # Ok(())
//! # }
//! ```
//!
//! # What is what
//!
//! | payload | fields |
//! |---|---|
//! | `{"DS18B20":{"Temperature":21.4}}` | `DS18B20.Temperature` 21.4 |
//! | `{"t":[1,2]}` | `t.0` 1, `t.1` 2 |
//! | `temp=21.4C hum=40%` | `temp` 21.4 C, `hum` 40 % |
//! | `numero random: 42` | `numero random` 42 |
//! | `temp 21.4 hum 40` | `temp` 21.4, `hum` 40 |
//! | `21.4` | `value` 21.4 |
//! | `21.4;40` | `c1` 21.4, `c2` 40 |
//! | `ON` | `value` the text ON |
//! | `hola mundo` | none |
//!
//! - **Numbers** are ASCII digits with a point, or a comma if it is not one of several (`21,4`), and an exponent. `1e999`, `NaN`, `inf`,
//!   `0x1F`, `1_000`, `٣`, `1,234.5` and `08:15` stay text. No value is infinite. `true` is 1, `false` is 0, `null` is no field.
//!   Numbers are of 64 bits: a whole one beyond 2^53 loses its last digits, but for [`Reading::counter`].
//! - **`21,4` alone** is 21.4. Two columns of whole numbers need a rule, or another separator than a comma.
//! - **Device time** is in a key `ts`, `t`, `time`, `timestamp` or `hora`, or the first or last word: RFC 3339 (UTC, if it has no
//!   offset), or Unix time in s, ms, µs or ns by its size. One that is more than 400 days before or a day after the record's is
//!   ignored: [`Reading::time_ignored`] says so, and the field stays. A number below 100,000,000 under `t` is a value.
//! - **A stamp**, `@2026-11-21T04:11:00.250Z ` in front of everything, is the time at which `acopio collect` read the line. It is
//!   the device time where the rest says none, and changes nothing else.
//! - **The counter** is in a key `n`, `seq`, `sequence`, `counter`, `contador`, `cnt` or `fcnt`; it stays a field, too.
//! - **A name that comes twice** in a payload is two fields; [`Reading::field`] gives the first.
//! - **What is too long** is not looked at: [`Reading::is_cut`] says so. The bounds are in [`limits`](crate::limits).
//!
//! Not here: reading records from a cluster, which is [`client::reader`](crate::client::reader).

mod guess;
mod json;
#[cfg(feature = "server")]
pub(crate) mod notes;
mod number;
mod pairs;
mod pattern;
mod rules;
pub(crate) mod stamp;
#[cfg(test)]
mod tests;
pub(crate) mod time;
mod words;

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use rules::{RuleError, Rules, WrongRule};

use crate::client::reader::Message;
use crate::limits::{READING_BYTES_MAX, READING_FIELDS_MAX, READING_NAME_BYTES_MAX};
use crate::wire::source::SourceName;
use guess::Pair;

/// A time in nanoseconds since 1970, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixNs(pub u64);

impl From<UnixNs> for SystemTime {
    fn from(time: UnixNs) -> Self {
        UNIX_EPOCH + Duration::from_nanos(time.0)
    }
}

/// RFC 3339, in UTC.
impl fmt::Display for UnixNs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&time::show(*self))
    }
}

/// What a field says.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number; it is never infinite, and always one.
    Number(f64),
    /// Anything else.
    Text(String),
}

/// One value of a payload.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// What it says.
    pub value: Value,
    /// Its unit, as the payload or the rule writes it.
    pub unit: Option<String>,
    /// It lies outside of the range that its rule gives.
    pub is_out: bool,
}

/// What a record says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Who sent it, if the record says so.
    pub source: Option<SourceName>,
    /// When a head took it.
    pub taken: UnixNs,
    /// When its device says that it was.
    pub device_time: Option<UnixNs>,
    /// Its device says a time that cannot be: it is ignored.
    pub time_ignored: bool,
    /// The device's own number for it.
    pub counter: Option<u64>,
    /// Its values, in the payload's order.
    pub fields: Vec<Field>,
    /// There was more than is read: the payload is longer, or has more fields, than the bounds.
    pub is_cut: bool,
}

/// Names of the device's time, in any case.
const TIMES: [&str; 5] = ["ts", "t", "time", "timestamp", "hora"];

/// Those under which a small number is a bad clock, and not a value.
const CLOCKS: [&str; 2] = ["ts", "timestamp"];

/// Names of the device's counter.
const COUNTERS: [&str; 7] = ["n", "seq", "sequence", "counter", "contador", "cnt", "fcnt"];

impl Reading {
    /// Reads a payload: pure, and never a panic whatever the bytes are.
    #[must_use]
    pub fn new(source: Option<SourceName>, payload: &[u8], taken: UnixNs, rules: &Rules) -> Self {
        let mut reading = Self { source, taken, ..Self::default() };
        if payload.len() > READING_BYTES_MAX {
            reading.is_cut = true;
            return reading;
        }
        let (stamp, payload) = stamp::split(payload);
        let text = String::from_utf8_lossy(payload);
        let text = guess::clean(&text);
        let rules = rules.of(source.as_ref().map(SourceName::as_str));
        let mut guess = rules.apply(text).unwrap_or_else(|| guess::guess(text, taken));
        if let Some(pairs) = rules.columns(text, &guess) {
            guess = guess::Guess { pairs, said: None, is_named: false };
        }
        reading.set_time(guess.said);
        guess.pairs.into_iter().for_each(|pair| reading.add(pair));
        // The device's own time counts before the time at which it was read.
        reading.device_time = reading.device_time.or_else(|| stamp.and_then(|said| said.of(taken)));
        rules.annotate(&mut reading.fields);
        reading
    }

    /// Reads a message that a cluster keeps.
    #[must_use]
    pub fn of(message: &Message, rules: &Rules) -> Self {
        Self::new(message.source, &message.payload, UnixNs(message.id.time_ns), rules)
    }

    /// The device's time where it says one that can be, else the time at which a head took it.
    #[must_use]
    pub fn time(&self) -> UnixNs {
        self.device_time.unwrap_or(self.taken)
    }

    /// The first field of this name; upper and lower case are the same.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name))
    }

    /// The number of the first field of this name.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<f64> {
        self.field(name).and_then(Field::number)
    }

    /// Whether a time was said that is the device's.
    fn set_time(&mut self, said: Option<time::Said>) -> bool {
        let Some(said) = said else { return false };
        let time = said.of(self.taken);
        self.time_ignored |= time.is_none();
        let is_first = time.is_some() && self.device_time.is_none();
        self.device_time = self.device_time.or(time);
        is_first
    }

    fn add(&mut self, Pair { name, text }: Pair) {
        if self.fields.len() >= READING_FIELDS_MAX || name.len() > READING_NAME_BYTES_MAX {
            self.is_cut = true;
            return;
        }
        let is_one_of = |names: &[&str]| names.iter().any(|known| name.eq_ignore_ascii_case(known));
        if is_one_of(&TIMES) {
            let said = time::rfc3339(&text).or_else(|| time::said_unix(&text));
            if self.set_time(said) {
                return;
            }
            self.time_ignored |= said.is_none() && is_one_of(&CLOCKS) && number::is_number(&text);
        }
        if self.counter.is_none() && is_one_of(&COUNTERS) {
            self.counter = text.parse().ok();
        }
        let name = if name.is_empty() { "value".to_owned() } else { name };
        let (value, unit) = number::value(&text);
        self.fields.push(Field { name, value, unit, is_out: false });
    }
}

/// What a text says where a field's value stands.
#[cfg(feature = "server")]
pub(crate) fn value_of(text: &str) -> Value {
    number::value(text).0
}

impl Field {
    /// Its number, if it is one.
    #[must_use]
    pub const fn number(&self) -> Option<f64> {
        match self.value {
            Value::Number(number) => Some(number),
            Value::Text(_) => None,
        }
    }
}
