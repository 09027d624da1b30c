"""A reader's way to the heads: asks one after the other, hands on what comes, and goes on where it was when a head is
lost. It looks into no line.

It is a generator of what it waits for and of what it has got. It reads from the socket only when it is asked for more,
so a reader that nobody asks leaves the rest to TCP.
"""

from __future__ import annotations

import math
import time
from typing import Generator, NamedTuple, Optional, Union

from . import frames
from .access import Access
from .connection import Connection, Ended, Want, lost, open_connection, out_of_place, pause, refused, silent
from .errors import ReadFailed, Refusal
from .errors import missing as nodes_missing
from .errors import no_head
from .errors import refused as read_refused
from .ids import RecordId
from .protocol import PING_AFTER, TOKEN_OF_BEGINNING, Code
from .troubles import Backoff, Troubles, open_max, silence_max

#: What a head waits for that has no data node, and knows of none.
_NOBODY = "dataNodes"
#: Bytes that a head does not take before its Pings get no answer any more.
_UNSENT_MAX = 4096


class Query(NamedTuple):
    """What to read."""

    since: RecordId
    until: RecordId
    client: Optional[int]
    follow: bool
    partial: bool
    #: Names of sources and of groups; none for everything.
    sources: tuple[str, ...] = ()


class HeadLost(NamedTuple):
    """A head was lost or refused for now; the next is asked. Told once for each cause."""

    head: str
    cause: str


class WaitingFor(NamedTuple):
    """The read waits for data nodes that are away, or goes on if none is named."""

    nodes: tuple[str, ...]


class Lines(NamedTuple):
    """Whole lines: in the order of ids, or, if it is ``live``, in the order in which they were kept."""

    head: str
    #: Counts connections.
    connection: int
    #: What that connection was asked for: nothing below this id comes on it.
    since: RecordId
    #: Everything below this id has been sent, of what is there.
    next: RecordId
    lines: bytes
    #: The connection goes on with what comes, which has no order of ids.
    live: bool = False


class Live(NamedTuple):
    """What is there is all sent; what comes is sent from now on."""


class End(NamedTuple):
    """The read is over."""

    next: RecordId
    missing: tuple[str, ...]


Delivery = Union[Lines, Live, End, HeadLost, WaitingFor, ReadFailed]
Steps = Generator[Union[Want, Delivery], None, None]
_Over = Generator[Union[Want, Delivery], None, bool]


