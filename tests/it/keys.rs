//! The cluster's key: who is let in as a data node, who may change the cluster, and what a stranger, a false head and a
//! recorded session come to.
//!
//! The proofs are made here from `docs/wire.md`, not by the project's own code.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use acopio::wire::error::Code;
use acopio::wire::frame::Frame;
use acopio::wire::ledger::NodeId;
use acopio::wire::proof::{Holder, KeyHint, Knock, Nonce, Proof};
use bytes::BytesMut;
use ring::hmac;

use crate::common::frames::{CONFIRMATION, Frames, NODE_OPENING, register};
use crate::common::{Head, Process, Signal, acopio, eventually, need, ran};

/// What is told of who has no key.
const ASKED: &str = "this head asks for the cluster's key";

fn key(args: &[&str], cluster: &Path) -> (Option<i32>, String, String) {
    let mut command = acopio();
    command.arg("key").args(args).arg("--key").arg(cluster);
    ran(command)
}

/// A new cluster's key in this folder.
fn cluster_key(dir: &Path) -> PathBuf {
    let path = dir.join("cluster.key");
    let mut command = acopio();
    command.args(["key", "new"]).arg(&path);
    assert_eq!(ran(command), (Some(0), String::new(), String::new()));
    path
}

/// The key of a data node, in a file of its own.
fn node_key(dir: &Path, cluster: &Path, name: &str) -> String {
    let path = dir.join(format!("{name}.key"));
    let (code, out, err) = key(&["node", name, path.to_str().unwrap()], cluster);
    assert_eq!((code, out.as_str()), (Some(0), ""), "{err}");
    path.to_str().unwrap().to_owned()
}

/// The digits of the key in a file.
fn digits(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap().split_whitespace().last().unwrap().to_owned()
}

fn secret(path: impl AsRef<Path>) -> hmac::Key {
    let digits = digits(path);
    let bytes: Vec<u8> = (0..32).map(|k| u8::from_str_radix(&digits[2 * k..2 * k + 2], 16).unwrap()).collect();
    hmac::Key::new(hmac::HMAC_SHA256, &bytes)
}

fn encoded(frame: &Frame) -> BytesMut {
    let mut out = BytesMut::new();
    frame.encode(&mut out).unwrap();
    out
}

/// What a side proves, as the page says.
fn proved(side: &str, peer: Nonce, head: Nonce, cluster: &str, frame: &Frame) -> Vec<u8> {
    let length = (cluster.len() as u64).to_be_bytes();
    let side = format!("acopio/2 {side}\0");
    [side.as_bytes(), &peer.0, &head.0, &length, cluster.as_bytes(), &encoded(frame)].concat()
}

/// A peer that says it is a data node and has this key, up to what it answers to the head's Challenge.
struct Knocking {
    frames: Frames,
    register: Frame,
    nonce: Nonce,
    head: Nonce,
    cluster: String,
}

impl Knocking {
    fn new(head: &Head, register: Frame, key: &hmac::Key) -> Self {
        let nonce = Nonce([5; 32]);
        let mut frames = Frames::open(head.connect(), NODE_OPENING);
        frames.say(&Frame::Knock(Knock { holder: Holder::Node, hint: KeyHint([0; 8]), nonce }));
        frames.say(&register);
        let Frame::Challenge { nonce: head, proof, cluster } = frames.hear() else { panic!("no Challenge") };
        let said = proved("head", nonce, head, &cluster, &register);
        hmac::verify(key, &said, &proof.0).expect("the head has the key");
        Self { frames, register, nonce, head, cluster }
    }

    fn proof(&self, side: &str, key: &hmac::Key) -> Proof {
        let said = proved(side, self.nonce, self.head, &self.cluster, &self.register);
        Proof(hmac::sign(key, &said).as_ref().try_into().unwrap())
    }

