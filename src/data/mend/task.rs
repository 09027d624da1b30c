//! The task of mending: one place after the other, at rest between them.
//!
//! What the cluster has is compared with what this node has frame by frame. A record is written like any other, and only
//! when it is kept, the place is called mended: a crash in between has it asked for once more, and then it is found.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;

use tokio::time::sleep;

use super::ask::{self, Part};
use super::choose::{Candidate, choose};
use super::place::{self, Found, Region};
use super::{At, Cause, Rot};
use crate::data::commit::{Commit, Sender, Verdict};
use crate::data::config::Config;
use crate::data::log::SyncPolicy;
use crate::data::repair::Repair;
use crate::data::scan::Query;
use crate::data::scans::Scans;
use crate::data::segments::QUARANTINE;
use crate::data::session::Identity;
use crate::data::storage::Storage;
use crate::data::worker::{Blocking, Executor};
use crate::limits;
use crate::net::framed::Ended;
use crate::wire::id::{ID_CHARS, RecordId};

/// What became of a place.
enum Outcome {
    /// There is nothing to mend.
    Nothing,
    /// These records are there again.
    Mended(Vec<RecordId>),
    /// No other node has what was there.
    Nobody,
    /// Rot that is too large to be mended.
    TooLarge,
}

/// Why a place has to wait.
struct Waits(String);

/// Runs until it is dropped.
///
/// # Errors
/// The system gives no thread.
pub(crate) fn run<S: Storage + Clone + 'static>(
    rot: Rc<Rot>,
    me: &Identity,
    (commit, scans): (Rc<Commit>, Rc<Scans>),
    storage: S,
    executor: &Executor,
) -> io::Result<impl Future<Output = ()> + use<S>> {
    let blocking = Blocking::start(executor, "mend")?;
    let (config, membership, repair) = (me.config.clone(), Rc::clone(&me.membership), Rc::clone(&me.repair));
    let mut mender = Mender { rot, config, repair, commit, scans, storage, blocking, unwritten: false };
    Ok(async move {
        loop {
            let Some(at) = mender.rot.next().await else {
                mender.unwritten = true;
                if let Err(Waits(cause)) = mender.save().await {
                    tracing::warn!("what others wrote into data.txt is not listed: {cause}");
                }
                continue;
            };
            while membership.heads() == 0 {
                sleep(limits::MEND_AGAIN_MIN).await;
            }
            while mender.commit.waiting() > limits::REPAIR_YIELD_BYTES {
                sleep(limits::REPAIR_YIELD).await;
            }
            let outcome = mender.mend(&at).await;
            mender.conclude(&at, outcome);
            sleep(limits::MEND_REST).await;
        }
    })
}

struct Mender<S> {
    rot: Rc<Rot>,
    config: Config,
    repair: Rc<Repair>,
    commit: Rc<Commit>,
    scans: Rc<Scans>,
    storage: S,
    blocking: Blocking,
    /// The list says more than `quarantine.txt`.
    unwritten: bool,
}

/// Hears whether records are kept.
#[derive(Default)]
struct Heard(RefCell<Option<Verdict>>);

impl Sender for Heard {
    fn settled(&self, _first: u64, _last: u64, verdict: &Verdict) {
        self.0.replace(Some(verdict.clone()));
    }
}

