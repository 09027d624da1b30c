//! Every bound of the system, in one place, with its reason.
//!
//! A bound that is not here does not exist: queues, buffers, tables, waits and messages all name a constant of this
//! file. Relations between bounds are asserted at compile time at the end. This file holds no logic.

use std::time::Duration;

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
pub const FRAME_HEADER_BYTES_MAX: usize = 1024;

/// Greatest frame, bytes, kind byte included and length prefix not.
pub const FRAME_BYTES_MAX: usize = MESSAGE_BYTES_MAX + FRAME_HEADER_BYTES_MAX;

/// Most messages in one frame. A frame is placed as a whole number of batches, so more would gain nothing.
pub const FRAME_MESSAGES_MAX: usize = 1024;

/// Greatest text of an error, a name or an address on the wire, bytes.
pub const TEXT_BYTES_MAX: usize = 512;

/// Greatest node name, bytes: it is a column in `status` and a word in the logs, and the names of all copies fit a text.
pub const NODE_NAME_BYTES_MAX: usize = 63;

/// Greatest handshake line, bytes: the longest legal one takes less than 64.
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

/// Default number of client connections of a head.
pub const CLIENTS_MAX_DEFAULT: usize = 100;

/// Connections beyond the client limit that a head serves at the same time, for data nodes, for handshakes and for
/// telling client 101 that the head is full. Past it the head stops accepting until one ends.
pub const CONNECTIONS_EXTRA: usize = 256;

/// Registered data nodes of one head.
pub const NODES_MAX: usize = 128;

/// Messages one client connection may have in flight; past it the head stops reading from that socket.
pub const CLIENT_IN_FLIGHT_MESSAGES_MAX: usize = 4096;

/// Payload bytes one client connection may have in flight. At least one whole message.
pub const CLIENT_IN_FLIGHT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Answers waiting in the head for one client to read them, bytes; past it the head stops reading from that socket.
pub const CLIENT_ANSWERS_BYTES_MAX: usize = 256 * 1024;

/// Bytes the head sends to a data node ahead of its acknowledgements: the node's window. The node has buffers for all
/// of it, so it always goes on reading, and a ping is answered even while its disk stalls.
pub const NODE_WINDOW_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Messages the head sends to a data node ahead of its acknowledgements: bounds the in-flight table when messages are
/// tiny.
pub const NODE_WINDOW_MESSAGES_MAX: usize = 128 * 1024;

/// Payload bytes that all clients together may have in flight in one head. Memory of the head follows from it.
pub const HEAD_IN_FLIGHT_BYTES_MAX: usize = 24 * 1024 * 1024;

/// Read buffer of a framed or line connection, bytes: one read gives a batch of messages.
pub const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Time a peer may leave a full socket unread while the head wants to close; then it is cut off.
pub const CLOSE_TIME_MAX: Duration = Duration::from_secs(2);

/// Time a client that has closed its sending side may take to read its last answers.
pub const LINGER_TIME_MAX: Duration = Duration::from_secs(30);

/// What a raw or line data node may have unanswered in the head: it answers one message at a time, so a longer queue
/// would only wait. One batch.
pub const TEXT_NODE_WINDOW_MESSAGES_MAX: usize = BATCH_MESSAGES_MAX;

/// Batches up to this size are copied out of the read buffer: a few bytes that wait for a slow node must not keep a
/// whole buffer alive.
pub const DETACH_BYTES_MAX: usize = 4096;

/// Silence after which the system asks a peer whether it is still there (TCP keepalive): a device that lost its power
/// says no goodbye, and must not keep a client's place for ever.
pub const KEEPALIVE_TIME: Duration = Duration::from_secs(60);

/// Time between two such questions.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Such questions without an answer before the connection counts as broken.
pub const KEEPALIVE_RETRIES: u32 = 3;

/// Time a text peer that has been confirmed may leave a word unfinished that could still become part of the handshake;
/// then it is a message. Longer than a lost packet takes to be sent again.
pub const HANDSHAKE_DOUBT_TIME_MAX: Duration = Duration::from_secs(1);