    /// What the head says to a proof.
    fn says(mut self, proof: Proof) -> Frame {
        self.frames.say(&Frame::Proof(proof));
        self.frames.hear()
    }
}

fn refused(frame: Frame) -> String {
    let Frame::Failure(refusal) = frame else { panic!("{frame:?}") };
    assert_eq!((refusal.code, refusal.retry), (Code::Unproven, false), "{refusal}");
    refusal.text
}

#[test]
fn a_key_that_is_given_is_asked_of_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster_key(dir.path());
    let head = Head::start(dir.path(), &["--key", cluster.to_str().unwrap(), "--replicas", "2"]);
    assert!(!head.logs.join("cluster.key").exists(), "it makes none of its own");
    let stranger = head.start_named("stranger", dir.path(), 9, &[]);
    let told = stranger.wait_for(ASKED);
    assert!(told.contains("dataNode stranger has none; start it with --key FILE"), "{told}");
    assert!(told.contains("trying again until it works"), "{told}");
    let line = head.process.wait_for("a dataNode at 127.0.0.10 was refused");
    assert!(line.contains(ASKED), "{line}");
    let _nodes: Vec<Process> = [1, 2, 3]
        .map(|k| {
            let own = node_key(dir.path(), &cluster, &format!("data{k}"));
            head.node(dir.path(), k, &["--key", if k == 3 { cluster.to_str().unwrap() } else { &own }])
        })
        .into();
    head.wait_in_cluster(3);
    assert_eq!(head.status()["nodes"].as_array().unwrap().len(), 3);

    let own = node_key(dir.path(), &cluster, "operator");
    let change = |words: &[&str], key: Option<&str>| {
        let mut command = acopio();
        command.args(words).args(["--head", &head.at()]).args(key.map(|key| ["--key", key]).iter().flatten());
        ran(command)
    };
    for words in [["drain", "data3"].as_slice(), &["copies", "1"]] {
        let (code, _, err) = change(words, None);
        assert!(code == Some(1) && err.contains("of who changes the cluster; add --key FILE"), "{err}");
        let (code, _, err) = change(words, Some(&own));
        assert!(code == Some(1) && err.contains("is that of dataNode operator, and the cluster's is needed"), "{err}");
    }
    assert_eq!(change(&["copies", "1"], cluster.to_str()).0, Some(0));
    let (code, _, err) = change(&["drain", "data3"], cluster.to_str());
    assert!(code == Some(0) && err.contains("data3 is drained"), "{err}");
    // The one that has no key came again and again, and changed nothing.
    assert!(head.status()["nodes"].as_array().unwrap().iter().all(|node| node["name"] != "stranger"));
}

#[test]
fn a_head_makes_a_key_once_and_asks_nobody_on_its_machine() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let file = head.logs.join("cluster.key");
    let told = head.process.wait_for("the cluster has a new key");
    assert!(told.contains(&format!("acopio key node NAME NAME.key --key {}", file.display())), "{told}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let made = digits(&file);
    let _without = head.node(dir.path(), 1, &[]);
    let own = node_key(dir.path(), &file, "data2");
    let with = head.node(dir.path(), 2, &["--key", &own]);
    head.wait_in_cluster(2);
    // Who has another key is not let in even here, and neither believes the other.
    fs::create_dir(dir.path().join("other")).unwrap();
    let other = cluster_key(&dir.path().join("other"));
    let wrong = head.start_node(dir.path(), 3, &["--key", other.to_str().unwrap()]);
    let told = wrong.wait_for("its key is not the one that this side has");
    assert!(told.contains("it is a head of another cluster, or only says that it is one"), "{told}");
    head.process.wait_for("dataNode data3 left before it proved anything");
    assert_eq!(head.status()["nodes"].as_array().unwrap().len(), 2);

    // No secret is told, or seen in the list of processes.
    let line = fs::read(format!("/proc/{}/cmdline", with.pid())).unwrap();
    let told = [head.log("head.log"), head.process.all(), with.all(), String::from_utf8_lossy(&line).into_owned()];
    let node_log = fs::read_to_string(dir.path().join("data2/node.log")).unwrap();
    for told in told.iter().chain([&node_log]) {
        assert!(!told.is_empty() && !told.contains(&made) && !told.contains(&digits(&own)), "{told}");
    }
    let at = head.at();
    drop(head);
    let head = Head::start_at(dir.path(), &at, &[]);
    assert_eq!(head.process.count("the cluster has a new key"), 0);
    assert_eq!(digits(&file), made);
}

