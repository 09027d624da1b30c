//! `verify` over data folders: each on its own, then whether all of them together are complete, by the rules of
//! `docs/protocol.md`, and whether the copies of each record are equal.
//!
//! What a cluster owes is counted: the folders answer as data nodes answer a read. It knows no registro: whether a head told
//! a client more than that, [`audit`](super::audit) finds out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::copies::{self, Copied, Group, Groups, Placed};
use super::sort::{self, Bounds, Sorted, Sorter};
use super::sources::{self, distinct};
use super::verify::{self, Node};
use crate::data::record::Line;
use crate::key::record::RecordCheck;
use crate::ledger::reading::{Claim, Reading};
use crate::ledger::roster::Roster;
use crate::limits::{AUDIT_FOLDERS_MAX, FINDINGS_SHOWN_MAX};
use crate::wire::ledger::{LedgerId, NodeId};

pub(crate) use super::copies::Checked;

/// What several folders hold together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Copies {
    /// Different ids.
    pub(crate) ids: u64,
    /// How many ids lie in one folder, in two, and so on.
    pub(crate) by_copies: BTreeMap<usize, u64>,
    /// Lines that repeat another of the same folder, id and contents; usual after a record was put again.
    pub(crate) repeated: u64,
    /// Copies that are not equal.
    #[serde(flatten)]
    pub(crate) unequal: Unequal,
}

/// Copies that are not equal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Unequal {
    /// Ids whose copies have not the same contents.
    pub(crate) differing: u64,
    /// The first of those.
    pub(crate) differing_first: Vec<Differing>,
    /// Entries of ledgers that are two records.
    pub(crate) clashing: u64,
    /// The first of those.
    pub(crate) clashing_first: Vec<Clashing>,
}

/// An id whose copies differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Differing {
    /// The id.
    pub(crate) id: String,
    /// The folders that hold it.
    pub(crate) dirs: Vec<PathBuf>,
}

/// An entry that is two records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Clashing {
    /// The ledger.
    pub(crate) ledger: String,
    /// The entry.
    pub(crate) entry: u32,
    /// The ids of the two.
    pub(crate) ids: [String; 2],
    /// The folder of each.
    pub(crate) dirs: Vec<PathBuf>,
}

impl Unequal {
    /// Takes what there is of an id; `dirs` are all folders.
    pub(super) fn take(&mut self, group: &Group, dirs: &[PathBuf]) {
        if group.differing {
            self.differing += 1;
            if self.differing_first.len() < FINDINGS_SHOWN_MAX {
                let dirs = named(&group.folders, dirs);
                self.differing_first.push(Differing { id: group.id.to_string(), dirs });
            }
        }
    }

    /// Takes what there is of all entries.
    pub(super) fn take_places(
        &mut self,
        placed: Sorted<Placed>,
        dirs: &[PathBuf],
        tick: impl FnMut(),
    ) -> Result<(), sort::Error> {
        copies::clashes(placed, tick, |two| {
            self.clashing += 1;
            if self.clashing_first.len() < FINDINGS_SHOWN_MAX {
                let [Placed { ledger, entry, .. }, _] = two;
                let (ids, dirs) = (two.map(|one| one.id().to_string()), named(&two.map(|one| one.folder), dirs));
                self.clashing_first.push(Clashing { ledger: ledger.to_string(), entry, ids, dirs });
            }
        })
    }
}

/// The folders with these numbers.
pub(super) fn named(numbers: &[u16], dirs: &[PathBuf]) -> Vec<PathBuf> {
    numbers.iter().filter_map(|number| dirs.get(usize::from(*number)).cloned()).collect()
}

/// Whether the folders have what their cluster owes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Complete {
    /// Whether they do: fewer than `least` identities of the roster were not given, and no entry lacks.
    pub(crate) complete: bool,
    /// Copies that each acknowledged entry has at least.
    pub(crate) least: usize,
    /// Identities of the roster whose folder was not given.
    pub(crate) not_given: Vec<Member>,
    /// Entries that are promised and in no folder.
    pub(crate) lacking: u64,
    /// The first of those.
    pub(crate) lacking_first: Vec<Lacking>,
}

