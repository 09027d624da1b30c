//! `/api/v1` of `acopio web` over bare sockets: what is stored is read, in every form, and what comes is streamed without
//! gap or double.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::web::{Answer, Web, cluster};
use crate::common::{PATIENCE, acopio, eventually, payloads, ran};

const TEXT: &str = "text/plain";

fn store(web: &Web, source: &str, payload: &str) -> String {
    let answer = web.post(&format!("/api/v1/messages?source={source}"), TEXT, payload);
    assert_eq!(answer.status, 201, "{}", answer.body);
    answer.json()["id"].as_str().unwrap().to_owned()
}

fn texts(answer: &Answer) -> Vec<String> {
    let answer = answer.json();
    let messages = answer["messages"].as_array().unwrap().iter();
    messages.map(|message| message["text"].as_str().unwrap().to_owned()).collect()
}

/// A stream of events.
struct Stream {
    reader: BufReader<TcpStream>,
}

/// An event: its id, its name and its data.
type Event = (String, String, Value);

impl Stream {
    fn open(web: &Web, query: &str, last: Option<&str>) -> Self {
        let last = last.map(|last| format!("Last-Event-ID: {last}\r\n")).unwrap_or_default();
        let mut socket = web.connect();
        socket.write_all(format!("GET /api/v1/live{query} HTTP/1.0\r\nHost: x\r\n{last}\r\n").as_bytes()).unwrap();
        let mut reader = BufReader::new(socket);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
        }
        assert!(head.contains(" 200 ") && head.contains("text/event-stream"), "{head}");
        Self { reader }
    }

    /// The next event; comments are passed over.
    fn next(&mut self) -> Event {
        let (mut id, mut name, mut data) = (String::new(), String::new(), String::new());
        loop {
            let mut line = String::new();
            assert!(self.reader.read_line(&mut line).unwrap() > 0, "the stream ended");
            match line.trim_end_matches('\n').split_once(": ") {
                Some(("id", text)) => text.clone_into(&mut id),
                Some(("event", text)) => text.clone_into(&mut name),
                Some(("data", text)) => text.clone_into(&mut data),
                _ if line == "\n" && !name.is_empty() => {
                    return (id, name, serde_json::from_str(&data).expect(&data));
                }
                _ => {}
            }
        }
    }

    fn message(&mut self) -> (String, String) {
        let (id, name, data) = self.next();
        assert_eq!(name, "message", "{data}");
        (id, data["text"].as_str().unwrap().to_owned())
    }
}

