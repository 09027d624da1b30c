"""Frames as bytes: encoders for what a client says, a decoder for what a head says. No sockets, no decisions.

A frame is ``u32 length | u8 kind | body``, big endian. Nothing is allocated for a length that a head merely claims.

>>> ping(7).hex()
'00000009090000000000000007'
>>> decoder = Decoder()
>>> decoder.feed(bytes.fromhex("000000090a00000000"))
>>> list(decoder)
[]
>>> decoder.feed(bytes.fromhex("00000007"))
>>> list(decoder)
[Pong(number=7)]
"""

from __future__ import annotations

import struct
from typing import Callable, Iterator, NamedTuple, Optional, Sequence, Union

from .errors import AcopioError, Refusal, code_of
from .ids import RecordId
from .protocol import (
    FRAME_BYTES_MAX,
    KIND_LAST,
    LINES_FRAME_BYTES_MAX,
    REPLICAS_MAX,
    SEQ_END,
    STATUS_BYTES_MAX,
    TEXT_BYTES_MAX,
    TOKEN_BYTES_MAX,
    VERSION,
    Kind,
    Sync,
)

_PREFIX = 4
_NOBODY = (1 << 64) - 1
_STORE = struct.Struct(">IBQH")
_LENGTH = struct.Struct(">I")
_ACKED = struct.Struct(">QIQIBB")


class FrameError(AcopioError, ValueError):
    """Bytes that are no frame of this version."""


class Welcome(NamedTuple):
    """The head takes the client."""

    incarnation: int
    window_messages: int
    window_bytes: int
    cluster: str


class Acked(NamedTuple):
    """These messages are kept: message k has the id of the first plus k."""

    first_seq: int
    messages: int
    first: RecordId
    sync: Sync
    nodes: tuple[str, ...]


class Refused(NamedTuple):
    """These messages are not kept."""

    first_seq: int
    messages: int
    refusal: Refusal


class StatusReport(NamedTuple):
    """What a head says of itself, as JSON."""

    json: bytes


class Failure(NamedTuple):
    """The head closes the connection."""

    refusal: Refusal


class Ping(NamedTuple):
    """Is to be answered with a Pong of the same number."""

    number: int


class Pong(NamedTuple):
    """The answer to a Ping."""

    number: int


class Records(NamedTuple):
    """Whole lines of ``data.txt``: what is there in the order of ids, and everything of it below ``next`` has been sent;
    what comes in the order in which it was kept."""

    next: RecordId
    lines: bytes


class ReadEnd(NamedTuple):
    """The read is over."""

    next: RecordId
    missing: tuple[str, ...]


class Waiting(NamedTuple):
    """The read waits for nodes, or goes on if none is named."""

    nodes: tuple[str, ...]


class Lacks(NamedTuple):
    """What is sent from here on lacks this."""

    missing: tuple[str, ...]


class Token(NamedTuple):
    """Where to go on, as any head understands it: with ``+`` in front behind what is there, else behind what was sent."""

    token: bytes


class Other(NamedTuple):
    """A frame that no head says to a client."""

    kind: int


Frame = Union[Welcome, Acked, Refused, StatusReport, Failure, Ping, Pong, Records, ReadEnd, Waiting, Lacks, Token, Other]


# ---- what a client says --------------------------------------------------------------------------


def _frame(kind: Kind, body: bytes) -> bytes:
    return struct.pack(">IB", 1 + len(body), kind) + body


def hello(client: int, text: bool) -> bytes:
    """A Hello."""
    return _frame(Kind.HELLO, struct.pack(">QB", client, text))


def store(first_seq: int, messages: Sequence[bytes], source: Optional[str] = None) -> bytes:
    """A Store, or with a source a StoreAs: message k has sequence number ``first_seq + k``."""
    name = None if source is None else source.encode("ascii")
    parts = [b""]
    pack = _LENGTH.pack
    for message in messages:
        parts.append(pack(len(message)))
        parts.append(message)
    length = 11 + sum(map(len, parts)) + (0 if name is None else 2 + len(name))
    if not 0 < length <= FRAME_BYTES_MAX:
        raise _wrong(f"it would be {length} bytes long", "send smaller ones")
    if name is None:
        parts[0] = _STORE.pack(length, Kind.STORE, first_seq, len(messages))
    else:
        parts[0] = struct.pack(f">IBH{len(name)}sQH", length, Kind.STORE_AS, len(name), name, first_seq, len(messages))
    return b"".join(parts)


