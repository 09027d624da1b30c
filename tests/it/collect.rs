//! `acopio collect`: instruments that come and go, a cluster that comes and goes, and a collector that is killed.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::common::frames::{CONFIRMATION, Frames};
use crate::common::{Head, PATIENCE, Port, Process, Signal, acopio, eventually, ran, records};
use acopio::wire::error::{Code, Refusal};
use acopio::wire::frame::Frame;

/// A collector for this head.
fn collect(head: &str, more: &[&str]) -> Command {
    let mut command = acopio();
    command.args(["collect", "--head", head]).args(more);
    command
}

/// What `acopio read` has, each line as often as it comes: the source, and the payload without its stamp.
fn read(head: &str) -> BTreeMap<String, usize> {
    let mut command = acopio();
    command.args(["read", "--head", head, "--format", "json"]);
    let (code, out, err) = ran(command);
    assert_eq!(code, Some(0), "{err}");
    let mut found = BTreeMap::new();
    for line in out.lines() {
        let message: serde_json::Value = serde_json::from_str(line).unwrap();
        let payload = message["text"].as_str().unwrap();
        let payload =
            payload.strip_prefix('@').and_then(|rest| rest.split_once("Z ")).map_or(payload, |(_, rest)| rest);
        let source = message["source"].as_str().unwrap_or("-");
        *found.entry(format!("{source} {payload}")).or_default() += 1;
    }
    found
}

/// Waits until the cluster has these lines, each once, and no others.
fn wait_for(head: &str, lines: &[String]) {
    let wanted: BTreeMap<String, usize> = lines.iter().map(|line| (line.clone(), 1)).collect();
    let mut last = BTreeMap::new();
    eventually(&format!("{} lines are kept once each", wanted.len()), || {
        last = read(head);
        let twice: Vec<_> = last.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "{twice:?}");
        (last == wanted).then_some(())
    });
}

fn numbered(name: &str, from: usize, to: usize) -> Vec<String> {
    (from..to).map(|k| format!("{name} linea {k}")).collect()
}

/// An instrument that is a server: what it says goes to whoever is connected.
struct Instrument {
    port: Port,
    listener: Option<TcpListener>,
}

impl Instrument {
    fn new() -> Self {
        let port = Port::reserve();
        let listener = Some(TcpListener::bind(port.at()).unwrap());
        Self { port, listener }
    }

    fn at(&self) -> String {
        format!("tcp://{}", self.port.at())
    }

    fn accept(&self) -> TcpStream {
        let (socket, _) = self.listener.as_ref().unwrap().accept().unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    fn vanish(&mut self) {
        self.listener = None;
    }

    fn come_back(&mut self) {
        self.listener = Some(TcpListener::bind(self.port.at()).unwrap());
    }
}

fn say(socket: &mut TcpStream, from: usize, to: usize) {
    let text: String = (from..to).map(|k| format!("linea {k}\r\n")).collect();
    socket.write_all(text.as_bytes()).unwrap();
}

/// A pseudo terminal: this end is the instrument's, the path that of its serial line.
struct Line {
    instrument: std::fs::File,
    path: String,
}

impl Line {
    fn open() -> Self {
        let master: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        Self { instrument: master.into(), path }
    }
}

/// The lines that wait in a spool and are written whole.
fn spooled(spool: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(spool) else { return 0 };
    let paths = entries.map(|entry| entry.unwrap().path());
    let segments = paths.filter(|path| path.extension().is_some_and(|ending| ending == "spool"));
    segments.map(|path| std::fs::read_to_string(path).unwrap_or_default().lines().count()).sum()
}

#[test]
fn an_instrument_that_goes_away_is_dialled_until_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let mut instrument = Instrument::new();
    let collector = Process::start(collect(&head.at(), &[&instrument.at(), "--as", "balanza"]));
    let mut socket = instrument.accept();
    say(&mut socket, 0, 5);
    wait_for(&head.at(), &numbered("balanza", 0, 5));
    // A line breaks off in the middle: it may be half a number.
    socket.write_all(b"linea 9").unwrap();
    instrument.vanish();
    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
    drop(socket);
    collector.wait_for("trying again until it is there");
    instrument.come_back();
    let mut socket = instrument.accept();
    say(&mut socket, 5, 9);
    collector.wait_for("is back after");
    wait_for(&head.at(), &numbered("balanza", 0, 9));
    collector.wait_for("left out 7 bytes of a line that was not whole");
    // Its last line has no end, and it closes in order.
    socket.write_all(b"linea 9").unwrap();
    drop(socket);
    wait_for(&head.at(), &numbered("balanza", 0, 10));
    collector.signal(Signal::TERM);
    let (code, out, err) = collector.finish();
    assert_eq!((code, out.as_str()), (Some(0), ""), "{err}");
    assert!(err.contains("10 lines were read; 10 are kept"), "{err}");
}

