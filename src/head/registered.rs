//! A registered data node as the rest of the head sees it: who it is, what it says of its log, and where its Puts go.
//!
//! What it has in flight is the core's business, its sessions are in `node` and `text_node`.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::SystemTime;

use bytes::BytesMut;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::core::{Batch, NodeKey};
use super::members::Kept;
use super::reads::Open;
use super::window::Window;
use crate::limits;
use crate::net::Outbox;
use crate::wire::frame::{self, Frame, FrameError, Member, SyncMode};
use crate::wire::text::Dialect;

/// Where the Puts of a node go.
pub trait NodeSink {
    /// The node is in the table; before its first Put.
    fn accepted(&self, incarnation: u32);
    /// The next Put.
    fn put(&self, batch: &Batch, copies: &str);
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
pub struct NodeEntry {
    /// Its key in the core.
    pub key: NodeKey,
    /// Unique among the registered nodes.
    pub name: String,
    /// Identity that lies with its data; none for nodes that speak text.
    pub id: Option<u64>,
    /// The address it came from.
    pub ip: IpAddr,
    /// The same as text, shared by every answer that names it.
    pub ip_text: Rc<str>,
    /// The port it came from.
    pub port: u16,
    /// How it speaks.
    pub dialect: Dialect,
    /// When it registered.
    pub since: SystemTime,
    /// What it said of its log last.
    pub report: RefCell<Report>,
    /// Heartbeat state.
    pub pulse: RefCell<super::heartbeat::Pulse>,
    /// When it settled something last, or was given something to settle after it had nothing.
    pub progress: Cell<Instant>,
    /// Scans that it has to answer.
    pub scans: Open,
    /// What it was told last: the fewest copies given of late, and the members.
    pub told: RefCell<(u8, Vec<Member>)>,
    /// What its other heads say together, in the same way.
    pub heard: RefCell<(u8, Vec<Member>)>,
    /// Where its Puts go.
    pub(super) sink: Rc<dyn NodeSink>,
}

impl NodeEntry {
    /// Sends it a frame, if it speaks frames, in order with its Puts.
    pub fn tell(&self, frame: &Frame) {
        self.sink.tell(frame);
    }

    /// The same, for an answer to what it asked: if it reads none, nothing more is read from it.
    pub fn answer(&self, frame: &Frame) {
        self.sink.answer(frame);
    }

    /// Whether it reads what it is sent too slowly to be sent more than Puts.
    pub fn is_behind(&self) -> bool {
        self.sink.waiting() >= limits::NODE_WINDOW_BYTES_MAX
    }
}

/// What a node says of its log.
#[derive(Clone, Debug)]
pub struct Report {
    /// Records it keeps.
    pub records: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Records that only it keeps.
    pub sole: u64,
    /// Records it answers for that lack a copy.
    pub short: u64,
    /// Syncs of its files since it started.
    pub syncs: u64,
    /// Its sync policy, in its own words.
    pub sync: SyncMode,
    /// Why it can't write; empty if it can.
    pub reason: String,
    /// It asked for no new messages.
    pub leaving: bool,
}

impl Report {
    /// What it says of its records.
    #[must_use]
    pub const fn kept(&self) -> Kept {
        Kept { records: self.records, sole: self.sole, short: self.short }
    }
}

/// Who wants to be a data node.
pub struct Candidate {
    /// Unique name.
    pub name: String,
    /// Identity, for nodes that have one.
    pub id: Option<u64>,
    /// Address and port it came from.
    pub peer: std::net::SocketAddr,
    /// How it speaks.
    pub dialect: Dialect,
    /// Whether it can write now.
    pub writable: bool,
    /// What it may have unsettled.
    pub window: Window,
    /// Bytes of the greatest message that it takes; none if it takes any.
    pub message_bytes: Option<usize>,
    /// What it says of its log.
    pub report: Report,
}

/// A dialect's word in `status` and the logs.
#[must_use]
pub const fn word(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Raw => "raw",
        Dialect::Line => "line",
        Dialect::Framed => "framed",
    }
}

/// Puts of a framed node: encoded straight into its outbox.
pub struct FramedSink {
    /// The connection's outgoing side.
    pub outbox: Rc<Outbox>,
    /// Told when the node is evicted.
    pub cut: Notify,
    /// Name of the head's cluster.
    pub cluster: String,
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

    fn put(&self, batch: &Batch, copies: &str) {
        let written = self.outbox.with(|buffer: &mut BytesMut| {
            frame::put(buffer, batch.first, batch.client, batch.first_seq, copies, &batch.messages)
        });
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
