//! A reader that follows: what comes after the question, from every data node, each entry once.
//!
//! Nodes push what a reader's place does not cover ([`Spot`]); this puts it together and tells the reader now and then, in a
//! token, what it has. There is no order among ledgers: the reader puts each client's messages in order. Nothing here waits
//! for a node that is away: it sends what it has once it is back.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, sleep_until};

use super::pages::{Pushed, Wanted};
use super::questions::{Inbox, To};
use super::registered::NodeEntry;
use super::state::Head;
use crate::ledger::entries::EntrySet;
use crate::ledger::roster::Copies;
use crate::ledger::text::parse_entry;
use crate::limits;
use crate::net::Outbox;
use crate::wire::error::{Code, Refusal};
use crate::wire::frame::{self, Cursor, Frame, Numbers};
use crate::wire::id::{ID_CHARS, RecordId};
use crate::wire::ledger::{Digits, Incarnation, LedgerId, NodeId};
use crate::wire::peer::missing_because;
use crate::wire::record;

/// What a reader knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spot {
    /// Ledgers that it knows whole.
    done: BTreeMap<Incarnation, EntrySet>,
    /// Entries that it knows of others.
    part: BTreeMap<LedgerId, EntrySet>,
}

impl Spot {
    /// All that is known here now, but what nobody has who is here: that comes once somebody has it.
    #[must_use]
    pub(crate) fn now(head: &Head) -> Self {
        let mut spot = Self::default();
        head.heard(|heard| {
            for (ledger, summary) in heard.all() {
                if summary.open || heard.end_of(ledger).is_none() {
                    spot.part.insert(ledger, EntrySet::from(0..summary.count));
                } else {
                    spot.done.entry(ledger.incarnation).or_default().insert(ledger.number);
                }
            }
            for (ledger, lacking) in heard.lacking() {
                let end = heard.end_of(ledger).unwrap_or(lacking.end);
                if let Some(done) = spot.done.get_mut(&ledger.incarnation) {
                    done.remove_range(ledger.number..ledger.number.saturating_add(1));
                }
                spot.part.entry(ledger).or_insert_with(|| EntrySet::from(0..end)).remove_range(lacking);
            }
        });
        spot
    }

    /// What a token says.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn of_token(token: &[u8]) -> Result<Self, Refusal> {
        let parsed = || {
            let mut spot = Self::default();
            for word in std::str::from_utf8(token).ok()?.split(' ').filter(|word| !word.is_empty()) {
                if let Some((ledger, next)) = word.split_once('=') {
                    spot.part.insert(ledger.parse().ok()?, EntrySet::from(0..parse_entry(next)?));
                } else {
                    let (incarnation, numbers) = word.split_once(':')?;
                    let done = spot.done.entry(incarnation.parse().ok()?).or_default();
                    for range in numbers.split(',') {
                        let (from, end) = range.split_once("..")?;
                        done.insert_range(parse_entry(from)?..parse_entry(end)?);
                    }
                }
            }
            Some(spot)
        };
        parsed().ok_or_else(no_token)
    }

    /// What a token of the beginning says: from which id on what comes is wanted, and what was there.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn of_beginning(token: &[u8]) -> Result<(RecordId, Self), Refusal> {
        let split = token.get(1..).and_then(|token| token.split_at_checked(ID_CHARS));
        let from = split.and_then(|(from, _)| std::str::from_utf8(from).ok()?.parse().ok());
        let rest = split.map(|(_, rest)| rest).unwrap_or_default();
        Ok((from.ok_or_else(no_token)?, Self::of_token(rest)?))
    }

    /// As a token of the beginning.
    #[must_use]
    pub(crate) fn to_token_of_beginning(&self, from: RecordId) -> Bytes {
        let mut token = vec![frame::TOKEN_OF_BEGINNING];
        token.extend_from_slice(&from.to_text());
        token.extend_from_slice(&self.to_token());
        Bytes::from(token)
    }

    /// As a token: `<incarnation>:<first>..<end>,… <ledger>=<next> …`, as much as fits.
    #[must_use]
    pub(crate) fn to_token(&self) -> Bytes {
        let mut token = String::new();
        let done = self.done.iter().filter(|(_, numbers)| !numbers.is_empty()).map(|(incarnation, numbers)| {
            let ranges = numbers.ranges().map(|range| format!("{}..{}", Digits(range.start), Digits(range.end)));
            format!("{incarnation}:{}", ranges.collect::<Vec<_>>().join(","))
        });
        let part = self.part.iter().map(|(ledger, entries)| format!("{ledger}={}", Digits(first_gap(entries))));
        for word in done.chain(part) {
            // With what stands before one of the beginning it fits a frame, too.
            if token.len() + word.len() + ID_CHARS + 1 < limits::TOKEN_BYTES_MAX {
                token.push_str(&word);
                token.push(' ');
            }
        }
        // One that is empty would be none.
        Bytes::from(if token.is_empty() { " ".to_owned() } else { token.trim_end().to_owned() })
    }

    /// As a node is told it, as much as fits.
    fn to_frame(&self) -> (Vec<Numbers>, Vec<Cursor>) {
        let done = self
            .done
            .iter()
            .flat_map(|(&incarnation, numbers)| numbers.ranges().map(move |numbers| Numbers { incarnation, numbers }));
        let cursors = self.part.iter().map(|(&ledger, entries)| Cursor { ledger, next: first_gap(entries) });
        let most = limits::FOLLOW_CURSORS_MAX;
        (done.take(most).collect(), cursors.take(most).collect())
    }

    fn is_done(&self, ledger: LedgerId) -> bool {
        self.done.get(&ledger.incarnation).is_some_and(|numbers| numbers.contains(ledger.number))
    }

    /// Which of these entries are news; they are known from now on.
    fn take(&mut self, ledger: LedgerId, entries: Range<u32>) -> EntrySet {
        let mut news = EntrySet::default();
        if !self.is_done(ledger) {
            let known = self.part.entry(ledger).or_default();
            known.missing(entries.clone()).for_each(|range| news.insert_range(range));
            known.insert_range(entries);
        }
        news
    }

    /// Ledgers of which everything is known are remembered by their numbers.
    fn shorten(&mut self, head: &Head) {
        head.heard(|heard| {
            let whole = |ledger: &LedgerId, entries: &EntrySet| {
                heard.end_of(*ledger).is_some_and(|end| first_gap(entries) >= end)
            };
            let done: Vec<LedgerId> = self
                .part
                .iter()
                .filter(|(ledger, entries)| whole(ledger, entries))
                .map(|(ledger, _)| *ledger)
                .collect();
            for ledger in done {
                self.part.remove(&ledger);
                self.done.entry(ledger.incarnation).or_default().insert(ledger.number);
            }
        });
    }
}

