//! Folders that are not what their node takes them for: of another cluster, copied, or with a part missing. Each is told
//! in one clear line, and nothing is lost.

use std::path::Path;

use crate::common::{
    self, Head, Port, Process, Signal, acopio, eventually, payloads, ran, records, sealed_files, verify_clean,
};

/// What `node.state` says of a node: its identity and its cluster.
fn identity(dir: &Path, node: &str) -> (String, String) {
    let state = std::fs::read_to_string(dir.join(node).join("node.state")).unwrap();
    let words: Vec<&str> = state.lines().rfind(|line| line.starts_with("node ")).unwrap().split(' ').collect();
    (words[1].to_owned(), words[4].to_owned())
}

fn node_id(dir: &Path, node: &str) -> String {
    identity(dir, node).0
}

fn read(head: &Head) -> (Option<i32>, String, String) {
    let mut command = acopio();
    command.args(["read", "--format", "raw", "--retry-for", "1s", "--head", &head.at()]);
    ran(command)
}

/// Gives up a node with what only it kept.
fn give_up(head: &Head, id: &str) {
    let mut command = acopio();
    command.args(["drain", "--gone", "--lose", "--head", &head.at(), id]);
    let (code, _, err) = ran(command);
    assert_eq!(code, Some(0), "{err}");
}

fn copy_folder(dir: &Path, from: &str, to: &str) {
    std::fs::create_dir(dir.join(to)).unwrap();
    for file in std::fs::read_dir(dir.join(from)).unwrap() {
        let file = file.unwrap();
        if file.file_type().unwrap().is_file() {
            // A small file that is being replaced may be gone again.
            if let Err(error) = std::fs::copy(file.path(), dir.join(to).join(file.file_name())) {
                assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
            }
        }
    }
}

fn stored(head: &Head, text: &str) {
    let answer = head.line().ask(text);
    assert!(answer.ends_with("recibido"), "{answer}");
}

