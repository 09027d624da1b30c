//! `docs/wire.md` against the program: its clients run, and its tables have the code's numbers.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::process::Command;

use crate::common::{Head, payloads, verify_clean};
use acopio::limits;
use acopio::wire::error::{Code, Refusal};
use acopio::wire::filter::SourceFilter;
use acopio::wire::frame::{Copies, Frame, Messages, NodeReport, Roster, SyncMode, Tags};
use acopio::wire::id::{ClientId, RecordId};
use acopio::wire::ledger::{LedgerId, NodeId, Place};
use acopio::wire::proof::{Holder, KeyHint, Knock, Nonce, Proof};
use bytes::Bytes;

const DOCUMENT: &str = include_str!("../../docs/wire.md");

/// Each python block with the text block that follows it: what it prints.
fn examples() -> Vec<(&'static str, &'static str)> {
    let fenced = |text: &'static str, language: &str| {
        let (_, rest) = text.split_once(&format!("```{language}\n")).unwrap_or_else(|| panic!("a {language} block"));
        rest.split_once("```\n").expect("a fence ends")
    };
    DOCUMENT
        .match_indices("```python\n")
        .map(|(at, _)| {
            let (program, after) = fenced(&DOCUMENT[at..], "python");
            (program, fenced(after, "text").0)
        })
        .collect()
}

/// Runs a program against a head and a node of its own; it prints what the page says. Returns what is stored.
fn run(program: &str, prints: &str) -> BTreeMap<String, usize> {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let node = head.node(dir.path(), 1, &[]);
    let port = head.address.port().to_string();
    let output = match Command::new("python3").args(["-c", program, "127.0.0.1", &port]).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!("python3 is not here; install the package python3, which the clients of docs/wire.md need")
        }
        output => output.unwrap(),
    };
    assert!(output.status.success(), "{}\n{program}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), prints, "{program}");
    drop(node);
    verify_clean(dir.path(), &["data1"]);
    payloads(dir.path())
}

fn once_each(texts: &[&str]) -> BTreeMap<String, usize> {
    texts.iter().map(|&text| (text.to_owned(), 1)).collect()
}

#[test]
fn the_line_client_stores_and_prints_what_the_page_says() {
    let (program, prints) = examples()[0];
    assert_eq!(run(program, prints), once_each(&["mensaje: hola", "mensaje: adios"]));
}

#[test]
fn the_client_with_a_name_stores_and_prints_what_the_page_says() {
    let (program, prints) = examples()[1];
    assert_eq!(run(program, prints), once_each(&["mensaje: 21.4", "mensaje: 21.5"]));
}

#[test]
fn the_framed_client_stores_and_prints_what_the_page_says() {
    let (program, prints) = examples()[2];
    assert_eq!(run(program, prints), once_each(&["uno", "dos", "tres"]));
    assert_eq!(examples().len(), 3, "a new example needs a test");
}

/// The rows below the header that begins so, as cells without backticks.
fn table(header: &str) -> Vec<Vec<String>> {
    let at = DOCUMENT.find(&format!("\n| {header}")).unwrap_or_else(|| panic!("no table {header:?}"));
    DOCUMENT[at + 1..]
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect())
        .collect()
}

#[test]
fn the_codes_are_those_of_the_code() {
    let written: Vec<_> = table("code | name").into_iter().map(|row| row[..3].join(" ")).collect();
    let known: Vec<_> = Code::ALL
        .into_iter()
        .map(|code| format!("{} {code} {}", u16::from(code), u8::from(code.is_retryable())))
        .collect();
    assert_eq!(written, known);
    let syncs: Vec<_> = table("sync | name").into_iter().map(|row| row[..2].join(" ")).collect();
    let known = [SyncMode::Always, SyncMode::Interval, SyncMode::Never];
    assert_eq!(syncs, known.map(|sync| format!("{} {}", sync as u8, format!("{sync:?}").to_lowercase())));
}

