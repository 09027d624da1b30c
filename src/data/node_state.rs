//! `node.state`: the file beside the records that says whose folder it is and what its identity has noted.
//!
//! Appended to by whoever commits, and replaced by a shorter one when it has grown; its lines are in `state_lines`. It
//! blocks. Which identity a folder starts as is decided here ([`judge`]), and is pure.

use std::collections::BTreeMap;
use std::io;

use super::segments::{self, CURRENT};
use super::state_lines::{self, Identity, Line, Run, State, Synced};
use super::storage::{LogFile as _, Storage};
use crate::files::is_full;
use crate::ledger::note::{Lines, Noted};
use crate::limits::{STATE_BYTES_MAX, STATE_GROWN_BYTES, STATE_RESERVE_BYTES};
use crate::wire::ledger::{LedgerId, NodeId};

/// Name of the file.
pub(crate) const STATE: &str = "node.state";

/// A file of zeros that makes room for notes on a disk that is full.
pub(crate) const RESERVE: &str = "node.state.reserve";

/// Name of the file with the identity in folders of format 1.
pub(crate) const OLD_IDENTITY: &str = "node.id";

/// What the folder says of itself.
#[derive(Debug)]
pub(crate) enum Said {
    /// There is no such file.
    Nothing,
    /// It is whole.
    State(Box<State>),
    /// It is not: why, and whose it is as far as it says.
    Damaged(String, Option<Identity>),
    /// Another version wrote it: the beginning of what it says.
    Unknown(String),
}

/// Reads the file.
///
/// # Errors
/// The disk refuses it.
pub(crate) fn read<S: Storage>(storage: &S) -> io::Result<Said> {
    match storage.read_small(STATE, STATE_BYTES_MAX) {
        Ok(text) => Ok(match (State::parse(&text), state_lines::other_version(&text)) {
            (_, Some(version)) => Said::Unknown(version),
            (Ok(state), _) if state.identity.is_none() => Said::Damaged("it names no identity".to_owned(), None),
            (Ok(state), _) => Said::State(Box::new(state)),
            (Err(damaged), _) => Said::Damaged(damaged.to_string(), state_lines::identity_in(&text)),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Said::Nothing),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            Ok(Said::Damaged("it is too long".to_owned(), None))
        }
        Err(error) => Err(error),
    }
}

/// What is in the folder beside its state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'a> {
    /// Names and lengths of files of records.
    pub(crate) files: &'a BTreeMap<String, u64>,
    /// How many bytes of `data.txt` are records.
    pub(crate) record_bytes: u64,
    /// Where in which files the last rotten line begins.
    pub(crate) rot: &'a BTreeMap<String, u64>,
    /// What they have of each ledger, and what was counted of it.
    pub(crate) lines: &'a BTreeMap<LedgerId, Lines>,
    /// The identity of a folder of format 1.
    pub(crate) old: Option<NodeId>,
    /// The system's run.
    pub(crate) boot: &'a str,
}

/// Why a folder starts as another identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Why {
    /// A person asked for it.
    #[error("it was started with --new-id")]
    Asked,
    /// It has records and does not say whose.
    #[error("it holds records and no {STATE}")]
    NoState,
    /// Its state is damaged.
    #[error("{STATE} cannot be relied on: {0}")]
    Damaged(String),
    /// The end of its log is lost.
    #[error("{file} had {had} bytes that were synced, and {has} are left")]
    Cut {
        /// The file.
        file: String,
        /// What was synced.
        had: u64,
        /// What there is.
        has: u64,
    },
    /// Entries that it took are in no file and were not counted in any: the end of a file that was not written down.
    #[error("it took {had} entries of ledger {ledger}, and {has} are left: {CURRENT} lost its end")]
    Entries {
        /// Which ledger.
        ledger: LedgerId,
        /// What it promised.
        had: u32,
        /// What there is.
        has: u32,
    },
    /// Lines that were synced are rotten, and what they were was not written down.
    #[error("{file} has a rotten line at byte {at}, and nothing says which entries it had from byte {counted} on")]
    Rot {
        /// The file.
        file: String,
        /// Where the line begins, bytes.
        at: u64,
        /// How far the file's entries were counted, bytes.
        counted: u64,
    },
    /// The system was started again while not everything was synced.
    #[error("the system stopped while records were acknowledged before they were synced")]
    Unsynced,
}

