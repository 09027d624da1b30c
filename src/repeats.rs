//! What a peer can cause again and again is said once, and then counted.
//!
//! For each address there is a list of lines that were said about it. The same line again is counted, and told with its
//! number after a while, which grows as long as it goes on. Other lines take from what the address may cause a second;
//! past that they are counted as well. So no peer fills a disk with logs, however it varies what it does. Pure: the time
//! is handed in, and nothing is written here.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

use crate::limits;

/// Something to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Saying<D> {
    /// The line, or the last of several different ones.
    pub(crate) text: String,
    /// What belongs to it, from the last time that it was noted.
    pub(crate) detail: D,
    /// 0: it is said as it comes. Else how often it was noted since it was said last.
    pub(crate) times: u64,
    /// Those were different lines, of which this is the last.
    pub(crate) mixed: bool,
}

impl<D> fmt::Display for Saying<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, times, mixed, .. } = self;
        match times {
            0 => f.write_str(text),
            times if *mixed => write!(f, "{text} (the last of {times} lines about it that are left out)"),
            1 => write!(f, "{text} (again)"),
            times => write!(f, "{text} (repeated {times} times)"),
        }
    }
}

/// A line about a peer.
#[derive(Debug)]
struct Line<D> {
    text: String,
    detail: D,
    times: u64,
    said_at: Instant,
    /// It is not said again before so much time has gone by.
    wait: Duration,
    /// It stands for different lines.
    mixed: bool,
}

/// What is known of one address.
#[derive(Debug)]
struct Peer<D> {
    lines: VecDeque<Line<D>>,
    /// Bytes that may be said about it now.
    credit: u64,
    credited_at: Instant,
    /// Lines that found no credit: the last of them, and how many they were.
    left_out: Option<Line<D>>,
}

/// What was said about peers.
#[derive(Debug)]
pub(crate) struct Repeats<D> {
    wait_max: Duration,
    /// `None` stands for all that are too many.
    peers: BTreeMap<Option<IpAddr>, Peer<D>>,
}

impl<D: Clone> Repeats<D> {
    /// Nothing was said. A line that goes on and on is told every `wait_max`.
    #[must_use]
    pub(crate) const fn new(wait_max: Duration) -> Self {
        Self { wait_max, peers: BTreeMap::new() }
    }

    /// Something about `peer`; what to say of it now, if anything.
    pub(crate) fn note(&mut self, peer: Option<IpAddr>, text: &str, detail: D, now: Instant) -> Option<Saying<D>> {
        let wait_max = self.wait_max;
        let peer = self.peer(peer, now);
        let text = cut(text);
        peer.refill(now);
        let room = peer.credit >= cost(text);
        let known = peer.lines.iter_mut().find(|line| line.text == text);
        if let Some(line) = known {
            line.detail = detail.clone();
            // What comes a little more rarely than it is told goes on, too: it is told with its number.
            let goes_on = now.duration_since(line.said_at) < line.wait * 2;
            if goes_on || line.times > 0 || !room {
                line.times += 1;
                return None;
            }
            line.wait = Duration::ZERO;
            line.said(now, wait_max);
        } else if room {
            if peer.lines.len() >= limits::LOG_PEER_LINES_MAX {
                let oldest = peer.lines.pop_front();
                peer.leave_out(oldest.filter(|line| line.times > 0));
            }
            peer.lines.push_back(Line::new(text, detail.clone(), 0, now));
        } else {
            peer.leave_out(Some(Line::new(text, detail, 1, now)));
            return None;
        }
        peer.credit = peer.credit.saturating_sub(cost(text));
        Some(Saying { text: text.to_owned(), detail, times: 0, mixed: false })
    }

    /// Something about `peer` that is only counted: it is told with its number later.
    pub(crate) fn count(&mut self, peer: Option<IpAddr>, text: &str, detail: D, now: Instant) {
        let peer = self.peer(peer, now);
        let text = cut(text);
        if let Some(line) = peer.lines.iter_mut().find(|line| line.text == text) {
            line.detail = detail;
            line.times += 1;
        } else {
            peer.leave_out(Some(Line::new(text, detail, 1, now)));
        }
    }

