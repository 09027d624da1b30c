//! `acopio read` against a whole cluster: what was acknowledged is printed, once, in order for each client, whatever
//! fails meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;

use crate::common::{Head, PATIENCE, Process, Signal, acopio, eventually, peak_kib, ran};

fn read(heads: &str, more: &[&str]) -> Command {
    let mut command = acopio();
    command.args(["read", "--head", heads]).args(more);
    command
}

fn printed(heads: &str, more: &[&str]) -> Vec<String> {
    let (code, out, err) = ran(read(heads, more));
    assert_eq!((code, err.as_str()), (Some(0), ""), "{more:?}");
    out.lines().map(str::to_owned).collect()
}

/// An `acopio send` under way, fed through its standard input.
fn sender(heads: &str) -> Child {
    let mut command = acopio();
    command.args(["send", "--retry-for", "60s", "--head", heads]).stdin(Stdio::piped());
    command.spawn().unwrap()
}

fn send(heads: &str, lines: &[String]) {
    let mut sender = sender(heads);
    sender.stdin.take().unwrap().write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
    assert!(sender.wait().unwrap().success());
}

fn numbered(who: &str, count: usize) -> Vec<String> {
    (0..count).map(|k| format!("{who} {k}")).collect()
}

/// Each sender's messages are numbered from 0, each is there once, and in this order.
fn assert_each_in_order<'a>(lines: impl IntoIterator<Item = &'a String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in lines {
        let (who, number) = line.rsplit_once(' ').unwrap();
        let next = counts.entry(who.to_owned()).or_insert(0);
        assert_eq!(number.parse(), Ok(*next), "{line} in place of {who} {next}");
        *next += 1;
    }
    counts
}

#[test]
fn everything_acknowledged_is_printed_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--replicas", "2"]);
    let mut nodes: Vec<Process> = (1..=3).map(|k| head.node(dir.path(), k, &["--segment-bytes", "8KiB"])).collect();
    let at = head.at();
    assert_eq!(printed(&at, &[]), [] as [String; 0], "nothing yet");
    let answers =
        head.nc((["peticion".to_owned()].into_iter().chain(numbered("nc", 300)).collect::<Vec<_>>().join("\n") + "\n")
            .as_bytes());
    assert_eq!(answers.matches("recibido").count(), 300);
    send(&at, &numbered("ana", 700));
    let raw = printed(&at, &["--format", "raw"]);
    let counts = assert_each_in_order(&raw);
    assert_eq!(counts, BTreeMap::from([("ana".to_owned(), 700), ("mensaje: nc".to_owned(), 300)]));
    let lines = printed(&at, &["--format", "line"]);
    assert!(lines.is_sorted(), "ids come in order");
    assert_eq!(printed(&at, &["--count"]), ["1000"]);
    assert_eq!(printed(&at, &["--count", "--grep", "^mensaje: nc 1"]), ["111"]);
    assert_eq!(printed(&at, &["--last", "2", "--format", "raw"]), ["ana 698", "ana 699"]);
    assert_eq!(printed(&at, &["--last", "1", "--grep", "nc", "--format", "raw"]), ["mensaje: nc 299"]);
    assert_eq!(printed(&at, &["--client", &lines[0][21..31], "--count"]), ["300"]);
    let (since, until) = (&lines[400][..20], &lines[500][..20]);
    assert_eq!(printed(&at, &["--since", since, "--until", until, "--format", "line"]), lines[400..500]);
    assert_eq!(printed(&at, &["--since", "1h", "--count"]), ["1000"]);
    // One node of three may go: its copies are elsewhere.
    nodes.remove(0).kill();
    assert_eq!(printed(&at, &["--count", "--retry-for", "30s"]), ["1000"]);
}

#[test]
fn a_node_that_is_away_with_the_only_copy_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let mut nodes: Vec<Process> = (1..=2).map(|k| head.node(dir.path(), k, &[])).collect();
    head.wait_in_cluster(2);
    send(&head.at(), &numbered("ana", 200));
    let (_, all, _) = ran(read(&head.at(), &["--count"]));
    nodes.pop().unwrap().kill();
    let (code, _, err) = ran(read(&head.at(), &["--retry-for", "10s"]));
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("dataNode data2 is missing") && err.contains("with --partial"), "{err}");
    let (code, out, err) = ran(read(&head.at(), &["--partial"]));
    assert_eq!((code, err.as_str()), (Some(0), "acopio: data2 missing from this answer\n"));
    assert!((1..200).contains(&out.lines().count()));
    // A read that waits goes on when the node is back.
    let waiting = Process::start(read(&head.at(), &["--count"]));
    waiting.wait_for("waiting for data2");
    let _back = head.node(dir.path(), 2, &[]);
    let (code, out, err) = waiting.finish();
    assert_eq!((code, out), (Some(0), all), "{err}");
}

