"""A head of the original's shape, for comparison: a thread a client, one message at a time, no sync."""

import socket
import sys
import threading

port, folder = int(sys.argv[1]), sys.argv[2]
data = open(f"{folder}/data.txt", "ab", buffering=0)


def serve(client):
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if client.recv(64) != b"peticion":
        return
    client.sendall(b"confirmacion")
    while message := client.recv(65536):
        data.write(message + b"\n")
        client.sendall(b"127.0.0.1 , mensaje: recibido")


with socket.create_server(("127.0.0.1", port), backlog=1024) as listener:
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
