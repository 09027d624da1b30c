//! What a data node has kept long enough: which sealed files go, and when it is time to look.
//!
//! [`plan`] decides and is pure; `Log::remove` removes; [`Keeper`] is the commit front's part.
//! Files go whole, and `data.txt` never goes. What one holder let go nobody owes: it does not wait for copies.

use super::segments::Segment;
use super::view::{SealedFile, View};
use crate::clock::Clock;
use crate::limits;
use crate::wire::id::RecordId;
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tokio::time::Instant;

/// How long records are kept; the default is for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Age at which a sealed file goes, once all of its records are that old.
    pub(crate) keep: Option<Duration>,
    /// Bytes of all files of records past which the oldest sealed files go.
    pub(crate) keep_bytes: Option<u64>,
}

impl Policy {
    /// Whether everything is kept for ever.
    #[must_use]
    pub(crate) const fn is_for_ever(&self) -> bool {
        self.keep.is_none() && self.keep_bytes.is_none()
    }
}

/// Decides which sealed files of `view` go at the time `now_ns`, the wall clock in ns since 1970.
///
/// Age counts from the newest record, if that is before now: a clock that jumps ahead removes nothing.
pub(crate) fn plan(view: &View, now_ns: u64, policy: &Policy) -> Vec<Arc<SealedFile>> {
    let now_ns = now_ns.min(view.greatest().map_or(0, |id| id.time_ns));
    let mut oldest: Vec<_> = view.sealed().iter().collect();
    oldest.sort_by_key(|file| (file.segment.greatest, file.serial));
    let mut bytes = view.bytes();
    let mut old = Vec::new();
    for file in oldest {
        let age = Duration::from_nanos(now_ns.saturating_sub(file.segment.greatest.time_ns));
        let too_old = policy.keep.is_some_and(|keep| age > keep);
        let too_many = policy.keep_bytes.is_some_and(|keep| bytes > keep);
        if too_old || too_many {
            bytes -= file.segment.bytes;
            old.push(Arc::clone(file));
        }
    }
    old
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retained {
    /// The files that are gone.
    pub(crate) removed: Vec<Segment>,
    /// What could not be removed, and what the system said.
    pub(crate) failed: Option<String>,
}

/// A time of an id, for people.
fn time(id: RecordId) -> impl fmt::Display {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_nanos(id.time_ns))
}

/// When it is time to look for files that go, and what was said of them.
pub(crate) struct Keeper {
    policy: Policy,
    clock: Clock,
    next: Cell<Option<Instant>>,
    /// The last sealed file at the last look.
    seen: Cell<Option<u64>>,
}

impl Default for Keeper {
    fn default() -> Self {
        Self::new(Policy::default(), Clock::default())
    }
}

impl Keeper {
    /// Keeps as long as the policy says.
    #[must_use]
    pub(crate) const fn new(policy: Policy, clock: Clock) -> Self {
        Self { policy, clock, next: Cell::new(None), seen: Cell::new(None) }
    }

    /// When to look next; `None` if everything is kept for ever.
    #[must_use]
    pub(crate) fn next(&self) -> Option<Instant> {
        (!self.policy.is_for_ever()).then(|| self.next.get().unwrap_or_else(Instant::now))
    }

    /// The files that go `now`, if it is time to look: at the start, after every seal, and once a minute.
    pub(crate) fn look(&self, view: &View, now: Instant) -> Vec<Arc<SealedFile>> {
        if self.policy.is_for_ever() {
            return Vec::new();
        }
        let last = view.sealed().last().map(|file| file.serial);
        if last == self.seen.get() && self.next.get().is_some_and(|next| now < next) {
            return Vec::new();
        }
        self.seen.set(last);
        self.next.set(Some(now + limits::RETENTION_EVERY));
        plan(view, self.clock.wall_ns(), &self.policy)
    }

