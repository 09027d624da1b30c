//! The framed dialect: what a frame is, and its decoder. Encoders are in `encode`, blocks of messages in `messages`.
//!
//! A frame is `u32 length | u8 kind | body`, big endian. Decoding copies no payload and allocates nothing for frames
//! with messages; a length is checked before room is made for it. Payload slices keep the read buffer alive.

mod encode;
mod error;
mod messages;

use bytes::{Buf, Bytes, BytesMut};

pub use self::encode::{
    StoreBuilder, acked, failure, ping, pong, put, put_ack, put_refused, refused, status_query, status_report, store,
};
pub use self::error::FrameError;
pub use self::messages::{Messages, MessagesBuilder};
use super::error::{Code, Refusal};
use super::id::{ClientId, RecordId};
use crate::limits::{FRAME_BYTES_MAX, REPLICAS_MAX, STATUS_BYTES_MAX, TEXT_BYTES_MAX};

/// Bytes of the length prefix.
const PREFIX: usize = 4;

/// Bytes of a [`Frame::Put`] before its block, kind included: the most of the two frames that carry one.
const PUT_FIELDS: usize = 1 + 12 + 8 + 8 + 2 + TEXT_BYTES_MAX + 2;

/// Greatest block of messages, bytes: what is stored fits the frame it is put with.
pub const BLOCK_BYTES_MAX: usize = FRAME_BYTES_MAX - PUT_FIELDS;

/// First sequence number that does not exist: ten digits of text.
pub const SEQ_END: u64 = 1 << 60;

pub(crate) mod kind {
    //! The kinds of frames.
    pub const HELLO: u8 = 0x01;
    pub const WELCOME: u8 = 0x02;
    pub const STORE: u8 = 0x03;
    pub const ACKED: u8 = 0x04;
    pub const REFUSED: u8 = 0x05;
    pub const STATUS_QUERY: u8 = 0x06;
    pub const STATUS_REPORT: u8 = 0x07;
    pub const FAILURE: u8 = 0x08;
    pub const PING: u8 = 0x09;
    pub const PONG: u8 = 0x0a;
    pub const REGISTER: u8 = 0x10;
    pub const PUT: u8 = 0x11;
    pub const PUT_ACK: u8 = 0x12;
    pub const PUT_REFUSED: u8 = 0x13;
    pub const NODE_STATE: u8 = 0x14;
    pub const LEAVE: u8 = 0x15;
}

/// Under which sync setting something is kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum SyncMode {
    /// Synced before the acknowledgement.
    Always = 0,
    /// Synced at an interval.
    Interval = 1,
    /// Left to the operating system.
    Never = 2,
}

/// The names of the copies in an [`Frame::Acked`]: at most [`REPLICAS_MAX`] texts, undecoded.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Copies {
    count: u8,
    block: Bytes,
}

impl Copies {
    /// How many copies.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether no copy is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The ip of each copy's node.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut rest = self.block.as_ref();
        (0..self.count).map_while(move |_| {
            let (len, tail) = rest.split_first_chunk::<2>()?;
            let (text, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
            rest = tail;
            std::str::from_utf8(text).ok()
        })
    }
}

/// What a data node says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeReport {
    /// Whether it takes messages.
    pub writable: bool,
    /// Records it keeps.
    pub records: u64,
    /// Bytes of its log.
    pub bytes: u64,
    /// Why it is not writable, or empty.
    pub reason: String,
}

