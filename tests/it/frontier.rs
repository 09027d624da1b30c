//! What a data node calls complete: a real node between two heads that this test plays, frame by frame.

use std::io::{Read, Write};
use std::net::TcpListener;

use crate::common::frames::{CONFIRMATION, Frames};
use crate::common::{PATIENCE, Process, acopio};
use acopio::limits;
use acopio::wire::error::Code;
use acopio::wire::frame::{Frame, Member, MemberState, MessagesBuilder, NodeReport, SyncMode};
use acopio::wire::id::{ClientId, RecordId};
use bytes::Bytes;

const OPENING: &[u8] = b"peticion acopio/1\ndataNode\n";

const fn id(n: u64) -> RecordId {
    RecordId { time_ns: n, incarnation: 3 }
}

/// A head's end of the connection.
struct Head {
    frames: Frames,
    requests: u32,
    seq: u64,
}

impl Head {
    /// Takes the node in; returns what it said of itself.
    fn accept(listener: &TcpListener) -> (Self, NodeReport) {
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut opening = [0; OPENING.len()];
        socket.read_exact(&mut opening).unwrap();
        assert_eq!(opening, OPENING);
        socket.write_all(CONFIRMATION).unwrap();
        let mut head = Self { frames: Frames::new(socket), requests: 0, seq: 1 };
        let Frame::Register { report, .. } = head.frame() else { panic!("no Register") };
        (head, report)
    }

    fn welcome(&mut self) {
        let window_bytes = limits::NODE_WINDOW_BYTES_MAX as u32;
        self.say(&Frame::Welcome { incarnation: 3, window_messages: 1000, window_bytes, cluster: "acopio".to_owned() });
    }

    fn say(&mut self, frame: &Frame) {
        self.frames.say(frame);
    }

    /// The next frame that is no report.
    fn frame(&mut self) -> Frame {
        self.frames.hear_but(|_, frame| match frame {
            Frame::NodeState(_) | Frame::Ping(_) => true,
            // How far what was put is settled: repair wants to know that, and asks past an id of ours.
            Frame::SafeQuery { at_least } => at_least.incarnation != id(0).incarnation,
            _ => false,
        })
    }

    fn put(&mut self, n: u64) {
        let mut messages = MessagesBuilder::new();
        messages.push(&[b"x"]).unwrap();
        let (client, first_seq) = (ClientId(7), self.seq);
        self.seq += 1;
        let messages = messages.take().unwrap();
        self.say(&Frame::Put { first: id(n), client, first_seq, copies: String::new(), messages });
    }

    fn scan(&mut self, from: u64, safe: u64) {
        self.requests += 1;
        let (request, until) = (self.requests, RecordId::MAX);
        self.say(&Frame::Scan { request, from: id(from), until, client: None, bytes_max: 4096, safe: id(safe) });
    }

    /// The page that answers the last Scan: its ids, and up to where it is complete.
    fn page(&mut self) -> (Vec<u64>, u64) {
        let Frame::Page { request, next, greatest, lines, .. } = self.frame() else { panic!("no Page") };
        assert_eq!(request, self.requests);
        assert!(greatest >= next || lines.is_empty());
        let lines = std::str::from_utf8(&lines).unwrap().lines();
        (lines.map(|line| line[..20].parse::<RecordId>().unwrap().time_ns).collect(), next.time_ns)
    }

    fn acked(&mut self, up_to: u64) {
        assert_eq!(self.frame(), Frame::PutAck { up_to, sync: SyncMode::Always });
    }
}

fn node(dir: &std::path::Path, heads: [&TcpListener; 2]) -> Process {
    let heads = heads.map(|head| head.local_addr().unwrap().to_string()).join(",");
    let mut command = acopio();
    command.args(["data", "--head", &heads, "--name", "data1", "--dir"]).arg(dir.join("data1"));
    Process::start(command)
}

