//! The words between the head's decisions and the tasks around them: batches, what is to be done with them, counts.
//!
//! Nothing is decided here; that is `core`'s.

use std::rc::Rc;

use crate::wire::error::Refusal;
use crate::wire::frame::{Messages, SyncMode};
use crate::wire::id::{ClientId, RecordId};
use crate::wire::ledger::{LedgerId, NodeId, Place};
use crate::wire::source::SourceName;

/// A registered node: its place in the table, and a serial number that is never given twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NodeKey {
    pub(super) place: usize,
    pub(super) serial: u64,
}

impl NodeKey {
    /// The serial number of the registration, unique in one run of the head.
    #[must_use]
    pub(crate) const fn serial(self) -> u64 {
        self.serial
    }
}

/// Where a batch came from: opaque to the core, handed back with its outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Origin {
    /// The session's serial number.
    pub(crate) session: u64,
    /// The session's own number for the batch.
    pub(crate) ticket: u64,
}

/// Who sent messages, and which source they are of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Author {
    /// The client.
    pub(crate) client: ClientId,
    /// The name of the source, if the client said one.
    pub(crate) source: Option<SourceName>,
}

/// Messages of one client that are placed together; their ids and sequence numbers are consecutive.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    /// Id of the first message.
    pub(crate) first: RecordId,
    /// Who sent them.
    pub(crate) client: ClientId,
    /// Sequence number of the first message.
    pub(crate) first_seq: u64,
    /// The name of their source, if their sender said one.
    pub(crate) source: Option<SourceName>,
    /// The messages.
    pub(crate) messages: Messages,
    /// Who is told.
    pub(crate) origin: Origin,
}

/// What the tasks around the core have to do.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Send this batch to this node, as its next Put.
    Put {
        /// The node.
        node: NodeKey,
        /// The entry of its first message; none for a node that speaks text.
        place: Option<Place>,
        /// The members of the ledger, with its first entry.
        members: Rc<[NodeId]>,
        /// The batch.
        batch: Batch,
    },
    /// Tell this node that a ledger ends here.
    Close {
        /// The node.
        node: NodeKey,
        /// The ledger.
        ledger: LedgerId,
        /// Its end.
        end: u32,
    },
    /// Every node that was asked keeps the batch: tell its origin.
    Kept {
        /// The batch.
        batch: Batch,
        /// Addresses of the nodes that keep it.
        nodes: Vec<Rc<str>>,
        /// The weakest promise among its copies.
        sync: SyncMode,
    },
    /// Nobody keeps the batch: tell its origin why.
    Refused {
        /// The batch.
        batch: Batch,
        /// Cause and remedy.
        refusal: Refusal,
    },
    /// A node has room again: wake who was held.
    Room,
    /// Ledgers are over: others are to be opened.
    Plan,
}

/// Why a batch was not taken.
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// Every window is full, or ledgers are about to be opened: wait for [`Effect::Room`], then try again.
    Hold,
    /// It can't be kept now: tell the client.
    Refused(Refusal),
}

/// How a node is called in answers and in records.
#[derive(Clone, Debug)]
pub(crate) struct Label {
    /// Its address.
    pub(crate) ip: Rc<str>,
    /// The identity of its folder; none for nodes that speak text.
    pub(crate) id: Option<NodeId>,
}

/// Counters since the head started.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Counters {
    /// Messages acknowledged.
    pub(crate) acked: u64,
    /// Messages refused.
    pub(crate) refused: u64,
    /// Messages in flight now.
    pub(crate) in_flight: u64,
    /// Bytes in flight now.
    pub(crate) in_flight_bytes: usize,
    /// Messages acknowledged with fewer copies than were asked for.
    pub(crate) short: u64,
}

/// What the head shows of one node's queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeLoad {
    /// Messages sent and not settled.
    pub(crate) in_flight: u64,
    /// Messages acknowledged since it registered.
    pub(crate) acked: u64,
    /// Whether it takes new messages.
    pub(crate) writable: bool,
}
