//! `acopio read` as a process: what it prints, and how it ends.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use crate::common::{Process, Signal, acopio, eventually, ran};
use crate::fake_head::{FakeHead, id, line};
use acopio::wire::frame::Frame;
use acopio::wire::id::ClientId;
use acopio::wire::record::Fields;
use bytes::Bytes;

const ANA: ClientId = ClientId::of_library(7);
const TEXT: ClientId = ClientId::of_connection(5);

fn read(head: &str, more: &[&str]) -> Command {
    let mut command = acopio();
    command.args(["read", "--head", head]).args(more);
    command
}

/// What it prints, if all goes well.
fn printed(head: &str, more: &[&str]) -> String {
    let (code, out, err) = ran(read(head, more));
    assert_eq!((code, err.as_str()), (Some(0), ""), "{more:?}: {out}");
    out
}

/// A message a second, ten of a client of the library and one of text that is no text.
fn ten() -> Vec<Bytes> {
    let mut lines: Vec<Bytes> = (1..=10).map(|k| line(k * 1000, ANA, k, format!("temp, \"{k}\"").as_bytes())).collect();
    // The second copy of the third.
    lines.push(line(5500, ANA, 3, b"temp, \"3\""));
    lines.push(line(3500, TEXT, 1, b"mensaje: \xff\n"));
    lines
}

#[test]
fn it_prints_what_the_flags_say() {
    let (head, _) = FakeHead::new().serve(ten());
    let seqs = |more: &[&str]| -> String {
        let out = printed(&head, more);
        out.lines().map(|line| line.rsplit([' ', ':']).next().unwrap().replace('"', "")).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(seqs(&[]), "1 2 3 \\xff\\n 4 5 6 7 8 9 10");
    assert_eq!(seqs(&["--client", &ANA.to_string()]), "1 2 3 4 5 6 7 8 9 10");
    assert_eq!(seqs(&["--client", &TEXT.to_string()]), "\\xff\\n");
    assert_eq!(seqs(&["--grep", "\"[12]"]), "1 2 10");
    assert_eq!(seqs(&["--since", &id(3000).to_string(), "--until", &id(6000).to_string()]), "3 \\xff\\n 4 5");
    assert_eq!(seqs(&["--since", "2026-05-28 20:26:47", "--until", "2026-05-28T22:26:49+02:00"]), "7 8");
    assert_eq!(seqs(&["--since", "1s"]), "");
    assert_eq!(seqs(&["--last", "3"]), "8 9 10");
    assert_eq!(seqs(&["-n", "100"]), "1 2 3 \\xff\\n 4 5 6 7 8 9 10");
    assert_eq!(seqs(&["--last", "0"]), "");
    let both = ["--last", "2", "--grep", "[1-5]\"", "--until", "2026-05-28 20:26:45"];
    assert_eq!(seqs(&both), "3 4");
    assert_eq!(printed(&head, &["--count"]), "11\n");
    assert_eq!(printed(&head, &["--count", "--grep", "temp"]), "10\n");
    assert_eq!(printed(&head, &["--count", "--last", "4"]), "4\n");
}

#[test]
fn it_prints_every_format() {
    let (head, _) = FakeHead::new().serve(ten());
    let two = ["--since", &id(3000).to_string(), "--until", &id(4000).to_string(), "--format"].map(str::to_owned);
    let format = |name: &str| {
        let more: Vec<&str> = two.iter().map(String::as_str).chain([name]).collect();
        read(&head, &more).output().unwrap().stdout
    };
    assert_eq!(format("raw"), b"temp, \"3\"\nmensaje: \xff\n\n");
    assert_eq!(format("line"), [line(3000, ANA, 3, b"temp, \"3\""), line(3500, TEXT, 1, b"mensaje: \xff\n")].concat());
    let text = String::from_utf8(format("text")).unwrap();
    assert_eq!(text, "2026-05-28T20:26:43.000000Z temp, \"3\"\n2026-05-28T20:26:43.500000Z mensaje: \\xff\\n\n");
    let csv = String::from_utf8(format("csv")).unwrap();
    let wanted = format!(
        "id,time,client,seq,ledger,source,text,base64\r\n\
         {},2026-05-28T20:26:43.000000Z,{ANA},3,,,\"temp, \"\"3\"\"\",\r\n\
         {},2026-05-28T20:26:43.500000Z,'{TEXT},1,,,,bWVuc2FqZTog/wo=\r\n",
        id(3000),
        id(3500)
    );
    assert_eq!(csv, wanted);
    let json = String::from_utf8(format("json")).unwrap();
    let objects: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects[0]["text"], "temp, \"3\"");
    assert_eq!((&objects[1]["base64"], &objects[1]["seq"]), (&"bWVuc2FqZTog/wo=".into(), &1.into()));
    assert!(objects[1].get("text").is_none());
}

