"""A framed connection to a head: reaching it, the handshake, frames in and out, why it ended. It decides nothing: what
frames mean, and how long a head may be silent, is for who has the connection.

Sockets never block. What takes time is a generator that yields :class:`Want`: what it waits for, and until when. Who
runs it waits with :func:`wait`, which somebody else can cut short through a :class:`Waker`.
"""

from __future__ import annotations

import errno
import ipaddress
import math
import os
import re
import select
import socket
import ssl
import threading
import time
from typing import Generator, NamedTuple, Optional, Union

from .access import Access, tls_trouble
from .errors import BadArgument, Refusal
from .frames import Decoder, Frame, FrameError
from .protocol import (
    CONFIRMATION,
    DEFAULT_PORT,
    DIAL_TIME_MAX,
    HANDSHAKE_BYTES_MAX,
    HANDSHAKE_TIME_MAX,
    HEADS_MAX,
    OPENING,
    RECEIVE_BYTES,
    VERSION,
)

_IN_PROGRESS = {0, errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", 0)}
#: Nothing is wrong, and nothing can be done now.
_NOT_NOW = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_VERSIONS = re.compile(r"acopio/[0-9][-A-Za-z0-9./]{0,24}")


class Ended(Exception):
    """Why a connection to a head ended."""

    def __init__(self, cause: str, *, remedy: str = "", kind: str = "", refusal: Optional[Refusal] = None) -> None:
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy
        #: What makes two ends alike, so that the same trouble is said once.
        self.kind = kind or cause
        #: The head's word, if it was one.
        self.refusal = refusal


def lost(cause: str) -> Ended:
    """The head is not there."""
    return Ended(cause, remedy="see that a head runs there")


def silent(seconds: float) -> Ended:
    """Nothing came from the head."""
    return lost(f"nothing was heard from it for {seconds:.2g} s")


def refused(refusal: Refusal) -> Ended:
    """The head said no."""
    return Ended(refusal.text, refusal=refusal)


def out_of_place(frame: Frame) -> Ended:
    """The head said what has no place there."""
    return Ended(f"{type(frame).__name__} is out of place; is it an acopio head of this version?")


class Want(NamedTuple):
    """What is waited for: a socket, or only time if there is none."""

    socket: Optional[socket.socket]
    read: bool
    write: bool
    until: float


class Waker:
    """Cuts a wait short, from any thread."""

    def __init__(self) -> None:
        #: Readable once somebody woke it.
        self.socket, self._there = socket.socketpair()
        self.socket.setblocking(False)
        self._there.setblocking(False)

    def wake(self) -> None:
        """The wait that goes on, or else the next one, ends."""
        try:
            self._there.send(b"x")
        except OSError:
            # It is full, so the wait ends anyway; or nobody waits any more.
            pass

    def wait_for_word(self) -> None:
        """Waits until somebody wakes this."""
        wait(pause(math.inf), self, math.inf)

    def clear(self) -> None:
        """Whatever was said is heard."""
        try:
            while self.socket.recv(4096):
                pass
        except OSError:
            pass

    def close(self) -> None:
        """Nobody waits any more."""
        self.socket.close()
        self._there.close()


def pause(until: float) -> Want:
    """A wait for nothing but time."""
    return Want(None, False, False, until)


def wait(want: Want, waker: Optional[Waker], until: float) -> bool:
    """Waits for what is wanted, or until a time of one's own if that is sooner. False if nothing that was wanted came:
    somebody woke this, or that time is over."""
    end = min(want.until, until)
    left = end - time.monotonic()
    ready = _poll(want, waker, max(left, 0.0))
    if waker is not None and waker.socket.fileno() in ready:
        waker.clear()
        return False
    return bool(ready) or time.monotonic() >= want.until


def _poll(want: Want, waker: Optional[Waker], seconds: float) -> set[int]:
    """Files that are ready."""
    # A poll of more than a day is none of ours; what waits for longer looks again.
    seconds = min(seconds, 86400.0)
    if not hasattr(select, "poll"):
        return _select(want, waker, seconds)
    poll = select.poll()
    if want.socket is not None:
        poll.register(want.socket, (select.POLLIN if want.read else 0) | (select.POLLOUT if want.write else 0))
    if waker is not None:
        poll.register(waker.socket.fileno(), select.POLLIN)
    # Rounded up: it must not ask again and again in the last millisecond.
    return {file for file, _ in poll.poll(int(seconds * 1000) + (seconds > 0))}


def _select(want: Want, waker: Optional[Waker], seconds: float) -> set[int]:
    reads: list[int] = [waker.socket.fileno()] if waker is not None else []
    writes: list[int] = []
    if want.socket is not None:
        if want.read:
            reads.append(want.socket.fileno())
        if want.write:
            writes.append(want.socket.fileno())
    if not reads and not writes:
        time.sleep(seconds)
        return set()
    ready = select.select(reads, writes, writes, seconds)
    return {file for files in ready for file in files}


class Connection:
    """A connection after its handshake."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._decoder = Decoder()
        self._out = bytearray()
        #: Frames that came with the confirmation.
        self._early: list[Frame] = []
        #: What came behind the last good frame is none.
        self._broken: Optional[Ended] = None
        #: TLS has to send something of its own before it reads on.
        self._owes = False

    def say(self, data: bytes) -> None:
        """Puts bytes behind what waits to be sent."""
        self._out += data

    @property
    def unsent(self) -> int:
        """Bytes that wait to be sent."""
        return len(self._out)

    def send(self) -> bool:
        """Gives the system what it takes now; true if it took something."""
        sent = 0
        while self._out:
            try:
                count = self._socket.send(self._out)
            except _NOT_NOW:
                break
            except OSError as error:
                raise _failed(error) from None
            del self._out[:count]
            sent += count
        return sent > 0

    def receive(self) -> tuple[bool, list[Frame]]:
        """Reads once: whether anything came, and the frames that are whole by it."""
        if self._early:
            early, self._early = self._early, []
            return True, early
        if self._broken is not None:
            raise self._broken
        data = self.read_bytes()
        if data is None:
            return False, []
        if not data:
            raise lost("it closed the connection")
        return True, self._take(data)

    def read_bytes(self) -> Optional[bytes]:
        """What has come, nothing if it is over; none if there is nothing now."""
        try:
            self._owes = False
            return self._socket.recv(RECEIVE_BYTES)
        except _NOT_NOW as error:
            self._owes = isinstance(error, ssl.SSLWantWriteError)
            return None
        except OSError as error:
            raise _failed(error) from None

    def begin(self, data: bytes) -> None:
        """What came behind the confirmation."""
        self._early = self._take(data)

    def put_back(self, rest: list[Frame]) -> None:
        """Frames that the next look is to find."""
        self._early = rest + self._early

    def _take(self, data: bytes) -> list[Frame]:
        self._decoder.feed(data)
        frames: list[Frame] = []
        try:
            for frame in self._decoder:
                frames.append(frame)
        except FrameError as error:
            # What came before it counts.
            self._broken = Ended(str(error))
        return frames

    def want(self, until: float) -> Want:
        """A wait for anything that brings this connection on."""
        if self._early or self._broken is not None or self._has_decrypted():
            return pause(0.0)
        return Want(self._socket, True, bool(self._out) or self._owes, until)

    def _has_decrypted(self) -> bool:
        """Whether bytes lie in TLS that the system tells nobody of."""
        return isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0

    def close(self) -> None:
        """Ends it."""
        self._socket.close()


#: A generator that waits, and what comes of it.
OpenSteps = Generator[Want, None, Connection]


def open_connection(head: str, patience: float, first: bytes, access: Access) -> OpenSteps:
    """Reaches a head and has it confirm the dialect; ``first`` is said in the same breath as the opening."""
    until = time.monotonic() + patience
    sock = yield from _dial(head, until, patience)
    if access.tls is not None:
        end = min(until, time.monotonic() + HANDSHAKE_TIME_MAX)
        sock = yield from _secured(access.tls, sock, host_and_port(head)[0], end)
    connection = Connection(sock)
    try:
        connection.say(_opening(access.token) + first)
        end = min(until, time.monotonic() + HANDSHAKE_TIME_MAX)
        yield from _confirmed(connection, end, min(patience, HANDSHAKE_TIME_MAX))
        return connection
    except BaseException:
        connection.close()
        raise


def _opening(token: Optional[str]) -> bytes:
    return OPENING if token is None else OPENING[:-1] + b" token=" + token.encode() + b"\n"


def _confirmed(connection: Connection, until: float, patience: float) -> Generator[Want, None, None]:
    answer = b""
    while True:
        connection.send()
        data = connection.read_bytes()
        if data == b"":
            raise lost("it closed the connection") if not answer else unconfirmed(answer)
        answer += data or b""
        rest = confirmation(answer)
        if rest is not None:
            connection.begin(rest)
            return
        if data is None:
            if time.monotonic() >= until:
                raise silent(patience)
            yield connection.want(until)


def _secured(
    context: ssl.SSLContext, sock: socket.socket, host: str, until: float
) -> Generator[Want, None, ssl.SSLSocket]:
    """The same connection over TLS, with a head that has proved to be the one that was dialled."""
    # The zone of an address is this machine's business.
    host = host.partition("%")[0]
    try:
        secured = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    except (OSError, ValueError) as error:
        sock.close()
        raise Ended(f"no certificate can be for it: {error}", remedy="dial it by another name") from None
    try:
        while True:
            try:
                secured.do_handshake()
                return secured
            except ssl.SSLWantReadError:
                want = Want(secured, True, False, until)
            except ssl.SSLWantWriteError:
                want = Want(secured, False, True, until)
            except OSError as error:
                raise _failed(error, host) from None
            if time.monotonic() >= until:
                raise Ended("no answer in TLS", remedy="is it an acopio head?")
            yield want
    except BaseException:
        secured.close()
        raise


def confirmation(answer: bytes) -> Optional[bytes]:
    """What follows the confirmation at the beginning of an answer; none if it may still come.

    >>> confirmation(b"confirmacion acopio/2\\n\\x00"), confirmation(b"confir")
    (b'\\x00', None)
    >>> confirmation(b"confirmacion acopio/3\\n")
    Traceback (most recent call last):
    acopio.connection.Ended: it speaks acopio/3 and this is acopio/2 ("confirmacion acopio/3"); run the same version ...
    """
    if answer.startswith(CONFIRMATION):
        return answer[len(CONFIRMATION) :]
    words = (b"confirmacion ", b"error: ")
    begun = any(word.startswith(answer) or answer.startswith(word) for word in words)
    if begun and b"\n" not in answer and len(answer) < HANDSHAKE_BYTES_MAX:
        return None
    raise unconfirmed(answer)


def unconfirmed(answer: bytes) -> Ended:
    """What is wrong with an answer that is whole, or of which nothing more comes."""
    line = answer.split(b"\n")[0][:HANDSHAKE_BYTES_MAX].decode("ascii", "backslashreplace")
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line[:64])
    theirs = [version for version in _VERSIONS.findall(line) if version != VERSION]
    if theirs:
        return Ended(
            f'it speaks {theirs[-1]} and this is {VERSION} ("{shown}"); run the same version of acopio on both sides'
        )
    if line.startswith("error: ") and line.isprintable():
        # Cause and remedy, in a head's own words.
        return Ended(line[len("error: ") :], kind="no head")
    return Ended(
        f'it answered "{shown}" in place of confirmacion {VERSION}; is it an acopio head of this version?',
        kind="no head",
    )


# ---- reaching it ---------------------------------------------------------------------------------


def _dial(head: str, until: float, patience: float) -> Generator[Want, None, socket.socket]:
    last = lost("the name has no address")
    addresses = yield from _look_up(head, min(until, time.monotonic() + DIAL_TIME_MAX))
    for family, address in addresses:
        if time.monotonic() >= until:
            raise silent(patience)
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            yield from _connect(sock, address, min(until, time.monotonic() + DIAL_TIME_MAX))
            _tune(sock)
            return sock
        except Ended as ended:
            sock.close()
            last = ended
        except BaseException:
            sock.close()
            raise
    raise last


def _connect(sock: socket.socket, address: Address, until: float) -> Generator[Want, None, None]:
    sock.setblocking(False)
    try:
        result = sock.connect_ex(address)
    except OSError as error:
        raise lost(_said(error)) from None
    if result not in _IN_PROGRESS:
        raise lost(os.strerror(result))
    while result != 0:
        yield Want(sock, False, True, until)
        result = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if result:
            raise lost(os.strerror(result))
        try:
            sock.getpeername()
            return
        except OSError:
            result = errno.EINPROGRESS
        if time.monotonic() >= until:
            raise lost("no answer")


def _tune(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # A head that is gone without a goodbye is noticed by the system, too, where it can be told how soon.
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 5)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


Address = Union[tuple[str, int], tuple[str, int, int, int]]
_Found = list[tuple[socket.AddressFamily, Address]]


def _look_up(head: str, until: float) -> Generator[Want, None, _Found]:
    """The addresses of a head. Names are looked up on a thread: the system's resolver takes no deadline."""
    host, port = host_and_port(head)
    try:
        return _resolve(host, port, socket.AI_NUMERICHOST)
    except OSError:
        pass
    found: list[Union[_Found, OSError]] = []
    done = Waker()

    def look() -> None:
        try:
            found.append(_resolve(host, port, 0))
        except OSError as error:
            found.append(error)
        done.wake()

    threading.Thread(target=look, name="acopio-names", daemon=True).start()
    try:
        while not found:
            if time.monotonic() >= until:
                raise lost("the name server does not answer")
            yield Want(done.socket, True, False, until)
    finally:
        done.close()
    result = found[0]
    if isinstance(result, OSError):
        raise lost(_said(result))
    return result


def _resolve(host: str, port: int, flags: int) -> _Found:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, address) for family, _, _, _, address in found]  # type: ignore[misc]


