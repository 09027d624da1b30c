//! Which sources there are, as data nodes tell page by page and as came by this head. Pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::limits;
use crate::wire::frame::{Messages, SourceCount};
use crate::wire::source::SourceName;

/// A day of UTC.
pub(super) const DAY_NS: u64 = 86_400 * 1_000_000_000;

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

impl Page {
    /// Whether it is an answer to the question for so many names behind one: in their order, no more, and none of before.
    pub(super) fn answers(&self, behind: Option<SourceName>, most: usize) -> bool {
        let names = self.sources.iter().map(|source| Some(source.name));
        let ordered = std::iter::once(behind).chain(names).is_sorted_by(|one, next| one < next);
        ordered && self.sources.len() <= most && !(self.more && self.sources.is_empty())
    }
}

/// What came by this head of one source.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) address: SocketAddr,
    pub(super) messages: u64,
    pub(super) heard: Instant,
    /// The same by the wall clock.
    pub(super) heard_ns: u64,
    /// Messages of the day on which it was heard last.
    today: u64,
    /// The last message; nothing if it is too long.
    pub(super) last: Vec<u8>,
    /// The last times between two messages.
    gaps: [Duration; limits::DEVICE_GAPS],
    count: usize,
}

/// When it is, by both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) now: Instant,
    pub(crate) wall_ns: u64,
}

impl Seen {
    /// Messages of the day that it is now, UTC.
    pub(super) const fn today(&self, wall_ns: u64) -> u64 {
        if self.heard_ns / DAY_NS == wall_ns / DAY_NS { self.today } else { 0 }
    }

    fn remember(&mut self, messages: &Messages) {
        let last = messages.iter().last().unwrap_or_default();
        self.last.clear();
        if last.len() <= limits::DEVICE_LAST_BYTES_MAX {
            self.last.extend_from_slice(last);
        }
    }
}

/// What came by this head.
#[derive(Debug, Default)]
pub(crate) struct Live(pub(super) BTreeMap<SourceName, Seen>);

impl Live {
    /// Messages of a source came.
    pub(crate) fn heard(&mut self, name: SourceName, address: SocketAddr, messages: &Messages, at: Now) {
        let Now { now, wall_ns } = at;
        let count = u64::from(messages.count());
        if let Some(seen) = self.0.get_mut(&name) {
            let gap = now.duration_since(seen.heard);
            // What comes in pieces of one burst tells nothing of how often a device speaks.
            if gap >= limits::DEVICE_GAP_MIN {
                if let Some(slot) = seen.gaps.get_mut(seen.count % limits::DEVICE_GAPS) {
                    *slot = gap;
                }
                seen.count += 1;
            }
            seen.today = seen.today(wall_ns) + count;
            (seen.address, seen.heard, seen.messages) = (address, now, seen.messages + count);
            seen.heard_ns = wall_ns;
            seen.remember(messages);
        } else if self.0.len() < limits::DEVICES_LIVE_MAX {
            let gaps = [Duration::ZERO; limits::DEVICE_GAPS];
            let (heard, heard_ns, last) = (now, wall_ns, Vec::new());
            let mut seen = Seen { address, messages: count, heard, heard_ns, today: count, last, gaps, count: 0 };
            seen.remember(messages);
            self.0.insert(name, seen);
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
                known.records = known.records.saturating_add(source.records);
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
    use crate::wire::frame::MessagesBuilder;
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
    fn what_is_no_answer_to_the_question_is_not_taken() {
        let page = |names: &[&str], more| {
            let sources = names.iter().map(|name| count(name, u64::MAX, 1, 1)).collect();
            Page { more, sources, ..Page::default() }
        };
        assert!(page(&["b", "c"], true).answers(Some(name("a")), 2) && page(&[], false).answers(None, 2));
        for (names, more) in
            [(&["a", "b"][..], false), (&["c", "b"], false), (&["b", "b"], false), (&["b", "c", "d"], false)]
        {
            assert!(!page(names, more).answers(Some(name("a")), 2), "{names:?}");
        }
        assert!(!page(&[], true).answers(None, 2), "it would be asked for ever");
        let (all, _) = merge(&[page(&["a"], false), page(&["a"], false)], 9);
        assert_eq!(all[0].records, u64::MAX, "whatever nodes say, it is counted");
    }

    #[test]
    fn a_period_is_the_median_of_the_last_gaps() {
        let (mut live, mut now) = (Live::default(), Instant::now());
        let address = "127.0.0.1:7".parse().unwrap();
        let one = one(b"1");
        let at = |now| Now { now, wall_ns: 0 };
        let period = |live: &Live| Live::period(&live.0[&name("esp7")]);
        for gap in [60, 60, 60, 3600, 60, 60] {
            live.heard(name("esp7"), address, &one, at(now));
            // The rest of one line.
            live.heard(name("esp7"), address, &one, at(now + Duration::from_micros(50)));
            now += Duration::from_secs(gap);
        }
        assert_eq!(period(&live).map(|period| period.as_secs()), Some(59), "less the microseconds, and no hour");
        let mut few = Live::default();
        few.heard(name("esp7"), address, &one, at(now));
        few.heard(name("esp7"), address, &one, at(now + Duration::from_secs(60)));
        assert_eq!(period(&few), None);
        for n in 0..limits::DEVICES_LIVE_MAX + 10 {
            few.heard(name(&format!("d{n}")), address, &one, at(now));
        }
        assert_eq!(few.0.len(), limits::DEVICES_LIVE_MAX);
    }

    fn one(text: &[u8]) -> Messages {
        let mut messages = MessagesBuilder::new();
        messages.push(&[text]).unwrap();
        messages.take().unwrap()
    }

    #[test]
    fn messages_of_today_begin_anew_at_midnight_and_the_last_one_is_remembered_up_to_a_bound() {
        let (mut live, address, now) = (Live::default(), "127.0.0.1:7".parse().unwrap(), Instant::now());
        let mut hear = |text: &[u8], wall_ns| {
            live.heard(name("esp7"), address, &one(text), Now { now, wall_ns });
            live.0[&name("esp7")].clone()
        };
        assert_eq!(hear(b"1", 5 * DAY_NS).today(5 * DAY_NS), 1);
        let seen = hear(b"2", 6 * DAY_NS - 1);
        assert_eq!((seen.today(6 * DAY_NS - 1), seen.today(6 * DAY_NS), seen.messages), (2, 0, 2));
        assert_eq!(seen.last, b"2");
        let seen = hear(&[b'x'; limits::DEVICE_LAST_BYTES_MAX + 1], 6 * DAY_NS);
        assert_eq!((seen.today(6 * DAY_NS), seen.messages, seen.last.len()), (1, 3, 0), "no part of a message");
    }
}
