//! What a payload says without any settings: which form it has, and its names and values as text.

use super::time::{self, Said};
use super::{UnixNs, json, number, pairs, words};
use crate::limits::READING_FIELDS_MAX;

/// A name and a value, not yet a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) name: String,
    pub(super) text: String,
}

impl Pair {
    pub(super) fn new(name: String, text: &str) -> Self {
        Self { name, text: text.trim().to_owned() }
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Guess {
    pub(super) pairs: Vec<Pair>,
    /// The time in the first or the last word.
    pub(super) said: Option<Said>,
    /// The payload says its names itself, with signs that mean nothing else.
    pub(super) is_named: bool,
}

/// A payload without what is around it: the word for text clients, the priority of syslog, the frame of NMEA.
#[must_use]
pub(super) fn clean(text: &str) -> &str {
    let is_around = |c: char| c.is_whitespace() || c == '\0' || c == '\u{feff}';
    let text = text.strip_prefix("mensaje: ").unwrap_or(text).trim_matches(is_around);
    if let Some((sentence, sum)) = text.strip_prefix(['$', '!']).and_then(|rest| rest.rsplit_once('*'))
        && sum.len() == 2
        && sum.bytes().all(|b| b.is_ascii_hexdigit())
    {
        return sentence;
    }
    let Some((priority, rest)) = text.strip_prefix('<').and_then(|rest| rest.split_once('>')) else { return text };
    if !(1..=3).contains(&priority.len()) || !priority.bytes().all(|b| b.is_ascii_digit()) {
        return text;
    }
    rest.strip_prefix("1 ").unwrap_or(rest).trim_start()
}

/// Names and values of a text that [`clean`] gave.
#[must_use]
pub(super) fn guess(text: &str, taken: UnixNs) -> Guess {
    if let Some(pairs) = json::pairs(text) {
        return Guess { pairs, said: None, is_named: true };
    }
    let (said, rest) = edge(text, taken).map_or((None, text), |(said, rest)| (Some(said), rest));
    let pairs = pairs::pairs(rest);
    if !pairs.is_empty() {
        return Guess { pairs, said, is_named: true };
    }
    let separator = words::separator(text);
    let pairs = words::named_columns(rest, separator);
    if !pairs.is_empty() {
        return Guess { pairs, said, is_named: false };
    }
    let cells = words::columns(rest, separator);
    // Columns are counted as they stand in the payload.
    let before =
        if text.ends_with(rest) { words::columns(text, separator).len().saturating_sub(cells.len()) } else { 0 };
    let pairs = match cells.as_slice() {
        [only] => vec![Pair::new("value".to_owned(), only)],
        cells if cells.iter().any(|cell| number::is_number(cell)) => numbered(cells, before),
        _ => Vec::new(),
    };
    Guess { pairs, said, is_named: false }
}

/// Cells with names by their places: `c1`, `c2`.
#[must_use]
pub(super) fn numbered(cells: &[String], before: usize) -> Vec<Pair> {
    let named = cells.iter().enumerate().map(|(k, cell)| Pair::new(format!("c{}", before + k + 1), cell));
    named.take(READING_FIELDS_MAX + 1).filter(|pair| !pair.text.is_empty()).collect()
}

/// A time in the first or the last word, and the text without it. A number is one only if it fits its record.
fn edge(text: &str, taken: UnixNs) -> Option<(Said, &str)> {
    let is_between = |c: char| c.is_whitespace() || pairs::BETWEEN.contains(&c);
    let said = |word: &str, is_word: bool| {
        let word = word.trim_matches(['[', ']', '(', ')', '"']);
        time::rfc3339(word).or_else(|| time::said_unix(word).filter(|said| is_word && said.of(taken).is_some()))
    };
    let first = |words: usize| {
        let (at, _) = text.match_indices(is_between).nth(words - 1)?;
        let rest = text.get(at..)?.trim_start_matches(is_between);
        Some((said(text.get(..at)?, words == 1)?, rest))
    };
    let last = |words: usize| {
        let (at, sign) = text.rmatch_indices(is_between).nth(words - 1)?;
        let rest = text.get(..at)?.trim_end_matches(is_between);
        Some((said(text.get(at + sign.len()..)?, words == 1)?, rest))
    };
    // A date and a time of day are two words.
    let found = first(1).or_else(|| first(2)).or_else(|| last(1)).or_else(|| last(2));
    found.filter(|(_, rest)| !rest.is_empty())
}
