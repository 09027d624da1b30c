//! The registro: a full disk under it, how long it is kept, who moves it away, and what fills it.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use crate::common::frames::{Frames, NODE_OPENING, register};
use crate::common::{Head, Port, Process, Signal, acopio, eventually, need, payloads, ran};
use acopio::wire::frame::Frame;
use serde_json::Value;

/// A small file system for the logs of a head; unmounted when it is dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    fn mount() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(dir.path());
        need("a file system in memory", &mut mount);
        Self(dir)
    }

    /// Takes the room that is left.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.path().join("fill")).unwrap();
        while file.write_all(&[0; 512]).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.0.path().join("fill")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.0.path()).status());
    }
}

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = acopio();
    command.args(args);
    ran(command)
}

fn audit(registros: &[&Path], data: &Path) -> (Option<i32>, Value) {
    let mut command = acopio();
    command.args(["audit", "--format", "json", "--registro"]).args(registros).arg("--data").arg(data);
    let (code, out, err) = ran(command);
    assert_eq!(err, "");
    (code, serde_json::from_str(&out).unwrap())
}

#[test]
fn a_full_disk_is_told_waited_for_and_counted_right() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::mount());
    let head = Head::start(disk.0.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let mut client = head.line();
    client.send_all("before", 10);
    disk.fill();
    // The page that is begun still has room.
    let refused = eventually("the registro cannot be written", || {
        let answer = client.ask("during");
        (!answer.ends_with("recibido")).then_some(answer)
    });
    assert!(refused.contains("the registro in ") && refused.contains("No space left on device"), "{refused}");
    assert!(refused.contains("; free space"), "{refused}");
    let acknowledged = head.status()["acked_messages"].as_u64().unwrap();
    for _ in 0..5 {
        assert!(client.ask("during").starts_with("error: the registro in "));
    }
    let status = head.status();
    assert_eq!(status["acked_messages"].as_u64(), Some(acknowledged), "nothing more is acknowledged");
    assert_eq!(status["refused_messages"], 6);
    assert!(status["problems"][0].as_str().unwrap().contains("goes on by itself"), "{status}");
    let (code, out, _) = run(&["status", "--head", &head.at()]);
    assert!(code == Some(0) && out.contains("problem    it takes no messages: the registro in "), "{out}");
    let (code, out, _) = run(&["health", "--ask", &head.at()]);
    assert!(code == Some(1) && out.starts_with("not healthy: ") && out.contains("No space left on device"), "{out}");
    assert_eq!(run(&["health", "--ask", &head.at(), "--node", "data1"]).0, Some(0), "the data node is well");
    disk.free();
    eventually("it goes on by itself", || client.ask("after").ends_with("recibido").then_some(()));
    assert_eq!(head.status()["problems"], serde_json::json!([]));
    assert_eq!(run(&["health", "--ask", &head.at()]).0, Some(0));
    client.send_all("after", 10);
    head.process.wait_for("is written again, after");
    // What was kept and refused has its line by now: nothing is unknown, nothing is torn in two.
    let (code, report) = audit(&[&head.logs], dir.path());
    assert_eq!(code, Some(0), "{report:#}");
    let kept: usize = payloads(dir.path()).values().sum();
    assert_eq!(report["acknowledged"], kept, "{report:#}");
    assert_eq!((&report["missing"], &report["unacknowledged"]), (&0.into(), &0.into()));
    assert_eq!(report["registros"]["unreadable_lines"], 0, "{report:#}");
    eventually("every refusal is counted", || {
        let refused = head.status()["refused_messages"].as_u64();
        (audit(&[&head.logs], dir.path()).1["registros"]["refusals"].as_u64() == refused).then_some(())
    });
}

