//! What it costs a cluster to be watched: the same load with and without open event streams, and with and without scrapes of
//! the numbers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use crate::contender::{Running, free_address, wait_for, wait_until};
use crate::load::Shape;
use crate::median;

/// Streams that are open.
const STREAMS: usize = 1000;

/// What the thread that reads all streams adds to its niceness.
const READERS_NICE: i32 = 10;

/// Time between two scrapes.
const SCRAPE_EVERY: Duration = Duration::from_secs(1);

/// Cases: a name, who looks, and how many messages a second come, if not as many as fit.
const CASES: [(&str, &[Watcher], Option<f64>); 3] = [
    ("watched: scrapes", &[Watcher::None, Watcher::Scrapes], None),
    ("watched: streams", &[Watcher::None, Watcher::Web, Watcher::Streams, Watcher::StreamsOfOne], None),
    (
        "watched: streams, 1000 messages/s",
        &[Watcher::None, Watcher::Web, Watcher::Streams, Watcher::StreamsOfOne],
        Some(1000.0),
    ),
];

/// The columns.
const HEADER: &str = "\
| case | who | messages/s | p50 | p99 | head a message | data node a message | rate of the first (95 %) | CPU of the first (95 %) |
|---|---|---|---|---|---|---|---|---|";

/// What a load came to.
#[derive(Clone, Copy, Debug)]
struct Seen {
    messages_per_s: f64,
    /// Microseconds.
    p50: f64,
    p99: f64,
    /// Processor time of the head and of the data node, microseconds a message.
    cpu: [f64; 2],
}

/// Measures the cases whose name holds `wanted`. Who looks takes turns, in one order and then in the other.
pub(crate) fn measure(wanted: &str, rounds: usize, shape: Shape, dir: &Path) -> Result<()> {
    for (name, watchers, rate) in CASES.into_iter().filter(|(name, ..)| name.contains(wanted)) {
        let mut all: Vec<Vec<Seen>> = vec![Vec::new(); watchers.len()];
        for round in 0..rounds {
            let mut turns: Vec<usize> = (0..watchers.len()).collect();
            if round % 2 == 1 {
                turns.reverse();
            }
            // A scrape leaves nothing behind, so both have one cluster. Who follows is behind for a while after a load.
            let shared =
                if watchers.iter().any(|watcher| watcher.has_web()) { None } else { Some(Watched::start(dir, false)?) };
            for turn in turns {
                eprintln!("round {} of {rounds}: {name}: {}", round + 1, watchers[turn].name());
                let own = if shared.is_some() { None } else { Some(Watched::start(dir, watchers[turn].has_web())?) };
                let watched = shared.as_ref().or(own.as_ref()).context("there is no cluster")?;
                all[turn].push(watched.measure(watchers[turn], shape, rate)?);
            }
        }
        println!("{HEADER}");
        for (watcher, seen) in watchers.iter().zip(&all) {
            println!("| {name} | {} | {} |", watcher.name(), row(seen, &all[0]));
        }
    }
    Ok(())
}

/// What 1000 streams leave of the rate at full load: the median of some rounds.
pub(crate) fn left_by_streams(rounds: usize, shape: Shape, dir: &Path) -> Result<f64> {
    let rate = |watcher: Watcher| -> Result<f64> {
        Ok(Watched::start(dir, watcher.has_web())?.measure(watcher, shape, None)?.messages_per_s)
    };
    let ratios: Result<Vec<f64>> =
        (0..rounds).map(|_| Ok(1.0 / rate(Watcher::None)? * rate(Watcher::Streams)?)).collect();
    Ok(median(ratios?))
}

fn row(seen: &[Seen], first: &[Seen]) -> String {
    let of = |value: fn(&Seen) -> f64| median(seen.iter().map(value).collect());
    // The ratio of each round first: two turns of one round had the same machine.
    let ratios = |value: fn(&Seen) -> f64| {
        let ratios: Vec<f64> = seen.iter().zip(first).map(|(this, first)| value(this) / value(first)).collect();
        let (low, high) = interval(&ratios);
        format!("{:.3} ({low:.3} to {high:.3})", median(ratios))
    };
    let (rate, cpu) = (ratios(|seen| seen.messages_per_s), ratios(|seen| seen.cpu.iter().sum()));
    let [head, data] = [of(|seen| seen.cpu[0]), of(|seen| seen.cpu[1])];
    let (messages, p50, p99) = (of(|seen| seen.messages_per_s), of(|seen| seen.p50), of(|seen| seen.p99));
    format!("{messages:.0} | {p50:.0} us | {p99:.0} us | {head:.3} us | {data:.3} us | {rate} | {cpu}")
}

