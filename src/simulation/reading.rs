//! Whether what was read is what was sent: everything that is kept, each message once, each client's in its order. Pure.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::verdict::{Problems, shown, source_in};
use crate::limits;
use crate::wire::id::{ClientId, RecordId};
use crate::wire::source::SourceName;

const HOLD_NS: u64 = limits::READER_HOLD_TIME.as_nanos() as u64;

/// A message that a reader delivered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Delivered {
    /// Its id.
    pub(crate) id: RecordId,
    /// Who sent it.
    pub(crate) client: ClientId,
    /// The client's number for it.
    pub(crate) seq: u64,
    /// The source that it says.
    pub(crate) source: Option<SourceName>,
    /// Its bytes.
    pub(crate) payload: Vec<u8>,
    /// When it came.
    pub(crate) at: Instant,
}

/// What one read has to be like.
pub(crate) struct Expected<'a> {
    /// Every payload that was sent, and when.
    pub(crate) sent: &'a BTreeMap<Vec<u8>, Instant>,
    /// Lines of which a part may be stored.
    pub(crate) torn: &'a [Vec<u8>],
    /// Payloads that have to be there.
    pub(crate) kept: &'a BTreeSet<Vec<u8>>,
    /// What comes is read: who reads waits as time passes, not as ids tell.
    pub(crate) follows: bool,
    /// The clocks of the heads differ: what is there when a read begins comes in the order of ids.
    pub(crate) skewed: bool,
}

/// What became of a read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Outcome {
    /// What must not be.
    pub(crate) problems: Vec<String>,
    /// Messages that came after a later one of their client because a retry came later than a reader waits.
    pub(crate) late: u64,
}

/// What is missing, comes twice, was never sent, or is out of order.
#[must_use]
pub(crate) fn judge(delivered: &[Delivered], expected: &Expected<'_>) -> Outcome {
    let mut problems = Problems::default();
    let mut seen = BTreeSet::new();
    for message in delivered {
        let torn = || expected.torn.iter().any(|line| line.starts_with(&message.payload));
        if !expected.sent.contains_key(&message.payload) {
            if !torn() {
                problems.add("read and never sent", format!("{message:?}"));
            }
        } else if !seen.insert(&message.payload) {
            problems.add("delivered twice", at(message));
        } else if message.source != source_in(&message.payload) {
            problems.add("of another source", at(message));
        }
    }
    for payload in expected.kept.iter().filter(|payload| !seen.contains(payload)) {
        problems.add("kept and not delivered", shown(payload));
    }
    let late = disordered(delivered, expected, &mut problems);
    Outcome { problems: problems.list(), late }
}

/// Messages that come after a later one of their client. The answer counts those for which a reader does not wait: their id is
/// so much greater, or they came so much later.
fn disordered(delivered: &[Delivered], expected: &Expected<'_>, problems: &mut Problems) -> u64 {
    let mut late = 0;
    // What came too early.
    let mut before: BTreeMap<ClientId, BTreeMap<u64, &Delivered>> = BTreeMap::new();
    for message in delivered {
        let earlier = before.entry(message.client).or_default();
        let mut later = earlier.range(message.seq + 1..);
        let too_early = later.clone().next().is_some();
        if too_early {
            // What followed the first that was let go went with it.
            let given_up = later.any(|(_, later)| {
                let by_ids = message.id.time_ns >= later.id.time_ns.saturating_add(HOLD_NS);
                // A client that is met in the middle is not waited for any longer.
                let waited = || {
                    expected.sent.get(&later.payload).is_some_and(|sent| *sent + limits::READER_MEET_TIME <= later.at)
                };
                by_ids && message.client.may_retry() || expected.follows && (expected.skewed || waited())
            });
            if given_up {
                late += 1;
            } else {
                problems.add("out of order", at(message));
            }
        }
        earlier.insert(message.seq, message);
    }
    late
}

fn at(message: &Delivered) -> String {
    format!("{} of client {}, number {}, at {}", shown(&message.payload), message.client, message.seq, message.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(client: u64, seq: u64, second: u64) -> Delivered {
        let id = RecordId { time_ns: second * 1_000_000_000, incarnation: 1 };
        Delivered {
            id,
            client: ClientId::of_library(client),
            seq,
            source: None,
            payload: format!("{client} {seq}").into_bytes(),
            at: Instant::now(),
        }
    }

    fn judged(delivered: &[Delivered]) -> Outcome {
        let kept: BTreeSet<Vec<u8>> = (1..4).map(|seq| format!("7 {seq}").into_bytes()).collect();
        let sent = kept.iter().map(|payload| (payload.clone(), Instant::now())).collect();
        judge(
            delivered,
            &Expected { sent: &sent, torn: &[b"line".to_vec()], kept: &kept, follows: false, skewed: false },
        )
    }

    #[test]
    fn everything_once_in_order_is_no_problem() {
        let mut good: Vec<_> = (1..4).map(|seq| message(7, seq, seq)).collect();
        assert_eq!(judged(&good), Outcome::default());
        good.push(Delivered { payload: b"lin".to_vec(), ..message(8, 1, 9) });
        assert_eq!(judged(&good), Outcome::default(), "the end of a line that was cut");
        let late = [message(7, 1, 1), message(7, 3, 3), message(7, 2, 33)];
        assert_eq!(judged(&late), Outcome { problems: Vec::new(), late: 1 });
    }

    #[test]
    fn every_kind_of_problem_is_found() {
        let cases = [
            ("kept and not delivered", vec![message(7, 1, 1), message(7, 2, 2)]),
            ("delivered twice", vec![message(7, 1, 1), message(7, 1, 1)]),
            ("read and never sent", vec![message(9, 1, 1)]),
            ("out of order", vec![message(7, 3, 3), message(7, 2, 32)]),
            ("of another source", vec![Delivered { source: "esp7".parse().ok(), ..message(7, 1, 1) }]),
        ];
        for (kind, delivered) in cases {
            assert!(judged(&delivered).problems.iter().any(|problem| problem.starts_with(kind)), "{kind}");
        }
    }
}
