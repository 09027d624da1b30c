//! What a data node offers to others because it was not told what became of it: a real node and a head that this test
//! plays, frame by frame. The other node is one of whom the head tells.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use crate::common::frames::{NODE_OPENING, register};
use crate::common::{Head as RealHead, PATIENCE, Process, acopio, eventually};
use acopio::limits;
use acopio::wire::error::{Code, Refusal};
use acopio::wire::frame::{Frame, Member, MemberState, MessagesBuilder, SyncMode};
use acopio::wire::id::{ClientId, RecordId};
use acopio::wire::record;
use bytes::{Bytes, BytesMut};

const fn id(n: u64) -> RecordId {
    RecordId { time_ns: n, incarnation: 3 }
}

fn decode(buffer: &mut BytesMut, socket: &mut TcpStream) -> Frame {
    let mut chunk = [0; 4096];
    loop {
        if let Some(frame) = Frame::decode(buffer).unwrap() {
            return frame;
        }
        let n = socket.read(&mut chunk).unwrap();
        assert!(n > 0, "the other side has gone");
        buffer.extend_from_slice(&chunk[..n]);
    }
}

fn say(socket: &mut TcpStream, frame: &Frame) {
    let mut out = BytesMut::new();
    frame.encode(&mut out).unwrap();
    socket.write_all(&out).unwrap();
}

/// A head's end of the connection, which knows data1 and data2.
struct Head {
    socket: TcpStream,
    buffer: BytesMut,
    puts: u64,
}

impl Head {
    /// Takes the node in, and tells it that data2 is there.
    fn accept(listener: &TcpListener, data2: SyncMode) -> Self {
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut opening = [0; NODE_OPENING.len()];
        socket.read_exact(&mut opening).unwrap();
        assert_eq!(opening, NODE_OPENING);
        socket.write_all(b"confirmacion acopio/1\n").unwrap();
        let mut head = Self { socket, buffer: BytesMut::new(), puts: 0 };
        let Frame::Register { node, .. } = decode(&mut head.buffer, &mut head.socket) else { panic!("no Register") };
        let (window_messages, window_bytes) = (1000, limits::NODE_WINDOW_BYTES_MAX as u32);
        head.say(&Frame::Welcome { incarnation: 3, window_messages, window_bytes, cluster: "acopio".to_owned() });
        head.members(node, MemberState::Here, data2);
        head
    }

    fn members(&mut self, node: u64, data2: MemberState, sync: SyncMode) {
        let me = Member {
            name: "data1".to_owned(),
            id: node,
            state: MemberState::Here,
            sync: SyncMode::Always,
            sole: false,
        };
        let other = Member { name: "data2".to_owned(), id: 2, state: data2, sync, sole: false };
        self.say(&Frame::Members { replicas: 2, least: 0, members: vec![me, other] });
    }

    fn say(&mut self, frame: &Frame) {
        say(&mut self.socket, frame);
    }

    /// The next frame that is no report.
    fn frame(&mut self) -> Frame {
        loop {
            match decode(&mut self.buffer, &mut self.socket) {
                Frame::NodeState(_) | Frame::Ping(_) => {}
                frame => return frame,
            }
        }
    }

    /// Has a record kept that names both nodes.
    fn put(&mut self, n: u64) {
        let mut messages = MessagesBuilder::new();
        messages.push(&[b"x"]).unwrap();
        self.puts += 1;
        let (copies, messages) = ("data1,data2".to_owned(), messages.take().unwrap());
        self.say(&Frame::Put { first: id(n), client: ClientId(7), first_seq: n, copies, messages });
        loop {
            match self.frame() {
                Frame::PutAck { up_to, .. } if up_to == self.puts => return,
                Frame::SafeQuery { .. } => {}
                other => panic!("{other:?} in place of a PutAck"),
            }
        }
    }

    /// The next offer to data2: its number and the ids in it.
    fn offer(&mut self) -> (u64, Vec<u64>) {
        loop {
            match self.frame() {
                Frame::Copy { number, to, holders, lines } => {
                    assert_eq!((to.as_str(), holders.as_str()), ("data2", "data1,data2"));
                    let lines = std::str::from_utf8(&lines).unwrap().lines();
                    return (number, lines.map(|line| line[..20].parse::<RecordId>().unwrap().time_ns).collect());
                }
                Frame::SafeQuery { .. } => {}
                other => panic!("{other:?} in place of a Copy"),
            }
        }
    }

    fn taken(&mut self, number: u64) {
        self.say(&Frame::CopyAck { number, node: "data2".to_owned(), refusal: None });
    }
}

fn node(dir: &Path, head: &TcpListener) -> Process {
    let mut command = acopio();
    let head = head.local_addr().unwrap().to_string();
    command.args(["data", "--head", &head, "--name", "data1", "--dir"]).arg(dir.join("data1"));
    Process::start(command)
}

/// No doubt is left but about what comes from now on.
fn is_calm(dir: &Path) -> Option<()> {
    let text = std::fs::read_to_string(dir.join("data1/doubts.txt")).ok()?;
    (text.lines().count() == 1).then_some(())
}