def _said(error: OSError) -> str:
    return error.strerror or str(error)


def _failed(error: OSError, host: str = "the name by which it was dialled") -> Ended:
    """Why a connection does not go on."""
    if not isinstance(error, ssl.SSLError):
        return lost(_said(error))
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return lost("it closed the connection")
    cause, remedy = tls_trouble(error, host)
    return Ended(cause, remedy=remedy, kind=cause.partition(":")[0])


def host_and_port(head: str) -> tuple[str, int]:
    """The parts of ``host:port``; the port may be left out.

    >>> host_and_port("[::1]:5001"), host_and_port("cellar")
    (('::1', 5001), ('cellar', 5000))
    """
    if head.startswith("zk://"):
        raise BadArgument(
            f"the head {head!r}", "heads that announce themselves are not looked up here", "name HOST:PORT"
        )
    host, found, port = head.rpartition(":")
    if not found or head.endswith("]"):
        host, port = head, str(DEFAULT_PORT)
    elif ":" in host and not host.startswith("["):
        host = ""
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host.partition("%")[0])
        except ValueError:
            host = ""
    if not host or " " in host or not re.fullmatch("[0-9]{1,5}", port, re.ASCII) or not 0 < int(port) < 65536:
        raise BadArgument(
            f"the head {head!r}", "not an address", "write HOST:PORT, such as 127.0.0.1:5000 or [::1]:5000"
        )
    return host, int(port)


def head_list(heads: Union[str, "list[str]", "tuple[str, ...]"]) -> tuple[str, ...]:
    """The heads that a caller names: one text with commas, or several.

    >>> head_list("a:5000, b:5000")
    ('a:5000', 'b:5000')
    """
    listed = heads.split(",") if isinstance(heads, str) else list(heads)
    names = tuple(name.strip() for name in listed if name.strip())
    if not names:
        raise BadArgument("the list of heads", "no head was named", "name one, such as 127.0.0.1:5000")
    if len(names) > HEADS_MAX:
        raise BadArgument("the list of heads", f"{len(names)} heads are too many", f"name {HEADS_MAX} or fewer")
    for name in names:
        host_and_port(name)
    return names
