//! Reads a file ahead of who looks through it, on a thread of its own: reading and checking take about as long as each
//! other, so they go on side by side. For files that are read from their start to their end; it knows nothing of records.

use std::io;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Builder, Scope};

use crate::data::storage::{DiskFile, LogFile as _};
use crate::limits::{AHEAD_CHUNKS_MAX, SCAN_CHUNK_BYTES};

/// A piece of the file.
struct Chunk {
    at: u64,
    bytes: Vec<u8>,
}

/// A file that is read ahead.
pub(crate) struct Ahead<'a> {
    file: &'a DiskFile,
    /// None if the system gave no thread: then it is read when it is wanted.
    chunks: Option<Receiver<io::Result<Chunk>>>,
    /// Buffers that were looked through go back to be filled: fresh memory takes longer to get than to fill.
    spent: Sender<Vec<u8>>,
    now: Chunk,
}

impl<'a> Ahead<'a> {
    /// Begins with a file. The thread ends with the file, or soon after this is dropped.
    pub(crate) fn start<'scope>(scope: &'scope Scope<'scope, 'a>, file: &'a DiskFile) -> Self
    where
        'a: 'scope,
    {
        let (sender, chunks) = sync_channel(AHEAD_CHUNKS_MAX);
        // No more than there are chunks.
        let (spent, spare) = channel();
        let thread =
            Builder::new().name("ahead".to_owned()).spawn_scoped(scope, move || send_all(file, &sender, &spare));
        Self { file, chunks: thread.is_ok().then_some(chunks), spent, now: Chunk { at: 0, bytes: Vec::new() } }
    }

    /// Reads from `at` into `buffer`; answers how many bytes, 0 only at the end of the file. Places have to come in order
    /// to have been read ahead; others are read now.
    ///
    /// # Errors
    /// What the system says of the file.
    pub(crate) fn read_at(&mut self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        loop {
            let from = at.checked_sub(self.now.at).and_then(|from| usize::try_from(from).ok());
            if let Some(rest) = from.and_then(|from| self.now.bytes.get(from..)).filter(|rest| !rest.is_empty()) {
                let n = rest.len().min(buffer.len());
                if let (Some(to), Some(rest)) = (buffer.get_mut(..n), rest.get(..n)) {
                    to.copy_from_slice(rest);
                }
                return Ok(n);
            }
            let is_behind = self.now.at <= at;
            match self.chunks.as_ref().filter(|_| is_behind).and_then(|chunks| chunks.recv().ok()) {
                Some(chunk) => {
                    let spent = std::mem::replace(&mut self.now, chunk?).bytes;
                    // The thread may have read everything and gone.
                    let _gone = self.spent.send(spent);
                }
                None => return self.file.read_at(buffer, at),
            }
        }
    }
}

/// Sends the whole file, as long as somebody takes it.
fn send_all(file: &DiskFile, sender: &SyncSender<io::Result<Chunk>>, spare: &Receiver<Vec<u8>>) {
    let mut at = 0;
    loop {
        let mut bytes = spare.try_recv().unwrap_or_default();
        bytes.resize(SCAN_CHUNK_BYTES, 0);
        let read = file.read_at(&mut bytes, at);
        let got = *read.as_ref().unwrap_or(&0);
        bytes.truncate(got);
        let is_last = got == 0;
        if sender.send(read.map(|_| Chunk { at, bytes })).is_err() || is_last {
            return;
        }
        at += got as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::storage::{Disk, Storage as _};

    #[test]
    fn it_is_the_file_in_whatever_pieces_it_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let whole: Vec<u8> = (0..3 * SCAN_CHUNK_BYTES as u32 + 7).map(|n| (n % 251) as u8).collect();
        std::fs::write(dir.path().join("f"), &whole).unwrap();
        let file = Disk::open(dir.path()).unwrap().open_append("f").unwrap();
        std::thread::scope(|scope| {
            let mut ahead = Ahead::start(scope, &file);
            let mut seen = Vec::new();
            let mut buffer = vec![0; 300_000];
            loop {
                let n = ahead.read_at(&mut buffer, seen.len() as u64).unwrap();
                if n == 0 {
                    break;
                }
                seen.extend_from_slice(&buffer[..n]);
            }
            assert!(seen == whole);
            let n = ahead.read_at(&mut buffer, 5).unwrap();
            assert!(n > 0 && buffer[..n] == whole[5..5 + n], "back again");
        });
        std::thread::scope(|scope| {
            // Dropped in the middle: the thread ends, or this test would not.
            let mut ahead = Ahead::start(scope, &file);
            assert!(ahead.read_at(&mut [0; 10], 0).unwrap() > 0);
        });
    }
}
