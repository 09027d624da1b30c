//! `acopio torture`: a short run with every kind of fault keeps every promise, and a cluster that loses data is caught.

use std::path::Path;
use std::process::{Command, Output};

use crate::common::{self, acopio, eventually};

fn torture(args: &[&str], dir: &Path) -> (Output, serde_json::Value) {
    let mut command = acopio();
    command.args(["torture", "--format", "json", "--heartbeat", "300ms", "--segment-bytes", "4KiB", "--dir"]);
    let output = command.arg(dir).args(args).output().unwrap();
    let error = || format!("{output:?}");
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| unreachable!("{e}: {}", error()));
    (output, report)
}

/// What a report says is wrong, before all that it says beside: whoever sees only the beginning of a failure sees that.
fn wrong(report: &serde_json::Value) -> String {
    let mut said = format!("troubles {}\n", report["troubles"]);
    for reader in ["read", "follow", "files"] {
        said += &format!("{reader} {}\n", report[reader]);
    }
    for count in ["short_of_copies", "rotten_by_flip", "bad_lines", "copies_s", "faults"] {
        said += &format!("{count} {}\n", report[count]);
    }
    said
}

/// Nothing of a run is left but its folder: no process that works in it, no disk mounted below it.
fn assert_nothing_is_left(dir: &Path) {
    let dir = dir.to_str().unwrap();
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    assert!(!mounts.contains(dir), "{mounts}");
    eventually("no process of the run is left", || {
        let processes = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("cmdline")).ok());
        (!{ processes }.any(|command| command.contains(dir))).then_some(())
    });
}

#[test]
fn every_kind_of_fault_is_borne() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    // In this one the wipe comes first, so that what a flip spoils afterwards stays.
    let (output, report) = torture(&["--for", "15s", "--seed", "18", "--slack", "10s"], &run);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{}{error}\n{report:#}", wrong(&report));
    for reader in ["read", "follow", "files"] {
        for breach in ["lost", "read_twice", "never_sent"] {
            assert_eq!(report[reader][breach], 0, "{report:#}");
        }
        // Files promise no order.
        let out_of_order = &report[reader]["out_of_order"];
        assert!(if reader == "files" { out_of_order.is_null() } else { out_of_order == 0 }, "{report:#}");
        assert!(report[reader]["read"].as_u64() >= report["messages"]["acknowledged"].as_u64(), "{report:#}");
    }
    assert_eq!(report["short_of_copies"], report["rotten_by_flip"], "{report:#}");
    assert!(report["copies_judged"] == true && report["copies_s"].is_number(), "{report:#}");
    assert!(report["messages"]["acknowledged"].as_u64() > Some(100), "{report:#}");
    assert!(report["bad_lines"].as_u64() >= Some(1), "a flipped bit is found: {report:#}");
    let left_out = report["left_out"].as_array().unwrap().len();
    assert_eq!(report["faults"].as_array().unwrap().len() + left_out, 9, "{report:#}\n{error}");
    assert_nothing_is_left(&run);
}

#[test]
fn a_cluster_that_loses_data_is_caught_and_the_history_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    // One copy of each message, and a node that loses its files: what it had acknowledged is gone.
    let (output, report) =
        torture(&["--for", "6s", "--seed", "5", "--replicas", "1", "--faults", "wipe", "--slack", "10s"], &run);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{report:#}\n{error}");
    assert!(report["files"]["lost"].as_u64() > Some(0) && report["good"] == false, "{report:#}");
    assert_eq!(report["files"]["findings"][0]["breach"], "lost");
    assert!(report["read"]["lost"].as_u64() > Some(0), "{report:#}");
    let history: Vec<&str> = report["history"].as_array().unwrap().iter().filter_map(|line| line.as_str()).collect();
    for event in [" sent ", " acked ", " fault data"] {
        assert!(history.iter().any(|line| line.contains(event)), "{event}: {history:#?}");
    }
    assert!(error.contains("a promise was broken, seed 5; all data and logs are in "), "{error}");
    assert!(run.join("history.log").is_file() && run.join("data1/data.txt").is_file());
    assert_nothing_is_left(&run);
}

#[test]
fn a_torture_that_is_killed_leaves_no_process_not_even_a_paused_one() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let mut command: Command = acopio();
    command.args(["torture", "--for", "1m", "--seed", "5", "--heartbeat", "2s", "--faults", "stop", "--dir"]).arg(&run);
    let process = common::Process::start(command);
    process.wait_for(" is paused for ");
    process.kill();
    assert_nothing_is_left(&run);
}

#[test]
fn a_folder_with_something_in_it_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("mine"), "do not touch").unwrap();
    let output = acopio().args(["torture", "--for", "1s", "--dir"]).arg(dir.path()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("is not empty; name a folder for this run alone with --dir"), "{error}");
    for (args, wanted) in [
        (&["--replicas", "4"][..], "raise --nodes"),
        (&["--clients", "0", "--line-clients", "0"], "raise --clients"),
        (&["--for", "10h"], "lower --rate"),
    ] {
        let output = acopio().arg("torture").args(args).output().unwrap();
        assert!(String::from_utf8_lossy(&output.stderr).contains(wanted), "{output:?}");
    }
}
