//! `audit`: every acknowledgement in the heads' registros against every record in the data folders.
//!
//! Both sides are sorted by id in temporary files and merged, so memory does not grow with what is audited. The registros
//! are read first: what is acknowledged while the audit runs is then only a record too many. Nothing is changed, and
//! nothing is mended.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::across::{Checked, Unequal, named};
use super::copies::{self, Copied, Number, Placed, Sent};
pub(crate) use super::promises::LineAt;
use super::promises::{self, Promise};
use super::sort::{self, Bounds, Sorted, Sorter};
use super::sources;
use super::verify::{self, Kind, Node, Problem};
use crate::data::record::Line;
use crate::key::record::RecordCheck;
use crate::limits::FINDINGS_SHOWN_MAX;
use crate::wire::id::RecordId;

/// What to audit.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Registros, folders of them, or folders around such folders.
    pub(crate) registros: Vec<PathBuf>,
    /// Data folders, or folders around them.
    pub(crate) data: Vec<PathBuf>,
    /// The least id that counts, on both sides; older ones may have been removed.
    pub(crate) since: RecordId,
    /// By which records are checked, too.
    pub(crate) check: Option<RecordCheck>,
    /// Folder for temporary files: about 24 bytes for each range of ids in a registro and 72 for each record.
    pub(crate) temp: PathBuf,
}

/// Why nothing could be said.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is nothing to read.
    #[error(transparent)]
    Sources(#[from] sources::Error),
    /// The registros cannot be read.
    #[error(transparent)]
    Registro(#[from] promises::Error),
    /// A data folder cannot be read.
    #[error(transparent)]
    Data(#[from] verify::Error),
    /// The temporary files cannot be used.
    #[error(transparent)]
    Sort(#[from] sort::Error),
}

/// What the registros say, and what the folders hold of it. The names of its fields are those of `--format json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// The least id that counted, if there was one.
    pub(crate) since: Option<String>,
    /// The registros.
    pub(crate) registros: Registros,
    /// The data folders.
    pub(crate) folders: Vec<Folder>,
    /// Ids in the registros.
    pub(crate) acknowledged: u64,
    /// Those of which there is a good copy.
    pub(crate) found: u64,
    /// Those of which there is none.
    pub(crate) missing: u64,
    /// The first of those.
    pub(crate) missing_first: Vec<Short>,
    /// Those of which there are fewer copies than nodes that acknowledged them, but at least one.
    pub(crate) fewer: u64,
    /// The first of those.
    pub(crate) fewer_first: Vec<Short>,
    /// Copies that are not equal, acknowledged or not.
    #[serde(flatten)]
    pub(crate) unequal: Unequal,
    /// Bad lines in files of records, whatever time they are from.
    pub(crate) checksum_errors: u64,
    /// Bad ends of files that were being written, with no node on them.
    pub(crate) torn_tails: u64,
    /// The first bad lines and torn ends.
    pub(crate) damage_first: Vec<Damage>,
    /// Records that no head of the cluster took, if tags were checked; they count as not there.
    pub(crate) forged: u64,
    /// The first of those.
    pub(crate) forged_first: Vec<Damage>,
    /// Records without a right tag that are old enough for that, if tags were checked.
    pub(crate) unproved: u64,
    /// Ids of which copies are not there, and so old that retention may have removed them; they are neither missing nor short
    /// of copies.
    pub(crate) let_go: u64,
    /// Ids in the folders that no registro holds: usual after a head was killed.
    pub(crate) unacknowledged: u64,
    /// Time up to which lines of a registro were let go: what is older and in no registro may have been acknowledged.
    pub(crate) judged_from: Option<String>,
    /// Ids in the folders that no registro holds any more.
    pub(crate) not_judged: u64,
    /// Lines that repeat an id of the same folder, with the same contents: usual after a copy was sent again.
    pub(crate) duplicates: u64,
    /// Messages of a client that are kept under several ids: usual after a client tried again.
    pub(crate) sent_twice: u64,
    /// Numbers of a client under which different messages are kept: it began to count anew under the same id.
    pub(crate) numbers_reused: u64,
    /// The first of those.
    pub(crate) numbers_reused_first: Vec<Reused>,
}

impl Report {
    /// Whether every acknowledged record is there, and no other.
    #[must_use]
    pub(crate) fn keeps_its_word(&self) -> bool {
        self.missing + self.forged == 0
    }
}

/// What was read of registros.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Registros {
    /// The files.
    pub(crate) files: Vec<PathBuf>,
    /// Their lines.
    pub(crate) lines: u64,
    /// Refusals among them.
    pub(crate) refusals: u64,
    /// Lines that were never written whole, or not yet: nobody was told of them.
    pub(crate) torn_lines: u64,
    /// Lines that are no registro's.
    pub(crate) unreadable_lines: u64,
    /// The first of those.
    pub(crate) unreadable_first: Vec<LineAt>,
    /// Names of the data nodes in them.
    pub(crate) nodes: Vec<String>,
}

/// What was read of a data folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Folder {
    /// The folder.
    pub(crate) dir: PathBuf,
    /// Files of records.
    pub(crate) files: u64,
    /// Good records.
    pub(crate) records: u64,
    /// Bytes of its files.
    pub(crate) bytes: u64,
}