/// Where the median lies of which these are a sample, in 95 of 100 cases: by ranks, whatever the distribution is.
fn interval(values: &[f64]) -> (f64, f64) {
    let mut values = values.to_owned();
    values.sort_by(f64::total_cmp);
    let n = values.len() as f64;
    let low = (n / 2.0 - 0.98 * n.sqrt()).floor().max(0.0) as usize;
    (values[low], values[values.len() - 1 - low])
}

/// Processor time of all threads of a process, microseconds.
fn cpu_us(pid: u32) -> Result<f64> {
    let mut ns = 0_u64;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may have ended meanwhile.
        let text = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        ns += text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or_default();
    }
    Ok(ns as f64 / 1e3)
}

/// Who looks on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watcher {
    /// Nobody.
    None,
    /// `acopio web`, which follows all that comes, and nobody at its page.
    Web,
    /// The same, and event streams of all sources.
    Streams,
    /// The same, and event streams of a source that says nothing.
    StreamsOfOne,
    /// A scrape a second of head and data node.
    Scrapes,
}

impl Watcher {
    /// Whether there is `acopio web`.
    const fn has_web(self) -> bool {
        !matches!(self, Self::None | Self::Scrapes)
    }

    /// For the table.
    fn name(self) -> String {
        match self {
            Self::None => "nobody looks".to_owned(),
            Self::Web => "acopio web".to_owned(),
            Self::Streams => format!("acopio web, {STREAMS} streams"),
            Self::StreamsOfOne => format!("acopio web, {STREAMS} streams of a silent source"),
            Self::Scrapes => "a scrape a second of head and data node".to_owned(),
        }
    }
}

/// A cluster that is looked at.
struct Watched {
    head: SocketAddr,
    web: SocketAddr,
    doors: Vec<SocketAddr>,
    running: Running,
    dir: tempfile::TempDir,
}

impl Watched {
    /// Starts a head, a data node that syncs always, and the web role if there is to be one.
    fn start(dir: &Path, with_web: bool) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("acopio-peers-").tempdir_in(dir)?;
        let [head, web, head_door, data_door] = [free_address()?, free_address()?, free_address()?, free_address()?];
        let running = Running(Vec::new());
        let mut watched = Self { head, web, doors: vec![head_door, data_door], running, dir };
        watched.start_cluster(&mut acopio(), &mut acopio())?;
        if with_web {
            watched.start_web()?;
        }
        Ok(watched)
    }

    fn start_cluster(&mut self, head: &mut Command, data: &mut Command) -> Result<()> {
        let (at, dir) = (self.head.to_string(), self.dir.path().to_owned());
        let [head_door, data_door] = [0, 1].map(|place| self.doors[place].to_string());
        head.args(["head", "--listen", &at, "--max-clients", "500", "--http", &head_door, "--logs"]);
        self.running.start(head.arg(dir.join("head")), &dir)?;
        wait_for(self.head, &mut self.running)?;
        data.args(["data", "--head", &at, "--name", "data1", "--http", &data_door, "--keep-bytes", "4GB", "--dir"]);
        self.running.start(data.arg(dir.join("data1")), &dir)?;
        let is_ready = || acopio().args(["health", "--ask", &at, "--node", "data1"]).output();
        wait_until(|| is_ready().is_ok_and(|output| output.status.success()))
    }

    fn start_web(&mut self) -> Result<()> {
        let (at, listen, dir) = (self.head.to_string(), self.web.to_string(), self.dir.path().to_owned());
        let mut web = acopio();
        web.args(["web", "--head", &at, "--listen", &listen, "--logs"]).arg(dir.join("web"));
        self.running.start(&mut web, &dir)?;
        wait_for(self.web, &mut self.running)?;
        wait_until(|| get(self.web, "/readyz").is_ok_and(|answer| answer.contains(" 200 ")))
    }

    /// The load while somebody looks on.
    fn measure(&self, watcher: Watcher, shape: Shape, rate: Option<f64>) -> Result<Seen> {
        let looks = match watcher {
            Watcher::None | Watcher::Web => None,
            Watcher::Streams => Some(Looks::streams(self.web, "/api/v1/live")?),
            Watcher::StreamsOfOne => Some(Looks::streams(self.web, "/api/v1/live?source=nobody")?),
            Watcher::Scrapes => Some(Looks::scrapes(self.doors.clone())),
        };
        let seen = self.load(shape, rate)?;
        if let Some(looks) = looks {
            let bytes = looks.end()?;
            if bytes == 0 {
                bail!("{}: nothing was seen", watcher.name());
            }
            eprintln!("  {}: {bytes} bytes were read", watcher.name());
        }
        Ok(seen)
    }

    fn load(&self, shape: Shape, rate: Option<f64>) -> Result<Seen> {
        let time = |time: Duration| format!("{}ms", time.as_millis());
        let mut command = acopio();
        command.args(["bench", "--format", "json", "--no-check", "--head", &self.head.to_string()]);
        command.args(["--clients", &shape.clients.to_string(), "--in-flight", &shape.in_flight.to_string()]);
        command.args(["--size", &shape.size.to_string(), "--for", &time(shape.run_for)]);
        command.args(["--warm-up", &time(shape.warm_up)]);
        if let Some(rate) = rate {
            command.args(["--rate", &rate.to_string()]);
        }
        let used = || -> Result<Vec<f64>> { self.running.0.iter().take(2).map(|child| cpu_us(child.id())).collect() };
        let before = used()?;
        let output = command.output().context("cannot start acopio")?;
        let after = used()?;
        if !output.status.success() {
            bail!("acopio bench: {}", String::from_utf8_lossy(&output.stderr));
        }
        let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let number = |value: &serde_json::Value| value.as_f64().context("a report without its figures");
        let messages = number(&report["acknowledged"])?;
        let [p50, p99] = ["p50", "p99"].map(|name| number(&report["latency_us"][name]));
        let cpu = [0, 1].map(|who| (after[who] - before[who]) / messages);
        Ok(Seen { messages_per_s: number(&report["messages_per_s"])?, p50: p50?, p99: p99?, cpu })
    }
}

