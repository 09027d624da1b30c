//! Keeps the table of members up to date: in the head's memory, in `members.txt`, and with the data nodes.
//!
//! The rules are in [`super::members`]; this file is the I/O around them.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::members::{Away, Kept, Members};
use super::registered::NodeEntry;
use super::shelf::{Shelf, Stamp};
use super::state::Head;
use super::unread::{self, Growth, Unread};
use crate::clock::Clock;
use crate::limits;
use crate::wire::error::Refusal;
use crate::wire::frame::{Frame, Member, MemberState};
use crate::wire::id::RecordId;

/// Name of the file in the folder of the logs.
pub(crate) const FILE: &str = "members.txt";

/// The members of one head, and where they are written down.
pub(crate) struct Roster {
    table: RefCell<Members>,
    unread: RefCell<Unread>,
    shelf: Shelf,
    /// Told when the file is out of date.
    dirty: Notify,
    /// The file cannot be written, which was said once.
    failed: Cell<bool>,
    /// The file as it was left: somebody may move or cut it.
    left: Cell<Option<Stamp>>,
}

/// First word of the last line, which says how many are before it: without it the file was cut.
const END: &str = "end ";

impl Roster {
    /// The members that the head whose file lies there has known. A file that cannot be read is said loudly: reads may then be
    /// complete only in appearance, and so is one that is gone though this head `ran` before.
    #[must_use]
    pub(crate) fn open(shelf: Shelf, (replicas, copies_min): (usize, usize), clock: &Clock, ran: bool) -> Self {
        let mut table = Members::new(replicas).with_least(copies_min);
        let mut unread = Unread::default();
        // Before it is read: a change after that is seen.
        let left = Cell::new(shelf.stamp());
        let text = shelf.read(limits::MEMBERS_BYTES_MAX);
        match text.as_deref().map(whole) {
            Ok((text, is_whole)) => {
                if !is_whole {
                    tracing::error!(
                        "{shelf} was cut: its last line is missing; reads do not wait for dataNodes that stood there"
                    );
                }
                let (of_text, of_members): (Vec<_>, Vec<_>) =
                    (1..).zip(text.lines()).partition(|(_, line)| line.starts_with(unread::LINE));
                let mut bad = table.add_lines(of_members, clock.wall_ns() / 1_000_000_000);
                bad.extend(of_text.into_iter().filter(|(_, line)| !unread.take_line(line)).map(|(number, _)| number));
                for line in bad {
                    tracing::error!("line {line} of {shelf} makes no sense and is left out");
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && !ran => {}
            Err(error) => tracing::error!(
                "{shelf} cannot be read: {error}; reads do not wait for dataNodes that were known before"
            ),
        }
        let (table, unread, dirty) = (RefCell::new(table), RefCell::new(unread), Notify::new());
        let roster = Self { table, unread, shelf, dirty, failed: Cell::new(false), left };
        if text.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            // From now on it is there, or somebody took it away.
            roster.save();
        }
        roster
    }

    /// Whether the file says what it is to say, as far as a look at it tells.
    fn is_kept(&self) -> bool {
        !self.failed.get() && self.shelf.stamp() == self.left.get()
    }

    /// Writes the file anew: whoever reads it sees the old one or the new one.
    fn save(&self) {
        let mut text = self.table.borrow().to_text() + &self.unread.borrow().to_text();
        let lines = text.lines().count();
        text.push_str(&format!("{END}{lines}\n"));
        match self.shelf.write(text.as_bytes()) {
            Ok(stamp) => {
                self.left.set(Some(stamp));
                self.failed.set(false);
            }
            Err(error) => {
                if !self.failed.replace(true) {
                    tracing::error!("{} cannot be written: {error}; free space in the logs", self.shelf);
                }
            }
        }
    }
}

/// The lines before the last one, and whether that one says that they are all.
fn whole(text: &str) -> (&str, bool) {
    let at = text.trim_end_matches('\n').rfind('\n').map_or(0, |newline| newline + 1);
    let (before, last) = text.split_at_checked(at).unwrap_or_default();
    match last.strip_prefix(END).and_then(|rest| rest.strip_suffix('\n')) {
        Some(lines) => (before, lines.parse() == Ok(before.lines().count())),
        None => (text, false),
    }
}

impl Head {
    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// A node with an identity is about to be registered. That there is such a node is on the disk before it gets a message.
    ///
    /// # Errors
    /// Too many are known.
    pub(crate) fn member_here(&self, name: &str, id: u64, kept: Kept) -> Result<(), Refusal> {
        let uptime = self.uptime();
        let first = self.roster.table.borrow_mut().here(name, id, kept, uptime)?;
        if first {
            self.roster.save();
        }
        self.roster.dirty.notify_one();
        Ok(())
    }

    /// A node with an identity is not registered any more; `took` if it acknowledged something meanwhile.
    pub(crate) fn member_away(&self, id: u64, took: bool) {
        let uptime = self.uptime();
        self.roster.table.borrow_mut().away(id, took, uptime, self.config.clock.wall_ns() / 1_000_000_000);
        self.roster.dirty.notify_one();
    }

