//! Every bound of the system, in one place, with its reason.
//!
//! A bound that is not here does not exist: queues, buffers, tables, waits and messages all name a constant of this
//! page, or of one of its parts: `broker` (topics), `check`, `client` (the library), `collect` (instruments), `coord`
//! (ZooKeeper), `data` (a data node's disk), `device`, `docker`, `local` (clusters on this machine), `metrics`, `reading` (what
//! payloads say), `reads` (reading back), `tls`, `top`, `web`.
//! Relations between bounds are asserted at compile time at the end. Nothing here is logic.

mod broker;
mod check;
mod client;
mod collect;
mod coord;
mod data;
mod device;
mod docker;
mod local;
mod metrics;
mod reading;
mod reads;
mod tls;
mod top;
mod web;

use std::time::Duration;

pub(crate) use broker::*;
pub(crate) use check::*;
pub use client::*;
pub(crate) use collect::*;
pub use coord::*;
pub(crate) use data::*;
pub(crate) use device::*;
pub(crate) use docker::*;
pub(crate) use local::*;
#[cfg(feature = "server")]
pub(crate) use metrics::*;
pub use reading::*;
pub use reads::*;
pub(crate) use tls::*;
pub(crate) use top::*;
pub(crate) use web::*;

// ---- messages and frames ------------------------------------------------------------------------------------------

/// Greatest payload of one message in the framed dialect, bytes. Large enough for a reading with a picture in it,
/// small enough that one message never fills a node's window.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Greatest line in the line dialect, bytes, without its newline. A line has no length in front, so this is what an
/// endless line may cost the head.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// Read buffer of a raw connection, bytes: in the raw dialect one read is one message, so this is its greatest message.
pub const RAW_READ_BYTES_MAX: usize = 64 * 1024;

/// Room for a frame's own fields beside its messages, bytes.
pub(crate) const FRAME_HEADER_BYTES_MAX: usize = 1024;

/// Greatest frame, bytes, kind byte included and length prefix not.
pub const FRAME_BYTES_MAX: usize = MESSAGE_BYTES_MAX + FRAME_HEADER_BYTES_MAX;

/// Most messages in one frame. A frame is placed as a whole number of batches, so more would gain nothing.
pub const FRAME_MESSAGES_MAX: usize = 1024;

/// Greatest frame with lines of `data.txt` in it, bytes: it holds the longest line and the frame's own fields.
pub const LINES_FRAME_BYTES_MAX: usize = RECORD_LINE_BYTES_MAX + FRAME_HEADER_BYTES_MAX;

/// Greatest text of an error, a name or an address on the wire, bytes.
pub const TEXT_BYTES_MAX: usize = 512;

/// Greatest node name, bytes: it is a column in `status` and a word in the logs, and the names of all copies fit a text.
pub const NODE_NAME_BYTES_MAX: usize = 63;

/// Greatest name of a source, bytes: it stands in each of its records.
pub const SOURCE_NAME_BYTES_MAX: usize = 32;

/// Names and groups in one question for records: all of them fit a frame many times over.
pub const FILTER_NAMES_MAX: usize = 256;

/// Greatest handshake line, bytes: the longest legal one, with a token, takes less than 128.
pub const HANDSHAKE_BYTES_MAX: usize = 256;

/// Greatest status report, bytes: it is one frame.
pub const STATUS_BYTES_MAX: usize = MESSAGE_BYTES_MAX;

// ---- placement ----------------------------------------------------------------------------------------------------

/// Most messages that are placed together. Messages that arrive in one read go to one random node in batches of this
/// size: large enough that what a batch costs is small for each message, small enough that a file of a few hundred
/// lines still reaches every node.
pub const BATCH_MESSAGES_MAX: usize = 16;

/// Most payload bytes placed together; one larger message is a batch of its own.
pub const BATCH_BYTES_MAX: usize = 64 * 1024;

/// Greatest number of copies that can be asked for.
pub const REPLICAS_MAX: usize = 8;

// ---- a connection ---------------------------------------------------------------------------------------------------

/// Time a new connection has to finish its handshake.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);

/// Longest file with a key, bytes: a remark, a name and 64 digits take less than 300, and each key of before less than 80.
pub(crate) const CLUSTER_KEY_FILE_BYTES_MAX: u64 = 2048;

