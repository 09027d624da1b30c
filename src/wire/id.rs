//! The identity of a record, and the text form of small numbers in `data.txt` and the logs.
//!
//! An id is a time in nanoseconds and the incarnation of the head that gave it (DESIGN page, section 5). Its text is 20
//! characters: ten digits of Unix seconds, five characters of the fraction, five of the incarnation. The alphabet is
//! in ASCII order, so texts sort as ids do. This file gives no ids: the head's clock does.

use std::fmt;
use std::str::FromStr;

/// Sixty-four digits in ASCII order, so that text sorts as the numbers do.
const DIGITS: [u8; 64] = *b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";

/// The value of each digit, or 0xff.
#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler, which refuses an index out of bounds")]
const VALUES: [u8; 256] = {
    let mut values = [0xff_u8; 256];
    let mut i = 0;
    while i < 64 {
        values[DIGITS[i] as usize] = i as u8;
        i += 1;
    }
    values
};

/// Characters of an id in text.
pub const ID_CHARS: usize = 20;

/// Characters of a client id in text.
pub const CLIENT_CHARS: usize = 10;

/// Nanoseconds in a second.
const NS_PER_S: u64 = 1_000_000_000;

/// First second that does not fit ten digits.
const SECONDS_END: u64 = 10_000_000_000;

/// A record's id: unique without coordination between heads, sorted by time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct RecordId {
    /// Nanoseconds since the Unix epoch, from the head's hybrid clock, below 10^19.
    pub time_ns: u64,
    /// Random number that a head draws when it starts, below 2^30.
    pub incarnation: u32,
}

impl RecordId {
    /// Bits of an incarnation: five characters of text. The design page says 32; two bits are the price of a line whose
    /// fields stay within 45 bytes.
    pub const INCARNATION_BITS: u32 = 30;

    /// The least id there can be.
    pub const ZERO: Self = Self { time_ns: 0, incarnation: 0 };

    /// The greatest id that [`is_valid`](Self::is_valid).
    pub const MAX: Self = Self { time_ns: SECONDS_END * NS_PER_S - 1, incarnation: (1 << Self::INCARNATION_BITS) - 1 };

    /// The least id above this one: the end of a half-open range that holds it. That of [`MAX`](Self::MAX) is `MAX`.
    #[must_use]
    pub const fn next(self) -> Self {
        if self.incarnation < Self::MAX.incarnation {
            Self { time_ns: self.time_ns, incarnation: self.incarnation + 1 }
        } else if self.time_ns < Self::MAX.time_ns {
            Self { time_ns: self.time_ns + 1, incarnation: 0 }
        } else {
            Self::MAX
        }
    }

    /// The id `n` places after this one in a batch: ids of a batch are consecutive.
    #[must_use]
    pub const fn plus(self, n: u64) -> Self {
        Self { time_ns: self.time_ns.saturating_add(n), incarnation: self.incarnation }
    }

    /// Whether the id can be written as text and read back: the bounds of both fields.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.time_ns / NS_PER_S < SECONDS_END && self.incarnation < 1 << Self::INCARNATION_BITS
    }

    /// The 20 characters of this id. An id that [`is_valid`](Self::is_valid) refuses loses its high digits.
    #[must_use]
    pub fn to_text(self) -> [u8; ID_CHARS] {
        let mut text = [b'0'; ID_CHARS];
        let (seconds, fraction) = text.split_at_mut(10);
        let mut rest = self.time_ns / NS_PER_S;
        for digit in seconds.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        let (fraction, incarnation) = fraction.split_at_mut(5);
        put_fixed(fraction, self.time_ns % NS_PER_S);
        put_fixed(incarnation, u64::from(self.incarnation));
        text
    }

    /// Reads the 20 characters of an id; `None` if they are not one.
    #[must_use]
    pub fn from_text(text: &[u8]) -> Option<Self> {
        if text.len() != ID_CHARS {
            return None;
        }
        let (seconds, rest) = text.split_at(10);
        let (fraction, incarnation) = rest.split_at(5);
        // As in `number`: every character first, the verdict once.
        let (mut total, mut odd) = (0_u64, false);
        for &c in seconds {
            let digit = c.wrapping_sub(b'0');
            odd |= digit > 9;
            total = total * 10 + u64::from(digit);
        }
        if odd {
            return None;
        }
        let fraction = number(fraction)?;
        if fraction >= NS_PER_S {
            return None;
        }
        let time_ns = total.checked_mul(NS_PER_S)?.checked_add(fraction)?;
        Some(Self { time_ns, incarnation: u32::try_from(number(incarnation)?).ok()? })
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.to_text()).unwrap_or_default())
    }
}

/// Text that is not a record id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a record id: it takes ten digits and ten characters of A-Z a-z 0-9 - _")]
pub struct NotAnId(String);

impl FromStr for RecordId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        Self::from_text(text.as_bytes()).ok_or_else(|| NotAnId(text.chars().take(64).collect()))
    }
}

/// A client's identity: random, below 2^60. A retry repeats it together with the sequence number.
///
/// Its top bit says whether there are retries at all: readers look for second copies only of clients that
/// [`may_retry`](Self::may_retry).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ClientId(pub u64);

impl ClientId {
    /// Bits of a client id: ten characters of text (the design page says 64; see [`RecordId::INCARNATION_BITS`]).
    pub const BITS: u32 = 60;

