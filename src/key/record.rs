//! The tags of records: made by the head that takes a message, checked by every head through which its record passes later.
//!
//! A data node stores tags and can make none, so whoever holds a node or its disk can't invent a record, nor move one to
//! another entry. The tag is SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", INDOCRYPT 2012) under a key
//! that is derived from the cluster's, cut to 60 bits. What is the same in all records of a batch is hashed once for it.
//! Not here: what becomes of a record that is not believed.

use std::fmt;
use std::hash::Hasher as _;
use std::sync::Arc;

use siphasher::sip::SipHasher24;

use crate::limits::SOURCE_NAME_BYTES_MAX;
use crate::wire::ledger::Place;
use crate::wire::record::{Fields, Line, Tag};

/// With which heads mark the records that they take.
#[derive(Clone)]
pub struct RecordKey(SipHasher24);

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordKey(secret)")
    }
}

/// Bytes of a key of SipHash.
pub(super) const KEY_BYTES: usize = 16;

/// Bytes of what is the same in all records of a batch, beside the source.
const BATCH_BYTES: usize = 8 + 8 + 8 + 4 + 4;

/// A source takes whole words of eight bytes.
const SOURCE_BYTES_MAX: usize = SOURCE_NAME_BYTES_MAX.next_multiple_of(8);

impl RecordKey {
    pub(super) fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(SipHasher24::new_with_key(&bytes))
    }

    /// What makes the tags of a batch: of records that are consecutive entries, ids and numbers. None for what stands in no
    /// ledger.
    #[must_use]
    pub fn batch(&self, first: &Fields) -> Option<Marker> {
        let place = first.place?;
        let mut text = [0; BATCH_BYTES + SOURCE_BYTES_MAX];
        let source = first.source.as_ref().map_or(&[][..], |source| source.as_bytes());
        let len = BATCH_BYTES + source.len().next_multiple_of(8);
        let (batch, rest) = text.split_at_mut(BATCH_BYTES);
        let (words, [incarnation, number]) = batch_words(first, place);
        let (wide, narrow) = batch.split_at_mut(8 * words.len());
        wide.chunks_exact_mut(8).zip(words).for_each(|(out, word)| out.copy_from_slice(&word.to_be_bytes()));
        narrow
            .chunks_exact_mut(4)
            .zip([incarnation, number])
            .for_each(|(out, n)| out.copy_from_slice(&n.to_be_bytes()));
        rest.iter_mut().zip(source).for_each(|(out, byte)| *out = *byte);
        let mut state = self.0;
        state.write(text.get(..len).unwrap_or_default());
        Some(Marker { state, source_bytes: source.len() as u32 })
    }

    /// The tag of one record; none of one that stands in no ledger.
    #[must_use]
    pub fn tag(&self, fields: &Fields, payload: &[u8]) -> Option<Tag> {
        let entry = fields.place?.entry;
        self.batch(fields).map(|marker| marker.tag(entry, payload))
    }
}

/// Times and numbers count from the record that would be entry 0 of the batch, so that they are the same for all of it.
fn batch_words(first: &Fields, place: Place) -> ([u64; 3], [u32; 2]) {
    let entry = u64::from(place.entry);
    let words = [first.client.0, first.id.time_ns.wrapping_sub(entry), first.seq.wrapping_sub(entry)];
    (words, [first.id.incarnation, place.number])
}

/// Makes the tags of one batch.
#[derive(Clone, Copy)]
pub struct Marker {
    state: SipHasher24,
    source_bytes: u32,
}

impl fmt::Debug for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Marker(secret)")
    }
}

impl Marker {
    /// The tag of the record that is this entry.
    #[must_use]
    pub fn tag(&self, entry: u32, payload: &[u8]) -> Tag {
        let mut state = self.state;
        let word = u64::from(entry) << 32 | u64::from(self.source_bytes);
        state.write(&word.to_be_bytes());
        state.write(payload);
        Tag::from_bits(state.finish())
    }
}

/// Whether a record is believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// A head of the cluster took it.
    Proved,
    /// It has no right tag, and is so old that it may lack one.
    Unproved,
    /// It is not.
    Refused(Flaw),
}

/// Why a record is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Flaw {
    /// It should have a tag.
    #[error("it has no tag of a head")]
    NoTag,
    /// Its tag is another record's, or nobody's.
    #[error("its tag is not that of its contents")]
    WrongTag,
}

