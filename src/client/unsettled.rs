//! What a client has accepted and not settled, by sequence number: what to send, what to send again, when to give up.
//!
//! Pure: no socket, and the time is handed in. A lost connection makes everything unsettled unsent again, under the
//! same sequence numbers.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::{Ack, Outcome};
use crate::limits;
use crate::wire::error::Refusal;
use crate::wire::frame::StoreBuilder;
use crate::wire::source::SourceName;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Unsent,
    Sent,
    Settled,
}

#[derive(Debug)]
struct Entry {
    payload: Bytes,
    source: Option<SourceName>,
    state: State,
}

/// The in-flight table of one client.
#[derive(Debug)]
pub(super) struct Unsettled {
    /// Sequence number of the first entry.
    first_seq: u64,
    entries: VecDeque<Entry>,
    /// No entry before this place is unsent.
    cursor: usize,
    sent: usize,
    bytes: usize,
    /// Unsent entries wait until then: a head refused for now.
    hold: Option<Instant>,
    /// Since when nothing was settled while something waits.
    stuck_since: Option<Instant>,
    outcomes: VecDeque<Outcome>,
}

impl Unsettled {
    /// An empty unsettled; sequence numbers begin at this one.
    #[must_use]
    pub(super) const fn from(first_seq: u64) -> Self {
        Self {
            first_seq,
            entries: VecDeque::new(),
            cursor: 0,
            sent: 0,
            bytes: 0,
            hold: None,
            stuck_since: None,
            outcomes: VecDeque::new(),
        }
    }

    /// Messages accepted and not settled, and the settled ones behind the first of them.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether everything is settled.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Payload bytes of the same.
    #[must_use]
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether something was sent and is not settled.
    #[must_use]
    pub(super) const fn is_waiting(&self) -> bool {
        self.sent > 0
    }

    /// Accepts a message; returns its sequence number.
    pub(super) fn push(&mut self, payload: Bytes, source: Option<SourceName>, now: Instant) -> u64 {
        self.stuck_since.get_or_insert(now);
        self.bytes += payload.len();
        self.entries.push_back(Entry { payload, source, state: State::Unsent });
        self.first_seq + self.entries.len() as u64 - 1
    }

    /// Since when nothing was settled while something waits.
    #[must_use]
    pub(super) const fn stuck_since(&self) -> Option<Instant> {
        self.stuck_since
    }

    /// Until when unsent messages wait, if they do.
    #[must_use]
    pub(super) const fn hold(&self) -> Option<Instant> {
        self.hold
    }

    /// Encodes unsent messages as Store frames until `out` holds about `bytes_max`; they count as sent.
    pub(super) fn encode(&mut self, out: &mut BytesMut, bytes_max: usize, now: Instant) {
        if self.hold.is_some_and(|until| now < until) {
            return;
        }
        self.hold = None;
        let mut frame: Option<(StoreBuilder, usize)> = None;
        while out.len() < bytes_max {
            let Some(entry) = self.entries.get_mut(self.cursor) else { break };
            let seq = self.first_seq + self.cursor as u64;
            if entry.state != State::Unsent {
                self.cursor += 1;
                if let Some((frame, _)) = frame.take() {
                    frame.end(out);
                }
                continue;
            }
            let (builder, payload_bytes) =
                frame.get_or_insert_with(|| (StoreBuilder::begin_as(out, entry.source, seq), 0));
            let fits = builder.source() == entry.source
                && usize::from(builder.count()) < limits::BATCH_MESSAGES_MAX
                && (*payload_bytes == 0 || *payload_bytes + entry.payload.len() <= limits::BATCH_BYTES_MAX);
            if fits && builder.push(out, &entry.payload).is_ok() {
                *payload_bytes += entry.payload.len();
                entry.state = State::Sent;
                self.sent += 1;
                self.cursor += 1;
            } else if let Some((frame, _)) = frame.take()
                && frame.end(out) == 0
            {
                // Lengths are checked when messages are accepted; what no frame takes must not be tried for ever.
                break;
            }
        }
        if let Some((frame, _)) = frame {
            frame.end(out);
        }
    }

    /// A head keeps these messages.
    pub(super) fn acked(&mut self, ack: Ack, now: Instant) {
        let settled = self.settle(ack.first_seq, ack.count);
        if settled > 0 {
            self.stuck_since = Some(now);
            self.outcomes.push_back(Outcome::Acked(ack));
            self.trim();
        }
    }

