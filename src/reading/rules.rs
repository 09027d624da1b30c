//! `campos.txt`: what payloads mean that do not say it themselves, a line for each device or group.
//!
//! ```text
//! # who: names of the columns, with units and ranges where they have some
//! csv29: nombre t temp n
//! esp7: temp °C 5..45
//! balanza: /ST,([-+0-9.]+) +g/ peso g
//! taller/: temp[°C] hum[%]
//! *: - temp
//! ```

use std::collections::HashMap;
use std::ops::RangeInclusive;

use super::guess::{self, Guess, Pair};
use super::pattern::Pattern;
use super::{Field, number, words};
use crate::limits::{READING_NAME_BYTES_MAX, RULE_BYTES_MAX, RULES_MAX};
use crate::wire::said::Who;
use crate::wire::source::NotASource;

/// What a file of rules says.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    /// The rules of each device, and of each group under its name with a slash at its end.
    by_source: HashMap<String, Vec<usize>>,
}

/// A line that is no rule; the others hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {wrong}")]
pub struct RuleError {
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub wrong: WrongRule,
}

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WrongRule {
    /// There is no colon behind a name.
    #[error("no rule; write a device or a group, a colon, and the names of its columns: esp7: temp °C 5..45")]
    NoSource,
    /// What stands before the colon is neither a device nor a group, nor `*`.
    #[error("{0}; write a device, a group with a slash at its end, or * for all")]
    Source(NotASource),
    /// Nothing follows.
    #[error("{0} has no columns; write their names behind the colon, and - for one that is not wanted")]
    NoColumns(String),
    /// A unit or a range without a name before it.
    #[error("{0} stands before any name; write the name first: temp °C 5..45")]
    NoName(String),
    /// A range that holds nothing.
    #[error("{0} is no range; write the lower number first: 5..45")]
    Range(String),
    /// The expression has no end.
    #[error("the regular expression has no end; write it between two slashes, and \\/ for a slash in it")]
    Endless,
    /// It is none, or too large.
    #[error("the regular expression cannot be used: {0}")]
    Pattern(String),
    /// It has none of the groups that values are taken from.
    #[error(
        "the regular expression has no group; put what is a value between ( and ), and its name behind the last slash"
    )]
    NoGroups,
    /// It has other groups than there are names.
    #[error("the regular expression has {groups} groups for {names} names; give each (group) a name")]
    Groups {
        /// Groups.
        groups: usize,
        /// Names.
        names: usize,
    },
    /// This program has no regular expressions.
    #[error("this program was built without the feature `patterns`, which regular expressions need")]
    NoPatterns,
    /// Two of its columns have one name.
    #[error("{0} stands there twice; give each column a name of its own, and - to one that is not wanted")]
    Twice(String),
    /// A column has two ranges.
    #[error("{0} is the second range of one column; write one")]
    TwoRanges(String),
    /// It is longer than a rule may be.
    #[error("longer than {RULE_BYTES_MAX} bytes")]
    Long,
    /// There are more than a file may have.
    #[error("more than {RULES_MAX} rules; put devices into groups: taller/: temp")]
    TooMany,
}

/// A line.
#[derive(Clone, Debug)]
struct Rule {
    pattern: Option<Pattern>,
    columns: Vec<Column>,
}

/// One of its names; none if the column is not wanted.
#[derive(Clone, Debug, Default)]
struct Column {
    name: Option<String>,
    unit: Option<String>,
    range: Option<RangeInclusive<f64>>,
}

impl Rules {
    /// Reads a file of rules. A wrong line is told, and the others hold. Empty lines and those that begin with `#` say nothing.
    #[must_use]
    pub fn parse(text: &str) -> (Self, Vec<RuleError>) {
        let (mut rules, mut wrong) = (Self::default(), Vec::new());
        for (k, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Err(error) = rules.add(line) {
                let is_last = error == WrongRule::TooMany;
                wrong.push(RuleError { line: k + 1, wrong: error });
                if is_last {
                    break;
                }
            }
        }
        (rules, wrong)
    }

    fn add(&mut self, line: &str) -> Result<(), WrongRule> {
        if line.len() > RULE_BYTES_MAX {
            return Err(WrongRule::Long);
        }
        if self.rules.len() >= RULES_MAX {
            return Err(WrongRule::TooMany);
        }
        let (source, rest) = line.split_once(':').ok_or(WrongRule::NoSource)?;
        let source = source.trim();
        if source.is_empty() || source.contains(char::is_whitespace) {
            return Err(WrongRule::NoSource);
        }
        if source != "*" {
            Who::from_bytes(source.as_bytes()).map_err(WrongRule::Source)?;
        }
        let rule = Rule::parse(source, rest.trim())?;
        self.by_source.entry(source.to_owned()).or_default().push(self.rules.len());
        self.rules.push(rule);
        Ok(())
    }

    /// The rules of a device: its own, or else those of the smallest group that has some, or else those of `*`.
    pub(super) fn of(&self, source: Option<&str>) -> OfSource<'_> {
        let mut name = source.filter(|_| !self.rules.is_empty()).unwrap_or_default();
        let mut rules = self.by_source.get(name);
        while rules.is_none() && !name.is_empty() {
            let inner = name.strip_suffix('/').unwrap_or(name);
            name = inner.rfind('/').and_then(|at| inner.get(..=at)).unwrap_or_default();
            rules = self.by_source.get(name);
        }
        let rules = rules.or_else(|| self.by_source.get("*")).map(Vec::as_slice).unwrap_or_default();
        OfSource(rules.iter().filter_map(|k| self.rules.get(*k)).collect())
    }
}

/// The rules of one device.
pub(super) struct OfSource<'a>(Vec<&'a Rule>);

