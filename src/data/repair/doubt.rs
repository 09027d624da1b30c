//! Which records may lack a copy that their lines name, and whom they have to be offered to.
//!
//! A line names the nodes that were asked when it was written. If one of them fails, the head has another keep the record
//! and puts it again with the right names, before the batch is settled. So the names of a batch that is settled are right
//! on every node that was connected until then; a node that was not has to doubt them. Each head says how far it is
//! settled (Safe): what was put after that on a connection that is lost is in doubt. A node that acknowledges before it
//! syncs may lose what others count on: what was written in the last time before it went away is in doubt, too.
//!
//! Pure. Places are places in the log, in the order in which it was written, so one range for a peer says it all. Kept in
//! `doubts.txt`: a line a peer, `<name> <file> <offset> <file> <offset> <crc>`, from the first place to before the second.
//! The name `+` is everybody, `-` for the second file is the end of the log when it is opened.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use crate::data::segments::{checksum, is_data, sealed_id};
use crate::data::view::View;
use crate::limits;
use crate::wire::id::RecordId;

/// The file of the doubts.
pub(crate) const DOUBTS: &str = "doubts.txt";

/// The name of everybody, which no node can have.
const EVERYBODY: &str = "+";

/// What stands for no file.
const NONE: &str = "-";

/// A place between two lines of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Place {
    /// The file's serial.
    pub(crate) file: u64,
    /// Bytes from its start.
    pub(crate) offset: u64,
}

/// The end of a log.
#[must_use]
pub(crate) fn end(view: &View) -> Place {
    match (view.current(), view.sealed().last()) {
        (Some(current), _) => Place { file: current.serial, offset: current.bytes },
        (None, Some(last)) => Place { file: last.serial + 1, offset: 0 },
        (None, None) => Place::default(),
    }
}

/// What one peer has to be offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Doubt {
    /// Where it begins.
    pub(crate) from: Place,
    /// Where it ends.
    pub(crate) to: Place,
    /// Changes whenever the doubt grows.
    pub(crate) turn: u64,
}

impl Doubt {
    /// Whether it reaches into the file with this serial.
    #[must_use]
    pub(crate) const fn concerns(&self, file: u64) -> bool {
        self.from.file <= file && (file < self.to.file || (file == self.to.file && self.to.offset > 0))
    }
}

/// A place that is settled once each of these heads has said that it is past its id.
#[derive(Debug)]
struct Mark {
    place: Place,
    waits: BTreeMap<u64, RecordId>,
}

/// What is in doubt, and what will be if a head is lost now.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    /// What was put before this place is settled, or in doubt already.
    settled: Place,
    mark: Option<Mark>,
    /// The greatest id that each connected head has put and not called settled.
    unsettled: BTreeMap<u64, RecordId>,
    /// Doubts that reach to the end of what is under way to the disk, by name.
    growing: BTreeMap<String, Place>,
    peers: BTreeMap<String, Doubt>,
    /// Where the log ended when a name was found to be another node, by name.
    replaced: BTreeMap<String, Place>,
    /// Where the log ended at some times, oldest first.
    past: VecDeque<(Duration, Place)>,
    turn: u64,
}

impl Doubts {
    /// No doubts about a log that ends there.
    #[must_use]
    pub(crate) fn new(end: Place) -> Self {
        Self { settled: end, past: VecDeque::from([(Duration::ZERO, end)]), ..Self::default() }
    }

    // ---- what heads say ----

    /// A head has put records from one id to another. What it puts behind others may be here already, and name other
    /// nodes: the names of both lines are to be right.
    pub(crate) fn put(&mut self, head: u64, least: RecordId, greatest: RecordId) {
        let last = self.unsettled.entry(head).or_insert(RecordId::ZERO);
        let again = least <= *last;
        *last = greatest.max(*last);
        if again {
            self.grow(EVERYBODY, self.settled);
        }
    }

