//! Records that no head took: whoever holds a data node, or its disk, can write lines with right checksums. No reader, no
//! follower and no other node gets them, and who sends them is named.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use acopio::wire::filter::SourceFilter;
use acopio::wire::frame::{Frame, Held, HoldState};
use acopio::wire::id::{RecordId, put_fixed};
use acopio::wire::ledger::{LedgerId, NodeId};
use acopio::wire::record::{self, Fields, LineError, Tag};
use bytes::Bytes;

use crate::common::frames::{Frames, NODE_OPENING};
use crate::common::{Head, Process, acopio, eventually, ran};

/// What is said of a node that sends what no head took.
const OF_NO_HEAD: &str = "it sends records that no head with this key took";

/// The same line with the checksum that its bytes have.
fn mended(line: &str) -> String {
    let mut line = line.to_owned();
    match record::decode(line.as_bytes()) {
        Ok(_) => line,
        Err(LineError::Checksum { computed, .. }) => {
            let mut digits = [0; 6];
            put_fixed(&mut digits, computed.into());
            let at = line.match_indices(' ').nth(2).unwrap().0 + 1;
            line.replace_range(at..at + 6, std::str::from_utf8(&digits).unwrap());
            record::decode(line.as_bytes()).unwrap();
            line
        }
        Err(other) => panic!("{line}: {other}"),
    }
}

/// The word behind the entry, with its sign.
fn tag(line: &str) -> String {
    let third = line.split(' ').nth(2).unwrap();
    third[third.find('~').expect("a head marks what it takes")..].to_owned()
}

/// Another message in the record.
fn changed(line: &str) -> String {
    mended(&line.replace("mensaje", "mentira"))
}

/// Does this to the records of a node that is not running; lines with a right checksum come of it.
fn forge(dir: &Path, k: u8, with: impl FnOnce(Vec<String>) -> Vec<String>) {
    let path = file(dir, k);
    let lines = std::fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
    let lines: String = with(lines).into_iter().map(|line| line + "\n").collect();
    std::fs::write(path, lines).unwrap();
}

fn file(dir: &Path, k: u8) -> PathBuf {
    dir.join(format!("data{k}/data.txt"))
}

/// A cluster whose nodes have keys of their names alone: members that were let in.
struct Cluster {
    dir: tempfile::TempDir,
    head: Head,
    key: String,
}

impl Cluster {
    fn new(replicas: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("cluster.key").to_str().unwrap().to_owned();
        let mut command = acopio();
        command.args(["key", "new", &key]);
        assert_eq!(ran(command).0, Some(0));
        let head = Head::start(dir.path(), &["--key", &key, "--replicas", replicas]);
        Self { dir, head, key }
    }

    fn node(&self, k: u8) -> Process {
        let path = self.dir.path().join(format!("data{k}.key")).to_str().unwrap().to_owned();
        if !Path::new(&path).exists() {
            let mut command = acopio();
            command.args(["key", "node", &format!("data{k}"), &path, "--key", &self.key]);
            assert_eq!(ran(command).0, Some(0));
        }
        self.head.node(self.dir.path(), k, &["--key", &path])
    }

    fn send(&self, messages: usize) -> BTreeSet<String> {
        self.head.line().send_all("numero", messages).into_iter().collect()
    }

    /// What a reader gets, its exit code, and what it is told.
    fn read(&self) -> (Vec<String>, Option<i32>, String) {
        let mut command = acopio();
        command.args(["read", "--format", "raw", "--head", &self.head.at()]);
        let (code, out, err) = ran(command);
        (out.lines().map(str::to_owned).collect(), code, err)
    }

    fn check(&self, what: &[&str]) -> (Option<i32>, String) {
        let mut command = acopio();
        command.args(what).args(["--key", &self.key]);
        let (code, out, _) = ran(command);
        (code, out)
    }
}