#[test]
fn a_page_never_claims_what_another_head_may_still_put() {
    let dir = tempfile::tempdir().unwrap();
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let _node = node(dir.path(), [&listeners[0], &listeners[1]]);
    let (mut one, report) = Head::accept(&listeners[0]);
    assert_eq!(report.greatest, RecordId::ZERO);
    one.welcome();
    one.put(1000);
    one.acked(1);
    let (mut stops, _) = Head::accept(&listeners[1]);
    one.scan(1, 5000);
    assert_eq!(one.page(), (vec![], 1), "the other one may be there, and know of nodes that this one does not");
    stops.say(&Frame::Failure(acopio::wire::error::Refusal::new(Code::Stopping, "x")));
    // It shakes hands again and leaves the Welcome open: it holds up nobody any more.
    let (mut two, _) = Head::accept(&listeners[1]);
    one.scan(1, 5000);
    assert_eq!(one.page(), (vec![1000], 5000), "in order with the Put before it");

    // The other one is registered: nothing more is complete until it has spoken, and it is asked.
    two.welcome();
    assert_eq!(two.frame(), Frame::SafeQuery { at_least: id(5000) }, "readers were told more since it registered");
    two.say(&Frame::Safe { id: id(5500) });
    one.scan(5000, 9000);
    assert_eq!(two.frame(), Frame::SafeQuery { at_least: id(9000) });
    assert_eq!(one.page(), (vec![], 5500), "it has not answered in time");
    two.put(6000);
    two.say(&Frame::Safe { id: id(9500) });
    two.acked(1);
    one.scan(5500, 9000);
    assert_eq!(one.page(), (vec![6000], 9000), "its Put before that is in the page");

    // It breaks its word: the record would be missing from what readers have.
    two.put(7000);
    let refused = two.frame();
    assert!(
        matches!(&refused, Frame::PutRefused { number: 2, refusal } if refusal.code == Code::Busy && refusal.retry),
        "{refused:?}"
    );
    two.put(9600);
    two.put(8000);
    two.acked(3);
    assert!(matches!(two.frame(), Frame::PutRefused { number: 4, .. }), "after the one before it");

    // It goes: what it put counts, and it holds up nobody any more.
    drop(two);
    let (mut again, report) = Head::accept(&listeners[1]);
    assert!(report.greatest >= id(9600) && report.records == 3 && report.sole == 3, "{report:?}");
    one.scan(9000, 12_000);
    assert_eq!(one.page(), (vec![9600], 12_000));
    again.say(&Frame::Failure(acopio::wire::error::Refusal::new(Code::Stopping, "x")));

    // An empty range is answered at once and says what the greatest is.
    one.say(&Frame::Scan {
        request: 77,
        from: RecordId::ZERO,
        until: RecordId::ZERO,
        client: None,
        bytes_max: 0,
        safe: RecordId::ZERO,
    });
    let (next, greatest) = (RecordId::ZERO, id(12_000));
    assert_eq!(one.frame(), Frame::Page { request: 77, next, greatest, rotten: 0, lines: Bytes::new() });
}

fn members(list: &[(&str, u64, MemberState)]) -> Frame {
    let member = |&(name, id, state): &(&str, u64, MemberState)| Member {
        name: name.to_owned(),
        id,
        state,
        sync: SyncMode::Always,
        sole: false,
    };
    Frame::Members { replicas: 1, least: 0, members: list.iter().map(member).collect() }
}

#[test]
fn a_promise_outlives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let first = node(dir.path(), [&listeners[0], &listeners[1]]);
    let (mut one, _) = Head::accept(&listeners[0]);
    one.welcome();
    let (mut stops, _) = Head::accept(&listeners[1]);
    stops.say(&Frame::Failure(acopio::wire::error::Refusal::new(Code::Stopping, "x")));
    let (unwelcome, _) = Head::accept(&listeners[1]);
    one.put(1000);
    one.acked(1);
    assert!(!dir.path().join("data1/promised.txt").exists(), "nobody has read");
    one.scan(1, 5000);
    assert_eq!(one.page(), (vec![1000], 5000));
    first.kill();
    drop((one, unwelcome));

    // The other head has heard of no reader, and its clock is behind.
    let _node = node(dir.path(), [&listeners[0], &listeners[1]]);
    let (mut two, report) = Head::accept(&listeners[1]);
    assert!(report.greatest >= id(5000), "a head takes its clock beyond it: {report:?}");
    two.welcome();
    assert!(matches!(two.frame(), Frame::SafeQuery { at_least } if at_least >= id(5000)));
    two.put(2000);
    let refused = two.frame();
    assert!(
        matches!(&refused, Frame::PutRefused { number: 1, refusal } if refusal.code == Code::Busy && refusal.retry),
        "{refused:?}"
    );
    two.put(report.greatest.time_ns + 1);
    two.acked(2);
}

#[test]
fn a_head_hears_of_another_heads_nodes_before_a_page_that_counts_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let _node = node(dir.path(), [&listeners[0], &listeners[1]]);
    let (mut one, _) = Head::accept(&listeners[0]);
    one.welcome();
    let (mut two, _) = Head::accept(&listeners[1]);
    two.welcome();
    one.scan(1, 5000);
    assert_eq!(two.frame(), Frame::SafeQuery { at_least: id(5000) });
    // A new node: what is put there counts as safe in the eyes of the first node.
    two.say(&members(&[("data9", 9, MemberState::Here), ("data8", 8, MemberState::Away)]));
    two.say(&Frame::Safe { id: id(6000) });
    let heard = one.frame();
    let told = [("data8", 8, MemberState::Away), ("data9", 9, MemberState::Here)];
    let Frame::Members { members: told, .. } = members(&told) else { panic!("no Members") };
    assert_eq!(heard, Frame::Members { replicas: 0, least: 0, members: told });
    assert_eq!(one.page(), (vec![], 5000));
    drop(two);
    assert_eq!(
        one.frame(),
        Frame::Members { replicas: 0, least: 0, members: Vec::new() },
        "nobody is left who would know"
    );
}
