//! Looks whether what the clients of `up` were told is kept can be read back: the numbers of the classroom.
//!
//! *Kept* is what the last read through the heads brought. What it did not bring is *away* while a head or a data node is down,
//! paused or cut off, and *lost* once all of them have been there for [`limits::UP_LOST_AFTER`] and it is still not there.
//! Nothing is read while nothing changes.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use super::control::Control;
use super::tail::lock;
use super::ways::Ways;
use crate::client::reader::{self, Event, Query, read_records};
use crate::limits;
use crate::wire::id::RecordId;

/// What came of the messages that were acknowledged, as far as they are judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Found {
    /// Acknowledged when it was looked.
    pub(crate) judged: usize,
    /// Read back.
    pub(crate) kept: usize,
    /// Not read back, while somebody is away who may have them.
    pub(crate) away: usize,
    /// Not read back though nobody is away.
    pub(crate) lost: usize,
    /// When, the time of day in UTC; empty before the first read.
    pub(crate) as_of: String,
}

/// Judges a read: `unread` is what was acknowledged and did not come.
fn judge(judged: usize, unread: BTreeSet<RecordId>, all_here: bool, lost: &mut BTreeSet<RecordId>) -> Found {
    if all_here {
        *lost = unread.clone();
    } else {
        lost.retain(|id| unread.contains(id));
    }
    let (unread, lost) = (unread.len(), lost.len());
    Found { judged, kept: judged - unread, away: unread - lost, lost, as_of: String::new() }
}

/// Looks again and again, whenever something is not as it was.
pub(crate) async fn look(
    control: Rc<Control>,
    ways: Arc<Mutex<Ways>>,
    heads: Vec<SocketAddr>,
    found: Rc<RefCell<Found>>,
) {
    let shared = control.shared();
    let heads: Vec<String> = heads.iter().map(ToString::to_string).collect();
    let (mut before, mut lost) = (None, BTreeSet::new());
    loop {
        sleep(limits::UP_LOOK_EVERY).await;
        let all_here = shared.all_up() && !control.any_cut() && shared.changed().elapsed() >= limits::UP_LOST_AFTER;
        let acknowledged = lock(&ways).acknowledged().clone();
        let now = (acknowledged.last().copied(), shared.changed(), all_here);
        let Some(first) = acknowledged.first().copied().filter(|_| before != Some(now)) else { continue };
        let (begun, judged) = (Instant::now(), acknowledged.len());
        if let Ok(Some(unread)) = timeout(limits::UP_LOOK_TIME_MAX, unread(&heads, first, acknowledged)).await {
            before = Some(now);
            let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
            let as_of = time.get(11..19).unwrap_or_default().to_owned();
            *found.borrow_mut() = Found { as_of, ..judge(judged, unread, all_here, &mut lost) };
            // A read may have taken long because somebody was silent: that is no reason to look away for longer.
            sleep((begun.elapsed() * limits::UP_LOOK_REST).min(limits::UP_LOOK_REST_MAX)).await;
        }
    }
}

/// Those of the ids that a read does not bring; nothing if no head answers.
async fn unread(heads: &[String], first: RecordId, mut ids: BTreeSet<RecordId>) -> Option<BTreeSet<RecordId>> {
    let config = reader::Config { retry_for: limits::UP_LOOK_TIME_MAX, ..heads.to_vec().into() };
    let mut reader = read_records(config, Query { from: first, partial: true, ..Query::default() });
    while let Some(event) = reader.next().await {
        match event {
            Ok(Event::Message(message)) => drop(ids.remove(&message.id)),
            Ok(Event::End { .. }) => return Some(ids),
            // A line that is rotten was not read.
            Ok(_) | Err(reader::ReadError::Line { .. }) => {}
            Err(_) => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: std::ops::Range<u64>) -> BTreeSet<RecordId> {
        numbers.map(|time_ns| RecordId { time_ns, incarnation: 1 }).collect()
    }

    #[test]
    fn what_is_not_read_is_away_while_somebody_is_and_lost_when_nobody_is() {
        let mut lost = BTreeSet::new();
        let counts = |found: Found| (found.kept, found.away, found.lost);
        assert_eq!(counts(judge(9, ids(0..4), false, &mut lost)), (5, 4, 0));
        assert_eq!(counts(judge(9, ids(0..3), true, &mut lost)), (6, 0, 3));
        assert_eq!(counts(judge(9, ids(0..5), false, &mut lost)), (4, 2, 3), "what was lost stays so");
        assert_eq!(counts(judge(9, ids(2..3), false, &mut lost)), (8, 0, 1), "unless it is read again");
        assert_eq!(counts(judge(9, BTreeSet::new(), true, &mut lost)), (9, 0, 0));
    }
}