/// One frame of each kind.
fn frames() -> Vec<Frame> {
    let messages = Messages::new(1, Bytes::from_static(&[0, 0, 0, 0])).unwrap();
    let refusal = Refusal::new(Code::Busy, "x");
    let report =
        NodeReport { writable: true, records: 0, bytes: 0, syncs: 0, written: 0, free: None, reason: String::new() };
    let (first, client, sync) = (RecordId::default(), ClientId(1), SyncMode::Always);
    let (from, until, next, lines, name) = (first, first, first, Bytes::new(), String::new());
    let (store_as, sources) = (messages.clone(), SourceFilter::default());
    let (request, ledger, node, token) = (1, LedgerId::default(), NodeId(1), Bytes::new());
    vec![
        Frame::Hello { client, text: false },
        Frame::Welcome { incarnation: 1, window_messages: 1, window_bytes: 1, cluster: name.clone() },
        Frame::Store { source: None, first_seq: 1, messages: messages.clone() },
        Frame::Acked { first_seq: 1, count: 1, first, sync, copies: Copies::default() },
        Frame::Refused { first_seq: 1, count: 1, refusal: refusal.clone() },
        Frame::StatusQuery { clients: false, ledgers: false },
        Frame::StatusReport(Bytes::new()),
        Frame::Failure(refusal.clone()),
        Frame::Ping(1),
        Frame::Pong(1),
        Frame::Read {
            from,
            until,
            client: None,
            sources: sources.clone(),
            follow: false,
            partial: false,
            token: token.clone(),
        },
        Frame::Records { next, lines: lines.clone() },
        Frame::ReadEnd { next, missing: name.clone() },
        Frame::Waiting { nodes: name.clone() },
        Frame::Drain { gone: false, lose: false, name: name.clone() },
        Frame::Register {
            node,
            replaces: None,
            old: false,
            name: "data1".to_owned(),
            cluster: name,
            sync,
            report: report.clone(),
        },
        Frame::Put {
            first,
            client,
            first_seq: 1,
            place: Place { number: 0, entry: 0 },
            members: vec![node],
            source: None,
            tags: Tags::none(),
            messages,
        },
        Frame::PutAck { up_to: 1, sync },
        Frame::PutRefused { number: 1, code: refusal.code, why: refusal.text.clone() },
        Frame::NodeState(report),
        Frame::Leave,
        Frame::Scan { request, from, until, client: None, sources: sources.clone(), bytes_max: 1 },
        Frame::Page { request, next, greatest: first, rotten: 0, lines: lines.clone() },
        Frame::ScanFailed { request, refusal },
        Frame::Close { ledger, end: 1, settled: true },
        Frame::Holds { more: false, gone: Vec::new(), held: Vec::new() },
        Frame::Adopt { ledger, entries: 0..1, settled: false },
        Frame::Fetch { request, ledger, entries: 0..1 },
        Frame::Fetched { request, lines: lines.clone() },
        Frame::Roster(Roster::default()),
        Frame::Follow { request, client: None, sources, done: Vec::new(), cursors: Vec::new() },
        Frame::Credit { request, bytes: 1 },
        Frame::Pushed { request, ledger, entries: 0..1, lines },
        Frame::Token(token),
        Frame::Copies { replicas: 1, least: 1 },
        Frame::Store { source: "esp7".parse().ok(), first_seq: 1, messages: store_as },
        Frame::DevicesQuery { behind: None, most: 1 },
        Frame::SourcesQuery { request, behind: None, most: 1 },
        Frame::SourcesPage { request, more: false, unlisted: false, sources: Vec::new() },
        Frame::Knock(Knock { holder: Holder::Node, hint: KeyHint([2; 8]), nonce: Nonce([1; 32]) }),
        Frame::Challenge { nonce: Nonce([1; 32]), proof: Proof([1; 32]), cluster: String::new() },
        Frame::Proof(Proof([1; 32])),
        Frame::Lacks { missing: String::new() },
        Frame::Flush(1),
        Frame::Flushed(1),
    ]
}

#[test]
fn the_kinds_of_frames_are_those_of_the_code() {
    let written: Vec<_> = table("kind | frame").into_iter().map(|row| row[..2].join(" ")).collect();
    let name = |frame: &Frame| {
        if matches!(frame, Frame::Store { source: Some(_), .. }) {
            return "StoreAs".to_owned();
        }
        let debug = format!("{frame:?}");
        debug.split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned()
    };
    let known: Vec<_> = frames().iter().map(|frame| format!("{:#04x} {}", frame.kind(), name(frame))).collect();
    assert_eq!(written, known);
}

