//! The framed dialect: what a frame is. The decoder is in `decode`, encoders in `encode`, blocks of messages in
//! `messages`.
//!
//! A frame is `u32 length | u8 kind | body`, big endian. Decoding copies no payload and allocates nothing for frames
//! with messages; a length is checked before room is made for it. Payload slices keep the read buffer alive.

mod decode;
mod encode;
mod error;
mod ledgers;
mod messages;
mod sources;

use bytes::Bytes;

pub use self::encode::{
    PutFields, StoreBuilder, acked, failure, fetched, page, ping, pong, pushed, put, put_ack, put_refused, records_of,
    refused, status_report, store,
};
pub use self::error::FrameError;
pub use self::ledgers::{Copies as CopiesWanted, Cursor, Founding, Held, HoldState, Member, Numbers, Roster};
pub use self::messages::{Messages, MessagesBuilder};
pub use self::sources::SourceCount;
use super::error::Refusal;
use super::filter::SourceFilter;
use super::id::{ClientId, RecordId};
use super::ledger::{LedgerId, NodeId, Place};
use super::source::SourceName;
use crate::limits::{FRAME_BYTES_MAX, REPLICAS_MAX, SOURCE_NAME_BYTES_MAX};

/// Bytes of the length prefix.
const PREFIX: usize = 4;

/// Bytes of a [`Frame::Put`] before its block, kind included: the most of the frames that carry one.
const PUT_FIELDS: usize = 1 + 4 + 12 + 8 + 8 + 4 + 4 + 1 + 8 * REPLICAS_MAX + (2 + SOURCE_NAME_BYTES_MAX) + 2;

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
    pub(crate) const CLOSE: u8 = 0x19;
    pub(crate) const HOLDS: u8 = 0x1a;
    pub(crate) const ADOPT: u8 = 0x1b;
    pub(crate) const FETCH: u8 = 0x1c;
    pub(crate) const FETCHED: u8 = 0x1d;
    pub(crate) const ROSTER: u8 = 0x1e;
    pub(crate) const FOLLOW: u8 = 0x1f;
    pub(crate) const CREDIT: u8 = 0x20;
    pub(crate) const PUSHED: u8 = 0x21;
    pub(crate) const TOKEN: u8 = 0x22;
    pub(crate) const COPIES: u8 = 0x23;
    pub(crate) const STORE_AS: u8 = 0x24;
    pub(crate) const DEVICES_QUERY: u8 = 0x25;
    pub(crate) const SOURCES_QUERY: u8 = 0x26;
    pub(crate) const SOURCES_PAGE: u8 = 0x27;
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
    /// Syncs of its files since it started.
    pub syncs: u64,
    /// Bytes it wrote to its disk since it started.
    pub written: u64,
    /// Why it is not writable, or empty.
    pub reason: String,
}

