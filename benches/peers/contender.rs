//! Who is measured: acopio, the floor, and the peers, each started in a folder of its own for one measurement and ended
//! after it.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::codec::Codec;
use crate::load::{self, Measured, Shape};

/// A contender with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// acopio: dialect, data nodes, copies, `--sync`.
    Acopio { dialect: &'static str, nodes: usize, copies: usize, sync: &'static str },
    /// A solo head, in lines.
    Solo,
    /// acopio with one data node, and the lines of a file sent by this tool.
    Lines(Tool),
    /// The floor: data processes, copies, whether it syncs.
    Floor { nodes: usize, copies: usize, sync: bool },
    /// Redis Streams: `appendfsync`.
    Redis(&'static str),
    /// NATS JetStream as it comes: a file store, synced every two minutes.
    Nats,
    /// beanstalkd with a sync for each message.
    Beanstalkd,
    /// A head of the original's shape: a thread a client, no sync.
    Original,
}

/// Who sends a file line by line over one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    /// `acopio send --file`.
    Send,
    /// `nc`, which knows nothing of acopio: the line dialect.
    Nc,
}

impl Contender {
    /// For the table.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Acopio { dialect, nodes, copies, sync } => {
                format!("acopio, {dialect}, {}, {}--sync {sync}", nodes_text(nodes), copies_text(copies))
            }
            Self::Solo => "acopio head --solo, lines, --sync always".to_owned(),
            Self::Lines(Tool::Send) => "acopio send --file, --sync always".to_owned(),
            Self::Lines(Tool::Nc) => "acopio, nc -N < file, --sync always".to_owned(),
            Self::Floor { nodes, copies, sync } => {
                let sync = if sync { "fdatasync" } else { "no sync" };
                format!("floor, {}, {}{sync}", nodes_text(nodes), copies_text(copies))
            }
            Self::Redis(policy) => format!("Redis Streams, appendfsync {policy}"),
            Self::Nats => "NATS JetStream, synced every 2 min".to_owned(),
            Self::Beanstalkd => "beanstalkd, a sync each".to_owned(),
            Self::Original => "a thread a client (Python), no sync".to_owned(),
        }
    }

    /// Starts it, loads it, ends it.
    pub(crate) async fn measure(self, dir: &Path, shape: Shape) -> Result<Measured> {
        calm(dir)?;
        if let Self::Acopio { dialect, nodes, copies, sync } = self {
            return acopio(dir, shape, dialect, (nodes, copies), sync);
        }
        if let Self::Lines(tool) = self {
            return lines(dir, shape, tool);
        }
        let (mut running, address) = self.start(dir, shape)?;
        let codec: fn(usize) -> Codec = match self {
            Self::Floor { .. } | Self::Acopio { .. } | Self::Lines(_) => |_| Codec::Floor,
            Self::Solo => |_| Codec::Line,
            Self::Redis(_) => |_| Codec::Redis,
            Self::Nats => Codec::Nats,
            Self::Beanstalkd => |_| Codec::Beanstalkd,
            Self::Original => |_| Codec::Raw,
        };
        wait_for(address, &mut running)?;
        if self == Self::Nats {
            create_stream(address)?;
        }
        let measured = load::run(address, codec, shape).await;
        drop(running);
        measured.with_context(|| format!("{} did not bear the load", self.name()))
    }

    fn start(self, dir: &Path, shape: Shape) -> Result<(Running, SocketAddr)> {
        let mut running = Running(Vec::new());
        let address = free_address()?;
        let port = address.port().to_string();
        match self {
            Self::Acopio { .. } | Self::Lines(_) => bail!("acopio starts its own cluster"),
            Self::Floor { nodes, copies, sync } => {
                let mut data = Vec::new();
                let of_us = || Ok::<_, anyhow::Error>(Command::new(std::env::current_exe()?));
                for node in 0..nodes {
                    let address = free_address()?;
                    let mut command = of_us()?;
                    command.args(["floor-data", &address.to_string()]).arg(dir.join(format!("floor{node}")));
                    running.start(command.args([shape.size.to_string(), sync.to_string()]), dir)?;
                    // Whoever asks is taken for the head: it listens once its file is there.
                    wait_until(|| dir.join(format!("floor{node}.ready")).exists())?;
                    data.push(address.to_string());
                }
                let mut command = of_us()?;
                command.args(["floor-head", &address.to_string(), &data.join(",")]);
                running.start(command.args([shape.size.to_string(), copies.to_string()]), dir)?;
            }
            Self::Solo => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_acopio"));
                command.args(["head", "--solo", "--listen", &address.to_string(), "--logs"]).arg(dir.join("logs"));
                running.start(command.arg("--dir").arg(dir.join("solo")), dir)?;
            }
            Self::Redis(policy) => {
                let mut command = Command::new("redis-server");
                command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]);
                command.args(["--maxclients", "10000"]);
                running.start(command.args(["--appendfsync", policy, "--dir"]).arg(dir), dir)?;
            }
            Self::Nats => {
                let mut command = Command::new("nats-server");
                running.start(command.args(["-js", "-a", "127.0.0.1", "-p", &port, "-sd"]).arg(dir), dir)?;
            }
            Self::Beanstalkd => {
                let mut command = Command::new("beanstalkd");
                running.start(command.args(["-l", "127.0.0.1", "-p", &port, "-f0", "-b"]).arg(dir), dir)?;
            }
            Self::Original => {
                let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/original.py");
                let mut command = Command::new("python3");
                running.start(command.arg(script).arg(&port).arg(dir), dir)?;
            }
        }
        Ok((running, address))
    }
}

