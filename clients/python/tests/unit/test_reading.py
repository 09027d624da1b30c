"""Readers against heads that are lost, hang, refuse, lie, or wait for their nodes."""

from __future__ import annotations

import gc
import logging
import socket
import struct
import sys
import threading
import time
import types
import unittest
from datetime import datetime, timezone
from typing import Optional
from unittest import mock

import acopio
from acopio.ids import MAX, ZERO
from acopio.link import HeadLost, WaitingFor
from acopio.protocol import HOLD_NS, Code, Kind

from .fake_head import PATIENCE, FakeHead, Script
from .lines import LIBRARY, TEXT, at, line, lines


def time_of(record: acopio.RecordId) -> tuple[int, int]:
    return record.time_ns, record.incarnation


class Reading(unittest.TestCase):
    def setUp(self) -> None:
        self.one, self.two = FakeHead(), FakeHead()
        self.both = [self.one.at, self.two.at]
        self.addCleanup(self.one.close)
        self.addCleanup(self.two.close)
        self.told: list[str] = []

    def patch(self, name: str, value: object) -> None:
        patch = mock.patch(name, value)
        patch.start()
        self.addCleanup(patch.stop)

    def silence(self, after: float, until: float) -> None:
        """Silence counts sooner, so that tests of it are short."""
        self.patch("acopio.link.PING_AFTER", after)
        self.patch("acopio.troubles.SILENCE_MAX", until)
        self.patch("acopio.troubles.SILENCE_ALONE_MAX", until)

    def event(self, event: "HeadLost | WaitingFor") -> None:
        self.told.append("lost" if isinstance(event, HeadLost) else " ".join(("waiting", *event.nodes)))

    def all(self, reader: acopio.Reader) -> list[str]:
        """Everything to the end, in words."""
        while True:
            try:
                record = reader.get(PATIENCE)
            except acopio.ReadFailed as error:
                self.told.append(f"error {error}")
                continue
            if record is None:
                self.assertTrue(reader.over, "something happens")
                self.told.append(" ".join(("end", *reader.missing)))
                return self.told
            self.told.append(record.text)

    def read(self, *heads: FakeHead, **more: object) -> acopio.Reader:
        reader = acopio.read([head.at for head in heads], on_event=self.event, **more)  # type: ignore[arg-type]
        self.addCleanup(reader.close)
        return reader

    # ---- the plain way ---------------------------------------------------------------------------

    def test_it_delivers_all_there_is_and_then_the_end(self) -> None:
        def script() -> None:
            peer = self.one.accept()
            asked = peer.asked()
            self.assertEqual(asked[:6], (time_of(at(1000)), time_of(at(9000)), 5, False, False, b""))
            peer.records(at(2001), lines(TEXT, 1000, 2000))
            peer.records(at(3000), [])
            peer.records(at(8000), lines(TEXT, 5000))
            peer.end(at(9000))
            peer.closed()

        with Script(script):
            with acopio.read(self.one.at, since=at(1000), until=at(9000), client=TEXT) as reader:
                got = list(reader)
        self.assertEqual([(one.id, one.seq, one.payload) for one in got[:1]], [(at(1000), 1, b"m1000")])
        self.assertEqual([one.id for one in got], [at(1000), at(2000), at(5000)])
        self.assertEqual((reader.position, reader.missing, reader.over, list(reader)), (at(9000), (), True, []))
        self.assertEqual(got[0].time, datetime(2026, 5, 28, 20, 26, 41, tzinfo=timezone.utc))

    def test_all_there_is_is_asked_for_by_default(self) -> None:
        def script() -> None:
            peer = self.one.accept()
            asked = peer.asked()
            self.assertEqual(asked[:6], (time_of(ZERO), time_of(MAX), (1 << 64) - 1, False, True, b""))
            peer.end(at(1))
            peer.closed()

        with Script(script):
            self.assertEqual(list(acopio.read(self.one.at, partial=True)), [])

    def test_sources_are_asked_for_by_their_names(self) -> None:
        def script() -> None:
            peer = self.one.accept()
            self.assertEqual(peer.asked().sources, ("esp7", "taller/"))
            peer.records(at(31), [line(at(30), LIBRARY, 7, b"21.4", "@taller/horno:-.-")])
            peer.end(at(31))
            peer.closed()

        with Script(script):
            got = list(acopio.read(self.one.at, sources=["esp7", "taller/"]))
        self.assertEqual([(one.source, one.text) for one in got], [("taller/horno", "21.4")])
        for wrong in ("a b", "", ["ok", "/"], ["x" * 33]):
            with self.assertRaises(acopio.BadArgument):
                acopio.read(self.one.at, sources=wrong)

    # ---- heads that are lost ---------------------------------------------------------------------

    def test_a_lost_head_is_gone_on_from_at_the_next_where_it_was(self) -> None:
        def script() -> None:
            peer = self.one.accept()
            peer.asked()
            peer.records(at(21), lines(TEXT, 10, 20))
            # Half a frame is worth nothing.
            peer.raw(b"\0\0\1\0\x0c\1\2\3")
            peer.close()
            peer = self.two.accept()
            asked = peer.asked()
            self.assertEqual((asked.since, asked.follow), (time_of(at(21)), True))
            peer.records(at(31), lines(TEXT, 25, 30))
            # A head that ends what has no end has stopped reading.
            peer.end(at(31))
            peer = self.one.accept()
            self.assertEqual(peer.asked().since, time_of(at(31)))
            peer.records(at(41), lines(TEXT, 40))
            peer.closed()

        with Script(script), acopio.follow(self.both, client=TEXT, on_event=self.event) as reader:
            while len(self.told) < 7:
                record = reader.get(PATIENCE)
                assert record is not None
                self.told.append(record.text)
        self.assertEqual(self.told, ["m10", "m20", "lost", "m25", "m30", "lost", "m40"])

    def test_what_two_heads_both_send_comes_once(self) -> None:
        def script() -> None:
            peer = self.one.accept()
            peer.asked()
            # It says less than it could of how far it has come.
            peer.records(at(10), lines(TEXT, 10, 20))
            peer.close()
            peer = self.two.accept()
            self.assertEqual(peer.asked().since, time_of(at(10)))
            peer.records(at(31), lines(TEXT, 10, 20, 30))
            peer.end(at(31))
            peer.closed()

        with Script(script):
            self.assertEqual(self.all(self.read(self.one, self.two)), ["m10", "m20", "lost", "m30", "end"])

    def test_a_head_that_hangs_is_left(self) -> None:
        self.silence(0.2, 0.8)

        def script() -> None:
            hung = self.one.accept()
            hung.asked()
            hung.records(at(11), lines(TEXT, 10))
            self.assertEqual(hung.frame()[0], Kind.PING, "it asks first")
            peer = self.two.accept()
            peer.asked()
            peer.records(at(21), lines(TEXT, 20))
            peer.end(at(21))
            hung.closed()
            peer.closed()

        with Script(script):
            self.assertEqual(self.all(self.read(self.one, self.two)), ["m10", "lost", "m20", "end"])

    def test_a_head_that_waits_and_answers_is_not_left(self) -> None:
        self.silence(0.1, 5.0)

        def script() -> None:
            peer = self.one.accept()
            peer.asked()
            for _ in range(3):
                kind, body = peer.frame()
                self.assertEqual(kind, Kind.PING)
                peer.say(Kind.PONG, body)
            peer.records(at(11), lines(TEXT, 10))
            peer.closed()

        with Script(script), acopio.follow(self.one.at) as reader:
            self.assertEqual(next(reader).text, "m10")

    def test_garbage_and_frames_above_the_bound_are_left(self) -> None:
        for says in (b"\x00\x00\x00\x05\xff", b"\xff" * 64, b"\x40\x00\x00\x00\x0c"):
            with self.subTest(says=says):
                self.told = []

                def script() -> None:
                    peer = self.one.accept()
                    peer.asked()
                    peer.records(at(11), lines(TEXT, 10))
                    peer.raw(says)
                    other = self.two.accept()
                    self.assertEqual(other.asked().since, time_of(at(11)))
                    other.end(at(20))
                    other.closed()
                    peer.closed()

                with Script(script):
                    self.assertEqual(self.all(self.read(self.one, self.two, retry_for=3.0)), ["m10", "lost", "end"])

    # ---- what comes ------------------------------------------------------------------------------

    def test_what_comes_has_no_order_and_goes_on_behind_the_token(self) -> None:
        def script() -> None:
            peer = self.one.accept()
            self.assertEqual(peer.asked().token, b"")
            peer.token(b"+some")
            peer.records(at(15), lines(TEXT, 14))
            peer.close()
            peer = self.two.accept()
            asked = peer.asked()
            self.assertEqual((asked.token, asked.since), (b"+some", time_of(at(15))), "the rest of what was there")
            peer.token(b"+some")
            peer.records(at(21), [line(at(20), TEXT, 3, b"m20")])
            peer.token(b"some")
            peer.records(ZERO, [line(at(10), TEXT, 2, b"dos"), line(at(5), LIBRARY, 1, b"uno")])
            peer.token(b"more")
            peer.records(ZERO, [line(at(6), LIBRARY, 2, b"two")])
            peer.close()
            peer = self.one.accept()
            asked = peer.asked()
            self.assertEqual((asked.token, asked.since), (b"more", time_of(ZERO)), "from where the read began")
            # What came behind the token comes again.
            peer.records(ZERO, [line(at(6), LIBRARY, 2, b"two"), line(at(4), LIBRARY, 3, b"three")])
            peer.closed()

        with Script(script), acopio.follow(self.both, on_event=self.event) as reader:
            while len(self.told) < 8:
                record = reader.get(PATIENCE)
                assert record is not None
                self.told.append(record.text)
            self.assertEqual(reader.position, at(21), "where what comes began")
        self.assertEqual(self.told, ["m14", "lost", "m20", "dos", "uno", "two", "lost", "three"])

    def test_what_is_missing_before_what_comes_is_waited_for(self) -> None:
        self.patch("acopio.order.HOLD_NS", 300_000_000)
        heard = threading.Event()

        def script() -> None:
            peer = self.one.accept()
            peer.asked()
            peer.token(b" ")
            peer.records(ZERO, [line(at(k), LIBRARY, seq, b"%d" % seq) for k, seq in ((1, 1), (2, 3), (3, 2), (4, 5))])
            heard.wait(PATIENCE)
            peer.records(ZERO, [line(at(9), LIBRARY, 4, b"4")])
            peer.closed()

        got: list[int] = []
        with Script(script), acopio.follow(self.one.at) as reader:
            while len(got) < 4:
                got.append(next(reader).seq)
            heard.set()
            got.append(next(reader).seq)
        self.assertEqual(got, [1, 2, 3, 5, 4], "4 was given up, and came late")

    # ---- what heads send -------------------------------------------------------------------------

    def test_a_damaged_line_is_named_and_the_others_come(self) -> None:
        def script() -> None:
            peer = self.one.accept()
            peer.asked()
            three = lines(TEXT, 10, 20, 30)
            three[1] = three[1][:42] + bytes([three[1][42] ^ 1]) + three[1][43:]
            peer.records(at(31), three)
            peer.end(at(31))
            peer.closed()

        with Script(script):
            told = self.all(self.read(self.one))
        self.assertEqual((told[0], *told[2:]), ("m10", "m30", "end"))
        wanted = f"error a line from head {self.one.at} that begins '{at(20)}': damaged: the checksum"
        self.assertTrue(told[1].startswith(wanted), told[1])

    def test_records_out_of_order_end_the_read(self) -> None:
        def script() -> None:
            peer = self.one.accept()
            peer.asked()
            peer.records(at(31), lines(TEXT, 10, 30, 20))
            peer.closed()

        with Script(script):
            told = self.all(self.read(self.one))
        self.assertEqual(told[:2], ["m10", "m30"])
        self.assertIn(f"it sent record {at(20)} out of order", told[2])

    def test_two_records_of_one_id_both_come_and_a_repeated_one_does_not(self) -> None:
        for client in (TEXT, LIBRARY):
            with self.subTest(client=client):
                self.told = []

                def record(ms: int, seq: int, text: bytes) -> bytes:
                    return line(at(ms), client, seq, text)

                def script() -> None:
                    peer = self.one.accept()
                    peer.asked()
                    peer.records(at(20), [record(10, 1, b"uno"), record(20, 2, b"dos")])
                    peer.close()
                    peer = self.two.accept()
                    self.assertLessEqual(peer.asked().since, time_of(at(20)))
                    again = [
                        record(20, 2, b"dos"),
                        record(20, 2, b"otro"),
                        record(30, 3, b"tres"),
                        record(30, 3, b"tres"),
                    ]
                    peer.records(at(31), again)
                    peer.end(at(31))
                    peer.closed()

                with Script(script):
                    self.assertEqual(
                        self.all(self.read(self.one, self.two)), ["uno", "dos", "lost", "otro", "tres", "end"]
                    )

    def test_a_message_sent_again_comes_once_and_in_its_place(self) -> None:
        def script() -> None:
            peer = self.one.accept()
            self.assertEqual(peer.asked().since, (at(20).time_ns - HOLD_NS, 0))
            numbers = ((10, 1), (20, 3), (30, 4), (40, 1), (50, 2), (60, 3), (70, 6))
            peer.records(at(71), [line(at(ms), LIBRARY, seq, b"%d" % seq) for ms, seq in numbers])
            peer.end(at(71))
            peer.closed()

        with Script(script):
            told = self.all(self.read(self.one, since=at(20)))
        self.assertEqual(told, ["2", "3", "4", "6", "end"], "1 was there before")

    # ---- who asks --------------------------------------------------------------------------------

    def test_a_reader_that_does_not_ask_stops_the_head_and_loses_nothing(self) -> None:
        sent: list[int] = []
        stopped = threading.Event()

        def script() -> None:
            peer = self.one.accept()
            peer.asked()
            # The system's own buffers hold some of it.
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            peer.socket.settimeout(0.5)
            for k in range(1, 2000):
                body = struct.pack(">QI", *time_of(at(k).next())) + line(at(k), TEXT, k, b"x" * 50_000)
                peer.socket.settimeout(0.5)
                try:
                    peer.say(Kind.RECORDS, body)
                except OSError:
                    break
                sent.append(k)
            stopped.set()
            peer.close()
            self.assertLess(len(sent), 1000, "50 MB are nowhere but in memory")

        with Script(script), acopio.follow(self.one.at) as reader:
            first = next(reader)
            self.assertTrue(stopped.wait(PATIENCE))
            self.assertEqual([first.seq, *(next(reader).seq for _ in sent[1:])], sent)

    def test_a_wait_of_ones_own_has_an_end_and_loses_nothing(self) -> None:
        more = threading.Event()

        def script() -> None:
            peer = self.one.accept()
            peer.asked()
            more.wait(PATIENCE)
            peer.records(at(11), lines(TEXT, 10))
            peer.closed()

        with Script(script), acopio.follow(self.one.at) as reader:
            begun = time.monotonic()
            self.assertIsNone(reader.get(0.1))
            self.assertLess(time.monotonic() - begun, 5)
            self.assertFalse(reader.over)
            more.set()
            record = reader.get(PATIENCE)
            self.assertEqual(record and record.text, "m10")

    def test_another_thread_closes_a_follower_that_waits(self) -> None:
        asked = threading.Event()

        def script() -> None:
            peer = self.one.accept()
            peer.asked()
            asked.set()
            peer.closed()

        got: list[Optional[acopio.Record]] = []
        with Script(script):
            reader = acopio.follow(self.one.at)
            thread = threading.Thread(target=lambda: got.extend(reader))
            thread.start()
            asked.wait(PATIENCE)
            reader.close()
            thread.join(PATIENCE)
            self.assertFalse(thread.is_alive())
        self.assertEqual((got, reader.over, reader.get()), ([], True, None))

    def test_a_reader_that_is_dropped_closes_its_connection(self) -> None:
        def script() -> None:
            peer = self.one.accept()
            peer.asked()
            peer.records(at(11), lines(TEXT, 10))
            peer.closed()

        with Script(script):
            next(acopio.follow(self.one.at))
            gc.collect()

    def test_its_position_is_where_a_later_read_misses_nothing(self) -> None:
        def script() -> None:
            peer = self.one.accept()
            peer.asked()
            # 2 is missing, so 3 is held.
            peer.records(at(41), [line(at(ms), LIBRARY, seq, b"x") for ms, seq in ((10, 1), (20, 3))])
            peer.records(at(50), lines(TEXT, 45, 46))
            peer.closed()

        with Script(script), acopio.follow(self.one.at) as reader:
            self.assertEqual(reader.position, ZERO)
            self.assertEqual(next(reader).id, at(10))
            self.assertEqual((next(reader).id, reader.position), (at(45), at(20)))

    # ---- what is missing -------------------------------------------------------------------------

    def test_missing_nodes_are_an_error_unless_it_may_be_partial(self) -> None:
        for partial in (False, True):
            with self.subTest(partial=partial):
                self.told = []

                def script() -> None:
                    peer = self.one.accept()
                    self.assertEqual(peer.asked().partial, partial)
                    peer.waiting("data2,data4")
                    peer.waiting("")
                    peer.records(at(11), lines(TEXT, 10))
                    peer.end(at(11), "data2,data4")
                    peer.closed()

                with Script(script):
                    told = self.all(self.read(self.one, partial=partial))
                self.assertEqual(told[:3], ["waiting data2 data4", "waiting", "m10"])
                if partial:
                    self.assertEqual(told[3:], ["end data2 data4"])
                else:
                    self.assertTrue(told[3].startswith("error dataNodes data2, data4: missing"), told)

    def test_a_wait_for_nodes_has_an_end(self) -> None:
        def script() -> None:
            peer = self.one.accept()
            peer.asked()
            peer.waiting("data2")
            peer.closed()

        with Script(script):
            told = self.all(self.read(self.one, retry_for=1.0))
        self.assertEqual(told[0], "waiting data2")
        self.assertTrue(told[1].startswith("error dataNode data2: missing"), told)

    def test_a_head_that_waits_for_nodes_is_left_for_one_that_has_them(self) -> None:
        def script() -> None:
            peer = self.one.accept()
            peer.asked()
            peer.waiting("dataNodes")
            peer.closed()
            peer = self.two.accept()
            peer.asked()
            peer.records(at(11), lines(TEXT, 10))
            peer.end(at(11))
            peer.closed()

        with Script(script):
            self.assertEqual(self.all(self.read(self.one, self.two)), ["lost", "m10", "end"])

    # ---- what ends a read ------------------------------------------------------------------------

    def test_heads_that_do_not_answer_are_named_at_last(self) -> None:
        self.one.close()
        told = self.all(self.read(self.one, retry_for=0.5))
        self.assertEqual(told[0], "lost")
        self.assertTrue(told[1].startswith(f"error heads {self.one.at}: nothing could be read for 1 s: "), told)
        self.assertIn("see that a head runs there", told[1])

    def test_a_refusal_asks_the_next_and_when_all_refuse_for_good_each_is_named(self) -> None:
        def script() -> None:
            for head, code, retry, why in (
                (self.one, Code.BUSY, True, "too many; later"),
                (self.two, Code.ROLE, False, "not here; elsewhere"),
                (self.one, Code.ROLE, False, "nor here; elsewhere"),
            ):
                peer = head.accept()
                peer.asked()
                peer.fail(code, retry, why)

        with Script(script):
            told = self.all(self.read(self.one, self.two))
        self.assertEqual(told[:2], ["lost", "lost"])
        for head, why in ((self.one, "nor here"), (self.two, "not here")):
            self.assertIn(f"head {head.at}: {why}; elsewhere", told[2])

    def test_a_head_that_answers_and_comes_no_further_is_named_in_time(self) -> None:
        def script() -> None:
            peer = self.one.accept()
            peer.asked()
            peer.records(at(11), lines(TEXT, 10))
            # It says that it is there, and how far it has come: no further.
            gone = threading.Event()
            try:
                while not gone.wait(0.05):
                    peer.records(at(11), [])
            except OSError:
                peer.close()

        begun = time.monotonic()
        with Script(script):
            told = self.all(self.read(self.one, retry_for=1.0))
        self.assertLess(time.monotonic() - begun, 10)
        self.assertEqual(told[0], "m10")
        self.assertIn(f"nothing could be read for 1 s: head {self.one.at}: it answers, ", told[1])

    def test_an_interrupted_read_says_so(self) -> None:
        def script() -> None:
            peer = self.one.accept()
            peer.asked()
            peer.closed()

        with Script(script):
            reader = self.read(self.one)
            with mock.patch("acopio.link.frames.read", side_effect=KeyboardInterrupt):
                self.assertRaises(KeyboardInterrupt, next, reader)
            with self.assertRaisesRegex(acopio.ReadFailed, "interrupted"):
                next(reader)
            # Someone has to come, or the head would wait.
            self.read(self.one).get(0.05)
            gc.collect()
            for one in gc.get_objects():
                if isinstance(one, acopio.Reader):
                    one.close()

    def test_without_a_callback_the_log_is_told(self) -> None:
        self.one.close()
        with self.assertLogs("acopio", logging.WARNING) as logged, self.assertRaises(acopio.NoHead):
            list(acopio.read(self.one.at, retry_for=0.2))
        self.assertIn(f"head {self.one.at}: Connection refused", logged.output[0])

    def test_wrong_arguments_are_refused_by_name(self) -> None:
        for heads, more in (
            ("", {}),
            ("a:1", {"since": "soon"}),
            ("a:1", {"client": "me"}),
            ("a:1", {"retry_for": 0}),
            ("a:1", {"until": datetime(2026, 1, 1)}),
        ):
            self.assertRaises(acopio.BadArgument, acopio.read, heads, **more)


