"""The original's operation server, written anew: `square.py 1|2 BROKER...`."""
import sys

import zmq

number, brokers = sys.argv[1], sys.argv[2:]
context = zmq.Context()
pub = context.socket(zmq.PUB)
pub.setsockopt(zmq.IMMEDIATE, 1)
sub = context.socket(zmq.SUB)
sub.setsockopt(zmq.IMMEDIATE, 1)
for broker in brokers:
    pub.connect(f"tcp://{broker}:5555")
    sub.connect(f"tcp://{broker}:5556")
sub.setsockopt(zmq.SUBSCRIBE, f"calc.square.request.{number}".encode())
print(f"square {number} ready", file=sys.stderr, flush=True)
while True:
    topic, leg = sub.recv_multipart()
    leg = int(leg)
    print(f"square {number}: {leg}", file=sys.stderr, flush=True)
    pub.send_multipart([f"calc.square.result.{number}".encode(), str(leg * leg).encode()])
