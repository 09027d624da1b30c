//! What it costs a cluster to be watched: the same load with and without open event streams, and with and without scrapes of
//! the numbers; and how fast the page opens on a day of data.
//!
//! Everybody has a turn in each round, on a cluster of its own: who follows is behind for a while after a load.

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
use crate::load::{Measured, Shape};

/// Streams that are open.
const STREAMS: usize = 1000;

/// Time between two scrapes.
const SCRAPE_EVERY: Duration = Duration::from_secs(1);

/// Cases: a name, who looks, and how many messages a second come, if not as many as fit.
pub(crate) const CASES: [(&str, &[Watcher], Option<f64>); 3] = [
    ("watched: scrapes", &[Watcher::None, Watcher::Scrapes], None),
    ("watched: streams", &[Watcher::Web, Watcher::Streams, Watcher::StreamsOfOne, Watcher::None], None),
    ("watched: streams, 1000 messages/s", &[Watcher::Web, Watcher::Streams, Watcher::StreamsOfOne], Some(1000.0)),
];

/// Who looks on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watcher {
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
    pub(crate) const fn has_web(self) -> bool {
        !matches!(self, Self::None | Self::Scrapes)
    }

    /// For the table.
    pub(crate) fn name(self) -> String {
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
pub(crate) struct Watched {
    head: SocketAddr,
    web: SocketAddr,
    doors: Vec<SocketAddr>,
    running: Running,
    dir: tempfile::TempDir,
}

impl Watched {
    /// Starts a head, a data node that syncs always, and the web role if there is to be one.
    pub(crate) fn start(dir: &Path, with_web: bool) -> Result<Self> {
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
    pub(crate) fn measure(&self, watcher: Watcher, shape: Shape, rate: Option<f64>) -> Result<Measured> {
        let looks = match watcher {
            Watcher::None | Watcher::Web => None,
            Watcher::Streams => Some(Looks::streams(self.web, "/api/v1/live")?),
            Watcher::StreamsOfOne => Some(Looks::streams(self.web, "/api/v1/live?source=nobody")?),
            Watcher::Scrapes => Some(Looks::scrapes(self.doors.clone())),
        };
        let measured = self.load(shape, rate)?;
        if let Some(looks) = looks {
            let seen = looks.end()?;
            if seen == 0 {
                bail!("{}: nothing was seen", watcher.name());
            }
            eprintln!("  {}: {seen} bytes were read", watcher.name());
        }
        Ok(measured)
    }

    fn load(&self, shape: Shape, rate: Option<f64>) -> Result<Measured> {
        let time = |time: Duration| format!("{}ms", time.as_millis());
        let mut command = acopio();
        command.args(["bench", "--format", "json", "--no-check", "--head", &self.head.to_string()]);
        command.args(["--clients", &shape.clients.to_string(), "--in-flight", &shape.in_flight.to_string()]);
        command.args(["--size", &shape.size.to_string(), "--for", &time(shape.run_for)]);
        command.args(["--warm-up", &time(shape.warm_up)]);
        if let Some(rate) = rate {
            command.args(["--rate", &rate.to_string()]);
        }
        let output = command.output().context("cannot start acopio")?;
        if !output.status.success() {
            bail!("acopio bench: {}", String::from_utf8_lossy(&output.stderr));
        }
        let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let number = |value: &serde_json::Value| value.as_f64().context("a report without its figures");
        Ok(Measured { messages_per_s: number(&report["messages_per_s"])?, p50: number(&report["latency_us"]["p50"])? })
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
