//! Connections that say a name: whoever says it last has it, and the older one of that name ends.
//!
//! So a device that lost its power gets in again at once, and what it had open holds no place. Two devices of one name take
//! over from each other for ever, and not faster than [`Takeovers`] allows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::alarms::Log;
use super::guests::Guest;
use super::places::supersede;
use super::state::Head;
use crate::limits;
use crate::wire::error::{Code, Refusal};
use crate::wire::said::{Said, Who};

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
    fn wait(&mut self, who: Who, now: Instant) -> Duration {
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

impl Head {
    /// A connection says a name: the older one of that name ends, unless it may have several. Waits where names are taken
    /// over too often.
    pub(crate) async fn claim(&self, said: Said, peer: SocketAddr, own: Option<&Guest>) {
        if said.several {
            return;
        }
        let is_older = |guest: &Guest| {
            let other = guest.said.get();
            own.is_none_or(|own| !std::ptr::eq(own, guest))
                && other.is_some_and(|other| other.who == said.who && !other.several)
        };
        let has_older = || self.places.guests().iter().any(|guest| is_older(guest));
        if !has_older() {
            return;
        }
        let wait = self.takeovers.borrow_mut().wait(said.who, Instant::now());
        if !wait.is_zero() {
            let (who, ip) = (said.who, peer.ip().to_canonical());
            let line = format!(
                "{who} connects again and again, at last from {ip}: do two devices have the name? Give each one of its own, or \
                 say varios behind it"
            );
            self.say(ip, Log::Warn, &line);
            sleep(wait).await;
        }
        for guest in self.places.guests().into_iter().filter(|guest| is_older(guest)) {
            let ip = peer.ip().to_canonical();
            let text = format!("another connection said the name {}, from {ip}; this one ends", said.who);
            supersede(self, &guest, Refusal::new(Code::NameTaken, text));
        }
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
