//! Where a batch goes, and when it is settled: the part of the core that knows copies and orphans.
//!
//! Still pure: it changes the core's tables and emits effects. Who calls it, and on which event, is in [`super`].

use std::rc::Rc;

use rand::RngExt;

use super::{Core, Effect, Flight, NodeKey, NodeSet, bit, size, size_of_set};
use crate::limits;
use crate::wire::error::{Code, Refusal};
use crate::wire::frame::Messages;
use crate::wire::text::mensaje_bytes;

/// Which nodes are tried that have settled nothing.
#[derive(Clone, Copy)]
enum Tried {
    /// All: there are not enough others.
    All,
    /// Those from where none has failed of late.
    Rested,
    /// None.
    Nobody,
}

impl Core {
    /// How many nodes could take a batch at some time whose longest message has so many bytes: registered, writable, not
    /// leaving and not in `except`.
    pub(super) fn candidates(&self, except: NodeSet, longest: usize) -> usize {
        self.nodes.iter().filter(|(place, node)| node.takes(longest) && except & bit(*place) == 0).count()
    }

    /// Bytes of the longest of these messages, as nodes that speak text are sent it; 0 where there are none of those.
    pub(super) fn longest(&self, messages: &Messages) -> usize {
        if self.bounded == 0 { 0 } else { messages.iter().map(mensaje_bytes).max().unwrap_or(0) }
    }

    /// Which of the nodes that have settled nothing yet may be given a batch that wants so many nodes not in `except`. A
    /// batch that somebody else can keep goes to one of them only while none of them has another, and if it is `fresh`:
    /// however many there are, they hold up one batch.
    fn tried(&self, except: NodeSet, longest: usize, wanted: usize, fresh: bool) -> Tried {
        let able = self.nodes.iter().filter(|(place, node)| node.takes(longest) && except & bit(*place) == 0);
        if able.filter(|(_, node)| node.opening.is_proven()).count() < wanted {
            return Tried::All;
        }
        let on_trial = self.nodes.iter().any(|(_, node)| !node.opening.is_proven() && node.messages > 0);
        if fresh && !on_trial { Tried::Rested } else { Tried::Nobody }
    }

    /// At most `wanted` distinct nodes, every set of them equally likely among those that can take the batch now: one
    /// pass that keeps a random sample (Vitter's algorithm R).
    pub(super) fn choose(
        &mut self,
        except: NodeSet,
        wanted: usize,
        messages: &Messages,
        longest: usize,
        fresh: bool,
    ) -> NodeSet {
        let (bytes, count) = size(messages);
        let mut sample = [0; limits::REPLICAS_MAX];
        let mut seen = 0;
        let tried = self.tried(except, longest, wanted, fresh);
        for (place, node) in &self.nodes {
            let trusted = node.opening.is_proven()
                || match tried {
                    Tried::All => true,
                    Tried::Rested => !self.failures.rests(&node.label.ip, self.looks),
                    Tried::Nobody => false,
                };
            if trusted && node.takes(longest) && except & bit(place) == 0 && node.has_room(bytes, count) {
                let slot = if seen < wanted { seen } else { self.rng.random_range(0..=seen) };
                if let Some(slot) = sample.get_mut(..wanted).and_then(|sample| sample.get_mut(slot)) {
                    *slot = place;
                }
                seen += 1;
            }
        }
        sample.iter().take(wanted.min(seen)).fold(0, |set, place| set | bit(*place))
    }

    /// A node for a copy: uniformly one of those that can take it, have an identity and are neither `source` nor named
    /// in `held`.
    pub(crate) fn choose_other(&mut self, source: NodeKey, held: &[&str]) -> Option<NodeKey> {
        let mut chosen = None;
        let mut seen = 0;
        for (place, node) in &self.nodes {
            let able = node.is_able() && node.label.id.is_some();
            if able && place != source.place && !held.contains(&&*node.label.name) {
                if self.rng.random_range(0..=seen) == 0 {
                    chosen = Some(NodeKey { place, serial: node.serial });
                }
                seen += 1;
            }
        }
        chosen
    }

    /// Sends a batch to these nodes.
    pub(super) fn put(&mut self, flight: usize, chosen: NodeSet) {
        let Some(entry) = self.flights.get_mut(flight) else { return };
        let (bytes, count) = size(&entry.batch.messages);
        entry.asked |= chosen;
        entry.queued = false;
        let holders = entry.asked | entry.kept;
        entry.named = entry.named.max(size_of_set(holders));
        let mut copies: Option<Rc<str>> = None;
        if self.replicas > 1 {
            let named = self.nodes.iter().filter(|(place, _)| holders & bit(*place) != 0);
            copies = Some(named.map(|(_, node)| &*node.label.name).collect::<Vec<_>>().join(",").into());
        }
        for (place, node) in &mut self.nodes {
            if chosen & bit(place) != 0 {
                node.queue.push_back(flight);
                node.bytes += bytes;
                node.messages += count;
                let node = NodeKey { place, serial: node.serial };
                self.effects.push_back(Effect::Put { node, copies: copies.clone(), batch: entry.batch.clone() });
            }
        }
    }

