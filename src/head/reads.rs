//! Reading back: one reader's answer, pulled in pages from all data nodes, merged and sent on as fast as it is read.
//!
//! A page is asked for only when there is room for it, so a reader that stops reading stops the pulling. Nobody else
//! waits for it. [`super::merge`] puts the pages together, [`crate::ledger::reading`] knows how far the answer is complete.
//! The decisions here are when to ask, when to wait and when to end. What comes later than the question is
//! [`super::follow`]'s; what the answer lacks, `lacks` says.

mod lacks;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::BytesMut;
use tokio::time::{Instant, sleep_until};

use lacks::joined;
use source::{Asked, Source};

use super::alarms::Log;
use super::guests::Exit;
use super::marks::Believed;
use super::merge::{BadPage, Merge};
use super::pages::{Answer, Wanted};
use super::questions::{Inbox, To};
use super::readers::{Place, is_resting};
use super::registered::NodeEntry;
use super::state::Head;
use super::{follow, unread};
use crate::ledger::reading::{Claim, Reading};
use crate::ledger::roster::Copies;
use crate::limits;
use crate::net::Outbox;
use crate::wire::error::{Code, Refusal};
use crate::wire::frame::{self, Frame};
use crate::wire::id::RecordId;
use crate::wire::ledger::NodeId;
use crate::wire::peer::missing_because;
use crate::wire::text::Dialect;

/// One read.
struct Pull<'a> {
    head: &'a Head,
    exit: &'a Exit,
    outbox: &'a Outbox,
    place: &'a Place<'a>,
    wanted: Wanted,
    /// Where it ends; none until the nodes have said what there is.
    until: Option<RecordId>,
    merge: Merge,
    /// How far it is complete.
    reading: Reading,
    inbox: Rc<Inbox<Answer>>,
    /// By the serial number of the registration.
    sources: BTreeMap<u64, Source>,
    next_key: u64,
    /// Nodes that the answer lacks for good.
    skipped: BTreeSet<String>,
    /// Nodes of which something that was promised went out by nobody.
    lacked: BTreeSet<String>,
    /// What the reader was told that the answer lacks.
    told_lacks: BTreeSet<String>,
    /// Nodes that are there and could not give all that they have of format 1.
    damaged: Vec<Rc<NodeEntry>>,
    /// Identities that sent records which are not believed: what they acknowledged counts only if others answer for it.
    doubted: BTreeMap<NodeId, String>,
    /// Since when it waits for nodes, and what the reader was told.
    waiting: Option<(Instant, String)>,
    told_at: Instant,
    /// The reader has read nothing for a while, so no pages are kept for it.
    resting: bool,
    /// Since when pages are wanted for which there is no room.
    starved: Option<Instant>,
    /// From when on its share has room for more.
    paced: Instant,
    /// Bytes of a page, and that go out at once: of who has a share a little of it, so that others are not held up.
    at_once: usize,
    /// Bytes of its share that it has used and not been sent: each read uses a page of it when it begins, or many that begin
    /// together would have as many pages at once.
    prepaid: usize,
}

/// What comes next in a read.
enum Step {
    Wait,
    End,
}

/// Answers a read. Resolves after its `ReadEnd`; the caller watches the connection meanwhile.
///
/// # Errors
/// The read cannot be answered: tell the reader.
pub(crate) async fn run(head: &Head, exit: &Exit, outbox: &Rc<Outbox>, wanted: Wanted) -> Result<(), Refusal> {
    let place = Place::take(&head.readers, outbox, exit.peer.ip(), head.config.clients.per_address)?;
    head.is_in(exit.peer);
    head.solo_ready().await;
    if !wanted.follow {
        return pull(head, exit, outbox, &wanted, &place).await;
    }
    // A follower's place is its own until it ends: nodes serve no more followers than there are places.
    if !follow::is_of_beginning(&wanted.token) {
        let spot = follow::Spot::of_token(&wanted.token)?;
        return follow::run(head, outbox, &wanted, spot).await;
    }
    // What the reader knows once it has all that is there when it begins, and from which id on it wants what comes: it asks
    // the next head for what is there from another one on, and what comes has no order.
    let (from, spot) = match wanted.token.is_empty() {
        true => (wanted.from, follow::Spot::now(head)),
        false => follow::Spot::of_beginning(&wanted.token)?,
    };
    let token = Frame::Token(spot.to_token_of_beginning(from));
    outbox.with(|out| token.encode(out)).map_err(|error| error.refusal())?;
    pull(head, exit, outbox, &wanted, &place).await?;
    follow::run(head, outbox, &Wanted { from, ..wanted }, spot).await
}

