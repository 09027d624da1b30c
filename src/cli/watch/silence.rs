//! Which device is silent, and which value is out of its range: decided from what is heard and what time it is. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::cli::known::Known;
use crate::limits::{FIELDS_TOLD_MAX, MESSAGES_TOGETHER, WATCH_DEVICES_MAX, WATCH_INTERVALS_MAX, WATCH_INTERVALS_MIN};
use crate::reading::Reading;

const TOGETHER_NS: u64 = MESSAGES_TOGETHER.as_nanos() as u64;

/// After what a device is silent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Silent {
    /// So many of its own periods.
    Periods(f64),
    /// The same time for all.
    After(Duration),
}

/// A range that a field should be in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) field: String,
    pub(crate) range: RangeInclusive<f64>,
}

/// What happened to a device.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Event {
    pub(super) source: String,
    pub(super) time_ns: u64,
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    /// It says nothing for longer than it should.
    Silent { for_ns: u64, period_ns: Option<u64> },
    /// It speaks again.
    Back { after_ns: u64 },
    /// A value left its range.
    Out { field: String, value: f64 },
    /// It came back into it.
    In { field: String, value: f64 },
}

impl What {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Silent { .. } => "silent",
            Self::Back { .. } => "back",
            Self::Out { .. } => "out",
            Self::In { .. } => "in",
        }
    }
}

/// All devices.
#[derive(Debug)]
pub(super) struct Devices {
    silent: Silent,
    wanted: Vec<Wanted>,
    devices: BTreeMap<String, Device>,
    /// Names of fields that came, up to a bound.
    fields: BTreeSet<String>,
    /// Those with a range that came, as they are wanted.
    seen: BTreeSet<String>,
    /// Messages of devices past the bound.
    pub(super) beyond: u64,
}

#[derive(Debug, Default)]
struct Device {
    /// When a head took its last message.
    heard_ns: u64,
    /// When that was by its own clock, if it says so.
    said_ns: u64,
    intervals: VecDeque<u64>,
    /// Its period as a head knows it, for as long as there are too few intervals.
    known_ns: Option<u64>,
    is_silent: bool,
    out: BTreeSet<String>,
}

impl Devices {
    pub(super) const fn new(silent: Silent, wanted: Vec<Wanted>) -> Self {
        Self { silent, wanted, devices: BTreeMap::new(), fields: BTreeSet::new(), seen: BTreeSet::new(), beyond: 0 }
    }

    /// A message came.
    pub(super) fn heard(&mut self, reading: &Reading) -> Vec<Event> {
        let source = reading.source.map(|source| source.to_string()).unwrap_or_default();
        if !self.devices.contains_key(&source) && self.devices.len() >= WATCH_DEVICES_MAX {
            self.beyond += 1;
            return Vec::new();
        }
        let device = self.devices.entry(source.clone()).or_default();
        let mut events = Vec::new();
        let time_ns = reading.taken.0;
        if std::mem::take(&mut device.is_silent) {
            events.push(What::Back { after_ns: time_ns.saturating_sub(device.heard_ns) });
        } else {
            device.learn(reading.time().0);
        }
        device.said_ns = reading.time().0;
        device.heard_ns = device.heard_ns.max(time_ns);
        for field in &reading.fields {
            if self.fields.len() < FIELDS_TOLD_MAX && !self.fields.contains(&field.name) {
                self.fields.insert(field.name.clone());
            }
            let Some(value) = field.number() else { continue };
            let is_of = |wanted: &&Wanted| wanted.field.eq_ignore_ascii_case(&field.name);
            let is_out = match self.wanted.iter().find(is_of) {
                Some(wanted) => {
                    if !self.seen.contains(&wanted.field) {
                        self.seen.insert(wanted.field.clone());
                    }
                    !wanted.range.contains(&value)
                }
                None => field.is_out,
            };
            let (field, was_out) = (field.name.clone(), device.out.contains(&field.name));
            match (was_out, is_out) {
                (false, true) => {
                    device.out.insert(field.clone());
                    events.push(What::Out { field, value });
                }
                (true, false) => {
                    device.out.remove(&field);
                    events.push(What::In { field, value });
                }
                _ => {}
            }
        }
        events.into_iter().map(|what| Event { source: source.clone(), time_ns, what }).collect()
    }

