//! The roster: the identities that count, M and R, and the foundings.
//!
//! It is a state that only grows (a CRDT: Shapiro et al. 2011): each record has a generation, the greater generation wins
//! everywhere, and merging in any order gives the same. So nobody has to agree on a change; it has to be *noted*, by enough
//! that no read can claim to be complete without one of them. Who notes what, and when a change may be made, is not decided
//! here: `kept` and `heard` do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::id::{Incarnation, NodeId};
use crate::limits::REPLICAS_MAX;

/// Most identities in a roster, those that are out included: they must be remembered, or older news would bring them back.
pub(crate) const IDENTITIES_MAX: usize = 1024;

/// Most foundings in a roster. More than one is a fault of handling already, and `status` shows it.
pub(crate) const FOUNDINGS_MAX: usize = 16;

/// How an identity counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// Never heard of.
    Unknown,
    /// It must answer reads, and never counts as one that did: it may not have been missed by others yet.
    New,
    /// It gets ledgers, and counts in everything.
    In,
    /// It gets no ledgers and is no holder, but counts in reads.
    Leaving,
    /// As leaving, and it will not come back.
    GivenUp,
    /// Nobody misses it.
    Out,
}

/// The generation of an identity's record: five to a lap, one for each standing, so that the greater one is the later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) struct Generation(pub(crate) u32);

impl Generation {
    /// Never heard of.
    pub(crate) const UNKNOWN: Self = Self(0);

    /// A founder that is `in` by the founding's word alone. It becomes [`NOTED`](Self::NOTED) once M others have noted
    /// that, and gets ledgers from then on; so a head that starts again sees by the record that this has been done, and
    /// need not hear M others to use the M nodes that it hears.
    pub(crate) const FOUNDER: Self = Self(2);

    /// `in`, and noted by M others before.
    const NOTED: Self = Self(7);

    /// The last there is: `out`, for good. None comes near it by what people do; whoever claims one behind it is not believed,
    /// so that the numbers never run over.
    const LAST: Self = Self(1_000_000_000);

    /// Whether an identity can have come to it.
    #[must_use]
    pub(crate) const fn is_possible(self) -> bool {
        self.0 > 0 && self.0 <= Self::LAST.0
    }

    /// How the identity counts.
    #[must_use]
    pub(crate) const fn standing(self) -> Standing {
        match (self.0, self.0 % 5) {
            (0, _) => Standing::Unknown,
            (_, 1) => Standing::New,
            (_, 2) => Standing::In,
            (_, 3) => Standing::Leaving,
            (_, 4) => Standing::GivenUp,
            _ => Standing::Out,
        }
    }

    /// Whether it counts in rule 2.
    #[must_use]
    pub(crate) const fn counts(self) -> bool {
        !matches!(self.standing(), Standing::Unknown | Standing::Out)
    }

    /// Whether it is `in`.
    #[must_use]
    pub(crate) const fn is_in(self) -> bool {
        matches!(self.standing(), Standing::In)
    }

    /// Whether it may be a member of new ledgers.
    #[must_use]
    pub(crate) const fn gets_ledgers(self) -> bool {
        self.is_in() && self.0 >= Self::NOTED.0
    }

    /// Whether no ledger that it is a member of may go on.
    #[must_use]
    pub(crate) const fn ends_ledgers(self) -> bool {
        matches!(self.standing(), Standing::Leaving | Standing::GivenUp | Standing::Out)
    }

    /// Whether who noted `self` and now notes `next` has to end its ledgers: it leaves, or has left in between and come
    /// back (a later lap), which ends them as well.
    #[must_use]
    pub(crate) const fn ends_ledgers_at(self, next: Self) -> bool {
        next.0 > self.0 && (next.ends_ledgers() || self.0 > 0 && next.0 / 5 > self.0 / 5)
    }

    const fn lap(self) -> u32 {
        self.0 / 5 * 5
    }

    /// The next record of one that joins: `new`, if it was unknown or out. The first lap is the founders'.
    #[must_use]
    pub(crate) const fn joining(self) -> Option<Self> {
        match self.standing() {
            Standing::Unknown => Some(Self(6)),
            Standing::Out if self.0 < Self::LAST.0 => Some(Self(self.lap() + 1)),
            _ => None,
        }
    }

    /// The next record of one that M others have noted: `in` for a new one, and for a founder that this is done.
    #[must_use]
    pub(crate) const fn promoted(self) -> Option<Self> {
        match (self, self.standing()) {
            (Self::FOUNDER, _) => Some(Self::NOTED),
            (_, Standing::New) => Some(Self(self.0 + 1)),
            _ => None,
        }
    }

    /// The next record of one that drains.
    #[must_use]
    pub(crate) const fn leaving(self) -> Option<Self> {
        match self.standing() {
            Standing::New | Standing::In => Some(Self(self.lap() + 3)),
            _ => None,
        }
    }