#[test]
fn a_thousand_forged_messages_reach_nobody_and_their_node_is_named() {
    let cluster = Cluster::new("1");
    let node = cluster.node(1);
    let sent = cluster.send(1_000);
    assert_eq!(cluster.read().0.into_iter().collect::<BTreeSet<_>>(), sent);
    drop(node);
    forge(cluster.dir.path(), 1, |lines| lines.iter().map(|line| changed(line)).collect());
    // Nothing but a tag tells: checksums, ids, numbers and entries are right.
    let folder = cluster.dir.path().join("data1").to_str().unwrap().to_owned();
    let mut command = acopio();
    command.args(["verify", &folder]);
    assert_eq!(ran(command).0, Some(0));
    let _node = cluster.node(1);
    let (read, code, told) = cluster.read();
    assert_eq!((read.len(), code), (0, Some(1)), "{told}");
    assert!(told.contains("data1") && told.contains(OF_NO_HEAD), "{told}");
    let (code, said) = cluster.check(&["verify", &folder]);
    assert!(code == Some(1) && said.contains("1000 records are forged"), "{said}");
    assert!(said.contains("its tag is not that of its contents") && said.contains("Forged in "), "{said}");
    let logs = cluster.head.logs.to_str().unwrap().to_owned();
    let (code, said) = cluster.check(&["audit", "--registro", &logs, "--data", &folder]);
    assert!(code == Some(1) && said.contains("forged                   1000"), "{said}");
    assert!(said.contains("missing                  1000"), "{said}");
    // It is said once, and counted.
    assert_eq!(cluster.head.process.count(OF_NO_HEAD), 1);
    let status = cluster.head.status();
    assert_eq!(status["nodes"][0]["refused_records"], 1_000, "{status}");
}

#[test]
fn each_kind_of_forgery_is_told_from_the_records_beside_it() {
    let cluster = Cluster::new("1");
    let node = cluster.node(1);
    let mut sent = cluster.send(20);
    drop(node);
    let mut forged = BTreeSet::new();
    forge(cluster.dir.path(), 1, |mut lines| {
        let payload = |line: &str| line.splitn(5, ' ').last().unwrap().to_owned();
        // A payload is another one.
        forged.insert(payload(&lines[2]));
        lines[2] = changed(&lines[2]);
        // The tag is not there.
        forged.insert(payload(&lines[5]));
        lines[5] = mended(&lines[5].replace(&tag(&lines[5]), ""));
        // The tag is that of another entry, and that one's is this one's.
        let (one, other) = (tag(&lines[8]), tag(&lines[9]));
        forged.extend([payload(&lines[8]), payload(&lines[9])]);
        (lines[8], lines[9]) = (mended(&lines[8].replace(&one, &other)), mended(&lines[9].replace(&other, &one)));
        // A record is invented, as the next entry.
        let last = record::decode(lines.last().unwrap().as_bytes()).unwrap();
        let mut line = Vec::new();
        let mut fields: Fields = last.fields();
        fields = fields.plus(1);
        record::encode_tagged(&mut line, fields, Some(Tag::from_bits(7)), b"mensaje: nunca").unwrap();
        line.pop();
        lines.push(String::from_utf8(line).unwrap());
        lines
    });
    let _node = cluster.node(1);
    sent.retain(|message| !forged.contains(message));
    assert_eq!(sent.len(), 16);
    let (read, code, told) = cluster.read();
    assert_eq!(read.into_iter().collect::<BTreeSet<_>>(), sent, "{told}");
    assert!(code == Some(1) && told.contains("data1") && told.contains("no head with this key"), "{told}");
    let (code, said) = cluster.check(&["verify", cluster.dir.path().join("data1").to_str().unwrap()]);
    assert!(code == Some(1) && said.contains("5 records are forged"), "{said}");
    for flaw in ["it has no tag of a head", "its tag is not that of its contents"] {
        assert!(said.contains(flaw), "{said}");
    }
}

