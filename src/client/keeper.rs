//! One client for many callers: each hands over a message and learns when it is kept, and all of them are in flight
//! together. Handles are cheap to clone and may be used from any task.
//!
//! A message that is refused ends the identity under which it was numbered, and the next one gets a new identity:
//! readers would otherwise wait for the number that never comes before they deliver what is after it. Nothing is
//! remembered here but who waits for which number.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{Ack, Config, Error, Outcome, Receipts, Sender, connect};
use crate::limits;
use crate::wire::id::{ClientId, RecordId};
use crate::wire::source::SourceName;

/// A message that is kept, and how readers know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its id.
    pub id: RecordId,
    /// The identity under which it was sent.
    pub client: ClientId,
    /// Its number: if it was sent twice, both copies have it.
    pub seq: u64,
}

/// Hands messages over to the cluster. Clones share one client; the last one that is dropped ends it, once what is in
/// flight is settled.
#[derive(Clone, Debug)]
pub struct Keeper {
    requests: mpsc::Sender<Request>,
}

#[derive(Debug)]
struct Request {
    source: Option<SourceName>,
    payload: Bytes,
    told: Told,
}

type Told = oneshot::Sender<Result<Kept, Error>>;

/// Who waits for which number.
type Waiting = BTreeMap<u64, Told>;

impl Keeper {
    /// A client with these settings, but for the identity, which is drawn anew. It must be called on a tokio runtime.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let (requests, receiver) = mpsc::channel(limits::KEEPER_IN_FLIGHT_MAX);
        tokio::spawn(run(config, receiver));
        Self { requests }
    }

    /// Stores one message; returns when it is kept. Dropping the future does not take the message back.
    ///
    /// # Errors
    /// Why it is not kept, as far as the client knows.
    pub async fn keep(&self, payload: Bytes) -> Result<Kept, Error> {
        self.keep_of(None, payload).await
    }

    /// The same for a message of this source.
    ///
    /// # Errors
    /// As [`Keeper::keep`].
    pub async fn keep_as(&self, source: SourceName, payload: Bytes) -> Result<Kept, Error> {
        self.keep_of(Some(source), payload).await
    }

    /// The same, of a source or of none.
    pub(crate) async fn keep_of(&self, source: Option<SourceName>, payload: Bytes) -> Result<Kept, Error> {
        let (told, result) = oneshot::channel();
        self.requests.send(Request { source, payload, told }).await.map_err(|_| Error::Closed)?;
        result.await.unwrap_or(Err(Error::Closed))
    }
}

async fn run(config: Config, mut requests: mpsc::Receiver<Request>) {
    loop {
        let client = ClientId::of_library(rand::random());
        let (sender, mut receipts) = connect(Config { id: client, ..config.clone() });
        let mut waiting = Waiting::new();
        let more = take(client, &sender, &mut receipts, &mut requests, &mut waiting).await;
        drop(sender);
        let settled = settle(client, receipts, waiting);
        if more {
            tokio::spawn(settled);
        } else {
            return settled.await;
        }
    }
}

/// Takes requests under one identity until one is refused (true) or nobody can ask any more.
async fn take(
    client: ClientId,
    sender: &Sender,
    receipts: &mut Receipts,
    requests: &mut mpsc::Receiver<Request>,
    waiting: &mut Waiting,
) -> bool {
    loop {
        let request = tokio::select! {
            biased;
            outcome = receipts.next() => {
                if outcome.is_some_and(|outcome| tell(client, outcome, waiting)) {
                    continue;
                }
                return true;
            }
            request = requests.recv(), if waiting.len() < limits::KEEPER_IN_FLIGHT_MAX => request,
        };
        let Some(Request { source, payload, told }) = request else { return false };
        // The window has room for more messages than wait here, and for their bytes once the head has some of them.
        match sender.accept(source, payload).await {
            Ok(seq) => {
                waiting.insert(seq, told);
            }
            // Who asked may be gone.
            Err(error) => drop(told.send(Err(error))),
        }
    }
}

/// Tells everybody who still waits.
async fn settle(client: ClientId, mut receipts: Receipts, mut waiting: Waiting) {
    while let Some(outcome) = receipts.next().await {
        tell(client, outcome, &mut waiting);
    }
}

/// Tells those that an outcome is about; false if it is a refusal.
fn tell(client: ClientId, outcome: Outcome, waiting: &mut Waiting) -> bool {
    match outcome {
        Outcome::Acked(Ack { first_seq, count, first, .. }) => {
            for n in 0..u64::from(count) {
                let (seq, id) = (first_seq + n, first.plus(n));
                if let Some(told) = waiting.remove(&seq) {
                    drop(told.send(Ok(Kept { id, client, seq })));
                }
            }
            true
        }
        Outcome::Refused { first_seq, count, refusal } => {
            for n in 0..u64::from(count) {
                if let Some(told) = waiting.remove(&(first_seq + n)) {
                    drop(told.send(Err(Error::Refused(refusal.clone()))));
                }
            }
            false
        }
    }
}
