//! JSON as devices write it: nested keys joined by dots, arrays by their places. What no JSON may have (`NaN`, `1e999`, `+5`,
//! `007`) is read as if it stood in quotes, so that one bad number does not cost the others.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::guess::Pair;
use crate::limits::READING_FIELDS_MAX;

/// The values of the JSON in a text that ends with it; what stands before (a topic) is passed over. None if there is none.
#[must_use]
pub(super) fn pairs(text: &str) -> Option<Vec<Pair>> {
    let start = text.find(['{', '['])?;
    let json = text.get(start..)?.trim_end();
    if !json.ends_with(['}', ']']) {
        return None;
    }
    values(json).or_else(|| values(&mended(json)))
}

/// The values of one JSON, or of several in a row.
fn values(json: &str) -> Option<Vec<Pair>> {
    let mut found = Vec::new();
    let mut rest = json;
    while rest.starts_with(['{', '[']) && found.len() <= READING_FIELDS_MAX {
        let mut reader = serde_json::Deserializer::from_str(rest).into_iter::<serde::de::IgnoredAny>();
        reader.next()?.ok()?;
        let (one, after) = rest.split_at_checked(reader.byte_offset())?;
        Flat { name: String::new(), found: &mut found }
            .deserialize(&mut serde_json::Deserializer::from_str(one))
            .ok()?;
        rest = after.trim_start();
    }
    (rest.is_empty() || found.len() > READING_FIELDS_MAX).then_some(found)
}

/// Takes a value apart in the order in which it is written.
struct Flat<'a> {
    name: String,
    found: &'a mut Vec<Pair>,
}

impl Flat<'_> {
    fn below(&mut self, key: &str) -> Flat<'_> {
        let name = if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) };
        Flat { name, found: self.found }
    }

    /// One more than is kept shows that there were more.
    fn push(self, text: &str) {
        if self.found.len() <= READING_FIELDS_MAX {
            self.found.push(Pair::new(self.name, text));
        }
    }
}

impl<'de> DeserializeSeed<'de> for Flat<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Flat<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.push(if value { "true" } else { "false" });
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.push(&value.to_string());
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.push(&value.to_string());
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.push(&value.to_string());
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.push(value);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            map.next_value_seed(self.below(&key))?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        if self.name.is_empty() {
            self.name.push_str("value");
        }
        for k in 0_usize.. {
            if list.next_element_seed(self.below(&k.to_string()))?.is_none() {
                break;
            }
        }
        Ok(())
    }
}

/// Quotes around every bare word that is none of JSON's.
fn mended(json: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(json.len() + 16), json);
    while let Some(c) = rest.chars().next() {
        let len = match c {
            '"' => string_len(rest),
            '{' | '}' | '[' | ']' | ',' | ':' => 1,
            c if c.is_whitespace() => c.len_utf8(),
            _ => rest.find(|c: char| "{}[],:\"".contains(c) || c.is_whitespace()).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at_checked(len).unwrap_or((rest, ""));
        let is_word = !"\"{}[],:".contains(c) && !c.is_whitespace();
        if is_word && serde_json::from_str::<Value>(token).is_err() {
            out.push_str(&Value::from(token).to_string());
        } else {
            out.push_str(token);
        }
        rest = after;
    }
    out
}

/// Bytes of the string that a text begins with, both quotes included.
fn string_len(text: &str) -> usize {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> Option<String> {
        let shown = |pair: &Pair| format!("{}={}", pair.name, pair.text);
        pairs(text).map(|pairs| pairs.iter().map(shown).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn nested_values_have_names_with_dots_and_what_is_no_json_costs_itself_alone() {
        for (json, wanted) in [
            (r#"{"a":1,"b":{"c":"x","d":[1,{"e":2.5}]},"f":null,"g":true}"#, "a=1 b.c=x b.d.0=1 b.d.1.e=2.5 g=true"),
            (r#"[21.5,"on"]"#, "value.0=21.5 value.1=on"),
            (r#"tele/horno/SENSOR = {"t":1}"#, "t=1"),
            (r#"{"b":1} {"a":2}"#, "b=1 a=2"),
            (
                r#"{"a":NaN,"b":1e999,"c":+5,"d":007,"e":-inf,"f":"x, NaN","g":2}"#,
                "a=NaN b=1e999 c=+5 d=007 e=-inf f=x, NaN g=2",
            ),
            ("{}", ""),
        ] {
            assert_eq!(shown(json).as_deref(), Some(wanted), "{json}");
        }
        for text in ["", "hola", r#"{"a":"#, r#"{"a":1"#, "[21.4", r#"{"a":1}x{}"#, "1 2 3", "{a}", "]["] {
            assert_eq!(shown(text), None, "{text}");
        }
        // The parser's own bound on depth.
        assert_eq!(shown(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\\[\\]{}:,\"\\\\a1e+ -]{0,60}|\\PC{0,40}") {
            let _pairs = pairs(&text);
            mended(&text);
        }
    }
}