#[test]
fn what_is_wrong_with_a_key_file_ends_the_command_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster_key(dir.path());
    let other = node_key(dir.path(), &cluster, "data1");
    let open = dir.path().join("open.key");
    fs::copy(&cluster, &open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let empty = dir.path().join("empty.key");
    fs::write(&empty, "").unwrap();
    fs::set_permissions(&empty, fs::Permissions::from_mode(0o600)).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let cases = [
        ("data", text(&dir.path().join("none")), "name one that is there"),
        ("data", text(&open), "open to everybody (mode 644); chmod 600 it"),
        ("data", text(&empty), "is empty; copy it again"),
        ("data", other.clone(), "is that of dataNode data1 and this one is data2"),
        ("head", other.clone(), "is that of dataNode data1, and the cluster's is needed here"),
        ("head", text(&open), "open to everybody"),
    ];
    for (role, file, wanted) in cases {
        let mut command = acopio();
        command.args([role, "--key", &file]).current_dir(dir.path());
        match role {
            "data" => command.args(["--head", "127.0.0.1:9", "--name", "data2", "--dir", "d"]),
            _ => command.args(["--listen", "127.0.0.1:0", "--logs", "l"]),
        };
        let (code, _, err) = ran(command);
        assert!(code == Some(1) && err.contains(wanted), "{role} {file}: {err}");
        assert!(!err.contains(&digits(&cluster)), "{err}");
    }
    let mut again = acopio();
    again.args(["key", "new"]).arg(&cluster);
    let (code, _, err) = ran(again);
    assert!(code == Some(1) && err.contains("is there already; a key that is replaced lets nobody in"), "{err}");
    let (code, printed, _) = key(&["node", "data1"], &cluster);
    assert_eq!((code, printed), (Some(0), fs::read_to_string(&other).unwrap()), "the same each time");
    // A variable names the file, too.
    let mut command = acopio();
    command.args(["key", "node", "data1"]).env("ACOPIO_KEY_FILE", &cluster);
    assert_eq!(ran(command).1, fs::read_to_string(&other).unwrap());
}

#[test]
fn a_recorded_session_proves_nothing_and_neither_does_the_heads_own_proof() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster_key(dir.path());
    let own = secret(node_key(dir.path(), &cluster, "data1"));
    let head = Head::start(dir.path(), &["--key", cluster.to_str().unwrap()]);
    let first = Knocking::new(&head, register(1, "data1"), &own);
    let (recorded, reflected) = (first.proof("peer", &own), first.proof("head", &own));
    assert!(matches!(first.says(recorded), Frame::Welcome { .. }));
    eventually("it is gone", || head.status()["nodes"].as_array().unwrap().is_empty().then_some(()));
    for proof in [recorded, reflected, Proof([0; 32])] {
        let again = Knocking::new(&head, register(1, "data1"), &own);
        assert!(refused(again.says(proof)).contains("the proof is wrong"));
    }
    let again = Knocking::new(&head, register(1, "data1"), &own);
    let reflected = again.proof("head", &own);
    assert!(refused(again.says(reflected)).contains("the proof is wrong"));
    // The key of one name does not open the door of another.
    let other = secret(node_key(dir.path(), &cluster, "data2"));
    let mut frames = Frames::open(head.connect(), NODE_OPENING);
    frames.say(&Frame::Knock(Knock { holder: Holder::Node, hint: KeyHint([0; 8]), nonce: Nonce([6; 32]) }));
    frames.say(&register(1, "data1"));
    let Frame::Challenge { nonce, cluster: named, .. } = frames.hear() else { panic!("no Challenge") };
    let said = proved("peer", Nonce([6; 32]), nonce, &named, &register(1, "data1"));
    frames.say(&Frame::Proof(Proof(hmac::sign(&other, &said).as_ref().try_into().unwrap())));
    assert!(refused(frames.hear()).contains("the proof is wrong"));
    // Nobody who says nothing of a key is in, and nothing else is taken for a proof.
    let mut bare = Frames::open(head.connect(), NODE_OPENING);
    bare.say(&register(3, "data3"));
    assert!(refused(bare.hear()).contains(ASKED));
    let mut impatient = Knocking::new(&head, register(1, "data1"), &own);
    impatient.frames.say(&Frame::Holds { more: false, gone: Vec::new(), held: Vec::new() });
    let Frame::Failure(refusal) = impatient.frames.hear() else { panic!("no Failure") };
    assert!(refusal.text.contains("say Proof first"), "{refusal}");
    assert!(head.status()["nodes"].as_array().unwrap().is_empty());
}

