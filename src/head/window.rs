//! How much a data node may have unsettled, and where nodes come from that settled nothing.
//!
//! A window opens as its node settles what it has (TCP's slow start) and halves while the node is silent, so that a node
//! which stops has no more than it was in need of. Pure; who looks how often is the caller's business.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::limits;

/// Messages and their bytes, lengths included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Window {
    /// Bytes.
    pub(crate) bytes: usize,
    /// Messages.
    pub(crate) messages: usize,
}

impl Window {
    fn least(self, other: Self) -> Self {
        Self { bytes: self.bytes.min(other.bytes), messages: self.messages.min(other.messages) }
    }

    fn greatest(self, other: Self) -> Self {
        Self { bytes: self.bytes.max(other.bytes), messages: self.messages.max(other.messages) }
    }
}

/// The window of a node that has settled its first batch: so small that little hangs on a node that stops then, so large that
/// a burst which comes first is spread as evenly as any other.
const FIRST: Window = Window {
    bytes: limits::NODE_WINDOW_BATCHES_FIRST * limits::BATCH_BYTES_MAX,
    messages: limits::NODE_WINDOW_BATCHES_FIRST * limits::BATCH_MESSAGES_MAX,
};

/// What a node may have unsettled now.
#[derive(Debug)]
pub(super) struct Opening {
    most: Window,
    open: Window,
    /// It has settled something since it registered.
    proven: bool,
    /// What it had settled at the last look, if it had something then, and at how many looks before that it was the same.
    seen: Option<(u64, u32)>,
}

impl Opening {
    /// That of a node that has just registered and may have `most` at best.
    pub(super) fn new(most: Window) -> Self {
        Self { most, open: FIRST.least(most), proven: false, seen: None }
    }

    /// Whether a batch of this size fits beside what is there. One always fits where nothing is, and no second one before
    /// the first is settled.
    pub(super) const fn fits(&self, there: Window, more: Window) -> bool {
        there.messages == 0
            || (self.proven
                && there.bytes + more.bytes <= self.open.bytes
                && there.messages + more.messages <= self.open.messages)
    }

    /// Whether the node has settled something since it registered.
    pub(super) const fn is_proven(&self) -> bool {
        self.proven
    }

    /// So much of what was there is settled. The window opens where it was made use of: eightfold in the time that it takes
    /// to settle all of it.
    pub(super) fn settled(&mut self, there: Window, settled: Window) {
        self.proven = true;
        let opened =
            |open: usize, there: usize, settled: usize| if 2 * there >= open { open + 7 * settled } else { open };
        self.open = Window {
            bytes: opened(self.open.bytes, there.bytes, settled.bytes),
            messages: opened(self.open.messages, there.messages, settled.messages),
        }
        .least(self.most);
    }

    /// Looks at the node: `settled` counts what it has settled, `waits` says whether it has something. If it has had
    /// something for some looks and settled nothing, the window halves, down to one batch.
    pub(super) fn look(&mut self, settled: u64, waits: bool) {
        let silent = match self.seen {
            Some((seen, silent)) if seen == settled => silent + 1,
            _ => 0,
        };
        let halves = waits && silent >= limits::NODE_SILENT_LOOKS;
        if halves {
            let half = Window { bytes: self.open.bytes / 2, messages: self.open.messages / 2 };
            let batch = Window { bytes: limits::BATCH_BYTES_MAX, messages: limits::BATCH_MESSAGES_MAX };
            self.open = half.greatest(batch.least(self.most));
        }
        self.seen = waits.then_some((settled, if halves { 0 } else { silent }));
    }

    /// As if it had settled all that it may.
    #[cfg(test)]
    pub(super) const fn open_all(&mut self) {
        self.proven = true;
        self.open = self.most;
    }
}

/// The addresses from which nodes came that were given something and left without having settled anything.
#[derive(Debug, Default)]
pub(super) struct Failures(BTreeMap<Rc<str>, Failure>);

#[derive(Clone, Copy, Debug)]
struct Failure {
    times: u32,
    /// The look from which on another node from there is tried.
    until: u64,
}

