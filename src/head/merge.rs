//! Merges the pages of several data nodes into one stream: in the order of ids, each record once.
//!
//! A cursor stands for one node. What all cursors have in full can go out, up to the least of their ends; a node that
//! leaves takes its cursor with it, and what it had sent stays. Pure: no sockets and no waits; `reads` asks for the
//! pages. Lines are put in order by their ids and not read further: the reader at the end checks them. Those of one id are
//! compared: the same record goes out once, and another one under its id goes out, too.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

use crate::limits::READ_PAGES_MAX;
use crate::wire::id::{ID_CHARS, RecordId};
use crate::wire::record;

/// The text of an id: it sorts as the id does.
type IdText = [u8; ID_CHARS];

/// What is wrong with a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadPage {
    /// It ends before it begins.
    #[error("a page goes up to {next}, and was asked from {from}; it cannot be used")]
    Backwards {
        /// Where it was asked from.
        from: RecordId,
        /// Where it ends.
        next: RecordId,
    },
    /// More than one line, and more than was asked for.
    #[error("a page has {0} bytes, and {1} were asked for; it cannot be used")]
    Long(usize, usize),
    /// Records of others than were asked for.
    #[error("a page has records that nobody asked for; it cannot be used")]
    Unasked,
    /// A line without an id, out of order, or outside of the page.
    #[error("line {0} of a page is out of place; it cannot be used")]
    Line(usize),
}

/// One node's part of the answer.
#[derive(Debug)]
struct Cursor {
    node: u64,
    /// False once the node has left: what it sent is still merged.
    here: bool,
    /// A page was asked for and has not come.
    asked: bool,
    /// Everything below this id has come.
    next: RecordId,
    /// Lines that have not gone out, oldest first; no page is empty.
    pages: VecDeque<Bytes>,
}

impl Cursor {
    fn least(&self) -> Option<IdText> {
        self.pages.front()?.first_chunk().copied()
    }

    /// Its first line.
    fn first(&self) -> Option<Bytes> {
        let page = self.pages.front()?;
        Some(page.slice(..line_at(page, 0)?.len()))
    }

    /// Lets go of its first line.
    fn pass(&mut self, len: usize) {
        if let Some(page) = self.pages.front_mut() {
            page.advance(len.min(page.len()));
            self.pages.pop_front_if(|page| page.is_empty());
        }
    }
}

/// Several sorted sources, one sorted output.
#[derive(Debug)]
pub struct Merge {
    emitted: RecordId,
    last: Option<IdText>,
    cursors: Vec<Cursor>,
}

impl Merge {
    /// Nothing below `from` is wanted.
    #[must_use]
    pub const fn new(from: RecordId) -> Self {
        Self { emitted: from, last: None, cursors: Vec::new() }
    }

    /// Everything below this id has gone out.
    #[must_use]
    pub(crate) const fn emitted(&self) -> RecordId {
        self.emitted
    }

    /// Bytes of lines that wait.
    #[must_use]
    pub(crate) fn buffered(&self) -> usize {
        self.cursors.iter().flat_map(|cursor| &cursor.pages).map(Bytes::len).sum()
    }

    /// A node takes part from here on.
    pub fn add(&mut self, node: u64) {
        self.remove(node);
        let next = self.emitted;
        self.cursors.push(Cursor { node, here: true, asked: false, next, pages: VecDeque::new() });
    }

    /// A node takes part no more. What it had sent is as good as before.
    pub(crate) fn remove(&mut self, node: u64) {
        for cursor in self.cursors.iter_mut().filter(|cursor| cursor.node == node) {
            cursor.here = false;
        }
        self.cursors.retain(|cursor| cursor.here || !cursor.pages.is_empty());
    }

    /// Forgets all nodes and what of theirs has not gone out: what comes next begins where the answer is.
    pub(crate) fn rewind(&mut self) {
        self.cursors.clear();
    }

    /// Where the next page of this node begins, if one is wanted: none while one is on its way or enough have come.
    #[must_use]
    pub(crate) fn wants(&self, node: u64, until: RecordId) -> Option<RecordId> {
        let cursor = self.cursors.iter().find(|cursor| cursor.here && cursor.node == node)?;
        (!cursor.asked && cursor.pages.len() < READ_PAGES_MAX && cursor.next < until).then_some(cursor.next)
    }

    /// A page was asked for; or, with `false`, it will not come.
    pub fn asked(&mut self, node: u64, asked: bool) {
        if let Some(cursor) = self.cursors.iter_mut().find(|cursor| cursor.here && cursor.node == node) {
            cursor.asked = asked;
        }
    }

    /// The page that was asked for, with so many bytes at most or one longer line: everything from where it was asked up to
    /// `next`.
    ///
    /// # Errors
    /// A page that is not what it says or was to be; nothing of it is taken.
    pub fn page(&mut self, node: u64, next: RecordId, lines: Bytes, asked: usize) -> Result<(), BadPage> {
        let Some(cursor) = self.cursors.iter_mut().find(|cursor| cursor.here && cursor.node == node) else {
            return Ok(());
        };
        cursor.asked = false;
        if lines.len() > asked && line_at(&lines, 0).is_some_and(|line| line.len() < lines.len()) {
            return Err(BadPage::Long(lines.len(), asked));
        }
        check(cursor.next, next, &lines)?;
        cursor.next = next;
        if !lines.is_empty() {
            cursor.pages.push_back(lines);
        }
        Ok(())
    }

