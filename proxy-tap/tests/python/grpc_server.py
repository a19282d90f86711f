"""A gRPC server of methods like those of gRPC's interoperability tests, over plain bytes.

It says `ready port=N` on stderr, and stops gracefully on SIGTERM.
"""

import json
import signal
import sys
import threading
import time
from concurrent import futures

import grpc

SERVICE = "weir.test.Peer"
# Calls that wait for each other before any of them is answered.
TOGETHER = 64
PIECE = bytes(64 << 10)

barrier = threading.Barrier(TOGETHER)
counts = {"calls": 0, "ended": 0, "waiting": 0, "sent": 0, "received": 0, "deadline": 0.0}
lock = threading.Lock()
release = threading.Event()


def count(name, by=1):
    with lock:
        counts[name] += by


def echo(request, context):
    count("calls")
    sent = dict(context.invocation_metadata())
    if "x-initial" in sent:
        context.send_initial_metadata([("x-initial", sent["x-initial"]), ("x-twice", "a"), ("x-twice", "b")])
    if "x-trailing-bin" in sent:
        context.set_trailing_metadata([("x-trailing-bin", sent["x-trailing-bin"])])
    return request


def status(request, context):
    asked = json.loads(request)
    context.set_trailing_metadata([("x-why", "asked")])
    if asked["code"] == 0:
        return b"fine"
    code = next(code for code in grpc.StatusCode if code.value[0] == asked["code"])
    context.abort(code, asked["details"])


def status_after_messages(request, context):
    yield b"one"
    yield b"two"
    status(request, context)


def collect(requests, context):
    return str(sum(len(request) for request in requests)).encode()


def produce(request, context):
    for size in json.loads(request):
        yield bytes(size)


def ping_pong(requests, context):
    for request in requests:
        yield request


def together(requests, context):
    for request in requests:
        barrier.wait(20)
        yield request


def wait(request, context):
    """Waits until the caller has gone, or until it asks about another call."""
    over = threading.Event()
    context.add_callback(over.set)
    with lock:
        counts["deadline"] = context.time_remaining() or 0.0
    count("waiting")
    over.wait(30)
    count("ended")
    return b""


def answer_then_wait(requests, context):
    over = threading.Event()
    context.add_callback(over.set)
    try:
        yield next(requests)
        count("waiting")
        over.wait(30)
    finally:
        # A caller that leaves at once is noticed before this goes on after its answer, and then it never does.
        count("ended")


def flood(request, context):
    for _ in range(json.loads(request)):
        count("sent", len(PIECE))
        yield PIECE


def sink(requests, context):
    """Reads nothing until `Release` is called."""
    count("waiting")
    release.wait(30)
    for request in requests:
        count("received", len(request))
    return b"drained"


def let_go(request, context):
    release.set()
    return b""


def progress(request, context):
    with lock:
        return json.dumps(counts).encode()


def slow(request, context):
    """As long as a real call takes that a stop comes in the middle of."""
    time.sleep(0.02)
    count("calls")
    return request


HANDLERS = {
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Status": grpc.unary_unary_rpc_method_handler(status),
    "StatusAfterMessages": grpc.unary_stream_rpc_method_handler(status_after_messages),
    "Collect": grpc.stream_unary_rpc_method_handler(collect),
    "Produce": grpc.unary_stream_rpc_method_handler(produce),
    "PingPong": grpc.stream_stream_rpc_method_handler(ping_pong),
    "Together": grpc.stream_stream_rpc_method_handler(together),
    "Wait": grpc.unary_unary_rpc_method_handler(wait),
    "AnswerThenWait": grpc.stream_stream_rpc_method_handler(answer_then_wait),
    "Flood": grpc.unary_stream_rpc_method_handler(flood),
    "Sink": grpc.stream_unary_rpc_method_handler(sink),
    "Release": grpc.unary_unary_rpc_method_handler(let_go),
    "Progress": grpc.unary_unary_rpc_method_handler(progress),
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
}


def main():
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    options += [(name, int(value)) for name, value in (word.split("=") for word in sys.argv[1:])]
    server = grpc.server(futures.ThreadPoolExecutor(TOGETHER + 16), options=options)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, HANDLERS)])
    port = server.add_insecure_port("127.0.0.1:0")
    signal.signal(signal.SIGTERM, lambda *_: server.stop(10))
    server.start()
    print(f"ready port={port}", file=sys.stderr, flush=True)
    server.wait_for_termination()
    print("stopped", file=sys.stderr, flush=True)


main()
