"""Ids and lines of records: what was written is read back, and what was changed is found."""

import random
import unittest
from datetime import datetime, timedelta, timezone

from acopio import ids
from acopio.crc32c import checksum, checksums, plain, plain_many
from acopio.errors import BadArgument
from acopio.ids import RecordId
from acopio.moments import moment_id
from acopio.records import LineError, decode

from .lines import LIBRARY, at, digits, line

GOOD = line(at(0), LIBRARY, 70, b"a\\b\n\xff", ":3.zz")[:-1]


class Ids(unittest.TestCase):
    def test_texts_sort_as_ids_do_and_are_read_back(self) -> None:
        rng = random.Random(1)
        known = [(rng.randrange(10**19), rng.randrange(1 << 30)) for _ in range(500)]
        known += [(time, (incarnation + 1) % (1 << 30)) for time, incarnation in known[:100]]
        texts = [RecordId.of(*one) for one in known]
        self.assertEqual([(one.time_ns, one.incarnation) for one in texts], known)
        self.assertEqual(sorted(texts), [RecordId.of(*one) for one in sorted(known)])
        self.assertTrue(all(RecordId(str(one)) == one for one in texts))

    def test_the_next_id_is_the_least_one_above(self) -> None:
        last = (1 << 30) - 1
        self.assertEqual(RecordId.of(5, 6).next(), RecordId.of(5, 7))
        self.assertEqual(RecordId.of(5, last).next(), RecordId.of(6, 0))
        self.assertEqual(ids.MAX.next(), ids.MAX)

    def test_what_is_no_id_is_refused(self) -> None:
        for text in ("", "1795234260----0----", "179523426x----0----6", "1795234260zzzzz----6", "1795234260--+-0----6"):
            self.assertRaises(ValueError, RecordId, text)
        self.assertRaises(ValueError, RecordId.of, 10**19)
        self.assertRaises(ValueError, RecordId.of, 1, 1 << 30)

    def test_clients_of_this_package_may_retry(self) -> None:
        for _ in range(100):
            client = ids.new_client()
            self.assertTrue(ids.may_retry(client) and ids.client_number(client) >> 59 == 1)
        self.assertFalse(ids.may_retry(ids.client_text((1 << 59) - 1)))

    def test_moments_that_are_none_say_what_to_give(self) -> None:
        now = datetime(2026, 11, 21, tzinfo=timezone.utc)
        for moment in ("yesterday", "", "10", "2026-13-01", datetime(2026, 1, 1), "5 parsecs"):
            with self.assertRaises(BadArgument) as caught:
                moment_id(moment, now)
            self.assertIn("timedelta", caught.exception.remedy)
        self.assertEqual(moment_id(timedelta(days=400_000), now), ids.ZERO)
        self.assertEqual(moment_id("1h 30m", now), RecordId.at(now - timedelta(minutes=90)))


