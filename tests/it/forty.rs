//! Forty devices of every kind at one cluster, whose power flickers: no end of a connection comes, and what was open stays open
//! from the head's side. Every source is told apart, every reading is found, nothing that was acknowledged is lost or read
//! twice, and all are back at once.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::common::{Head, LineClient, PATIENCE, Process, acopio, eventually, ran, read_once, verify_clean};
use acopio::client::Client;

/// What each kind of device says, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Json,
    Pairs,
    Csv,
    Bare,
    /// Lines that end in a carriage return, on a port without a handshake.
    Plain,
    /// The same, and it is answered nothing.
    Quiet,
    /// It connects for each reading.
    Sleeper,
    /// It sends each reading twice, to be sure.
    Twice,
    /// It sends what it measured yesterday, with its own times.
    Backlog,
    Numbered,
    /// It speaks for three sources.
    Gateway,
    /// The seeds' program, without a newline anywhere.
    Raw,
    Framed,
    /// Its sketch prints the words of the handshake one by one.
    Late,
    /// It says nothing: `nombres.txt` has its address.
    Unnamed,
}

const KINDS: [(Kind, u8); 15] = [
    (Kind::Json, 4),
    (Kind::Pairs, 4),
    (Kind::Csv, 4),
    (Kind::Bare, 4),
    (Kind::Plain, 1),
    (Kind::Quiet, 1),
    (Kind::Sleeper, 4),
    (Kind::Twice, 3),
    (Kind::Backlog, 3),
    (Kind::Numbered, 3),
    (Kind::Gateway, 2),
    (Kind::Raw, 3),
    (Kind::Framed, 1),
    (Kind::Late, 1),
    (Kind::Unnamed, 2),
];

/// What payloads mean that do not say it themselves.
const RULES: &str = "csv0: - temp n\ncsv1: - temp n\ncsv2: - temp n\ncsv3: - temp n\n\
                     bare0: temp\nbare1: temp\nbare2: temp\nbare3: temp\nplain0: temp\nquiet0: temp\n\
                     numbered0: n temp\nnumbered1: n temp\nnumbered2: n temp\nlate0: temp\n\
                     gateway0/: temp\ngateway1/: temp\n";

/// Readings of a device each time it has power.
const READINGS: u32 = 3;

/// Times that the power flickers.
const FLICKERS: u32 = 5;

/// Device times of a backlog begin so long before now.
const YESTERDAY_S: u64 = 20 * 3600;

struct Device {
    kind: Kind,
    name: String,
    /// Where it dials from.
    ip: Ipv4Addr,
    /// Readings so far.
    count: u32,
    /// What was acknowledged, by source.
    kept: Vec<(String, String)>,
    temps: Vec<(String, f64)>,
    /// What it had open when its power went, which nobody closes.
    dead: Vec<Box<dyn Any + Send>>,
}

/// Where devices connect.
#[derive(Clone, Copy)]
struct Doors {
    head: SocketAddr,
    plain: SocketAddr,
    quiet: SocketAddr,
    started_s: u64,
}

