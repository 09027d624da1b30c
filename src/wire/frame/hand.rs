//! The frames that are more than their fields: those that carry messages to be kept, which have to be fast, and a question
//! that may be empty.

use bytes::{BufMut, BytesMut};

use super::field::{Field, Fields, Result, check_id, check_seqs, check_span};
use super::table::kind;
use super::whole::{frame, patch};
use super::{Frame, FrameError, Messages, PREFIX, PUT_FIELDS, Tags, messages};
use crate::limits::{BATCH_MESSAGES_MAX, REPLICAS_MAX, SOURCE_NAME_BYTES_MAX};
use crate::wire::id::{ClientId, RecordId};
use crate::wire::ledger::{NUMBER_END, NodeId, Place};
use crate::wire::source::SourceName;

/// Bytes of a Store before its block: prefix, kind, sequence number, count.
const STORE_FIELDS: usize = PREFIX + 1 + 8 + 2;

/// Beside the count of a Put's members: the name of its source follows them.
const PUT_HAS_SOURCE: u8 = 0x80;

/// The same of the tags of its records, which follow that.
const PUT_HAS_TAGS: u8 = 0x40;

const _: () = assert!(REPLICAS_MAX < PUT_HAS_TAGS as usize && BATCH_MESSAGES_MAX <= u8::MAX as usize);

/// A Store of these messages, or a StoreAs, copied once.
///
/// # Errors
/// Sequence numbers out of bounds, or no messages.
pub fn store(out: &mut BytesMut, source: Option<&SourceName>, first_seq: u64, messages: &Messages) -> Result {
    out.reserve(STORE_FIELDS + 2 + SOURCE_NAME_BYTES_MAX + messages.block().len());
    let kind = if source.is_some() { kind::STORE_AS } else { kind::STORE };
    frame(out, kind, |out| {
        check_seqs(first_seq, messages.count().into())?;
        source.map_or(Ok(()), |source| source.put(out))?;
        first_seq.put(out)?;
        messages.put(out)
    })
}

pub(super) fn take_store_as(fields: &mut Fields<'_>) -> Result<Frame> {
    let source = SourceName::take(fields)?;
    take_store(Some(source), fields)
}

pub(super) fn take_store(source: Option<SourceName>, fields: &mut Fields<'_>) -> Result<Frame> {
    let first_seq = Field::take(fields)?;
    Ok(Frame::Store { source, first_seq, messages: Field::take(fields)? })
}

/// What a Put says before its messages.
#[derive(Clone, Copy, Debug)]
pub struct PutFields<'a> {
    /// Id of the first message.
    pub first: RecordId,
    /// Whose messages.
    pub client: ClientId,
    /// Sequence number of the first message.
    pub first_seq: u64,
    /// The ledger's number and the entry of the first message.
    pub place: Place,
    /// The members of the ledger, with entry 0.
    pub members: &'a [NodeId],
    /// The source of all of them, if their sender said its name.
    pub source: Option<&'a SourceName>,
    /// The tags of the records, as many as messages; or none.
    pub tags: &'a Tags,
}

/// A Put of these messages, copied once.
///
/// # Errors
/// An id, client, sequence number, entry or member out of bounds, or no messages, or not as many tags.
pub fn put(out: &mut BytesMut, fields: PutFields<'_>, messages: &Messages) -> Result {
    out.reserve(PREFIX + PUT_FIELDS + messages.block().len());
    let PutFields { first, client, first_seq, place, members, source, tags } = fields;
    frame(out, kind::PUT, |out| {
        let at = out.len();
        out.put_u32(0);
        check_seqs(first_seq, messages.count().into())?;
        check_put(first, place, messages)?;
        first.put(out)?;
        client.put(out)?;
        first_seq.put(out)?;
        place.number.put(out)?;
        place.entry.put(out)?;
        put_members(out, members, source, tags)?;
        check_tags(tags, messages)?;
        messages.put(out)?;
        let crc = crc32c::crc32c(out.get(at + 4..).unwrap_or_default());
        patch(out, at, &crc.to_be_bytes());
        Ok(())
    })
}

/// The members, the name of the source and the tags: the count of the members tells whether there are the others, so that none
/// take no room.
fn put_members(out: &mut BytesMut, members: &[NodeId], source: Option<&SourceName>, tags: &Tags) -> Result {
    super::field::check_count(members.len(), REPLICAS_MAX)?;
    let has_source = if source.is_some() { PUT_HAS_SOURCE } else { 0 };
    let has_tags = if tags.is_empty() { 0 } else { PUT_HAS_TAGS };
    (members.len() as u8 | has_source | has_tags).put(out)?;
    members.iter().try_for_each(|node| node.put(out))?;
    source.map_or(Ok(()), |source| source.put(out))?;
    if tags.is_empty() {
        return Ok(());
    }
    (tags.len() as u8).put(out)?;
    tags.put(out)
}

/// Each record has a tag, or none has.
fn check_tags(tags: &Tags, messages: &Messages) -> Result {
    let (count, most) = (tags.len(), messages.count().into());
    if tags.is_empty() || count == most { Ok(()) } else { Err(FrameError::Entries { count, most }) }
}

