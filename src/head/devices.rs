//! Which devices there are: data nodes are asked when somebody wants to know, page by page, and what this head has seen of
//! their connections is added.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use tokio::time::{Instant, timeout_at};

use super::core::Core;
use super::guests::Guest;
use super::live::{Live, merge};
use super::state::Head;
use crate::limits;
use crate::wire::frame::{Frame, SourceCount};
use crate::wire::id::RecordId;
use crate::wire::source::SourceName;
use crate::wire::status::{DeviceStatus, DevicesReport};
use crate::wire::text::Dialect;

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
        // What came in one packet tells nothing of how often a device speaks.
        device.period_s = learnt.or_else(mean).filter(|period| *period >= limits::DEVICE_GAP_MIN.as_secs_f64());
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
