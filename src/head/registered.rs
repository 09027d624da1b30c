//! A registered data node as the rest of the head sees it: who it is, what it says of its log, and where its Puts go.
//!
//! What it has in flight is the core's business, its sessions are in `node` and `text_node`.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::SystemTime;

use bytes::BytesMut;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::effects::{Batch, NodeKey};
use super::live;
use super::pages::{Answer, Pushed};
use super::questions::{Fetcher, Questions, To};
use super::window::Window;
use crate::ledger::held::Report;
use crate::limits;
use crate::net::Outbox;
use crate::wire::frame::{self, Frame, FrameError, PutFields, SyncMode, Tags};
use crate::wire::ledger::{NodeId, Place};
use crate::wire::text::Dialect;

/// Where the Puts of a node go.
pub(crate) trait NodeSink {
    /// The node is in the table; before its first Put.
    fn accepted(&self, incarnation: u32);
    /// The next Put.
    fn put(&self, batch: &Batch, place: Option<Place>, members: &[NodeId], tags: &Tags);
    /// The node is evicted: let go of its socket.
    fn cut(&self);
    /// Sends an in-protocol ping, if the node speaks that; false if it does not.
    fn ping(&self, n: u64) -> bool;
    /// Sends any other frame, if the node speaks frames.
    fn tell(&self, _frame: &Frame) {}
    /// The same, for an answer to what the node asked.
    fn answer(&self, _frame: &Frame) {}
    /// Bytes that wait for the node to read them.
    fn waiting(&self) -> usize {
        0
    }
}

/// What is known of a registered node beside its queue.
pub(crate) struct NodeEntry {
    /// Its key in the core.
    pub(crate) key: NodeKey,
    /// Unique among the registered nodes.
    pub(crate) name: String,
    /// Identity that lies with its data; none for nodes that speak text.
    pub(crate) id: Option<NodeId>,
    /// It keeps records of format 1, of which no copies are made.
    pub(crate) old: bool,
    /// It was asked into the cluster on this connection.
    pub(crate) joined: Cell<bool>,
    /// The address it came from.
    pub(crate) ip: IpAddr,
    /// The same as text, shared by every answer that names it.
    pub(crate) ip_text: Rc<str>,
    /// The port it came from.
    pub(crate) port: u16,
    /// How it speaks.
    pub(crate) dialect: Dialect,
    /// When it registered.
    pub(crate) since: SystemTime,
    /// What it said of its log last.
    pub(crate) report: RefCell<NodeLog>,
    /// Heartbeat state.
    pub(crate) pulse: RefCell<super::pulse::Pulse>,
    /// When it settled something last, or was given something to settle after it had nothing.
    pub(crate) progress: Cell<Instant>,
    /// Scans that it has to answer.
    pub(super) scans: Questions<To<Answer>>,
    /// What it has told of what it keeps, until all of it has come; none from then on.
    pub(crate) telling: RefCell<Option<Vec<Report>>>,
    /// Readers that follow.
    pub(super) feeds: Questions<To<Pushed>>,
    /// Who wants to know which sources it has.
    pub(super) listings: Questions<oneshot::Sender<live::Page>>,
    /// Other nodes that want copies of what it has.
    pub(super) fetches: Questions<Fetcher>,
    /// Records that it sent on this connection and that are not believed, and why the first of them is not.
    pub(super) refused: Cell<u64>,
    pub(super) refused_why: Cell<&'static str>,
    /// Where its Puts go.
    pub(super) sink: Rc<dyn NodeSink>,
}

impl NodeEntry {
    /// Sends it a frame, if it speaks frames, in order with its Puts.
    pub(crate) fn tell(&self, frame: &Frame) {
        self.sink.tell(frame);
    }

    /// The same, for an answer to what it asked: if it reads none, nothing more is read from it.
    pub(crate) fn answer(&self, frame: &Frame) {
        self.sink.answer(frame);
    }

    /// It answers a Scan.
    pub(super) fn scan_answered(&self, request: u32, answer: Answer) {
        if let Some(to) = self.scans.answered(request) {
            to.hand(answer);
        }
    }

    /// So many records that it sent are not believed.
    pub(super) fn refuses(&self, count: u32, why: &'static str) {
        if self.refused.get() == 0 {
            self.refused_why.set(why);
        }
        self.refused.set(self.refused.get() + u64::from(count));
    }

    /// What a reader is told of it whose answer lacks these.
    pub(super) fn refused_words(&self) -> String {
        format!("it sends {}; see 'acopio verify --key'", self.refused_why.get())
    }

