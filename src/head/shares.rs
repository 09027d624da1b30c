//! Fair shares: how much each name and each address may send, and how many connections an address may have. Pure.
//!
//! What is sent is let through at a rate, with a small burst: the generic cell rate algorithm (ITU-T I.371), by which each share
//! is one time.
//!
//! A name is that of a token or a certificate. Who shows none counts by its address, for a name that anybody may say is nobody's.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::limits;
use crate::wire::error::{Code, Refusal};

/// What one may have; none is no bound.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Share {
    /// Messages a second.
    pub(crate) messages: Option<u32>,
    /// Bytes of messages a second.
    pub(crate) bytes: Option<u64>,
    /// Connections of an address.
    pub(crate) connections: Option<usize>,
    /// Bytes a second that are read of what is there.
    pub(crate) reads: Option<u64>,
}

impl Share {
    /// The time that so much takes of it.
    pub(super) fn time(self, messages: u16, bytes: usize) -> Duration {
        let for_messages = self.messages.map_or(0.0, |most| f64::from(messages) / f64::from(most.max(1)));
        let for_bytes = self.bytes.map_or(0.0, |most| bytes as f64 / most.max(1) as f64);
        Duration::from_secs_f64(for_messages.max(for_bytes))
    }

    /// Bytes that are read at once.
    pub(super) fn reads_at_once(self) -> usize {
        let little = |most: u64| (most as f64 * limits::SHARE_READS_STEP.as_secs_f64()) as usize;
        self.reads
            .map_or(limits::PAGE_BYTES_MAX, |most| little(most).clamp(limits::PAGE_BYTES_MIN, limits::PAGE_BYTES_MAX))
    }
}

/// Who has a share.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Whose {
    Name(String),
    Address(IpAddr),
}

impl std::fmt::Display for Whose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(ip) => write!(f, "{ip}"),
        }
    }
}

/// What is used of all shares.
#[derive(Debug)]
pub(crate) struct Shares {
    /// How much may be used at once.
    burst: Duration,
    /// Until when what was sent takes: the theoretical arrival time of the next.
    until: HashMap<Whose, Instant>,
    /// Connections that are open.
    open: HashMap<IpAddr, usize>,
}

impl Default for Shares {
    fn default() -> Self {
        Self::bursting(limits::SHARE_BURST)
    }
}

impl Shares {
    /// Shares of which so much may be used at once.
    pub(super) fn bursting(burst: Duration) -> Self {
        Self { burst, until: HashMap::new(), open: HashMap::new() }
    }

    /// Somebody sends what takes so much time of its share: the time after which it goes on. An error is the time after which it
    /// may try again, where others of its share wait so long already.
    pub(super) fn take(&mut self, whose: Whose, time: Duration, now: Instant) -> Result<Duration, Duration> {
        if self.until.len() >= limits::SHARES_SWEPT_FROM {
            self.until.retain(|_, until| *until > now);
        }
        let until = self.until.entry(whose).or_insert(now);
        let used = until.saturating_duration_since(now);
        let wait = used.saturating_sub(self.burst);
        if wait > limits::SHARE_WAIT_MAX {
            return Err(wait);
        }
        *until = now.checked_add(used + time).unwrap_or(*until);
        Ok(wait)
    }

    /// What took so much time was not sent after all.
    pub(super) fn give_back(&mut self, whose: &Whose, time: Duration) {
        if let Some(until) = self.until.get_mut(whose) {
            *until = until.checked_sub(time).unwrap_or(*until);
        }
    }

    /// Whether one more connection comes from there in its time, of those that may have so many open.
    pub(super) fn arrives(&mut self, ip: IpAddr, most: usize, now: Instant) -> bool {
        let whose = Whose::Address(ip);
        let time = limits::SHARE_ARRIVALS_TIME / u32::try_from(most.max(1)).unwrap_or(u32::MAX);
        let took = self.take(whose.clone(), time, now);
        if took.is_ok_and(|wait| !wait.is_zero()) {
            self.give_back(&whose, time);
        }
        took == Ok(Duration::ZERO)
    }

