//! Where the last N messages begin, found by counting backwards: memory does not grow with N.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Config, Event, Query, ReadError, read};
use crate::limits;
use crate::wire::id::RecordId;

/// Where the last messages of a query begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// Read from here.
    pub from: RecordId,
    /// What was counted lies below this id.
    pub until: RecordId,
    /// So many of the messages that count in `from..until` are older than the last N.
    pub skip: u64,
}

/// Finds the last `n` messages of a query that `counts` says yes to: in the last second, then in eight, and so on, until
/// there are enough or the query's beginning is reached. A query that follows is counted as it stands now.
///
/// A second read from [`Last::from`] that leaves out the first [`Last::skip`] of them delivers the last `n`.
/// `counts` is told everything that a reader delivers, several times over; only its answers for messages matter.
///
/// # Errors
/// Any of a read. A damaged line is no message, and no error here: the second read tells of it.
pub async fn find_last(
    config: &Config,
    query: &Query,
    n: u64,
    mut counts: impl FnMut(&Event) -> bool,
) -> Result<Last, ReadError> {
    let mut query = Query { follow: false, ..query.clone() };
    let (least, mut from_the_end) = (query.from, limits::READER_LAST_TIME);
    // This machine's time only chooses the first stretch that is looked at: its end is where the head ends it.
    let mut end_of_stretch = query.until.min(now());
    loop {
        query.from = before(end_of_stretch, from_the_end).max(least);
        let (mut count, mut end) = (0, query.until);
        let mut reader = read(config.clone(), query.clone());
        while let Some(event) = reader.next().await {
            match event {
                Ok(Event::End { next, .. }) => end = next.max(query.from),
                Ok(event) if counts(&event) => count += u64::from(matches!(event, Event::Message(_))),
                Ok(_) | Err(ReadError::Line { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        query.until = query.until.min(end);
        end_of_stretch = query.until;
        if count >= n || query.from <= least {
            return Ok(Last { from: query.from, until: query.until, skip: count.saturating_sub(n) });
        }
        from_the_end = from_the_end.saturating_mul(u32::try_from(limits::READER_LAST_FACTOR).unwrap_or(u32::MAX));
    }
}

/// The id at this time before another.
fn before(id: RecordId, time: Duration) -> RecordId {
    let time_ns = id.time_ns.saturating_sub(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    RecordId { time_ns, incarnation: 0 }
}

/// The time of this machine.
fn now() -> RecordId {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    RecordId { time_ns: u64::try_from(since.as_nanos()).unwrap_or(0), incarnation: 0 }
}