    /// A head says that everything below this id is settled.
    pub(crate) fn safe(&mut self, head: u64, id: RecordId) {
        if self.unsettled.get(&head).is_some_and(|greatest| *greatest < id) {
            self.unsettled.remove(&head);
        }
        if let Some(mark) = &mut self.mark
            && mark.waits.get(&head).is_some_and(|greatest| *greatest < id)
        {
            mark.waits.remove(&head);
        }
        self.pass_mark();
    }

    /// What a head is to be asked for: whether it is past this id.
    #[must_use]
    pub(crate) fn asks(&self, head: u64) -> Option<RecordId> {
        let marked = self.mark.as_ref().and_then(|mark| mark.waits.get(&head));
        marked.or_else(|| self.unsettled.get(&head)).map(|id| id.next())
    }

    /// What a head put was not kept: it may have been a record that is here, with the right names.
    pub(crate) fn refused(&mut self) {
        self.grow(EVERYBODY, self.settled);
    }

    /// The connection to a head is lost: nobody will hear what became of what it put last.
    pub(crate) fn lost(&mut self, head: u64) {
        if self.unsettled.remove(&head).is_some() {
            self.grow(EVERYBODY, self.settled);
        }
        if let Some(mark) = &mut self.mark {
            mark.waits.remove(&head);
        }
        self.pass_mark();
    }

    /// A peer that acknowledges before it syncs is not there any more.
    pub(crate) fn left(&mut self, name: &str, now: Duration) {
        self.grow(name, self.at(now.saturating_sub(limits::OFFER_WINDOW)));
    }