impl Failures {
    /// A node from there failed at this look: the next is not tried for a time that doubles with each.
    pub(super) fn add(&mut self, ip: &Rc<str>, look: u64) {
        let times = self.times(ip).saturating_add(1);
        let looks = (limits::NODE_REST_LOOKS << (times - 1).min(16)).min(limits::NODE_REST_LOOKS_MAX);
        if self.0.len() >= limits::ROSTER_MAX
            && let Some(oldest) = self.0.iter().min_by_key(|(_, failure)| failure.until).map(|(ip, _)| Rc::clone(ip))
        {
            self.0.remove(&oldest);
        }
        self.0.insert(Rc::clone(ip), Failure { times, until: look.saturating_add(looks) });
    }

    /// A node from there settled something.
    pub(super) fn forget(&mut self, ip: &str) {
        self.0.remove(ip);
    }

    /// Whether nodes from there are not tried at this look.
    pub(super) fn rests(&self, ip: &str, look: u64) -> bool {
        self.0.get(ip).is_some_and(|failure| look < failure.until)
    }

    /// How often nodes from there have failed.
    pub(super) fn times(&self, ip: &str) -> u32 {
        self.0.get(ip).map_or(0, |failure| failure.times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Window = Window { bytes: limits::NODE_WINDOW_BYTES_MAX, messages: limits::NODE_WINDOW_MESSAGES_MAX };
    const NONE: Window = Window { bytes: 0, messages: 0 };

    #[test]
    fn a_window_opens_within_some_round_trips_and_only_as_far_as_it_is_used() {
        let mut opening = Opening::new(MOST);
        let first = Window { bytes: 2000, messages: 16 };
        assert!(
            opening.fits(NONE, first)
                && !opening.fits(Window { bytes: 9, messages: 1 }, Window { bytes: 9, messages: 1 })
        );
        opening.settled(first, first);
        let mut trips = 1;
        // All that is open, a hundred bytes a message.
        while opening.open.messages < 6400 {
            let there = Window { bytes: 100 * opening.open.messages, messages: opening.open.messages };
            opening.settled(there, there);
            trips += 1;
        }
        assert!(trips <= 4, "{trips}");
        let open = opening.open;
        for _ in 0..1000 {
            opening.settled(first, first);
        }
        assert_eq!(opening.open, open, "what little there is needs no more");
        for _ in 0..1000 {
            opening.settled(opening.open, opening.open);
        }
        assert_eq!(opening.open, MOST);
    }

    #[test]
    fn a_window_halves_with_silence_down_to_one_batch() {
        let mut opening = Opening::new(MOST);
        opening.open_all();
        let looks =
            |opening: &mut Opening, times, settled, waits| (0..times).for_each(|_| opening.look(settled, waits));
        looks(&mut opening, 100, 7, false);
        looks(&mut opening, limits::NODE_SILENT_LOOKS, 7, true);
        assert_eq!(opening.open, MOST, "who has nothing is not silent");
        looks(&mut opening, 1, 7, true);
        assert_eq!(opening.open.messages, MOST.messages / 2);
        for settled in 8..100 {
            looks(&mut opening, limits::NODE_SILENT_LOOKS, settled, true);
        }
        assert_eq!(opening.open.messages, MOST.messages / 2, "it settles something");
        looks(&mut opening, 1000, 100, true);
        assert_eq!(opening.open, Window { bytes: limits::BATCH_BYTES_MAX, messages: limits::BATCH_MESSAGES_MAX });
        assert!(opening.fits(NONE, MOST), "one batch, whatever its size");
    }

    #[test]
    fn the_rest_of_an_address_doubles_until_a_node_from_there_settles_something() {
        let (mut failures, ip) = (Failures::default(), Rc::from("10.0.0.1"));
        let mut last = 0;
        for _ in 0..70 {
            failures.add(&ip, 0);
            let rests = (0..).find(|look| !failures.rests(&ip, *look)).unwrap();
            assert!(rests == (2 * last).clamp(limits::NODE_REST_LOOKS, limits::NODE_REST_LOOKS_MAX), "{last} {rests}");
            last = rests;
        }
        assert!(!failures.rests("10.0.0.2", 0));
        failures.forget(&ip);
        assert!(!failures.rests(&ip, 0));
        for n in 0..2 * limits::ROSTER_MAX {
            failures.add(&format!("10.0.{}.{}", n / 256, n % 256).into(), n as u64);
        }
        assert_eq!(failures.0.len(), limits::ROSTER_MAX);
    }
}
