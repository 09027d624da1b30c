//! A data node's session in frames, as the head sees it: Register first, then acknowledgements and pongs in, Puts and
//! pings out.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::BytesMut;
use tokio::time::{Instant, timeout};

use super::alarms::Log;
use super::faults::Fault;
use super::gate::{self, Claim};
use super::nodes::{LEAVING, STOPPING};
use super::pages::{Answer, Pushed};
use super::registered::{Candidate, FramedSink, NodeEntry, NodeLog, NodeSink};
use super::state::Head;
use super::window::Window;
use super::{heartbeat, live};
use crate::limits;
use crate::net::{Outbox, ReadHalf, Turn, WriteHalf, read_some};
use crate::wire::error::{Code, Refusal};
use crate::wire::frame::{self, Frame, NodeReport, SyncMode};
use crate::wire::peer::is_name;
use crate::wire::proof::Holder;
use crate::wire::text::{Dialect, quote};
use tokio_util::sync::CancellationToken;

/// Serves a data node until it leaves, is evicted or the head has finished.
///
/// `finished` is asked to stop later than clients are: nodes acknowledge until nothing is in flight.
pub(crate) async fn serve(
    head: &Rc<Head>,
    peer: SocketAddr,
    mut read_half: ReadHalf<'_>,
    write_half: WriteHalf<'_>,
    mut buffer: BytesMut,
    finished: &CancellationToken,
) {
    let cluster = head.config.cluster.clone();
    let sink = Rc::new(FramedSink { outbox: Rc::new(Outbox::default()), cut: tokio::sync::Notify::new(), cluster });
    let pump = sink.outbox.pump(write_half);
    tokio::pin!(pump);
    let registered: RefCell<Option<Rc<NodeEntry>>> = RefCell::default();
    let session = async {
        let taken_in =
            timeout(limits::HANDSHAKE_TIME_MAX, register(head, peer, &sink, &mut read_half, &mut buffer, finished));
        let entry = match taken_in.await {
            Ok(Ok(Some(entry))) => entry,
            Ok(Ok(None)) => return,
            Ok(Err(refusal)) => return refuse(head, &sink, peer, read_half.channel().is_some(), &refusal),
            Err(_) => {
                let text =
                    format!("no Register within {:?}; send it right after the handshake", limits::HANDSHAKE_TIME_MAX);
                return refuse(head, &sink, peer, read_half.channel().is_some(), &Refusal::new(Code::Timeout, text));
            }
        };
        head.is_in(peer);
        registered.replace(Some(Rc::clone(&entry)));
        let (fault, cause) = match follow(head, &entry, &sink, &mut read_half, &mut buffer, finished).await {
            Ok(cause @ (LEAVING | STOPPING)) => (Fault::None, cause.to_owned()),
            Ok(cause) => (Fault::Fails, cause.to_owned()),
            Err(refusal) => {
                sink.outbox.with(|out| frame::failure(out, &refusal));
                (Fault::Fails, refusal.text)
            }
        };
        head.remove(&entry, fault, &cause);
    };
    tokio::pin!(session);
    // The reader comes last: one that always finds something must not keep Puts and pings from being written.
    tokio::select! {
        biased;
        () = sink.cut.notified() => {}
        broken = &mut pump => {
            tracing::debug!("the connection of the dataNode at {peer} broke: {broken:?}");
            if let Some(entry) = registered.borrow().as_ref() {
                head.remove(entry, Fault::Fails, sink.outbox.failed().unwrap_or("its connection broke"));
            }
            return;
        }
        () = &mut session => {}
    }
    if let Some(entry) = registered.borrow().as_ref() {
        head.remove(entry, Fault::Fails, "a message could not be sent to it");
    }
    sink.outbox.close();
    if timeout(limits::CLOSE_TIME_MAX, pump).await.is_err() {
        tracing::debug!("the dataNode at {peer} does not read; its connection is cut");
    }
}

fn refuse(head: &Head, sink: &FramedSink, peer: SocketAddr, secured: bool, refusal: &Refusal) {
    head.note_node(peer, "-", secured, format_args!("refused: {refusal}"));
    // It comes back every few seconds, from another port each time.
    head.say(peer.ip(), Log::Warn, &format!("a dataNode at {} was refused: {refusal}", peer.ip()));
    sink.outbox.with(|out| frame::failure(out, refusal));
}

