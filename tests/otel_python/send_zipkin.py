"""Sends one known trace with py_zipkin as Zipkin v2 JSON.

Usage: send_zipkin.py ENDPOINT SERVICE. Prints, as JSON, the ids that only py_zipkin knows.
"""

import json
import sys
import urllib.request

from py_zipkin import Encoding
from py_zipkin.zipkin import zipkin_client_span, zipkin_span

endpoint, service = sys.argv[1:]


def post(encoded):
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://{endpoint}/api/v2/spans", encoded.encode(), headers)
    with urllib.request.urlopen(request) as response:
        assert response.status == 202, response.status


with zipkin_span(
    service_name=service,
    span_name="outer",
    transport_handler=post,
    sample_rate=100,
    encoding=Encoding.V2_JSON,
) as outer:
    with zipkin_client_span(service_name=service, span_name="inner") as inner:
        inner.update_binary_annotations({"error": "out of stock", "item": "book"})
        inner.add_annotation("asked twice")
    ids = outer.zipkin_attrs

print(json.dumps({"trace_id": ids.trace_id.zfill(32), "outer": ids.span_id}))
