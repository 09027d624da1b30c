//! What this node answers to the heads' questions for records: pages that are complete as far as they say.
//!
//! How far that is, [`super::frontier`] knows; the lines come from [`super::scans`]. A Scan that wants more than is
//! complete has the other heads asked, and waits a moment for them. One for all sessions of a node.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};

use super::commit::{Commit, LogState};
use super::frontier::Frontier;
use super::hearsay::Hearsay;
use super::promise::Promise;
use super::repair::Counts;
use super::scan::{Page, Query, ScanError};
use super::scans::Scans;
use super::stall::{self, Stall};
use crate::limits;
use crate::net::Outbox;
use crate::wire::error::{Code, Refusal};
use crate::wire::frame::{self, Frame, Member, NodeReport};
use crate::wire::id::{ClientId, RecordId};

/// A head's question, and which session asked it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    /// The session.
    pub(crate) session: u64,
    /// The head's number for it.
    pub(crate) request: u32,
    /// The least id.
    pub(crate) from: RecordId,
    /// The first id that is not wanted.
    pub(crate) until: RecordId,
    /// Only records of this client.
    pub(crate) client: Option<ClientId>,
    /// Most bytes of lines.
    pub(crate) bytes_max: u32,
    /// What is safe, as the head says.
    pub(crate) safe: RecordId,
}

/// A head that can be asked what is safe.
struct Asked {
    /// Where it is, for people.
    at: String,
    outbox: Rc<Outbox>,
}

/// Answers questions, with what all heads said.
pub(crate) struct Answers {
    commit: Rc<Commit>,
    scans: Rc<Scans>,
    frontier: RefCell<Frontier>,
    promise: Promise,
    heads: RefCell<BTreeMap<u64, Asked>>,
    /// Since when nothing more gets complete that readers want.
    stall: RefCell<Stall>,
    /// Pages that may be made at the same time.
    making: Semaphore,
    /// Told when a head said something, or left.
    moved: Notify,
    /// Goes out before the pages that count on it.
    hearsay: Hearsay,
}

impl Answers {
    /// Answers from this log, and holds to what was promised before.
    #[must_use]
    pub(crate) fn new(commit: Rc<Commit>, scans: Rc<Scans>, promise: Promise) -> Self {
        let mut frontier = Frontier::default();
        frontier.promise(promise.kept());
        let making = Semaphore::new(limits::NODE_PAGES_MAKING_MAX);
        let (frontier, heads, stall) = (RefCell::new(frontier), RefCell::default(), RefCell::default());
        let (moved, hearsay) = (Notify::new(), Hearsay::default());
        Self { commit, scans, frontier, promise, heads, stall, making, moved, hearsay }
    }

    /// A head has taken this node in. It is asked what is safe at once if readers were told something since the node
    /// registered, or ever before.
    pub(crate) fn enter(&self, session: u64, at: &str, outbox: &Rc<Outbox>) {
        let asked = Asked { at: at.to_owned(), outbox: Rc::clone(outbox) };
        self.heads.borrow_mut().insert(session, asked);
        self.frontier.borrow_mut().enter(session);
        self.hearsay.enter(session, outbox);
        let promised = self.frontier.borrow().promised();
        self.ask(promised, |other| other == session);
    }

    /// A head is gone.
    pub(crate) fn exit(&self, session: u64) {
        self.heads.borrow_mut().remove(&session);
        self.frontier.borrow_mut().exit(session, self.commit.added());
        self.hearsay.exit(session);
        self.moved.notify_waiters();
    }

    /// The heads that this node dials from now on.
    pub(crate) fn expect(&self, heads: usize) {
        self.frontier.borrow_mut().expect(heads);
    }

    /// One of them was reached and has entered, or was not reached. Once for each.
    pub(crate) fn tried(&self) {
        self.frontier.borrow_mut().tried();
        self.moved.notify_waiters();
    }

    /// A head told which nodes it knows, and how few copies it gave of late.
    pub(crate) fn members(&self, session: u64, least: u8, members: &[Member]) {
        self.hearsay.told(session, least, members);
    }

    /// A head answered what is safe.
    pub(crate) fn safe(&self, session: u64, id: RecordId) {
        let mut frontier = self.frontier.borrow_mut();
        frontier.answered(session);
        frontier.safe(session, id, self.commit.added());
        self.moved.notify_waiters();
    }

    /// Whether a record comes too late: readers were told that everything up to there has come.
    #[must_use]
    pub(crate) fn is_late(&self, id: RecordId) -> bool {
        id < self.frontier.borrow().promised()
    }

    /// The greatest id that the log has or that a reader was told to be past.
    #[must_use]
    pub(crate) fn greatest(&self) -> RecordId {
        let has = self.commit.view().greatest().unwrap_or_default();
        has.max(self.frontier.borrow().promised())
    }

    /// The log's state as a head hears it; the reason is cut to what fits.
    #[must_use]
    pub(crate) fn report(&self, state: &LogState, counts: Counts) -> NodeReport {
        let end = state.reason.floor_char_boundary(limits::TEXT_BYTES_MAX);
        NodeReport {
            writable: state.reason.is_empty(),
            records: state.records,
            bytes: state.bytes,
            short: counts.short,
            sole: counts.sole,
            syncs: state.syncs,
            greatest: self.greatest(),
            reason: state.reason.get(..end).unwrap_or_default().to_owned(),
        }
    }

    /// Asks one head, unless it has said that it is past this id or is being asked.
    pub(crate) fn ask_one(&self, session: u64, id: RecordId) {
        self.ask(id, |other| other == session);
    }