    /// A head does not keep these messages: they are tried again at `again`, or given up.
    pub(super) fn refused(&mut self, first_seq: u64, count: u32, refusal: Refusal, again: Instant) {
        if refusal.retry {
            let mut any = false;
            for place in self.places(first_seq, count) {
                if let Some(entry) = self.entries.get_mut(place).filter(|entry| entry.state == State::Sent) {
                    entry.state = State::Unsent;
                    self.sent -= 1;
                    self.cursor = self.cursor.min(place);
                    any = true;
                }
            }
            if any {
                self.hold = Some(again);
            }
        } else if self.settle(first_seq, count) > 0 {
            self.outcomes.push_back(Outcome::Refused { first_seq, count, refusal });
            self.trim();
        }
    }

    /// The connection is lost: whatever is not settled is sent again.
    pub(super) fn rewind(&mut self) {
        for entry in &mut self.entries {
            if entry.state == State::Sent {
                entry.state = State::Unsent;
            }
        }
        self.sent = 0;
        self.cursor = 0;
        self.hold = None;
    }

    /// Gives up everything that waits if nothing was settled for `patience`; true if it did.
    pub(super) fn give_up(&mut self, refusal: &Refusal, patience: Duration, now: Instant) -> bool {
        if self.is_empty() || self.stuck_since.is_none_or(|since| now.saturating_duration_since(since) < patience) {
            return false;
        }
        let mut place = 0;
        while place < self.entries.len() {
            let unsettled = self.entries.range(place..).take_while(|entry| entry.state != State::Settled).count();
            if unsettled > 0 {
                let (first_seq, count) = (self.first_seq + place as u64, unsettled as u32);
                self.outcomes.push_back(Outcome::Refused { first_seq, count, refusal: refusal.clone() });
            }
            place += unsettled.max(1);
        }
        self.first_seq += self.entries.len() as u64;
        self.entries.clear();
        (self.cursor, self.sent, self.bytes) = (0, 0, 0);
        (self.hold, self.stuck_since) = (None, None);
        true
    }

    /// The next outcome nobody has been told.
    pub(super) fn next_outcome(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }

    /// Outcomes nobody has been told.
    #[must_use]
    pub(super) fn outcomes(&self) -> usize {
        self.outcomes.len()
    }

    /// The places of these sequence numbers that are still there.
    fn places(&self, first_seq: u64, count: u32) -> std::ops::Range<usize> {
        let place = |seq: u64| usize::try_from(seq.saturating_sub(self.first_seq)).unwrap_or(usize::MAX);
        let end = place(first_seq.saturating_add(count.into())).min(self.entries.len());
        place(first_seq).min(end)..end
    }

    fn settle(&mut self, first_seq: u64, count: u32) -> usize {
        let mut settled = 0;
        for place in self.places(first_seq, count) {
            let Some(entry) = self.entries.get_mut(place) else { break };
            if entry.state != State::Settled {
                self.sent -= usize::from(entry.state == State::Sent);
                entry.state = State::Settled;
                settled += 1;
            }
        }
        settled
    }

