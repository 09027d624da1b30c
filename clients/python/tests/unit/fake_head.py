"""A head that says what a test tells it to, over a real socket; it keeps nothing. Every wait of it has a deadline."""

from __future__ import annotations

import socket
import struct
import sys
import threading
from typing import Callable, NamedTuple, Optional

from acopio.ids import RecordId
from acopio.protocol import CONFIRMATION, OPENING, Kind

PATIENCE = 30.0


class Stored(NamedTuple):
    """A Store."""

    first_seq: int
    messages: tuple[bytes, ...]


class Asked(NamedTuple):
    """A Read."""

    since: tuple[int, int]
    until: tuple[int, int]
    client: int
    follow: bool
    partial: bool
    token: bytes = b""
    sources: tuple[str, ...] = ()


class Peer:
    """A client that has come, after its opening."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        sock.settimeout(PATIENCE)
        self._stream = sock.makefile("rb")
        self.hello: Optional[tuple[int, int]] = None

    def confirm(self) -> Peer:
        """Reads the opening and confirms it."""
        opening = self._stream.read(len(OPENING))
        assert opening == OPENING, opening
        self.raw(CONFIRMATION)
        return self

    def welcome(self) -> Peer:
        """Reads a Hello and welcomes the client."""
        self.confirm()
        kind, body = self.frame()
        assert kind == Kind.HELLO, kind
        self.hello = struct.unpack(">QB", body)
        self.say(Kind.WELCOME, struct.pack(">III", 7, 4096, 1 << 22) + text("acopio"))
        return self

    def frame(self) -> tuple[int, bytes]:
        """The next frame; EOFError when the client has closed."""
        try:
            prefix = self._stream.read(5)
        except ConnectionError:
            prefix = b""
        if len(prefix) < 5:
            raise EOFError
        length, kind = struct.unpack(">IB", prefix)
        return kind, self._stream.read(length - 1)

    def stored(self) -> Stored:
        """The next Store; Pings before it are answered."""
        while True:
            kind, body = self.frame()
            if kind == Kind.PING:
                self.say(Kind.PONG, body)
                continue
            assert kind == Kind.STORE, kind
            first_seq, count = struct.unpack_from(">QH", body)
            at, messages = 10, []
            for _ in range(count):
                (length,) = struct.unpack_from(">I", body, at)
                messages.append(body[at + 4 : at + 4 + length])
                at += 4 + length
            assert at == len(body)
            return Stored(first_seq, tuple(messages))

    def asked(self) -> Asked:
        """The Read of a reader."""
        self.confirm()
        kind, body = self.frame()
        assert kind == Kind.READ, kind
        a, b, c, d, client, follow, partial = struct.unpack_from(">QIQIQ??", body)
        (count,), at = struct.unpack_from(">H", body, 34), 36
        sources = []
        for _ in range(count):
            (length,) = struct.unpack_from(">H", body, at)
            sources.append(body[at + 2 : at + 2 + length].decode())
            at += 2 + length
        return Asked((a, b), (c, d), client, follow, partial, body[at:], tuple(sources))

    def raw(self, data: bytes) -> None:
        """Bytes as they are."""
        self.socket.sendall(data)

    def say(self, kind: int, body: bytes) -> None:
        """A frame."""
        self.raw(frame(kind, body))

    def ack(self, stored: Stored, first: RecordId, nodes: tuple[str, ...] = ("127.0.0.2",)) -> None:
        """They are kept."""
        self.say(Kind.ACKED, acked(stored.first_seq, len(stored.messages), first, 0, nodes))

    def refuse(self, stored: Stored, code: int, retry: bool, why: str) -> None:
        """They are not kept."""
        self.say(
            Kind.REFUSED,
            struct.pack(">QIH?", stored.first_seq, len(stored.messages), code, retry) + text(why),
        )

    def fail(self, code: int, retry: bool, why: str) -> None:
        """The last word."""
        self.say(Kind.FAILURE, struct.pack(">H?", code, retry) + text(why))
        self.close()

    def records(self, below: RecordId, lines: list[bytes]) -> None:
        """Lines."""
        self.say(Kind.RECORDS, id_bytes(below) + b"".join(lines))

    def token(self, token: bytes) -> None:
        """What was sent so far."""
        self.say(Kind.TOKEN, token)

    def end(self, below: RecordId, missing: str = "") -> None:
        """The read is over."""
        self.say(Kind.READ_END, id_bytes(below) + text(missing))

    def waiting(self, nodes: str) -> None:
        """The read waits."""
        self.say(Kind.WAITING, text(nodes))

    def closed(self) -> None:
        """Waits until the client has closed; its Pings are answered."""
        try:
            while True:
                kind, body = self.frame()
                if kind == Kind.PING:
                    self.say(Kind.PONG, body)
        except (EOFError, ConnectionError):
            self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Closes at once."""
        self._stream.close()
        self.socket.close()


class FakeHead:
    """A listener."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE)
        self.at = "127.0.0.1:%d" % self._listener.getsockname()[1]

    def accept(self) -> Peer:
        """The next client."""
        sock, _ = self._listener.accept()
        return Peer(sock)

    def always(self, answer: bytes) -> None:
        """Says this to everybody who comes, and nothing else."""

        def run() -> None:
            while True:
                try:
                    peer = self.accept()
                    peer.raw(answer)
                    # What waits to be read would make a reset of the close, and the answer could be lost.
                    peer.socket.shutdown(socket.SHUT_WR)
                    while peer.socket.recv(4096):
                        pass
                    peer.close()
                except OSError:
                    return

        threading.Thread(target=run, daemon=True).start()

    def close(self) -> None:
        """Nobody is let in any more."""
        self._listener.close()


class Script:
    """What heads do meanwhile, on a thread of its own. Its failure is the test's."""

    def __init__(self, script: Callable[[], None]) -> None:
        self._failed: Optional[BaseException] = None

        def run() -> None:
            try:
                script()
            except BaseException as error:  # noqa: BLE001 - it is raised in the test
                self._failed = error

        self._thread = threading.Thread(target=run, daemon=True)

    def __enter__(self) -> Script:
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is not None and self._failed is not None:
            print("the script of the heads failed before that:", repr(self._failed), file=sys.stderr)
        if kind is None:
            self._thread.join(PATIENCE)
            assert not self._thread.is_alive(), "the script of the heads does not end"
            if self._failed is not None:
                raise self._failed


def frame(kind: int, body: bytes) -> bytes:
    """A frame as bytes."""
    return struct.pack(">IB", 1 + len(body), kind) + body


def text(value: str) -> bytes:
    """A text."""
    data = value.encode()
    return struct.pack(">H", len(data)) + data


def id_bytes(record: RecordId) -> bytes:
    """An id."""
    return struct.pack(">QI", record.time_ns, record.incarnation)


def acked(first_seq: int, count: int, first: RecordId, sync: int, nodes: tuple[str, ...]) -> bytes:
    """The body of an Acked."""
    fields = struct.pack(">QI", first_seq, count) + id_bytes(first) + struct.pack(">BB", sync, len(nodes))
    return fields + b"".join(map(text, nodes))
