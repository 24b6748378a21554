"""A WebSocket client that stays: it sends each line of standard input and says what comes back; an empty line closes."""

import asyncio
import sys

import websockets

url, key = sys.argv[1:3]


async def main():
    loop = asyncio.get_running_loop()
    async with websockets.connect(url, extra_headers={"x-api-key": key}) as connection:
        print("open", flush=True)
        while line := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
            await connection.send(line)
            print(await connection.recv(), flush=True)
            await asyncio.wait_for(await connection.ping(), 60)
        await connection.close(4000, "bye")
        print(connection.close_code, flush=True)


asyncio.run(main())
