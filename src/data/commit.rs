//! Group commit: one buffer is filled with lines while the other is written and synced by a worker, mostly a thread.
//!
//! What arrived during the last sync is the next batch, so no timer is needed. The buffer remembers which session sent
//! up to which Put; when the worker has done its work, each session is told once. Notes for `node.state` go the same way,
//! before the lines that they go with. Nothing here knows a socket.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::current::LogError;
use super::index::Piece;
use super::orders::{Done, Files, Lines, LogState, Mark, Order};
use super::record::{self, Fields};
use super::retention::{Keeper, Policy};
use super::sources::Heard;
use super::storage::Storage;
use super::strangers::Strangers;
use super::view::{SealedFile, View};
use super::worker::{Executor, Worker};
use super::writer::Writer;
use crate::clock::Clock;
use crate::limits;
use crate::wire::frame::{Messages, Tags};

/// What became of Puts.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// They are kept as the sync policy says.
    Kept,
    /// They are not.
    NotKept(LogError),
}

/// A session that sent Puts: it is told what became of those from `first` to `last`.
pub(crate) trait Sender {
    /// The Puts from `first` to `last` have this verdict.
    fn settled(&self, first: u64, last: u64, verdict: &Verdict);
}

/// A Put of a session: they are numbered from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PutNumber {
    /// The session.
    pub(crate) session: u64,
    /// The number.
    pub(crate) number: u64,
}

/// Says what has to be noted before files go.
type LetsGo = Box<dyn Fn(&[Arc<SealedFile>]) -> String>;

/// The front of the log: sessions add lines, and are told when they are kept.
pub(crate) struct Commit {
    filling: RefCell<Lines>,
    wake: Notify,
    room: Notify,
    senders: RefCell<HashMap<u64, Rc<dyn Sender>>>,
    next_session: Cell<u64>,
    state: RefCell<LogState>,
    view: RefCell<Arc<View>>,
    added: Cell<u64>,
    settled: Cell<u64>,
    /// Notes that were added, and those of them that are written.
    notes: Cell<u64>,
    noted: Cell<u64>,
    /// The last note that has to be synced before anything is sent that follows from it.
    urgent: Cell<u64>,
    lets_go: RefCell<Option<LetsGo>>,
    /// Told when the log's state changed.
    pub(crate) changed: Notify,
    /// Told when [`settled`](Self::settled) has moved on.
    pub(crate) progress: Notify,
    poisoned: RefCell<Option<LogError>>,
    /// How long records are kept.
    pub(crate) keeper: Keeper,
    /// What others wrote into `data.txt`.
    pub(crate) strangers: Strangers,
    /// Somebody wants all files looked at now.
    look: Cell<bool>,
    /// Looks at all files that are done.
    looks: Cell<u64>,
}

