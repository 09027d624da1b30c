//! What the process tests share: real processes on port 0, bare sockets, and waits that await an event with a
//! deadline. Nothing here uses the project's own client.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise, here as in a test function"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

pub(crate) use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

pub(crate) mod frames;
pub(crate) mod topics;
pub(crate) mod zookeeper;

/// The longest any single event may take on a slow, shared machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The binary under test.
pub(crate) fn acopio() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_acopio"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ACOPIO_")) {
        command.env_remove(name);
    }
    command
}

#[derive(Default)]
struct Said {
    lines: Vec<String>,
    ended: bool,
}

/// A running process whose standard error is kept, line by line. It is killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    said: Arc<(Mutex<Said>, Condvar)>,
    what: String,
}

impl Process {
    pub(crate) fn start(command: Command) -> Self {
        Self::with_input(command, Stdio::null())
    }

    /// One that reads what is written to the other half.
    pub(crate) fn fed(command: Command) -> (Self, ChildStdin) {
        let mut process = Self::with_input(command, Stdio::piped());
        let input = process.child.stdin.take().expect("piped");
        (process, input)
    }

    fn with_input(mut command: Command, input: Stdio) -> Self {
        let what = format!("{command:?}");
        let mut child = command
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let said = Arc::new((Mutex::new(Said::default()), Condvar::new()));
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let kept = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                kept.0.lock().unwrap().lines.push(line);
                kept.1.notify_all();
            }
            kept.0.lock().unwrap().ended = true;
            kept.1.notify_all();
        });
        Self { child, said, what }
    }

    /// Waits for a line on standard error that holds `part`.
    pub(crate) fn wait_for(&self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut said = self.said.0.lock().unwrap();
        loop {
            if let Some(line) = said.lines.iter().find(|line| line.contains(part)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && !said.ended, "{} never said {part:?}:\n{}", self.what, said.lines.join("\n"));
            said = self.said.1.wait_timeout(said, left).unwrap().0;
        }
    }

    /// How many lines of standard error hold `part` by now.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.said.0.lock().unwrap().lines.iter().filter(|line| line.contains(part)).count()
    }

    pub(crate) fn all(&self) -> String {
        self.said.0.lock().unwrap().lines.join("\n")
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid()).expect("a pid");
        rustix::process::kill_process(pid, signal).expect("the process is there");
    }

    /// Kills with -9 and reaps.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its standard output, to be read line by line.
    pub(crate) fn stdout(&mut self) -> BufReader<ChildStdout> {
        BufReader::new(self.child.stdout.take().expect("piped, and not yet taken"))
    }

    /// Interrupts it until it ends: signals that come together are one.
    pub(crate) fn interrupt_again(&mut self) -> ExitStatus {
        eventually("it is forced to end", || {
            self.signal(Signal::INT);
            self.child.try_wait().unwrap()
        })
    }

    /// Waits for the end, with a deadline.
    /// Its exit code, if it has ended; -1 if a signal ended it.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().expect("a child").map(|status| status.code().unwrap_or(-1))
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually("the process ends", || self.child.try_wait().unwrap())
    }

    /// Waits for the end; returns the exit code and all of both outputs.
    pub(crate) fn finish(mut self) -> (Option<i32>, String, String) {
        let mut out = String::new();
        self.child.stdout.take().expect("piped").read_to_string(&mut out).unwrap();
        let status = self.wait();
        eventually("its standard error ends", || self.said.0.lock().unwrap().ended.then_some(()));
        (status.code(), out, self.all())
    }

    /// Peak resident memory, KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        peak_kib(self.child.id()).expect("it runs")
    }
}

/// Peak resident memory of a process, KiB; `None` once it has ended.
pub(crate) fn peak_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// An `acopio send` to these heads under way, and the standard input that it sends.
pub(crate) fn sending(heads: &str, more: &[&str]) -> (Child, ChildStdin) {
    let mut command = acopio();
    command.args(["send", "--head", heads]).args(more);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let input = child.stdin.take().unwrap();
    (child, input)
}

/// Runs it to its end: exit code, standard output, standard error.
pub(crate) fn ran(mut command: Command) -> (Option<i32>, String, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Does something out of the ordinary that a test needs. A machine that does not permit it is not fit for the tests:
/// they fail there and say what is missing, rather than pass without having looked.
pub(crate) fn need(what: &str, command: &mut Command) {
    let cause = match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => return,
        Ok(output) => String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned(),
        Err(error) => error.to_string(),
    };
    panic!("this test needs {what}, and the machine does not permit it: {command:?}: {cause}");
}

