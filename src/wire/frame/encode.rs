//! Encoders: each appends one frame to a buffer, or refuses and leaves the buffer as it was.

use bytes::{BufMut, BytesMut};

use super::decode::{check_client, check_id, check_seqs};
use super::{Copies, Frame, FrameError, Member, Messages, NodeReport, PREFIX, SyncMode, kind, messages};
use crate::limits::{
    FRAME_BYTES_MAX, LINES_FRAME_BYTES_MAX, MEMBERS_MAX, REPLICAS_MAX, STATUS_BYTES_MAX, TEXT_BYTES_MAX,
};
use crate::wire::error::{Code, Refusal};
use crate::wire::id::{ClientId, RecordId};

type Result<T = (), E = FrameError> = std::result::Result<T, E>;

/// Bytes of an id.
const ID_BYTES: usize = 8 + 4;

/// Bytes of a Store before its block: prefix, kind, sequence number, count.
const STORE_FIELDS: usize = PREFIX + 1 + 8 + 2;

/// Writes a frame of this kind: the body, then its length into the prefix; on an error the buffer is as before.
fn frame(out: &mut BytesMut, kind: u8, body: impl FnOnce(&mut BytesMut) -> Result) -> Result {
    bounded(out, kind, FRAME_BYTES_MAX, body)
}

/// The same for a frame that ends in lines of `data.txt`.
fn lines_frame(out: &mut BytesMut, kind: u8, lines: &[u8], fields: impl FnOnce(&mut BytesMut) -> Result) -> Result {
    if !matches!(lines.last(), None | Some(b'\n')) {
        return Err(FrameError::Lines { kind });
    }
    out.reserve(lines.len() + super::PUT_FIELDS);
    bounded(out, kind, LINES_FRAME_BYTES_MAX, |out| {
        fields(out)?;
        out.put_slice(lines);
        Ok(())
    })
}

