//! `acopio send`: every line is stored and accounted for, or named with the reason why not.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crate::common::{self, Head, Port, Process, Record, acopio, eventually, payloads, records, verify_clean};

fn send(head: &str, more: &[&str]) -> Command {
    let mut command = acopio();
    command.args(["send", "--head", head]).args(more);
    command
}

/// Runs it with this standard input; exit code, standard output, standard error.
fn piped(mut command: Command, input: &[u8]) -> (Option<i32>, String, String) {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("acopio");
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// As [`piped`], for one that is to keep everything and say nothing.
fn silent(command: Command, input: &[u8]) {
    assert_eq!(piped(command, input), (Some(0), String::new(), String::new()));
}

/// Every payload is kept at least once, and what is there twice is so under the same client id and sequence number.
fn assert_kept_with_lawful_duplicates(dir: &Path, lines: &BTreeSet<String>) {
    let mut kept: BTreeMap<String, Vec<Record>> = BTreeMap::new();
    for record in records(dir) {
        kept.entry(record.payload.clone()).or_default().push(record);
    }
    let lost: Vec<_> = lines.iter().filter(|line| !kept.contains_key(*line)).collect();
    assert!(lost.is_empty(), "{} of {} lines are lost: {:?}", lost.len(), lines.len(), lost.first());
    assert_eq!(kept.len(), lines.len(), "nothing else is kept");
    for copies in kept.values() {
        let seq = |copy: &Record| copy.seq.split(':').next().map(str::to_owned);
        let origins: BTreeSet<_> = copies.iter().map(|copy| (&copy.client, seq(copy))).collect();
        assert_eq!(origins.len(), 1, "{copies:?}");
    }
}

/// An `acopio send` that gets line after line on standard input until it is told that it was enough.
struct Flow {
    child: Child,
    written: Arc<AtomicUsize>,
    enough: Arc<AtomicBool>,
    feeder: JoinHandle<BTreeSet<String>>,
}

impl Flow {
    fn start(head: &str) -> Self {
        let mut command = send(head, &["--retry-for", "30s"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let (written, enough) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, told) = (Arc::clone(&written), Arc::clone(&enough));
        let feeder = std::thread::spawn(move || Self::feed(stdin, &counted, &told));
        Self { child, written, enough, feeder }
    }

    fn feed(mut stdin: ChildStdin, written: &AtomicUsize, enough: &AtomicBool) -> BTreeSet<String> {
        let mut lines = BTreeSet::new();
        while !enough.load(Ordering::Relaxed) {
            let first = lines.len();
            let batch: Vec<String> = (first..first + 100).map(|k| format!("linea {k:07}")).collect();
            if stdin.write_all((batch.join("\n") + "\n").as_bytes()).is_err() {
                break;
            }
            lines.extend(batch);
            written.store(lines.len(), Ordering::Relaxed);
        }
        lines
    }

    /// Waits until it has taken so many more lines than a client may have unanswered, so that some were kept.
    fn more(&self, lines: usize) {
        let target = self.written.load(Ordering::Relaxed) + 8_192 + lines;
        eventually("lines are taken", || (self.written.load(Ordering::Relaxed) >= target).then_some(()));
    }

    /// Ends the input; the lines that were sent, once it has exited with 0 and said nothing.
    fn finish(mut self) -> BTreeSet<String> {
        self.enough.store(true, Ordering::Relaxed);
        let lines = self.feeder.join().unwrap();
        let status = eventually("send ends", || self.child.try_wait().unwrap());
        let mut said = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!((status.code(), said.as_str()), (Some(0), ""));
        lines
    }
}

#[test]
fn texts_and_standard_input_are_stored_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    silent(send(&head.at(), &["hola", "dos palabras", "", "ñandú"]), b"not read");
    silent(send(&head.at(), &[]), b"uno\n\r\ndos\r\nsin fin de linea");
    let wanted = [("", 2), ("dos", 1), ("dos palabras", 1), ("hola", 1), ("sin fin de linea", 1), ("uno", 1)];
    let mut wanted: BTreeMap<String, usize> = wanted.map(|(text, n)| (text.to_owned(), n)).into();
    wanted.insert("ñandú".to_owned(), 1);
    assert_eq!(payloads(dir.path()), wanted);
}

#[test]
fn numbers_below_zero_are_messages() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    silent(send(&head.at(), &["-5.2", "-3", "-1e9", "--retry-for", "20s", "--", "-v", "--acks"]), b"");
    let wanted = ["-5.2", "-3", "-1e9", "-v", "--acks"].map(|text| (text.to_owned(), 1));
    assert_eq!(payloads(dir.path()), wanted.into());
    let (code, _, err) = piped(send(&head.at(), &["-5.2C"]), b"");
    assert!(code == Some(2) && err.contains("'-- -5'"), "{err}");
}

