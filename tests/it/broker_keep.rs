//! What a broker keeps: form, order, bounds, and a log in front of every subscriber.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::topics::{ASKS, DEAD_AFTER, Pair};
use crate::common::{Head, Port, Process, acopio, eventually, ran};

/// A cluster of one.
fn solo(dir: &Path) -> Head {
    let folder = dir.join("solo");
    Head::start(dir, &["--solo", "--dir", folder.to_str().unwrap()])
}

fn read(head: &Head, more: &[&str]) -> Vec<String> {
    let mut command = acopio();
    command.args(["read", "--head", &head.at()]).args(more);
    let (code, out, error) = ran(command);
    assert_eq!(code, Some(0), "{error}");
    out.lines().map(ToOwned::to_owned).collect()
}

fn wait_kept(head: &Head, messages: usize) {
    eventually("all is kept", || (read(head, &["--count"]) == [messages.to_string()]).then_some(()));
}

#[test]
fn what_is_kept_is_read_back_whole_and_in_order_and_published_once_more() {
    let dir = tempfile::tempdir().unwrap();
    let (head, pair) = (solo(dir.path()), Pair::new());
    let broker = pair.alone(&["--keep", "temp.,calc", "--head", &head.at()]);
    let mut publisher = pair.publisher(&[]);
    publisher.send(&["temp.cellar", "21.5"]);
    publisher.send(&["other", "not kept"]);
    publisher.send(&["calc.request.1", "12", "-", "@3"]);
    publisher.send(&["temp.bytes", "@@1"]);
    publisher.tell("load temp.n 500 100000");
    wait_kept(&head, 503);
    // Behind the time and the topic, which is the source of the record.
    let text = |line: &String| format!("zmq {}", line.split_once(" zmq ").unwrap().1);
    let lines: Vec<String> = read(&head, &[]).iter().map(text).collect();
    assert_eq!(lines[0], "zmq 11,4 temp.cellar 21.5");
    assert_eq!(lines[1], "zmq 14,2,0,3 calc.request.1 12  xxx");
    assert_eq!(read(&head, &["--from", "calc.request.1", "--format", "raw"]), [lines[1].clone()]);
    let numbers = lines.iter().filter(|line| line.contains("temp.n "));
    let wanted: Vec<String> = (0..500).map(|k| format!("zmq 6,{} temp.n {k}", k.to_string().len())).collect();
    assert_eq!(numbers.cloned().collect::<Vec<_>>(), wanted);
    let bytes = &lines[2];
    assert!(bytes.starts_with("zmq 10,256 temp.bytes \\0\\x01") && bytes.ends_with("\\xfe\\xff"), "{bytes}");

    // Once more, to a broker that keeps nothing.
    let again = Pair::new();
    let other = again.alone(&[]);
    let subscriber = again.subscriber(&other, &["", "503"], &[]);
    let (code, _, said) = ran(replay(&head, &again.hosts[0], &["--speed", "max"]));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("503 messages published; 0 records are something else"), "{said}");
    subscriber.wait_for("longest gap");
    let got: Vec<String> =
        subscriber.all().lines().filter_map(|line| line.strip_prefix("got ").map(ToOwned::to_owned)).collect();
    assert_eq!(got[..3], ["temp.cellar 21.5", "calc.request.1 12  xxx", "temp.bytes 256:32640"]);
    assert_eq!(got[502], "temp.n 499");
    // Only a topic, at its own pace and faster, and nobody there.
    publisher.tell("load temp.slow 30 20");
    wait_kept(&head, 533);
    let replay = |topic: &str, speed: &str, to: &str| {
        let started = Instant::now();
        let (code, _, said) = ran(replay(&head, to, &["--speed", speed, "--topic", topic]));
        (code, said, started.elapsed())
    };
    assert!(replay("calc", "max", &again.hosts[0]).1.contains("1 messages published"));
    let (_, said, took) = replay("temp.slow", "1", &again.hosts[0]);
    assert!(said.contains("30 messages published") && took >= Duration::from_secs(1), "{took:?} {said}");
    let (_, said, faster) = replay("temp.slow", "20", &again.hosts[0]);
    assert!(said.contains("30 messages published") && faster < took, "{faster:?} {took:?} {said}");
    let (code, said, _) = replay("", "max", &again.hosts[1]);
    assert!(code == Some(1) && said.contains("see that a broker is active there"), "{said}");
    drop(broker);
}

fn replay(head: &Head, to: &str, more: &[&str]) -> Command {
    let mut command = acopio();
    command.args(["replay", "--head", &head.at(), "--to", &format!("tcp://{to}:5555")]).args(more);
    command
}

#[test]
fn a_replay_whose_broker_is_killed_names_where_to_go_on_and_nothing_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let (head, pair) = (solo(dir.path()), Pair::new());
    let broker = pair.alone(&["--keep", "", "--head", &head.at()]);
    let mut publisher = pair.publisher(&[]);
    publisher.tell("load t 20000 5000");
    wait_kept(&head, 20_000);
    drop(broker);
    let broker = pair.alone(&[]);
    let subscriber = pair.subscriber(&broker, &["t", "1000000"], &[]);
    let first = Process::start(replay(&head, &pair.hosts[0], &["--speed", "2"]));
    eventually("half of it is there", || (subscriber.count("got t") > 10_000).then_some(()));
    broker.kill();
    let (code, _, said) = first.finish();
    assert!(code == Some(1) && said.contains("is gone after"), "{said}");
    let (_, since) = said.split_once("go on with --since ").unwrap();
    let since = since.split(' ').next().unwrap();
    let broker = pair.alone(&[]);
    eventually("it subscribes again", || (broker.count(ASKS) > 0).then_some(()));
    let (code, _, said) = ran(replay(&head, &pair.hosts[0], &["--speed", "5", "--since", since]));
    assert_eq!(code, Some(0), "{said}");
    eventually("all of it is there", || {
        let all = subscriber.all();
        let got: BTreeSet<&str> = all.lines().filter_map(|line| line.strip_prefix("got t ")).collect();
        (got.len() == 20_000).then_some(())
    });
}

