"""Opens Delta tables again and again while they are written.

Usage: watch.py FOLDER SPANS, until stdin ends and what is there then was read. Each version has to be whole: DuckDB counts as many rows as the log
says, and of the requests that a writer sent one after the other (spans of the service `batches`, SPANS with one name to
a request) it has each up to some one with all its spans. Prints how many versions of each table were read.
"""

import collections
import pathlib
import select
import sys
import warnings

import duckdb
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

warnings.simplefilter("error")
folder, spans = pathlib.Path(sys.argv[1]), int(sys.argv[2])
versions = collections.defaultdict(set)
most = 0


def rows(query, dataset):
    connection = duckdb.connect()
    connection.register("t", dataset)
    return connection.execute(query).fetchall()


over = False
while not over:
    over = bool(select.select([sys.stdin], [], [], 0.05)[0])  # then once more: the last versions
    for path in sorted(folder.glob("*/_delta_log")):
        name = path.parent.name
        try:
            table = DeltaTable(path.parent)
        except TableNotFoundError:
            continue  # its first commit is not there yet
        if table.version() in versions[name]:
            continue
        dataset = table.to_pyarrow_dataset()
        [(count,)] = rows("select count(*) from t", dataset)
        assert count == table.count(), f"{name} {table.version()}: {count} rows, the log says {table.count()}"
        if name == "spans":
            requests = rows("select name, count(*) from t where service = 'batches' group by 1", dataset)
            torn = [request for request in requests if request[1] != spans]
            assert not torn, f"{name} {table.version()}: {torn} should have {spans} each"
            numbers = {int(request.removeprefix("batch-")) for request, _ in requests}
            assert numbers == set(range(len(numbers))), f"{name} {table.version()}: {sorted(numbers)}"
            assert len(numbers) >= most, f"{name} {table.version()}: {len(numbers)} requests, there were {most}"
            most = len(numbers)
        versions[name].add(table.version())
print(" ".join(f"{name}={len(read)}" for name, read in sorted(versions.items())), f"requests={most}")