/// Tells records that heads of a cluster took from others.
#[derive(Clone, Debug)]
pub struct RecordCheck {
    /// All that count: while keys are changed, and for what was taken before that.
    keys: Arc<[RecordKey]>,
    /// Records of before are believed without a right tag, ns since 1970.
    unproved_before: u64,
}

impl RecordCheck {
    /// With these keys, for records that all have tags.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = RecordKey>) -> Self {
        Self { keys: keys.into_iter().collect(), unproved_before: 0 }
    }

    /// Records with ids of before this time, ns since 1970, are believed whatever their tag: those of format 1, of heads that had no
    /// key, and of a key that was lost.
    #[must_use]
    pub fn with_unproved_before(self, time_ns: u64) -> Self {
        Self { unproved_before: time_ns, ..self }
    }

    /// With other keys.
    #[must_use]
    pub fn with_keys(self, keys: impl IntoIterator<Item = RecordKey>) -> Self {
        Self { keys: keys.into_iter().collect(), ..self }
    }

    /// Looks at a record.
    #[must_use]
    pub fn look(&self, line: &Line<'_>) -> Verdict {
        let flaw = match line.tag {
            Some(tag) if self.is_right(line, tag) => return Verdict::Proved,
            Some(_) => Flaw::WrongTag,
            None => Flaw::NoTag,
        };
        if line.id.time_ns < self.unproved_before { Verdict::Unproved } else { Verdict::Refused(flaw) }
    }

    fn is_right(&self, line: &Line<'_>, tag: Tag) -> bool {
        let (fields, payload) = (line.fields(), line.payload());
        line.is_escaped_as_written() && self.keys.iter().any(|key| key.tag(&fields, &payload) == Some(tag))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::ClusterKey;
    use crate::wire::id::{ClientId, RecordId};
    use crate::wire::ledger::Place;
    use crate::wire::record::{decode, encode_tagged};

    fn key(byte: u8) -> RecordKey {
        ClusterKey::from_bytes([byte; 32]).records()
    }

    const FIELDS: Fields = Fields {
        id: RecordId { time_ns: 1_795_814_031_000_000_007, incarnation: 9 },
        client: ClientId(3),
        seq: 40,
        place: Some(Place { number: 2, entry: 5 }),
        source: None,
    };

    fn line(fields: Fields, tag: Option<Tag>, payload: &[u8]) -> Vec<u8> {
        let mut line = Vec::new();
        encode_tagged(&mut line, fields, tag, payload).unwrap();
        line.pop();
        line
    }

    fn verdict(check: &RecordCheck, line: &[u8]) -> Verdict {
        check.look(&decode(line).unwrap())
    }

    /// The vectors of the paper's appendix, so that others can make the same.
    #[test]
    fn the_hash_is_siphash_2_4() {
        let key = std::array::from_fn(|k| k as u8);
        let mut state = RecordKey::from_bytes(key).0;
        state.write(&std::array::from_fn::<u8, 15, _>(|k| k as u8));
        assert_eq!(state.finish(), 0xa129_ca61_49be_45e5);
    }

    /// `docs/data-log.md` shows the same.
    #[test]
    fn tags_are_those_of_the_contract() {
        let key = ClusterKey::from_bytes(std::array::from_fn(|k| k as u8)).records();
        let source = Some("taller/esp7".parse().unwrap());
        let document = include_str!("../../docs/data-log.md");
        for fields in [FIELDS, Fields { source, ..FIELDS }] {
            let tag = key.tag(&fields, "mensaje: ñ\n".as_bytes());
            let line = String::from_utf8(line(fields, tag, "mensaje: ñ\n".as_bytes())).unwrap();
            assert!(document.contains(&line), "{line}");
        }
    }

    #[test]
    fn a_record_is_believed_as_it_was_taken_and_no_other() {
        let (ours, theirs) = (key(1), key(2));
        let tag = ours.tag(&FIELDS, b"hola");
        let check = RecordCheck::new([ours.clone()]);
        assert_eq!(verdict(&check, &line(FIELDS, tag, b"hola")), Verdict::Proved);
        let other = |fields: Fields, payload: &[u8]| verdict(&check, &line(fields, tag, payload));
        let Fields { id, place, .. } = FIELDS;
        let place = place.unwrap();
        for fields in [
            Fields { id: id.plus(1), ..FIELDS },
            Fields { id: RecordId { incarnation: 8, ..id }, ..FIELDS },
            Fields { client: ClientId(4), ..FIELDS },
            Fields { seq: 41, ..FIELDS },
            Fields { place: Some(Place { entry: 6, ..place }), ..FIELDS },
            Fields { place: Some(Place { number: 3, ..place }), ..FIELDS },
            FIELDS.plus(1),
            Fields { source: Some("a".parse().unwrap()), ..FIELDS },
        ] {
            assert_eq!(other(fields, b"hola"), Verdict::Refused(Flaw::WrongTag), "{fields:?}");
        }
        for payload in [&b"hole"[..], b"hola ", b"", b"hola\0"] {
            assert_eq!(other(FIELDS, payload), Verdict::Refused(Flaw::WrongTag));
        }
        let of_them = line(FIELDS, theirs.tag(&FIELDS, b"hola"), b"hola");
        assert_eq!(verdict(&check, &of_them), Verdict::Refused(Flaw::WrongTag));
        assert_eq!(verdict(&RecordCheck::new([ours, theirs]), &of_them), Verdict::Proved, "another key that counts");
    }

    #[test]
    fn what_has_no_right_tag_is_believed_only_of_before_the_time_that_is_said() {
        let bare = line(FIELDS, None, b"hola");
        let strict = RecordCheck::new([key(1)]);
        assert_eq!(verdict(&strict, &bare), Verdict::Refused(Flaw::NoTag));
        let at = FIELDS.id.time_ns;
        assert_eq!(verdict(&strict.clone().with_unproved_before(at), &bare), Verdict::Refused(Flaw::NoTag));
        let lenient = strict.with_unproved_before(at + 1);
        assert_eq!(verdict(&lenient, &bare), Verdict::Unproved);
        let wrong = line(FIELDS, Some(Tag::from_bits(7)), b"hola");
        assert_eq!(verdict(&lenient, &wrong), Verdict::Unproved, "of a key that was lost");
        assert_eq!(verdict(&RecordCheck::new([key(1)]), &wrong), Verdict::Refused(Flaw::WrongTag));
        let old = Fields { place: None, ..FIELDS };
        assert_eq!(verdict(&lenient, &line(old, None, b"hola")), Verdict::Unproved, "format 1");
    }

    #[test]
    fn the_same_message_in_other_escapes_is_no_record() {
        let check = RecordCheck::new([key(1)]);
        let right = line(FIELDS, key(1).tag(&FIELDS, b"a\n"), b"a\n");
        assert_eq!(verdict(&check, &right), Verdict::Proved);
        let text = String::from_utf8(right).unwrap().replace("a\\n", "a\\x0a");
        let mut parts: Vec<&str> = text.splitn(5, ' ').collect();
        let covered = format!("{} {} {} {}", parts[0], parts[1], parts[2], parts[4]);
        let crc = crate::wire::record::text_checksum(&covered);
        parts[3] = &crc;
        let other = parts.join(" ");
        assert_eq!(decode(other.as_bytes()).unwrap().payload(), &b"a\n"[..]);
        assert_eq!(verdict(&check, other.as_bytes()), Verdict::Refused(Flaw::WrongTag));
    }

    #[test]
    fn what_debug_shows_is_no_secret() {
        let shown = format!("{:?} {:?}", key(1), key(1).batch(&FIELDS));
        assert_eq!(shown, "RecordKey(secret) Some(Marker(secret))");
    }

    proptest! {
        #[test]
        fn a_batch_has_the_tags_of_its_records(
            (time_ns, seq) in (0..9_999_999_999_000_000_000_u64, 0..1_u64 << 59),
            (number, entry) in (0..1_u32 << 30, 0..1_u32 << 29),
            source in prop::option::of("[a-z]{1,32}"),
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..16),
        ) {
            let first = Fields {
                id: RecordId { time_ns, incarnation: 7 },
                seq,
                place: Some(Place { number, entry }),
                source: source.map(|source| source.parse().unwrap()),
                ..FIELDS
            };
            let (key, check) = (key(3), RecordCheck::new([key(3)]));
            let marker = key.batch(&first).unwrap();
            for (k, payload) in (0..).zip(&payloads) {
                let tag = marker.tag(entry + k, payload);
                prop_assert_eq!(key.tag(&first.plus(k), payload), Some(tag));
                let line = line(first.plus(k), Some(tag), payload);
                prop_assert_eq!(decode(&line).unwrap().tag, Some(tag));
                prop_assert_eq!(verdict(&check, &line), Verdict::Proved);
            }
        }
    }
}
