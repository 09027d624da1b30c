//! Which devices there are: data nodes are asked when somebody wants to know, page by page, and what this head has seen of
//! their connections is added.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::core::Core;
use super::guests::Guest;
use super::live::{DAY_NS, Live, Now, merge};
use super::state::Head;
use crate::limits;
use crate::wire::frame::{Frame, Messages, SourceCount};
use crate::wire::id::RecordId;
use crate::wire::source::SourceName;
use crate::wire::status::{DeviceStatus, DevicesReport, DevicesSummary, SilentDevice};
use crate::wire::text::Dialect;

impl Head {
    /// Messages of a source came by this head.
    pub(super) fn heard_source(&self, source: SourceName, peer: SocketAddr, messages: &Messages) {
        let at = Now { now: Instant::now(), wall_ns: self.config.clock.wall_ns() };
        self.devices.borrow_mut().heard(source, peer, messages, at);
    }

    /// Some of the devices, those behind a name, as JSON.
    pub(crate) async fn devices_report(&self, behind: Option<SourceName>, most: u16) -> Vec<u8> {
        let most = usize::from(most).clamp(1, limits::SOURCES_PAGE_MAX);
        let report = self.devices_page(behind, most, limits::DEVICES_TIME_MAX).await;
        // Numbers and texts have a JSON form.
        serde_json::to_vec(&report).unwrap_or_else(|_| b"{}".to_vec())
    }

    /// The same; nodes have so much time to answer.
    async fn devices_page(&self, behind: Option<SourceName>, most: usize, patience: Duration) -> DevicesReport {
        let deadline = Instant::now() + patience;
        let (mut asked, mut missing, mut pages) = (Vec::new(), Vec::new(), Vec::new());
        for node in self.nodes().into_iter().filter(|node| node.dialect == Dialect::Framed) {
            // Whoever gave up does not wait any more.
            node.listings.retain(|asker| !asker.is_closed());
            let (asker, answer) = oneshot::channel();
            match node.listings.ask(limits::DEVICES_ASKED_MAX, asker) {
                Some(request) => {
                    node.tell(&Frame::SourcesQuery { request, behind, most: most as u16 });
                    asked.push((Rc::clone(&node), answer));
                }
                None => missing.push(node.name.clone()),
            }
        }
        for (node, answer) in asked {
            match timeout_at(deadline, answer).await {
                Ok(Ok(page)) if page.answers(behind, most) => pages.push(page),
                _ => missing.push(node.name.clone()),
            }
        }
        missing.extend(self.members_away().into_iter().map(|away| away.name));
        let (sources, next) = merge(&pages, most);
        let copies = self.core(Core::replicas);
        let mut all: BTreeMap<String, DeviceStatus> = BTreeMap::new();
        for source in sources.iter().filter(|source| !source.name.is_of_notes()) {
            all.insert(source.name.to_string(), kept(source, copies));
        }
        self.add_connected(&mut all, behind, next);
        let now_ns = self.config.clock.wall_ns();
        all.values_mut().for_each(|device| self.add_times(device, now_ns));
        let unlisted = pages.iter().any(|page| page.unlisted);
        let devices = all.into_values().collect();
        let started_ns = now_ns.saturating_sub(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX));
        let today_since = rfc3339((now_ns - now_ns % DAY_NS).max(started_ns));
        DevicesReport { devices, next: next.map(|next| next.to_string()), unlisted, missing, copies, today_since }
    }

    /// Counts the devices for a status, unless that was done just now. A node that does not answer at once is not waited for.
    pub(super) async fn sum_devices(&self) {
        let is_fresh = |(at, _): &(Instant, DevicesSummary)| at.elapsed() < limits::SUMMARY_EVERY;
        if self.summary.borrow().as_ref().is_some_and(is_fresh) {
            return;
        }
        let (mut summary, mut behind) = (DevicesSummary::default(), None);
        for page in 1..=limits::SUMMARY_PAGES_MAX {
            let asked = Instant::now();
            let report = self.devices_page(behind, limits::SOURCES_PAGE_MAX, limits::SUMMARY_PAGE_TIME_MAX).await;
            let (is_late, is_last) = (asked.elapsed() >= limits::SUMMARY_PAGE_TIME_MAX, report.next.is_none());
            let is_cut = !is_last && (is_late || page == limits::SUMMARY_PAGES_MAX);
            summary.is_partial |= !report.missing.is_empty() || report.unlisted || is_cut;
            count(&mut summary, report.devices);
            behind = report.next.and_then(|next| next.parse().ok());
            if is_late || behind.is_none() {
                break;
            }
        }
        summary.last_silent.sort_by_key(|device| Reverse(device.heard_s));
        self.summary.replace(Some((Instant::now(), summary)));
    }

    /// What was counted last.
    pub(super) fn devices_summary(&self) -> Option<DevicesSummary> {
        self.summary.borrow().as_ref().map(|(_, summary)| summary.clone())
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
            device.today = seen.today(now_ns);
            // Another head may have heard it since.
            let is_last = seen.heard_ns + limits::SUMMARY_EVERY.as_nanos() as u64 >= device.last_ns;
            let text = || String::from_utf8_lossy(&seen.last).replace(char::is_control, " ");
            device.last_text = (is_last && !seen.last.is_empty()).then(text);
            device.address.get_or_insert(seen.address);
        }
        let learnt = seen.and_then(Live::period).map(|period| period.as_secs_f64());
        let mean = || {
            let span = device.last_ns.saturating_sub(device.first_ns) as f64 / 1e9;
            (device.records >= limits::DEVICE_GAPS_LEAST as u64 && span > 0.0)
                .then(|| span / (device.records - 1) as f64)
        };
        // What came in one packet tells nothing of how often a device speaks.
        device.period_s = learnt.or_else(mean).filter(|period| *period >= limits::DEVICE_GAP_MIN.as_secs_f64());
        device.silent = device
            .period_s
            .zip(device.heard_s)
            .is_some_and(|(period, heard)| heard as f64 > (period * limits::DEVICE_SILENT_PERIODS).max(1.0));
    }
}

