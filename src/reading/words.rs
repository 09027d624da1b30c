//! Words and columns: `name value name value`, CSV with any of its separators, bare numbers.

use super::guess::Pair;
use super::number;
use crate::limits::READING_FIELDS_MAX;

/// Words of a name before a number: `temperatura del horno 180`.
const NAME_WORDS_MAX: usize = 3;

/// `name value` pairs of a text that begins with a name; none if it has no number.
#[must_use]
pub(super) fn named(text: &str) -> Vec<Pair> {
    let words: Vec<&str> = text.split_whitespace().map(|word| word.trim_end_matches([',', ';', '.', '!'])).collect();
    let (mut found, mut name, mut more) = (Vec::<Pair>::new(), Vec::new(), 1);
    let mut k = 0;
    while let Some(word) = words.get(k).filter(|_| found.len() <= READING_FIELDS_MAX) {
        k += 1;
        if !number::is_number(word) {
            // The sign that ends a name is no part of it.
            name.push(word.trim_end_matches(':'));
            continue;
        }
        // A unit is one unless the next number is its own: `t 20 h 40`.
        let unit = words.get(k).filter(|unit| {
            number::is_known_unit(unit) && !words.get(k + 1).is_some_and(|next| number::is_number(next))
        });
        k += usize::from(unit.is_some());
        let text = unit.map_or_else(|| (*word).to_owned(), |unit| format!("{word} {unit}"));
        let from = name.len().saturating_sub(NAME_WORDS_MAX);
        let own = name.get(from..).unwrap_or_default().join(" ");
        let own = match found.last() {
            _ if !own.is_empty() => {
                more = 1;
                own
            }
            // `acc 0.1 0.2 9.8` has three of one name.
            Some(last) => {
                more += 1;
                let first =
                    last.name.rsplit_once('.').filter(|_| more > 2).map_or(last.name.as_str(), |(first, _)| first);
                format!("{first}.{more}")
            }
            None => return Vec::new(),
        };
        found.push(Pair::new(own, &text));
        name.clear();
    }
    found
}

/// The columns of a line: its cells, or its words with units joined to their numbers.
#[must_use]
pub(super) fn columns(text: &str, separator: Option<char>) -> Vec<String> {
    let mut cells = match separator {
        Some(separator) => cells(text, separator),
        None => words(text),
    };
    cells.truncate(READING_FIELDS_MAX + 1);
    cells
}

/// Names for columns that say theirs: `temp,21.4,hum,40`, or `temp 21.4, hum 40`. None if they do not.
#[must_use]
pub(super) fn named_columns(text: &str, separator: Option<char>) -> Vec<Pair> {
    if separator.is_none() {
        return named(text);
    }
    let cells: Vec<String> = columns(text, separator).into_iter().filter(|cell| !cell.is_empty()).collect();
    let each: Vec<Vec<Pair>> = cells.iter().map(|cell| named(cell)).collect();
    if !each.is_empty() && each.iter().all(|pairs| !pairs.is_empty()) {
        return each.into_iter().flatten().collect();
    }
    let pairs: Vec<(&String, &String)> = cells.iter().zip(cells.iter().skip(1)).step_by(2).collect();
    let alternate = cells.len().is_multiple_of(2)
        && pairs.iter().all(|(name, value)| !number::is_number(name) && number::is_number(value));
    if !alternate {
        return Vec::new();
    }
    pairs.into_iter().map(|(name, value)| Pair::new(name.clone(), value)).collect()
}

/// What separates the cells of a line: the first of these that it has. A comma that is each time a decimal one is none.
#[must_use]
pub(super) fn separator(text: &str) -> Option<char> {
    [';', '\t', ',', '|']
        .into_iter()
        .find(|separator| text.contains(*separator) && !(*separator == ',' && has_decimal_commas(text)))
}

fn has_decimal_commas(text: &str) -> bool {
    let mut words = text.split_whitespace().filter(|word| word.contains(',')).peekable();
    words.peek().is_some() && words.all(|word| number::is_number(word) || number::grouped(word) == Some(word.len()))
}

fn cells(text: &str, separator: char) -> Vec<String> {
    let (mut cells, mut rest) = (Vec::new(), text);
    loop {
        let trimmed = rest.trim_start_matches(' ');
        let (cell, after) =
            match trimmed.strip_prefix('"').and_then(|inner| inner.find('"').map(|end| inner.split_at(end))) {
                // Two quotes are one; a cell that has them is cut there, which loses no number.
                Some((cell, after)) => (cell, after.get(1..).unwrap_or_default().trim_start_matches(' ')),
                None => trimmed.split_at(trimmed.find(separator).unwrap_or(trimmed.len())),
            };
        cells.push(cell.trim().to_owned());
        match after.find(separator) {
            Some(at) if cells.len() <= READING_FIELDS_MAX => rest = after.get(at + 1..).unwrap_or_default(),
            _ => return cells,
        }
    }
}

fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split_whitespace().take(2 * READING_FIELDS_MAX) {
        match words.last_mut() {
            Some(last)
                if number::is_known_unit(word) && number::leading(last).is_some_and(|(_, len)| len == last.len()) =>
            {
                last.push(' ');
                last.push_str(word);
            }
            _ => words.push(word.to_owned()),
        }
    }
    words
}
