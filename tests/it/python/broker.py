"""The original's pair of brokers, written anew: `broker.py primary BIND` and `broker.py backup BIND PRIMARY [SECONDS]`.

It has no way back: a backup that took over goes on for ever.
"""
import sys
import threading
import time

import zmq


def say(text):
    print(text, file=sys.stderr, flush=True)


def forward(context, bind):
    front = context.socket(zmq.XSUB)
    front.bind(f"tcp://{bind}:5555")
    back = context.socket(zmq.XPUB)
    back.bind(f"tcp://{bind}:5556")
    say("forwarding")
    zmq.proxy(front, back)


def primary(bind):
    context = zmq.Context()
    beat = context.socket(zmq.PUB)
    beat.bind(f"tcp://{bind}:5560")

    def beats():
        while True:
            beat.send(b"HB")
            time.sleep(0.2)

    threading.Thread(target=beats, daemon=True).start()
    forward(context, bind)


def backup(bind, other, seconds="3"):
    context = zmq.Context()
    ear = context.socket(zmq.SUB)
    ear.connect(f"tcp://{other}:5560")
    ear.setsockopt(zmq.SUBSCRIBE, b"")
    ear.setsockopt(zmq.RCVTIMEO, int(float(seconds) * 1000))
    say("standing by")
    while True:
        try:
            ear.recv()
        except zmq.Again:
            say("taking over")
            forward(context, bind)


if sys.argv[1] == "primary":
    primary(*sys.argv[2:])
else:
    backup(*sys.argv[2:])
