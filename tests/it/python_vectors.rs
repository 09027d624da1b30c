//! What `clients/python` is compared with: frames, lines and bounds as this program makes them, as JSON. Nothing is
//! decided here.

use acopio::limits;
use acopio::wire::error::{Code, Refusal};
use acopio::wire::filter::SourceFilter;
use acopio::wire::frame::{Frame, MessagesBuilder, SyncMode, acked};
use acopio::wire::id::{ClientId, RecordId};
use acopio::wire::ledger::Place;
use acopio::wire::record::{self, Fields, Tag};
use bytes::{Bytes, BytesMut};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

/// Everything that the Python side compares.
pub(crate) fn vectors() -> Value {
    json!({ "client": client(), "head": head(), "lines": lines(), "bounds": bounds(), "codes": codes(), "kinds": kinds() })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A frame's bytes beside what it says.
fn with_bytes(frame: &Frame, mut says: Value) -> Value {
    let mut out = BytesMut::new();
    frame.encode(&mut out).unwrap();
    says["hex"] = hex(&out).into();
    says
}

const FIRST: RecordId = RecordId { time_ns: 1_795_234_260_000_000_001, incarnation: 7 };

/// Ids at the bounds and between them.
fn ids() -> [RecordId; 4] {
    [RecordId::ZERO, RecordId::MAX, FIRST, RecordId { time_ns: 1_795_234_260_999_999_999, incarnation: (1 << 30) - 1 }]
}

/// Frames that a client says.
fn client() -> Vec<Value> {
    let mut all = Vec::new();
    for client in [ClientId(0), ClientId::of_library(u64::MAX), ClientId::of_connection(0x0123_4567_89ab_cdef)] {
        for text in [false, true] {
            let says = json!({ "kind": "Hello", "client": client.to_string(), "text": text });
            all.push(with_bytes(&Frame::Hello { client, text }, says));
        }
    }
    for (first_seq, sizes) in [(1, vec![4]), (u64::from(u32::MAX), vec![0; 16]), (7, vec![70_000, 1])] {
        all.push(store(None, first_seq, &sizes));
        all.push(store(Some("taller/esp-7"), first_seq, &sizes));
    }
    for id in ids() {
        for (client, follow, partial, token) in
            [(None, false, true, ""), (Some(ClientId::of_library(5)), true, false, "-----:-..3 ----6.0=-0")]
        {
            let (from, until) = (RecordId::ZERO, id);
            let who = client.map(|client| client.to_string());
            let says = json!({
                "kind": "Read", "from": from.to_string(), "until": until.to_string(), "client": who, "follow": follow,
                "partial": partial, "token": token, "sources": if follow { json!(["esp7", "taller/"]) } else { json!([]) },
            });
            let sources = if follow { "esp7,taller/".parse().unwrap() } else { SourceFilter::default() };
            let token = Bytes::from_static(token.as_bytes());
            all.push(with_bytes(&Frame::Read { from, until, client, sources, follow, partial, token }, says));
        }
    }
    for (clients, ledgers) in [(false, false), (true, false), (false, true), (true, true)] {
        let says = json!({ "kind": "StatusQuery", "clients": clients, "ledgers": ledgers });
        all.push(with_bytes(&Frame::StatusQuery { clients, ledgers }, says));
    }
    all.extend(pings());
    all
}

fn store(source: Option<&str>, first_seq: u64, sizes: &[usize]) -> Value {
    let mut builder = MessagesBuilder::new();
    let payloads: Vec<Vec<u8>> = (0_u8..).zip(sizes).map(|(k, &size)| vec![k ^ 0xa5; size]).collect();
    for payload in &payloads {
        builder.push(&[payload]).unwrap();
    }
    let messages = builder.take().unwrap();
    let shown: Vec<String> = payloads.iter().map(|payload| hex(payload)).collect();
    let kind = if source.is_some() { "StoreAs" } else { "Store" };
    let says = json!({ "kind": kind, "source": source, "first_seq": first_seq, "messages": shown });
    let source = source.map(|source| source.parse().unwrap());
    with_bytes(&Frame::Store { source, first_seq, messages }, says)
}

/// Both sides say them.
fn pings() -> Vec<Value> {
    [0, 7, u64::MAX]
        .into_iter()
        .flat_map(|n| {
            [
                with_bytes(&Frame::Ping(n), json!({ "kind": "Ping", "number": n })),
                with_bytes(&Frame::Pong(n), json!({ "kind": "Pong", "number": n })),
            ]
        })
        .collect()
}

/// Frames that a head says.
fn head() -> Vec<Value> {
    let mut all = pings();
    let welcome =
        Frame::Welcome { incarnation: 7, window_messages: 4096, window_bytes: 4 << 20, cluster: "ñandú".to_owned() };
    let says = json!({
        "kind": "Welcome", "incarnation": 7, "window_messages": 4096, "window_bytes": 4 << 20, "cluster": "ñandú",
    });
    all.push(with_bytes(&welcome, says));
    for (first, sync) in
        ids().into_iter().zip([SyncMode::Always, SyncMode::Interval, SyncMode::Never, SyncMode::Always])
    {
        all.push(kept(first, sync));
    }
    for code in Code::ALL {
        let refusal = Refusal::new(code, format!("{code}; do «something»"));
        let (number, retry, text) = (u16::from(code), refusal.retry, refusal.text.clone());
        let says = json!({ "kind": "Failure", "code": number, "retry": retry, "text": text });
        all.push(with_bytes(&Frame::Failure(refusal.clone()), says));
        let says = json!({
            "kind": "Refused", "first_seq": 9, "count": 3, "code": number, "retry": retry, "text": text,
        });
        all.push(with_bytes(&Frame::Refused { first_seq: 9, count: 3, refusal }, says));
    }
    all.extend(reading());
    all
}

fn kept(first: RecordId, sync: SyncMode) -> Value {
    let nodes = ["10.0.0.1", "fe80::1%eth0"];
    let mut out = BytesMut::new();
    acked(&mut out, 5, 2, first, sync, nodes).unwrap();
    json!({
        "kind": "Acked", "first_seq": 5, "count": 2, "first": first.to_string(), "sync": format!("{sync:?}"),
        "nodes": nodes, "hex": hex(&out),
    })
}

fn reading() -> Vec<Value> {
    let next = FIRST.next();
    let mut lines = Vec::new();
    let fields =
        Fields { id: FIRST, client: ClientId(5), seq: 1, place: Some(Place { number: 0, entry: 64 }), source: None };
    record::encode(&mut lines, fields, b"hola").unwrap();
    let shown = hex(&lines);
    let records = |lines: Bytes, shown: &str| {
        let says = json!({ "kind": "Records", "next": next.to_string(), "lines": shown });
        with_bytes(&Frame::Records { next, lines }, says)
    };
    let end = |missing: &str, names: Value| {
        let says = json!({ "kind": "ReadEnd", "next": next.to_string(), "missing": names });
        with_bytes(&Frame::ReadEnd { next, missing: missing.to_owned() }, says)
    };
    let waiting = |nodes: &str, names: Value| {
        with_bytes(&Frame::Waiting { nodes: nodes.to_owned() }, json!({ "kind": "Waiting", "nodes": names }))
    };
    let lacks = |missing: &str, names: Value| {
        with_bytes(&Frame::Lacks { missing: missing.to_owned() }, json!({ "kind": "Lacks", "missing": names }))
    };
    let token = |token: &'static str| {
        with_bytes(&Frame::Token(Bytes::from_static(token.as_bytes())), json!({ "kind": "Token", "token": token }))
    };
    vec![
        records(lines.into(), &shown),
        records(Bytes::new(), ""),
        end("", json!([])),
        end("data1,data2 (data.txt is gone)", json!(["data1", "data2 (data.txt is gone)"])),
        waiting("", json!([])),
        waiting("dataNodes", json!(["dataNodes"])),
        lacks("data1,data2 (data.txt is gone)", json!(["data1", "data2 (data.txt is gone)"])),
        token(""),
        token("-----:-..3 ----6.0=-0"),
        with_bytes(
            &Frame::StatusReport(Bytes::from_static(b"{\"nodes\":[]}")),
            json!({ "kind": "StatusReport", "json": "{\"nodes\":[]}" }),
        ),
    ]
}

