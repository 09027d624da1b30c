//! What one peer can do to the others: whatever it says, and however little it reads, it costs the others bounded memory
//! and bounded time. Time is counted in answers, not measured.

use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use acopio::limits;
use acopio::wire::frame::{CopiesWanted, Founding, Frame, Held, HoldState, Member, MessagesBuilder, Roster};
use acopio::wire::id::RecordId;
use acopio::wire::ledger::{Incarnation, LedgerId, NodeId};
use bytes::{Bytes, BytesMut};
use socket2::{Domain, Socket, Type};

use crate::common::frames::{CONFIRMATION, Frames, NODE_OPENING, register};
use crate::common::{Head, LineClient, Process, acopio, eventually, ran};

/// How a client opens, and says Hello.
const CLIENT: &[u8] = b"peticion acopio/2\ncliente\n\0\0\0\x0a\x01\0\0\0\0\0\0\0\x07\0";

fn encoded(frame: &Frame) -> BytesMut {
    let mut out = BytesMut::new();
    frame.encode(&mut out).unwrap();
    out
}

/// Many of a frame.
fn many(frame: &Frame) -> Vec<u8> {
    let one = encoded(frame);
    one.repeat((64 * 1024_usize).div_ceil(one.len()))
}

/// Writes without reading until the other side takes no more, has closed, or has taken all of it; how much it took.
fn push(mut socket: &TcpStream, chunk: &[u8], bytes_max: usize) -> usize {
    socket.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut taken = 0;
    while taken < bytes_max {
        match socket.write(&chunk[taken % chunk.len()..]) {
            Ok(written) => taken += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(_) => break,
        }
    }
    taken
}

/// What a process may take beside what it took before: it is far less than what it was sent.
const MORE_KIB: u64 = 16 << 10;
const MUCH: usize = 64 << 20;

#[test]
fn a_node_that_asks_and_never_reads_is_read_no_further() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let before = head.process.peak_kib();
    let questions =
        [("ping", Frame::Ping(7)), ("fetch", Frame::Fetch { request: 1, ledger: LedgerId::default(), entries: 0..1 })];
    for (k, (name, question)) in (1..).zip(questions) {
        let mut node = Frames::open(head.connect(), NODE_OPENING);
        node.say(&register(k, name));
        let taken = push(&node.socket, &many(&question), MUCH);
        let peak = head.process.peak_kib();
        assert!(peak < before + MORE_KIB, "{name}: {before} KiB, then {peak} KiB for {taken} bytes");
        assert!(taken < MUCH, "{name}: all was taken from a node that reads nothing");
    }
}

#[test]
fn a_client_that_asks_and_never_reads_is_read_no_further() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let before = head.process.peak_kib();
    for question in [Frame::Ping(7), Frame::StatusQuery { clients: false, ledgers: false }] {
        let mut socket = head.connect();
        socket.write_all(CLIENT).unwrap();
        let taken = push(&socket, &many(&question), MUCH);
        let peak = head.process.peak_kib();
        assert!(taken < MUCH && peak < before + MORE_KIB, "{before} KiB, then {peak} KiB for {taken} bytes");
    }
}

/// A data node whose head is this test; what it says from its registration on.
fn node_of(dir: &Path) -> (Process, Frames) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = acopio();
    command.args(["data", "--name", "data1", "--head", &listener.local_addr().unwrap().to_string(), "--dir"]);
    let node = Process::start({
        command.arg(dir.join("data1"));
        command
    });
    let (mut socket, _) = listener.accept().unwrap();
    let mut opening = vec![0; NODE_OPENING.len()];
    socket.read_exact(&mut opening).unwrap();
    assert_eq!(opening, NODE_OPENING);
    socket.write_all(CONFIRMATION).unwrap();
    let mut head = Frames::new(socket);
    assert!(matches!(head.hear(), Frame::Register { .. }));
    head.say(&Frame::Welcome { incarnation: 1, window_messages: 1, window_bytes: 1, cluster: "acopio".to_owned() });
    (node, head)
}

