"""Reading back: the cluster's messages as an iterator, merged in the order of ids, each once; and what comes.

It checks each record's checksum, drops second copies, puts each client's messages in the order in which they were sent,
and goes on with the next head where it was when one is lost. It reads ahead of who asks by a frame and no more. What
holds for each client that sends again under the same number:

- each of its messages comes once, unless its second copy is millions of messages behind the first;
- a message with the number of another one, and another payload, is no second copy: it comes too, and is ``reused``. Its
  client began to count anew under the same id;
- its messages come in the order of their numbers where a retry disturbed it by no more than 30 s. A message whose
  predecessor never comes waits for that long, in time of ids; a read that does not follow delivers what waits at its
  end.

Messages of clients in text come in the order of ids, which is that in which their head read them.

A read that follows delivers what is there like that, and then what comes, in the order in which it was kept: there is none
among clients, and each client's messages come in the order of their numbers. What is missing before a message is waited
for, 30 s at most.

>>> import acopio
>>> receipt = acopio.send("127.0.0.1:5000", "hola")
>>> for record in acopio.read("127.0.0.1:5000", since=receipt.id):
...     print(record.text, record.id == receipt.id)
hola True
"""

from __future__ import annotations

import logging
import math
import threading
import time
from datetime import datetime, timezone
from typing import Callable, Iterator, Optional, Sequence, Union

from .access import Access, Path, TlsChoice, access_of
from .client import Heads
from .connection import Waker, Want, head_list, wait
from .errors import BadArgument, DamagedLine, Disorder, ReadFailed
from .errors import missing as nodes_missing
from .ids import MAX, ZERO, RecordId, client_number
from .link import End, HeadLost, Lines, Link, Live, Query, WaitingFor
from .moments import Moment, moment_id
from .names import source_names
from .order import Order, warm_up
from .protocol import CLIENT_RETRIES, RETRY_FOR
from .records import LineError, Record, decode_all

log = logging.getLogger("acopio")

Event = Union[HeadLost, WaitingFor]
Sources = Union[str, Sequence[str]]
_ID_CHARS = 20


