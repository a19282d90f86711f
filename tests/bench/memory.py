"""Resident memory of the server while it takes in as many spans as it can.

usage: memory.py SCRATCH [SECONDS]
  SCRATCH  a folder for the data
  SECONDS  how long (600)
"""

import sys
import threading
import time

import server


def main(scratch, seconds=600):
    weir = server.Server(f"{scratch}/memory")
    report = {}
    options = {"connections": 4, "batch": 512, "duration": f"{seconds}s"}
    load = threading.Thread(target=lambda: report.update(weir.load("spans", **options)))
    load.start()
    minutes = [[]]
    began = time.monotonic()
    while load.is_alive():
        time.sleep(1)
        if time.monotonic() - began > 60 * len(minutes):
            minutes.append([])
        minutes[-1].append(weir.memory() / 2**20)
    most = weir.memory("VmHWM") / 2**20
    weir.close()
    print(f"{report['acknowledged']:,} spans, {report['acknowledged_per_s']:,.0f} a second; most {most:.0f} MiB")
    print("largest in each minute, MiB: " + " ".join(f"{max(minute):.0f}" for minute in minutes if minute))


if __name__ == "__main__":
    main(*sys.argv[1:])
