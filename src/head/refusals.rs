//! How many messages were refused, and for what: a table.

use std::collections::BTreeMap;

use crate::wire::error::Code;

/// Messages that were refused, by the cause.
#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<u16, u64>);

impl Refusals {
    /// So many more were refused.
    pub(super) fn add(&mut self, cause: Code, count: u32) {
        *self.0.entry(cause.into()).or_default() += u64::from(count);
    }

    /// Each cause that there is, in words of a metric, and how many were refused for it.
    pub(super) fn all(&self) -> impl Iterator<Item = (String, u64)> {
        Code::ALL.into_iter().map(|code| (code.word().to_owned(), self.0.get(&code.into()).copied().unwrap_or(0)))
    }
}