/// A frame, decoded. `docs/wire.md` has the byte tables.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// Client to head, first.
    Hello {
        /// The client's identity.
        client: ClientId,
        /// Whether the head puts `mensaje: ` in front of each message.
        text: bool,
    },
    /// Head to both, answer to Hello and Register.
    Welcome {
        /// The head's incarnation.
        incarnation: u32,
        /// Messages that may be in flight.
        window_messages: u32,
        /// Payload bytes that may be in flight.
        window_bytes: u32,
    },
    /// Client to head: message k has sequence number `first_seq + k`.
    Store {
        /// Sequence number of the first message.
        first_seq: u64,
        /// The messages.
        messages: Messages,
    },
    /// Head to client: these are kept.
    Acked {
        /// Sequence number of the first message.
        first_seq: u64,
        /// How many, at least one.
        count: u32,
        /// Id of the first; the others are consecutive.
        first: RecordId,
        /// The weakest setting under which a copy is kept.
        sync: SyncMode,
        /// Where the copies are.
        copies: Copies,
    },
    /// Head to client: these are not kept.
    Refused {
        /// Sequence number of the first message.
        first_seq: u64,
        /// How many, at least one.
        count: u32,
        /// Why.
        refusal: Refusal,
    },
    /// Client to head.
    StatusQuery,
    /// Head to client: JSON, undecoded (see [`status`](super::status)).
    StatusReport(Bytes),
    /// Head to any; it closes the connection after it.
    Failure(Refusal),
    /// Asks for a Pong with the same number.
    Ping(u64),
    /// Answer to Ping.
    Pong(u64),
    /// Node to head, first.
    Register {
        /// The node's identity, below 2^60.
        node: u64,
        /// Its name.
        name: String,
        /// Its sync setting.
        sync: SyncMode,
        /// Its state.
        report: NodeReport,
    },
    /// Head to node: keep these. Puts are numbered 1, 2, 3… on each connection.
    Put {
        /// Id of the first message; the others are consecutive.
        first: RecordId,
        /// Whose messages.
        client: ClientId,
        /// Sequence number of the first message.
        first_seq: u64,
        /// Names of the nodes that are to keep them, parted by commas; empty if this is the only one.
        copies: String,
        /// The messages.
        messages: Messages,
    },
    /// Node to head: all Puts up to this number are kept.
    PutAck {
        /// Number of the last Put that is kept.
        up_to: u64,
        /// Under which setting.
        sync: SyncMode,
    },
    /// Node to head: this Put is not kept.
    PutRefused {
        /// Number of the Put.
        number: u64,
        /// Why; `retry` follows from the code.
        refusal: Refusal,
    },
    /// Node to head, once a second when changed.
    NodeState(NodeReport),
    /// Node to head: no new Puts please; closes when all are answered.
    Leave,
}

impl Frame {
    /// Takes the next whole frame off `buffer`; `None` if it has not all arrived (room for the rest is then reserved).
    ///
    /// # Errors
    /// When the bytes are no frame of acopio/1. The stream cannot go on; what is left in `buffer` means nothing.
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Self>, FrameError> {
        let Some(prefix) = buffer.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length == 0 || length > FRAME_BYTES_MAX {
            return Err(FrameError::Length(length));
        }
        let missing = (PREFIX + length).saturating_sub(buffer.len());
        if missing > 0 {
            if let Some(&kind) = buffer.get(PREFIX) {
                check_kind(kind)?;
            }
            buffer.reserve(missing);
            return Ok(None);
        }
        buffer.advance(PREFIX);
        let Some(&kind) = buffer.first() else {
            return Ok(None);
        };
        match kind {
            kind::STORE | kind::PUT | kind::ACKED | kind::STATUS_REPORT => {
                let mut body = buffer.split_to(length).freeze();
                body.advance(1);
                decode_shared(kind, body).map(Some)
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

    /// The kind byte.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Hello { .. } => kind::HELLO,
            Self::Welcome { .. } => kind::WELCOME,
            Self::Store { .. } => kind::STORE,
            Self::Acked { .. } => kind::ACKED,
            Self::Refused { .. } => kind::REFUSED,
            Self::StatusQuery => kind::STATUS_QUERY,
            Self::StatusReport(_) => kind::STATUS_REPORT,
            Self::Failure(_) => kind::FAILURE,
            Self::Ping(_) => kind::PING,
            Self::Pong(_) => kind::PONG,
            Self::Register { .. } => kind::REGISTER,
            Self::Put { .. } => kind::PUT,
            Self::PutAck { .. } => kind::PUT_ACK,
            Self::PutRefused { .. } => kind::PUT_REFUSED,
            Self::NodeState(_) => kind::NODE_STATE,
            Self::Leave => kind::LEAVE,
        }
    }
}

fn check_kind(kind: u8) -> Result<(), FrameError> {
    match kind {
        kind::HELLO..=kind::PONG | kind::REGISTER..=kind::LEAVE => Ok(()),
        _ => Err(FrameError::Kind(kind)),
    }
}

/// Frames that keep a part of the buffer.
fn decode_shared(kind: u8, mut body: Bytes) -> Result<Frame, FrameError> {
    let mut fields = Fields { kind, rest: &body };
    let (id, client) = match kind {
        kind::STATUS_REPORT if body.len() > STATUS_BYTES_MAX => {
            return Err(FrameError::StatusLong(body.len()));
        }
        kind::STATUS_REPORT => return Ok(Frame::StatusReport(body)),
        kind::PUT => (fields.id()?, fields.client()?),
        _ => (RecordId::default(), ClientId::default()),
    };
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
    let copies = if kind == kind::PUT { fields.text()?.to_owned() } else { String::new() };
    let count = fields.u16()?;
    check_seqs(first_seq, u64::from(count))?;
    let at = body.len() - fields.rest.len();
    let messages = Messages::new(count, body.split_off(at))?;
    if kind == kind::PUT {
        check_id(id.plus(u64::from(count)))?;
        Ok(Frame::Put { first: id, client, first_seq, copies, messages })
    } else {
        Ok(Frame::Store { first_seq, messages })
    }
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
            Frame::Welcome { incarnation: fields.u32()?, window_messages: fields.u32()?, window_bytes: fields.u32()? }
        }
        kind::REFUSED => {
            let (first_seq, count) = (fields.u64()?, fields.u32()?);
            check_seqs(first_seq, u64::from(count))?;
            Frame::Refused { first_seq, count, refusal: fields.refusal()? }
        }
        kind::STATUS_QUERY => Frame::StatusQuery,
        kind::FAILURE => Frame::Failure(fields.refusal()?),
        kind::PING => Frame::Ping(fields.u64()?),
        kind::PONG => Frame::Pong(fields.u64()?),
        kind::REGISTER => {
            let node = fields.client()?.0;
            let (writable, records, bytes) = (fields.bool()?, fields.u64()?, fields.u64()?);
            let (sync, name, reason) = (fields.sync()?, fields.text()?.to_owned(), fields.text()?.to_owned());
            Frame::Register { node, name, sync, report: NodeReport { writable, records, bytes, reason } }
        }
        kind::PUT_ACK => Frame::PutAck { up_to: fields.u64()?, sync: fields.sync()? },
        kind::PUT_REFUSED => {
            let (number, code) = (fields.u64()?, fields.code()?);
            Frame::PutRefused { number, refusal: Refusal::new(code, fields.text()?) }
        }
        kind::NODE_STATE => {
            let (writable, records, bytes) = (fields.bool()?, fields.u64()?, fields.u64()?);
            Frame::NodeState(NodeReport { writable, records, bytes, reason: fields.text()?.to_owned() })
        }
        kind::LEAVE => Frame::Leave,
        other => return Err(FrameError::Kind(other)),
    })
}