    /// What was counted and is to be told now. To be asked once in a while.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Saying<D>> {
        let wait_max = self.wait_max;
        let mut sayings = Vec::new();
        for peer in self.peers.values_mut() {
            peer.refill(now);
            let Peer { lines, credit, left_out, .. } = peer;
            for line in lines.iter_mut().chain(left_out.as_mut()) {
                let waited = line.times > 0 && now.duration_since(line.said_at) >= line.wait;
                if waited && *credit >= cost(&line.text) {
                    *credit -= cost(&line.text);
                    sayings.push(line.told());
                    line.said(now, wait_max);
                }
            }
            peer.forget(now, wait_max);
        }
        self.peers.retain(|_, peer| !peer.lines.is_empty() || peer.left_out.is_some());
        sayings
    }

    /// What was counted and not told: nothing comes after this.
    pub(crate) fn last_words(&mut self) -> Vec<Saying<D>> {
        let all = std::mem::take(&mut self.peers).into_values();
        let lines = all.flat_map(|peer| peer.lines.into_iter().chain(peer.left_out));
        lines.filter(|line| line.times > 0).map(|mut line| line.told()).collect()
    }

    /// The entry of an address. When there are too many, all others share one.
    fn peer(&mut self, peer: Option<IpAddr>, now: Instant) -> &mut Peer<D> {
        let mut key = peer.map(network);
        if !self.peers.contains_key(&key) && self.peers.len() >= limits::LOG_PEERS_MAX {
            key = None;
        }
        self.peers.entry(key).or_insert_with(|| Peer {
            lines: VecDeque::new(),
            credit: limits::LOG_PEER_BURST_BYTES,
            credited_at: now,
            left_out: None,
        })
    }
}

impl<D> Line<D> {
    fn new(text: &str, detail: D, times: u64, now: Instant) -> Self {
        Self { text: text.to_owned(), detail, times, said_at: now, wait: limits::LOG_REPEAT_AFTER, mixed: false }
    }

    /// It is said now, and the next time later than this time.
    fn said(&mut self, now: Instant, wait_max: Duration) {
        self.wait = (self.wait * 2).clamp(limits::LOG_REPEAT_AFTER, wait_max);
        self.said_at = now;
    }
}

impl<D: Clone> Line<D> {
    fn told(&mut self) -> Saying<D> {
        let (times, mixed) = (std::mem::take(&mut self.times), std::mem::take(&mut self.mixed));
        Saying { text: self.text.clone(), detail: self.detail.clone(), times, mixed }
    }
}

impl<D> Peer<D> {
    fn refill(&mut self, now: Instant) {
        let seconds = now.duration_since(self.credited_at).as_secs();
        if seconds > 0 {
            let more = seconds.saturating_mul(limits::LOG_PEER_BYTES_PER_SECOND);
            self.credit = self.credit.saturating_add(more).min(limits::LOG_PEER_BURST_BYTES);
            self.credited_at = now;
        }
    }

    fn leave_out(&mut self, line: Option<Line<D>>) {
        let Some(line) = line else { return };
        match &mut self.left_out {
            Some(last) => {
                last.mixed |= last.times > 0 && last.text != line.text;
                last.times += line.times;
                (last.text, last.detail) = (line.text, line.detail);
            }
            None => self.left_out = Some(line),
        }
    }

    /// Forgets what is over.
    fn forget(&mut self, now: Instant, wait_max: Duration) {
        let stays = |line: &Line<D>| line.times > 0 || now.duration_since(line.said_at) < wait_max;
        self.lines.retain(stays);
        self.left_out = self.left_out.take().filter(stays);
    }
}

/// What a line takes of a peer's credit.
const fn cost(text: &str) -> u64 {
    // Its time, its level and its number come on top.
    text.len() as u64 + 100
}

/// As much of a text as a line is given.
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(limits::LOG_TEXT_BYTES_MAX)).unwrap_or(text)
}

