//! Reads what the disks hold at the end of a run.

use std::net::IpAddr;
use std::sync::PoisonError;

use super::{World, digest_of};
use crate::data::log::{Log, Settings, SyncPolicy};
use crate::data::storage::Storage as _;
use crate::data::{record, segments};
use crate::simulation::verdict::{Evidence, Stored, registro_ids};
use crate::wire::frame::SyncMode;

/// The good records in a file of a node.
pub(super) fn stored_in(node: IpAddr, text: &[u8]) -> impl Iterator<Item = Stored> {
    let lines = text.split(|&b| b == b'\n').filter_map(|line| record::decode(line).ok());
    lines.map(move |line| Stored {
        node,
        id: line.id,
        number: (line.client, line.seq),
        entry: line.entry(),
        source: line.source,
        payload: line.payload().into_owned(),
    })
}

impl World {
    /// Opens every log as a node would, and reads all of it; and a hash over what there is.
    pub(super) fn evidence(&mut self) -> (Evidence, u64) {
        let mut stored = Vec::new();
        let mut digest = 0;
        let settings = Settings { segment_bytes: self.shape.segment_bytes, sync: SyncPolicy::Always };
        for node in &self.nodes {
            // A log that can't be opened holds nothing that could be read: what was acknowledged is lost.
            let opened = Log::open(node.disk.clone(), settings).map(drop);
            if let Err(error) = opened {
                tracing::error!(target: "acopio::simulation", "{}: {error}", node.ip);
                continue;
            }
            for name in node.disk.list().unwrap_or_default().iter().filter(|name| segments::is_data(name)) {
                let text = node.disk.contents(name);
                digest = digest_of([&*text], digest);
                stored.extend(stored_in(node.ip, &text));
            }
        }
        let registros = self.heads.iter().map(|head| head.registro.lock().unwrap_or_else(PoisonError::into_inner));
        let registro = registros.flat_map(|text| registro_ids(&text)).collect();
        let mut book = self.book.borrow_mut();
        let mut acks = std::mem::take(&mut book.acks);
        for ack in acks.iter_mut().filter(|ack| ack.number.is_none()) {
            ack.sync = match self.shape.sync {
                SyncPolicy::Always => SyncMode::Always,
                SyncPolicy::Every(_) => SyncMode::Interval,
                SyncPolicy::Never => SyncMode::Never,
            };
        }
        digest = digest_of(acks.iter().map(|ack| &*ack.payload), digest);
        let ordered = self.shape.heads == 1 && self.shape.faults.is_empty();
        let evidence = Evidence {
            sent: std::mem::take(&mut book.sent).into_keys().collect(),
            torn: std::mem::take(&mut book.torn),
            acks,
            stored,
            wiped: self.wiped.clone(),
            left: self.left.clone(),
            registro,
            copies_min: self
                .shape
                .copies_at_last()
                .map_or(self.shape.copies_min, |copies| copies.least.min(self.shape.copies_min)),
            ordered,
        };
        (evidence, digest)
    }
}
