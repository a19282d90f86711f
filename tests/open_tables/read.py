"""Reads Delta tables from outside: their log with `deltalake`, their rows with DuckDB.

Usage: read.py FOLDER, with {table: query} as JSON on stdin; a query reads `from t`. Prints, as JSON, the protocol of
each table and the one row that its query answers with, read in two ways: `dataset`, the files opened by pyarrow, and
`parquet`, opened by DuckDB itself.
"""

import json
import math
import sys
import warnings

import duckdb
from deltalake import DeltaTable

warnings.simplefilter("error")


def row(query, **relations):
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    for name, relation in relations.items():
        connection.register(name, relation)
    answer = connection.execute(query)
    names = [column[0] for column in answer.description]
    return dict(zip(names, map(finite, answer.fetchone())))


def finite(value):
    """JSON has neither infinities nor NaN."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def parquet(table):
    """The table's files as DuckDB reads them."""
    files = [uri.removeprefix("file://") for uri in table.file_uris()]
    return f"read_parquet({files!r}, hive_partitioning = true)"


answers = {}
for name, query in json.load(sys.stdin).items():
    table = DeltaTable(f"{sys.argv[1]}/{name}")
    protocol = table.protocol()
    answers[name] = {
        "protocol": {
            "reader": protocol.min_reader_version,
            "writer": protocol.min_writer_version,
            "features": [*(protocol.reader_features or []), *(protocol.writer_features or [])],
        },
        "logged": table.count(),
        "dataset": row(query, t=table.to_pyarrow_dataset()),
        "parquet": row(query.replace("from t", f"from {parquet(table)} as t")),
    }
json.dump(answers, sys.stdout)
