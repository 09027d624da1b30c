//! Repair: what lost a copy has it made again, by the nodes themselves, and nothing is copied that need not be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::common::{Head, Process, acopio, data_files, eventually, verify_clean};

fn short(head: &Head) -> u64 {
    head.status()["short_of_copies"].as_u64().unwrap()
}

/// Which folders hold each record, by its id; and how many lines there are in all.
fn holders(dir: &Path, nodes: &[u8]) -> (BTreeMap<String, BTreeSet<u8>>, usize) {
    let (mut held, mut lines) = (BTreeMap::<String, BTreeSet<u8>>::new(), 0);
    for k in nodes {
        for file in data_files(&dir.join(format!("data{k}"))) {
            for line in std::fs::read_to_string(&file).unwrap().lines() {
                held.entry(line[..20].to_owned()).or_default().insert(*k);
                lines += 1;
            }
        }
    }
    (held, lines)
}

fn assert_held(dir: &Path, nodes: &[u8], records: usize, least: usize) {
    let (held, _) = holders(dir, nodes);
    assert_eq!(held.len(), records, "every record is somewhere");
    let few: Vec<_> = held.iter().filter(|(_, on)| on.len() < least).collect();
    assert!(few.is_empty(), "{} records lie on fewer than {least} nodes: {:?}", few.len(), few.first());
}

fn start(head: &Head, dir: &Path, nodes: std::ops::RangeInclusive<u8>, more: &[&str]) -> Vec<Option<Process>> {
    nodes.map(|k| Some(head.node(dir, k, more))).collect()
}

#[test]
fn what_a_lost_node_held_is_copied_until_nothing_is_short() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--replicas", "2", "--repair-after", "1s"]);
    let mut nodes = start(&head, dir.path(), 1..=4, &[]);
    head.line().send_all("copia", 2_000);
    eventually("nothing is short", || (short(&head) == 0).then_some(()));
    nodes[1].take().unwrap().kill();
    eventually("status tells that copies are missing", || (short(&head) > 0).then_some(()));
    eventually("it goes back to zero", || (short(&head) == 0).then_some(()));
    assert_held(dir.path(), &[1, 3, 4], 2_000, 2);
    let (_, lines) = holders(dir.path(), &[1, 3, 4]);
    assert_eq!(lines, 4_000, "two copies of each, and no more");
    drop(nodes);
    verify_clean(dir.path(), &["data1", "data2", "data3", "data4"]);
}

#[test]
fn a_node_that_returns_has_nothing_copied() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--replicas", "2", "--repair-after", "1h"]);
    let mut nodes = start(&head, dir.path(), 1..=3, &[]);
    head.line().send_all("copia", 300);
    eventually("all have told what they keep", || {
        let report = head.status();
        let records = report["nodes"].as_array()?.iter().filter_map(|node| node["records"].as_u64()).sum::<u64>();
        (records == 600 && short(&head) == 0).then_some(())
    });
    nodes[2].take().unwrap().kill();
    head.process.wait_for("dataNode data3 at 127.0.0.4 evicted");
    let _back = head.node(dir.path(), 3, &[]);
    eventually("it goes back to zero", || (short(&head) == 0).then_some(()));
    assert_eq!(holders(dir.path(), &[1, 2, 3]).1, 600);
}

#[test]
fn what_a_wiped_node_held_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--replicas", "2", "--repair-after", "1h"]);
    let mut nodes = start(&head, dir.path(), 1..=3, &[]);
    let mut client = head.line();
    client.send_all("copia", 500);
    nodes[0].take().unwrap().kill();
    std::fs::remove_dir_all(dir.path().join("data1")).unwrap();
    let wiped = head.node(dir.path(), 1, &[]);
    client.send_all("despues", 200);
    // Nobody but a person knows that what it was before will not come back.
    let (code, _, said) = drain(&head, "data1", &["--gone"]).finish();
    assert_eq!(code, Some(0), "{said}");
    eventually("every record has its copies again", || {
        let (held, _) = holders(dir.path(), &[1, 2, 3]);
        (held.len() == 700 && held.values().all(|on| on.len() >= 2) && short(&head) == 0).then_some(())
    });
    let lines = holders(dir.path(), &[1, 2, 3]).1;
    drop((wiped, nodes));
    verify_clean(dir.path(), &["data1", "data2", "data3"]);
    // Known from the disk: nodes that start again copy nothing more.
    let nodes = start(&head, dir.path(), 1..=3, &[]);
    eventually("nothing is short", || {
        (head.status()["nodes"].as_array()?.len() == 3 && short(&head) == 0).then_some(())
    });
    // Twice as long as it takes until everybody knows of everybody.
    let beats = || head.log("heartbeat.log").matches(" disponible name=data1 ").count();
    let before = beats();
    eventually("two heartbeats", || (beats() >= before + 2).then_some(()));
    assert_eq!(holders(dir.path(), &[1, 2, 3]).1, lines);
    drop(nodes);
}

