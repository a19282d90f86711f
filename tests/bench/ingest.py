"""What durable ingest costs: records per CPU second of the server, and how long an answer takes.

usage: ingest.py SCRATCH [RECORDS]
  SCRATCH  a folder for the data, on the disk that is to be measured
  RECORDS  how many of each signal (4,000,000: fewer make too few files for a merge)

The server is on one core and the generator on the other. CPU time is that of the whole server process from its start
until it has closed: by then the log is empty and the tables are committed. What is compacted after that is added in the
next column; `-` says that there was nothing to merge. Answers are timed at half of the rate that was reached at most.
"""

import sys

import server

SIGNALS = ("spans", "metrics", "logs")


def main(scratch, records=4_000_000):
    print(
        f"{'signal':10}{'acked/s':>10}{'refused':>9}{'records/CPU-s':>15}{'compacted':>11}"
        f"{'wire B':>8}{'stored B':>10}{'half/s':>10}{'p50 ms':>8}{'p99 ms':>8}{'RSS MiB':>9}",
        flush=True,
    )
    for signal in SIGNALS:
        data = f"{scratch}/{signal}"
        weir = server.Server(data)
        report = weir.load(signal, connections=4, batch=512, count=int(records))
        most = weir.memory("VmHWM") / 2**20
        cpu = weir.close()
        merging = server.compact(data)
        acked = report["acknowledged"]
        table = {"metrics": "samples"}.get(signal, signal)
        size, rows = server.stored(data, table)
        through = f"{acked / (cpu + merging):,.0f}" if server.is_merged(data, table) else "-"
        assert rows >= acked, f"{rows} rows of {acked}"  # its own metrics are among them
        weir = server.Server(f"{data}-half")
        rate = int(report["acknowledged_per_s"] / 2)
        half = weir.load(signal, connections=4, batch=512, rate=rate, duration="15s")["latency_ms"]
        weir.close()
        print(
            f"{signal:10}{report['acknowledged_per_s']:10,.0f}{report['overloaded']:9}{acked / cpu:15,.0f}"
            f"{through:>11}{report['bytes'] / acked:8.1f}{size / rows:10.2f}{rate:10,}"
            f"{half['p50']:8.1f}{half['p99']:8.1f}{most:9.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
