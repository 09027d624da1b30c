//! The head's hybrid clock: hands out record ids that never go back.
//!
//! It reads no clock of its own: the wall time is handed in. A wall clock that jumps back an hour changes nothing but
//! that ids run ahead of it until it has caught up (DESIGN page, section 5). Until then they go at half its pace: readers
//! that follow wait in time of ids for what may still come, so ids must not stand still.

use crate::wire::id::RecordId;

/// Gives consecutive ids in the name of one incarnation of a head.
#[derive(Debug)]
pub(crate) struct IdClock {
    next_ns: u64,
    /// While ids are ahead of the wall clock: what that showed, and what the next id was, when they got there.
    ahead: (u64, u64),
    incarnation: u32,
}

impl IdClock {
    /// A clock for a head that drew this incarnation when it started; only the low 30 bits are used.
    #[must_use]
    pub(crate) const fn new(incarnation: u32) -> Self {
        Self { next_ns: 0, ahead: (0, 0), incarnation: incarnation & ((1 << RecordId::INCARNATION_BITS) - 1) }
    }

    /// The first of `count` consecutive ids, at `wall_ns` or later. All are greater than every id given before.
    pub(crate) const fn take(&mut self, wall_ns: u64, count: u64) -> RecordId {
        let first_ns = self.first_ns(wall_ns);
        self.next_ns = first_ns.saturating_add(count);
        RecordId { time_ns: first_ns, incarnation: self.incarnation }
    }

    const fn first_ns(&mut self, wall_ns: u64) -> u64 {
        if wall_ns >= self.next_ns {
            return wall_ns;
        }
        let (wall_before, next_before) = self.ahead;
        let paced_ns = next_before.saturating_add(wall_ns.saturating_sub(wall_before) / 2);
        if wall_ns >= wall_before && paced_ns >= self.next_ns {
            return paced_ns;
        }
        self.ahead = (wall_ns, self.next_ns);
        self.next_ns
    }

    /// The least id that [`take`](Self::take) can give from now on, were it asked at `wall_ns` or later.
    #[cfg(test)]
    pub(crate) const fn now(&mut self, wall_ns: u64) -> RecordId {
        self.take(wall_ns, 0)
    }

    /// The least time of the next id, ns since 1970: 0 before the first.
    #[must_use]
    pub(crate) const fn next_ns(&self) -> u64 {
        self.next_ns
    }

    /// Ids carry another incarnation from now on.
    pub(crate) const fn renew(&mut self, incarnation: u32) {
        self.incarnation = incarnation & ((1 << RecordId::INCARNATION_BITS) - 1);
    }

    /// The incarnation in every id of this clock.
    #[must_use]
    pub(crate) const fn incarnation(&self) -> u32 {
        self.incarnation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_back_gives_greater_ids_all_the_same() {
        let mut clock = IdClock::new(3);
        let a = clock.take(1_000_000, 16);
        let b = clock.take(500, 1);
        assert_eq!(b, a.plus(16));
        assert_eq!(clock.take(2_000_000, 1).time_ns, 2_000_000);
    }

    #[test]
    fn ids_that_are_ahead_go_on_at_half_the_pace_until_the_wall_clock_is_there() {
        let mut clock = IdClock::new(3);
        clock.take(3_599, 1);
        assert_eq!(clock.now(0).time_ns, 3_600);
        assert_eq!(clock.now(600).time_ns, 3_900);
        assert_eq!(clock.now(100).time_ns, 3_900, "another jump back");
        assert_eq!(clock.take(300, 50).time_ns, 4_000);
        assert_eq!(clock.now(340).time_ns, 4_050, "many were given");
        assert_eq!(clock.now(4_040).time_ns, 5_900);
        assert_eq!(clock.now(5_901).time_ns, 5_901, "it is there");
    }

    #[test]
    fn what_was_called_the_least_id_stays_so() {
        let mut clock = IdClock::new(3);
        let least = clock.now(1000);
        assert_eq!(clock.take(10, 1), least);
        assert!(clock.now(10) > least);
    }
}
