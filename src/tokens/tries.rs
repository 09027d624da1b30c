//! How many wrong tokens each address said: guessing is bounded, and so is the work that it makes. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tokio::time::Instant;

use crate::limits;
use crate::net::network::place;

/// Addresses that said wrong tokens of late.
#[derive(Debug, Default)]
pub(crate) struct Tries(BTreeMap<IpAddr, Wrong>);

#[derive(Clone, Copy, Debug)]
struct Wrong {
    /// How many count.
    count: u32,
    /// Until when they were counted down.
    at: Instant,
}

impl Tries {
    /// Whether a secret that comes from there is looked at.
    pub(crate) fn may(&mut self, ip: IpAddr, now: Instant) -> bool {
        let Some(wrong) = self.0.get_mut(&place(ip)) else { return true };
        wrong.rest(now);
        wrong.count < limits::WRONG_TOKENS_FREE
    }

    /// A wrong one came from there.
    pub(crate) fn wrong(&mut self, ip: IpAddr, now: Instant) {
        let place = place(ip);
        if self.0.len() >= limits::WRONG_TOKENS_NOTED_MAX && !self.0.contains_key(&place) {
            self.0.retain(|_, wrong| {
                wrong.rest(now);
                wrong.count > 0
            });
            let least = self.0.iter().min_by_key(|(_, wrong)| (wrong.count, wrong.at)).map(|(place, _)| *place);
            if let Some(least) = least.filter(|_| self.0.len() >= limits::WRONG_TOKENS_NOTED_MAX) {
                self.0.remove(&least);
            }
        }
        let wrong = self.0.entry(place).or_insert(Wrong { count: 0, at: now });
        wrong.rest(now);
        wrong.count = wrong.count.saturating_add(1);
    }
}

impl Wrong {
    fn rest(&mut self, now: Instant) {
        let rested = now.saturating_duration_since(self.at).as_secs() / limits::WRONG_TOKEN_REST.as_secs().max(1);
        if rested > 0 {
            self.count = self.count.saturating_sub(u32::try_from(rested).unwrap_or(u32::MAX));
            self.at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_address_has_so_many_tries_and_more_with_time() {
        let (mut tries, mut now) = (Tries::default(), Instant::now());
        let (ip, other) = (IpAddr::from([10, 0, 0, 7]), IpAddr::from([10, 0, 0, 8]));
        for _ in 0..limits::WRONG_TOKENS_FREE {
            assert!(tries.may(ip, now));
            tries.wrong(ip, now);
        }
        assert!(!tries.may(ip, now) && tries.may(other, now));
        assert!(!tries.may("::ffff:10.0.0.7".parse().unwrap(), now), "the same peer");
        now += limits::WRONG_TOKEN_REST;
        assert!(tries.may(ip, now));
        tries.wrong(ip, now);
        assert!(!tries.may(ip, now));
        now += limits::WRONG_TOKEN_REST * limits::WRONG_TOKENS_FREE;
        assert!(tries.may(ip, now));
        let six: Vec<IpAddr> = ["2001:db8::1", "2001:db8::2"].map(|ip| ip.parse().unwrap()).into();
        (0..limits::WRONG_TOKENS_FREE).for_each(|_| tries.wrong(six[0], now));
        assert!(!tries.may(six[1], now));
    }

    #[test]
    fn of_ten_thousand_tries_of_a_minute_few_are_looked_at() {
        let (mut tries, begin) = (Tries::default(), Instant::now());
        let (ip, seconds) = (IpAddr::from([10, 0, 0, 7]), 60);
        let looked_at = (0..10_000_u64).filter(|n| {
            let now = begin + Duration::from_millis(n * seconds * 1000 / 10_000);
            let may = tries.may(ip, now);
            if may {
                tries.wrong(ip, now);
            }
            may
        });
        let most = usize::try_from(u64::from(limits::WRONG_TOKENS_FREE) + seconds).unwrap();
        // The right one among the others is not looked at either.
        assert!((most / 2..=most).contains(&looked_at.count()));
        assert!(!tries.may(ip, begin + Duration::from_secs(seconds)));
    }

    #[test]
    fn the_table_is_bounded_and_who_tries_on_stays_in_it() {
        let (mut tries, now) = (Tries::default(), Instant::now());
        let ip = |n: usize| IpAddr::from(u32::try_from(n).unwrap().to_be_bytes());
        (0..limits::WRONG_TOKENS_FREE).for_each(|_| tries.wrong(ip(1), now));
        for n in 2..2 * limits::WRONG_TOKENS_NOTED_MAX {
            tries.wrong(ip(n), now + Duration::from_millis(n as u64 / 100));
        }
        assert!(tries.0.len() <= limits::WRONG_TOKENS_NOTED_MAX && !tries.may(ip(1), now));
    }
}