/// Most keys of before in a key file: a record that is not believed was tried with all of them.
#[cfg(feature = "server")]
pub(crate) const FORMER_KEYS_MAX: usize = 8;

/// Addresses and networks from which data nodes that speak text may come: a factory's are in a few networks.
pub(crate) const TEXT_NODE_NETWORKS_MAX: usize = 64;

/// Greatest file of tokens that is read, bytes, and most tokens in it: a factory's devices share those of their kind.
pub(crate) const TOKENS_BYTES_MAX: u64 = 4 * 1024 * 1024;
pub(crate) const TOKENS_MAX: usize = 10_000;

/// Longest file with the secret of one token, bytes: a remark and 32 digits take less than 300.
pub(crate) const SECRET_FILE_BYTES_MAX: u64 = 1024;

/// Time after which a client hears that it is not let in, whatever the reason: no reason is told by how long it takes.
pub(crate) const ADMISSION_REFUSED_AFTER: Duration = Duration::from_secs(1);

/// Wrong secrets that an address may say at once: a few devices that nobody gave the new token.
pub(crate) const WRONG_TOKENS_FREE: u32 = 20;

/// Time after which it may say one more. Secrets are too many for guessing; this keeps the work and the log small.
pub(crate) const WRONG_TOKEN_REST: Duration = Duration::from_secs(1);

/// Addresses of which it is known how many wrong ones they said.
pub(crate) const WRONG_TOKENS_NOTED_MAX: usize = 4096;

/// Default number of client connections of a head.
pub const CLIENTS_MAX_DEFAULT: usize = 100;

/// Silence after which a client of a full head gives up its place to another of its address: longer than a client that sends
/// every few seconds is ever silent, and shorter than a person waits who has started a device anew.
pub const CLIENT_SILENT_AFTER: Duration = Duration::from_secs(60);

/// Time between two looks for clients that are idle for too long: a quarter of that time, but not less than this.
pub(crate) const IDLE_LOOK_MIN: Duration = Duration::from_millis(50);

/// The same, and not more than this.
pub(crate) const IDLE_LOOK_MAX: Duration = Duration::from_secs(1);

/// Time that a client which lost its place has to read its answers and the reason; then it is cut.
pub(crate) const PLACE_LEAVE_TIME_MAX: Duration = Duration::from_secs(10);

/// Times that a name may be taken over at once: more than the power flickers in a row.
pub(crate) const TAKEOVERS_FREE: u32 = 8;

/// Time after which one more is free.
pub(crate) const TAKEOVER_REST: Duration = Duration::from_secs(10);

/// Time between two that are not free: two devices of one name are not to do anything else.
pub(crate) const TAKEOVER_EVERY: Duration = Duration::from_secs(1);

/// The longest that one waits which takes a name over.
pub(crate) const TAKEOVER_WAIT_MAX: Duration = Duration::from_secs(10);

/// Names of which it is known how often they were taken over.
pub(crate) const TAKEOVERS_NOTED_MAX: usize = 4096;

/// Greatest `nombres.txt` that is read, bytes, and most names in it.
pub(crate) const BOOK_BYTES_MAX: u64 = 1024 * 1024;
pub(crate) const BOOK_LINES_MAX: usize = 10_000;

/// Wrong lines that are told of a file which is read anew.
pub(crate) const WRONG_LINES_TOLD_MAX: usize = 16;

/// Time between two looks at it.
pub(crate) const BOOK_LOOK_EVERY: Duration = Duration::from_secs(1);

/// Connections of one visitor that `clientes.log` lists in an hour; the others are summed up.
pub(crate) const VISITS_LISTED_MAX: u32 = 10;

/// That hour.
pub(crate) const VISITS_SUMMED_EVERY: Duration = Duration::from_secs(3600);

/// Visitors that are counted apart.
pub(crate) const VISITORS_MAX: usize = 4096;

/// Ports of a head that take lines without a handshake.
pub(crate) const PLAIN_PORTS_MAX: usize = 64;

/// Clients that are let in though all places are taken, for they may be about to say a name that is theirs already: a raw client
/// says it only once it is confirmed.
pub(crate) const TRIAL_PLACES_MAX: usize = 16;

