//! The log and `node.state`, as the commit worker owns them: what blocks.
//!
//! Orders come one at a time. Notes are written before the lines that they go with, so what is promised of a copy is never
//! on the disk before the copy's own note.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::current::LogError;
use super::log::{Log, Reaches, SyncPolicy};
use super::node_state::{StateFile, synced_line};
use super::orders::{Done, Files, Lines, LogState, Notes, Order};
use super::state_lines::{self, Line, Synced};
use super::storage::Storage;
use super::view::SealedFile;
use crate::limits;

/// The log, its sync timer and the state beside it.
pub(crate) struct Writer<S: Storage> {
    log: Log<S>,
    /// None in tests of the log alone.
    state: Option<StateFile<S>>,
    unsynced_since: Option<Instant>,
    /// When it was written down last how far the log was synced, and what was written.
    logged_at: Option<Instant>,
    logged: u64,
    /// Sealed files that are written down.
    sealed: usize,
    free: Option<u64>,
}

impl<S: Storage + Clone> Writer<S> {
    /// The owner of a log and of the state beside it.
    #[must_use]
    pub(crate) fn new(log: Log<S>, state: Option<StateFile<S>>) -> Self {
        let (sealed, free) = (log.sealed().len(), log.free());
        Self { log, state, unsynced_since: None, logged_at: None, logged: 0, sealed, free }
    }

    /// What the node says of its log.
    #[must_use]
    pub(crate) fn state(&self) -> LogState {
        LogState {
            records: self.log.records(),
            bytes: self.log.bytes(),
            syncs: self.log.syncs() + self.state.as_ref().map_or(0, StateFile::syncs),
            sync_times: self.log.sync_times(),
            written: self.log.written() + self.state.as_ref().map_or(0, StateFile::written),
            free: self.free,
            reason: self.log.stopped().map(ToString::to_string).unwrap_or_default(),
        }
    }

    /// Does it.
    pub(super) fn carry_out(&mut self, order: Order) -> Done {
        let before = self.log.stopped().cloned();
        let done = self.do_it(order);
        match (before, self.log.stopped()) {
            (None, Some(error @ (LogError::Full { .. } | LogError::Altered(_)))) => tracing::error!("{error}"),
            (Some(before), Some(error @ LogError::Altered(_))) if before != *error => tracing::error!("{error}"),
            (Some(_), None) => tracing::info!("messages are stored again"),
            _ => {}
        }
        done
    }

    fn do_it(&mut self, order: Order) -> Done {
        let mut retained = None;
        let (lines, result) = match order {
            Order::Write(mut lines) => {
                let result = self.note(&lines.notes).and_then(|()| self.write(&mut lines));
                (lines, result)
            }
            Order::Look(files) => {
                self.free = self.log.free();
                (Lines::default(), self.log.look(files == Files::All).map(|_takes| ()))
            }
            Order::Remove(files, notes) => {
                let removed = self.remove(files, notes);
                (Lines::default(), removed.map(|removed| retained = Some(removed)))
            }
            Order::Sync => (Lines::default(), self.sync()),
            Order::End => (Lines::default(), self.end()),
        };
        let foreign = self.log.take_foreign();
        let removed =
            retained.as_ref().is_some_and(|retained: &super::retention::Retained| !retained.removed.is_empty());
        let moved = !lines.bytes.is_empty() || foreign.is_some() || removed;
        let view = (result.is_ok() && moved).then(|| Arc::new(self.log.view()));
        Done { lines, result, state: self.state(), view, sync_due: self.sync_due(), retained, foreign }
    }

    fn sync_due(&self) -> Option<Instant> {
        match self.log.policy() {
            SyncPolicy::Every(every) => self.unsynced_since.map(|since| since + every),
            SyncPolicy::Always | SyncPolicy::Never => None,
        }
    }

    fn note(&mut self, notes: &Notes) -> Result<(), LogError> {
        self.add_state(&notes.text, notes.urgent)
    }