#[test]
fn what_is_stored_is_kept_and_read_in_every_form() {
    let dir = tempfile::tempdir().unwrap();
    let (head, _node, web) = cluster(dir.path(), &[]);
    let ids: Vec<String> = (1..=5).map(|n| store(&web, "esp7", &format!("temp=2{n}.5C hum={n}"))).collect();
    assert_eq!(payloads(dir.path()).get("temp=23.5C hum=3"), Some(&1), "it is on disk by then");
    let json = web.post("/api/v1/messages", "application/json", r#"{"source": "taller/horno", "text": "180\n"}"#);
    assert_eq!(
        (json.status, json.json()["source"].as_str().map(str::to_owned)),
        (201, Some("taller/horno".to_owned()))
    );
    assert!(head.nc(b"peticion\nhola\n").contains("recibido"));
    for bad in [r#"{"text": 1}"#, r#"{"texto": "x"}"#, "{"] {
        let answer = web.post("/api/v1/messages", "application/json", bad);
        assert!(answer.status == 400 && answer.body.contains("send JSON such as"), "{}", answer.body);
    }
    assert_eq!(web.post("/api/v1/messages?source=a+b", TEXT, "x").status, 400);
    assert_eq!(web.post("/api/v1/messages?source=acopio.notes", TEXT, "x").status, 400);
    let long = "x".repeat(1024 * 1024 + 1);
    assert_eq!(web.post("/api/v1/messages", TEXT, &long).status, 413);
    assert_eq!(web.post("/api/v1/messages?source=largo", TEXT, &long[1..]).status, 201, "1 MiB is a message");

    let all = web.get("/api/v1/messages?source=esp7").json();
    assert_eq!(all["messages"].as_array().unwrap().len(), 5);
    assert_eq!((&all["more"], &all["missing"], &all["next"]), (&json!(false), &json!([]), &json!(ids[4])));
    let page = web.get("/api/v1/messages?source=esp7&limit=2");
    assert_eq!(texts(&page), ["temp=21.5C hum=1", "temp=22.5C hum=2"]);
    assert_eq!(page.json()["more"], json!(true));
    let next = page.json()["next"].as_str().unwrap().to_owned();
    let page = web.get(&format!("/api/v1/messages?source=esp7&limit=3&after={next}"));
    assert_eq!(texts(&page), ["temp=23.5C hum=3", "temp=24.5C hum=4", "temp=25.5C hum=5"]);
    assert_eq!(page.json()["more"], json!(false), "nothing is behind the last one");
    assert_eq!(texts(&web.get("/api/v1/messages?source=esp7&last=1")), ["temp=25.5C hum=5"]);
    assert_eq!(texts(&web.get("/api/v1/messages?source=")), ["mensaje: hola"], "without a name");
    assert_eq!(texts(&web.get("/api/v1/messages?source=taller/")), ["180\n"]);
    assert_eq!(texts(&web.get(&format!("/api/v1/messages?source=esp7&since={}&until={}", ids[1], ids[3]))).len(), 2);
    assert!(texts(&web.get("/api/v1/messages?since=2001-01-01&until=2002-01-01")).is_empty());

    let mut read = acopio();
    read.args(["read", "--head", &head.at(), "--from", "esp7", "--format", "json"]);
    assert_eq!(web.get("/api/v1/messages?source=esp7&format=ndjson").body, ran(read).1, "as acopio read prints it");
    let csv = web.get("/api/v1/messages?source=esp7&format=csv&fields=temp,hum&download=1");
    assert!(csv.head.contains("content-type: text/csv") && csv.head.contains("attachment; filename=\"acopio.csv\""));
    assert!(
        csv.body.starts_with("id,time,source,temp,hum\r\n") && csv.body.ends_with("Z,esp7,25.5,5\r\n"),
        "{}",
        csv.body
    );
    let excel = web.get("/api/v1/messages?source=esp7&format=excel&fields=temp").body;
    assert!(excel.starts_with("\u{feff}id;time;source;temp\r\n") && excel.contains(";esp7;21,5\r\n"), "{excel}");
    let medians = web.get("/api/v1/messages?source=esp7&fields=temp&every=1h").json();
    assert_eq!(medians["messages"].as_array().unwrap()[0]["temp"], json!(23.5));
    for (path, status, part) in [
        ("/api/v1/messages?limit=0", 400, "limit"),
        ("/api/v1/messages?format=xml", 400, "format"),
        ("/api/v1/messages?format=raw&fields=x", 422, "--format raw"),
        ("/api/v1/messages?limit=10001", 422, "ask for ndjson"),
        ("/api/v1/series?every=1ms", 400, "too short"),
        ("/api/v1/series?since=2001-01-01&every=1s", 422, "name a shorter time"),
        ("/api/v1/live?x=1", 400, "there is no field"),
        ("/api/v1/live?status=", 400, "neither 1 nor 0"),
        ("/api/v1/values?last=-1", 400, "no number from 0"),
    ] {
        let answer = web.get(path);
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(answer.json()["error"].as_str().unwrap().contains(part), "{}", answer.body);
    }
}

#[test]
fn a_series_has_gaps_and_marks_and_sources_have_their_last_values() {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules");
    std::fs::write(&rules, "esp7: temp °C 5..45\n").unwrap();
    let (head, _node, web) = cluster(dir.path(), &["--rules", rules.to_str().unwrap()]);
    let wrong = store(&web, "esp7", "temp=35");
    for temp in ["21", "22", "85"] {
        store(&web, "esp7", &format!("temp={temp}"));
    }
    let mut note = acopio();
    note.args(["note", &wrong, "--set", "temp=20", "--why", "probe", "--head", &head.at()]);
    assert_eq!(ran(note).0, Some(0));
    let series = web.get("/api/v1/series?source=esp7&since=1m&every=20s").json();
    let buckets = series["buckets"].as_array().unwrap();
    let full: Vec<&Value> = buckets.iter().filter(|bucket| bucket["n"] != json!(0)).collect();
    let sum = |name: &str| full.iter().filter_map(|bucket| bucket[name].as_u64()).sum::<u64>();
    assert_eq!((sum("n"), sum("corrected"), sum("out")), (4, 1, 1), "{series}");
    assert!(
        full.iter().any(|bucket| bucket["max"] == json!(85.0))
            && full.iter().any(|bucket| bucket["min"] == json!(20.0))
    );
    assert!(buckets.len() >= 4 && buckets[0]["median"].is_null(), "a gap stays open: {series}");
    assert_eq!(
        (&series["field"], &series["unit"], &series["fields"]),
        (&json!("temp"), &json!("°C"), &json!(["temp"]))
    );

    let sources = eventually("the board has it", || {
        let sources = web.get("/api/v1/sources").json();
        (sources["sources"][0]["text"] == json!("temp=85")).then_some(sources)
    });
    let esp7 = &sources["sources"][0];
    assert_eq!((&esp7["name"], &esp7["out"], &esp7["records"]), (&json!("esp7"), &json!(true), &json!(4)));
    assert_eq!(esp7["fields"], json!([{"name": "temp", "value": 85.0, "unit": "°C", "out": true}]));
    let means = esp7["spark"]["means"].as_array().unwrap();
    assert!(means.len() == 60 && means.iter().any(Value::is_number));

    let again = Web::start(&dir.path().join("again"), &head.at(), &[]);
    again.wait_ready();
    let sources = again.get("/api/v1/sources").json();
    let spark = |sources: &Value| sources["sources"][0]["spark"]["means"].as_array().map(Vec::len);
    assert_eq!(spark(&sources), Some(60), "the last hour is read when it starts");
}

#[test]
fn a_stream_that_broke_goes_on_without_gap_or_double() {
    let dir = tempfile::tempdir().unwrap();
    let (_head, _node, web) = cluster(dir.path(), &[]);
    let place = web.get("/api/v1/sources").json()["live"].as_str().unwrap().to_owned();
    let mut all = Stream::open(&web, "", None);
    assert_eq!(all.next().1, "begun");
    let mut some = Stream::open(&web, "?source=esp7", None);
    assert_eq!(some.next().1, "begun");
    for n in 0..10 {
        store(&web, if n % 2 == 0 { "esp7" } else { "otro" }, &format!("n={n}"));
    }
    let seen: Vec<(String, String)> = (0..4).map(|_| all.message()).collect();
    assert_eq!(seen.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), ["n=0", "n=1", "n=2", "n=3"]);
    drop(all);
    for n in 10..20 {
        store(&web, "esp7", &format!("n={n}"));
    }
    let mut again = Stream::open(&web, "", Some(&seen[3].0));
    for n in 4..20 {
        assert_eq!(again.message().1, format!("n={n}"));
    }
    let mut from_page = Stream::open(&web, &format!("?after={place}"), None);
    for n in 0..20 {
        assert_eq!(from_page.message().1, format!("n={n}"));
    }
    for n in [0, 2, 4, 6, 8, 10] {
        assert_eq!(some.message().1, format!("n={n}"), "of one source alone");
    }
    let mut unknown = Stream::open(&web, "", Some("00000000-7"));
    assert_eq!(unknown.next().1, "anew");
    store(&web, "esp7", "n=20");
    assert_eq!(unknown.message().1, "n=20", "it goes on from there");
    let mut states = Stream::open(&web, "?status=1&source=nobody", None);
    assert_eq!(states.next().1, "begun");
    let (_, name, state) = states.next();
    assert_eq!((name.as_str(), state["cluster"]["nodes"].as_array().unwrap().len()), ("status", 1));
}

