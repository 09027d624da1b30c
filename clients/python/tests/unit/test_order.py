"""The order stage against a model: clients that send through two heads, are refused, lose answers, and send again."""

from __future__ import annotations

import random
import unittest
from typing import Iterable, NamedTuple, Optional

from acopio import protocol
from acopio.ids import MAX, ZERO, RecordId, client_text, may_retry
from acopio.order import Order, warm_up
from acopio.records import Record
from acopio.seen import Noted, Seen

from .lines import LIBRARY, TEXT, at

HOLD_MS = protocol.HOLD_NS // 1_000_000


class Sends(NamedTuple):
    """A client that sends a message every so many ms; what became of each: when it was kept first, and again."""

    client: str
    every_ms: int
    fates: list[tuple[Optional[int], Optional[int]]]


def sends(rng: random.Random, k: int, delay_max: int) -> Sends:
    if rng.random() < 0.5:
        return Sends(client_text(k), rng.randrange(1, 2000), [(0, None)] * rng.randrange(1, 60))
    fates: list[tuple[Optional[int], Optional[int]]] = []
    for _ in range(rng.randrange(1, 60)):
        delay = rng.randrange(1, delay_max)
        fates.append(rng.choices([(0, None), (0, delay), (delay, None), (None, None)], [6, 2, 2, 1])[0])
    return Sends(client_text(1 << 59 | k), rng.randrange(1, 2000), fates)


def kept(clients: Iterable[Sends]) -> list[Record]:
    """What the heads have of these clients, in the order of ids. A second try goes to the other head."""
    records: dict[RecordId, Record] = {}
    for client, every_ms, fates in clients:
        for seq, fate in enumerate(fates, 1):
            for incarnation, delay in enumerate(fate, 1):
                if delay is None:
                    continue
                record = at(seq * every_ms + delay, incarnation)
                while record in records:
                    record = record.plus(1)
                records[record] = Record(record, client, seq, "", f"{client} {seq}".encode())
    return [records[record] for record in sorted(records)]


def run(order: Order, records: list[Record], rng: random.Random) -> list[tuple[Record, RecordId]]:
    """Feeds records, with what is covered told after some of them; what comes out, at which time of ids."""
    out: list[tuple[Record, RecordId]] = []

    def take(when: RecordId) -> None:
        while order.out:
            record = order.out.popleft()
            assert isinstance(record, Record)
            out.append((record, when))

    for record in records:
        order.push(record)
        if rng.random() < 0.5:
            order.covered(record.id.next())
        assert order._held_bytes <= order._held_bytes_max
        assert order._held == sum(len(client.held) for client in order._clients.values())
        assert order._ranges == sum(client.seen.ranges for client in order._clients.values())
        take(record.id)
    order.finish()
    take(MAX)
    assert order._held_bytes == order._held == 0 and order.oldest_held is None
    return out


def firsts(records: list[Record]) -> dict[tuple[str, int], RecordId]:
    """Each client and number, with the least id at which it is kept."""
    found: dict[tuple[str, int], RecordId] = {}
    for record in reversed(records):
        found[record.client, record.seq] = record.id
    return found


class AgainstAModel(unittest.TestCase):
    def once(self, out: list[tuple[Record, RecordId]], wanted: Iterable[tuple[str, int]]) -> None:
        keys = [(record.client, record.seq) for record, _ in out]
        self.assertEqual(sorted(keys), sorted(wanted))
        self.assertFalse(any(record.reused for record, _ in out))

    def in_order(self, out: list[tuple[Record, RecordId]]) -> None:
        last: dict[str, int] = {}
        for record, _ in out:
            self.assertGreater(record.seq, last.get(record.client, 0))
            last[record.client] = record.seq

    def histories(self, delay_max: int) -> Iterable[tuple[random.Random, list[Record]]]:
        for seed in range(60):
            rng = random.Random(seed)
            yield rng, kept(sends(rng, k, delay_max) for k in range(rng.randrange(1, 5)))

    def test_each_message_comes_once_and_in_order(self) -> None:
        for rng, records in self.histories(HOLD_MS):
            out = run(Order(ZERO), records, rng)
            self.once(out, firsts(records))
            self.in_order(out)

    def test_a_read_from_the_middle_knows_what_was_before(self) -> None:
        for rng, records in self.histories(HOLD_MS):
            since = at(rng.randrange(120_000), 0)
            wanted = [key for key, first in firsts(records).items() if first >= since]
            out = run(Order(since), [record for record in records if record.id >= warm_up(since)], rng)
            self.once(out, wanted)
            self.in_order(out)

    def test_a_later_retry_comes_once_too(self) -> None:
        for rng, records in self.histories(40 * HOLD_MS):
            self.once(run(Order(ZERO), records, rng), firsts(records))

    def test_little_memory_loses_order_but_no_message(self) -> None:
        for rng, records in self.histories(HOLD_MS):
            order = Order(ZERO, rng.randrange(6) * 320)
            self.once(run(order, records, rng), firsts(records))