/// The next frame; none if the connection ended first.
async fn next(
    socket: &mut ReadHalf<'_>,
    buffer: &mut BytesMut,
    finished: &CancellationToken,
) -> Result<Option<Frame>, Refusal> {
    loop {
        match Frame::decode(buffer).map_err(|error| error.refusal())? {
            Some(frame) => return Ok(Some(frame)),
            None if read_some(socket, buffer, finished).await => {}
            None => return Ok(None),
        }
    }
}

/// Reads the Register frame and takes the node in, once it has proved what it has to; none if the connection ended first.
async fn register(
    head: &Rc<Head>,
    peer: SocketAddr,
    sink: &Rc<FramedSink>,
    socket: &mut ReadHalf<'_>,
    buffer: &mut BytesMut,
    finished: &CancellationToken,
) -> Result<Option<Rc<NodeEntry>>, Refusal> {
    let Some(mut frame) = next(socket, buffer, finished).await? else { return Ok(None) };
    let mut knock = None;
    if let Frame::Knock(knocked) = frame {
        knock = Some(knocked);
        match next(socket, buffer, finished).await? {
            Some(registers) => frame = registers,
            None => return Ok(None),
        }
    }
    let Frame::Register { name, cluster, .. } = &frame else {
        let text = format!("frame {:#04x} is out of place from a dataNode; say Register first", frame.kind());
        return Err(Refusal::new(Code::Protocol, text));
    };
    check_names(head, name, cluster)?;
    let (gate, ours, channel) = (&head.config.gate, &head.config.cluster, socket.channel());
    let awaited = gate.challenge(peer.ip(), knock, Claim::Node(name), ours, &frame, channel)?;
    if let Some(awaited) = &awaited {
        sink.outbox.with(|out| awaited.challenge().encode(out)).map_err(|error| error.refusal())?;
        match next(socket, buffer, finished).await? {
            Some(Frame::Proof(proof)) => head.look_at_proof(peer.ip(), || awaited.check(&proof)).await?,
            Some(other) => {
                let text = format!("frame {:#04x} is out of place from a dataNode; say Proof first", other.kind());
                return Err(Refusal::new(Code::Protocol, text));
            }
            None => {
                let name = quote(name.as_bytes());
                let text = format!("dataNode {name} left before it proved anything; its key may be another cluster's");
                return Err(gate::unproven(text));
            }
        }
    }
    let Frame::Register { node: id, replaces, old, name, sync, report, .. } = frame else { return Ok(None) };
    let (messages, bytes_max) = (limits::NODE_WINDOW_MESSAGES_MAX, limits::NODE_WINDOW_BYTES_MAX);
    let who = Candidate {
        name,
        id: Some(id),
        bound: awaited.is_some_and(|awaited| awaited.holder() == Holder::Node),
        peer,
        dialect: Dialect::Framed,
        writable: report.writable,
        window: Window { bytes: bytes_max, messages },
        message_bytes: None,
        replaces,
        old,
        report: from_wire(report, sync),
    };
    let entry = head.register(who, Rc::clone(sink) as Rc<dyn NodeSink>)?;
    head.note_node(peer, &entry.name, channel.is_some(), "registered");
    Ok(Some(entry))
}

/// Looks at what a node calls itself and its cluster.
fn check_names(head: &Head, name: &str, cluster: &str) -> Result<(), Refusal> {
    if !is_name(name, limits::NODE_NAME_BYTES_MAX) {
        let text = format!(
            "a dataNode's name takes 1 to {} bytes without blanks, commas and plus signs; give it another --name",
            limits::NODE_NAME_BYTES_MAX
        );
        return Err(Refusal::new(Code::Protocol, text));
    }
    let ours = &head.config.cluster;
    if !cluster.is_empty() && cluster != ours {
        let text = format!(
            "the records of dataNode {name} belong to cluster {} and this head to cluster {ours}; give the node the \
             heads of its cluster with --head, or a folder of its own with --dir",
            quote(cluster.as_bytes())
        );
        return Err(Refusal::new(Code::Role, text));
    }
    Ok(())
}