#[test]
fn a_folder_keeps_its_cluster_and_another_head_refuses_it() {
    let (dir, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let casa = Head::start(dir.path(), &["--cluster", "casa"]);
    let node = casa.node(dir.path(), 1, &[]);
    node.wait_for("registered as data1");
    eventually("the node has noted its cluster", || (identity(dir.path(), "data1").1 == "casa").then_some(()));
    node.kill();
    let lab = Head::start(logs.path(), &["--cluster", "lab"]);
    // It goes on with the head of its own cluster.
    let node = casa.node(dir.path(), 1, &["--head", &lab.at()]);
    let said = node.wait_for(&format!("head {}: ", lab.at()));
    let clear = "the records of dataNode data1 belong to cluster casa and this head to cluster lab; give the node the \
                 heads of its cluster with --head, or a folder of its own with --dir";
    assert!(said.contains(clear), "{said}");
    lab.process.wait_for(clear);
    stored(&casa, "sigue");
    assert!(lab.line().ask("nadie").contains("no hay dataNodes"));
    assert_eq!(payloads(dir.path()).len(), 1);
    for (head, name) in [(&casa, "casa"), (&lab, "lab")] {
        let output = acopio().args(["status", "--head", &head.at()]).output().unwrap();
        let table = String::from_utf8(output.stdout).unwrap();
        assert!(table.contains(&format!(", cluster {name}, up ")), "{table}");
    }
    let said = lab.process.all();
    let at_once = said.lines().filter(|line| line.contains("was refused") && !line.ends_with(')')).count();
    assert_eq!(at_once, 1, "a refused node is named once, and then counted: {said}");
}

#[test]
fn a_new_node_between_two_clusters_belongs_to_one_and_leaves_the_other() {
    let (dir, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let casa = Head::start(dir.path(), &["--cluster", "casa"]);
    let lab = Head::start(logs.path(), &["--cluster", "lab"]);
    let node = casa.start_node(dir.path(), 1, &["--head", &lab.at()]);
    node.wait_for("registered as data1");
    let (id, cluster) = eventually("a head named its cluster", || {
        Some(identity(dir.path(), "data1")).filter(|(_, cluster)| cluster == "casa" || cluster == "lab")
    });
    let (ours, theirs) = if cluster == "casa" { (&casa, &lab) } else { (&lab, &casa) };
    node.wait_for(&format!("head {}: ", theirs.at()));
    stored(ours, "sigue");
    eventually("the other head has let it go", || {
        theirs.line().ask("nadie").contains("no hay dataNodes").then_some(())
    });
    assert_eq!(node_id(dir.path(), "data1"), id);
    assert_eq!(payloads(dir.path()).len(), 1, "it keeps nothing for the other cluster");
}

#[test]
fn a_lost_log_is_not_served_under_its_identity() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let node = head.node(dir.path(), 1, &[]);
    stored(&head, "antes");
    node.kill();
    let before = node_id(dir.path(), "data1");
    std::fs::remove_file(dir.path().join("data1/data.txt")).unwrap();
    let anew = head.node(dir.path(), 1, &[]);
    anew.wait_for(&format!(" are left: the node starts as {} in place of {before}", node_id(dir.path(), "data1")));
    stored(&head, "sigue");
    let (code, out, err) = read(&head);
    assert_eq!((code, out.as_str()), (Some(1), ""), "what it alone had is missed: {err}");
    let (id, cluster) = identity(dir.path(), "data1");
    assert!(id != before && cluster == "acopio", "{id} after {before}");
    anew.kill();
    let _again = head.node(dir.path(), 1, &[]);
    assert_eq!(node_id(dir.path(), "data1"), id, "the new identity stays");
    give_up(&head, &before);
    let (code, out, err) = read(&head);
    assert_eq!((code, out.as_str()), (Some(0), "mensaje: sigue\n"), "{err}");
}

#[test]
fn a_sealed_file_that_is_gone_is_named_and_the_rest_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let node = head.node(dir.path(), 1, &["--segment-bytes", "4096"]);
    let mut line = head.line();
    for k in 0..400 {
        assert!(line.ask(&format!("linea {k}")).ends_with("recibido"));
    }
    node.kill();
    let names = sealed_files(&dir.path().join("data1"));
    assert!(names.len() > 2, "{names:?}");
    let lost = &names[1];
    let name = lost.file_name().unwrap().to_str().unwrap();
    let gone = std::fs::read_to_string(lost).unwrap().lines().count();
    std::fs::remove_file(lost).unwrap();
    let node = head.node(dir.path(), 1, &[]);
    node.wait_for(&format!("{name} is gone, and segments.txt lists it with {gone} records"));
    stored(&head, "sigue");
    let (code, _, err) = read(&head);
    assert_eq!(code, Some(1), "what was in it is missed: {err}");
    node.kill();
    assert_eq!(records(dir.path()).len(), 401 - gone, "what was there is there");
}

#[test]
fn a_data_txt_that_lost_its_end_is_another_identity_and_what_is_left_is_copied() {
    for (killed, left) in [(false, Some(1)), (true, Some(1)), (true, Some(0)), (false, None), (true, None)] {
        let dir = tempfile::tempdir().unwrap();
        let head = Head::start(dir.path(), &["--replicas", "2"]);
        let mut node = head.node(dir.path(), 1, &[]);
        let _other = head.node(dir.path(), 2, &[]);
        head.line().send_all("linea", 100);
        if killed {
            node.kill();
        } else {
            node.signal(Signal::TERM);
            assert_eq!(node.wait().code(), Some(0), "{}", node.all());
        }
        let before = node_id(dir.path(), "data1");
        let current = dir.path().join("data1/data.txt");
        let whole = std::fs::read_to_string(&current).unwrap();
        match left {
            Some(lines) => {
                let left: String = whole.split_inclusive('\n').take(lines).collect();
                std::fs::write(&current, left).unwrap();
            }
            None => std::fs::remove_file(&current).unwrap(),
        }
        let node = head.node(dir.path(), 1, &[]);
        // What it replaces is given up by its own word.
        node.wait_for(&format!(" are left: the node starts as {} in place of {before}", node_id(dir.path(), "data1")));
        eventually("all copies are made again", || {
            (payloads(dir.path()).values().filter(|copies| **copies == 2).count() == 100).then_some(())
        });
        stored(&head, "sigue");
        let (code, out, err) = read(&head);
        assert_eq!((code, out.lines().count()), (Some(0), 101), "{err}");
    }
}