impl<S: Storage + Clone + 'static> Mender<S> {
    /// Says what became of a place, and when it is looked at again.
    fn conclude(&self, at: &At, outcome: Result<Outcome, Waits>) {
        let (file, offset) = at;
        match outcome {
            Ok(Outcome::Nothing) => self.rot.done(at),
            Ok(Outcome::Mended(ids)) => {
                self.rot.done(at);
                let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                let records = if ids.len() == 1 { "record" } else { "records" };
                tracing::info!(
                    "mended {file} line at offset {offset}: {records} {} fetched from the cluster",
                    ids.join(", ")
                );
            }
            Ok(Outcome::Nobody) => {
                if self.rot.later(at, Cause::Nobody) {
                    tracing::warn!(
                        "{file} line at offset {offset} is rotten, and no other node has it: it stays in {QUARANTINE}; \
                         restore it from a backup"
                    );
                }
            }
            Ok(Outcome::TooLarge) => {
                if self.rot.later(at, Cause::Nobody) {
                    tracing::warn!(
                        "{file} line at offset {offset} is rotten for more than {} bytes, which is not mended by itself; \
                         restore the file from a backup, or start an empty node in place of this one",
                        limits::MEND_REGION_BYTES_MAX
                    );
                }
            }
            Err(Waits(cause)) => {
                if self.rot.later(at, Cause::Away) {
                    tracing::warn!("{file} line at offset {offset} is rotten, and waits to be mended: {cause}");
                }
            }
        }
    }

    async fn mend(&mut self, at: &At) -> Result<Outcome, Waits> {
        if self.rot.list.borrow().is_mended(at) {
            // It lay beside one that came before.
            return Ok(Outcome::Nothing);
        }
        let region = match self.look(at).await? {
            Found::Region(region) => region,
            Found::Nothing => return Ok(Outcome::Nothing),
            Found::TooLarge => return Ok(Outcome::TooLarge),
        };
        self.list(at, &region).await?;
        let mut missing = BTreeSet::new();
        let mut candidates = Vec::new();
        for range in ranges(&region, self.commit.view().greatest().unwrap_or_default()) {
            self.gather(range, &region, &mut candidates, &mut missing).await?;
            let choice = choose(&region, &candidates);
            if choice.whole {
                break;
            }
        }
        let choice = choose(&region, &candidates);
        let chosen: Vec<&Candidate> = choice.write.iter().filter_map(|number| candidates.get(*number)).collect();
        self.write(&chosen).await?;
        if choice.whole {
            self.note(at, &region, &choice.ids).await?;
            return Ok(Outcome::Mended(choice.ids));
        }
        // Heads name those whose records are nowhere else; this one wants any copy.
        missing.extend(self.repair.away());
        if missing.is_empty() {
            return Ok(Outcome::Nobody);
        }
        let missing: Vec<_> = missing.into_iter().collect();
        Err(Waits(format!("what {} keeps cannot be read; it is tried again", missing.join(", "))))
    }

    /// What is at a place now.
    async fn look(&mut self, at: &At) -> Result<Found, Waits> {
        let view = self.commit.view();
        let (file, offset) = (at.0.clone(), at.1);
        let current = view.current().filter(|current| current.name.as_deref() == Some(file.as_str()));
        let found = if let Some(current) = current {
            let (reader, bytes) = (current.reader.clone(), current.bytes);
            self.blocking.run(move || place::look(&*reader, bytes, offset)).await
        } else if let Some(sealed) = view.sealed().iter().find(|sealed| sealed.segment.file == file) {
            let (storage, bytes) = (self.storage.clone(), sealed.segment.bytes);
            self.blocking.run(move || place::look(&*storage.open_read(&file)?, bytes, offset)).await
        } else {
            // It was kept long enough.
            return Ok(Found::Nothing);
        };
        match found {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
            other => other.map_err(|error| Waits(format!("cannot read {}: {error}; look at the disk", at.0))),
        }
    }

    /// Sees that every line of a region is in `quarantine.txt`.
    async fn list(&mut self, at: &At, region: &Region) -> Result<(), Waits> {
        let mut new = 0_u64;
        for line in &region.lines {
            let line_at = (at.0.clone(), region.offset + line.at as u64);
            new += u64::from(self.rot.list.borrow_mut().add(&line_at, line.len as u64, &line.reason));
        }
        if new > 0 {
            tracing::warn!(
                "{new} rotten {} in {} at offset {}: {QUARANTINE} lists {}; look at the disk",
                if new == 1 { "line" } else { "lines" },
                at.0,
                region.offset,
                if new == 1 { "it" } else { "them" }
            );
            self.unwritten = true;
        }
        self.save().await
    }

    /// Writes `quarantine.txt`, if it has to be.
    async fn save(&mut self) -> Result<(), Waits> {
        if !self.unwritten {
            return Ok(());
        }
        let (text, storage) = (self.rot.list.borrow().to_text(), self.storage.clone());
        let written = self.blocking.run(move || storage.write_small(QUARANTINE, text.as_bytes())).await;
        written.map_err(|error| Waits(format!("cannot write {QUARANTINE}: {error}; free space or mend the folder")))?;
        self.unwritten = false;
        Ok(())
    }

    /// Gathers what the cluster has in a range and may have been in the region, from the first head that answers.
    async fn gather(
        &self,
        range: (RecordId, RecordId),
        region: &Region,
        candidates: &mut Vec<Candidate>,
        missing: &mut BTreeSet<String>,
    ) -> Result<(), Waits> {
        let mut cause = "no head is named".to_owned();
        for head in self.config.heads.now().iter() {
            let before = candidates.len();
            match self.ask(head, range, region, candidates, missing).await {
                Ok(()) => return Ok(()),
                Err(lost) => cause = format!("head {head}: {lost}"),
            }
            candidates.truncate(before);
        }
        Err(Waits(format!("{cause}; it is tried again")))
    }

    async fn ask(
        &self,
        head: &str,
        (from, until): (RecordId, RecordId),
        region: &Region,
        candidates: &mut Vec<Candidate>,
        missing: &mut BTreeSet<String>,
    ) -> Result<(), Unanswered> {
        let mut asking = ask::ask(&self.config.net, head, self.config.bind, (from, until)).await?;
        let (mut from, mut read) = (from, 0);
        loop {
            match asking.next().await? {
                Part::Lines { next, lines } => {
                    let here = self.here(from, next).await.map_err(Unanswered::Here)?;
                    for line in lines.split_inclusive(|byte| *byte == b'\n') {
                        let id = line.get(..ID_CHARS).and_then(RecordId::from_text);
                        let lacking = id.is_some_and(|id| !here.contains(&id));
                        candidates.extend(Candidate::of(region, &self.config.name, line, lacking));
                    }
                    from = from.max(next);
                    read += lines.len() as u64;
                    let held: usize = candidates.iter().map(Candidate::len).sum();
                    if read > limits::MEND_READ_BYTES_MAX || held > limits::MEND_CANDIDATES_BYTES_MAX {
                        return Ok(());
                    }
                }
                Part::End { missing: names } => {
                    // With one copy, heads count this node among those that lack something.
                    missing.extend(names.into_iter().filter(|name| *name != self.config.name));
                    return Ok(());
                }
            }
        }
    }

    /// The ids that are here and good in a range that the cluster has told everything about.
    async fn here(&self, from: RecordId, until: RecordId) -> Result<BTreeSet<RecordId>, String> {
        // What the cluster told of this node's records may not have been visible before.
        self.commit.until_settled(self.commit.added()).await;
        let mut ids = BTreeSet::new();
        let mut from = from;
        while from < until {
            let query = Query { from, until, client: None, bytes_max: limits::PAGE_BYTES_MAX };
            let page = self.scans.page(query).await.map_err(|error| error.to_string())?;
            let lines = page.lines.split_inclusive(|byte| *byte == b'\n');
            ids.extend(lines.filter_map(|line| RecordId::from_text(line.get(..ID_CHARS)?)));
            from = page.next;
        }
        Ok(ids)
    }

    /// Writes records, and waits until they are as safe as the sync policy makes them.
    async fn write(&self, chosen: &[&Candidate]) -> Result<(), Waits> {
        let records: Vec<_> = chosen.iter().filter_map(|one| one.record()).collect();
        if records.is_empty() {
            return Ok(());
        }
        self.commit.room().await;
        let heard = Rc::new(Heard::default());
        let session = Session { commit: &self.commit, number: self.commit.enter(Rc::clone(&heard) as Rc<dyn Sender>) };
        let added = self.commit.add_lines((session.number, 1), records.into_iter());
        added.map_err(|error| Waits(error.to_string()))?;
        self.commit.until_settled(self.commit.added()).await;
        if let SyncPolicy::Every(time) = self.config.sync {
            // The sync that makes it safe is due by then, and begun.
            sleep(time * 2).await;
        }
        match heard.0.take() {
            Some(Verdict::Kept) => Ok(()),
            Some(Verdict::NotKept(error)) => Err(Waits(error.to_string())),
            None => Err(Waits("nobody knows whether it was written".to_owned())),
        }
    }

    /// Notes that a region is mended.
    async fn note(&mut self, at: &At, region: &Region, ids: &[RecordId]) -> Result<(), Waits> {
        for line in &region.lines {
            let line_at = (at.0.clone(), region.offset + line.at as u64);
            if self.rot.list.borrow_mut().mend(&line_at, ids) {
                self.unwritten = true;
            } else {
                tracing::warn!("{QUARANTINE} is full: {} at offset {} is mended, and not listed so", at.0, line_at.1);
            }
            if line_at != *at {
                self.rot.done(&line_at);
            }
        }
        self.save().await
    }
}

