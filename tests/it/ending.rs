//! The orderly end: what was accepted is finished, synced and answered; a second signal forces.

use std::io::{BufRead, BufReader, Write};

use crate::common::{Head, Process, Signal, acopio, payloads, verify_clean};

#[test]
fn a_head_that_stops_answers_what_it_has_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut head = Head::start(dir.path(), &[]);
    let mut node = head.node(dir.path(), 1, &[]);
    let mut client = head.line();
    assert_eq!(client.ask("uno"), "127.0.0.2 , mensaje: recibido");
    head.process.signal(Signal::TERM);
    assert_eq!(head.process.wait().code(), Some(0), "{}", head.process.all());
    assert_eq!(client.read(), "error: the head stops; connect again and send what was not answered");
    let mut rest = String::new();
    assert_eq!(client.0.read_line(&mut rest).unwrap(), 0, "the connection is closed in order");
    node.signal(Signal::TERM);
    assert_eq!(node.wait().code(), Some(0), "{}", node.all());
    verify_clean(dir.path(), &["data1"]);
}

#[test]
fn a_node_that_stops_leaves_in_order_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let mut leaving = head.node(dir.path(), 1, &[]);
    let _other = head.node(dir.path(), 2, &[]);
    let mut socket = head.connect();
    socket.write_all(b"peticion\n").unwrap();
    let mut answers = BufReader::new(socket.try_clone().unwrap()).lines();
    assert_eq!(answers.next().unwrap().unwrap(), "confirmacion");
    let sender = std::thread::spawn(move || {
        for k in 0..30_000 {
            socket.write_all(format!("linea {k}\n").as_bytes()).unwrap();
        }
        socket.shutdown(std::net::Shutdown::Write).unwrap();
    });
    for _ in 0..1_000 {
        answers.next().unwrap().unwrap();
    }
    leaving.signal(Signal::TERM);
    assert_eq!(leaving.wait().code(), Some(0), "{}", leaving.all());
    let rest: Vec<String> = answers.map(Result::unwrap).collect();
    sender.join().unwrap();
    assert_eq!(rest.len(), 29_000);
    assert!(rest.iter().all(|answer| answer.ends_with(" , mensaje: recibido")));
    let kept = payloads(dir.path());
    assert_eq!(kept.len(), 30_000);
    assert!(head.log("heartbeat.log").contains("cause=\"it leaves in order\" in_flight=0"));
}

#[test]
fn a_second_signal_forces() {
    let dir = tempfile::tempdir().unwrap();
    let mut head = Head::start(dir.path(), &["--heartbeat", "60s"]);
    let stopped = head.node(dir.path(), 1, &[]);
    let mut client = head.line();
    assert!(client.ask("antes").ends_with("recibido"));
    stopped.signal(Signal::STOP);
    client.send("espera");
    // The head has read it once it is in flight, and then cannot finish: its only node stands still.
    head.wait_in_flight(1);
    head.process.signal(Signal::INT);
    head.process.wait_for("stopping");
    assert_eq!(head.process.interrupt_again().code(), Some(130), "{}", head.process.all());
}

#[test]
fn the_random_client_sends_so_many_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let logs = dir.path().join("client");
    let output = acopio()
        .args(["client", "--head", &head.at(), "--every", "10ms", "--count", "20", "--logs"])
        .arg(&logs)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let kept = payloads(dir.path());
    assert_eq!(kept.values().sum::<usize>(), 20);
    for text in kept.keys() {
        let number: u32 = text.strip_prefix("mensaje: numero random: ").expect(text).parse().unwrap();
        assert!(number <= 100);
    }
    let log = std::fs::read_to_string(logs.join("client.log")).unwrap();
    assert_eq!(log.matches("Servidor recibio: 127.0.0.2 , mensaje: recibido").count(), 20, "{log}");
}

#[test]
fn a_client_whose_head_answers_nothing_ends_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = acopio();
    command.args(["client", "--head", &mute.local_addr().unwrap().to_string(), "--logs"]).arg(dir.path());
    let mut client = Process::start(command);
    let _held = mute.accept().unwrap();
    client.signal(Signal::TERM);
    assert_eq!(client.wait().code(), Some(0), "{}", client.all());
    client.wait_for("has no answer yet at the end; it may be kept or not");
}

#[test]
fn a_head_that_stops_answers_even_what_a_hung_node_has() {
    let dir = tempfile::tempdir().unwrap();
    let mut head = Head::start(dir.path(), &["--heartbeat", "60s"]);
    let stopped = head.node(dir.path(), 1, &[]);
    let mut client = head.line();
    assert!(client.ask("antes").ends_with("recibido"));
    stopped.signal(Signal::STOP);
    client.send("uno\ndos");
    head.wait_in_flight(2);
    head.process.signal(Signal::TERM);
    for _ in 0..2 {
        let answer = client.read();
        assert!(answer.starts_with("error: no hay dataNodes; "), "{answer}");
    }
    assert_eq!(client.read(), "error: the head stops; connect again and send what was not answered");
    assert_eq!(head.process.wait().code(), Some(0), "{}", head.process.all());
}
