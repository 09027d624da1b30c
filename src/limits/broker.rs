//! Bounds of topics over ZeroMQ: `acopio broker`, `calc` and `replay`. See the page above this one.

use std::time::Duration;

use super::MESSAGE_BYTES_MAX;

/// The port that publishers connect to, as in the original.
pub(crate) const PUBLISHER_PORT_DEFAULT: u16 = 5555;

/// The port that subscribers connect to, as in the original.
pub(crate) const SUBSCRIBER_PORT_DEFAULT: u16 = 5556;

/// The port on which an active broker publishes its heartbeat, as in the original.
pub(crate) const BEAT_PORT_DEFAULT: u16 = 5560;

/// Time between two heartbeats of a broker, as in the original.
pub(crate) const BEAT_DEFAULT: Duration = Duration::from_secs(1);

/// Silence after which a broker takes over, as in the original.
pub(crate) const BEAT_SILENCE_DEFAULT: Duration = Duration::from_secs(3);

/// Heartbeats that fit in the silence at least: one that is late must not move the topics.
pub(crate) const BEATS_IN_SILENCE_MIN: u32 = 2;

/// Greatest message of a topic, bytes, unless told otherwise: as much as the cluster keeps.
pub(crate) const TOPIC_MESSAGE_BYTES_DEFAULT: usize = MESSAGE_BYTES_MAX;

/// The most that can be asked for, bytes: a message is in memory whole, once for each queue it is in.
pub(crate) const TOPIC_MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What each frame of a message counts beside its bytes: what it takes in memory.
pub(crate) const TOPIC_FRAME_EXTRA_BYTES: usize = 64;

/// Messages that wait for one subscriber, unless told otherwise, as in ZeroMQ.
pub(crate) const SUBSCRIBER_QUEUE_DEFAULT: u32 = 1000;

/// The most that can be asked for.
pub(crate) const SUBSCRIBER_QUEUE_MAX: u32 = 1_000_000;

/// Encoded bytes that wait for one subscriber beside one message that is larger.
pub(crate) const SUBSCRIBER_QUEUE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// What the protocol says by itself that waits for one subscriber beside a full queue: answers to a peer that asks whether the
/// broker is there. Past it there is no answer.
pub(crate) const SUBSCRIBER_WORDS_MAX: usize = 64;

/// Bytes that are written to a subscriber at a time, as far as whole messages permit.
pub(crate) const SUBSCRIBER_WRITE_BYTES: usize = 64 * 1024;

/// Greatest message from a subscriber, bytes: all it has to say is which topics it wants.
pub(crate) const SUBSCRIBER_MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Bytes of messages that wait for the broker, of all publishers together, beside what one read of each brought and one
/// larger message. Past it they wait in the publishers.
pub(crate) const PUBLISHERS_QUEUE_BYTES_MAX: usize = 1024 * 1024;

/// Messages that wait in a program that subscribes: fewer where messages may be large, see [`RECEIVE_QUEUE_BYTES_MAX`].
pub(crate) const RECEIVE_QUEUE_MAX: usize = 1024;

/// The fewest of them: so many of the greatest size may wait.
pub(crate) const RECEIVE_QUEUE_MIN: usize = 16;

/// Bytes of them, as far as the least number of messages permits.
pub(crate) const RECEIVE_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Messages that are forwarded before heartbeats and connections get their turn.
pub(crate) const TOPIC_BATCH_MAX: usize = 256;

/// Peers of one port; one more is turned away.
pub(crate) const TOPIC_PEERS_MAX: usize = 4096;

/// Peers of one port that have not finished their handshake.
pub(crate) const TOPIC_HANDSHAKES_MAX: usize = 128;

/// Longest prefix that is subscribed to, bytes: it is kept for each subscriber.
pub(crate) const SUBSCRIPTION_BYTES_MAX: usize = 4096;

/// Bytes of all prefixes that one subscriber has, each counted with [`TOPIC_FRAME_EXTRA_BYTES`] more: 50,000 of 20 bytes.
pub(crate) const SUBSCRIPTIONS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Time between two lines that say how much a subscriber did not get.
pub(crate) const TOPIC_SAY_EVERY: Duration = Duration::from_secs(1);

/// Silence of a peer after which it is asked whether it is there (ZMTP's PING).
pub(crate) const TOPIC_PING_AFTER: Duration = Duration::from_secs(10);

/// Time it has to answer.
pub(crate) const TOPIC_PING_TIME_MAX: Duration = Duration::from_secs(30);

/// Time between two attempts to connect, as in ZeroMQ.
pub(crate) const TOPIC_RECONNECT: Duration = Duration::from_millis(100);

