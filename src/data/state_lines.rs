//! The lines of `node.state`, and what all of them amount to.
//!
//! Text and its fold, no file. Each line ends in a checksum. What was added since the last sync may be torn anywhere, as a
//! crash leaves it, and nothing was said that follows from it: it is left out from the first damaged line on. A line `whole`
//! says how much was synced before it was added: damage in that means that something may be lost, and then the folder starts
//! as another identity. `docs/data-log.md` is the contract of this format.

use std::collections::BTreeMap;

use crate::ledger::note::{Folded, Note};
use crate::ledger::text::{self, NONE, Words, open, parse_entry, seal};
use crate::limits::CLUSTER_NAME_BYTES_MAX;
use crate::wire::ledger::{Digits, LedgerId, NodeId};

/// First words of the file; the number is the version of its format.
pub(super) const FORMAT: &str = "acopio-node 2";

/// Whose folder it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The identity.
    pub(crate) node: NodeId,
    /// The one before it, whose promises are not kept here.
    pub(crate) replaces: Option<NodeId>,
    /// The folder has records of format 1.
    pub(crate) old: bool,
    /// Name of the cluster; empty until the first head named it.
    pub(crate) cluster: String,
}

/// A run of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The system's run.
    pub(crate) boot: String,
    /// Whether everything was synced before it was acknowledged.
    pub(crate) synced: bool,
}

/// How far a file of records was synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Synced {
    /// The name that the file has for good.
    pub(crate) file: String,
    /// Its length.
    pub(crate) bytes: u64,
    /// How many of these bytes are records: somebody else may have written into it.
    pub(crate) record_bytes: u64,
    /// It was sealed.
    pub(crate) sealed: bool,
    /// For each ledger in it, one more than its greatest entry there.
    pub(crate) counts: Vec<(LedgerId, u32)>,
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Whose folder it is.
    Identity(Identity),
    /// The node starts.
    Run(Run),
    /// It ended in order.
    Stop,
    /// A file was synced.
    Synced(Synced),
    /// A sealed file was removed.
    Removed(String),
    /// So many bytes of this file were synced before this line was added.
    Whole(u64),
    /// A note of the protocol; a roster is a line for each of its parts.
    Note(Note),
}

/// What the lines of a folder amount to.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// Whose folder it is.
    pub(crate) identity: Option<Identity>,
    /// The last run.
    pub(crate) run: Option<Run>,
    /// It ended in order.
    pub(crate) stopped: bool,
    /// How far files were synced, by name.
    pub(crate) files: BTreeMap<String, Synced>,
    /// The file that was written last.
    pub(crate) current: Option<String>,
    /// What was noted.
    pub(crate) noted: Folded,
}

/// A text that is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {0} is damaged")]
pub(crate) struct Damaged(pub(crate) usize);

/// Text that is written to the file.
pub(crate) fn to_text<'a>(lines: impl IntoIterator<Item = &'a Line>) -> String {
    let mut text = String::new();
    lines.into_iter().for_each(|line| line.write(&mut text));
    text
}

/// The lines of these notes.
pub(crate) fn of_notes(notes: &[Note]) -> String {
    let mut lines = String::new();
    notes.iter().for_each(|note| text::write(&mut lines, note));
    lines
}

/// The first line of a file.
pub(crate) fn header() -> String {
    let mut text = String::new();
    seal(&mut text, FORMAT);
    text
}

/// The version of the file that begins so, if it is whole and another one than this.
#[must_use]
pub(crate) fn other_version(text: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(text.split(|byte| *byte == b'\n').next()?).ok()?;
    let words = open(line)?;
    (words.starts_with("acopio-node ") && words != FORMAT).then(|| words.to_owned())
}

impl Line {
    fn write(&self, out: &mut String) {
        let words = match self {
            Self::Identity(Identity { node, replaces, old, cluster }) => {
                let replaces = replaces.map_or_else(|| NONE.to_owned(), |node| node.to_string());
                let cluster = if cluster.is_empty() { NONE } else { cluster };
                format!("node {node} {replaces} {} {cluster}", if *old { "old" } else { NONE })
            }
            Self::Run(Run { boot, synced }) => format!("run {boot} {}", if *synced { "always" } else { "later" }),
            Self::Stop => "stop".to_owned(),
            Self::Synced(Synced { file, bytes, record_bytes, sealed, counts }) => {
                let word = if *sealed { "sealed" } else { "log" };
                let records = if record_bytes == bytes { String::new() } else { format!(" {record_bytes}") };
                let counts: String =
                    counts.iter().map(|(ledger, count)| format!(" {ledger}={}", Digits(*count))).collect();
                format!("{word} {file} {bytes}{records}{counts}")
            }
            Self::Removed(file) => format!("removed {file}"),
            Self::Whole(bytes) => format!("whole {bytes}"),
            Self::Note(note) => return text::write(out, note),
        };
        seal(out, &words);
    }
}

