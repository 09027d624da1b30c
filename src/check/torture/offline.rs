//! What can be read, from the files of data nodes: every good record of every node, merged by id.
//!
//! It drops what a reader drops: second copies (the same id), and messages that were sent again (the same client and
//! number), of which the first is kept. It does not put a client's messages in order, as a reader does.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::verdict::{Message, Read};
use crate::data::recover;
use crate::data::segments::is_data;
use crate::data::storage::{DiskFile, LogFile as _};
use crate::wire::id::{ClientId, RecordId};
use crate::wire::source::SourceName;

/// A folder could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {source}; look at the disk", path.display())]
pub(crate) struct Error {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// A good record, and which node has it.
#[derive(Clone, Copy)]
struct Found {
    id: RecordId,
    client: ClientId,
    seq: u64,
    source: Option<SourceName>,
    message: Option<(Message, bool)>,
    node: usize,
}

impl Found {
    const fn as_read(&self) -> Read {
        Read { id: self.id, client: self.client, seq: self.seq, source: self.source, message: self.message }
    }
}

/// What the files of a cluster hold.
#[derive(Debug)]
pub(crate) struct Offline {
    /// What a reader gets, in the order of ids.
    pub(crate) reads: Vec<Read>,
    /// Messages, and on how many nodes there is a good record of each. In no order.
    pub(crate) copies: Vec<(Message, usize)>,
    /// Lines that are no good record.
    pub(crate) bad_lines: u64,
}

/// Reads the folders of all data nodes.
///
/// # Errors
/// A folder or a file can't be read.
pub(crate) fn read(folders: &[PathBuf]) -> Result<Offline, Error> {
    let mut found = Vec::new();
    let mut bad_lines = 0;
    for (node, folder) in folders.iter().enumerate() {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error { path, source }
        };
        for entry in fs::read_dir(folder).map_err(failed(folder))? {
            let path = entry.map_err(failed(folder))?.path();
            if path.file_name().and_then(|name| name.to_str()).is_some_and(is_data) {
                bad_lines += read_file(&path, node, &mut found).map_err(failed(&path))?;
            }
        }
    }
    found.sort_unstable_by_key(|record| (record.client, record.seq, record.id, record.node));
    let mut reads: Vec<Read> = Vec::new();
    let mut copies = Vec::new();
    for same in found.chunk_by(|a, b| (a.client, a.seq) == (b.client, b.seq)) {
        let Some(first) = same.first() else { continue };
        reads.push(first.as_read());
        // Two messages under one number would hide behind each other.
        for other in same.iter().filter(|other| (other.message, other.source) != (first.message, first.source)) {
            reads.push(other.as_read());
        }
        if let Some((message, _)) = first.message {
            let mut nodes: Vec<usize> = same.iter().map(|record| record.node).collect();
            nodes.sort_unstable();
            nodes.dedup();
            copies.push((message, nodes.len()));
        }
    }
    reads.sort_unstable_by_key(|read| (read.id, read.client, read.seq));
    Ok(Offline { reads, copies, bad_lines })
}

fn read_file(path: &Path, node: usize, found: &mut Vec<Found>) -> io::Result<u64> {
    let file = DiskFile::open_read(path)?;
    let len = fs::metadata(path)?.len();
    let scan = recover::scan(
        len,
        |buffer, at| file.read_at(buffer, at),
        |_, line| {
            let message = Message::parse(&line.payload());
            found.push(Found { id: line.id, client: line.client, seq: line.seq, source: line.source, message, node });
        },
    )?;
    Ok(scan.rot_lines + u64::from(scan.torn.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::record::{Fields, encode};

    fn write(dir: &Path, name: &str, records: &[(u64, u64, u64, &str)]) {
        let mut out = Vec::new();
        for &(time, client, seq, payload) in records {
            let id = RecordId { time_ns: 1_795_234_260_000_000_000 + time, incarnation: 1 };
            encode(
                &mut out,
                Fields { id, client: ClientId(client), seq, place: None, source: None },
                payload.as_bytes(),
            )
            .unwrap();
        }
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join(name), out).unwrap();
    }

    #[test]
    fn copies_and_repetitions_are_read_once_and_in_the_order_of_ids() {
        let dir = tempfile::tempdir().unwrap();
        let folders: Vec<PathBuf> = (1..=2).map(|k| dir.path().join(format!("data{k}"))).collect();
        write(&folders[0], "data-1795234260----0----6.txt", &[(20, 7, 2, "torture 0 2"), (10, 7, 1, "torture 0 1")]);
        write(&folders[0], "data.txt", &[(30, 7, 1, "torture 0 1")]);
        write(
            &folders[1],
            "data.txt",
            &[(10, 7, 1, "torture 0 1"), (5, 9, 1, "mensaje: torture 1 1"), (6, 9, 2, "que?")],
        );
        fs::write(folders[1].join("node.state"), "no records").unwrap();
        let found = read(&folders).unwrap();
        let messages: Vec<Option<u64>> = found.reads.iter().map(|read| Some(read.message?.0.n)).collect();
        assert_eq!(messages, [Some(1), None, Some(1), Some(2)]);
        let mut copies = found.copies;
        copies.sort_unstable();
        let message = |writer, n| Message { writer, n };
        assert_eq!(copies, [(message(0, 1), 2), (message(0, 2), 1), (message(1, 1), 1)]);
    }

    #[test]
    fn a_rotten_line_is_not_read_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "data.txt", &[(1, 7, 1, "torture 0 1"), (2, 7, 2, "torture 0 2"), (3, 7, 3, "torture 0 3")]);
        let mut bytes = fs::read(dir.path().join("data.txt")).unwrap();
        let line = bytes.len() / 3;
        bytes[line + 20] ^= 1;
        fs::write(dir.path().join("data.txt"), bytes).unwrap();
        let found = read(&[dir.path().to_owned()]).unwrap();
        assert_eq!((found.reads.len(), found.bad_lines), (2, 1));
    }

    #[test]
    fn one_number_for_two_messages_shows_both() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "data.txt", &[(1, 7, 1, "torture 0 1"), (2, 7, 1, "torture 0 2")]);
        assert_eq!(read(&[dir.path().to_owned()]).unwrap().reads.len(), 2);
    }
}
