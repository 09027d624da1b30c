//! Faults that somebody types into the terminal of `acopio up`: what they do to processes and files, and what the cluster
//! makes of them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::common::{Port, Signal, acopio, eventually, ran, records};
use rustix::process::{Pid, kill_process};

/// `acopio up` on a terminal, which `script` makes.
struct Terminal {
    script: Child,
    keys: ChildStdin,
    out: PathBuf,
    logs: PathBuf,
    port: Port,
}

impl Terminal {
    /// With a message every 100 ms and a short heartbeat.
    fn start(dir: &Path, more: &str) -> Self {
        let (port, logs, out) = (Port::reserve(), dir.join("logs"), dir.join("out"));
        let up = format!(
            "stty cols 200; exec {} up --no-web --port {} --dir {} --heartbeat 500ms --every 100ms {more}",
            env!("CARGO_BIN_EXE_acopio"),
            port.number(),
            logs.display()
        );
        let mut script = Command::new("script");
        script.args(["-qec", &up, "/dev/null"]).stdin(Stdio::piped()).stdout(File::create(&out).unwrap());
        let mut script = script.spawn().unwrap();
        let terminal = Self { keys: script.stdin.take().unwrap(), script, out, logs, port };
        terminal.sees("Enter shows this again");
        terminal
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.out).unwrap_or_default()).into_owned()
    }

    fn sees(&self, part: &str) -> String {
        eventually(&format!("up says {part:?}"), || {
            self.said().lines().find(|line| line.contains(part)).map(ToOwned::to_owned)
        })
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(format!("{keys}\n").as_bytes()).unwrap();
    }

    /// The process that runs now for a member: the last one that was told of.
    fn pid(&self, member: &str) -> i32 {
        let (begun, again) = (format!("  {member:8} pid "), format!("{member} runs again, pid "));
        let said = self.said();
        let line = said.lines().rfind(|line| line.starts_with(&begun) || line.starts_with(&again)).unwrap();
        line.split_once("pid ").unwrap().1.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// How the system says a process is: `S` sleeping, `T` stopped; nothing if it is gone.
    fn state(&self, pid: i32) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next().filter(|state| *state != 'Z')
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.logs.join(name)).unwrap_or_default()
    }

    /// Waits until a line comes to a log that was not there before.
    fn comes(&self, log: &str, part: &str, before: usize) {
        eventually(&format!("{log} says {part:?}"), || (self.count(log, part) > before).then_some(()));
    }

    fn count(&self, log: &str, part: &str) -> usize {
        self.log(log).matches(part).count()
    }

    fn more_answers(&self) {
        let count = || self.count("client1/client.log", "Servidor recibio: ");
        let before = count();
        eventually("the client gets answers", || (count() >= before + 5).then_some(()));
    }

    /// What every client was told is kept.
    fn acknowledged(&self) -> BTreeSet<String> {
        let registro = self.log("head/registro.log");
        let ids = registro.lines().filter_map(|line| line.split_once(" recibido en dataNode "));
        ids.flat_map(|(_, rest)| rest.split(' ').skip(2).map(|id| id.split("..").next().unwrap().to_owned())).collect()
    }

    /// Ctrl-C, and an orderly end.
    fn ends(&mut self) {
        self.keys.write_all(b"\x03").unwrap();
        let status = eventually("up ends", || self.script.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{}", self.said());
        assert!(!self.said().contains("was killed; acknowledged messages are kept"), "{}", self.said());
    }

    fn lost(&self) -> Vec<String> {
        let kept: BTreeSet<String> = records(&self.logs).into_iter().map(|record| record.id).collect();
        self.acknowledged().difference(&kept).cloned().collect()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.script.kill());
        drop(self.script.wait());
    }
}

