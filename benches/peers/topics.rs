//! Topics: 100-byte messages through acopio's broker and through libzmq's proxy, with one and four subscribers.
//!
//! The load speaks ZMTP itself, so that it costs both the same and as little as possible: one publisher, each subscriber on
//! a thread of its own. The publisher waits where it is a window ahead of the slowest subscriber, so nothing is dropped, and
//! what is measured is what passes.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Bytes of a message: its topic alone.
const SIZE: usize = 100;

/// A message on the wire: flags, length, body.
const FRAME: usize = SIZE + 2;

/// Messages that the publisher is ahead of the slowest subscriber at most: less than a queue has room for. One of libzmq's for
/// 1000 hears of what was taken from it 500 at a time.
const WINDOW: u64 = 450;

/// Time without any message after which those under way are lost: they were dropped, and would be waited for in vain.
const LOST_AFTER: Duration = Duration::from_millis(50);

/// Messages that are written at a time.
const BATCH: u64 = 150;

/// Who forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forwarder {
    /// `acopio broker`.
    Acopio,
    /// `acopio broker --keep`, into a solo head.
    Keeping,
    /// `zmq.proxy` of pyzmq: libzmq's XSUB and XPUB.
    Libzmq,
}

impl Forwarder {
    /// For the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Acopio => "acopio broker",
            Self::Keeping => "acopio broker --keep '', a solo head",
            Self::Libzmq => "libzmq's proxy (pyzmq)",
        }
    }
}

struct Running(Vec<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Messages a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    /// Those that reach each subscriber.
    pub(crate) forwarded: f64,
    /// Those that are kept.
    pub(crate) kept: f64,
}

/// What passes to each of so many subscribers.
pub(crate) fn measure(forwarder: Forwarder, subscribers: usize, dir: &Path, run_for: Duration) -> Result<Rates> {
    let (mut running, host) = start(forwarder, dir)?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut counts = Vec::new();
    let publishing = Arc::new(OnceLock::new());
    for _ in 0..subscribers {
        let count = Arc::new(AtomicU64::new(0));
        counts.push(Arc::clone(&count));
        let mut socket = open((host, 5556), "SUB")?;
        socket.write_all(&[0, 1, 1])?;
        let publishing = Arc::clone(&publishing);
        std::thread::spawn(move || drop(count_frames(&mut socket, &count, &publishing)));
    }
    let mut publisher = open((host, 5555), "PUB")?;
    // Its subscriptions come before anything is sent.
    let mut subscription = [0; 3];
    publisher.read_exact(&mut subscription)?;
    let (its, ended) = (counts.clone(), Arc::clone(&stop));
    let load = std::thread::spawn(move || publish(&mut publisher, &its, &ended));
    // It sleeps where it has to wait, and leaves the processor to whom it measures.
    drop(publishing.set(load.thread().clone()));
    std::thread::sleep(Duration::from_millis(700));
    let taken = || counts.iter().map(|count| count.load(Ordering::Acquire)).min().unwrap_or_default();
    let (before, since) = (taken(), Instant::now());
    std::thread::sleep(run_for);
    let rate = (taken() - before) as f64 / since.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    drop(load.join());
    if rate < 1.0 {
        bail!("{} forwarded nothing", forwarder.name());
    }
    let share = if forwarder == Forwarder::Keeping { share_kept(&mut running, dir)? } else { 0.0 };
    Ok(Rates { forwarded: rate, kept: share * rate })
}

/// Ends the broker in order: it says how many messages were kept. Its queue is short, so what it lost is what the cluster
/// could not take.
fn share_kept(running: &mut Running, dir: &Path) -> Result<f64> {
    let broker = running.0.last_mut().context("no broker runs")?;
    Command::new("kill").arg(broker.id().to_string()).status()?;
    broker.wait()?;
    let said = std::fs::read_to_string(dir.join("broker.txt"))?;
    let (before, after) = said.split_once(" messages were kept, ").context("the broker did not say what is kept")?;
    let kept: f64 = before.rsplit(' ').next().unwrap_or_default().parse()?;
    let lost: f64 = after.split(' ').next().unwrap_or_default().parse()?;
    Ok(kept / (kept + lost))
}