#[test]
fn streams_end_with_the_role_and_have_a_bound() {
    let dir = tempfile::tempdir().unwrap();
    let (_head, _node, mut web) = cluster(dir.path(), &[]);
    let mut streams: Vec<Stream> = (0..300).map(|_| Stream::open(&web, "", None)).collect();
    assert_eq!(web.get("/healthz").status, 200, "more streams than other connections may be open");
    let begun = Instant::now();
    store(&web, "esp7", "n=1");
    for stream in &mut streams {
        assert_eq!(stream.next().1, "begun");
        assert_eq!(stream.message().1, "n=1");
    }
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    web.process.signal(crate::common::Signal::TERM);
    assert_eq!(web.process.wait().code(), Some(0));
    let mut rest = Vec::new();
    drop(streams[0].reader.read_to_end(&mut rest));
}

#[test]
fn a_page_of_another_site_stores_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (_head, _node, web) = cluster(dir.path(), &[]);
    let ask = |method: &str, path: &str, fields: &str| {
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n",
            web.address
        );
        web.ask(format!("{head}{fields}\r\n1").as_bytes()).status
    };
    for path in ["/api/v1/messages", "/nuevo", "/api/v1/values"] {
        assert_eq!(ask("POST", path, "Origin: http://evil.example\r\n"), 403, "{path}");
        assert_eq!(ask("POST", path, "Sec-Fetch-Site: cross-site\r\n"), 403, "{path}");
    }
    assert_eq!(ask("GET", "/nuevo?dato=1", "Sec-Fetch-Site: cross-site\r\n"), 403);
    assert!(payloads(dir.path()).is_empty(), "nothing was stored");
    assert_eq!(ask("POST", "/api/v1/messages", &format!("Origin: http://{}\r\n", web.address)), 201);
}

