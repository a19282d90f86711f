"""Searches and questions over spans in compacted files.

usage: files.py SCRATCH [SPANS]
  SCRATCH  a folder for the data
  SPANS    how many (10,000,000)
"""

import sys

import queries
import searches
import server


def main(scratch, spans=10_000_000):
    data = f"{scratch}/files"
    weir = server.Server(data)
    weir.load("spans", connections=4, batch=512, count=int(spans))
    weir.close()
    server.compact(data)
    size, rows = server.stored(data, "spans")
    print(f"{size / rows:.1f} bytes a span", flush=True)
    weir = server.Server(data, cores="0,1")
    searches.main(weir.http)
    queries.main(weir.http, f"{data}/default/spans")
    weir.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
