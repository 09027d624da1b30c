//! One process of the cluster: started, shown, ended. It ends by itself, in order, when its standard input closes, so
//! that it never outlives `up`, not even a kill -9 of it.

use std::ffi::OsString;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout_at};

use super::plan::{Kind, Member};
use super::said::Said;
use super::screen::Screen;

/// A process could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {name}: {source}; free memory or processes, or install acopio anew")]
pub(crate) struct Error {
    name: String,
    #[source]
    source: std::io::Error,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct End {
    /// In words, after its name.
    pub(crate) words: String,
    /// Whether its exit code was 0.
    pub(crate) in_order: bool,
}

/// What `up` and its page talk over: pipes that nobody else has.
#[derive(Debug)]
pub(crate) struct Talk {
    /// The state of the cluster, a line each time that it changes.
    pub(crate) states: watch::Receiver<String>,
    /// Lines that somebody sent by the page.
    pub(crate) orders: mpsc::Sender<String>,
}

/// A process that was started.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// Its end is the child's sign to stop: held until the child is gone.
    _stdin: Option<ChildStdin>,
    /// Who holds it in place of this, and writes to it.
    _talk: JoinSet<()>,
    /// Resolves once the child says that it listens; an error once it can't say so any more.
    listens: Option<oneshot::Receiver<()>>,
    /// Shows the child's lines; gives the last error it told.
    lines: Option<JoinHandle<Option<String>>>,
}

impl Running {
    /// Starts a member of the cluster and shows its standard error.
    ///
    /// # Errors
    /// The system can't start the process.
    pub(crate) fn start(program: &Path, verbose: bool, member: &Member, screen: &Screen) -> Result<Self, Error> {
        Self::start_talking(program, verbose, member, screen, None)
    }

    /// The same, of one that is told the state of the cluster on its standard input and hands on orders on its output.
    ///
    /// # Errors
    /// The system can't start the process.
    pub(crate) fn start_talking(
        program: &Path,
        verbose: bool,
        member: &Member,
        screen: &Screen,
        talk: Option<&Talk>,
    ) -> Result<Self, Error> {
        let mut command = Command::new(member.kind.program().map_or(program, Path::new));
        for (variable, _) in std::env::vars_os().filter(|(variable, _)| is_ours(variable)) {
            // What `up` was told by the environment it hands on as flags; the rest was not meant for its members.
            command.env_remove(variable);
        }
        if verbose && member.kind.program().is_none() {
            command.arg("--verbose");
        }
        command.args(&member.args).stdin(Stdio::piped()).stderr(Stdio::piped());
        // The lines of a device and of a calculation are there; what a ZooKeeper has to say goes to either.
        let speaks = matches!(member.kind, Kind::Device | Kind::Topics | Kind::ZooKeeper);
        command.stdout(if speaks || talk.is_some() { Stdio::piped() } else { Stdio::null() });
        // A Ctrl-C on the terminal is for `up`, which ends the others in their order.
        command.process_group(0);
        let mut child = command.spawn().map_err(|source| Error { name: member.name.clone(), source })?;
        let (said, listens) = Said::new(member.kind, &member.name, screen.clone());
        let mut talks = JoinSet::new();
        if let Some(talk) = talk {
            child.stdin.take().map(|stdin| talks.spawn(tell(stdin, talk.states.clone())));
            child.stdout.take().map(|stdout| talks.spawn(hear(stdout, talk.orders.clone())));
        }
        if let Some(stdout) = child.stdout.take() {
            // It ends with the process, and nobody waits for it.
            tokio::spawn(show_lines(stdout, member.clone(), screen.clone()));
        }
        let lines = child.stderr.take().map(|stderr| tokio::spawn(show(stderr, said)));
        Ok(Self { _stdin: child.stdin.take(), _talk: talks, child, listens: Some(listens), lines })
    }

    /// The process id, while it is not known to be gone.
    #[must_use]
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until the child says that it listens, or that it is registered with a head; false if it ended or closed its standard error before.
    pub(crate) async fn listens(&mut self) -> bool {
        match self.listens.take() {
            Some(listens) => listens.await.is_ok(),
            None => false,
        }
    }