fn acopio() -> Command {
    Command::new(env!("CARGO_BIN_EXE_acopio"))
}

/// The whole answer.
fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(socket, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Those who look on, on a thread of their own, until they are told to end.
struct Looks {
    ends: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
    thread: JoinHandle<Result<()>>,
}

impl Looks {
    fn on_a_thread(work: impl FnOnce(&AtomicBool, &AtomicU64) -> Result<()> + Send + 'static) -> Self {
        let (ends, bytes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (its_ends, its_bytes) = (Arc::clone(&ends), Arc::clone(&bytes));
        Self { ends, bytes, thread: std::thread::spawn(move || work(&its_ends, &its_bytes)) }
    }

    /// What they read meanwhile, bytes.
    fn end(self) -> Result<u64> {
        self.ends.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(ended) => ended.map(|()| self.bytes.load(Ordering::Relaxed)),
            Err(_) => bail!("those who look on have stopped"),
        }
    }

    fn scrapes(doors: Vec<SocketAddr>) -> Self {
        Self::on_a_thread(move |ends, bytes| {
            let mut next = Instant::now();
            while !ends.load(Ordering::Relaxed) {
                if next <= Instant::now() {
                    for door in &doors {
                        bytes.fetch_add(get(*door, "/metrics")?.len() as u64, Ordering::Relaxed);
                    }
                    next += SCRAPE_EVERY;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(())
        })
    }

    /// Streams of this path; all of them are open when it returns.
    fn streams(web: SocketAddr, path: &'static str) -> Result<Self> {
        let looks = Self::on_a_thread(move |ends, bytes| {
            // They stand for people at other machines: what they do here is not to count as the cluster's.
            rustix::process::nice(READERS_NICE)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut streams = JoinSet::new();
                for _ in 0..STREAMS {
                    let mut socket = tokio::net::TcpStream::connect(web).await?;
                    socket.write_all(format!("GET {path} HTTP/1.1\r\nHost: {web}\r\n\r\n").as_bytes()).await?;
                    streams.spawn(drain(socket));
                    tokio::task::yield_now().await;
                }
                while !ends.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    if let Some(Ok(Err(error))) = streams.try_join_next() {
                        return Err(error).context("a stream broke");
                    }
                }
                bytes.fetch_add(READ.swap(0, Ordering::Relaxed), Ordering::Relaxed);
                Ok(())
            })
        });
        let is_open = format!("acopio_web_streams {STREAMS}.0");
        wait_until(|| get(web, "/metrics").is_ok_and(|text| text.contains(&is_open)))?;
        Ok(looks)
    }
}

/// What all streams read.
static READ: AtomicU64 = AtomicU64::new(0);

async fn drain(mut socket: tokio::net::TcpStream) -> Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = socket.read(&mut buffer).await?;
        if read == 0 {
            bail!("it was closed");
        }
        READ.fetch_add(read as u64, Ordering::Relaxed);
    }
}