def of(client: str, seq: int, ms: int, payload: bytes = b"x") -> Record:
    return Record(at(ms), client, seq, "", payload)


def seqs(order: Order) -> list[int]:
    got = [record.seq for record in order.out if isinstance(record, Record)]
    order.out.clear()
    return got


class Rules(unittest.TestCase):
    def test_a_gap_is_waited_for_and_then_passed_over(self) -> None:
        order = Order(ZERO)
        for seq, ms in ((1, 0), (3, 10), (4, 20), (6, 30)):
            order.push(of(LIBRARY, seq, ms))
        self.assertEqual(seqs(order), [1])
        self.assertEqual(order.oldest_held, at(10))
        order.covered(at(9 + HOLD_MS))
        self.assertEqual(seqs(order), [], "3 may still wait")
        order.covered(at(11 + HOLD_MS))
        self.assertEqual(seqs(order), [3, 4], "2 is given up; 5 may still come")
        order.push(of(LIBRARY, 5, 20 + HOLD_MS))
        self.assertEqual(seqs(order), [5, 6])
        order.push(of(LIBRARY, 2, 2 * HOLD_MS))
        order.push(of(LIBRARY, 2, 3 * HOLD_MS))
        order.push(of(LIBRARY, 7, 4 * HOLD_MS))
        self.assertEqual(seqs(order), [2, 7], "late, but not lost, and once")

    def test_a_device_that_counts_anew_is_heard(self) -> None:
        order = Order(ZERO)
        for turn, word in enumerate((b"a", b"b", b"c")):
            for seq in range(1, 6):
                order.push(of(LIBRARY, seq, 100 * turn + 10 * seq, word))
                # It tried again.
                order.push(of(LIBRARY, seq, 100 * turn + 10 * seq + 1, word))
        out = [record for record in order.out if isinstance(record, Record)]
        self.assertEqual([record.seq for record in out], [1, 2, 3, 4, 5] * 3)
        self.assertEqual([record.reused for record in out], [False] * 5 + [True] * 10)
        self.assertEqual(b"".join(record.payload for record in out), b"aaaaabbbbbccccc")

    def test_a_connection_in_text_is_passed_on_as_it_comes(self) -> None:
        order = Order(ZERO)
        for seq, ms in ((9, 0), (5, 10), (5, 20)):
            order.push(of(TEXT, seq, ms))
        self.assertEqual(seqs(order), [9, 5, 5])
        self.assertFalse(may_retry(TEXT))

    def test_clients_without_number_take_bounded_memory(self) -> None:
        order, out, count = Order(ZERO), [], 3 * protocol.CLIENTS_MAX
        for k in range(count):
            # Every other one waits for its first message.
            order.push(of(client_text(1 << 59 | k), 1 + k % 2, k))
            self.assertLessEqual(len(order._clients), protocol.CLIENTS_MAX)
        order.finish()
        out = [record.client for record in order.out if isinstance(record, Record)]
        self.assertEqual((len(out), len(set(out))), (count, count))

    def test_what_went_out_by_its_turn_leaves_no_trace(self) -> None:
        order = Order(ZERO)
        for k in range(1, 5000, 2):
            order.push(of(LIBRARY, k + 1, k))
            order.push(of(LIBRARY, k, k + 1))
        self.assertEqual(seqs(order), list(range(1, 5001)))
        self.assertLess(len(order._oldest), 200)


