"""A proxy with 10,000 endpoints and 1,000 routes: what it takes, and what a change of them costs and holds up.

The endpoints are addresses of 127.0.0.0/8 behind which one backend listens. The load is 500 requests/s, each timed from
the moment it was due: at the backend itself, which shows what the machine does to them, then through the proxy with
nothing changed, then with a change every second: of one endpoint, of all weights, of half of the endpoints, of the
routes. After each the metrics page is read, which has rows for every endpoint.
"""

import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import peers
from group import Group, port, program
from server import LOAD_CORE, SERVER_CORE

ENDPOINTS, ROUTES, RATE = 10_000, 1_000, 500
KINDS = ("one endpoint", "all weights", "half replaced", "routes")
# A file is looked at every second; one that is written again within it could be missed.
CHANGE_EVERY_S = 1.3
UPDATE = re.compile(r'^weir_proxy_update_duration_seconds_(sum|count)\{source="(\w+)"\} (\S+)$', re.M)


def endpoints(address, numbers, weight):
    """The file of endpoints: one for each number."""
    where = lambda n: f"127.{1 + n // 62_500}.{n // 250 % 250}.{1 + n % 250}:{address}"
    one = lambda n: {"instance": f"next-{n:06}", "address": where(n), "zone": f"z{n % 3}", "weight": weight(n)}
    return json.dumps({"next": [one(n) for n in numbers]})


def policy(turn):
    """The policy file: routes that the requests of the load do not match, and at last one that they do."""
    routes = [
        f'[[service.route]]\nname = "r{n}"\ntimeout = "{5 + turn % 2}s"\n'
        f'match = [{{ path = {{ path_prefix = "/shop/{n}" }}, headers = {{ x-tenant = {{ exact = "t{n}" }} }} }}]\n'
        f'headers = {{ request = {{ set = {{ x-route = "r{n}" }} }} }}\nretries = {{ attempts = 1 }}\n'
        for n in range(ROUTES - 1)
    ]
    return '[[service]]\nhost = "next"\n' + "".join(routes) + '[[service.route]]\nname = "rest"\n'


class Files:
    """The two files of the proxy, and what they become: all made before anything is measured."""

    def __init__(self, folder, address, changes):
        self.endpoints, self.policy = f"{folder}/endpoints.json", f"{folder}/policy.toml"
        numbers, weights = list(range(ENDPOINTS)), (lambda n: 1 + n % 3)
        self.write(self.endpoints, endpoints(address, numbers, weights))
        self.write(self.policy, policy(0))
        self.next = []
        fresh = ENDPOINTS
        for turn in range(changes):
            kind = KINDS[turn % len(KINDS)]
            if kind == "routes":
                self.next.append((kind, self.policy, policy(1 + turn // len(KINDS))))
                continue
            if kind == "all weights":
                weights = lambda n, turn=turn: 1 + (n + turn) % 3
            replaced = {"one endpoint": [turn], "half replaced": range(0, ENDPOINTS, 2)}.get(kind, [])
            for at in replaced:
                numbers[at], fresh = fresh, fresh + 1
            self.next.append((kind, self.endpoints, endpoints(address, numbers, weights)))

    def write(self, path, content):
        with open(f"{path}.new", "w") as written:
            written.write(content)
        os.replace(f"{path}.new", path)


def loading(entrance, seconds):
    command = ["taskset", "-c", LOAD_CORE, sys.executable, f"{os.path.dirname(__file__)}/open_loop.py"]
    return subprocess.Popen([*command, f"127.0.0.1:{entrance}", str(RATE), str(seconds)], stdout=subprocess.PIPE)


def updates(admin):
    """Seconds that updates took and how many there were, by source; nothing where it is not told."""
    page = urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics").read().decode()
    told = {}
    for part, source, value in UPDATE.findall(page):
        told.setdefault(source, {})[part] = float(value)
    return told


def took(before, after):
    """The time of the one update between two readings, in milliseconds."""
    for source, now in after.items():
        was = before.get(source, {"sum": 0, "count": 0})
        if now["count"] == was["count"] + 1:
            return 1e3 * (now["sum"] - was["sum"])
    return None


def be_nice():
    thread = threading.get_native_id()
    os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + 10)


def measure(folder, seconds):
    address, entrance, admin = port(), port(), port()
    changes = int(seconds / CHANGE_EVERY_S)
    backend, group = Group(SERVER_CORE), Group(SERVER_CORE)
    server = f'server {{ listen {address}; location / {{ return 200 "{"x" * peers.BODY_BYTES}"; }} }}'
    peers.nginx_start(backend, f"{folder}-backend", address, server, connections=ENDPOINTS + 1_024)
    os.makedirs(folder)
    files = Files(folder, address, changes)
    command = [program("weir-proxy"), "--service", "first", "--outbound", f"next=127.0.0.1:{entrance}"]
    command += ["--collector", "none", "--admin", f"127.0.0.1:{admin}"]
    command += ["--endpoints", files.endpoints, "--policy", files.policy]
    group.start(command, f"{folder}/log", entrance)
    time.sleep(1)
    memory = lambda: group.memory("VmRSS") / 2**20
    report = {"idle": memory(), "most": 0, "updates": {kind: [] for kind in KINDS}}
    load = loading(address, seconds)
    report["backend"] = json.loads(load.communicate()[0])
    load = loading(entrance, seconds)

    def watch():
        while load.poll() is None:
            report["most"] = max(report["most"], memory())
            time.sleep(0.2)

    def change():
        before = updates(admin)
        for kind, path, content in files.next:
            until = time.monotonic() + CHANGE_EVERY_S
            files.write(path, content)
            while time.monotonic() < until:
                report["most"] = max(report["most"], memory())
                time.sleep(0.1)
            after = updates(admin)
            if took_ms := took(before, after):
                report["updates"][kind].append(took_ms)
            before = after

    # A thread of its own may be nice: what changes files and reads pages is not to hold up what is measured.
    with ThreadPoolExecutor(initializer=be_nice) as aside:
        aside.submit(watch).result()
        report["quiet"] = json.loads(load.stdout.read())
        load = loading(entrance, seconds)
        time.sleep(1)
        aside.submit(change).result()
    report["changing"] = json.loads(load.communicate()[0])
    group.close()
    backend.close()
    return report


def show(reports):
    print(f"{'':16}{'p50':>8}{'p99.9':>8}{'max':>8}{'generator late, max':>21}  ms", flush=True)
    for report in reports:
        for phase in ("backend", "quiet", "changing"):
            of, late = report[phase]["latency_us"], report[phase]["lateness_us"]
            cells = "".join(f"{of[name] / 1e3:8.2f}" for name in ("p50", "p999", "max"))
            print(f"{phase:16}{cells}{late['max'] / 1e3:21.2f}", flush=True)
    for kind in KINDS:
        all_ms = sorted(ms for report in reports for ms in report["updates"][kind])
        if all_ms:
            print(f"{kind:16} in force after {all_ms[len(all_ms) // 2]:.1f} ms, at most {all_ms[-1]:.1f}", flush=True)
    idle, most = (max(report[name] for report in reports) for name in ("idle", "most"))
    print(f"RSS: idle {idle:.1f} MiB, at most {most:.1f}", flush=True)