#[test]
fn bad_usage_says_what_would_be_right() {
    for (more, wanted) in [
        (&["--since", "someday"][..], "or a time such as '2026-11-21 10:00'"),
        (&["--client", "ana"], "ten characters"),
        (&["--grep", "("], "write a regular expression"),
        (&["--grep", "\\w{99999}"], "write a regular expression"),
        (&["--count", "--follow"], "leave one out"),
    ] {
        let (code, _, err) = ran(read("127.0.0.1:1", more));
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains(wanted), "{err}");
    }
}

#[test]
fn missing_nodes_are_a_failure_unless_it_may_be_partial() {
    for (more, code, wanted) in [
        (&[][..], 1, "acopio: dataNode data2 is missing: what only it keeps cannot be read; start it again"),
        (&["--partial"], 0, "acopio: data2 missing from this answer\n"),
    ] {
        let head = FakeHead::new();
        let reader = Process::start(read(&head.at, more));
        let mut asked = head.accept();
        asked.records(id(1001), &ten()[..1]);
        asked.end(id(1001), "data2");
        asked.closed();
        let (ended, out, err) = reader.finish();
        assert_eq!((ended, out.lines().count()), (Some(code), 1), "{out}{err}");
        assert!(format!("{err}\n").contains(wanted), "{err}");
    }
}

#[test]
fn no_head_is_a_failure_that_says_so() {
    let gone = FakeHead::new().at;
    let (code, out, err) = ran(read(&gone, &["--retry-for", "300ms"]));
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    let at_once = format!("acopio: head {gone}: Connection refused (os error 111); trying again for 300ms\n");
    assert!(err.starts_with(&at_once), "{err}");
    assert!(err.contains(&gone) && err.contains("see that a head runs there"), "{err}");
}

#[test]
fn a_damaged_line_is_told_and_fails_at_the_end() {
    let mut lines = ten();
    lines[4] = Bytes::from([&lines[4][..40], b"X", &lines[4][41..]].concat());
    let (head, _) = FakeHead::new().serve(lines);
    let (code, out, err) = ran(read(&head, &["--grep", "temp"]));
    assert_eq!((code, out.lines().count()), (Some(1), 9), "{err}");
    assert!(err.contains(&id(5000).to_string()) && err.contains("damaged"), "{err}");
}

/// A reader whose output is read here.
fn reading(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Exit code and standard error.
fn ended(mut child: Child) -> (Option<i32>, String) {
    let status = eventually("the reader ends", || child.try_wait().unwrap());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    (status.code(), err)
}

fn interrupt(child: &Child) {
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, Signal::INT).unwrap();
}

