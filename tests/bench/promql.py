"""PromQL over the same samples in Weir, Prometheus and VictoriaMetrics: times, CPU, memory.

usage: promql.py SCRATCH [SERIES…]
  SCRATCH  a folder for the data; what is there from a run before is used again
  SERIES   how many series, three hours at 15 s each (2000 10000 100000)
"""

import os
import statistics
import sys
import time

import numpy

import remote

HOURS = 3
LES = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "+Inf"]
HEAVY = {
    "sum by rate": "sum by (service) (rate(http_requests_total[5m]))",
    "histogram quantile": "histogram_quantile(0.99, sum by (le, service) "
    "(rate(http_request_duration_seconds_bucket[5m])))",
    "topk": "topk(5, rate(http_requests_total[5m]))",
    "join": "sum by (version) (rate(http_requests_total[5m]) * on (instance) group_left (version) build_info)",
}


def label_sets(count):
    """Half counters, half buckets of histograms, an info series per instance."""
    sets = []
    for instance in range(count // 100):
        common = {"instance": f"10.0.{instance // 250}.{instance % 250}:8080", "service": f"service-{instance % 20}"}
        for at in range(50):
            labels = {"__name__": "http_requests_total", "method": ["GET", "POST", "PUT", "HEAD", "DELETE"][at % 5]}
            sets.append(common | labels | {"status": str(200 + at // 5)})
        for at in range(50):
            labels = {"__name__": "http_request_duration_seconds_bucket", "route": f"/r{at // 10}"}
            sets.append(common | labels | {"le": LES[at % 10]})
        sets.append({"__name__": "build_info", "instance": common["instance"], "version": f"1.{instance % 7}"})
    return sets


def load(peers, count, end):
    sets = [remote.encoded_labels(labels) for labels in label_sets(count)]
    random = numpy.random.default_rng(1)
    info = numpy.arange(len(sets)) % 101 == 100
    steps = HOURS * 240
    totals = numpy.zeros(len(sets))
    rates = random.uniform(0, 20, len(sets))
    spent = {peer.name: 0.0 for peer in peers}
    for first in range(0, steps, 60):
        times = end - (steps - 1 - numpy.arange(first, first + 60)) * remote.STEP_MS
        grown = random.poisson(rates[:, None], (len(sets), 60)).cumsum(axis=1) + totals[:, None]
        totals = grown[:, -1]
        values = numpy.where(info[:, None], 1.0, grown)
        for frame in remote.frames(sets, times, values):
            for peer in peers:
                began = time.monotonic()
                peer.write(frame)
                spent[peer.name] += time.monotonic() - began
    for peer in peers:
        print(f"  {peer.name}: {len(sets) * steps:,} samples in {spent[peer.name]:.0f} s, {peer.cpu():.0f} CPU s")


def servers(folder):
    return [remote.weir(folder), remote.prometheus(folder), remote.victoria_metrics(folder)]


def same(a, b):
    """Whether two answers agree; VictoriaMetrics does not extrapolate and is not asked."""
    if len(a) != len(b):
        return False
    key = lambda series: sorted(series["metric"].items())
    for x, y in zip(sorted(a, key=key), sorted(b, key=key)):
        if x["metric"] != y["metric"]:
            return False
        for (t, v), (u, w) in zip(x["values"][1:], y["values"][1:]):
            if t != u or abs(float(v) - float(w)) > 1e-6 * max(abs(float(v)), 1e-9):
                return False
    return True


def heavy(peers, end):
    # Between samples, so that ranges that are open on the left hold what closed ones do.
    start, stop = end / 1000 - HOURS * 3600 + 601, end / 1000 - 4
    print(f"  {'':<20}" + "".join(f"{peer.name:>26}" for peer in peers) + "     ms (CPU ms), peak MiB")
    for name, query in HEAVY.items():
        line, answers = f"  {name:<20}", {}
        times = {peer.name: [] for peer in peers}
        cpu, peak = {}, {}
        for attempt in range(4):
            for peer in peers:
                before, resident = peer.cpu(), peer.peak(reset=True)
                answers[peer.name], took = peer.query("query_range", query=query, start=start, end=stop, step=60)
                if attempt:
                    times[peer.name].append(took * 1000)
                cpu[peer.name] = (peer.cpu() - before) * 1000
                peak[peer.name] = max(peak.get(peer.name, 0), peer.peak())
        for peer in peers:
            took = statistics.median(times[peer.name])
            line += f"{took:>10.0f} ({cpu[peer.name]:>5.0f}) {peak[peer.name] / 2**20:>6.0f}"
        agree = same(answers["weir"], answers["prometheus"]) if name != "topk" else "-"
        print(line, "  same as prometheus:", agree)


def dashboard(peers, end):
    """Thirty questions of a dashboard about one service."""
    questions = []
    for at in range(5):
        service = f'service="service-{at}"'
        questions += [
            ("query", f"sum(rate(http_requests_total{{{service}}}[5m]))"),
            ("query", f'sum by (status) (rate(http_requests_total{{{service},method="GET"}}[1m]))'),
            ("query", f'count(http_requests_total{{{service}}} > 0)'),
            ("query_range", f'sum by (method) (rate(http_requests_total{{{service},status="200"}}[5m]))'),
            ("query_range", "histogram_quantile(0.9, sum by (le) "
             f'(rate(http_request_duration_seconds_bucket{{{service},route="/r1"}}[5m])))'),
            ("query", f'topk(3, http_requests_total{{{service},method="POST"}})'),
        ]
    medians = {}
    for peer in peers:
        took = []
        for _ in range(5):
            for path, query in questions:
                parameters = {"query": query}
                if path == "query":
                    parameters["time"] = end / 1000 - 4
                else:
                    parameters |= {"start": end / 1000 - 904, "end": end / 1000 - 4, "step": 15}
                took.append(peer.query(path, **parameters)[1] * 1000)
        medians[peer.name] = statistics.median(took[len(questions):])
    print("  dashboard, median ms: " + ", ".join(f"{name} {median:.1f}" for name, median in medians.items()))


def main(scratch, *counts):
    for count in map(int, counts or ("2000", "10000", "100000")):
        print(f"{count:,} series")
        folder = f"{scratch}/promql-{count}"
        os.makedirs(folder, exist_ok=True)
        peers = servers(folder)
        try:
            end = int(open(f"{folder}/end").read())
        except FileNotFoundError:
            end = int(time.time()) // 15 * remote.STEP_MS
            load(peers, count, end)
            open(f"{folder}/end", "w").write(str(end))
            # Weir flushes as it ends; all three begin anew.
            for peer in peers:
                peer.stop()
            peers = servers(folder)
        if count == 10_000:
            dashboard(peers, end)
        else:
            heavy(peers, end)
        for peer in peers:
            peer.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
