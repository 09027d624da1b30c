//! Reading back through a head, over bare sockets: order, each record once, who is missing, following across failures,
//! and memory that stays flat. Frames are made and read with the project's codec; the answers are checked here.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use crate::common::frames::Frames;
use crate::common::{self, Head, Process, Signal, acopio, eventually, payloads, sending};
use acopio::limits;
use acopio::wire::error::Code;
use acopio::wire::filter::SourceFilter;
use acopio::wire::frame::Frame;
use acopio::wire::id::RecordId;
use acopio::wire::record;
use bytes::Bytes;

#[derive(Clone, Copy)]
struct Wanted {
    from: RecordId,
    until: RecordId,
    follow: bool,
    partial: bool,
}

const ALL: Wanted = Wanted { from: RecordId::ZERO, until: RecordId::MAX, follow: false, partial: false };
const FOLLOW: Wanted = Wanted { follow: true, ..ALL };
const PARTIAL: Wanted = Wanted { partial: true, ..ALL };

/// One connection that reads.
struct Reader {
    frames: Frames,
    /// What has come, checked to be in order.
    lines: Vec<String>,
    waited: Vec<String>,
    /// What it was told that the answer lacks.
    lacks: String,
    next: RecordId,
}

impl Reader {
    fn start(head: &Head, wanted: Wanted) -> Self {
        let frames = Frames::open(head.connect(), b"peticion acopio/2\ncliente\n");
        let mut reader =
            Self { frames, lines: Vec::new(), waited: Vec::new(), lacks: String::new(), next: RecordId::ZERO };
        reader.ask(wanted);
        reader
    }

    fn ask(&mut self, wanted: Wanted) {
        let Wanted { from, until, follow, partial } = wanted;
        self.frames.say(&Frame::Read {
            from,
            until,
            client: None,
            sources: SourceFilter::default(),
            follow,
            partial,
            token: Bytes::new(),
        });
        self.next = from;
    }

    /// The next frame, if it is none of the answer's lines and notices; those are kept.
    fn step(&mut self) -> Option<Frame> {
        match self.frames.hear() {
            Frame::Token(_) => None,
            // What comes later comes in no order of ids.
            Frame::Records { next: RecordId::ZERO, lines } => {
                // A record that was put again, in another ledger, may come twice: readers drop the second.
                for line in std::str::from_utf8(&lines).unwrap().lines() {
                    if self.lines.iter().all(|had| had[..20] != line[..20]) {
                        self.lines.push(line.to_owned());
                    }
                }
                None
            }
            Frame::Records { next, lines } => {
                assert!(next >= self.next, "the answer goes back");
                for line in std::str::from_utf8(&lines).unwrap().lines() {
                    let id: RecordId = line[..20].parse().unwrap();
                    assert!(id >= self.next && id < next, "{line} is not between {} and {next}", self.next);
                    assert!(self.lines.last().is_none_or(|last| last[..20] < line[..20]), "{line} is out of order");
                    self.lines.push(line.to_owned());
                }
                self.next = next;
                None
            }
            Frame::Waiting { nodes } => {
                self.waited.push(nodes);
                None
            }
            Frame::Lacks { missing } => {
                self.lacks = missing;
                None
            }
            other => Some(other),
        }
    }

    /// Reads to the end of the answer; returns who is missing.
    fn end(&mut self) -> String {
        loop {
            match self.step() {
                None => {}
                Some(Frame::ReadEnd { next, missing }) => {
                    assert_eq!(next, self.next.max(next));
                    return missing;
                }
                Some(other) => panic!("{other:?}"),
            }
        }
    }

    /// Follows until so many lines have come.
    fn until_lines(&mut self, count: usize) {
        let deadline = Instant::now() + common::PATIENCE;
        while self.lines.len() < count {
            assert_eq!(self.step(), None);
            assert!(
                Instant::now() < deadline,
                "{} of {count} lines came; waited for {:?}",
                self.lines.len(),
                self.waited
            );
        }
    }

