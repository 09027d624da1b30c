//! Group commit: one buffer is filled with lines while the other is written and synced by a thread.
//!
//! What arrived during the last sync is the next batch, so no timer is needed. The buffer remembers which session sent
//! up to which Put; when the thread has done its work, each session is told once. Nothing here knows a socket.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::mpsc as orders;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};

use super::log::{Log, LogError, SyncPolicy};
use super::record;
use super::storage::Storage;
use crate::limits;
use crate::wire::frame::Messages;
use crate::wire::id::{ClientId, RecordId};

/// What became of Puts.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// They are kept as the sync policy says.
    Kept,
    /// They are not.
    NotKept(LogError),
}

/// A session that sent Puts: it is told what became of those from `first` to `last`.
pub trait Sender {
    /// The Puts from `first` to `last` have this verdict.
    fn settled(&self, first: u64, last: u64, verdict: &Verdict);
}

/// What the node says of its log.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct LogState {
    /// Records kept.
    pub records: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Why nothing is written; empty if all is well.
    pub reason: String,
}

/// Puts of one session inside one buffer.
struct Mark {
    session: u64,
    first: u64,
    last: u64,
}

/// Lines that go to the file together.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    records: u64,
    span: Option<(RecordId, RecordId)>,
    marks: Vec<Mark>,
}

impl Lines {
    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(limits::COMMIT_BUFFER_KEEP_BYTES);
        self.records = 0;
        self.span = None;
        self.marks.clear();
    }
}

enum Order {
    Write(Lines),
    /// Look whether a full disk has room again.
    Resume,
    /// Sync what an interval left unsynced, and end.
    End,
}

struct Done {
    lines: Lines,
    result: Result<(), LogError>,
    state: LogState,
}

/// The front of the log: sessions add lines, and are told when they are kept.
pub struct Commit {
    filling: RefCell<Lines>,
    wake: Notify,
    room: Notify,
    senders: RefCell<HashMap<u64, Rc<dyn Sender>>>,
    next_session: Cell<u64>,
    state: RefCell<LogState>,
    /// Told when the log's state changed.
    pub changed: Notify,
    poisoned: RefCell<Option<LogError>>,
}

