//! What the frames about sources carry: which of them a node has, name by name, in pages.

use bytes::{BufMut, BytesMut};

use super::FrameError;
use super::decode::{Fields, check_id};
use super::encode::text;
use crate::limits::SOURCES_PAGE_MAX;
use crate::wire::id::RecordId;
use crate::wire::source::SourceName;

type Result<T = (), E = FrameError> = std::result::Result<T, E>;

/// What a node has of one source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SourceCount {
    /// The source.
    pub name: SourceName,
    /// Records.
    pub records: u64,
    /// The least id, or a lesser one.
    pub first: RecordId,
    /// The greatest id.
    pub last: RecordId,
}

/// A name, or nothing for the beginning.
pub(super) fn put_behind(out: &mut BytesMut, behind: Option<&SourceName>) -> Result {
    text(out, behind.map_or("", SourceName::as_str))
}

pub(super) fn put_sources(out: &mut BytesMut, sources: &[SourceCount]) -> Result {
    if sources.len() > SOURCES_PAGE_MAX {
        return Err(FrameError::Entries { count: sources.len(), most: SOURCES_PAGE_MAX });
    }
    for SourceCount { name, records, first, last } in sources {
        text(out, name.as_str())?;
        out.put_u64(*records);
        for id in [first, last] {
            check_id(*id)?;
            out.put_u64(id.time_ns);
            out.put_u32(id.incarnation);
        }
    }
    Ok(())
}

impl Fields<'_> {
    pub(super) fn behind(&mut self) -> Result<Option<SourceName>> {
        let name = self.text()?;
        if name.is_empty() {
            return Ok(None);
        }
        SourceName::from_bytes(name.as_bytes()).map(Some).map_err(FrameError::Source)
    }

    /// Sources up to the end of the frame.
    pub(super) fn sources(&mut self) -> Result<Vec<SourceCount>> {
        let mut all = Vec::new();
        while !self.rest.is_empty() {
            if all.len() == SOURCES_PAGE_MAX {
                return Err(FrameError::Entries { count: all.len() + 1, most: SOURCES_PAGE_MAX });
            }
            let (name, records) = (self.source()?, self.u64()?);
            all.push(SourceCount { name, records, first: self.id()?, last: self.id()? });
        }
        Ok(all)
    }
}