class Reader(Iterator[Record]):
    """A read under way. Any thread may ask it, one at a time, and any other thread may close it."""

    def __init__(
        self,
        heads: tuple[str, ...],
        query: Query,
        retry_for: float,
        on_event: Optional[Callable[[Event], None]],
        access: Access = Access(),
    ) -> None:
        """For ``read`` and ``follow``."""
        # Second copies of what is before the beginning are known by what was before it.
        may_be_twice = query.client is None or query.client >= CLIENT_RETRIES
        since = warm_up(query.since) if may_be_twice else query.since
        self._order = Order(query.since, follows=query.follow, lacks_numbers=bool(query.sources))
        self._partial, self._on_event = query.partial, on_event
        self._link = Link(heads, query._replace(since=since), retry_for, access)
        self._steps = self._link.run()
        self._want: Optional[Want] = None
        self._waker = Waker()
        self._lock = threading.Lock()
        self._closed = self._over = False
        #: When nobody asked for more any more.
        self._left_at: Optional[float] = None
        #: Since when what comes is delivered, by the clock that only goes on, ns.
        self._live_at: Optional[int] = None
        self._connection = 0
        #: The last record of this connection is not above the next; and the last of any connection.
        self._least = since
        self._last: Optional[Record] = None
        #: Everything below has been sent.
        self._covered = query.since
        #: Data nodes that are missing from the answer, once it is over; only with ``partial``.
        self.missing: tuple[str, ...] = ()

    def __iter__(self) -> Reader:
        return self

    def __next__(self) -> Record:
        """The next record. DamagedLine leaves one out, and the next call goes on behind it; any other ReadFailed is the
        end of the read."""
        record = self.get()
        if record is None:
            raise StopIteration
        return record

    def get(self, timeout: Optional[float] = None) -> Optional[Record]:
        """The next record; none if the read is over, or after so many seconds without one.

        >>> import acopio
        >>> with acopio.follow("127.0.0.1:5000", since="now") as reader:
        ...     print(reader.get(timeout=0.1), reader.over)
        None False
        """
        until = math.inf if timeout is None else time.monotonic() + timeout
        try:
            with self._lock:
                return self._next(until)
        finally:
            if self._closed:
                self._dispose()

    @property
    def over(self) -> bool:
        """Whether nothing comes any more."""
        return self._over and not self._order.out

    @property
    def position(self) -> RecordId:
        """Everything below this id has been delivered: a later read can begin there.

        Where messages were out of order when a read is given up, some that were delivered may come again. While what comes
        is delivered, which has no order of ids, it stays where that began.
        """
        known = [self._covered, *(item.id for item in self._order.out if isinstance(item, Record))]
        held = None if self._live_at is not None else self._order.oldest_held
        return min(known if held is None else [*known, held])

    def close(self) -> None:
        """Ends the read; whoever waits for a record learns at once that there is none."""
        self._closed = True
        self._waker.wake()
        self._dispose()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_lock"):
            self.close()

    # ---- with the lock ---------------------------------------------------------------------------

    def _next(self, until: float) -> Optional[Record]:
        if self._left_at is not None:
            self._link.idle(time.monotonic() - self._left_at)
            self._left_at = None
        out = self._order.out
        while not self._closed:
            if self._live_at is not None:
                self._order.tick(time.monotonic_ns() - self._live_at)
            if out:
                item = out.popleft()
                if isinstance(item, ReadFailed):
                    raise item
                return item
            if self._over:
                return None
            due = self._due()
            if self._want is not None and not wait(self._want, self._waker, min(until, due)):
                now = time.monotonic()
                if due > now >= until and not self._closed:
                    self._left_at = now
                    return None
                continue
            self._step()
        return None

    def _due(self) -> float:
        """When something is due that is held, by the clock that only goes on."""
        due = self._order.due
        return math.inf if due is None or self._live_at is None else (self._live_at + due) / 1e9

    def _begin_live(self) -> None:
        if self._live_at is None:
            self._live_at = time.monotonic_ns()
            self._order.begin_live()

    def _step(self) -> None:
        self._want = None
        item = next(self._steps, None)
        if isinstance(item, Want):
            self._want = item
        elif isinstance(item, Lines):
            self._take(item)
        elif isinstance(item, Live):
            self._begin_live()
        elif isinstance(item, (HeadLost, WaitingFor)):
            self._tell(item)
        elif isinstance(item, End):
            failed = nodes_missing(item.missing) if item.missing and not self._partial else None
            if failed is None:
                self.missing = item.missing
                self._covered = max(self._covered, item.next)
            self._end(failed)
        elif item is None:
            # An exception of the caller's, as of a signal, ended it in the middle of a step.
            self._end(ReadFailed("the read", "it was interrupted", "begin another one at its position"))
        else:
            self._end(item)

    def _take(self, delivery: Lines) -> None:
        """Moves lines to the order stage. A connection sends what is there in the order of ids, one twice only for two
        records that have it; what a new connection repeats is left out. What comes has no order."""
        if delivery.live:
            self._begin_live()
        if delivery.connection != self._connection:
            if delivery.live and self._connection:
                self._order.goes_on()
            self._connection, self._least = delivery.connection, delivery.since
        order = self._order
        lines = delivery.lines.split(b"\n")[:-1]
        for line, record in zip(lines, decode_all(lines)):
            if isinstance(record, LineError):
                order.out.append(_damaged(delivery.head, line, record))
                continue
            if delivery.live:
                order.push(record)
                continue
            if record.id < self._least:
                return self._end(
                    Disorder(
                        f"head {delivery.head}",
                        f"it sent record {record.id} out of order",
                        "use the same version on both sides",
                    )
                )
            self._least = record.id
            last = self._last
            if last is None or last.id < record.id or (last.id == record.id and _differ(last, record)):
                self._last = record
                order.push(record)
        order.covered(delivery.next)
        self._covered = max(self._covered, delivery.next)
        return None

    def _tell(self, event: Event) -> None:
        if self._on_event is not None:
            self._on_event(event)
        elif isinstance(event, HeadLost):
            log.warning("head %s: %s; reading goes on at the next", event.head, event.cause)
        elif event.nodes:
            log.warning("the read waits for %s", ", ".join(event.nodes))

    def _end(self, failed: Optional[ReadFailed]) -> None:
        """The last word; what is held is delivered before it."""
        self._order.finish()
        if failed is not None:
            self._order.out.append(failed)
        self._over = True
        self._steps.close()

    def _dispose(self) -> None:
        """Lets go of the connection, unless a thread is at it, which then does so itself."""
        if self._lock.acquire(blocking=False):
            try:
                self._over = True
                self._order.out.clear()
                self._steps.close()
                self._waker.close()
            finally:
                self._lock.release()