/// An identity of the roster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Member {
    /// The identity.
    pub(crate) identity: String,
    /// Its name.
    pub(crate) name: String,
}

/// Entries that no folder has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Lacking {
    /// The ledger.
    pub(crate) ledger: String,
    /// The first entry.
    pub(crate) from: u32,
    /// The first entry behind those.
    pub(crate) end: u32,
    /// Identities that may have them, and whose folders were not given.
    pub(crate) wanted: Vec<Member>,
}

/// Folders, and what they hold together.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Each folder.
    pub(crate) folders: Vec<Checked>,
    /// Whether they are complete.
    #[serde(flatten)]
    pub(crate) together: Complete,
    /// Their copies, if there is more than one.
    pub(crate) copies: Option<Copies>,
}

impl Report {
    /// Whether there is no fault in any folder, all of them together are complete, and no copies differ.
    #[must_use]
    pub(crate) fn is_clean(&self) -> bool {
        let equal = |all: &Copies| all.unequal.differing + all.unequal.clashing == 0;
        self.folders.iter().all(|one| one.report.is_clean())
            && self.together.complete
            && self.copies.as_ref().is_none_or(equal)
    }
}

/// Why folders could not be verified.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// One of them cannot be read, or the copies cannot be sorted.
    #[error(transparent)]
    Verify(#[from] verify::Error),
    /// There are too many.
    #[error(transparent)]
    Sources(#[from] sources::Error),
}

/// Verifies every folder, and all of them together; with a `check`, by the tags of records, too. Temporary files lie in `temp`; memory does not grow with the number of
/// records. `progress` is told the folder, bytes done in it and its bytes in all.
///
/// # Errors
/// A folder cannot be read or holds no records, there are too many, or `temp` cannot be used.
pub(crate) fn verify(
    dirs: Vec<PathBuf>,
    check: Option<&RecordCheck>,
    temp: &Path,
    progress: &mut dyn FnMut(&Path, u64, u64),
) -> Result<Report, Error> {
    let dirs = distinct(dirs);
    if dirs.len() > AUDIT_FOLDERS_MAX {
        return Err(sources::Error::TooMany { found: dirs.len(), what: "data folders", most: AUDIT_FOLDERS_MAX }.into());
    }
    let (mut copied, mut placed) = (Sorter::new(temp, Bounds::default()), Sorter::new(temp, Bounds::default()));
    let mut each = |folder: u16, line: &Line<'_>| {
        if let Some(place) = Placed::new(line, folder) {
            placed.push(place)?;
        }
        copied.push(Copied::new(line, folder))
    };
    let mut folders = Vec::with_capacity(dirs.len());
    for (number, dir) in (0_u16..).zip(&dirs) {
        folders.push(copies::read_folder(number, dir, check, progress, &mut each)?);
    }
    let together = Complete::of(folders.iter().map(|folder| &folder.node));
    let copies = compare(copied, placed, &dirs).map_err(verify::Error::Sort)?;
    let several = dirs.len() > 1 || copies.unequal != Unequal::default();
    Ok(Report { folders, together, copies: several.then_some(copies) })
}

fn compare(copied: Sorter<Copied>, placed: Sorter<Placed>, dirs: &[PathBuf]) -> Result<Copies, sort::Error> {
    let (mut all, mut group) = (Copies::default(), Group::default());
    let mut groups = Groups::new(copied.finish()?);
    while groups.next(&mut group, || {})? {
        all.ids += 1;
        *all.by_copies.entry(group.folders.len()).or_default() += 1;
        all.repeated += group.repeated;
        all.unequal.take(&group, dirs);
    }
    all.unequal.take_places(placed.finish()?, dirs, || {})?;
    Ok(all)
}

