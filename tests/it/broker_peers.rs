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
fn what_a_slow_subscriber_does_not_get_is_counted_and_told() {
    for policy in ["drop-newest", "drop-oldest"] {
        let pair = Pair::new();
        let broker = pair.alone(&["--slow", policy]);
        let slow = pair.subscriber(&broker, &["t", "3000"], &[("RCVHWM", "1")]);
        slow.signal(Signal::STOP);
        let mut publisher = pair.publisher(&[]);
        for k in 0..3000 {
            publisher.tell(&format!("send t {k} @20000"));
        }
        publisher.tell("load t 1 1");
        publisher.process.wait_for("loaded");
        let told = || -> usize {
            let all = broker.all();
            let lines = all.lines().filter_map(|line| line.split_once(" messages were not sent to it; see --queue"));
            lines.map(|(before, _)| before.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
        };
        eventually("it is told of", || (told() > 1000).then_some(()));
        slow.signal(Signal::CONT);
        // Each of the 3001 is either got or told of.
        eventually("the counts meet", || (told() + slow.count("got t") == 3001).then_some(()));
        let last = slow.count("got t 2999") == 1;
        assert_eq!(last, policy == "drop-oldest", "{policy}: the newest is what is kept, or what is dropped");
    }
}

#[test]
fn what_publishers_send_waits_in_them_where_the_broker_has_to_wait() {
    let pair = Pair::new();
    let broker = pair.alone(&["--slow", "wait"]);
    let slow = pair.subscriber(&broker, &["t", "160"], &[("RCVHWM", "1"), ("QUIET", "1")]);
    slow.signal(Signal::STOP);
    let mut publishers: Vec<_> = (0..8).map(|_| pair.publisher(&[])).collect();
    for publisher in &mut publishers {
        publisher.tell(&"send t @1000000\n".repeat(20));
        publisher.tell("load other 1 1");
        publisher.process.wait_for("loaded");
    }
    slow.signal(Signal::CONT);
    slow.wait_for("longest gap");
    // 160 MB passed. A broker of this build takes 30 without a message.
    assert!(broker.peak_kib() < 90 * 1024, "{} KiB", broker.peak_kib());
}

/// A subscriber that speaks ZMTP by hand.
fn by_hand(host: &str) -> TcpStream {
    let mut socket = TcpStream::connect((host, 5556)).unwrap();
    let mut greeting = [0; 64];
    (greeting[0], greeting[9], greeting[10], greeting[11]) = (0xff, 0x7f, 3, 1);
    greeting[12..16].copy_from_slice(b"NULL");
    socket.write_all(&greeting).unwrap();
    socket.read_exact(&mut greeting).unwrap();
    let ready = b"\x05READY\x0bSocket-Type\0\0\0\x03SUB";
    socket.write_all(&[&[4, ready.len() as u8], ready.as_slice()].concat()).unwrap();
    let mut head = [0; 2];
    socket.read_exact(&mut head).unwrap();
    socket.read_exact(&mut vec![0; usize::from(head[1])]).unwrap();
    socket
}

#[test]
fn a_subscriber_has_a_bounded_number_of_topics() {
    let pair = Pair::new();
    let broker = pair.alone(&[]);
    let mut greedy = by_hand(&pair.hosts[0]);
    for k in 0..3000 {
        let mut command = b"\x09SUBSCRIBE".to_vec();
        command.extend_from_slice(format!("{k:04000}").as_bytes());
        greedy
            .write_all(&[&[6, 0, 0, 0, 0, 0, 0], &(command.len() as u16).to_be_bytes()[..], &command].concat())
            .unwrap();
    }
    let line = broker.wait_for("asked for too many topics, or too long ones");
    assert!(line.contains("subscriber 127."), "{line}");
    let subscriber = pair.subscriber(&broker, &["t", "1"], &[]);
    let mut publisher = pair.publisher(&[]);
    publisher.send(&["t", "passes"]);
    subscriber.wait_for("got t passes");
}

#[test]
fn who_never_shakes_hands_keeps_nobody_else_out() {
    let pair = Pair::new();
    let broker = pair.alone(&[]);
    let held: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect((pair.hosts[0].as_str(), 5556)).unwrap()).collect();
    let subscriber = pair.subscriber(&broker, &["t", "1"], &[]);
    let mut publisher = pair.publisher(&[]);
    publisher.send(&["t", "passes"]);
    subscriber.wait_for("got t passes");
    assert!(broker.count("is no subscriber: handshake timeout") > 100, "those before it have had their time");
    drop(held);
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
