//! What a data node tells one head: what became of each Put, in their order, and what changed of what it keeps.
//!
//! Nothing is read here; that is `session`'s.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::rc::Rc;

use tokio::time::Instant;

use super::commit::{Sender, Verdict};
use super::current::LogError;
use super::desk::Desk;
use super::log::SyncPolicy;
use crate::ledger::frames;
use crate::ledger::kept::NotTaken;
use crate::net::Outbox;
use crate::net::framed::Ended;
use crate::wire::error::Code;
use crate::wire::frame::{self, Frame, SyncMode};
use crate::wire::ledger::{Incarnation, LedgerId};

/// A Put that was taken and is not settled.
pub(super) struct Taken {
    pub(super) number: u64,
    pub(super) ledger: LedgerId,
    pub(super) entries: Range<u32>,
}

/// A Put that was not taken.
pub(super) struct Late {
    pub(super) number: u64,
    pub(super) code: Code,
    pub(super) why: String,
}

/// What one head is told on its connection.
pub(super) struct HeadSender {
    pub(super) outbox: Rc<Outbox>,
    desk: Rc<Desk>,
    /// Puts under way: no more than the window.
    pub(super) taken: RefCell<VecDeque<Taken>>,
    /// The last Put that was answered.
    answered: Cell<u64>,
    /// Puts that wait for their turn to be refused: no more than the window.
    late: RefCell<VecDeque<Late>>,
    /// When the head was heard last.
    pub(super) heard: Cell<Instant>,
    sync: SyncMode,
    /// Under which incarnations the head writes here.
    pub(super) incarnations: RefCell<BTreeSet<Incarnation>>,
    /// Up to which version the head has heard what this node keeps; none before it has heard anything.
    told: Cell<Option<u64>>,
    /// Which version of the roster the head has heard; none if it is to hear that what it told is noted.
    pub(super) roster_told: Cell<Option<u64>>,
    /// The last Flush that is not answered.
    pub(super) flush: Cell<Option<u64>>,
}

impl HeadSender {
    pub(super) fn new(desk: &Rc<Desk>, sync: SyncPolicy) -> Self {
        Self {
            outbox: Rc::default(),
            desk: Rc::clone(desk),
            taken: RefCell::default(),
            answered: Cell::new(0),
            late: RefCell::default(),
            heard: Cell::new(Instant::now()),
            sync: sync_mode(sync),
            incarnations: RefCell::default(),
            told: Cell::new(None),
            roster_told: Cell::new(None),
            flush: Cell::new(None),
        }
    }

    /// Refuses a Put once all before it are answered.
    pub(super) fn refuse(&self, late: Late) {
        self.late.borrow_mut().push_back(late);
        self.refuse_next();
    }

    fn refuse_next(&self) {
        let next = || self.late.borrow_mut().pop_front_if(|late| late.number == self.answered.get() + 1);
        while let Some(Late { number, code, why }) = next() {
            self.answered.set(number);
            self.outbox.answer(|out| frame::put_refused(out, number, code, &why));
        }
    }

    /// Says what is news of the ledgers, if all that it follows from is synced.
    pub(super) fn tell_news(&self) -> Result<(), Ended> {
        if !self.desk.is_ready() {
            return Ok(());
        }
        let (reports, version) = self.desk.news(self.told.get());
        let first = self.told.replace(Some(version)).is_none();
        let mut sent = Ok(());
        for frame in frames::holds(reports, first) {
            sent = sent.and_then(|()| self.outbox.with(|out| frame.encode(out)));
        }
        let rosters = Some(self.desk.rosters());
        if self.roster_told.replace(rosters) != rosters {
            let roster = Frame::Roster(frames::roster(self.desk.kept().roster()));
            sent = sent.and_then(|()| self.outbox.with(|out| roster.encode(out)));
        }
        if let Some(round) = self.flush.take() {
            sent = sent.and_then(|()| self.outbox.with(|out| Frame::Flushed(round).encode(out)));
        }
        sent.map_err(|error| Ended::Refused(error.refusal()))
    }

    /// Whether there is something that the head has to hear at once.
    pub(super) fn has_news(&self) -> bool {
        let behind = self.told.get().is_none_or(|told| told < self.desk.loud()) || self.flush.get().is_some();
        (behind || self.roster_told.get() != Some(self.desk.rosters())) && self.desk.is_ready()
    }
}

/// Why a Put is refused.
pub(super) fn refusal(why: NotTaken) -> (Code, String) {
    match why {
        NotTaken::Known => (Code::LedgerKnown, "this ledger is known here already".to_owned()),
        other => (Code::LedgerOver, format!("the ledger is over here: {other:?}")),
    }
}

impl Sender for HeadSender {
    fn settled(&self, first: u64, last: u64, verdict: &Verdict) {
        let mut acked = None;
        for number in first..=last {
            let Some(taken) = self.taken.borrow_mut().pop_front() else { break };
            debug_assert_eq!(taken.number, number);
            let refused = match verdict {
                Verdict::Kept if self.desk.committed(taken.ledger, taken.entries) => None,
                Verdict::Kept => Some((Code::LedgerOver, "the ledger is over here".to_owned())),
                Verdict::NotKept(error) => {
                    self.desk.refused(taken.ledger);
                    let code = if matches!(error, LogError::Full { .. }) { Code::DiskFull } else { Code::Storage };
                    Some((code, error.to_string()))
                }
            };
            match refused {
                None => acked = Some(number),
                Some((code, why)) => {
                    if let Some(acked) = acked.take() {
                        self.outbox.answer(|out| frame::put_ack(out, acked, self.sync));
                    }
                    self.outbox.answer(|out| frame::put_refused(out, number, code, &why));
                }
            }
        }
        if let Some(acked) = acked {
            self.outbox.answer(|out| frame::put_ack(out, acked, self.sync));
        }
        self.answered.set(last);
        self.refuse_next();
    }
}

/// The promise that an acknowledgement makes under this policy.
pub(super) const fn sync_mode(policy: SyncPolicy) -> SyncMode {
    match policy {
        SyncPolicy::Always => SyncMode::Always,
        SyncPolicy::Every(_) => SyncMode::Interval,
        SyncPolicy::Never => SyncMode::Never,
    }
}