/// Time in which they have to say it.
pub(crate) const TRIAL_TIME_MAX: Duration = Duration::from_secs(2);

/// Sources in one page of them: all of their fields fit a report and a frame, however their last messages are escaped.
pub(crate) const SOURCES_PAGE_MAX: usize = 512;

/// Time that data nodes have to tell of their sources.
pub(crate) const DEVICES_TIME_MAX: Duration = Duration::from_secs(2);

/// Such questions that are open at one data node.
pub(crate) const DEVICES_ASKED_MAX: usize = 64;

/// Sources of which a head remembers what came by it.
pub(crate) const DEVICES_LIVE_MAX: usize = 16 * 1024;

/// Greatest last message of a device that a head remembers, bytes: all of a reading, or nothing of it, for half a number is
/// another one.
pub(crate) const DEVICE_LAST_BYTES_MAX: usize = 256;

/// Pages of sources that are counted for a status.
pub(crate) const SUMMARY_PAGES_MAX: usize = 64;

/// Time that data nodes have for each of them: a status is asked for when something is wrong, and must not wait for that.
pub(crate) const SUMMARY_PAGE_TIME_MAX: Duration = Duration::from_millis(250);

/// For so long the count is not made again.
pub(crate) const SUMMARY_EVERY: Duration = Duration::from_secs(1);

/// Silent devices that a status names.
pub(crate) const SUMMARY_SILENT_MAX: usize = 8;

/// Last messages that `acopio devices` reads, of devices that did not speak since the head started.
pub(crate) const DEVICES_LAST_READ_MAX: usize = 64;

/// How many of those are read at once.
pub(crate) const DEVICES_LAST_READS_AT_ONCE: usize = 8;

/// Times between two messages of a device that are remembered, and how many there have to be before they tell anything.
pub(crate) const DEVICE_GAPS: usize = 9;
pub(crate) const DEVICE_GAPS_LEAST: usize = 3;

/// A shorter time is none between two messages, but one within a burst.
pub(crate) const DEVICE_GAP_MIN: Duration = Duration::from_millis(10);

/// A device is silent after so many of its own periods.
pub(crate) const DEVICE_SILENT_PERIODS: f64 = 3.0;

/// Ledgers that one report lists.
pub(crate) const STATUS_LEDGERS_MAX: usize = 4096;

/// Runs of lacking entries that one report lists.
pub(crate) const STATUS_LACKING_MAX: usize = 64;

/// Clients that one report lists; the others are counted.
pub(crate) const STATUS_CLIENTS_MAX: usize = 1000;

/// Connections beyond the client limit that a head serves at the same time, for data nodes, for handshakes and for
/// telling client 101 that the head is full. Past it one that has not said who it is makes way for the next.
pub(crate) const CONNECTIONS_EXTRA: usize = 256;

/// Registered data nodes of one head.
pub const NODES_MAX: usize = 128;

/// Identities in the roster, those that are out included: each folder that was ever replaced is one. All of them fit a frame.
pub(crate) const ROSTER_MAX: usize = 8 * NODES_MAX;

/// Foundings of a cluster that are remembered: more than one are clusters that met.
pub(crate) const FOUNDINGS_MAX: usize = 16;

/// Data nodes that are named to a client whose messages wait for them.
pub(crate) const AWAITED_NAMED_MAX: usize = 4;

/// Foundings of one cluster that are one: heads that were started together may each have founded it.
pub(crate) const FOUNDINGS_TOGETHER: Duration = Duration::from_secs(60);

/// Ledgers that one frame tells of.
pub(crate) const HOLDS_MAX: usize = 2048;

/// Ledgers that one node tells of when it registers: five years of a node whose connections are lost daily, many times over.
pub(crate) const HOLDS_ALL_MAX: usize = 4 * 1024 * 1024;

/// Ranges of lacking entries that are told of one ledger; beyond that, neighbours are joined.
pub(crate) const LACKING_MAX: usize = 32;

/// Ledgers that are known in part, and runs of those that are known whole, in the place of a reader that follows.
pub(crate) const FOLLOW_CURSORS_MAX: usize = 16 * 1024;

/// Greatest token of a reader that follows, bytes. A place that takes more is told with fewer cursors: what those ledgers have
/// is sent again then.
pub const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// Greatest name of a cluster, bytes.
pub(crate) const CLUSTER_NAME_BYTES_MAX: usize = 63;

