//! Retention of a data node that runs: whole sealed files go, and a log says which.

use std::path::Path;

use crate::common::{Head, LineClient, acopio, data_files, eventually, payloads, ran, sealed_files, verify_clean};

fn bytes(folder: &Path) -> u64 {
    data_files(folder).iter().map(|file| std::fs::metadata(file).map_or(0, |metadata| metadata.len())).sum()
}

fn send(line: &mut LineClient, from: usize, until: usize) {
    for k in from..until {
        assert_eq!(line.ask(&format!("linea {k}")), "127.0.0.2 , mensaje: recibido");
    }
}

#[test]
fn the_oldest_sealed_files_go_and_the_newest_records_stay() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data1");
    let head = Head::start(dir.path(), &[]);
    let flags = ["--segment-bytes", "4096", "--keep-bytes", "16384"];
    let node = head.node(dir.path(), 1, &flags);
    let mut line = head.line();
    send(&mut line, 0, 1500);
    let said = node.wait_for("retention: removed data-");
    assert!(said.contains(".txt, ") && said.contains(" records from 20") && said.contains("Z to 20"), "{said}");
    // A file that is sealed is soon followed by one that goes.
    eventually("what is kept fits", || (bytes(&folder) <= 16384 + 4096 + 200).then_some(()));
    assert!(!sealed_files(&folder).is_empty());
    let kept = payloads(dir.path());
    let first = (0..1500).find(|k| kept.contains_key(&format!("mensaje: linea {k}"))).unwrap();
    assert!(first > 500 && kept.len() == 1500 - first, "the oldest are gone and no others");
    let audit = || {
        let mut command = acopio();
        command.args(["audit", "--format", "json", "--registro"]).arg(&head.logs).arg("--data").arg(dir.path());
        let (code, out, err) = ran(command);
        (code, serde_json::from_str::<serde_json::Value>(&out).expect(&err))
    };
    let (code, report) = audit();
    let count = |report: &serde_json::Value, key: &str| report[key].as_u64().unwrap() as usize;
    assert_eq!((code, count(&report, "missing")), (Some(0), 0), "{report:#}");
    assert!(count(&report, "let_go") >= first, "{report:#}");
    assert_eq!(count(&report, "let_go") + count(&report, "found"), 1500, "{report:#}");
    // Of a file that is gone otherwise nothing was let go.
    let sealed = sealed_files(&folder).remove(0);
    let away = dir.path().join("away");
    std::fs::rename(&sealed, &away).unwrap();
    let (code, report) = audit();
    let lost = std::fs::read_to_string(&away).unwrap().lines().count();
    assert_eq!((code, count(&report, "missing")), (Some(1), lost), "{report:#}");
    std::fs::rename(&away, &sealed).unwrap();
    // What the head is told follows.
    node.kill();
    let again = head.node(dir.path(), 1, &flags);
    send(&mut head.line(), 1500, 1510);
    drop(again);
    // A node that starts looks, too.
    let kept = payloads(dir.path());
    let now_first = (0..1510).find(|k| kept.contains_key(&format!("mensaje: linea {k}"))).unwrap();
    assert!(now_first >= first && kept.len() == 1510 - now_first, "{first} {now_first} {}", kept.len());
    verify_clean(dir.path(), &["data1"]);
}

#[test]
fn sealed_files_go_for_their_age() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let node = head.node(dir.path(), 1, &["--segment-bytes", "4096", "--keep", "1s"]);
    let mut line = head.line();
    send(&mut line, 0, 200);
    let mut k = 200;
    // Each seal is followed by a look; in time the first file is a second older than the newest record.
    eventually("a file is old enough", || {
        send(&mut line, k, k + 20);
        k += 20;
        (node.count("retention: removed") > 0).then_some(())
    });
    let kept = payloads(dir.path());
    assert!(!kept.contains_key("mensaje: linea 0") && kept.contains_key(&format!("mensaje: linea {}", k - 1)));
}

#[test]
fn without_a_policy_nothing_goes() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let node = head.node(dir.path(), 1, &["--segment-bytes", "4096"]);
    send(&mut head.line(), 0, 600);
    assert_eq!(payloads(dir.path()).len(), 600);
    assert!(sealed_files(&dir.path().join("data1")).len() > 3);
    assert_eq!(node.count("retention"), 0);
}