class Lines(unittest.TestCase):
    def test_any_bytes_survive_the_round_trip(self) -> None:
        rng = random.Random(2)
        for _ in range(500):
            payload = bytes(rng.choice((rng.randrange(256), 0x5C, 0x0A, 0x41)) for _ in range(rng.randrange(60)))
            seq = rng.randrange(1 << rng.randrange(1, 61))
            place = rng.choice((":-.-", ":0.2", ":zzzzz.2----"))
            source = rng.choice((None, "esp7", "taller/horno.1"))
            place_and_source = ("" if source is None else f"@{source}") + place
            record = decode(line(at(5), LIBRARY, seq, payload, place_and_source)[:-1])
            wanted = (at(5), LIBRARY, seq, place[1:], payload, False, source)
            self.assertEqual(tuple(record), wanted)
            self.assertIs(type(record.id), RecordId)

    def test_a_changed_bit_never_passes(self) -> None:
        for bit in range(len(GOOD) * 8):
            changed = bytearray(GOOD)
            changed[bit // 8] ^= 1 << bit % 8
            self.assertRaises(LineError, decode, bytes(changed))

    def test_a_shortened_line_never_passes(self) -> None:
        for end in range(len(GOOD)):
            self.assertRaises(LineError, decode, GOOD[:end])

    def test_random_bytes_never_pass_and_raise_nothing_else(self) -> None:
        rng = random.Random(3)
        for _ in range(2000):
            self.assertRaises(LineError, decode, rng.randbytes(rng.randrange(200)))

    def test_the_place_is_an_entry_of_a_ledger(self) -> None:
        def read(behind: str) -> "tuple[str, object]":
            record = decode(line(at(1), LIBRARY, 1, b"x", behind)[:-1])
            return record.ledger, record.entry

        self.assertEqual(read(":0-.zz"), ("----6.0-", 4095))
        self.assertEqual(read("@a-source:3.-~its,mac"), ("----6.3", 0))
        # Of format 1.
        self.assertEqual((read(""), read("+uno,dos")), (("", None), ("", None)))
        for behind in (
            ":",
            ":-",
            ":-.",
            ":.-",
            ":-0.-",
            ":-.-0",
            ":------.-",
            ":-.-.-",
            ":-.-~",
            "@:-.-",
            "@a-.-",
            "@a/:-.-",
            "@/a:-.-",
            "@a//b:-.-",
            "@acopio/2:-.-",
            "@" + "x" * 33 + ":-.-",
            "+",
        ):
            with self.assertRaises(LineError) as caught:
                read(behind)
            self.assertIn("third field", str(caught.exception), behind)

    def test_a_bad_line_says_what_is_wrong(self) -> None:
        def wrong(place: int, byte: bytes) -> str:
            with self.assertRaises(LineError) as caught:
                decode(GOOD[:place] + byte + GOOD[place + 1 :])
            return str(caught.exception)

        self.assertEqual(wrong(0, b"x"), "the first field is not a record id")
        self.assertEqual(wrong(10, b"z"), "the first field is not a record id")
        self.assertEqual(wrong(25, b"."), "the second field is not a client id")
        self.assertEqual(wrong(32, b"."), "the third field is not a sequence number")
        self.assertEqual(wrong(35, b":"), "the third field says no entry of a ledger after its sequence number")
        self.assertTrue(wrong(len(GOOD) - 1, b"z").startswith("the checksum does not match: the line says "))
        for text, said in (
            (b"", "empty line"),
            (b"hola", "fewer than five fields"),
        ):
            with self.assertRaisesRegex(LineError, said):
                decode(text)
        fields = f"{at(0)} {LIBRARY} 0 ".encode()
        for payload, said in ((b"a\\q", "backslash"), (b"\\x4", "backslash"), (b"\xff", "UTF-8")):
            whole = fields + digits(checksum(fields + payload), 6).encode() + b" " + payload
            with self.assertRaisesRegex(LineError, said):
                decode(whole)


class Checksums(unittest.TestCase):
    def test_it_is_crc_32c_at_every_length(self) -> None:
        def slow(data: bytes) -> int:
            crc = 0xFFFFFFFF
            for byte in data:
                crc ^= byte
                for _ in range(8):
                    crc = crc >> 1 ^ 0x82F63B78 if crc & 1 else crc >> 1
            return crc ^ 0xFFFFFFFF

        data = random.Random(4).randbytes(1400)
        every = [data[:end] for end in range(1400)]
        for message in every[:100]:
            self.assertEqual(plain(message), slow(message))
            self.assertEqual(checksum(message), slow(message))
        wanted = [plain(message) for message in every]
        for begin, end in ((0, 100), (0, 257), (3, 20), (200, 1400), (0, 1400)):
            self.assertEqual(plain_many(every[begin:end]), wanted[begin:end])
        self.assertEqual(plain_many([b"x"] * 5000 + every[-1:]), [plain(b"x")] * 5000 + wanted[-1:])
        self.assertEqual((plain_many([]), checksums(every[:30])), ([], wanted[:30]))


if __name__ == "__main__":
    unittest.main()
