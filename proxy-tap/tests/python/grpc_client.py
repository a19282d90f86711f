"""A gRPC client: `grpc_client.py SETTING CASE...`, where SETTING is JSON and has at least `target`.

Each case that held is a line on stdout; the first that does not is a traceback and status 1.
"""

import json
import os
import queue
import signal
import socket
import sys
import threading
import time

import grpc

SETTING = json.loads(sys.argv[1])
SERVICE = "weir.test.Peer"
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
]
UNICODE = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
# How long anything here may take.
DEADLINE = 20


def connect(target=SETTING["target"], *options):
    return grpc.insecure_channel(target, options=OPTIONS + list(options))


channel = connect()


def unary(name, on=None):
    return (on or channel).unary_unary(f"/{SERVICE}/{name}")


def call(name, request=b"", **more):
    return unary(name)(request, timeout=DEADLINE, **more)


def fails(action):
    """The error that `action` ends in."""
    try:
        got = action()
    except grpc.RpcError as error:
        return error
    raise AssertionError(f"no error, but {got!r}")


def until(what, probe):
    end = time.monotonic() + DEADLINE
    while not (found := probe()):
        assert time.monotonic() < end, f"{what} did not come about"
        time.sleep(0.01)
    return found


def progress():
    return json.loads(call("Progress"))


class Outgoing:
    """Messages of a caller who sends the next when it likes."""

    def __init__(self):
        self.queue = queue.Queue()

    def send(self, message):
        self.queue.put(message)

    def close(self):
        self.queue.put(None)

    def __iter__(self):
        return iter(self.queue.get, None)


def empty_unary():
    assert call("Echo") == b""


def large_unary():
    request = os.urandom(5 << 20)
    assert call("Echo", request) == request


def client_streaming():
    sizes = [27182, 8, 1828, 45904, 3 << 20, 0]
    method = channel.stream_unary(f"/{SERVICE}/Collect")
    assert int(method((bytes(size) for size in sizes), timeout=DEADLINE)) == sum(sizes)


def server_streaming():
    sizes = [31415, 9, 2653, 58979, 3 << 20, 0]
    method = channel.unary_stream(f"/{SERVICE}/Produce")
    got = method(json.dumps(sizes).encode(), timeout=DEADLINE)
    assert [len(message) for message in got] == sizes


def ping_pong():
    outgoing = Outgoing()
    answers = channel.stream_stream(f"/{SERVICE}/PingPong")(iter(outgoing), timeout=DEADLINE)
    for size in [27182, 8, 0, 1828, 45904] + [10] * 200:
        message = os.urandom(size)
        outgoing.send(message)
        assert next(answers) == message
    outgoing.close()
    assert list(answers) == []
    assert answers.code() is grpc.StatusCode.OK


def empty_stream():
    answers = channel.stream_stream(f"/{SERVICE}/PingPong")(iter([]), timeout=DEADLINE)
    assert list(answers) == []


def all_codes():
    for code in range(17):
        request = json.dumps({"code": code, "details": f"code {code}"}).encode()
        if code == 0:
            assert call("Status", request) == b"fine"
            continue
        error = fails(lambda: call("Status", request))
        assert error.code().value[0] == code, error
        assert error.details() == f"code {code}"
        assert ("x-why", "asked") in error.trailing_metadata(), error.trailing_metadata()


def special_status_message():
    request = json.dumps({"code": 2, "details": UNICODE}).encode()
    error = fails(lambda: call("Status", request))
    assert (error.code(), error.details()) == (grpc.StatusCode.UNKNOWN, UNICODE)


def status_after_messages():
    request = json.dumps({"code": 10, "details": UNICODE}).encode()
    answers = channel.unary_stream(f"/{SERVICE}/StatusAfterMessages")(request, timeout=DEADLINE)
    assert (next(answers), next(answers)) == (b"one", b"two")
    error = fails(lambda: next(answers))
    assert (error.code(), error.details()) == (grpc.StatusCode.ABORTED, UNICODE)


