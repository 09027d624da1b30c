//! The pair of brokers: who forwards, and that it is one of them.

use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::topics::{DEAD_AFTER, Pair, python};
use crate::common::{Process, Signal, acopio, eventually, need, ran};

const LISTENING: &str = "Broker PRIMARY escuchando en 5555/5556 (proxy) y 5560 (heartbeat)...";
const STANDS_BY: &str = "Broker BACKUP en modo espera (escuchando heartbeats)...";
const FALLEN: &str = "Primary caído. Activando proxy en BACKUP...";
const ACTIVE: &str = "Broker BACKUP ahora activo como PRIMARY (proxy).";

/// Whether somebody listens on a host's port for subscribers.
fn listens(host: &str) -> bool {
    TcpStream::connect((host, 5556)).is_ok()
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
fn with_immediate_no_message_comes_twice_whichever_broker_takes_over() {
    let pair = Pair::new();
    let primary = pair.primary(&[]);
    primary.wait_for(LISTENING);
    let backup = pair.backup(&[]);
    backup.wait_for("the heartbeat of");
    let immediate = [("IMMEDIATE", "1")];
    let subscriber = pair.subscriber(&primary, &["t", "1000000"], &immediate);
    let mut publisher = pair.publisher(&immediate);
    publisher.tell("load t 100000 500");
    let more = || {
        let before = subscriber.count("got t");
        eventually("messages flow", || (subscriber.count("got t") > before + 300).then_some(()));
    };
    more();
    primary.kill();
    backup.wait_for(ACTIVE);
    more();
    // Without IMMEDIATE the publisher would have kept for it what it sent since it died, and would hand that over now.
    let primary = pair.primary(&[]);
    primary.wait_for("the heartbeat of");
    backup.kill();
    primary.wait_for(LISTENING);
    more();
    let all = subscriber.all();
    let mut numbers: Vec<&str> = all.lines().filter_map(|line| line.strip_prefix("got t ")).collect();
    let count = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), count, "a message came twice");
}

#[test]
fn a_primary_that_stood_still_looks_before_it_forwards() {
    let pair = Pair::new();
    let primary = pair.primary(&[]);
    primary.wait_for(LISTENING);
    let backup = pair.backup(&[]);
    backup.wait_for("the heartbeat of");
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
    let taken = TcpListener::bind((pair.hosts[0].as_str(), 5556)).unwrap();
    let host = pair.hosts[0].as_str();
    let cases: [(&[&str], &str); 6] = [
        (&["--role", "primary", "--bind", host], "5556: "),
        (&["--role", "backup"], "name it with --peer"),
        (&["--role", "primary", "--bind", host, "--peer", host], "own address"),
        (&["--role", "primary", "--dead-after", "1s"], "less than 2 heartbeats"),
        (&["--role", "primary", "--require-kept"], "--keep"),
        (&["--role", "primary", "--max-message", "999GiB"], "too large"),
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
    stranger.wait_for("subscribed");
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

/// The road to a broker's heartbeat. It ends when this is dropped, with all that is on it.
struct Road {
    stop: Arc<AtomicBool>,
    travellers: Arc<Mutex<Vec<TcpStream>>>,
    at: String,
}

impl Road {
    fn open(from: &str, to: &str) -> Self {
        let (stop, travellers) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let listener = eventually("the road is free", || TcpListener::bind((from, 5560)).ok());
        let (closed, all, to) = (Arc::clone(&stop), Arc::clone(&travellers), to.to_owned());
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if closed.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(far) = TcpStream::connect((to.as_str(), 5560)) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || drop(std::io::copy(&mut from, &mut to)));
                }
                all.lock().unwrap().extend([near, far]);
            }
        });
        Self { stop, travellers, at: from.to_owned() }
    }
}

impl Drop for Road {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // It wakes who waits for travellers.
        drop(TcpStream::connect((self.at.as_str(), 5560)));
        for traveller in self.travellers.lock().unwrap().drain(..) {
            drop(traveller.shutdown(std::net::Shutdown::Both));
        }
    }
}

#[test]
fn cut_off_from_each_other_both_publish_until_they_hear_each_other_again() {
    let pair = Pair::new();
    let roads = |pair: &Pair| [0, 1].map(|k| Road::open(&pair.other_host(k as u8), &pair.hosts[k]));
    let open = roads(&pair);
    let [primary, backup] = pair.over(&pair.other_host(0), &pair.other_host(1));
    primary.wait_for(LISTENING);
    primary.wait_for("listener to the heartbeat 127.");
    backup.wait_for("Broker BACKUP en modo espera");
    drop(open);
    backup.wait_for(ACTIVE);
    assert!(listens(&pair.hosts[0]) && listens(&pair.hosts[1]), "each takes the other for dead");
    // Who is connected to both gets every message twice.
    let subscriber = pair.subscriber(&backup, &["t", "40"], &[]);
    eventually("it is connected to both", || (primary.count("subscriber 127.") > 0).then_some(()));
    let mut publisher = pair.publisher(&[]);
    publisher.tell("wait");
    publisher.tell("load t 100000 200");
    subscriber.wait_for("longest gap");
    let all = subscriber.all();
    let mut numbers: Vec<&str> = all.lines().filter_map(|line| line.strip_prefix("got t ")).collect();
    numbers.sort_unstable();
    let count = numbers.len();
    numbers.dedup();
    assert!(numbers.len() < count, "{numbers:?}");

    let _open = roads(&pair);
    backup.wait_for("is active as well; this one gives way");
    eventually("the backup has closed its ports", || (!listens(&pair.hosts[1])).then_some(()));
    assert!(listens(&pair.hosts[0]));
}
