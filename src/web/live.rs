//! What came last, in the order in which it came, for streams: each goes through it at its own pace, and one that broke
//! goes on behind the event that it names. Who stood still for too long, or names one that is not known any more, is told
//! so and reads anew.
//!
//! An event is written once, for all streams: they share pieces of some events, and only one that wants some sources copies
//! their events out of it.

use std::collections::{HashSet, VecDeque};
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::board::said;
use super::dato::cut;
use super::pages::rfc3339;
use crate::client::reader::Message;
use crate::limits;
use crate::reading::Reading;
use crate::wire::filter::SourceFilter;
use crate::wire::id::RecordId;
use crate::wire::source::SourceName;

/// The last events.
#[derive(Debug)]
pub(crate) struct Live {
    /// Tells the events of this process from those of others.
    run: u32,
    state: Mutex<State>,
    /// Told when there is one that is not given out.
    came: Notify,
    /// Told when a piece is given out.
    pub(crate) given: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// What is given out, the oldest first.
    pieces: VecDeque<Piece>,
    /// What comes is put here until that is given out.
    open: Piece,
    /// All events that are here.
    count: usize,
    bytes: usize,
    /// The records of these events: what is read twice goes out once.
    ids: HashSet<RecordId>,
}

/// Events that came one after the other, as they are sent: all streams share the bytes.
#[derive(Debug, Default)]
struct Piece {
    /// The number of the first.
    first: u64,
    /// Where each of them ends in the text.
    events: Vec<Event>,
    text: Bytes,
    /// While it is open.
    filling: String,
    /// The sources of these events, each once: most streams of one source pass over most pieces.
    sources: Vec<Option<SourceName>>,
}

#[derive(Clone, Copy, Debug)]
struct Event {
    id: RecordId,
    source: Option<SourceName>,
    end: usize,
}

impl Piece {
    fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    fn close(&mut self) {
        self.text = std::mem::take(&mut self.filling).into();
        self.sources = self.events.iter().map(|event| event.source).collect();
        self.sources.sort_unstable();
        self.sources.dedup();
    }

    /// The wanted ones of its events, but for the first `skip`.
    fn wanted(&self, skip: usize, wanted: &Wanted) -> Bytes {
        let ends = [0].into_iter().chain(self.events.iter().map(|event| event.end));
        let start = ends.clone().nth(skip).unwrap_or(self.text.len());
        if matches!(wanted, Wanted::All) {
            return self.text.slice(start..);
        }
        if !self.sources.iter().any(|source| wanted.wants(source.as_ref())) {
            return Bytes::new();
        }
        let mut text = BytesMut::new();
        let events = ends.zip(&self.events).skip(skip);
        for (start, event) in events.filter(|(_, event)| wanted.wants(event.source.as_ref())) {
            text.extend_from_slice(self.text.get(start..event.end).unwrap_or_default());
        }
        text.freeze()
    }
}

/// Which messages are wanted.
#[derive(Clone, Debug, Default)]
pub(crate) enum Wanted {
    /// All of them.
    #[default]
    All,
    /// Those without a source.
    Nameless,
    /// Those of some sources.
    Of(SourceFilter),
}

impl Wanted {
    /// Whether a message of this source is.
    pub(crate) fn wants(&self, source: Option<&SourceName>) -> bool {
        match self {
            Self::All => true,
            Self::Nameless => source.is_none(),
            Self::Of(filter) => filter.matches(source),
        }
    }
}

/// Events for a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// As they are sent; empty if nothing came that is wanted.
    pub(crate) text: Bytes,
    /// The number of the event that comes next.
    pub(crate) next: u64,
}

/// The events behind which a stream would go on are not here any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gone;

impl Live {
    /// None yet.
    pub(crate) fn new(run: u32) -> Self {
        Self { run, state: Mutex::default(), came: Notify::new(), given: Notify::new() }
    }