#[test]
fn keys_kill_pause_and_cut_and_r_mends() {
    let dir = tempfile::tempdir().unwrap();
    let mut up = Terminal::start(dir.path(), "--restart-after never");
    up.more_answers();
    let (heartbeats, evicted) = ("head/heartbeat.log", |name: &str| format!("eliminado name={name}"));
    let registered = |name: &str| format!("disponible name={name} registered");

    let pid = up.pid("data2");
    up.types("k2");
    up.sees(&format!("data2 (pid {pid}) was killed by signal 9; it is not started again"));
    assert_eq!(up.state(pid), None);
    up.comes(heartbeats, &evicted("data2"), 0);
    up.more_answers();
    up.types("k2");
    up.sees("data2 is down: there is no process now");

    let pid = up.pid("data3");
    up.types("p3");
    up.sees("data3 is paused (SIGSTOP)");
    eventually("it is stopped", || (up.state(pid) == Some('T')).then_some(()));
    up.comes(heartbeats, &evicted("data3"), 0);
    up.more_answers();

    let before = up.count(heartbeats, &registered("data2"));
    up.types("r");
    up.sees("data3 goes on (SIGCONT)");
    up.sees("data2 runs again, pid ");
    assert_eq!(up.pid("data3"), pid, "it is the same process");
    up.comes(heartbeats, &registered("data2"), before);
    up.comes(heartbeats, &registered("data3"), 1);

    let pid = up.pid("data1");
    up.types("c1");
    up.sees("data1 is cut: nothing passes");
    up.comes(heartbeats, &evicted("data1"), 0);
    assert!(matches!(up.state(pid), Some('S' | 'R' | 'D')), "its process knows nothing of it");
    up.more_answers();
    up.types("c1");
    up.sees("data1 is cut already");
    up.types("r");
    up.sees("data1 is connected again");
    up.comes(heartbeats, &registered("data1"), 1);

    let pid = up.pid("head");
    up.types("h1");
    up.sees(&format!("head (pid {pid}) was killed by signal 9"));
    up.types("r");
    up.sees("head runs again, pid ");
    up.more_answers();
    // Paused when the end comes: it ends in order all the same.
    let pid = up.pid("data2");
    up.types("p2");
    eventually("it is stopped", || (up.state(pid) == Some('T')).then_some(()));
    up.types("c3");
    up.sees("data3 is cut: nothing passes");
    up.ends();
    assert_eq!(up.state(pid), None);
    assert_eq!(up.lost(), Vec::<String>::new());
}

#[test]
fn what_cannot_be_done_is_told_in_words_and_the_keys_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let mut up = Terminal::start(dir.path(), "");
    up.sees("k2  kill data2 (-9)");
    for (line, said) in [
        ("k9", "k9: there is no data9; there are data1 to data3"),
        ("h2", "h2: there is no head2; there is head1 alone"),
        ("w", "w needs a number, as in w1"),
        ("hola", "is no key; write one of k, p, c, w, b"),
    ] {
        up.types(line);
        up.sees(said);
    }
    let mut help = acopio();
    help.args(["up", "--help"]);
    let help = ran(help).1;
    for what in
        ["k2   kill data2", "p2   pause", "c2   cut", "w2   wipe", "b2   cut the power", "h1   kill head", "/clase"]
    {
        assert!(help.contains(what), "{what}: {help}");
    }
    up.types("?");
    eventually("the keys again", || (up.said().matches("k2  kill data2 (-9)").count() == 2).then_some(()));
    up.ends();
}

