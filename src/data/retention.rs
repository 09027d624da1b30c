//! What a data node has kept long enough: which sealed files go, and when it is time to look.
//!
//! [`plan`] decides and is pure; [`Log::retain`](super::log::Log::retain) removes; [`Keeper`] is the commit front's part.
//! Files go whole, `data.txt` never goes, and neither does a file with records that are short of copies.

use super::segments::Segment;
use super::view::{SealedFile, View};
use crate::clock::Clock;
use crate::limits;
use crate::wire::id::RecordId;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
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

/// Whether a sealed file has records with fewer copies than they are to have, as far as the node knows.
pub(crate) type IsShort = Arc<dyn Fn(&SealedFile) -> bool + Send + Sync>;

/// The same, asked where the node knows it.
type Judge = Box<dyn Fn(&SealedFile) -> Option<bool>>;

/// Which sealed files have been kept long enough.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Those that go.
    pub(crate) remove: Vec<Arc<SealedFile>>,
    /// The oldest of those that would go, but have records short of copies.
    pub(crate) held: Option<Arc<SealedFile>>,
}

/// Decides which sealed files of `view` go at the time `now_ns`, the wall clock in ns since 1970.
///
/// Age counts from the newest record, if that is before now: a clock that jumps ahead removes nothing. A file that is
/// held back for its copies keeps younger ones from going for their bytes, not from going for their age.
pub(crate) fn plan(view: &View, now_ns: u64, policy: &Policy, is_short: impl Fn(&SealedFile) -> bool) -> Plan {
    let now_ns = now_ns.min(view.greatest().map_or(0, |id| id.time_ns));
    let mut oldest: Vec<_> = view.sealed().iter().collect();
    oldest.sort_by_key(|file| (file.segment.greatest, file.serial));
    let mut bytes = view.bytes();
    let mut stuck = false;
    let mut plan = Plan::default();
    for file in oldest {
        let age = Duration::from_nanos(now_ns.saturating_sub(file.segment.greatest.time_ns));
        let too_old = policy.keep.is_some_and(|keep| age > keep);
        let too_many = !stuck && policy.keep_bytes.is_some_and(|keep| bytes > keep);
        if !too_old && !too_many {
            continue;
        }
        if is_short(file) {
            plan.held.get_or_insert_with(|| Arc::clone(file));
            stuck |= too_many;
            continue;
        }
        bytes -= file.segment.bytes;
        plan.remove.push(Arc::clone(file));
    }
    plan
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retained {
    /// The files that are gone.
    pub(crate) removed: Vec<Segment>,
    /// A file that stays though it is old, for its copies.
    pub(crate) held: Option<String>,
    /// What could not be removed, and what the system said.
    pub(crate) failed: Option<String>,
}

/// A time of an id, for people.
fn time(id: RecordId) -> impl fmt::Display {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_nanos(id.time_ns))
}

/// What the commit thread needs to look for files that go.
pub(crate) struct Look {
    /// How long records are kept.
    pub(crate) policy: Policy,
    /// The wall clock, ns since 1970.
    pub(crate) now_ns: u64,
    /// Which files have to stay.
    pub(crate) is_short: IsShort,
}

/// When it is time to look for files that go, and what was said of them.
pub(crate) struct Keeper {
    policy: Policy,
    judge: RefCell<Judge>,
    clock: Clock,
    next: Cell<Option<Instant>>,
    /// The last sealed file at the last look.
    seen: Cell<Option<u64>>,
    held: RefCell<Option<String>>,
}

impl Default for Keeper {
    fn default() -> Self {
        Self::new(Policy::default(), Clock::default())
    }
}

impl Keeper {
    /// Keeps as long as the policy says; no file is known to be short of copies.
    #[must_use]
    pub(crate) fn new(policy: Policy, clock: Clock) -> Self {
        Self {
            policy,
            judge: RefCell::new(Box::new(|_| Some(false))),
            clock,
            next: Cell::new(None),
            seen: Cell::new(None),
            held: RefCell::new(None),
        }
    }

