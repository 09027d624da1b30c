"""The checksum of a line of ``data.txt``: CRC-32C. Not for anything else.

The standard library has no CRC-32C. If the package ``crc32c`` or ``google-crc32c`` is installed, it is used. Else many
lines are summed at the same time, a column of bytes at a step: a step is a few calls into C whatever the number of
lines, which is several times faster than a loop over each line's bytes.

>>> f"{checksum(b'123456789'):08x}"
'e3069283'
>>> checksums([b"123456789"] * 40) == [checksum(b"123456789")] * 40
True
"""

from __future__ import annotations

import importlib
from typing import Callable, NamedTuple, Optional, Sequence

_POLYNOMIAL = 0x82F63B78
_ONES = 0xFFFFFFFF
#: Bytes of a row: what is longer is summed in rows.
_ROW = 256
#: Fewer rows are summed one by one.
_ROWS_MIN = 16
#: More are summed in several turns, for the memory that they take.
_MESSAGES_MAX = 4096


def _one_byte() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ _POLYNOMIAL if value & 1 else value >> 1
        table.append(value)
    return table


_TABLE = _one_byte()


class _Columns(NamedTuple):
    """What a byte adds to a checksum that begins at 0, by how many bytes follow it."""

    #: For each of the checksum's bytes, as a translation of bytes.
    planes: list[tuple[bytes, bytes, bytes, bytes]]
    #: What a checksum becomes by a whole row of zeros: a table for each of its bytes.
    row: tuple[list[int], list[int], list[int], list[int]]
    #: What the ones at the beginning and at the end add, by the number of bytes.
    ends: list[int]


def _columns() -> _Columns:
    planes, tables, table = [], [], _TABLE
    for _ in range(_ROW):
        one, two, three, four = (bytes(value >> shift & 255 for value in table) for shift in (0, 8, 16, 24))
        planes.append((one, two, three, four))
        tables.append(table)
        table = [value >> 8 ^ _TABLE[value & 255] for value in table]
    ends, crc = [], _ONES
    for _ in range(_ROW + 1):
        ends.append(crc ^ _ONES)
        crc = crc >> 8 ^ _TABLE[crc & 255]
    return _Columns(planes, (tables[-1], tables[-2], tables[-3], tables[-4]), ends)


_known_columns: Optional[_Columns] = None


def plain(data: bytes, crc: int = _ONES) -> int:
    """The CRC-32C of some bytes, without any package."""
    table = _TABLE
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 255]
    return crc ^ _ONES


def plain_many(messages: Sequence[bytes]) -> list[int]:
    """The CRC-32C of each message, without any package."""
    rows = sum(len(message) // _ROW + 1 for message in messages)
    if rows < _ROWS_MIN:
        return [plain(message) for message in messages]
    if len(messages) > _MESSAGES_MAX:
        first, rest = messages[:_MESSAGES_MAX], messages[_MESSAGES_MAX:]
        return plain_many(first) + plain_many(rest)
    global _known_columns
    if _known_columns is None:
        # They take some milliseconds: only for who reads.
        _known_columns = _columns()
    known = _known_columns
    if rows == len(messages):
        sums = _rows(messages, known)
        return [crc ^ known.ends[len(message)] for crc, message in zip(sums, messages)]
    return _long(messages, known)


def _rows(rows: Sequence[bytes], known: _Columns) -> list[int]:
    """Checksums that begin at 0, of rows that are no longer than a row may be. Zeros before a row change nothing."""
    width, count = max(map(len, rows)), len(rows)
    matrix = b"".join([row.rjust(width, b"\0") for row in rows])
    total, of_bytes = 0, int.from_bytes
    for column in range(width):
        here = matrix[column::width]
        one, two, three, four = known.planes[width - 1 - column]
        total ^= of_bytes(
            here.translate(one) + here.translate(two) + here.translate(three) + here.translate(four), "little"
        )
    planes = total.to_bytes(4 * count, "little")
    one, two, three, four = (planes[k * count : (k + 1) * count] for k in range(4))
    return [a | b << 8 | c << 16 | d << 24 for a, b, c, d in zip(one, two, three, four)]


def _long(messages: Sequence[bytes], known: _Columns) -> list[int]:
    """The same for messages of any length: each is cut into rows, of which the first may be short."""
    rows: list[bytes] = []
    counts = []
    for message in messages:
        # The ones at the beginning stand before it: as a checksum goes on with them, they are its first four bytes.
        begun = bytes(byte ^ 255 for byte in message[:4]) + message[4:] if len(message) >= 4 else b""
        first = len(begun) % _ROW
        parts = [begun[at : at + _ROW] for at in range(first, len(begun), _ROW)]
        rows += [begun[:first], *parts]
        counts.append(1 + len(parts))
    sums = iter(_rows(rows, known))
    zero, one, two, three = known.row
    found = []
    for message, count in zip(messages, counts):
        crc = next(sums)
        for _ in range(count - 1):
            crc = zero[crc & 255] ^ one[crc >> 8 & 255] ^ two[crc >> 16 & 255] ^ three[crc >> 24] ^ next(sums)
        found.append(crc ^ _ONES if len(message) >= 4 else plain(message))
    return found


def _fastest() -> Optional[Callable[[bytes], int]]:
    for module, function in (("google_crc32c", "value"), ("crc32c", "crc32c")):
        try:
            found: Callable[[bytes], int] = getattr(importlib.import_module(module), function)
            if found(b"123456789") == 0xE3069283:
                return found
        except Exception:  # noqa: BLE001 - a package that does not work is as good as none
            continue
    return None


_FASTEST = _fastest()


def checksum(data: bytes) -> int:
    """The CRC-32C of some bytes."""
    return plain_many([data])[0] if _FASTEST is None else _FASTEST(data)


def checksums(messages: Sequence[bytes]) -> list[int]:
    """The CRC-32C of each message."""
    return plain_many(messages) if _FASTEST is None else [_FASTEST(message) for message in messages]
