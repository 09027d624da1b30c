"""Which sequence numbers of a client were seen, and with which payloads: a set of ranges, nearly always one, and a
checksum for each of the last numbers. No I/O, no clock.

>>> seen = Seen()
>>> [seen.insert(number, payload).name for number, payload in ((1, 7), (2, 7), (1, 7), (1, 8), (9, 7))]
['NEW', 'NEW', 'AGAIN', 'OTHER', 'NEW']
>>> seen.ranges, seen.payloads
(2, 3)
"""

from __future__ import annotations

import enum
from array import array

from .protocol import CLIENT_RANGES_MAX


class Noted(enum.Enum):
    """What is known of a number that comes."""

    #: It was not seen before.
    NEW = 0
    #: It was, with the same payload.
    AGAIN = 1
    #: It was, with another payload, or so long ago that the payload is forgotten.
    OTHER = 2


class _Range:
    """Numbers that follow each other: from ``start`` to before ``end``."""

    __slots__ = ("start", "end", "payloads")

    def __init__(self, start: int, payload: int) -> None:
        self.start, self.end = start, start + 1
        #: Checksums of the payloads of its last numbers.
        self.payloads = array("I", (payload,))


class Seen:
    """Sequence numbers that were seen."""

    __slots__ = ("_ranges", "payloads")

    def __init__(self) -> None:
        #: In order, apart from each other.
        self._ranges: list[_Range] = []
        #: Payloads that are remembered.
        self.payloads = 0

    @property
    def ranges(self) -> int:
        """Ranges that are remembered."""
        return len(self._ranges)

    def insert(self, number: int, payload: int) -> Noted:
        """Notes a number and its payload's checksum. Past the bound of ranges the lowest half is forgotten."""
        ranges = self._ranges
        if ranges:
            last = ranges[-1]
            if last.end == number:
                last.end += 1
                last.payloads.append(payload)
                self.payloads += 1
                return Noted.NEW
        at = self._above(number)
        if at and number < ranges[at - 1].end:
            return self._known(ranges[at - 1], number, payload)
        ranges.insert(at, _Range(number, payload))
        self.payloads += 1
        self._join(at)
        if at:
            self._join(at - 1)
        if len(ranges) > CLIENT_RANGES_MAX:
            forgotten = ranges[: CLIENT_RANGES_MAX // 2]
            del ranges[: CLIENT_RANGES_MAX // 2]
            self.payloads -= sum(len(known.payloads) for known in forgotten)
        return Noted.NEW

    def forget_payloads(self) -> None:
        """Forgets the older half of all payloads."""
        for known in self._ranges:
            del known.payloads[: (len(known.payloads) + 1) // 2]
        self.payloads = sum(len(known.payloads) for known in self._ranges)

    def _above(self, number: int) -> int:
        """The place of the first range that begins above a number. (bisect takes a key from Python 3.10 on.)"""
        low, high = 0, len(self._ranges)
        while low < high:
            middle = (low + high) // 2
            if self._ranges[middle].start <= number:
                low = middle + 1
            else:
                high = middle
        return low

    @staticmethod
    def _known(known: _Range, number: int, payload: int) -> Noted:
        place = number - (known.end - len(known.payloads))
        if place < 0:
            return Noted.OTHER
        if known.payloads[place] == payload:
            return Noted.AGAIN
        known.payloads[place] = payload
        return Noted.OTHER

    def _join(self, at: int) -> None:
        """Makes one of the range at this place and the next, if nothing is between them."""
        if at + 1 >= len(self._ranges):
            return
        one, following = self._ranges[at], self._ranges[at + 1]
        if one.end != following.start:
            return
        if len(following.payloads) == following.end - following.start:
            one.payloads.extend(following.payloads)
        else:
            self.payloads -= len(one.payloads)
            one.payloads = following.payloads
        one.end = following.end
        del self._ranges[at + 1]