impl Complete {
    /// Rule 2 of the protocol, with folders in place of answers.
    fn of<'a>(nodes: impl Iterator<Item = &'a Node> + Clone) -> Self {
        let mut roster = Roster::default();
        for node in nodes.clone() {
            // No node notes more than a roster holds; what is beyond that is missed, so nothing is called complete.
            roster.merge(&node.roster).map(drop).unwrap_or_default();
        }
        let mut reading = Reading::new(&roster);
        for node in nodes.clone() {
            if let Some(identity) = node.identity {
                reading.begin(identity, node.holds.iter().map(|(ledger, held, _)| (*ledger, held)));
                reading.end(identity);
            }
        }
        for node in nodes.clone() {
            for (ledger, entries) in node.has.iter() {
                entries.ranges().for_each(|range| reading.seen(ledger, range));
            }
            node.from.iter().for_each(|(ledger, from)| reading.let_go(*ledger, *from));
        }
        let claim = reading.claim(&|ledger| nodes.clone().any(|node| node.is_gone(ledger)));
        let not_given: Vec<NodeId> = reading.unanswered().collect();
        let lacking = match &claim {
            Claim::Complete => &[][..],
            Claim::Incomplete { lacking, .. } => lacking,
        };
        let member = |node: &NodeId| Member::of(*node, &roster);
        let mut together = Self {
            // Where nothing was noted nothing was acknowledged in a ledger.
            complete: claim == Claim::Complete || roster.is_empty() && lacking.is_empty(),
            least: roster.copies().map_or(1, crate::ledger::roster::Copies::read_least),
            not_given: not_given.iter().map(member).collect(),
            ..Self::default()
        };
        for (ledger, range) in lacking {
            together.lacking += u64::from(range.end - range.start);
            if together.lacking_first.len() < FINDINGS_SHOWN_MAX {
                let wanted = wanted(*ledger, nodes.clone(), &not_given).iter().map(member).collect();
                let (ledger, from, end) = (ledger.to_string(), range.start, range.end);
                together.lacking_first.push(Lacking { ledger, from, end, wanted });
            }
        }
        together
    }
}

/// Who may have entries of this ledger and was not given: its members, or else whoever may have adopted it.
fn wanted<'a>(ledger: LedgerId, nodes: impl Iterator<Item = &'a Node>, not_given: &[NodeId]) -> Vec<NodeId> {
    let holds = nodes.flat_map(|node| node.holds.iter().filter(|(of, ..)| *of == ledger));
    let members: BTreeSet<NodeId> = holds.flat_map(|(_, _, members)| members.iter().copied()).collect();
    let of_those: Vec<NodeId> = not_given.iter().filter(|node| members.contains(node)).copied().collect();
    if of_those.is_empty() { not_given.to_vec() } else { of_those }
}

