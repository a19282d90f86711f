"""Bytes per sample of scraped mesh metrics, the label index included.

usage: samples.py SCRATCH [HISTORY]
  SCRATCH  a folder for the data
  HISTORY  how far back the scrapes reach, every 15 s (3h)
"""

import sys

import server


def main(scratch, history="3h"):
    data = f"{scratch}/scrapes"
    weir = server.Server(data)
    report = weir.load("scrapes", connections=4, services=10, history=history)
    cpu = weir.close()
    server.compact(data)
    (samples, rows), (series, labels) = server.stored(data, "samples"), server.stored(data, "series")
    assert rows >= report["acknowledged"], f"{rows} rows of {report['acknowledged']}"
    print(f"{rows:,} samples of {labels:,} series, {rows / cpu:,.0f} samples per CPU second")
    print(f"{samples / rows:.3f} bytes a sample, {series / rows:.3f} for the series' labels")


if __name__ == "__main__":
    main(*sys.argv[1:])
