"""What a client has accepted and not settled, by sequence number: what to send, what to send again, when to give up.

No sockets, no threads, no clock: the time is handed in. A lost connection makes everything that is not settled unsent
again, under the same numbers.
"""

from __future__ import annotations

import threading
from typing import NamedTuple, Optional, Union

from . import frames
from .errors import Refusal
from .ids import RecordId
from .protocol import BATCH_BYTES_MAX, BATCH_MESSAGES_MAX, Code, Sync

#: After these a message may be kept by some of its nodes.
_MAYBE = (Code.REGISTRO, Code.NO_NODES)


class Receipt(NamedTuple):
    """A message that is kept."""

    #: Its id, which is the time at which a head took it.
    id: RecordId
    #: Addresses of the data nodes that keep it.
    nodes: tuple[str, ...]
    #: How safely they keep it; the weakest of them.
    sync: Sync
    #: The client under which it was sent, and its number: readers know it by these.
    client: str
    seq: int


class Failed(NamedTuple):
    """A message that is not kept, as far as is known."""

    refusal: Refusal
    may_be_kept: bool


class Entry:
    """One message."""

    __slots__ = ("seq", "payload", "source", "is_sent", "was_sent", "outcome", "event", "is_own", "client")

    def __init__(self, payload: bytes, is_own: bool, source: Optional[str] = None) -> None:
        self.seq = 0
        self.client = ""
        self.payload = payload
        self.source = source
        self.is_sent = False
        #: Some head may have got it.
        self.was_sent = False
        self.outcome: Union[Receipt, Failed, None] = None
        #: Somebody waits for the outcome.
        self.event: Optional[threading.Event] = None
        #: Whoever sent it learns its outcome; flush has nothing to say of it.
        self.is_own = is_own

    def settle(self, outcome: Union[Receipt, Failed]) -> None:
        """Tells what became of it."""
        self.outcome, self.payload = outcome, b""
        if self.event is not None:
            self.event.set()


class Ledger:
    """The messages of one client that are not settled."""

    def __init__(self, client: str) -> None:
        self.client = client
        self._entries: dict[int, Entry] = {}
        #: Every number below is settled; the number that comes next.
        self._first, self._next = 1, 1
        #: No number below is unsent.
        self._cursor = 1
        #: Sent and not settled.
        self.sent = 0
        self.bytes = 0
        #: Unsent messages wait until then: a head refused for now.
        self.hold: Optional[float] = None
        #: Since when nothing was settled while something waits.
        self.stuck_since: Optional[float] = None
        #: Some message was refused for good: its number never comes.
        self.has_gap = False
        #: Messages accepted so far, of every client id.
        self.accepted = 0
        #: The first message that was refused since this was last asked for, of those that are not somebody's own.
        self.first_failed: Optional[Entry] = None

    def __len__(self) -> int:
        """Numbers from the first that is not settled to the last."""
        return self._next - self._first

    @property
    def settled(self) -> int:
        """How many of the messages accepted so far are settled, up to the first that is not."""
        return self.accepted - len(self)

    def push(self, entry: Entry, now: float) -> None:
        """Accepts a message."""
        if self.stuck_since is None:
            self.stuck_since = now
        entry.seq, entry.client = self._next, self.client
        self._entries[self._next] = entry
        self._next += 1
        self.accepted += 1
        self.bytes += len(entry.payload)

    def encode(self, bytes_max: int, now: float) -> bytes:
        """Unsent messages as Store frames of together about so many bytes; they count as sent."""
        if self.hold is not None:
            if now < self.hold:
                return b""
            self.hold = None
        out: list[bytes] = []
        size, seq, entries = 0, self._cursor, self._entries
        while size < bytes_max and seq < self._next:
            batch: list[bytes] = []
            batch_bytes, first, source = 0, seq, None
            while len(batch) < BATCH_MESSAGES_MAX:
                entry = entries.get(seq)
                if entry is None or entry.is_sent or (batch and entry.source != source):
                    break
                source = entry.source
                batch_bytes += len(entry.payload)
                if batch and batch_bytes > BATCH_BYTES_MAX:
                    break
                batch.append(entry.payload)
                entry.is_sent = entry.was_sent = True
                seq += 1
            if batch:
                out.append(frames.store(first, batch, source))
                size += len(out[-1])
                self.sent += len(batch)
            else:
                seq += 1
        self._cursor = seq
        return b"".join(out)

    def acked(self, frame: frames.Acked, now: float) -> bool:
        """A head keeps these messages; true if that is news."""
        settled = False
        for seq in self._range(frame.first_seq, frame.messages):
            entry = self._take(seq)
            if entry is not None:
                settled = True
                record = frame.first.plus(seq - frame.first_seq)
                entry.settle(Receipt(record, frame.nodes, frame.sync, self.client, seq))
        if settled:
            self._trim(now)
        return settled

    def refused(self, frame: frames.Refused, again: float, now: float) -> bool:
        """A head does not keep these messages: they are tried again at ``again``, or given up, which is true."""
        if frame.refusal.retry:
            for seq in self._range(frame.first_seq, frame.messages):
                entry = self._entries.get(seq)
                if entry is not None and entry.is_sent:
                    entry.is_sent = False
                    self.sent -= 1
                    self._cursor = min(self._cursor, seq)
                    self.hold = again
            return False
        settled = False
        for seq in self._range(frame.first_seq, frame.messages):
            entry = self._take(seq)
            if entry is not None:
                self._fail(entry, Failed(frame.refusal, frame.refusal.code in _MAYBE))
                settled = True
        if settled:
            self._trim(self.stuck_since or now)
        return settled

    def rewind(self) -> None:
        """The connection is lost: whatever is not settled is sent again."""
        for entry in self._entries.values():
            entry.is_sent = False
        self.sent, self._cursor, self.hold = 0, self._first, None

    def give_up(self, refusal: Refusal) -> None:
        """Gives up everything that waits."""
        for entry in self._entries.values():
            self._fail(entry, Failed(refusal, entry.was_sent))
        self._entries.clear()
        self._first = self._cursor = self._next
        self.sent, self.bytes = 0, 0
        self.hold = self.stuck_since = None

    def renew(self, client: str) -> None:
        """Goes on as another client, if nothing waits: readers need not wait for a number that never comes."""
        if not self._entries:
            self.client, self.has_gap = client, False
            self._first = self._cursor = self._next = 1

    def take_failed(self) -> Optional[Entry]:
        """The first message that failed since this was asked last."""
        failed, self.first_failed = self.first_failed, None
        return failed

    def disown(self, entry: Entry) -> None:
        """Nobody waits for its outcome any more."""
        if isinstance(entry.outcome, Failed):
            return
        entry.is_own = False

    def _fail(self, entry: Entry, failed: Failed) -> None:
        self.has_gap = True
        entry.settle(failed)
        if self.first_failed is None and not entry.is_own:
            self.first_failed = entry

    def _range(self, first_seq: int, count: int) -> range:
        return range(max(first_seq, self._first), min(first_seq + count, self._next))

    def _take(self, seq: int) -> Optional[Entry]:
        entry = self._entries.pop(seq, None)
        if entry is not None:
            self.sent -= entry.is_sent
            self.bytes -= len(entry.payload)
        return entry

    def _trim(self, now: float) -> None:
        while self._first < self._next and self._first not in self._entries:
            self._first += 1
        self._cursor = max(self._cursor, self._first)
        self.stuck_since = now if self._entries else None
