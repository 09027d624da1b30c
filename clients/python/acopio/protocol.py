"""What both sides of the wire agree on: the version, the kinds of frames, codes and bounds. The only place for them.

The page of the project that says the same in words is ``docs/wire.md``; the project's tests compare the bytes. Nothing
here decides anything.
"""

from __future__ import annotations

import enum

VERSION = "acopio/2"

#: What a client says first, and what it waits for.
OPENING = b"peticion acopio/2\ncliente\n"
CONFIRMATION = b"confirmacion acopio/2\n"
HANDSHAKE_BYTES_MAX = 256


class Kind(enum.IntEnum):
    """The kinds of frames between clients and heads."""

    HELLO = 0x01
    WELCOME = 0x02
    STORE = 0x03
    ACKED = 0x04
    REFUSED = 0x05
    STATUS_QUERY = 0x06
    STATUS_REPORT = 0x07
    FAILURE = 0x08
    PING = 0x09
    PONG = 0x0A
    READ = 0x0B
    RECORDS = 0x0C
    READ_END = 0x0D
    WAITING = 0x0E
    TOKEN = 0x22
    STORE_AS = 0x24
    LACKS = 0x2B


#: The last kind there is; the others are between heads and data nodes, or for commands.
KIND_LAST = 0x2d


class Code(enum.IntEnum):
    """Why something was refused."""

    PROTOCOL = 1
    TOO_LONG = 2
    FULL = 3
    NO_NODES = 4
    DISK_FULL = 5
    STORAGE = 6
    NAME_TAKEN = 7
    ID_TAKEN = 8
    TIMEOUT = 9
    STOPPING = 10
    VERSION = 11
    REGISTRO = 12
    ROLE = 13
    BUSY = 14
    LEDGER_OVER = 15
    LEDGER_KNOWN = 16
    UNPROVEN = 17
    DENIED = 18


class Sync(enum.IntEnum):
    """How safely a message was kept when that was said."""

    #: Synced to the disk before it was acknowledged: it survives a power cut of the node.
    ALWAYS = 0
    #: Written, synced at an interval.
    INTERVAL = 1
    #: Written, or in the hands of a node that speaks text: left to its system.
    NEVER = 2


# ---- bounds of the wire --------------------------------------------------------------------------

MESSAGE_BYTES_MAX = 1024 * 1024
FRAME_BYTES_MAX = MESSAGE_BYTES_MAX + 1024
LINES_FRAME_BYTES_MAX = 4_198_400
TEXT_BYTES_MAX = 512
SOURCE_NAME_BYTES_MAX = 32
#: Names and groups in one question.
FILTER_NAMES_MAX = 256
REPLICAS_MAX = 8
STATUS_BYTES_MAX = MESSAGE_BYTES_MAX
#: What a reader that follows has read, as heads write it.
TOKEN_BYTES_MAX = 64 * 1024
#: How a token begins that is sent before what is there: who goes on with it wants that, too.
TOKEN_OF_BEGINNING = b"+"
#: Messages and payload bytes in one Store: what a head places together.
BATCH_MESSAGES_MAX = 16
BATCH_BYTES_MAX = 64 * 1024
#: The first sequence number, and the first client id, that does not exist.
SEQ_END = 1 << 60
CLIENT_END = 1 << 60
#: The bit of a client that sends again what was not answered.
CLIENT_RETRIES = 1 << 59
#: What a head puts in front of a message of a client that asks for text.
TEXT_PREFIX = b"mensaje: "

# ---- bounds of a client --------------------------------------------------------------------------

DEFAULT_PORT = 5000
HEADS_MAX = 16
WINDOW_MESSAGES = 4096
WINDOW_BYTES = 4 * 1024 * 1024
#: Bytes of Store frames that wait for the socket.
OUT_BYTES_MAX = 256 * 1024
RECEIVE_BYTES = 256 * 1024
HANDSHAKE_TIME_MAX = 5.0
DIAL_TIME_MAX = 5.0
#: Seconds to go on trying while no head keeps anything, or while no head brings a read further.
RETRY_FOR = 30.0
#: Waits before heads are asked again.
BACKOFF_MIN = 0.1
BACKOFF_MAX = 5.0
REFUSED_WAIT_MAX = 0.5
#: Silence after which a head is asked whether it is there, and after which it is left: sooner if there is another.
PING_AFTER = 1.0
SILENCE_MAX = 3.0
SILENCE_ALONE_MAX = 10.0

# ---- bounds of a reader --------------------------------------------------------------------------

#: How far a retry may disturb the order of a client's messages, in time of ids, and a reader still mends it.
HOLD_NS = 30 * 1_000_000_000
#: How long a message of a connection in text waits while what comes is delivered: nothing of it is ever sent again.
TEXT_HOLD_NS = 5 * 1_000_000_000
#: The same for the first message of a client that comes then: what comes together may come in disorder.
MEET_NS = 1_000_000_000
HELD_BYTES_MAX = 32 * 1024 * 1024
HELD_EXTRA_BYTES = 256
CLIENTS_MAX = 4096
CLIENT_RANGES_MAX = 2048
RANGES_MAX = 64 * CLIENT_RANGES_MAX
PAYLOADS_MAX = 4 * 1024 * 1024
