//! What the heartbeat knows of one node, and whether it stays. Pure.

use std::time::Duration;

use tokio::time::Instant;

use super::faults::Fault;
use super::steady::Steady;
use crate::limits;

/// What the heartbeat knows of one node.
#[derive(Clone, Default, Debug)]
pub(crate) struct Pulse {
    /// The ping that was sent last and when; 0 before the first.
    pub(crate) sent: u64,
    /// When it was sent.
    pub(crate) sent_at: Option<Instant>,
    /// The last ping that was answered.
    pub(crate) answered: u64,
    /// How long that answer took.
    pub(crate) took: Option<Duration>,
    /// When the node was heard last, whatever it said.
    pub(crate) heard_at: Option<Instant>,
    /// Whether the host answered the last ICMP echo; none where ICMP is off.
    pub(crate) icmp: Option<bool>,
    /// ICMP echoes in a row without an answer.
    pub(crate) icmp_misses: u8,
    /// Its heartbeats that are alike.
    pub(crate) steady: Steady,
}

/// What is known of a node when a heartbeat begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Signs {
    /// It answers pings inside the protocol.
    InProtocol {
        /// It was heard since the ping of the heartbeat before, or none was sent.
        heard: bool,
        /// Its host did not answer the last ICMP echo.
        icmp_silent: bool,
    },
    /// It speaks text: only its host can be asked.
    HostOnly {
        /// ICMP echoes in a row without an answer.
        icmp_misses: u8,
    },
}

/// Whether a node stays, at the beginning of a heartbeat: `None`, or the cause of its eviction.
///
/// `stalled` is for how long it has had messages and acknowledged none.
#[must_use]
pub(crate) fn verdict(signs: Signs, stalled: Duration) -> Option<(Fault, &'static str)> {
    match signs {
        Signs::InProtocol { heard: false, icmp_silent: true } => {
            Some((Fault::None, "no answer to the ping nor to ICMP"))
        }
        Signs::InProtocol { heard: false, icmp_silent: false } => Some((Fault::None, "no answer to the ping")),
        Signs::HostOnly { icmp_misses } if icmp_misses >= limits::ICMP_MISSES_MAX => {
            Some((Fault::None, "no answer to ICMP; start the head with --no-icmp where that is filtered"))
        }
        _ if stalled > limits::NODE_PROGRESS_TIME_MAX => {
            Some((Fault::Stalls, "it answers the ping and acknowledges nothing; look at its disk"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ping_decides_for_frames_and_icmp_for_text() {
        let moves = Duration::ZERO;
        for icmp_silent in [true, false] {
            assert_eq!(
                verdict(Signs::InProtocol { heard: true, icmp_silent }, moves),
                None,
                "filtered ICMP evicts nobody"
            );
            let dead = verdict(Signs::InProtocol { heard: false, icmp_silent }, moves);
            assert!(dead.is_some(), "a paused process on a live host");
        }
        assert_eq!(verdict(Signs::HostOnly { icmp_misses: 0 }, moves), None);
        assert_eq!(verdict(Signs::HostOnly { icmp_misses: 1 }, moves), None, "one packet can be lost");
        assert!(verdict(Signs::HostOnly { icmp_misses: 2 }, moves).is_some());
    }

    #[test]
    fn a_node_that_lives_and_acknowledges_nothing_is_evicted() {
        let alive = Signs::InProtocol { heard: true, icmp_silent: false };
        assert_eq!(verdict(alive, limits::NODE_PROGRESS_TIME_MAX), None);
        assert!(verdict(alive, limits::NODE_PROGRESS_TIME_MAX * 2).unwrap().1.contains("disk"));
    }
}
