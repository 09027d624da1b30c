//! Readings in InfluxDB's line protocol, which telegraf, QuestDB, VictoriaMetrics and others take: one line for each record.

use std::fmt::Write as _;

use crate::reading::{Field, Reading, Value};

/// What all lines are of.
const MEASUREMENT: &str = "acopio";

/// What the name of a text ends in.
const TEXT: &str = "_text";

/// Appends a line; `false` if the reading has none of these fields, of which all are wanted if none is named.
pub(crate) fn line(out: &mut Vec<u8>, reading: &Reading, wanted: &[String]) -> bool {
    let is_wanted =
        |field: &&Field| wanted.is_empty() || wanted.iter().any(|name| name.eq_ignore_ascii_case(&field.name));
    let mut members: Vec<(String, String)> = Vec::new();
    for field in reading.fields.iter().filter(is_wanted) {
        let name = key(&field.name, &field.value);
        // Of two fields of one name InfluxDB would take the last.
        if members.iter().all(|(known, _)| *known != name) {
            members.push((name, value(&field.value)));
        }
    }
    if members.is_empty() {
        return false;
    }
    let mut line = MEASUREMENT.to_owned();
    if let Some(source) = reading.source {
        // A name has no character that means anything here. Writing to a string does not fail.
        write!(line, ",source={source}").unwrap_or_default();
    }
    for (k, (name, value)) in members.iter().enumerate() {
        write!(line, "{}{name}={value}", if k == 0 { ' ' } else { ',' }).unwrap_or_default();
    }
    writeln!(line, " {}", reading.time().0).unwrap_or_default();
    out.extend_from_slice(line.as_bytes());
    true
}

/// The name of a field that has one type for ever, for a database refuses a number where it has seen text: who says `temp=21.4`
/// and then `temp=ERR` has two fields. `time` is not a field's there.
fn key(name: &str, value: &Value) -> String {
    let name = word(name);
    let is_of_texts = name.ends_with(TEXT);
    match value {
        Value::Text(_) => name + TEXT,
        Value::Number(_) if is_of_texts || name == "time" => name + "_number",
        Value::Number(_) => name,
    }
}

/// A name. What the protocol has no way to write (an end of line, a backslash, which escapes what
/// follows) becomes another character.
fn word(text: &str) -> String {
    let mut word = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ',' | '=' | ' ' => word.extend(['\\', c]),
            '\\' => word.push('/'),
            c if c.is_control() => word.push('_'),
            c => word.push(c),
        }
    }
    word
}

fn value(value: &Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        Value::Text(text) => {
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace(|c: char| c.is_control(), " ");
            format!("\"{escaped}\"")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::{Rules, UnixNs};
    use proptest::prelude::*;

    fn written(source: &str, payload: &str, wanted: &[&str]) -> String {
        let taken = UnixNs(1_795_234_260_000_000_001);
        let reading = Reading::new(source.parse().ok(), payload.as_bytes(), taken, &Rules::default());
        let wanted: Vec<String> = wanted.iter().map(|&name| name.to_owned()).collect();
        let mut out = Vec::new();
        let is_there = line(&mut out, &reading, &wanted);
        assert_eq!(is_there, !out.is_empty());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn names_and_values_are_escaped() {
        for (source, payload, wanted) in [
            ("esp7", "temp=21.5C hum=40", "acopio,source=esp7 temp=21.5,hum=40 1795234260000000001\n"),
            ("", "5", "acopio value=5 1795234260000000001\n"),
            ("x", "{\"a b,c=d\\\\\":5}", "acopio,source=x a\\ b\\,c\\=d/=5 1795234260000000001\n"),
            ("x", "{\"a b\":\"q\\\"\\\\\\n\"}", "acopio,source=x a\\ b_text=\"q\\\"\\\\\" 1795234260000000001\n"),
            ("x", "temp=ERR", "acopio,source=x temp_text=\"ERR\" 1795234260000000001\n"),
            ("x", "a_text=5 b_text=on", "acopio,source=x a_text_number=5,b_text_text=\"on\" 1795234260000000001\n"),
            ("x", "time=5", "acopio,source=x time_number=5 1795234260000000001\n"),
            ("x", "T=1 T=2", "acopio,source=x T=1 1795234260000000001\n"),
            ("x", "temp=1 ts=1795234200", "acopio,source=x temp=1 1795234200000000000\n"),
            ("x", "hola mundo", ""),
        ] {
            assert_eq!(written(source, payload, &[]), wanted, "{payload}");
        }
        assert_eq!(written("x", "a=1 b=2", &["B"]), "acopio,source=x b=2 1795234260000000001\n");
        assert_eq!(written("x", "a=1", &["b"]), "");
    }

    /// A text up to an unescaped one of these characters, without its escapes, and the rest behind it.
    fn up_to(text: &str, ends: &[char]) -> Option<(String, String)> {
        let (mut out, mut chars) = (String::new(), text.chars());
        while let Some(c) = chars.next() {
            match c {
                '\\' => out.extend(chars.next()),
                c if ends.contains(&c) => return Some((out, chars.collect())),
                c => out.push(c),
            }
        }
        None
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(name in "[a-z\\\\ ,=\n\"]{1,8}", text in "[a-z]\\PC{0,12}|[\\\\\" x]{0,8}x") {
            let said = |text: &str| text.replace('\\', "/").replace(|c: char| c.is_control(), "_");
            let json = serde_json::to_string(&std::collections::BTreeMap::from([(&name, &text)])).unwrap();
            let line = written("taller/esp7", &json, &[]);
            let rest = line.strip_prefix("acopio,source=taller/esp7 ").unwrap();
            let (key, rest) = up_to(rest, &['=']).unwrap();
            let (value, rest) = up_to(rest.strip_prefix('"').unwrap(), &['"']).unwrap();
            prop_assert_eq!((key, value), (said(&name) + TEXT, text.trim().to_owned()));
            prop_assert_eq!(rest, " 1795234260000000001\n");
        }
    }
}