    /// The log ends there now: called every second or so.
    pub(crate) fn look(&mut self, end: Place, now: Duration) {
        if self.past.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= limits::OFFER_SAMPLE_EVERY) {
            self.past.push_back((now, end));
        }
        // The first stays the last one that is old enough.
        while self.past.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= limits::OFFER_WINDOW) {
            self.past.pop_front();
        }
        if self.mark.is_none() && end > self.settled {
            self.mark = Some(Mark { place: end, waits: self.unsettled.clone() });
            self.pass_mark();
        }
    }

    fn pass_mark(&mut self) {
        if let Some(mark) = self.mark.take_if(|mark| mark.waits.is_empty()) {
            self.settled = mark.place;
        }
    }

    /// Where the log ended at a time, or before.
    fn at(&self, time: Duration) -> Place {
        let before = self.past.iter().rev().find(|(at, _)| *at <= time).or_else(|| self.past.front());
        before.map(|(_, place)| *place).unwrap_or_default()
    }

    // ---- doubts ----

    fn grow(&mut self, name: &str, from: Place) {
        let place = self.growing.entry(name.to_owned()).or_insert(from);
        *place = from.min(*place);
    }

    /// The doubts whose end is not known yet, by name; none for everybody. Give them back to [`doubt`](Self::doubt) once
    /// everything that was under way to the disk is there.
    pub(crate) fn take_growing(&mut self) -> Vec<(Option<String>, Place)> {
        let growing = std::mem::take(&mut self.growing);
        growing.into_iter().map(|(name, from)| ((name != EVERYBODY).then_some(name), from)).collect()
    }

    /// Whether there are doubts whose end is not known yet.
    #[must_use]
    pub(crate) fn is_growing(&self) -> bool {
        !self.growing.is_empty()
    }

    /// Records of these places that name this peer are in doubt.
    pub(crate) fn doubt(&mut self, name: &str, from: Place, to: Place) {
        // A name that no head can have told is in no line of ours.
        if from >= to || (self.peers.len() >= limits::MEMBERS_MAX && !self.peers.contains_key(name)) {
            return;
        }
        self.turn += 1;
        let turn = self.turn;
        let doubt = self.peers.entry(name.to_owned()).or_insert(Doubt { from, to, turn });
        *doubt = Doubt { from: from.min(doubt.from), to: to.max(doubt.to), turn };
    }

    /// The peer has everything up to a place. False, and nothing is changed, if its doubt has grown since `turn`.
    pub(crate) fn offered(&mut self, name: &str, turn: u64, place: Place) -> bool {
        let Some(doubt) = self.peers.get_mut(name) else { return true };
        if doubt.turn != turn {
            return false;
        }
        doubt.from = place;
        if doubt.from >= doubt.to {
            self.peers.remove(name);
        }
        true
    }

    /// Nobody has to be offered anything under this name.
    pub(crate) fn forget(&mut self, name: &str) {
        self.peers.remove(name);
        self.growing.remove(name);
    }

    /// The name belongs to another node now, which is known to have nothing of what lies before `end`.
    pub(crate) fn replaced(&mut self, name: &str, end: Place) {
        self.forget(name);
        self.replaced_at(name, end);
    }

    /// The name has belonged to another node since the log ended there.
    pub(crate) fn replaced_at(&mut self, name: &str, end: Place) {
        if self.replaced.len() < limits::MEMBERS_MAX || self.replaced.contains_key(name) {
            self.replaced.insert(name.to_owned(), end);
        }
    }

    /// A line that names this peer may mean the node that had the name before: it was under way while the peer was
    /// replaced. What came since then is in doubt, once; all of it if this node never met the one before.
    pub(crate) fn misnamed(&mut self, name: &str, end: Place) {
        let from = self.replaced.get(name).copied().unwrap_or_default();
        self.replaced_at(name, end);
        self.doubt(name, from, end);
    }

    /// What each peer has to be offered.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, Doubt)> {
        self.peers.iter().map(|(name, doubt)| (name.as_str(), *doubt))
    }

    // ---- the file ----

    /// The text of `doubts.txt`. `unsynced` says that some peer acknowledges before it syncs.
    #[must_use]
    pub(crate) fn to_text(&self, view: &View, unsynced: bool, now: Duration) -> String {
        let settled =
            if unsynced { self.settled.min(self.at(now.saturating_sub(limits::OFFER_WINDOW))) } else { self.settled };
        let everybody = self.growing.get(EVERYBODY).map_or(settled, |from| settled.min(*from));
        let mut text = line(EVERYBODY, &name_of(view, everybody), None);
        for (name, from) in self.growing.iter().filter(|(name, _)| *name != EVERYBODY) {
            text.push_str(&line(name, &name_of(view, *from), None));
        }
        for (name, doubt) in &self.peers {
            text.push_str(&line(name, &name_of(view, doubt.from), Some(&name_of(view, doubt.to))));
        }
        text
    }

    /// Reads `doubts.txt` for a log that was opened. What cannot be read, or is not there, may be in doubt as far back as
    /// `data.txt` goes.
    #[must_use]
    pub(crate) fn open(text: &[u8], view: &View) -> Self {
        let end = end(view);
        let mut doubts = Self::new(end);
        let mut known = false;
        for text in String::from_utf8_lossy(text).split_inclusive('\n') {
            let Some((name, from, to)) = parse(text) else {
                known = false;
                break;
            };
            known |= name == EVERYBODY;
            let from = place_of(view, &from);
            match to {
                None => doubts.grow(&name, from),
                Some(to) => doubts.doubt(&name, from, place_of(view, &to)),
            }
        }
        if !known {
            doubts.grow(EVERYBODY, Place { offset: 0, ..end });
        }
        doubts.growing.retain(|_, from| *from < end);
        doubts
    }
}

/// A place by the name of its file.
type Named = (String, u64);

fn line(name: &str, from: &Named, to: Option<&Named>) -> String {
    let mut fields = format!("{name} {} {} ", from.0, from.1);
    let (file, offset) = to.map_or((NONE, 0), |(file, offset)| (file.as_str(), *offset));
    // A String takes whatever is written to it.
    write!(fields, "{file} {offset}").unwrap_or_default();
    let crc = checksum(&fields);
    format!("{fields} {crc}\n")
}

