"""How long a server takes to be ready after `kill -9` with a long write-ahead log.

usage: restart.py SCRATCH [MIB]
  SCRATCH  a folder for the data
  MIB      bytes of the log (1024)

Rows are refused at 512 MiB that are in no file, so the log of one server does not grow that long. Here it is made of
several: each is killed, its segments are kept, and they are put back together before the last start, with the tables
gone that hold the same rows.
"""

import os
import shutil
import sys

import server

PART_SPANS = 400_000
NEVER = ("--flush-age", "1h", "--flush-bytes", "1GiB")


def size(folder):
    return sum(entry.stat().st_size for entry in os.scandir(folder))


def main(scratch, mib=1024):
    data, kept = f"{scratch}/restart", f"{scratch}/restart-wal"
    os.makedirs(kept)
    seed = 1
    while size(kept) < int(mib) * 2**20:
        weir = server.Server(data, *NEVER)
        weir.load("spans", connections=4, batch=512, count=PART_SPANS, seed=seed)
        weir.kill()
        for segment in os.scandir(f"{data}/wal"):
            shutil.copy2(segment, kept)
        if size(kept) < int(mib) * 2**20:  # the rows go to files, so that the next part has room
            server.Server(data).close()
        seed += 1
    shutil.rmtree(f"{data}/default")
    shutil.rmtree(f"{data}/wal")
    shutil.move(kept, f"{data}/wal")
    total = size(f"{data}/wal")
    weir = server.Server(data)
    print(f"ready {weir.started:.2f} s after the start with {total / 2**20:,.0f} MiB of log")
    weir.close()
    _, rows = server.stored(data, "spans")
    loaded = (seed - 1) * PART_SPANS
    assert rows == loaded, f"{rows} rows of {loaded}"


if __name__ == "__main__":
    main(*sys.argv[1:])
