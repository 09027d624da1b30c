//! `acopio bench`: every dialect is measured and read back, on a cluster of its own and on one that runs.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use crate::common::{Head, acopio, ran};

fn bench(args: &[&str]) -> (Output, serde_json::Value) {
    let mut command = acopio();
    command.args([
        "bench",
        "--format",
        "json",
        "--calm-within",
        "1ms",
        "--for",
        "500ms",
        "--warm-up",
        "100ms",
        "--clients",
        "4",
    ]);
    let output = command.args(args).output().unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| unreachable!("{e}: {output:?}"));
    (output, report)
}

fn lines_of_data(dir: &Path) -> u64 {
    let text = std::fs::read_to_string(dir.join("data.txt")).unwrap();
    text.lines().count() as u64
}

#[test]
fn every_dialect_is_measured_and_what_was_acknowledged_is_on_every_node() {
    for dialect in ["framed", "line", "raw"] {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("run");
        let histogram = dir.path().join("times.hgrm");
        let at = ["--dir", folder.to_str().unwrap(), "--histogram", histogram.to_str().unwrap()];
        let (output, report) =
            bench(&[&["--dialect", dialect, "--heads", "2", "--nodes", "2", "--replicas", "2"], &at[..]].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(report["check"], "good", "{report:#}");
        let acknowledged = report["acknowledged"].as_u64().unwrap();
        assert!(acknowledged > 0 && report["sent"] == acknowledged, "{report:#}");
        assert!(report["messages"].as_u64().unwrap() <= acknowledged, "the warm-up does not count: {report:#}");
        for node in ["data1", "data2"] {
            assert_eq!(lines_of_data(&folder.join(node)), acknowledged, "{report:#}");
        }
        for number in ["messages_per_s", "log_mb_per_s", "messages_per_sync", "syncs_per_s"] {
            assert!(report[number].as_f64() > Some(0.0), "{number}: {report:#}");
        }
        let latency = |name: &str| report["latency_us"][name].as_f64().unwrap();
        assert!(latency("p50") > 0.0 && latency("p50") <= latency("p99") && latency("p99") <= latency("max"));
        let roles: Vec<_> = report["cost"].as_array().unwrap().iter().map(|cost| cost["role"].clone()).collect();
        assert_eq!(roles, ["load", "head", "data"]);
        assert!(report["cost"][2]["peak_mib"].as_f64() > Some(1.0), "{report:#}");
        let text = std::fs::read_to_string(&histogram).unwrap();
        assert!(text.contains(&format!("Total count    = {:>12}", report["messages"].as_u64().unwrap())), "{text}");
    }
}

#[test]
fn a_cluster_that_runs_is_measured_at_a_rate_and_keeps_what_it_got() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let (output, report) = bench(&["--head", &head.at(), "--rate", "400", "--size", "50"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(report["check"], "good", "{report:#}");
    assert_eq!(lines_of_data(&dir.path().join("data1")), report["acknowledged"].as_u64().unwrap());
    // The schedule says how many are due; a slow machine may be behind it, and nothing can be ahead.
    let sent = report["sent"].as_u64().unwrap();
    assert!(sent > 0 && sent <= (report["seconds"].as_f64().unwrap().mul_add(400.0, 200.0)) as u64, "{report:#}");
    assert!(report["log_mb_per_s"].is_null() && report["cost"].as_array().unwrap().len() == 1, "{report:#}");
}

#[test]
fn a_solo_head_is_measured_by_its_echo_in_every_dialect() {
    for dialect in ["framed", "line", "raw"] {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("solo");
        let head = Head::start(dir.path(), &["--solo", "--dir", data.to_str().unwrap()]);
        let (output, report) = bench(&["--head", &head.at(), "--dialect", dialect]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(report["messages"].as_u64() > Some(0) && report["check"] == "good", "{report:#}");
        assert_eq!(lines_of_data(&data), report["acknowledged"].as_u64().unwrap(), "{report:#}");
    }
}

#[test]
fn a_cluster_that_keeps_nothing_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let (output, report) = bench(&["--head", &head.at()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(report["refused"].as_u64() > Some(0) && report["acknowledged"] == 0, "{report:#}");
    assert!(report["refusal"].as_str().unwrap().contains("no hay dataNodes"), "{report:#}");
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("mine"), "do not touch").unwrap();
    let full = dir.path().to_str().unwrap();
    let head = Head::start(&dir.path().join("h"), &["--max-clients", "2"]);
    let at = head.at();
    for (args, wanted) in [
        (&["--dialect", "raw", "--in-flight", "2"][..], "choose --dialect line"),
        (&["--size", "23"], "is not between 24 and 1048576"),
        (&["--size", "70000", "--dialect", "line"], "is not between 24 and "),
        (&["--clients", "10000", "--in-flight", "1000"], "lower one of them"),
        (&["--replicas", "3"], "raise --nodes"),
        (&["--dir", full], "is not empty; name a folder for this run alone with --dir"),
        (&["--head", "127.0.0.1:1", "--for", "1s"], "see that a head runs there"),
        (&["--head", &at, "--clients", "3", "--dialect", "line"], "lleno: 2 clients are connected"),
        (&["--head", &at, "--clients", "3"], "2 clients are connected"),
    ] {
        let output = acopio().arg("bench").args(args).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(wanted), "{args:?}: {error}");
    }
}

#[test]
fn a_head_that_asks_for_a_token_is_measured_with_one() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (tokens, secret) = (at("tokens"), at("load.token"));
    let mut command = acopio();
    command.args(["token", "new", "--tokens", &tokens, "--role", "write,read", "load"]);
    let (code, said, _) = ran(command);
    assert_eq!(code, Some(0));
    std::fs::write(&secret, said).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let head = Head::start(dir.path(), &["--clients", "token", "--tokens", &tokens]);
    let _node = head.node(dir.path(), 1, &[]);
    for dialect in ["framed", "line"] {
        let (output, report) = bench(&["--head", &head.at(), "--dialect", dialect, "--token-file", &secret]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(report["check"] == "good" && report["acknowledged"].as_u64() > Some(0), "{report:#}");
    }
    for (more, wanted) in [
        (&["--dialect", "framed"][..], "asks clients for a token"),
        (&["--dialect", "raw", "--token-file", &secret], "choose --dialect line"),
    ] {
        let mut command = acopio();
        command.args(["bench", "--head", &head.at(), "--for", "100ms"]).args(more);
        let (code, _, said) = ran(command);
        assert!(code == Some(1) && said.contains(wanted), "{said}");
    }
}
