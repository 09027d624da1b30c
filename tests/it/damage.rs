//! The fault matrix: each file in the folder of a data node and of a head, times each kind of damage. The cluster keeps two
//! copies, so one folder's damage costs nothing: the process starts, or refuses in words that name the file; and everything
//! that was acknowledged is read, with copies made again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::common::{Head, PATIENCE, Port, Process, Signal, acopio, eventually, ran};

/// What happens to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    /// A byte in its middle is another.
    Flipped,
    /// Its second half is gone.
    Cut,
    /// It is there, and empty.
    Emptied,
    /// It has bytes of something else.
    Garbage,
    /// It is not there.
    Deleted,
    /// A directory of its name is there.
    Directory,
}

const ALL: [Damage; 6] =
    [Damage::Flipped, Damage::Cut, Damage::Emptied, Damage::Garbage, Damage::Deleted, Damage::Directory];

impl Damage {
    fn befalls(self, file: &Path) {
        let mut bytes = fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let middle = bytes.len() / 2;
        match self {
            Self::Flipped => {
                if let Some(byte) = bytes.get_mut(middle) {
                    *byte ^= 0x55;
                }
            }
            Self::Cut => bytes.truncate(middle),
            Self::Emptied => bytes.clear(),
            Self::Garbage => bytes = (0..=255).cycle().take(10_000).collect(),
            Self::Deleted => return fs::remove_file(file).unwrap_or_default(),
            Self::Directory => {
                fs::remove_file(file).unwrap_or_default();
                return fs::create_dir(file).unwrap();
            }
        }
        fs::write(file, bytes).unwrap();
    }
}

const NODE: &[&str] = &["--segment-bytes", "4096"];
const HEAD: &[&str] = &["--replicas", "2", "--repair-after", "1s"];

struct Cluster {
    dir: tempfile::TempDir,
    port: Port,
    head: Option<Head>,
    nodes: Vec<Option<Process>>,
    sent: BTreeSet<String>,
}

impl Cluster {
    fn start() -> Self {
        let (dir, port) = (tempfile::tempdir().unwrap(), Port::reserve());
        let head = Head::start_at(dir.path(), &port.at(), HEAD);
        let nodes = (1..=3).map(|k| Some(head.node(dir.path(), k, NODE))).collect();
        let mut cluster = Self { dir, port, head: Some(head), nodes, sent: BTreeSet::new() };
        cluster.head().wait_in_cluster(3);
        cluster.send("antes", 150);
        cluster
    }

    fn head(&self) -> &Head {
        self.head.as_ref().unwrap()
    }

    fn send(&mut self, what: &str, count: usize) {
        let mut client = self.head().line();
        for k in 0..count {
            let text = format!("{what} {k}");
            let answer = client.ask(&text);
            assert!(answer.ends_with("recibido"), "{text}: {answer}");
            self.sent.insert(text);
        }
    }

    /// Everything is read, as soon as those that are here have found each other, and has its copies.
    fn is_whole(&mut self, what: &str, mut by_hand: bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut command = acopio();
            command.args(["read", "--format", "raw", "--retry-for", "2s", "--head", &self.head().at()]);
            let (code, out, err) = ran(command);
            let read: BTreeSet<&str> = out.lines().filter_map(|line| line.strip_prefix("mensaje: ")).collect();
            let missing: Vec<_> = self.sent.iter().filter(|text| !read.contains(text.as_str())).collect();
            if code == Some(0) {
                assert!(missing.is_empty(), "{what}: a read that says that it is complete lacks {missing:?}: {err}");
                break;
            }
            assert!(Instant::now() < deadline, "{what}: no read is complete: {code:?} {err}; it lacks {missing:?}");
            self.does_as_it_says(&mut by_hand);
        }
        let (deadline, mut given_up) = (Instant::now() + PATIENCE, BTreeSet::new());
        loop {
            let status = self.head().status();
            if status["short_of_copies"] == 0 && status["members_away"] == serde_json::json!([]) {
                break;
            }
            self.does_as_it_says(&mut by_hand);
            assert!(
                Instant::now() < deadline,
                "{what}: copies are short, or nodes are missed: {status:#} {} {given_up:?}",
                self.nodes[0].as_ref().unwrap().all()
            );
            // Where nothing says any more whose the folder was, a person gives that identity up.
            let away = status["members_away"].as_array().unwrap().iter().filter(|_| by_hand);
            for id in away.map(|away| away["id"].as_str().unwrap().to_owned()) {
                if given_up.iter().all(|(given, _)| *given != id) {
                    let mut command = acopio();
                    command.args(["drain", "--gone", &id, "--head", &self.head().at()]);
                    // It may be out by now.
                    let said = ran(command);
                    given_up.insert((id, said));
                }
            }
        }
    }

    /// Where a node hears that it lost what it acknowledged, a person starts it as another one.
    fn does_as_it_says(&mut self, by_hand: &mut bool) {
        if self.nodes[0].as_ref().unwrap().count("start it once with --new-id") == 0 {
            return;
        }
        *by_hand = true;
        self.stop_node(false);
        self.nodes[0] = Some(self.head().node(self.dir.path(), 1, &[NODE, &["--new-id"]].concat()));
    }

    fn stop_node(&mut self, kill: bool) {
        let mut node = self.nodes[0].take().unwrap();
        node.signal(if kill { Signal::KILL } else { Signal::TERM });
        node.wait();
    }

    /// Starts the first node: true once it has registered, false if it refuses to start, with what it said.
    fn starts_node(&mut self) -> Result<(), String> {
        let seen = self.head().process.count("dataNode data1 registered");
        let mut node = self.head().start_node(self.dir.path(), 1, NODE);
        let ended = eventually("it starts or refuses", || {
            let registered = self.head().process.count("dataNode data1 registered") > seen;
            if registered { Some(None) } else { node.ended().map(Some) }
        });
        match ended {
            None => {
                self.nodes[0] = Some(node);
                Ok(())
            }
            Some(_) => {
                let (code, _, said) = node.finish();
                assert_eq!(code, Some(1), "{said}");
                Err(said)
            }
        }
    }
}

