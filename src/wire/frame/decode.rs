//! The decoder of the framed dialect: bytes become frames, or one named error.
//!
//! It copies no payload and reserves room only for lengths within the bound of the frame's kind.

use bytes::{Buf, Bytes, BytesMut};

use super::encode::check_entries;
use super::ledgers::check_span;
use super::{Copies, Frame, FrameError, Messages, NodeReport, PREFIX, SEQ_END, SyncMode, kind};
use crate::limits::{
    FILTER_NAMES_MAX, FRAME_BYTES_MAX, LINES_FRAME_BYTES_MAX, REPLICAS_MAX, STATUS_BYTES_MAX, TEXT_BYTES_MAX,
    TOKEN_BYTES_MAX,
};
use crate::wire::error::{Code, Refusal};
use crate::wire::filter::SourceFilter;
use crate::wire::id::{ClientId, RecordId};
use crate::wire::ledger::{NodeId, Place};
use crate::wire::said::Who;

impl Frame {
    /// The kind of the frame that begins here, if it is one that no client says, or that `may_store` forbids. One of an
    /// unknown kind is for [`decode`](Self::decode) to refuse.
    #[must_use]
    pub fn not_from_client(buffer: &[u8], may_store: bool) -> Option<u8> {
        let kind = *buffer.get(PREFIX)?;
        let fits = match kind {
            kind::STORE | kind::STORE_AS => may_store,
            kind::HELLO
            | kind::STATUS_QUERY
            | kind::PING
            | kind::PONG
            | kind::READ
            | kind::DRAIN
            | kind::COPIES
            | kind::DEVICES_QUERY => true,
            _ => bytes_max(kind).is_err(),
        };
        (!fits).then_some(kind)
    }

    /// Takes the next whole frame off `buffer`; `None` if it has not all arrived (room for the rest is then reserved).
    ///
    /// # Errors
    /// When the bytes are no frame of acopio/2. The stream cannot go on; what is left in `buffer` means nothing.
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Self>, FrameError> {
        let Some(prefix) = buffer.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length == 0 || length > LINES_FRAME_BYTES_MAX {
            return Err(FrameError::Length(length));
        }
        let Some(&kind) = buffer.get(PREFIX) else {
            return Ok(None);
        };
        if length > bytes_max(kind)? {
            return Err(FrameError::Length(length));
        }
        let missing = (PREFIX + length).saturating_sub(buffer.len());
        if missing > 0 {
            buffer.reserve(missing);
            return Ok(None);
        }
        buffer.advance(PREFIX);
        match kind {
            kind::STORE | kind::STORE_AS | kind::PUT | kind::ACKED | kind::STATUS_REPORT => {
                let mut body = buffer.split_to(length).freeze();
                body.advance(1);
                decode_shared(kind, body).map(Some)
            }
            kind::RECORDS | kind::PAGE | kind::FETCHED | kind::PUSHED => {
                let mut body = buffer.split_to(length).freeze();
                body.advance(1);
                decode_lines(kind, body).map(Some)
            }
            _ => {
                let mut fields = Fields { kind, rest: buffer.get(1..length).unwrap_or_default() };
                let frame = decode_small(&mut fields)?;
                fields.end()?;
                buffer.advance(length);
                Ok(Some(frame))
            }
        }
    }
}

/// Greatest frame of this kind: those that carry lines of `data.txt` have to hold the longest line.
const fn bytes_max(kind: u8) -> Result<usize, FrameError> {
    match kind {
        kind::RECORDS | kind::PAGE | kind::FETCHED | kind::PUSHED => Ok(LINES_FRAME_BYTES_MAX),
        kind::HELLO..=kind::SOURCES_PAGE => Ok(FRAME_BYTES_MAX),
        _ => Err(FrameError::Kind(kind)),
    }
}

/// Frames that end in lines of `data.txt`.
fn decode_lines(kind: u8, mut body: Bytes) -> Result<Frame, FrameError> {
    let mut fields = Fields { kind, rest: &body };
    let mut frame = match kind {
        kind::RECORDS => Frame::Records { next: fields.id()?, lines: Bytes::new() },
        kind::PAGE => {
            let (request, next, greatest) = (fields.u32()?, fields.id()?, fields.id()?);
            Frame::Page { request, next, greatest, rotten: fields.u32()?, lines: Bytes::new() }
        }
        kind::FETCHED => Frame::Fetched { request: fields.u32()?, lines: Bytes::new() },
        _ => {
            let (request, ledger, span) = (fields.u32()?, fields.ledger()?, fields.span()?);
            Frame::Pushed { request, ledger, first: span.start, next: span.end, lines: Bytes::new() }
        }
    };
    let at = body.len() - fields.rest.len();
    if !matches!(fields.rest.last(), None | Some(b'\n')) {
        return Err(FrameError::Lines { kind });
    }
    if let Frame::Records { lines, .. }
    | Frame::Page { lines, .. }
    | Frame::Fetched { lines, .. }
    | Frame::Pushed { lines, .. } = &mut frame
    {
        *lines = body.split_off(at);
    }
    Ok(frame)
}

