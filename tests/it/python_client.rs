//! The Python package in `clients/python`: its own tests, against clusters that are started here. What they check is in
//! them; that what they left on the disk is whole is checked here.

use std::path::Path;
use std::process::Command;

use crate::common::{Head, Process, payloads, verify_clean};
use crate::python_vectors::vectors;
use crate::tls::Plant;

const PACKAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/python");

/// The suite that needs pandas.
const TABLES: &str = "tests.against.test_tables";

/// Runs suites of the package with these variables. They have to pass, all of them.
fn passes(suites: &[&str], variables: &[(&str, &str)]) {
    let mut command = Command::new("python3");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ACOPIO_")) {
        command.env_remove(name);
    }
    command.args(["-X", "dev", "-B", "-m", "unittest"]).args(suites).current_dir(PACKAGE);
    // What the package needs is the standard library alone; -I would hide its own folder. Pandas is among what this is to hide.
    if !suites.contains(&TABLES) {
        command.env_remove("PYTHONPATH");
    }
    command.envs(variables.iter().copied());
    let (code, _, said) = Process::start(command).finish();
    assert!(code == Some(0) && said.ends_with("\nOK"), "{suites:?}: {code:?}\n{said}");
    assert!(!said.contains("Ran 0 tests") && !said.contains("Warning"), "{suites:?}:\n{said}");
}

/// Heads, and data nodes that are registered with each of them.
struct Cluster {
    heads: Vec<Head>,
    nodes: Vec<Process>,
    dir: tempfile::TempDir,
    _logs: tempfile::TempDir,
}

impl Cluster {
    fn start(heads: usize, nodes: u8, more: &[&str]) -> Self {
        let (dir, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = |k: usize| if k == 0 { dir.path().to_owned() } else { logs.path().join(k.to_string()) };
        let mut all = vec![Head::start(&folder(0), more)];
        all.extend((1..heads).map(|k| all[0].start_beside(&folder(k), more)).collect::<Vec<_>>());
        let heads = all;
        let others: Vec<String> = heads.iter().skip(1).map(Head::at).collect();
        let others: Vec<&str> = others.iter().flat_map(|at| ["--head", at.as_str()]).collect();
        let nodes: Vec<Process> = (1..=nodes).map(|k| heads[0].node(dir.path(), k, &others)).collect();
        for head in heads.iter().skip(1) {
            for k in 1..=nodes.len() {
                head.process.wait_for(&format!("dataNode data{k} registered"));
            }
        }
        Self { heads, nodes, dir, _logs: logs }
    }

    /// Suites that know where this cluster is, and may kill its heads.
    fn passes(&self, suites: &[&str]) {
        let heads: Vec<String> = self.heads.iter().map(Head::at).collect();
        let pids: Vec<String> = self.heads.iter().map(|head| head.process.pid().to_string()).collect();
        let program = env!("CARGO_BIN_EXE_acopio");
        let (heads, pids) = (heads.join(","), pids.join(","));
        passes(suites, &[("ACOPIO_HEADS", &heads), ("ACOPIO_HEAD_PIDS", &pids), ("ACOPIO_PROGRAM", program)]);
    }

    /// Ends all of it, and looks at what the nodes keep.
    fn ended_whole(self) -> tempfile::TempDir {
        let names: Vec<String> = (1..=self.nodes.len()).map(|k| format!("data{k}")).collect();
        drop(self.nodes);
        verify_clean(self.dir.path(), &names.iter().map(String::as_str).collect::<Vec<_>>());
        self.dir
    }
}

/// Whether every one of the messages of `test_failover.py` is there.
fn all_are_kept(dir: &Path) -> bool {
    let kept = payloads(dir);
    (0..3000).all(|k| kept.contains_key(&format!("message {k}")))
}

#[test]
fn the_suites_that_need_no_cluster_pass() {
    passes(
        &["tests.unit.test_lines", "tests.unit.test_frames", "tests.unit.test_ledger", "tests.unit.test_order"],
        &[],
    );
}

#[test]
fn clients_bear_what_heads_do() {
    passes(&["tests.unit.test_sending"], &[]);
}

#[test]
fn readers_bear_what_heads_do() {
    passes(&["tests.unit.test_reading"], &[]);
}

#[test]
fn its_bytes_are_those_of_this_program() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vectors.json");
    std::fs::write(&path, vectors().to_string()).unwrap();
    passes(&["tests.against.test_vectors"], &[("ACOPIO_VECTORS", path.to_str().unwrap())]);
}

#[test]
fn it_sends_and_reads_with_a_cluster() {
    let cluster = Cluster::start(1, 2, &["--replicas", "2"]);
    cluster.passes(&["tests.against.test_cluster"]);
    cluster.ended_whole();
}

#[test]
fn its_frames_are_those_of_pandas() {
    let cluster = Cluster::start(1, 1, &[]);
    cluster.passes(&[TABLES]);
    cluster.ended_whole();
}

#[test]
fn its_examples_run() {
    let cluster = Cluster::start(1, 1, &[]);
    cluster.passes(&["tests.against.test_examples"]);
    cluster.ended_whole();
}

#[test]
fn a_head_that_is_killed_under_its_client_loses_nothing() {
    let cluster = Cluster::start(2, 2, &[]);
    cluster.passes(&["tests.against.test_failover.Sending"]);
    assert!(all_are_kept(cluster.ended_whole().path()));
}

#[test]
fn a_head_that_is_killed_under_its_reader_loses_nothing() {
    let cluster = Cluster::start(2, 2, &[]);
    cluster.passes(&["tests.against.test_failover.Reading"]);
    cluster.ended_whole();
}

#[test]
fn a_head_that_stands_still_is_left() {
    let cluster = Cluster::start(2, 2, &[]);
    cluster.passes(&["tests.against.test_failover.Standing"]);
    cluster.ended_whole();
}

#[test]
fn it_speaks_tls() {
    let plant = Plant::new();
    plant.cert("over", &["--host", "127.0.0.1", "--from", "2020-02-01T00:00:00Z", "--days", "28"]);
    plant.cert("early", &["--host", "127.0.0.1", "--from", "2099-02-01T00:00:00Z"]);
    plant.cert_in("other", "head", &["--host", "127.0.0.1"]);
    plant.cert_in("other", "stranger", &[]);
    plant.token("writer", &["--role", "write,read"]);
    let (ca, tokens) = (plant.at("ca/ca.crt"), plant.at("tokens"));
    let head = plant.head(&["--clients", "tls", "--tls-ca", &ca, "--tokens", &tokens]);
    let other = |name: &str, listen: &str, words: &[&str]| Head::start_at(&plant.path(name), listen, words);
    let with =
        |name: &str, listen: &str, certificate: &str| other(name, listen, &["--tls-cert", &plant.at(certificate)]);
    let wrong = [
        ("ACOPIO_OVER", with("a", "127.0.0.1:0", "ca/over.crt")),
        ("ACOPIO_EARLY", with("b", "127.0.0.1:0", "ca/early.crt")),
        ("ACOPIO_OTHER", with("c", "127.0.0.1:0", "other/head.crt")),
        ("ACOPIO_ELSEWHERE", with("d", "127.0.0.2:0", "ca/head.crt")),
        ("ACOPIO_PLAIN", other("e", "127.0.0.1:0", &[])),
    ];
    let mut variables = vec![("ACOPIO_HEADS", head.at()), ("ACOPIO_TLS_DIR", plant.dir.path().display().to_string())];
    variables.extend(wrong.iter().map(|(name, head)| (*name, head.at())));
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    passes(&["tests.against.test_tls"], &variables);
}
