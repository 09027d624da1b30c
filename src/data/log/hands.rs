//! What the log does about those who rename, replace, cut or write into its files while they are open: it looks, takes in what
//! does no harm, and stops until the rest is as it was. [`standing`](super::super::standing) judges.

use std::sync::Arc;

use super::{Log, LogError};
use crate::data::record;
use crate::data::recover::{self, Place, TornTail};
use crate::data::scan::read_exact;
use crate::data::segments::{CURRENT, Segment};
use crate::data::standing::{Alteration, Known, Standing, judge};
use crate::data::storage::{LogFile as _, Room, Storage};
use crate::limits::DISK_RESUME_BYTES_MIN;

/// What somebody else wrote into `data.txt`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Foreign {
    /// Bytes that are no records and that nothing was said about yet.
    pub(crate) bytes: u64,
    /// Where they begin.
    pub(crate) offset: u64,
}

impl<S: Storage> Log<S> {
    /// What the path of `data.txt` leads to, which is to have so many bytes, and this many at least.
    pub(super) fn stand(&mut self, least: u64, bytes: u64) -> Result<Standing, LogError> {
        let Some(current) = self.current.as_ref() else { return Ok(Standing::Same) };
        match self.storage.look(CURRENT) {
            Ok(seen) => Ok(judge(seen, Known { id: current.id, bytes, least })),
            Err(error) => {
                Err(self.alter(format!("cannot look at {CURRENT}: {error}; nothing is stored here until that works")))
            }
        }
    }

    /// Takes back a batch that is not acknowledged, if it is the end of the file that is open.
    pub(super) fn take_back(&mut self, lines: &[u8], alteration: Alteration) -> LogError {
        let Some(current) = self.current.as_mut() else { return LogError::NotLines };
        let mut last = vec![0; lines.len()];
        let before = current.file.len().ok().and_then(|len| len.checked_sub(lines.len() as u64));
        let mut ours =
            |from| read_exact(&*current.reader, &mut last, from).is_ok_and(|got| got == lines.len()) && last == lines;
        let Some(before) = before.filter(|from| ours(*from)) else { return self.altered(alteration) };
        if let Err(error) = current.file.truncate(before) {
            return self.poison("take back a batch", &error);
        }
        self.altered(match alteration {
            Alteration::Shorter { least, .. } => {
                Alteration::Shorter { bytes: before, least: least.saturating_sub(lines.len() as u64) }
            }
            other => other,
        })
    }

    /// `data.txt` was altered.
    pub(super) fn altered(&mut self, alteration: Alteration) -> LogError {
        self.is_lost |= !alteration.may_pass();
        self.alter(alteration.of_current(CURRENT))
    }

    /// Files were altered.
    pub(super) fn alter(&mut self, what: String) -> LogError {
        let error = LogError::Altered(what.into());
        self.stopped = Some(error.clone());
        error
    }

    /// Takes in what lies behind the last record that is known, up to `len`: records, and what somebody else wrote. Answers
    /// whether `lines` is there whole.
    pub(super) fn take_stock(&mut self, len: u64, lines: &[u8]) -> Result<bool, LogError> {
        let Some(current) = self.current.as_mut() else { return Ok(false) };
        let (from, reader, index) = (current.index.bytes(), Arc::clone(&current.reader), &mut current.index);
        let wanted = record::decode(lines.split(|byte| *byte == b'\n').next().unwrap_or_default()).ok();
        let mut at = None;
        let scanned = recover::scan(
            len.saturating_sub(from),
            |buffer, at| reader.read_at(buffer, from + at),
            |place, line| {
                index.line(Place { offset: from + place.offset, ..place }, line);
                if wanted.as_ref().is_some_and(|first| first.id == line.id) {
                    at = Some(from + place.offset);
                }
            },
        );
        let whole = scanned.and_then(|found| {
            let mut there = vec![0; lines.len()];
            let got = at.map_or(Ok(0), |at| read_exact(&*reader, &mut there, at))?;
            let mut last = [b'\n'];
            read_exact(&*reader, &mut last, len.saturating_sub(1))?;
            Ok((found, got == lines.len() && there == lines, last == *b"\n"))
        });
        let (mut found, is_whole, ends) = match whole {
            Ok(whole) => whole,
            Err(error) => return Err(self.poison("read what was written", &error)),
        };
        for place in found.rot.iter_mut().map(|bad| &mut bad.place) {
            place.offset += from;
        }
        current.tail = found.torn.map(|tail| TornTail { offset: tail.offset + from, ..tail });
        (current.len, current.open_end) = (len, current.tail.is_some() && !ends);
        let bad = found.rot.iter().map(|bad| (bad.place.offset, bad.place.len));
        let bad = bad.chain(current.tail.map(|tail| (tail.offset, tail.len)));
        for (offset, bytes) in bad.filter(|(offset, bytes)| offset + bytes > current.told) {
            if self.foreign.bytes == 0 {
                self.foreign.offset = offset;
            }
            self.foreign.bytes += bytes.min(offset + bytes - current.told);
        }
        current.told = len;
        self.name_current(found.first_id);
        Ok(is_whole)
    }

