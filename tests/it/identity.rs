//! Folders that are not what their node takes them for: of another cluster, copied, or with a part missing. Each is told
//! in one clear line, and nothing is lost.

use std::path::Path;

use crate::common::{
    self, Head, Port, Process, Signal, acopio, eventually, payloads, records, sealed_files, verify_clean,
};

fn node_id(dir: &Path, node: &str) -> String {
    std::fs::read_to_string(dir.join(node).join("node.id")).unwrap()
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
    node.kill();
    assert!(node_id(dir.path(), "data1").ends_with(" casa\n"), "{}", node_id(dir.path(), "data1"));
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
    let id = eventually("a head named its cluster", || {
        Some(node_id(dir.path(), "data1")).filter(|id| id.ends_with(" casa\n") || id.ends_with(" lab\n"))
    });
    let (ours, theirs) = if id.ends_with(" casa\n") { (&casa, &lab) } else { (&lab, &casa) };
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
    head.node(dir.path(), 1, &[]).kill();
    let before = node_id(dir.path(), "data1");
    std::fs::remove_file(dir.path().join("data1/data.txt")).unwrap();
    let (code, _, said) = head.start_node(dir.path(), 1, &[]).finish();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("/data1 has a node.id but neither data.txt nor a sealed file: its log is lost"), "{said}");
    assert!(said.contains("; restore it from a backup, or start once with --new-id"), "{said}");
    let anew = head.node(dir.path(), 1, &["--new-id"]);
    anew.wait_for("start it without --new-id from now on");
    anew.wait_for("registered as data1");
    stored(&head, "sigue");
    let id = node_id(dir.path(), "data1");
    assert!(id != before && id.ends_with(" acopio\n"), "{id} after {before}");
    anew.kill();
    let _again = head.node(dir.path(), 1, &[]);
    assert_eq!(node_id(dir.path(), "data1"), id, "the new identity stays");
}

#[test]
fn a_sealed_file_that_is_gone_is_named_and_the_rest_is_kept_under_a_new_identity() {
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
    let (code, _, said) = head.start_node(dir.path(), 1, &[]).finish();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("{name} of the data folder ")), "{said}");
    assert!(said.contains(" is gone, though segments.txt lists it; restore it"), "{said}");
    let node = head.node(dir.path(), 1, &["--new-id"]);
    stored(&head, "sigue");
    node.kill();
    assert_eq!(records(dir.path()).len(), 401 - gone, "what was there is there");
    drop(head.node(dir.path(), 1, &[]));
    verify_clean(dir.path(), &["data1"]);
}

/// Waits until `end.txt` says that all of `data.txt` was synced.
fn witnessed(folder: &Path) {
    eventually("the end is written down", || {
        let end = std::fs::read_to_string(folder.join("end.txt")).ok()?;
        let bytes: u64 = end.split(' ').nth(2)?.parse().ok()?;
        (bytes == std::fs::metadata(folder.join("data.txt")).ok()?.len()).then_some(())
    });
}

#[test]
fn a_data_txt_that_lost_its_end_is_refused_and_the_rest_is_kept_under_a_new_identity() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let (folder, segments) = (dir.path().join("data1"), ["--segment-bytes", "4096"]);
    let current = folder.join("data.txt");
    let mut line = head.line();
    // Ended in order, it is written down at once; killed, what was synced a second before is.
    for killed in [false, true] {
        let mut node = head.node(dir.path(), 1, &segments);
        line.send_all(&format!("linea {killed}"), 215);
        if killed {
            witnessed(&folder);
            node.kill();
        } else {
            node.signal(Signal::TERM);
            assert_eq!(node.wait().code(), Some(0), "{}", node.all());
        }
        assert!(!sealed_files(&folder).is_empty());
        let (id, whole) = (node_id(dir.path(), "data1"), std::fs::read(&current).unwrap());
        let lines: Vec<&[u8]> = whole.split_inclusive(|b| *b == b'\n').collect();
        let first = lines[0].len();
        let most = format!(": {} bytes with {} records that were on the disk", whole.len() - first, lines.len() - 1);
        let all = format!(": {} bytes with {} records that were on the disk", whole.len(), lines.len());
        for (left, says, lost) in [
            (Some(first), "data.txt was cut short", &most),
            (Some(first + 9), "data.txt was cut short", &most),
            (Some(0), "data.txt was emptied", &all),
            (None, "data.txt is gone", &all),
        ] {
            match left {
                Some(left) => std::fs::write(&current, &whole[..left]).unwrap(),
                None => std::fs::remove_file(&current).unwrap(),
            }
            for _ in 0..2 {
                let (code, _, said) = head.start_node(dir.path(), 1, &segments).finish();
                assert_eq!(code, Some(1), "{said}");
                assert!(
                    said.contains(&format!("the log in {} cannot be opened: {says}{lost}", folder.display())),
                    "{said}"
                );
                assert!(said.contains("; restore it from a backup, or start once with --new-id"), "{said}");
            }
            assert_eq!(std::fs::read(&current).ok().as_deref(), left.map(|left| &whole[..left]), "it is left alone");
            std::fs::write(&current, &whole).unwrap();
        }
        assert_eq!(node_id(dir.path(), "data1"), id);
    }
    let node = head.node(dir.path(), 1, &segments);
    stored(&head, "restored");
    node.kill();
    assert_eq!(records(dir.path()).len(), 431, "nothing is lost");
    let (id, lost) = (node_id(dir.path(), "data1"), std::fs::read_to_string(&current).unwrap().lines().count());
    std::fs::write(&current, "").unwrap();
    let node = head.node(dir.path(), 1, &[&segments[..], &["--new-id"]].concat());
    assert_ne!(node_id(dir.path(), "data1"), id);
    stored(&head, "sigue");
    witnessed(&folder);
    node.kill();
    drop(head.node(dir.path(), 1, &segments));
    assert_eq!(records(dir.path()).len(), 432 - lost, "what was there is there");
    verify_clean(dir.path(), &["data1"]);
    std::fs::remove_file(&current).unwrap();
    let (code, _, said) = head.start_node(dir.path(), 1, &segments).finish();
    assert_eq!(code, Some(1), "the new identity has a witness of its own: {said}");
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
    let head = Head::start(dir.path(), &["--replicas", "3"]);
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
        table.contains("copies     3, at least 1; 100 records are short of copies").then_some(())
    });
    let _third = head.node(dir.path(), 3, &[]);
    head.process.wait_for("messages have all 3 copies again: 3 dataNodes can take them; 100 were kept with fewer");
    assert_eq!(line.ask("por fin").matches("127.0.0.").count(), 3);
    assert_eq!(head.process.count("messages have"), 2, "{}", head.process.all());
    assert!(payloads(dir.path()).values().all(|copies| *copies >= 2), "nothing is lost");
}
