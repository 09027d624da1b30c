//! What came last, in the order in which it came, for streams: each goes through it at its own pace, and one that broke
//! goes on behind the event that it names. Who stood still for too long, or names one that is not known any more, is told
//! so and reads anew.

use std::collections::{HashSet, VecDeque};
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::json;
use tokio::sync::Notify;

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
    /// Told when there is a new one.
    pub(crate) came: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the first event that is here.
    first: u64,
    events: VecDeque<Event>,
    bytes: usize,
    /// The records of these events: what is read twice goes out once.
    ids: HashSet<RecordId>,
}

#[derive(Debug)]
struct Event {
    id: RecordId,
    source: Option<SourceName>,
    json: String,
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
    /// As they are sent; empty if nothing came.
    pub(crate) text: String,
    /// The number of the event that comes next.
    pub(crate) next: u64,
}

/// The events behind which a stream would go on are not here any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gone;

impl Live {
    /// None yet.
    pub(crate) fn new(run: u32) -> Self {
        Self { run, state: Mutex::default(), came: Notify::new() }
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
        let event = Event { id: message.id, source: message.source, json: json.to_string() };
        state.bytes += event.json.len();
        state.events.push_back(event);
        while state.events.len() > limits::WEB_LIVE_EVENTS_MAX || state.bytes > limits::WEB_LIVE_BYTES_MAX {
            let Some(oldest) = state.events.pop_front() else { break };
            state.first += 1;
            state.bytes -= oldest.json.len();
            state.ids.remove(&oldest.id);
        }
        drop(state);
        self.came.notify_waiters();
    }

    /// The number of the next event that comes.
    pub(crate) fn end(&self) -> u64 {
        let state = self.lock();
        state.first + state.events.len() as u64
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
        let is_here = (state.first..=state.first + state.events.len() as u64).contains(&next);
        if is_here && u32::from_str_radix(run, 16) == Ok(self.run) { Ok(next) } else { Err(Gone) }
    }

    /// Events from this one on, as many as go together.
    ///
    /// # Errors
    /// It is not here any more.
    pub(crate) fn batch(&self, from: u64, wanted: &Wanted) -> Result<Batch, Gone> {
        let state = self.lock();
        let skip = from.checked_sub(state.first).and_then(|skip| usize::try_from(skip).ok()).ok_or(Gone)?;
        let mut batch = Batch { text: String::new(), next: from };
        for event in state.events.iter().skip(skip) {
            batch.next += 1;
            if wanted.wants(event.source.as_ref()) {
                let Event { json, .. } = event;
                // Writing to a string does not fail.
                write!(batch.text, "id: {}\nevent: message\ndata: {json}\n\n", self.name(batch.next))
                    .unwrap_or_default();
            }
            if batch.text.len() >= limits::WEB_CHUNK_BYTES {
                break;
            }
        }
        Ok(batch)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[test]
    fn a_stream_goes_on_where_it_was_without_gap_or_double() {
        let live = Live::new(7);
        let begun = live.end();
        for n in [1, 2, 2, 1, 3] {
            take(&live, n, if n == 2 { "esp7" } else { "" }, b"t=1\nevent: message");
        }
        let all = live.batch(begun, &Wanted::All).unwrap();
        assert_eq!((all.text.matches("\nevent: ").count(), all.next), (3, begun + 3), "each once, and no line forged");
        let some = live.batch(begun, &Wanted::Of("esp7".parse().unwrap())).unwrap();
        assert!(some.text.starts_with("id: 00000007-2\n") && some.text.matches("\nevent: ").count() == 1, "{some:?}");
        assert_eq!(live.batch(begun, &Wanted::Nameless).unwrap().text.matches("\nevent: ").count(), 2);
        let place = live.place("00000007-2").unwrap();
        assert!(live.batch(place, &Wanted::All).unwrap().text.starts_with("id: 00000007-3\n"));
        assert_eq!(live.batch(live.end(), &Wanted::All).unwrap().text, "");
        for unknown in ["00000008-2", "00000007-9", "7", "", "x-1", "00000007-x"] {
            assert_eq!(live.place(unknown), Err(Gone), "{unknown}");
        }
    }

    #[test]
    fn who_stands_still_is_told_and_nothing_grows() {
        let live = Live::new(7);
        for n in 0..limits::WEB_LIVE_EVENTS_MAX as u64 + 5 {
            take(&live, n, "", b"1");
        }
        assert_eq!((live.batch(0, &Wanted::All), live.place("00000007-4")), (Err(Gone), Err(Gone)));
        assert!(live.place("00000007-5").is_ok());
        let state = live.lock();
        assert_eq!((state.events.len(), state.ids.len()), (limits::WEB_LIVE_EVENTS_MAX, limits::WEB_LIVE_EVENTS_MAX));
    }

    #[test]
    fn of_a_long_message_the_beginning_is_sent() {
        let live = Live::new(7);
        take(&live, 1, "", &[b'x'; 100_000]);
        let batch = live.batch(0, &Wanted::All).unwrap();
        assert!(batch.text.len() < 2 * limits::WEB_LIVE_TEXT_BYTES_MAX && batch.text.contains("\"cut\":true"));
    }
}
