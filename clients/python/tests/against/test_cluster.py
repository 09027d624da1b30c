"""Clients and readers against a head and data nodes that run, compared with what the Rust program reads."""

from __future__ import annotations

import json
import subprocess
import threading
import unittest
from datetime import datetime, timedelta, timezone

import acopio

from . import PATIENCE, given

HEADS = given("ACOPIO_HEADS").split(",")


class Cluster(unittest.TestCase):
    def test_what_is_sent_is_read_back_byte_for_byte(self) -> None:
        payloads = [bytes(range(256)), b"", "ñandú \u2028 \x85".encode(), b"\\x41\\", b"x" * (1 << 20)]
        with acopio.Client(HEADS) as client:
            receipts = [client.send(payload, PATIENCE) for payload in payloads]
        with acopio.read(HEADS, client=client.identity) as reader:
            records = list(reader)
        self.assertEqual([record.payload for record in records], payloads)
        self.assertEqual([record.id for record in records], [receipt.id for receipt in receipts])
        self.assertEqual([record.seq for record in records], [1, 2, 3, 4, 5])
        now = datetime.now(timezone.utc)
        self.assertLess(abs(records[0].time - now), timedelta(minutes=2))
        self.assertTrue(all(receipt.sync is acopio.Sync.ALWAYS for receipt in receipts))
        # Two copies, each on a node of its own; the record is an entry of a ledger.
        self.assertEqual({len(set(receipt.nodes)) for receipt in receipts}, {2})
        self.assertTrue(all(record.ledger and record.entry is not None for record in records))

    def test_many_threads_and_windows_and_one_order(self) -> None:
        with acopio.Client(HEADS, window=300) as client:
            for k in range(2000):
                client.send_nowait(f"nowait {k}")
            client.flush(PATIENCE)
            receipts = list(client.send_many(f"many {k}" for k in range(2000)))
            threads = [threading.Thread(target=lambda: client.send("thread", PATIENCE)) for _ in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)
        self.assertEqual([receipt.seq for receipt in receipts], list(range(2001, 4001)))
        got = list(acopio.read(HEADS, client=client.identity))
        self.assertEqual([record.seq for record in got], list(range(1, 4021)))
        wanted = [f"nowait {k}" for k in range(2000)] + [f"many {k}" for k in range(2000)] + ["thread"] * 20
        self.assertEqual([record.text for record in got], wanted)

    def test_a_record_has_the_name_of_its_source(self) -> None:
        with acopio.Client(HEADS, name="taller/horno") as client:
            client.send_nowait("210")
            client.send_nowait("21", source="esp7")
            client.send("211", PATIENCE)
        got = [(record.source, record.text) for record in acopio.read(HEADS, client=client.identity)]
        self.assertEqual(got, [("taller/horno", "210"), ("esp7", "21"), ("taller/horno", "211")])
        only = acopio.read(HEADS, client=client.identity, sources="taller/")
        self.assertEqual([record.text for record in only], ["210", "211"])
        with acopio.follow(HEADS, since="now", sources=["taller/horno"]) as reader:
            with acopio.Client(HEADS) as other:
                for k in range(4):
                    other.send(str(k), PATIENCE, source="taller/horno" if k % 2 else None)
            self.assertEqual([reader.get(PATIENCE / 2).text for _ in range(2)], ["1", "3"])
        receipt = acopio.send(HEADS, "x")
        one = acopio.read(HEADS, since=receipt.id, until=receipt.id.next())
        self.assertEqual([record.source for record in one], [None])
        for name in ("", "a b", "/a", "a/", "acopio/x", "ñ", "x" * 33):
            with self.assertRaises(acopio.BadArgument) as caught:
                acopio.Client(HEADS, name=name)
            self.assertIn("take 1 to 32", caught.exception.remedy)

    def test_text_is_stored_as_that_of_text_clients(self) -> None:
        receipt = acopio.send(HEADS, "hola", text=True)
        self.assertEqual(
            [one.text for one in acopio.read(HEADS, since=receipt.id, until=receipt.id.next())], ["mensaje: hola"]
        )

    def test_a_range_is_half_open_and_a_client_is_one(self) -> None:
        with acopio.Client(HEADS) as client:
            ids = [client.send(str(k), PATIENCE).id for k in range(5)]
        acopio.send(HEADS, "another's")
        between = acopio.read(HEADS, since=ids[1], until=ids[3], client=client.identity)
        self.assertEqual([record.text for record in between], ["1", "2"])
        ended = acopio.read(HEADS, since=ids[2], client=client.identity)
        self.assertEqual([record.text for record in ended], ["2", "3", "4"])
        self.assertGreater(ended.position, ids[4])
        self.assertEqual(list(acopio.read(HEADS, since=ended.position, client=client.identity)), [])
        self.assertEqual(list(acopio.read(HEADS, since=timedelta(days=2), until=timedelta(days=1))), [])

    def test_a_follower_gets_what_comes_and_goes_on_behind_it(self) -> None:
        with acopio.Client(HEADS) as client:
            with acopio.follow(HEADS, since="now", client=client.identity) as reader:
                for k in range(3):
                    client.send(f"first {k}", PATIENCE)
                got = [next(reader) for _ in range(3)]
                self.assertIsNone(reader.get(0.05))
            client.send("meanwhile", PATIENCE)
            with acopio.follow(HEADS, since=got[-1].id.next(), client=client.identity) as reader:
                client.send("later", PATIENCE)
                got += [next(reader) for _ in range(2)]
        self.assertEqual([one.text for one in got], ["first 0", "first 1", "first 2", "meanwhile", "later"])

    def test_a_follower_of_a_client_of_its_own_process_can_be_closed_by_another_thread(self) -> None:
        reader = acopio.follow(HEADS)
        got: "list[acopio.Record]" = []
        seen = threading.Event()

        def run() -> None:
            for record in reader:
                got.append(record)
                if record.text == "the last":
                    seen.set()

        thread = threading.Thread(target=run)
        thread.start()
        acopio.send(HEADS, "the last")
        self.assertTrue(seen.wait(PATIENCE))
        reader.close()
        thread.join(PATIENCE)
        self.assertFalse(thread.is_alive())
        self.assertEqual([record.id for record in got], sorted({record.id for record in got}))

    def test_it_reads_what_the_program_reads(self) -> None:
        program, heads = given("ACOPIO_PROGRAM"), ",".join(HEADS)
        subprocess.run(
            [program, "send", "--head", heads, "from rust", "y\\\t\x1b[2J", "ñ"],
            check=True,
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
        )
        until = acopio.send(HEADS, "the end").id
        out = subprocess.run(
            [program, "read", "--head", heads, "--until", str(until), "--format", "json"],
            check=True,
            timeout=PATIENCE,
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        ).stdout
        theirs = [json.loads(line) for line in out.splitlines()]
        ours = list(acopio.read(HEADS, until=until))
        self.assertGreaterEqual(len(ours), 3)
        self.assertEqual(
            [(one.id, one.client, one.seq, f"{one.id[15:]}.{one.place}") for one in ours],
            [(one["id"], one["client"], one["seq"], one["ledger"]) for one in theirs],
        )
        # The program writes out what could move a cursor.
        plain = [
            (one.text, other["text"])
            for one, other in zip(ours, theirs)
            if one.text.isprintable() and "\\" not in one.text
        ]
        self.assertTrue(plain and all(one == other for one, other in plain))

    def test_a_head_says_how_it_is(self) -> None:
        status = acopio.status_of(HEADS[0], clients=True)
        self.assertEqual(sorted(node["name"] for node in status["nodes"]), ["data1", "data2"])
        self.assertIn("connected", status)
        with self.assertRaises(acopio.HeadFailed):
            acopio.status_of("127.0.0.1:1", timeout=PATIENCE)


if __name__ == "__main__":
    unittest.main()