// ---- heartbeat ------------------------------------------------------------------------------------------------------

/// Time between two heartbeats of a head, as in the original.
pub const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(5);

/// Time an ICMP echo may take; less than a heartbeat, so that probes never pile up.
pub const ICMP_TIME_MAX: Duration = Duration::from_secs(1);

/// Time a data node may have messages and acknowledge none of them: its process answers pings, but its disk hangs.
/// Longer than the stalls of a healthy disk after heavy writing.
pub const NODE_PROGRESS_TIME_MAX: Duration = Duration::from_secs(10);

/// Time a raw data node may take over one message before it counts as dead: it has no ping of its own.
pub const RAW_NODE_ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// ICMP echoes in a row that a host may leave unanswered before its raw data node is evicted: one packet can be lost.
pub const ICMP_MISSES_MAX: u8 = 2;

/// Silence of a head after which a data node asks whether it is still there.
pub const HEAD_PING_AFTER: Duration = HEARTBEAT_DEFAULT;

/// Silence of a head after which a data node dials again: its host may be gone without a goodbye.
pub const HEAD_SILENCE_MAX: Duration = Duration::from_secs(15);

// ---- reconnecting ---------------------------------------------------------------------------------------------------

/// First wait before a lost head is dialled again; it doubles up to [`BACKOFF_MAX`].
pub const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// Longest wait before a lost head is dialled again.
pub const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Time to establish a TCP connection to a head.
pub const DIAL_TIME_MAX: Duration = Duration::from_secs(5);

/// Time a client of the library goes on trying to get a message stored while heads are away or refuse for now.
pub const CLIENT_RETRY_TIME_DEFAULT: Duration = Duration::from_secs(10);

// ---- ending ---------------------------------------------------------------------------------------------------------

/// Time `up` waits for a data node to register before it starts the next process.
pub const UP_NODE_TIME_MAX: Duration = Duration::from_secs(2);

/// Time a role has to finish what it accepted after SIGTERM; the process is gone within ten seconds.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(6);

/// Time from the first signal until a process gives up on an orderly end and says so.
pub const STOP_TIME_MAX: Duration = Duration::from_secs(10);

// ---- a cluster on this machine ---------------------------------------------------------------------------------------

/// Time the head of `acopio up` has to say that it listens.
pub const UP_START_TIME_MAX: Duration = Duration::from_secs(10);

/// Time that every group of processes (clients, head, data nodes) has to end, even if those before it took all of
/// [`STOP_TIME_MAX`]; then they are killed.
pub const UP_GROUP_STOP_TIME_MIN: Duration = Duration::from_secs(2);

/// Data nodes of one `acopio up`: their loopback addresses end in 2 and up, and a head takes no more.
pub const UP_NODES_MAX: usize = NODES_MAX;

/// Random-number clients of one `acopio up`: processes of one machine.
pub const UP_CLIENTS_MAX: usize = CLIENTS_MAX_DEFAULT;

/// Lines that wait to be shown by `acopio up`. A terminal that stands still must not hold up the cluster: what does
/// not fit is counted, and it is in the log files.
pub const SCREEN_LINES_MAX: usize = 1024;

// ---- the command line -----------------------------------------------------------------------------------------------

/// Longest duration that a flag takes: a year is surely a mistake.
pub const DURATION_FLAG_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Shortest duration that a flag takes: below it a loop would keep a processor busy.
pub const DURATION_FLAG_MIN: Duration = Duration::from_millis(1);

/// Heads that one data node or client can be told of.
pub const HEADS_MAX: usize = 16;

/// Refused lines that `acopio send` lists; the rest is counted.
pub const SEND_REFUSALS_SHOWN_MAX: usize = 20;

// ---- the data node's log ----------------------------------------------------------------------------------------------

