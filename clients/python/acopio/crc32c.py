"""The checksum of a line of ``data.txt``: CRC-32C. Not for anything else.

The standard library has no CRC-32C. If the package ``crc32c`` or ``google-crc32c`` is installed, it is used; else this
is plain Python with tables of 16 bits, four bytes a step.

>>> f"{checksum(b'123456789'):08x}"
'e3069283'
"""

from __future__ import annotations

import importlib
import struct
import sys
from array import array
from typing import Callable, Optional

_POLYNOMIAL = 0x82F63B78


_Tables = tuple[list[int], "array[int]", "array[int]"]


def _tables() -> _Tables:
    """For one byte; for the low half of four bytes; for their high half."""
    one = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ _POLYNOMIAL if value & 1 else value >> 1
        one.append(value)
    more = [one]
    for _ in range(3):
        more.append([value >> 8 ^ one[value & 255] for value in more[-1]])
    # Arrays: lists of so many numbers do not fit a processor's cache.
    low = array("I", (more[3][k & 255] ^ more[2][k >> 8] for k in range(65536)))
    high = array("I", (more[1][k & 255] ^ more[0][k >> 8] for k in range(65536)))
    return one, low, high


def _plain() -> Callable[[bytes], int]:
    tables: Optional[_Tables] = None
    native = sys.byteorder == "little"

    def plain(data: bytes) -> int:
        nonlocal tables
        if tables is None:
            # They take some milliseconds: only for who reads.
            tables = _tables()
        one, low, high = tables
        crc = 0xFFFFFFFF
        end = len(data) & ~3
        view = memoryview(data)
        for word in view[:end].cast("I") if native else struct.unpack_from(f"<{end // 4}I", data):
            crc ^= word
            crc = low[crc & 65535] ^ high[crc >> 16]
        for byte in view[end:]:
            crc = crc >> 8 ^ one[(crc ^ byte) & 255]
        return crc ^ 0xFFFFFFFF

    return plain


def _fastest() -> Callable[[bytes], int]:
    for module, function in (("google_crc32c", "value"), ("crc32c", "crc32c")):
        try:
            found = getattr(importlib.import_module(module), function)
            if found(b"123456789") == 0xE3069283:
                return found  # type: ignore[no-any-return]
        except Exception:  # noqa: BLE001 - a package that does not work is as good as none
            continue
    return plain


#: Without any package.
plain: Callable[[bytes], int] = _plain()

#: The CRC-32C of some bytes.
checksum: Callable[[bytes], int] = _fastest()
