"""An HTTP/1.1 server that tells what it was asked: `http_server.py [CERT KEY]`, with TLS where these are given."""

import hashlib
import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        """All of it, and how it was framed."""
        if self.headers.get("transfer-encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                assert self.rfile.readline() == b"\r\n"
            assert self.rfile.readline() == b"\r\n"
            return data, "chunked"
        length = self.headers.get("content-length")
        return self.rfile.read(int(length or 0)), length

    def answer(self, status, data, framing="length"):
        self.send_response(status)
        self.send_header("content-type", "application/json")
        if framing == "length":
            self.send_header("content-length", str(len(data)))
        elif framing == "chunked":
            self.send_header("transfer-encoding", "chunked")
        else:
            self.send_header("connection", "close")
        self.end_headers()
        if self.command == "HEAD":
            return
        if framing != "chunked":
            self.wfile.write(data)
            return
        for at in range(0, len(data), 10_000):
            piece = data[at:at + 10_000]
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def do(self):
        data, framing = self.body()
        path, _, query = self.path.partition("?")
        if path == "/bytes":
            return self.answer(200, b"x" * 300_000, query)
        if path == "/status":
            status = int(query)
            if status in (204, 304):
                self.send_response(status)
                return self.end_headers()
            return self.answer(status, b"{}")
        told = {
            "method": self.command,
            "path": self.path,
            "host": self.headers.get("host"),
            "headers": sorted(name.lower() for name in self.headers),
            "framing": framing,
            "length": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "connection": self.client_address[1],
        }
        self.answer(200, json.dumps(told).encode())

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = do


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


server = Server(("127.0.0.1", 0), Handler)
if len(sys.argv) > 1:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(f"ready port={server.server_address[1]}", file=sys.stderr, flush=True)
server.serve_forever()