/// A port of the loopback address on which nobody listens and that nobody is given by the system while this lives: one
/// who is told of it can listen there, again and again.
pub(crate) struct Port(Socket);

impl Port {
    pub(crate) fn reserve() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // Without it nobody else could listen there.
        socket.set_reuse_address(true).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        Self(socket)
    }

    pub(crate) fn at(&self) -> String {
        self.0.local_addr().unwrap().as_socket().unwrap().to_string()
    }

    pub(crate) fn number(&self) -> u16 {
        self.0.local_addr().unwrap().as_socket().unwrap().port()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// Asks until there is an answer, with a deadline. For state that has no event to wait for: a file, an exit.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A head in its own process, on a port of its own.
pub(crate) struct Head {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) logs: PathBuf,
    /// Nobody else gets its port, should it be started there again.
    port: Option<Port>,
}

impl Head {
    pub(crate) fn start(dir: &Path, more: &[&str]) -> Self {
        let port = Port::reserve();
        let head = Self::start_at(dir, &port.at(), more);
        Self { port: Some(port), ..head }
    }

    /// Another head of the same cluster: it has the same key.
    pub(crate) fn start_beside(&self, dir: &Path, more: &[&str]) -> Self {
        self.share_key(dir);
        Self::start(dir, more)
    }

    /// Gives the key to the head that will have its logs here.
    pub(crate) fn share_key(&self, dir: &Path) {
        std::fs::create_dir_all(dir.join("head")).unwrap();
        std::fs::copy(self.logs.join("cluster.key"), dir.join("head/cluster.key")).unwrap();
    }

    /// A head on an address that is known before, and reserved.
    pub(crate) fn start_at(dir: &Path, listen: &str, more: &[&str]) -> Self {
        let logs = dir.join("head");
        let mut command = acopio();
        command.args(["head", "--listen", listen, "--logs"]).arg(&logs).args(more);
        let process = Process::start(command);
        let line = process.wait_for("listening on ");
        let address = line.split("listening on ").nth(1).unwrap().split([',', ' ']).next().unwrap();
        Self { address: address.parse().unwrap(), process, logs, port: None }
    }

    pub(crate) fn at(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.logs.join(name)).unwrap_or_default()
    }

    /// A registered data node, on its own loopback address.
    pub(crate) fn node(&self, dir: &Path, k: u8, more: &[&str]) -> Process {
        let seen = self.registered(k);
        let node = self.start_node(dir, k, more);
        eventually(&format!("data{k} registers; it said:\n{}", node.all()), || {
            (self.registered(k) > seen).then_some(())
        });
        node
    }

    /// A data node that may or may not get to register.
    pub(crate) fn start_node(&self, dir: &Path, k: u8, more: &[&str]) -> Process {
        self.start_named(&format!("data{k}"), dir, k, more)
    }

    /// The same under another name.
    pub(crate) fn start_named(&self, name: &str, dir: &Path, k: u8, more: &[&str]) -> Process {
        let mut command = acopio();
        command.args(["data", "--head", &self.at(), "--name", name]);
        command.args(["--bind", &format!("127.0.0.{}", k + 1), "--dir"]).arg(dir.join(format!("data{k}"))).args(more);
        Process::start(command)
    }

    /// What `acopio status` tells of it.
    pub(crate) fn status(&self) -> serde_json::Value {
        let mut command = acopio();
        command.args(["status", "--format", "json", "--timeout", "30s", "--head", &self.at()]);
        let (code, out, err) = ran(command);
        assert_eq!(code, Some(0), "{err}");
        serde_json::from_str(&out).expect(&out)
    }

    /// Sends messages until so many data nodes keep some: then they are in the cluster.
    pub(crate) fn wait_in_cluster(&self, nodes: usize) {
        let mut client = self.line();
        eventually("the nodes are in the cluster", || {
            assert!(client.ask("hola").ends_with("recibido"));
            let status = self.status();
            let keep =
                status["nodes"].as_array().unwrap().iter().filter(|node| node["acked"].as_u64() > Some(0)).count();
            (keep >= nodes).then_some(())
        });
    }

    /// Waits until so many messages are with data nodes and not acknowledged.
    pub(crate) fn wait_in_flight(&self, messages: u64) {
        eventually("messages are in flight", || (self.status()["in_flight"] == messages).then_some(()));
    }

    fn registered(&self, k: u8) -> usize {
        self.process.count(&format!("dataNode data{k} registered"))
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        socket
    }

    /// A raw client after its handshake, as the original's: no newline anywhere.
    pub(crate) fn raw(&self) -> TcpStream {
        let mut socket = self.connect();
        socket.write_all(b"peticion").unwrap();
        assert_eq!(read_once(&mut socket), "confirmacion");
        socket
    }

    /// A line client after its handshake.
    pub(crate) fn line(&self) -> LineClient {
        let mut client = LineClient(BufReader::new(self.connect()));
        client.send("peticion");
        assert_eq!(client.read(), "confirmacion");
        client
    }

    /// A line client that has said this name.
    pub(crate) fn named(&self, name: &str) -> LineClient {
        let mut client = LineClient(BufReader::new(self.connect()));
        assert_eq!(client.ask(&format!("peticion {name}")), "confirmacion");
        client
    }

    /// Sends all of it, half-closes, and reads to the end: what `nc -N` does.
    pub(crate) fn nc(&self, input: &[u8]) -> String {
        let mut socket = self.connect();
        socket.write_all(input).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap();
        String::from_utf8(answer).unwrap()
    }
}

