"""HTTP clients: `http_client.py SETTING CASE...`, where SETTING is JSON with `target`, `proxy` and so on.

Each case that held is a line on stdout; the first that does not is a traceback and status 1.
"""

import hashlib
import http.client
import json
import os
import socket
import ssl
import struct
import sys
import urllib.error
import urllib.request

import requests

SETTING = json.loads(sys.argv[1])
DEADLINE = 20


def connection(address):
    host, port = address.rsplit(":", 1)
    return http.client.HTTPConnection(host, int(port), timeout=DEADLINE)


def ask(to, method, path, body=None, headers={}, **more):
    to.request(method, path, body, headers, **more)
    answer = to.getresponse()
    return answer, answer.read()


def told(to, method, path, *more, **others):
    answer, data = ask(to, method, path, *more, **others)
    assert answer.status == 200, (answer.status, data)
    return json.loads(data)


def raw(address):
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=DEADLINE)


def read_until(stream, end):
    data = b""
    while not data.endswith(end):
        piece = stream.recv(1)
        assert piece, data
        data += piece
    return data


def keep_alive():
    to, seen = connection(SETTING["target"]), []
    to.connect()
    own = to.sock.getsockname()
    for n in range(20):
        answer = told(to, "GET", f"/{n}?q=%20")
        assert (answer["path"], answer["host"]) == (f"/{n}?q=%20", "peer")
        seen.append(answer["connection"])
        assert to.sock and to.sock.getsockname() == own, "the connection was closed"
    assert len(set(seen)) == 1, "the proxies keep their connections too"


def chunked_upload():
    to = connection(SETTING["target"])
    pieces = [os.urandom(n) for n in (1, 70_000, 3, 900_000)]
    answer = told(to, "POST", "/", iter(pieces), encode_chunked=True)
    whole = b"".join(pieces)
    assert (answer["framing"], answer["length"]) == ("chunked", len(whole))
    assert answer["sha256"] == hashlib.sha256(whole).hexdigest()
    assert told(to, "PUT", "/", whole)["framing"] == str(len(whole)), "and the connection is still good"


def downloads():
    to = connection(SETTING["target"])
    for framing in ("length", "chunked", "close"):
        answer, data = ask(to, "GET", f"/bytes?{framing}")
        assert (answer.status, data) == (200, b"x" * 300_000), (framing, answer.status, len(data))
    answer, data = ask(to, "HEAD", "/bytes?length")
    assert (answer.getheader("content-length"), data) == ("300000", b"")
    for status in (204, 304, 404, 418, 503):
        answer, data = ask(to, "GET", f"/status?{status}")
        assert (answer.status, data) == (status, b"" if status < 400 else b"{}")
    assert told(to, "DELETE", "/last")["method"] == "DELETE"