#[test]
fn what_was_open_when_the_head_was_lost_is_offered_until_it_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _node = node(dir.path(), &listener);
    let mut head = Head::accept(&listener, SyncMode::Always);
    head.put(1000);
    drop(head);
    let mut head = Head::accept(&listener, SyncMode::Always);
    let (number, ids) = head.offer();
    assert_eq!(ids, [1000]);
    let refusal = Some(Refusal::new(Code::Busy, "not here"));
    head.say(&Frame::CopyAck { number, node: String::new(), refusal });
    let (number, ids) = head.offer();
    assert_eq!(ids, [1000], "it is tried again");
    head.taken(number);
    eventually("nothing is in doubt", || is_calm(dir.path()));
}

#[test]
fn what_the_head_called_settled_is_not_offered() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _node = node(dir.path(), &listener);
    let mut head = Head::accept(&listener, SyncMode::Always);
    head.put(1000);
    head.say(&Frame::Safe { id: id(1001) });
    // It has heard that once it answers what comes after it.
    head.put(1002);
    head.say(&Frame::Safe { id: id(1003) });
    head.say(&Frame::Ping(1));
    while head.frame() != Frame::Pong(1) {}
    drop(head);
    let mut head = Head::accept(&listener, SyncMode::Always);
    head.put(2000);
    drop(head);
    let mut head = Head::accept(&listener, SyncMode::Always);
    let (number, ids) = head.offer();
    assert_eq!(ids, [2000]);
    head.taken(number);
    eventually("nothing is in doubt", || is_calm(dir.path()));
}

#[test]
fn a_node_that_is_killed_offers_what_it_was_not_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let killed = node(dir.path(), &listener);
    let mut head = Head::accept(&listener, SyncMode::Always);
    head.put(1000);
    killed.kill();
    let _node = node(dir.path(), &listener);
    let mut head = Head::accept(&listener, SyncMode::Always);
    let (number, ids) = head.offer();
    assert_eq!(ids, [1000]);
    head.taken(number);
    eventually("nothing is in doubt", || is_calm(dir.path()));
}

#[test]
fn who_acknowledges_before_it_syncs_is_offered_what_it_may_have_lost() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _node = node(dir.path(), &listener);
    let mut head = Head::accept(&listener, SyncMode::Interval);
    head.put(1000);
    head.say(&Frame::Safe { id: id(1001) });
    head.members(1, MemberState::Away, SyncMode::Always);
    head.members(1, MemberState::Here, SyncMode::Interval);
    let (number, ids) = head.offer();
    assert_eq!(ids, [1000]);
    head.taken(number);
}

/// A data node that this test plays, at a real head.
struct Peer {
    socket: TcpStream,
    buffer: BytesMut,
}

impl Peer {
    fn register(head: &RealHead) -> Self {
        let mut socket = head.connect();
        socket.write_all(NODE_OPENING).unwrap();
        say(&mut socket, &register(2, "data2"));
        let mut answer = [0; b"confirmacion acopio/1\n".len()];
        socket.read_exact(&mut answer).unwrap();
        let mut peer = Self { socket, buffer: BytesMut::new() };
        assert!(matches!(peer.frame(), Frame::Welcome { .. }));
        peer
    }

    fn frame(&mut self) -> Frame {
        loop {
            match decode(&mut self.buffer, &mut self.socket) {
                Frame::Members { .. } => {}
                Frame::Ping(n) => say(&mut self.socket, &Frame::Pong(n)),
                frame => return frame,
            }
        }
    }
}

/// The record names data2, which never wrote it; data1 was not there when the head found that out. Both nodes are back.
#[test]
fn a_record_that_only_one_of_its_nodes_wrote_gets_to_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let head = RealHead::start(dir.path(), &["--replicas", "2"]);
    let keeps = head.node(dir.path(), 1, &[]);
    let mut dies = Peer::register(&head);
    let mut client = head.line();
    client.send("hola");
    assert!(matches!(dies.frame(), Frame::Put { copies, .. } if copies == "data1,data2"));
    let log = dir.path().join("data1/data.txt");
    eventually("it is written", || (std::fs::metadata(&log).ok()?.len() > 0).then_some(()));
    keeps.kill();
    drop(dies);
    let _keeps = head.node(dir.path(), 1, &[]);
    let mut back = Peer::register(&head);
    let (lines, number): (Bytes, u64) = loop {
        match back.frame() {
            Frame::CopyPut { number, copies, lines } if copies == "data1,data2" => break (lines, number),
            // The head may still have the message in hand.
            Frame::Put { .. } => {}
            other => panic!("{other:?} in place of a CopyPut"),
        }
    };
    let line = record::decode(lines.strip_suffix(b"\n").unwrap()).unwrap();
    assert_eq!((line.copies, &*line.payload()), (Some("data1,data2"), &b"mensaje: hola"[..]));
    say(&mut back.socket, &Frame::CopyAck { number, node: "data2".to_owned(), refusal: None });
    eventually("nothing is in doubt", || is_calm(dir.path()));
}
