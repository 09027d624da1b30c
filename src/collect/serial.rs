//! A serial line: opened without waiting for anybody, set as its instrument wants it, read and written without blocking.
//!
//! The settings go through `rustix`, which is there for the terminal and the locks: no other crate is needed for them.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::termios::{self, ControlModes, InputModes, OptionalActions, QueueSelector, Termios};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::files::SAFELY;

/// How bits follow each other on the line: 8N1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode {
    pub(crate) bits: Bits,
    pub(crate) parity: Parity,
    pub(crate) two_stop_bits: bool,
}

/// Bits of a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bits {
    Five,
    Six,
    Seven,
    Eight,
}

/// The bit that tells of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parity {
    None,
    Even,
    Odd,
}

/// How the two ends ask each other to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// They do not.
    None,
    /// By the wires RTS and CTS.
    Rts,
    /// By the bytes XON and XOFF.
    Xon,
}

/// Settings of a serial line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) baud: u32,
    pub(crate) mode: Mode,
    pub(crate) flow: Flow,
}

impl std::str::FromStr for Mode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "write bits, parity and stop bits: 8N1, 7E1, 8O1, 8N2";
        let [bits, parity, stop] = text.as_bytes() else { return Err(WANTED) };
        let bits = match bits {
            b'5' => Bits::Five,
            b'6' => Bits::Six,
            b'7' => Bits::Seven,
            b'8' => Bits::Eight,
            _ => return Err(WANTED),
        };
        let parity = match parity.to_ascii_uppercase() {
            b'N' => Parity::None,
            b'E' => Parity::Even,
            b'O' => Parity::Odd,
            _ => return Err(WANTED),
        };
        let two_stop_bits = match stop {
            b'1' => false,
            b'2' => true,
            _ => return Err(WANTED),
        };
        Ok(Self { bits, parity, two_stop_bits })
    }
}

impl std::str::FromStr for Flow {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            "rts" => Ok(Self::Rts),
            "xon" => Ok(Self::Xon),
            _ => Err("write none, rts (the wires RTS and CTS) or xon (the bytes XON and XOFF)"),
        }
    }
}

impl Settings {
    /// Puts them into those of a terminal.
    fn apply(&self, line: &mut Termios) -> io::Result<()> {
        line.make_raw();
        line.control_modes -= ControlModes::CSIZE
            | ControlModes::PARENB
            | ControlModes::PARODD
            | ControlModes::CSTOPB
            | ControlModes::CRTSCTS;
        // No modem, and no word of one, is waited for.
        line.control_modes |= ControlModes::CREAD | ControlModes::CLOCAL;
        line.control_modes |= match self.mode.bits {
            Bits::Five => ControlModes::CS5,
            Bits::Six => ControlModes::CS6,
            Bits::Seven => ControlModes::CS7,
            Bits::Eight => ControlModes::CS8,
        };
        line.control_modes |= match self.mode.parity {
            Parity::None => ControlModes::empty(),
            Parity::Even => ControlModes::PARENB,
            Parity::Odd => ControlModes::PARENB | ControlModes::PARODD,
        };
        line.control_modes.set(ControlModes::CSTOPB, self.mode.two_stop_bits);
        line.control_modes.set(ControlModes::CRTSCTS, self.flow == Flow::Rts);
        line.input_modes -= InputModes::IXON | InputModes::IXOFF | InputModes::IXANY;
        line.input_modes.set(InputModes::IXON | InputModes::IXOFF, self.flow == Flow::Xon);
        Ok(line.set_speed(self.baud)?)
    }
}

/// An open serial line.
#[derive(Debug)]
pub(super) struct Serial(AsyncFd<File>);

impl Serial {
    /// Opens it, takes it for this process alone, and sets it.
    ///
    /// # Errors
    /// It is away, another's, or no serial line.
    pub(super) fn open(path: &Path, settings: &Settings) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).custom_flags(SAFELY.bits().cast_signed()).open(path);
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => {
                io::Error::new(error.kind(), format!("{error}; give this user the right, often by the group dialout"))
            }
            _ => error,
        })?;
        if !termios::isatty(&file) {
            let words = "it is no serial line; a file or a FIFO is read with: acopio collect - <FILE";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, words));
        }
        match file.try_lock() {
            // Of a line that can't be locked nobody knows who else reads it.
            Ok(()) | Err(TryLockError::Error(_)) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other("another process has it; stop that one ('fuser -v' tells who it is)"));
            }
        }
        let mut line = termios::tcgetattr(&file)?;
        settings.apply(&mut line)?;
        termios::tcsetattr(&file, OptionalActions::Now, &line)?;
        check(&termios::tcgetattr(&file)?, &line)?;
        // What came before it was set was heard wrong.
        termios::tcflush(&file, QueueSelector::IFlush)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for who hands over what is closed elsewhere; this file is nobody else's"
        )]
        AsyncFd::new(file).map(Self)
    }
}

/// The system takes settings in part, and says nothing of the rest.
fn check(is: &Termios, wanted: &Termios) -> io::Result<()> {
    let (got, asked) = (is.input_speed(), wanted.input_speed());
    // Both ends follow each other as long as they differ by less than half a bit in ten.
    if got.abs_diff(asked) > asked / 32 {
        return Err(io::Error::other(format!("it does not do {asked} baud, only {got}; choose another --baud")));
    }
    let bits = ControlModes::CSIZE | ControlModes::PARENB | ControlModes::PARODD | ControlModes::CSTOPB;
    // A pseudo terminal has no parity, and reads all the same.
    if is.control_modes & bits != wanted.control_modes & bits {
        tracing::warn!("the serial line does not take all of --mode: it has no such bits or parity");
    }
    Ok(())
}

impl AsyncRead for Serial {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            let room = buf.initialize_unfilled();
            if let Ok(read) = guard.try_io(|line| line.get_ref().read(room)) {
                return Poll::Ready(read.map(|read| buf.advance(read)));
            }
        }
    }
}

impl AsyncWrite for Serial {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            if let Ok(written) = guard.try_io(|line| line.get_ref().write(bytes)) {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_as_they_are_written() {
        let mode = |text: &str| text.parse::<Mode>();
        assert_eq!(mode("8N1"), Ok(Mode { bits: Bits::Eight, parity: Parity::None, two_stop_bits: false }));
        assert_eq!(mode("7e2"), Ok(Mode { bits: Bits::Seven, parity: Parity::Even, two_stop_bits: true }));
        assert_eq!(mode("5O1").unwrap().parity, Parity::Odd);
        for wrong in ["", "8N", "9N1", "8X1", "8N3", "8N1 ", "8N1.5"] {
            assert!(mode(wrong).unwrap_err().contains("8N1"), "{wrong}");
        }
    }
}
