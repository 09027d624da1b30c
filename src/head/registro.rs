//! `registro.log`: one line for each acknowledgement of a data node and for each refusal.
//!
//! A line is handed to the operating system before the client is told, so that a kill -9 of the head cannot separate
//! the two: the writer is synchronous and its errors count (this is why the lines do not go through `tracing`, which
//! swallows them). Files are rotated by day and all of them are kept. Nothing here decides anything.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::daily::{self, DailyFile};
use crate::limits;
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

/// The head's acknowledgement log.
pub struct Registro {
    folder: PathBuf,
    file: DailyFile,
    lines: String,
    failed: Option<String>,
}

impl Registro {
    /// Opens today's file in `folder`; `registro.log` points at it. No day's file is ever removed.
    ///
    /// # Errors
    /// The folder can't be made or written.
    pub fn open(folder: &Path) -> Result<Self, daily::Error> {
        let file = DailyFile::open(folder, "registro", None)?;
        Ok(Self { folder: folder.to_owned(), file, lines: String::new(), failed: None })
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
        for c in cause.chars() {
            // The cause may be a peer's words: one refusal stays one line.
            if c.is_control() { self.lines.extend(c.escape_default()) } else { self.lines.push(c) }
        }
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
            && let Err(error) = self.file.writer().and_then(|mut file| file.write_all(self.lines.as_bytes()))
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
        let now = humantime::format_rfc3339_micros(SystemTime::now());
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
        let mut registro = Registro::open(dir.path()).unwrap();
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
    fn a_folder_that_is_a_file_is_named_with_its_path() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Registro::open(&file.path().join("head")).unwrap_err().to_string();
        assert!(error.contains(file.path().to_str().unwrap()), "{error}");
    }
}