#[test]
fn wrong_proofs_are_told_after_a_while_and_then_not_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster_key(dir.path());
    let own = secret(node_key(dir.path(), &cluster, "data1"));
    let head = Head::start(dir.path(), &["--key", cluster.to_str().unwrap()]);
    let mut tries: Vec<_> = (0..30).map(|_| Knocking::new(&head, register(1, "data1"), &own)).collect();
    let begun = std::time::Instant::now();
    tries.iter_mut().for_each(|knocking| knocking.frames.say(&Frame::Proof(Proof([0; 32]))));
    let told: Vec<_> = tries
        .into_iter()
        .map(|mut knocking| {
            let Frame::Failure(refusal) = knocking.frames.hear() else { panic!("no Failure") };
            refusal
        })
        .collect();
    assert!(begun.elapsed().as_secs_f64() >= 0.9, "{:?}", begun.elapsed());
    let busy = told.iter().filter(|refusal| refusal.code == Code::Busy).count();
    let wrong = told.iter().filter(|refusal| refusal.text.contains("the proof is wrong")).count();
    assert!(busy >= 1 && wrong >= 20 && busy + wrong == told.len(), "{told:?}");
    // The right one is looked at with time, and a data node tries until then.
    let _node = head.node(dir.path(), 1, &["--key", cluster.to_str().unwrap()]);
}

/// A data node with a key, whose head is this test.
fn node_with_a_key(dir: &Path) -> (Process, Frames) {
    let cluster = cluster_key(dir);
    let own = node_key(dir, &cluster, "data1");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = acopio();
    command.args(["data", "--name", "data1", "--key", &own, "--head", &listener.local_addr().unwrap().to_string()]);
    command.arg("--dir").arg(dir.join("data1"));
    let node = Process::start(command);
    let (mut socket, _): (TcpStream, _) = listener.accept().unwrap();
    let mut opening = vec![0; NODE_OPENING.len()];
    socket.read_exact(&mut opening).unwrap();
    assert_eq!(opening, NODE_OPENING);
    socket.write_all(CONFIRMATION).unwrap();
    let mut head = Frames::new(socket);
    assert!(matches!(head.hear(), Frame::Knock(Knock { holder: Holder::Node, .. })));
    assert!(matches!(head.hear(), Frame::Register { .. }));
    (node, head)
}