    /// The next record of one that will not come back.
    #[must_use]
    pub(crate) const fn given_up(self) -> Option<Self> {
        match self.standing() {
            Standing::New | Standing::In | Standing::Leaving => Some(Self(self.lap() + 4)),
            _ => None,
        }
    }

    /// The next record of one that another identity replaces in its folder. A head may have heard of it, and have taken it in,
    /// though nothing of that was noted in the folder.
    #[must_use]
    pub(crate) const fn replaced(self) -> Option<Self> {
        match self.standing() {
            Standing::Unknown => Some(Self(9)),
            _ => self.given_up(),
        }
    }

    /// The next record of one that leaves and is not missed any more.
    #[must_use]
    pub(crate) const fn out(self) -> Option<Self> {
        match self.standing() {
            Standing::Leaving | Standing::GivenUp => Some(Self(self.lap() + 5)),
            _ => None,
        }
    }
}

/// What the roster says of one identity.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Record {
    /// How it counts.
    pub(crate) generation: Generation,
    /// Its name, for people.
    pub(crate) name: Box<str>,
}

/// How many copies there are to be.
///
/// M has to be right for ledgers that heads opened which had not heard of a change. So a record carries the M before it:
/// the greater of both is what a change has to be noted by, the lesser what reads count with, until a head has seen that
/// the change is through and says so with the next generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Copies {
    /// R: as many as there are to be.
    pub(crate) replicas: u8,
    /// M: as many as each acknowledged entry has at least.
    pub(crate) least: u8,
    /// M before this record.
    pub(crate) before: u8,
    /// The greater one wins.
    pub(crate) generation: u32,
}

impl Copies {
    /// What the founding says.
    #[must_use]
    pub(crate) const fn founded(replicas: u8, least: u8) -> Self {
        Self { replicas, least, before: least, generation: 1 }
    }

    /// The last generation there is, as [`Generation::LAST`].
    const LAST: u32 = 1_000_000_000;

    /// Whether M is one that R copies can have, and both are numbers that there may be.
    #[must_use]
    pub(crate) fn is_possible(self) -> bool {
        let fits = |copies: u8| (1..=REPLICAS_MAX).contains(&copies.into());
        fits(self.replicas)
            && fits(self.before)
            && (1..=self.replicas).contains(&self.least)
            && self.generation <= Self::LAST
    }

    /// The generation behind this one, if there is one.
    #[must_use]
    pub(crate) fn next_generation(self) -> Option<u32> {
        (self.generation < Self::LAST).then(|| self.generation + 1)
    }

    /// M for reads.
    #[must_use]
    pub(crate) fn read_least(self) -> usize {
        self.least.min(self.before).into()
    }

    /// M for what has to be noted and promised.
    #[must_use]
    pub(crate) fn noted_least(self) -> usize {
        self.least.max(self.before).into()
    }

    /// Of two records of one generation the one with fewer copies wins: a read that counts with fewer is never wrong.
    fn rank(self) -> (u32, std::cmp::Reverse<(u8, u8, u8)>) {
        (self.generation, std::cmp::Reverse((self.least, self.before, self.replicas)))
    }
}

/// When a cluster began, and at which head: for people, who see by it that two clusters have one name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Founding {
    /// Nanoseconds since 1970.
    pub(crate) time_ns: u64,
    /// The head's incarnation.
    pub(crate) head: Incarnation,
}

/// A roster that would grow beyond its bounds; nothing was merged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TooMany {
    /// More than [`IDENTITIES_MAX`].
    Identities,
    /// More than [`FOUNDINGS_MAX`].
    Foundings,
}

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identities => {
                write!(f, "the cluster has known {IDENTITIES_MAX} identities, its limit; found another one")
            }
            Self::Foundings => {
                write!(f, "the cluster was founded {FOUNDINGS_MAX} times apart, the most that is kept track of")
            }
        }
    }
}

impl std::error::Error for TooMany {}

/// What a merge changed of one identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Moved {
    /// Who.
    pub(crate) node: NodeId,
    /// What was known.
    pub(crate) before: Generation,
    /// What is known now; equal if only the name changed.
    pub(crate) after: Generation,
}

/// What a merge changed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Changes {
    /// Identities.
    pub(crate) moved: Vec<Moved>,
    /// M or R.
    pub(crate) copies: bool,
    /// Foundings.
    pub(crate) foundings: bool,
}

impl Changes {
    /// Whether nothing did.
    #[must_use]
    pub(crate) const fn is_empty(&self) -> bool {
        self.moved.is_empty() && !self.copies && !self.foundings
    }
}

/// The roster.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Roster {
    identities: BTreeMap<NodeId, Record>,
    copies: Option<Copies>,
    foundings: BTreeSet<Founding>,
}

