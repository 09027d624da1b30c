//! Lines that rotted while the node runs: which entries are lacking by them.
//!
//! A rotten line does not say what it was, so its whole file is counted again. What is lacking is fetched like anything else;
//! lines that somebody else wrote take nothing away.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::commit::Commit;
use super::desk::Desk;
use super::ledgers::Ledgers;
use super::scan::{Page, RottenAt};
use super::scans::Scans;
use crate::limits;

/// Rotten lines that are known.
#[derive(Debug, Default)]
pub(crate) struct Rot {
    /// By the serial of the file, where they begin.
    known: RefCell<BTreeMap<u64, BTreeSet<u64>>>,
}

impl Rot {
    /// Notes what a page met; the files with lines that are news.
    fn note(&self, rot: &[RottenAt]) -> BTreeSet<u64> {
        let mut known = self.known.borrow_mut();
        let mut news = BTreeSet::new();
        for place in rot {
            let offsets = known.entry(place.serial).or_default();
            if offsets.len() < limits::PAGE_ROT_MAX && offsets.insert(place.offset) {
                news.insert(place.serial);
            }
        }
        news
    }

    /// Takes what a page met: entries that are lacking by it are told to the desk.
    pub(crate) async fn met(&self, page: &Page, commit: &Rc<Commit>, scans: &Rc<Scans>, desk: &Rc<Desk>) {
        for serial in self.note(&page.rot) {
            let view = commit.view();
            let (mut had, mut elsewhere) = (Ledgers::default(), Ledgers::default());
            for (other, ledgers) in view.ledgers() {
                let into = if other == serial { &mut had } else { &mut elsewhere };
                into.merge(ledgers);
            }
            let Ok(found) = scans.recount(serial).await else { continue };
            for (ledger, entries) in had.iter() {
                let there = |range| found.of(ledger).is_some_and(|found| found.covers(range));
                for range in entries.ranges().filter(|range| !there(range.clone())) {
                    self.tell(ledger, range, (&found, &elsewhere), desk);
                }
            }
        }
    }

    fn tell(
        &self,
        ledger: crate::wire::ledger::LedgerId,
        range: std::ops::Range<u32>,
        (found, elsewhere): (&Ledgers, &Ledgers),
        desk: &Desk,
    ) {
        let mut there = found.of(ledger).cloned().unwrap_or_default();
        if let Some(more) = elsewhere.of(ledger) {
            there.union(more);
        }
        for lost in there.missing(range) {
            tracing::warn!("entries {} to {} of ledger {ledger} are damaged here: they are fetched again", lost.start, lost.end - 1);
            desk.rotten(ledger, lost);
        }
    }
}