#[test]
fn a_false_head_hears_nothing_of_a_node_that_has_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let (node, mut head) = node_with_a_key(dir.path());
    let cluster = || "acopio".to_owned();
    head.say(&Frame::Welcome { incarnation: 1, window_messages: 9, window_bytes: 999, cluster: cluster() });
    node.wait_for("it does not prove that it has the cluster's key");
    assert_eq!(head.hear_or_end(), None);

    let second = tempfile::tempdir().unwrap();
    let (node, mut head) = node_with_a_key(second.path());
    head.say(&Frame::Challenge { nonce: Nonce([1; 32]), proof: Proof([2; 32]), cluster: cluster() });
    node.wait_for("its key is not the one that this side has");
    assert_eq!(head.hear_or_end(), None, "it says no proof of its own");
}

#[test]
fn a_nodes_key_takes_over_nobody_elses_identity() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster_key(dir.path());
    let head = Head::start(dir.path(), &["--key", cluster.to_str().unwrap()]);
    let own = node_key(dir.path(), &cluster, "data1");
    let node = head.node(dir.path(), 1, &["--key", &own]);
    head.wait_in_cluster(1);
    let identity = head.status()["nodes"][0]["id"].as_str().unwrap().to_owned();
    node.kill();
    eventually("it is away", || (head.status()["members_away"].as_array().unwrap().len() == 1).then_some(()));
    let thief = secret(node_key(dir.path(), &cluster, "data2"));
    let stolen: NodeId = identity.parse().unwrap();
    let Frame::Register { old, name, cluster: of, sync, report, .. } = register(2, "data2") else { unreachable!() };
    for (node, replaces) in [(stolen, None), (NodeId(2), Some(stolen))] {
        let (name, of, report) = (name.clone(), of.clone(), report.clone());
        let register = Frame::Register { node, replaces, old, name, cluster: of, sync, report };
        let knocking = Knocking::new(&head, register, &thief);
        let proof = knocking.proof("peer", &thief);
        let told = refused(knocking.says(proof));
        assert!(
            told.contains("the key of dataNode data2 is for that name alone, and its folder is that of data1"),
            "{told}"
        );
    }
    // Who has the cluster's key may rename it.
    let renamed = head.start_named("cellar", dir.path(), 1, &["--key", cluster.to_str().unwrap()]);
    renamed.wait_for("registered as cellar");
}

#[test]
fn nodes_that_speak_text_come_in_where_no_key_is_given_or_their_address_is() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster_key(dir.path());
    let text_node = |head: &Head| {
        let mut socket = head.connect();
        socket.write_all(b"peticion\ndataNode\n").unwrap();
        let mut answer = [0; 13];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"confirmacion\n");
        socket
    };
    let key = ["--key", cluster.to_str().unwrap()];
    let head = Head::start(&dir.path().join("a"), &key);
    let mut told = String::new();
    text_node(&head).read_to_string(&mut told).unwrap();
    assert!(told.starts_with("error: a dataNode that speaks text can't prove"), "{told}");
    assert!(told.contains("start this head with --text-nodes 127.0.0.1"), "{told}");
    for (name, more) in [("b", [key.as_slice(), &["--text-nodes", "10.0.0.7,127.0.0.0/8"]].concat()), ("c", Vec::new())]
    {
        let head = Head::start(&dir.path().join(name), &more);
        let _node = text_node(&head);
        eventually("it is registered", || (head.status()["nodes"].as_array().unwrap().len() == 1).then_some(()));
    }
}

/// A network of its own, with an address that is not on loopback; it goes with this.
pub(super) struct Alone(String);

impl Alone {
    /// A network for measurements, which nobody has (RFC 2544).
    pub(super) const ADDRESS: &str = "198.18.0.1";

    pub(super) fn new(what: &str) -> Self {
        let alone = Self(format!("acopio{what}{}", std::process::id()));
        alone.ip(&["netns", "add", &alone.0]);
        alone.ip(&["-n", &alone.0, "link", "set", "lo", "up"]);
        alone.ip(&["-n", &alone.0, "addr", "add", &format!("{}/32", Self::ADDRESS), "dev", "lo"]);
        alone
    }

