//! Data nodes that speak text, as the original's: what they are sent, what becomes of a message that they fail at, and that a
//! read says what they keep and never gives back.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use socket2::{Domain, Socket, Type};

use crate::common::frames::{Frames, NODE_OPENING};
use crate::common::{Head, PATIENCE, acopio, eventually, ran, read_once};
use acopio::wire::frame::Frame;

/// What a played node answers to what one read of it brings; nothing to say is a close.
type Answers = fn(&str) -> Option<&'static str>;

const RECIBIDO: Answers = |_| Some("recibido");

/// A connection to a head from a loopback address of its own.
fn connect_from(head: &Head, k: u8) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, k), 0)).into()).unwrap();
    socket.connect(&head.address.into()).unwrap();
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A raw node at this address that reads 1024 bytes at a time, as the original's does. It counts its reads.
fn raw_node(head: &Head, k: u8, answers: Answers) -> Arc<AtomicUsize> {
    let seen = head.process.count("dataNode raw-");
    let mut socket = connect_from(head, k);
    socket.write_all(b"peticion").unwrap();
    assert_eq!(read_once(&mut socket), "confirmacion");
    socket.write_all(b"dataNode").unwrap();
    eventually("it registers", || (head.process.count("dataNode raw-") > seen).then_some(()));
    let reads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&reads);
    thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok(n @ 1..) = socket.read(&mut buffer) {
            counted.fetch_add(1, Ordering::Relaxed);
            let Some(answer) = answers(&String::from_utf8_lossy(&buffer[..n])) else { return };
            socket.write_all(answer.as_bytes()).unwrap_or_default();
        }
    });
    reads
}

fn nodes(head: &Head) -> usize {
    head.status()["nodes"].as_array().unwrap().len()
}

fn ask(client: &mut TcpStream, message: &str) -> String {
    client.write_all(message.as_bytes()).unwrap();
    read_once(client)
}

#[test]
fn a_message_longer_than_a_text_node_reads_is_refused_and_evicts_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--no-icmp"]);
    let reads: Vec<_> = (21..24).map(|k| raw_node(&head, k, RECIBIDO)).collect();
    let mut client = head.raw();
    for _ in 0..3 {
        let refused = ask(&mut client, &"x".repeat(3000));
        assert!(
            refused.starts_with("error: the message is sent as 3009 bytes to dataNodes that speak text"),
            "{refused}"
        );
        assert!(refused.contains(" and 1024 are the most ") && refused.contains("--node-bytes"), "{refused}");
    }
    let longest = "x".repeat(1024 - "mensaje: ".len());
    assert!(ask(&mut client, &longest).ends_with("recibido"));
    assert!(ask(&mut client, &(longest + "x")).starts_with("error: "));
    assert_eq!(nodes(&head), 3);
    assert_eq!(reads.iter().map(|reads| reads.load(Ordering::Relaxed)).sum::<usize>(), 1);
    // A line says so for the long one alone, whatever came with it.
    let mut lines = head.line();
    lines.send(&format!("corta\n{}\notra", "x".repeat(2000)));
    let answers = [lines.read(), lines.read(), lines.read()];
    assert!(answers[0].ends_with("recibido") && answers[2].ends_with("recibido"), "{answers:?}");
    assert!(answers[1].starts_with("error: the message is sent as 2009 bytes"), "{answers:?}");
    // Who speaks frames takes it.
    let _framed = head.node(dir.path(), 1, &[]);
    assert_eq!(ask(&mut client, &"x".repeat(3000)), "127.0.0.2 , mensaje: recibido");
    assert_eq!(nodes(&head), 4);
}

#[test]
fn node_bytes_says_how_much_a_text_node_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--no-icmp", "--node-bytes", "100"]);
    raw_node(&head, 21, RECIBIDO);
    let mut client = head.raw();
    assert!(ask(&mut client, &"x".repeat(91)).ends_with("recibido"));
    assert!(ask(&mut client, &"x".repeat(92)).contains(" and 100 are the most "));
    assert_eq!(nodes(&head), 1);
}

#[test]
fn a_message_that_text_nodes_fail_at_goes_to_one_other_at_most() {
    let failures: [(Answers, &str); 3] = [
        (
            |text| Some(if text.ends_with("veneno") { "no" } else { "recibido" }),
            "it answered \"no\" in place of recibido",
        ),
        (
            |text| Some(if text.ends_with("veneno") { "recibidorecibido" } else { "recibido" }),
            "\"recibidorecibido\" in place",
        ),
        (|text| (!text.ends_with("veneno")).then_some("recibido"), "its connection was closed"),
    ];
    for (answers, cause) in failures {
        let dir = tempfile::tempdir().unwrap();
        let head = Head::start(dir.path(), &["--no-icmp"]);
        for k in 21..25 {
            raw_node(&head, k, answers);
        }
        let mut client = head.line();
        client.send("antes\nveneno\ndespues");
        let told = [client.read(), client.read(), client.read()];
        assert!(told[0].ends_with("recibido") && told[2].ends_with("recibido"), "{told:?}");
        assert!(
            told[1].starts_with("error: 2 dataNodes failed at this message, the last one so: 127.0.0."),
            "{told:?}"
        );
        assert!(told[1].contains(cause), "{told:?}");
        assert_eq!(nodes(&head), 2, "{cause}");
        assert!(head.log("registro.log").contains("Problema: mensaje no fue guardado en dataNode: 2 dataNodes failed"));
    }
}

