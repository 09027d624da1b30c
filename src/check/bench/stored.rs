//! Whether the cluster has what the load was told it has: everything is read back and counted.

use std::time::SystemTime;

use super::load::mix;
use super::talk;
use crate::client::reader::{self, Config, Event, Query, ReadError};
use crate::limits;
use crate::wire::id::RecordId;

/// What was read back of one run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Stored {
    /// Its messages.
    pub(crate) messages: u64,
    /// The sum that [`Counts::digest`](super::load::Counts::digest) has of the same messages.
    pub(crate) digest: u64,
}

/// Reads all messages of a run that began at this time.
///
/// # Errors
/// They can't be read, or not all of them.
pub(crate) async fn read(config: Config, run: u32, since: SystemTime) -> Result<Stored, ReadError> {
    let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // Heads give ids by their own clocks.
    let from = since.saturating_sub(limits::BENCH_CLOCKS_APART_MAX);
    let from = RecordId { time_ns: u64::try_from(from.as_nanos()).unwrap_or_default(), incarnation: 0 };
    let mut reader = reader::read(config, Query { from, ..Query::default() });
    let mut stored = Stored::default();
    while let Some(event) = reader.next().await {
        if let Event::Message(message) = event?
            && let Some(number) = talk::number_in(&message.payload, run)
        {
            stored.messages += 1;
            stored.digest = stored.digest.wrapping_add(mix(number));
        }
    }
    Ok(stored)
}
