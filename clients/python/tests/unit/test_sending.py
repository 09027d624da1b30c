"""Clients against heads that are lost, hang, refuse, lie, or stop reading."""

from __future__ import annotations

import gc
import os
import random
import threading
import time
import unittest
import warnings
from unittest import mock

import acopio
from acopio.ledger import Entry
from acopio.protocol import CONFIRMATION, Code, Kind, Sync

from .fake_head import PATIENCE, FakeHead, Peer, Script, Stored
from .lines import at

#: A head that is there answers within this, on a busy machine.
SOON = 20.0


class Heads(unittest.TestCase):
    def setUp(self) -> None:
        self.one, self.two = FakeHead(), FakeHead()
        self.both = [self.one.at, self.two.at]
        self.addCleanup(self.one.close)
        self.addCleanup(self.two.close)
        self.patch("acopio.sender.log", mock.Mock())

    def patch(self, name: str, value: object) -> None:
        patch = mock.patch(name, value)
        patch.start()
        self.addCleanup(patch.stop)

    def silence(self, after: float, until: float) -> None:
        """Silence counts sooner, so that tests of it are short."""
        self.patch("acopio.sender.PING_AFTER", after)
        self.patch("acopio.troubles.SILENCE_MAX", until)
        self.patch("acopio.troubles.SILENCE_ALONE_MAX", until)

    # ---- the plain way ---------------------------------------------------------------------------

    def test_a_message_is_kept_and_its_receipt_says_where(self) -> None:
        def script() -> None:
            peer = self.one.accept().welcome()
            assert peer.hello is not None and peer.hello[0] >> 59 == 1 and peer.hello[1] == 0
            stored = peer.stored()
            self.assertEqual(stored, (1, ("ñandú".encode(),)))
            peer.ack(stored, at(5), ("10.0.0.1", "10.0.0.2"))
            peer.closed()

        with Script(script), acopio.Client(self.one.at) as client:
            receipt = client.send("ñandú", timeout=SOON)
            self.assertEqual(receipt, (at(5), ("10.0.0.1", "10.0.0.2"), Sync.ALWAYS, client.identity, 1))

    def test_nothing_is_dialled_before_there_is_a_message(self) -> None:
        with acopio.Client(self.one.at) as client:
            client.flush()
        self.one._listener.settimeout(0.01)
        self.assertRaises(TimeoutError if os.name == "nt" else OSError, self.one.accept)

    def test_many_are_in_flight_together_and_answers_come_in_any_order(self) -> None:
        def script() -> None:
            peer = self.one.accept().welcome()
            frames = []
            while sum(len(stored.messages) for stored in frames) < 100:
                frames.append(peer.stored())
            for stored in reversed(frames):
                peer.ack(stored, at(stored.first_seq))
            peer.closed()

        with Script(script), acopio.Client(self.one.at) as client:
            pending = [client.send_nowait(b"%d" % k) for k in range(100)]
            client.flush(SOON)
            self.assertTrue(all(one.done() for one in pending))
            self.assertEqual([one.result().seq for one in pending], list(range(1, 101)))

    def test_text_is_asked_for(self) -> None:
        def script() -> None:
            peer = self.one.accept().welcome()
            assert peer.hello is not None
            self.assertEqual(peer.hello[1], 1)
            peer.ack(peer.stored(), at(1))
            peer.closed()

        with Script(script):
            acopio.send(self.one.at, "hola", text=True)
        with acopio.Client(self.one.at, text=True) as client, self.assertRaises(acopio.MessageTooLong):
            client.send(b"x" * (1 << 20))

    def test_threads_share_a_client(self) -> None:
        def script() -> None:
            peer, got = self.one.accept().welcome(), []
            while len(got) < 400:
                stored = peer.stored()
                peer.ack(stored, at(stored.first_seq))
                got += stored.messages
            self.assertEqual(len(set(got)), 400)
            peer.closed()

        with Script(script), acopio.Client(self.one.at) as client:
            receipts: list[acopio.Receipt] = []
            threads = [
                threading.Thread(target=lambda k=k: receipts.extend(client.send(f"{k} {n}", SOON) for n in range(50)))
                for k in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)
            self.assertEqual(sorted(receipt.seq for receipt in receipts), list(range(1, 401)))

    # ---- heads that are lost ---------------------------------------------------------------------

    def test_what_is_not_answered_goes_to_the_next_head_under_the_same_numbers(self) -> None:
        def script() -> None:
            peer = self.one.accept().welcome()
            who, first = peer.hello, peer.stored()
            peer.ack(first._replace(messages=first.messages[:1]), at(1))
            peer.close()
            peer = self.two.accept().welcome()
            self.assertEqual(peer.hello, who)
            again = peer.stored()
            self.assertEqual(again, (2, (b"2", b"3")))
            peer.ack(again, at(2, 9))
            peer.closed()

        with Script(script), acopio.Client(self.both) as client:
            with client._sender.lock:
                # All three in one frame.
                for payload in (b"1", b"2", b"3"):
                    client._sender.push(Entry(payload, False))
            client.flush(SOON)

    def test_a_head_that_nobody_runs_is_passed_over_at_once(self) -> None:
        self.one.close()

        def script() -> None:
            peer = self.two.accept().welcome()
            peer.ack(peer.stored(), at(1))
            peer.closed()

        begun = time.monotonic()
        with Script(script):
            acopio.send(self.both, "x")
        self.assertLess(time.monotonic() - begun, 5)

    def test_the_same_head_is_tried_again(self) -> None:
        def script() -> None:
            for _ in range(3):
                self.one.accept().welcome().close()
            peer = self.one.accept().welcome()
            peer.ack(peer.stored(), at(1))
            peer.closed()

        with Script(script):
            self.assertEqual(acopio.send(self.one.at, "x").seq, 1)

    def test_garbage_half_a_frame_and_frames_above_the_bound_are_left(self) -> None:
        for says in (b"\x00\x00\x00\x05\xff", b"\xff" * 64, b"\x00\x00\x01\x00\x04half", b"\x40\x00\x00\x00\x04"):
            with self.subTest(says=says):

                def script() -> None:
                    peer = self.one.accept().welcome()
                    peer.stored()
                    peer.raw(says)
                    if says.endswith(b"half"):
                        peer.close()
                    peer = self.two.accept().welcome()
                    peer.ack(peer.stored(), at(1))
                    peer.closed()

                with Script(script):
                    self.assertEqual(acopio.send(self.both, "x").seq, 1)

    def test_what_is_no_head_is_named(self) -> None:
        self.one.always(b"SSH-2.0-OpenSSH_9.2\r\n")
        self.two.always(b"confirmacion acopio/9\n")
        with self.assertRaises(acopio.NotKept) as caught:
            acopio.send(self.both, "x", retry_for=1.5)
        said = str(caught.exception)
        self.assertIn(f'head {self.one.at}: it answered "SSH-2.0-OpenSSH_9.2', said)
        self.assertIn(f"head {self.two.at}: it speaks acopio/9 and this is acopio/2", said)
        self.assertFalse(caught.exception.may_be_kept, "it was never sent")

    def test_a_half_closed_head_is_left(self) -> None:
        def script() -> None:
            peer = self.one.accept().welcome()
            peer.stored()
            peer.socket.shutdown(1)
            other = self.two.accept().welcome()
            other.ack(other.stored(), at(1))
            other.closed()
            peer.closed()

        with Script(script):
            acopio.send(self.both, "x")

    # ---- heads that are silent -------------------------------------------------------------------

    def test_a_head_that_hangs_is_asked_and_left(self) -> None:
        self.silence(0.2, 0.8)

        def script() -> None:
            hung = self.one.accept().welcome()
            self.assertEqual(hung.frame()[0], Kind.STORE)
            self.assertEqual(hung.frame()[0], Kind.PING, "it asks first")
            peer = self.two.accept().welcome()
            peer.ack(peer.stored(), at(1))
            peer.closed()
            hung.closed()

        with Script(script):
            acopio.send(self.both, "x")

    def test_a_head_that_waits_and_answers_is_not_left(self) -> None:
        self.silence(0.1, 3.0)

        def script() -> None:
            peer = self.one.accept().welcome()
            pings = 0
            while pings < 4:
                kind, body = peer.frame()
                if kind == Kind.PING:
                    pings += 1
                    peer.say(Kind.PONG, body)
            peer.say(Kind.PING, b"\0" * 7 + b"\x05")
            while peer.frame() != (Kind.PONG, b"\0" * 7 + b"\x05"):
                pass
            peer.ack(Stored(1, (b"x",)), at(1))
            peer.closed()

        with Script(script):
            acopio.send(self.both, "x")

    def test_a_client_that_was_idle_does_not_take_its_head_for_dead(self) -> None:
        self.silence(0.1, 0.3)

        def script() -> None:
            peer = self.one.accept().welcome()
            peer.ack(peer.stored(), at(1))
            idle.wait(PATIENCE)
            kind, _ = peer.frame()
            self.assertEqual(kind, Kind.STORE, "nothing is asked while nothing is wanted")
            peer.ack(Stored(2, (b"y",)), at(2))
            peer.closed()

        idle = threading.Event()
        with Script(script), acopio.Client(self.one.at) as client:
            client.send("x", SOON)
            # Longer than a head may be silent that owes an answer.
            time.sleep(0.5)
            idle.set()
            self.assertEqual(client.send("y", SOON).seq, 2)

    def test_a_head_that_stops_reading_is_left_and_the_window_bounds_what_waits(self) -> None:
        self.silence(0.2, 1.0)
        done = threading.Event()

        def script() -> None:
            stuck = self.one.accept().welcome()
            peer, count = self.two.accept().welcome(), 0
            while count < 80:
                stored = peer.stored()
                count += len(stored.messages)
                peer.ack(stored, at(stored.first_seq))
            done.wait(PATIENCE)
            peer.closed()
            stuck.close()

        with Script(script), acopio.Client(self.both, window_bytes=16 << 20) as client:
            for k in range(80):
                client.send_nowait(bytes([k]) * 200_000)
                self.assertLessEqual(client._sender.ledger.bytes, 16 << 20)
            client.flush(SOON)
            done.set()

    # ---- refusals --------------------------------------------------------------------------------

    def test_a_refusal_for_now_is_tried_again_on_the_same_connection(self) -> None:
        def script() -> None:
            peer = self.one.accept().welcome()
            stored = peer.stored()
            peer.refuse(stored, Code.NO_NODES, True, "no hay dataNodes; start one")
            self.assertEqual(peer.stored(), stored)
            peer.ack(stored, at(1))
            peer.closed()

        with Script(script):
            acopio.send(self.one.at, "x")

    def test_a_refusal_for_now_is_tried_at_the_next_head(self) -> None:
        def script() -> None:
            peer = self.one.accept().welcome()
            peer.refuse(peer.stored(), Code.NO_NODES, True, "no hay dataNodes; start one")
            other = self.two.accept().welcome()
            other.ack(other.stored(), at(1))
            other.closed()
            peer.closed()

        with Script(script):
            acopio.send(self.both, "x")

    def test_a_refusal_for_good_is_told_and_the_client_goes_on_as_another(self) -> None:
        def script() -> None:
            peer = self.one.accept().welcome()
            first = peer.hello
            peer.refuse(peer.stored(), Code.STORAGE, False, "all nodes failed; see their logs")
            peer.closed()
            peer = self.one.accept().welcome()
            self.assertNotEqual(peer.hello, first)
            stored = peer.stored()
            self.assertEqual(stored.first_seq, 1)
            peer.ack(stored, at(1))
            peer.closed()

        with Script(script), acopio.Client(self.one.at) as client:
            before = client.identity
            with self.assertRaises(acopio.NotKept) as caught:
                client.send("x", SOON)
            error = caught.exception
            self.assertEqual((error.code, error.seq, error.client), (Code.STORAGE, 1, before))
            self.assertEqual((error.happened, error.remedy), ("not kept: all nodes failed", "see their logs"))
            self.assertEqual(client.send("y", SOON).client, client.identity)
            self.assertNotEqual(client.identity, before)

    def test_a_failure_for_good_ends_it_at_once_and_names_every_head(self) -> None:
        def script() -> None:
            for head in (self.one, self.two):
                head.accept().confirm().fail(Code.ROLE, False, "not here; elsewhere")

        begun = time.monotonic()
        with Script(script), self.assertRaises(acopio.NotKept) as caught:
            acopio.send(self.both, "x")
        self.assertLess(time.monotonic() - begun, 10)
        for head in self.both:
            self.assertIn(f"head {head}: not here; elsewhere", str(caught.exception))

    def test_flush_tells_of_the_first_that_was_not_kept_once(self) -> None:
        def script() -> None:
            peer = self.one.accept().welcome()
            stored = peer.stored()
            peer.refuse(stored, Code.STORAGE, False, "no; see the log")
            peer.closed()

        with Script(script):
            client = acopio.Client(self.one.at)
            pending = client.send_nowait("x")
            with self.assertRaises(acopio.NotKept):
                client.flush(SOON)
            client.flush(SOON)
            self.assertRaises(acopio.NotKept, pending.result, SOON)
            client.close(SOON)

    # ---- bounds ----------------------------------------------------------------------------------

    def test_a_full_window_waits_or_says_so_and_every_wait_has_an_end(self) -> None:
        def script() -> None:
            peer = self.one.accept().welcome()
            stored = [peer.stored()]
            while sum(len(one.messages) for one in stored) < 4:
                stored.append(peer.stored())
            full.wait(PATIENCE)
            for one in stored:
                peer.ack(one, at(one.first_seq))
            peer.ack(peer.stored(), at(9))
            peer.closed()

        full = threading.Event()
        with Script(script), acopio.Client(self.one.at, window=4) as client:
            first = [client.send_nowait("x") for _ in range(4)][0]
            self.assertRaises(acopio.WindowFull, client.send_nowait, "y", wait_for_room=False)
            self.assertRaises(acopio.TimedOut, client.send, "y", 0.05)
            self.assertRaises(TimeoutError, client.flush, 0.05)
            self.assertRaises(acopio.TimedOut, first.result, 0.05)
            self.assertEqual(client.in_flight, 4)
            full.set()
            self.assertEqual(client.send("y", SOON).seq, 5)

    def test_an_iterator_of_many_has_a_window_in_flight_and_keeps_their_order(self) -> None:
        def script() -> None:
            peer, got = self.one.accept().welcome(), []
            while len(got) < 300:
                stored = peer.stored()
                got += stored.messages
                peer.ack(stored, at(stored.first_seq))
            self.assertEqual(got, [b"%d" % k for k in range(300)])
            peer.closed()

        taken: list[int] = []

        def messages() -> "list[bytes]":
            for k in range(300):
                taken.append(k)
                yield b"%d" % k

        with Script(script), acopio.Client(self.one.at, window=10) as client:
            for at_seq, receipt in enumerate(client.send_many(messages()), 1):
                self.assertEqual(receipt.seq, at_seq)
                self.assertLessEqual(len(taken) - at_seq, 11)

    def test_what_no_head_takes_is_given_up_in_time(self) -> None:
        self.one.close()
        begun = time.monotonic()
        with self.assertRaises(acopio.NotKept) as caught:
            acopio.send(self.one.at, "x", retry_for=0.5)
        self.assertLess(time.monotonic() - begun, 5)
        self.assertIn(f"head {self.one.at}: Connection refused", str(caught.exception))
        self.assertEqual(caught.exception.code, Code.TIMEOUT)

    def test_a_close_with_a_deadline_gives_up_what_is_in_flight(self) -> None:
        def script() -> None:
            peer = self.one.accept().welcome()
            peer.stored()
            got.set()
            peer.closed()

        got = threading.Event()
        with Script(script):
            client = acopio.Client(self.one.at)
            pending = client.send_nowait("x")
            got.wait(PATIENCE)
            begun = time.monotonic()
            client.close(timeout=0.2)
            self.assertLess(time.monotonic() - begun, 5)
            with self.assertRaises(acopio.NotKept) as caught:
                pending.result(0)
            self.assertTrue(caught.exception.may_be_kept, "the head has got it")
            self.assertRaises(acopio.ClientClosed, client.send, "y")

    def test_wrong_arguments_are_refused_by_name(self) -> None:
        for heads in ("", [], "a:b", "a:0", "a:70000", "::1:5000x", "zk://a:1", ["x:1"] * 17, "a b:1"):
            self.assertRaises(acopio.BadArgument, acopio.Client, heads)
        self.assertRaises(acopio.BadArgument, acopio.Client, "a:1", window=0)
        with acopio.Client(self.one.at) as client:
            self.assertRaises(acopio.BadArgument, client.send, 5)
            self.assertRaises(acopio.MessageTooLong, client.send, b"x" * ((1 << 20) + 1))

    # ---- the process -----------------------------------------------------------------------------

    def test_a_client_that_is_dropped_says_so_and_still_sends(self) -> None:
        def script() -> None:
            peer = self.one.accept().welcome()
            stored = peer.stored()
            peer.ack(stored, at(1))
            peer.closed()

        with Script(script), warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            pending = acopio.Client(self.one.at).send_nowait("x")
            gc.collect()
            self.assertEqual(pending.result(SOON).seq, 1)
            self.assertTrue(any(issubclass(one.category, ResourceWarning) for one in told))

    def test_a_forked_child_is_told_to_open_its_own(self) -> None:
        client = acopio.Client(self.one.at)
        with mock.patch("os.getpid", return_value=os.getpid() + 1):
            self.assertRaises(acopio.ClientClosed, client.send, "x")
        client.close()

    def test_a_clock_that_jumps_changes_nothing(self) -> None:
        rng = random.Random(1)

        def script() -> None:
            peer, count = self.one.accept().welcome(), 0
            while count < 50:
                stored = peer.stored()
                count += len(stored.messages)
                # The head's jumps, too.
                peer.ack(stored, at(rng.randrange(10**9)))
            peer.closed()

        with mock.patch("time.time", side_effect=lambda: rng.uniform(0, 1e10)), Script(script):
            with acopio.Client(self.one.at) as client:
                for k in range(50):
                    client.send(f"{k}", SOON)

    def test_pieces_of_a_confirmation_are_waited_for(self) -> None:
        def script() -> None:
            peer: Peer = self.one.accept()
            for k in range(len(CONFIRMATION)):
                peer.raw(CONFIRMATION[k : k + 1])
            with mock.patch.object(peer, "raw"):
                peer.confirm()
            peer.frame()
            peer.say(Kind.WELCOME, b"\0" * 12 + b"\0\0")
            peer.ack(peer.stored(), at(1))
            peer.closed()

        with Script(script):
            acopio.send(self.one.at, "x")


if __name__ == "__main__":
    unittest.main()