#[test]
fn a_second_node_gets_what_the_first_kept_alone() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--replicas", "2", "--min-copies", "1", "--repair-after", "1s"]);
    let one = head.node(dir.path(), 1, &[]);
    head.line().send_all("sola", 1_000);
    eventually("all are short", || (short(&head) == 1_000).then_some(()));
    let two = head.node(dir.path(), 2, &[]);
    eventually("it goes to zero", || (short(&head) == 0).then_some(()));
    assert_held(dir.path(), &[1, 2], 1_000, 2);
    drop((one, two));
    verify_clean(dir.path(), &["data1", "data2"]);
}

#[test]
fn a_node_that_is_killed_while_it_repairs_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--replicas", "2", "--min-copies", "1", "--repair-after", "1s"]);
    let slow = &["--repair-rate", "300k", "--segment-bytes", "200k"];
    let one = head.node(dir.path(), 1, &[]);
    let mut client = head.line();
    let long = "x".repeat(1_000);
    client.send_all(&long, 1_500);
    let two = head.node(dir.path(), 2, slow);
    let copied = || std::fs::read_to_string(dir.path().join("data2/data.txt")).map_or(0, |text| text.lines().count());
    eventually("it has begun", || (copied() > 10 && short(&head) > 0).then_some(()));
    one.kill();
    let one = head.node(dir.path(), 1, &[]);
    eventually("it goes to zero", || (short(&head) == 0).then_some(()));
    assert_held(dir.path(), &[1, 2], 1_500, 2);
    assert_eq!(holders(dir.path(), &[2]).1, 1_500, "nothing was kept twice");
    drop((one, two));
    verify_clean(dir.path(), &["data1", "data2"]);
}

#[test]
fn messages_are_acknowledged_while_nodes_repair() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--replicas", "2", "--repair-after", "100ms"]);
    let mut nodes = start(&head, dir.path(), 1..=4, &["--repair-rate", "200k"]);
    let mut client = head.line();
    client.send_all(&"x".repeat(2_000), 500);
    nodes[3].take().unwrap().kill();
    let mut sent = 500;
    eventually("it has begun", || (short(&head) > 0).then_some(()));
    // One at a time: each is answered while copies are made.
    eventually("repair is over", || {
        for _ in 0..20 {
            let answer = client.ask("mientras tanto");
            assert!(answer.ends_with(" , mensaje: recibido"), "{answer}");
            sent += 1;
        }
        (short(&head) == 0).then_some(())
    });
    assert_held(dir.path(), &[1, 2, 3], sent, 2);
    drop(nodes);
    verify_clean(dir.path(), &["data1", "data2", "data3", "data4"]);
}

fn drain(head: &Head, node: &str, more: &[&str]) -> Process {
    let mut command = acopio();
    command.args(["drain", node, "--head", &head.at()]).args(more);
    Process::start(command)
}

#[test]
fn a_drained_node_ends_and_its_records_are_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--repair-after", "1s"]);
    let mut nodes = start(&head, dir.path(), 1..=3, &[]);
    let mut client = head.line();
    client.send_all("una", 1_500);
    let (before, _) = holders(dir.path(), &[2]);
    assert!(before.len() > 100, "it holds some");
    let (code, _, said) = drain(&head, "data2", &[]).finish();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("data2 is drained"), "{said}");
    head.process.wait_for("dataNode data2 is drained, as 127.0.0.1:");
    head.process.wait_for("dataNode data2 is drained, as 127.0.0.1:");
    assert!(head.log("heartbeat.log").contains("127.0.0.3 disponible name=data2 draining asked_by=127.0.0.1:"));
    let node = nodes[1].take().unwrap();
    node.wait_for("drained");
    let (code, _, said) = node.finish();
    assert_eq!(code, Some(0), "{said}");
    assert_held(dir.path(), &[1, 3], 1_500, 1);
    assert_eq!(holders(dir.path(), &[1, 3]).1, 1_500, "one copy of each");
    let answer = client.ask("despues");
    assert!(answer.ends_with("recibido") && !answer.contains("127.0.0.3"), "{answer}");
    // Nobody waits for it, and nothing is copied on.
    assert_eq!(short(&head), 0);
    assert_eq!(head.status()["members_away"].as_array().map(Vec::len), Some(0));
    drop(nodes);
    verify_clean(dir.path(), &["data1", "data2", "data3"]);
}

