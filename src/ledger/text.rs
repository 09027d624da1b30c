//! Notes as lines of text, as they stand in `node.state` and `head.state`. Each line ends in a checksum.

use std::fmt::Write as _;
use std::str::FromStr;

use super::id::{ENTRIES_MAX, NodeId};
use super::note::Note;
use super::roster::{Copies, Founding, Generation, Record};
use crate::limits::{NODE_NAME_BYTES_MAX, REPLICAS_MAX};
use crate::wire::ledger::{Digits, parse_number};
use crate::wire::peer::is_name;
use crate::wire::record::text_checksum;

/// Stands for nothing where a line has to have a word.
pub(crate) const NONE: &str = "-";

/// Adds a line with its checksum.
pub(crate) fn seal(out: &mut String, words: &str) {
    // Writing to a string does not fail.
    writeln!(out, "{words} {}", text_checksum(words)).unwrap_or_default();
}

/// The words of a line without its newline; none if it is damaged.
#[must_use]
pub(crate) fn open(line: &str) -> Option<&str> {
    let (words, crc) = line.rsplit_once(' ')?;
    (crc == text_checksum(words)).then_some(words)
}

/// Adds the lines of a note: a roster is a line for each of its parts.
pub(crate) fn write(out: &mut String, note: &Note) {
    match note {
        Note::Part { ledger } => seal(out, &format!("part {ledger}")),
        Note::Hold { ledger, members, from, end, settled, urgent: _ } => {
            let members: Vec<String> = members.iter().map(ToString::to_string).collect();
            let members = if members.is_empty() { NONE.to_owned() } else { members.join(",") };
            let settled = if *settled { " settled" } else { "" };
            seal(out, &format!("hold {ledger} {members} {}..{}{settled}", Digits(*from), Digits(*end)));
        }
        Note::From { ledger, from } => seal(out, &format!("from {ledger} {}", Digits(*from))),
        Note::Gone { incarnation, numbers } => {
            seal(out, &format!("gone {incarnation} {}..{}", Digits(numbers.start), Digits(numbers.end)));
        }
        Note::Roster { identities, copies, foundings } => {
            // First, for a crash may leave the first lines of a founding alone: identities without M and R would begin no
            // cluster and belong to none.
            if let Some(Copies { replicas, least, before, generation }) = copies {
                seal(out, &format!("copies {replicas} {least} {before} {generation}"));
            }
            for (node, Record { generation, name }) in identities {
                let name = if name.is_empty() { NONE } else { name };
                seal(out, &format!("roster {node} {} {name}", generation.0));
            }
            for Founding { time_ns, head } in foundings {
                seal(out, &format!("founding {time_ns} {head}"));
            }
        }
    }
}

/// Takes words off a line.
pub(crate) struct Words<'a>(std::str::Split<'a, char>);

impl<'a> Words<'a> {
    /// Those of a line without its checksum.
    pub(crate) fn new(words: &'a str) -> Self {
        Self(words.split(' '))
    }

    /// The next one.
    pub(crate) fn next(&mut self) -> Option<&'a str> {
        self.0.next().filter(|word| !word.is_empty())
    }

    /// What the next one says.
    pub(crate) fn parse<T: FromStr>(&mut self) -> Option<T> {
        self.next()?.parse().ok()
    }

    /// The same, which may be left out.
    pub(crate) fn maybe<T: FromStr>(&mut self) -> Option<Option<T>> {
        match self.next()? {
            NONE => Some(None),
            word => word.parse().ok().map(Some),
        }
    }

    /// A name, which may be left out.
    pub(crate) fn name(&mut self, bytes_max: usize) -> Option<String> {
        match self.next()? {
            NONE => Some(String::new()),
            name => is_name(name, bytes_max).then(|| name.to_owned()),
        }
    }

    /// Whether there is nothing more.
    pub(crate) fn is_over(&mut self) -> bool {
        self.0.next().is_none()
    }

    fn entry(&mut self) -> Option<u32> {
        parse_entry(self.next()?)
    }

    fn range(&mut self) -> Option<std::ops::Range<u32>> {
        let (from, end) = self.next()?.split_once("..")?;
        Some(parse_entry(from)?..parse_entry(end)?)
    }
}

/// An entry, or the end of all entries.
pub(crate) fn parse_entry(text: &str) -> Option<u32> {
    parse_number(text.as_bytes()).or_else(|| (text == Digits(ENTRIES_MAX).to_string()).then_some(ENTRIES_MAX))
}

/// The note of a line that begins with this word.
pub(crate) fn parse(word: &str, words: &mut Words<'_>) -> Option<Note> {
    Some(match word {
        "part" => Note::Part { ledger: words.parse()? },
        "hold" => {
            let (ledger, members, range) = (words.parse()?, words.next()?, words.range()?);
            let members: Vec<NodeId> = match members {
                NONE => Vec::new(),
                members => members.split(',').map(|node| node.parse().ok()).collect::<Option<_>>()?,
            };
            // More may be let go than was acknowledged: then it begins behind its end.
            let settled = match words.next() {
                None => false,
                Some("settled") => true,
                Some(_) => return None,
            };
            let fits = members.len() <= REPLICAS_MAX;
            let (from, end) = (range.start, range.end);
            fits.then_some(Note::Hold { ledger, members: members.into(), from, end, settled, urgent: true })?
        }
        "from" => Note::From { ledger: words.parse()?, from: words.entry()? },
        "gone" => {
            let (incarnation, numbers) = (words.parse()?, words.range()?);
            (!numbers.is_empty()).then_some(Note::Gone { incarnation, numbers })?
        }
        "roster" => {
            let (node, generation) = (words.parse()?, Generation(words.parse()?));
            let name = words.name(NODE_NAME_BYTES_MAX)?.into();
            roster(vec![(node, Record { generation, name })], None, Vec::new())
        }
        "copies" => {
            let (replicas, least, before) = (words.parse()?, words.parse()?, words.parse()?);
            let generation = words.parse()?;
            roster(Vec::new(), Some(Copies { replicas, least, before, generation }), Vec::new())
        }
        "founding" => {
            let (time_ns, head) = (words.parse()?, words.parse()?);
            roster(Vec::new(), None, vec![Founding { time_ns, head }])
        }
        _ => return None,
    })
}

const fn roster(identities: Vec<(NodeId, Record)>, copies: Option<Copies>, foundings: Vec<Founding>) -> Note {
    Note::Roster { identities, copies, foundings }
}
