//! What data nodes that speak text keep: records that no read gives back.
//!
//! Such a node has no identity, so it is known by how it speaks and its address. Pure; the lines are part of `head.state`, so
//! that a head which starts again goes on saying it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use super::registered::word;
use crate::limits::{NODE_NAME_BYTES_MAX, TEXT_NODES_KNOWN_MAX};
use crate::wire::text::Dialect;

/// First word of a line of [`Unread::to_text`].
pub(crate) const LINE: &str = "text ";

/// Stands for all nodes beyond those that are known by name.
const OTHERS: &str = "text-others";

/// How a node that speaks text is called where the port of one connection says nothing.
#[must_use]
pub(crate) fn name(dialect: Dialect, ip: IpAddr) -> String {
    format!("{}-{ip}", word(dialect))
}

/// How much more a node keeps, as far as the file is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Growth {
    /// It had nothing before.
    First,
    /// About twice as much as when this was said last.
    Doubled,
    /// Not worth a write of the file.
    Little,
}

/// Records by the name of the node.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Unread(BTreeMap<String, u64>);

impl Unread {
    /// A node keeps so many more.
    pub(crate) fn add(&mut self, name: &str, records: u64) -> Growth {
        let known = self.0.contains_key(name) || self.0.len() < TEXT_NODES_KNOWN_MAX;
        let kept = self.0.entry(if known { name } else { OTHERS }.to_owned()).or_default();
        let before = *kept;
        *kept += records;
        match (before, before.leading_zeros() > kept.leading_zeros()) {
            (0, _) => Growth::First,
            (_, true) => Growth::Doubled,
            (_, false) => Growth::Little,
        }
    }

    /// Nobody asks for what this node keeps any more. False if there is no such node.
    pub(crate) fn forget(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }

    /// Their names, and how many records each keeps.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, records)| (name.as_str(), *records))
    }

    /// A line for each: `text <records> <name>`.
    #[must_use]
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        for (name, records) in &self.0 {
            // Writing to a string cannot fail.
            writeln!(text, "{LINE}{records} {name}").unwrap_or_default();
        }
        text
    }

    /// Takes a line of that; false if it makes no sense.
    pub(crate) fn take_line(&mut self, line: &str) -> bool {
        let fields = line.strip_prefix(LINE).and_then(|rest| rest.split_once(' '));
        let Some((records, name)) = fields else { return false };
        let Ok(records @ 1..) = records.parse() else { return false };
        if name.is_empty() || name.len() > NODE_NAME_BYTES_MAX || name.contains(' ') {
            return false;
        }
        self.add(name, records);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_nonsense_is_not() {
        let mut unread = Unread::default();
        let growth = [1, 1, 1, 1, 3].map(|records| unread.add("raw-10.0.0.9", records));
        assert_eq!(growth, [Growth::First, Growth::Doubled, Growth::Little, Growth::Doubled, Growth::Little]);
        assert_eq!(unread.add(&name(Dialect::Line, IpAddr::from([10, 0, 0, 9])), 1), Growth::First);
        let text = unread.to_text();
        assert_eq!(text, "text 1 line-10.0.0.9\ntext 7 raw-10.0.0.9\n");
        let mut again = Unread::default();
        assert!(text.lines().all(|line| again.take_line(line)));
        assert_eq!(again, unread);
        for line in ["text 0 a", "text x a", "text 1 ", "text 1 a b", "other 1 a"] {
            assert!(!again.take_line(line), "{line}");
        }
        assert!(again.forget("raw-10.0.0.9") && !again.forget("raw-10.0.0.9"));
    }

    #[test]
    fn the_table_is_bounded_and_counts_all() {
        let mut unread = Unread::default();
        for k in 0..10 * TEXT_NODES_KNOWN_MAX {
            unread.add(&format!("raw-{k}"), 1);
        }
        assert_eq!(unread.iter().count(), TEXT_NODES_KNOWN_MAX + 1);
        assert_eq!(unread.iter().map(|(_, records)| records).sum::<u64>(), 10 * TEXT_NODES_KNOWN_MAX as u64);
    }
}
