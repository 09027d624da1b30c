//! Lines that rotted while the node runs: which entries are lacking by them.
//!
//! A rotten line does not say what it was, so its whole file is counted again. What is lacking is fetched like anything else;
//! lines that somebody else wrote take nothing away. A file that was moved or cut lacks, too, what is not in it any more, until
//! it is as it was.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use tokio::sync::Mutex;

use super::commit::Commit;
use super::desk::Desk;
use super::entries::Run;
use super::ledgers::Ledgers;
use super::scan::{Page, RottenAt, ScanError};
use super::scans::Scans;
use crate::ledger::entries::EntrySet;
use crate::limits;
use crate::wire::ledger::LedgerId;

/// Rotten lines that are known.
pub(crate) struct Rot {
    desk: Rc<Desk>,
    commit: Rc<Commit>,
    scans: Rc<Scans>,
    /// By the serial of the file, where they begin.
    known: RefCell<BTreeMap<u64, BTreeSet<u64>>>,
    /// The serials of files that are not there, or shorter than they were.
    lost: RefCell<BTreeSet<u64>>,
    /// Held while what a page met is counted: another page that met the same is not answered before.
    counting: Mutex<()>,
}

impl Rot {
    /// None is known yet.
    #[must_use]
    pub(crate) fn new(desk: Rc<Desk>, commit: Rc<Commit>, scans: Rc<Scans>) -> Self {
        let (known, lost) = (RefCell::default(), RefCell::default());
        Self { desk, commit, scans, known, lost, counting: Mutex::default() }
    }

    /// Notes what a page met; the files with lines that are news.
    fn note(&self, rot: &[RottenAt]) -> BTreeSet<u64> {
        let mut known = self.known.borrow_mut();
        let mut news = BTreeSet::new();
        for place in rot {
            let offsets = known.entry(place.serial).or_default();
            if offsets.len() < limits::PAGE_ROT_MAX && offsets.insert(place.offset) {
                news.insert(place.serial);
                if place.len == 0 {
                    self.lost.borrow_mut().insert(place.serial);
                }
            }
        }
        news
    }

    /// Files that were lost and are whole again: what is in them is there.
    async fn look_again(&self) {
        let lost = self.lost.borrow().clone();
        for serial in lost {
            let Ok(found) = self.scans.recount(serial).await else { continue };
            let view = self.commit.view();
            let had = view.ledgers().find(|(other, _)| *other == serial).map(|(_, ledgers)| ledgers);
            let is_whole = |(ledger, entries): (LedgerId, &EntrySet)| {
                entries.ranges().all(|range| found.of(ledger).is_some_and(|found| found.covers(range)))
            };
            if !had.is_some_and(|had| had.iter().all(is_whole)) {
                continue;
            }
            self.lost.borrow_mut().remove(&serial);
            self.known.borrow_mut().remove(&serial);
            for (ledger, entries) in found.iter() {
                entries.ranges().for_each(|range| self.desk.fetched(ledger, range));
            }
        }
    }

    /// Takes what a page met: entries that are lacking by it are told to the desk.
    ///
    /// # Errors
    /// What is lacking can't be counted now: the page is to be asked for again.
    pub(crate) async fn met(&self, page: &Page) -> Result<(), ScanError> {
        if page.rot.is_empty() && self.lost.borrow().is_empty() {
            return Ok(());
        }
        let _counting = self.counting.lock().await;
        if page.lost == 0 && !self.lost.borrow().is_empty() {
            self.look_again().await;
        }
        let mut counted = Ok(());
        for serial in self.note(&page.rot) {
            if counted.is_ok() {
                counted = self.count_anew(serial).await;
            }
            if counted.is_err() {
                // The next page that meets it counts.
                self.known.borrow_mut().remove(&serial);
            }
        }
        counted
    }

    /// Takes what a search for entries from `first` on met: if that one is in none of the files that were to have it, it is
    /// lacking, and they may lack more.
    pub(crate) async fn missed(&self, ledger: LedgerId, first: u32, run: &Run) {
        let is_kept = self.desk.kept().entries(ledger).is_some_and(|entries| entries.contains(first));
        if run.met > 0 || run.lost.is_empty() || !is_kept {
            return;
        }
        self.tell(ledger, first..first.saturating_add(1));
        for serial in &run.lost {
            if let Err(error) = self.count_anew(*serial).await {
                tracing::debug!("a file with missing entries is counted when it is met again: {error}");
            }
        }
    }

    /// Reads a file: what it was to have and has not, and no other file either, is lacking. Files that have rotted before are read,
    /// too: what one of them lost was fetched into another, and may rot there.
    async fn count_anew(&self, serial: u64) -> Result<(), ScanError> {
        let view = self.commit.view();
        let (mut had, mut there, mut rotten) = (Ledgers::default(), Ledgers::default(), Vec::new());
        for (other, ledgers) in view.ledgers() {
            if other == serial || self.known.borrow().contains_key(&other) || self.lost.borrow().contains(&other) {
                had.merge(ledgers);
                rotten.push(other);
            } else {
                there.merge(ledgers);
            }
        }
        for rotten in rotten {
            match self.scans.recount(rotten).await {
                Ok(found) => there.merge(&found),
                Err(ScanError::Gone { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        for (ledger, entries) in had.iter() {
            let none = EntrySet::default();
            let there = there.of(ledger).unwrap_or(&none);
            let lost: Vec<Range<u32>> = entries.ranges().flat_map(|range| there.missing(range)).collect();
            lost.into_iter().for_each(|range| self.tell(ledger, range));
        }
        Ok(())
    }

    fn tell(&self, ledger: LedgerId, lost: Range<u32>) {
        let is_kept = self.desk.kept().entries(ledger).is_some_and(|entries| entries.count_in(lost.clone()) > 0);
        if is_kept {
            let last = lost.end.saturating_sub(1);
            tracing::warn!(
                "entries {} to {last} of ledger {ledger} are damaged here: they are fetched again",
                lost.start
            );
            self.desk.rotten(ledger, lost);
        }
    }
}
