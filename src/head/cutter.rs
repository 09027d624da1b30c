//! Text messages put together in batches, each of one source.
//!
//! Those of a client without a name have no source; those of a group each say theirs. Pure.

use crate::wire::error::{Code, Refusal};
use crate::wire::frame::{Messages, MessagesBuilder};
use crate::wire::said::Who;
use crate::wire::source::SourceName;
use crate::wire::text::MENSAJE_PREFIX;

/// What has one answer, or one answer for each message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Messages of one source.
    Batch {
        /// The source.
        source: Option<SourceName>,
        /// They, as they are stored.
        messages: Messages,
    },
    /// A message of a group that does not say whose it is.
    Nobodys(Refusal),
}

/// Cuts what a client says into pieces.
#[derive(Debug)]
pub(super) struct Cutter {
    who: Option<Who>,
    source: Option<SourceName>,
    batch: MessagesBuilder,
    pieces: Vec<Piece>,
}

impl Cutter {
    /// For a client that said this of itself.
    pub(super) fn new(who: Option<Who>) -> Self {
        Self { who, source: None, batch: MessagesBuilder::new(), pieces: Vec::new() }
    }

    /// Adds a message, with the original's `mensaje: ` in front.
    ///
    /// # Errors
    /// It is too long.
    pub(super) fn push(&mut self, text: &[u8]) -> Result<(), Refusal> {
        let split = self.who.as_ref().map(|who| who.split(text));
        let (source, text) = match split {
            None => (None, text),
            Some(Ok((source, text))) => (Some(source), text),
            Some(Err(error)) => {
                self.end();
                let text = format!("{error}; begin each message with a name and a space");
                self.pieces.push(Piece::Nobodys(Refusal::new(Code::Protocol, text)));
                return Ok(());
            }
        };
        if source != self.source {
            self.end();
            self.source = source;
        }
        self.batch.push(&[MENSAJE_PREFIX.as_bytes(), text]).map_err(|error| error.refusal())
    }

    fn end(&mut self) {
        if let Some(messages) = self.batch.take() {
            self.pieces.push(Piece::Batch { source: self.source, messages });
        }
    }

    /// What was added, in order.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Piece> {
        self.end();
        self.pieces.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(who: Option<&str>, lines: &[&str]) -> Vec<String> {
        let mut cutter = Cutter::new(who.map(|who| Who::from_bytes(who.as_bytes()).unwrap()));
        lines.iter().for_each(|line| cutter.push(line.as_bytes()).unwrap());
        let shown = |piece| match piece {
            Piece::Batch { source, messages } => {
                let texts: Vec<_> = messages.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect();
                format!("{} {}", source.map_or_else(|| "-".to_owned(), |source| source.to_string()), texts.join("|"))
            }
            Piece::Nobodys(refusal) => refusal.text.split(':').next().unwrap_or_default().to_owned(),
        };
        cutter.drain().map(shown).collect()
    }

    #[test]
    fn a_batch_is_of_one_source() {
        assert_eq!(cut(None, &["a", "b"]), ["- mensaje: a|mensaje: b"]);
        assert_eq!(cut(Some("esp7"), &["a", "b"]), ["esp7 mensaje: a|mensaje: b"]);
        let wanted = ["l/s1 mensaje: 1|mensaje: 2", "l/s2 mensaje: 3", "l/s1 mensaje: 4"];
        assert_eq!(cut(Some("l/"), &["s1 1", "s1 2", "s2 3", "s1 4"]), wanted);
        let wanted = ["l/s1 mensaje: 1", "\"s@2\" is not a source's name", "l/s1 mensaje: 3"];
        assert_eq!(cut(Some("l/"), &["s1 1", "s@2 2", "s1 3"]), wanted);
        assert!(cut(None, &[]).is_empty());
    }
}