#[test]
fn what_one_node_forges_is_read_and_mended_from_another() {
    let cluster = Cluster::new("3");
    let nodes: Vec<Process> = (1..=3).map(|k| cluster.node(k)).collect();
    cluster.head.wait_in_cluster(3);
    let sent = cluster.send(50);
    drop(nodes);
    let before = std::fs::read_to_string(file(cluster.dir.path(), 1)).unwrap();
    // The first has lost a record to rot, and fetches it; the second has others in the place of all.
    forge(cluster.dir.path(), 1, |mut lines| {
        lines[30] = lines[30].replace("numero", "NUMERO");
        lines
    });
    forge(cluster.dir.path(), 2, |lines| lines.iter().map(|line| changed(line)).collect());
    let _liar = cluster.node(2);
    let _lacks = cluster.node(1);
    eventually("it is mended from neither", || {
        let (read, _, told) = cluster.read();
        assert!(!read.iter().any(|message| message.contains("mentira")), "{told}");
        (cluster.head.process.count(OF_NO_HEAD) > 0).then_some(())
    });
    let _right = cluster.node(3);
    let wanted = record::decode(before.lines().nth(30).unwrap().as_bytes()).unwrap();
    eventually("the record is fetched from who has it", || {
        let text = std::fs::read_to_string(file(cluster.dir.path(), 1)).unwrap();
        assert!(!text.contains("mentira"), "no forged copy gets to another node");
        let is_it = |line: &str| {
            record::decode(line.as_bytes()).is_ok_and(|line| (line.entry(), line.tag) == (wanted.entry(), wanted.tag))
        };
        text.lines().any(is_it).then_some(())
    });
    // All but one answer, and they have everything.
    let (read, code, told) = cluster.read();
    assert_eq!((code, told.as_str()), (Some(0), ""));
    assert!(sent.is_subset(&read.into_iter().collect()));
}

/// What a key file says behind its remark.
fn digits(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap().split_whitespace().last().unwrap().to_owned()
}

#[test]
fn records_of_a_former_key_are_believed_and_those_of_a_lost_one_when_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let key = |name: &str| {
        let path = dir.path().join(name);
        let mut command = acopio();
        command.args(["key", "new"]).arg(&path);
        assert_eq!(ran(command).0, Some(0));
        path
    };
    let (old, new, alone) = (key("old"), key("new"), key("alone"));
    let both = std::fs::read_to_string(&new).unwrap() + &format!("former {}\n", digits(&old));
    std::fs::write(&new, both).unwrap();
    let read = |key: &Path, more: &[&str], sends: &str| {
        // On one machine nobody is asked for a key that the head seems to have made.
        let head = Head::start(dir.path(), &[&["--own-key", key.to_str().unwrap()], more].concat());
        let _node = head.node(dir.path(), 1, &[]);
        if !sends.is_empty() {
            head.line().send_all(sends, 3);
        }
        let mut command = acopio();
        command.args(["read", "--format", "raw", "--head", &head.at()]);
        let (code, out, err) = ran(command);
        (out.lines().count(), code, err)
    };
    assert_eq!(read(&old, &[], "uno"), (3, Some(0), String::new()));
    assert_eq!(read(&new, &[], "dos"), (6, Some(0), String::new()), "the key of before is in the file");
    let (lines, code, told) = read(&alone, &[], "tres");
    assert!((lines, code) == (3, Some(1)) && told.contains(OF_NO_HEAD), "{told}");
    assert_eq!(read(&alone, &["--unproved-before", "2100-01-01"], ""), (9, Some(0), String::new()));
}

/// A data node that says what it is told to of what it was given.
struct Liar {
    frames: Frames,
    /// The lines that it should have, and the ledger.
    lines: Vec<Vec<u8>>,
    ledger: LedgerId,
    follow: Option<u32>,
}