/// Frames that keep a part of the buffer.
fn decode_shared(kind: u8, mut body: Bytes) -> Result<Frame, FrameError> {
    let mut fields = Fields { kind, rest: &body };
    match kind {
        kind::STATUS_REPORT if body.len() > STATUS_BYTES_MAX => return Err(FrameError::StatusLong(body.len())),
        kind::STATUS_REPORT => return Ok(Frame::StatusReport(body)),
        kind::PUT => return decode_put(body),
        _ => {}
    }
    let source = if kind == kind::STORE_AS { Some(fields.source()?) } else { None };
    let first_seq = fields.u64()?;
    if kind == kind::ACKED {
        let (count, first) = (fields.u32()?, fields.id()?);
        check_seqs(first_seq, u64::from(count))?;
        let (sync, copies) = (fields.sync()?, fields.u8()?);
        if usize::from(copies) > REPLICAS_MAX {
            return Err(FrameError::Copies(copies));
        }
        let at = body.len() - fields.rest.len();
        for _ in 0..copies {
            fields.text()?;
        }
        fields.end()?;
        let copies = Copies { count: copies, block: body.split_off(at) };
        return Ok(Frame::Acked { first_seq, count, first, sync, copies });
    }
    let count = fields.u16()?;
    check_seqs(first_seq, u64::from(count))?;
    let at = body.len() - fields.rest.len();
    Ok(Frame::Store { source, first_seq, messages: Messages::new(count, body.split_off(at))? })
}

/// A Put, whose checksum says that nothing of it was changed on its way.
fn decode_put(mut body: Bytes) -> Result<Frame, FrameError> {
    let mut fields = Fields { kind: kind::PUT, rest: &body };
    let stored = fields.u32()?;
    let computed = crc32c::crc32c(fields.rest);
    if stored != computed {
        return Err(FrameError::Checksum { stored, computed });
    }
    let (first, client, first_seq) = (fields.id()?, fields.client()?, fields.u64()?);
    let place = Place { number: fields.u32()?, entry: fields.u32()? };
    let ((members, source), count) = (fields.members_of_put()?, fields.u16()?);
    check_seqs(first_seq, u64::from(count))?;
    check_id(first.plus(u64::from(count)))?;
    check_entries(place, count)?;
    let at = body.len() - fields.rest.len();
    let messages = Messages::new(count, body.split_off(at))?;
    Ok(Frame::Put { first, client, first_seq, place, members, source, messages })
}

