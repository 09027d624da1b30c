//! Clients, readers and commands with heads that cannot serve: they go on with the next at once, come back, and end in
//! time with every head and its cause named.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use acopio::client::{Client, Config};
use acopio::wire::frame::{Frame, MessagesBuilder, Tags};
use acopio::wire::id::{ClientId, RecordId};
use acopio::wire::ledger::Place;

use crate::common::frames::{CONFIRMATION, Frames, NODE_OPENING};
use crate::common::{Head, Port, acopio, eventually, payloads, ran, sending};
use crate::read_cluster::Follower;

/// What a command with these words says: exit code, standard output, standard error, and how long it took.
fn timed(words: &[&str]) -> (Option<i32>, String, String, Duration) {
    let begun = Instant::now();
    let mut command = acopio();
    command.args(words);
    let (code, out, err) = ran(command);
    (code, out, err, begun.elapsed())
}

/// Two heads, of which the second has a data node.
struct Pair {
    without: Head,
    with: Head,
    dir: tempfile::TempDir,
    _logs: tempfile::TempDir,
}

impl Pair {
    fn start() -> Self {
        let (dir, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let with = Head::start(dir.path(), &[]);
        let without = with.start_beside(logs.path(), &[]);
        Self { without, with, dir, _logs: logs }
    }

    fn heads(&self) -> String {
        format!("{},{}", self.without.at(), self.with.at())
    }
}

#[test]
fn a_head_without_data_nodes_is_left_for_one_that_has_them() {
    let pair = Pair::start();
    let _node = pair.with.node(pair.dir.path(), 1, &[]);
    let heads = pair.heads();
    let (code, out, err, took) = timed(&["send", "--head", &heads, "--acks", "hola", "adios"]);
    assert_eq!((code, out.lines().count(), err.as_str()), (Some(0), 2, ""), "{took:?}");
    assert!(took < Duration::from_secs(8), "{took:?}");
    let (code, out, err, took) = timed(&["read", "--head", &heads, "--format", "raw"]);
    assert_eq!((code, out.as_str()), (Some(0), "hola\nadios\n"), "{err}");
    assert!(err.contains(&format!("head {}: no hay dataNodes; ", pair.without.at())), "{err}");
    assert!(took < Duration::from_secs(8), "{took:?}");
    let logs = pair.dir.path().join("client");
    let logs = logs.to_str().unwrap();
    let (code, _, err, took) = timed(&["client", "--head", &heads, "--count", "1", "--logs", logs]);
    assert!(code == Some(0) && err.contains("Servidor recibio: 127.0.0.2 , mensaje: recibido"), "{err}");
    assert!(took < Duration::from_secs(8), "{took:?}");
}

#[test]
fn a_client_comes_back_to_a_head_that_was_left_and_prints_each_answer_when_it_comes() {
    let pair = Pair::start();
    let node = pair.with.node(pair.dir.path(), 1, &[]);
    let (mut child, mut input) = sending(&pair.heads(), &["--acks", "--retry-for", "forever"]);
    let mut acks = BufReader::new(child.stdout.take().unwrap()).lines();
    input.write_all(b"uno\n").unwrap();
    // The input is still open: nothing is held back until the end.
    assert!(acks.next().unwrap().unwrap().ends_with("recibido en dataNode 127.0.0.2"));
    node.kill();
    let _other = pair.without.node(pair.dir.path(), 2, &[]);
    input.write_all(b"dos\n").unwrap();
    assert!(acks.next().unwrap().unwrap().ends_with("recibido en dataNode 127.0.0.3"));
    drop(input);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_send_that_never_gives_up_waits_for_its_head() {
    let dir = tempfile::tempdir().unwrap();
    let port = Port::reserve();
    let (mut child, mut input) = sending(&port.at(), &["--retry-for", "forever"]);
    input.write_all(b"uno\n").unwrap();
    drop(input);
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none());
    let head = Head::start_at(dir.path(), &port.at(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    assert!(child.wait().unwrap().success());
    assert_eq!(payloads(dir.path()), [("uno".to_owned(), 1)].into());
}

/// A head that takes connections and does so much.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Does {
    /// It says nothing at all.
    Nothing,
    /// It confirms.
    Confirms,
    /// It welcomes and answers pings, and nothing else.
    Pongs,
}

fn lame_head(does: Does) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || lame(socket, does));
        }
    });
    at
}

