//! Bad input gets one clear line, cause and remedy, and the cluster goes on serving the others.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};

use crate::common::{self, Head, Port, Process, acopio, payloads, read_once};

struct Cluster {
    dir: tempfile::TempDir,
    head: Head,
    _node: Process,
}

impl Cluster {
    fn start(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let head = Head::start(dir.path(), more);
        let _node = head.node(dir.path(), 1, &[]);
        Self { dir, head, _node }
    }

    fn still_serves(&self) {
        assert_eq!(self.head.line().ask("sigue"), "127.0.0.2 , mensaje: recibido");
    }

    fn refused(&self, input: &[u8]) -> String {
        let mut socket = self.head.connect();
        socket.write_all(input).unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// What a framed client is told after this handshake and these bytes, as text.
    fn framed(&self, bytes: &[u8]) -> String {
        let mut input = b"peticion acopio/2\ncliente\n".to_vec();
        input.extend_from_slice(bytes);
        self.refused(&input)
    }
}

const HELLO: [u8; 14] = [0, 0, 0, 10, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0];

#[test]
fn a_wrong_first_word() {
    let cluster = Cluster::start(&[]);
    let answer = cluster.refused(b"GET / HTTP/1.1\r\n");
    assert_eq!(answer.lines().count(), 1, "{answer}");
    assert!(answer.starts_with("error: \"GET / HTTP/1.1") && answer.contains("; begin with 'peticion'"), "{answer}");
    cluster.still_serves();
}

#[test]
fn an_unknown_version() {
    let cluster = Cluster::start(&[]);
    let answer = cluster.refused(b"peticion acopio/9\n");
    assert_eq!(answer, "error: version acopio/9 is not known here; speak acopio/2\n");
    cluster.still_serves();
}

#[test]
fn a_silent_handshake_ends_after_five_seconds() {
    let cluster = Cluster::start(&[]);
    let answer = cluster.refused(b"petic");
    assert_eq!(answer, "error: no handshake within 5s; say 'peticion' first\n");
    cluster.still_serves();
}

#[test]
fn an_endless_line() {
    let cluster = Cluster::start(&[]);
    let mut input = b"peticion\nbuena\n".to_vec();
    input.resize(input.len() + 200_000, b'x');
    let answer = cluster.refused(&input);
    let lines: Vec<&str> = answer.lines().collect();
    assert_eq!(lines[..2], ["confirmacion", "127.0.0.2 , mensaje: recibido"], "what came before it is kept");
    assert_eq!(lines[2], "error: a line is longer than 65536 bytes; send shorter lines or use the framed dialect");
    cluster.still_serves();
}

#[test]
fn frame_lengths_of_nothing_and_of_4_gib() {
    let cluster = Cluster::start(&[]);
    for (prefix, number) in [([0; 4], "0"), ([0xff; 4], "4294967295")] {
        let answer = cluster.framed(&[&HELLO[..], &prefix].concat());
        assert!(answer.contains(&format!("a frame says it is {number} bytes long")), "{answer}");
        cluster.still_serves();
    }
    assert!(cluster.head.process.peak_kib() < 64 << 10, "nothing is allocated for a length that is refused");
}

#[test]
fn a_message_above_the_limit_in_frames() {
    let cluster = Cluster::start(&[]);
    // Store, first_seq 1, one message of 1 MiB and a byte.
    let size = (1_u32 << 20) + 1;
    let mut frame = vec![3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1];
    frame.extend(size.to_be_bytes());
    frame.resize(frame.len() + size as usize, b'x');
    let mut input = HELLO.to_vec();
    input.extend((frame.len() as u32).to_be_bytes());
    input.extend(frame);
    let answer = cluster.framed(&input);
    assert!(answer.contains("1048577"), "{answer}");
    cluster.still_serves();
}

#[test]
fn store_before_hello() {
    let cluster = Cluster::start(&[]);
    let answer = cluster.framed(&[0, 0, 0, 16, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, b'x']);
    assert!(answer.contains("say Hello once, then Store"), "{answer}");
    cluster.still_serves();
}

#[test]
fn client_101_is_told_and_the_hundred_are_served() {
    let cluster = Cluster::start(&[]);
    let mut clients: Vec<_> = (0..100).map(|_| cluster.head.line()).collect();
    let lleno = "lleno: 100 clients are connected; try again later or raise --max-clients\n";
    assert_eq!(cluster.refused(b"peticion\n"), lleno);
    assert_eq!(cluster.refused(b"peticion"), lleno, "a raw client waits for an answer, so it gets this one");
    assert!(cluster.framed(&HELLO).contains("100 clients are connected; try again later or raise --max-clients"));
    for (k, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.ask(&format!("cliente {k}")), "127.0.0.2 , mensaje: recibido");
    }
    let _second = cluster.head.node(cluster.dir.path(), 2, &[]);
    drop(clients.pop());
    common::eventually("a place is free", || cluster.refused_or_served());
}