#[test]
fn words_that_nobody_asked_for_are_no_answer_to_the_next_message() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--no-icmp"]);
    let mut node = connect_from(&head, 21);
    node.write_all(b"peticion").unwrap();
    assert_eq!(read_once(&mut node), "confirmacion");
    node.write_all(b"dataNode").unwrap();
    head.process.wait_for("dataNode raw-");
    let mut client = head.raw();
    client.write_all(b"uno").unwrap();
    assert_eq!(read_once(&mut node), "mensaje: uno");
    node.write_all(b"recibido").unwrap();
    assert!(read_once(&mut client).ends_with("recibido"));
    node.write_all(b"recibido").unwrap();
    let said = head.process.wait_for("it said \"recibido\" without being asked, after messages of up to 12 bytes; ");
    assert!(said.contains("--node-bytes"), "{said}");
    assert!(ask(&mut client, "dos").starts_with("error: no hay dataNodes"));
}

/// A framed node that leaves without a word when a Put comes.
fn dies_at_a_put(head: &Head, k: u64) {
    let name = format!("frail{k}");
    let mut frames = Frames::open(head.connect(), NODE_OPENING);
    frames.as_node(k, &name);
    head.process.wait_for(&format!("dataNode {name} registered"));
    thread::spawn(move || {
        frames.hear_but(|frames, frame| {
            frames.notes(frame);
            !matches!(frame, Frame::Put { .. })
        })
    });
}

#[test]
fn a_message_that_ends_framed_nodes_stops_somewhere_too() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--no-icmp"]);
    for k in 1..=5 {
        dies_at_a_put(&head, k);
    }
    let refused = head.line().ask("veneno");
    assert!(
        refused.starts_with("error: 2 dataNodes failed at this message, the last one so: 127.0.0.1: its conn"),
        "{refused}"
    );
    assert_eq!(nodes(&head), 3);
}

#[test]
fn a_read_says_what_text_nodes_keep_and_never_give_back() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--no-icmp"]);
    let mut node = head.line();
    node.send("dataNode");
    head.process.wait_for("dataNode line-");
    let mut client = head.line();
    for text in ["uno", "dos"] {
        client.send(text);
        assert_eq!(node.read(), format!("mensaje: {text}"));
        node.send("recibido");
        assert!(client.read().ends_with("recibido"));
    }
    assert_eq!(head.status()["nodes"][0]["records"], 2);
    drop(node);
    head.process.wait_for("evicted");
    let _framed = head.node(dir.path(), 1, &[]);
    assert!(client.ask("tres").ends_with("recibido"));
    let read = |head: &Head, more: &[&str]| {
        let mut command = acopio();
        command.args(["read", "--head", &head.at(), "--format", "raw"]).args(more);
        ran(command)
    };
    let said_at = |head: &Head| {
        let (code, out, err) = read(head, &[]);
        assert_eq!((code, out.as_str()), (Some(1), "mensaje: tres\n"), "{err}");
        assert!(
            err.contains("dataNode line-127.0.0.1 is missing: what only it keeps cannot be read; what speaks"),
            "{err}"
        );
        let (code, out, err) = read(head, &["--partial"]);
        assert_eq!((code, out.as_str()), (Some(0), "mensaje: tres\n"));
        assert_eq!(err, "acopio: line-127.0.0.1 missing from this answer\n");
        assert_eq!(head.status()["text_nodes"][0]["records"], 2);
    };
    said_at(&head);
    let mut status = acopio();
    status.args(["status", "--head", &head.at()]);
    assert!(ran(status).1.contains("\nline-127.0.0.1 keeps 2 records that no read gives back\n"));
    // A head that starts again still knows.
    let (at, logs) = (head.at(), dir.path().to_owned());
    eventually("it is written down", || head.log("head.state").contains("text 2 line-127.0.0.1").then_some(()));
    head.process.kill();
    let again = Head::start_at(&logs, &at, &["--no-icmp"]);
    eventually("data1 is back", || (nodes(&again) == 1).then_some(()));
    said_at(&again);
    // Until it is given up.
    let mut drain = acopio();
    drain.args(["drain", "--gone", "--head", &again.at(), "line-127.0.0.1"]);
    let (code, _, err) = ran(drain);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(read(&again, &[]).0, Some(0));
    assert_eq!(again.status()["text_nodes"].as_array().unwrap().len(), 0);
}