/// Sends what is there, in the order of ids.
async fn pull(
    head: &Head,
    exit: &Exit,
    outbox: &Rc<Outbox>,
    wanted: &Wanted,
    place: &Place<'_>,
) -> Result<(), Refusal> {
    let at_once = head.config.share.reads_at_once();
    let mut pull = Pull {
        head,
        exit,
        outbox,
        place,
        wanted: wanted.clone(),
        until: None,
        merge: Merge::new(wanted.from),
        reading: head.heard(|heard| Reading::new(heard.roster())),
        inbox: Rc::default(),
        sources: BTreeMap::new(),
        next_key: 0,
        skipped: BTreeSet::new(),
        lacked: BTreeSet::new(),
        told_lacks: BTreeSet::new(),
        damaged: Vec::new(),
        doubted: BTreeMap::new(),
        waiting: None,
        told_at: Instant::now(),
        resting: false,
        starved: None,
        paced: head.pace_reader(exit, at_once, Instant::now()),
        at_once,
        prepaid: at_once,
    };
    loop {
        let changed = head.changed.notified();
        let step = pull.step()?;
        pull.place.holds(pull.pages());
        match step {
            Step::End => return Ok(()),
            Step::Wait => {}
        }
        let full = pull.is_full();
        let inbox = Rc::clone(&pull.inbox);
        tokio::select! {
            biased;
            () = inbox.wake.notified() => {}
            () = changed => {}
            () = outbox.drained(), if full => {}
            () = sleep_until(pull.next_timer()) => {}
        }
    }
}