    fn ip(&self, words: &[&str]) {
        let mut command = Command::new("ip");
        need("a network of its own (iproute2)", command.args(words).env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin"));
    }

    pub(super) fn acopio(&self, words: &[&str]) -> Command {
        self.run(acopio().get_program(), words)
    }

    /// A program in it.
    pub(super) fn run(&self, program: impl AsRef<OsStr>, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).arg(program).args(words);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ACOPIO_")) {
            command.env_remove(name);
        }
        command.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
        command
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let mut command = Command::new("ip");
        command.args(["netns", "del", &self.0]).env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
        drop(command.stderr(Stdio::null()).status());
    }
}

#[test]
fn a_key_that_the_head_made_is_asked_of_who_comes_from_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let alone = Alone::new("key");
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (here, away) = ("127.0.0.1:5000", format!("{}:5000", Alone::ADDRESS));
    let head = Process::start(alone.acopio(&["head", "--listen", "0.0.0.0:5000", "--logs", &at("head"), "--no-icmp"]));
    head.wait_for("listening on ");
    let cluster = dir.path().join("head/cluster.key");
    let data = |name: &str, head: &str, more: &[&str]| {
        let dir = at(name);
        let words = [&["data", "--head", head, "--name", name, "--dir", &dir], more].concat();
        Process::start(alone.acopio(&words))
    };
    let stranger = data("data1", &away, &[]);
    stranger.wait_for(ASKED);
    let own = node_key(dir.path(), &cluster, "data2");
    let _known = data("data2", &away, &["--key", &own]);
    head.wait_for("dataNode data2 registered from 198.18.0.1");
    let _local = data("data3", here, &[]);
    head.wait_for("dataNode data3 registered from 127.0.0.1");
    let drain = |head: &str, more: &[&str]| {
        let words = [&["copies", "1", "--head", head], more].concat();
        ran(alone.acopio(&words))
    };
    let (code, _, err) = drain(&away, &[]);
    assert!(code == Some(1) && err.contains(ASKED), "{err}");
    let (code, _, err) = drain(&away, &["--key", cluster.to_str().unwrap()]);
    assert!(err.contains("nothing was kept in this cluster yet"), "{code:?} {err}");
    let (_, _, err) = drain(here, &[]);
    assert!(err.contains("nothing was kept in this cluster yet"), "it is let in: {err}");
    assert_eq!(head.count("dataNode data1 registered"), 0);
}

/// Puts another text in place of a key file, as a whole, and waits until the head has read it.
fn replaced(head: &Head, path: &Path, text: &str) {
    let seen = head.process.count("the cluster's key is read");
    let draft = path.with_extension("draft");
    fs::write(&draft, text).unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(draft, path).unwrap();
    eventually("the keys are read anew", || (head.process.count("the cluster's key is read") > seen).then_some(()));
}

