"""Messages in, receipts out, over heads that may come and go. Reading back is in ``reader``.

A :class:`Client` may be used by any number of threads at the same time; all of them share its window. It belongs to the
process that made it: a forked child opens its own.

>>> import acopio
>>> with acopio.Client("127.0.0.1:5000") as client:
...     receipt = client.send("hola")
>>> receipt.nodes, receipt.sync.name, receipt.seq
(('127.0.0.2',), 'ALWAYS', 1)

Many at once: up to a window of them are in flight, and a full window makes the sender wait.

>>> with acopio.Client("127.0.0.1:5000") as client:
...     receipts = list(client.send_many(f"reading {n}" for n in range(1000)))
>>> [receipt.seq for receipt in receipts] == list(range(1, 1001))
True
"""

from __future__ import annotations

import math
import os
import threading
import time
import warnings
from collections import deque
from typing import Deque, Iterable, Iterator, Optional, Union

from .access import Path, TlsChoice, access_of
from .connection import head_list
from .errors import BadArgument, ClientClosed, MessageTooLong, TimedOut, WindowFull, not_kept
from .ledger import Entry, Failed, Receipt
from .names import source_name
from .protocol import MESSAGE_BYTES_MAX, RETRY_FOR, TEXT_PREFIX, WINDOW_BYTES, WINDOW_MESSAGES
from .sender import Sender

Message = Union[bytes, bytearray, memoryview, str]
Heads = Union[str, "list[str]", "tuple[str, ...]"]


class Pending:
    """A message that was handed over: its outcome, once there is one."""

    __slots__ = ("_sender", "_entry")

    def __init__(self, sender: Sender, entry: Entry) -> None:
        self._sender, self._entry = sender, entry

    def done(self) -> bool:
        """Whether it is settled."""
        return self._entry.outcome is not None

    def result(self, timeout: Optional[float] = None) -> Receipt:
        """Waits until it is kept. NotKept if it is not; TimedOut if it takes longer than so many seconds, and then it
        is still under way."""
        entry = self._entry
        if entry.outcome is None:
            with self._sender.lock:
                if entry.outcome is None and entry.event is None:
                    entry.event = threading.Event()
            if entry.outcome is None and entry.event is not None and not entry.event.wait(timeout):
                raise _timed_out(f"message {entry.seq} of client {entry.client}", timeout)
        outcome = entry.outcome
        if isinstance(outcome, Failed):
            raise not_kept(outcome.refusal, entry.client, entry.seq, outcome.may_be_kept)
        assert outcome is not None
        return outcome