impl Pull<'_> {
    /// Everything that can be done now.
    fn step(&mut self) -> Result<Step, Refusal> {
        let now = Instant::now();
        if self.rests(now) {
            return Ok(Step::Wait);
        }
        self.head.heard(|heard| self.reading.roster_changed(heard.roster()));
        self.follow_nodes(now);
        self.take_answers(now);
        let mut missing = self.missing(now);
        if !missing.is_empty() && self.waits_in_vain() {
            self.reading = self.head.heard(|heard| Reading::new(heard.roster()));
            self.read_again(now);
            missing = self.missing(now);
        }
        let waited = self.waiting.is_some();
        let ready = self.ready(&missing, now)?;
        if ready == waited {
            // What is read beside a gap is read again behind it.
            self.read_again(now);
        }
        if ready {
            self.find_end()?;
        }
        self.place.holds(self.pages());
        self.ask(ready, now);
        if !ready {
            return if self.gives_up(&missing, now) { self.end(missing).map(|()| Step::End) } else { Ok(Step::Wait) };
        }
        let Some(until) = self.until else { return Ok(Step::Wait) };
        self.emit(now)?;
        if self.merge.emitted() >= until && !self.is_full() {
            return self.finish().map(|()| Step::End);
        }
        Ok(Step::Wait)
    }

    /// Whether the reader has read nothing for a while: then its pages are given back, and asked for again once it reads.
    fn rests(&mut self, now: Instant) -> bool {
        if self.resting && !self.is_full() {
            self.resting = false;
            self.read_again(now);
        } else if !self.resting && self.is_full() && is_resting(self.outbox, now) {
            self.resting = true;
            self.rewind();
            self.inbox = Rc::default();
        }
        self.resting
    }

    /// Bytes of the pages that it has and of those that it waits for.
    fn pages(&self) -> usize {
        let asked = self.sources.values().filter_map(|source| source.asked).map(|asked| asked.expected);
        self.merge.buffered() + asked.sum::<usize>()
    }

    /// Takes in nodes that have registered, and lets go of those that are gone.
    fn follow_nodes(&mut self, now: Instant) {
        let nodes = self.head.nodes();
        let before = self.sources.len();
        self.sources.retain(|serial, _| nodes.iter().any(|node| node.key.serial() == *serial));
        if self.sources.len() < before {
            // What it had may have been copied to where the others were read already. Nothing of it is kept, or a node
            // that comes and goes would fill the memory of a reader that rests.
            self.rewind();
        }
        for node in nodes {
            let serial = node.key.serial();
            if node.dialect != Dialect::Framed {
                self.skipped.insert(unread::name(node.dialect, node.ip));
            } else if self.head.heard(|heard| node.id.is_some_and(|id| heard.is_present(id))) {
                // Before it has told what it noted and what it keeps, nobody knows whom and what the answer may lack.
                self.sources.entry(serial).or_insert_with(|| Source::new(node, now));
            }
        }
        self.choose_sources(now);
    }

    /// Asks everybody anew for what has not gone out: while the reader waited, what was missing may have been copied to
    /// where the others were read already.
    fn read_again(&mut self, now: Instant) {
        self.rewind();
        self.choose_sources(now);
    }

    fn rewind(&mut self) {
        self.merge.rewind();
        self.sources.values_mut().for_each(|source| (source.merged, source.asked) = (false, None));
    }

    /// Who takes part from here on.
    fn choose_sources(&mut self, now: Instant) {
        for source in self.sources.values_mut() {
            let merged = !(self.wanted.partial && source.fails(now));
            if merged && !source.merged {
                self.next_key += 1;
                // Whatever is on its way was asked for another place.
                (source.key, source.asked, source.ask_at) = (self.next_key, None, source.ask_at.max(now));
                self.merge.add(source.key);
            } else if !merged && source.merged {
                self.merge.remove(source.key);
            }
            source.merged = merged;
        }
    }

    fn take_answers(&mut self, now: Instant) {
        let answers = self.inbox.came.take();
        for (key, answer) in answers {
            let Some(source) = self.sources.values_mut().find(|source| source.key == key) else { continue };
            let Some(asked) = source.asked.take() else { continue };
            match answer {
                Answer::Page { greatest, .. } if source.greatest.is_none() && self.until.is_none() => {
                    (source.greatest, source.failures) = (Some(greatest), 0);
                }
                Answer::Page { greatest, .. } if asked.bytes == 0 => {
                    source.greatest = source.greatest.or(Some(greatest));
                    (source.failures, source.ask_at) = (0, now + limits::READ_POLL_MAX);
                }
                Answer::Page { next, rotten, believed, .. } => {
                    let Believed { lines, refused, unplaced } = believed;
                    let len = lines.len();
                    self.head.readers.page_came(len);
                    let wanted = if self.wanted.is_answered_by(&lines) { Ok(()) } else { Err(BadPage::Unasked) };
                    if let Err(bad) = wanted.and_then(|()| self.merge.page(key, next, lines, asked.bytes)) {
                        self.merge.asked(key, false);
                        self.head.say(source.node.ip, Log::Warn, &format!("dataNode {}: {bad}", source.node.name));
                        source.cause = bad.to_string();
                        source.failed(now);
                        continue;
                    }
                    if let Some(node) = source.node.id.filter(|_| refused > 0)
                        && self.reading.unanswered().any(|counted| counted == node)
                    {
                        self.doubted
                            .entry(node)
                            .or_insert_with(|| missing_because(&source.node.name, &source.node.refused_words()));
                    }
                    if rotten > 0 || unplaced {
                        self.damaged.retain(|node| !Rc::ptr_eq(node, &source.node));
                        self.damaged.push(Rc::clone(&source.node));
                    }
                    source.failures = 0;
                    source.ask_at = now;
                }
                Answer::Failed(refusal) => {
                    self.merge.asked(key, false);
                    if refusal.code == Code::Busy {
                        source.ask_at = now + limits::READ_POLL_MAX;
                    } else {
                        let line = format!("dataNode {} cannot be read: {refusal}", source.node.name);
                        self.head.say(source.node.ip, Log::Warn, &line);
                        source.cause = refusal.to_string();
                        source.failed(now);
                    }
                }
            }
        }
    }

    /// Whether the read can go on with the nodes that are there; tells the reader when that changes.
    fn ready(&mut self, missing: &[String], now: Instant) -> Result<bool, Refusal> {
        let nobody = !self.sources.values().any(|source| source.merged);
        if self.wanted.partial {
            self.skipped.extend(missing.iter().cloned());
        }
        let ready = !nobody && (self.wanted.partial || missing.is_empty());
        let words = match missing {
            [] if ready => String::new(),
            [] => "dataNodes".to_owned(),
            names => names.join(","),
        };
        let told = self.waiting.as_ref().map(|(_, told)| told.as_str());
        if !ready && told != Some(&words) {
            let since = self.waiting.as_ref().map_or(now, |(since, _)| *since);
            self.waiting = Some((since, words.clone()));
            self.tell_waiting(words)?;
        } else if ready && told.is_some() {
            self.waiting = None;
            self.tell_waiting(String::new())?;
        }
        Ok(ready)
    }

    fn tell_waiting(&self, nodes: String) -> Result<(), Refusal> {
        self.outbox.with(|out| Frame::Waiting { nodes }.encode(out)).map_err(|error| error.refusal())
    }

    /// Whether a read that waits has waited long enough.
    fn gives_up(&self, missing: &[String], now: Instant) -> bool {
        let Some((since, _)) = &self.waiting else { return false };
        // Nodes that speak text are all there is, or nobody is to be waited for.
        let in_vain =
            !(self.skipped.is_empty() && self.damaged.is_empty()) && (missing.is_empty() || self.wanted.partial);
        !self.wanted.follow && (in_vain || now.duration_since(*since) >= limits::READ_WAIT_MAX)
    }

    /// A read that does not follow ends behind what there is when it begins, once all nodes have said what that is.
    fn find_end(&mut self) -> Result<(), Refusal> {
        if self.until.is_some() {
            return Ok(());
        }
        let mut greatest = RecordId::ZERO;
        for source in self.sources.values().filter(|source| source.merged) {
            let Some(known) = source.greatest else { return Ok(()) };
            greatest = greatest.max(known);
        }
        self.until = Some(self.wanted.until.min(greatest.next()));
        self.sources.values_mut().for_each(|source| source.ask_at = source.ask_at.min(Instant::now()));
        Ok(())
    }

    /// Asks every node whose next page is wanted.
    fn ask(&mut self, ready: bool, now: Instant) {
        let bytes = page_bytes(self.sources.len(), self.head.readers.now()).min(self.at_once);
        let expected = self.head.readers.expected(bytes);
        let (mut pages, mut starved) = (self.pages(), false);
        for source in self.sources.values_mut() {
            if source.asked.is_some() || now < source.ask_at {
                continue;
            }
            let (from, until, bytes) = match self.until {
                // An empty range: it only says that it answers, and what its greatest id is. One that fails has to give
                // what it could not give, or it would seem well each time that it is asked for nothing.
                _ if !source.merged => (RecordId::ZERO, RecordId::ZERO, 0),
                until if !ready && (source.failures == 0 || until.is_none()) => (RecordId::ZERO, RecordId::ZERO, 0),
                None if source.greatest.is_none() => (RecordId::ZERO, RecordId::ZERO, 0),
                None => continue,
                Some(until) => match self.merge.wants(source.key, until) {
                    // Its share has no room for what it would bring.
                    Some(_) if self.paced > now => continue,
                    Some(_) if !self.place.has_room(expected) => {
                        starved = true;
                        continue;
                    }
                    Some(from) => (from, until, bytes),
                    None => continue,
                },
            };
            let to = To::new(source.key, &self.inbox);
            let Some(request) = source.node.scans.ask(limits::NODE_SCANS_MAX, to) else {
                source.ask_at = now + limits::READ_POLL_MAX;
                continue;
            };
            let (client, sources) = (self.wanted.client, self.wanted.sources.clone());
            source.node.tell(&Frame::Scan { request, from, until, client, sources, bytes_max: bytes as u32 });
            let expected = if bytes > 0 { expected } else { 0 };
            source.asked = Some(Asked { at: now, bytes, expected });
            if bytes > 0 {
                self.merge.asked(source.key, true);
                pages += expected;
                self.place.holds(pages);
            }
        }
        self.starve(starved, now);
    }

    /// Notes whether there is no room for pages that are wanted: others make room then. Who waits for long gives back what it
    /// has, so that another can go on with that.
    fn starve(&mut self, starved: bool, now: Instant) {
        if !starved {
            self.starved = None;
            return;
        }
        self.head.readers.make_room(now);
        let since = *self.starved.get_or_insert(now);
        if now.duration_since(since) >= limits::READ_REST && self.merge.buffered() > 0 {
            self.starved = Some(now);
            self.read_again(now);
        }
    }

    fn is_full(&self) -> bool {
        self.outbox.len() >= limits::READ_ANSWERS_BYTES_MAX
    }

    /// Sends what is complete, as long as the reader takes it.
    fn emit(&mut self, now: Instant) -> Result<(), Refusal> {
        // A node that comes later may have what nobody has now, and what goes out now goes out without it.
        self.note_lacking();
        self.tell_lacks()?;
        while !self.is_full() && self.paced <= now {
            let late = now.duration_since(self.told_at) >= limits::READ_PROGRESS_EVERY;
            let merge = &mut self.merge;
            let take = |out: &mut BytesMut| merge.take(out, limits::RECORDS_BYTES_MAX.min(self.at_once));
            let before = self.outbox.len();
            let said = self.outbox.with(|out| frame::records_of(out, late, take)).map_err(|error| error.refusal())?;
            if said {
                self.told_at = now;
                let sent = self.outbox.len().saturating_sub(before);
                let paid = sent.min(self.prepaid);
                self.prepaid -= paid;
                self.paced = self.head.pace_reader(self.exit, sent - paid, now);
            } else {
                break;
            }
        }
        Ok(())
    }

    /// Everything that is there was sent: how far that is complete.
    fn finish(&mut self) -> Result<(), Refusal> {
        let answered: Vec<NodeId> =
            self.sources.values().filter(|source| source.merged).filter_map(|source| source.node.id).collect();
        for node in answered.into_iter().filter(|node| !self.doubted.contains_key(node)) {
            self.reading.begin(node, std::iter::empty());
            self.reading.end(node);
        }
        // Whether each entry that is promised is somewhere, the nodes have said: what is lacking is told before a page.
        self.note_lacking();
        match self.reading.claim(&|_| true) {
            Claim::Complete => self.end(Vec::new()),
            Claim::Incomplete { unanswered, .. } => {
                let least = self.head.heard(|heard| heard.roster().copies().map_or(1, Copies::read_least));
                let names = unanswered.iter().map(|node| self.named(*node));
                // A cluster in which nothing was ever kept misses nobody.
                let names = if unanswered.len() < least { Vec::new() } else { names.collect() };
                self.end(names)
            }
        }
    }

    /// The last word: what is missing now, and what the answer lacks for good. A reader that follows goes on.
    fn end(&mut self, missing: Vec<String>) -> Result<(), Refusal> {
        if self.wanted.follow {
            return Ok(());
        }
        let mut lacks = self.lacks();
        if missing.is_empty() && lacks.is_empty() && self.sources.is_empty() {
            let text = "no hay dataNodes; start one with 'acopio data --head <this head>', then read again";
            return Err(Refusal::new(Code::NoNodes, text));
        }
        lacks.extend(missing);
        let end = Frame::ReadEnd { next: self.merge.emitted(), missing: joined(&lacks) };
        self.outbox.with(|out| end.encode(out)).map_err(|error| error.refusal())
    }

    /// When something is to be done that nobody tells of.
    fn next_timer(&self) -> Instant {
        let now = Instant::now();
        let mut timer = now + limits::READ_PROGRESS_EVERY;
        if self.resting {
            return timer;
        }
        if self.starved.is_some() {
            timer = timer.min(now + limits::READ_POLL);
        }
        if self.paced > now {
            timer = timer.min(self.paced);
        } else if self.until.is_some() && self.waiting.is_none() && !self.is_full() {
            timer = timer.min(self.told_at + limits::READ_PROGRESS_EVERY);
        }
        if let Some((since, _)) = self.waiting.as_ref().filter(|_| !self.wanted.follow) {
            timer = timer.min(*since + limits::READ_WAIT_MAX);
        }
        for source in self.sources.values() {
            let wants =
                self.waiting.is_some() || self.until.is_none_or(|until| self.merge.wants(source.key, until).is_some());
            match source.asked {
                Some(asked) if !source.fails(now) => timer = timer.min(asked.at + limits::READ_PAGE_TIME_MAX),
                None if wants && source.ask_at > now => timer = timer.min(source.ask_at),
                _ => {}
            }
        }
        timer
    }
}