def read(
    since: RecordId,
    until: RecordId,
    client: Optional[int],
    follow: bool,
    partial: bool,
    token: bytes = b"",
    sources: Sequence[str] = (),
) -> bytes:
    """A Read, of these sources and groups if there are any; with a token one that goes on behind what that covers."""
    who = _NOBODY if client is None else client
    names = [name.encode("ascii") for name in sources]
    filters = struct.pack(">H", len(names)) + b"".join(struct.pack(">H", len(name)) + name for name in names)
    return _frame(Kind.READ, _id(since) + _id(until) + struct.pack(">Q??", who, follow, partial) + filters + token)


def ping(number: int) -> bytes:
    """A Ping."""
    return _frame(Kind.PING, struct.pack(">Q", number))


def pong(number: int) -> bytes:
    """A Pong."""
    return _frame(Kind.PONG, struct.pack(">Q", number))


def status_query(clients: bool, ledgers: bool = False) -> bytes:
    """A StatusQuery."""
    flags = clients | ledgers << 1
    return _frame(Kind.STATUS_QUERY, bytes([flags]) if flags else b"")


def _id(record: RecordId) -> bytes:
    return struct.pack(">QI", record.time_ns, record.incarnation)


# ---- what a head says ----------------------------------------------------------------------------


class Decoder:
    """Bytes in, frames out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Takes bytes as they came."""
        self._buffer += data

    def __iter__(self) -> Iterator[Frame]:
        """Every frame that is whole by now; FrameError where the bytes are none, and nothing comes after it."""
        buffer, at = self._buffer, 0
        try:
            while True:
                end = _end(buffer, at)
                if end is None:
                    return
                body = bytes(buffer[at + _PREFIX + 1 : end])
                frame = _decode(buffer[at + _PREFIX], body)
                at = end
                yield frame
        finally:
            del buffer[:at]


def _end(buffer: bytearray, at: int) -> Optional[int]:
    """Where the frame ends that begins here; none if it is not whole."""
    have = len(buffer) - at
    if have < _PREFIX:
        return None
    (length,) = _LENGTH.unpack_from(buffer, at)
    if not 0 < length <= LINES_FRAME_BYTES_MAX:
        raise _too_long(length)
    if have == _PREFIX:
        return None
    kind = buffer[at + _PREFIX]
    if not 0 < kind <= KIND_LAST:
        raise _wrong(f"it is of kind {kind:#04x}, which {VERSION} does not have", "use the same version on both sides")
    if length > FRAME_BYTES_MAX and kind != Kind.RECORDS:
        raise _too_long(length)
    end = at + _PREFIX + length
    return end if len(buffer) >= end else None


def _decode(kind: int, body: bytes) -> Frame:
    decode = _DECODERS.get(kind)
    if decode is None:
        return Other(kind)
    fields = _Fields(kind, body)
    frame = decode(fields)
    fields.end()
    return frame