    /// A device of which a head knows when it was heard last.
    pub(super) fn know(&mut self, known: Known) {
        if !self.devices.contains_key(&known.name) && self.devices.len() >= WATCH_DEVICES_MAX {
            self.beyond += 1;
            return;
        }
        let device = self.devices.entry(known.name).or_default();
        device.heard_ns = device.heard_ns.max(known.last_ns);
        device.known_ns = known.period_ns;
    }

    /// Fields with a range of which no number came.
    pub(super) fn unseen(&self) -> Vec<&str> {
        let fields = self.wanted.iter().map(|wanted| wanted.field.as_str());
        fields.filter(|field| !self.seen.contains(*field)).collect()
    }

    /// Names of fields that came, some of them if they are many.
    pub(super) fn fields(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(String::as_str)
    }

    /// Who was heard.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.devices.keys().map(String::as_str)
    }

    /// So late it is: who is silent by now.
    pub(super) fn tick(&mut self, now_ns: u64) -> Vec<Event> {
        let silent = self.silent;
        let gone = self.devices.iter_mut().filter_map(|(source, device)| {
            device.due(silent).filter(|due| *due <= now_ns && !device.is_silent)?;
            device.is_silent = true;
            let for_ns = now_ns - device.heard_ns;
            let what = What::Silent { for_ns, period_ns: device.period() };
            Some(Event { source: source.clone(), time_ns: now_ns, what })
        });
        gone.collect()
    }

    /// When the next one is silent, if nothing comes.
    pub(super) fn due(&self) -> Option<u64> {
        let speaking = self.devices.values().filter(|device| !device.is_silent);
        speaking.filter_map(|device| device.due(self.silent)).min()
    }

    /// Whether a device is silent or a value out of its range.
    pub(super) fn is_anything_wrong(&self) -> bool {
        self.devices.values().any(|device| device.is_silent || !device.out.is_empty())
    }
}

impl Device {
    /// Learns from the time since the message before, unless a burst of old ones says nothing of its period.
    fn learn(&mut self, said_ns: u64) {
        let Some(interval) =
            said_ns.checked_sub(self.said_ns).filter(|interval| *interval >= TOGETHER_NS && self.said_ns > 0)
        else {
            return;
        };
        if self.period().is_some_and(|period| interval < period / 10) {
            return;
        }
        if self.intervals.len() >= WATCH_INTERVALS_MAX {
            self.intervals.pop_front();
        }
        self.intervals.push_back(interval);
    }

    /// The median of its last intervals; of too few, what a head knows.
    fn period(&self) -> Option<u64> {
        let mut intervals: Vec<u64> = self.intervals.iter().copied().collect();
        let half = intervals.len() / 2;
        let learnt = (intervals.len() >= WATCH_INTERVALS_MIN).then(|| *intervals.select_nth_unstable(half).1);
        learnt.or(self.known_ns)
    }