/// As whom a folder starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum As {
    /// As whom it was before.
    Same(Identity),
    /// As another one.
    Another {
        /// The identity that it had.
        replaces: Option<NodeId>,
        /// The cluster that it belongs to.
        cluster: String,
        /// There are records of format 1.
        old: bool,
        /// Why; none for an empty folder.
        why: Option<Why>,
    },
}

/// Decides as whom a folder starts: as another identity where it may have lost something that it acknowledged. An identity
/// never does. It replaces the one that it had, but where a person asked for another one: then the folder may be a copy, and
/// who it is a copy of may be well.
#[must_use]
pub(crate) fn judge(said: &Said, found: Found<'_>, new_id: bool) -> As {
    let state = match said {
        Said::State(state) => state,
        Said::Nothing if found.old.is_some() && !new_id => {
            let node = found.old.unwrap_or_default();
            return As::Same(Identity { node, replaces: None, old: true, cluster: String::new() });
        }
        Said::Nothing => {
            let has_records = found.files.values().any(|bytes| *bytes > 0);
            let why = new_id.then_some(Why::Asked).or(has_records.then_some(Why::NoState));
            let replaces = found.old.filter(|_| !new_id);
            return As::Another { replaces, cluster: String::new(), old: has_records, why };
        }
        Said::Damaged(what, identity) => {
            let why = Some(Why::Damaged(what.clone()));
            return match identity {
                Some(was) => As::Another { replaces: Some(was.node), cluster: was.cluster.clone(), old: was.old, why },
                None => As::Another { replaces: None, cluster: String::new(), old: false, why },
            };
        }
        Said::Unknown(what) => {
            let why = Some(Why::Damaged(what.clone()));
            return As::Another { replaces: None, cluster: String::new(), old: false, why };
        }
    };
    let Some(identity) = state.identity.clone() else {
        return As::Another { replaces: None, cluster: String::new(), old: false, why: Some(Why::NoState) };
    };
    let why = if new_id { Some(Why::Asked) } else { lost(state, &identity, found) };
    match why {
        None => As::Same(identity),
        why => {
            let replaces = (!new_id).then_some(identity.node);
            As::Another { replaces, cluster: identity.cluster, old: identity.old, why }
        }
    }
}

fn lost(state: &State, identity: &Identity, found: Found<'_>) -> Option<Why> {
    let end = lost_end(state, found).or_else(|| unsynced(state, found.boot)).or_else(|| uncounted_rot(state, found));
    end.or_else(|| lost_entries(state, identity.node, found.lines))
}

/// A ledger that is over for this member ends above all that was ever seen of it here: its last entries lay behind what was
/// written down last, and ledgers that came after them may be lost whole.
fn lost_entries(state: &State, me: NodeId, lines: &BTreeMap<LedgerId, Lines>) -> Option<Why> {
    state.noted.ledgers.iter().find_map(|(&ledger, noted)| {
        let Noted::Hold { members, end, .. } = noted else { return None };
        let seen = lines.get(&ledger).map_or(0, |lines| lines.has.end().max(lines.counted));
        let has = seen.max(state.noted.from.get(&ledger).copied().unwrap_or_default());
        (members.contains(&me) && has < *end).then_some(Why::Entries { ledger, had: *end, has })
    })
}

/// The file that was written last is shorter than it was, or is not there: `data.txt`, if it does not have its name for good by
/// now. One that has all its records only lost what somebody else wrote into it, and took out again.
fn lost_end(state: &State, found: Found<'_>) -> Option<Why> {
    let last = state.files.get(state.current.as_ref()?)?;
    let sealed = found.files.get(&last.file).map(|has| (last.file.as_str(), *has, 0));
    let current = || (CURRENT, found.files.get(CURRENT).copied().unwrap_or_default(), found.record_bytes);
    let (file, has, records) = sealed.unwrap_or_else(current);
    let is_cut = has < last.bytes && records < last.record_bytes;
    is_cut.then(|| Why::Cut { file: file.to_owned(), had: last.bytes, has })
}