impl Liar {
    /// Deals with what every node is told, and keeps what it is given.
    fn deals_with(&mut self, frame: Frame) {
        if self.frames.notes(&frame) {
            return;
        }
        match frame {
            Frame::Put { first, client, first_seq, place, source, tags, messages, .. } => {
                let first = Fields { id: first, client, seq: first_seq, place: Some(place), source };
                self.ledger = place.ledger(first.id);
                for ((k, payload), tag) in (0..).zip(&messages).zip(tags.iter()) {
                    let mut line = Vec::new();
                    record::encode_tagged(&mut line, first.plus(k), Some(tag), payload).unwrap();
                    self.lines.push(line);
                }
                let count = self.lines.len() as u32;
                let held = Held {
                    ledger: self.ledger,
                    members: vec![NodeId(7)],
                    member: true,
                    state: HoldState::Open,
                    from: 0,
                    end: count,
                    count,
                    lacking: Vec::new(),
                };
                self.frames.say(&Frame::Holds { more: false, gone: Vec::new(), held: vec![held] });
                self.frames.say(&Frame::PutAck { up_to: 1, sync: acopio::wire::frame::SyncMode::Always });
            }
            Frame::Scan { request, until, .. } => {
                let greatest = RecordId::ZERO;
                self.frames.say(&Frame::Page { request, next: until, greatest, rotten: 0, lines: Bytes::new() });
            }
            Frame::Follow { request, .. } => self.follow = Some(request),
            Frame::Credit { .. } | Frame::Close { .. } => {}
            other => panic!("{other:?}"),
        }
    }

    fn until(&mut self, mut is: impl FnMut(&Self) -> bool) {
        while !is(self) {
            let frame = self.frames.hear();
            self.deals_with(frame);
        }
    }

    /// Sends a follower these lines as the first entries.
    fn push(&mut self, lines: &[u8]) {
        let (request, ledger) = (self.follow.unwrap(), self.ledger);
        self.frames.say(&Frame::Pushed { request, ledger, entries: 0..2, lines: lines.to_vec().into() });
    }
}

#[test]
fn what_a_node_pushes_that_no_head_took_reaches_no_follower_and_leaves_room_for_what_did() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let mut frames = Frames::open(head.connect(), NODE_OPENING);
    frames.as_node(7, "mentiroso");
    let mut liar = Liar { frames, lines: Vec::new(), ledger: LedgerId::default(), follow: None };
    let mut client = head.line();
    client.send("uno\ndos");
    liar.until(|liar| liar.lines.len() == 2);
    let mut reader = Frames::open(head.connect(), b"peticion acopio/2\ncliente\n");
    reader.say(&Frame::Read {
        from: RecordId::ZERO,
        until: RecordId::MAX,
        client: None,
        sources: SourceFilter::default(),
        follow: true,
        partial: false,
        // Behind the beginning: everything is pushed.
        token: Bytes::from_static(b" "),
    });
    liar.until(|liar| liar.follow.is_some());
    let right = liar.lines.clone();
    let [one, two] = [&right[0], &right[1]].map(|line| String::from_utf8(line.clone()).unwrap().trim_end().to_owned());
    let swapped = mended(&two.replace(&tag(&two), &tag(&one)));
    let bare = mended(&one.replace(&tag(&one), ""));
    for lie in [changed(&one), swapped, bare] {
        liar.push((lie + "\n").as_bytes());
    }
    let told = reader.hear_but(|_, frame| match frame {
        Frame::Waiting { nodes } => nodes.is_empty(),
        Frame::Records { lines, .. } => {
            assert_eq!(&lines[..], b"");
            true
        }
        _ => true,
    });
    let Frame::Waiting { nodes } = told else { panic!("{told:?}") };
    assert!(nodes.starts_with("mentiroso (it sends records that no head with this key took"), "{nodes}");
    // The entries are still wanted.
    liar.push(&right.concat());
    let came = reader.hear_but(|_, frame| !matches!(frame, Frame::Records { lines, .. } if !lines.is_empty()));
    let Frame::Records { lines, .. } = came else { panic!("{came:?}") };
    assert_eq!(&lines[..], right.concat());
    let line = head.process.wait_for("dataNode mentiroso: it sends records that no head with this key took");
    assert!(line.contains("passed on to nobody"), "{line}");
    assert_eq!(head.status()["nodes"][0]["refused_records"], 3);
}
