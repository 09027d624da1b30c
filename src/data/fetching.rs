//! Fetches what this node lacks below its ends: copies that it is to keep, and lines that rotted.
//!
//! What is wanted, `ledger` says; the heads know who has it. Many ledgers are under way at once, at the pace that the
//! settings allow, and all of it stands aside for messages. What comes is checked line by line before it is kept.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::commit::{Commit, PutNumber, Sender, Verdict};
use super::desk::Desk;
use super::pace::Pace;
use super::record;
use crate::limits;
use crate::net::Outbox;
use crate::wire::frame::Frame;
use crate::wire::ledger::LedgerId;
use tokio_util::sync::CancellationToken;

/// When and how fast copies are made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Most bytes of lines a second.
    pub(crate) bytes_per_second: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { bytes_per_second: limits::REPAIR_RATE_DEFAULT }
    }
}

/// A fetch that is under way.
#[derive(Debug)]
struct Asked {
    ledger: LedgerId,
    entries: Range<u32>,
    at: Instant,
    session: u64,
}

/// What nobody had of a ledger, or what could not be written.
#[derive(Clone, Copy, Debug)]
struct Rest {
    /// When to ask again for it.
    until: Instant,
    /// Whom last.
    session: u64,
    /// What begins here or later was not asked for since.
    behind: u32,
}

/// Lines that are being written.
#[derive(Debug)]
struct Written {
    ledger: LedgerId,
    entries: Vec<Range<u32>>,
}

/// What is fetched.
pub(crate) struct Fetching {
    desk: Rc<Desk>,
    commit: Rc<Commit>,
    heads: RefCell<BTreeMap<u64, Rc<Outbox>>>,
    asked: RefCell<BTreeMap<u32, Asked>>,
    next: Cell<u32>,
    rests: RefCell<BTreeMap<LedgerId, Rest>>,
    pace: RefCell<Pace>,
    /// When the pace lets more pass.
    paced: Cell<Option<Instant>>,
    started: Instant,
    came: Notify,
    writing: RefCell<BTreeMap<u64, Written>>,
    written: Cell<u64>,
}

impl Fetching {
    /// Nothing is fetched yet.
    #[must_use]
    pub(crate) fn new(desk: Rc<Desk>, commit: Rc<Commit>, settings: Settings) -> Self {
        Self {
            desk,
            commit,
            heads: RefCell::default(),
            asked: RefCell::default(),
            next: Cell::new(1),
            rests: RefCell::default(),
            pace: RefCell::new(Pace::new(settings.bytes_per_second)),
            paced: Cell::new(None),
            started: Instant::now(),
            came: Notify::new(),
            writing: RefCell::default(),
            written: Cell::new(0),
        }
    }

    /// A head can be asked.
    pub(crate) fn enter(&self, session: u64, outbox: &Rc<Outbox>) {
        self.heads.borrow_mut().insert(session, Rc::clone(outbox));
        self.rests.borrow_mut().clear();
        self.came.notify_one();
    }

    /// A head is gone, and what it was asked for does not come.
    pub(crate) fn exit(&self, session: u64) {
        self.heads.borrow_mut().remove(&session);
        self.asked.borrow_mut().retain(|_, asked| asked.session != session);
        self.came.notify_one();
    }

    /// A head answered.
    pub(crate) fn answered(&self, session: u64, request: u32, lines: &Bytes) {
        let asked = self.asked.borrow_mut().remove(&request);
        let Some(asked) = asked.filter(|asked| asked.session == session) else { return };
        let (entries, whole) = check(&asked, lines);
        if entries.is_empty() {
            // Nobody has it, or nobody who is there: another head may know of more, and there may be more behind it.
            let now = Instant::now();
            let mut rests = self.rests.borrow_mut();
            let before = rests.get(&asked.ledger).map(|rest| rest.until).filter(|until| *until > now);
            let until = before.unwrap_or(now + limits::FETCH_AGAIN);
            rests.insert(asked.ledger, Rest { until, session, behind: asked.entries.end });
        } else {
            let now = self.started.elapsed();
            let wait = self.pace.borrow_mut().pass(whole.len(), now);
            self.paced.set((!wait.is_zero()).then(|| Instant::now() + wait));
            let number = self.written.get() + 1;
            self.written.set(number);
            self.writing.borrow_mut().insert(number, Written { ledger: asked.ledger, entries });
            self.commit.add_lines(PutNumber { session: COPIES, number }, &whole);
        }
        self.came.notify_one();
    }

