//! Brokers on loopback addresses of their own, and peers in Python (`tests/it/python/`), which speak ZeroMQ through libzmq.

use std::io::Write as _;
use std::path::Path;
use std::process::{ChildStdin, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{Process, acopio};

/// Time without a heartbeat after which a broker of these tests takes over.
pub(crate) const DEAD_AFTER: Duration = Duration::from_millis(1500);

/// What a broker says when somebody has subscribed.
pub(crate) const ASKS: &str = "a subscriber asks for topics";

/// A pair of brokers' addresses. Nobody else has them, so the ports are the usual ones.
pub(crate) struct Pair {
    pub(crate) hosts: [String; 2],
    dir: tempfile::TempDir,
}

impl Pair {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let k = NEXT.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id() % (64 * 256);
        let net = format!("127.{}.{}", 64 + (pid / 256 + k) % 128, pid % 256);
        let hosts = [1, 2].map(|host| format!("{net}.{}", 2 * (k % 120) + host));
        Self { hosts, dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn primary(&self, more: &[&str]) -> Process {
        self.broker("primary", &self.hosts[0], &self.hosts[1], more)
    }

    pub(crate) fn backup(&self, more: &[&str]) -> Process {
        self.broker("backup", &self.hosts[1], &self.hosts[0], more)
    }

    /// Both brokers, who reach each other over these hosts.
    pub(crate) fn over(&self, to_primary: &str, to_backup: &str) -> [Process; 2] {
        let primary = self.broker("primary", &self.hosts[0], to_backup, &[]);
        [primary, self.broker("backup", &self.hosts[1], to_primary, &[])]
    }

    /// A host near the two that is neither.
    pub(crate) fn other_host(&self, k: u8) -> String {
        let (net, _) = self.hosts[0].rsplit_once('.').unwrap();
        format!("{net}.{}", 250 + k)
    }

    /// A broker without another.
    pub(crate) fn alone(&self, more: &[&str]) -> Process {
        let process = self.start(&["--role", "primary", "--bind", &self.hosts[0]], more);
        process.wait_for("Broker PRIMARY escuchando en 5555/5556 (proxy) y 5560 (heartbeat)...");
        process
    }

    fn broker(&self, role: &str, own: &str, peer: &str, more: &[&str]) -> Process {
        let dead_after = format!("{}ms", DEAD_AFTER.as_millis());
        let flags =
            ["--role", role, "--bind", own, "--peer", peer, "--heartbeat", "200ms", "--dead-after", &dead_after];
        self.start(&flags, more)
    }

    fn start(&self, flags: &[&str], more: &[&str]) -> Process {
        let mut command = acopio();
        command.args(["broker", "--verbose"]).args(flags).arg("--logs").arg(self.dir.path()).args(more);
        Process::start(command)
    }

    /// One of the calculation's programs, with what it prints on standard error.
    pub(crate) fn calc(&self, words: &[&str]) -> Process {
        let program = acopio();
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" \"$@\" 1>&2"]).arg(program.get_program()).arg("calc").args(words);
        command.args(["--broker", &self.hosts.join(",")]);
        Process::start(command)
    }

    /// A program of `tests/it/python` that is connected to both brokers.
    pub(crate) fn python(&self, script: &str, words: &[&str]) -> Process {
        Process::start(self.command(script, words, &[]))
    }

    /// A subscriber that has been told of by the broker.
    pub(crate) fn subscriber(&self, broker: &Process, words: &[&str], options: &[(&str, &str)]) -> Process {
        let seen = broker.count(ASKS);
        let process = Process::start(self.command("subscribe.py", words, options));
        super::eventually("the subscriber is known", || (broker.count(ASKS) > seen).then_some(()));
        process
    }

    /// A publisher that a broker has subscribed to.
    pub(crate) fn publisher(&self, options: &[(&str, &str)]) -> Publisher {
        let (process, input) = Process::fed(self.command("publish.py", &[], options));
        let mut publisher = Publisher { process, input };
        publisher.tell("wait");
        publisher.process.wait_for("wanted");
        publisher
    }

    pub(crate) fn command(&self, script: &str, words: &[&str], options: &[(&str, &str)]) -> Command {
        let mut command = python(script);
        command.args(words).args(&self.hosts).envs(options.iter().copied());
        command
    }
}

/// A script of `tests/it/python`, with the packages that `test.sh` installs.
pub(crate) fn python(script: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("python3");
    if std::env::var_os("PYTHONPATH").is_none() {
        command.env("PYTHONPATH", root.join("target/python"));
    }
    command.env("PYTHONUNBUFFERED", "1").arg(root.join("tests/it/python").join(script));
    command
}

/// A publisher that does what it is told.
pub(crate) struct Publisher {
    pub(crate) process: Process,
    input: ChildStdin,
}

impl Publisher {
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
        self.input.flush().unwrap();
    }

    pub(crate) fn send(&mut self, frames: &[&str]) {
        self.tell(&format!("send {}", frames.join(" ")));
    }
}
