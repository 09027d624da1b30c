//! How a folder is opened: its log, whose it is, and what its identity has and promises.
//!
//! A folder that may have lost something starts as another identity, which keeps what is there and promises nothing of it.
//! It blocks; the decision itself is [`node_state::judge`].

use std::collections::BTreeMap;
use std::io;

use super::current::{Before, Last};
use super::log::{Log, Settings, SyncPolicy};
use super::node_state::{self, As, Found, OLD_IDENTITY, Said, StateFile, Why};
use super::opening::{OpenError, OpenReport};
use super::state_lines::{Identity, Line, Run, State};
use super::storage::Storage;
use super::writer::{reach, sealed};
use crate::ledger::kept::Kept;
use crate::ledger::note::{Folded, Lines, Note};
use crate::ledger::roster::Standing;
use crate::limits::CLUSTER_NAME_BYTES_MAX;
use crate::wire::ledger::{LedgerId, NodeId};
use crate::wire::peer::is_name;

/// Longest identity file of format 1 that is read, bytes.
const OLD_IDENTITY_BYTES_MAX: usize = 1024;

/// Why a folder cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// Its records were moved away, and its node left the cluster.
    #[error("it was drained")]
    Drained,
    /// Another version wrote it.
    #[error("it says {0:?}")]
    Version(String),
    /// Its log can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The disk refused something.
    #[error("{what}: {source}")]
    Disk {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// How to open it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How<'a> {
    /// How the log is kept.
    pub(crate) settings: Settings,
    /// The system's run.
    pub(crate) boot: &'a str,
    /// Start as another identity, whatever the folder says.
    pub(crate) new_id: bool,
    /// The identity of a folder that has none.
    pub(crate) random: u64,
    /// The node's name.
    pub(crate) name: &'a str,
}

/// A folder that is open.
pub(crate) struct Started<S: Storage> {
    /// Its log.
    pub(crate) log: Log<S>,
    /// Its state.
    pub(crate) state: StateFile<S>,
    /// What its identity has and promises.
    pub(crate) kept: Kept,
    /// Whose it is.
    pub(crate) identity: Identity,
    /// Why it is another one than before, if it is.
    pub(crate) why: Option<Why>,
    /// What opening the log found.
    pub(crate) report: OpenReport,
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Disk { what, source }
}

/// Opens a folder.
///
/// # Errors
/// It can't be used.
pub(crate) fn open<S: Storage + Clone>(storage: &S, how: How<'_>) -> Result<Started<S>, StartError> {
    let said = node_state::read(storage).map_err(failed("reading node.state"))?;
    if let Said::Unknown(version) = said {
        return Err(StartError::Version(version));
    }
    let before = match &said {
        Said::State(state) => before(state),
        _ => Before::default(),
    };
    let (log, report) = Log::open_behind(storage.clone(), how.settings, &before)?;
    let files = node_state::lengths(storage).map_err(failed("looking at its files"))?;
    let record_bytes = log.reaches().map_or(0, |reaches| reaches.record_bytes);
    let old = old_folder(storage).map_err(failed("reading node.id"))?;
    let first = matches!(said, Said::Nothing);
    if first && !how.new_id && old.as_ref().is_some_and(|old| old.drained) {
        return Err(StartError::Drained);
    }
    let node = old.as_ref().map(|old| old.node);
    let counted = match &said {
        Said::State(state) => state.counted(),
        _ => BTreeMap::new(),
    };
    let lines = lines_of(&log, counted);
    let rot = report.rot.iter().map(|rot| (rot.file.clone(), rot.last)).collect();
    let found = Found { files: &files, record_bytes, rot: &rot, lines: &lines, old: node, boot: how.boot };
    let judged = node_state::judge(&said, found, how.new_id);
    let said = match said {
        Said::State(state) => *state,
        _ => State::default(),
    };
    let (identity, kept, noted, before, why) = match judged {
        As::Same(identity) => {
            if said.noted.roster.generation(identity.node).standing() == Standing::Out {
                return Err(StartError::Drained);
            }
            let kept = Kept::restarted(identity.node, said.noted.clone(), lines);
            (identity, kept, said.noted, said.files, None)
        }
        As::Another { replaces, cluster, old, why } => {
            let node = NodeId::from_random(how.random);
            // What the other one counted is no promise of this one.
            let lines = lines_of(&log, BTreeMap::new());
            let (kept, notes) = Kept::replacing(node, given_up(said.noted, replaces, how.name), lines);
            (Identity { node, replaces, old, cluster }, kept, folded(notes), BTreeMap::new(), why)
        }
    };
    let mut identity = identity;
    if let Some(old) = old.as_ref().filter(|_| first) {
        identity.cluster.clone_from(&old.cluster);
    }
    let run = Run { boot: how.boot.to_owned(), synced: how.settings.sync == SyncPolicy::Always };
    let state = State { identity: Some(identity.clone()), noted, files: before, ..State::default() };
    let state = state_of(&log, state);
    let state = StateFile::begin(storage, &state, run).map_err(failed("writing node.state"))?;
    if old.is_some() {
        // What it said stands in the state now.
        storage.remove(OLD_IDENTITY).and_then(|()| storage.sync_dir()).map_err(failed("removing node.id"))?;
    }
    Ok(Started { log, state, kept, identity, why, report })
}