impl Device {
    /// From its power coming to its power going: it connects, and sends its readings.
    fn live(&mut self, doors: &Doors) {
        match self.kind {
            Kind::Sleeper => (0..READINGS).for_each(|reading| {
                let mut client = self.line(doors.head, &format!("peticion {}", self.name));
                self.reading(doors, |text| assert_recibido(&client.ask(text)));
                // The last time its power goes before it has closed.
                if reading + 1 < READINGS {
                    client.0.get_ref().shutdown(Shutdown::Write).unwrap();
                    assert_eq!(client.0.read_to_end(&mut Vec::new()).unwrap(), 0);
                } else {
                    self.die(client);
                }
            }),
            Kind::Raw => {
                let mut socket = self.dial(doors.head);
                for word in ["peticion".to_owned(), format!("cliente {}", self.name)] {
                    socket.write_all(word.as_bytes()).unwrap();
                    assert_eq!(read_once(&mut socket), "confirmacion");
                }
                for _ in 0..READINGS {
                    self.reading(doors, |text| {
                        socket.write_all(text.as_bytes()).unwrap();
                        assert!(read_once(&mut socket).ends_with("recibido"));
                    });
                }
                self.die(socket);
            }
            Kind::Framed => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let client = runtime.block_on(async {
                    let mut client = Client::builder().head(doors.head.to_string()).name(&self.name).unwrap().build();
                    for _ in 0..READINGS {
                        let text = self.next(doors).swap_remove(0);
                        client.store(text.clone().into()).await.unwrap();
                        self.kept.push((self.name.clone(), text));
                    }
                    client
                });
                // Nobody runs it any more, so it says nothing more.
                self.die((runtime, client));
            }
            Kind::Plain | Kind::Quiet => {
                let quiet = self.kind == Kind::Quiet;
                let socket = self.dial(if quiet { doors.quiet } else { doors.plain });
                let mut client = LineClient(BufReader::new(socket));
                for _ in 0..READINGS {
                    self.reading(doors, |text| {
                        client.0.get_mut().write_all(format!("{text}\r").as_bytes()).unwrap();
                        if !quiet {
                            assert_recibido(&client.read());
                        }
                    });
                }
                self.die(client);
            }
            Kind::Late => {
                let mut socket = self.dial(doors.head);
                socket.write_all(b"peticion").unwrap();
                assert_eq!(read_once(&mut socket), "confirmacion");
                for piece in [" ", &self.name, "\r\n"] {
                    socket.write_all(piece.as_bytes()).unwrap();
                    // The next goes in a packet of its own.
                    std::thread::sleep(Duration::from_millis(10));
                }
                assert_eq!(read_once(&mut socket), "\n");
                self.lines(doors, LineClient(BufReader::new(socket)));
            }
            Kind::Unnamed => {
                let client = self.line(doors.head, "peticion");
                self.lines(doors, client);
            }
            kind => {
                let option = if kind == Kind::Numbered { " numerado" } else { "" };
                let slash = if kind == Kind::Gateway { "/" } else { "" };
                let client = self.line(doors.head, &format!("peticion {}{slash}{option}", self.name));
                self.lines(doors, client);
            }
        }
    }

    /// Sends lines, and half a line when the power goes.
    fn lines(&mut self, doors: &Doors, mut client: LineClient) {
        for _ in 0..READINGS {
            self.reading(doors, |text| assert_recibido(&client.ask(text)));
        }
        client.0.get_mut().write_all(b"temp=9").unwrap();
        self.die(client);
    }

    /// The next reading, as this sends it.
    fn reading(&mut self, doors: &Doors, mut send: impl FnMut(&str)) {
        for text in self.next(doors) {
            send(&text);
            let (source, text) = match (self.kind, text.split_once(' ')) {
                (Kind::Gateway, Some((rest, text))) => (format!("{}/{rest}", self.name), text.to_owned()),
                _ => (self.name.clone(), text),
            };
            self.kept.push((source, format!("mensaje: {text}")));
        }
    }

    /// The messages of the next reading.
    fn next(&mut self, doors: &Doors) -> Vec<String> {
        let n = self.count;
        self.count += 1;
        let temp = 20.0 + f64::from(n) / 4.0;
        let one = match self.kind {
            Kind::Json | Kind::Framed => format!("{{\"DHT\":{{\"id\":\"{}\"}},\"temp\":{temp},\"n\":{n}}}", self.name),
            Kind::Pairs | Kind::Sleeper | Kind::Twice | Kind::Unnamed => format!("temp={temp}C n={n}"),
            Kind::Csv => format!("{};{temp};{n}", self.name),
            Kind::Bare | Kind::Plain | Kind::Quiet | Kind::Late => temp.to_string(),
            Kind::Backlog => format!("temp={temp} n={n} ts={}", doors.started_s - YESTERDAY_S + u64::from(n) * 60),
            Kind::Numbered => format!("{n} {temp}"),
            Kind::Raw => format!("temp: {temp}"),
            Kind::Gateway => {
                let all = (0..3).map(|k| format!("s{k} {temp}")).collect();
                self.temps.extend((0..3).map(|k| (format!("{}/s{k}", self.name), temp)));
                return all;
            }
        };
        let times = if self.kind == Kind::Twice { 2 } else { 1 };
        self.temps.extend(vec![(self.name.clone(), temp); times]);
        vec![one; times]
    }

    fn dial(&self, door: SocketAddr) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((self.ip, 0)).into()).unwrap();
        socket.connect(&door.into()).unwrap();
        let socket = TcpStream::from(socket);
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        socket
    }

    fn line(&self, door: SocketAddr, words: &str) -> LineClient {
        let mut client = LineClient(BufReader::new(self.dial(door)));
        assert_eq!(client.ask(words), "confirmacion", "{}", self.name);
        client
    }

    fn die(&mut self, open: impl Any + Send) {
        self.dead.push(Box::new(open));
    }
}

