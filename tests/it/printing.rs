//! What peers say is shown to people with everything written out that could move their cursor or deceive their eyes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use acopio::wire::error::{Code, Refusal};
use acopio::wire::frame::Frame;
use acopio::wire::status::StatusReport;
use bytes::BytesMut;

use crate::common::{acopio, ran};

/// It clears the screen, in C0 and in C1, turns the direction of writing, and hides.
const EVIL: &str = "\x1b[2J\u{9b}2J\u{202e}\u{200b}\u{feff}mal";

/// Whether it does any of that.
fn is_hidden(c: char) -> bool {
    c.is_control() || EVIL.contains(c) && !c.is_ascii()
}

/// A head that answers every question so; the address it is at.
fn hostile() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        listener.incoming().map_while(Result::ok).for_each(|socket| answer(socket).unwrap_or_default())
    });
    at
}

fn answer(mut socket: TcpStream) -> Option<()> {
    let mut reader = BufReader::new(socket.try_clone().ok()?);
    for _ in 0..2 {
        reader.read_line(&mut String::new()).ok()?;
    }
    socket.write_all(b"confirmacion acopio/2\n").ok()?;
    let mut buffer = BytesMut::from(reader.buffer());
    let asked = loop {
        if let Some(frame) = Frame::decode(&mut buffer).ok()? {
            break frame;
        }
        let mut bytes = [0; 1024];
        let read = socket.read(&mut bytes).ok().filter(|read| *read > 0)?;
        buffer.extend_from_slice(&bytes[..read]);
    };
    let answer = match asked {
        Frame::StatusQuery { .. } => {
            let cluster = format!("{EVIL}{}", "x".repeat(100_000));
            let report = StatusReport { cluster, version: EVIL.to_owned(), ..StatusReport::default() };
            Frame::StatusReport(serde_json::to_vec(&report).unwrap().into())
        }
        // As long as a text can be.
        _ => Frame::Failure(Refusal { code: Code::Role, text: EVIL.to_owned() + &"x".repeat(490), retry: false }),
    };
    let mut out = BytesMut::new();
    answer.encode(&mut out).unwrap();
    socket.write_all(&out).ok()?;
    // Until it has been read.
    drop(socket.read(&mut [0; 1]));
    Some(())
}

#[test]
fn a_hostile_head_reaches_no_terminal() {
    let head = hostile();
    let commands: [&[&str]; 7] = [
        &["send", "--head", &head, "hola"],
        &["read", "--head", &head],
        &["read", "--head", &head, "--follow"],
        &["drain", "data1", "--head", &head],
        &["status", "--head", &head],
        &["status", "--head", &head, "--format", "json"],
        &["health", "--ask", &head, "--node", "data1"],
    ];
    for args in commands {
        let mut command = acopio();
        command.args(args);
        let (code, out, err) = ran(command);
        let said = format!("{out}{err}");
        let hidden: Vec<char> = said.chars().filter(|&c| is_hidden(c) && c != '\n').collect();
        assert!(hidden.is_empty(), "{args:?}: {code:?} {hidden:?}");
        if args[0] != "health" {
            assert!(
                said.contains("\\u{1b}[2J\\u{9b}2J\\u{202e}") || said.contains("\\u001b[2J\\u009b2J\\u202e"),
                "{said}"
            );
        }
        let is_json = args.contains(&"json");
        assert!(is_json || said.len() < 3_000, "{args:?}: {} bytes", said.len());
    }
}

#[test]
fn a_client_shows_no_escape_codes_either() {
    let head = hostile();
    let dir = tempfile::tempdir().unwrap();
    let mut command = acopio();
    command.args(["client", "--count", "1", "--head", &head, "--logs", dir.path().to_str().unwrap()]);
    let (_, out, err) = ran(command);
    assert!(err.contains("[2J\\u{9b}2J\\u{202e}"), "{err}");
    let log = std::fs::read_to_string(dir.path().join("client.log")).unwrap();
    assert!(!format!("{out}{err}{log}").contains(|c| is_hidden(c) && c != '\n'), "{err}");
}
