"""Requests at a fixed rate, each timed from the moment it was due: what a delay holds up counts in full.

usage: open_loop.py ADDRESS RATE SECONDS
  ADDRESS  host:port of an HTTP/1.1 server whose answers have a Content-Length
  RATE     requests a second, over 32 connections
  SECONDS  how long, after one second that is not counted

Prints JSON: latencies and the generator's own lateness (from due until sent), in microseconds. It never sleeps, so it
needs a core of its own; one that is busy shows in the lateness. A request whose time has come while all connections
wait for answers is sent as soon as one has come, and its latency still runs from when it was due.
"""

import collections
import gc
import json
import re
import select
import socket
import sys
import time

CONNECTIONS = 32
WARM_UP_S = 1
REQUEST = b"GET / HTTP/1.1\r\nHost: backend\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.I)


def connect(address):
    host, port = address.split(":")
    connection = socket.create_connection((host, int(port)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setblocking(False)
    return connection


def is_whole(answer):
    """Whether all of an answer has arrived; one that is no success ends the measurement."""
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return False
    length = LENGTH.search(answer, 0, end + 2)
    if length is None or not answer.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"not a success with a length: {answer[:200]}")
    return len(answer) == end + 4 + int(length[1])


def run(address, rate, seconds):
    free = collections.deque(connect(address) for _ in range(CONNECTIONS))
    ready = select.epoll()
    waiting = {}  # by descriptor: the connection, when its request was due, what has arrived
    for connection in free:
        ready.register(connection, select.EPOLLIN)
    interval, total = 1e9 / rate, int(rate * (seconds + WARM_UP_S))
    latencies, lateness, sent = [], [], 0
    clock, poll = time.perf_counter_ns, ready.poll
    start = clock()
    while len(latencies) < total:
        due = start + sent * interval
        now = clock()
        if sent < total and now >= due and free:
            connection = free.popleft()
            connection.send(REQUEST)
            waiting[connection.fileno()] = [connection, due, b""]
            lateness.append(now - due)
            sent += 1
        for descriptor, _ in poll(0):
            one = waiting[descriptor]
            one[2] += (piece := one[0].recv(65_536))
            if not piece:
                raise SystemExit(f"{address} closed a connection")
            if is_whole(one[2]):
                latencies.append(clock() - one[1])
                free.append(one[0])
    counted = int(rate * WARM_UP_S)
    return latencies[counted:], lateness[counted:]


def quantiles(values):
    ordered = sorted(values)
    at = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
    return {name: ordered[int(share * (len(ordered) - 1))] / 1e3 for name, share in at.items()} | {
        "max": ordered[-1] / 1e3
    }


if __name__ == "__main__":
    gc.disable()
    latency, late = run(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
    print(json.dumps({"latency_us": quantiles(latency), "lateness_us": quantiles(late)}))
