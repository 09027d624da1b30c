//! Copies that data nodes make again: a head finds a node for them, hands them on and carries the answer back.
//!
//! No client waits for them, so they have no place in the core: here is a table of what is under way, which is pure,
//! and the few steps around it. A node that asks for more than it may, or a target that does not keep up, is told to come
//! back: no node can flood another through its head. A head remembers no records, only their ids, for the registro.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::core::NodeKey;
use super::registered::NodeEntry;
use super::state::Head;
use crate::limits;
use crate::wire::error::{Code, Refusal};
use crate::wire::frame::Frame;
use crate::wire::id::{ID_CHARS, RecordId};

/// A Copy that was handed on and is not answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct UnderWay {
    /// Registration of the node that asked.
    pub(crate) source: u64,
    /// Its number for it.
    pub(crate) number: u64,
    /// Registration of the node that is to keep the records.
    pub(crate) target: u64,
    /// When it was handed on, on the head's own clock.
    pub(crate) since: Duration,
    /// Their ids: first ones and how many follow them.
    pub(crate) ranges: Vec<(RecordId, u32)>,
}

/// The Copies under way, by the number that their targets know.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    last: u64,
    under_way: BTreeMap<u64, UnderWay>,
}

impl Copies {
    /// Notes another one and returns its number; none if its source has too many. One that its source has given up
    /// waiting for is forgotten.
    pub(crate) fn begin(&mut self, copy: UnderWay) -> Option<u64> {
        let given_up = |one: &UnderWay| copy.since.saturating_sub(one.since) >= limits::COPY_TIME_MAX;
        self.under_way.retain(|_, one| one.source != copy.source || !given_up(one));
        if self.under_way.values().filter(|one| one.source == copy.source).count() >= limits::COPIES_UNDER_WAY_MAX {
            return None;
        }
        self.last += 1;
        self.under_way.insert(self.last, copy);
        Some(self.last)
    }

    /// The target answered; none if nobody waits for that.
    pub(crate) fn answered(&mut self, number: u64, target: u64) -> Option<UnderWay> {
        self.under_way.get(&number).filter(|copy| copy.target == target)?;
        self.under_way.remove(&number)
    }

    /// A node is gone: what it asked for is forgotten, and what it was to keep comes back.
    pub(crate) fn left(&mut self, node: u64) -> Vec<UnderWay> {
        self.under_way.retain(|_, copy| copy.source != node);
        let lost: Vec<u64> =
            self.under_way.iter().filter(|(_, copy)| copy.target == node).map(|(number, _)| *number).collect();
        lost.into_iter().filter_map(|number| self.under_way.remove(&number)).collect()
    }
}

/// The ids of these lines, neighbours as ranges.
///
/// # Errors
/// A line that does not begin with an id.
pub(crate) fn ranges(lines: &[u8]) -> Result<Vec<(RecordId, u32)>, Refusal> {
    let mut ranges: Vec<(RecordId, u32)> = Vec::new();
    for line in lines.split_inclusive(|b| *b == b'\n') {
        let Some(id) = line.get(..ID_CHARS).and_then(RecordId::from_text) else {
            return Err(Refusal::new(Code::Protocol, "a line to copy does not begin with a record's id; it is closed"));
        };
        match ranges.last_mut() {
            Some((first, count)) if first.plus(u64::from(*count)) == id => *count += 1,
            _ => ranges.push((id, 1)),
        }
    }
    Ok(ranges)
}

impl Head {
    /// A node wants these lines copied to a node that does not hold them, or to the one called `to`, which may.
    ///
    /// # Errors
    /// The node does not keep to the protocol.
    pub(crate) fn copy(
        &self,
        source: &NodeEntry,
        number: u64,
        (to, holders): (&str, &str),
        lines: Bytes,
    ) -> Result<(), Refusal> {
        let ranges = ranges(&lines)?;
        if let Some(refusal) = self.registro_refusal() {
            source.tell(&refused(number, refusal));
            return Ok(());
        }
        let held: Vec<&str> = holders.split(',').filter(|name| !name.is_empty()).collect();
        let nodes = self.nodes();
        let target = if to.is_empty() {
            let chosen = self.core_mut(|core| core.choose_other(source.key, &held));
            let text = "no other data node can take a copy now; start another";
            let none = || Refusal::new(Code::NoNodes, text);
            chosen.and_then(|key| nodes.iter().find(|node| node.key == key)).ok_or_else(none)
        } else {
            let text = format!("dataNode {to} is not registered here; another head is asked, or it is waited for");
            let named = |node: &&Rc<NodeEntry>| *node.name == *to && node.id.is_some() && node.key != source.key;
            nodes.iter().find(named).ok_or_else(|| Refusal::new(Code::Busy, text))
        };
        let target = match target {
            Ok(target) => target,
            Err(refusal) => {
                source.answer(&refused(number, refusal));
                return Ok(());
            }
        };
        if target.is_behind() {
            let text = format!("dataNode {} does not keep up with what it is sent; try again later", target.name);
            source.answer(&refused(number, Refusal::new(Code::Busy, text)));
            return Ok(());
        }
        let mut names = held;
        names.push(&target.name);
        names.sort_unstable();
        names.dedup();
        if names.len() > limits::REPLICAS_MAX {
            let text = format!("{} copies are the most there can be", limits::REPLICAS_MAX);
            source.answer(&refused(number, Refusal::new(Code::Protocol, text)));
            return Ok(());
        }
        let (from, to) = (source.key.serial(), target.key.serial());
        let copy = UnderWay { source: from, number, target: to, since: self.started.elapsed(), ranges };
        let Some(theirs) = self.copies.borrow_mut().begin(copy) else {
            let text =
                format!("{} copies of this node are under way already; wait for them", limits::COPIES_UNDER_WAY_MAX);
            source.answer(&refused(number, Refusal::new(Code::Busy, text)));
            return Ok(());
        };
        target.tell(&Frame::CopyPut { number: theirs, copies: names.join(","), lines });
        Ok(())
    }

