"""A Weir of its own for a measurement: started on one core, loaded from the other, its CPU time counted to the end."""

import atexit
import json
import os
import re
import signal
import subprocess
import time

import deltalake

SERVER_CORE, LOAD_CORE = "0", "1"


def weir():
    return os.environ["WEIR"]


class Server:
    """`weir serve` on the data directory `data`, from its start until `close`."""

    def __init__(self, data, *options, cores=SERVER_CORE):
        command = ["taskset", "-c", cores, weir(), "serve", "--data-dir", data, *options]
        for door in ("--otlp-grpc", "--otlp-http", "--http"):
            command += [door, "127.0.0.1:0"]
        began = time.monotonic()
        self.log = open(f"{data}.log", "wb")  # anew, so that no line of an earlier run is read
        self.process = subprocess.Popen(command, stderr=self.log)
        atexit.register(self.process.kill)  # whatever ends the measurement
        while not (ready := re.findall(r"^ready (.*)$", open(f"{data}.log").read(), re.M)[-1:]):
            if self.process.poll() is not None:
                raise SystemExit(f"weir ended: {open(f'{data}.log').read()}")
            time.sleep(0.02)
        self.started = time.monotonic() - began
        addresses = dict(part.split("=") for part in ready[0].split() if "=" in part)
        self.grpc, self.http = addresses["otlp_grpc"], addresses["http"]

    def load(self, signal, **options):
        """Runs `weir load` against it and gives its report."""
        command = ["taskset", "-c", LOAD_CORE, weir(), "load", signal, "--to", self.grpc, "--json"]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)

    def memory(self, name="VmRSS"):
        """Resident bytes, or another line of its status."""
        status = open(f"/proc/{self.process.pid}/status").read()
        return int(re.search(rf"^{name}:\s+(\d+) kB", status, re.M)[1]) * 1024

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        """Stops it and gives the CPU seconds of its whole life, in which the log became empty."""
        os.kill(self.process.pid, signal.SIGTERM)
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        if self.process.returncode != 0:
            raise SystemExit(f"weir ended with {self.process.returncode}")
        return usage.ru_utime + usage.ru_stime


def compact(data):
    """Runs `weir storage compact` and gives its CPU seconds."""
    command = ["taskset", "-c", SERVER_CORE, weir(), "storage", "compact", "--data-dir", data]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"weir storage compact ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def is_merged(data, table):
    """Whether a live file of a table is a merged one."""
    return any("/compacted-" in uri for uri in deltalake.DeltaTable(f"{data}/default/{table}").file_uris())


def stored(data, table):
    """Bytes and rows of a table's live files, from its own log."""
    actions = deltalake.DeltaTable(f"{data}/default/{table}").get_add_actions(flatten=True)
    return tuple(sum(actions.column(name).to_pylist()) for name in ("size_bytes", "num_records"))
