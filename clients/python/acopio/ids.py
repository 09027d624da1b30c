"""Ids of records and clients, and the digits they are written in. Gives no ids: heads do that for records.

An id of a record is a time in nanoseconds and a number of the head that gave it, as text of 20 characters. The digits
are in ASCII order, so texts sort as ids do.

>>> record = RecordId("1795234260----0----6")
>>> record.time_ns, record.incarnation
(1795234260000000001, 7)
>>> str(record.time)
'2026-11-21 04:11:00+00:00'
>>> record < record.next()
True
"""

from __future__ import annotations

import re
import secrets
from datetime import datetime, timedelta, timezone

from .protocol import CLIENT_END, CLIENT_RETRIES

_DIGITS = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
_VALUES = {digit: value for value, digit in enumerate(_DIGITS)}
_ID = re.compile(r"[0-9]{10}[-0-9A-Z_a-z]{10}", re.ASCII)
_CLIENT = re.compile(r"[-0-9A-Z_a-z]{10}", re.ASCII)
_NS = 1_000_000_000
_TIME_END = 10_000_000_000 * _NS
_INCARNATION_END = 1 << 30
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def digits(value: int, width: int) -> str:
    """A number in so many digits.

    >>> digits(70, 2)
    '05'
    """
    text = ""
    for _ in range(width):
        text = _DIGITS[value & 63] + text
        value >>= 6
    return text


def number(text: str) -> int:
    """The number that digits stand for.

    >>> number("05")
    70
    """
    total = 0
    for digit in text:
        total = total << 6 | _VALUES[digit]
    return total


#: The greatest fraction of a second, in digits.
FRACTION_LAST = digits(_NS - 1, 5)


class RecordId(str):
    """The id of a record: text that sorts by time, unique in its cluster."""

    __slots__ = ()

    def __new__(cls, text: str) -> RecordId:
        """An id from its 20 characters; ValueError if they are none."""
        if _ID.fullmatch(text) is None or text[10:15] > FRACTION_LAST:
            raise ValueError(
                f"{text[:64]!r} is not a record id: it takes ten digits and ten characters of A-Z a-z 0-9 - _"
            )
        return str.__new__(cls, text)

    @classmethod
    def of(cls, time_ns: int, incarnation: int = 0) -> RecordId:
        """The id of this time and incarnation.

        >>> RecordId.of(1795234260000000001, 7)
        RecordId('1795234260----0----6')
        """
        if not (0 <= time_ns < _TIME_END and 0 <= incarnation < _INCARNATION_END):
            raise ValueError(
                f"time {time_ns} and incarnation {incarnation} are no record id; keep them below 10^19 and 2^30"
            )
        seconds, fraction = divmod(time_ns, _NS)
        return str.__new__(cls, f"{seconds:010}{digits(fraction, 5)}{digits(incarnation, 5)}")

    @classmethod
    def at(cls, time: datetime) -> RecordId:
        """The least id of this time, which has to have a time zone.

        >>> RecordId.at(datetime(2026, 11, 21, 4, 11, tzinfo=timezone.utc))
        RecordId('1795234260----------')
        """
        if time.tzinfo is None:
            raise ValueError(f"{time} has no time zone; give it one, such as timezone.utc")
        micros = (time - _EPOCH) // timedelta(microseconds=1)
        return cls.of(min(max(micros * 1000, 0), _TIME_END - 1))

    @property
    def time_ns(self) -> int:
        """Nanoseconds since 1970."""
        return int(self[:10]) * _NS + number(self[10:15])

    @property
    def incarnation(self) -> int:
        """A number that the head drew when it started."""
        return number(self[15:])

    @property
    def time(self) -> datetime:
        """The time at which a head took the record, in UTC, to the microsecond."""
        return _EPOCH + timedelta(microseconds=self.time_ns // 1000)

    def next(self) -> RecordId:
        """The least id above this one: the beginning of a read that goes on behind it."""
        time_ns, incarnation = self.time_ns, self.incarnation + 1
        if incarnation == _INCARNATION_END:
            time_ns, incarnation = time_ns + 1, 0
        return MAX if time_ns >= _TIME_END else RecordId.of(time_ns, incarnation)

    def plus(self, count: int) -> RecordId:
        """The id so many places after this one: ids of a batch are consecutive."""
        return RecordId.of(self.time_ns + count, self.incarnation) if count else self

    def __repr__(self) -> str:
        return f"RecordId({str.__repr__(self)})"


#: The least and the greatest id there can be.
ZERO = RecordId.of(0)
MAX = RecordId.of(_TIME_END - 1, _INCARNATION_END - 1)


def new_client() -> str:
    """A random id for a client that may send a message again."""
    return client_text(secrets.randbits(59) | CLIENT_RETRIES)


def client_text(client: int) -> str:
    """The ten characters of a client id.

    >>> client_text(1 << 59)
    'V---------'
    """
    if not 0 <= client < CLIENT_END:
        raise ValueError(f"{client} is no client id; they are below 2^60")
    return digits(client, 10)


def client_number(text: str) -> int:
    """The number of a client id; ValueError if the text is none."""
    if _CLIENT.fullmatch(text) is None:
        raise ValueError(f"{text[:64]!r} is not a client id: it takes ten characters of A-Z a-z 0-9 - _")
    return number(text)


def may_retry(client: str) -> bool:
    """Whether a client may send a message again: then there may be a second copy of it.

    >>> may_retry("V---------"), may_retry("GetIdc4dQA")
    (True, False)
    """
    return client >= "V"