/// An address, or what one peer can have many of.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MOST: Duration = Duration::from_secs(10);

    fn ip(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([127, 0, 0, last]))
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_line_is_said_once_then_counted_and_told_more_and_more_rarely() {
        let (start, mut repeats) = (Instant::now(), Repeats::new(MOST));
        assert_eq!(repeats.note(ip(1), "x", 0, start).unwrap().times, 0);
        let mut told = Vec::new();
        for tenth in 1..=400 {
            let now = start + Duration::from_millis(100 * tenth);
            assert_eq!(repeats.note(ip(1), "x", tenth, now), None, "{tenth}");
            told.extend(repeats.due(now).into_iter().map(|saying| (tenth, saying.times, saying.detail)));
        }
        // After 1, 2, 4 and 8 s, then every 10 s.
        assert_eq!(told, [(10, 10, 10), (30, 20, 30), (70, 40, 70), (150, 80, 150), (250, 100, 250), (350, 100, 350)]);
        assert_eq!(repeats.last_words()[0].times, 50);
        assert!(repeats.last_words().is_empty());
    }

    #[test]
    fn what_comes_a_little_more_rarely_than_it_is_told_is_counted_from_the_second_time_on() {
        let (start, mut repeats) = (Instant::now(), Repeats::new(MOST));
        let mut told = Vec::new();
        for k in 0..20 {
            let now = start + Duration::from_millis(1200 * k);
            told.extend(repeats.note(ip(1), "x", (), now).map(|saying| saying.times));
            told.extend(repeats.due(now + seconds(1)).into_iter().map(|saying| saying.times));
        }
        assert_eq!(told[..3], [0, 1, 2], "{told:?}");
        assert!(told[1..].iter().all(|times| *times > 0) && told.len() <= 6, "{told:?}");
    }

    #[test]
    fn what_comes_rarely_is_said_each_time() {
        let (start, mut repeats) = (Instant::now(), Repeats::new(MOST));
        for k in 0..20 {
            let now = start + seconds(11 * k);
            assert!(repeats.note(ip(1), "x", (), now).is_some(), "{k}");
            assert!(repeats.due(now + seconds(1)).is_empty());
        }
    }

    #[test]
    fn another_line_and_another_peer_are_said_at_once() {
        let (now, mut repeats) = (Instant::now(), Repeats::new(MOST));
        assert!(repeats.note(ip(1), "a", (), now).is_some() && repeats.note(ip(1), "b", (), now).is_some());
        assert!(repeats.note(ip(2), "a", (), now).is_some() && repeats.note(ip(1), "a", (), now).is_none());
        let v6 = |text: &str| Some(text.parse().unwrap());
        assert!(repeats.note(v6("2001:db8::1"), "a", (), now).is_some());
        assert!(repeats.note(v6("2001:db8::2"), "a", (), now).is_none(), "one network is one peer");
    }

    proptest! {
        /// Whatever a peer does, its lines take no more than its bytes, everything is told or counted, memory is bounded.
        #[test]
        fn bytes_are_bounded_and_nothing_is_forgotten(
            steps in prop::collection::vec((0..400_u64, 0..300_u32, 0..2_000_usize, any::<bool>()), 1..1500)
        ) {
            let (start, mut repeats) = (Instant::now(), Repeats::new(MOST));
            let (mut now, mut bytes, mut noted, mut told) = (start, 0, 0_u64, 0_u64);
            let mut take = |sayings: Vec<Saying<()>>| for saying in sayings {
                told += saying.times.max(1);
                bytes += cost(&saying.text);
            };
            for (millis, kind, length, counted) in steps {
                now += Duration::from_millis(millis);
                noted += 1;
                let text = format!("{kind} {}", "x".repeat(length));
                if counted {
                    repeats.count(ip(1), &text, (), now);
                } else {
                    take(repeats.note(ip(1), &text, (), now).into_iter().collect());
                }
                take(repeats.due(now));
                prop_assert!(repeats.peers.values().all(|peer| peer.lines.len() <= limits::LOG_PEER_LINES_MAX));
            }
            let most = limits::LOG_PEER_BURST_BYTES + limits::LOG_PEER_BYTES_PER_SECOND * (now - start).as_secs();
            prop_assert!(bytes <= most, "{bytes} of {most}");
            let rest: u64 = repeats.last_words().into_iter().map(|saying| saying.times).sum();
            prop_assert_eq!(told + rest, noted);
        }

        /// Peers without number share what one may say.
        #[test]
        fn the_table_is_bounded(peers in prop::collection::vec(any::<u32>(), 1000)) {
            let (now, mut repeats) = (Instant::now(), Repeats::new(MOST));
            for peer in peers {
                repeats.note(Some(IpAddr::from(peer.to_be_bytes())), "x", (), now);
            }
            prop_assert!(repeats.peers.len() <= limits::LOG_PEERS_MAX + 1);
            repeats.due(now + MOST * 9);
            repeats.due(now + MOST * 99);
            prop_assert!(repeats.peers.is_empty());
        }
    }
}