fn refuses_in_words(said: &str, file: &Path, what: &str) {
    let (folder, name) = (file.parent().unwrap().display().to_string(), file.file_name().unwrap().to_string_lossy());
    let is_named = said.contains(&folder) && said.contains(&*name);
    assert!(is_named && said.contains("; ") && !said.contains("panicked"), "{what}: {said}");
}

/// The file of that name, or the first one of a kind.
fn file_of(folder: &Path, name: &str) -> PathBuf {
    if !name.contains('*') {
        return folder.join(name);
    }
    let (start, end) = name.split_once('*').unwrap();
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let is_one = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with(start) && name.ends_with(end)
    };
    files.into_iter().find(is_one).unwrap_or_else(|| panic!("there is no {name} in {}", folder.display()))
}

/// Each kind of damage to a file of a node that stops, one after the other.
fn a_node_bears(name: &str, kill: bool) {
    let mut cluster = Cluster::start();
    let folder = cluster.dir.path().join("data1");
    for damage in ALL {
        let what = format!("{name} {damage:?}, kill: {kill}");
        cluster.stop_node(kill);
        let file = file_of(&folder, name);
        let before = fs::read(&file).unwrap_or_default();
        damage.befalls(&file);
        if let Err(said) = cluster.starts_node() {
            refuses_in_words(&said, &file, &what);
            // As the words say, what lies there is moved away.
            if file.is_dir() {
                fs::remove_dir(&file).unwrap();
            }
            fs::write(&file, before).unwrap();
            cluster.starts_node().unwrap_or_else(|said| panic!("{what}: {said}"));
        }
        let by_hand = name == "node.state" || damage == Damage::Deleted || damage == Damage::Directory;
        cluster.is_whole(&what, by_hand);
        cluster.send(&what, 10);
        cluster.is_whole(&what, false);
    }
}

#[test]
fn data_txt_of_a_node_that_stopped() {
    a_node_bears("data.txt", false);
}

#[test]
fn data_txt_of_a_node_that_was_killed() {
    a_node_bears("data.txt", true);
}

#[test]
fn a_sealed_file() {
    a_node_bears("data-*.txt", false);
}

#[test]
fn a_sidecar() {
    a_node_bears("data-*.index", false);
}

#[test]
fn node_state_of_a_node_that_stopped() {
    a_node_bears("node.state", false);
}

#[test]
fn node_state_of_a_node_that_was_killed() {
    a_node_bears("node.state", true);
}

#[test]
fn segments_txt() {
    a_node_bears("segments.txt", false);
}

#[test]
fn what_a_node_can_do_without() {
    for name in ["node.state.reserve", "node.log"] {
        a_node_bears(name, false);
    }
}

#[test]
fn a_head_bears_damage_to_any_of_its_files() {
    let mut cluster = Cluster::start();
    let folder = cluster.dir.path().join("head");
    for name in ["head.state", "registro.log", "heartbeat.log", "head.log"] {
        for damage in ALL {
            let what = format!("{name} {damage:?}");
            drop(cluster.head.take());
            let file = folder.join(name);
            let before = fs::read(&file).unwrap_or_default();
            damage.befalls(&file);
            let start = |cluster: &Cluster| {
                let mut command = acopio();
                command.args(["head", "--listen", &cluster.port.at(), "--logs"]).arg(&folder).args(HEAD);
                let mut process = Process::start(command);
                let code = eventually("it starts or refuses", || {
                    if process.count("dataNode data1 registered") > 0 { Some(None) } else { process.ended().map(Some) }
                });
                (code, process)
            };
            if let (Some(_), process) = start(&cluster) {
                let (code, _, said) = process.finish();
                assert_eq!(code, Some(1), "{what}: {said}");
                refuses_in_words(&said, &file, &what);
                if file.is_dir() {
                    fs::remove_dir(&file).unwrap();
                }
                fs::write(&file, before).unwrap();
            }
            cluster.head = Some(Head::start_at(cluster.dir.path(), &cluster.port.at(), HEAD));
            for k in 1..=3 {
                cluster.head().process.wait_for(&format!("dataNode data{k} registered"));
            }
            cluster.is_whole(&what, false);
            if file.is_dir() {
                // What it has to write down it can't: nothing is taken until that is moved away.
                let answer = cluster.head().line().ask("hola");
                if !answer.ends_with("recibido") {
                    refuses_in_words(&answer, &file, &what);
                }
                fs::remove_dir(&file).unwrap();
                let mut client = cluster.head().line();
                eventually("it takes messages again", || client.ask("hola").ends_with("recibido").then_some(()));
            }
            cluster.send(&what, 5);
        }
    }
    cluster.is_whole("in the end", false);
}
