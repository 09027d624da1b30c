//! Bounds of the client library: how it goes on with another head, and how it reads.

use std::time::Duration;

use super::CLIENT_IN_FLIGHT_MESSAGES_MAX;

/// First wait before a lost head is dialled again; it doubles up to [`BACKOFF_MAX`].
pub(crate) const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// Longest wait before a lost head is dialled again.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Longest wait before heads are asked again of which the last one refused for now.
pub(crate) const CLIENT_REFUSED_WAIT_MAX: Duration = Duration::from_millis(500);

/// Time to establish a TCP connection to a head.
pub(crate) const DIAL_TIME_MAX: Duration = Duration::from_secs(5);

/// Time a client of the library goes on trying to get a message stored while heads are away or refuse for now.
pub(crate) const CLIENT_RETRY_TIME_DEFAULT: Duration = Duration::from_secs(30);

/// Messages that the callers of one [`Keeper`](crate::client::Keeper) have in flight together, and as many that wait: fewer
/// than a client's window, so that sending one never waits for the answer to another.
pub(crate) const KEEPER_IN_FLIGHT_MAX: usize = 256;

/// Silence of a head after which a client with something in flight asks whether it is there. Answers usually come within
/// milliseconds, and a head that takes nothing for now says so as often as [`CLIENT_WORD_EVERY`].
pub(crate) const CLIENT_PING_AFTER: Duration = Duration::from_secs(1);

/// Silence after which a client with something in flight goes on with the next head. Three of its words are missing by
/// then; going on for nothing costs second copies, which readers drop, and nothing else.
pub(crate) const CLIENT_SILENCE_MAX: Duration = Duration::from_secs(3);

/// The same for a client that knows one head: it has nowhere to go, and dialling again would only send all once more.
pub(crate) const CLIENT_SILENCE_ALONE_MAX: Duration = Duration::from_secs(10);

/// Time between two Pings of a head to a client whose frames it takes in no further, because what is in flight is enough.
/// Without them the client could not tell it from a dead one: it does not read the client's Ping, either.
pub const CLIENT_WORD_EVERY: Duration = CLIENT_PING_AFTER;

/// How far a retry may disturb the order of a client's messages, in time of their ids, and a reader still mends it. Longer than
/// a client takes to find the next head and send again what was not answered.
pub const READER_HOLD_TIME: Duration = Duration::from_secs(30);

/// How long a message of a client in text waits for the one before it, for who follows: longer than a head takes to give a
/// message of a lost data node to others.
pub(crate) const READER_TEXT_HOLD_TIME: Duration = Duration::from_secs(5);

/// How long the first message that who follows ever meets of a client waits: what comes together may come in disorder, one
/// data node's disk being slower than another's. Who sends once a minute is shown so much later, once.
pub(crate) const READER_MEET_TIME: Duration = Duration::from_secs(1);

/// Bytes of records that a reader holds back while one before them is missing; past it the oldest is let go first.
pub(crate) const READER_HELD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What a record that is held back takes beside its line, bytes: its place in two trees.
pub(crate) const READER_HELD_EXTRA_BYTES: usize = 256;

/// Clients whose sequence numbers a reader remembers; past it the half that was silent longest is forgotten.
pub(crate) const READER_CLIENTS_MAX: usize = 4096;

/// Ranges of sequence numbers that a reader remembers of one client: as many as what a client has in flight can be
/// torn into. Past it the lowest half is forgotten.
pub(crate) const READER_CLIENT_RANGES_MAX: usize = CLIENT_IN_FLIGHT_MESSAGES_MAX / 2;

/// The same of all clients together, some 80 bytes each.
pub(crate) const READER_RANGES_MAX: usize = 64 * READER_CLIENT_RANGES_MAX;

/// Payloads that a reader remembers of all clients together, to tell a second copy from another message under the same
/// number: 4 bytes each. Past it the older half of each client's is forgotten, and what comes again passes.
pub(crate) const READER_PAYLOADS_MAX: usize = 4 * 1024 * 1024;

/// Frames that a reader takes from its socket before anybody asks for them. One, so that a slow reader is felt by the
/// head at once.
pub(crate) const READER_FRAMES_AHEAD: usize = 1;

/// Time a reader that does not follow goes on trying while no head answers, or waits for a data node that is away.
pub(crate) const READER_RETRY_TIME_DEFAULT: Duration = Duration::from_secs(30);

/// The first time that is looked at for the last messages.
pub(crate) const READER_LAST_TIME: Duration = Duration::from_secs(1);

/// How much longer the next time is that is looked at, if there were too few messages.
pub(crate) const READER_LAST_FACTOR: u64 = 8;
