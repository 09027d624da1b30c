//! Reads in the middle of a run: what claims to be complete has all that was acknowledged before it was asked for.

use std::collections::BTreeSet;

use super::World;
use crate::simulation::readers::Reading;
use crate::simulation::verdict::{Stored, shown};

/// Reads under way, and what came of those that are over.
#[derive(Default)]
pub(super) struct Claims {
    under_way: Vec<Asked>,
    found: Vec<String>,
    /// How many say that they are complete.
    pub(super) complete: usize,
    /// Clusters that were founded apart: they miss each other's nodes only once these have met.
    pub(super) foundings: usize,
}

/// A read, and what was acknowledged when it was asked for.
struct Asked {
    reading: Reading,
    acked: BTreeSet<Vec<u8>>,
}

impl Claims {
    /// What must not be. A head that lost its `head.state` and hears none but new nodes takes the cluster for one that begins:
    /// `may_forget` says that this can have been.
    pub(super) fn problems(&mut self, may_forget: bool) -> Vec<String> {
        if self.foundings > 1 || may_forget { Vec::new() } else { std::mem::take(&mut self.found) }
    }
}

impl World {
    /// Begins to read.
    pub(super) fn ask_for_all(&mut self, partial: bool) {
        let acked = self.book.borrow().acks.iter().map(|ack| ack.payload.clone()).collect();
        let reading = self.read(false, partial);
        self.claims.under_way.push(Asked { reading, acked });
    }

    /// On which disks a message is, and as which entry.
    pub(super) fn places_of(&self, payload: &[u8]) -> String {
        let place = |record: Stored| {
            let entry = record.entry.map(|(ledger, entry)| format!(" entry {entry} of ledger {ledger}"));
            format!("{}{}", record.node, entry.unwrap_or_default())
        };
        let places: Vec<String> =
            self.stored().into_iter().filter(|record| record.payload == payload).map(place).collect();
        places.join(", ")
    }

    /// Looks at the reads that are over. What is on no disk any more is lost, and no read is to have it.
    pub(super) fn look_at_claims(&mut self) {
        let (over, under_way) =
            std::mem::take(&mut self.claims.under_way).into_iter().partition(|asked| asked.reading.is_over());
        self.claims.under_way = under_way;
        let over: Vec<Asked> = over;
        for Asked { reading, acked } in over {
            let notes = reading.notes.borrow();
            if !notes.errors.is_empty() || notes.ended.as_ref().is_none_or(|missing| !missing.is_empty()) {
                continue;
            }
            self.claims.complete += 1;
            let read: BTreeSet<&[u8]> = notes.delivered.iter().map(|message| &*message.payload).collect();
            let stored: BTreeSet<Vec<u8>> = self.stored().into_iter().map(|record| record.payload).collect();
            let lacks: Vec<_> =
                acked.iter().filter(|payload| stored.contains(*payload) && !read.contains(&***payload)).collect();
            let count = lacks.len();
            if let Some(first) = lacks.first() {
                let (first, places) = (shown(first), self.places_of(first));
                let what =
                    format!("a read that claims to be complete lacks {count} messages: {first}, kept as {places}");
                self.claims.found.push(what.clone());
                self.note(&what);
            }
        }
    }
}
