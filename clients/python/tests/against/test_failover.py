"""Heads that are killed or stopped under clients and readers. Each class takes a pair of heads of its own."""

from __future__ import annotations

import os
import signal
import threading
import time
import unittest
from typing import Optional

import acopio

from . import PATIENCE, given

HEADS = given("ACOPIO_HEADS").split(",")
PIDS = [int(pid) for pid in given("ACOPIO_HEAD_PIDS").split(",")]
MESSAGES = 3000


def texts(records: "list[acopio.Record]") -> "list[str]":
    return [record.text for record in records]


class Sending(unittest.TestCase):
    def test_a_head_that_is_killed_loses_and_repeats_nothing(self) -> None:
        followed: "list[acopio.Record]" = []
        told: "list[object]" = []
        reader = acopio.follow(HEADS, since="now", on_event=told.append)

        def follow() -> None:
            while len(followed) < MESSAGES:
                record = reader.get(PATIENCE)
                if record is None:
                    return
                followed.append(record)

        follower = threading.Thread(target=follow)
        follower.start()
        receipts = []
        with acopio.Client(HEADS, window=500) as client:
            before = client.identity
            for receipt in client.send_many(f"message {k}" for k in range(MESSAGES)):
                receipts.append(receipt)
                if len(receipts) == MESSAGES // 3:
                    os.kill(PIDS[0], signal.SIGKILL)
        wanted = [f"message {k}" for k in range(MESSAGES)]
        self.assertEqual([receipt.seq for receipt in receipts], list(range(1, MESSAGES + 1)))
        self.assertEqual({receipt.client for receipt in receipts}, {before})
        self.assertEqual(texts(list(acopio.read(HEADS, on_event=told.append))), wanted)
        follower.join(PATIENCE)
        reader.close()
        self.assertEqual(texts(followed), wanted)
        self.assertTrue(any(isinstance(event, acopio.HeadLost) and event.head == HEADS[0] for event in told))


class Reading(unittest.TestCase):
    def test_a_read_goes_on_at_another_head_where_it_was(self) -> None:
        payload = "x" * 2000
        with acopio.Client(HEADS) as client:
            for k in range(MESSAGES):
                client.send_nowait(f"{k} {payload}")
        told: "list[object]" = []
        got = []
        with acopio.read(HEADS, on_event=told.append) as reader:
            for record in reader:
                got.append(record)
                if len(got) == 200:
                    os.kill(PIDS[0], signal.SIGKILL)
        self.assertEqual([int(record.text.split()[0]) for record in got], list(range(MESSAGES)))
        self.assertEqual([event.head for event in told if isinstance(event, acopio.HeadLost)], HEADS[:1])


class Standing(unittest.TestCase):
    def test_a_head_that_stands_still_is_left_for_the_next(self) -> None:
        acopio.send(HEADS, "before")
        os.kill(PIDS[0], signal.SIGSTOP)
        receipt: Optional[acopio.Receipt] = None
        try:
            begun = time.monotonic()
            with acopio.Client(HEADS) as client:
                # More than the system takes for a head that does not read.
                for k in range(100):
                    client.send_nowait(b"x" * 100_000)
                receipt = client.send("after", PATIENCE)
            self.assertLess(time.monotonic() - begun, PATIENCE)
            self.assertEqual(receipt.seq, 101)
        finally:
            os.kill(PIDS[0], signal.SIGCONT)
        # What the first head had got of it is kept twice, and read once.
        got = [record.seq for record in acopio.read(HEADS, client=receipt.client)]
        self.assertEqual(got, list(range(1, 102)))


if __name__ == "__main__":
    unittest.main()