#[test]
fn a_serial_line_is_set_and_asked_and_read_in_all_its_ways() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let mut line = Line::open();
    let more = [line.path.as_str(), "--as", "balanza", "--baud", "4800", "--mode", "7E1", "--cr", "--gap", "100ms"];
    let more = [&more[..], &["--send", r"S\x3f\r", "--every", "200ms"]].concat();
    let collector = Process::start(collect(&head.at(), &more));
    collector.wait_for("connected");
    let mut asked = [0; 6];
    line.instrument.read_exact(&mut asked).unwrap();
    assert_eq!(&asked, b"S?\rS?\r", "it is asked again and again");
    let set = rustix::termios::tcgetattr(&line.instrument).unwrap();
    assert_eq!((set.input_speed(), set.local_modes.contains(rustix::termios::LocalModes::ICANON)), (4800, false));
    // Ended by a carriage return, by both, and by a silence.
    line.instrument.write_all(b"ST,+00012.3  g\rST,+00012.4  g\r\nUS,+1").unwrap();
    let wanted = ["balanza ST,+00012.3  g", "balanza ST,+00012.4  g", "balanza US,+1"].map(str::to_owned);
    wait_for(&head.at(), &wanted);
    // Nobody else reads what it says.
    let second = Process::start(collect(&head.at(), &[&line.path]));
    second.wait_for("another process has it");
    drop(second);
    // The wire is pulled, and another line gets its name.
    let link = dir.path().join("line");
    std::os::unix::fs::symlink(&line.path, &link).unwrap();
    collector.signal(Signal::TERM);
    assert_eq!(collector.finish().0, Some(0));
    let by_link = ["--as", "gps", link.to_str().unwrap()];
    let collector = Process::start(collect(&head.at(), &by_link));
    collector.wait_for("connected");
    drop(line);
    collector.wait_for("trying again until it is there");
    let mut line = Line::open();
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&line.path, &link).unwrap();
    collector.wait_for("is back after");
    line.instrument.write_all(b"$GPGGA\n").unwrap();
    wait_for(&head.at(), &[&wanted[..], &["gps $GPGGA".to_owned()]].concat());
}

#[test]
fn standard_input_is_read_to_its_end_and_its_lines_are_stamped() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let (collector, mut input) = Process::fed(collect(&head.at(), &["esp7=-"]));
    input.write_all(b"21.4\n\n21.5").unwrap();
    drop(input);
    let (code, _, err) = collector.finish();
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("2 lines were read; 2 are kept"), "{err}");
    wait_for(&head.at(), &["esp7 21.4".to_owned(), "esp7 21.5".to_owned()]);
    // The stamp is the time of the reading, and no part of what it says.
    let mut command = acopio();
    command.args(["read", "--head", &head.at(), "--fields", "value", "--format", "json"]);
    let (code, out, err) = ran(command);
    assert_eq!(code, Some(0), "{err}");
    let values: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(values.iter().map(|row| row["value"].as_f64()).collect::<Vec<_>>(), [Some(21.4), Some(21.5)], "{out}");
    let (collector, mut input) = Process::fed(collect(&head.at(), &["-", "--no-stamp"]));
    input.write_all(b"bare\n").unwrap();
    drop(input);
    assert_eq!(collector.finish().0, Some(0));
    let mut command = acopio();
    command.args(["read", "--head", &head.at(), "--grep", "^bare$", "--count"]);
    assert_eq!(ran(command).1, "1\n");
}