#[test]
fn who_reads_slowly_slows_himself_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (_head, _node, web) = cluster(dir.path(), &[]);
    let big = "x".repeat(1024 * 1024);
    for _ in 0..24 {
        store(&web, "largo", &big);
    }
    let mut slow = web.connect();
    slow.write_all(b"GET /api/v1/messages?format=raw HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
    let mut first = [0; 4096];
    slow.read_exact(&mut first).unwrap();
    let before = web.process.peak_kib();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        store(&web, "esp7", "n=1");
    }
    assert!(web.process.peak_kib() < before + 64 * 1024, "{} KiB after {before}", web.process.peak_kib());
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > 24 * big.len() - 8192, "it got all of it: {}", rest.len());
}

#[test]
fn what_is_away_is_named_or_breaks_the_answer_off() {
    let dir = tempfile::tempdir().unwrap();
    let (head, node, web) = cluster(dir.path(), &[]);
    let other = head.node(dir.path(), 2, &[]);
    for n in 0..40 {
        store(&web, "esp7", &format!("n={n}"));
    }
    node.kill();
    eventually("it is away", || {
        let status = web.get("/api/v1/status").json();
        let alarms = status["alarms"].as_array()?.clone();
        alarms
            .iter()
            .any(|alarm| alarm.as_str().is_some_and(|alarm| alarm.contains("data1 is away since")))
            .then_some(())
    });
    let answer = web.get("/api/v1/messages?source=esp7").json();
    assert_eq!(answer["missing"], json!(["data1"]), "{answer}");
    let series = web.get("/api/v1/series?source=esp7").json();
    assert_eq!(series["missing"], json!(["data1"]));
    assert!(web.get("/").body.contains("data1 is away since"), "the page says so");
    drop(other);
}