#[test]
fn publishers_at_once_are_kept_each_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let (head, pair) = (solo(dir.path()), Pair::new());
    let _broker = pair.alone(&["--keep", "", "--head", &head.at()]);
    let mut publishers: Vec<_> = (0..3).map(|_| pair.publisher(&[])).collect();
    for (k, publisher) in publishers.iter_mut().enumerate() {
        publisher.tell(&format!("load from{k} 2000 20000"));
    }
    wait_kept(&head, 6000);
    let lines = read(&head, &["--format", "raw"]);
    for k in 0..3 {
        let numbers = lines.iter().filter_map(|line| line.split_once(&format!(" from{k} ")));
        let numbers: Vec<usize> = numbers.map(|(_, number)| number.parse().unwrap()).collect();
        assert_eq!(numbers, (0..2000).collect::<Vec<_>>(), "publisher {k}");
    }
}

#[test]
fn without_a_cluster_topics_go_on_and_what_is_not_kept_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let (port, pair) = (Port::reserve(), Pair::new());
    let broker = pair.alone(&["--keep", "", "--head", &port.at(), "--keep-queue", "2MiB"]);
    let subscriber = pair.subscriber(&broker, &["t", "30000"], &[("QUIET", "1")]);
    let mut publisher = pair.publisher(&[]);
    publisher.tell("load t 30000 20000");
    subscriber.wait_for("longest gap");
    let line = broker.wait_for("messages were not kept: 2 MiB of others wait");
    assert!(line.contains("raise --keep-queue"), "{line}");
    // It comes back: what waited is kept, and what was lost is counted to the end.
    let folder = dir.path().join("solo");
    let head = Head::start_at(dir.path(), &port.at(), &["--solo", "--dir", folder.to_str().unwrap()]);
    eventually("what waited is kept", || (read(&head, &["--count"])[0] != "0").then_some(()));
    publisher.send(&["t", "last"]);
    eventually("the last is kept", || (!read(&head, &["--grep", "last"]).is_empty()).then_some(()));
    let kept: usize = read(&head, &["--count"])[0].parse().unwrap();
    broker.signal(crate::common::Signal::TERM);
    let (code, _, said) = broker.finish();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("{kept} messages were kept, {} were not", 30001 - kept)), "{kept}: {said}");
}

#[test]
fn where_it_is_required_nothing_is_forwarded_before_it_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (port, pair) = (Port::reserve(), Pair::new());
    let flags = ["--keep", "log.", "--require-kept", "--head", &port.at(), "--max-message", "4MiB"];
    let broker = pair.alone(&flags);
    let log = pair.subscriber(&broker, &["log.", "2"], &[]);
    let other = pair.subscriber(&broker, &["other", "1"], &[]);
    let mut publisher = pair.publisher(&[]);
    publisher.send(&["log.a", "first"]);
    // More than a record takes: it is neither kept nor forwarded.
    publisher.send(&["log.long", "@1500000"]);
    publisher.send(&["log.b", "second"]);
    publisher.send(&["other", "passes"]);
    other.wait_for("got other passes");
    assert_eq!(log.count("got"), 0);
    broker.wait_for("1 messages were not kept: they are longer than");
    let folder = dir.path().join("solo");
    let head = Head::start_at(dir.path(), &port.at(), &["--solo", "--dir", folder.to_str().unwrap()]);
    log.wait_for("longest gap");
    assert!(log.all().contains("got log.a first\ngot log.b second"), "{}", log.all());
    assert_eq!(read(&head, &["--count"]), ["2"]);
}

#[test]
fn a_killed_primary_leaves_nothing_forwarded_that_is_not_kept_and_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (head, pair) = (solo(dir.path()), Pair::new());
    let keep = ["--keep", "t", "--require-kept", "--head", &head.at()];
    let primary = pair.primary(&keep);
    primary.wait_for("Broker PRIMARY escuchando");
    let backup = pair.backup(&keep);
    primary.wait_for("listener to the heartbeat 127.");
    let subscriber = pair.subscriber(&primary, &["t", "1500"], &[]);
    let mut publisher = pair.publisher(&[]);
    publisher.tell("load t 100000 500");
    eventually("messages flow", || (subscriber.count("got t") > 200).then_some(()));
    primary.kill();
    backup.wait_for("Broker BACKUP ahora activo");
    subscriber.wait_for("longest gap");
    let got: Vec<String> =
        subscriber.all().lines().filter_map(|line| line.strip_prefix("got t ").map(ToOwned::to_owned)).collect();
    let lines = read(&head, &["--format", "raw"]);
    let kept: Vec<&str> = lines.iter().filter_map(|line| line.rsplit(' ').next()).collect();
    let set: BTreeSet<&str> = kept.iter().copied().collect();
    assert_eq!(set.len(), kept.len(), "something is kept twice");
    let missing: Vec<&String> = got.iter().filter(|number| !set.contains(number.as_str())).collect();
    assert!(missing.is_empty() && got.len() == 1500, "forwarded and not kept: {missing:?}");
    let numbers: Vec<u32> = kept.iter().map(|number| number.parse().unwrap()).collect();
    assert!(numbers.is_sorted(), "one publisher's messages are kept in their order");
    assert!(DEAD_AFTER.as_secs() < 10);
}
