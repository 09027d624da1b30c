"""Asks a head how it is: one connection, one question.

>>> status = status_of("127.0.0.1:5000")
>>> [node["state"] for node in status["nodes"]]
['disponible']
"""

from __future__ import annotations

import json
import math
import time
from typing import Any, Optional

from . import frames
from .access import Access, Path, TlsChoice, access_of
from .connection import Connection, Ended, head_list, open_connection, out_of_place, refused, silent, wait
from .errors import HeadFailed
from .protocol import DIAL_TIME_MAX


def status_of(
    head: str,
    *,
    clients: bool = False,
    ledgers: bool = False,
    token: Optional[str] = None,
    tls: TlsChoice = False,
    ca: Optional[Path] = None,
    cert: Optional[Path] = None,
    key: Optional[Path] = None,
    timeout: float = DIAL_TIME_MAX,
) -> "dict[str, Any]":
    """What a head says of itself and its data nodes, as ``acopio status --format json`` has it; with ``clients`` who is
    connected, with ``ledgers`` each ledger, too. ``token``, ``tls``, ``ca``, ``cert`` and ``key`` are as ``Client`` has them.
    HeadFailed if it can't be asked within so many seconds."""
    (name,) = head_list([head])
    access = access_of(token, tls, ca, cert, key)
    try:
        said = _ask(name, frames.status_query(clients, ledgers), timeout, access)
        report = json.loads(said)
    except Ended as ended:
        raise HeadFailed(f"head {name}", ended.cause, ended.remedy or "see its log") from None
    except ValueError as error:
        raise HeadFailed(f"head {name}", f"its status makes no sense: {error}", "use the same version") from None
    if not isinstance(report, dict):
        raise HeadFailed(f"head {name}", "its status makes no sense", "use the same version")
    return report


def _ask(head: str, question: bytes, timeout: float, access: Access) -> bytes:
    until = time.monotonic() + timeout
    steps = open_connection(head, timeout, question, access)
    try:
        while True:
            wait(next(steps), None, math.inf)
    except StopIteration as done:
        connection: Connection = done.value
    try:
        while True:
            came, got = connection.receive()
            for frame in got:
                if isinstance(frame, frames.StatusReport):
                    return frame.json
                if isinstance(frame, frames.Failure):
                    raise refused(frame.refusal)
                if not isinstance(frame, (frames.Ping, frames.Pong)):
                    raise out_of_place(frame)
            if time.monotonic() >= until:
                raise silent(timeout)
            if not came:
                wait(connection.want(until), None, math.inf)
    finally:
        connection.close()
