//! What a flood costs those who behave: their p99 alone, and beside a flood of each kind from another address.
//!
//! The head has the shares that `docs/security.md` recommends for a course. Head, data node and the client that behaves have
//! one core, the flood has another: it comes from another machine, whose processor is its own. It leaves a part of that core
//! idle: a virtual machine that uses all of both is stopped for some milliseconds ten times a second, whoever is flooded. Pairs
//! in turn, each on a cluster of its own, so that what the machine does meanwhile hits both.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use acopio::wire::filter::SourceFilter;
use acopio::wire::frame::{Frame, NodeReport, SyncMode};
use acopio::wire::id::RecordId;
use acopio::wire::ledger::NodeId;
use acopio::wire::proof::{Holder, KeyHint, Knock, Nonce, Proof};
use anyhow::{Context as _, Result, bail};
use bytes::{Bytes, BytesMut};

use crate::contender::{Running, free_address, wait_for, wait_until};
use crate::median;

/// What a head of a course is started with.
const COURSE: [&str; 10] = [
    "--share-messages",
    "1000",
    "--share-bytes",
    "1MB",
    "--share-reads",
    "4MB",
    "--share-connections",
    "32",
    "--max-per-address",
    "32",
];

/// What the client that behaves sends a second.
const RATE: &str = "500";

/// Messages that lie there for readers.
const STORED: usize = 400_000;

/// Threads of a flood; each has as many connections open as it takes.
const THREADS: usize = 8;

/// What a flood uses of its core at most.
const SHARE_OF_CORE: f64 = 0.7;

/// Where a flood comes from.
const FROM: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 7);

/// How long a connection of a flood waits for an answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// The kinds of floods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flood {
    Messages,
    Bytes,
    Connections,
    Tokens,
    Keys,
    Tls,
    Readers,
    SlowReaders,
    Garbage,
}

pub(crate) const ALL: [Flood; 9] = [
    Flood::Messages,
    Flood::Bytes,
    Flood::Connections,
    Flood::Tokens,
    Flood::Keys,
    Flood::Tls,
    Flood::Readers,
    Flood::SlowReaders,
    Flood::Garbage,
];

impl Flood {
    /// For the table, and the word by which its process is started.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages above its share",
            Self::Bytes => "bytes above its share",
            Self::Connections => "connections opened and closed",
            Self::Tokens => "wrong tokens",
            Self::Keys => "wrong keys",
            Self::Tls => "handshakes of TLS",
            Self::Readers => "readers of everything",
            Self::SlowReaders => "readers that do not read",
            Self::Garbage => "garbage",
        }
    }
}

/// The rows of all floods whose names hold this: the p99 of who behaves, alone and beside it, as medians of the rounds.
pub(crate) fn measure(case: &str, rounds: usize, run_for: Duration, dir: &Path) -> Result<()> {
    for flood in ALL {
        let name = format!("floods: {}", flood.name());
        if !name.contains(case) {
            continue;
        }
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            eprintln!("round {} of {rounds}: {name}", round + 1);
            // Anew each time: what a flood has used of its share would keep the next from being one.
            let course = Course::start(dir, matches!(flood, Flood::Readers | Flood::SlowReaders))?;
            let turns = if round % 2 == 0 { [None, Some(flood)] } else { [Some(flood), None] };
            for turn in turns {
                let p99 = course.p99(turn, run_for)?;
                if turn.is_some() { beside.push(p99) } else { alone.push(p99) }
            }
        }
        let ratios: Vec<f64> = beside.iter().zip(&alone).map(|(beside, alone)| beside / alone).collect();
        eprintln!("{name}: {ratios:.2?}");
        let (alone, beside, ratio) = (median(alone), median(beside), median(ratios));
        println!("| {name} | p99 alone {alone:.0} us | beside {beside:.0} us | {ratio:.2} |");
    }
    Ok(())
}

/// A cluster as a course has it.
pub(crate) struct Course {
    head: SocketAddr,
    dir: tempfile::TempDir,
    _running: Running,
}

