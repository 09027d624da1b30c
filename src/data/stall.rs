//! Since when a node can call nothing more complete that readers want, and the words for whom that hangs on.
//!
//! Pure. How far it is complete, [`super::frontier`] knows.

use tokio::time::Instant;

use std::time::Duration;

use crate::limits::{STALL_ASKED_WITHIN, STALL_TIME_MAX};
use crate::wire::id::RecordId;

/// Watches how far a node is complete while somebody asks.
#[derive(Debug, Default)]
pub(crate) struct Stall {
    watched: Option<Watched>,
}

#[derive(Debug, Clone, Copy)]
struct Watched {
    /// Since then nobody got all that he wanted.
    since: Instant,
    /// When somebody wanted it last.
    asked: Instant,
}

impl Stall {
    /// Notes how far the node is complete for a question that goes up to `target`; true if it was asked all the time for
    /// [`STALL_TIME_MAX`], got there not once, and is that far behind. A clock that is behind goes on as clocks do.
    pub(crate) fn is_long(&mut self, complete: RecordId, target: RecordId, now: Instant) -> bool {
        if complete >= target {
            self.watched = None;
            return false;
        }
        let goes_on = |before: &Watched| now.saturating_duration_since(before.asked) < STALL_ASKED_WITHIN;
        let since = self.watched.filter(goes_on).map_or(now, |before| before.since);
        self.watched = Some(Watched { since, asked: now });
        now.saturating_duration_since(since) >= STALL_TIME_MAX && lag(complete, target) >= STALL_TIME_MAX
    }
}

fn lag(complete: RecordId, target: RecordId) -> Duration {
    Duration::from_nanos(target.time_ns.saturating_sub(complete.time_ns))
}

/// What a head holds up, and how far it is behind.
pub(crate) fn in_words(head: &str, safe: RecordId, target: RecordId) -> String {
    if safe == RecordId::ZERO {
        return format!("head {head}: it has not said how far its ids are; see that it answers");
    }
    // In its largest unit, and seconds in tens: the same trouble is to be told in the same words.
    let seconds = lag(safe, target).as_secs();
    let behind = humantime::format_duration(Duration::from_secs(seconds / 10 * 10)).to_string();
    let behind = behind.split(' ').next().unwrap_or_default();
    format!("head {head}: it is {behind} behind; see to its clock and that it answers")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> RecordId {
        RecordId { time_ns: ms * 1_000_000, incarnation: 0 }
    }

    #[test]
    fn only_what_is_wanted_and_does_not_move_is_a_stall() {
        let start = Instant::now();
        let mut stall = Stall::default();
        let long = STALL_TIME_MAX.as_millis() as u64;
        let target = 10 * long;
        let mut ask = |complete, ms| stall.is_long(id(complete), id(target), start + Duration::from_millis(ms));
        for ms in (0..long).step_by(100) {
            assert!(!ask(ms, ms), "{ms}");
        }
        assert!(ask(long, long), "its clock goes on, and is behind");
        assert!(!ask(target - 1, long + 100), "nearly there");
        assert!(ask(5, long + 200));
        // Nobody asked for hours: what it says then is not old.
        assert!(!ask(6, 100 * long));
        assert!(!ask(target, 100 * long + 1), "all is there");
        assert!(!ask(6, 100 * long + 2));
    }

    #[test]
    fn a_head_is_named_with_its_lag() {
        let words = in_words("h:1", id(5_000), id(1_795_234_260_000));
        assert!(words.starts_with("head h:1: it is 56years behind; "), "{words}");
        assert!(!words.contains(','), "names are parted by commas");
    }
}
