"""Calls through the gateway with grpcio, one for each line of standard input: `METHOD KEY TIMEOUT`; says as JSON how each ended."""

import json
import queue
import sys

import grpc

channel = grpc.insecure_channel(sys.argv[1])


def text(value):
    return value.decode("latin-1") if isinstance(value, bytes) else value


def fields(metadata):
    return {key: text(value) for key, value in metadata or ()}


def both_streams(metadata):
    """Each message is sent only once the answer to the one before has come."""
    sent = queue.Queue()
    answers = channel.stream_stream("/test.Echo/BothStreams")(iter(sent.get, None), metadata=metadata)
    got = []
    for number in range(5):
        sent.put(b"%d" % number)
        got.append(text(next(answers)))
    sent.put(None)
    return got + [text(answer) for answer in answers], answers


def call(method, metadata, timeout):
    path = f"/test.Echo/{method}"
    if method == "ServerStream":
        answers = channel.unary_stream(path)(b"50", metadata=metadata, timeout=timeout)
        return [len(answer) for answer in answers], answers
    if method == "ClientStream":
        requests = iter([b"y" * 100_000] * 20)
        return channel.stream_unary(path).with_call(requests, metadata=metadata, timeout=timeout)
    if method == "BothStreams":
        return both_streams(metadata)
    if "/" in method:
        path = method
    return channel.unary_unary(path).with_call(b"hello", metadata=metadata, timeout=timeout)


for line in sys.stdin:
    method, key, timeout = line.split()
    metadata = [("x-extra", "given")] + ([] if key == "none" else [("x-api-key", key)])
    try:
        answer, ended = call(method, metadata, None if timeout == "none" else float(timeout))
        outcome = {"code": ended.code().name, "answer": text(answer) if isinstance(answer, bytes) else answer}
    except grpc.RpcError as error:
        ended = error
        outcome = {"code": error.code().name, "details": error.details()}
    outcome["initial"] = fields(ended.initial_metadata())
    outcome["trailing"] = fields(ended.trailing_metadata())
    print(json.dumps(outcome), flush=True)