fn lame(mut socket: TcpStream, does: Does) -> Option<()> {
    let mut opening = [0; b"peticion acopio/2\ncliente\n".len()];
    socket.read_exact(&mut opening).ok()?;
    if does != Does::Nothing {
        socket.write_all(CONFIRMATION).ok()?;
    }
    let mut buffer = bytes::BytesMut::new();
    loop {
        while let Some(frame) = Frame::decode(&mut buffer).ok()? {
            let answer = match frame {
                Frame::Hello { .. } => {
                    let cluster = "acopio".to_owned();
                    Frame::Welcome { incarnation: 1, window_messages: 100, window_bytes: 1 << 20, cluster }
                }
                Frame::Ping(n) => Frame::Pong(n),
                _ => continue,
            };
            if does == Does::Pongs {
                let mut out = bytes::BytesMut::new();
                answer.encode(&mut out).ok()?;
                socket.write_all(&out).ok()?;
            }
        }
        let mut chunk = [0; 4096];
        let read = socket.read(&mut chunk).ok().filter(|read| *read > 0)?;
        buffer.extend_from_slice(&chunk[..read]);
    }
}

#[test]
fn everything_ends_in_time_and_names_every_head() {
    let nobody = Port::reserve();
    let logs = tempfile::tempdir().unwrap();
    let logs = logs.path().to_str().unwrap();
    let mut running = Vec::new();
    for does in [Does::Nothing, Does::Confirms, Does::Pongs] {
        let heads = format!("{},{}", lame_head(does), nobody.at());
        let commands: [&[&str]; 5] = [
            &["send", "--retry-for", "4s", "hola"],
            &["read", "--retry-for", "4s"],
            &["client", "--retry-for", "4s", "--count", "1", "--logs", logs],
            &["drain", "data1", "--retry-for", "4s"],
            &["status", "--timeout", "4s"],
        ];
        for words in commands {
            let words: Vec<String> =
                [words, &["--head", &heads]].concat().iter().map(|&word| word.to_owned()).collect();
            let heads = heads.clone();
            // Beside each other: each of them only waits.
            running.push(std::thread::spawn(move || {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                let (code, _, err, took) = timed(&words);
                // Not a half of it longer, whatever the heads do.
                assert!(took < Duration::from_millis(5500), "{does:?} {words:?} took {took:?}: {err}");
                assert!(code == Some(1) || words[0] == "client", "{does:?} {words:?}: {code:?} {err}");
                for head in heads.split(',') {
                    assert!(err.contains(&format!("head {head}")), "{does:?} {words:?}: {err}");
                }
            }));
        }
    }
    running.into_iter().for_each(|one| one.join().unwrap());
}

#[test]
fn heads_that_have_no_nodes_are_all_named() {
    let logs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [one, two] = [0, 1].map(|k| Head::start(logs[k].path(), &[]));
    let heads = format!("{},{}", one.at(), two.at());
    for command in ["send", "read"] {
        let mut words = vec![command, "--head", &heads, "--retry-for", "1s"];
        words.extend((command == "send").then_some("hola"));
        let (code, _, err, took) = timed(&words);
        assert!(code == Some(1) && took < Duration::from_secs(5), "{took:?} {err}");
        let last =
            err.lines().rfind(|line| line.contains("tried for") || line.contains("nothing could be read")).unwrap();
        for head in [&one, &two] {
            assert!(last.contains(&format!("head {}: no hay dataNodes; ", head.at())), "{err}");
        }
    }
}

#[test]
fn what_a_device_sent_before_it_closed_is_kept_though_it_reads_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let (devices, lines) = (5, 2_000);
    for device in 0..devices {
        let mut socket = head.connect();
        let text: String = (0..lines).map(|k| format!("{device} {k}\n")).collect();
        socket.write_all(format!("peticion\n{text}").as_bytes()).unwrap();
        // The confirmation, which it does not read, has come: its system resets the connection.
        let mut first = [0; 1];
        socket.peek(&mut first).unwrap();
        drop(socket);
        // One that waits for the confirmation, sends and closes.
        let mut raw = head.raw();
        raw.write_all(format!("raw {device}").as_bytes()).unwrap();
        drop(raw);
    }
    let wanted = devices * (lines + 1);
    eventually("everything is kept", || (payloads(dir.path()).len() == wanted).then_some(()));
    assert!(payloads(dir.path()).values().all(|&copies| copies == 1));
}

