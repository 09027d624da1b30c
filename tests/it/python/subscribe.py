"""Subscribes: `subscribe.py PREFIX COUNT BROKER...` prints each message and, after COUNT of them, how long the longest gap was.

A message is printed as the hexadecimal digits of its frames, or as its text where `as_text` is in the environment.
"""
import os
import sys
import time

import zmq

prefix, count, brokers = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
sub = zmq.Context().socket(zmq.SUB)
for option in ("HEARTBEAT_IVL", "RECONNECT_IVL", "RCVHWM", "RCVBUF", "IMMEDIATE", "CURVE_SERVERKEY"):
    value = os.environ.get(option)
    if value and option == "CURVE_SERVERKEY":
        public, secret = zmq.curve_keypair()
        sub.curve_publickey, sub.curve_secretkey, sub.curve_serverkey = public, secret, value.encode()
    elif value:
        sub.setsockopt(getattr(zmq, option), int(value))
for broker in brokers:
    sub.connect(f"tcp://{broker}:5556")
sub.setsockopt(zmq.SUBSCRIBE, prefix.encode())
print("subscribed", file=sys.stderr, flush=True)
gap, last = 0.0, None
quiet = os.environ.get("QUIET")
for _ in range(count):
    frames = sub.recv_multipart()
    now = time.monotonic()
    if last is not None:
        gap = max(gap, now - last)
    last = now
    if not quiet:
        text = " ".join(frame.decode() if len(frame) < 80 and frame.isascii() else f"{len(frame)}:{sum(frame)}" for frame in frames)
        print(f"got {text}", file=sys.stderr, flush=True)
print(f"longest gap {gap:.3f}", file=sys.stderr, flush=True)