/// A bad id: the head is at fault.
#[derive(Debug, thiserror::Error)]
#[error("the head sent a record that cannot be written: {0}")]
pub struct BadRecord(#[from] record::EncodeError);

impl Commit {
    /// A front for a log in this state.
    #[must_use]
    pub fn new(state: LogState) -> Self {
        Self {
            filling: RefCell::default(),
            wake: Notify::new(),
            room: Notify::new(),
            senders: RefCell::default(),
            next_session: Cell::new(1),
            state: RefCell::new(state),
            changed: Notify::new(),
            poisoned: RefCell::new(None),
        }
    }

    /// A session that will add lines.
    pub fn enter(&self, sender: Rc<dyn Sender>) -> u64 {
        let session = self.next_session.get();
        self.next_session.set(session + 1);
        self.senders.borrow_mut().insert(session, sender);
        session
    }

    /// The session is gone; what it added is kept all the same.
    pub fn exit(&self, session: u64) {
        self.senders.borrow_mut().remove(&session);
    }

    /// What the log holds.
    #[must_use]
    pub fn state(&self) -> LogState {
        self.state.borrow().clone()
    }

    /// Why the node has to leave the cluster, once its log is poisoned.
    #[must_use]
    pub fn poisoned(&self) -> Option<LogError> {
        self.poisoned.borrow().clone()
    }

    /// Waits while the buffer is full: the session stops reading its socket.
    pub async fn room(&self) {
        loop {
            let room = self.room.notified();
            if self.filling.borrow().bytes.len() < limits::COMMIT_BUFFER_BYTES_MAX {
                return;
            }
            room.await;
        }
    }

    /// Formats the messages of one Put of a session into the buffer. `copies` names the nodes that are to keep them,
    /// parted by commas; it is empty if this is the only one.
    ///
    /// # Errors
    /// A record that has no line; nothing of the Put is in the buffer then.
    pub fn add(
        &self,
        (session, number): (u64, u64),
        first: RecordId,
        (client, first_seq): (ClientId, u64),
        copies: &str,
        messages: &Messages,
    ) -> Result<(), BadRecord> {
        let mut filling = self.filling.borrow_mut();
        let lines = &mut *filling;
        let before = lines.bytes.len();
        let copies = (!copies.is_empty()).then_some(copies);
        for (k, payload) in (0..).zip(messages.iter()) {
            if let Err(error) = record::encode(&mut lines.bytes, first.plus(k), client, first_seq + k, copies, payload)
            {
                lines.bytes.truncate(before);
                return Err(error.into());
            }
        }
        let count = u64::from(messages.count());
        lines.records += count;
        let last = first.plus(count - 1);
        lines.span = Some(lines.span.map_or((first, last), |(low, high)| (low, high.max(last))));
        match lines.marks.last_mut() {
            Some(mark) if mark.session == session && mark.last + 1 == number => mark.last = number,
            _ => lines.marks.push(Mark { session, first: number, last: number }),
        }
        if before == 0 {
            self.wake.notify_one();
        }
        Ok(())
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

    /// The log failed for good: the sessions leave their heads.
    fn poison(&self, error: LogError) -> LogError {
        self.poisoned.replace(Some(error.clone()));
        self.changed.notify_waiters();
        error
    }

    fn note(&self, state: LogState) {
        if *self.state.borrow() != state {
            self.state.replace(state);
            self.changed.notify_waiters();
        }
    }
}

/// Keeps the commit thread busy until `end` resolves, then has what is left written and synced.
///
/// # Errors
/// The log is poisoned.
pub async fn run<S: Storage + 'static>(
    commit: &Commit,
    log: Log<S>,
    end: impl Future<Output = ()>,
) -> Result<(), LogError>
where
    S::File: 'static,
{
    let mut thread = match CommitThread::start(log) {
        Ok(thread) => thread,
        Err(error) => return Err(commit.poison(lost_thread(&error.to_string()))),
    };
    let mut spare = Lines::default();
    tokio::pin!(end);
    let mut ending = false;
    loop {
        let full = !commit.state.borrow().reason.is_empty();
        if commit.filling.borrow().bytes.is_empty() {
            if ending {
                return thread.end().await;
            }
            tokio::select! {
                () = commit.wake.notified() => {}
                () = &mut end => ending = true,
                Some(done) = thread.done.recv() => {
                    commit.note(done.state);
                    if let Err(error) = done.result {
                        return Err(commit.poison(error));
                    }
                }
                () = tokio::time::sleep(limits::DISK_RESUME_EVERY), if full => {
                    if let Some(done) = thread.work(Order::Resume).await {
                        commit.note(done.state);
                    }
                }
            }
            continue;
        }
        std::mem::swap(&mut *commit.filling.borrow_mut(), &mut spare);
        commit.room.notify_waiters();
        let Some(mut done) = thread.work(Order::Write(std::mem::take(&mut spare))).await else {
            return Err(commit.poison(lost_thread("the commit thread is gone")));
        };
        // The state first: who hears a refusal hears its reason.
        commit.note(done.state);
        let verdict = match done.result {
            Ok(()) => Verdict::Kept,
            Err(error) => Verdict::NotKept(error),
        };
        commit.tell(&done.lines.marks, &verdict);
        if let Verdict::NotKept(error @ LogError::Poisoned { .. }) = verdict {
            return Err(commit.poison(error));
        }
        done.lines.clear();
        spare = done.lines;
    }
}

fn lost_thread(cause: &str) -> LogError {
    LogError::Poisoned { what: "run", cause: cause.into() }
}

/// The thread that owns the log. One order is under way at a time.
struct CommitThread {
    orders: orders::SyncSender<Order>,
    done: mpsc::Receiver<Done>,
}

impl CommitThread {
    fn start<S: Storage + 'static>(log: Log<S>) -> std::io::Result<Self>
    where
        S::File: 'static,
    {
        let (orders, taken) = orders::sync_channel(1);
        let (told, done) = mpsc::channel(1);
        let thread = thread::Builder::new().name("commit".to_owned());
        thread.spawn(move || work(log, &taken, &told))?;
        Ok(Self { orders, done })
    }

    async fn work(&mut self, order: Order) -> Option<Done> {
        // The channel has one place and one order is under way at most, so this never blocks.
        self.orders.try_send(order).ok()?;
        self.done.recv().await
    }

    async fn end(&mut self) -> Result<(), LogError> {
        match self.work(Order::End).await {
            Some(done) => done.result,
            None => Err(lost_thread("the commit thread is gone")),
        }
    }
}

fn work<S: Storage>(mut log: Log<S>, orders: &orders::Receiver<Order>, told: &mpsc::Sender<Done>) {
    let mut unsynced_since: Option<Instant> = None;
    loop {
        let order = match (log.policy(), unsynced_since) {
            (SyncPolicy::Every(every), Some(since)) => {
                match orders.recv_timeout(every.saturating_sub(since.elapsed())) {
                    Ok(order) => Some(order),
                    Err(orders::RecvTimeoutError::Timeout) => None,
                    Err(orders::RecvTimeoutError::Disconnected) => return,
                }
            }
            _ => match orders.recv() {
                Ok(order) => Some(order),
                Err(orders::RecvError) => return,
            },
        };
        let Some(order) = order else {
            unsynced_since = None;
            if let Err(error) = log.sync() {
                // Nobody asked, and everybody has to know: what was acknowledged since the last sync may be lost.
                let done = Done { lines: Lines::default(), result: Err(error), state: state_of(&log) };
                drop(told.blocking_send(done));
                return;
            }
            continue;
        };
        let end = matches!(order, Order::End);
        let (lines, result) = carry_out(&mut log, order, &mut unsynced_since);
        let state = state_of(&log);
        if told.blocking_send(Done { lines, result, state }).is_err() || end {
            return;
        }
    }
}

/// What the node says of its log.
pub fn state_of<S: Storage>(log: &Log<S>) -> LogState {
    LogState {
        records: log.records(),
        bytes: log.bytes(),
        reason: log.stopped().map(ToString::to_string).unwrap_or_default(),
    }
}

fn carry_out<S: Storage>(
    log: &mut Log<S>,
    order: Order,
    unsynced_since: &mut Option<Instant>,
) -> (Lines, Result<(), LogError>) {
    match order {
        Order::Write(lines) => {
            let (first, last) = lines.span.unwrap_or_default();
            let mut result = log.append(&lines.bytes, lines.records, first, last);
            if result.is_ok() {
                match log.policy() {
                    SyncPolicy::Always => result = log.sync(),
                    SyncPolicy::Every(every) => {
                        let since = *unsynced_since.get_or_insert_with(Instant::now);
                        if since.elapsed() >= every.max(Duration::from_millis(1)) {
                            *unsynced_since = None;
                            result = log.sync();
                        }
                    }
                    SyncPolicy::Never => {}
                }
            }
            (lines, result)
        }
        Order::Resume => (Lines::default(), log.try_resume().map(|_resumed| ())),
        Order::End => (Lines::default(), if log.is_unsynced() { log.sync() } else { Ok(()) }),
    }
}
