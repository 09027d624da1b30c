//! Keeps copies that other nodes send through a head: each line is checked, written with the names of its holders, and
//! acknowledged when it is as safe as any other record. A record that is here already is not written again.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Repair;
use super::need::names;
use crate::data::commit::{Commit, Sender, Verdict};
use crate::data::record::{self, Line};
use crate::data::scan::Query;
use crate::data::scans::Scans;
use crate::limits;
use crate::net::Outbox;
use crate::wire::error::{Code, Refusal};
use crate::wire::frame::Frame;
use crate::wire::id::{ID_CHARS, RecordId};

/// Lines to keep.
struct Put {
    number: u64,
    copies: String,
    lines: Bytes,
}

/// The front: it takes what a session reads.
pub(crate) struct Receiver(mpsc::Sender<Put>);

impl Receiver {
    /// Takes lines to keep.
    ///
    /// # Errors
    /// The head sent more than it may have under way.
    pub(crate) fn put(&self, number: u64, copies: String, lines: Bytes) -> Result<(), Refusal> {
        self.0.try_send(Put { number, copies, lines }).map_err(|_| {
            let text = format!("more than {} copies wait to be kept; it is closed", limits::COPIES_WAITING_MAX);
            Refusal::new(Code::Protocol, text)
        })
    }
}

/// Acknowledges copies when they are settled.
struct Settler {
    link: Rc<Outbox>,
    repair: Rc<Repair>,
    /// The head's numbers, by the numbers of this session.
    waiting: RefCell<BTreeMap<u64, u64>>,
}

impl Settler {
    fn answer(&self, number: u64, refusal: Option<Refusal>) {
        let frame = Frame::CopyAck { number, node: self.repair.me.clone(), refusal };
        if let Err(error) = self.link.with(|out| frame.encode(out)) {
            tracing::error!("a CopyAck cannot be encoded: {error}");
        }
    }
}

impl Sender for Settler {
    fn settled(&self, first: u64, last: u64, verdict: &Verdict) {
        for own in first..=last {
            let number = self.waiting.borrow_mut().remove(&own);
            let refusal = match verdict {
                Verdict::Kept => None,
                Verdict::NotKept(error) => Some(Refusal::new(Code::Storage, error.to_string())),
            };
            number.into_iter().for_each(|number| self.answer(number, refusal.clone()));
        }
    }
}

/// A receiver for one session, and what does its work: run it beside the session.
pub(crate) fn pair(
    link: Rc<Outbox>,
    repair: Rc<Repair>,
    commit: Rc<Commit>,
    scans: Rc<Scans>,
) -> (Receiver, impl Future<Output = ()>) {
    let (sender, mut puts) = mpsc::channel::<Put>(limits::COPIES_WAITING_MAX);
    let work = async move {
        let settler = Rc::new(Settler { link, repair, waiting: RefCell::default() });
        let session = commit.enter(Rc::clone(&settler) as Rc<dyn Sender>);
        let _leave = Leave { commit: Rc::clone(&commit), session };
        let last = Cell::new(0);
        while let Some(put) = puts.recv().await {
            commit.room().await;
            // What is under way to the disk is here, too.
            commit.until_settled(commit.added()).await;
            let mut misnamed = BTreeSet::new();
            let lacks = missing(&scans, &put, &mut misnamed).await;
            if !misnamed.is_empty() {
                settler.repair.misnamed(misnamed, &commit.view());
            }
            match lacks {
                Err(refusal) => settler.answer(put.number, Some(refusal)),
                Ok(records) if records.is_empty() => settler.answer(put.number, None),
                Ok(records) => {
                    last.set(last.get() + 1);
                    settler.waiting.borrow_mut().insert(last.get(), put.number);
                    if let Err(error) = commit.add_copies((session, last.get()), &put.copies, &records) {
                        settler.waiting.borrow_mut().remove(&last.get());
                        settler.answer(put.number, Some(Refusal::new(Code::Protocol, error.to_string())));
                    }
                }
            }
        }
    };
    (Receiver(sender), work)
}

struct Leave {
    commit: Rc<Commit>,
    session: u64,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.commit.exit(self.session);
    }
}

/// The records of these lines that are not here. Of those that are, the nodes that only the lines here name are added to
/// `misnamed`.
async fn missing<'a>(scans: &Scans, put: &'a Put, misnamed: &mut BTreeSet<String>) -> Result<Vec<Line<'a>>, Refusal> {
    let mut records = Vec::new();
    for line in put.lines.split_inclusive(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = record::decode(line).map_err(|error| {
            Refusal::new(Code::Protocol, format!("a line that came to be kept is no record: {error}"))
        })?;
        records.push(line);
    }
    let mut lacks = records.iter().map(|line| line.id).collect();
    let named: BTreeSet<&str> = names(&put.copies).into_iter().collect();
    let present = |line: Line<'_>| {
        misnamed.extend(line.copies().filter(|name| !named.contains(name)).map(str::to_owned));
    };
    drop_present(scans, &mut lacks, present).await?;
    // Of a record that comes twice the first line is kept.
    records.retain(|line| lacks.remove(&line.id));
    Ok(records)
}

/// Drops the ids that are here, whose lines are shown to `present`. A range with very many records is not looked through:
/// a second copy does no harm.
async fn drop_present(
    scans: &Scans,
    lacks: &mut BTreeSet<RecordId>,
    mut present: impl FnMut(Line<'_>),
) -> Result<(), Refusal> {
    let until = lacks.last().map_or(RecordId::ZERO, |id| id.next());
    let mut at = RecordId::ZERO;
    for _ in 0..limits::COPY_PAGES_MAX {
        let Some(from) = lacks.range(at..).next().copied() else { break };
        let query = Query { from, until, client: None, bytes_max: limits::COPY_BYTES_MAX };
        let page = scans.page(query).await.map_err(|error| Refusal::new(Code::Busy, error.to_string()))?;
        for line in page.lines.split_inclusive(|b| *b == b'\n') {
            let id = line.get(..ID_CHARS).and_then(RecordId::from_text);
            if id.is_some_and(|id| lacks.remove(&id)) {
                let line = record::decode(line.strip_suffix(b"\n").unwrap_or(line));
                line.into_iter().for_each(&mut present);
            }
        }
        at = page.next;
    }
    Ok(())
}