/// One read, as the original's `recv`.
pub(crate) fn read_once(socket: &mut TcpStream) -> String {
    let mut buffer = [0; 4096];
    let n = socket.read(&mut buffer).unwrap();
    String::from_utf8(buffer[..n].to_vec()).unwrap()
}

/// A line client over a bare socket.
pub(crate) struct LineClient(pub(crate) BufReader<TcpStream>);

impl LineClient {
    pub(crate) fn send(&mut self, line: &str) {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    pub(crate) fn read(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end_matches('\n').to_owned()
    }

    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.read()
    }

    /// Sends so many numbered messages, ten at a time, all of which have to be acknowledged; returns them as they are
    /// stored.
    pub(crate) fn send_all(&mut self, what: &str, messages: usize) -> Vec<String> {
        let texts: Vec<String> = (0..messages).map(|k| format!("{what} {k}")).collect();
        for ten in texts.chunks(10) {
            self.send(&ten.join("\n"));
            for text in ten {
                let answer = self.read();
                assert!(answer.ends_with(" , mensaje: recibido"), "{text}: {answer}");
            }
        }
        texts.iter().map(|text| format!("mensaje: {text}")).collect()
    }
}

/// Every payload in the data files below `dir`, and how often it is there. Checks nothing: `verify` does.
pub(crate) fn payloads(dir: &Path) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for record in records(dir) {
        *found.entry(record.payload).or_default() += 1;
    }
    found
}

/// A line of a file of records, by its fields.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) client: String,
    pub(crate) seq: String,
    pub(crate) payload: String,
}

/// Every record in the data files of the nodes below `dir`. Checks nothing: `verify` does.
pub(crate) fn records(dir: &Path) -> Vec<Record> {
    let mut found = Vec::new();
    for node in std::fs::read_dir(dir).unwrap() {
        for file in data_files(&node.unwrap().path()) {
            let text = std::fs::read_to_string(&file).unwrap();
            // The node may be in the middle of the last one.
            let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
            found.extend(whole.map(record));
        }
    }
    found
}

/// The sealed files of a node's folder, by their names, which is oldest first.
pub(crate) fn sealed_files(folder: &Path) -> Vec<PathBuf> {
    // What is no folder has none.
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let is_sealed = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("data-") && name.ends_with(".txt")
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).filter(is_sealed).collect();
    files.sort();
    files
}

/// All files of records of a node's folder: the sealed ones, then `data.txt` if it is there.
pub(crate) fn data_files(folder: &Path) -> Vec<PathBuf> {
    let current = folder.join("data.txt");
    let mut files = sealed_files(folder);
    files.extend(current.is_file().then_some(current));
    files
}

fn record(line: &str) -> Record {
    let fields: Vec<&str> = line.splitn(5, ' ').collect();
    let [id, client, seq, _, payload] = fields[..] else { panic!("no record: {line}") };
    let [id, client, seq, payload] = [id, client, seq, payload].map(str::to_owned);
    Record { id, client, seq, payload }
}

/// `acopio verify` finds nothing wrong in these folders.
pub(crate) fn verify_clean(dir: &Path, nodes: &[&str]) {
    let mut command = acopio();
    command.arg("verify").args(nodes.iter().map(|node| dir.join(node)));
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