#[test]
fn nodes_that_never_kept_a_record_are_not_missed() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _keeps = head.node(dir.path(), 1, &[]);
    send(&head.at(), &numbered("ana", 10));
    for restarted in 0..2 {
        // Each time with an empty folder: a container without a volume.
        let volume = dir.path().join(format!("volume{restarted}"));
        head.node(&volume, 2, &[]).kill();
        eventually("it is evicted", || (head.process.count("dataNode data2 at") > restarted).then_some(()));
    }
    assert_eq!(printed(&head.at(), &["--count"]), ["10"]);
    assert_eq!(head.status()["members_away"].as_array().unwrap().len(), 0);
    // Once it has kept one it is.
    let two = head.node(dir.path(), 2, &[]);
    send(&head.at(), &numbered("bea", 200));
    two.kill();
    let (code, _, err) = ran(read(&head.at(), &["--retry-for", "1s"]));
    assert!(code == Some(1) && err.contains("dataNode data2 is missing"), "{err}");
}

/// A reader that follows, and what it prints.
pub(crate) struct Follower {
    process: Child,
    lines: mpsc::Receiver<String>,
}

impl Follower {
    pub(crate) fn start(heads: &str) -> Self {
        let mut command = read(heads, &["--follow", "--format", "raw"]);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let out: BufReader<ChildStdout> = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { process, lines }
    }

    /// Waits until so many more lines have come.
    pub(crate) fn take(&self, count: usize) -> Vec<String> {
        let line = |k| self.lines.recv_timeout(2 * PATIENCE).unwrap_or_else(|_| panic!("{k} of {count} lines came"));
        (0..count).map(line).collect()
    }

    pub(crate) fn end(mut self) -> Vec<String> {
        let pid = rustix::process::Pid::from_raw(self.process.id() as i32).unwrap();
        rustix::process::kill_process(pid, Signal::INT).unwrap();
        let status = eventually("the reader ends", || self.process.try_wait().unwrap());
        assert_eq!(status.code(), Some(0));
        self.lines.iter().collect()
    }
}

/// Feeds a sender lines, a few at a time, until the other end of `enough` is gone; returns how many.
fn feed(mut sender: Child, who: &'static str, enough: mpsc::Receiver<()>) -> std::thread::JoinHandle<usize> {
    std::thread::spawn(move || {
        let mut stdin = sender.stdin.take().unwrap();
        let mut count = 0;
        while enough.recv_timeout(std::time::Duration::from_millis(5)) == Err(mpsc::RecvTimeoutError::Timeout) {
            for _ in 0..20 {
                writeln!(stdin, "{who} {count}").unwrap();
                count += 1;
            }
        }
        drop(stdin);
        assert!(sender.wait().unwrap().success(), "{who}'s messages are acknowledged");
        count
    })
}

fn cluster(dir: &Path) -> (Head, Head, Vec<Process>) {
    let one = Head::start(&dir.join("one"), &["--replicas", "2"]);
    let two = one.start_beside(&dir.join("two"), &["--replicas", "2"]);
    let nodes = (1..=3).map(|k| one.node(dir, k, &["--head", &two.at()])).collect();
    for k in 1..=3 {
        two.process.wait_for(&format!("dataNode data{k} registered"));
    }
    (one, two, nodes)
}

#[test]
fn a_follower_gets_each_message_once_and_in_order_across_failures() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two, mut nodes) = cluster(dir.path());
    let follower = Follower::start(&format!("{},{}", one.at(), two.at()));
    let (mut feeders, mut enough) = (Vec::new(), Vec::new());
    for (who, heads) in [("ana", [&one, &two]), ("bea", [&two, &one]), ("cid", [&one, &two])] {
        let (tell, told) = mpsc::channel();
        feeders.push(feed(sender(&format!("{},{}", heads[0].at(), heads[1].at())), who, told));
        enough.push(tell);
    }
    let mut got = follower.take(2000);
    // A node goes, with what it had not acknowledged, and comes back.
    nodes.remove(0).kill();
    got.extend(follower.take(500));
    nodes.push(one.start_node(dir.path(), 1, &["--head", &two.at()]));
    got.extend(follower.take(2000));
    // The head that the reader and two of the senders use goes.
    one.process.kill();
    got.extend(follower.take(3000));
    drop(enough);
    let sent: usize = feeders.into_iter().map(|feeder| feeder.join().unwrap()).sum();
    got.extend(follower.take(sent - got.len()));
    got.extend(follower.end());
    let counts = assert_each_in_order(&got);
    assert_eq!(counts.keys().map(String::as_str).collect::<BTreeSet<_>>(), BTreeSet::from(["ana", "bea", "cid"]));
    assert_eq!(counts.values().sum::<usize>(), sent, "what was acknowledged came, and nothing else");
}

#[test]
fn memory_stays_flat_over_any_amount() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _nodes: Vec<Process> = (1..=2).map(|k| head.node(dir.path(), k, &["--sync", "never"])).collect();
    let payload = "x".repeat(1000);
    let lines: Vec<String> = (0..60_000).map(|k| format!("{payload} {k}")).collect();
    send(&head.at(), &lines);
    let mut process = read(&head.at(), &["--follow", "--format", "raw"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(process.stdout.take().unwrap()).lines();
    assert_each_in_order(&out.by_ref().take(lines.len()).map(Result::unwrap).collect::<Vec<_>>());
    let peak_kib = peak_kib(process.id()).unwrap();
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(peak_kib < 40 * 1024, "{peak_kib} KiB for 60 MB");
}