    /// Whether others wrote something since that was last taken.
    pub(crate) fn met_foreign(&self) -> bool {
        self.foreign != Foreign::default()
    }

    /// What others wrote into `data.txt` since this was asked last.
    pub(crate) fn take_foreign(&mut self) -> Option<Foreign> {
        let foreign = std::mem::take(&mut self.foreign);
        (foreign != Foreign::default()).then_some(foreign)
    }

    /// Looks whether `data.txt` is the file that is open, whether a log that was altered or full can go on, and, if `all`
    /// are to be looked at, whether the sealed files are there. `true` if the log takes batches now.
    /// Errors: [`LogError::Poisoned`].
    pub(crate) fn look(&mut self, all: bool) -> Result<bool, LogError> {
        let was_altered = match &self.stopped {
            Some(LogError::Full { .. }) => return Ok(self.has_room()),
            Some(LogError::Altered(_)) => true,
            Some(error) => return Err(error.clone()),
            None => false,
        };
        if self.is_lost {
            return Ok(false);
        }
        match self.settle().and_then(|()| if all || was_altered { self.look_at_sealed() } else { Ok(()) }) {
            Ok(()) => self.stopped = None,
            Err(LogError::Altered(_)) => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Sees that `data.txt` is the file that is open, and takes in what somebody else wrote into it.
    pub(super) fn settle(&mut self) -> Result<(), LogError> {
        let Some((least, bytes)) = self.current.as_ref().map(|current| (current.index.bytes(), current.len)) else {
            return Ok(());
        };
        match self.stand(least, bytes)? {
            Standing::Same => Ok(()),
            Standing::Other(len) => self.take_stock(len, &[]).map(|_whole| ()),
            Standing::Altered(alteration) => Err(self.altered(alteration)),
        }
    }

    /// Sees that all sealed files are there and as long as they were.
    fn look_at_sealed(&mut self) -> Result<(), LogError> {
        for file in self.sealed.files() {
            let Segment { file, bytes, .. } = &file.segment;
            let what = match self.storage.look(file) {
                Ok(seen) => match judge(seen, Known { id: None, bytes: *bytes, least: *bytes }) {
                    Standing::Altered(alteration) => alteration.of_sealed(file),
                    Standing::Same | Standing::Other(_) => continue,
                },
                Err(error) => format!("cannot look at {file}: {error}; nothing is stored here until that works"),
            };
            return Err(self.alter(what));
        }
        Ok(())
    }

    /// Bytes that may still be written to the disk, if it tells.
    pub(crate) fn free(&self) -> Option<u64> {
        self.storage.room().ok().map(|room| room.bytes)
    }

    /// Whether a full disk has room again, and goes on if so.
    fn has_room(&mut self) -> bool {
        let room = |room: Room| room.bytes >= DISK_RESUME_BYTES_MIN && room.files != Some(0);
        let has_room = self.storage.room().is_ok_and(room);
        if has_room {
            self.stopped = None;
        }
        has_room
    }

    /// Some file systems of networks tell another identity by the path than by the open file: it tells nothing then.
    pub(super) fn know_file(&mut self) {
        if let (Some(current), Ok(Some(seen))) = (self.current.as_mut(), self.storage.look(CURRENT))
            && current.id != Some(seen.id)
        {
            current.id = None;
        }
    }
}
