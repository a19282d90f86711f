#!/usr/bin/env python3
"""Starts the shop on this machine: nine applications, a proxy beside each, and the collector. Ctrl-C stops all.

    SHOP_PORT    first of four ports: 7100 for the control page, 7101 and 7102 for the shop's two doors, 7103 for
                 Weir's UI and queries; 0 picks four that are free. All else listens on ports that are free.
    SHOP_DATA    folder of logs and of what the collector stores (shop-data, beside this file)
    WEIR         the program `weir` (that of the PATH, or of a build in this project)
    WEIR_PROXY   the proxy's command (`weir proxy`); `weir-proxy` is the same in small
"""

import argparse
import collections
import http.client
import http.server
import json
import os
import pathlib
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
READY_S = 60
STOP_S = 10
REPORT_S = 5

# Role, name, version, zone, and the services that it calls. Two zones; version 2 of search has one instance in each.
INSTANCES = [
    ("web", "web-north", "v1", "north", ["search", "cart"]),
    ("web", "web-south", "v1", "south", ["search", "cart"]),
    ("cart", "cart-1", "v1", "north", ["catalog"]),
    ("catalog", "catalog-1", "v1", "north", []),
    ("search", "search-1", "v1", "north", []),
    ("search", "search-2", "v1", "north", []),
    ("search", "search-3", "v2", "north", []),
    ("search", "search-4", "v1", "south", []),
    ("search", "search-5", "v2", "south", []),
]


def find_weir():
    built = [HERE.parent.parent / "target" / kind / "weir" for kind in ("release", "debug")]
    found = os.environ.get("WEIR") or shutil.which("weir") or next((str(one) for one in built if one.exists()), None)
    return found or sys.exit("there is no `weir` on the PATH; name it: WEIR=/path/to/weir")


def ask(address, path, method="GET", headers=(), timeout=5):
    """Status and JSON of an answer."""
    connection = http.client.HTTPConnection(address, timeout=timeout)
    try:
        connection.request(method, path, headers=dict(headers))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or "null")
    finally:
        connection.close()


class Child:
    """A process that logs to a file and says there where it serves: `ready key=value …`."""

    def __init__(self, name, command, data, **options):
        self.name, self.file = name, data / f"{name}.log"
        with open(self.file, "wb") as log:
            # A group of its own: Ctrl-C ends what runs here in order, and not everything at once.
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **options
            )

    def ready(self):
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            ended = self.process.poll()
            for line in self.file.read_text(errors="replace").splitlines(keepends=True):
                if line.startswith("ready ") and line.endswith("\n"):
                    return [tuple(word.split("=", 1)) for word in line.split()[1:]]
            if ended is not None:
                sys.exit(f"{self.name} ended ({ended}):\n{self.file.read_text(errors='replace')}")
            time.sleep(0.02)
        sys.exit(f"{self.name} is not ready; its log is {self.file}")

    def kill(self):
        self.process.kill()
        self.process.wait()


class Instance:
    """An application and the proxy beside it."""

    def __init__(self, shop, role, name, version, zone, calls):
        self.shop, self.role, self.name, self.version, self.zone = shop, role, name, version, zone
        self.calls, self.fault, self.port = calls, "none", shop.port(name)

    def begin(self):
        """Starts the proxy. The application's listener is made first, so that the proxy can be told of it."""
        self.door = socket.create_server(("127.0.0.1", 0))
        self.app_address = "127.0.0.1:%d" % self.door.getsockname()[1]
        command = [*self.shop.proxy, "--service", self.role, "--instance", self.name]
        command += ["--version-label", self.version, "--zone", self.zone, "--app", self.app_address]
        command += ["--inbound", f"127.0.0.1:{self.port}", "--admin", "127.0.0.1:0", "--collector", self.shop.collector]
        for service in self.calls:
            command += ["--outbound", f"{service}=127.0.0.1:0"]
        policy = HERE / f"{self.role}.toml"
        if policy.exists():
            command += ["--policy", str(policy)]
        self.proxy = Child(f"{self.name}-proxy", command, self.shop.data)
        self.fault = "none"

    def complete(self):
        """Starts the application, which calls other services at its proxy."""
        said = self.proxy.ready()
        self.address, self.admin = dict(said)["inbound"], dict(said)["admin"]
        command = [sys.executable, str(HERE / "app.py"), self.role, "--fd", str(self.door.fileno())]
        command += ["--name", self.name, "--version", self.version, "--zone", self.zone]
        for key, value in said:
            if key == "outbound":
                command += ["--call", value]
        self.app = Child(self.name, command, self.shop.data, pass_fds=[self.door.fileno()])
        self.door.close()

    def break_it(self, fault):
        if fault == "crash":
            # As if the machine were gone: application and proxy end without a goodbye.
            self.app.kill()
            self.proxy.kill()
        elif self.fault == "crash":
            self.begin()
            self.complete()
        if fault != "crash":
            ask(self.app_address, f"/fault/{fault}", "POST")
        self.fault = fault

    def told(self):
        requests = None if self.fault == "crash" else ask(self.app_address, "/requests")[1]["requests"]
        told = {"instance": self.name, "version": self.version, "zone": self.zone}
        return told | {"fault": self.fault, "requests": requests}


