"""A WebSocket client that tries what a connection is for; says as JSON how it went."""

import asyncio
import json
import sys

import websockets

url, key = sys.argv[1:3]


def connect():
    return websockets.connect(url, extra_headers={"x-api-key": key}, subprotocols=["chat"], max_size=1 << 24)


async def main():
    said = {}
    async with connect() as connection:
        said["subprotocol"] = connection.subprotocol
        await connection.send("gr\u00fc\u00dfe")
        said["text"] = await connection.recv()
        large = bytes(range(256)) * 4096
        await connection.send(large)
        said["binary"] = await connection.recv() == large
        # A hundred messages on their way at the same time, in fragments.
        for number in range(100):
            await connection.send(iter([f"{number}", ":", "end"]))
        said["many"] = [await connection.recv() for _ in range(100)] == [f"{number}:end" for number in range(100)]
        await asyncio.wait_for(await connection.ping(), 60)
        await connection.close(4000, "bye")
        said["closed"] = connection.close_code
    async with connect() as connection:
        await connection.send("close, please")
        try:
            await connection.recv()
        except websockets.ConnectionClosed as closed:
            said["closedByServer"] = [closed.code, closed.reason]
    print(json.dumps(said))


asyncio.run(main())
