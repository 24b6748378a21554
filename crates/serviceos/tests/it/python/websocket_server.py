"""A WebSocket server that echoes; it ends with its standard input, and says how connections were closed."""

import asyncio
import http
import sys

import websockets


async def serve(connection, _path=None):
    try:
        async for message in connection:
            if message == "close, please":
                await connection.close(4001, "as asked")
            else:
                await connection.send(message)
    except websockets.ConnectionClosedError:
        pass
    print(connection.close_code, connection.close_reason or "-", flush=True)


async def health(path, _headers):
    return (http.HTTPStatus.OK, [], b"") if path == "/health" else None


async def main():
    async with websockets.serve(
        serve, "127.0.0.1", 0, process_request=health, max_size=1 << 24, subprotocols=["chat"]
    ) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
