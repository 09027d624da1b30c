//! What every role needs around it: a current-thread runtime, signals, and an end that is bounded.

use std::future::Future;
use std::io::{self, IsTerminal as _, Read as _};
use std::pin::pin;
use std::time::Duration;

use crate::daily;
use crate::limits;
use anyhow::{Context as _, Result, bail};
use rustix::process::{Signal as Posix, set_parent_process_death_signal};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::Outcome;

/// Exit code of a process that a second signal forced to end.
const FORCED: i32 = 130;

/// Added to the number of the signal that ended a process: its exit code, as shells have it.
const SIGNALLED: i32 = 128;

/// A runtime on the calling thread.
pub(crate) fn current_thread() -> Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime; free file descriptors or memory")
}

/// What asks a role to end, beside SIGTERM and SIGINT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndsWith {
    /// Nothing: a service, which outlives the terminal that it was started from.
    Signals,
    /// The end of standard input.
    Stdin,
    /// The terminal that it was started from: somebody looks at what it shows.
    Terminal,
}

impl EndsWith {
    /// What a service ends with.
    pub(crate) const fn service(until_stdin_closes: bool) -> Self {
        if until_stdin_closes { Self::Stdin } else { Self::Signals }
    }
}

/// Runs a role until it ends by itself or is asked to by SIGTERM, SIGINT or what else it ends with. It has `stop_time` to
/// end in order; a second signal ends the process at once. SIGHUP has the logs opened anew, and ends nothing but what
/// belongs to a terminal that is gone.
pub(crate) fn run_role<T, F>(stop_time: Duration, ends_with: EndsWith, role: F) -> Result<T>
where
    F: AsyncFnOnce(CancellationToken) -> Result<T>,
{
    run(stop_time, ends_with, Duration::ZERO, async |ends: Ends| role(ends.shutdown).await)
}

/// How a role is asked to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ends {
    /// In order.
    pub(crate) shutdown: CancellationToken,
    /// At once: a second signal came.
    pub(crate) forced: CancellationToken,
}

/// As [`run_role`], for a role that runs a command of the user's: a second signal has it killed before the process ends.
#[cfg(feature = "coord")]
pub(crate) fn run_with_command<T, F>(stop_time: Duration, ends_with: EndsWith, role: F) -> Result<T>
where
    F: AsyncFnOnce(Ends) -> Result<T>,
{
    run(stop_time, ends_with, limits::FORCED_TIME_MAX, role)
}

fn run<T, F>(stop_time: Duration, ends_with: EndsWith, forced_time: Duration, role: F) -> Result<T>
where
    F: AsyncFnOnce(Ends) -> Result<T>,
{
    let runtime = current_thread()?;
    let local = LocalSet::new();
    let result = local.block_on(&runtime, async {
        let ends = Ends::default();
        let mut signals = Signals::new()?;
        let stdin = watch_stdin(ends_with == EndsWith::Stdin)?;
        let hangups = signal(SignalKind::hangup()).context("cannot watch for signals; free file descriptors")?;
        let terminal = ends_with == EndsWith::Terminal && io::stdin().is_terminal();
        let mut terminal_goes = pin!(reopen(hangups, terminal));
        let mut role = pin!(role(ends.clone()));
        tokio::select! {
            result = &mut role => return result,
            _ = signals.next() => {}
            () = stdin_closes(stdin) => {}
            () = &mut terminal_goes => {}
        }
        ends.shutdown.cancel();
        tracing::info!("stopping: finishing what was accepted; a second signal forces");
        tokio::select! {
            result = &mut role => result,
            () = signals.next_after(limits::SIGNALS_TOGETHER) => {
                ends.forced.cancel();
                // What it comes to is told by the line that follows.
                drop(timeout(forced_time, &mut role).await);
                force()
            }
            () = tokio::time::sleep(stop_time) => {
                bail!("did not end in order within {stop_time:?}; what was acknowledged is kept, the rest was not")
            }
        }
    });
    // A blocked disk or resolver must not hold up the end.
    runtime.shutdown_background();
    result
}