    pub(super) fn opened(&mut self, ip: IpAddr, most: usize) -> bool {
        let open = self.open.entry(ip).or_default();
        let fits = *open < most;
        *open += usize::from(fits);
        fits
    }

    pub(super) fn closed(&mut self, ip: IpAddr) {
        if let Some(open) = self.open.get_mut(&ip) {
            *open = open.saturating_sub(1);
        }
        self.open.retain(|_, open| *open > 0);
    }
}

/// What somebody is told whose share others of it wait for.
pub(super) fn too_much(whose: &Whose, share: Share, wait: Duration) -> Refusal {
    let messages = share.messages.map(|most| format!("{most} messages"));
    let bytes = share.bytes.map(|most| format!("{most} bytes"));
    let most: Vec<_> = messages.into_iter().chain(bytes).collect();
    let (most, wait) = (most.join(" and "), wait.as_secs_f64().ceil());
    Refusal::new(Code::Busy, format!("{whose} sends more than its share, {most} a second; try again in {wait} s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_taken_in_turn_and_whose_is_used_up_for_long_is_told_when_to_come_again() {
        let (mut shares, now) = (Shares::default(), Instant::now());
        let share = Share { messages: Some(4), bytes: Some(1000), ..Share::default() };
        assert_eq!(share.time(16, 100), Duration::from_secs(4));
        assert_eq!(share.time(1, 10_000), Duration::from_secs(10));
        let esp7 = || Whose::Name("esp7".to_owned());
        let mut waits = Vec::new();
        let refused = loop {
            match shares.take(esp7(), Duration::from_secs(10), now) {
                Ok(wait) => waits.push(wait.as_secs()),
                Err(wait) => break wait,
            }
        };
        // A little may be ahead of its time.
        assert_eq!(waits, [0, 9, 19, 29]);
        assert_eq!(refused, Duration::from_secs(40) - limits::SHARE_BURST);
        let text = too_much(&esp7(), share, refused).text;
        assert_eq!(text, "esp7 sends more than its share, 4 messages and 1000 bytes a second; try again in 40 s");
        // The others do not notice.
        assert_eq!(shares.take(Whose::Address([10, 0, 0, 7].into()), Duration::from_secs(1), now), Ok(Duration::ZERO));
        // What was not sent after all is given back.
        shares.give_back(&esp7(), Duration::from_secs(10));
        assert_eq!(shares.take(esp7(), Duration::ZERO, now + Duration::from_secs(30)), Ok(Duration::ZERO));
    }

    #[test]
    fn the_table_has_only_those_that_wait() {
        let (mut shares, mut now) = (Shares::default(), Instant::now());
        for n in 0..3 * limits::SHARES_SWEPT_FROM as u32 {
            now += Duration::from_secs(1);
            shares.take(Whose::Address(IpAddr::from(n.to_be_bytes())), Duration::from_millis(1), now).unwrap();
            assert!(shares.until.len() <= limits::SHARES_SWEPT_FROM);
        }
    }

    #[test]
    fn an_address_has_so_many_connections() {
        let (mut shares, here, there) = (Shares::default(), IpAddr::from([10, 0, 0, 7]), IpAddr::from([10, 0, 0, 8]));
        assert!(shares.opened(here, 2) && shares.opened(here, 2) && !shares.opened(here, 2) && shares.opened(there, 2));
        shares.closed(here);
        assert!(shares.opened(here, 2) && !shares.opened(here, 2));
        (0..2).for_each(|_| shares.closed(here));
        shares.closed(there);
        assert!(shares.open.is_empty());
    }

    #[test]
    fn who_connects_again_and_again_is_let_in_at_a_pace() {
        let (mut shares, mut now, here) = (Shares::default(), Instant::now(), IpAddr::from([10, 0, 0, 7]));
        let mut came = |now| (0..1000).filter(|_| shares.arrives(here, 32, now)).count();
        assert_eq!(came(now), 33);
        assert_eq!(came(now), 0);
        now += Duration::from_secs(1);
        assert!((32..=33).contains(&came(now)));
    }
}