/// Adds some devices to a count of them.
fn count(summary: &mut DevicesSummary, devices: Vec<DeviceStatus>) {
    // Who speaks for a group is no device.
    for device in devices.into_iter().filter(|device| !device.name.ends_with('/')) {
        summary.known += 1;
        summary.here += u64::from(device.connected);
        if !device.silent {
            continue;
        }
        summary.silent += 1;
        summary.last_silent.push(SilentDevice { name: device.name, heard_s: device.heard_s.unwrap_or_default() });
        summary.last_silent.sort_by_key(|device| device.heard_s);
        summary.last_silent.truncate(limits::SUMMARY_SILENT_MAX);
    }
}

fn rfc3339(time_ns: u64) -> String {
    humantime::format_rfc3339_micros(UNIX_EPOCH + Duration::from_nanos(time_ns)).to_string()
}

/// What nodes tell of a source that has so many copies.
fn kept(source: &SourceCount, copies: usize) -> DeviceStatus {
    let time = |id: RecordId| rfc3339(id.time_ns);
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

    #[test]
    fn a_count_names_the_last_that_fell_silent() {
        let mut summary = DevicesSummary::default();
        let mut device = |name: &str, heard_s, silent, connected| {
            let name = name.to_owned();
            count(
                &mut summary,
                vec![DeviceStatus { name, heard_s: Some(heard_s), silent, connected, ..DeviceStatus::default() }],
            );
        };
        device("esp7", 3, false, true);
        device("lora/", 3, false, true);
        (0..20).for_each(|n| device(&format!("d{n}"), 900 - n, true, n == 0));
        assert_eq!((summary.known, summary.here, summary.silent), (21, 2, 20));
        let names: Vec<&str> = summary.last_silent.iter().map(|device| device.name.as_str()).collect();
        assert_eq!(names, ["d19", "d18", "d17", "d16", "d15", "d14", "d13", "d12"]);
    }
}
