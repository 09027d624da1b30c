//! What a message costs the disk when few come: bytes and flushes, as the block device of a file system of its own counts
//! them, journal and all. SD cards wear by these.
//!
//! Needs root, for it mounts an image; the image lies in the folder that is measured in.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::contender::{Running, free_address, wait_for, wait_until};

/// Time between two messages.
const EVERY: Duration = Duration::from_secs(1);

/// Time in which what a start writes gets to the disk: a journal is committed every 5 s.
const SETTLE: Duration = Duration::from_secs(12);

/// Size of the image, bytes. Small enough to be made at once, large enough for any journal.
const IMAGE_BYTES: u64 = 512 << 20;

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writer {
    /// A head and so many data nodes, and a reader that follows if there is one.
    Acopio { nodes: usize, copies: usize, follower: bool },
    /// Redis Streams with a sync each.
    Redis,
}

impl Writer {
    /// For the table.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Acopio { nodes, copies, follower } => {
                let follower = if follower { ", a follower" } else { "" };
                let copies = if copies == 1 { String::new() } else { format!(", {copies} copies") };
                format!("acopio, {nodes} data nodes{copies}, --sync always{follower}")
            }
            Self::Redis => "Redis Streams, appendfsync always".to_owned(),
        }
    }
}

/// What the disk was given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    /// Bytes.
    pub(crate) bytes: f64,
    /// Flushes of the disk's cache.
    pub(crate) flushes: f64,
}

/// What is written a second while a message comes each second, or none.
pub(crate) fn measure(writer: Writer, dir: &Path, messages: bool, run_for: Duration) -> Result<Written> {
    let disk = Disk::mount(dir)?;
    let (running, address) = start(writer, &disk.folder)?;
    let mut client = Client::open(writer, address)?;
    // A cluster begins with its first message.
    client.send()?;
    let settled = Instant::now() + SETTLE;
    while Instant::now() < settled {
        std::thread::sleep(EVERY);
        if messages {
            client.send()?;
        }
    }
    let (before, since) = (disk.counters()?, Instant::now());
    let mut next = since;
    while since.elapsed() < run_for {
        next += EVERY;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        if messages {
            client.send()?;
        }
    }
    let (after, seconds) = (disk.counters()?, since.elapsed().as_secs_f64());
    drop(running);
    let of = |after: u64, before: u64| (after - before) as f64 / seconds;
    Ok(Written { bytes: 512.0 * of(after.0, before.0), flushes: of(after.1, before.1) })
}

fn start(writer: Writer, dir: &Path) -> Result<(Running, SocketAddr)> {
    let mut running = Running(Vec::new());
    let address = free_address()?;
    let at = address.to_string();
    let logs = tempfile::tempdir()?.keep();
    match writer {
        Writer::Redis => {
            let mut command = Command::new("redis-server");
            command.args(["--port", &address.port().to_string(), "--bind", "127.0.0.1", "--save", ""]);
            command.args(["--appendonly", "yes", "--appendfsync", "always", "--dir"]).arg(dir);
            running.start(&mut command, &logs)?;
            wait_for(address, &mut running)?;
        }
        Writer::Acopio { nodes, copies, follower } => {
            let acopio = || Command::new(env!("CARGO_BIN_EXE_acopio"));
            let mut head = acopio();
            head.args(["head", "--listen", &at, "--replicas", &copies.to_string(), "--logs"]).arg(dir.join("head"));
            running.start(&mut head, &logs)?;
            wait_for(address, &mut running)?;
            for node in 1..=nodes {
                let name = format!("data{node}");
                let mut data = acopio();
                data.args(["data", "--head", &at, "--name", &name, "--bind", &format!("127.9.9.{node}"), "--dir"]);
                running.start(data.arg(dir.join(&name)), &logs)?;
                let is_ready = || acopio().args(["health", "--ask", &at, "--node", &name]).output();
                wait_until(|| is_ready().is_ok_and(|output| output.status.success()))?;
            }
            if follower {
                running.start(acopio().args(["read", "--follow", "--head", &at]), &logs)?;
            }
        }
    }
    Ok((running, address))
}

/// Sends one message at a time and waits for its answer.
struct Client {
    socket: BufReader<TcpStream>,
    message: String,
}

impl Client {
    fn open(writer: Writer, address: SocketAddr) -> Result<Self> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        let payload = "x".repeat(100);
        let message = if writer == Writer::Redis {
            format!("*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\n*\r\n$1\r\nm\r\n$100\r\n{payload}\r\n")
        } else {
            socket.write_all(b"peticion\n")?;
            format!("{payload}\n")
        };
        let mut client = Self { socket: BufReader::new(socket), message };
        if writer != Writer::Redis {
            client.answer()?;
        }
        Ok(client)
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.socket.read_line(&mut line)?;
        Ok(line)
    }

    fn send(&mut self) -> Result<()> {
        self.socket.get_mut().write_all(self.message.as_bytes())?;
        let answer = self.answer()?;
        // Redis says the length of an id, then the id.
        if answer.starts_with('$') {
            self.answer()?;
        } else if !answer.ends_with("recibido\n") {
            bail!("a message was not kept: {answer}");
        }
        Ok(())
    }
}

/// An ext4 file system in an image.
struct Disk {
    image: PathBuf,
    folder: PathBuf,
}

impl Disk {
    fn mount(dir: &Path) -> Result<Self> {
        let (image, folder) = (dir.join("image"), dir.join("mounted"));
        std::fs::File::create(&image)?.set_len(IMAGE_BYTES)?;
        std::fs::create_dir(&folder)?;
        let run = |command: &mut Command| -> Result<()> {
            let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
            let said = String::from_utf8_lossy(&output.stderr);
            if output.status.success() { Ok(()) } else { bail!("{command:?}: {said}; it takes root") }
        };
        // All tables are written now, and not by the kernel while something is measured.
        let eager = "lazy_itable_init=0,lazy_journal_init=0";
        run(Command::new("/sbin/mkfs.ext4").args(["-q", "-F", "-E", eager]).arg(&image))?;
        run(Command::new("mount").args(["-o", "loop,noatime"]).arg(&image).arg(&folder))?;
        Ok(Self { image, folder })
    }

    /// Sectors of 512 bytes that were written, and flushes.
    fn counters(&self) -> Result<(u64, u64)> {
        let device = std::fs::metadata(&self.folder)?.dev();
        let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xf_ff00);
        let stat = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat"))?;
        let fields: Vec<u64> = stat.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let (sectors, flushes) = fields.get(6).zip(fields.get(15)).context("the kernel counts no flushes")?;
        Ok((*sectors, *flushes))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(&self.folder).output());
        drop(std::fs::remove_file(&self.image));
    }
}