#[test]
fn a_file_is_taken_without_its_byte_order_mark_and_utf_16_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let file = dir.path().join("excel.csv");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "\u{feff}uno\r\n\u{feff}dos\r\n").unwrap();
    silent(send(&head.at(), &["--file", path]), b"");
    let kept = [("\u{feff}dos".to_owned(), 1), ("uno".to_owned(), 1)];
    assert_eq!(payloads(dir.path()), kept.clone().into(), "only what stands at the beginning is a mark");
    for (mark, to_bytes) in [(0xfeff_u16, u16::to_le_bytes as fn(u16) -> [u8; 2]), (0xfeff, u16::to_be_bytes)] {
        let units: Vec<u8> = [mark].into_iter().chain("tres\n".encode_utf16()).flat_map(to_bytes).collect();
        std::fs::write(&file, units).unwrap();
        let (code, _, err) = piped(send(&head.at(), &["--file", path]), b"");
        assert_eq!(code, Some(1));
        assert!(
            err.starts_with(&format!("acopio: cannot read {path}: it is UTF-16")) && err.contains("save it as UTF-8")
        );
    }
    assert_eq!(payloads(dir.path()), kept.into());
}

#[test]
fn a_file_of_50_000_lines_is_stored_line_by_line_exactly_once() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _nodes = [1, 2, 3].map(|k| head.node(dir.path(), k, &[]));
    let file = dir.path().join("readings.csv");
    let lines: Vec<String> = (0..50_000).map(|k| format!("{k},{}", k % 101)).collect();
    std::fs::write(&file, lines.join("\n") + "\n").unwrap();
    silent(send(&head.at(), &["--file", file.to_str().unwrap()]), b"");
    let kept = payloads(dir.path());
    assert_eq!(kept.len(), lines.len());
    assert!(lines.iter().all(|line| kept.get(line) == Some(&1)));
    for k in 1..=3 {
        let size = std::fs::metadata(dir.path().join(format!("data{k}/data.txt"))).unwrap().len();
        assert!(size > 500_000, "data{k} keeps its share: {size} bytes");
    }
    verify_clean(dir.path(), &["data1", "data2", "data3"]);
}

#[test]
fn acks_name_the_record_and_its_node() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let input: String = (1..=300).map(|k| format!("m{k}\n")).collect();
    let (code, out, err) = piped(send(&head.at(), &["--acks"]), input.as_bytes());
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let by_id: BTreeMap<String, String> =
        records(dir.path()).into_iter().map(|record| (record.id, record.payload)).collect();
    let mut numbers = BTreeSet::new();
    for line in out.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let number: usize = fields[0].parse().unwrap();
        assert_eq!(by_id.get(fields[1]), Some(&format!("m{number}")), "{line}");
        assert_eq!(fields[2..], ["recibido", "en", "dataNode", "127.0.0.2"], "{line}");
        numbers.insert(number);
    }
    assert_eq!((out.lines().count(), numbers), (300, (1..=300).collect()));
}

#[test]
fn with_no_data_node_every_line_is_named_and_nothing_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let (code, out, err) = piped(send(&head.at(), &["--retry-for", "5s", "hola", "adios"]), b"");
    assert_eq!((code, out.as_str()), (Some(1), ""));
    let lines: Vec<&str> = err.lines().collect();
    assert_eq!(lines.len(), 3, "{err}");
    for (k, line) in lines[..2].iter().enumerate() {
        assert!(line.starts_with(&format!("line {}: ", k + 1)) && line.contains("no hay dataNodes; "), "{line}");
    }
    assert_eq!(lines[2], "acopio: 2 of 2 messages are not kept; mend that, then send them again");
}

