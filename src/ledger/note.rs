//! What a node writes to `node.state`, and what all of it amounts to when a node starts. The lines' text is not made here.

use std::collections::BTreeMap;
use std::ops::Range;

use super::entries::EntrySet;
use super::id::{Incarnation, LedgerId, NodeId};
use super::roster::{Copies, Founding, Record, Roster, TooMany};

/// A record of `node.state`. All that an operation returns has to be written before anything is sent that follows from it,
/// and synced if it [`is_urgent`](Self::is_urgent).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Note {
    /// What is there of a ledger promises nothing: before the first copied line.
    Part {
        /// Which.
        ledger: LedgerId,
    },
    /// The ledger is over, and promised.
    Hold {
        /// Which.
        ledger: LedgerId,
        /// On whom it was opened; empty for an adopter.
        members: Box<[NodeId]>,
        /// What is below was let go.
        from: u32,
        /// Below it all acknowledged entries lie.
        end: u32,
        /// The writing head said so.
        settled: bool,
        /// Only a member that has all it took may lose this: it would know from its lines.
        urgent: bool,
    },
    /// What is below is let go, of a ledger that is not over: an end must not be noted with it. Before removing files.
    From {
        /// Which.
        ledger: LedgerId,
        /// The first entry that is kept.
        from: u32,
    },
    /// These were let go whole. Before removing files.
    Gone {
        /// Of which incarnation.
        incarnation: Incarnation,
        /// Their numbers.
        numbers: Range<u32>,
    },
    /// Records of the roster: before saying that they are noted.
    Roster {
        /// Of identities.
        identities: Vec<(NodeId, Record)>,
        /// M and R.
        copies: Option<Copies>,
        /// Foundings.
        foundings: Vec<Founding>,
    },
}

impl Note {
    /// All of a roster.
    #[must_use]
    pub(crate) fn of_roster(roster: &Roster) -> Self {
        let identities = roster.identities().map(|(node, record)| (node, record.clone())).collect();
        Self::Roster { identities, copies: roster.copies(), foundings: roster.foundings().collect() }
    }

    /// Whether it has to be synced before anything is sent. A member's `hold` may be lost: it would know from its lines
    /// that it is a member, with an end that is as good.
    #[must_use]
    pub(crate) const fn is_urgent(&self) -> bool {
        !matches!(self, Self::Hold { urgent: false, .. })
    }
}

/// What was noted last of one ledger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Noted {
    /// Promises nothing.
    Part,
    /// Over and promised.
    Hold {
        /// On whom it was opened.
        members: Box<[NodeId]>,
        /// Its end.
        end: u32,
        /// Whether the writing head said so.
        settled: bool,
    },
}

/// All notes of a folder, folded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Folded {
    /// The roster that was noted.
    pub(crate) roster: Roster,
    /// What was noted last of each ledger.
    pub(crate) ledgers: BTreeMap<LedgerId, Noted>,
    /// What was let go of each ledger.
    pub(crate) from: BTreeMap<LedgerId, u32>,
    /// Which ledgers were let go whole.
    pub(crate) gone: BTreeMap<Incarnation, EntrySet>,
}

impl Folded {
    /// Takes in the next note.
    ///
    /// # Errors
    /// The roster is too great; no node writes that.
    pub(crate) fn add(&mut self, note: Note) -> Result<(), TooMany> {
        match note {
            // What was let go whole is not begun again.
            Note::Part { ledger } | Note::Hold { ledger, .. } | Note::From { ledger, .. } if self.is_gone(ledger) => {}
            Note::Part { ledger } => {
                self.ledgers.insert(ledger, Noted::Part);
            }
            Note::Hold { ledger, members, from, end, settled, urgent: _ } => {
                self.ledgers.insert(ledger, Noted::Hold { members, end, settled });
                self.raise(ledger, from);
            }
            Note::From { ledger, from } => self.raise(ledger, from),
            Note::Gone { incarnation, numbers } => {
                let goes = |ledger: &LedgerId| ledger.incarnation == incarnation && numbers.contains(&ledger.number);
                self.ledgers.retain(|ledger, _| !goes(ledger));
                self.from.retain(|ledger, _| !goes(ledger));
                self.gone.entry(incarnation).or_default().insert_range(numbers);
            }
            Note::Roster { identities, copies, foundings } => {
                for (node, record) in identities {
                    self.roster.set(node, record.generation, &record.name)?;
                }
                if let Some(copies) = copies {
                    self.roster.set_copies(copies);
                }
                for founding in foundings {
                    self.roster.found(founding)?;
                }
            }
        }
        Ok(())
    }

    /// Notes that amount to this.
    pub(crate) fn notes(&self) -> impl Iterator<Item = Note> + '_ {
        let roster = (!self.roster.is_empty()).then(|| Note::of_roster(&self.roster));
        let of = |ledger: LedgerId| self.from.get(&ledger).copied().unwrap_or_default();
        let holds = self.ledgers.iter().map(move |(&ledger, noted)| match noted {
            Noted::Part => Note::Part { ledger },
            Noted::Hold { members, end, settled } => {
                let (members, from) = (members.clone(), of(ledger));
                Note::Hold { ledger, members, from, end: *end, settled: *settled, urgent: true }
            }
        });
        let is_said = |ledger: &LedgerId| matches!(self.ledgers.get(ledger), Some(Noted::Hold { .. }));
        let rest = self.from.iter().filter(move |(ledger, _)| !is_said(ledger));
        let from = rest.map(|(&ledger, &from)| Note::From { ledger, from });
        let gone = self.gone.iter().flat_map(|(&incarnation, numbers)| {
            numbers.ranges().map(move |numbers| Note::Gone { incarnation, numbers })
        });
        roster.into_iter().chain(holds).chain(from).chain(gone)
    }

    fn is_gone(&self, ledger: LedgerId) -> bool {
        self.gone.get(&ledger.incarnation).is_some_and(|numbers| numbers.contains(ledger.number))
    }

    fn raise(&mut self, ledger: LedgerId, from: u32) {
        if from > 0 {
            let known = self.from.entry(ledger).or_default();
            *known = from.max(*known);
        }
    }
}

/// What the files say of one ledger when a node starts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Lines {
    /// Entries whose lines can be read.
    pub(crate) has: EntrySet,
    /// How many entries the last `log` line counted: those that are not readable are lacking, not unknown.
    pub(crate) counted: u32,
}
