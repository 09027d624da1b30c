"""TLS with heads that run: one that asks for tokens and certificates, and others whose certificates are wrong. What is in
the folder of files, ``tests/it/python_client.rs`` makes.
"""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import tempfile
import threading
import unittest
from typing import Any

import acopio

from . import PATIENCE, given

HEADS = given("ACOPIO_HEADS").split(",")
HOME = given("ACOPIO_TLS_DIR")


def at(name: str) -> str:
    return os.path.join(HOME, name)


CA = at("ca/ca.crt")
#: What a client has that the head lets in.
SHOWN: "dict[str, Any]" = {"ca": CA, "cert": at("ca/esp7.crt")}


def token() -> str:
    with open(at("writer.token"), encoding="ascii") as file:
        return file.read()


class Tls(unittest.TestCase):
    def test_much_is_sent_and_read_back_with_a_certificate(self) -> None:
        payloads = [bytes(range(256)), b"", b"x" * (1 << 20), *(f"line {k}".encode() for k in range(5000))]
        with acopio.Client(HEADS, **SHOWN) as client:
            receipts = list(client.send_many(payloads))
        got = list(acopio.read(HEADS, client=client.identity, **SHOWN))
        self.assertEqual([record.payload for record in got], payloads)
        self.assertEqual([record.id for record in got], [receipt.id for receipt in receipts])
        with acopio.follow(HEADS, since="now", **SHOWN) as reader:
            self.assertIsNone(reader.get(0.05))
            receipt = acopio.send(HEADS, "hola", key=at("ca/esp7.key"), **SHOWN)
            record = reader.get(PATIENCE)
            self.assertEqual(record and record.id, receipt.id)
        status = acopio.status_of(HEADS[0], clients=True, **SHOWN)
        self.assertIn("connected", status)

    def test_a_token_is_said_over_tls_and_a_context_of_ones_own_does_as_well(self) -> None:
        context = ssl.create_default_context(cafile=CA)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context.maximum_version = version
            receipt = acopio.send(HEADS, version.name, token=token(), tls=context)
            one = acopio.read(HEADS, since=receipt.id, until=receipt.id.next(), token=token(), ca=CA)
            self.assertEqual([record.text for record in one], [version.name])
        refused = self.failed(HEADS[0], PATIENCE, ca=CA)
        self.assertIn("asks clients for a certificate or a token, and 127.0.0.1 has neither", refused.happened)
        refused = self.failed(HEADS[0], PATIENCE, ca=CA, token="0" * 32)
        self.assertIn("this head knows no such token", refused.happened)
        self.assertNotIn(token().strip(), str(refused))

    def test_what_is_wrong_with_a_certificate_is_told_in_words(self) -> None:
        for name, cause, remedy in [
            ("OVER", "its certificate is over: the clock of this machine shows 2", "have a new one made"),
            ("EARLY", "its certificate is not good yet: the clock of this machine shows 2", "set the clock right"),
            ("OTHER", "its certificate is from an authority that is not known here", "the right one with ca=FILE"),
            ("ELSEWHERE", "its certificate is not for 127.0.0.2", "dial it by one of its names"),
            ("PLAIN", "it speaks no TLS", "start it with --tls-cert, or leave out tls= and ca= here"),
        ]:
            head = given(f"ACOPIO_{name}")
            with self.subTest(head=name):
                error = str(self.failed(head, ca=CA))
                self.assertIn(f"head {head}: {cause}", error)
                self.assertIn(remedy, error)
                with self.assertRaises(acopio.NoHead) as caught:
                    list(acopio.read(head, ca=CA, retry_for=0.3))
                self.assertIn(cause, str(caught.exception))
                with self.assertRaises(acopio.HeadFailed) as asked:
                    acopio.status_of(head, ca=CA, timeout=PATIENCE)
                self.assertTrue(asked.exception.happened.startswith(cause), asked.exception)
                self.assertIn(remedy, asked.exception.remedy)
        # The authorities of the system do not know this one; the same head is believed with its own.
        self.assertIn("not known here", str(self.failed(HEADS[0], tls=True)))
        self.assertIn("does not know the authority", str(self.failed(HEADS[0], ca=CA, cert=at("other/stranger.crt"))))

    def test_a_head_that_is_silent_in_tls_is_left(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            error = self.failed("127.0.0.1:%d" % listener.getsockname()[1], ca=CA)
        self.assertIn("no answer in TLS", str(error))

    def test_frames_that_come_in_pieces_and_many_at_a_time(self) -> None:
        """What TLS has decrypted and the system tells nobody of is read all the same."""
        names = {"certfile": at("ca/head.crt"), "keyfile": at("ca/head.key")}
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(**names)
        report = b'{"a": "' + b"x" * 300_000 + b'"}'
        frame = (len(report) + 1).to_bytes(4, "big") + bytes([acopio.protocol.Kind.STATUS_REPORT]) + report
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def serve() -> None:
                peer, _ = listener.accept()
                with context.wrap_socket(peer, server_side=True) as secured:
                    secured.recv(4096)
                    said = acopio.protocol.CONFIRMATION + frame
                    for k in range(0, len(said), 1000):
                        secured.sendall(said[k : k + 1000])
                    secured.recv(1)

            thread = threading.Thread(target=serve)
            thread.start()
            status = acopio.status_of("127.0.0.1:%d" % listener.getsockname()[1], ca=CA, timeout=PATIENCE)
            thread.join(PATIENCE)
        self.assertEqual(len(status["a"]), 300_000)

    def test_files_that_can_not_be_used_are_named(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            broken, bare = os.path.join(folder, "broken.crt"), os.path.join(folder, "esp7.crt")
            with open(broken, "w", encoding="ascii") as file:
                file.write("-----BEGIN")
            shutil.copy(at("ca/esp7.crt"), bare)
            with open(os.path.join(folder, "esp7.key"), "w", encoding="ascii") as file:
                file.write("")
            for files, wanted in [
                ({"ca": "/none"}, "the authority in /none: No such file"),
                ({"ca": broken}, f"the authority in {broken}: it is no PEM"),
                ({"cert": at("ca/esp7.crt")}, "say nothing without TLS; add ca=FILE"),
                ({"ca": CA, "key": at("ca/esp7.key")}, "key=: says nothing without a certificate"),
                ({"ca": CA, "cert": at("ca/esp7.crt"), "key": at("ca/head.key")}, "belongs to another key"),
                ({"ca": CA, "cert": bare}, "esp7.key: is open to everybody"),
                ({"ca": CA, "cert": broken}, "the key in"),
                ({"ca": CA, "tls": ssl.create_default_context()}, "leave out ca=, cert= and key="),
            ]:
                with self.assertRaises(acopio.BadArgument) as caught:
                    acopio.Client(HEADS, **files)  # type: ignore[arg-type]
                self.assertIn(wanted, str(caught.exception))

    def failed(self, head: str, retry_for: float = 0.3, **access: Any) -> acopio.NotKept:
        with self.assertRaises(acopio.NotKept) as caught:
            acopio.send(head, "hola", retry_for=retry_for, **access)
        return caught.exception


if __name__ == "__main__":
    unittest.main()