fn from_wire(report: NodeReport, sync: SyncMode) -> NodeLog {
    NodeLog {
        records: report.records,
        bytes: report.bytes,
        syncs: report.syncs,
        written: report.written,
        free: report.free,
        sync,
        reason: report.reason,
        leaving: false,
    }
}

/// Follows the node; returns why it left.
async fn follow(
    head: &Head,
    entry: &NodeEntry,
    sink: &FramedSink,
    socket: &mut ReadHalf<'_>,
    buffer: &mut BytesMut,
    finished: &CancellationToken,
) -> Result<&'static str, Refusal> {
    let mut leaving = false;
    let mut turn = Turn::default();
    loop {
        loop {
            sink.outbox.answers_read().await;
            let before = buffer.len();
            let Some(frame) = Frame::decode(buffer).map_err(|error| error.refusal())? else { break };
            entry.pulse.borrow_mut().heard_at = Some(Instant::now());
            turn.spend(before - buffer.len()).await;
            // What a node says now and then passes over a table or writes to a log.
            if !matches!(
                frame,
                Frame::PutAck { .. } | Frame::Ping(_) | Frame::Pong(_) | Frame::Page { .. } | Frame::Pushed { .. }
            ) {
                turn.end().await;
            }
            match frame {
                Frame::PutAck { up_to, sync } => head.node_acked(entry, up_to, sync)?,
                Frame::PutRefused { number, code, why } => {
                    head.node_refused(entry, number, &Refusal::new(code, why))?
                }
                Frame::Pong(n) => heartbeat::pong(head, entry, n),
                Frame::Ping(n) => sink.outbox.answer(|out| frame::pong(out, n)),
                Frame::NodeState(report) => {
                    let sync = entry.report.borrow().sync;
                    head.node_state(entry, report.writable, from_wire(report, sync));
                }
                Frame::Roster(roster) => head.node_noted(entry, roster)?,
                Frame::Holds { more, gone, held } => head.node_holds(entry, more, gone, held)?,
                Frame::Flushed(round) => head.node_flushed(entry, round),
                Frame::Fetch { request, ledger, entries } => head.fetch(entry, request, ledger, entries),
                Frame::Fetched { request, lines } => {
                    let believed = head.believe(entry, lines, &mut turn).await;
                    head.fetched(entry, request, believed.lines);
                }
                Frame::Pushed { request, ledger, entries, lines } => {
                    let bytes = lines.len();
                    let believed = head.believe(entry, lines, &mut turn).await;
                    entry.feeds.came(request, Pushed { ledger, entries, believed, bytes });
                }
                Frame::SourcesPage { request, more, unlisted, sources } => {
                    if let Some(asker) = entry.listings.answered(request) {
                        // Whoever asked may be gone.
                        drop(asker.send(live::Page { more, unlisted, sources }));
                    }
                }
                Frame::Leave => leaving = true,
                Frame::Page { request, next, greatest, rotten, lines } => {
                    let believed = head.believe(entry, lines, &mut turn).await;
                    entry.scan_answered(request, Answer::Page { next, greatest, rotten, believed });
                }
                Frame::ScanFailed { request, refusal } => entry.scan_answered(request, Answer::Failed(refusal)),
                Frame::Failure(refusal) => return Err(refusal),
                other => {
                    let text = format!("frame {:#04x} is out of place from a dataNode; it is closed", other.kind());
                    return Err(Refusal::new(Code::Protocol, text));
                }
            }
        }
        if leaving && head.node_leaving(entry) {
            return Ok(LEAVING);
        }
        if !read_some(socket, buffer, finished).await {
            if finished.is_cancelled() {
                sink.outbox.with(|out| frame::failure(out, &super::flow::stopping()));
            }
            return Ok(if finished.is_cancelled() { STOPPING } else { "its connection was closed" });
        }
        // A part of a frame is a sign of life, too: a page may take longer than a heartbeat on a slow road.
        entry.pulse.borrow_mut().heard_at = Some(Instant::now());
    }
}
