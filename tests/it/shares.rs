//! Fair shares: what a name or an address sends beyond its own is read later or refused with the time to wait, and others do not
//! notice.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::common::{Head, PATIENCE};

fn solo(dir: &std::path::Path, more: &[&str]) -> Head {
    let data = dir.join("solo");
    Head::start_at(dir, "0.0.0.0:0", &[&["--solo", "--dir", data.to_str().unwrap()], more].concat())
}

/// A connection from another address.
fn from(ip: u8, head: &Head) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, ip], 0)).into()).unwrap();
    socket.connect(&std::net::SocketAddr::from(([127, 0, 0, 1], head.address.port())).into()).unwrap();
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn told(mut socket: TcpStream, lines: usize) -> String {
    let text: String = (0..lines).map(|n| format!("{n}\n")).collect();
    // One that is turned away at once may find its connection reset.
    socket.write_all(format!("peticion\n{text}").as_bytes()).ok();
    socket.shutdown(std::net::Shutdown::Write).ok();
    let mut told = String::new();
    socket.read_to_string(&mut told).ok();
    told
}

#[test]
fn an_address_that_floods_is_read_at_its_share_and_another_is_not_held_up() {
    let dir = tempfile::tempdir().unwrap();
    let head = solo(dir.path(), &["--share-messages", "20"]);
    let mut flood = from(2, &head);
    let lines: String = (0..400).map(|n| format!("{n}\n")).collect();
    flood.write_all(format!("peticion\n{lines}").as_bytes()).unwrap();
    let begun = Instant::now();
    let answer = told(from(3, &head), 10);
    assert_eq!(answer.lines().count(), 11, "{answer}");
    assert!(begun.elapsed().as_secs_f64() < 4.0, "{:?}", begun.elapsed());
    // What came together in one read counts together: 56 at 20 a second.
    let begun = Instant::now();
    assert_eq!(told(from(4, &head), 56).lines().count(), 57);
    assert!(begun.elapsed().as_secs_f64() > 1.5, "{:?}", begun.elapsed());
}

#[test]
fn who_says_the_same_name_again_and_again_is_through_no_sooner() {
    let dir = tempfile::tempdir().unwrap();
    let head = solo(dir.path(), &["--share-messages", "20"]);
    let begun = Instant::now();
    // The later takes the name from the earlier, whose messages wait for their share.
    let lines: String = (0..160).map(|n| format!("{n}\n")).collect();
    let say = |_| {
        let mut socket = from(2, &head);
        socket.write_all(format!("peticion flood\n{lines}").as_bytes()).unwrap();
        socket.read_exact(&mut [0; "confirmacion\n".len()]).unwrap();
        socket
    };
    let mut sockets: Vec<TcpStream> = (0..6).map(say).collect();
    drop(sockets.pop());
    let mut told = String::new();
    sockets.iter_mut().for_each(|socket| drop(socket.read_to_string(&mut told)));
    let kept = told.lines().filter(|line| line.parse::<u32>().is_ok()).count();
    let most = 2 * 16 + (begun.elapsed().as_secs_f64() * 20.0) as usize;
    assert!(kept <= most, "{kept} of {most}");
    assert!(told.contains("error: another connection said the name flood"), "{told}");
}

#[test]
fn who_finds_much_of_its_share_waiting_is_told_when_to_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let head = solo(dir.path(), &["--share-bytes", "100"]);
    // It takes 600 s of the share, and the next has to wait for it.
    let mut first = from(2, &head);
    first.write_all(format!("peticion\n{}\n", "x".repeat(60_000)).as_bytes()).unwrap();
    let mut answer = [0; 60_000];
    first.read_exact(&mut answer).unwrap();
    let answer = told(from(2, &head), 1);
    let wanted = "confirmacion\nerror: 127.0.0.2 sends more than its share, 100 bytes a second; try again in ";
    assert!(answer.starts_with(wanted) && answer.ends_with(" s\n"), "{answer}");
    assert_eq!(told(from(3, &head), 1), "confirmacion\n0\n");
}

#[test]
fn an_address_has_so_many_connections_and_others_have_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let head = solo(dir.path(), &["--share-connections", "2"]);
    let (first, _second) = (from(2, &head), from(2, &head));
    let mut third = from(2, &head);
    let mut answer = String::new();
    third.read_to_string(&mut answer).unwrap();
    assert_eq!(
        answer,
        "lleno: 2 connections of 127.0.0.2 are open, and it may have no more; close some, or try again later\n"
    );
    assert!(head.log("access.log").contains("refused: 2 connections of 127.0.0.2 are open"));
    assert_eq!(told(from(3, &head), 1), "confirmacion\n0\n");
    drop(first);
    crate::common::eventually("there is room again", || (told(from(2, &head), 1) == "confirmacion\n0\n").then_some(()));
}

#[test]
fn who_reads_everything_reads_it_at_its_share_and_whole() {
    let dir = tempfile::tempdir().unwrap();
    let head = solo(dir.path(), &["--share-reads", "60kB"]);
    // Twelve batches of 16 records of 1 KB.
    let lines: String = (0..192).map(|n| format!("{n:01000}\n")).collect();
    let mut line = from(3, &head);
    line.write_all(format!("peticion\n{lines}").as_bytes()).unwrap();
    let mut answer = vec![0; "confirmacion\n".len() + lines.len()];
    line.read_exact(&mut answer).unwrap();
    let begun = Instant::now();
    let mut command = crate::common::acopio();
    command.args(["read", "--format", "raw", "--head", &format!("127.0.0.1:{}", head.address.port())]);
    let (code, out, err) = crate::common::ran(command);
    assert_eq!((code, out.lines().count()), (Some(0), 192), "{err}");
    assert!(begun.elapsed() > Duration::from_secs(2));
}