fn parse(line: &str) -> Option<(String, Named, Option<Named>)> {
    let (fields, crc) = line.strip_suffix('\n')?.rsplit_once(' ')?;
    if crc != checksum(fields) {
        return None;
    }
    let fields: Vec<&str> = fields.split(' ').collect();
    let &[name, from, at, to, until] = &fields[..] else { return None };
    let place = |file: &str, offset: &str| {
        let fits = file == NONE || is_data(file);
        Some((file.to_owned(), offset.parse().ok()?)).filter(|_| fits)
    };
    let to = if to == NONE && until == "0" { None } else { Some(place(to, until)?) };
    Some((name.to_owned(), place(from, at)?, to))
}

/// A place by the name that its file has for good. The beginning of a file without a name is the end of the one before.
fn name_of(view: &View, place: Place) -> Named {
    if let Some(name) = view.name(place.file) {
        return (name.to_owned(), place.offset);
    }
    // A file that was removed began before the next one does.
    if let Some(next) = view.sealed().iter().find(|file| file.serial > place.file) {
        return (next.segment.file.clone(), 0);
    }
    if let Some(name) = view.current().filter(|current| current.serial > place.file).and_then(|it| it.name.as_deref()) {
        return (name.to_owned(), 0);
    }
    view.sealed().last().map_or((NONE.to_owned(), 1), |last| (last.segment.file.clone(), last.segment.bytes))
}