    fn payloads(&self) -> Vec<&str> {
        self.lines.iter().map(|line| line.splitn(5, ' ').nth(4).unwrap()).collect()
    }
}

/// Reads everything; who is missing comes second.
fn read(head: &Head, wanted: Wanted) -> (Reader, String) {
    let mut reader = Reader::start(head, wanted);
    let missing = reader.end();
    (reader, missing)
}

/// Sends so many messages, one after the other, and returns them as they are stored.
fn send(head: &Head, what: &str, count: usize) -> Vec<String> {
    let mut client = head.line();
    (0..count)
        .map(|k| {
            let answer = client.ask(&format!("{what} {k}"));
            assert!(answer.ends_with("recibido"), "{answer}");
            format!("mensaje: {what} {k}")
        })
        .collect()
}

fn sorted<T: Ord + Clone>(all: &[T]) -> Vec<T> {
    let mut all = all.to_vec();
    all.sort();
    all
}

fn cluster(dir: &Path, nodes: u8, more: &[&str]) -> (Head, Vec<Process>) {
    let head = Head::start(dir, more);
    let nodes = (1..=nodes).map(|k| head.node(dir, k, &[])).collect();
    (head, nodes)
}

#[test]
fn a_client_reads_its_messages_in_order_and_any_part_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let (head, _nodes) = cluster(dir.path(), 1, &[]);
    let sent = send(&head, "uno", 100);
    let (mut reader, missing) = read(&head, ALL);
    assert_eq!((reader.payloads(), missing.as_str()), (sent.iter().map(String::as_str).collect(), ""));
    assert_eq!(reader.waited, [""; 0]);
    let on_disk = std::fs::read_to_string(dir.path().join("data1/data.txt")).unwrap();
    let without_sync_mark = |line: &str| {
        let line = record::decode(line.as_bytes()).unwrap();
        (line.fields(), line.text.to_owned())
    };
    let (came, stored): (Vec<_>, Vec<_>) = (
        reader.lines.iter().map(|line| without_sync_mark(line)).collect(),
        on_disk.lines().map(without_sync_mark).collect(),
    );
    assert_eq!(came, stored, "lines as they stand in the file");
    let has_sync_mark = |line: &str| record::decode(line.as_bytes()).unwrap().has_sync_mark;
    assert!(!reader.lines.iter().any(|line| has_sync_mark(line)) && on_disk.lines().skip(1).any(has_sync_mark));
    // Another read on the same connection, and a Ping before it.
    let id = |k: usize| -> RecordId { on_disk.lines().nth(k).unwrap()[..20].parse().unwrap() };
    reader.frames.say(&Frame::Ping(7));
    assert_eq!(reader.frames.hear(), Frame::Pong(7));
    reader.lines.clear();
    reader.ask(Wanted { from: id(10), until: id(20), ..ALL });
    assert_eq!(reader.end(), "");
    assert_eq!(reader.payloads(), sent[10..20]);
    reader.lines.clear();
    reader.ask(Wanted { from: id(99).next(), ..ALL });
    assert_eq!((reader.end(), reader.lines.len()), (String::new(), 0));
}

#[test]
fn three_nodes_make_one_answer_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (head, _nodes) = cluster(dir.path(), 3, &[]);
    let sent = send(&head, "tres", 300);
    let (reader, missing) = read(&head, ALL);
    assert_eq!((reader.payloads(), missing.as_str()), (sent.iter().map(String::as_str).collect(), ""));
}

#[test]
fn copies_are_read_once_also_when_a_node_is_dead() {
    let dir = tempfile::tempdir().unwrap();
    let (head, mut nodes) = cluster(dir.path(), 3, &["--replicas", "2"]);
    let sent = send(&head, "dos", 200);
    assert_eq!(payloads(dir.path()).values().sum::<usize>(), 400);
    assert_eq!(read(&head, ALL).0.payloads(), sent);
    nodes.remove(1).kill();
    head.process.wait_for("dataNode data2 at 127.0.0.3 evicted");
    let (reader, missing) = read(&head, ALL);
    assert_eq!((reader.payloads(), missing.as_str()), (sent.iter().map(String::as_str).collect(), ""));
    assert_eq!(reader.waited, [""; 0], "every record is on another node");
}