/// Default size at which `data.txt` is sealed, bytes.
pub const SEGMENT_BYTES_DEFAULT: u64 = 256 * 1024 * 1024;

/// Least size at which `data.txt` may be sealed, bytes: below it a folder fills with files.
pub const SEGMENT_BYTES_MIN: u64 = 4 * 1024;

/// Fields of a record beside its payload, bytes, newline included, for a client's first 16.7 million messages
/// (DESIGN page, section 10: 45 or less). Longer sequence numbers add one byte for every factor of 64.
pub const RECORD_FIELDS_BYTES: usize = 45;

/// Greatest line of `data.txt`, bytes, newline included: every payload byte escaped as `\xNN`, the words a head puts
/// in front of text, and the fields with the longest sequence number and every copy named.
pub const RECORD_LINE_BYTES_MAX: usize = 4 * (MESSAGE_BYTES_MAX + TEXT_BYTES_MAX) + 1024;

/// Read size of a scan over a log, bytes.
pub const SCAN_CHUNK_BYTES: usize = 1024 * 1024;

/// Quarantined places that recovery lists for one file; more than this and the file is past mending line by line.
pub const QUARANTINE_PLACES_MAX: usize = 10_000;

/// Formatted bytes that wait for the commit thread. It holds the windows of several heads with room for escapes;
/// past it the node stops reading.
pub const COMMIT_BUFFER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Greatest `quarantine.txt`, bytes; past it nothing more is listed, only counted.
pub const QUARANTINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Greatest `segments.txt` that is read, bytes: some 150,000 sealed files. A larger one is made anew.
pub const SEGMENTS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Capacity that an idle commit buffer keeps, bytes: a burst's memory is given back.
pub const COMMIT_BUFFER_KEEP_BYTES: usize = 4 * 1024 * 1024;

/// Free space a full disk must have again before the node takes messages, bytes.
pub const DISK_RESUME_BYTES_MIN: u64 = 16 * 1024 * 1024;

/// Time between two looks at the free space of a full disk.
pub const DISK_RESUME_EVERY: Duration = Duration::from_secs(1);

// ---- the log files of a head ----------------------------------------------------------------------------------------

/// Days of `heartbeat.log`, `client.log` and `node.log` that are kept. `registro.log` is kept whole.
pub const LOG_DAYS_MAX: usize = 30;

/// Ranges on one line of the registro; an acknowledgement of more takes several lines.
pub const REGISTRO_RANGES_MAX: usize = 256;

const _: () = assert!(FRAME_BYTES_MAX > MESSAGE_BYTES_MAX);
const _: () = assert!(REPLICAS_MAX * (NODE_NAME_BYTES_MAX + 1) <= TEXT_BYTES_MAX);
const _: () = assert!(CLIENT_IN_FLIGHT_BYTES_MAX >= MESSAGE_BYTES_MAX);
const _: () = assert!(NODE_WINDOW_BYTES_MAX >= FRAME_BYTES_MAX);
const _: () = assert!(HEAD_IN_FLIGHT_BYTES_MAX >= CLIENT_IN_FLIGHT_BYTES_MAX);
const _: () = assert!(LINE_BYTES_MAX <= MESSAGE_BYTES_MAX && RAW_READ_BYTES_MAX <= MESSAGE_BYTES_MAX);
const _: () = assert!(BATCH_MESSAGES_MAX <= FRAME_MESSAGES_MAX);
const _: () = assert!(COMMIT_BUFFER_BYTES_MAX >= 2 * RECORD_LINE_BYTES_MAX);
const _: () = assert!(SCAN_CHUNK_BYTES >= 4096);
const _: () = assert!(
    RECORD_LINE_BYTES_MAX >= 4 * MESSAGE_BYTES_MAX + REPLICAS_MAX * (NODE_NAME_BYTES_MAX + 1) + RECORD_FIELDS_BYTES
);
const _: () = assert!(DRAIN_TIME_MAX.as_millis() < STOP_TIME_MAX.as_millis());