#[test]
fn it_follows_until_it_is_interrupted() {
    let (one, two) = (FakeHead::new(), FakeHead::new());
    let mut child = reading(read(&format!("{},{}", one.at, two.at), &["--follow", "--format", "raw"]));
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut asked = one.accept();
    assert!(asked.query.follow);
    for k in 1..=3 {
        asked.records(id(k * 10).next(), &[line(k * 10, TEXT, k, format!("n{k}").as_bytes())]);
        assert_eq!(out.next().unwrap().unwrap(), format!("n{k}"), "it comes while nothing else does");
    }
    drop(asked);
    let mut asked = two.accept();
    assert_eq!(asked.query.from, id(30).next());
    asked.waiting("data2");
    asked.waiting("");
    asked.records(id(41), &[line(40, TEXT, 4, b"n4")]);
    assert_eq!(out.next().unwrap().unwrap(), "n4");
    interrupt(&child);
    let (code, err) = ended(child);
    assert_eq!(code, Some(0), "{err}");
    let told: Vec<&str> = err.lines().collect();
    let lost = format!("acopio: head {}: it closed the connection; going on with the next that answers", one.at);
    let waits = "acopio: waiting for data2; start what is away again";
    assert_eq!(told, [lost.as_str(), waits, "acopio: all data nodes are there again; going on"]);
}

#[test]
fn the_last_and_then_what_comes() {
    let head = FakeHead::new();
    let lines = ten();
    let mut child = reading(read(&head.at, &["--follow", "--last", "2", "--grep", "temp", "--format", "raw"]));
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    // All is long ago: nothing, nothing, and then all of it.
    let mut asked = head.accept();
    while asked.query.from > id(0) {
        assert!(!asked.query.follow);
        asked.end(asked.query.from, "");
        asked = head.accept();
    }
    asked.records(id(11_000), &lines[..10]);
    asked.end(asked.query.until, "");
    let mut asked = head.accept();
    assert!(asked.query.follow);
    asked.records(id(11_000), &lines[..10]);
    for wanted in ["temp, \"9\"", "temp, \"10\""] {
        assert_eq!(out.next().unwrap().unwrap(), wanted);
    }
    // What was there is all sent, and what comes follows.
    asked.send(&Frame::Token(Bytes::from_static(b" ")));
    let later = acopio::wire::id::RecordId { time_ns: 4_000_000_000_000_000_000, incarnation: 1 };
    let mut new = Vec::new();
    acopio::wire::record::encode(
        &mut new,
        Fields { id: later, client: TEXT, seq: 9, place: None, source: None },
        b"a new temp",
    )
    .unwrap();
    asked.records(later.next(), &[new.into()]);
    assert_eq!(out.next().unwrap().unwrap(), "a new temp");
    interrupt(&child);
    assert_eq!(ended(child).0, Some(0));
}

#[test]
fn who_reads_the_output_may_stop_or_stand_still() {
    let endless = |head: &FakeHead| {
        let mut asked = head.accept();
        std::thread::spawn(move || {
            for k in 1.. {
                let frame =
                    acopio::wire::frame::Frame::Records { next: id(k).next(), lines: line(k, TEXT, k, &[b'x'; 999]) };
                let mut out = bytes::BytesMut::new();
                frame.encode(&mut out).unwrap();
                if asked.raw(&out).is_err() {
                    return;
                }
            }
        })
    };
    // As `| head -1`.
    let head = FakeHead::new();
    let mut child = reading(read(&head.at, &[]));
    let writer = endless(&head);
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    out.read_line(&mut first).unwrap();
    assert!(first.ends_with("xxx\n"));
    drop(out);
    assert_eq!(ended(child), (Some(0), String::new()));
    writer.join().unwrap();
    // As `| less`, and then Ctrl-C.
    let mut child = reading(read(&head.at, &["--follow"]));
    let writer = endless(&head);
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut first).unwrap();
    let pid = child.id();
    let mut before = String::new();
    eventually("it waits for who reads its output", || {
        let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
        std::mem::replace(&mut before, io.clone()).eq(&io).then_some(())
    });
    interrupt(&child);
    assert_eq!(ended(child), (Some(0), String::new()));
    drop(out);
    writer.join().unwrap();
}