#[test]
fn a_head_that_pings_a_node_and_never_reads_is_read_no_further() {
    let dir = tempfile::tempdir().unwrap();
    let (node, head) = node_of(dir.path());
    let before = node.peak_kib();
    let taken = push(&head.socket, &many(&Frame::Ping(7)), MUCH);
    let peak = node.peak_kib();
    assert!(taken < MUCH && peak < before + MORE_KIB, "{before} KiB, then {peak} KiB for {taken} bytes");
}

/// Closes it when the test is over, however it ends.
struct Closing<'a>(&'a TcpStream);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        drop(self.0.shutdown(std::net::Shutdown::Both));
    }
}

/// Says this without end from another thread while `during` runs, and reads what comes; counts the bytes of it.
fn while_flooded(socket: &TcpStream, chunk: &[u8], during: impl FnOnce(&AtomicUsize)) {
    let heard = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = vec![0; 1 << 20];
            while let Ok(read @ 1..) = (&*socket).read(&mut buffer) {
                heard.fetch_add(read, Ordering::Relaxed);
            }
        });
        scope.spawn(|| while (&*socket).write_all(chunk).is_ok() {});
        let _closing = Closing(socket);
        during(&heard);
    });
}

#[test]
fn a_flood_of_questions_leaves_the_others_their_turn() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &["--sync", "never"]);
    for (question, answer) in
        [(Frame::Ping(7), encoded(&Frame::Pong(7)).len()), (Frame::StatusQuery { clients: false, ledgers: false }, 500)]
    {
        let mut socket = head.connect();
        socket.write_all(CLIENT).unwrap();
        let mut other = head.line();
        while_flooded(&socket, &many(&question), |heard| {
            let mut waited: Vec<usize> = (0..21)
                .map(|k| {
                    let before = heard.load(Ordering::Relaxed);
                    assert_eq!(other.ask(&format!("mensaje {k}")), "127.0.0.2 , mensaje: recibido");
                    (heard.load(Ordering::Relaxed) - before) / answer
                })
                .collect();
            waited.sort_unstable();
            // A few turns of the one for each of the other. Without turns it is a whole socket's worth: hundreds of thousands.
            assert!(heard.load(Ordering::Relaxed) > 0 && waited[10] < 10_000, "answers to the flood: {waited:?}");
        });
    }
}

/// A framed client after its Welcome, and the next sequence number that it gives.
struct Client {
    frames: Frames,
    next: u64,
}

impl Client {
    fn new(head: &Head) -> Self {
        let mut socket = head.connect();
        socket.write_all(CLIENT).unwrap();
        let mut answer = [0; CONFIRMATION.len()];
        socket.read_exact(&mut answer).unwrap();
        let mut frames = Frames::new(socket);
        assert!(matches!(frames.hear(), Frame::Welcome { .. }));
        Self { frames, next: 1 }
    }

    fn store(&mut self, message: &[u8]) {
        let mut messages = MessagesBuilder::new();
        messages.push(&[message]).unwrap();
        self.frames.say(&Frame::Store { source: None, first_seq: self.next, messages: messages.take().unwrap() });
        self.next += 1;
    }

