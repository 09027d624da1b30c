"""Second copies and order: what a client's retries disturbed is mended here. No I/O; time is that of the ids, or is
handed in.

A message that was sent again may be kept twice, under two ids, and later messages of its client may have lower ids.
Records come in in the order of ids, or, for who follows, in the order in which they were kept; they go out once for each
client, sequence number and payload, and in the order of sequence numbers as far as 30 s and the bounds of memory allow:
in time of ids for what is there, in time that passes for what comes. No record is ever lost to a bound: past one, what is
held goes out early, or a second copy passes. What has another payload than the message that had its number before is no
copy: it goes out, and says so.
"""

from __future__ import annotations

import heapq
import zlib
from collections import deque
from typing import Deque, Optional, Union

from .errors import ReadFailed
from .ids import RecordId, may_retry
from .protocol import (
    CLIENTS_MAX,
    HELD_BYTES_MAX,
    HELD_EXTRA_BYTES,
    HOLD_NS,
    MEET_NS,
    PAYLOADS_MAX,
    RANGES_MAX,
    TEXT_HOLD_NS,
)
from .records import Record
from .seen import Noted, Seen


def warm_up(since: RecordId) -> RecordId:
    """Where a read has to begin for :class:`Order` to know at ``since`` what went before.

    >>> warm_up(RecordId("1795234260----0----6"))
    RecordId('1795234230----0-----')
    """
    return RecordId.of(max(since.time_ns - HOLD_NS, 0))


def _wait(client: str) -> int:
    """How long a message of this client waits for what is missing before it, as time passes."""
    return HOLD_NS if may_retry(client) else TEXT_HOLD_NS


class _Client:
    """What is known of one client."""

    __slots__ = ("seen", "turn", "held", "used")

    def __init__(self) -> None:
        self.seen = Seen()
        #: The number whose turn it is. Clients count from 1; one that is met in the middle waits for what was before.
        self.turn = 1
        #: Records that wait for their turn, by number, and until when, ns.
        self.held: dict[int, tuple[int, Record]] = {}
        #: When it last had a record, counted in records.
        self.used = 0