#[test]
fn the_bounds_are_those_of_the_code() {
    let seconds = |time: std::time::Duration| time.as_secs() as usize;
    let known = BTreeMap::from([
        ("MESSAGE_BYTES_MAX", limits::MESSAGE_BYTES_MAX),
        ("LINE_BYTES_MAX", limits::LINE_BYTES_MAX),
        ("RAW_READ_BYTES_MAX", limits::RAW_READ_BYTES_MAX),
        ("FRAME_BYTES_MAX", limits::FRAME_BYTES_MAX),
        ("LINES_FRAME_BYTES_MAX", limits::LINES_FRAME_BYTES_MAX),
        ("FRAME_MESSAGES_MAX", limits::FRAME_MESSAGES_MAX),
        ("TEXT_BYTES_MAX", limits::TEXT_BYTES_MAX),
        ("NODE_NAME_BYTES_MAX", limits::NODE_NAME_BYTES_MAX),
        ("SOURCE_NAME_BYTES_MAX", limits::SOURCE_NAME_BYTES_MAX),
        ("FILTER_NAMES_MAX", limits::FILTER_NAMES_MAX),
        ("REPLICAS_MAX", limits::REPLICAS_MAX),
        ("STATUS_BYTES_MAX", limits::STATUS_BYTES_MAX),
        ("HANDSHAKE_BYTES_MAX", limits::HANDSHAKE_BYTES_MAX),
        ("PEER_SILENCE_MAX", seconds(limits::PEER_SILENCE_MAX)),
        ("CLIENT_SILENT_AFTER", seconds(limits::CLIENT_SILENT_AFTER)),
        ("TEXT_NODE_BYTES_DEFAULT", limits::TEXT_NODE_BYTES_DEFAULT),
        ("NODES_LOST_MAX", limits::NODES_LOST_MAX),
        ("HANDSHAKE_TIME_MAX", seconds(limits::HANDSHAKE_TIME_MAX)),
        ("BATCH_MESSAGES_MAX", limits::BATCH_MESSAGES_MAX),
        ("BATCH_BYTES_MAX", limits::BATCH_BYTES_MAX),
        ("CLIENTS_MAX_DEFAULT", limits::CLIENTS_MAX_DEFAULT),
        ("NODES_MAX", limits::NODES_MAX),
        ("CLIENT_IN_FLIGHT_MESSAGES_MAX", limits::CLIENT_IN_FLIGHT_MESSAGES_MAX),
        ("CLIENT_IN_FLIGHT_BYTES_MAX", limits::CLIENT_IN_FLIGHT_BYTES_MAX),
        ("CLIENT_ANSWERS_BYTES_MAX", limits::CLIENT_ANSWERS_BYTES_MAX),
        ("ANSWERS_BYTES_MAX", limits::ANSWERS_BYTES_MAX),
        ("OUTBOX_BYTES_MAX", limits::OUTBOX_BYTES_MAX),
        ("TURN_BYTES", limits::TURN_BYTES),
        ("READERS_BYTES_MAX", limits::READERS_BYTES_MAX),
        ("READ_REST", seconds(limits::READ_REST)),
        ("NODE_PAGES_BYTES_MAX", limits::NODE_PAGES_BYTES_MAX),
        ("NODE_WINDOW_MESSAGES_MAX", limits::NODE_WINDOW_MESSAGES_MAX),
        ("NODE_WINDOW_BYTES_MAX", limits::NODE_WINDOW_BYTES_MAX),
        ("READERS_MAX", limits::READERS_MAX),
        ("NODE_SCANS_MAX", limits::NODE_SCANS_MAX),
        ("PAGE_BYTES_MAX", limits::PAGE_BYTES_MAX),
        ("RECORDS_BYTES_MAX", limits::RECORDS_BYTES_MAX),
        ("TOKEN_BYTES_MAX", limits::TOKEN_BYTES_MAX),
        ("CLIENT_WORD_EVERY", seconds(limits::CLIENT_WORD_EVERY)),
        ("READ_WAIT_MAX", seconds(limits::READ_WAIT_MAX)),
        ("RAW_NODE_ANSWER_TIME_MAX", seconds(limits::RAW_NODE_ANSWER_TIME_MAX)),
        ("HEARTBEAT_DEFAULT", seconds(limits::HEARTBEAT_DEFAULT)),
        ("DRAIN_TIME_MAX", seconds(limits::DRAIN_TIME_MAX)),
        ("LINGER_TIME_MAX", seconds(limits::LINGER_TIME_MAX)),
    ]);
    let rows = table("limit | value");
    for row in &rows {
        let value: usize = row[1].split(' ').next().unwrap().parse().unwrap();
        assert_eq!(known.get(row[0].as_str()), Some(&value), "{}", row[0]);
    }
    assert_eq!(rows.len(), known.len());
}
