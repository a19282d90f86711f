"""Five questions about spans, asked of Weir, DuckDB and chDB over the same Parquet files, in turns, with two threads.

usage: queries.py ADDRESS TABLE
  ADDRESS  the HTTP address of a running Weir that has all its spans in files
  TABLE    the folder of its table `spans`

Prints one line a question: milliseconds of the middle one of five rounds, for each engine.
"""

import json
import os
import statistics
import sys
import time
import urllib.request

import chdb.session
import deltalake
import duckdb

ROUNDS = 5
THREADS = 2

# Name, then the question to Weir's view, to DuckDB and to ClickHouse over the stored columns.
QUESTIONS = [
    (
        "latency and errors by service",
        """SELECT service, count(*) AS n, sum(CASE WHEN status = 'error' THEN 1 ELSE 0 END) AS errors,
                  avg(duration_ns) AS mean, approx_percentile_cont(duration_ns, 0.99) AS p99
           FROM spans GROUP BY service ORDER BY service""",
        """SELECT service, count(*) AS n, sum(CASE WHEN status = 2 THEN 1 ELSE 0 END) AS errors,
                  avg(duration_ns) AS mean, approx_quantile(duration_ns, 0.99) AS p99
           FROM spans GROUP BY service ORDER BY service""",
        """SELECT service, count(*) AS n, countIf(status = 2) AS errors,
                  avg(duration_ns) AS mean, quantileTDigest(0.99)(duration_ns) AS p99
           FROM spans GROUP BY service ORDER BY service""",
    ),
    (
        "edges by self-join",
        """SELECT p.service AS client, c.service AS server, count(*) AS calls
           FROM spans c JOIN spans p ON c.trace_id = p.trace_id AND c.parent_span_id = p.span_id
           WHERE p.service <> c.service GROUP BY 1, 2 ORDER BY 1, 2""",
        None,
        None,
    ),
    (
        "rate per minute",
        "SELECT date_trunc('minute', start_time) AS minute, count(*) AS n FROM spans GROUP BY 1 ORDER BY 1",
        None,
        "SELECT toStartOfMinute(start_time) AS minute, count(*) AS n FROM spans GROUP BY 1 ORDER BY 1",
    ),
    (
        "top 20 slowest",
        "SELECT trace_id, service, name, duration_ns FROM spans ORDER BY duration_ns DESC LIMIT 20",
        None,
        "SELECT hex(trace_id), service, name, duration_ns FROM spans ORDER BY duration_ns DESC LIMIT 20",
    ),
    (
        "a map attribute",
        "SELECT count(*) AS n FROM spans WHERE attributes['user_agent.original'] LIKE '%Firefox%'",
        "SELECT count(*) AS n FROM spans WHERE attributes_str['user_agent.original'] LIKE '%Firefox%'",
        "SELECT count(*) AS n FROM spans WHERE attributes_str['user_agent.original'] LIKE '%Firefox%'",
    ),
]


class Weir:
    def __init__(self, address):
        self.url = f"http://{address}/api/sql"

    def ask(self, question):
        request = urllib.request.Request(
            self.url, json.dumps({"query": question}).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)["rows"]


class DuckDB:
    def __init__(self, files):
        self.connection = duckdb.connect(config={"threads": THREADS})
        listed = ", ".join(f"'{file}'" for file in files)
        self.connection.execute(f"CREATE VIEW spans AS SELECT * FROM read_parquet([{listed}])")

    def ask(self, question):
        return self.connection.execute(question).fetchall()


class ClickHouse:
    def __init__(self, files):
        self.session = chdb.session.Session()
        self.session.query(f"SET max_threads = {THREADS}")
        folder = os.path.commonpath([os.path.dirname(file) for file in files])
        names = [os.path.relpath(file, folder) for file in files]
        listed = folder + "/" + ("{" + ",".join(names) + "}" if len(names) > 1 else names[0])
        self.session.query("CREATE DATABASE IF NOT EXISTS bench ENGINE = Atomic")
        self.session.query("USE bench")
        self.session.query(f"CREATE VIEW spans AS SELECT * FROM file('{listed}', Parquet)")

    def ask(self, question):
        text = str(self.session.query(question, "JSONEachRow"))
        return [json.loads(line) for line in text.splitlines()]


def main(address, table):
    files = [uri.removeprefix("file://") for uri in deltalake.DeltaTable(table).file_uris()]
    engines = [("Weir", Weir(address)), ("DuckDB", DuckDB(files)), ("chDB", ClickHouse(files))]
    print(f"{len(files)} files, {THREADS} threads, the middle one of {ROUNDS} rounds, milliseconds")
    print(f"{'question':32}" + "".join(f"{name:>10}" for name, _ in engines) + f"{'rows':>8}")
    for name, ours, *theirs in QUESTIONS:
        texts = [ours] + [text or ours for text in theirs]
        took = [[] for _ in engines]
        for _ in range(ROUNDS + 1):  # the first warms up
            rows = []
            for at, (_, engine) in enumerate(engines):
                began = time.perf_counter()
                rows.append(len(engine.ask(texts[at])))
                took[at].append((time.perf_counter() - began) * 1e3)
            if len(set(rows)) != 1:
                sys.exit(f"{name}: {rows} rows")
        middle = [statistics.median(times[1:]) for times in took]
        print(f"{name:32}" + "".join(f"{ms:10.0f}" for ms in middle) + f"{rows[0]:8}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
