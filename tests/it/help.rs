//! The command line as a stranger meets it: help, bad usage, exit codes.

use std::process::Output;

use crate::common::{self, Port};

const SUBCOMMANDS: [&str; 26] = [
    "up", "demo", "health", "head", "data", "client", "send", "collect", "read", "status", "devices", "drain", "key",
    "top", "token", "cert", "verify", "audit", "torture", "bench", "web", "zk", "device", "broker", "calc", "replay",
];

fn acopio(args: &[&str]) -> Output {
    common::acopio().args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_subcommand_has_help_with_examples_and_variables() {
    let all = text(&acopio(&["--help"]).stdout);
    for subcommand in SUBCOMMANDS {
        assert!(all.contains(&format!("  {subcommand} ")), "{subcommand} is not in --help");
        let output = acopio(&[subcommand, "--help"]);
        let help = text(&output.stdout);
        assert!(output.status.success(), "{subcommand}");
        assert!(help.contains("Examples:"), "{subcommand} --help has no examples");
        assert!(help.contains("[env: ACOPIO_"), "{subcommand} --help names no variables");
        assert!(!help.contains("until-stdin-closes"), "{subcommand} --help shows a hidden flag");
    }
    for code in ["0    done", "1    ", "2    bad usage", "130  "] {
        assert!(all.contains(code), "--help does not document exit code {code}");
    }
}

#[test]
fn bad_usage_is_exit_code_2_with_what_would_be_right() {
    let cases: [(&[&str], &str); 12] = [
        (&["data", "--head", "nowhere"], "write HOST:PORT"),
        (&["data", "--head", "h:1", "--name", "two words"], "one word"),
        (&["data", "--head", "h:1", "--sync", "often"], "or never"),
        (&["data", "--head", "h:1", "--segment-bytes", "12"], "4096 or more"),
        (&["client", "--head", "h:1", "--every", "0s"], "too short"),
        (&["head", "--max-clients", "0"], "1..=10000"),
        (&["head", "--heartbeat", "5"], "250ms, 5s or 2m"),
        (&["up", "--port", "0"], "1..=65535"),
        (&["torture", "--faults", "kill,sleep"], "no such fault; write kill, stop,"),
        (&["torture", "--copies-within", "soon"], "or never"),
        (&["watch", "--webhook", "https://h/x"], "--exec 'curl -d"),
        (&["watch", "--webhook", "h/x"], "http://HOST:PORT/PATH"),
    ];
    for (args, wanted) in cases {
        let output = acopio(args);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert!(error.contains(wanted), "{args:?}: {error}");
    }
}

#[test]
fn a_variable_is_a_flag() {
    let output = common::acopio().arg("head").env("ACOPIO_HEARTBEAT", "0s").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = text(&output.stderr);
    assert!(error.contains("too short") && error.contains("(variable ACOPIO_HEARTBEAT)"), "{error}");
    // A flag wins, and the error is about the flag.
    let output = common::acopio().args(["head", "--heartbeat", "1us"]).env("ACOPIO_HEARTBEAT", "0s").output().unwrap();
    assert!(!text(&output.stderr).contains("ACOPIO_HEARTBEAT"));
    // One that is set for another command is in nobody's way, nor is what Kubernetes sets for a service called acopio.
    let output = common::acopio()
        .args(["read", "--help"])
        .env("ACOPIO_COUNT", "7")
        .env("ACOPIO_FORMAT", "json")
        .env("ACOPIO_PORT", "tcp://10.0.0.1:5000")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn the_head_of_this_machine_need_not_be_named() {
    for subcommand in ["data", "client", "send", "read", "status", "devices", "top", "drain"] {
        let help = text(&acopio(&[subcommand, "--help"]).stdout);
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let wanted = "--head <HOST:PORT> Heads of the cluster; several with commas, or the flag several times. Those that \
                      announce themselves over ZooKeeper: zk://HOST:PORT;HOST:PORT/PATH [env: ACOPIO_HEAD=] \
                      [default: 127.0.0.1:5000]";
        assert!(help.contains(wanted), "{subcommand}: {help}");
    }
}

#[test]
fn a_port_in_use_is_told_with_a_remedy() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let output = acopio(&["head", "--listen", &address, "--logs", dir.path().to_str().unwrap()]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.starts_with(&format!("acopio: cannot listen on {address}: ")), "{error}");
    assert!(error.contains("; stop what listens there, or choose another port with --listen"), "{error}");
}

#[test]
fn a_folder_that_cannot_be_written_is_told_with_a_remedy() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let folder = file.path().join("logs");
    let folder = folder.to_str().unwrap();
    for args in [
        ["head", "--listen", "127.0.0.1:0", "--logs", folder],
        ["data", "--head", "127.0.0.1:1", "--dir", folder],
        ["client", "--head", "127.0.0.1:1", "--logs", folder],
        ["up", "--port", "1", "--dir", folder],
    ] {
        let output = acopio(&args);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {error}");
        assert!(error.contains(folder) && error.contains("; name another folder"), "{args:?}: {error}");
    }
}

#[test]
fn up_says_why_its_head_does_not_start() {
    let free = Port::reserve();
    let port = free.number().to_string();
    let dir = tempfile::tempdir().unwrap();
    // A folder where the head's log is to be.
    std::fs::create_dir_all(dir.path().join("head/heartbeat.log")).unwrap();
    let output = acopio(&["up", "--listen-ip", "127.0.0.1", "--port", &port, "--dir", dir.path().to_str().unwrap()]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("the head did not start: cannot write heartbeat.log in "), "{error}");
    assert!(error.contains("; name another folder"), "{error}");
    std::fs::remove_dir_all(dir.path().join("head")).unwrap();
    std::fs::write(dir.path().join("head"), "a file where the head's folder is to be").unwrap();
    let output = acopio(&["up", "--listen-ip", "127.0.0.1", "--port", &port, "--dir", dir.path().to_str().unwrap()]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("cannot make the folder ") && error.contains("; name another one with --dir"), "{error}");
}
