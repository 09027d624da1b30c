//! Copies on their way from a node that has them to one that lacks them, through this head.
//!
//! What is not believed was left out before ([`super::tagging`]), and who sent such records is asked only for what nobody else has.

use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;

use super::questions::Fetcher;
use super::registered::NodeEntry;
use super::state::Head;
use crate::limits;
use crate::wire::frame::Frame;
use crate::wire::ledger::{LedgerId, NodeId};

impl Head {
    /// A node asks for entries: whoever has them is asked, or it hears at once that nobody has.
    pub(crate) fn fetch(&self, asker: &NodeEntry, request: u32, ledger: LedgerId, entries: Range<u32>) {
        let (serial, nodes) = (asker.key.serial(), self.nodes());
        let busy: usize = nodes.iter().map(|node| node.fetches.count(|other| other.serial == serial)).sum();
        let asks = asker.id.filter(|_| busy < limits::FETCHES_OF_NODE_MAX);
        let source = asks.and_then(|node| {
            let here = |node: NodeId| nodes.iter().find(|entry| entry.id == Some(node) && !entry.is_behind());
            let of = |believed: bool| {
                let may = |node| here(node).is_some_and(|entry| (entry.refused.get() == 0) == believed);
                let sources = self.heard(|heard| heard.sources(node, ledger, entries.clone(), may));
                sources.into_iter().find_map(|source| Some((Rc::clone(here(source.node)?), source.entries)))
            };
            of(true).or_else(|| of(false))
        });
        let asked = source.and_then(|(source, entries)| {
            let number = source.fetches.ask(limits::FETCHES_AT_NODE_MAX, Fetcher { serial, request })?;
            source.tell(&Frame::Fetch { request: number, ledger, entries });
            Some(())
        });
        if asked.is_none() {
            asker.answer(&nothing(request));
        }
    }

    /// A node answers what another one asked for.
    pub(crate) fn fetched(&self, source: &NodeEntry, request: u32, lines: Bytes) {
        if let Some(asker) = source.fetches.answered(request) {
            self.pass_on(asker, lines);
        }
    }

    /// A node is gone: what it was asked for does not come, and what it asked for nobody wants.
    pub(crate) fn relay_left(&self, left: &NodeEntry) {
        let serial = left.key.serial();
        self.nodes().iter().for_each(|node| node.fetches.retain(|asker| asker.serial != serial));
        left.fetches.take_all().for_each(|asker| self.pass_on(asker, Bytes::new()));
    }

    fn pass_on(&self, asker: Fetcher, lines: Bytes) {
        if let Some(entry) = self.nodes().into_iter().find(|entry| entry.key.serial() == asker.serial) {
            // Who does not read what it asks for gets nothing.
            let lines = if entry.is_behind() { Bytes::new() } else { lines };
            entry.tell(&Frame::Fetched { request: asker.request, lines });
        }
    }
}

/// Nobody has it.
const fn nothing(request: u32) -> Frame {
    Frame::Fetched { request, lines: Bytes::new() }
}
