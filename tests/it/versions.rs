//! Heads of different versions beside each other: the other one is named in a clear line, and everybody goes on with the
//! head of their own version.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::common::{Head, acopio, payloads};

/// Something that listens, waits for an opening and answers with these bytes, to everybody.
fn fake_head(answer: &[u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = answer.to_vec();
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            std::thread::spawn(move || serve(socket, &answer));
        }
    });
    address
}

fn serve(mut socket: TcpStream, answer: &[u8]) {
    let mut heard = [0; 4096];
    if socket.read(&mut heard).is_ok_and(|n| n > 0 && heard.starts_with(b"peticion acopio/2\n")) {
        // Two pieces: a line may come in any number of reads.
        let (first, rest) = answer.split_at(answer.len() / 2);
        let sent = socket.write_all(first).and_then(|()| socket.write_all(rest));
        while sent.is_ok() && socket.read(&mut heard).is_ok_and(|n| n > 0) {}
    }
}

/// Answers of heads that are not of this version, and what is said of them.
fn others() -> [(Vec<u8>, &'static str); 4] {
    let mut newer = b"confirmacion acopio/2\n".to_vec();
    // Welcome: incarnation, window in messages, window in bytes, cluster.
    newer.extend([0, 0, 0, 21, 2, 0, 0, 0, 7, 0, 0, 1, 0, 0, 1, 0, 0, 0, 6]);
    newer.extend(b"acopio");
    newer.extend([0, 0, 0, 3, 0x7f, 1, 2]);
    let kind = "a frame is of kind 0x7f, which acopio/2 does not have; use the same version on both sides";
    let speaks = "it speaks acopio/3 and this is acopio/2 (";
    [
        (b"confirmacion acopio/3\n".to_vec(), speaks),
        (b"error: version acopio/2 is not known here; speak acopio/3\n".to_vec(), speaks),
        (newer, kind),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "it answered \"SSH-2.0-"),
    ]
}

#[test]
fn a_data_node_goes_on_with_the_head_of_its_version() {
    for (answer, wanted) in others() {
        let dir = tempfile::tempdir().unwrap();
        let other = fake_head(&answer);
        let head = Head::start(dir.path(), &[]);
        let node = head.node(dir.path(), 1, &["--head", &other]);
        let said = node.wait_for(&format!("head {other}: "));
        assert!(said.contains(wanted), "{said}");
        assert!(said.contains("trying again until it works"), "{said}");
        for k in 0..20 {
            assert_eq!(head.line().ask(&format!("linea {k}")), "127.0.0.2 , mensaje: recibido");
        }
        assert_eq!(payloads(dir.path()).len(), 20);
        assert_eq!(node.count(wanted), 1, "it is said once: {}", node.all());
    }
}

#[test]
fn send_goes_on_with_the_head_of_its_version() {
    for (answer, wanted) in others() {
        let dir = tempfile::tempdir().unwrap();
        let other = fake_head(&answer);
        let head = Head::start(dir.path(), &[]);
        let _node = head.node(dir.path(), 1, &[]);
        let heads = format!("{other},{}", head.at());
        let output = acopio().args(["send", "--head", &heads, "uno", "dos"]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.contains(&format!("head {other}: ")) && said.contains(wanted), "{said}");
        assert_eq!(payloads(dir.path()).len(), 2, "each message is there once");
    }
}

#[test]
fn send_says_why_when_there_is_no_head_of_its_version() {
    let other = fake_head(b"confirmacion acopio/3\n");
    let output = acopio().args(["send", "--head", &other, "--retry-for", "10s", "uno"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("head {other}: it speaks acopio/3 and this is acopio/2")), "{said}");
    let output = acopio().args(["status", "--head", &other]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("head {other}: it speaks acopio/3 and this is acopio/2")), "{said}");
}