    /// A node keeps a copy, or does not.
    pub(crate) fn copy_answered(&self, target: &NodeEntry, number: u64, refusal: Option<Refusal>) {
        let Some(copy) = self.copies.borrow_mut().answered(number, target.key.serial()) else { return };
        if refusal.is_none() {
            target.id.into_iter().for_each(|id| self.member_keeps_copy(id));
            self.note_kept(target, &copy.ranges);
        }
        self.answer_source(&copy, &target.name, refusal);
    }

    /// A node is gone: who waits for its copies is told.
    pub(crate) fn copies_left(&self, node: NodeKey) {
        for copy in self.copies.borrow_mut().left(node.serial()) {
            let refusal = Refusal::new(Code::Busy, "the data node that was to take the copy is gone; try again");
            self.answer_source(&copy, "", Some(refusal));
        }
    }

    fn answer_source(&self, copy: &UnderWay, node: &str, refusal: Option<Refusal>) {
        if let Some(source) = self.nodes().iter().find(|node| node.key.serial() == copy.source) {
            source.tell(&Frame::CopyAck { number: copy.number, node: node.to_owned(), refusal });
        }
    }
}

fn refused(number: u64, refusal: Refusal) -> Frame {
    Frame::CopyAck { number, node: String::new(), refusal: Some(refusal) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(source: u64, number: u64, target: u64) -> UnderWay {
        UnderWay { source, number, target, since: Duration::ZERO, ranges: Vec::new() }
    }

    #[test]
    fn an_answer_finds_who_asked_once() {
        let mut copies = Copies::default();
        let (one, two) = (copies.begin(copy(1, 7, 2)).unwrap(), copies.begin(copy(3, 7, 2)).unwrap());
        assert_eq!(copies.answered(one, 3), None, "from another node");
        assert_eq!(copies.answered(one, 2), Some(copy(1, 7, 2)));
        assert_eq!(copies.answered(one, 2), None);
        assert_eq!(copies.answered(two, 2), Some(copy(3, 7, 2)));
        assert!(copies.under_way.is_empty());
    }

    #[test]
    fn a_node_that_leaves_ends_what_it_was_part_of() {
        let mut copies = Copies::default();
        copies.begin(copy(1, 1, 2)).unwrap();
        copies.begin(copy(2, 1, 3)).unwrap();
        copies.begin(copy(3, 1, 1)).unwrap();
        assert_eq!(copies.left(2), [copy(1, 1, 2)]);
        assert_eq!(copies.under_way.len(), 1);
    }

    #[test]
    fn a_source_cannot_fill_the_table_nor_flood_its_targets() {
        let mut copies = Copies::default();
        let numbers: Vec<u64> = (0..100).filter_map(|number| copies.begin(copy(1, number, 2))).collect();
        assert_eq!(numbers.len(), limits::COPIES_UNDER_WAY_MAX, "more are not handed on");
        assert!(copies.begin(copy(2, 0, 3)).is_some());
        let later = UnderWay { since: limits::COPY_TIME_MAX, ..copy(1, 100, 2) };
        let number = copies.begin(later.clone()).unwrap();
        assert_eq!(copies.under_way.len(), 2, "what it has given up waiting for is forgotten");
        assert_eq!(copies.answered(numbers[0], 2), None);
        assert_eq!(copies.answered(number, 2), Some(later));
    }

    #[test]
    fn ids_become_ranges() {
        let id = RecordId { time_ns: 1_795_234_260_000_000_000, incarnation: 1 };
        let lines = format!("{} x\n{} y\n{} z\n", id, id.plus(1), id.plus(5));
        assert_eq!(ranges(lines.as_bytes()).unwrap(), [(id, 2), (id.plus(5), 1)]);
        assert!(ranges(b"hola\n").is_err());
    }
}
