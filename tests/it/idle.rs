//! A cluster to which nobody sends anything: it writes nothing to any disk, whoever watches it, but for the heartbeats' log.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::top::Terminal;
use super::web::Web;
use crate::common::{Head, Process, acopio, eventually};

/// What a file is: which one, how long, and when it was written.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    inode: u64,
    bytes: u64,
    written_ns: i128,
}

/// Every file below a folder, but for the log of the heartbeats.
fn files(dir: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            found.extend(files(&entry.path()));
        } else if entry.file_name() != "heartbeat.log" {
            let written_ns = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
            found.insert(entry.path(), Seen { inode: metadata.ino(), bytes: metadata.len(), written_ns });
        }
    }
    found
}

/// Bytes that a process has had written to a disk.
fn written(process: &Process) -> u64 {
    let io = fs::read_to_string(format!("/proc/{}/io", process.pid())).unwrap();
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()).unwrap()
}

#[test]
fn who_watches_an_idle_cluster_has_nothing_written_to_a_disk() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &["--heartbeat", "300ms", "--replicas", "2"]);
    let nodes = [1, 2].map(|k| head.node(dir.path(), k, &[]));
    assert!(head.named("esp7").ask("temp=21.5").ends_with("recibido"));

    let web = Web::start(dir.path(), &head.at(), &[]);
    web.wait_ready();
    assert!(web.get("/").body.contains("esp7"));
    let mut stream = web.connect();
    stream.write_all(b"GET /api/v1/live?status=1 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut begun = [0; 512];
    assert!(stream.read(&mut begun).unwrap() > 0);
    let mut follow = acopio();
    follow.args(["read", "--follow", "--head", &head.at()]);
    let follow = Process::start(follow);
    let top = Terminal::start(&head.at());
    top.wait_for("esp7");
    top.wait_for("21.5");

    // Two heartbeats of both nodes, from one look to the next.
    let beats = || head.log("heartbeat.log").matches(" ping=").count();
    let look = || (files(dir.path()), nodes.each_ref().map(written));
    let mut before = look();
    let after = |before| {
        let from = beats();
        eventually("two heartbeats", || (beats() >= from + 4).then_some(()));
        let now = look();
        (now == before).then_some(()).ok_or(now)
    };
    // What the last message and the last connection had written may still be on its way at the first look.
    for _ in 0..3 {
        match after(before) {
            Ok(()) => return drop((follow, stream)),
            Err(now) => before = now,
        }
    }
    let now = look();
    panic!("something is written all the time; last {now:?}");
}