#[test]
fn clients_of_several_heads_go_on_with_one_that_can_write() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::mount());
    let head = Head::start(disk.0.path(), &[]);
    let other = head.start_beside(dir.path(), &[]);
    let heads = format!("{},{}", head.at(), other.at());
    let mut command = acopio();
    command.args(["data", "--head", &heads, "--name", "data1", "--dir"]).arg(dir.path().join("data1"));
    let _node = Process::start(command);
    for head in [&head, &other] {
        head.process.wait_for("dataNode data1 registered");
    }
    disk.fill();
    let mut client = head.line();
    eventually("the registro cannot be written", || (!client.ask("x").ends_with("recibido")).then_some(()));
    let (code, out, err) = run(&["send", "--head", &head.at(), "--retry-for", "500ms", "hola"]);
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(err.contains("the registro in "), "{err}");
    let logs = dir.path().join("client");
    let commands: [&[&str]; 3] = [
        &["send", "--head", &heads, "hola"],
        &["client", "--head", &heads, "--count", "1", "--logs", logs.to_str().unwrap()],
        &["read", "--head", &heads, "--count"],
    ];
    for words in commands {
        let (code, out, err) = run(words);
        assert_eq!(code, Some(0), "{words:?}: {out}{err}");
    }
    assert_eq!(other.status()["acked_messages"], 2);
    disk.free();
    let (code, _, err) = run(&["send", "--head", &head.at(), "hola"]);
    assert_eq!(code, Some(0), "there is room again: {err}");
}

#[test]
fn a_head_that_comes_second_removes_nothing_of_the_first_ones() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let mut client = head.line();
    (0..200).for_each(|k| assert!(client.ask(&format!("medida {k}")).ends_with("recibido")));
    let old = head.logs.join("registro.2026-01-01.log");
    fs::write(&old, "").unwrap();
    let logs = head.logs.to_str().unwrap();
    let keep = ["--keep-registro", "1d", "--keep-registro-bytes", "4k"];
    let (code, _, err) = run(&[&["head", "--listen", "127.0.0.1:0", "--logs", logs], &keep[..]].concat());
    assert!(code == Some(1) && err.contains("is in use by another process"), "{err}");
    assert!(old.exists(), "it is the other's");
    let (code, report) = audit(&[&head.logs], dir.path());
    assert_eq!((code, &report["acknowledged"], &report["not_judged"]), (Some(0), &200.into(), &0.into()));
}

#[test]
fn a_head_whose_folder_of_logs_is_moved_goes_on_in_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let mut client = head.line();
    client.send_all("before", 3);
    let moved = dir.path().join("moved");
    fs::rename(&head.logs, &moved).unwrap();
    eventually("it is taken on", || client.ask("after").ends_with("recibido").then_some(()));
    eventually("a new one", || head.logs.join("registro.log").exists().then_some(()));
    eventually("what it knows of the cluster", || head.logs.join("head.state").exists().then_some(()));
    // The head may be writing there.
    eventually("it is removed", || fs::remove_dir_all(&head.logs).ok());
    eventually("a newer one", || head.logs.join("registro.log").exists().then_some(()));
    client.send_all("later", 3);
    assert!(head.log("registro.log").contains("recibido en dataNode"));
}

/// Nothing but the file's own errors counts: any that goes away is as good as a full disk.
#[test]
fn an_error_of_the_disk_is_waited_for_too() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let mut client = head.line();
    client.send_all("before", 3);
    need("the tracing of a process", Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]));
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-P"]).arg(head.logs.join("registro.log"));
    strace.args(["-e", "trace=write", "-e", "inject=write:error=EIO:when=1..6", "-p", &head.process.pid().to_string()]);
    let mut tracer = strace.spawn().unwrap();
    eventually("an error", || client.ask("during").contains("Input/output error").then_some(()));
    eventually("it goes on", || client.ask("after").ends_with("recibido").then_some(()));
    tracer.kill().unwrap();
    tracer.wait().unwrap();
    let (code, report) = audit(&[&head.logs], dir.path());
    assert_eq!((code, &report["unacknowledged"]), (Some(0), &0.into()), "{report:#}");
    assert_eq!(report["registros"]["unreadable_lines"], 0, "{report:#}");
}

#[test]
fn a_registro_that_was_moved_away_is_made_anew_and_so_is_a_removed_one() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let mut client = head.line();
    client.send_all("one", 3);
    let (path, moved) = (head.logs.join("registro.log"), head.logs.join("registro.log.1"));
    fs::rename(&path, &moved).unwrap();
    // Without a line to write, and without being told.
    eventually("it is made anew", || path.exists().then_some(()));
    client.send_all("two", 3);
    let ids = |path: &Path| fs::read_to_string(path).unwrap().matches("recibido en dataNode").count();
    assert!(ids(&path) > 0 && ids(&moved) > 0);
    let (code, report) = audit(&[&path, &moved], dir.path());
    assert_eq!((code, &report["acknowledged"], &report["unacknowledged"]), (Some(0), &6.into(), &0.into()));
    fs::remove_file(&path).unwrap();
    eventually("it is made anew", || path.exists().then_some(()));
    client.send_all("three", 3);
    assert!(ids(&path) > 0);
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o027, 0, "{mode:o}");
}

