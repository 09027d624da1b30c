//! Copies on their way from a node that has them to one that lacks them, through this head.
//!
//! [`super::relayed`] says who asked. What is not believed was left out before ([`super::marks`]), and who sent such records is
//! asked only for what nobody else has.

use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;

use super::registered::NodeEntry;
use super::relayed::Asker;
use super::state::Head;
use crate::limits;
use crate::wire::frame::Frame;
use crate::wire::ledger::{LedgerId, NodeId};

impl Head {
    /// A node asks for entries: whoever has them is asked, or it hears at once that nobody has.
    pub(crate) fn fetch(&self, asker: &NodeEntry, request: u32, ledger: LedgerId, entries: Range<u32>) {
        let serial = asker.key.serial();
        let busy = self.relay.borrow().open.values().filter(|open| open.serial == serial).count();
        let asks = asker.id.filter(|_| busy < limits::FETCHES_OF_NODE_MAX);
        let source = asks.and_then(|node| {
            let nodes = self.nodes();
            let here = |node: NodeId| nodes.iter().find(|entry| entry.id == Some(node) && !entry.is_behind());
            let of = |believed: bool| {
                let may = |node| here(node).is_some_and(|entry| (entry.refused.get() == 0) == believed);
                let sources = self.heard(|heard| heard.sources(node, ledger, entries.clone(), may));
                sources.into_iter().find_map(|source| Some((Rc::clone(here(source.node)?), source.entries)))
            };
            of(true).or_else(|| of(false))
        });
        let Some((source, entries)) = source else {
            return asker.answer(&Frame::Fetched { request, lines: Bytes::new() });
        };
        let mut relay = self.relay.borrow_mut();
        let number = relay.next;
        relay.next = relay.next.wrapping_add(1);
        relay.open.insert((source.key.serial(), number), Asker { serial, request });
        source.tell(&Frame::Fetch { request: number, ledger, entries });
    }

    /// A node answers what another one asked for.
    pub(crate) fn fetched(&self, source: &NodeEntry, request: u32, lines: Bytes) {
        let asker = self.relay.borrow_mut().open.remove(&(source.key.serial(), request));
        let Some(asker) = asker else { return };
        let entry = self.nodes().into_iter().find(|entry| entry.key.serial() == asker.serial);
        if let Some(entry) = entry {
            // Who does not read what it asks for gets nothing.
            let lines = if entry.is_behind() { Bytes::new() } else { lines };
            entry.tell(&Frame::Fetched { request: asker.request, lines });
        }
    }

    /// A node is gone: what it was asked for does not come, and what it asked for nobody wants.
    pub(crate) fn relay_left(&self, serial: u64) {
        let mut relay = self.relay.borrow_mut();
        relay.open.retain(|_, asker| asker.serial != serial);
        let lost: Vec<_> =
            relay.open.range((serial, 0)..=(serial, u32::MAX)).map(|(key, asker)| (*key, *asker)).collect();
        for (key, _) in &lost {
            relay.open.remove(key);
        }
        drop(relay);
        for (_, asker) in lost {
            let entry = self.nodes().into_iter().find(|entry| entry.key.serial() == asker.serial);
            if let Some(entry) = entry {
                entry.tell(&Frame::Fetched { request: asker.request, lines: Bytes::new() });
            }
        }
    }
}
