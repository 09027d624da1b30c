//! When topics give way to what is kept: for a share of the time, where the cluster keeps less than comes.
//!
//! Forwarding waits for nothing, so on a machine that is used up it takes what the cluster would need, and more goes unkept than
//! must. Nothing here makes topics wait for the cluster: one that is away, or stands still, slows nobody. Pure: the time is
//! handed in.

use tokio::time::Instant;

use crate::limits;

/// What waits to be kept, as it was just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Backlog {
    /// Bytes that wait.
    pub(super) bytes: usize,
    /// Bytes that may wait.
    pub(super) bytes_max: usize,
    /// Messages that are kept, since the start.
    pub(super) kept: u64,
}

impl Backlog {
    const fn is_long(&self) -> bool {
        self.bytes > self.bytes_max / 2
    }
}

/// Decides when forwarding pauses.
#[derive(Debug)]
pub(super) struct Pace {
    /// What was kept when it was last looked at.
    kept: Option<u64>,
    /// When it was seen that more is kept.
    grew: Option<Instant>,
    /// No pause before.
    not_before: Instant,
}

impl Pace {
    pub(super) const fn new(now: Instant) -> Self {
        Self { kept: None, grew: None, not_before: now }
    }

    /// Whether forwarding pauses now, for [`limits::KEEP_PAUSE`].
    pub(super) fn pauses(&mut self, backlog: Backlog, now: Instant) -> bool {
        if self.kept.replace(backlog.kept).is_some_and(|before| backlog.kept > before) {
            self.grew = Some(now);
        }
        let moves = self.grew.is_some_and(|grew| now.duration_since(grew) < limits::KEEP_MOVES_TIME);
        moves && backlog.is_long() && now >= self.not_before
    }

    /// It did, from then until now. The next pause is so far off that the share of the time holds. What counts is what this one
    /// took: more than was asked for, where the machine is used up.
    pub(super) fn paused(&mut self, from: Instant, now: Instant) {
        self.not_before = now + now.duration_since(from) * (limits::KEEP_PAUSE_PART - 1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const STEP: Duration = Duration::from_micros(100);

    const fn backlog(bytes: usize, kept: u64) -> Backlog {
        Backlog { bytes, bytes_max: 1000, kept }
    }

    /// How many pauses there are in a second of steps, and the time that they take where each takes `each`.
    fn pauses(each: Duration, mut backlog: impl FnMut(u64) -> Backlog) -> (u32, Duration) {
        let start = Instant::now();
        let (mut now, mut pace, mut times, mut taken) = (start, Pace::new(start), 0, Duration::ZERO);
        for step in 0.. {
            if now.duration_since(start) >= Duration::from_secs(1) {
                break;
            }
            now += STEP;
            if pace.pauses(backlog(step), now) {
                pace.paused(now, now + each);
                now += each;
                times += 1;
                taken += each;
            }
        }
        (times, taken)
    }

    #[test]
    fn there_is_no_pause_while_the_queue_is_at_most_half_full() {
        assert_eq!(pauses(limits::KEEP_PAUSE, |step| backlog(500, step)).0, 0);
        assert!(pauses(limits::KEEP_PAUSE, |step| backlog(501, step)).0 > 0);
    }

    #[test]
    fn there_is_none_for_a_cluster_that_stands_still() {
        assert_eq!(pauses(limits::KEEP_PAUSE, |_| backlog(1000, 0)).0, 0, "it is away");
        assert_eq!(pauses(limits::KEEP_PAUSE, |_| backlog(1000, 7)).0, 0, "what it kept before says nothing of now");
        // It stops after a tenth of the first second.
        let (times, taken) = pauses(limits::KEEP_PAUSE, |step| backlog(1000, step.min(100)));
        assert!(times > 0 && taken < (limits::KEEP_MOVES_TIME + Duration::from_millis(100)) / 2, "{times} {taken:?}");
    }

    #[test]
    fn pauses_take_a_bounded_share_of_the_time_however_long_one_takes() {
        for each in [1, 3, 20, 150].map(Duration::from_millis) {
            let (times, taken) = pauses(each, |step| backlog(1000, step));
            let most = Duration::from_secs(1) / limits::KEEP_PAUSE_PART + each;
            assert!(times > 0 && taken <= most, "{times} of {each:?}: {taken:?} of at most {most:?}");
        }
    }
}