impl Cluster {
    fn refused_or_served(&self) -> Option<()> {
        let mut socket = self.head.connect();
        socket.write_all(b"peticion\n").unwrap();
        (read_once(&mut socket) == "confirmacion\n").then_some(())
    }
}

#[test]
fn any_bytes_make_one_line_each_and_come_back() {
    let cluster = Cluster::start(&[]);
    let nasty: [&[u8]; 4] =
        [b"nul \0 here", b"\xff\xfe no utf-8", b"back\\slash \\n", "\u{85}\u{2028}\u{1b}[31m".as_bytes()];
    let mut input = b"peticion\n".to_vec();
    for message in nasty {
        input.extend_from_slice(message);
        input.push(b'\n');
    }
    assert_eq!(cluster.head.nc(&input).lines().filter(|line| line.ends_with("recibido")).count(), nasty.len());
    let mut raw = cluster.head.raw();
    raw.write_all(b"one\n1795234260----0----6 ---------- 0 000000 forged").unwrap();
    assert_eq!(read_once(&mut raw), "127.0.0.2 , mensaje: recibido");
    let kept = payloads(cluster.dir.path());
    let expected = [
        "mensaje: nul \\0 here",
        "mensaje: \\xff\\xfe no utf-8",
        "mensaje: back\\\\slash \\\\n",
        "mensaje: \\xc2\\x85\\xe2\\x80\\xa8\\x1b[31m",
        "mensaje: one\\n1795234260----0----6 ---------- 0 000000 forged",
    ];
    assert_eq!(kept.len(), expected.len(), "no message forges a line: {kept:?}");
    assert!(expected.iter().all(|text| kept.contains_key(*text)), "{kept:?}");
}

#[test]
fn a_head_that_is_not_there() {
    let port = Port::reserve();
    let head = port.at();
    let output = acopio().args(["send", "--head", &head, "--retry-for", "500ms", "hola"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&head), "{said}");
    let dir = tempfile::tempdir().unwrap();
    let mut command = acopio();
    command.args(["data", "--head", &head, "--name", "data1", "--dir"]).arg(dir.path().join("data1"));
    let node = Process::start(command);
    node.wait_for(&format!("head {head}: "));
    let output = acopio().args(["status", "--head", &head]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains(&head));
}

#[test]
fn an_unknown_host() {
    let output = acopio().args(["status", "--head", "no-such-host.invalid:5000"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no-such-host.invalid:5000"), "{said}");
}

#[test]
fn a_port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let output = acopio().args(["head", "--listen", &address, "--logs"]).arg(dir.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&address) && said.contains("in use") && said.contains("--listen"), "{said}");
}

#[test]
fn a_folder_that_is_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    for args in [
        vec!["data", "--head", "127.0.0.1:1", "--name", "a", "--dir", path],
        vec!["head", "--listen", "127.0.0.1:0", "--logs", path],
    ] {
        let output = acopio().args(&args).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains(path) && !said.contains("panicked"), "{said}");
    }
}

#[test]
fn a_folder_in_use_by_another_node() {
    let cluster = Cluster::start(&[]);
    let second = cluster.head.start_named("data9", cluster.dir.path(), 1, &[]);
    let (code, _, said) = second.finish();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("is in use by another node (pid ") && said.contains("name data1"), "{said}");
    cluster.still_serves();
}

#[test]
fn records_without_the_identity_they_belong_to() {
    let cluster = Cluster::start(&[]);
    cluster.still_serves();
    let Cluster { dir, head, _node } = cluster;
    _node.kill();
    std::fs::remove_file(dir.path().join("data1/node.state")).unwrap();
    let node = head.node(dir.path(), 1, &[]);
    node.wait_for("it holds records and no node.state: the node starts as ");
}

#[test]
fn a_name_that_is_registered_twice() {
    let cluster = Cluster::start(&[]);
    let other = tempfile::tempdir().unwrap();
    let second = cluster.head.start_node(other.path(), 1, &[]);
    second.wait_for("the name data1 is registered from 127.0.0.2:");
    second.wait_for("give this one another --name");
    cluster.still_serves();
    assert_eq!(cluster.head.process.count("dataNode data1 registered"), 1);
}

#[test]
fn a_half_closed_peer_that_said_nothing() {
    let cluster = Cluster::start(&[]);
    let socket = cluster.head.connect();
    socket.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    (&socket).read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
    cluster.still_serves();
}

#[test]
fn a_second_head_in_the_same_folder_of_logs() {
    let cluster = Cluster::start(&[]);
    let mut command = acopio();
    command.args(["head", "--listen", "127.0.0.1:0", "--logs"]).arg(&cluster.head.logs);
    let (code, _, said) = Process::start(command).finish();
    assert_eq!(code, Some(1), "{said}");
    let pid = cluster.head.process.pid();
    assert!(said.contains(&format!("is in use by another process (pid {pid} name head)")), "{said}");
    cluster.still_serves();
}
