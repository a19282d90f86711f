"""What the data plane costs beside nginx, HAProxy and Envoy: each round measures all of them, one after the other.

usage: proxy.py SCRATCH [ROUNDS] [SECONDS] [CASE…]
  SCRATCH  a folder for configurations and logs
  ROUNDS   how often (5)
  SECONDS  how long each is measured (5), after one second that is not counted
  CASE     forward, mtls, latency, memory, scale (all)

Proxies are on one core. The load, the backend (nginx, 512 bytes from memory) and the collector are on the other; when
latencies are measured, only the generator is. CPU time is of all threads of the proxies, in microseconds of user and
system time per request. "+" is with everything observed: a span and a log record for every request, sent to a collector
that acknowledges and forgets them, since a `weir serve` would take the load's core from it. Ratios are to nginx of the
same round, and the middle one of the rounds is shown. A peer that is not there is left out.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import time

import peers
import scale
from group import Group, Tls, program
from server import LOAD_CORE, SERVER_CORE

CONNECTIONS = 32
LATENCY_RATE, MEMORY_RATE = 1_000, 10_000
LOAD_CPU = ["taskset", "-c", LOAD_CORE]


def load(entrance, seconds, rate=None):
    """Requests over 32 connections, one after the other or at a rate. Gives how many succeeded; none may fail."""
    command = [*LOAD_CPU, program("h2load"), "--h1", "-t1", f"-c{CONNECTIONS}", f"-D{seconds}"]
    if rate:
        command.append(f"--rps={rate / CONNECTIONS}")
    command.append(f"http://127.0.0.1:{entrance}/")
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", said)
    codes = re.search(r"status codes: (\d+) 2xx", said)
    succeeded, *others = map(int, counts.groups())
    if any(others) or succeeded == 0 or int(codes[1]) < succeeded:
        raise SystemExit(f"requests failed: {said}")
    return succeeded


def cost(group, backend, seconds):
    """User and system time per request in microseconds, and bytes of telemetry per request."""
    load(group.entrance, 1)
    before, sent_before = group.cpu_s(), backend.exported()
    requests = load(group.entrance, seconds)
    after, sent_after = group.cpu_s(), backend.exported()
    group.close()
    user, system = ((b - a) / requests * 1e6 for a, b in zip(before, after))
    return {"user": user, "system": system, "all": user + system, "sent": (sent_after - sent_before) / requests}


def rounds(count, makers, measure):
    """Measures each of `makers` by name once a round; what was measured, by name."""
    results = {name: [] for name in makers}
    for _ in range(count):
        for name, make in makers.items():
            results[name].append(measure(make()))
    return results


def middle(results, key):
    return statistics.median(result[key] for result in results)


def print_costs(results):
    print(
        f"{'':10}{'µs':>8}{'user':>8}{'system':>8}{'/ nginx':>9}{'from':>7}{'to':>7}{'telemetry B':>13}", flush=True
    )
    for name, own in results.items():
        ratios = [mine["all"] / nginx["all"] for mine, nginx in zip(own, results["nginx"])]
        print(
            f"{name:10}{middle(own, 'all'):8.1f}{middle(own, 'user'):8.1f}{middle(own, 'system'):8.1f}"
            f"{statistics.median(ratios):9.2f}{min(ratios):7.2f}{max(ratios):7.2f}{middle(own, 'sent'):13.0f}",
            flush=True,
        )
    for name in ("weir", "envoy"):
        if name in results and f"{name}+" in results:
            more = [a["user"] - b["user"] for a, b in zip(results[f"{name}+"], results[name])]
            print(f"{name}: telemetry costs {statistics.median(more):.1f} µs of user time", flush=True)
    if "weir+" in results and "envoy+" in results:
        ratios = [weir["all"] / envoy["all"] for weir, envoy in zip(results["weir+"], results["envoy+"])]
        print(f"weir+ / envoy+: {statistics.median(ratios):.2f}", flush=True)


class Bench:
    def __init__(self, scratch, count, seconds):
        self.scratch, self.count, self.seconds, self.made = f"{scratch}/proxy", count, seconds, 0
        os.makedirs(self.scratch)
        self.tls = Tls(f"{self.scratch}/tls")
        programs = {"weir": "weir-proxy"}
        self.peers = [peer for peer in peers.ALL if program(programs.get(peer.name, peer.name))]
        for peer in peers.ALL:
            if peer not in self.peers:
                print(f"{peer.name} is not installed", flush=True)

    def folder(self, name):
        self.made += 1
        return f"{self.scratch}/{self.made}-{name}"

    def backend(self, core):
        return peers.Backend(self.folder("backend"), core)

    def makers(self, shape, backend, observed=(False, True), tls=None):
        """What starts each peer, by its name, with `+` where it is observed and can be."""
        makers = {}
        for telemetry in observed:
            for peer in self.peers:
                if telemetry and not peer.traces:
                    continue
                if tls and peer.name == "weir" and not peer.has_tls():
                    if not telemetry:
                        print("weir: left out, this build has no --tls-cert", flush=True)
                    continue
                options = {"telemetry": telemetry} | ({"tls": tls} if tls else {})
                name = peer.name + "+" * telemetry
                makers[name] = lambda peer=peer, name=name, options=options: shape(
                    peer, self.folder(name), SERVER_CORE, backend, **options
                )
        return makers

    def costs(self, shape, **options):
        backend = self.backend(LOAD_CORE)
        measure = lambda group: cost(group, backend, self.seconds)
        print_costs(rounds(self.count, self.makers(shape, backend, **options), measure))
        backend.group.close()

    def forward(self):
        self.costs(peers.one)

    def mtls(self):
        self.costs(peers.pair, tls=self.tls)

    def latency(self):
        """Two hops at 1,000 requests/s, against none."""
        backend = self.backend(SERVER_CORE)
        for tls in (None, self.tls):
            print(f"two hops{' with mTLS' if tls else ''}, added to what the backend takes, µs:", flush=True)

            def direct():
                group = Group(SERVER_CORE)
                group.entrance = backend.port
                return group

            def measure(group):
                address = f"127.0.0.1:{group.entrance}"
                command = [*LOAD_CPU, sys.executable, f"{os.path.dirname(__file__)}/open_loop.py", address]
                command += [str(LATENCY_RATE), str(2 * self.seconds)]
                said = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
                group.close()
                report = json.loads(said)
                return report["latency_us"] | {"late": report["lateness_us"]["p99"]}

            makers = {"direct": direct} | self.makers(peers.pair, backend, tls=tls)
            results = rounds(self.count, makers, measure)
            print(f"{'':10}{'p50':>8}{'p99':>8}{'p99 from':>10}{'to':>8}{'generator late, p99':>21}", flush=True)
            for name, own in results.items():
                base = results["direct"] if name != "direct" else [{"p50": 0, "p99": 0}] * self.count
                added = {key: [a[key] - b[key] for a, b in zip(own, base)] for key in ("p50", "p99")}
                print(
                    f"{name:10}{statistics.median(added['p50']):8.0f}{statistics.median(added['p99']):8.0f}"
                    f"{min(added['p99']):10.0f}{max(added['p99']):8.0f}{middle(own, 'late'):21.0f}",
                    flush=True,
                )
        backend.group.close()

    def memory(self):
        """One hop: idle, and the most while 10,000 requests/s are asked of it."""
        backend = self.backend(LOAD_CORE)
        print(f"{'MiB':10}{'idle':>8}{'anonymous':>11}{'loaded':>9}{'anonymous':>11}{'requests/s':>12}", flush=True)
        for name, make in self.makers(peers.one, backend).items():
            group = make()
            time.sleep(1)
            read = lambda: [group.memory(line) / 2**20 for line in ("VmRSS", "RssAnon")]
            idle = read()
            command = [sys.executable, __file__, "--load", str(group.entrance), str(4 * self.seconds)]
            loading = subprocess.Popen([*command, str(MEMORY_RATE)], stdout=subprocess.PIPE, text=True)
            most = idle
            while loading.poll() is None:
                time.sleep(0.1)
                most = [max(pair) for pair in zip(most, read())]
            if loading.returncode != 0:
                raise SystemExit(f"the load on {name} failed")
            done = int(loading.stdout.read()) / (4 * self.seconds)
            group.close()
            print(f"{name:10}{idle[0]:8.1f}{idle[1]:11.1f}{most[0]:9.1f}{most[1]:11.1f}{done:12,.0f}", flush=True)
        backend.group.close()
        for name in ("weir-proxy", "envoy", "nginx", "haproxy"):
            if path := program(name):
                self.print_size(name, path)

    def scale(self):
        """10,000 endpoints and 1,000 routes that change."""
        scale.show([scale.measure(self.folder("scale"), 4 * self.seconds) for _ in range(self.count)])

    def print_size(self, name, path):
        if name == "envoy":  # what is on the path is a script
            where = "import envoy, os; print(os.path.dirname(envoy.__file__))"
            found = subprocess.run([sys.executable, "-c", where], stdout=subprocess.PIPE, text=True, check=True)
            path = f"{found.stdout.strip()}/_bin/envoy"
        stripped = f"{self.scratch}/{name}.stripped"
        subprocess.run(["strip", "-o", stripped, path], check=True)
        print(f"{name}: {os.path.getsize(stripped) / 2**20:.1f} MiB stripped", flush=True)


def main(scratch, count=5, seconds=5, *cases):
    bench = Bench(scratch, int(count), int(seconds))
    for case in cases or ("forward", "mtls", "latency", "memory", "scale"):
        print(f"-- {case}", flush=True)
        getattr(bench, case)()


if __name__ == "__main__":
    if sys.argv[1] == "--load":
        print(load(sys.argv[2], sys.argv[3], float(sys.argv[4])))
    else:
        main(*sys.argv[1:])