/// A bad id: the head is at fault.
#[derive(Debug, thiserror::Error)]
#[error("the head sent a record that cannot be written: {0}")]
pub(crate) struct BadRecord(#[from] record::EncodeError);

impl Commit {
    /// A front for a log in this state, with this view of it.
    #[must_use]
    pub(crate) fn new(state: LogState, view: View) -> Self {
        Self {
            filling: RefCell::default(),
            wake: Notify::new(),
            room: Notify::new(),
            senders: RefCell::default(),
            next_session: Cell::new(1),
            state: RefCell::new(state),
            view: RefCell::new(Arc::new(view)),
            added: Cell::new(0),
            settled: Cell::new(0),
            notes: Cell::new(0),
            noted: Cell::new(0),
            urgent: Cell::new(0),
            lets_go: RefCell::default(),
            changed: Notify::new(),
            progress: Notify::new(),
            poisoned: RefCell::new(None),
            keeper: Keeper::default(),
            strangers: Strangers::default(),
            look: Cell::new(false),
            looks: Cell::new(0),
        }
    }

    /// The same, keeping records as long as this policy says.
    #[must_use]
    pub(crate) fn keeping(self, policy: Policy, clock: Clock) -> Self {
        Self { keeper: Keeper::new(policy, clock), ..self }
    }

    /// A session that will add lines.
    pub(crate) fn enter(&self, sender: Rc<dyn Sender>) -> u64 {
        let session = self.next_session.get();
        self.next_session.set(session + 1);
        self.senders.borrow_mut().insert(session, sender);
        session
    }

    /// A session under a number that no other has: 0.
    pub(crate) fn enter_as(&self, session: u64, sender: Rc<dyn Sender>) -> u64 {
        self.senders.borrow_mut().insert(session, sender);
        session
    }

    /// The session is gone; what it added is kept all the same.
    pub(crate) fn exit(&self, session: u64) {
        self.senders.borrow_mut().remove(&session);
    }

    /// What the log holds.
    #[must_use]
    pub(crate) fn state(&self) -> LogState {
        self.state.borrow().clone()
    }

    /// What readers see: everything that was told to be kept, and nothing that was refused.
    #[must_use]
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// The serial of the last Put that was added: they are counted from 1, whatever session they are from.
    #[must_use]
    pub(crate) fn added(&self) -> u64 {
        self.added.get()
    }

    /// The serial up to which every Put is kept, and visible in [`view`](Self::view), or refused.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn settled(&self) -> u64 {
        self.settled.get()
    }

    /// Waits until every Put up to this serial is kept or refused. Does not end if the log is poisoned before that.
    pub(crate) async fn until_settled(&self, serial: u64) {
        loop {
            let progress = self.progress.notified();
            if self.settled.get() >= serial {
                return;
            }
            progress.await;
        }
    }

    /// Has all files looked at: a reader met less than there was. Returns once [`state`](Self::state) says what is wrong, or
    /// after a moment.
    pub(crate) async fn look(&self) {
        let looks = self.looks.get();
        self.look.set(true);
        self.wake.notify_one();
        let looked = async {
            while self.looks.get() == looks {
                self.progress.notified().await;
            }
        };
        // A log that is poisoned looks at nothing any more.
        if tokio::time::timeout(limits::LOOK_EVERY, looked).await.is_err() {
            tracing::debug!("nobody looked at the files in time");
        }
    }

    /// Why the node has to leave the cluster, once its log is poisoned.
    #[must_use]
    pub(crate) fn poisoned(&self) -> Option<LogError> {
        self.poisoned.borrow().clone()
    }

    /// Waits while the buffer is full: the session stops reading its socket.
    pub(crate) async fn room(&self) {
        loop {
            let room = self.room.notified();
            if self.filling.borrow().bytes.len() < limits::COMMIT_BUFFER_BYTES_MAX {
                return;
            }
            room.await;
        }
    }

    /// From now on this says what is noted before files go that were kept long enough.
    pub(crate) fn set_lets_go(&self, lets_go: impl Fn(&[Arc<SealedFile>]) -> String + 'static) {
        self.lets_go.replace(Some(Box::new(lets_go)));
    }

    /// Adds text to `node.state`, before the lines that are added later; `urgent` if it has to be synced before anything is
    /// sent that follows from it.
    pub(crate) fn note(&self, text: &str, urgent: bool) {
        if text.is_empty() {
            return;
        }
        let mut filling = self.filling.borrow_mut();
        let was_empty = filling.is_empty();
        self.notes.set(self.notes.get() + 1);
        if urgent {
            self.urgent.set(self.notes.get());
        }
        filling.notes.text.push_str(text);
        filling.notes.urgent |= urgent;
        filling.notes.last = self.notes.get();
        if was_empty {
            self.wake.notify_one();
        }
    }

    /// Waits until all notes up to now that have to be synced are. Does not end if the log is poisoned before that.
    pub(crate) async fn until_noted(&self) {
        let urgent = self.urgent.get();
        loop {
            let progress = self.progress.notified();
            if self.noted.get() >= urgent {
                return;
            }
            progress.await;
        }
    }

    /// Whether all notes that have to be synced are.
    #[must_use]
    pub(crate) const fn is_noted(&self) -> bool {
        self.noted.get() >= self.urgent.get()
    }

    /// Formats the messages of one Put into the buffer: consecutive records from `first` on, which are consecutive entries, each
    /// with its tag, if there are some.
    ///
    /// # Errors
    /// A record that has no line; nothing of the Put is in the buffer then.
    pub(crate) fn add(&self, put: PutNumber, first: Fields, tags: &Tags, messages: &Messages) -> Result<(), BadRecord> {
        let mut filling = self.filling.borrow_mut();
        let lines = &mut *filling;
        let (was_empty, before) = (lines.is_empty(), lines.bytes.len());
        let mut tags = tags.iter();
        for (k, payload) in (0..).zip(messages.iter()) {
            if let Err(error) = record::encode_tagged(&mut lines.bytes, first.plus(k), tags.next(), payload) {
                lines.bytes.truncate(before);
                return Err(error.into());
            }
        }
        let records = u64::from(messages.count());
        let bytes = (lines.bytes.len() - before) as u64;
        let greatest = first.id.plus(records.saturating_sub(1));
        let entries = first.place.map(|place| {
            (place.ledger(first.id), place.entry..place.entry.saturating_add(u32::from(messages.count())))
        });
        lines.summary.add(first.id, Piece { bytes, records, least: first.id, greatest }, entries);
        if let Some(source) = first.source {
            lines.summary.of_source(source, Heard::of(records, first.id, greatest));
        }
        self.mark(lines, put, was_empty);
        Ok(())
    }

    /// Adds lines of `data.txt` as they are, as Put `number` of a session. They were checked.
    pub(crate) fn add_lines(&self, put: PutNumber, text: &[u8]) {
        let mut filling = self.filling.borrow_mut();
        let lines = &mut *filling;
        let was_empty = lines.is_empty();
        lines.bytes.extend_from_slice(text);
        lines.summary.add_lines(text);
        self.mark(lines, put, was_empty);
    }

    fn mark(&self, lines: &mut Lines, put: PutNumber, was_empty: bool) {
        self.added.set(self.added.get() + 1);
        lines.last = self.added.get();
        match lines.marks.last_mut() {
            Some(mark) if mark.session == put.session && mark.last + 1 == put.number => mark.last = put.number,
            _ => lines.marks.push(Mark { session: put.session, first: put.number, last: put.number }),
        }
        if was_empty {
            self.wake.notify_one();
        }
    }

    /// Formatted bytes that wait for the commit thread.
    #[must_use]
    pub(crate) fn waiting(&self) -> usize {
        self.filling.borrow().bytes.len()
    }

    /// Tells each session what became of its Puts.
    fn tell(&self, marks: &[Mark], verdict: &Verdict) {
        for mark in marks {
            let sender = self.senders.borrow().get(&mark.session).map(Rc::clone);
            if let Some(sender) = sender {
                sender.settled(mark.first, mark.last, verdict);
            }
        }
    }

    /// What was added behind Puts that are not kept is not kept either: entries of a ledger would stand behind others that were
    /// never there, and who starts again would promise those.
    fn refuse_waiting(&self, verdict: &Verdict) {
        let (marks, last) = self.filling.borrow_mut().take_puts();
        self.tell(&marks, verdict);
        self.settled.set(self.settled.get().max(last));
        self.room.notify_waiters();
    }

    /// The log failed for good: the sessions leave their heads.
    fn poison(&self, error: LogError) -> LogError {
        self.poisoned.replace(Some(error.clone()));
        self.changed.notify_waiters();
        error
    }

    /// The log looked for files that go, or at those that are to be there; what is left is what readers see.
    fn looked(&self, done: Done) -> Result<(), LogError> {
        self.state_is(done.state);
        if let Some(view) = done.view {
            self.view.replace(view);
        }
        if let Some(retained) = &done.retained {
            self.keeper.told(retained);
        }
        if let Some(foreign) = done.foreign {
            self.strangers.told(&foreign);
        }
        done.result.map_err(|error| self.poison(error))
    }

    fn state_is(&self, state: LogState) {
        if *self.state.borrow() != state {
            self.state.replace(state);
            self.changed.notify_waiters();
        }
    }
}