    /// Says what became of a look.
    pub(crate) fn told(&self, retained: &Retained) {
        for Segment { file, records, least, greatest, .. } in &retained.removed {
            tracing::info!("retention: removed {file}, {records} records from {} to {}", time(*least), time(*greatest));
        }
        if let Some(failed) = &retained.failed {
            tracing::warn!("retention: {failed}; it is tried again every {:?}", limits::RETENTION_EVERY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::segments::sealed_name;
    use crate::data::sources::{Marks, Sources};
    use crate::data::view::Sealed;

    const DAY: u64 = 24 * 3_600_000_000_000;
    const NOW: u64 = 1000 * DAY;

    /// Files of 100 bytes whose greatest records are so many days old.
    fn view(ages: &[u64]) -> View {
        let id = |age: u64| RecordId { time_ns: NOW - age * DAY, incarnation: 1 };
        let file = |(serial, age): (u64, &u64)| {
            let (least, greatest) = (id(age + 1), id(*age));
            let segment = Segment { file: sealed_name(least, 1), records: 1, bytes: 100, least, greatest };
            Arc::new(SealedFile { serial, segment, ledgers: Arc::default(), marks: Marks::default() })
        };
        View::new(Arc::new(Sealed::new((0..).zip(ages).map(file).collect(), Sources::default())), None)
    }

    fn days(days: u64) -> Policy {
        Policy { keep: Some(Duration::from_nanos(days * DAY)), keep_bytes: None }
    }

    fn bytes(bytes: u64) -> Policy {
        Policy { keep: None, keep_bytes: Some(bytes) }
    }

    fn removed(view: &View, now_ns: u64, policy: &Policy) -> Vec<u64> {
        plan(view, now_ns, policy).iter().map(|file| file.serial).collect()
    }

    #[test]
    fn files_go_for_their_age_or_the_oldest_for_their_bytes() {
        let view = view(&[40, 5, 31, 30, 0]);
        let removed = |policy| removed(&view, NOW, &policy);
        assert_eq!(removed(Policy::default()), [0_u64; 0]);
        assert_eq!(removed(days(30)), [0, 2], "one that is 30 days old stays");
        assert_eq!(removed(bytes(500)), [0_u64; 0]);
        assert_eq!(removed(bytes(300)), [0, 2]);
        assert_eq!(removed(bytes(299)), [0, 2, 3]);
        assert_eq!(removed(bytes(0)).len(), 5);
        assert_eq!(removed(Policy { keep_bytes: Some(200), ..days(35) }), [0, 2, 3], "whichever says more");
    }

    #[test]
    fn a_clock_that_jumps_ahead_removes_nothing() {
        let view = view(&[29, 10, 0]);
        assert!(removed(&view, NOW + 10_000 * DAY, &days(30)).is_empty());
        assert_eq!(removed(&view, NOW, &days(20)), [0]);
        assert!(removed(&view, NOW - 20 * DAY, &days(20)).is_empty(), "nor one that jumps back");
        assert!(plan(&View::default(), NOW, &days(1)).is_empty());
    }

    #[test]
    fn it_is_time_at_the_start_after_a_seal_and_once_a_minute() {
        let now = Instant::now();
        let looks = |keeper: &Keeper, view: &View, now| !keeper.look(view, now).is_empty();
        assert!(!looks(&Keeper::default(), &view(&[1]), now) && Keeper::default().next().is_none());
        let keeper = Keeper::new(bytes(0), Clock::default());
        assert!(looks(&keeper, &view(&[1]), now));
        assert!(!looks(&keeper, &view(&[1]), now));
        assert!(looks(&keeper, &view(&[1, 0]), now), "a file was sealed");
        assert!(!looks(&keeper, &view(&[1, 0]), now));
        assert_eq!(keeper.next(), Some(now + limits::RETENTION_EVERY));
        assert!(looks(&keeper, &view(&[1, 0]), now + limits::RETENTION_EVERY));
    }
}
