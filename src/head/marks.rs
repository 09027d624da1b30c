//! The tags of records at a head: how a batch gets them, and what is wrong with a line of a data node. Pure.
//!
//! What a tag is, `key::record` says; when they are made and looked at, `tagging`.

use bytes::{Bytes, BytesMut};

use super::effects::Batch;
use crate::key::record::{Flaw, RecordCheck, RecordKey, Verdict};
use crate::wire::frame::{Tags, TagsBuilder};
use crate::wire::id::RecordId;
use crate::wire::ledger::Place;
use crate::wire::record::{self, Fields};

/// With what a head marks records, and tells those of its cluster from others.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    /// With which it marks what it takes.
    pub(crate) key: RecordKey,
    /// Whose it believes.
    pub(crate) check: RecordCheck,
}

/// Makes the tags of a batch once, for all nodes that get it.
#[derive(Debug, Default)]
pub(crate) struct Marking {
    builder: TagsBuilder,
    last: Option<(RecordId, Place, Tags)>,
}

impl Marking {
    /// The tags of the records that a batch becomes there.
    pub(super) fn tags(&mut self, key: &RecordKey, batch: &Batch, place: Place) -> Tags {
        let last = self.last.as_ref().filter(|(first, at, _)| (*first, *at) == (batch.first, place));
        if let Some((_, _, tags)) = last {
            return tags.clone();
        }
        let (id, client, seq, source) = (batch.first, batch.client, batch.first_seq, batch.source);
        let first = Fields { id, client, seq, place: Some(place), source };
        let Some(marker) = key.batch(&first) else { return Tags::none() };
        let entries = place.entry..=u32::MAX;
        let tags =
            self.builder.collect(entries.zip(&batch.messages).map(|(entry, payload)| marker.tag(entry, payload)));
        self.last = Some((batch.first, place, tags.clone()));
        tags
    }
}

/// Lines of a node, without those that are not believed.
#[derive(Debug, Default)]
pub(crate) struct Believed {
    /// The others, as they came.
    pub(crate) lines: Bytes,
    /// How many were left out.
    pub(crate) refused: u32,
    /// One of these says that it stands in no ledger, so nobody can count what lacks.
    pub(crate) unplaced: bool,
}

/// Why a line is not passed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cause {
    /// It is no record.
    Garbled,
    /// It is not believed.
    Flawed(Flaw),
}

impl Cause {
    /// For people: what is wrong, and what to do.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Garbled => "lines that are no records",
            Self::Flawed(Flaw::NoTag) => {
                "records without the tag of a head: they are forged, or of a version that made none; for those there is --unproved-before"
            }
            Self::Flawed(Flaw::WrongTag) => {
                "records that no head with this key took: they are forged, or their head has another key"
            }
        }
    }
}

/// Why a line is not passed on, if so, and whether it stands in no ledger.
pub(super) fn look(check: &RecordCheck, line: &[u8]) -> Option<(Cause, bool)> {
    match record::decode(line.strip_suffix(b"\n").unwrap_or(line)) {
        Ok(record) => match check.look(&record) {
            Verdict::Proved | Verdict::Unproved => None,
            Verdict::Refused(flaw) => Some((Cause::Flawed(flaw), record.place.is_none())),
        },
        Err(_) => Some((Cause::Garbled, false)),
    }
}

/// What was left out of some lines. Nothing is copied as long as that is nothing.
#[derive(Default)]
pub(super) struct Refused {
    pub(super) kept: BytesMut,
    pub(super) count: u32,
    /// Of the first one.
    pub(super) cause: Option<Cause>,
    pub(super) unplaced: bool,
}

impl Refused {
    pub(super) fn keep(&mut self, line: &[u8]) {
        if self.cause.is_some() {
            self.kept.extend_from_slice(line);
        }
    }