/// Name of a cluster that was given none.
pub(crate) const CLUSTER_DEFAULT: &str = "acopio";

/// Messages one client connection may have in flight; past it the head stops reading from that socket.
pub const CLIENT_IN_FLIGHT_MESSAGES_MAX: usize = 4096;

/// Payload bytes one client connection may have in flight. At least one whole message.
pub const CLIENT_IN_FLIGHT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Answers waiting in the head for one client to read them, bytes; past it the head stops reading from that socket.
pub const CLIENT_ANSWERS_BYTES_MAX: usize = 256 * 1024;

/// Answers to what a peer itself asked (Pongs, Safe, refusals of Copies and Scans) that wait for it to read them, bytes;
/// past it nothing more is read from it. Between heads and data nodes, on both sides.
pub const ANSWERS_BYTES_MAX: usize = 64 * 1024;

/// All that may wait for one peer, bytes: above a data node's full window with the fields of its Puts and a Copy, and above
/// whatever waits for a client that reads at all. Past it the peer does not read, and its connection is given up.
pub const OUTBOX_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Bytes of frames that one connection's task deals with before the other tasks of its thread have their turn: as much as
/// one read of it.
pub const TURN_BYTES: usize = READ_BUFFER_BYTES;

/// Connections that are accepted in a turn: each takes some system calls.
pub(crate) const TURN_ACCEPTS: usize = 4;

/// What each frame, batch or line counts in a turn beside its bytes: a small one takes about as long as copying these.
pub(crate) const TURN_STEP_BYTES: usize = 256;

/// Bytes the head sends to a data node ahead of its acknowledgements: the node's window. The node has buffers for all
/// of it, so it always goes on reading, and a ping is answered even while its disk stalls.
pub const NODE_WINDOW_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Messages the head sends to a data node ahead of its acknowledgements: bounds the in-flight table when messages are
/// tiny.
pub const NODE_WINDOW_MESSAGES_MAX: usize = 128 * 1024;

/// Payload bytes that all clients together may have in flight in one head. Memory of the head follows from it.
pub(crate) const HEAD_IN_FLIGHT_BYTES_MAX: usize = 24 * 1024 * 1024;

/// Greatest read buffer of a framed or line connection, bytes: one read gives a batch of messages.
pub(crate) const READ_BUFFER_BYTES: usize = 64 * 1024;

/// The same of a framed connection that has said little so far, bytes: thousands of them must not take much.
pub(crate) const READ_BUFFER_BYTES_MIN: usize = 4 * 1024;

/// Bytes in each direction of a connection within a process.
pub(crate) const INSIDE_BYTES: usize = 4 * READ_BUFFER_BYTES;

/// Capacity that an idle connection keeps for what it writes, bytes: a burst's memory is given back.
pub(crate) const OUTBOX_KEEP_BYTES: usize = 64 * 1024;

/// Wait after a connection that could not be accepted: what the system lacks does not come back at once.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Time a peer may leave a full socket unread while the head wants to close; then it is cut off.
pub(crate) const CLOSE_TIME_MAX: Duration = Duration::from_secs(2);

/// Time a client that has closed its sending side may take to read its last answers.
pub const LINGER_TIME_MAX: Duration = Duration::from_secs(30);

/// Bytes that a peer which is let in no further may go on saying without being slowed.
pub(crate) const LINGER_BYTES: usize = READ_BUFFER_BYTES;

/// Time between two reads of what it says beyond them.
pub(crate) const LINGER_PAUSE: Duration = Duration::from_millis(10);

/// Default for the bytes that a raw or line data node is sent as one message, `mensaje: ` and a line's newline included: as
/// many as the original's reads. More would be two messages to it, or three, and as many answers.
pub const TEXT_NODE_BYTES_DEFAULT: usize = 1024;

/// Least such bound that can be asked for: a short message fits beside `mensaje: `.
pub(crate) const TEXT_NODE_BYTES_MIN: usize = 64;

/// What a raw or line data node may have unanswered in the head: it answers one message at a time, so a longer queue
/// would only wait. One batch.
pub(crate) const TEXT_NODE_WINDOW_MESSAGES_MAX: usize = BATCH_MESSAGES_MAX;