/// Whether what was there at the beginning is wanted, too.
pub(crate) fn is_of_beginning(token: &[u8]) -> bool {
    token.first().is_none_or(|first| *first == frame::TOKEN_OF_BEGINNING)
}

fn no_token() -> Refusal {
    Refusal::new(Code::Protocol, "the token of this read is none; begin to read anew")
}

/// The first entry that is not in a set.
fn first_gap(entries: &EntrySet) -> u32 {
    entries.ranges().next().filter(|range| range.start == 0).map_or(0, |range| range.end)
}

/// A data node, as one reader sees it.
struct Source {
    node: Rc<NodeEntry>,
    request: u32,
    /// Bytes that came and were not granted anew.
    owed: usize,
}

/// A read that follows.
struct Follow<'a> {
    head: &'a Head,
    outbox: &'a Rc<Outbox>,
    wanted: &'a Wanted,
    spot: Spot,
    inbox: Rc<Inbox<Pushed>>,
    sources: BTreeMap<u64, Source>,
    /// The last token; none before the first, which tells the reader that there is no order of ids from there on.
    told: Option<Bytes>,
    token_at: Instant,
    /// Identities that sent records which are not believed, and what the reader is told of them.
    doubted: BTreeMap<NodeId, String>,
    /// The nodes for which the reader was told that it waits.
    waiting: Vec<String>,
}

impl Drop for Follow<'_> {
    fn drop(&mut self) {
        for source in self.sources.values() {
            source.node.feeds.answered(source.request);
            source.node.tell(&Frame::Credit { request: source.request, bytes: 0 });
        }
    }
}

/// Sends what comes behind a place, until the connection ends.
///
/// # Errors
/// It cannot be sent.
pub(crate) async fn run(head: &Head, outbox: &Rc<Outbox>, wanted: &Wanted, spot: Spot) -> Result<(), Refusal> {
    let mut follow = Follow {
        head,
        outbox,
        wanted,
        spot,
        inbox: Rc::default(),
        sources: BTreeMap::new(),
        told: None,
        token_at: Instant::now(),
        doubted: BTreeMap::new(),
        waiting: Vec::new(),
    };
    loop {
        let changed = head.changed.notified();
        follow.step()?;
        if follow.is_over() {
            return follow.end();
        }
        let full = follow.is_full();
        let inbox = Rc::clone(&follow.inbox);
        tokio::select! {
            biased;
            () = inbox.wake.notified() => {}
            () = changed => {}
            () = outbox.drained(), if full => {}
            () = sleep_until(follow.token_at) => {}
        }
    }
}

