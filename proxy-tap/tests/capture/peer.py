"""Servers and clients inside a network namespace, told what to do by lines of JSON and answering each with one.

What was asked of the servers is kept, with who asked. A client knows nothing of proxies.
"""

import http.client
import http.server
import json
import os
import socket
import ssl
import struct
import sys
import threading

PATIENCE = 5
seen = []
kept = []


def family(at):
    return socket.AF_INET6 if ":" in at[0] else socket.AF_INET


class Web(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        text = f"{self.server.name} {self.path}".encode()
        seen.append({"server": self.server.name, "host": self.headers["host"], "from": self.client_address[0]})
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def spawn(work, *args):
    threading.Thread(target=work, args=args, daemon=True).start()


def serve_web(order):
    class Server(http.server.ThreadingHTTPServer):
        address_family = family(order["at"])
        request_queue_size = 64
        daemon_threads = True

    server = Server(tuple(order["at"]), Web)
    server.name = order["name"]
    if "cert" in order:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(order["cert"], order["key"])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    spawn(server.serve_forever)
    return {}


def serve_greeting(order):
    """Speaks first, then says what it hears until that ends."""

    def one(conn, source):
        with conn:
            seen.append({"server": order["name"], "from": source[0]})
            conn.sendall(f"220 {order['name']}\n".encode())
            heard = read(conn)
            conn.sendall(heard)

    return serve(order, one)


def serve_listening(order):
    """Keeps the first 24 bytes that it hears."""

    def one(conn, source):
        with conn:
            heard = b""
            while len(heard) < 24:
                more = conn.recv(24 - len(heard))
                if not more:
                    break
                heard += more
            seen.append({"server": order["name"], "from": source[0], "heard": heard.decode("latin-1")})

    return serve(order, one)


def serve(order, one):
    listener = socket.create_server(tuple(order["at"]), family=family(order["at"]), backlog=64)

    def accept():
        while True:
            spawn(one, *listener.accept())

    spawn(accept)
    return {}


def serve_dns(order):
    """Every name has this IPv4 address, and nothing else."""
    server = socket.socket(family(order["at"]), socket.SOCK_DGRAM)
    server.bind(tuple(order["at"]))

    def answer():
        while True:
            asked, source = server.recvfrom(512)
            seen.append({"server": order["name"], "from": source[0]})
            end = asked.index(0, 12) + 5
            question = asked[12:end]
            is_a = question[-4:-2] == b"\0\1"
            head = asked[:2] + struct.pack(">HHHHH", 0x8580, 1, int(is_a), 0, 0)
            record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton(order["address"])
            server.sendto(head + question + (record if is_a else b""), source)

    spawn(answer)
    return {}


def read(conn):
    heard = b""
    while True:
        more = conn.recv(65536)
        if not more:
            return heard
        heard += more


def connect(order):
    return socket.create_connection(tuple(order["at"]), timeout=PATIENCE)


def get(order):
    """A request, or several on one connection; with `ca`, by TLS to whoever proves to be `sni`."""
    host, port = order["at"]
    client = http.client.HTTPConnection(host, port, timeout=PATIENCE)
    client.sock = connect(order)
    if "sni" in order:
        context = ssl.create_default_context(cafile=order["ca"])
        client.sock = context.wrap_socket(client.sock, server_hostname=order["sni"])
    for _ in range(order.get("times", 1)):
        client.request("GET", order.get("path", "/"), headers={"host": order.get("host", "nobody.test")})
        response = client.getresponse()
        answer = {"status": response.status, "body": response.read().decode()}
    client.close()
    return answer


def talk(order):
    """Sends, ends its side, and reads to the end. With `listens` it reads a line before it sends."""
    with connect(order) as conn:
        first = b""
        while order.get("listens") and not first.endswith(b"\n"):
            more = conn.recv(1)
            if not more:
                break
            first += more
        conn.sendall(bytes.fromhex(order.get("hex", "")) + order.get("say", "").encode())
        conn.shutdown(socket.SHUT_WR)
        return {"heard": (first + read(conn)).decode("latin-1")}


def begin(order):
    """Sends, and keeps the connection for good: an HTTP/2 client that ends its side takes its requests back."""
    conn = connect(order)
    conn.sendall(bytes.fromhex(order["hex"]))
    kept.append(conn)
    return {}


DEEDS = {
    "web": serve_web,
    "greeting": serve_greeting,
    "listening": serve_listening,
    "dns": serve_dns,
    "get": get,
    "talk": talk,
    "begin": begin,
    "seen": lambda _: {"seen": list(seen)},
}

for line in sys.stdin:
    order = json.loads(line)
    try:
        answer = DEEDS[order["do"]](order)
    except OSError as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
# Servers' threads are not waited for.
os._exit(0)
