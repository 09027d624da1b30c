//! What members write to their files, as it comes, for who looks on.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::plan::{Kind, Member};
use super::screen::Screen;
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

/// A file whose new lines are read; it may not be there yet, and may be replaced by another one.
#[derive(Debug)]
pub(crate) struct Tail {
    path: PathBuf,
    at: u64,
    rest: Vec<u8>,
}

impl Tail {
    /// Begins behind what is there.
    #[must_use]
    pub(crate) fn at_end(path: PathBuf) -> Self {
        let at = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
        Self { path, at, rest: Vec::new() }
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
            self.at = 0;
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
