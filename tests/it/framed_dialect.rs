//! The framed dialect over bare sockets, byte for byte, as `docs/wire.md` has it: a client, and a data node. Nothing
//! here uses the project's own encoder.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::common::{Head, payloads, verify_clean};

const CLIENT: &[u8] = b"peticion acopio/2\ncliente\n";
const NODE: &[u8] = b"peticion acopio/2\ndataNode\n";
const CONFIRMATION: &[u8] = b"confirmacion acopio/2\n";
/// Hello of client 7, no flags.
const HELLO: [u8; 14] = [0, 0, 0, 10, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0];

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = body.len() as u32 + 1;
    [&length.to_be_bytes()[..], &[kind], body].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

fn block(messages: &[&str]) -> Vec<u8> {
    messages.iter().flat_map(|m| [&(m.len() as u32).to_be_bytes()[..], m.as_bytes()].concat()).collect()
}

fn store(first_seq: u64, messages: &[&str]) -> Vec<u8> {
    let count = messages.len() as u16;
    frame(3, &[&first_seq.to_be_bytes()[..], &count.to_be_bytes(), &block(messages)].concat())
}

/// Register of a writable node with this id and name, that syncs always.
fn register(id: u64, name: &str) -> Vec<u8> {
    // It replaces nobody and is not old; name, cluster and policy; no records, no bytes, no syncs, nothing written, no reason.
    let report = [&[1][..], &[0; 8 + 8 + 8 + 8 + 8], &text("")].concat();
    frame(0x10, &[&id.to_be_bytes()[..], &[0xff; 8], &[0], &text(name), &text(""), &[0], &report].concat())
}

/// Reads one frame: kind and body.
fn read(socket: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut prefix = [0; 4];
    socket.read_exact(&mut prefix).unwrap();
    let mut rest = vec![0; u32::from_be_bytes(prefix) as usize];
    socket.read_exact(&mut rest).unwrap();
    (rest[0], rest[1..].to_vec())
}

fn confirmed(socket: &mut TcpStream) {
    let mut answer = [0; CONFIRMATION.len()];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(answer, CONFIRMATION);
}

/// A client after its Hello; what it says about windows is checked.
fn client(head: &Head) -> TcpStream {
    let mut socket = head.connect();
    socket.write_all(&[CLIENT, &HELLO].concat()).unwrap();
    confirmed(&mut socket);
    welcomed(&mut socket, 4096, 4 << 20);
    socket
}

fn welcomed(socket: &mut TcpStream, messages: u32, bytes: u32) {
    let (kind, body) = read(socket);
    assert_eq!((kind, body.len()), (2, 14 + usize::from(body[13])), "it ends in the name of the cluster");
    assert!(u32::from_be_bytes(body[..4].try_into().unwrap()) < 1 << 30, "an incarnation has 30 bits");
    assert_eq!(body[4..12], [messages.to_be_bytes(), bytes.to_be_bytes()].concat());
}

/// The messages of a Put without a source, whose members and tags stand before them: each message has a tag.
fn untagged(rest: &[u8]) -> &[u8] {
    let (members, has_tags) = (usize::from(rest[0] & 0x3f), rest[0] & 0x40);
    assert_eq!(has_tags, 0x40, "a head marks what it takes");
    let tags = &rest[1 + 8 * members..];
    let count = usize::from(tags[0]);
    let messages = &tags[1 + 8 * count..];
    assert_eq!(usize::from(u16::from_be_bytes([messages[0], messages[1]])), count);
    assert!(tags[1..].chunks(8).take(count).all(|tag| tag[0] < 0x10), "60 bits");
    messages
}

/// A data node over a bare socket, registered.
struct Node(TcpStream);

impl Node {
    fn register(head: &Head, id: u64, name: &str) -> Self {
        let mut socket = head.connect();
        socket.write_all(&[NODE, &register(id, name)].concat()).unwrap();
        confirmed(&mut socket);
        welcomed(&mut socket, 128 << 10, 8 << 20);
        head.process.wait_for(&format!("dataNode {name} registered"));
        let mut node = Self(socket);
        // It holds nothing, and has noted nobody.
        node.say(0x1a, &[0, 0, 0]);
        node.say(0x1e, &[0; 8]);
        node
    }

    /// The next frame that is no Ping and no roster; those are answered.
    fn next(&mut self) -> (u8, Vec<u8>) {
        loop {
            match read(&mut self.0) {
                (9, n) => self.say(0x0a, &n),
                (0x1e, roster) => self.say(0x1e, &roster),
                other => return other,
            }
        }
    }

    /// The next Put of client 7: its id, and the rest of its body behind its place, but for the tags.
    fn put(&mut self) -> (Vec<u8>, Vec<u8>) {
        let (kind, body) = self.next();
        assert_eq!(kind, 0x11);
        assert_eq!(body[..4], crc32c::crc32c(&body[4..]).to_be_bytes(), "its checksum");
        assert_eq!(body[16..24], 7_u64.to_be_bytes(), "whose messages");
        (body[4..16].to_vec(), [&body[24..32], untagged(&body[40..])].concat())
    }

