//! Heads that are found through ZooKeeper: announced while they are there, followed by who is told `zk://`, and needed by
//! nobody who has found them.

use std::io::{Read as _, Write as _};

use crate::common::zookeeper::{Standalone, kazoo, zk};
use crate::common::{Head, Process, Signal, acopio, eventually, ran};

fn members(at: &str) -> Vec<String> {
    let (code, out, said) = ran(zk(at, &["tree", "/casa/acopio/heads"]));
    if code != Some(0) {
        assert!(said.contains("there is no such znode"), "{said}");
        return Vec::new();
    }
    out.lines().filter_map(|line| Some(line.split("b'").nth(1)?.trim_end_matches('\'').to_owned())).collect()
}

#[test]
fn heads_are_found_followed_and_known_without_zookeeper() {
    let mut server = Standalone::start();
    let dir = tempfile::tempdir().unwrap();
    let place = format!("{}/casa", server.at());
    let heads = format!("zk://{place}");
    // Nobody is there yet: roles wait, commands say so.
    let mut command = acopio();
    command.args(["data", "--name", "data1", "--head", &heads, "--dir"]).arg(dir.path().join("data1"));
    let node = Process::start(command);
    node.wait_for("no head is announced yet; waiting for one");
    let mut command = acopio();
    command.args(["send", "--head", &heads, "hola"]);
    let (code, _, said) = ran(command);
    assert_eq!(code, Some(1));
    let wanted = format!("no head is announced at {heads}; start one with acopio head --zookeeper");
    assert!(said.contains(&wanted), "{said}");

    let first = Head::start(&dir.path().join("1"), &["--zookeeper", &place]);
    first.process.wait_for("dataNode data1 registered");
    let mut command = acopio();
    command.args(["send", "--head", &heads, "hola"]);
    let (code, _, said) = ran(command);
    assert_eq!(code, Some(0), "{said}");
    // One that comes later is found by who runs.
    let second = first.start_beside(&dir.path().join("2"), &["--zookeeper", &place]);
    second.process.wait_for("dataNode data1 registered");
    let mut both = vec![first.at(), second.at()];
    both.sort();
    let mut announced = members(&server.at());
    announced.sort();
    assert_eq!(announced, both);
    // The znodes are those of kazoo's party.
    let party = kazoo(&server.at(), "say('party', sorted(zk.Party('/casa/acopio/heads')))\n");
    let words = party.wait_for("party");
    assert!(both.iter().all(|head| words.contains(head)), "{words}");

    // One that ends in order is not announced any more when it is gone, and the node gives it up.
    first.process.signal(Signal::TERM);
    assert_eq!(first.process.finish().0, Some(0));
    assert_eq!(members(&server.at()), [both.into_iter().find(|head| *head == second.at()).unwrap()]);
    node.wait_for("is not announced any more: it is given up");

    // Without ZooKeeper, who has found a head goes on.
    server.kill();
    eventually("the node knows", || (node.count("connection lost; trying again") > 0).then_some(()));
    let mut command = acopio();
    command.args(["send", "--head", &second.at(), "adios"]);
    let (code, _, said) = ran(command);
    assert_eq!(code, Some(0), "{said}");
    let mut command = acopio();
    command.args(["send", "--head", &heads, "adios"]);
    let (code, _, said) = ran(command);
    assert!(code == Some(1) && said.contains("no ZooKeeper at "), "{said}");
    server.start_again();
    let read = || {
        let mut command = acopio();
        command.args(["read", "--head", &heads, "--format", "raw"]);
        let (code, out, _) = ran(command);
        (code == Some(0)).then_some(out)
    };
    let out = eventually("it is announced again", read);
    assert!(out.contains("hola") && out.contains("adios"), "{out}");
}

#[test]
fn who_runs_goes_on_with_heads_that_were_announced_later() {
    let server = Standalone::start();
    let dir = tempfile::tempdir().unwrap();
    let place = format!("{}/casa", server.at());
    let heads = format!("zk://{place}");
    let start = |name: &str, args: &[&str]| {
        let mut command = acopio();
        command.args(args).args(["--head", &heads, "--logs"]).arg(dir.path().join(name));
        Process::start(command)
    };
    // They wait for the first head, and so does the node.
    let web = start("web", &["web", "--listen", "127.0.0.1:0"]);
    let client = start("client", &["client", "--every", "100ms"]);
    let api = "http://127.0.0.1:1/";
    let zookeeper = server.at();
    let device = start("device", &["device", "app1", "--zookeeper", &zookeeper, "--period", "200ms", "--api", api]);
    for process in [&web, &client, &device] {
        process.wait_for("no head is announced yet; waiting for one");
    }
    let mut command = acopio();
    command.args(["data", "--name", "data1", "--head", &heads, "--dir"]).arg(dir.path().join("data1"));
    let _node = Process::start(command);
    let first = Head::start(&dir.path().join("1"), &["--zookeeper", &place]);
    first.process.wait_for("dataNode data1 registered");
    let line = web.wait_for("listening on http://");
    let web_at = line.split("http://").nth(1).unwrap().trim_end_matches('/').to_owned();
    let stores = |value: &str| {
        let mut socket = std::net::TcpStream::connect(&web_at).ok()?;
        write!(socket, "GET /nuevo?dato={value} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.1 200 ").then_some(())
    };
    eventually("a value is kept", || stores("1.5"));
    client.wait_for("Servidor recibio");
    let mut command = acopio();
    command.args(["read", "--follow", "--verbose", "--head", &heads]);
    let reader = Process::start(command);
    reader.wait_for("heads are ");

    let second = first.start_beside(&dir.path().join("2"), &["--zookeeper", &place]);
    second.process.wait_for("dataNode data1 registered");
    for process in [&web, &client, &device, &reader] {
        process.wait_for("heads are now ");
    }
    first.process.signal(Signal::TERM);
    assert_eq!(first.process.finish().0, Some(0));
    eventually("a value is kept by the second head", || stores("2.5"));
    let received = client.count("Servidor recibio");
    eventually("the client goes on", || (client.count("Servidor recibio") > received + 3).then_some(()));
    let kept = || {
        let mut command = acopio();
        command.args(["read", "--head", &second.at(), "--format", "raw"]);
        let out = ran(command).1;
        (out.matches("measurement").count(), out.contains("dato: 2.5"))
    };
    let (before, _) = kept();
    eventually("measurements go on", || {
        let (measured, value) = kept();
        (measured > before + 3 && value).then_some(())
    });
}

#[test]
fn a_place_that_is_none_is_told() {
    let cases = [
        ("zk://host:port", "write HOST:PORT[,HOST:PORT...][/chroot]"),
        ("zk://host:1/a/", "is no path of a znode"),
        ("zk://", "is not an address"),
    ];
    for (head, words) in cases {
        let mut command = acopio();
        command.args(["status", "--head", head]);
        let (code, _, said) = ran(command);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(words), "{head}: {said}");
    }
}

#[test]
fn a_head_that_listens_everywhere_announces_an_address_of_this_machine() {
    let server = Standalone::start();
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start_at(dir.path(), "0.0.0.0:0", &["--zookeeper", &format!("{}/casa", server.at())]);
    head.process.wait_for(&format!("announced as 127.0.0.1:{}", head.address.port()));
    let other = dir.path().join("other");
    let place = format!("{}/casa", server.at());
    let named = Head::start(&other, &["--zookeeper", &place, "--advertise", "casa.example:5000"]);
    named.process.wait_for("announced as casa.example:5000");
}