class _Fields:
    """Reads the fields of a body one after the other."""

    def __init__(self, kind: int, body: bytes) -> None:
        self.kind, self.body, self.at = kind, body, 0

    def take(self, count: int) -> bytes:
        left = len(self.body) - self.at
        if left < count:
            raise _wrong(
                f"kind {self.kind:#04x} ends early, {count} bytes wanted and {left} left",
                "use the same version on both sides",
            )
        self.at += count
        return self.body[self.at - count : self.at]

    def rest(self) -> bytes:
        return self.take(len(self.body) - self.at)

    def end(self) -> None:
        if self.at != len(self.body):
            raise _wrong(
                f"kind {self.kind:#04x} has {len(self.body) - self.at} bytes too many",
                "use the same version on both sides",
            )

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def bool(self) -> bool:
        value = self.number(1)
        if value > 1:
            raise _wrong(f"a flag is {value}, neither 0 nor 1", "use the same version on both sides")
        return value == 1

    def text(self) -> str:
        length = self.number(2)
        if length > TEXT_BYTES_MAX:
            raise _wrong(
                f"a text is {length} bytes long, at most {TEXT_BYTES_MAX} are taken",
                "use the same version on both sides",
            )
        try:
            return self.take(length).decode()
        except UnicodeDecodeError as error:
            raise _wrong(
                f"a text is not UTF-8 from byte {error.start} on", "use the same version on both sides"
            ) from None

    def names(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.text().split(",") if name.strip())

    def id(self) -> RecordId:
        try:
            return RecordId.of(self.number(8), self.number(4))
        except ValueError as error:
            raise _wrong(str(error), "use the same version on both sides") from None

    def range(self) -> tuple[int, int]:
        return _checked(self.number(8), self.number(4))

    def refusal(self) -> Refusal:
        number, retry = self.number(2), self.bool()
        code = code_of(number)
        if code is None:
            raise _wrong(f"{number} is no error code of {VERSION}", "use the same version on both sides")
        return Refusal(code, retry, self.text())


def _checked(first_seq: int, count: int) -> tuple[int, int]:
    if count == 0 or first_seq + count > SEQ_END:
        raise _wrong(
            f"{count} messages from sequence number {first_seq} on are no range",
            "use the same version on both sides",
        )
    return first_seq, count


def _acked(fields: _Fields) -> Acked:
    first_seq, count, time_ns, incarnation, sync, copies = _ACKED.unpack(fields.take(_ACKED.size))
    _checked(first_seq, count)
    if sync > max(Sync) or copies > REPLICAS_MAX:
        raise _wrong(f"sync {sync} or {copies} copies are out of bounds", "use the same version on both sides")
    try:
        first = RecordId.of(time_ns, incarnation)
    except ValueError as error:
        raise _wrong(str(error), "use the same version on both sides") from None
    return Acked(first_seq, count, first, Sync(sync), tuple(fields.text() for _ in range(copies)))


def _status(fields: _Fields) -> StatusReport:
    if len(fields.body) > STATUS_BYTES_MAX:
        raise _too_long(len(fields.body))
    return StatusReport(fields.rest())


def _records(fields: _Fields) -> Records:
    frame = Records(fields.id(), fields.rest())
    if frame.lines and not frame.lines.endswith(b"\n"):
        raise _wrong("its lines do not end in a whole line", "use the same version on both sides")
    return frame


def _token(fields: _Fields) -> Token:
    if len(fields.body) > TOKEN_BYTES_MAX:
        raise _too_long(len(fields.body))
    return Token(fields.rest())


_DECODERS: dict[int, Callable[[_Fields], Frame]] = {
    Kind.WELCOME: lambda f: Welcome(f.number(4), f.number(4), f.number(4), f.text()),
    Kind.ACKED: _acked,
    Kind.REFUSED: lambda f: Refused(*f.range(), f.refusal()),
    Kind.STATUS_REPORT: _status,
    Kind.FAILURE: lambda f: Failure(f.refusal()),
    Kind.PING: lambda f: Ping(f.number(8)),
    Kind.PONG: lambda f: Pong(f.number(8)),
    Kind.RECORDS: _records,
    Kind.READ_END: lambda f: ReadEnd(f.id(), f.names()),
    Kind.WAITING: lambda f: Waiting(f.names()),
    Kind.TOKEN: _token,
    Kind.LACKS: lambda f: Lacks(f.names()),
}


def _wrong(happened: str, remedy: str) -> FrameError:
    return FrameError("a frame", happened, remedy)


def _too_long(length: int) -> FrameError:
    return _wrong(
        f"it says it is {length} bytes long, a frame has 1 to {FRAME_BYTES_MAX}",
        "see that an acopio head of this version runs there",
    )