impl OfSource<'_> {
    /// What the first expression finds that is in the text: nothing if there are some, and none is. None if there are none.
    pub(super) fn apply(&self, text: &str) -> Option<Guess> {
        let mut patterns = self.0.iter().filter_map(|rule| Some((rule, rule.pattern.as_ref()?))).peekable();
        patterns.peek()?;
        let mut found = patterns.filter_map(|(rule, pattern)| {
            pattern.find(text, |k| rule.columns.get(k).and_then(|column| column.name.as_deref()))
        });
        Some(Guess { pairs: found.next().unwrap_or_default(), said: None, is_named: true })
    }

    /// The columns of a text under the names of the rule, if the text does not say names itself.
    pub(super) fn columns(&self, text: &str, guess: &Guess) -> Option<Vec<Pair>> {
        let is_open = !guess.is_named && !guess.pairs.is_empty();
        let rule = self.0.iter().find(|rule| rule.pattern.is_none()).filter(|_| is_open)?;
        let is_known =
            |pair: &Pair| rule.columns.iter().any(|column| column.name.as_deref() == Some(pair.name.as_str()));
        if guess.pairs.iter().any(is_known) {
            return None;
        }
        let cells = words::columns(text, words::separator(text));
        let named = rule.columns.iter().zip(&cells).filter_map(|(column, cell)| {
            column.name.clone().filter(|_| !cell.is_empty()).map(|name| Pair::new(name, cell))
        });
        let more = guess::numbered(cells.get(rule.columns.len()..).unwrap_or_default(), rule.columns.len());
        Some(named.chain(more).collect())
    }

    /// Units and ranges of the rules.
    pub(super) fn annotate(&self, fields: &mut [Field]) {
        for column in self.0.iter().flat_map(|rule| &rule.columns) {
            let of_this = fields.iter_mut().filter(|field| column.name.as_deref() == Some(field.name.as_str()));
            for field in of_this {
                field.unit = field.unit.take().or_else(|| column.unit.clone());
                field.is_out |= match (&column.range, field.number()) {
                    (Some(range), Some(number)) => !range.contains(&number),
                    _ => false,
                };
            }
        }
    }
}

impl Rule {
    fn parse(source: &str, text: &str) -> Result<Self, WrongRule> {
        let (pattern, rest) = match text.strip_prefix('/') {
            None => (None, text),
            Some(rest) => {
                let (pattern, rest) = expression(rest).ok_or(WrongRule::Endless)?;
                (Some(Pattern::new(&pattern)?), rest)
            }
        };
        let columns = columns(rest)?;
        match &pattern {
            Some(pattern) if pattern.groups() == 0 => return Err(WrongRule::NoGroups),
            Some(pattern) if pattern.groups() != columns.len() && !(columns.is_empty() && pattern.says_names()) => {
                return Err(WrongRule::Groups { groups: pattern.groups(), names: columns.len() });
            }
            None if columns.is_empty() => return Err(WrongRule::NoColumns(source.to_owned())),
            _ => {}
        }
        Ok(Self { pattern, columns })
    }
}

/// Splits at the slash that ends an expression; `\/` is a slash in it.
fn expression(text: &str) -> Option<(String, &str)> {
    let mut escaped = false;
    let end = text.char_indices().find(|(_, c)| {
        let ends = *c == '/' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    let (expression, rest) = text.split_at_checked(end?.0)?;
    Some((expression.replace("\\/", "/"), rest.get(1..)?))
}

fn columns(text: &str) -> Result<Vec<Column>, WrongRule> {
    let mut columns: Vec<Column> = Vec::new();
    for word in text.split_whitespace() {
        if let Some(range) = range(word)? {
            let last = columns.last_mut().ok_or_else(|| WrongRule::NoName(word.to_owned()))?;
            if last.range.replace(range).is_some() {
                return Err(WrongRule::TwoRanges(word.to_owned()));
            }
            continue;
        }
        match columns.last_mut() {
            Some(last)
                if last.name.is_some()
                    && last.unit.is_none()
                    && last.range.is_none()
                    && number::is_known_unit(word) =>
            {
                last.unit = Some(word.to_owned());
            }
            _ => {
                let column = Column::named(word)?;
                if column.name.is_some() && columns.iter().any(|known| known.name == column.name) {
                    return Err(WrongRule::Twice(word.to_owned()));
                }
                columns.push(column);
            }
        }
    }
    Ok(columns)
}

impl Column {
    /// `temp`, `temp[°C]`, or `-`.
    fn named(word: &str) -> Result<Self, WrongRule> {
        let (name, unit) = match word.strip_suffix(']').and_then(|word| word.split_once('[')) {
            Some((name, unit)) => (name, Some(unit.to_owned()).filter(|unit| !unit.is_empty())),
            None => (word, None),
        };
        if name.is_empty() {
            return Err(WrongRule::NoName(word.to_owned()));
        }
        if name.len() > READING_NAME_BYTES_MAX {
            return Err(WrongRule::Long);
        }
        Ok(Self { name: Some(name.to_owned()).filter(|name| name != "-"), unit, range: None })
    }
}

/// `5..45`, `..45` or `5..`; none if the word is no range.
fn range(word: &str) -> Result<Option<RangeInclusive<f64>>, WrongRule> {
    let Some((from, to)) = word.split_once("..") else { return Ok(None) };
    let bound = |text: &str, open: f64| match text {
        "" => Some(open),
        text => number::leading(text).filter(|(_, len)| *len == text.len()).map(|(number, _)| number),
    };
    let both =
        bound(from, f64::NEG_INFINITY).zip(bound(to, f64::INFINITY)).filter(|(from, to)| from <= to && word != "..");
    both.map(|(from, to)| Some(from..=to)).ok_or_else(|| WrongRule::Range(word.to_owned()))
}