#[test]
fn nothing_is_lost_or_doubled_when_heads_and_collectors_are_killed() {
    let dir = tempfile::tempdir().unwrap();
    let port = Port::reserve();
    let spool = dir.path().join("spool");
    let start = || Head::start_at(dir.path(), &port.at(), &[]);
    let head = start();
    let _node = head.node(dir.path(), 1, &[]);
    let instrument = Instrument::new();
    let more = [&format!("balanza={}", instrument.at()), "--spool", spool.to_str().unwrap()];
    let collector = Process::start(collect(&port.at(), &more));
    let mut socket = instrument.accept();
    say(&mut socket, 0, 50);
    wait_for(&port.at(), &numbered("balanza", 0, 50));
    // The head goes; what comes meanwhile waits on the disk, and a second collector is refused there.
    head.process.kill();
    say(&mut socket, 50, 150);
    eventually("the lines are in the spool", || (spooled(&spool) >= 150).then_some(()));
    let (code, _, err) = ran(collect(&port.at(), &["-", "--spool", spool.to_str().unwrap()]));
    assert_eq!(code, Some(1));
    assert!(err.contains("is in use by another process"), "{err}");
    collector.kill();
    drop(socket);
    // Another one without a cluster: it adds to them, and leaves them there when it is told to end.
    let collector = Process::start(collect(&port.at(), &more));
    collector.wait_for("100 lines wait in the spool from before");
    let mut socket = instrument.accept();
    say(&mut socket, 150, 200);
    eventually("the lines are in the spool", || (spooled(&spool) >= 200).then_some(()));
    collector.signal(Signal::TERM);
    let (code, _, err) = collector.finish();
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("50 lines were read; 0 are kept, 150 wait in the spool"), "{err}");
    drop(socket);
    // The head is back, and killed again and again while they are sent.
    let collector = Process::start(collect(&port.at(), &more));
    let mut socket = instrument.accept();
    for round in 0..3 {
        let head = start();
        let before = head.log("registro.log").len();
        say(&mut socket, 200 + 100 * round, 300 + 100 * round);
        eventually("some are kept", || (head.log("registro.log").len() > before).then_some(()));
        head.process.kill();
    }
    let _head = start();
    wait_for(&port.at(), &numbered("balanza", 0, 500));
    collector.signal(Signal::TERM);
    let (code, _, err) = collector.finish();
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(spooled(&spool), 0, "{err}");
    let (code, _, err) = ran(collect(&port.at(), &["--spool", spool.to_str().unwrap()]));
    assert_eq!(code, Some(0), "{err}");
    wait_for(&port.at(), &numbered("balanza", 0, 500));
}

#[test]
fn a_spool_is_sent_also_where_its_end_is_torn_and_a_line_has_rotted() {
    let dir = tempfile::tempdir().unwrap();
    let port = Port::reserve();
    let spool = dir.path().join("spool");
    let folder = spool.to_str().unwrap();
    let (collector, mut input) = Process::fed(collect(&port.at(), &["a=-", "--spool", folder]));
    input.write_all(numbered("", 0, 6).join("\n").replace(" l", "l").as_bytes()).unwrap();
    input.write_all(b"\n").unwrap();
    eventually("the lines are in the spool", || (spooled(&spool) >= 6).then_some(()));
    collector.kill();
    let paths = std::fs::read_dir(&spool).unwrap().map(|entry| entry.unwrap().path());
    let segment = paths.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "spool")).unwrap();
    let text = std::fs::read_to_string(&segment).unwrap().replace("linea 2", "linea x");
    std::fs::write(&segment, &text[..text.len() - 4]).unwrap();
    let head = Head::start_at(dir.path(), &port.at(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let (code, _, err) = ran(collect(&port.at(), &["--spool", folder]));
    assert_eq!(code, Some(1), "a line is lost: {err}");
    assert!(err.contains("1 lines of the spool have a wrong checksum"), "{err}");
    assert!(err.contains("1 lines of the spool were being written"), "{err}");
    assert!(err.contains("4 are kept"), "{err}");
    wait_for(&head.at(), &["0", "1", "3", "4"].map(|k| format!("a linea {k}")));
    assert!(segment.with_extension("damaged").exists());
}

#[test]
fn a_full_spool_holds_standard_input_and_loses_the_newest_of_instruments_loudly() {
    let dir = tempfile::tempdir().unwrap();
    let port = Port::reserve();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let small = |spool: &Path| {
        ["--spool".to_owned(), spool.display().to_string(), "--spool-bytes".to_owned(), "1MiB".to_owned()]
    };
    // Longer than a pipe, so that it can't all be taken.
    let rest = "x".repeat(1000);
    let lines: Vec<String> = (0..3000).map(|k| format!("{k} {rest}")).collect();
    let mut command = collect(&port.at(), &["a=-"]);
    command.args(small(&one));
    let (collector, mut input) = Process::fed(command);
    let text = lines.join("\n");
    let feeder = std::thread::spawn(move || input.write_all(text.as_bytes()).unwrap());
    let instrument = Instrument::new();
    let mut command = collect(&port.at(), &[&format!("b={}", instrument.at())]);
    command.args(small(&two));
    let other = Process::start(command);
    let mut socket = instrument.accept();
    socket.write_all(lines.join("\n").as_bytes()).unwrap();
    socket.write_all(b"\n").unwrap();
    other.wait_for("lines in a row are lost, the newest ones: the spool is full");
    let kept = spooled(&two);
    assert!((800..1100).contains(&kept), "{kept}");
    eventually("the spool is full", || (spooled(&one) > 800).then_some(()));
    // There is a cluster at last.
    let head = Head::start_at(dir.path(), &port.at(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    feeder.join().unwrap();
    let (code, _, err) = collector.finish();
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("3000 lines were read; 3000 are kept"), "{err}");
    eventually("what had a place is kept", || (read(&head.at()).len() >= 3000 + kept).then_some(()));
    socket.write_all(b"there is room\n").unwrap();
    other.wait_for("there is room again");
    eventually("the next line is kept", || read(&head.at()).contains_key("b there is room").then_some(()));
    other.signal(Signal::TERM);
    let (code, _, err) = other.finish();
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains(" are lost"), "{err}");
}

#[test]
fn a_head_that_refuses_for_good_is_tried_again_with_the_same_lines_under_the_same_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let port = Port::reserve();
    let listener = TcpListener::bind(port.at()).unwrap();
    let (_collector, mut input) = Process::fed(collect(&port.at(), &["a=-"]));
    input.write_all(b"linea 0\nlinea 1\n").unwrap();
    let mut asked = Vec::new();
    for _ in 0..2 {
        let (mut socket, _) = listener.accept().unwrap();
        let mut opening = [0; b"peticion acopio/2\ncliente\n".len()];
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.read_exact(&mut opening).unwrap();
        socket.write_all(CONFIRMATION).unwrap();
        let mut frames = Frames::new(socket);
        let Frame::Hello { client, .. } = frames.hear() else { panic!("no Hello") };
        asked.push(client);
        frames.say(&Frame::Failure(Refusal::new(Code::Role, "not here; go away")));
        assert!(frames.hear_or_end().is_none());
    }
    assert_eq!(asked[0], asked[1]);
    drop(listener);
    let head = Head::start_at(dir.path(), &port.at(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    wait_for(&head.at(), &numbered("a", 0, 2));
    let seqs: Vec<_> =
        records(dir.path()).into_iter().map(|record| record.seq.split('@').next().unwrap().to_owned()).collect();
    assert_eq!(seqs, ["0", "1"], "in the digits of records: the first and the second");
}

#[test]
fn without_a_spool_what_waits_is_lost_at_the_end_and_that_is_told() {
    let port = Port::reserve();
    let (collector, mut input) = Process::fed(collect(&port.at(), &["-"]));
    input.write_all(b"uno\ndos\nmedia").unwrap();
    collector.wait_for("trying again");
    collector.signal(Signal::INT);
    let (code, _, err) = collector.finish();
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("left out 5 bytes of a line that was not whole"), "{err}");
    assert!(err.contains("2 lines were read; 0 are kept, 2 are lost"), "{err}");
}

#[test]
#[cfg(feature = "coord")]
fn instruments_are_read_before_any_head_is_known() {
    let (dir, nowhere) = (tempfile::tempdir().unwrap(), Port::reserve());
    let spool = dir.path().join("spool");
    let instrument = Instrument::new();
    let heads = format!("zk://{}/acopio", nowhere.at());
    let collector = Process::start(collect(&heads, &[&instrument.at(), "--spool", spool.to_str().unwrap()]));
    let mut socket = instrument.accept();
    say(&mut socket, 0, 3);
    eventually("the lines are in the spool", || (spooled(&spool) >= 3).then_some(()));
    collector.signal(Signal::TERM);
    let (code, _, err) = collector.finish();
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("3 lines were read; 0 are kept, 3 wait in the spool"), "{err}");
}