#[test]
fn a_device_that_counts_anew_is_read_whole_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let at = head.at();
    let _node = head.node(dir.path(), 1, &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for run in 0..3 {
            let mut config = Config::new(vec![at.clone()]);
            config.id = ClientId::of_library(7);
            let mut device = Client::new(config);
            for k in 0..20 {
                device.store(format!("{run} {k}").into()).await.unwrap();
            }
        }
    });
    let (code, out, err, _) = timed(&["read", "--head", &at, "--count"]);
    assert_eq!((code, out.as_str()), (Some(0), "60\n"), "{err}");
    assert!(err.contains("acopio: 40 messages have the client and the number of another one before them"), "{err}");
    let (_, out, _, _) = timed(&["read", "--head", &at, "--format", "json"]);
    assert_eq!(out.lines().filter(|line| line.contains("\"reused\":true")).count(), 40, "{out}");
    let folder = dir.path().to_str().unwrap();
    let (code, out, err, _) = timed(&["audit", "--registro", folder, "--data", folder]);
    assert_eq!(code, Some(0), "{err}");
    let line = |name: &str| out.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_default().to_owned();
    assert!(line("numbers reused").ends_with(" 20") && line("sent twice").ends_with(" 0"), "{out}");
    let named = format!("number reused: 1 of client {}, in ", ClientId::of_library(7));
    assert!(out.contains(&named), "{out}");
}

/// A head whose clock is at the beginning of 1970: it takes a data node in, and has it keep one message.
fn head_of_1970() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut opening = [0; NODE_OPENING.len()];
        socket.read_exact(&mut opening).unwrap();
        socket.write_all(CONFIRMATION).unwrap();
        let mut node = Frames::new(socket);
        loop {
            match node.hear() {
                Frame::Register { node: id, .. } => {
                    let cluster = "acopio".to_owned();
                    node.say(&Frame::Welcome { incarnation: 9, window_messages: 100, window_bytes: 1 << 20, cluster });
                    let first = RecordId { time_ns: 5_000_000_000, incarnation: 9 };
                    let mut messages = MessagesBuilder::default();
                    messages.push(&[b"de 1970"]).unwrap();
                    let (messages, place) = (messages.take().unwrap(), Place { number: 0, entry: 0 });
                    let (client, first_seq, members) = (ClientId::of_library(70), 1, vec![id]);
                    let (source, tags) = (None, Tags::none());
                    node.say(&Frame::Put { first, client, first_seq, place, members, source, tags, messages });
                }
                Frame::Ping(n) => node.say(&Frame::Pong(n)),
                _ => {}
            }
        }
    });
    at
}

#[test]
fn a_head_whose_clock_is_far_behind_holds_up_no_read() {
    let dir = tempfile::tempdir().unwrap();
    // It has no key, and marks nothing.
    let head = Head::start(dir.path(), &["--unproved-before", "1970-01-02"]);
    let behind = head_of_1970();
    let _node = head.node(dir.path(), 1, &["--head", &behind]);
    eventually("what it was sent is kept", || payloads(dir.path()).contains_key("de 1970").then_some(()));
    let (code, _, err, _) = timed(&["send", "--head", &head.at(), "hola"]);
    assert_eq!(code, Some(0), "{err}");
    let (code, out, err, _) = timed(&["read", "--format", "raw", "--head", &head.at()]);
    assert_eq!((code, out.as_str()), (Some(0), "de 1970\nhola\n"), "{err}");
    let follower = Follower::start(&head.at());
    assert_eq!(follower.take(2), ["de 1970", "hola"]);
    let (code, _, err, _) = timed(&["send", "--head", &head.at(), "otra vez"]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(follower.take(1), ["otra vez"]);
    assert!(follower.end().is_empty());
}
