//! What readers ask for, and what data nodes send them: pages, and for those who follow what comes.

use std::ops::Range;

use bytes::Bytes;

use super::marks::Believed;
use crate::wire::error::Refusal;
use crate::wire::filter::SourceFilter;
use crate::wire::id::{ClientId, RecordId};
use crate::wire::ledger::LedgerId;
use crate::wire::record;

/// What a reader asked for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The least id.
    pub(crate) from: RecordId,
    /// The first id that is not wanted.
    pub(crate) until: RecordId,
    /// Only records of this client.
    pub(crate) client: Option<ClientId>,
    /// Only records of these sources.
    pub(crate) sources: SourceFilter,
    /// Go on with what comes.
    pub(crate) follow: bool,
    /// Leave out nodes that are away.
    pub(crate) partial: bool,
    /// Go on behind what this token covers; empty to begin.
    pub(crate) token: Bytes,
}

impl Wanted {
    /// Whether these lines are records of whom was asked for. Where everybody was, nobody looks into them.
    pub(super) fn is_answered_by(&self, lines: &[u8]) -> bool {
        if self.client.is_none() && self.sources.is_all() {
            return true;
        }
        lines
            .split_inclusive(|byte| *byte == b'\n')
            .all(|line| record::decode(line.strip_suffix(b"\n").unwrap_or(line)).is_ok_and(|line| self.has(&line)))
    }

    /// Whether a record is of whom was asked for.
    pub(super) fn has(&self, line: &record::Line<'_>) -> bool {
        self.client.is_none_or(|client| line.client == client) && self.sources.matches(line.source.as_ref())
    }
}

/// A node's answer to a Scan.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A page.
    Page {
        /// Everything below is in it.
        next: RecordId,
        /// The greatest id that the node has.
        greatest: RecordId,
        /// Lines that were passed over.
        rotten: u32,
        /// The lines that are believed, and what was left out.
        believed: Believed,
    },
    /// None.
    Failed(Refusal),
}

/// Entries that a node sent to who follows.
pub(crate) struct Pushed {
    /// The ledger.
    pub(crate) ledger: LedgerId,
    /// The entries that it answers for.
    pub(crate) entries: Range<u32>,
    /// The lines of those that it has and that are believed, and what was left out.
    pub(crate) believed: Believed,
    /// Bytes of all that it sent.
    pub(crate) bytes: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ledger::Place;
    use crate::wire::record::Fields;

    #[test]
    fn records_of_others_than_were_asked_for_are_no_answer() {
        let line = |client: u64, source: Option<&str>| {
            let id = RecordId { time_ns: 1, incarnation: 1 };
            let source = source.map(|source| source.parse().unwrap());
            let fields =
                Fields { id, client: ClientId(client), seq: 1, place: Some(Place { number: 0, entry: 0 }), source };
            let mut out = Vec::new();
            record::encode(&mut out, fields, b"hola").unwrap();
            out
        };
        let wanted = |client, sources: &str| Wanted {
            from: RecordId::ZERO,
            until: RecordId::MAX,
            client,
            sources: if sources.is_empty() { SourceFilter::default() } else { sources.parse().unwrap() },
            follow: false,
            partial: false,
            token: Bytes::new(),
        };
        let both = [line(7, Some("esp7")), line(7, None)].concat();
        assert!(wanted(None, "").is_answered_by(&both) && wanted(Some(ClientId(7)), "").is_answered_by(&both));
        assert!(wanted(None, "").is_answered_by(b"whatever, its reader looks into it\n"));
        assert!(!wanted(Some(ClientId(8)), "").is_answered_by(&both));
        assert!(
            !wanted(None, "esp7").is_answered_by(&both) && wanted(None, "esp7").is_answered_by(&line(1, Some("esp7")))
        );
        assert!(!wanted(None, "esp7").is_answered_by(b"no record\n") && wanted(None, "esp7").is_answered_by(b""));
    }
}
