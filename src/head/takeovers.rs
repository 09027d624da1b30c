//! How often names are taken over: two devices of one name take over from each other for ever, and not at full speed. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::limits;
use crate::wire::said::Who;

/// How often names were taken over of late.
#[derive(Debug, Default)]
pub(crate) struct Takeovers(BTreeMap<Who, Recent>);

#[derive(Clone, Copy, Debug)]
struct Recent {
    /// How many more are free.
    free: u32,
    /// When it was counted last.
    at: Instant,
    /// When the next one may be that is not free.
    next: Instant,
}

impl Takeovers {
    /// Somebody takes this name over; for how long it has to wait with it.
    pub(super) fn wait(&mut self, who: Who, now: Instant) -> Duration {
        if self.0.len() >= limits::TAKEOVERS_NOTED_MAX
            && !self.0.contains_key(&who)
            && let Some(oldest) = self.0.iter().min_by_key(|(_, recent)| recent.at).map(|(who, _)| *who)
        {
            self.0.remove(&oldest);
        }
        let recent = self.0.entry(who).or_insert(Recent { free: limits::TAKEOVERS_FREE, at: now, next: now });
        let rested = now.saturating_duration_since(recent.at).as_secs() / limits::TAKEOVER_REST.as_secs().max(1);
        if rested > 0 {
            let more = u32::try_from(rested).unwrap_or(u32::MAX);
            (recent.free, recent.at) = (recent.free.saturating_add(more).min(limits::TAKEOVERS_FREE), now);
        }
        if recent.free > 0 {
            recent.free -= 1;
            return Duration::ZERO;
        }
        recent.at = now;
        recent.next = (recent.next.max(now) + limits::TAKEOVER_EVERY).min(now + limits::TAKEOVER_WAIT_MAX);
        recent.next - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::source::tests::name;

    #[test]
    fn some_take_overs_are_free_and_then_there_is_one_a_second() {
        let (mut takeovers, mut now) = (Takeovers::default(), Instant::now());
        let who = Who::Source(name("esp7"));
        for _ in 0..limits::TAKEOVERS_FREE {
            assert_eq!(takeovers.wait(who, now), Duration::ZERO, "a flicker of the power");
        }
        let mut last = Duration::ZERO;
        for _ in 0..1000 {
            let wait = takeovers.wait(who, now);
            assert!(wait >= last && wait <= limits::TAKEOVER_WAIT_MAX && !wait.is_zero(), "{wait:?}");
            last = wait;
        }
        assert_eq!(takeovers.wait(Who::Source(name("esp8")), now), Duration::ZERO, "others are not to blame");
        // A loop of two: each waits, takes over, and the other comes back at once.
        now += limits::TAKEOVER_WAIT_MAX;
        let begun = now;
        for _ in 0..30 {
            now += takeovers.wait(who, now);
        }
        assert!(now - begun >= limits::TAKEOVER_EVERY * 20, "{:?}", now - begun);
        now += limits::TAKEOVER_REST * limits::TAKEOVERS_FREE;
        for _ in 0..limits::TAKEOVERS_FREE {
            assert_eq!(takeovers.wait(who, now), Duration::ZERO, "after a rest");
        }
    }

    #[test]
    fn the_table_of_names_is_bounded() {
        let (mut takeovers, now) = (Takeovers::default(), Instant::now());
        for n in 0..2 * limits::TAKEOVERS_NOTED_MAX {
            takeovers.wait(Who::Source(name(&format!("d{n}"))), now + Duration::from_millis(n as u64));
        }
        assert_eq!(takeovers.0.len(), limits::TAKEOVERS_NOTED_MAX);
    }
}