fn decode_small(fields: &mut Fields<'_>) -> Result<Frame, FrameError> {
    Ok(match fields.kind {
        kind::HELLO => {
            let client = fields.client()?;
            let flags = fields.u8()?;
            if flags > 1 {
                return Err(FrameError::Flags(flags));
            }
            Frame::Hello { client, text: flags == 1 }
        }
        kind::WELCOME => {
            let (incarnation, window_messages, window_bytes) = (fields.u32()?, fields.u32()?, fields.u32()?);
            Frame::Welcome { incarnation, window_messages, window_bytes, cluster: fields.text()?.to_owned() }
        }
        kind::REFUSED => {
            let (first_seq, count) = (fields.u64()?, fields.u32()?);
            check_seqs(first_seq, u64::from(count))?;
            Frame::Refused { first_seq, count, refusal: fields.refusal()? }
        }
        kind::STATUS_QUERY => {
            let flags = if fields.end().is_err() { fields.u8()? } else { 0 };
            if flags > 3 {
                return Err(FrameError::Flags(flags));
            }
            Frame::StatusQuery { clients: flags & 1 != 0, ledgers: flags & 2 != 0 }
        }
        kind::FAILURE => Frame::Failure(fields.refusal()?),
        kind::PING => Frame::Ping(fields.u64()?),
        kind::PONG => Frame::Pong(fields.u64()?),
        kind::REGISTER => {
            let (node, replaces, old) = (fields.node()?, fields.maybe_client()?, fields.bool()?);
            let replaces = replaces.map(|id| NodeId(id.0));
            let mut report = fields.report()?;
            let (sync, name, cluster) = (fields.sync()?, fields.text()?.to_owned(), fields.text()?.to_owned());
            report.reason = fields.text()?.to_owned();
            Frame::Register { node, replaces, old, name, cluster, sync, report }
        }
        kind::PUT_ACK => Frame::PutAck { up_to: fields.u64()?, sync: fields.sync()? },
        kind::PUT_REFUSED => {
            let (number, code) = (fields.u64()?, fields.code()?);
            Frame::PutRefused { number, refusal: Refusal::new(code, fields.text()?) }
        }
        kind::NODE_STATE => {
            let report = fields.report()?;
            Frame::NodeState(NodeReport { reason: fields.text()?.to_owned(), ..report })
        }
        kind::LEAVE => Frame::Leave,
        kind::READ => {
            let (from, until, client) = (fields.id()?, fields.id()?, fields.maybe_client()?);
            let (follow, partial, sources) = (fields.bool()?, fields.bool()?, fields.filter()?);
            Frame::Read { from, until, client, sources, follow, partial, token: fields.token()? }
        }
        kind::READ_END => Frame::ReadEnd { next: fields.id()?, missing: fields.text()?.to_owned() },
        kind::WAITING => Frame::Waiting { nodes: fields.text()?.to_owned() },
        kind::TOKEN => Frame::Token(fields.token()?),
        kind::DRAIN => Frame::Drain { gone: fields.bool()?, lose: fields.bool()?, name: fields.text()?.to_owned() },
        kind::COPIES => Frame::Copies { replicas: fields.u8()?, least: fields.u8()? },
        kind::SCAN => {
            let (request, from, until) = (fields.u32()?, fields.id()?, fields.id()?);
            let (client, bytes_max) = (fields.maybe_client()?, fields.u32()?);
            Frame::Scan { request, from, until, client, sources: fields.filter()?, bytes_max }
        }
        kind::SCAN_FAILED => Frame::ScanFailed { request: fields.u32()?, refusal: fields.refusal()? },
        kind::CLOSE => {
            let (ledger, end) = (fields.ledger()?, fields.u32()?);
            check_span(0, end)?;
            Frame::Close { ledger, end, settled: fields.bool()? }
        }
        kind::HOLDS => Frame::Holds { more: fields.bool()?, gone: fields.numbers()?, held: fields.holds()? },
        kind::ADOPT => {
            let (ledger, span, settled) = (fields.ledger()?, fields.span()?, fields.bool()?);
            Frame::Adopt { ledger, from: span.start, end: span.end, settled }
        }
        kind::FETCH => {
            let (request, ledger, span) = (fields.u32()?, fields.ledger()?, fields.span()?);
            Frame::Fetch { request, ledger, from: span.start, to: span.end }
        }
        kind::ROSTER => Frame::Roster(fields.roster()?),
        kind::FOLLOW => {
            let (request, client, sources) = (fields.u32()?, fields.maybe_client()?, fields.filter()?);
            let (done, cursors) = fields.place()?;
            Frame::Follow { request, client, sources, done, cursors }
        }
        kind::DEVICES_QUERY => Frame::DevicesQuery { behind: fields.behind()?, most: fields.u16()? },
        kind::SOURCES_QUERY => {
            Frame::SourcesQuery { request: fields.u32()?, behind: fields.behind()?, most: fields.u16()? }
        }
        kind::SOURCES_PAGE => {
            let (request, more, unlisted) = (fields.u32()?, fields.bool()?, fields.bool()?);
            Frame::SourcesPage { request, more, unlisted, sources: fields.sources()? }
        }
        kind::CREDIT => Frame::Credit { request: fields.u32()?, bytes: fields.u32()? },
        other => return Err(FrameError::Kind(other)),
    })
}

pub(super) fn check_seqs(first: u64, count: u64) -> Result<(), FrameError> {
    if count == 0 {
        return Err(FrameError::Empty);
    }
    match first.checked_add(count) {
        Some(end) if end <= SEQ_END => Ok(()),
        _ => Err(FrameError::Sequence { first, count }),
    }
}

pub(super) fn check_id(id: RecordId) -> Result<(), FrameError> {
    if id.is_valid() { Ok(()) } else { Err(FrameError::Id { time_ns: id.time_ns, incarnation: id.incarnation }) }
}