/// How a [`Frame::Token`] begins that is sent before what is there: who goes on with it wants that, too.
pub(crate) const TOKEN_OF_BEGINNING: u8 = b'+';

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
    /// Client to head: message k has sequence number `first_seq + k`. A Store, or with a source a StoreAs.
    Store {
        /// The source of all of them, if it is not what the client said of itself.
        source: Option<SourceName>,
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
        /// Tell of each ledger, too.
        ledgers: bool,
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
        /// Only records of these sources.
        sources: SourceFilter,
        /// Go on with what comes.
        follow: bool,
        /// Leave out what is on nodes that are away in place of waiting for them.
        partial: bool,
        /// Go on behind what the [`Frame::Token`] of an earlier read covers; empty to begin.
        token: Bytes,
    },
    /// Head to client: lines of `data.txt`. Those that are there when a read begins come in the order of ids, each once;
    /// those that come later in the order in which they were kept, as far as one ledger goes.
    Records {
        /// Everything below this id that was there when the read began has been sent.
        next: RecordId,
        /// Whole lines.
        lines: Bytes,
    },
    /// Head to client: where to go on, as a text that any head understands. At the beginning of a read that follows: behind what
    /// is there (its first byte is `+`), then what was sent so far.
    Token(Bytes),
    /// Head to client: the read is over.
    ReadEnd {
        /// Everything below this id has been sent.
        next: RecordId,
        /// What the answer lacks, parted by commas.
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
        /// Let it go even where its records are not on enough others.
        lose: bool,
        /// Its name, or its identity in text.
        name: String,
    },
    /// Client to head: keep so many copies from now on. Answered with a StatusReport or a Failure.
    Copies {
        /// Copies that each message is to have.
        replicas: u8,
        /// Copies without which a message is refused.
        least: u8,
    },
    /// Node to head, first.
    Register {
        /// The node's identity.
        node: NodeId,
        /// The identity that was in its folder before, whose promises it does not keep.
        replaces: Option<NodeId>,
        /// It keeps records of format 1, which stand in no ledger.
        old: bool,
        /// Its name.
        name: String,
        /// Name of the cluster that its folder belongs to; empty if it is new.
        cluster: String,
        /// Its sync setting.
        sync: SyncMode,
        /// Its state.
        report: NodeReport,
    },
    /// Head to node: keep these. Puts are numbered 1, 2, 3… on each connection. A checksum covers all of it.
    Put {
        /// Id of the first message; the others are consecutive. Its incarnation is the ledger's.
        first: RecordId,
        /// Whose messages.
        client: ClientId,
        /// Sequence number of the first message.
        first_seq: u64,
        /// The ledger's number and the entry of the first message; the others are consecutive.
        place: Place,
        /// For entry 0, which opens the ledger: its members. Else empty.
        members: Vec<NodeId>,
        /// The source of all of them, if their sender said its name.
        source: Option<SourceName>,
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
        /// Only records of these sources.
        sources: SourceFilter,
        /// Bytes of lines wanted at most, unless one line is longer.
        bytes_max: u32,
    },
    /// Node to head: the answer to a Scan.
    Page {
        /// The Scan's.
        request: u32,
        /// Everything that the node has from `from` up to this id is in `lines`.
        next: RecordId,
        /// The greatest id the node has.
        greatest: RecordId,
        /// Lines that were passed over because they are damaged and stand in no ledger that anybody counts.
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
    /// Head to node: this ledger ends here. No client is told of later entries.
    Close {
        /// The ledger.
        ledger: LedgerId,
        /// Its end.
        end: u32,
        /// The head that writes it says so: everything below was acknowledged by all members. Else it is the least end that
        /// was heard.
        settled: bool,
    },
    /// Node to head: what it has of these ledgers. All of them when it registers, then those that changed.
    Holds {
        /// More of what it has at registration follows.
        more: bool,
        /// Ledgers that were let go whole.
        gone: Vec<Numbers>,
        /// The others.
        held: Vec<Held>,
    },
    /// Head to node: keep all of this ledger up to this end.
    Adopt {
        /// The ledger.
        ledger: LedgerId,
        /// Entries below it were let go.
        from: u32,
        /// Its end.
        end: u32,
        /// The head that wrote it said that this is the end.
        settled: bool,
    },
    /// Node to head, and head to a node that has them: these entries are wanted.
    Fetch {
        /// The answer has the same number.
        request: u32,
        /// The ledger.
        ledger: LedgerId,
        /// The first entry.
        from: u32,
        /// The first entry that is not wanted.
        to: u32,
    },
    /// The answer to a Fetch, the same way back.
    Fetched {
        /// The Fetch's.
        request: u32,
        /// Whole lines of `data.txt`: those of the entries that are there, from the first on, as many as fit.
        lines: Bytes,
    },
    /// Both ways: the roster. From a node it says what it has noted.
    Roster(Roster),
    /// Head to node: send what this does not cover, and all that comes.
    Follow {
        /// Chosen by the head.
        request: u32,
        /// Only records of this client.
        client: Option<ClientId>,
        /// Only records of these sources.
        sources: SourceFilter,
        /// Ledgers of which everything is known.
        done: Vec<Numbers>,
        /// Ledgers that are known in part.
        cursors: Vec<Cursor>,
    },
    /// Head to node: so many more bytes may be sent for this Follow; none ends it.
    Credit {
        /// The Follow's.
        request: u32,
        /// Bytes of lines.
        bytes: u32,
    },
    /// Node to head: entries of one ledger, for this Follow.
    Pushed {
        /// The Follow's.
        request: u32,
        /// The ledger.
        ledger: LedgerId,
        /// The first entry that this answers for.
        first: u32,
        /// The first one behind those. Entries that have no line here are lacking, or not wanted.
        next: u32,
        /// Whole lines of `data.txt`.
        lines: Bytes,
    },
    /// Client to head: which sources are there, and which of them are connected? Answered with a StatusReport.
    DevicesQuery {
        /// Those behind this name; from the beginning without one.
        behind: Option<SourceName>,
        /// How many of them, at most.
        most: u16,
    },
    /// Head to node: which sources have records there?
    SourcesQuery {
        /// The answer has the same number.
        request: u32,
        /// Those behind this name.
        behind: Option<SourceName>,
        /// How many of them, at most.
        most: u16,
    },
    /// Node to head: the answer to a SourcesQuery.
    SourcesPage {
        /// The question's.
        request: u32,
        /// There are more behind these.
        more: bool,
        /// The node has more sources than it counts.
        unlisted: bool,
        /// In the order of names.
        sources: Vec<SourceCount>,
    },
}

impl Frame {
    /// The kind byte.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Hello { .. } => kind::HELLO,
            Self::Welcome { .. } => kind::WELCOME,
            Self::Store { source: None, .. } => kind::STORE,
            Self::Store { source: Some(_), .. } => kind::STORE_AS,
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
            Self::Close { .. } => kind::CLOSE,
            Self::Holds { .. } => kind::HOLDS,
            Self::Adopt { .. } => kind::ADOPT,
            Self::Fetch { .. } => kind::FETCH,
            Self::Fetched { .. } => kind::FETCHED,
            Self::Roster(_) => kind::ROSTER,
            Self::Follow { .. } => kind::FOLLOW,
            Self::Credit { .. } => kind::CREDIT,
            Self::Pushed { .. } => kind::PUSHED,
            Self::Token(_) => kind::TOKEN,
            Self::Copies { .. } => kind::COPIES,
            Self::DevicesQuery { .. } => kind::DEVICES_QUERY,
            Self::SourcesQuery { .. } => kind::SOURCES_QUERY,
            Self::SourcesPage { .. } => kind::SOURCES_PAGE,
        }
    }
}

#[cfg(test)]
mod tests;
