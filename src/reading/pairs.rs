//! `key=value` and `key: value`, as people print them: several on a line, units behind the numbers, whatever between them.

use super::guess::Pair;
use super::{number, words};
use crate::limits::{READING_FIELDS_MAX, READING_NAME_BYTES_MAX};

/// Words of a name before a colon: `numero random: 42`, `Heat index: 20.9`.
const NAME_WORDS_MAX: usize = 4;

/// What stands between pairs beside spaces.
pub(super) const BETWEEN: [char; 5] = [',', ';', '|', '\t', '\n'];

/// All pairs of a text; none if there is no sign of one.
#[must_use]
pub(super) fn pairs(text: &str) -> Vec<Pair> {
    let (mut found, mut begin, mut from) = (Vec::new(), 0, 0);
    while let Some(sign) = next_sign(text, from) {
        from = sign.at + 1;
        let before = text.get(begin..sign.at).unwrap_or_default();
        let name = if sign.is_colon { colon_name(before) } else { equals_name(before) };
        if name.is_empty() || name.len() > READING_NAME_BYTES_MAX {
            continue;
        }
        let after = text.get(from..).unwrap_or_default();
        let value = value_of(after, sign.is_colon);
        if sign.is_colon && !value.is_number {
            // `esp7: temp 21.4` has a heading, and so has `DHT: T=21`.
            if next_sign(value.text, 0).is_some() {
                continue;
            }
            let inner = words::named(value.text);
            if !inner.is_empty() {
                found.extend(inner);
                (begin, from) = (from + value.len, from + value.len);
                continue;
            }
        }
        if !value.text.is_empty() {
            found.push(Pair::new(name.to_owned(), value.text));
        }
        if found.len() > READING_FIELDS_MAX {
            break;
        }
        (begin, from) = (from + value.len, from + value.len);
    }
    found
}

/// Where a name ends.
struct Sign {
    at: usize,
    is_colon: bool,
}

/// The next `=` or `:` that can be one: not of `==`, an address, a time of day or a path.
fn next_sign(text: &str, from: usize) -> Option<Sign> {
    let rest = text.get(from..)?;
    rest.char_indices().filter(|(_, c)| matches!(c, '=' | ':')).find_map(|(at, c)| {
        let at = from + at;
        let (before, after) = (text.get(..at)?, text.get(at + 1..)?);
        let next = after.chars().next().unwrap_or(' ');
        let last = before.trim_end().chars().next_back().unwrap_or('=');
        let is_colon = c == ':';
        let fits = if is_colon {
            let word = before.rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            let in_time = next.is_ascii_digit() && word.bytes().all(|b| b.is_ascii_digit());
            !in_time && (next.is_whitespace() || next.is_ascii_digit() || "+-.\"'".contains(next))
        } else {
            next != '='
        };
        (fits && !"=<>!:".contains(last)).then_some(Sign { at, is_colon })
    })
}

/// The name at the end of what stands before an equals sign: one word.
fn equals_name(before: &str) -> &str {
    let word = before.trim_end().rsplit(|c: char| c.is_whitespace() || BETWEEN.contains(&c) || "()[]{}".contains(c));
    word.map(|word| word.trim_matches(['"', '\''])).next().unwrap_or_default()
}

/// The name at the end of what stands before a colon: up to four words, none of which begins as a number does but the last.
fn colon_name(before: &str) -> &str {
    let part = before.rsplit(|c: char| BETWEEN.contains(&c) || "()[]{}".contains(c)).next().unwrap_or_default();
    let part = part.trim_end();
    let mut start = part.len();
    for _ in 0..NAME_WORDS_MAX {
        let left = part.get(..start).unwrap_or_default().trim_end();
        let at = left
            .rfind(char::is_whitespace)
            .map_or(0, |at| at + left.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8));
        let word = left.get(at..).unwrap_or_default();
        // `sensor 1: 21.4` has a name that ends in a whole number.
        let is_last_number = start == part.len() && !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
        let begins_a_number = word.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
        if word.is_empty() || (begins_a_number && !is_last_number) {
            break;
        }
        start = at;
    }
    let name = part.get(start..).unwrap_or_default().trim();
    if name.bytes().all(|b| b.is_ascii_digit()) {
        return "";
    }
    name.trim_matches(['"', '\''])
}

/// A value, and the bytes that it takes with what is around it.
struct Found<'a> {
    text: &'a str,
    len: usize,
    is_number: bool,
}

fn value_of(after: &str, to_the_end: bool) -> Found<'_> {
    let text = after.trim_start_matches(' ');
    let skipped = after.len() - text.len();
    let found = |text, len, is_number| Found { text, len: skipped + len, is_number };
    if let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        let inner = text.get(1..).unwrap_or_default();
        let end = inner.find(quote).unwrap_or(inner.len());
        return found(inner.get(..end).unwrap_or_default(), (end + 2).min(text.len()), false);
    }
    if let Some(end) = number::grouped(text) {
        return found(text.get(..end).unwrap_or_default(), end, false);
    }
    if let Some(end) = number_end(text) {
        return found(text.get(..end).unwrap_or_default(), end, true);
    }
    let is_end = |c: char| BETWEEN.contains(&c);
    let end = if to_the_end {
        text.find(is_end).unwrap_or(text.len()).min(text.find("  ").unwrap_or(text.len()))
    } else {
        text.find(|c: char| is_end(c) || c.is_whitespace()).unwrap_or(text.len())
    };
    let text = text.get(..end).unwrap_or_default();
    found(text.trim_end(), end, false)
}

/// Where a number ends, its unit included; none if the word is more than that.
fn number_end(text: &str) -> Option<usize> {
    let (_, len) = number::leading(text)?;
    let rest = text.get(len..)?;
    let ends = |c: char| c.is_whitespace() || BETWEEN.contains(&c) || "()[]{}\"".contains(c);
    let attached = rest.find(ends).map_or(rest, |at| rest.get(..at).unwrap_or_default());
    if !attached.is_empty() {
        let trimmed = attached.trim_end_matches(['.', '!']);
        let fits = trimmed.is_empty() || number::is_unit(trimmed);
        return fits.then_some(len + trimmed.len());
    }
    // A unit behind a space, unless it is the next name.
    let spaced = rest.trim_start_matches(' ');
    let word = spaced
        .find(|c: char| ends(c) || matches!(c, '=' | ':'))
        .map_or(spaced, |at| spaced.get(..at).unwrap_or_default());
    let behind = spaced.get(word.len()..).unwrap_or_default().trim_start_matches(' ');
    if number::is_known_unit(word) && !behind.starts_with(['=', ':']) {
        return Some(len + rest.len() - spaced.len() + word.len());
    }
    Some(len)
}