/// Batches up to this size are copied out of the read buffer: a few bytes that wait for a slow node must not keep a
/// whole buffer alive.
pub(crate) const DETACH_BYTES_MAX: usize = 4096;

/// Time after which the system gives up a peer that answers nothing: a device that lost its power says no goodbye, and
/// must not keep a client's place. Half of it passes before an idle one is asked (TCP keepalive).
pub const PEER_SILENCE_MAX: Duration = Duration::from_secs(20);

/// Questions of the system to an idle peer without an answer before the connection counts as broken.
pub(crate) const KEEPALIVE_RETRIES: u32 = 3;

/// What the system may say of one connection, bytes: some hundred are usual, and its first twenty are read.
pub(crate) const SOCK_DIAG_BYTES_MAX: usize = 1024;

/// Bytes that the system takes for a peer beyond what it could send, but for the write that it is in: a peer that does not
/// read is known by the next one that waits.
pub(crate) const UNSENT_BYTES_MAX: u32 = 1;

/// Time a text peer that has been confirmed may leave a word unfinished that could still become part of the handshake;
/// then it is a message. Longer than a lost packet takes to be sent again.
pub(crate) const HANDSHAKE_DOUBT_TIME_MAX: Duration = Duration::from_secs(1);

// ---- heartbeat ------------------------------------------------------------------------------------------------------

/// Time between two heartbeats of a head, as in the original.
pub const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(5);

/// Time for which each heartbeat that a node answers is written down, after it came or something changed.
pub(crate) const HEARTBEAT_SAID_EACH: Duration = Duration::from_secs(60);

/// Time after which one line tells of the heartbeats that were answered meanwhile: nothing else is written while nothing
/// comes, and each write is a commit of the file system's journal.
pub(crate) const HEARTBEAT_SAID_EVERY: Duration = Duration::from_secs(60);

/// Time an ICMP echo may take; less than a heartbeat, so that probes never pile up.
pub(crate) const ICMP_TIME_MAX: Duration = Duration::from_secs(1);

/// Time a data node may have messages and acknowledge none of them: its process answers pings, but its disk hangs.
/// Longer than the stalls of a healthy disk after heavy writing.
pub(crate) const NODE_PROGRESS_TIME_MAX: Duration = Duration::from_secs(10);

/// The same for the first batch of a node that has acknowledged none since it registered, where others could have kept it.
/// It doubles with each node from the same address that failed so, up to [`NODE_PROGRESS_TIME_MAX`].
pub(crate) const NODE_TRIAL_TIME: Duration = Duration::from_secs(2);

/// Time between two looks at what the nodes acknowledge.
pub(crate) const NODE_LOOK_EVERY: Duration = Duration::from_millis(250);

/// Looks after which the window of a node halves that has something and acknowledges nothing, and halves again: two seconds,
/// longer than most stalls of a disk.
pub(crate) const NODE_SILENT_LOOKS: u32 = 8;

/// Batches that a node may have unsettled once it has acknowledged its first: the window opens from there.
pub(crate) const NODE_WINDOW_BATCHES_FIRST: usize = 16;

/// Looks for which no other node is tried from an address from where one came that acknowledged nothing: two seconds. It
/// doubles with each, and holds only while others can keep the messages.
pub(crate) const NODE_REST_LOOKS: u64 = 8;

/// The most of that: five minutes.
pub(crate) const NODE_REST_LOOKS_MAX: u64 = 1200;

/// Time a raw data node may take over one message before it counts as dead: it has no ping of its own.
pub const RAW_NODE_ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// ICMP echoes in a row that a host may leave unanswered before its raw data node is evicted: one packet can be lost.
pub(crate) const ICMP_MISSES_MAX: u8 = 2;

/// Data nodes beyond the first copies that may be lost with the same batch in flight, before it is refused: one that ends
/// every node which gets it stops there, and one that was only beside it is refused after as many losses in a row alone.
pub const NODES_LOST_MAX: usize = 3;

/// Silence of a head after which a data node asks whether it is still there.
pub(crate) const HEAD_PING_AFTER: Duration = HEARTBEAT_DEFAULT;

/// Silence of a head after which a data node dials again: its host may be gone without a goodbye.
pub(crate) const HEAD_SILENCE_MAX: Duration = Duration::from_secs(15);