fn assert_recibido(answer: &str) {
    assert!(answer.ends_with(" , mensaje: recibido"), "{answer}");
}

fn devices() -> Vec<Device> {
    let mut all = Vec::new();
    for (kind, count) in KINDS {
        for k in 0..count {
            let ip = Ipv4Addr::new(127, 0, if kind == Kind::Unnamed { 9 } else { 0 }, k + 1);
            let name = format!("{kind:?}{k}").to_lowercase();
            let (kept, temps, dead) = (Vec::new(), Vec::new(), Vec::new());
            all.push(Device { kind, name, ip, count: 0, kept, temps, dead });
        }
    }
    all
}

fn asked(head: &Head, words: &[&str]) -> String {
    let mut command: Command = acopio();
    command.args(words).args(["--head", &head.at()]);
    let (code, out, err) = ran(command);
    assert_eq!(code, Some(0), "{words:?}: {err}");
    out
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What is kept of each source, in the order of ids.
fn kept(head: &Head) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for message in asked(head, &["read", "--format", "json"]).lines().map(json) {
        let source = message["source"].as_str().unwrap_or("nobody").to_owned();
        all.entry(source).or_default().push(message["text"].as_str().unwrap().to_owned());
    }
    all
}

fn plain_door(head: &Head, name: &str) -> SocketAddr {
    let line = head.process.wait_for(&format!("lines of {name} are taken on "));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn cluster(dir: &Path) -> (Head, Vec<Process>) {
    std::fs::create_dir_all(dir.join("head")).unwrap();
    std::fs::write(dir.join("head/nombres.txt"), "127.0.9.1 unnamed0\n127.0.9.2 unnamed1\n").unwrap();
    // Who has no name of its own leaves ghosts: two of them, each time. And four are confirmed before they say their names.
    let places = (40 + 2 * FLICKERS + 4).to_string();
    let plain = ["--plain", "127.0.0.1:0=plain0,cr", "--plain", "127.0.0.1:0=quiet0,cr,callado"];
    let head = Head::start(dir, &[&["--replicas", "2", "--max-clients", &places], &plain[..]].concat());
    head.process.wait_for("2 names for addresses in ");
    let nodes = (1..=3).map(|k| head.node(dir, k, &["--segment-bytes", "16KiB"])).collect();
    (head, nodes)
}

#[test]
fn forty_devices_of_every_kind_are_told_apart_and_are_back_after_each_flicker_of_their_power() {
    let dir = tempfile::tempdir().unwrap();
    let (head, nodes) = cluster(dir.path());
    let (plain, quiet) = (plain_door(&head, "plain0 cr"), plain_door(&head, "quiet0 callado cr"));
    let started_s = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let doors = Doors { head: head.address, plain, quiet, started_s };
    let mut devices = devices();
    assert_eq!(devices.len(), 40);
    for flicker in 0..=FLICKERS {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            devices.iter_mut().for_each(|device| {
                scope.spawn(|| device.live(&doors));
            });
        });
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?} until all were acknowledged again after flicker {flicker}");
    }
    let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (source, text) in devices.iter().flat_map(|device| device.kept.clone()) {
        wanted.entry(source).or_default().push(text);
    }
    assert_eq!(wanted.len(), 44, "two gateways speak for three each");
    // Who is answered nothing has no other way to know.
    eventually("what the quiet one sent is kept", || (kept(&head)["quiet0"] == wanted["quiet0"]).then_some(()));
    let kept = kept(&head);
    for (source, texts) in &wanted {
        assert_eq!(kept.get(source), Some(texts), "{source}");
    }
    assert_eq!(kept.len(), wanted.len(), "{:?}", kept.keys());
    all_are_here(&head, &wanted);
    every_number_is_found(&head, dir.path(), &devices);
    counters_tell_what_is_missing_and_doubled(&head, &wanted);
    drop((devices, nodes));
    verify_clean(dir.path(), &["data1", "data2", "data3"]);
}