impl Course {
    pub(crate) fn start(dir: &Path, fill: bool) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("acopio-peers-").tempdir_in(dir)?;
        let path = |name: &str| dir.path().join(name);
        ran(acopio().args(["key", "new"]).arg(path("cluster.key")))?;
        ran(acopio().args(["cert", "--name", "head", "--host", "127.0.0.1", "--dir"]).arg(path("ca")))?;
        for name in ["good", "flood"] {
            let mut command = acopio();
            let secret =
                ran(command.args(["token", "new", "--role", "write,read", name, "--tokens"]).arg(path("tokens")))?;
            std::fs::write(path(name), secret)?;
            ran(Command::new("chmod").arg("600").arg(path(name)))?;
        }
        let head = free_address()?;
        if fill {
            let _running = launch(head, dir.path(), &[])?;
            let lines: String = (0..STORED).map(|n| format!("{n:0100}\n")).collect();
            std::fs::write(path("lines"), lines)?;
            let mut send = acopio();
            send.args(["send", "-q", "--head", &head.to_string(), "--file"]).arg(path("lines"));
            ran(send.arg("--token-file").arg(path("good")))?;
        }
        let running = launch(head, dir.path(), &COURSE)?;
        Ok(Self { head, dir, _running: running })
    }

    fn token(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The p99 of the client that behaves, us, beside a flood if there is to be one.
    pub(crate) fn p99(&self, flood: Option<Flood>, run_for: Duration) -> Result<f64> {
        let flood = flood.map(|flood| self.flood(flood)).transpose()?;
        let mut bench = pinned("0");
        bench.args(["bench", "--format", "json", "--no-check", "--head", &self.head.to_string(), "--rate", RATE]);
        bench
            .args(["--clients", "4", "--in-flight", "8", "--warm-up", "500ms", "--token-file"])
            .arg(self.token("good"));
        let report = ran(bench.args(["--for", &format!("{}ms", run_for.as_millis())]))?;
        if let Some(mut flood) = flood {
            if let Some(ended) = flood.0.try_wait()? {
                bail!("the flood ended before its time: {ended}");
            }
            flood.tell()?;
        }
        let report: serde_json::Value = serde_json::from_str(&report)?;
        report["latency_us"]["p99"].as_f64().context("a report without its figures")
    }

    fn flood(&self, flood: Flood) -> Result<Flooding> {
        let mut command = Command::new("taskset");
        command.args(["-c", "1"]).arg(std::env::current_exe()?).args(["flood", flood.name(), &self.head.to_string()]);
        command.arg(std::fs::read_to_string(self.token("flood"))?.trim());
        Ok(Flooding(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?))
    }
}

/// Starts a head with these words and its data node.
fn launch(head: SocketAddr, dir: &Path, words: &[&str]) -> Result<Running> {
    let (at, mut running) = (head.to_string(), Running(Vec::new()));
    let path = |name: &str| dir.join(name);
    let mut command = pinned("0");
    command.args(["head", "--clients", "token", "--listen", &at]).args(words).arg("--tokens").arg(path("tokens"));
    command.arg("--tls-cert").arg(path("ca/head.crt")).arg("--key").arg(path("cluster.key"));
    running.start(command.arg("--logs").arg(path("head")), dir)?;
    wait_for(head, &mut running)?;
    let mut command = pinned("0");
    command.args(["data", "--name", "data1", "--head", &at, "--key"]).arg(path("cluster.key"));
    running.start(command.arg("--dir").arg(path("data1")), dir)?;
    let is_ready =
        || acopio().args(["health", "--ask", &at, "--node", "data1", "--token-file"]).arg(path("good")).output();
    wait_until(|| is_ready().is_ok_and(|output| output.status.success()))?;
    Ok(running)
}

/// A flood that goes on until it is dropped.
struct Flooding(Child);

impl Flooding {
    /// Ends it, and says what it did.
    fn tell(&mut self) -> Result<()> {
        drop(self.0.stdin.take());
        let mut told = String::new();
        self.0.stdout.take().context("its output is piped")?.read_to_string(&mut told)?;
        eprintln!("  {}", told.trim());
        Ok(())
    }
}

