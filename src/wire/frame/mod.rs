//! The framed dialect: what a frame is. The decoder is in `decode`, encoders in `encode`, blocks of messages in
//! `messages`.
//!
//! A frame is `u32 length | u8 kind | body`, big endian. Decoding copies no payload and allocates nothing for frames
//! with messages; a length is checked before room is made for it. Payload slices keep the read buffer alive.

mod decode;
mod encode;
mod error;
mod messages;

use bytes::Bytes;

pub use self::encode::{
    StoreBuilder, acked, copy, copy_put, failure, page, ping, pong, put, put_ack, put_refused, records_of, refused,
    status_report, store,
};
pub use self::error::FrameError;
pub use self::messages::{Messages, MessagesBuilder};
use super::error::Refusal;
use super::id::{ClientId, RecordId};
use crate::limits::{FRAME_BYTES_MAX, TEXT_BYTES_MAX};
#[cfg(doc)]
use crate::limits::{MEMBERS_MAX, REPLICAS_MAX};

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
    pub(crate) const HELLO: u8 = 0x01;
    pub(crate) const WELCOME: u8 = 0x02;
    pub(crate) const STORE: u8 = 0x03;
    pub(crate) const ACKED: u8 = 0x04;
    pub(crate) const REFUSED: u8 = 0x05;
    pub(crate) const STATUS_QUERY: u8 = 0x06;
    pub(crate) const STATUS_REPORT: u8 = 0x07;
    pub(crate) const FAILURE: u8 = 0x08;
    pub(crate) const PING: u8 = 0x09;
    pub(crate) const PONG: u8 = 0x0a;
    pub(crate) const READ: u8 = 0x0b;
    pub(crate) const RECORDS: u8 = 0x0c;
    pub(crate) const READ_END: u8 = 0x0d;
    pub(crate) const WAITING: u8 = 0x0e;
    pub(crate) const DRAIN: u8 = 0x0f;
    pub(crate) const REGISTER: u8 = 0x10;
    pub(crate) const PUT: u8 = 0x11;
    pub(crate) const PUT_ACK: u8 = 0x12;
    pub(crate) const PUT_REFUSED: u8 = 0x13;
    pub(crate) const NODE_STATE: u8 = 0x14;
    pub(crate) const LEAVE: u8 = 0x15;
    pub(crate) const SCAN: u8 = 0x16;
    pub(crate) const PAGE: u8 = 0x17;
    pub(crate) const SCAN_FAILED: u8 = 0x18;
    pub(crate) const SAFE_QUERY: u8 = 0x19;
    pub(crate) const SAFE: u8 = 0x1a;
    pub(crate) const MEMBERS: u8 = 0x1b;
    pub(crate) const COPY: u8 = 0x1c;
    pub(crate) const COPY_PUT: u8 = 0x1d;
    pub(crate) const COPY_ACK: u8 = 0x1e;
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
    /// Records it answers for that have fewer copies on registered nodes than they are to have.
    pub short: u64,
    /// Records that, by its own account, only it keeps.
    pub sole: u64,
    /// Syncs of its files since it started.
    pub syncs: u64,
    /// The greatest id it has, or has called complete: a head gives it greater ones.
    pub greatest: RecordId,
    /// Why it is not writable, or empty.
    pub reason: String,
}

/// How a head sees a data node that it has known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum MemberState {
    /// It is registered.
    Here = 0,
    /// It is registered, and its records are to be moved away.
    Draining = 1,
    /// It is not registered.
    Away = 2,
    /// It has been drained or given up: nobody waits for it.
    Gone = 3,
}