fn all_are_here(head: &Head, wanted: &BTreeMap<String, Vec<String>>) {
    let status = head.status();
    assert_eq!(status["clients"], 40 + 2 * FLICKERS, "of those with a name only the last is here");
    let summary = &status["devices"];
    // Sources behind gateways are not connected themselves.
    assert_eq!((&summary["known"], &summary["here"]), (&44.into(), &38.into()), "{summary}");
    let report = json(&asked(head, &["devices", "--format", "json"]));
    let all = report["devices"].as_array().unwrap();
    let of =
        |name: &str| all.iter().find(|device| device["name"] == name).unwrap_or_else(|| panic!("{name}: {report:#}"));
    for (source, texts) in wanted {
        let device = of(source);
        let last = texts.last().unwrap();
        assert_eq!((&device["records"], &device["today"]), (&texts.len().into(), &texts.len().into()), "{device}");
        assert_eq!(device["last_text"], last.as_str(), "{source}");
        assert_eq!(device["connected"], !source.starts_with("gateway"), "{source}");
        assert!(device["address"].as_str().unwrap().starts_with("127.0."), "{device}");
    }
    assert_eq!(of("gateway0/")["connected"], true);
    assert_eq!(all.len(), 46);
}

fn every_number_is_found(head: &Head, dir: &Path, devices: &[Device]) {
    let rules = dir.join("campos.txt");
    std::fs::write(&rules, RULES).unwrap();
    let rules = rules.to_str().unwrap();
    let rows = |from: &[&str]| {
        let words = [&["read", "--fields", "temp", "--format", "json", "--rules", rules], from].concat();
        asked(head, &words).lines().map(json).collect::<Vec<_>>()
    };
    let mut found: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for row in rows(&[]) {
        found.entry(row["source"].as_str().unwrap().to_owned()).or_default().push(row["temp"].as_f64().unwrap());
    }
    let mut wanted: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (source, temp) in devices.iter().flat_map(|device| device.temps.clone()) {
        wanted.entry(source).or_default().push(temp);
    }
    assert_eq!(found, wanted);
    for (from, sources) in [("json0", 1), ("gateway1/", 3), ("csv0,raw2,quiet0", 3)] {
        let names: BTreeSet<String> =
            rows(&["--from", from]).iter().map(|row| row["source"].as_str().unwrap().to_owned()).collect();
        assert_eq!(names.len(), sources, "{from}: {names:?}");
    }
    let own: Vec<String> =
        rows(&["--from", "backlog0"]).iter().map(|row| row["time"].as_str().unwrap().to_owned()).collect();
    let apart = |pair: &[String]| {
        let time = |text: &str| humantime::parse_rfc3339(text).unwrap();
        time(&pair[1]).duration_since(time(&pair[0])).unwrap().as_secs()
    };
    assert!(own.windows(2).all(|pair| apart(pair) == 60), "a backlog stands at its own times: {own:?}");
    let mean = json(&asked(head, &["devices", "--mean", "temp", "--rules", rules, "--format", "json"]));
    let mean = mean["devices"].as_array().unwrap().iter().find(|device| device["name"] == "csv2").unwrap();
    let temps = &wanted["csv2"];
    let right = temps.iter().sum::<f64>() / temps.len() as f64;
    assert!((mean["mean"]["mean"].as_f64().unwrap() - right).abs() < 1e-9, "{mean}");
    assert_eq!(mean["mean"]["values"], temps.len());
}

fn counters_tell_what_is_missing_and_doubled(head: &Head, wanted: &BTreeMap<String, Vec<String>>) {
    let from: Vec<&str> = wanted.keys().map(String::as_str).filter(|name| counts(name)).collect();
    let report = json(&asked(head, &["check", "--format", "json", "--from", &from.join(",")]));
    let lines = report.as_array().unwrap();
    assert_eq!(lines.len(), from.len());
    for line in lines {
        let name = line["source"].as_str().unwrap();
        let doubled = if name.starts_with("twice") { wanted[name].len() / 2 } else { 0 };
        let numbers = (&line["by"], &line["missing"], &line["doubled"], &line["kept"]);
        assert_eq!(numbers, (&"counter".into(), &0.into(), &doubled.into(), &wanted[name].len().into()), "{line}");
    }
}

/// Whether a device's messages have its own numbers.
fn counts(name: &str) -> bool {
    ["json", "pairs", "sleeper", "twice", "backlog", "numbered", "framed", "unnamed"]
        .iter()
        .any(|kind| name.starts_with(kind))
}