class Client:
    """Stores messages. Used as a context manager, it waits at the end until all of them are kept."""

    def __init__(
        self,
        heads: Heads,
        *,
        name: Optional[str] = None,
        token: Optional[str] = None,
        tls: TlsChoice = False,
        ca: Optional[Path] = None,
        cert: Optional[Path] = None,
        key: Optional[Path] = None,
        text: bool = False,
        retry_for: float = RETRY_FOR,
        window: int = WINDOW_MESSAGES,
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        """A client of these heads, ``host:port`` each, as one text with commas or as a list. The first that answers is
        used, the next when it is lost. Nothing is dialled before there is a message.

        ``name``: the source whose messages these are, such as ``esp7`` or ``taller/horno``; others may have it, too.
        ``token``: the secret of a token, for heads that ask clients for one.
        ``tls``, ``ca``: heads are dialled over TLS, and believed by the authorities of the system, or by those in the file
        ``ca`` alone; ``tls`` may be an ``ssl.SSLContext``. ``cert``: the file with the certificate that is shown to heads
        which ask for one; its key is in ``key``, or beside it under the same name with the ending ``.key``.
        ``text``: messages are stored as those of text clients are, with ``mensaje: `` in front.
        ``retry_for``: seconds to go on trying while no head keeps anything, ``math.inf`` for ever; what waits is then
        given up, each message with NotKept.
        ``window``, ``window_bytes``: what may be in flight.
        """
        if window < 1 or window_bytes < 1 or not retry_for > 0:
            raise BadArgument("a client", "a window or a time that is not above 0", "give a positive number")
        self._pid = os.getpid()
        self._name = None if name is None else source_name(name)
        self._window, self._window_bytes = window, window_bytes
        self._bytes_max = MESSAGE_BYTES_MAX - (len(TEXT_PREFIX) if text else 0)
        self._sender = Sender(head_list(heads), text, retry_for, access_of(token, tls, ca, cert, key))

    @property
    def identity(self) -> str:
        """The client id under which messages are stored now. It changes after one was refused: readers would otherwise
        wait for the number that never comes."""
        return self._sender.ledger.client

    @property
    def in_flight(self) -> int:
        """Messages that were accepted and are not settled, and those that are settled behind the first of them."""
        return len(self._sender.ledger)

    def send(self, message: Message, timeout: Optional[float] = None, *, source: Optional[str] = None) -> Receipt:
        """Stores one message; returns when it is kept. ``source`` is whose it is, if not this client's.

        NotKept if it is not, as far as the client knows. TimedOut after ``timeout`` seconds; the error says whether the
        message is under way, and then ``flush`` waits for it.
        """
        begun = time.monotonic()
        pending = self._hand_over(message, True, timeout, True, source)
        left = None if timeout is None else max(timeout - (time.monotonic() - begun), 0.0)
        try:
            return pending.result(left)
        except BaseException:
            self._disown(pending)
            raise

    def send_nowait(
        self,
        message: Message,
        *,
        wait_for_room: bool = True,
        timeout: Optional[float] = None,
        source: Optional[str] = None,
    ) -> Pending:
        """Hands a message over and does not wait for its answer: ``flush`` does, or ``result`` of what is returned.

        It waits for room while the window is full, up to ``timeout`` seconds (TimedOut); with ``wait_for_room=False`` a
        full window raises WindowFull at once.

        >>> import acopio
        >>> with acopio.Client("127.0.0.1:5000") as client:
        ...     for n in range(3):
        ...         pending = client.send_nowait(f"reading {n}")
        ...     client.flush()
        ...     pending.done(), pending.result().seq
        (True, 3)
        """
        return self._hand_over(message, wait_for_room, timeout, False, source)

    def send_many(self, messages: Iterable[Message]) -> Iterator[Receipt]:
        """Stores messages as they come, up to a window of them at a time; an iterator of their receipts, in order.

        NotKept at the first that is not kept. Who stops iterating has handed over up to a window more than was seen.
        """
        waiting: Deque[Pending] = deque()
        try:
            for message in messages:
                while waiting and (waiting[0].done() or len(waiting) >= self._window):
                    yield waiting.popleft().result()
                while True:
                    try:
                        # Only what is in flight here can be waited for here.
                        waiting.append(self._hand_over(message, not waiting, None, True))
                        break
                    except WindowFull:
                        yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for pending in waiting:
                self._disown(pending)

    def flush(self, timeout: Optional[float] = None) -> None:
        """Waits until every message that was handed over is settled.

        NotKept for the first message of ``send_nowait`` that was not kept since the last flush. TimedOut after
        ``timeout`` seconds.
        """
        sender = self._of_this_process()
        with sender.lock:
            target = sender.ledger.accepted
            done = sender.settled.wait_for(lambda: sender.ledger.settled >= target, timeout)
            failed = sender.ledger.take_failed() if done else None
        if not done:
            raise _timed_out("what is in flight", timeout)
        if failed is not None:
            Pending(sender, failed).result()

    def close(self, timeout: Optional[float] = None) -> None:
        """Takes nothing more, and returns once everything is settled: after ``retry_for`` without an answer it is given
        up, or after ``timeout`` seconds. Says nothing of what was not kept: ``flush`` does."""
        with self._sender.lock:
            self._sender.close()
        self._sender.join(timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self.close()

    def __del__(self) -> None:
        sender: Optional[Sender] = getattr(self, "_sender", None)
        if sender is None or sender.closing or self._pid != os.getpid():
            return
        if len(sender.ledger):
            warnings.warn(f"{self!r} was not closed with messages in flight", ResourceWarning, source=self)
        # What is in flight is sent as long as the process lives. Not with the lock: this thread may have it.
        sender.close()

    def __repr__(self) -> str:
        return f"<acopio.Client {self.identity}, {self.in_flight} in flight>"

    def _of_this_process(self) -> Sender:
        if self._pid != os.getpid():
            raise ClientClosed("the client", "it belongs to another process", "open one in this process")
        return self._sender

    def _hand_over(
        self, message: Message, may_wait: bool, timeout: Optional[float], is_own: bool, source: Optional[str] = None
    ) -> Pending:
        sender = self._of_this_process()
        payload = _payload(message)
        size = len(payload)
        if size > self._bytes_max:
            raise MessageTooLong(f"a message of {size} bytes", f"above the limit of {self._bytes_max}", "split it")
        entry = Entry(payload, is_own, self._name if source is None else source_name(source))
        with sender.lock:
            if not self._has_room(size):
                if not may_wait:
                    raise WindowFull(
                        "the window", f"{len(sender.ledger)} messages are in flight", "wait for some of them"
                    )
                if not sender.settled.wait_for(lambda: self._has_room(size), timeout):
                    raise _timed_out("room in the window", timeout, "send it later: it was not accepted")
            if sender.closing or sender.ended:
                raise ClientClosed("the client", "it is closed", "open another one")
            sender.push(entry)
        return Pending(sender, entry)

    def _disown(self, pending: Pending) -> None:
        """Nobody waits for its outcome any more: if it is not kept, ``flush`` says so."""
        with self._sender.lock:
            self._sender.ledger.disown(pending._entry)

    def _has_room(self, size: int) -> bool:
        sender = self._sender
        ledger = sender.ledger
        in_flight = len(ledger)
        if sender.ended or not in_flight:
            return True
        return in_flight < self._window and ledger.bytes + size <= self._window_bytes


def send(
    heads: Heads,
    message: Message,
    *,
    name: Optional[str] = None,
    token: Optional[str] = None,
    tls: TlsChoice = False,
    ca: Optional[Path] = None,
    cert: Optional[Path] = None,
    key: Optional[Path] = None,
    text: bool = False,
    retry_for: float = RETRY_FOR,
) -> Receipt:
    """Stores one message over a connection of its own; returns when it is kept. The arguments are those of ``Client``.

    >>> import acopio
    >>> receipt = acopio.send("127.0.0.1:5000", "hola")
    >>> print(receipt.id.time.tzinfo, receipt.nodes)
    UTC ('127.0.0.2',)
    """
    client = Client(
        heads, name=name, token=token, tls=tls, ca=ca, cert=cert, key=key, text=text, retry_for=retry_for
    )
    try:
        return client.send(message)
    finally:
        client.close()


def _payload(message: Message) -> bytes:
    if isinstance(message, bytes):
        return message
    if isinstance(message, str):
        return message.encode()
    if isinstance(message, (bytearray, memoryview)):
        return bytes(message)
    raise BadArgument(f"a message of type {type(message).__name__}", "neither bytes nor str", "encode it")


def _timed_out(subject: str, timeout: Optional[float], remedy: str = "wait longer: it is under way") -> TimedOut:
    seconds = math.inf if timeout is None else timeout
    return TimedOut(subject, f"not within {seconds:g} s", remedy)