/// Whose folder it is by a text that is damaged elsewhere.
#[must_use]
pub(crate) fn identity_in(text: &[u8]) -> Option<Identity> {
    let lines = text.split(|byte| *byte == b'\n').rev().filter_map(|line| parse(std::str::from_utf8(line).ok()?));
    lines.into_iter().find_map(|line| match line {
        Line::Identity(identity) => Some(identity),
        _ => None,
    })
}

/// A line without its newline.
fn parse(line: &str) -> Option<Line> {
    let mut words = Words::new(open(line)?);
    let line = match words.next()? {
        "node" => {
            let (node, replaces) = (words.parse()?, words.maybe()?);
            let old = match words.next()? {
                "old" => true,
                NONE => false,
                _ => return None,
            };
            Line::Identity(Identity { node, replaces, old, cluster: words.name(CLUSTER_NAME_BYTES_MAX)? })
        }
        "run" => {
            let boot = words.next()?.to_owned();
            let synced = match words.next()? {
                "always" => true,
                "later" => false,
                _ => return None,
            };
            Line::Run(Run { boot, synced })
        }
        "stop" => Line::Stop,
        word @ ("log" | "sealed") => {
            let (file, bytes) = (words.next()?.to_owned(), words.parse()?);
            let (mut record_bytes, mut counts) = (None, Vec::new());
            while let Some(word) = words.next() {
                match word.split_once('=') {
                    Some((ledger, count)) => counts.push((ledger.parse().ok()?, parse_entry(count)?)),
                    None if record_bytes.is_none() && counts.is_empty() => record_bytes = Some(word.parse().ok()?),
                    None => return None,
                }
            }
            let record_bytes = record_bytes.unwrap_or(bytes);
            Line::Synced(Synced { file, bytes, record_bytes, sealed: word == "sealed", counts })
        }
        "removed" => Line::Removed(words.next()?.to_owned()),
        "whole" => Line::Whole(words.parse()?),
        word => Line::Note(text::parse(word, &mut words)?),
    };
    words.is_over().then_some(line)
}

