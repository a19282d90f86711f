"""What a measurement of proxies starts: programs, ports and certificates, and processes that are counted together."""

import atexit
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

STARTED_WITHIN_S = 30
ENDED_WITHIN_S = 20
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def program(name):
    """Its path: WEIR_PROXY, beside Weir's, in the bench's Python, or on the PATH; None where there is none."""
    if name == "weir-proxy" and "WEIR_PROXY" in os.environ:
        return os.environ["WEIR_PROXY"]
    first = (os.path.dirname(os.environ["WEIR"]), os.path.dirname(sys.executable))
    return shutil.which(name, path=os.pathsep.join([*first, os.environ["PATH"]]))


def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Tls:
    """A certificate that its holder shows to both sides, and the authority that signed it."""

    def __init__(self, folder):
        os.makedirs(folder)
        self.ca, self.cert, self.key = f"{folder}/ca.pem", f"{folder}/cert.pem", f"{folder}/key.pem"
        self.both = f"{folder}/both.pem"
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        new = ["openssl", "req", "-x509", "-days", "2", *key]
        ca_key = f"{folder}/ca-key.pem"
        quiet = {"check": True, "stderr": subprocess.DEVNULL}
        subprocess.run([*new, "-subj", "/CN=bench", "-keyout", ca_key, "-out", self.ca], **quiet)
        leaf = ["-subj", "/CN=next", "-CA", self.ca, "-CAkey", ca_key, "-addext", "basicConstraints=critical,CA:false"]
        names = ["-addext", "subjectAltName=DNS:next,DNS:localhost,IP:127.0.0.1"]
        subprocess.run([*new, *leaf, *names, "-keyout", self.key, "-out", self.cert], **quiet)
        with open(self.both, "w") as both:
            both.write(open(self.cert).read() + open(self.key).read())


class Group:
    """Processes that are started, counted and ended together."""

    def __init__(self, core):
        self.core, self.processes, self.entrance = core, [], None

    def start(self, command, log, address):
        """Starts a program and waits until it accepts connections."""
        with open(log, "wb") as written:
            process = subprocess.Popen(["taskset", "-c", self.core, *command], stdout=written, stderr=written)
        atexit.register(process.terminate)  # a master that is killed leaves its workers
        self.processes.append(process)
        deadline = time.monotonic() + STARTED_WITHIN_S
        while True:
            try:
                return socket.create_connection(("127.0.0.1", address)).close()
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise SystemExit(f"{command[0]} does not serve: {open(log).read()[-2000:]}") from None
                time.sleep(0.02)

    def pids(self):
        found = [process.pid for process in self.processes]
        for pid in found:  # grows
            found += map(int, open(f"/proc/{pid}/task/{pid}/children").read().split())
        return found

    def cpu_s(self):
        """Seconds of user and of system time until now, of all threads."""
        stats = [open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split() for pid in self.pids()]
        return tuple(sum(int(stat[at]) for stat in stats) / TICKS_PER_S for at in (11, 12))

    def memory(self, name):
        """A line of the processes' status, in bytes."""
        status = "".join(open(f"/proc/{pid}/status").read() for pid in self.pids())
        return 1024 * sum(map(int, re.findall(rf"^{name}:\s+(\d+) kB", status, re.M)))

    def close(self):
        for process in self.processes:
            os.kill(process.pid, signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(ENDED_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
