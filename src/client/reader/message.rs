//! A message as it is read back: its line, checked to the last bit, and the fields in it.

use std::fmt;

use bytes::Bytes;

use crate::wire::id::{ClientId, RecordId};
use crate::wire::ledger::Digits;
use crate::wire::record::{self, LineError};
use crate::wire::source::SourceName;

/// A message that the cluster keeps.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Its id, which is the time at which a head took it.
    pub id: RecordId,
    /// Who sent it.
    pub client: ClientId,
    /// The client's number for it.
    pub seq: u64,
    /// The name of its source, if its sender said one.
    pub source: Option<SourceName>,
    /// Its bytes as they were sent, with `mensaje: ` in front if it came as text. They share the memory of what was read
    /// from the socket, as does `line`: copy what is kept for long.
    pub payload: Bytes,
    /// Its line of `data.txt`, newline included.
    pub line: Bytes,
    /// Another message of this client had its number before: the client began to count anew under the same id.
    pub reused: bool,
    /// Where the payload begins in the line.
    text_at: usize,
}

impl Message {
    /// Reads a line of `data.txt` that ends in a newline.
    ///
    /// # Errors
    /// Its checksum is wrong, or it is no record.
    pub fn decode(line: Bytes) -> Result<Self, LineError> {
        let whole = line.strip_suffix(b"\n").ok_or(LineError::Unfinished)?;
        let record = record::decode(whole)?;
        let (id, client, seq, source) = (record.id, record.client, record.seq, record.source);
        let text_at = whole.len() - record.text.len();
        let payload = match record.payload() {
            std::borrow::Cow::Borrowed(_) => line.slice(text_at..whole.len()),
            std::borrow::Cow::Owned(bytes) => bytes.into(),
        };
        Ok(Self { id, client, seq, source, payload, line, reused: false, text_at })
    }

    /// The payload as it stands in its line: what could move a cursor is escaped, as `docs/data-log.md` says.
    #[must_use]
    pub fn text(&self) -> &str {
        let text = self.line.get(self.text_at..self.line.len().saturating_sub(1));
        std::str::from_utf8(text.unwrap_or_default()).unwrap_or_default()
    }

    /// Where it stands: the name of its ledger, a dot and its entry, as its line has them; empty for records of format 1.
    #[must_use]
    pub fn place(&self) -> String {
        let entry = self.line.strip_suffix(b"\n").and_then(|line| record::decode(line).ok()?.entry());
        entry.map_or_else(String::new, |(ledger, entry)| format!("{ledger}.{}", Digits(entry)))
    }

    /// The same message in memory of its own.
    pub(super) fn detached(mut self) -> Self {
        self.line = Bytes::copy_from_slice(&self.line);
        if !self.text().contains('\\') {
            self.payload = self.line.slice(self.text_at..self.line.len().saturating_sub(1));
        }
        self
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(String::from_utf8_lossy(&self.line).trim_end())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::wire::ledger::Place;
    use crate::wire::record::Fields;

    /// A message, by way of its line.
    pub(crate) fn message(id: RecordId, client: ClientId, seq: u64, place: Option<Place>, payload: &[u8]) -> Message {
        let mut line = Vec::new();
        record::encode(&mut line, Fields { id, client, seq, place, source: None }, payload).unwrap();
        Message::decode(line.into()).unwrap()
    }

    #[test]
    fn a_message_is_what_was_sent_and_where_it_is() {
        let id = RecordId { time_ns: 1_795_234_260_000_000_001, incarnation: 7 };
        let read = message(id, ClientId(5), 70, Some(Place { number: 3, entry: 9 }), b"a+b\n\xff");
        assert_eq!((read.id, read.client, read.seq), (id, ClientId(5), 70));
        assert_eq!(read.payload.as_ref(), b"a+b\n\xff");
        assert_eq!(read.text(), "a+b\\n\\xff");
        assert_eq!((read.place().as_str(), read.source), ("----6.2.8", None));
        let mut line = Vec::new();
        let (place, source) = (Some(Place { number: 0, entry: 0 }), "taller/esp7".parse().ok());
        record::encode(&mut line, Fields { id, client: ClientId(5), seq: 1, place, source }, b"x").unwrap();
        assert_eq!(Message::decode(line.into()).unwrap().source, source);
        let alone = message(id, ClientId(5), 1, None, b"1+1");
        assert_eq!((alone.place().as_str(), alone.payload.as_ref(), alone.text()), ("", &b"1+1"[..], "1+1"));
        for read in [read, alone, message(id, ClientId(5), 1, None, b"")] {
            assert_eq!(read.clone().detached(), read);
            assert!(Message::decode(read.line.slice(..read.line.len() - 1)).is_err(), "without its newline");
        }
    }
}
