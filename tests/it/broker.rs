//! The pair of brokers: who forwards, and that it is one of them.

use std::process::Command;

use crate::common::topics::{DEAD_AFTER, Pair, python};
use crate::common::{Process, Signal, acopio, eventually, need, ran};

const LISTENING: &str = "Broker PRIMARY escuchando en 5555/5556 (proxy) y 5560 (heartbeat)...";
const STANDS_BY: &str = "Broker BACKUP en modo espera (escuchando heartbeats)...";
const FALLEN: &str = "Primary caído. Activando proxy en BACKUP...";
const ACTIVE: &str = "Broker BACKUP ahora activo como PRIMARY (proxy).";

/// Whether somebody listens on a host's port for subscribers.
fn listens(host: &str) -> bool {
    std::net::TcpStream::connect((host, 5556)).is_ok()
}

#[test]
fn python_has_zmq() {
    let mut command = Command::new("python3");
    command.envs(python("").get_envs().filter_map(|(name, value)| Some((name, value?))));
    need("pyzmq (test.sh installs it into target/python)", command.args(["-c", "import zmq"]));
}

#[test]
fn the_backup_takes_over_says_so_and_the_primary_stands_by_when_it_comes_back() {
    let pair = Pair::new();
    let backup = pair.backup(&[]);
    backup.wait_for(STANDS_BY);
    let primary = pair.primary(&[]);
    primary.wait_for(LISTENING);
    assert!(listens(&pair.hosts[0]) && !listens(&pair.hosts[1]));

    let subscriber = pair.subscriber(&primary, &["t", "200"], &[("QUIET", "1")]);
    let mut publisher = pair.publisher(&[]);
    publisher.tell("load t 100000 200");
    eventually("messages flow", || (primary.count("publisher 127.") > 0).then_some(()));
    primary.kill();
    backup.wait_for(FALLEN);
    backup.wait_for(ACTIVE);
    let line = subscriber.wait_for("longest gap");
    let gap: f64 = line.split(' ').next_back().unwrap().parse().unwrap();
    // What a peer takes to try again, and a second.
    assert!(gap <= DEAD_AFTER.as_secs_f64() + 0.1 + 1.0, "{line}");

    let primary = pair.primary(&[]);
    primary.wait_for("Broker PRIMARY en modo espera (escuchando heartbeats)...");
    assert!(!listens(&pair.hosts[0]) && listens(&pair.hosts[1]));
    // No message comes twice: who is connected to both gets each number once.
    let twice = pair.subscriber(&backup, &["t", "100"], &[]);
    twice.wait_for("longest gap");
    let all = twice.all();
    let mut numbers: Vec<&str> = all.lines().filter_map(|line| line.strip_prefix("got t ")).collect();
    let count = numbers.len();
    numbers.dedup();
    assert_eq!((count, numbers.len()), (100, 100));

    backup.kill();
    primary.wait_for("Backup caído. Activando proxy en PRIMARY...");
    primary.wait_for(LISTENING);
    pair.subscriber(&primary, &["t", "20"], &[]).wait_for("longest gap");
}

#[test]
fn a_primary_that_stood_still_looks_before_it_forwards() {
    let pair = Pair::new();
    let primary = pair.primary(&[]);
    primary.wait_for(LISTENING);
    let backup = pair.backup(&[]);
    // Its socket is connected to the primary's heartbeat.
    primary.wait_for("listener to the heartbeat 127.");
    primary.signal(Signal::STOP);
    backup.wait_for(ACTIVE);
    primary.signal(Signal::CONT);
    primary.wait_for("this broker stood still for longer than 1.5s");
    primary.wait_for("Broker PRIMARY en modo espera");
    assert!(listens(&pair.hosts[1]) && !listens(&pair.hosts[0]));
}