/// Lines with every byte and any bytes.
fn lines() -> Vec<Value> {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut payloads: Vec<Vec<u8>> = vec![vec![], (0..=255).collect(), "ñ \u{85}\u{2028}\u{2029}\u{1f600}".into()];
    payloads.extend((0..200).map(|_| {
        let size = rng.random_range(0..80);
        (0..size).map(|_| if rng.random_bool(0.5) { rng.random() } else { rng.random_range(b' '..b'~') }).collect()
    }));
    (0..)
        .zip(payloads)
        .map(|(k, payload)| {
            let time_ns = rng.random_range(0..10_u64.pow(19));
            let id = RecordId { time_ns, incarnation: rng.random_range(0..1 << 30) };
            let client = ClientId::from_random(rng.random());
            let seq = rng.random_range(0..1_u64 << (1 + k % 60));
            let place = Place { number: rng.random_range(0..1 << 30), entry: rng.random_range(0..1 << (1 + k % 30)) };
            let place = (k % 3 != 0).then_some(place);
            let source = place.filter(|_| k % 2 == 0).map(|_| format!("esp{k}/a.b-c_"));
            let mut line = Vec::new();
            let fields = Fields { id, client, seq, place, source: source.as_deref().map(|source| source.parse().unwrap()) };
            let tag = place.filter(|_| k % 5 != 0).map(|_| Tag::from_bits(rng.random()));
            record::encode_tagged(&mut line, fields, tag, &payload).unwrap();
            let third = line.split(|byte| *byte == b' ').nth(2).unwrap();
            let (_, text) = std::str::from_utf8(third).unwrap().split_once(':').unwrap_or_default();
            let text = text.split('~').next().unwrap();
            let ledger = place.map(|place| place.ledger(id).to_string()).unwrap_or_default();
            json!({
                "id": id.to_string(), "time_ns": time_ns, "incarnation": id.incarnation, "client": client.to_string(),
                "source": source, "seq": seq, "place": text, "ledger": ledger, "entry": place.map(|place| place.entry), "payload": hex(&payload), "line": hex(&line),
            })
        })
        .collect()
}