#[test]
fn a_copied_folder_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    copy_folder(dir.path(), "data1", "data2");
    let copy = head.start_node(dir.path(), 2, &[]);
    let said = copy.wait_for("the identity of data2 is registered from 127.0.0.2:");
    assert!(said.contains("; one folder serves one dataNode: if this one is a copy, start it with --new-id"), "{said}");
    copy.kill();
    let _copy = head.node(dir.path(), 2, &["--new-id"]);
    assert_ne!(node_id(dir.path(), "data1"), node_id(dir.path(), "data2"));
    stored(&head, "sigue");
}

/// The first head serves the original and the second the copy, each refuses the other one: both nodes say so.
#[test]
fn a_copied_folder_that_gets_in_at_another_head_is_told_by_both_and_nothing_is_lost() {
    let (dir, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Patient heads: a node is stopped for a while.
    let patient = ["--heartbeat", "60s"];
    let first = Head::start(dir.path(), &patient);
    let port = Port::reserve();
    let original = first.node(dir.path(), 1, &["--head", &port.at()]);
    copy_folder(dir.path(), "data1", "data2");
    original.signal(Signal::STOP);
    first.share_key(logs.path());
    let second = Head::start_at(logs.path(), &port.at(), &patient);
    let copy = second.node(dir.path(), 2, &["--head", &first.at()]);
    original.signal(Signal::CONT);
    for (node, name, head) in [(&original, "data1", &second), (&copy, "data2", &first)] {
        let said = node.wait_for("two dataNodes have the identity of ");
        let at = head.at();
        assert!(said.contains(&format!("the identity of {name}: head {at} serves the other one, and 1 of")), "{said}");
        assert!(said.contains("start the one whose folder is a copy with --new-id"), "{said}");
    }
    stored(&first, "uno");
    stored(&second, "dos");
    copy.kill();
    let copy = second.node(dir.path(), 2, &["--head", &first.at(), "--new-id"]);
    first.process.wait_for("dataNode data2 registered");
    second.process.wait_for("dataNode data1 registered");
    stored(&second, "tres");
    assert_eq!(payloads(dir.path()).len(), 3, "each kept what it was given");
    drop((original, copy));
    verify_clean(dir.path(), &["data1", "data2"]);
}

#[test]
fn more_copies_than_nodes_are_told_once_and_again_when_there_are_enough() {
    let dir = tempfile::tempdir().unwrap();
    // The cluster begins with the first message, which waits until there are two nodes in it.
    let head = Head::start(dir.path(), &["--replicas", "3", "--min-copies", "2"]);
    let _nodes: Vec<Process> = (1..=2).map(|k| head.node(dir.path(), k, &[])).collect();
    let mut line = head.line();
    for k in 0..50 {
        assert_eq!(line.ask(&format!("linea {k}")).matches("127.0.0.").count(), 2, "both keep it");
    }
    let begins =
        "messages have 2 of 3 copies: 2 dataNodes are registered and writable; start more, or lower --replicas";
    head.process.wait_for(begins);
    for k in 50..100 {
        line.ask(&format!("linea {k}"));
    }
    common::eventually("status tells that copies are missing", || {
        let output = acopio().args(["status", "--head", &head.at()]).output().unwrap();
        let table = String::from_utf8(output.stdout).unwrap();
        table.contains("copies     3, at least 2; 100 records are short of copies").then_some(())
    });
    let _third = head.node(dir.path(), 3, &[]);
    head.process.wait_for("messages have all 3 copies again: 3 dataNodes can take them; 100 were kept with fewer");
    assert_eq!(line.ask("por fin").matches("127.0.0.").count(), 3);
    assert_eq!(head.process.count("messages have"), 2, "{}", head.process.all());
    assert!(payloads(dir.path()).values().all(|copies| *copies >= 2), "nothing is lost");
}
