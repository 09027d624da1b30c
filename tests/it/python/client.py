"""The original's client, written anew: `client.py TOPIC A B BROKER...`; TOPIC is calc.request or calc.square.request."""
import sys
import time

import zmq

topic, a, b, brokers = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
context = zmq.Context()
pub = context.socket(zmq.PUB)
sub = context.socket(zmq.SUB)
for broker in brokers:
    pub.connect(f"tcp://{broker}:5555")
    sub.connect(f"tcp://{broker}:5556")
sub.setsockopt(zmq.SUBSCRIBE, b"calc.hypotenuse.result")
sub.setsockopt(zmq.RCVTIMEO, 20000)
time.sleep(0.5)
pub.send_multipart([f"{topic}.1".encode(), a.encode()])
pub.send_multipart([f"{topic}.2".encode(), b.encode()])
answer = sub.recv_multipart()[1]
print(answer.decode(), file=sys.stderr, flush=True)
context.destroy(linger=0)
