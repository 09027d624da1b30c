//! The command that runs while a lock is held or while leading.
//!
//! Without a terminal it gets a process group of its own, so that all it started ends with it. On a terminal it stays in
//! the group of this process: there Ctrl-C has to reach it, and it may read.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Result, anyhow};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::coord::Fence;

/// Tells the command its fencing token.
const FENCE: &str = "ACOPIO_FENCE";

/// Added to the number of the signal that ended a command, as shells do.
const SIGNALLED: i32 = 128;

/// A running command.
#[derive(Debug)]
pub(crate) struct Job {
    child: Child,
    group: bool,
}

impl Job {
    /// Starts it.
    pub(crate) fn start(words: &[OsString], fence: Fence) -> Result<Self> {
        let (name, args) = words.split_first().ok_or_else(|| anyhow!("no command; write it after --"))?;
        let group = !std::io::stdin().is_terminal();
        let mut command = Command::new(name);
        command.args(args).env(FENCE, fence.to_string()).kill_on_drop(true);
        if group {
            command.process_group(0);
        }
        let child = command
            .spawn()
            .map_err(|error| anyhow!("cannot run {}: {error}; name a command after --", name.display()))?;
        Ok(Self { child, group })
    }

    /// Waits for its end; its exit code.
    pub(crate) async fn wait(&mut self) -> Result<u8> {
        let status = self.child.wait().await.map_err(|error| anyhow!("cannot wait for the command: {error}"))?;
        Ok(code(status))
    }

    /// Ends it: asks, and kills if it takes longer than `patience`, or at once where that is forced. Its exit code.
    pub(crate) async fn end(&mut self, patience: Duration, forced: &CancellationToken) -> Result<u8> {
        self.signal(Signal::TERM);
        if let Some(Ok(code)) = forced.run_until_cancelled(timeout(patience, self.wait())).await {
            return code;
        }
        self.signal(Signal::KILL);
        self.wait().await
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        let Some(pid) = pid else { return };
        // Who has ended meanwhile needs no signal.
        if self.group { kill_process_group(pid, signal) } else { kill_process(pid, signal) }.ok();
    }
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| SIGNALLED + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
