"""The decoder of frames: wherever the stream is cut, whatever garbage comes."""

import random
import struct
import unittest

from acopio import frames
from acopio.errors import Refusal
from acopio.frames import Decoder, FrameError
from acopio.protocol import FRAME_BYTES_MAX, LINES_FRAME_BYTES_MAX, Code, Kind, Sync

from .fake_head import acked, frame, id_bytes, text
from .lines import TEXT, at, lines

NAMES = "nodes with ñ, other"
STREAM = [
    (frame(Kind.WELCOME, struct.pack(">III", 1, 2, 3) + text("acopio")), frames.Welcome(1, 2, 3, "acopio")),
    (
        frame(Kind.ACKED, acked(5, 2, at(1), 1, ("10.0.0.1", "::1"))),
        frames.Acked(5, 2, at(1), Sync.INTERVAL, ("10.0.0.1", "::1")),
    ),
    (
        frame(Kind.REFUSED, struct.pack(">QIH?", 1, 3, 14, True) + text("busy; later")),
        frames.Refused(1, 3, Refusal(Code.BUSY, True, "busy; later")),
    ),
    (frame(Kind.FAILURE, struct.pack(">H?", 11, False) + text("")), frames.Failure(Refusal(Code.VERSION, False, ""))),
    (frame(Kind.STATUS_REPORT, b"{}"), frames.StatusReport(b"{}")),
    (frame(Kind.PONG, struct.pack(">Q", 1 << 63)), frames.Pong(1 << 63)),
    (
        frame(Kind.RECORDS, id_bytes(at(9)) + b"".join(lines(TEXT, 1, 2))),
        frames.Records(at(9), b"".join(lines(TEXT, 1, 2))),
    ),
    (frame(Kind.RECORDS, id_bytes(at(9))), frames.Records(at(9), b"")),
    (frame(Kind.TOKEN, b""), frames.Token(b"")),
    (frame(Kind.TOKEN, b"-----.-=0"), frames.Token(b"-----.-=0")),
    (frame(Kind.READ_END, id_bytes(at(9)) + text(NAMES)), frames.ReadEnd(at(9), ("nodes with ñ", "other"))),
    (frame(Kind.WAITING, text("")), frames.Waiting(())),
    (frame(0x11, b"anything"), frames.Other(0x11)),
]


def decoded(*chunks: bytes) -> list[frames.Frame]:
    decoder, got = Decoder(), []
    for chunk in chunks:
        decoder.feed(chunk)
        got.extend(decoder)
    return got


class Frames(unittest.TestCase):
    def test_frames_come_wherever_the_stream_is_cut(self) -> None:
        stream, wanted = b"".join(one for one, _ in STREAM), [two for _, two in STREAM]
        self.assertEqual(decoded(stream), wanted)
        for cut in range(len(stream)):
            self.assertEqual(decoded(stream[:cut], stream[cut:]), wanted)
        self.assertEqual(decoded(*(stream[k : k + 1] for k in range(len(stream)))), wanted)

    def refused(self, data: bytes, said: str) -> None:
        with self.assertRaises(FrameError) as caught:
            decoded(data)
        self.assertRegex(str(caught.exception), said)

    def test_lengths_out_of_bounds_are_refused_before_they_are_waited_for(self) -> None:
        self.refused(struct.pack(">I", 0), "0 bytes long")
        self.refused(struct.pack(">I", LINES_FRAME_BYTES_MAX + 1), "4198401 bytes long")
        self.refused(struct.pack(">IB", FRAME_BYTES_MAX + 1, Kind.ACKED), "1049601 bytes long")
        self.assertEqual(decoded(struct.pack(">IB", LINES_FRAME_BYTES_MAX, Kind.RECORDS)), [])

    def test_fields_out_of_bounds_are_named(self) -> None:
        self.refused(struct.pack(">IB", 1, 0x2e), "kind 0x2e, which acopio/2 does not have")
        self.refused(frame(Kind.PONG, b"x"), "ends early, 8 bytes wanted and 1 left")
        self.refused(frame(Kind.PONG, b"x" * 10), "2 bytes too many")
        self.refused(frame(Kind.FAILURE, struct.pack(">H?", 99, True) + text("")), "99 is no error code")
        self.refused(frame(Kind.FAILURE, struct.pack(">HB", 1, 7) + text("")), "neither 0 nor 1")
        self.refused(frame(Kind.WAITING, struct.pack(">H", 513) + b"x" * 513), "513 bytes long")
        self.refused(frame(Kind.WAITING, struct.pack(">H", 2) + b"a\xff"), "not UTF-8 from byte 1 on")
        self.refused(frame(Kind.ACKED, acked(1, 0, at(1), 0, ())), "0 messages from sequence number 1")
        self.refused(frame(Kind.ACKED, acked((1 << 60) - 1, 2, at(1), 0, ())), "no range")
        self.refused(frame(Kind.ACKED, acked(1, 1, at(1), 3, ())), "sync 3")
        self.refused(frame(Kind.ACKED, acked(1, 1, at(1), 0, ("x",) * 9)), "9 copies")
        self.refused(frame(Kind.ACKED, struct.pack(">QIQIBB", 1, 1, 10**19, 0, 0, 0)), "no record id")
        self.refused(frame(Kind.RECORDS, id_bytes(at(1)) + b"half"), "whole line")

    def test_what_is_good_before_garbage_comes(self) -> None:
        decoder, got = Decoder(), []
        decoder.feed(STREAM[5][0] + b"\xff" * 9)
        with self.assertRaises(FrameError):
            for one in decoder:
                got.append(one)
        self.assertEqual(got, [STREAM[5][1]])
        self.assertRaises(FrameError, list, decoder)

    def test_mutated_and_random_streams_raise_nothing_else(self) -> None:
        rng, stream = random.Random(1), b"".join(one for one, _ in STREAM)
        for _ in range(3000):
            data = bytearray(stream if rng.random() < 0.7 else rng.randbytes(rng.randrange(100)))
            for _ in range(rng.randrange(1, 5)):
                if data:
                    data[rng.randrange(len(data))] = rng.randrange(256)
            try:
                decoded(bytes(data))
            except FrameError as error:
                self.assertTrue(error.happened and error.remedy)


if __name__ == "__main__":
    unittest.main()
