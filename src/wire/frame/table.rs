//! Every frame there is, once: its kind, its fields in the order in which they stand on the wire, and what they mean.
//!
//! The type, the encoder and the decoder are made of this table; how a field is written is its type's matter
//! ([`Field`]). `docs/wire.md` is the contract.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::field::{Field, Fields, Result};
use super::{Copies, Cursor, FrameError, Held, Messages, NodeReport, Numbers, Roster, SourceCount, SyncMode, Tags};
use crate::wire::error::{Code, Refusal};
use crate::wire::filter::SourceFilter;
use crate::wire::id::{ClientId, RecordId};
use crate::wire::ledger::{LedgerId, NodeId, Place};
use crate::wire::proof::{Knock, Nonce, Proof};
use crate::wire::source::SourceName;

/// Makes [`Frame`] and its codec. The frames of the first part have their own encoders and decoders, in `hand`.
macro_rules! frames {
    (
        by hand {$(
            $(#[$hand_doc:meta])*
            $($hand_kind:ident = $hand_byte:literal),+: $hand_name:ident {
                $($(#[$hand_about:meta])* $hand_field:ident: $hand_type:ty,)*
            };
        )*}
        by fields {$(
            $(#[$doc:meta])*
            $kind:ident = $byte:literal: $name:ident
            $({ $($(#[$about:meta])* $field:ident: $type:ty,)* })?
            $(( $value:ident: $inner:ty ))?;
        )*}
    ) => {
        pub(crate) mod kind {
            //! The kinds of frames.
            $($(pub(crate) const $hand_kind: u8 = $hand_byte;)+)*
            $(pub(crate) const $kind: u8 = $byte;)*

            /// Whether there are frames of this kind.
            pub(crate) const fn is_known(kind: u8) -> bool {
                matches!(kind, $($($hand_kind)|+)|* | $($kind)|*)
            }
        }

        /// A frame, decoded. `docs/wire.md` has the byte tables.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub enum Frame {
            $($(#[$hand_doc])* $hand_name { $($(#[$hand_about])* $hand_field: $hand_type,)* },)*
            $($(#[$doc])* $name $({ $($(#[$about])* $field: $type,)* })? $(($inner))?,)*
        }

        impl Frame {
            /// The kind byte.
            #[must_use]
            pub const fn kind(&self) -> u8 {
                match self {
                    Self::Store { source: Some(_), .. } => kind::STORE_AS,
                    Self::Store { source: None, .. } => kind::STORE,
                    Self::Put { .. } => kind::PUT,
                    Self::StatusQuery { .. } => kind::STATUS_QUERY,
                    $(Self::$name { .. } => kind::$kind,)*
                }
            }

            /// Appends the fields, one after the other.
            pub(super) fn put_fields(&self, out: &mut BytesMut) -> Result {
                match self {
                    $(Self::$name $({ $($field),* })? $(($value))? => {
                        $($($field.put(out)?;)*)?
                        $($value.put(out)?;)?
                        Ok(())
                    })*
                    $(Self::$hand_name { .. } => Err(FrameError::Kind(self.kind())),)*
                }
            }

            /// Takes the fields of a frame of this kind, one after the other.
            pub(super) fn take_fields(fields: &mut Fields<'_>) -> Result<Self> {
                Ok(match fields.kind {
                    $(kind::$kind => Self::$name $({ $($field: Field::take(fields)?),* })? $((<$inner>::take(fields)?))?,)*
                    other => return Err(FrameError::Kind(other)),
                })
            }
        }
    };
}

frames! {
    by hand {
        /// Client to head: message k has sequence number `first_seq + k`. A Store, or with a source a StoreAs.
        STORE = 0x03, STORE_AS = 0x24: Store {
            /// The source of all of them, if it is not what the client said of itself.
            source: Option<SourceName>,
            /// Sequence number of the first message.
            first_seq: u64,
            /// The messages.
            messages: Messages,
        };
        /// Client to head.
        STATUS_QUERY = 0x06: StatusQuery {
            /// Tell who is connected, too.
            clients: bool,
            /// Tell of each ledger, too.
            ledgers: bool,
        };
        /// Head to node: keep these. Puts are numbered 1, 2, 3… on each connection. A checksum covers all of it.
        PUT = 0x11: Put {
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
            /// The tags of the records that these messages become, one each; none of a head without a key.
            tags: Tags,
            /// The messages.
            messages: Messages,
        };
    }
    by fields {
        /// Client to head, first.
        HELLO = 0x01: Hello {
            /// The client's identity.
            client: ClientId,
            /// Whether the head puts `mensaje: ` in front of each message.
            text: bool,
        };
        /// Head to both, answer to Hello and Register.
        WELCOME = 0x02: Welcome {
            /// The head's incarnation.
            incarnation: u32,
            /// Messages that may be in flight.
            window_messages: u32,
            /// Payload bytes that may be in flight.
            window_bytes: u32,
            /// Name of the cluster.
            cluster: String,
        };
        /// Head to client: these are kept.
        ACKED = 0x04: Acked {
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
        };
        /// Head to client: these are not kept.
        REFUSED = 0x05: Refused {
            /// Sequence number of the first message.
            first_seq: u64,
            /// How many, at least one.
            count: u32,
            /// Why.
            refusal: Refusal,
        };
        /// Head to client: JSON, undecoded (see [`status`](crate::wire::status)).
        STATUS_REPORT = 0x07: StatusReport(json: Bytes);
        /// Head to any; it closes the connection after it.
        FAILURE = 0x08: Failure(refusal: Refusal);
        /// Asks for a Pong with the same number.
        PING = 0x09: Ping(n: u64);
        /// Answer to Ping.
        PONG = 0x0a: Pong(n: u64);
        /// Client to head: send me the records with `from <= id < until`. It takes the connection.
        READ = 0x0b: Read {
            /// The least id.
            from: RecordId,
            /// The first id that is not wanted; [`RecordId::MAX`] for all that are kept when the read begins.
            until: RecordId,
            /// Only records of this client.
            client: Option<ClientId>,
            /// Go on with what comes.
            follow: bool,
            /// Leave out what is on nodes that are away in place of waiting for them.
            partial: bool,
            /// Only records of these sources.
            sources: SourceFilter,
            /// Go on behind what the [`Frame::Token`] of an earlier read covers; empty to begin.
            token: Bytes,
        };
        /// Head to client: lines of `data.txt`. Those that are there when a read begins come in the order of ids, each once;
        /// those that come later in the order in which they were kept, as far as one ledger goes.
        RECORDS = 0x0c: Records {
            /// Everything below this id that was there when the read began has been sent.
            next: RecordId,
            /// Whole lines.
            lines: Bytes,
        };
        /// Head to client: the read is over.
        READ_END = 0x0d: ReadEnd {
            /// Everything below this id has been sent.
            next: RecordId,
            /// What the answer lacks, parted by commas.
            missing: String,
        };
        /// Head to client: the read waits for nodes that are away, or goes on if none is named.
        WAITING = 0x0e: Waiting {
            /// Their names, parted by commas.
            nodes: String,
        };
        /// Client to head: move the records of a node away, then let it go. Answered with a StatusReport or a Failure.
        DRAIN = 0x0f: Drain {
            /// Give up a node that is away for good: what only it has is lost.
            gone: bool,
            /// Let it go even where its records are not on enough others.
            lose: bool,
            /// Its name, or its identity in text.
            name: String,
        };
        /// Node to head, first.
        REGISTER = 0x10: Register {
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
        };
        /// Node to head: all Puts up to this number are kept.
        PUT_ACK = 0x12: PutAck {
            /// Number of the last Put that is kept.
            up_to: u64,
            /// Under which setting.
            sync: SyncMode,
        };
        /// Node to head: this Put is not kept.
        PUT_REFUSED = 0x13: PutRefused {
            /// Number of the Put.
            number: u64,
            /// What kind of refusal; whether to try again follows from it.
            code: Code,
            /// Why.
            why: String,
        };
        /// Node to head, once a second when changed.
        NODE_STATE = 0x14: NodeState(report: NodeReport);
        /// Node to head: no new Puts please; closes when all are answered.
        LEAVE = 0x15: Leave;
        /// Head to node: which records with `from <= id < until` are there?
        SCAN = 0x16: Scan {
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
            /// Only records of these sources.
            sources: SourceFilter,
        };
        /// Node to head: the answer to a Scan.
        PAGE = 0x17: Page {
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
        };
        /// Node to head: a Scan that cannot be answered.
        SCAN_FAILED = 0x18: ScanFailed {
            /// The Scan's.
            request: u32,
            /// Why.
            refusal: Refusal,
        };
        /// Head to node: this ledger ends here. No client is told of later entries.
        CLOSE = 0x19: Close {
            /// The ledger.
            ledger: LedgerId,
            /// Its end.
            end: u32,
            /// The head that writes it says so: everything below was acknowledged by all members. Else it is the least end that
            /// was heard.
            settled: bool,
        };
        /// Node to head: what it has of these ledgers. All of them when it registers, then those that changed.
        HOLDS = 0x1a: Holds {
            /// More of what it has at registration follows.
            more: bool,
            /// Ledgers that were let go whole.
            gone: Vec<Numbers>,
            /// The others.
            held: Vec<Held>,
        };
        /// Head to node: keep all of this ledger up to this end.
        ADOPT = 0x1b: Adopt {
            /// The ledger.
            ledger: LedgerId,
            /// Entries below the first were let go; it ends with the last.
            entries: Range<u32>,
            /// The head that wrote it said that this is the end.
            settled: bool,
        };
        /// Node to head, and head to a node that has them: these entries are wanted.
        FETCH = 0x1c: Fetch {
            /// The answer has the same number.
            request: u32,
            /// The ledger.
            ledger: LedgerId,
            /// The entries.
            entries: Range<u32>,
        };
        /// The answer to a Fetch, the same way back.
        FETCHED = 0x1d: Fetched {
            /// The Fetch's.
            request: u32,
            /// Whole lines of `data.txt`: those of the entries that are there, from the first on, as many as fit.
            lines: Bytes,
        };
        /// Both ways: the roster. From a node it says what it has noted.
        ROSTER = 0x1e: Roster(roster: Roster);
        /// Head to node: send what this does not cover, and all that comes.
        FOLLOW = 0x1f: Follow {
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
        };
        /// Head to node: so many more bytes may be sent for this Follow; none ends it.
        CREDIT = 0x20: Credit {
            /// The Follow's.
            request: u32,
            /// Bytes of lines.
            bytes: u32,
        };
        /// Node to head: entries of one ledger, for this Follow.
        PUSHED = 0x21: Pushed {
            /// The Follow's.
            request: u32,
            /// The ledger.
            ledger: LedgerId,
            /// What this answers for. Entries that have no line here are lacking, or not wanted.
            entries: Range<u32>,
            /// Whole lines of `data.txt`.
            lines: Bytes,
        };
        /// Head to client: where to go on, as a text that any head understands. At the beginning of a read that follows: behind what
        /// is there (its first byte is `+`), then what was sent so far.
        TOKEN = 0x22: Token(token: Bytes);
        /// Client to head: keep so many copies from now on. Answered with a StatusReport or a Failure.
        COPIES = 0x23: Copies {
            /// Copies that each message is to have.
            replicas: u8,
            /// Copies without which a message is refused.
            least: u8,
        };
        /// Client to head: which sources are there, and which of them are connected? Answered with a StatusReport.
        DEVICES_QUERY = 0x25: DevicesQuery {
            /// Those behind this name; from the beginning without one.
            behind: Option<SourceName>,
            /// How many of them, at most.
            most: u16,
        };
        /// Head to node: which sources have records there?
        SOURCES_QUERY = 0x26: SourcesQuery {
            /// The answer has the same number.
            request: u32,
            /// Those behind this name.
            behind: Option<SourceName>,
            /// How many of them, at most.
            most: u16,
        };
        /// Node to head: the answer to a SourcesQuery.
        SOURCES_PAGE = 0x27: SourcesPage {
            /// The question's.
            request: u32,
            /// There are more behind these.
            more: bool,
            /// The node has more sources than it counts.
            unlisted: bool,
            /// In the order of names.
            sources: Vec<SourceCount>,
        };
        /// Node or client to head, before a Register, Drain or Copies: what comes next is proved with a key.
        KNOCK = 0x28: Knock(knock: Knock);
        /// Head to who knocked: prove it, as I do.
        CHALLENGE = 0x29: Challenge {
            /// The head's.
            nonce: Nonce,
            /// That the head has the key.
            proof: Proof,
            /// Name of the cluster.
            cluster: String,
        };
        /// Who knocked, to head: that it has the key.
        PROOF = 0x2a: Proof(proof: Proof);
        /// Head to node: tell all that changed in what you keep, then answer with the same number.
        FLUSH = 0x2c: Flush(n: u64);
        /// Node to head: all is told that was known here when the Flush with this number came.
        FLUSHED = 0x2d: Flushed(n: u64);
        /// Head to client: what is sent from here on lacks this. Whoever goes on at another head knows it then.
        LACKS = 0x2b: Lacks {
            /// As [`Frame::ReadEnd`] says it.
            missing: String,
        };
    }
}