/// An acknowledged id with too few copies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Short {
    /// The id.
    pub(crate) id: String,
    /// The nodes that acknowledged it.
    pub(crate) nodes: Vec<String>,
    /// The folders that hold it.
    pub(crate) dirs: Vec<PathBuf>,
    /// The registro with one of the acknowledgements.
    pub(crate) registro: PathBuf,
    /// Its line there.
    pub(crate) line: u32,
}

/// A number of a client that two messages have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Reused {
    /// The client.
    pub(crate) client: String,
    /// The number.
    pub(crate) seq: u64,
    /// The ids of two records.
    pub(crate) ids: [String; 2],
}

/// A place in a file of records that is no record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Damage {
    /// The file.
    pub(crate) file: PathBuf,
    /// The first line of it.
    pub(crate) line: u64,
    /// Where it begins, bytes from the start of the file.
    pub(crate) offset: u64,
    /// Whether it is a torn end rather than a bad line.
    pub(crate) torn: bool,
    /// What is wrong, in words.
    pub(crate) reason: String,
}

/// What an audit is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// Reading a registro; progress in bytes.
    Registro(&'a Path),
    /// Reading a data folder; progress in bytes.
    Folder(&'a Path),
    /// Comparing; progress in entries.
    Comparing,
}

/// Told what is done, how much of it, and how much there is.
pub(crate) type Progress<'a> = dyn FnMut(Step<'_>, u64, u64) + 'a;

/// Audits. What is missing or damaged is no error: it stands in the report.
///
/// # Errors
/// Something that was named cannot be read or is something else, or the temporary files cannot be used.
pub(crate) fn audit(settings: &Settings, progress: &mut Progress<'_>) -> Result<Report, Error> {
    let files = sources::registros(&settings.registros)?;
    let dirs = sources::data_folders(&settings.data)?;
    // Before the lines: what is let go meanwhile was read, or is older than this.
    let until = sources::lines_until(&files)?;
    let (registros, promises) = read_registros(files, settings, progress)?;
    let since = (settings.since > RecordId::default()).then(|| settings.since.to_string());
    let judged_from = until.map(|time| humantime::format_rfc3339_nanos(time).to_string());
    let mut report = Report { since, judged_from, registros, ..Report::default() };
    let Found { copied, placed, sent, nodes } = read_folders(&dirs, settings, &mut report, progress)?;
    let total = promises.entries() + copied.entries() + placed.entries() + sent.entries();
    let mut done = 0;
    let mut tick = || {
        done += 1;
        if done % TICK == 0 || done == total {
            progress(Step::Comparing, done, total);
        }
    };
    let let_go = LetGo { lines_until: until.map_or(0, nanos), nodes };
    report.compare(promises, copied, &dirs, &let_go, &mut tick)?;
    report.unequal.take_places(placed, &dirs, &mut tick)?;
    copies::numbers(sent, &mut tick, |number| report.number(number))?;
    Ok(report)
}

