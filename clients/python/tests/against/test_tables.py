"""``read_frame`` with pandas itself, which the project's tests install; the package does without it."""

from __future__ import annotations

import unittest

import acopio
import pandas

from . import PATIENCE, given

HEADS = given("ACOPIO_HEADS").split(",")


class Frames(unittest.TestCase):
    def test_a_frame_has_what_a_read_has_in_columns_that_pandas_can_use(self) -> None:
        with acopio.Client(HEADS) as client:
            for k in range(20):
                client.send_nowait(f"{20 + k}", source="horno" if k % 2 else "esp7")
            client.send(b"\xff", PATIENCE)
        frame = acopio.read_frame(HEADS, client=client.identity)
        self.assertIsInstance(frame, pandas.DataFrame)
        records = list(acopio.read(HEADS, client=client.identity))
        self.assertEqual(list(frame["id"]), [str(record.id) for record in records])
        self.assertEqual(str(frame["time"].dtype), "datetime64[ns, UTC]")
        self.assertEqual([time.value for time in frame["time"]], [record.id.time_ns for record in records])
        self.assertEqual(list(frame["seq"]), list(range(1, 22)))
        self.assertTrue(frame["source"].isna()[20])
        self.assertEqual(frame["payload"][20], "\ufffd")
        self.assertEqual(frame.attrs["missing"], ())
        # What one makes of it: the mean of each source, and a curve over time.
        numbers = frame[:20].assign(value=pandas.to_numeric(frame["payload"][:20]))
        self.assertEqual(dict(numbers.groupby("source")["value"].mean()), {"esp7": 29.0, "horno": 30.0})
        self.assertEqual(numbers.set_index("time")["value"].resample("1h").count().sum(), 20)

    def test_payloads_may_stay_bytes(self) -> None:
        with acopio.Client(HEADS) as client:
            client.send(b"\xff\x00", PATIENCE)
        frame = acopio.read_frame(HEADS, client=client.identity, encoding=None)
        self.assertEqual(list(frame["payload"]), [b"\xff\x00"])

    def test_a_frame_of_nothing_has_the_same_columns_and_types(self) -> None:
        nothing = acopio.read_frame(HEADS, sources="nobody")
        self.assertEqual((len(nothing), str(nothing["time"].dtype), str(nothing["seq"].dtype)), (0, "datetime64[ns, UTC]", "int64"))
        with acopio.Client(HEADS) as client:
            client.send("1", PATIENCE)
        some = acopio.read_frame(HEADS, client=client.identity)
        self.assertEqual(list(nothing.columns), list(some.columns))
        self.assertEqual(len(pandas.concat([some, nothing])), 1)


if __name__ == "__main__":
    unittest.main()