    /// A client id from any random number: its low 60 bits.
    #[must_use]
    pub const fn from_random(random: u64) -> Self {
        Self(random & ((1 << Self::BITS) - 1))
    }

    /// The bit of a client that sends again what was not answered.
    const RETRIES: u64 = 1 << (Self::BITS - 1);

    /// A client of a library, from any random number: it may send a message again under the same sequence number.
    #[must_use]
    pub const fn of_library(random: u64) -> Self {
        Self(Self::from_random(random).0 | Self::RETRIES)
    }

    /// What a head calls a connection in text, from any random number: nothing on it is ever sent again.
    #[must_use]
    pub const fn of_connection(random: u64) -> Self {
        Self(Self::from_random(random).0 & !Self::RETRIES)
    }

    /// Whether the client may send a message again: then there may be a second copy of it, and a later message may
    /// have a lower id.
    #[must_use]
    pub const fn may_retry(self) -> bool {
        self.0 & Self::RETRIES != 0
    }

    /// Whether it fits its ten characters.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.0 < 1 << Self::BITS
    }

    /// The ten characters of this id.
    #[must_use]
    pub fn to_text(self) -> [u8; CLIENT_CHARS] {
        let mut text = [b'-'; CLIENT_CHARS];
        put_fixed(&mut text, self.0);
        text
    }

    /// Reads the ten characters of a client id; `None` if they are not one.
    #[must_use]
    pub fn from_text(text: &[u8]) -> Option<Self> {
        (text.len() == CLIENT_CHARS).then(|| number(text).map(Self)).flatten()
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.to_text()).unwrap_or_default())
    }
}

/// Writes `value` over the whole of `out` in base 64, high digit first; digits that do not fit are lost.
pub fn put_fixed(out: &mut [u8], mut value: u64) {
    for slot in out.iter_mut().rev() {
        *slot = DIGITS.get((value & 63) as usize).copied().unwrap_or(b'-');
        value >>= 6;
    }
}

/// The number that base-64 digits of any length from 1 to 10 stand for; `None` for anything else.
#[must_use]
pub fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 10 {
        return None;
    }
    // Without a branch for each character: this is a large part of what it takes to read a line.
    let (mut total, mut odd) = (0_u64, 0_u8);
    for &c in text {
        let value = VALUES.get(usize::from(c)).copied().unwrap_or(0xff);
        odd |= value;
        total = total << 6 | u64::from(value & 63);
    }
    (odd < 64).then_some(total)
}

/// Base-64 digits that `value` takes without leading zeros, at least one. Values of 60 bits and less are in use.
#[must_use]
pub const fn digits(value: u64) -> usize {
    let bits = 64 - value.leading_zeros() as usize;
    if bits == 0 { 1 } else { bits.div_ceil(6) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_starts_with_the_unix_seconds() {
        let id = RecordId { time_ns: 1_795_234_260_000_000_001, incarnation: 7 };
        assert_eq!(id.to_string(), "1795234260----0----6");
        assert_eq!("1795234260----0----6".parse(), Ok(id));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "1795234260----0----", "179523426x----0----6", "1795234260zzzzz----6", "1795234260--+-0----6"]
        {
            assert!(text.parse::<RecordId>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_next_id_is_the_least_one_above() {
        let id = |time_ns, incarnation| RecordId { time_ns, incarnation };
        let last = RecordId::MAX.incarnation;
        assert_eq!(RecordId::ZERO.next(), id(0, 1));
        assert_eq!(id(5, last).next(), id(6, 0));
        assert_eq!(RecordId::MAX.next(), RecordId::MAX);
        assert!(RecordId::MAX.is_valid() && !RecordId::MAX.plus(1).is_valid());
        assert!(!id(0, last + 1).is_valid());
    }

    #[test]
    fn the_first_character_of_a_client_tells_whether_it_retries() {
        for random in [0, 7, 1 << 59, (1 << 59) - 1, u64::MAX] {
            let (library, connection) = (ClientId::of_library(random), ClientId::of_connection(random));
            assert!(library.is_valid() && library.may_retry() && library.to_text()[0] >= b'V');
            assert!(connection.is_valid() && !connection.may_retry() && connection.to_text()[0] < b'V');
            assert_eq!(library.0 - connection.0, 1 << 59);
        }
    }

    proptest! {
        #[test]
        fn ids_round_trip_and_sort_as_text(a in 0..u64::MAX / 2, b in 0..u64::MAX / 2, i in 0..1u32 << 30, j in 0..1u32 << 30) {
            let (a, b) = (RecordId { time_ns: a, incarnation: i }, RecordId { time_ns: b, incarnation: j });
            prop_assert!(a.is_valid());
            prop_assert_eq!(RecordId::from_text(&a.to_text()), Some(a));
            prop_assert_eq!(a.cmp(&b), a.to_text().cmp(&b.to_text()));
        }

        #[test]
        fn numbers_round_trip(n in 0..1u64 << 60) {
            let mut text = vec![0; digits(n)];
            put_fixed(&mut text, n);
            prop_assert_eq!(number(&text), Some(n));
            prop_assert!(text.len() == 1 || text[0] != b'-');
            prop_assert_eq!(ClientId::from_text(&ClientId(n).to_text()), Some(ClientId(n)));
        }
    }
}