def custom_metadata():
    binary = bytes(range(256)) * 4
    sent = [("x-initial", "initial value"), ("x-trailing-bin", binary)]
    answer, done = unary("Echo").with_call(b"x", timeout=DEADLINE, metadata=sent)
    assert answer == b"x"
    initial = [(name, value) for name, value in done.initial_metadata() if name.startswith("x-")]
    assert initial == [("x-initial", "initial value"), ("x-twice", "a"), ("x-twice", "b")], initial
    assert ("x-trailing-bin", binary) in done.trailing_metadata(), done.trailing_metadata()


def unimplemented_method():
    assert fails(lambda: call("Nothing")).code() is grpc.StatusCode.UNIMPLEMENTED


def unimplemented_service():
    method = channel.unary_unary("/weir.test.Nobody/Echo")
    assert fails(lambda: method(b"", timeout=DEADLINE)).code() is grpc.StatusCode.UNIMPLEMENTED


def cancel_after_begin():
    before = progress()
    running = unary("Wait").future(b"", timeout=DEADLINE)
    until("the call's begin", lambda: progress()["waiting"] > before["waiting"])
    assert running.cancel()
    assert running.code() is grpc.StatusCode.CANCELLED
    until("its end at the server", lambda: progress()["ended"] > before["ended"])


def cancel_after_first_response():
    before = progress()
    outgoing = Outgoing()
    answers = channel.stream_stream(f"/{SERVICE}/AnswerThenWait")(iter(outgoing), timeout=DEADLINE)
    outgoing.send(b"first")
    assert next(answers) == b"first"
    answers.cancel()
    assert fails(lambda: next(answers)).code() is grpc.StatusCode.CANCELLED
    outgoing.close()
    until("its end at the server", lambda: progress()["ended"] > before["ended"])


def cancel_of_an_upload():
    before = progress()
    outgoing = Outgoing()
    running = channel.stream_unary(f"/{SERVICE}/Sink").future(iter(outgoing), timeout=DEADLINE)
    outgoing.send(b"part")
    until("the call's begin", lambda: progress()["waiting"] > before["waiting"])
    running.cancel()
    outgoing.close()
    assert running.code() is grpc.StatusCode.CANCELLED


def timeout_on_sleeping_server():
    before = progress()
    error = fails(lambda: unary("Wait")(b"", timeout=0.5))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    after = until("its end at the server", lambda: (now := progress())["ended"] > before["ended"] and now)
    assert 0 < after["deadline"] <= 0.6, f"the server knows the deadline as {after['deadline']} s"


def concurrent_streams():
    calls = []
    for n in range(64):
        outgoing = Outgoing()
        answers = channel.stream_stream(f"/{SERVICE}/Together")(iter(outgoing), timeout=DEADLINE)
        outgoing.send(str(n).encode())
        calls.append((outgoing, answers))
    # None is answered before all of them have arrived.
    for n, (outgoing, answers) in enumerate(calls):
        assert next(answers) == str(n).encode()
        outgoing.close()
        assert list(answers) == []


def unavailable():
    error = fails(lambda: call("Echo"))
    assert error.code() is grpc.StatusCode.UNAVAILABLE, error


class Frames:
    """Stands between client and proxy, and counts the pings that the proxy has answered."""

    def __init__(self, target):
        host, port = target.rsplit(":", 1)
        self.target, self.answered = (host, int(port)), 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            proxy = socket.create_connection(self.target)
            threading.Thread(target=self.copy, args=(client, proxy), daemon=True).start()
            threading.Thread(target=self.copy_frames, args=(proxy, client), daemon=True).start()

    def copy(self, source, sink):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)

    def copy_frames(self, source, sink):
        stream = source.makefile("rb")
        while header := stream.read(9):
            kind, flags = header[3], header[4]
            sink.sendall(header + stream.read(int.from_bytes(header[:3], "big")))
            # RFC 9113 section 6.7: PING is type 6, ACK its first flag.
            self.answered += kind == 6 and flags & 1