    fn say(&mut self, kind: u8, body: &[u8]) {
        self.0.write_all(&frame(kind, body)).unwrap();
    }

    fn ack(&mut self, up_to: u64) {
        self.say(0x12, &[&up_to.to_be_bytes()[..], &[0]].concat());
    }

    /// Goes on noting rosters and answering Pings, until the head ends the connection.
    fn goes_on(&self) -> std::thread::JoinHandle<()> {
        let mut socket = self.0.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut prefix = [0; 4];
            while socket.read_exact(&mut prefix).is_ok() {
                let mut rest = vec![0; u32::from_be_bytes(prefix) as usize];
                socket.read_exact(&mut rest).unwrap();
                let answer = match rest[0] {
                    9 => frame(0x0a, &rest[1..]),
                    0x1e => frame(0x1e, &rest[1..]),
                    _ => continue,
                };
                socket.write_all(&answer).ok();
            }
        })
    }
}

/// What a Put holds beside its id, its client and its place: first sequence number, count, messages.
fn put_body(first_seq: u64, messages: &[&str]) -> Vec<u8> {
    let count = messages.len() as u16;
    [&first_seq.to_be_bytes()[..], &count.to_be_bytes(), &block(messages)].concat()
}

/// The body of an Acked with one copy, synced, without its id.
fn check_acked(socket: &mut TcpStream, first_seq: u64, count: u32, ip: &str) -> Vec<u8> {
    let (kind, body) = read(socket);
    assert_eq!(kind, 4, "{}", String::from_utf8_lossy(&body));
    assert_eq!(body[..12], [&first_seq.to_be_bytes()[..], &count.to_be_bytes()].concat());
    assert_eq!(body[24..], [&[0, 1][..], &text(ip)].concat(), "synced, one copy");
    body[12..24].to_vec()
}

#[test]
fn a_client_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let mut client = client(&head);
    client.write_all(&store(1, &["uno", "", "tres"])).unwrap();
    check_acked(&mut client, 1, 3, "127.0.0.2");
    client.write_all(&frame(9, &[1, 2, 3, 4, 5, 6, 7, 8])).unwrap();
    assert_eq!(read(&mut client), (0x0a, vec![1, 2, 3, 4, 5, 6, 7, 8]));
    client.write_all(&frame(6, &[])).unwrap();
    let (kind, json) = read(&mut client);
    assert_eq!(kind, 7);
    let report: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!((&report["clients"], &report["acked_messages"]), (&1.into(), &3.into()), "{report}");
    assert_eq!((&report["nodes"][0]["name"], &report["nodes"][0]["state"]), (&"data1".into(), &"disponible".into()));
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "the head closes, too");
    assert_eq!(payloads(dir.path()).keys().collect::<Vec<_>>(), ["", "tres", "uno"]);
    verify_clean(dir.path(), &["data1"]);
}

#[test]
fn a_large_store_is_acknowledged_in_ranges_that_cover_it_once() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _nodes = [head.node(dir.path(), 1, &[]), head.node(dir.path(), 2, &[])];
    let mut client = client(&head);
    let texts: Vec<String> = (0..100).map(|k| format!("mensaje {k}")).collect();
    let messages: Vec<&str> = texts.iter().map(String::as_str).collect();
    client.write_all(&store(1000, &messages)).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut covered = Vec::new();
    while covered.len() < 100 {
        let (kind, body) = read(&mut client);
        assert_eq!(kind, 4);
        let first = u64::from_be_bytes(body[..8].try_into().unwrap());
        let count = u32::from_be_bytes(body[8..12].try_into().unwrap());
        assert!((1..=16).contains(&count));
        covered.extend(first..first + u64::from(count));
    }
    covered.sort_unstable();
    assert!(covered.into_iter().eq(1000..1100));
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "what was sent before a half-close is answered, then it closes");
    assert_eq!(payloads(dir.path()).len(), 100);
}

#[test]
fn a_pipelined_opening_in_one_packet_and_split_at_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let all = [CLIENT, &HELLO, &store(1, &["hola"])].concat();
    for step in [all.len(), 1] {
        let mut socket = head.connect();
        for part in all.chunks(step) {
            socket.write_all(part).unwrap();
        }
        confirmed(&mut socket);
        welcomed(&mut socket, 4096, 4 << 20);
        check_acked(&mut socket, 1, 1, "127.0.0.2");
    }
    assert_eq!(payloads(dir.path()).get("hola"), Some(&2));
}

#[test]
fn a_version_a_packet_later_makes_a_framed_client() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let mut socket = head.raw();
    socket.write_all(&[b" acopio/2\ncliente\n", &HELLO[..], &store(1, &["hola"])].concat()).unwrap();
    let mut rest = [0; 10];
    socket.read_exact(&mut rest).unwrap();
    assert_eq!(&rest, b" acopio/2\n");
    welcomed(&mut socket, 4096, 4 << 20);
    check_acked(&mut socket, 1, 1, "127.0.0.2");
}

