//! Which sources there are, as data nodes tell page by page and as came by this head. Pure, but for the questions that are open.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::limits;
use crate::wire::frame::SourceCount;
use crate::wire::source::SourceName;

/// A node's answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Page {
    /// There are more behind these.
    pub(crate) more: bool,
    /// It has more sources than it tells of.
    pub(crate) unlisted: bool,
    /// In the order of names.
    pub(crate) sources: Vec<SourceCount>,
}

/// Questions that are open at one node.
#[derive(Default)]
pub(crate) struct Questions {
    next: Cell<u32>,
    open: RefCell<BTreeMap<u32, oneshot::Sender<Page>>>,
}

impl Questions {
    pub(super) fn ask(&self) -> Option<(u32, oneshot::Receiver<Page>)> {
        let mut open = self.open.borrow_mut();
        // Whoever gave up does not wait any more.
        open.retain(|_, asker| !asker.is_closed());
        if open.len() >= limits::DEVICES_ASKED_MAX {
            return None;
        }
        let (number, (asker, answer)) = (self.next.get(), oneshot::channel());
        self.next.set(number.wrapping_add(1));
        open.insert(number, asker);
        Some((number, answer))
    }

    /// A node answers.
    pub(crate) fn answered(&self, request: u32, page: Page) {
        if let Some(asker) = self.open.borrow_mut().remove(&request) {
            // Whoever asked may be gone.
            drop(asker.send(page));
        }
    }
}

/// What came by this head of one source.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) address: SocketAddr,
    pub(super) messages: u64,
    pub(super) heard: Instant,
    /// The last times between two messages.
    gaps: [Duration; limits::DEVICE_GAPS],
    count: usize,
}

/// What came by this head.
#[derive(Debug, Default)]
pub(crate) struct Live(pub(super) BTreeMap<SourceName, Seen>);

impl Live {
    /// Messages of a source came.
    pub(crate) fn heard(&mut self, name: SourceName, address: SocketAddr, messages: u16, now: Instant) {
        if let Some(seen) = self.0.get_mut(&name) {
            let gap = now.duration_since(seen.heard);
            // What comes in pieces of one burst tells nothing of how often a device speaks.
            if gap >= limits::DEVICE_GAP_MIN {
                if let Some(slot) = seen.gaps.get_mut(seen.count % limits::DEVICE_GAPS) {
                    *slot = gap;
                }
                seen.count += 1;
            }
            (seen.address, seen.heard, seen.messages) = (address, now, seen.messages + u64::from(messages));
        } else if self.0.len() < limits::DEVICES_LIVE_MAX {
            let (gaps, count) = ([Duration::ZERO; limits::DEVICE_GAPS], 0);
            self.0.insert(name, Seen { address, messages: messages.into(), heard: now, gaps, count });
        }
    }

    /// The median of the last times between two messages, if there are some.
    pub(super) fn period(seen: &Seen) -> Option<Duration> {
        let mut gaps = seen.gaps.get(..seen.count.min(limits::DEVICE_GAPS))?.to_vec();
        gaps.sort_unstable();
        gaps.get(gaps.len() / 2).copied().filter(|_| gaps.len() >= limits::DEVICE_GAPS_LEAST)
    }
}

/// Pages of several nodes as one: names up to where all of them tell, at most so many; and the last one if there are more.
pub(super) fn merge(pages: &[Page], most: usize) -> (Vec<SourceCount>, Option<SourceName>) {
    let end = pages.iter().filter(|page| page.more).filter_map(|page| page.sources.last()).map(|last| last.name).min();
    let mut all: BTreeMap<SourceName, SourceCount> = BTreeMap::new();
    for source in pages.iter().flat_map(|page| &page.sources).filter(|source| end.is_none_or(|end| source.name <= end))
    {
        all.entry(source.name)
            .and_modify(|known| {
                known.records += source.records;
                known.first = known.first.min(source.first);
                known.last = known.last.max(source.last);
            })
            .or_insert(*source);
    }
    let is_cut = all.len() > most;
    let some: Vec<SourceCount> = all.into_values().take(most).collect();
    let next = some.last().filter(|_| is_cut || end.is_some()).map(|last| last.name);
    (some, next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::RecordId;
    use crate::wire::source::tests::name;

    fn count(text: &str, records: u64, first: u64, last: u64) -> SourceCount {
        let id = |time_ns| RecordId { time_ns, incarnation: 1 };
        SourceCount { name: name(text), records, first: id(first), last: id(last) }
    }

    fn names(all: &[SourceCount]) -> Vec<&str> {
        all.iter().map(|source| source.name.as_str()).collect()
    }

    #[test]
    fn pages_are_merged_up_to_where_all_nodes_tell() {
        let one = Page { more: true, sources: vec![count("a", 1, 5, 9), count("c", 2, 1, 1)], ..Page::default() };
        let two =
            Page { sources: vec![count("a", 3, 2, 7), count("b", 1, 1, 1), count("d", 1, 1, 1)], ..Page::default() };
        let (all, next) = merge(&[one.clone(), two.clone()], 10);
        assert_eq!((names(&all), next), (vec!["a", "b", "c"], Some(name("c"))), "the first may have more before d");
        assert_eq!(all[0], count("a", 4, 2, 9));
        let (all, next) = merge(&[one, two.clone()], 2);
        assert_eq!((names(&all), next), (vec!["a", "b"], Some(name("b"))));
        let (all, next) = merge(&[two], 10);
        assert_eq!((names(&all), next), (vec!["a", "b", "d"], None));
        assert_eq!(merge(&[], 10), (vec![], None));
    }

    #[test]
    fn a_period_is_the_median_of_the_last_gaps() {
        let (mut live, mut now) = (Live::default(), Instant::now());
        let address = "127.0.0.1:7".parse().unwrap();
        let period = |live: &Live| Live::period(&live.0[&name("esp7")]);
        for gap in [60, 60, 60, 3600, 60, 60] {
            live.heard(name("esp7"), address, 1, now);
            // The rest of one line.
            live.heard(name("esp7"), address, 1, now + Duration::from_micros(50));
            now += Duration::from_secs(gap);
        }
        assert_eq!(period(&live).map(|period| period.as_secs()), Some(59), "less the microseconds, and no hour");
        let mut few = Live::default();
        few.heard(name("esp7"), address, 1, now);
        few.heard(name("esp7"), address, 1, now + Duration::from_secs(60));
        assert_eq!(period(&few), None);
        for n in 0..limits::DEVICES_LIVE_MAX + 10 {
            few.heard(name(&format!("d{n}")), address, 1, now);
        }
        assert_eq!(few.0.len(), limits::DEVICES_LIVE_MAX);
    }
}