/// The place of a name. A file that is not there is taken for the first that may have been begun after it.
fn place_of(view: &View, (name, offset): &Named) -> Place {
    let end = end(view);
    let sealed = || view.sealed().iter();
    if let Some(file) = sealed().find(|file| file.segment.file == *name) {
        return Place { file: file.serial, offset: *offset };
    }
    if view.current().is_some_and(|current| current.name.as_deref() == Some(name)) {
        return Place { offset: *offset, ..end }.min(end);
    }
    if name == NONE {
        return Place::default();
    }
    let later = sealed().find(|file| sealed_id(&file.segment.file) >= sealed_id(name));
    later.map_or(Place { offset: 0, ..end }, |file| Place { file: file.serial, offset: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::segments::{Segment, sealed_name};
    use crate::data::view::{Sealed, SealedFile};
    use proptest::prelude::*;
    use std::sync::Arc;

    const fn id(n: u64) -> RecordId {
        RecordId { time_ns: n, incarnation: 0 }
    }

    const fn at(file: u64, offset: u64) -> Place {
        Place { file, offset }
    }

    /// Sealed files of 1000 bytes; the second one begins with an old record.
    fn view(files: usize) -> View {
        let file = |(serial, first): (u64, &u64)| {
            let (least, greatest) = (id(*first), id(*first));
            let segment = Segment { file: sealed_name(least, 1), records: 1, bytes: 1000, least, greatest };
            Arc::new(SealedFile { serial, segment, holdings: Arc::default() })
        };
        View::new(Arc::new(Sealed::new((0..).zip([50, 10, 90, 95].iter().take(files)).map(file).collect())), None)
    }

    fn growing(doubts: &mut Doubts) -> Vec<(Option<String>, Place)> {
        let growing = doubts.take_growing();
        growing.iter().for_each(|(name, from)| doubts.grow(name.as_deref().unwrap_or(EVERYBODY), *from));
        growing
    }

    #[test]
    fn what_was_put_and_not_called_settled_is_in_doubt_when_a_head_is_lost() {
        let mut doubts = Doubts::new(at(0, 0));
        let now = Duration::ZERO;
        doubts.put(1, id(1), id(5));
        doubts.put(2, id(3), id(3));
        doubts.look(at(0, 100), now);
        assert_eq!((doubts.asks(1), doubts.asks(2), doubts.asks(3)), (Some(id(5).next()), Some(id(3).next()), None));
        doubts.safe(1, id(5));
        doubts.safe(2, id(4));
        doubts.look(at(0, 200), now);
        assert_eq!(doubts.settled, at(0, 0), "the first head is at its last one yet");
        doubts.safe(1, id(6));
        assert_eq!(doubts.settled, at(0, 100));
        doubts.lost(2);
        assert!(!doubts.is_growing(), "nothing of its was open");
        doubts.put(1, id(7), id(9));
        doubts.look(at(0, 300), now);
        doubts.lost(1);
        assert_eq!(growing(&mut doubts), [(None, at(0, 100))]);
        assert_eq!(doubts.settled, at(0, 300), "what is in doubt need not be waited for");
    }

    #[test]
    fn what_comes_again_or_is_not_kept_is_in_doubt() {
        let mut doubts = Doubts::new(at(0, 0));
        doubts.put(1, id(1), id(5));
        doubts.put(1, id(6), id(7));
        assert!(!doubts.is_growing());
        doubts.put(1, id(2), id(3));
        assert_eq!(doubts.take_growing(), [(None, at(0, 0))]);
        doubts.refused();
        assert!(doubts.is_growing());
    }

    #[test]
    fn who_may_have_lost_something_is_offered_what_came_before_it_left() {
        let mut doubts = Doubts::new(at(0, 10));
        let seconds = Duration::from_secs;
        for second in 1..100 {
            doubts.look(at(0, 10 + second), seconds(second));
        }
        assert!(doubts.past.len() as u64 <= limits::OFFER_WINDOW.as_secs() + 2);
        doubts.left("data2", seconds(100));
        assert_eq!(growing(&mut doubts), [(Some("data2".to_owned()), at(0, 110 - limits::OFFER_WINDOW.as_secs()))]);
        doubts.left("data2", seconds(20));
        assert_eq!(growing(&mut doubts)[0].1, at(0, 109 - limits::OFFER_WINDOW.as_secs()), "the oldest that is known");
    }

    #[test]
    fn a_doubt_ends_when_all_of_it_was_offered_and_not_if_it_grew() {
        let mut doubts = Doubts::new(at(2, 0));
        doubts.doubt("data2", at(0, 10), at(1, 500));
        let turn = doubts.iter().next().unwrap().1.turn;
        assert!(doubts.offered("data2", turn, at(0, 700)));
        doubts.doubt("data2", at(1, 0), at(1, 900));
        assert!(!doubts.offered("data2", turn, at(1, 500)), "it has grown meanwhile");
        let (_, doubt) = doubts.iter().next().unwrap();
        assert_eq!((doubt.from, doubt.to), (at(0, 700), at(1, 900)));
        assert!(doubt.concerns(0) && doubt.concerns(1) && !doubt.concerns(2));
        assert!(doubts.offered("data2", doubt.turn, at(1, 900)));
        assert_eq!(doubts.iter().count(), 0);
        assert!(doubts.offered("data2", doubt.turn, at(1, 900)), "nothing is left to offer");
        for n in 0..2 * limits::MEMBERS_MAX {
            doubts.doubt(&format!("data{n}"), at(0, 0), at(0, 1));
        }
        assert_eq!(doubts.iter().count(), limits::MEMBERS_MAX);
        assert!(doubts.to_text(&view(3), false, Duration::ZERO).len() <= limits::DOUBTS_BYTES_MAX);
    }

    #[test]
    fn a_name_may_mean_another_node_only_in_what_came_after_it_was_replaced() {
        let mut doubts = Doubts::new(at(0, 0));
        doubts.misnamed("data2", at(0, 50));
        let (_, doubt) = doubts.iter().next().unwrap();
        assert_eq!((doubt.from, doubt.to), (at(0, 0), at(0, 50)), "whoever had the name was not met");
        doubts.doubt("data2", at(0, 10), at(0, 60));
        doubts.replaced("data2", at(0, 100));
        assert_eq!(doubts.iter().count(), 0, "what it lacks is known");
        doubts.misnamed("data2", at(0, 300));
        let (name, doubt) = doubts.iter().next().unwrap();
        assert_eq!((name, doubt.from, doubt.to), ("data2", at(0, 100), at(0, 300)));
        assert!(doubts.offered("data2", doubt.turn, at(0, 300)));
        doubts.misnamed("data2", at(0, 300));
        assert_eq!(doubts.iter().count(), 0, "it was offered all of that");
    }

    #[test]
    fn the_file_outlives_a_restart() {
        let (before, after) = (view(3), view(4));
        let mut doubts = Doubts::new(at(0, 0));
        (doubts.settled, doubts.turn) = (at(1, 300), 7);
        doubts.doubt("data2", at(0, 10), at(1, 500));
        doubts.left("data3", Duration::ZERO);
        let text = doubts.to_text(&before, false, Duration::ZERO);
        assert_eq!(text.lines().count(), 3, "{text}");
        let mut again = Doubts::open(text.as_bytes(), &after);
        assert_eq!(growing(&mut again), [(None, at(1, 300)), (Some("data3".to_owned()), at(0, 0))]);
        let (name, doubt) = again.iter().next().unwrap();
        assert_eq!((name, doubt.from, doubt.to), ("data2", at(0, 10), at(1, 500)));
        assert_eq!(again.to_text(&after, false, Duration::ZERO), text);
        // Its files were removed, or lost with the power.
        let mut shorter = Doubts::open(text.as_bytes(), &view(1));
        assert_eq!(growing(&mut shorter)[0], (None, at(0, 0)));
        for bad in [&text[1..], &text[..text.len() - 1], ""] {
            let mut doubts = Doubts::open(bad.as_bytes(), &view(0));
            assert!(growing(&mut doubts).is_empty(), "there is nothing yet");
        }
    }

    #[test]
    fn a_place_without_a_name_is_the_end_of_what_has_one() {
        let doubts = Doubts::new(end(&view(2)));
        let text = doubts.to_text(&view(2), false, Duration::ZERO);
        // What was written since is in doubt.
        let mut again = Doubts::open(text.as_bytes(), &view(3));
        assert_eq!(growing(&mut again), [(None, at(1, 1000))]);
        let text = Doubts::new(Place::default()).to_text(&view(0), false, Duration::ZERO);
        assert_eq!(growing(&mut Doubts::open(text.as_bytes(), &view(3))), [(None, at(0, 0))]);
    }

    proptest! {
        /// Whatever heads say and whenever they go: what they put and did not call settled is in doubt after that.
        #[test]
        fn nothing_unsettled_is_passed_over(ops in prop::collection::vec((0..4_u8, 1..4_u64, 1..5_u64), 1..80)) {
            let mut doubts = Doubts::new(at(0, 0));
            // Head, id, offset of what is open.
            let (mut open, mut last, mut end) = (Vec::<(u64, u64, u64)>::new(), 0, 0);
            for (op, head, n) in ops {
                match op {
                    0 => for _ in 0..n {
                        last += 1;
                        doubts.put(head, id(last), id(last));
                        open.push((head, last, end));
                        end += 10;
                    },
                    1 => {
                        let safe = last.saturating_sub(n - 1) + 1;
                        doubts.safe(head, id(safe));
                        open.retain(|(of, id, _)| *of != head || *id >= safe);
                    }
                    2 => doubts.look(at(0, end.saturating_sub(10 * (n - 1))), Duration::from_secs(last)),
                    _ => {
                        doubts.lost(head);
                        let lost = open.iter().filter(|(of, ..)| *of == head).map(|(.., offset)| *offset).min();
                        let growing = doubts.take_growing();
                        let from = growing.first().map(|(_, from)| from.offset);
                        prop_assert!(lost.is_none_or(|offset| from.is_some_and(|from| from <= offset)));
                        open.retain(|(of, ..)| *of != head);
                    }
                }
                // After a kill everything from there on is in doubt.
                let least = open.iter().map(|(.., offset)| *offset).min();
                prop_assert!(least.is_none_or(|offset| doubts.settled.offset <= offset));
            }
        }
    }
}
