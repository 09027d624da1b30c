//! Peers of every kind, and none at all: what libzmq sends, what it can't, and what is no ZeroMQ.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::common::topics::Pair;
use crate::common::{PATIENCE, Signal, eventually};

#[test]
fn messages_pass_whole_whatever_is_in_them() {
    let pair = Pair::new();
    let broker = pair.alone(&[]);
    // PUB before SUB; one that sends only where it is connected, and pings of both.
    let mut publisher = pair.publisher(&[("IMMEDIATE", "1"), ("HEARTBEAT_IVL", "50")]);
    let subscriber = pair.subscriber(&broker, &["", "6"], &[("HEARTBEAT_IVL", "50")]);
    publisher.send(&["t"]);
    publisher.send(&["t", "-", "two", "-"]);
    publisher.send(&["-", "an", "empty", "topic"]);
    publisher.send(&["t", "@@4"]);
    publisher.send(&["t", "@1000000"]);
    publisher.send(&["t", "last"]);
    subscriber.wait_for("longest gap");
    let lines = ["t", "t  two ", " an empty topic", "t 1024:130560", "t 1000000:120000000", "t last"];
    let wanted: Vec<String> = lines.iter().map(|line| format!("got {line}")).collect();
    let got: Vec<String> =
        subscriber.all().lines().filter(|line| line.starts_with("got")).map(ToOwned::to_owned).collect();
    assert_eq!(got, wanted);
    // A publisher after its subscriber, and topics that nobody asked for.
    let subscriber = pair.subscriber(&broker, &["a.", "2"], &[]);
    let mut second = pair.publisher(&[]);
    for frames in [["a.1", "x"], ["b.1", "y"], ["a", "z"], ["a.2", "w"]] {
        second.send(&frames);
    }
    subscriber.wait_for("longest gap");
    assert_eq!(subscriber.all(), "subscribed\ngot a.1 x\ngot a.2 w\n".to_owned() + &subscriber.wait_for("longest gap"));
}

#[test]
fn a_message_above_the_limit_is_refused_and_others_pass() {
    let pair = Pair::new();
    let broker = pair.alone(&[]);
    let subscriber = pair.subscriber(&broker, &["t", "1"], &[]);
    let (mut large, mut small) = (pair.publisher(&[]), pair.publisher(&[]));
    large.send(&["t", "@20000000"]);
    let line = broker.wait_for("cut off: ");
    drop(large);
    assert!(line.contains("publisher 127.") && line.contains("too large"), "{line}");
    small.send(&["t", "small"]);
    subscriber.wait_for("got t small");
    // The same with a higher limit passes.
    let pair = Pair::new();
    let broker = pair.alone(&["--max-message", "32MiB"]);
    let subscriber = pair.subscriber(&broker, &["t", "1"], &[]);
    let mut large = pair.publisher(&[]);
    large.send(&["t", "@20000000"]);
    subscriber.wait_for("got t 20000000:2400000000");
}

#[test]
fn peers_are_told_when_they_come_and_go() {
    let pair = Pair::new();
    let broker = pair.alone(&[]);
    let subscriber = pair.subscriber(&broker, &["t", "1"], &[]);
    let publisher = pair.publisher(&[]);
    broker.wait_for("connected; 1 now");
    drop((subscriber, publisher));
    eventually("both are gone", || (broker.count("gone; 0 left") == 2).then_some(()));
}

#[test]
fn garbage_on_the_ports_harms_nobody() {
    let pair = Pair::new();
    let broker = pair.alone(&[]);
    let subscriber = pair.subscriber(&broker, &["t", "1"], &[]);
    let mut held = Vec::new();
    for port in [5555, 5556, 5560] {
        for bytes in
            [b"GET / HTTP/1.0\r\n\r\n".as_slice(), &[0xff; 300], &[0; 4096], b"\xff\0\0\0\0\0\0\0\x01\x7f\x03", b""]
        {
            let mut socket = TcpStream::connect((pair.hosts[0].as_str(), port)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            // It may be cut off in the middle.
            drop(socket.write_all(bytes));
            held.push(socket);
        }
    }
    broker.wait_for("is no publisher: ");
    let mut publisher = pair.publisher(&[]);
    publisher.send(&["t", "still here"]);
    subscriber.wait_for("got t still here");
    // Who says nothing is cut off in the end.
    let mut silent = held.pop().unwrap();
    let mut rest = Vec::new();
    drop(silent.read_to_end(&mut rest));
}

#[test]
fn who_comes_and_goes_fills_no_log() {
    let pair = Pair::new();
    let broker = pair.alone(&[]);
    for _ in 0..2000 {
        let mut socket = TcpStream::connect((pair.hosts[0].as_str(), 5555)).unwrap();
        drop(socket.write_all(b"GET / HTTP/1.0\r\n\r\n".repeat(5).as_slice()));
    }
    broker.wait_for("is no publisher: ");
    broker.signal(Signal::TERM);
    let mut broker = broker;
    assert!(broker.wait().success());
    let said = broker.all();
    assert!(said.len() < 100_000 && said.contains(" lines about it that are left out)"), "{} bytes", said.len());
}

#[test]
fn a_subscriber_that_stands_still_holds_up_nobody_and_takes_bounded_memory() {
    let pair = Pair::new();
    let broker = pair.alone(&[]);
    let stalled = pair.subscriber(&broker, &["large", "1000000"], &[("QUIET", "1")]);
    stalled.signal(Signal::STOP);
    let subscriber = pair.subscriber(&broker, &["small", "60"], &[("QUIET", "1")]);
    let mut publisher = pair.publisher(&[]);
    // 60 MB, of which the stalled one takes what its socket and its queue hold.
    for _ in 0..60 {
        publisher.tell(&("send large @20000\n".repeat(50) + "send small 1"));
    }
    subscriber.wait_for("longest gap");
    assert!(broker.peak_kib() < 60 * 1024, "{} KiB", broker.peak_kib());
    stalled.signal(Signal::CONT);
}

#[test]
fn where_all_wait_for_the_slowest_nothing_is_dropped() {
    let pair = Pair::new();
    let broker = pair.alone(&["--slow", "wait", "--queue", "10"]);
    let slow = pair.subscriber(&broker, &["t", "4000"], &[("QUIET", "1")]);
    slow.signal(Signal::STOP);
    let mut publisher = pair.publisher(&[]);
    publisher.tell(&"send t @20000\n".repeat(4000));
    publisher.tell("load t 1 1");
    publisher.process.wait_for("loaded");
    slow.signal(Signal::CONT);
    slow.wait_for("longest gap");
}
