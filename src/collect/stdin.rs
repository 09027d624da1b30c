//! Lines of standard input, read by a thread of its own: a read of it may block for ever.
//!
//! The thread reads only when there is something, so that nothing that it has read is lost at the end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::lines::{Ends, Lines};
use super::source::{Manner, Read, Source};
use crate::limits;

/// Starts to read standard input: what comes, nothing at its end, and no more once the end is asked for.
///
/// # Errors
/// The system gives no thread.
pub(super) fn start(shutdown: &CancellationToken) -> io::Result<mpsc::Receiver<io::Result<Bytes>>> {
    let (sender, receiver) = mpsc::channel(1);
    let stop = Arc::new(AtomicBool::new(false));
    let (told, shutdown) = (Arc::clone(&stop), shutdown.clone());
    tokio::spawn(async move {
        shutdown.cancelled().await;
        told.store(true, Ordering::Relaxed);
    });
    let work = move || {
        while !stop.load(Ordering::Relaxed) {
            let read = match wait().and_then(|is_there| if is_there { read().map(Some) } else { Ok(None) }) {
                Ok(None) => continue,
                Ok(Some(bytes)) => Ok(bytes),
                Err(error) => Err(error),
            };
            let ends = read.as_ref().map_or(true, Bytes::is_empty);
            if sender.blocking_send(read).is_err() || ends {
                return;
            }
        }
    };
    std::thread::Builder::new().name("input".to_owned()).spawn(work)?;
    Ok(receiver)
}

/// Whether there is something to read, or the end.
fn wait() -> io::Result<bool> {
    let stdin = io::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    let time = Timespec::try_from(limits::COLLECT_INPUT_LOOK_EVERY).map_err(io::Error::other)?;
    match poll(&mut fds, Some(&time)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn read() -> io::Result<Bytes> {
    // Past the buffer of the standard library, of which the wait knows nothing.
    let mut buffer = vec![0; limits::READ_BUFFER_BYTES];
    loop {
        match rustix::io::read(io::stdin(), &mut buffer) {
            Ok(read) => {
                buffer.truncate(read);
                return Ok(buffer.into());
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Cuts standard input into lines until it ends; what was read when the end is asked for is still handed on. The error that
/// ended it, if one did.
pub(super) async fn follow(
    source: &Source,
    manner: &Manner,
    mut input: mpsc::Receiver<io::Result<Bytes>>,
    out: mpsc::Sender<Read>,
) -> io::Result<()> {
    // A silence ends nothing: what comes through a pipe comes when it likes.
    let mut lines = Lines::new(Ends { gap: None, ..manner.ends });
    let mut failed = Ok(());
    loop {
        let (bytes, mut cut) = (input.recv().await, Vec::new());
        let is_over = match bytes {
            Some(Ok(bytes)) if bytes.is_empty() => {
                lines.end(&mut cut);
                true
            }
            Some(Ok(bytes)) => {
                lines.push(&bytes, Instant::now(), &mut cut);
                false
            }
            Some(Err(error)) => {
                failed = Err(error);
                true
            }
            None => {
                if lines.held() > 0 {
                    tracing::warn!("{source}: left out {} bytes of a line that was not whole", lines.held());
                }
                true
            }
        };
        let read = Read { name: source.name, at_ns: manner.clock.wall_ns(), lines: cut };
        if (!read.lines.is_empty() && out.send(read).await.is_err()) || is_over {
            return failed;
        }
    }
}
