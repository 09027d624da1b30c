//! The places for clients: who has one, who loses it, and that the head tells.

use std::io::{BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use crate::common::frames::Frames;
use crate::common::{Head, LineClient, PATIENCE, acopio, eventually, ran};
use acopio::wire::error::Code;
use acopio::wire::filter::SourceFilter;
use acopio::wire::frame::Frame;
use acopio::wire::id::{ClientId, RecordId};
use bytes::Bytes;

const OPENING: &[u8] = b"peticion acopio/2\ncliente\n";

/// A connection from a loopback address of its own, which has said `peticion` in lines; and what the head answered.
fn open_from(head: &Head, k: u8) -> (LineClient, String) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, k), 0)).into()).unwrap();
    socket.connect(&head.address.into()).unwrap();
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut client = LineClient(BufReader::new(socket));
    client.send("peticion");
    let answer = client.read();
    (client, answer)
}

fn hello(head: &Head) -> Frames {
    let mut frames = Frames::open(head.connect(), OPENING);
    frames.say(&Frame::Hello { client: ClientId(7), text: false });
    assert!(matches!(frames.hear(), Frame::Welcome { .. }));
    frames
}

/// What comes until the head closes.
fn rest(client: &mut LineClient) -> String {
    let mut text = String::new();
    client.0.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_newcomer_takes_the_place_of_its_addresss_most_silent_client_and_of_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--max-clients", "3", "--silent-after", "300ms"]);
    let _node = head.node(dir.path(), 1, &[]);
    let (mut other, _) = open_from(&head, 9);
    let (mut silent, _) = open_from(&head, 7);
    assert!(silent.ask("hola").ends_with("recibido"));
    let (mut talks, _) = open_from(&head, 7);
    let mut newcomer = eventually("a place", || {
        assert!(talks.ask("aqui").ends_with("recibido"));
        let (client, answer) = open_from(&head, 7);
        assert!(answer == "confirmacion" || answer.starts_with("lleno: 3 clients are connected; "), "{answer}");
        (answer == "confirmacion").then_some(client)
    });
    assert!(newcomer.ask("nueva").ends_with("recibido"));
    let why = rest(&mut silent);
    assert!(why.starts_with("error: nothing was heard here for longer than 300ms, and another client"), "{why}");
    assert!(open_from(&head, 8).1.starts_with("lleno: "), "another address takes nobody's place");
    assert!(other.ask("sigue").ends_with("recibido") && talks.ask("sigue").ends_with("recibido"));
    assert_eq!(head.status()["clients"], 3);
}

#[test]
fn by_default_a_minute_of_silence_is_no_reason() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--max-clients", "1"]);
    let (_first, answer) = open_from(&head, 7);
    assert_eq!(answer, "confirmacion");
    assert!(open_from(&head, 7).1.starts_with("lleno: 1 clients are connected; "));
}

#[test]
fn an_address_gets_so_many_places_as_it_may_have() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--max-per-address", "2"]);
    let (_one, _) = open_from(&head, 7);
    let (two, _) = open_from(&head, 7);
    let full = "lleno: 2 clients of 127.0.0.7 are connected; close one of them or raise --max-per-address";
    assert_eq!(open_from(&head, 7).1, full);
    assert_eq!(open_from(&head, 8).1, "confirmacion");
    drop(two);
    eventually("its place is free again", || (open_from(&head, 7).1 == "confirmacion").then_some(()));
    // Frames from 127.0.0.1.
    let (_three, _four) = (hello(&head), hello(&head));
    let mut five = Frames::open(head.connect(), OPENING);
    five.say(&Frame::Hello { client: ClientId(7), text: false });
    let refused = five.hear();
    assert!(matches!(&refused, Frame::Failure(refusal) if refusal.code == Code::Full && refusal.retry), "{refused:?}");
}

#[test]
fn who_says_nothing_for_too_long_is_closed_and_who_pings_or_reads_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--idle-after", "400ms"]);
    let _node = head.node(dir.path(), 1, &[]);
    let mut reads = hello(&head);
    let (from, until) = (RecordId::ZERO, RecordId::MAX);
    reads.say(&Frame::Read {
        from,
        until,
        client: None,
        sources: SourceFilter::default(),
        follow: true,
        partial: false,
        token: Bytes::new(),
    });
    let mut pings = hello(&head);
    // One that got no further than its first word, and one that has sent something.
    let (mut mute, _) = open_from(&head, 7);
    let (mut silent, _) = open_from(&head, 7);
    assert!(silent.ask("hola").ends_with("recibido"));
    silent.0.get_mut().set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
    let mut why = String::new();
    eventually("it is closed", || {
        pings.say(&Frame::Ping(1));
        assert_eq!(pings.hear(), Frame::Pong(1));
        let read = silent.0.read_to_string(&mut why);
        read.is_ok().then_some(())
    });
    assert_eq!(why, "error: nothing was heard for longer than 400ms; connect again\n");
    assert_eq!(rest(&mut mute), why);
    pings.say(&Frame::Ping(2));
    assert_eq!(pings.hear(), Frame::Pong(2));
    // Then it stops.
    let failure = pings.hear();
    assert!(
        matches!(&failure, Frame::Failure(refusal) if refusal.code == Code::Timeout && refusal.retry),
        "{failure:?}"
    );
    assert!(head.line().ask("para quien lee").ends_with("recibido"));
    let mut lines = 0;
    while lines < 2 {
        match reads.hear() {
            Frame::Records { lines: more, .. } => lines += more.iter().filter(|byte| **byte == b'\n').count(),
            Frame::Waiting { .. } | Frame::Token(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn status_lists_the_clients() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let (mut line, _) = open_from(&head, 7);
    for text in ["uno", "dos", "tres"] {
        assert!(line.ask(text).ends_with("recibido"));
    }
    let mut raw = head.raw();
    raw.write_all(b"hola").unwrap();
    assert!(crate::common::read_once(&mut raw).ends_with("recibido"));
    let _framed = hello(&head);
    let (mut mute, _) = open_from(&head, 8);
    let status = |more: &[&str]| {
        let mut command = acopio();
        command.args(["status", "--clients", "--head", &head.at()]).args(more);
        let (code, out, err) = ran(command);
        assert_eq!(code, Some(0), "{err}");
        out
    };
    let report: serde_json::Value = serde_json::from_str(&status(&["--format", "json"])).unwrap();
    let clients = report["connected"].as_array().unwrap();
    let of = |key: &str| clients.iter().map(|client| client[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("dialect"), ["line", "raw", "framed", "text"]);
    assert_eq!(of("messages"), [3, 1, 0, 0]);
    assert_eq!(clients[0]["address"], line.0.get_ref().local_addr().unwrap().to_string());
    assert!(clients.iter().all(|client| client["heard_s"].as_u64().unwrap() < 60), "{clients:?}");
    let on_disk = std::fs::read_to_string(dir.path().join("data1/data.txt")).unwrap();
    assert!(on_disk.contains(clients[0]["id"].as_str().unwrap()), "the id in the records");
    assert!(clients[0]["since"].as_str().unwrap().ends_with('Z') && clients[3]["id"] == "");
    let table = status(&[]);
    assert!(table.contains("\nADDRESS ") && table.lines().all(|line| line.len() <= 80), "{table}");
    assert!(table.lines().any(|line| line.starts_with("127.0.0.8:") && line.contains("  text ")), "{table}");
    assert_eq!(head.status().get("connected"), None, "only for who asks");
    assert!(mute.ask("ya").ends_with("recibido"));
}
