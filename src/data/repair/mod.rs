//! Repair: copies that are missing are made again, by the nodes that hold the records.
//!
//! `presence` knows who is there, `need` judges, `gather` makes chunks, `overlay` remembers what was done, `peers` whom
//! names stood for, `doubt` whose copies may never have been made, `pace` how fast it may go: all pure. Here is what the
//! sessions tell and ask; `sweep` goes through the files, `offer` through those in doubt, `receive` keeps what others
//! send. `docs/wire.md` has the frames, `docs/data-log.md` the files.

pub(crate) mod doubt;
pub(crate) mod gather;
pub(crate) mod need;
mod offer;
pub(crate) mod overlay;
pub(crate) mod pace;
pub(crate) mod peers;
pub(crate) mod presence;
pub(crate) mod receive;
pub(crate) mod sweep;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use self::doubt::{DOUBTS, Doubts};
use self::need::{Judge, Need};
use self::overlay::Overlay;
use self::peers::{Meeting, Peers};
use self::presence::{Presence, Standing};
use super::commit::Commit;
use super::view::{SealedFile, View};
use crate::clock::Clock;
use crate::limits;
use crate::net::Outbox;
use crate::wire::error::{Code, Refusal};
use crate::wire::frame::{self, Frame, Member, MemberState};
use crate::wire::id::RecordId;

/// How a node repairs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Settings {
    /// Time for which a node may be away before its copies are made again.
    pub(crate) after: Duration,
    /// Pace of the copies, bytes of lines a second.
    pub(crate) bytes_per_second: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { after: limits::REPAIR_AFTER_DEFAULT, bytes_per_second: limits::REPAIR_RATE_DEFAULT }
    }
}

/// What a node says of the copies of its records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    /// Records it answers for that have fewer copies on present nodes than they are to have.
    pub(crate) short: u64,
    /// Records that, as far as it knows, no other node has.
    pub(crate) sole: u64,
}

struct Asked {
    head: u64,
    answer: oneshot::Sender<Result<String, Refusal>>,
}

/// The state of repair in one node.
pub(crate) struct Repair {
    me: String,
    id: u64,
    settings: Settings,
    /// The wall clock, for people who read `peers.txt`.
    clock: Clock,
    start: Instant,
    presence: RefCell<Presence>,
    overlay: RefCell<Overlay>,
    peers: RefCell<Peers>,
    /// `peers.txt` is out of date.
    peers_changed: Cell<bool>,
    /// Names that are other nodes now than before: what the old ones held has to be forgotten.
    replaced: RefCell<BTreeSet<String>>,
    doubts: RefCell<Doubts>,
    links: RefCell<BTreeMap<u64, Rc<Outbox>>>,
    asked: RefCell<BTreeMap<u64, Asked>>,
    last: Cell<u64>,
    /// Which of the heads is asked for the next copy.
    turn: Cell<usize>,
    /// Counts what heads told: who waits for a change compares it.
    told: Cell<u64>,
    changed: Notify,
    /// The heads let this node go.
    left: Cell<bool>,
}

