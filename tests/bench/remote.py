"""Servers that take remote write and answer PromQL, Weir among them, and the frames to load them with."""

import atexit
import http.client
import json
import os
import signal
import subprocess
import time
import urllib.parse

import cramjam
import numpy

STEP_MS = 15_000


class Peer:
    """A server process, its port, and what it has used."""

    def __init__(self, name, command, port):
        self.name, self.port = name, port
        self.log = open(f"/tmp/weir-bench-{name}.log", "wb")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        atexit.register(self.process.kill)
        deadline = time.monotonic() + 60
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{name} did not start: {open(self.log.name).read()[-2000:]}")
            time.sleep(0.05)
        self.connection = None

    def answers(self):
        try:
            return self.get("/api/v1/query?query=1")[0] == 200
        except OSError:
            return False

    def request(self, method, path, body=None, headers=()):
        if not getattr(self, "connection", None):
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            self.connection.request(method, path, body, dict(headers))
            response = self.connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            self.connection = None
            raise

    def get(self, path):
        return self.request("GET", path)

    def write(self, frame):
        """Sends a frame of remote write 1.0 until it is taken."""
        headers = {
            "Content-Type": "application/x-protobuf",
            "Content-Encoding": "snappy",
            "X-Prometheus-Remote-Write-Version": "0.1.0",
        }
        while True:
            status, body = self.request("POST", "/api/v1/write", frame, headers)
            if status // 100 == 2:
                return
            if status not in (429, 503):
                raise SystemExit(f"{self.name} refused a frame: {status} {body[:300]}")
            time.sleep(0.05)

    def query(self, path, **parameters):
        """The result of a query and the seconds it took."""
        began = time.monotonic()
        status, body = self.get(f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        took = time.monotonic() - began
        answer = json.loads(body)
        if status != 200 or answer["status"] != "success":
            raise SystemExit(f"{self.name} could not answer {parameters}: {body[:300]}")
        return answer["data"]["result"], took

    def cpu(self):
        """CPU seconds so far."""
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak(self, reset=False):
        """Most resident bytes since the last reset."""
        if reset:
            open(f"/proc/{self.process.pid}/clear_refs", "w").write("5")
        status = open(f"/proc/{self.process.pid}/status").read()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    def stop(self):
        os.kill(self.process.pid, signal.SIGTERM)
        self.process.wait()


def prometheus(data, port=19090):
    command = [
        os.environ.get("PROMETHEUS", "prometheus"),
        f"--web.listen-address=127.0.0.1:{port}",
        f"--storage.tsdb.path={data}/prometheus",
        "--web.enable-remote-write-receiver",
        "--config.file=/dev/null",
        "--log.level=error",
    ]
    return Peer("prometheus", command, port)


def victoria_metrics(data, port=18428):
    command = [
        os.environ.get("VICTORIA_METRICS", "victoria-metrics"),
        f"-httpListenAddr=127.0.0.1:{port}",
        f"-storageDataPath={data}/victoria-metrics",
        "-retentionPeriod=1y",
        "-search.disableCache",
        "-search.latencyOffset=0s",
        "-search.maxUniqueTimeseries=1000000",
        "-loggerLevel=ERROR",
    ]
    return Peer("victoria-metrics", command, port)


def weir(data, port=14319):
    command = [os.environ["WEIR"], "serve", "--data-dir", f"{data}/weir", "--http", f"127.0.0.1:{port}"]
    command += ["--otlp-grpc", "127.0.0.1:0", "--otlp-http", "127.0.0.1:0"]
    return Peer("weir", command, port)


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def encoded_labels(labels):
    pairs = sorted(labels.items())
    return b"".join(field(1, field(1, name.encode()) + field(2, value.encode())) for name, value in pairs)


def samples(times, values):
    """Samples as protobuf: `values` is series × times; 18 bytes each."""
    series, count = values.shape
    out = numpy.empty((series, count, 18), numpy.uint8)
    out[:, :, 0], out[:, :, 1], out[:, :, 2], out[:, :, 11] = 0x12, 0x10, 0x09, 0x10
    out[:, :, 3:11] = values.astype("<f8").view(numpy.uint8).reshape(series, count, 8)
    for at in range(6):
        part = (times >> (7 * at)) & 0x7F
        out[:, :, 12 + at] = part | (0x80 if at < 5 else 0)
    return out.reshape(series, count * 18)


def frames(label_sets, times, values, per_frame=400):
    """Remote write 1.0 frames of all series at `times`."""
    encoded = samples(times, values)
    for first in range(0, len(label_sets), per_frame):
        parts = []
        for at in range(first, min(first + per_frame, len(label_sets))):
            parts.append(field(1, label_sets[at] + encoded[at].tobytes()))
        yield bytes(cramjam.snappy.compress_raw(b"".join(parts)))
