//! The line dialect: netcat and scripts, pipelined, answered in order, in batches.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::common::{Head, eventually, payloads, verify_clean};

const ANSWER: &str = "127.0.0.2 , mensaje: recibido\n";

#[test]
fn the_readmes_line_with_netcat_prints_confirmacion_and_two_answers() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    // Under a name that no other netcat has, where the system tells them apart.
    let nc = |name| {
        let mut nc = Command::new(name);
        nc.args(["-N", "127.0.0.1", &head.address.port().to_string()]);
        nc.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
    };
    let nc = nc("nc.openbsd").or_else(|_| nc("nc"));
    let mut nc = nc.expect("nc, from the package netcat-openbsd, is needed");
    nc.stdin.take().unwrap().write_all(b"peticion\nhola\nadios\n").unwrap();
    let output = nc.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("confirmacion\n{ANSWER}{ANSWER}"));
}

#[test]
fn a_pipelined_client_is_answered_in_order_and_stored_in_batches() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let nodes: Vec<_> = (1..=3).map(|k| head.node(dir.path(), k, &[])).collect();
    // A node that has settled nothing is given one batch and no more: all have to have shown that they settle.
    let mut proven = std::collections::BTreeSet::new();
    let mut first = head.line();
    eventually("each node has settled a message", || {
        proven.insert(first.ask("primera"));
        (proven.len() == 3).then_some(())
    });
    let mut input = b"peticion\n".to_vec();
    for k in 0..20_000 {
        writeln!(input, "linea {k}").unwrap();
    }
    let (reader, writer) = (head.connect(), input);
    let mut socket = reader.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        socket.write_all(&writer).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(reader));
    assert_eq!(lines.next().unwrap().unwrap(), "confirmacion");
    let answers: Vec<String> = lines.map(Result::unwrap).collect();
    sender.join().unwrap();
    assert_eq!(answers.len(), 20_000);
    assert!(answers.iter().all(|answer| answer.ends_with(" , mensaje: recibido")));
    let kept = payloads(dir.path());
    assert_eq!(kept.len(), 20_001);
    assert!((0..20_000).all(|k| kept.get(&format!("mensaje: linea {k}")) == Some(&1)));
    for k in 1..=3 {
        let share = std::fs::read_to_string(dir.path().join(format!("data{k}/data.txt"))).unwrap().lines().count();
        assert!((5_000..8_500).contains(&share), "data{k} has {share}: the choice is uniform");
    }
    let acknowledgements = head.log("registro.log").lines().count();
    assert!(acknowledgements < 20_000 / 10, "{acknowledgements} acknowledgements for 20,000 messages are no batches");
    drop(nodes);
    verify_clean(dir.path(), &["data1", "data2", "data3"]);
}

#[test]
fn a_line_that_a_reset_cuts_off_is_no_message() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let mut cut = head.line();
    assert_eq!(cut.ask("entera"), ANSWER.trim_end());
    let mut socket = head.connect();
    socket.write_all(b"peticion\notra\nmed").unwrap();
    let mut answers = String::new();
    while answers.len() < "confirmacion\n".len() + ANSWER.len() {
        let mut bytes = [0; 256];
        let count = socket.read(&mut bytes).unwrap();
        answers.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    // A close without lingering is a reset.
    socket2::SockRef::from(&socket).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(socket);
    for k in 0..20 {
        assert_eq!(cut.ask(&format!("despues {k}")), ANSWER.trim_end());
    }
    let kept = payloads(dir.path());
    assert!(!kept.contains_key("mensaje: med"), "{kept:?}");
    assert_eq!(kept.len(), 22);
}

#[test]
fn carriage_returns_and_a_last_line_without_newline_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    assert_eq!(head.nc(b"peticion\r\nuno\r\ndos"), format!("confirmacion\n{ANSWER}{ANSWER}"));
    assert_eq!(payloads(dir.path()).keys().collect::<Vec<_>>(), ["mensaje: dos", "mensaje: uno"]);
}
