//! The original's programs, byte for byte over a bare socket: the raw client and the raw data node.

use std::io::{Read, Write};

use crate::common::{Head, eventually, payloads, read_once};

#[test]
fn the_originals_client_gets_the_originals_answers() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let mut client = head.raw();
    for number in [42, 0, 100] {
        client.write_all(format!("numero random: {number}").as_bytes()).unwrap();
        assert_eq!(read_once(&mut client), "127.0.0.2 , mensaje: recibido");
    }
    let kept = payloads(dir.path());
    assert_eq!(
        kept.keys().collect::<Vec<_>>(),
        ["mensaje: numero random: 0", "mensaje: numero random: 100", "mensaje: numero random: 42"]
    );
    assert_eq!(head.log("registro.log").matches("recibido en dataNode 127.0.0.2 data1 ").count(), 3);
}

#[test]
fn a_long_read_is_one_message_the_first_one_too() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let mut client = head.raw();
    for letter in ["a", "b", "c"] {
        client.write_all(letter.repeat(20_000).as_bytes()).unwrap();
        assert_eq!(read_once(&mut client), "127.0.0.2 , mensaje: recibido");
    }
    let kept = payloads(dir.path());
    assert_eq!(kept.keys().map(String::len).collect::<Vec<_>>(), [20_009; 3]);
}

#[test]
fn the_originals_data_node_keeps_messages() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--heartbeat", "300ms", "--no-icmp"]);
    let mut node = head.raw();
    node.write_all(b"dataNode").unwrap();
    head.process.wait_for("dataNode raw-");
    let mut client = head.raw();
    for text in ["numero random: 7", "numero random: 8"] {
        client.write_all(text.as_bytes()).unwrap();
        assert_eq!(read_once(&mut node), format!("mensaje: {text}"));
        node.write_all(b"recibido").unwrap();
        assert_eq!(read_once(&mut client), "127.0.0.1 , mensaje: recibido");
    }
    eventually("a heartbeat", || head.log("heartbeat.log").contains("127.0.0.1 disponible name=raw-").then_some(()));
    drop(node);
    eventually("the eviction", || {
        let log = head.log("heartbeat.log");
        (log.contains("127.0.0.1 no disponible, eliminado") && log.contains("no hay dataNodes")).then_some(())
    });
    client.write_all(b"numero random: 9").unwrap();
    assert!(read_once(&mut client).starts_with("error: no hay dataNodes; "));
    assert!(head.log("registro.log").contains("Problema: mensaje no fue guardado en dataNode: no hay dataNodes"));
}

#[test]
fn a_data_node_that_answers_something_else_is_evicted_and_its_message_goes_to_another() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let mut liar = head.raw();
    liar.write_all(b"dataNode").unwrap();
    head.process.wait_for("dataNode raw-");
    let mut client = head.raw();
    client.write_all(b"hola").unwrap();
    assert_eq!(read_once(&mut liar), "mensaje: hola");
    let _node = head.node(dir.path(), 1, &[]);
    liar.write_all(b"perdido").unwrap();
    assert_eq!(read_once(&mut client), "127.0.0.2 , mensaje: recibido");
    assert!(head.log("heartbeat.log").contains("it answered"));
    assert_eq!(payloads(dir.path()).len(), 1);
}

#[test]
fn a_data_node_in_lines_works_with_netcat() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let mut node = head.line();
    node.send("dataNode");
    head.process.wait_for("dataNode line-");
    let mut client = head.line();
    client.send("hola");
    client.send("adios");
    for text in ["hola", "adios"] {
        assert_eq!(node.read(), format!("mensaje: {text}"));
        node.send("recibido");
        // The answer for the batch comes when all of it is kept.
    }
    assert_eq!(client.read(), "127.0.0.1 , mensaje: recibido");
    assert_eq!(client.read(), "127.0.0.1 , mensaje: recibido");
}

#[test]
fn a_newline_a_packet_later_makes_a_line_client() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let mut client = head.raw();
    client.write_all(b"\nhola\nadios\n").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "\n127.0.0.2 , mensaje: recibido\n127.0.0.2 , mensaje: recibido\n");
}

#[test]
fn a_first_message_that_could_begin_a_handshake_word_is_a_message_when_nothing_follows() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let mut client = head.raw();
    client.write_all(b" ").unwrap();
    assert_eq!(read_once(&mut client), "127.0.0.2 , mensaje: recibido");
    assert_eq!(payloads(dir.path()).keys().collect::<Vec<_>>(), ["mensaje:  "]);
}
