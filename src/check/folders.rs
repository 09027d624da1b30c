//! Reads data folders as a head reads its nodes: page by page, merged in the order of ids, each record once. Nothing is
//! written there, so a backup, a folder that another process writes, and one that may only be read do as well.
//!
//! Not here: whether anything is missing. `verify` counts that.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::sources::{self, Error};
use crate::client::reader::{Local, LocalEnd, Query};
use crate::data::index::BlockSizes;
use crate::data::query;
use crate::data::scan::{Absent, ScanBounds, Scanner};
use crate::data::segments::{CURRENT, INDEX, Segment, parse_index, sealed_id};
use crate::data::sidecar;
use crate::data::sources::{Marks, Sources};
use crate::data::storage::{Disk, Storage as _};
use crate::data::view::{CurrentFile, Sealed, SealedFile, View};
use crate::head::merge::Merge;
use crate::limits::{PAGE_BYTES_MAX, SEGMENTS_BYTES_MAX};
use crate::wire::id::RecordId;

/// A reader's source: the folders that these paths stand for, each once.
///
/// # Errors
/// One of them is no data folder, or there are too many.
pub(crate) fn local(paths: &[PathBuf]) -> Result<Local, Error> {
    let folders = sources::data_folders(paths)?;
    Ok(Local::new(move |query, send| read(&folders, query, send).map_err(|error| error.to_string())))
}

/// One folder, as it was when the read began.
struct Folder {
    path: PathBuf,
    view: View,
    scanner: Scanner<Disk>,
    /// Damaged lines and parts that were lost meanwhile.
    bad: u64,
}

fn read(folders: &[PathBuf], query: &Query, send: &mut dyn FnMut(RecordId, Bytes) -> bool) -> Result<LocalEnd, Error> {
    let mut open = folders.iter().map(|path| Folder::open(path)).collect::<Result<Vec<_>, _>>()?;
    let mut merge = Merge::new(query.from);
    (0..).zip(&open).for_each(|(node, _)| merge.add(node));
    let mut reached = query.from;
    while reached < query.until {
        for (node, folder) in (0..).zip(&mut open) {
            while let Some(from) = merge.wants(node, query.until) {
                let (next, lines) = folder.page(from, query)?;
                let failed = |error| io::Error::new(io::ErrorKind::InvalidData, error);
                merge.page(node, next, lines, PAGE_BYTES_MAX).map_err(failed).map_err(disk(&folder.path))?;
            }
        }
        let mut lines = BytesMut::new();
        reached = merge.take(&mut lines, PAGE_BYTES_MAX);
        if !send(reached, lines.freeze()) {
            break;
        }
    }
    let bad = open.iter().filter(|folder| folder.bad > 0);
    let damaged = bad.map(|Folder { path, bad, .. }| {
        // The parentheses are those of a node that cannot give all that it keeps.
        format!("{} ({bad} damaged lines; 'acopio verify' names them)", path.display())
    });
    Ok(LocalEnd { next: reached, missing: damaged.collect() })
}

impl Folder {
    fn open(path: &Path) -> Result<Self, Error> {
        let (view, disk) = look(path).map_err(disk(path))?;
        Ok(Self { path: path.to_owned(), view, scanner: Scanner::new(disk, ScanBounds::default()), bad: 0 })
    }

    fn page(&mut self, from: RecordId, query: &Query) -> Result<(RecordId, Bytes), Error> {
        let wanted = query::Query {
            from,
            until: query.until,
            client: query.client,
            sources: query.sources.clone(),
            bytes_max: PAGE_BYTES_MAX,
        };
        let page = self.scanner.page_with(&self.view, &wanted, Absent::IsLost);
        let page = page.map_err(io::Error::other).map_err(disk(&self.path))?;
        self.bad += u64::from(page.rotten);
        Ok((page.next, page.lines.into()))
    }
}