impl State {
    /// Reads a text. What is torn at its end is left out.
    ///
    /// # Errors
    /// A line is damaged that was synced.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, Damaged> {
        let mut state = Self::default();
        let mut at = 0_u64;
        // The first damaged line, and where it begins.
        let mut torn: Option<(Damaged, u64)> = None;
        for (number, line) in (1..).zip(text.split_inclusive(|byte| *byte == b'\n')) {
            let words = line.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok());
            if number == 1 {
                if words.and_then(open) != Some(FORMAT) {
                    return Err(Damaged(number));
                }
            } else {
                let line = words.and_then(parse);
                match torn {
                    Some((damaged, from)) if matches!(line, Some(Line::Whole(bytes)) if bytes > from) => {
                        return Err(damaged);
                    }
                    Some(_) => {}
                    None if line.and_then(|line| state.add(line)).is_some() => {}
                    None => torn = Some((Damaged(number), at)),
                }
            }
            at += line.len() as u64;
        }
        Ok(state)
    }

    fn add(&mut self, line: Line) -> Option<()> {
        match line {
            Line::Identity(identity) => self.identity = Some(identity),
            Line::Run(run) => (self.run, self.stopped) = (Some(run), false),
            Line::Stop => self.stopped = true,
            Line::Synced(synced) => self.add_file(synced),
            Line::Removed(file) => {
                self.files.remove(&file);
                self.current.take_if(|current| *current == file);
            }
            Line::Whole(_) => {}
            Line::Note(note) => self.noted.add(note).ok()?,
        }
        Some(())
    }

    /// A file was synced. What was counted in it before still counts, readable or not.
    pub(crate) fn add_file(&mut self, mut synced: Synced) {
        // One file is written at a time: who is at another one has sealed it.
        if let Some(before) = self.current.take().and_then(|current| self.files.get_mut(&current)) {
            before.sealed = true;
        }
        self.current = (!synced.sealed).then(|| synced.file.clone());
        let before = self.files.remove(&synced.file).map(|before| before.counts).unwrap_or_default();
        let mut counts = BTreeMap::<LedgerId, u32>::new();
        for (ledger, count) in before.into_iter().chain(std::mem::take(&mut synced.counts)) {
            let known = counts.entry(ledger).or_default();
            *known = count.max(*known);
        }
        synced.counts = counts.into_iter().collect();
        self.files.insert(synced.file.clone(), synced);
    }

    /// The shortest text that amounts to the same.
    #[must_use]
    pub(crate) fn to_text(&self) -> String {
        let mut text = header();
        let mut lines: Vec<Line> = self.identity.iter().cloned().map(Line::Identity).collect();
        let is_current = |file: &&Synced| Some(&file.file) == self.current.as_ref();
        let (current, others): (Vec<_>, Vec<_>) = self.files.values().partition(is_current);
        lines.extend(others.into_iter().chain(current).cloned().map(Line::Synced));
        lines.extend(self.noted.notes().map(Line::Note));
        lines.extend(self.run.iter().cloned().map(Line::Run));
        lines.extend(self.stopped.then_some(Line::Stop));
        lines.iter().for_each(|line| line.write(&mut text));
        Line::Whole(text.len() as u64).write(&mut text);
        text
    }

    /// For each ledger, how many of its entries were synced here, those that lie elsewhere by now included.
    #[must_use]
    pub(crate) fn counted(&self) -> BTreeMap<LedgerId, u32> {
        let mut counted = BTreeMap::<_, u32>::new();
        for (ledger, count) in self.files.values().flat_map(|file| &file.counts) {
            let known = counted.entry(*ledger).or_default();
            *known = (*known).max(*count);
        }
        counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::roster::{Copies, Founding, Generation, Record};
    use crate::wire::ledger::{Incarnation, NUMBER_END};
    use proptest::prelude::*;

    const fn roster(identities: Vec<(NodeId, Record)>, copies: Option<Copies>, foundings: Vec<Founding>) -> Note {
        Note::Roster { identities, copies, foundings }
    }

    fn ledger() -> impl Strategy<Value = LedgerId> {
        (0..9_u32, 0..99_u32)
            .prop_map(|(incarnation, number)| LedgerId { incarnation: Incarnation(incarnation), number })
    }

    fn node() -> impl Strategy<Value = NodeId> {
        (0..1_u64 << 60).prop_map(NodeId)
    }

    fn line() -> impl Strategy<Value = Line> {
        let name = || "[a-z][a-z0-9.-]{0,9}";
        let range = || (0..NUMBER_END, 0..=NUMBER_END).prop_map(|(a, b)| a..b);
        prop_oneof![
            (node(), prop::option::of(node()), any::<bool>(), prop_oneof![Just(String::new()), name()])
                .prop_map(|(node, replaces, old, cluster)| Line::Identity(Identity { node, replaces, old, cluster })),
            (name(), any::<bool>()).prop_map(|(boot, synced)| Line::Run(Run { boot, synced })),
            Just(Line::Stop),
            (name(), any::<[u64; 2]>(), any::<[bool; 2]>(), prop::collection::vec((ledger(), 0..=NUMBER_END), 0..4))
                .prop_map(|(file, [bytes, fewer], [sealed, shared], counts)| {
                    let record_bytes = if shared { fewer } else { bytes };
                    Line::Synced(Synced { file, bytes, record_bytes, sealed, counts })
                }),
            name().prop_map(Line::Removed),
            any::<u64>().prop_map(Line::Whole),
            ledger().prop_map(|ledger| Line::Note(Note::Part { ledger })),
            (ledger(), prop::collection::vec(node(), 0..4), range(), any::<bool>()).prop_map(
                |(ledger, members, range, settled)| {
                    let (members, from, end) = (members.into(), range.start, range.end);
                    Line::Note(Note::Hold { ledger, members, from, end, settled, urgent: true })
                }
            ),
            (ledger(), 0..NUMBER_END).prop_map(|(ledger, from)| Line::Note(Note::From { ledger, from })),
            (ledger(), 1..50_u32).prop_map(|(LedgerId { incarnation, number }, len)| {
                Line::Note(Note::Gone { incarnation, numbers: number..number + len })
            }),
            (node(), any::<u32>(), name()).prop_map(|(node, generation, name)| {
                let record = Record { generation: Generation(generation), name: name.into() };
                Line::Note(roster(vec![(node, record)], None, vec![]))
            }),
            (any::<[u8; 3]>(), any::<u32>()).prop_map(|([replicas, least, before], generation)| {
                Line::Note(roster(vec![], Some(Copies { replicas, least, before, generation }), vec![]))
            }),
            (any::<u64>(), 0..1_u32 << 30).prop_map(|(time_ns, head)| {
                Line::Note(roster(vec![], None, vec![Founding { time_ns, head: Incarnation(head) }]))
            }),
        ]
    }

    fn fold(lines: &[Line]) -> Option<State> {
        State::parse((header() + &to_text(lines)).as_bytes()).ok()
    }

    fn shown(state: &State) -> String {
        format!("{state:?}")
    }

    proptest! {
        #[test]
        fn lines_round_trip(line in line()) {
            let text = to_text([&line]);
            prop_assert_eq!(parse(text.strip_suffix('\n').unwrap()), Some(line));
        }

        #[test]
        fn a_short_text_amounts_to_the_same(lines in prop::collection::vec(line(), 0..40)) {
            let Some(state) = fold(&lines) else { return Ok(()) };
            let again = State::parse(state.to_text().as_bytes()).unwrap();
            prop_assert_eq!(shown(&again), shown(&state));
        }

        #[test]
        fn no_damage_passes_in_what_was_synced_and_the_rest_may_be_torn(
            lines in prop::collection::vec(line(), 1..6),
            at in any::<prop::sample::Index>(),
            bit in 0..8_u32,
        ) {
            let mut synced = header() + &to_text(&lines);
            prop_assume!(State::parse(synced.as_bytes()).is_ok());
            to_text([&Line::Whole(synced.len() as u64)]).chars().for_each(|next| synced.push(next));
            let mut damaged = synced.clone().into_bytes();
            let at = at.index(damaged.len());
            damaged[at] ^= 1 << bit;
            let mark = synced.trim_end_matches('\n').rfind('\n').map_or(0, |at| at + 1);
            let intact = State::parse(synced.as_bytes()).unwrap();
            match State::parse(&damaged) {
                // The mark itself: nothing is lost. A newline before it that goes takes the mark along.
                Ok(state) => prop_assert!(at + 1 >= mark && (at + 1 == mark || shown(&state) == shown(&intact)), "byte {at}"),
                Err(_) => prop_assert!(at < mark, "byte {at}"),
            }
            let torn = synced.clone() + &to_text(&lines);
            let cut = torn.as_bytes().get(..synced.len() + (torn.len() - synced.len()) / 2).unwrap();
            prop_assert!(State::parse(cut).is_ok());
        }
    }

    #[test]
    fn a_crash_leaves_no_identities_without_the_copies_that_are_to_be() {
        let record = Record { generation: Generation::FOUNDER, name: "data1".into() };
        let founding = Founding { time_ns: 1, head: Incarnation(1) };
        let note = roster(vec![(NodeId(1), record)], Some(Copies::founded(2, 1)), vec![founding]);
        let text = header() + &of_notes(&[note]);
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        assert_eq!(lines.len(), 4);
        for (count, is_founded) in [(1, false), (2, true), (3, true), (4, true)] {
            let state = State::parse(lines[..count].concat().as_bytes()).unwrap();
            let roster = &state.noted.roster;
            assert_eq!((roster.is_empty(), roster.copies().is_some()), (!is_founded, is_founded), "{count} lines");
        }
    }

    #[test]
    fn what_makes_no_sense_is_damaged() {
        for words in [
            "",
            "stop now",
            "part",
            "part x",
            "hold -----.1 - 1",
            "hold -----.1 - 2.1",
            "log",
            "log x 5 4 3",
            "log x 5 -----.1=1 4",
            "copies 1 2 3",
            "gone ----- 1..1",
            "x 1",
        ] {
            let mut line = String::new();
            seal(&mut line, words);
            let torn = header() + &line;
            assert_eq!(shown(&State::parse(torn.as_bytes()).unwrap()), shown(&State::default()), "{words}");
            let synced = to_text([&Line::Whole(torn.len() as u64)]);
            assert_eq!(State::parse((torn + &synced).as_bytes()).err(), Some(Damaged(2)), "{words}");
        }
        assert_eq!(State::parse(b"acopio-data 1 ----------\n").err(), Some(Damaged(1)));
        assert_eq!(State::parse(b"").unwrap().identity, None);
    }
}