pub(super) fn check_node(node: NodeId) -> Result<(), FrameError> {
    if node.is_valid() { Ok(()) } else { Err(FrameError::Identity(node.0)) }
}

pub(super) fn check_client(client: ClientId) -> Result<(), FrameError> {
    if client.is_valid() { Ok(()) } else { Err(FrameError::Identity(client.0)) }
}

/// Reads a frame's fields one after the other.
pub(super) struct Fields<'a> {
    pub(super) kind: u8,
    pub(super) rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let short = FrameError::Short { kind: self.kind, wanted: N, left: self.rest.len() };
        let (chunk, rest) = self.rest.split_first_chunk::<N>().ok_or(short)?;
        self.rest = rest;
        Ok(*chunk)
    }

    pub(super) fn u8(&mut self) -> Result<u8, FrameError> {
        self.chunk::<1>().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, FrameError> {
        self.chunk().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, FrameError> {
        self.chunk().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, FrameError> {
        self.chunk().map(u64::from_be_bytes)
    }

    pub(super) fn bool(&mut self) -> Result<bool, FrameError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(FrameError::Flags(other)),
        }
    }

    pub(super) fn id(&mut self) -> Result<RecordId, FrameError> {
        let id = RecordId { time_ns: self.u64()?, incarnation: self.u32()? };
        check_id(id).map(|()| id)
    }

    fn client(&mut self) -> Result<ClientId, FrameError> {
        let client = ClientId(self.u64()?);
        check_client(client).map(|()| client)
    }

    fn maybe_client(&mut self) -> Result<Option<ClientId>, FrameError> {
        match self.u64()? {
            u64::MAX => Ok(None),
            id => check_client(ClientId(id)).map(|()| Some(ClientId(id))),
        }
    }

    /// A report without its reason, which comes later in some frames.
    fn report(&mut self) -> Result<NodeReport, FrameError> {
        Ok(NodeReport {
            writable: self.bool()?,
            records: self.u64()?,
            bytes: self.u64()?,
            syncs: self.u64()?,
            written: self.u64()?,
            reason: String::new(),
        })
    }

    /// The sources that are wanted.
    fn filter(&mut self) -> Result<SourceFilter, FrameError> {
        let count = usize::from(self.u16()?);
        if count > FILTER_NAMES_MAX {
            return Err(FrameError::Entries { count, most: FILTER_NAMES_MAX });
        }
        let mut names = Vec::new();
        for _ in 0..count {
            let name = self.text()?;
            names.push(Who::from_bytes(name.as_bytes()).map_err(|error| FrameError::Source(error.flaw))?);
        }
        SourceFilter::new(names).map_err(|_| FrameError::Entries { count, most: FILTER_NAMES_MAX })
    }

    fn token(&mut self) -> Result<Bytes, FrameError> {
        let token = std::mem::take(&mut self.rest);
        if token.len() > TOKEN_BYTES_MAX {
            return Err(FrameError::Entries { count: token.len(), most: TOKEN_BYTES_MAX });
        }
        Ok(Bytes::copy_from_slice(token))
    }

    fn sync(&mut self) -> Result<SyncMode, FrameError> {
        match self.u8()? {
            0 => Ok(SyncMode::Always),
            1 => Ok(SyncMode::Interval),
            2 => Ok(SyncMode::Never),
            other => Err(FrameError::Sync(other)),
        }
    }

    fn code(&mut self) -> Result<Code, FrameError> {
        self.u16()?.try_into().map_err(FrameError::Code)
    }

    fn refusal(&mut self) -> Result<Refusal, FrameError> {
        Ok(Refusal { code: self.code()?, retry: self.bool()?, text: self.text()?.to_owned() })
    }

    pub(super) fn text(&mut self) -> Result<&'a str, FrameError> {
        let len = usize::from(self.u16()?);
        if len > TEXT_BYTES_MAX {
            return Err(FrameError::TextLong(len));
        }
        let short = FrameError::Short { kind: self.kind, wanted: len, left: self.rest.len() };
        let (text, rest) = self.rest.split_at_checked(len).ok_or(short)?;
        self.rest = rest;
        std::str::from_utf8(text).map_err(|error| FrameError::Utf8(error.valid_up_to()))
    }

    fn end(&self) -> Result<(), FrameError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(FrameError::Trailing { kind: self.kind, left }),
        }
    }
}