/// A rotten line may have been the last entry of its ledger here, and then no gap tells that it is lacking.
fn uncounted_rot(state: &State, found: Found<'_>) -> Option<Why> {
    let written = state.current.as_ref().filter(|name| !found.files.contains_key(*name));
    found.rot.iter().find_map(|(file, &at)| {
        let named = if file == CURRENT { written } else { Some(file) };
        let counted = named.and_then(|name| state.files.get(name)).map_or(0, |counted| counted.bytes);
        (at >= counted).then(|| Why::Rot { file: file.clone(), at, counted })
    })
}

fn unsynced(state: &State, boot: &str) -> Option<Why> {
    let run = state.run.as_ref()?;
    (!state.stopped && !run.synced && run.boot != boot).then_some(Why::Unsynced)
}

/// The file, open to be added to.
#[derive(Debug)]
pub(crate) struct StateFile<S: Storage> {
    storage: S,
    file: S::File,
    /// What it may grow to before it is replaced.
    bytes_max: u64,
    bytes: u64,
    /// So many were synced.
    synced: u64,
    /// A line says how many were synced.
    marked: bool,
    /// Something was added and not synced.
    unsynced: bool,
    syncs: u64,
    written: u64,
}

impl<S: Storage + Clone> StateFile<S> {
    /// Replaces the file by this text and this run, synced, and opens it.
    ///
    /// # Errors
    /// The disk refuses it.
    pub(crate) fn begin(storage: &S, state: &State, run: Run) -> io::Result<Self> {
        let state = State { run: Some(run), stopped: false, ..state.clone() };
        let text = state.to_text();
        make_reserve(storage);
        if let Err(error) = storage.write_small(STATE, text.as_bytes()) {
            if !is_full(&error) {
                return Err(error);
            }
            give_way(storage)?;
            storage.write_small(STATE, text.as_bytes())?;
        }
        let file = storage.open_append(STATE)?;
        let bytes = text.len() as u64;
        let bytes_max = grown(bytes);
        let storage = storage.clone();
        Ok(Self {
            storage,
            file,
            bytes_max,
            bytes,
            synced: bytes,
            marked: true,
            unsynced: false,
            syncs: 1,
            written: bytes,
        })
    }

    /// Adds text; synced if it has to be. A disk that is full gives way to it once.
    ///
    /// # Errors
    /// The disk refuses it.
    pub(crate) fn add(&mut self, text: &str, sync: bool) -> io::Result<()> {
        if !text.is_empty() {
            let before = self.bytes;
            let mark = if self.marked { String::new() } else { state_lines::to_text([&Line::Whole(self.synced)]) };
            let text = mark + text;
            if let Err(error) = self.file.append(text.as_bytes()) {
                self.file.truncate(before)?;
                if !is_full(&error) {
                    return Err(error);
                }
                give_way(&self.storage)?;
                self.file.append(text.as_bytes())?;
            }
            self.bytes += text.len() as u64;
            self.written += text.len() as u64;
            (self.marked, self.unsynced) = (true, true);
        }
        if sync && self.unsynced {
            self.file.sync()?;
            self.syncs += 1;
            (self.synced, self.marked, self.unsynced) = (self.bytes, false, false);
        }
        if self.bytes > self.bytes_max { self.shorten() } else { Ok(()) }
    }

