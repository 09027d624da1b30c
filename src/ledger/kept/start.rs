//! What a node has and promises when it starts: as the same identity, or as another one in its folder.

use std::collections::{BTreeMap, BTreeSet};

use super::super::held::State;
use super::super::id::{LedgerId, NodeId};
use super::super::note::{Folded, Lines, Note, Noted};
use super::{Kept, Ledger};

impl Kept {
    /// The same identity, started again: what was noted, and what the files have. Lines of which nothing was noted are a
    /// member's, and their end is the greatest entry + 1, or what the log counted if that is more. Whatever was open is
    /// over.
    #[must_use]
    pub(crate) fn restarted(me: NodeId, folded: Folded, mut files: BTreeMap<LedgerId, Lines>) -> Self {
        let Folded { roster, ledgers, from, gone } = folded;
        let mut kept = Self::empty(me, roster, gone);
        let named: BTreeSet<LedgerId> = ledgers.keys().chain(from.keys()).copied().collect();
        for ledger in named {
            files.entry(ledger).or_default();
        }
        for (ledger, lines) in files {
            if kept.is_gone(ledger) {
                continue;
            }
            let mut entry = match ledgers.get(&ledger) {
                None => Ledger::new([me].into(), true, State::Over),
                Some(Noted::Part) => Ledger::new(Box::default(), false, State::Part),
                Some(Noted::Hold { members, settled, .. }) => {
                    let state = if *settled { State::Settled } else { State::Over };
                    Ledger::new(members.clone(), members.contains(&me), state)
                }
            };
            entry.has = lines.has;
            entry.from = from.get(&ledger).copied().unwrap_or_default();
            entry.has.remove_range(0..entry.from);
            entry.count = if entry.member { entry.has.end().max(lines.counted).max(entry.from) } else { 0 };
            entry.end = match ledgers.get(&ledger) {
                Some(Noted::Hold { end, .. }) => *end,
                // What it was told to fetch is not noted: it is told again.
                Some(Noted::Part) => 0,
                None => entry.count,
            };
            entry.due = entry.count;
            kept.ledgers.insert(ledger, entry);
            kept.touch(ledger);
        }
        kept
    }

    /// Another identity in a folder that may have lost something: it keeps what is there and promises nothing of it. What
    /// was noted by the old one still holds where it is no promise: the roster, and what was let go, which nobody owes. The
    /// notes, all of a new `node.state`, have to be synced before it registers.
    #[must_use]
    pub(crate) fn replacing(me: NodeId, old: Folded, files: BTreeMap<LedgerId, Lines>) -> (Self, Vec<Note>) {
        let Folded { roster, ledgers: _, from, gone } = old;
        let mut notes = vec![Note::of_roster(&roster)];
        for (&incarnation, numbers) in &gone {
            notes.extend(numbers.ranges().map(|numbers| Note::Gone { incarnation, numbers }));
        }
        let mut kept = Self::empty(me, roster, gone);
        for (ledger, lines) in files {
            if kept.is_gone(ledger) {
                continue;
            }
            let mut entry = Ledger::new(Box::default(), false, State::Part);
            (entry.has, entry.from) = (lines.has, from.get(&ledger).copied().unwrap_or_default());
            notes.push(Note::Part { ledger });
            if entry.from > 0 {
                notes.push(Note::From { ledger, from: entry.from });
            }
            kept.ledgers.insert(ledger, entry);
            kept.touch(ledger);
        }
        (kept, notes)
    }
}
