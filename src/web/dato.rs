//! A value as it goes over HTTP, into a record and onto a page: text to number and back, without I/O.
//!
//! The record of a value is the text `dato: 83.0`. A text client that sends such a line stores a value, too.

use std::fmt;

use crate::client::reader::Message;
use crate::limits;
use crate::wire::id::{ClientId, RecordId};
use crate::wire::text::MENSAJE_PREFIX;

/// What the record of a value begins with.
const PREFIX: &str = "dato: ";

/// A finite number. It is shown as short as it can be read back: `81`, `83.33333333333333`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Dato(f64);

/// Text that is no finite number.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadDato {
    /// There is none.
    #[error("no number was given; ask for /nuevo?dato=83.0")]
    Missing,
    /// There are several.
    #[error("dato is given more than once; ask for /nuevo?dato=83.0")]
    Several,
    /// The JSON it should be in is something else.
    #[error("{cause}; send JSON such as {{\"{name}\": 83.0}}")]
    NoJson {
        /// What the number is called there.
        name: String,
        /// What is wrong.
        cause: String,
    },
    /// It is not a number.
    #[error("{0:?} is no number; write digits with a point, such as 83.0")]
    NoNumber(String),
    /// It is not a finite one.
    #[error("{0:?} is no finite number; write one such as 83.0")]
    NotFinite(String),
}

impl Dato {
    /// This number, if it is finite.
    #[must_use]
    pub(crate) fn new(number: f64) -> Option<Self> {
        number.is_finite().then_some(Self(number))
    }

    /// Reads a number.
    ///
    /// # Errors
    /// It is none, or not a finite one.
    pub(crate) fn parse(text: &str) -> Result<Self, BadDato> {
        let text = text.trim();
        if text.is_empty() {
            return Err(BadDato::Missing);
        }
        let shown = || cut(text, limits::WEB_TEXT_BYTES_MAX).to_owned();
        if text.len() > limits::WEB_NUMBER_BYTES_MAX {
            return Err(BadDato::NoNumber(shown()));
        }
        let number = text.parse().map_err(|_| BadDato::NoNumber(shown()))?;
        Self::new(number).ok_or_else(|| BadDato::NotFinite(shown()))
    }

    /// The value among the fields of a query or of a form.
    ///
    /// # Errors
    /// It is missing, there several times, or no number.
    pub(crate) fn of_fields(fields: &str) -> Result<Self, BadDato> {
        let mut found = form_urlencoded::parse(fields.as_bytes()).filter(|(name, _)| name == "dato");
        let (_, text) = found.next().ok_or(BadDato::Missing)?;
        if found.next().is_some() {
            return Err(BadDato::Several);
        }
        Self::parse(&text)
    }

    /// The value in a body: as JSON, as a form, or the bare number.
    ///
    /// # Errors
    /// It is missing, there several times, or no number.
    pub(crate) fn of_body(body: &[u8], is_json: bool) -> Result<Self, BadDato> {
        if is_json {
            return Self::of_json(body, "dato");
        }
        let text = String::from_utf8_lossy(body);
        if text.contains('=') { Self::of_fields(text.trim()) } else { Self::parse(&text) }
    }

    /// The value under this name in a JSON object; the number may be a string.
    ///
    /// # Errors
    /// It is missing, or no number.
    pub(crate) fn of_json(body: &[u8], name: &str) -> Result<Self, BadDato> {
        let shown = |text: &str| cut(text, limits::WEB_TEXT_BYTES_MAX).to_owned();
        let object: serde_json::Value = serde_json::from_slice(body)
            .map_err(|error| BadDato::NoJson { name: name.to_owned(), cause: error.to_string() })?;
        match object.get(name) {
            None => Err(BadDato::NoJson { name: name.to_owned(), cause: format!("it has no {name}") }),
            Some(serde_json::Value::String(text)) => Self::parse(text),
            Some(found) => {
                let number = found.as_f64().ok_or_else(|| BadDato::NoNumber(shown(&found.to_string())))?;
                Self::new(number).ok_or_else(|| BadDato::NotFinite(shown(&found.to_string())))
            }
        }
    }

    /// The number.
    #[must_use]
    pub(crate) const fn number(self) -> f64 {
        self.0
    }

    /// The text of its record.
    #[must_use]
    pub(crate) fn record(self) -> String {
        format!("{PREFIX}{:?}", self.0)
    }
}

impl fmt::Display for Dato {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:?}", self.0);
        f.write_str(text.strip_suffix(".0").unwrap_or(&text))
    }
}

/// A stored value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Value {
    /// Its record, and so its time.
    pub(crate) id: RecordId,
    /// Who stored it, and under which number.
    pub(crate) from: (ClientId, u64),
    /// The number; or the beginning of what stands in its place.
    pub(crate) dato: Result<Dato, String>,
}

