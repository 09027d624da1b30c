"""The thread behind a client: it reaches heads, sends what the ledger holds, and goes on with the next head when one is
lost, under the same sequence numbers. What callers see of it is in ``client``; what is sent when, in ``ledger``.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import Optional

from . import frames
from .access import Access
from .connection import (
    Connection,
    Ended,
    Waker,
    lost,
    open_connection,
    out_of_place,
    pause,
    refused,
    silent,
    wait,
)
from .errors import Refusal
from .ids import client_number, new_client
from .ledger import Entry, Ledger
from .protocol import (
    BACKOFF_MAX,
    BACKOFF_MIN,
    HANDSHAKE_TIME_MAX,
    OUT_BYTES_MAX,
    PING_AFTER,
    REFUSED_WAIT_MAX,
    VERSION,
    Code,
)
from .troubles import Backoff, Troubles, open_max, silence_max

log = logging.getLogger("acopio")


class _OutOfTime(Exception):
    """Nothing was settled for as long as it may be tried."""


class Sender:
    """What a client and its thread share. The thread keeps this, not the client, alive."""

    def __init__(
        self, heads: tuple[str, ...], text: bool, retry_for: float, access: Access = Access()
    ) -> None:
        self._heads, self._text, self._retry_for, self._access = heads, text, retry_for, access
        self.lock = threading.Lock()
        #: Told when messages were settled, or nothing more will be.
        self.settled = threading.Condition(self.lock)
        self.ledger = Ledger(new_client())
        #: Settle what there is, then end.
        self.closing = False
        #: Nothing is taken any more.
        self.ended = False
        self._aborted = False
        self._asleep = False
        self._waker = Waker()
        self._thread: Optional[threading.Thread] = None
        self._troubles = Troubles(heads)
        self._backoff = Backoff()

    # ---- for callers, who have the lock unless it is said otherwise ------------------------------

    def push(self, entry: Entry) -> None:
        """Accepts a message; there is room for it."""
        self.ledger.push(entry, time.monotonic())
        if self._thread is None:
            # A daemon: an interpreter that ends does not wait for heads that are away. Clients say that they have to be
            # closed.
            self._thread = threading.Thread(target=self._run, name="acopio-client", daemon=True)
            self._thread.start()
        elif self._asleep:
            self._asleep = False
            self._waker.wake()

    def close(self) -> None:
        """Takes nothing more."""
        self.closing = True
        if self._thread is None:
            self.ended = True
            self._waker.close()
        else:
            self._waker.wake()

    def join(self, timeout: Optional[float]) -> None:
        """Waits until all is settled and the thread has ended; without the lock. What is not settled is given up."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        thread.join(timeout)
        if thread.is_alive():
            self._aborted = True
            self._waker.wake()
            # It waits for nothing but heads, and that has ended.
            thread.join(HANDSHAKE_TIME_MAX)

    # ---- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        why = "the client was closed; open another one and send it again"
        try:
            self._work()
        except Exception as error:
            log.exception("a client of acopio ends because of a fault in it")
            why = f"a fault in the client ended it: {error!r}; open another one, and report this"
        finally:
            with self.lock:
                self.ended = True
                self.ledger.give_up(Refusal(Code.STOPPING, False, why))
                self.settled.notify_all()
            self._waker.close()

    def _work(self) -> None:
        turn = 0
        while self._has_work():
            place = turn % len(self._heads)
            try:
                self._converse(place, self._heads[place])
                continue
            except _OutOfTime:
                self._troubles.note_if_none(place, silent(self._retry_for))
                self._rewind()
                self._give_up(self._retry_for)
                continue
            except Ended as ended:
                self._rewind()
                wait_max = self._left(place, ended)
            turn += 1
            pause = min(self._backoff.next(), wait_max)
            if turn % len(self._heads) == 0:
                self._sleep(time.monotonic() + pause)

    def _left(self, place: int, ended: Ended) -> float:
        """Notes why a head was left; returns how long to wait at most before it is asked again."""
        refusal = ended.refusal
        # A head of another version says nothing of the next one, nor of what comes in its place.
        is_final = refusal is not None and not refusal.retry and refusal.code != Code.VERSION
        if self._troubles.note(place, ended, is_final):
            next_one = "again" if len(self._heads) == 1 else "the next one"
            log.warning("head %s: %s; trying %s", self._heads[place], ended.cause, next_one)
        self._give_up(0.0 if self._troubles.are_final() else self._retry_for)
        # Heads that are there and refuse for now may serve again any moment; those that are lost come back later.
        return BACKOFF_MAX if refusal is None else REFUSED_WAIT_MAX

    def _has_work(self) -> bool:
        """Waits for a message; false when there will be none."""
        while True:
            with self.lock:
                if len(self.ledger):
                    return not self._aborted
                if self.closing:
                    return False
                self._asleep = True
            self._waker.wait_for_word()

    def _tell_settled(self) -> None:
        """Tells callers that messages were settled; with the lock, so that what comes next is another client's already
        where it has to be."""
        if self.ledger.has_gap and not len(self.ledger):
            self.ledger.renew(new_client())
        self.settled.notify_all()

    def _rewind(self) -> None:
        with self.lock:
            self.ledger.rewind()

    def _end_of_patience(self) -> float:
        since = self.ledger.stuck_since
        return math.inf if since is None else since + self._retry_for

    def _give_up(self, patience: float) -> None:
        with self.lock:
            since = self.ledger.stuck_since
            if since is not None and time.monotonic() - since >= patience:
                self.ledger.give_up(self._troubles.refusal(self._retry_for))
                self._tell_settled()

    def _sleep(self, until: float) -> None:
        """Waits before heads are asked again; a message that comes meanwhile changes nothing."""
        while not self._aborted:
            with self.lock:
                end = min(until, self._end_of_patience())
            if time.monotonic() >= end:
                break
            wait(pause(end), self._waker, math.inf)
        self._give_up(self._retry_for)

    # ---- one head --------------------------------------------------------------------------------

    def _converse(self, place: int, head: str) -> None:
        """Talks to one head until all is settled and nothing more comes; Ended if the connection is lost."""
        connection = self._open(place, head)
        try:
            _Talk(self, connection, place).run()
        finally:
            connection.close()

    def _open(self, place: int, head: str) -> Connection:
        patience = open_max(len(self._heads), self._retry_for)
        hello = frames.hello(client_number(self.ledger.client), self._text)
        steps = open_connection(head, patience, hello, self._access)
        try:
            while True:
                want = next(steps)
                while not wait(want, self._waker, math.inf):
                    if self._aborted:
                        raise lost("the client was closed")
        except StopIteration as done:
            connection: Connection = done.value
        finally:
            steps.close()
        log.debug("%s: peticion %s, confirmacion", head, VERSION)
        try:
            self._welcome(connection, min(HANDSHAKE_TIME_MAX, patience))
        except BaseException:
            connection.close()
            raise
        self._troubles.forget(place)
        return connection

    def _welcome(self, connection: Connection, patience: float) -> None:
        until = time.monotonic() + patience
        while True:
            came, got = connection.receive()
            for at, frame in enumerate(got):
                if isinstance(frame, frames.Welcome):
                    connection.put_back(got[at + 1 :])
                    return
                if isinstance(frame, frames.Failure):
                    raise refused(frame.refusal)
                if not isinstance(frame, (frames.Ping, frames.Pong)):
                    raise out_of_place(frame)
            if self._aborted or time.monotonic() >= until:
                raise silent(patience)
            if not came:
                wait(connection.want(until), self._waker, math.inf)