    /// Appends the next lines to `out`, some `bytes_max` of them at most or one that is longer. Returns up to where the
    /// answer is complete with them.
    pub fn take(&mut self, out: &mut BytesMut, bytes_max: usize) -> RecordId {
        let limit = self.cursors.iter().filter(|cursor| cursor.here).map(|cursor| cursor.next).min();
        let limit = limit.unwrap_or(self.emitted).max(self.emitted);
        let limit_text = limit.to_text();
        let mut room = bytes_max;
        loop {
            let Some((place, end)) = self.next_run(&limit_text) else {
                self.emitted = limit;
                break;
            };
            self.drop_copies(place, &end);
            let Some(cursor) = self.cursors.get_mut(place) else { break };
            let full = run(cursor, &end, &mut self.last, out, &mut room, bytes_max);
            if full {
                let more_of_it = self.last.is_some() && self.cursors.iter().any(|cursor| cursor.least() == self.last);
                let last = self.last.and_then(|last| RecordId::from_text(&last));
                self.emitted = last.map_or(self.emitted, |last| if more_of_it { last } else { last.next() });
                break;
            }
        }
        self.cursors.retain(|cursor| cursor.here || !cursor.pages.is_empty());
        self.emitted
    }

    /// Lets go of the lines of other cursors that are the same record as the first one of this cursor, whose run goes up to
    /// `end`. All that have its id are at the front: what goes out is what all cursors have in full.
    fn drop_copies(&mut self, place: usize, end: &IdText) {
        let Some(first) = self.cursors.get(place).filter(|cursor| cursor.least() == Some(*end)).and_then(Cursor::first)
        else {
            return;
        };
        for (other, cursor) in self.cursors.iter_mut().enumerate() {
            if other != place
                && cursor.least() == Some(*end)
                && let Some(line) = cursor.first()
                && record::is_same(&first, &line)
            {
                cursor.pass(line.len());
            }
        }
    }

    /// The cursor with the least line below `limit`, and the id up to which (exclusive) its lines come next: the least of
    /// the others; that of its own first line, which comes alone, if two begin alike.
    fn next_run(&self, limit: &IdText) -> Option<(usize, IdText)> {
        let mut least: Option<(usize, IdText)> = None;
        let mut end = *limit;
        for (place, cursor) in self.cursors.iter().enumerate() {
            let Some(id) = cursor.least().filter(|id| id < limit) else { continue };
            match least {
                Some((_, best)) if best <= id => end = end.min(id),
                _ => {
                    if let Some((_, second)) = least.replace((place, id)) {
                        end = end.min(second);
                    }
                }
            }
        }
        least.map(|(place, _)| (place, end))
    }
}

/// Moves lines of one cursor below `end`, at least one. True if there is no more room.
fn run(
    cursor: &mut Cursor,
    end: &IdText,
    last: &mut Option<IdText>,
    out: &mut BytesMut,
    room: &mut usize,
    bytes_max: usize,
) -> bool {
    let mut first = true;
    while let Some(page) = cursor.pages.front_mut() {
        let mut taken = 0;
        let mut full = false;
        let mut more = true;
        while let Some(line) = line_at(page, taken) {
            let Some(id) = line.first_chunk::<ID_CHARS>() else { break };
            if !first && id >= end {
                more = false;
                break;
            }
            if line.len() > *room && *room < bytes_max {
                full = true;
                break;
            }
            first = false;
            *last = Some(*id);
            *room = room.saturating_sub(line.len());
            taken += line.len();
        }
        out.extend_from_slice(page.get(..taken).unwrap_or_default());
        page.advance(taken);
        let done = page.is_empty();
        if done {
            cursor.pages.pop_front();
        }
        if full || !more {
            return full;
        }
        if !done {
            return false;
        }
    }
    false
}

/// The line that begins here, with its newline.
fn line_at(page: &[u8], at: usize) -> Option<&[u8]> {
    let rest = page.get(at..)?;
    let end = memchr(b'\n', rest)?;
    rest.get(..=end)
}

/// Whether a page is what it says: whole lines with ascending ids within its bounds.
fn check(from: RecordId, next: RecordId, lines: &[u8]) -> Result<(), BadPage> {
    if next < from {
        return Err(BadPage::Backwards { from, next });
    }
    let (mut at, mut number) = (0, 0);
    let mut least = from;
    while at < lines.len() {
        number += 1;
        let line = line_at(lines, at).ok_or(BadPage::Line(number))?;
        let id = line.first_chunk::<ID_CHARS>().and_then(|id| RecordId::from_text(id)).ok_or(BadPage::Line(number))?;
        if id < least || id >= next {
            return Err(BadPage::Line(number));
        }
        least = id.next();
        at += line.len();
    }
    Ok(())
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