/// What was let go on purpose.
struct LetGo {
    /// Time of the last line, ns since 1970.
    lines_until: u64,
    nodes: Vec<Node>,
}

/// What was found in the folders.
struct Found {
    copied: Sorted<Copied>,
    placed: Sorted<Placed>,
    sent: Sorted<Sent>,
    nodes: Vec<Node>,
}

fn nanos(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).ok().and_then(|since| since.as_nanos().try_into().ok()).unwrap_or_default()
}

/// Entries compared between two words of progress.
const TICK: u64 = 1 << 16;

fn read_registros(
    files: Vec<PathBuf>,
    settings: &Settings,
    progress: &mut Progress<'_>,
) -> Result<(Registros, Sorted<Promise>), Error> {
    let mut promises = Sorter::new(&settings.temp, Bounds::default());
    let mut reader = promises::Reader::new(settings.since, &mut promises);
    for (number, path) in (0_u16..).zip(&files) {
        let len = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        reader.file(number, path, &mut |done| progress(Step::Registro(path), done, len.max(done)))?;
    }
    let promises::Tally { nodes, lines, refusals, torn_lines, unreadable_lines, unreadable } = reader.into_tally();
    let registros =
        Registros { files, lines, refusals, torn_lines, unreadable_lines, unreadable_first: unreadable, nodes };
    Ok((registros, promises.finish()?))
}

fn read_folders(
    dirs: &[PathBuf],
    settings: &Settings,
    report: &mut Report,
    progress: &mut Progress<'_>,
) -> Result<Found, Error> {
    let mut copied = Sorter::new(&settings.temp, Bounds::default());
    let mut placed = Sorter::new(&settings.temp, Bounds::default());
    let mut sent = Sorter::new(&settings.temp, Bounds::default());
    let mut each = |folder: u16, line: &Line<'_>| {
        if line.id < settings.since {
            return Ok(());
        }
        sent.push(Sent::new(line))?;
        if let Some(place) = Placed::new(line, folder) {
            placed.push(place)?;
        }
        copied.push(Copied::new(line, folder))
    };
    let mut in_folder = |dir: &Path, done, total| progress(Step::Folder(dir), done, total);
    let mut nodes = Vec::with_capacity(dirs.len());
    for (number, dir) in (0_u16..).zip(dirs) {
        nodes.push(report.folder(copies::read_folder(
            number,
            dir,
            settings.check.as_ref(),
            &mut in_folder,
            &mut each,
        )?));
    }
    Ok(Found { copied: copied.finish()?, placed: placed.finish()?, sent: sent.finish()?, nodes })
}

fn damage(dir: &Path, problem: Problem, torn: bool) -> Damage {
    let Problem { file, line, offset, reason, .. } = problem;
    Damage { file: dir.join(file), line, offset, torn, reason }
}

impl Report {
    fn folder(&mut self, Checked { dir, report: found, node }: Checked) -> Node {
        self.checksum_errors += found.rotten;
        self.forged += found.forged;
        self.unproved += found.unproved;
        for problem in found.problems {
            let torn = match problem.kind {
                Kind::Forged if self.forged_first.len() < FINDINGS_SHOWN_MAX => {
                    self.forged_first.push(damage(&dir, problem, false));
                    continue;
                }
                Kind::Rot => false,
                Kind::Torn => true,
                // Differing copies are found by id, what lacks by the registros; names and sidecars are no record's.
                Kind::Forged | Kind::Forked | Kind::Name | Kind::Index | Kind::Lost | Kind::Lacking | Kind::State => {
                    continue;
                }
            };
            self.torn_tails += u64::from(torn);
            if self.damage_first.len() < FINDINGS_SHOWN_MAX {
                self.damage_first.push(damage(&dir, problem, torn));
            }
        }
        self.folders.push(Folder { dir, files: found.files, records: found.records, bytes: found.bytes });
        node
    }

