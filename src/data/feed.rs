//! What a node sends a reader that follows: all entries that the reader's place does not cover, and those that come.
//!
//! One task for each Follow, paid for with the credit that the head gives: a reader that stops reading stops it. Which
//! entries are whose, the head and the reader sort out; a node sends each of its entries once.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::ops::Range;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::desk::Desk;
use super::entries::Wanted;
use super::rot::Rot;
use super::scan::ScanError;
use super::scans::Scans;
use crate::ledger::entries::EntrySet;
use crate::limits;
use crate::net::Outbox;
use crate::wire::filter::SourceFilter;
use crate::wire::frame::{self, Frame};
use crate::wire::id::ClientId;
use crate::wire::ledger::{Incarnation, LedgerId};

/// The feed of one Follow.
pub(crate) struct Feed {
    request: u32,
    client: Option<ClientId>,
    sources: SourceFilter,
    /// Ledgers of which nothing is wanted.
    done: BTreeMap<Incarnation, EntrySet>,
    /// What was sent, or is known.
    sent: RefCell<BTreeMap<LedgerId, EntrySet>>,
    credit: Cell<u64>,
    more: Notify,
    over: Cell<bool>,
}

/// Where a reader is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    /// Ledgers that it knows whole.
    pub(crate) done: Vec<frame::Numbers>,
    /// Ledgers that it knows in part.
    pub(crate) cursors: Vec<frame::Cursor>,
}

impl Feed {
    /// A feed that goes on behind a place.
    #[must_use]
    pub(crate) fn new(request: u32, client: Option<ClientId>, sources: SourceFilter, place: Place) -> Self {
        let mut done = BTreeMap::<_, EntrySet>::new();
        for frame::Numbers { incarnation, numbers } in place.done {
            done.entry(incarnation).or_default().insert_range(numbers);
        }
        let sent = place.cursors.into_iter().map(|cursor| (cursor.ledger, EntrySet::from(0..cursor.next)));
        let sent = RefCell::new(sent.collect());
        Self { request, client, sources, done, sent, credit: Cell::new(0), more: Notify::new(), over: Cell::new(false) }
    }

    /// So many more bytes may be sent; none ends the feed.
    pub(crate) fn grant(&self, bytes: u32) {
        self.over.set(self.over.get() || bytes == 0);
        self.credit.set(self.credit.get() + u64::from(bytes));
        self.more.notify_one();
    }

    fn is_done(&self, ledger: LedgerId) -> bool {
        self.done.get(&ledger.incarnation).is_some_and(|numbers| numbers.contains(ledger.number))
    }

    /// The first run of a ledger that was not sent.
    fn next(&self, desk: &Desk, ledger: LedgerId) -> Option<Range<u32>> {
        let kept = desk.kept();
        let has = kept.entries(ledger)?;
        let sent = self.sent.borrow();
        let none = EntrySet::default();
        let known = sent.get(&ledger).unwrap_or(&none);
        has.ranges().find_map(|range| known.missing(range).next())
    }

    /// Sends until it is over.
    pub(crate) async fn run(&self, desk: &Desk, scans: &Scans, rot: &Rot, outbox: &Outbox) {
        let (mut seen, mut todo) = (None, BTreeSet::<LedgerId>::new());
        let mut last = LedgerId::default();
        while !self.over.get() {
            let grown = desk.grown.notified();
            self.take_news(desk, &mut seen, &mut todo);
            // In turn: one that grows without a pause must not keep the others from being sent.
            let behind = todo.range((Excluded(last), Unbounded)).next();
            let Some(&ledger) = behind.or_else(|| todo.first()) else {
                tokio::select! {
                    biased;
                    () = self.more.notified() => {}
                    () = grown => {}
                }
                continue;
            };
            if self.credit.get() == 0 {
                self.more.notified().await;
                continue;
            }
            last = ledger;
            let Some(entries) = self.next(desk, ledger) else {
                todo.remove(&ledger);
                continue;
            };
            outbox.room(limits::NODE_PAGES_BYTES_MAX).await;
            let bytes_max = usize::try_from(self.credit.get()).unwrap_or(usize::MAX).min(limits::FETCH_BYTES_MAX);
            let wanted = Wanted {
                ledger,
                entries: entries.clone(),
                client: self.client,
                sources: self.sources.clone(),
                bytes_max,
            };
            match scans.entries(wanted).await {
                Ok(run) if run.met == 0 && !run.lost.is_empty() => rot.missed(ledger, entries.start, &run).await,
                Ok(run) => {
                    let next = run.next.min(entries.end);
                    self.sent.borrow_mut().entry(ledger).or_default().insert_range(entries.start..next);
                    if run.met == 0 {
                        // It is not answered for: another node may have it.
                        continue;
                    }
                    self.credit.set(self.credit.get().saturating_sub(run.lines.len() as u64));
                    let (request, entries) = (self.request, entries.start..next);
                    let pushed = Frame::Pushed { request, ledger, entries, lines: run.lines.into() };
                    if let Err(error) = outbox.with(|out| pushed.encode(out)) {
                        tracing::error!("entries cannot be sent: {error}");
                    }
                }
                Err(ScanError::Busy | ScanError::Gone { .. }) => sleep(limits::READ_POLL_MAX).await,
                Err(error) => {
                    tracing::warn!("entries of {ledger} cannot be read: {error}");
                    todo.remove(&ledger);
                    sleep(limits::READ_POLL_MAX).await;
                }
            }
        }
    }

    /// Which ledgers have changed since the last look.
    fn take_news(&self, desk: &Desk, seen: &mut Option<u64>, todo: &mut BTreeSet<LedgerId>) {
        let kept = desk.kept();
        let changed: Vec<LedgerId> = match *seen {
            None => kept.ledgers().collect(),
            Some(version) => kept.changed(version).collect(),
        };
        *seen = Some(kept.version());
        todo.extend(changed.into_iter().filter(|ledger| !self.is_done(*ledger)));
    }
}