class Shop:
    FAULTS = ("none", "errors", "slow", "hang", "crash")
    PORTS = ("control", "web-north", "web-south", "weir")

    def __init__(self):
        self.weir = find_weir()
        self.proxy = shlex.split(os.environ.get("WEIR_PROXY") or f"{shlex.quote(self.weir)} proxy")
        self.base = int(os.environ.get("SHOP_PORT", "7100"))
        self.data = pathlib.Path(os.environ.get("SHOP_DATA", HERE / "shop-data")).absolute()
        self.data.mkdir(parents=True, exist_ok=True)
        self.changing = threading.Lock()
        self.server, self.instances = None, []

    def port(self, name):
        return self.base + self.PORTS.index(name) if self.base and name in self.PORTS else 0

    def start(self):
        serve = [self.weir, "serve", "--data-dir", str(self.data / "weir"), "--http", f"127.0.0.1:{self.port('weir')}"]
        self.server = Child("weir", [*serve, "--otlp-grpc", "127.0.0.1:0", "--otlp-http", "127.0.0.1:0"], self.data)
        said = dict(self.server.ready())
        self.collector, self.http = said["otlp_grpc"], said["http"]
        for told in INSTANCES:
            self.instances.append(Instance(self, *told))
            self.instances[-1].begin()
        for instance in self.instances:
            instance.complete()
        self.north, self.south = (self.called(name).address for name in ("web-north", "web-south"))
        for caller in self.instances:
            for service in caller.calls:
                self.until_known(caller, service)

    def until_known(self, caller, service):
        """Waits until a caller's proxy knows all instances of a service, and all of them work."""
        expected, known = {one.name for one in self.instances if one.role == service}, set()
        deadline = time.monotonic() + READY_S
        while known != expected:
            if time.monotonic() > deadline:
                sys.exit(f"{caller.name} knows {sorted(known)} of {service}; logs are in {self.data}")
            endpoints = ask(caller.admin, "/endpoints")[1]["endpoints"]
            known = {one["instance"] for one in endpoints if one["service"] == service}
            time.sleep(0.05)
        for one in self.instances:
            if one.role == service:
                ask(one.app_address, "/healthz", timeout=READY_S)

    def called(self, name):
        return next((one for one in self.instances if one.name == name), None)

    def stop(self):
        """Ends all, the collector last, so that it has what the others tell when they end."""
        self.end([child for one in self.instances for child in (vars(one).get("app"), vars(one).get("proxy")) if child])
        self.end([self.server] if self.server else [])

    def end(self, children):
        for child in children:
            child.process.terminate()
        deadline = time.monotonic() + STOP_S
        for child in children:
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()


class Control(http.server.BaseHTTPRequestHandler):
    """`GET /`: the instances of search. `POST /search-2/errors`: breaks one; `none` mends it."""

    def do_GET(self):
        shop = self.server.shop
        with shop.changing:
            told = [json.dumps(one.told()) for one in shop.instances if one.role == "search"]
        self.send(200, "[" + ",\n ".join(told) + "]\n")

    def do_POST(self):
        shop, (name, _, fault) = self.server.shop, self.path.strip("/").partition("/")
        instance = shop.called(name)
        if instance is None or fault not in shop.FAULTS:
            return self.send(404, json.dumps({"error": f"there is /INSTANCE/ and one of {', '.join(shop.FAULTS)}"}) + "\n")
        with shop.changing:
            if fault != instance.fault:
                instance.break_it(fault)
        return self.send(200, json.dumps({"instance": name, "fault": fault}) + "\n")

    def send(self, status, text):
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        """Nobody reads them."""


