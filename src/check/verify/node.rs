//! What a folder says of itself, `node.state` and `segments.txt`, beside what its files have: whose it is, what its identity
//! promises, and which of those entries are not here.
//!
//! While a node runs it moves files and lists meanwhile: what seems lost has to be so at a second look.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::report::{Kind, Part, Report};
use super::{Error, failed};
use crate::data::ledgers::Ledgers;
use crate::data::node_state::{self, As, Found, STATE, Said};
use crate::data::recover::Place;
use crate::data::segments::{INDEX, parse_index, sealed_id};
use crate::data::start;
use crate::data::state_lines::State;
use crate::data::storage::{Disk, Storage as _};
use crate::ledger::entries::EntrySet;
use crate::ledger::held::{Held, Report as Hold, State as Holds};
use crate::ledger::kept::Kept;
use crate::ledger::note::Lines;
use crate::ledger::roster::Roster;
use crate::limits::{FINDINGS_SHOWN_MAX, SEGMENTS_BYTES_MAX};
use crate::wire::id::RecordId;
use crate::wire::ledger::{Incarnation, LedgerId, NodeId};

/// What a folder has of ledgers, and what its identity promises.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    /// Whose it is; none if the next start takes another identity, for then it promises nothing.
    pub(crate) identity: Option<NodeId>,
    /// The roster that was noted here.
    pub(crate) roster: Roster,
    /// What it says of each ledger, and on whom that was opened as far as it knows.
    pub(crate) holds: Vec<(LedgerId, Held, Box<[NodeId]>)>,
    /// Which entries can be read.
    pub(crate) has: Ledgers,
    /// What is below was let go.
    pub(crate) from: BTreeMap<LedgerId, u32>,
    /// Which ledgers were let go whole.
    pub(crate) gone: BTreeMap<Incarnation, EntrySet>,
    /// Each file has something that is as young or younger: what was let go is older. Nothing that lay in a file that is
    /// lost counts as let go.
    pub(crate) oldest: Option<RecordId>,
}

impl Node {
    /// Whether it let go of this ledger as a whole.
    #[must_use]
    pub(crate) fn is_gone(&self, ledger: LedgerId) -> bool {
        self.gone.get(&ledger.incarnation).is_some_and(|numbers| numbers.contains(ledger.number))
    }

    /// Whether it may have let go of this record, as far as is still known.
    #[must_use]
    pub(crate) fn may_have_let_go(&self, id: RecordId) -> bool {
        let of = Incarnation(id.incarnation);
        let some = self.gone.contains_key(&of) || self.from.keys().any(|ledger| ledger.incarnation == of);
        some && self.oldest.is_none_or(|oldest| id < oldest)
    }
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Met {
    /// Files and their lengths.
    pub(super) files: BTreeMap<String, u64>,
    /// How many bytes of `data.txt` are records.
    pub(super) record_bytes: u64,
    /// Where the last line of `data.txt` begins that was synced and is rotten.
    pub(super) rot: BTreeMap<String, u64>,
}

/// What a folder says before its files are read.
pub(super) struct Told {
    dir: PathBuf,
    disk: Disk,
    said: Said,
    /// Sealed files and their lengths.
    had: BTreeMap<String, u64>,
    /// A line of `segments.txt` is damaged.
    garbled: bool,
}

impl Told {
    /// What it says now.
    pub(super) fn read(dir: &Path) -> Result<Self, Error> {
        let disk = Disk::open(dir).map_err(failed(dir))?;
        let (listed, whole) = match disk.read_small(INDEX, SEGMENTS_BYTES_MAX) {
            Ok(text) => parse_index(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), true),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => (Vec::new(), false),
            Err(error) => return Err(failed(&dir.join(INDEX))(error)),
        };
        let said = node_state::read(&disk).map_err(failed(&dir.join(STATE)))?;
        let mut had: BTreeMap<_, _> = listed.into_iter().map(|segment| (segment.file, segment.bytes)).collect();
        if let Said::State(state) = &said {
            had.extend(state.files.values().filter(|file| file.sealed).map(|file| (file.file.clone(), file.bytes)));
        }
        Ok(Self { dir: dir.to_owned(), disk, said, had, garbled: !whole })
    }