/// Keeps a commit worker busy until `end` resolves, then has what is left written and synced.
///
/// # Errors
/// The log is poisoned.
pub(crate) async fn run<S: Storage + Clone + 'static>(
    commit: &Commit,
    mut writer: Writer<S>,
    executor: &Executor,
    end: impl Future<Output = ()>,
) -> Result<(), LogError>
where
    S::File: 'static,
{
    let mut worker = match Worker::start(executor, "commit", move |order| writer.carry_out(order)) {
        Ok(worker) => worker,
        Err(error) => return Err(commit.poison(lost_thread(&error.to_string()))),
    };
    let mut sync_due = None;
    // When to look next at the files, and at all of them. What is tried and refused meanwhile does not put that off.
    let mut look_at = Instant::now() + limits::LOOK_EVERY;
    let mut look_at_all = Instant::now() + limits::LOOK_AT_ALL_EVERY;
    let (mut spare, mut is_quick, mut is_lone) = (Lines::default(), false, false);
    tokio::pin!(end);
    let mut ending = false;
    loop {
        let old = if ending { Vec::new() } else { commit.keeper.look(&commit.view(), tokio::time::Instant::now()) };
        if !old.is_empty() {
            let notes = commit.lets_go.borrow().as_ref().map_or_else(String::new, |lets_go| lets_go(&old));
            let Some(done) = worker.work(Order::Remove(old, notes)).await else {
                return Err(commit.poison(lost_thread("the commit thread is gone")));
            };
            commit.looked(done)?;
            continue;
        }
        if commit.look.get() || look_at <= Instant::now() {
            let all = commit.look.take() || look_at_all <= Instant::now();
            let files = if all { Files::All } else { Files::Current };
            let Some(done) = worker.work(Order::Look(files)).await else {
                return Err(commit.poison(lost_thread("the commit thread is gone")));
            };
            look_at = Instant::now() + limits::LOOK_EVERY;
            if all {
                look_at_all = Instant::now() + limits::LOOK_AT_ALL_EVERY;
            }
            commit.looked(done)?;
            commit.looks.set(commit.looks.get() + u64::from(all));
            commit.progress.notify_waiters();
            continue;
        }
        if commit.filling.borrow().is_empty() {
            if ending {
                return match worker.work(Order::End).await {
                    Some(done) => done.result,
                    None => Err(lost_thread("the commit thread is gone")),
                };
            }
            tokio::select! {
                biased;
                () = &mut end => ending = true,
                () = commit.wake.notified() => {}
                () = sleep_until(sync_due.unwrap_or_else(Instant::now)), if sync_due.is_some() => {
                    let Some(done) = worker.work(Order::Sync).await else {
                        return Err(commit.poison(lost_thread("the commit thread is gone")));
                    };
                    commit.state_is(done.state);
                    sync_due = done.sync_due;
                    // Nobody asked, and everybody has to know: what was acknowledged since the last sync may be lost.
                    if let Err(error) = done.result {
                        return Err(commit.poison(error));
                    }
                }
                () = until(commit.keeper.next()) => {}
                () = sleep_until(look_at) => {}
            }
            continue;
        }
        std::mem::swap(&mut *commit.filling.borrow_mut(), &mut spare);
        commit.room.notify_waiters();
        let (lines, begun) = (std::mem::take(&mut spare), Instant::now());
        // One after another: where many send, the first of them alone is no lone message.
        let was_lone = std::mem::replace(&mut is_lone, lines.is_lone());
        let here = is_quick && is_lone && was_lone;
        let order = Order::Write(lines);
        let done = if here { worker.work_here(order).await } else { worker.work(order).await };
        // A disk that takes its time must not hold up pings and reads more than once.
        is_quick = begun.elapsed() <= limits::LONE_TIME_MAX;
        let Some(mut done) = done else {
            return Err(commit.poison(lost_thread("the commit thread is gone")));
        };
        sync_due = done.sync_due;
        // The state first: who hears a refusal hears its reason. And the view: who hears that it is kept can read it.
        commit.state_is(done.state);
        if let Some(view) = done.view {
            commit.view.replace(view);
        }
        if let Some(foreign) = done.foreign {
            commit.strangers.told(&foreign);
        }
        if done.result.is_ok() || !matches!(done.result, Err(LogError::Poisoned { .. })) {
            commit.noted.set(commit.noted.get().max(done.lines.notes.last));
        }
        let verdict = match done.result {
            Ok(()) => Verdict::Kept,
            Err(error) => Verdict::NotKept(error),
        };
        commit.tell(&done.lines.marks, &verdict);
        // A buffer that held notes alone says nothing of Puts.
        commit.settled.set(commit.settled.get().max(done.lines.last));
        if matches!(verdict, Verdict::NotKept(_)) {
            commit.refuse_waiting(&verdict);
        }
        commit.progress.notify_waiters();
        if let Verdict::NotKept(error @ LogError::Poisoned { .. }) = verdict {
            return Err(commit.poison(error));
        }
        done.lines.clear();
        spare = done.lines;
    }
}

/// Resolves at a time, or never.
async fn until(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn lost_thread(cause: &str) -> LogError {
    LogError::Poisoned { what: "run", cause: cause.into() }
}

#[cfg(test)]
#[cfg(feature = "simulation")]
#[path = "commit_tests.rs"]
mod tests;