def read(
    heads: Heads,
    *,
    since: Optional[Moment] = None,
    until: Optional[Moment] = None,
    client: Optional[str] = None,
    sources: Sources = (),
    token: Optional[str] = None,
    tls: TlsChoice = False,
    ca: Optional[Path] = None,
    cert: Optional[Path] = None,
    key: Optional[Path] = None,
    partial: bool = False,
    retry_for: float = RETRY_FOR,
    on_event: Optional[Callable[[Event], None]] = None,
) -> Reader:
    """Reads everything that is kept by now: an iterator of records in the order of ids, each once.

    ``since``, ``until``: from when on, and before when: a record id, a datetime, a timedelta ago, or text such as
    ``"10m"`` or ``"2026-11-21"``. ``client``: only this client's.
    ``sources``: only these sources' and groups', as ``"esp7"`` or ``["esp7", "taller/"]``.
    ``token``: the secret of a token, for heads that ask clients for one.
    ``tls``, ``ca``, ``cert``, ``key``: as ``Client`` has them.
    ``partial``: go on without data nodes that are away; ``missing`` of the reader names them at the end. Without it the
    read waits for them, and ends with NodesMissing if they do not come.
    ``retry_for``: seconds to go on trying while no head brings the read further.
    ``on_event``: is called when a head is lost and when the read waits; the logger ``acopio`` is told otherwise.

    >>> import acopio
    >>> with acopio.Client("127.0.0.1:5000") as writer:
    ...     for word in ("uno", "dos"):
    ...         receipt = writer.send(word)
    >>> [record.text for record in acopio.read("127.0.0.1:5000", client=writer.identity)]
    ['uno', 'dos']
    """
    access = access_of(token, tls, ca, cert, key)
    return _begin(heads, since, until, client, sources, access, False, partial, retry_for, on_event)


def follow(
    heads: Heads,
    *,
    since: Optional[Moment] = None,
    until: Optional[Moment] = None,
    client: Optional[str] = None,
    sources: Sources = (),
    token: Optional[str] = None,
    tls: TlsChoice = False,
    ca: Optional[Path] = None,
    cert: Optional[Path] = None,
    key: Optional[Path] = None,
    partial: bool = False,
    on_event: Optional[Callable[[Event], None]] = None,
) -> Reader:
    """The same, and then what comes: it ends only at ``until``, or when it is closed. It tries for ever.

    ``since="now"`` leaves out what is there already. What comes has no order of ids. A later follow that begins at
    ``since=reader.position`` misses nothing where the clocks of the heads agree, and repeats what came meanwhile.

    >>> import acopio
    >>> with acopio.follow("127.0.0.1:5000", since="now") as reader:
    ...     receipt = acopio.send("127.0.0.1:5000", "hola")
    ...     print(next(reader).text)
    hola
    """
    access = access_of(token, tls, ca, cert, key)
    return _begin(heads, since, until, client, sources, access, True, partial, math.inf, on_event)


def _begin(
    heads: Heads,
    since: Optional[Moment],
    until: Optional[Moment],
    client: Optional[str],
    sources: Sources,
    access: Access,
    follow: bool,
    partial: bool,
    retry_for: float,
    on_event: Optional[Callable[[Event], None]],
) -> Reader:
    now = datetime.now(timezone.utc)
    begin = ZERO if since is None else moment_id(since, now)
    end = MAX if until is None else moment_id(until, now)
    try:
        who = None if client is None else client_number(client)
    except ValueError as error:
        raise BadArgument("the client to read", str(error), "take it from a record or a receipt") from None
    if not retry_for > 0:
        raise BadArgument("a read", f"retry_for is {retry_for}", "give a number of seconds above 0")
    query = Query(begin, end, who, follow, partial, source_names(sources))
    return Reader(head_list(heads), query, retry_for, on_event, access)


def _differ(one: Record, other: Record) -> bool:
    return (one.client, one.seq, one.source, one.payload) != (other.client, other.seq, other.source, other.payload)


def _damaged(head: str, line: bytes, error: LineError) -> DamagedLine:
    start = line[:_ID_CHARS].decode("ascii", "backslashreplace")
    return DamagedLine(
        f"a line from head {head} that begins {start!r}",
        f"damaged: {error}",
        "read it again, and run 'acopio verify' on the nodes",
    )
