//! What a head writes down in its registro, and what it does while it can't.

use tokio::time::Instant;

use super::registered::NodeEntry;
use super::registro::{News, Refused};
use super::state::Head;
use crate::wire::error::{Code, Refusal};
use crate::wire::id::{ClientId, RecordId};

impl Head {
    /// A line in the registro for messages of a session that were refused.
    pub(crate) fn note_refused(&self, session: u64, client: ClientId, first_seq: u64, count: u32, refusal: &Refusal) {
        self.refusals.borrow_mut().add(refusal.code, count);
        let peer = self.clients.borrow().get(&session).map(|(ip, _)| *ip);
        let mut registro = self.registro.borrow_mut();
        let now = Instant::now();
        registro.refused(Refused { client, peer, first_seq, count, cause: &refusal.text }, now);
        say_of_registro(registro.write(now));
    }

    /// A line in the registro: a node keeps these.
    pub(crate) fn note_kept(&self, entry: &NodeEntry, ranges: &[(RecordId, u32)]) {
        let mut registro = self.registro.borrow_mut();
        registro.kept(&entry.ip_text, &entry.name, ranges);
        say_of_registro(registro.write(Instant::now()));
    }

    /// What is told to clients while the registro cannot be written: another head may take their messages, and this one
    /// will again.
    pub(crate) fn registro_refusal(&self) -> Option<Refusal> {
        self.registro.borrow().failing().map(|cause| Refusal::new(Code::Registro, cause))
    }

    /// Tries again to write the registro, and tells what was counted; to be called once in a while.
    pub(crate) fn tick_registro(&self) {
        say_of_registro(self.registro.borrow_mut().tick(Instant::now()));
    }

    /// Writes down what was only counted: the head ends.
    pub(crate) fn close_registro(&self) {
        self.registro.borrow_mut().close(Instant::now());
    }
}

fn say_of_registro(news: Option<News>) {
    match news {
        Some(News::Fails(text)) => tracing::error!("{text}"),
        Some(News::Goes(text)) => tracing::info!("{text}"),
        None => {}
    }
}
