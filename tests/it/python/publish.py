"""Publishes: `publish.py BROKER...` reads lines from standard input. `send FRAME FRAME...` publishes one message: a frame is a
text, `-` for an empty one, `@N` for N letters, `@@N` for all 256 bytes N times. `load TOPIC COUNT RATE` publishes numbered messages. `wait` waits until a broker
has subscribed. IMMEDIATE, HEARTBEAT_IVL and CURVE_SERVERKEY in the environment are options of the socket."""
import os
import sys
import time

import zmq


def say(text):
    print(text, file=sys.stderr, flush=True)


pub = zmq.Context().socket(zmq.XPUB)
pub.setsockopt(zmq.XPUB_VERBOSE, 1)
pub.setsockopt(zmq.SNDHWM, 100000)
for option in ("IMMEDIATE", "HEARTBEAT_IVL"):
    if os.environ.get(option):
        pub.setsockopt(getattr(zmq, option), int(os.environ[option]))
if os.environ.get("CURVE_SERVERKEY"):
    public, secret = zmq.curve_keypair()
    pub.curve_publickey, pub.curve_secretkey = public, secret
    pub.curve_serverkey = os.environ["CURVE_SERVERKEY"].encode()
for broker in sys.argv[1:]:
    pub.connect(f"tcp://{broker}:5555")


def frame(text):
    if text == "-":
        return b""
    if text.startswith("@@"):
        return bytes(range(256)) * int(text[2:])
    return b"x" * int(text[1:]) if text.startswith("@") else text.encode()


for line in sys.stdin:
    verb, *words = line.split() or [""]
    if verb == "wait":
        assert pub.recv()[:1] == b"\x01"
        say("wanted")
    elif verb == "send":
        pub.send_multipart([frame(word) for word in words])
    elif verb == "load":
        topic, count, rate = words[0].encode(), int(words[1]), float(words[2])
        start = time.monotonic()
        for k in range(count):
            pub.send_multipart([topic, str(k).encode()])
            ahead = start + k / rate - time.monotonic()
            if ahead > 0.001:
                time.sleep(ahead)
        say("loaded")
