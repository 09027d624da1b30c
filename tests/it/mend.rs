//! Mending: a line that rotted on one node is fetched again from another, wherever in it the rot is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::common::{Head, Process, Signal, acopio, data_files, eventually, sealed_files, verify_clean};
use acopio::wire::record;

const SMALL: &[&str] = &["--segment-bytes", "4096"];

/// Sends so many messages; all have to be acknowledged.
fn send(head: &Head, messages: usize) -> BTreeSet<String> {
    send_more(head, 0..messages)
}

fn send_more(head: &Head, messages: std::ops::Range<usize>) -> BTreeSet<String> {
    let texts: BTreeSet<String> = messages.map(|k| format!("mensaje numero {k}")).collect();
    let mut client = head.line();
    for text in &texts {
        let answer = client.ask(text);
        assert!(answer.ends_with(" , mensaje: recibido"), "{text}: {answer}");
    }
    texts
}

/// What a reader of the whole cluster gets, which has to be complete.
fn read(head: &Head) -> BTreeSet<String> {
    let output = acopio().args(["read", "--head", &head.at()]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.split_once("mensaje: ").unwrap().1.to_owned()).collect()
}

/// The sealed files of a node, oldest first.
fn sealed(dir: &Path, k: u8) -> Vec<PathBuf> {
    sealed_files(&dir.join(format!("data{k}")))
}

/// How many good lines each record has on each node.
fn good(dir: &Path) -> BTreeMap<String, BTreeMap<u8, usize>> {
    let mut held = BTreeMap::<String, BTreeMap<u8, usize>>::new();
    for k in 1..=3 {
        for file in data_files(&dir.join(format!("data{k}"))) {
            let bytes = std::fs::read(file).unwrap_or_default();
            for line in bytes.split(|byte| *byte == b'\n') {
                if let Ok(line) = record::decode(line) {
                    *held.entry(line.id.to_string()).or_default().entry(k).or_default() += 1;
                }
            }
        }
    }
    held
}

/// A part of a line.
#[derive(Clone, Copy, Debug)]
enum Part {
    Id,
    Names,
    Crc,
    Payload,
    Newline,
    /// The payload gets a newline in the middle.
    Cut,
    /// Nothing but zeros, newline and all.
    All,
}

/// Lets line `number` of a file rot. The answer is the ids that were there.
fn rot(file: &Path, number: usize, part: Part) -> Vec<String> {
    use std::os::unix::fs::FileExt;
    let bytes = std::fs::read(file).unwrap();
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let start: usize = lines[..number].iter().map(|line| line.len()).sum();
    let line = lines[number];
    let text = std::str::from_utf8(line).unwrap();
    let fields: Vec<usize> = text.match_indices(' ').map(|(at, _)| at).collect();
    let (at, new) = match part {
        Part::Id => (12, vec![line[12] ^ 1]),
        Part::Names => (fields[2] - 2, vec![line[fields[2] - 2] ^ 1]),
        Part::Crc => (fields[2] + 3, vec![line[fields[2] + 3] ^ 1]),
        Part::Payload => (line.len() - 4, vec![line[line.len() - 4] ^ 1]),
        Part::Newline => (line.len() - 1, b"J".to_vec()),
        Part::Cut => (line.len() - 8, b"\n".to_vec()),
        Part::All => (0, vec![0; line.len()]),
    };
    // Only these bytes: the node may be writing elsewhere.
    let open = std::fs::OpenOptions::new().write(true).open(file).unwrap();
    open.write_all_at(&new, (start + at) as u64).unwrap();
    // Without its newline it takes the next one with it.
    let joined = usize::from(matches!(part, Part::Newline | Part::All));
    lines[number..=number + joined].iter().map(|line| String::from_utf8(line[..20].to_vec()).unwrap()).collect()
}

/// Both copies of each are there.
fn is_mended(dir: &Path, ids: &[String]) -> Option<()> {
    let held = good(dir);
    ids.iter().all(|id| held.get(id).is_some_and(|on| on.len() == 2)).then_some(())
}

const DAMAGED: &str = "are damaged here: they are fetched again";

const PARTS: [Part; 7] = [Part::Id, Part::Names, Part::Crc, Part::Payload, Part::Newline, Part::Cut, Part::All];

fn start(head: &Head, dir: &Path, more: &[&str]) -> Vec<Option<Process>> {
    (1..=3).map(|k| Some(head.node(dir, k, &[SMALL, more].concat()))).collect()
}