/// A Put, whose checksum says that nothing of it was changed on its way.
pub(super) fn take_put(fields: &mut Fields<'_>) -> Result<Frame> {
    let stored = u32::take(fields)?;
    let computed = crc32c::crc32c(fields.rest);
    if stored != computed {
        return Err(FrameError::Checksum { stored, computed });
    }
    let (first, client, first_seq) = (Field::take(fields)?, Field::take(fields)?, Field::take(fields)?);
    let place = Place { number: Field::take(fields)?, entry: Field::take(fields)? };
    let count = u8::take(fields)?;
    let members = fields.list((count & !(PUT_HAS_SOURCE | PUT_HAS_TAGS)).into(), REPLICAS_MAX)?;
    let source = if count & PUT_HAS_SOURCE == 0 { None } else { Some(Field::take(fields)?) };
    let tags = if count & PUT_HAS_TAGS == 0 { Tags::default() } else { take_tags(fields)? };
    let messages = Field::take(fields)?;
    check_put(first, place, &messages)?;
    check_tags(&tags, &messages)?;
    Ok(Frame::Put { first, client, first_seq, place, members, source, tags, messages })
}

fn take_tags(fields: &mut Fields<'_>) -> Result<Tags> {
    match u8::take(fields)? {
        // None are said by the flag.
        0 => Err(FrameError::Count(0)),
        count => Tags::take(fields, count.into()),
    }
}

/// Ids and entries of a Put are numbers that there are.
fn check_put(first: RecordId, place: Place, messages: &Messages) -> Result {
    check_id(&first.plus(messages.count().into()))?;
    if place.number >= NUMBER_END {
        return Err(FrameError::Range(place.number, place.number));
    }
    check_span(place.entry, place.entry.saturating_add(messages.count().into()))
}

/// The flags are left out where they say nothing, so that heads of before understand the question.
pub(super) fn put_status_query(out: &mut BytesMut, clients: bool, ledgers: bool) -> Result {
    match u8::from(clients) | u8::from(ledgers) << 1 {
        0 => Ok(()),
        flags => flags.put(out),
    }
}

pub(super) fn take_status_query(fields: &mut Fields<'_>) -> Result<Frame> {
    let flags = if fields.rest.is_empty() { 0 } else { u8::take(fields)? };
    if flags > 3 {
        return Err(FrameError::Flags(flags));
    }
    Ok(Frame::StatusQuery { clients: flags & 1 != 0, ledgers: flags & 2 != 0 })
}

/// Builds one Store at the end of a buffer, message by message; length and count are written at the end.
///
/// Nothing else may be appended to the buffer between [`begin`](Self::begin) and [`end`](Self::end).
#[derive(Debug)]
pub struct StoreBuilder {
    start: usize,
    /// Where the messages begin.
    block: usize,
    source: Option<SourceName>,
    first_seq: u64,
    count: u16,
}

impl StoreBuilder {
    /// Begins a Store whose first message has this sequence number.
    #[must_use]
    pub fn begin(out: &mut BytesMut, first_seq: u64) -> Self {
        Self::begin_as(out, None, first_seq)
    }

    /// Begins a StoreAs of this source, if there is one.
    #[must_use]
    pub fn begin_as(out: &mut BytesMut, source: Option<SourceName>, first_seq: u64) -> Self {
        let start = out.len();
        out.put_u32(0);
        out.put_u8(if source.is_some() { kind::STORE_AS } else { kind::STORE });
        if let Some(source) = &source {
            out.put_u16(source.as_bytes().len() as u16);
            out.put_slice(source.as_bytes());
        }
        out.put_u64(first_seq);
        out.put_u16(0);
        Self { start, block: out.len(), source, first_seq, count: 0 }
    }

    /// The source that it is begun with.
    #[must_use]
    pub const fn source(&self) -> Option<SourceName> {
        self.source
    }

    /// Messages so far.
    #[must_use]
    pub const fn count(&self) -> u16 {
        self.count
    }

    /// Payload bytes so far.
    #[must_use]
    pub fn payload_bytes(&self, out: &BytesMut) -> usize {
        out.len().saturating_sub(self.block + 4 * usize::from(self.count))
    }

    /// Appends one message.
    ///
    /// # Errors
    /// A message above its bound, or a frame that is full; nothing is appended then.
    pub fn push(&mut self, out: &mut BytesMut, payload: &[u8]) -> Result {
        check_seqs(self.first_seq, u64::from(self.count) + 1)?;
        let used = out.len().saturating_sub(self.block);
        messages::push(out, usize::from(self.count), used, &[payload])?;
        self.count += 1;
        Ok(())
    }

    /// Ends the frame; returns how many messages it has. With none the frame is taken back.
    pub fn end(self, out: &mut BytesMut) -> u16 {
        if self.count == 0 {
            out.truncate(self.start);
        } else {
            let length = out.len().saturating_sub(self.start + PREFIX);
            patch(out, self.start, &(length as u32).to_be_bytes());
            patch(out, self.block - 2, &self.count.to_be_bytes());
        }
        self.count
    }
}
