//! `registro.log`: one line for each acknowledgement of a data node and for each refusal.
//!
//! A line is handed to the operating system before the client is told, so that a kill -9 of the head cannot separate
//! the two: the writer is synchronous and its errors count (this is why the lines do not go through `tracing`, which
//! swallows them). Files are rotated by day and all of them are kept. Nothing here decides anything.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::clock::Clock;
use crate::daily::{self, DailyFile};
use crate::limits;
use crate::printable;
use crate::wire::id::{self, RecordId};

/// The registro could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the registro in {} cannot be written: {cause}; free space or mend the folder, then start the head again", folder.display())]
pub struct Error {
    /// The folder of the logs.
    pub folder: PathBuf,
    /// What the system said.
    pub cause: String,
}

/// Where the lines go.
enum Sink {
    Files(Box<DailyFile>),
    /// The text of a simulated head's registro.
    #[cfg(feature = "simulation")]
    Memory(std::sync::Arc<std::sync::Mutex<String>>),
}

impl Sink {
    fn write(&self, lines: &str) -> std::io::Result<()> {
        match self {
            Self::Files(file) => file.writer().and_then(|mut file| file.write_all(lines.as_bytes())),
            #[cfg(feature = "simulation")]
            Self::Memory(text) => {
                text.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push_str(lines);
                Ok(())
            }
        }
    }
}

/// The head's acknowledgement log.
pub struct Registro {
    folder: PathBuf,
    sink: Sink,
    clock: Clock,
    lines: String,
    failed: Option<String>,
}

impl Registro {
    /// Opens today's file in `folder`; `registro.log` points at it. No day's file is ever removed.
    ///
    /// # Errors
    /// The folder can't be made or written.
    pub fn open(folder: &Path, clock: Clock) -> Result<Self, daily::Error> {
        let file = DailyFile::open(folder, "registro", None)?;
        // Half a line that a killed head left must not become the beginning of ours.
        let lines = if file.ends_open() { "\n".to_owned() } else { String::new() };
        Ok(Self { folder: folder.to_owned(), sink: Sink::Files(Box::new(file)), clock, lines, failed: None })
    }

    /// A registro that is added to a text.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn in_memory(text: std::sync::Arc<std::sync::Mutex<String>>, clock: Clock) -> Self {
        let sink = Sink::Memory(text);
        Self { folder: PathBuf::from("memory"), sink, clock, lines: String::new(), failed: None }
    }

    /// Notes that a data node keeps these ranges of ids. Nothing is on its way to the disk until [`write`](Self::write).
    pub fn kept(&mut self, ip: &str, name: &str, ranges: &[(RecordId, u32)]) {
        for part in ranges.chunks(limits::REGISTRO_RANGES_MAX) {
            self.start_line();
            self.lines.push_str("recibido en dataNode ");
            self.lines.push_str(ip);
            self.lines.push(' ');
            self.lines.push_str(name);
            let mut part = part.iter().copied().peekable();
            while let Some((first, mut count)) = part.next() {
                // Batches that follow each other without a gap are one range.
                while let Some((_, more)) = part.next_if(|(next, _)| *next == first.plus(u64::from(count))) {
                    count += more;
                }
                self.lines.push(' ');
                self.push_id(first);
                if count > 1 {
                    self.lines.push_str("..+");
                    self.push_number(count - 1);
                }
            }
            self.lines.push('\n');
        }
    }

    /// Notes that a message of a client was not kept, and why.
    pub fn refused(&mut self, client: &str, first_seq: u64, count: u32, cause: &str) {
        self.start_line();
        let (first, last) = (seq_text(first_seq), seq_text(first_seq + u64::from(count) - 1));
        self.lines.push_str("Problema: mensaje no fue guardado en dataNode: ");
        // The cause may be a peer's words: one refusal stays one line.
        self.lines.push_str(&printable::visible(cause));
        // A String takes whatever is written to it.
        let _infallible = writeln!(self.lines, " cliente={client} seq={first}..{last}");
    }

    /// Hands the lines to the operating system.
    ///
    /// # Errors
    /// The first failed write latches: nothing is acknowledged after it, since nothing could be traced.
    pub fn write(&mut self) -> Result<(), Error> {
        if self.failed.is_none()
            && !self.lines.is_empty()
            && let Err(error) = self.sink.write(&self.lines)
        {
            self.failed = Some(error.to_string());
        }
        self.lines.clear();
        match &self.failed {
            None => Ok(()),
            Some(cause) => Err(Error { folder: self.folder.clone(), cause: cause.clone() }),
        }
    }

    fn start_line(&mut self) {
        let now = humantime::format_rfc3339_micros(self.clock.now());
        let _infallible = write!(self.lines, "{now} ");
    }

    fn push_id(&mut self, id: RecordId) {
        self.lines.push_str(std::str::from_utf8(&id.to_text()).unwrap_or_default());
    }

    fn push_number(&mut self, number: u32) {
        let _infallible = write!(self.lines, "{number}");
    }
}

/// A sequence number as it stands in `data.txt`.
fn seq_text(seq: u64) -> String {
    let mut digits = vec![b'-'; id::digits(seq)];
    id::put_fixed(&mut digits, seq);
    String::from_utf8(digits).unwrap_or_default()
}

impl std::fmt::Debug for Registro {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registro").field("folder", &self.folder).field("failed", &self.failed).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_the_node_and_the_ids_as_ranges() {
        let dir = tempfile::tempdir().unwrap();
        let mut registro = Registro::open(dir.path(), Clock::System).unwrap();
        let id = RecordId { time_ns: 1_795_234_260_000_000_000, incarnation: 1 };
        registro.kept("127.0.0.2", "data1", &[(id, 1)]);
        registro.kept("127.0.0.2", "data1", &[(id.plus(1), 2), (id.plus(3), 16), (id.plus(100), 1)]);
        registro.refused("----------", 7, 2, "no hay dataNodes");
        registro.write().unwrap();
        let text = std::fs::read_to_string(dir.path().join("registro.log")).unwrap();
        let lines: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        assert_eq!(
            lines,
            [
                format!("recibido en dataNode 127.0.0.2 data1 {id}"),
                format!("recibido en dataNode 127.0.0.2 data1 {}..+17 {}", id.plus(1), id.plus(100)),
                "Problema: mensaje no fue guardado en dataNode: no hay dataNodes cliente=---------- seq=6..7"
                    .to_owned(),
            ]
        );
    }

    #[test]
    fn half_a_line_of_a_killed_head_stays_on_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let id = RecordId { time_ns: 1_795_234_260_000_000_000, incarnation: 1 };
        for _ in 0..2 {
            let mut registro = Registro::open(dir.path(), Clock::System).unwrap();
            registro.kept("127.0.0.2", "data1", &[(id, 1)]);
            registro.write().unwrap();
        }
        let path = dir.path().join("registro.log");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 3]).unwrap();
        let mut registro = Registro::open(dir.path(), Clock::System).unwrap();
        registro.kept("127.0.0.2", "data1", &[(id, 1)]);
        registro.write().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.lines().last().unwrap().ends_with(&id.to_string()), "{text}");
    }

    #[test]
    fn a_folder_that_is_a_file_is_named_with_its_path() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Registro::open(&file.path().join("head"), Clock::System).unwrap_err().to_string();
        assert!(error.contains(file.path().to_str().unwrap()), "{error}");
    }
}