    /// When it is silent.
    fn due(&self, silent: Silent) -> Option<u64> {
        let patience = match silent {
            Silent::After(time) => u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
            // A float that is too large becomes the greatest number.
            Silent::Periods(factor) => (self.period()? as f64 * factor) as u64,
        };
        Some(self.heard_ns.saturating_add(patience))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::{Rules, UnixNs};

    const S: u64 = 1_000_000_000;
    const BEGIN: u64 = 1_795_234_260 * S;

    fn reading(source: &str, second: u64, payload: &str) -> Reading {
        Reading::new(source.parse().ok(), payload.as_bytes(), UnixNs(BEGIN + second * S), &Rules::default())
    }

    /// What happens when these are heard, and at this second.
    fn told(devices: &mut Devices, heard: &[Reading], second: u64) -> String {
        let mut events: Vec<Event> = heard.iter().flat_map(|reading| devices.heard(reading)).collect();
        events.extend(devices.tick(BEGIN + second * S));
        let words = events.iter().map(|event| {
            let what = match &event.what {
                What::Silent { for_ns, period_ns } => format!("{} of {:?}", for_ns / S, period_ns.map(|ns| ns / S)),
                What::Back { after_ns } => format!("{}", after_ns / S),
                What::Out { field, value } | What::In { field, value } => format!("{field} {value}"),
            };
            format!("{} {} {what}", event.source, event.what.name())
        });
        words.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn silence_is_learnt_from_each_devices_own_period() {
        let mut devices = Devices::new(Silent::Periods(3.0), Vec::new());
        let quick: Vec<Reading> = (0..5).map(|k| reading("quick", k * 10, "t=1")).collect();
        let slow: Vec<Reading> = (0..4).map(|k| reading("slow", k * 100, "t=1")).collect();
        assert_eq!(told(&mut devices, &quick, 69), "");
        assert_eq!(devices.due(), Some(BEGIN + 70 * S), "three periods behind the last");
        assert_eq!(told(&mut devices, &slow, 71), "quick silent 31 of Some(10)");
        assert_eq!(told(&mut devices, &[reading("quick", 400, "t=1")], 420), "quick back 360");
        assert_eq!(told(&mut devices, &[reading("once", 0, "t=1")], 420), "");
        assert_eq!(told(&mut devices, &[], 700), "quick silent 300 of Some(10), slow silent 400 of Some(100)");
        assert_eq!((told(&mut devices, &[], 9000).as_str(), devices.due()), ("", None), "told once");
    }

    #[test]
    fn a_burst_of_old_messages_is_no_new_period() {
        let mut devices = Devices::new(Silent::Periods(3.0), Vec::new());
        let steady = (0..5).map(|k| reading("x", k * 10, "t=1"));
        let burst = (0..50).map(|k| {
            let payload = b"t=1";
            Reading::new("x".parse().ok(), payload, UnixNs(BEGIN + 50 * S + k), &Rules::default())
        });
        let all: Vec<Reading> = steady.chain(burst).collect();
        assert_eq!(told(&mut devices, &all, 79), "");
        assert_eq!(told(&mut devices, &[], 81), "x silent 30 of Some(10)");
    }

    #[test]
    fn values_are_told_when_they_leave_their_range_and_come_back() {
        let temp = Wanted { field: "temp".to_owned(), range: 5.0..=45.0 };
        let mut devices = Devices::new(Silent::After(Duration::from_secs(60)), vec![temp]);
        let payloads = ["temp=20", "temp=85", "temp=86 hum=900", "hum=3", "TEMP=45", "temp=-1"];
        let heard: Vec<Reading> = (0..).zip(payloads).map(|(k, payload)| reading("x", k, payload)).collect();
        assert_eq!(told(&mut devices, &heard[..4], 4), "x out temp 85");
        assert!(devices.is_anything_wrong());
        assert_eq!(told(&mut devices, &[reading("x", 5, "temp=20")], 5), "x in temp 20");
        assert!(!devices.is_anything_wrong());
        assert_eq!(told(&mut devices, &[], 65), "x silent 60 of Some(1)");
    }

    #[test]
    fn who_said_nothing_at_all_is_silent_as_a_head_knows_it() {
        let known = |name: &str, second: u64, period_s: Option<u64>| Known {
            name: name.to_owned(),
            first_ns: BEGIN,
            last_ns: BEGIN + second * S,
            period_ns: period_s.map(|period| period * S),
        };
        let mut devices = Devices::new(Silent::Periods(3.0), Vec::new());
        devices.heard(&reading("here", 1000, "1"));
        [known("here", 1000, Some(10)), known("gone", 100, Some(60)), known("once", 5, None)]
            .into_iter()
            .for_each(|known| devices.know(known));
        assert_eq!(told(&mut devices, &[], 1020), "gone silent 920 of Some(60)");
        assert_eq!(
            told(&mut devices, &[reading("gone", 1025, "1")], 1031),
            "gone back 925, here silent 31 of Some(10)"
        );
    }

    #[test]
    fn a_range_of_a_field_that_nobody_has_is_told() {
        let wanted = ["nope", "TEMP"].map(|field| Wanted { field: field.to_owned(), range: 5.0..=6.0 });
        let mut devices = Devices::new(Silent::Periods(3.0), wanted.to_vec());
        devices.heard(&reading("x", 1, "temp=5.5 estado=on nope=mal"));
        assert_eq!(devices.unseen(), ["nope"]);
        assert_eq!(devices.fields().collect::<Vec<_>>(), ["estado", "nope", "temp"]);
    }

    #[test]
    fn devices_have_a_bound() {
        let mut devices = Devices::new(Silent::Periods(3.0), Vec::new());
        for k in 0..WATCH_DEVICES_MAX + 3 {
            devices.heard(&reading(&format!("d{k}"), 0, "1"));
        }
        assert_eq!((devices.devices.len(), devices.beyond), (WATCH_DEVICES_MAX, 3));
    }
}
