//! A real ZooKeeper for the tests: Debian's package, standalone or an ensemble, on free ports and in a folder that goes
//! away; and programs of kazoo, the Python client that its recipes are those of.
//!
//! Tests that run at the same time share one server, each with a chroot of its own; the last one ends it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

use super::{PATIENCE, Port, Process, Signal, eventually};

/// Where Debian keeps the server.
const CLASSES: &str = "/usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar";

/// A tick of the server, milliseconds: sessions live two of them or more.
const TICK: u32 = 200;

/// One server, killed when it is dropped.
pub(crate) struct Server {
    port: Port,
    dir: PathBuf,
    child: Option<Child>,
}

/// A standalone server of one test alone.
pub(crate) struct Standalone {
    server: Server,
    _dir: tempfile::TempDir,
}

impl Standalone {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Server { port: Port::reserve(), dir: dir.path().to_owned(), child: None };
        server.configure("");
        server.start();
        server.wait_until_it_serves();
        Self { server, _dir: dir }
    }

    pub(crate) fn at(&self) -> String {
        self.server.port.at()
    }

    pub(crate) fn kill(&mut self) {
        self.server.kill();
    }

    pub(crate) fn start_again(&mut self) {
        self.server.start();
        self.server.wait_until_it_serves();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.server.signal(signal);
    }
}

/// Three servers.
pub(crate) struct Ensemble {
    servers: Vec<Server>,
    _dir: tempfile::TempDir,
    _ports: Vec<Port>,
}

impl Ensemble {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let inner: Vec<Port> = (0..6).map(|_| Port::reserve()).collect();
        let mut list = "standaloneEnabled=false\n".to_owned();
        for n in 0..3 {
            let (peer, vote) = (inner[2 * n].number(), inner[2 * n + 1].number());
            list.push_str(&format!("server.{}=127.0.0.1:{peer}:{vote}\n", n + 1));
        }
        let servers = (1..=3).map(|n| {
            let dir = dir.path().join(n.to_string());
            std::fs::create_dir_all(dir.join("data")).unwrap();
            std::fs::write(dir.join("data/myid"), n.to_string()).unwrap();
            let mut server = Server { port: Port::reserve(), dir, child: None };
            server.configure(&list);
            server.start();
            server
        });
        let servers: Vec<Server> = servers.collect();
        servers.iter().for_each(Server::wait_until_it_serves);
        Self { servers, _dir: dir, _ports: inner }
    }

    pub(crate) fn at(&self) -> String {
        self.servers.iter().map(|server| server.port.at()).collect::<Vec<_>>().join(",")
    }

    pub(crate) fn kill_the_leader(&mut self) {
        let leads = |server: &Server| ask(&server.port.at(), "srvr").is_some_and(|said| said.contains("Mode: leader"));
        let leader = eventually("one of the servers leads", || self.servers.iter().position(leads));
        self.servers[leader].kill();
    }
}

impl Server {
    fn configure(&self, more: &str) {
        let dir = self.dir.display();
        let port = self.port.number();
        let text = format!(
            "tickTime={TICK}\ninitLimit=50\nsyncLimit=25\ndataDir={dir}/data\nclientPort={port}\n\
             clientPortAddress=127.0.0.1\nadmin.enableServer=false\n4lw.commands.whitelist=*\nmaxClientCnxns=0\nmaxSessionTimeout=60000\n{more}"
        );
        std::fs::create_dir_all(self.dir.join("data")).unwrap();
        std::fs::write(self.dir.join("zoo.cfg"), text).unwrap();
    }

    fn start(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        let mut command = Command::new("java");
        command.args(["-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", CLASSES]);
        command.args(["org.apache.zookeeper.server.quorum.QuorumPeerMain"]).arg(self.dir.join("zoo.cfg"));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().expect("these tests need java and Debian's zookeeper: run ./test.sh");
        self.child = Some(child);
    }

    fn wait_until_it_serves(&self) {
        let serves = || ask(&self.port.at(), "srvr").filter(|said| said.contains("Mode:")).map(|_| ());
        let log = self.dir.join("log");
        // A virtual machine starts on a machine that is busy with other tests.
        let deadline = std::time::Instant::now() + 3 * PATIENCE;
        while serves().is_none() {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            assert!(std::time::Instant::now() < deadline, "ZooKeeper does not serve (is it installed?):\n{said}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_child(self.child.as_ref().expect("it runs"));
        rustix::process::kill_process(pid, signal).expect("the process is there");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A word of four letters.
fn ask(at: &str, word: &str) -> Option<String> {
    let mut socket = TcpStream::connect(at).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(word.as_bytes()).ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// A chroot of its own on the server that the tests share.
pub(crate) struct Room {
    server: Arc<Standalone>,
    chroot: String,
}

impl Room {
    pub(crate) fn new() -> Self {
        static SHARED: Mutex<Weak<Standalone>> = Mutex::new(Weak::new());
        static ROOMS: AtomicU32 = AtomicU32::new(0);
        // A test that failed in here must not fail the others.
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let server = shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Standalone::start());
            *shared = Arc::downgrade(&server);
            server
        });
        drop(shared);
        let chroot = format!("/room{}", ROOMS.fetch_add(1, Ordering::Relaxed));
        let room = Self { server, chroot };
        let (code, _, said) = super::ran(room.zk_from_the_root(&["create", &room.chroot]));
        assert_eq!(code, Some(0), "{said}");
        room
    }

    /// Its servers and its chroot.
    pub(crate) fn at(&self) -> String {
        format!("{}{}", self.server.at(), self.chroot)
    }

    /// The server without the chroot.
    pub(crate) fn server(&self) -> String {
        self.server.at()
    }

    pub(crate) fn chroot(&self) -> &str {
        &self.chroot
    }

    /// `acopio zk` in this room.
    pub(crate) fn zk(&self, args: &[&str]) -> Command {
        zk(&self.at(), args)
    }

    fn zk_from_the_root(&self, args: &[&str]) -> Command {
        zk(&self.server.at(), args)
    }

    /// What `acopio zk` prints, which has to succeed.
    pub(crate) fn run(&self, args: &[&str]) -> String {
        let (code, out, said) = super::ran(self.zk(args));
        assert_eq!(code, Some(0), "{args:?}: {said}");
        out
    }
}

/// `acopio zk` with a server.
pub(crate) fn zk(at: &str, args: &[&str]) -> Command {
    let mut command = super::acopio();
    command.arg("zk").args(args).env("ACOPIO_ZOOKEEPER", at).env("ACOPIO_SESSION_TIMEOUT", "6s");
    command
}

/// A Python program with a kazoo client `zk` that is started, and the module `sys`. It says what it does on standard error, as
/// the processes of the tests do.
pub(crate) fn kazoo(at: &str, program: &str) -> Process {
    let beginning = format!(
        "import sys, time\n\
         from kazoo.client import KazooClient\n\
         def say(*words): print(*words, file=sys.stderr, flush=True)\n\
         zk = KazooClient(hosts={at:?}, timeout=6.0)\n\
         zk.start()\n"
    );
    let mut command = Command::new("python3");
    command.arg("-c").arg(beginning + program);
    command.env("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/target/python"));
    Process::start(command)
}