#[test]
fn a_drain_keeps_the_number_of_copies_and_outlives_its_command() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--replicas", "2", "--repair-after", "1s"]);
    let mut nodes = start(&head, dir.path(), 1..=4, &["--repair-rate", "200k"]);
    let mut client = head.line();
    client.send_all(&"x".repeat(1_000), 600);
    let command = drain(&head, "data1", &[]);
    command.wait_for("have to be copied yet");
    command.kill();
    let mut sent = 600;
    let mut node = nodes[0].take().unwrap();
    eventually("the node ends", || {
        let answer = client.ask("mientras tanto");
        assert!(answer.ends_with(" , mensaje: recibido"), "{answer}");
        sent += 1;
        (node.count("drained") > 0).then_some(())
    });
    assert_eq!(node.wait().code(), Some(0));
    eventually("nothing is short", || (short(&head) == 0).then_some(()));
    assert_held(dir.path(), &[2, 3, 4], sent, 2);
    drop(nodes);
    verify_clean(dir.path(), &["data1", "data2", "data3", "data4"]);
}

#[test]
fn a_drain_that_leaves_too_few_nodes_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--replicas", "2", "--min-copies", "1", "--repair-after", "1h"]);
    let nodes = start(&head, dir.path(), 1..=2, &[]);
    head.line().send_all("copia", 100);
    let (code, _, said) = drain(&head, "data2", &[]).finish();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 dataNodes are left for 2 copies: "), "{said}");
    drop(nodes);
    assert_held(dir.path(), &[1], 100, 1);
}

#[test]
fn a_drain_waits_until_there_are_nodes_enough_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--replicas", "2", "--repair-after", "1h"]);
    let nodes = start(&head, dir.path(), 1..=2, &[]);
    head.line().send_all("copia", 100);
    let command = drain(&head, "data2", &[]);
    command.wait_for("data2: without it there are 1 dataNodes, and 2 have to keep each message; start others");
    let third = head.node(dir.path(), 3, &[]);
    let (code, _, said) = command.finish();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(head.line().ask("despues").matches("127.0.0.").count(), 2);
    drop((nodes, third));
    assert_held(dir.path(), &[1, 3], 101, 2);
}

#[test]
fn what_cannot_be_drained_is_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--replicas", "2", "--repair-after", "1h"]);
    let one = head.node(dir.path(), 1, &[]);
    for (node, more, reason) in [
        ("data7", &[][..], "no data node \"data7\" that can be drained; there are: data1"),
        ("data1", &[], "no other data node can take the records of data1"),
        ("data1", &["--gone"], "drain it without --gone"),
        ("data7", &["--gone"], "no data node \"data7\""),
    ] {
        let (code, _, said) = drain(&head, node, more).finish();
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(reason), "{said}");
    }
    drop(one);
}

#[test]
fn a_node_that_is_given_up_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--replicas", "2", "--repair-after", "1h"]);
    let mut nodes = start(&head, dir.path(), 1..=3, &[]);
    head.line().send_all("copia", 300);
    nodes[0].take().unwrap().kill();
    head.process.wait_for("dataNode data1 at 127.0.0.2 evicted");
    let (code, _, said) = drain(&head, "data1", &[]).finish();
    assert!(code == Some(1) && said.contains("data1 is away"), "{said}");
    let (code, _, said) = drain(&head, "data1", &["--gone"]).finish();
    assert_eq!(code, Some(0), "{said}");
    head.process.wait_for("dataNode data1 is given up, as 127.0.0.1:");
    eventually("its copies are made again at once", || (short(&head) == 0).then_some(()));
    assert_held(dir.path(), &[2, 3], 300, 2);
    assert_eq!(head.status()["members_away"].as_array().map(Vec::len), Some(0));
    // Asked once more there is nothing to do; not so for another one of that name.
    let (code, _, said) = drain(&head, "data1", &["--gone"]).finish();
    assert_eq!(code, Some(0), "{said}");
    std::fs::remove_dir_all(dir.path().join("data1")).unwrap();
    nodes[0] = Some(head.node(dir.path(), 1, &[]));
    let (code, _, said) = drain(&head, "data1", &["--gone"]).finish();
    assert!(code == Some(1) && said.contains("is given up already; one of that name is registered"), "{said}");
    drop(nodes);
}
