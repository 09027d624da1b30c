//! Names of what the replication protocol counts: node identities, incarnations of heads, ledgers and their entries.
//!
//! Plain numbers with their bounds and their text, no decisions. What they mean is in `docs/protocol.md`; the ledger is
//! that of Apache BookKeeper.

use std::fmt;
use std::str::FromStr;

use super::id::{CLIENT_CHARS, ClientId, RecordId, digits, number, put_fixed};

/// Number of bits of a ledger's number and of an entry's: what five characters of text hold.
const NUMBER_BITS: u32 = 30;

/// First number that no ledger and no entry has.
pub const NUMBER_END: u32 = 1 << NUMBER_BITS;

/// The identity of a data node's folder: random, below 2^60.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct NodeId(pub u64);

impl NodeId {
    /// An identity from any random number: its low 60 bits. It never begins with a hyphen, so that a command takes it for no
    /// flag.
    #[must_use]
    pub const fn from_random(random: u64) -> Self {
        let id = ClientId::from_random(random).0;
        Self(if id >> 54 == 0 { id | 1 << 59 } else { id })
    }

    /// Whether it fits its ten characters.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        ClientId(self.0).is_valid()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ClientId(self.0).fmt(f)
    }
}

impl FromStr for NodeId {
    type Err = NotALedger;

    fn from_str(text: &str) -> Result<Self, NotALedger> {
        let id = ClientId::from_text(text.as_bytes()).ok_or_else(|| NotALedger::of(text, "a node's identity"))?;
        Ok(Self(id.0))
    }
}

const _: () = assert!(CLIENT_CHARS == 10);

/// One run of one head: the random number, below 2^30, that it draws when it starts. It is in each of its record ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Incarnation(pub u32);

impl Incarnation {
    /// Whether it fits an id.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.0 < 1 << RecordId::INCARNATION_BITS
    }
}

/// A ledger: entries 0, 1, 2 … written by one incarnation of one head.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct LedgerId {
    /// Who writes it.
    pub incarnation: Incarnation,
    /// Its number among the ledgers of that incarnation, below [`NUMBER_END`].
    pub number: u32,
}

impl LedgerId {
    /// Whether both parts are within their bounds.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.incarnation.is_valid() && self.number < NUMBER_END
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [b'-'; 5];
        put_fixed(&mut text, self.0.into());
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl FromStr for Incarnation {
    type Err = NotALedger;

    fn from_str(text: &str) -> Result<Self, NotALedger> {
        let parsed = (text.len() == 5).then(|| number(text.as_bytes())).flatten();
        let parsed = parsed.and_then(|value| u32::try_from(value).ok()).map(Self);
        parsed.ok_or_else(|| NotALedger::of(text, "an incarnation: five characters"))
    }
}

/// `<incarnation>.<number>` in the digits of record ids, the incarnation in five of them.
impl fmt::Display for LedgerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation, Digits(self.number))
    }
}

/// Text that names no ledger, or no other thing of the protocol.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not {what}")]
pub struct NotALedger {
    text: String,
    what: &'static str,
}

impl NotALedger {
    fn of(text: &str, what: &'static str) -> Self {
        Self { text: text.chars().take(64).collect(), what }
    }
}

impl FromStr for LedgerId {
    type Err = NotALedger;

    fn from_str(text: &str) -> Result<Self, NotALedger> {
        let parsed = || {
            let (incarnation, rest) = text.split_once('.')?;
            let ledger = Self { incarnation: incarnation.parse().ok()?, number: parse_number(rest.as_bytes())? };
            ledger.is_valid().then_some(ledger)
        };
        parsed().ok_or_else(|| NotALedger::of(text, "a ledger's name: five characters, a dot and a number"))
    }
}

/// A small number in the digits of record ids, without leading zeros.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Digits(pub(crate) u32);

impl fmt::Display for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [b'-'; 6];
        let (text, _) = text.split_at_mut(digits(self.0.into()).min(6));
        put_fixed(text, self.0.into());
        f.write_str(std::str::from_utf8(text).unwrap_or_default())
    }
}

/// The number, below [`NUMBER_END`], that digits without leading zeros stand for.
#[must_use]
pub(crate) fn parse_number(text: &[u8]) -> Option<u32> {
    let value = number(text).filter(|value| digits(*value) == text.len())?;
    u32::try_from(value).ok().filter(|value| *value < NUMBER_END)
}

/// Where a record stands: its entry in a ledger of the head whose incarnation is in its id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place {
    /// The ledger's number.
    pub number: u32,
    /// The entry, below [`NUMBER_END`].
    pub entry: u32,
}

impl Place {
    /// The ledger, for a record with this id.
    #[must_use]
    pub const fn ledger(self, id: RecordId) -> LedgerId {
        LedgerId { incarnation: Incarnation(id.incarnation), number: self.number }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_names_nothing_is_refused() {
        for text in ["", ".", "-----", "-----.", "----.-", "-----.--", "zzzzz.zzzzzz", "-----.- ", "a-----.-"] {
            assert!(text.parse::<LedgerId>().is_err(), "{text}");
        }
        assert!("zzzzzzzzz".parse::<NodeId>().is_err() && "zzzzzzzzzz".parse::<NodeId>().is_ok());
    }

    proptest! {
        #[test]
        fn no_identity_is_taken_for_a_flag(random: u64) {
            let node = NodeId::from_random(random & random.rotate_left(7));
            prop_assert!(node.is_valid() && !node.to_string().starts_with('-'), "{node}");
        }

        #[test]
        fn names_round_trip(incarnation in 0..1u32 << 30, number in 0..NUMBER_END, node in 0..1u64 << 60) {
            let ledger = LedgerId { incarnation: Incarnation(incarnation), number };
            prop_assert_eq!(ledger.to_string().parse(), Ok(ledger));
            prop_assert_eq!(parse_number(Digits(number).to_string().as_bytes()), Some(number));
            prop_assert_eq!(NodeId(node).to_string().parse(), Ok(NodeId(node)));
        }
    }
}