#[test]
fn bad_arguments_are_told_with_what_would_be_right() {
    let cases: [(&[&str], &str); 14] = [
        (&[], "nothing to collect from"),
        (&["host:5000"], "write tcp://HOST:PORT"),
        (&["tcp://host"], "HOST:PORT"),
        (&["a b=-"], "A-Za-z0-9._-"),
        (&["a=-", "tcp://h:1"], "tcp://h:1 has no name beside others"),
        (&["a=-", "b=-"], "standard input is read twice"),
        (&["a=-", "a=tcp://h:1"], "have one name"),
        (&["a=-", "b=tcp://h:1", "--as", "c"], "--as is for one source"),
        (&["-", "--send", "X"], "--send is for instruments"),
        (&["tcp://h:1", "--every", "5s"], "--send"),
        (&["tcp://h:1", "--send", "\\q"], "two hexadecimal digits"),
        (&["/dev/ttyUSB0", "--mode", "9N1"], "8N1"),
        (&["/dev/ttyUSB0", "--baud", "12"], "50..=4000000"),
        (&["-", "--spool", "x", "--spool-bytes", "1k"], "1048576 or more"),
    ];
    for (args, wanted) in cases {
        let (code, out, err) = ran(collect("127.0.0.1:1", args));
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}: {err}");
        assert!(err.contains(wanted), "{args:?}: {err}");
    }
    // What is no serial line may become one.
    let file = tempfile::NamedTempFile::new().unwrap();
    let collector = Process::start(collect("127.0.0.1:1", &[file.path().to_str().unwrap()]));
    collector.wait_for("it is no serial line; a file or a FIFO is read with: acopio collect - <FILE");
}
