"""A place in time as a caller gives it: a record id, a time, or how long ago. Reads no clock: the time is handed in.

>>> now = datetime(2026, 11, 21, 10, 0, tzinfo=timezone.utc)
>>> moments = "10m", "2026-11-21", "2026-11-21T10:00:00+01:00", timedelta(minutes=10), now, "1795234260----0----6"
>>> for moment in moments:
...     print(moment_id(moment, now).time)
2026-11-21 09:50:00+00:00
2026-11-21 00:00:00+00:00
2026-11-21 09:00:00+00:00
2026-11-21 09:50:00+00:00
2026-11-21 10:00:00+00:00
2026-11-21 04:11:00+00:00
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Union

from .errors import BadArgument
from .ids import RecordId

#: A record id, a time with its zone, a time ago, or any of them as text; text without a zone is UTC.
Moment = Union[RecordId, str, datetime, timedelta]

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_AGO = re.compile(r"(?:\d+ ?(?:ms|s|min|m|h|d|w) ?)+", re.ASCII)
_PART = re.compile(r"(\d+) ?([a-z]+)", re.ASCII)
_ID_CHARS = 20


def moment_id(moment: Moment, now: datetime) -> RecordId:
    """The least id of a moment; BadArgument if it is none."""
    if isinstance(moment, RecordId):
        return moment
    try:
        if isinstance(moment, timedelta):
            return RecordId.at(now - moment)
        if isinstance(moment, datetime):
            return RecordId.at(moment)
        return _of_text(moment.strip(), now)
    except (ValueError, OverflowError) as error:
        raise BadArgument(
            f"the time {moment!r}",
            str(error),
            "give a record id, a datetime with a time zone, a timedelta, or text such as '10m', '2026-11-21' or "
            "'2026-11-21T10:00:00+01:00'",
        ) from None


def _of_text(text: str, now: datetime) -> RecordId:
    if len(text) == _ID_CHARS:
        try:
            return RecordId(text)
        except ValueError:
            pass
    if text == "now":
        return RecordId.at(now)
    if _AGO.fullmatch(text):
        seconds = sum(int(count) * _SECONDS[unit] for count, unit in _PART.findall(text))
        return RecordId.at(now - timedelta(seconds=seconds))
    time = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text))
    return RecordId.at(time if time.tzinfo else time.replace(tzinfo=timezone.utc))