    /// Waits until so many more messages are acknowledged.
    fn acked(&mut self, messages: u64) {
        let mut left = messages;
        while left > 0 {
            match self.frames.hear() {
                Frame::Acked { count, .. } => left -= u64::from(count),
                Frame::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn nodes_that_never_answer_hold_up_one_batch_of_all_there_is() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody is asked for a sign of life meanwhile.
    let head = Head::start(dir.path(), &["--heartbeat", "1h"]);
    let _node = head.node(dir.path(), 1, &["--sync", "never"]);
    let mut client = Client::new(&head);
    client.store(b"the node has settled something");
    client.acked(1);
    // They note what they are told, and never answer a Put.
    let silent: Vec<_> = (0..30)
        .map(|k| {
            let mut node = Frames::open(head.connect(), NODE_OPENING);
            node.as_node(100 + k, &format!("callado{k}"));
            std::thread::spawn(move || {
                let mut given = 0;
                while let Some(frame) = node.hear_or_end() {
                    if let Frame::Put { messages, .. } = &frame {
                        given += u64::from(messages.count());
                    }
                    node.notes(&frame);
                }
                given
            })
        })
        .collect();
    eventually("they are in the cluster", || (head.status()["nodes"].as_array().unwrap().len() == 31).then_some(()));
    let messages = 1000;
    (0..messages).for_each(|k| client.store(format!("mensaje {k}").as_bytes()));
    client.acked(messages - limits::BATCH_MESSAGES_MAX as u64);
    // The rest comes from the other one, once the one that is on trial is given up.
    client.acked(limits::BATCH_MESSAGES_MAX as u64);
    // None of them got anything before it was noted that they are in.
    const GIVEN_UP: &str = "it has acknowledged nothing since it registered";
    eventually("one that is on trial is given up", || {
        client.store(b"mensaje");
        client.acked(1);
        (head.process.count(GIVEN_UP) > 0).then_some(())
    });
    let line = head.process.wait_for(GIVEN_UP);
    assert!(line.contains("callado"), "{line}");
    drop(head);
    let given: u64 = silent.into_iter().map(|node| node.join().unwrap()).sum();
    // One was on trial, and another may be by now, with what was sent last.
    assert!(given <= 2 * limits::BATCH_MESSAGES_MAX as u64, "{given} of {messages} messages");
}

/// A reader of all there is, who has asked for it.
fn reader(head: &Head) -> Frames {
    let mut frames = Frames::open(head.connect(), b"peticion acopio/2\ncliente\n");
    let until = RecordId::MAX;
    frames.say(&Frame::Read {
        from: RecordId::ZERO,
        until,
        client: None,
        sources: acopio::wire::filter::SourceFilter::default(),
        follow: false,
        partial: false,
        token: Bytes::new(),
    });
    frames
}

#[test]
fn readers_that_do_not_read_share_one_bound_and_hold_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let nodes = [1, 2].map(|k| head.node(dir.path(), k, &["--sync", "never"]));
    let mut client = Client::new(&head);
    let (messages, message) = (16, vec![b'm'; 1 << 20]);
    for _ in 0..messages {
        client.store(&message);
        client.acked(1);
    }
    let before = [head.process.peak_kib(), nodes[0].peak_kib(), nodes[1].peak_kib()];
    let idle: Vec<Frames> = (1..limits::READERS_MAX).map(|_| reader(&head)).collect();
    let mut reads = reader(&head);
    let mut bytes = 0;
    loop {
        match reads.hear() {
            Frame::Records { lines, .. } => bytes += lines.len(),
            Frame::ReadEnd { .. } => break,
            _ => {}
        }
    }
    assert!(bytes > messages * message.len());
    let after = [head.process.peak_kib(), nodes[0].peak_kib(), nodes[1].peak_kib()];
    assert!(
        after.iter().zip(before).all(|(after, before)| *after < before + (64 << 10)),
        "{before:?} KiB, then {after:?}"
    );
    drop(idle);
}

#[test]
fn a_client_is_let_go_as_soon_as_it_begins_what_it_may_not_say() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    // A Page of four megabytes, and a Store without a Hello, of which nothing more ever comes.
    for (begun, hello) in [(&b"\0\x40\0\0\x17"[..], true), (b"\0\x08\0\0\x03", false)] {
        let mut socket = head.connect();
        socket.write_all(if hello { CLIENT } else { b"peticion acopio/2\ncliente\n" }).unwrap();
        socket.write_all(begun).unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.contains("is out of place from a client"), "{answer}");
    }
}

/// A data node that was given an entry of a ledger, and has not answered; and which ledger.
fn given_an_entry(head: &Head, client: &mut Client) -> (Frames, LedgerId) {
    let mut node = Frames::open(head.connect(), NODE_OPENING);
    node.as_node(7, "mentiroso");
    client.store(b"hola");
    let Frame::Put { first, place, .. } = node.hear_but(Frames::notes) else { panic!("no Put") };
    (node, place.ledger(first))
}

