//! A number as devices write it, with its unit: what is one, how many bytes it takes, and what stays text.
//!
//! Only ASCII digits make a number, and only a finite one counts. What looks like a number and is none (`1e999`, `NaN`,
//! `inf`, `0x1F`, `1_000`, `٣`, `12.34.56`, `08:15`) stays text, so nothing is lost and nothing is invented.

use super::Value;

/// Units that are known where a space stands before them. Behind a number without a space any word of letters is one. Not
/// among them: `t` and `n`, which are times and counters.
const UNITS: &[&str] = &[
    "%", "%RH", "A", "C", "F", "Hz", "J", "K", "L", "L/h", "L/min", "MHz", "N", "NTU", "Nm", "Pa", "RH", "V", "VA",
    "W", "W/m2", "W/m²", "Wh", "atm", "bar", "cm", "d", "dB", "dBA", "dBm", "deg", "g", "h", "hPa", "kHz", "kN", "kPa",
    "kV", "kVA", "kW", "kWh", "kg", "km", "km/h", "kn", "kΩ", "l", "l/h", "l/min", "lb", "lux", "lx", "m", "m/s",
    "m/s2", "m/s²", "m2", "m3", "m3/h", "mA", "mS/cm", "mV", "mW", "mbar", "mg", "mg/l", "min", "ml", "mm", "mmHg",
    "mm/h", "mph", "ms", "m²", "m³", "m³/h", "ohm", "oz", "pH", "ppb", "ppm", "psi", "rad", "rpm", "s", "uA", "uS/cm",
    "ug/m3", "um", "us", "°", "°C", "°F", "°K", "ºC", "Ω", "µA", "µS/cm", "µg/m3", "µg/m³", "µm", "µs", "‰", "€",
];

/// Longest unit, bytes.
const UNIT_BYTES_MAX: usize = 16;

/// A number at the beginning of a text: its value and its bytes. A decimal comma is one if no second one follows.
#[must_use]
pub(super) fn leading(text: &str) -> Option<(f64, usize)> {
    let bytes = text.as_bytes();
    let at = |k: usize| bytes.get(k).copied().unwrap_or_default();
    let digits = |from: usize| bytes.iter().skip(from).take_while(|b| b.is_ascii_digit()).count();
    let mut end = usize::from(matches!(at(0), b'+' | b'-'));
    // Scales print their sign, and then the number to the right.
    let start = if end > 0 { end + bytes.iter().skip(end).take_while(|b| **b == b' ').count() } else { 0 };
    let whole = digits(start);
    end = start + whole;
    let (point, fraction) = (at(end), digits(end + 1));
    let is_comma = point == b',' && whole > 0 && fraction > 0 && !ends_as_list(bytes, end + 1 + fraction);
    if is_comma || point == b'.' && (whole > 0 || fraction > 0) {
        end += 1 + fraction;
    } else if whole == 0 {
        return None;
    }
    if matches!(at(end), b'e' | b'E') {
        let sign = usize::from(matches!(at(end + 1), b'+' | b'-'));
        let exponent = digits(end + 1 + sign);
        end += if exponent > 0 { 1 + sign + exponent } else { 0 };
    }
    let plain: String =
        text.get(..end)?.chars().filter(|c| *c != ' ').map(|c| if c == ',' { '.' } else { c }).collect();
    let value: f64 = plain.parse().ok()?;
    value.is_finite().then_some((value, end))
}

/// Whether what follows a decimal comma's digits shows that it was a list: `1,2,3` or `1,234.5`.
fn ends_as_list(bytes: &[u8], end: usize) -> bool {
    let next = bytes.get(end + 1).is_some_and(u8::is_ascii_digit);
    next && matches!(bytes.get(end), Some(b',' | b'.'))
}

/// Bytes of digits in groups, by commas and then a point or the other way round: `1,234.5`, `1.234,5`. Who wrote them is not
/// known, so they are no number.
#[must_use]
pub(super) fn grouped(text: &str) -> Option<usize> {
    let sign = usize::from(text.starts_with(['+', '-']));
    let digits = text.get(sign..)?;
    let len = digits.find(|c: char| !c.is_ascii_digit() && c != ',' && c != '.').unwrap_or(digits.len());
    let run = digits.get(..len)?.trim_end_matches([',', '.']);
    let is_grouped = |group: char, point: char| {
        let (whole, fraction) = run.split_once(point)?;
        let mut groups = whole.split(group);
        let first = groups.next()?;
        let is_whole = (1..=3).contains(&first.len()) && whole.contains(group) && groups.all(|part| part.len() == 3);
        (is_whole && !fraction.is_empty() && !fraction.contains([group, point])).then_some(())
    };
    is_grouped(',', '.').or_else(|| is_grouped('.', ',')).map(|()| sign + run.len())
}

/// Whether a word behind a number can be its unit.
#[must_use]
pub(super) fn is_unit(word: &str) -> bool {
    let fits = word.chars().all(|c| c.is_alphabetic() || "°%‰/·^²³€µ".contains(c));
    is_known_unit(word) || fits && !word.is_empty() && word.len() <= UNIT_BYTES_MAX
}