    /// Asks the heads that have to say something before `target` can be complete.
    fn ask(&self, target: RecordId, whom: impl Fn(u64) -> bool) {
        let asked = self.frontier.borrow_mut().ask(target, whom);
        for session in asked {
            let head = self.heads.borrow().get(&session).map(|head| Rc::clone(&head.outbox));
            // The id came off the wire or is ours, so it fits.
            if let Some(head) = head
                && let Err(error) = head.with(|out| Frame::SafeQuery { at_least: target }.encode(out))
            {
                tracing::error!("a question cannot be sent: {error}");
            }
        }
    }

    /// Waits until what a question wants is complete, as far as that is to be had, for a bounded time. Returns up to
    /// where it is.
    async fn complete(&self, question: &Question) -> RecordId {
        let target = question.until.min(question.safe);
        let deadline = Instant::now() + limits::SAFE_WAIT_MAX;
        let asked = RefCell::new(BTreeSet::from([question.session]));
        loop {
            let (progress, moved) = (self.commit.progress.notified(), self.moved.notified());
            let least = {
                let mut frontier = self.frontier.borrow_mut();
                frontier.settle(self.commit.settled());
                frontier.least()
            };
            if least >= target {
                return least;
            }
            self.ask(target, |head| asked.borrow_mut().insert(head));
            if !self.frontier.borrow().moves(target) {
                return least;
            }
            tokio::select! {
                biased;
                () = progress => {}
                () = moved => {}
                () = sleep_until(deadline) => return least,
            }
        }
    }

    /// What is wrong if a question's range has not become complete for long: which other heads it waits for.
    fn held_up(&self, question: &Question, complete: RecordId) -> Option<ScanError> {
        let target = question.until.min(question.safe);
        if !self.stall.borrow_mut().is_long(complete, target, Instant::now()) {
            return None;
        }
        let heads = self.heads.borrow();
        let frontier = self.frontier.borrow();
        let behind = frontier.behind(target).filter(|(session, _)| *session != question.session);
        let words = behind
            .filter_map(|(session, safe)| heads.get(&session).map(|head| stall::in_words(&head.at, safe, target)));
        let words = words.collect::<Vec<_>>().join(" and ");
        (!words.is_empty()).then(|| ScanError::HeldUp(words.into()))
    }

    /// Promises that everything below some id has come, `until` at most, and returns that id. It is on the disk by then.
    async fn promise(&self, until: RecordId) -> Result<RecordId, ScanError> {
        self.promise.keep(until).await.map_err(|error| ScanError::Unkept(error.to_string().into()))?;
        let mut frontier = self.frontier.borrow_mut();
        // A head that came while that was written may put what it likes above the promise before this one.
        let until = until.min(frontier.least());
        frontier.promise(until);
        Ok(until)
    }

    /// Waits until the head reads its pages, and until this one may be made: what is held lasts until it is in the outbox.
    async fn room(&self, outbox: &Outbox) -> Option<SemaphorePermit<'_>> {
        loop {
            outbox.room(limits::NODE_PAGES_BYTES_MAX).await;
            let permit = self.making.acquire().await.ok();
            if outbox.len() < limits::NODE_PAGES_BYTES_MAX {
                return permit;
            }
        }
    }

    /// The page that answers a question, and what is held for it.
    async fn page(
        &self,
        question: &Question,
        outbox: &Outbox,
    ) -> Result<(Page, Option<SemaphorePermit<'_>>), ScanError> {
        let (from, mut room) = (question.from, None);
        let mut page = Page { next: from, ..Page::default() };
        if from < question.until {
            let complete = self.complete(question).await;
            if let Some(held_up) = self.held_up(question, complete) {
                return Err(held_up);
            }
            let until = complete.min(question.until);
            if from < until {
                // Before the files are looked at: a head that comes meanwhile must put nothing into this page's range.
                let until = self.promise(until).await?;
                if until <= from {
                    return Ok((page, room));
                }
                room = self.room(outbox).await;
                let bytes_max = (question.bytes_max as usize).min(limits::PAGE_BYTES_MAX);
                page = self.scans.page(Query { from, until, client: question.client, bytes_max }).await?;
            }
        }
        Ok((page, room))
    }

    /// Takes what a question says of its head. Called in order with its Puts.
    pub(crate) fn hear(&self, question: &Question) {
        self.frontier.borrow_mut().safe(question.session, question.safe, self.commit.added());
        self.moved.notify_waiters();
    }

    /// Answers a question that was heard.
    pub(crate) async fn answer(&self, question: Question, outbox: &Outbox) {
        let request = question.request;
        let sent = match self.page(&question, outbox).await {
            Ok((page, _room)) => {
                let ends = (page.next, self.greatest());
                outbox.with(|out| frame::page(out, request, ends, page.rotten, &page.lines))
            }
            Err(error) => {
                let code = match error {
                    ScanError::Busy => Code::Busy,
                    ScanError::HeldUp(_) => Code::Timeout,
                    _ => Code::Storage,
                };
                let refusal = Refusal::new(code, error.to_string());
                outbox.with(|out| Frame::ScanFailed { request, refusal }.encode(out))
            }
        };
        if let Err(error) = sent {
            tracing::error!("a page cannot be sent: {error}");
            let refusal = Refusal::new(Code::Storage, "a page does not fit its frame; look at the log of the node");
            // Its fields are fixed, so it fits.
            outbox.with(|out| Frame::ScanFailed { request, refusal }.encode(out)).unwrap_or_default();
        }
    }
}
