//! Several heads, all active: data nodes register with each, and clients go on with the next when one dies.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use crate::common::{Head, Process, Signal, eventually, payloads, records, sending, verify_clean};

/// Two heads and three data nodes that are registered with both.
struct Cluster {
    first: Head,
    second: Head,
    nodes: Vec<Process>,
    dir: tempfile::TempDir,
    _logs: tempfile::TempDir,
}

impl Cluster {
    fn start(more: &[&str]) -> Self {
        let (dir, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = Head::start(dir.path(), more);
        let second = first.start_beside(logs.path(), more);
        let nodes = (1..=3).map(|k| first.node(dir.path(), k, &["--head", &second.at()])).collect();
        for k in 1..=3 {
            second.process.wait_for(&format!("dataNode data{k} registered"));
        }
        Self { first, second, nodes, dir, _logs: logs }
    }

    fn heads(&self) -> String {
        format!("{},{}", self.first.at(), self.second.at())
    }
}

#[test]
fn both_heads_take_messages_for_the_same_nodes() {
    let cluster = Cluster::start(&[]);
    let (mut one, mut two) = (cluster.first.line(), cluster.second.line());
    for k in 0..100 {
        assert!(one.ask(&format!("uno {k}")).ends_with("recibido"));
        assert!(two.ask(&format!("dos {k}")).ends_with("recibido"));
    }
    assert_eq!(payloads(cluster.dir.path()).len(), 200);
    let ids: BTreeSet<String> = records(cluster.dir.path()).into_iter().map(|record| record.id).collect();
    assert_eq!(ids.len(), 200, "two heads never give the same id");
    let incarnations: BTreeSet<&str> = ids.iter().map(|id| &id[15..]).collect();
    assert_eq!(incarnations.len(), 2);
    drop(cluster.nodes);
    verify_clean(cluster.dir.path(), &["data1", "data2", "data3"]);
}

#[test]
fn a_client_whose_head_dies_goes_on_with_the_next_under_the_same_numbers() {
    let cluster = Cluster::start(&["--replicas", "2"]);
    let (send, mut input) = sending(&cluster.heads(), &[]);
    for k in 0..10_000 {
        writeln!(input, "linea {k}").unwrap();
    }
    eventually("the first head has taken some", || (!payloads(cluster.dir.path()).is_empty()).then_some(()));
    cluster.first.process.kill();
    for k in 10_000..20_000 {
        writeln!(input, "linea {k}").unwrap();
    }
    drop(input);
    let output = send.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut copies = BTreeMap::<String, usize>::new();
    let mut numbers = BTreeMap::<(String, String), BTreeSet<String>>::new();
    for record in records(cluster.dir.path()) {
        *copies.entry(record.payload.clone()).or_default() += 1;
        let seq = record.seq.split([':', '+']).next().unwrap().to_owned();
        numbers.entry((record.client, seq)).or_default().insert(record.payload);
    }
    assert_eq!(copies.len(), 20_000, "every line is kept");
    assert!(copies.values().all(|n| *n >= 2), "with its copies");
    assert!(numbers.values().all(|payloads| payloads.len() == 1), "one number never stands for two messages");
    assert_eq!(numbers.len(), 20_000, "what was sent twice has one number");
}

#[test]
fn a_client_whose_head_falls_silent_goes_on_with_the_next_before_its_patience_ends() {
    let cluster = Cluster::start(&[]);
    let (send, mut input) = sending(&cluster.heads(), &["--retry-for", "25s"]);
    writeln!(input, "uno").unwrap();
    eventually("the first head has taken one", || payloads(cluster.dir.path()).contains_key("uno").then_some(()));
    cluster.first.process.signal(Signal::STOP);
    writeln!(input, "dos").unwrap();
    drop(input);
    let output = send.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    assert!(payloads(cluster.dir.path()).contains_key("dos"));
}

#[test]
fn nodes_register_again_with_a_head_that_comes_back_while_the_other_goes_on() {
    let cluster = Cluster::start(&[]);
    let address = cluster.first.address;
    cluster.first.process.kill();
    let mut line = cluster.second.line();
    assert!(line.ask("sigue").ends_with("recibido"));
    let back = Head::start_at(cluster.dir.path(), &address.to_string(), &[]);
    for k in 1..=3 {
        back.process.wait_for(&format!("dataNode data{k} registered"));
    }
    assert!(back.line().ask("otra vez").ends_with("recibido"));
    assert!(line.ask("y sigue").ends_with("recibido"));
    assert_eq!(payloads(cluster.dir.path()).len(), 3);
}