    /// A batch lost one of its nodes: another takes it now, or it waits for room, or it is settled as it is.
    pub(super) fn place_again(&mut self, flight: usize) {
        let Some(entry) = self.flights.get(flight) else { return };
        let holders = entry.asked | entry.kept;
        let except = holders | entry.refused;
        let messages = entry.batch.messages.clone();
        let longest = self.longest(&messages);
        let given_up = entry.suspicion.refusal(self.replicas);
        let missing = match given_up {
            Some(_) => 0,
            None => self.replicas.saturating_sub(size_of_set(holders)).min(self.candidates(except, longest)),
        };
        if let Some(entry) = self.flights.get_mut(flight) {
            entry.cause = given_up.or(entry.cause.take());
        }
        let chosen = self.choose(except, missing, &messages, longest, false);
        if chosen != 0 {
            self.put(flight, chosen);
        }
        if size_of_set(chosen) < missing {
            if let Some(entry) = self.flights.get_mut(flight).filter(|entry| !entry.queued) {
                entry.queued = true;
                self.orphans.push_back(flight);
            }
        } else {
            self.finish(flight);
        }
    }

    /// Settles a batch that nobody is asked for any more: kept if there are copies enough, else refused.
    pub(super) fn finish(&mut self, flight: usize) {
        let Some(entry) = self.flights.get(flight) else { return };
        if entry.asked != 0 || entry.queued {
            return;
        }
        let copies = size_of_set(entry.kept) + entry.gone.len();
        // Who counts on a copy that was never made keeps a record with the right names beside the first: repair, drains
        // and retention go by the names.
        let framed = self.nodes.iter().filter(|(_, node)| node.label.id.is_some());
        let framed = framed.fold(0, |set, (place, _)| set | bit(place));
        let again = entry.misnamed & entry.kept & framed;
        if copies >= self.copies_min && again != 0 {
            if let Some(entry) = self.flights.get_mut(flight) {
                entry.misnamed = 0;
            }
            self.put(flight, again);
        } else if copies >= self.copies_min {
            self.settle_kept(flight);
        } else {
            let longest = self.longest(&entry.batch.messages);
            let refusal = entry.cause.clone().unwrap_or_else(|| self.too_few(copies, longest));
            self.settle_refused(flight, refusal);
        }
    }

    /// Gives waiting batches to nodes that have room now.
    pub(super) fn settle_orphans(&mut self) {
        for _ in 0..self.orphans.len() {
            let Some(flight) = self.orphans.pop_front() else { break };
            if let Some(entry) = self.flights.get_mut(flight) {
                entry.queued = false;
                self.place_again(flight);
            }
        }
    }

    pub(super) fn wake(&mut self) {
        if self.held {
            self.held = false;
            self.effects.push_back(Effect::Room);
        }
    }

    fn forget(&mut self, flight: usize) -> Option<Flight> {
        let entry = self.flights.try_remove(flight)?;
        let (bytes, count) = size(&entry.batch.messages);
        self.counters.in_flight -= count as u64;
        self.counters.in_flight_bytes -= bytes;
        Some(entry)
    }

    fn settle_kept(&mut self, flight: usize) {
        let Some(entry) = self.forget(flight) else { return };
        let count = u64::from(entry.batch.messages.count());
        self.counters.acked += count;
        let kept = self.nodes.iter().filter(|(place, _)| entry.kept & bit(*place) != 0);
        let mut nodes: Vec<_> = kept.map(|(_, node)| Rc::clone(&node.label.ip)).collect();
        let mut alone = None;
        if nodes.len() + entry.gone.len() == 1 {
            let kept = self.nodes.iter().find(|(place, _)| entry.kept & bit(*place) != 0);
            let only = kept.map(|(_, node)| &node.label).or(entry.gone.first());
            alone = only.and_then(|label| label.id).map(|id| (id, entry.named > 1));
        }
        nodes.extend(entry.gone.into_iter().map(|label| label.ip));
        if nodes.len() < self.replicas {
            self.counters.short += count;
        }
        self.effects.push_back(Effect::Kept { batch: entry.batch, nodes, sync: entry.sync, alone });
    }

    fn settle_refused(&mut self, flight: usize, refusal: Refusal) {
        let Some(entry) = self.forget(flight) else { return };
        self.counters.refused += u64::from(entry.batch.messages.count());
        self.effects.push_back(Effect::Refused { batch: entry.batch, refusal });
    }

    /// Why a batch is not kept: there is no node, or none that can write or takes a message of that length, or fewer than have
    /// to keep it.
    pub(super) fn too_few(&self, copies: usize, longest: usize) -> Refusal {
        if self.nodes.is_empty() {
            let text = "no hay dataNodes; start one with 'acopio data --head <this head>', then send again";
            return Refusal::new(Code::NoNodes, text);
        }
        let (registered, wanted) = (self.nodes.len(), self.copies_min);
        if self.nodes.iter().all(|(_, node)| node.leaving) {
            let text = "all dataNodes are leaving; start another, then send again";
            return Refusal::new(Code::NoNodes, text);
        }
        if self.candidates(0, longest) < wanted && self.candidates(0, 0) >= wanted {
            let most = self.nodes.iter().filter_map(|(_, node)| node.message_bytes).max().unwrap_or(0);
            let text = format!(
                "the message is sent as {longest} bytes to dataNodes that speak text, and {most} are the most that they \
                 are sent; send shorter ones, start 'acopio data', or raise --node-bytes"
            );
            return Refusal::new(Code::TooLong, text);
        }
        if wanted == 1 {
            let text = format!(
                "none of the {registered} dataNodes can write; see 'acopio status' for the cause, then send again"
            );
            return Refusal::new(Code::DiskFull, text);
        }
        let text = format!(
            "{wanted} copies have to be kept and {copies} can be; start more dataNodes or lower --min-copies, then send again"
        );
        Refusal::new(Code::NoNodes, text)
    }
}
