//! Encoders: each appends one frame to a buffer, or refuses and leaves the buffer as it was.

use std::ops::Range;

use bytes::{BufMut, BytesMut};

use super::decode::{check_client, check_id, check_seqs};
use super::ledgers::{
    PUT_HAS_SOURCE, check_span, put_held, put_ledger, put_members, put_node, put_numbers, put_place, put_roster,
};
use super::sources::{put_behind, put_sources};
use super::{Copies, Frame, FrameError, Messages, NodeReport, PREFIX, SyncMode, kind, messages};
use crate::limits::{
    FRAME_BYTES_MAX, HOLDS_MAX, LINES_FRAME_BYTES_MAX, REPLICAS_MAX, SOURCE_NAME_BYTES_MAX, STATUS_BYTES_MAX,
    TEXT_BYTES_MAX, TOKEN_BYTES_MAX,
};
use crate::wire::error::{Code, Refusal};
use crate::wire::filter::SourceFilter;
use crate::wire::id::{ClientId, RecordId};
use crate::wire::ledger::{LedgerId, NUMBER_END, NodeId, Place};
use crate::wire::source::SourceName;

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

pub(super) fn text(out: &mut BytesMut, text: &str) -> Result {
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

/// A Store of these messages, or a StoreAs, copied once.
///
/// # Errors
/// Sequence numbers out of bounds, or no messages.
pub fn store(out: &mut BytesMut, source: Option<&SourceName>, first_seq: u64, messages: &Messages) -> Result {
    out.reserve(STORE_FIELDS + 2 + SOURCE_NAME_BYTES_MAX + messages.block().len());
    let kind = if source.is_some() { kind::STORE_AS } else { kind::STORE };
    frame(out, kind, |out| {
        source.map_or(Ok(()), |source| text(out, source.as_str()))?;
        message_fields(out, first_seq, messages)
    })
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
}

/// A Put of these messages, copied once.
///
/// # Errors
/// An id, client, sequence number, entry or member out of bounds, or no messages.
pub fn put(out: &mut BytesMut, fields: PutFields<'_>, messages: &Messages) -> Result {
    out.reserve(PREFIX + super::PUT_FIELDS + messages.block().len());
    let PutFields { first, client, first_seq, place, members, source } = fields;
    frame(out, kind::PUT, |out| {
        let at = out.len();
        out.put_u32(0);
        check_id(first.plus(u64::from(messages.count())))?;
        id(out, first)?;
        client_id(out, client)?;
        check_seqs(first_seq, u64::from(messages.count()))?;
        out.put_u64(first_seq);
        check_entries(place, messages.count())?;
        out.put_u32(place.number);
        out.put_u32(place.entry);
        put_members_of_put(out, members, source)?;
        block_fields(out, messages)?;
        let crc = crc32c::crc32c(out.get(at + 4..).unwrap_or_default());
        patch(out, at, &crc.to_be_bytes());
        Ok(())
    })
}

/// The members that a Put names, and the name of its source: the count of the members tells whether there is one, so that
/// none takes no room.
fn put_members_of_put(out: &mut BytesMut, members: &[NodeId], source: Option<&SourceName>) -> Result {
    let at = out.len();
    put_members(out, members)?;
    if let Some(source) = source {
        patch(out, at, &[members.len() as u8 | PUT_HAS_SOURCE]);
        text(out, source.as_str())?;
    }
    Ok(())
}

/// Entries of a Put are numbers that there are.
pub(super) fn check_entries(place: Place, count: u16) -> Result {
    if place.number >= NUMBER_END {
        return Err(FrameError::Range(place.number, place.number));
    }
    check_span(place.entry, place.entry.saturating_add(count.into()))
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
    out.put_u64(report.syncs);
    out.put_u64(report.written);
    Ok(())
}

fn maybe_client(out: &mut BytesMut, client: Option<ClientId>) -> Result {
    match client {
        Some(client) => client_id(out, client),
        None => u64_only(out, u64::MAX),
    }
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
pub fn page(out: &mut BytesMut, request: u32, next: RecordId, greatest: RecordId, rotten: u32, lines: &[u8]) -> Result {
    lines_frame(out, kind::PAGE, lines, |out| {
        out.put_u32(request);
        id(out, next)?;
        id(out, greatest)?;
        out.put_u32(rotten);
        Ok(())
    })
}

/// A Pushed of these lines.
///
/// # Errors
/// A ledger or entries out of bounds, lines that do not end in a newline or are too many.
pub fn pushed(out: &mut BytesMut, request: u32, ledger: LedgerId, entries: Range<u32>, lines: &[u8]) -> Result {
    lines_frame(out, kind::PUSHED, lines, |out| {
        out.put_u32(request);
        put_ledger(out, ledger)?;
        check_span(entries.start, entries.end)?;
        out.put_u32(entries.start);
        out.put_u32(entries.end);
        Ok(())
    })
}

/// A Fetched of these lines.
///
/// # Errors
/// Lines that do not end in a newline or are too many.
pub fn fetched(out: &mut BytesMut, request: u32, lines: &[u8]) -> Result {
    lines_frame(out, kind::FETCHED, lines, |out| {
        out.put_u32(request);
        Ok(())
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
            Self::Store { source, first_seq, messages } => store(out, source.as_ref(), *first_seq, messages),
            Self::Acked { first_seq, count, first, sync, copies } => {
                acked(out, *first_seq, *count, *first, *sync, Copies::iter(copies))
            }
            Self::Refused { first_seq, count, refusal } => refused(out, *first_seq, *count, refusal),
            Self::StatusQuery { clients, ledgers } => frame(out, kind::STATUS_QUERY, |out| {
                // Left out where it says nothing, so that heads of before understand the question.
                match u8::from(*clients) | u8::from(*ledgers) << 1 {
                    0 => {}
                    flags => out.put_u8(flags),
                }
                Ok(())
            }),
            Self::StatusReport(json) => status_report(out, json),
            Self::Failure(refusal) => frame(out, kind::FAILURE, |out| refusal_fields(out, refusal)),
            Self::Ping(n) => frame(out, kind::PING, |out| u64_only(out, *n)),
            Self::Pong(n) => frame(out, kind::PONG, |out| u64_only(out, *n)),
            Self::Register { node, replaces, old, name, cluster, sync, report } => frame(out, kind::REGISTER, |out| {
                put_node(out, *node)?;
                match replaces {
                    Some(replaced) => put_node(out, *replaced)?,
                    None => out.put_u64(u64::MAX),
                }
                out.put_u8((*old).into());
                report_numbers(out, report)?;
                out.put_u8(*sync as u8);
                text(out, name)?;
                text(out, cluster)?;
                explanation(out, &report.reason)
            }),
            Self::Put { first, client, first_seq, place, members, source, messages } => {
                let (first, client, first_seq, place) = (*first, *client, *first_seq, *place);
                put(out, PutFields { first, client, first_seq, place, members, source: source.as_ref() }, messages)
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

    /// The frames of reading.
    fn encode_reading(&self, out: &mut BytesMut) -> Result {
        match self {
            Self::Read { from, until, client, sources, follow, partial, token } => frame(out, kind::READ, |out| {
                id(out, *from)?;
                id(out, *until)?;
                maybe_client(out, *client)?;
                out.put_slice(&[(*follow).into(), (*partial).into()]);
                put_filter(out, sources)?;
                put_token(out, token)
            }),
            Self::Token(token) => frame(out, kind::TOKEN, |out| put_token(out, token)),
            Self::Records { next, lines } => records(out, *next, lines),
            Self::ReadEnd { next, missing } => frame(out, kind::READ_END, |out| {
                id(out, *next)?;
                explanation(out, missing)
            }),
            Self::Waiting { nodes } => frame(out, kind::WAITING, |out| explanation(out, nodes)),
            Self::Drain { gone, lose, name } => frame(out, kind::DRAIN, |out| {
                out.put_slice(&[(*gone).into(), (*lose).into()]);
                text(out, name)
            }),
            Self::Copies { replicas, least } => frame(out, kind::COPIES, |out| {
                out.put_slice(&[*replicas, *least]);
                Ok(())
            }),
            Self::DevicesQuery { behind, most } => frame(out, kind::DEVICES_QUERY, |out| {
                put_behind(out, behind.as_ref())?;
                out.put_u16(*most);
                Ok(())
            }),
            Self::SourcesQuery { request, behind, most } => frame(out, kind::SOURCES_QUERY, |out| {
                out.put_u32(*request);
                put_behind(out, behind.as_ref())?;
                out.put_u16(*most);
                Ok(())
            }),
            Self::SourcesPage { request, more, unlisted, sources } => frame(out, kind::SOURCES_PAGE, |out| {
                out.put_u32(*request);
                out.put_slice(&[(*more).into(), (*unlisted).into()]);
                put_sources(out, sources)
            }),
            Self::Scan { request, from, until, client, sources, bytes_max } => frame(out, kind::SCAN, |out| {
                out.put_u32(*request);
                id(out, *from)?;
                id(out, *until)?;
                maybe_client(out, *client)?;
                out.put_u32(*bytes_max);
                put_filter(out, sources)
            }),
            Self::Page { request, next, greatest, rotten, lines } => {
                page(out, *request, *next, *greatest, *rotten, lines)
            }
            Self::ScanFailed { request, refusal } => frame(out, kind::SCAN_FAILED, |out| {
                out.put_u32(*request);
                refusal_fields(out, refusal)
            }),
            other => other.encode_ledgers(out),
        }
    }

    /// The frames of the replication protocol.
    fn encode_ledgers(&self, out: &mut BytesMut) -> Result {
        match self {
            Self::Close { ledger, end, settled } => frame(out, kind::CLOSE, |out| {
                put_ledger(out, *ledger)?;
                check_span(0, *end)?;
                out.put_u32(*end);
                out.put_u8((*settled).into());
                Ok(())
            }),
            Self::Holds { more, gone, held } if held.len() <= HOLDS_MAX => frame(out, kind::HOLDS, |out| {
                out.put_u8((*more).into());
                put_numbers(out, gone)?;
                held.iter().try_for_each(|held| put_held(out, held))
            }),
            Self::Holds { held, .. } => Err(FrameError::Entries { count: held.len(), most: HOLDS_MAX }),
            Self::Adopt { ledger, from, end, settled } => frame(out, kind::ADOPT, |out| {
                put_ledger(out, *ledger)?;
                check_span(*from, *end)?;
                out.put_u32(*from);
                out.put_u32(*end);
                out.put_u8((*settled).into());
                Ok(())
            }),
            Self::Fetch { request, ledger, from, to } => frame(out, kind::FETCH, |out| {
                out.put_u32(*request);
                put_ledger(out, *ledger)?;
                check_span(*from, *to)?;
                out.put_u32(*from);
                out.put_u32(*to);
                Ok(())
            }),
            Self::Fetched { request, lines } => fetched(out, *request, lines),
            Self::Roster(roster) => frame(out, kind::ROSTER, |out| put_roster(out, roster)),
            Self::Follow { request, client, sources, done, cursors } => frame(out, kind::FOLLOW, |out| {
                out.put_u32(*request);
                maybe_client(out, *client)?;
                put_filter(out, sources)?;
                put_place(out, done, cursors)
            }),
            Self::Credit { request, bytes } => frame(out, kind::CREDIT, |out| {
                out.put_u32(*request);
                out.put_u32(*bytes);
                Ok(())
            }),
            Self::Pushed { request, ledger, first, next, lines } => {
                pushed(out, *request, *ledger, *first..*next, lines)
            }
            // `encode` has every other kind.
            other => Err(FrameError::Kind(other.kind())),
        }
    }
}

/// The sources that are wanted: how many names, none for everything, and the names.
fn put_filter(out: &mut BytesMut, sources: &SourceFilter) -> Result {
    out.put_u16(sources.iter().len() as u16);
    sources.iter().try_for_each(|who| text(out, &who.to_string()))
}

fn put_token(out: &mut BytesMut, token: &[u8]) -> Result {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(FrameError::Entries { count: token.len(), most: TOKEN_BYTES_MAX });
    }
    out.put_slice(token);
    Ok(())
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