impl Repair {
    /// Repair of the node of this name and identity, with what its folder remembers.
    #[must_use]
    pub(crate) fn new(
        (me, id): (String, u64),
        (settings, clock): (Settings, Clock),
        (overlay, peers, doubts): (Overlay, Peers, Doubts),
    ) -> Self {
        Self {
            me,
            id,
            settings,
            clock,
            start: Instant::now(),
            presence: RefCell::new(Presence::new(settings.after)),
            overlay: RefCell::new(overlay),
            peers: RefCell::new(peers),
            peers_changed: Cell::new(false),
            replaced: RefCell::default(),
            doubts: RefCell::new(doubts),
            links: RefCell::default(),
            asked: RefCell::default(),
            last: Cell::new(0),
            turn: Cell::new(0),
            told: Cell::new(0),
            changed: Notify::new(),
            left: Cell::new(false),
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Resolves at the next change of what heads told, counted from the call.
    pub(crate) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    fn change(&self) {
        self.told.set(self.told.get() + 1);
        self.changed.notify_waiters();
    }

    // ---- sessions ----

    /// A head is connected. The answer is its number.
    pub(crate) fn enter(&self, link: Rc<Outbox>) -> u64 {
        self.last.set(self.last.get() + 1);
        self.links.borrow_mut().insert(self.last.get(), link);
        self.last.get()
    }

    /// The connection to a head is gone: what it was asked is not answered.
    pub(crate) fn exit(&self, head: u64) {
        self.links.borrow_mut().remove(&head);
        self.asked.borrow_mut().retain(|_, asked| asked.head != head);
        self.doubts.borrow_mut().lost(head);
        self.presence.borrow_mut().lost_head(head, self.now());
        self.note_left();
        self.change();
    }

    /// Who went away and may not have what it acknowledged has to be offered that.
    fn note_left(&self) {
        for name in self.presence.borrow_mut().take_left() {
            self.doubts.borrow_mut().left(&name, self.now());
        }
    }

    /// Lines here name these nodes, and who holds the same records says that they do not have them: one of them was not
    /// the node any more that the line means when the line came.
    fn misnamed(&self, names: BTreeSet<String>, view: &View) {
        for name in names.iter().filter(|name| **name != self.me && self.is_expected(name)) {
            self.doubts.borrow_mut().misnamed(name, doubt::end(view));
        }
        self.change();
    }

    /// A head put so many records, from this id on.
    pub(crate) fn put(&self, head: u64, first: RecordId, records: u16) {
        let last = first.plus(u64::from(records).saturating_sub(1));
        self.doubts.borrow_mut().put(head, first, last);
    }

    /// What a head put was not kept.
    pub(crate) fn refused(&self) {
        self.doubts.borrow_mut().refused();
    }

    /// A head said that everything below this id is settled.
    pub(crate) fn safe(&self, head: u64, id: RecordId) {
        self.doubts.borrow_mut().safe(head, id);
    }

    /// Looks at how far the log goes. The answer is the id that a head has to say it is past.
    pub(crate) fn asks(&self, head: u64, view: &View) -> Option<RecordId> {
        let mut doubts = self.doubts.borrow_mut();
        doubts.look(doubt::end(view), self.now());
        doubts.asks(head)
    }

    /// A head told which nodes it knows.
    pub(crate) fn members(&self, head: u64, replicas: u8, members: Vec<Member>) {
        let others = |name: &str, id| members.iter().any(|other| other.name == name && other.id != id);
        let is_here = |member: &Member| matches!(member.state, MemberState::Here | MemberState::Draining);
        let (here, away): (Vec<&Member>, Vec<&Member>) =
            members.iter().filter(|member| member.name != self.me).partition(|member| is_here(member));
        for Member { name, id, .. } in &here {
            self.meet(name, *id, others(name, *id));
        }
        for Member { name, id, .. } in away {
            if !self.peers.borrow().lacks(name, *id) {
                continue;
            }
            if here.iter().any(|member| member.name == *name) {
                // It had the name before: it is no news when it is all that is told of.
                self.peers_changed.set(true);
                self.peers.borrow_mut().remember_older(name, *id, self.clock.now());
            } else {
                // It came and went while this node was away: copies must not be made as if the one before still held anything.
                self.meet(name, *id, true);
            }
        }
        self.presence.borrow_mut().told(head, replicas, members, self.now());
        self.note_left();
        self.change();
    }

    /// A peer is there. `had_other` says that a head has known another node of that name.
    fn meet(&self, name: &str, id: u64, had_other: bool) {
        let mut peers = self.peers.borrow_mut();
        let meeting = peers.meet(name, id);
        if meeting == Meeting::Known {
            return;
        }
        let is_full = meeting == Meeting::New && peers.len() >= limits::MEMBERS_MAX;
        // Names come and go with containers; those that no head tells of any more make room.
        if is_full && !peers.forget_one(|name| self.presence.borrow().is_told(name)) {
            return;
        }
        peers.remember(name, id, self.clock.now());
        self.peers_changed.set(true);
        if meeting == Meeting::Replaced || had_other {
            self.replaced.borrow_mut().insert(name.to_owned());
        }
    }

    /// A head said what became of a Copy.
    pub(crate) fn answered(&self, number: u64, node: String, refusal: Option<Refusal>) {
        if let Some(asked) = self.asked.borrow_mut().remove(&number) {
            // Who waited may have given up.
            drop(asked.answer.send(refusal.map_or(Ok(node), Err)));
        }
    }

    /// Whether a node is being drained: heads wait for reports then, changed or not.
    #[must_use]
    pub(crate) fn is_draining(&self) -> bool {
        self.presence.borrow().is_draining()
    }

    /// Whether this node is drained, by the word of every head that is connected.
    fn is_let_go(&self) -> bool {
        let presence = self.presence.borrow();
        presence.heads() == self.links.borrow().len() && presence.is_gone(self.id)
    }

    /// Whether the heads let this node go since it started.
    #[must_use]
    pub(crate) fn has_left(&self) -> bool {
        self.left.get()
    }

    /// The nodes that some head waits for and none has.
    #[must_use]
    pub(crate) fn away(&self) -> Vec<String> {
        self.presence.borrow().away()
    }

    /// What this node says of the copies of its records. Reads no file.
    #[must_use]
    pub(crate) fn counts(&self, view: &View) -> Counts {
        let mut counts = Counts::default();
        #[cfg(feature = "simulation")]
        if IDLES.get() {
            return counts;
        }
        self.classes(view, |need, records| {
            if need.short && need.responsible {
                counts.short += records;
            }
            if need.sole {
                counts.sole += records;
            }
        });
        if self.is_draining() {
            // Whoever is let go must not be counted on for a copy that was never made.
            counts.short += self.doubted(view);
        }
        counts
    }

    /// At most so many records may lack a copy that their lines name, on nodes that are not lost.
    fn doubted(&self, view: &View) -> u64 {
        let doubts = self.doubts.borrow();
        let in_doubt = doubts.iter().filter(|(name, _)| self.is_expected(name));
        let files = sweep::files(view);
        let of = |(name, doubt): (&str, doubt::Doubt)| {
            let files = files.iter().filter(move |file| doubt.concerns(file.serial));
            files.map(|file| file.holdings.shared_with(name)).sum::<u64>()
        };
        in_doubt.map(of).sum()
    }

    /// Whether a node is here or may come back.
    fn is_expected(&self, name: &str) -> bool {
        matches!(self.presence.borrow().standing(name, self.now()), Standing::Present | Standing::Absent)
    }

    // ---- judging ----

    fn judged<T>(&self, ask: impl FnOnce(&Judge<'_>) -> T) -> T {
        let presence = self.presence.borrow();
        let now = self.now();
        let replaced = self.replaced.borrow();
        let standing = |name: &str| match presence.standing(name, now) {
            // Until it is noted what the node before it held.
            Standing::Present if replaced.contains(name) => Standing::Absent,
            other => other,
        };
        let present: Vec<&str> =
            presence.here().map(|(name, _)| name).filter(|name| standing(name) == Standing::Present).collect();
        ask(&Judge { me: &self.me, replicas: presence.replicas(), present: &present, standing: &standing })
    }

    fn need(&self, written: &str, holders: &str) -> Need {
        self.judged(|judge| judge.judge(written, holders))
    }

    /// Every kind of record that this node has, by what its lines say and who holds it now, with how many there are.
    fn classes(&self, view: &View, mut each: impl FnMut(Need, u64)) {
        let overlay = self.overlay.borrow();
        self.judged(|judge| {
            for (written, records) in view.holdings().iter() {
                let plain = records.saturating_sub(overlay.records(written));
                if plain > 0 && written != super::holdings::OTHERS {
                    each(judge.judge(written, written), plain);
                }
            }
            for (written, holders, records) in overlay.totals() {
                each(judge.judge(written, holders), records);
            }
        });
    }

    /// Whether a sealed file has records with fewer copies than they are to have, or may have; none before a head has told who is
    /// there.
    #[must_use]
    pub(crate) fn is_short(&self, file: &SealedFile) -> Option<bool> {
        if !self.presence.borrow().is_connected() {
            return None;
        }
        let doubts = self.doubts.borrow();
        let mut in_doubt = doubts.iter().filter(|(_, doubt)| doubt.concerns(file.serial));
        if in_doubt.any(|(name, _)| self.is_expected(name) && file.holdings.shared_with(name) > 0) {
            return Some(true);
        }
        let overlay = self.overlay.borrow();
        let short = self.judged(|judge| {
            file.holdings.iter().any(|(written, records)| {
                let mut noted = 0;
                let now_short = overlay.of(&file.segment.file, written).any(|range| {
                    noted += range.records;
                    judge.judge(written, &range.holders).short
                });
                // Files with more sets of names than are counted are kept: nobody knows.
                let unknown = written == super::holdings::OTHERS;
                now_short || unknown || (noted < records && judge.judge(written, written).short)
            })
        });
        Some(short)
    }

    /// Whether there is a copy that this node can and has to make.
    fn has_work(&self, view: &View) -> bool {
        if !self.presence.borrow().is_connected() {
            return false;
        }
        #[cfg(feature = "simulation")]
        if IDLES.get() {
            return false;
        }
        let mut work = false;
        self.classes(view, |need, _| work |= need.responsible && need.copies > 0);
        work
    }

    // ---- copies ----

    /// Has lines copied to the node `to` or, if that is empty, to one that is not among the holders; the answer is its
    /// name.
    async fn copy(&self, (to, holders): (&str, &str), lines: &[u8]) -> Result<String, Refusal> {
        let link = {
            // Another head after each refusal: one may know of a free node where the last one did not.
            let links = self.links.borrow();
            let place = self.turn.get() % links.len().max(1);
            links.iter().nth(place).map(|(head, link)| (*head, Rc::clone(link)))
        };
        let busy = |text: &str| Refusal::new(Code::Busy, text);
        let Some((head, link)) = link else { return Err(busy("no head is connected; it is tried again")) };
        let (answer, answered) = oneshot::channel();
        self.last.set(self.last.get() + 1);
        let number = self.last.get();
        let written = link.with(|out| frame::copy(out, number, (to, holders), lines));
        written.map_err(|error| error.refusal())?;
        self.asked.borrow_mut().insert(number, Asked { head, answer });
        let answer = tokio::time::timeout(limits::COPY_TIME_MAX, answered).await;
        self.asked.borrow_mut().remove(&number);
        if !matches!(answer, Ok(Ok(Ok(_)))) {
            self.turn.set(self.turn.get().wrapping_add(1));
        }
        match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(busy("the head that was asked is gone; another is tried")),
            Err(_) => Err(busy("no answer came in time; it is tried again")),
        }
    }
}

#[cfg(feature = "simulation")]
thread_local! {
    /// A fault that a simulation plants in the data nodes of its thread: no copy is made, and none is said to be missing.
    pub(crate) static IDLES: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// What a session does with the frames of repair.
pub(crate) struct Desk {
    /// The node's repair.
    pub(crate) repair: Rc<Repair>,
    /// The number of this head's connection.
    pub(crate) head: u64,
    /// Keeps what this head sends for keeping.
    pub(crate) receiver: receive::Receiver,
}

impl Desk {
    /// This head puts so many records, from this id on.
    pub(crate) fn put(&self, first: RecordId, records: u16) {
        self.repair.put(self.head, first, records);
    }

    /// The id that this head has to say it is past, for this log.
    #[must_use]
    pub(crate) fn asks(&self, view: &View) -> Option<RecordId> {
        self.repair.asks(self.head, view)
    }

    /// This head says that everything below this id is settled.
    pub(crate) fn safe(&self, id: RecordId) {
        self.repair.safe(self.head, id);
    }

    /// Takes a frame if it is one of repair, and hands it back if not.
    ///
    /// # Errors
    /// A fault of the head.
    pub(crate) fn take(&self, frame: Frame) -> Result<Option<Frame>, Refusal> {
        match frame {
            Frame::Members { replicas, members, .. } => self.repair.members(self.head, replicas, members),
            Frame::CopyAck { number, node, refusal } => self.repair.answered(number, node, refusal),
            Frame::CopyPut { number, copies, lines } => self.receiver.put(number, copies, lines)?,
            other => return Ok(Some(other)),
        }
        Ok(None)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.repair.exit(self.head);
    }
}

/// Opens what a folder remembers of repair, as far as it fits the files of `view`, and begins.
///
/// # Errors
/// The folder cannot be read or written.
pub(crate) fn open<S: super::storage::Storage>(
    storage: &S,
    (me, id): (&str, u64),
    (settings, clock): (Settings, Clock),
    view: &View,
) -> std::io::Result<Repair> {
    let peers = Peers::parse(&read(storage, peers::PEERS, limits::PEERS_BYTES_MAX)?);
    let text = read(storage, overlay::COPIES, limits::REPAIR_FILE_BYTES_MAX)?;
    let (mut overlay, whole) = Overlay::parse(&text);
    overlay.fit(sweep::files(view).iter().map(|file| (&*file.name, file.bytes)));
    if !whole {
        // What was lost may have said that a node does not hold any more what it held before it was replaced.
        for name in peers.replaced() {
            sweep::forget(&mut overlay, view, name);
        }
        tracing::warn!("{}: some lines could not be read; what they said is copied again", overlay::COPIES);
    }
    let fresh = overlay.to_text();
    if fresh.as_bytes() != text {
        storage.write_small(overlay::COPIES, fresh.as_bytes())?;
    }
    let text = read(storage, DOUBTS, limits::DOUBTS_BYTES_MAX)?;
    let mut doubts = Doubts::open(&text, view);
    for name in peers.replaced() {
        // Where the log ended then is not written down.
        doubts.replaced_at(name, doubt::Place::default());
    }
    let fresh = doubts.to_text(view, false, Duration::ZERO);
    if fresh.as_bytes() != text {
        // A place beyond the end of the log must not hide what is written there from now on.
        match storage.write_small(DOUBTS, fresh.as_bytes()) {
            Err(error) if crate::files::is_full(&error) => {}
            other => other?,
        }
    }
    Ok(Repair::new((me.to_owned(), id), (settings, clock), (overlay, peers, doubts)))
}

fn read<S: super::storage::Storage>(storage: &S, name: &str, bytes_max: usize) -> std::io::Result<Vec<u8>> {
    match storage.read_small(name, bytes_max) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}

const _: () = assert!(limits::COPY_BYTES_MAX <= limits::LINES_FRAME_BYTES_MAX);

impl std::fmt::Debug for Repair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repair").field("me", &self.me).field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::SyncMode;
    use MemberState::{Away, Here};

    #[test]
    fn a_name_is_another_node_when_a_later_identity_is_told_of_and_not_an_older_one() {
        let of = (Overlay::default(), Peers::default(), Doubts::default());
        let repair = Repair::new(("data1".to_owned(), 1), (Settings::default(), Clock::default()), of);
        let told = |members: &[(u64, MemberState)]| {
            let member =
                |&(id, state)| Member { name: "data2".to_owned(), id, state, sync: SyncMode::Always, sole: false };
            repair.members(1, 2, members.iter().map(member).collect());
            !repair.replaced.take().is_empty()
        };
        assert!(told(&[(7, Away), (8, Here)]), "another node had the name of one that was never met");
        assert!(!told(&[(7, Away), (8, Here)]), "that was heard");
        assert!(!told(&[(7, Away), (8, Away)]) && !told(&[(8, Here), (7, Away)]), "it only starts again");
        assert!(told(&[(8, Away), (9, Away)]), "one came and went");
        assert!(!told(&[(8, Away), (9, Here)]), "and is back");
    }
}