/// A data node that a head has known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its identity, below 2^60. A name that comes with another identity is another node.
    pub id: u64,
    /// Whether it is there.
    pub state: MemberState,
    /// Its sync setting while it is registered, and [`SyncMode::Always`] if it is not.
    pub sync: SyncMode,
    /// It has records that, as far as this head knows, no other node has.
    pub sole: bool,
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
        /// Name of the cluster.
        cluster: String,
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
    StatusQuery {
        /// Tell who is connected, too.
        clients: bool,
    },
    /// Head to client: JSON, undecoded (see [`status`](super::status)).
    StatusReport(Bytes),
    /// Head to any; it closes the connection after it.
    Failure(Refusal),
    /// Asks for a Pong with the same number.
    Ping(u64),
    /// Answer to Ping.
    Pong(u64),
    /// Client to head: send me the records with `from <= id < until`. It takes the connection.
    Read {
        /// The least id.
        from: RecordId,
        /// The first id that is not wanted; [`RecordId::MAX`] for all that are kept when the read begins.
        until: RecordId,
        /// Only records of this client.
        client: Option<ClientId>,
        /// Go on with what comes.
        follow: bool,
        /// Leave out nodes that are away in place of waiting for them.
        partial: bool,
    },
    /// Head to client: lines of `data.txt` in the order of ids, each record once.
    Records {
        /// Everything below this id has been sent.
        next: RecordId,
        /// Whole lines.
        lines: Bytes,
    },
    /// Head to client: the read is over.
    ReadEnd {
        /// Everything below this id has been sent.
        next: RecordId,
        /// Names of the nodes that are missing from the answer, parted by commas.
        missing: String,
    },
    /// Head to client: the read waits for nodes that are away, or goes on if none is named.
    Waiting {
        /// Their names, parted by commas.
        nodes: String,
    },
    /// Client to head: move the records of a node away, then let it go. Answered with a StatusReport or a Failure.
    Drain {
        /// Give up a node that is away for good: what only it has is lost.
        gone: bool,
        /// Its name.
        name: String,
    },
    /// Node to head, first.
    Register {
        /// The node's identity, below 2^60.
        node: u64,
        /// Its name.
        name: String,
        /// Name of the cluster that its folder belongs to; empty if it is new.
        cluster: String,
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
    /// Head to node: which records with `from <= id < until` are there?
    Scan {
        /// The answer has the same number.
        request: u32,
        /// The least id.
        from: RecordId,
        /// The first id that is not wanted.
        until: RecordId,
        /// Only records of this client.
        client: Option<ClientId>,
        /// Bytes of lines wanted at most, unless one line is longer.
        bytes_max: u32,
        /// As in [`Frame::Safe`].
        safe: RecordId,
    },
    /// Node to head: the answer to a Scan.
    Page {
        /// The Scan's.
        request: u32,
        /// Everything that the node will ever have from `from` up to this id is in `lines`.
        next: RecordId,
        /// The greatest id the node has.
        greatest: RecordId,
        /// Lines that were passed over because their checksum is wrong, and that are not mended.
        rotten: u32,
        /// Whole lines of `data.txt` in the order of ids, each id once.
        lines: Bytes,
    },
    /// Node to head: a Scan that cannot be answered.
    ScanFailed {
        /// The Scan's.
        request: u32,
        /// Why.
        refusal: Refusal,
    },
    /// Node to head: what is safe? The head gives no new ids below `at_least` from now on.
    SafeQuery {
        /// As far as a reader has come.
        at_least: RecordId,
    },
    /// Head to node: nothing below this id will be put on this connection any more.
    Safe {
        /// The least id in flight, or the head's clock.
        id: RecordId,
    },
    /// Head to node, after Welcome and at every change: the nodes it knows. Node to head: those that its other heads know.
    Members {
        /// Copies that each record is to have; 0 from a node.
        replicas: u8,
        /// The fewest copies that a message got of late, if those were fewer than that and more than one; else 0.
        least: u8,
        /// At most `MEMBERS_MAX`.
        members: Vec<Member>,
    },
    /// Node to head: these records need another copy.
    Copy {
        /// The CopyAck has the same number.
        number: u64,
        /// Name of the node that is to have them, if it lacks them; empty for any that is not among the holders.
        to: String,
        /// Names of the nodes that hold them, parted by commas: a copy for anybody goes elsewhere.
        holders: String,
        /// Whole lines of `data.txt`.
        lines: Bytes,
    },
    /// Head to node: keep these copies.
    CopyPut {
        /// The CopyAck has the same number.
        number: u64,
        /// Names of the nodes that hold them from now on, parted by commas.
        copies: String,
        /// Whole lines of `data.txt`, with the names that stood there before.
        lines: Bytes,
    },
    /// Node to head, then head to node: the copies are kept, or not.
    CopyAck {
        /// The number of the Copy or CopyPut.
        number: u64,
        /// The node that keeps them.
        node: String,
        /// Why they are not kept.
        refusal: Option<Refusal>,
    },
}

impl Frame {
    /// The kind byte.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Hello { .. } => kind::HELLO,
            Self::Welcome { .. } => kind::WELCOME,
            Self::Store { .. } => kind::STORE,
            Self::Acked { .. } => kind::ACKED,
            Self::Refused { .. } => kind::REFUSED,
            Self::StatusQuery { .. } => kind::STATUS_QUERY,
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
            Self::Read { .. } => kind::READ,
            Self::Records { .. } => kind::RECORDS,
            Self::ReadEnd { .. } => kind::READ_END,
            Self::Waiting { .. } => kind::WAITING,
            Self::Drain { .. } => kind::DRAIN,
            Self::Scan { .. } => kind::SCAN,
            Self::Page { .. } => kind::PAGE,
            Self::ScanFailed { .. } => kind::SCAN_FAILED,
            Self::SafeQuery { .. } => kind::SAFE_QUERY,
            Self::Safe { .. } => kind::SAFE,
            Self::Members { .. } => kind::MEMBERS,
            Self::Copy { .. } => kind::COPY,
            Self::CopyPut { .. } => kind::COPY_PUT,
            Self::CopyAck { .. } => kind::COPY_ACK,
        }
    }
}

#[cfg(test)]
mod tests;
