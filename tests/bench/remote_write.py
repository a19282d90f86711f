"""What remote write costs: the same requests of version 1.0 sent to Weir, Prometheus and VictoriaMetrics, in one run.

usage: remote_write.py SCRATCH [SERIES] [SAMPLES]
  SCRATCH  a folder for the data
  SERIES   how many (10,000), in requests of 1,000
  SAMPLES  of each series, 15 s apart (600)

Server and sender have a core each. CPU time is that of the whole server process until it has closed, when everything is
in its files. Weir answers after its log is synced; the others write theirs behind the answer. Prometheus and
VictoriaMetrics are Debian's; PROMETHEUS and VICTORIA_METRICS name other binaries. One that is not there is left out.
"""

import http.client
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

import server
from remote import field, varint

BATCH = 1_000
CONNECTIONS_TRIED_S = 30


def literal_snappy(data):
    """A block of Snappy that holds `data` as it is: what it costs to inflate is the same for all."""
    out = bytearray(varint(len(data)))
    for at in range(0, len(data), 65_536):
        piece = data[at : at + 65_536]
        out += bytes([61 << 2]) + struct.pack("<H", len(piece) - 1) + piece
    return bytes(out)


def labels(number):
    pairs = {
        "__name__": f"bench_requests_{number % 50}_total",
        "cluster": "shop-eu-1",
        "instance": f"10.0.{number // 250 % 250}.{number % 250}:9100",
        "job": f"service-{number % 20}",
        "method": ("GET", "POST", "PUT", "DELETE")[number % 4],
        "path": f"/api/v1/things/{number}",
        "status": ("200", "404", "500")[number % 3],
    }
    return b"".join(field(1, field(1, n.encode()) + field(2, v.encode())) for n, v in sorted(pairs.items()))


def requests(series, samples, start):
    """The bodies, made one after the other so that memory holds none of them twice."""
    sets = [labels(number) for number in range(series)]
    for at in range(samples):
        stamp = b"\x10" + varint(start + 15_000 * at)
        for first in range(0, series, BATCH):
            body = bytearray()
            for number in range(first, min(series, first + BATCH)):
                sample = b"\x09" + struct.pack("<d", float(at * (number % 7 + 1) + number)) + stamp
                body += field(1, sets[number] + field(2, sample))
            yield literal_snappy(bytes(body))


def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Other:
    """A server that is not Weir, from its start until `close`."""

    def __init__(self, command, address):
        self.http = address
        self.process = subprocess.Popen(
            ["taskset", "-c", server.SERVER_CORE, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + CONNECTIONS_TRIED_S
        while True:
            try:
                socket.create_connection(tuple(address.split(":"))).close()
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise SystemExit(f"{command[0]} does not serve")
                time.sleep(0.05)

    def close(self):
        os.kill(self.process.pid, signal.SIGTERM)
        _, _, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = 0
        return usage.ru_utime + usage.ru_stime


def prometheus(scratch):
    binary = os.environ.get("PROMETHEUS") or shutil.which("prometheus")
    if binary is None:
        return None
    os.makedirs(f"{scratch}/prometheus")
    configuration = f"{scratch}/prometheus/empty.yml"
    open(configuration, "w").close()
    address = f"127.0.0.1:{port()}"
    data = f"--storage.tsdb.path={scratch}/prometheus/data"
    listen = f"--web.listen-address={address}"
    return Other(
        [binary, f"--config.file={configuration}", data, listen, "--web.enable-remote-write-receiver"], address
    )


def victoria_metrics(scratch):
    binary = os.environ.get("VICTORIA_METRICS") or shutil.which("victoria-metrics")
    if binary is None:
        return None
    address = f"127.0.0.1:{port()}"
    return Other([binary, f"-storageDataPath={scratch}/victoria", f"-httpListenAddr={address}"], address)


HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}


def send(address, bodies):
    connection = http.client.HTTPConnection(address)
    for body in bodies:
        connection.request("POST", "/api/v1/write", body, HEADERS)
        answer = connection.getresponse()
        said = answer.read()
        if answer.status not in (200, 204):
            raise SystemExit(f"{address} answers {answer.status}: {said[:200]}")
    connection.close()


def main(scratch, series=10_000, samples=600):
    series, samples = int(series), int(samples)
    start = (int(time.time()) - 15 * samples) * 1_000
    os.sched_setaffinity(0, {int(server.LOAD_CORE)})
    makers = {
        "weir": lambda: server.Server(f"{scratch}/remote-write"),
        "prometheus": lambda: prometheus(scratch),
        "victoria-metrics": lambda: victoria_metrics(scratch),
    }
    print(f"{'server':18}{'samples':>12}{'s':>8}{'CPU s':>8}{'samples/CPU-s':>15}", flush=True)
    for name, make in makers.items():
        running = make()
        if running is None:
            print(f"{name:18} is not installed", flush=True)
            continue
        began = time.monotonic()
        send(running.http, requests(series, samples, start))
        took = time.monotonic() - began
        cpu = running.close()
        print(f"{name:18}{series * samples:12,}{took:8.1f}{cpu:8.1f}{series * samples / cpu:15,.0f}", flush=True)
    _, rows = server.stored(f"{scratch}/remote-write", "samples")
    assert rows >= series * samples, f"{rows} rows of {series * samples}"


if __name__ == "__main__":
    main(*sys.argv[1:])
