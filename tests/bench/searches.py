"""How long a person waits for a trace: by id, by service and duration, by attribute.

usage: searches.py ADDRESS
  ADDRESS  the HTTP address of a running Weir that has all its spans in files

Prints the middle one and the slowest of twenty searches, in milliseconds. No search is asked twice.
"""

import json
import statistics
import sys
import time
import urllib.parse
import urllib.request

SEARCHES = 20


def get(address, path):
    with urllib.request.urlopen(f"http://{address}{path}") as answer:
        return json.load(answer)


def sql(address, query):
    request = urllib.request.Request(
        f"http://{address}/api/sql", json.dumps({"query": query}).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["rows"]


def measure(name, asked, search):
    took, found = [], 0
    for at, of in enumerate(asked):
        began = time.perf_counter()
        found += search(of)
        if at > 0:  # the first warms up
            took.append((time.perf_counter() - began) * 1e3)
    print(f"{name:32}{statistics.median(took):10.1f}{max(took):10.1f}{found / len(asked):10.1f}", flush=True)


def main(address):
    count = sql(address, "SELECT count(*) AS n, min(start_time) AS low, max(end_time) AS high FROM spans")[0]
    print(f"{count['n']:,} spans; milliseconds: the middle one, the slowest, and how many were found")
    window = urllib.parse.urlencode({"from": count["low"], "to": count["high"]})
    some = sql(
        address,
        f"SELECT trace_id, service, attributes['enduser.id'] AS user FROM spans ORDER BY span_id LIMIT {SEARCHES + 1}",
    )
    measure("trace by id", some, lambda of: len(get(address, f"/api/traces/{of['trace_id']}")["spans"]))

    def slow(of):
        path = f"/api/traces?{window}&service={of['service']}&min_duration_ms=400&limit=20"
        return len(get(address, path)["traces"])

    measure("by service and duration", some, slow)

    def by_user(of):
        condition = f"attributes['enduser.id'] = '{of['user']}'"
        query = f"SELECT trace_id, service, name FROM spans WHERE {condition} ORDER BY start_time DESC LIMIT 20"
        return len(sql(address, query))

    measure("by attribute", some, by_user)


if __name__ == "__main__":
    main(*sys.argv[1:])
