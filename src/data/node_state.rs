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
use crate::limits::{STATE_BYTES_MAX, STATE_GROWN_BYTES, STATE_RESERVE_BYTES};
use crate::wire::ledger::NodeId;

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
    /// Names and lengths of files of records; `data.txt` under the name that it has for good.
    pub(crate) files: &'a BTreeMap<String, u64>,
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
    let why =
        if new_id { Some(Why::Asked) } else { lost_end(state, found.files).or_else(|| unsynced(state, found.boot)) };
    match why {
        None => As::Same(identity),
        why => {
            let replaces = (!new_id).then_some(identity.node);
            As::Another { replaces, cluster: identity.cluster, old: identity.old, why }
        }
    }
}

/// The file that was written last is shorter than it was, or is not there.
fn lost_end(state: &State, files: &BTreeMap<String, u64>) -> Option<Why> {
    let last = state.files.get(state.current.as_ref()?)?;
    let has = files.get(&last.file).copied().unwrap_or_default();
    (has < last.bytes).then(|| Why::Cut { file: last.file.clone(), had: last.bytes, has })
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

/// The lengths of the files of records. The file that was written last is `data.txt` if it does not have its name for good
/// by now.
///
/// # Errors
/// The disk refuses a look.
pub(crate) fn lengths<S: Storage>(storage: &S, last: Option<&str>) -> io::Result<BTreeMap<String, u64>> {
    let mut lengths = BTreeMap::new();
    for name in storage.list()?.into_iter().filter(|name| segments::is_data(name)) {
        let bytes = storage.look(&name)?.map_or(0, |seen| seen.bytes);
        lengths.insert(name, bytes);
    }
    if let Some(last) = last.filter(|last| !lengths.contains_key(*last))
        && let Some(bytes) = lengths.remove(CURRENT)
    {
        lengths.insert(last.to_owned(), bytes);
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

    const ME: Identity = Identity { node: NodeId(7), replaces: Some(NodeId(6)), old: true, cluster: String::new() };
    const FILE: &str = "data-x.txt";

    /// A node that wrote so many bytes into its last file, and whether it synced everything, and ended.
    fn state(bytes: u64, synced: bool, stopped: bool) -> Said {
        let run = Some(Run { boot: "b1".to_owned(), synced });
        let mut state = State { identity: Some(ME), run, stopped, ..State::default() };
        state.add_file(Synced { file: FILE.to_owned(), bytes, sealed: false, counts: Vec::new() });
        Said::State(Box::new(state))
    }

    /// What a folder starts as whose last file has so many bytes, or is not there.
    fn starts(said: &Said, has: Option<u64>, boot: &str, new_id: bool) -> As {
        let files = has.map(|bytes| (FILE.to_owned(), bytes)).into_iter().collect();
        judge(said, Found { files: &files, old: None, boot }, new_id)
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
        let cut = |has| replaced(Why::Cut { file: FILE.to_owned(), had: 20, has });
        for stopped in [false, true] {
            assert_eq!(starts(&state(20, true, stopped), Some(19), "b1", false), cut(19));
            assert_eq!(starts(&state(20, true, stopped), None, "b1", false), cut(0));
            assert_eq!(starts(&state(20, true, stopped), Some(20), "b1", true), another(None, true, Some(Why::Asked)));
        }
        assert_eq!(starts(&state(20, false, false), Some(20), "b2", false), replaced(Why::Unsynced));
        assert_eq!(starts(&state(20, false, false), Some(9), "b2", false), cut(9), "the first that is found");
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
        let found = Found { files: &files, old: Some(NodeId(3)), boot: "b1" };
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
        use crate::ledger::note::Note;
        use crate::wire::ledger::{Incarnation, LedgerId};

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