fn bounds() -> Value {
    json!({
        "MESSAGE_BYTES_MAX": limits::MESSAGE_BYTES_MAX,
        "FRAME_BYTES_MAX": limits::FRAME_BYTES_MAX,
        "LINES_FRAME_BYTES_MAX": limits::LINES_FRAME_BYTES_MAX,
        "TEXT_BYTES_MAX": limits::TEXT_BYTES_MAX,
        "FILTER_NAMES_MAX": limits::FILTER_NAMES_MAX,
        "SOURCE_NAME_BYTES_MAX": limits::SOURCE_NAME_BYTES_MAX,
        "REPLICAS_MAX": limits::REPLICAS_MAX,
        "STATUS_BYTES_MAX": limits::STATUS_BYTES_MAX,
        "TOKEN_BYTES_MAX": limits::TOKEN_BYTES_MAX,
        "HANDSHAKE_BYTES_MAX": limits::HANDSHAKE_BYTES_MAX,
        "BATCH_MESSAGES_MAX": limits::BATCH_MESSAGES_MAX,
        "BATCH_BYTES_MAX": limits::BATCH_BYTES_MAX,
        "WINDOW_MESSAGES": limits::CLIENT_IN_FLIGHT_MESSAGES_MAX,
        "WINDOW_BYTES": limits::CLIENT_IN_FLIGHT_BYTES_MAX,
        "OUT_BYTES_MAX": limits::CLIENT_ANSWERS_BYTES_MAX,
        "HANDSHAKE_TIME_MAX": limits::HANDSHAKE_TIME_MAX.as_secs_f64(),
        "PING_AFTER": limits::CLIENT_WORD_EVERY.as_secs_f64(),
        "HOLD_NS": u64::try_from(limits::READER_HOLD_TIME.as_nanos()).unwrap(),
        "SEQ_END": 1_u64 << ClientId::BITS,
        "CLIENT_RETRIES": ClientId::of_library(0).0,
    })
}

fn codes() -> Vec<(u16, String)> {
    Code::ALL.into_iter().map(|code| (code.into(), code.to_string())).collect()
}

/// The kinds of frames between clients and heads, by name.
fn kinds() -> Vec<(u8, String)> {
    let mut kinds: Vec<(u8, String)> = client()
        .into_iter()
        .chain(head())
        .map(|says| {
            let hex = says["hex"].as_str().unwrap();
            (u8::from_str_radix(&hex[8..10], 16).unwrap(), says["kind"].as_str().unwrap().to_owned())
        })
        .collect();
    kinds.sort();
    kinds.dedup();
    kinds
}