    /// Replaces it by a shorter text that amounts to the same.
    fn shorten(&mut self) -> io::Result<()> {
        let text = self.storage.read_small(STATE, STATE_BYTES_MAX)?;
        let state = State::parse(&text).map_err(io::Error::other)?;
        let text = state.to_text();
        match self.storage.write_small(STATE, text.as_bytes()) {
            Ok(()) => {}
            // Later, when there is room.
            Err(error) if is_full(&error) => {
                self.bytes_max = grown(self.bytes);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        self.file = self.storage.open_append(STATE)?;
        self.bytes = text.len() as u64;
        (self.syncs, self.written) = (self.syncs + 1, self.written + self.bytes);
        (self.bytes_max, self.unsynced) = (grown(self.bytes), false);
        (self.synced, self.marked) = (self.bytes, true);
        make_reserve(&self.storage);
        Ok(())
    }

    /// How often it was synced.
    #[must_use]
    pub(crate) const fn syncs(&self) -> u64 {
        self.syncs
    }

    /// Bytes that were written to it.
    #[must_use]
    pub(crate) const fn written(&self) -> u64 {
        self.written
    }
}

fn grown(bytes: u64) -> u64 {
    bytes.saturating_mul(2).max(bytes + STATE_GROWN_BYTES)
}

/// Makes the file that gives way when the disk is full. Where there is no room for it now, there may be later.
fn make_reserve<S: Storage>(storage: &S) {
    if storage.look(RESERVE).is_ok_and(|seen| seen.is_some()) {
        return;
    }
    if let Err(error) = storage.write_small(RESERVE, &vec![0; STATE_RESERVE_BYTES]) {
        tracing::debug!("{RESERVE} cannot be made: {error}");
    }
}

/// Makes room for notes on a disk that is full. Where the reserve is gone already there is none to be had.
fn give_way<S: Storage>(storage: &S) -> io::Result<()> {
    match storage.remove(RESERVE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(io::ErrorKind::StorageFull.into()),
        Err(error) => Err(error),
        Ok(()) => storage.sync_dir(),
    }
}

/// The lengths of the files of records.
///
/// # Errors
/// The disk refuses a look.
pub(crate) fn lengths<S: Storage>(storage: &S) -> io::Result<BTreeMap<String, u64>> {
    let mut lengths = BTreeMap::new();
    for name in storage.list()?.into_iter().filter(|name| segments::is_data(name)) {
        let bytes = storage.look(&name)?.map_or(0, |seen| seen.bytes);
        lengths.insert(name, bytes);
    }
    Ok(lengths)
}

/// A line that says how far a file was synced.
#[must_use]
pub(crate) fn synced_line(synced: Synced) -> String {
    state_lines::to_text([&Line::Synced(synced)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::note::Note;

    const ME: Identity = Identity { node: NodeId(7), replaces: Some(NodeId(6)), old: true, cluster: String::new() };
    const FILE: &str = "data-x.txt";

    /// A node that wrote so many bytes into its last file, and whether it synced everything, and ended.
    fn state(bytes: u64, synced: bool, stopped: bool) -> Said {
        let run = Some(Run { boot: "b1".to_owned(), synced });
        let mut state = State { identity: Some(ME), run, stopped, ..State::default() };
        // Somebody else wrote five of these bytes.
        let record_bytes = bytes.saturating_sub(5);
        state.add_file(Synced { file: FILE.to_owned(), bytes, record_bytes, sealed: false, counts: Vec::new() });
        Said::State(Box::new(state))
    }

    /// What a folder starts as whose last file has so many bytes, or is not there.
    fn starts(said: &Said, has: Option<u64>, boot: &str, new_id: bool) -> As {
        let files = has.map(|bytes| (CURRENT.to_owned(), bytes)).into_iter().collect();
        judge(
            said,
            Found { files: &files, record_bytes: 0, rot: &BTreeMap::new(), lines: &BTreeMap::new(), old: None, boot },
            new_id,
        )
    }

    fn another(replaces: Option<NodeId>, old: bool, why: Option<Why>) -> As {
        As::Another { replaces, cluster: String::new(), old, why }
    }

    #[test]
    fn a_folder_that_has_all_it_had_is_the_same() {
        for said in [state(20, true, false), state(20, false, true), state(20, true, true)] {
            // As it was noted, and with what came after that.
            for has in [20, 21] {
                assert_eq!(starts(&said, Some(has), "b2", false), As::Same(ME));
            }
        }
        // The system goes on, and has everything that was written.
        assert_eq!(starts(&state(20, false, false), Some(20), "b1", false), As::Same(ME));
        // Nothing was written yet.
        let fresh = Said::State(Box::new(State { identity: Some(ME), ..State::default() }));
        assert_eq!(starts(&fresh, None, "b1", false), As::Same(ME));
    }

    #[test]
    fn a_folder_that_may_have_lost_something_is_another() {
        let replaced = |why| another(Some(ME.node), true, Some(why));
        let cut = |has| replaced(Why::Cut { file: CURRENT.to_owned(), had: 20, has });
        for stopped in [false, true] {
            assert_eq!(starts(&state(20, true, stopped), Some(19), "b1", false), cut(19));
            assert_eq!(starts(&state(20, true, stopped), None, "b1", false), cut(0));
            assert_eq!(starts(&state(20, true, stopped), Some(20), "b1", true), another(None, true, Some(Why::Asked)));
        }
        assert_eq!(starts(&state(20, false, false), Some(20), "b2", false), replaced(Why::Unsynced));
        assert_eq!(starts(&state(20, false, false), Some(9), "b2", false), cut(9), "the first that is found");
    }

    #[test]
    fn what_somebody_else_wrote_may_go_again_and_no_record() {
        let judged = |name: &str, has, record_bytes| {
            let files = [(name.to_owned(), has)].into_iter().collect();
            let found = Found {
                files: &files,
                record_bytes,
                rot: &BTreeMap::new(),
                lines: &BTreeMap::new(),
                old: None,
                boot: "b1",
            };
            judge(&state(20, true, true), found, false)
        };
        for (has, record_bytes) in [(15, 15), (17, 15), (18, 18)] {
            assert_eq!(judged(CURRENT, has, record_bytes), As::Same(ME), "{has} {record_bytes}");
        }
        let cut =
            |file: &str, has| another(Some(ME.node), true, Some(Why::Cut { file: file.to_owned(), had: 20, has }));
        assert_eq!(judged(CURRENT, 19, 14), cut(CURRENT, 19));
        assert_eq!(judged(CURRENT, 14, 14), cut(CURRENT, 14));
        // What is in a file that was sealed nobody has counted.
        assert_eq!(judged(FILE, 19, 19), cut(FILE, 19));
    }

    #[test]
    fn entries_that_were_taken_and_are_nowhere_are_lost() {
        let ledger = LedgerId { incarnation: crate::wire::ledger::Incarnation(1), number: 2 };
        let judged = |members: &[NodeId], has: u32, counted: u32, from: u32| {
            let Said::State(mut state) = state(20, true, true) else { return None };
            let (members, urgent, settled) = (members.into(), false, false);
            state.noted.add(Note::Hold { ledger, members, from, end: 9, settled, urgent }).unwrap();
            let lines = BTreeMap::from([(ledger, Lines { has: (0..has).into(), counted })]);
            let files = [(CURRENT.to_owned(), 20)].into_iter().collect();
            let found =
                Found { files: &files, record_bytes: 20, rot: &BTreeMap::new(), lines: &lines, old: None, boot: "b1" };
            match judge(&Said::State(state), found, false) {
                As::Same(_) => None,
                As::Another { why, .. } => why,
            }
        };
        let lost = |has| Some(Why::Entries { ledger, had: 9, has });
        assert_eq!(judged(&[ME.node], 4, 3, 0), lost(4));
        assert_eq!(judged(&[ME.node, NodeId(1)], 4, 8, 5), lost(8));
        // They rotted, or lie in a file that is gone, or were let go.
        assert_eq!(
            [judged(&[ME.node], 4, 9, 0), judged(&[ME.node], 9, 0, 0), judged(&[ME.node], 4, 0, 9)],
            [None, None, None]
        );
        // Who adopted it tells what it lacks.
        assert_eq!(judged(&[NodeId(1)], 4, 4, 0), None);
    }

    #[test]
    fn a_folder_without_a_state_that_can_be_read_is_another() {
        assert_eq!(starts(&Said::Nothing, None, "b1", false), another(None, false, None));
        assert_eq!(starts(&Said::Nothing, Some(0), "b1", false), another(None, false, None));
        assert_eq!(starts(&Said::Nothing, Some(9), "b1", false), another(None, true, Some(Why::NoState)));
        assert_eq!(starts(&Said::Nothing, None, "b1", true), another(None, false, Some(Why::Asked)));
        let damaged = |identity| Said::Damaged("line 3 is damaged".to_owned(), identity);
        let why = || Some(Why::Damaged("line 3 is damaged".to_owned()));
        assert_eq!(starts(&damaged(Some(ME)), Some(9), "b1", false), another(Some(ME.node), true, why()));
        assert_eq!(starts(&damaged(None), Some(9), "b1", false), another(None, false, why()));
    }

    #[test]
    fn a_folder_of_format_1_is_who_it_was() {
        let files = [(CURRENT.to_owned(), 9)].into_iter().collect();
        let lines = BTreeMap::new();
        let found = Found {
            files: &files,
            record_bytes: 9,
            rot: &BTreeMap::new(),
            lines: &lines,
            old: Some(NodeId(3)),
            boot: "b1",
        };
        let same = Identity { node: NodeId(3), replaces: None, old: true, cluster: String::new() };
        assert_eq!(judge(&Said::Nothing, found, false), As::Same(same));
        assert_eq!(judge(&Said::Nothing, found, true), another(None, true, Some(Why::Asked)));
        // Its file was not removed yet: the state counts.
        assert_eq!(judge(&state(0, true, true), found, false), As::Same(ME));
    }

    #[cfg(feature = "simulation")]
    mod file {
        use super::*;
        use crate::data::simulated::SimDisk;
        use crate::wire::ledger::Incarnation;

        fn note(number: u32) -> String {
            state_lines::of_notes(&[Note::Part { ledger: LedgerId { incarnation: Incarnation(1), number } }])
        }

        fn begun(disk: &SimDisk) -> StateFile<SimDisk> {
            let state = State { identity: Some(ME), ..State::default() };
            StateFile::begin(disk, &state, Run { boot: "b1".to_owned(), synced: true }).unwrap()
        }

        fn noted(disk: &SimDisk) -> usize {
            match read(disk).unwrap() {
                Said::State(state) => state.noted.ledgers.len(),
                other => panic!("{other:?}"),
            }
        }

        #[test]
        fn a_file_that_has_grown_is_replaced_by_one_that_says_the_same() {
            let disk = SimDisk::default();
            let mut state = begun(&disk);
            let mut most = 0;
            for _ in 0..400 {
                let text: String = (0..200).map(note).collect();
                state.add(&text, true).unwrap();
                most = most.max(disk.contents(STATE).len());
            }
            assert!(most as u64 > STATE_GROWN_BYTES / 2 && most as u64 <= 2 * STATE_GROWN_BYTES, "{most}");
            assert_eq!(noted(&disk), 200);
        }

        #[test]
        fn a_full_disk_gives_way_to_notes_once() {
            let disk = SimDisk::default();
            let mut state = begun(&disk);
            let used = disk.used();
            disk.faults(|faults| faults.capacity = Some(used + 5));
            state.add(&note(1), true).unwrap();
            assert!(disk.look(RESERVE).unwrap().is_none());
            let used = disk.used();
            disk.faults(|faults| faults.capacity = Some(used));
            assert!(is_full(&state.add(&note(2), true).unwrap_err()));
            drop(state);
            disk.crash(1);
            assert_eq!(noted(&disk), 1, "what was synced is whole");
        }

        #[test]
        fn what_was_synced_survives_every_crash_and_what_was_not_is_no_damage() {
            for seed in 0..300 {
                let disk = SimDisk::default();
                let mut state = begun(&disk);
                let mut synced = 0;
                for n in 0..20 {
                    let sync = (seed + u64::from(n)) % 3 == 0;
                    state.add(&note(n), sync).unwrap();
                    if sync {
                        synced = n + 1;
                    }
                }
                drop(state);
                disk.crash(seed);
                assert!(noted(&disk) >= synced as usize, "{seed}");
            }
        }
    }
}
