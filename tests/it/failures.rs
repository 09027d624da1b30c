//! Nodes that die, stop or fill up: what was acknowledged stays, and clients notice nothing but time.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::common::{Head, Process, Signal, eventually, need, payloads, read_once, verify_clean};

/// Line clients that send without a pause until told to stop; each returns what was acknowledged.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(head: &Head, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let clients = (0..clients)
            .map(|c| {
                let (mut client, stop, answered) = (head.line(), Arc::clone(&stop), Arc::clone(&answered));
                std::thread::spawn(move || {
                    let mut acknowledged = Vec::new();
                    for batch in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let texts: Vec<String> = (0..20).map(|k| format!("c{c} b{batch} k{k}")).collect();
                        client.send(&texts.join("\n"));
                        for text in texts {
                            let answer = client.read();
                            assert!(answer.ends_with(" , mensaje: recibido"), "{text}: {answer}");
                            acknowledged.push(format!("mensaje: {text}"));
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    acknowledged
                })
            })
            .collect();
        Self { stop, answered, clients }
    }

    /// Waits until so many more messages are acknowledged.
    fn more(&self, messages: usize) {
        let target = self.answered.load(Ordering::Relaxed) + messages;
        eventually("messages are acknowledged", || (self.answered.load(Ordering::Relaxed) >= target).then_some(()));
    }

    fn finish(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    }
}

fn assert_all_kept(dir: &std::path::Path, acknowledged: &BTreeSet<String>) {
    let kept = payloads(dir);
    let lost: Vec<_> = acknowledged.iter().filter(|text| !kept.contains_key(*text)).collect();
    assert!(
        lost.is_empty(),
        "{} of {} acknowledged messages are lost: {:?}",
        lost.len(),
        acknowledged.len(),
        lost.first()
    );
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9_and_clients_see_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let mut nodes: Vec<_> = (1..=3).map(|k| Some(head.node(dir.path(), k, &[]))).collect();
    let load = Load::start(&head, 8);
    for round in 0..6 {
        load.more(2_000);
        let k = round % 3;
        nodes[k].take().unwrap().kill();
        load.more(2_000);
        nodes[k] = Some(head.node(dir.path(), k as u8 + 1, &[]));
    }
    let acknowledged = load.finish();
    drop(nodes);
    assert_all_kept(dir.path(), &acknowledged);
    verify_clean(dir.path(), &["data1", "data2", "data3"]);
    assert!(head.log("heartbeat.log").matches("no disponible, eliminado name=data").count() >= 6);
}

#[test]
fn a_stopped_node_is_evicted_by_the_heartbeat_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--heartbeat", "3s"]);
    let stopped = head.node(dir.path(), 1, &[]);
    let _other = head.node(dir.path(), 2, &[]);
    let load = Load::start(&head, 4);
    load.more(500);
    stopped.signal(Signal::STOP);
    let evicted = head.process.wait_for("dataNode data1 at 127.0.0.2 evicted: no answer to the ping");
    assert!(evicted.contains("messages in flight"), "{evicted}");
    load.more(2_000);
    stopped.signal(Signal::CONT);
    eventually("data1 registers again", || (head.process.count("dataNode data1 registered") == 2).then_some(()));
    load.more(500);
    let acknowledged = load.finish();
    let log = head.log("heartbeat.log");
    drop(stopped);
    assert_all_kept(dir.path(), &acknowledged);
    let data1: Vec<&str> = log.lines().filter(|line| line.contains("name=data1")).collect();
    assert!(data1[0].contains(" 127.0.0.2 disponible name=data1"), "{log}");
    assert!(data1.iter().any(|line| line.contains(" 127.0.0.2 no disponible, eliminado name=data1")), "{log}");
    assert!(data1.last().unwrap().contains(" 127.0.0.2 disponible name=data1"), "{log}");
}

#[test]
fn a_client_that_reads_no_answers_does_not_slow_the_others_and_memory_stays_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let node = head.node(dir.path(), 1, &[]);
    let mut deaf = Vec::new();
    let lines = "x\n".repeat(32 << 10);
    for _ in 0..4 {
        let mut client = head.connect();
        client.set_write_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
        client.write_all(b"peticion\n").unwrap();
        // Sends until the pressure has reached its own socket for good: the head has stopped reading it.
        let pressed = (0..1_000).any(|_| client.write_all(lines.as_bytes()).is_err());
        assert!(pressed, "the head reads on and on for a client that reads nothing:\n{}", head.process.all());
        deaf.push(client);
    }
    let mut quick = head.line();
    for k in 0..200 {
        assert_eq!(quick.ask(&format!("rapido {k}")), "127.0.0.2 , mensaje: recibido");
    }
    assert!(head.process.peak_kib() < 128 << 10, "head: {} KiB", head.process.peak_kib());
    assert!(node.peak_kib() < 256 << 10, "data node: {} KiB", node.peak_kib());
}

/// A small file system of its own, unmounted when it is dropped.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(size: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(dir.path());
        need("a file system in memory", &mut mount);
        Self(dir)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.0.path()).status());
    }
}

fn at(dir: &std::path::Path, name: &str) -> String {
    dir.join(name).to_str().unwrap().to_owned()
}