/// Time between two looks whether anybody still reads what a command shows.
pub(crate) const UNREAD_LOOK_EVERY: Duration = Duration::from_millis(500);

/// Time that a head that said it stops may be away before a data node warns of it: a head that is started anew, or the last
/// moments of a cluster that ends.
pub(crate) const HEAD_BACK_TIME: Duration = Duration::from_secs(15);

// ---- what is wrong with a cluster ------------------------------------------------------------------------------------

/// How far the wall clock of a head may be behind the ids it has given before it says so: what NTP mends without a jump
/// is far less, and readers that ask by time notice no less.
pub(crate) const CLOCK_BEHIND_MAX: Duration = Duration::from_secs(60);

/// Time between two looks of a head at its clock and at the number of copies: soon enough to be told, rare enough that
/// a node which comes back at once is not mentioned.
pub(crate) const ALARM_EVERY: Duration = Duration::from_secs(1);

/// Time for which a head may answer a node it knew with "taken" before the node says that there are two of it: longer
/// than two heartbeats, in which a head notices a lost connection.
pub(crate) const TAKEN_DOUBT_TIME: Duration = Duration::from_secs(30);

/// The same for a head that has not taken this process in yet: the one before it may have been there. Just above two
/// heartbeats, so that a copied folder is told soon.
pub(crate) const TAKEN_NEW_DOUBT_TIME: Duration = Duration::from_secs(12);

// ---- ending ---------------------------------------------------------------------------------------------------------

/// Time `up` waits for a data node to register before it starts the next process.
pub(crate) const UP_NODE_TIME_MAX: Duration = Duration::from_secs(2);

/// Time a role has to finish what it accepted after SIGTERM; the process is gone within ten seconds.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(6);

/// Time from the first signal until a process gives up on an orderly end and says so.
pub(crate) const STOP_TIME_MAX: Duration = Duration::from_secs(10);

/// Time in which signals are one: `timeout` sends its own to the process and to its group, one right after the other.
pub(crate) const SIGNALS_TOGETHER: Duration = Duration::from_millis(100);

/// Time that a process which a second signal forces has to kill the command that it runs.
pub(crate) const FORCED_TIME_MAX: Duration = Duration::from_secs(1);

// ---- the command line -----------------------------------------------------------------------------------------------

/// Longest duration that a flag takes: a year is surely a mistake.
pub(crate) const DURATION_FLAG_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Shortest duration that a flag takes: below it a loop would keep a processor busy.
pub(crate) const DURATION_FLAG_MIN: Duration = Duration::from_millis(1);

/// Heads that one data node or client can be told of.
pub(crate) const HEADS_MAX: usize = 16;

/// Bytes that `acopio read` gathers before it writes them out.
pub(crate) const READ_OUTPUT_BYTES: usize = 64 * 1024;

/// Widest cell that a column of `acopio read` is made wide for, characters.
pub(crate) const COLUMN_CHARS_MAX: usize = 40;

/// Greatest memory of the pattern that `acopio read --grep` looks for, bytes.
pub(crate) const GREP_BYTES_MAX: usize = 1024 * 1024;

/// Lines that `acopio send` reads ahead of the network: the file is read while answers are on their way.
pub(crate) const SEND_LINES_AHEAD: usize = 1024;

/// Time between two looks of `acopio drain` at how far it is: nodes report every second meanwhile.
pub(crate) const DRAIN_LOOK_EVERY: Duration = Duration::from_secs(1);

/// Refused lines that `acopio send` lists; the rest is counted.
pub(crate) const SEND_REFUSALS_SHOWN_MAX: usize = 20;

// ---- the log files of a head ----------------------------------------------------------------------------------------

/// Age at which days of `heartbeat.log`, `head.log`, `client.log` and `node.log` go. `registro.log` is kept for ever, unless a
/// head is told otherwise.
pub(crate) const LOG_AGE_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Time between two looks whether a log file is still the one at its path: one that was moved away takes no lines for longer.
pub(crate) const LOG_LOOK_EVERY: Duration = Duration::from_secs(1);

/// First time for which a line about a peer that comes again is counted and not said; it doubles while the line goes on.
pub(crate) const LOG_REPEAT_AFTER: Duration = Duration::from_secs(1);

