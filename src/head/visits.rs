//! `clientes.log`: who connects, and how it ends. Who connects for each reading is summed up once an hour.
//!
//! Pure: the time is handed in, and lines come out.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tokio::time::Instant;

use crate::limits;
use crate::wire::said::Who;

/// Whose connections are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Visitor {
    /// Who says a name.
    Named(Who),
    /// Who says none, by its address.
    From(IpAddr),
    /// All that are too many.
    Others,
}

/// One connection, when it ends.
#[derive(Debug, Clone)]
pub(crate) struct Visit {
    /// Whose.
    pub(crate) visitor: Visitor,
    /// The line of its beginning was written.
    pub(crate) listed: bool,
    /// Messages that came on it.
    pub(crate) messages: u64,
}

/// An hour of one visitor.
#[derive(Debug)]
struct Hour {
    begun: Instant,
    /// Connections that were listed.
    listed: u32,
    /// Connections that were not, and their messages.
    more: u64,
    messages: u64,
}

/// What was written, and what was only counted.
#[derive(Debug, Default)]
pub(crate) struct Visits(BTreeMap<Visitor, Hour>);

impl Visits {
    /// Somebody connects: as whom it counts, and whether a line is to be written.
    pub(crate) fn came(&mut self, visitor: Visitor, now: Instant) -> (Visitor, bool) {
        let known = self.0.contains_key(&visitor) || self.0.len() < limits::VISITORS_MAX;
        let visitor = if known { visitor } else { Visitor::Others };
        let hour = self.0.entry(visitor).or_insert(Hour { begun: now, listed: 0, more: 0, messages: 0 });
        let listed = hour.listed < limits::VISITS_LISTED_MAX;
        if listed {
            hour.listed += 1;
        } else {
            hour.more += 1;
        }
        (visitor, listed)
    }

    /// It is gone. What was not listed is counted.
    pub(crate) fn left(&mut self, visit: &Visit) {
        if let Some(hour) = self.0.get_mut(&visit.visitor).filter(|_| !visit.listed) {
            hour.messages += visit.messages;
        }
    }

    /// The sums of the hours that are over; of all, if nothing comes after this.
    pub(crate) fn due(&mut self, now: Instant, last: bool) -> Vec<String> {
        let is_over = |hour: &Hour| last || now.duration_since(hour.begun) >= limits::VISITS_SUMMED_EVERY;
        let mut lines = Vec::new();
        self.0.retain(|visitor, hour| {
            let over = is_over(hour);
            if over && hour.more > 0 {
                let minutes = now.duration_since(hour.begun).as_secs().div_ceil(60);
                lines.push(format!(
                    "{} {} conexiones mas en {minutes} min, {} mensajes",
                    shown(*visitor),
                    hour.more,
                    hour.messages
                ));
            }
            !over
        });
        lines
    }
}

fn shown(visitor: Visitor) -> String {
    match visitor {
        Visitor::Named(who) => who.to_string(),
        Visitor::From(ip) => format!("- {ip}"),
        Visitor::Others => "otros".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn esp(n: u32) -> Visitor {
        Visitor::Named(Who::from_bytes(format!("esp{n}").as_bytes()).unwrap())
    }

    #[test]
    fn who_connects_for_each_reading_is_summed_up_once_an_hour() {
        let (mut visits, begun) = (Visits::default(), Instant::now());
        let mut listed = 0;
        for _ in 0..340 {
            let (visitor, is_listed) = visits.came(esp(7), begun);
            listed += u32::from(is_listed);
            visits.left(&Visit { visitor, listed: is_listed, messages: 2 });
        }
        assert_eq!(listed, limits::VISITS_LISTED_MAX);
        assert!(visits.came(esp(8), begun).1, "another one");
        assert_eq!(visits.due(begun, false), Vec::<String>::new());
        let more = 340 - limits::VISITS_LISTED_MAX;
        let over = begun + limits::VISITS_SUMMED_EVERY;
        assert_eq!(visits.due(over, false), [format!("esp7 {more} conexiones mas en 60 min, {} mensajes", 2 * more)]);
        assert!(visits.came(esp(7), over).1, "another hour");
    }

    #[test]
    fn visitors_are_bounded() {
        let (mut visits, now) = (Visits::default(), Instant::now());
        for n in 0..limits::VISITORS_MAX as u32 + 100 {
            visits.came(esp(n), now);
        }
        assert_eq!(visits.0.len(), limits::VISITORS_MAX + 1);
        assert_eq!(visits.due(now, true), ["otros 90 conexiones mas en 0 min, 0 mensajes"]);
    }
}