class _Talk:
    """A conversation with one head that has welcomed the client."""

    def __init__(self, sender: Sender, connection: Connection, place: int) -> None:
        self._sender, self._connection, self._place = sender, connection, place
        #: Who said Hello.
        self._client = sender.ledger.client
        self._silence_max = silence_max(len(sender._heads))
        #: When the head was heard last; none while nothing is wanted of it.
        self._heard: Optional[float] = None
        #: When it was asked whether it is there, if it has said nothing since.
        self._asked: Optional[float] = None
        #: The system took only a part of what was to be sent.
        self._blocked = False

    def run(self) -> None:
        """Until all is settled and nothing more comes, or what comes is another client's."""
        sender, connection = self._sender, self._connection
        while not sender._aborted:
            now = time.monotonic()
            until = self._next(now)
            if until is None:
                return
            self._push(now)
            wait(connection.want(until), sender._waker, math.inf)
            came, got = connection.receive()
            if came:
                self._heard, self._asked = time.monotonic(), None
            if got:
                self._take(got)

    def _next(self, now: float) -> Optional[float]:
        """Puts what is to be sent behind what waits; returns until when to wait, or none if all is done."""
        sender = self._sender
        with sender.lock:
            ledger = sender.ledger
            if ledger.client != self._client or (sender.closing and not len(ledger)):
                return None
            room = OUT_BYTES_MAX - self._connection.unsent
            if room > 0:
                self._connection.say(ledger.encode(room, now))
            patience = sender._end_of_patience()
            until = min(patience, math.inf if ledger.hold is None else ledger.hold)
            is_waiting = ledger.sent > 0
            sender._asleep = True
        if now >= patience:
            raise _OutOfTime
        if is_waiting:
            return min(until, self._listen(now))
        self._heard = self._asked = None
        return until

    def _listen(self, now: float) -> float:
        """Asks a head that says nothing whether it is there, and leaves it if it does not answer."""
        if self._heard is None:
            self._heard = now
        if self._asked is None:
            end = self._heard + PING_AFTER
            if now < end:
                return end
            self._asked = now
            self._connection.say(frames.ping(0))
        end = self._asked + self._silence_max - PING_AFTER
        if now >= end:
            raise silent(self._silence_max)
        return end

    def _push(self, now: float) -> None:
        if not self._connection.unsent:
            return
        took = self._connection.send()
        if took and self._blocked:
            # It takes in what is sent, slowly, and can't answer what it has not got yet.
            self._heard, self._asked = now, None
        self._blocked = self._connection.unsent > 0

    def _take(self, got: list[frames.Frame]) -> None:
        sender, now = self._sender, time.monotonic()
        settled, failure, retry = False, None, None
        with sender.lock:
            for frame in got:
                if isinstance(frame, frames.Acked):
                    settled |= sender.ledger.acked(frame, now)
                elif isinstance(frame, frames.Refused):
                    settled |= sender.ledger.refused(frame, now + 2 * BACKOFF_MIN, now)
                    # What is refused for good says nothing about the others.
                    retry = frame.refusal if frame.refusal.retry else retry
                elif isinstance(frame, frames.Ping):
                    # It need not be answered, and one that does not read what is said shall not fill the memory.
                    if self._connection.unsent < 2 * OUT_BYTES_MAX:
                        self._connection.say(frames.pong(frame.number))
                elif isinstance(frame, frames.Failure):
                    failure = refused(frame.refusal)
                elif not isinstance(frame, (frames.Pong, frames.Welcome)):
                    failure = out_of_place(frame)
                if failure is not None:
                    break
            if settled:
                sender._tell_settled()
        if settled:
            sender._backoff.reset()
            sender._troubles.served(self._place)
        if failure is not None:
            raise failure
        if retry is not None:
            # The next head may keep what this one cannot.
            if len(sender._heads) > 1:
                raise refused(retry)
            sender._troubles.note(self._place, refused(retry))