/// Has the logs opened anew at every SIGHUP; resolves when the terminal is gone, if it was one.
async fn reopen(mut hangups: Signal, terminal: bool) {
    while hangups.recv().await.is_some() {
        if terminal && !io::stdin().is_terminal() {
            return;
        }
        daily::reopen_all();
        // At once in this file; the others follow with their next line, or the next look.
        tracing::info!("SIGHUP: the log files are opened anew");
    }
    std::future::pending().await
}

/// As [`run_role`], for work that hears of each SIGTERM and SIGINT itself, and takes as long as it likes.
#[cfg(feature = "coord")]
pub(crate) fn run_interruptible<T>(work: impl AsyncFnOnce(&mut Signals) -> Result<T>) -> Result<T> {
    let runtime = current_thread()?;
    let result = LocalSet::new().block_on(&runtime, async { work(&mut Signals::new()?).await });
    runtime.shutdown_background();
    result
}

/// As [`run_role`], for a short command that signals simply end.
pub(crate) fn run_short<T, Fut: Future<Output = Result<T>>>(work: Fut) -> Result<T> {
    end_by_signals_as_pid_1()?;
    let runtime = current_thread()?;
    let result = LocalSet::new().block_on(&runtime, work);
    runtime.shutdown_background();
    result
}

/// Lets SIGTERM and SIGINT end the process, for commands that do not wait for them, where it is the first one of a
/// container: the kernel keeps signals from a pid 1 that has no handler for them. Elsewhere they do it anyway.
pub(crate) fn end_by_signals_as_pid_1() -> Result<()> {
    if std::process::id() != 1 {
        return Ok(());
    }
    let runtime = current_thread()?;
    let mut signals = {
        let _inside = runtime.enter();
        Signals::new()?
    };
    // A thread of its own: the command may be busy with files.
    thread("signals", move || std::process::exit(SIGNALLED + runtime.block_on(signals.next()).as_raw_value()))
}

/// Starts a thread; a system that gives none says so in words.
pub(crate) fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    started.map(drop).context("cannot start a thread; end other processes, or raise their limit (ulimit -u)")
}

/// The outcome of a role that ended without an error.
pub(crate) const fn done((): ()) -> Outcome {
    Outcome::Done
}

/// Ends the process now, and says so.
fn force() -> ! {
    tracing::error!("forced to end by a second signal; what was acknowledged is kept");
    std::process::exit(FORCED)
}

/// SIGTERM and SIGINT.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let of = |kind| signal(kind).context("cannot watch for signals; free file descriptors");
        Ok(Self { terminate: of(SignalKind::terminate())?, interrupt: of(SignalKind::interrupt())? })
    }

    /// The next one that does not belong to the one before.
    async fn next_after(&mut self, together: Duration) {
        let until = Instant::now() + together;
        loop {
            self.next().await;
            if Instant::now() >= until {
                return;
            }
        }
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        }
    }
}

/// Begins to watch for the end of standard input, if that is `wanted`. A thread of its own waits for it, since a read of
/// the runtime's would have to be waited for at the end.
fn watch_stdin(wanted: bool) -> Result<Option<oneshot::Receiver<()>>> {
    if !wanted {
        return Ok(None);
    }
    // A paused process (SIGSTOP) reads nothing: its parent's death wakes it, wherever it is adopted. Where the system
    // refuses this, all but a paused process still ends.
    if let Err(error) = set_parent_process_death_signal(Some(Posix::CONT)) {
        tracing::debug!(%error, "the death of the parent will not wake this process if it is paused");
    }
    let (sender, receiver) = oneshot::channel::<()>();
    thread("stdin", move || {
        let mut sink = [0_u8; 256];
        let mut stdin = std::io::stdin().lock();
        while stdin.read(&mut sink).is_ok_and(|n| n > 0) {}
        drop(sender);
    })?;
    Ok(Some(receiver))
}

/// Resolves at the end of standard input; never if nobody watches for it.
async fn stdin_closes(watched: Option<oneshot::Receiver<()>>) {
    match watched {
        // The sender is dropped, not used: an error is the signal.
        Some(watched) => drop(watched.await),
        None => std::future::pending().await,
    }
}