class Tables(unittest.TestCase):
    """``read_frame`` with something in pandas' place; the real one has its suite in ``tests.against.test_tables``."""

    def test_records_become_columns(self) -> None:
        head = FakeHead()

        def script() -> None:
            peer = head.accept()
            peer.asked()
            peer.records(at(31), [*lines(TEXT, 10, 20), line(at(30), LIBRARY, 1, b"\xff", "+a,b")])
            peer.end(at(31), "data9")
            peer.closed()

        class Frame(dict):  # type: ignore[type-arg]
            attrs: "dict[str, object]" = {}

        stand_in = types.SimpleNamespace(
            DataFrame=Frame, to_datetime=lambda column, unit, utc: [f"{value} {unit} {utc}" for value in column]
        )
        with Script(script), mock.patch.dict(sys.modules, pandas=stand_in):
            frame = acopio.read_frame(head.at, partial=True)
        self.assertEqual(list(frame), ["id", "time", "client", "seq", "source", "ledger", "entry", "payload"])
        self.assertEqual(frame["payload"], ["m10", "m20", "\ufffd"])
        self.assertEqual(frame["time"][0], f"{at(10).time_ns} ns True")
        self.assertEqual((frame["ledger"], frame["entry"]), (["----6.-", "----6.-", ""], [1, 2, None]))
        self.assertEqual((frame["seq"][2], frame.attrs["missing"]), (1, ("data9",)))
        head.close()

    def test_without_pandas_it_says_what_to_install(self) -> None:
        with mock.patch.dict(sys.modules, {"pandas": None}):
            with self.assertRaises(acopio.PandasMissing) as caught:
                acopio.read_frame("127.0.0.1:5000")
        self.assertIn("pip install pandas", caught.exception.remedy)


if __name__ == "__main__":
    unittest.main()