/// Time that what is on its way to subscribers has at the end.
pub(crate) const TOPIC_LINGER_MAX: Duration = Duration::from_secs(1);

/// Prefixes that one broker keeps.
pub(crate) const KEEP_PREFIXES_MAX: usize = 256;

/// The least that can be asked for, bytes: the greatest message that is kept fits.
pub(crate) const KEEP_QUEUE_BYTES_MIN: usize = 2 * MESSAGE_BYTES_MAX;

/// Bytes of messages that are handed to the cluster's client together, as far as whole messages permit.
pub(crate) const KEEP_PART_BYTES: usize = 32 * 1024;

/// What a message that waits to be kept takes beside its bytes.
pub(crate) const KEEP_EXTRA_BYTES: usize = 128;

/// Time for which a message that is to be kept, and that is forwarded already, waits for others that are kept with it.
pub(crate) const KEEP_GATHER_TIME: Duration = Duration::from_millis(1);

/// Bytes of messages that are enough to wait for no more.
pub(crate) const KEEP_GATHER_BYTES: usize = 256 * 1024;

/// How long forwarding pauses at a time where more comes than is kept: as short as the runtime's clock permits.
pub(crate) const KEEP_PAUSE: Duration = Duration::from_millis(1);

/// Pauses take at most one part in so many of the time.
pub(crate) const KEEP_PAUSE_PART: u32 = 4;

/// Time in which nothing is kept, though something waits, after which forwarding pauses no more for it.
pub(crate) const KEEP_MOVES_TIME: Duration = Duration::from_millis(200);

/// Time between two lines that say how many messages were not kept.
pub(crate) const KEEP_SAY_EVERY: Duration = Duration::from_secs(1);

/// Time that what waits to be kept has at the end; the rest is counted as not kept, and said.
pub(crate) const KEEP_END_TIME_MAX: Duration = Duration::from_secs(5);

/// Time `replay` waits for somebody who takes its messages.
pub(crate) const REPLAY_CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// Time after which a message that `replay` published has arrived, unless the broker is slower than what it is sent.
pub(crate) const REPLAY_DOUBT_TIME: Duration = Duration::from_secs(2);

/// Messages that `replay` remembers within that time, to name the one to go on with.
pub(crate) const REPLAY_DOUBT_MARKS: u32 = 20;

/// Time that the last messages of `replay` have to leave.
pub(crate) const REPLAY_LINGER_MAX: Duration = Duration::from_secs(10);

/// Brokers that `calc` connects to.
pub(crate) const CALC_BROKERS_MAX: usize = 8;

/// Digits of a leg, as many as Python turns into an integer.
pub(crate) const CALC_DIGITS_MAX: usize = 4300;

/// Time for which a leg waits for the other one: a client sends both in one go.
pub(crate) const CALC_LEG_TIME_MAX: Duration = Duration::from_secs(2);

/// Time after an answer in which its squares count as duplicates: they come by the other broker, or from another server's
/// question, within moments.
pub(crate) const CALC_DUPLICATE_TIME: Duration = Duration::from_millis(500);

/// Time for which a square that did not come in time is not taken for one that nobody asked for. Not longer: the operation
/// server may be gone, and a client of the original that has the same leg squared by the next one waits for its answer.
pub(crate) const CALC_LATE_TIME_MAX: Duration = Duration::from_secs(5);

/// Time after which a square that did not come is asked for once more. A quarter of the original's patience of 2 s, and
/// longer than two programs take to connect.
pub(crate) const CALC_SQUARE_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Requests, legs and squares that the calculation server has at a time, each; past it one more is refused, or the oldest is
/// forgotten where it has been answered.
pub(crate) const CALC_REQUESTS_MAX: usize = 1024;

/// Time after which a client sends its request again: a broker may have gone with it.
pub(crate) const CALC_AGAIN_AFTER: Duration = Duration::from_millis(2500);

/// Time a client waits for the first of its brokers.
pub(crate) const CALC_CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

const _: () = assert!(TOPIC_MESSAGE_BYTES_DEFAULT <= TOPIC_MESSAGE_BYTES_MAX);
const _: () = assert!(BEAT_SILENCE_DEFAULT.as_millis() >= BEATS_IN_SILENCE_MIN as u128 * BEAT_DEFAULT.as_millis());
const _: () = assert!(KEEP_PAUSE_PART > 1 && KEEP_PAUSE.as_millis() < KEEP_MOVES_TIME.as_millis());
const _: () = assert!(KEEP_GATHER_BYTES <= KEEP_QUEUE_BYTES_MIN / 4);
const _: () = assert!(KEEP_END_TIME_MAX.as_millis() < super::DRAIN_TIME_MAX.as_millis());

/// Greatest file of CURVE keys that is read, bytes.
pub(crate) const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;