    /// Whether it reads what it is sent too slowly to be sent more than Puts.
    pub(crate) fn is_behind(&self) -> bool {
        self.sink.waiting() >= limits::NODE_WINDOW_BYTES_MAX
    }
}

/// What a node says of its log.
#[derive(Clone, Debug)]
pub(crate) struct NodeLog {
    /// Records it keeps.
    pub(crate) records: u64,
    /// Bytes of its files.
    pub(crate) bytes: u64,
    /// Syncs of its files since it started.
    pub(crate) syncs: u64,
    /// Bytes it wrote to its disk since it started.
    pub(crate) written: u64,
    /// Bytes that may still be written to its disk, if it tells.
    pub(crate) free: Option<u64>,
    /// Its sync policy, in its own words.
    pub(crate) sync: SyncMode,
    /// Why it can't write; empty if it can.
    pub(crate) reason: String,
    /// It asked for no new messages.
    pub(crate) leaving: bool,
}

/// Who wants to be a data node.
pub(crate) struct Candidate {
    /// Unique name.
    pub(crate) name: String,
    /// Identity, for nodes that have one.
    pub(crate) id: Option<NodeId>,
    /// It proved that it has the key of its name, and no more: other names' identities are not for it.
    pub(crate) bound: bool,
    /// The identity that was in its folder before.
    pub(crate) replaces: Option<NodeId>,
    /// It keeps records of format 1: it is missed from now on.
    pub(crate) old: bool,
    /// Address and port it came from.
    pub(crate) peer: std::net::SocketAddr,
    /// How it speaks.
    pub(crate) dialect: Dialect,
    /// Whether it can write now.
    pub(crate) writable: bool,
    /// What it may have unsettled.
    pub(crate) window: Window,
    /// Bytes of the greatest message that it takes; none if it takes any.
    pub(crate) message_bytes: Option<usize>,
    /// What it says of its log.
    pub(crate) report: NodeLog,
}

/// A dialect's word in `status` and the logs.
#[must_use]
pub(crate) const fn word(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Raw => "raw",
        Dialect::Line => "line",
        Dialect::Framed => "framed",
    }
}

/// Puts of a framed node: encoded straight into its outbox.
pub(crate) struct FramedSink {
    /// The connection's outgoing side.
    pub(crate) outbox: Rc<Outbox>,
    /// Told when the node is evicted.
    pub(crate) cut: Notify,
    /// Name of the head's cluster.
    pub(crate) cluster: String,
}

impl FramedSink {
    fn told(&self, frame: &Frame, encoded: Result<(), FrameError>) {
        if let Err(error) = encoded {
            tracing::error!("frame {:#04x} cannot be encoded: {error}", frame.kind());
            self.cut.notify_one();
        }
    }
}

impl NodeSink for FramedSink {
    fn accepted(&self, incarnation: u32) {
        let (messages, bytes) = (limits::NODE_WINDOW_MESSAGES_MAX as u32, limits::NODE_WINDOW_BYTES_MAX as u32);
        let cluster = self.cluster.clone();
        let welcome = Frame::Welcome { incarnation, window_messages: messages, window_bytes: bytes, cluster };
        if let Err(error) = self.outbox.with(|out| welcome.encode(out)) {
            tracing::error!("a Welcome cannot be encoded: {error}");
            self.cut.notify_one();
        }
    }

    fn put(&self, batch: &Batch, place: Option<Place>, members: &[NodeId], tags: &Tags) {
        let Some(place) = place else { return };
        let (first, client, first_seq) = (batch.first, batch.client, batch.first_seq);
        let fields = PutFields { first, client, first_seq, place, members, source: batch.source.as_ref(), tags };
        let written = self.outbox.with(|buffer: &mut BytesMut| frame::put(buffer, fields, &batch.messages));
        if let Err(error) = written {
            // The block came out of our own decoder, so it fits; were it not so, the node must not wait for it.
            tracing::error!("a batch cannot be sent on: {error}");
            self.cut.notify_one();
        }
    }

    fn cut(&self) {
        self.cut.notify_one();
    }

    fn ping(&self, n: u64) -> bool {
        self.outbox.with(|buffer| frame::ping(buffer, n));
        true
    }

    fn tell(&self, frame: &Frame) {
        self.told(frame, self.outbox.with(|out| frame.encode(out)));
    }

    fn answer(&self, frame: &Frame) {
        self.told(frame, self.outbox.answer(|out| frame.encode(out)));
    }

    fn waiting(&self) -> usize {
        self.outbox.len()
    }
}

const _: () = assert!(limits::NODE_WINDOW_BYTES_MAX >= limits::BATCH_BYTES_MAX);