/// Leaves the commit when it is dropped.
struct Session<'a> {
    commit: &'a Commit,
    number: u64,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.commit.exit(self.number);
    }
}

/// Why a head's answer cannot be used.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error(transparent)]
    Lost(#[from] Ended),
    #[error("this node's own records cannot be compared: {0}")]
    Here(String),
}

/// Which ids a region may have had: those that it spells out one by one, then those between its neighbours and a little
/// beside them. Nothing above `greatest`, which this node has seen: nothing later can be rotten.
fn ranges(region: &Region, greatest: RecordId) -> Vec<(RecordId, RecordId)> {
    let mut ranges: Vec<_> = region.hints().into_iter().map(|id| (id, id.next())).collect();
    let margin = u64::try_from(limits::MEND_MARGIN.as_nanos()).unwrap_or(u64::MAX);
    let around = |least: RecordId, most: RecordId| {
        let from = RecordId { time_ns: least.time_ns.saturating_sub(margin), incarnation: 0 };
        let until = RecordId { time_ns: most.time_ns.saturating_add(margin), incarnation: 0 };
        (from, until)
    };
    match (region.before, region.after) {
        (Some(one), Some(other)) if one.time_ns.abs_diff(other.time_ns) <= 2 * margin => {
            ranges.push(around(one.min(other), one.max(other)));
        }
        (before, after) => ranges.extend(before.into_iter().chain(after).map(|id| around(id, id))),
    }
    let end = greatest.next();
    ranges.into_iter().map(|(from, until)| (from, until.min(end))).filter(|(from, until)| from < until).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn id(seconds: u64) -> RecordId {
        RecordId { time_ns: seconds * SECOND, incarnation: 0 }
    }

    fn region(before: Option<u64>, after: Option<u64>) -> Region {
        Region { before: before.map(id), after: after.map(id), ..Region::default() }
    }

    #[test]
    fn a_little_more_than_between_the_neighbours_is_asked_for() {
        let now = id(10_000);
        assert_eq!(ranges(&region(Some(100), Some(110)), now), [(id(85), id(125))]);
        assert_eq!(ranges(&region(Some(110), Some(100)), now), [(id(85), id(125))]);
        assert_eq!(ranges(&region(None, Some(100)), now), [(id(85), id(115))]);
        assert_eq!(ranges(&region(Some(100), Some(5000)), now), [(id(85), id(115)), (id(4985), id(5015))]);
        assert_eq!(ranges(&region(Some(100), Some(101)), id(103)), [(id(85), id(103).next())]);
        assert_eq!(ranges(&region(None, None), now), []);
    }
}