#[test]
fn a_node_with_the_only_copy_is_waited_for_named_and_left_out_if_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let (head, mut nodes) = cluster(dir.path(), 2, &[]);
    let sent = send(&head, "solo", 60);
    nodes.remove(1).kill();
    head.process.wait_for("dataNode data2 at 127.0.0.3 evicted");
    let (partial, missing) = read(&head, PARTIAL);
    assert_eq!(missing, "data2");
    assert!(!partial.lines.is_empty() && partial.lines.len() < sent.len());
    assert_eq!(partial.waited, [""; 0], "nobody is waited for");
    assert_eq!(partial.lacks, "data2", "it is said before the first line: this head may be lost");
    let (reader, missing) = read(&head, ALL);
    assert_eq!((missing.as_str(), reader.waited), ("data2", vec!["data2".to_owned()]));
    assert!(reader.lines.is_empty(), "nothing goes out beside a gap");
    let table = acopio().args(["status", "--head", &head.at()]).output().unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.lines().any(|line| line.starts_with("data2 ") && line.contains("no disponible")), "{table}");
    // One that comes back in time is no loss.
    let mut reader = Reader::start(&head, ALL);
    assert_eq!(reader.step(), None);
    assert_eq!(reader.waited, ["data2"]);
    let _again = head.node(dir.path(), 2, &[]);
    assert_eq!((reader.end().as_str(), reader.waited.len()), ("", 2));
    assert_eq!(reader.payloads(), sent);
}

#[test]
fn a_head_that_starts_again_knows_whom_to_wait_for() {
    let dir = tempfile::tempdir().unwrap();
    let (head, mut nodes) = cluster(dir.path(), 2, &[]);
    let sent = send(&head, "antes", 60);
    let address = head.at();
    nodes.remove(0).kill();
    head.process.kill();
    let head = Head::start_at(dir.path(), &address, &[]);
    head.process.wait_for("dataNode data2 registered");
    let mut reader = Reader::start(&head, ALL);
    // The other one counts as here once it has told what it keeps.
    while reader.waited.last().is_none_or(|nodes| nodes != "data1") {
        assert_eq!(reader.step(), None);
    }
    let _again = head.node(dir.path(), 1, &[]);
    assert_eq!((reader.end().as_str(), reader.payloads()), ("", sent.iter().map(String::as_str).collect()));
}

#[test]
fn a_node_that_speaks_text_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (head, _nodes) = cluster(dir.path(), 1, &[]);
    let sent = send(&head, "uno", 5);
    let mut text = head.connect();
    text.write_all(b"peticion\ndataNode\n").unwrap();
    head.process.wait_for("dataNode line-127.0.0.1");
    let (reader, missing) = read(&head, ALL);
    assert_eq!(reader.payloads(), sent);
    assert_eq!(missing, "line-127.0.0.1");
}

#[test]
fn without_data_nodes_a_read_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let mut reader = Reader::start(&head, ALL);
    let end = loop {
        if let Some(frame) = reader.step() {
            break frame;
        }
    };
    assert!(matches!(&end, Frame::Failure(refusal) if refusal.code == Code::NoNodes), "{end:?}");
    assert_eq!(reader.waited, ["dataNodes"]);
}

#[test]
fn a_follower_sees_every_acknowledged_message_across_a_nodes_death_and_return() {
    let dir = tempfile::tempdir().unwrap();
    let (head, mut nodes) = cluster(dir.path(), 2, &[]);
    let mut reader = Reader::start(&head, FOLLOW);
    let mut sent = send(&head, "antes", 50);
    reader.until_lines(50);
    let mut client = head.line();
    for k in 0..100 {
        client.send(&format!("durante {k}"));
    }
    nodes.remove(0).kill();
    for k in 0..100 {
        let answer = client.read();
        assert!(answer.ends_with("recibido"), "{answer}");
        sent.push(format!("mensaje: durante {k}"));
    }
    sent.extend(send(&head, "muerto", 50));
    let _again = head.node(dir.path(), 1, &[]);
    sent.extend(send(&head, "vuelto", 50));
    reader.until_lines(sent.len());
    assert_eq!(sorted(&reader.payloads()), sorted(&sent.iter().map(String::as_str).collect::<Vec<_>>()));
    assert!(reader.waited.iter().all(|nodes| nodes.is_empty() || nodes == "data1"), "{:?}", reader.waited);
}

