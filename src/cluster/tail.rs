//! What members write to their files, as it comes, for who looks on.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::plan::{Kind, Member};
use super::screen::Screen;
use super::ways::Ways;
use crate::{files, limits};

/// Shows the lines that come to the file that tells what a member keeps, until the end was asked for: a head's
/// registro, a data node's records.
pub(crate) async fn show(member: Member, screen: Screen, ending: CancellationToken) {
    let file = match member.kind {
        Kind::Head => "registro.log",
        Kind::Data => "data.txt",
        _ => return,
    };
    let mut tail = Tail::at_end(member.dir.join(file));
    while !ending.is_cancelled() {
        // A file that can't be read now is told of by who writes it.
        for line in tail.lines().unwrap_or_default() {
            screen.show(member.kind, &member.name, &line);
        }
        sleep(limits::TAIL_EVERY).await;
    }
}

/// Shows what heads and data nodes of `up` write, and of its own clients' messages their ways alone.
pub(crate) async fn show_ways(members: Vec<Member>, screen: Screen, ways: Arc<Mutex<Ways>>, ending: CancellationToken) {
    let of = |kind| members.iter().filter(move |member| member.kind == kind);
    let mut heads: Vec<(String, Tail)> =
        of(Kind::Head).map(|head| (head.name.clone(), Tail::at_end_numbered(head.dir.join("registro.log")))).collect();
    let mut nodes: Vec<(String, Tail)> =
        of(Kind::Data).map(|node| (node.name.clone(), Tail::at_end(node.dir.join("data.txt")))).collect();
    while !ending.is_cancelled() {
        // A record is written before its line of the registro: whoever is in these lines is in the records that follow.
        let mut noted = Vec::new();
        for (head, tail) in &mut heads {
            noted.extend(
                tail.numbered().unwrap_or_default().into_iter().map(|(number, line)| (head.clone(), number, line)),
            );
        }
        for (node, tail) in &mut nodes {
            for line in tail.lines().unwrap_or_default() {
                if !lock(&ways).kept(node, &line) {
                    screen.show(Kind::Data, node, &line);
                }
            }
        }
        for (head, number, line) in noted {
            if !lock(&ways).noted(&head, number, &line) {
                screen.show(Kind::Head, &head, &line);
            }
        }
        let told = lock(&ways).told(SystemTime::now());
        told.into_iter().for_each(|told| screen.tell(Kind::Client, &told.client, &told.text));
        // It is ended as soon as it is told to: nobody shows anything after it.
        drop(timeout(limits::TAIL_EVERY, ending.cancelled()).await);
    }
}

/// The ways. A panic while they were held is a bug that has been reported already.
pub(crate) fn lock(ways: &Mutex<Ways>) -> MutexGuard<'_, Ways> {
    ways.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file whose new lines are read; it may not be there yet, and may be replaced by another one.
#[derive(Debug)]
pub(crate) struct Tail {
    path: PathBuf,
    at: u64,
    rest: Vec<u8>,
    /// Lines before the next one, where they are counted.
    number: u64,
}

impl Tail {
    /// Begins behind what is there.
    #[must_use]
    pub(crate) fn at_end(path: PathBuf) -> Self {
        let at = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
        Self { path, at, rest: Vec::new(), number: 0 }
    }

    /// The same, and lines are numbered as in the file: reads it once.
    pub(crate) fn at_end_numbered(path: PathBuf) -> Self {
        let counted = || -> io::Result<(u64, u64)> {
            let mut file = files::read(&path)?;
            let (mut bytes, mut lines, mut chunk) = (0, 0, vec![0; limits::READ_BUFFER_BYTES]);
            loop {
                let read = file.read(&mut chunk)?;
                let Some(read) = chunk.get(..read).filter(|read| !read.is_empty()) else { break };
                bytes += read.len() as u64;
                lines += memchr::memchr_iter(b'\n', read).count() as u64;
            }
            Ok((bytes, lines))
        };
        // One that is not there yet has no lines.
        let (at, number) = counted().unwrap_or_default();
        Self { path, at, rest: Vec::new(), number }
    }

    /// [`lines`](Self::lines), each with its number in the file, from 1.
    ///
    /// # Errors
    /// The file can't be read.
    pub(crate) fn numbered(&mut self) -> io::Result<Vec<(u64, String)>> {
        let lines = self.lines()?;
        let first = self.number + 1;
        self.number += lines.len() as u64;
        Ok((first..).zip(lines).collect())
    }

    /// The whole lines that came since; some at a time.
    ///
    /// # Errors
    /// The file can't be read. That it is not there is none.
    pub(crate) fn lines(&mut self) -> io::Result<Vec<String>> {
        let mut file = match files::read(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            file => file?,
        };
        if file.metadata()?.len() < self.at {
            // A new file under the old name: a sealed data.txt, or another day.
            (self.at, self.number) = (0, 0);
            self.rest.clear();
        }
        file.seek(SeekFrom::Start(self.at))?;
        let read = file.take(limits::TAIL_BYTES_MAX as u64).read_to_end(&mut self.rest)?;
        self.at += read as u64;
        let Some(end) = memchr::memrchr(b'\n', &self.rest) else {
            if self.rest.len() > limits::TAIL_BYTES_MAX {
                self.rest.clear();
            }
            return Ok(Vec::new());
        };
        let whole: Vec<u8> = self.rest.drain(..=end).collect();
        Ok(String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_tells_what_came_and_starts_over_with_a_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.txt");
        std::fs::write(&path, "old\n").unwrap();
        let mut tail = Tail::at_end(path.clone());
        assert_eq!(tail.lines().unwrap(), Vec::<String>::new());
        std::fs::write(&path, "old\nnew\nhal").unwrap();
        assert_eq!(tail.lines().unwrap(), ["new"]);
        std::fs::write(&path, "old\nnew\nhalf\n").unwrap();
        assert_eq!(tail.lines().unwrap(), ["half"]);
        std::fs::write(&path, "1\n").unwrap();
        assert_eq!(tail.lines().unwrap(), ["1"]);
        std::fs::remove_file(&path).unwrap();
        assert!(tail.lines().unwrap().is_empty());
    }
}
