//! A data node that speaks text, as the original's did: `mensaje: <text>` out, `recibido` in, one at a time.
//!
//! It has no name, no identity and no ping of its own; each of its messages is answered before the next is sent.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::alarms::Log;
use super::effects::Batch;
use super::faults::Fault;
use super::nodes::STOPPING;
use super::registered::{Candidate, NodeEntry, NodeLog, NodeSink, word};
use super::state::Head;
use super::window::Window;
use crate::limits;
use crate::net::{ReadHalf, WriteHalf};
use crate::wire::frame::{Messages, SyncMode, Tags};
use crate::wire::ledger::{NodeId, Place};
use crate::wire::text::{Dialect, MENSAJE_PREFIX, RECIBIDO, mensaje_bytes, quote};
use tokio_util::sync::CancellationToken;

#[derive(Default)]
struct TextSink {
    queue: RefCell<VecDeque<Messages>>,
    wake: Notify,
    cut: Notify,
}

impl NodeSink for TextSink {
    fn accepted(&self, _incarnation: u32) {}

    fn put(&self, batch: &Batch, _place: Option<Place>, _members: &[NodeId], _tags: &Tags) {
        self.queue.borrow_mut().push_back(batch.messages.clone());
        self.wake.notify_one();
    }

    fn cut(&self) {
        self.cut.notify_one();
    }

    fn ping(&self, _n: u64) -> bool {
        false
    }
}

/// Serves the node until it is gone, is evicted or the head has finished. Returns a refusal to tell it, if any.
pub(crate) async fn serve(
    head: &Rc<Head>,
    peer: SocketAddr,
    mut read_half: ReadHalf<'_>,
    mut write_half: WriteHalf<'_>,
    dialect: Dialect,
    finished: &CancellationToken,
) {
    let sink = Rc::new(TextSink::default());
    let who = Candidate {
        name: format!("{}-{peer}", word(dialect)),
        id: None,
        bound: false,
        peer,
        dialect,
        writable: true,
        window: Window { bytes: limits::NODE_WINDOW_BYTES_MAX, messages: limits::TEXT_NODE_WINDOW_MESSAGES_MAX },
        message_bytes: Some(head.config.text_node_bytes - usize::from(dialect == Dialect::Line)),
        replaces: None,
        old: false,
        report: NodeLog {
            records: 0,
            bytes: 0,
            syncs: 0,
            written: 0,
            free: None,
            sync: SyncMode::Never,
            reason: String::new(),
            leaving: false,
        },
    };
    let admitted = head.config.gate.admit_text_node(peer.ip());
    let registered = admitted.and_then(|()| head.register(who, Rc::clone(&sink) as Rc<dyn NodeSink>));
    let entry = match registered {
        Ok(entry) => entry,
        Err(refusal) => {
            head.say(peer.ip(), Log::Warn, &format!("a dataNode at {} was refused: {refusal}", peer.ip()));
            let line = crate::wire::text::refusal_line(&refusal) + "\n";
            if let Err(error) = write_half.write_all(line.as_bytes()).await {
                tracing::debug!("a text dataNode at {peer} did not hear its refusal: {error}");
            }
            return;
        }
    };
    head.is_in(peer);
    let session = Session { head, entry: &entry, sink: &sink, newline: dialect == Dialect::Line };
    let (fault, cause) = tokio::select! {
        biased;
        () = sink.cut.notified() => return,
        () = finished.cancelled() => (Fault::None, STOPPING.to_owned()),
        lost = session.run(&mut read_half, &mut write_half) => lost,
    };
    head.remove(&entry, fault, &cause);
    head.text_node_left();
}

struct Session<'a> {
    head: &'a Head,
    entry: &'a NodeEntry,
    sink: &'a TextSink,
    newline: bool,
}

impl Session<'_> {
    /// Sends batch after batch; returns why the node is given up, and whether it failed at a message.
    async fn run(&self, read_half: &mut ReadHalf<'_>, write_half: &mut WriteHalf<'_>) -> (Fault, String) {
        let mut number = 0;
        let mut longest = 0;
        let mut buffer = BytesMut::with_capacity(1024);
        loop {
            let next = self.sink.queue.borrow_mut().pop_front();
            let Some(messages) = next else {
                tokio::select! {
                    biased;
                    () = self.sink.wake.notified() => continue,
                    lost = unasked(read_half, &mut buffer, longest) => return (Fault::None, lost),
                }
            };
            for message in messages.iter() {
                // Words that wait would be taken for the answer. The message was not sent, so it is not to blame.
                tokio::select! {
                    biased;
                    lost = unasked(read_half, &mut buffer, longest) => return (Fault::None, lost),
                    () = std::future::ready(()) => {}
                }
                if let Err(cause) = self.one(message, read_half, write_half, &mut buffer).await {
                    return (Fault::Fails, cause);
                }
                longest = longest.max(mensaje_bytes(message));
                self.entry.progress.set(Instant::now());
            }
            number += 1;
            let kept = u64::from(messages.count());
            self.head.text_node_keeps(self.entry, kept);
            self.entry.report.borrow_mut().records += kept;
            // The original answers once its logger has the line; it makes no promise about the disk.
            if let Err(refusal) = self.head.node_acked(self.entry, number, SyncMode::Never) {
                return (Fault::Fails, refusal.text);
            }
        }
    }

    /// One message and its answer.
    async fn one(
        &self,
        message: &[u8],
        read_half: &mut ReadHalf<'_>,
        write_half: &mut WriteHalf<'_>,
        buffer: &mut BytesMut,
    ) -> Result<(), String> {
        let mut out = Vec::with_capacity(message.len() + MENSAJE_PREFIX.len() + 1);
        if !message.starts_with(MENSAJE_PREFIX.as_bytes()) {
            out.extend_from_slice(MENSAJE_PREFIX.as_bytes());
        }
        out.extend_from_slice(message);
        if self.newline {
            // One line is one message to it; a newline inside would be two.
            out.iter_mut().filter(|c| **c == b'\n').for_each(|c| *c = b' ');
            out.push(b'\n');
        }
        let exchange = async {
            write_half.write_all(&out).await.map_err(|error| format!("its connection broke: {error}"))?;
            buffer.clear();
            loop {
                match read_half.read_buf(buffer).await {
                    Ok(n) if n > 0 => {}
                    _ => return Err("its connection was closed".to_owned()),
                }
                let answer = buffer.trim_ascii_end();
                if answer == RECIBIDO.as_bytes() && (!self.newline || buffer.ends_with(b"\n")) {
                    return Ok(());
                }
                if !RECIBIDO.as_bytes().starts_with(answer) {
                    return Err(format!("it answered \"{}\" in place of recibido", quote(buffer)));
                }
            }
        };
        match timeout(limits::RAW_NODE_ANSWER_TIME_MAX, exchange).await {
            Ok(result) => result,
            Err(_) => Err(format!("no recibido within {:?}", limits::RAW_NODE_ANSWER_TIME_MAX)),
        }
    }
}

/// Resolves when a node says something though nothing was asked of it, or its connection ends: why it is given up. `longest`
/// is the greatest message that it has kept.
async fn unasked(read_half: &mut ReadHalf<'_>, buffer: &mut BytesMut, longest: usize) -> String {
    buffer.clear();
    match read_half.read_buf(buffer).await {
        Ok(n) if n > 0 => {
            let hint = "it may read fewer at once than --node-bytes says";
            format!(
                "it said \"{}\" without being asked, after messages of up to {longest} bytes; {hint}",
                quote(buffer)
            )
        }
        _ => "its connection was closed".to_owned(),
    }
}
