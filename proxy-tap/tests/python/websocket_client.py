"""A WebSocket client: `websocket_client.py SETTING CASE...`, where SETTING is JSON with `target`.

Each case that held is a line on stdout; the first that does not is a traceback and status 1.
"""

import asyncio
import json
import os
import signal
import socket
import struct
import sys
import time
from urllib.parse import quote

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

SETTING = json.loads(sys.argv[1])
DEADLINE = 20


def opened(path, **more):
    return connect(f"ws://{SETTING['target']}{path}", proxy=None, max_size=None, open_timeout=DEADLINE, **more)


async def closed(client):
    """The error with which the connection ends."""
    try:
        await client.recv()
    except ConnectionClosed as error:
        return error
    raise AssertionError("the connection goes on")


async def ended(name):
    """How the server saw the connection of this name end."""
    async with opened("/tell") as client:
        end = time.monotonic() + DEADLINE
        while True:
            await client.send(name)
            if (found := json.loads(await client.recv())) is not None:
                return found
            assert time.monotonic() < end, f"the server does not notice that {name} has ended"
            await asyncio.sleep(0.01)


async def echo():
    async with opened("/echo") as client:
        for message in ["text", "grüße ☺ 😈", "", b"\x00\xff binary", b"", "x" * 125, "x" * 126, b"y" * 70_000]:
            await client.send(message)
            assert await client.recv() == message


async def large():
    for compression in (None, "deflate"):
        async with opened("/echo", compression=compression) as client:
            for message in [os.urandom(1 << 20), "é" * (1 << 19)] * 2:
                await client.send(message)
                assert await client.recv() == message


async def fragmented():
    async with opened("/fragments") as client:
        for parts in [["one", "two", "", "three"], [b"a", b"b" * 100_000], ["alone"]]:
            await client.send(parts)
            got = [part async for part in client.recv_streaming()]
            # The library ends each list with an empty fragment, the server's list with one more.
            end = type(parts[0])()
            assert got == parts + [end, end], got
            assert json.loads(await client.recv()) == [len(part) for part in parts] + [0]


async def pings():
    async with opened("/ping") as client:
        await (await client.ping(b"from the client"))
        assert (await client.recv()).startswith("pong after")


async def close_codes():
    for code, reason in [(1000, "done"), (1001, ""), (3000, "grüße"), (4999, "x" * 120)]:
        async with opened(f"/close?code={code}&reason={quote(reason)}") as client:
            error = await closed(client)
            assert (error.rcvd.code, error.rcvd.reason, error.rcvd_then_sent) == (code, reason, True), error
        client = await opened(f"/echo?name=close-{code}")
        await client.close(code, reason)
        assert client.close_code == code, "the server says the same"
        assert await ended(f"close-{code}") == [code, reason]


async def negotiation():
    async with opened("/echo", subprotocols=["chat.v2", "chat.v1"]) as client:
        assert client.subprotocol == "chat.v1"
        assert [extension.name for extension in client.protocol.extensions] == ["permessage-deflate"]
        await client.send("compressible " * 1000)
        assert await client.recv() == "compressible " * 1000
    async with opened("/echo", compression=None) as client:
        assert (client.subprotocol, client.protocol.extensions) == (None, [])
        assert client.response.headers["Upgrade"].lower() == "websocket"


async def server_first():
    async with opened("/push?n=200") as client:
        got = [await client.recv() for _ in range(200)]
        assert got == [f"message {n}" for n in range(200)]


async def fifty_at_once():
    async def one(n):
        async with opened("/together") as client:
            await client.send(str(n))
            assert await client.recv() == f"all are here, {n}"
            await client.send("on")
            assert await client.recv() == "on"

    await asyncio.gather(*(one(n) for n in range(50)))


async def refused():
    try:
        async with opened("/forbidden"):
            raise AssertionError("it was let in")
    except InvalidStatus as error:
        response = error.response
    assert (response.status_code, response.body) == (403, b"not for you\n")
    assert response.headers["x-why"] == "a name is missing"


async def client_aborts():
    name = f"aborted-{os.urandom(4).hex()}"
    client = await opened(f"/echo?name={name}")
    await client.send("here")
    assert await client.recv() == "here"
    # A reset in place of an end.
    own = client.transport.get_extra_info("socket")
    own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.transport.abort()
    assert (await ended(name))[0] == 1006


async def client_ends_without_a_word():
    client = await opened("/echo?name=halved")
    client.transport.get_extra_info("socket").shutdown(socket.SHUT_WR)
    assert (await ended("halved"))[0] == 1006
    assert isinstance(await closed(client), ConnectionClosedError)


async def server_aborts():
    client = await opened("/abort")
    await client.send("go")
    error = await closed(client)
    assert error.rcvd is None and isinstance(error, ConnectionClosedError), error


async def drained():
    """The proxy stops while a connection is open: it is ended within the limit and not before it has to be."""
    client = await opened("/echo?name=drained")
    begun = time.monotonic()
    os.kill(SETTING["stop"], signal.SIGTERM)
    # It drains when it takes no new connection.
    while True:
        try:
            socket.create_connection(SETTING["target"].rsplit(":", 1), timeout=DEADLINE).close()
            await asyncio.sleep(0.01)
        except ConnectionRefusedError:
            break
    await client.send("still here")
    assert await client.recv() == "still here"
    assert isinstance(await closed(client), ConnectionClosedError)
    took = time.monotonic() - begun
    assert 4 < took < 8, f"it took {took} s"


async def main():
    for case in sys.argv[2:]:
        await asyncio.wait_for(globals()[case](), 2 * DEADLINE)
        print(case, flush=True)


asyncio.run(main())