    /// Walks both sides in the order of ids.
    fn compare(
        &mut self,
        promises: Sorted<Promise>,
        copied: Sorted<Copied>,
        dirs: &[PathBuf],
        let_go: &LetGo,
        tick: &mut dyn FnMut(),
    ) -> Result<(), Error> {
        let (mut promises, mut promised) = (promises::Groups::new(promises), promises::Group::default());
        let (mut copied, mut kept) = (copies::Groups::new(copied), copies::Group::default());
        let mut more_promised = promises.next(&mut promised, &mut *tick)?;
        let mut more_kept = copied.next(&mut kept, &mut *tick)?;
        while more_promised || more_kept {
            let order = match (more_promised, more_kept) {
                (true, true) => promised.id.cmp(&kept.id),
                (true, false) => Ordering::Less,
                (false, _) => Ordering::Greater,
            };
            if order.is_ge() {
                self.kept(&kept, dirs);
            }
            match order {
                Ordering::Less => self.promised(&promised, &[], dirs, &let_go.nodes),
                Ordering::Equal => self.promised(&promised, &kept.folders, dirs, &let_go.nodes),
                Ordering::Greater if kept.id.time_ns <= let_go.lines_until => self.not_judged += 1,
                Ordering::Greater => self.unacknowledged += 1,
            }
            if order.is_le() {
                more_promised = promises.next(&mut promised, &mut *tick)?;
            }
            if order.is_ge() {
                more_kept = copied.next(&mut kept, &mut *tick)?;
            }
        }
        Ok(())
    }

    /// Takes what is kept under a number of a client.
    fn number(&mut self, number: Number) {
        self.sent_twice += u64::from(number.is_twice);
        if let Some(other) = number.other.filter(|_| number.is_reused) {
            self.numbers_reused += 1;
            if self.numbers_reused_first.len() < FINDINGS_SHOWN_MAX {
                let Sent { client, seq, id, .. } = number.one;
                let ids = [id.min(other), id.max(other)].map(|id| id.to_string());
                self.numbers_reused_first.push(Reused { client: client.to_string(), seq, ids });
            }
        }
    }

    /// Takes what the folders hold of an id.
    fn kept(&mut self, kept: &copies::Group, dirs: &[PathBuf]) {
        self.duplicates += kept.repeated;
        self.unequal.take(kept, dirs);
    }

    /// Takes an acknowledged id and the folders that hold it.
    fn promised(&mut self, promised: &promises::Group, folders: &[u16], dirs: &[PathBuf], nodes: &[Node]) {
        self.acknowledged += 1;
        self.found += u64::from(!folders.is_empty());
        let lacking = promised.nodes.len().saturating_sub(folders.len());
        if lacking == 0 {
            return;
        }
        // What one node let go nobody owes.
        let lacks = |folder: usize| !folders.iter().any(|held| usize::from(*held) == folder);
        if nodes.iter().enumerate().any(|(folder, node)| lacks(folder) && node.may_have_let_go(promised.id)) {
            self.let_go += 1;
            return;
        }
        let (count, first) = if folders.is_empty() {
            (&mut self.missing, &mut self.missing_first)
        } else {
            (&mut self.fewer, &mut self.fewer_first)
        };
        *count += 1;
        if first.len() < FINDINGS_SHOWN_MAX {
            let name = |node: &u16| self.registros.nodes.get(usize::from(*node)).cloned();
            first.push(Short {
                id: promised.id.to_string(),
                nodes: promised.nodes.iter().filter_map(name).collect(),
                dirs: named(folders, dirs),
                registro: self.registros.files.get(usize::from(promised.file)).cloned().unwrap_or_default(),
                line: promised.line,
            });
        }
    }
}