class Visitors:
    """Visitors at both doors, and every few seconds a line that says who answered them."""

    AT_ONCE = 16

    def __init__(self, shop, per_second):
        self.shop, self.per_second = shop, per_second
        self.answers, self.number, self.due = collections.Counter(), 0, time.monotonic()
        self.counting = threading.Lock()

    def start(self):
        for work in [self.visit] * self.AT_ONCE + [self.report]:
            threading.Thread(target=work, daemon=True).start()

    def visit(self):
        while True:
            with self.counting:
                # People do not come at even distances.
                self.due = max(self.due, time.monotonic() - 1) + random.expovariate(self.per_second)
                number, self.number, due = self.number, self.number + 1, self.due
            time.sleep(max(0.0, due - time.monotonic()))
            door = (self.shop.north, self.shop.south)[number % 2]
            try:
                status, answer = ask(door, "/cart" if number % 8 > 5 else "/search?q=tea")
                said = answer.get("instance", "cart") if status == 200 else "errors"
            except (OSError, http.client.HTTPException, ValueError):
                said = "errors"
            with self.counting:
                self.answers[said] += 1

    def report(self):
        while True:
            time.sleep(REPORT_S)
            with self.counting:
                answers, self.answers = self.answers, collections.Counter()
            errors = answers.pop("errors", 0)
            answered = "  ".join(f"{name} {count}" for name, count in sorted(answers.items()))
            print(f"{time.strftime('%H:%M:%S')}  {answered}  errors {errors}", flush=True)


def welcome(shop, control):
    sql = "select client, server, endpoint, sum(calls) calls, sum(errors) errors from edges "
    sql += "where reporter = 'source' group by 1, 2, 3 order by 1, 2, 3"
    weir = "weir" if shop.weir == shutil.which("weir") else shop.weir
    faults = ", ".join(shop.FAULTS[1:])
    rows = [
        (f"curl '{shop.north}/search?q=tea'", f"a search in zone north; {shop.south} is zone south"),
        (f"curl -H 'x-beta: 1' '{shop.north}/search?q=tea'", "by version 2"),
        (f"curl {shop.north}/cart", "web, cart and catalog"),
        (f"curl {control}", "the instances of search, and how many requests reached each"),
        (f"curl -X POST {control}/search-2/errors", f"breaks one: {faults}; none mends it"),
        (f"curl {shop.called('web-north').admin}/breakers", "what the proxy of web-north makes of it"),
        (f"http://{shop.http}", "the graph"),
    ]
    width = max(len(row[0]) for row in rows)
    lines = [f"  {what.ljust(width)}  {seen}" for what, seen in rows]
    ask_it = f'  {weir} query --server http://{shop.http} \\\n    "{sql}"'
    return "\n".join(["The shop is open.", "", *lines, "", ask_it, "", f"Logs are in {shop.data}. Ctrl-C closes.", ""])


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--visits", type=float, default=40, help="visits per second (40); 0 for none")
    args.add_argument("--fail", nargs=2, action="append", default=[], metavar=("INSTANCE", "FAULT"),
                      help="break one from the start: --fail search-2 errors (slow, hang, crash)")
    args = args.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    shop = Shop()
    try:
        # The port is taken first: a shop that runs already is noticed before anything starts.
        control = http.server.ThreadingHTTPServer(("127.0.0.1", shop.port("control")), Control)
        control.shop, control.daemon_threads = shop, True
        shop.start()
        for name, fault in args.fail:
            if shop.called(name) is None or fault not in shop.FAULTS:
                sys.exit(f"--fail {name} {fault}: an instance, and one of {', '.join(shop.FAULTS)}")
            shop.called(name).break_it(fault)
        here = "127.0.0.1:%d" % control.server_address[1]
        print(welcome(shop, here), flush=True)
        ready = f"ready control={here} north={shop.north} south={shop.south} http={shop.http}"
        print(ready, f"admin={shop.called('web-north').admin}", file=sys.stderr, flush=True)
        if args.visits > 0:
            Visitors(shop, args.visits).start()
        control.serve_forever()
    except KeyboardInterrupt:
        pass
    except OSError as error:
        sys.exit(f"the shop does not open: {error} (SHOP_PORT chooses other ports)")
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        shop.stop()


if __name__ == "__main__":
    main()
