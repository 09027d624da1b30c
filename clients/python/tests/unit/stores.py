"""Store frames taken apart, for tests. Not a part of the package, which never reads one."""

from __future__ import annotations

import struct

from acopio.protocol import Kind


def stores(data: bytes) -> list[tuple[int, list[bytes]]]:
    """The first number and the messages of each Store."""
    found, at = [], 0
    while at < len(data):
        length, kind, first, count = struct.unpack_from(">IBQH", data, at)
        assert kind == Kind.STORE, kind
        end, at, messages = at + 4 + length, at + 15, []
        for _ in range(count):
            (size,) = struct.unpack_from(">I", data, at)
            messages.append(data[at + 4 : at + 4 + size])
            at += 4 + size
        assert at == end
        found.append((first, messages))
    return found
