//! When an address may begin another handshake of TLS: each costs a signature, and who says the same words again and again pays
//! nothing for it. Pure.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::limits;

/// Addresses that began handshakes of late.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When what each has begun is over, if it begins no more.
    until: HashMap<IpAddr, Instant>,
}

impl Pace {
    /// How long the next handshake of an address waits; none if too many of it wait already.
    pub(super) fn next(&mut self, address: IpAddr, now: Instant) -> Option<Duration> {
        if self.until.len() >= limits::SHARES_SWEPT_FROM {
            self.until.retain(|_, until| *until > now);
        }
        let until = self.until.entry(address).or_insert(now);
        let begun = until.saturating_duration_since(now);
        let wait = begun.saturating_sub(limits::HANDSHAKE_EVERY * limits::HANDSHAKES_FREE);
        if wait > limits::HANDSHAKE_WAIT_MAX {
            return None;
        }
        *until = now.checked_add(begun + limits::HANDSHAKE_EVERY)?;
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_begins_so_many_at_once_and_then_one_after_the_other() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let (ip, other) = (IpAddr::from([10, 0, 0, 7]), IpAddr::from([10, 0, 0, 8]));
        for _ in 0..=limits::HANDSHAKES_FREE {
            assert_eq!(pace.next(ip, now), Some(Duration::ZERO));
        }
        assert_eq!(pace.next(ip, now), Some(limits::HANDSHAKE_EVERY));
        assert_eq!(pace.next(ip, now), Some(limits::HANDSHAKE_EVERY * 2));
        assert_eq!(pace.next(other, now), Some(Duration::ZERO));
        let waits = std::iter::from_fn(|| pace.next(ip, now)).last();
        assert!(waits.is_some_and(|wait| wait <= limits::HANDSHAKE_WAIT_MAX && wait > limits::HANDSHAKE_WAIT_MAX / 2));
        assert_eq!(pace.next(ip, now), None);
        assert_eq!(pace.next(ip, now + Duration::from_secs(60)), Some(Duration::ZERO));
    }

    #[test]
    fn the_table_has_only_those_that_began_of_late() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        for n in 0..3 * limits::SHARES_SWEPT_FROM as u32 {
            now += Duration::from_secs(1);
            pace.next(IpAddr::from(n.to_be_bytes()), now);
            assert!(pace.until.len() <= limits::SHARES_SWEPT_FROM);
        }
    }
}
