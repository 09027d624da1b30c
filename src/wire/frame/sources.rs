//! What the frames about sources carry: which of them a node has, name by name, in pages.

use bytes::BytesMut;

use super::field::{Field, Fields, Result, check_count, list, sequence};
use crate::limits::SOURCES_PAGE_MAX;
use crate::wire::id::RecordId;
use crate::wire::source::SourceName;

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

sequence!(SourceCount { name, records, first, last });
list!(SourceCount, SOURCES_PAGE_MAX, to the end);
