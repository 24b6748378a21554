"""A stream of grpcio in both directions that stays open: it sends each line of standard input and says the answer; an empty line ends it."""

import queue
import sys

import grpc

address, key = sys.argv[1:3]
sent = queue.Queue()
channel = grpc.insecure_channel(address)
answers = channel.stream_stream("/test.Echo/BothStreams")(iter(sent.get, None), metadata=[("x-api-key", key)])
print("open", flush=True)
while line := sys.stdin.readline().strip():
    sent.put(line.encode())
    print(next(answers).decode(), flush=True)
sent.put(None)
print(len(list(answers)), answers.code().name, flush=True)