/// Whether a word is a unit also where a space stands before it.
#[must_use]
pub(super) fn is_known_unit(word: &str) -> bool {
    UNITS.contains(&word)
}

/// What a text says: a number and its unit, or else the text itself. `true` is 1 and `false` is 0.
#[must_use]
pub(super) fn value(text: &str) -> (Value, Option<String>) {
    let text = text.trim();
    match text {
        "true" | "True" | "TRUE" => return (Value::Number(1.0), None),
        "false" | "False" | "FALSE" => return (Value::Number(0.0), None),
        _ => {}
    }
    let as_text = || (Value::Text(text.to_owned()), None);
    let Some((number, len)) = leading(text) else { return as_text() };
    let rest = text.get(len..).unwrap_or_default();
    let unit = rest.trim_start();
    match unit {
        "" => (Value::Number(number), None),
        // Whole numbers of influx's line protocol.
        "i" | "u" if rest.len() == 1 => (Value::Number(number), None),
        // What begins with a zero and ends with letters is the number of a thing: `0316AB`.
        _ if rest.len() == unit.len() && is_unit(unit) && !is_padded(text) => {
            (Value::Number(number), Some(unit.to_owned()))
        }
        _ if is_known_unit(unit) => (Value::Number(number), Some(unit.to_owned())),
        _ => as_text(),
    }
}

fn is_padded(text: &str) -> bool {
    text.starts_with('0') && text.as_bytes().get(1).is_some_and(u8::is_ascii_digit)
}

/// Whether a whole text is a number, with or without a unit.
#[must_use]
pub(super) fn is_number(text: &str) -> bool {
    matches!(value(text).0, Value::Number(_))
        && text.trim().starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> String {
        match value(text) {
            (Value::Number(number), unit) => format!("{number} {}", unit.unwrap_or_default()).trim_end().to_owned(),
            (Value::Text(text), _) => format!("{text:?}"),
        }
    }

    #[test]
    fn numbers_are_read_with_their_units_and_nothing_else_is_a_number() {
        for (text, wanted) in [
            ("21.4", "21.4"),
            ("-0.5", "-0.5"),
            ("+3", "3"),
            (".5", "0.5"),
            ("5.", "5"),
            ("1e3", "1000"),
            ("1.5E-2", "0.015"),
            ("21,4", "21.4"),
            ("21,4 °C", "21.4 °C"),
            ("21.4C", "21.4 C"),
            ("40%", "40 %"),
            ("12.3 g", "12.3 g"),
            ("7 m/s2", "7 m/s2"),
            ("3i", "3"),
            ("+  12.34 kg", "12.34 kg"),
            ("007", "7"),
            ("0316AB", "\"0316AB\""),
            ("0316A2", "\"0316A2\""),
            ("9m3/h", "9 m3/h"),
            ("true", "1"),
            ("1e999", "\"1e999\""),
            ("-1e999", "\"-1e999\""),
            ("NaN", "\"NaN\""),
            ("inf", "\"inf\""),
            ("-inf", "\"-inf\""),
            ("٣", "\"٣\""),
            ("0x1F", "\"0x1F\""),
            ("1_000", "\"1_000\""),
            ("1,234.5", "\"1,234.5\""),
            ("1.234,5", "\"1.234,5\""),
            ("1,2,3", "\"1,2,3\""),
            ("12.34.56", "\"12.34.56\""),
            ("192.168.1.7", "\"192.168.1.7\""),
            ("08:15:02", "\"08:15:02\""),
            ("2026-11-27", "\"2026-11-27\""),
            ("5 tries", "\"5 tries\""),
            ("", "\"\""),
            ("-", "\"-\""),
            (".", "\".\""),
            ("e5", "\"e5\""),
        ] {
            assert_eq!(shown(text), wanted, "{text}");
        }
    }

    #[test]
    fn groups_of_thousands_are_known_as_such() {
        for (text, wanted) in [
            ("1,234.5", Some(7)),
            ("-1.234,5 kg", Some(8)),
            ("12,345,678.9", Some(12)),
            ("1,2345.6", None),
            ("1234,567.8", None),
            ("21,4", None),
            ("12.34.56", None),
            ("1,234", None),
            ("1,234.5,6", None),
        ] {
            assert_eq!(grouped(text), wanted, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_number_that_is_printed_is_read_back(number in prop::num::f64::NORMAL | prop::num::f64::ZERO) {
            prop_assert_eq!(value(&number.to_string()).0, Value::Number(number));
            prop_assert_eq!(value(&format!("{number:e} hPa")), (Value::Number(number), Some("hPa".to_owned())));
        }

        #[test]
        fn nothing_is_infinite(text in "[-+ 0-9.,eE]{0,40}|\\PC{0,40}") {
            if let (Value::Number(number), _) = value(&text) {
                prop_assert!(number.is_finite());
            }
        }
    }
}