fn nodes_text(nodes: usize) -> String {
    if nodes == 1 { "1 data node".to_owned() } else { format!("{nodes} data nodes") }
}

fn copies_text(copies: usize) -> String {
    if copies == 1 { String::new() } else { format!("{copies} copies, ") }
}

fn acopio(dir: &Path, shape: Shape, dialect: &str, (nodes, copies): (usize, usize), sync: &str) -> Result<Measured> {
    let text = |number: usize| number.to_string();
    let time = |time: Duration| format!("{}ms", time.as_millis());
    let mut command = Command::new(env!("CARGO_BIN_EXE_acopio"));
    command.args(["bench", "--format", "json", "--calm-within", "1ms", "--dialect", dialect, "--sync", sync]);
    command.args(["--clients", &text(shape.clients), "--in-flight", &text(shape.in_flight)]);
    command.args(["--nodes", &text(nodes), "--replicas", &text(copies), "--size", &text(shape.size)]);
    command.args(["--for", &time(shape.run_for), "--warm-up", &time(shape.warm_up), "--dir"]).arg(dir.join("acopio"));
    let output = command.output().context("cannot start acopio")?;
    if !output.status.success() {
        bail!("acopio bench: {}", String::from_utf8_lossy(&output.stderr));
    }
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let number = |value: &serde_json::Value| value.as_f64().context("a report without its figures");
    Ok(Measured { messages_per_s: number(&report["messages_per_s"])?, p50: number(&report["latency_us"]["p50"])? })
}

