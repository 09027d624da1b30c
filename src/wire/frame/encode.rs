//! Encoders: each appends one frame to a buffer, or refuses and leaves the buffer as it was.

use bytes::{BufMut, BytesMut};

use super::{
    Copies, Frame, FrameError, Messages, NodeReport, PREFIX, SyncMode, check_client, check_id, check_seqs, kind,
    messages,
};
use crate::limits::{FRAME_BYTES_MAX, REPLICAS_MAX, STATUS_BYTES_MAX, TEXT_BYTES_MAX};
use crate::wire::error::{Code, Refusal};
use crate::wire::id::{ClientId, RecordId};

type Result<T = (), E = FrameError> = std::result::Result<T, E>;

/// Bytes of a Store before its block: prefix, kind, sequence number, count.
const STORE_FIELDS: usize = PREFIX + 1 + 8 + 2;

/// Writes a frame of this kind: the body, then its length into the prefix; on an error the buffer is as before.
fn frame(out: &mut BytesMut, kind: u8, body: impl FnOnce(&mut BytesMut) -> Result) -> Result {
    let start = out.len();
    out.put_u32(0);
    out.put_u8(kind);
    let result = body(out).and_then(|()| patch_length(out, start));
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn patch_length(out: &mut BytesMut, start: usize) -> Result {
    let length = out.len().saturating_sub(start + PREFIX);
    if length == 0 || length > FRAME_BYTES_MAX {
        return Err(FrameError::Length(length));
    }
    patch(out, start, &(length as u32).to_be_bytes());
    Ok(())
}

fn patch(out: &mut BytesMut, at: usize, bytes: &[u8]) {
    if let Some(place) = out.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

fn text(out: &mut BytesMut, text: &str) -> Result {
    if text.len() > TEXT_BYTES_MAX {
        return Err(FrameError::TextLong(text.len()));
    }
    out.put_u16(text.len() as u16);
    out.put_slice(text.as_bytes());
    Ok(())
}

/// A text of an error, cut at a character to what fits: an explanation is better short than missing.
fn explanation(out: &mut BytesMut, full: &str) -> Result {
    let cut = (0..=TEXT_BYTES_MAX.min(full.len())).rev().find_map(|end| full.get(..end));
    text(out, cut.unwrap_or_default())
}

fn refusal_fields(out: &mut BytesMut, refusal: &Refusal) -> Result {
    out.put_u16(refusal.code.into());
    out.put_u8(refusal.retry.into());
    explanation(out, &refusal.text)
}

fn id(out: &mut BytesMut, id: RecordId) -> Result {
    check_id(id)?;
    out.put_u64(id.time_ns);
    out.put_u32(id.incarnation);
    Ok(())
}

fn client_id(out: &mut BytesMut, client: ClientId) -> Result {
    check_client(client)?;
    out.put_u64(client.0);
    Ok(())
}

fn message_fields(out: &mut BytesMut, first_seq: u64, messages: &Messages) -> Result {
    check_seqs(first_seq, u64::from(messages.count()))?;
    out.put_u64(first_seq);
    block_fields(out, messages)
}

fn block_fields(out: &mut BytesMut, messages: &Messages) -> Result {
    if messages.is_empty() {
        return Err(FrameError::Count(0));
    }
    out.put_u16(messages.count());
    out.put_slice(messages.block());
    Ok(())
}

/// A Store of these messages, copied once.
///
/// # Errors
/// Sequence numbers out of bounds, or no messages.
pub fn store(out: &mut BytesMut, first_seq: u64, messages: &Messages) -> Result {
    out.reserve(STORE_FIELDS + messages.block().len());
    frame(out, kind::STORE, |out| message_fields(out, first_seq, messages))
}

/// A Put of these messages, copied once.
///
/// # Errors
/// An id, client or sequence number out of bounds, or no messages.
pub fn put(
    out: &mut BytesMut,
    first: RecordId,
    client: ClientId,
    first_seq: u64,
    copies: &str,
    messages: &Messages,
) -> Result {
    out.reserve(PREFIX + super::PUT_FIELDS + messages.block().len());
    frame(out, kind::PUT, |out| {
        check_id(first.plus(u64::from(messages.count())))?;
        id(out, first)?;
        client_id(out, client)?;
        check_seqs(first_seq, u64::from(messages.count()))?;
        out.put_u64(first_seq);
        text(out, copies)?;
        block_fields(out, messages)
    })
}

/// An Acked of `count` messages whose copies are at these ips.
///
/// # Errors
/// A range, an id, or the copies out of bounds.
pub fn acked<'a>(
    out: &mut BytesMut,
    first_seq: u64,
    count: u32,
    first: RecordId,
    sync: SyncMode,
    ips: impl IntoIterator<Item = &'a str>,
) -> Result {
    frame(out, kind::ACKED, |out| {
        check_seqs(first_seq, u64::from(count))?;
        out.put_u64(first_seq);
        out.put_u32(count);
        id(out, first)?;
        out.put_u8(sync as u8);
        let at = out.len();
        out.put_u8(0);
        let mut copies = 0_u8;
        for ip in ips {
            copies = copies.saturating_add(1);
            if usize::from(copies) > REPLICAS_MAX {
                return Err(FrameError::Copies(copies));
            }
            text(out, ip)?;
        }
        patch(out, at, &[copies]);
        Ok(())
    })
}

/// A Refused of `count` messages. A text beyond its bound is cut.
///
/// # Errors
/// A range out of bounds.
pub fn refused(out: &mut BytesMut, first_seq: u64, count: u32, refusal: &Refusal) -> Result {
    frame(out, kind::REFUSED, |out| {
        check_seqs(first_seq, u64::from(count))?;
        out.put_u64(first_seq);
        out.put_u32(count);
        refusal_fields(out, refusal)
    })
}

/// A Failure. A text beyond its bound is cut.
pub fn failure(out: &mut BytesMut, refusal: &Refusal) {
    // Nothing in it can be refused: the text is cut and the rest is fixed.
    frame(out, kind::FAILURE, |out| refusal_fields(out, refusal)).unwrap_or_default();
}

/// A PutAck.
pub fn put_ack(out: &mut BytesMut, up_to: u64, sync: SyncMode) {
    out.put_u32(10);
    out.put_u8(kind::PUT_ACK);
    out.put_u64(up_to);
    out.put_u8(sync as u8);
}

/// A PutRefused. A text beyond its bound is cut.
pub fn put_refused(out: &mut BytesMut, number: u64, code: Code, why: &str) {
    frame(out, kind::PUT_REFUSED, |out| {
        out.put_u64(number);
        out.put_u16(code.into());
        explanation(out, why)
    })
    .unwrap_or_default();
}

fn numbered(out: &mut BytesMut, kind: u8, n: u64) {
    out.put_u32(9);
    out.put_u8(kind);
    out.put_u64(n);
}

/// A Ping.
pub fn ping(out: &mut BytesMut, n: u64) {
    numbered(out, kind::PING, n);
}

/// A Pong.
pub fn pong(out: &mut BytesMut, n: u64) {
    numbered(out, kind::PONG, n);
}

/// A StatusQuery.
pub fn status_query(out: &mut BytesMut) {
    out.put_u32(1);
    out.put_u8(kind::STATUS_QUERY);
}

/// A StatusReport of this JSON.
///
/// # Errors
/// A report above [`STATUS_BYTES_MAX`].
pub fn status_report(out: &mut BytesMut, json: &[u8]) -> Result {
    if json.len() > STATUS_BYTES_MAX {
        return Err(FrameError::StatusLong(json.len()));
    }
    frame(out, kind::STATUS_REPORT, |out| {
        out.put_slice(json);
        Ok(())
    })
}

fn report_numbers(out: &mut BytesMut, report: &NodeReport) {
    out.put_u8(report.writable.into());
    out.put_u64(report.records);
    out.put_u64(report.bytes);
}

impl Frame {
    /// Appends this frame.
    ///
    /// # Errors
    /// Whatever [`decode`](Self::decode) would refuse; the buffer is then as before. Texts of errors and reasons are
    /// cut to their bound instead.
    pub fn encode(&self, out: &mut BytesMut) -> Result {
        match self {
            Self::Hello { client, text } => frame(out, kind::HELLO, |out| {
                client_id(out, *client)?;
                out.put_u8((*text).into());
                Ok(())
            }),
            Self::Welcome { incarnation, window_messages, window_bytes } => frame(out, kind::WELCOME, |out| {
                out.put_u32(*incarnation);
                out.put_u32(*window_messages);
                out.put_u32(*window_bytes);
                Ok(())
            }),
            Self::Store { first_seq, messages } => store(out, *first_seq, messages),
            Self::Acked { first_seq, count, first, sync, copies } => {
                acked(out, *first_seq, *count, *first, *sync, Copies::iter(copies))
            }
            Self::Refused { first_seq, count, refusal } => refused(out, *first_seq, *count, refusal),
            Self::StatusQuery => frame(out, kind::STATUS_QUERY, |_| Ok(())),
            Self::StatusReport(json) => status_report(out, json),
            Self::Failure(refusal) => frame(out, kind::FAILURE, |out| refusal_fields(out, refusal)),
            Self::Ping(n) => frame(out, kind::PING, |out| u64_only(out, *n)),
            Self::Pong(n) => frame(out, kind::PONG, |out| u64_only(out, *n)),
            Self::Register { node, name, sync, report } => frame(out, kind::REGISTER, |out| {
                client_id(out, ClientId(*node))?;
                report_numbers(out, report);
                out.put_u8(*sync as u8);
                text(out, name)?;
                explanation(out, &report.reason)
            }),
            Self::Put { first, client, first_seq, copies, messages } => {
                put(out, *first, *client, *first_seq, copies, messages)
            }
            Self::PutAck { up_to, sync } => {
                put_ack(out, *up_to, *sync);
                Ok(())
            }
            Self::PutRefused { number, refusal } => {
                put_refused(out, *number, refusal.code, &refusal.text);
                Ok(())
            }
            Self::NodeState(report) => frame(out, kind::NODE_STATE, |out| {
                report_numbers(out, report);
                explanation(out, &report.reason)
            }),
            Self::Leave => frame(out, kind::LEAVE, |_| Ok(())),
        }
    }
}

fn u64_only(out: &mut BytesMut, n: u64) -> Result {
    out.put_u64(n);
    Ok(())
}

/// Builds one Store at the end of a buffer, message by message; length and count are written at the end.
///
/// Nothing else may be appended to the buffer between [`begin`](Self::begin) and [`end`](Self::end).
#[derive(Debug)]
pub struct StoreBuilder {
    start: usize,
    first_seq: u64,
    count: u16,
}

impl StoreBuilder {
    /// Begins a Store whose first message has this sequence number.
    #[must_use]
    pub fn begin(out: &mut BytesMut, first_seq: u64) -> Self {
        let start = out.len();
        out.put_u32(0);
        out.put_u8(kind::STORE);
        out.put_u64(first_seq);
        out.put_u16(0);
        Self { start, first_seq, count: 0 }
    }

    /// Messages so far.
    #[must_use]
    pub const fn count(&self) -> u16 {
        self.count
    }

    /// Payload bytes so far.
    #[must_use]
    pub fn payload_bytes(&self, out: &BytesMut) -> usize {
        out.len().saturating_sub(self.start + STORE_FIELDS + 4 * usize::from(self.count))
    }

    /// Appends one message.
    ///
    /// # Errors
    /// A message above its bound, or a frame that is full; nothing is appended then.
    pub fn push(&mut self, out: &mut BytesMut, payload: &[u8]) -> Result {
        check_seqs(self.first_seq, u64::from(self.count) + 1)?;
        let used = out.len().saturating_sub(self.start + STORE_FIELDS);
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
            patch(out, self.start + STORE_FIELDS - 2, &self.count.to_be_bytes());
        }
        self.count
    }
}