    /// From now on, this tells which files have records short of copies, or that nobody can know yet.
    pub(crate) fn set_short(&self, judge: impl Fn(&SealedFile) -> Option<bool> + 'static) {
        drop(self.judge.replace(Box::new(judge)));
    }

    /// When to look next; `None` if everything is kept for ever.
    #[must_use]
    pub(crate) fn next(&self) -> Option<Instant> {
        (!self.policy.is_for_ever()).then(|| self.next.get().unwrap_or_else(Instant::now))
    }

    /// What to look for `now`, if it is time: at the start, after every seal, and once a minute.
    pub(crate) fn look(&self, view: &View, now: Instant) -> Option<Look> {
        if self.policy.is_for_ever() {
            return None;
        }
        let last = view.sealed().last().map(|file| file.serial);
        if last == self.seen.get() && self.next.get().is_some_and(|next| now < next) {
            return None;
        }
        self.seen.set(last);
        self.next.set(Some(now + limits::RETENTION_EVERY));
        let judge = self.judge.borrow();
        let known = view.sealed().iter().map(|file| judge(file).map(|short| short.then_some(file.serial)));
        let Some(short) = known.collect::<Option<Vec<_>>>() else {
            self.next.set(Some(now + limits::RETENTION_DOUBT_TIME));
            return None;
        };
        let short: HashSet<u64> = short.into_iter().flatten().collect();
        let is_short: IsShort = Arc::new(move |file| short.contains(&file.serial));
        Some(Look { policy: self.policy, now_ns: self.clock.wall_ns(), is_short })
    }