impl Value {
    /// The value in a message; none if the message is something else.
    #[must_use]
    pub(crate) fn of(message: &Message) -> Option<Self> {
        let text = message.text();
        let text = text.strip_prefix(MENSAJE_PREFIX).unwrap_or(text).strip_prefix(PREFIX)?;
        let dato = Dato::parse(text).map_err(|_| cut(text, limits::WEB_TEXT_BYTES_MAX).to_owned());
        Some(Self { id: message.id, from: (message.client, message.seq), dato })
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub(crate) const fn time_ms(&self) -> u64 {
        self.id.time_ns / 1_000_000
    }
}

/// The beginning of a text, of so many bytes or a few less.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::record;

    fn stored(payload: &[u8]) -> Option<Value> {
        let mut line = Vec::new();
        let id = RecordId { time_ns: 1_795_234_260_000_000_001, incarnation: 7 };
        let fields = record::Fields { id, client: ClientId(5), seq: 3, place: None, source: None };
        record::encode(&mut line, fields, payload).unwrap();
        Value::of(&Message::decode(line.into()).unwrap())
    }

    #[test]
    fn numbers_are_read_and_everything_else_is_told_apart() {
        for (text, wanted) in [("83.0", 83.0), (" 81 ", 81.0), ("-1e3", -1000.0), (".5", 0.5), ("+7", 7.0)] {
            assert_eq!(Dato::parse(text), Ok(Dato(wanted)), "{text}");
        }
        for text in ["nan", "inf", "-Infinity", "1e999"] {
            assert!(matches!(Dato::parse(text), Err(BadDato::NotFinite(_))), "{text}");
        }
        for text in ["83,5", "ochenta", "1_000", "<b>", "8 3", "0x10", &"1".repeat(65)] {
            assert!(matches!(Dato::parse(text), Err(BadDato::NoNumber(_))), "{text}");
        }
        assert_eq!(Dato::parse(" \t"), Err(BadDato::Missing));
    }

    #[test]
    fn a_query_has_one_value() {
        assert_eq!(Dato::of_fields("dato=83.0"), Ok(Dato(83.0)));
        assert_eq!(Dato::of_fields("x=1&dato=%2B8%2e5&y"), Ok(Dato(8.5)));
        assert_eq!(Dato::of_fields("dato=+7"), Ok(Dato(7.0)), "a plus sign is a space there");
        assert_eq!(Dato::of_fields("dato="), Err(BadDato::Missing));
        assert_eq!(Dato::of_fields("Dato=1"), Err(BadDato::Missing));
        assert_eq!(Dato::of_fields("dato=1&dato=2"), Err(BadDato::Several));
        assert!(matches!(Dato::of_fields("dato=%ff%00"), Err(BadDato::NoNumber(_))));
    }

    #[test]
    fn a_body_is_a_form_a_bare_number_or_json() {
        for body in [&b"dato=83.0\n"[..], b"83", b" 83.0\r\n"] {
            assert_eq!(Dato::of_body(body, false), Ok(Dato(83.0)), "{body:?}");
        }
        for body in [&br#"{"dato": 83.0}"#[..], br#"{"dato": "83"}"#, br#"{"dato": 83, "x": []}"#] {
            assert_eq!(Dato::of_body(body, true), Ok(Dato(83.0)), "{body:?}");
        }
        for body in [&b"{"[..], b"83", b"[]", br#"{"Dato": 1}"#, b"\xff", b""] {
            let error = Dato::of_body(body, true).unwrap_err();
            assert!(error.to_string().ends_with(r#"; send JSON such as {"dato": 83.0}"#), "{error}");
        }
        for body in [&br#"{"dato": null}"#[..], br#"{"dato": [1]}"#, br#"{"dato": "x"}"#, br#"{"dato": true}"#] {
            assert!(matches!(Dato::of_body(body, true), Err(BadDato::NoNumber(_))), "{body:?}");
        }
        assert_eq!(Dato::of_body(b"", false), Err(BadDato::Missing));
        assert!(Dato::of_body(b"\xff\x00", false).is_err() && Dato::of_body(br#"{"dato": 1e999}"#, true).is_err());
    }

    #[test]
    fn a_number_is_shown_as_the_original_does() {
        for (number, shown, record) in [
            (81.0, "81", "dato: 81.0"),
            (250.0 / 3.0, "83.33333333333333", "dato: 83.33333333333333"),
            (1e300, "1e300", "dato: 1e300"),
            (-0.5, "-0.5", "dato: -0.5"),
        ] {
            let dato = Dato::new(number).unwrap();
            assert_eq!((dato.to_string().as_str(), dato.record().as_str()), (shown, record));
            assert_eq!(stored(record.as_bytes()).unwrap().dato, Ok(dato), "it is read back");
        }
    }

    #[test]
    fn a_record_is_a_value_if_it_says_so() {
        assert_eq!(stored(b"mensaje: dato: 21.5").unwrap().dato, Ok(Dato(21.5)), "from a text client");
        assert_eq!(stored(b"dato: <script>\n\xff").unwrap().dato, Err("<script>\\n\\xff".to_owned()));
        assert_eq!(stored(format!("dato: {}", "ñ".repeat(500)).as_bytes()).unwrap().dato, Err("ñ".repeat(32)));
        for other in [&b"mensaje: numero random: 42"[..], b"dato", b"", b"dato:1", b"mensaje: mensaje: dato: 1"] {
            assert_eq!(stored(other), None, "{other:?}");
        }
    }
}
