#!/usr/bin/env python3
"""One instance of one service of the shop. It knows nothing of the mesh: it calls a local address per service.

    GET  /healthz        whether it is well
    GET  /requests       how many requests of callers reached it
    POST /fault/KIND     errors: 500 at once, while /healthz stays well · slow: 300 ms more
                         hang: no answer to anything · none: mended
"""

import argparse
import http.client
import http.server
import json
import random
import socket
import threading
import time
import urllib.parse

PRODUCTS = {"green tea": 4.5, "black tea": 3.9, "tea pot": 24.0, "coffee": 6.2, "coffee cup": 8.0}
FAULTS = ("none", "errors", "slow", "hang")
SLOW_S = 0.3
# How long a search takes, at least and at most.
SEARCH_S = (0.02, 0.08)
# What a service passes on from the request it got to those it makes: the trace, and who is a tester.
PASSED_ON = ("traceparent", "tracestate", "baggage", "x-beta")


class App(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, args):
        super().__init__(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self.socket.close()
        # The listener comes from whoever starts this, so that its address is known before.
        self.socket = socket.socket(fileno=args.fd)
        self.role, self.name, self.version, self.zone = args.role, args.name, args.version, args.zone
        self.calls = dict(call.split("=") for call in args.call)
        self.fault, self.mended = "none", threading.Event()
        self.requests, self.counting = 0, threading.Lock()

    def break_it(self, fault):
        self.fault = fault
        self.mended.set()
        self.mended = threading.Event()

    def call(self, service, path, headers):
        """The status and the answer of another service, by way of the proxy beside this one."""
        connection = http.client.HTTPConnection(self.calls[service], timeout=10)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            return 502, {"error": f"{service}: {error}"}
        finally:
            connection.close()

    def answer(self, url, headers):
        query = dict(urllib.parse.parse_qsl(url.query))
        match self.role, url.path:
            case "web", "/search":
                return self.call("search", f"/search?{url.query}", headers)
            case "web", "/cart":
                return self.call("cart", "/cart", headers)
            case "cart", "/cart":
                status, products = self.call("catalog", "/products", headers)
                if status != 200:
                    return status, products
                lines = [{"product": name, "price": products[name]} for name in ("green tea", "tea pot")]
                return 200, {"lines": lines, "total": sum(line["price"] for line in lines)}
            case "catalog", "/products":
                return 200, PRODUCTS
            case "search", "/search":
                time.sleep(random.uniform(*SEARCH_S))
                found = [name for name in PRODUCTS if query.get("q", "") in name]
                who = {"instance": self.name, "version": self.version, "zone": self.zone}
                return 200, who | {"found": found}
        return 404, {"error": f"{self.role} has no {url.path}"}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self):
        app, url = self.server, urllib.parse.urlsplit(self.path)
        if url.path == "/requests":
            return self.send(200, {"requests": app.requests})
        if url.path != "/healthz":
            with app.counting:
                app.requests += 1
        if app.fault == "hang":
            app.mended.wait()
            self.close_connection = True
            return None
        if url.path == "/healthz":
            return self.send(200, {"well": True})
        if app.fault == "errors":
            return self.send(500, {"error": f"{app.name} is broken"})
        if app.fault == "slow":
            time.sleep(SLOW_S)
        headers = {name: self.headers[name] for name in PASSED_ON if name in self.headers}
        return self.send(*app.answer(url, headers))

    def do_POST(self):
        fault = self.path.removeprefix("/fault/")
        if fault not in FAULTS:
            return self.send(404, {"error": f"there is /fault/ and one of {', '.join(FAULTS)}"})
        self.server.break_it(fault)
        return self.send(200, {"fault": fault})

    def send(self, status, answer):
        body = json.dumps(answer).encode() + b"\n"
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Access logs are the proxy's."""


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("role", choices=["web", "cart", "catalog", "search"])
    args.add_argument("--fd", type=int, required=True, help="descriptor of the listener")
    args.add_argument("--name", required=True, help="of this instance")
    args.add_argument("--version", default="v1")
    args.add_argument("--zone", default="")
    args.add_argument("--call", action="append", default=[], metavar="SERVICE=ADDR", help="where a service is called")
    App(args.parse_args()).serve_forever()


if __name__ == "__main__":
    main()