#[test]
fn sighup_opens_all_logs_anew_and_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--heartbeat", "200ms"]);
    let node = head.node(dir.path(), 1, &[]);
    let mut command = acopio();
    command.args(["client", "--head", &head.at(), "--every", "50ms", "--logs"]).arg(dir.path().join("client"));
    let client = Process::start(command);
    client.wait_for("Servidor recibio");
    let logs = ["head/registro.log", "head/heartbeat.log", "head/head.log", "data1/node.log", "client/client.log"];
    for log in logs {
        fs::rename(dir.path().join(log), dir.path().join(format!("{log}.1"))).unwrap();
    }
    for process in [&head.process, &node, &client] {
        process.signal(Signal::HUP);
        process.wait_for("SIGHUP: the log files are opened anew");
    }
    for log in logs {
        eventually(&format!("{log} is written anew"), || {
            fs::read_to_string(dir.path().join(log))
                .is_ok_and(|text| !text.is_empty() || log.contains("node"))
                .then_some(())
        });
    }
    for mut process in [client, node, head.process] {
        process.signal(Signal::TERM);
        assert_eq!(process.wait().code(), Some(0), "{}", process.all());
    }
}

#[test]
fn refusals_and_flips_are_said_once_and_then_counted() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let mut client = head.line();
    let many = vec!["hola"; 1000].join("\n");
    for _ in 0..10 {
        client.send(&many);
        for _ in 0..1000 {
            assert!(client.read().starts_with("error: no hay dataNodes"));
        }
    }
    let refused = head.status()["refused_messages"].as_u64().unwrap();
    assert_eq!(refused, 10_000);
    for k in 0..1000 {
        let answer = head.nc(format!("hola {k}\n").as_bytes());
        assert!(answer.starts_with("error: "), "{answer}");
    }
    let mut process = head.process;
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
    let registro = fs::read_to_string(head.logs.join("registro.log")).unwrap();
    let times = |line: &str| line.split_once(" veces=").map_or(1, |(_, times)| times.parse::<u64>().unwrap());
    // A line for at most 16 messages each, and none is forgotten.
    let refusals: u64 = registro.lines().map(times).sum();
    assert!(refusals >= 625 && registro.len() < 100_000, "{refusals} refusals in {} bytes", registro.len());
    let log = fs::read_to_string(head.logs.join("head.log")).unwrap();
    assert!(log.len() < 100_000, "{} bytes", log.len());
    assert!(log.contains(" lines about it that are left out)") || log.contains(" (repeated "), "{log}");
}

#[test]
fn a_data_node_that_flips_its_state_fills_no_log() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let mut node = Frames::open(head.connect(), NODE_OPENING);
    node.as_node(7, "data1");
    head.process.wait_for("dataNode data1 registered");
    for k in 0..10_000 {
        let Frame::Register { mut report, .. } = register(7, "data1") else { panic!("a Register") };
        (report.writable, report.reason) = (k % 2 == 0, format!("cause {}", k % 500));
        node.say(&Frame::NodeState(report));
    }
    node.say(&Frame::Ping(1));
    while !matches!(node.hear(), Frame::Pong(1)) {}
    let mut process = head.process;
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
    let logs = ["head.log", "heartbeat.log"].map(|log| fs::read_to_string(head.logs.join(log)).unwrap());
    let bytes: usize = logs.iter().map(String::len).sum();
    assert!(bytes < 100_000, "{bytes} bytes");
    assert!(logs.iter().all(|log| log.contains("writable again (repeated ")), "{}", logs[0]);
}