    /// Gives out what comes, in pieces, as often as streams are sent something.
    pub(crate) async fn give_out(&self) {
        loop {
            self.came.notified().await;
            self.lock().close();
            self.given.notify_waiters();
            sleep(limits::WEB_LIVE_PACE).await;
        }
    }

    /// Takes a message, and what it says.
    pub(crate) fn take(&self, message: &Message, reading: &Reading) {
        let mut state = self.lock();
        if !state.ids.insert(message.id) {
            return;
        }
        let text = message.text();
        let shown = cut(text, limits::WEB_LIVE_TEXT_BYTES_MAX);
        let json = json!({
            "id": message.id.to_string(),
            "time": rfc3339(message.id),
            "source": message.source.map(|source| source.to_string()),
            "text": shown,
            "cut": shown.len() < text.len(),
            "fields": said(reading),
        });
        let name = self.name(state.open.end() + 1);
        let filling = &mut state.open.filling;
        let before = filling.len();
        // Writing to a string does not fail.
        write!(filling, "id: {name}\nevent: message\ndata: {json}\n\n").unwrap_or_default();
        let end = filling.len();
        state.open.events.push(Event { id: message.id, source: message.source, end });
        state.count += 1;
        state.bytes += end - before;
        if end >= limits::WEB_CHUNK_BYTES {
            state.close();
        }
        state.forget();
        drop(state);
        self.came.notify_one();
    }

    /// Messages are left out from here on: every stream that comes here is told so.
    pub(crate) fn leave_out(&self) {
        let mut state = self.lock();
        state.close();
        // No event has this number.
        state.open.first += 1;
        drop(state);
        self.given.notify_waiters();
    }

    /// Where a stream goes on that was told that what comes next for it is not known: behind what was left out, or at the end
    /// if it fell behind.
    pub(crate) fn onward(&self, from: u64) -> u64 {
        let state = self.lock();
        if from < state.first() { state.open.end() } else { state.known_from(from).max(from) }
    }

    /// The number of the next event that comes.
    pub(crate) fn end(&self) -> u64 {
        self.lock().open.end()
    }

    /// The name of the place behind all events before this one.
    pub(crate) fn name(&self, next: u64) -> String {
        format!("{:08x}-{next}", self.run)
    }

    /// The place that has this name.
    ///
    /// # Errors
    /// It is another process's, or too long ago.
    pub(crate) fn place(&self, name: &str) -> Result<u64, Gone> {
        let (run, next) = name.split_once('-').ok_or(Gone)?;
        let next: u64 = next.parse().map_err(|_| Gone)?;
        let state = self.lock();
        let is_here = (state.first()..=state.open.end()).contains(&next);
        if is_here && u32::from_str_radix(run, 16) == Ok(self.run) { Ok(next) } else { Err(Gone) }
    }

