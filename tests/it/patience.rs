//! Peers that hang, go silent or never read: each is given up in bounded time and memory, and nobody else notices.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener};

use crate::common::frames::{Frames, NODE_OPENING};
use crate::common::{self, Head, PATIENCE, Signal, acopio, eventually};
use acopio::limits;
use acopio::wire::frame::{Frame, StoreBuilder};
use acopio::wire::id::ClientId;
use bytes::BytesMut;

/// A framed data node that is scripted: registered, and then it does what the test says.
fn framed_node(head: &Head, name: &str, id: u64) -> Frames {
    let mut node = Frames::open(head.connect(), NODE_OPENING);
    node.as_node(id, name);
    head.process.wait_for(&format!("dataNode {name} registered"));
    node
}

/// Answers every Ping of the head and notes every roster, and nothing else, until the connection ends.
fn pong_for_ever(mut node: Frames) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        while let Some(frame) = node.hear_or_end() {
            node.notes(&frame);
        }
    })
}

#[test]
fn a_node_that_answers_pings_and_acknowledges_nothing_is_evicted() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let hung = pong_for_ever(framed_node(&head, "hung", 1));
    let mut client = head.line();
    client.send("uno");
    head.wait_in_flight(1);
    let _good = head.node(dir.path(), 1, &[]);
    assert_eq!(client.read(), "127.0.0.2 , mensaje: recibido");
    head.process.wait_for("dataNode hung at 127.0.0.1 evicted: it answers the ping and acknowledges nothing");
    hung.join().unwrap();
}

#[test]
fn a_half_closed_client_gets_every_answer_after_an_eviction() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--heartbeat", "5s"]);
    let (stopped, _good) = (head.node(dir.path(), 1, &[]), head.node(dir.path(), 2, &[]));
    head.wait_in_cluster(2);
    stopped.signal(Signal::STOP);
    let mut socket = head.connect();
    let mut input = b"peticion\n".to_vec();
    for k in 0..40 {
        writeln!(input, "linea {k}").unwrap();
    }
    socket.write_all(&input).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    let answers: Vec<String> = BufReader::new(socket).lines().map(Result::unwrap).collect();
    assert_eq!(answers.len(), 41, "{answers:?}");
    assert!(answers[1..].iter().all(|answer| answer.ends_with(" , mensaje: recibido")), "{answers:?}");
}

#[test]
fn questions_whose_answers_nobody_reads_take_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let mut socket = head.connect();
    socket.write_all(b"peticion acopio/2\ncliente\n\0\0\0\x0a\x01\0\0\0\0\0\0\0\x07\0").unwrap();
    socket.set_write_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
    let questions = [0, 0, 0, 1, 6].repeat(10_000);
    // The head stops reading, so that a write fails in the end; were it to read on, this would be 64 MiB of questions.
    let pressed = (0..1_300).any(|_| socket.write_all(&questions).is_err());
    assert!(pressed, "the head takes questions without end");
    assert!(head.process.peak_kib() < 64 << 10, "{} KiB", head.process.peak_kib());
}

#[test]
fn a_head_that_takes_in_no_more_says_that_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--heartbeat", "60s"]);
    let _hung = pong_for_ever(framed_node(&head, "hung", 1));
    let mut out = BytesMut::from(&b"peticion acopio/2\ncliente\n"[..]);
    Frame::Hello { client: ClientId(7), text: false }.encode(&mut out).unwrap();
    let each = limits::FRAME_MESSAGES_MAX as u64;
    for k in 0..=limits::CLIENT_IN_FLIGHT_MESSAGES_MAX as u64 / each {
        let mut store = StoreBuilder::begin(&mut out, 1 + k * each);
        (0..each).for_each(|_| store.push(&mut out, b"x").unwrap());
        store.end(&mut out);
    }
    // The node hangs, so nothing is acknowledged; a client that hears nothing at all would take the head for dead.
    let mut client = Frames::open(head.connect(), &out);
    let said = client.hear_but(|_, frame| matches!(frame, Frame::Welcome { .. }));
    assert!(matches!(said, Frame::Ping(_)), "{said:?}");
}

#[test]
fn answers_that_wait_for_their_turn_stop_the_reading() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--heartbeat", "60s"]);
    let _hung = pong_for_ever(framed_node(&head, "hung", 1));
    let mut client = head.line();
    client.send("first");
    head.wait_in_flight(1);
    let _good = head.node(dir.path(), 1, &[]);
    let socket = client.0.get_mut();
    socket.set_write_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
    let lines = "x\n".repeat(50_000);
    let pressed = (0..600).any(|_| socket.write_all(lines.as_bytes()).is_err());
    assert!(pressed, "the head takes lines without end while their answers wait");
    assert!(head.process.peak_kib() < 64 << 10, "{} KiB", head.process.peak_kib());
}

#[test]
fn a_data_node_dials_again_when_its_head_falls_silent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut command = acopio();
    let address = listener.local_addr().unwrap().to_string();
    command.args(["data", "--head", &address, "--name", "data1", "--dir"]).arg(dir.path().join("data1"));
    let node = common::Process::start(command);
    let welcome = |listener: &TcpListener| {
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(b"confirmacion acopio/2\n\0\0\0\x0f\x02\0\0\0\x01\0\0\x10\0\0\x80\0\0\0\0").unwrap();
        socket
    };
    let silent = welcome(&listener);
    node.wait_for("registered as data1");
    // The head's host is gone without a goodbye: no end of the connection, and no word. The node asks, waits, and dials.
    let _second = welcome(&listener);
    node.wait_for("nothing was heard from it for 15s");
    drop(silent);
}

#[test]
fn a_refused_data_node_waits_longer_and_longer() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _first = head.node(dir.path(), 1, &[]);
    let other = tempfile::tempdir().unwrap();
    let second = head.start_node(other.path(), 1, &[]);
    second.wait_for("the name data1 is registered");
    let refused = || {
        head.process
            .all()
            .lines()
            .filter(|line| line.contains("was refused: the name data1"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let lines = eventually("it is counted", || Some(refused()).filter(|lines| lines.len() > 1));
    assert!(!lines[0].ends_with(')') && (lines[1].ends_with(" times)") || lines[1].ends_with(" (again)")), "{lines:?}");
    assert_eq!(second.count("registered as data1"), 0, "a refused node was never in");
}