/// The files of a folder: what `segments.txt` says of those that it knows, and else what is in them.
fn look(path: &Path) -> io::Result<(View, Disk)> {
    let disk = Disk::open(path)?;
    // First, so that one which is sealed meanwhile is read under its old name, its new one, or both.
    let current = current(&disk)?;
    let listed = match disk.read_small(INDEX, SEGMENTS_BYTES_MAX) {
        Ok(text) => parse_index(&text).0,
        Err(_) => Vec::new(),
    };
    let mut sealed = Sealed::default();
    for (serial, name) in (1..).zip(disk.list()?.into_iter().filter(|name| sealed_id(name).is_some())) {
        let bytes = disk.look(&name)?.map_or(0, |seen| seen.bytes);
        let known = listed.iter().find(|segment| segment.file == name && segment.bytes == bytes).cloned();
        let (least, greatest) = (RecordId::ZERO, RecordId::MAX);
        // A file without any of the sources that are asked for is not touched.
        let index = sidecar::read(&disk, &name, bytes);
        let marks = index.map_or_else(Marks::default, |index| Marks::of(&index.sources));
        let segment = known.unwrap_or(Segment { file: name, records: 1, bytes, least, greatest });
        let file = SealedFile { serial, segment, ledgers: Arc::default(), marks };
        sealed.push(Arc::new(file), &Sources::default());
    }
    Ok((View::new(Arc::new(sealed), current), disk))
}

/// `data.txt` as far as its lines are whole: of one that is written, the last may not be.
fn current(disk: &Disk) -> io::Result<Option<CurrentFile>> {
    let reader = match disk.open_read(CURRENT) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let bytes = disk.look(CURRENT)?.map_or(0, |seen| seen.bytes);
    let (index, _) = sidecar::build(&*reader, bytes, BlockSizes::default())?;
    Ok(Some(CurrentFile {
        serial: 0,
        name: None,
        reader,
        bytes: index.bytes(),
        records: index.records(),
        greatest: index.greatest(),
        full: index.full_blocks(),
        open: index.open_block(),
        ledgers: Arc::default(),
        sources: index.sources().clone(),
    }))
}

fn disk(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    |source| Error::Disk { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::reader::{Config, Event, ReadError, read};
    use crate::data::record::{Fields, encode};
    use crate::wire::id::ClientId;
    use std::fs;

    fn id(n: u64) -> RecordId {
        RecordId { time_ns: 1_795_234_260_000_000_000 + n, incarnation: 7 }
    }

    fn line(n: u64) -> String {
        let mut out = Vec::new();
        let fields = Fields { id: id(n), client: ClientId(1), seq: n, place: None, source: None };
        encode(&mut out, fields, format!("m{n}").as_bytes()).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// What comes, and how it ends.
    async fn told(paths: &[PathBuf], query: Query) -> String {
        let mut reader = read(Config::from(local(paths).unwrap()), query);
        let mut words = Vec::new();
        while let Some(event) = reader.next().await {
            words.push(match event {
                Ok(Event::Message(message)) => message.text().to_owned(),
                Ok(Event::End { next, missing }) => format!("end {} {}", next == RecordId::MAX, missing.len()),
                Ok(other) => format!("{other:?}"),
                Err(ReadError::Missing { nodes }) => nodes.join(" "),
                Err(error) => error.to_string(),
            });
        }
        words.join(" ")
    }

    #[tokio::test(flavor = "current_thread")]
    async fn folders_are_merged_and_copies_come_once() {
        let dir = tempfile::tempdir().unwrap();
        let of = |name: &str| dir.path().join(name);
        for name in ["a", "b"] {
            fs::create_dir(of(name)).unwrap();
        }
        // Sealed without an index, a copy in the other folder, out of order, and a line that is being written.
        fs::write(of("a").join(format!("data-{}.txt", id(1))), [line(1), line(4)].concat()).unwrap();
        fs::write(of("a").join("data.txt"), [line(6), line(2), line(7)[..30].to_owned()].concat()).unwrap();
        fs::write(of("b").join("data.txt"), [line(1), line(3), line(6)].concat()).unwrap();
        let paths = [dir.path().to_owned()];
        assert_eq!(told(&paths, Query::default()).await, "m1 m2 m3 m4 m6 end true 0");
        let some = Query { from: id(2), until: id(6), ..Query::default() };
        assert_eq!(told(&paths, some).await, "m2 m3 m4 end false 0");
        assert_eq!(told(&paths, Query { client: Some(ClientId(2)), ..Query::default() }).await, "end true 0");
        let damaged = [line(2), line(3).replace("m3", "m9"), line(5)].concat();
        fs::write(of("b").join("data.txt"), damaged).unwrap();
        let found = told(&paths, Query::default()).await;
        assert!(found.starts_with("m1 m2 m4 m5 m6 ") && found.contains("b (1 damaged lines; 'acopio"), "{found}");
        let before = fs::read_dir(of("a")).unwrap().count();
        assert_eq!(before, 2, "nothing is written there");
    }
}