    pub(super) fn leave_out(&mut self, lines: &Bytes, at: usize, cause: Cause, unplaced: bool) {
        if self.cause.is_none() {
            self.kept.extend_from_slice(lines.get(..at).unwrap_or_default());
            self.cause = Some(cause);
        }
        self.count = self.count.saturating_add(1);
        self.unplaced |= unplaced;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::effects::Origin;
    use crate::key::ClusterKey;
    use crate::wire::frame::MessagesBuilder;
    use crate::wire::id::ClientId;
    use crate::wire::record::{decode, encode_tagged};

    fn key(byte: u8) -> RecordKey {
        ClusterKey::from_bytes([byte; 32]).records()
    }

    fn batch(messages: &[&[u8]]) -> Batch {
        let mut builder = MessagesBuilder::new();
        messages.iter().for_each(|message| builder.push(&[message]).unwrap());
        Batch {
            first: RecordId { time_ns: 1_795_814_031_000_000_000, incarnation: 7 },
            client: ClientId(3),
            first_seq: 1,
            source: Some("esp7".parse().unwrap()),
            messages: builder.take().unwrap(),
            origin: Origin { session: 1, ticket: 1 },
        }
    }

    /// The lines of a batch as a node writes them.
    fn lines(batch: &Batch, place: Place, tags: &Tags) -> Vec<Vec<u8>> {
        let first = Fields {
            id: batch.first,
            client: batch.client,
            seq: batch.first_seq,
            place: Some(place),
            source: batch.source,
        };
        let encoded = |((k, payload), tag)| {
            let mut line = Vec::new();
            encode_tagged(&mut line, first.plus(k), Some(tag), payload).unwrap();
            line
        };
        (0..).zip(&batch.messages).zip(tags.iter()).map(encoded).collect()
    }

    #[test]
    fn each_record_has_the_tag_of_where_it_stands() {
        let (mut marking, key, batch) = (Marking::default(), key(1), batch(&[b"1", b"2\n", "ñ".as_bytes()]));
        let check = RecordCheck::new([key.clone()]);
        let (here, there) = (Place { number: 0, entry: 5 }, Place { number: 1, entry: 5 });
        let tags = marking.tags(&key, &batch, here);
        assert_eq!(tags, marking.tags(&key, &batch, here), "for the next node");
        let put_again = marking.tags(&key, &batch, there);
        assert_ne!(tags, put_again);
        for line in lines(&batch, here, &tags).iter().chain(&lines(&batch, there, &put_again)) {
            assert_eq!(look(&check, line), None);
        }
        let moved = lines(&batch, there, &tags);
        assert_eq!(moved.len(), 3);
        for line in &moved {
            assert_eq!(look(&check, line), Some((Cause::Flawed(Flaw::WrongTag), false)));
        }
        let mut broken = moved.concat();
        broken.truncate(20);
        assert_eq!(look(&check, &broken), Some((Cause::Garbled, false)));
    }

    #[test]
    fn what_is_left_out_leaves_the_rest_as_it_was() {
        let (mut marking, batch, here) =
            (Marking::default(), batch(&[b"1", b"2", b"3"]), Place { number: 0, entry: 0 });
        let tags = marking.tags(&key(1), &batch, here);
        let right = lines(&batch, here, &tags);
        let wrong = [&b"1795814031----_----6 ---------2 1 1n0g0b hola\n"[..], &right[1][..30]].concat();
        let page = Bytes::from([&right[0][..], &wrong, b"\n", &right[2]].concat());
        let mut refused = Refused::default();
        let mut at = 0;
        for line in page.split_inclusive(|byte| *byte == b'\n') {
            match decode(line.strip_suffix(b"\n").unwrap()) {
                Ok(_) => refused.keep(line),
                Err(_) => refused.leave_out(&page, at, Cause::Garbled, false),
            }
            at += line.len();
        }
        assert_eq!((refused.kept.to_vec(), refused.count), ([&right[0][..], &right[2]].concat(), 2));
    }
}