    /// Compares it with the files that were met, and their entries; what is wrong goes into the report. Entries that are `forged`
    /// have lines, too, and nobody has them by that.
    pub(super) fn judge(self, met: &Met, has: Ledgers, forged: &Ledgers, report: &mut Report) -> Result<Node, Error> {
        let after = Self::read(&self.dir)?;
        let oldest = self.judge_files(&after, &met.files, report)?;
        if self.garbled && after.garbled {
            let reason = "a line is damaged; the next start makes it again from the files";
            report.add(Kind::Index, INDEX, place(0), reason.to_owned());
        }
        let mut lines = BTreeMap::<LedgerId, Lines>::new();
        for (ledger, entries) in has.iter().chain(forged.iter()) {
            lines.entry(ledger).or_default().has.union(entries);
        }
        if let Said::State(state) = &self.said {
            for (ledger, counted) in state.counted() {
                lines.entry(ledger).or_default().counted = counted;
            }
        }
        let identity = self.identity(met, &lines, report)?;
        let noted = match after.said {
            Said::State(state) => state.noted,
            _ => crate::ledger::note::Folded::default(),
        };
        let state = match self.said {
            Said::State(state) => *state,
            _ => State::default(),
        };
        let kept = match identity {
            Some(node) => Kept::restarted(node, state.noted, lines),
            None => Kept::replacing(NodeId::default(), state.noted, lines).0,
        };
        let holds = kept.all().filter_map(|report| match report {
            Hold::Ledger { ledger, members, held } => Some((ledger, held, members)),
            Hold::Gone { .. } => None,
        });
        let holds = holds.collect();
        let node = Node { identity, roster: noted.roster, holds, has, from: noted.from, gone: noted.gone, oldest };
        node.tell(report);
        Ok(node)
    }

    /// Files that are gone or were cut; the least first record of those that are gone.
    fn judge_files(
        &self,
        after: &Self,
        met: &BTreeMap<String, u64>,
        report: &mut Report,
    ) -> Result<Option<RecordId>, Error> {
        let mut oldest = None::<RecordId>;
        for (file, bytes) in &self.had {
            let reason = match met.get(file) {
                None if after.had.contains_key(file) && self.is_absent(file)? => {
                    oldest = oldest.into_iter().chain(sealed_id(file).map(|(first, _)| first)).min();
                    format!("it is gone, and had {bytes} bytes of records")
                }
                Some(len) if len < bytes => format!("its end is lost: it has {len} bytes, and had {bytes}"),
                _ => continue,
            };
            report.add(Kind::Lost, file, place(met.get(file).copied().unwrap_or_default()), reason);
        }
        Ok(oldest)
    }

    fn is_absent(&self, file: &str) -> Result<bool, Error> {
        Ok(self.disk.look(file).map_err(failed(&self.dir.join(file)))?.is_none())
    }

    /// As whom the folder would start.
    fn identity(
        &self,
        met: &Met,
        lines: &BTreeMap<LedgerId, Lines>,
        report: &mut Report,
    ) -> Result<Option<NodeId>, Error> {
        let failed = failed(&self.dir);
        let look = || Ok((node_state::lengths(&self.disk)?, start::old_identity(&self.disk)?));
        let (files, old) = look().map_err(failed)?;
        let Met { record_bytes, rot, .. } = met;
        let found = Found { files: &files, record_bytes: *record_bytes, rot, lines, old, boot: &start::boot_id() };
        match node_state::judge(&self.said, found, false) {
            As::Same(identity) => {
                report.identity = Some(identity.node.to_string());
                report.old = identity.old;
                Ok(Some(identity.node))
            }
            As::Another { why, .. } => {
                if let Some(why) = why {
                    let reason = format!(
                        "{why}; so the next start takes another identity, and nothing that is here counts as promised"
                    );
                    report.add(Kind::State, STATE, place(0), reason);
                }
                Ok(None)
            }
        }
    }
}

impl Node {
    /// Counts what is promised and what of that is lacking, and names what is left over.
    fn tell(&self, report: &mut Report) {
        for (ledger, held, _) in &self.holds {
            let from = self.from.get(ledger).copied().unwrap_or_default().max(held.from);
            if held.state == Holds::Part {
                report.parts += u64::from(held.count > 0);
                if held.count > 0 && report.parts_first.len() < FINDINGS_SHOWN_MAX {
                    let entries = held.count_in(0..held.count);
                    report.parts_first.push(Part { ledger: ledger.to_string(), entries });
                }
                continue;
            }
            report.ledgers += 1;
            if self.is_gone(*ledger) {
                continue;
            }
            let has = self.has.of(*ledger).cloned().unwrap_or_default();
            let lacking: Vec<_> = has.missing(from..held.end.max(from)).collect();
            let Some((first, last)) = lacking.first().zip(lacking.last()) else { continue };
            let entries: u64 = lacking.iter().map(|range| u64::from(range.end - range.start)).sum();
            report.lacking += entries;
            let reason = format!(
                "{entries} entries of ledger {ledger}, from {} to {}, are promised and not here",
                first.start,
                last.end - 1
            );
            report.add(Kind::Lacking, STATE, place(0), reason);
        }
    }
}

const fn place(offset: u64) -> Place {
    Place { offset, len: 0, line: 0 }
}