#[test]
fn a_node_that_says_of_a_ledger_what_can_not_be_is_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let mut client = Client::new(&head);
    let (mut node, ledger) = given_an_entry(&head, &mut client);
    let held = |end, state| {
        let members = vec![NodeId(7)];
        Held { ledger, members, member: true, state, from: 0, end, count: end, lacking: Vec::new() }
    };
    let says = |held: Held| Frame::Holds { more: false, gone: Vec::new(), held: vec![held] };
    node.say(&says(held(1, HoldState::Open)));
    node.say(&Frame::Ping(5));
    assert!(matches!(node.hear_but(Frames::notes), Frame::Pong(5)), "what was placed may be had");
    node.say(&says(held(1000, HoldState::Open)));
    let Frame::Failure(refusal) = node.hear_but(Frames::notes) else { panic!("no Failure") };
    assert!(refusal.text.contains("which this head writes, what is not so"), "{refusal}");
    drop(node);
    head.process.wait_for("dataNode mentiroso at 127.0.0.1 evicted: it says of ledger");

    // Nor are names taken that would stand in logs and tables as something else.
    let mut node = Frames::open(head.connect(), NODE_OPENING);
    node.say(&register(8, "otro"));
    assert!(matches!(node.hear(), Frame::Welcome { .. }));
    let member = Member { node: NodeId(9), generation: 2, name: "\u{1b}[2J, data1".to_owned() };
    node.say(&Frame::Roster(Roster { members: vec![member], ..Roster::default() }));
    let Frame::Failure(refusal) = node.hear_but(Frames::notes) else { panic!("no Failure") };
    assert!(refusal.text.contains("its roster has a name that is none"), "{refusal}");
    assert_eq!(head.status()["nodes"].as_array().unwrap().len(), 0);
}

/// Bytes of all files below this folder.
fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => bytes_below(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .sum()
}

/// A head that asks everybody for its key, another one of the same cluster, and a data node of both.
struct Guarded {
    dir: tempfile::TempDir,
    key: String,
    heads: [Head; 2],
    _node: Process,
}

impl Guarded {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("cluster.key").to_str().unwrap().to_owned();
        let mut command = acopio();
        command.args(["key", "new", &key]);
        assert_eq!(ran(command).0, Some(0));
        let heads = ["one", "two"].map(|name| Head::start(&dir.path().join(name), &["--key", &key]));
        let mut command = acopio();
        command.args(["data", "--name", "data1", "--key", &key, "--head"]);
        command.arg(format!("{},{}", heads[0].at(), heads[1].at())).arg("--dir").arg(dir.path().join("data1"));
        let node = Process::start(command);
        heads.iter().for_each(|head| drop(head.process.wait_for("dataNode data1 registered")));
        Self { dir, key, heads, _node: node }
    }

    /// All that a stranger could want to have believed, said without a proof and whatever is answered; then much of the last.
    fn lies(&self, head: &Head) {
        const ENTRIES: u32 = 1 << 29;
        let ledger = LedgerId { incarnation: Incarnation((1 << 30) - 1), number: 7 };
        let members = vec![NodeId(7), NodeId(8)];
        let held = Held {
            ledger,
            members,
            member: true,
            state: HoldState::Open,
            from: 0,
            end: ENTRIES,
            count: ENTRIES,
            lacking: Vec::new(),
        };
        let copies = CopiesWanted { replicas: 8, least: 8, before: 8, generation: u32::MAX };
        let founding = Founding { time_ns: u64::MAX, head: Incarnation(1) };
        let roster = Roster { copies: Some(copies), foundings: vec![founding], members: Vec::new() };
        let lines = Bytes::from(b"x\n".repeat(1 << 18));
        let frames = [
            register(7, "otro"),
            Frame::Holds { more: false, gone: Vec::new(), held: vec![held] },
            Frame::Roster(roster),
            Frame::Fetched { request: 1, lines: lines.clone() },
            Frame::Pushed { request: 1, ledger, entries: 0..1000, lines },
        ];
        let [opening @ .., last] = frames.each_ref().map(encoded);
        let mut socket = head.connect();
        socket.write_all(NODE_OPENING).unwrap();
        for frame in opening {
            push(&socket, &frame, frame.len());
        }
        assert!(push(&socket, &last, MUCH) < MUCH, "it is not listened to for long");
        let mut said = Vec::new();
        // It may have been cut before all of it was read.
        let _cut = socket.read_to_end(&mut said);
    }
}

