"""What each head of a list did last, and how long to wait before they are asked again. Opens no connection."""

from __future__ import annotations

import random
import time
from typing import Optional

from .connection import Ended
from .errors import Refusal, Trouble
from .protocol import BACKOFF_MAX, BACKOFF_MIN, SILENCE_ALONE_MAX, SILENCE_MAX, Code


class Backoff:
    """Waits that double, with jitter, so that many who lost one head do not come back in step."""

    def __init__(self, rng: Optional[random.Random] = None) -> None:
        self._rng = rng or random.Random()
        self._next = BACKOFF_MIN

    def next(self) -> float:
        """The next wait, in seconds."""
        wait = self._next * self._rng.uniform(0.5, 1.0)
        self._next = min(self._next * 2, BACKOFF_MAX)
        return wait

    def reset(self) -> None:
        """It worked."""
        self._next = BACKOFF_MIN


class _Known:
    def __init__(self, head: str) -> None:
        self.head = head
        self.cause: Optional[str] = None
        #: What kind of trouble it was, until it serves: the same again is no news.
        self.kind = ""
        self.is_final = False
        self.at = 0.0


class Troubles:
    """The last trouble with each head."""

    def __init__(self, heads: tuple[str, ...]) -> None:
        self._known = [_Known(head) for head in heads]
        #: What the last refusal was; a loss if there was none.
        self.code = Code.TIMEOUT

    def note(self, place: int, ended: Ended, is_final: bool = False) -> bool:
        """Notes why the head at this place was left; false if that is no news."""
        if ended.refusal is not None:
            self.code = ended.refusal.code
        known = self._known[place]
        known.cause = f"{ended.cause}; {ended.remedy}" if ended.remedy else ended.cause
        known.is_final, known.at = is_final, time.monotonic()
        is_news, known.kind = known.kind != ended.kind, ended.kind
        return is_news

    def note_if_none(self, place: int, ended: Ended) -> None:
        """The same, unless it is known already why."""
        if self._known[place].cause is None:
            self.note(place, ended)

    def served(self, place: int) -> None:
        """The head has served: the next trouble with it is news."""
        self.forget(place)
        self._known[place].kind = ""

    def forget(self, place: int) -> None:
        """The head is there."""
        self._known[place].cause, self._known[place].is_final = None, False

    def has_better(self, place: int) -> bool:
        """Whether another head may do better: one without trouble, or whose trouble is old."""
        now = time.monotonic()
        others = [known for k, known in enumerate(self._known) if k != place]
        return any(known.cause is None or now - known.at >= SILENCE_MAX for known in others)

    def are_final(self) -> bool:
        """Whether no head is worth another try."""
        return all(known.is_final for known in self._known)

    def list(self) -> tuple[Trouble, ...]:
        """Every head and its trouble."""
        return tuple(Trouble(known.head, known.cause or "its turn did not come") for known in self._known)

    def refusal(self, waited: float) -> Refusal:
        """What became of messages that were tried so long."""
        causes = "; ".join(map(str, self.list()))
        tried = "" if self.are_final() else f" (tried for {waited:g} s)"
        remedy = "; see what the heads say, then send it again"
        return Refusal(self.code, True, causes + tried + remedy)


def silence_max(heads: int) -> float:
    """How long a head may say nothing while something is wanted of it: less if there is another to go on with."""
    return SILENCE_MAX if heads > 1 else SILENCE_ALONE_MAX


def open_max(heads: int, retry_for: float) -> float:
    """How long a head may take to be reached: so long that each is tried before the time is over."""
    return min(silence_max(heads), max(retry_for / heads, BACKOFF_MIN))