#[test]
fn a_full_disk_makes_a_node_read_only_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Tmpfs::mount("24m");
    let head = Head::start(dir.path(), &[]);
    let full = head.node(disk.0.path(), 1, &[]);
    let _other = head.node(dir.path(), 2, &[]);
    let load = Load::start(&head, 4);
    load.more(100);
    // All at once: what the load takes to fill even little of it depends on the machine.
    let mut filler = std::fs::File::create(disk.0.path().join("filler")).unwrap();
    while filler.write_all(&[0; 4096]).is_ok() {}
    drop(filler);
    head.process.wait_for("dataNode data1 at 127.0.0.2: read-only: the disk is full");
    load.more(1_000);
    std::fs::remove_file(disk.0.path().join("filler")).unwrap();
    head.process.wait_for("dataNode data1 at 127.0.0.2: writable again");
    load.more(1_000);
    let acknowledged = load.finish();
    drop(full);
    let mut kept = payloads(dir.path());
    kept.extend(payloads(disk.0.path()));
    assert!(acknowledged.iter().all(|text| kept.contains_key(text)), "acknowledged means kept");
    verify_clean(std::path::Path::new("/"), &[&at(disk.0.path(), "data1"), &at(dir.path(), "data2")]);
}

#[test]
fn with_every_disk_full_clients_are_told_and_nothing_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Tmpfs::mount("1m");
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(disk.0.path(), 1, &[]);
    let mut client = head.line();
    let long = "x".repeat(60_000);
    let refused =
        (0..100).map(|_| client.ask(&long)).find(|answer| !answer.ends_with("recibido")).expect("1 MiB is full");
    assert!(refused.starts_with("error: ") && refused.contains("full"), "{refused}");
}

/// data1, whose fdatasync fails from a certain call on.
fn sick_node(head: &Head, dir: &std::path::Path, from: &str, sync: &str) -> Process {
    need("the tracing of a process", Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]));
    let mut command = Command::new("strace");
    let inject = format!("inject=fdatasync:error=EIO:when={from}");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", &inject]);
    command.arg(env!("CARGO_BIN_EXE_acopio")).args(["data", "--head", &head.at(), "--name", "data1"]);
    command.args(["--bind", "127.0.0.2", "--sync", sync, "--dir"]).arg(dir.join("data1"));
    Process::start(command)
}

#[test]
fn a_sync_that_fails_later_is_not_kept_quiet() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let mut sick = sick_node(&head, dir.path(), "3+", "100ms");
    head.process.wait_for("dataNode data1 registered");
    let mut client = head.line();
    // Opening the folder syncs, too, so it is not known which sync of the log is the first to fail.
    let left = eventually("data1 leaves", || {
        let answer = client.ask("hola");
        (!answer.ends_with("recibido")).then_some(answer)
    });
    assert!(left.starts_with("error: "), "{left}");
    assert_eq!(sick.wait().code(), Some(1), "{}", sick.all());
    sick.wait_for("dataNode data1 leaves the cluster: the disk failed to sync");
}

#[test]
fn a_failed_sync_poisons_the_node_and_its_messages_go_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _other = head.node(dir.path(), 2, &[]);
    let mut sick = sick_node(&head, dir.path(), "20+", "always");
    head.process.wait_for("dataNode data1 registered");
    let load = Load::start(&head, 4);
    let status = sick.wait();
    assert_eq!(status.code(), Some(1), "{}", sick.all());
    sick.wait_for("dataNode data1 leaves the cluster: the disk failed to sync");
    load.more(1_000);
    let acknowledged = load.finish();
    assert_all_kept(dir.path(), &acknowledged);
    // Unless it was a sync of what it notes that failed, at a moment at which it had no message; or its last words were lost with its
    // connection, which breaks where it had not read all.
    let is_told = head.log("registro.log").contains("Problema: mensaje no fue guardado en dataNode: 127.0.0.2 data1");
    let heartbeat = head.log("heartbeat.log");
    let is_unsaid = |line: &str| line.ends_with("in_flight=0") || line.contains("cause=\"its connection broke\"");
    let has_unsaid = heartbeat.lines().any(|line| line.contains("eliminado name=data1") && is_unsaid(line));
    assert!(is_told || has_unsaid, "{heartbeat}");
}

#[test]
fn a_raw_client_waits_out_the_death_of_a_node() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--heartbeat", "3s"]);
    let (stopped, _other) = (head.node(dir.path(), 1, &[]), head.node(dir.path(), 2, &[]));
    head.wait_in_cluster(2);
    stopped.signal(Signal::STOP);
    // Each goes to a random one of both.
    let mut clients: Vec<_> = (0..16).map(|_| head.raw()).collect();
    for client in &mut clients {
        client.write_all(b"numero random: 5").unwrap();
    }
    for client in &mut clients {
        assert_eq!(read_once(client), "127.0.0.3 , mensaje: recibido");
        let mut rest = [0; 1];
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(client.read(&mut rest).unwrap(), 0, "one answer for one message");
    }
    drop(stopped);
}

/// A torn end is cut off after a crash; what somebody else wrote is none, and what is acknowledged behind it stays.
#[test]
fn what_is_acknowledged_behind_the_words_of_others_outlives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let node = head.node(dir.path(), 1, &[]);
    let mut client = head.line();
    for text in ["uno", "dos"] {
        assert!(client.ask(text).ends_with("recibido"));
    }
    let mut file = std::fs::OpenOptions::new().append(true).open(dir.path().join("data1/data.txt")).unwrap();
    std::io::Write::write_all(&mut file, b"a remark\n").unwrap();
    for text in ["tres", "cuatro"] {
        assert!(client.ask(text).ends_with("recibido"));
    }
    node.kill();
    let again = head.node(dir.path(), 1, &[]);
    let text = std::fs::read_to_string(dir.path().join("data1/data.txt")).unwrap();
    let kept = ["uno", "dos", "tres", "cuatro"].map(|word| text.contains(&format!(" mensaje: {word}\n")));
    assert_eq!(kept, [true; 4], "{text}");
    drop(again);
}
