//! Records that are read without a head: from files, by whoever knows them. What comes goes through the same stages as
//! what heads send.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::link::{Delivery, Source};
use super::{Query, ReadError};
use crate::wire::id::RecordId;

/// How it ended.
#[derive(Debug)]
pub(crate) struct LocalEnd {
    /// Everything below this id was sent.
    pub(crate) next: RecordId,
    /// What could not be read, each with its cause in parentheses.
    pub(crate) missing: Vec<String>,
}

/// Takes up to which id everything is sent, and lines in the order of their ids; `false` once nobody listens.
type Send<'a> = &'a mut dyn FnMut(RecordId, Bytes) -> bool;

/// What answers a query.
type Answer = dyn Fn(&Query, Send<'_>) -> Result<LocalEnd, String> + std::marker::Send + Sync;

/// Where records are read from in place of a cluster. It blocks: it has a thread of its own.
#[derive(Clone)]
pub(crate) struct Local(Arc<Answer>);

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Local")
    }
}

impl Local {
    /// What answers each query with its records.
    pub(crate) fn new(
        answer: impl Fn(&Query, Send<'_>) -> Result<LocalEnd, String> + std::marker::Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(answer))
    }

    pub(super) fn run(&self, query: &Query, deliveries: &mpsc::Sender<Delivery>) {
        let source = Source { head: "here".into(), from: query.from, live: false, number: 1 };
        let answered = (self.0)(query, &mut |next, lines| {
            deliveries.blocking_send(Delivery::Lines { source: source.clone(), next, lines }).is_ok()
        });
        let last = match answered {
            Ok(LocalEnd { next, missing }) => Delivery::End { next, missing },
            Err(cause) => Delivery::Failed(ReadError::Local { cause }),
        };
        // Nobody listens any more.
        drop(deliveries.blocking_send(last));
    }
}
