//! Changed sessions over sockets, to a head that asks for its key, while a data node and a client are at work.
//!
//! `ACOPIO_FUZZ_SOCKETS` says how many, and `ACOPIO_FUZZ_SEED` where their numbers begin. The fuzzer in memory, which says far
//! more, is `src/head/fuzz/`.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use acopio::wire::frame::Frame;
use bytes::BytesMut;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use crate::common::frames::CONFIRMATION;
use crate::common::{Head, acopio, ran};
use mutate::{changed, packets, sessions};

#[path = "../../src/head/fuzz/mutate.rs"]
mod mutate;

/// Sessions where nobody says how many.
const SESSIONS: u64 = 300;

/// How long an answer is waited for: some sessions are good, and go on.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(20);

/// What the head may take for all that strangers say; it takes less than half of it.
const PEAK_KIB_MAX: u64 = 256 * 1024;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Says the packets, and hears what is answered until the head closes, or says nothing more.
fn says(mut socket: TcpStream, packets: &[Vec<u8>]) -> (Vec<u8>, bool) {
    let said = packets.iter().all(|packet| socket.write_all(packet).is_ok());
    if said {
        // A peer that has said all; a reader or a data node that goes on is over by that.
        socket.shutdown(Shutdown::Write).ok();
    }
    socket.set_read_timeout(Some(ANSWER_TIME_MAX)).unwrap();
    let (mut answer, mut chunk) = (Vec::new(), vec![0; 16 * 1024]);
    loop {
        match socket.read(&mut chunk) {
            Ok(0) => return (answer, true),
            Ok(n) => answer.extend_from_slice(&chunk[..n]),
            Err(error) => return (answer, error.kind() == ErrorKind::ConnectionReset),
        }
    }
}

/// Whether an answer is one of this protocol: text, or the confirmation and whole frames, of which a Failure is the last.
fn is_an_answer(answer: &[u8], closed: bool) -> bool {
    let Some(frames) = answer.strip_prefix(CONFIRMATION) else { return std::str::from_utf8(answer).is_ok() };
    if frames.starts_with(b"error: ") {
        return std::str::from_utf8(frames).is_ok();
    }
    let (mut buffer, mut failed) = (BytesMut::from(frames), false);
    while let Some(frame) = Frame::decode(&mut buffer).unwrap() {
        assert!(!failed, "something follows a Failure");
        if let Frame::Failure(refusal) = &frame {
            assert!(!refusal.text.is_empty());
            failed = true;
        }
        assert!(!matches!(frame, Frame::Put { .. } | Frame::Roster(_)), "nobody proved anything: {frame:?}");
    }
    buffer.is_empty() || !closed
}

#[test]
fn changed_sessions_harm_neither_a_head_nor_those_that_it_serves() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("cluster.key");
    let mut command = acopio();
    command.args(["key", "new"]).arg(&key);
    assert_eq!(ran(command).0, Some(0));
    let key = ["--key", key.to_str().unwrap()];
    let head = Head::start(dir.path(), &key);
    let node = head.node(dir.path(), 1, &key);
    head.wait_in_cluster(1);
    let mut client = head.line();
    let (count, seed) = (number("ACOPIO_FUZZ_SOCKETS", SESSIONS), number("ACOPIO_FUZZ_SEED", 0));
    let (sessions, start) = (sessions(), Instant::now());
    let mut refused = 0;
    for number in seed..seed + count {
        let mut rng = SmallRng::seed_from_u64(number);
        let session = changed(&mut rng, &sessions);
        let (answer, closed) = says(head.connect(), &packets(&mut rng, &session));
        let shown = || format!("session {number}, once {}: {}", session.name, session.parts.concat().escape_ascii());
        assert!(is_an_answer(&answer, closed), "{}: answered {}", shown(), answer.escape_ascii());
        refused += u64::from(
            String::from_utf8_lossy(&answer).contains("error: ") || answer.len() > CONFIRMATION.len() && closed,
        );
        if number % 50 == 0 {
            let answer = client.ask("the others do not notice");
            assert!(answer.ends_with("recibido"), "{answer} after {}", shown());
        }
    }
    eprintln!("{count} sessions from {seed} on in {:?}, peak {} KiB", start.elapsed(), head.process.peak_kib());
    assert!(refused > count / 10, "{refused} of {count}");
    let peak = head.process.peak_kib();
    assert!(peak < PEAK_KIB_MAX, "{peak} KiB");

    // Nobody came in, nothing is gone, and what was stored is read.
    let status = head.status();
    let nodes = status["nodes"].as_array().unwrap();
    assert!(nodes.len() == 1 && nodes[0]["name"] == "data1", "{nodes:?}");
    assert!(status["members_away"].as_array().unwrap().is_empty(), "{status}");
    let mut read = acopio();
    read.args(["read", "--head", &head.at()]);
    let (code, lines, said) = ran(read);
    assert_eq!(code, Some(0), "{said}");
    assert!(lines.matches("the others do not notice").count() as u64 >= count / 50);
    for said in [head.process.all(), node.all(), head.log("head.log"), head.log("access.log"), head.log("clientes.log")]
    {
        assert!(!said.contains("panicked") && !said.contains(mutate::SECRET), "{said}");
    }
    drop((client, head, node));
    let mut verify = acopio();
    verify.arg("verify").arg(dir.path().join("data1"));
    let (code, _, said) = ran(verify);
    assert_eq!(code, Some(0), "{said}");
}