/// How the last run left the log.
fn before(state: &State) -> Before {
    let last = state.current.as_ref().and_then(|current| state.files.get(current));
    let last = last.map(|last| Last { file: last.file.clone(), bytes: last.bytes });
    Before { last, always: state.run.as_ref().is_some_and(|run| run.synced) }
}

/// The notes of an identity that begins.
fn folded(notes: Vec<Note>) -> Folded {
    let mut folded = Folded::default();
    for note in notes {
        // The roster was noted before, so it is not too great.
        folded.add(note).unwrap_or_default();
    }
    folded
}

/// What the files have of each ledger, and what was synced of it.
fn lines_of<S: Storage + Clone>(log: &Log<S>, counted: BTreeMap<LedgerId, u32>) -> BTreeMap<LedgerId, Lines> {
    let mut lines = BTreeMap::<LedgerId, Lines>::new();
    let view = log.view();
    for (ledger, entries) in view.ledgers().flat_map(|(_, ledgers)| ledgers.iter()) {
        lines.entry(ledger).or_default().has.union(entries);
    }
    for (ledger, counted) in counted {
        lines.entry(ledger).or_default().counted = counted;
    }
    lines
}

/// The roster in which the identity that is replaced will not come back: the one that replaces it says so, whether the folder
/// has noted of it or not. A chain of them may have been replaced since a head heard of the first.
fn given_up(mut noted: Folded, replaces: Option<NodeId>, name: &str) -> Folded {
    let Some(old) = replaces else { return noted };
    let known = noted.roster.identities().find(|(node, _)| *node == old);
    let name = known.map_or_else(|| name.into(), |(_, record)| record.name.clone());
    if let Some(next) = noted.roster.generation(old).replaced()
        && let Err(full) = noted.roster.set(old, next, &name)
    {
        tracing::warn!("{full}; nobody is told that {old} will not come back");
    }
    noted
}

/// The state of an identity that starts: with the files as they are now, which opening has synced. What was counted in them
/// before counts: entries that can't be read any more are lacking at each start until they are there again.
fn state_of<S: Storage + Clone>(log: &Log<S>, mut state: State) -> State {
    state.files.values_mut().for_each(|file| file.sealed = true);
    log.sealed().iter().for_each(|file| state.add_file(sealed(file)));
    log.reaches().into_iter().for_each(|reaches| state.add_file(reach(reaches)));
    state
}

/// The identity of a folder of format 1.
pub(crate) fn old_identity<S: Storage>(storage: &S) -> io::Result<Option<NodeId>> {
    Ok(old_folder(storage)?.map(|old| old.node))
}

/// Whose a folder of format 1 is.
struct OldFolder {
    node: NodeId,
    /// Empty if no head named it.
    cluster: String,
    /// Its records were moved away.
    drained: bool,
}

/// What the identity file of format 1 says: `acopio-data 1 <10 characters> [<cluster>] [drained]`.
fn old_folder<S: Storage>(storage: &S) -> io::Result<Option<OldFolder>> {
    match storage.read_small(OLD_IDENTITY, OLD_IDENTITY_BYTES_MAX) {
        Ok(text) => {
            let text = String::from_utf8_lossy(&text);
            let mut words = text.strip_prefix("acopio-data 1 ").unwrap_or_default().split_ascii_whitespace();
            let node = words.next().and_then(|word| word.parse().ok());
            let cluster =
                words.next().filter(|word| is_name(word, CLUSTER_NAME_BYTES_MAX)).unwrap_or_default().to_owned();
            let drained = words.next() == Some("drained");
            Ok(node.map(|node| OldFolder { node, cluster, drained }))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The system's run, as Linux names it; nothing where it does not.
#[must_use]
pub(crate) fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let id = text.trim();
    if id.is_empty() || id.contains(' ') { "unknown".to_owned() } else { id.to_owned() }
}

/// A line for the state that the node joined a cluster.
#[must_use]
pub(crate) fn joined(identity: &Identity) -> String {
    super::state_lines::to_text([&Line::Identity(identity.clone())])
}

#[cfg(test)]
#[path = "start_tests.rs"]
mod tests;