#[test]
fn with_the_text_flag_messages_are_stored_as_those_of_text_clients() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let mut hello = HELLO;
    hello[13] = 1;
    let mut socket = head.connect();
    socket.write_all(&[CLIENT, &hello, &store(1, &["hola"])].concat()).unwrap();
    confirmed(&mut socket);
    welcomed(&mut socket, 4096, 4 << 20);
    check_acked(&mut socket, 1, 1, "127.0.0.2");
    assert_eq!(payloads(dir.path()).keys().collect::<Vec<_>>(), ["mensaje: hola"]);
}

#[test]
fn without_data_nodes_a_client_is_refused_and_may_retry() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let mut client = client(&head);
    client.write_all(&store(5, &["a", "b"])).unwrap();
    let (kind, body) = read(&mut client);
    assert_eq!(kind, 5);
    assert_eq!(body[..15], [0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 4, 1], "seq 5, two messages, code 4, retry");
    let cause = "no hay dataNodes; start one with 'acopio data --head <this head>', then send again";
    assert_eq!(body[15..], text(cause));
    let _node = head.node(dir.path(), 1, &[]);
    client.write_all(&store(5, &["a", "b"])).unwrap();
    check_acked(&mut client, 5, 2, "127.0.0.2");
}

#[test]
fn a_data_node_over_a_bare_socket_keeps_messages() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let mut node = Node::register(&head, 9, "propio");
    let mut client = client(&head);
    client.write_all(&store(1, &["uno", "dos"])).unwrap();
    let (id, rest) = node.put();
    assert_eq!(rest, put_body(1, &["uno", "dos"]));
    node.ack(1);
    assert_eq!(check_acked(&mut client, 1, 2, "127.0.0.1"), id, "the client hears the id that the node got");

    let mut line = head.line();
    line.send("hola");
    let (kind, body) = node.next();
    // The second entry of the ledger that the first Put has opened.
    let rest = [&[0, 1][..], &block(&["mensaje: hola"])].concat();
    assert_eq!((kind, &body[36..40], untagged(&body[40..])), (0x11, &[0, 0, 0, 2][..], &rest[..]));
    node.ack(2);
    assert_eq!(line.read(), "127.0.0.1 , mensaje: recibido");
}

#[test]
fn a_put_that_is_refused_goes_to_another_node_under_the_same_id() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let mut first = Node::register(&head, 9, "lleno");
    let mut client = client(&head);
    client.write_all(&store(1, &["uno"])).unwrap();
    let put = first.put();
    let _notes = first.goes_on();
    let mut second = Node::register(&head, 10, "libre");
    // Put 1, code 5: the disk is full.
    first.say(0x13, &[&[0, 0, 0, 0, 0, 0, 0, 1, 0, 5][..], &text("no space left; free some")].concat());
    assert_eq!(second.put(), put, "same id, same sequence number, same message");
    second.ack(1);
    check_acked(&mut client, 1, 1, "127.0.0.1");
    for seq in 2..22_u64 {
        client.write_all(&store(seq, &["mas"])).unwrap();
        second.put();
        second.ack(seq);
        check_acked(&mut client, seq, 1, "127.0.0.1");
    }
    let registro = head.log("registro.log");
    assert!(registro.contains("Problema: mensaje no fue guardado en dataNode"), "{registro}");
}

#[test]
fn a_node_that_leaves_settles_what_it_has_and_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let mut node = Node::register(&head, 9, "propio");
    let mut client = client(&head);
    client.write_all(&store(1, &["uno"])).unwrap();
    node.put();
    node.say(0x15, &[]);
    // The Pong shows that the head has read Leave.
    node.say(9, &[0, 0, 0, 0, 0, 0, 0, 3]);
    assert_eq!(node.next(), (0x0a, vec![0, 0, 0, 0, 0, 0, 0, 3]));
    let goes_on = node.goes_on();
    let _other = head.node(dir.path(), 1, &[]);
    client.write_all(&store(2, &["dos"])).unwrap();
    check_acked(&mut client, 2, 1, "127.0.0.2");
    node.ack(1);
    check_acked(&mut client, 1, 1, "127.0.0.1");
    goes_on.join().unwrap();
    head.process.wait_for("dataNode propio at 127.0.0.1 is let go");
}

#[test]
fn a_name_that_is_taken_is_refused_with_its_code() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _first = Node::register(&head, 9, "propio");
    for (id, name, code) in [(10, "propio", 7), (9, "otro", 8)] {
        let mut socket = head.connect();
        socket.write_all(&[NODE, &register(id, name)].concat()).unwrap();
        confirmed(&mut socket);
        let mut answer = read(&mut socket);
        if answer.0 == 2 {
            answer = read(&mut socket);
        }
        assert_eq!((answer.0, &answer.1[..3]), (8, &[0, code, 1][..]), "Failure, its code, try again");
    }
}
