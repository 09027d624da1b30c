//! Offers peers the records that they may lack though lines name them. What is in doubt, `doubt` knows; here are the
//! steps around it: `doubts.txt` is written, and the files in doubt are gone through.
//!
//! One chunk is under way at a time, at the pace of repair and after what is known to be short. A peer that has a record
//! drops it. Nothing is noted of an offer but how far it has come: what the node believes of its holders is right then.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use tokio::time::Instant;

use super::doubt::{DOUBTS, Doubt, Place, end};
use super::need::names;
use super::presence::Standing;
use super::sweep::{File, Stopped, Sweeper, files, read_part};
use crate::data::holdings::OTHERS;
use crate::data::storage::Storage;
use crate::limits;

/// What `doubts.txt` says, and since when.
#[derive(Debug, Default)]
pub(crate) struct Noted(Option<(Instant, String)>);

impl<S: Storage + Clone + 'static> Sweeper<'_, S>
where
    S::File: 'static,
{
    /// Writes `doubts.txt` if something has changed, and not too often: what it said before is in doubt as well.
    pub(super) async fn note_doubts(&mut self) -> io::Result<()> {
        if let Some((at, _)) = &self.noted.0
            && at.elapsed() < limits::DOUBTS_EVERY
        {
            return Ok(());
        }
        let text = {
            let unsynced = self.repair.presence.borrow().is_unsynced();
            self.repair.doubts.borrow().to_text(&self.commit.view(), unsynced, self.repair.now())
        };
        if self.noted.0.as_ref().is_some_and(|(_, noted)| *noted == text) {
            return Ok(());
        }
        let (storage, written) = (self.storage.clone(), text.clone());
        self.blocking.run(move || storage.write_small(DOUBTS, written.as_bytes())).await?;
        self.noted.0 = Some((Instant::now(), text));
        Ok(())
    }

    /// Offers everything in doubt to those who are here.
    pub(super) async fn offer(&mut self) -> Result<(), Stopped> {
        self.bound_doubts().await;
        #[cfg(feature = "simulation")]
        if super::IDLES.get() {
            return Ok(());
        }
        let in_doubt: Vec<(String, Doubt)> =
            self.repair.doubts.borrow().iter().map(|(name, doubt)| (name.to_owned(), doubt)).collect();
        let mut refused = Ok(());
        for (name, doubt) in in_doubt {
            if self.is_here(&name) {
                match self.offer_to(&name, doubt).await {
                    // Others may take what is for them.
                    Err(Stopped::Refused(refusal)) => refused = Err(Stopped::Refused(refusal)),
                    other => other?,
                }
            }
        }
        refused
    }

    /// A name that is another node now has to be understood first.
    fn is_here(&self, name: &str) -> bool {
        self.repair.judged(|judge| (judge.standing)(name)) == Standing::Present
    }

    /// Finds out where doubts end, and whom those about everybody concern.
    async fn bound_doubts(&mut self) {
        if !self.repair.doubts.borrow().is_growing() {
            return;
        }
        let growing = self.repair.doubts.borrow_mut().take_growing();
        // What was put before a head was lost may be under way to the disk.
        self.commit.until_settled(self.commit.added()).await;
        let view = self.commit.view();
        let (files, end) = (files(&view), end(&view));
        let mut doubts = self.repair.doubts.borrow_mut();
        for (name, from) in growing {
            let Some(name) = name else {
                let known = self.repair.peers.borrow();
                let in_doubt = files.iter().filter(|file| file.serial >= from.file);
                let lists = || in_doubt.clone().flat_map(|file| file.holdings.iter().map(|(written, _)| written));
                lists().flat_map(names).filter(|name| *name != OTHERS).for_each(|name| doubts.doubt(name, from, end));
                // Past a number of different lists of names nobody knows who is meant.
                if lists().any(|written| written == OTHERS) {
                    known.names().for_each(|name| doubts.doubt(name, from, end));
                }
                doubts.forget(&self.repair.me);
                continue;
            };
            doubts.doubt(&name, from, end);
        }
    }

    /// Offers a peer what names it in the places in doubt.
    async fn offer_to(&mut self, name: &str, doubt: Doubt) -> Result<(), Stopped> {
        let view = self.commit.view();
        for file in files(&view) {
            if doubt.concerns(file.serial) && file.holdings.shared_with(name) > 0 {
                self.offer_file(file, name, doubt).await?;
            }
        }
        self.offered(name, doubt, doubt.to)
    }

    async fn offer_file(&mut self, file: File, name: &str, doubt: Doubt) -> Result<(), Stopped> {
        let on_disk = |error| Stopped::Disk(file.name.to_string(), error);
        let reader = self.reader(&file).await.map_err(on_disk)?;
        let mut at = if file.serial == doubt.from.file { doubt.from.offset } else { 0 };
        let end = if file.serial == doubt.to.file { doubt.to.offset.min(file.bytes) } else { file.bytes };
        // By who holds them: what is written down there has to say that.
        let mut chunks = BTreeMap::<String, Vec<u8>>::new();
        let mut gathered = 0;
        while at < end {
            let reader = Arc::clone(&reader);
            let part = self.blocking.run(move || read_part(&*reader, at, end)).await.map_err(on_disk)?;
            for line in part.lines.iter().filter(|line| names(&line.written).contains(&name)) {
                let bytes = part.bytes.get(line.at..line.at + line.len).unwrap_or_default();
                let offset = part.offset + line.at as u64;
                if gathered > 0 && gathered + bytes.len() > limits::COPY_BYTES_MAX {
                    self.send(name, std::mem::take(&mut chunks)).await?;
                    gathered = 0;
                    self.offered(name, doubt, Place { file: file.serial, offset })?;
                }
                let holders = self.holders(&file.name, offset, &line.written);
                // It may be another node that has the name now: what the one before it had is known to be missing.
                if names(&holders).contains(&name) {
                    let live = self.repair.need(&line.written, &holders).live;
                    chunks.entry(live).or_default().extend_from_slice(bytes);
                    gathered += bytes.len();
                }
            }
            at = part.next;
        }
        self.send(name, chunks).await?;
        self.offered(name, doubt, Place { file: file.serial, offset: end })
    }

    /// Who holds a record that begins there.
    fn holders(&self, file: &str, offset: u64, written: &str) -> String {
        let overlay = self.repair.overlay.borrow();
        overlay.find(file, offset, written).map_or(written, |range| range.holders.as_str()).to_owned()
    }

    /// Offers lines, by who holds them.
    async fn send(&mut self, name: &str, chunks: BTreeMap<String, Vec<u8>>) -> Result<(), Stopped> {
        for (holders, lines) in chunks {
            self.turn(lines.len()).await;
            // The peer may be registered with some heads only: each refusal turns to the next one.
            let mut heads = self.repair.links.borrow().len().max(1);
            while let Err(refusal) = self.repair.copy((name, &holders), &lines).await {
                heads -= 1;
                if heads == 0 {
                    return Err(Stopped::Refused(refusal));
                }
            }
            // What another node got under that name says nothing of this one; and the names may be others now.
            if !self.repair.replaced.borrow().is_empty() {
                return Err(Stopped::Changed);
            }
        }
        Ok(())
    }

    fn offered(&self, name: &str, doubt: Doubt, place: Place) -> Result<(), Stopped> {
        let mut doubts = self.repair.doubts.borrow_mut();
        if doubts.offered(name, doubt.turn, place) { Ok(()) } else { Err(Stopped::Changed) }
    }
}