def keepalive():
    frames = Frames(SETTING["target"])
    own = connect(
        frames.address,
        ("grpc.keepalive_time_ms", 100),
        ("grpc.keepalive_timeout_ms", 2000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_reconnect_backoff_ms", 100),
    )
    outgoing = Outgoing()
    answers = own.stream_stream(f"/{SERVICE}/PingPong")(iter(outgoing), timeout=DEADLINE)
    for message in (b"before", b"after"):
        outgoing.send(message)
        assert next(answers) == message
        answered = frames.answered
        until("an answer to five pings", lambda: frames.answered >= answered + 5)
    outgoing.close()
    assert list(answers) == []
    own.close()


def memory():
    """Kilobytes that each proxy has resident."""
    def of(pid):
        with open(f"/proc/{pid}/status") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    return [of(pid) for pid in SETTING["proxies"]]


def settled(probe):
    """What `probe` says when it has said the same for half a second."""
    end, since, last = time.monotonic() + DEADLINE, time.monotonic(), probe()
    while time.monotonic() < since + 0.5:
        assert time.monotonic() < end, "it does not settle"
        time.sleep(0.05)
        if (now := probe()) != last:
            since, last = time.monotonic(), now
    return last


def slow_reader():
    pieces, size = 1024, 64 << 10
    before, begun = memory(), progress()["sent"]
    answers = channel.unary_stream(f"/{SERVICE}/Flood")(json.dumps(pieces).encode(), timeout=2 * DEADLINE)
    got = len(next(answers))
    held = settled(lambda: progress()["sent"]) - begun
    assert held < pieces * size / 2, f"{held} bytes were sent to a caller that read one message"
    grown = [after - before for before, after in zip(before, memory())]
    assert max(grown) < 16 << 10, f"the proxies have grown by {grown} kB"
    got += sum(len(answer) for answer in answers)
    assert got == pieces * size
    grown = [after - before for before, after in zip(before, memory())]
    assert max(grown) < 16 << 10, f"the proxies have grown by {grown} kB"


def slow_server():
    pieces, size, sent = 1024, 64 << 10, 0
    before = memory()

    def requests():
        nonlocal sent
        for _ in range(pieces):
            sent += size
            yield bytes(size)

    running = channel.stream_unary(f"/{SERVICE}/Sink").future(requests(), timeout=2 * DEADLINE)
    held = settled(lambda: sent)
    assert held < pieces * size / 2, f"{held} bytes were sent to a server that read nothing"
    grown = [after - before for before, after in zip(before, memory())]
    assert max(grown) < 16 << 10, f"the proxies have grown by {grown} kB"
    call("Release")
    assert running.result() == b"drained"
    assert sent == pieces * size == progress()["received"]


class Traffic:
    """Calls without a pause from several threads, and a stream that stays open for as long as it can."""

    def __init__(self):
        self.over, self.made, self.failed = threading.Event(), 0, []
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run) for _ in range(8)]
        for thread in self.threads:
            thread.start()

    def run(self):
        request = os.urandom(300)
        while not self.over.is_set():
            try:
                assert call("Slow", request) == request
            except grpc.RpcError as error:
                self.failed.append(error)
            with self.lock:
                self.made += 1

    def more(self, calls):
        made = self.made
        until(f"{calls} more calls", lambda: self.made >= made + calls)

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join()
        errors = [(error.code(), error.details()) for error in self.failed]
        # A call that reaches Python's server after it began to stop and before it has said so is answered CANCELLED.
        failed = [error for error in errors if error != (grpc.StatusCode.CANCELLED, "CANCELLED")]
        assert not failed, f"{len(failed)} of {self.made} calls failed: {failed}"
        assert len(errors) <= len(self.threads), errors


def stopped_in_traffic():
    """A process stops gracefully (GOAWAY) while calls are under way: another one has to answer what comes later."""
    outgoing = Outgoing()
    answers = channel.stream_stream(f"/{SERVICE}/PingPong")(iter(outgoing), timeout=DEADLINE)
    traffic = Traffic()
    traffic.more(100)
    for pid in SETTING["stop"]:
        os.kill(pid, signal.SIGTERM)
    traffic.more(300)
    traffic.end()
    outgoing.close()
    assert list(answers) == []


def aged_in_traffic():
    """The only server ends its connections all the time."""
    traffic = Traffic()
    traffic.more(1500)
    traffic.end()


for case in sys.argv[2:]:
    globals()[case]()
    print(case, flush=True)
channel.close()