fn bounded(out: &mut BytesMut, kind: u8, bytes_max: usize, body: impl FnOnce(&mut BytesMut) -> Result) -> Result {
    let start = out.len();
    out.put_u32(0);
    out.put_u8(kind);
    let result = body(out).and_then(|()| patch_length(out, start, bytes_max));
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn patch_length(out: &mut BytesMut, start: usize, bytes_max: usize) -> Result {
    let length = out.len().saturating_sub(start + PREFIX);
    if length == 0 || length > bytes_max {
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

fn report_numbers(out: &mut BytesMut, report: &NodeReport) -> Result {
    out.put_u8(report.writable.into());
    out.put_u64(report.records);
    out.put_u64(report.bytes);
    out.put_u64(report.short);
    out.put_u64(report.sole);
    out.put_u64(report.syncs);
    id(out, report.greatest)
}

fn maybe_client(out: &mut BytesMut, client: Option<ClientId>) -> Result {
    match client {
        Some(client) => client_id(out, client),
        None => u64_only(out, u64::MAX),
    }
}

fn member_fields(out: &mut BytesMut, (replicas, least): (u8, u8), members: &[Member]) -> Result {
    if members.len() > MEMBERS_MAX {
        return Err(FrameError::Members(members.len()));
    }
    out.put_u8(replicas);
    out.put_u8(least);
    out.put_u16(members.len() as u16);
    for member in members {
        client_id(out, ClientId(member.id))?;
        out.put_u8(member.state as u8);
        out.put_u8(member.sync as u8);
        out.put_u8(u8::from(member.sole));
        text(out, &member.name)?;
    }
    Ok(())
}

/// A Records.
///
/// # Errors
/// An id out of bounds, lines that do not end in a newline or are too many.
pub(super) fn records(out: &mut BytesMut, next: RecordId, lines: &[u8]) -> Result {
    lines_frame(out, kind::RECORDS, lines, |out| id(out, next))
}

/// A Records of the lines that `take` appends, which says up to where they are complete. False, and nothing is written, if
/// it appends none, unless an `empty` one is wanted.
///
/// # Errors
/// As `records`.
pub fn records_of(out: &mut BytesMut, empty: bool, take: impl FnOnce(&mut BytesMut) -> RecordId) -> Result<bool> {
    let start = out.len();
    let written = lines_frame(out, kind::RECORDS, b"", |out| {
        let at = out.len();
        id(out, RecordId::ZERO)?;
        let next = take(out);
        check_id(next)?;
        patch(out, at, &next.time_ns.to_be_bytes());
        patch(out, at + 8, &next.incarnation.to_be_bytes());
        if !matches!(out.get(at + ID_BYTES..), Some([] | [.., b'\n'])) {
            return Err(FrameError::Lines { kind: kind::RECORDS });
        }
        Ok(())
    });
    written?;
    let lines = out.len().saturating_sub(start + PREFIX + 1 + ID_BYTES);
    if lines == 0 && !empty {
        out.truncate(start);
        return Ok(false);
    }
    Ok(true)
}

/// A Page that answers this request.
///
/// # Errors
/// An id out of bounds, lines that do not end in a newline or are too many.
pub fn page(
    out: &mut BytesMut,
    request: u32,
    (next, greatest): (RecordId, RecordId),
    rotten: u32,
    lines: &[u8],
) -> Result {
    lines_frame(out, kind::PAGE, lines, |out| {
        out.put_u32(request);
        id(out, next)?;
        id(out, greatest)?;
        out.put_u32(rotten);
        Ok(())
    })
}

/// A Copy of these lines, which `holders` hold, for the node `to` or, if that is empty, another one.
///
/// # Errors
/// A text that is too long, lines that do not end in a newline or are too many.
pub fn copy(out: &mut BytesMut, number: u64, (to, holders): (&str, &str), lines: &[u8]) -> Result {
    lines_frame(out, kind::COPY, lines, |out| {
        out.put_u64(number);
        text(out, to)?;
        text(out, holders)
    })
}

/// A CopyPut of these lines, which `copies` are to hold.
///
/// # Errors
/// A text that is too long, lines that do not end in a newline or are too many.
pub fn copy_put(out: &mut BytesMut, number: u64, copies: &str, lines: &[u8]) -> Result {
    lines_frame(out, kind::COPY_PUT, lines, |out| {
        out.put_u64(number);
        text(out, copies)
    })
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
            Self::Welcome { incarnation, window_messages, window_bytes, cluster } => frame(out, kind::WELCOME, |out| {
                out.put_u32(*incarnation);
                out.put_u32(*window_messages);
                out.put_u32(*window_bytes);
                text(out, cluster)
            }),
            Self::Store { first_seq, messages } => store(out, *first_seq, messages),
            Self::Acked { first_seq, count, first, sync, copies } => {
                acked(out, *first_seq, *count, *first, *sync, Copies::iter(copies))
            }
            Self::Refused { first_seq, count, refusal } => refused(out, *first_seq, *count, refusal),
            Self::StatusQuery { clients } => frame(out, kind::STATUS_QUERY, |out| {
                // Left out where it says nothing, so that heads of before understand the question.
                if *clients {
                    out.put_u8(1);
                }
                Ok(())
            }),
            Self::StatusReport(json) => status_report(out, json),
            Self::Failure(refusal) => frame(out, kind::FAILURE, |out| refusal_fields(out, refusal)),
            Self::Ping(n) => frame(out, kind::PING, |out| u64_only(out, *n)),
            Self::Pong(n) => frame(out, kind::PONG, |out| u64_only(out, *n)),
            Self::Register { node, name, cluster, sync, report } => frame(out, kind::REGISTER, |out| {
                client_id(out, ClientId(*node))?;
                report_numbers(out, report)?;
                out.put_u8(*sync as u8);
                text(out, name)?;
                text(out, cluster)?;
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
                report_numbers(out, report)?;
                explanation(out, &report.reason)
            }),
            Self::Leave => frame(out, kind::LEAVE, |_| Ok(())),
            other => other.encode_reading(out),
        }
    }

    /// The frames of reading and of repair.
    fn encode_reading(&self, out: &mut BytesMut) -> Result {
        match self {
            Self::Read { from, until, client, follow, partial } => frame(out, kind::READ, |out| {
                id(out, *from)?;
                id(out, *until)?;
                maybe_client(out, *client)?;
                out.put_slice(&[(*follow).into(), (*partial).into()]);
                Ok(())
            }),
            Self::Records { next, lines } => records(out, *next, lines),
            Self::ReadEnd { next, missing } => frame(out, kind::READ_END, |out| {
                id(out, *next)?;
                explanation(out, missing)
            }),
            Self::Waiting { nodes } => frame(out, kind::WAITING, |out| explanation(out, nodes)),
            Self::Drain { gone, name } => frame(out, kind::DRAIN, |out| {
                out.put_u8((*gone).into());
                text(out, name)
            }),
            Self::Scan { request, from, until, client, bytes_max, safe } => frame(out, kind::SCAN, |out| {
                out.put_u32(*request);
                id(out, *from)?;
                id(out, *until)?;
                maybe_client(out, *client)?;
                out.put_u32(*bytes_max);
                id(out, *safe)
            }),
            Self::Page { request, next, greatest, rotten, lines } => {
                page(out, *request, (*next, *greatest), *rotten, lines)
            }
            Self::ScanFailed { request, refusal } => frame(out, kind::SCAN_FAILED, |out| {
                out.put_u32(*request);
                refusal_fields(out, refusal)
            }),
            Self::SafeQuery { at_least } => frame(out, kind::SAFE_QUERY, |out| id(out, *at_least)),
            Self::Safe { id: safe } => frame(out, kind::SAFE, |out| id(out, *safe)),
            Self::Members { replicas, least, members } => {
                frame(out, kind::MEMBERS, |out| member_fields(out, (*replicas, *least), members))
            }
            Self::Copy { number, to, holders, lines } => copy(out, *number, (to, holders), lines),
            Self::CopyPut { number, copies, lines } => copy_put(out, *number, copies, lines),
            Self::CopyAck { number, node, refusal } => frame(out, kind::COPY_ACK, |out| {
                out.put_u64(*number);
                text(out, node)?;
                out.put_u8(refusal.is_some().into());
                refusal.as_ref().map_or(Ok(()), |refusal| refusal_fields(out, refusal))
            }),
            // `encode` has every other kind.
            other => Err(FrameError::Kind(other.kind())),
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