    /// The runs that are wanted and not under way, one for each ledger.
    fn due(&self, now: Instant) -> Vec<(LedgerId, Range<u32>)> {
        let asked = self.asked.borrow();
        let mut busy: BTreeSet<LedgerId> = asked.values().map(|asked| asked.ledger).collect();
        busy.extend(self.writing.borrow().values().map(|written| written.ledger));
        let rests = self.rests.borrow();
        let free = limits::FETCHES_MAX.saturating_sub(busy.len());
        let rested = |ledger: &LedgerId, range: &Range<u32>| {
            rests.get(ledger).is_none_or(|rest| rest.until <= now || range.start >= rest.behind)
        };
        let kept = self.desk.kept();
        let due = kept.wanted().filter(|(ledger, range)| rested(ledger, range) && busy.insert(*ledger));
        due.take(free).collect()
    }

    /// The head to ask: another one than the last that knew nobody.
    fn head(&self, ledger: LedgerId) -> Option<(u64, Rc<Outbox>)> {
        let heads = self.heads.borrow();
        let last = self.rests.borrow().get(&ledger).map(|rest| rest.session);
        let next = last.and_then(|last| heads.range(last + 1..).next());
        next.or_else(|| heads.iter().next()).map(|(session, outbox)| (*session, Rc::clone(outbox)))
    }

    fn ask(&self, ledger: LedgerId, range: &Range<u32>) {
        let Some((session, outbox)) = self.head(ledger) else { return };
        let request = self.next.get();
        self.next.set(request.wrapping_add(1));
        let entries = range.start..range.end.min(range.start.saturating_add(limits::FETCH_ENTRIES_MAX));
        let wanted = Frame::Fetch { request, ledger, entries: entries.clone() };
        if outbox.with(|out| wanted.encode(out)).is_ok() {
            let asked = Asked { ledger, entries, at: Instant::now(), session };
            self.asked.borrow_mut().insert(request, asked);
        }
    }

    /// Fetches until it is cancelled.
    pub(crate) async fn run(self: Rc<Self>, ended: CancellationToken) {
        let session = self.commit.enter_as(COPIES, Rc::clone(&self) as Rc<dyn Sender>);
        debug_assert_eq!(session, COPIES);
        while !ended.is_cancelled() {
            let changed = self.desk.changed.notified();
            let now = Instant::now();
            self.asked.borrow_mut().retain(|_, asked| now < asked.at + limits::FETCH_TIME_MAX);
            self.rests.borrow_mut().retain(|_, rest| now < rest.until + limits::FETCH_AGAIN);
            let stands_aside = self.commit.waiting() > limits::REPAIR_YIELD_BYTES;
            let paced = self.paced.get().filter(|until| now < *until);
            if !stands_aside && paced.is_none() {
                self.due(now).iter().for_each(|(ledger, range)| self.ask(*ledger, range));
            }
            let wake = paced.unwrap_or(now + self.patience(stands_aside));
            tokio::select! {
                biased;
                () = ended.cancelled() => return,
                () = self.came.notified() => {}
                () = changed => {}
                () = sleep_until(wake) => {}
            }
            if stands_aside {
                sleep(limits::REPAIR_YIELD).await;
            }
        }
    }

    fn patience(&self, stands_aside: bool) -> Duration {
        if stands_aside {
            limits::REPAIR_YIELD
        } else if self.asked.borrow().is_empty() && self.rests.borrow().is_empty() {
            limits::FETCH_TIME_MAX
        } else {
            limits::FETCH_AGAIN
        }
    }
}

/// The session under which copies are written.
const COPIES: u64 = 0;

impl Sender for Fetching {
    fn settled(&self, first: u64, last: u64, verdict: &Verdict) {
        for number in first..=last {
            let Some(written) = self.writing.borrow_mut().remove(&number) else { continue };
            if matches!(verdict, Verdict::Kept) {
                written.entries.into_iter().for_each(|entries| self.desk.fetched(written.ledger, entries));
            } else {
                let rest = Rest { until: Instant::now() + limits::FETCH_AGAIN, session: 0, behind: u32::MAX };
                self.rests.borrow_mut().insert(written.ledger, rest);
            }
        }
        self.came.notify_one();
    }
}

/// The lines of an answer that are what was asked for, and which entries they are.
fn check(asked: &Asked, lines: &[u8]) -> (Vec<Range<u32>>, Vec<u8>) {
    let (mut entries, mut whole) = (crate::ledger::entries::EntrySet::default(), Vec::with_capacity(lines.len()));
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        let Some(Ok(record)) = line.strip_suffix(b"\n").map(record::decode) else { continue };
        let Some((ledger, entry)) = record.entry() else { continue };
        if ledger == asked.ledger && asked.entries.contains(&entry) && !entries.contains(entry) {
            entries.insert(entry);
            // What another node's file says of itself is nothing for this one's.
            let plain = record::without_sync_mark(line, &record);
            whole.extend_from_slice(plain.as_deref().unwrap_or(line));
        }
    }
    (entries.ranges().collect(), whole)
}
