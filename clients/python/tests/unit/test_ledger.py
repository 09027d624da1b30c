"""What is sent, sent again and given up, without a socket; and many random histories of it."""

import random
import unittest

from acopio import frames
from acopio.errors import Refusal
from acopio.ledger import Entry, Failed, Ledger, Receipt
from acopio.protocol import BATCH_BYTES_MAX, Code, Sync

from .lines import LIBRARY, at
from .stores import stores

LATER = Refusal(Code.NO_NODES, True, "no hay dataNodes; start one")
NEVER = Refusal(Code.STORAGE, False, "too bad; see the log")


def filled(count: int) -> tuple[Ledger, list[Entry]]:
    ledger, entries = Ledger(LIBRARY), []
    for k in range(1, count + 1):
        entries.append(Entry(b"m%d" % k, False))
        ledger.push(entries[-1], 0.0)
    return ledger, entries


def sent(ledger: Ledger, now: float = 0.0) -> list[list[int]]:
    """The numbers that are sent now, a list for each frame."""
    return [list(range(first, first + len(messages))) for first, messages in stores(ledger.encode(1 << 30, now))]


def acked(first: int, count: int) -> frames.Acked:
    return frames.Acked(first, count, at(first), Sync.ALWAYS, ("n",))


class Numbers(unittest.TestCase):
    def test_messages_go_out_in_batches_and_only_once(self) -> None:
        ledger, _ = filled(20)
        self.assertEqual(sent(ledger), [list(range(1, 17)), [17, 18, 19, 20]])
        self.assertEqual(sent(ledger), [])

    def test_large_messages_go_alone(self) -> None:
        ledger = Ledger(LIBRARY)
        for size in (10, BATCH_BYTES_MAX, BATCH_BYTES_MAX + 1, BATCH_BYTES_MAX - 10, 10, 1):
            ledger.push(Entry(b"x" * size, False), 0.0)
        self.assertEqual(sent(ledger), [[1], [2], [3], [4, 5], [6]])

    def test_a_lost_connection_sends_the_unsettled_again_under_the_same_numbers(self) -> None:
        ledger, entries = filled(6)
        sent(ledger)
        ledger.acked(acked(1, 1), 1.0)
        ledger.acked(acked(3, 2), 1.0)
        ledger.rewind()
        self.assertEqual(sent(ledger), [[2], [5, 6]])
        self.assertTrue(ledger.acked(acked(1, 6), 1.0))
        self.assertEqual((len(ledger), ledger.bytes, ledger.sent, ledger.settled), (0, 0, 0, 6))
        self.assertEqual(entries[3].outcome, Receipt(at(3).plus(1), ("n",), Sync.ALWAYS, LIBRARY, 4))

    def test_a_refusal_for_now_is_tried_again_later_and_a_final_one_is_told(self) -> None:
        ledger, entries = filled(3)
        sent(ledger)
        self.assertFalse(ledger.refused(frames.Refused(2, 1, LATER), 5.0, 1.0))
        self.assertEqual((sent(ledger, 4.9), sent(ledger, 5.0)), ([], [[2]]))
        self.assertTrue(ledger.refused(frames.Refused(3, 1, NEVER), 5.0, 1.0))
        self.assertEqual(entries[2].outcome, Failed(NEVER, False))
        self.assertIs(ledger.take_failed(), entries[2])
        self.assertIsNone(ledger.take_failed())

    def test_what_no_head_may_have_got_is_surely_not_kept(self) -> None:
        ledger, entries = filled(17)
        ledger.encode(1, 0.0)
        ledger.rewind()
        ledger.give_up(LATER)
        self.assertEqual([entries[15].outcome, entries[16].outcome], [Failed(LATER, True), Failed(LATER, False)])
        self.assertEqual((len(ledger), ledger.settled, ledger.stuck_since), (0, 17, None))

    def test_a_client_is_renewed_only_when_nothing_waits(self) -> None:
        ledger, _ = filled(2)
        ledger.renew("W---------")
        self.assertEqual(ledger.client, LIBRARY)
        ledger.give_up(NEVER)
        ledger.renew("W---------")
        entry = Entry(b"x", False)
        ledger.push(entry, 0.0)
        self.assertEqual((entry.client, entry.seq, ledger.accepted, ledger.settled), ("W---------", 1, 3, 2))

    def test_a_range_that_a_head_only_claims_costs_nothing(self) -> None:
        ledger, entries = filled(3)
        sent(ledger)
        self.assertTrue(ledger.acked(frames.Acked(2, (1 << 32) - 1, at(1), Sync.ALWAYS, ()), 0.0))
        self.assertIsNone(entries[0].outcome)
        self.assertIsInstance(entries[2].outcome, Receipt)

    def test_random_histories_lose_nothing_and_repeat_only_what_is_open(self) -> None:
        for seed in range(30):
            self.history(random.Random(seed))

    def history(self, rng: random.Random) -> None:
        ledger, entries = Ledger(LIBRARY), {}
        there: set[int] = set()
        for step in range(300):
            now, action = float(step), rng.random()
            if action < 0.4:
                for _ in range(rng.randrange(1, 30)):
                    entry = Entry(b"x" * rng.randrange(50), False)
                    ledger.push(entry, now)
                    entries[entry.seq] = entry
            elif action < 0.6:
                for first, messages in stores(ledger.encode(rng.randrange(1, 2000), now)):
                    numbers = set(range(first, first + len(messages)))
                    self.assertFalse(numbers & there, "sent twice on a connection")
                    self.assertTrue(all(entries[seq].outcome is None for seq in numbers))
                    there |= numbers
            elif action < 0.65:
                ledger.rewind()
                there.clear()
            elif there:
                first = rng.choice(sorted(there))
                count = next(k for k in range(1, 5) if first + k not in there or k == rng.randrange(1, 5) or k == 4)
                if action < 0.85:
                    ledger.acked(acked(first, count), now)
                elif action < 0.95:
                    ledger.refused(frames.Refused(first, count, LATER), now, now)
                else:
                    ledger.refused(frames.Refused(first, count, NEVER), now, now)
                there -= set(range(first, first + count))
            still = {seq for seq, entry in entries.items() if entry.outcome is None}
            self.assertEqual(ledger.sent, len(there))
            self.assertEqual(len(ledger), ledger.accepted + 1 - min(still, default=ledger.accepted + 1))
            self.assertEqual(ledger.bytes, sum(len(entries[seq].payload) for seq in still))
            self.assertEqual(ledger.stuck_since is None, not still)
        ledger.rewind()
        again = [seq for frame in sent(ledger, 1e9) for seq in frame]
        self.assertEqual(again, sorted(seq for seq, entry in entries.items() if entry.outcome is None))


if __name__ == "__main__":
    unittest.main()