    /// Says what became of a look.
    pub(crate) fn told(&self, retained: &Retained) {
        for Segment { file, records, least, greatest, .. } in &retained.removed {
            tracing::info!("retention: removed {file}, {records} records from {} to {}", time(*least), time(*greatest));
        }
        if let Some(failed) = &retained.failed {
            tracing::warn!("retention: {failed}; it is tried again every {:?}", limits::RETENTION_EVERY);
        }
        let before = self.held.replace(retained.held.clone());
        match (&retained.held, before) {
            (Some(file), None) => tracing::warn!(
                "retention: {file} was kept long enough and stays all the same: it has records short of copies; bring \
                 back the missing data nodes, or start others"
            ),
            (None, Some(_)) => tracing::info!("retention: no file is held back for its copies any more"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::segments::sealed_name;
    use crate::data::view::Sealed;

    const DAY: u64 = 24 * 3_600_000_000_000;
    const NOW: u64 = 1000 * DAY;

    /// Files of 100 bytes whose greatest records are so many days old.
    fn view(ages: &[u64]) -> View {
        let id = |age: u64| RecordId { time_ns: NOW - age * DAY, incarnation: 1 };
        let file = |(serial, age): (u64, &u64)| {
            let (least, greatest) = (id(age + 1), id(*age));
            let segment = Segment { file: sealed_name(least, 1), records: 1, bytes: 100, least, greatest };
            Arc::new(SealedFile { serial, segment, holdings: Arc::default() })
        };
        View::new(Arc::new(Sealed::new((0..).zip(ages).map(file).collect())), None)
    }

    fn days(days: u64) -> Policy {
        Policy { keep: Some(Duration::from_nanos(days * DAY)), keep_bytes: None }
    }

    fn bytes(bytes: u64) -> Policy {
        Policy { keep: None, keep_bytes: Some(bytes) }
    }

    fn removed(plan: &Plan) -> Vec<u64> {
        plan.remove.iter().map(|file| file.serial).collect()
    }

    #[test]
    fn a_look_knows_which_files_are_short_when_it_is_taken() {
        let keeper = Keeper::new(days(1), Clock::default());
        let (known, view) = (std::rc::Rc::new(Cell::new(false)), view(&[9, 8, 0]));
        let knows = std::rc::Rc::clone(&known);
        keeper.set_short(move |file| knows.get().then_some(file.serial == 1));
        assert!(keeper.look(&view, Instant::now()).is_none(), "nobody knows yet");
        known.set(true);
        let look = keeper.look(&view, Instant::now() + limits::RETENTION_DOUBT_TIME).unwrap();
        let short: Vec<bool> = view.sealed().iter().map(|file| (look.is_short)(file)).collect();
        assert_eq!(short, [false, true, false]);
    }

    #[test]
    fn files_go_for_their_age_or_the_oldest_for_their_bytes() {
        let view = view(&[40, 5, 31, 30, 0]);
        let nothing_short = |_: &SealedFile| false;
        assert_eq!(removed(&plan(&view, NOW, &Policy::default(), nothing_short)), [0_u64; 0]);
        assert_eq!(removed(&plan(&view, NOW, &days(30), nothing_short)), [0, 2], "one that is 30 days old stays");
        assert_eq!(removed(&plan(&view, NOW, &bytes(500), nothing_short)), [0_u64; 0]);
        assert_eq!(removed(&plan(&view, NOW, &bytes(300), nothing_short)), [0, 2]);
        assert_eq!(removed(&plan(&view, NOW, &bytes(299), nothing_short)), [0, 2, 3]);
        assert_eq!(removed(&plan(&view, NOW, &bytes(0), nothing_short)).len(), 5);
        let both = Policy { keep_bytes: Some(200), ..days(35) };
        assert_eq!(removed(&plan(&view, NOW, &both, nothing_short)), [0, 2, 3], "whichever says more");
    }

    #[test]
    fn a_file_short_of_copies_stays_and_holds_back_only_what_goes_for_bytes() {
        let view = view(&[40, 39, 38, 0]);
        let short = |file: &SealedFile| file.serial == 1;
        let aged = plan(&view, NOW, &days(30), short);
        assert_eq!((removed(&aged), aged.held.map(|file| file.serial)), (vec![0, 2], Some(1)));
        let sized = plan(&view, NOW, &bytes(100), short);
        assert_eq!((removed(&sized), sized.held.map(|file| file.serial)), (vec![0], Some(1)));
        let enough = plan(&view, NOW, &bytes(300), short);
        assert_eq!((removed(&enough), enough.held), (vec![0], None), "it need not go");
        assert!(plan(&view, NOW, &bytes(0), |_| true).remove.is_empty());
    }

    #[test]
    fn a_clock_that_jumps_ahead_removes_nothing() {
        let view = view(&[29, 10, 0]);
        assert!(plan(&view, NOW + 10_000 * DAY, &days(30), |_| false).remove.is_empty());
        assert_eq!(removed(&plan(&view, NOW, &days(20), |_| false)), [0]);
        assert!(plan(&view, NOW - 20 * DAY, &days(20), |_| false).remove.is_empty(), "nor one that jumps back");
        assert!(plan(&View::default(), NOW, &days(1), |_| false).remove.is_empty());
    }

    #[test]
    fn it_is_time_at_the_start_after_a_seal_and_once_a_minute() {
        let now = Instant::now();
        assert!(Keeper::default().look(&view(&[1]), now).is_none() && Keeper::default().next().is_none());
        let keeper = Keeper::new(days(1), Clock::default());
        assert!(keeper.look(&view(&[1]), now).is_some());
        assert!(keeper.look(&view(&[1]), now).is_none());
        assert!(keeper.look(&view(&[1, 0]), now).is_some(), "a file was sealed");
        assert!(keeper.look(&view(&[1, 0]), now).is_none());
        assert_eq!(keeper.next(), Some(now + limits::RETENTION_EVERY));
        assert!(keeper.look(&view(&[1, 0]), now + limits::RETENTION_EVERY).is_some());
    }
}
