"""Bytes that the Rust program makes, compared with this package's: frames both ways, lines, and every bound."""

from __future__ import annotations

import json
import unittest
from pathlib import Path
from typing import Any

from acopio import frames, protocol
from acopio.errors import Refusal
from acopio.ids import RecordId, client_number
from acopio.protocol import Code, Kind, Sync
from acopio.records import Record, decode

from . import given

VECTORS: "dict[str, Any]" = json.loads(Path(given("ACOPIO_VECTORS")).read_text())


def said(one: "dict[str, Any]") -> bytes:
    """What this package says for what Rust says."""
    kind = one["kind"]
    if kind == "Hello":
        return frames.hello(client_number(one["client"]), one["text"])
    if kind in ("Store", "StoreAs"):
        return frames.store(one["first_seq"], [bytes.fromhex(message) for message in one["messages"]], one["source"])
    if kind == "Read":
        client = None if one["client"] is None else client_number(one["client"])
        since, until, token = RecordId(one["from"]), RecordId(one["until"]), one["token"].encode()
        return frames.read(since, until, client, one["follow"], one["partial"], token, one["sources"])
    if kind == "StatusQuery":
        return frames.status_query(one["clients"], one["ledgers"])
    if kind == "Ping":
        return frames.ping(one["number"])
    assert kind == "Pong", kind
    return frames.pong(one["number"])


def heard(one: "dict[str, Any]") -> frames.Frame:
    """The frame that Rust means."""
    kind = one["kind"]
    if kind == "Welcome":
        return frames.Welcome(one["incarnation"], one["window_messages"], one["window_bytes"], one["cluster"])
    if kind == "Acked":
        sync, nodes = Sync[one["sync"].upper()], tuple(one["nodes"])
        return frames.Acked(one["first_seq"], one["count"], RecordId(one["first"]), sync, nodes)
    if kind in ("Refused", "Failure"):
        refusal = Refusal(Code(one["code"]), one["retry"], one["text"])
        return frames.Failure(refusal) if kind == "Failure" else frames.Refused(one["first_seq"], one["count"], refusal)
    if kind == "StatusReport":
        return frames.StatusReport(one["json"].encode())
    if kind == "Records":
        return frames.Records(RecordId(one["next"]), bytes.fromhex(one["lines"]))
    if kind == "ReadEnd":
        return frames.ReadEnd(RecordId(one["next"]), tuple(one["missing"]))
    if kind == "Token":
        return frames.Token(one["token"].encode())
    if kind == "Lacks":
        return frames.Lacks(tuple(one["missing"]))
    if kind == "Waiting":
        return frames.Waiting(tuple(one["nodes"]))
    return (frames.Ping if kind == "Ping" else frames.Pong)(one["number"])


class Vectors(unittest.TestCase):
    def test_what_a_client_says_is_the_same_bytes(self) -> None:
        for one in VECTORS["client"]:
            self.assertEqual(said(one).hex(), one["hex"], one)
        kinds = {"Hello", "Store", "StoreAs", "Read", "StatusQuery", "Ping", "Pong"}
        self.assertEqual({one["kind"] for one in VECTORS["client"]}, kinds)

    def test_what_a_head_says_is_understood(self) -> None:
        for one in VECTORS["head"]:
            decoder = frames.Decoder()
            decoder.feed(bytes.fromhex(one["hex"]))
            self.assertEqual(list(decoder), [heard(one)])
        kinds = {
            "Welcome",
            "Acked",
            "Refused",
            "StatusReport",
            "Failure",
            "Records",
            "ReadEnd",
            "Waiting",
            "Lacks",
            "Token",
            "Ping",
            "Pong",
        }
        self.assertEqual({one["kind"] for one in VECTORS["head"]}, kinds)

    def test_lines_are_read_as_they_were_written(self) -> None:
        for one in VECTORS["lines"]:
            line = bytes.fromhex(one["line"])
            self.assertEqual(line[-1:], b"\n")
            payload = bytes.fromhex(one["payload"])
            record, client, seq, place = RecordId(one["id"]), one["client"], one["seq"], one["place"]
            wanted = Record(record, client, seq, place, payload, source=one["source"])
            self.assertEqual(decode(line[:-1]), wanted)
            self.assertEqual((wanted.ledger, wanted.entry), (one["ledger"], one["entry"]))
            self.assertEqual((record.time_ns, record.incarnation), (one["time_ns"], one["incarnation"]))
            self.assertEqual(RecordId.of(one["time_ns"], one["incarnation"]), record)
        self.assertGreater(len(VECTORS["lines"]), 100)

    def test_bounds_codes_and_kinds_are_the_same(self) -> None:
        for name, value in VECTORS["bounds"].items():
            self.assertEqual(getattr(protocol, name), value, name)
        self.assertEqual({code.value: code.name.replace("_", "").lower() for code in Code}, dict_of(VECTORS["codes"]))
        kinds = {kind.value: kind.name.replace("_", "").lower() for kind in Kind}
        self.assertEqual(kinds, dict_of(VECTORS["kinds"]))


def dict_of(pairs: "list[tuple[int, str]]") -> "dict[int, str]":
    return {number: name.lower() for number, name in pairs}


if __name__ == "__main__":
    unittest.main()
