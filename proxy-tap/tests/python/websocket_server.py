"""A WebSocket server with a way for each case by its path. It says `ready port=N` on stderr."""

import asyncio
import json
import struct
import sys
from http import HTTPStatus
from socket import SO_LINGER, SOL_SOCKET
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

# Connections that wait for each other.
TOGETHER = 50
# How the connections that had a name ended: code and reason that came from the client.
ended = {}
barrier = asyncio.Barrier(TOGETHER)


def refuse(connection, request):
    if request.path.startswith("/forbidden"):
        response = connection.respond(HTTPStatus.FORBIDDEN, "not for you\n")
        response.headers["x-why"] = "a name is missing"
        return response
    return None


def choose(connection, offered):
    return "chat.v1" if "chat.v1" in offered else None


async def echo(socket, query):
    async for message in socket:
        await socket.send(message)


async def fragments(socket, query):
    """Sends each message back in the fragments that it came in, and how long these were."""
    while True:
        parts = [part async for part in socket.recv_streaming()]
        await socket.send(parts)
        await socket.send(json.dumps([len(part) for part in parts]))


async def push(socket, query):
    for n in range(int(query["n"])):
        await socket.send(f"message {n}")


async def close(socket, query):
    await socket.close(int(query["code"]), query["reason"])


async def ping(socket, query):
    took = await (await socket.ping(b"are you there"))
    await socket.send(f"pong after {took:.3f} s")
    await socket.wait_closed()


async def abort(socket, query):
    await socket.recv()
    # A reset in place of an end.
    own = socket.transport.get_extra_info("socket")
    own.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    socket.transport.abort()


async def together(socket, query):
    name = await socket.recv()
    await barrier.wait()
    await socket.send(f"all are here, {name}")
    await echo(socket, query)


async def tell(socket, query):
    async for name in socket:
        await socket.send(json.dumps(ended.get(name)))


WAYS = {way.__name__: way for way in (echo, fragments, push, close, ping, abort, together, tell)}


async def handle(socket):
    target = urlsplit(socket.request.path)
    query = {name: values[0] for name, values in parse_qs(target.query, keep_blank_values=True).items()}
    try:
        await WAYS[target.path.removeprefix("/")](socket, query)
    except ConnectionClosed:
        pass
    finally:
        await socket.wait_closed()
        ended[query.get("name")] = [socket.close_code, socket.close_reason]


async def main():
    options = {"select_subprotocol": choose, "process_request": refuse, "max_size": None}
    async with serve(handle, "127.0.0.1", 0, **options) as server:
        port = server.sockets[0].getsockname()[1]
        print(f"ready port={port}", file=sys.stderr, flush=True)
        await server.serve_forever()


asyncio.run(main())