#[test]
fn a_registro_is_kept_for_as_long_and_as_large_as_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("head");
    fs::create_dir(&logs).unwrap();
    for day in ["2026-01-01", "2026-02-01", "2026-02-02"] {
        fs::write(logs.join(format!("registro.{day}.log")), "").unwrap();
    }
    let port = Port::reserve();
    let head = Head::start_at(dir.path(), &port.at(), &["--keep-registro", "30d", "--keep-registro-bytes", "16k"]);
    eventually("the oldest goes", || (!logs.join("registro.2026-01-01.log").exists()).then_some(()));
    assert!(logs.join("registro.2026-02-01.log").exists() && logs.join("registro-gone.txt").exists());
    let _node = head.node(dir.path(), 1, &[]);
    let mut client = head.line();
    for k in 0..600 {
        assert!(client.ask(&format!("medida {k}")).ends_with("recibido"));
    }
    let files = fs::read_dir(&logs).unwrap().map(|entry| entry.unwrap());
    let registros: Vec<_> =
        files.filter(|entry| entry.file_name().to_str().unwrap().starts_with("registro.")).collect();
    let bytes: u64 = registros.iter().map(|entry| entry.metadata().unwrap().len()).sum();
    assert!((8 * 1024..=17 * 1024).contains(&bytes), "{bytes} bytes in {registros:?}");
    let (code, report) = audit(&[&head.logs], dir.path());
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(report["unacknowledged"], 0, "{report:#}");
    let judged = report["acknowledged"].as_u64().unwrap();
    assert_eq!(judged + report["not_judged"].as_u64().unwrap(), 600, "{report:#}");
    let (_, out, _) = run(&["audit", "--registro", logs.to_str().unwrap(), "--data", dir.path().to_str().unwrap()]);
    assert!(out.contains("  not judged ") && out.contains("older lines of a registro were let go"), "{out}");
    assert!(judged > 0 && judged < 600 && report["judged_from"].is_string(), "{report:#}");
}

/// As on exFAT and many network file systems.
#[test]
fn logs_need_no_links() {
    need("the tracing of a process", Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]));
    let dir = tempfile::tempdir().unwrap();
    let port = Port::reserve();
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=symlink,symlinkat,link,linkat"]);
    command.args(["-e", "inject=symlink,symlinkat,link,linkat:error=EPERM"]);
    command.arg(env!("CARGO_BIN_EXE_acopio")).args(["head", "--listen", &port.at(), "--logs"]).arg(dir.path());
    let head = Process::start(command);
    head.wait_for("listening on");
    for log in ["registro.log", "heartbeat.log", "head.log"] {
        let meta = eventually(log, || fs::symlink_metadata(dir.path().join(log)).ok());
        assert!(meta.is_file(), "{log}");
    }
    // The head outlives who traces it.
    let pid = eventually("the head's lock names it", || {
        let lock = fs::read_to_string(dir.path().join("head.lock")).ok()?;
        lock.split(' ').nth(1)?.parse().ok()
    });
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    let mut head = head;
    head.wait();
}

/// A system that gives no threads is told of in words.
#[test]
fn a_missing_thread_is_an_error_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(dir.path(), Some(54_321), Some(54_321)).unwrap();
    let program = dir.path().join("acopio");
    fs::copy(env!("CARGO_BIN_EXE_acopio"), &program).unwrap();
    let alone = || {
        // One who is not root, and whose only process is this one.
        let mut command = Command::new("setpriv");
        command.args(["--reuid=54321", "--regid=54321", "--clear-groups", "prlimit", "--nproc=1"]).arg(&program);
        command
    };
    let mut version = alone();
    need("another user with a limit of processes", version.arg("--version"));
    let logs = dir.path().join("logs").to_str().unwrap().to_owned();
    let commands: [&[&str]; 7] = [
        &["data", "--head", "127.0.0.1:9", "--dir", &logs],
        &["head", "--solo", "--listen", "127.0.0.1:0", "--logs", &logs, "--dir", &logs],
        &["head", "--until-stdin-closes", "--listen", "127.0.0.1:0", "--logs", &logs],
        &["send", "--head", "127.0.0.1:9", "hola"],
        &["status", "--head", "a-name.invalid:5000"],
        &["read", "--head", "a-name.invalid:5000", "--retry-for", "500ms"],
        &["up", "--port", "21299", "--dir", &logs],
    ];
    for args in commands {
        let mut command = alone();
        command.args(args);
        let (code, out, err) = ran(command);
        assert!(!err.contains("panicked") && !err.contains("RUST_BACKTRACE"), "{args:?}: {out}{err}");
        assert!(matches!(code, Some(1 | 2)), "{args:?}: {code:?} {out}{err}");
        assert!(args[0] == "up" || err.contains("Resource temporarily unavailable"), "{args:?}: {err}");
    }
}