fn check_seqs(first: u64, count: u64) -> Result<(), FrameError> {
    if count == 0 {
        return Err(FrameError::Empty);
    }
    match first.checked_add(count) {
        Some(end) if end <= SEQ_END => Ok(()),
        _ => Err(FrameError::Sequence { first, count }),
    }
}

fn check_id(id: RecordId) -> Result<(), FrameError> {
    if id.is_valid() { Ok(()) } else { Err(FrameError::Id { time_ns: id.time_ns, incarnation: id.incarnation }) }
}

fn check_client(client: ClientId) -> Result<(), FrameError> {
    if client.is_valid() { Ok(()) } else { Err(FrameError::Identity(client.0)) }
}

/// Reads a frame's fields one after the other.
struct Fields<'a> {
    kind: u8,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let short = FrameError::Short { kind: self.kind, wanted: N, left: self.rest.len() };
        let (chunk, rest) = self.rest.split_first_chunk::<N>().ok_or(short)?;
        self.rest = rest;
        Ok(*chunk)
    }

    fn u8(&mut self) -> Result<u8, FrameError> {
        self.chunk::<1>().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, FrameError> {
        self.chunk().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, FrameError> {
        self.chunk().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, FrameError> {
        self.chunk().map(u64::from_be_bytes)
    }

    fn bool(&mut self) -> Result<bool, FrameError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(FrameError::Flags(other)),
        }
    }

    fn id(&mut self) -> Result<RecordId, FrameError> {
        let id = RecordId { time_ns: self.u64()?, incarnation: self.u32()? };
        check_id(id).map(|()| id)
    }

    fn client(&mut self) -> Result<ClientId, FrameError> {
        let client = ClientId(self.u64()?);
        check_client(client).map(|()| client)
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

    fn text(&mut self) -> Result<&'a str, FrameError> {
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

#[cfg(test)]
mod tests;
