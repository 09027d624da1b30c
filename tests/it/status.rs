//! `acopio status`: what the head tells of itself and its data nodes.

use std::io::BufRead as _;
use std::net::TcpListener;
use std::process::Stdio;

use crate::common::{Head, Port, Process, acopio, eventually, ran};
use serde_json::Value;

/// Exit code, standard output and standard error of `acopio status`.
fn status(head: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let mut command = acopio();
    command.args(["status", "--head", head]).args(more);
    ran(command)
}

fn node<'a>(report: &'a Value, name: &str) -> Option<&'a Value> {
    report["nodes"].as_array().unwrap().iter().find(|node| node["name"] == name)
}

#[test]
fn json_has_every_field_and_counts_grow() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--max-clients", "7"]);
    let _one = head.node(dir.path(), 1, &[]);
    let before = head.status();
    assert_eq!(before["clients_max"], 7);
    assert_eq!(before["acked_messages"], 0);
    assert_eq!(node(&before, "data1").unwrap()["records"], 0);
    let mut client = head.line();
    for k in 0..20 {
        assert_eq!(client.ask(&format!("numero {k}")), "127.0.0.2 , mensaje: recibido");
    }
    // A node tells of its records within a second or so.
    let after = eventually("the records are told", || {
        Some(head.status()).filter(|report| node(report, "data1").is_some_and(|node| node["records"] == 20))
    });
    assert_eq!(after["clients"], 1, "who asks for the status takes no place: {after}");
    assert_eq!((&after["acked_messages"], &after["refused_messages"]), (&20.into(), &0.into()));
    assert_eq!((&after["in_flight"], &after["solo"]), (&0.into(), &false.into()));
    assert!(after["rate_1s"].is_f64() && after["rate_10s"].as_f64().unwrap() > 0.0, "{after}");
    assert_eq!(after["version"], env!("CARGO_PKG_VERSION"));
    assert!(after["uptime_s"].is_u64());
    let data1 = node(&after, "data1").unwrap();
    assert_eq!((&data1["ip"], &data1["state"]), (&"127.0.0.2".into(), &"disponible".into()));
    assert_eq!((&data1["writable"], &data1["reason"], &data1["sync"]), (&true.into(), &"".into(), &"always".into()));
    assert_eq!((&data1["acked"], &data1["in_flight"], &data1["dialect"]), (&20.into(), &0.into(), &"framed".into()));
    let on_disk = std::fs::metadata(dir.path().join("data1/data.txt")).unwrap().len();
    assert_eq!(data1["bytes"], on_disk);
    let since = data1["since"].as_str().unwrap();
    assert!(since.len() >= 20 && since.as_bytes()[10] == b'T' && since.ends_with('Z'), "{since}");
    assert!(
        std::fs::read_to_string(dir.path().join("data1/node.state")).unwrap().contains(data1["id"].as_str().unwrap())
    );
}

#[test]
fn the_table_is_for_people() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let (code, empty, _) = status(&head.at(), &[]);
    assert_eq!(code, Some(0));
    assert!(empty.contains("no hay dataNodes: start one with 'acopio data --head"), "{empty}");
    let _two = head.node(dir.path(), 2, &[]);
    let _one = head.node(dir.path(), 1, &[]);
    assert_eq!(head.line().ask("hola").rsplit(' ').next(), Some("recibido"));
    let (code, table, _) = status(&head.at(), &[]);
    assert_eq!(code, Some(0));
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let titles = rows.iter().position(|row| row.first() == Some(&"NODE")).expect(&table);
    assert_eq!(rows[titles], ["NODE", "STATE", "SINCE", "RECORDS", "BYTES", "WRITTEN", "FREE", "IP"]);
    for (row, (name, ip)) in [("data1", "127.0.0.2"), ("data2", "127.0.0.3")].into_iter().enumerate() {
        let row = &rows[titles + 1 + row];
        assert!(row.starts_with(&[name, "disponible"]) && row.ends_with(&[ip]), "{table}");
        assert!(row[row.len() - 2].ends_with("iB"), "what its disk has left: {table}");
    }
    assert!(table.starts_with(&format!("head       {}, acopio ", head.at())), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    assert!(table.contains("messages   1 acknowledged, 0 refused, 0 in flight\n"), "{table}");
    assert!(table.contains("clients    ") && table.contains(" of 100\n") && table.contains("rate  "), "{table}");
}

/// As `| head -3` leaves it: nobody reads, and there is no head whose answers would show it.
#[test]
fn who_only_shows_something_ends_when_nobody_reads_it_though_there_is_no_head() {
    let nobody = Port::reserve();
    for words in [&["status", "--watch=100ms"][..], &["read", "--follow"]] {
        let mut command = acopio();
        command.args(words).args(["--head", &nobody.at()]).stdin(Stdio::null());
        let mut shows = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop((shows.stdout.take(), shows.stderr.take()));
        let status = eventually("it ends", || shows.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{words:?}");
    }
}

#[test]
fn a_watch_goes_on_without_its_head() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let mut command = acopio();
    command.args(["status", "--head", &head.at(), "--watch=100ms", "--format", "json"]);
    let mut watch = Process::start(command);
    // To the end: nobody prints into a pipe that nobody reads.
    let mut out = watch.stdout();
    for _ in 0..2 {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let report: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&report["head"], &report["clients"]), (&head.at().into(), &0.into()));
    }
    drop(head);
    watch.wait_for("; see that a head runs there");
}

#[test]
fn a_dead_node_is_no_longer_listed() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let one = head.node(dir.path(), 1, &[]);
    let _two = head.node(dir.path(), 2, &[]);
    assert!(node(&head.status(), "data1").is_some());
    one.kill();
    head.process.wait_for("dataNode data1 at 127.0.0.2 evicted");
    let report = head.status();
    assert!(node(&report, "data1").is_none() && node(&report, "data2").is_some(), "{report}");
}

#[test]
fn without_a_head_it_says_so() {
    let port = Port::reserve();
    let nobody = port.at();
    let (code, out, err) = status(&nobody, &[]);
    assert_eq!((code, out.as_str(), err.lines().count()), (Some(1), "", 1), "{err}");
    assert!(err.contains(&nobody) && err.contains("; see that a head runs there"), "{err}");
}

#[test]
fn a_listener_that_never_answers_is_given_up() {
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = mute.local_addr().unwrap().to_string();
    let (code, _, err) = status(&at, &["--timeout", "300ms"]);
    assert_eq!((code, err.lines().count()), (Some(1), 1), "{err}");
    assert!(err.contains(&at) && err.contains("did not answer within 300ms; "), "{err}");
}

#[test]
fn the_next_head_is_asked_when_the_first_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let nobody = Port::reserve();
    assert_eq!(status(&format!("{},{}", nobody.at(), head.at()), &[]).0, Some(0));
}