impl Member {
    fn of(node: NodeId, roster: &Roster) -> Self {
        let record = roster.identities().find(|(id, _)| *id == node);
        let name = record.map(|(_, record)| record.name.to_string()).unwrap_or_default();
        Self { identity: node.to_string(), name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::node_state::STATE;
    use crate::data::record::{Fields, encode};
    use crate::data::state_lines::{Identity, Line as StateLine, State, to_text};
    use crate::ledger::note::Note;
    use crate::ledger::roster::{Copies as Least, Generation};
    use crate::wire::id::{ClientId, RecordId};
    use crate::wire::ledger::{Incarnation, Place};

    fn line(n: u64, place: Option<(u32, u32)>, payload: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let id = RecordId { time_ns: 1_795_234_260_000_000_000 + n, incarnation: 7 };
        let place = place.map(|(number, entry)| Place { number, entry });
        encode(&mut out, Fields { id, client: ClientId(1), seq: n, place, source: None }, payload.as_bytes()).unwrap();
        out
    }

    const fn ledger(number: u32) -> LedgerId {
        LedgerId { incarnation: Incarnation(7), number }
    }

    fn hold(number: u32, members: &[u64], end: u32) -> Note {
        let members = members.iter().map(|node| NodeId(*node)).collect();
        Note::Hold { ledger: ledger(number), members, from: 0, end, settled: false, urgent: true }
    }

    struct Folders(tempfile::TempDir);

    impl Folders {
        /// The folder of an identity in a cluster of three with two copies.
        fn add(&self, node: u64, lines: &[Vec<u8>], notes: Vec<Note>) -> PathBuf {
            let dir = self.0.path().join(node.to_string());
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(dir.join("data.txt"), lines.concat()).unwrap();
            let mut roster = Roster::default();
            for node in 1..=3 {
                roster.set(NodeId(node), Generation(7), &format!("data{node}")).unwrap();
            }
            roster.set_copies(Least::founded(2, 2));
            let identity = Identity { node: NodeId(node), replaces: None, old: false, cluster: "c".to_owned() };
            let notes = [Note::of_roster(&roster)].into_iter().chain(notes).map(StateLine::Note);
            let lines: Vec<StateLine> = [StateLine::Identity(identity)].into_iter().chain(notes).collect();
            let text = State::default().to_text() + &to_text(&lines);
            std::fs::write(dir.join(STATE), text).unwrap();
            dir
        }

        fn verify(&self, dirs: &[&PathBuf]) -> Report {
            verify(dirs.iter().map(|dir| (*dir).clone()).collect(), None, self.0.path(), &mut |_, _, _| {}).unwrap()
        }
    }

    #[test]
    fn fewer_folders_than_copies_may_be_missing_and_what_lacks_is_named() {
        let folders = Folders(tempfile::tempdir().unwrap());
        let entries = |number, entries: std::ops::Range<u32>| -> Vec<Vec<u8>> {
            entries.map(|entry| line(u64::from(100 * number + entry), Some((number, entry)), "hola")).collect()
        };
        let one = folders.add(1, &entries(0, 0..5), vec![hold(0, &[1, 2], 5)]);
        let mut of_two = entries(0, 0..5);
        of_two.extend(entries(1, 2..4));
        // Two entries that it promises and has not.
        let two = folders.add(2, &of_two, vec![hold(0, &[1, 2], 5), hold(1, &[2, 3], 4)]);
        let three = folders.add(3, &entries(1, 0..4), vec![hold(1, &[2, 3], 4)]);
        let report = folders.verify(&[&one, &three]);
        assert!(report.is_clean() && report.together.complete && report.together.least == 2, "{report:?}");
        assert_eq!(report.together.not_given, [Member { identity: NodeId(2).to_string(), name: "data2".to_owned() }]);
        let report = folders.verify(&[&one]);
        assert!(!report.is_clean() && !report.together.complete && report.folders[0].report.is_clean());
        assert_eq!((report.together.not_given.len(), report.together.lacking), (2, 0));
        let report = folders.verify(&[&one, &two]);
        let lacking = &report.together.lacking_first[0];
        assert_eq!((report.together.lacking, lacking.from, lacking.end), (2, 0, 2));
        assert_eq!((lacking.ledger.as_str(), lacking.wanted[0].name.as_str()), ("----6.0", "data3"));
        let report = folders.verify(&[&one, &two, &three]);
        assert!(report.together.complete && !report.is_clean(), "one of them lacks what it promises");
        assert_eq!(report.copies.unwrap().by_copies.into_iter().collect::<Vec<_>>(), [(1, 2), (2, 7)]);
    }

    #[test]
    fn copies_are_counted_and_compared_over_the_folders() {
        let folders = Folders(tempfile::tempdir().unwrap());
        let again = line(2, Some((1, 0)), "dos");
        let a = folders.add(
            1,
            &[
                line(1, None, "uno"),
                line(2, Some((0, 1)), "dos"),
                line(3, None, "tres"),
                line(4, Some((0, 3)), "cuatro"),
            ],
            vec![],
        );
        // Put again in another ledger; another record as the same entry; another payload under the same id.
        let b = folders.add(
            2,
            &[again.clone(), again, line(4, Some((0, 3)), "cinco"), line(6, Some((0, 1)), "siete")],
            vec![],
        );
        let report = folders.verify(&[&a, &b]);
        let all = report.copies.clone().unwrap();
        assert_eq!(all.by_copies.into_iter().collect::<Vec<_>>(), [(1, 3), (2, 2)]);
        assert_eq!((all.ids, all.repeated, all.unequal.differing, all.unequal.clashing), (5, 1, 1, 1));
        assert_eq!(all.unequal.differing_first[0].dirs, [a.clone(), b.clone()]);
        let clash = &all.unequal.clashing_first[0];
        assert_eq!((clash.ledger.as_str(), clash.entry, &clash.dirs), ("----6.-", 1, &vec![a.clone(), b]));
        assert!(!report.is_clean());
        let again = folders.verify(&[&a, &a.join("../1")]);
        assert_eq!((again.folders.len(), again.copies), (1, None), "a folder is no copy of itself");
    }
}
