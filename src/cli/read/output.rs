//! Standard output of a read. It is written by a thread of the runtime's, so that a signal is heard while nobody reads it.

use std::io;

use tokio::io::{AsyncWrite, AsyncWriteExt as _, Stdout};

/// Why printing stops early.
pub(super) enum Stop {
    /// Nothing failed: who reads the output has closed it, or Ctrl-C.
    Enough,
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// What was made and is not yet written.
pub(super) struct Output<W = Stdout> {
    out: W,
    pub(super) buffer: Vec<u8>,
    /// How much of the buffer is in `out`: a signal may end a flush anywhere, and the next goes on from there.
    written: usize,
}

impl<W: AsyncWrite + Unpin> Output<W> {
    pub(super) const fn new(out: W) -> Self {
        Self { out, buffer: Vec::new(), written: 0 }
    }

    /// Writes all of it.
    pub(super) async fn flush(&mut self) -> Result<(), Stop> {
        let written = self.write().await;
        self.buffer.clear();
        self.written = 0;
        written.or_else(closed)
    }

    async fn write(&mut self) -> io::Result<()> {
        while let Some(rest) = self.buffer.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.out.write(rest).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                more => self.written += more,
            }
        }
        self.out.flush().await
    }
}

/// What an error of the output means: who reads it may have had enough.
fn closed(error: io::Error) -> Result<(), Stop> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Err(Stop::Enough);
    }
    Err(Stop::Failed(anyhow::Error::new(error).context("cannot print messages; give them a standard output")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test(flavor = "current_thread")]
    async fn what_a_signal_interrupts_is_printed_once() {
        let (ours, mut theirs) = tokio::io::duplex(4);
        let mut output = Output::new(ours);
        output.buffer.extend_from_slice(b"uno dos tres");
        tokio::select! {
            biased;
            _ = output.flush() => unreachable!("nobody reads"),
            () = std::future::ready(()) => {}
        }
        let mut text = String::new();
        let flushed = async {
            let flushed = output.flush().await.is_ok();
            drop(output);
            flushed
        };
        let (flushed, read) = tokio::join!(flushed, theirs.read_to_string(&mut text));
        assert!(flushed && read.is_ok());
        assert_eq!(text, "uno dos tres");
    }
}