/// A head, a data node, and a file of lines that are all distinct: the time from the start of the tool to its end, when
/// every line was answered.
fn lines(dir: &Path, shape: Shape, tool: Tool) -> Result<Measured> {
    const PER_SECOND: usize = 400_000;
    let count = (shape.run_for.as_secs_f64() * PER_SECOND as f64) as usize;
    let path = dir.join("lines");
    let mut file = BufWriter::new(File::create(&path)?);
    for number in 0..count {
        writeln!(file, "{number:0width$}", width = shape.size)?;
    }
    drop(file);
    let acopio = || Command::new(env!("CARGO_BIN_EXE_acopio"));
    let mut running = Running(Vec::new());
    let head = free_address()?;
    let text = head.to_string();
    running.start(acopio().args(["head", "--listen", &text, "--logs"]).arg(dir.join("head")), dir)?;
    wait_for(head, &mut running)?;
    running.start(acopio().args(["data", "--name", "data1", "--head", &text, "--dir"]).arg(dir.join("data")), dir)?;
    let is_ready = || acopio().args(["health", "--ask", &text, "--node", "data1"]).output();
    wait_until(|| is_ready().is_ok_and(|output| output.status.success()))?;
    let start = Instant::now();
    let output = match tool {
        Tool::Send => acopio().args(["send", "-q", "--head", &text, "--file"]).arg(&path).output()?,
        Tool::Nc => {
            let mut command = Command::new("sh");
            let script =
                format!("(echo peticion; cat '{}') | nc.openbsd -N {} {}", path.display(), head.ip(), head.port());
            command.args(["-c", &script]).output()?
        }
    };
    let elapsed = start.elapsed().as_secs_f64();
    let answers = output.stdout.split(|b| *b == b'\n').filter(|line| line.ends_with(b"mensaje: recibido")).count();
    if !output.status.success() || (tool == Tool::Nc && answers != count) {
        bail!("{answers} of {count} lines were answered: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(Measured { messages_per_s: count as f64 / elapsed, p50: f64::NAN })
}

/// Processes that are killed when they are not needed any more.
pub(crate) struct Running(pub(crate) Vec<Child>);

impl Running {
    pub(crate) fn start(&mut self, command: &mut Command, dir: &Path) -> Result<()> {
        let log = File::create(dir.join(format!("log{}", self.0.len())))?;
        let what = format!("{:?}", command.get_program());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.0.push(command.spawn().with_context(|| format!("cannot start {what}; run benches/peers/run"))?);
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

pub(crate) fn wait_until(mut done: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        if Instant::now() > deadline {
            bail!("a process is not ready within 20 s; its log is in its folder");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

pub(crate) fn wait_for(address: SocketAddr, running: &mut Running) -> Result<()> {
    wait_until(|| {
        TcpStream::connect(address).is_ok()
            || running.0.iter_mut().any(|child| child.try_wait().is_ok_and(|end| end.is_some()))
    })?;
    TcpStream::connect(address).map(drop).context("it ended instead of listening; its log is in its folder")
}

/// One stream on disk for what is published under `bench`.
fn create_stream(address: SocketAddr) -> Result<()> {
    use std::io::Read as _;
    let config = "{\"name\":\"BENCH\",\"subjects\":[\"bench\"],\"storage\":\"file\",\"retention\":\"limits\"}";
    let subject = "$JS.API.STREAM.CREATE.BENCH";
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let length = config.len();
    write!(
        stream,
        "CONNECT {{\"verbose\":false}}\r\nSUB _INBOX.c 1\r\nPUB {subject} _INBOX.c {length}\r\n{config}\r\n"
    )?;
    let (mut said, mut chunk) = (String::new(), [0; 4096]);
    while !said.contains("\"created\"") {
        let n = stream.read(&mut chunk).with_context(|| format!("no stream was created: {said}"))?;
        if n == 0 || said.contains("\"error\"") {
            bail!("no stream was created: {said}");
        }
        said.push_str(&String::from_utf8_lossy(&chunk[..n]));
    }
    Ok(())
}

/// Waits until small syncs are quick again: after heavy writing a disk stalls for seconds.
fn calm(dir: &Path) -> Result<()> {
    let path: PathBuf = dir.join("calm");
    let mut file = File::create(&path)?;
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut quick = 0;
    while quick < 5 && Instant::now() < deadline {
        let start = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        quick = if start.elapsed() < Duration::from_millis(10) { quick + 1 } else { 0 };
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(std::fs::remove_file(path)?)
}
