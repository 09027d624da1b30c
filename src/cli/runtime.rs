//! What every role needs around it: a current-thread runtime, signals, and an end that is bounded.

use std::future::Future;
use std::io::Read as _;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Signal as Posix, set_parent_process_death_signal};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

use super::Outcome;

/// Exit code of a process that a second signal forced to end.
const FORCED: i32 = 130;

/// Added to the number of the signal that ended a process: its exit code, as shells have it.
const SIGNALLED: i32 = 128;

/// A runtime on the calling thread.
pub fn current_thread() -> Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime; free file descriptors or memory")
}

/// Runs a role until it ends by itself or is asked to by SIGTERM, SIGINT or, with `until_stdin_closes`, the end of
/// standard input. It has `stop_time` to end in order; a second signal ends the process at once.
pub fn run_role<T, F>(stop_time: Duration, until_stdin_closes: bool, role: F) -> Result<T>
where
    F: AsyncFnOnce(CancellationToken) -> Result<T>,
{
    let runtime = current_thread()?;
    let local = LocalSet::new();
    let result = local.block_on(&runtime, async {
        let shutdown = CancellationToken::new();
        let mut signals = Signals::new()?;
        let mut role = pin!(role(shutdown.clone()));
        tokio::select! {
            result = &mut role => return result,
            _ = signals.next() => {}
            () = stdin_closes(until_stdin_closes) => {}
        }
        shutdown.cancel();
        tracing::info!("stopping: finishing what was accepted; a second signal forces");
        tokio::select! {
            result = &mut role => result,
            _ = signals.next() => force(),
            () = tokio::time::sleep(stop_time) => {
                bail!("did not end in order within {stop_time:?}; what was acknowledged is kept, the rest was not")
            }
        }
    });
    // A blocked disk or resolver must not hold up the end.
    runtime.shutdown_background();
    result
}

/// As [`run_role`], for work that hears of each SIGTERM and SIGINT itself, and takes as long as it likes.
#[cfg(feature = "coord")]
pub fn run_interruptible<T>(work: impl AsyncFnOnce(&mut Signals) -> Result<T>) -> Result<T> {
    let runtime = current_thread()?;
    let result = LocalSet::new().block_on(&runtime, async { work(&mut Signals::new()?).await });
    runtime.shutdown_background();
    result
}

/// As [`run_role`], for a short command that signals simply end.
pub fn run_short<T, Fut: Future<Output = Result<T>>>(work: Fut) -> Result<T> {
    end_by_signals_as_pid_1()?;
    let runtime = current_thread()?;
    let result = LocalSet::new().block_on(&runtime, work);
    runtime.shutdown_background();
    result
}

/// Lets SIGTERM and SIGINT end the process, for commands that do not wait for them, where it is the first one of a
/// container: the kernel keeps signals from a pid 1 that has no handler for them. Elsewhere they do it anyway.
pub fn end_by_signals_as_pid_1() -> Result<()> {
    if std::process::id() != 1 {
        return Ok(());
    }
    let runtime = current_thread()?;
    let mut signals = {
        let _inside = runtime.enter();
        Signals::new()?
    };
    // A thread of its own: the command may be busy with files.
    std::thread::spawn(move || std::process::exit(SIGNALLED + runtime.block_on(signals.next()).as_raw_value()));
    Ok(())
}

/// The outcome of a role that ended without an error.
pub const fn done((): ()) -> Outcome {
    Outcome::Done
}

/// Ends the process now, and says so.
fn force() -> ! {
    tracing::error!("forced to end by a second signal; what was acknowledged is kept");
    std::process::exit(FORCED)
}

/// SIGTERM and SIGINT.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let of = |kind| signal(kind).context("cannot watch for signals; free file descriptors");
        Ok(Self { terminate: of(SignalKind::terminate())?, interrupt: of(SignalKind::interrupt())? })
    }

    /// The next one.
    pub async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        }
    }
}

/// Resolves at the end of standard input; never if that is not `wanted`. A thread of its own waits for it, since a
/// read of the runtime's would have to be waited for at the end.
async fn stdin_closes(wanted: bool) {
    if !wanted {
        return std::future::pending().await;
    }
    // A paused process (SIGSTOP) reads nothing: its parent's death wakes it, wherever it is adopted. Where the system
    // refuses this, all but a paused process still ends.
    if let Err(error) = set_parent_process_death_signal(Some(Posix::CONT)) {
        tracing::debug!(%error, "the death of the parent will not wake this process if it is paused");
    }
    let (sender, receiver) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        let mut sink = [0_u8; 256];
        let mut stdin = std::io::stdin().lock();
        while stdin.read(&mut sink).is_ok_and(|n| n > 0) {}
        drop(sender);
    });
    // The sender is dropped, not used: an error is the signal.
    drop(receiver.await);
}