    /// A node told what its other heads know, or is gone with what it told.
    pub(crate) fn member_heard(&self) {
        let nodes = self.nodes();
        let heard: Vec<Member> = nodes.iter().flat_map(|node| node.heard.borrow().1.clone()).collect();
        let least = nodes.iter().map(|node| node.heard.borrow().0).filter(|least| *least > 0).min();
        let now = (self.uptime(), self.config.clock.wall_ns() / 1_000_000_000);
        let mut table = self.roster.table.borrow_mut();
        least.into_iter().for_each(|least| table.given_elsewhere(usize::from(least), now.0));
        let changed = table.heard(&heard, now);
        drop(table);
        if changed {
            self.roster.dirty.notify_one();
            self.changed.notify_waiters();
        }
    }

    /// A node reported on its log.
    pub(crate) fn member_reported(&self, id: u64, kept: Kept) {
        let uptime = self.uptime();
        if self.roster.table.borrow_mut().reported(id, kept, uptime) {
            self.roster.dirty.notify_one();
            self.changed.notify_waiters();
        }
    }

    /// A node keeps the only copy of messages that are about to be acknowledged. That it has such is on the disk when this
    /// returns: a head that starts again must not take the node for one that others can stand in for.
    pub(crate) fn member_keeps_alone(&self, id: u64, records: u64, named: bool) {
        let first = self.roster.table.borrow_mut().kept_alone(id, records, named);
        if first {
            self.roster.save();
            self.roster.dirty.notify_one();
        }
    }

    /// A node that speaks text keeps messages that are about to be acknowledged. That it has some is on the disk when this
    /// returns; how many is written now and then.
    pub(crate) fn text_node_keeps(&self, node: &NodeEntry, records: u64) {
        let growth = self.roster.unread.borrow_mut().add(&unread::name(node.dialect, node.ip), records);
        match growth {
            Growth::First => self.roster.save(),
            Growth::Doubled => self.roster.dirty.notify_one(),
            Growth::Little => {}
        }
    }

    /// A node that speaks text is gone: what is known of it is written down.
    pub(crate) fn text_node_left(&self) {
        self.roster.dirty.notify_one();
    }

    /// The nodes that speak text and keep records, and how many each keeps. No read has them.
    #[must_use]
    pub(crate) fn unread(&self) -> Vec<(String, u64)> {
        self.roster.unread.borrow().iter().map(|(name, records)| (name.to_owned(), records)).collect()
    }

    /// Nobody asks for what a node that speaks text keeps any more. False if no such node is known.
    pub(crate) fn forget_unread(&self, name: &str) -> bool {
        let known = self.roster.unread.borrow_mut().forget(name);
        if known {
            self.roster.dirty.notify_one();
        }
        known
    }

    /// Messages were acknowledged with so many copies.
    pub(crate) fn member_copies(&self, copies: usize) {
        if copies < self.config.replicas {
            let uptime = self.uptime();
            self.roster.table.borrow_mut().given(copies, uptime);
        }
    }

    /// A node keeps a copy that was made again, which is about to be told.
    pub(crate) fn member_keeps_copy(&self, id: u64) {
        self.roster.table.borrow_mut().keeps(id);
    }

    /// Names of the nodes that an answer lacks.
    #[must_use]
    pub(crate) fn missing(&self) -> Vec<String> {
        self.roster.table.borrow().missing().into_iter().map(str::to_owned).collect()
    }

    /// The nodes that are away.
    #[must_use]
    pub(crate) fn members_away(&self) -> Vec<Away> {
        self.roster.table.borrow().away_now().collect()
    }

    /// All that are known.
    #[must_use]
    pub(crate) fn members(&self) -> Vec<Member> {
        let mut members = self.roster.table.borrow().list();
        for node in self.nodes().iter() {
            if let Some(member) = members.iter_mut().find(|member| Some(member.id) == node.id) {
                member.sync = node.report.borrow().sync;
            }
        }
        members
    }

    /// Sets the state of a member, for those who drain it or give it up.
    pub(crate) fn set_member(&self, id: u64, state: MemberState) {
        if self.roster.table.borrow_mut().set_state(id, state) {
            self.roster.dirty.notify_one();
        }
    }

    /// Tells one node who the members are, if that is news.
    pub(crate) fn tell_members(&self, node: &NodeEntry) {
        let least = self.roster.table.borrow().least_given();
        let news = (u8::try_from(least).unwrap_or(u8::MAX), self.members());
        if *node.told.borrow() != news {
            node.told.replace(news.clone());
            let replicas = u8::try_from(self.config.replicas).unwrap_or(u8::MAX);
            node.tell(&Frame::Members { replicas, least: news.0, members: news.1 });
        }
    }

    /// Tells one node what is safe. Who alone has records below that goes before: the readers of other heads wait for those.
    pub(crate) fn tell_safe(&self, node: &NodeEntry, id: RecordId) {
        self.tell_members(node);
        node.answer(&Frame::Safe { id });
    }

    /// Writes the file and tells the nodes at every change, until the head is dropped; also when somebody moved or cut
    /// the file, and when it could not be written.
    pub(crate) async fn keep_members(self: Rc<Self>) {
        loop {
            let changed = timeout(limits::MEMBERS_LOOK_EVERY, self.roster.dirty.notified()).await.is_ok();
            if !changed && self.roster.is_kept() {
                continue;
            }
            self.roster.save();
            self.nodes().iter().for_each(|node| self.tell_members(node));
            sleep(limits::MEMBERS_TELL_EVERY).await;
        }
    }
}