    /// The wanted events of the next piece from this one on; where no event is wanted, also of those behind it.
    ///
    /// # Errors
    /// It is not here any more.
    pub(crate) fn batch(&self, from: u64, wanted: &Wanted) -> Result<Batch, Gone> {
        let state = self.lock();
        if from < state.known_from(from) {
            return Err(Gone);
        }
        let mut batch = Batch { text: Bytes::new(), next: from };
        let at = state.pieces.partition_point(|piece| piece.end() <= from);
        for piece in state.pieces.range(at..) {
            if piece.first > batch.next {
                break;
            }
            // No more than a piece holds.
            let skip = usize::try_from(batch.next - piece.first).unwrap_or(usize::MAX);
            batch = Batch { text: piece.wanted(skip, wanted), next: piece.end() };
            if !batch.text.is_empty() {
                break;
            }
        }
        Ok(batch)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The number of the first event that is here.
    fn first(&self) -> u64 {
        self.pieces.front().map_or(self.open.first, |piece| piece.first)
    }

    /// The number of the first event that is here at this place or behind it.
    fn known_from(&self, from: u64) -> u64 {
        let at = self.pieces.partition_point(|piece| piece.end() <= from);
        self.pieces.get(at).map_or(self.open.first, |piece| piece.first)
    }

    /// Gives out what is open.
    fn close(&mut self) {
        if !self.open.events.is_empty() {
            self.open.close();
            let open = Piece { first: self.open.end(), ..Piece::default() };
            self.pieces.push_back(std::mem::replace(&mut self.open, open));
        }
    }

    /// Forgets the oldest pieces that are more than has to be known.
    fn forget(&mut self) {
        let is_more = |state: &Self, oldest: &Piece| {
            state.count - oldest.events.len() >= limits::WEB_LIVE_EVENTS_MAX || state.bytes > limits::WEB_LIVE_BYTES_MAX
        };
        while self.pieces.front().is_some_and(|oldest| is_more(self, oldest))
            && let Some(oldest) = self.pieces.pop_front()
        {
            self.count -= oldest.events.len();
            self.bytes -= oldest.text.len();
            for event in &oldest.events {
                self.ids.remove(&event.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Rules;
    use crate::wire::id::ClientId;
    use crate::wire::ledger::Place;
    use crate::wire::record::{self, Fields};

    fn take(live: &Live, n: u64, source: &str, payload: &[u8]) {
        let (mut line, id) = (Vec::new(), RecordId { time_ns: 1_795_234_260_000_000_000 + n, incarnation: 7 });
        let place = Some(Place { number: 0, entry: 0 });
        let fields = Fields { id, client: ClientId(5), seq: n, place, source: source.parse().ok() };
        record::encode(&mut line, fields, payload).unwrap();
        let message = Message::decode(line.into()).unwrap();
        live.take(&message, &Reading::of(&message, &Rules::default()));
    }

    fn events(batch: &Batch) -> usize {
        std::str::from_utf8(&batch.text).unwrap().matches("\nevent: ").count()
    }

    #[test]
    fn a_stream_goes_on_where_it_was_without_gap_or_double() {
        let live = Live::new(7);
        let begun = live.end();
        for n in [1, 2, 2, 1, 3] {
            take(&live, n, if n == 2 { "esp7" } else { "" }, b"t=1\nevent: message");
        }
        assert_eq!(live.batch(begun, &Wanted::All).unwrap().next, begun, "not given out yet");
        live.lock().close();
        let all = live.batch(begun, &Wanted::All).unwrap();
        assert_eq!((events(&all), all.next), (3, begun + 3), "each once, and no line forged");
        let some = live.batch(begun, &Wanted::Of("esp7".parse().unwrap())).unwrap();
        assert!(some.text.starts_with(b"id: 00000007-2\n") && events(&some) == 1, "{some:?}");
        assert_eq!(events(&live.batch(begun, &Wanted::Nameless).unwrap()), 2);
        let place = live.place("00000007-2").unwrap();
        assert!(live.batch(place, &Wanted::All).unwrap().text.starts_with(b"id: 00000007-3\n"));
        assert!(live.batch(live.end(), &Wanted::All).unwrap().text.is_empty());
        for unknown in ["00000008-2", "00000007-9", "7", "", "x-1", "00000007-x"] {
            assert_eq!(live.place(unknown), Err(Gone), "{unknown}");
        }
    }

    #[test]
    fn a_stream_that_begins_in_the_middle_of_a_piece_gets_what_is_behind_its_beginning() {
        let live = Live::new(7);
        take(&live, 1, "a", b"1");
        let begun = live.end();
        take(&live, 2, "b", b"2");
        take(&live, 3, "a", b"3");
        live.lock().close();
        take(&live, 4, "a", b"4");
        live.lock().close();
        let (all, of_a) = (Wanted::All, Wanted::Of("a".parse().unwrap()));
        assert_eq!((events(&live.batch(begun, &all).unwrap()), events(&live.batch(begun, &of_a).unwrap())), (2, 1));
        let next = live.batch(begun, &of_a).unwrap().next;
        assert_eq!(live.batch(next, &of_a), live.batch(next, &all), "from the next piece on both are alike");
        // What nobody sends is looked for in all pieces at once.
        let none = live.batch(begun, &Wanted::Of("c".parse().unwrap())).unwrap();
        assert_eq!((none.text.len(), none.next), (0, live.end()));
    }

    #[test]
    fn what_is_left_out_is_told_to_each_stream_when_it_comes_there() {
        let live = Live::new(7);
        (0..9).for_each(|n| take(&live, n, "a", b"1"));
        let end = live.end();
        live.leave_out();
        let of_b = Wanted::Of("b".parse().unwrap());
        assert_eq!(events(&live.batch(0, &Wanted::All).unwrap()), 9, "what came before is sent");
        for wanted in [&Wanted::All, &of_b] {
            assert_eq!(live.batch(5, wanted).unwrap().next, end);
            assert_eq!(live.batch(end, wanted), Err(Gone));
        }
        assert_eq!(live.onward(end), end + 1);
        take(&live, 10, "b", b"1");
        live.lock().close();
        assert_eq!(live.batch(end, &Wanted::All), Err(Gone), "also when more has come");
        assert_eq!(live.batch(5, &of_b).unwrap().next, end);
        assert_eq!(events(&live.batch(live.onward(end), &of_b).unwrap()), 1);
    }

    #[test]
    fn all_streams_share_the_bytes_of_a_piece() {
        let live = Live::new(7);
        (0..9).for_each(|n| take(&live, n, "a", b"1"));
        live.lock().close();
        let [one, two] = [0, 0].map(|from| live.batch(from, &Wanted::All).unwrap().text);
        assert_eq!(one.as_ptr(), two.as_ptr());
    }

    #[test]
    fn who_stands_still_is_told_and_nothing_grows() {
        let live = Live::new(7);
        let most = limits::WEB_LIVE_EVENTS_MAX;
        (0..3 * most as u64).for_each(|n| take(&live, n, "", b"1"));
        assert_eq!((live.batch(0, &Wanted::All), live.place("00000007-4")), (Err(Gone), Err(Gone)));
        let known = live.end() - most as u64;
        assert!(live.place(&live.name(known)).is_ok(), "so many are known");
        let state = live.lock();
        let a_piece = state.pieces.front().unwrap().events.len();
        assert!((most..=most + 2 * a_piece).contains(&state.count), "{}", state.count);
        assert_eq!(state.ids.len(), state.count);
        let bytes: usize = state.pieces.iter().map(|piece| piece.text.len()).sum();
        assert_eq!(bytes + state.open.filling.len(), state.bytes);
    }

    #[test]
    fn of_a_long_message_the_beginning_is_sent() {
        let live = Live::new(7);
        take(&live, 1, "", &[b'x'; 100_000]);
        live.lock().close();
        let text = live.batch(0, &Wanted::All).unwrap().text;
        assert!(text.len() < 2 * limits::WEB_LIVE_TEXT_BYTES_MAX);
        assert!(String::from_utf8_lossy(&text).contains("\"cut\":true"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_is_given_out_at_once_and_then_with_what_comes_meanwhile() {
        let live = Live::new(7);
        let given = async {
            let mut batches = Vec::new();
            for _ in 0..2 {
                let told = live.given.notified();
                told.await;
                batches.push(events(&live.batch(batches.iter().sum::<usize>() as u64, &Wanted::All).unwrap()));
            }
            batches
        };
        let comes = async {
            for n in 0..5 {
                take(&live, n, "", b"1");
                sleep(limits::WEB_LIVE_PACE / 10).await;
            }
        };
        tokio::select! {
            () = live.give_out() => {}
            (batches, ()) = async { tokio::join!(given, comes) } => assert_eq!(batches, [1, 4]),
        }
    }
}
