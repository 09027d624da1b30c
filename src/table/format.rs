//! How a message is printed: for people, for programs, as it was sent, or as it stands in `data.txt`.

use std::io::Write as _;

use crate::client::reader::Message;
use crate::printable;
use serde::Serialize;

use super::moment::Zone;
use crate::reading::UnixNs;

/// How messages are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// Time, source if it has one, and payload, one line each; what could move a cursor or hide is escaped
    #[default]
    Text,
    /// An object a line: id, time, client, seq, ledger, source if it has one, and text or, where it is no UTF-8, base64;
    /// reused where another message had the number before
    Json,
    /// RFC 4180 with a header: id, time, client, seq, ledger, source, text, base64, or the fields; an apostrophe before what
    /// is a formula to a spreadsheet
    Csv,
    /// The bytes as they were sent, and a newline
    Raw,
    /// The line of data.txt, with its checksum
    Line,
    /// The fields in InfluxDB's line protocol
    Influx,
    /// A Parquet file of the messages or their fields
    #[cfg(feature = "parquet")]
    Parquet,
}

/// What a message is, field by field.
#[derive(Serialize)]
pub(crate) struct Object<'a> {
    pub(crate) id: String,
    pub(crate) time: String,
    pub(crate) client: String,
    pub(crate) seq: u64,
    /// Its ledger and its entry in it; empty for records of format 1.
    pub(crate) ledger: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    /// Said only where it is so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) reused: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) base64: Option<String>,
}

impl<'a> Object<'a> {
    pub(crate) fn new(message: &'a Message, zone: &Zone) -> Self {
        let text = std::str::from_utf8(&message.payload).ok();
        Self {
            id: message.id.to_string(),
            time: zone.show(UnixNs(message.id.time_ns), 6),
            client: message.client.to_string(),
            seq: message.seq,
            ledger: message.place(),
            source: message.source.map(|source| source.to_string()),
            reused: message.reused,
            text,
            base64: text.is_none().then(|| base64(&message.payload)),
        }
    }
}

impl Format {
    /// All of them.
    pub(crate) const ALL: &'static [Self] = &[
        Self::Text,
        Self::Json,
        Self::Csv,
        Self::Raw,
        Self::Line,
        Self::Influx,
        #[cfg(feature = "parquet")]
        Self::Parquet,
    ];

    /// The word for it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Raw => "raw",
            Self::Line => "line",
            Self::Influx => "influx",
            #[cfg(feature = "parquet")]
            Self::Parquet => "parquet",
        }
    }

    /// Appends a message, as a line of its own. What has columns is written elsewhere.
    ///
    /// # Errors
    /// None that is known of: memory takes every byte.
    pub(crate) fn write(self, out: &mut Vec<u8>, message: &Message, zone: &Zone) -> std::io::Result<()> {
        match self {
            Self::Line => out.write_all(&message.line),
            Self::Raw => {
                out.extend_from_slice(&message.payload);
                out.write_all(b"\n")
            }
            Self::Json => {
                let json = serde_json::to_string(&Object::new(message, zone))?;
                writeln!(out, "{}", printable::visible_json(&json))
            }
            _ => {
                write!(out, "{} ", zone.show(UnixNs(message.id.time_ns), 6))?;
                if let Some(source) = message.source {
                    write!(out, "{source}: ")?;
                }
                writeln!(out, "{}", printable::visible(message.text()))
            }
        }
    }
}

