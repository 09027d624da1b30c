//! Lines that were read and are not kept by the cluster yet: in memory, or in a spool.
//!
//! Each has the client identity and the number under which it is sent, however often, so that readers see it once.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;

use super::spool::Spool;
use crate::limits::{COLLECT_LINE_EXTRA_BYTES, COLLECT_MEMORY_BYTES};
use crate::wire::id::ClientId;
use crate::wire::source::SourceName;

/// A line as it is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// The identity under which it is sent.
    pub(super) client: ClientId,
    /// Its number.
    pub(super) seq: u64,
    pub(super) source: Option<SourceName>,
    pub(super) payload: Bytes,
}

/// Why a line was not taken in.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotTaken {
    /// There is no room before others are kept.
    #[error("{0}")]
    Full(&'static str),
    /// The spool cannot be written.
    #[error("the spool cannot be written: {0}; free space or mend the disk")]
    Disk(#[from] io::Error),
}

/// Where they wait.
#[derive(Debug)]
pub(super) enum Queue {
    Memory(Memory),
    Spool(Box<Spool>),
}

impl Queue {
    /// Takes a line in, behind the others.
    ///
    /// # Errors
    /// There is no place for it; nothing of it is taken.
    pub(super) fn push(&mut self, source: Option<SourceName>, at_ns: u64, payload: Bytes) -> Result<(), NotTaken> {
        match self {
            Self::Memory(memory) => memory.push(source, payload),
            Self::Spool(spool) => spool.push(source, at_ns, payload),
        }
    }

    /// The next line that was not handed over; [`Self::hand_over`] makes it the one behind it.
    ///
    /// # Errors
    /// The spool cannot be read.
    pub(super) fn next(&mut self) -> io::Result<Option<Waiting>> {
        match self {
            Self::Memory(memory) => Ok(memory.next()),
            Self::Spool(spool) => spool.next(),
        }
    }

    /// The next line is with the client.
    pub(super) fn hand_over(&mut self) {
        match self {
            Self::Memory(memory) => memory.handed += 1,
            Self::Spool(spool) => spool.hand_over(),
        }
    }

    /// The cluster keeps so many more lines of this identity, up to this number.
    pub(super) fn kept(&mut self, client: ClientId, seq: u64, lines: u64) {
        match self {
            Self::Memory(memory) => memory.kept(lines),
            Self::Spool(spool) => spool.kept(client, seq, lines),
        }
    }

    /// What was handed over and is not kept is handed over again.
    pub(super) fn rewind(&mut self) {
        match self {
            Self::Memory(memory) => memory.handed = 0,
            Self::Spool(spool) => spool.rewind(),
        }
    }

    /// Lines that are not kept.
    pub(super) fn waiting(&self) -> u64 {
        match self {
            Self::Memory(memory) => memory.lines.len() as u64,
            Self::Spool(spool) => spool.waiting(),
        }
    }

    pub(super) fn spool(&mut self) -> Option<&mut Spool> {
        match self {
            Self::Memory(_) => None,
            Self::Spool(spool) => Some(spool),
        }
    }
}

/// Lines in memory.
#[derive(Debug)]
pub(super) struct Memory {
    client: ClientId,
    /// The number of the first line.
    first: u64,
    lines: VecDeque<(Option<SourceName>, Bytes)>,
    /// So many of them were handed over.
    handed: usize,
    bytes: u64,
}

impl Memory {
    pub(super) const fn new(client: ClientId) -> Self {
        Self { client, first: 1, lines: VecDeque::new(), handed: 0, bytes: 0 }
    }

    const fn weight(payload: &Bytes) -> u64 {
        payload.len() as u64 + COLLECT_LINE_EXTRA_BYTES
    }

    fn push(&mut self, source: Option<SourceName>, payload: Bytes) -> Result<(), NotTaken> {
        if self.bytes + Self::weight(&payload) > COLLECT_MEMORY_BYTES {
            return Err(NotTaken::Full(
                "the memory for lines that wait is full; see that a head runs, or name a --spool",
            ));
        }
        self.bytes += Self::weight(&payload);
        self.lines.push_back((source, payload));
        Ok(())
    }

    fn next(&self) -> Option<Waiting> {
        let (source, payload) = self.lines.get(self.handed)?;
        let seq = self.first + self.handed as u64;
        Some(Waiting { client: self.client, seq, source: *source, payload: payload.clone() })
    }

    fn kept(&mut self, lines: u64) {
        for _ in 0..lines {
            let Some((_, payload)) = self.lines.pop_front() else { return };
            self.bytes -= Self::weight(&payload);
            self.first += 1;
            self.handed = self.handed.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_hands_over_again_what_is_not_kept() {
        let client = ClientId::of_library(7);
        let mut queue = Queue::Memory(Memory::new(client));
        for text in ["a", "b", "c"] {
            queue.push(None, 0, text.into()).unwrap();
        }
        let seen = |queue: &mut Queue| {
            let mut seen = Vec::new();
            while let Some(line) = queue.next().unwrap() {
                queue.hand_over();
                seen.push((line.seq, line.payload));
            }
            seen
        };
        let of = |lines: &[(u64, &'static str)]| {
            lines.iter().map(|(seq, text)| (*seq, Bytes::from(*text))).collect::<Vec<_>>()
        };
        assert_eq!(seen(&mut queue), of(&[(1, "a"), (2, "b"), (3, "c")]));
        queue.kept(client, 2, 2);
        assert_eq!((queue.waiting(), seen(&mut queue).len()), (1, 0));
        queue.rewind();
        assert_eq!(seen(&mut queue), of(&[(3, "c")]));
        let long = Bytes::from(vec![b'x'; 1 << 20]);
        let taken = (0..100).take_while(|_| queue.push(None, 0, long.clone()).is_ok()).count();
        assert_eq!(taken, 63);
        queue.kept(client, 4, 2);
        queue.push(None, 0, long).unwrap();
    }
}