#[test]
fn beside_the_originals_programs_there_is_a_way_back_too() {
    // Our backup beside the original's primary.
    let pair = Pair::new();
    let original = |role: &str, words: &[&str]| {
        let mut command = python("broker.py");
        command.arg(role).args(words);
        Process::start(command)
    };
    let primary = original("primary", &[&pair.hosts[0]]);
    primary.wait_for("forwarding");
    let backup = pair.backup(&[]);
    backup.wait_for(STANDS_BY);
    pair.subscriber_of_the_original(&primary);
    primary.kill();
    backup.wait_for(ACTIVE);
    // It comes back and publishes, as it does: ours gives way.
    let primary = original("primary", &[&pair.hosts[0]]);
    backup.wait_for("is active as well; this one gives way");
    eventually("the backup has closed its ports", || (!listens(&pair.hosts[1])).then_some(()));
    primary.kill();

    // Our primary beside the original's backup, which has no heartbeat.
    let pair = Pair::new();
    let backup = original("backup", &[&pair.hosts[1], &pair.hosts[0], "0.5"]);
    backup.wait_for("forwarding");
    let primary = pair.primary(&[]);
    primary.wait_for("Broker PRIMARY en modo espera");
    assert!(!listens(&pair.hosts[0]));
    backup.kill();
    primary.wait_for(LISTENING);
}

impl Pair {
    /// Waits until messages pass an original's broker.
    fn subscriber_of_the_original(&self, broker: &Process) {
        broker.wait_for("forwarding");
        let subscriber = self.python("subscribe.py", &["t", "1"]);
        let mut publisher = self.publisher(&[]);
        publisher.tell("load t 100000 100");
        subscriber.wait_for("longest gap");
    }
}

#[test]
fn a_port_in_use_and_flags_that_make_no_sense_are_told_with_a_remedy() {
    let pair = Pair::new();
    let taken = std::net::TcpListener::bind((pair.hosts[0].as_str(), 5556)).unwrap();
    let host = pair.hosts[0].as_str();
    let cases: [(&[&str], &str); 7] = [
        (&["--role", "primary", "--bind", host], "5556: "),
        (&["--role", "backup"], "name it with --peer"),
        (&["--role", "primary", "--bind", host, "--peer", host], "own address"),
        (&["--role", "primary", "--dead-after", "1s"], "less than 2 heartbeats"),
        (&["--role", "primary", "--keep", "t"], "--head"),
        (&["--role", "primary", "--require-kept"], "--keep"),
        (&["--role", "primary", "--max-message", "1TiB"], "too large"),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (flags, wanted) in cases {
        let mut command = acopio();
        command.arg("broker").args(flags).arg("--logs").arg(dir.path());
        let (code, _, error) = ran(command);
        assert!(code.is_some_and(|code| code != 0) && error.contains(wanted), "{flags:?}: {code:?} {error}");
    }
    drop(taken);
}

#[test]
fn keys_encrypt_and_who_has_none_gets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys");
    let mut command = acopio();
    command.args(["broker", "keys"]).arg(&keys);
    let (code, out, error) = ran(command);
    assert_eq!(code, Some(0), "{error}");
    assert!(out.contains("broker.key_secret: secret"), "{out}");
    let secret = keys.join("broker.key_secret");
    let secret = ["--curve", secret.to_str().unwrap()];

    let pair = Pair::new();
    let primary = pair.primary(&secret);
    primary.wait_for(LISTENING);
    let backup = pair.backup(&secret);
    primary.wait_for("listener to the heartbeat 127.");

    // libzmq reads the same file as a certificate.
    let load = "import sys, zmq.auth; print(zmq.auth.load_certificate(sys.argv[1])[0].decode())";
    let mut command = Command::new("python3");
    command.envs(python("").get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.args(["-c", load]).arg(keys.join("broker.key"));
    let (code, public, error) = ran(command);
    assert_eq!(code, Some(0), "{error}");
    let public = [("CURVE_SERVERKEY", public.trim())];
    let subscriber = pair.subscriber(&primary, &["t", "1"], &public);
    let stranger = pair.python("subscribe.py", &["t", "1"]);
    primary.wait_for("is no subscriber: ");
    let mut publisher = pair.publisher(&public);
    publisher.send(&["t", "secret"]);
    subscriber.wait_for("got t secret");

    let key = keys.join("broker.key");
    let key = ["--curve", key.to_str().unwrap()];
    let server = pair.calc(&[&["server"][..], &key].concat());
    server.wait_for("esperando");
    let client = pair.calc(&[&["client", "3", "4"][..], &key].concat());
    client.wait_for("← Hipotenusa recibida: 5.0000");
    // The backup hears the heartbeat, or it would have taken over.
    assert_eq!((backup.count(FALLEN), stranger.count("got")), (0, 0));
    primary.kill();
    backup.wait_for(ACTIVE);
}