#[test]
fn a_stranger_fills_no_disk_and_blocks_no_head_through_restarts() {
    let mut cluster = Guarded::new();
    let sent = cluster.heads[0].line().send_all("hola", 10);
    let before = bytes_below(cluster.dir.path());
    for head in &cluster.heads {
        (0..4).for_each(|_| cluster.lies(head));
        head.process.wait_for("this head asks for the cluster's key");
    }
    let more = bytes_below(cluster.dir.path()) - before;
    assert!(more < 64 << 10, "{more} bytes more on the disks");
    // Neither now nor once they have read again what they wrote down.
    for restarted in [false, true] {
        if restarted {
            let (dir, key) = (cluster.dir.path().to_owned(), cluster.key.clone());
            cluster.heads = cluster.heads.map(|head| {
                let (name, at) = (head.logs.parent().unwrap().file_name().unwrap().to_owned(), head.address);
                head.process.kill();
                let head = Head::start_at(&dir.join(name), &at.to_string(), &["--key", &key]);
                head.process.wait_for("dataNode data1 registered");
                head
            });
        }
        for head in &cluster.heads {
            assert!(head.line().ask("sigue").ends_with("recibido"));
            let mut read = acopio();
            read.args(["read", "--format", "raw", "--head", &head.at()]);
            let (code, out, err) = ran(read);
            assert_eq!(code, Some(0), "{err}");
            assert!(sent.iter().all(|line| out.lines().any(|read| read == line)), "{out}");
            assert!(out.lines().all(|line| line.starts_with("mensaje: ")), "{out}");
            assert_eq!(head.status()["nodes"].as_array().unwrap().len(), 1);
        }
    }
}

#[test]
fn who_connects_and_says_nothing_shuts_the_door_for_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let node = head.node(dir.path(), 1, &[]);
    let mut before = head.line();
    // Each is one more than a head has at a time, or was.
    let words: [&[u8]; 3] = [b"petic", b"peticion acopio/2\ncliente\n", NODE_OPENING];
    let mut silent = Vec::new();
    for n in 0..600 {
        let mut socket = head.connect();
        socket.write_all(words[n % words.len()]).unwrap();
        silent.push(socket);
    }
    for n in 0..20 {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 9], 0)).into()).unwrap();
        socket.connect(&head.address.into()).unwrap();
        let mut line = LineClient(BufReader::new(socket.into()));
        line.0.get_ref().set_read_timeout(Some(limits::HANDSHAKE_TIME_MAX / 2)).unwrap();
        assert_eq!(line.ask("peticion"), "confirmacion");
        assert!(line.ask(&format!("n {n}")).ends_with("recibido"));
    }
    // The others were there all the while, and who was in before them is in.
    let is_open = |socket: &TcpStream| {
        socket.set_nonblocking(true).unwrap();
        let mut bytes = [0; 256];
        let mut read = || (&*socket).read(&mut bytes);
        let mut last = read();
        while matches!(last, Ok(n) if n > 0) {
            last = read();
        }
        matches!(last, Err(error) if error.kind() == ErrorKind::WouldBlock)
    };
    let open = silent.iter().filter(|socket| is_open(socket)).count();
    assert!((200..600).contains(&open), "{open}");
    assert!(before.ask("sigo").ends_with("recibido"));
    assert_eq!(head.process.count("dataNode data1 registered"), 1);
    drop(node);
}
