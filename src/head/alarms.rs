//! What is wrong with a cluster and does not mend itself, said once when it begins and once when it is over.
//!
//! [`Drift`] and [`Shortfall`] decide what is news. Pure: `said` looks every second and writes to the head's log.

use std::fmt;
use std::time::Duration;

use crate::limits;
use crate::repeats::Repeats;

/// News for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// Something is wrong from now on: cause and remedy.
    Begins(String),
    /// It is over.
    Over(String),
}

/// What was said already.
#[derive(Debug)]
pub(crate) struct Alarms {
    pub(super) drift: Drift,
    pub(super) shortfall: Shortfall,
    pub(super) peers: Repeats<Log>,
    pub(super) accesses: Repeats<Log>,
}

impl Default for Alarms {
    fn default() -> Self {
        let repeats = || Repeats::new(limits::LOG_REPEAT_EVERY);
        Self { drift: Drift::default(), shortfall: Shortfall::default(), peers: repeats(), accesses: repeats() }
    }
}

/// Where a line goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Log {
    /// `heartbeat.log`.
    Heartbeat,
    /// `access.log`.
    Access,
    /// `head.log`, to be known.
    Info,
    /// `head.log`, to be looked at.
    Warn,
}

impl Log {
    pub(super) fn write(self, line: &impl fmt::Display) {
        match self {
            Self::Heartbeat => tracing::info!(target: "acopio::heartbeat", "{line}"),
            Self::Access => tracing::info!(target: super::ACCESS, "{line}"),
            Self::Info => tracing::info!("{line}"),
            Self::Warn => tracing::warn!("{line}"),
        }
    }
}

/// Watches how far the wall clock is behind the ids that were given: it was set back, or a peer's was ahead.
#[derive(Debug, Default)]
pub(crate) struct Drift {
    behind: bool,
}

impl Drift {
    /// The wall clock shows `wall_ns`, and the next id has no lesser time than `ids_ns`.
    pub(crate) fn look(&mut self, wall_ns: u64, ids_ns: u64) -> Option<News> {
        let gap = Duration::from_nanos(ids_ns.saturating_sub(wall_ns));
        if !self.behind && gap > limits::CLOCK_BEHIND_MAX {
            self.behind = true;
            let gap = humantime::format_duration(Duration::from_secs(gap.as_secs()));
            return Some(News::Begins(format!(
                "the clock of this machine is {gap} behind the ids that were given: it was set back, or it was ahead \
                 before; nothing is lost and ids go on in order, but their times are that much ahead until the clock \
                 has caught up: set the clock right, and see that time synchronisation (NTP) runs"
            )));
        }
        // Half of the bound, so that a clock on the verge does not fill the log.
        if self.behind && gap <= limits::CLOCK_BEHIND_MAX / 2 {
            self.behind = false;
            return Some(News::Over("the clock of this machine has caught up with the ids".to_owned()));
        }
        None
    }
}

/// Watches whether messages are kept with fewer copies than they are to have.
#[derive(Debug, Default)]
pub(crate) struct Shortfall {
    /// Messages that had been acknowledged with fewer copies at the last look.
    short: u64,
    /// Those before it began, and the number of nodes that was named.
    said: Option<(u64, usize)>,
}

impl Shortfall {
    /// So many nodes can take messages, of each so many copies are wanted, and `short` messages were acknowledged with
    /// fewer since the start.
    pub(crate) fn look(&mut self, able: usize, replicas: usize, short: u64) -> Option<News> {
        let before = std::mem::replace(&mut self.short, short);
        if able >= replicas {
            let (since, _) = self.said.take()?;
            let few = short.saturating_sub(since);
            return Some(News::Over(format!(
                "messages have all {replicas} copies again: {able} dataNodes can take them; {few} were kept with fewer"
            )));
        }
        // Told of what happened, not of what might: nobody sent anything while a cluster starts.
        let named = self.said.map(|(_, able)| able);
        if short == before || able == 0 || named == Some(able) {
            return None;
        }
        self.said = Some((self.said.map_or(before, |(since, _)| since), able));
        let nodes = if able == 1 { "1 dataNode is" } else { &format!("{able} dataNodes are") };
        Some(News::Begins(format!(
            "messages have {able} of {replicas} copies: {nodes} registered and writable; start more, or lower --replicas"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::clock::IdClock;

    const HOUR: u64 = 3_600_000_000_000;
    const SECOND: u64 = 1_000_000_000;

    fn begins(news: Option<News>) -> String {
        match news {
            Some(News::Begins(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_clock_that_jumps_back_an_hour_is_told_once_and_ids_go_on() {
        let (mut clock, mut drift) = (IdClock::new(1), Drift::default());
        let noon = 1_795_234_260 * SECOND;
        assert_eq!(drift.look(noon, clock.next_ns()), None, "no id was given yet");
        let mut last = clock.take(noon, 16);
        assert_eq!(drift.look(noon, clock.next_ns()), None);
        let mut over = 0;
        // Ids go on at half the pace until the clock is there.
        for second in 0..7200 {
            let wall = noon - HOUR + second * SECOND;
            let id = clock.take(wall, 16);
            assert!(id > last, "ids never go back");
            last = id;
            match (second, drift.look(wall, clock.next_ns())) {
                (0, news) => {
                    let text = begins(news);
                    assert!(text.contains("is 1h behind the ids") && text.contains("; nothing is lost"), "{text}");
                }
                (_, Some(News::Over(_))) => over += 1,
                (_, news) => assert_eq!(news, None, "{second}"),
            }
        }
        assert_eq!(over, 1);
    }

    #[test]
    fn a_clock_within_the_bound_is_not_mentioned() {
        let mut drift = Drift::default();
        let bound = u64::try_from(limits::CLOCK_BEHIND_MAX.as_nanos()).unwrap();
        assert_eq!(drift.look(HOUR, HOUR + bound), None);
        begins(drift.look(HOUR, HOUR + bound + 1));
        assert_eq!(drift.look(HOUR, HOUR + bound), None, "on the verge it is said once");
    }

    #[test]
    fn too_few_nodes_are_told_when_messages_suffer_and_when_they_do_no_more() {
        let mut watch = Shortfall::default();
        assert_eq!(watch.look(0, 3, 0), None);
        assert_eq!(watch.look(2, 3, 0), None, "nothing was sent");
        let text = begins(watch.look(2, 3, 5));
        let wanted = "messages have 2 of 3 copies: 2 dataNodes are registered and writable; start more, or lower";
        assert!(text.starts_with(wanted), "{text}");
        for short in 6..100 {
            assert_eq!(watch.look(2, 3, short), None, "not again for every batch");
        }
        assert!(begins(watch.look(1, 3, 200)).contains("1 of 3 copies: 1 dataNode is"));
        let Some(News::Over(text)) = watch.look(3, 3, 207) else { panic!("it is over") };
        assert!(text.contains("all 3 copies again") && text.ends_with("207 were kept with fewer"), "{text}");
        assert_eq!(watch.look(3, 3, 207), None);
        assert!(begins(watch.look(2, 3, 208)).contains("2 of 3"), "and the next time again");
    }
}