fn start(forwarder: Forwarder, dir: &Path) -> Result<(Running, &'static str)> {
    let host = "127.9.9.1";
    let mut running = Running(Vec::new());
    let said = std::fs::File::create(dir.join("broker.txt"))?;
    let mut run = |command: &mut Command| -> Result<()> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said.try_clone()?);
        running.0.push(child.spawn().with_context(|| format!("cannot start {command:?}"))?);
        Ok(())
    };
    let acopio = || Command::new(env!("CARGO_BIN_EXE_acopio"));
    if forwarder == Forwarder::Libzmq {
        let script = "import sys, zmq\nc = zmq.Context()\nf, b = c.socket(zmq.XSUB), c.socket(zmq.XPUB)\n\
                      f.bind('tcp://%s:5555' % sys.argv[1])\nb.bind('tcp://%s:5556' % sys.argv[1])\nzmq.proxy(f, b)";
        run(Command::new("python3").args(["-c", script, host]))?;
        return Ok((running, host));
    }
    let mut broker = acopio();
    broker.args(["broker", "--role", "primary", "--bind", host, "--logs"]).arg(dir.join("broker"));
    if forwarder == Forwarder::Keeping {
        let head = "127.9.9.1:5000";
        run(acopio().args(["head", "--solo", "--listen", head]).arg("--dir").arg(dir).arg("--logs").arg(dir))?;
        broker.args(["--keep", "", "--head", head, "--keep-queue", "16MiB"]);
    }
    run(&mut broker)?;
    Ok((running, host))
}

/// A connection after ZMTP's handshake without security.
fn open(to: (&str, u16), kind: &str) -> Result<TcpStream> {
    let until = Instant::now() + Duration::from_secs(10);
    let mut socket = loop {
        match TcpStream::connect(to) {
            Ok(socket) => break socket,
            Err(error) if Instant::now() > until => return Err(error).context("nobody forwards"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    socket.set_nodelay(true)?;
    let mut greeting = [0; 64];
    greeting[0] = 0xff;
    greeting[9] = 0x7f;
    greeting[10] = 3;
    greeting[12..16].copy_from_slice(b"NULL");
    socket.write_all(&greeting)?;
    socket.read_exact(&mut greeting)?;
    let mut ready = b"\x04\0\x05READY\x0bSocket-Type\0\0\0\x03".to_vec();
    ready.extend_from_slice(kind.as_bytes());
    ready[1] = u8::try_from(ready.len() - 2)?;
    socket.write_all(&ready)?;
    let mut head = [0; 2];
    socket.read_exact(&mut head)?;
    let mut body = vec![0; usize::from(head[1])];
    socket.read_exact(&mut body)?;
    Ok(socket)
}

fn count_frames(socket: &mut TcpStream, count: &AtomicU64, publishing: &OnceLock<Thread>) -> std::io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    let mut bytes = 0;
    loop {
        match socket.read(&mut buffer)? {
            0 => return Ok(()),
            n => bytes += n as u64,
        }
        count.store(bytes / FRAME as u64, Ordering::Release);
        publishing.get().map(Thread::unpark);
    }
}

fn publish(socket: &mut TcpStream, counts: &[Arc<AtomicU64>], stop: &AtomicBool) -> std::io::Result<()> {
    let mut message = [b'.'; FRAME];
    message[0] = 0;
    message[1] = SIZE as u8;
    let batch = message.repeat(BATCH as usize);
    let (mut sent, mut before, mut since) = (0, 0, Instant::now());
    while !stop.load(Ordering::Relaxed) {
        let taken = counts.iter().map(|count| count.load(Ordering::Acquire)).min().unwrap_or_default();
        if std::mem::replace(&mut before, taken) != taken {
            since = Instant::now();
        }
        if sent + BATCH > taken + WINDOW {
            if since.elapsed() > LOST_AFTER {
                sent = taken;
            }
            std::thread::park_timeout(LOST_AFTER);
            continue;
        }
        socket.write_all(&batch)?;
        sent += BATCH;
    }
    Ok(())
}
