//! What somebody looks at: the order of the sources, which are filtered, which one is chosen, and what keys do. Pure; times
//! are handed in.

use std::cmp::Reverse;
use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use tokio::time::Instant;

use super::told::{Source, Told};
use crate::cli::plot::Curve;
use crate::limits::{TOP_CURVE_EVERY, TOP_FILTER_CHARS_MAX};

/// Sources that a page key moves over.
const PAGE: isize = 10;

/// What the sources are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// Silent and out of range first, then by name.
    #[default]
    Trouble,
    Name,
    /// Who spoke last first.
    Heard,
}

impl Order {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Trouble => "trouble",
            Self::Name => "name",
            Self::Heard => "last heard",
        }
    }

    const fn next(self) -> Self {
        match self {
            Self::Trouble => Self::Name,
            Self::Name => Self::Heard,
            Self::Heard => Self::Trouble,
        }
    }
}

/// What a key asks of who runs the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Nothing,
    /// The curve is closed, and nobody waits for what is read for it.
    Closed,
    End,
}

/// How it is looked at.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) order: Order,
    pub(super) filter: String,
    /// The filter is being typed.
    pub(super) is_filtering: bool,
    chosen: Option<String>,
    pub(super) curve: Option<Shown>,
}

/// The curve of a source.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) source: String,
    /// The last message when the read began, and when that was.
    begun: Option<(String, Instant)>,
    is_reading: bool,
    /// The curve, and the time that each of its places stands for; or what keeps it from being read.
    pub(super) read: Option<Result<(Curve, Duration), String>>,
}

impl View {
    /// The sources that are looked at, in their order.
    pub(super) fn sources<'a>(&self, told: &'a Told) -> Vec<&'a Source> {
        let filter = self.filter.to_lowercase();
        let mut sources: Vec<&Source> =
            told.sources.iter().filter(|source| source.name.to_lowercase().contains(&filter)).collect();
        sources.sort_by(|one, other| one.name.cmp(&other.name));
        match self.order {
            Order::Trouble => sources.sort_by_key(|source| Reverse((source.is_silent, source.is_out))),
            Order::Name => {}
            Order::Heard => sources.sort_by_key(|source| source.heard_s.unwrap_or(u64::MAX)),
        }
        sources
    }

    /// The place of the chosen one among them: the first, if that is not there.
    pub(super) fn place(&self, sources: &[&Source]) -> usize {
        sources.iter().position(|source| Some(&source.id) == self.chosen.as_ref()).unwrap_or(0)
    }

    /// Takes a key.
    pub(super) fn key(&mut self, key: KeyEvent, told: &Told) -> Act {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { Act::End } else { Act::Nothing };
        }
        if self.is_filtering {
            self.type_filter(key.code);
            return Act::Nothing;
        }
        match key.code {
            KeyCode::Char('q') => return Act::End,
            KeyCode::Esc if self.curve.take().is_some() => return Act::Closed,
            KeyCode::Esc => self.filter.clear(),
            _ if self.curve.is_some() => {}
            KeyCode::Char('s') => self.order = self.order.next(),
            KeyCode::Char('/') => self.is_filtering = true,
            KeyCode::Up | KeyCode::Char('k') => self.step(told, -1),
            KeyCode::Down | KeyCode::Char('j') => self.step(told, 1),
            KeyCode::PageUp => self.step(told, -PAGE),
            KeyCode::PageDown => self.step(told, PAGE),
            KeyCode::Enter => {
                let sources = self.sources(told);
                let source = sources.get(self.place(&sources)).map(|source| source.id.clone());
                self.chosen = source.clone();
                self.curve = source.map(|source| Shown { source, begun: None, is_reading: false, read: None });
            }
            _ => {}
        }
        Act::Nothing
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.is_filtering = false,
            KeyCode::Esc => {
                self.is_filtering = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(c) if self.filter.chars().count() < TOP_FILTER_CHARS_MAX => self.filter.push(c),
            _ => {}
        }
    }

    fn step(&mut self, told: &Told, by: isize) {
        let sources = self.sources(told);
        let last = sources.len().saturating_sub(1);
        let place = self.place(&sources).saturating_add_signed(by).min(last);
        self.chosen = sources.get(place).map(|source| source.id.clone());
    }

    /// The source whose hour is to be read now: its curve is shown, and there is none, or something came since it was read.
    pub(super) fn due(&mut self, told: &Told, now: Instant) -> Option<String> {
        let shown = self.curve.as_mut().filter(|shown| !shown.is_reading)?;
        let last_id = &told.sources.iter().find(|source| source.id == shown.source)?.last_id;
        let is_due = match &shown.begun {
            None => true,
            Some((read, begun)) => {
                let is_old = read != last_id || matches!(shown.read, Some(Err(_)));
                is_old && now.duration_since(*begun) >= TOP_CURVE_EVERY
            }
        };
        is_due.then(|| {
            (shown.begun, shown.is_reading) = (Some((last_id.clone(), now)), true);
            shown.source.clone()
        })
    }

    /// Takes the curve of a source, if that is still looked at.
    pub(super) fn take(&mut self, source: &str, read: Result<(Curve, Duration), String>) {
        if let Some(shown) = self.curve.as_mut().filter(|shown| shown.source == source) {
            (shown.is_reading, shown.read) = (false, Some(read));
        }
    }
}