#[test]
fn a_wipe_takes_the_folder_and_nothing_that_a_link_leads_to() {
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("data.txt"), "somebody else's\n").unwrap();
    let mut up = Terminal::start(dir.path(), "--replicas 2 --nodes 3 --restart-after 200ms");
    up.more_answers();
    let (inode, identity) = (inode(&up.logs.join("data2/data.txt")), identity(&up, "data2"));
    std::os::unix::fs::symlink(&other, up.logs.join("data2/link")).unwrap();
    up.types("w2");
    up.sees("data2 is wiped: ");
    up.sees("data2 runs again, pid ");
    eventually("it begins anew", || {
        let now = fs::metadata(up.logs.join("data2/data.txt")).ok()?;
        (std::os::unix::fs::MetadataExt::ino(&now) != inode || now.len() == 0).then_some(())
    });
    up.comes("head/heartbeat.log", "disponible name=data2 registered", 1);
    assert_ne!(self::identity(&up, "data2"), identity, "an empty folder is a new node");
    assert!(!up.logs.join("data2/link").exists() && other.join("data.txt").exists());
    up.more_answers();
    // A folder that is a link is somebody else's.
    fs::rename(up.logs.join("data3"), dir.path().join("moved")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("moved"), up.logs.join("data3")).unwrap();
    up.types("w3");
    up.sees("data3 is killed, but keeps its files: ");
    assert!(dir.path().join("moved/data.txt").exists());
    up.ends();
    assert_eq!(up.lost(), Vec::<String>::new(), "each message had two copies");
}

fn inode(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap())
}

fn identity(up: &Terminal, node: &str) -> String {
    eventually("its state", || {
        let text = up.log(&format!("{node}/node.state"));
        text.lines().find_map(|line| line.strip_prefix("node ")?.split(' ').next().map(str::to_owned))
    })
}

#[test]
fn without_power_who_never_syncs_loses_what_it_acknowledged_and_who_always_does_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut up = Terminal::start(dir.path(), "--nodes 2 --sync-of data2=never --restart-after never");
    let kept = |up: &Terminal, node: &str| {
        let lines = up.log(&format!("{node}/data.txt"));
        lines.lines().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect::<BTreeSet<_>>()
    };
    eventually("both keep messages", || ["data1", "data2"].iter().all(|node| kept(&up, node).len() > 5).then_some(()));
    let identities = ["data1", "data2"].map(|node| identity(&up, node));
    for node in [1, 2] {
        up.types(&format!("b{node}"));
        up.sees(&format!("data{node} lost its power: "));
    }
    up.sees("data2 lost its power: gone is what it had not synced: the last ");
    let by_node = |up: &Terminal, node: &str| {
        let registro = up.log("head/registro.log");
        let of = registro.lines().filter(|line| line.contains(&format!(" {node} ")));
        of.filter_map(|line| line.rsplit(' ').next().map(str::to_owned)).collect::<BTreeSet<_>>()
    };
    assert!(by_node(&up, "data1").is_subset(&kept(&up, "data1")), "it lost nothing that it acknowledged");
    let lost = by_node(&up, "data2").difference(&kept(&up, "data2")).count();
    assert!(lost > 5, "{lost} lost");
    up.types("r");
    for node in ["data1", "data2"] {
        up.comes("head/heartbeat.log", &format!("disponible name={node} registered"), 1);
    }
    let again = ["data1", "data2"].map(|node| identity(&up, node));
    assert_eq!(again[0], identities[0]);
    assert_ne!(again[1], identities[1], "what may have lost something is another node");
    assert!(up.log("data2/node.log").contains(" the node starts as "), "{}", up.log("data2/node.log"));
    up.more_answers();
    let mut status = acopio();
    status.args(["status", "--head", &up.port.at()]);
    let (code, out, err) = ran(status);
    let old = out.lines().find(|line| line.contains(&identities[1])).expect(&out);
    assert!(old.contains("no disponible"), "{code:?} {out}{err}: what it had acknowledged is not there");
    up.ends();
}

#[test]
fn somebody_who_kills_up_leaves_no_paused_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut up = Terminal::start(dir.path(), "");
    up.more_answers();
    let (pid, head) = (up.pid("data2"), up.pid("head"));
    up.types("p2");
    eventually("it is stopped", || (up.state(pid) == Some('T')).then_some(()));
    let parent = fs::read_to_string(format!("/proc/{head}/stat")).unwrap();
    let parent: i32 = parent.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap();
    kill_process(Pid::from_raw(parent).unwrap(), Signal::KILL).unwrap();
    eventually("all end", || (up.state(pid).is_none() && up.state(head).is_none()).then_some(()));
}