class Order:
    """The stage between what heads send and what is delivered."""

    def __init__(
        self,
        since: RecordId,
        held_bytes_max: int = HELD_BYTES_MAX,
        follows: bool = False,
        lacks_numbers: bool = False,
    ) -> None:
        """A stage that delivers records from ``since`` on; it wants those from :func:`warm_up` on. Who ``follows`` may meet
        a record twice, so second copies of everybody are looked for. Where numbers of a client may be missing for good,
        because only some of its messages are read, what comes is not held."""
        self._since = since
        self._clients: dict[str, _Client] = {}
        #: Everything that is held and until when, the first first; what has gone out meanwhile is passed over.
        self._oldest: list[tuple[int, RecordId, str, int]] = []
        self._follows, self._lacks_numbers = follows, lacks_numbers
        #: Time since what comes is delivered, ns; none while what is there is.
        self._live: Optional[int] = None
        #: Until then what comes may have been there before, ns: another head sends it, from every node as it can.
        self._catches_up_until = 0
        self._held = 0
        self._held_bytes, self._held_bytes_max = 0, held_bytes_max
        self._ranges = 0
        self._payloads = 0
        self._records = 0
        #: What is to be delivered; errors of single lines stand among the records.
        self.out: Deque[Union[Record, ReadFailed]] = deque()

    @property
    def oldest_held(self) -> Optional[RecordId]:
        """The least id that is held back, while what is there is delivered."""
        self._pass_over()
        return self._oldest[0][1] if self._oldest else None

    def begin_live(self) -> None:
        """What is there is all read, and what comes is delivered from now on."""
        if self._live is not None:
            return
        self._live, self._follows = 0, True
        if self._lacks_numbers:
            self.finish()
            return
        self._oldest = []
        for name, client in self._clients.items():
            for seq, (_, record) in client.held.items():
                client.held[seq] = (_wait(name), record)
                self._oldest.append((_wait(name), record.id, name, seq))
        heapq.heapify(self._oldest)

    def goes_on(self) -> None:
        """What comes is sent on another connection from now on: of what is there already, nodes that have much to look
        through may send the earlier later."""
        self._catches_up_until = (self._live or 0) + TEXT_HOLD_NS

    def tick(self, now_ns: int) -> None:
        """So much time has passed since :meth:`begin_live`: what waited long enough goes out."""
        if self._live is not None:
            self._live = now_ns
            self._let_go_before(now_ns)

    @property
    def due(self) -> Optional[int]:
        """When something is due that is held, ns since :meth:`begin_live`."""
        return self._oldest[0][0] if self._live is not None and self._oldest_held() else None

    def push(self, record: Record) -> None:
        """A record comes in."""
        name = record.client
        retries, live = may_retry(name), self._live is not None
        if not (retries or self._follows):
            self._deliver(record)
            return
        self._records += 1
        client = self._clients.get(name)
        is_met = client is None
        if client is None:
            client = self._clients[name] = _Client()
        client.used = self._records
        seq, seen = record.seq, client.seen
        ranges, payloads = seen.ranges, seen.payloads
        noted = seen.insert(seq, zlib.crc32(record.payload))
        self._ranges += seen.ranges - ranges
        self._payloads += seen.payloads - payloads
        if noted is Noted.AGAIN:
            return
        if noted is Noted.OTHER:
            self._deliver(record._replace(reused=True))
            return
        in_text = not retries and not live
        # Nothing of what is there before the beginning tells what was before a connection in text: nothing of it is waited
        # for. A number below the turn was given up as missing, or is its client's first: late is better than never.
        if in_text:
            client.turn = seq if is_met else max(client.turn, seq)
        if seq > client.turn and not (live and self._lacks_numbers):
            self._hold(client, record, is_met)
        else:
            client.turn += seq == client.turn
            self._deliver(record)
            if client.held:
                self._let_go(client, 0)
        self._forget()

    def covered(self, below: RecordId) -> None:
        """Nothing below an id comes in any more: what waited long enough goes out."""
        if self._live is None:
            self._let_go_before(below.time_ns)

    def _let_go_before(self, now_ns: int) -> None:
        while self._oldest_held() and self._oldest[0][0] <= now_ns:
            _, _, client, seq = self._oldest[0]
            self._let_go(self._clients[client], seq)

    def finish(self) -> None:
        """Nothing comes in any more: everything goes out."""
        while self._oldest_held():
            _, _, client, seq = self._oldest[0]
            self._let_go(self._clients[client], seq)

    def _oldest_held(self) -> bool:
        """Whether something is held; the oldest of it is then the first of the heap."""
        self._pass_over()
        return bool(self._oldest)

    def _pass_over(self) -> None:
        while self._oldest:
            until, record, name, seq = self._oldest[0]
            client = self._clients.get(name)
            held = None if client is None else client.held.get(seq)
            if held is not None and held[0] == until and held[1].id == record:
                return
            heapq.heappop(self._oldest)

    def _hold(self, client: _Client, record: Record, is_met: bool) -> None:
        self._held_bytes += _weight(record)
        self._held += 1
        if self._live is None:
            until = record.id.time_ns + HOLD_NS
        else:
            until = self._live + (MEET_NS if is_met else _wait(record.client))
            # Who is met in the middle has nothing before that would come; but what comes together may be in disorder.
            if is_met:
                until = max(until, self._catches_up_until)
        client.held[record.seq] = (until, record)
        heapq.heappush(self._oldest, (until, record.id, record.client, record.seq))
        while self._held_bytes > self._held_bytes_max and self._oldest_held():
            _, _, name, seq = self._oldest[0]
            self._let_go(self._clients[name], seq)
        if len(self._oldest) > 2 * self._held + 64:
            # What went out by its turn is still in the heap.
            self._oldest = [
                (until, record.id, record.client, record.seq)
                for one in self._clients.values()
                for until, record in one.held.values()
            ]
            heapq.heapify(self._oldest)

    def _let_go(self, client: _Client, up_to: int) -> None:
        """Delivers what a client has held up to a number, and all that follows it without a gap."""
        due = sorted(seq for seq in client.held if seq <= up_to) if up_to else []
        if due:
            client.turn = due[-1] + 1
        while client.turn in client.held:
            due.append(client.turn)
            client.turn += 1
        for seq in due:
            _, record = client.held.pop(seq)
            self._held_bytes -= _weight(record)
            self._held -= 1
            self._deliver(record)

    def _deliver(self, record: Record) -> None:
        if record.id >= self._since:
            self.out.append(record)

    def _forget(self) -> None:
        """Keeps what is remembered within its bounds."""
        if len(self._clients) > CLIENTS_MAX or self._ranges > RANGES_MAX:
            self._forget_half()
        if self._payloads > PAYLOADS_MAX:
            for client in self._clients.values():
                client.seen.forget_payloads()
            self._payloads = sum(client.seen.payloads for client in self._clients.values())

    def _forget_half(self) -> None:
        """Forgets the half of the clients that had no record for longest; what is held of them goes out."""
        by_use = sorted(self._clients, key=lambda name: self._clients[name].used)
        for name in by_use[: len(by_use) // 2]:
            client = self._clients[name]
            self._let_go(client, max(client.held, default=0))
            self._ranges -= client.seen.ranges
            self._payloads -= client.seen.payloads
            del self._clients[name]


def _weight(record: Record) -> int:
    """What a held record counts for, bytes."""
    return len(record.payload) + HELD_EXTRA_BYTES