#[test]
fn a_key_is_changed_while_everything_runs() {
    let (dir, next) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (old, new) = (cluster_key(dir.path()), cluster_key(next.path()));
    let (first, second) = (digits(&old), digits(&new));
    let head = Head::start(dir.path(), &["--key", old.to_str().unwrap(), "--heartbeat", "500ms"]);
    let key = node_key(dir.path(), &old, "data1");
    let node = head.node(dir.path(), 1, &["--key", &key]);
    let send = |text: &str| {
        let mut command = acopio();
        command.args(["send", text, "--retry-for", "5s", "--head", &head.at()]);
        assert_eq!(ran(command).0, Some(0), "{text}");
    };
    send("with the old key");
    // Both count, then the new one marks, then the old one is for what was taken with it alone.
    replaced(&head, &old, &format!("cluster {first}\nalso {second}\n"));
    send("while both count");
    fs::remove_file(&key).unwrap();
    node_key(dir.path(), &new, "data1");
    let registered = head.process.count("dataNode data1 registered");
    node.signal(Signal::STOP);
    eventually("it is evicted", || (head.process.count("dataNode data1 at 127.0.0.2 evicted") > 0).then_some(()));
    node.signal(Signal::CONT);
    eventually("it comes back with its new key", || {
        (head.process.count("dataNode data1 registered") > registered).then_some(())
    });
    replaced(&head, &old, &format!("cluster {second}\nalso {first}\n"));
    send("with the new key");
    replaced(&head, &old, &format!("cluster {second}\nformer {first}\n"));
    send("when the old one is no key any more");
    let mut read = acopio();
    read.args(["read", "--head", &head.at()]);
    let (code, out, err) = ran(read);
    assert!(code == Some(0) && out.lines().count() == 4, "{out}{err}");
    let mut verify = acopio();
    verify.args(["verify", "--key"]).arg(&old).arg(dir.path().join("data1"));
    assert_eq!(ran(verify).0, Some(0));
    // Who has the old one alone is let in no more.
    let stale = next.path().join("old.key");
    fs::write(&stale, format!("cluster {first}\n")).unwrap();
    fs::set_permissions(&stale, fs::Permissions::from_mode(0o600)).unwrap();
    let key = node_key(next.path(), &stale, "data2");
    let other = head.start_node(dir.path(), 2, &["--key", &key]);
    other.wait_for("its key is not the one that this side has");
}

/// Ends who waits for it, also where a test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_key_is_changed_and_messages_go_on_all_the_while() {
    let (dir, next) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (old, new) = (cluster_key(dir.path()), cluster_key(next.path()));
    let (first, second) = (digits(&old), digits(&new));
    let head = Head::start(dir.path(), &["--key", old.to_str().unwrap(), "--heartbeat", "500ms"]);
    let start = |k: u8, cluster: &Path| {
        let name = format!("data{k}");
        fs::remove_file(dir.path().join(format!("{name}.key"))).ok();
        head.node(dir.path(), k, &["--key", &node_key(dir.path(), cluster, &name)])
    };
    let nodes = [1, 2].map(|k| (k, start(k, &old)));
    let (sent, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
    let _nodes = std::thread::scope(|scope| {
        let _ends = Ends(&ended);
        scope.spawn(|| {
            let mut client = head.line();
            while !ended.load(Ordering::Relaxed) {
                let answer = client.ask(&format!("n {}", sent.load(Ordering::Relaxed)));
                assert!(answer.ends_with("recibido"), "{answer}");
                sent.fetch_add(1, Ordering::Relaxed);
            }
        });
        let goes_on = |when: &str| {
            let before = sent.load(Ordering::Relaxed);
            eventually(when, || (sent.load(Ordering::Relaxed) > before + 20).then_some(()));
        };
        goes_on("messages are kept");
        replaced(&head, &old, &format!("cluster {first}\nalso {second}\n"));
        goes_on("while both keys count");
        let mut again = Vec::new();
        for (k, mut node) in nodes {
            node.signal(Signal::TERM);
            assert_eq!(node.wait().code(), Some(0));
            goes_on("while a node is away");
            again.push(start(k, &new));
            goes_on("with a node of the new key");
        }
        replaced(&head, &old, &format!("cluster {second}\nalso {first}\n"));
        goes_on("once the new key marks");
        replaced(&head, &old, &format!("cluster {second}\nformer {first}\n"));
        goes_on("once the old key is none");
        again
    });
    assert_eq!(head.process.count("evicted: it does not answer"), 0);
    let mut read = acopio();
    read.args(["read", "--format", "raw", "--head", &head.at()]);
    let (code, out, err) = ran(read);
    let came: BTreeSet<&str> = out.lines().collect();
    let wanted: Vec<String> = (0..sent.into_inner()).map(|n| format!("mensaje: n {n}")).collect();
    assert!(code == Some(0) && came.len() == wanted.len(), "{} of {}: {err}", came.len(), wanted.len());
    assert!(wanted.iter().all(|line| came.contains(line.as_str())));
}