    /// Waits until the process is gone; how it ended, in words.
    pub(crate) async fn ended(&mut self) -> End {
        let status = self.child.wait().await;
        let in_order = status.as_ref().is_ok_and(ExitStatus::success);
        End { in_order, words: status.map_or_else(|e| format!("is lost: {e}"), in_words) }
    }

    /// The last error that the process told, once it is gone.
    pub(crate) async fn last_error(&mut self) -> Option<String> {
        self.lines.take()?.await.ok().flatten()
    }

    /// What [`listens`](Self::listens) waits for, for who waits for other things as well; nothing the second time.
    pub(crate) fn readiness(&mut self) -> Option<oneshot::Receiver<()>> {
        self.listens.take()
    }

    /// Sends the process a signal: it was not waited for yet, so the id is its own. Whether it was there to get it.
    pub(crate) fn signal(&self, signal: Signal) -> bool {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
    }

    /// Asks the process to end, and kills it at `deadline`; whether it ended in order.
    pub(crate) async fn end(mut self, deadline: Instant) -> bool {
        self.signal(Signal::TERM);
        // A paused one hears of it only when it goes on.
        self.signal(Signal::CONT);
        let in_order = timeout_at(deadline, self.child.wait()).await.is_ok();
        if !in_order {
            drop(self.child.kill().await);
        }
        self.last_error().await;
        in_order
    }
}

fn is_ours(variable: &OsString) -> bool {
    variable.as_encoded_bytes().starts_with(b"ACOPIO_")
}

/// Writes the state to a process whenever it is another one; what came between is left out.
async fn tell(mut stdin: ChildStdin, mut states: watch::Receiver<String>) {
    states.mark_changed();
    while states.changed().await.is_ok() {
        let line = format!("{}\n", *states.borrow_and_update());
        if stdin.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Hands on what a process asks for, line by line; who asks faster than it is done waits.
async fn hear(stdout: ChildStdout, orders: mpsc::Sender<String>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if orders.send(line).await.is_err() {
            return;
        }
    }
}

/// Shows standard output. Empty lines, which part paragraphs on a terminal of its own, are left out.
async fn show_lines(stdout: ChildStdout, member: Member, screen: Screen) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if !line.is_empty() {
            screen.show(member.kind, &member.name, &line);
        }
    }
}

async fn show(stderr: ChildStderr, mut said: Said) -> Option<String> {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        said.line(&line);
    }
    said.last_error()
}

fn in_words(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => format!("ended: {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(script: &str) -> Member {
        let args = vec!["-c".into(), script.into()];
        Member { kind: Kind::Data, name: "data1".to_owned(), dir: ".".into(), args }
    }

    async fn start(script: &str) -> Running {
        let (screen, _writer) = Screen::stdout(true);
        Running::start(Path::new("/bin/sh"), false, &member(script), &screen).unwrap()
    }

    #[tokio::test]
    async fn its_end_is_told_in_words_with_its_last_error() {
        let mut child = start("echo 'acopio: no such thing; do that' >&2; exit 3").await;
        assert_eq!(child.ended().await.words, "ended with exit code 3");
        assert_eq!(child.last_error().await.as_deref(), Some("no such thing; do that"));
        assert_eq!(start("kill -9 $$").await.ended().await.words, "was killed by signal 9");
    }

    #[tokio::test]
    async fn it_is_waited_for_until_it_listens() {
        assert!(start("echo 'now listening on 127.0.0.1:1' >&2; read x").await.listens().await);
        assert!(!start("exit 1").await.listens().await);
    }

    #[tokio::test]
    async fn who_does_not_end_is_killed() {
        let mut deaf = start("trap '' TERM; echo 'listening on x' >&2; while :; do sleep 0.05; done").await;
        assert!(deaf.listens().await);
        assert!(!deaf.end(Instant::now() + std::time::Duration::from_millis(100)).await);
        let mut child = start("echo 'listening on x' >&2; read x").await;
        assert!(child.listens().await);
        assert!(child.end(Instant::now() + std::time::Duration::from_secs(30)).await);
    }
}