/// How large a page is asked for: a reader's are smaller where there are many nodes, and all readers share what one alone may
/// have, so that neither the nodes nor the head hold more for many.
fn page_bytes(nodes: usize, readers: usize) -> usize {
    let most = (limits::PAGE_BYTES_MAX / readers.max(1)).max(limits::PAGE_BYTES_MIN);
    (limits::READ_PAGES_BYTES_MAX / (nodes.max(1) * limits::READ_PAGES_MAX)).clamp(limits::PAGE_BYTES_MIN, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_shared_by_nodes_and_by_readers() {
        assert_eq!(page_bytes(1, 1), limits::PAGE_BYTES_MAX);
        assert_eq!(page_bytes(1, 4), limits::PAGE_BYTES_MAX / 4);
        for (nodes, readers) in [(0, 0), (3, 1), (12, 2), (limits::NODES_MAX, 1), (1, limits::READERS_MAX)] {
            let bytes = page_bytes(nodes, readers);
            let held = bytes * nodes * limits::READ_PAGES_MAX;
            assert!(bytes >= limits::PAGE_BYTES_MIN && held <= limits::READ_PAGES_BYTES_MAX, "{nodes} {readers}");
            assert!(bytes == limits::PAGE_BYTES_MIN || bytes * readers <= limits::PAGE_BYTES_MAX, "{nodes} {readers}");
        }
    }
}