#[test]
fn a_follower_hears_from_its_head_when_nothing_comes() {
    let dir = tempfile::tempdir().unwrap();
    let (head, _nodes) = cluster(dir.path(), 1, &[]);
    let mut reader = Reader::start(&head, FOLLOW);
    for _ in 0..5 {
        assert_eq!(reader.step(), None);
    }
    assert!(reader.lines.is_empty());
}

#[test]
fn a_follower_at_one_head_sees_what_the_other_takes_also_if_that_stands_still() {
    let (dir, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = Head::start(dir.path(), &[]);
    let second = first.start_beside(logs.path(), &[]);
    let _nodes: Vec<_> = (1..=2).map(|k| first.node(dir.path(), k, &["--head", &second.at()])).collect();
    for k in 1..=2 {
        second.process.wait_for(&format!("dataNode data{k} registered"));
    }
    let mut reader = Reader::start(&first, FOLLOW);
    let mut sent = send(&second, "segundo", 40);
    sent.extend(send(&first, "primero", 40));
    reader.until_lines(80);
    second.process.signal(Signal::STOP);
    sent.extend(send(&first, "parado", 40));
    reader.until_lines(120);
    assert_eq!(sorted(&reader.payloads()), sorted(&sent.iter().map(String::as_str).collect::<Vec<_>>()));
    second.process.signal(Signal::CONT);
    sent.extend(send(&second, "otra vez", 40));
    reader.until_lines(160);
    assert_eq!(sorted(&reader.payloads()), sorted(&sent.iter().map(String::as_str).collect::<Vec<_>>()));
    reader.lines.sort();
    assert_eq!(read(&second, ALL).0.lines, reader.lines);
}

#[test]
fn a_follower_misses_nothing_while_nodes_die_in_turn_under_load_from_two_heads() {
    const COUNT: usize = 6000;
    // What each sender has sent, and the reader got, when a node dies.
    const PART: usize = COUNT / 4;
    let (dir, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = Head::start(dir.path(), &["--replicas", "2"]);
    let second = first.start_beside(logs.path(), &["--replicas", "2"]);
    let start = |k| first.node(dir.path(), k, &["--head", &second.at()]);
    let mut nodes: Vec<_> = (1..=3).map(start).collect();
    for k in 1..=3 {
        second.process.wait_for(&format!("dataNode data{k} registered"));
    }
    let mut reader = Reader::start(&first, FOLLOW);
    let mut senders = Vec::new();
    for (head, what) in [(&first, "uno"), (&second, "dos")] {
        let (send, mut input) = sending(&head.at(), &[]);
        let (more, told) = std::sync::mpsc::channel::<()>();
        let writer = std::thread::spawn(move || {
            for k in 0..COUNT {
                if k > 0 && k % PART == 0 {
                    told.recv().unwrap();
                }
                writeln!(input, "{what} {k:05}").unwrap();
            }
        });
        senders.push((send, writer, more));
    }
    for k in 1..=3_u8 {
        reader.until_lines(usize::from(k) * 2 * PART);
        // The next part comes while this node dies.
        senders.iter().for_each(|(_, _, more)| more.send(()).unwrap());
        nodes.remove(0).kill();
        nodes.push(start(k));
    }
    for (send, writer, _) in senders {
        writer.join().unwrap();
        let output = send.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let seen = |reader: &Reader| reader.payloads().into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
    let deadline = Instant::now() + common::PATIENCE;
    while seen(&reader).len() < 2 * COUNT {
        assert_eq!(reader.step(), None);
        assert!(Instant::now() < deadline, "{} of {} came", seen(&reader).len(), 2 * COUNT);
    }
    assert!(seen(&reader).iter().eq(payloads(dir.path()).keys()));
    // A record that was placed again may come from both ledgers.
    let ids = |reader: &Reader| reader.lines.iter().map(|line| line[..20].to_owned()).collect::<BTreeSet<_>>();
    let (other, missing) = read(&second, ALL);
    let (mine, others) = (ids(&reader), ids(&other));
    let lacks: Vec<_> = mine.iter().filter(|id| !others.contains(id.as_str())).take(5).collect();
    assert!(mine == others, "the other head lacks {lacks:?} of {}, missing {missing:?}", mine.len());
}

#[test]
fn a_reader_too_many_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let (head, _nodes) = cluster(dir.path(), 1, &[]);
    let mut readers: Vec<Reader> = (0..limits::READERS_MAX).map(|_| Reader::start(&head, FOLLOW)).collect();
    for reader in &mut readers {
        assert_eq!(reader.step(), None, "each is served");
    }
    let mut last = Reader::start(&head, ALL);
    let refused = last.frames.hear();
    assert!(matches!(&refused, Frame::Failure(refusal) if refusal.code == Code::Busy && refusal.retry), "{refused:?}");
    readers.truncate(1);
    eventually("a place is free", || {
        let mut reader = Reader::start(&head, ALL);
        matches!(reader.frames.hear(), Frame::ReadEnd { .. }).then_some(())
    });
}

/// While a data node is away nothing is sent to who reads, and that they are gone has to show all the same.
#[test]
fn readers_that_go_while_they_wait_for_a_node_give_their_places_back() {
    let dir = tempfile::tempdir().unwrap();
    let (head, mut nodes) = cluster(dir.path(), 2, &[]);
    send(&head, "solo", 60);
    nodes.remove(1).kill();
    head.process.wait_for("dataNode data2 at 127.0.0.3 evicted");
    let mut readers: Vec<Reader> = (0..limits::READERS_MAX).map(|_| Reader::start(&head, FOLLOW)).collect();
    for reader in &mut readers {
        while reader.waited.is_empty() {
            assert_eq!(reader.step(), None, "each is served");
        }
    }
    drop(readers);
    eventually("a place is free", || {
        let mut reader = Reader::start(&head, PARTIAL);
        matches!(reader.frames.hear(), Frame::Lacks { .. } | Frame::Records { .. }).then_some(())
    });
}

#[test]
fn a_reader_that_does_not_read_slows_nobody_and_memory_stays_flat() {
    const COUNT: usize = 64 * 1024;
    let dir = tempfile::tempdir().unwrap();
    let (head, nodes) = cluster(dir.path(), 2, &[]);
    let (mut send, input) = sending(&head.at(), &[]);
    let mut input = std::io::BufWriter::new(input);
    for k in 0..COUNT {
        writeln!(input, "{k:01000}").unwrap();
    }
    drop(input);
    assert!(send.wait().unwrap().success());
    let before: Vec<u64> = [&head.process, &nodes[0], &nodes[1]].map(Process::peak_kib).into();
    let mut slow = Vec::new();
    for _ in 0..4 {
        // They take their first line and no more.
        let mut reader = Reader::start(&head, ALL);
        assert_eq!(reader.step(), None);
        slow.push(reader);
    }
    let (reader, missing) = read(&head, ALL);
    assert_eq!((reader.lines.len(), missing.as_str()), (COUNT, ""));
    let numbers: BTreeSet<usize> = reader.payloads().iter().map(|text| text.parse().unwrap()).collect();
    assert_eq!(numbers.len(), COUNT);
    let after: Vec<u64> = [&head.process, &nodes[0], &nodes[1]].map(Process::peak_kib).into();
    for (before, after) in before.iter().zip(&after) {
        assert!(after - before < 40 * 1024, "64 MiB were read, and memory grew from {before} to {after} KiB");
    }
    for mut reader in slow {
        assert_eq!((reader.end(), reader.lines.len()), (String::new(), COUNT), "the slow ones get all of it, too");
    }
}
