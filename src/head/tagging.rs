//! A head marks what it takes, and passes on no record that none of its cluster's heads took.
//!
//! Where a node is heard, its lines are looked at, for readers, for followers and for other nodes alike; what follows for a read
//! or a copy is the business of `reads`, `follow` and `relay`.

use std::rc::Rc;

use bytes::Bytes;

use super::alarms::Log;
use super::effects::Batch;
use super::marks::{Believed, Refused, look};
use super::registered::NodeEntry;
use super::state::Head;
use crate::key::file::{KeyFile, Keys};
use crate::net::Turn;
use crate::reload::Watched;
use crate::wire::frame::Tags;
use crate::wire::ledger::Place;

/// Reads the cluster's keys whenever their file changes and at SIGHUP, until the head is dropped. Who was let in stays.
pub(super) async fn follow(head: Rc<Head>) {
    let Some(path) = &head.config.key_file else { return };
    let Some(mut watched) = Watched::new(vec![path.clone()]) else { return };
    loop {
        if watched.look().await {
            match KeyFile::read_keys(path) {
                Ok(keys) => head.take_keys(&keys),
                Err(error) => tracing::warn!("{error}; the keys of before count"),
            }
        }
    }
}

impl Head {
    fn take_keys(&self, keys: &Keys) {
        *self.config.gate.keys.borrow_mut() = keys.proofs().cloned().collect();
        if let Some(records) = &mut *self.records.borrow_mut() {
            records.key = keys.current.records();
            records.check = records.check.clone().with_keys(keys.records());
        }
        let (also, former) = (keys.also.len(), keys.former.len());
        tracing::info!("the cluster's key is read; beside it count {also} others, and {former} of before for records");
    }

    /// The tags of the records that a batch becomes there; none if this head has no key.
    pub(super) fn tags(&self, batch: &Batch, place: Option<Place>) -> Tags {
        match (&*self.records.borrow(), place) {
            (Some(records), Some(place)) => self.marking.borrow_mut().tags(&records.key, batch, place),
            _ => Tags::none(),
        }
    }

    /// Looks at what a node sent of its records, and lets others have their turn meanwhile.
    pub(super) async fn believe(&self, node: &NodeEntry, lines: Bytes, turn: &mut Turn) -> Believed {
        let Some(records) = self.records.borrow().clone() else { return Believed { lines, ..Believed::default() } };
        let mut refused = Refused::default();
        let mut at = 0;
        while let Some(rest) = lines.get(at..).filter(|rest| !rest.is_empty()) {
            let len = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
            let line = rest.get(..len).unwrap_or_default();
            match look(&records.check, line) {
                None => refused.keep(line),
                Some((cause, unplaced)) => refused.leave_out(&lines, at, cause, unplaced),
            }
            at += len;
            turn.spend(len).await;
        }
        let Some(cause) = refused.cause else { return Believed { lines, ..Believed::default() } };
        let Refused { kept, count, unplaced, .. } = refused;
        self.refused_records.set(self.refused_records.get() + u64::from(count));
        node.refuses(count, cause.words());
        self.say(
            node.ip,
            Log::Warn,
            &format!("dataNode {}: it sends {}; they are passed on to nobody", node.name, cause.words()),
        );
        Believed { lines: kept.freeze(), refused: count, unplaced }
    }
}