impl Roster {
    /// Whether nothing was ever noted in it.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.identities.is_empty() && self.copies.is_none() && self.foundings.is_empty()
    }

    /// Whether it is that of a cluster. If not, one may be founded: all it can have are identities that others replaced.
    #[must_use]
    pub(crate) const fn is_founded(&self) -> bool {
        self.copies.is_some()
    }

    /// All identities, those that are out included.
    pub(crate) fn identities(&self) -> impl Iterator<Item = (NodeId, &Record)> {
        self.identities.iter().map(|(&node, record)| (node, record))
    }

    /// M and R, once founded.
    #[must_use]
    pub(crate) const fn copies(&self) -> Option<Copies> {
        self.copies
    }

    /// When and where it was founded; more than one are clusters that met.
    pub(crate) fn foundings(&self) -> impl Iterator<Item = Founding> + '_ {
        self.foundings.iter().copied()
    }

    /// The generation of an identity's record.
    #[must_use]
    pub(crate) fn generation(&self, node: NodeId) -> Generation {
        self.identities.get(&node).map_or(Generation::UNKNOWN, |record| record.generation)
    }

    /// Who counts in rule 2: all but those that are out.
    pub(crate) fn who_counts(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.identities.iter().filter(|(_, record)| record.generation.counts()).map(|(&node, _)| node)
    }

    /// Sets one record, if it is greater than what is known.
    ///
    /// # Errors
    /// [`TooMany::Identities`].
    pub(crate) fn set(&mut self, node: NodeId, generation: Generation, name: &str) -> Result<Changes, TooMany> {
        let mut one = Self::default();
        one.identities.insert(node, Record { generation, name: name.into() });
        self.merge(&one)
    }

    /// Sets M and R, if the generation is greater than what is known.
    pub(crate) fn set_copies(&mut self, new: Copies) -> Changes {
        let copies = self.copies.is_none_or(|old| new.rank() > old.rank());
        if copies {
            self.copies = Some(new);
        }
        Changes { copies, ..Changes::default() }
    }

    /// Adds a founding.
    ///
    /// # Errors
    /// [`TooMany::Foundings`].
    pub(crate) fn found(&mut self, founding: Founding) -> Result<Changes, TooMany> {
        self.merge(&Self { foundings: BTreeSet::from([founding]), ..Self::default() })
    }

    /// Takes in all that is greater in the other, and says what that was. The greater generation wins; of two names under
    /// one generation the one that sorts last, so that all come to the same.
    ///
    /// # Errors
    /// It would grow beyond its bounds: nothing is changed.
    pub(crate) fn merge(&mut self, other: &Self) -> Result<Changes, TooMany> {
        let more = other.identities.keys().filter(|node| !self.identities.contains_key(node)).count();
        if self.identities.len() + more > IDENTITIES_MAX {
            return Err(TooMany::Identities);
        }
        if self.foundings.union(&other.foundings).count() > FOUNDINGS_MAX {
            return Err(TooMany::Foundings);
        }
        let mut changes = other.copies.map_or_else(Changes::default, |copies| self.set_copies(copies));
        for (&node, record) in &other.identities {
            let known = self.identities.get(&node);
            if known.is_none_or(|known| known < record) {
                let before = known.map_or(Generation::UNKNOWN, |known| known.generation);
                changes.moved.push(Moved { node, before, after: record.generation });
                self.identities.insert(node, record.clone());
            }
        }
        let foundings = self.foundings.len();
        self.foundings.extend(&other.foundings);
        changes.foundings = self.foundings.len() > foundings;
        Ok(changes)
    }

    /// Whether who noted this has noted all of the other.
    #[must_use]
    pub(crate) fn covers(&self, other: &Self) -> bool {
        other.identities.iter().all(|(node, record)| self.identities.get(node).is_some_and(|known| known >= record))
            && other.copies.is_none_or(|new| self.copies.is_some_and(|old| old.rank() >= new.rank()))
            && other.foundings.is_subset(&self.foundings)
    }

    /// Rule 1 for a record whose subject is `subject`: noted by M others that are `in`, or by all others that are neither
    /// given up nor `new`. Others that are new do not count: it is not said yet that anybody would miss them. Nor do those
    /// that leave: they may be out before the record is used.
    pub(crate) fn is_noted(&self, subject: Option<NodeId>, least: usize, has: impl Fn(NodeId) -> bool) -> bool {
        let (mut noters, mut all) = (0, true);
        for (&node, record) in &self.identities {
            if Some(node) == subject || !record.generation.counts() {
                continue;
            }
            let standing = record.generation.standing();
            if has(node) {
                noters += usize::from(standing == Standing::In);
            } else {
                all &= matches!(standing, Standing::GivenUp | Standing::New);
            }
        }
        noters >= least || all
    }
}

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;
