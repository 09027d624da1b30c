"""What can go wrong, as exceptions: each says to what it happened, what happened, and what to do. Nothing is retried
here.

All of them are :class:`AcopioError`, whose ``subject``, ``happened`` and ``remedy`` are the three parts of its text.
"""

from __future__ import annotations

from typing import Iterable, NamedTuple, Optional

from .protocol import Code


class Trouble(NamedTuple):
    """What became of one head."""

    head: str
    cause: str

    def __str__(self) -> str:
        return f"head {self.head}: {self.cause}"


class Refusal(NamedTuple):
    """A head's word that it does not do something."""

    code: Code
    #: Whether the same request may succeed later or at another head.
    retry: bool
    #: Cause and remedy.
    text: str


class AcopioError(Exception):
    """Any failure of this package."""

    def __init__(self, subject: str, happened: str, remedy: str) -> None:
        super().__init__(subject, happened, remedy)
        #: To what it happened.
        self.subject = subject
        #: What happened.
        self.happened = happened
        #: What to do.
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.subject}: {self.happened}; {self.remedy}"


class BadArgument(AcopioError, ValueError):
    """A value that can't be meant."""


class MessageTooLong(BadArgument):
    """A message above the bound of a frame. Nothing was sent."""


class NotKept(AcopioError):
    """A message is not kept, as far as the client knows."""

    #: Why.
    code: Code = Code.TIMEOUT
    #: It may be kept all the same: no answer came, or not from all of its nodes.
    may_be_kept: bool = False
    #: The client under which it was sent, and its number.
    client: str = ""
    seq: int = 0


class WindowFull(AcopioError):
    """As much as may be is in flight, and the caller did not want to wait."""


class TimedOut(AcopioError, TimeoutError):
    """A wait came to its end. What was waited for goes on."""


class ClientClosed(AcopioError):
    """The client was closed, or is another process's."""


class HeadFailed(AcopioError):
    """A head could not be asked."""


class ReadFailed(AcopioError):
    """A read could not go on, or lacks something."""


class NoHead(ReadFailed):
    """No head brought the read further for as long as it was to be tried."""

    heads: tuple[Trouble, ...] = ()


class ReadRefused(ReadFailed):
    """Every head refused, and trying again would change nothing."""

    heads: tuple[Trouble, ...] = ()
    code: Code = Code.PROTOCOL


class NodesMissing(ReadFailed):
    """Some of what was asked for is on data nodes that are away, or that are there and cannot give it."""

    #: Their names, and behind the names of those that are there the cause, in parentheses.
    nodes: tuple[str, ...] = ()


class DamagedLine(ReadFailed):
    """A line came damaged: its record is left out. The iteration can go on behind it."""


class Disorder(ReadFailed):
    """A head sent records in another order than that of their ids."""


def parts(text: str) -> tuple[str, str]:
    """Cause and remedy of a head's text.

    >>> parts("no hay dataNodes; start one with 'acopio data'")
    ('no hay dataNodes', "start one with 'acopio data'")
    """
    cause, found, remedy = text.rpartition("; ")
    return (cause, remedy) if found else (text, "see the log of the head")


def not_kept(refusal: Refusal, client: str, seq: int, may_be_kept: bool) -> NotKept:
    """The error for one message."""
    happened, remedy = parts(refusal.text)
    error = NotKept(f"message {seq} of client {client}", f"not kept: {happened}", remedy)
    error.code, error.may_be_kept, error.client, error.seq = refusal.code, may_be_kept, client, seq
    return error


def no_head(waited: float, heads: Iterable[Trouble]) -> NoHead:
    """The error of a read that nobody brought further."""
    known = tuple(heads)
    error = NoHead("heads " + ", ".join(head for head, _ in known), _in_words(waited, known), "read again later")
    error.heads = known
    return error


def _in_words(waited: float, heads: tuple[Trouble, ...]) -> str:
    return f"nothing could be read for {max(round(waited), 1)} s: " + "; ".join(map(str, heads))


def refused(heads: Iterable[Trouble], refusal: Refusal) -> ReadRefused:
    """The error of a read that every head refused."""
    known = tuple(heads)
    happened, remedy = parts(refusal.text)
    text = happened if len(known) == 1 else "; ".join(map(str, known))
    error = ReadRefused("heads " + ", ".join(head for head, _ in known), text, remedy)
    error.heads, error.code = known, refusal.code
    return error


def missing(nodes: Iterable[str]) -> NodesMissing:
    """The error of a read without some nodes.

    >>> print(missing(["data2"]))
    dataNode data2: missing, and what only it keeps cannot be read; start it again, or ask with partial=True
    >>> print(missing(["data1 (data.txt is gone)"]))
    dataNode data1 (data.txt is gone): there, and cannot give all that it keeps; see its log, or ask with partial=True
    """
    names = tuple(nodes)
    here = [name for name in names if " (" in name]
    away = [name for name in names if " (" not in name]
    subject = ("dataNode " if len(names) == 1 else "dataNodes ") + ", ".join(names)
    said, remedies = [], []
    if away:
        said.append("missing, and what only " + ("it keeps" if len(away) == 1 else "they keep") + " cannot be read")
        remedies.append("start it again" if len(away) == 1 else "start them again")
        if all(name.startswith(("raw-", "line-")) for name in away):
            remedies[-1] = "read what speaks text from its own files"
    if here:
        said.append("there, and cannot give all that it keeps")
        remedies.append("see its log")
    error = NodesMissing(subject, "; ".join(said), ", ".join(remedies) + ", or ask with partial=True")
    error.nodes = names
    return error


def code_of(number: int) -> Optional[Code]:
    """The code of this number, if there is one."""
    try:
        return Code(number)
    except ValueError:
        return None