/// Base 64 of RFC 4648, with its padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: [char; 64] = {
        let mut digits = ['='; 64];
        let text = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut k = 0;
        #[allow(clippy::indexing_slicing, reason = "evaluated by the compiler, which refuses an index out of bounds")]
        while k < 64 {
            digits[k] = text[k] as char;
            k += 1;
        }
        digits
    };
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |k: usize| u32::from(chunk.get(k).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for k in 0..4_usize {
            let digit = DIGITS.get((bits >> (18 - 6 * k) & 63) as usize).filter(|_| k <= chunk.len());
            text.push(digit.copied().unwrap_or('='));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::shape::{Shape, Wanted};
    use crate::wire::id::{ClientId, RecordId};
    use crate::wire::ledger::Place;
    use crate::wire::record::{self, Fields};

    const PLACE: Place = Place { number: 1, entry: 64 };

    fn written(format: Format, place: Option<Place>, payload: &[u8]) -> String {
        let id = RecordId { time_ns: 1_795_234_260_123_456_789, incarnation: 7 };
        let (mut line, mut out) = (Vec::new(), Vec::new());
        record::encode(&mut line, Fields { id, client: ClientId(5), seq: 70, place, source: None }, payload).unwrap();
        let rules = crate::reading::Rules::default();
        let mut shape = Shape::new(Wanted { format, rules, ..Wanted::default() }).unwrap();
        shape.header(&mut out);
        shape.message(&mut out, &Message::decode(line.into()).unwrap()).unwrap();
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn a_message_is_printed_in_every_format() {
        let all = |payload: &[u8]| {
            [Format::Text, Format::Json, Format::Csv, Format::Raw, Format::Line]
                .map(|format| written(format, Some(PLACE), payload))
        };
        let [text, json, csv, raw, line] = &all(b"x,\"y\"\n");
        assert_eq!(text, "2026-11-21T04:11:00.123456Z x,\"y\"\\n\n");
        let fields = r#""time":"2026-11-21T04:11:00.123456Z","client":"---------4","seq":70,"ledger":"----6.0.0-""#;
        assert_eq!(json, &format!("{{\"id\":\"{}\",{fields},\"text\":\"x,\\\"y\\\"\\n\"}}\n", &line[..20]));
        assert_eq!(
            csv,
            &format!(
                "id,time,client,seq,ledger,source,text,base64\r\n\
                 {},2026-11-21T04:11:00.123456Z,'---------4,70,'----6.0.0-,,\"x,\"\"y\"\"\n\",\r\n",
                &line[..20]
            )
        );
        assert_eq!(raw, "x,\"y\"\n\n");
        assert!(line.ends_with(" x,\"y\"\\n\n") && line.contains(":0.0- "), "{line}");
    }

    #[test]
    fn the_source_is_printed_where_there_is_one() {
        let (mut line, id) = (Vec::new(), RecordId { time_ns: 1_795_234_260_123_456_789, incarnation: 7 });
        let source = "taller/esp7".parse().ok();
        let fields = Fields { id, client: ClientId(5), seq: 70, place: Some(PLACE), source };
        record::encode(&mut line, fields, b"21.4").unwrap();
        let message = Message::decode(line.into()).unwrap();
        let written = |format: Format| {
            let (mut out, mut shape) = (Vec::new(), Shape::new(Wanted { format, ..Wanted::default() }).unwrap());
            shape.message(&mut out, &message).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(Format::Text), "2026-11-21T04:11:00.123456Z taller/esp7: 21.4\n");
        assert!(written(Format::Json).contains(r#""ledger":"----6.0.0-","source":"taller/esp7","text":"21.4""#));
        assert!(written(Format::Csv).ends_with(",'----6.0.0-,taller/esp7,21.4,\r\n"));
        assert_eq!(written(Format::Raw), "21.4\n");
        assert!(written(Format::Influx).starts_with("acopio,source=taller/esp7 value=21.4 "));
    }

    #[test]
    fn no_cell_of_csv_is_a_formula() {
        let cell = |payload: &str| {
            let line = written(Format::Csv, None, payload.as_bytes());
            line.split_once(",70,,,").unwrap().1.trim_end_matches(",\r\n").to_owned()
        };
        for number in ["-5.2", "+3", "-1e9", "12", "-.5"] {
            assert_eq!(cell(number), number);
        }
        for formula in ["=1+1", "+1+1", "-2-3", "@SUM(A1)", "\t=1", "-", "+inf", "-nan", "--5"] {
            assert_eq!(cell(formula), format!("'{formula}"));
        }
        assert_eq!(cell("=cmd|' /C calc'!A0,\"x\""), "\"'=cmd|' /C calc'!A0,\"\"x\"\"\"");
        assert_eq!(cell("\r=1"), "\"'\r=1\"");
        // 0xfb is '+' in base 64.
        assert!(written(Format::Csv, None, b"\xfb").ends_with(",70,,,,'+w==\r\n"));
        assert!(written(Format::Json, None, b"=1+1").contains(r#""text":"=1+1""#), "as it is elsewhere");
    }

    #[test]
    fn what_deceives_the_eye_is_written_out_but_in_raw() {
        let payload = "a\u{202e}b\u{200b}\u{9b}2J";
        assert!(written(Format::Text, None, payload.as_bytes()).ends_with("Z a\\u{202e}b\\u{200b}\\xc2\\x9b2J\n"));
        let json = written(Format::Json, None, payload.as_bytes());
        assert!(json.ends_with("\"text\":\"a\\u202eb\\u200b\\u009b2J\"}\n"), "{json}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["text"], payload);
        assert_eq!(written(Format::Raw, None, payload.as_bytes()), format!("{payload}\n"));
    }

    #[test]
    fn what_is_no_text_is_base64() {
        assert!(written(Format::Json, None, b"\xff\x00").ends_with("\"ledger\":\"\",\"base64\":\"/wA=\"}\n"));
        assert!(written(Format::Csv, None, b"\xff").ends_with(",70,,,,/w==\r\n"));
        assert!(written(Format::Csv, None, b"hola").ends_with(",70,,,hola,\r\n"));
        for (bytes, wanted) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), wanted);
        }
    }
}