class Live(unittest.TestCase):
    def follower(self) -> Order:
        order = Order(ZERO, follows=True)
        order.begin_live()
        return order

    def test_what_comes_waits_in_time_that_passes(self) -> None:
        order = self.follower()
        for seq in (1, 3, 4):
            order.push(of(LIBRARY, seq, 1000 - seq))
        self.assertEqual((seqs(order), order.due), ([1], protocol.HOLD_NS))
        order.covered(MAX)
        order.tick(protocol.HOLD_NS - 1)
        self.assertEqual(seqs(order), [])
        order.tick(protocol.HOLD_NS)
        self.assertEqual((seqs(order), order.due), ([3, 4], None))
        order.push(of(LIBRARY, 2, 5000))
        self.assertEqual(seqs(order), [2], "late, but not lost")

    def test_who_is_met_in_the_middle_is_heard_soon_and_in_order(self) -> None:
        order = self.follower()
        for seq in (8, 7):
            order.push(of(LIBRARY, seq, seq))
        order.push(of(TEXT, 5, 1))
        self.assertEqual((seqs(order), order.due), ([], protocol.MEET_NS))
        order.tick(protocol.MEET_NS)
        out = [(record.client, record.seq) for record in order.out if isinstance(record, Record)]
        order.out.clear()
        self.assertEqual(sorted(out), sorted([(LIBRARY, 7), (LIBRARY, 8), (TEXT, 5)]))
        self.assertLess(out.index((LIBRARY, 7)), out.index((LIBRARY, 8)))
        order.push(of(TEXT, 7, 2))
        self.assertEqual(order.due, protocol.MEET_NS + protocol.TEXT_HOLD_NS)

    def test_who_is_met_waits_longer_while_another_head_catches_up(self) -> None:
        order, second, other = self.follower(), 1_000_000_000, client_text(9)
        order.push(of(TEXT, 5, 0))
        order.tick(second)
        self.assertEqual(seqs(order), [5], "nothing before it comes")
        order.goes_on()
        order.push(of(other, 5, 0))
        order.tick(3 * second)
        self.assertEqual(seqs(order), [])
        order.push(of(other, 4, 0))
        order.tick(10 * second)
        self.assertEqual(seqs(order), [4, 5])

    def test_second_copies_of_a_connection_in_text_are_dropped(self) -> None:
        order = Order(ZERO, follows=True)
        for seq, ms in ((9, 0), (9, 0), (5, 10)):
            order.push(of(TEXT, seq, ms))
        self.assertEqual(seqs(order), [9, 5], "what is there is waited for no further")
        order.begin_live()
        for seq in (9, 5, 10):
            order.push(of(TEXT, seq, 0))
        self.assertEqual(seqs(order), [10])

    def test_what_is_held_when_it_begins_goes_on_waiting(self) -> None:
        order = Order(ZERO, follows=True)
        order.push(of(LIBRARY, 2, 0))
        order.begin_live()
        self.assertEqual(order.due, protocol.HOLD_NS)
        order.tick(protocol.HOLD_NS)
        self.assertEqual((seqs(order), order._held), ([2], 0))


class SeenNumbers(unittest.TestCase):
    def test_it_is_a_map_in_few_ranges(self) -> None:
        for seed in range(60):
            rng, seen = random.Random(seed), Seen()
            model: dict[int, int] = {}
            for _ in range(rng.randrange(160)):
                seq, payload = rng.randrange(60), rng.randrange(2)
                before = model.get(seq)
                model[seq] = payload
                wanted = Noted.NEW if before is None else Noted.AGAIN if before == payload else Noted.OTHER
                noted = seen.insert(seq, payload)
                # What is forgotten may be taken for another, and never for the same.
                forgot = (noted, wanted) == (Noted.OTHER, Noted.AGAIN) and seen.payloads < len(model)
                self.assertTrue(noted is wanted or forgot)
                self.assertEqual(seen.ranges, sum(seq + 1 not in model for seq in model))
                self.assertEqual(seen.payloads, sum(len(known.payloads) for known in seen._ranges))
                if rng.random() < 0.05:
                    seen.forget_payloads()
                    self.assertLessEqual(seen.payloads, len(model) // 2)

    def test_it_forgets_the_lowest_first(self) -> None:
        seen, count = Seen(), 3 * protocol.CLIENT_RANGES_MAX
        for k in range(count):
            self.assertIs(seen.insert(2 * k, 7), Noted.NEW)
            self.assertLessEqual(seen.ranges, protocol.CLIENT_RANGES_MAX)
        last = 2 * count - 2
        self.assertIs(seen.insert(last, 7), Noted.AGAIN, "the newest is known")
        self.assertIs(seen.insert(last, 8), Noted.OTHER)
        self.assertIs(seen.insert(last, 8), Noted.AGAIN, "the last payload counts")
        self.assertIs(seen.insert(0, 7), Noted.NEW, "the oldest is not")


if __name__ == "__main__":
    unittest.main()
