//! Who reads a run back: the library's reader, which notes what it delivers.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::reading::Delivered;
use crate::client::reader::{self, Event, Query, ReadError};

/// What a reader delivered so far, and what it should not have said.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Messages, in the order in which they came.
    pub(crate) delivered: Vec<Delivered>,
    /// Errors.
    pub(crate) errors: Vec<String>,
    /// Names of the nodes that the answer lacks, once it has ended.
    pub(crate) ended: Option<Vec<String>>,
}

/// A read under way. Dropping it ends it.
pub(crate) struct Reading {
    /// What came.
    pub(crate) notes: Rc<RefCell<Notes>>,
    task: JoinHandle<()>,
}

impl Reading {
    /// Begins to read. Call it inside a LocalSet.
    pub(crate) fn begin(config: reader::Config, query: Query) -> Self {
        let notes = Rc::new(RefCell::new(Notes::default()));
        let noted = Rc::clone(&notes);
        let task = tokio::task::spawn_local(async move {
            let mut reader = reader::read(config, query);
            while let Some(event) = reader.next().await {
                noted.borrow_mut().note(event);
            }
        });
        Self { notes, task }
    }

    /// Whether nothing more comes.
    pub(crate) fn is_over(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Notes {
    fn note(&mut self, event: Result<Event, ReadError>) {
        match event {
            Ok(Event::Message(message)) => self.delivered.push(Delivered {
                id: message.id,
                client: message.client,
                seq: message.seq,
                source: message.source,
                payload: message.payload.to_vec(),
                at: Instant::now(),
            }),
            Ok(Event::End { missing, .. }) => self.ended = Some(missing),
            Ok(Event::Waiting { .. } | Event::Lost { .. }) => {}
            Err(ReadError::Missing { nodes }) => self.ended = Some(nodes),
            Err(error) => self.errors.push(error.to_string()),
        }
    }
}
