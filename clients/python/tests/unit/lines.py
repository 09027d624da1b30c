"""Lines of ``data.txt`` for tests. Written the plain way, to be compared with; not a part of the package."""

from __future__ import annotations

from acopio.crc32c import checksum
from acopio.ids import RecordId, client_text, digits

#: A client that may send again, and a connection in text.
LIBRARY = client_text(1 << 59 | 6)
TEXT = client_text(5)

START_NS = 1_780_000_000_000_000_000


def at(ms: int, incarnation: int = 7) -> RecordId:
    """The id so many milliseconds after the beginning of the tests."""
    return RecordId.of(START_NS + ms * 1_000_000, incarnation)


def number_text(value: int) -> str:
    """A number without leading zeros."""
    width = 1
    while value >> 6 * width:
        width += 1
    return digits(value, width)


def escaped(payload: bytes) -> bytes:
    """A payload as it stands in its line."""
    plain = payload.decode("utf-8", "surrogateescape")
    letters = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}
    out = []
    for c in plain:
        if c in letters:
            out.append(letters[c])
        elif 0xDC80 <= ord(c) <= 0xDCFF:
            out.append(f"\\x{ord(c) - 0xDC00:02x}")
        elif ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 or c in "\u2028\u2029":
            out.append("".join(f"\\x{byte:02x}" for byte in c.encode()))
        else:
            out.append(c)
    return "".join(out).encode()


def line(record: RecordId, client: str, seq: int, payload: bytes, behind: str = "") -> bytes:
    """A whole line, newline included; with this behind its sequence number."""
    fields = f"{record} {client} {number_text(seq)}{behind} ".encode()
    text = escaped(payload)
    return fields + digits(checksum(fields + text), 6).encode() + b" " + text + b"\n"


def lines(client: str, *ms: int) -> list[bytes]:
    """Lines at these milliseconds, numbered from 1."""
    return [line(at(when), client, seq, b"m%d" % when, f":-.{number_text(seq)}") for seq, when in enumerate(ms, 1)]