    fn add_state(&mut self, text: &str, sync: bool) -> Result<(), LogError> {
        let Some(state) = self.state.as_mut() else { return Ok(()) };
        state.add(text, sync).map_err(|error| self.log.poison("write node.state", &error))
    }

    fn write(&mut self, lines: &mut Lines) -> Result<(), LogError> {
        if lines.bytes.is_empty() {
            return Ok(());
        }
        let appended = self.log.append(&mut lines.bytes, &lines.summary);
        // A batch that does not fit any more may have sealed a file all the same.
        self.log_sealed()?;
        appended?;
        match self.log.policy() {
            SyncPolicy::Always => {
                self.sync()?;
                if self.log.met_foreign() {
                    // Who opens the log after a crash must not take what others wrote for the beginning of a torn end.
                    self.log_reach()?;
                    self.add_state("", true)?;
                }
            }
            SyncPolicy::Every(every) => {
                let since = *self.unsynced_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= every.max(Duration::from_millis(1)) {
                    self.sync()?;
                }
            }
            SyncPolicy::Never => {}
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), LogError> {
        self.unsynced_since = None;
        self.log.sync()?;
        if self.logged_at.is_none_or(|at| self.is_due(at.elapsed())) {
            self.log_reach()?;
        }
        Ok(())
    }

    /// Whether a line is due about how far the file goes, so long after the last one.
    fn is_due(&self, elapsed: Duration) -> bool {
        let grown = self.log.reaches().map_or(0, |reaches| reaches.bytes.saturating_sub(self.logged));
        let every = if grown < limits::LOGGED_BYTES { limits::LOGGED_EVERY_FEW } else { limits::LOGGED_EVERY };
        elapsed >= every
    }

    /// Writes down how far the file goes that is written, if that is news.
    fn log_reach(&mut self) -> Result<(), LogError> {
        let Some(reaches) = self.log.reaches().filter(|reaches| reaches.bytes != self.logged) else { return Ok(()) };
        (self.logged, self.logged_at) = (reaches.bytes, Some(Instant::now()));
        let line = synced_line(reach(reaches));
        self.add_state(&line, false)
    }

    /// Writes down which files were sealed since the last time.
    fn log_sealed(&mut self) -> Result<(), LogError> {
        let count = self.log.sealed().len();
        let text: String = self.log.sealed().iter().skip(self.sealed).map(|file| synced_line(sealed(file))).collect();
        if count > self.sealed {
            self.logged = 0;
        }
        self.sealed = count;
        if text.is_empty() { Ok(()) } else { self.add_state(&text, false) }
    }

    fn remove(
        &mut self,
        files: Vec<Arc<SealedFile>>,
        mut notes: String,
    ) -> Result<super::retention::Retained, LogError> {
        let gone = files.iter().map(|file| Line::Removed(file.segment.file.clone())).collect::<Vec<_>>();
        notes.push_str(&state_lines::to_text(&gone));
        self.add_state(&notes, true)?;
        let retained = self.log.remove(files);
        self.sealed = self.log.sealed().len();
        retained
    }

    /// Everything is synced, and it is written down that the node ended in order.
    fn end(&mut self) -> Result<(), LogError> {
        if self.log.is_unsynced() {
            self.log.sync()?;
        }
        if self.log.stopped().is_none() {
            self.log_reach()?;
            self.add_state(&state_lines::to_text([&Line::Stop]), true)?;
        }
        Ok(())
    }
}

/// How a file was sealed.
pub(super) fn sealed(file: &SealedFile) -> Synced {
    let counts = file.ledgers.iter().map(|(ledger, entries)| (ledger, entries.end())).collect();
    let bytes = file.segment.bytes;
    Synced { file: file.segment.file.clone(), bytes, record_bytes: bytes, sealed: true, counts }
}

/// How far the file goes that is written.
pub(super) fn reach(reaches: Reaches<'_>) -> Synced {
    let counts = reaches.ledgers.iter().map(|(ledger, entries)| (ledger, entries.end())).collect();
    let Reaches { file, bytes, record_bytes, .. } = reaches;
    Synced { file: file.to_owned(), bytes, record_bytes, sealed: false, counts }
}
