"""The original's calculation server, written anew: `server.py BROKER...`."""
import math
import sys
import time

import zmq


def say(text):
    print(text, file=sys.stderr, flush=True)


context = zmq.Context()
pub = context.socket(zmq.PUB)
pub.setsockopt(zmq.IMMEDIATE, 1)
sub = context.socket(zmq.SUB)
sub.setsockopt(zmq.IMMEDIATE, 1)
for broker in sys.argv[1:]:
    pub.connect(f"tcp://{broker}:5555")
    sub.connect(f"tcp://{broker}:5556")
for kind in ("calc.request", "calc.square.result"):
    for number in (1, 2):
        sub.setsockopt(zmq.SUBSCRIBE, f"{kind}.{number}".encode())
poller = zmq.Poller()
poller.register(sub, zmq.POLLIN)
say("server ready")
while True:
    legs = {}
    while len(legs) < 2:
        topic, value = sub.recv_multipart()
        if topic in (b"calc.request.1", b"calc.request.2"):
            legs[topic[-1:]] = int(value)
    for number, leg in legs.items():
        pub.send_multipart([b"calc.square.request." + number, str(leg).encode()])
    squares = {}
    end = time.monotonic() + 2
    while len(squares) < 2 and time.monotonic() < end:
        if not poller.poll(max(0, (end - time.monotonic()) * 1000)):
            break
        topic, value = sub.recv_multipart()
        if topic.startswith(b"calc.square.result."):
            squares.setdefault(topic[-1:], int(value))
    for number in set(legs) - set(squares):
        say(f"local {number.decode()}")
    total = sum(squares.get(number, legs[number] ** 2) for number in legs)
    pub.send_multipart([b"calc.hypotenuse.result", f"{math.sqrt(total):.4f}".encode()])
