//! Copies: each message on several nodes, acknowledged when all of them have synced it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::common::{Head, LineClient, acopio, eventually, payloads, verify_clean};

fn status(head: &Head) -> String {
    let output = acopio().args(["status", "--head", &head.at()]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn send(client: &mut LineClient, what: &str, messages: usize) -> BTreeSet<String> {
    client.send_all(what, messages).into_iter().collect()
}

fn assert_copies(dir: &Path, texts: &BTreeSet<String>, least: usize) {
    let mut kept = std::collections::BTreeMap::<String, usize>::new();
    for k in 1..=4 {
        // Two copies in one folder are one: folder by folder.
        if let Ok(text) = std::fs::read_to_string(dir.join(format!("data{k}/data.txt"))) {
            let here: BTreeSet<&str> = text.lines().filter_map(|line| line.splitn(5, ' ').nth(4)).collect();
            here.into_iter().for_each(|payload| *kept.entry(payload.to_owned()).or_default() += 1);
        }
    }
    let short: Vec<_> = texts.iter().filter(|text| kept.get(*text).copied().unwrap_or(0) < least).collect();
    assert!(short.is_empty(), "{} of {} have fewer than {least} copies: {:?}", short.len(), texts.len(), short.first());
}

#[test]
fn two_copies_lie_on_two_nodes_and_the_answer_the_record_and_the_registro_name_both() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--replicas", "2"]);
    let nodes: Vec<_> = (1..=3).map(|k| head.node(dir.path(), k, &[])).collect();
    let mut client = head.line();
    let answer = client.ask("hola");
    let ips = answer.strip_suffix(" , mensaje: recibido").unwrap_or_else(|| panic!("{answer}"));
    let ips: Vec<&str> = ips.split(',').collect();
    assert_eq!(ips.iter().collect::<BTreeSet<_>>().len(), 2, "{answer}");
    let registro = head.log("registro.log");
    assert!(ips.iter().all(|ip| registro.contains(&format!("recibido en dataNode {ip} data"))), "{registro}");
    let texts = send(&mut client, "copia", 2_000);
    let kept = payloads(dir.path());
    assert!(texts.iter().all(|text| kept.get(text) == Some(&2)), "two copies and no more");
    for k in 1..=3 {
        let data = std::fs::read_to_string(dir.path().join(format!("data{k}/data.txt"))).unwrap();
        let named = data.lines().all(|line| {
            let seq = line.split(' ').nth(2).unwrap();
            seq.split_once(':').is_some_and(|(_, place)| place.split('.').count() == 2)
        });
        assert!(named, "every record of data{k} says where it stands");
    }
    eventually("status tells that nothing is missing", || {
        status(&head).contains("copies     2, at least 2; 0 records are short of copies").then_some(())
    });
    drop(nodes);
    verify_clean(dir.path(), &["data1", "data2", "data3"]);
}

#[test]
fn every_acknowledged_message_has_its_copies_when_nodes_are_killed() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--replicas", "2"]);
    let mut nodes: Vec<_> = (1..=4).map(|k| Some(head.node(dir.path(), k, &[]))).collect();
    let mut client = head.line();
    let mut all = BTreeSet::new();
    for (k, node) in (1..).zip(&mut nodes) {
        all.append(&mut send(&mut client, &format!("antes {k}"), 500));
        node.take().unwrap().kill();
        all.append(&mut send(&mut client, &format!("despues {k}"), 500));
        *node = Some(head.node(dir.path(), k, &[]));
    }
    drop(nodes);
    assert_copies(dir.path(), &all, 2);
}

#[test]
fn one_node_may_be_lost_with_its_disk() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--replicas", "2"]);
    let mut nodes: Vec<_> = (1..=3).map(|k| Some(head.node(dir.path(), k, &[]))).collect();
    let texts = send(&mut head.line(), "dos veces", 1_000);
    nodes[1].take().unwrap().kill();
    std::fs::remove_dir_all(dir.path().join("data2")).unwrap();
    assert_copies(dir.path(), &texts, 1);
}

#[test]
fn with_fewer_nodes_there_are_fewer_copies_and_below_the_least_none() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--replicas", "3", "--min-copies", "2"]);
    let _one = head.node(dir.path(), 1, &[]);
    let mut client = head.line();
    assert_eq!(
        client.ask("una"),
        "error: 2 copies have to be kept and 1 can be; start more dataNodes or lower --min-copies, then send again"
    );
    let _two = head.node(dir.path(), 2, &[]);
    let texts = send(&mut client, "dos", 30);
    assert_copies(dir.path(), &texts, 2);
    eventually("status counts them", || {
        status(&head).contains("copies     3, at least 2; 30 records are short of copies").then_some(())
    });
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    for (args, remedy) in [
        (&["--replicas", "2", "--min-copies", "3"][..], "raise --replicas or lower --min-copies"),
        (&["--replicas", "2", "--solo"][..], "a solo head keeps one copy"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut command: Command = acopio();
        command.args(["head", "--listen", "127.0.0.1:0", "--logs"]).arg(dir.path().join("head")).args(args);
        let output = command.arg("--dir").arg(dir.path().join("data")).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(remedy), "{said}");
    }
}