class Link:
    """One read over any head of a list."""

    def __init__(
        self, heads: tuple[str, ...], query: Query, retry_for: float, access: Access = Access()
    ) -> None:
        self._heads, self._query, self._retry_for, self._access = heads, query, retry_for, access
        self._troubles = Troubles(heads)
        self._connections = 0
        #: Everything below it was sent that is there.
        self._reached = query.since
        #: Where it goes on, as the last head told it.
        self._token = b""
        #: Where lines come from now.
        self._source = Lines("", 0, query.since, query.since, b"")
        #: The last time that a head brought the read on.
        self._progress = time.monotonic()
        #: Nodes that the head waits for.
        self._waiting: tuple[str, ...] = ()
        #: What lines lacked that came already, as their heads said.
        self._lacks: set[str] = set()

    def idle(self, seconds: float) -> None:
        """Nobody asked for more in this time: heads are not to be blamed for it."""
        self._progress += seconds

    def run(self) -> Steps:
        """Until the read is over; a ReadFailed that it yields is its last word."""
        backoff, turn = Backoff(), 0
        self._progress = time.monotonic()
        while True:
            place = turn % len(self._heads)
            before = self._progress
            try:
                yield from self._converse(place, self._heads[place])
                return
            except Ended as caught:
                ended = caught
            if self._left() <= 0 and ended.refusal is None:
                # Cut short, it says less than what was known before.
                self._troubles.note_if_none(place, ended)
                yield self._nobody()
                return
            refusal = ended.refusal if ended.refusal is not None and not ended.refusal.retry else None
            is_news = self._troubles.note(place, ended, refusal is not None)
            if refusal is not None and self._troubles.are_final():
                yield read_refused(self._troubles.list(), refusal)
                return
            if self._progress > before:
                backoff.reset()
            if self._left() <= 0:
                yield self._nobody()
                return
            if is_news:
                yield from self._deliver(HeadLost(self._heads[place], ended.cause))
            turn += 1
            if turn % len(self._heads) == 0:
                yield pause(time.monotonic() + min(backoff.next(), self._left()))

    def _deliver(self, delivery: Delivery) -> Steps:
        begun = time.monotonic()
        yield delivery
        # Who asks for no more is not waited for by anybody.
        self._progress += time.monotonic() - begun

    def _left(self) -> float:
        """How long a read that does not follow may go on without coming further."""
        if self._query.follow:
            return math.inf
        return self._retry_for - (time.monotonic() - self._progress)

    def _nobody(self) -> ReadFailed:
        return no_head(time.monotonic() - self._progress, self._troubles.list())

    def _goes_on(self, next_id: RecordId) -> bool:
        """Whether a frame without lines brings the read on. What is there already is passed over faster than time goes
        by, which alone brings a clock that is behind nowhere."""
        if self._query.follow:
            return next_id > self._reached
        moved = (next_id.time_ns - self._reached.time_ns) / 1e9
        return moved > 2 * (time.monotonic() - self._progress)

    # ---- one head --------------------------------------------------------------------------------

    def _converse(self, place: int, head: str) -> Steps:
        """Reads from one head until the read is over; Ended if the connection is lost."""
        self._waiting = ()
        query = self._query
        patience = min(open_max(len(self._heads), math.inf if query.follow else self._retry_for), self._left())
        token, live = self._token, _is_live(self._token)
        # What comes has no order: a head whose clock is behind gives ids that were passed long ago.
        since = query.since if live else self._reached
        asks = frames.read(since, query.until, query.client, query.follow, query.partial, token, query.sources)
        connection = yield from open_connection(head, patience, asks, self._access)
        try:
            self._connections += 1
            self._source = Lines(head, self._connections, since, since, b"", live)
            yield from self._listen(place, connection)
        finally:
            connection.close()

    def _listen(self, place: int, connection: Connection) -> Steps:
        heard, asked = time.monotonic(), None
        while True:
            connection.send()
            came, got = connection.receive()
            if came:
                heard, asked = time.monotonic(), None
            for frame in got:
                over = yield from self._take(place, connection, frame)
                if over:
                    return
            if came:
                continue
            now = time.monotonic()
            left = self._left()
            if left <= 0:
                yield self._waited_too_long(place)
                return
            if self._waiting and self._troubles.has_better(place):
                raise _waits_for(self._waiting)
            # A head that says nothing for a while is asked whether it is there, and has a while to say so.
            word = heard + PING_AFTER if asked is None else asked + silence_max(len(self._heads)) - PING_AFTER
            if now < word:
                yield connection.want(min(word, now + left))
            elif asked is None:
                asked = now
                connection.say(frames.ping(self._connections))
            else:
                raise silent(silence_max(len(self._heads)))

    def _take(self, place: int, connection: Connection, frame: frames.Frame) -> _Over:
        """Takes a frame; true if the read is over."""
        query = self._query
        if isinstance(frame, frames.Records):
            if frame.lines or self._goes_on(frame.next):
                self._progress = time.monotonic()
                self._troubles.served(place)
            self._reached = max(self._reached, frame.next)
            yield from self._deliver(self._source._replace(next=frame.next, lines=frame.lines))
        elif isinstance(frame, frames.Token):
            self._token = frame.token
            if _is_live(frame.token) and not self._source.live:
                self._source = self._source._replace(live=True)
                yield from self._deliver(Live())
        elif isinstance(frame, frames.Waiting):
            yield from self._wait_for(place, frame.nodes)
        elif isinstance(frame, frames.ReadEnd):
            if query.follow and frame.next < query.until:
                # A read that follows ends only at its own end; a head that ends it earlier has stopped reading.
                self._reached = max(self._reached, frame.next)
                raise lost("it closed the connection")
            yield End(frame.next, _both(frame.missing, self._lacks))
            return True
        elif isinstance(frame, frames.Lacks):
            self._lacks.update(frame.missing)
        elif isinstance(frame, frames.Failure):
            raise refused(frame.refusal)
        elif isinstance(frame, frames.Ping):
            if connection.unsent < _UNSENT_MAX:
                connection.say(frames.pong(frame.number))
        elif not isinstance(frame, (frames.Pong, frames.Welcome)):
            raise out_of_place(frame)
        return False

    def _wait_for(self, place: int, nodes: tuple[str, ...]) -> Steps:
        self._waiting = nodes
        if nodes:
            # Another head may have them.
            if self._troubles.has_better(place):
                raise _waits_for(nodes)
            self._troubles.note(place, _waits_for(nodes))
        yield from self._deliver(WaitingFor(nodes))

    def _waited_too_long(self, place: int) -> ReadFailed:
        """What a read that does not follow fails with when it comes no further."""
        if any(name != _NOBODY for name in self._waiting):
            return nodes_missing(self._waiting)
        stalled = "it answers, and what it sends gets no further; see what its log says of its data nodes"
        self._troubles.note_if_none(place, Ended(stalled))
        return self._nobody()


def _both(missing: tuple[str, ...], lacks: set[str]) -> tuple[str, ...]:
    """What is missing at the end, and what lacked before it: each node once, with the last cause."""
    known = {name.split(" ", 1)[0] for name in missing}
    return missing + tuple(name for name in sorted(lacks) if name.split(" ", 1)[0] not in known)


def _is_live(token: bytes) -> bool:
    """Whether a token says that everything was sent that was there at the beginning."""
    return bool(token) and not token.startswith(TOKEN_OF_BEGINNING)


def _waits_for(nodes: tuple[str, ...]) -> Ended:
    """Why a head cannot answer now that has not all nodes."""
    if nodes == (_NOBODY,):
        text = "no hay dataNodes; start one with 'acopio data --head <this head>', then read again"
    else:
        text = f"it waits for {', '.join(nodes)}; start what is away again"
    return refused(Refusal(Code.NO_NODES, True, text))
