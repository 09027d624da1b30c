//! What is asked of the files of one node.

use crate::wire::filter::SourceFilter;
use crate::wire::id::{ClientId, RecordId};

/// What a reader wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The least id.
    pub from: RecordId,
    /// The first id that is not wanted.
    pub until: RecordId,
    /// Only records of this client.
    pub client: Option<ClientId>,
    /// Only records of these sources.
    pub sources: SourceFilter,
    /// Most bytes of lines in a page; a longer line is a page of its own.
    pub bytes_max: usize,
}
