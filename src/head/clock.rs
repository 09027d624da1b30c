//! The head's hybrid clock: hands out record ids that never go back.
//!
//! It reads no clock of its own: the wall time is handed in. A wall clock that jumps back an hour changes nothing but
//! that ids run a little ahead of it until it has caught up (DESIGN page, section 5).

use crate::wire::id::RecordId;

/// Gives consecutive ids in the name of one incarnation of a head.
#[derive(Debug)]
pub struct IdClock {
    next_ns: u64,
    incarnation: u32,
}

impl IdClock {
    /// A clock for a head that drew this incarnation when it started; only the low 30 bits are used.
    #[must_use]
    pub const fn new(incarnation: u32) -> Self {
        Self { next_ns: 0, incarnation: incarnation & ((1 << RecordId::INCARNATION_BITS) - 1) }
    }

    /// The first of `count` consecutive ids, at `wall_ns` or later. All are greater than every id given before.
    pub const fn take(&mut self, wall_ns: u64, count: u64) -> RecordId {
        let first_ns = if wall_ns > self.next_ns { wall_ns } else { self.next_ns };
        self.next_ns = first_ns.saturating_add(count);
        RecordId { time_ns: first_ns, incarnation: self.incarnation }
    }

    /// The incarnation in every id of this clock.
    #[must_use]
    pub const fn incarnation(&self) -> u32 {
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
}