def expect_continue():
    stream = raw(SETTING["target"])
    stream.sendall(b"PUT /x HTTP/1.1\r\nHost: peer\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert read_until(stream, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    stream.sendall(b"hello")
    answer = http.client.HTTPResponse(stream, method="PUT")
    answer.begin()
    assert json.loads(answer.read())["sha256"] == hashlib.sha256(b"hello").hexdigest()


def pipelined_and_old():
    stream = raw(SETTING["target"])
    two = [f"GET /{n} HTTP/1.1\r\nHost: peer\r\n\r\n".encode() for n in (1, 2)]
    stream.sendall(b"".join(two) + b"GET /3 HTTP/1.0\r\n\r\n")
    reader = stream.makefile("rb")
    for n in (1, 2, 3):
        line, length = reader.readline(), None
        assert line == b"HTTP/1.1 200 OK\r\n", line
        while (line := reader.readline()) != b"\r\n":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        assert json.loads(reader.read(length))["path"] == f"/{n}"
    assert reader.read() == b"", "HTTP/1.0 ends with its connection"


def http_proxy_with_urllib():
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": f"http://{SETTING['proxy']}"}))
    answer = json.loads(opener.open("http://peer/a?b=c", timeout=DEADLINE).read())
    assert (answer["path"], answer["host"]) == ("/a?b=c", "peer")
    # A host outside the mesh.
    answer = json.loads(opener.open(f"http://{SETTING['app']}/x", data=b"body", timeout=DEADLINE).read())
    assert (answer["method"], answer["length"], answer["host"]) == ("POST", 4, SETTING["app"])
    try:
        opener.open(f"http://{SETTING['nobody']}/", timeout=DEADLINE)
        raise AssertionError("nobody answered")
    except urllib.error.HTTPError as error:
        assert error.code == 503


def http_proxy_with_requests():
    session = requests.Session()
    os.environ["HTTP_PROXY"] = os.environ["http_proxy"] = f"http://{SETTING['proxy']}"
    for n in range(5):
        answer = session.post(f"http://peer/{n}", data=str(n) * 1000, timeout=DEADLINE)
        assert (answer.status_code, answer.json()["length"]) == (200, 1000)
    assert session.get("http://peer/status?404", timeout=DEADLINE).status_code == 404
    # By requests' own name for a body that is not known to end.
    answer = session.put("http://peer/stream", data=(b"x" * 100 for _ in range(50)), timeout=DEADLINE)
    assert (answer.json()["framing"], answer.json()["length"]) == ("chunked", 5000)


def https_with_requests():
    proxies = {"https": f"http://{SETTING['proxy']}"}
    session = requests.Session()
    session.trust_env = False
    for url in (f"https://{SETTING['tls']}", "https://tunnelled.test"):
        seen = set()
        for n in range(3):
            body = os.urandom(300_000)
            got = session.post(f"{url}/{n}", data=body, timeout=DEADLINE, proxies=proxies, verify=SETTING["cert"])
            assert got.json()["sha256"] == hashlib.sha256(body).hexdigest()
            seen.add(got.json()["connection"])
        assert len(seen) == 1, "the tunnel is kept"


def https_with_urllib():
    context = ssl.create_default_context(cafile=SETTING["cert"])
    handlers = [urllib.request.ProxyHandler({"https": f"http://{SETTING['proxy']}"})]
    opener = urllib.request.build_opener(*handlers, urllib.request.HTTPSHandler(context=context))
    answer = json.loads(opener.open("https://tunnelled.test/a", timeout=DEADLINE).read())
    assert (answer["path"], answer["host"]) == ("/a", "tunnelled.test")


def tunnel(address, to, first=b""):
    stream = raw(address)
    stream.sendall(f"CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n".encode() + first)
    head = read_until(stream, b"\r\n\r\n").lower()
    return stream, int(head.split(b" ")[1]), head


def tunnels():
    # What comes right behind the request is the tunnel's, and its end passes as such.
    stream, status, head = tunnel(SETTING["proxy"], SETTING["app"], b"GET /early HTTP/1.1\r\nHost: a\r\n\r\n")
    assert status == 200
    assert b"content-length" not in head and b"transfer-encoding" not in head
    stream.shutdown(socket.SHUT_WR)
    answer = http.client.HTTPResponse(stream)
    answer.begin()
    assert json.loads(answer.read())["path"] == "/early"
    assert stream.recv(1) == b""


def refused_tunnels():
    assert tunnel(SETTING["proxy"], SETTING["nobody"])[1] == 503
    assert tunnel(SETTING["proxy"], "nowhere.invalid:443")[1] == 503
    for other in (SETTING["target"], SETTING["inbound"]):
        assert tunnel(other, SETTING["app"])[1] == 405
    stream = raw(SETTING["proxy"])
    stream.sendall(f"CONNECT {SETTING['app']} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".encode())
    assert b" 400 " in read_until(stream, b"\r\n\r\n")
    stream = raw(SETTING["proxy"])
    stream.sendall(b"CONNECT peer HTTP/1.1\r\nHost: peer\r\n\r\n")
    assert b" 400 " in read_until(stream, b"\r\n\r\n"), "there is no port to guess"


def aborted_tunnel():
    stream, status, _ = tunnel(SETTING["proxy"], SETTING["app"])
    assert status == 200
    # As a process that is killed: a reset in place of an end.
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()


for case in sys.argv[2:]:
    globals()[case]()
    print(case, flush=True)