    fn trim(&mut self) {
        while let Some(entry) = self.entries.pop_front_if(|entry| entry.state == State::Settled) {
            self.bytes -= entry.payload.len();
            self.first_seq += 1;
            self.cursor = self.cursor.saturating_sub(1);
        }
        if self.entries.is_empty() {
            self.stuck_since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::error::Code;
    use crate::wire::frame::Frame;
    use crate::wire::id::RecordId;

    fn unsettled(messages: usize, now: Instant) -> Unsettled {
        let mut unsettled = Unsettled::from(1);
        for k in 0..messages {
            assert_eq!(unsettled.push(format!("m{k}").into(), None, now), k as u64 + 1);
        }
        unsettled
    }

    /// The sequence numbers that are sent now, a list for each frame.
    fn sent(unsettled: &mut Unsettled, now: Instant) -> Vec<Vec<u64>> {
        let mut out = BytesMut::new();
        unsettled.encode(&mut out, usize::MAX, now);
        let frames = std::iter::from_fn(|| Frame::decode(&mut out).unwrap());
        frames
            .map(|frame| match frame {
                Frame::Store { first_seq, messages, .. } => (first_seq..).take(messages.count().into()).collect(),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn ack(first_seq: u64, count: u32) -> Ack {
        Ack { first_seq, count, first: RecordId::default(), ..Ack::default() }
    }

    #[test]
    fn messages_go_out_in_batches_and_only_once() {
        let now = Instant::now();
        let mut unsettled = unsettled(20, now);
        assert_eq!(sent(&mut unsettled, now), [(1..=16).collect::<Vec<_>>(), (17..=20).collect()]);
        assert!(sent(&mut unsettled, now).is_empty());
    }

    #[test]
    fn who_goes_on_begins_with_the_next_number() {
        let now = Instant::now();
        let mut unsettled = Unsettled::from(5);
        assert_eq!((unsettled.push("a".into(), None, now), unsettled.push("b".into(), None, now)), (5, 6));
        assert_eq!(sent(&mut unsettled, now), [[5, 6]]);
        unsettled.acked(ack(5, 2), now);
        assert!(unsettled.is_empty());
    }

    #[test]
    fn messages_of_different_sources_go_out_in_frames_of_their_own() {
        let now = Instant::now();
        let (mut unsettled, mut out) = (Unsettled::from(1), BytesMut::new());
        for source in ["a", "a", "b", "", "", "a"] {
            unsettled.push("m".into(), source.parse().ok(), now);
        }
        unsettled.encode(&mut out, usize::MAX, now);
        let frames: Vec<_> = std::iter::from_fn(|| Frame::decode(&mut out).unwrap()).collect();
        let said = frames.iter().map(|frame| match frame {
            Frame::Store { source, first_seq, messages } => {
                (source.map(|name| name.to_string()).unwrap_or_default(), *first_seq, messages.count())
            }
            other => panic!("{other:?}"),
        });
        let wanted = [("a", 1, 2), ("b", 3, 1), ("", 4, 2), ("a", 6, 1)];
        assert_eq!(said.collect::<Vec<_>>(), wanted.map(|(name, seq, count)| (name.to_owned(), seq, count)));
    }

    #[test]
    fn a_lost_connection_sends_the_unsettled_again_under_the_same_numbers() {
        let now = Instant::now();
        let mut unsettled = unsettled(6, now);
        sent(&mut unsettled, now);
        unsettled.acked(ack(1, 1), now);
        unsettled.acked(ack(3, 2), now);
        unsettled.rewind();
        assert_eq!(sent(&mut unsettled, now), [vec![2], vec![5, 6]]);
        unsettled.acked(ack(1, 6), now);
        assert!(unsettled.is_empty());
        assert_eq!(unsettled.bytes(), 0);
    }

    #[test]
    fn a_refusal_for_now_is_tried_again_later_and_a_final_one_is_told() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut unsettled = unsettled(3, now);
        sent(&mut unsettled, now);
        unsettled.refused(2, 1, Refusal::new(Code::NoNodes, "no hay dataNodes"), later);
        assert!(sent(&mut unsettled, now).is_empty());
        assert_eq!(sent(&mut unsettled, later), [vec![2]]);
        unsettled.refused(3, 1, Refusal::new(Code::TooLong, "too long"), later);
        assert!(matches!(unsettled.next_outcome(), Some(Outcome::Refused { first_seq: 3, count: 1, .. })));
    }

    #[test]
    fn it_gives_up_only_when_nothing_moves() {
        let now = Instant::now();
        let patience = Duration::from_secs(10);
        let gone = Refusal::new(Code::Timeout, "gone");
        let mut unsettled = unsettled(4, now);
        sent(&mut unsettled, now);
        unsettled.acked(ack(2, 1), now + Duration::from_secs(9));
        assert!(!unsettled.give_up(&gone, patience, now + patience));
        assert!(unsettled.give_up(&gone, patience, now + Duration::from_secs(19)));
        let outcomes: Vec<_> = std::iter::from_fn(|| unsettled.next_outcome()).collect();
        assert!(
            matches!(
                outcomes[..],
                [
                    Outcome::Acked(_),
                    Outcome::Refused { first_seq: 1, count: 1, .. },
                    Outcome::Refused { first_seq: 3, count: 2, .. },
                ]
            ),
            "{outcomes:?}"
        );
        assert_eq!(unsettled.push("next".into(), None, now), 5);
    }
}