impl Follow<'_> {
    fn is_full(&self) -> bool {
        self.outbox.len() >= limits::READ_ANSWERS_BYTES_MAX
    }

    fn step(&mut self) -> Result<(), Refusal> {
        self.follow_nodes();
        self.tell_waiting()?;
        let pushed = self.inbox.came.take();
        for (serial, pushed) in pushed {
            let bytes = pushed.bytes;
            self.doubt(serial, &pushed);
            self.send(pushed)?;
            if let Some(source) = self.sources.get_mut(&serial) {
                source.owed += bytes;
            }
        }
        if !self.is_full() {
            self.grant();
        }
        self.tell_token()
    }

    /// Asks nodes that have registered, and lets go of those that are gone.
    fn follow_nodes(&mut self) {
        let nodes = self.head.nodes();
        self.sources.retain(|serial, _| nodes.iter().any(|node| node.key.serial() == *serial));
        for node in nodes {
            let serial = node.key.serial();
            if node.id.is_none() || self.sources.contains_key(&serial) {
                continue;
            }
            let to = To::new(serial, &self.inbox);
            let Some(request) = node.feeds.ask(limits::NODE_FEEDS_MAX, to) else { continue };
            let (done, cursors) = self.spot.to_frame();
            let (client, sources) = (self.wanted.client, self.wanted.sources.clone());
            node.tell(&Frame::Follow { request, client, sources, done, cursors });
            node.tell(&Frame::Credit { request, bytes: limits::FOLLOW_CREDIT_BYTES as u32 });
            self.sources.insert(serial, Source { node, request, owed: 0 });
        }
    }

    /// What was passed on may be sent again as much.
    fn grant(&mut self) {
        for source in self.sources.values_mut().filter(|source| source.owed > 0) {
            let bytes = std::mem::take(&mut source.owed) as u32;
            source.node.tell(&Frame::Credit { request: source.request, bytes });
        }
    }

    /// Notes whose records are not believed: another node may have what it should have sent, and else the reader waits for it.
    fn doubt(&mut self, serial: u64, pushed: &Pushed) {
        let node = self.sources.get(&serial).filter(|_| pushed.believed.refused > 0).map(|source| &source.node);
        if let Some((node, id)) = node.and_then(|node| Some((node, node.id?)))
            && self.head.heard(|heard| heard.roster().generation(id).counts())
        {
            self.doubted.entry(id).or_insert_with(|| missing_because(&node.name, &node.refused_words()));
        }
    }

    /// Which entries a node answers for that are news. If some of its lines are not believed, those are what it has lines of.
    fn news(&mut self, pushed: &Pushed) -> EntrySet {
        if pushed.believed.refused == 0 {
            return self.spot.take(pushed.ledger, pushed.entries.clone());
        }
        let mut news = EntrySet::default();
        for line in pushed.believed.lines.split_inclusive(|byte| *byte == b'\n') {
            let record = record::decode(line.strip_suffix(b"\n").unwrap_or(line));
            if let Some((ledger, entry)) = record.ok().and_then(|record| record.entry())
                && ledger == pushed.ledger
                && pushed.entries.contains(&entry)
            {
                self.spot.take(ledger, entry..entry + 1).ranges().for_each(|range| news.insert_range(range));
            }
        }
        news
    }

    /// Sends the lines that are news.
    fn send(&mut self, pushed: Pushed) -> Result<(), Refusal> {
        let news = self.news(&pushed);
        if news.is_empty() {
            return Ok(());
        }
        // With a filter each line is looked into: a node may not push what nobody asked for.
        let all = news.covers(pushed.entries.clone()) && self.wanted.client.is_none() && self.wanted.sources.is_all();
        let (from, until) = (self.wanted.from.to_text(), self.wanted.until.to_text());
        let pushed_lines = &pushed.believed.lines;
        let mut lines = BytesMut::with_capacity(pushed_lines.len());
        for line in pushed_lines.split_inclusive(|byte| *byte == b'\n') {
            let Some(id) = line.first_chunk::<ID_CHARS>() else { continue };
            let is_news = all
                || record::decode(line.strip_suffix(b"\n").unwrap_or(line)).is_ok_and(|line| {
                    let is_news = |(ledger, entry)| ledger == pushed.ledger && news.contains(entry);
                    line.entry().is_some_and(is_news) && self.wanted.has(&line)
                });
            if is_news && *id >= from && *id < until {
                lines.extend_from_slice(line);
            }
        }
        if lines.is_empty() {
            return Ok(());
        }
        let records = |out: &mut BytesMut| {
            out.extend_from_slice(&lines);
            RecordId::ZERO
        };
        self.outbox.with(|out| frame::records_of(out, false, records)).map_err(|error| error.refusal())?;
        Ok(())
    }

    /// Tells the reader what it has, if that is news: it may go on from there at another head.
    fn tell_token(&mut self) -> Result<(), Refusal> {
        let now = Instant::now();
        if now < self.token_at {
            return Ok(());
        }
        self.token_at = now + limits::FOLLOW_TOKEN_EVERY;
        self.spot.shorten(self.head);
        let token = self.spot.to_token();
        if self.told.as_ref() != Some(&token) {
            self.told = Some(token.clone());
            return self.outbox.with(|out| Frame::Token(token).encode(out)).map_err(|error| error.refusal());
        }
        // A sign of life for a reader to whom nothing comes.
        self.outbox.with(|out| frame::records_of(out, true, |_| RecordId::ZERO)).map_err(|error| error.refusal())?;
        Ok(())
    }

    /// Tells the reader whom it waits for: nodes without which it may lack something now.
    fn tell_waiting(&mut self) -> Result<(), Refusal> {
        let away = self.head.members_away();
        let least = self.head.heard(|heard| heard.roster().copies().map_or(1, Copies::read_least));
        let away: BTreeMap<NodeId, String> =
            away.into_iter().map(|away| (away.node, away.name)).chain(self.doubted.clone()).collect();
        let names: BTreeSet<String> =
            if away.len() < least || self.wanted.partial { BTreeSet::new() } else { away.into_values().collect() };
        let names: Vec<String> = names.into_iter().collect();
        if names == self.waiting {
            return Ok(());
        }
        self.waiting.clone_from(&names);
        let waiting = Frame::Waiting { nodes: names.join(",") };
        self.outbox.with(|out| waiting.encode(out)).map_err(|error| error.refusal())
    }

    /// Nothing below the end of what is wanted is to come any more, as far as clocks tell.
    fn is_over(&self) -> bool {
        let end = self.wanted.until;
        end < RecordId::MAX && self.head.config.clock.wall_ns() > end.time_ns + limits::FOLLOW_LATE.as_nanos() as u64
    }

    fn end(&self) -> Result<(), Refusal> {
        let end = Frame::ReadEnd { next: self.wanted.until, missing: String::new() };
        self.outbox.with(|out| end.encode(out)).map_err(|error| error.refusal())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_place_survives_as_a_token(
            done in prop::collection::vec((0..5_u32, 0..40_u32, 1..5_u32), 0..12),
            part in prop::collection::vec((0..5_u32, 0..40_u32, 1..900_u32), 0..12),
        ) {
            let mut spot = Spot::default();
            for (incarnation, from, len) in done {
                spot.done.entry(Incarnation(incarnation)).or_default().insert_range(from..from + len);
            }
            for (incarnation, number, next) in part {
                spot.part.insert(LedgerId { incarnation: Incarnation(incarnation), number }, EntrySet::from(0..next));
            }
            let again = Spot::of_token(&spot.to_token()).unwrap();
            prop_assert_eq!((&again.done, &again.part), (&spot.done, &spot.part));
            let id = RecordId { time_ns: 7, incarnation: 8 };
            let token = spot.to_token_of_beginning(id);
            prop_assert!(is_of_beginning(&token) && is_of_beginning(b"") && !is_of_beginning(&spot.to_token()));
            let (from, again) = Spot::of_beginning(&token).unwrap();
            prop_assert_eq!((from, again.done, again.part), (id, spot.done, spot.part));
        }
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init, reason = "the ranges of a set")]
    fn what_is_no_token_is_refused_and_entries_are_news_once() {
        for token in ["x", "-----:", "-----:1", "-----.-=", "-----.-=x.y", "\u{ff}"] {
            assert!(Spot::of_token(token.as_bytes()).is_err(), "{token}");
        }
        let ledger = LedgerId { incarnation: Incarnation(1), number: 2 };
        let mut spot = Spot::of_token(b"").unwrap();
        let news = |spot: &mut Spot, range| spot.take(ledger, range).ranges().collect::<Vec<_>>();
        assert_eq!(news(&mut spot, 0..4), [0..4]);
        assert_eq!(news(&mut spot, 2..6), [4..6]);
        assert_eq!(news(&mut spot, 8..9), [8..9]);
        assert_eq!(spot.to_token(), "----0.1=5".as_bytes());
        spot.done.entry(ledger.incarnation).or_default().insert(2);
        assert!(news(&mut spot, 0..99).is_empty());
    }
}