fn assert_whole(dir: &Path, lost: &[String]) {
    let held = good(dir);
    for id in lost {
        assert_eq!(held[id].len(), 2, "{id}");
    }
    let others: Vec<_> = held.iter().filter(|(_, on)| on.len() != 2).collect();
    assert!(others.is_empty(), "{others:?}");
}

#[test]
fn what_rots_while_a_node_runs_is_fetched_again_when_a_reader_meets_it() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--replicas", "2"]);
    let nodes = start(&head, dir.path(), &[]);
    let texts = send(&head, 600);
    let files = sealed(dir.path(), 1);
    let lost: Vec<Vec<String>> = PARTS.iter().enumerate().map(|(k, part)| rot(&files[0], 4 * k + 2, *part)).collect();
    assert!(read(&head) == texts, "the other copies are there");
    for ids in &lost {
        eventually(&format!("{ids:?} is mended"), || is_mended(dir.path(), ids));
    }
    let said = nodes[0].as_ref().unwrap();
    said.wait_for(DAMAGED);
    assert!(read(&head) == texts, "everything is read");
    drop(nodes);
    assert_whole(dir.path(), &lost.concat());
    verify_clean(dir.path(), &["data1", "data2", "data3"]);
    // A node that starts again knows what is mended.
    let nodes = start(&head, dir.path(), &[]);
    assert!(read(&head) == texts, "everything is read");
    let before = good(dir.path());
    assert!(read(&head) == texts, "everything is read");
    let said = nodes[0].as_ref().unwrap();
    assert_eq!(said.count(DAMAGED), 0, "{}", said.all());
    assert!(good(dir.path()) == before, "nothing is fetched again");
}

#[test]
fn what_rots_while_a_node_is_down_is_fetched_again_when_it_is_opened_or_read() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--replicas", "2"]);
    let mut nodes = start(&head, dir.path(), &[]);
    let mut texts = send(&head, 300);
    // The last line of data.txt would be a torn one, and the first gives the file its name.
    let lines = || std::fs::read_to_string(dir.path().join("data2/data.txt")).unwrap().lines().count();
    while lines() < 3 {
        texts.append(&mut send_more(&head, texts.len()..texts.len() + 1));
    }
    // In order: then it is written down how far data.txt is whole, and what is bad in it is no torn end.
    let mut node = nodes[1].take().unwrap();
    node.signal(Signal::TERM);
    assert!(node.wait().success());
    // Opening reads all of data.txt, and a sealed file only if it has no sidecar.
    let files = sealed(dir.path(), 2);
    let current = rot(&dir.path().join("data2/data.txt"), 1, Part::Payload);
    let opened = rot(&files[1], 3, Part::Id);
    std::fs::remove_file(files[1].with_extension("index")).unwrap();
    let met = rot(&files[0], 5, Part::Names);
    nodes[1] = Some(head.node(dir.path(), 2, SMALL));
    for ids in [&current, &opened] {
        eventually(&format!("{ids:?} is mended"), || is_mended(dir.path(), ids));
    }
    assert!(read(&head) == texts, "everything is read");
    eventually("what a reader met is mended", || is_mended(dir.path(), &met));
    drop(nodes);
    assert_whole(dir.path(), &[current, opened, met].concat());
    verify_clean(dir.path(), &["data1", "data2", "data3"]);
}

#[test]
fn a_copy_on_a_node_that_is_away_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--replicas", "2"]);
    let mut nodes: Vec<_> = (1..=2).map(|k| Some(head.node(dir.path(), k, SMALL))).collect();
    let texts = send(&head, 100);
    nodes.iter_mut().for_each(|node| node.take().unwrap().kill());
    let lost = rot(&sealed(dir.path(), 1)[0], 1, Part::Id);
    let again = head.node(dir.path(), 1, SMALL);
    let output = acopio().args(["read", "--partial", "--head", &head.at()]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), texts.len() - 1);
    again.wait_for(DAMAGED);
    assert!(is_mended(dir.path(), &lost).is_none());
    let _other = head.node(dir.path(), 2, SMALL);
    eventually("it is mended", || is_mended(dir.path(), &lost));
    assert!(read(&head) == texts, "everything is read");
}

#[test]
fn what_has_no_other_copy_stays_and_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let nodes = start(&head, dir.path(), &[]);
    let texts = send(&head, 400);
    rot(&sealed(dir.path(), 3)[0], 2, Part::Payload);
    let output = acopio().args(["read", "--head", &head.at()]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("data3"), "the reader is told of the gap");
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), texts.len() - 1);
    nodes[2].as_ref().unwrap().wait_for(DAMAGED);
    drop(nodes);
    let output = acopio().arg("verify").arg(dir.path().join("data3")).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "what is not mended is a fault");
}