impl Drop for Flooding {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn acopio() -> Command {
    Command::new(env!("CARGO_BIN_EXE_acopio"))
}

fn pinned(core: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", core, env!("CARGO_BIN_EXE_acopio")]);
    command
}

fn ran(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

// ---- the process of a flood ----------------------------------------------------------------------

/// `flood KIND ADDRESS TOKEN`: goes on until standard input ends, and says how often it tried.
pub(crate) fn run(words: &[String]) -> Result<()> {
    let [kind, head, token] = words else { bail!("flood KIND ADDRESS TOKEN") };
    let flood = ALL.into_iter().find(|flood| flood.name() == kind).context("no such flood")?;
    let (head, token): (SocketAddr, String) = (head.parse()?, token.clone());
    let hello = client_hello(head)?;
    let done = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let begun = Instant::now();
    for _ in 0..THREADS {
        let (done, token, hello) = (std::sync::Arc::clone(&done), token.clone(), hello.clone());
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            loop {
                rest(begun);
                // What is refused is tried again: that is what a flood does.
                let _refused = once(flood, head, &token, &hello, &mut kept, begun);
                done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        });
    }
    std::io::stdin().read_to_end(&mut Vec::new())?;
    let done = done.load(std::sync::atomic::Ordering::Relaxed) as f64;
    println!("{kind}: {:.0} a second", done / begun.elapsed().as_secs_f64());
    Ok(())
}

/// Waits until the flood has used no more than its share of the core.
fn rest(begun: Instant) {
    loop {
        let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let used = Duration::try_from(used).unwrap_or_default();
        if used <= begun.elapsed().mul_f64(SHARE_OF_CORE) {
            return;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// One go of a flood that began then.
fn once(
    flood: Flood,
    head: SocketAddr,
    token: &str,
    hello: &[u8],
    kept: &mut Vec<TcpStream>,
    begun: Instant,
) -> Result<()> {
    let mut chunk = vec![0; 64 * 1024];
    let opened = format!("peticion flood token={token}\n");
    match flood {
        Flood::Connections => drop(connect(head)?),
        Flood::Tokens => {
            let mut socket = connect(head)?;
            socket.write_all(b"peticion flood token=00000000000000000000000000000000\n")?;
            drain(&mut socket, &mut chunk)?;
        }
        Flood::Garbage => {
            let mut socket = connect(head)?;
            socket.write_all(
                &chunk
                    .iter()
                    .zip(0_u32..)
                    .map(|(_, k)| (k.wrapping_mul(2_654_435_761) >> 13) as u8)
                    .collect::<Vec<_>>(),
            )?;
            drain(&mut socket, &mut chunk)?;
        }
        Flood::Tls => {
            // The same words again and again cost it nothing, and the head a signature each time.
            let mut socket = connect(head)?;
            socket.write_all(hello)?;
            if socket.read(&mut chunk)? == 0 {
                bail!("it was closed");
            }
        }
        Flood::Keys => {
            let mut socket = connect(head)?;
            socket.write_all(&knocks())?;
            drain(&mut socket, &mut chunk)?;
        }
        Flood::Messages => {
            let mut socket = connect(head)?;
            socket.write_all(opened.as_bytes())?;
            let lines = b"x\n".repeat(8 * 1024);
            converse(socket, &lines, begun)?;
        }
        Flood::Bytes => {
            let mut socket = connect(head)?;
            socket.write_all(opened.as_bytes())?;
            let line = [&vec![b'x'; 60_000][..], b"\n"].concat();
            converse(socket, &line, begun)?;
        }
        Flood::Readers => {
            let mut socket = asked(head, token)?;
            drain(&mut socket, &mut chunk)?;
        }
        Flood::SlowReaders => match asked(head, token) {
            Ok(mut socket) if kept.len() < 8 => {
                socket.read_exact(&mut chunk[..64])?;
                kept.push(socket);
            }
            _ => std::thread::sleep(Duration::from_millis(1)),
        },
    }
    Ok(())
}

fn connect(head: SocketAddr) -> Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    // A port that was used a moment ago does as well: there are not so many.
    socket.set_reuse_address(true)?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.bind(&SocketAddr::from((FROM, 0)).into())?;
    socket.connect(&head.into())?;
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    Ok(socket)
}

/// Reads until the head closes, or says nothing for long.
fn drain(socket: &mut TcpStream, chunk: &mut [u8]) -> Result<()> {
    while socket.read(chunk)? > 0 {}
    Ok(())
}

/// Says this for ever, and reads what is answered.
fn converse(mut socket: TcpStream, said: &[u8], begun: Instant) -> Result<()> {
    let mut reads = socket.try_clone()?;
    reads.set_read_timeout(None)?;
    std::thread::spawn(move || drain(&mut reads, &mut vec![0; 64 * 1024]));
    loop {
        rest(begun);
        socket.write_all(said)?;
    }
}

/// A reader that has asked for all there is.
fn asked(head: SocketAddr, token: &str) -> Result<TcpStream> {
    let mut socket = connect(head)?;
    socket.write_all(format!("peticion acopio/2\ncliente token={token}\n").as_bytes())?;
    let asks = Frame::Read {
        from: RecordId::ZERO,
        until: RecordId::MAX,
        client: None,
        sources: SourceFilter::default(),
        follow: false,
        partial: false,
        token: Bytes::new(),
    };
    socket.write_all(&encoded(&[asks])?)?;
    Ok(socket)
}

/// Who wants to be a data node, and has not the key.
fn knocks() -> Vec<u8> {
    let report =
        NodeReport { writable: true, records: 0, bytes: 0, syncs: 0, written: 0, free: None, reason: String::new() };
    let knock = Frame::Knock(Knock { holder: Holder::Node, hint: KeyHint([0; 8]), nonce: Nonce([5; 32]) });
    let register = Frame::Register {
        node: NodeId(7),
        replaces: None,
        old: false,
        name: "flood".to_owned(),
        cluster: "acopio".to_owned(),
        sync: SyncMode::Always,
        report,
    };
    let frames = encoded(&[knock, register, Frame::Proof(Proof([0; 32]))]).unwrap_or_default();
    [b"peticion acopio/2\ndataNode\n", &frames[..]].concat()
}

fn encoded(frames: &[Frame]) -> Result<BytesMut> {
    let mut out = BytesMut::new();
    for frame in frames {
        frame.encode(&mut out)?;
    }
    Ok(out)
}

/// What a client of TLS says first.
fn client_hello(head: SocketAddr) -> Result<Vec<u8>> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::from(head.ip());
    let mut connection = rustls::ClientConnection::new(std::sync::Arc::new(config), name)?;
    let mut hello = Vec::new();
    connection.write_tls(&mut hello)?;
    Ok(hello)
}