/// The longest such time in `head.log` and `heartbeat.log`: a data node that is refused comes back every few seconds.
pub(crate) const LOG_REPEAT_EVERY: Duration = Duration::from_secs(600);

/// The same in the registro, whose numbers count: a head that is killed takes those of this time with it.
pub(crate) const REGISTRO_REPEAT_EVERY: Duration = Duration::from_secs(10);

/// Bytes of lines a second that one peer can cause in a log, in the long run; what is more is counted.
pub(crate) const LOG_PEER_BYTES_PER_SECOND: u64 = 1024;

/// Bytes of lines that one peer can cause at once: a few hundred lines, as many devices behind one address cause them.
pub(crate) const LOG_PEER_BURST_BYTES: u64 = 64 * 1024;

/// Different lines about one peer that are remembered, so that each is said once.
pub(crate) const LOG_PEER_LINES_MAX: usize = 32;

/// Peers about which lines are remembered; all others share the room of one.
pub(crate) const LOG_PEERS_MAX: usize = 256;

/// As much of a line about a peer as is said, bytes.
pub(crate) const LOG_TEXT_BYTES_MAX: usize = 2 * TEXT_BYTES_MAX;

/// Bytes of lines that wait for a registro that cannot be written. Nothing new is taken meanwhile, so these are the
/// acknowledgements of what was in flight; with more of them some get no line.
pub(crate) const REGISTRO_PENDING_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Ranges on one line of the registro; an acknowledgement of more takes several lines.
pub(crate) const REGISTRO_RANGES_MAX: usize = 256;

const _: () = assert!(FRAME_BYTES_MAX > MESSAGE_BYTES_MAX);
const _: () = assert!(CLIENT_SILENCE_MAX.as_millis() >= 2 * CLIENT_WORD_EVERY.as_millis());
const _: () = assert!(CLIENT_SILENCE_ALONE_MAX.as_millis() >= CLIENT_SILENCE_MAX.as_millis());
const _: () = assert!(REPLICAS_MAX * (NODE_NAME_BYTES_MAX + 1) <= TEXT_BYTES_MAX);
const _: () = assert!(CLIENT_IN_FLIGHT_BYTES_MAX >= MESSAGE_BYTES_MAX);
const _: () = assert!(KEEPER_IN_FLIGHT_MAX < CLIENT_IN_FLIGHT_MESSAGES_MAX);
const _: () = assert!(NODE_WINDOW_BYTES_MAX >= FRAME_BYTES_MAX);
const _: () = assert!(OUTBOX_BYTES_MAX >= 2 * NODE_WINDOW_BYTES_MAX + LINES_FRAME_BYTES_MAX);
const _: () =
    assert!(OUTBOX_BYTES_MAX >= READ_ANSWERS_BYTES_MAX + CLIENT_ANSWERS_BYTES_MAX + 2 * LINES_FRAME_BYTES_MAX);
const _: () = assert!(HEAD_IN_FLIGHT_BYTES_MAX >= CLIENT_IN_FLIGHT_BYTES_MAX);
const _: () = assert!(LINE_BYTES_MAX <= MESSAGE_BYTES_MAX && RAW_READ_BYTES_MAX <= MESSAGE_BYTES_MAX);
const _: () = assert!(BATCH_MESSAGES_MAX <= FRAME_MESSAGES_MAX);
const _: () = assert!(TAKEN_DOUBT_TIME.as_millis() > TAKEN_NEW_DOUBT_TIME.as_millis());
const _: () = assert!(TAKEN_NEW_DOUBT_TIME.as_millis() > 2 * HEARTBEAT_DEFAULT.as_millis());
const _: () = assert!(DRAIN_TIME_MAX.as_millis() < STOP_TIME_MAX.as_millis());
const _: () =
    assert!(PAGE_BYTES_MIN <= PAGE_BYTES_MAX && PAGE_BYTES_MAX + FRAME_HEADER_BYTES_MAX <= LINES_FRAME_BYTES_MAX);
const _: () =
    assert!(LOG_PEER_BURST_BYTES > 2 * LOG_TEXT_BYTES_MAX as u64 && LOG_TEXT_BYTES_MAX < REGISTRO_LINE_BYTES_MAX);