#[test]
fn a_long_input_with_nobody_to_keep_it_is_given_up_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lines");
    std::fs::write(&file, "x\n".repeat(60_000)).unwrap();
    let port = Port::reserve();
    let head = port.at();
    let command = send(&head, &["--retry-for", "2s", "--file", file.to_str().unwrap()]);
    let (code, _, err) = piped(command, b"");
    assert_eq!(code, Some(1));
    assert!(err.starts_with(&format!("line 1: head {head}: ")) && err.contains("see that a head runs there"), "{err}");
    let last = err.lines().last().unwrap();
    let total: usize = last.split(' ').nth(3).unwrap().parse().unwrap();
    assert!(total < 60_000, "not --retry-for again for every window: {last}");
    assert!(last.starts_with(&format!("acopio: {total} of {total} messages are not kept (")), "{last}");
    assert!(
        last.ends_with(&format!(" and what follows line {total} was not sent; mend that, then send them again")),
        "{last}"
    );
}

#[test]
fn a_line_too_long_is_named_and_the_others_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let whole = "y".repeat(1 << 20);
    let input = format!("antes\n{whole}z\n{whole}\ndespues\n");
    let (code, out, err) = piped(send(&head.at(), &[]), input.as_bytes());
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert_eq!(
        err,
        "line 2: longer than 1048576 bytes; split it\nacopio: 1 of 4 messages are not kept; mend that, then send them again\n"
    );
    let wanted = BTreeSet::from(["antes".to_owned(), whole, "despues".to_owned()]);
    assert_eq!(payloads(dir.path()).into_keys().collect::<BTreeSet<_>>(), wanted);
}

#[test]
fn what_cannot_be_read_is_named_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let port = Port::reserve();
    let head = port.at();
    let missing = dir.path().join("missing.csv");
    let (code, _, err) = piped(send(&head, &["--file", missing.to_str().unwrap()]), b"");
    assert_eq!((code, err.lines().count()), (Some(1), 1), "{err}");
    assert!(err.starts_with(&format!("acopio: cannot read {}: ", missing.display())), "{err}");
    assert!(err.ends_with("; name a file with one message a line\n"), "{err}");
    let (code, _, err) = piped(send(&head, &["--file", dir.path().to_str().unwrap()]), b"");
    assert_eq!(code, Some(1));
    assert!(err.contains(dir.path().to_str().unwrap()) && err.contains("; name a file"), "{err}");
}

#[test]
fn an_empty_input_needs_nobody() {
    let nobody = Port::reserve();
    silent(send(&nobody.at(), &[]), b"");
    silent(send(&nobody.at(), &["--file", "/dev/null"]), b"");
}

#[test]
fn a_data_node_killed_meanwhile_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let one = head.node(dir.path(), 1, &[]);
    let _two = head.node(dir.path(), 2, &[]);
    let flow = Flow::start(&head.at());
    flow.more(5_000);
    one.kill();
    head.process.wait_for("dataNode data1 at 127.0.0.2 evicted");
    flow.more(5_000);
    let _one = head.node(dir.path(), 1, &[]);
    flow.more(5_000);
    let lines = flow.finish();
    assert_kept_with_lawful_duplicates(dir.path(), &lines);
    verify_clean(dir.path(), &["data1", "data2"]);
}

#[test]
fn a_head_started_again_meanwhile_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let at = head.at();
    let nodes: Vec<Process> = [1, 2].map(|k| head.node(dir.path(), k, &[])).into();
    let flow = Flow::start(&at);
    flow.more(5_000);
    head.process.kill();
    let second = Head::start_at(dir.path(), &at, &[]);
    flow.more(5_000);
    // In order this time.
    second.process.signal(common::Signal::TERM);
    drop(second);
    let _third = Head::start_at(dir.path(), &at, &[]);
    flow.more(5_000);
    let lines = flow.finish();
    drop(nodes);
    assert_kept_with_lawful_duplicates(dir.path(), &lines);
    verify_clean(dir.path(), &["data1", "data2"]);
}
