//! `acopio verify`, and what a data node does at its start with what `verify` names.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{Head, Process, Signal, acopio, ran, records, sealed_files, verify_clean};

/// A head with one data node, whose folder is damaged while the node is away.
struct Cluster {
    dir: tempfile::TempDir,
    head: Head,
}

impl Cluster {
    /// A node with 200 records in sealed files of 4 KiB and a `data.txt`, stopped in order.
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let head = Head::start(dir.path(), &[]);
        let cluster = Self { dir, head };
        let node = cluster.node();
        let mut client = cluster.head.line();
        for k in 0..200 {
            assert_eq!(client.ask(&format!("medida {k}")), "127.0.0.2 , mensaje: recibido");
        }
        cluster.stop(node);
        assert!(cluster.sealed().len() >= 2 && fs::metadata(cluster.current()).unwrap().len() > 0);
        cluster
    }

    fn node(&self) -> Process {
        self.head.node(self.dir.path(), 1, &["--segment-bytes", "4096"])
    }

    fn stop(&self, mut node: Process) {
        node.signal(Signal::TERM);
        assert_eq!(node.wait().code(), Some(0), "{}", node.all());
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("data1")
    }

    fn current(&self) -> PathBuf {
        self.folder().join("data.txt")
    }

    fn files(&self, extension: &str) -> Vec<PathBuf> {
        let paths = fs::read_dir(self.folder()).unwrap().map(|entry| entry.unwrap().path());
        let mut found: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
        found.sort();
        found
    }

    fn sealed(&self) -> Vec<PathBuf> {
        sealed_files(&self.folder())
    }
}

/// Exit code, standard output and standard error of `acopio verify`.
fn verify(dir: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let mut command = acopio();
    command.arg("verify").arg(dir).args(more);
    ran(command)
}

/// Flips a bit of the last payload byte of a line, the first of a file being 1.
fn flip(path: &Path, line: usize) {
    let mut bytes = fs::read(path).unwrap();
    let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
    let end = ends.clone().nth(line - 1).unwrap();
    bytes[end - 1] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_clean_folder_is_clean() {
    let cluster = Cluster::start();
    let (code, out, err) = verify(&cluster.folder(), &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let files = cluster.sealed().len() + 1;
    assert!(out.contains(&format!(": 200 records in {files} files, ")) && out.contains(" bytes: clean\n"), "{out}");
    assert!(out.ends_with("complete: everything that was acknowledged is here, or was let go by retention\n"), "{out}");
    let (code, json, _) = verify(&cluster.folder(), &["--format", "json"]);
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    let folder = &report["folders"][0];
    assert_eq!((code, &folder["records"], &folder["problem_count"]), (Some(0), &200.into(), &0.into()));
}

#[test]
fn a_folder_in_use_is_clean_and_its_node_named() {
    let cluster = Cluster::start();
    let node = cluster.node();
    let (code, out, _) = verify(&cluster.folder(), &[]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains(&format!("a node is writing here (pid {} name data1)", node.pid())), "{out}");
}

#[test]
fn a_flipped_bit_in_a_sealed_file_is_named_by_file_and_line() {
    let cluster = Cluster::start();
    let sealed = cluster.sealed().swap_remove(1);
    let before = fs::read(&sealed).unwrap();
    flip(&sealed, 7);
    let (code, out, _) = verify(&cluster.folder(), &[]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains(": 2 faults\n") && out.contains(&format!("{} line 7, ", sealed.display())), "{out}");
    assert!(
        out.contains("Lacking in ") && out.contains("NOT complete: 1 entries that are promised are in no folder"),
        "{out}"
    );
    let (code, json, _) = verify(&cluster.folder(), &["--format", "json"]);
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    let problem = &report["folders"][0]["problems"][1];
    assert_eq!((code, &problem["kind"], &problem["line"]), (Some(1), &"rot".into(), &7.into()), "{problem}");
    let lacking = &report["lacking_first"][0];
    assert_eq!(
        (&report["complete"], &report["lacking"], &lacking["wanted"]),
        (&false.into(), &1.into(), &serde_json::json!([]))
    );
    assert_eq!(problem["file"], sealed.file_name().unwrap().to_str().unwrap());
    assert_eq!(fs::read(&sealed).unwrap().len(), before.len(), "verify changes nothing");
}

#[test]
fn a_torn_end_is_named_then_cut_off_and_kept_aside() {
    let cluster = Cluster::start();
    let whole = fs::read(cluster.current()).unwrap();
    let torn = &whole[..30];
    fs::write(cluster.current(), [&whole, torn].concat()).unwrap();
    let line = whole.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let (code, out, _) = verify(&cluster.folder(), &[]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("Torn in ") && out.contains(&format!("data.txt line {line}, 30 bytes from byte")), "{out}");
    let node = cluster.node();
    node.wait_for("the last 30 bytes of data.txt were not a whole record and are cut off, kept in data-");
    assert_eq!(fs::read(cluster.current()).unwrap(), whole);
    let aside = cluster.files("torn");
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert_eq!(fs::read(&aside[0]).unwrap(), torn);
    assert_eq!(cluster.head.line().ask("despues"), "127.0.0.2 , mensaje: recibido");
    cluster.stop(node);
    verify_clean(cluster.dir.path(), &["data1"]);
    assert_eq!(records(cluster.dir.path()).len(), 201);
}

#[test]
fn rot_in_the_middle_is_told_and_never_cut() {
    let cluster = Cluster::start();
    flip(&cluster.current(), 1);
    let rotten = fs::read(cluster.current()).unwrap();
    let node = cluster.node();
    node.wait_for("1 damaged lines in data.txt, the first at offset 0: ");
    assert_eq!(fs::read(cluster.current()).unwrap(), rotten);
    assert_eq!(cluster.head.line().ask("sigue"), "127.0.0.2 , mensaje: recibido");
    cluster.stop(node);
    assert!(fs::read(cluster.current()).unwrap().starts_with(&rotten));
    let (code, out, _) = verify(&cluster.folder(), &[]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("data.txt line 1, ") && out.contains(" are promised and not here"), "{out}");
}

#[test]
fn what_is_no_folder_of_a_node_is_named_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    for path in [file.as_path(), &dir.path().join("missing"), dir.path()] {
        let (code, out, err) = verify(path, &[]);
        assert_eq!((code, out.as_str(), err.lines().count()), (Some(1), "", 1), "{err}");
        assert!(err.contains(path.to_str().unwrap()) && err.ends_with("; name the data folder of a node\n"), "{err}");
        assert_eq!(err.matches("os error").count(), usize::from(path != dir.path()), "a cause is told once: {err}");
    }
}
