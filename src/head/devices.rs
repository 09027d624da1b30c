//! Which sources there are: what data nodes tell of their records, and what this head has seen of their connections.
//!
//! Nodes are asked when somebody wants to know, page by page; [`merge`] puts their pages together, and [`Live`] is what came
//! by this head. Both are pure.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::core::Core;
use super::guests::Guest;
use super::state::Head;
use crate::limits;
use crate::wire::frame::{Frame, SourceCount};
use crate::wire::id::RecordId;
use crate::wire::source::SourceName;
use crate::wire::status::{DeviceStatus, DevicesReport};
use crate::wire::text::Dialect;

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
    fn ask(&self) -> Option<(u32, oneshot::Receiver<Page>)> {
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
struct Seen {
    address: SocketAddr,
    messages: u64,
    heard: Instant,
    /// The last times between two messages.
    gaps: [Duration; limits::DEVICE_GAPS],
    count: usize,
}

/// What came by this head.
#[derive(Debug, Default)]
pub(crate) struct Live(BTreeMap<SourceName, Seen>);

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
    fn period(seen: &Seen) -> Option<Duration> {
        let mut gaps = seen.gaps.get(..seen.count.min(limits::DEVICE_GAPS))?.to_vec();
        gaps.sort_unstable();
        gaps.get(gaps.len() / 2).copied().filter(|_| gaps.len() >= limits::DEVICE_GAPS_LEAST)
    }
}

/// Pages of several nodes as one: names up to where all of them tell, at most so many; and the last one if there are more.
fn merge(pages: &[Page], most: usize) -> (Vec<SourceCount>, Option<SourceName>) {
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

impl Head {
    /// Some of the devices, those behind a name, as JSON.
    pub(crate) async fn devices_report(&self, behind: Option<SourceName>, most: u16) -> Vec<u8> {
        let most = usize::from(most).clamp(1, limits::SOURCES_PAGE_MAX);
        let deadline = Instant::now() + limits::DEVICES_TIME_MAX;
        let (mut asked, mut missing, mut pages) = (Vec::new(), Vec::new(), Vec::new());
        for node in self.nodes().into_iter().filter(|node| node.dialect == Dialect::Framed) {
            match node.questions.ask() {
                Some((request, answer)) => {
                    node.tell(&Frame::SourcesQuery { request, behind, most: most as u16 });
                    asked.push((Rc::clone(&node), answer));
                }
                None => missing.push(node.name.clone()),
            }
        }
        for (node, answer) in asked {
            match timeout_at(deadline, answer).await {
                Ok(Ok(page)) => pages.push(page),
                _ => missing.push(node.name.clone()),
            }
        }
        missing.extend(self.members_away().into_iter().map(|away| away.name));
        let (sources, next) = merge(&pages, most);
        let copies = self.core(Core::replicas);
        let mut all: BTreeMap<String, DeviceStatus> = BTreeMap::new();
        for source in &sources {
            all.insert(source.name.to_string(), kept(source, copies));
        }
        self.add_connected(&mut all, behind, next);
        let now_ns = self.config.clock.wall_ns();
        all.values_mut().for_each(|device| self.add_times(device, now_ns));
        let unlisted = pages.iter().any(|page| page.unlisted);
        let devices = all.into_values().collect();
        let report = DevicesReport { devices, next: next.map(|next| next.to_string()), unlisted, missing, copies };
        // Numbers and texts have a JSON form.
        serde_json::to_vec(&report).unwrap_or_else(|_| b"{}".to_vec())
    }

    /// Who is connected with a name, in this part of all names.
    fn add_connected(
        &self,
        all: &mut BTreeMap<String, DeviceStatus>,
        behind: Option<SourceName>,
        next: Option<SourceName>,
    ) {
        for guest in self.places.guests() {
            let Some(said) = guest.said.get() else { continue };
            let name = said.who.to_string();
            let is_here = behind.is_none_or(|behind| name.as_str() > behind.as_str())
                && next.is_none_or(|next| name.as_str() <= next.as_str());
            if is_here {
                let device = all
                    .entry(name)
                    .or_insert_with_key(|name| DeviceStatus { name: name.clone(), ..DeviceStatus::default() });
                connect(device, &guest);
            }
        }
    }

    /// When it was heard, how often it speaks, and whether it is silent.
    fn add_times(&self, device: &mut DeviceStatus, now_ns: u64) {
        let live = self.devices.borrow();
        let seen = device.name.parse::<SourceName>().ok().and_then(|name| live.0.get(&name));
        let by_id = (device.records > 0).then(|| now_ns.saturating_sub(device.last_ns) / 1_000_000_000);
        let by_ear = seen.map(|seen| seen.heard.elapsed().as_secs());
        device.heard_s = by_id.into_iter().chain(by_ear).min();
        if let Some(seen) = seen {
            device.messages = seen.messages;
            device.address.get_or_insert(seen.address);
        }
        let learnt = seen.and_then(Live::period).map(|period| period.as_secs_f64());
        let mean = || {
            let span = device.last_ns.saturating_sub(device.first_ns) as f64 / 1e9;
            (device.records >= limits::DEVICE_GAPS_LEAST as u64 && span > 0.0)
                .then(|| span / (device.records - 1) as f64)
        };
        device.period_s = learnt.or_else(mean);
        device.silent = device
            .period_s
            .zip(device.heard_s)
            .is_some_and(|(period, heard)| heard as f64 > (period * limits::DEVICE_SILENT_PERIODS).max(1.0));
    }
}

/// What nodes tell of a source that has so many copies.
fn kept(source: &SourceCount, copies: usize) -> DeviceStatus {
    let time =
        |id: RecordId| humantime::format_rfc3339_micros(UNIX_EPOCH + Duration::from_nanos(id.time_ns)).to_string();
    DeviceStatus {
        name: source.name.to_string(),
        records: source.records.div_ceil(copies.max(1) as u64),
        first: time(source.first),
        first_id: source.first.to_string(),
        first_ns: source.first.time_ns,
        last: time(source.last),
        last_id: source.last.to_string(),
        last_ns: source.last.time_ns,
        ..DeviceStatus::default()
    }
}

fn connect(device: &mut DeviceStatus, guest: &Guest) {
    device.connected = true;
    device.address = Some(guest.peer);
    device.dialect = guest.dialect.get().to_owned();
}

#[cfg(test)]
mod tests {
    use super::*;
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
